//! `/v2/phone_numbers`: the account's numbers, their connections and their voice settings.

use axum::extract::{RawQuery, State};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_call::address::PhoneNumber;
use tandem_operations::connections;
use tandem_operations::numbers::{NumberError, NumberRow, Numbers};
use tandem_routing::country;
use tandem_routing::inventory::{Number, RecordCalls};
use tandem_routing::number_pool::NumberKind;
use tandem_runtime::app::App;
use tandem_store::StoreFailed;
use tandem_store::resources::Resource;

use super::super::error::ApiError;
use super::super::parameters::Parameters;
use super::super::{Caller, Payload, Segments, only};
use super::listing::{ListFields, Listing};
use super::{connection, settings};
use crate::{NAME, id};

const NUMBER: &str = "phone_number";
const VOICE: &str = "voice_settings";
/// Key of the voice settings among the stored settings.
const KEPT_VOICE: &str = "voice";
const LIST_FIELDS: ListFields = ListFields {
    filters: &[
        ("phone_number", "/phone_number"),
        ("status", "/status"),
        ("country_iso_alpha2", "/country_iso_alpha2"),
        ("connection_id", "/connection_id"),
        ("voice.connection_name", "/connection_name"),
        ("customer_reference", "/customer_reference"),
        ("billing_group_id", "/billing_group_id"),
        ("number_type", "/phone_number_type"),
        ("tag", "/tags"),
    ],
    sorts: &[
        ("purchased_at", "/purchased_at"),
        ("phone_number", "/phone_number"),
        ("connection_name", "/connection_name"),
    ],
};
const VOICE_LIST_FIELDS: ListFields = ListFields {
    filters: &[
        ("phone_number", "/phone_number"),
        ("customer_reference", "/customer_reference"),
        ("voice.usage_payment_method", "/usage_payment_method"),
        ("connection_id", "/connection_id"),
    ],
    sorts: &[("phone_number", "/phone_number"), ("usage_payment_method", "/usage_payment_method")],
};

type Row = Resource<Number>;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v2/phone_numbers", only(get(list)))
        .route("/v2/phone_numbers/voice", only(get(list_voice)))
        .route("/v2/phone_numbers/{id}", only(get(retrieve).patch(update).delete(release)))
        .route("/v2/phone_numbers/{id}/voice", only(get(retrieve_voice).patch(update_voice)))
}

fn numbers<'a>(app: &'a App, account: &'a Account) -> Numbers<'a> {
    let services = app.calls.services();
    Numbers::new(services.routing.load_full(), &services.store, &app.accounts, &account.name, NAME)
        .and(connection::TEXML)
}

/// The number with this id. The number itself, in E.164, is also an id.
fn found(app: &App, account: &Account, spelled: &str) -> Result<NumberRow, ApiError> {
    let is_it = |row: &NumberRow| id::decimal(row.id).to_string() == spelled || row.name == spelled;
    numbers(app, account).all().into_iter().find(is_it).ok_or_else(ApiError::no_resource)
}

async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    listing.answer(numbers(&app, &account).all().iter().map(|row| shown(&app, row)).collect(), &LIST_FIELDS)
}

async fn list_voice(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    listing.answer(numbers(&app, &account).all().iter().map(|row| shown_voice(row)).collect(), &VOICE_LIST_FIELDS)
}

async fn retrieve(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "data": shown(&app, &*found(&app, &account, &id)?) })))
}

async fn retrieve_voice(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "data": shown_voice(&*found(&app, &account, &id)?) })))
}

/// Stores the settings. If the request names a connection, the function also sets this connection as the number's
/// connection.
async fn update(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let mut row = (*found(&app, &account, &id)?).clone();
    let given = Parameters(&body);
    settings::take(NUMBER, given, &mut row.details.other)?;
    if body.contains_key("connection_id") {
        let connection = given.text("connection_id")?.filter(|id| !id.is_empty());
        numbers(&app, &account).connect(&mut row.details, connection, &connection::DIALECTS)?;
    }
    let kept = numbers(&app, &account).keep(row).await?;
    Ok(Json(json!({ "data": shown(&app, &kept) })))
}

async fn update_voice(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let mut row = (*found(&app, &account, &id)?).clone();
    let mut voice = kept_voice(&row);
    settings::take(VOICE, Parameters(&body), &mut voice)?;
    row.details.forwarded_to = forwarded_to(&voice)?;
    row.details.record = recorded(&voice)?;
    row.details.other.insert(KEPT_VOICE.into(), Value::Object(voice));
    let kept = numbers(&app, &account).keep(row).await?;
    Ok(Json(json!({ "data": shown_voice(&kept) })))
}

/// The number that all calls are forwarded to. `None` if calls are not forwarded.
fn forwarded_to(voice: &Map<String, Value>) -> Result<Option<String>, ApiError> {
    const OBJECT: &str = "call_forwarding";
    let forwarding = Parameters(voice).object(OBJECT)?;
    let enabled = forwarding.get("call_forwarding_enabled") != Some(&Value::Bool(false));
    let number = forwarding.text("forwards_to")?.filter(|number| !number.is_empty());
    if number.is_some_and(|number| !number.parse().is_ok_and(|number: PhoneNumber| number.is_e164())) {
        return Err(ApiError::not_e164("forwards_to").within(OBJECT));
    }
    match forwarding.text("forwarding_type")? {
        Some("always") if enabled => Ok(number.map(str::to_owned)),
        // This server does not forward a call after an application's failure.
        Some("on-failure") => Err(ApiError::not_permitted("forwarding_type").within(OBJECT)),
        _ => Ok(None),
    }
}

/// The recording settings for the number's calls. `None` if the calls are not recorded.
fn recorded(voice: &Map<String, Value>) -> Result<Option<RecordCalls>, ApiError> {
    let recording = Parameters(voice).object("call_recording")?;
    if !recording.flag("inbound_call_recording_enabled")? {
        return Ok(None);
    }
    let dual = recording.text("inbound_call_recording_channels")? == Some("dual");
    let mp3 = recording.text("inbound_call_recording_format")? == Some("mp3");
    Ok(Some(RecordCalls { dual, mp3 }))
}

async fn release(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let row = found(&app, &account, &id)?;
    let mut shown = shown(&app, &row);
    numbers(&app, &account).release_completely(&row).await?;
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("status".into(), "deleted".into());
        // Telnyx does not publish these keys for a deleted number.
        for field in ["country_iso_alpha2", "emergency_status", "inbound_call_screening", "source_type"] {
            fields.remove(field);
        }
    }
    Ok(Json(json!({ "data": shown })))
}

fn kept_voice(row: &Row) -> Map<String, Value> {
    row.details.other.get(KEPT_VOICE).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The id of the number's connection. `None` if the connection is not a Telnyx connection.
fn connection_id(row: &Row) -> Option<&str> {
    let ours = [NAME, connection::TEXML].contains(&row.details.dialect.as_str());
    row.details.application.as_deref().filter(|_| ours)
}

fn shown(app: &App, row: &Row) -> Value {
    let routing = app.calls.services().routing.load_full();
    let connection = connection_id(row);
    let name = connection.and_then(|id| connections::find(&routing, &row.account, id, &connection::DIALECTS));
    let name = name.map(|found| found.name);
    let voice = settings::show(VOICE, &kept_voice(row));
    let voice = |pointer: &str| Value::Object(voice.clone()).pointer(pointer).cloned().unwrap_or_default();
    let kept = settings::show(NUMBER, &row.details.other);
    let kept = |name: &str| kept.get(name).cloned().unwrap_or_default();
    let block = routing.pool().find(&row.account, &row.name);
    let kind = match block.map(|block| block.kind) {
        None | Some(NumberKind::Local | NumberKind::Voip) => "local",
        Some(NumberKind::Mobile | NumberKind::MachineToMachine) => "mobile",
        Some(NumberKind::TollFree) => "toll_free",
        Some(NumberKind::National) => "national",
        Some(NumberKind::SharedCost) => "shared_cost",
    };
    json!({
        "record_type": "phone_number",
        "id": id::decimal(row.id).to_string(),
        "phone_number": row.name,
        "phone_number_type": kind,
        "country_iso_alpha2": block.and_then(|block| block.country.as_deref()).unwrap_or_else(|| country::of(&row.name)),
        "status": "active",
        "source_type": null,
        "connection_id": connection,
        "connection_name": name,
        "customer_reference": kept("customer_reference"),
        "tags": kept("tags"),
        "external_pin": kept("external_pin"),
        "billing_group_id": kept("billing_group_id"),
        "hd_voice_enabled": kept("hd_voice_enabled") == Value::Bool(true),
        "messaging_profile_id": null,
        "messaging_profile_name": null,
        "emergency_enabled": false,
        "emergency_address_id": null,
        "emergency_status": "disabled",
        "call_forwarding_enabled": voice("/call_forwarding/call_forwarding_enabled"),
        "call_recording_enabled": voice("/call_recording/inbound_call_recording_enabled"),
        "caller_id_name_enabled": voice("/caller_id_name_enabled"),
        "cnam_listing_enabled": voice("/cnam_listing/cnam_listing_enabled"),
        "inbound_call_screening": voice("/inbound_call_screening"),
        "t38_fax_gateway_enabled": voice("/media_features/t38_fax_gateway_enabled"),
        "deletion_lock_enabled": false,
        "activated_at": date(row.created_at),
        "purchased_at": date(row.created_at),
        "created_at": date(row.created_at),
        "updated_at": date(row.updated_at),
    })
}

/// A date of a number. Telnyx writes the dates of numbers in whole seconds.
fn date(at: Timestamp) -> String {
    format!("{at:.0}")
}

fn shown_voice(row: &Row) -> Value {
    let mut shown = settings::show(VOICE, &kept_voice(row));
    // This key belongs to the number resource.
    shown.remove("caller_id_name_enabled");
    let kept = settings::show(NUMBER, &row.details.other);
    let also = json!({
        "record_type": "voice_settings",
        "id": id::decimal(row.id).to_string(),
        "phone_number": row.name,
        "connection_id": connection_id(row),
        "customer_reference": kept.get("customer_reference"),
        "emergency": { "emergency_enabled": false, "emergency_address_id": null, "emergency_status": "disabled" },
    });
    shown.extend(also.as_object().cloned().unwrap_or_default());
    Value::Object(shown)
}

impl From<NumberError> for ApiError {
    fn from(why: NumberError) -> Self {
        match why {
            NumberError::InTheFile(number) => Self::in_the_file(&number),
            NumberError::Unknown => Self::no_resource(),
            NumberError::NoConnection => Self::no_connection_of_number(),
            NumberError::Store(error) => StoreFailed::from(error).into(),
            NumberError::NotAvailable(_) | NumberError::NoPool(_) | NumberError::Full => {
                Self::limit_reached(why.to_string())
            }
        }
    }
}
