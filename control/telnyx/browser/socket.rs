//! The WebSocket of a page.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use serde_json::{Value, json};
use tandem_causes::Cause;
use tandem_clients::User;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_leg::signal::{Caller, Identity, IncomingCall};
use tandem_pages::socket;
use tandem_pages::verto::{Handled, Invite, Verto, handle};
use tandem_pages::{CalledBy, Lines, MAX_WAITING, NewLine, Page, PageSpec};
use tandem_runtime::app::App;
use tandem_runtime::reporting::ProblemOwner;
use tokio::sync::mpsc;

use super::envelope::{PREFIX, Plain, error};
use super::login;
use crate::id;

/// JSON-RPC code of a refused login. The SDK does not try again.
const LOGIN_FAILED: i32 = -32_001;
/// JSON-RPC code of a request without a login. The SDK logs in again. It must never answer a login.
const LOGIN_NEEDED: i32 = -32_000;
/// Number of heartbeats of the socket for one ping to the page: one ping in 15 s.
const HEARTBEATS: u32 = 3;
/// Pause before a refused login is answered, against attempts to guess passwords.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);

/// Serves the socket of a page whose first frame was read already.
pub async fn serve(socket: WebSocket, app: App, lines: Lines, peer: SocketAddr, first: String) {
    let (out, waiting) = mpsc::channel(MAX_WAITING);
    let protocol = Arc::new(Verto(Plain::new(app.calls.clone())));
    let session = Session { app, lines, peer, out, protocol, login: None, heartbeats: 0 };
    socket::serve(socket, session, waiting, Some(first)).await;
}

/// The state of a socket.
struct Session {
    app: App,
    lines: Lines,
    peer: SocketAddr,
    out: mpsc::Sender<String>,
    protocol: Arc<Verto<Plain>>,
    login: Option<Login>,
    heartbeats: u32,
}

struct Login {
    page: Arc<Page>,
    /// The id of the page's contact.
    contact: u128,
    /// The id of the page's session, which survives the socket.
    session: Arc<str>,
}

impl socket::Session for Session {
    async fn handle(&mut self, text: &str) {
        // The rest of a speed test, and reports of the SDK about itself, are no requests.
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let member = |name: &str| frame.get(name).unwrap_or(&Value::Null);
        let (id, params) = (member("id"), member("params"));
        let Some(method) = member("method").as_str() else {
            if !id.is_null() && member("type").is_string() {
                self.send(self.protocol.0.result(id, &json!({})));
            }
            return;
        };
        match method.strip_prefix(PREFIX).unwrap_or(method) {
            "login" => self.log_in(id, params).await,
            "anonymous_login" => self.send(error(id, LOGIN_FAILED, "this server has no anonymous logins")),
            method => self.request(id, method, params),
        }
    }

    async fn wait(&mut self) -> bool {
        match &self.login {
            Some(login) => login.page.overflows().await,
            None => std::future::pending().await,
        }
        false
    }

    fn heartbeat(&mut self) -> Option<String> {
        self.heartbeats += 1;
        let is_due = self.login.is_some() && self.heartbeats.is_multiple_of(HEARTBEATS);
        is_due.then(|| self.protocol.0.of_server("ping", &json!({})))
    }

    fn is_known(&self) -> bool {
        self.login.is_some()
    }

    fn end(mut self) {
        if let Some(login) = self.login.take() {
            self.app.calls.disconnect_page(login.page.user(), login.contact);
            login.page.lose();
        }
    }
}

impl Session {
    fn send(&self, frame: String) {
        // A page that reads nothing is detected by its silence.
        let _ = self.out.try_send(frame);
    }

    async fn log_in(&mut self, id: &Value, params: &Value) {
        let now = clock::time();
        let user = match login::verify(&self.app, params, now).await {
            Ok(user) => user,
            Err(login::Refused { why, account }) => {
                let text = format!("login of a page at {} refused: {why}", self.peer);
                let owner = account.as_ref().map_or(ProblemOwner::Server, ProblemOwner::Account);
                let cause =
                    if params["login_token"].is_string() { Cause::AccessToken } else { Cause::WrongSipPassword };
                self.app.calls.services().report(owner, now, Problem::new(cause, text));
                tokio::time::sleep(REFUSAL_DELAY).await;
                return self.send(error(id, LOGIN_FAILED, &why));
            }
        };
        // A second login renews the token.
        if let Some(login) = &self.login {
            let session = &login.session;
            let logged_in = json!({ "message": "logged in", "sessid": session });
            return self.send(match *login.page.user() == user {
                true => self.protocol.0.result(id, &logged_in),
                false => error(id, LOGIN_FAILED, "a new login must be of the same user"),
            });
        }
        let known = params["sessid"].as_str().filter(|text| (1..=64).contains(&text.len()));
        let session: Arc<str> = known.map_or_else(|| id::uuid_v4(rand::random()).into(), Into::into);
        let page = Page::new(PageSpec {
            calls: self.app.calls.clone(),
            lines: self.lines.clone(),
            protocol: self.protocol.clone(),
            id_of,
            session: Arc::clone(&session),
            user: user.clone(),
            out: self.out.clone(),
        });
        let contact = rand::random();
        self.app.calls.connect_page(&user, contact, page.clone());
        self.send(self.protocol.0.result(id, &json!({ "message": "logged in", "sessid": session })));
        self.lines.take_missed(&user, &session).into_iter().for_each(|frame| self.send(frame));
        let lost: Vec<String> = self.lost(&user, &session).map(|line| line.facts().id.clone()).collect();
        self.send(self.protocol.0.of_server("clientReady", &json!({ "reattached_sessions": lost })));
        self.login = Some(Login { page, contact, session });
    }

    /// The calls of a session that wait for the page.
    fn lost(&self, user: &User, session: &str) -> impl Iterator<Item = Arc<tandem_pages::Line>> {
        let lines = self.lines.of_user(user).into_iter();
        lines.filter(move |line| line.session() == session && line.can_be_attached())
    }

    fn request(&self, id: &Value, method: &str, params: &Value) {
        let Some(Login { page, session, .. }) = &self.login else {
            return self.send(error(id, LOGIN_NEEDED, "Authentication required"));
        };
        if method == "gatewayState" {
            let state = json!({ "params": { "state": "REGED" }, "sessid": session });
            self.send(self.protocol.0.result(id, &state));
            // Now the page takes up its calls.
            self.lost(page.user(), session).for_each(|line| line.attach(page));
            return self.lines.of_user(page.user()).iter().for_each(|line| line.ring_again(page));
        }
        match handle(page, id, method, params) {
            Handled::Result(mut of_request) => {
                if let Some(fields) = of_request.as_object_mut() {
                    fields.insert("sessid".into(), Value::from(&**session));
                }
                self.send(self.protocol.0.result(id, &of_request));
            }
            Handled::Later => {}
            Handled::Invite(invite) => self.call(page, session, id, *invite),
            Handled::Unknown if id.is_null() => {}
            Handled::Unknown => self.send(self.protocol.0.result(id, &json!({}))),
        }
    }

    fn call(&self, page: &Arc<Page>, session: &str, id: &Value, invite: Invite) {
        if invite.id.is_empty() || !page.has_room() || page.line(&invite.id).is_some() {
            return self.send(error(id, -32_002, "the page has this call already, or too many calls"));
        }
        let created = json!({ "callID": invite.id, "message": "CALL CREATED", "sessid": session });
        self.send(self.protocol.0.result(id, &created));
        let leg = LegId::new(clock::time(), &mut rand::rng());
        let user = page.user();
        let line = page.new_line(NewLine {
            called_by: CalledBy::Page,
            leg,
            signals: leg,
            id: invite.id.clone(),
            page_id: None,
            sdp: Some(invite.sdp.clone()),
        });
        let realm = self.app.calls.services().routing.load_full().phones().realm().to_owned();
        let uri = |user: &str| format!("sip:{}@{realm}", tandem_sip::escape_user(user));
        let Invite { id, sdp, destination, caller_number, caller_name, headers, .. } = invite;
        let is_uri = destination.starts_with("sip:") || destination.starts_with("sips:");
        let to_uri = if is_uri { destination.clone() } else { uri(&destination) };
        let to_user = tandem_call::address::Address::from(&*to_uri).user().into_owned();
        let from_user = if caller_number.is_empty() { user.name.to_string() } else { caller_number };
        let incoming = IncomingCall {
            line: format!("invite {} -> {destination}", user.name),
            request_uri: to_uri.clone(),
            to_uri,
            from_uri: uri(&from_user),
            from_user,
            from_display: caller_name,
            to_user,
            signalling_id: id,
            source: self.peer,
            transport: "WSS",
            is_secure: true,
            trunk: None,
            caller: Some(Caller {
                account: user.account.clone(),
                identity: Identity::Sip { username: Some(Arc::clone(&user.name)), domain: None },
            }),
            headers,
            parameters: Vec::new(),
            offer: Some(sdp.into()),
            replaces: None,
            dialog: None,
        };
        self.app.calls.call_of_page(leg, line, incoming);
    }
}

/// Returns the id in frames for a call that rings. Each page of a user gets its own id.
fn id_of(_leg: LegId, branch: LegId) -> String {
    id::uuid(branch.0)
}
