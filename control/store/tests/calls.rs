//! Tests of the records of calls and recordings, and of queries for these records.

use tandem_id::AccountName;

use super::{call, recording, time};
use crate::OwnedBy;
use crate::calls::{self, CallFilter, CallRow, Parts};
use crate::recordings::{self, RecordingFilter, RecordingRow};
use crate::{Cursor, Page, Store, TimeRange};

/// Returns the position of a call in a list with this filter.
fn cursor(filter: &CallFilter, row: &CallRow) -> Cursor {
    filter.cursor(row.id, row.created_at, row.answered_at, row.ended_at)
}

pub(super) async fn a_call_row_is_read_back_as_written(store: Store) {
    let mut full = call(u128::MAX - 7);
    full.parent = Some(1);
    full.answered_at = Some(time(5));
    full.ended_at = Some(time(9));
    full.sip_status = Some(486);
    full.cause = Some("busy \"here\" ' ü".into());
    full.details = r#"{"a":[1,null]}"#.to_owned();
    let sparse = call(2);
    calls::upsert(&store, full.clone()).await.unwrap();
    calls::upsert(&store, sparse.clone()).await.unwrap();
    assert_eq!(calls::find(&store, full.id).await.unwrap(), Some(full));
    assert_eq!(calls::find(&store, 2).await.unwrap(), Some(sparse));
    assert_eq!(calls::find(&store, 3).await.unwrap(), None);
}

pub(super) async fn an_upsert_replaces_all_but_the_creation_time(store: Store) {
    let first = call(1);
    calls::upsert(&store, first.clone()).await.unwrap();
    store.flush().await.unwrap();
    let second =
        CallRow { status: "completed".into(), ended_at: Some(time(60)), created_at: time(99), ..first.clone() };
    calls::upsert(&store, second.clone()).await.unwrap();
    let stored = calls::find(&store, 1).await.unwrap().unwrap();
    assert_eq!(stored, CallRow { created_at: first.created_at, ..second });
}

pub(super) async fn an_account_sees_and_deletes_only_its_own_calls(store: Store) {
    calls::upsert(&store, call(1)).await.unwrap();
    calls::upsert(&store, CallRow { account: AccountName::new("other"), ..call(2) }).await.unwrap();
    assert!(!calls::delete(&store, &AccountName::new("other"), 1).await.unwrap());
    assert_eq!(
        calls::list(&store, &[AccountName::new("other")], &CallFilter::default(), &Page::first(50))
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(calls::delete(&store, &AccountName::new("acme"), 1).await.unwrap());
    assert!(!calls::delete(&store, &AccountName::new("acme"), 1).await.unwrap());
    assert_eq!(calls::find(&store, 1).await.unwrap(), None);
}

pub(super) async fn calls_are_filtered_by_each_field(store: Store) {
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
    let filters: [(CallFilter, &[u128]); 16] = [
        (CallFilter { live: true, ..none() }, &[8, 9, 7, 6, 5, 4, 3, 2, 1]),
        (CallFilter { live: true, status: vec!["busy".into(), "failed".into()], ..none() }, &[5]),
        (CallFilter { answered: around(2000), from: Some("+15550001".into()), ..none() }, &[9]),
        (CallFilter { ended: around(3000), status: vec!["busy".into(), "failed".into()], ..none() }, &[10]),
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
        let found = calls::list(&store, &[AccountName::new("acme")], &filter, &Page::first(50)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(calls::count(&store, &AccountName::new("acme"), &filter).await.unwrap(), expected.len() as u64);
    }
}

pub(super) async fn pages_stay_the_same_when_newer_calls_arrive(store: Store) {
    for id in 1..=10 {
        calls::upsert(&store, call(id)).await.unwrap();
    }
    let ids = async |page: Page| -> Vec<u128> {
        let rows = calls::list(&store, &[AccountName::new("acme")], &CallFilter::default(), &page).await.unwrap();
        rows.iter().map(|row| row.id).collect()
    };
    assert_eq!(ids(Page::first(4)).await, [10, 9, 8, 7]);
    calls::upsert(&store, call(11)).await.unwrap();
    let after = Some(cursor(&CallFilter::default(), &call(7)));
    assert_eq!(ids(Page { after, ..Page::first(4) }).await, [6, 5, 4, 3]);
    assert_eq!(ids(Page { after, offset: 4, ..Page::first(4) }).await, [2, 1]);
    assert_eq!(ids(Page { offset: 10, ..Page::first(4) }).await, [1]);
    assert_eq!(ids(Page::first(u32::MAX)).await.len(), 11);
    assert_eq!(ids(Page::first(0)).await, [11]);
}

pub(super) async fn rows_of_the_same_instant_are_paged_without_loss(store: Store) {
    for id in 0..30_u128 {
        // The ids are distributed over the whole range, so the order of their text must agree with the order of the
        // cursors.
        calls::upsert(&store, CallRow { created_at: time(1), ..call((id * 7919) << 100 | id) }).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut page = Page::first(7);
    loop {
        let rows = calls::list(&store, &[AccountName::new("acme")], &CallFilter::default(), &page).await.unwrap();
        let Some(last) = rows.last() else { break };
        page.after = Some(cursor(&CallFilter::default(), last));
        seen.extend(rows.iter().map(|row| row.id));
    }
    let mut sorted = seen.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!((seen.len(), &seen), (30, &sorted));
}

pub(super) async fn unfinished_rows_are_found_after_a_restart(store: Store) {
    calls::upsert(&store, call(1)).await.unwrap();
    calls::upsert(&store, CallRow { ended_at: Some(time(3)), ..call(2) }).await.unwrap();
    recordings::upsert(&store, recording(3)).await.unwrap();
    recordings::upsert(&store, RecordingRow { ended_at: Some(time(3)), ..recording(4) }).await.unwrap();
    let calls: Vec<u128> =
        calls::unfinished(&store, &OwnedBy::Anybody).await.unwrap().iter().map(|row| row.id).collect();
    let recordings: Vec<u128> =
        recordings::unfinished(&store, &OwnedBy::Anybody).await.unwrap().iter().map(|row| row.id).collect();
    assert_eq!((calls, recordings), (vec![1], vec![3]));
}

pub(super) async fn recordings_are_read_back_filtered_and_deleted(store: Store) {
    let closed =
        RecordingRow { ended_at: Some(time(9)), duration_ms: Some(8000), bytes: Some(128_044), ..recording(1) };
    recordings::upsert(&store, recording(1)).await.unwrap();
    recordings::upsert(&store, closed.clone()).await.unwrap();
    recordings::upsert(&store, RecordingRow { leg: 50, ..recording(2) }).await.unwrap();
    recordings::upsert(&store, RecordingRow { session: 60, status: "absent".into(), ..recording(3) }).await.unwrap();
    assert_eq!(recordings::get(&store, &AccountName::new("acme"), 1).await.unwrap(), Some(closed));
    let none = RecordingFilter::default;
    calls::upsert(&store, CallRow { from: "+1".into(), to: "+2".into(), ..call(50) }).await.unwrap();
    calls::upsert(&store, CallRow { account: AccountName::new("other"), from: "+1".into(), ..call(51) }).await.unwrap();
    recordings::upsert(&store, RecordingRow { leg: 51, account: AccountName::new("other"), ..recording(4) })
        .await
        .unwrap();
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
        let found = recordings::list(&store, &[AccountName::new("acme")], &filter, &Page::first(50)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(recordings::count(&store, &AccountName::new("acme"), &filter).await.unwrap(), expected.len() as u64);
    }
    assert!(!recordings::delete(&store, &AccountName::new("other"), 1).await.unwrap());
    assert!(recordings::delete(&store, &AccountName::new("acme"), 1).await.unwrap());
    assert_eq!(recordings::get(&store, &AccountName::new("acme"), 1).await.unwrap(), None);
}

pub(super) async fn several_accounts_and_statuses_are_one_list(store: Store) {
    for id in 1..=60_u128 {
        let account = AccountName::new(["acme", "other", "third"][id as usize % 3]);
        let status = ["ringing", "busy", "failed", "completed"][id as usize % 4].to_owned();
        calls::upsert(&store, CallRow { account, status, ..call(id) }).await.unwrap();
    }
    let filter = CallFilter { status: vec!["busy".into(), "failed".into()], ..CallFilter::default() };
    let accounts = ["acme", "third"].map(AccountName::new);
    let expected: Vec<u128> = (1..=60).rev().filter(|id| id % 3 != 1 && [1, 2].contains(&(id % 4))).collect();
    let ids = |rows: Vec<CallRow>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    let all = calls::list(&store, &accounts, &filter, &Page::first(100)).await.unwrap();
    assert_eq!(ids(all.clone()), expected);
    let after = Some(cursor(&filter, &all[6]));
    let page = calls::list(&store, &accounts, &filter, &Page { after, ..Page::first(5) }).await.unwrap();
    assert_eq!(ids(page), expected[7..12]);
    let page = calls::list(&store, &accounts, &filter, &Page { offset: 9, ..Page::first(4) }).await.unwrap();
    assert_eq!(ids(page), expected[9..13]);
    assert!(calls::list(&store, &[], &filter, &Page::first(9)).await.unwrap().is_empty());
    // The list has more recordings of a call than a page.
    for id in 1..=4_u128 {
        recordings::upsert(&store, RecordingRow { leg: 5 - id % 2, ..recording(id) }).await.unwrap();
    }
    let parties = RecordingFilter { from: Some("+15550001".into()), ..RecordingFilter::default() };
    assert_eq!(
        recordings::count(&store, &AccountName::new("acme"), &parties).await.unwrap(),
        0,
        "the calls belong to other accounts"
    );
    let found =
        recordings::list(&store, &[AccountName::new("acme"), AccountName::new("other")], &parties, &Page::first(9))
            .await
            .unwrap();
    assert!(found.iter().all(|row| row.leg == 4) && found.len() == 2, "{found:?}");
}

/// Each call is answered in the order of its creation, but the first call only after all others.
pub(super) async fn a_list_by_the_time_of_the_answer_is_paged_without_loss(store: Store) {
    for id in 1..=30_u128 {
        let answered_at = if id == 1 { 1_000 } else { 100 + i64::try_from(id / 3).unwrap() };
        calls::upsert(&store, CallRow { answered_at: Some(time(answered_at)), ..call(id) }).await.unwrap();
    }
    calls::upsert(&store, call(31)).await.unwrap();
    let filter = CallFilter { answered: TimeRange { since: Some(time(103)), before: None }, ..CallFilter::default() };
    let (mut seen, mut page) = (Vec::new(), Page::first(4));
    loop {
        let rows = calls::list(&store, &[AccountName::new("acme")], &filter, &page).await.unwrap();
        let Some(last) = rows.last() else { break };
        page.after = Some(cursor(&filter, last));
        seen.extend(rows.iter().map(|row| row.id));
    }
    let expected: Vec<u128> = std::iter::once(1).chain((9..=30).rev()).collect();
    assert_eq!(seen, expected);
}

pub(super) async fn a_part_of_a_party_or_an_id_is_found_among_the_newest_calls(store: Store) {
    let rows = [
        CallRow { from: "+4930555100".into(), ..call(0xaaaa_1111) },
        CallRow { to: "sip:100%_x@host".into(), ..call(0xbbbb_2222) },
        CallRow { account: AccountName::new("other"), from: "+4930555200".into(), ..call(0xcccc_3333) },
        CallRow { details: r#"{"call_id":"Xyz-1@pbx"}"#.into(), ..call(0xdddd_4444) },
    ];
    for row in rows {
        calls::upsert(&store, row).await.unwrap();
    }
    let none = Parts::default;
    let (acme, other) = ([AccountName::new("acme")], [AccountName::new("other")]);
    let both = &["acme", "other"].map(AccountName::new)[..];
    let cases: [(&[AccountName], Parts<'_>, &[u128]); 9] = [
        (&acme, Parts { from: Some("4930555"), ..none() }, &[0xaaaa_1111]),
        (both, Parts { from: Some("4930555"), ..none() }, &[0xaaaa_1111, 0xcccc_3333]),
        (&acme, Parts { to: Some("100%_"), ..none() }, &[0xbbbb_2222]),
        (&acme, Parts { to: Some("100__x"), ..none() }, &[]),
        (&acme, Parts { any: Some("b2222"), ..none() }, &[0xbbbb_2222]),
        (both, Parts { any: Some("yz-1@p"), ..none() }, &[0xdddd_4444]),
        (&other, Parts { any: Some("b2222"), ..none() }, &[]),
        (&[], Parts { from: Some("4930555"), ..none() }, &[]),
        (both, Parts { from: Some("30555"), to: Some("0002"), ..none() }, &[0xaaaa_1111, 0xcccc_3333]),
    ];
    let ringing = CallFilter { status: vec!["ringing".into(), "busy".into()], live: true, ..CallFilter::default() };
    let parts = Parts { from: Some("4930555"), ..none() };
    for accounts in [both, &acme] {
        let rows = calls::search(&store, accounts, &ringing, parts, &Page::first(1)).await.unwrap();
        assert_eq!(rows.len(), 1, "other filters hold too");
    }
    for (accounts, parts, expected) in cases {
        let rows = calls::search(&store, accounts, &CallFilter::default(), parts, &Page::first(9)).await.unwrap();
        let mut found: Vec<u128> = rows.iter().map(|row| row.id).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{parts:?}");
    }
}
