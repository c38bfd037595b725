//! SIP endpoints of the project's REST API (`/api/relay/rest/endpoints/sip`): phones that register with this server.
//! Each endpoint names the handler of the phone's calls.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_call::Method;
use tandem_history::report::Refusal;
use tandem_operations::phones;
use tandem_routing::phones::provisioned::{MAX_PHONES, PHONES, ProvisionedPhone};
use tandem_runtime::app::App;
use tandem_store::resources::{self, Filter, NotAdded, Resource};
use tandem_store::{Page, StoreError};
use tandem_twilio::sid;

use crate::{NAME, swml};

const PATH: &str = "/api/relay/rest/endpoints/sip";
/// The maximum number of rows on a page. This is also the default number.
const LARGEST_PAGE: u32 = 1_000;
const USUAL_PAGE: u32 = 50;
/// Maximum size of a value that is stored but not used, in octets.
const LONGEST: usize = 1_024;
/// Maximum length of the user name and of the password, in octets.
const LONGEST_NAME: usize = 128;
/// Settings that are stored and shown but have no effect, because this server has its own codecs and ciphers.
const KEPT: [&str; 8] = [
    "send_as",
    "ciphers",
    "codecs",
    "call_fallback_url",
    "call_fallback_method",
    "call_status_callback_url",
    "call_status_callback_method",
    "call_relay_script_url",
];

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(PATH, get(list).post(create))
        .route(&format!("{PATH}/{{id}}"), get(show).put(update).delete(remove))
}

/// An error answer in the API's format: `{errors: [{detail, status, title, code}]}`.
struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl ApiError {
    fn invalid(code: &'static str, detail: impl Into<String>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, code, detail: detail.into() }
    }

    fn unauthorized() -> Self {
        let detail = "The project or its token is unknown".into();
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthorized", detail }
    }

    fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", detail: "There is no such SIP endpoint".into() }
    }
}

impl From<StoreError> for ApiError {
    fn from(_: StoreError) -> Self {
        let detail = "The database does not answer".into();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "service_unavailable", detail }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let status = self.status.as_str().to_owned();
        let error = json!({ "detail": self.detail, "status": status, "title": title, "code": self.code });
        let mut response = (self.status, Json(json!({ "errors": [error] }))).into_response();
        response.extensions_mut().insert(Refusal::new(self.detail, None, None));
        response
    }
}

type Answer = Result<Response, ApiError>;

fn account(app: &App, headers: &HeaderMap) -> Result<std::sync::Arc<Account>, ApiError> {
    super::account(&app.accounts, headers).ok_or_else(ApiError::unauthorized)
}

#[derive(Deserialize)]
struct Paging {
    page_number: Option<u32>,
    page_size: Option<u32>,
}

async fn list(State(app): State<App>, headers: HeaderMap, Query(paging): Query<Paging>) -> Answer {
    let account = account(&app, &headers)?;
    let (number, size) = (paging.page_number.unwrap_or(0), paging.page_size.unwrap_or(USUAL_PAGE));
    let size = size.clamp(1, LARGEST_PAGE);
    let offset = u64::from(number) * u64::from(size);
    let page = Page { offset, ..Page::first(size) };
    let store = &app.calls.services().store;
    let rows = resources::list(store, PHONES, &account.name, &Filter::default(), &page).await?;
    let all = resources::count(store, PHONES, &account.name, &Filter::default()).await?;
    let more = all > offset + u64::from(size);
    // A client selects a page by its number. SignalWire's `page_token` is accepted but not needed.
    let link = |number: u32| format!("{PATH}?page_number={number}&page_size={size}&page_token=P{number}");
    let mut links = json!({ "self": link(number), "first": link(0) });
    if let Some(fields) = links.as_object_mut() {
        if more {
            fields.insert("next".into(), link(number + 1).into());
        }
        if let Some(before) = number.checked_sub(1) {
            fields.insert("prev".into(), link(before).into());
        }
    }
    let data: Vec<Value> = rows.iter().map(shown).collect();
    Ok(Json(json!({ "links": links, "data": data })).into_response())
}

async fn show(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let account = account(&app, &headers)?;
    Ok(Json(shown(&found(&app, &account, &id).await?)).into_response())
}

async fn create(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Answer {
    let account = account(&app, &headers)?;
    let fields = read(&body)?;
    for name in ["username", "password"] {
        if text(&fields, name)?.is_none() {
            return Err(ApiError::invalid("missing_required_parameter", format!("{name} is missing")));
        }
    }
    let phone = ProvisionedPhone { dialect: NAME.to_owned(), outbound: true, ..ProvisionedPhone::default() };
    let row = changed(&app, &account, Resource::new(&account.name, "", phone), &fields)?;
    Ok((StatusCode::CREATED, Json(shown(&keep(&app, row).await?))).into_response())
}

async fn update(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>, body: Bytes) -> Answer {
    let account = account(&app, &headers)?;
    let fields = read(&body)?;
    let mut row = found(&app, &account, &id).await?;
    if text(&fields, "username")?.is_some_and(|name| name != row.name) && text(&fields, "password")?.is_none() {
        // The stored digest of a password is valid for only one user name.
        return Err(ApiError::invalid("missing_required_parameter", "a new username requires a password"));
    }
    row.updated_at = Timestamp::now();
    let row = changed(&app, &account, row, &fields)?;
    Ok(Json(shown(&keep(&app, row).await?)).into_response())
}

async fn remove(State(app): State<App>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let account = account(&app, &headers)?;
    let row = found(&app, &account, &id).await?;
    phones::remove(app.calls.services(), PHONES, &account.name, row.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn read(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError {
        status: StatusCode::BAD_REQUEST,
        code: "bad_request",
        detail: format!("The body is not a JSON object: {error}"),
    })
}

async fn found(app: &App, account: &Account, id: &str) -> Result<Resource<ProvisionedPhone>, ApiError> {
    let id = sid::parse_uuid(id).ok_or_else(ApiError::not_found)?;
    let row = resources::get(&app.calls.services().store, PHONES, &account.name, id).await?;
    row.ok_or_else(ApiError::not_found)
}

/// Stores an endpoint. SIP uses the changed endpoint immediately.
async fn keep(app: &App, mut row: Resource<ProvisionedPhone>) -> Result<Resource<ProvisionedPhone>, ApiError> {
    let kept = phones::keep_phone(app.calls.services(), PHONES, &mut row, MAX_PHONES).await;
    kept.map_err(|why| match why {
        NotAdded::Full(max) => ApiError::invalid("too_many", format!("A project has at most {max} SIP endpoints")),
        NotAdded::Taken => taken(&row.name),
        NotAdded::Store(error) => error.into(),
    })?;
    Ok(row)
}

fn taken(username: &str) -> ApiError {
    ApiError::invalid("value_taken", format!("username {username} is taken"))
}

/// Returns the endpoint with the changes from the request. Fields that are not in the request keep their values.
fn changed(
    app: &App,
    account: &Account,
    mut row: Resource<ProvisionedPhone>,
    fields: &Map<String, Value>,
) -> Result<Resource<ProvisionedPhone>, ApiError> {
    let routing = app.calls.services().routing.load_full();
    let phone = &mut row.details;
    if let Some(name) = text(fields, "username")? {
        let is_plain = |one: char| one.is_ascii_alphanumeric() || "+*#._-".contains(one);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
            return Err(ApiError::invalid(
                "invalid_parameter",
                "username may contain only letters, digits and + * # . _ -",
            ));
        }
        if routing.phones().is_taken(&account.name, name) {
            return Err(taken(name));
        }
        row.name = name.to_owned();
    }
    if let Some(password) = text(fields, "password")? {
        if password.is_empty() || password.len() > LONGEST_NAME {
            return Err(ApiError::invalid(
                "invalid_parameter",
                format!("password must have 1 to {LONGEST_NAME} characters"),
            ));
        }
        phone.set_password(&row.name, routing.phones().realm(), password);
    }
    if let Some(number) = text(fields, "caller_id")? {
        phone.caller_id = Some(number.to_owned()).filter(|number| !number.is_empty());
    }
    if let Some(word) = text(fields, "encryption")? {
        phone.encrypted = match word {
            "required" => Some(true),
            // With these words, a call uses SRTP if the phone offers it.
            "default" | "optional" => None,
            _ => {
                return Err(ApiError::invalid("invalid_parameter", "encryption must be default, required or optional"));
            }
        };
        phone.other.insert("encryption".into(), word.into());
    }
    for key in KEPT {
        if let Some(value) = fields.get(key) {
            if value.to_string().len() > LONGEST {
                return Err(ApiError::invalid("invalid_parameter", format!("{key} is too long")));
            }
            phone.other.insert(key.to_owned(), value.clone());
        }
    }
    decided(phone, fields)?;
    Ok(row)
}

/// Applies `call_handler` and its parameters. These fields select the handler of the endpoint's calls.
fn decided(phone: &mut ProvisionedPhone, fields: &Map<String, Value>) -> Result<(), ApiError> {
    for key in ["call_handler", "call_request_url", "call_request_method", "call_laml_application_id"] {
        if let Some(value) = text(fields, key)? {
            if value.len() > LONGEST {
                return Err(ApiError::invalid("invalid_parameter", format!("{key} is too long")));
            }
            phone.other.insert(key.to_owned(), value.into());
        }
    }
    let kept = |key: &str| phone.other.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let url = |key: &str| {
        let url =
            kept(key).ok_or_else(|| ApiError::invalid("missing_required_parameter", format!("{key} is missing")))?;
        match url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            true => Ok(url.into()),
            false => Err(ApiError::invalid("invalid_parameter", format!("{key} is not an http or https URL"))),
        }
    };
    let (mut dialect, mut voice_url, mut application, mut outbound) = (NAME, None, None, false);
    match kept("call_handler").unwrap_or("default") {
        "default" | "passthrough" => outbound = true,
        "block-pstn" => {}
        "laml_webhooks" => voice_url = Some(url("call_request_url")?),
        "relay_script" => (dialect, voice_url) = (swml::NAME, Some(url("call_relay_script_url")?)),
        "laml_application" => {
            let id = kept("call_laml_application_id");
            application = Some(id.map(Into::into).ok_or_else(|| {
                ApiError::invalid("missing_required_parameter", "call_laml_application_id is missing")
            })?);
        }
        other => {
            let detail = format!(
                "call_handler {other:?} is not supported; supported are default, passthrough, block-pstn, laml_webhooks, laml_application and \
                 relay_script"
            );
            return Err(ApiError::invalid("invalid_parameter", detail));
        }
    }
    phone.voice_method = kept("call_request_method").and_then(Method::parse).unwrap_or_default();
    dialect.clone_into(&mut phone.dialect);
    (phone.voice_url, phone.application, phone.outbound) = (voice_url, application, outbound);
    Ok(())
}

/// The text of a field. Null counts as an empty text.
fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, ApiError> {
    match fields.get(key) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some("")),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::invalid("invalid_parameter", format!("{key} must be a string"))),
    }
}

/// The SIP endpoint as JSON.
fn shown(row: &Resource<ProvisionedPhone>) -> Value {
    let phone = &row.details;
    let id = sid::uuid(row.id);
    let mut fields = Map::new();
    for key in KEPT.iter().chain(&["call_request_url", "call_request_method", "call_laml_application_id"]) {
        fields.insert((*key).to_owned(), phone.other.get(*key).cloned().unwrap_or_default());
    }
    for (key, usual) in [("call_handler", "default"), ("encryption", "default")] {
        fields.insert(key.to_owned(), phone.other.get(key).cloned().unwrap_or_else(|| usual.into()));
    }
    fields.insert("type".into(), "sip_endpoint".into());
    fields.insert("id".into(), id.into());
    fields.insert("username".into(), row.name.as_str().into());
    fields.insert("caller_id".into(), phone.caller_id.clone().into());
    fields.insert("calling_handler_resource_id".into(), Value::Null);
    fields.insert("created_at".into(), format!("{:.0}", row.created_at).into());
    fields.insert("updated_at".into(), format!("{:.0}", row.updated_at).into());
    fields.into()
}
