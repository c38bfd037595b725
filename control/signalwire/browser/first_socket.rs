//! The WebSocket of a page with the SDK 1.x. The class `Relay` logs in with a token, and the class `Verto` with the password
//! of a SIP user.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use serde_json::{Value, json};
use tandem_call::address::Address;
use tandem_causes::Cause;
use tandem_clients::User;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_host::hash;
use tandem_id::{AccountName, LegId, uuid};
use tandem_leg::signal::Identity;
use tandem_pages::socket::{self, Outbox};
use tandem_pages::verto::{Handled, Invite, Verto, error, handle};
use tandem_pages::{Line, Lines, Page, PageCall, PageSpec, Presence, printable};
use tandem_runtime::app::App;
use tokio::time::Sleep;

use super::Sessions;
use super::envelope::{both_ids, result};
use super::first_envelope::{Frames, executed};
use super::socket::called;
use super::token::{self, Claims, Kind};

/// Code of a refused login with a token.
const REFUSED: i32 = -32_002;
/// Code of a refused login with a password.
const WRONG_PASSWORD: i32 = -32_001;
/// Code of a request without a login.
const LOGIN_NEEDED: i32 = -32_000;
/// Code of a request that this server does not have (JSON-RPC: method not found).
const NOT_THERE: i32 = -32_601;
/// Pause before a wrong password is answered, against attempts to guess passwords.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);
/// Time in which a page that has lost its socket shows that it has its calls. A page that was reloaded shows nothing, and gets
/// an offer for a new media connection.
const SHOWS: Duration = Duration::from_secs(2);

/// Serves the socket of a page whose first frame was read already.
pub async fn serve(socket: WebSocket, app: App, sessions: Sessions, peer: SocketAddr, first: String) {
    let session = |out| Session { app, sessions, peer, out, token: None, login: None };
    socket::serve(socket, Some(first), session).await;
}

/// The state of a socket.
struct Session {
    app: App,
    sessions: Sessions,
    peer: SocketAddr,
    out: Outbox,
    /// The verified token of `Relay`, and its account.
    token: Option<(AccountName, Claims)>,
    login: Option<Login>,
}

struct Login {
    presence: Presence,
    protocol: Arc<Verto<Frames>>,
    /// The name of the session, which survives the socket.
    session: Arc<str>,
    /// The calls of the session that were asked for, and the ids of our requests. The page answers if it has the call.
    asked: Vec<(u32, Arc<Line>)>,
    /// The end of the time for these answers.
    until: Option<Pin<Box<Sleep>>>,
}

impl socket::Session for Session {
    const PINGS: bool = true;

    async fn handle(&mut self, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let member = |path: &str| frame.pointer(path).unwrap_or(&Value::Null);
        let (id, params) = (member("/id"), member("/params"));
        match member("/method").as_str() {
            Some("blade.connect") => self.connect(id, params),
            Some("blade.execute") if params["method"] == "setup" => self.set_up(id, &params["params"]),
            Some("blade.execute") => self.verto(id, member("/params/params/message")),
            Some("blade.subscription") => self.subscribe(id, params),
            Some("blade.reauthenticate") => self.renew(id, params),
            Some("blade.ping") => self.out.send(result(id, &json!({ "timestamp": params["timestamp"] }))),
            Some("login") => self.log_in(id, params).await,
            _ => self.verto(&Value::Null, &frame),
        }
    }

    async fn wait(&mut self) {
        match &mut self.login {
            Some(login) => login.wait().await,
            None => pending().await,
        }
    }

    fn heartbeat(&mut self) -> Option<String> {
        None
    }

    fn is_known(&self) -> bool {
        self.login.is_some() || self.token.is_some()
    }
}

impl Session {
    // ---- logins ----

    /// Refuses the login of a page, and logs the page out: without this, the SDK connects again at once.
    fn refuse(&self, id: &Value, code: i32, why: &str, frames: &Frames) {
        self.out.send(error(id, code, why));
        self.out.send(frames.of_server(rand::random(), "punt", &json!({})));
    }

    fn connect(&mut self, id: &Value, params: &Value) {
        let now = clock::time();
        if self.token.is_some() {
            return self.out.send(error(id, REFUSED, "the page has logged in already"));
        }
        let project = params.pointer("/authentication/project").and_then(Value::as_str).unwrap_or_default();
        match self.verified(params) {
            Ok((account, claims)) => {
                let ice_servers = tandem_twilio::rest::ice_servers(&self.app.ice.load(), &claims.reference, now);
                let connected = json!({
                    "session_restored": false,
                    "sessionid": uuid(rand::random()),
                    "nodeid": uuid(rand::random()),
                    "master_nodeid": "tandem",
                    "authorization": authorization(&claims),
                    "ice_servers": ice_servers,
                    "protocols": [],
                    "subscriptions": [],
                });
                self.out.send(result(id, &connected));
                self.token = Some((account, claims));
            }
            Err(token::Refused { why, account }) => {
                let text =
                    format!("token of project {:?} of a page at {} refused: {why}", printable(project), self.peer);
                let owner = account.as_deref().map(|account| &account.name);
                self.app.calls.services().report(owner, now, Problem::new(Cause::AccessToken, text));
                let frames = Frames::Blade { protocol: None, project_id: String::new() };
                self.refuse(id, REFUSED, why, &frames);
            }
        }
    }

    /// Verifies the token in a request of `Relay`.
    fn verified(&self, params: &Value) -> Result<(AccountName, Claims), token::Refused> {
        let member = |name: &str| params.pointer(name).and_then(Value::as_str).unwrap_or_default();
        let text = member("/authentication/jwt_token");
        let (account, claims) = token::verify(&self.app.accounts, Kind::Relay, text, clock::time())?;
        if claims.project_id != member("/authentication/project") {
            return Err(token::Refused { why: "the token is of another project", account: Some(account) });
        }
        Ok((account.name.clone(), claims))
    }

    /// Replaces the token of a page.
    fn renew(&mut self, id: &Value, params: &Value) {
        let renewed = self.verified(params).ok().zip(self.token.as_mut());
        match renewed.filter(|((account, claims), own)| *account == own.0 && claims.reference == own.1.reference) {
            Some(((_, claims), own)) => {
                self.out.send(result(id, &json!({ "authorization": authorization(&claims) })));
                self.login.iter_mut().for_each(|login| login.presence.renew(claims.expires()));
                own.1 = claims;
            }
            None => self.out.send(error(id, REFUSED, "the token is not valid")),
        }
    }

    /// Gives the session of `Relay` its name. A page that has lost its socket, or was reloaded, says the name that it had.
    fn set_up(&mut self, id: &Value, params: &Value) {
        let Some((account, claims)) = &self.token else { return self.out.send(login_needed(id)) };
        let prefix = format!("signalwire_{}_", signature(claims));
        let known = params["protocol"].as_str().filter(|known| known.starts_with(&prefix) && known.len() <= 256);
        let session: Arc<str> = match known {
            Some(known) => known.into(),
            None => format!("{prefix}{:032x}", rand::random::<u128>()).into(),
        };
        let frames = Frames::Blade { protocol: Some(Arc::clone(&session)), project_id: claims.project_id.clone() };
        let user = User { account: account.clone(), name: claims.reference.as_str().into(), domain: None };
        let mut login = self.page(frames, self.sessions.relay.clone(), Arc::clone(&session), user);
        login.presence.renew(claims.expires());
        self.out.send(executed(id, &json!({ "protocol": session })));
        self.login = Some(login);
    }

    fn page(&self, frames: Frames, lines: Lines, session: Arc<str>, user: User) -> Login {
        let protocol = Arc::new(Verto(frames));
        let page = Page::new(PageSpec {
            calls: self.app.calls.clone(),
            lines,
            protocol: protocol.clone(),
            id_of: |_, branch: LegId| uuid(branch.0),
            session: Arc::clone(&session),
            user,
            out: self.out.clone(),
        });
        Login { presence: Presence::new(page, None), protocol, session, asked: Vec::new(), until: None }
    }

    /// The page of `Relay` is ready when it gets notifications.
    fn subscribe(&mut self, id: &Value, params: &Value) {
        let Some(login) = &mut self.login else { return self.out.send(login_needed(id)) };
        let channels = params["channels"].as_array().cloned().unwrap_or_default();
        let (own, others): (Vec<_>, Vec<_>) = channels.into_iter().partition(|name| name == "notifications");
        let is_ready = params["command"] == "add" && !own.is_empty();
        self.out.send(result(
            id,
            &json!({
                "protocol": params["protocol"], "command": params["command"],
                "subscribe_channels": own, "failed_channels": others,
            }),
        ));
        if is_ready && login.begin().is_none() {
            let user = &login.presence.page().user().name;
            tracing::warn!(%user, "a user has too many pages: calls do not ring at this one");
        }
    }

    async fn log_in(&mut self, id: &Value, params: &Value) {
        let text = |name: &str| params[name].as_str().filter(|text| !text.is_empty());
        // After a lost socket, the SDK first tries the id of its session, and then logs in as before.
        let (Some(name), Some(password)) = (text("login"), text("passwd")) else {
            return self.out.send(login_needed(id));
        };
        let (source, at) = (self.peer.ip(), clock::now().instant);
        if self.sessions.guard.is_banned(source, at) {
            let why = "too many wrong passwords from this address: try again in a minute";
            return self.refuse(id, WRONG_PASSWORD, why, &Frames::Bare);
        }
        let user = name.split('@').next().unwrap_or(name);
        let user = self.app.calls.services().routing.load_full().phones().with_password(user, password);
        let Some(user) = user else {
            self.sessions.guard.refused(source, at);
            let text =
                format!("login of a page at {} refused: no user {:?} has this password", self.peer, printable(name));
            self.app.calls.services().report(None, clock::time(), Problem::new(Cause::WrongSipPassword, text));
            tokio::time::sleep(REFUSAL_DELAY).await;
            return self.refuse(id, WRONG_PASSWORD, "Authentication Failure", &Frames::Bare);
        };
        let known = text("sessid").filter(|known| known.len() <= 64);
        let session: Arc<str> = known.map_or_else(|| uuid(rand::random()).into(), Into::into);
        let mut login = self.page(Frames::Bare, self.sessions.verto.clone(), session, user);
        self.out.send(result(id, &json!({ "message": "logged in", "sessid": login.session })));
        match login.begin() {
            Some(calls) => {
                let ready = json!({ "reattached_sessions": calls });
                self.out.send(login.protocol.0.of_server(rand::random(), "clientReady", &ready));
            }
            None => self.out.send(login.protocol.0.of_server(rand::random(), "punt", &json!({}))),
        }
        self.login = Some(login);
    }

    // ---- calls ----

    /// Handles a Verto request of the page, or its answer to ours. `outer` is the id of the envelope.
    fn verto(&mut self, outer: &Value, message: &Value) {
        let (inner, params) = (&message["id"], &message["params"]);
        let Some(login) = &mut self.login else {
            return self.out.send(login_needed(if outer.is_null() { inner } else { outer }));
        };
        match message["method"].as_str().and_then(|method| method.strip_prefix("verto.")) {
            Some(method) => {
                let call = params.pointer("/dialogParams/callID").and_then(Value::as_str).unwrap_or_default();
                login.shows(|_, line| line.has_id(call));
                self.request(outer, inner, method, params);
            }
            None => {
                login.shows(|asked, _| inner.as_u64() == Some(asked.into()));
                login.presence.page().confirmed(inner);
                // In Blade, the answer of the page to a request of ours comes as a request.
                if !outer.is_null() {
                    self.out.send(executed(outer, &json!({ "code": "200", "message": "OK" })));
                }
            }
        }
    }

    fn request(&self, outer: &Value, inner: &Value, method: &str, params: &Value) {
        let Some(login) = &self.login else { return };
        let answer = |member: &str, value: &Value| self.out.send(login.protocol.0.answer(outer, inner, member, value));
        let refuse = |code: i32, why: &str| answer("error", &json!({ "code": code, "message": why }));
        if let Some(what) = lacks(method, params) {
            return refuse(NOT_THERE, &format!("this server has no {what}"));
        }
        match handle(login.presence.page(), &both_ids(outer, inner), method, params) {
            Handled::Result(mut of_request) => {
                if let Some(fields) = of_request.as_object_mut() {
                    fields.insert("sessid".into(), Value::from(&*login.session));
                }
                answer("result", &of_request);
            }
            Handled::Later => {}
            Handled::Invite(invite) => match login.bars(&invite) {
                Some(why) => refuse(REFUSED, why),
                None => {
                    answer(
                        "result",
                        &json!({ "callID": invite.id, "message": "CALL CREATED", "sessid": &*login.session }),
                    );
                    self.call(login, *invite);
                }
            },
            Handled::Unknown => refuse(NOT_THERE, &format!("this server has no verto.{method}")),
        }
    }

    fn call(&self, login: &Login, invite: Invite) {
        let page = login.presence.page();
        let name = &page.user().name;
        let Invite { id, sdp, destination, caller_number, caller_name, headers, variables, .. } = invite;
        let line = page.new_call(|_| id.clone(), None, sdp);
        let (from_user, from_uri, to_user, to_uri, identity) = match login.protocol.0 {
            Frames::Blade { .. } => {
                let (to_uri, to_user) = called_by_relay(&destination);
                let identity = Identity::Subscriber { name: Arc::clone(name) };
                (name.to_string(), format!("client:{name}"), to_user, to_uri, identity)
            }
            Frames::Bare => {
                let realm = self.app.calls.services().routing.load_full().phones().realm().to_owned();
                let uri = |user: &str| format!("sip:{}@{realm}", tandem_sip::escape_user(user));
                let from = if caller_number.is_empty() { name.to_string() } else { caller_number };
                let to_uri = if destination.starts_with("sip:") { destination.clone() } else { uri(&destination) };
                let identity = Identity::Sip { username: Some(Arc::clone(name)), domain: None };
                (from.clone(), uri(&from), Address::from(&*to_uri).user().into_owned(), to_uri, identity)
            }
        };
        line.make(PageCall {
            peer: self.peer,
            transport: "WSS",
            identity,
            line: format!("invite {name} -> {destination}"),
            from_uri,
            from_user,
            from_display: caller_name,
            to_uri,
            to_user,
            signalling_id: id,
            headers,
            parameters: variables,
            client_state: None,
            route: None,
        });
    }
}

impl Login {
    async fn wait(&mut self) {
        let answers = async {
            match &mut self.until {
                Some(until) => until.as_mut().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.presence.expires() => {}
            () = answers => {
                (self.until, self.asked) = (None, Vec::new());
                let page = self.presence.page();
                page.lost_calls(false).iter().for_each(|line| line.attach(page));
            }
        }
    }

    /// Lets calls ring at the page, and asks which calls of its session it still has. Returns the ids of these calls. Returns
    /// `None` if the user has too many pages.
    fn begin(&mut self) -> Option<Vec<String>> {
        if !self.presence.connect() {
            return None;
        }
        let page = self.presence.page();
        page.send_ends_again();
        page.ring_again_in_session();
        self.asked = page.lost_calls(true).into_iter().map(|line| (rand::random(), line)).collect();
        for (id, line) in &self.asked {
            // Without parameters, the request changes nothing. The SDK answers it only for a call that it has.
            page.send(self.protocol.0.of_server(*id, "mediaParams", &json!({ "callID": line.facts().id })));
        }
        self.until = (!self.asked.is_empty()).then(|| Box::pin(tokio::time::sleep(SHOWS)));
        Some(self.asked.iter().map(|(_, line)| line.facts().id.clone()).collect())
    }

    /// Returns the reason why the page cannot make this call.
    fn bars(&self, invite: &Invite) -> Option<&'static str> {
        let page = self.presence.page();
        match () {
            () if self.presence.is_expired() => Some("the token has expired"),
            () if invite.id.is_empty() || page.line(&invite.id).is_some() => Some("the page has this call already"),
            () if !page.has_room() => Some("the page has too many calls"),
            () => None,
        }
    }

    /// The page has shown that it has a call: the call goes on over this socket.
    fn shows(&mut self, is_it: impl Fn(u32, &Line) -> bool) {
        let page = self.presence.page();
        self.asked.extract_if(.., |(id, line)| is_it(*id, line)).for_each(|(_, line)| line.continue_over(page));
    }
}

/// Returns the part of a request that this server does not have.
fn lacks(method: &str, params: &Value) -> Option<&'static str> {
    match method {
        "modify" if params["action"] == "transfer" || params["action"] == "replace" => {
            Some("transfers by pages: the application transfers a call")
        }
        "info" if !params["msg"].is_null() => Some("messages between pages"),
        "subscribe" | "unsubscribe" | "broadcast" => Some("conferences with events for pages, and no video"),
        _ => None,
    }
}

/// Returns the called URI and its user. A word that is neither an address nor a number is the name of a user.
fn called_by_relay(destination: &str) -> (String, String) {
    let is_number = destination.strip_prefix('+').unwrap_or(destination).bytes().all(|octet| octet.is_ascii_digit());
    match is_number || destination.starts_with('/') {
        true => called(destination),
        false => (format!("client:{destination}"), destination.to_owned()),
    }
}

/// The part of a session's name that the SDK compares.
fn signature(claims: &Claims) -> String {
    format!("{:032x}", hash::id([claims.project_id.as_bytes(), claims.reference.as_bytes()]))
}

fn authorization(claims: &Claims) -> Value {
    json!({
        "expires_at": claims.exp, "signature": signature(claims), "project": claims.project_id, "scopes": ["webrtc"],
    })
}

fn login_needed(id: &Value) -> String {
    error(id, LOGIN_NEEDED, "Authentication Required")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_name_of_a_user_and_digits_are_a_number() {
        for (destination, uri, user) in [
            ("bob", "client:bob", "bob"),
            ("/private/bob?channel=audio", "client:bob", "bob"),
            ("+15550001111", "+15550001111", "+15550001111"),
            ("702", "702", "702"),
        ] {
            assert_eq!(called_by_relay(destination), (uri.to_owned(), user.to_owned()));
        }
    }

    #[test]
    fn what_this_server_does_not_have_is_refused_with_its_name() {
        assert!(lacks("modify", &json!({ "action": "transfer" })).is_some_and(|what| what.contains("transfers")));
        assert!(lacks("subscribe", &json!({})).is_some_and(|what| what.contains("video")));
        assert_eq!(
            (lacks("modify", &json!({ "action": "hold" })), lacks("info", &json!({ "dtmf": "5" }))),
            (None, None)
        );
    }
}
