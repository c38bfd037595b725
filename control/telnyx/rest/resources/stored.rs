//! Resources whose changes are passed to SIP. A change is stored in the database first, and then takes effect.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tandem_routing::connections::MOST;
use tandem_runtime::app::App;
use tandem_store::resources::{self, Filter, Kind, Resource};
use tandem_store::{StoreError, StoreFailed};

use super::super::error::ApiError;

/// All resources of an account.
pub(super) async fn all<T: DeserializeOwned>(
    app: &App,
    kind: Kind<T>,
    account: &str,
) -> Result<Vec<Arc<Resource<T>>>, ApiError> {
    let store = &app.calls.services().store;
    let rows = resources::every(store, kind, account, &Filter::default()).await.map_err(failed)?;
    Ok(rows.into_iter().map(Arc::new).collect())
}

/// Stores a resource. `taken` is the error if another resource has the same claim.
pub(super) async fn keep<T: Serialize>(
    app: &App,
    kind: Kind<T>,
    row: Resource<T>,
    taken: ApiError,
) -> Result<Arc<Resource<T>>, ApiError> {
    let services = app.calls.services();
    if resources::count(&services.store, kind, &row.account, &Filter::default()).await.map_err(failed)? >= MOST {
        let is_new = row.created_at == row.updated_at;
        if is_new {
            return Err(ApiError::limit_reached(format!("The account already has the maximum of {MOST}.")));
        }
    }
    if !resources::put(&services.store, kind, &row).await.map_err(failed)? {
        return Err(taken);
    }
    services.phones_changed().await.map_err(failed)?;
    Ok(Arc::new(row))
}

/// Deletes a resource and the resources below it.
pub(super) async fn remove<T>(app: &App, kind: Kind<T>, row: &Resource<T>) -> Result<(), ApiError> {
    let services = app.calls.services();
    let deleted = resources::delete(&services.store, kind, &row.account, row.id).await.map_err(failed)?;
    services.phones_changed().await.map_err(failed)?;
    deleted.then_some(()).ok_or_else(ApiError::no_resource)
}

fn failed(error: StoreError) -> ApiError {
    StoreFailed::from(error).into()
}
