//! Tests of the code that only TeXML has: templates, parameters, answers and callbacks.

use tandem_call::leg::{EndCause, EndedBy, LegEnd};
use tandem_call::program::instruction::Instruction;
use tandem_call::recording::{RecordingChannels, Track};
use tandem_call::stream::{BidirectionalMode, StreamCodec};
use tandem_call::{Method, Target};
use tandem_markup::{self as markup, Origin};
use tandem_telnyx::fixture;
use tandem_twilio::twiml::TWIML;

use super::*;

fn request(url: &str, pairs: &[(&str, &str)]) -> Notice {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Notice {
        event: "voice".into(),
        target: Target { url: url.into(), method: Method::Post },
        failover: None,
        body: Body::Form(pairs),
        numbered: false,
    }
}

fn filled(template: &str) -> String {
    let pairs = [("From", "+1555"), ("Say", "<&>"), ("Digit[]", "1"), ("Digit[]", "2"), ("Empty", "")];
    let filled = template::filled(template.as_bytes(), &request("http://x/?color=blue", &pairs)).into_owned();
    String::from_utf8(filled).unwrap()
}

#[test]
fn a_template_is_filled_with_parameters_of_the_request_and_its_url() {
    for (template, text) in [
        ("{{From}} {{ color }} {{Nothing}}.", "+1555 blue ."),
        ("{{Say}} {{{Say}}} {{&Say}}", "&lt;&amp;&gt; <&> <&>"),
        ("{{#Digit}}[{{.}}]{{/Digit}}{{^Digit}}none{{/Digit}}", "[1][2]"),
        ("{{#Empty}}a{{/Empty}}{{^Empty}}b{{/Empty}}{{! nothing }}", "b"),
        ("{{#if From == '+1555'}}a{{#else}}b{{/if}}", "a"),
        ("{{#if From == \"+2\"}}a{{#elseif color == blue}}b{{#else}}c{{/if}}", "b"),
        ("{{#if From != '+1555'}}a{{#elseif color != blue}}b{{#else}}c{{/if}}", "c"),
        ("{{#if From}}{{#if Empty}}a{{#else}}b{{/if}}{{/if}}", "b"),
    ] {
        assert_eq!(filled(template), text, "{template}");
    }
}

#[test]
fn an_invalid_template_stays_unchanged_or_becomes_empty() {
    let deep = format!("{}x{}", "{{#From}}".repeat(20), "{{/From}}".repeat(20));
    let long = format!("{}{}", "{{#Digit}}".repeat(8), "x".repeat(10_000)) + &"{{/Digit}}".repeat(8);
    for template in ["{{#From}}", "{{/From}}", "{{#else}}", "a {{From", "{{{From}}", &deep, &long] {
        let filled = filled(template);
        assert!(filled == template || filled.is_empty(), "{template}");
    }
}

#[test]
fn a_template_of_any_text_neither_panics_nor_grows_without_bound() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    let parts = ["{{", "}}", "{", "}", "#", "/", "^", "if ", "else", "elseif ", "From", "Digit", " == ", "'", "é", " "];
    for _ in 0..20_000 {
        let text: String =
            (0..rng.random_range(0..40)).map(|_| parts[rng.random_range(0..parts.len())]).collect::<Vec<_>>().concat();
        assert!(filled(&text).len() <= markup::MAX_DOCUMENT);
    }
}

#[test]
fn an_application_id_has_19_digits_and_a_call_id_is_its_call_control_id() {
    for id in [0, 7, u128::MAX, 1 << 100] {
        let text = spell("AP", id);
        assert_eq!(text.len(), 19, "{id}");
        assert_eq!(spell("AP", parse("AP", &text).unwrap()), text);
    }
    assert_eq!(parse("AP", "1293384261075731499"), Some(1_293_384_261_075_731_499));
    assert_eq!((parse("AP", "12"), parse("AP", "AP00")), (None, None));
    let call = spell("CA", 7);
    assert!(call.starts_with("v3:") && parse("CA", &call) == Some(7));
    assert_eq!(parse("RE", &spell("RE", 9)), Some(9));
}

#[test]
fn parameters_of_texml_become_twilios_and_others_are_dropped() {
    let given = [
        ("Texml", "<Response/>"),
        ("UrlMethod", "GET"),
        ("CallerId", "Acme"),
        ("MachineDetection", "Disable"),
        ("RecordingChannels", "single"),
        ("SipRegion", "US"),
        ("CustomHeaders", r#"[{"name":"X-A","value":"b"}]"#),
        ("To", "+1"),
    ];
    let mut pairs = given.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Texml.normalise(&mut pairs);
    let expected = [
        ("Twiml", "<Response/>"),
        ("Method", "GET"),
        ("CallerDisplayName", "Acme"),
        ("RecordingChannels", "mono"),
        ("To", "+1"),
        ("SipHeader_X-A", "b"),
    ];
    assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_conference_callback_without_events_is_dropped() {
    let normalised = |given: &[(&str, &str)]| {
        let mut pairs: Vec<_> = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Texml.normalise(&mut pairs);
        pairs.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let (url, events) = (("ConferenceStatusCallback", "http://h/"), ("ConferenceStatusCallbackEvent", "start"));
    assert!(normalised(&[url]).is_empty());
    assert_eq!(normalised(&[url, events]), [url.0, events.0]);
}

#[test]
fn the_last_status_callback_also_has_telnyxs_hangup_causes() {
    let mut leg = fixture::leg();
    let (at, sip_status) = (leg.created_at, Some(486));
    leg.end = Some(LegEnd { at, cause: EndCause::Busy, by: EndedBy::FarEnd, sip_status, detail: None, failure: None });
    let event = CallEvent { at, leg: Arc::new(leg.clone()), kind: tandem_call::event::EventKind::Ended };
    let mut notice =
        request("http://x/", &[("CallSid", "v3:a"), ("CallStatus", "busy"), ("ApiVersion", "x"), ("ToCity", "")]);
    Texml.rewrite_request(Some(&leg), Some(&event), &mut notice);
    let Body::Form(pairs) = &notice.body else { panic!() };
    let value = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((value("CallSidLegacy"), value("HangupCause")), (Some("v3:a"), Some("user_busy")));
    assert_eq!((value("SipHangupCause"), value("ApiVersion"), value("ToCity")), (Some("486"), None, None));
}

fn instructions(body: &str) -> Vec<Instruction> {
    let text = format!("<Response>{body}</Response>");
    let program = markup::document(&TEXML, Origin::default(), text.as_bytes()).unwrap();
    assert_eq!(program.warnings, [], "{body}");
    program.instructions
}

#[test]
fn a_gather_without_a_method_uses_the_method_of_its_application() {
    let base = url::Url::parse("http://app.example/voice").unwrap();
    let methods = |flavour, first_method| {
        let origin = Origin { base: Some(&base), local_files: false, first_method };
        let text = b"<Response><Gather action='/a'/><Gather/><Gather method='POST'/><Record action='/a'/></Response>";
        let program = markup::document(flavour, origin, text).unwrap();
        let method = |instruction: Instruction| match instruction {
            Instruction::Gather(gather) => gather.action.unwrap().method,
            Instruction::Record(record) => record.action.unwrap().method,
            other => panic!("{other:?}"),
        };
        program.instructions.into_iter().map(method).collect::<Vec<_>>()
    };
    let [get, post] = [Method::Get, Method::Post];
    assert_eq!(methods(&TEXML, get), [get, get, post, post]);
    assert_eq!(methods(&TEXML, post), [post; 4]);
    assert_eq!(methods(&TWIML, get), [post; 4], "TwiML publishes POST");
}

#[test]
fn a_known_event_that_the_server_never_sends_has_its_own_warning() {
    let warnings = |flavour, events: &str| {
        let text = format!(
            "<Response><Dial><Number statusCallback='http://x/' statusCallbackEvent='{events}'>+15550001</Number></Dial></Response>"
        );
        let program = markup::document(flavour, Origin::default(), text.as_bytes()).unwrap();
        program.warnings.into_iter().map(|warning| warning.message).collect::<Vec<_>>()
    };
    let unsent = "<Number> statusCallbackEvent: this server does not send the event dtmf";
    assert_eq!(warnings(&TEXML, "initiated dtmf amd completed"), [unsent]);
    assert_eq!(warnings(&TWIML, "dtmf"), ["<Number> statusCallbackEvent: unknown event dtmf"]);
}

#[test]
fn attributes_that_only_texml_has_take_effect() {
    let [Instruction::Gather(gather)] =
        &instructions("<Gather minDigits='2' maxDigits='5' validDigits='12' input='both'/>")[..]
    else {
        panic!()
    };
    assert_eq!((gather.min_digits, gather.max_digits, gather.valid_digits.as_deref()), (2, Some(5), Some("12")));
    assert!(gather.speech.as_ref().is_some_and(|speech| speech.digits));

    let text = "<Record action='http://x/' transcription='true' channels='single'/>";
    let [Instruction::Record(record)] = &instructions(text)[..] else { panic!() };
    assert_eq!((record.spec.channels, record.spec.track), (RecordingChannels::Mono, Track::Both));
    assert!(record.transcribe.is_some() && record.spec.silence_timeout.is_none());

    let text = "<Record action='http://x/' transcription='true' timeout='0'/><Record action='http://x/' timeout='0'/>";
    for record in instructions(text) {
        let Instruction::Record(record) = record else { panic!() };
        assert_eq!(record.spec.max_length, Some(std::time::Duration::from_secs(3600)), "also with a transcription");
    }

    let text = "<Dial fromDisplayName='Desk' record='record-from-answer' recordingChannels='dual' recordMaxLength='9'>+15550001</Dial>";
    let [Instruction::Dial(dial)] = &instructions(text)[..] else { panic!() };
    let spec = &dial.record.as_ref().unwrap().spec;
    assert_eq!((dial.caller_name.as_deref(), spec.channels), (Some("Desk"), RecordingChannels::Dual));
    assert_eq!(spec.max_length, Some(std::time::Duration::from_secs(9)));

    let text = "<Dial><Number machineDetection='Enable' detectionMode='Premium' machineDetectionTimeout='5000' \
                statusCallback='http://x/' statusCallbackEvent='answered amd'>+15550001</Number></Dial>";
    let [Instruction::Dial(dial)] = &instructions(text)[..] else { panic!() };
    let detect = dial.targets[0].detect.as_ref().unwrap();
    assert_eq!(detect.first_result_timeout, std::time::Duration::from_secs(5));
    assert!(detect.callback.is_some());
}

#[test]
fn suppression_starts_and_stops_noise_suppression() {
    use tandem_call::command::Command;
    let text = "<Start><Suppression direction='both'/></Start><Stop><Suppression/></Stop>";
    let [Instruction::ExecuteCommand(start), Instruction::ExecuteCommand(stop)] = &instructions(text)[..] else {
        panic!()
    };
    assert_eq!(start.command, Command::SuppressNoise { track: Track::Both, on: true });
    assert_eq!(stop.command, Command::SuppressNoise { track: Track::Both, on: false });
}

#[test]
fn a_stream_has_file_mode_unless_rtp_mode_is_set() {
    for (attributes, bidirectional_mode) in [
        ("", BidirectionalMode::Files),
        ("bidirectionalMode='rtp'", BidirectionalMode::Payload(StreamCodec::Pcmu)),
        ("bidirectionalMode='rtp' bidirectionalCodec='PCMA'", BidirectionalMode::Payload(StreamCodec::Pcma)),
    ] {
        let text = format!("<Connect><Stream url='wss://x/' {attributes}/></Connect>");
        let [Instruction::Connect(connect)] = &instructions(&text)[..] else { panic!() };
        assert_eq!(
            (connect.stream.bidirectional_mode, connect.stream.codec),
            (Some(bidirectional_mode), None),
            "{attributes}"
        );
    }
    let [Instruction::StartStream(stream)] = &instructions("<Start><Stream url='wss://x/' codec='PCMU'/></Start>")[..]
    else {
        panic!()
    };
    assert_eq!((stream.bidirectional_mode, stream.codec), (None, Some(StreamCodec::Pcmu)));
}

#[test]
fn unsupported_verbs_are_skipped_with_warning_12200() {
    for body in
        ["<HttpRequest><Request/></HttpRequest>", "<Pay/>", "<Dial action='http://x/'><Client>a</Client></Dial>"]
    {
        let text = format!("<Response>{body}</Response>");
        let program = markup::document(&TEXML, Origin::default(), text.as_bytes()).unwrap();
        assert_eq!(program.warnings.first().map(|warning| warning.code), Some(12200), "{body}");
    }
}

fn converse(body: &str) -> (tandem_call::conversation::ConversationSpec, Option<Target>) {
    let text = format!("<Response>{body}</Response>");
    let base = url::Url::parse("https://app.example/voice").unwrap();
    let origin = Origin { base: Some(&base), ..Origin::default() };
    let mut program = markup::document(&TEXML, origin, text.as_bytes()).unwrap();
    assert!(program.warnings.is_empty(), "{:?}", program.warnings);
    match program.instructions.remove(0) {
        Instruction::Converse(converse) => (*converse.spec, converse.action),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_conversation_relay_has_telnyxs_attributes_and_defaults() {
    use tandem_call::conversation::{ConversationTarget, Inputs};
    let (spec, action) = converse(
        "<Connect action='/after'><ConversationRelay url='wss://x/' interruptible='none' welcomeGreeting='Hi' \
         welcomeGreetingInterruptible='none' voice='Telnyx.Natural.abbie' transcriptionProvider='deepgram' dtmfDetection='true'>\
         <Language code='fr' voice='v' ttsProvider='telnyx' transcriptionProvider='google' speechModel='m'/>\
         <Parameter name='customer_id' value='customer_123'/></ConversationRelay></Connect>",
    );
    assert_eq!(spec.with, ConversationTarget::Application("wss://x/".into()));
    assert_eq!(action.unwrap().url.as_ref(), "https://app.example/after");
    assert_eq!((spec.speech_language.as_str(), spec.recognition_language.as_str()), ("en", "en"));
    assert_eq!((spec.partials, spec.no_profanity, spec.digits), (true, false, true));
    assert_eq!((spec.interrupted_by, spec.greeting_interrupted_by), (Inputs::NONE, Inputs::NONE));
    assert_eq!(spec.default_language_settings.voice.as_deref(), Some("Telnyx.Natural.abbie"));
    assert_eq!(spec.languages[0].0, "fr");
    assert_eq!(spec.parameters, [("customer_id".to_owned(), "customer_123".to_owned())]);
    let (plain, _) = converse("<Connect><ConversationRelay url='wss://x/'/></Connect>");
    assert_eq!((plain.interrupted_by, plain.digits), (Inputs::ANY, false));
}

#[test]
fn an_ai_assistant_is_the_agent_with_its_id() {
    use tandem_call::conversation::ConversationTarget;
    let (spec, _) = converse("<Connect><AIAssistant id='assistant-1'></AIAssistant></Connect>");
    let ConversationTarget::Agent(agent) = spec.with else { panic!() };
    assert_eq!(&*agent.name, "assistant-1");
    let text = "<Response><Connect><AIAssistant join='v3:x' participantRole='user'/></Connect><Hangup/></Response>";
    let program = markup::document(&TEXML, Origin::default(), text.as_bytes()).unwrap();
    assert!(program.warnings.iter().any(|warning| warning.code == 12200));
    assert!(matches!(program.instructions[0], Instruction::Refused(_)));
}

/// The published example, with the tools.
const AI_GATHER: &str = r#"<AIGather action="/after_ai_gather">
    <Greeting>Tell me your age and town.</Greeting>
    <Parameters><![CDATA[{"properties": {"age": {"type": "integer"}, "location": {"type": "string"}},
        "required": ["age", "location"]}]]></Parameters>
    <Voice name="Telnyx.NaturalHD.Astra" voice_speed="1.0"/>
    <MessageHistory><Message role="user">Hello my name is Enzo.</Message>
        <Message role="assistant">Hello Enzo.</Message></MessageHistory>
    <InterruptionSettings enable="false"/>
    <Transcription model="some_model" language="fr"/>
    <Assistant model="openai/gpt-4" api_key_ref="my_key_ref" instructions="You are helpful.">TOOLS</Assistant>
  </AIGather>"#;

#[test]
fn an_ai_gather_becomes_an_agent_that_collects_values() {
    use tandem_call::conversation::{ConversationTarget, Utterance};
    let (spec, action) = converse(&AI_GATHER.replace("TOOLS", ""));
    assert_eq!(action.unwrap().url.as_ref(), "https://app.example/after_ai_gather");
    let ConversationTarget::Agent(agent) = spec.with else { panic!() };
    let schema: Value = serde_json::from_str(agent.collect_schema.as_deref().unwrap()).unwrap();
    assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["age", "location"])));
    assert_eq!((&*agent.name, agent.prompt.as_deref()), ("", Some("You are helpful.")));
    assert_eq!(agent.first_message.as_deref(), Some("Tell me your age and town."));
    assert_eq!((agent.voice.as_deref(), agent.language.as_deref()), (Some("Telnyx.NaturalHD.Astra"), Some("fr")));
    assert_eq!((agent.interruptible, agent.script), (Some(false), None));
    let line = |by_agent, text: &str| Utterance { by_agent, text: text.into() };
    assert_eq!(agent.history, [line(false, "Hello my name is Enzo."), line(true, "Hello Enzo.")]);

    let tools = r#"<Tools><Tool><![CDATA[{"type": "hangup", "hangup": {"description": "Hang up the call."}}]]></Tool>
        <Tool><![CDATA[{"type": "transfer", "transfer": [{"name": "support", "to": "+1234567890"}]}]]></Tool></Tools>"#;
    let (spec, _) = converse(&AI_GATHER.replace("TOOLS", tools));
    let ConversationTarget::Agent(agent) = spec.with else { panic!() };
    let mut leg = fixture::leg();
    leg.dialect = NAME.into();
    let script = Texml.agent_script(&fixture::account(), &leg, agent.script.as_deref().unwrap()).unwrap();
    let mut script = script.unwrap();
    let names: Vec<String> = script.turn(jiff::Timestamp::UNIX_EPOCH).tools.into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["hangup", "transfer", "collected"]);
}

#[test]
fn an_ai_gather_without_a_schema_is_skipped_with_a_warning() {
    for body in ["<AIGather/>", "<AIGather><Parameters>{</Parameters></AIGather>", "<AIGather><Parameters/></AIGather>"]
    {
        let text = format!("<Response>{body}<Hangup/></Response>");
        let program = markup::document(&TEXML, Origin::default(), text.as_bytes()).unwrap();
        assert!(program.warnings.iter().all(|warning| warning.code == 64101) && !program.warnings.is_empty());
        assert_eq!(program.instructions, [Instruction::Hangup], "{body}");
    }
}

#[test]
fn elements_with_a_second_meaning_keep_their_first_one() {
    let text = "<Response><Start><Transcription name='a'/></Start><Stop><Transcription name='a'/></Stop></Response>";
    let program = markup::document(&TEXML, Origin::default(), text.as_bytes()).unwrap();
    assert!(program.warnings.is_empty(), "{:?}", program.warnings);
    assert_eq!(program.instructions.len(), 2);
}

#[test]
fn rest_answers_have_exactly_the_published_fields() {
    let mut body = json!({
        "calls": [{ "sid": "v3:a", "status": "queued", "trunk_sid": null, "to": "+1" }], "page": 0, "uri": "/x",
    });
    let mut status = StatusCode::OK;
    rest::answer::rewrite(&["Calls"], &mut status, &mut body);
    let call = &body["calls"][0];
    assert_eq!((call["status"].as_str(), call.get("trunk_sid"), call["price"].as_str()), (Some("ringing"), None, None));
    assert!(call.get("answered_by").is_some() && body["page"] == 0);

    let mut body = json!({ "sid": "v3:a", "account_sid": "u", "from": "+1", "to": "+2", "status": "queued" });
    let mut status = StatusCode::CREATED;
    rest::answer::rewrite(&["Calls"], &mut status, &mut body);
    assert_eq!(
        (status, body["status"].as_str(), body["call_sid"].as_str()),
        (StatusCode::OK, Some("accepted"), Some("v3:a"))
    );

    let mut body = json!({ "sid": "r", "status": "completed", "start_time": "Fri, 11 Aug 2023 19:12:11 +0000" });
    rest::answer::rewrite(&["Recordings", "r"], &mut StatusCode::OK.clone(), &mut body);
    assert_eq!(body["start_time"], "2023-08-11T19:12:11Z");
}

#[test]
fn finish_on_key_accepts_several_digits_in_texml_but_not_in_twiml() {
    let document = "<Response><Gather finishOnKey='*#'/></Response>";
    let ends = |flavour: &'static Flavour| {
        let program = markup::document(flavour, Origin { local_files: true, ..Origin::default() }, document.as_bytes());
        let program = program.unwrap();
        let Some(Instruction::Gather(gather)) = program.instructions.first() else { panic!() };
        (gather.terminators.clone(), program.warnings.iter().map(|warning| warning.code).collect::<Vec<_>>())
    };
    assert_eq!(ends(&TEXML), ("*#".to_owned(), vec![]));
    assert_eq!(ends(&TWIML), ("#".to_owned(), vec![13310]));
}

#[test]
fn answered_by_has_the_published_values_in_callbacks_and_in_the_resource() {
    use tandem_call::machine_detection::GreetingEnd;
    for (result, word) in [
        (DetectionResult::Human, "human"),
        (DetectionResult::Machine, "machine_start"),
        (DetectionResult::GreetingEnded(GreetingEnd::Beep), "machine_end_beep"),
        (DetectionResult::GreetingEnded(GreetingEnd::Silence), "machine_end_silence"),
        (DetectionResult::GreetingEnded(GreetingEnd::Time), "machine_end_other"),
        (DetectionResult::Fax, "fax"),
        (DetectionResult::NotSure, "unknown"),
    ] {
        let mut pairs = vec![("AnsweredBy".to_owned(), tandem_twilio::Twilio.answered_by(result).to_owned())];
        parameters::rewrite(None, None, &mut pairs);
        assert_eq!(pairs, [("AnsweredBy".to_owned(), word.to_owned())]);
        assert!(matches!(Texml.answered_by(result), "human" | "machine" | "not_sure"), "the Call resource");
    }
}
