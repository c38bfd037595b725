//! `/v2/texml_applications`: applications that a request created, and applications of the configuration file. A request
//! cannot change an application of the configuration file.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_operations::applications::{AccountApplication, ApplicationError, Applications};
use tandem_routing::inventory::{self, InventoryError, VoiceApplication};
use tandem_runtime::app::App;
use tandem_store::resources::Resource;
use tandem_store::{StoreError, StoreFailed};
use url::Url;

use super::super::{NAME, application_id, envelope};
use super::{MAX_BODY, Refusal, caller, refused, unauthenticated};

/// Maximum number of rows on a page.
const MAX_PAGE_SIZE: usize = 250;
/// Maximum length of names and URLs, in characters.
const LONGEST: usize = 2_000;
/// Settings that are stored and shown but have no effect.
const KEPT: [&str; 8] = [
    "active",
    "anchorsite_override",
    "call_cost_in_webhooks",
    "dtmf_type",
    "first_command_timeout",
    "first_command_timeout_secs",
    "inbound",
    "outbound",
];

type Row = Resource<VoiceApplication>;

pub(super) async fn serve(State(app): State<App>, request: axum::http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Some(account) = caller(&app, &parts) else { return refused(unauthenticated()) };
    let id = parts.uri.path().strip_prefix("/v2/texml_applications/").map(str::to_owned);
    let body = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let answer = match (id.as_deref(), &parts.method) {
        (None, &Method::GET | &Method::HEAD) => list(&app, &account, parts.uri.query().unwrap_or_default()),
        (None, &Method::POST) => create(&app, &account, &body).await,
        (Some(id), &Method::GET | &Method::HEAD) => found(&app, &account, id).map(|row| (StatusCode::OK, one(&row))),
        (Some(id), &Method::PATCH) => change(&app, &account, id, &body).await,
        (Some(id), &Method::DELETE) => delete(&app, &account, id).await,
        _ => Err(envelope(StatusCode::METHOD_NOT_ALLOWED, "10030", "Method not allowed", "The method is not allowed")),
    };
    let (status, body) = answer.unwrap_or_else(|refusal| refusal);
    (status, Json(body)).into_response()
}

fn applications<'a>(app: &'a App, account: &'a Account) -> Applications<'a> {
    let services = app.calls.services();
    let id = |id: &str| Some(id.parse().unwrap_or_default());
    Applications::new(services.routing.load_full(), &services.store, &account.name, NAME, id)
}

fn found(app: &App, account: &Account, id: &str) -> Result<AccountApplication, Refusal> {
    let detail = "The requested resource or URL could not be found.";
    let not_found = || envelope(StatusCode::NOT_FOUND, "10005", "Resource not found", detail);
    applications(app, account).find(|row| row.details.id == id).ok_or_else(not_found)
}

fn list(app: &App, account: &Account, query: &str) -> Result<(StatusCode, Value), Refusal> {
    let pairs: Vec<(String, String)> =
        form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into(), value.into())).collect();
    let given = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let number = |name: &str, default: usize, max: usize| match given(name).map(str::parse) {
        None => Ok(default),
        Some(Ok(number)) if (1..=max).contains(&number) => Ok(number),
        Some(_) => Err(unprocessable("10033", "Value outside of range", &format!("{name} must be 1 to {max}"))),
    };
    let (page, size) = (number("page[number]", 1, 1_000_000)?, number("page[size]", 20, MAX_PAGE_SIZE)?);
    let mut rows = applications(app, account).all();
    if let Some(name) = given("filter[friendly_name]").or_else(|| given("filter[friendly_name][contains]")) {
        rows.retain(|row| row.name.to_lowercase().contains(&name.to_lowercase()));
    }
    let (descending, by) = match given("sort").unwrap_or("created_at") {
        sort if sort.starts_with('-') => (true, &sort[1..]),
        sort => (false, sort),
    };
    match by {
        "created_at" => rows.sort_by_key(|row| row.created_at),
        "friendly_name" => rows.sort_by_key(|row| row.name.clone()),
        "active" => rows.sort_by_key(|row| row.details.other.get("active") != Some(&Value::Bool(false))),
        _ => {
            let detail = "The value must be one of: created_at, friendly_name, active.";
            return Err(unprocessable("10032", "Invalid enumerated value", detail));
        }
    }
    if descending {
        rows.reverse();
    }
    let data: Vec<Value> = rows.iter().skip((page - 1) * size).take(size).map(|row| represent(row)).collect();
    let meta = json!({
        "page_number": page, "page_size": size, "total_pages": rows.len().div_ceil(size), "total_results": rows.len(),
    });
    Ok((StatusCode::OK, json!({ "data": data, "meta": meta })))
}

async fn create(app: &App, account: &Account, body: &[u8]) -> Result<(StatusCode, Value), Refusal> {
    let details = VoiceApplication { dialect: NAME.to_owned(), ..VoiceApplication::default() };
    let mut row = Resource::new(&account.name, "", details);
    row.details.id = application_id(row.id).to_string();
    set(&mut row, body)?;
    for (missing, name) in [(row.name.is_empty(), "friendly_name"), (row.details.voice.url.is_none(), "voice_url")] {
        if missing {
            let detail = format!("The '{name}' parameter is required and cannot be blank.");
            return Err(unprocessable("10004", "Missing required parameter", &detail));
        }
    }
    Ok((StatusCode::CREATED, one(&*keep(app, account, row).await?)))
}

async fn change(app: &App, account: &Account, id: &str, body: &[u8]) -> Result<(StatusCode, Value), Refusal> {
    let mut row = (*changeable(app, account, id)?).clone();
    set(&mut row, body)?;
    row.updated_at = Timestamp::now();
    Ok((StatusCode::OK, one(&*keep(app, account, row).await?)))
}

async fn delete(app: &App, account: &Account, id: &str) -> Result<(StatusCode, Value), Refusal> {
    let row = changeable(app, account, id)?;
    match applications(app, account).delete(&row).await {
        // Another request may have deleted the application meanwhile, which is as good.
        // `delete` does not check whether a number uses the application.
        Ok(()) | Err(ApplicationError::Unknown | ApplicationError::InUse(_)) => Ok((StatusCode::OK, one(&row))),
        Err(ApplicationError::InTheFile(id)) => Err(in_the_file(&id)),
        Err(ApplicationError::Store(error)) => Err(unavailable(error)),
    }
}

/// An application that a request can change. Error 403 for an application of the configuration file.
fn changeable(app: &App, account: &Account, id: &str) -> Result<AccountApplication, Refusal> {
    let row = found(app, account, id)?;
    if inventory::is_of_the_file(&*row) {
        return Err(in_the_file(id));
    }
    Ok(row)
}

fn in_the_file(id: &str) -> Refusal {
    let detail = format!("{id} is in the server's configuration file and can be changed only there");
    envelope(StatusCode::FORBIDDEN, "10010", "Authorization failed", &detail)
}

async fn keep(app: &App, account: &Account, row: Row) -> Result<AccountApplication, Refusal> {
    applications(app, account).keep(row).await.map_err(|error| match error {
        InventoryError::Store(error) => unavailable(error),
        full => unprocessable("10027", "Unprocessable Entity", &full.to_string()),
    })
}

fn set(row: &mut Row, body: &[u8]) -> Result<(), Refusal> {
    let given: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        envelope(StatusCode::BAD_REQUEST, "10023", "Invalid JSON", &format!("The body is not a JSON object: {error}"))
    })?;
    let text = |name: &str| match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= LONGEST => Ok(Some(text.trim())),
        Some(_) => {
            let detail = format!("The '{name}' parameter must be of type 'string'.");
            Err(unprocessable("10026", "Invalid parameter type", &detail))
        }
    };
    let url = |name: &str, slot: &mut Option<Arc<str>>| -> Result<(), Refusal> {
        if !given.contains_key(name) {
            return Ok(());
        }
        let web = |text: &&str| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        *slot = match text(name)?.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(Some(text).filter(web).map(Arc::from).ok_or_else(|| {
                unprocessable("10003", "Invalid URL", &format!("The '{name}' parameter must be a valid URL."))
            })?),
        };
        Ok(())
    };
    let method = |name: &str, slot: &mut tandem_call::Method| -> Result<(), Refusal> {
        let Some(word) = text(name)? else { return Ok(()) };
        let detail = "The value must be one of: get, post.";
        let method = tandem_call::Method::parse(word);
        *slot = method.ok_or_else(|| unprocessable("10032", "Invalid enumerated value", detail))?;
        Ok(())
    };
    if let Some(name) = text("friendly_name")? {
        row.name = name.to_owned();
    }
    let voice = &mut row.details.voice;
    url("voice_url", &mut voice.url)?;
    url("voice_fallback_url", &mut voice.fallback_url)?;
    url("status_callback", &mut voice.status_callback)?;
    method("voice_method", &mut voice.method)?;
    method("status_callback_method", &mut voice.status_callback_method)?;
    voice.fallback_method = voice.method;
    for name in KEPT.iter().copied().chain(["tags"]) {
        if let Some(value) = given.get(name) {
            row.details.other.insert(name.to_owned(), value.clone());
        }
    }
    Ok(())
}

fn one(row: &Row) -> Value {
    json!({ "data": represent(row) })
}

fn represent(row: &Row) -> Value {
    let VoiceApplication { id, voice, other, .. } = &row.details;
    let method = |method: tandem_call::Method| method.name().to_ascii_lowercase();
    let mut value = json!({
        "id": id,
        "record_type": "texml_application",
        "friendly_name": row.name,
        "voice_url": voice.url,
        "voice_method": method(voice.method),
        "voice_fallback_url": voice.fallback_url,
        "status_callback": voice.status_callback,
        "status_callback_method": method(voice.status_callback_method),
        "tags": other.get("tags").cloned().unwrap_or_else(|| json!([])),
        "created_at": row.created_at.to_string(),
        "updated_at": row.updated_at.to_string(),
    });
    if let Some(fields) = value.as_object_mut() {
        for name in KEPT {
            let mut whole = unset(name);
            match (other.get(name), whole.as_object_mut()) {
                (Some(Value::Object(kept)), Some(whole)) => whole.extend(kept.clone()),
                (Some(kept), None) => whole = kept.clone(),
                _ => {}
            }
            fields.insert(name.to_owned(), whole);
        }
    }
    value
}

/// The default of a stored setting.
fn unset(name: &str) -> Value {
    match name {
        "active" => json!(true),
        "anchorsite_override" => json!("Latency"),
        "dtmf_type" => json!("RFC 2833"),
        "first_command_timeout_secs" => json!(30),
        "inbound" => json!({
            "channel_limit": null, "shaken_stir_enabled": false, "sip_subdomain": null,
            "sip_subdomain_receive_settings": "from_anyone",
        }),
        "outbound" => json!({ "channel_limit": null, "outbound_voice_profile_id": null }),
        _ => json!(false),
    }
}

fn unprocessable(code: &str, title: &str, detail: &str) -> Refusal {
    envelope(StatusCode::UNPROCESSABLE_ENTITY, code, title, detail)
}

fn unavailable(error: StoreError) -> Refusal {
    // This conversion logs the error.
    let failed = StoreFailed::from(error);
    let (status, code, title) = match failed {
        StoreFailed::TooManyReads => (StatusCode::TOO_MANY_REQUESTS, "10011", "Too many requests"),
        StoreFailed::Away | StoreFailed::ReadTooSlow => {
            (StatusCode::SERVICE_UNAVAILABLE, "10037", "Service unavailable")
        }
    };
    envelope(status, code, title, &failed.to_string())
}
