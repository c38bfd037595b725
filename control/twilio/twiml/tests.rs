//! Tests with the kinds of documents that applications write.

use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::conference::{Beep, Coaching, Participation};
use tandem_call::conversation::{ConversationTarget, Inputs, Sensitivity};
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::machine_detection::Until;
use tandem_call::program::instruction::{AudioSource, Conference, Instruction, Play, Program, RejectReason, Wait};
use tandem_call::recording::{RecordingChannels, RecordingSource, Track};
use tandem_call::stream::{BidirectionalMode, SampleRate, StreamCodec};
use tandem_call::{Method, StatusEvent, Target};
use tandem_id::LegId;
use tandem_markup::{JSON, MAX_DOCUMENT, Origin, WEB_PAGE, answer, document, fuzz_markup};

use super::TWIML;
use url::Url;

const BASE: &str = "https://app.example/ivr/start?step=1";

fn read(inner: &str) -> Program {
    fetched(&format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>{inner}</Response>"))
}

fn fetched(text: &str) -> Program {
    let base = Url::parse(BASE).unwrap();
    document(&TWIML, Origin { base: Some(&base), local_files: false, ..Default::default() }, text.as_bytes()).unwrap()
}

fn inline(inner: &str) -> Result<Program, FetchFailure> {
    document(&TWIML, Origin::default(), format!("<Response>{inner}</Response>").as_bytes())
}

fn one(inner: &str) -> Instruction {
    let program = read(inner);
    assert_eq!(program.warnings, [], "{inner}");
    assert_eq!(program.instructions.len(), 1, "{inner}");
    program.instructions.into_iter().next().unwrap()
}

fn codes(inner: &str) -> Vec<u32> {
    read(inner).warnings.iter().map(|warning| warning.code).collect()
}

macro_rules! expect {
    ($value:expr, $pattern:pat => $body:expr) => {
        match $value {
            $pattern => $body,
            other => panic!("{other:?}"),
        }
    };
}

#[test]
fn say_reads_its_text_voice_and_loops() {
    expect!(one("<Say voice=\"alice\" language=\"en-GB\" loop=\"2\">  Hi &amp; bye\n</Say>"), Instruction::Play(play) => {
        assert_eq!(play.loops.unwrap().get(), 2);
        expect!(play.source, AudioSource::Speech(speech) => {
            assert_eq!((speech.text.as_str(), speech.ssml), ("Hi & bye", false));
            assert_eq!((speech.voice.as_deref(), speech.language.as_deref()), (Some("alice"), Some("en-GB")));
        });
    });
    expect!(one("<Say loop='0'>x</Say>"), Instruction::Play(play) => assert_eq!(play.loops, None));
    expect!(one("<Say loop='5000'>x</Say>"), Instruction::Play(play) => assert_eq!(play.loops.unwrap().get(), 1000));
}

#[test]
fn say_with_markup_inside_is_passed_on_as_ssml() {
    let text = r#"<Say>Your code: <say-as interpret-as="digits">12</say-as><break time="1s"/> a &lt; b</Say>"#;
    expect!(one(text), Instruction::Play(Play { source: AudioSource::Speech(speech), .. }) => {
        assert!(speech.ssml);
        assert_eq!(
            speech.text,
            r#"<speak>Your code: <say-as interpret-as="digits">12</say-as><break time="1s"/> a &lt; b</speak>"#
        );
    });
}

#[test]
fn play_resolves_its_url_and_sends_digits() {
    expect!(one("<Play>../media/hello.wav</Play>"), Instruction::Play(play) => {
        assert_eq!(play.source, AudioSource::Url("https://app.example/media/hello.wav".into()));
    });
    expect!(one("<Play digits='1w2Wa#'/>"), Instruction::SendDigits(send) => assert_eq!(send.digits, "1w2WA#"));
    assert_eq!(codes("<Play digits='1x'/>"), [13430]);
    assert_eq!(codes("<Play/>"), [11100]);
    assert_eq!(codes("<Play>file:///etc/passwd</Play>"), [11100]);
}

#[test]
fn pause_lasts_one_second_without_a_length() {
    assert_eq!(one("<Pause/>"), Instruction::Pause(Duration::from_secs(1)));
    assert_eq!(one("<Pause length='10'/>"), Instruction::Pause(Duration::from_secs(10)));
    assert_eq!(codes("<Pause length='soon'/>"), [13910]);
}

#[test]
fn a_plain_gather_has_the_documented_defaults() {
    expect!(one("<Gather/>"), Instruction::Gather(gather) => {
        assert_eq!(gather.first_digit_timeout, Duration::from_secs(5));
        assert_eq!(gather.inter_digit_timeout, Duration::from_secs(5));
        assert_eq!((gather.terminators.as_str(), gather.max_digits, gather.tries), ("#", None, 1));
        assert!(gather.barge_in && !gather.action_on_empty);
        let action = gather.action.unwrap();
        assert_eq!((action.url.as_ref(), action.method), (BASE, Method::Post));
    });
}

#[test]
fn gather_reads_its_attributes_and_prompts_in_order() {
    let text = "<Gather input='dtmf' action='/menu?x=1&amp;y=2' method='get' timeout='3' finishOnKey='' numDigits='4' \
        actionOnEmptyResult='true' bargeIn='false'><Say>a</Say><Play>b.wav</Play><Pause length='2'/></Gather>";
    expect!(one(text), Instruction::Gather(gather) => {
        assert_eq!(gather.prompts.len(), 3);
        assert_eq!(gather.prompts[2].source, AudioSource::Silence(Duration::from_secs(2)));
        assert_eq!((gather.terminators.as_str(), gather.max_digits), ("", Some(4)));
        assert!(!gather.barge_in && gather.action_on_empty);
        let action = gather.action.unwrap();
        assert_eq!((action.url.as_ref(), action.method), ("https://app.example/menu?x=1&y=2", Method::Get));
    });
    assert_eq!(
        codes("<Gather finishOnKey='12' numDigits='0' timeout='x' method='PUT'/>"),
        [13313, 13312, 13310, 13314]
    );
    assert_eq!(
        codes("<Gather input='dtmf speech' speechTimeout='auto' hints='a,b'><Dial>1</Dial></Gather>"),
        [13335, 13320]
    );
}

#[test]
fn record_has_its_defaults_and_limits() {
    expect!(one("<Record/>"), Instruction::Record(record) => {
        assert_eq!(record.finish_on, "1234567890*#");
        assert!(record.beep && record.spec.trim);
        assert_eq!(record.spec.silence_timeout, Some(Duration::from_secs(5)));
        assert_eq!(record.spec.max_length, Some(Duration::from_secs(3600)));
        assert_eq!(record.spec.source, RecordingSource::Record);
        assert_eq!(record.action.unwrap().url.as_ref(), BASE);
    });
    let inline = inline("<Record/>").unwrap();
    assert_eq!(inline.warnings.iter().map(|warning| warning.code).collect::<Vec<_>>(), [11100]);
    let text = "<Record timeout='0' maxLength='30' playBeep='false' trim='do-not-trim' finishOnKey='*' action='done' \
        recordingStatusCallback='/rec' recordingStatusCallbackEvent='in-progress completed'/>";
    expect!(one(text), Instruction::Record(record) => {
        assert_eq!((record.finish_on.as_str(), record.beep, record.spec.trim), ("*", false, false));
        assert_eq!((record.spec.silence_timeout, record.spec.max_length), (None, Some(Duration::from_secs(30))));
        let callback = record.spec.callback.unwrap();
        assert_eq!(callback.target.url.as_ref(), "https://app.example/rec");
        assert_eq!(callback.events, [StatusEvent::InProgress, StatusEvent::Completed]);
        assert_eq!(record.action.unwrap().url.as_ref(), "https://app.example/ivr/done");
    });
    assert_eq!(
        codes("<Record timeout='-1' maxLength='0' finishOnKey='x' playBeep='maybe' trim='no' transcribe='perhaps'/>"),
        [13611, 13614, 13612, 13613, 13616, 13699]
    );
}

#[test]
fn a_dial_with_text_calls_that_number() {
    expect!(one("<Dial>(415) 555-1212</Dial>"), Instruction::Dial(dial) => {
        assert_eq!(dial.targets.len(), 1);
        assert_eq!(dial.targets[0].to, Address::from("+14155551212"));
        assert_eq!((dial.timeout, dial.time_limit), (Duration::from_secs(30), Some(Duration::from_secs(14_400))));
        assert!(!dial.sequential && !dial.answer_on_bridge && !dial.hangup_on_star);
        assert!(dial.action.is_none() && dial.record.is_none() && dial.caller_id.is_none());
        assert_eq!(dial.ring_tone.as_deref(), Some("us"));
    });
}

#[test]
fn dial_reads_its_attributes_and_nouns() {
    let text = "<Dial action='/after' timeout='20' timeLimit='60' callerId='+15550001111' hangupOnStar='true' \
        record='record-from-answer-dual' answerOnBridge='true' sequential='true' ringTone='uk' recordingTrack='inbound'>\
        <Number sendDigits='ww12' url='/whisper' statusCallback='/status' \
            statusCallbackEvent='initiated ringing answered completed'>+15550002222</Number>\
        <Sip username='u' password='p'>sip:bob@127.0.0.1:5080;transport=tcp?X-Order=a%20b&amp;From=evil</Sip>\
        <Client>alice</Client>\
        <Client><Identity>carol</Identity><Parameter name='k' value='v'/></Client></Dial>";
    let program = read(text);
    assert_eq!(program.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), [13252]);
    expect!(&program.instructions[0], Instruction::Dial(dial) => {
        assert_eq!(dial.targets.len(), 4);
        let [number, sip, alice, carol] = &dial.targets[..] else { panic!() };
        assert_eq!(number.to, Address::from("+15550002222"));
        assert_eq!(number.send_digits.as_deref(), Some("ww12"));
        assert_eq!(number.whisper.as_ref().unwrap().url.as_ref(), "https://app.example/whisper");
        assert_eq!(number.status.as_ref().unwrap().events.len(), 4);
        assert_eq!(sip.to.to_string(), "sip:bob@127.0.0.1:5080;transport=tcp");
        assert_eq!(*sip.headers, [("X-Order".into(), "a b".into())]);
        assert_eq!(sip.credentials.as_ref().unwrap().username, "u");
        assert_eq!(alice.to, Address::Client("alice".into()));
        assert_eq!(carol.to, Address::Client("carol".into()));
        assert_eq!(*carol.headers, [("X-k".into(), "v".into())]);
        let record = dial.record.as_ref().unwrap();
        assert_eq!((record.from_ringing, record.spec.channels), (false, RecordingChannels::Dual));
        assert_eq!((record.spec.track, record.spec.trim), (Track::Inbound, false));
        assert_eq!(dial.ring_tone.as_deref(), Some("uk"));
    });
}

#[test]
fn pay_is_unsupported_and_reports_a_connector_error_to_its_action() {
    expect!(one("<Pay action='/paid' chargeAmount='9.99'><Prompt for='security-code'><Say>Code?</Say></Prompt></Pay>"),
    Instruction::Unsupported(pay) => {
        assert_eq!(pay.action.unwrap().url.as_ref(), "https://app.example/paid");
        assert_eq!(pay.outcome[0], ("Result".into(), "payment-connector-error".into()));
        assert_eq!((pay.warning.code, pay.callback), (64002, None));
    });
}

#[test]
fn call_reason_becomes_a_call_info_header() {
    let text = r#"<Dial callReason='Your "order"'><Number>+15550002222</Number></Dial>"#;
    expect!(one(text), Instruction::Dial(dial) => {
        let (name, value) = &dial.targets[0].headers[0];
        assert_eq!((name.as_str(), value.as_str()), ("Call-Info", r#"<data:>;purpose=jcard;call-reason="Your \"order\"""#));
    });
    let long = "x".repeat(51);
    assert_eq!(codes(&format!("<Dial callReason='{long}'>+15550002222</Dial>")), [12200]);
}

#[test]
fn an_application_noun_excludes_other_nouns_and_passes_its_parameters() {
    let text = "<Dial><Number>+15550002222</Number><Application>AP7<Parameter name='k' value='v'/></Application>\
        <Application><ApplicationSid>AP8</ApplicationSid></Application></Dial>";
    assert_eq!(codes(text), [12200]);
    expect!(&read(text).instructions[0], Instruction::Dial(dial) => {
        let [target] = &dial.targets[..] else { panic!() };
        assert_eq!(target.to, Address::Application("AP7".into()));
        assert_eq!(target.handover.as_ref().unwrap().parameters, [("Param_k".into(), "v".into())]);
    });
    assert_eq!(codes("<Dial><Application>no such</Application></Dial>"), [13224, 13224]);
    let program = read("<Hangup><Parameter name='k' value='v'/></Hangup>");
    let [Instruction::ReturnValues(pairs), Instruction::Hangup] = &program.instructions[..] else { panic!() };
    assert_eq!(pairs[..], [("k".into(), "v".into())]);
}

#[test]
fn a_dial_with_a_conference_noun_joins_the_conference() {
    let text = "<Dial hangupOnStar='true' timeLimit='60' action='/after'><Conference muted='true' beep='onEnter' \
        startConferenceOnEnter='false' endConferenceOnExit='true' maxParticipants='10'>Room 1</Conference></Dial>";
    expect!(one(text), Instruction::Conference(conference) => {
        let expected = Participation {
            muted: true, waits: true, ends: true, beep: Beep::Enter, max_participants: 10, wait: Wait::Music,
            ..Participation::new("Room 1")
        };
        assert_eq!(conference.participation, expected);
        assert_eq!((conference.hangup_on_star, conference.time_limit), (true, Some(Duration::from_secs(60))));
        assert_eq!(conference.action.unwrap().url.as_ref(), "https://app.example/after");
    });
    expect!(one("<Dial><Conference>a</Conference></Dial>"), Instruction::Conference(conference) => {
        assert_eq!(conference.participation, Participation { wait: Wait::Music, ..Participation::new("a") });
    });
    let text = "<Dial><Conference participantLabel='agent' coach='CA00000000000000000000000000000001' waitUrl='' \
        record='record-from-start' statusCallback='/told' statusCallbackEvent='join speaker' region='ie1'>a</Conference></Dial>";
    expect!(one(text), Instruction::Conference(Conference { participation, .. }) => {
        assert_eq!(participation.label.as_deref(), Some("agent"));
        assert_eq!(participation.coach, Some(Coaching::of(vec![LegId(1)])));
        assert_eq!(participation.wait, Wait::Silence);
        let opening = participation.opening.unwrap();
        assert_eq!(opening.callback.as_ref().unwrap().events, [StatusEvent::Joined, StatusEvent::Speaks]);
        let record = opening.record.as_ref().unwrap();
        assert_eq!((record.source, record.trim), (RecordingSource::Conference, true));
        assert_eq!(opening.region.as_deref(), Some("ie1"));
    });
    expect!(one("<Dial><Conference statusCallback='/told' waitUrl='wait.xml' waitMethod='GET'>a</Conference></Dial>"),
    Instruction::Conference(Conference { participation, .. }) => {
        let callback = participation.opening.unwrap().callback.clone().unwrap();
        assert_eq!(callback.events, [StatusEvent::Started, StatusEvent::Over]);
        expect!(participation.wait, Wait::Document(target) => {
            assert_eq!((&*target.url, target.method), ("https://app.example/ivr/wait.xml", Method::Get));
        });
    });
    let odd = "<Dial><Conference participantLabel='a/b' coach='bob' waitMethod='PUT' trim='x' record='true'>a</Conference></Dial>";
    assert_eq!(codes(odd), [12200, 13234, 13236, 13239]);
    assert_eq!(codes("<Dial><Number>100</Number><Conference>a</Conference></Dial>"), [12200]);
}

#[test]
fn enqueue_reads_its_attributes_and_leave_is_read() {
    let text = "<Enqueue action='/queued' waitUrl='/wait' waitUrlMethod='GET' maxQueueSize='5'> support </Enqueue>";
    expect!(one(text), Instruction::Enqueue(enqueue) => {
        assert_eq!((&*enqueue.queue, enqueue.max_size), ("support", Some(5)));
        assert_eq!(enqueue.action.unwrap().url.as_ref(), "https://app.example/queued");
        let url = "https://app.example/wait".into();
        assert_eq!(enqueue.wait, Wait::Document(Target { url, method: Method::Get }));
    });
    for (attribute, expected) in [("", Wait::Music), ("waitUrl=''", Wait::Silence)] {
        expect!(one(&format!("<Enqueue {attribute}>a</Enqueue>")), Instruction::Enqueue(enqueue) => {
            assert_eq!((enqueue.wait, enqueue.max_size, enqueue.action), (expected, None, None));
        });
    }
    expect!(one("<Leave/>"), Instruction::Leave => {});
    assert_eq!(codes("<Enqueue/>"), [14204]);
    assert_eq!(codes(&format!("<Enqueue>{}</Enqueue>", "x".repeat(65))), [14205]);
    assert_eq!(codes("<Enqueue workflowSid='WW1'><Task>{}</Task></Enqueue>"), [14226, 14226, 14204]);
}

#[test]
fn a_dial_with_a_queue_noun_takes_a_caller_from_the_queue() {
    let text = "<Dial timeout='7' record='true' hangupOnStar='true'><Queue url='/whisper'>support</Queue></Dial>";
    expect!(one(text), Instruction::Dial(dial) => {
        let queue = dial.queue.unwrap();
        assert_eq!(&*queue.queue, "support");
        assert_eq!(queue.whisper.unwrap().url.as_ref(), "https://app.example/whisper");
        assert!(dial.targets.is_empty() && dial.record.is_some() && dial.hangup_on_star);
        assert_eq!(dial.timeout, Duration::from_secs(7));
    });
    assert_eq!(codes("<Dial><Queue/></Dial>"), [14212, 13224]);
    assert_eq!(codes("<Dial><Queue reservationSid='WR1'/></Dial>"), [14219, 14212, 13224]);
    assert_eq!(codes("<Dial><Number>100</Number><Queue>a</Queue></Dial>"), [12200]);
    assert_eq!(codes("<Dial><Queue>a</Queue><Number>100</Number></Dial>"), [12200]);
}

#[test]
fn a_number_noun_reads_its_machine_detection() {
    let text = "<Dial><Number machineDetection='DetectMessageEnd' machineDetectionTimeout='10' \
        machineDetectionSilenceTimeout='3000' amdStatusCallback='/amd'>+15550002222</Number>\
        <Number machineDetection='Enable' sendDigits='1'>+15550002223</Number></Dial>";
    expect!(one(text), Instruction::Dial(dial) => {
        let spec = dial.targets[0].detect.as_ref().unwrap();
        assert_eq!((spec.until, spec.holds, spec.first_result_timeout.as_secs()), (Until::GreetingEnd, false, 10));
        assert_eq!(spec.initial_silence.as_secs(), 3);
        assert_eq!(spec.callback.as_ref().unwrap().target.url.as_ref(), "https://app.example/amd");
        assert!(dial.targets[1].detect.is_none(), "the digits would be heard");
    });
    assert_eq!(codes("<Dial><Number machineDetection='On'>+15550002222</Number></Dial>"), [12200]);
    assert_eq!(codes("<Dial><Number machineDetection='Enable'>+15550002222</Number></Dial>"), [21262]);
}

#[test]
fn a_sip_noun_may_hold_several_uris_and_headers() {
    let text = "<Dial><Sip><Headers><Header name='X-A' value='1'/></Headers><Uri priority='2'>sip:b@h</Uri>\
        <Uri priority='1' username='x' password='y'>sip:a@h</Uri></Sip></Dial>";
    expect!(one(text), Instruction::Dial(dial) => {
        assert_eq!(dial.targets[0].to.to_string(), "sip:a@h");
        assert_eq!(dial.targets[1].to.to_string(), "sip:b@h");
        assert!(dial.targets.iter().all(|t| *t.headers == [("X-A".into(), "1".into())]));
    });
}

#[test]
fn a_number_of_ten_digits_without_a_country_code_is_north_american() {
    let called = |text: &str| expect!(one(&format!("<Dial>{text}</Dial>")), Instruction::Dial(dial) => dial.targets[0].to.clone());
    for (written, number) in [
        ("415-555-1212", "+14155551212"),
        ("1 (415) 555 1212", "+14155551212"),
        ("+44 20 7946 0958", "+442079460958"),
        ("0301234567", "0301234567"),
        ("415-123-4567", "+14151234567"),
        ("600", "600"),
        ("*97", "*97"),
    ] {
        assert_eq!(called(written), Address::from(number), "{written}");
    }
    expect!(one("<Dial callerId='415.555.1212'>600</Dial>"), Instruction::Dial(dial) => {
        assert_eq!(dial.caller_id, Some(Address::from("+14155551212")));
    });
}

#[test]
fn a_dial_with_an_action_and_no_valid_target_still_requests_its_action() {
    for nobody in [
        "<Dial action='/after'/>",
        "<Dial action='/after'>nobody</Dial>",
        "<Dial action='/after'><Sim>DE1</Sim></Dial>",
    ] {
        let program = read(nobody);
        assert_eq!(program.warnings.last().map(|warning| warning.code), Some(13224), "{nobody}");
        expect!(&program.instructions[..], [Instruction::Dial(dial)] => assert!(dial.targets.is_empty() && dial.action.is_some()));
    }
}

#[test]
fn a_dial_without_a_valid_target_and_without_an_action_is_skipped() {
    assert_eq!(read("<Dial/>").instructions, []);
    assert_eq!(codes("<Dial/>"), [13224]);
    assert_eq!(codes("<Dial>nobody</Dial>"), [13223, 13224]);
    assert_eq!(codes("<Dial><Conference> </Conference></Dial>"), [13237, 13224]);
    assert_eq!(codes("<Dial><Conference>a</Conference><Number>100</Number></Dial>"), [13000]);
    assert_eq!(codes("<Dial><Sip>http://h/</Sip></Dial>"), [13243, 13224]);
    assert_eq!(
        codes("<Dial timeout='0' timeLimit='x' record='yes' ringTone='mars' hangupOnStar='2' callerId=''>100</Dial>"),
        [13212, 13216, 13213, 13214, 13220, 13217]
    );
}

#[test]
fn a_query_that_the_provider_drops_from_a_streams_url_is_reported() {
    for verb in ["Connect", "Start"] {
        let text = format!("<{verb}><Stream url='wss://ai.example/ws?token=1'/></{verb}>");
        assert_eq!(codes(&text), [31923], "{verb}");
    }
}

#[test]
fn a_trunk_is_chosen_by_its_id_and_never_by_its_name() {
    let via = |byoc: &str| {
        let text = format!("<Dial><Number byoc='{byoc}'>+15550002222</Number></Dial>");
        let Instruction::Dial(dial) = one(&text) else { panic!("{text}") };
        dial.targets[0].via.clone()
    };
    let id = "BY00000000000000000000000000000001";
    assert_eq!(via(id), [id.into()]);
    for name in ["carrier", "BY1", "pbx:00000000000000000000000000000007"] {
        assert_eq!(via(name), ["".into()], "{name}: no trunk has this name, so the dial fails");
    }
}

#[test]
fn connect_with_a_stream_noun_is_bidirectional() {
    let text = "<Connect action='/after'><Stream url='wss://ai.example/ws' name='n' statusCallback='https://x/s'>\
        <Parameter name='who' value='me'/></Stream></Connect>";
    expect!(one(text), Instruction::Connect(connect) => {
        let stream = connect.stream;
        assert_eq!(stream.url, "wss://ai.example/ws");
        assert_eq!(stream.bidirectional_mode, Some(BidirectionalMode::Payload(StreamCodec::Pcmu)));
        assert_eq!((stream.track, stream.codec), (Track::Inbound, Some(StreamCodec::Pcmu)));
        assert_eq!(stream.parameters, [("who".into(), "me".into())]);
        assert!(stream.callback.is_some());
        assert_eq!(connect.action.unwrap().url.as_ref(), "https://app.example/after");
    });
    let text = "<Connect><Stream url='wss://ai.example/ws' audioFormat='audio/x-L16' sampleRate='8000'/></Connect>";
    expect!(one(text), Instruction::Connect(connect) => {
        let linear = StreamCodec::L16(SampleRate::Hz8000);
        assert_eq!((connect.stream.codec, connect.stream.bidirectional_mode), (Some(linear), Some(BidirectionalMode::Payload(linear))));
    });
    assert_eq!(codes("<Connect><Stream url='wss://ai.example/ws' sampleRate='16000'/></Connect>"), [12200]);
    assert_eq!(codes("<Connect><Stream url='https://x/'/></Connect>"), [31922, 12200]);
}

#[test]
fn start_and_stop_control_streams_and_recordings() {
    expect!(one("<Start><Stream url='/media' track='both_tracks' name='s'/></Start>"), Instruction::StartStream(stream) => {
        assert_eq!((stream.url.as_str(), stream.track, stream.bidirectional_mode), ("wss://app.example/media", Track::Both, None));
    });
    expect!(one("<Start><Recording channels='dual' track='outbound'/></Start>"), Instruction::StartRecording(spec) => {
        assert_eq!((spec.channels, spec.track, spec.trim), (RecordingChannels::Dual, Track::Outbound, false));
    });
    expect!(one("<Start><Recording/></Start>"), Instruction::StartRecording(spec) => {
        assert_eq!((spec.channels, spec.track), (RecordingChannels::Dual, Track::Both));
    });
    assert_eq!(one("<Stop><Stream name='s'/></Stop>"), Instruction::StopStream(Some("s".into())));
    assert_eq!(codes("<Start/>"), [14300]);
    assert_eq!(codes("<Start><Stream url='wss://x/' track='all'/></Start>"), [31941]);
    assert_eq!(codes("<Start><Stream connectorName='x'/></Start>"), [31940]);
}

#[test]
fn siprec_starts_with_a_connector_and_stops_by_name() {
    let text = "<Start><Siprec connectorName='x'><Parameter name='k' value='v'/></Siprec></Start>";
    expect!(one(text), Instruction::StartSiprec(spec) => {
        assert_eq!((spec.connector.as_str(), spec.name, spec.track, spec.callback), ("x", None, Track::Both, None));
        assert_eq!(spec.parameters, [("k".to_owned(), "v".to_owned())]);
    });
    assert_eq!(one("<Stop><Siprec name='s'/></Stop>"), Instruction::StopSiprec(Some("s".into())));
    assert_eq!(codes("<Start><Siprec name='s'/></Start>"), [31940]);
    assert_eq!(codes("<Start><Siprec connectorName='x' track='all'/></Start>"), [31941]);
    assert_eq!(codes("<Connect><Siprec connectorName='x'/></Connect>").len(), 2, "misplaced, and nothing is left");
}

#[test]
fn conversation_relay_and_agent_read_their_attributes_and_defaults() {
    expect!(one("<Connect action='/after'><ConversationRelay url='wss://x/'/></Connect>"), Instruction::Converse(converse) => {
        let spec = converse.spec;
        assert_eq!((spec.speech_language.as_str(), spec.recognition_language.as_str(), spec.digits), ("en-US", "en-US", false));
        assert_eq!((spec.interrupted_by, spec.greeting_interrupted_by, spec.reports), (Inputs::ANY, Inputs::ANY, Inputs::NONE));
        assert_eq!((spec.sensitivity, spec.no_profanity, spec.greeting), (Sensitivity::High, true, None));
        assert_eq!(converse.action.unwrap().url.as_ref(), "https://app.example/after");
    });
    let text = "<Connect><ConversationRelay url='wss://x/' language='de-DE' ttsLanguage='fr-FR' interruptible='false' \
        debug='tokens-played debugging' hints='a, b'><Language code='es-ES' voice='Polly.Lucia'/>\
        <Parameter name='k' value='v'/></ConversationRelay></Connect>";
    expect!(one(text), Instruction::Converse(converse) => {
        let spec = converse.spec;
        assert_eq!((spec.speech_language.as_str(), spec.recognition_language.as_str()), ("fr-FR", "de-DE"));
        assert_eq!((spec.interrupted_by, spec.reports_played, spec.reports_speakers), (Inputs::NONE, true, false));
        assert_eq!(spec.language_settings("ES-es").voice.as_deref(), Some("Polly.Lucia"));
        assert_eq!(spec.language_settings("en-US").hints, ["a", "b"]);
        assert_eq!(spec.parameters, [("k".into(), "v".into())]);
    });
    expect!(one("<Connect><Agent name='reception' firstMessage='Hello.'/></Connect>"), Instruction::Converse(converse) => {
        let ConversationTarget::Agent(agent) = converse.spec.with else { panic!() };
        assert_eq!((&*agent.name, agent.first_message.as_deref(), agent.prompt), ("reception", Some("Hello."), None));
    });
    assert_eq!(codes("<Connect><Agent/></Connect>"), [64101, 12200]);
    assert_eq!(codes("<Connect><ConversationRelay/></Connect>"), [64101, 12200]);
    assert_eq!(codes("<Connect><ConversationRelay url='wss://x/' interruptible='maybe'/></Connect>"), [64101]);
    assert_eq!(codes("<Connect><ConversationRelay url='https://x/'/></Connect>"), [31922, 12200]);
    assert_eq!(codes("<Connect><ConversationRelay url='wss://x/'><Language/></ConversationRelay></Connect>"), [64101]);
}

#[test]
fn redirect_reject_hangup_and_echo_are_read() {
    expect!(one("<Redirect method='GET'>next</Redirect>"), Instruction::Redirect(target) => {
        assert_eq!((target.url.as_ref(), target.method), ("https://app.example/ivr/next", Method::Get));
    });
    expect!(one("<Redirect/>"), Instruction::Redirect(target) => assert_eq!(target.url.as_ref(), BASE));
    assert_eq!(one("<Reject/>"), Instruction::Reject(RejectReason::Rejected));
    assert_eq!(one("<Reject reason='busy'/>"), Instruction::Reject(RejectReason::Busy));
    assert_eq!(codes("<Reject reason='tired'/>"), [13810]);
    assert_eq!(one("<Hangup/>"), Instruction::Hangup);
    assert_eq!(one("<Echo/>"), Instruction::Echo);
}

#[test]
fn unknown_elements_and_attributes_are_skipped_with_warnings() {
    let program = read("words<Dance/><say>no</say><Say mood='good'>yes</Say><Sms>x</Sms><Number>1</Number><Hangup/>");
    assert_eq!(program.instructions.len(), 2);
    assert_eq!(program.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), [12200, 12200, 12200, 12200, 13803, 12200]);
}

#[test]
fn an_absolute_url_is_kept_as_written() {
    for url in ["https://app.example/a'b?x=%41&y=ü#rc=2", "HTTP://App.Example:80/../x"] {
        expect!(one(&format!("<Redirect>{}</Redirect>", url.replace('&', "&amp;"))), Instruction::Redirect(target) => {
            assert_eq!(target.url.as_ref(), url);
        });
    }
}

#[test]
fn relative_urls_fail_in_an_inline_document() {
    for inner in ["<Redirect>/x</Redirect>", "<Redirect/>", "<Gather action='x'/>", "<Play>a.wav</Play>"] {
        assert_eq!(inline(inner).unwrap_err().kind, FailureKind::Document(15004), "{inner}");
    }
    expect!(&inline("<Gather/>").unwrap().instructions[0], Instruction::Gather(gather) => assert!(gather.action.is_none()));
    assert_eq!(inline("<Play>file:///a.wav</Play>").unwrap().warnings[0].code, 11100);
    let local = Origin { base: None, local_files: true, ..Default::default() };
    let program = document(&TWIML, local, b"<Response><Play>file:///a.wav</Play></Response>").unwrap();
    assert_eq!(program.warnings, []);
}

#[test]
fn fatal_failures_have_their_kind() {
    let base = Url::parse(BASE).unwrap();
    let origin = Origin { base: Some(&base), local_files: false, ..Default::default() };
    let kind = |content_type: Option<&str>, body: &[u8]| answer(&TWIML, origin, content_type, body).unwrap_err().kind;
    assert_eq!(kind(Some("text/xml"), b"<Response"), FailureKind::Document(12100));
    assert_eq!(kind(Some("text/xml"), b"<Response><Say voice='a < b'/></Response>"), FailureKind::Document(12100));
    assert_eq!(kind(Some("text/xml"), b"<response/>"), FailureKind::Document(12102));
    assert_eq!(kind(Some("text/html"), b"<html><body/></html>"), FailureKind::Document(12102));
    assert_eq!(kind(Some("text/html"), b"<!doctype html><meta><p>Log in"), FailureKind::Document(12100));
    assert_eq!(kind(Some("text/xml"), b" \n"), FailureKind::Empty);
    assert_eq!(kind(Some("text/xml"), b""), FailureKind::Empty);
    assert_eq!(kind(Some("text/xml"), &vec![b' '; MAX_DOCUMENT + 1]), FailureKind::TooLarge);
    assert_eq!(kind(Some("text/xml"), b"\xff\xfd"), FailureKind::Document(12100));
    assert_eq!(kind(Some("text/xml"), b"\xff\xfe"), FailureKind::Empty);
    assert_eq!(kind(Some("application/json"), b"{}"), FailureKind::ContentType);
    assert_eq!(kind(None, b"<Response/>"), FailureKind::ContentType);
    assert_eq!(kind(None, b""), FailureKind::Empty);
}

#[test]
fn the_error_says_that_the_document_is_a_web_page_or_json() {
    let base = Url::parse(BASE).unwrap();
    let origin = Origin { base: Some(&base), local_files: false, ..Default::default() };
    let detail = |body: &[u8]| answer(&TWIML, origin, Some("text/html"), body).unwrap_err().detail;
    assert_eq!(detail(b"<!DOCTYPE html><meta><p>Log in"), WEB_PAGE);
    assert_eq!(detail(b"<html><body/></html>"), WEB_PAGE);
    assert_eq!(detail(b"{\"say\": 1}"), JSON);
    assert_eq!(detail(b"<response/>"), "the root element is <response>, not <Response>; names are case-sensitive");
}

#[test]
fn the_warning_about_a_misspelt_name_suggests_the_correct_name() {
    let warning = |body: &str| {
        let origin = Origin { base: None, local_files: false, ..Default::default() };
        document(&TWIML, origin, body.as_bytes()).unwrap().warnings.remove(0).message
    };
    assert_eq!(warning("<Response><say>x</say></Response>"), "<say> is unknown and was skipped; did you mean <Say>?");
    assert_eq!(
        warning("<Response><Gahter/></Response>"),
        "<Gahter> is unknown and was skipped; did you mean <Gather>?"
    );
    assert_eq!(warning("<Response><Sing/></Response>"), "<Sing> is unknown and was skipped");
    let other = "<Speak> is unknown and was skipped; did you mean <Say>?";
    assert_eq!(warning("<Response><Speak>x</Speak></Response>"), other);
    assert_eq!(
        warning("<Response><Say Voice=\"alice\">x</Say></Response>"),
        "<Say> has no attribute Voice; it was ignored; did you mean voice?"
    );
}

#[test]
fn a_document_is_decoded_with_its_declared_charset() {
    let base = Url::parse(BASE).unwrap();
    let origin = Origin { base: Some(&base), local_files: false, ..Default::default() };
    let spoken_text = |content_type: &str, body: &[u8]| {
        let program = answer(&TWIML, origin, Some(content_type), body)?;
        expect!(program.instructions.into_iter().next(), Some(Instruction::Play(play)) => {
            expect!(play.source, AudioSource::Speech(speech) => Ok::<_, FetchFailure>(speech.text))
        })
    };
    let declared = b"<?xml version='1.0' encoding='ISO-8859-1'?><Response><Say>Gr\xfc\xdfe</Say></Response>";
    assert_eq!(spoken_text("text/xml", declared).unwrap(), "Grüße");
    let bare = b"<Response><Say>Gr\xfc\xdfe</Say></Response>";
    assert_eq!(spoken_text("text/xml; charset=\"iso-8859-1\"", bare).unwrap(), "Grüße");
    assert_eq!(spoken_text("text/xml; charset=utf-8", bare).unwrap_err().kind, FailureKind::Document(12100));
    let wrongly = "<?xml version='1.0' encoding='ISO-8859-1'?><Response><Say>Grüße</Say></Response>";
    assert_eq!(spoken_text("text/xml", wrongly.as_bytes()).unwrap(), "Grüße");
    // Windows writes curly quotes, a dash and the euro sign. ISO 8859-1 has control characters in their places, so a
    // document with these characters and the charset ISO 8859-1 is a windows-1252 document.
    let curly = b"<Response><Say>\x93It\x92s 5 \x80\x97 now\x94</Say></Response>";
    let spoken = "\u{201c}It\u{2019}s 5 \u{20ac}\u{2014} now\u{201d}";
    for charset in ["windows-1252", "cp1252", "ISO-8859-1", "latin1", "us-ascii"] {
        assert_eq!(spoken_text(&format!("text/xml; charset={charset}"), curly).unwrap(), spoken, "{charset}");
        let declared = [format!("<?xml version=\"1.0\" encoding=\"{charset}\"?>").as_bytes(), curly].concat();
        assert_eq!(spoken_text("application/xml", &declared).unwrap(), spoken, "{charset}");
    }
    assert_eq!(spoken_text("text/plain; charset=windows-1252", b"It\x92s").unwrap(), "It\u{2019}s");
    let polish = b"<Response><Say>\xb3\xf3d\xbc</Say></Response>";
    assert_eq!(spoken_text("text/xml; charset=iso-8859-2", polish).unwrap(), "\u{142}ód\u{17a}");
    let wide: Vec<u8> =
        "\u{feff}<Response><Say>Grüße</Say></Response>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(spoken_text("text/xml; charset=utf-16", &wide).unwrap(), "Grüße");
    // Editors of Windows write UTF-16 with a byte order mark, with and without a declaration.
    for declaration in ["", "<?xml version=\"1.0\" encoding=\"utf-16\"?>", "<?xml version=\"1.0\"?>"] {
        let text = format!("\u{feff}{declaration}<Response><Say>Grüße</Say></Response>");
        let (little, big) =
            (text.encode_utf16().flat_map(u16::to_le_bytes), text.encode_utf16().flat_map(u16::to_be_bytes));
        for body in [little.collect::<Vec<u8>>(), big.collect()] {
            for kind in ["text/xml", "application/xml; charset=utf-16", "text/xml; charset=utf-8"] {
                assert_eq!(spoken_text(kind, &body).unwrap(), "Grüße", "{kind}: {declaration}");
            }
        }
    }
    assert_eq!(spoken_text("text/xml", b"\xff\xfe<\0\x00\xd8").unwrap_err().kind, FailureKind::Document(12100));
    assert_eq!(spoken_text("text/xml; charset=klingon", bare).unwrap_err().kind, FailureKind::Document(12100));
}

#[test]
fn the_content_type_decides_how_an_answer_is_read() {
    let base = Url::parse("https://app.example/hello.mp3").unwrap();
    let origin = Origin { base: Some(&base), local_files: false, ..Default::default() };
    let first = |content_type, body: &[u8]| {
        answer(&TWIML, origin, Some(content_type), body).unwrap().instructions.into_iter().next()
    };
    expect!(first("audio/mpeg", b"\xff\xfb"), Some(Instruction::Play(play)) => {
        assert_eq!(play.source, AudioSource::Url("https://app.example/hello.mp3".into()));
    });
    expect!(first("text/plain; charset=utf-8", b"Hello <you>"), Some(Instruction::Play(play)) => {
        assert!(matches!(play.source, AudioSource::Speech(speech) if speech.text == "Hello <you>"));
    });
    assert_eq!(
        first("text/html; charset=utf-8", b"\n\n  <?xml version='1.0'?>\n<Response><Hangup/></Response>"),
        Some(Instruction::Hangup)
    );
    assert_eq!(first("application/xml", b"\xef\xbb\xbf<Response/>"), None);
}

#[test]
fn a_document_with_every_verb_is_read_without_a_warning() {
    let program = fetched(include_str!("../fixtures/everything.xml"));
    assert_eq!(program.warnings, []);
    assert_eq!(program.instructions.len(), 14);
}

#[test]
fn documents_of_the_official_libraries_are_read_without_a_warning() {
    let documents = [
        (include_str!("../fixtures/menu.xml"), 2),
        (include_str!("../fixtures/dial.xml"), 1),
        (include_str!("../fixtures/media.xml"), 4),
        (include_str!("../fixtures/flow.xml"), 8),
    ];
    for (text, instructions) in documents {
        let program = fetched(text);
        assert_eq!(program.warnings, [], "{text}");
        assert_eq!(program.instructions.len(), instructions, "{text}");
    }
}

#[test]
fn any_octets_are_read_without_panic() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let seed = include_bytes!("../fixtures/everything.xml");
    for _ in 0..4_000 {
        let mut data = seed.to_vec();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..data.len());
            match rng.random_range(0..3) {
                0 => data[at] = rng.random(),
                1 => drop(data.remove(at)),
                _ => data.insert(at, *b"<>&\"'/#;\0= "[..].get(rng.random_range(0..11)).unwrap()),
            }
        }
        fuzz_markup(&TWIML, &data);
    }
}
