//! `/console/phones`: the phones that may register, and their registrations.

use std::net::SocketAddr;

use axum::Router;
use jiff::Timestamp;
use serde::Serialize;
use tandem_events::{Event, Kind, ResourceKind};
use tandem_history::refusals::LastRefusal;
use tandem_host::clock;
use tandem_runtime::app::App;
use tandem_store::bindings::{self, BindingRow};

use super::list::{Change, List, Page};
use super::{ListQuery, QueryError, Scope, list_route};

pub(super) fn routes() -> Router<App> {
    list_route::of::<Phones>()
}

/// The list of phones.
struct Phones;

/// A SIP user. A user may have several phones.
#[derive(Serialize)]
struct PhoneRow {
    account: String,
    username: String,
    /// The SIP domain of the user, if the account has created a domain.
    domain: Option<String>,
    /// The SIP URI with which other users call this user.
    uri: String,
    registered: bool,
    contacts: Vec<Contact>,
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

    fn key(row: &PhoneRow) -> String {
        format!("{} {} {:?}", row.account, row.username, row.domain)
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<PhoneRow>, QueryError> {
        let services = app.calls.services();
        let now = clock::time();
        let bound = bindings::list(&services.store, now).await?;
        let routing = services.routing.load_full();
        let phones = routing.phones();
        let seen = |account: &str| scope.sees(account) && query.selects_account(account);
        let mut rows: Vec<_> = phones
            .users()
            .into_iter()
            .filter(|aor| seen(&aor.account))
            .map(|aor| {
                let of_it = |row: &&BindingRow| {
                    *row.account == *aor.account
                        && *row.username == *aor.username
                        && row.details.domain.as_deref() == aor.domain.as_deref()
                };
                let contacts: Vec<_> = bound.iter().filter(of_it).map(contact).collect();
                PhoneRow {
                    account: aor.account.to_string(),
                    username: aor.username.to_string(),
                    domain: aor.domain.as_deref().map(str::to_owned),
                    uri: phones.uri(&aor),
                    registered: !contacts.is_empty(),
                    last_refusal: app.calls.refusals().last(&aor.account, &aor.username),
                    contacts,
                }
            })
            .collect();
        rows.sort_by(|a, b| (!a.registered, &a.account, &a.username).cmp(&(!b.registered, &b.account, &b.username)));
        Ok(Page::whole(rows))
    }

    fn change(_app: &App, scope: &Scope, _query: &ListQuery, event: &Event) -> Change<PhoneRow> {
        let changes = match event {
            Event::Phone(phone) => scope.sees(&phone.account),
            Event::Problem(problem) => problem.report.details.request.is_some(),
            Event::Resource(change) => {
                matches!(change.kind, ResourceKind::Configuration | ResourceKind::SipUsers)
            }
            _ => false,
        };
        if changes { Change::List } else { Change::Nothing }
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
