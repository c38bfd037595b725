//! The operations of most resources: list with filters and pages, fetch by id, create, change and delete.

use std::future::Future;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use rand::RngExt;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_routing::inventory;
use tandem_runtime::app::App;
use tandem_store::resources::Resource;

use super::super::error::ApiError;
use super::super::parameters::Parameters;
use super::super::{Caller, Payload, Segments, only};
use super::listing::{ListFields, Listing};
use super::settings;
use crate::{id, time};

pub(super) trait Kind: 'static {
    /// The stored data of the resource.
    type Details: Default + Clone + Send + Sync;

    /// The value of `record_type`. This is also the key of the kind in the table of settings.
    const RECORD_TYPE: &'static str;
    /// The path of the list: `/v2/...`.
    const PATH: &'static str;
    /// The HTTP status of the answer to a request that creates a resource.
    const MADE: StatusCode = StatusCode::CREATED;
    /// The filters and sort keys of lists.
    const LIST_FIELDS: ListFields;

    /// All resources of the account, in any order.
    fn all(
        app: &App,
        account: &Account,
    ) -> impl Future<Output = Result<Vec<Arc<Resource<Self::Details>>>, ApiError>> + Send;

    /// The stored settings.
    fn settings(details: &mut Self::Details) -> &mut Map<String, Value>;

    /// Checks the merged settings and applies them to the resource. `given` has the settings of this request.
    fn apply(app: &App, row: &mut Resource<Self::Details>, given: Parameters<'_>) -> Result<(), ApiError>;

    /// Stores the resource. Calls use the new settings immediately.
    fn keep(
        app: &App,
        row: Resource<Self::Details>,
    ) -> impl Future<Output = Result<Arc<Resource<Self::Details>>, ApiError>> + Send;

    /// Deletes the resource.
    fn remove(app: &App, row: &Resource<Self::Details>) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// A random id for a new resource.
    fn new_id() -> u128 {
        rand::rng().random_range(id::DECIMALS).into()
    }

    /// The id in the API's spelling.
    fn id(row: &Resource<Self::Details>) -> String {
        id::decimal(row.id).to_string()
    }

    /// Additional keys of the resource, besides the settings, the id and the dates. If a setting, the id or a date has
    /// the same key, the value that this function returns replaces that value.
    fn more(_: &App, _: &Resource<Self::Details>) -> Value {
        Value::Null
    }

    /// The resource as JSON.
    fn show(app: &App, row: &Resource<Self::Details>) -> Value {
        let mut kept = row.details.clone();
        let mut shown = settings::show(Self::RECORD_TYPE, Self::settings(&mut kept));
        shown.insert("id".into(), Self::id(row).into());
        shown.insert("record_type".into(), Self::RECORD_TYPE.into());
        shown.insert("created_at".into(), time(row.created_at).into());
        shown.insert("updated_at".into(), time(row.updated_at).into());
        if let Value::Object(more) = Self::more(app, row) {
            shown.extend(more);
        }
        Value::Object(shown)
    }
}

pub(super) fn routes<K: Kind>() -> Router<App> {
    Router::new()
        .route(K::PATH, only(get(list::<K>).post(create::<K>)))
        .route(&format!("{}/{{id}}", K::PATH), only(get(retrieve::<K>).patch(update::<K>).delete(delete::<K>)))
}

/// The account's resource with this id. Error 404 if there is no such resource.
pub(super) async fn find<K: Kind>(
    app: &App,
    account: &Account,
    id: &str,
) -> Result<Arc<Resource<K::Details>>, ApiError> {
    K::all(app, account).await?.into_iter().find(|row| K::id(row) == id).ok_or_else(ApiError::no_resource)
}

async fn list<K: Kind>(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    let rows = K::all(&app, &account).await?;
    listing.answer(rows.iter().map(|row| K::show(&app, row)).collect(), &K::LIST_FIELDS)
}

async fn create<K: Kind>(
    State(app): State<App>,
    Caller(account): Caller,
    Payload(body): Payload,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let row = Resource { id: K::new_id(), ..Resource::new(&account.name, "", K::Details::default()) };
    let row = changed::<K>(&app, row, Parameters(&body))?;
    let row = K::keep(&app, row).await?;
    Ok((K::MADE, Json(json!({ "data": K::show(&app, &row) }))))
}

async fn retrieve<K: Kind>(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let row = find::<K>(&app, &account, &id).await?;
    Ok(Json(json!({ "data": K::show(&app, &row) })))
}

async fn update<K: Kind>(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let row = changeable(&*find::<K>(&app, &account, &id).await?)?;
    let row = changed::<K>(&app, row, Parameters(&body))?;
    let row = K::keep(&app, inventory::changed(&row)).await?;
    Ok(Json(json!({ "data": K::show(&app, &row) })))
}

async fn delete<K: Kind>(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(id): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let row = changeable(&*find::<K>(&app, &account, &id).await?)?;
    K::remove(&app, &row).await?;
    Ok(Json(json!({ "data": K::show(&app, &row) })))
}

fn changed<K: Kind>(
    app: &App,
    mut row: Resource<K::Details>,
    given: Parameters<'_>,
) -> Result<Resource<K::Details>, ApiError> {
    let kept = K::settings(&mut row.details);
    settings::take(K::RECORD_TYPE, given, kept)?;
    settings::check_required(K::RECORD_TYPE, kept)?;
    K::apply(app, &mut row, given)?;
    Ok(row)
}

/// A copy of the resource. Error 403 if the configuration file contains the resource.
fn changeable<T: Clone>(row: &Resource<T>) -> Result<Resource<T>, ApiError> {
    match inventory::is_of_the_file(row) {
        true => Err(ApiError::in_the_file(&row.name)),
        false => Ok(row.clone()),
    }
}
