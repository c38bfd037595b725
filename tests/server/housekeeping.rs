//! Periodic work: the server deletes event logs that are older than `database.retention_days`.

use jiff::{SignedDuration, Timestamp};
use tandem_id::CallId;
use tandem_store::Store;
use tandem_store::events::{self, EventRow};
use tandem_test_support::wait_until;
use tempfile::TempDir;

use crate::log::PATIENCE;
use crate::test_server::TestServer;

const OLD: CallId = CallId(1);
const NEW: CallId = CallId(2);

/// Creates the database of an earlier process. The database has one line of a call of 31 days ago, and one line of a
/// call of yesterday.
async fn history(url: &str) {
    let store = Store::open(url).await.unwrap();
    for (session, days) in [(OLD, 31), (NEW, 1)] {
        let at = Timestamp::now() - SignedDuration::from_hours(24 * days);
        let (kind, text) = ("sip".to_owned(), "a line".to_owned());
        events::insert(&store, EventRow { session: session.0, leg: None, at, kind, text, data: None });
    }
    store.close().await;
}

async fn lines(server: &TestServer, session: CallId) -> usize {
    server.calls().log(session).await.unwrap().lines.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_logs_older_than_the_retention_are_deleted_after_the_start() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}/tandem.db", folder.path().display());
    history(&url).await;

    let server = TestServer::start(&format!("[database]\nurl = \"{url}\"\nretention_days = 0\n")).await;
    assert_eq!((lines(&server, OLD).await, lines(&server, NEW).await), (1, 1));
    server.end().await;

    let server = TestServer::start(&format!("[database]\nurl = \"{url}\"\n")).await;
    wait_until(PATIENCE, "old lines are removed", async || lines(&server, OLD).await == 0).await;
    assert_eq!(lines(&server, NEW).await, 1);
    server.end().await;
}
