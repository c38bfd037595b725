//! Legs of two nodes of a cluster that are bridged. Each node has its call, and in it a remote leg for the other leg.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken expectation ends the test")]

use std::sync::Arc;
use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::command::{Command, Refused, Request};
use tandem_call::event::{DialStatus, EventKind};
use tandem_call::fetch::FetchReason;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::Direction;
use tandem_call::output::{EndReason, LegCommand, LegEvent, Output};
use tandem_call::program::instruction::*;
use tandem_call::queue::QueueResult;
use tandem_call::refer::{ReferTarget, Referred};
use tandem_call::route::Decision;
use tandem_call::testing::*;
use tandem_id::{LegId, QueueId};

const SECOND: Duration = Duration::from_secs(1);
const QUEUE: QueueId = QueueId(5);
/// The first leg of each call.
const LEG: LegId = LegId(1);
/// The remote leg of each call.
const REMOTE: LegId = LegId(77);
/// The ids that the legs have for the other node.
const AGENT: LegId = LegId(101);
const CALLER: LegId = LegId(102);

/// The calls of two nodes, whose remote legs are connected.
struct Nodes {
    /// The call of the agent, or of the leg that asks for the bridge.
    near: CallScript,
    /// The call of the caller, or of the leg that is asked for.
    far: CallScript,
    /// The numbers of outputs of both calls that were carried to the other call.
    carried: (usize, usize),
}

impl Nodes {
    fn new(near: CallScript, far: CallScript) -> Self {
        Self { near, far, carried: (0, 0) }
    }

    /// An agent that dials a queue, and a caller that waits in the queue at another node.
    fn with_queue(dial: Dial) -> Self {
        let instructions = vec![Instruction::Dial(dial), Instruction::Pause(SECOND)];
        let mut far = CallScript::runs(vec![
            Instruction::Enqueue(Enqueue { action: None, ..enqueue("support") }),
            Instruction::Echo,
        ]);
        far.is_enqueued(Ok(QUEUE));
        Self::new(CallScript::runs(instructions), far)
    }

    /// Gives the agent the caller.
    fn connect(&mut self) {
        let caller = Arc::new(tandem_call::leg::LegInfo { id: CALLER, ..(**self.far.call.leg(LEG).unwrap()).clone() });
        self.near.call.handle_remote_caller(self.near.now, REMOTE, caller, LEG).unwrap();
        self.near.drain();
        let whisper = self.near.call.dequeue_whisper(LEG).cloned();
        let agent = Arc::new(tandem_call::leg::LegInfo { id: AGENT, ..(**self.near.call.leg(LEG).unwrap()).clone() });
        self.far.call.handle_remote_agent(self.far.now, (REMOTE, agent), (LEG, QUEUE), whisper).unwrap();
        self.far.drain();
        self.carry();
    }

    /// Bridges the first legs of both calls by a request to the near leg.
    fn bridge(&mut self, after: AfterBridge) -> Result<(), Refused> {
        let other = Arc::new(tandem_call::leg::LegInfo { id: CALLER, ..(**self.far.call.leg(LEG).unwrap()).clone() });
        let command = Command::Bridge { with: CALLER, after, if_free: false };
        let request = Request { client_state: None, command };
        self.near.call.handle_remote_bridge(self.near.now, (REMOTE, other), LEG, request)?;
        self.near.drain();
        let own = Arc::new(tandem_call::leg::LegInfo { id: AGENT, ..(**self.near.call.leg(LEG).unwrap()).clone() });
        self.far.call.handle_bridge_from_remote(self.far.now, (REMOTE, own), LEG, false)?;
        self.far.drain();
        self.carry();
        Ok(())
    }

    /// Carries what each remote leg is ordered to the other remote leg, until nothing is left.
    fn carry(&mut self) {
        loop {
            let (near, far) = (self.near.outputs.len(), self.far.outputs.len());
            let of_near = signals(&self.near, self.carried.0);
            let of_far = signals(&self.far, self.carried.1);
            self.carried = (near, far);
            if of_near.is_empty() && of_far.is_empty() {
                return;
            }
            of_near.into_iter().for_each(|event| self.far.feed_to(REMOTE, event));
            of_far.into_iter().for_each(|event| self.near.feed_to(REMOTE, event));
        }
    }

    fn hangs_up(&mut self, of: fn(&mut Self) -> &mut CallScript) {
        of(self).hangs_up(LEG);
        self.carry();
    }

    fn is_bridged(&self) -> bool {
        let bridged = |script: &CallScript| {
            let bridge = |event: &EventKind| matches!(event, EventKind::Bridged { .. });
            let parted = |event: &EventKind| matches!(event, EventKind::Unbridged);
            script.has_event(bridge) && !script.has_event(parted)
        };
        assert_eq!(bridged(&self.near), bridged(&self.far), "both nodes agree");
        bridged(&self.near)
    }

    fn settle(mut self) {
        for script in [&mut self.near, &mut self.far] {
            script.hangs_up(LEG);
        }
        self.carry();
        for script in [&mut self.near, &mut self.far] {
            script.close_recordings();
            script.assert_settled();
            assert!(script.events().all(|event| event.leg.id == LEG), "a remote leg has no events");
        }
    }
}

/// Returns the events that the outputs after the first `from` cause for the other remote leg.
fn signals(script: &CallScript, from: usize) -> Vec<LegEvent> {
    let ended = |reason| LegEvent::Ended { reason, sip_status: None, detail: None };
    let signal = |output: &Output| match output {
        Output::Leg { leg: REMOTE, command } => match &**command {
            LegCommand::Answer => Some(LegEvent::Answered { codec: None, headers: HeaderFields::new(), dialog: None }),
            LegCommand::Reject(_) => Some(ended(EndReason::Rejected)),
            LegCommand::Hangup(_) => Some(ended(EndReason::HungUp)),
            _ => None,
        },
        _ => None,
    };
    script.outputs.iter().skip(from).filter_map(signal).collect()
}

fn queue_result(script: &CallScript) -> Option<QueueResult> {
    script.events().rev().find_map(|event| match &event.kind {
        EventKind::Dequeued(outcome) => Some(outcome.result),
        _ => None,
    })
}

fn dialed(script: &CallScript) -> Option<(DialStatus, Option<LegId>)> {
    script.events().rev().find_map(|event| match &event.kind {
        EventKind::Dialed(result) => Some((result.status, result.child)),
        _ => None,
    })
}

#[test]
fn an_agent_takes_a_caller_of_another_node_and_each_sees_the_id_of_the_other() {
    let mut nodes = Nodes::with_queue(dequeue("support"));
    nodes.connect();
    assert!(nodes.is_bridged());
    let with = |script: &CallScript| {
        script.events().find_map(|event| match &event.kind {
            EventKind::Bridged { with } => Some(with.id),
            _ => None,
        })
    };
    assert_eq!((with(&nodes.near), with(&nodes.far)), (Some(CALLER), Some(AGENT)));
    assert!(nodes.near.has_command(LEG, |command| *command == LegCommand::StopDequeue));
    assert!(nodes.far.has_command(LEG, |command| *command == LegCommand::LeaveQueue));
    nodes.hangs_up(|nodes| &mut nodes.far);
    assert_eq!(dialed(&nodes.near), Some((DialStatus::Completed, Some(CALLER))));
    assert_eq!(queue_result(&nodes.far), Some(QueueResult::Bridged));
    nodes.settle();
}

#[test]
fn the_caller_continues_with_its_next_instruction_when_the_agent_hangs_up() {
    let mut nodes = Nodes::with_queue(dequeue("support"));
    nodes.connect();
    nodes.hangs_up(|nodes| &mut nodes.near);
    assert_eq!(queue_result(&nodes.far), Some(QueueResult::Bridged));
    assert_eq!(nodes.far.call.running_verb(LEG), Some("echo"));
    nodes.settle();
}

#[test]
fn the_caller_runs_the_whisper_document_at_its_own_node_before_the_bridge() {
    let whisper = Some(Dequeue { queue: "support".into(), whisper: Some(target("whisper")) });
    let mut nodes = Nodes::with_queue(Dial { queue: whisper, ..dequeue("support") });
    nodes.connect();
    assert!(!nodes.is_bridged());
    let fetch = nodes.far.document_requests().next_back().unwrap();
    assert!(matches!(fetch.reason, FetchReason::Called { by: AGENT, queue: QUEUE, .. }), "{:?}", fetch.reason);
    nodes.far.fetched(vec![]);
    nodes.carry();
    assert!(nodes.is_bridged());
    nodes.settle();
}

#[test]
fn the_caller_waits_again_if_the_agent_hangs_up_during_the_whisper_document() {
    let whisper = Some(Dequeue { queue: "support".into(), whisper: Some(target("whisper")) });
    let mut nodes = Nodes::with_queue(Dial { queue: whisper, ..dequeue("support") });
    nodes.connect();
    nodes.hangs_up(|nodes| &mut nodes.near);
    assert!(nodes.far.has_command(LEG, |command| *command == LegCommand::ReturnToQueue));
    assert_eq!(queue_result(&nodes.far), None);
    nodes.settle();
}

#[test]
fn the_agent_waits_for_the_next_caller_if_the_caller_has_left_the_queue() {
    let mut nodes = Nodes::with_queue(dequeue("support"));
    nodes.far.request(Command::LeaveQueue).unwrap();
    nodes.connect();
    let requests = nodes.near.commands(LEG).filter(|command| matches!(command, LegCommand::DequeueFirst { .. }));
    assert_eq!(requests.count(), 2);
    assert!(!nodes.is_bridged());
    nodes.settle();
}

#[test]
fn an_agent_that_waits_no_more_gets_no_caller() {
    let mut nodes = Nodes::with_queue(Dial { timeout: SECOND, ..dequeue("support") });
    nodes.near.advance(SECOND * 2);
    let caller = nodes.far.call.leg(LEG).unwrap().clone();
    let refused = nodes.near.call.handle_remote_caller(nodes.near.now, REMOTE, caller, LEG);
    assert_eq!(refused, Err(Refused::NotRunning));
    nodes.near.drain();
    nodes.settle();
}

#[test]
fn a_bridge_by_request_ends_as_the_request_says() {
    let mut nodes = Nodes::new(CallScript::commanded(), CallScript::commanded());
    nodes.bridge(AfterBridge::Continue).unwrap();
    assert!(nodes.is_bridged());
    nodes.hangs_up(|nodes| &mut nodes.far);
    assert!(nodes.near.call.leg(LEG).is_some_and(|leg| !leg.status.is_final()), "the near leg continues");
    nodes.settle();

    let mut nodes = Nodes::new(CallScript::commanded(), CallScript::commanded());
    nodes.bridge(AfterBridge::Continue).unwrap();
    nodes.hangs_up(|nodes| &mut nodes.near);
    assert_eq!(nodes.far.ended.get(&LEG), Some(&1), "the other leg is hung up");
    nodes.settle();
}

#[test]
fn a_bridge_with_a_ringing_leg_of_another_node_is_made_at_its_answer() {
    let far = CallScript::outbound(tandem_call::new_leg::OnAnswer::Wait);
    let mut nodes = Nodes::new(CallScript::commanded(), far);
    nodes.bridge(AfterBridge::Hangup).unwrap();
    assert!(!nodes.is_bridged());
    nodes.far.answers(LEG);
    nodes.carry();
    assert!(nodes.is_bridged());
    nodes.settle();
}

#[test]
fn the_remote_leg_of_a_planned_bridge_ends_with_its_leg() {
    let far = CallScript::outbound(tandem_call::new_leg::OnAnswer::Wait);
    let mut nodes = Nodes::new(CallScript::commanded(), far);
    nodes.bridge(AfterBridge::Hangup).unwrap();
    nodes.hangs_up(|nodes| &mut nodes.near);
    nodes.near.assert_settled();
    nodes.settle();
}

#[test]
fn a_leg_that_has_ended_cannot_be_bridged_from_another_node() {
    let mut nodes = Nodes::new(CallScript::commanded(), CallScript::inbound(Decision::Commands));
    nodes.far.request(Command::Hangup { headers: HeaderFields::new() }).unwrap();
    let own = Arc::new((**nodes.near.call.leg(LEG).unwrap()).clone());
    let refused = nodes.far.call.handle_bridge_from_remote(nodes.far.now, (REMOTE, own), LEG, false);
    assert_eq!(refused, Err(Refused::CannotBridge));
}

#[test]
fn a_leg_that_rings_cannot_be_bridged_by_its_own_request_with_a_leg_of_another_node() {
    let near = CallScript::outbound(tandem_call::new_leg::OnAnswer::Wait);
    let mut nodes = Nodes::new(near, CallScript::commanded());
    assert_eq!(nodes.bridge(AfterBridge::Hangup), Err(Refused::NotAnswered));
    nodes.settle();
}

#[test]
fn two_legs_that_ask_for_each_other_are_bridged_by_one_of_the_requests() {
    // The far end of the other request has a higher or a lower id than this leg.
    for (other, refused) in [(AGENT, Err(Refused::AlreadyRunning)), (LegId(0), Ok(()))] {
        let mut script = CallScript::commanded();
        let other = Arc::new(tandem_call::leg::LegInfo { id: other, ..info(other, Direction::Inbound) });
        let command = Command::Bridge { with: other.id, after: AfterBridge::Hangup, if_free: false };
        let request = Request { client_state: None, command };
        script.call.handle_remote_bridge(script.now, (REMOTE, other.clone()), LEG, request).unwrap();
        assert!(script.call.is_joined_with(LEG, other.id), "a repeated request changes nothing");
        let answer = script.call.handle_bridge_from_remote(script.now, (LegId(78), other), LEG, false);
        assert_eq!(answer, refused);
        script.drain();
    }
}

#[test]
fn a_transfer_of_a_caller_of_another_node_shows_the_caller_and_not_the_remote_leg() {
    let mut nodes = Nodes::with_queue(dequeue("support"));
    nodes.connect();
    let caller = nodes.far.call.leg(LEG).unwrap().from.clone();
    let target = ReferTarget::Call {
        to: Address::Name("target".into()),
        headers: HeaderFields::new(),
        replaces: None,
        credentials: None,
        via: Vec::new(),
    };
    let referred = Referred { uri: "sip:x@y".into(), by: None, target };
    nodes.near.feed_to(LEG, LegEvent::Referred(Box::new(referred)));
    let dialled = nodes.near.newest();
    let leg = nodes.near.call.leg(dialled).unwrap();
    assert_eq!((leg.parent, &leg.from), (Some(CALLER), &caller));
    nodes.near.answers(dialled);
    nodes.carry();
    assert_eq!(dialed(&nodes.near).and_then(|(_, child)| child), Some(CALLER));
    assert_eq!(nodes.near.ended.get(&LEG), Some(&1), "the referrer has left");
    nodes.far.hangs_up(LEG);
    nodes.carry();
    assert_eq!(nodes.near.ended.get(&dialled), Some(&1));
    nodes.near.assert_settled();
}
