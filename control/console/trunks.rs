//! `/console/trunks`: the state of each trunk, and the reason for this state.

use axum::Router;
use serde::Serialize;
use serde_json::Value;
use tandem_causes::Cause;
use tandem_events::{Event, Kind, ResourceEvent, ResourceKind, TrunkEvent};
use tandem_id::AccountName;
use tandem_runtime::app::App;
use tandem_settings::TrunkConfig;
use tandem_sip as sip;

use super::list::{Change, Held, List, Map, Page};
use super::{ListQuery, QueryError, Scope, list_route};

pub(super) fn routes() -> Router<App> {
    list_route::of::<Trunks>()
}

/// The list of trunks.
pub(super) struct Trunks;

#[derive(Serialize)]
pub(super) struct TrunkRow {
    name: String,
    /// The account that owns the trunk. `None` for a trunk that all accounts use.
    account: Option<AccountName>,
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
            account: trunk.account.clone(),
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

impl List for Trunks {
    type Row = TrunkRow;
    const PATH: &'static str = "/console/trunks";
    const ROWS: &'static str = "trunks";
    const ROW: &'static str = "trunk";
    const KINDS: &'static [Kind] = &[Kind::Trunk, Kind::Resource];
    const HELD: Held = Held::InParts;

    fn key(row: &TrunkRow) -> String {
        row.name.clone()
    }

    /// The counts are sums. If only the other node has a problem with the trunk, the row shows this problem.
    fn join(row: &mut Map, mut part: Map) {
        for count in ["live_calls", "limited"] {
            let sum = [&*row, &part].iter().filter_map(|one| one.get(count)?.as_u64()).sum::<u64>();
            row.insert(count.to_owned(), sum.into());
        }
        let is_well = |row: &Map| row.get("reason").is_none_or(Value::is_null);
        if is_well(row) && !is_well(&part) {
            let state = ["health", "reason", "cause", "advice", "registration", "registration_status"];
            row.extend(state.into_iter().filter_map(|key| part.remove_entry(key)));
        }
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<TrunkRow>, QueryError> {
        let services = app.calls.services();
        let routing = services.routing.load_full();
        let trunks = routing.trunks().iter().filter(|trunk| is_visible(scope, query, trunk));
        let rows = trunks.map(|trunk| TrunkRow::of(trunk, services.sip.trunk_status(&trunk.name)));
        Ok(Page::whole(rows.collect()))
    }

    fn change(app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<TrunkRow> {
        match event {
            // A row has parts of all nodes.
            Event::Trunk(_) if app.calls.services().cluster.is_on() => Change::List,
            Event::Trunk(TrunkEvent { trunk, status, .. }) => {
                let routing = app.calls.services().routing.load_full();
                let trunk = routing.trunk(Some(trunk)).filter(|trunk| is_visible(scope, query, trunk));
                trunk.map_or(Change::Nothing, |trunk| Change::Row(TrunkRow::of(trunk, *status)))
            }
            Event::Resource(ResourceEvent { kind: ResourceKind::Configuration, .. }) => Change::List,
            _ => Change::Nothing,
        }
    }
}

/// Whether a trunk is in the list. A trunk without an account is in the list of every account.
fn is_visible(scope: &Scope, query: &ListQuery, trunk: &TrunkConfig) -> bool {
    trunk.account.as_ref().is_none_or(|account| scope.sees(account) && query.selects_account(account))
}
