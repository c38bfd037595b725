//! `/console/phones`: the phones that may register, and their registrations.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;
use tandem_history::refusals::LastRefusal;
use tandem_host::clock;
use tandem_runtime::app::App;
use tandem_store::bindings::{self, BindingRow};

use super::{ListQuery, QueryError, Scope, follow, json};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/console/phones", get(list))
}

#[derive(Serialize)]
struct Phones {
    phones: Vec<PhoneRow>,
}

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

async fn list(State(app): State<App>, headers: HeaderMap, Query(query): Query<ListQuery>) -> Response {
    let scope = match Scope::of_request(&app, &headers) {
        Ok(scope) => scope,
        Err(denied) => return *denied,
    };
    if query.follow {
        let follower = scope.clone();
        let list = move |app: App| {
            let (scope, query) = (scope.clone(), query.clone());
            async move { Ok(page(&app, &scope, &query).await?.phones) }
        };
        let name = |row: &PhoneRow| format!("{} {} {:?}", row.account, row.username, row.domain);
        return follow::rows(app, &follower, "phone", follow::unknown, name, list);
    }
    match page(&app, &scope, &query).await {
        Ok(page) => json(&page),
        Err(wrong) => wrong.into_response(),
    }
}

async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Phones, QueryError> {
    let services = app.calls.services();
    let now = clock::time();
    let bound = bindings::list(&services.store, now).await?;
    let routing = services.routing.load_full();
    let phones = routing.phones();
    let seen = |account: &str| scope.sees(account) && query.account.as_deref().is_none_or(|one| one == account);
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
    Ok(Phones { phones: rows })
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
