//! Tests that run the same scenarios on SQLite and on a PostgreSQL server. The tests start the PostgreSQL server.

mod calls;
mod causes;
mod inventory;
mod limits;
mod plans;
mod pruning;
mod slices;
mod writing;

use std::pin::Pin;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use tandem_id::AccountName;
use tandem_test_support::wait_until;

use super::calls::{CallFilter, CallRow};
use super::deliveries::{DeliveryRow, DeliveryState};
use super::recordings::RecordingRow;
use super::testing::PostgresServer;
use super::{Sharing, Store, StoreError};

/// The time limit of every wait.
const LIMIT: Duration = Duration::from_secs(30);

type Scenario = fn(Store) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// The list of all scenarios. From this list, the macro creates one test on SQLite for each scenario, and a table of
/// all scenarios for PostgreSQL.
macro_rules! scenarios {
    ($($room:ident { $($name:ident),+ $(,)? })+) => {
        mod sqlite {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let directory = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}/made/tandem.db", directory.path().display());
                super::$room::$name(super::Store::open(&url).await.unwrap()).await;
            })+)+
        }
        const SCENARIOS: &[(&str, Scenario)] =
            &[$($((stringify!($name), |store| Box::pin($room::$name(store)))),+),+];
    };
}

scenarios! {
    calls {
        a_call_row_is_read_back_as_written,
        an_upsert_replaces_all_but_the_creation_time,
        an_account_sees_and_deletes_only_its_own_calls,
        calls_are_filtered_by_each_field,
        pages_stay_the_same_when_newer_calls_arrive,
        rows_of_the_same_instant_are_paged_without_loss,
        unfinished_rows_are_found_after_a_restart,
        recordings_are_read_back_filtered_and_deleted,
        several_accounts_and_statuses_are_one_list,
        a_list_by_the_time_of_the_answer_is_paged_without_loss,
        a_part_of_a_party_or_an_id_is_found_among_the_newest_calls,
    }
    writing {
        event_lines_keep_their_order,
        deliveries_keep_their_order_and_progress,
        a_burst_of_writes_is_stored_and_collapsed,
        one_refused_write_does_not_take_others_with_it,
        heartbeat_is_remembered,
    }
    causes {
        reports_are_counted_by_cause_in_the_visible_accounts_and_the_time,
        causes_of_parents_are_found_once_with_their_level,
    }
    pruning {
        old_history_is_pruned_and_what_is_pending_stays,
        much_old_history_is_pruned_as_well_and_calls_and_recordings_stay,
    }
    inventory {
        registered_phones_are_kept_until_their_time_is_over,
        domains_are_the_accounts_own_and_their_users_and_networks_are_found,
        resources_are_the_accounts_own_are_claimed_once_and_go_with_their_parent,
        usage_is_counted_by_day_direction_and_party,
        usage_of_days_that_are_over_is_the_same_as_before_and_after,
        a_trunks_domain_is_used_and_not_listed,
        an_application_of_an_earlier_version_stays_open,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_holds_on_postgresql() {
    let Some(server) = PostgresServer::start() else { return };
    for (index, (name, scenario)) in SCENARIOS.iter().enumerate() {
        println!("postgresql: {name}");
        let url = server.database(&format!("scenario_{index}")).await;
        let store = Store::open(&url).await.unwrap();
        scenario(store.clone()).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_submitted_during_an_outage_are_stored_after_the_outage() {
    let Some(mut server) = PostgresServer::start() else { return };
    let store = Store::open(&server.database("outage").await).await.unwrap();
    super::calls::upsert(&store, call(1)).await.unwrap();
    store.flush().await.unwrap();
    server.stop();
    for id in 2..=500 {
        super::calls::upsert(&store, call(id)).await.unwrap();
    }
    server.start_again();
    until_stored(&store).await;
    assert_eq!(super::calls::count(&store, &AccountName::new("acme"), &CallFilter::default()).await.unwrap(), 500);
    assert_eq!(store.writer().lost(), 0);
}

/// A later version of the server adds migrations.
async fn a_newer_database_is_refused(url: &str) {
    let store = Store::open(url).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    sqlx::query(newer).execute(&store.pool).await.unwrap();
    store.close().await;
    let refused = Store::open(url).await.err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 999, .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("a newer version of tandem has written this database"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_a_newer_version_is_refused_with_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    a_newer_database_is_refused(&format!("sqlite:{}/tandem.db", directory.path().display())).await;
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database("newer").await;
    a_newer_database_is_refused(&url).await;
    // PostgreSQL adds the line of its own source to its errors.
    let store = Store::open(&server.database("plain").await).await.unwrap();
    let error: StoreError = sqlx::query("SELECT * FROM nothing").execute(&store.pool).await.unwrap_err().into();
    assert_eq!(error.to_string(), "database: relation \"nothing\" does not exist");
    let unknown = url.replace("/newer", "/missing");
    let refused = Store::open(&unknown).await.err().unwrap().to_string();
    assert!(refused.contains("database \"missing\" does not exist") && !refused.contains("line"), "{refused}");
}

/// Returns two stores for one database. The database is full and has 200 pages of 4 KiB. The first store has only one
/// connection. If the filler table is emptied, the pages become free.
async fn full_database(url: &str) -> (Store, Store) {
    let limits = &["PRAGMA max_page_count = 200", "PRAGMA busy_timeout = 50"];
    let (store, other) =
        (Store::open_with(url, 1, limits).await.unwrap(), Store::open_with(url, 8, limits).await.unwrap());
    super::calls::upsert(&store, call(1)).await.unwrap();
    store.flush().await.unwrap();
    sqlx::query("CREATE TABLE filler (octets BLOB)").execute(&other.pool).await.unwrap();
    for size in ["65536", "4096", "1000", "100"] {
        let fill = || super::assembled(format!("INSERT INTO filler VALUES (zeroblob({size}))"));
        while sqlx::query(fill()).execute(&other.pool).await.is_ok() {}
    }
    (store, other)
}

/// Waits until `more` further transactions of the writer have failed.
async fn more_failures(store: &Store, more: u64) {
    let failures = store.writer().failures() + more;
    wait_until(LIMIT, "the writer tries again", async || store.writer().failures() >= failures).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_submitted_while_the_disk_is_full_are_stored_when_space_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tandem.db", directory.path().display());
    let (store, other) = full_database(&url).await;
    for id in 2..=500 {
        super::calls::upsert(&store, call(id)).await.unwrap();
    }
    // SQLite itself rolls back a failed transaction, and sqlx does not detect this.
    more_failures(&store, 2).await;
    let mut lock = other.pool.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *lock).await.unwrap();
    // If the pool kept the connection, this failure would leave an open transaction. All later writes would then be in
    // this transaction.
    more_failures(&store, 2).await;
    sqlx::query("DELETE FROM filler").execute(&mut *lock).await.unwrap();
    sqlx::query("COMMIT").execute(&mut *lock).await.unwrap();
    until_stored(&store).await;
    // Another store reads the rows, because it does not see a transaction that is never committed.
    assert_eq!(super::calls::count(&other, &AccountName::new("acme"), &CallFilter::default()).await.unwrap(), 500);
    super::calls::upsert(&other, call(501)).await.unwrap();
    other.flush().await.unwrap();
    assert_eq!((store.writer().lost(), other.writer().lost()), (0, 0));
    assert_eq!(store.health().problem(), None);
}

/// A disk of 2 MiB. The tests need root to create the disk.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(disk.0.path())
            .stderr(std::process::Stdio::null())
            .status();
        if !mount.is_ok_and(|status| status.success()) {
            tandem_test_support::skip(tandem_test_support::Needs::Host("no tmpfs can be mounted"));
            return None;
        }
        Some(disk)
    }

    /// Fills the disk with one file. Returns the path of this file.
    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_no_row_and_leaves_no_lock() {
    let Some(disk) = SmallDisk::mount() else { return };
    let url = format!("sqlite:{}/tandem.db", disk.0.path().display());
    let store = Store::open(&url).await.unwrap();
    super::calls::upsert(&store, call(1)).await.unwrap();
    store.flush().await.unwrap();
    let filler = disk.fill();
    for id in 2..=500 {
        super::calls::upsert(&store, call(id)).await.unwrap();
    }
    for second in 0..6 {
        let _ = super::server::heartbeat(&store, time(second)).await;
        more_failures(&store, 1).await;
    }
    assert!(store.health().problem().is_some());
    std::fs::remove_file(filler).unwrap();
    // The test continues the heartbeat, like a server. A flush is refused at once as long as the last heartbeat has
    // failed.
    while super::server::heartbeat(&store, time(9)).await.is_err() {}
    until_stored(&store).await;
    super::server::heartbeat(&store, time(10)).await.unwrap();
    assert_eq!(store.health().problem(), None);
    // Another store reads the rows. It does not see a transaction that is never committed, and the locks of such a
    // transaction block it.
    let other = Store::open(&url).await.unwrap();
    assert_eq!(super::calls::count(&other, &AccountName::new("acme"), &CallFilter::default()).await.unwrap(), 500);
    super::calls::upsert(&other, call(501)).await.unwrap();
    other.flush().await.unwrap();
    assert_eq!((store.writer().lost(), other.writer().lost()), (0, 0));
    store.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_connection_is_dropped_after_sqlite_rolled_back_its_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tandem.db", directory.path().display());
    let (store, other) = (Store::open_with(&url, 1, &[]).await.unwrap(), Store::open(&url).await.unwrap());
    let mut transaction = store.pool.begin().await.unwrap();
    // SQLite itself does the same if the disk is full.
    sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    let mut transaction = store.pool.begin().await.unwrap();
    assert!(sqlx::query("INSERT INTO nowhere VALUES (1)").execute(&mut *transaction).await.is_err());
    drop(transaction);
    let mut transaction = store.pool.begin().await.unwrap();
    sqlx::query("INSERT INTO server (key, value) VALUES ('a', 1)").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM server").fetch_one(&other.pool).await.unwrap();
    assert_eq!(rows, 1, "committed means that others see it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_is_reported_within_seconds_and_refuses_flushes_immediately() {
    let directory = tempfile::tempdir().unwrap();
    let (store, other) = full_database(&format!("sqlite:{}/tandem.db", directory.path().display())).await;
    for id in 2..=500 {
        super::calls::upsert(&store, call(id)).await.unwrap();
    }
    let refused = tokio::time::timeout(Duration::from_secs(10), store.flush()).await.expect("an answer in time");
    assert!(matches!(refused, Err(StoreError::Away(_) | StoreError::NotWritten(_))), "{refused:?}");
    assert!(store.health().problem().unwrap().contains("full"), "{:?}", store.health().problem());
    // After a short time, a flush no longer waits.
    let at_once = async { while tokio::time::timeout(Duration::from_millis(500), store.flush()).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), at_once).await.expect("refused at once");
    assert!(store.flush().await.is_err());
    while sqlx::query("DELETE FROM filler").execute(&other.pool).await.is_err() {}
    until_stored(&store).await;
    assert_eq!(store.health().problem(), None);
}

#[tokio::test]
async fn a_heartbeat_detects_a_moved_database_file_and_its_return() {
    let directory = tempfile::tempdir().unwrap();
    let (path, away) = (directory.path().join("tandem.db"), directory.path().join("away.db"));
    let store = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        directory.path().join(name).metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!(["tandem.db", "tandem.db-wal", "tandem.db-shm"].map(mode), [0o600; 3]);
    super::server::heartbeat(&store, time(1)).await.unwrap();
    assert_eq!(store.health().problem(), None);
    std::fs::rename(&path, &away).unwrap();
    // An open connection writes to the moved file, and a new connection fails.
    let _ = super::server::heartbeat(&store, time(2)).await;
    assert!(store.health().problem().unwrap().contains("was deleted or moved"));
    assert!(!path.exists());
    std::fs::rename(&away, &path).unwrap();
    super::server::heartbeat(&store, time(3)).await.unwrap();
    assert_eq!(store.health().problem(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_postgresql_is_reported_within_seconds_and_loses_no_row() {
    let Some(mut server) = PostgresServer::start() else { return };
    let store = Store::open(&server.database("away").await).await.unwrap();
    super::server::heartbeat(&store, time(1)).await.unwrap();
    server.stop();
    super::calls::upsert(&store, call(1)).await.unwrap();
    let bounded = Duration::from_secs(12);
    let row = tokio::time::timeout(bounded, super::calls::find(&store, 1)).await.expect("an answer in time");
    assert!(matches!(row, Err(StoreError::Away(_))), "{row:?}");
    let beaten = tokio::time::timeout(bounded, super::server::heartbeat(&store, time(2))).await;
    assert!(beaten.expect("an answer in time").is_err());
    assert!(store.health().problem().is_some());
    server.start_again();
    until_stored(&store).await;
    super::server::heartbeat(&store, time(3)).await.unwrap();
    assert_eq!(store.health().problem(), None);
    assert!(super::calls::find(&store, 1).await.unwrap().is_some());
    assert_eq!(store.writer().lost(), 0);
}

/// The signal SIGSTOP freezes the PostgreSQL server. A frozen server still accepts connections but does not respond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_postgresql_server_is_reported_within_seconds() {
    let Some(server) = PostgresServer::start() else { return };
    let store = Store::open(&server.database("hanging").await).await.unwrap();
    super::calls::upsert(&store, call(1)).await.unwrap();
    store.flush().await.unwrap();
    server.freeze(true);
    super::calls::upsert(&store, call(2)).await.unwrap();
    let bounded = Duration::from_secs(12);
    let flushed = tokio::time::timeout(bounded, store.flush()).await.expect("an answer in time");
    assert!(matches!(flushed, Err(StoreError::Away(_))), "{flushed:?}");
    assert!(tokio::time::timeout(bounded, super::server::heartbeat(&store, time(1))).await.expect("in time").is_err());
    assert!(store.health().problem().is_some());
    server.freeze(false);
    until_stored(&store).await;
    assert_eq!(super::calls::count(&store, &AccountName::new("acme"), &CallFilter::default()).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_cannot_claim_a_database_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let mut urls = vec![format!("sqlite:{}/tandem.db", directory.path().display())];
    let server = PostgresServer::start();
    if let Some(server) = &server {
        urls.push(server.database("claimed").await);
    }
    for url in &urls {
        let (first, second) = (Store::open(url).await.unwrap(), Store::open(url).await.unwrap());
        first.claim(Sharing::Alone).await.unwrap();
        let refused = second.claim(Sharing::Alone).await.unwrap_err();
        assert!(matches!(refused, StoreError::InUse(_)), "{url}: {refused}");
        assert!(refused.to_string().starts_with("the database is in use by another tandem: its lock"), "{refused}");
        first.close().await;
        second.claim(Sharing::Alone).await.unwrap();
        second.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_claim_is_a_problem_until_it_is_taken_again() {
    let Some(mut server) = PostgresServer::start() else { return };
    let url = server.database("lost").await;
    let store = Store::open(&url).await.unwrap();
    store.claim(Sharing::Alone).await.unwrap();
    server.stop();
    let is_lost =
        async || store.health().problem().is_some_and(|problem| problem.contains("the lock on the database is lost"));
    wait_until(LIMIT, "the loss of the lock is noticed", is_lost).await;
    server.start_again();
    wait_until(LIMIT, "the lock is taken again", async || store.health().problem().is_none()).await;
    let second = Store::open(&url).await.unwrap();
    assert!(matches!(second.claim(Sharing::Alone).await, Err(StoreError::InUse(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_a_live_heartbeat_is_not_claimed() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.database("beating").await;
    let (old, new) = (Store::open(&url).await.unwrap(), Store::open(&url).await.unwrap());
    let beats = tokio::spawn(async move {
        // Writes heartbeats like a server that does not support the lock.
        loop {
            super::server::heartbeat(&old, Timestamp::now()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let is_alive = async || super::server::last_alive(&new).await.unwrap().is_some();
    wait_until(LIMIT, "the first heartbeat", is_alive).await;
    let refused = new.claim(Sharing::Alone).await.unwrap_err();
    assert!(refused.to_string().contains("another server writes heartbeats"), "{refused}");
    beats.abort();
    assert!(beats.await.unwrap_err().is_cancelled());
    new.claim(Sharing::Alone).await.unwrap();
}

/// Waits until all submitted writes are stored.
async fn until_stored(store: &Store) {
    wait_until(LIMIT, "the writer recovers", async || store.flush().await.is_ok()).await;
}

#[tokio::test]
async fn rows_submitted_before_close_are_stored() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/tandem.db?mode=rwc", directory.path().display());
    let store = Store::open(&url).await.unwrap();
    for id in 0..1000 {
        super::calls::upsert(&store, call(id)).await.unwrap();
    }
    store.close().await;
    assert!(matches!(super::calls::upsert(&store, call(1)).await, Err(StoreError::Closed)));
    let store = Store::open(&url).await.unwrap();
    assert_eq!(super::calls::count(&store, &AccountName::new("acme"), &CallFilter::default()).await.unwrap(), 1000);
}

#[tokio::test]
async fn an_unsupported_database_url_is_refused_without_its_password() {
    let Err(error) = Store::open("mysql://user:secret@host/db").await else { panic!("must fail") };
    assert!(matches!(&error, StoreError::Url { .. }));
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(matches!(Store::open("sqlite::memory:").await, Err(StoreError::Url { .. })));
}

#[tokio::test]
async fn an_unreachable_database_is_named_immediately_and_without_its_password() {
    let opened =
        tokio::time::timeout(super::CONNECTION_TIMEOUT / 2, Store::open("postgres://user:secret@127.0.0.1:1/db")).await;
    let Err(error) = opened.expect("at once") else { panic!("must fail") };
    assert_eq!(error.to_string(), "postgres at 127.0.0.1:1: Connection refused (os error 111)");
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().display());
    let Err(error) = Store::open(&url).await else { panic!("must fail") };
    assert!(error.to_string().starts_with(&format!("sqlite at {}: ", directory.path().display())), "{error}");
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + seconds.seconds()
}

fn call(id: u128) -> CallRow {
    CallRow {
        id,
        session: 40,
        parent: None,
        account: AccountName::new("acme"),
        dialect: "first".into(),
        direction: "inbound".into(),
        from: "+15550001".into(),
        to: "+15550002".into(),
        status: "ringing".into(),
        created_at: time(i64::try_from(id % 1_000_000).unwrap()),
        answered_at: None,
        ended_at: None,
        updated_at: time(0),
        sip_status: None,
        cause: None,
        details: "{}".to_owned(),
    }
}

fn recording(id: u128) -> RecordingRow {
    RecordingRow {
        id,
        account: AccountName::new("acme"),
        dialect: "first".into(),
        leg: 30,
        session: 40,
        source: "verb".into(),
        channels: 1,
        track: "both".into(),
        format: "wav".into(),
        path: format!("{id}.wav"),
        status: "in-progress".into(),
        started_at: time(i64::try_from(id % 1_000_000).unwrap()),
        ended_at: None,
        duration_ms: None,
        bytes: None,
        details: "{}".to_owned(),
    }
}

fn delivery(id: u128, queue: &str) -> DeliveryRow {
    DeliveryRow {
        id,
        queue: queue.into(),
        seq: 0,
        session: 40,
        account: AccountName::new("acme"),
        dialect: "first".into(),
        event: "answered".into(),
        request: "{}".into(),
        state: DeliveryState::Pending,
        attempts: 0,
        next_at: None,
        created_at: time(0),
        done_at: None,
        last_status: None,
        last_error: None,
    }
}
