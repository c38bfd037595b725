//! Tests of the limits of reads: a slow list takes nothing from others, and ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::Arguments as _;
use sqlx::any::AnyArguments;
use tandem_causes::cause::Cause;
use tandem_id::AccountName;

use super::{call, time};
use crate::calls::{self, CallFilter};
use crate::read::{READ_CONNECTIONS, READ_TIME};
use crate::testing::PostgresServer;
use crate::{Page, Store, StoreError, StoreFailed, server};

async fn sqlite() -> (Store, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tandem.db", directory.path().display());
    (Store::open(&url).await.unwrap(), directory)
}

/// A query that reads for ever.
fn endless(store: &Store) -> String {
    match store.reads.is_sqlite() {
        true => "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n".to_owned(),
        false => "SELECT CAST(pg_sleep(3600) AS text)".to_owned(),
    }
}

async fn read(store: &Store, account: &str, sql: String) -> Result<usize, StoreError> {
    Ok(store.reads.rows(Some(&AccountName::new(account)), sql, AnyArguments::default()).await?.len())
}

/// More slow lists than there are connections, of several accounts.
async fn slow_lists_harm_nobody(store: Store) {
    calls::upsert(&store, call(1)).await.unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let receiver = Arc::clone(&reports);
    store.health().report_to(move |account, cause, _| receiver.lock().unwrap().push((account.to_string(), cause)));
    let mut lists = tokio::task::JoinSet::new();
    for number in 0..READ_CONNECTIONS * 4 {
        let store = store.clone();
        lists.spawn(async move { read(&store, &format!("account {}", number % 2), endless(&store)).await });
    }
    // The heartbeat, a single row, a write, and the list of another account.
    let others = async {
        server::heartbeat(&store, time(5)).await.unwrap();
        calls::upsert(&store, call(2)).await.unwrap();
        assert!(calls::find(&store, 2).await.unwrap().is_some());
    };
    tokio::time::timeout(READ_TIME / 2, others).await.expect("slow lists do not stop other work");
    let mut ends = Vec::new();
    while let Some(end) = lists.join_next().await {
        ends.push(end.unwrap().unwrap_err());
    }
    let slow = ends.iter().filter(|error| matches!(error, StoreError::ReadTooSlow)).count();
    let many = ends.iter().filter(|error| matches!(error, StoreError::TooManyReads)).count();
    assert!(slow > 0 && many > 0 && slow + many == ends.len(), "{ends:?}");
    assert_eq!(StoreFailed::from(StoreError::ReadTooSlow), StoreFailed::ReadTooSlow);
    let mut reports = reports.lock().unwrap().clone();
    reports.sort_by(|one, other| one.0.cmp(&other.0));
    // Each account is told once in a minute.
    assert_eq!(reports, [0, 1].map(|number| (format!("account {number}"), Cause::ReadLimit)));
    // The connections are free again.
    let list = calls::list(&store, &[AccountName::new("acme")], &CallFilter::default(), &Page::first(9)).await.unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(store.health().problem(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_lists_of_sqlite_end_and_do_not_delay_other_queries() {
    let (store, _directory) = sqlite().await;
    slow_lists_harm_nobody(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_lists_of_postgresql_end_and_do_not_delay_other_queries() {
    let Some(server) = PostgresServer::start() else { return };
    slow_lists_harm_nobody(Store::open(&server.database("limits").await).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_uses_a_limited_number_of_connections_and_queued_reads() {
    let (store, _directory) = sqlite().await;
    let mut lists = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        lists.spawn(async move { read(&store, "greedy", endless(&store)).await });
    }
    // A read beyond the queue is refused at once.
    let first = lists.join_next().await.unwrap().unwrap();
    assert!(matches!(first, Err(StoreError::TooManyReads)), "{first:?}");
    let other = tokio::time::timeout(READ_TIME / 2, read(&store, "modest", "SELECT 1".to_owned())).await;
    assert_eq!(other.expect("another account does not wait").unwrap(), 1);
    // A client that disconnects stops its read.
    lists.abort_all();
    while lists.join_next().await.is_some() {}
    let again = tokio::time::timeout(READ_TIME / 2, read(&store, "greedy", "SELECT 1".to_owned())).await;
    assert_eq!(again.expect("the reads of a client that left are stopped").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subaccounts_share_the_places_of_their_main_account() {
    let (store, _directory) = sqlite().await;
    store.share_reads(Arc::new(|account| account.as_str().split_once('/').map(|(main, _)| AccountName::new(main))));
    let mut lists = tokio::task::JoinSet::new();
    for number in 0..100 {
        let store = store.clone();
        lists.spawn(async move { read(&store, &format!("greedy/{number}"), endless(&store)).await });
    }
    let first = lists.join_next().await.unwrap().unwrap();
    assert!(matches!(first, Err(StoreError::TooManyReads)), "{first:?}");
    let other = tokio::time::timeout(READ_TIME / 2, read(&store, "modest/1", "SELECT 1".to_owned())).await;
    assert_eq!(other.expect("another account does not wait").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_of_text_and_number_reach_the_read_connection() {
    let (store, _directory) = sqlite().await;
    let mut arguments = AnyArguments::default();
    arguments.add("text".to_owned()).unwrap();
    arguments.add(7_i64).unwrap();
    let sql = "SELECT 1 WHERE $1 = 'text' AND $2 = 7".to_owned();
    assert_eq!(store.reads.number(Some(&AccountName::new("acme")), sql, arguments).await.unwrap(), 1);
    assert_eq!(Duration::from_secs(5), READ_TIME);
}
