//! Restarts at every moment of a script: the script is written and read, and must continue like the original.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_call::command::{Accepted, Refused};
use tandem_call::conversation::{AgentFacts, ConversationFacts, ConversationStatus, ConversationTarget, Utterance};
use tandem_call::event::{DialStatus, MachineFacts, ReferFacts, ReferState};
use tandem_call::fetch::FetchReason;
use tandem_call::machine_detection::DetectionResult;
use tandem_call::program::instruction::Converse;
use tandem_call::queue::{QueueOutcome, QueueResult};
use tandem_call::recognition::RecognisedText;
use tandem_call::recording::{Recording, RecordingStatus};
use tandem_call::stream::{StreamFacts, StreamFault, StreamStatus};
use tandem_id::{ConversationId, FetchId, LegId, QueueId, RecordingId, StreamId};

use super::*;
use crate::ai::{Continuation, Outcome, Seed};
use crate::swml::document::METHODS;
use crate::swml::testing::example_of;
use crate::swml::tests::{account, context, dialled, fetch, leg, response};

/// The methods that wait for an outcome, in an executed section, a condition and a loop.
const EVERYTHING: &str = "sections:
  main:
  - set: {n: 0, fraction: '${0.1 + 0.2}', nothing: '${undefined}', tilde: '~x', list: [1, null, {z: 1, a: [true]}]}
  - label: top
  - set: {n: '${n + 1}'}
  - execute:
      dest: work
      params: {round: '${n}'}
      on_return: [{play: 'say:back ${return_value}'}, {cond: [{when: n == 2, then: [{play: 'say:nested'}, sleep: 5]}]}]
      result: {case: {'1': [{play: 'say:one'}, denoise: {}]}, default: [{echo: 5}, {set: {other: '${return_value}'}}]}
  - goto: {label: top, when: n < 3, max: 4}
  - transfer: {dest: 'http://app/last', params: {last: '${n}'}}
  work:
  - set: {in_work: '${params.round}'}
  - cond:
    - when: params.round == 1
      then:
      - prompt: {play: 'say:press', max_digits: 4, terminators: '#', speech_hints: [one]}
      - record: {beep: true}
      - record_call: {stereo: true}
      - stop_record_call:
      - stream: {url: 'ws://h/', control_id: s}
      - stop_stream: {control_id: s}
      - tap: {uri: 'ws://h/'}
      - stop_tap:
      - transcribe: {status_url: 'http://h/'}
      - transcribe_stop:
      - play: ['say:a', 'say:b']
    - when: params.round == 2
      then:
      - switch:
          variable: in_work
          case: {'2': [send_digits: '12', {connect: {serial: [{to: '+15550001'}, {to: '+15550002'}],
            result: {case: {connected: [play: 'say:joined']}, default: [play: 'say:${connect_failed_reason}']}}}]}
      - connect: {to: 'stream:ws://h/', result: [{when: 'connect_result == \"failed\"', then: [play: 'say:failed']}]}
      - enter_queue: {queue_name: support}
      - join_conference: {name: room, result: {case: {completed: [play: 'say:was there']}}}
      - join_room: {name: other}
    - else:
      - sip_refer: {to_uri: 'sip:a@h'}
      - detect_machine: {}
      - request: {url: 'http://app/json', method: POST, body: {a: '${n}'}, headers: {X-A: '1'}, save_variables: true}
      - execute: {dest: 'http://app/part', on_return: [play: 'say:part ${return_value}'],
          result: {case: {part: [play: 'say:right']}}}
      - ai: {prompt: {text: hello}}
  - return: '${params.round}'
";
const PART: &str = "sections: {main: [{play: 'say:part'}, {unset: list}, {return: part}]}";
const LAST: &str = "sections: {main: [{play: 'say:last ${params.last} ${fraction} ${vars}'}]}";

/// Which outcome the methods of a script have.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Outcomes {
    Success,
    Failure,
    /// The outcome of another method, or of none.
    Other,
}

fn outcome(instructions: &[Instruction], outcomes: Outcomes) -> FetchReason {
    let succeeds = outcomes == Outcomes::Success;
    if outcomes == Outcomes::Other {
        return FetchReason::Redirect;
    }
    let recording = |spec| Recording {
        id: RecordingId(7),
        leg: LegId(1),
        conference: None,
        spec,
        started_at: Timestamp::UNIX_EPOCH,
        ended_at: Some(Timestamp::UNIX_EPOCH),
        duration: Some(Duration::from_secs(u64::from(succeeds))),
        limit: None,
        status: RecordingStatus::Completed,
    };
    match &instructions[0] {
        Instruction::Gather(_) if succeeds => FetchReason::Gathered { digits: "123".to_owned(), terminator: Some('#') },
        Instruction::Gather(_) => FetchReason::GatheredSpeech(RecognisedText::default()),
        Instruction::Record(record) => FetchReason::Recorded {
            recording: recording(record.spec.clone()),
            recorded: Duration::ZERO,
            key: None,
            hangup: false,
        },
        Instruction::ExecuteCommand(order) if order.action.is_some() => {
            let (recording, stream) = (Some(RecordingId(9)), Some(StreamId(8)));
            let accepted = Accepted { recording, stream, ..Accepted::default() };
            FetchReason::CommandExecuted(if succeeds { Ok(accepted) } else { Err(Refused::NotRunning) })
        }
        Instruction::Dial(_) if succeeds => dialled(DialStatus::Completed, true),
        Instruction::Dial(_) => dialled(DialStatus::Busy, false),
        Instruction::Conference(_) if succeeds => dialled(DialStatus::Completed, false),
        Instruction::Conference(_) => dialled(DialStatus::Failed, false),
        Instruction::Connect(connect) => FetchReason::Connected(StreamFacts {
            id: StreamId(3),
            spec: connect.stream.clone(),
            status: if succeeds {
                StreamStatus::Stopped
            } else {
                StreamStatus::Failed(tandem_call::stream::StreamFault::Broken.because("gone"))
            },
        }),
        Instruction::Enqueue(enqueue) => FetchReason::Queued(QueueOutcome {
            name: enqueue.queue.clone(),
            waited: succeeds.then_some((QueueId(1), Duration::from_millis(1_500))),
            result: if succeeds { QueueResult::Bridged } else { QueueResult::Full },
        }),
        Instruction::Refer(refer) => FetchReason::Refer(ReferFacts {
            to: refer.to.clone(),
            state: if succeeds { ReferState::Completed } else { ReferState::Failed },
            answer: Some(202),
            progress: None,
        }),
        Instruction::DetectMachine(detect) => FetchReason::Detected(Box::new(MachineFacts {
            result: if succeeds { DetectionResult::Human } else { DetectionResult::NotSure },
            after: Duration::from_millis(750),
            spec: Box::new(detect.spec.clone()),
        })),
        Instruction::Converse(converse) => conversed(converse, succeeds),
        _ => FetchReason::Redirect,
    }
}

/// The end of an agent. At first the agent leaves for a document, and comes back.
fn conversed(converse: &Converse, succeeds: bool) -> FetchReason {
    let ConversationTarget::Agent(agent) = &converse.spec.with else { panic!("{converse:?}") };
    let seed: Seed = serde_json::from_str(agent.script.as_deref().unwrap()).unwrap();
    let document = serde_json::json!({"sections": {"main": [{"play": "say:aside ${n} ${global_data.known}"}]}});
    let then = seed.saved.is_none().then(|| Continuation::Return(Box::default()));
    let documents = then.iter().map(|_| document.clone()).collect();
    let global_data = seed.global_data.into_iter().chain([("known".to_owned(), true.into())]).collect();
    let outcome = Outcome { documents, then, global_data, persists: true, warnings: Vec::new() };
    let text = serde_json::to_string(&outcome).ok();
    let failed = || StreamFault::Internal.because("no agent");
    let status = match succeeds {
        true => ConversationStatus::Ended(text),
        false => ConversationStatus::Failed { after_start: false, why: failed() },
    };
    let utterances = vec![Utterance { by_agent: false, text: "Hi".into() }];
    let agent = Some(AgentFacts { spec: Arc::new((**agent).clone()), utterances });
    let facts = ConversationFacts { id: ConversationId(1), status, duration: Duration::from_secs(1), agent };
    FetchReason::Conversed(Box::new(facts))
}

/// A run of a script to its end, with the same inputs each time.
struct Run {
    script: LegScript,
    outcomes: Outcomes,
    /// The steps of the script, as text.
    trace: Vec<String>,
    /// The outcome that the script awaits, at each moment.
    waits: Vec<&'static str>,
    /// The moment at which the script is written and read.
    restart: Option<usize>,
}

impl Run {
    fn of(document: &str, outcomes: Outcomes, restart: Option<usize>) -> Self {
        let script = LegScript::default();
        let mut run = Self { script, outcomes, trace: Vec::new(), waits: Vec::new(), restart };
        run.run(document);
        run
    }

    fn run(&mut self, document: &str) {
        let (account, context) = (account(), context());
        let with_id = |url: &str, reason, id: usize| {
            let mut leg = leg();
            leg.answered_at = Some(Timestamp::UNIX_EPOCH);
            Fetch { id: FetchId(id as u64), leg: leg.into(), ..fetch(url, reason) }
        };
        let mut asked = with_id("http://app/swml", FetchReason::Start, 0);
        let mut step = self.script.handle_fetch(&account, &asked, &context);
        while self.trace.len() < 200 {
            let moment = self.trace.len();
            self.trace.push(shown(&step));
            self.waits.push(self.waited());
            if self.restart == Some(moment) {
                self.restarts();
                // The leg repeats the request that it awaits.
                if !matches!(step, Step::Done { .. }) {
                    step = self.script.handle_fetch(&account, &asked, &context);
                    assert_eq!(shown(&step), self.trace[moment], "the same request again");
                }
            }
            step = match step {
                Step::Document(notice) => {
                    let text = match &*notice.target.url {
                        "http://app/part" => PART,
                        "http://app/last" => LAST,
                        _ => document,
                    };
                    self.script.handle_response(&asked, Ok(&response(text)))
                }
                Step::Request(_) if self.outcomes == Outcomes::Success => {
                    self.script.handle_response(&asked, Ok(&response("{\"name\": \"Ann\", \"half\": 0.5}")))
                }
                Step::Request(_) => {
                    let failure = FetchFailure { kind: FailureKind::Timeout, detail: "timeout".to_owned() };
                    self.script.handle_response(&asked, Err(failure))
                }
                Step::Done { result: Ok(program), .. } => match program.instructions.split_last() {
                    Some((Instruction::Redirect(_), instructions)) => {
                        asked = with_id(NEXT, outcome(instructions, self.outcomes), moment + 1);
                        self.script.handle_fetch(&account, &asked, &context)
                    }
                    _ => return,
                },
                Step::Done { .. } => return,
            };
        }
        panic!("the script does not end: {:?}", self.trace);
    }

    /// Another process continues with the written state.
    fn restarts(&mut self) {
        let octets = self.script.write().unwrap();
        let read = LegScript::read(&octets).unwrap();
        assert_eq!(read, self.script);
        assert_eq!(read.write().unwrap(), octets);
        self.script = read;
    }

    fn waited(&self) -> &'static str {
        let Some(machine) = &self.script.machine else { return "its first document" };
        match &machine.waits {
            PendingResult::Nothing => "nothing",
            PendingResult::Prompt => "prompt",
            PendingResult::Record => "record",
            PendingResult::RecordCall { .. } => "record_call",
            PendingResult::Done { .. } => "a command",
            PendingResult::Stream { .. } => "stream",
            PendingResult::Tap { .. } => "tap",
            PendingResult::Connect { .. } => "connect",
            PendingResult::ConnectStream => "connect to a stream",
            PendingResult::Queue { .. } => "queue",
            PendingResult::Conference { .. } => "conference",
            PendingResult::Refer => "refer",
            PendingResult::Detect => "detect",
            PendingResult::Document { .. } => "a document",
            PendingResult::Request(_) => "a request",
            PendingResult::Agent { .. } => "an agent",
        }
    }
}

/// The states in which a script can wait.
const STATES: [&str; 17] = [
    "a command",
    "a document",
    "a request",
    "an agent",
    "conference",
    "connect",
    "connect to a stream",
    "detect",
    "its first document",
    "nothing",
    "prompt",
    "queue",
    "record",
    "record_call",
    "refer",
    "stream",
    "tap",
];

fn shown(step: &Step) -> String {
    match step {
        Step::Done { result, line } => format!("{line}: {result:?}"),
        Step::Document(notice) => format!("{notice:?}"),
        Step::Request(ask) => format!("{} {} {:?} {:?} {:?}", ask.method, ask.url, ask.headers, ask.body, ask.timeouts),
    }
}

/// Compares the whole run with a run that is restarted at each moment.
fn continues_after_a_restart(document: &str, outcomes: Outcomes) -> BTreeSet<&'static str> {
    let original = Run::of(document, outcomes, None);
    for moment in 0..original.trace.len() {
        let restarted = Run::of(document, outcomes, Some(moment));
        assert_eq!(restarted.trace, original.trace, "restarted at moment {moment}: {}", original.waits[moment]);
    }
    original.waits.into_iter().collect()
}

#[test]
fn a_script_that_is_restarted_in_any_state_continues_like_the_original() {
    let mut states = BTreeSet::new();
    for outcomes in [Outcomes::Success, Outcomes::Failure, Outcomes::Other] {
        let seen = continues_after_a_restart(EVERYTHING, outcomes);
        assert!(outcomes == Outcomes::Other || seen.len() == STATES.len(), "{outcomes:?}: {seen:?}");
        states.extend(seen);
    }
    assert_eq!(states.into_iter().collect::<Vec<_>>(), STATES);
}

#[test]
fn a_script_that_is_restarted_at_any_method_continues_like_the_original() {
    for method in &METHODS {
        let document = example_of(method.name) + "  - play: 'say:${vars}'\n";
        for outcomes in [Outcomes::Success, Outcomes::Failure] {
            println!("{} {outcomes:?}", method.name);
            continues_after_a_restart(&document, outcomes);
        }
    }
}

#[test]
fn the_written_form_of_a_script_has_each_document_once() {
    let mut script = LegScript::default();
    let asked = fetch("http://app/swml", FetchReason::Start);
    script.handle_fetch(&account(), &asked, &context());
    // A section that executes itself 40 times.
    let document = format!(
        "sections:\n  main:\n  - execute: {{dest: s, params: {{n: '0'}}}}\n  s:\n  - cond: [{{when: '+params.n < 40', then: \
         [{{execute: {{dest: s, params: {{n: '${{+params.n + 1}}'}}}}}}]}}]\n  - play: 'say:{}'\n",
        "x".repeat(10_000)
    );
    let Step::Done { result: Ok(_), .. } = script.handle_response(&asked, Ok(&response(&document))) else { panic!() };
    let octets = script.write().unwrap();
    assert!(octets.len() < 50_000, "{}", octets.len());
    assert_eq!(LegScript::read(&octets).unwrap(), script);
}

#[test]
fn a_torn_script_and_another_version_are_refused() {
    let mut script = LegScript::default();
    let asked = fetch("http://app/swml", FetchReason::Start);
    script.handle_fetch(&account(), &asked, &context());
    script.handle_response(&asked, Ok(&response(EVERYTHING)));
    let octets = script.write().unwrap();
    for length in 0..octets.len() {
        assert!(matches!(LegScript::read(&octets[..length]), Err(CallSnapshotError::Malformed(_))), "torn at {length}");
    }
    let mut newer = octets.clone();
    newer[0] += 1;
    assert_eq!(LegScript::read(&newer).unwrap_err(), CallSnapshotError::Version(VERSION + 1));
    // A position that the document does not have.
    let text = String::from_utf8(octets).unwrap();
    for (written, other) in [("\"first\":", "\"first\":9"), ("\"document\":0", "\"document\":1")] {
        assert!(text.contains(written), "{text}");
        let read = LegScript::read(text.replacen(written, other, 1).as_bytes());
        assert!(matches!(read, Err(CallSnapshotError::Malformed(_))), "{other}");
    }
}
