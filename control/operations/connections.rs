//! The connections of an account. A connection is an application of the account, or a SIP connection of the account (a
//! customer trunk or a phone). A number has a connection, and a call belongs to a connection.

use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_runtime::services::Services;
use tandem_store::StoreError;
use tandem_store::resources::{Kind, Resource};

use crate::phones;

/// The reason why a connection was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// A number still uses the connection. The value is this number.
    #[error("{0} still uses this connection")]
    InUse(String),
    /// The account has no such connection.
    #[error("the account has no such connection")]
    Unknown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A connection that a number can have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The name that people see.
    pub name: String,
    /// The dialect of the connection's application.
    pub dialect: &'static str,
}

/// Returns the account's connection with this id. `dialects` are the dialects of the connections of the API. SIP
/// connections have the first of these dialects.
pub fn find(routing: &Routing, account: &AccountName, id: &str, dialects: &[&'static str]) -> Option<Connection> {
    if let Some((_, connection)) = routing.phones().connections().get(account, id) {
        return Some(Connection { name: connection.name.clone(), dialect: dialects.first()? });
    }
    let known = |name: &str| dialects.iter().find(|dialect| **dialect == name).copied();
    if let Some(held) = routing.inventory().applications.find(id).filter(|held| held.account == *account) {
        return Some(Connection { name: held.name.clone(), dialect: known(&held.details.dialect)? });
    }
    let file = routing.applications().iter().find(|app| app.account == *account && &*app.id == id)?;
    Some(Connection { name: id.to_owned(), dialect: known(&file.provider)? })
}

/// Checks that no number uses a connection.
///
/// # Errors
/// [`ConnectionError::InUse`]
pub fn check_unused(routing: &Routing, account: &AccountName, id: &str) -> Result<(), ConnectionError> {
    match routing.number_of_application(account, id) {
        Some(number) => Err(ConnectionError::InUse(number.name.clone())),
        None => Ok(()),
    }
}

/// Deletes a SIP connection that no number uses, and the resources below it.
pub async fn delete<T>(services: &Services, kind: Kind<T>, row: &Resource<T>) -> Result<(), ConnectionError> {
    check_unused(&services.routing.load_full(), &row.account, &row.id.to_string())?;
    let deleted = phones::remove(services, kind, &row.account, row.id).await?;
    deleted.then_some(()).ok_or(ConnectionError::Unknown)
}
