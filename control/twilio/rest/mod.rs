//! The 2010-04-01 REST API: `/2010-04-01/...`. A single route takes all paths, so that an unknown path gets the API's
//! own error. Each group of resources has a file with a function `answer`. `answer` receives the path segments that
//! follow the group's name.

mod accounts;
mod addresses;
mod applications;
mod available_phone_numbers;
mod calls;
mod conferences;
pub mod elsewhere;
mod events;
mod incoming_phone_numbers;
mod insights;
mod keys;
mod monitor;
mod notifications;
mod outgoing_caller_ids;
mod queues;
mod recordings;
mod refused;
mod resource_pages;
mod sip;
mod siprec;
mod streams;
mod test_credentials;
mod tokens;
mod transcriptions;
mod trunking;
mod usage;
pub(super) mod user_defined_messages;
mod v1;
mod written;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::Value;
use subtle::ConstantTimeEq;
use tandem_accounts::subaccount::AccountStatus;
use tandem_accounts::usage::Trigger;
use tandem_accounts::{Account, Accounts};
use tandem_call::command::{Accepted, Command, Refused, Request as LegRequest};
use tandem_call::leg::LegInfo;
use tandem_dialect::Notice;
use tandem_history::problem::Problem;
use tandem_http::exchange::HttpExchange;
use tandem_id::LegId;
use tandem_operations::accounts::may_transfer;
use tandem_operations::calls::DeleteError;
use tandem_operations::numbers::Numbers;
use tandem_routing::Routing;
use tandem_routing::inventory::Inventory;
use tandem_routing::new_call::CreateError;
use tandem_runtime::app::App;
use tandem_runtime::reporting::ProblemOwner;
use tandem_runtime::services::Services;
use tandem_store::resources::{self, Filter, Kind, NotAdded, Resource};
use tandem_store::{Store, StoreError, StoreFailed};

use super::Twilio;
use super::error::{ApiError, FOREIGN_CALLER, allow};
use super::family::{Owner, Provider};
use super::form::Parameters;
use super::list::Paging;
use super::path::{self, Path};
use super::sid::{self, Ids};
pub use tokens::ice_servers;

/// Maximum size of a request body, in octets.
const MAX_BODY: usize = 256 * 1024;

/// Prefix of the paths of SignalWire's Compatibility API. SignalWire's SDKs omit this prefix.
const COMPATIBILITY: &str = "/api/laml";

/// The providers that have Twilio's REST paths.
pub type Members = &'static [&'static dyn Provider];

/// The routes for every path of the API. They serve these providers.
pub fn routes(members: Members) -> Router<App> {
    Router::new()
        .route("/2010-04-01", any(serve))
        .route("/2010-04-01.json", any(serve))
        .route("/2010-04-01.xml", any(serve))
        .route("/2010-04-01/{*path}", any(serve))
        .route("/api/laml/2010-04-01/{*path}", any(serve))
        .route("/v1/Trunks", any(serve))
        .route("/v1/Trunks/{*path}", any(serve))
        .route("/v1/Alerts", any(serve))
        .route("/v1/Alerts/{sid}", any(serve))
        .route("/v1/Events", any(serve))
        .route("/v1/Voice/{*path}", any(serve))
        .layer(Extension(members))
}

/// The notice that a usage trigger sends when the usage has reached the trigger's value.
pub(super) fn usage_notice(account_sid: &str, trigger: &Resource<Trigger>, figure: f64) -> Notice {
    usage::notice(account_sid, trigger, figure)
}

/// The account that a request's credentials for this provider belong to. `None` if there is no such account, or if the
/// account is not active.
pub fn caller(provider: &dyn Provider, accounts: &Accounts, headers: &HeaderMap) -> Option<Arc<Account>> {
    let Login { account, .. } = login(provider, accounts, headers)?;
    (accounts.status(&account.name) == AccountStatus::Active).then_some(account)
}

/// The account that a request's SID and auth token belong to. API keys are not accepted here, because an account may
/// give its API keys to others.
pub fn owner(provider: &dyn Provider, accounts: &Accounts, headers: &HeaderMap) -> Option<Arc<Account>> {
    let Login { account, by_key } = login(provider, accounts, headers)?;
    (!by_key && accounts.status(&account.name) == AccountStatus::Active).then_some(account)
}

/// The account that authenticated a request.
struct Login {
    account: Arc<Account>,
    /// Whether the request used an API key. Such a request may not read or change keys and accounts.
    by_key: bool,
}

/// Authenticates a request. The request has a bearer token or HTTP Basic credentials. The Basic credentials are the SID
/// and secret of the account, or the SID and secret of an API key. Secrets are compared in constant time. A closed
/// account cannot authenticate.
fn login(provider: &dyn Provider, accounts: &Accounts, headers: &HeaderMap) -> Option<Login> {
    if let Some(token) = bearer(headers) {
        let account = provider.bearer(accounts, token)?;
        return (accounts.status(&account.name) != AccountStatus::Closed).then_some(Login { account, by_key: false });
    }
    let (username, password) = basic(headers)?;
    let login = match sid::parse("SK", &username).filter(|_| provider.has_api_keys()) {
        Some(key) => Login { account: accounts.by_key(key, &password)?, by_key: true },
        None => {
            let account = accounts.by_sid(&username)?;
            let own = provider.credentials(&account).filter(|own| own.sid == username)?;
            let right = bool::from(password.as_bytes().ct_eq(own.secret.as_bytes()));
            Login { account: right.then_some(account)?, by_key: false }
        }
    };
    (accounts.status(&login.account.name) != AccountStatus::Closed).then_some(login)
}

async fn serve(
    State(app): State<App>,
    Extension(members): Extension<Members>,
    request: axum::http::Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let requested = parts.uri.path();
    let requested = requested.strip_prefix(COMPATIBILITY).unwrap_or(requested);
    let member = members.iter().find(|member| login(**member, &app.accounts, &parts.headers).is_some());
    let test = test_credentials::login(&app.accounts, &parts.headers);
    let encoded = if parts.method == Method::POST {
        // The body is read only after the authentication.
        if member.is_none() && test.is_none() {
            return identified(ApiError::unauthenticated().into_response());
        }
        match axum::body::to_bytes(body, MAX_BODY).await {
            Ok(body) => match other_body(&parts.headers, &body) {
                None => body,
                Some(kind) => return identified(body_refused(kind).into_response()),
            },
            Err(_) => {
                app.calls.services().counters.body_refused();
                return identified(ApiError::bad(20001, "The request body cannot be read").into_response());
            }
        }
    } else {
        parts.uri.query().unwrap_or_default().to_owned().into()
    };
    let provider = member.copied().unwrap_or_else(|| member_of(members, &app.accounts, requested));
    let (form, path) = written::requested_form(requested, &parts.headers, provider.answers_in_xml());
    let parameters = Parameters::parse(provider, &encoded);
    let member_request = MemberRequest { method: &parts.method, path: &path, headers: &parts.headers };
    let response = match &test {
        Some(test) => test_credentials::answer(&app, test, &parts.method, &path, &parameters)
            .unwrap_or_else(IntoResponse::into_response),
        None => answered(&app, provider, member_request, parameters).await,
    };
    identified(written::rewritten(form, &path, response).await)
}

/// The name of a body that is no form.
pub const JSON: &str = "JSON";

/// Returns the format of a body that is no form: JSON, XML or `multipart/form-data`. The first octet of the body decides,
/// because many clients send a form or JSON with another content type, or with none. No parameter of a form begins with
/// these octets.
pub fn other_body(headers: &HeaderMap, body: &[u8]) -> Option<&'static str> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    match body.trim_ascii_start().first()? {
        b'{' | b'[' => Some(JSON),
        b'<' => Some("XML"),
        _ if essence.eq_ignore_ascii_case("multipart/form-data") => Some("multipart/form-data"),
        _ => None,
    }
}

fn body_refused(kind: &str) -> ApiError {
    let message = format!(
        "The request body is {kind}, but this API takes parameters as application/x-www-form-urlencoded, for example \
         To=%2B15551230001&Url=https%3A%2F%2Fapp.example%2Fvoice"
    );
    ApiError::bad(20001, message)
}

/// A request to a provider that has its own paths instead of Twilio's paths.
#[derive(Clone, Copy, Debug)]
pub struct MemberRequest<'a> {
    /// The HTTP method.
    pub method: &'a Method,
    /// The path, with the provider's prefix.
    pub path: &'a str,
    /// The header fields, including the credentials.
    pub headers: &'a HeaderMap,
}

/// Answers a request to a provider that has its own paths instead of Twilio's paths.
pub async fn serve_member(
    app: &App,
    provider: &'static dyn Provider,
    member_request: MemberRequest<'_>,
    pairs: Vec<(String, String)>,
) -> Response {
    answered(app, provider, member_request, Parameters::new(provider, pairs)).await
}

async fn answered(
    app: &App,
    provider: &'static dyn Provider,
    MemberRequest { method, path, headers }: MemberRequest<'_>,
    parameters: Parameters,
) -> Response {
    let request = Request { app, provider, method, path, headers, parameters };
    match request.answer().await {
        Ok(response) => as_member(provider, path, headers, response).await,
        Err(error) => {
            let allow = error.allow.map(|methods| [(header::ALLOW, methods)]);
            match provider.refusal(error.status, error.code, &error.message) {
                Some((status, body)) => (status, allow, Json(body)).into_response(),
                None => (allow, error).into_response(),
            }
        }
    }
}

/// Rewrites a successful answer to the provider's format. Audio is unchanged.
async fn as_member(provider: &'static dyn Provider, path: &str, headers: &HeaderMap, response: Response) -> Response {
    let Some(rewrite) = provider.answer().filter(|_| is_json(&response)) else { return response };
    let Some(path) = path::parse(path) else { return response };
    let below: Vec<&str> = path.below.iter().map(AsRef::as_ref).collect();
    let (mut parts, body) = response.into_parts();
    // This server wrote the body, and the page size limits the body's length.
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { return Response::from_parts(parts, body.into()) };
    rewrite(&below, &mut parts.status, &mut value);
    let user_agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if provider.writes_iso_dates(user_agent) {
        written::with_iso_dates(&mut value);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, value.to_string().into())
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}

/// The provider for which the account in the path has credentials. If there is no such provider, the result is Twilio.
fn member_of(members: Members, accounts: &Accounts, path: &str) -> &'static dyn Provider {
    let sid = path::parse(path).and_then(|path| path.account);
    let account = sid.as_deref().and_then(|sid| accounts.by_sid(sid));
    let knows = |member: &&&'static dyn Provider| {
        let own = account.as_ref().and_then(|account| member.credentials(account));
        own.is_some_and(|own| Some(&*own.sid) == sid.as_deref())
    };
    members.iter().find(knows).copied().unwrap_or(&Twilio)
}

fn identified(mut response: Response) -> Response {
    let id = format!("RQ{:032x}", rand::random::<u128>());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("Twilio-Request-Id", id);
    }
    response
}

/// A request that is not yet authenticated.
struct Request<'a> {
    app: &'a App,
    provider: &'static dyn Provider,
    method: &'a Method,
    path: &'a str,
    headers: &'a HeaderMap,
    parameters: Parameters,
}

/// The operation on a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    /// Fetch or list (`GET`, `HEAD`).
    Get,
    /// Create or update (`POST`).
    Post,
    Delete,
    /// Any other method.
    Other,
}

/// An authenticated request. The client has access to `account`.
struct RestContext<'a> {
    app: &'a App,
    provider: &'static dyn Provider,
    verb: Verb,
    path: &'a str,
    parameters: &'a Parameters,
    account: Arc<Account>,
    /// SID of `account`.
    sid: String,
    /// Whether the request has the credentials of `account`. `false` if the request has the credentials of the parent
    /// account.
    own: bool,
}

type Answer = Result<Response, ApiError>;

impl Request<'_> {
    async fn answer(&self) -> Answer {
        if let Some(below) = trunking::below(self.path) {
            return trunking::answer(self, &below).await;
        }
        match v1::below(self.path).as_slice() {
            ["Alerts", below @ ..] => return monitor::alerts(self, below).await,
            ["Events"] => return monitor::events(self),
            ["Voice", below @ ..] => return insights::answer(self, below).await,
            _ => {}
        }
        if self.path == path::ROOT || self.path == path::ROOT_AS_JSON {
            return Ok(ok(path::version()));
        }
        let path = path::parse(self.path);
        let audio = path
            .as_ref()
            .filter(|_| *self.method != Method::DELETE)
            .and_then(|path| recordings::audio(self.provider, path));
        if let (Some((id, form)), Some(path)) = (audio, &path) {
            return recordings::serve(self, path.account.as_deref().unwrap_or_default(), id, form).await;
        }
        let login = self.login()?;
        let Some(Path { account: requested, below, .. }) = path else { return Err(self.not_found()) };
        let below: Vec<&str> = below.iter().map(AsRef::as_ref).collect();
        let account = self.subject(&login, requested.as_deref(), &below)?;
        let own = account.name == login.account.name;
        let x = self.context(account, own)?;
        if let Some(refused) = requested.as_ref().and_then(|_| refused::find(self.provider, &below)) {
            return Err(refused);
        }
        if below.first().is_some_and(|resource| !self.provider.has(resource)) {
            return Err(x.not_found());
        }
        match (requested, &below[..]) {
            (None, _) => accounts::all(&x).await,
            (Some(_), []) => accounts::answer(&x).await,
            (_, ["Keys", below @ ..]) => keys::answer(&x, keys::Name::Key, below).await,
            (_, ["SigningKeys", below @ ..]) => keys::answer(&x, keys::Name::SigningKey, below).await,
            (_, ["Tokens"]) => tokens::answer(&x),
            (_, ["Addresses", below @ ..]) => addresses::answer(&x, below).await,
            (_, ["Usage", below @ ..]) => usage::answer(&x, below).await,
            (_, ["Balance"]) => accounts::balance(&x),
            (_, ["Applications", below @ ..]) => applications::answer(&x, below).await,
            (_, ["AvailablePhoneNumbers", below @ ..]) => available_phone_numbers::answer(&x, below),
            (_, ["Calls", below @ ..]) => calls::answer(&x, below).await,
            (_, ["Conferences", below @ ..]) => conferences::answer(&x, below).await,
            (_, ["IncomingPhoneNumbers", below @ ..]) => incoming_phone_numbers::answer(&x, below).await,
            (_, ["OutgoingCallerIds", below @ ..]) => outgoing_caller_ids::answer(&x, below).await,
            (_, ["Queues", below @ ..]) => queues::answer(&x, below).await,
            (_, ["Notifications", below @ ..]) => notifications::answer(&x, None, below).await,
            (_, ["Recordings", below @ ..]) => recordings::answer(&x, below).await,
            (_, ["SIP", below @ ..]) => sip::answer(&x, below).await,
            (_, ["Transcriptions", below @ ..]) => transcriptions::answer(&x, None, below).await,
            _ => Err(x.not_found()),
        }
    }

    fn verb(&self) -> Verb {
        match *self.method {
            Method::GET | Method::HEAD => Verb::Get,
            Method::POST => Verb::Post,
            Method::DELETE => Verb::Delete,
            _ => Verb::Other,
        }
    }

    fn login(&self) -> Result<Login, ApiError> {
        login(self.provider, &self.app.accounts, self.headers).ok_or_else(ApiError::unauthenticated)
    }

    /// The account that the request concerns: the client's own account, or one of its subaccounts.
    fn subject(&self, login: &Login, requested: Option<&str>, below: &[&str]) -> Result<Arc<Account>, ApiError> {
        let accounts = &self.app.accounts;
        let own = self.provider.credentials(&login.account).map(|own| own.sid.into_owned());
        let about_accounts = matches!(below, [] | ["Keys" | "SigningKeys", ..]);
        // A client with an API key must not read the account's auth token or create further keys.
        if login.by_key && about_accounts {
            return Err(ApiError::unauthenticated());
        }
        let inactive = || ApiError::forbidden(20005, "Account is not active");
        if accounts.status(&login.account.name) != AccountStatus::Active {
            return Err(inactive());
        }
        let Some(requested) = requested.filter(|requested| Some(*requested) != own.as_deref()) else {
            return Ok(Arc::clone(&login.account));
        };
        let account = accounts.by_sid(requested).filter(|_| !login.by_key).ok_or_else(ApiError::unauthenticated)?;
        if accounts.parent(&account.name).as_ref() != Some(&login.account.name) {
            return Err(ApiError::unauthenticated());
        }
        // The parent account may still read an inactive subaccount, and change the status of the subaccount.
        if accounts.status(&account.name) != AccountStatus::Active && !below.is_empty() {
            return Err(inactive());
        }
        Ok(account)
    }

    /// The value of the request's `Host` header.
    fn host(&self) -> Option<&str> {
        self.headers.get(header::HOST).and_then(|host| host.to_str().ok())
    }

    /// Authenticates a request with a path that names no account. Such a request concerns the client's own account.
    fn about_itself(&self) -> Result<RestContext<'_>, ApiError> {
        let login = self.login()?;
        self.context(self.subject(&login, None, &["about itself"])?, true)
    }

    fn context(&self, account: Arc<Account>, own: bool) -> Result<RestContext<'_>, ApiError> {
        let credentials = self.provider.credentials(&account).ok_or_else(ApiError::unauthenticated)?;
        let sid = credentials.sid.into_owned();
        let (app, provider, verb, path, parameters) =
            (self.app, self.provider, self.verb(), self.path, &self.parameters);
        Ok(RestContext { app, provider, verb, path, parameters, account, sid, own })
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(self.path)
    }
}

/// The result of [`RestContext::leg_start_or_stop`]: start a new object or stop an object.
enum StartOrStop<'a> {
    Start,
    /// Stop the object with this SID or name.
    Stop(&'a str),
}

impl RestContext<'_> {
    fn account_sid(&self) -> &str {
        &self.sid
    }

    /// The account and the provider that determine the format of the resources in the answer.
    fn owner(&self) -> Owner<'_> {
        Owner::new(self.provider, &self.sid)
    }

    fn ids(&self) -> Ids {
        self.provider.ids()
    }

    /// The requested page of a list. `prefix` is the prefix of the listed SIDs.
    fn paging(&self, prefix: &str) -> Result<Paging, ApiError> {
        Paging::parse(self.parameters, self.ids(), prefix)
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(self.path)
    }

    /// Reports warnings about a request that was executed. `of` is the leg that the request created or changed, or the
    /// account.
    fn warn(&self, of: ProblemOwner<'_>, exchange: Option<&HttpExchange>, warnings: Vec<(u32, String)>) {
        for (code, message) in warnings {
            let warning = Problem::of_warning(code, message, exchange.cloned());
            self.app.calls.report_with_line(of, warning);
        }
    }

    /// A leg of the account with this id. Error 404 if the account has no such leg.
    async fn leg(&self, id: LegId) -> Result<Arc<LegInfo>, ApiError> {
        self.app.calls.get(&self.account.name, id).await?.ok_or_else(|| self.not_found())
    }

    /// Parses a request about the streams, transcriptions or SIPREC sessions of a call. A `POST` to the path of the
    /// list starts an object. A `POST` with `Status=stopped` to the path of an object stops the object.
    async fn leg_start_or_stop<'a>(&self, leg: LegId, below: &[&'a str]) -> Result<StartOrStop<'a>, ApiError> {
        self.leg(leg).await?;
        self.started_or_stopped(below)
    }

    /// Like [`RestContext::leg_start_or_stop`], but for objects that do not belong to a call.
    fn started_or_stopped<'a>(&self, below: &[&'a str]) -> Result<StartOrStop<'a>, ApiError> {
        match (below, self.verb) {
            ([], Verb::Post) => Ok(StartOrStop::Start),
            ([name], Verb::Post) if self.parameters.get("Status") == Some("stopped") => Ok(StartOrStop::Stop(name)),
            ([_], Verb::Post) => Err(ApiError::bad(20001, "Status is required and must be stopped")),
            ([] | [_], _) => Err(ApiError::method_not_allowed(allow::POST)),
            _ => Err(self.not_found()),
        }
    }

    /// One page of a list. `name` is the list's path below the account. `items` are pairs of a SID and a resource.
    fn list(&self, key: &'static str, name: &str, paging: &Paging, items: Vec<(String, Value)>) -> Value {
        paging.envelope(key, &self.owner().uri(name), self.parameters, items)
    }

    /// Answers a request for a list of stored resources. `key` is the key in the envelope, `name` is the path below the
    /// account, and `prefix` is the prefix of the SIDs.
    async fn resources<T: DeserializeOwned>(
        &self,
        kind: Kind<T>,
        (key, name, prefix): (&'static str, &str, &str),
        filter: &Filter<'_>,
        represent: impl Fn(&Resource<T>) -> Value,
    ) -> Answer {
        let paging = self.paging(prefix)?;
        let (store, page) = (self.store(), paging.page());
        let after = match page.after {
            Some(id) => resources::cursor(store, &self.account.name, id).await?,
            None => None,
        };
        let rows = resources::list(store, kind, &self.account.name, filter, &page.after(after)).await?;
        let items = rows.iter().map(|row| (sid::spell(prefix, row.id), represent(row))).collect();
        Ok(ok(self.list(key, name, &paging, items)))
    }

    /// The current routing: the numbers and applications of all accounts.
    fn routing(&self) -> Arc<Routing> {
        self.services().routing.load_full()
    }

    /// The numbers of the account.
    fn numbers(&self) -> Numbers<'_> {
        Numbers::new(self.routing(), self.store(), &self.app.accounts, &self.account.name, self.provider.name())
    }

    /// The resources of all accounts: numbers, applications and caller ids.
    fn inventory(&self) -> Arc<Inventory> {
        Arc::clone(self.routing().inventory())
    }

    /// The account with this SID, if a resource of the request's account may be transferred to it. Otherwise error 403.
    fn new_owner(&self, sid: &str) -> Result<Arc<Account>, ApiError> {
        let accounts = &self.app.accounts;
        let new_owner = accounts.by_sid(sid).filter(|to| may_transfer(accounts, &self.account, to, self.own));
        let refused = || format!("The resources of this account cannot be transferred to {sid}");
        new_owner.ok_or_else(|| ApiError::forbidden(20006, refused()))
    }

    fn store(&self) -> &Store {
        &self.services().store
    }

    fn services(&self) -> &Arc<Services> {
        self.app.calls.services()
    }

    async fn request(&self, id: LegId, command: Command) -> Result<Accepted, Refused> {
        self.app.calls.request(id, LegRequest { client_state: None, command }).await
    }

    /// Converts the reason why a call or a recording was not deleted to an error. `live` is the message if the call or
    /// recording has not ended.
    fn not_deleted(&self, why: DeleteError, live: &str) -> ApiError {
        match why {
            DeleteError::Unknown => self.not_found(),
            DeleteError::Live => ApiError::bad(20009, live),
            DeleteError::Store(failed) => failed.into(),
        }
    }

    fn refused(&self, refused: Refused) -> ApiError {
        match refused {
            Refused::NoSuchLeg | Refused::NotRunning => self.not_found(),
            Refused::Ended | Refused::NotAnswered => ApiError::bad(21220, "Call is not in-progress."),
            Refused::AlreadyAnswered | Refused::AlreadyRunning | Refused::CannotBridge | Refused::NotJoined => {
                ApiError::bad(21220, "The call's state does not allow this.")
            }
            Refused::ForbiddenAddress => ApiError::bad(20001, "The address is not permitted"),
            Refused::NoAnswer => conferences::no_answer(&refused),
            Refused::TooMany => {
                let message = "This call already has the maximum number of these";
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, 20429, message)
            }
        }
    }
}

/// Converts the reason why a resource was not added to an error. `full` returns the message if the maximum number of
/// resources is reached.
fn not_added(why: NotAdded, full: impl FnOnce(u64) -> String) -> ApiError {
    match why {
        NotAdded::Full(max) => ApiError::bad(20001, full(max)),
        NotAdded::Taken => ApiError::internal(),
        NotAdded::Store(error) => error.into(),
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        StoreFailed::from(error).into()
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        let cause = error.cause();
        let answer = match error {
            CreateError::NoRoute(to) if to.starts_with("app:") => {
                Self::bad(21218, format!("There is no application with a VoiceUrl for {to}"))
            }
            CreateError::NoRoute(to) => {
                let message = format!(
                    "'To' number {to} cannot be reached: no trunk accepts it. Add a trunk for it, or call one of this server's \
                     own numbers or a SIP URI"
                );
                Self::bad(21214, message)
            }
            CreateError::ForbiddenTarget { .. } => Self::bad(21214, format!("'To' cannot be reached: {error}")),
            CreateError::ForeignCaller(_) => Self::bad(FOREIGN_CALLER, format!("Source phone number {error}")),
            CreateError::IdentityHeader(_) => Self::bad(21228, format!("The SIP header {error}")),
            CreateError::NoSuchLeg => Self::bad(21220, "The other call has ended"),
            CreateError::Draining => {
                let message = "Service unavailable: the server is shutting down";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, 20503, message)
            }
            CreateError::NoMedia(shortage) => {
                let message = format!("Service unavailable: {shortage}");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, 20503, message)
            }
            CreateError::Full | CreateError::Barred(_) => {
                let message = "Call concurrency limit exceeded";
                Self::new(StatusCode::TOO_MANY_REQUESTS, 10004, message)
            }
            CreateError::Store(failed) => failed.into(),
        };
        Self { cause, ..answer }
    }
}

fn ok(body: Value) -> Response {
    Json(body).into_response()
}

/// HTTP status 201 with the new resource.
fn created(body: Value) -> Response {
    (StatusCode::CREATED, Json(body)).into_response()
}

/// HTTP status 204, the answer to a deletion.
fn deleted() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The token of an `Authorization: Bearer` header (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

/// The user name and the password of an `Authorization: Basic` header (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests;
