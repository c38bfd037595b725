//! The same scenarios on SQLite and on a PostgreSQL that the test starts itself.

use std::pin::Pin;

use jiff::{Timestamp, ToSpan};

use super::calls::{self, CallFilter, CallRow};
use super::deliveries::{self, DeliveryProgress, DeliveryRow, DeliveryState};
use super::events::{self, EventRow};
use super::recordings::{self, RecordingFilter, RecordingRow};
use super::testing::PostgresServer;
use super::writer::Write;
use super::{Page, Store, StoreError, TimeRange, bindings, domains, resources, server, usage};

type Scenario = fn(Store) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Names every scenario once: a test each on SQLite, and one table for PostgreSQL.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let directory = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}/made/tandem.db", directory.path().display());
                super::$name(super::Store::open(&url).await.unwrap()).await;
            })+
        }
        const SCENARIOS: &[(&str, Scenario)] = &[$((stringify!($name), |store| Box::pin($name(store)))),+];
    };
}

scenarios!(
    a_call_row_is_read_back_as_written,
    an_upsert_replaces_all_but_the_creation_time,
    an_account_sees_and_deletes_only_its_own_calls,
    calls_are_filtered_by_each_field,
    pages_stay_the_same_when_newer_calls_arrive,
    rows_of_the_same_instant_are_paged_without_loss,
    unfinished_rows_are_found_after_a_restart,
    recordings_are_read_back_filtered_and_deleted,
    event_lines_keep_their_order,
    deliveries_keep_their_order_and_progress,
    a_burst_of_writes_is_stored_and_collapsed,
    one_refused_write_does_not_take_others_with_it,
    heartbeat_is_remembered,
    old_history_is_pruned_and_what_is_pending_stays,
    much_old_history_is_pruned_as_well_and_calls_and_recordings_stay,
    registered_phones_are_kept_until_their_time_is_over,
    domains_are_the_accounts_own_and_their_users_and_networks_are_found,
    resources_are_the_accounts_own_are_claimed_once_and_go_with_their_parent,
    a_number_has_one_holder_and_is_found_after_a_restart,
    usage_is_counted_by_day_direction_and_party,
    a_trunks_domain_is_used_and_not_listed,
);

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
    calls::upsert(&store, call(1)).await.unwrap();
    store.flush().await.unwrap();
    server.stop();
    for id in 2..=500 {
        calls::upsert(&store, call(id)).await.unwrap();
    }
    server.start_again();
    assert_eq!(calls::count(&store, "acme", &CallFilter::default()).await.unwrap(), 500);
    assert_eq!(store.writer().lost(), 0);
}

#[tokio::test]
async fn what_was_submitted_before_close_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/tandem.db?mode=rwc", directory.path().display());
    let store = Store::open(&url).await.unwrap();
    for id in 0..1000 {
        calls::upsert(&store, call(id)).await.unwrap();
    }
    store.close().await;
    assert!(matches!(calls::upsert(&store, call(1)).await, Err(StoreError::Closed)));
    let store = Store::open(&url).await.unwrap();
    assert_eq!(calls::count(&store, "acme", &CallFilter::default()).await.unwrap(), 1000);
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

async fn a_call_row_is_read_back_as_written(store: Store) {
    let mut full = call(u128::MAX - 7);
    full.parent = Some(1);
    full.answered_at = Some(time(5));
    full.ended_at = Some(time(9));
    full.sip_status = Some(486);
    full.cause = Some("busy \"here\" ' ü".into());
    full.details = r#"{"a":[1,null]}"#.to_owned().into();
    let sparse = call(2);
    calls::upsert(&store, full.clone()).await.unwrap();
    calls::upsert(&store, sparse.clone()).await.unwrap();
    assert_eq!(calls::get(&store, "acme", full.id).await.unwrap(), Some(full));
    assert_eq!(calls::get(&store, "acme", 2).await.unwrap(), Some(sparse));
    assert_eq!(calls::get(&store, "acme", 3).await.unwrap(), None);
}

async fn an_upsert_replaces_all_but_the_creation_time(store: Store) {
    let first = call(1);
    calls::upsert(&store, first.clone()).await.unwrap();
    store.flush().await.unwrap();
    let second =
        CallRow { status: "completed".into(), ended_at: Some(time(60)), created_at: time(99), ..first.clone() };
    calls::upsert(&store, second.clone()).await.unwrap();
    let stored = calls::get(&store, "acme", 1).await.unwrap().unwrap();
    assert_eq!(stored, CallRow { created_at: first.created_at, ..second });
}

async fn an_account_sees_and_deletes_only_its_own_calls(store: Store) {
    calls::upsert(&store, call(1)).await.unwrap();
    calls::upsert(&store, CallRow { account: "other".into(), ..call(2) }).await.unwrap();
    assert_eq!(calls::get(&store, "other", 1).await.unwrap(), None);
    assert!(!calls::delete(&store, "other", 1).await.unwrap());
    assert_eq!(calls::list(&store, "other", &CallFilter::default(), &Page::first(50)).await.unwrap().len(), 1);
    assert!(calls::delete(&store, "acme", 1).await.unwrap());
    assert!(!calls::delete(&store, "acme", 1).await.unwrap());
    assert_eq!(calls::get(&store, "acme", 1).await.unwrap(), None);
}

async fn calls_are_filtered_by_each_field(store: Store) {
    let rows = [
        CallRow { to: "+2".into(), ..call(1) },
        CallRow { from: "+3".into(), ..call(2) },
        CallRow { parent: Some(1), ..call(3) },
        CallRow { session: 77, ..call(4) },
        CallRow { status: "busy".into(), ..call(5) },
        CallRow { dialect: "second".into(), ..call(6) },
        CallRow { direction: "outbound".into(), ..call(7) },
        CallRow { created_at: time(1000), ..call(8) },
        CallRow { answered_at: Some(time(2000)), ..call(9) },
        CallRow { ended_at: Some(time(3000)), status: "failed".into(), ..call(10) },
    ];
    for row in rows {
        calls::upsert(&store, row).await.unwrap();
    }
    let around = |seconds| TimeRange { since: Some(time(seconds)), before: Some(time(seconds + 1)) };
    let none = CallFilter::default;
    let filters: [(CallFilter, &[u128]); 12] = [
        (CallFilter { to: Some("+2".into()), ..none() }, &[1]),
        (CallFilter { from: Some("+3".into()), ..none() }, &[2]),
        (CallFilter { parent: Some(1), ..none() }, &[3]),
        (CallFilter { session: Some(77), ..none() }, &[4]),
        (CallFilter { status: vec!["busy".into(), "failed".into()], ..none() }, &[10, 5]),
        (CallFilter { dialect: Some("second".into()), ..none() }, &[6]),
        (CallFilter { direction: Some("outbound".into()), ..none() }, &[7]),
        (CallFilter { created: around(1000), ..none() }, &[8]),
        (CallFilter { answered: around(2000), ..none() }, &[9]),
        (CallFilter { ended: around(3000), ..none() }, &[10]),
        (CallFilter { ended: around(3000), status: vec!["busy".into()], ..none() }, &[]),
        (CallFilter { created: TimeRange { since: None, before: Some(time(2)) }, ..none() }, &[1]),
    ];
    for (filter, expected) in filters {
        let found = calls::list(&store, "acme", &filter, &Page::first(50)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(calls::count(&store, "acme", &filter).await.unwrap(), expected.len() as u64);
    }
}

async fn pages_stay_the_same_when_newer_calls_arrive(store: Store) {
    for id in 1..=10 {
        calls::upsert(&store, call(id)).await.unwrap();
    }
    let ids = async |page: Page| -> Vec<u128> {
        let rows = calls::list(&store, "acme", &CallFilter::default(), &page).await.unwrap();
        rows.iter().map(|row| row.id).collect()
    };
    assert_eq!(ids(Page::first(4)).await, [10, 9, 8, 7]);
    calls::upsert(&store, call(11)).await.unwrap();
    let after = Some(call(7).cursor());
    assert_eq!(ids(Page { after, ..Page::first(4) }).await, [6, 5, 4, 3]);
    assert_eq!(ids(Page { after, offset: 4, ..Page::first(4) }).await, [2, 1]);
    assert_eq!(ids(Page { before: Some(call(6).cursor()), ..Page::first(4) }).await, [10, 9, 8, 7]);
    assert_eq!(ids(Page { offset: 10, ..Page::first(4) }).await, [1]);
    assert_eq!(ids(Page::first(u32::MAX)).await.len(), 11);
    assert_eq!(ids(Page::first(0)).await, [11]);
}

async fn rows_of_the_same_instant_are_paged_without_loss(store: Store) {
    for id in 0..30_u128 {
        // Spread over the whole hex range, so that the order of text must agree with the order of cursors.
        calls::upsert(&store, CallRow { created_at: time(1), ..call((id * 7919) << 100 | id) }).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut page = Page::first(7);
    loop {
        let rows = calls::list(&store, "acme", &CallFilter::default(), &page).await.unwrap();
        let Some(last) = rows.last() else { break };
        page.after = Some(last.cursor());
        seen.extend(rows.iter().map(|row| row.id));
    }
    let mut sorted = seen.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!((seen.len(), &seen), (30, &sorted));
}

async fn unfinished_rows_are_found_after_a_restart(store: Store) {
    calls::upsert(&store, call(1)).await.unwrap();
    calls::upsert(&store, CallRow { ended_at: Some(time(3)), ..call(2) }).await.unwrap();
    recordings::upsert(&store, recording(3)).await.unwrap();
    recordings::upsert(&store, RecordingRow { ended_at: Some(time(3)), ..recording(4) }).await.unwrap();
    let calls: Vec<u128> = calls::unfinished(&store).await.unwrap().iter().map(|row| row.id).collect();
    let recordings: Vec<u128> = recordings::unfinished(&store).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!((calls, recordings), (vec![1], vec![3]));
}

async fn recordings_are_read_back_filtered_and_deleted(store: Store) {
    let closed =
        RecordingRow { ended_at: Some(time(9)), duration_ms: Some(8000), bytes: Some(128_044), ..recording(1) };
    recordings::upsert(&store, recording(1)).await.unwrap();
    recordings::upsert(&store, closed.clone()).await.unwrap();
    recordings::upsert(&store, RecordingRow { leg: 50, ..recording(2) }).await.unwrap();
    recordings::upsert(&store, RecordingRow { session: 60, status: "absent".into(), ..recording(3) }).await.unwrap();
    assert_eq!(recordings::get(&store, "acme", 1).await.unwrap(), Some(closed));
    let none = RecordingFilter::default;
    calls::upsert(&store, CallRow { from: "+1".into(), to: "+2".into(), ..call(50) }).await.unwrap();
    calls::upsert(&store, CallRow { account: "other".into(), from: "+1".into(), ..call(51) }).await.unwrap();
    recordings::upsert(&store, RecordingRow { leg: 51, account: "other".into(), ..recording(4) }).await.unwrap();
    let filters: [(RecordingFilter, &[u128]); 10] = [
        (none(), &[3, 2, 1]),
        (RecordingFilter { leg: Some(50), ..none() }, &[2]),
        (RecordingFilter { session: Some(60), ..none() }, &[3]),
        (RecordingFilter { from: Some("+1".into()), ..none() }, &[2]),
        (RecordingFilter { from: Some("+1".into()), to: Some("+2".into()), ..none() }, &[2]),
        (RecordingFilter { to: Some("+3".into()), ..none() }, &[]),
        (RecordingFilter { ended: TimeRange { since: Some(time(9)), before: None }, ..none() }, &[1]),
        (RecordingFilter { status: vec!["absent".into()], ..none() }, &[3]),
        (RecordingFilter { created: TimeRange { since: Some(time(2)), before: None }, ..none() }, &[3, 2]),
        (RecordingFilter { dialect: Some("no such".into()), ..none() }, &[]),
    ];
    for (filter, expected) in filters {
        let found = recordings::list(&store, "acme", &filter, &Page::first(50)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(recordings::count(&store, "acme", &filter).await.unwrap(), expected.len() as u64);
    }
    assert!(!recordings::delete(&store, "other", 1).await.unwrap());
    assert!(recordings::delete(&store, "acme", 1).await.unwrap());
    assert_eq!(recordings::get(&store, "acme", 1).await.unwrap(), None);
}

async fn event_lines_keep_their_order(store: Store) {
    let line = |number: usize| EventRow {
        session: 5,
        leg: number.is_multiple_of(2).then_some(9),
        at: time(1),
        kind: "sip".into(),
        text: format!("line {number}"),
        data: number.is_multiple_of(3).then(|| "{}".into()),
    };
    for number in 0..500 {
        events::insert(&store, line(number));
        events::insert(&store, EventRow { session: 6, ..line(number) });
    }
    let expected: Vec<EventRow> = (0..500).map(line).collect();
    assert_eq!(events::list(&store, 5).await.unwrap(), expected);
    assert_eq!(events::list(&store, 7).await.unwrap(), []);
    assert_eq!(store.writer().dropped(), 0);
}

async fn deliveries_keep_their_order_and_progress(store: Store) {
    for (id, queue) in [(9, "b"), (8, "a"), (7, "b"), (6, "a")] {
        deliveries::insert(&store, delivery(id, queue)).await.unwrap();
    }
    let ids = |rows: Vec<DeliveryRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(deliveries::pending(&store, 100).await.unwrap()), [8, 6, 9, 7]);
    assert_eq!(ids(deliveries::pending_in(&store, "b", 1).await.unwrap()), [9]);
    assert_eq!(deliveries::pending_queues(&store, "", 10).await.unwrap(), ["a", "b"]);
    assert_eq!(deliveries::pending_queues(&store, "a", 10).await.unwrap(), ["b"]);
    let progress = DeliveryProgress {
        id: 9,
        state: DeliveryState::Pending,
        attempts: 1,
        next_at: Some(time(60)),
        done_at: None,
        last_status: Some(503),
        last_error: Some("status 503".into()),
    };
    deliveries::update(&store, progress.clone()).await.unwrap();
    let waiting = deliveries::pending_in(&store, "b", 1).await.unwrap().remove(0);
    assert_eq!((waiting.attempts, waiting.next_at, waiting.last_status), (1, Some(time(60)), Some(503)));
    let done = DeliveryProgress { state: DeliveryState::Delivered, done_at: Some(time(61)), ..progress };
    deliveries::update(&store, done).await.unwrap();
    assert_eq!(ids(deliveries::pending_in(&store, "b", 10).await.unwrap()), [7]);
    assert_eq!(ids(deliveries::list(&store, 40).await.unwrap()), [9, 8, 7, 6]);
}

async fn a_burst_of_writes_is_stored_and_collapsed(store: Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4_u128 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0..1000_u128 {
                let row = CallRow { status: format!("step {number}"), ..call(task * 1000 + number % 100) };
                calls::upsert(&store, row).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let last =
        CallFilter { status: (900..1000).map(|number| format!("step {number}")).collect(), ..Default::default() };
    assert_eq!(calls::count(&store, "acme", &CallFilter::default()).await.unwrap(), 400);
    assert_eq!(calls::count(&store, "acme", &last).await.unwrap(), 400);
    assert_eq!(store.writer().lost(), 0);
}

async fn one_refused_write_does_not_take_others_with_it(store: Store) {
    deliveries::insert(&store, delivery(1, "a")).await.unwrap();
    calls::upsert(&store, call(1)).await.unwrap();
    let duplicate = store.writer().write(Write::Delivery(Box::new(delivery(1, "a"))));
    let (refused, ()) = tokio::join!(duplicate, async { calls::upsert(&store, call(2)).await.unwrap() });
    assert!(matches!(refused, Err(StoreError::NotWritten(_))), "{refused:?}");
    assert_eq!(calls::count(&store, "acme", &CallFilter::default()).await.unwrap(), 2);
    assert_eq!(store.writer().lost(), 1);
}

async fn heartbeat_is_remembered(store: Store) {
    assert_eq!(server::last_alive(&store).await.unwrap(), None);
    server::heartbeat(&store, time(1)).await.unwrap();
    server::heartbeat(&store, time(2)).await.unwrap();
    assert_eq!(server::last_alive(&store).await.unwrap(), Some(time(2)));
}

async fn old_history_is_pruned_and_what_is_pending_stays(store: Store) {
    for (second, text) in [(10, "old"), (20, "new")] {
        let (kind, text) = ("sip".to_owned(), text.to_owned());
        events::insert(&store, EventRow { session: 5, leg: None, at: time(second), kind, text, data: None });
    }
    let done = |id, second| DeliveryProgress {
        id,
        state: DeliveryState::Failed,
        attempts: 1,
        next_at: None,
        done_at: Some(time(second)),
        last_status: None,
        last_error: None,
    };
    for id in [1, 2, 3] {
        deliveries::insert(&store, delivery(id, "a")).await.unwrap();
    }
    deliveries::update(&store, done(1, 10)).await.unwrap();
    deliveries::update(&store, done(2, 20)).await.unwrap();
    let trouble = |id, second, text: &str| {
        let mut row = resources::Resource::new("acme", "warning", text.to_owned());
        (row.id, row.created_at, row.updated_at) = (id, time(second), time(second));
        row
    };
    let kind = || resources::Kind::<String>::new(resources::TROUBLE);
    resources::submit(&store, kind(), &trouble(1, 10, "old"));
    resources::submit(&store, kind(), &trouble(2, 20, "new"));
    assert_eq!(server::prune(&store, time(20)).await.unwrap(), 3);
    let filter = resources::Filter::default();
    let kept = resources::list(&store, kind(), "acme", &filter, &Page::first(9)).await.unwrap();
    assert_eq!(kept, [trouble(2, 20, "new")]);
    assert_eq!(events::list(&store, 5).await.unwrap()[0].text, "new");
    let left: Vec<u128> = deliveries::list(&store, 40).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(left, [2, 3]);
}

async fn much_old_history_is_pruned_as_well_and_calls_and_recordings_stay(store: Store) {
    calls::upsert(&store, CallRow { ended_at: Some(time(9)), ..call(1) }).await.unwrap();
    recordings::upsert(&store, RecordingRow { ended_at: Some(time(9)), ..recording(1) }).await.unwrap();
    for number in 0..2_500 {
        let (kind, text) = ("sip".to_owned(), String::new());
        events::insert(&store, EventRow { session: number % 7, leg: None, at: time(10), kind, text, data: None });
    }
    assert_eq!(server::prune(&store, time(20)).await.unwrap(), 2_500);
    assert_eq!(server::prune(&store, time(20)).await.unwrap(), 0);
    assert!(calls::get(&store, "acme", 1).await.unwrap().is_some());
    assert!(recordings::get(&store, "acme", 1).await.unwrap().is_some());
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + seconds.seconds()
}

async fn usage_is_counted_by_day_direction_and_party(store: Store) {
    let day = |seconds: i64| time(seconds).as_second() / 86_400;
    let over = |id, begun: i64, seconds: i64| CallRow {
        created_at: time(begun),
        answered_at: Some(time(begun)),
        ended_at: Some(time(begun + seconds)),
        ..call(id)
    };
    let rows = [
        over(1, 0, 60),
        over(2, 1, 61),
        over(3, 2, 0),
        CallRow { direction: "outbound-api".into(), to: "sip:a@b".into(), ..over(4, 3, 1) },
        CallRow { from: "client:alice".into(), to: "sip:a@b".into(), ..over(5, 2 * 86_400, 1) },
        CallRow { account: "below".into(), ..over(6, 4, 1) },
        CallRow { account: "other".into(), ..over(7, 4, 1) },
        CallRow { ended_at: None, ..over(8, 4, 1) },
        CallRow { answered_at: None, ..over(9, 4, 1) },
    ];
    for row in rows {
        calls::upsert(&store, row).await.unwrap();
    }
    let counted = async |accounts: &[&str], range: TimeRange| {
        let accounts: Vec<String> = accounts.iter().map(|name| (*name).to_owned()).collect();
        let rows = usage::calls(&store, &accounts, range).await.unwrap();
        let mut rows: Vec<_> =
            rows.into_iter().map(|row| (row.day - day(0), row.direction, row.party, row.count, row.minutes)).collect();
        rows.sort();
        rows
    };
    let row = |day, direction: &str, party: &str, count, minutes| {
        (day, direction.to_owned(), party.to_owned(), count, minutes)
    };
    let first = [row(0, "inbound", "phone", 3, 4), row(0, "outbound-api", "sip", 1, 1)];
    let all = counted(&["acme"], TimeRange::default()).await;
    assert_eq!(all, [&first[..], &[row(2, "inbound", "client", 1, 1)]].concat());
    let one_day = TimeRange { since: Some(time(0)), before: Some(time(86_400)) };
    assert_eq!(counted(&["acme"], one_day).await, first);
    assert_eq!(counted(&["acme", "below"], one_day).await[0], row(0, "inbound", "phone", 4, 5));
    assert_eq!(counted(&["nobody"], TimeRange::default()).await, []);

    let recorded = |id, status: &str, milliseconds| RecordingRow {
        status: status.into(),
        duration_ms: milliseconds,
        ..recording(id)
    };
    for row in [recorded(1, "completed", Some(60_001)), recorded(2, "completed", None), recorded(3, "absent", Some(1))]
    {
        recordings::upsert(&store, row).await.unwrap();
    }
    let rows = usage::recordings(&store, &["acme".to_owned()], TimeRange::default()).await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.count, row.minutes)).collect::<Vec<_>>(), [(2, 2)]);
}

async fn a_trunks_domain_is_used_and_not_listed(store: Store) {
    let domain = |id, name: &str, trunk| domains::DomainRow {
        id,
        account: "acme".into(),
        name: name.into(),
        details: domains::DomainDetails { trunk, ..Default::default() },
        created_at: time(1),
        updated_at: time(1),
    };
    let trunk = resources::Resource { id: 2, ..resources::Resource::new("acme", "pbx", crate::pbx::Pbx::default()) };
    assert!(resources::put(&store, crate::pbx::TRUNK, &trunk).await.unwrap());
    assert!(domains::upsert_domain(&store, &domain(1, "a.example", false)).await.unwrap());
    assert!(domains::upsert_domain(&store, &domain(2, "pbx.example", true)).await.unwrap());
    assert!(!domains::upsert_domain(&store, &domain(3, "pbx.example", false)).await.unwrap(), "the name is taken");
    let listed = domains::domains(&store, "acme", &Page::first(10)).await.unwrap();
    assert_eq!(listed, [domain(1, "a.example", false)]);
    assert_eq!(domains::count_domains(&store, "acme").await.unwrap(), 1);
    assert_eq!(domains::all_domains(&store).await.unwrap().len(), 2);
    use domains::Purpose::{CallsByAddress, CallsByPassword};
    let list = |id, kind| domains::ListRow {
        id,
        account: "acme".into(),
        kind,
        name: "list".into(),
        created_at: time(2),
        updated_at: time(2),
    };
    domains::upsert_list(&store, &list(10, domains::ListKind::Credentials)).await.unwrap();
    for (id, domain, purpose) in [(20, 1, CallsByPassword), (21, 2, CallsByPassword), (22, 2, CallsByAddress)] {
        let mapping =
            domains::MappingRow { id, account: "acme".into(), domain, list: 10, purpose, created_at: time(3) };
        assert!(domains::map(&store, &mapping).await.unwrap());
        let found = domains::mapping(&store, "acme", domain, 10, purpose).await.unwrap();
        assert_eq!(found, Some(mapping));
    }
    assert_eq!(domains::mapping(&store, "other", 1, 10, CallsByPassword).await.unwrap(), None);
    let mut purposes = domains::purposes(&store, "acme").await.unwrap();
    purposes.sort_by_key(|(domain, purpose)| (*domain, *purpose == CallsByAddress));
    assert_eq!(purposes, [(1, CallsByPassword), (2, CallsByPassword), (2, CallsByAddress)]);
    let pbxs = crate::pbx::Pbxs::load(&store).await.unwrap();
    assert!(pbxs.get("acme", 2).is_some() && pbxs.get("other", 2).is_none());
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
        details: "{}".to_owned().into(),
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

async fn registered_phones_are_kept_until_their_time_is_over(store: Store) {
    let binding = |id, expires_at| {
        let details = bindings::BindingDetails {
            domain: None,
            contact: "sip:alice@10.0.0.1".into(),
            q: 500,
            path: vec!["<sip:edge;lr>".into()],
            instance: None,
            sip_call_id: "c".into(),
            cseq: 7,
            source: "192.0.2.1:40000".parse().unwrap(),
            direct: None,
            local: "127.0.0.1:5060".parse().unwrap(),
            transport: "udp".into(),
            user_agent: Some("phone".into()),
        };
        bindings::BindingRow { id, account: "acme".into(), username: "alice".into(), expires_at, details }
    };
    for row in [binding(1, time(10)), binding(2, time(20)), binding(2, time(30)), binding(3, time(30))] {
        store.writer().submit(Write::Binding(Box::new(row))).await.unwrap();
    }
    store.writer().submit(Write::Unbinding(3)).await.unwrap();
    assert_eq!(bindings::restore(&store, time(10)).await.unwrap(), [binding(2, time(30))]);
    assert_eq!(bindings::restore(&store, time(30)).await.unwrap(), []);
}

async fn domains_are_the_accounts_own_and_their_users_and_networks_are_found(store: Store) {
    let domain = |id, account: &str, name: &str| domains::DomainRow {
        id,
        account: account.into(),
        name: name.into(),
        details: domains::DomainDetails {
            registration: true,
            voice: Some(("http://app/voice".into(), "POST".into())),
            ..Default::default()
        },
        created_at: time(1),
        updated_at: time(1),
    };
    assert!(domains::upsert_domain(&store, &domain(1, "acme", "a.example")).await.unwrap());
    assert!(!domains::upsert_domain(&store, &domain(2, "other", "A.example")).await.unwrap(), "the name is taken");
    assert!(domains::upsert_domain(&store, &domain(2, "other", "b.example")).await.unwrap());
    assert_eq!(domains::domain(&store, "acme", 1).await.unwrap(), Some(domain(1, "acme", "a.example")));
    assert_eq!(domains::domain(&store, "other", 1).await.unwrap(), None);
    assert_eq!(domains::domains(&store, "acme", &Page::first(10)).await.unwrap().len(), 1);

    let list = |id, kind| domains::ListRow {
        id,
        account: "acme".into(),
        kind,
        name: "list".into(),
        created_at: time(2),
        updated_at: time(2),
    };
    domains::upsert_list(&store, &list(10, domains::ListKind::Credentials)).await.unwrap();
    domains::upsert_list(&store, &list(11, domains::ListKind::Addresses)).await.unwrap();
    let lists = domains::lists(&store, "acme", domains::ListKind::Addresses, &Page::first(10)).await.unwrap();
    assert_eq!(lists, [list(11, domains::ListKind::Addresses)]);
    let credential = |id, username: &str, ha1: &str| domains::CredentialRow {
        id,
        account: "acme".into(),
        list: 10,
        username: username.into(),
        ha1_md5: ha1.into(),
        ha1_sha256: ha1.into(),
        created_at: time(3),
        updated_at: time(3),
    };
    assert!(domains::upsert_credential(&store, &credential(20, "alice", "one")).await.unwrap());
    assert!(!domains::upsert_credential(&store, &credential(21, "alice", "two")).await.unwrap(), "one of each name");
    assert!(domains::upsert_credential(&store, &credential(20, "alice", "new")).await.unwrap());
    assert_eq!(domains::credential(&store, "acme", 20).await.unwrap().unwrap().ha1_md5, "new");
    let network = domains::AddressRow {
        id: 30,
        account: "acme".into(),
        list: 11,
        name: "office".into(),
        network: "192.0.2.0/24".parse().unwrap(),
        created_at: time(3),
        updated_at: time(3),
    };
    domains::upsert_address(&store, &network).await.unwrap();
    assert_eq!(domains::addresses(&store, "acme", 11, &Page::first(10)).await.unwrap(), std::slice::from_ref(&network));

    let mapping = |id, domain, list, purpose| domains::MappingRow {
        id,
        account: "acme".into(),
        domain,
        list,
        purpose,
        created_at: time(4),
    };
    use domains::Purpose::{CallsByAddress, CallsByPassword, Registrations};
    assert!(!domains::map(&store, &mapping(39, 2, 10, Registrations)).await.unwrap(), "another's domain");
    for (id, list, purpose) in [(40, 10, Registrations), (41, 11, CallsByAddress)] {
        assert!(domains::map(&store, &mapping(id, 1, list, purpose)).await.unwrap());
    }
    assert!(!domains::map(&store, &mapping(42, 1, 10, Registrations)).await.unwrap(), "it is so already");
    let flags = |users: Vec<domains::DomainUser>| {
        users.into_iter().map(|user| (user.username, user.registers, user.calls)).collect::<Vec<_>>()
    };
    assert_eq!(flags(domains::users(&store).await.unwrap()), [("alice".to_owned(), true, false)]);
    assert!(domains::map(&store, &mapping(43, 1, 10, CallsByPassword)).await.unwrap());
    assert_eq!(flags(domains::users(&store).await.unwrap()), [("alice".to_owned(), true, true)]);
    assert_eq!(domains::networks(&store).await.unwrap(), [("a.example".to_owned(), network.network)]);
    let mapped = domains::mappings(&store, "acme", 1, Registrations, &Page::first(10)).await.unwrap();
    assert_eq!(mapped, [mapping(40, 1, 10, Registrations)]);
    assert!(domains::unmap(&store, "acme", 1, 10, Registrations).await.unwrap());
    assert_eq!(flags(domains::users(&store).await.unwrap()), [("alice".to_owned(), false, true)]);

    assert!(!domains::delete_list(&store, "other", 10).await.unwrap());
    assert!(domains::delete_list(&store, "acme", 10).await.unwrap());
    assert!(domains::users(&store).await.unwrap().is_empty());
    assert_eq!(domains::credential(&store, "acme", 20).await.unwrap(), None);
    assert!(domains::delete_domain(&store, "acme", 1).await.unwrap());
    assert!(domains::networks(&store).await.unwrap().is_empty());
    assert_eq!(domains::all_domains(&store).await.unwrap().len(), 1);
}

async fn resources_are_the_accounts_own_are_claimed_once_and_go_with_their_parent(store: Store) {
    const QUEUE: fn() -> resources::Kind<Vec<u32>> = || resources::Kind::new("queue");
    const MEMBER: fn() -> resources::Kind<String> = || resources::Kind::new("member");
    let mut queue = resources::Resource::new("acme", "support", vec![1, 2]);
    (queue.created_at, queue.updated_at) = (time(1), time(1));
    queue.claim = Some("queue acme support".into());
    assert!(resources::put(&store, QUEUE(), &queue).await.unwrap());
    let twin = resources::Resource { id: 7, ..queue.clone() };
    assert!(!resources::put(&store, QUEUE(), &twin).await.unwrap(), "the claim is taken");
    assert_eq!(resources::get(&store, QUEUE(), "acme", queue.id).await.unwrap(), Some(queue.clone()));
    assert_eq!(resources::get(&store, QUEUE(), "other", queue.id).await.unwrap(), None);
    assert_eq!(resources::get(&store, MEMBER(), "acme", queue.id).await.unwrap(), None, "of another kind");
    let changed = resources::Resource { name: "sales".into(), details: vec![3], updated_at: time(2), ..queue.clone() };
    assert!(resources::put(&store, QUEUE(), &changed).await.unwrap());
    assert_eq!(resources::named(&store, QUEUE(), "acme", "sales").await.unwrap(), Some(changed.clone()));
    assert_eq!(resources::named(&store, QUEUE(), "acme", "support").await.unwrap(), None);
    for n in 0..3 {
        let mut member = resources::Resource::new("acme", format!("member {n}"), String::new());
        (member.parent, member.created_at) = (Some(queue.id), time(10 + n));
        assert!(resources::put(&store, MEMBER(), &member).await.unwrap());
    }
    let of_queue = resources::Filter { parent: Some(queue.id), ..resources::Filter::default() };
    let newest = resources::list(&store, MEMBER(), "acme", &of_queue, &Page::first(2)).await.unwrap();
    assert_eq!(newest.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["member 2", "member 1"]);
    assert_eq!(resources::count(&store, MEMBER(), "acme", &of_queue).await.unwrap(), 3);
    let late = TimeRange { since: Some(time(12)), before: None };
    let late = resources::Filter { created: late, ..resources::Filter::default() };
    assert_eq!(resources::count(&store, MEMBER(), "acme", &late).await.unwrap(), 1);
    assert_eq!(resources::all(&store, MEMBER()).await.unwrap().len(), 3);
    assert!(!resources::delete(&store, QUEUE(), "other", queue.id).await.unwrap());
    assert!(resources::delete(&store, QUEUE(), "acme", queue.id).await.unwrap());
    assert_eq!(resources::all(&store, MEMBER()).await.unwrap().len(), 0, "gone with their queue");
}

async fn a_number_has_one_holder_and_is_found_after_a_restart(store: Store) {
    use crate::holdings::{Caller, Holdings, NotHeld, Number};
    let number = |account: &str| {
        let details = Number { friendly_name: account.into(), dialect: "one".into(), ..Number::default() };
        resources::Resource::new(account, "+15551230001", details)
    };
    let caller = |account: &str| resources::Resource::new(account, "+15551230009", Caller::default());
    let holdings = Holdings::default();
    let held = holdings.numbers.put(&store, number("acme")).await.unwrap();
    assert!(matches!(holdings.numbers.put(&store, number("other")).await, Err(NotHeld::Taken)));
    for account in ["acme", "other"] {
        holdings.callers.put(&store, caller(account)).await.unwrap();
        assert!(matches!(holdings.callers.put(&store, caller(account)).await, Err(NotHeld::Taken)));
    }
    let again = Holdings::load(&store).await.unwrap();
    let found = again.numbers.find("+15551230001").unwrap();
    assert_eq!((found.id, &*found.account, &found.details), (held.id, "acme", &held.details));
    assert_eq!(again.callers.find(&Caller::key("other", "+15551230009")).unwrap().account, "other");

    let moved = resources::Resource { account: "other".into(), ..(*found).clone() };
    again.numbers.put(&store, moved).await.unwrap();
    assert!(again.numbers.all("acme").is_empty());
    assert_eq!(again.numbers.all("other").len(), 1);
    assert!(!again.numbers.delete(&store, "acme", held.id).await.unwrap());
    assert!(again.numbers.delete(&store, "other", held.id).await.unwrap());
    assert!(again.numbers.find("+15551230001").is_none());
    assert!(Holdings::load(&store).await.unwrap().numbers.find("+15551230001").is_none());
    again.numbers.put(&store, number("other")).await.unwrap();
}
