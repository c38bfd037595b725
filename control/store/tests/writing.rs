//! Tests of the writer task: order, bursts, refusals.

use crate::OwnedBy;
use tandem_id::AccountName;

use super::{call, delivery, time};
use crate::calls::{self, CallFilter, CallRow};
use crate::deliveries::{self, DeliveryProgress, DeliveryRow, DeliveryState};
use crate::events::{self, EventRow};
use crate::writer::Write;
use crate::{Store, StoreError, server};

pub(super) async fn event_lines_keep_their_order(store: Store) {
    let line = |number: usize| EventRow {
        session: 5,
        leg: number.is_multiple_of(2).then_some(9),
        at: time(1),
        kind: "sip".into(),
        text: format!("line {number}"),
        data: number.is_multiple_of(3).then(|| "{}".to_owned().into()),
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

pub(super) async fn deliveries_keep_their_order_and_progress(store: Store) {
    for (id, queue) in [(9, "b"), (8, "a"), (7, "b"), (6, "a")] {
        deliveries::insert(&store, delivery(id, queue)).await.unwrap();
    }
    let ids = |rows: Vec<DeliveryRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(deliveries::pending(&store, 100).await.unwrap()), [8, 6, 9, 7]);
    assert_eq!(ids(deliveries::pending_in(&store, "b", 1).await.unwrap()), [9]);
    assert_eq!(deliveries::pending_queues(&store, &OwnedBy::Anybody, "", 10).await.unwrap(), ["a", "b"]);
    assert_eq!(deliveries::pending_queues(&store, &OwnedBy::Anybody, "a", 10).await.unwrap(), ["b"]);
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

pub(super) async fn a_burst_of_writes_is_stored_and_collapsed(store: Store) {
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
    assert_eq!(calls::count(&store, &AccountName::new("acme"), &CallFilter::default()).await.unwrap(), 400);
    assert_eq!(calls::count(&store, &AccountName::new("acme"), &last).await.unwrap(), 400);
    assert_eq!(store.writer().lost(), 0);
}

pub(super) async fn one_refused_write_does_not_take_others_with_it(store: Store) {
    deliveries::insert(&store, delivery(1, "a")).await.unwrap();
    calls::upsert(&store, call(1)).await.unwrap();
    let duplicate = store.writer().write(Write::Delivery(Box::new(delivery(1, "a"))));
    let (refused, ()) = tokio::join!(duplicate, async { calls::upsert(&store, call(2)).await.unwrap() });
    assert!(matches!(refused, Err(StoreError::NotWritten(_))), "{refused:?}");
    assert_eq!(calls::count(&store, &AccountName::new("acme"), &CallFilter::default()).await.unwrap(), 2);
    assert_eq!(store.writer().lost(), 1);
}

pub(super) async fn heartbeat_is_remembered(store: Store) {
    assert_eq!(server::last_alive(&store).await.unwrap(), None);
    server::heartbeat(&store, time(1)).await.unwrap();
    server::heartbeat(&store, time(2)).await.unwrap();
    assert_eq!(server::last_alive(&store).await.unwrap(), Some(time(2)));
}
