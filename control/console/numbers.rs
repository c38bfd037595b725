//! `/console/numbers`: all numbers, and the destination of the calls to each number. A number that an application has taken with
//! its provider's API can get another URL or be released here.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tandem_events::{Event, Kind, ResourceEvent, ResourceKind};
use tandem_id::AccountName;
use tandem_operations::numbers::{self as operations, NumberRow as Held};
use tandem_routing::Routing;
use tandem_routing::inventory::{Number, Voice};
use tandem_runtime::app::App;
use tandem_settings::{Bridge, NumberConfig};

use url::Url;

use super::list::{Change, List, Page};
use super::{ListQuery, QueryError, Scope, list_route};
use crate::access::Itself;
use crate::session::refused;

pub(super) fn routes() -> Router<App> {
    list_route::of::<Numbers>().route("/console/numbers/{account}/{number}", put(change).delete(release))
}

/// The list of numbers.
struct Numbers;

#[derive(Serialize)]
struct NumberRow {
    /// The number in the dialled form. If `*` is at the end, the row stands for all numbers with this prefix.
    number: String,
    account: AccountName,
    provider: Option<String>,
    friendly_name: Option<String>,
    /// The source of the number: `file` (the configuration) or `api`.
    source: &'static str,
    goes_to: GoesTo,
    status_callback: Option<String>,
}

/// The destination of a number's calls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct GoesTo {
    /// The kind of the destination: `url`, `application`, `document`, `agent`, `bridge`, `trunk`, `phone` or `nowhere`.
    pub(super) kind: &'static str,
    /// The destination as text.
    pub(super) text: String,
    url: Option<String>,
    method: Option<&'static str>,
    application: Option<String>,
}

impl GoesTo {
    pub(super) fn plain(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), url: None, method: None, application: None }
    }

    /// The destination is an HTTP request, of an application if `application` is given.
    pub(super) fn request(method: &'static str, url: &str, application: Option<&str>) -> Self {
        let (kind, text) = match application {
            Some(id) => ("application", format!("application {id}: {method} {url}")),
            None => ("url", format!("{method} {url}")),
        };
        let application = application.map(str::to_owned);
        Self { url: Some(url.to_owned()), method: Some(method), application, ..Self::plain(kind, text) }
    }

    fn nowhere() -> Self {
        Self::plain("nowhere", "nowhere: callers get 404")
    }

    fn voice(voice: &Voice) -> Option<Self> {
        let url = tandem_http::without_credentials(voice.url.as_deref()?);
        let method = voice.method.name();
        Some(Self { url: Some(url.clone()), method: Some(method), ..Self::plain("url", format!("{method} {url}")) })
    }

    fn application(routing: &Routing, account: &AccountName, dialect: &str, id: &str) -> Self {
        let voice = routing.application(account, dialect, id);
        match voice.as_ref().and_then(Self::voice) {
            Some(to) => Self {
                kind: "application",
                text: format!("application {id}: {}", to.text),
                application: Some(id.to_owned()),
                ..to
            },
            None => Self {
                application: Some(id.to_owned()),
                ..Self::plain("nowhere", format!("nowhere: application {id} does not exist or has no URL"))
            },
        }
    }

    fn configured(routing: &Routing, number: &NumberConfig) -> Self {
        if let Some(id) = &number.application {
            let provider = routing.configured_application(id);
            let provider = provider.map(|application| &*application.provider).or(number.provider.as_deref());
            return Self::application(routing, &number.account, provider.unwrap_or_default(), id);
        }
        if let Some(to) = Self::voice(&Voice::from(number)) {
            return to;
        }
        if let Some(agent) = &number.agent {
            return Self::plain("agent", format!("agent {agent}"));
        }
        match &number.bridge {
            _ if number.twiml.is_some() => Self::plain("document", "a document in the configuration"),
            Some(Bridge::Uri(uri)) => Self::plain("bridge", format!("bridge {uri}")),
            Some(Bridge::Trunks(names)) => Self::plain("bridge", format!("bridge trunk {}", names.join(", then "))),
            Some(Bridge::Prefixes) => Self::plain("bridge", "bridge: the trunk whose prefixes match"),
            None => Self::nowhere(),
        }
    }

    /// Returns the destination of a number in the account's inventory. If the number has no destination in the
    /// inventory, `file` decides.
    fn of_number(routing: &Routing, account: &AccountName, held: &Number, file: Option<&NumberConfig>) -> Self {
        if let Some(trunk) = &held.trunk {
            return Self::plain("trunk", format!("SIP trunk {trunk}"));
        }
        if let Some(id) = &held.application {
            return Self::application(routing, account, &held.dialect, id);
        }
        let behind = || file.map(|file| Self::configured(routing, file));
        Self::voice(&held.voice).or_else(behind).unwrap_or_else(Self::nowhere)
    }
}

/// A number that an application has taken, and what its operations need.
struct Taken {
    app: App,
    routing: Arc<Routing>,
    account: AccountName,
    held: Held,
}

impl Taken {
    /// Finds the number. A number of the configuration file is changed only there.
    fn find(app: App, scope: &Scope, account: &str, number: &str) -> Result<Self, Box<Response>> {
        let (account, routing) = (AccountName::new(account), app.calls.services().routing.load_full());
        if !scope.sees(&account) {
            return Err(Box::new(refused(StatusCode::NOT_FOUND, "there is no such number")));
        }
        if routing.configured_number(number).is_some() {
            return Err(Box::new(refused(
                StatusCode::CONFLICT,
                "the number is an entry of the configuration; change the entry",
            )));
        }
        let held = routing.inventory().numbers.all(&account).into_iter().find(|held| held.name == number);
        let held = held.ok_or_else(|| Box::new(refused(StatusCode::NOT_FOUND, "there is no such number")))?;
        Ok(Self { app, routing, account, held })
    }

    fn numbers(&self) -> operations::Numbers<'_> {
        let services = self.app.calls.services();
        let dialect = services.dialects.get(&self.held.details.dialect).map_or("", |dialect| dialect.name());
        operations::Numbers::new(Arc::clone(&self.routing), &services.store, &self.app.accounts, &self.account, dialect)
    }
}

#[derive(Deserialize)]
struct ChangedNumber {
    /// The URL of the document for each call.
    url: String,
}

/// `PUT /console/numbers/{account}/{number}`: changes a number that an application has taken.
async fn change(
    State(app): State<App>,
    Itself(scope): Itself,
    Path((account, number)): Path<(String, String)>,
    Json(changed): Json<ChangedNumber>,
) -> Response {
    let taken = match Taken::find(app, &scope, &account, &number) {
        Ok(taken) => taken,
        Err(response) => return *response,
    };
    if !Url::parse(&changed.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        return refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the URL must begin with http:// or https:// and have a host",
        );
    }
    let mut row = (*taken.held).clone();
    (row.details.application, row.details.trunk) = (None, None);
    row.details.voice.url = Some(changed.url.as_str().into());
    answer(taken.numbers().keep(row).await.map(drop))
}

/// `DELETE /console/numbers/{account}/{number}`: releases a number that an application has taken.
async fn release(
    State(app): State<App>,
    Itself(scope): Itself,
    Path((account, number)): Path<(String, String)>,
) -> Response {
    match Taken::find(app, &scope, &account, &number) {
        Ok(taken) => answer(taken.numbers().release(&taken.held).await),
        Err(response) => *response,
    }
}

fn answer(done: Result<(), operations::NumberError>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(operations::NumberError::Store(error)) => refused(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        Err(why) => refused(StatusCode::CONFLICT, &why.to_string()),
    }
}

impl List for Numbers {
    type Row = NumberRow;
    const PATH: &'static str = "/console/numbers";
    const ROWS: &'static str = "numbers";
    const ROW: &'static str = "number";
    const KINDS: &'static [Kind] = &[Kind::Resource];

    fn key(row: &NumberRow) -> String {
        format!("{} {}", row.account, row.number)
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<NumberRow>, QueryError> {
        Ok(Page::whole(rows(app, scope, query)))
    }

    fn change(_app: &App, scope: &Scope, _query: &ListQuery, event: &Event) -> Change<NumberRow> {
        match event {
            Event::Resource(event) if may_change(scope, event) => Change::List,
            _ => Change::Nothing,
        }
    }
}

/// Whether a change of resources may change the visible numbers.
fn may_change(scope: &Scope, ResourceEvent { account, kind }: &ResourceEvent) -> bool {
    let has_numbers = match kind {
        // A number may have an application or a trunk.
        ResourceKind::Configuration | ResourceKind::Numbers | ResourceKind::Applications | ResourceKind::SipUsers => {
            true
        }
        ResourceKind::VerifiedCallers | ResourceKind::OutboundProfiles => false,
    };
    has_numbers && (account.is_server() || scope.sees(account))
}

/// Returns the provider of a number of the configuration. A number with an application has the provider of the
/// application.
fn provider(routing: &Routing, number: &NumberConfig) -> Option<String> {
    let application = number.application.as_ref();
    let application =
        application.and_then(|id| routing.applications().iter().find(|application| application.id == *id));
    application.map(|application| &application.provider).or(number.provider.as_ref()).map(ToString::to_string)
}

fn rows(app: &App, scope: &Scope, query: &ListQuery) -> Vec<NumberRow> {
    let routing = app.calls.services().routing.load_full();
    let accounts = scope.accounts(app, query.account.as_ref());
    let mut rows = Vec::new();
    let mut known = HashSet::new();
    for account in &accounts {
        for held in routing.inventory().numbers.all(account) {
            let file = routing.configured_number(&held.name);
            let number = &held.details;
            let name = Some(number.friendly_name.clone()).filter(|name| !name.is_empty());
            let status_callback = number.voice.status_callback.as_deref();
            rows.push(NumberRow {
                number: held.name.clone(),
                account: account.clone(),
                provider: Some(number.dialect.clone()),
                friendly_name: name,
                source: if file.is_some() { "file" } else { "api" },
                goes_to: GoesTo::of_number(&routing, account, number, file),
                status_callback: status_callback.map(tandem_http::without_credentials),
            });
            known.insert(held.name.clone());
        }
    }
    let configured = accounts.iter().flat_map(|account| routing.configured_of(account));
    rows.extend(configured.filter(|number| !known.contains(&number.number.to_string())).map(|number| NumberRow {
        number: number.number.to_string(),
        account: number.account.clone(),
        provider: provider(&routing, number),
        friendly_name: None,
        source: "file",
        goes_to: GoesTo::configured(&routing, number),
        status_callback: number.status_callback.as_deref().map(tandem_http::without_credentials),
    }));
    rows.sort_by(|a, b| (&a.account, &a.number).cmp(&(&b.account, &b.number)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scope;

    #[test]
    fn numbers_are_read_again_after_a_change_of_an_own_resource_or_of_all_accounts() {
        let changed = |scope: &Scope, account: &str, kind| {
            may_change(scope, &ResourceEvent { account: AccountName::new(account), kind })
        };
        let own = scope("acme", false);
        assert!(changed(&own, "acme", ResourceKind::Numbers) && changed(&own, "", ResourceKind::Configuration));
        assert!(
            !changed(&own, "other", ResourceKind::Numbers) && !changed(&own, "acme", ResourceKind::VerifiedCallers)
        );
        assert!(changed(&scope("acme", true), "other", ResourceKind::Applications));
    }
}
