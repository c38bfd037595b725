//! Sessions with recording servers (SIPREC).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::time::Duration;

use tandem_call::command::{Command, Refused};
use tandem_call::event::EventKind;
use tandem_call::header_fields::HeaderFields;
use tandem_call::output::LegCommand;
use tandem_call::program::instruction::Instruction;
use tandem_call::recording::Track;
use tandem_call::siprec::{SiprecFault, SiprecStatus};
use tandem_call::testing::*;

/// Returns the events of recording-server sessions so far, each as `name: status`.
fn reports(script: &CallScript) -> Vec<String> {
    let events = script.events();
    events
        .filter_map(|event| match &event.kind {
            EventKind::Siprec(facts) => {
                Some(format!("{}: {}", facts.spec.name.as_deref().unwrap_or_default(), facts.status))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_recording_session_runs_until_the_end_of_the_call() {
    let mut script = CallScript::runs(vec![Instruction::StartSiprec(siprec("a")), Instruction::Echo]);
    script.siprec_is(SiprecStatus::Started);
    assert!(script.has_command(script.leg(), |command| matches!(command, LegCommand::Echo(true))));
    script.advance(Duration::from_secs(120));
    assert_eq!(reports(&script), ["a: started"], "who has answered is waited for no more");
    script.hangs_up(script.leg());
    assert_eq!(reports(&script), ["a: started", "a: stopped"]);
    script.assert_settled();
}

#[test]
fn sessions_are_started_and_stopped_by_request_and_by_name() {
    let mut script = CallScript::runs(vec![Instruction::Echo]);
    let (first, name) = script.request(Command::StartSiprec(siprec("a"))).unwrap().siprec.unwrap();
    assert_eq!(name.as_deref(), Some("a"));
    let (second, _) = script.request(Command::StartSiprec(siprec("b"))).unwrap().siprec.unwrap();
    script.siprec_is(SiprecStatus::Started);
    let stopped = script.request(Command::StopNamedSiprec("b".into())).unwrap();
    assert_eq!(stopped.siprec, Some((second, Some("b".to_owned()))));
    assert_eq!(script.request(Command::StopNamedSiprec("b".into())), Err(Refused::NotRunning));
    assert_eq!(script.request(Command::StopSiprec(first)).unwrap().siprec, Some((first, Some("a".to_owned()))));
    assert_eq!(script.request(Command::StopSiprec(first)), Err(Refused::NotRunning));
    let nothing = "a: failed: nothing was recorded: the recording server had not answered when the session ended";
    assert_eq!(reports(&script), ["b: started", "b: stopped", nothing]);
}

#[test]
fn a_recording_that_never_began_is_a_failure_at_the_end_of_the_call() {
    for hangs_up in [true, false] {
        let mut script = CallScript::runs(vec![Instruction::StartSiprec(siprec("a")), Instruction::Echo]);
        script.advance(Duration::from_secs(2));
        if hangs_up {
            script.hangs_up(script.leg());
        } else {
            script.request(Command::Hangup { headers: HeaderFields::new() }).unwrap();
        }
        let failures: Vec<_> = script
            .events()
            .filter_map(|event| match &event.kind {
                EventKind::Siprec(facts) => Some(facts.status.clone()),
                _ => None,
            })
            .collect();
        assert!(
            matches!(&failures[..], [SiprecStatus::Failed(why)] if why.fault == SiprecFault::Timeout),
            "{failures:?}"
        );
        script.assert_settled();
    }
}

#[test]
fn a_leg_sends_at_most_four_tracks_to_recording_servers() {
    let one_way = |name: &str| {
        let mut spec = siprec(name);
        spec.track = Track::Inbound;
        spec
    };
    let mut script = CallScript::runs(vec![
        Instruction::StartSiprec(siprec("a")),
        Instruction::StartSiprec(one_way("b")),
        Instruction::StartSiprec(siprec("c")),
        Instruction::Echo,
    ]);
    assert_eq!(
        reports(&script),
        ["c: failed: the call already sends the maximum number of tracks to recording servers"]
    );
    assert!(script.request(Command::StartSiprec(one_way("d"))).is_ok());
    assert_eq!(script.request(Command::StartSiprec(one_way("e"))), Err(Refused::TooMany));
    script.request(Command::StopNamedSiprec("a".into())).unwrap();
    assert!(script.request(Command::StartSiprec(siprec("f"))).is_ok());
}

#[test]
fn a_call_continues_if_its_recording_server_does_not_answer() {
    let mut script = CallScript::runs(vec![Instruction::StartSiprec(siprec("a")), Instruction::Echo]);
    script.advance(Duration::from_secs(29));
    assert_eq!(reports(&script), Vec::<String>::new());
    script.advance(Duration::from_secs(1));
    assert_eq!(reports(&script), ["a: failed: the recording server did not answer in time"]);
    assert!(script.siprecs.is_empty(), "it is hung up");
    assert_eq!(script.ended.get(&script.leg()), None);
}

#[test]
fn a_call_continues_if_its_recording_server_refuses_or_hangs_up() {
    let mut script = CallScript::runs(vec![
        Instruction::StartSiprec(siprec("a")),
        Instruction::StartSiprec(siprec("b")),
        Instruction::Echo,
    ]);
    script.siprec_is(SiprecStatus::Failed(SiprecFault::Refused(503).because("503 Service Unavailable")));
    script.siprec_is(SiprecStatus::Started);
    script.siprec_is(SiprecStatus::Failed(SiprecFault::HungUp.because("it hung up")));
    assert_eq!(reports(&script).len(), 3);
    assert!(reports(&script)[2].ends_with("failed: it hung up"));
    script.hangs_up(script.leg());
    assert_eq!(reports(&script).len(), 3, "nothing is left to stop");
    script.assert_settled();
}
