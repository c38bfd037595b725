//! The WebSocket of a page.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use serde_json::{Value, json};
use tandem_causes::Cause;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_leg::signal::{Caller, Identity, IncomingCall};
use tandem_pages::socket;
use tandem_pages::verto::{Handled, Invite, Verto, handle};
use tandem_pages::{CalledBy, Line, MAX_WAITING, NewLine, Page, PageSpec};
use tandem_runtime::app::App;
use tandem_runtime::reporting::ProblemOwner;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::Sessions;
use super::envelope::{PREFIX, Plain, error};
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
    let (out, waiting) = mpsc::channel(MAX_WAITING);
    let protocol = Arc::new(Verto(Plain::new(app.calls.clone())));
    let session = Session { app, sessions, peer, out, protocol, login: None, heartbeats: 0 };
    socket::serve(socket, session, waiting, Some(first)).await;
}

/// The state of a socket.
struct Session {
    app: App,
    sessions: Sessions,
    peer: SocketAddr,
    out: mpsc::Sender<String>,
    protocol: Arc<Verto<Plain>>,
    login: Option<Login>,
    heartbeats: u32,
}

struct Login {
    page: Arc<Page>,
    /// The id of the page's contact, while calls ring at the page.
    contact: Option<u128>,
    /// The id of the page's session, which survives the socket.
    session: Arc<str>,
    /// Whether the page has said that it comes back after a lost socket.
    reconnects: bool,
    /// The end of the token's life. `None` after it, and for a login with a password.
    expiry: Option<Pin<Box<Sleep>>>,
    is_expired: bool,
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
        let Some(login) = &mut self.login else { return std::future::pending().await };
        match &mut login.expiry {
            None => {
                login.page.overflows().await;
                return false;
            }
            Some(expiry) => tokio::select! {
                () = expiry.as_mut() => {}
                () = login.page.overflows() => return false,
            },
        }
        (login.expiry, login.is_expired) = (None, true);
        self.withdraw();
        true
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

    /// Ends the reachability of the page.
    fn withdraw(&mut self) {
        if let Some(login) = &mut self.login
            && let Some(contact) = login.contact.take()
        {
            self.app.calls.disconnect_page(login.page.user(), contact);
        }
    }

    async fn log_in(&mut self, id: &Value, params: &Value) {
        let now = clock::time();
        let (source, at) = (self.peer.ip(), clock::now().instant);
        if self.sessions.guard.is_banned(source, at) {
            return self.send(error(
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
                let owner = account.as_ref().map_or(ProblemOwner::Server, ProblemOwner::Account);
                let cause =
                    if params["login_token"].is_string() { Cause::AccessToken } else { Cause::WrongSipPassword };
                self.app.calls.services().report(owner, now, Problem::new(cause, text));
                tokio::time::sleep(REFUSAL_DELAY).await;
                return self.send(error(id, LOGIN_FAILED, &why));
            }
        };
        let life = expires.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        let expiry = life.map(|life| Box::pin(tokio::time::sleep(life)));
        // A second login renews the token.
        if let Some(login) = &mut self.login {
            let is_same = *login.page.user() == user;
            if is_same {
                (login.expiry, login.is_expired) = (expiry, false);
            }
            let logged_in = json!({ "message": "logged in", "sessid": login.session });
            return self.send(match is_same {
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
            user: user.clone(),
            out: self.out.clone(),
        });
        let contact = rand::random();
        if !self.app.calls.connect_page(&user, contact, page.clone()) {
            return self.send(error(id, LOGIN_FAILED, "the user has too many pages"));
        }
        let reconnects = params["reconnection"] == json!(true);
        self.send(self.protocol.0.result(id, &json!({ "message": "logged in", "sessid": session })));
        self.sessions.lines.take_missed(&user, &session).into_iter().for_each(|frame| self.send(frame));
        let lost = self.lost(&page, &session, reconnects).map(|line| line.facts().id.clone());
        let lost: Vec<String> = lost.collect();
        self.send(self.protocol.0.of_server("clientReady", &json!({ "reattached_sessions": lost })));
        let contact = Some(contact);
        self.login = Some(Login { page, contact, session, reconnects, expiry, is_expired: false });
    }

    /// The calls of a session that wait for this page.
    fn lost(&self, page: &Arc<Page>, session: &str, reconnects: bool) -> impl Iterator<Item = Arc<Line>> {
        let lines = self.sessions.lines.of_user(page.user()).into_iter();
        lines.filter(move |line| line.session() == session && line.can_be_taken_by(page, reconnects))
    }

    fn request(&self, id: &Value, method: &str, params: &Value) {
        let Some(Login { page, session, reconnects, .. }) = &self.login else {
            return self.send(error(id, LOGIN_NEEDED, "Authentication required"));
        };
        if method == "gatewayState" {
            let state = json!({ "params": { "state": "REGED" }, "sessid": session });
            self.send(self.protocol.0.result(id, &state));
            // Now the page takes up its calls.
            self.lost(page, session, *reconnects).for_each(|line| line.attach(page));
            return self.sessions.lines.of_user(page.user()).iter().for_each(|line| line.ring_again(page));
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
        if self.login.as_ref().is_some_and(|login| login.is_expired) {
            return self.send(error(id, LOGIN_NEEDED, "the token has expired"));
        }
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
