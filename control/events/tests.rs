use jiff::Timestamp;
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::leg::Quality;
use tandem_call::testing::CallScript;
use tandem_history::event_log::Line;
use tandem_history::live_log::{Entry, LogEntry};
use tandem_history::report::Report;
use tandem_id::{AccountName, CallId, LegId};
use tandem_sip as sip;
use tandem_store::resources::Resource;

use super::*;

/// An event of a leg that is not its end.
fn initiated() -> CallEvent {
    CallScript::commanded().events().next().unwrap().clone()
}

fn ended(event: &CallEvent) -> CallEvent {
    CallEvent { kind: EventKind::Ended, ..event.clone() }
}

fn phone(username: &str) -> Event {
    let (account, username) = (AccountName::new("acme"), username.into());
    Event::Phone(PhoneEvent { account, username, domain: None, registered: true })
}

/// Returns the next event of a phone as text, or the number of missed events.
async fn next_phone(subscription: &mut Subscription) -> String {
    match subscription.next().await.unwrap() {
        Item::Missed(count) => format!("missed {count}"),
        Item::Away(nodes) => format!("away {nodes:?}"),
        Item::Event(event) => match &*event {
            Event::Phone(phone) => phone.username.to_string(),
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn an_event_without_a_reader_is_never_built() {
    let bus = Bus::default();
    let acme = AccountName::new("acme");
    let topic = Topic::new(Kind::Phone, &acme);
    bus.publish(topic, || unreachable!("no subscription"));
    let _calls = bus.subscribe(Filter::kinds(&[Kind::Call])).unwrap();
    bus.publish(topic, || unreachable!("a subscription to another kind"));
    let _other = bus.subscribe(Filter::kinds(&[Kind::Phone]).of_account(AccountName::new("other"))).unwrap();
    bus.publish(topic, || unreachable!("a subscription of another account"));
}

#[test]
fn an_event_kind_has_readers_as_long_as_a_subscription_selects_it() {
    let bus = Bus::default();
    let one = bus.subscribe(Filter::kinds(&[Kind::Phone, Kind::Trunk])).unwrap();
    let other = bus.subscribe(Filter::kinds(&[Kind::Phone])).unwrap();
    assert!(bus.wants(Kind::Phone) && bus.wants(Kind::Trunk) && !bus.wants(Kind::Call));
    drop(one);
    assert!(bus.wants(Kind::Phone) && !bus.wants(Kind::Trunk));
    drop(other);
    assert!(Kind::ALL.iter().all(|kind| !bus.wants(*kind)));
}

#[tokio::test]
async fn a_publisher_can_wait_for_the_first_reader_of_an_event_kind() {
    let bus = Bus::default();
    let waiting = bus.clone();
    let wanted = tokio::spawn(async move { waiting.wanted(Kind::LegQuality).await });
    tokio::task::yield_now().await;
    let _phones = bus.subscribe(Filter::kinds(&[Kind::Phone])).unwrap();
    tokio::task::yield_now().await;
    assert!(!wanted.is_finished());
    let _quality = bus.subscribe(Filter::kinds(&[Kind::LegQuality])).unwrap();
    wanted.await.unwrap();
}

#[test]
fn a_filter_selects_only_events_that_match_each_of_its_fields() {
    let event = initiated();
    let topic = Topic::from(&event);
    let (leg, session) = (event.leg.id, event.leg.session);
    let calls = || Filter::kinds(&[Kind::Call]);
    for (filter, selects) in [
        (calls(), true),
        (Filter::kinds(&[Kind::Log]), false),
        (Filter::leg(leg), true),
        (Filter::leg(LegId(leg.0 + 1)), false),
        (calls().of_session(session), true),
        (calls().of_session(CallId(session.0 + 1)), false),
        (calls().of_account(event.leg.account.clone()), true),
        (calls().of_account(AccountName::new("another")), false),
        (Filter::leg(leg).of_account(AccountName::new("another")), false),
    ] {
        assert_eq!(filter.selects(&topic), selects, "{filter:?}");
    }
    assert!(
        !calls().of_session(session).selects(&Topic::new(Kind::Call, &AccountName::server())),
        "an event of no call"
    );
    assert!(
        calls().of_account(AccountName::new("another")).selects(&Topic::new(Kind::Call, &AccountName::server())),
        "an event of no account"
    );
}

#[tokio::test]
async fn each_reader_of_a_leg_receives_all_events_until_the_leg_ends() {
    let bus = Bus::default();
    let event = initiated();
    let leg = event.leg.id;
    let (mut one, mut other) = (bus.subscribe(Filter::leg(leg)).unwrap(), bus.subscribe(Filter::leg(leg)).unwrap());
    bus.publish_call(&event);
    assert!(one.next_of_leg().await.is_some() && other.next_of_leg().await.is_some());
    drop(one);
    bus.publish_call(&event);
    assert!(other.next_of_leg().await.is_some(), "the end of one subscription is not the end of the other");
    bus.publish_call(&ended(&event));
    bus.publish_call(&event);
    assert!(matches!(other.next_of_leg().await, Some(CallEvent { kind: EventKind::Ended, .. })));
    assert!(other.next_of_leg().await.is_none(), "no event follows the end");
    assert!(!bus.wants(Kind::Call));
}

#[tokio::test]
async fn a_slow_reader_misses_the_oldest_events_and_learns_their_number() {
    let bus = Bus::default();
    let phones = || bus.subscribe(Filter::kinds(&[Kind::Phone])).unwrap();
    let (mut slow, mut quick) = (phones(), phones());
    for number in 0..1_026 {
        bus.publish(Topic::new(Kind::Phone, &AccountName::new("acme")), || phone(&number.to_string()));
        assert_eq!(next_phone(&mut quick).await, number.to_string());
    }
    assert_eq!(next_phone(&mut slow).await, "missed 2");
    for number in 2..1_026 {
        assert_eq!(next_phone(&mut slow).await, number.to_string());
    }
}

/// The events of the node of `bus` that another node with these filters gets, as a bus of the other node.
async fn forward(filters: Vec<Filter>, events: impl FnOnce(&Bus), other: &Bus) {
    let bus = Bus::default();
    // The filters come over the bus of the cluster.
    let filters: Vec<Filter> = serde_json::from_str(&serde_json::to_string(&filters).unwrap()).unwrap();
    let mut forwarded = bus.subscribe_to_any(filters).unwrap();
    assert!(bus.interest().is_empty(), "a node does not ask for the events that it forwards");
    events(&bus);
    while let Some(Item::Event(event)) = forwarded.waiting() {
        let text = serde_json::to_string(&event).unwrap();
        other.publish_of_other_node(serde_json::from_str(&text).unwrap());
    }
}

#[tokio::test]
async fn the_events_of_other_nodes_come_to_the_readers_that_ask_for_them() {
    let bus = Bus::default();
    let acme = AccountName::new("acme");
    let phones = || Filter::kinds(&[Kind::Phone]);
    let mut own = bus.subscribe(phones()).unwrap();
    assert!(bus.interest().is_empty());
    let mut everywhere = bus.subscribe(phones().of_account(acme.clone()).everywhere()).unwrap();
    let _same = bus.subscribe(phones().of_account(acme.clone()).everywhere()).unwrap();
    let mut calls = bus.subscribe(Filter::kinds(&[Kind::Call]).everywhere()).unwrap();
    assert_eq!(bus.interest().len(), 2, "each filter once");
    bus.interest_changed().await;
    let (event, other) = (initiated(), AccountName::new("other"));
    let publish = |node: &Bus| {
        node.publish(Topic::new(Kind::Phone, &other), || unreachable!("no reader may see it"));
        node.publish(Topic::new(Kind::Phone, &acme), || phone("100"));
        node.publish_call(&event);
    };
    forward(bus.interest(), publish, &bus).await;
    assert_eq!(next_phone(&mut everywhere).await, "100");
    assert!(everywhere.waiting().is_none() && own.waiting().is_none());
    let Some(Item::Event(received)) = calls.waiting() else { panic!("no call") };
    assert!(matches!(&*received, Event::Call(received) if *received == event), "an event keeps each field");
    drop((everywhere, _same, calls));
    bus.interest_changed().await;
    assert!(bus.interest().is_empty());
}

#[test]
fn an_event_keeps_its_topic_on_the_way_to_another_node() {
    let (account, session) = (AccountName::new("acme"), CallId(7));
    let report = Report {
        cause: None,
        code: Some(1),
        message: "x".into(),
        hint: None,
        call: None,
        session: Some(session.to_string()),
        request: None,
    };
    let line = Line { at: Timestamp::UNIX_EPOCH, leg: None, kind: "call".into(), text: "x".into(), data: None };
    let (leg, dialect, quality) = (LegId(u128::MAX), "twilio".into(), Quality::default());
    let measured = LegQuality {
        at: Timestamp::UNIX_EPOCH,
        leg,
        session,
        account: account.clone(),
        dialect,
        quality,
        lacks_audio: true,
        is_busy: false,
    };
    let verb = VerbChange { leg, session, account: account.clone(), verb: Some("say".into()) };
    for event in [
        Event::Call(initiated()),
        Event::Problem(ProblemEvent { leg: Some(leg), report: Resource::new(&account, "error", report) }),
        Event::Log(LogEntry { session, entry: Entry::Line(line) }),
        Event::LegQuality(measured),
        Event::Verb(verb),
        Event::Trunk(TrunkEvent { trunk: "t".into(), account: None, status: sip::TrunkStatus::default() }),
        phone("100"),
    ] {
        let text = serde_json::to_string(&event).unwrap();
        let other: Event = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{other:?}"), format!("{event:?}"));
        assert_eq!(format!("{:?}", other.topic()), format!("{:?}", event.topic()));
    }
}

#[tokio::test]
async fn a_reader_of_all_nodes_learns_how_many_events_were_lost_and_which_nodes_are_away() {
    let bus = Bus::default();
    let everywhere = || bus.subscribe(Filter::kinds(&[Kind::Phone]).everywhere()).unwrap();
    let (mut reader, mut own) = (everywhere(), bus.subscribe(Filter::kinds(&[Kind::Phone])).unwrap());
    bus.missed_of_other_node(3);
    bus.missed_of_other_node(4);
    assert!(matches!(reader.next().await, Some(Item::Missed(7))));
    bus.set_away(["b".into()].into());
    let names = |item| if let Some(Item::Away(names)) = item { names.to_vec() } else { panic!("{item:?}") };
    assert_eq!(names(reader.next().await), ["b".into()]);
    assert_eq!(names(everywhere().next().await), ["b".into()], "a later reader learns the names too");
    bus.set_away([].into());
    assert!(names(reader.next().await).is_empty());
    assert!(everywhere().waiting().is_none() && own.waiting().is_none());
}

#[test]
fn subscriptions_to_legs_leave_room_for_other_subscriptions() {
    let bus = Bus::default();
    let fill = |filter: &dyn Fn() -> Filter| {
        std::iter::from_fn(|| bus.subscribe(filter()).ok()).take(10_000).collect::<Vec<_>>()
    };
    let of_legs = fill(&|| Filter::leg(LegId(1)));
    let others = fill(&|| Filter::kinds(&[Kind::Call]));
    assert_eq!((of_legs.len(), others.len()), (1_000, 256));
    assert_eq!(bus.subscribe(Filter::leg(LegId(2))).err(), Some(TooManySubscriptions));
    drop(of_legs);
    bus.subscribe(Filter::leg(LegId(2))).unwrap();
}
