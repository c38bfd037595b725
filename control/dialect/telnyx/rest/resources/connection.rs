//! What numbers lead to and calls belong to: an account's applications, by their ids.

use super::super::error::ApiError;
use super::super::parameters::Parameters;
use crate::app::App;
use crate::dialect::telnyx::{NAME, id};
use crate::holdings::Limits;
use crate::routing::Routing;

const PROFILE: &str = "outbound_voice_profile_id";
/// Whose documents applications of Telnyx's own TwiML are.
pub(super) const TEXML: &str = "texml";

/// The limits that the settings of a connection say, whose profile must be one of the account.
pub(super) fn limits(app: &App, account: &str, kept: Parameters<'_>) -> Result<Limits, ApiError> {
    let limit = |side: &str| kept.object(side)?.integer("channel_limit", 0..=u32::MAX);
    let profile = kept.object("outbound")?.text(PROFILE)?.filter(|id| !id.is_empty());
    let profile = match profile {
        None => None,
        Some(id) => {
            let profiles = &app.calls.services().routing.get().holdings().profiles.all(account);
            let found = profiles.iter().find(|row| id::decimal(row.id).to_string() == id);
            Some(found.ok_or_else(|| ApiError::bad_id(PROFILE).within("outbound"))?.id)
        }
    };
    Ok(Limits { inbound: limit("inbound")?, outbound: limit("outbound")?, profile })
}

/// How many connections go by a profile.
pub(super) fn count(routing: &Routing, account: &str, profile: u128) -> usize {
    let applications = routing.holdings().applications.all(account);
    applications.iter().filter(|row| row.details.limits.profile == Some(profile)).count()
}

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
