//! `/console/phones`: the phones that may register, their registrations, and the web pages that are connected as phones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use jiff::Timestamp;
use serde::Serialize;
use tandem_events::{Event, Kind, ResourceKind};
use tandem_history::refusals::LastRefusal;
use tandem_host::clock;
use tandem_id::AccountName;
use tandem_runtime::app::App;
use tandem_runtime::services::Services;
use tandem_store::bindings::{self, BindingRow};

use super::list::{Change, Held, List, Map, Page};
use super::{ListQuery, QueryError, Scope, list_route};

pub(super) fn routes() -> Router<App> {
    list_route::of::<Phones>()
}

/// The list of phones.
pub(super) struct Phones;

/// A SIP user. A user may have several phones.
#[derive(Serialize)]
pub(super) struct PhoneRow {
    account: AccountName,
    username: String,
    /// The SIP domain of the user, if the account has created a domain.
    domain: Option<String>,
    /// The SIP URI with which other users call this user.
    uri: String,
    registered: bool,
    contacts: Vec<Contact>,
    /// The web pages that are connected as this user, each with the name of its SDK.
    pages: Vec<String>,
    /// The last refused registration or refused call since the start of the server.
    last_refusal: Option<LastRefusal>,
}

/// One registration of the user.
#[derive(Serialize)]
struct Contact {
    contact: String,
    source: SocketAddr,
    /// The transport: `udp`, `tcp`, `tls`, `ws` or `wss`.
    transport: String,
    user_agent: Option<String>,
    expires_at: Timestamp,
}

impl List for Phones {
    type Row = PhoneRow;
    const PATH: &'static str = "/console/phones";
    const ROWS: &'static str = "phones";
    const ROW: &'static str = "phone";
    // A problem may be a refusal of a phone.
    const KINDS: &'static [Kind] = &[Kind::Phone, Kind::Resource, Kind::Problem];
    const HELD: Held = Held::InParts;

    fn key(row: &PhoneRow) -> String {
        let domain = row.domain.as_ref().map(|domain| format!("@{domain}")).unwrap_or_default();
        format!("{} {}{domain}", row.account, row.username)
    }

    fn has_part(row: &PhoneRow) -> bool {
        row.last_refusal.is_some()
    }

    fn join(row: &mut Map, mut part: Map) {
        let time = |row: &Map| Some(row.get("last_refusal")?.get("at")?.as_str()?.to_owned());
        if time(&part) > time(row) {
            row.extend(part.remove_entry("last_refusal"));
        }
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<PhoneRow>, QueryError> {
        let services = app.calls.services();
        let now = clock::time();
        let bound = bindings::list(&services.store, now).await?;
        let routing = services.routing.load_full();
        let phones = routing.phones();
        let seen = |account: &AccountName| scope.sees(account) && query.selects_account(account);
        let mut pages = pages(services);
        let mut rows: Vec<_> = phones
            .users()
            .into_iter()
            .filter(|user| seen(&user.account))
            .map(|user| {
                let of_it = |row: &&BindingRow| {
                    row.account == user.account
                        && *row.username == *user.name
                        && row.details.domain.as_deref() == user.domain.as_deref()
                };
                let contacts: Vec<_> = bound.iter().filter(of_it).map(contact).collect();
                let pages = pages.remove(&(user.account.clone(), Arc::clone(&user.name))).unwrap_or_default();
                PhoneRow {
                    account: user.account.clone(),
                    username: user.name.to_string(),
                    domain: user.domain.as_deref().map(str::to_owned),
                    uri: phones.uri(&user),
                    registered: !contacts.is_empty() || !pages.is_empty(),
                    pages,
                    last_refusal: app.calls.refusals().last(&user.account, &user.name),
                    contacts,
                }
            })
            .collect();
        // A page needs no user of SIP.
        let others = pages.into_iter().filter(|((account, _), _)| seen(account));
        rows.extend(others.map(|((account, name), pages)| PhoneRow {
            account,
            uri: format!("client:{name}"),
            username: name.to_string(),
            domain: None,
            registered: true,
            contacts: Vec::new(),
            pages,
            last_refusal: None,
        }));
        rows.sort_by(|a, b| (!a.registered, &a.account, &a.username).cmp(&(!b.registered, &b.account, &b.username)));
        Ok(Page::whole(rows))
    }

    fn change(_app: &App, scope: &Scope, _query: &ListQuery, event: &Event) -> Change<PhoneRow> {
        if may_change(scope, event) { Change::List } else { Change::Nothing }
    }
}

/// Returns the web pages that are connected, by account and user.
fn pages(services: &Services) -> HashMap<(AccountName, Arc<str>), Vec<String>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for (user, contact) in services.clients.pages() {
        let page = services.pages.get(contact);
        found.entry((user.account, user.name)).or_default().extend(page.map(|page| page.sdk().to_owned()));
    }
    found
}

/// Whether an event may change the visible phones.
fn may_change(scope: &Scope, event: &Event) -> bool {
    match event {
        Event::Phone(phone) => scope.sees(&phone.account),
        Event::Problem(problem) => problem.report.details.request.is_some() && scope.sees(&problem.report.account),
        Event::Resource(change) => matches!(change.kind, ResourceKind::Configuration | ResourceKind::SipUsers),
        _ => false,
    }
}

fn contact(row: &BindingRow) -> Contact {
    let details = &row.details;
    Contact {
        contact: details.contact.clone(),
        source: details.source,
        transport: details.transport.clone(),
        user_agent: details.user_agent.clone(),
        expires_at: row.expires_at,
    }
}

#[cfg(test)]
mod tests {
    use tandem_events::ProblemEvent;
    use tandem_history::report::{Report, SipRequest};
    use tandem_store::resources::Resource;

    use super::*;
    use crate::testing::scope;

    #[test]
    fn phones_are_read_again_after_a_refusal_that_the_client_may_see() {
        let problem = |account: &str, request: Option<SipRequest>| {
            let (request, message) = (request.map(Box::new), String::new());
            let report = Report { cause: None, code: None, message, hint: None, call: None, session: None, request };
            Event::Problem(ProblemEvent {
                leg: None,
                report: Resource::new(&AccountName::new(account), "warning", report),
            })
        };
        let request = || SipRequest {
            method: "REGISTER".into(),
            from: "100".into(),
            to: "100".into(),
            username: "100".into(),
            source: "127.0.0.1:5060".into(),
            transport: "UDP".into(),
            sip_call_id: "a".into(),
        };
        let refused = |account: &str| problem(account, Some(request()));
        let own = scope("acme", false);
        assert!(may_change(&own, &refused("acme")) && !may_change(&own, &problem("acme", None)));
        assert!(!may_change(&own, &refused("other")) && !may_change(&own, &refused("")));
        assert!(may_change(&scope("acme", true), &refused("other")));
    }
}
