//! Tests of the proxy between a socket of an application and a socket of a server. Both sockets belong to the test.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Arguments;
use super::front::{Front, HostPort};
use crate::authority::Authority;

const TIMEOUT: Duration = Duration::from_secs(10);

struct Scene {
    /// Address of the proxy in the form `HOST:PORT`.
    proxy: String,
    tls: String,
    /// Listener that represents the server or another host.
    server: TcpListener,
    trust: TlsConnector,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(pass_through: bool, max_connections: usize) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::with(server.local_addr().unwrap().port(), server, pass_through, max_connections).await
    }

    async fn with(port: u16, server: TcpListener, pass_through: bool, max_connections: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_make(folder.path()).unwrap();
        let trust = trusting(&authority);
        let place = HostPort { host: "127.0.0.1".into(), port };
        let front = Front::new(authority, place.clone(), vec![place], pass_through, max_connections);
        let (plain, direct) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let [proxy, tls] = [&plain, &direct].map(|listener| listener.local_addr().unwrap().to_string());
        let second = front.clone();
        tokio::spawn(async move { front.serve(plain).await });
        tokio::spawn(async move { second.serve_tls(direct).await });
        Self { proxy, tls, server, trust, _folder: folder }
    }

    /// Sends `head` to the proxy. Returns the head of the response and the connection.
    async fn ask(&self, head: &str) -> (String, BufReader<TcpStream>) {
        let mut stream = BufReader::new(TcpStream::connect(&self.proxy).await.unwrap());
        stream.write_all(head.as_bytes()).await.unwrap();
        (read_head(&mut stream).await, stream)
    }

    async fn connect(&self, place: &str) -> (String, BufReader<TcpStream>) {
        self.ask(&format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n")).await
    }

    async fn accept(&self) -> BufReader<TcpStream> {
        let (stream, _) = timeout(TIMEOUT, self.server.accept()).await.unwrap().unwrap();
        BufReader::new(stream)
    }
}

fn trusting(authority: &Authority) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.certificate()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn name(host: &str) -> ServerName<'static> {
    ServerName::try_from(host.to_owned()).unwrap()
}

async fn read_head(stream: &mut (impl AsyncRead + AsyncBufReadExt + Unpin)) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(timeout(TIMEOUT, stream.read_line(&mut head)).await.unwrap().unwrap() > 0, "ended after {head:?}");
    }
    head
}

/// Sends `words` and checks that they arrive at the other side.
async fn carried(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin), words: &str) {
    from.write_all(words.as_bytes()).await.unwrap();
    from.flush().await.unwrap();
    let mut heard = vec![0; words.len()];
    timeout(TIMEOUT, to.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, words.as_bytes());
}

#[tokio::test]
async fn several_requests_on_a_connection_to_a_provider_reach_the_server_unchanged() {
    let scene = Scene::new(false, 8).await;
    for host in ["api.twilio.com", "api.dublin.ie1.twilio.com", "api.telnyx.com", "a.signalwire.com"] {
        let (head, stream) = scene.connect(&format!("{host}:443")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut server = scene.accept().await;
        let mut app = scene.trust.connect(name(host), stream).await.unwrap();
        for number in 1..=3 {
            carried(&mut app, &mut server, &format!("GET /{number} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            carried(&mut server, &mut app, "HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
            carried(&mut server, &mut app, "frame").await;
        }
    }
}

#[tokio::test]
async fn a_connection_through_dns_needs_no_proxy_request() {
    let scene = Scene::new(false, 8).await;
    let stream = TcpStream::connect(&scene.tls).await.unwrap();
    let (mut app, mut server) = {
        let app = scene.trust.connect(name("trunking.twilio.com"), stream);
        let (app, server) = tokio::join!(app, scene.accept());
        (app.unwrap(), server)
    };
    carried(&mut app, &mut server, "GET /v1/Trunks HTTP/1.1\r\n\r\n").await;
    let stream = TcpStream::connect(&scene.tls).await.unwrap();
    assert!(scene.trust.connect(name("example.com"), stream).await.is_err());
}

#[tokio::test]
async fn other_hosts_are_refused_with_a_reason() {
    let scene = Scene::new(false, 8).await;
    for place in ["example.com:443", "twilio.com.example.com:443", "127.0.0.1:1"] {
        let (head, _) = scene.connect(place).await;
        assert!(head.starts_with("HTTP/1.1 403 tandem proxy is for *.twilio.com"), "{head}");
        assert!(head.contains(place) && head.contains("--pass-through"), "{head}");
    }
    let (head, _) = scene.ask("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[tokio::test]
async fn other_hosts_pass_through_unchanged_with_the_option() {
    let scene = Scene::new(true, 8).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (head, mut app) = scene.connect(&elsewhere.local_addr().unwrap().to_string()).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (mut there, _) = elsewhere.accept().await.unwrap();
    carried(&mut app, &mut there, "not TLS at all").await;
    carried(&mut there, &mut app, "nor this").await;
    drop(app);
    assert_eq!(timeout(TIMEOUT, there.read_u8()).await.unwrap().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_proxy_on_a_loopback_address_passes_other_hosts_through_by_default() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }
    let passes = |options: &[&str]| {
        let line = ["proxy"].iter().chain(options);
        <Line as clap::Parser>::try_parse_from(line).map(|line| line.arguments.passes_through()).ok()
    };
    assert_eq!(passes(&[]), Some(true));
    assert_eq!(passes(&["--listen", "[::1]:3128"]), Some(true));
    assert_eq!(passes(&["--no-pass-through"]), Some(false));
    assert_eq!(passes(&["--listen", "0.0.0.0:3128"]), Some(false));
    assert_eq!(passes(&["--listen", "0.0.0.0:3128", "--pass-through"]), Some(true));
    assert_eq!(passes(&["--pass-through", "--no-pass-through"]), None);
}

#[tokio::test]
async fn connections_to_the_server_itself_need_no_permission() {
    let scene = Scene::new(false, 8).await;
    let own = scene.server.local_addr().unwrap().to_string();
    let (head, mut app) = scene.connect(&own).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    carried(&mut app, &mut scene.accept().await, "plain").await;
}

#[tokio::test]
async fn plain_requests_lose_their_proxy_headers_and_keep_their_host() {
    let scene = Scene::new(false, 8).await;
    let ask = scene.ask(
        "POST http://api.twilio.com/2010-04-01/Accounts.json?a=%20b HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\n\
         Connection: close, X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\nContent-Length: 4\r\n\r\nbody",
    );
    let answer = async {
        let mut server = scene.accept().await;
        let head = read_head(&mut server).await;
        let mut body = [0; 4];
        server.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"body");
        server.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        head.to_ascii_lowercase()
    };
    let ((answered, _), asked) = tokio::join!(ask, answer);
    assert!(answered.starts_with("HTTP/1.1 201 "), "{answered}");
    assert!(asked.starts_with("post /2010-04-01/accounts.json?a=%20b http/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nhost: api.twilio.com\r\n") && asked.contains("\r\nx-kept: 2\r\n"), "{asked}");
    assert!(!asked.contains("x-hop") && !asked.contains("proxy-connection"), "{asked}");
}

#[tokio::test]
async fn a_request_to_the_proxy_as_a_web_server_is_refused_with_an_explanation() {
    let scene = Scene::new(false, 8).await;
    let (head, _) = scene.ask("GET / HTTP/1.1\r\nHost: here\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 This is a proxy"), "{head}");
    let (head, _) = scene.ask(&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(300_000))).await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
}

#[tokio::test]
async fn an_unreachable_server_is_reported_with_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap().port();
    drop(listener);
    let scene = Scene::with(gone, TcpListener::bind("127.0.0.1:0").await.unwrap(), false, 8).await;
    let (head, _) = scene.connect("api.twilio.com:443").await;
    assert!(head.starts_with("HTTP/1.1 502 Cannot reach the Tandem server: 127.0.0.1:"), "{head}");
}

#[tokio::test]
async fn a_tunnel_occupies_its_slot_until_it_ends() {
    let scene = Scene::new(false, 1).await;
    let (head, app) = scene.connect("api.twilio.com:80").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut server = scene.accept().await;
    let mut waiting = std::pin::pin!(scene.connect("example.com:443"));
    assert!(timeout(Duration::from_millis(200), waiting.as_mut()).await.is_err(), "there was a place");
    drop(app);
    assert_eq!(timeout(TIMEOUT, server.read(&mut [0])).await.unwrap().unwrap(), 0);
    drop(server);
    assert!(timeout(TIMEOUT, waiting).await.unwrap().0.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn name_constraints_limit_the_certificate_authority_to_provider_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_make(folder.path()).unwrap();
    for (host, good) in [("api.twilio.com", true), ("example.com", false), ("127.0.0.1", false), ("::1", false)] {
        let (here, there) = tokio::io::duplex(16 * 1024);
        let acceptor = TlsAcceptor::from(authority.server(host).unwrap());
        let (client, _) = tokio::join!(trusting(&authority).connect(name(host), here), acceptor.accept(there));
        assert_eq!(client.is_ok(), good, "{host}: {:?}", client.err());
    }
}
