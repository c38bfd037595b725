//! `/v2/credential_connections` and `/v2/telephony_credentials`: phones that register with this server. Each credential
//! connection is one phone. A credential connection may also have telephony credentials for more phones.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_host::clock;
use tandem_operations::connections;
use tandem_operations::phones;
use tandem_routing::connections::{CONNECTION_PHONES, MAX_ROWS};
use tandem_routing::phones::provisioned::ProvisionedPhone;
use tandem_runtime::app::App;
use tandem_store::resources::Resource;
use tandem_store::{StoreFailed, bindings};

use super::super::error::ApiError;
use super::super::parameters::Parameters;
use super::super::{Caller, Segments, only};
use super::listing::ListFields;
use super::resource::{self, Kind};
use super::{connection, connection_error, stored};
use crate::browser::{self, SECRET};
use crate::{NAME, id, time};

const USER_NAME: std::ops::RangeInclusive<usize> = 4..=32;
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;

type Row = Resource<ProvisionedPhone>;

/// Additional routes of credential connections and telephony credentials. The other routes are the same for every kind
/// of resource.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v2/credential_connections/{id}/actions/check_registration_status", only(post(check_registration)))
        .route("/v2/telephony_credentials/{id}/token", only(post(token)))
}

/// A credential connection, which is a connection and a phone.
pub(super) struct CredentialConnection;

impl Kind for CredentialConnection {
    type Details = ProvisionedPhone;

    const RECORD_TYPE: &'static str = "credential_connection";
    const PATH: &'static str = "/v2/credential_connections";
    const LIST_FIELDS: ListFields = connection::LIST_FIELDS;

    async fn all(app: &App, account: &Account) -> Result<Vec<Arc<Row>>, ApiError> {
        let mut rows = stored::all(app, CONNECTION_PHONES, &account.name).await?;
        rows.retain(|row| row.parent.is_none());
        Ok(rows)
    }

    fn settings(details: &mut ProvisionedPhone) -> &mut Map<String, Value> {
        &mut details.other
    }

    fn apply(app: &App, row: &mut Row, given: Parameters<'_>) -> Result<(), ApiError> {
        let kept = row.details.other.clone();
        let kept = Parameters(&kept);
        let limits = connection::limits(app, &row.account, kept)?;
        let username = user_name(kept)?.ok_or_else(|| ApiError::missing("user_name"))?;
        let password = password(kept)?.ok_or_else(|| ApiError::missing("password"))?;
        let phone = &mut row.details;
        phone.label = kept.required("connection_name")?.to_owned();
        phone.caller_id = connection::caller_id(kept)?;
        phone.encrypted = kept.text("encrypted_media")?.map(|word| word == "SRTP");
        phone.inactive = kept.get("active") == Some(&Value::Bool(false));
        (phone.dialect, phone.outbound, phone.limits) = (NAME.to_owned(), true, limits);
        if row.name != username || given.get("password").is_some() {
            let routing = app.calls.services().routing.load_full();
            if routing.phones().is_taken(&row.account, username) {
                return Err(name_taken());
            }
            phone.set_password(username, routing.phones().realm(), password);
        }
        username.clone_into(&mut row.name);
        Ok(())
    }

    async fn keep(app: &App, row: Row) -> Result<Arc<Row>, ApiError> {
        keep(app, row).await
    }

    async fn remove(app: &App, row: &Row) -> Result<(), ApiError> {
        connections::delete(app.calls.services(), CONNECTION_PHONES, row).await.map_err(connection_error)
    }

    fn more(_: &App, row: &Row) -> Value {
        // A connection is active by default.
        json!({ "active": !row.details.inactive })
    }
}

/// A telephony credential: the user name and password of another phone of a connection.
pub(super) struct TelephonyCredential;

impl Kind for TelephonyCredential {
    type Details = ProvisionedPhone;

    const RECORD_TYPE: &'static str = "telephony_credential";
    const PATH: &'static str = "/v2/telephony_credentials";
    const LIST_FIELDS: ListFields = ListFields {
        filters: &[
            ("name", "/name"),
            ("resource_id", "/resource_id"),
            ("sip_username", "/sip_username"),
            ("status", "/status"),
            ("tag", "/tag"),
        ],
        sorts: &[("-created_at", "/created_at")],
    };

    async fn all(app: &App, account: &Account) -> Result<Vec<Arc<Row>>, ApiError> {
        let mut rows = stored::all(app, CONNECTION_PHONES, &account.name).await?;
        rows.retain(|row| row.parent.is_some());
        Ok(rows)
    }

    fn settings(details: &mut ProvisionedPhone) -> &mut Map<String, Value> {
        &mut details.other
    }

    fn apply(app: &App, row: &mut Row, _: Parameters<'_>) -> Result<(), ApiError> {
        let kept = row.details.other.clone();
        let kept = Parameters(&kept);
        let routing = app.calls.services().routing.load_full();
        let connections = routing.phones().connections();
        let connection = connections.get(&row.account, kept.required("connection_id")?);
        let (parent, _) = connection
            .filter(|(_, connection)| connection.phone.is_some())
            .ok_or_else(ApiError::no_connection_of_number)?;
        let expires_at = kept.text("expires_at")?.filter(|text| !text.is_empty());
        let expires_at = expires_at.map(|text| {
            parse_time(text).ok_or_else(|| {
                ApiError::bad_value("expires_at", "The 'expires_at' parameter must be an ISO 8601 time.")
            })
        });
        let phone = &mut row.details;
        phone.expires_at = expires_at.transpose()?;
        (phone.dialect, phone.outbound) = (NAME.to_owned(), true);
        row.parent = Some(parent);
        if row.name.is_empty() {
            let password: String = random(32);
            row.name = format!("gencred{}", random(39));
            phone.set_password(&row.name, routing.phones().realm(), &password);
            phone.other.insert(SECRET.into(), password.into());
        }
        Ok(())
    }

    async fn keep(app: &App, row: Row) -> Result<Arc<Row>, ApiError> {
        keep(app, row).await
    }

    async fn remove(app: &App, row: &Row) -> Result<(), ApiError> {
        stored::remove(app, CONNECTION_PHONES, row).await
    }

    fn new_id() -> u128 {
        rand::random()
    }

    fn id(row: &Row) -> String {
        id::uuid_v4(row.id)
    }

    fn show(_: &App, row: &Row) -> Value {
        let phone = &row.details;
        let expired = phone.expires_at.is_some_and(|at| at <= clock::time());
        json!({
            "record_type": "credential",
            "id": Self::id(row),
            "resource_id": row.parent.map(|id| format!("connection:{id}")),
            "user_id": id::user_id(&row.account),
            "name": phone.other.get("name"),
            "sip_username": row.name,
            "sip_password": phone.other.get(SECRET),
            "expired": expired,
            "expires_at": phone.expires_at.map(time),
            "created_at": time(row.created_at),
            "updated_at": time(row.updated_at),
        })
    }
}

async fn keep(app: &App, mut row: Row) -> Result<Arc<Row>, ApiError> {
    let kept = phones::keep_phone(app.calls.services(), CONNECTION_PHONES, &mut row, MAX_ROWS).await;
    kept.map_err(|why| stored::not_kept(why, name_taken()))?;
    Ok(Arc::new(row))
}

fn name_taken() -> ApiError {
    ApiError::duplicate("user_name", "The user name is taken.")
}

/// The `user_name` of a connection: 4 to 32 letters and digits.
pub(super) fn user_name(kept: Parameters<'_>) -> Result<Option<&str>, ApiError> {
    let name = kept.sized("user_name", USER_NAME)?;
    match name.is_none_or(|name| name.bytes().all(|b| b.is_ascii_alphanumeric())) {
        true => Ok(name),
        false => Err(ApiError::bad_value("user_name", "The user name must be alphanumeric.")),
    }
}

/// The `password` of a connection: 8 to 128 characters.
pub(super) fn password(kept: Parameters<'_>) -> Result<Option<&str>, ApiError> {
    kept.sized("password", PASSWORD)
}

fn random(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// Parses a time with or without an offset. A time without an offset is in UTC.
fn parse_time(text: &str) -> Option<Timestamp> {
    let utc = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    text.parse().ok().or_else(|| utc().map(|zoned| zoned.timestamp()))
}

/// Returns whether the connection's own phone is registered. The answer also has the address of the registration.
async fn check_registration(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let row = resource::find::<CredentialConnection>(&app, &account, &id).await?;
    let store = &app.calls.services().store;
    let bound = bindings::list(store, clock::time()).await.map_err(StoreFailed::from)?;
    let bound = bound.iter().find(|bound| bound.account == row.account && bound.username == row.name);
    let details = bound.map(|bound| &bound.details);
    Ok(Json(json!({ "data": {
        "record_type": "registration_status",
        "sip_username": row.name,
        "status": if bound.is_some() { "Registered" } else { "Not Registered" },
        "ip_address": details.map(|details| details.source.ip().to_string()),
        "port": details.map(|details| details.source.port()),
        "transport": details.map(|details| details.transport.to_ascii_uppercase()),
        "user_agent": details.and_then(|details| details.user_agent.as_deref()),
        "last_registration": null,
    }})))
}

/// Returns a token for the credential, with which a page logs in.
async fn token(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
) -> Result<Response, ApiError> {
    let row = resource::find::<TelephonyCredential>(&app, &account, &id).await?;
    let text = browser::token(&row, clock::time());
    Ok((StatusCode::CREATED, [(header::CONTENT_TYPE, "text/plain")], text).into_response())
}
