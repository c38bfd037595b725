//! The page `/dev/phone` of `tandem dev`, over HTTP. `tests/sdk/test_dev_phone.py` has the page in a browser.

use serde_json::Value;
use tandem_softphone::Key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::log::PATIENCE;
use crate::pages::OFFER;
use crate::test_server::{TestServer, asks, inline};

/// The header field with the page's key.
const KEY: &str = "X-Tandem-Key";
const ECHO: &str = "<Response><Echo/></Response>";

/// A request and its response, of which the end may not have come yet.
struct Exchange {
    stream: TcpStream,
    received: String,
}

impl Exchange {
    /// Sends a request with these header fields. Without `Host` among them, the request names the server's address, and
    /// without `X-Tandem-Key`, it has the page's key.
    async fn begin(server: &TestServer, request: &str, fields: &[(&str, &str)], body: &str) -> Self {
        let mut stream = TcpStream::connect(server.api.0).await.unwrap();
        let own = server.api.0.to_string();
        let key = server.phone.as_deref().and_then(|address| address.split_once('#')).map_or("", |(_, key)| key);
        let usual = [("Host", own.as_str()), (KEY, key)];
        let usual = usual.iter().filter(|(name, _)| !fields.iter().any(|(given, _)| given == name));
        let fields: String = usual.chain(fields).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("{request} HTTP/1.1\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).await.unwrap();
        Self { stream, received: String::new() }
    }

    /// Calls a number.
    async fn call(server: &TestServer, query: &str) -> Self {
        let request = format!("POST /dev/phone/calls{query}");
        Self::begin(server, &request, &[("Content-Type", "application/sdp")], OFFER).await
    }

    /// Reads until this text has come.
    async fn until(&mut self, text: &str) -> &str {
        let reading = async {
            while !self.received.contains(text) {
                let mut piece = [0; 4096];
                let length = self.stream.read(&mut piece).await.unwrap();
                assert!(length > 0, "closed without {text:?}: {}", self.received);
                self.received.push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        };
        let is_timely = tokio::time::timeout(PATIENCE * 2, reading).await.is_ok();
        assert!(is_timely, "no {text:?}: {}", self.received);
        &self.received
    }

    /// Reads the head of the response. Returns the status and the head in lower case.
    async fn head(&mut self) -> (u16, String) {
        let head = self.until("\r\n\r\n").await.to_lowercase();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
    }

    /// Reads the whole response of a call. Returns its events.
    async fn events(&mut self) -> Vec<Value> {
        let lines = self.until("\r\n0\r\n\r\n").await.lines();
        lines.filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["event"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_loads_nothing_from_elsewhere_and_only_this_machine_gets_it() {
    let server = TestServer::start_with_softphone(&inline("600", ECHO), "600").await;
    for (path, kind) in [
        ("/dev/phone", "text/html"),
        ("/dev/phone/phone.js", "text/javascript"),
        ("/dev/phone/phone.css", "text/css"),
        ("/dev/phone/icon.svg", "image/svg+xml"),
        ("/dev/phone/settings", "application/json"),
    ] {
        let (status, head) = Exchange::begin(&server, &format!("GET {path}"), &[], "").await.head().await;
        assert_eq!(status, 200, "{path}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        let policy = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; ";
        assert!(head.contains(policy) && !head.contains("inline"), "{head}");
    }
    let mut settings = Exchange::begin(&server, "GET /dev/phone/settings", &[], "").await;
    settings.until(r#"{"from":"+15550109999","number":"600","numbers":["600"]}"#).await;
    let own = format!("http://{}", server.api.0);
    let sdp = ("Content-Type", "application/sdp");
    for (request, field, expected) in [
        ("GET /dev/phone", ("Host", "rebound.example"), 403),
        ("GET /dev/phone/settings", ("X-Forwarded-For", "192.0.2.1"), 403),
        ("POST /dev/phone/calls", ("Origin", "https://evil.example"), 403),
        ("POST /dev/phone/calls", ("Origin", "http://127.0.0.1:3000"), 403),
        ("POST /dev/phone/calls", ("Origin", "null"), 403),
        ("POST /dev/phone/calls?to=1%202", ("Origin", own.as_str()), 400),
        ("DELETE /dev/phone/calls", ("Origin", own.as_str()), 405),
    ] {
        let mut exchange = Exchange::begin(&server, request, &[sdp, field], OFFER).await;
        let (status, head) = exchange.head().await;
        assert_eq!(status, expected, "{request} {field:?} {head}");
        if expected == 403 {
            exchange.until("This page works only in a browser on the machine of `tandem dev`").await;
        }
    }
    assert_eq!(server.live_legs(), 0);
    server.end().await;
    let without = TestServer::start(&inline("600", ECHO)).await;
    assert_eq!(Exchange::begin(&without, "GET /dev/phone", &[], "").await.head().await.0, 404);
    without.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_key_nothing_is_called_and_no_number_is_read() {
    let server = TestServer::start_with_softphone(&inline("600", ECHO), "600").await;
    let address = server.phone.clone().unwrap();
    let (page, key) = address.split_once('#').unwrap();
    assert_eq!((page, key.len()), (&*format!("http://{}/dev/phone", server.api.0), 32));
    let another = Key::random().address(server.api.0);
    let (_, another) = another.split_once('#').unwrap();
    let (longer, origin) = (format!("{key}0"), format!("http://{}", server.api.0));
    for wrong in ["", another, &key[1..], &longer] {
        for request in ["GET /dev/phone/settings", "POST /dev/phone/calls", "POST /dev/phone/calls?to=600"] {
            let fields = [("Content-Type", "application/sdp"), ("Origin", &*origin), (KEY, wrong)];
            // The address of the page, with the key, is no place for it: a server would write it to its log.
            let request = format!("{request}{}key={key}", if request.contains('?') { '&' } else { '?' });
            let mut exchange = Exchange::begin(&server, &request, &fields, OFFER).await;
            assert_eq!(exchange.head().await.0, 403, "{request} {wrong}");
            let text = exchange.until("Each start of `tandem dev` has a new key.").await;
            assert!(text.contains("Open the address that `tandem dev` prints, key included."), "{text}");
            assert!(!text.contains(key) && !text.contains("600"), "{text}");
        }
    }
    // The field is absent. The page and its script have no secret, so that they can say what is missing.
    let request = format!("GET /dev/phone/settings HTTP/1.1\r\nHost: {}\r\n\r\n", server.api.0);
    let mut stream = TcpStream::connect(server.api.0).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(Exchange { stream, received: String::new() }.head().await.0, 403);
    for path in ["/dev/phone", "/dev/phone/phone.js"] {
        let mut exchange = Exchange::begin(&server, &format!("GET {path}"), &[(KEY, "")], "").await;
        assert_eq!(exchange.head().await.0, 200, "{path}");
        assert!(!exchange.received.contains(key), "{path}");
    }
    assert_eq!(server.live_legs(), 0);
    assert!(server.api.calls().await.is_empty());
    // The key does not replace the other conditions.
    let foreign = [("Content-Type", "application/sdp"), ("Origin", "https://evil.example")];
    assert_eq!(Exchange::begin(&server, "POST /dev/phone/calls", &foreign, OFFER).await.head().await.0, 403);
    Exchange::call(&server, "").await.until(r#""event":"answered""#).await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_lasts_as_long_as_its_call_and_ends_with_the_reason() {
    let busy = "<Response><Reject reason=\"busy\"/></Response>";
    let nobody = "127.0.0.1:9".parse().unwrap();
    let more = [inline("600", ECHO), inline("601", busy), asks("602", nobody)].concat();
    let server = TestServer::start_with_softphone(&format!("[speech]\ntts = \"off\"\n{more}"), "600").await;
    // The page hangs up: it closes the connection.
    let mut call = Exchange::call(&server, "?from=%2B15550100002").await;
    let answered = call.until(r#""event":"answered""#).await;
    assert!(answered.contains(r#"{"event":"call","id":"CA"#) && answered.contains("a=fingerprint:"), "{answered}");
    let [leg] = &server.api.calls().await[..] else { panic!("one call") };
    assert_eq!((&leg["from"], &leg["to"]), (&"+15550100002".into(), &"600".into()));
    drop(call);
    server.quiet().await;
    // The application refuses.
    let events = Exchange::call(&server, "?to=601&from=alice").await.events().await;
    assert_eq!(names(&events), ["call", "ended"], "{events:?}");
    assert_eq!(events[1]["words"], "The application refused the call: busy.");
    assert_eq!(server.api.calls().await[0]["from"], "client:alice");
    // Nobody answers the request for the document.
    let events = Exchange::call(&server, "?to=602").await.events().await;
    let problem = events.iter().find(|event| event["event"] == "problem").expect("a problem");
    assert!(problem["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{problem}");
    let end = events.last().unwrap();
    assert_eq!((&end["event"], &end["failed"]), (&"ended".into(), &true.into()), "{events:?}");
    assert_eq!(end["words"], "The application sent no usable document, so Tandem hung up.");
    // Nobody has the number.
    let events = Exchange::call(&server, "?to=699").await.events().await;
    assert_eq!(names(&events), ["problem", "ended"], "{events:?}");
    assert_eq!(events[1]["words"], "Tandem refused the call: no application has this number.");
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_calls_and_the_size_of_an_offer_are_limited() {
    let server = TestServer::start_with_softphone(&inline("600", ECHO), "600").await;
    let sdp = ("Content-Type", "application/sdp");
    let large = "x".repeat(65 * 1024);
    let mut exchange = Exchange::begin(&server, "POST /dev/phone/calls", &[sdp], &large).await;
    assert_eq!(exchange.head().await.0, 413);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let mut exchange = Exchange::begin(&server, "POST /dev/phone/calls", &[form], OFFER).await;
    assert_eq!(exchange.head().await.0, 415);
    // An offer that is none.
    let mut exchange = Exchange::begin(&server, "POST /dev/phone/calls", &[sdp], "v=0").await;
    let events = exchange.events().await;
    assert_eq!(events.last().unwrap()["failed"], true, "{events:?}");
    let mut calls = Vec::new();
    for _ in 0..8 {
        let mut call = Exchange::call(&server, "").await;
        call.until(r#""event":"answered""#).await;
        calls.push(call);
    }
    let mut refused = Exchange::call(&server, "").await;
    assert_eq!(refused.head().await.0, 503);
    refused.until("Hang up one of them").await;
    calls.clear();
    server.quiet().await;
    let mut call = Exchange::call(&server, "").await;
    call.until(r#""event":"answered""#).await;
    // The server ends: the page learns why.
    let end = tokio::spawn(server.end());
    let events = call.events().await;
    assert_eq!(events.last().unwrap()["words"], "`tandem dev` was stopped.", "{events:?}");
    end.await.unwrap();
}
