//! Tests of the plans of queries: each list reads an index, and reads only the rows of its page. SQLite plans without
//! statistics about the tables. PostgreSQL's plans depend on the size of the tables, so its test fills them.

use sqlx::Row;
use sqlx::any::AnyArguments;
use tandem_id::AccountName;

use super::{call, time};
use crate::calls::{self, CallFilter};
use crate::recordings::{self, RecordingFilter};
use crate::select::Conditions;
use crate::testing::PostgresServer;
use crate::{Cursor, Page, Store, TimeRange, resources, server};

/// One list: a name, its table, the column of its order, its conditions, and the part of the plan of SQLite that must
/// be in it.
struct List {
    name: String,
    table: &'static str,
    order: &'static str,
    conditions: Box<dyn Fn() -> Conditions>,
    index: &'static str,
}

fn lists() -> Vec<List> {
    let since = TimeRange { since: Some(time(5)), before: None };
    let both = TimeRange { since: Some(time(5)), before: Some(time(9)) };
    let none = CallFilter::default;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let to = || Some("+15551230001".to_owned());
    let mut calls: Vec<(&str, CallFilter, &str)> = vec![
        ("all", none(), "calls_by_account (account=?"),
        ("to", CallFilter { to: to(), ..none() }, "calls_by_to (account=? AND to_address=?"),
        ("from", CallFilter { from: to(), ..none() }, "calls_by_from (account=? AND from_address=?"),
        ("parent", CallFilter { parent: Some(7), ..none() }, "calls_by_parent (account=? AND parent=?"),
        ("session", CallFilter { session: Some(7), ..none() }, "calls_by_session (session=? AND account=?"),
        ("one status", CallFilter { status: words(&["busy"]), ..none() }, "calls_by_status (account=? AND status=?"),
        (
            "several statuses",
            CallFilter { status: words(&["busy", "failed", "no-answer"]), ..none() },
            "calls_by_status (account=? AND status=?",
        ),
        ("live", CallFilter { live: true, ..none() }, "calls_live (account=?"),
        ("live calls to", CallFilter { live: true, to: to(), ..none() }, "calls_live (account=?"),
        (
            "from, to and status",
            CallFilter { from: to(), to: to(), status: words(&["busy", "failed"]), ..none() },
            "calls_by_from (account=? AND from_address=?",
        ),
        (
            "parent and status",
            CallFilter { parent: Some(7), status: words(&["completed"]), ..none() },
            "calls_by_parent (account=? AND parent=?",
        ),
        ("since", CallFilter { created: since, ..none() }, "calls_by_account (account=? AND created_at>?"),
        ("answered", CallFilter { answered: since, ..none() }, "calls_by_answer (account=? AND answered_at>?"),
        ("answered within", CallFilter { answered: both, ..none() }, "calls_by_answer (account=? AND answered_at>?"),
        ("ended", CallFilter { ended: since, ..none() }, "calls_by_end (account=? AND ended_at>?"),
        (
            "to and answered",
            CallFilter { to: to(), answered: both, ..none() },
            "calls_by_to (account=? AND to_address=? AND created_at>?",
        ),
        (
            "status and ended",
            CallFilter { status: words(&["completed"]), ended: both, ..none() },
            "calls_by_status (account=? AND status=? AND created_at>?",
        ),
        (
            "direction and dialect",
            CallFilter { direction: Some("inbound".into()), dialect: Some("twilio".into()), ..none() },
            "calls_by_direction (account=? AND direction=?",
        ),
    ];
    // The server lists the live legs from its memory, and reads only the others.
    let over = calls.iter().filter(|(_, filter, _)| !filter.live);
    let over: Vec<_> =
        over.map(|(name, filter, index)| (*name, CallFilter { over: true, ..filter.clone() }, *index)).collect();
    calls.extend(over);
    let none = RecordingFilter::default;
    let recordings: Vec<(&str, RecordingFilter, &str)> = vec![
        ("all", none(), "recordings_by_account (account=?"),
        ("leg", RecordingFilter { leg: Some(7), ..none() }, "recordings_by_leg (account=? AND leg=?"),
        ("session", RecordingFilter { session: Some(7), ..none() }, "recordings_by_session (session=? AND account=?"),
        (
            "status",
            RecordingFilter { status: words(&["completed"]), ..none() },
            "recordings_by_status (account=? AND status=?",
        ),
        ("created", RecordingFilter { created: both, ..none() }, "recordings_by_account (account=? AND started_at>?"),
        (
            "leg and status",
            RecordingFilter { leg: Some(7), status: words(&["completed"]), ..none() },
            "recordings_by_leg (account=? AND leg=?",
        ),
        (
            "status and ended",
            RecordingFilter { status: words(&["completed"]), ended: since, ..none() },
            "recordings_by_status (account=? AND status=? AND started_at>?",
        ),
    ];
    let none = resources::Filter::default;
    let resources: Vec<(&str, resources::Filter<'static>, &str)> = vec![
        ("all", none(), "resources_by_account (account=? AND kind=?"),
        (
            "parent",
            resources::Filter { parent: Some(7), ..none() },
            "resources_by_parent (parent=? AND account=? AND kind=?",
        ),
        (
            "parent and name",
            resources::Filter { parent: Some(7), name: Some("error"), ..none() },
            "resources_by_parent (parent=? AND account=? AND kind=?",
        ),
        (
            "name",
            resources::Filter { name: Some("error"), ..none() },
            "resources_by_name (account=? AND kind=? AND name=?",
        ),
        ("cause", resources::Filter { cause: Some("timeout"), ..none() }, "resources_by_cause (account=? AND cause=?"),
        (
            "created",
            resources::Filter { created: since, ..none() },
            "resources_by_account (account=? AND kind=? AND created_at>?",
        ),
    ];
    let mut lists = Vec::new();
    for (who, accounts) in [("an account", &["acme"][..]), ("an operator", &["acme", "other", ""])] {
        let accounts: Vec<_> = accounts.iter().map(|name| AccountName::new(*name)).collect();
        for (name, filter, index) in &calls {
            let (name, filter, accounts) = (format!("calls of {who}: {name}"), filter.clone(), accounts.clone());
            let order = filter.order_column();
            let conditions = Box::new(move || calls::conditions(&accounts, &filter));
            lists.push(List { name, table: "calls", order, conditions, index });
        }
        for (name, filter, index) in &recordings {
            let (name, filter, accounts) = (format!("recordings of {who}: {name}"), filter.clone(), accounts.clone());
            let conditions = Box::new(move || recordings::columns(Conditions::accounts(&accounts), &filter));
            lists.push(List { name, table: "recordings", order: "started_at", conditions, index });
        }
        for (name, filter, index) in &resources {
            let (name, filter, accounts) = (format!("resources of {who}: {name}"), filter.clone(), accounts.clone());
            let conditions = Box::new(move || resources::conditions(&accounts, "report", &filter));
            lists.push(List { name, table: "resources", order: "created_at", conditions, index });
        }
    }
    let domains = || {
        let mut domains = Conditions::account(&AccountName::new("acme"));
        domains.no_resource("sip_domains.id");
        domains
    };
    lists.push(List {
        name: "domains".into(),
        table: "sip_domains",
        order: "created_at",
        conditions: Box::new(domains),
        index: "sip_domains_by_account (account=?",
    });
    lists
}

fn pages() -> [(&'static str, Page); 3] {
    let cursor = Some(Cursor { at: time(7), id: 7 });
    [
        ("first page", Page::first(50)),
        ("next page", Page { after: cursor, ..Page::first(50) }),
        ("third page", Page { offset: 100, ..Page::first(50) }),
    ]
}

async fn plan(store: &Store, sql: &str, arguments: AnyArguments) -> String {
    let explain = if store.reads.is_sqlite() { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
    let rows = store.reads.rows(None, format!("{explain} {sql}"), arguments).await.unwrap();
    let line = |row: &sqlx::any::AnyRow| match store.reads.is_sqlite() {
        true => row.get::<String, _>("detail"),
        false => row.get::<String, _>(0),
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_of_sqlite_reads_an_index_in_the_order_of_the_list() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
    for list in lists() {
        for (name, page) in pages() {
            let (sql, arguments) = (list.conditions)().page_query(true, list.table, list.order, &page);
            let several = sql.contains("json_each");
            let plan = plan(&store, &sql, arguments).await;
            let name = format!("{}, {name}\n{sql}\n{plan}", list.name);
            assert!(plan.contains(&format!("INDEX {}", list.index)), "{name}");
            assert!(!plan.contains(&format!("SCAN {}", list.table)), "{name}");
            // A list of several accounts sorts the accounts, and the pages of the accounts, and nothing else.
            let sorts = plan.matches("TEMP B-TREE FOR ORDER BY").count();
            assert_eq!(sorts, if several { 2 } else { 0 }, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_query_of_sqlite_reads_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
    let queries = [
        ("SELECT * FROM calls WHERE ended_at IS NULL ORDER BY created_at, id LIMIT 1000", "calls_live"),
        ("SELECT * FROM recordings WHERE ended_at IS NULL ORDER BY started_at, id LIMIT 1000", "recordings_live"),
        ("SELECT * FROM calls WHERE id >= 'a' AND id < 'ag' ORDER BY id LIMIT 20", "sqlite_autoindex_calls_1"),
        ("SELECT * FROM resources WHERE kind = 'number' ORDER BY created_at, id", "resources_by_kind (kind=?)"),
        ("DELETE FROM resources WHERE parent = 'a'", "resources_by_parent (parent=?)"),
        ("SELECT * FROM events WHERE session = 'a' ORDER BY seq LIMIT 10000", "sqlite_autoindex_events_1 (session=?)"),
        ("SELECT * FROM deliveries WHERE session = 'a' ORDER BY seq LIMIT 1000", "deliveries_by_session (session=?)"),
        (
            "SELECT * FROM deliveries WHERE state = 'pending' AND queue = 'a' ORDER BY seq LIMIT 10",
            "deliveries_by_queue (state=? AND queue=?)",
        ),
        ("SELECT COALESCE(MAX(seq), 0) FROM deliveries", "deliveries_by_seq"),
        ("SELECT session FROM calls ORDER BY session DESC LIMIT 1 OFFSET 19999", "COVERING INDEX calls_by_session"),
        ("SELECT MIN(account) FROM calls WHERE account > 'a'", "calls_by_"),
        ("SELECT MIN(created_at) FROM calls WHERE account = 'a'", "calls_by_account (account=?)"),
        ("SELECT MIN(created_at) FROM calls WHERE ended_at IS NULL", "calls_live"),
        (
            "SELECT COUNT(*) FROM recordings WHERE account = 'a' AND status = 'completed'",
            "COVERING INDEX recordings_by_status",
        ),
    ];
    for (sql, index) in queries {
        let plan = plan(&store, sql, AnyArguments::default()).await;
        // The live calls of all accounts are few, so they may be sorted.
        let sorts = plan.contains("TEMP B-TREE") && index != "calls_live";
        assert!(plan.contains(index) && !sorts, "{sql}\n{plan}");
    }
    for sql in server::PRUNINGS {
        let sql = sql.replace("$1", "5").replace("$2", "1000");
        let plan = plan(&store, &sql, AnyArguments::default()).await;
        assert!(!plan.contains("SCAN"), "{sql}\n{plan}");
    }
}

/// PostgreSQL would scan a table of a few rows, so the test disables this plan.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_of_postgresql_can_read_an_index_in_the_order_of_the_list() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::open(&server.database("plans").await).await.unwrap();
    calls::upsert(&store, call(1)).await.unwrap();
    store.flush().await.unwrap();
    for setting in ["enable_seqscan", "enable_sort", "enable_incremental_sort", "enable_bitmapscan"] {
        sqlx::query(crate::assembled(format!("ALTER DATABASE plans SET {setting} = off")))
            .execute(&store.pool)
            .await
            .unwrap();
    }
    store.close().await;
    let store = Store::open(&server.database_again("plans")).await.unwrap();
    for list in lists() {
        for (name, page) in pages() {
            let (sql, arguments) = (list.conditions)().page_query(false, list.table, list.order, &page);
            let several = sql.contains("LATERAL");
            let plan = plan(&store, &sql, arguments).await;
            let name = format!("{}, {name}\n{sql}\n{plan}", list.name);
            // PostgreSQL's choice between several indexes depends on its statistics.
            assert!(plan.contains("Index Scan") || plan.contains("Index Only Scan"), "{name}");
            assert!(!plan.contains(&format!("Seq Scan on {}", list.table)), "{name}");
            assert_eq!(plan.matches("Sort Key").count(), if several { 2 } else { 0 }, "{name}");
        }
    }
    store.close().await;
}
