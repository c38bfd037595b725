//! Lists of numbers, applications and caller IDs. All these resources are in memory. This module also has the errors
//! for resources that cannot be stored.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;
use tandem_operations::numbers::NumberError;
use tandem_routing::inventory::InventoryError;
use tandem_store::resources::Resource;

use super::super::error::ApiError;
use super::{Answer, RestContext, ok};

/// One page of a list. The newest resource comes first. Resources of the configuration file have no date and come last.
/// `key` is the key in the envelope, `name` is the path below the account, and `prefix` is the prefix of the SIDs.
pub(super) fn page<T>(
    x: &RestContext<'_>,
    (key, name, prefix): (&'static str, &str, &str),
    mut rows: Vec<Arc<Resource<T>>>,
    represent: impl Fn(&Resource<T>) -> Value,
) -> Answer {
    let paging = x.paging(prefix)?;
    rows.sort_by_key(|row| Reverse((row.created_at, row.id)));
    let shown = paging.part(rows, |row| Some(row.id));
    let items = shown.iter().map(|row| (x.ids().spell(prefix, row.id), represent(row))).collect();
    Ok(ok(x.list(key, name, &paging, items)))
}

/// The REST error for a resource that could not be stored. `taken` is the error if another account already has this
/// resource.
pub(super) fn inventory_error(error: InventoryError, taken: ApiError) -> ApiError {
    match error {
        InventoryError::Taken => taken,
        InventoryError::Full => ApiError::new(StatusCode::TOO_MANY_REQUESTS, 20429, error.to_string()),
        InventoryError::Store(error) => error.into(),
    }
}

impl From<NumberError> for ApiError {
    fn from(error: NumberError) -> Self {
        match error {
            NumberError::NotAvailable(number) => Self::bad(21422, format!("{number} is not available")),
            NumberError::NoPool(_) => Self::bad(21422, error.to_string()),
            NumberError::InTheFile(number) => in_the_file(&number),
            NumberError::Unknown | NumberError::NoConnection => Self::bad(20404, error.to_string()),
            NumberError::Full => Self::new(StatusCode::TOO_MANY_REQUESTS, 20429, error.to_string()),
            NumberError::Store(error) => error.into(),
        }
    }
}

/// HTTP status 403: a REST request cannot delete a resource of the configuration file.
pub(super) fn in_the_file(what: &str) -> ApiError {
    let message = format!("{what} is in the server's configuration file and can be removed only there");
    ApiError::new(StatusCode::FORBIDDEN, 20006, message)
}
