//! `/console/trunks`: the state of each trunk, and the reason for this state.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use tandem_causes::Cause;
use tandem_runtime::app::App;
use tandem_settings::TrunkConfig;
use tandem_sip as sip;

use super::{ListQuery, QueryError, Scope, follow, json};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/trunks", get(list))
}

#[derive(Serialize)]
struct Trunks {
    trunks: Vec<TrunkRow>,
}

#[derive(Serialize)]
struct TrunkRow {
    name: String,
    /// The account that owns the trunk. `None` for a trunk that all accounts use.
    account: Option<String>,
    uri: Option<String>,
    prefixes: Vec<String>,
    inbound_from: Vec<String>,
    /// The health of the trunk: `unknown`, `up`, `doubtful` or `down`.
    health: &'static str,
    /// The reason why the trunk is doubtful, down, or not registered.
    reason: Option<String>,
    cause: Option<Cause>,
    advice: Option<&'static str>,
    /// Number of current calls over the trunk, in both directions.
    live_calls: u32,
    max_calls: Option<u32>,
    max_cps: Option<u32>,
    /// Number of calls that the limits `max_calls` and `max_cps` have refused since the start of the server.
    limited: u64,
    /// The state of the registration: `none`, `pending`, `registered`, `refused` or `unanswered`.
    registration: &'static str,
    registration_status: Option<u16>,
}

impl TrunkRow {
    fn of(trunk: &TrunkConfig, status: sip::TrunkStatus) -> Self {
        let texts = |list: &[std::sync::Arc<str>]| list.iter().map(std::string::ToString::to_string).collect();
        let (registration, registration_status) = match status.registered {
            sip::Registered::Not => ("none", None),
            sip::Registered::Pending => ("pending", None),
            sip::Registered::Yes => ("registered", None),
            sip::Registered::Refused(status) => ("refused", Some(status)),
            sip::Registered::Unanswered => ("unanswered", None),
        };
        let (health, troubled) = match status.health {
            sip::Health::Unknown => ("unknown", None),
            sip::Health::Up => ("up", None),
            sip::Health::Doubtful => {
                ("doubtful", Some((Cause::TrunkSilent, "a call over the trunk got no answer, or 503".to_owned())))
            }
            sip::Health::Down => ("down", Some((Cause::TrunkDown, "the trunk does not answer OPTIONS".to_owned()))),
        };
        let unregistered = match status.registered {
            sip::Registered::Refused(status) => {
                Some((Cause::TrunkNotRegistered, format!("the registrar refused our registration with {status}")))
            }
            sip::Registered::Unanswered => {
                Some((Cause::RegistrarSilent, "the registrar does not answer our REGISTER".to_owned()))
            }
            sip::Registered::Not | sip::Registered::Pending | sip::Registered::Yes => None,
        };
        let tls = status.tls_fault.map(|fault| (Cause::TrunkTls, sip::TransportFault::Tls(fault).to_string()));
        // A failed handshake is the reason for the others. A trunk without its registration cannot be called back.
        let reasons: Vec<(Cause, String)> = tls.into_iter().chain(unregistered).chain(troubled).collect();
        let cause = reasons.first().map(|(cause, _)| *cause);
        let reason = reasons.into_iter().map(|(_, reason)| reason).reduce(|all, reason| format!("{all}; {reason}"));
        Self {
            name: trunk.name.to_string(),
            account: trunk.account.as_deref().map(str::to_owned),
            uri: trunk.uri.as_deref().map(str::to_owned),
            prefixes: texts(&trunk.prefixes),
            inbound_from: trunk.inbound_from.iter().map(ToString::to_string).collect(),
            health,
            reason,
            cause,
            advice: cause.map(Cause::advice),
            live_calls: status.calls,
            max_calls: trunk.max_calls,
            max_cps: trunk.max_cps,
            limited: status.limited,
            registration,
            registration_status,
        }
    }
}

async fn list(State(app): State<App>, headers: HeaderMap, Query(query): Query<ListQuery>) -> Response {
    let scope = match Scope::of_request(&app, &headers) {
        Ok(scope) => scope,
        Err(denied) => return *denied,
    };
    if query.follow {
        let follower = scope.clone();
        let list = move |app: App| {
            let (scope, query) = (scope.clone(), query.clone());
            async move { Ok::<_, QueryError>(rows(&app, &scope, &query)) }
        };
        return follow::rows(app, &follower, "trunk", follow::unknown, |row: &TrunkRow| row.name.clone(), list);
    }
    json(&Trunks { trunks: rows(&app, &scope, &query) })
}

fn rows(app: &App, scope: &Scope, query: &ListQuery) -> Vec<TrunkRow> {
    let services = app.calls.services();
    let routing = services.routing.load_full();
    let seen = |trunk: &TrunkConfig| match trunk.account.as_deref() {
        Some(account) => scope.sees(account) && query.account.as_deref().is_none_or(|one| one == account),
        None => true,
    };
    let trunks = routing.trunks().iter().filter(|trunk| seen(trunk));
    trunks.map(|trunk| TrunkRow::of(trunk, services.sip.trunk_status(&trunk.name))).collect()
}
