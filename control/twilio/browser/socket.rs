//! The WebSocket `/signal` of a page.

use std::future::pending;
use std::net::SocketAddr;
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
use tandem_leg::signal::Identity;
use tandem_operations::messages::CallMessages;
use tandem_pages::socket::{self, Outbox};
use tandem_pages::{Lines, Page, PageCall, PageOffer, PageSpec, Presence, printable};
use tandem_runtime::app::App;

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
        socket::serve(socket, None, |out| Session { app, lines, peer, out, login: None }).await;
    })
}

/// The state of a socket.
struct Session {
    app: App,
    lines: Lines,
    peer: SocketAddr,
    out: Outbox,
    /// The page and its token, after the first valid token.
    login: Option<Login>,
}

struct Login {
    presence: Presence,
    grant: Grant,
}

impl socket::Session for Session {
    async fn handle(&mut self, text: &str) {
        let Some(frame) = frame::read(text) else {
            return self.out.send(frame::error(31_100, "the frame is malformed"));
        };
        match frame {
            FromPage::Heartbeat => return,
            FromPage::Unknown(kind) => return tracing::debug!(peer = %self.peer, kind, "unknown frame of a page"),
            FromPage::Listen { token, resumes } => return self.listen(&token, resumes),
            _ => {}
        }
        let Some(login) = &self.login else {
            return self.out.send(frame::error(31_204, "the first frame must be listen, with a valid token"));
        };
        let page = Arc::clone(login.presence.page());
        match frame {
            FromPage::Register { audio } => self.register(audio),
            FromPage::Invite { id, sdp, parameters } => self.call(&page, id, sdp, parameters),
            FromPage::Resume { id, sdp, reconnect } => self.resume(&page, &id, sdp, &reconnect),
            FromPage::Message { id, event, content } => self.message(&page, &id, &event, &content).await,
            FromPage::Answer { id, sdp } => {
                page.line(&id).iter().for_each(|line| line.answered(sdp.clone(), HeaderFields::new()));
            }
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

    async fn wait(&mut self) {
        match &mut self.login {
            Some(login) => login.presence.expires().await,
            None => pending().await,
        }
        self.out.send(frame::error(token::EXPIRED, "the token has expired"));
    }

    fn heartbeat(&mut self) -> Option<String> {
        Some(frame::HEARTBEAT.to_owned())
    }

    fn is_known(&self) -> bool {
        self.login.is_some()
    }
}

impl Session {
    fn listen(&mut self, token: &str, resumes: bool) {
        let now = clock::time();
        let grant = match token::verify(&self.app.accounts, token, now) {
            Ok(grant) => grant,
            Err(token::Refused { code, why, account }) => {
                let text = format!("access token of a page at {} refused with {code}: {why}", self.peer);
                self.app.calls.services().report(account.as_ref(), now, Problem::new(Cause::AccessToken, text));
                return self.out.send(frame::error(code, &why));
            }
        };
        let user = User { account: grant.account.name.clone(), name: Arc::clone(&grant.identity), domain: None };
        if self.login.as_ref().is_some_and(|login| *login.presence.page().user() != user) {
            return self.out.send(frame::error(31_204, "a new token must have the same account and identity"));
        }
        let (identity, expires) = (Arc::clone(&grant.identity), grant.expires);
        let ttl = Duration::try_from(expires.duration_since(now)).unwrap_or_default().as_secs();
        let mut presence = match self.login.take() {
            Some(login) => login.presence,
            None => {
                let (calls, lines, out) = (self.app.calls.clone(), self.lines.clone(), self.out.clone());
                let protocol = Arc::new(Signal { account_sid: grant.account_sid.clone() });
                let id_of = protocol::id_of;
                Presence::new(
                    Page::new(PageSpec { calls, lines, protocol, id_of, session: "".into(), user, out }),
                    None,
                )
            }
        };
        presence.renew(Some(expires));
        if !grant.may_receive {
            presence.withdraw();
        }
        self.login = Some(Login { presence, grant });
        if !resumes && let Some(Login { presence, .. }) = &self.login {
            let page = presence.page();
            page.lost_calls(false).iter().for_each(|line| line.continue_over(page));
        }
        let token = json!({ "identity": identity, "ttl": ttl });
        let payload = json!({ "region": "us1", "edge": "roaming", "home": "us1", "token": token });
        self.out.send(frame::write("connected", &payload));
    }

    /// The page repeats `register` every 30 s.
    fn register(&mut self, audio: bool) {
        let Some(Login { presence, grant }) = &mut self.login else { return };
        if !audio {
            presence.withdraw();
            return self.out.send(frame::write("offline", &json!({})));
        }
        if grant.may_receive && !presence.is_connected() && !presence.is_expired() {
            if !presence.connect() {
                return self.out.send(frame::error(31_206, "the identity has too many pages"));
            }
            presence.page().ring_again();
        }
        self.out.send(frame::write("ready", &json!({})));
    }

    fn call(&self, page: &Arc<Page>, id: String, sdp: String, called: Vec<(String, String)>) {
        let Some(Login { grant, presence }) = &self.login else { return };
        let refuse = |code: u32, message: &str| {
            let payload = json!({ "callsid": id, "error": { "code": code, "message": message } });
            self.out.send(frame::write("hangup", &payload));
        };
        if presence.is_expired() {
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
        let line = page.new_call(|leg| protocol::id_of(leg, leg), Some(id.clone()), sdp);
        page.send(protocol::sid_of_call(line.facts()));
        let (name, from) = (Arc::clone(&grant.identity), format!("client:{}", grant.identity));
        line.make(PageCall {
            peer: self.peer,
            transport: "WSS",
            line: format!("invite {from} -> {to}"),
            from_uri: from,
            from_user: name.to_string(),
            from_display: None,
            to_uri: to.clone(),
            to_user: to,
            identity: Identity::Token { name, application: grant.application.clone() },
            signalling_id: id,
            headers: HeaderFields::new(),
            parameters,
            client_state: None,
            route: None,
        });
    }

    /// A page takes up a call. Only a page of the same user may do so.
    fn resume(&self, page: &Arc<Page>, id: &str, sdp: String, reconnect: &str) {
        match self.lines.find(reconnect).filter(|line| line.user() == page.user()) {
            Some(line) => line.resume(page, sdp),
            None => {
                let error = json!({ "code": 31_209, "message": "the call has ended" });
                self.out.send(frame::write("hangup", &json!({ "callsid": id, "error": error })));
            }
        }
    }

    /// Passes a message of the page on to the subscribers of the call's messages.
    async fn message(&self, page: &Page, id: &str, event: &str, content: &Value) {
        let refuse = |code: u32, message: &str| {
            let error = json!({ "code": code, "message": message });
            self.out.send(frame::write("error", &json!({ "callsid": id, "voiceeventsid": event, "error": error })));
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
                self.out.send(frame::write("ack", &ack));
            }
            false => refuse(31_210, "the call takes no messages"),
        }
    }
}
