//! SIP domains of accounts. Calls of a domain's users go to the voice URL of the domain.

use std::collections::HashMap;
use std::net::SocketAddr;

use tandem_id::AccountName;
use tandem_store::Store;
use tandem_store::domains::{self, DomainDetails, DomainRow, ListKind, ListRow, MappingRow, Purpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::sipp::{Sipp, is_missing};
use crate::test_server::TestServer;

type Form = HashMap<String, String>;

/// Starts a web application that answers every request with this document. Returns the address of the application and
/// the requests.
async fn application(document: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<(String, Form)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut text = String::new();
                let mut buffer = [0; 4096];
                loop {
                    let length = stream.read(&mut buffer).await.unwrap_or(0);
                    text.push_str(&String::from_utf8_lossy(&buffer[..length]));
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let content_length = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if length == 0 || body.len() >= content_length.unwrap_or(0) {
                        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                        let _ = sender.send((path, form_urlencoded::parse(body.as_bytes()).into_owned().collect()));
                        break;
                    }
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{document}",
                    document.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, requests)
}

/// Creates a domain with the user alice. This user may register and make calls.
async fn make_domain(store: &Store, app: SocketAddr) {
    let now = "2026-11-21T08:00:00Z".parse().unwrap();
    let account = || AccountName::new("acme");
    let at = |path: &str| Some((format!("http://{app}{path}"), "POST".to_owned()));
    let details = DomainDetails {
        registration: true,
        voice: at("/voice"),
        status_callback: at("/status"),
        ..DomainDetails::default()
    };
    let name = "acme.sip.test".to_owned();
    let domain = DomainRow { id: 0xd0, account: account(), name, details, created_at: now, updated_at: now };
    assert!(domains::upsert_domain(store, &domain).await.unwrap());
    let (kind, name) = (ListKind::Credentials, "staff".to_owned());
    let list = ListRow { id: 0x11, account: account(), kind, name, created_at: now, updated_at: now };
    domains::upsert_list(store, &list).await.unwrap();
    let ha1 = tandem_sip::Ha1::of("alice", "tandem", "of alice");
    let credential = domains::Credential {
        username: "alice".into(),
        ha1_md5: ha1.md5.to_string(),
        ha1_sha256: ha1.sha256.to_string(),
    };
    assert!(
        domains::upsert_entry(store, &domains::Entry::new(&AccountName::new("acme"), 0x11, credential)).await.unwrap()
    );
    for (id, purpose) in [(0x31, Purpose::Registrations), (0x32, Purpose::CallsByPassword)] {
        let mapping = MappingRow { id, account: account(), domain: 0xd0, list: 0x11, purpose, created_at: now };
        assert!(domains::map(store, &mapping).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_phone_in_a_domain_requests_the_application_of_the_domain() {
    if is_missing() {
        return;
    }
    let (app, mut requests) = application("<Response><Echo/></Response>").await;
    let server = TestServer::start("").await;
    let services = server.calls().services();
    make_domain(&services.store, app).await;
    let directory = services.routing.load_full().phones().load(&services.store).await.unwrap();
    services.sip.send(tandem_sip::Command::Directory(directory)).unwrap();
    for callee in ["+15550001", "anybody"] {
        let phone = Sipp::new("domain_call").to("alice").option("-au", "alice").option("-ap", "of alice");
        let source = phone.address().ip();
        phone.key("callee", callee).key("domain", "acme.sip.test").call(server.udp).succeed().await;
        let (path, form) = requests.recv().await.unwrap();
        assert_eq!(path, "/voice");
        for (name, value) in [
            ("From", "sip:alice@acme.sip.test".to_owned()),
            ("To", format!("sip:{callee}@acme.sip.test")),
            ("Called", format!("sip:{callee}@acme.sip.test")),
            ("Direction", "inbound".to_owned()),
            ("CallStatus", "ringing".to_owned()),
            ("SipDomain", "acme.sip.test".to_owned()),
            ("SipDomainSid", "SD000000000000000000000000000000d0".to_owned()),
            ("SipUsername", "alice".to_owned()),
            ("SipSourceIp", source.to_string()),
        ] {
            assert_eq!(form.get(name), Some(&value), "{name} of {form:?}");
        }
        assert!(form.get("SipCallId").is_some_and(|id| id.contains('@')), "{form:?}");
        let (path, form) = requests.recv().await.unwrap();
        assert_eq!(
            (&*path, form["CallStatus"].as_str(), form["SipDomain"].as_str()),
            ("/status", "completed", "acme.sip.test")
        );
    }
    server.quiet().await;
    server.end().await;
}
