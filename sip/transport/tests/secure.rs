//! Tests of TLS and WebSocket over loopback.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use crate::{Certificate, TlsFault, TrunkTls};

/// A certificate authority, together with the folder for its certificates and keys.
struct Authority {
    folder: TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), own.pem()).unwrap();
        Self { folder, certificate: own.der().clone(), issuer: rcgen::Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues a certificate for these names and addresses. Writes the certificate to `NAME.pem` and the private key to
    /// `NAME.key`.
    fn issue(&self, name: &str, subjects: &[&str]) -> Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let (uris, names): (Vec<&str>, Vec<&str>) = subjects.iter().partition(|subject| subject.starts_with("sip:"));
        let mut params =
            rcgen::CertificateParams::new(names.into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap();
        let uri = |uri: &str| rcgen::SanType::URI(uri.try_into().unwrap());
        params.subject_alt_names.extend(uris.into_iter().map(uri));
        let own = params.signed_by(&key, &self.issuer).unwrap();
        let (certificate, key_file) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        std::fs::write(&certificate, own.pem()).unwrap();
        Certificate { certificate, key: key_file }
    }

    /// Returns the settings for a server that listens on every transport, with and without TLS.
    fn listen(&self, subjects: &[&str]) -> impl FnOnce(&mut Config) {
        let own = self.issue("server", subjects);
        let ca_file = self.file("ca.pem");
        move |config| {
            config.listen = ["udp", "tcp", "tls", "ws", "wss"].map(|one| format!("{one}://127.0.0.1:0")).to_vec();
            config.certificates = vec![own];
            config.ca_file = Some(ca_file);
        }
    }

    /// Connects a TLS client that trusts this authority.
    async fn connect(&self, at: SocketAddr, name: &str, own: Option<&Certificate>) -> TlsStream<TcpStream> {
        use rustls::pki_types::pem::PemObject;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            Some(own) => {
                let chain = CertificateDer::pem_file_iter(&own.certificate).unwrap().map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&own.key).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(at).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        timeout(DEADLINE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap().unwrap()
    }
}

/// Sends a request and reads its response.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    timeout(DEADLINE, async {
        while !all.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0, "closed");
        }
    })
    .await
    .expect("an answer in time");
    String::from_utf8(all).unwrap()
}

/// Returns the certificate that the server shows to a client that requests the name (SNI).
async fn shown(authority: &Authority, at: SocketAddr, name: &str) -> CertificateDer<'static> {
    let stream = authority.connect(at, name, None).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn written(own: &Certificate) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(&own.certificate).unwrap()
}

#[tokio::test]
async fn calls_go_over_tls_to_a_server_whose_certificate_has_its_name() {
    let authority = Authority::new();
    let (a, mut a_events) = driver(authority.listen(&["localhost"])).await;
    let (b, mut b_events) = driver(authority.listen(&["localhost", "127.0.0.1"])).await;
    let port = address(&b, Transport::Tls).port();
    for (number, uri) in [
        format!("sip:x@localhost:{port};transport=tls"),
        format!("sips:x@localhost:{port}"),
        format!("sips:x@127.0.0.1:{port}"),
    ]
    .into_iter()
    .enumerate()
    {
        let leg = LegId(number as u128 + 1);
        a.send(Command::Invite { leg, invite: outgoing(&uri) }).unwrap();
        let Event::Incoming { leg: other, incoming } = event(&mut b_events).await else { panic!() };
        assert_eq!(incoming.transport, Transport::Tls);
        b.send(answer(other)).unwrap();
        let answered = event(&mut a_events).await;
        assert!(matches!(answered, Event::Answered { .. }), "{uri}: {answered:?}");
        assert!(matches!(event(&mut b_events).await, Event::Acknowledged { .. }));
        // The callee's BYE uses the connection that the caller opened. The callee could not verify a new connection,
        // because the caller's certificate is not valid for the caller's address.
        b.send(hangup(other)).unwrap();
        assert!(matches!(event(&mut a_events).await, Event::Ended { cause: EndCause::Bye, .. }));
        assert!(matches!(event(&mut b_events).await, Event::Ended { cause: EndCause::LocalHangup, .. }));
    }
    assert_eq!(b.statistics().connections, 2, "one for each name");
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn a_tls_server_with_another_name_gets_no_call() {
    let (authority, other_authority) = (Authority::new(), Authority::new());
    let (a, mut events) = driver(authority.listen(&["localhost"])).await;
    let (wrong_name, _events) = driver(authority.listen(&["elsewhere.example"])).await;
    let (wrong_authority, _events) = driver(other_authority.listen(&["localhost"])).await;
    for (server, why) in [(wrong_name, TlsFault::WrongName), (wrong_authority, TlsFault::UnknownIssuer)] {
        let uri = format!("sip:x@localhost:{};transport=tls", address(&server, Transport::Tls).port());
        a.send(Command::Invite { leg: LegId(1), invite: outgoing(&uri) }).unwrap();
        let ended = event(&mut events).await;
        let refused = EndCause::Tls(why);
        assert!(matches!(ended, Event::Ended { cause, .. } if cause == refused), "{ended:?}");
        assert_eq!(server.statistics().received, 0);
        server.shutdown().await;
    }
    a.shutdown().await;
}

/// Starts a TLS server that demands a certificate of this authority from each client. `version` is the only version of TLS that the server
/// supports. Returns its port.
async fn demanding(authority: &Authority, version: &'static rustls::SupportedProtocolVersion) -> u16 {
    use rustls::pki_types::pem::PemObject;
    let own = authority.issue("demanding", &["localhost"]);
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![written(&own)], PrivateKeyDer::from_pem_file(&own.key).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            assert!(acceptor.accept(stream).await.is_err(), "the certificate of the client is refused");
        }
    });
    port
}

#[tokio::test]
async fn a_client_certificate_that_the_server_refuses_is_reported_with_each_tls_version() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (a, mut events) = driver(|config| {
        ours.listen(&["localhost"])(config);
        config.ca_file = Some(theirs.file("ca.pem"));
    })
    .await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let port = demanding(&theirs, version).await;
        let invite = outgoing(&format!("sip:x@localhost:{port};transport=tls"));
        a.send(Command::Invite { leg: LegId(1), invite }).unwrap();
        let ended = event(&mut events).await;
        let refused = EndCause::Tls(TlsFault::Refused);
        assert!(matches!(ended, Event::Ended { cause, .. } if cause == refused), "{version:?}: {ended:?}");
    }
    a.shutdown().await;
}

#[tokio::test]
async fn a_trunk_may_have_its_own_authority_name_or_fingerprints() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (b, mut b_events) = driver(theirs.listen(&["pbx.example", "sip:voice.example"])).await;
    let own = theirs.file("server.pem");
    let fingerprint = {
        use rustls::pki_types::pem::PemObject;
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &CertificateDer::from_pem_file(own).unwrap());
        digest.as_ref().try_into().unwrap()
    };
    let ca = Some(theirs.file("ca.pem"));
    for (name, ca_file, fingerprints, fault) in [
        (Some("pbx.example"), ca.clone(), vec![], None),
        (Some("voice.example"), ca.clone(), vec![], None),
        (Some("other.example"), ca.clone(), vec![], Some(TlsFault::WrongName)),
        (Some("pbx.example"), None, vec![], Some(TlsFault::UnknownIssuer)),
        (None, None, vec![fingerprint], None),
        (None, ca, vec![[0; 32]], Some(TlsFault::WrongFingerprint)),
    ] {
        let (a, mut a_events) = driver(|config| {
            ours.listen(&["localhost"])(config);
            let (trunk, name) = ("t".into(), name.map(str::to_owned));
            config.tls_trunks = vec![TrunkTls { trunk, name, ca_file, fingerprints, certificate: None, mutual: None }];
        })
        .await;
        let mut invite = outgoing(&format!("sips:x@{}", address(&b, Transport::Tls)));
        invite.trunk = Some("t".into());
        a.send(Command::Invite { leg: LegId(1), invite }).unwrap();
        if fault.is_none() {
            let Event::Incoming { leg, .. } = event(&mut b_events).await else { panic!() };
            b.send(hangup(leg)).unwrap();
            assert!(matches!(event(&mut b_events).await, Event::Ended { .. }));
        }
        let Event::Ended { cause, .. } = event(&mut a_events).await else { panic!() };
        assert_eq!(cause, fault.map_or(EndCause::Rejected, EndCause::Tls), "{name:?}");
        a.shutdown().await;
    }
    b.shutdown().await;
}

#[tokio::test]
async fn a_trunk_known_by_its_certificate_is_unknown_without_it() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (handle, _events) = driver(|config| {
        ours.listen(&["localhost"])(config);
        config.trunks.clear();
        config.tls_trunks = vec![TrunkTls {
            trunk: "carrier".into(),
            name: Some("carrier.example".into()),
            ca_file: Some(theirs.file("ca.pem")),
            fingerprints: Vec::new(),
            certificate: None,
            mutual: Some(vec!["127.0.0.0/8".parse().unwrap()]),
        }];
    })
    .await;
    let tls = address(&handle, Transport::Tls);
    let right = theirs.issue("right", &["carrier.example"]);
    let wrong_name = theirs.issue("wrong", &["other.example"]);
    let wrong_authority = ours.issue("ours", &["carrier.example"]);
    for (own, status) in
        [(Some(&right), "200"), (None, "403"), (Some(&wrong_name), "403"), (Some(&wrong_authority), "403")]
    {
        let mut stream = ours.connect(tls, "localhost", own).await;
        let answer = ask(&mut stream, &options("TLS", "mutual")).await;
        assert!(answer.starts_with(&format!("SIP/2.0 {status} ")), "{answer}");
    }
    let mut stream = TcpStream::connect(address(&handle, Transport::Tcp)).await.unwrap();
    assert!(ask(&mut stream, &options("TCP", "plain")).await.starts_with("SIP/2.0 403 "));
    handle.shutdown().await;
}

#[tokio::test]
async fn a_reload_replaces_certificates_unless_a_new_certificate_is_invalid() {
    let authority = Authority::new();
    let (handle, _events) = driver(authority.listen(&["one.example"])).await;
    let tls = address(&handle, Transport::Tls);
    let second = authority.issue("second", &["one.example"]);
    let config = Config { certificates: vec![second.clone()], ..Config::default() };
    handle.reload(config.clone()).await.unwrap();
    assert_eq!(shown(&authority, tls, "one.example").await, written(&second));
    let nowhere = Certificate { certificate: "/nowhere/a.pem".into(), key: "/nowhere/a.key".into() };
    assert!(handle.reload(Config { certificates: vec![nowhere], ..config }).await.is_err());
    assert_eq!(shown(&authority, tls, "one.example").await, written(&second));
    handle.shutdown().await;
}

#[tokio::test]
async fn a_trunk_with_alias_and_certificate_is_called_over_its_own_connection() {
    let authority = Authority::new();
    // No server listens on this address. So the call can use only the connection that the trunk opened.
    let listens = SocketAddr::from(([127, 0, 0, 1], 1));
    for (alias, certified) in [(true, true), (false, true), (true, false)] {
        let (handle, mut events) = driver(|config| {
            authority.listen(&["localhost"])(config);
            config.tls_trunks = vec![TrunkTls {
                trunk: "carrier".into(),
                name: Some("carrier.example".into()),
                ca_file: Some(authority.file("ca.pem")),
                fingerprints: Vec::new(),
                certificate: None,
                mutual: Some(Vec::new()),
            }];
        })
        .await;
        let own = authority.issue("carrier", &["carrier.example"]);
        let mut stream =
            authority.connect(address(&handle, Transport::Tls), "localhost", certified.then_some(&own)).await;
        let parameter = if alias { ";alias" } else { "" };
        let hello = options("TLS", "hello").replace("127.0.0.1:9;", &format!("{listens}{parameter};"));
        assert!(ask(&mut stream, &hello).await.starts_with("SIP/2.0 200 "));
        let mut invite = outgoing(&format!("sip:1@{listens};transport=tls"));
        invite.trunk = Some("carrier".into());
        handle.send(Command::Invite { leg: LegId(1), invite }).unwrap();
        if alias && certified {
            let mut text = Vec::new();
            let head = async {
                while !text.windows(4).any(|four| four == b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "closed");
                }
            };
            timeout(DEADLINE, head).await.expect("the INVITE comes");
            assert!(text.starts_with(b"INVITE sip:1@"), "{}", String::from_utf8_lossy(&text));
        } else {
            let ended = timeout(DEADLINE, events.recv()).await.expect("an end").unwrap();
            assert!(matches!(ended, Event::Ended { cause: EndCause::Unconnected(_), .. }), "{ended:?}");
        }
        handle.shutdown().await;
    }
}

#[tokio::test]
async fn the_certificate_of_the_requested_name_is_sent_and_reloaded_with_its_file() {
    let authority = Authority::new();
    let second = authority.issue("second", &["two.example"]);
    let (handle, _events) = driver(|config| {
        authority.listen(&["localhost"])(config);
        config.certificates.push(second.clone());
    })
    .await;
    let tls = address(&handle, Transport::Tls);
    let first = Certificate { certificate: authority.file("server.pem"), key: authority.file("server.key") };
    assert_eq!(shown(&authority, tls, "localhost").await, written(&first));
    assert_eq!(shown(&authority, tls, "two.example").await, written(&second));

    let mut before = authority.connect(tls, "localhost", None).await;
    // The two files are written one after the other. The server does not load a certificate and a key that do not
    // match.
    std::fs::write(authority.file("second.key"), "-----BEGIN").unwrap();
    let renewed = authority.issue("server", &["localhost"]);
    let second = authority.issue("second", &["two.example"]);
    timeout(DEADLINE, async {
        while shown(&authority, tls, "two.example").await != written(&second) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("read again in time");
    assert_eq!(shown(&authority, tls, "localhost").await, written(&renewed));
    assert!(ask(&mut before, &options("TLS", "before")).await.starts_with("SIP/2.0 200 "), "live connections go on");
    handle.shutdown().await;
}

async fn websocket(at: SocketAddr, protocol: &str) -> Result<WebSocketStream<TcpStream>, String> {
    let mut request = format!("ws://{at}/").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    let stream = TcpStream::connect(at).await.unwrap();
    let opened = timeout(DEADLINE, tokio_tungstenite::client_async(request, stream)).await.unwrap();
    opened.map(|(socket, _)| socket).map_err(|error| error.to_string())
}

/// Returns the next message that is not a WebSocket ping.
async fn next_text<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> String {
    loop {
        match timeout(DEADLINE, socket.next()).await.expect("in time").expect("open").unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_browser_calls_and_is_called_over_its_own_websocket() {
    let authority = Authority::new();
    let (handle, mut events) = driver(authority.listen(&["localhost"])).await;
    let ws = address(&handle, Transport::Ws);
    assert!(websocket(ws, "chat").await.unwrap_err().contains("400"));
    let mut socket = websocket(ws, "chat, sip").await.unwrap();
    let invalid = |branch: &str| options("WS", branch).replace("127.0.0.1:9;rport", "df7jal23ls0d.invalid");
    socket.send(Message::text(invalid("text"))).await.unwrap();
    assert!(next_text(&mut socket).await.starts_with("SIP/2.0 200 "));
    socket.send(Message::binary(invalid("octets").into_bytes())).await.unwrap();
    assert!(next_text(&mut socket).await.starts_with("SIP/2.0 200 "));
    socket.send(Message::text("\r\n\r\n")).await.unwrap();
    assert_eq!(next_text(&mut socket).await, "\r\n");

    let invite = "INVITE sip:1@server.example SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bKinvite\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@server.example>;tag=asdyka899\r\nTo: <sip:1@server.example>\r\n\
         Call-ID: browser\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@df7jal23ls0d.invalid;transport=ws>\r\n\
         Content-Length: 0\r\n\r\n";
    socket.send(Message::text(invite)).await.unwrap();
    let Event::Incoming { leg, incoming } = event(&mut events).await else { panic!() };
    assert_eq!(incoming.transport, Transport::Ws);
    assert!(next_text(&mut socket).await.starts_with("SIP/2.0 100 "));
    handle.send(answer(leg)).unwrap();
    let answered = next_text(&mut socket).await;
    assert!(answered.starts_with("SIP/2.0 200 "));
    assert!(answered.contains(&format!("Contact: <sip:{ws};transport=ws>")), "{answered}");
    let to = answered.lines().find(|line| line.starts_with("To: ")).unwrap();
    let ack = invite.replace("INVITE", "ACK").replace("z9hG4bKinvite", "z9hG4bKack");
    socket.send(Message::text(ack.replace("To: <sip:1@server.example>", to))).await.unwrap();
    assert!(matches!(event(&mut events).await, Event::Acknowledged { .. }));
    handle.send(hangup(leg)).unwrap();
    let bye = next_text(&mut socket).await;
    assert!(bye.starts_with("BYE sip:alice@df7jal23ls0d.invalid;transport=ws SIP/2.0\r\nVia: SIP/2.0/WS "), "{bye}");
    handle.shutdown().await;
}

#[tokio::test]
async fn a_secure_websocket_answers_and_octets_that_are_no_text_do_not_end_it() {
    let authority = Authority::new();
    let (handle, _events) = driver(authority.listen(&["localhost"])).await;
    let stream = authority.connect(address(&handle, Transport::Wss), "localhost", None).await;
    let mut request = "wss://localhost/".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "sip".parse().unwrap());
    let (mut socket, _) = timeout(DEADLINE, tokio_tungstenite::client_async(request, stream)).await.unwrap().unwrap();
    socket.send(Message::binary(vec![0xff, 0xfe, 0x00])).await.unwrap();
    socket.send(Message::text(options("WSS", "secure"))).await.unwrap();
    let answer = next_text(&mut socket).await;
    assert!(answer.starts_with("SIP/2.0 200 ") && answer.contains("SIP/2.0/WSS 127.0.0.1:9;"), "{answer}");
    socket.close(None).await.unwrap();
    let close = timeout(DEADLINE, socket.next()).await.expect("in time");
    assert!(matches!(close, Some(Ok(Message::Close(_)))), "{close:?}");
    handle.shutdown().await;
}

#[tokio::test]
async fn a_client_without_a_tls_handshake_is_disconnected_and_counts_towards_the_limits() {
    let authority = Authority::new();
    let (handle, _events) = driver(|config| {
        authority.listen(&["localhost"])(config);
        config.connection_idle_seconds = 1;
        config.max_connections = 3;
    })
    .await;
    let mut open = Vec::new();
    for transport in [Transport::Tls, Transport::Ws, Transport::Wss, Transport::Tls, Transport::Ws] {
        let mut stream = TcpStream::connect(address(&handle, transport)).await.unwrap();
        let _ = stream.write_all(b"G").await;
        open.push(stream);
    }
    timeout(DEADLINE, async {
        for stream in &mut open {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    })
    .await
    .expect("all are closed");
    let mut stream = authority.connect(address(&handle, Transport::Tls), "localhost", None).await;
    assert!(ask(&mut stream, &options("TLS", "after")).await.starts_with("SIP/2.0 200 "));
    handle.shutdown().await;
}

#[tokio::test]
async fn a_certificate_that_is_missing_or_wrong_is_named() {
    let authority = Authority::new();
    let own = authority.issue("own", &["localhost"]);
    let other = authority.issue("other", &["localhost"]);
    let message = |certificates: Vec<Certificate>| async move {
        let config = Config { listen: vec!["tls://127.0.0.1:0".into()], certificates, ..Config::default() };
        start(config, |_| {}).await.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(message(Vec::new()).await.contains("needs a certificate"));
    let mixed = Certificate { certificate: own.certificate.clone(), key: other.key };
    assert!(message(vec![mixed]).await.contains("other.key: is not the key of "));
    let swapped = Certificate { certificate: own.key.clone(), key: own.certificate };
    assert!(message(vec![swapped]).await.contains("own.key: contains no certificate in PEM"));
    let gone = Certificate { certificate: "/nowhere/a.pem".into(), key: own.key };
    assert!(message(vec![gone]).await.contains("/nowhere/a.pem: No such file"));
}

#[test]
fn a_certificate_warns_before_it_is_valid_and_from_14_days_before_it_expires() {
    let authority = Authority::new();
    let mut config = Config::default();
    authority.listen(&["localhost"])(&mut config);
    let [own] = &super::super::own_certificates(&config)[..] else { panic!("one certificate") };
    assert_eq!((&*own.setting, &own.file), ("sip.certificates[0]", &authority.file("server.pem")));
    let day = 86_400;
    for (left, words) in [
        (15 * day, None),
        (14 * day, Some("expires in 14 days")),
        (day / 2, Some("expires in 0 days")),
        (0, Some("has expired")),
    ] {
        let warning = own.warning(own.not_after - left);
        match words {
            Some(words) => assert!(warning.unwrap().contains(words), "{words}"),
            None => assert_eq!(warning, None),
        }
    }
    assert!(own.warning(own.not_after + day).unwrap().contains("has expired"));
    assert_eq!(own.warning(own.not_before), None);
    assert!(own.warning(own.not_before - day).unwrap().contains("is valid only in 24 h"));
}
