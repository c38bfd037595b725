//! Telnyx's TeXML: a provider of Twilio's family with Telnyx's ids, credentials, signatures and streams.
//!
//! ```text
//!   rest/       /v2/texml/... ──► the family's REST, its answers ──► rest/answer
//!   template    {{names}} in a document ──► the parameters of the request for it
//!   parameters  the family's callbacks ──► TeXML's callbacks
//! ```
#![forbid(unsafe_code)]

pub mod markup;
pub use markup::TEXML;
mod parameters;
pub mod rest;
mod template;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use tandem_call::conversation::{ConversationFacts, ConversationSpec};
use tandem_call::event::CallEvent;
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::machine_detection::DetectionResult;
use tandem_call::stream::StreamSpec;
use tandem_id::{ConversationId, LegId, StreamId};

use tandem_accounts::{Account, Accounts};
use tandem_dialect::agent::AgentScript;
use tandem_dialect::conversation::ConversationWire;
use tandem_dialect::{Notice, Signing, StreamWire};
use tandem_markup::flavour::Flavour;
use tandem_telnyx::{agent, assistant, conversation, id, stream, webhook};
use tandem_twilio::family::{Credentials, DetectionRules, Family, Provider, Rewrite};
use tandem_twilio::sid::{Ids, Spelling};
use tandem_webhooks::{Body, RetryPolicy, SignInput, SignedRequest};

/// The dialect's name in the configuration and in records.
pub const NAME: &str = "texml";

/// The resources below an account.
const RESOURCES: [&str; 6] = ["Applications", "Calls", "Conferences", "Queues", "Recordings", "Transcriptions"];

/// Parameters without effect. The trunk's settings determine the codecs and the region. This server always sends the
/// recording's URL. Only the document can stop audio that plays during answering machine detection.
const IDLE: [&str; 7] = [
    "CancelPlaybackOnDetectMessageEnd",
    "CancelPlaybackOnMachineDetection",
    "DetectionMode",
    "MachineDetectionPromptEndTimeout",
    "PreferredCodecs",
    "SendRecordingUrl",
    "SipRegion",
];

/// The range of application ids: decimal numbers of 19 digits.
const APPLICATION_IDS: std::ops::Range<u64> = 1_000_000_000_000_000_000..10_000_000_000_000_000_000;

/// The spelling of ids. The id of a call is a control id. The id of an application is a decimal number. All other ids
/// are UUIDs.
static IDS: Spelling = Spelling { spell, parse };

static DETECTION: DetectionRules = DetectionRules {
    within_seconds: false,
    within: (500..=60_000, 30_000),
    greeting: (500..=60_000, 3_500),
    after_greeting: (100..=60_000, 800),
    silence: (500..=60_000, 3_500),
};

fn spell(prefix: &str, id: u128) -> String {
    match prefix {
        "CA" => id::call_control_id(LegId(id)),
        "AP" => application_id(id).to_string(),
        _ => id::uuid(id),
    }
}

fn parse(prefix: &str, text: &str) -> Option<u128> {
    match prefix {
        "CA" => id::parse_call_control_id(text).map(|leg| leg.0),
        "AP" => text.parse().ok().filter(|number| APPLICATION_IDS.contains(number)).map(u128::from),
        _ => id::parse_uuid(text),
    }
}

/// The decimal id of an application, with 19 digits. An id within the range is unchanged. Any other id is mapped to an
/// id within the range.
fn application_id(id: u128) -> u64 {
    let max = u128::from(APPLICATION_IDS.end - APPLICATION_IDS.start);
    match u64::try_from(id) {
        Ok(number) if APPLICATION_IDS.contains(&number) => number,
        _ => APPLICATION_IDS.start + u64::try_from(id % max).unwrap_or_default(),
    }
}

/// Fuzz entry point. The data is a document with a template.
pub fn fuzz_template(data: &[u8]) {
    let pairs = [("From", "+15551230001"), ("Raw", "<&>"), ("Digits[]", "1"), ("Digits[]", "2"), ("Nothing", "")];
    let request = Notice {
        event: String::new(),
        target: tandem_call::Target {
            url: "https://app.example/voice?color=blue".into(),
            method: tandem_call::Method::Post,
        },
        failover: None,
        body: Body::Form(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        numbered: false,
    };
    let filled = template::filled(data, &request);
    assert!(
        filled.len() <= data.len().max(tandem_markup::MAX_DOCUMENT),
        "a filled template exceeds the maximum size of a document"
    );
    tandem_markup::fuzz_markup(&TEXML, &filled);
}

/// TeXML's dialect.
pub fn dialect() -> Family {
    Family::new(&Texml, false)
}

/// The TeXML provider.
#[derive(Debug)]
pub struct Texml;

impl Provider for Texml {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ids(&self) -> Ids {
        Ids::Own(&IDS)
    }

    fn root(&self) -> &'static str {
        "/v2/texml"
    }

    /// The account's credentials for TeXML. The account's SID is the account's `user_id`, as in media streams. This
    /// server signs requests with the account's Ed25519 key, so `signing_key` is empty.
    fn credentials<'a>(&self, account: &'a Account) -> Option<Credentials<'a>> {
        let own = account.telnyx.as_ref()?;
        Some(Credentials { sid: id::user_id(&account.name).into(), secret: &own.api_key, signing_key: "" })
    }

    fn account(&self, accounts: &Accounts, sid: &str) -> Option<Arc<Account>> {
        accounts.all().iter().find(|one| one.telnyx.is_some() && id::user_id(&one.name) == sid).cloned()
    }

    fn bearer(&self, accounts: &Accounts, token: &str) -> Option<Arc<Account>> {
        accounts.by_telnyx_key(token)
    }

    fn has(&self, resource: &str) -> bool {
        RESOURCES.contains(&resource)
    }

    fn audio_extension(&self) -> &'static str {
        ".mp3"
    }

    fn filters_queues(&self) -> bool {
        true
    }

    fn normalise(&self, pairs: &mut Vec<(String, String)>) {
        pairs.retain(|(name, value)| {
            !IDLE.contains(&name.as_str()) && (name != "MachineDetection" || value != "Disable")
        });
        // "By default no callbacks are sent": without events, the callback of a conference has no effect.
        if !pairs.iter().any(|(name, _)| name == "ConferenceStatusCallbackEvent") {
            pairs.retain(|(name, _)| name != "ConferenceStatusCallback");
        }
        let mut headers = Vec::new();
        pairs.retain_mut(|(name, value)| {
            match name.as_str() {
                "Texml" => *name = "Twiml".to_owned(),
                "StartTime_gt" => *name = "StartTime>".to_owned(),
                "StartTime_lt" => *name = "StartTime<".to_owned(),
                "EndTime_gt" => *name = "EndTime>".to_owned(),
                "EndTime_lt" => *name = "EndTime<".to_owned(),
                "UrlMethod" => *name = "Method".to_owned(),
                "CallerId" => *name = "CallerDisplayName".to_owned(),
                "RecordingChannels" if value == "single" => *value = "mono".to_owned(),
                "CustomHeaders" => {
                    headers.extend(custom_headers(value));
                    return false;
                }
                _ => {}
            }
            true
        });
        pairs.append(&mut headers);
    }

    fn lists_events(&self) -> bool {
        true
    }

    fn application_decides(&self) -> bool {
        false
    }

    fn detection(&self) -> &'static DetectionRules {
        &DETECTION
    }

    fn names_queues(&self) -> bool {
        true
    }

    fn answer(&self) -> Option<Rewrite> {
        Some(rest::answer::rewrite)
    }

    fn refusal(&self, status: StatusCode, code: u32, message: &str) -> Option<(StatusCode, Value)> {
        Some(rest::answer::refusal(status, code, message))
    }

    fn direction(&self, direction: Direction) -> &'static str {
        if direction == Direction::Inbound { "inbound" } else { "outbound" }
    }

    fn answered_by(&self, result: DetectionResult) -> &'static str {
        match result {
            DetectionResult::Human => "human",
            DetectionResult::Machine | DetectionResult::GreetingEnded(_) | DetectionResult::Fax => "machine",
            DetectionResult::Silence | DetectionResult::NotSure => "not_sure",
        }
    }

    fn rewrite_request(&self, leg: Option<&LegInfo>, event: Option<&CallEvent>, notice: &mut Notice) {
        if let Body::Form(pairs) = &mut notice.body {
            parameters::rewrite(leg, event, pairs);
        }
    }

    fn sign(&self, account: &Account, notice: &SignInput<'_>, _strip_https_port: bool) -> SignedRequest {
        webhook::sign(account, notice)
    }

    fn signing(&self, account: &Account) -> Option<Signing> {
        webhook::signing(account)
    }

    fn stream(&self, account: &Account, leg: &LegInfo, id: StreamId, spec: &StreamSpec) -> Option<Box<dyn StreamWire>> {
        Some(Box::new(stream::Wire::new(account, leg, id, spec)))
    }

    fn conversation(
        &self,
        account: &Account,
        leg: &LegInfo,
        status: Status,
        id: ConversationId,
        spec: &ConversationSpec,
    ) -> Option<Box<dyn ConversationWire>> {
        Some(Box::new(conversation::wire(account, leg, status, id::uuid(id.0), spec)))
    }

    fn agent_script(
        &self,
        account: &Account,
        leg: &LegInfo,
        definition: &str,
    ) -> Option<Result<Box<dyn AgentScript>, String>> {
        Some(assistant::script(account, leg, definition))
    }

    fn conversed(&self, facts: &ConversationFacts) -> Option<Vec<(&'static str, String)>> {
        agent::document_parameters(facts)
    }

    fn flavour(&self) -> &'static Flavour {
        &TEXML
    }

    fn document<'a>(&self, text: &'a [u8], request: &Notice) -> Cow<'a, [u8]> {
        template::filled(text, request)
    }

    /// The timeouts and retries for a URL. They are always the defaults, because only Twilio reads connection overrides
    /// from the fragment of a URL.
    fn retry_policy(&self, _url: &str) -> RetryPolicy {
        RetryPolicy::default()
    }
}

/// Converts `[{"name": "X-A", "value": "b"}]` to the parameters `SipHeader_...`. Any other text becomes an invalid
/// parameter, and the request is then refused.
fn custom_headers(text: &str) -> Vec<(String, String)> {
    let word = |header: &Value, key: &str| header.get(key).and_then(Value::as_str).map(str::to_owned);
    let read: Option<Vec<Value>> = serde_json::from_str(text).ok();
    let pairs = read.map(|headers| {
        let pair = |header: &Value| Some((format!("SipHeader_{}", word(header, "name")?), word(header, "value")?));
        headers.iter().map(pair).collect::<Option<Vec<_>>>()
    });
    pairs.flatten().unwrap_or_else(|| vec![("SipHeader_".to_owned(), text.to_owned())])
}

/// Telnyx's envelope with one error.
fn envelope(status: StatusCode, code: &str, title: &str, detail: &str) -> (StatusCode, Value) {
    let url = format!("https://developers.telnyx.com/docs/overview/errors/{code}");
    let error = json!({ "code": code, "title": title, "detail": detail, "meta": { "url": url } });
    (status, json!({ "errors": [error] }))
}
