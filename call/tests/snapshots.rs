//! The written state of a call: other versions, torn octets and octets that are not a state.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken expectation ends the test")]

use std::time::Duration;

use tandem_call::call::Call;
use tandem_call::command::Command;
use tandem_call::conference::{Change, Coaching};
use tandem_call::output::{EndReason, LegCommand};
use tandem_call::program::instruction::*;
use tandem_call::snapshot::CallSnapshotError;
use tandem_call::testing::*;
use tandem_id::LegId;

const SECOND: Duration = Duration::from_secs(1);

/// Creates a call in which a caller is bridged with the party of its dial. The bridge is recorded and streamed.
fn bridged() -> CallScript {
    let record = Some(DialRecord { from_ringing: false, spec: recording() });
    let dial = Dial { record, time_limit: Some(60 * SECOND), action: Some(target("dialed")), ..dial(&["+15550003"]) };
    let mut script = CallScript::runs(vec![
        Instruction::StartStream(stream("a")),
        Instruction::StartTranscription(Box::new(transcription("a"))),
        Instruction::Dial(dial),
        Instruction::Play(file("bye")),
    ]);
    let child = script.newest();
    script.answers(child);
    script
}

/// Returns the number of seconds until the next timer of a call that was read 10 s of wall-clock time later.
fn next_timer(script: &CallScript, octets: &[u8]) -> Option<Duration> {
    let mut now = script.now;
    now.time += jiff::SignedDuration::from_secs(10);
    let call = Call::read(octets, now).unwrap();
    call.poll_timeout().map(|at| at.saturating_duration_since(now.instant))
}

#[test]
fn a_timer_continues_with_the_time_that_has_passed_since_the_state_was_written() {
    let mut script = CallScript::runs(vec![Instruction::Pause(12 * SECOND)]);
    let octets = script.call.write(script.now).unwrap();
    assert_eq!(next_timer(&script, &octets), Some(2 * SECOND));
    script.advance(5 * SECOND);
    let octets = script.call.write(script.now).unwrap();
    assert_eq!(next_timer(&script, &octets), Some(Duration::ZERO), "the timer is due");
}

#[test]
fn a_state_of_another_version_is_refused_with_its_version() {
    let script = bridged();
    let mut octets = script.call.write(script.now).unwrap();
    for version in [0, 2, 255] {
        octets[0] = version;
        assert_eq!(Call::read(&octets, script.now).err(), Some(CallSnapshotError::Version(version)));
    }
}

#[test]
fn a_call_with_unpolled_outputs_is_not_written() {
    let mut script = CallScript::commanded();
    let request = tandem_call::command::Request { client_state: None, command: Command::Mute(true) };
    script.call.handle_request(script.now, LegId(1), request).unwrap();
    assert_eq!(script.call.write(script.now).err(), Some(CallSnapshotError::UnpolledOutputs));
    script.drain();
    assert!(script.call.write(script.now).is_ok());
}

#[test]
fn a_state_that_is_truncated_at_any_octet_is_malformed() {
    let script = bridged();
    let octets = script.call.write(script.now).unwrap();
    for length in 0..octets.len() {
        let read = Call::read(&octets[..length], script.now);
        assert!(matches!(read.err(), Some(CallSnapshotError::Malformed(_))), "torn at {length}");
    }
    let longer = [&octets[..], b"}"].concat();
    assert!(matches!(Call::read(&longer, script.now).err(), Some(CallSnapshotError::Malformed(_))));
}

#[test]
fn a_state_with_a_changed_octet_is_malformed_or_its_call_can_be_ended() {
    let script = bridged();
    let octets = script.call.write(script.now).unwrap();
    for index in 1..octets.len() {
        for change in [1, 2, 16, 128] {
            let mut changed = octets.clone();
            changed[index] ^= change;
            let Ok(mut call) = Call::read(&changed, script.now) else { continue };
            let legs: Vec<_> = call.legs().map(|leg| leg.id).collect();
            call.handle_timeout(script.now);
            for leg in legs {
                let reason = EndReason::HungUp;
                let ended = tandem_call::output::LegEvent::Ended { reason, sip_status: None, detail: None };
                call.handle_leg(script.now, leg, ended);
            }
            while call.poll_output().is_some() {}
        }
    }
}

#[test]
fn values_that_json_does_not_distinguish_are_restored() {
    for coach in [None, Some(None), Some(Some(Coaching::of(vec![LegId(7)])))] {
        let change = Change { hold: Some(None), coach: coach.clone(), ..Change::default() };
        let order = ExecuteCommand { command: Command::ChangeInConference(Box::new(change)), action: None };
        let silence = Play::once(AudioSource::Inline(vec![0, 1, 254, 255].into()));
        let mut script = CallScript::runs(vec![
            Instruction::Pause(SECOND),
            Instruction::ExecuteCommand(Box::new(order)),
            Instruction::Play(silence.clone()),
        ]);
        let octets = script.call.write(script.now).unwrap();
        script.call = Call::read(&octets, script.now).unwrap();
        assert_eq!(script.call.write(script.now).unwrap(), octets);
        script.advance(SECOND);
        let plays = |command: &LegCommand| matches!(command, LegCommand::Play { play, .. } if *play == silence);
        assert!(script.has_command(LegId(1), plays), "{coach:?}");
    }
}
