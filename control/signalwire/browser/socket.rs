//! The WebSocket of a page.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ws::WebSocket;
use serde_json::{Value, json};
use tandem_causes::Cause;
use tandem_clients::User;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_id::{LegId, uuid};
use tandem_leg::signal::Identity;
use tandem_pages::socket::{self, Outbox};
use tandem_pages::verto::{Handled, Invite, Verto, error, handle};
use tandem_pages::{CalledBy, End, Facts, Page, PageCall, PageSpec, Presence, Protocol as _};
use tandem_runtime::app::App;

use super::Sessions;
use super::envelope::{self, Events, both_ids, result, server_request, verto_result};
use super::token::{self, Claims, Kind};

/// JSON-RPC code of a refused login. With a message about the authentication, the SDK does not try again.
const REFUSED: i32 = -32_002;
/// Number of heartbeats of the socket for one ping to the page: one ping in 10 s.
const HEARTBEATS: u32 = 2;

/// Serves the socket of a page whose first frame was read already.
pub async fn serve(socket: WebSocket, app: App, sessions: Sessions, peer: SocketAddr, first: String) {
    let session = |out| Session { app, sessions, peer, out, login: None, heartbeats: 0 };
    socket::serve(socket, Some(first), session).await;
}

/// The state of a socket.
struct Session {
    app: App,
    sessions: Sessions,
    peer: SocketAddr,
    out: Outbox,
    login: Option<Login>,
    heartbeats: u32,
}

struct Login {
    presence: Presence,
    protocol: Arc<Verto<Events>>,
    claims: Claims,
    /// The name of the session, which survives the socket. The SDK calls it the protocol.
    session: Arc<str>,
    sessions: Sessions,
}

impl Drop for Login {
    /// The page does not go online again after a lost socket.
    fn drop(&mut self) {
        if self.presence.withdraw() {
            self.sessions.keep(&self.session);
        }
    }
}

impl socket::Session for Session {
    async fn handle(&mut self, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let member = |name: &str| frame.get(name).unwrap_or(&Value::Null);
        let (id, params) = (member("id"), member("params"));
        // An answer to a request of ours needs no answer.
        let Some(method) = member("method").as_str() else { return };
        if method == "signalwire.connect" {
            return self.connect(id, params);
        }
        let Some(login) = &mut self.login else {
            return self.out.send(error(id, REFUSED, "Requester validation failed"));
        };
        let ok = json!({ "code": "200", "message": "OK" });
        match method {
            "webrtc.verto" => self.verto(id, params),
            "subscriber.online" => {
                self.out.send(result(id, &ok));
                login.go_online();
            }
            "subscriber.offline" => {
                self.out.send(result(id, &ok));
                login.presence.withdraw();
            }
            "signalwire.reauthenticate" => {
                let text = params.pointer("/authentication/jwt_token").and_then(Value::as_str).unwrap_or_default();
                match token::verify(&self.app.accounts, Kind::Access, text, clock::time()) {
                    Ok((_, claims))
                        if (&claims.reference, &claims.project_id)
                            == (&login.claims.reference, &login.claims.project_id) =>
                    {
                        login.presence.renew(claims.expires());
                        let authorization = authorization(&claims);
                        login.claims = claims;
                        self.out.send(result(id, &json!({ "authorization": authorization })));
                    }
                    _ => self.out.send(result(id, &json!({ "code": "401", "message": "the token is not valid" }))),
                }
            }
            _ => self.command(id, method, params),
        }
    }

    async fn wait(&mut self) {
        match &mut self.login {
            Some(login) => login.presence.expires().await,
            None => pending().await,
        }
    }

    /// After one ping, the page closes a socket on which no ping comes for 15 s.
    fn heartbeat(&mut self) -> Option<String> {
        self.heartbeats += 1;
        let is_due = self.login.is_some() && self.heartbeats.is_multiple_of(HEARTBEATS);
        let timestamp = clock::time().as_millisecond() as f64 / 1_000.0;
        is_due.then(|| server_request("signalwire.ping", &json!({ "timestamp": timestamp })))
    }

    fn is_known(&self) -> bool {
        self.login.is_some()
    }
}

/// Returns the permissions of a token, as the SDK reads them.
fn authorization(claims: &Claims) -> Value {
    json!({
        "jti": claims.jti,
        "project_id": claims.project_id,
        "fabric_subscriber": {
            "version": 1,
            "expires_at": claims.exp,
            "subscriber_id": uuid(tandem_host::hash::id([claims.reference.as_bytes()])),
            "application_id": claims.project_id,
            "project_id": claims.project_id,
            "space_id": claims.project_id,
        },
    })
}

impl Session {
    fn connect(&mut self, id: &Value, params: &Value) {
        let now = clock::time();
        let text = params.pointer("/authentication/jwt_token").and_then(Value::as_str).unwrap_or_default();
        let (account, claims) = match token::verify(&self.app.accounts, Kind::Access, text, now) {
            Ok(found) => found,
            Err(token::Refused { why, account }) => {
                let text = format!("token of a page at {} refused: {why}", self.peer);
                let owner = account.as_deref().map(|account| &account.name);
                self.app.calls.services().report(owner, now, Problem::new(Cause::AccessToken, text));
                // The SDK takes this beginning for a refusal without a further attempt.
                let message =
                    format!("Authentication service failed with status ProtocolError, 401 Unauthorized: {{}} ({why})");
                return self.out.send(error(id, REFUSED, &message));
            }
        };
        if let Some(login) = &self.login {
            return self.out.send(result(id, &json!({ "authorization": authorization(&login.claims) })));
        }
        let prefix = format!("signalwire_{}_", claims.jti);
        let known = params["protocol"].as_str().filter(|known| known.starts_with(&prefix) && known.len() <= 256);
        let session: Arc<str> = match known {
            Some(known) => known.into(),
            None => format!("{prefix}{:032x}", rand::random::<u128>()).into(),
        };
        let protocol = Arc::new(Verto(Events { project_id: claims.project_id.clone() }));
        let user = User { account: account.name.clone(), name: claims.reference.as_str().into(), domain: None };
        let page = Page::new(PageSpec {
            calls: self.app.calls.clone(),
            lines: self.sessions.lines.clone(),
            protocol: protocol.clone(),
            id_of,
            session: Arc::clone(&session),
            user,
            out: self.out.clone(),
        });
        let ice_servers = tandem_twilio::rest::ice_servers(&self.app.ice.load(), &claims.reference, now);
        let connected = json!({
            "identity": format!("{}@tandem", uuid(rand::random())),
            "protocol": session,
            "authorization": authorization(&claims),
            "ice_servers": ice_servers,
            "session_restored": known.is_some(),
        });
        self.out.send(result(id, &connected));
        let state = json!({ "authorization_state": claims.jti });
        self.out.send(protocol.0.event("signalwire.authorization.state", &state));
        let was_online = self.sessions.take(&session);
        let presence = Presence::new(Arc::clone(&page), claims.expires());
        let login = self.login.insert(Login { presence, protocol, claims, session, sessions: self.sessions.clone() });
        if was_online {
            login.go_online();
        }
        page.send_ends_again();
        // A page with a stored session has lost its socket, even if this server has not noticed it.
        page.lost_calls(true).iter().for_each(|line| line.continue_over(&page));
    }

    fn verto(&self, id: &Value, params: &Value) {
        let Some(login) = &self.login else { return };
        let message = &params["message"];
        let (inner, of_request) = (&message["id"], &message["params"]);
        let Some(method) = message["method"].as_str().and_then(|method| method.strip_prefix("verto.")) else {
            // The answer of the page to a request of ours comes as a request.
            login.presence.page().confirmed(inner);
            return self.out.send(result(id, &json!({ "code": "200", "message": "OK" })));
        };
        match handle(login.presence.page(), &both_ids(id, inner), method, of_request) {
            Handled::Result(answer) => {
                self.out.send(verto_result(id, inner, &answer));
                let call_id = of_request.pointer("/dialogParams/callID").and_then(Value::as_str).unwrap_or_default();
                if method == "answer" {
                    let frames = match login.presence.page().line(call_id) {
                        // Only this makes an incoming call active.
                        Some(line) => login.protocol.accepted(line.facts(), None),
                        // The SDK drops the end of a call that it has not accepted, and gets it again here.
                        None => login.protocol.ended(&over(call_id), &End::Cancelled { answered_elsewhere: false }),
                    };
                    frames.into_iter().for_each(|frame| self.out.send(frame));
                }
            }
            Handled::Later => {}
            Handled::Invite(invite) => self.call(login, id, inner, *invite),
            Handled::Unknown => self.out.send(verto_result(id, inner, &json!({}))),
        }
    }

    /// Handles a command about a member of a call. A call of two parties has the page itself as its only member.
    fn command(&self, id: &Value, method: &str, params: &Value) {
        let Some(login) = &self.login else { return };
        let mut answer = json!({ "code": "200", "message": "OK" });
        let line =
            params.pointer("/self/call_id").and_then(Value::as_str).and_then(|call| login.presence.page().line(call));
        let mut put = |name: &str, value: Value| {
            if let Some(fields) = answer.as_object_mut() {
                fields.insert(name.into(), value);
            }
        };
        match (method, &line) {
            ("call.member.list", Some(line)) => put("members", json!([envelope::member(line.facts(), false)])),
            ("call.layout.list", _) => put("layouts", json!([])),
            _ => {}
        }
        self.out.send(result(id, &answer));
        let Some(line) = line else { return };
        match method {
            "call.mute" | "call.unmute" => {
                let mut member = envelope::member(line.facts(), method == "call.mute");
                if let Some(fields) = member.as_object_mut() {
                    fields.insert("updated".into(), json!(["audio_muted"]));
                }
                let call = &line.facts().id;
                let updated = json!({ "call_id": call, "room_session_id": call, "room_id": call, "member": member });
                self.out.send(login.protocol.0.event("member.updated", &updated));
            }
            "call.end" => {
                let frames = login.protocol.ended(line.facts(), &End::HungUp);
                frames.into_iter().for_each(|frame| self.out.send(frame));
                line.left();
            }
            _ => {}
        }
    }

    fn call(&self, login: &Login, id: &Value, inner: &Value, invite: Invite) {
        let page = login.presence.page();
        let created = json!({ "callID": invite.id, "message": "CALL CREATED" });
        self.out.send(verto_result(id, inner, &created));
        // A page that was reloaded has a new session, and knows its call by the id alone.
        let known = self.sessions.lines.of_user(page.user()).into_iter().find(|line| line.has_id(&invite.id));
        if let Some(line) = known {
            return line.resume(page, invite.sdp);
        }
        let (name, has_room) = (&page.user().name, page.has_room());
        let Invite { id, sdp, destination, caller_name, headers, variables, reattaches, .. } = invite;
        let line = page.new_call(|_| id.clone(), None, sdp);
        if reattaches || login.presence.is_expired() || !has_room {
            // A call that is taken up is over: its media would be that of another call.
            return line.refuse(&End::HungUp);
        }
        let (to_uri, to_user) = called(&destination);
        line.make(PageCall {
            peer: self.peer,
            transport: "WSS",
            identity: Identity::Subscriber { name: Arc::clone(name) },
            line: format!("invite {name} -> {destination}"),
            from_uri: format!("client:{name}"),
            from_user: name.to_string(),
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
    fn go_online(&mut self) {
        if self.presence.is_connected() || self.presence.is_expired() {
            return;
        }
        if !self.presence.connect() {
            let user = &self.presence.page().user().name;
            return tracing::warn!(%user, "a user has too many pages: calls do not ring at this one");
        }
        self.presence.page().ring_again();
    }
}

/// The facts of a call that is over.
fn over(call_id: &str) -> Facts {
    let (leg, called_by, end_id) = (LegId(0), CalledBy::Server, rand::random());
    Facts { leg, id: call_id.to_owned(), called_by, token: "".into(), end_id }
}

/// Returns the called address and its user: `/private/bob?channel=audio` is the client `bob`, and a number is a number.
pub(super) fn called(destination: &str) -> (String, String) {
    let name = destination.split('?').next().unwrap_or(destination);
    match name.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((_, name)) => (format!("client:{name}"), name.to_owned()),
        None => (name.to_owned(), name.to_owned()),
    }
}

/// Returns the id in frames for a call that rings. A page never rings twice with one id.
fn id_of(_leg: LegId, branch: LegId) -> String {
    uuid(branch.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_called_address_is_read_without_its_channel() {
        for (destination, uri, user) in [
            ("/private/bob?channel=audio", "client:bob", "bob"),
            ("/public/ivr", "client:ivr", "ivr"),
            ("+15550001111", "+15550001111", "+15550001111"),
            ("/bob", "/bob", "/bob"),
        ] {
            assert_eq!(called(destination), (uri.to_owned(), user.to_owned()));
        }
    }
}
