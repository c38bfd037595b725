//! The WebSocket of a page.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tandem_call::address::Address;
use tandem_causes::Cause;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_leg::signal::Identity;
use tandem_pages::socket::{self, Outbox};
use tandem_pages::verto::{Handled, Invite, Verto, error, handle};
use tandem_pages::{Page, PageCall, PageSpec, Presence};
use tandem_runtime::app::App;

use super::Sessions;
use super::envelope::{PREFIX, Plain};
use super::login::{self, LoggedIn, NoLogin, Refused};
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
pub async fn serve(socket: WebSocket, app: App, sessions: Sessions, peer: SocketAddr, first: String) {
    let protocol = Arc::new(Verto(Plain::new(app.calls.clone())));
    let session = |out| Session { app, sessions, peer, out, protocol, login: None, heartbeats: 0 };
    socket::serve(socket, Some(first), session).await;
}

/// The state of a socket.
struct Session {
    app: App,
    sessions: Sessions,
    peer: SocketAddr,
    out: Outbox,
    protocol: Arc<Verto<Plain>>,
    login: Option<Login>,
    heartbeats: u32,
}

struct Login {
    presence: Presence,
    /// The id of the page's session, which survives the socket.
    session: Arc<str>,
    /// Whether the page has said that it comes back after a lost socket.
    reconnects: bool,
}

impl socket::Session for Session {
    async fn handle(&mut self, text: &str) {
        // The rest of a speed test, and reports of the SDK about itself, are no requests.
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let member = |name: &str| frame.get(name).unwrap_or(&Value::Null);
        let (id, params) = (member("id"), member("params"));
        let Some(method) = member("method").as_str() else {
            if !id.is_null() && member("type").is_string() {
                self.out.send(self.protocol.0.result(id, &json!({})));
            }
            self.login.iter().for_each(|login| login.presence.page().confirmed(id));
            return;
        };
        match method.strip_prefix(PREFIX).unwrap_or(method) {
            "login" => self.log_in(id, params).await,
            "anonymous_login" => self.out.send(error(id, LOGIN_FAILED, "this server has no anonymous logins")),
            method => self.request(id, method, params),
        }
    }

    async fn wait(&mut self) {
        match &mut self.login {
            Some(login) => login.presence.expires().await,
            None => pending().await,
        }
    }

    fn heartbeat(&mut self) -> Option<String> {
        self.heartbeats += 1;
        let is_due = self.login.is_some() && self.heartbeats.is_multiple_of(HEARTBEATS);
        is_due.then(|| self.protocol.0.of_server(rand::random(), "ping", &json!({})))
    }

    fn is_known(&self) -> bool {
        self.login.is_some()
    }
}

impl Session {
    async fn log_in(&mut self, id: &Value, params: &Value) {
        let now = clock::time();
        let (source, at) = (self.peer.ip(), clock::now().instant);
        if self.sessions.guard.is_banned(source, at) {
            return self.out.send(error(
                id,
                LOGIN_FAILED,
                "too many wrong passwords from this address: try again in a minute",
            ));
        }
        let LoggedIn { user, expires } = match login::verify(&self.app, params, now).await {
            Ok(logged_in) => logged_in,
            // Without an answer, the socket is closed after some seconds, and the page tries again.
            Err(NoLogin::Failed(error)) => return tracing::error!(%error, "the login of a page failed"),
            Err(NoLogin::Refused(Refused { why, account })) => {
                self.sessions.guard.refused(source, at);
                let text = format!("login of a page at {} refused: {why}", self.peer);
                let cause =
                    if params["login_token"].is_string() { Cause::AccessToken } else { Cause::WrongSipPassword };
                self.app.calls.services().report(account.as_ref(), now, Problem::new(cause, text));
                tokio::time::sleep(REFUSAL_DELAY).await;
                return self.out.send(error(id, LOGIN_FAILED, &why));
            }
        };
        // A second login renews the token.
        if let Some(login) = &mut self.login {
            let is_same = *login.presence.page().user() == user;
            if is_same {
                login.presence.renew(expires);
            }
            let logged_in = json!({ "message": "logged in", "sessid": login.session });
            return self.out.send(match is_same {
                true => self.protocol.0.result(id, &logged_in),
                false => error(id, LOGIN_FAILED, "a new login must be of the same user"),
            });
        }
        let known = params["sessid"].as_str().filter(|text| (1..=64).contains(&text.len()));
        let session: Arc<str> = known.map_or_else(|| id::uuid_v4(rand::random()).into(), Into::into);
        let page = Page::new(PageSpec {
            calls: self.app.calls.clone(),
            lines: self.sessions.lines.clone(),
            protocol: self.protocol.clone(),
            id_of,
            session: Arc::clone(&session),
            user,
            out: self.out.clone(),
        });
        let mut presence = Presence::new(Arc::clone(&page), expires);
        if !presence.connect() {
            return self.out.send(error(id, LOGIN_FAILED, "the user has too many pages"));
        }
        let reconnects = params["reconnection"] == json!(true);
        self.out.send(self.protocol.0.result(id, &json!({ "message": "logged in", "sessid": session })));
        page.send_ends_again();
        let lost: Vec<String> = page.lost_calls(reconnects).iter().map(|line| line.facts().id.clone()).collect();
        let ready = json!({ "reattached_sessions": lost });
        self.out.send(self.protocol.0.of_server(rand::random(), "clientReady", &ready));
        self.login = Some(Login { presence, session, reconnects });
    }

    fn request(&self, id: &Value, method: &str, params: &Value) {
        let Some(Login { presence, session, reconnects }) = &self.login else {
            return self.out.send(error(id, LOGIN_NEEDED, "Authentication required"));
        };
        let page = presence.page();
        if method == "gatewayState" {
            let state = json!({ "params": { "state": "REGED" }, "sessid": session });
            self.out.send(self.protocol.0.result(id, &state));
            // Now the page takes up its calls.
            page.lost_calls(*reconnects).iter().for_each(|line| line.attach(page));
            return page.ring_again();
        }
        match handle(page, id, method, params) {
            Handled::Result(mut of_request) => {
                if let Some(fields) = of_request.as_object_mut() {
                    fields.insert("sessid".into(), Value::from(&**session));
                }
                self.out.send(self.protocol.0.result(id, &of_request));
            }
            Handled::Later => {}
            Handled::Invite(invite) => self.call(presence, session, id, *invite),
            Handled::Unknown if id.is_null() => {}
            Handled::Unknown => self.out.send(self.protocol.0.result(id, &json!({}))),
        }
    }

    fn call(&self, presence: &Presence, session: &str, id: &Value, invite: Invite) {
        let page = presence.page();
        if presence.is_expired() {
            return self.out.send(error(id, LOGIN_NEEDED, "the token has expired"));
        }
        if invite.client_state.as_ref().is_some_and(|state| STANDARD.decode(state).is_err()) {
            return self.out.send(error(id, -32_602, "clientState must be base64"));
        }
        if invite.id.is_empty() || !page.has_room() || page.line(&invite.id).is_some() {
            return self.out.send(error(id, -32_002, "the page has this call already, or too many calls"));
        }
        let created = json!({ "callID": invite.id, "message": "CALL CREATED", "sessid": session });
        self.out.send(self.protocol.0.result(id, &created));
        let realm = self.app.calls.services().routing.load_full().phones().realm().to_owned();
        let uri = |user: &str| format!("sip:{}@{realm}", tandem_sip::escape_user(user));
        let Invite { id, sdp, destination, caller_number, caller_name, headers, client_state, .. } = invite;
        let is_uri = destination.starts_with("sip:") || destination.starts_with("sips:");
        let to_uri = if is_uri { destination.clone() } else { uri(&destination) };
        let name = &page.user().name;
        let from_user = if caller_number.is_empty() { name.to_string() } else { caller_number };
        page.new_call(|_| id.clone(), None, sdp).make(PageCall {
            peer: self.peer,
            transport: "WSS",
            identity: Identity::Sip { username: Some(Arc::clone(name)), domain: None },
            line: format!("invite {name} -> {destination}"),
            from_uri: uri(&from_user),
            from_user,
            from_display: caller_name,
            to_user: Address::from(&*to_uri).user().into_owned(),
            to_uri,
            signalling_id: id,
            headers,
            parameters: Vec::new(),
            client_state,
            route: None,
        });
    }
}

/// Returns the id in frames for a call that rings. Each page of a user gets its own id.
fn id_of(_leg: LegId, branch: LegId) -> String {
    id::uuid(branch.0)
}
