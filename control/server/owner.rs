//! Requests about calls, conferences and recordings of another node of the cluster. The first id in a request names the
//! owner ([`tandem_id::node`]). The node that receives the request sends it over the bus to the owner. The owner handles
//! it as if the client had connected to the owner, and the answer comes back over the bus.
//!
//! ```text
//!   client ──HTTP──► node B ──bus──► node A (owns the call) ──► its routes
//!          ◄─────────────────◄──────
//! ```
//!
//! A request that names a conference by its name goes to the node of this conference in the same way. A request about a queue
//! goes to the node that owns the name of the queue.
//!
//! A request without such an id (a list, a new call, a setting) is handled by the node that receives it. So is a request
//! for the audio of a recording, which is larger than a message, and a request that opens a WebSocket or a stream of
//! events.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_accounts::Accounts;
use tandem_cluster::{ANSWER_TIME, AskError, CHANGE_TIME, Cluster, MAX_MESSAGE, Question};
use tandem_id::{AccountName, QueueId};
use tandem_queues::Queues;
use tandem_runtime::app::App;
use tandem_store::Store;
use tandem_store::nodes::{NodeRow, SettingsWritten};
use tandem_store::owned_names::{self, Named};
use tower_service::Service as _;

/// Maximum number of octets of a body that another node receives. With base64 it is smaller than a message.
const MAX_BODY: usize = MAX_MESSAGE / 2;

/// The prefixes of ids that name their owner, in the form of two letters and 32 hex digits: calls, conferences,
/// recordings, streams, SIPREC sessions and transcriptions.
const OWNED: [&str; 6] = ["CA", "CF", "RE", "MZ", "SR", "GT"];

/// The path of the commands that name their call in the body.
const COMMANDS: &str = "/api/calling/calls";

/// The paths of requests that may name a call or a conference in the body.
const IN_BODY: [&str; 3] = [COMMANDS, "/v2/conferences", "/v2/calls"];

/// The paths of queues that have no other id than their names.
const NAMED_QUEUES: &str = "/v2/queues/";

/// The parts of the server that find the owner of a request.
#[derive(Clone)]
pub(super) struct Owners {
    cluster: Cluster,
    store: Store,
    accounts: Arc<Accounts>,
    queues: Queues,
}

/// The part of a request that names its owner.
#[derive(Debug, PartialEq, Eq)]
enum Subject {
    Id(u128),
    /// The name of a conference.
    Conference(String),
    /// A queue. Its id names the node that made it, which may not be its owner.
    Queue(QueueId),
    /// The name of a queue.
    QueueNamed(String),
}

/// An HTTP request for another node.
#[derive(Serialize, Deserialize)]
struct Forwarded {
    method: String,
    /// The path and the query.
    uri: String,
    headers: Vec<(String, Octets)>,
    body: Octets,
    /// The address of the client.
    client: Option<SocketAddr>,
}

/// The answer to a [`Forwarded`].
#[derive(Serialize, Deserialize)]
struct Answered {
    /// `None` if the answer is larger than a message.
    status: Option<u16>,
    headers: Vec<(String, Octets)>,
    body: Octets,
}

impl Question for Forwarded {
    const NAME: &'static str = "http";
    type Answer = Answered;
}

/// Octets, in base64.
struct Octets(Bytes);

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets = BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(octets.into()))
    }
}

/// Answers the requests that other nodes have received. `routes` are all routes of this server.
pub(super) fn answer(cluster: &Cluster, store: &Store, routes: &Router) {
    let (routes, store, own) = (routes.clone(), store.clone(), cluster.clone());
    cluster.answer(move |forwarded: Forwarded| {
        let (mut routes, store, cluster) = (routes.clone(), store.clone(), own.clone());
        async move {
            let Some(request) = request(forwarded) else { return Answered::of_status(StatusCode::BAD_REQUEST) };
            let before = store.settings_written();
            // The service of a router never fails.
            let response = routes.call(request).await.unwrap_or_else(|never| match never {});
            // The client may ask another node next.
            share(&cluster, &store, before).await;
            Answered::of(response).await
        }
    });
}

/// Middleware that sends a request to the owner of the first id in the request, if this is another node.
pub(super) async fn forward(State(owners): State<Owners>, request: Request, next: Next) -> Response {
    let (request, subject) = match subject_of(request).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let node = match &subject {
        None => Ok(None),
        Some(Subject::Id(id)) => Ok(owners.cluster.other_owner_of(*id)),
        Some(Subject::Conference(name)) => Ok(owners.node_of_conference(owners.account_of(&request), name).await),
        Some(Subject::Queue(id)) => owners.queues.node_of(*id).await,
        Some(Subject::QueueNamed(name)) => owners.queues.node_of_name(owners.account_of(&request).as_ref(), name).await,
    };
    let node = match node {
        Ok(Some(node)) => node,
        Ok(None) => return next.run(request).await,
        Err(error) => return repeat(error.to_string()),
    };
    // No record has the callers of a queue.
    let is_in_memory =
        is_in_memory(request.uri().path()) || matches!(subject, Some(Subject::Queue(_) | Subject::QueueNamed(_)));
    let what = match subject {
        Some(Subject::Queue(_) | Subject::QueueNamed(_)) => "queue",
        Some(Subject::Conference(_)) => "conference",
        Some(Subject::Id(_)) | None => "call",
    };
    let cluster = &owners.cluster;
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large for a call of another node\n").into_response();
    };
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), octets(value.as_bytes())));
    let forwarded = Forwarded {
        method: parts.method.to_string(),
        uri: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: headers.collect(),
        body: Octets(body.clone()),
        client: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|client| client.0),
    };
    // The owner may work on a change, so an early end of the wait would let the client repeat it.
    let within = if is_read { ANSWER_TIME } else { CHANGE_TIME };
    match cluster.ask_within(&node, &forwarded, within).await {
        Ok(answered) if answered.status.is_some() => answered.response(),
        // A read without effect may be answered from the database, by this node.
        Ok(_) | Err(AskError::TooLarge | AskError::NoNode) if is_read && !is_in_memory => {
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
        Ok(_) | Err(AskError::TooLarge) => {
            (StatusCode::BAD_GATEWAY, "the request, or the answer of the other node, is too large\n").into_response()
        }
        Err(AskError::NoAnswer(seconds)) if !is_read => {
            let text = format!(
                "the {what} belongs to node {} of the cluster, which did not answer within {seconds} s: the request may \
                 have had an effect\n",
                node.name
            );
            tracing::warn!("{} {}: {text}", parts.method, parts.uri.path());
            (StatusCode::GATEWAY_TIMEOUT, text).into_response()
        }
        Err(error) => {
            let text = format!("the {what} belongs to node {} of the cluster, and {error}", node.name);
            tracing::warn!("{} {}: {text}", parts.method, parts.uri.path());
            repeat(text)
        }
    }
}

/// Returns the answer to a request whose owner cannot be asked now.
fn repeat(why: String) -> Response {
    let text = format!("{why}: repeat the request\n");
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, ANSWER_TIME.as_secs().to_string())], text).into_response()
}

/// Middleware that answers a change only after its records are stored, and after the other nodes have read the settings that
/// it has changed. The client may ask another node next.
pub(super) async fn store_changes(State(owners): State<Owners>, request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let before = owners.store.settings_written();
    let response = next.run(request).await;
    if !is_read {
        share(&owners.cluster, &owners.store, before).await;
    }
    response
}

/// Stores the records of a change, and lets the other nodes read the settings that have changed since `before`.
async fn share(cluster: &Cluster, store: &Store, before: SettingsWritten) {
    if let Err(error) = store.flush().await {
        tracing::warn!(%error, "the records of a change are not stored yet");
    }
    cluster.settings_changed(before.changed(store)).await;
}

impl Owners {
    pub(super) fn new(app: &App) -> Self {
        let services = app.calls.services();
        let (cluster, store) = (services.cluster.clone(), services.store.clone());
        Self { cluster, store, accounts: Arc::clone(&app.accounts), queues: services.queues.clone() }
    }

    /// Returns the account that a request names. The owner checks the credentials, so a wrong account costs a detour.
    fn account_of(&self, request: &Request) -> Option<AccountName> {
        let sid = request.uri().path().split('/').skip_while(|part| !part.eq_ignore_ascii_case("accounts")).nth(1);
        let account = sid.and_then(|sid| self.accounts.by_sid(sid));
        let account = account.or_else(|| tandem_telnyx::rest::caller(&self.accounts, request.headers()));
        account.map(|account| account.name.clone())
    }

    /// Returns the other node that has the conference with this name.
    async fn node_of_conference(&self, account: Option<AccountName>, name: &str) -> Option<NodeRow> {
        let named = owned_names::owners(&self.store, Named::Conference, name).await;
        let named = named.inspect_err(|error| tracing::warn!(%error, "the node of a conference is not known")).ok()?;
        let is_own = |name: &AccountName| account.as_ref().is_none_or(|account| account == name);
        named.into_iter().find(|(account, _)| is_own(account)).and_then(|(_, id)| self.cluster.other_owner_of(id))
    }
}

/// Returns the first id in the path that names its owner, or the id or the name of a conference in the body.
async fn subject_of(request: Request) -> Result<(Request, Option<Subject>), Response> {
    let path = request.uri().path();
    let upgrade = request.headers().get(header::UPGRADE).and_then(|upgrade| upgrade.to_str().ok());
    let is_stream = upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
        || request.uri().query().is_some_and(|query| query.contains("follow="));
    if is_stream || is_audio(path) {
        return Ok((request, None));
    }
    if IN_BODY.contains(&path) && request.method() == Method::POST {
        let is_command = path == COMMANDS;
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n").into_response());
        };
        let subject = subject_in_body(&serde_json::from_slice(&body).unwrap_or_default(), is_command);
        return Ok((Request::from_parts(parts, Body::from(body)), subject));
    }
    // A participant is looked for where its conference is, and a caller where its queue is.
    let subject = conference_in_path(path)
        .map(Subject::Conference)
        .or_else(|| queue_in_path(path))
        .or_else(|| id_in_path(path).map(Subject::Id));
    Ok((request, subject))
}

/// Returns the call of a command, the call that opens a conference or for which another call is made, or the conference
/// into which a call is made.
fn subject_in_body(body: &Value, is_command: bool) -> Option<Subject> {
    let text = |at: &Value, key: &str| at.get(key).and_then(Value::as_str).map(str::to_owned);
    if is_command {
        return text(body, "id").and_then(|id| id_in(&id)).map(Subject::Id);
    }
    let config = body.get("conference_config").unwrap_or(&Value::Null);
    // A leg that is dialled for another leg, or to supervise one, is dialled by the node of this leg.
    let calls = ["call_control_id", "link_to", "supervise_call_control_id"];
    let id = text(config, "id").or_else(|| calls.into_iter().find_map(|key| text(body, key)));
    id.and_then(|id| id_in(&id)).map(Subject::Id).or_else(|| text(config, "conference_name").map(Subject::Conference))
}

/// Returns the conference that a path names by its name, and not by its id.
fn conference_in_path(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip_while(|part| !part.eq_ignore_ascii_case("conferences")).skip(1);
    let name = parts.next()?;
    // The last part of a path may have the ending of a format.
    let name = if parts.next().is_none() { name.strip_suffix(".json").unwrap_or(name) } else { name };
    let is_name = !name.is_empty() && id_in(name).is_none();
    is_name.then(|| percent_decode_str(name).decode_utf8_lossy().into_owned())
}

/// Returns the queue that a path names by its id or by its name.
fn queue_in_path(path: &str) -> Option<Subject> {
    let mut parts = path.split('/').skip_while(|part| !part.eq_ignore_ascii_case("queues")).skip(1);
    let queue = parts.next().filter(|queue| !queue.is_empty())?;
    let queue = percent_decode_str(queue).decode_utf8_lossy();
    if path.starts_with(NAMED_QUEUES) {
        return Some(Subject::QueueNamed(queue.into_owned()));
    }
    // The last part of a path may have the ending of a format.
    let queue = if parts.next().is_none() { queue.strip_suffix(".json").unwrap_or(&queue) } else { &queue };
    let digits = queue.strip_prefix("QU").unwrap_or(queue);
    let id = id_in(digits).map(QueueId);
    Some(id.map_or_else(|| Subject::QueueNamed(queue.to_owned()), Subject::Queue))
}

/// Whether only the memory of the owner has what a path shows: the SIP messages of a call.
fn is_in_memory(path: &str) -> bool {
    path.ends_with("/trace") || path.ends_with("/trace.pcap")
}

/// Whether a path is that of the audio of a recording.
fn is_audio(path: &str) -> bool {
    let is_file = [".wav", ".mp3"].iter().any(|ending| path.ends_with(ending));
    is_file || path.ends_with("/waveform") || path.ends_with("/audio")
}

/// Returns the first id in a path that names its owner. The id of an account names none.
fn id_in_path(path: &str) -> Option<u128> {
    let parts = path.split('/');
    let before = std::iter::once("").chain(path.split('/'));
    parts.zip(before).filter(|(_, before)| !before.eq_ignore_ascii_case("accounts")).find_map(|(part, _)| id_in(part))
}

/// Returns the id in a part of a path: two letters and 32 hex digits, 32 hex digits, a UUID, or a call control id.
fn id_in(part: &str) -> Option<u128> {
    let part = percent_decode_str(part).decode_utf8().ok()?;
    let part = part.split('.').next().unwrap_or_default();
    let digits = |text: &str| (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
    let sid = part.split_at_checked(2).filter(|(kind, _)| OWNED.contains(kind));
    sid.and_then(|(_, rest)| digits(rest))
        .or_else(|| digits(part))
        .or_else(|| tandem_id::parse_uuid(part))
        .or_else(|| tandem_telnyx::id::parse_call_control_id(part).map(|leg| leg.0))
}

fn octets(value: &[u8]) -> Octets {
    Octets(Bytes::copy_from_slice(value))
}

/// Builds the request that a client has sent to another node. Returns `None` if it is no HTTP request.
fn request(forwarded: Forwarded) -> Option<Request> {
    let mut request = Request::builder().method(forwarded.method.as_bytes()).uri(forwarded.uri);
    *request.headers_mut()? = headers(forwarded.headers);
    let mut request = request.body(Body::from(forwarded.body.0)).ok()?;
    if let Some(client) = forwarded.client {
        request.extensions_mut().insert(ConnectInfo(client));
    }
    Some(request)
}

/// Returns the headers that are valid.
fn headers(named: Vec<(String, Octets)>) -> HeaderMap {
    let valid = |(name, value): (String, Octets)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(&value.0).ok()?))
    };
    named.into_iter().filter_map(valid).collect()
}

impl Answered {
    fn of_status(status: StatusCode) -> Self {
        Self { status: Some(status.as_u16()), headers: Vec::new(), body: Octets(Bytes::new()) }
    }

    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), octets(value.as_bytes()))).collect();
        match axum::body::to_bytes(body, MAX_BODY).await {
            Ok(body) => Self { status: Some(parts.status.as_u16()), headers, body: Octets(body) },
            Err(_) => Self { status: None, headers: Vec::new(), body: Octets(Bytes::new()) },
        }
    }

    fn response(self) -> Response {
        let status = self.status.and_then(|status| StatusCode::from_u16(status).ok());
        let mut response = Response::new(Body::from(self.body.0));
        *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
        *response.headers_mut() = headers(self.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u128 = 0x0199_aabb_ccdd_1eee_8fff_0000_1111_00a3;

    #[test]
    fn the_first_id_in_a_path_that_names_its_owner_is_found_in_the_form_of_each_provider() {
        let control = tandem_telnyx::id::call_control_id(tandem_id::LegId(ID));
        let escaped = control.replace(':', "%3A");
        let uuid = tandem_id::uuid(ID);
        for path in [
            format!("/2010-04-01/Accounts/AC{:032x}/Calls/CA{ID:032x}.json", 7),
            format!("/2010-04-01/Accounts/AC{:032x}/Conferences/CF{ID:032x}/Participants/CA{:032x}.json", 7, 8),
            format!("/v2/texml/Accounts/{}/Calls/{control}", tandem_id::uuid(7)),
            format!("/api/laml/2010-04-01/Accounts/{}/Calls/CA{ID:032x}.json", tandem_id::uuid(7)),
            format!("/v2/calls/{control}/actions/hangup"),
            format!("/v2/calls/{escaped}/actions/hangup"),
            format!("/v2/conferences/{uuid}/actions/hold"),
            format!("/console/calls/{ID:032x}"),
        ] {
            assert_eq!(id_in_path(&path), Some(ID), "{path}");
        }
        for path in ["/v2/calls", "/2010-04-01/Accounts/AC00000000000000000000000000000007/Calls.json", "/%ff/v3:x"] {
            assert_eq!(id_in_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_conference_is_named_in_the_path_or_in_the_body() {
        let path = "/2010-04-01/Accounts/AC00000000000000000000000000000007/Conferences/My%20Room/Participants.json";
        assert_eq!(conference_in_path(path), Some("My Room".to_owned()));
        let participant = format!("/2010-04-01/Accounts/AC{:032x}/Conferences/x/Participants/CA{ID:032x}.json", 7);
        assert_eq!(conference_in_path(&participant), Some("x".to_owned()));
        assert_eq!(conference_in_path(&format!("/v2/conferences/{}/participants", tandem_id::uuid(ID))), None);
        assert_eq!(conference_in_path("/v2/conferences"), None);
        let body = |text: &str| subject_in_body(&serde_json::from_str(text).unwrap(), false);
        let call = tandem_telnyx::id::call_control_id(tandem_id::LegId(ID));
        assert_eq!(body(&format!(r#"{{"call_control_id":"{call}","name":"x"}}"#)), Some(Subject::Id(ID)));
        assert_eq!(body(&format!(r#"{{"to":"+1","link_to":"{call}"}}"#)), Some(Subject::Id(ID)));
        let named = Some(Subject::Conference("x".to_owned()));
        assert_eq!(body(r#"{"to":"+1","conference_config":{"conference_name":"x"}}"#), named);
        assert_eq!(body(r#"{"to":"+1"}"#), None);
    }

    #[test]
    fn a_queue_is_named_in_the_path_and_its_callers_are_looked_for_at_its_node() {
        let control = tandem_telnyx::id::call_control_id(tandem_id::LegId(8));
        let (account, own) = (tandem_id::uuid(7), Some(Subject::Queue(QueueId(ID))));
        for path in [
            format!("/2010-04-01/Accounts/AC{:032x}/Queues/QU{ID:032x}.json", 7),
            format!("/2010-04-01/Accounts/AC{:032x}/Queues/QU{ID:032x}/Members/CA{:032x}.json", 7, 8),
            format!("/api/laml/2010-04-01/Accounts/{account}/Queues/{}.json", tandem_id::uuid(ID)),
            format!("/console/queues/{ID:032x}/callers/{control}"),
        ] {
            assert_eq!(queue_in_path(&path), own, "{path}");
        }
        let named = |name: &str| Some(Subject::QueueNamed(name.to_owned()));
        // An id of a queue may also be the name of a queue here.
        let uuid = tandem_id::uuid(ID);
        for (path, name) in [
            ("/v2/queues/My%20Queue".to_owned(), "My Queue"),
            (format!("/v2/queues/x.json/calls/{control}"), "x.json"),
            (format!("/v2/queues/{uuid}"), &uuid),
            (format!("/v2/texml/Accounts/{account}/Queues/support.json"), "support"),
            (format!("/v2/texml/Accounts/{account}/Queues/support/Members/Front"), "support"),
        ] {
            assert_eq!(queue_in_path(&path), named(name), "{path}");
        }
        for path in ["/v2/queues", "/console/queues", "/2010-04-01/Accounts/AC7/Queues.json", "/v2/calls/queues"] {
            assert_eq!(queue_in_path(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn a_command_names_its_call_in_the_body() {
        let uuid = tandem_id::uuid(ID);
        let body = format!(r#"{{"command":"calling.end","id":"{uuid}","params":{{}}}}"#);
        let request = Request::post(COMMANDS).body(Body::from(body.clone())).unwrap();
        let (request, id) = subject_of(request).await.unwrap();
        assert_eq!(id, Some(Subject::Id(ID)));
        assert_eq!(axum::body::to_bytes(request.into_body(), MAX_BODY).await.unwrap(), body.as_bytes());
    }

    #[tokio::test]
    async fn a_forwarded_request_and_its_answer_keep_every_octet() {
        let body: Vec<u8> = (0..=255).collect();
        let forwarded = Forwarded {
            method: "PUT".into(),
            uri: "/v2/calls/x?a=%20b".into(),
            headers: vec![("x-latin".into(), octets(&[0xe9])), ("bad name".into(), octets(b"x"))],
            body: octets(&body),
            client: Some("127.0.0.9:5".parse().unwrap()),
        };
        let text = serde_json::to_string(&forwarded).unwrap();
        let request = request(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!((request.method(), request.uri().to_string()), (&Method::PUT, "/v2/calls/x?a=%20b".to_owned()));
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers().get("x-latin").map(HeaderValue::as_bytes), Some(&[0xe9][..]));
        let echoed = Answered::of((StatusCode::CREATED, body.clone()).into_response()).await;
        let echoed: Answered = serde_json::from_str(&serde_json::to_string(&echoed).unwrap()).unwrap();
        let response = echoed.response();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(axum::body::to_bytes(response.into_body(), MAX_BODY).await.unwrap(), body);
    }
}
