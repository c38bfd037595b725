//! Web pages with the SDKs of providers, and programs that only pretend to be such pages: frames written by hand. The
//! published SDKs are tested in `tests/sdk/test_browser_*.py`.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tandem_test_support::wait_until;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::log::PATIENCE;
use crate::phone::Phone;
use crate::test_server::{Api, TestServer, inline};

pub(crate) const USERS: &str = "[[endpoints]]\naccount = \"acme\"\nusername = \"alice\"\npassword = \"of alice\"\n\
                     [[endpoints]]\naccount = \"acme\"\nusername = \"bob\"\npassword = \"of bob\"\n";
/// The offer of a browser.
pub(crate) const OFFER: &str = "v=0\r\no=- 7 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
                     m=audio 9 UDP/TLS/RTP/SAVPF 0 126\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtcp-mux\r\na=sendrecv\r\n\
                     a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
                     a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
                     a=rtpmap:0 PCMU/8000\r\na=rtpmap:126 telephone-event/8000\r\n";

/// A WebSocket with frames of JSON.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub(crate) async fn open(api: Api, path: &str) -> Self {
        let stream = TcpStream::connect(api.0).await.unwrap();
        let url = format!("ws://{}{path}", api.0);
        Self(tokio_tungstenite::client_async(url, stream).await.unwrap().0)
    }

    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Frame::text(text.into())).await.unwrap();
    }

    pub(crate) async fn request(&mut self, id: u32, method: &str, params: Value) {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send(request.to_string()).await;
    }

    /// Waits for a frame with this property. `None` means that the socket was closed.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let found = async {
            while let Some(Ok(frame)) = self.0.next().await {
                let Frame::Text(text) = frame else { continue };
                let json = serde_json::from_str(&text).unwrap_or(Value::Null);
                if wanted(&json) {
                    return Some(json);
                }
            }
            None
        };
        tokio::time::timeout(PATIENCE * 2, found).await.expect("a frame in time")
    }

    async fn result(&mut self, id: u32) -> Value {
        self.until(|frame| frame["id"] == id && frame["method"].is_null()).await.expect("an answer")
    }

    async fn is_closed(&mut self) -> bool {
        self.until(|_| false).await.is_none()
    }

    /// Logs in as a user, in this session.
    pub(crate) async fn log_in(api: Api, user: &str, session: Option<&str>) -> (Self, Value) {
        let mut socket = Self::open(api, "/").await;
        let params = json!({ "login": user, "passwd": format!("of {user}"), "sessid": session });
        socket.request(1, "login", params).await;
        socket.result(1).await;
        let ready = socket.until(|frame| frame["method"] == "telnyx_rtc.clientReady").await.unwrap();
        (socket, ready["params"]["reattached_sessions"].clone())
    }
}

fn users(more: &str) -> String {
    format!("{USERS}{}{more}", inline("100", "<Response><Echo/></Response>"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_user_of_a_lost_page_can_take_up_its_calls() {
    let server = TestServer::start(&users("")).await;
    let (mut alice, lost) = Socket::log_in(server.api, "alice", Some("the session")).await;
    assert_eq!(lost, json!([]));
    let dialog = json!({ "callID": "the call", "destination_number": "100" });
    alice.request(2, "telnyx_rtc.invite", json!({ "sdp": OFFER, "dialogParams": dialog })).await;
    let answer = alice.until(|frame| frame["method"] == "telnyx_rtc.answer").await.unwrap();
    assert!(answer["params"]["sdp"].as_str().unwrap().contains("a=setup:"), "{answer}");
    drop(alice);
    // A page that knows the names of the session and of the call, but has another user.
    let (mut bob, lost) = Socket::log_in(server.api, "bob", Some("the session")).await;
    assert_eq!(lost, json!([]));
    for (id, method) in (2..).zip(["bye", "answer", "attach", "modify", "info"]) {
        let params = json!({ "sdp": OFFER, "dtmf": "1", "action": "hold", "dialogParams": { "callID": "the call" } });
        bob.request(id, &format!("telnyx_rtc.{method}"), params).await;
        bob.result(id).await;
    }
    // The call is still there for its own user.
    let own = async || Socket::log_in(server.api, "alice", Some("the session")).await;
    let mut found = None;
    wait_until(PATIENCE, "the call that waits for its page", async || {
        let (socket, lost) = own().await;
        let is_there = lost == json!(["the call"]);
        if is_there {
            found = Some(socket);
        }
        is_there
    })
    .await;
    let mut alice = found.unwrap();
    alice.request(2, "telnyx_rtc.gatewayState", json!({})).await;
    let attach = alice.until(|frame| frame["method"] == "telnyx_rtc.attach").await.unwrap();
    assert!(attach["params"]["sdp"].as_str().unwrap().contains("a=ice-ufrag:"), "{attach}");
    alice.request(3, "telnyx_rtc.bye", json!({ "dialogParams": { "callID": "the call" } })).await;
    alice.result(3).await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_without_a_login_has_no_effect_and_is_closed() {
    let server = TestServer::start(&users("")).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    // A first frame that no SDK sends.
    let mut socket = Socket::open(server.api, "/").await;
    socket.send("GET / HTTP/1.1").await;
    assert!(socket.is_closed().await);
    // A wrong password.
    let mut socket = Socket::open(server.api, "/").await;
    socket.request(1, "login", json!({ "login": "alice", "passwd": "wrong" })).await;
    assert_eq!(socket.result(1).await["error"]["code"], -32001);
    let dialog = json!({ "callID": "1", "destination_number": "100" });
    socket.request(2, "telnyx_rtc.invite", json!({ "sdp": OFFER, "dialogParams": dialog })).await;
    assert_eq!(socket.result(2).await["error"]["code"], -32000);
    assert!(socket.is_closed().await);
    // A forged token, and calls without a token.
    let mut socket = Socket::open(server.api, "/signal").await;
    socket.send(r#"{"type":"listen","payload":{"token":"e30.e30.e30"}}"#).await;
    let refused = socket.until(|frame| frame["type"] == "error").await.unwrap();
    assert_eq!(refused["payload"]["error"]["code"], 31204);
    socket.send(json!({ "type": "invite", "payload": { "callsid": "TJS1", "sdp": OFFER } }).to_string()).await;
    assert!(socket.until(|frame| frame["type"] == "error").await.is_some());
    assert!(socket.is_closed().await);
    // A frame that is larger than the limit.
    let mut socket = Socket::open(server.api, "/signal").await;
    socket.send(format!("{{\"type\":\"{}\"}}", "x".repeat(100_000))).await;
    assert!(socket.is_closed().await);
    assert_eq!(server.live_legs(), 1, "the phone's call goes on");
    phone.hangup().await;
    server.quiet().await;
    server.end().await;
}
