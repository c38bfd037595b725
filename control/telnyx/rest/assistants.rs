//! `/v2/ai/assistants`: voice agents that an account stores. The definition of an assistant is stored as the request has
//! it. The model of an assistant is an entry of `[[agents]]`. Most other resources below `/v2/ai` are services that only
//! Telnyx hosts.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_agent::Agents;
use tandem_routing::inventory::{self, StoredAgent};
use tandem_runtime::app::App;
use tandem_store::StoreFailed;
use tandem_store::resources::Resource;

use super::error::{ApiError, sentence};
use super::parameters::{Parameters, WEB};
use super::resources::inventory_error;
use super::{Caller, Payload, Segments, agent, assistant_telephony, only};
use crate::assistant::tool::Tool;
use crate::{id, time};

/// Maximum size of an assistant, in octets of JSON. All assistants are in memory.
const LARGEST: usize = 128 * 1024;
/// Maximum number of an assistant's tools.
const MAX_TOOLS: usize = 64;
const LONGEST_NAME: usize = 200;
const LONGEST_GREETING: usize = 3_000;

/// The members of an assistant, each with its default and its type.
const MEMBERS: &[(&str, &str, Shape)] = &[
    ("description", "\"\"", Shape::Text),
    ("dynamic_variables", "{}", Shape::Object),
    ("dynamic_variables_webhook_timeout_ms", "1500", Shape::Any),
    ("dynamic_variables_webhook_url", "null", Shape::Text),
    ("enabled_features", "[\"telephony\"]", Shape::Array),
    ("greeting", "\"\"", Shape::Text),
    ("instructions", "\"\"", Shape::Text),
    ("interruption_settings", "{\"enable\":true}", Shape::Object),
    ("llm_api_key_ref", "null", Shape::Text),
    ("messaging_settings", "null", Shape::Object),
    ("model", "null", Shape::Text),
    ("name", "\"\"", Shape::Text),
    ("privacy_settings", "null", Shape::Object),
    ("tags", "[]", Shape::Array),
    ("telephony_settings", "{}", Shape::Object),
    ("tools", "[]", Shape::Array),
    ("transcription", "{}", Shape::Object),
    ("voice_settings", "null", Shape::Object),
    ("widget_settings", "null", Shape::Object),
];

/// Members whose settings a change adds to the settings so far. A change replaces all other members.
const MERGED: &[&str] = &["interruption_settings", "telephony_settings", "transcription", "voice_settings"];

/// Members for services that this server does not have.
const UNSUPPORTED: &[&str] = &[
    "a2a_agents",
    "avatar_settings",
    "conversation_flow",
    "delegation_settings",
    "external_llm",
    "fallback_config",
    "insight_settings",
    "integrations",
    "mcp_servers",
    "observability_settings",
    "post_conversation_settings",
    "tool_ids",
    "websocket_settings",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Object,
    Array,
    Any,
}

type Row = Resource<StoredAgent>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v2/ai/assistants", only(get(list).post(create)))
        .route("/v2/ai/assistants/{assistant}", only(get(retrieve).post(update).patch(update).delete(delete)))
        .route("/v2/ai/assistants/{assistant}/clone", only(post(clone)))
        .route("/v2/ai/assistants/{assistant}/texml", only(get(texml)))
        .route("/v2/ai/assistants/import", any(hosted))
        .route("/v2/ai/assistants/tags", any(hosted))
        .route("/v2/ai/assistants/tests", any(hosted))
        .route("/v2/ai", any(hosted))
        .route("/v2/ai/{*rest}", any(hosted))
}

/// Refuses a request for a service that only Telnyx hosts.
async fn hosted(_: Caller, uri: axum::http::Uri) -> ApiError {
    ApiError::action_not_permitted(uri.path())
}

async fn list(State(app): State<App>, Caller(account): Caller) -> Json<Value> {
    let routing = app.calls.services().routing.load_full();
    let rows = routing.inventory().agents.all(&account.name);
    Json(json!({ "data": rows.iter().map(|row| show(row)).collect::<Vec<_>>() }))
}

async fn create(
    State(app): State<App>,
    Caller(account): Caller,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    for name in ["name", "instructions"] {
        Parameters(&body).required(name)?;
    }
    let mut row = Resource::new(&account.name, "", StoredAgent::default());
    row.details.id = format!("assistant-{}", id::uuid_v4(row.id));
    keep(&app, &account, row, Parameters(&body)).await
}

async fn retrieve(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(assistant): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let row = find(&app, &account, &assistant)?;
    Ok(Json(show(&row)))
}

async fn update(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(assistant): Segments<String>,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let row = inventory::changed(&*find(&app, &account, &assistant)?);
    keep(&app, &account, row, Parameters(&body)).await
}

async fn clone(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(assistant): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let original = find(&app, &account, &assistant)?;
    let mut row = Resource::new(&account.name, format!("{} (copy)", original.name), original.details.clone());
    row.details.id = format!("assistant-{}", id::uuid_v4(row.id));
    row.details.definition.insert("name".to_owned(), row.name.as_str().into());
    assistant_telephony::forget(&mut row.details.definition);
    keep(&app, &account, row, Parameters(&Map::new())).await
}

async fn delete(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(assistant): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let row = find(&app, &account, &assistant)?;
    let services = app.calls.services();
    let routing = services.routing.load_full();
    let deleted = routing.inventory().agents.delete(&services.store, &account.name, row.id).await;
    match deleted.map_err(StoreFailed::from)? {
        true => assistant_telephony::detach(&app, &account, &row).await?,
        false => return Err(ApiError::no_resource()),
    }
    Ok(Json(json!({ "id": assistant, "object": "assistant", "deleted": true })))
}

/// A document that connects a call with the assistant.
async fn texml(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(assistant): Segments<String>,
) -> Result<impl IntoResponse, ApiError> {
    let row = find(&app, &account, &assistant)?;
    // The id has only letters, digits and hyphens.
    let id = &row.details.id;
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response>\n  <Connect>\n    <AIAssistant id=\"{id}\"></AIAssistant>\n  \
         </Connect>\n</Response>\n"
    );
    Ok(([(header::CONTENT_TYPE, "application/xml")], text))
}

/// The account's assistant with this id.
pub(super) fn find(app: &App, account: &Account, assistant: &str) -> Result<Arc<Row>, ApiError> {
    let routing = app.calls.services().routing.load_full();
    routing.inventory().agents.find_own(&account.name, assistant).ok_or_else(ApiError::no_resource)
}

/// Changes an assistant, stores it and shows it.
async fn keep(app: &App, account: &Account, mut row: Row, given: Parameters<'_>) -> Result<Json<Value>, ApiError> {
    let services = app.calls.services();
    apply(&mut row, given, &services.conversations.agents.load())?;
    let routing = services.routing.load_full();
    let agents = &routing.inventory().agents;
    let mut stored = agents.put(&services.store, row).await.map_err(inventory_error)?;
    // An account that may not store more assistants gets no more applications.
    let mut row = (*stored).clone();
    assistant_telephony::attach(app, account, &mut row).await?;
    if row.details != stored.details {
        stored = agents.put(&services.store, row).await.map_err(inventory_error)?;
    }
    Ok(Json(show(&stored)))
}

/// Checks the members of a request and writes them to the assistant.
fn apply(row: &mut Row, given: Parameters<'_>, agents: &Agents) -> Result<(), ApiError> {
    given.refuse_filled(UNSUPPORTED)?;
    given.sized("name", 1..=LONGEST_NAME)?;
    given.sized("greeting", 0..=LONGEST_GREETING)?;
    // An empty text removes the URL.
    if given.text("dynamic_variables_webhook_url")? != Some("") {
        given.url("dynamic_variables_webhook_url", WEB)?;
    }
    given.integer("dynamic_variables_webhook_timeout_ms", 1..=10_000)?;
    let details = &mut row.details;
    for (name, default, shape) in MEMBERS {
        let value = match given.get(name) {
            Some(value) => merged(details.definition.get(*name).filter(|_| MERGED.contains(name)), value),
            None if details.definition.contains_key(*name) => continue,
            None => serde_json::from_str(default).unwrap_or_default(),
        };
        let fits = match shape {
            Shape::Text => value.is_string() || value.is_null(),
            Shape::Object => value.is_object() || value.is_null(),
            Shape::Array => value.is_array(),
            Shape::Any => true,
        };
        if !fits {
            let expected = match shape {
                Shape::Text => "string",
                Shape::Object => "object",
                _ => "array",
            };
            return Err(ApiError::wrong_type(name, expected));
        }
        details.definition.insert((*name).to_owned(), value);
    }
    let definition = Parameters(&details.definition);
    let tools = definition.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if tools.len() > MAX_TOOLS {
        return Err(ApiError::bad_value("tools", format!("At most {MAX_TOOLS} tools may be given.")));
    }
    for tool in tools {
        Tool::parse(tool).map_err(|why| ApiError::bad_value("tools", sentence(why)))?;
    }
    let own = agents.default_agent().ok_or_else(|| {
        ApiError::limit_reached("This server has no language model: [[agents]] in its configuration is empty.")
    })?;
    let model = definition.text("model")?.filter(|model| !model.is_empty()).unwrap_or(&own.name).to_owned();
    let voice = definition.object("voice_settings")?.text("voice")?.map(str::to_owned);
    let language = agent::language(definition.object("transcription")?)?;
    let interruptions = definition.object("interruption_settings")?;
    let interruptible = interruptions.get("enable").map(|_| interruptions.flag("enable")).transpose()?;
    let (name, language) = (definition.text("name")?.unwrap_or_default().to_owned(), language.map(str::to_owned));
    details.definition.insert("model".to_owned(), model.as_str().into());
    details.definition.insert("id".to_owned(), details.id.as_str().into());
    (details.model, details.voice, details.language, details.interruptible) = (model, voice, language, interruptible);
    row.name = name;
    if Value::Object(details.definition.clone()).to_string().len() > LARGEST {
        return Err(ApiError::bad_value("instructions", format!("An assistant has at most {LARGEST} octets.")));
    }
    Ok(())
}

/// The value of a member after a change: the members of the old object, replaced by those of the new object.
fn merged(old: Option<&Value>, new: &Value) -> Value {
    match (old, new) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            let both = old.iter().chain(new).map(|(name, value)| (name.clone(), value.clone()));
            Value::Object(both.collect())
        }
        _ => new.clone(),
    }
}

/// The assistant as JSON.
fn show(row: &Row) -> Value {
    let mut shown = row.details.definition.clone();
    shown.retain(|_, value| !value.is_null());
    shown.insert("created_at".to_owned(), time(row.created_at).into());
    shown.insert("version_id".to_owned(), id::uuid_v4(row.id).into());
    shown.insert("version_created_at".to_owned(), time(row.updated_at).into());
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use tandem_id::AccountName;

    use super::*;

    fn agents() -> Agents {
        let agent = json!({ "name": "reception", "model": { "url": "http://127.0.0.1:1/v1" } });
        Agents::new([serde_json::from_value(agent).unwrap()]).unwrap()
    }

    fn made(body: Value) -> Result<Value, ApiError> {
        let mut row = Resource::new(&AccountName::new("acme"), "", StoredAgent::default());
        row.details.id = "assistant-1".into();
        apply(&mut row, Parameters(body.as_object().unwrap()), &agents())?;
        Ok(show(&row))
    }

    #[test]
    fn an_assistant_shows_what_was_given_and_the_defaults() {
        let shown = made(json!({ "name": "Ann", "instructions": "Be kind.", "tags": ["a"] })).unwrap();
        assert_eq!(
            (&shown["name"], &shown["instructions"], &shown["model"], &shown["greeting"], &shown["tags"]),
            (&json!("Ann"), &json!("Be kind."), &json!("reception"), &json!(""), &json!(["a"]))
        );
        assert_eq!((&shown["id"], &shown["tools"]), (&json!("assistant-1"), &json!([])));
        assert!(shown.get("widget_settings").is_none());
    }

    #[test]
    fn an_assistant_without_a_counterpart_here_is_refused_with_one_error() {
        let with = |name: &str, value: Value| {
            let mut body = json!({ "name": "Ann", "instructions": "x" });
            body[name] = value;
            made(body).map_err(|error| error.code).err()
        };
        assert_eq!(with("mcp_servers", json!([{ "id": "1" }])), Some(10038));
        assert_eq!(with("mcp_servers", json!([])), None);
        assert_eq!(with("insight_settings", json!({ "insight_group_id": "1" })), Some(10038));
        assert_eq!(with("external_llm", json!({ "base_url": "http://x" })), Some(10038));
        let retrieval = json!([{ "type": "retrieval", "retrieval": { "bucket_ids": ["a"] } }]);
        assert_eq!(with("tools", retrieval), Some(10015));
        assert_eq!(with("tools", json!({})), Some(10026));
        assert_eq!(with("greeting", json!(7)), Some(10026));
        assert_eq!(with("dynamic_variables_webhook_url", json!("ftp://x")), Some(10003));
        assert_eq!(with("dynamic_variables_webhook_url", json!("")), None);
    }

    #[test]
    fn a_change_keeps_the_members_that_it_does_not_name() {
        let mut row = Resource::new(&AccountName::new("acme"), "", StoredAgent::default());
        let body = json!({ "name": "Ann", "instructions": "x", "voice_settings": { "voice": "joe" } });
        apply(&mut row, Parameters(body.as_object().unwrap()), &agents()).unwrap();
        let change = json!({ "greeting": "Hello.", "model": "gpt", "name": null });
        apply(&mut row, Parameters(change.as_object().unwrap()), &agents()).unwrap();
        assert_eq!((row.name.as_str(), row.details.model.as_str()), ("Ann", "gpt"));
        assert_eq!(row.details.voice.as_deref(), Some("joe"));
        assert_eq!(row.details.definition["greeting"], "Hello.");
    }

    #[test]
    fn a_change_of_settings_keeps_the_settings_that_it_does_not_name() {
        let mut row = Resource::new(&AccountName::new("acme"), "", StoredAgent::default());
        let settings = json!({ "default_texml_app_id": "1", "time_limit_secs": 60 });
        let body = json!({ "name": "Ann", "instructions": "x", "telephony_settings": settings });
        apply(&mut row, Parameters(body.as_object().unwrap()), &agents()).unwrap();
        let change = json!({ "telephony_settings": { "time_limit_secs": 90 }, "dynamic_variables": { "a": "b" } });
        apply(&mut row, Parameters(change.as_object().unwrap()), &agents()).unwrap();
        let expected = json!({ "default_texml_app_id": "1", "time_limit_secs": 90 });
        assert_eq!(row.details.definition["telephony_settings"], expected);
        let change = json!({ "dynamic_variables": {} });
        apply(&mut row, Parameters(change.as_object().unwrap()), &agents()).unwrap();
        assert_eq!(row.details.definition["dynamic_variables"], json!({}));
    }

    #[test]
    fn a_member_that_is_null_has_its_default() {
        let shown = made(json!({ "name": "Ann", "instructions": "x", "telephony_settings": null })).unwrap();
        assert_eq!(shown["telephony_settings"], json!({}));
    }

    #[test]
    fn a_word_for_several_languages_is_no_language() {
        for (word, language) in [("auto", None), ("multi", None), ("de", Some("de"))] {
            let mut row = Resource::new(&AccountName::new("acme"), "", StoredAgent::default());
            let body = json!({ "name": "Ann", "instructions": "x", "transcription": { "language": word } });
            apply(&mut row, Parameters(body.as_object().unwrap()), &agents()).unwrap();
            assert_eq!(row.details.language.as_deref(), language);
        }
    }

    #[test]
    fn an_assistant_that_is_too_large_is_refused() {
        let large = |octets: usize| {
            made(json!({ "name": "Ann", "instructions": "x".repeat(octets) })).map_err(|error| error.code).err()
        };
        assert_eq!((large(100 * 1024), large(128 * 1024)), (None, Some(10015)));
    }
}
