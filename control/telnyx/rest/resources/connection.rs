//! The connections of an account. A connection is an application of the account or a SIP connection of the account. A
//! number has a connection, and a call belongs to a connection. `/v2/connections` lists all connections.

use axum::extract::{RawQuery, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tandem_accounts::Account;
use tandem_call::address::PhoneNumber;
use tandem_id::AccountName;
use tandem_routing::inventory::Limits;
use tandem_runtime::app::App;

use super::super::error::ApiError;
use super::super::parameters::Parameters;
use super::super::{Caller, Segments, only};
use super::applications::CallControl;
use super::listing::{ListFields, Listing};
use super::phones::CredentialConnection;
use super::resource::Kind;
use super::trunks::{Addresses, Hosts, Trunk};
use crate::{NAME, id};

const PROFILE: &str = "outbound_voice_profile_id";
/// The dialect of TeXML applications.
pub(in super::super) const TEXML: &str = "texml";
/// The dialects of connections.
pub(super) const DIALECTS: [&str; 2] = [NAME, TEXML];

/// The filters and sort keys that every kind of connection has.
pub(super) const LIST_FIELDS: ListFields = ListFields {
    filters: &[
        ("connection_name", "/connection_name"),
        ("fqdn", "/fqdn"),
        ("outbound_voice_profile_id", "/outbound/outbound_voice_profile_id"),
        ("outbound.outbound_voice_profile_id", "/outbound/outbound_voice_profile_id"),
    ],
    sorts: &[("created_at", "/created_at"), ("connection_name", "/connection_name"), ("active", "/active")],
};
const ALL_LIST_FIELDS: ListFields = ListFields {
    filters: &[("connection_name", "/connection_name"), ("outbound_voice_profile_id", "/outbound_voice_profile_id")],
    ..LIST_FIELDS
};

/// The JSON keys that every kind of connection has in `/v2/connections`. Every connection also has a name and a
/// profile.
const COMMON_KEYS: [&str; 10] = [
    "id",
    "record_type",
    "active",
    "anchorsite_override",
    "tags",
    "webhook_api_version",
    "webhook_event_url",
    "webhook_event_failover_url",
    "created_at",
    "updated_at",
];

pub(super) fn routes() -> Router<App> {
    Router::new().route("/v2/connections", only(get(list))).route("/v2/connections/{id}", only(get(retrieve)))
}

async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    listing.answer(all(&app, &account).await?, &ALL_LIST_FIELDS)
}

async fn retrieve(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let found =
        all(&app, &account).await?.into_iter().find(|one| one.get("id").and_then(Value::as_str) == Some(id.as_str()));
    Ok(Json(json!({ "data": found.ok_or_else(ApiError::no_resource)? })))
}

async fn all(app: &App, account: &Account) -> Result<Vec<Value>, ApiError> {
    let mut all = of_kind::<CallControl>(app, account).await?;
    all.extend(of_kind::<CredentialConnection>(app, account).await?);
    all.extend(of_kind::<Trunk<Hosts>>(app, account).await?);
    all.extend(of_kind::<Trunk<Addresses>>(app, account).await?);
    Ok(all)
}

/// The connections of one kind. The result contains only the keys that all kinds have.
async fn of_kind<K: Kind>(app: &App, account: &Account) -> Result<Vec<Value>, ApiError> {
    let alike = |whole: Value| {
        let Value::Object(mut whole) = whole else { return Value::Null };
        let name = whole.remove("connection_name").or_else(|| whole.remove("application_name"));
        let profile = whole.get("outbound").and_then(|outbound| outbound.get(PROFILE)).cloned();
        whole.retain(|key, _| COMMON_KEYS.contains(&key.as_str()));
        whole.insert("connection_name".into(), name.unwrap_or_default());
        whole.insert(PROFILE.into(), profile.unwrap_or_default());
        Value::Object(whole)
    };
    Ok(K::all(app, account).await?.iter().map(|row| alike(K::show(app, row))).collect())
}

/// The channel limits from the settings of a connection. The function checks that the connection's outbound voice
/// profile belongs to the account.
pub(super) fn limits(app: &App, account: &AccountName, kept: Parameters<'_>) -> Result<Limits, ApiError> {
    let limit = |side: &str| kept.object(side)?.integer("channel_limit", 0..=u32::MAX);
    let profile = kept.object("outbound")?.text(PROFILE)?.filter(|id| !id.is_empty());
    let profile = match profile {
        None => None,
        Some(id) => {
            let profiles = &app.calls.services().routing.load_full().inventory().profiles.all(account);
            let found = profiles.iter().find(|row| id::decimal(row.id).to_string() == id);
            Some(found.ok_or_else(|| ApiError::bad_id(PROFILE).within("outbound"))?.id)
        }
    };
    Ok(Limits { inbound: limit("inbound")?, outbound: limit("outbound")?, profile })
}

/// The value of `ani_override`: the caller ID of all calls of the connection. `None` if `ani_override` is not set.
pub(super) fn caller_id(kept: Parameters<'_>) -> Result<Option<String>, ApiError> {
    const NUMBER: &str = "ani_override";
    let outbound = kept.object("outbound")?;
    let Some(number) = outbound.text(NUMBER)?.filter(|number| !number.is_empty()) else { return Ok(None) };
    match number.parse().is_ok_and(|number: PhoneNumber| number.is_e164()) {
        true => Ok(Some(number.to_owned())),
        false => Err(ApiError::not_e164(NUMBER).within("outbound")),
    }
}
