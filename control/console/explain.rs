//! `/console/explain`: what would happen to a call, and why. Nobody is called.

mod outcome;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tandem_accounts::subaccount::AccountStatus;
use tandem_call::address::{Address, PhoneNumber};
use tandem_clients::User;
use tandem_id::AccountName;
use tandem_routing::phones::instance_in;
use tandem_routing::{Outbound, Routing};
use tandem_runtime::app::App;
use tandem_settings::TrunkConfig;
use tandem_sip::Health;

use self::outcome::{Outcome, View};
use super::Scope;
use crate::session::refused;

/// Maximum length of a number, in octets.
const MAX_NUMBER: usize = 256;
/// Maximum number of trunks, and of phones, whose calls are explained if the caller is not given.
const MAX_CALLERS: usize = 50;
/// Number of callers with the same outcome that are named.
const NAMED: usize = 5;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/explain", get(answer))
}

/// The call in question.
#[derive(Deserialize)]
struct Question {
    /// The called number, the name of a phone, or a SIP URI, as it stands in the Request-URI.
    to: String,
    /// The calling phone, or the calling number.
    #[serde(default)]
    from: String,
    /// The trunk over which the call arrives. Empty if the caller is another one.
    #[serde(default)]
    trunk: String,
}

/// Where a call comes from.
enum Origin {
    /// A phone that knows its password.
    Phone(User),
    Trunk(Arc<TrunkConfig>),
    /// `tandem call` on this machine, with the credentials of an account.
    Account(AccountName),
    /// Any program on this machine. It needs no password if no trunk is configured.
    Machine,
    /// An address that belongs to no trunk.
    Elsewhere,
}

impl Origin {
    fn name(&self) -> String {
        match self {
            Self::Phone(User { account, name, domain }) => {
                let at = domain.as_ref().map(|domain| format!("@{domain}")).unwrap_or_default();
                format!("phone {name}{at} of account {account}")
            }
            Self::Trunk(trunk) => format!("trunk {}", trunk.name),
            Self::Account(account) => format!("this machine, as account {account} (tandem call)"),
            Self::Machine => "this machine, without a password (no trunk is configured)".to_owned(),
            Self::Elsewhere => "any other address, without a password".to_owned(),
        }
    }
}

/// The routes of the call.
#[derive(Serialize)]
struct Explanation {
    /// The first of the outcomes.
    #[serde(flatten)]
    first: Outcome,
    /// What happens to the call, for each group of callers with the same outcome.
    outcomes: Vec<Outcome>,
}

/// `GET /console/explain`: the steps of a call to a number, each with its reason, without a call.
async fn answer(State(app): State<App>, scope: Scope, Query(question): Query<Question>) -> Response {
    let (to, from) = (question.to.trim(), question.from.trim());
    if to.is_empty() || to.len() > MAX_NUMBER || from.len() > MAX_NUMBER {
        return refused(StatusCode::BAD_REQUEST, "give the called number, at most 256 characters");
    }
    let services = app.calls.services();
    let routing = services.routing.load_full();
    let sees = |account: &AccountName| scope.sees(account);
    let trunk = Some(question.trunk.trim()).filter(|name| !name.is_empty());
    let origins = match (trunk, visible_trunks(&routing, &sees).find(|one| Some(&*one.name) == trunk)) {
        (Some(name), None) => return refused(StatusCode::NOT_FOUND, &format!("there is no trunk {name:?}")),
        (_, Some(trunk)) => vec![Origin::Trunk(Arc::clone(trunk))],
        (None, None) => origins(&routing, &sees, &scope.account.name, (from, to)),
    };
    let statuses = services.sip.trunk_statuses();
    let health = |name: &str| {
        statuses.iter().find(|(own, _)| **own == *name).map_or(Health::Unknown, |(_, status)| status.health)
    };
    let rings =
        |user: &User, route: &Outbound| !services.clients.contacts(user, instance_in(&route.request_uri)).is_empty();
    let view = View {
        routing: &routing,
        health: &health,
        rings: &rings,
        is_page: &|user| !services.clients.contacts_with_token(user).is_empty(),
        is_active: &|account| services.accounts.status(account) == AccountStatus::Active,
        sees: &sees,
        is_operator: scope.is_operator(),
        is_detailed: origins.len() == 1,
    };
    let outcomes = outcomes(&view, &origins, (from, to));
    Json(Explanation { first: outcomes.first().cloned().unwrap_or_default(), outcomes }).into_response()
}

fn visible_trunks<'a>(
    routing: &'a Routing,
    sees: &'a dyn Fn(&AccountName) -> bool,
) -> impl Iterator<Item = &'a Arc<TrunkConfig>> {
    routing.trunks().iter().filter(move |trunk| trunk.account.as_ref().is_none_or(sees))
}

/// Returns the callers whose calls are explained. If `from` names a phone, these are the phones with this name. Otherwise
/// these are callers of every kind. `own` is the account of the reader.
fn origins(
    routing: &Routing,
    sees: &dyn Fn(&AccountName) -> bool,
    own: &AccountName,
    (from, to): (&str, &str),
) -> Vec<Origin> {
    let named = routing.phones().callers(&Address::from(from).user());
    let domain = routing.phones().domain_of(from).map(|domain| domain.name);
    let is_named =
        |user: &User| sees(&user.account) && (domain.is_none() || user.domain.as_deref() == domain.as_deref());
    let phones: Vec<_> = named.into_iter().filter(is_named).map(Origin::Phone).collect();
    if !phones.is_empty() {
        return phones;
    }
    let mut origins: Vec<_> =
        visible_trunks(routing, sees).take(MAX_CALLERS).map(|trunk| Origin::Trunk(Arc::clone(trunk))).collect();
    let mut phones: Vec<_> = routing.phones().users().into_iter().filter(|user| sees(&user.account)).collect();
    phones.sort_by(|a, b| (&a.account, &a.name).cmp(&(&b.account, &b.name)));
    let calls = |user: &User| routing.phones().callers(&user.name).contains(user);
    origins.extend(phones.into_iter().filter(calls).take(MAX_CALLERS).map(Origin::Phone));
    // `tandem call` chooses the account of the number or of the phone.
    let called = Address::from(to).user().into_owned();
    let of_number = routing.inbound(None, &called).map(|route| route.owner.account);
    let of_phone = || routing.phones().callers(&called).into_iter().next().map(|user| user.account);
    let account = of_number.or_else(of_phone).filter(|account| sees(account)).unwrap_or_else(|| own.clone());
    origins.push(Origin::Account(account));
    if !routing.has_trunks() {
        origins.push(Origin::Machine);
    }
    origins.push(Origin::Elsewhere);
    origins
}

/// Explains the call of each caller. Callers with the same outcome are together.
fn outcomes(view: &View<'_>, origins: &[Origin], (from, to): (&str, &str)) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    let is_phone = matches!(origins, [Origin::Phone(_), ..]) && !from.is_empty();
    let is_trunk = matches!(origins, [Origin::Trunk(_)]);
    let is_number = from.parse::<PhoneNumber>().is_ok();
    if !from.is_empty() && !is_number && !is_phone && !is_trunk && view.routing.phones().callers(from).is_empty() {
        let mut none = Outcome { callers: vec![format!("a phone with the name {from}")], ..Outcome::default() };
        none.step(
            format!("No phone has the name {from}"),
            "no [[endpoints]] entry and no SIP user that may call has it",
        );
        outcomes.push(none);
    }
    for origin in origins {
        let outcome = view.outcome(origin, (from, to));
        let same = outcomes.iter_mut().find(|other| {
            other.steps == outcome.steps && other.goes_to == outcome.goes_to && other.advice == outcome.advice
        });
        match same {
            Some(other) => other.callers.extend(outcome.callers),
            None => outcomes.push(outcome),
        }
    }
    for outcome in &mut outcomes {
        let more = outcome.callers.len().saturating_sub(NAMED);
        if more > 1 {
            outcome.callers.truncate(NAMED);
            outcome.callers.push(format!("{more} more callers"));
        }
    }
    outcomes
}
