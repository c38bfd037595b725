//! The WebSocket `/signal` of a page.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use serde_json::{Value, json};
use tandem_call::header_fields::HeaderFields;
use tandem_causes::Cause;
use tandem_clients::User;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_leg::signal::{Caller, Identity, IncomingCall};
use tandem_operations::messages::CallMessages;
use tandem_pages::socket;
use tandem_pages::{CalledBy, Lines, MAX_WAITING, NewLine, Page, PageOffer, PageSpec, printable};
use tandem_runtime::app::App;
use tandem_runtime::reporting::ProblemOwner;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::super::rest::user_defined_messages;
use super::frame::{self, FromPage};
use super::protocol::{self, Signal};
use super::token::{self, Grant};

/// Maximum size of the parameters of a call, in octets.
const MAX_PARAMETERS: usize = 4096;
/// Maximum size of a user-defined message, in octets.
const MAX_MESSAGE: usize = 10 * 1024;

/// `GET /signal`: opens the WebSocket of a page.
pub(super) async fn open(
    State(app): State<App>,
    Extension(lines): Extension<Lines>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade.max_message_size(socket::MAX_FRAME).on_upgrade(async move |socket| {
        let (out, waiting) = mpsc::channel(MAX_WAITING);
        socket::serve(socket, Session { app, lines, peer, out, login: None }, waiting, None).await;
    })
}

/// The state of a socket.
struct Session {
    app: App,
    lines: Lines,
    peer: SocketAddr,
    out: mpsc::Sender<String>,
    /// The page and its token, after the first valid token.
    login: Option<Login>,
}

struct Login {
    page: Arc<Page>,
    grant: Grant,
    /// The id of the page's contact, while calls ring at the page.
    contact: Option<u128>,
    expiry: Pin<Box<Sleep>>,
    is_expired: bool,
}

impl socket::Session for Session {
    async fn handle(&mut self, text: &str) {
        let Some(frame) = frame::read(text) else {
            return self.send(frame::error(31_100, "the frame is malformed"));
        };
        match frame {
            FromPage::Heartbeat => return,
            FromPage::Unknown(kind) => return tracing::debug!(peer = %self.peer, kind, "unknown frame of a page"),
            FromPage::Listen { token } => return self.listen(&token),
            _ => {}
        }
        let Some(login) = &mut self.login else {
            return self.send(frame::error(31_204, "the first frame must be listen, with a valid token"));
        };
        let page = Arc::clone(&login.page);
        match frame {
            FromPage::Register { audio } => self.register(audio),
            FromPage::Invite { id, sdp, parameters } => self.call(&page, id, sdp, parameters),
            FromPage::Resume { id, sdp, reconnect } => self.resume(&page, &id, sdp, &reconnect),
            FromPage::Message { id, event, content } => self.message(&page, &id, &event, &content).await,
            FromPage::Answer { id, sdp } => page.line(&id).iter().for_each(|line| line.answered(sdp.clone())),
            FromPage::Reinvite { id, sdp } => {
                if let Some(line) = page.line(&id) {
                    line.offered(sdp, PageOffer::Restart(Value::Null));
                }
            }
            FromPage::Hangup { id } | FromPage::Reject { id } => page.line(&id).iter().for_each(|line| line.left()),
            FromPage::Digits { id, digits } => page.line(&id).iter().for_each(|line| line.pressed(&digits)),
            FromPage::Heartbeat | FromPage::Unknown(_) | FromPage::Listen { .. } => {}
        }
    }

    async fn wait(&mut self) -> bool {
        let Some(Login { page, expiry, is_expired, .. }) = &mut self.login else { return std::future::pending().await };
        tokio::select! {
            () = expiry.as_mut(), if !*is_expired => {}
            () = page.overflows() => return false,
        }
        self.expire();
        true
    }

    fn heartbeat(&mut self) -> Option<String> {
        Some(frame::HEARTBEAT.to_owned())
    }

    fn is_known(&self) -> bool {
        self.login.is_some()
    }

    fn end(mut self) {
        self.withdraw();
        if let Some(login) = &self.login {
            login.page.lose();
        }
    }
}

impl Session {
    fn send(&self, frame: String) {
        // A page that reads nothing is detected by its silence.
        let _ = self.out.try_send(frame);
    }

    fn listen(&mut self, token: &str) {
        let now = clock::time();
        let grant = match token::verify(&self.app.accounts, token, now) {
            Ok(grant) => grant,
            Err(token::Refused { code, why, account }) => {
                let text = format!("access token of a page at {} refused with {code}: {why}", self.peer);
                let owner = account.as_ref().map_or(ProblemOwner::Server, ProblemOwner::Account);
                self.app.calls.services().report(owner, now, Problem::new(Cause::AccessToken, text));
                return self.send(frame::error(code, &why));
            }
        };
        let user = User { account: grant.account.name.clone(), name: Arc::clone(&grant.identity), domain: None };
        if self.login.as_ref().is_some_and(|login| *login.page.user() != user) {
            return self.send(frame::error(31_204, "a new token must have the same account and identity"));
        }
        let life = Duration::try_from(grant.expires.duration_since(now)).unwrap_or_default();
        let (identity, ttl) = (Arc::clone(&grant.identity), life.as_secs());
        let expiry = Box::pin(tokio::time::sleep(life));
        let (page, contact) = match self.login.take() {
            Some(login) => (login.page, login.contact),
            None => {
                let (calls, lines, out) = (self.app.calls.clone(), self.lines.clone(), self.out.clone());
                let protocol = Arc::new(Signal { account_sid: grant.account_sid.clone() });
                let id_of = protocol::id_of;
                (Page::new(PageSpec { calls, lines, protocol, id_of, session: "".into(), user, out }), None)
            }
        };
        let may_receive = grant.may_receive;
        self.login = Some(Login { page, grant, contact, expiry, is_expired: false });
        if !may_receive {
            self.withdraw();
        }
        let token = json!({ "identity": identity, "ttl": ttl });
        let payload = json!({ "region": "us1", "edge": "roaming", "home": "us1", "token": token });
        self.send(frame::write("connected", &payload));
    }

    /// The page repeats `register` every 30 s.
    fn register(&mut self, audio: bool) {
        if !audio {
            self.withdraw();
            return self.send(frame::write("offline", &json!({})));
        }
        let Some(login) = &mut self.login else { return };
        if login.contact.is_none() && login.grant.may_receive && !login.is_expired {
            let contact = rand::random();
            if !self.app.calls.connect_page(login.page.user(), contact, login.page.clone()) {
                return self.send(frame::error(31_206, "the identity has too many pages"));
            }
            login.contact = Some(contact);
            for line in self.lines.of_user(login.page.user()) {
                line.ring_again(&login.page);
            }
        }
        self.send(frame::write("ready", &json!({})));
    }

    /// Ends the reachability of the page.
    fn withdraw(&mut self) {
        if let Some(login) = &mut self.login
            && let Some(contact) = login.contact.take()
        {
            self.app.calls.disconnect_page(login.page.user(), contact);
        }
    }

    fn call(&self, page: &Arc<Page>, id: String, sdp: String, called: Vec<(String, String)>) {
        let Some(Login { grant, is_expired, .. }) = &self.login else { return };
        let refuse = |code: u32, message: &str| {
            let payload = json!({ "callsid": id, "error": { "code": code, "message": message } });
            self.send(frame::write("hangup", &payload));
        };
        if *is_expired {
            return refuse(token::EXPIRED, "the token has expired");
        }
        if !page.has_room() {
            return refuse(31_486, "the page has too many calls");
        }
        let size: usize = called.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > MAX_PARAMETERS {
            return refuse(31_103, "the parameters of the call are too long");
        }
        let to = called.iter().find(|(name, _)| name == "To").map(|(_, value)| printable(value)).unwrap_or_default();
        // The application has signed the values of the token.
        let own = called.into_iter().filter(|(name, _)| !grant.parameters.iter().any(|(signed, _)| signed == name));
        let parameters = own.chain(grant.parameters.iter().cloned()).filter(|(name, _)| name != "To").collect();
        let leg = LegId::new(clock::time(), &mut rand::rng());
        let line = page.new_line(NewLine {
            called_by: CalledBy::Page,
            leg,
            signals: leg,
            id: protocol::id_of(leg, leg),
            page_id: Some(id.clone()),
            sdp: Some(sdp.clone()),
        });
        page.send(protocol::sid_of_call(line.facts()));
        let from = format!("client:{}", grant.identity);
        let incoming = IncomingCall {
            line: format!("invite {from} -> {to}"),
            request_uri: to.clone(),
            to_uri: to.clone(),
            from_uri: from,
            from_user: grant.identity.to_string(),
            from_display: None,
            to_user: to,
            signalling_id: id,
            source: self.peer,
            transport: "WSS",
            is_secure: true,
            trunk: None,
            caller: Some(Caller {
                account: grant.account.name.clone(),
                identity: Identity::Token { name: Arc::clone(&grant.identity), application: grant.application.clone() },
            }),
            headers: HeaderFields::new(),
            parameters,
            offer: Some(sdp.into()),
            replaces: None,
            dialog: None,
        };
        self.app.calls.call_of_page(leg, line, incoming);
    }

    /// A page takes up a call. Only a page of the same user may do so.
    fn resume(&self, page: &Arc<Page>, id: &str, sdp: String, reconnect: &str) {
        match self.lines.find(reconnect).filter(|line| line.user() == page.user()) {
            Some(line) => line.resume(page, sdp),
            None => {
                let error = json!({ "code": 31_209, "message": "the call has ended" });
                self.send(frame::write("hangup", &json!({ "callsid": id, "error": error })));
            }
        }
    }

    /// Passes a message of the page on to the subscribers of the call's messages.
    async fn message(&self, page: &Page, id: &str, event: &str, content: &Value) {
        let refuse = |code: u32, message: &str| {
            let error = json!({ "code": code, "message": message });
            self.send(frame::write("error", &json!({ "callsid": id, "voiceeventsid": event, "error": error })));
        };
        let (Some(line), Some(login)) = (page.line(id), &self.login) else {
            return refuse(31_210, "the page has no such call");
        };
        if content.to_string().len() > MAX_MESSAGE {
            return refuse(31_212, "the message is longer than 10 KiB");
        }
        let account = &page.user().account;
        let sent = match CallMessages::of(&self.app.calls, account, line.facts().leg).await {
            Ok(call) => {
                let of = (login.grant.account_sid.as_str(), line.facts().id.as_str());
                user_defined_messages::pass_on(&call, of, &content.to_string()).await.is_ok()
            }
            Err(_) => false,
        };
        match sent {
            true => {
                let ack = json!({ "acktype": "message", "callsid": id, "voiceeventsid": event });
                self.send(frame::write("ack", &ack));
            }
            false => refuse(31_210, "the call takes no messages"),
        }
    }

    /// No call rings at the page any more. Its live calls continue.
    fn expire(&mut self) {
        self.withdraw();
        if let Some(login) = &mut self.login {
            login.is_expired = true;
        }
        self.send(frame::error(token::EXPIRED, "the token has expired"));
    }
}
