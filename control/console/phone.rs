//! The softphone of the web console: one request is one call, as of the page `/dev/phone`. A page with a socket also takes calls:
//! as a client of an account, and to listen to a live call.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tandem_call::conversation::AgentSpec;
use tandem_call::leg::LegOwner;
use tandem_call::route::{Decision, Route};
use tandem_call::{Method, Target};
use tandem_clients::User;
use tandem_id::AccountName;
use tandem_pages::socket::MAX_FRAME;
use tandem_routing::agent_program;
use tandem_runtime::app::App;
use tandem_settings::{ApplicationKind, PROVIDERS};
use tandem_softphone::{Call, Desk};
use url::Url;

use crate::Scope;
use crate::access::Changer;
use crate::session::{advised, refused};

/// Maximum length of the name of a client, in characters.
const MAX_NAME: usize = 64;
/// Maximum length of the prompt for one call, in octets.
const MAX_PROMPT: usize = 64 * 1024;

pub(super) fn routes(desk: Desk) -> Router<App> {
    Router::new()
        .route("/console/phone/calls", post(call))
        .route("/console/phone/targets", get(targets))
        .route("/console/phone/socket", post(connect))
        .route("/console/phone/socket/{id}", get(open))
        .layer(DefaultBodyLimit::max(MAX_FRAME + MAX_PROMPT))
        .layer(Extension(desk))
}

/// A call of the softphone.
#[derive(Deserialize)]
struct NewCall {
    /// The browser's offer with all its candidates.
    sdp: String,
    /// The called number or user.
    #[serde(default)]
    to: String,
    /// The calling number or name.
    #[serde(default)]
    from: String,
    /// The account of the call. Without it, the client's own account.
    account: Option<AccountName>,
    #[serde(flatten)]
    application: Called,
}

/// The application that takes the call. Without one, the called number decides.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Called {
    /// The URL of a document, and the provider in whose form the document is requested.
    url: Option<String>,
    provider: Option<String>,
    /// The id of an application.
    application: Option<String>,
    /// The name of an agent, and its prompt for this call.
    agent: Option<String>,
    prompt: Option<String>,
}

/// A call that is refused: the reason, and what to do.
pub(super) type Refusal = (StatusCode, String, &'static str);

impl Called {
    /// Returns the name of the called party if the page gives none, and the route.
    fn route(self, app: &App, account: &AccountName) -> Result<Option<(String, Route)>, Refusal> {
        let services = app.calls.services();
        let routing = services.routing.load_full();
        let route = |provider: Arc<str>, decision| Route {
            owner: LegOwner::new(account.clone(), provider),
            status: None,
            record: None,
            decision,
        };
        let unknown =
            |what: &str, name: &str, advice| (StatusCode::NOT_FOUND, format!("no {what} is named {name}"), advice);
        if let Some(url) = self.url {
            let provider = self.provider.map_or_else(|| routing.documents(account), Arc::from);
            if !documents().any(|one| one == &*provider) {
                return Err(unknown("provider of documents", &provider, "choose a provider of the list"));
            }
            let target = Target { url: document_url(&url)?.into(), method: Method::Post };
            let decision = Decision::Document { target, fallback: None };
            return Ok(Some(("application".to_owned(), route(provider, decision))));
        }
        if let Some(id) = self.application {
            let found = routing.to_application(account, id.trim());
            let advice = "use the id of an application of this account: [[applications]], or one made with the API";
            return found
                .map(|found| Some(("application".to_owned(), found)))
                .ok_or_else(|| unknown("application", &id, advice));
        }
        let Some(name) = self.agent else { return Ok(None) };
        if services.conversations.agents.load().get(&name).is_none() {
            return Err(unknown("agent", &name, "use the name of an entry of [[agents]]"));
        }
        let prompt = self.prompt.filter(|prompt| !prompt.trim().is_empty()).map(Arc::from);
        let agent = AgentSpec { name: name.into(), prompt, ..AgentSpec::default() };
        let decision = Decision::Program(agent_program(agent));
        Ok(Some(("agent".to_owned(), route(routing.documents(account), decision))))
    }
}

/// The providers whose applications answer with documents.
fn documents() -> impl Iterator<Item = &'static str> {
    PROVIDERS.into_iter().filter(|provider| ApplicationKind::of(provider) == ApplicationKind::Documents)
}

/// Checks the form of a document's URL. The request itself goes through the guard of all webhooks.
pub(super) fn document_url(text: &str) -> Result<String, Refusal> {
    let wrong = |why: &str| {
        let advice = "use the address that your provider would call, such as https://app.example.com/voice";
        Err((StatusCode::BAD_REQUEST, format!("{:?} is no URL of a document: {why}", text.trim()), advice))
    };
    match Url::parse(text.trim()) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => wrong("it begins with neither http:// nor https://"),
        Ok(url) if url.host_str().is_none_or(str::is_empty) => wrong("it has no host"),
        Ok(url) => Ok(url.to_string()),
        Err(error) => wrong(&error.to_string()),
    }
}

/// `POST /console/phone/calls`: makes a call.
async fn call(
    State(app): State<App>,
    Changer(scope): Changer,
    Extension(desk): Extension<Desk>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Json(new): Json<NewCall>,
) -> Response {
    let account = new.account.unwrap_or_else(|| scope.account().clone());
    if !scope.sees(&account) {
        return refused(StatusCode::NOT_FOUND, "no such account");
    }
    let (usual, route) = match new.application.route(&app, &account) {
        Ok(found) => found.unzip(),
        Err((status, why, advice)) => return advised(status, &why, advice),
    };
    let to = if new.to.trim().is_empty() { usual.unwrap_or_default() } else { new.to };
    desk.call(Call { account, place: "the console", name: "console", peer, to, from: new.from, offer: new.sdp, route })
}

/// The applications and agents that a person may call without a number.
#[derive(Serialize)]
struct Targets {
    /// The providers whose applications answer with documents. The first one is the usual one of the account.
    providers: Vec<Arc<str>>,
    applications: Vec<String>,
    agents: Vec<ShownAgent>,
}

#[derive(Serialize)]
struct ShownAgent {
    name: Arc<str>,
    prompt: Option<Arc<str>>,
    first_message: Option<Arc<str>>,
}

/// `GET /console/phone/targets`: what can be called without a number. Only clients that may call get the prompts.
async fn targets(State(app): State<App>, Changer(scope): Changer) -> Response {
    let services = app.calls.services();
    let routing = services.routing.load_full();
    let mut providers: Vec<Arc<str>> = documents().map(Arc::from).collect();
    let usual = routing.documents(scope.account());
    providers.sort_by_key(|provider| *provider != usual);
    let configured = routing.applications().iter().filter(|one| scope.sees(&one.account)).map(|one| one.id.to_string());
    let accounts = scope.accounts(&app, None);
    let stored = accounts.iter().flat_map(|account| routing.inventory().applications.all(account));
    let mut applications: Vec<_> = configured.chain(stored.map(|held| held.details.id.clone())).collect();
    applications.sort_unstable();
    let agents = services.conversations.agents.load_full();
    let mut agents: Vec<_> = agents
        .all()
        .map(|agent| ShownAgent {
            name: Arc::clone(&agent.name),
            prompt: agent.prompt.clone(),
            first_message: agent.first_message.clone(),
        })
        .collect();
    agents.sort_by(|one, other| one.name.cmp(&other.name));
    Json(Targets { providers, applications, agents }).into_response()
}

/// The user as which a page takes calls.
#[derive(Deserialize)]
struct NewPhone {
    /// The name: calls to `client:NAME` ring at the page. Empty if no such calls shall ring.
    #[serde(default)]
    name: String,
    account: Option<AccountName>,
}

/// `POST /console/phone/socket`: makes the id with which a page opens its socket. The id is a secret of the page, because a
/// handshake for a WebSocket cannot have the header field of the console's changes.
async fn connect(Changer(scope): Changer, Extension(desk): Extension<Desk>, Json(new): Json<NewPhone>) -> Response {
    let account = new.account.unwrap_or_else(|| scope.account().clone());
    if !scope.sees(&account) {
        return refused(StatusCode::NOT_FOUND, "no such account");
    }
    let name = new.name.trim();
    if !is_name(name) {
        let advice = "use up to 64 letters, digits and the signs . _ - +";
        return advised(StatusCode::BAD_REQUEST, "this is no name of a client", advice);
    }
    match desk.expect(User { account, name: name.into(), domain: None }) {
        Some(id) => Json(json!({ "phone": id })).into_response(),
        None => refused(StatusCode::SERVICE_UNAVAILABLE, "too many softphones are connected; close some of them"),
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-+".contains(&octet))
}

/// `GET /console/phone/socket/{id}`: opens the socket of a page.
async fn open(Extension(desk): Extension<Desk>, Path(id): Path<String>, upgrade: WebSocketUpgrade) -> Response {
    match desk.take(&id).await {
        Ok(Some(expected)) => {
            upgrade.max_message_size(MAX_FRAME).on_upgrade(async move |socket| desk.serve(socket, expected).await)
        }
        Ok(None) => refused(StatusCode::NOT_FOUND, "the id of this softphone has expired; ask for a new one"),
        Err(error) => {
            let text = format!("the node that has made the id of this softphone: {error}");
            advised(StatusCode::SERVICE_UNAVAILABLE, &text, "ask for a new id")
        }
    }
}

/// A user for one call to a page. Until the call is answered, only the page knows the name.
pub(super) fn listener(account: &AccountName, phone: &str) -> User {
    let name = format!("listener-{}", phone.get(..8).unwrap_or_default());
    User { account: account.clone(), name: name.into(), domain: None }
}

/// Whether the client may listen to calls: an operator of the console.
pub(super) fn may_listen(scope: &Scope) -> bool {
    scope.role() == tandem_settings::ConsoleRole::Operator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_document_is_absolute_and_of_the_web() {
        assert_eq!(document_url(" https://a.example/voice ").unwrap(), "https://a.example/voice");
        for (text, why) in [
            ("/voice", "relative URL without a base"),
            ("app.example.com/voice", "relative URL without a base"),
            ("ftp://a.example/", "neither http:// nor https://"),
            ("wss://a.example/", "neither http:// nor https://"),
        ] {
            let (status, found, _) = document_url(text).unwrap_err();
            assert!(status == StatusCode::BAD_REQUEST && found.contains(why), "{text}: {found}");
        }
    }

    #[test]
    fn a_client_has_a_name_that_a_document_can_write() {
        assert!(["", "ana", "desk-1", "a.b_c+d"].iter().all(|name| is_name(name)));
        assert!(!["a b", "a@b", "<a>", "ä"].iter().any(|name| is_name(name)) && !is_name(&"a".repeat(65)));
    }
}
