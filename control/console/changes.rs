//! `/console/changes`: who changed what.

use axum::Router;
use jiff::Timestamp;
use serde::Serialize;
use tandem_events::{Event, Kind};
use tandem_history::change::CHANGES;
use tandem_id::AccountName;
use tandem_runtime::app::App;
use tandem_store::resources::{self, Filter, Resource};
use tandem_store::{Cursor, TimeRange};

use super::list::{Change, List, Page};
use super::{ListQuery, QueryError, Scope, list_route};

pub(super) fn routes() -> Router<App> {
    list_route::of::<Changes>()
}

/// The list of changes.
struct Changes;

#[derive(Serialize)]
struct ChangeRow {
    id: String,
    at: Timestamp,
    /// The account whose data was changed. `None` for data of the server.
    account: Option<AccountName>,
    #[serde(flatten)]
    change: tandem_history::change::Change,
}

impl List for Changes {
    type Row = ChangeRow;
    const PATH: &'static str = "/console/changes";
    const ROWS: &'static str = "changes";
    const ROW: &'static str = "change";
    const KINDS: &'static [Kind] = &[Kind::Resource];

    fn key(row: &ChangeRow) -> String {
        row.id.clone()
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<ChangeRow>, QueryError> {
        let page = query.page()?;
        let filter = Filter { created: TimeRange { since: query.since, before: None }, ..Filter::default() };
        let mut accounts = scope.accounts(app, query.account.as_ref());
        if scope.is_operator() && query.account.is_none() {
            accounts.push(AccountName::server());
        }
        let store = &app.calls.services().store;
        let rows = resources::list_of(store, CHANGES, &accounts, &filter, &page).await?;
        let (rows, next) = query.cut(rows, |row| Cursor { at: row.created_at, id: row.id });
        let row = |row: Resource<_>| ChangeRow {
            id: format!("{:032x}", row.id),
            at: row.created_at,
            account: Some(row.account).filter(|name| !name.is_server()),
            change: row.details,
        };
        Ok(Page { next: Some(next), ..Page::whole(rows.into_iter().map(row).collect()) })
    }

    fn change(_app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<ChangeRow> {
        match event {
            Event::Resource(event) if scope.sees(&event.account) && query.selects_account(&event.account) => {
                Change::List
            }
            _ => Change::Nothing,
        }
    }
}
