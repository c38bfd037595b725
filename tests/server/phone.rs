//! A SIP phone over UDP. The phone has its own SIP code, so that the server is not tested against its own stack. The
//! phone has one call at a time.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::audio::Audio;
use crate::log::PATIENCE;

/// A parsed SIP message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) first: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn parse(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let first = lines.next()?.to_owned();
        let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Some(Self { first, headers: lines.filter_map(header).collect(), body: body.to_owned() })
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.first.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    fn method(&self) -> &str {
        match self.status() {
            Some(_) => self.get("CSeq").split_whitespace().nth(1).unwrap_or(""),
            None => self.first.split(' ').next().unwrap_or(""),
        }
    }

    pub(crate) fn contact(&self) -> String {
        let contact = self.get("Contact");
        contact.split(['<', '>']).nth(1).unwrap_or(contact).to_owned()
    }

    /// The RTP address in the SDP body (`c=` and `m=audio`).
    pub(crate) fn media(&self) -> Option<SocketAddr> {
        let field = |key: &str| self.body.lines().find_map(|line| line.strip_prefix(key));
        let host: IpAddr = field("c=IN IP4 ")?.trim().parse().ok()?;
        Some(SocketAddr::new(host, field("m=audio ")?.split(' ').next()?.parse().ok()?))
    }
}

/// An event that a phone reports to the test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SipEvent {
    /// A response to the phone's INVITE. The number is the status.
    Status(u16),
    /// A response to the phone's BYE. The number is the status.
    Parted(u16),
    /// The phone received an INVITE of the server.
    Invited,
    /// The server acknowledged the phone's answer.
    Acknowledged,
    /// The server cancelled the call before the phone answered.
    Cancelled,
    /// The server hung up.
    Bye,
}

/// A SIP phone. It stops when this value is dropped.
pub(crate) struct Phone {
    pub(crate) address: SocketAddr,
    pub(crate) audio: Arc<Audio>,
    line: Arc<Line>,
    heard: mpsc::UnboundedReceiver<SipEvent>,
    task: AbortHandle,
}

struct Line {
    socket: UdpSocket,
    address: SocketAddr,
    audio: Arc<Audio>,
    /// The codec of payload type 0 in the phone's SDP.
    codec: &'static str,
    dialog: Mutex<Dialog>,
    /// Whether the phone sends no RTP.
    is_dumb: AtomicBool,
}

#[derive(Clone, Default)]
struct Dialog {
    server: Option<SocketAddr>,
    call_id: String,
    /// The phone's own value of From or To, with the phone's tag.
    local: String,
    /// The far end's value of From or To, with the far end's tag if the tag is known.
    remote: String,
    target: String,
    branch: String,
    cseq: u32,
    invited: Option<Message>,
    answered: bool,
}

impl Phone {
    /// Creates a phone on 127.0.0.1.
    pub(crate) async fn new() -> Self {
        Self::at("127.0.0.1").await
    }

    /// Creates a phone on this address.
    pub(crate) async fn at(address: &str) -> Self {
        Self::with("PCMU", address).await
    }

    /// Creates a phone on this address. Its SDP says that payload type 0 has this codec.
    pub(crate) async fn with(codec: &'static str, address: &str) -> Self {
        let ip: IpAddr = address.parse().unwrap();
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let audio = Arc::new(Audio::open(ip));
        let line = Arc::new(Line {
            socket,
            address,
            audio: Arc::clone(&audio),
            codec,
            dialog: Mutex::default(),
            is_dumb: AtomicBool::default(),
        });
        let (says, heard) = mpsc::unbounded_channel();
        let task = tokio::spawn(Arc::clone(&line).run(says)).abort_handle();
        Self { address, audio, line, heard, task }
    }

    /// The SIP URI of the phone.
    pub(crate) fn uri(&self) -> String {
        format!("sip:phone@{}", self.address)
    }

    /// Sends an INVITE for a number of the server. [`Self::hear`] returns the responses.
    pub(crate) async fn invite(&self, server: SocketAddr, number: &str) {
        let tag: u64 = rand::random();
        let target = format!("sip:{number}@{server}");
        let dialog = Dialog {
            server: Some(server),
            call_id: format!("{tag:x}@{}", self.address),
            local: format!("<sip:+15550001111@{}>;tag={tag:x}", self.address.ip()),
            remote: format!("<{target}>"),
            target,
            branch: format!("z9hG4bK{tag:x}"),
            cseq: 1,
            ..Dialog::default()
        };
        *self.line.dialog.lock().unwrap() = dialog.clone();
        self.line.request(&dialog, "INVITE", 1, &dialog.branch, Some(self.line.sdp())).await;
    }

    /// From now on, the phone sends no RTP in its calls.
    pub(crate) fn send_no_audio(&self) {
        self.line.is_dumb.store(true, Ordering::SeqCst);
    }

    /// Calls a number and asserts that the call is answered.
    pub(crate) async fn call(&mut self, server: SocketAddr, number: &str) {
        self.invite(server, number).await;
        assert_eq!(self.outcome().await, 200, "{number}");
    }

    /// Waits for the final response to the phone's INVITE.
    pub(crate) async fn outcome(&mut self) -> u16 {
        loop {
            if let SipEvent::Status(status @ 200..) = self.receive().await {
                return status;
            }
        }
    }

    /// Waits for the next event.
    pub(crate) async fn receive(&mut self) -> SipEvent {
        tokio::time::timeout(PATIENCE, self.heard.recv()).await.expect("nothing is heard").unwrap()
    }

    /// Waits for this event and skips other events.
    pub(crate) async fn until(&mut self, what: SipEvent) {
        while self.receive().await != what {}
    }

    /// Cancels the INVITE before the call is answered.
    pub(crate) async fn cancel(&mut self) {
        let dialog = self.line.dialog();
        self.line.request(&dialog, "CANCEL", 1, &dialog.branch, None).await;
        assert_eq!(self.outcome().await, 487);
    }

    /// Hangs up and waits for the response to the BYE.
    pub(crate) async fn hangup(&mut self) {
        let dialog = {
            let mut dialog = self.line.dialog.lock().unwrap();
            dialog.cseq += 1;
            dialog.clone()
        };
        self.line.request(&dialog, "BYE", dialog.cseq, &branch(), None).await;
        self.until(SipEvent::Parted(200)).await;
    }

    /// Sends 180 Ringing.
    pub(crate) async fn ring(&self) {
        self.line.respond(180, None).await;
    }

    /// Sends 183 Session Progress with SDP.
    pub(crate) async fn progress(&self) {
        let sdp = self.line.sdp();
        self.line.respond(183, Some(sdp)).await;
    }

    /// Lets the called phone ring for this phone's call, and then cancels the call.
    pub(crate) async fn cancel_while_ringing(&mut self, called: &mut Phone) {
        called.until(SipEvent::Invited).await;
        called.ring().await;
        self.until(SipEvent::Status(180)).await;
        self.cancel().await;
        called.until(SipEvent::Cancelled).await;
    }

    /// Refuses the ringing call with this status.
    pub(crate) async fn refuse(&self, status: u16) {
        self.line.respond(status, None).await;
    }

    /// Answers the ringing call and waits for the ACK.
    pub(crate) async fn pick_up(&mut self) {
        let sdp = self.line.sdp();
        self.line.dialog.lock().unwrap().answered = true;
        self.line.respond(200, Some(sdp)).await;
        self.until(SipEvent::Acknowledged).await;
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn branch() -> String {
    format!("z9hG4bK{:x}", rand::random::<u64>())
}

impl Line {
    fn dialog(&self) -> Dialog {
        self.dialog.lock().unwrap().clone()
    }

    fn sdp(&self) -> String {
        let (ip, port, codec) = (self.audio.address.ip(), self.audio.address.port(), self.codec);
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n\
             a=rtpmap:0 {codec}/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
        )
    }

    async fn request(&self, dialog: &Dialog, method: &str, cseq: u32, branch: &str, sdp: Option<String>) {
        let body = sdp.unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={branch};rport\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:phone@{}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            dialog.target,
            self.address,
            dialog.local,
            dialog.remote,
            dialog.call_id,
            self.address,
            body.len(),
        );
        self.socket.send_to(text.as_bytes(), dialog.server.unwrap()).await.unwrap();
    }

    async fn answer(&self, request: &Message, from: SocketAddr, status: u16, to: &str, sdp: Option<String>) {
        let body = sdp.unwrap_or_default();
        let mut text = format!("SIP/2.0 {status} Status\r\n");
        for (name, value) in &request.headers {
            if ["via", "from", "call-id", "cseq", "record-route"].contains(&name.to_lowercase().as_str()) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        text.push_str(&format!(
            "To: {to}\r\nContact: <sip:phone@{}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        ));
        self.socket.send_to(text.as_bytes(), from).await.unwrap();
    }

    /// Responds to the INVITE that the phone received.
    async fn respond(&self, status: u16, sdp: Option<String>) {
        let dialog = self.dialog();
        let invite = dialog.invited.as_ref().expect("a call rings");
        self.answer(invite, dialog.server.unwrap(), status, &dialog.local, sdp).await;
    }

    async fn run(self: Arc<Self>, says: mpsc::UnboundedSender<SipEvent>) {
        let mut datagram = vec![0; 65_536];
        loop {
            let Ok((length, from)) = self.socket.recv_from(&mut datagram).await else { continue };
            let Some(message) = Message::parse(&datagram[..length]) else { continue };
            let heard = match message.status() {
                Some(status) => self.on_response(&message, status).await,
                None => self.on_request(message, from).await,
            };
            if let Some(heard) = heard
                && says.send(heard).is_err()
            {
                return;
            }
        }
    }

    async fn on_response(&self, message: &Message, status: u16) -> Option<SipEvent> {
        match message.method() {
            "INVITE" if status >= 200 => {
                let dialog = {
                    let mut dialog = self.dialog.lock().unwrap();
                    dialog.remote = message.get("To").to_owned();
                    if status < 300 {
                        dialog.target = message.contact();
                    }
                    dialog.clone()
                };
                // The ACK for a refusal belongs to the INVITE transaction. The ACK for a 2xx is a separate transaction
                // (RFC 3261 §17.1.1.3).
                let branch = if status < 300 { branch() } else { dialog.branch.clone() };
                self.request(&dialog, "ACK", 1, &branch, None).await;
                if let (200, Some(remote), false) = (status, message.media(), self.is_dumb.load(Ordering::SeqCst)) {
                    self.audio.connect(remote);
                }
                Some(SipEvent::Status(status))
            }
            "INVITE" => Some(SipEvent::Status(status)),
            "BYE" => Some(SipEvent::Parted(status)),
            _ => None,
        }
    }

    async fn on_request(&self, message: Message, from: SocketAddr) -> Option<SipEvent> {
        let to = message.get("To").to_owned();
        match message.method() {
            "INVITE" => {
                let repeated = {
                    let mut dialog = self.dialog.lock().unwrap();
                    let repeated = dialog.call_id == message.get("Call-ID");
                    if !repeated {
                        *dialog = Dialog {
                            server: Some(from),
                            call_id: message.get("Call-ID").to_owned(),
                            local: format!("{to};tag={:x}", rand::random::<u64>()),
                            remote: message.get("From").to_owned(),
                            target: message.contact(),
                            invited: Some(message.clone()),
                            ..Dialog::default()
                        };
                    }
                    repeated
                };
                if let Some(remote) = message.media()
                    && !repeated
                {
                    self.audio.connect(remote);
                }
                (!repeated).then_some(SipEvent::Invited)
            }
            "ACK" => self.dialog().answered.then_some(SipEvent::Acknowledged),
            "CANCEL" => {
                self.answer(&message, from, 200, &to, None).await;
                self.respond(487, None).await;
                Some(SipEvent::Cancelled)
            }
            "BYE" => {
                self.answer(&message, from, 200, &to, None).await;
                Some(SipEvent::Bye)
            }
            "REFER" => {
                self.answer(&message, from, 501, &to, None).await;
                None
            }
            _ => {
                self.answer(&message, from, 200, &to, None).await;
                None
            }
        }
    }
}
