//! What numbers lead to and calls belong to: an account's applications, by their ids.

use crate::dialect::telnyx::NAME;
use crate::routing::Routing;

/// Whose documents applications of Telnyx's own TwiML are.
pub(super) const TEXML: &str = "texml";

/// A connection, as others name it.
pub(super) struct Connection {
    /// For people.
    pub(super) name: String,
    /// Whose words its application speaks.
    pub(super) dialect: &'static str,
}

/// The account's connection of an id.
pub(super) fn find(routing: &Routing, account: &str, id: &str) -> Option<Connection> {
    if let Some(held) = routing.holdings().applications.find(id).filter(|held| held.account == account) {
        let dialect = [NAME, TEXML].into_iter().find(|dialect| *dialect == held.details.dialect)?;
        return Some(Connection { name: held.name.clone(), dialect });
    }
    let file = routing.applications().iter().find(|app| &*app.account == account && &*app.id == id)?;
    let dialect = [NAME, TEXML].into_iter().find(|dialect| *dialect == &*file.provider)?;
    Some(Connection { name: id.to_owned(), dialect })
}
