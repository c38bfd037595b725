//! Tests of the resources of accounts: phones, domains, numbers, usage.

use serde_json::{Value, json};
use tandem_id::AccountName;

use super::{call, recording, time};
use crate::calls::{self, CallRow};
use crate::recordings::{self, RecordingRow};
use crate::writer::Write;
use crate::{Page, Store, TimeRange, bindings, domains, resources, usage};

pub(super) async fn registered_phones_are_kept_until_their_time_is_over(store: Store) {
    let binding = |id, expires_at| {
        let details = bindings::BindingDetails {
            host: Some("voice.operator.example".into()),
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
        bindings::BindingRow {
            id,
            account: AccountName::new("acme"),
            username: "alice".into(),
            expires_at,
            node: None,
            details,
        }
    };
    for row in [binding(1, time(10)), binding(2, time(20)), binding(2, time(30)), binding(3, time(30))] {
        store.writer().submit(Write::Binding(Box::new(row))).await.unwrap();
    }
    store.writer().submit(Write::Unbinding(3, None)).await.unwrap();
    for (account, host, now, used) in [
        ("other", "voice.operator.example", 10, true),
        ("acme", "voice.operator.example", 10, false),
        ("other", "operator.example", 10, false),
        ("other", "voice.operator.exampl", 10, false),
        ("other", "voice.operator.example", 30, false),
    ] {
        let uses = bindings::uses_host(&store, &AccountName::new(account), host, time(now)).await.unwrap();
        assert_eq!(uses, used, "{account} {host} {now}");
    }
    assert_eq!(bindings::restore(&store, time(10)).await.unwrap(), [binding(2, time(30))]);
    assert_eq!(bindings::restore(&store, time(30)).await.unwrap(), []);
}

pub(super) async fn domains_are_the_accounts_own_and_their_users_and_networks_are_found(store: Store) {
    let domain = |id, account: &str, name: &str| domains::DomainRow {
        id,
        account: AccountName::new(account),
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
    assert_eq!(
        domains::domain(&store, &AccountName::new("acme"), 1).await.unwrap(),
        Some(domain(1, "acme", "a.example"))
    );
    assert_eq!(domains::domain(&store, &AccountName::new("other"), 1).await.unwrap(), None);
    assert_eq!(domains::domains(&store, &AccountName::new("acme"), &Page::first(10)).await.unwrap().len(), 1);

    let list = |id, kind| domains::ListRow {
        id,
        account: AccountName::new("acme"),
        kind,
        name: "list".into(),
        created_at: time(2),
        updated_at: time(2),
    };
    domains::upsert_list(&store, &list(10, domains::ListKind::Credentials)).await.unwrap();
    domains::upsert_list(&store, &list(11, domains::ListKind::Addresses)).await.unwrap();
    let lists = domains::lists(&store, &AccountName::new("acme"), domains::ListKind::Addresses, &Page::first(10))
        .await
        .unwrap();
    assert_eq!(lists, [list(11, domains::ListKind::Addresses)]);
    let credential = |id, username: &str, ha1: &str| {
        let details = domains::Credential { username: username.into(), ha1_md5: ha1.into(), ha1_sha256: ha1.into() };
        domains::Entry { id, ..domains::Entry::new(&AccountName::new("acme"), 10, details) }
    };
    assert!(domains::upsert_entry(&store, &credential(20, "alice", "one")).await.unwrap());
    assert!(!domains::upsert_entry(&store, &credential(21, "alice", "two")).await.unwrap(), "one of each name");
    assert!(domains::upsert_entry(&store, &credential(20, "alice", "new")).await.unwrap());
    let stored = domains::entry::<domains::Credential>(&store, &AccountName::new("acme"), 20).await.unwrap().unwrap();
    assert_eq!((stored.details.ha1_md5.as_str(), stored.list), ("new", 10));
    let network = domains::Network { name: "office".into(), network: "192.0.2.0/24".parse().unwrap() };
    let network = domains::Entry {
        id: 30,
        created_at: time(3),
        updated_at: time(3),
        ..domains::Entry::new(&AccountName::new("acme"), 11, network)
    };
    assert!(domains::upsert_entry(&store, &network).await.unwrap());
    assert_eq!(
        domains::entries(&store, &AccountName::new("acme"), 11, &Page::first(10)).await.unwrap(),
        std::slice::from_ref(&network)
    );
    assert_eq!(domains::count_entries::<domains::Network>(&store, &AccountName::new("acme"), 10).await.unwrap(), 0);

    let mapping = |id, domain, list, purpose| domains::MappingRow {
        id,
        account: AccountName::new("acme"),
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
    assert_eq!(domains::networks(&store).await.unwrap(), [("a.example".to_owned(), network.details.network)]);
    let mapped =
        domains::mappings(&store, &AccountName::new("acme"), 1, Registrations, &Page::first(10)).await.unwrap();
    assert_eq!(mapped, [mapping(40, 1, 10, Registrations)]);
    assert!(domains::unmap(&store, &AccountName::new("acme"), 1, 10, Registrations).await.unwrap());
    assert_eq!(flags(domains::users(&store).await.unwrap()), [("alice".to_owned(), false, true)]);

    assert!(!domains::delete_list(&store, &AccountName::new("other"), 10).await.unwrap());
    assert!(domains::delete_list(&store, &AccountName::new("acme"), 10).await.unwrap());
    assert!(domains::users(&store).await.unwrap().is_empty());
    assert_eq!(domains::entry::<domains::Credential>(&store, &AccountName::new("acme"), 20).await.unwrap(), None);
    assert!(domains::delete_domain(&store, &AccountName::new("acme"), 1).await.unwrap());
    assert!(domains::networks(&store).await.unwrap().is_empty());
    assert_eq!(domains::all_domains(&store).await.unwrap().len(), 1);
}

pub(super) async fn resources_are_the_accounts_own_are_claimed_once_and_go_with_their_parent(store: Store) {
    const QUEUE: fn() -> resources::Kind<Vec<u32>> = || resources::Kind::new("queue");
    const MEMBER: fn() -> resources::Kind<String> = || resources::Kind::new("member");
    let mut queue = resources::Resource::new(&AccountName::new("acme"), "support", vec![1, 2]);
    (queue.created_at, queue.updated_at) = (time(1), time(1));
    queue.claim = Some("queue acme support".into());
    assert!(resources::put(&store, QUEUE(), &queue).await.unwrap());
    let twin = resources::Resource { id: 7, ..queue.clone() };
    assert!(!resources::put(&store, QUEUE(), &twin).await.unwrap(), "the claim is taken");
    assert_eq!(
        resources::get(&store, QUEUE(), &AccountName::new("acme"), queue.id).await.unwrap(),
        Some(queue.clone())
    );
    assert_eq!(resources::get(&store, QUEUE(), &AccountName::new("other"), queue.id).await.unwrap(), None);
    assert_eq!(
        resources::get(&store, MEMBER(), &AccountName::new("acme"), queue.id).await.unwrap(),
        None,
        "of another kind"
    );
    let changed = resources::Resource { name: "sales".into(), details: vec![3], updated_at: time(2), ..queue.clone() };
    assert!(resources::put(&store, QUEUE(), &changed).await.unwrap());
    assert_eq!(
        resources::named(&store, QUEUE(), &AccountName::new("acme"), "sales").await.unwrap(),
        Some(changed.clone())
    );
    assert_eq!(resources::named(&store, QUEUE(), &AccountName::new("acme"), "support").await.unwrap(), None);
    for n in 0..3 {
        let mut member = resources::Resource::new(&AccountName::new("acme"), format!("member {n}"), String::new());
        (member.parent, member.created_at) = (Some(queue.id), time(10 + n));
        assert!(resources::put(&store, MEMBER(), &member).await.unwrap());
    }
    let of_queue = resources::Filter { parent: Some(queue.id), ..resources::Filter::default() };
    let newest =
        resources::list(&store, MEMBER(), &AccountName::new("acme"), &of_queue, &Page::first(2)).await.unwrap();
    assert_eq!(newest.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["member 2", "member 1"]);
    assert_eq!(resources::count(&store, MEMBER(), &AccountName::new("acme"), &of_queue).await.unwrap(), 3);
    let late = TimeRange { since: Some(time(12)), before: None };
    let late = resources::Filter { created: late, ..resources::Filter::default() };
    assert_eq!(resources::count(&store, MEMBER(), &AccountName::new("acme"), &late).await.unwrap(), 1);
    assert_eq!(resources::all(&store, MEMBER()).await.unwrap().len(), 3);
    assert!(!resources::delete(&store, QUEUE(), &AccountName::new("other"), queue.id).await.unwrap());
    assert!(resources::delete(&store, QUEUE(), &AccountName::new("acme"), queue.id).await.unwrap());
    assert_eq!(resources::all(&store, MEMBER()).await.unwrap().len(), 0, "gone with their queue");
}

pub(super) async fn usage_is_counted_by_day_direction_and_party(store: Store) {
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
        CallRow { account: AccountName::new("below"), ..over(6, 4, 1) },
        CallRow { account: AccountName::new("other"), ..over(7, 4, 1) },
        CallRow { ended_at: None, ..over(8, 4, 1) },
        CallRow { answered_at: None, ..over(9, 4, 1) },
    ];
    for row in rows {
        calls::upsert(&store, row).await.unwrap();
    }
    let counted = async |accounts: &[&str], range: TimeRange| {
        let accounts: Vec<_> = accounts.iter().map(|name| AccountName::new(*name)).collect();
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
    let rows = usage::recordings(&store, &[AccountName::new("acme")], TimeRange::default()).await.unwrap();
    assert_eq!(rows.iter().map(|row| (row.count, row.minutes)).collect::<Vec<_>>(), [(2, 2)]);
}

pub(super) async fn a_trunks_domain_is_used_and_not_listed(store: Store) {
    let domain = |id, name: &str, trunk| domains::DomainRow {
        id,
        account: AccountName::new("acme"),
        name: name.into(),
        details: domains::DomainDetails { trunk, ..Default::default() },
        created_at: time(1),
        updated_at: time(1),
    };
    const TRUNK: resources::Kind<()> = resources::Kind::new("trunk");
    let trunk = resources::Resource { id: 2, ..resources::Resource::new(&AccountName::new("acme"), "pbx", ()) };
    assert!(resources::put(&store, TRUNK, &trunk).await.unwrap());
    assert!(domains::upsert_domain(&store, &domain(1, "a.example", false)).await.unwrap());
    assert!(domains::upsert_domain(&store, &domain(2, "pbx.example", true)).await.unwrap());
    assert!(!domains::upsert_domain(&store, &domain(3, "pbx.example", false)).await.unwrap(), "the name is taken");
    let listed = domains::domains(&store, &AccountName::new("acme"), &Page::first(10)).await.unwrap();
    assert_eq!(listed, [domain(1, "a.example", false)]);
    assert_eq!(domains::count_domains(&store, &AccountName::new("acme")).await.unwrap(), 1);
    assert_eq!(domains::all_domains(&store).await.unwrap().len(), 2);
    use domains::Purpose::{CallsByAddress, CallsByPassword};
    let list = |id, kind| domains::ListRow {
        id,
        account: AccountName::new("acme"),
        kind,
        name: "list".into(),
        created_at: time(2),
        updated_at: time(2),
    };
    domains::upsert_list(&store, &list(10, domains::ListKind::Credentials)).await.unwrap();
    for (id, domain, purpose) in [(20, 1, CallsByPassword), (21, 2, CallsByPassword), (22, 2, CallsByAddress)] {
        let mapping = domains::MappingRow {
            id,
            account: AccountName::new("acme"),
            domain,
            list: 10,
            purpose,
            created_at: time(3),
        };
        assert!(domains::map(&store, &mapping).await.unwrap());
        let found = domains::mapping(&store, &AccountName::new("acme"), domain, 10, purpose).await.unwrap();
        assert_eq!(found, Some(mapping));
    }
    assert_eq!(domains::mapping(&store, &AccountName::new("other"), 1, 10, CallsByPassword).await.unwrap(), None);
    let mut purposes = domains::purposes(&store, &AccountName::new("acme")).await.unwrap();
    purposes.sort_by_key(|(domain, purpose)| (*domain, *purpose == CallsByAddress));
    assert_eq!(purposes, [(1, CallsByPassword), (2, CallsByPassword), (2, CallsByAddress)]);
}

pub(super) async fn an_application_of_an_earlier_version_stays_open(store: Store) {
    const APPLICATIONS: resources::Kind<Value> = resources::Kind::new("application");
    let row =
        |id, details| resources::Resource { id, ..resources::Resource::new(&AccountName::new("acme"), "app", details) };
    let other = |open| json!({ "public_application_connect_enabled": open });
    for (id, open) in [(1, true), (2, false)] {
        resources::put(&store, APPLICATIONS, &row(id, json!({ "other": other(open) }))).await.unwrap();
    }
    let (.., migration) = crate::MIGRATIONS[3];
    sqlx::query(migration).execute(&store.pool).await.unwrap();
    let details =
        async |id| resources::get(&store, APPLICATIONS, &AccountName::new("acme"), id).await.unwrap().unwrap().details;
    assert_eq!(details(1).await, json!({ "open": true, "other": other(true) }));
    assert_eq!(details(2).await, json!({ "other": other(false) }));
}

pub(super) async fn usage_of_days_that_are_over_is_the_same_as_before_and_after(store: Store) {
    const DAY: i64 = 86_400;
    let start = 20_000 * DAY;
    for number in 0..40_i64 {
        let began = start + number / 10 * DAY + number * 60;
        let row = CallRow {
            account: AccountName::new(if number % 4 == 0 { "below" } else { "acme" }),
            direction: if number % 3 == 0 { "inbound" } else { "outbound-api" }.into(),
            created_at: time(began),
            answered_at: Some(time(began + 5)),
            // The last call of the third day is still live.
            ended_at: (number != 29).then(|| time(began + 5 + number * 13)),
            ..call(1_000 + u128::try_from(number).unwrap())
        };
        calls::upsert(&store, row).await.unwrap();
        let row = RecordingRow {
            status: "completed".into(),
            started_at: time(began),
            ended_at: Some(time(began + 60)),
            duration_ms: Some(number * 9_000),
            ..recording(2_000 + u128::try_from(number).unwrap())
        };
        recordings::upsert(&store, row).await.unwrap();
    }
    let accounts = ["acme", "below"].map(AccountName::new);
    let day = |number: i64| Some(time(start + number * DAY));
    let ranges = [
        TimeRange::default(),
        TimeRange { since: day(1), before: day(2) },
        TimeRange { since: day(1), before: None },
        TimeRange { since: None, before: day(3) },
    ];
    let read = async || {
        let mut all = Vec::new();
        for range in ranges {
            for accounts in [&accounts[..], &accounts[1..]] {
                let mut calls = usage::calls(&store, accounts, range).await.unwrap();
                calls.sort_by(|a, b| (a.day, &a.direction).cmp(&(b.day, &b.direction)));
                let mut recordings = usage::recordings(&store, accounts, range).await.unwrap();
                recordings.sort_by_key(|row| row.day);
                all.push((calls, recordings));
            }
        }
        all
    };
    let before = read().await;
    assert!(before[0].0.len() > 6 && before[0].1.len() == 4);
    // The day with a live call is not over, and the day before the present day is not over either.
    assert_eq!(usage::settle(&store, time(start + 9 * DAY)).await.unwrap(), 2);
    assert_eq!(read().await, before);
    assert_eq!(usage::settle(&store, time(start + 9 * DAY)).await.unwrap(), 0);
    let ended = CallRow {
        direction: "outbound-api".into(),
        created_at: time(start),
        answered_at: Some(time(start + 2 * DAY + 29 * 60 + 5)),
        ended_at: Some(time(start + 2 * DAY + 29 * 60 + 65)),
        ..call(1_029)
    };
    calls::upsert(&store, ended).await.unwrap();
    let before = read().await;
    assert_eq!(usage::settle(&store, time(start + 5 * DAY)).await.unwrap(), 2);
    assert_eq!(read().await, before);
    calls::delete(&store, &AccountName::new("acme"), 1_001).await.unwrap();
    assert_eq!(read().await, before, "a deleted call stays in the usage of a day that is over");
}
