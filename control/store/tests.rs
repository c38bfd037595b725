//! The same scenarios on SQLite and on a PostgreSQL that the test starts itself.

mod calls;
mod holdings;
mod pruning;
mod writing;

use std::pin::Pin;

use jiff::{Timestamp, ToSpan};

use super::calls::{CallFilter, CallRow};
use super::deliveries::{DeliveryRow, DeliveryState};
use super::recordings::RecordingRow;
use super::testing::PostgresServer;
use super::{Store, StoreError};

type Scenario = fn(Store) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Names every scenario once: a test each on SQLite, and one table for PostgreSQL.
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
    }
    writing {
        event_lines_keep_their_order,
        deliveries_keep_their_order_and_progress,
        a_burst_of_writes_is_stored_and_collapsed,
        one_refused_write_does_not_take_others_with_it,
        heartbeat_is_remembered,
    }
    pruning {
        old_history_is_pruned_and_what_is_pending_stays,
        much_old_history_is_pruned_as_well_and_calls_and_recordings_stay,
    }
    holdings {
        registered_phones_are_kept_until_their_time_is_over,
        domains_are_the_accounts_own_and_their_users_and_networks_are_found,
        resources_are_the_accounts_own_are_claimed_once_and_go_with_their_parent,
        a_number_has_one_holder_and_is_found_after_a_restart,
        usage_is_counted_by_day_direction_and_party,
        a_trunks_domain_is_used_and_not_listed,
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
async fn what_is_submitted_while_the_database_is_away_is_stored_when_it_is_back() {
    let Some(mut server) = PostgresServer::start() else { return };
    let store = Store::open(&server.database("outage").await).await.unwrap();
    super::calls::upsert(&store, call(1)).await.unwrap();
    store.flush().await.unwrap();
    server.stop();
    for id in 2..=500 {
        super::calls::upsert(&store, call(id)).await.unwrap();
    }
    server.start_again();
    assert_eq!(super::calls::count(&store, "acme", &CallFilter::default()).await.unwrap(), 500);
    assert_eq!(store.writer().lost(), 0);
}

#[tokio::test]
async fn what_was_submitted_before_close_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/tandem.db?mode=rwc", directory.path().display());
    let store = Store::open(&url).await.unwrap();
    for id in 0..1000 {
        super::calls::upsert(&store, call(id)).await.unwrap();
    }
    store.close().await;
    assert!(matches!(super::calls::upsert(&store, call(1)).await, Err(StoreError::Closed)));
    let store = Store::open(&url).await.unwrap();
    assert_eq!(super::calls::count(&store, "acme", &CallFilter::default()).await.unwrap(), 1000);
}

#[tokio::test]
async fn a_url_of_another_kind_is_refused_without_showing_its_password() {
    let Err(error) = Store::open("mysql://user:secret@host/db").await else { panic!("must fail") };
    assert!(matches!(&error, StoreError::Url { .. }));
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(matches!(Store::open("sqlite::memory:").await, Err(StoreError::Url { .. })));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_at_once_and_without_its_password() {
    let opened = tokio::time::timeout(super::PATIENCE / 2, Store::open("postgres://user:secret@127.0.0.1:1/db")).await;
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
        account: "acme".into(),
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
        account: "acme".into(),
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
        account: "acme".into(),
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
