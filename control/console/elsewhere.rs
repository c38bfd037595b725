//! The rows of all nodes of a cluster. A row that is in the memory of another node comes from this node by a question. All
//! nodes are asked at the same time. The answer names the nodes that do not answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tandem_cluster::{ANSWER_TIME, Cluster, MAX_MESSAGE, Question};
use tandem_id::{AccountName, CallId};
use tandem_runtime::app::App;
use tandem_settings::ConsoleRole;
use tandem_store::nodes::NodeRow;

use super::conferences::Conferences;
use super::list::{Held, List, Map, Page, Row};
use super::live::LiveCalls;
use super::phones::Phones;
use super::queues::Queues;
use super::trunks::Trunks;
use super::{ListQuery, QueryError, Scope};

/// Maximum time for the rows of a node. The calls of the node may take a second to reply to it.
pub(super) const ROWS_TIME: Duration = ANSWER_TIME.saturating_mul(2);

/// Maximum number of octets of the rows in one answer, apart from a last row. Further rows come with the next question.
const MAX_ROWS: usize = MAX_MESSAGE / 2;

/// Maximum number of questions for the rows of one node.
const MAX_QUESTIONS: usize = 200;

/// A client, for another node.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Viewer {
    account: AccountName,
    all_accounts: bool,
    role: ConsoleRole,
    name: Arc<str>,
}

impl Viewer {
    pub(super) fn of(scope: &Scope) -> Self {
        let Scope { account, all_accounts, role, name } = scope;
        Self { account: account.name.clone(), all_accounts: *all_accounts, role: *role, name: Arc::clone(name) }
    }

    /// Returns the scope of the client at this node. `None` if this node does not know the account.
    pub(super) fn scope(self, app: &App) -> Option<Scope> {
        let account = app.accounts.by_name(&self.account)?;
        Some(Scope::signed_in(account, self.all_accounts, self.role, self.name))
    }
}

/// Asks for the rows that a node has.
#[derive(Clone, Serialize, Deserialize)]
struct RowsOf {
    /// The path of the list.
    list: String,
    viewer: Viewer,
    query: ListQuery,
    /// If set, only the rows of these calls.
    calls: Option<BTreeSet<CallId>>,
    /// The last key of the answer before.
    after: Option<String>,
}

impl RowsOf {
    fn all<L: List>(scope: &Scope, query: &ListQuery) -> Self {
        let (list, viewer, query) = (L::PATH.to_owned(), Viewer::of(scope), query.clone());
        Self { list, viewer, query, calls: None, after: None }
    }
}

/// Rows, in the order of their keys.
#[derive(Default, Serialize, Deserialize)]
struct Rows {
    rows: Vec<Row>,
    is_last: bool,
    /// Whether rows are missing, because calls have not replied in time.
    is_partial: bool,
}

impl Question for RowsOf {
    const NAME: &'static str = "rows";
    /// `None` if the node cannot read its list.
    type Answer = Option<Rows>;
}

/// Answers the questions of other nodes.
pub(super) fn answer(app: &App) {
    let own = app.clone();
    app.calls.services().cluster.answer(move |asked: RowsOf| {
        let app = own.clone();
        async move {
            let scope = asked.viewer.clone().scope(&app)?;
            match &*asked.list {
                LiveCalls::PATH => own_rows::<LiveCalls>(&app, &scope, asked).await,
                Conferences::PATH => own_rows::<Conferences>(&app, &scope, asked).await,
                Queues::PATH => own_rows::<Queues>(&app, &scope, asked).await,
                Phones::PATH => own_rows::<Phones>(&app, &scope, asked).await,
                Trunks::PATH => own_rows::<Trunks>(&app, &scope, asked).await,
                _ => None,
            }
        }
    });
}

/// Returns the rows of this node for another node.
async fn own_rows<L: List>(app: &App, scope: &Scope, asked: RowsOf) -> Option<Rows> {
    let page = match &asked.calls {
        Some(calls) => L::rows_of(app, scope, &asked.query, calls).await,
        None => L::page(app, scope, &asked.query).await.ok()?,
    };
    let rows = page.rows.iter().filter(|row| L::has_part(row)).filter_map(Row::of::<L>).collect();
    Some(cut(rows, asked.after.as_deref(), page.is_partial))
}

/// Returns the rows after this key that fit into one answer.
fn cut(mut rows: Vec<Row>, after: Option<&str>, is_partial: bool) -> Rows {
    rows.retain(|row| after.is_none_or(|after| *row.key > *after));
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    let mut octets = 0;
    let whole = rows.len();
    let fits = |row: &&Row| {
        let fits = octets < MAX_ROWS;
        octets += row.json.get().len();
        fits
    };
    let count = rows.iter().take_while(fits).count();
    rows.truncate(count);
    Rows { rows, is_last: count == whole, is_partial }
}

/// Returns a page of a list with the rows of all nodes.
pub(super) async fn page<L: List>(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<Row>, QueryError> {
    let cluster = &app.calls.services().cluster;
    if L::HELD == Held::ByAll || !cluster.is_on() {
        return Ok(L::page(app, scope, query).await?.with(|rows| rows.iter().filter_map(Row::of::<L>).collect()));
    }
    let own = L::page(app, scope, query).await?;
    let asked = RowsOf::all::<L>(scope, query);
    let answers = match &own.others {
        Some(calls) => ask_owners(cluster, &asked, calls).await,
        None => join_all(cluster.others().iter().map(|node| ask(cluster, node, asked.clone()))).await,
    };
    Ok(joined::<L>(own, answers))
}

/// Returns the rows of these calls, of all nodes.
pub(super) async fn rows_of<L: List>(
    app: &App,
    scope: &Scope,
    query: &ListQuery,
    calls: &BTreeSet<CallId>,
) -> Page<Row> {
    let cluster = &app.calls.services().cluster;
    let (others, own): (BTreeSet<_>, BTreeSet<_>) =
        calls.iter().copied().partition(|call| cluster.other_owner_of(call.0).is_some());
    let own = L::rows_of(app, scope, query, &own);
    if others.is_empty() {
        return own.await.with(|rows| rows.iter().filter_map(Row::of::<L>).collect());
    }
    let asked = RowsOf::all::<L>(scope, query);
    let (own, answers) = tokio::join!(own, ask_owners(cluster, &asked, &others));
    joined::<L>(own, answers)
}

/// The rows of a node, or the name of the node if it has not answered.
type Answered = Result<Rows, String>;

/// Asks the owners of these calls.
async fn ask_owners(cluster: &Cluster, asked: &RowsOf, calls: &BTreeSet<CallId>) -> Vec<Answered> {
    let mut by_node: BTreeMap<i64, (NodeRow, BTreeSet<CallId>)> = BTreeMap::new();
    for call in calls {
        if let Some(node) = cluster.other_owner_of(call.0) {
            by_node.entry(node.epoch).or_insert_with(|| (node, BTreeSet::new())).1.insert(*call);
        }
    }
    let asking = by_node
        .values()
        .map(|(node, calls)| ask(cluster, node, RowsOf { calls: Some(calls.clone()), ..asked.clone() }));
    join_all(asking).await
}

/// Asks one node until all its rows have come.
async fn ask(cluster: &Cluster, node: &NodeRow, mut asked: RowsOf) -> Answered {
    let mut all = Rows::default();
    for _ in 0..MAX_QUESTIONS {
        match cluster.ask_within(node, &asked, ROWS_TIME).await {
            Ok(Some(Rows { rows, is_last, is_partial })) => {
                all.rows.extend(rows);
                all.is_partial |= is_partial;
                asked.after = all.rows.last().map(|row| row.key.clone());
                if is_last {
                    return Ok(all);
                }
            }
            Ok(None) => return Err(node.name.clone()),
            Err(error) => {
                tracing::debug!(%error, node = node.name, list = asked.list, "no rows");
                return Err(node.name.clone());
            }
        }
    }
    Err(node.name.clone())
}

/// Joins the rows of this node and the answers of others.
fn joined<L: List>(own: Page<L::Row>, answers: Vec<Answered>) -> Page<Row> {
    let mut page = own.with(|rows| rows.iter().filter_map(Row::of::<L>).collect());
    let mut places: HashMap<String, usize> =
        page.rows.iter().enumerate().map(|(place, row)| (row.key.clone(), place)).collect();
    for answer in answers {
        let rows = match answer {
            Ok(Rows { rows, is_partial, .. }) => {
                page.is_partial |= is_partial;
                rows
            }
            Err(node) => {
                page.away.push(node);
                continue;
            }
        };
        for row in rows {
            match places.get(&row.key).and_then(|place| page.rows.get_mut(*place)) {
                Some(own) => join::<L>(own, &row),
                None => {
                    places.insert(row.key.clone(), page.rows.len());
                    page.rows.push(row);
                }
            }
        }
    }
    if L::HELD == Held::ByOwner {
        // The ids begin with their time.
        page.rows.sort_by(|one, other| other.key.cmp(&one.key));
    }
    page
}

fn join<L: List>(own: &mut Row, part: &Row) {
    let read = |row: &Row| serde_json::from_str::<Map>(row.json.get()).ok();
    if let Some((mut whole, part)) = read(own).zip(read(part)) {
        L::join(&mut whole, part);
        if let Ok(json) = serde_json::value::to_raw_value(&whole) {
            own.json = json;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn row(key: &str, octets: usize) -> Row {
        let json = serde_json::value::to_raw_value(&"x".repeat(octets)).unwrap();
        Row { key: key.to_owned(), calls: Vec::new(), json }
    }

    #[test]
    fn rows_that_do_not_fit_into_one_answer_come_with_the_next_questions() {
        let all = || vec![row("c", 10), row("a", MAX_ROWS), row("b", 10), row("d", MAX_ROWS)];
        let mut after: Option<String> = None;
        let mut answers = Vec::new();
        loop {
            let part = cut(all(), after.as_deref(), false);
            after = part.rows.last().map(|row| row.key.clone());
            answers.push(part.rows.iter().map(|row| row.key.clone()).collect::<String>());
            if part.is_last {
                break;
            }
        }
        assert_eq!(answers, ["a", "bcd"]);
        assert!(cut(Vec::new(), None, false).is_last);
    }

    #[test]
    fn the_parts_of_a_row_are_joined_and_a_node_without_an_answer_is_named() {
        let part = |callers: &[&str]| {
            let json = serde_json::json!({ "name": "sales", "callers": callers, "agents": [] });
            Row { key: "1".into(), calls: Vec::new(), json: serde_json::value::to_raw_value(&json).unwrap() }
        };
        let answer = |rows| Ok(Rows { rows, is_last: true, is_partial: false });
        let page = joined::<Queues>(
            Page::whole(Vec::new()),
            vec![answer(vec![part(&["x"])]), Err("c".to_owned()), answer(vec![part(&["y", "z"])])],
        );
        let rows: Vec<Value> = page.rows.iter().map(|row| serde_json::from_str(row.json.get()).unwrap()).collect();
        assert_eq!(rows, [serde_json::json!({ "name": "sales", "callers": ["x", "y", "z"], "agents": [] })]);
        assert_eq!(page.away, ["c"]);
    }
}
