//! Tests of the counts of reports by cause.

use tandem_id::AccountName;

use super::time;
use crate::resources::{self, CauseCount, Filter, Kind, Resource};
use crate::{Page, Store, TimeRange};

pub(super) async fn reports_are_counted_by_cause_in_the_visible_accounts_and_the_time(store: Store) {
    let reports = Kind::<u32>::new(resources::REPORT);
    for (number, account, level, cause) in [
        (1, "acme", "warning", "timeout"),
        (2, "acme", "error", "timeout"),
        (3, "other", "error", "timeout"),
        (4, "", "warning", "no-audio"),
        (5, "acme", "warning", "no-audio"),
    ] {
        let mut row = Resource::new(&AccountName::new(account), level, number);
        row.created_at = time(i64::from(number));
        resources::submit_report(&store, reports, &row, cause);
    }
    let notification = Resource::new(&AccountName::new("acme"), "error", 6);
    resources::submit(&store, Kind::<u32>::new(resources::NOTIFICATION), &notification);
    let of = |cause: &str, count, errors| (cause.to_owned(), count, errors);
    assert_eq!(counts(&store, None, &Filter::default()).await, [of("no-audio", 2, 0), of("timeout", 3, 2)]);
    assert_eq!(counts(&store, Some("acme"), &Filter::default()).await, [of("no-audio", 1, 0), of("timeout", 2, 1)]);
    let since = Filter { created: TimeRange { since: Some(time(3)), before: None }, ..Filter::default() };
    assert_eq!(counts(&store, None, &since).await, [of("no-audio", 2, 0), of("timeout", 1, 1)]);
    let errors = Filter { name: Some("error"), cause: Some("timeout"), ..Filter::default() };
    assert_eq!(counts(&store, None, &errors).await, [of("timeout", 2, 2)]);
    assert!(counts(&store, Some("nobody"), &Filter::default()).await.is_empty());
    let accounts = ["acme", "other", ""].map(AccountName::new);
    let listed = resources::list_of(&store, reports, &accounts, &errors, &Page::first(9)).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.details).collect::<Vec<_>>(), [3, 2]);
    let first = resources::causes(&store, None, &errors).await.unwrap().remove(0);
    assert_eq!((first.first, first.last), (time(2), time(3)));
}

pub(super) async fn causes_of_parents_are_found_once_with_their_level(store: Store) {
    let reports = Kind::<u32>::new(resources::REPORT);
    for (number, parent, level, cause) in [
        (1, Some(7), "warning", "no-audio"),
        (2, Some(7), "error", "timeout"),
        (3, Some(7), "error", "timeout"),
        (4, Some(8), "error", "timeout"),
        (5, Some(9), "error", "timeout"),
        (6, None, "error", "timeout"),
    ] {
        let mut row = Resource::new(&AccountName::new("acme"), level, number);
        row.parent = parent;
        resources::submit_report(&store, reports, &row, cause);
    }
    store.flush().await.unwrap();
    let mut found = resources::causes_of(&store, reports, &[7, 8, 10]).await.unwrap();
    found.sort();
    let of = |parent, level: &str, cause: &str| (parent, level.to_owned(), cause.to_owned());
    assert_eq!(found, [of(7, "error", "timeout"), of(7, "warning", "no-audio"), of(8, "error", "timeout")]);
    assert!(resources::causes_of(&store, reports, &[]).await.unwrap().is_empty());
}

/// Returns each cause with its number of reports and of errors.
async fn counts(store: &Store, account: Option<&str>, filter: &Filter<'_>) -> Vec<(String, u64, u64)> {
    let account = account.map(AccountName::new);
    let counts = resources::causes(store, account.as_ref(), filter).await.unwrap();
    counts.into_iter().map(|CauseCount { cause, count, errors, .. }| (cause, count, errors)).collect()
}
