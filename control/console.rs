//! What became of a call, for people: its legs and its event log.

pub mod webhooks;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tandem_call::id::{CallId, LegId};
use tandem_call::leg::{Direction, LegInfo};

use crate::account::Account;
use crate::app::App;
use crate::event_log::{Line, timeline};
use crate::query::{LegFilter, Page, StoreFailed};
use crate::records;

/// Legs of a session that are shown by name.
const MOST_LEGS: usize = 100;

/// A leg and its application's id for it.
pub type NamedLeg = (String, Arc<LegInfo>);

/// A session's legs, oldest first, each with its application's id for it, and its event log.
pub struct CallLog {
    legs: Vec<NamedLeg>,
    /// Its event log.
    pub lines: Vec<Line>,
}

impl CallLog {
    /// The session that is named by its id, or by any of its legs in any dialect's spelling. `None` if the account has none.
    pub async fn find(app: &App, account: &Account, id: &str) -> Result<Option<Self>, StoreFailed> {
        let Some((session, legs)) = Self::legs(app, account, id).await? else { return Ok(None) };
        Ok(Some(Self { legs, lines: app.calls.log(session).await? }))
    }

    /// Of such a session, which it is and its legs.
    pub async fn legs(app: &App, account: &Account, id: &str) -> Result<Option<(CallId, Vec<NamedLeg>)>, StoreFailed> {
        let services = app.calls.services();
        let number = u128::from_str_radix(&id.replace('-', ""), 16).ok();
        let leg = match services.dialects.parse_call_id(id).or(number.map(LegId)) {
            Some(leg) => app.calls.get(&account.name, leg).await?,
            None => None,
        };
        let Some(session) = leg.map(|leg| leg.session).or(number.map(CallId)) else { return Ok(None) };
        let filter = LegFilter { session: Some(session), ..LegFilter::default() };
        let page = Page { limit: MOST_LEGS, after: None, offset: 0 };
        let newest = app.calls.list(&account.name, &filter, page).await?;
        if newest.is_empty() {
            return Ok(None);
        }
        Ok(Some((session, newest.into_iter().rev().map(|leg| (services.call_id(&leg), leg)).collect())))
    }
}

impl fmt::Display for CallLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = names(self.legs.iter().map(|(_, leg)| &**leg));
        for (id, leg) in &self.legs {
            let name = names.get(&leg.id).map_or("", String::as_str);
            write!(f, "{name}: {id}, {} {} -> {}", records::direction_word(leg.direction), leg.from, leg.to)?;
            if let Some(trunk) = &leg.sip.trunk {
                write!(f, ", trunk {trunk}")?;
            }
            if let Some(codec) = &leg.sip.codec {
                write!(f, ", {codec}")?;
            }
            writeln!(f, ", {}", outcome(leg))?;
        }
        if let Some(first) = self.lines.first() {
            writeln!(f, "\nseconds since {:.3}\n", first.at)?;
        }
        f.write_str(&timeline(&self.lines, |leg| names.get(&leg).map(String::as_str)))
    }
}

/// How far a leg is, and why it ended.
pub(crate) fn outcome(leg: &LegInfo) -> String {
    match &leg.end {
        Some(end) => format!("{}: {end}", records::status_word(leg.status)),
        None => records::status_word(leg.status).to_owned(),
    }
}

/// `caller`, `callee`, `callee 2`, ...
pub(crate) fn names<'a>(legs: impl Iterator<Item = &'a LegInfo>) -> HashMap<LegId, String> {
    let mut seen = HashMap::new();
    legs.map(|leg| {
        let role = if leg.direction == Direction::Inbound { "caller" } else { "callee" };
        let count = seen.entry(role).and_modify(|count| *count += 1).or_insert(1);
        (leg.id, if *count == 1 { role.to_owned() } else { format!("{role} {count}") })
    })
    .collect()
}
