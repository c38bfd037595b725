use tandem_id::AccountName;

use super::*;
use crate::Method;
use crate::Target;
use crate::conference::Change;
use crate::leg::{Direction, LegEnd};
use crate::recording::{RecordingChannels, RecordingFormat, RecordingSource, Track};

/// A conference, and the orders and events that it has returned as outputs.
struct Script {
    conference: Conference,
    commands: Vec<Output>,
    events: Vec<ConferenceEvent>,
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const RECORDING: RecordingId = RecordingId(77);

fn leg(number: u128) -> LegId {
    LegId(number)
}

fn info(number: u128) -> Arc<LegInfo> {
    let mut info = crate::testing::info(leg(number), Direction::Inbound);
    info.status = Status::InProgress;
    Arc::new(info)
}

fn over(number: u128, by: EndedBy) -> LegInfo {
    let mut info = LegInfo::clone(&info(number));
    info.status = Status::Completed;
    let cause = crate::leg::EndCause::NormalClearing;
    info.end = Some(LegEnd { at: NOW, cause, by, sip_status: None, detail: None, failure: None });
    info
}

fn spec() -> RecordingSpec {
    RecordingSpec {
        transcribe: false,
        source: RecordingSource::Conference,
        channels: RecordingChannels::Mono,
        track: Track::Both,
        format: RecordingFormat::Wav,
        trim: true,
        max_length: None,
        silence_timeout: None,
        beep: false,
        callback: None,
    }
}

fn document(path: &str) -> Target {
    Target { url: format!("http://app.test/{path}").into(), method: Method::Post }
}

fn room() -> Participation {
    Participation::new("room")
}

impl Script {
    fn opened(max_participants: u16, opening: Option<ConferenceSettings>) -> Self {
        let (account, dialect, name) = (&AccountName::new("main"), &"test".into(), &"room".into());
        let spec = ConferenceSpec { account, dialect, name, max_participants, opening: opening.map(Arc::new) };
        let conference = Conference::open(ConferenceId(9), spec, NOW);
        let mut script = Self { conference, commands: Vec::new(), events: Vec::new() };
        script.drain();
        script
    }

    fn new() -> Self {
        Self::opened(250, None)
    }

    /// Lets a participant join. The conference does not start by itself. A test starts it with `start`.
    fn come(&mut self, number: u128, participation: Participation) {
        self.conference.enter(NOW, &info(number), participation).unwrap();
        self.conference.handle_joined(NOW, leg(number));
        self.drain();
    }

    fn start(&mut self) {
        self.conference.handle_started(NOW, RECORDING);
        self.drain();
    }

    fn leave(&mut self, leg: &LegInfo, why: LeaveReason) {
        self.conference.leave(NOW, &Arc::new(leg.clone()), why);
        self.conference.handle_left(NOW, leg.id);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.conference.poll_output() {
            match output {
                Output::Event(event) => self.events.push(*event),
                command => self.commands.push(command),
            }
        }
        // Every test also shows that a conference that is written and read continues like the original.
        self.conference = Conference::read(&self.conference.write().unwrap()).unwrap();
    }

    fn words(&self) -> Vec<String> {
        self.events
            .iter()
            .filter(|event| event.kind != ConferenceEventKind::Entered)
            .map(|event| word(&event.kind))
            .collect()
    }

    fn end(&self) -> (EndCause, Option<LegId>) {
        let end = self.conference.info().end.clone().unwrap();
        (end.cause, end.by)
    }
}

fn word(kind: &ConferenceEventKind) -> String {
    match kind {
        ConferenceEventKind::Opened => "opened".into(),
        ConferenceEventKind::Entered => "entered".into(),
        ConferenceEventKind::ActiveSpeaker(who) => format!("leads {}", who.leg.0),
        ConferenceEventKind::Played(audio) => format!("played {:?} {}", audio.to, audio.over),
        ConferenceEventKind::Expected(who) => format!("expected {}", who.leg.0),
        ConferenceEventKind::Joined(who) => format!("joined {}", who.leg.0),
        ConferenceEventKind::Left { participant, why, .. } => format!("left {} {why:?}", participant.leg.0),
        ConferenceEventKind::Started => "started".into(),
        ConferenceEventKind::Ended => "ended".into(),
        ConferenceEventKind::Muted(who) => format!("muted {} {}", who.leg.0, who.participation.muted),
        ConferenceEventKind::Held(who) => format!("held {} {}", who.leg.0, who.participation.hold.is_some()),
        ConferenceEventKind::Modified(who) => format!("modified {}", who.leg.0),
        ConferenceEventKind::Speaks { participant, speaks } => format!("speaks {} {speaks}", participant.leg.0),
        ConferenceEventKind::Announced { to, failure, .. } => format!("announced {} {failure:?}", to.is_some()),
        ConferenceEventKind::Recording(recording) => format!("recording {}", recording.status),
        ConferenceEventKind::Stream(stream) => format!("stream {}", stream.status),
    }
}

#[test]
fn a_conference_ends_when_its_last_participant_leaves() {
    let mut script = Script::new();
    script.come(1, room());
    script.come(2, room());
    script.start();
    script.leave(&over(1, EndedBy::FarEnd), LeaveReason::Ended);
    assert!(!script.commands.contains(&Output::Close));
    script.leave(&info(2), LeaveReason::Itself);
    assert!(script.commands.contains(&Output::Close) && script.conference.is_closing());
    script.conference.handle_over(NOW);
    script.drain();
    let words = ["opened", "joined 1", "joined 2", "started", "left 1 Itself", "left 2 Itself", "ended"];
    assert_eq!(script.words(), words);
    assert_eq!(script.end(), (EndCause::LastLeft, Some(leg(2))));
    assert_eq!(script.conference.info().status, ConferenceStatus::Completed);
    script.conference.handle_over(NOW);
    assert_eq!(script.conference.poll_output(), None, "it ends once");
}

#[test]
fn a_full_conference_reports_each_participant_once() {
    let mut script = Script::new();
    for number in 1..=250 {
        script.come(number, room());
        if number == 2 {
            script.start();
        }
    }
    assert!(script.conference.enter(NOW, &info(251), room()).is_err());
    assert_eq!(script.conference.participants().count(), 250);
    for number in 1..=250 {
        script.leave(&over(number, EndedBy::FarEnd), LeaveReason::Ended);
    }
    script.conference.handle_over(NOW);
    script.drain();
    let words = script.words();
    let count = |start: &str| words.iter().filter(|word| word.starts_with(start)).count();
    assert_eq!((count("joined "), count("left "), count("started"), count("ended")), (250, 250, 1, 1));
    assert_eq!(script.end(), (EndCause::LastLeft, Some(leg(250))));
}

#[test]
fn a_participant_that_ends_the_conference_removes_the_others() {
    for (why, cause) in [(LeaveReason::Ended, EndCause::HostLeft), (LeaveReason::Removed, EndCause::HostRemoved)] {
        let mut script = Script::new();
        script.come(1, room());
        script.come(2, Participation { ends: true, label: Some("host".into()), ..room() });
        script.start();
        script.leave(&over(2, EndedBy::FarEnd), why);
        // The room removes the other members, then the room ends.
        script.conference.handle_left(NOW, leg(1));
        script.conference.handle_over(NOW);
        script.drain();
        assert_eq!(script.words().last_chunk::<2>().unwrap(), &["left 1 HostLeft", "ended"]);
        assert_eq!(script.commands, [Output::ParticipantRemoved { leg: leg(1), clears: false }]);
        assert_eq!(script.end(), (cause, Some(leg(2))));
        assert_eq!(script.conference.info().end.as_ref().unwrap().label.as_deref(), Some("host"));
    }
}

#[test]
fn a_request_ends_the_conference_and_cancels_the_calls_to_participants() {
    let mut script = Script::new();
    script.come(1, room());
    assert_eq!(script.conference.expect(NOW, leg(2), room()), Ok(true));
    assert_eq!(script.conference.end(NOW, false), [leg(2)]);
    assert_eq!(script.conference.end(NOW, false), []);
    assert_eq!(script.conference.enter(NOW, &info(3), room()), Err(Refused::Over));
    script.conference.handle_left(NOW, leg(1));
    script.conference.handle_over(NOW);
    script.drain();
    assert_eq!(script.words()[1..], ["joined 1", "expected 2", "left 1 ConferenceEnded", "ended"]);
    assert_eq!(script.commands, [Output::Close, Output::ParticipantRemoved { leg: leg(1), clears: false }]);
    assert_eq!(script.end(), (EndCause::Request, None));
}

#[test]
fn the_removal_of_the_last_participant_has_its_own_cause() {
    let mut script = Script::new();
    script.come(1, room());
    script.leave(&info(1), LeaveReason::Removed);
    script.conference.handle_over(NOW);
    script.drain();
    assert_eq!(script.words()[2..], ["left 1 Request", "ended"]);
    assert_eq!(script.end(), (EndCause::LastRemoved, Some(leg(1))));
}

#[test]
fn changes_of_a_participant_are_reported_by_kind_and_only_after_the_join() {
    let mut script = Script::new();
    script.conference.enter(NOW, &info(1), room()).unwrap();
    let mut changed = room();
    let change = |changed: &mut Participation, change: Change| {
        changed.change(change);
        changed.clone()
    };
    let muted = change(&mut changed, Change { muted: Some(true), ..Change::default() });
    script.conference.change(NOW, leg(1), &muted);
    script.conference.handle_joined(NOW, leg(1));
    script.drain();
    assert_eq!(script.words()[1..], ["joined 1"]);
    for next in [
        Change { muted: Some(false), ..Change::default() },
        Change { muted: Some(false), ..Change::default() },
        Change { hold: Some(Some(Wait::Music)), ..Change::default() },
        Change { hold: Some(None), ends: Some(true), ..Change::default() },
        Change { beep_on_exit: Some(false), ..Change::default() },
    ] {
        let next = change(&mut changed, next);
        script.conference.change(NOW, leg(1), &next);
    }
    script.drain();
    assert_eq!(script.words()[2..], ["muted 1 false", "held 1 true", "held 1 false", "modified 1", "modified 1"]);
}

#[test]
fn wait_documents_play_before_the_start_and_on_hold() {
    let mut script = Script::new();
    let (wait, hold) = (document("wait"), document("hold"));
    let mut participation = Participation { wait: Wait::Document(wait.clone()), ..room() };
    script.come(1, participation.clone());
    participation.change(Change { hold: Some(Some(Wait::Document(hold.clone()))), ..Change::default() });
    script.conference.change(NOW, leg(1), &participation);
    script.come(2, room());
    script.start();
    participation.change(Change { hold: Some(None), ..Change::default() });
    script.conference.change(NOW, leg(1), &participation);
    script.drain();
    let set_audio =
        |document: Option<&Target>| Output::SetWaitAudio { leg: leg(1), audio: document.cloned().map(Wait::Document) };
    assert_eq!(script.commands, [set_audio(Some(&wait)), set_audio(Some(&hold)), set_audio(None)]);
}

#[test]
fn a_conference_refuses_participants_over_its_limit_and_a_label_in_use() {
    let mut script = Script::opened(2, None);
    let labelled = || Participation { label: Some("agent".into()), ..room() };
    script.come(1, labelled());
    assert_eq!(script.conference.admits(&labelled()), Err(Refused::LabelInUse));
    assert_eq!(script.conference.enter(NOW, &info(2), labelled()), Err(Refused::LabelInUse));
    script.come(2, room());
    assert_eq!(script.conference.enter(NOW, &info(3), room()), Err(Refused::Full));
    assert_eq!(script.conference.expect(NOW, leg(3), room()), Err(Refused::Full));
}

#[test]
fn a_called_participant_joins_or_is_reported_as_failed() {
    let mut script = Script::new();
    for number in [1, 2] {
        assert_eq!(script.conference.expect(NOW, leg(number), room()), Ok(true));
    }
    script.conference.release(NOW);
    script.come(1, room());
    assert_eq!(script.conference.expect(NOW, leg(1), room()), Ok(false));
    script.conference.fail(NOW, &over(2, EndedBy::FarEnd));
    script.drain();
    assert_eq!(script.words()[1..], ["expected 1", "expected 2", "joined 1", "left 2 NotReached"]);
    assert_eq!(script.conference.participants().count(), 1);
    assert!(!script.conference.is_closing());
}

#[test]
fn a_reserved_conference_stays_open_until_the_release() {
    let mut script = Script::new();
    script.conference.reserve();
    script.come(1, room());
    script.leave(&info(1), LeaveReason::Itself);
    assert!(!script.conference.is_closing());
    script.conference.release(NOW);
    assert!(script.conference.is_closing());
}

#[test]
fn a_participant_that_leaves_and_joins_again_is_reported_twice() {
    let mut script = Script::new();
    script.come(2, room());
    script.conference.enter(NOW, &info(1), room()).unwrap();
    script.conference.leave(NOW, &info(1), LeaveReason::Itself);
    script.conference.enter(NOW, &info(1), room()).unwrap();
    for _ in 0..2 {
        script.conference.handle_joined(NOW, leg(1));
        script.conference.handle_left(NOW, leg(1));
    }
    script.drain();
    let words = ["joined 1", "left 1 Itself", "joined 1"];
    assert_eq!(script.words()[2..5], words);
}

#[test]
fn a_conference_recording_starts_with_the_conference_and_reports_its_pause() {
    let mut script =
        Script::opened(250, Some(ConferenceSettings { record: Some(spec()), ..ConferenceSettings::default() }));
    script.come(1, room());
    script.come(2, room());
    assert!(script.conference.recordings().next().is_none());
    script.start();
    let facts = script.conference.recordings().next().unwrap().clone();
    assert_eq!((facts.id, facts.leg, facts.conference), (RECORDING, leg(1), Some(ConferenceId(9))));
    for pause_behavior in [Some(PauseBehavior::Skip), Some(PauseBehavior::Skip), None] {
        script.conference.pause_recording(NOW, RECORDING, pause_behavior).unwrap();
    }
    script.conference.stop_recording(RECORDING).unwrap();
    script.conference.handle_recorded(NOW, RECORDING, RecordingEnd::Stopped, Duration::from_secs(3));
    assert_eq!(script.conference.stop_recording(RECORDING), Err(Refused::Unknown));
    script.drain();
    let words = ["recording runs", "recording paused", "recording runs", "recording completed"];
    assert_eq!(script.words()[4..], words);
    let pause = Output::PauseRecording { id: RECORDING, pause_behavior: PauseBehavior::Skip };
    let commands = [pause, Output::ResumeRecording(RECORDING), Output::StopRecording(RECORDING)];
    assert_eq!(script.commands[1..], commands);
}

#[test]
fn a_room_that_ends_removes_every_participant() {
    let mut script = Script::new();
    script.come(1, Participation { wait: Wait::Document(document("wait")), ..room() });
    script.conference.handle_over(NOW);
    script.drain();
    assert!(script.commands.contains(&Output::ParticipantRemoved { leg: leg(1), clears: false }));
    assert_eq!(script.end(), (EndCause::Failed, None));
}

#[test]
fn the_first_participant_is_reported_once_and_each_event_has_the_current_facts() {
    let mut script = Script::new();
    script.come(1, room());
    script.come(2, room());
    let entered: Vec<_> = script.events.iter().filter(|one| one.kind == ConferenceEventKind::Entered).collect();
    assert!(matches!(entered[..], [event] if event.leg.as_ref().is_some_and(|one| one.id == leg(1))));
    script.leave(&over(2, EndedBy::FarEnd), LeaveReason::Ended);
    let last = script.events.last().unwrap();
    assert!(last.leg.as_ref().is_some_and(|one| one.id == leg(2) && one.end.is_some()));
    assert!(last.first.as_ref().is_some_and(|one| one.id == leg(1)));
}

#[test]
fn a_conference_end_that_clears_hangs_up_the_other_participants() {
    let mut script = Script::new();
    script.come(1, Participation { ends: true, clears: true, ..room() });
    script.come(2, room());
    script.leave(&over(1, EndedBy::FarEnd), LeaveReason::Ended);
    script.conference.handle_left(NOW, leg(2));
    script.drain();
    assert!(script.commands.contains(&Output::ParticipantRemoved { leg: leg(2), clears: true }));
    let mut script = Script::new();
    script.come(1, room());
    script.conference.end(NOW, true);
    script.conference.handle_left(NOW, leg(1));
    script.drain();
    assert!(script.commands.contains(&Output::ParticipantRemoved { leg: leg(1), clears: true }));
}

#[test]
fn a_conference_with_unpolled_outputs_or_a_truncated_state_is_an_error() {
    let mut script = Script::new();
    script.come(1, room());
    let octets = script.conference.write().unwrap();
    for length in 0..octets.len() {
        assert!(matches!(Conference::read(&octets[..length]).err(), Some(CallSnapshotError::Malformed(_))), "{length}");
    }
    script.conference.end(NOW, true);
    assert_eq!(script.conference.write(), Err(CallSnapshotError::UnpolledOutputs));
}

#[test]
fn a_resumed_conference_repeats_the_commands_for_its_recordings_and_its_wait_audio() {
    let mut script = Script::new();
    let wait = Wait::Document(document("wait"));
    script.come(1, Participation { wait: wait.clone(), ..room() });
    for id in [RecordingId(1), RecordingId(2)] {
        script.conference.record(NOW, id, spec()).unwrap();
    }
    script.conference.pause_recording(NOW, RecordingId(2), Some(PauseBehavior::Skip)).unwrap();
    script.conference.stop_recording(RecordingId(1)).unwrap();
    script.drain();
    script.commands.clear();
    script.conference.resume();
    script.drain();
    let paused = Output::PauseRecording { id: RecordingId(2), pause_behavior: PauseBehavior::Skip };
    let again = [
        Output::Record { id: RecordingId(1), spec: spec() },
        Output::StopRecording(RecordingId(1)),
        Output::Record { id: RecordingId(2), spec: spec() },
        paused,
        Output::SetWaitAudio { leg: leg(1), audio: Some(wait) },
    ];
    assert_eq!(script.commands, again);
}
