//! Tests of whole scripts without a call. The tests check which actions a script returns, and which variables the
//! outcome of a method sets.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_accounts::{Account, SignalwireCredentials};
use tandem_call::address::Address;
use tandem_call::command::{Accepted, Command, Refused};
use tandem_call::event::{CallEvent, DialResult, DialStatus, EventKind, GatherEnd, Playback, PlaybackEnd};
use tandem_call::fetch::{FailureKind, Fetch, FetchFailure, FetchReason, Scope};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegInfo, LegOwner, Quality, SipFacts, Status};
use tandem_call::program::instruction::{AudioSource, Instruction, RejectReason};
use tandem_call::recognition::RecognisedText;
use tandem_call::recording::{
    Recording, RecordingChannels, RecordingFormat, RecordingSource, RecordingSpec, RecordingStatus,
};
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_dialect::script::{Response, Step};
use tandem_dialect::{Context, Dialect, Documents};
use tandem_id::{AccountName, CallId, FetchId, LegId, OpId, RecordingId};
use tandem_twilio::family::Provider as _;
use tandem_webhooks::Body;

use super::document::Document;
use super::error::Code;
use super::facts::Remembered;
use super::interpreter::{Interpreter, Next};
use super::method::NEXT;
use super::value::{Object, Value};
use super::{Swml, dialect};

fn machine(steps: &str) -> Interpreter {
    let text = format!("sections:\n  main:\n{steps}");
    let mut machine = Interpreter::read(text.as_bytes(), Object::default()).unwrap();
    machine.context.answered = true;
    machine
}

/// Runs the interpreter to its end. Returns the interpreter's sounds and commands in a short form.
fn played(machine: &mut Interpreter) -> Vec<String> {
    let mut played = Vec::new();
    loop {
        match machine.next().unwrap() {
            Next::Run(instructions) => {
                played.extend(instructions.iter().map(short));
                assert_eq!(machine.resume(&FetchReason::Redirect).unwrap(), None);
            }
            Next::Document(url) => played.push(format!("document {url}")),
            Next::Request(ask) => played.push(format!("{} {}", ask.method, ask.url)),
            Next::End => return played,
        }
    }
}

fn short(instruction: &Instruction) -> String {
    match instruction {
        Instruction::Play(play) => match &play.source {
            AudioSource::Speech(speech) => speech.text.clone(),
            AudioSource::Url(url) => url.clone(),
            other => format!("{other:?}"),
        },
        Instruction::Pause(length) => format!("pause {length:?}"),
        other => format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
    }
}

fn played_by(steps: &str) -> Vec<String> {
    played(&mut machine(steps))
}

#[test]
fn cond_switch_set_and_unset_select_the_played_text() {
    let steps = "
    - set: {a: 5, b: '${a + 1}', name: '${\"x\".toUpperCase()}'}
    - cond:
      - when: b == 6 && name === 'X'
        then: [play: 'say:six ${b}']
      - else: [play: 'say:other']
    - cond:
      - {when: '${a} > 9', then: [play: 'say:big']}
      - {else: [play: 'say:small']}
    - switch:
        variable: a
        case: {4: [play: 'say:four'], 5: [play: 'say:five']}
    - switch: {variable: '${name}', case: {x: [hangup]}, default: [play: 'say:default']}
    - unset: a
    - play: 'say:[${a}]'";
    assert_eq!(played_by(steps), ["six 6", "small", "five", "default", "[]"]);
}

#[test]
fn execute_runs_a_section_and_gets_its_return_value() {
    let text = r#"{"sections":{
      "main":[{"execute":{"dest":"add","params":{"a":1,"b":2},
                "on_return":[{"play":"say:back ${return_value}"}],
                "result":{"case":{"12":[{"play":"say:as text"}]},"default":[{"play":"say:no"}]}}},
              {"play":"say:${params.a}|${return_value}"}],
      "add":[{"cond":[{"when":"true","then":[{"return":"${params.a+params.b}"}]}]},{"play":"say:never"}]}}"#;
    let mut machine = Interpreter::read(text.as_bytes(), Object::default()).unwrap();
    // A number in `params` becomes a text.
    assert_eq!(played(&mut machine), ["back 12", "as text", "|12"]);
}

#[test]
fn a_transfer_does_not_return_and_the_number_of_transfers_is_limited() {
    let text = "sections:\n  main:\n  - transfer: {dest: other, params: {x: y}}\n  - play: say:never\n  other:\n  - play: 'say:${params.x}'\n";
    let mut script = Interpreter::read(text.as_bytes(), Object::default()).unwrap();
    assert_eq!(played(&mut script), ["y"]);
    let text = "sections:\n  main:\n  - transfer: main\n";
    let mut script = Interpreter::read(text.as_bytes(), Object::default()).unwrap();
    let fault = script.next().unwrap_err();
    assert_eq!(fault.to_string(), "relay_script_too_many_transfers: more than 32 transfers in one call");
}

#[test]
fn goto_jumps_to_a_label_a_limited_number_of_times() {
    let steps = "
    - set: {n: 0}
    - label: top
    - set: {n: '${n + 1}'}
    - play: 'say:${n}'
    - goto: {label: top, when: n < 3}
    - goto: {label: top, max: 2}
    - goto: nowhere
    - play: say:end";
    assert_eq!(played_by(steps), ["1", "2", "3", "4", "5", "end"]);
    let endless = "
    - label: a
    - goto: a
    - play: say:after";
    assert_eq!(played_by(endless), ["after"]);
}

#[test]
fn endless_loops_and_endless_recursion_are_errors() {
    let mut nested = String::from("    - play: say:x\n");
    for level in 0..3 {
        nested = format!("    - label: l{level}\n{nested}    - goto: l{level}\n")
            .replace("    - play: say:x\n", "    - set: {a: 1}\n");
    }
    assert!(machine(&nested).next().is_err() || played(&mut machine(&nested)).is_empty());
    let mut script = machine("    - execute: main");
    assert_eq!(script.next().unwrap_err().to_string().split(':').next(), Some("relay_script_nested_too_deep"));
    let mut script = machine("    - execute: nowhere");
    assert!(script.next().unwrap_err().to_string().starts_with("relay_script_section_parameter_undefined"));
}

#[test]
fn an_invalid_expression_causes_a_warning_and_is_empty() {
    let mut script = machine(
        "    - play: 'say:a${1 +}b'\n    - cond: [{when: '1 +', then: [hangup]}]\n    - set: {e: '${script_error}'}",
    );
    assert_eq!(played(&mut script), ["ab"]);
    assert_eq!(script.vars.get("e"), Some(&"relay_script_js_eval_error".into()));
    assert_eq!(script.warnings().len(), 2);
}

#[test]
fn the_total_size_of_variables_is_limited() {
    let steps = "
    - set: {x: '${\"x\".repeat(600000)}'}
    - set: {y: '${x}'}
    - play: 'say:${script_error} [${y}]'";
    assert_eq!(played_by(steps), ["relay_script_method_execute_failed []"]);
}

/// Documents, each with a way to make the server work.
fn dear_documents() -> Vec<(&'static str, String)> {
    let steps = |steps: &str| format!("{{\"sections\":{{\"main\":[{steps}\"hangup\"]}}}}");
    let large = r#"{"set":{"t":"${'x'.repeat(900000)}"}},"#;
    let again = r#"{"goto":"top"},"#;
    let looped = |inner: &str| format!("{large}\"cond\"").replace("\"cond\"", r#"{"label":"top"},"#) + inner + again;
    vec![
        (
            "set",
            steps(&format!(
                "{{\"set\":{{{}\"z\":1}}}},",
                (0..1_000).map(|n| format!("\"v{n}\":\"${{'x'.repeat(9000)}}\",")).collect::<String>()
            )),
        ),
        ("set of one large variable", steps(&looped(r#"{"set":{"u":"${t.slice(1)}"}},"#))),
        ("text around placeholders", steps(&looped(r#"{"set":{"u":"${t}."}},"#))),
        ("text of placeholders", steps(&format!("{{\"set\":{{\"a\":\"{}\"}}}},", "${".repeat(20_000)))),
        ("cond", steps(&looped(r#"{"cond":[{"when":"t == t + 1","then":["answer"]}]},"#))),
        ("switch", steps(&looped(r#"{"switch":{"variable":"t","case":{"a":[]},"default":[]}},"#))),
        (
            "switch of many cases",
            steps(&format!(
                r#"{{"label":"top"}},{{"switch":{{"variable":"q","case":{{{}}},"default":[]}}}},{again}"#,
                (0..2_000).map(|n| format!("\"{n}\":[]")).collect::<Vec<_>>().join(",")
            )),
        ),
        (
            "goto with a condition",
            steps(&format!(r#"{large}{{"label":"top"}},{{"goto":{{"label":"top","when":"t > 'a'"}}}},"#)),
        ),
        (
            "goto across many steps",
            steps(&format!("{{\"label\":\"a\"}},{}{{\"label\":\"top\"}},{again}", "{\"unset\":\"x\"},".repeat(5_000))),
        ),
        (
            "execute",
            format!(
                r#"{{"sections":{{"main":[{large}{{"label":"top"}},{{"execute":{{"dest":"s","params":{{"a":"${{t}}"}}}}}},{again}"hangup"],"s":[{{"return":"${{params.a}}"}}]}}}}"#
            ),
        ),
        (
            "execute of a document",
            steps(&looped(&format!(
                r#"{{"execute":"{{\"sections\":{{\"main\":[{}{{\"unset\":\"y\"}}]}}}}"}},"#,
                r#"{\"unset\":\"x\"},"#.repeat(1_000)
            ))),
        ),
        ("return", steps(&looped(r#"{"execute":{"dest":"{\"sections\":{\"main\":[{\"return\":\"${t}\"}]}}"}},"#))),
        (
            "unset",
            steps(&format!(
                "{{\"set\":{{{}\"z\":1}}}},{{\"label\":\"top\"}},{{\"unset\":[{}\"z\"]}},{again}",
                (0..2_000).map(|n| format!("\"v{n}\":1,")).collect::<String>(),
                "\"q\",".repeat(2_000)
            )),
        ),
        (
            "many names",
            steps(&format!(
                "{{\"set\":{{{}\"z\":\"{}\"}}}},",
                (0..5_000).map(|n| format!("\"v{n}\":1,")).collect::<String>(),
                "${q}".repeat(5_000)
            )),
        ),
        ("request", steps(&looped(r#"{"request":{"url":"ftp://h/","method":"POST","body":"${t}"}},"#))),
        (
            "transfer",
            steps(&format!(r#"{large}{{"transfer":{{"dest":"main","params":{{"a":"${{t}}","b":"${{t}}"}}}}}},"#)),
        ),
        ("play", steps(&format!("{{\"play\":{{\"urls\":[{}\"x\"]}}}},", "\"a\",".repeat(40_000)))),
        (
            "connect",
            steps(&format!(
                "{{\"connect\":{{\"parallel\":[{}{{\"to\":\"a\"}}]}}}},",
                "{\"to\":\"${1}\"},".repeat(15_000)
            )),
        ),
    ]
}

#[test]
fn every_costly_document_ends_with_too_much_work() {
    for (name, text) in dear_documents() {
        let mut script =
            Interpreter::read(text.as_bytes(), Object::default()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let ended = script.next();
        let code = ended.as_ref().map_err(|fault| fault.code).err();
        assert_eq!(code, Some(Code::TooMuchWork), "{name}: {ended:?}");
    }
}

#[test]
fn a_script_beyond_its_budget_fails_and_each_action_renews_the_budget() {
    let work = "\n    - set: {x: '${\"x\".repeat(300000).length}'}";
    let mut script = machine(&work.repeat(3));
    assert_eq!(played(&mut script), [""; 0]);
    let mut script = machine(&work.repeat(30));
    let fault = script.next().unwrap_err();
    assert!(fault.to_string().contains("set: more than 4000000 octets of work since the last action"), "{fault}");
    let mut script = machine(&format!("{work}\n    - play: say:a").repeat(30));
    for _ in 0..30 {
        script.budget.renew();
        run(&mut script);
        script.resume(&FetchReason::Redirect).unwrap();
    }
    assert_eq!(script.next().unwrap(), Next::End);
}

#[test]
fn a_variable_beyond_the_size_limit_is_not_set() {
    let text = "x".repeat(400_000);
    let mut script = Interpreter::of_nothing();
    for _ in 0..5 {
        script.set("a", text.as_str());
        script.set("b", text.as_str());
        script.set("c", text.as_str());
        assert_eq!(script.vars.get("c"), None);
        assert_eq!(variable(&script, "script_error"), "relay_script_method_execute_failed");
        script.unset("a");
        script.budget.renew();
    }
    let mut deep = Value::Null;
    for _ in 0..65 {
        deep = Value::List(vec![deep]);
    }
    script.set("d", deep);
    assert_eq!(script.vars.get("d"), None);
}

#[test]
fn the_number_and_length_of_a_documents_warnings_are_limited() {
    let unknown: String = (0..5_000).map(|n| format!("\"k{n}\":1,")).collect();
    let long = "n".repeat(100_000);
    let text = format!(r#"{{"sections":{{"main":["hangup"],"{long}":[{{"play":{{{unknown}"url":"a"}}}}]}}}}"#);
    let document = Document::read(text.as_bytes()).unwrap();
    assert_eq!(document.warnings.len(), 100);
    assert!(document.warnings.iter().all(|fault| fault.detail.len() < 500));
}

#[test]
fn a_script_that_ends_after_an_unsupported_method_plays_an_apology() {
    let answers = |steps: &str| {
        let mut script = swml().script().unwrap();
        let first = fetch("http://app/swml", FetchReason::Start);
        script.handle_fetch(&account(), &first, &context());
        let body = format!("sections:\n  main:\n{steps}");
        match script.handle_response(&first, Ok(&response(&body))) {
            Step::Done { result: Ok(program), .. } => program.instructions.iter().map(short).collect::<Vec<_>>(),
            _ => panic!("{steps}"),
        }
    };
    assert_eq!(answers("    - pay: {payment_connector_url: 'https://x/'}"), ["Refused"]);
    assert_eq!(answers("    - ai: {prompt: {}}\n    - hangup"), ["Refused"], "an agent without a prompt");
    assert_eq!(answers("    - ai: {}\n    - play: 'say:sorry'"), ["sorry", "Redirect"]);
    assert_eq!(answers("    - send_sms: {to_number: '+1', from_number: '+1', body: x}\n    - hangup: {}")[0], "Reject");
}

#[test]
fn an_unsupported_method_sets_a_failed_result_and_the_script_continues() {
    let steps = "
    - ai_sidecar: {prompt: {text: hello}}
    - send_sms: {to_number: '+1', from_number: '+1', body: x}
    - pay: {payment_connector_url: 'https://x/'}
    - live_translate: {action: stop}
    - play: 'say:${ai_sidecar_result} ${send_sms_result} ${pay_result} ${live_translate_result}'";
    let mut script = machine(steps);
    assert_eq!(played(&mut script), ["failed failed internal-error failed"]);
    assert_eq!(script.warnings().len(), 4);
}

fn run(machine: &mut Interpreter) -> Vec<Instruction> {
    match machine.next().unwrap() {
        Next::Run(instructions) => instructions,
        other => panic!("{other:?}"),
    }
}

fn variable(machine: &Interpreter, name: &str) -> String {
    machine.vars.get(name).map(Value::to_string).unwrap_or_default()
}

#[test]
fn a_prompt_collects_one_digit_by_default() {
    let mut script = machine(
        "    - prompt: {play: 'say:press'}\n    - prompt: {play: ['say:a', 'silence:1'], max_digits: 4, terminators: '#', digit_timeout: 2.5, speech_hints: [one, two]}",
    );
    let [Instruction::Gather(gather)] = &run(&mut script)[..] else { panic!() };
    assert_eq!((gather.max_digits, &*gather.terminators, gather.barge_in), (Some(1), "", true));
    assert_eq!((gather.first_digit_timeout, gather.inter_digit_timeout), (5 * SECOND, 5 * SECOND));
    assert!(gather.speech.is_none());
    script.resume(&FetchReason::Gathered { digits: "7".into(), terminator: None }).unwrap();
    assert_eq!(
        (variable(&script, "prompt_result"), variable(&script, "prompt_value")),
        ("match_digits".into(), "7".into())
    );
    let [Instruction::Gather(gather)] = &run(&mut script)[..] else { panic!() };
    assert_eq!((gather.max_digits, gather.prompts.len()), (Some(4), 2));
    assert_eq!(gather.inter_digit_timeout, Duration::from_millis(2_500));
    let speech = gather.speech.as_ref().unwrap();
    assert!(speech.digits && speech.recognition.hints == ["one", "two"]);
    script.resume(&FetchReason::Gathered { digits: String::new(), terminator: Some('#') }).unwrap();
    assert_eq!(variable(&script, "prompt_result"), "no_input");
    assert_eq!(variable(&script, "prompt_digit_terminator"), "#");
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn record_call_sets_its_url_immediately_and_stop_record_call_stops_it() {
    let mut script = machine(
        "    - record_call: {stereo: true, status_url: 'http://h/s'}\n    - play: 'say:${record_call_url}'\n    - stop_record_call:\n    - stop_record_call: {control_id: none}",
    );
    script.context.recordings = "http://us/Recordings/".into();
    let [Instruction::ExecuteCommand(order)] = &run(&mut script)[..] else { panic!() };
    let Command::StartRecording(spec) = &order.command else { panic!() };
    assert_eq!((spec.silence_timeout, spec.track), (None, tandem_call::recording::Track::Both));
    let id = RecordingId(0x1234);
    script.resume(&FetchReason::CommandExecuted(Ok(Accepted { recording: Some(id), ..Accepted::default() }))).unwrap();
    let [Instruction::Play(_)] = &run(&mut script)[..] else { panic!() };
    assert_eq!(variable(&script, "record_call_url"), "http://us/Recordings/00000000-0000-0000-0000-000000001234.wav");
    let [Instruction::ExecuteCommand(order)] = &run(&mut script)[..] else { panic!() };
    assert_eq!(order.command, Command::StopRecording(Some(id)));
    script.resume(&FetchReason::CommandExecuted(Err(Refused::NotRunning))).unwrap();
    assert_eq!(variable(&script, "stop_record_call_result"), "failed");
    assert_eq!(script.next().unwrap(), Next::End);
}

pub(super) fn dialled(status: DialStatus, bridged: bool) -> FetchReason {
    FetchReason::Dialed(DialResult {
        called_uri: true,
        answered: true,
        status,
        child: None,
        duration: SECOND,
        bridged,
        taken: false,
        sip_status: None,
        sip_call_id: None,
        sip_headers: HeaderFields::new(),
        returned: Vec::new(),
        recording: None,
    })
}

#[test]
fn connect_dials_the_groups_of_serial_parallel_in_order() {
    let steps = "
    - connect:
        timeout: 20
        headers: [{name: X-A, value: '1'}]
        serial_parallel:
        - [{to: '+15550001', timeout: 5}, {to: 'sip:a@b', headers: [{name: X-B, value: '2'}]}]
        - [{to: bob@example.com, confirm: [{set: {x: 1}}, {play: 'say:accept ${x}?'}]}]
        result:
          case: {connected: [play: 'say:joined']}
          default: [play: 'say:${connect_failed_reason}']";
    let mut script = machine(steps);
    let [Instruction::Dial(first)] = &run(&mut script)[..] else { panic!() };
    assert_eq!(first.targets.len(), 2);
    assert_eq!((first.timeout, first.sequential, first.answer_on_bridge), (5 * SECOND, false, false));
    assert_eq!(*first.targets[0].headers, [("X-A".to_owned(), "1".to_owned())]);
    assert_eq!(*first.targets[1].headers, [("X-B".to_owned(), "2".to_owned())]);
    let Some(Next::Run(second)) = script.resume(&dialled(DialStatus::NoAnswer, false)).unwrap() else { panic!() };
    let [Instruction::Dial(second)] = &second[..] else { panic!() };
    assert_eq!((second.timeout, &second.targets[0].to), (20 * SECOND, &Address::Sip("sip:bob@example.com".into())));
    let confirm = second.targets[0].whisper.as_ref().unwrap();
    assert_eq!(
        played(&mut Interpreter::read(&super::method::inlined(&confirm.url).unwrap(), Object::default()).unwrap()),
        ["accept 1?"]
    );
    assert_eq!(script.resume(&dialled(DialStatus::Busy, false)).unwrap(), None);
    assert_eq!(played(&mut script), ["busy"]);
}

#[test]
fn transfer_after_bridge_runs_another_document() {
    let steps = "    - connect: {to: 'queue:support', transfer_after_bridge: 'https://h/after'}\n    - play: say:never";
    let mut script = machine(steps);
    let [Instruction::Dial(dial)] = &run(&mut script)[..] else { panic!() };
    assert_eq!(dial.queue.as_ref().map(|queue| &*queue.queue), Some("support"));
    let next = script.resume(&dialled(DialStatus::Completed, true)).unwrap();
    assert_eq!(next, Some(Next::Document("https://h/after".into())));
}

#[test]
fn the_response_of_a_request_becomes_variables() {
    let steps = "
    - request:
        url: https://h/a
        method: POST
        headers: {X-A: '1', Host: evil, Accept: '*/*'}
        body: {a: '${1 + 1}'}
        save_variables: true
    - play: 'say:${request_response.name} ${request_response_code} ${request_response_headers.content-type} ${request_result}'";
    let mut script = machine(steps);
    let Next::Request(ask) = script.next().unwrap() else { panic!() };
    let names: Vec<_> = ask.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((&*ask.body, &names[..]), (&b"{\"a\":2}"[..], &["X-A", "Accept", "Content-Type"][..]));
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    script.requested(Some((200, &headers, b"{\"name\":\"Ann\"}")), true);
    assert_eq!(played(&mut script), ["Ann 200 application/json success"]);
}

#[test]
fn hangup_refuses_an_unanswered_call() {
    for (step, reason) in [
        ("{hangup: {reason: busy}}", RejectReason::Busy),
        ("{hangup: decline}", RejectReason::Rejected),
        ("hangup", RejectReason::Status(480)),
    ] {
        let mut script = machine(&format!("    - {step}"));
        script.context.answered = false;
        assert_eq!(run(&mut script), [Instruction::Reject(reason)], "{step}");
    }
}

// ----- the dialect ----------------------------------------------------------------------------------------------------

fn swml() -> Swml {
    dialect(crate::dialect(false))
}

pub(super) fn account() -> Account {
    let signalwire = SignalwireCredentials {
        project_id: "00000000-0000-4000-8000-000000000001".into(),
        api_token: "PT".into(),
        signing_key: "PSK".into(),
    };
    Account {
        name: AccountName::new("main"),
        twilio: None,
        telnyx: None,
        signalwire: Some(signalwire),
        operator: false,
    }
}

#[test]
fn the_last_cxml_callback_has_the_sip_reason_phrase_and_packet_counts() {
    let mut leg = leg();
    leg.answered_at = None;
    let (at, sip_status) = (leg.created_at, Some(486));
    let (cause, by) = (EndCause::Busy, EndedBy::FarEnd);
    leg.end = Some(LegEnd { at, cause, by, sip_status, detail: None, failure: None });
    leg.sip.quality = Some(Quality { packets_in: 500, packets_out: 400, lost: 3, late: 2, ..Quality::default() });
    let mut pushed = Vec::new();
    crate::SignalWire.progress(&leg, true, &mut |name, value| pushed.push((name.to_owned(), value)));
    for (name, value) in [
        ("SipResultCode", "486"),
        ("SipInviteResultPhrase", "Busy Here"),
        ("AudioInMediaPacketCount", "500"),
        ("AudioInSkipPacketCount", "3"),
        ("AudioInFlushPacketCount", "2"),
        ("AudioOutMediaPacketCount", "400"),
    ] {
        assert!(pushed.contains(&(name.to_owned(), value.to_owned())), "{name}: {pushed:?}");
    }
    pushed.clear();
    crate::SignalWire.progress(&leg, false, &mut |name, value| pushed.push((name.to_owned(), value)));
    assert!(pushed.is_empty(), "only the end has figures");
}

pub(super) fn leg() -> LegInfo {
    let (from, to) = (Address::from("+15550001"), Address::from("+15550002"));
    let owner = LegOwner::new(AccountName::new("main"), "swml");
    LegInfo {
        client_state: Remembered { envs: vec![("who".into(), "Ann".into())] }.spelled(),
        sip: SipFacts {
            trunk: Some("carrier".into()),
            headers: HeaderFields::from([("X-A".into(), "1".into())]),
            ..SipFacts::default()
        },
        ..LegInfo::inbound(LegId(1), CallId(2), owner, from, to, Timestamp::UNIX_EPOCH)
    }
}

pub(super) fn fetch(url: &str, reason: FetchReason) -> Fetch {
    let target = Target { url: url.into(), method: Method::Post };
    Fetch { id: FetchId(1), leg: Arc::new(leg()), target, reason, scope: Scope::Leg, first_method: Method::Post }
}

pub(super) fn context() -> Context {
    Context { public_url: "http://us".into(), sequence: 0, recording: None, queue: None }
}

pub(super) fn response(body: &str) -> Response {
    Response {
        status: 200,
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        final_url: "http://app/".into(),
        redirects: Vec::new(),
        elapsed: Duration::ZERO,
    }
}

#[test]
fn an_application_gets_a_json_request_and_its_script_runs_to_its_end() {
    let (swml, account, context) = (swml(), account(), context());
    let mut script = swml.script().unwrap();
    let first = fetch("http://app/swml", FetchReason::Start);
    let Step::Document(notice) = script.handle_fetch(&account, &first, &context) else { panic!() };
    let Body::Json(body) = &notice.body else { panic!() };
    assert_eq!(body["call"]["call_id"], "00000000-0000-0000-0000-000000000001");
    assert_eq!((&body["call"]["type"], &body["call"]["from_number"]), (&"phone".into(), &"+15550001".into()));
    assert_eq!(body["call"]["headers"][0]["name"], "X-A");
    assert_eq!((&body["envs"]["who"], &body["vars"]), (&"Ann".into(), &serde_json::json!({})));
    let document = "sections:\n  main:\n  - play: {url: 'say:Hi ${who} ${call.from}', odd: 1}\n  - transfer: {dest: 'http://app/next', params: {n: 1}}\n";
    let Step::Done { result: Ok(program), .. } = script.handle_response(&first, Ok(&response(document))) else {
        panic!()
    };
    let [Instruction::Play(play), Instruction::Redirect(next)] = &program.instructions[..] else { panic!() };
    assert!(matches!(&play.source, AudioSource::Speech(speech) if speech.text == "Hi Ann +15550001"));
    assert_eq!((&*next.url, program.warnings.len()), (NEXT, 1));
    let second = fetch(NEXT, FetchReason::Redirect);
    let Step::Document(notice) = script.handle_fetch(&account, &second, &context) else { panic!() };
    let Body::Json(body) = &notice.body else { panic!() };
    assert_eq!((&*notice.target.url, &body["params"]["n"]), ("http://app/next", &"1".into()));
    let end = script.handle_response(&second, Ok(&response("sections: {main: [{set: {a: 1}}]}")));
    let Step::Done { result: Ok(program), .. } = end else { panic!() };
    // The call has not been answered.
    assert_eq!(program.instructions, [Instruction::Reject(RejectReason::Status(480))]);
    let warnings: Vec<&str> = program.warnings.iter().map(|warning| &*warning.message).collect();
    assert_eq!(warnings, [tandem_causes::UNANSWERED_SCRIPT]);
}

/// The failure of a script whose first document is `text`, or the line of its first step.
fn begun(text: &str) -> Result<String, FetchFailure> {
    let (swml, account, context) = (swml(), account(), context());
    let mut script = swml.script().unwrap();
    let first = fetch("http://app/swml", FetchReason::Start);
    script.handle_fetch(&account, &first, &context);
    let Step::Done { result, line } = script.handle_response(&first, Ok(&response(text))) else { panic!("{text}") };
    result.map(|_| line)
}

#[test]
fn each_invalid_answer_has_its_own_cause() {
    use tandem_causes::Cause;
    for (text, cause) in [
        ("", Cause::EmptyAnswer),
        (" \n", Cause::EmptyAnswer),
        ("<!DOCTYPE html><html></html>", Cause::HtmlAnswer),
        ("<?xml version=\"1.0\"?><Response/>", Cause::OtherProvider),
        ("{\"sections\": {\"main\": [\"hangup\",]}}", Cause::ScriptSyntax),
        ("sections: {main: [hangup", Cause::ScriptSyntax),
        ("[]", Cause::ScriptInvalid),
        ("sections: {main: [{sing: {}}]}", Cause::ScriptInvalid),
        ("sections: {main: [{play: {}}]}", Cause::ScriptInvalid),
        ("sections: {other: [hangup]}", Cause::ScriptInvalid),
        ("sections: {main: [{execute: {dest: nowhere}}]}", Cause::ScriptInvalid),
        ("sections: {main: [{hangup: {}, answer: {}}]}", Cause::ScriptInvalid),
    ] {
        let failure = begun(text).unwrap_err();
        assert_eq!(Cause::of_failure(&failure), cause, "{text}: {failure:?}");
    }
}

#[test]
fn the_log_line_of_a_method_has_its_path_and_the_branches_taken() {
    let text = "sections:\n  main:\n  - set: {x: 2}\n  - cond: [{when: 'x == 1', then: [hangup]}, {else: [{execute: {dest: menu}}]}]\n  menu:\n  - switch: {variable: x, case: {'2': [answer]}}\n";
    assert_eq!(begun(text).unwrap(), "SWML: cond else, switch x is \"2\", menu.[0].[0].answer");
    assert_eq!(begun("sections: {main: [answer]}").unwrap(), "SWML: main.[0].answer");
}

#[test]
fn a_document_is_recognised_by_its_sections() {
    let swml = swml();
    let recognises = |text: &str| swml.documents().unwrap().recognises(text.as_bytes());
    assert!(recognises("{\"version\": \"1.0.0\", \"sections\": {\"main\": []}}"));
    assert!(recognises("version: 1.0.0\nsections:\n  main: [hangup]\n"));
    assert!(!recognises("{\"error\": \"no\"}") && !recognises("<Response>sections</Response>"));
}

#[test]
fn an_unreadable_document_fails_with_its_kind() {
    let (swml, account, context) = (swml(), account(), context());
    let mut script = swml.script().unwrap();
    let first = fetch("http://app/swml", FetchReason::Start);
    script.handle_fetch(&account, &first, &context);
    let Step::Done { result: Err(failure), .. } = script.handle_response(&first, Ok(&response("<Response/>"))) else {
        panic!()
    };
    assert_eq!(failure.kind, FailureKind::OtherDialect);
    let fresh = fetch(NEXT, FetchReason::Redirect);
    let mut lost = swml.script().unwrap();
    assert!(matches!(lost.handle_fetch(&account, &fresh, &context), Step::Done { result: Err(_), .. }));
}

#[test]
fn the_end_of_a_call_and_of_a_playback_send_json_webhooks() {
    let (swml, account, context) = (swml(), account(), context());
    let target = Target { url: "http://app/status#job".into(), method: Method::Post };
    let callback =
        Callback { target, failover: None, events: vec![StatusEvent::Completed], elsewhere: vec![], timeout: None };
    let end = LegEnd {
        at: Timestamp::from_second(5).unwrap(),
        cause: EndCause::Busy,
        by: EndedBy::FarEnd,
        sip_status: Some(486),
        detail: None,
        failure: None,
    };
    let ended = LegInfo { status: Status::Busy, end: Some(end), status_callback: Some(callback.clone()), ..leg() };
    let event = |kind| CallEvent { at: Timestamp::UNIX_EPOCH, leg: Arc::new(ended.clone()), kind };
    let webhook_of = |kind| {
        let notices = swml.webhook(&account, &event(kind), &context);
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        let Body::Json(body) = &notice.body else { panic!() };
        (notice.target.url.to_string(), body.clone())
    };
    let (url, body) = webhook_of(EventKind::Ended);
    assert_eq!((&*url, &body["event_type"]), ("http://app/status", &"calling.call.state".into()));
    assert_eq!((&body["params"]["call_state"], &body["params"]["end_reason"]), (&"ended".into(), &"busy".into()));
    assert_eq!((&body["params"]["end_time"], &body["params"]["control_id"]), (&5_000.into(), &"job".into()));
    let source = AudioSource::Silence(SECOND);
    let playback = Playback { op: OpId(1), source, prompt: false, callback: Some(Arc::new(callback.clone())) };
    let (_, body) = webhook_of(EventKind::PlaybackEnded(playback.clone(), PlaybackEnd::Completed));
    assert_eq!((&body["event_type"], &body["params"]["state"]), (&"calling.call.play".into(), &"finished".into()));
    let words = RecognisedText { stable: "yes".into(), confidence: Some(0.55), ..RecognisedText::default() };
    let collected = EventKind::GatherEnded {
        id: None,
        digits: String::new(),
        end: GatherEnd::Valid,
        terminator: None,
        words: Some(Box::new(words)),
        callback: Some(Arc::new(callback.clone())),
    };
    let (_, body) = webhook_of(collected);
    assert_eq!(body["params"]["result"]["params"]["confidence"].to_string(), "55.0");
    for (format, channels, octets) in [
        (RecordingFormat::Wav, RecordingChannels::Mono, 44 + 160_000),
        (RecordingFormat::Wav, RecordingChannels::Dual, 44 + 320_000),
        // 142 frames of 288 octets for each channel: 32 kbit/s, and the frames of the encoder's delay.
        (RecordingFormat::Mp3, RecordingChannels::Mono, 142 * 288),
        (RecordingFormat::Mp3, RecordingChannels::Dual, 142 * 576),
    ] {
        let spec = RecordingSpec {
            format,
            callback: Some(callback.clone()),
            ..RecordingSpec::new(RecordingSource::Record, channels)
        };
        let recording = Recording {
            id: RecordingId(1),
            leg: LegId(1),
            conference: None,
            spec,
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Some(Timestamp::UNIX_EPOCH),
            duration: Some(10 * SECOND),
            limit: None,
            status: RecordingStatus::Completed,
        };
        let (_, body) = webhook_of(EventKind::Recording(recording));
        let params = &body["params"];
        assert_eq!(
            (&params["size"], &params["record"]["size"]),
            (&octets.into(), &octets.into()),
            "{format:?} {channels:?}"
        );
    }
    // The callback has no subscription to the start event.
    assert!(swml.webhook(&account, &event(EventKind::PlaybackStarted(playback)), &context).is_empty());
}

#[test]
fn a_wait_document_plays_only_its_sounds_and_pauses() {
    let swml = swml();
    let fetch = Fetch { scope: Scope::Queue, ..fetch("http://app/wait", FetchReason::Wait) };
    let document = b"sections: {main: [{play: 'http://h/a.mp3'}, {sleep: 500}, {connect: '+15550003'}]}";
    let documents = swml.documents().unwrap();
    let request = documents.fetch(&account(), &fetch, &context());
    let program = documents.reply(&fetch, &request, None, None, document).unwrap();
    assert_eq!(program.instructions.iter().map(short).collect::<Vec<_>>(), ["http://h/a.mp3", "pause 500ms"]);
    assert_eq!(program.warnings.len(), 1);
}
