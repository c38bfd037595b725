//! A call is written in several states and read, and gives again what stands.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::conference::Participation;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::Quality;
use tandem_call::output::{Invite, LegCommand, Output};
use tandem_call::program::instruction::{Conference, Gather, Instruction};
use tandem_call::recording::{Recording, RecordingStatus};
use tandem_call::route::Decision;
use tandem_call::testing::{CallScript, RINGING, dial, file, gather, recording, target};
use tandem_id::{CallId, RecordingId};
use tandem_legs::internal::{CallChain, Deliver, InternalSignalling};
use tandem_legs::{MediaPart, Signalling};

use super::*;
use crate::call_state::{DelayedEnd, OwnRecording, PendingTeardown};

fn ringing() -> CallScript {
    let mut script = CallScript::runs(vec![Instruction::Dial(dial(&["+15550009"]))]);
    let called = script.newest();
    script.progresses(called, RINGING);
    script
}

fn bridged() -> CallScript {
    let mut script = ringing();
    let called = script.newest();
    script.answers(called);
    script
}

fn in_conference() -> CallScript {
    let participation = Participation::new("room");
    let conference = Conference { participation, time_limit: None, hangup_on_star: false, action: None };
    CallScript::runs(vec![Instruction::Conference(conference)])
}

fn gathering() -> CallScript {
    let mut script = CallScript::runs(vec![Instruction::Gather(Gather { prompts: vec![file("menu")], ..gather() })]);
    script.sends_digits("1");
    script
}

fn playing() -> CallScript {
    let mut script = CallScript::runs(vec![Instruction::Play(file("a"))]);
    script.advance(Duration::from_secs(7));
    script
}

fn recorded() -> CallScript {
    CallScript::runs(vec![Instruction::StartRecording(recording()), Instruction::Echo])
}

fn awaiting_a_document() -> CallScript {
    CallScript::inbound(Decision::Document { target: target("start"), fallback: None })
}

fn is_play(elapsed: Duration) -> impl Fn(&LegCommand) -> bool {
    move |command| matches!(command, LegCommand::Play { elapsed: Some(played), .. } if *played == elapsed)
}

/// A reversible change of the octets, in the place of an encryption.
fn encrypted(octets: &[u8]) -> Vec<u8> {
    octets.iter().map(|octet| octet ^ 0x5a).collect()
}

fn deliver() -> Deliver {
    Arc::new(|_, _| {})
}

/// The state of the script's call, in which each leg has a leg of this server as its far end. The shell knows something
/// of each kind.
fn state_of(script: CallScript) -> (CallState, Now) {
    let now = script.now;
    let mut state = CallState::new(script.call);
    let legs: Vec<_> = state.call.legs().map(|leg| leg.id).collect();
    for (number, leg) in (0..).zip(&legs) {
        let chain = CallChain::default();
        assert!(chain.try_add());
        let (signalling, _) = InternalSignalling::pair(&deliver(), *leg, LegId(900), &chain);
        let mut io = LegIo::incoming(*leg, Signalling::Internal(Box::new(signalling)));
        io.headers = HeaderFields::from([("X-A".to_owned(), number.to_string())]);
        io.handed_back = HeaderFields::from([("value".to_owned(), "1".to_owned())]);
        let mut live = LiveLeg::new(io);
        live.facts.quality = Some(Box::new(Quality { packets_in: number, ..Quality::default() }));
        live.facts.waiting_invite =
            (number > 0).then(|| Box::new(Invite::new(Address::from("+15550001"), Address::from("+15550002"))));
        state.legs.insert(*leg, Box::new(live));
    }
    let info = Arc::clone(state.call.leg(legs[0]).unwrap());
    let facts = &mut state.facts;
    facts.sessions.push(CallId(77));
    facts.sequences.insert(info.id, 3);
    let teardown =
        PendingTeardown { info: Some(Arc::clone(&info)), dialog: false, branches: vec![LegId(5)], media: true };
    facts.ended.insert(LegId(4), teardown);
    let own = Recording {
        id: RecordingId(6),
        leg: LegId(4),
        conference: None,
        spec: recording(),
        started_at: Timestamp::UNIX_EPOCH,
        ended_at: None,
        duration: None,
        limit: None,
        status: RecordingStatus::InProgress,
    };
    let end = Some(DelayedEnd { at: Timestamp::UNIX_EPOCH, leg: info });
    facts.own_recordings.insert(LegId(4), OwnRecording { facts: own, end });
    let mut headers = http::HeaderMap::new();
    for cookie in ["a=1", "b=2; Path=/x"] {
        headers.append(http::header::SET_COOKIE, cookie.parse().unwrap());
    }
    facts.cookie_jars.entry(CallId(1)).or_default().store(&"http://app.test/".parse().unwrap(), &headers);
    (state, now)
}

/// The parts that the owners of the handles have written, for each leg.
fn parts_of(state: &CallState) -> BTreeMap<LegId, LegParts> {
    let parts = |leg: &LegId| LegParts {
        dialogs: [(*leg, format!("dialog of {leg}").into())].into(),
        media: Some(MediaPart(Bytes::from(vec![0, 255, 7]))),
    };
    state.legs.keys().map(|leg| (*leg, parts(leg))).collect()
}

/// Writes the state, and reads it like another process.
fn restarted(state: &CallState, now: Now) -> CallState {
    let parts = parts_of(state);
    let octets = state.write(now, parts.clone(), |plain| encrypted(&plain)).unwrap();
    let snapshot = CallSnapshot::read(&octets, |octets| Some(encrypted(octets))).unwrap();
    let read: BTreeMap<LegId, LegParts> = snapshot.legs().map(|(id, _, parts)| (id, parts.clone())).collect();
    assert!(read == parts, "the new process resumes the dialogs and media sessions with the same parts");
    let attach = |id, io: LegIoSnapshot| {
        let internal = InternalSignalling::read(&deliver(), id, io.internal().unwrap(), None);
        Some(LegIo::read(io, Signalling::Internal(Box::new(internal)), None, now))
    };
    let restarted = snapshot.into_state(now, &Dialects::default(), attach).unwrap();
    let again = restarted.write(now, parts, |plain| encrypted(&plain)).unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(&encrypted(octets)).into_owned();
    assert_eq!(text(&again), text(&octets), "the state is written with the same octets again");
    restarted
}

fn outputs(mut state: CallState, now: Now) -> Vec<Output> {
    state.call.resume(now);
    std::iter::from_fn(|| state.call.poll_output()).collect()
}

#[test]
fn a_call_in_any_state_is_written_and_read_and_gives_its_commands_again() {
    // The name of the state, the call, the number of its legs, and the commands that the call gives again.
    type State = (&'static str, fn() -> CallScript, usize, Box<dyn Fn(&LegCommand) -> bool>);
    let states: [State; 6] = [
        ("ringing", ringing, 2, Box::new(|command| !matches!(command, LegCommand::Invite(_) | LegCommand::Hangup(_)))),
        ("bridged", bridged, 2, Box::new(|command| matches!(command, LegCommand::Bridge { .. }))),
        ("in a conference", in_conference, 1, Box::new(|command| matches!(command, LegCommand::JoinConference(_)))),
        ("gathering", gathering, 1, Box::new(|command| !matches!(command, LegCommand::Answer))),
        ("playing", playing, 1, Box::new(is_play(Duration::from_secs(7)))),
        (
            "recorded",
            recorded,
            1,
            Box::new(|command| matches!(command, LegCommand::Record { .. } | LegCommand::Echo(true))),
        ),
    ];
    for (name, script, legs, expected) in states {
        let (state, now) = state_of(script());
        assert_eq!(state.legs.len(), legs, "{name}");
        let restarted = restarted(&state, now);
        let outputs = outputs(restarted, now);
        let commands: Vec<_> = outputs
            .iter()
            .map(|output| match output {
                Output::Leg { command, .. } => command,
                other => panic!("{name}: {other:?}"),
            })
            .collect();
        assert!(commands.iter().all(|command| expected(command)), "{name}: {commands:?}");
        assert!(!commands.is_empty() || matches!(name, "ringing" | "gathering"), "{name}: nothing stands");
    }
}

#[test]
fn a_call_requests_its_document_again_after_a_restart() {
    let (state, now) = state_of(awaiting_a_document());
    let outputs = outputs(restarted(&state, now), now);
    assert!(matches!(&outputs[..], [Output::Fetch(_)]), "{outputs:?}");
}

#[test]
fn a_merged_call_is_written_with_the_facts_of_both_calls() {
    let (mut state, now) = state_of(playing());
    let mut other = CallScript::new(2);
    other.incoming(LegId(50), Decision::Commands);
    let (mut other, _) = state_of(other);
    other.facts.sequences.insert(LegId(50), 9);
    state.merge(now, other);
    let restarted = restarted(&state, now);
    assert_eq!(restarted.legs.len(), 2);
    assert_eq!(restarted.facts.sequences.get(&LegId(50)), Some(&9));
    assert_eq!(restarted.facts.sessions, state.facts.sessions);
    let facts = restarted.legs.get(&LegId(50)).map(|live| live.facts.clone());
    assert_eq!(facts, state.legs.get(&LegId(50)).map(|live| live.facts.clone()));
}

#[test]
fn a_leg_without_handles_is_left_out() {
    let (state, now) = state_of(bridged());
    let octets = state.write(now, parts_of(&state), |plain| plain).unwrap();
    let snapshot = CallSnapshot::read(&octets, |octets| Some(octets.to_vec())).unwrap();
    let read = snapshot.into_state(now, &Dialects::default(), |_, _| None).unwrap();
    assert!(read.legs.is_empty());
    assert_eq!(read.call.legs().count(), 2, "the call still has the leg, until the shell reports its end");
}

#[test]
fn octets_that_are_torn_or_forged_or_of_another_version_are_refused() {
    let (state, now) = state_of(bridged());
    let octets = state.write(now, parts_of(&state), |plain| plain).unwrap();
    let read = |octets: &[u8]| CallSnapshot::read(octets, |octets| Some(octets.to_vec())).map(|_| ());
    for length in (0..octets.len()).step_by(61) {
        assert!(matches!(read(&octets[..length]), Err(CallSnapshotError::Malformed(_))), "torn at {length}");
    }
    let mut newer = octets.clone();
    newer[0] += 1;
    assert_eq!(read(&newer), Err(CallSnapshotError::Version(VERSION + 1)));
    let forged = CallSnapshot::read(&octets, |_| None).map(|_| ());
    assert!(matches!(forged, Err(CallSnapshotError::Malformed(_))));
}
