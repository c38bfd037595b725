//! Measures the effect of each published parameter of a command. The test parses one request with the parameter and one
//! request without the parameter. Then the test compares the results.

use std::collections::BTreeMap;

use tandem_id::AccountName;

use super::published::PUBLISHED;
use super::*;

const PAGE: &str = "../../docs/call-control.md";

/// The effect of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum ParameterSupport {
    /// The parameter changes the result of the request.
    Honoured,
    /// The parameter is accepted but does not change the result of the request.
    Idle,
    /// The parameter is refused with HTTP status 422 and error code 10038.
    Refused,
}

/// The parameters of each command. `None` if the server refuses the command itself.
type SupportTable = BTreeMap<String, Option<BTreeMap<String, ParameterSupport>>>;

/// Values that are valid for this server. The test uses these values if the published example values are not valid for
/// this server.
fn own(command: &str, name: &str) -> Option<Value> {
    let leg = id::call_control_id(LegId(7));
    Some(match name {
        "to" if command == "dial" || command == "transfer" => json!("sip:a@example.com"),
        "from" | "from_" => json!("+15551230001"),
        "connection_id" => json!("1"),
        "call_control_id" | "link_to" | "supervise_call_control_id" => json!(leg),
        "client_state" | "target_leg_client_state" => json!("c3RhdGU="),
        "audio_url" | "invalid_audio_url" => json!("http://h/a.wav"),
        "media_name" | "invalid_media_name" => json!("greeting"),
        "playback_content" => json!("UklGRg=="),
        "stream_url" => json!("ws://h/s"),
        "conference_config" => json!({"conference_name": "room"}),
        "connector_name" => json!("recorder"),
        "rx" | "tx" | "target" => json!("udp:127.0.0.1:9000"),
        "sip_address" => json!("sip:b@example.com"),
        "recording_id" | "stream_id" => json!("01a209db-db22-174c-9724-9224075151cf"),
        "digits" | "send_digits_on_answer" => json!("12"),
        "custom_headers" => json!([{"name": "X-A", "value": "b"}]),
        "sip_headers" => json!([{"name": "User-to-User", "value": "b"}]),
        "sip_auth_username" | "sip_auth_password" => json!("secret"),
        "webhook_url" => json!("http://h/other"),
        "webhook_urls" => json!({"call.hangup": "http://h/hangup"}),
        "voice" => json!("male"),
        "language" => json!("de-DE"),
        "payload" | "invalid_payload" => json!("Hello"),
        "queue_name" => json!("support"),
        // Values that differ from the defaults.
        "minimum_digits" => json!(2),
        "maximum_digits" => json!(9),
        "supervisor_role" => json!("whisper"),
        "maximum_tries" => json!(5),
        "timeout_millis" => json!(12_000),
        "terminating_digit" => json!("*"),
        "target_legs" => json!("both"),
        "stream_bidirectional_mode" => json!("rtp"),
        "stream_bidirectional_codec" => json!("L16"),
        "stream_bidirectional_sampling_rate" => json!(16_000),
        "deepfake_detection" => json!({"enabled": true}),
        "assistant" if command == "conversation_relay_start" => json!({"dynamic_variables": {"a": "b"}}),
        "assistant" => json!({"id": "reception", "instructions": "Be kind."}),
        "url" => json!("wss://h/relay"),
        "messages" => json!([{"role": "user", "content": "Hello"}]),
        _ => return None,
    })
}

/// The result of a request as text, or the error code. Equal results have equal texts.
fn outcome(command: &str, body: &Map<String, Value>) -> Result<String, u32> {
    let body = Value::Object(body.clone());
    let done = match command {
        "dial" => dial::new_call(Parameters(&members(body)), &AccountName::new("acme"), application)
            .map(|call| format!("{call:?}")),
        action => planned(action, body).map(|plan| format!("{plan:?}")),
    };
    done.map_err(|error| error.code)
}

/// Parameters whose effect is not visible in the parsed request. With `command_id`, the server ignores a repeated
/// command. `max_size` applies when the queue is created. `queue` is looked up before the request is parsed.
const OUTSIDE: [&str; 3] = ["command_id", "max_size", "queue"];
const NOT_PERMITTED: u32 = 10038;

/// The measured effect of all parameters.
fn standings() -> SupportTable {
    let published: BTreeMap<String, Value> = serde_json::from_str(PUBLISHED).unwrap();
    published.into_iter().map(|(command, about)| (command.clone(), measured(&command, &about))).collect()
}

fn measured(command: &str, about: &Value) -> Option<BTreeMap<String, ParameterSupport>> {
    if command != "dial" && Action::parse(command).is_err() {
        return None;
    }
    let given: Vec<(&String, Vec<Value>)> = about["properties"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, values)| {
            (name, own(command, name).into_iter().chain(values.as_array().unwrap().clone()).collect())
        })
        .collect();
    let mut least = Map::new();
    for name in about["required"].as_array().unwrap() {
        let values = &given.iter().find(|(one, _)| **one == *name).unwrap().1;
        least.insert(name.as_str().unwrap().to_owned(), values[0].clone());
    }
    // Some commands need one of several parameters. Such commands are `bridge` and the commands that play a file.
    let others = [
        ("ai_assistant_add_messages", "messages"),
        ("conversation_relay_start", "url"),
        ("fork_start", "rx"),
        ("gather_using_audio", "audio_url"),
        ("playback_start", "audio_url"),
        ("siprec_start", "connector_name"),
        ("streaming_start", "stream_url"),
    ];
    for (of, name) in others {
        if of == command {
            least.insert(name.to_owned(), own(command, name).unwrap());
        }
    }
    assert!(outcome(command, &least).is_ok(), "{command} with what is required: {:?}", outcome(command, &least));
    let mut max = least.clone();
    for (name, values) in &given {
        for value in values {
            let mut with = max.clone();
            with.insert((*name).clone(), value.clone());
            if outcome(command, &with).is_ok() {
                max = with;
                break;
            }
        }
    }
    let effect = |name: &String, values: &[Value]| {
        // The result does not contain the password. The password counts as honoured if the user name is honoured.
        let (name, values) =
            match given.iter().find(|(one, _)| name == "sip_auth_password" && *one == "sip_auth_username") {
                Some((username, values)) => (*username, &values[..]),
                None => (name, values),
            };
        if OUTSIDE.contains(&name.as_str()) {
            return ParameterSupport::Honoured;
        }
        let (mut refused, mut taken) = (false, false);
        // Some parameters replace another parameter.
        let instead = least.keys().map(|other| {
            let mut body = least.clone();
            body.remove(other);
            body
        });
        // Some parameters have an effect only together with another parameter.
        let beside = given.iter().filter_map(|(other, values)| {
            let with = |value: &Value| {
                let mut body = least.clone();
                body.insert((*other).clone(), value.clone());
                outcome(command, &body).is_ok().then_some(body)
            };
            values.iter().find_map(with)
        });
        for body in [least.clone(), max.clone()].into_iter().chain(instead).chain(beside) {
            let mut without = body.clone();
            without.remove(name);
            let without = outcome(command, &without);
            for value in values {
                let mut with = body.clone();
                with.insert(name.clone(), value.clone());
                match outcome(command, &with) {
                    Ok(_) if without.is_err() => return ParameterSupport::Honoured,
                    Ok(with) if without.as_ref() != Ok(&with) => return ParameterSupport::Honoured,
                    Ok(_) => taken = true,
                    Err(NOT_PERMITTED) => refused = true,
                    Err(_) => {}
                }
            }
        }
        assert!(refused || taken, "{command}: no value of {name} fits: {values:?}");
        if refused { ParameterSupport::Refused } else { ParameterSupport::Idle }
    };
    Some(given.iter().map(|(name, values)| ((*name).clone(), effect(name, values))).collect())
}

fn page() -> String {
    let standings = standings();
    let served: Vec<_> = standings.iter().filter_map(|(name, all)| Some((name, all.as_ref()?))).collect();
    let count = |what| served.iter().flat_map(|(_, all)| all.values()).filter(|one| **one == what).count();
    let mut text = format!(
        "# Call Control, parameter by parameter\n\nGenerated by a test that sends each published parameter with its command and checks \
         whether it changes\nthe request (`UPDATE_DOCS=1 cargo test -p tandem-telnyx parameters_in_the_docs`); do not edit.\n\n\
         {} commands are served. Of their parameters {} are honoured, {} are accepted without effect, {} are refused with 422 and \
         code\n10038.\n\n| command | honoured | without effect | refused |\n|---|---|---|---|\n",
        served.len(),
        count(ParameterSupport::Honoured),
        count(ParameterSupport::Idle),
        count(ParameterSupport::Refused),
    );
    for (command, all) in &served {
        let of = |what| {
            let names: Vec<&str> = all.iter().filter(|(_, one)| **one == what).map(|(name, _)| name.as_str()).collect();
            names.join(", ")
        };
        let columns = [ParameterSupport::Honoured, ParameterSupport::Idle, ParameterSupport::Refused].map(of);
        text.push_str(&format!("| `{command}` | {} |\n", columns.join(" | ")));
    }
    let refused: Vec<_> =
        standings.iter().filter(|(_, all)| all.is_none()).map(|(name, _)| format!("`{name}`")).collect();
    text.push_str(&format!("\nRefused commands: {}.\n", refused.join(", ")));
    text.replace("|  |", "| |").replace("|  |", "| |")
}

#[test]
fn parameters_in_the_docs_match_the_code() {
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let stale = "docs/call-control.md is stale: UPDATE_DOCS=1 cargo test -p tandem-telnyx parameters_in_the_docs";
    assert!(std::fs::read_to_string(PAGE).unwrap_or_default() == page, "{stale}");
}
