//! `/console/explain`: what would happen to a call, and why. Nobody is called.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tandem_call::address::Address;
use tandem_id::AccountName;
use tandem_routing::Routing;
use tandem_routing::trunk::numbering::Numbering;
use tandem_runtime::app::App;
use tandem_settings::TrunkConfig;
use tandem_sip::Health;

use super::numbers::{self, GoesTo};
use super::{ListQuery, Scope};
use crate::session::refused;

/// Maximum length of a number, in octets.
const MAX_NUMBER: usize = 256;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/explain", get(answer))
}

/// The call in question.
#[derive(Deserialize)]
struct Question {
    /// The called number, as it stands in the Request-URI.
    to: String,
    /// The calling number.
    #[serde(default)]
    from: String,
    /// The trunk over which the call arrives. Empty for a call over no trunk.
    #[serde(default)]
    trunk: String,
}

/// The route of the call.
#[derive(Serialize, Default)]
struct Explanation {
    steps: Vec<Step>,
    /// The destination, if a number was found.
    goes_to: Option<GoesTo>,
    /// Whether the call would reach something.
    ok: bool,
}

/// One decision.
#[derive(Serialize)]
struct Step {
    text: String,
    because: String,
}

impl Explanation {
    fn step(&mut self, text: impl Into<String>, because: impl Into<String>) {
        self.steps.push(Step { text: text.into(), because: because.into() });
    }
}

/// `GET /console/explain`: the steps of a call to a number, each with its reason, without a call.
async fn answer(State(app): State<App>, scope: Scope, Query(question): Query<Question>) -> Response {
    let (to, from) = (question.to.trim(), question.from.trim());
    if to.is_empty() || to.len() > MAX_NUMBER || from.len() > MAX_NUMBER {
        return refused(StatusCode::BAD_REQUEST, "give the called number, at most 256 characters");
    }
    let routing = app.calls.services().routing.load_full();
    let trunk = Some(question.trunk.trim()).filter(|name| !name.is_empty());
    let sees = |trunk: &TrunkConfig| trunk.account.as_ref().is_none_or(|own| scope.sees(own));
    let found = routing.trunk(trunk).filter(|trunk| sees(trunk));
    if let (Some(name), None) = (trunk, found) {
        return refused(StatusCode::NOT_FOUND, &format!("there is no trunk {name:?}"));
    }
    let explanation = explain(&app, &scope, &routing, found.map(|trunk| &**trunk), (from, to));
    axum::response::IntoResponse::into_response(Json(explanation))
}

fn explain(
    app: &App,
    scope: &Scope,
    routing: &Routing,
    trunk: Option<&TrunkConfig>,
    (from, to): (&str, &str),
) -> Explanation {
    let mut explanation = Explanation::default();
    let mut called = to.to_owned();
    match trunk {
        Some(trunk) => {
            let of = trunk.account.as_ref().map_or("all accounts".to_owned(), |own| format!("account {own}"));
            explanation
                .step(format!("A call to {to} arrives over trunk {}", trunk.name), format!("the trunk is of {of}"));
            let numbering = Numbering::of(trunk);
            called = numbering.called_in(to);
            if called != to {
                let because = "number_format, inbound_strip_prefix or inbound_add_prefix of the trunk";
                explanation.step(format!("The called number becomes {called}"), because);
            }
            let caller = numbering.caller_in(from);
            if caller != from {
                explanation.step(format!("The calling number becomes {caller}"), "number_format of the trunk");
            }
        }
        None => explanation.step(format!("A call to {to} arrives over no trunk"), "no trunk was given"),
    }
    let route = routing.inbound(trunk.map(|trunk| &*trunk.name), &called);
    let Some(route) = route.filter(|route| scope.sees(&route.owner.account)) else {
        let what = format!("{called} is no number here: the caller gets 404");
        if scope.is_operator() {
            let unknown = routing.unknown_number(trunk.map(|trunk| &*trunk.name), &called);
            explanation.step(what, unknown.why);
            explanation.step("To change this", unknown.remedy);
        } else {
            // The explanation for operators names similar numbers of all accounts.
            explanation.step(what, "the account has no such number");
        }
        for account in scope.accounts(app, None) {
            way_out(app, routing, &account, &called, &mut explanation);
        }
        return explanation;
    };
    let account = &route.owner.account;
    let rows = numbers::rows(app, scope, &ListQuery { account: Some(account.clone()), ..ListQuery::default() });
    let fits = |number: &str| number.strip_suffix('*').map_or(number == called, |prefix| called.starts_with(prefix));
    let row = rows
        .into_iter()
        .filter(|row| fits(&row.number))
        .max_by_key(|row| (!row.number.ends_with('*'), row.number.len()));
    let Some(row) = row else { return explanation };
    let source = if row.source == "file" { "the configuration file" } else { "the API" };
    explanation.step(
        format!("Number {} of account {account} takes the call", row.number),
        format!("it fits best; it comes from {source}"),
    );
    explanation.step(format!("The call goes to {}", row.goes_to.text), format!("the number's {}", row.goes_to.kind));
    explanation.ok = row.goes_to.kind != "nowhere";
    if row.goes_to.kind == "bridge" {
        way_out(app, routing, account, &called, &mut explanation);
    }
    explanation.goes_to = Some(row.goes_to);
    explanation
}

/// Adds the trunks over which an account would call a number.
fn way_out(app: &App, routing: &Routing, account: &AccountName, to: &str, explanation: &mut Explanation) {
    let statuses = app.calls.services().sip.trunk_statuses();
    let health = |name: &str| {
        statuses.iter().find(|(own, _)| **own == *name).map_or(Health::Unknown, |(_, status)| status.health)
    };
    let routes = routing.outbound(account, &Address::from(to), &[], health, &mut rand::rng());
    let named: Vec<String> = routes
        .iter()
        .map(|route| match (route.trunk_name(), &route.user) {
            (Some(name), _) => format!("trunk {name} ({})", format!("{:?}", health(name)).to_lowercase()),
            (None, Some(_)) => "its registered phones".to_owned(),
            (None, None) => route.request_uri.clone(),
        })
        .collect();
    if named.is_empty() {
        let because = format!("no trunk that account {account} may use has a prefix of this number");
        explanation.step(format!("Account {account} cannot call {to}"), because);
    } else {
        let because = "trunks that are up first, then the longest prefix, then the priority";
        explanation.step(format!("Account {account} would call {to} over {}", named.join(", then ")), because);
    }
}
