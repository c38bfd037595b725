//! Tests of every parameter's meaning and error number.

use tandem_call::Method;
use tandem_call::new_leg::OnAnswer;
use tandem_call::program::instruction::{Instruction, SendDigits};
use tandem_id::AccountName;

use super::*;

const BASE: &str = "To=%2B15550002222&From=%2B15550001111&Url=http%3A%2F%2F127.0.0.1%3A9000%2Fvoice";

fn parameters(form: &str) -> Parameters {
    Parameters::parse(&crate::Twilio, form.as_bytes())
}

fn application(sid: &str) -> Option<Voice> {
    let voice = Voice {
        url: Some("http://app/voice".into()),
        method: Method::Get,
        fallback_url: Some("http://app/fallback".into()),
        status_callback: Some("http://app/status".into()),
        ..Voice::default()
    };
    match sid {
        "AP1" => Some(voice),
        "AP2" => Some(Voice::default()),
        _ => None,
    }
}

fn create(form: &str) -> Result<NewCall, ApiError> {
    new_call(&parameters(form), &AccountName::new("acme"), &application)
}

#[test]
fn a_plain_call_has_the_documented_defaults() {
    let call = create(BASE).unwrap();
    assert_eq!(
        (call.invite.to.to_string(), call.invite.from.to_string()),
        ("+15550002222".into(), "+15550001111".into())
    );
    assert_eq!((call.plan.timeout.as_secs(), call.plan.time_limit.unwrap().as_secs()), (60, 14_400));
    assert!(
        call.status.is_none()
            && call.record.is_none()
            && call.plan.send_digits.is_none()
            && call.invite.credentials.is_none()
    );
    let OnAnswer::Document(target) = call.plan.then else { panic!() };
    assert_eq!((target.url.as_ref(), target.method), ("http://127.0.0.1:9000/voice", Method::Post));
    assert!(call.fallback.is_none());
}

#[test]
fn every_parameter_of_a_new_call_is_used() {
    let call = create(&format!(
        "{BASE}&Method=GET&FallbackUrl=http://x/f&FallbackMethod=GET&StatusCallback=http://x/s&StatusCallbackMethod=GET\
         &StatusCallbackEvent=initiated&StatusCallbackEvent=answered&SendDigits=1w2%23&Timeout=15&TimeLimit=30\
         &Record=true&RecordingChannels=dual&RecordingTrack=inbound&RecordingStatusCallback=http://x/r\
         &RecordingStatusCallbackEvent=in-progress+completed&Trim=do-not-trim&SipAuthUsername=u&SipAuthPassword=p\
         &MachineDetection=Enable&MachineDetectionTimeout=30&AsyncAmd=true&CallReason=x&CallToken=y&Unknown=z"
    ))
    .unwrap();
    let status = call.status.unwrap();
    assert_eq!(
        (status.target.method, status.events),
        (Method::Get, vec![StatusEvent::Initiated, StatusEvent::Answered])
    );
    assert_eq!(call.plan.send_digits, Some(SendDigits::new("1w2#")));
    assert_eq!((call.plan.timeout.as_secs(), call.plan.time_limit.unwrap().as_secs()), (15, 30));
    let record = call.record.unwrap();
    assert_eq!((record.channels, record.track, record.trim), (RecordingChannels::Dual, Track::Inbound, false));
    assert_eq!(record.source, RecordingSource::Outbound);
    assert_eq!(record.callback.unwrap().events, [StatusEvent::InProgress, StatusEvent::Completed]);
    assert_eq!(call.invite.credentials.unwrap().username, "u");
    assert_eq!(*call.invite.headers, [("Call-Info".into(), "<data:>;purpose=jcard;call-reason=\"x\"".into())]);
    let OnAnswer::Document(target) = call.plan.then else { panic!() };
    assert_eq!((target.method, call.fallback.unwrap().method), (Method::Get, Method::Get));
}

#[test]
fn machine_detection_runs_before_the_document_or_with_async_amd_in_the_background() {
    let spec = create(&format!("{BASE}&MachineDetection=DetectMessageEnd&MachineDetectionSpeechThreshold=3000"));
    let spec = spec.unwrap().plan.detect.unwrap();
    assert_eq!((spec.until, spec.holds), (Until::GreetingEnd, true));
    assert_eq!((spec.greeting.as_millis(), spec.first_result_timeout.as_secs()), (3_000, 30));
    let spec = create(&format!(
        "{BASE}&MachineDetection=Enable&AsyncAmd=true&AsyncAmdStatusCallback=http://x/amd&MachineDetectionTimeout=5"
    ));
    let spec = spec.unwrap().plan.detect.unwrap();
    assert_eq!((spec.until, spec.holds, spec.first_result_timeout.as_secs()), (Until::FirstResult, false, 5));
    assert_eq!(spec.callback.unwrap().target.url.as_ref(), "http://x/amd");
    assert_eq!(create(BASE).unwrap().plan.detect, None);
    assert_eq!(create(&format!("{BASE}&MachineDetection=Enable&SendDigits=1")).unwrap().plan.detect, None);
}

#[test]
fn odd_parameters_of_a_new_call_cause_numbered_warnings() {
    let codes = |form: &str| warnings(&parameters(form)).into_iter().map(|(code, _)| code).collect::<Vec<_>>();
    assert!(codes(BASE).is_empty());
    assert_eq!(codes(&format!("{BASE}&Twiml=%3CResponse/%3E")), [32019]);
    assert_eq!(codes(&format!("{BASE}&MachineDetection=Enable&SendDigits=1")), [21263]);
    assert_eq!(codes(&format!("{BASE}&StatusCallback=http://my_app/")), [21609]);
    assert_eq!(codes(&format!("{BASE}&to=1&Colour=red")), [20001, 20001]);
    assert_eq!(codes(&format!("{BASE}&FallbackUrl=http://x/%23rp=6xx")), [11243]);
}

#[test]
fn an_unknown_event_in_a_list_of_events_causes_a_warning() {
    let messages = |warnings: Vec<(u32, String)>| {
        assert!(warnings.iter().all(|(code, _)| *code == 21626), "{warnings:?}");
        warnings.into_iter().map(|(_, message)| message).collect::<Vec<_>>()
    };
    let of_call = |form: &str| messages(warnings(&parameters(&format!("{BASE}&StatusCallback=http://x/&{form}"))));
    assert!(of_call("StatusCallbackEvent=initiated&StatusCallbackEvent=answered").is_empty());
    let unknown = of_call("StatusCallbackEvent=answred&StatusCallbackEvent=completed");
    let expected = "StatusCallbackEvent: answred is not an event that this server sends; the events are initiated, \
                    ringing, answered, completed";
    assert_eq!(unknown, [expected]);
    // Twilio takes several events in one parameter for one unknown event.
    for separated in ["initiated+ringing", "initiated,ringing", "initiated%0Aringing"] {
        let [message] = &of_call(&format!("StatusCallbackEvent={separated}"))[..] else { panic!("{separated}") };
        assert!(message.ends_with("StatusCallbackEvent=initiated&StatusCallbackEvent=ringing"), "{message}");
    }
    assert!(
        of_call("RecordingStatusCallbackEvent=in-progress+completed+absent+failed").is_empty(),
        "Twilio publishes this form"
    );
    assert_eq!(of_call("RecordingStatusCallbackEvent=paused").len(), 1);
    let lists = [
        "StatusCallbackEvent",
        "ConferenceStatusCallbackEvent",
        "ConferenceRecordingStatusCallbackEvent",
        "RecordingStatusCallbackEvent",
    ];
    for list in lists {
        let form = parameters(&format!("{list}=never"));
        assert_eq!(messages(participant_warnings(&form)).len(), 1, "{list}");
    }
    assert!(participant_warnings(&parameters("StatusCallbackEvent=initiated+ringing")).is_empty());
    assert!(participant_warnings(&parameters("ConferenceStatusCallbackEvent=start+end+join")).is_empty());
    assert_eq!(messages(conference_warnings(&parameters("StatusCallbackEvent=begin"))).len(), 1);
    assert_eq!(messages(recording_warnings(&parameters("RecordingStatusCallbackEvent=done"))).len(), 1);
    let many = "StatusCallbackEvent=x&".repeat(1_000);
    assert!(of_call(&many).len() <= 20, "the number of warnings is limited");
}

#[test]
fn caller_id_replaces_from_and_byoc_is_accepted() {
    let call = create(&format!(
        "{BASE}&CallerId=%2B15550003333&Byoc=BY{0}&Passports=x&RecordingConfigurationId=y",
        "0".repeat(32)
    ));
    assert_eq!(call.unwrap().invite.from.to_string(), "+15550003333");
    let absent =
        create(&format!("{BASE}&Record=true&RecordingStatusCallback=http://x/&RecordingStatusCallbackEvent=absent"));
    assert_eq!(absent.unwrap().record.unwrap().callback.unwrap().events, [StatusEvent::Absent]);
}

#[test]
fn an_invalid_new_call_gets_twilios_error_code() {
    let url = "Url=http://x/";
    for (form, code) in [
        (format!("From=1&{url}"), 21201),
        (format!("To=&From=1&{url}"), 21201),
        (format!("To=abc&From=1&{url}"), 21211),
        (format!("To=sip:&From=1&{url}"), 21211),
        (format!("To=1&{url}"), 21213),
        (format!("To=1&From=abc&{url}"), 21212),
        (format!("To=1&From=client:bob&{url}"), 21212),
        ("To=1&From=2".into(), 21205),
        ("To=1&From=2&Url=/voice".into(), 21205),
        ("To=1&From=2&Url=file:///etc/passwd".into(), 21205),
        (format!("{BASE}&Method=PUT"), 21209),
        (format!("{BASE}&FallbackUrl=x"), 21205),
        (format!("{BASE}&StatusCallback=x"), 21502),
        (format!("{BASE}&SendDigits=1x"), 21206),
        (format!("{BASE}&SendDigits={}", "1".repeat(33)), 21206),
        (format!("{BASE}&Timeout=0"), 21208),
        (format!("{BASE}&Timeout=601"), 21208),
        (format!("{BASE}&Record=maybe"), 20001),
        (format!("{BASE}&RecordingChannels=triple"), 20001),
        (format!("{BASE}&MachineDetection=On"), 21234),
        (format!("{BASE}&MachineDetectionTimeout=1"), 21263),
        (format!("{BASE}&MachineDetection=Enable&MachineDetectionTimeout=61"), 21263),
        (format!("{BASE}&MachineDetectionSpeechThreshold=999"), 21263),
        (format!("{BASE}&MachineDetectionSpeechEndThreshold=5001"), 21263),
        (format!("{BASE}&MachineDetectionSilenceTimeout=1999"), 21263),
        (format!("{BASE}&SipAuthUsername=u"), 21225),
        (format!("{BASE}&SipAuthPassword=p"), 21225),
        (format!("{BASE}&SipAuthUsername={}&SipAuthPassword=p", "u".repeat(256)), 21221),
        (format!("{BASE}&SipAuthUsername=a%22b&SipAuthPassword=p"), 21222),
        (format!("{BASE}&SipAuthUsername=u&SipAuthPassword={}", "p".repeat(256)), 21223),
        (format!("{BASE}&SipAuthUsername=u&SipAuthPassword=%01"), 21224),
        (format!("{BASE}&RecordingTrack=left"), 20001),
        (format!("{BASE}&Trim=yes"), 20001),
        (format!("{BASE}&CallerId=client:bob"), 21212),
        (format!("From=client:bob&CallerId=1&To=2&{url}"), 21212),
        (format!("To=sip:a@b?X-A%3D{}&From=2&{url}", "x".repeat(1024)), 21227),
        (format!("{BASE}&TimeLimit=x"), 20001),
        (format!("{BASE}&ApplicationSid=AP9"), 21218),
        (format!("{BASE}&ApplicationSid=AP2"), 21205),
        (format!("{BASE}&ApplicationSid=AP3"), 21218),
        ("To=sip:a@b?From%3Dx&From=2&Url=http://x/".into(), 21228),
        ("To=1&From=2&Twiml=<Response><Redirect>/x</Redirect></Response>".into(), 15004),
        ("To=1&From=2&Twiml=<Response>".into(), 12100),
        ("To=1&From=2&Twiml=<R/>".into(), 12102),
        (format!("To=1&From=2&Twiml=<Response>{}</Response>", "+".repeat(4000)), 32018),
    ] {
        let error = create(&form).unwrap_err();
        assert_eq!((error.code, error.status.as_u16()), (code, 400), "{form}: {}", error.message);
    }
}

#[test]
fn to_and_from_may_be_numbers_sip_uris_clients_or_names() {
    let to = |to: &str| create(&format!("To={to}&From=%2B15550001111&Url=http://x/")).unwrap();
    assert_eq!(to("%2B1+(555)+000-2222").invite.to, Address::from("+15550002222"));
    assert_eq!(to("client:alice").invite.to, Address::Client("alice".into()));
    let sip = to("sip:bob@127.0.0.1:5080%3Btransport%3Dtcp%3FX-Order%3Da%2520b%26X-B%3D2");
    assert_eq!(sip.invite.to.to_string(), "sip:bob@127.0.0.1:5080;transport=tcp");
    assert_eq!(*sip.invite.headers, [("X-Order".into(), "a b".into()), ("X-B".into(), "2".into())]);
    let named = create("To=sip:b@h&From=alice&Url=http://x/").unwrap();
    assert_eq!(named.invite.from, Address::Name("alice".into()));
}

#[test]
fn url_has_precedence_over_twiml_and_application_sid_over_both() {
    let both = create(&format!("{BASE}&Twiml=<Response/>")).unwrap();
    assert!(matches!(both.plan.then, OnAnswer::Document(_)));
    let twiml = create("To=1&From=2&Twiml=<Response><Hangup/></Response>").unwrap();
    assert!(matches!(twiml.plan.then, OnAnswer::Program(program) if program.instructions == [Instruction::Hangup]));
    let guarded = create("To=1&From=2&Twiml=<Response/>&FallbackUrl=http://x/f").unwrap();
    assert_eq!(guarded.fallback.unwrap().url.as_ref(), "http://x/f");
    let application = create(&format!("{BASE}&ApplicationSid=AP1&StatusCallback=http://x/mine")).unwrap();
    assert_eq!(application.owner.application.as_deref(), Some("AP1"));
    assert_eq!(application.status.unwrap().target.url.as_ref(), "http://app/status");
    let OnAnswer::Document(target) = application.plan.then else { panic!() };
    assert_eq!((target.url.as_ref(), target.method), ("http://app/voice", Method::Get));
    assert_eq!(application.fallback.unwrap().url.as_ref(), "http://app/fallback");
}

#[test]
fn an_update_ends_or_redirects_the_call_or_changes_its_settings() {
    let update = |form: &str| call_update(&parameters(form));
    assert_eq!(update("Status=completed").unwrap().change, Some(Change::Complete));
    assert_eq!(update("Status=canceled").unwrap().change, Some(Change::Cancel));
    let redirect = update("Url=http://x/next&Method=GET").unwrap().change;
    let Some(Change::Redirect(redirect)) = redirect else { panic!() };
    assert!(matches!(*redirect, Command::Redirect(target) if target.method == Method::Get));
    let run = update("Twiml=<Response><Say>x</Say></Response>").unwrap().change;
    assert!(matches!(run, Some(Change::Redirect(command)) if matches!(*command, Command::Run(_))));
    let settings = update("StatusCallback=http://x/&TimeLimit=10").unwrap();
    assert_eq!((settings.change, settings.settings.len()), (None, 2));
    let [Command::SetFallback(Some(fallback))] = &update("Url=http://x/&FallbackUrl=http://x/f").unwrap().settings[..]
    else {
        panic!()
    };
    assert_eq!(fallback.url.as_ref(), "http://x/f");
    for (form, code) in [
        ("Status=ringing", 20001),
        ("Url=x", 21205),
        ("Url=http://x/&Method=PUT", 21209),
        ("Url=http://x/&FallbackUrl=x", 21205),
        ("Url=http://x/&Twiml=<Response/>", 20001),
        ("Twiml=x", 12100),
        ("Twiml=<Response><Play>a.wav</Play></Response>", 15004),
        ("TimeLimit=-1", 20001),
    ] {
        assert_eq!(update(form).unwrap_err().code, code, "{form}");
    }
}

#[test]
fn recording_and_stream_requests_of_a_live_call_are_parsed() {
    let spec = call_recording(&parameters("")).unwrap();
    assert_eq!((spec.trim, spec.channels, spec.track), (false, RecordingChannels::Mono, Track::Both));
    assert_eq!(spec.source, RecordingSource::Request);
    for (form, gap) in
        [("Status=paused&PauseBehavior=skip", PauseBehavior::Skip), ("Status=paused", PauseBehavior::Silence)]
    {
        assert_eq!(recording_update(&parameters(form)).unwrap(), RecordingUpdate::Pause(gap));
    }
    assert_eq!(recording_update(&parameters("Status=in-progress")).unwrap(), RecordingUpdate::Resume);
    assert_eq!(recording_update(&parameters("Status=stopped")).unwrap(), RecordingUpdate::Stop);
    assert_eq!(recording_update(&parameters("")).unwrap_err().code, 20001);
    assert_eq!(recording_update(&parameters("Status=paused&PauseBehavior=x")).unwrap_err().code, 20001);
    let stream = |form: &str| super::stream(&parameters(form));
    let spec =
        stream("Url=wss://x/&Name=n&Track=both_tracks&Parameter1.Name=a&Parameter1.Value=b&Parameter2.Name=c").unwrap();
    assert_eq!((spec.url.as_str(), spec.name.as_deref(), spec.track), ("wss://x/", Some("n"), Track::Both));
    assert_eq!(spec.parameters, [("a".into(), "b".into()), ("c".into(), String::new())]);
    assert!(spec.bidirectional_mode.is_none());
    for (form, code) in [("", 20001), ("Url=x", 31923), ("Url=https://x/", 31922), ("Url=ws://x/&Track=all", 31941)] {
        assert_eq!(stream(form).unwrap_err().code, code, "{form}");
    }
}

#[test]
fn a_second_plus_in_a_number_is_dropped_with_a_warning() {
    let form = "To=%2B%2B15555555555&From=%2B15550001111&Twiml=%3CResponse%2F%3E";
    assert_eq!(create(form).unwrap().invite.to.to_string(), "+15555555555");
    let odd = warnings(&parameters(form));
    assert_eq!(odd.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [21211]);
    assert_eq!(create(&form.replace("15555555555", "")).unwrap_err().code, 21211);
    let form = form.replace("From=%2B", "From=%2B%2B");
    assert_eq!(create(&form).unwrap().invite.from.to_string(), "+15550001111");
    let odd = warnings(&parameters(&form));
    assert_eq!(odd.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [21211, 21212]);
    let form = format!("{form}&CallerId=%2B%2B15550002222");
    assert_eq!(create(&form).unwrap().invite.from.to_string(), "+15550002222");
}
