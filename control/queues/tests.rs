use tandem_events::{Filter, Item, Kind};
use tandem_id::AccountName;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn names() -> (AccountName, Arc<str>) {
    (AccountName::new("acme"), "support".into())
}

fn enter(queues: &Queues, leg: u128, second: i64) -> EnterResult {
    let (account, name) = names();
    queues.enter(&account, &name, None, LegId(leg), at(second)).map_err(|_| ()).expect("there is room")
}

fn take(queues: &Queues, leg: u128) -> (AgentRequest, Option<Pair>) {
    let (account, name) = names();
    queues.take(&account, &name, LegId(leg))
}

fn legs(pair: &Option<Pair>) -> Option<(u128, u128)> {
    pair.as_ref().map(|pair| (pair.caller.0, pair.agent.0))
}

fn waiting(queues: &Queues) -> Vec<u128> {
    queues
        .list(&AccountName::new("acme"), at(0))
        .into_iter()
        .flat_map(|one| one.members)
        .map(|member| member.leg.0)
        .collect()
}

#[test]
fn callers_wait_in_order_of_arrival_and_know_their_position() {
    let queues = Queues::default();
    let first = enter(&queues, 1, 100);
    let second = enter(&queues, 2, 110);
    assert!(first.new && !second.new);
    let position = second.membership.position(at(120)).unwrap();
    let expected = QueuePosition {
        queue: first.queue.id,
        position: 2,
        size: 2,
        max_size: DEFAULT_QUEUE_SIZE,
        waited: Duration::from_secs(10),
        average: Duration::from_secs(15),
    };
    assert_eq!(position, expected);
    drop(first.membership);
    assert_eq!(second.membership.position(at(120)).unwrap().position, 1);
    drop(second.membership);
    assert_eq!(waiting(&queues), [0_u128; 0]);
    assert_eq!(queues.list(&AccountName::new("acme"), at(120)).len(), 1, "the queue stays");
    assert!(queues.list(&AccountName::new("other"), at(120)).is_empty());
}

#[test]
fn a_full_queue_refuses_callers_until_a_caller_is_called() {
    let (account, name) = names();
    let queues = Queues::default();
    let id = queues.create(&account, &name, 1, at(0)).unwrap().queue.id;
    let _first = enter(&queues, 1, 1);
    let refused = queues.enter(&account, &name, None, LegId(2), at(2)).map(|_| ());
    assert_eq!(refused, Err(NotQueued::Full));
    queues.call(&AccountName::new("acme"), id, None).unwrap();
    let _second = enter(&queues, 2, 3);
    queues.change(&AccountName::new("acme"), id, None, Some(9), at(4)).unwrap();
    let refused = queues.enter(&account, &name, Some(1), LegId(3), at(5)).map(|_| ());
    assert_eq!(refused, Err(NotQueued::Full), "who comes may ask for fewer");
}

#[test]
fn a_caller_is_paired_with_one_agent_only() {
    let queues = Queues::default();
    let caller = enter(&queues, 1, 0);
    let (first, pair) = take(&queues, 11);
    assert_eq!(legs(&pair), Some((1, 11)));
    let (_second, none) = take(&queues, 12);
    assert_eq!(none, None);
    assert!(queues.call(&AccountName::new("acme"), caller.queue.id, None).is_none());
    assert_eq!(waiting(&queues), [0_u128; 0]);
    // The next caller goes to the second agent, which already waits.
    let next = enter(&queues, 2, 1);
    assert_eq!(legs(&next.pair), Some((2, 12)));
    drop(first);
}

#[test]
fn a_caller_keeps_its_position_after_its_agent_left() {
    let queues = Queues::default();
    let _first = enter(&queues, 1, 0);
    let (taking, pair) = take(&queues, 11);
    let _second = enter(&queues, 2, 1);
    drop(taking);
    assert_eq!(queues.unpair(&pair.unwrap(), true), (None, false));
    assert_eq!(waiting(&queues), [1, 2]);
    // Another agent registers before the end of the first attempt.
    let (taking, pair) = take(&queues, 12);
    let (_other, none) = (take(&queues, 13).0, ());
    assert_eq!(none, ());
    drop(taking);
    let (next, _) = queues.unpair(&pair.unwrap(), true);
    assert_eq!(legs(&next), None, "the other has the second caller");
}

#[test]
fn an_agent_gets_the_next_caller_after_the_first_caller_left() {
    let queues = Queues::default();
    let first = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    let _second = enter(&queues, 2, 1);
    drop(first.membership);
    let (next, stuck) = queues.unpair(&pair.unwrap(), false);
    assert_eq!((legs(&next), stuck), (Some((2, 11)), false));
}

#[test]
fn a_pair_that_cannot_be_merged_is_not_tried_again() {
    let queues = Queues::default();
    let _first = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    assert_eq!(queues.unpair(&pair.unwrap(), false), (None, true));
    assert_eq!(waiting(&queues), [1]);
    let (_other, pair) = take(&queues, 12);
    assert_eq!(legs(&pair), Some((1, 12)));
}

#[test]
fn a_caller_who_must_wait_again_is_first_again() {
    let queues = Queues::default();
    let first = enter(&queues, 1, 0);
    let _second = enter(&queues, 2, 1);
    let (taking, _) = take(&queues, 11);
    assert_eq!((waiting(&queues), first.membership.position(at(2))), (vec![2], None));
    drop(taking);
    assert_eq!(first.membership.wait_again(), None);
    assert_eq!(waiting(&queues), [1, 2]);
}

#[test]
fn a_queue_with_callers_is_not_deleted() {
    let (account, name) = names();
    let queues = Queues::default();
    let id = queues.create(&account, &name, 5, at(0)).unwrap().queue.id;
    assert_eq!(queues.create(&account, &name, 5, at(0)), Err(QueueError::NameTaken));
    let caller = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    assert_eq!(queues.delete(&AccountName::new("acme"), id), Err(QueueError::InUse), "it may have to wait again");
    drop((caller.membership, pair));
    assert_eq!(queues.delete(&AccountName::new("other"), id), Err(QueueError::Unknown));
    queues.delete(&AccountName::new("acme"), id).unwrap();
    // An agent that still waits receives the first caller of a new queue with the same name.
    let (_second, none) = take(&queues, 12);
    assert_eq!(none, None);
    assert_eq!(legs(&enter(&queues, 2, 1).pair), Some((2, 12)));
}

#[test]
fn a_renamed_queue_is_found_by_its_new_name() {
    let (account, name) = names();
    let queues = Queues::default();
    let caller = enter(&queues, 1, 0);
    let (taking, none) = queues.take(&account, &"sales".into(), LegId(11));
    assert_eq!(none, None);
    queues.create(&account, "taken", 5, at(0)).unwrap();
    let change = |to: &str| queues.change(&AccountName::new("acme"), caller.queue.id, Some(to), None, at(9));
    assert_eq!(change("taken"), Err(QueueError::NameTaken));
    let (snapshot, pair) = change("sales").unwrap();
    assert_eq!((&*snapshot.queue.name, legs(&pair)), ("sales", Some((1, 11))));
    let made = queues.enter(&account, &name, None, LegId(2), at(10)).map_err(|_| ()).expect("there is room");
    assert!(made.new);
    drop(taking);
}

#[test]
fn the_number_of_queues_of_an_account_is_limited() {
    let (account, name) = names();
    let queues = Queues::default();
    for number in 0..MAX_QUEUES {
        queues.create(&account, &number.to_string(), 5, at(0)).unwrap();
    }
    assert_eq!(queues.create(&account, &name, 5, at(0)), Err(QueueError::TooMany));
    let refused = queues.enter(&account, &name, None, LegId(1), at(0)).map(|_| ());
    assert_eq!(refused, Err(NotQueued::TooManyQueues));
}

#[tokio::test]
async fn queues_survive_a_restart_without_their_callers() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}", directory.path().join("tandem.db").display())).await.unwrap();
    let (account, name) = names();
    let queues = Queues::default();
    let made = queues.create(&account, &name, 7, at(5)).unwrap().queue;
    let gone = queues.create(&account, "gone", 7, at(6)).unwrap().queue;
    let _caller = enter(&queues, 1, 7);
    for queue in [&made, &gone] {
        keep(&store, queue).await.unwrap();
    }
    let (changed, _) = queues.change(&AccountName::new("acme"), made.id, Some("sales"), Some(9), at(8)).unwrap();
    keep(&store, &changed.queue).await.unwrap();
    forget(&store, &gone).await.unwrap();
    let found = Queues::load(&store, Bus::default()).await.unwrap().list(&AccountName::new("acme"), at(9));
    let nobody = QueueSnapshot { members: Vec::new(), average: Duration::ZERO, ..changed };
    assert_eq!(found, [nobody]);
}

#[tokio::test]
async fn each_change_of_a_queue_is_an_event_with_the_number_of_waiting_legs() {
    let store = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/tandem.db", store.path().display());
    let (store, events) = (Store::open(&url).await.unwrap(), Bus::default());
    let queues = Queues::load(&store, events.clone()).await.unwrap();
    let mut changes = events.subscribe(Filter::kinds(&[Kind::Queue])).unwrap();
    let caller = enter(&queues, 1, 0);
    let other = enter(&queues, 2, 1);
    let (agent, pair) = take(&queues, 3);
    queues.unpair(&pair.unwrap(), true);
    drop(agent);
    drop((caller, other));
    queues.delete(&AccountName::new("acme"), queues.list(&AccountName::new("acme"), at(2))[0].queue.id).unwrap();
    for expected in [
        (QueueChange::Created, 0),
        (QueueChange::Waits(LegId(1)), 1),
        (QueueChange::Waits(LegId(2)), 2),
        (QueueChange::Agents, 2),
        (QueueChange::Called(LegId(1)), 1),
        (QueueChange::Waits(LegId(1)), 2),
        (QueueChange::Agents, 2),
        (QueueChange::Left(LegId(1)), 1),
        (QueueChange::Left(LegId(2)), 0),
        (QueueChange::Deleted, 0),
    ] {
        let Some(Item::Event(event)) = changes.next().await else { panic!("{expected:?} is missing") };
        let Event::Queue(event) = &*event else { panic!("{event:?}") };
        assert_eq!((event.change, event.waiting), expected);
        assert_eq!((event.account.as_str(), &*event.name), ("acme", "support"));
    }
    store.close().await;
}

#[test]
fn legs_that_waited_before_a_restart_get_their_positions_back() {
    let (queues, account, name) = (Queues::default(), AccountName::new("main"), Arc::from("support"));
    let first = queues.enter(&account, &name, None, LegId(1), at(100)).ok().unwrap();
    assert_eq!(queues.resume(&account, &Arc::from("other"), LegId(9), at(0), false).err(), Some(QueueError::Unknown));
    // The calls are resumed in any order. Leg 4 is being connected to an agent.
    let resumed = [(3, 70, false), (2, 50, false), (4, 60, true)]
        .map(|(leg, since, called)| queues.resume(&account, &name, LegId(leg), at(since), called).ok().unwrap().0);
    let id = first.queue.id;
    let positions = [1, 2, 3, 4].map(|leg| queues.position(id, LegId(leg), at(200)).map(|one| one.position));
    assert_eq!(positions, [Some(3), Some(1), Some(2), None]);
    let (_request, pair) = queues.take(&account, &name, LegId(7));
    assert_eq!(pair.map(|pair| pair.caller), Some(LegId(2)), "the first leg of which no agent has hold");
    drop(resumed);
    assert_eq!(queues.position(id, LegId(1), at(200)).map(|one| one.position), Some(1));
}
