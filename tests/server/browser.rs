//! Phones in browsers: SIP over the WebSocket at `/sip` (RFC 7118), written by hand. One test also has a desk phone.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use md5::{Digest as _, Md5};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::audio::{Audio, noise};
use crate::bridge::{arrived, through};
use crate::log::PATIENCE;
use crate::phone::{Message, Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, AUTH_TOKEN, TestServer, basic, inline};

const HOST: &str = "browser.invalid";
pub(crate) const ALICE: &str = "[[endpoints]]\naccount = \"acme\"\nusername = \"alice\"\npassword = \"of alice\"\n";

/// Opens a WebSocket at this path with this subprotocol. The error is the HTTP status of the refusal.
async fn open(to: SocketAddr, path: &str, protocol: &str) -> Result<WebSocketStream<TcpStream>, u16> {
    open_through(None, to, path, protocol).await
}

/// Opens a WebSocket as a web proxy on this host does, with this `X-Forwarded-For`.
async fn open_through(
    forwarded_for: Option<&str>,
    to: SocketAddr,
    path: &str,
    protocol: &str,
) -> Result<WebSocketStream<TcpStream>, u16> {
    let mut request = format!("ws://{to}{path}").into_client_request().unwrap();
    if let Some(client) = forwarded_for {
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
    }
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    let stream = TcpStream::connect(to).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["sec-websocket-protocol"], "sip");
            Ok(socket)
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// A SIP client with Alice's credentials: in a browser, or in a desk phone.
pub(crate) struct Browser {
    socket: Socket,
    /// The address in the Via and Contact of the client.
    host: String,
    audio: Arc<Audio>,
    server: SocketAddr,
    cseq: u32,
}

enum Socket {
    Web(Box<WebSocketStream<TcpStream>>),
    Udp(UdpSocket),
}

impl Socket {
    fn transport(&self) -> &'static str {
        if let Self::Web(_) = self { "WS" } else { "UDP" }
    }
}

impl Browser {
    async fn open(server: &TestServer) -> Self {
        Self::open_through(None, server).await
    }

    async fn open_through(forwarded_for: Option<&str>, server: &TestServer) -> Self {
        let socket = open_through(forwarded_for, server.api.0, "/sip", "sip").await.unwrap();
        Self::new(Socket::Web(Box::new(socket)), HOST.to_owned(), server)
    }

    pub(crate) async fn desk_phone(server: &TestServer) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server.udp).await.unwrap();
        let host = socket.local_addr().unwrap().to_string();
        Self::new(Socket::Udp(socket), host, server)
    }

    fn new(socket: Socket, host: String, server: &TestServer) -> Self {
        let audio = Arc::new(Audio::open("127.0.0.1".parse().unwrap()));
        Self { socket, host, audio, server: server.udp, cseq: 0 }
    }

    async fn close(&mut self) {
        let Socket::Web(socket) = &mut self.socket else { panic!("a desk phone has no connection") };
        (**socket).close(None).await.unwrap();
    }

    async fn say(&mut self, text: String) {
        match &mut self.socket {
            Socket::Web(socket) => socket.send(Frame::text(text)).await.unwrap(),
            Socket::Udp(socket) => assert_eq!(socket.send(text.as_bytes()).await.unwrap(), text.len()),
        }
    }

    /// Waits for the next message of the server. `None` if the connection is closed.
    async fn next(&mut self) -> Option<Vec<u8>> {
        match &mut self.socket {
            Socket::Web(socket) => socket.next().await?.ok().map(|frame| frame.into_data().to_vec()),
            Socket::Udp(socket) => {
                let mut datagram = vec![0; 65_536];
                let length = socket.recv(&mut datagram).await.unwrap();
                datagram.truncate(length);
                Some(datagram)
            }
        }
    }

    fn contact(&self) -> String {
        format!("<sip:alice@{};transport={}>", self.host, self.socket.transport().to_lowercase())
    }

    /// Waits for the next matching message and skips other messages.
    pub(crate) async fn receive(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        let heard = async {
            loop {
                let message = Message::parse(&self.next().await.expect("the connection is open"));
                if let Some(message) = message.filter(&fits) {
                    return message;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("in vain: {what}"))
    }

    /// Waits for the next request with this method.
    pub(crate) async fn receive_request(&mut self, method: &str) -> Message {
        self.receive(method, |message| message.first.split(' ').next() == Some(method)).await
    }

    /// Waits for a final response.
    async fn outcome(&mut self) -> Message {
        self.receive("a final response", |message| message.status().is_some_and(|status| status >= 200)).await
    }

    /// Builds a request with these additional header lines and this body. A REGISTER without `Expires` has no Contact,
    /// so it requests the current bindings (RFC 3261 §10.2.3).
    fn request(&mut self, method: &str, uri: &str, to: &str, lines: &str, body: &str) -> String {
        self.cseq += u32::from(method != "ACK");
        let asks = method == "REGISTER" && !lines.contains("Expires");
        let contact = if asks { String::new() } else { format!("Contact: {}\r\n", self.contact()) };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {host};branch=z9hG4bK{branch:x}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@{server}>;tag=browser\r\nTo: {to}\r\nCall-ID: of {host}\r\nCSeq: {cseq} {method}\r\n\
             {contact}{lines}Content-Length: {length}\r\n\r\n{body}",
            transport = self.socket.transport(),
            host = self.host,
            branch = rand::random::<u64>(),
            server = self.server,
            cseq = self.cseq,
            length = body.len(),
        )
    }

    /// Opens another connection.
    async fn reconnect(&mut self, server: &TestServer) {
        self.socket = Socket::Web(Box::new(open(server.api.0, "/sip", "sip").await.unwrap()));
    }

    /// Sends a request, and repeats the request with credentials after the 401. Returns the final response. `password`
    /// is Alice's password or a wrong password.
    async fn ask(&mut self, method: &str, uri: &str, lines: &str, body: &str, password: &str) -> Message {
        self.send(method, uri, lines, body, password).await;
        self.outcome().await
    }

    /// Sends a request, and repeats the request with credentials after the 401.
    async fn send(&mut self, method: &str, uri: &str, lines: &str, body: &str, password: &str) {
        let to = if method == "REGISTER" { format!("<sip:alice@{}>", self.server) } else { format!("<{uri}>") };
        let request = self.request(method, uri, &to, lines, body);
        self.say(request).await;
        let refusal = self.outcome().await;
        assert_eq!(refusal.status(), Some(401));
        let asked = refusal.get("WWW-Authenticate");
        let field = |name: &str| asked.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
        let (realm, nonce) = (field("realm"), field("nonce"));
        let hash = |text: String| Md5::digest(text).iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let (one, two) = (hash(format!("alice:{realm}:{password}")), hash(format!("{method}:{uri}")));
        let response = hash(format!("{one}:{nonce}:00000001:mine:auth:{two}"));
        let authorization = format!(
            "Authorization: Digest username=\"alice\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"mine\"\r\n{lines}"
        );
        let request = self.request(method, uri, &to, &authorization, body);
        self.say(request).await;
    }

    /// Calls a number, and waits until it rings.
    async fn call(&mut self, number: &str, phone: &mut Phone) {
        let (uri, sdp) = (format!("sip:{number}@{}", self.server), self.sdp());
        self.send("INVITE", &uri, "Content-Type: application/sdp\r\n", &sdp, "of alice").await;
        phone.until(SipEvent::Invited).await;
        phone.ring().await;
        self.receive("a ringing response", |message| message.status() == Some(180)).await;
    }

    pub(crate) async fn register(&mut self) {
        let uri = format!("sip:{}", self.server);
        let answer = self.ask("REGISTER", &uri, "Expires: 300\r\n", "", "of alice").await;
        assert_eq!(answer.status(), Some(200));
        // The answer has the contacts of all clients of the user.
        assert!(format!("{answer:?}").contains(&self.contact()), "{answer:?}");
    }

    fn sdp(&self) -> String {
        let (ip, port) = (self.audio.address.ip(), self.audio.address.port());
        format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n")
    }

    /// Waits for the BYE of the server, and answers it.
    async fn answer_bye(&mut self) {
        let bye = self.receive_request("BYE").await;
        self.answer(&bye, 200, "").await;
    }

    /// Answers a request.
    pub(crate) async fn answer(&mut self, request: &Message, status: u16, body: &str) {
        let mut lines = String::new();
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            lines.push_str(&format!("{name}: {}\r\n", request.get(name)));
        }
        let to = request.get("To");
        let tag = if to.contains(";tag=") { "" } else { ";tag=answers" };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status} Status\r\n{lines}To: {to}{tag}\r\nContact: {}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            self.contact(),
            body.len()
        );
        self.say(text).await;
    }
}

/// Asserts that the browser and the phone each receive one second of the other's audio without loss.
async fn assert_hear_each_other(browser: &Browser, phone: &Phone) {
    for (from, to) in [(&browser.audio, &phone.audio), (&phone.audio, &browser.audio)] {
        to.heard().reach(5, "RTP").await;
        let sent = noise(1_000, 7);
        from.say(&sent);
        let last = crate::audio::encode(&sent)[sent.len() - crate::audio::FRAME..].to_vec();
        to.heard().find("the last word", |packet| packet.payload == last).await;
        assert_eq!(arrived(&sent, &to.heard().all()), (0..50).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_registers_and_calls_a_phone_until_its_websocket_closes() {
    let mut phone = Phone::new().await;
    let server = TestServer::start(&(ALICE.to_owned() + &through("700", &phone, "off"))).await;
    assert_eq!(open(server.api.0, "/sip", "chat").await.err(), Some(400));
    let mut browser = Browser::open(&server).await;
    let registrar = format!("sip:{}", server.udp);
    let guess = browser.ask("REGISTER", &registrar, "Expires: 300\r\n", "", "a guess").await;
    assert_eq!(guess.status(), Some(403));
    browser.register().await;

    let uri = format!("sip:700@{}", server.udp);
    let sdp = browser.sdp();
    let (answer, ()) =
        tokio::join!(browser.ask("INVITE", &uri, "Content-Type: application/sdp\r\n", &sdp, "of alice"), async {
            phone.until(SipEvent::Invited).await;
            phone.ring().await;
            phone.pick_up().await;
        });
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    let (to, contact) = (answer.get("To").to_owned(), answer.contact());
    assert!(contact.contains("transport=ws"), "{contact}");
    let ack = browser.request("ACK", &contact, &to, "", "");
    browser.say(ack).await;
    browser.audio.connect(answer.media().unwrap());
    assert_hear_each_other(&browser, &phone).await;
    let bye = browser.request("BYE", &contact, &to, "", "");
    browser.say(bye).await;
    assert_eq!(browser.outcome().await.status(), Some(200));
    phone.until(SipEvent::Bye).await;
    server.quiet().await;

    browser.close().await;
    let gone = async {
        // A second browser requests the bindings until the server has noticed the closed WebSocket.
        let mut other = Browser::open(&server).await;
        while !other.ask("REGISTER", &registrar, "", "", "of alice").await.get("Contact").is_empty() {}
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the registration goes");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_connects_again_while_its_call_rings_gets_the_answer_over_the_new_websocket() {
    let mut phone = Phone::new().await;
    let server = TestServer::start(&(ALICE.to_owned() + &through("700", &phone, "off"))).await;
    let mut browser = Browser::open(&server).await;
    browser.register().await;
    browser.call("700", &mut phone).await;
    browser.close().await;
    let cseq = browser.cseq;
    browser.reconnect(&server).await;
    browser.register().await;
    phone.pick_up().await;
    let answer = browser.outcome().await;
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    let (to, contact) = (answer.get("To").to_owned(), answer.contact());
    browser.cseq = cseq;
    let ack = browser.request("ACK", &contact, &to, "", "");
    browser.say(ack).await;
    browser.audio.connect(answer.media().unwrap());
    assert_hear_each_other(&browser, &phone).await;
    phone.hangup().await;
    browser.answer_bye().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_browser_is_lost_while_it_rings_is_cancelled_and_its_story_says_why() {
    let mut phone = Phone::new().await;
    let server = TestServer::start(&(ALICE.to_owned() + &through("700", &phone, "off"))).await;
    let mut browser = Browser::open(&server).await;
    browser.register().await;
    browser.call("700", &mut phone).await;
    browser.close().await;
    phone.until(SipEvent::Cancelled).await;
    server.quiet().await;
    let story = server.api.get("/console/calls/last").await.json().to_string();
    assert!(story.contains("its WebSocket was lost") && story.contains("must connect and register again"), "{story}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_calls_a_phone_with_plain_rtp_over_its_websocket() {
    let server = TestServer::start(
        &(ALICE.to_owned()
            + "webrtc = false\n"
            + &inline("600", "<Response><Dial><Client>alice</Client></Dial></Response>")),
    )
    .await;
    let mut phone = Phone::new().await;
    let mut browser = Browser::open(&server).await;
    browser.register().await;
    phone.invite(server.udp, "600").await;
    let invite = browser.receive_request("INVITE").await;
    assert!(invite.first.contains(HOST), "{}", invite.first);
    assert!(invite.get("Via").starts_with("SIP/2.0/WS "), "{invite:?}");
    browser.answer(&invite, 180, "").await;
    let sdp = browser.sdp();
    browser.answer(&invite, 200, &sdp).await;
    browser.receive_request("ACK").await;
    assert_eq!(phone.outcome().await, 200);
    browser.audio.connect(invite.media().unwrap());
    assert_hear_each_other(&browser, &phone).await;
    phone.hangup().await;
    browser.answer_bye().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_desk_phone_and_a_browser_of_one_user_ring_together_and_each_has_its_own_offer() {
    let dial = "<Response><Dial><Client>alice</Client></Dial></Response>";
    let server = TestServer::start(&(ALICE.to_owned() + &inline("600", dial))).await;
    let mut caller = Phone::new().await;
    let (mut desk, mut browser) = (Browser::desk_phone(&server).await, Browser::open(&server).await);
    desk.register().await;
    browser.register().await;
    caller.invite(server.udp, "600").await;
    let [invite, cancelled] = [desk.receive_request("INVITE").await, browser.receive_request("INVITE").await];
    assert_ne!(invite.media().unwrap().port(), cancelled.media().unwrap().port(), "each kind has its own session");
    assert!(invite.body.contains(" RTP/AVP ") && !invite.body.contains("a=fingerprint"), "{invite:?}");
    assert!(
        cancelled.body.contains(" UDP/TLS/RTP/SAVPF ") && cancelled.body.contains("a=fingerprint"),
        "{cancelled:?}"
    );
    browser.answer(&cancelled, 180, "").await;
    let sdp = desk.sdp();
    desk.answer(&invite, 200, &sdp).await;
    desk.receive_request("ACK").await;
    assert_eq!(caller.outcome().await, 200);
    let cancel = browser.receive_request("CANCEL").await;
    assert!(cancel.get("Reason").contains("cause=200"), "{cancel:?}");
    browser.answer(&cancel, 200, "").await;
    browser.answer(&cancelled, 487, "").await;
    desk.audio.connect(invite.media().unwrap());
    assert_hear_each_other(&desk, &caller).await;
    caller.hangup().await;
    desk.answer_bye().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_guesses_behind_a_web_proxy_ban_only_their_client() {
    let server = TestServer::start(ALICE).await;
    let registrar = format!("sip:{}", server.udp);
    assert_eq!(open_through(Some("unknown"), server.api.0, "/sip", "sip").await.err(), Some(400));
    let mut attacker = Browser::open_through(Some("198.51.100.1, 203.0.113.66"), &server).await;
    for _ in 0..10 {
        let answer = attacker.ask("REGISTER", &registrar, "Expires: 300\r\n", "", "a guess").await;
        assert_eq!(answer.status(), Some(403));
    }
    let again = attacker.request("REGISTER", &registrar, &format!("<{registrar}>"), "Expires: 300\r\n", "");
    attacker.say(again).await;
    let closed = async { while attacker.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("the connection of the banned client closes");
    for client in [Some("203.0.113.67"), None] {
        Browser::open_through(client, &server).await.register().await;
    }
    let bans = server.api.get("/console/sip/bans").await.json().to_string();
    assert!(bans.contains("203.0.113.66") && !bans.contains("127.0.0.1") && !bans.contains("198.51.100.1"), "{bans}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_cannot_take_the_domain_or_username_of_existing_phones() {
    const OTHER: &str = "AC00000000000000000000000000000002";
    const PROJECT: &str = "00000000-0000-4000-8000-000000000002";
    let other = format!(
        "[[accounts]]\nname = \"other\"\ntwilio = {{ account_sid = \"{OTHER}\", auth_token = \"theirs\" }}\n\
         signalwire = {{ project_id = \"{PROJECT}\", api_token = \"PT2\", signing_key = \"PSK_2\" }}\n\
         [[trunks]]\nname = \"carrier\"\naccount = \"acme\"\nuri = \"sip:sip.carrier.example:5070\"\n"
    );
    let server = TestServer::start(&(ALICE.to_owned() + &other)).await;
    let mut browser = Browser::open(&server).await;
    let at = "sip:voice.operator.example";
    let answer = browser.ask("REGISTER", at, "Expires: 300\r\n", "", "of alice").await;
    assert_eq!(answer.status(), Some(200));
    let domain = async |name: &str, sid: &str, token: &str| {
        let path = format!("/2010-04-01/Accounts/{sid}/SIP/Domains.json");
        let body = format!("DomainName={name}");
        server.api.request("POST", &path, &basic(sid, token), "application/x-www-form-urlencoded", &body).await.status
    };
    for name in ["voice.operator.example", "VOICE.operator.example", "sip.carrier.example"] {
        assert_eq!(domain(name, OTHER, "theirs").await, 400, "{name}");
    }
    assert_eq!(domain("other.operator.example", OTHER, "theirs").await, 201);
    assert_eq!(domain("voice.operator.example", ACCOUNT_SID, AUTH_TOKEN).await, 201, "the account of the phones");
    let endpoint = async |name: &str| {
        let body = serde_json::json!({ "username": name, "password": "of alice" }).to_string();
        let (path, key) = ("/api/relay/rest/endpoints/sip", basic(PROJECT, "PT2"));
        server.api.request("POST", path, &key, "application/json", &body).await.status
    };
    assert_eq!((endpoint("alice").await, endpoint("ALICE").await), (422, 422));
    assert_eq!(endpoint("mallory").await, 201);
    server.end().await;
}
