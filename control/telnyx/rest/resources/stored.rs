//! Resources whose changes must also reach the SIP code. A change is first stored in the database and then takes
//! effect.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tandem_id::AccountName;
use tandem_operations::phones;
use tandem_runtime::app::App;
use tandem_store::resources::{self, Filter, Kind, NotAdded, Resource};
use tandem_store::{StoreError, StoreFailed};

use super::super::error::ApiError;

/// All resources of an account.
pub(super) async fn all<T: DeserializeOwned>(
    app: &App,
    kind: Kind<T>,
    account: &AccountName,
) -> Result<Vec<Arc<Resource<T>>>, ApiError> {
    let store = &app.calls.services().store;
    let rows = resources::every(store, kind, account, &Filter::default()).await.map_err(failed)?;
    Ok(rows.into_iter().map(Arc::new).collect())
}

/// Deletes a resource and the resources below it.
pub(super) async fn remove<T>(app: &App, kind: Kind<T>, row: &Resource<T>) -> Result<(), ApiError> {
    let deleted = phones::remove(app.calls.services(), kind, &row.account, row.id).await.map_err(failed)?;
    deleted.then_some(()).ok_or_else(ApiError::no_resource)
}

/// Converts the reason why a resource was not stored to an API error. `taken` is the error if another resource has the
/// same claim.
pub(super) fn not_kept(why: NotAdded, taken: ApiError) -> ApiError {
    match why {
        NotAdded::Full(max) => ApiError::limit_reached(format!("The account already has the maximum of {max}.")),
        NotAdded::Taken => taken,
        NotAdded::Store(error) => failed(error),
    }
}

fn failed(error: StoreError) -> ApiError {
    StoreFailed::from(error).into()
}
