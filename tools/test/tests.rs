//! Tests of whole calls. Their documents are inline, so they need no network.

use std::path::Path;

use super::*;

/// Runs the only test of a file.
fn run(document: &str, rest: &str) -> Outcome {
    let text = format!("document = '''<Response>{document}</Response>'''\n[[tests]]\nname = \"one\"\n{rest}\n");
    let file = file::parse(&text, Path::new(""), None).unwrap_or_else(|faults| panic!("{faults:?}"));
    let account = AccountOf::default().account().unwrap();
    let world = World::new(account, &Config::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(world.run("ivr.toml", &file.tests[0]))
}

fn transcript(outcome: &Outcome) -> String {
    outcome.log.iter().map(|entry| entry.line() + "\n").collect()
}

fn passes(document: &str, rest: &str) -> Outcome {
    let outcome = run(document, rest);
    assert_eq!(outcome.failure, None, "{}", transcript(&outcome));
    outcome
}

#[test]
fn prompts_pauses_and_timeouts_take_no_real_time() {
    let began = Instant::now();
    let document = "<Say>Please wait</Say><Pause length='300'/><Gather timeout='20'><Say>Press a key</Say></Gather><Say>Goodbye</Say>";
    let outcome = passes(
        document,
        "steps = [{ expect = 'words:please wait' }, { expect = 'words:press a key', within = 400 }, { expect = 'words:goodbye' }, { expect = 'hangup' }]",
    );
    assert!(outcome.virtual_time > Duration::from_secs(320), "{}", transcript(&outcome));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_digit_during_a_prompt_interrupts_it_and_a_digit_after_it_ends_the_gather() {
    let document = "<Gather numDigits='1' action='http://127.0.0.1:9/never'><Say>A very long sentence that nobody wants to hear to its end</Say></Gather>";
    // The action is asked for at once, so the digit has ended the gather before the sentence was over.
    let outcome = run(
        document,
        "steps = [{ expect = 'speech' }, { press = 1 }, { expect = 'problem connection-refused' }, 'hangup']",
    );
    assert_eq!(outcome.failure, None, "{}", transcript(&outcome));
    let asked = outcome.log.iter().find(|entry| entry.text.starts_with("POST")).unwrap();
    assert!(asked.at < Duration::from_secs(1) && asked.text.contains("Digits=1"), "{}", transcript(&outcome));
}

#[test]
fn called_parties_answer_refuse_or_ring_as_the_test_says() {
    let dial = "<Dial timeout='15'><Number>+15551230002</Number></Dial><Say>Nobody is here</Say>";
    let busy = "called = { '+15551230002' = 'busy' }\nsteps = [{ expect = 'dial:+15551230002' }, { expect = 'words:nobody' }, { expect = 'end:completed' }]";
    assert!(passes(dial, busy).virtual_time < Duration::from_secs(10));
    let rings = "called = { '+15551230002' = 'no-answer' }\nsteps = [{ expect = 'words:nobody' }]";
    assert!(passes(dial, rings).virtual_time > Duration::from_secs(15));
    passes(
        dial,
        "steps = [{ expect = 'bridge' }, { say = 'Is anybody there' }, { expect = 'words:yes of course' }, 'hangup']\n\
         called.'+15551230002' = { after = 3, steps = [{ expect = 'words:anybody' }, { say = 'Yes, of course' }, { expect = 'hangup' }] }",
    );
    let outcome = run(dial, "steps = [{ expect = 'words:nobody' }]");
    let failure = outcome.failure.unwrap();
    assert!(failure.contains("add called = { \"+15551230002\" = \"answer\" }"), "{failure}");
}

#[test]
fn a_recording_ends_by_a_key_by_silence_or_at_its_maximum_length() {
    let record = "<Record timeout='5' maxLength='30' finishOnKey='#'/><Say>Thank you</Say>";
    let lasts = |steps: &str| {
        // The document has no URL to which the recording could be reported.
        let first = "{ expect = 'problem bad-url' }, { expect = 'tone:1000' }, { expect = 'record' }";
        let steps = format!("steps = [{first}, {steps} {{ expect = 'words:thank you' }}]");
        passes(record, &steps).virtual_time
    };
    assert!(lasts("{ press = '#' },") < Duration::from_secs(3));
    let silence = lasts("");
    assert!(silence > Duration::from_secs(5) && silence < Duration::from_secs(8), "{silence:?}");
    let long = "word ".repeat(200);
    let longest = lasts(&format!("{{ say = '{long}' }},"));
    assert!(longest > Duration::from_secs(30), "{longest:?}");
}

#[test]
fn speech_is_recognised_as_it_was_said() {
    let document =
        "<Gather input='speech' speechTimeout='1' action='http://127.0.0.1:9/'><Say>How can I help you</Say></Gather>";
    let steps =
        "steps = [{ expect = 'words:help you' }, { say = 'Sales, please' }, { expect = 'problem connection-refused' }]";
    let outcome = passes(document, steps);
    assert!(transcript(&outcome).contains("SpeechResult=Sales, please"), "{}", transcript(&outcome));
}

#[test]
fn an_unmet_expectation_says_what_was_heard_and_a_problem_fails_the_test() {
    let failure = |document: &str, steps: &str| run(document, steps).failure.unwrap();
    let text = failure("<Say>Good morning</Say>", "steps = [{ expect = 'words:good evening' }]");
    assert!(
        text.contains("step 1: expected the words \"good evening\"") && text.contains("heard: \"good morning\""),
        "{text}"
    );
    let text = failure("<Say>Hello</Say><Sing/>", "steps = [{ expect = 'words:hello' }]");
    assert!(text.contains("the problem unknown-markup"), "{text}");
    let text = failure("<Pause length='3600'/>", "steps = [{ wait = 1 }]");
    assert!(text.contains("still runs after 600 s"), "{text}");
    let text = failure("<Say>", "steps = ['hangup']");
    assert!(text.starts_with("document: "), "{text}");
    passes("<Reject reason='busy'/>", "steps = [{ expect = 'end:busy' }]");
    passes(
        "<Dial answerOnBridge='true'>+15551230002</Dial>",
        "called = { '+15551230002' = 'no-answer' }\nsteps = [{ wait = 5 }, 'hangup', { expect = 'end:canceled' }]",
    );
}
