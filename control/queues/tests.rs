use tandem_events::{Bus, Event, Filter, Item, Kind, QueueChange};
use tandem_id::AccountName;
use tandem_id::node::NodeTag;
use tempfile::TempDir;

use super::*;

/// The queues of a server that is alone, with an empty database in a folder.
async fn queues() -> (Queues, TempDir) {
    let folder = TempDir::new().unwrap();
    (load(&folder, Bus::default()).await, folder)
}

async fn load(folder: &TempDir, events: Bus) -> Queues {
    let store = Store::open(&format!("sqlite:{}", folder.path().join("tandem.db").display())).await.unwrap();
    Queues::load(&store, events, Cluster::alone()).await.unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn names() -> (AccountName, Arc<str>) {
    (AccountName::new("acme"), "support".into())
}

fn enter(queues: &Queues, leg: u128, second: i64) -> EnterResult {
    let (account, name) = names();
    entered(queues.enter(&account, &name, None, LegId(leg), at(second))).expect("there is room")
}

fn entered(result: Option<Result<EnterResult, NotQueued>>) -> Result<EnterResult, NotQueued> {
    result.expect("no other node has the queue")
}

fn take(queues: &Queues, leg: u128) -> (AgentRequest, Option<Pair>) {
    let (account, name) = names();
    queues.take(&account, &name, LegId(leg))
}

/// Returns the reason why an operation was refused.
fn refusal<T>(result: Result<T, QueueFailure>) -> Option<QueueError> {
    match result {
        Err(QueueFailure::Refused(why)) => Some(why),
        _ => None,
    }
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

#[tokio::test]
async fn callers_wait_in_order_of_arrival_and_know_their_position() {
    let (queues, _folder) = queues().await;
    let first = enter(&queues, 1, 100);
    let second = enter(&queues, 2, 110);
    assert_eq!(first.queue.id, second.queue.id);
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

#[tokio::test]
async fn a_full_queue_refuses_callers_until_a_caller_is_called() {
    let (account, name) = names();
    let (queues, _folder) = queues().await;
    let id = queues.create(&account, &name, 1).await.unwrap().queue.id;
    let _first = enter(&queues, 1, 1);
    let refused = entered(queues.enter(&account, &name, None, LegId(2), at(2))).map(drop);
    assert_eq!(refused, Err(NotQueued::Full));
    let _called = queues.call(&AccountName::new("acme"), id, None).unwrap();
    let _second = enter(&queues, 2, 3);
    queues.change(&account, id, None, Some(9)).await.unwrap();
    let refused = entered(queues.enter(&account, &name, Some(1), LegId(3), at(5))).map(drop);
    assert_eq!(refused, Err(NotQueued::Full), "who comes may ask for fewer");
}

#[tokio::test]
async fn a_caller_is_paired_with_one_agent_only() {
    let (queues, _folder) = queues().await;
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

#[tokio::test]
async fn a_caller_keeps_its_position_after_its_agent_left() {
    let (queues, _folder) = queues().await;
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

#[tokio::test]
async fn an_agent_gets_the_next_caller_after_the_first_caller_left() {
    let (queues, _folder) = queues().await;
    let first = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    let _second = enter(&queues, 2, 1);
    drop(first.membership);
    let (next, stuck) = queues.unpair(&pair.unwrap(), false);
    assert_eq!((legs(&next), stuck), (Some((2, 11)), false));
}

#[tokio::test]
async fn a_pair_that_cannot_be_merged_is_not_tried_again() {
    let (queues, _folder) = queues().await;
    let _first = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    assert_eq!(queues.unpair(&pair.unwrap(), false), (None, true));
    assert_eq!(waiting(&queues), [1]);
    let (_other, pair) = take(&queues, 12);
    assert_eq!(legs(&pair), Some((1, 12)));
}

#[tokio::test]
async fn a_caller_who_must_wait_again_is_first_again() {
    let (queues, _folder) = queues().await;
    let first = enter(&queues, 1, 0);
    let _second = enter(&queues, 2, 1);
    let (taking, _) = take(&queues, 11);
    assert_eq!((waiting(&queues), first.membership.position(at(2))), (vec![2], None));
    drop(taking);
    assert_eq!(first.membership.wait_again(), None);
    assert_eq!(waiting(&queues), [1, 2]);
}

#[tokio::test]
async fn a_queue_with_callers_is_not_deleted() {
    let (account, name) = names();
    let (queues, _folder) = queues().await;
    let id = queues.create(&account, &name, 5).await.unwrap().queue.id;
    assert_eq!(refusal(queues.create(&account, &name, 5).await), Some(QueueError::NameTaken));
    let caller = enter(&queues, 1, 0);
    let (_taking, pair) = take(&queues, 11);
    assert_eq!(refusal(queues.delete(&account, id).await), Some(QueueError::InUse), "it may have to wait again");
    drop((caller.membership, pair));
    assert_eq!(refusal(queues.delete(&AccountName::new("other"), id).await), Some(QueueError::Unknown));
    queues.delete(&account, id).await.unwrap();
    // An agent that still waits receives the first caller of a new queue with the same name.
    let (_second, none) = take(&queues, 12);
    assert_eq!(none, None);
    assert_eq!(legs(&enter(&queues, 2, 1).pair), Some((2, 12)));
}

#[tokio::test]
async fn a_renamed_queue_is_found_by_its_new_name() {
    let (account, name) = names();
    let (queues, _folder) = queues().await;
    let (sender, connected) = std::sync::mpsc::channel();
    queues.connect_with(move |pair| sender.send(pair).unwrap());
    let caller = enter(&queues, 1, 0);
    let (taking, none) = queues.take(&account, &"sales".into(), LegId(11));
    assert_eq!(none, None);
    queues.create(&account, "taken", 5).await.unwrap();
    let taken = queues.change(&account, caller.queue.id, Some("taken"), None).await;
    assert_eq!(refusal(taken), Some(QueueError::NameTaken));
    let changed = queues.change(&account, caller.queue.id, Some("sales"), None).await.unwrap();
    let pair = connected.try_recv().ok();
    assert_eq!((&*changed.queue.name, legs(&pair)), ("sales", Some((1, 11))));
    assert!(changed.queue.updated_at > caller.queue.updated_at);
    let made = entered(queues.enter(&account, &name, None, LegId(2), at(10))).map_err(|_| ()).expect("there is room");
    assert_ne!(made.queue.id, caller.queue.id);
    drop(taking);
}

#[tokio::test]
async fn a_change_that_cannot_be_stored_is_undone() {
    let (account, _) = names();
    let (queues, _folder) = queues().await;
    let made = queues.create(&account, "support", 5).await.unwrap().queue;
    queues.0.store.close().await;
    assert!(matches!(queues.change(&account, made.id, Some("sales"), None).await, Err(QueueFailure::Store(_))));
    assert!(matches!(queues.create(&account, "other", 5).await, Err(QueueFailure::Store(_))));
    let names: Vec<_> = queues.list(&account, at(0)).into_iter().map(|one| one.queue.name).collect();
    assert_eq!(names, ["support".into()]);
    assert!(queues.named(&account, "support", at(0)).is_some());
}

#[tokio::test]
async fn the_number_of_queues_of_an_account_is_limited() {
    let (account, name) = names();
    let (queues, _folder) = queues().await;
    for number in 0..MAX_QUEUES {
        queues.0.table.lock().open(&(account.clone(), number.to_string().into()), 5, at(0)).unwrap();
    }
    assert_eq!(refusal(queues.create(&account, &name, 5).await), Some(QueueError::TooMany));
    let refused = entered(queues.enter(&account, &name, None, LegId(1), at(0))).map(drop);
    assert_eq!(refused, Err(NotQueued::TooManyQueues));
}

#[tokio::test]
async fn queues_survive_a_restart_without_their_callers() {
    let (account, _) = names();
    let (queues, folder) = queues().await;
    let made = queues.create(&account, "support", 7).await.unwrap().queue;
    let gone = queues.create(&account, "gone", 7).await.unwrap().queue;
    let _caller = enter(&queues, 1, 7);
    let changed = queues.change(&account, made.id, Some("sales"), Some(9)).await.unwrap();
    queues.delete(&account, gone.id).await.unwrap();
    let found = load(&folder, Bus::default()).await.list(&account, at(9));
    let [found] = <[QueueSnapshot; 1]>::try_from(found).unwrap();
    assert_eq!((found.queue.id, &*found.queue.name, found.queue.max_size), (made.id, "sales", 9));
    assert_eq!((found.waiting, found.members.len(), changed.waiting), (0, 0, 1));
}

#[tokio::test]
async fn a_queue_that_a_leg_creates_is_stored() {
    let (account, _) = names();
    let (queues, folder) = queues().await;
    let entered = enter(&queues, 1, 0);
    let id = entered.queue.id;
    let patience = std::time::Duration::from_secs(10);
    let is_stored = async {
        while !queues.0.table.lock().stored_ids().contains(&id) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, is_stored).await.expect("the queue is stored");
    assert!(load(&folder, Bus::default()).await.get(&account, id, at(0)).is_some());
}

#[tokio::test]
async fn each_change_of_a_queue_is_an_event_with_the_number_of_waiting_legs() {
    let (folder, events) = (TempDir::new().unwrap(), Bus::default());
    let queues = load(&folder, events.clone()).await;
    let mut changes = events.subscribe(Filter::kinds(&[Kind::Queue])).unwrap();
    let caller = enter(&queues, 1, 0);
    let other = enter(&queues, 2, 1);
    let (agent, pair) = take(&queues, 3);
    queues.unpair(&pair.unwrap(), true);
    drop(agent);
    let id = caller.queue.id;
    drop((caller, other));
    queues.delete(&AccountName::new("acme"), id).await.unwrap();
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
}

#[tokio::test]
async fn legs_that_waited_before_a_restart_get_their_positions_back() {
    let ((queues, _folder), account, name) = (queues().await, AccountName::new("main"), Arc::from("support"));
    let first = entered(queues.enter(&account, &name, None, LegId(1), at(100))).ok().unwrap();
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

#[tokio::test]
async fn a_caller_whose_reservation_is_dropped_waits_again_and_is_connected() {
    let (queues, _folder) = queues().await;
    let (sender, connected) = std::sync::mpsc::channel();
    queues.connect_with(move |pair| sender.send(pair).unwrap());
    let caller = enter(&queues, 1, 0);
    let reserved = queues.call(&AccountName::new("acme"), caller.queue.id, None).unwrap();
    assert_eq!((reserved.leg(), waiting(&queues)), (LegId(1), Vec::new()));
    let (_agent, none) = take(&queues, 11);
    assert_eq!(none, None);
    // The client has disconnected, and its request is dropped.
    drop(reserved);
    assert_eq!(legs(&connected.try_recv().ok()), Some((1, 11)));
}

#[tokio::test]
async fn a_caller_that_leaves_its_queue_stays_reserved_until_it_has_left() {
    let (queues, _folder) = queues().await;
    let caller = enter(&queues, 1, 0);
    let reserved = queues.call_first(&AccountName::new("acme"), "support").await.unwrap().unwrap();
    assert_eq!(reserved.leaves().leg, LegId(1));
    let (_agent, none) = take(&queues, 11);
    assert_eq!((none, waiting(&queues)), (None, Vec::new()));
    drop(caller);
}

// The following tests are about a node of a cluster. They use only the table.

/// A table of a node that owns the name.
fn owner() -> (QueueTable, Name) {
    let (mut table, name) = (QueueTable::new(Bus::default()), names());
    table.settle(&name, 1, None);
    (table, name)
}

/// A leg of the node with this epoch.
fn leg_of(epoch: u128, number: u128) -> LegId {
    LegId(number << 64 | epoch)
}

fn caller(leg: LegId, second: i64) -> Caller {
    Caller::new(leg, at(second))
}

fn order(table: &QueueTable, id: QueueId) -> Vec<LegId> {
    table.get(id).into_iter().flat_map(|live| live.snapshot(at(0)).members).map(|member| member.leg).collect()
}

fn stored(id: u128, name: &str, changed_at: i64) -> Queue {
    let (account, created_at) = (AccountName::new("acme"), at(0));
    Queue { id: QueueId(id), account, name: name.into(), max_size: 5, created_at, updated_at: at(changed_at) }
}

#[test]
fn a_leg_of_another_node_is_paired_when_its_node_is_ready_and_an_order_counts_once() {
    let (mut table, name) = owner();
    let guest = Caller { state: CallerState::Arriving, ..caller(leg_of(2, 1), 0) };
    let id = table.enter(&name, None, guest, at(0)).unwrap().queue.id;
    table.take(&name, Agent::new(leg_of(3, 1), at(1)));
    assert_eq!((table.pair(id), table.call(id, None)), (None, None));
    assert_eq!(table.position(id, guest.leg, at(5)).map(|one| one.position), Some(1));
    assert_eq!(table.order_to_wait(guest.ticket, 1), Some(id));
    let pair = table.pair(id).unwrap();
    assert_eq!((pair.caller, pair.agent), (guest.leg, leg_of(3, 1)));
    // The answer was lost, and the order is repeated.
    table.order_to_wait(guest.ticket, 1);
    table.take(&name, Agent::new(leg_of(3, 2), at(2)));
    assert_eq!(table.pair(id), None);
    table.order_to_wait(guest.ticket, 2);
    assert_eq!(table.pair(id).map(|pair| pair.agent), Some(leg_of(3, 2)));
    assert_eq!(table.order_to_wait(Ticket(0), 1), None);
}

#[test]
fn entries_of_a_dead_node_leave_and_a_pair_without_its_leg_is_given_up() {
    let (mut table, name) = owner();
    let legs = [(2, 1), (3, 1), (2, 2)].map(|(epoch, number)| leg_of(epoch, number));
    let id = legs.map(|leg| table.enter(&name, None, caller(leg, 0), at(0)).unwrap().queue.id)[0];
    table.take(&name, Agent::new(leg_of(3, 7), at(1)));
    let pair = table.pair(id).unwrap();
    assert_eq!(table.pair_again(&pair), Some(pair.clone()), "both still exist");
    assert_eq!(table.node_left(NodeTag::of_epoch(2).unwrap()), [name.clone(), name.clone()]);
    let next = table.pair_again(&pair).unwrap();
    assert_eq!((next.caller, next.agent), (legs[1], leg_of(3, 7)));
    table.node_left(NodeTag::of_epoch(3).unwrap());
    assert_eq!((table.pair_again(&next), order(&table, id)), (None, Vec::new()));
    assert!(table.agents(&name).is_empty());
}

#[test]
fn legs_that_are_registered_again_get_their_old_order_and_agents_too() {
    let (mut table, name) = owner();
    let queue = stored(9, "support", 0);
    // The legs of this node are registered after those of another node. A new leg has come already.
    let new = table.enter(&name, None, caller(leg_of(1, 9), 50), at(50)).unwrap().queue.id;
    let id = table.bring(&name, queue.clone()).queue.id;
    assert_eq!(id, new, "the queue that exists now");
    let early = caller(leg_of(3, 1), 10);
    for one in [caller(leg_of(2, 1), 20), early, caller(leg_of(2, 2), 40)] {
        table.enter_again(id, one);
    }
    // A repeated registration has no effect.
    table.enter_again(id, early);
    let called = Caller { state: CallerState::Called, ..caller(leg_of(3, 2), 30) };
    table.enter_again(id, called);
    assert_eq!(order(&table, id), [leg_of(3, 1), leg_of(2, 1), leg_of(2, 2), leg_of(1, 9)]);
    let (second, first) = (Agent::new(leg_of(1, 12), at(6)), Agent::new(leg_of(2, 11), at(5)));
    for agent in [second, first, second] {
        table.take_again(&name, agent);
    }
    assert_eq!(table.agents(&name), [first.leg, second.leg]);
    let pairs = [table.pair(id), table.pair(id), table.pair(id)].map(|pair| pair.map(|pair| (pair.caller, pair.agent)));
    assert_eq!(pairs, [Some((leg_of(3, 1), first.leg)), Some((leg_of(2, 1), second.leg)), None]);
}

#[test]
fn a_queue_that_the_next_owner_does_not_know_comes_with_its_legs() {
    let (mut table, name) = owner();
    let found = table.bring(&name, stored(9, "support", 0));
    assert_eq!((found.queue.id, found.is_new), (QueueId(9), true));
    assert!(!table.bring(&name, stored(9, "support", 0)).is_new);
    assert_eq!(table.id_of(&name), Some(QueueId(9)));
}

#[test]
fn a_name_is_owned_until_neither_a_queue_nor_an_agent_has_it() {
    let (mut table, name) = owner();
    let agent = Agent::new(leg_of(2, 1), at(0));
    table.take(&name, agent);
    assert_eq!(table.drop_unused(&name), None);
    let id = table.open(&name, 5, at(0)).unwrap().queue.id;
    assert_eq!(table.leave(agent.ticket), Some(name.clone()));
    assert_eq!(table.drop_unused(&name), None);
    table.remove(&name.0, id).unwrap();
    assert!(table.owns(&name));
    assert_eq!((table.drop_unused(&name), table.owns(&name)), (Some(1), false));
}

#[test]
fn a_node_that_takes_a_name_knows_the_queue_that_the_database_has() {
    let (mut table, name) = (QueueTable::new(Bus::default()), names());
    table.add_stored(stored(7, "support", 1));
    // The queue was renamed at another node, and another queue has its name now.
    table.settle(&name, 1, Some(stored(8, "support", 2)));
    assert_eq!(table.id_of(&name), Some(QueueId(8)));
    // The queue was deleted.
    table.settle(&name, 1, None);
    assert_eq!(table.id_of(&name), None);
    // The queue has another size now.
    table.settle(&name, 1, Some(stored(8, "support", 2)));
    table.settle(&name, 1, Some(Queue { max_size: 9, ..stored(8, "support", 3) }));
    assert_eq!(table.get(QueueId(8)).map(|live| live.queue.max_size), Some(9));
}

#[test]
fn a_read_of_the_stored_queues_does_not_undo_the_changes_of_the_owner() {
    let (mut table, name) = owner();
    table.add_stored(stored(7, "sales", 1));
    table.add_stored(stored(8, "old", 1));
    // The read began before the queue of the owner was stored.
    let own = table.open(&name, 5, at(5)).unwrap().queue.id;
    let known = table.stored_ids();
    table.replace(&known, vec![stored(7, "sales", 1), stored(9, "new", 3)]);
    let names = |table: &QueueTable| {
        let mut names: Vec<_> = table.all().map(|live| live.queue.name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&table), ["new", "sales", "support"]);
    // A later change here is newer than the stored state, and a change elsewhere is newer than the state here.
    table.stored(own);
    table.change(&name.0, QueueId(7), Some(&"shop".into()), None, at(4)).unwrap();
    let known = table.stored_ids();
    let read = vec![stored(7, "sales", 1), stored(9, "newest", 6), Queue { id: own, ..stored(0, "support", 5) }];
    table.replace(&known, read);
    assert_eq!(names(&table), ["newest", "shop", "support"]);
    // The queue was deleted here after the read.
    table.remove(&name.0, own).unwrap();
    table.replace(&known, vec![Queue { id: own, ..stored(0, "support", 5) }]);
    assert!(names(&table).is_empty());
}

#[test]
fn the_time_of_a_change_never_goes_back() {
    let (mut table, name) = owner();
    let id = table.open(&name, 5, at(100)).unwrap().queue.id;
    let changed = table.change(&name.0, id, None, Some(6), at(90)).unwrap();
    assert!(changed.updated_at > at(100));
}

#[test]
fn the_end_of_a_reservation_has_no_effect_on_a_later_one() {
    let (mut table, name) = owner();
    let one = caller(leg_of(2, 1), 0);
    let id = table.enter(&name, None, one, at(0)).unwrap().queue.id;
    let (member, first) = table.call(id, None).unwrap();
    assert_eq!((member.leg, member.position), (one.leg, 1));
    // The node of the leg lets it wait again, and an agent gets it.
    table.order_to_wait(one.ticket, 1);
    table.take(&name, Agent::new(leg_of(3, 1), at(1)));
    let pair = table.pair(id).unwrap();
    assert_eq!((table.release(first), order(&table, id)), (Some(id), Vec::new()));
    assert_eq!(table.pair_again(&pair), Some(pair.clone()));
    table.release(pair.hold);
    assert_eq!(order(&table, id), [one.leg]);
    table.leave(one.ticket);
    assert_eq!(table.release(pair.hold), None);
}

#[test]
fn a_repeated_registration_brings_the_latest_state() {
    let (mut table, name) = owner();
    let id = table.bring(&name, stored(9, "support", 0)).queue.id;
    let arriving = Caller { state: CallerState::Arriving, ..caller(leg_of(2, 1), 10) };
    let called = Caller { state: CallerState::Called, orders: 1, ..caller(leg_of(2, 2), 20) };
    let both = [arriving, called];
    both.into_iter().for_each(|one| table.enter_again(id, one));
    // The answer was lost. Meanwhile, both legs have got an order to wait.
    let later = both.map(|one| Caller { state: CallerState::Waiting, orders: one.orders + 1, ..one });
    later.into_iter().for_each(|one| table.enter_again(id, one));
    let reserved = [table.call(id, None), table.call(id, None)].map(|called| called.map(|(member, _)| member.leg));
    assert_eq!(reserved, [Some(arriving.leg), Some(called.leg)]);
    later.into_iter().for_each(|one| table.enter_again(id, one));
    assert_eq!(table.call(id, None), None, "an order counts once");
}

#[test]
fn an_arriving_leg_that_this_node_takes_over_is_paired_when_its_call_is_ready() {
    let (mut table, name) = owner();
    let id = table.bring(&name, stored(9, "support", 0)).queue.id;
    let one = Caller { state: CallerState::Arriving, ..caller(leg_of(1, 1), 10) };
    table.enter_again(id, one);
    table.take(&name, Agent::new(leg_of(2, 1), at(11)));
    assert_eq!(table.pair(id), None);
    assert_eq!(table.ready(one.ticket), Some(id));
    let pair = table.pair(id).unwrap();
    assert_eq!(pair.caller, one.leg);
    assert_eq!((table.ready(one.ticket), table.ready(Ticket(0))), (None, None));
    assert_eq!(table.pair_again(&pair), Some(pair.clone()), "it stays called");
}

#[test]
fn a_leg_in_another_queue_with_the_name_is_paired_under_the_queue_that_its_call_knows() {
    let (mut table, name) = owner();
    let id = table.open(&name, 5, at(0)).unwrap().queue.id;
    assert_eq!(table.bring(&name, stored(9, "support", 0)).queue.id, id);
    let one = Caller { queue: Some(QueueId(9)), ..caller(leg_of(2, 1), 10) };
    table.enter_again(id, one);
    assert_eq!(table.position(QueueId(9), one.leg, at(20)).map(|own| own.position), Some(1));
    table.take(&name, Agent::new(leg_of(3, 1), at(11)));
    let pair = table.pair(id).unwrap();
    assert_eq!((pair.caller, pair.queue), (one.leg, QueueId(9)));
    let (next, stuck) = table.unpair(&pair, true);
    assert_eq!((next, stuck, order(&table, id)), (None, false, vec![one.leg]));
}

#[test]
fn an_agent_that_asked_again_keeps_its_second_request() {
    let (mut table, name) = owner();
    let id = table.enter(&name, None, caller(leg_of(2, 1), 0), at(0)).unwrap().queue.id;
    let second_leg = table.enter(&name, None, caller(leg_of(2, 2), 1), at(1)).map(|_| leg_of(2, 2)).unwrap();
    let requests = [1, 2].map(|second| Agent::new(leg_of(3, 1), at(second)));
    table.take(&name, requests[0]);
    let first = table.pair(id).unwrap();
    // The end of the first request comes late.
    table.take(&name, requests[1]);
    let second = table.pair(id).unwrap();
    assert_eq!((second.caller, second.agent), (second_leg, first.agent));
    table.leave(requests[0].ticket);
    assert_eq!(table.unpair(&first, false), (None, false));
    assert_eq!(table.pair_again(&second), Some(second.clone()));
    assert_eq!(order(&table, id), [leg_of(2, 1)]);
}

#[test]
fn a_name_is_kept_while_its_queue_is_changed() {
    let (mut table, name) = owner();
    let new: Name = (name.0.clone(), "sales".into());
    table.settle(&new, 2, None);
    let id = table.open(&name, 5, at(0)).unwrap().queue.id;
    let names = [name.clone(), new.clone()];
    table.begin_change(&names);
    table.change(&name.0, id, Some(&new.1), None, at(1)).unwrap();
    assert_eq!((table.drop_unused(&name), table.drop_unused(&new)), (None, None), "the database has the old name");
    table.end_change(&names);
    assert_eq!((table.drop_unused(&name), table.drop_unused(&new)), (Some(1), None));
}

#[test]
fn a_new_queue_that_is_deleted_before_it_is_stored_is_not_stored() {
    let (mut table, name) = owner();
    let id = table.open(&name, 5, at(0)).unwrap().queue.id;
    assert!(table.begin_to_store());
    assert!(!table.begin_to_store(), "there is one task");
    assert_eq!((table.next_to_store(), table.unstored(id).map(|queue| queue.id)), (vec![id], Some(id)));
    table.stored(id);
    assert_eq!((table.next_to_store(), table.unstored(id)), (Vec::new(), None));
    assert!(table.begin_to_store(), "the task has ended");
    let other = table.open(&(name.0.clone(), "other".into()), 5, at(0)).unwrap().queue.id;
    table.remove(&name.0, other).unwrap();
    assert_eq!(table.unstored(other), None);
}
