//! Tests of representations, filters, credentials and errors, without a server. The tests also compare the resources
//! with Twilio's published examples.

use axum::http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::address::Address;
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegOwner, Status};
use tandem_call::recording::{Recording, RecordingChannels, RecordingSource, RecordingSpec, RecordingStatus};
use tandem_id::{AccountName, CallId, RecordingId};

use super::super::{account, call, recording, transcription};
use super::calls::leg_filter;
use super::*;

const ACCOUNT: &str = "AC00000000000000000000000000000001";

fn leg(status: Status) -> LegInfo {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let end = LegEnd {
        at: at("2010-08-31T20:36:44Z"),
        cause: EndCause::NormalClearing,
        by: EndedBy::FarEnd,
        sip_status: None,
        detail: None,
        failure: None,
    };
    let (from, to) = (Address::from("+14158675308"), Address::from("+14158675309"));
    let owner = LegOwner::new(AccountName::new("acme"), "twilio");
    LegInfo {
        parent: Some(LegId(3)),
        caller_name: Some("Ann".into()),
        forwarded_from: Some("+141586753093".into()),
        status,
        answered_at: Some(at("2010-08-31T20:36:29Z")),
        end: status.is_final().then_some(end),
        ..LegInfo::inbound(LegId(1), CallId(2), owner, from, to, at("2010-08-31T20:36:28Z"))
    }
}

fn facts(status: RecordingStatus) -> Recording {
    let ended = status == RecordingStatus::Completed;
    Recording {
        id: RecordingId(4),
        leg: LegId(1),
        conference: None,
        spec: RecordingSpec::new(RecordingSource::Request, RecordingChannels::Dual),
        started_at: "2016-10-14T21:56:34Z".parse().unwrap(),
        ended_at: ended.then(|| "2016-10-14T21:56:38Z".parse().unwrap()),
        duration: ended.then_some(std::time::Duration::from_secs(4)),
        limit: None,
        status,
    }
}

fn acme() -> Account {
    Account {
        name: AccountName::new("acme"),
        twilio: Some(tandem_accounts::TwilioCredentials::new(ACCOUNT, "token")),
        telnyx: None,
        signalwire: None,
        operator: false,
    }
}

#[test]
fn an_ended_call_has_the_values_of_the_published_example() {
    let value = call::call(crate::owner(ACCOUNT), &leg(Status::Completed));
    for (key, expected) in [
        ("status", json!("completed")),
        ("duration", json!("15")),
        ("start_time", json!("Tue, 31 Aug 2010 20:36:29 +0000")),
        ("end_time", json!("Tue, 31 Aug 2010 20:36:44 +0000")),
        ("date_created", json!("Tue, 31 Aug 2010 20:36:28 +0000")),
        ("date_updated", json!("Tue, 31 Aug 2010 20:36:44 +0000")),
        ("from_formatted", json!("(415) 867-5308")),
        ("parent_call_sid", json!("CA00000000000000000000000000000003")),
        ("direction", json!("inbound")),
        ("queue_time", json!("0")),
    ] {
        assert_eq!(value[key], expected, "{key}");
    }
}

#[test]
fn a_live_call_has_no_duration_and_a_new_call_has_no_dates() {
    let live = call::call(crate::owner(ACCOUNT), &leg(Status::InProgress));
    assert_eq!(
        (&live["status"], &live["duration"], &live["end_time"]),
        (&json!("in-progress"), &Value::Null, &Value::Null)
    );
    let dialing = call::call(crate::owner(ACCOUNT), &LegInfo { answered_at: None, ..leg(Status::Initiated) });
    assert_eq!((&dialing["status"], &dialing["start_time"]), (&json!("ringing"), &Value::Null));
    let new = call::created(crate::owner(ACCOUNT), &leg(Status::Initiated));
    assert_eq!(
        (&new["status"], &new["date_created"], &new["start_time"]),
        (&json!("queued"), &Value::Null, &Value::Null)
    );
}

#[test]
fn a_live_recording_has_no_duration_and_a_numeric_channel_count() {
    let running = recording::call_recording(crate::owner(ACCOUNT), "http://h", &facts(RecordingStatus::InProgress));
    assert_eq!((&running["duration"], &running["channels"]), (&Value::Null, &json!(2)));
    assert_eq!(running["source"], "StartCallRecordingAPI");
    let done = recording::recording(crate::owner(ACCOUNT), "http://127.0.0.1:8080", &facts(RecordingStatus::Completed));
    assert_eq!(done["duration"], "4");
    let media =
        format!("http://127.0.0.1:8080/2010-04-01/Accounts/{ACCOUNT}/Recordings/RE00000000000000000000000000000004");
    assert_eq!(done["media_url"], media.as_str());
    let failed = recording::recording(crate::owner(ACCOUNT), "", &facts(RecordingStatus::Failed("disk".into())));
    assert_eq!((&failed["status"], failed["error_code"].is_u64()), (&json!("absent"), true));
}

/// Checks that the resource has every key of every published example, with a value of the same type. Null matches any
/// type.
#[test]
fn calls_recordings_and_accounts_have_every_field_of_the_published_examples() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/openapi/twilio_api_v2010.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("openapi/twilio_api_v2010.json"));
        return;
    };
    let document: Value = serde_json::from_str(&text).unwrap();
    let call = call::call(crate::owner(ACCOUNT), &leg(Status::Completed));
    let recording = recording::recording(crate::owner(ACCOUNT), "http://x", &facts(RecordingStatus::Completed));
    let call_recording =
        recording::call_recording(crate::owner(ACCOUNT), "http://h", &facts(RecordingStatus::Completed));
    let account = acme();
    let stream = recording::stream(
        crate::owner(ACCOUNT),
        LegId(1),
        tandem_id::StreamId(5),
        None,
        "stopped",
        Timestamp::UNIX_EPOCH,
    );
    let id = tandem_id::TranscriptionId(6);
    let live =
        transcription::live(crate::owner(ACCOUNT), LegId(1), id, Some("t"), "in-progress", Timestamp::UNIX_EPOCH);
    let words = tandem_call::recognition::RecognisedText { stable: "hello".into(), ..Default::default() };
    let transcript = tandem_call::transcription::Transcript {
        id,
        recording: facts(RecordingStatus::Completed),
        callback: None,
        state: tandem_call::transcription::TranscriptState::Completed(words),
    };
    let transcript =
        transcription::transcript(crate::owner(ACCOUNT), &Resource::new(&AccountName::new("acme"), "", transcript));
    let parameters = Parameters::parse(&crate::Twilio, b"");
    let paging = |key, prefix, item: &Value| {
        Paging::parse(&parameters, Ids::Prefixed, prefix).unwrap().envelope(
            key,
            "/x",
            &parameters,
            vec![(String::new(), item.clone())],
        )
    };
    let account_item = account::account(&account::Facts {
        root: "/2010-04-01",
        sid: ACCOUNT.into(),
        owner: ACCOUNT.into(),
        auth_token: &account.twilio.as_ref().unwrap().auth_token,
        signing_key: None,
        friendly_name: "acme".into(),
        status: AccountStatus::Active,
        dates: (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
    });
    let below = "/2010-04-01/Accounts/{AccountSid}";
    let mut compared = 0;
    for (path, methods, ours) in [
        ("/2010-04-01/Accounts.json".to_owned(), &["get"][..], paging("accounts", "AC", &account_item)),
        ("/2010-04-01/Accounts/{Sid}.json".into(), &["get"], account_item),
        (format!("{below}/Balance.json"), &["get"], account::balance(ACCOUNT)),
        (format!("{below}/Calls.json"), &["get"], paging("calls", "CA", &call)),
        (format!("{below}/Calls.json"), &["post"], call.clone()),
        (format!("{below}/Calls/{{Sid}}.json"), &["get", "post"], call),
        (format!("{below}/Recordings.json"), &["get"], paging("recordings", "RE", &recording)),
        (format!("{below}/Recordings/{{Sid}}.json"), &["get"], recording),
        (format!("{below}/Calls/{{CallSid}}/Recordings.json"), &["get"], paging("recordings", "RE", &call_recording)),
        (format!("{below}/Calls/{{CallSid}}/Recordings.json"), &["post"], call_recording.clone()),
        (format!("{below}/Calls/{{CallSid}}/Recordings/{{Sid}}.json"), &["get", "post"], call_recording),
        (format!("{below}/Calls/{{CallSid}}/Streams.json"), &["post"], stream.clone()),
        (format!("{below}/Calls/{{CallSid}}/Streams/{{Sid}}.json"), &["post"], stream),
        (format!("{below}/Calls/{{CallSid}}/Transcriptions.json"), &["post"], live.clone()),
        (format!("{below}/Calls/{{CallSid}}/Transcriptions/{{Sid}}.json"), &["post"], live),
        (format!("{below}/Transcriptions.json"), &["get"], paging("transcriptions", "TR", &transcript)),
        (format!("{below}/Transcriptions/{{Sid}}.json"), &["get"], transcript.clone()),
        (
            format!("{below}/Recordings/{{RecordingSid}}/Transcriptions.json"),
            &["get"],
            paging("transcriptions", "TR", &transcript),
        ),
        (format!("{below}/Recordings/{{RecordingSid}}/Transcriptions/{{Sid}}.json"), &["get"], transcript),
    ] {
        for method in methods {
            let responses = document["paths"][&path][method]["responses"].as_object().unwrap();
            for response in responses.values() {
                let examples = response["content"]["application/json"]["examples"].as_object();
                for (name, example) in examples.into_iter().flatten() {
                    covers(&format!("{method} {path} {name}"), &ours, &example["value"]);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 20, "only {compared} examples were found");
}

/// Checks that the answer has every key of the published examples of these operations. The values must have the same
/// types as in the examples. Prints a note if the published document is missing.
pub(super) fn published(document: &str, operations: &[(String, &str, Value)]) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/openapi").join(document);
    let Ok(text) = std::fs::read_to_string(&file) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared(&format!("openapi/{document}")));
        return;
    };
    let document: Value = serde_json::from_str(&text).unwrap();
    for (path, method, ours) in operations {
        let responses = document["paths"][path][method]["responses"].as_object().unwrap_or_else(|| panic!("no {path}"));
        let examples = responses.values().filter_map(|one| one["content"]["application/json"]["examples"].as_object());
        let mut compared = 0;
        for (name, example) in examples.flatten() {
            covers(&format!("{method} {path} {name}"), ours, &example["value"]);
            compared += 1;
        }
        assert!(compared > 0, "{method} {path} has no example");
    }
}

fn covers(place: &str, ours: &Value, example: &Value) {
    match (ours, example) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(ours), Value::Object(example)) => {
            for (key, example) in example {
                let value = ours.get(key).unwrap_or_else(|| panic!("{place}: {key} is missing"));
                covers(&format!("{place}.{key}"), value, example);
            }
        }
        (Value::Array(ours), Value::Array(example)) => {
            if let (Some(ours), Some(example)) = (ours.first(), example.first()) {
                covers(&format!("{place}[]"), ours, example);
            }
        }
        (ours, example) => {
            let same = std::mem::discriminant(ours) == std::mem::discriminant(example);
            assert!(same, "{place}: {ours} has another type than {example}");
        }
    }
}

#[test]
fn filters_of_the_call_list_are_parsed_or_refused() {
    let filter = |query: &str| leg_filter(&Parameters::parse(&crate::Twilio, query.as_bytes()));
    let read =
        filter("To=%2B1+(555)+1230001&From=client:a&Status=ringing&ParentCallSid=CA00000000000000000000000000000003");
    let read = read.unwrap().unwrap();
    assert_eq!((read.to.as_deref(), read.from.as_deref()), (Some("+15551230001"), Some("client:a")));
    assert_eq!((read.parent, read.status), (Some(LegId(3)), vec![Status::Initiated, Status::Ringing]));
    assert!(filter("ParentCallSid=x").unwrap().is_none());
    assert_eq!(filter("Status=initiated").unwrap_err().code, 20001);
    assert_eq!(filter("StartTime=x").unwrap_err().code, 20001);
}

#[test]
fn credentials_are_parsed_from_the_authorization_header() {
    let read = |text: &str| {
        let request = Request::builder().header("Authorization", text).body(()).unwrap();
        basic(request.headers())
    };
    assert_eq!(read("Basic QUMxOnRvOmtlbg=="), Some(("AC1".into(), "to:ken".into())));
    for bad in ["Bearer x", "Basic", "Basic !!!", "Basic QUMx"] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn an_error_has_twilios_json_form() {
    let body = |error: ApiError| {
        let response = error.into_response();
        let (parts, body) = response.into_parts();
        let body = futures_executor(axum::body::to_bytes(body, 10_000)).unwrap();
        (parts, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (parts, value) = body(ApiError::not_found("/x"));
    assert_eq!(parts.status, 404);
    assert_eq!(
        value,
        json!({
            "code": 20404, "message": "The requested resource /x was not found",
            "more_info": "https://www.twilio.com/docs/errors/20404", "status": 404,
        })
    );
    let (parts, value) = body(ApiError::unauthenticated());
    assert_eq!((parts.status.as_u16(), &value["code"]), (401, &json!(20003)));
    assert!(parts.headers.contains_key(header::WWW_AUTHENTICATE));
}

fn futures_executor<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn a_recording_path_without_the_json_extension_returns_audio() {
    const CALL: &str = "CA00000000000000000000000000000001";
    const RECORDING: &str = "RE00000000000000000000000000000002";
    use recordings::Audio;
    for (path, expected) in [
        (format!("/Recordings/{RECORDING}.json"), None),
        (format!("/Recordings/{RECORDING}"), Some(Audio::Wav)),
        (format!("/Recordings/{RECORDING}.wav"), Some(Audio::Wav)),
        (format!("/Recordings/{RECORDING}.mp3"), Some(Audio::Mp3)),
        ("/Recordings/x.wav".into(), None),
        (format!("/Calls/{CALL}/Recordings/{RECORDING}.wav"), Some(Audio::Wav)),
        (format!("/Calls/{CALL}/Recordings/{RECORDING}"), None),
        (format!("/Calls/CA1/Recordings/{RECORDING}.wav"), None),
    ] {
        let path = format!("/2010-04-01/Accounts/{ACCOUNT}{path}");
        let found = recordings::audio(&Twilio, &path::parse(&path).unwrap());
        assert_eq!(found, expected.map(|audio| (RecordingId(2), audio)), "{path}");
    }
}
