//! STIR/SHAKEN. The server verifies the Identity headers of an inbound call before it requests a document, and signs
//! outbound calls. The tests have their own certificate authority, serve certificates over HTTPS on loopback, and
//! verify signatures with openssl.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tandem_sip::stir::{Attestation, Claims, Signer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::log::PATIENCE;
use crate::sipp::{Sipp, is_missing};
use crate::test_server::{TestServer, asks};

/// User part of the From header in the scenarios.
const CALLER: &str = "15550100";
const CALLED: &str = "12155551213";

/// A certificate authority, the key of a signer with a certificate of this authority, and a server for the certificate.
struct Pki {
    folder: TempDir,
    server: SocketAddr,
    key: KeyPair,
    fetches: Arc<AtomicUsize>,
}

impl Pki {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.clone().self_signed(&authority).unwrap();
        std::fs::write(folder.path().join("anchors.pem"), root.pem()).unwrap();
        let issuer = Issuer::new(params, &authority);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "SHAKEN 1234");
        let list = b"\x30\x08\xa0\x06\x16\x041234".to_vec();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], list)];
        let chain = params.signed_by(&key, &issuer).unwrap().pem();
        std::fs::write(folder.path().join("shaken.key"), key.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("shaken.pub"), key.public_key_pem()).unwrap();
        let fetches = Arc::new(AtomicUsize::new(0));
        let (server, own) = https(chain, Arc::clone(&fetches)).await;
        std::fs::write(folder.path().join("https.pem"), own).unwrap();
        Self { folder, server, key, fetches }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        format!("https://{}/shaken.pem", self.server)
    }

    /// Returns the `[stir]` settings for verification.
    fn verifying(&self, verify: &str) -> String {
        let (trust, ca_file) = (self.file("anchors.pem"), self.file("https.pem"));
        format!(
            "[stir]\nverify = \"{verify}\"\ntrust = {trust:?}\nca_file = {ca_file:?}\nports = [{}]\n\
             allow_networks = [\"127.0.0.0/8\"]\n",
            self.server.port()
        )
    }

    /// Returns an Identity header for a call to `dest`. The header is signed with `key` and was issued `age` seconds
    /// ago.
    fn identity(&self, key: &KeyPair, dest: &str, age: u64) -> String {
        let claims = Claims {
            attestation: Attestation::A,
            orig: CALLER.to_owned(),
            dest: dest.to_owned(),
            iat: now() - age,
            origid: "123e4567-e89b-12d3-a456-426655440000".to_owned(),
        };
        Signer::new(key.serialize_pem().as_bytes(), self.url().into()).unwrap().identity(&claims).unwrap()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Starts an HTTPS server that answers every request with `body`. Returns the address and the certificate of the
/// server.
async fn https(body: String, requests: Arc<AtomicUsize>) -> (SocketAddr, String) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, body, requests) = (acceptor.clone(), body.clone(), Arc::clone(&requests));
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await?);
                }
                requests.fetch_add(1, Ordering::SeqCst);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            });
        }
    });
    (address, certified.cert.pem())
}

type Form = BTreeMap<String, String>;

/// Starts an application that says hello. Returns the address of the application and its requests for new calls.
async fn application() -> (SocketAddr, mpsc::UnboundedReceiver<Form>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let answer = async |State(sender): State<mpsc::UnboundedSender<Form>>, body: String| {
        let form: Form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        if form.get("CallStatus").is_some_and(|status| status == "ringing") {
            let _ = sender.send(form);
        }
        ([("Content-Type", "text/xml")], "<Response><Say>hello</Say><Pause length=\"2\"/></Response>")
    };
    let router = Router::new().fallback(answer).with_state(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_gets_the_stir_verstat_of_a_signed_call() {
    if is_missing() {
        return;
    }
    let pki = Pki::start().await;
    let (app, mut requests) = application().await;
    let caller = || Sipp::new("signed");
    let first = caller();
    let others: Vec<_> = (0..6).map(|_| caller()).collect();
    let trunks: String = [&first]
        .into_iter()
        .chain(&others)
        .enumerate()
        .map(|(index, caller)| caller.trunk(&format!("carrier{index}"), ""))
        .collect();
    let server = TestServer::start(&(pki.verifying("report") + &trunks + &asks(&format!("+{CALLED}"), app))).await;
    let stranger = KeyPair::generate().unwrap();
    let good = pki.identity(&pki.key, CALLED, 0);
    let cases = [
        (good.clone(), Some("TN-Validation-Passed-A"), "Identity: passed, attestation A"),
        // This case has the compact header name, and another Identity header before it.
        (
            format!("a.b.c;ppt=div\r\ny: {}", pki.identity(&pki.key, CALLED, 1)),
            Some("TN-Validation-Passed-A"),
            "Identity: passed, attestation A",
        ),
        (
            pki.identity(&pki.key, "12155559999", 0),
            Some("TN-Validation-Failed-A"),
            "it is signed for a call to 12155559999",
        ),
        (pki.identity(&pki.key, CALLED, 90), Some("TN-Validation-Failed-A"), "issued 9"),
        // Another call has used this Identity.
        (good.clone(), Some("TN-Validation-Failed-A"), "replay"),
        (pki.identity(&stranger, CALLED, 0), Some("TN-Validation-Failed-A"), "signed with another key"),
        (String::new(), None, ""),
    ];
    for (caller, (identity, verstat, logged)) in [first].into_iter().chain(others).zip(cases) {
        let line = if identity.is_empty() { "X-None: none".to_owned() } else { format!("Identity: {identity}") };
        let caller = caller.to(&format!("+{CALLED}")).key("identity", &line).call(server.udp);
        let form = tokio::time::timeout(PATIENCE, requests.recv()).await.unwrap().unwrap();
        caller.succeed().await;
        assert_eq!(form.get("StirVerstat").map(String::as_str), verstat, "{logged}");
        let token =
            identity.rsplit("y: ").next().and_then(|value| value.split(';').next()).filter(|one| !one.is_empty());
        assert_eq!(form.get("StirPassportToken").map(String::as_str), token);
        server.quiet().await;
        let sid = &form["CallSid"];
        let log = server.api.get(&format!("/console/sessions/{sid}/events?format=text")).await;
        let log = String::from_utf8_lossy(&log.body).into_owned();
        assert!(log.contains(logged), "{logged}: {log}");
    }
    // All cases have the same certificate URL. The server fetches the certificate once and caches it.
    assert_eq!(pki.fetches.load(Ordering::SeqCst), 1);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_valid_identity_are_refused_before_the_application_with_verify_require() {
    if is_missing() {
        return;
    }
    let pki = Pki::start().await;
    let (app, mut requests) = application().await;
    let callers = [Sipp::new("signed"), Sipp::new("signed_refused"), Sipp::new("signed_refused")];
    let trunks: String =
        callers.iter().enumerate().map(|(index, caller)| caller.trunk(&format!("carrier{index}"), "")).collect();
    let server = TestServer::start(&(pki.verifying("require") + &trunks + &asks(&format!("+{CALLED}"), app))).await;
    let lines = [
        (format!("Identity: {}", pki.identity(&pki.key, CALLED, 0)), "SIP/2.0 200"),
        (format!("Identity: {}", pki.identity(&pki.key, "1", 0)), "SIP/2.0 438 Invalid Identity Header"),
        ("X-None: none".to_owned(), "SIP/2.0 428 Use Identity Header"),
    ];
    for (caller, (line, status)) in callers.into_iter().zip(lines) {
        let messages = caller.to(&format!("+{CALLED}")).key("identity", &line).call(server.udp).succeed().await;
        assert!(messages.contains(status), "{status}: {messages}");
    }
    server.quiet().await;
    assert_eq!(requests.recv().await.unwrap()["StirVerstat"], "TN-Validation-Passed-A");
    assert!(requests.try_recv().is_err());
    server.end().await;
}

/// Verifies the signature of a PASSporT with openssl.
fn openssl_verifies(public_key: &Path, folder: &Path, token: &str) -> bool {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let fixed = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let integer = |half: &[u8]| {
        let digits: Vec<u8> = std::iter::once(0).chain(half.iter().copied()).collect();
        let zeros = digits.iter().zip(digits.iter().skip(1)).take_while(|(a, b)| **a == 0 && **b < 0x80).count();
        let digits = &digits[zeros..];
        [&[2, digits.len() as u8], digits].concat()
    };
    let integers = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
    std::fs::write(folder.join("signature"), [&[0x30, integers.len() as u8], &integers[..]].concat()).unwrap();
    std::fs::write(folder.join("signed"), signed).unwrap();
    let verified = std::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-verify"])
        .arg(public_key)
        .arg("-signature")
        .args([folder.join("signature"), folder.join("signed")])
        .output()
        .unwrap();
    verified.status.success()
}

/// Returns the Identity headers in the message log of SIPp.
fn identities(messages: &str) -> Vec<&str> {
    messages.lines().filter_map(|line| line.trim_end().strip_prefix("Identity: ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_the_signature_of_a_call_over_a_trunk() {
    if is_missing() || std::process::Command::new("openssl").arg("version").output().is_err() {
        tandem_test_support::skip(tandem_test_support::Needs::Package("openssl"));
        return;
    }
    let pki = Pki::start().await;
    let carrier = Sipp::new("answer");
    let (key, url) = (pki.file("shaken.key"), pki.url());
    let stir = format!("[stir]\nkey = {key:?}\ncertificate_url = \"{url}\"\n");
    let trunk = carrier.trunk("carrier", "prefixes = [\"+\"]");
    let server = TestServer::start(&(stir + &trunk + &asks(&format!("+{CALLER}"), closed_address()))).await;
    let carrier = carrier.answer().await;
    let body = format!("To=%2B{CALLED}&From=%2B{CALLER}&Twiml=%3CResponse%2F%3E");
    assert_eq!(server.api.post("/Calls.json", &body).await.status, 201);
    let messages = carrier.succeed().await;
    let identity = identities(&messages)[0];
    let token = identity.split(';').next().unwrap();
    assert!(identity.ends_with(&format!(";info=<{url}>;alg=ES256;ppt=shaken")), "{identity}");
    let json = |part: usize| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(part).unwrap()).unwrap()).unwrap()
    };
    assert_eq!(json(0), serde_json::json!({ "alg": "ES256", "ppt": "shaken", "typ": "passport", "x5u": url }));
    let payload = json(1);
    assert_eq!(
        (&payload["attest"], &payload["orig"]["tn"], &payload["dest"]["tn"]),
        (&"A".into(), &CALLER.into(), &serde_json::json!([CALLED]))
    );
    assert!(payload["iat"].as_u64().unwrap().abs_diff(now()) < 60);
    assert!(openssl_verifies(&pki.file("shaken.pub"), pki.folder.path(), token));
    let forged = format!("{}x.{}", &token[..token.len() - 90], &token[token.len() - 86..]);
    assert!(!openssl_verifies(&pki.file("shaken.pub"), pki.folder.path(), &forged));
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_call_has_a_diversion_that_the_next_server_verifies() {
    if is_missing() {
        return;
    }
    let pki = Pki::start().await;
    let (forwards, next) = (CALLED, "12155559999");
    let (caller, carrier) = (Sipp::new("signed"), Sipp::new("answer"));
    let (key, url) = (pki.file("shaken.key"), pki.url());
    let stir = pki.verifying("report") + &format!("key = {key:?}\ncertificate_url = \"{url}\"\n");
    let document = format!("<Response><Dial><Number>+{next}</Number></Dial></Response>");
    let number = format!("[[numbers]]\nnumber = \"+{forwards}\"\naccount = \"acme\"\ntwiml = \"{document}\"\n");
    let trunks = caller.trunk("from", "") + &carrier.trunk("carrier", "prefixes = [\"+\"]");
    let server = TestServer::start(&(stir + &trunks + &number)).await;
    let carrier = carrier.answer().await;
    let line = format!("Identity: {}", pki.identity(&pki.key, forwards, 0));
    caller.to(&format!("+{forwards}")).key("identity", &line).call(server.udp).succeed().await;
    let messages = carrier.succeed().await;
    let sent: Vec<String> = identities(&messages).into_iter().map(str::to_owned).collect();
    assert_eq!(sent.len(), 2, "{messages}");
    assert_eq!(format!("Identity: {}", sent[0]), line);
    assert!(sent[1].ends_with(";ppt=div"), "{sent:?}");
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("tandem_stir_verified_total{result=\"passed\"} 1\n"), "{metrics}");
    assert!(metrics.contains("tandem_stir_vouched_total{how=\"diverted\"} 1\n"), "{metrics}");
    server.quiet().await;
    server.end().await;

    // The next server receives the call with the To header that this server sent.
    let (app, mut requests) = application().await;
    let caller = Sipp::new("signed");
    let trunk = caller.trunk("from", "");
    let server = TestServer::start(&(pki.verifying("report") + &trunk + &asks(&format!("+{next}"), app))).await;
    for (lines, verstat) in [(&sent[..], "TN-Validation-Passed-A"), (&sent[..1], "TN-Validation-Failed-A")] {
        let lines: Vec<_> = lines.iter().map(|one| format!("Identity: {one}")).collect();
        let caller = Sipp::new("signed").at(caller.address());
        let call = caller.to(&format!("+{next}")).key("identity", &lines.join("\r\n")).call(server.udp);
        let form = tokio::time::timeout(PATIENCE, requests.recv()).await.unwrap().unwrap();
        call.succeed().await;
        assert_eq!(form["StirVerstat"], verstat);
        server.quiet().await;
    }
    server.end().await;
}

/// Returns an address without an application.
fn closed_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridged_call_keeps_the_identity_of_its_caller() {
    if is_missing() {
        return;
    }
    let pki = Pki::start().await;
    let (caller, carrier) = (Sipp::new("signed"), Sipp::new("answer"));
    let identity = pki.identity(&pki.key, CALLED, 0);
    let (key, url) = (pki.file("shaken.key"), pki.url());
    let stir = pki.verifying("report") + &format!("key = {key:?}\ncertificate_url = \"{url}\"\n");
    let number = format!("[[numbers]]\nnumber = \"+{CALLED}\"\naccount = \"acme\"\nbridge = \"trunk:carrier\"\n");
    let trunks = caller.trunk("from", "") + &carrier.trunk("carrier", "");
    let server = TestServer::start(&(stir + &trunks + &number)).await;
    let carrier = carrier.answer().await;
    let line = format!("Identity: {identity}");
    caller.to(&format!("+{CALLED}")).key("identity", &line).call(server.udp).succeed().await;
    let messages = carrier.succeed().await;
    assert_eq!(identities(&messages), [identity]);
    server.quiet().await;
    server.end().await;
}
