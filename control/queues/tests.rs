use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn names() -> (Arc<str>, Arc<str>) {
    ("acme".into(), "support".into())
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
    queues.list("acme", at(0)).into_iter().flat_map(|one| one.members).map(|member| member.leg.0).collect()
}

#[test]
fn who_comes_first_is_first_and_everybody_knows_how_they_stand() {
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
    assert_eq!(queues.list("acme", at(120)).len(), 1, "the queue stays");
    assert!(queues.list("other", at(120)).is_empty());
}

#[test]
fn a_full_queue_takes_nobody_and_a_called_one_makes_room() {
    let (account, name) = names();
    let queues = Queues::default();
    let id = queues.create(&account, &name, 1, at(0)).unwrap().queue.id;
    let _first = enter(&queues, 1, 1);
    let refused = queues.enter(&account, &name, None, LegId(2), at(2)).map(|_| ());
    assert_eq!(refused, Err(NotQueued::Full));
    queues.call("acme", id, None).unwrap();
    let _second = enter(&queues, 2, 3);
    queues.change("acme", id, None, Some(9), at(4)).unwrap();
    let refused = queues.enter(&account, &name, Some(1), LegId(3), at(5)).map(|_| ());
    assert_eq!(refused, Err(NotQueued::Full), "who comes may ask for fewer");
}

#[test]
fn one_caller_is_given_to_one_agent_only() {
    let queues = Queues::default();
    let caller = enter(&queues, 1, 0);
    let (first, pair) = take(&queues, 11);
    assert_eq!(legs(&pair), Some((1, 11)));
    let (_second, none) = take(&queues, 12);
    assert_eq!(none, None);
    assert!(queues.call("acme", caller.queue.id, None).is_none());
    assert_eq!(waiting(&queues), [0_u128; 0]);
    // The next caller goes to the second agent, which already waits.
    let next = enter(&queues, 2, 1);
    assert_eq!(legs(&next.pair), Some((2, 12)));
    drop(first);
}

#[test]
fn an_agent_who_has_gone_leaves_the_caller_where_it_stood() {
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
fn a_caller_who_has_gone_makes_room_for_the_next() {
    let queues = Queues::default();
    let first = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    let _second = enter(&queues, 2, 1);
    drop(first.membership);
    let (next, stuck) = queues.unpair(&pair.unwrap(), false);
    assert_eq!((legs(&next), stuck), (Some((2, 11)), false));
}

#[test]
fn two_who_are_there_and_cannot_be_brought_together_are_not_tried_again() {
    let queues = Queues::default();
    let _first = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    assert_eq!(queues.unpair(&pair.unwrap(), false), (None, true));
    assert_eq!(waiting(&queues), [1]);
    let (_other, pair) = take(&queues, 12);
    assert_eq!(legs(&pair), Some((1, 12)));
}

#[test]
fn a_caller_whose_turn_is_over_again_is_the_first_again() {
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
fn a_queue_is_deleted_only_when_nobody_waits_in_it() {
    let (account, name) = names();
    let queues = Queues::default();
    let id = queues.create(&account, &name, 5, at(0)).unwrap().queue.id;
    assert_eq!(queues.create(&account, &name, 5, at(0)), Err(QueueError::NameTaken));
    let caller = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    assert_eq!(queues.delete("acme", id), Err(QueueError::InUse), "it may have to wait again");
    drop((caller.membership, pair));
    assert_eq!(queues.delete("other", id), Err(QueueError::Unknown));
    queues.delete("acme", id).unwrap();
    // An agent that still waits receives the first caller of a new queue with the same name.
    let (_second, none) = take(&queues, 12);
    assert_eq!(none, None);
    assert_eq!(legs(&enter(&queues, 2, 1).pair), Some((2, 12)));
}

#[test]
fn a_queue_by_another_name_is_found_by_that_one() {
    let (account, name) = names();
    let queues = Queues::default();
    let caller = enter(&queues, 1, 0);
    let (taking, none) = queues.take(&account, &"sales".into(), LegId(11));
    assert_eq!(none, None);
    queues.create(&account, "taken", 5, at(0)).unwrap();
    let change = |to: &str| queues.change("acme", caller.queue.id, Some(to), None, at(9));
    assert_eq!(change("taken"), Err(QueueError::NameTaken));
    let (snapshot, pair) = change("sales").unwrap();
    assert_eq!((&*snapshot.queue.name, legs(&pair)), ("sales", Some((1, 11))));
    let made = queues.enter(&account, &name, None, LegId(2), at(10)).map_err(|_| ()).expect("there is room");
    assert!(made.new);
    drop(taking);
}

#[test]
fn an_account_has_only_so_many_queues() {
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
async fn queues_outlive_the_server_and_those_in_them_do_not() {
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
    let (changed, _) = queues.change("acme", made.id, Some("sales"), Some(9), at(8)).unwrap();
    keep(&store, &changed.queue).await.unwrap();
    forget(&store, &gone).await.unwrap();
    let found = Queues::load(&store).await.unwrap().list("acme", at(9));
    let nobody = QueueSnapshot { members: Vec::new(), average: Duration::ZERO, ..changed };
    assert_eq!(found, [nobody]);
}
