//! Tests that hang up, redirect or lose a leg at many moments of every instruction. After that, no leg, timer or
//! operation may be left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tandem_call::address::Address;
use tandem_call::call::Call;
use tandem_call::command::{Command, Interrupt};
use tandem_call::conference::Participation;
use tandem_call::conversation::{AgentSpec, ConversationSpec, ConversationStatus, ConversationTarget, Utterance};
use tandem_call::engine::{Engine, EngineFailure};
use tandem_call::event::PlaybackEnd;
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::TargetLegs;
use tandem_call::machine_detection::{MachineDetection, Until};
use tandem_call::new_leg::OnAnswer;
use tandem_call::output::{EndReason, LegCommand, LegEvent, Progress};
use tandem_call::program::instruction::*;
use tandem_call::queue::NotQueued;
use tandem_call::recognition::RecognitionEvent;
use tandem_call::recording::{NewRecording, PauseBehavior, RecordingEnd, Track};
use tandem_call::refer::{ReferTarget, Referred};
use tandem_call::route::Decision;
use tandem_call::stream::{ConnectTiming, StreamFault, StreamSpec, StreamStatus};
use tandem_call::supervision::{Supervision, SupervisorRole};
use tandem_call::testing::*;
use tandem_id::{FetchId, LegId, OpId, QueueId, RecordingId};

fn record() -> Record {
    Record {
        spec: recording(),
        finish_on: "#1".to_owned(),
        beep: true,
        action: Some(target("recorded")),
        transcribe: None,
    }
}

fn every_instruction() -> Vec<Instruction> {
    let digits = SendDigits { digits: "12w3".to_owned(), tone: Duration::from_millis(100) };
    let prompted = Gather { prompts: vec![file("a"), file("b")], tries: 2, ..gather() };
    let dialed = |change: fn(&mut Dial)| {
        let mut dial = dial(&["+15550003", "+15550004"]);
        dial.record = Some(DialRecord { from_ringing: true, spec: recording() });
        dial.ring_tone = Some("us".to_owned());
        dial.hangup_on_star = true;
        dial.time_limit = Some(Duration::from_secs(60));
        change(&mut dial);
        Instruction::Dial(dial)
    };
    vec![
        Instruction::Play(file("a")),
        Instruction::SendDigits(digits),
        Instruction::Pause(Duration::from_secs(3)),
        Instruction::Gather(gather()),
        Instruction::Gather(prompted),
        Instruction::Record(record()),
        dialed(|_| {}),
        dialed(|dial| dial.sequential = true),
        dialed(|dial| (dial.answer_on_bridge, dial.pass_failure) = (true, true)),
        dialed(|dial| dial.action = Some(target("dialed"))),
        dialed(|dial| dial.after = AfterBridge::Hangup),
        dialed(|dial| dial.targets.iter_mut().for_each(|to| to.whisper = Some(target("whisper")))),
        Instruction::Connect(Connect {
            stream: stream("a"),
            action: Some(target("connected")),
            outlives_failure: false,
        }),
        Instruction::Converse(Converse { spec: Box::new(conversation()), action: Some(target("conversed")) }),
        Instruction::Conference(Conference {
            participation: Participation::new("room"),
            time_limit: Some(Duration::from_secs(60)),
            hangup_on_star: true,
            action: Some(target("conferred")),
        }),
        Instruction::Enqueue(enqueue("support")),
        Instruction::Enqueue(Enqueue { wait: Wait::Document(target("wait")), ..enqueue("support") }),
        Instruction::Leave,
        Instruction::Refused("not served".into()),
        Instruction::GiveUp(Box::new(EngineFailure::new(Engine::Model, "gone"))),
        Instruction::Dial(dequeue("support")),
        Instruction::Dial(Dial {
            queue: Some(Dequeue { queue: "support".into(), whisper: Some(target("whisper")) }),
            record: Some(DialRecord { from_ringing: true, spec: recording() }),
            hangup_on_star: true,
            time_limit: Some(Duration::from_secs(60)),
            ..dequeue("support")
        }),
        Instruction::StartStream(stream("a")),
        Instruction::StopStream(None),
        Instruction::Gather(Gather { prompts: vec![file("a")], ..spoken_gather() }),
        Instruction::StartSiprec(siprec("a")),
        Instruction::StopSiprec(None),
        Instruction::StartTranscription(Box::new(transcription("a"))),
        Instruction::StopTranscription(None),
        Instruction::StartRecording(recording()),
        Instruction::Redirect(target("next")),
        Instruction::Reject(RejectReason::Busy),
        Instruction::Hangup,
        Instruction::Echo,
        Instruction::Play(Play { early: true, ..file("a") }),
        Instruction::Enqueue(Enqueue { max_duration: Some(Duration::from_secs(20)), ..enqueue("support") }),
        Instruction::ExecuteCommand(Box::new(ExecuteCommand {
            command: Command::StartRecording(recording()),
            action: Some(target("ordered")),
        })),
        Instruction::DetectMachine(Box::new(DetectMachine {
            spec: MachineDetection::new(
                Until::FirstResult,
                Duration::from_secs(30),
                Duration::from_secs(1),
                Duration::from_secs(1),
                Duration::from_secs(4),
            ),
            action: Some(target("detected")),
        })),
    ]
}

/// Inputs that bring a leg to the moment at which the test cuts off the leg. Each entry is one moment.
const MOMENTS: [fn(&mut CallScript); 13] = [
    |_| {},
    |script| {
        if !script.recognitions.is_empty() {
            script.recognises(RecognitionEvent::Began);
        }
    },
    |script| {
        if !script.recognitions.is_empty() {
            script.recognises_words("one");
            script.advance(Duration::from_secs(1));
        }
    },
    |script| script.advance(Duration::from_secs(1)),
    |script| script.is_enqueued(Ok(QueueId(1))),
    |script| script.sends_digits("1"),
    |script| script.sends_digits("12#"),
    |script| script.advance(Duration::from_secs(4)),
    |script| finish_a_play(script),
    |script| {
        finish_a_play(script);
        script.sends_digits("1");
    },
    |script| on_child(script, |script, child| script.progresses(child, EARLY_MEDIA)),
    |script| on_child(script, |script, child| script.progresses(child, RINGING)),
    |script| {
        on_child(script, tandem_call::testing::CallScript::answers);
        script.advance(Duration::from_secs(2));
        script.sends_digits("5");
    },
];

fn finish_a_play(script: &mut CallScript) {
    if !script.plays.is_empty() {
        script.play_ends(script.leg());
    }
}

fn on_child(script: &mut CallScript, what: fn(&mut CallScript, LegId)) {
    if script.newest() != script.leg() {
        what(script, script.newest());
    }
}

/// Inputs that cut off a leg. Each entry is one way.
const ENDS: [fn(&mut CallScript); 6] = [
    |script| script.hangs_up(script.leg()),
    |script| script.feed(LegEvent::Ended { reason: EndReason::Cancelled, sip_status: None, detail: None }),
    |script| script.feed(LegEvent::Ended { reason: EndReason::Timeout, sip_status: None, detail: None }),
    |script| script.feed(LegEvent::Ended { reason: EndReason::Failed, sip_status: None, detail: None }),
    |script| {
        let _ = script.request(Command::Hangup { headers: HeaderFields::new() });
    },
    |script| {
        if script.request(Command::Redirect(target("elsewhere"))).is_err() {
            return script.hangs_up(script.leg());
        }
        let Some(id) = script.fetches.pop() else {
            // The leg waited for the target of a transfer, and the redirect has cancelled this target.
            return assert!(script.ended.contains_key(&script.leg()));
        };
        script.fetches.clear();
        script.fetches.push(id);
        script.fetched(vec![Instruction::Hangup]);
    },
];

#[test]
fn every_instruction_that_is_cut_off_at_any_moment_leaves_no_leg_timer_or_operation() {
    for (which, instruction) in every_instruction().into_iter().enumerate() {
        for (when, moment) in MOMENTS.iter().enumerate() {
            for (how, end) in ENDS.iter().enumerate() {
                for outbound in [false, true] {
                    println!("instruction {which} moment {when} end {how} outbound {outbound}");
                    let mut script = brought_to(&instruction, *moment, outbound);
                    end(&mut script);
                    // No request has moved the dialled leg away, so the dialled leg must end with its parent.
                    script.close_recordings();
                    script.end_transcriptions();
                    script.assert_settled();
                    script.assert_silent();
                }
            }
        }
    }
}

/// Runs the instruction on an inbound or outbound leg up to this moment.
fn brought_to(instruction: &Instruction, moment: fn(&mut CallScript), outbound: bool) -> CallScript {
    let run = vec![instruction.clone(), Instruction::Pause(Duration::from_secs(1))];
    let mut script = if outbound {
        let mut script = CallScript::outbound(OnAnswer::Program(program(run)));
        script.answers(script.leg());
        script
    } else {
        CallScript::runs(run)
    };
    script.rewrites = false;
    moment(&mut script);
    script
}

#[test]
fn the_state_of_a_call_can_be_written_and_read_at_every_moment() {
    for instruction in every_instruction() {
        for moment in MOMENTS {
            for outbound in [false, true] {
                let script = brought_to(&instruction, moment, outbound);
                let octets = script.call.write(script.now).unwrap();
                let read = Call::read(&octets, script.now).unwrap();
                let again = read.write(script.now).unwrap();
                assert_eq!(String::from_utf8(octets).unwrap(), String::from_utf8(again).unwrap());
            }
        }
    }
}

/// The name of a state of a leg, and a call with a leg in this state.
type State = (&'static str, fn() -> CallScript);

/// States that no single instruction of an answered leg has.
const STATES: [State; 19] = [
    ("inbound, rings", || CallScript::inbound(Decision::Commands)),
    ("inbound, awaits its first document", || {
        CallScript::inbound(Decision::Document { target: target("start"), fallback: None })
    }),
    ("inbound, awaits its first command", || {
        CallScript::inbound(Decision::CommandsWithTimeout(Duration::from_secs(3)))
    }),
    ("outbound, rings in a race", || {
        let mut script = CallScript::new(7);
        for leg in [LegId(1), LegId(2)] {
            script.dial_out(leg, |new| {
                new.race = Some(LegId(1));
                new.record = Some(NewRecording { id: RecordingId(7), spec: recording() });
                new.plan.detect = Some(detection());
                new.plan.then = OnAnswer::Document(target("start"));
            });
        }
        script
    }),
    ("outbound, its stream connects before the INVITE", || {
        let mut script = CallScript::new(7);
        let spec = StreamSpec { connect_timing: ConnectTiming::BeforeCalling, ..stream("s") };
        script.dial_out(LegId(1), |new| new.plan.stream = Some(spec));
        script
    }),
    ("answered, its stream connected before", || {
        let mut script = CallScript::new(7);
        let spec = StreamSpec { connect_timing: ConnectTiming::WhileCalling, ..stream("s") };
        script.dial_out(LegId(1), |new| new.plan.stream = Some(spec));
        script.answers(LegId(1));
        script
    }),
    ("sends digits after the answer", || {
        let mut script = CallScript::new(7);
        script.dial_out(LegId(1), |new| {
            new.plan.send_digits = Some(SendDigits { digits: "1".to_owned(), tone: Duration::from_millis(100) });
            new.plan.then = OnAnswer::Document(target("start"));
        });
        script.answers(LegId(1));
        script
    }),
    ("detection holds the program", || {
        let mut script = CallScript::new(7);
        script.dial_out(LegId(1), |new| {
            new.plan.detect = Some(Box::new(MachineDetection { holds: true, ..*detection() }));
            new.plan.then = OnAnswer::Document(target("start"));
        });
        script.answers(LegId(1));
        script
    }),
    ("rings again after early media", || {
        let mut script =
            CallScript::runs(vec![Instruction::Dial(Dial { ring_tone: Some("us".to_owned()), ..dial(&["+1"]) })]);
        let child = script.newest();
        script.progresses(child, EARLY_MEDIA);
        script.feed_to(child, LegEvent::PacketArrived);
        script.progresses(child, RINGING);
        script
    }),
    ("bridged by a dial", || bridged_by_dial().0),
    ("transfers, and the target rings", || {
        let (mut script, called) = bridged_by_dial();
        refers(&mut script, called);
        script
    }),
    ("transfers, and the referrer has left", || {
        let (mut script, called) = bridged_by_dial();
        refers(&mut script, called);
        script.hangs_up(called);
        script
    }),
    ("supervised in a bridge", || {
        let (mut script, _) = bridged_by_dial();
        let supervision = Supervision { of: script.leg(), role: SupervisorRole::Whisper };
        script.dial_out(LegId(900), |new| new.plan.then = OnAnswer::Supervise(supervision));
        script.answers(LegId(900));
        script
    }),
    ("waits in a queue", || {
        let mut script = CallScript::runs(vec![Instruction::Enqueue(enqueue("support"))]);
        script.is_enqueued(Ok(QueueId(1)));
        script
    }),
    ("is called out of a queue, and runs the whisper document", called_from_queue),
    ("is bridged with its agent", || {
        let mut script = called_from_queue();
        script.fetched(Vec::new());
        script
    }),
    ("overlay, side gather, transfer, muted, suppressed noise, paused recording", || {
        let mut script = CallScript::commanded();
        for command in [
            Command::PlayOverlay(vec![file("a"), file("b")]),
            Command::Gather(Box::new(spoken_gather())),
            Command::Transfer(Box::new(dial(&["+15550009"]))),
            Command::Mute(true),
            Command::SuppressNoise { track: Track::Both, on: true },
            Command::StartRecording(recording()),
            Command::PauseRecording { which: None, pause_behavior: PauseBehavior::Skip },
            Command::EnterQueue(Box::new(enqueue("support"))),
        ] {
            script.request(command).unwrap();
        }
        script
    }),
    ("apologises", || {
        let mut script = CallScript::inbound(Decision::Document { target: target("start"), fallback: None });
        script.fetch_fails();
        script
    }),
    ("ended, and its recording is open", || {
        let mut script = CallScript::runs(vec![
            Instruction::StartTranscription(Box::new(transcription("a"))),
            Instruction::Record(Record { beep: false, ..record() }),
        ]);
        script.hangs_up(script.leg());
        script
    }),
];

fn detection() -> Box<MachineDetection> {
    let second = Duration::from_secs(1);
    Box::new(MachineDetection::new(Until::GreetingEnd, 30 * second, second, second, 4 * second))
}

fn bridged_by_dial() -> (CallScript, LegId) {
    let dial = Dial { action: Some(target("dialed")), ..dial(&["+15550003"]) };
    let mut script = CallScript::runs(vec![Instruction::Dial(dial), Instruction::Play(file("after"))]);
    let called = script.newest();
    script.answers(called);
    (script, called)
}

fn refers(script: &mut CallScript, leg: LegId) {
    let (to, headers, via) = (Address::from("sip:cy@h"), HeaderFields::new(), Vec::new());
    let target = ReferTarget::Call { to, headers, replaces: None, credentials: None, via };
    script.feed_to(leg, LegEvent::Referred(Box::new(Referred { target, uri: "sip:cy@h".to_owned(), by: None })));
}

fn called_from_queue() -> CallScript {
    let mut script = CallScript::runs(vec![Instruction::Enqueue(enqueue("support")), Instruction::Echo]);
    script.is_enqueued(Ok(QueueId(1)));
    let queue = Some(Dequeue { queue: "support".into(), whisper: Some(target("whisper")) });
    let dial = Instruction::Dial(Dial { queue, ..dequeue("support") });
    script.incoming(LegId(2), Decision::Program(program(vec![dial])));
    script.feed_to(LegId(1), LegEvent::Called { queue: QueueId(1), by: LegId(2) });
    script
}

/// Restarts the call that `brought` returns: another process knows nothing but the written state. Asserts that this
/// process has the same operations, and that the call continues like the original: after further moments and ends, the
/// outputs are the same. `step` is 1 for each further moment and end.
fn continues_after_a_restart(brought: &dyn Fn() -> CallScript, step: usize) {
    let (original, restarted) = (brought(), brought().restarted());
    assert_eq!(restarted.plays, original.plays, "playbacks");
    assert_eq!(restarted.recordings, original.recordings, "recordings");
    assert_eq!(restarted.stopping, original.stopping, "recordings that are being closed");
    assert_eq!(restarted.streams, original.streams, "streams");
    assert_eq!(restarted.siprecs, original.siprecs, "sessions with recording servers");
    assert_eq!(restarted.recognitions, original.recognitions, "recognitions");
    assert_eq!(restarted.transcriptions, original.transcriptions, "transcriptions");
    assert_eq!(restarted.conversations, original.conversations, "conversations");
    let awaited = |(leg, id): &&(LegId, FetchId)| original.call.awaits_document(*leg, *id);
    let fetches: Vec<_> = original.fetches.iter().filter(awaited).copied().collect();
    assert_eq!(restarted.fetches, fetches, "document requests");
    for then in MOMENTS.iter().skip(1).chain(&ENDS).step_by(step) {
        let (mut original, mut restarted) = (brought(), brought().restarted());
        // A response to a request that the call does not await any more has no effect.
        restarted.fetches.clone_from(&original.fetches);
        for script in [&mut original, &mut restarted] {
            script.outputs.clear();
            then(script);
            for leg in script.legs.clone() {
                script.hangs_up(leg);
            }
            script.close_recordings();
            script.end_transcriptions();
            script.assert_settled();
        }
        assert_eq!(restarted.outputs, original.outputs);
    }
}

#[test]
fn a_call_that_is_restarted_at_any_moment_of_any_instruction_continues_like_the_original() {
    for (which, instruction) in every_instruction().into_iter().enumerate() {
        for (when, moment) in MOMENTS.iter().enumerate() {
            for outbound in [false, true] {
                println!("instruction {which} moment {when} outbound {outbound}");
                // An outbound leg differs only in its answer, so a third of the further inputs is enough.
                let step = if outbound { 3 } else { 1 };
                continues_after_a_restart(&|| brought_to(&instruction, *moment, outbound), step);
            }
        }
    }
}

#[test]
fn a_call_that_is_restarted_in_any_state_of_a_leg_continues_like_the_original() {
    for (name, state) in STATES {
        println!("{name}");
        let brought = || {
            let mut script = state();
            script.rewrites = false;
            script
        };
        continues_after_a_restart(&brought, 1);
    }
}

#[test]
fn a_restarted_call_connects_its_legs_after_their_operations() {
    let (mut script, called) = bridged_by_dial();
    script.request(Command::StartStream { spec: stream("s"), if_none_runs: false }).unwrap();
    let restarted = script.restarted();
    let position = |what: fn(&LegCommand) -> bool| {
        restarted.commands(restarted.leg()).position(what).expect("the command is given again")
    };
    assert!(
        position(|it| matches!(it, LegCommand::StartStream { .. }))
            < position(|it| matches!(it, LegCommand::Bridge { .. }))
    );
    assert!(!restarted.has_command(called, |it| matches!(it, LegCommand::Bridge { .. })), "one leg connects both");
}

#[test]
fn a_restarted_playback_reports_its_longest_possible_played_time() {
    let mut script = CallScript::runs(vec![Instruction::Play(file("a"))]);
    script.advance(Duration::from_secs(7));
    let restarted = script.restarted();
    let elapsed = restarted.commands(restarted.leg()).find_map(|command| match command {
        LegCommand::Play { elapsed, .. } => *elapsed,
        _ => None,
    });
    assert_eq!(elapsed, Some(Duration::from_secs(7)));
    assert_eq!(restarted.events().count(), 0, "a playback that continues is not reported as new");
}

#[test]
fn a_restarted_agent_keeps_its_utterances_and_does_not_speak_first() {
    let agent = AgentSpec { first_message: Some("Hello!".into()), ..AgentSpec::default() };
    let spec = ConversationSpec::new(ConversationTarget::Agent(Box::new(agent)));
    let mut script = CallScript::runs(vec![Instruction::Converse(Converse { spec: Box::new(spec), action: None })]);
    let line = Utterance { by_agent: true, text: "Hello!".into() };
    for status in [ConversationStatus::Started, ConversationStatus::Utterance(line.clone())] {
        let id = script.conversations.first().unwrap().1;
        script.call.handle_leg(script.now, script.leg(), LegEvent::Conversation { id, status });
        script.drain();
    }
    let restarted = script.restarted();
    let agent = restarted.commands(restarted.leg()).find_map(|command| match command {
        LegCommand::Converse { spec, .. } => match &spec.with {
            ConversationTarget::Agent(agent) => Some(agent),
            ConversationTarget::Application(_) => None,
        },
        _ => None,
    });
    let agent = agent.expect("the conversation continues");
    assert_eq!((&agent.history[..], agent.first_message.as_deref()), (&[line][..], Some("")));
}

#[test]
fn a_recording_that_is_never_closed_holds_its_leg_for_ten_seconds_at_most() {
    let mut script = CallScript::runs(vec![Instruction::StartRecording(recording()), Instruction::Echo]);
    script.hangs_up(script.leg());
    assert!(!script.call.is_finished());
    script.advance(Duration::from_secs(10));
    script.recordings.clear();
    script.assert_settled();
}

#[test]
fn a_leg_that_is_cut_off_before_its_answer_leaves_no_timer_or_operation() {
    for end in ENDS {
        let mut script = CallScript::outbound(OnAnswer::Document(target("start")));
        end(&mut script);
        script.assert_settled();
        for decision in [Decision::Commands, Decision::Document { target: target("start"), fallback: None }] {
            let mut script = CallScript::inbound(decision);
            end(&mut script);
            script.assert_settled();
        }
    }
}

fn random_instructions(rng: &mut StdRng) -> Vec<Instruction> {
    let all = every_instruction();
    (0..rng.random_range(0..4)).map(|_| all[rng.random_range(0..all.len())].clone()).collect()
}

fn random_command(rng: &mut StdRng, legs: &[LegId]) -> Command {
    let with = legs[rng.random_range(0..legs.len())];
    let interrupt = [Interrupt::None, Interrupt::Current, Interrupt::All][rng.random_range(0..3)];
    let to = [TargetLegs::Own, TargetLegs::Bridged, TargetLegs::Both][rng.random_range(0..3)];
    let after = if rng.random() { AfterBridge::Hangup } else { AfterBridge::Continue };
    let prompts = if rng.random() { vec![file("p")] } else { Vec::new() };
    match rng.random_range(0..32) {
        0 | 1 => Command::Answer { record: Some(recording()), stream: Some(stream("s")), headers: HeaderFields::new() },
        2 => Command::Reject(RejectReason::Busy),
        3 => Command::Hangup { headers: HeaderFields::new() },
        4 => Command::Cancel,
        5 | 6 => Command::Run(program(random_instructions(rng))),
        7 => Command::Redirect(target("redirected")),
        8 | 9 => Command::Play { play: file("x"), interrupt, to },
        10 => Command::StopPlayback(interrupt),
        11 | 12 => Command::Gather(Box::new(Gather { prompts, ..gather() })),
        13 if rng.random::<bool>() => Command::StartGatherTimers,
        13 => Command::StopGather,
        14 => Command::SendDigits(SendDigits { digits: "1".to_owned(), tone: Duration::from_millis(100) }),
        15 => Command::StartRecording(recording()),
        16 => Command::StopRecording(None),
        17 => Command::PauseRecording { which: None, pause_behavior: PauseBehavior::Skip },
        18 => Command::ResumeRecording(None),
        19 => Command::StartStream { spec: stream("s"), if_none_runs: rng.random() },
        20 => Command::StopStream(None),
        21..=23 => Command::Bridge { with, after, if_free: false },
        24 => Command::Transfer(Box::new(dial(&["+15550009"]))),
        25 => {
            let all = every_instruction();
            Command::Enqueue(Box::new(all[rng.random_range(0..all.len())].clone()))
        }
        27 => Command::StopNamedStream("s".to_owned()),
        29 => Command::Dequeue(target("dequeued")),
        30 => Command::EnterQueue(Box::new(enqueue("support"))),
        31 => Command::LeaveQueue,
        26 => Command::SetFallback(rng.random::<bool>().then(|| target("fallback"))),
        _ => Command::TimeLimit(Duration::from_secs(rng.random_range(0..100))),
    }
}

fn random_event(rng: &mut StdRng, script: &CallScript, leg: LegId) -> LegEvent {
    let op_of = |set: &std::collections::BTreeSet<(LegId, OpId)>| {
        set.iter().filter(|(of, _)| *of == leg).map(|(_, op)| *op).next_back().unwrap_or(OpId(99))
    };
    let stream = script.streams.iter().find(|(of, _)| *of == leg).map(|(_, id)| *id);
    let early_media = rng.random();
    let by = script.legs[rng.random_range(0..script.legs.len())];
    match rng.random_range(0..30) {
        24 | 25 => LegEvent::Enqueued { op: script.entering.unwrap_or(OpId(0)), result: Ok(QueueId(1)) },
        26 => LegEvent::Enqueued { op: script.entering.unwrap_or(OpId(0)), result: Err(NotQueued::Full) },
        27 | 28 => LegEvent::Called { queue: QueueId(1), by },
        29 => LegEvent::DequeueFailed,
        0 | 1 => LegEvent::Ringing { progress: Progress { alerting: rng.random(), early_media } },
        23 => LegEvent::PacketArrived,
        2..=6 => LegEvent::Answered { codec: None, headers: HeaderFields::new(), dialog: None },
        7 => LegEvent::Ended { reason: EndReason::HungUp, sip_status: None, detail: None },
        8 => {
            LegEvent::Ended { reason: EndReason::Rejected, sip_status: Some(rng.random_range(300..700)), detail: None }
        }
        9..=13 => LegEvent::Dtmf(*b"0123456789*#".get(rng.random_range(0..12)).unwrap() as char),
        14..=17 => LegEvent::PlayFinished { op: op_of(&script.plays), end: PlaybackEnd::Completed },
        18..=20 => LegEvent::RecordingFinished {
            op: op_of(&script.recordings),
            end: RecordingEnd::Silence,
            duration: Duration::from_secs(rng.random_range(0..3)),
            recorded: Duration::from_secs(3),
        },
        21 => match stream {
            Some(id) => LegEvent::Stream { id, status: StreamStatus::Failed(StreamFault::Broken.because("gone")) },
            None => LegEvent::Dtmf('A'),
        },
        _ => match (stream, script.conversations.iter().find(|(of, _)| *of == leg)) {
            (Some(id), _) => LegEvent::Stream { id, status: StreamStatus::Started },
            (None, Some((_, id))) => LegEvent::Conversation { id: *id, status: ConversationStatus::Ended(None) },
            (None, None) => LegEvent::Dtmf('#'),
        },
    }
}

#[test]
fn random_inputs_cause_no_panic_and_every_leg_ends_once_and_is_released() {
    // There are 300 short runs and 4 long runs.
    for seed in 0..304 {
        let steps = if seed < 300 { 400 } else { 10_000 };
        println!("seed {seed}");
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut script = CallScript::new(1);
        script.rewrites = false;
        let mut next = 1;
        for step in 0..steps {
            let alive: Vec<_> = script.legs.iter().filter(|leg| !script.released.contains_key(leg)).copied().collect();
            if alive.len() < 6 && (step == 0 || rng.random_range(0..30) == 0) {
                next += 1;
                match rng.random_range(0..4) {
                    0 => script.incoming(LegId(next), Decision::Commands),
                    1 => script.incoming(LegId(next), Decision::Program(program(random_instructions(rng)))),
                    2 => script.incoming(LegId(next), Decision::Document { target: target("start"), fallback: None }),
                    _ => script.dial_out(LegId(next), |leg| {
                        leg.plan.then = OnAnswer::Program(program(random_instructions(rng)));
                        leg.plan.bridge_to = alive.first().copied().filter(|_| rng.random());
                    }),
                }
                continue;
            }
            // One event in ten may go to a leg that has already been released.
            let from = if alive.is_empty() || rng.random_range(0..10) == 0 { &script.legs } else { &alive };
            let leg = from[rng.random_range(0..from.len())];
            // One state in 30 is written and read.
            script.rewrites = step % 30 == 0;
            match rng.random_range(0..20) {
                0..=8 => {
                    let event = random_event(rng, &script, leg);
                    script.feed_to(leg, event);
                }
                9..=13 => {
                    let command = random_command(rng, &script.legs);
                    let _ = script.request_to(leg, command);
                }
                14..=16 if !script.fetches.is_empty() => {
                    let (of, id) = script.fetches.remove(rng.random_range(0..script.fetches.len()));
                    let result = match rng.random_range(0..4) {
                        0 => Err(FetchFailure { kind: FailureKind::Timeout, detail: String::new() }),
                        _ => Ok(program(random_instructions(rng))),
                    };
                    script.call.handle_fetched(script.now, of, id, result);
                    script.drain();
                }
                _ => script.advance(Duration::from_millis(rng.random_range(0..4000))),
            }
            script.outputs.clear();
        }
        for leg in script.legs.clone() {
            script.hangs_up(leg);
        }
        script.close_recordings();
        script.end_transcriptions();
        script.assert_settled();
    }
}
