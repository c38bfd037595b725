//! Tests of pruning. The tests check which rows are deleted and which rows are kept.

use tandem_id::AccountName;

use super::{call, delivery, recording, time};
use crate::calls::{self, CallRow};
use crate::deliveries::{self, DeliveryProgress, DeliveryState};
use crate::events::{self, EventRow};
use crate::recordings::{self, RecordingRow};
use crate::{Page, Store, resources, server};

pub(super) async fn old_history_is_pruned_and_what_is_pending_stays(store: Store) {
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
        let mut row = resources::Resource::new(&AccountName::new("acme"), "warning", text.to_owned());
        (row.id, row.created_at, row.updated_at) = (id, time(second), time(second));
        row
    };
    let kind = || resources::Kind::<String>::new(resources::NOTIFICATION);
    resources::submit(&store, kind(), &trouble(1, 10, "old"));
    resources::submit(&store, kind(), &trouble(2, 20, "new"));
    resources::submit(&store, resources::Kind::new(resources::REPORT), &trouble(3, 10, "old"));
    assert_eq!(server::prune(&store, time(20)).await.unwrap(), 4);
    let filter = resources::Filter::default();
    let kept = resources::list(&store, kind(), &AccountName::new("acme"), &filter, &Page::first(9)).await.unwrap();
    assert_eq!(kept, [trouble(2, 20, "new")]);
    assert_eq!(events::list(&store, 5).await.unwrap()[0].text, "new");
    let left: Vec<u128> = deliveries::list(&store, 40).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!(left, [2, 3]);
}

pub(super) async fn much_old_history_is_pruned_as_well_and_calls_and_recordings_stay(store: Store) {
    calls::upsert(&store, CallRow { ended_at: Some(time(9)), ..call(1) }).await.unwrap();
    recordings::upsert(&store, RecordingRow { ended_at: Some(time(9)), ..recording(1) }).await.unwrap();
    for number in 0..2_500 {
        let (kind, text) = ("sip".to_owned(), String::new());
        events::insert(&store, EventRow { session: number % 7, leg: None, at: time(10), kind, text, data: None });
    }
    assert_eq!(server::prune(&store, time(20)).await.unwrap(), 2_500);
    assert_eq!(server::prune(&store, time(20)).await.unwrap(), 0);
    assert!(calls::find(&store, 1).await.unwrap().is_some());
    assert!(recordings::get(&store, &AccountName::new("acme"), 1).await.unwrap().is_some());
}
