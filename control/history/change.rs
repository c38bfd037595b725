//! The record of changes, each with the name of its author: people change stored resources, settings and live calls in the
//! web console, and applications change their resources.

use serde::{Deserialize, Serialize};
use tandem_id::AccountName;
use tandem_store::Store;
use tandem_store::resources::{self, Kind, Resource};

/// The resource kind of stored changes. The server keeps them as long as the logs of calls.
pub const CHANGES: Kind<Change> = Kind::new(resources::CHANGE);

/// Maximum number of characters of the parameters.
const LONGEST: usize = 2_000;

/// A change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The user of the console, or the account whose credentials the request had.
    pub who: String,
    /// The kind of `who`: `operator`, `account` or `application`.
    pub role: String,
    /// The change: the HTTP method, or the name of the action.
    pub action: String,
    /// The changed object: the path of the request.
    pub object: String,
    /// The parameters of the request, without secrets.
    pub parameters: String,
}

/// Stores a change of `account`'s data. If the database is slow, the change is dropped and counted.
pub fn note(store: &Store, account: &AccountName, mut change: Change) {
    if let Some((end, _)) = change.parameters.char_indices().nth(LONGEST) {
        change.parameters.truncate(end);
    }
    resources::submit(store, CHANGES, &Resource::new(account, "change", change));
}
