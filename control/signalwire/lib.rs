//! SignalWire. The Compatibility API is a provider of Twilio's family. SWML is a separate dialect.
#![forbid(unsafe_code)]

mod ai;
pub mod browser;
mod calling;
pub mod cxml;
pub mod rest;
pub mod swml;

use cxml::CXML;
use tandem_accounts::Account;
use tandem_call::leg::{Direction, EndedBy, LegInfo, Quality};
use tandem_call::machine_detection::DetectionResult;
use tandem_call::recording::Track;
use tandem_markup::flavour::Flavour;
use tandem_twilio::family::{self, Credentials, DetectionRules, Family, Fields, Provider, Rewrite};
use tandem_twilio::sid::Ids;
use tandem_twilio::signed_request;

/// The dialect's name in the configuration and in records.
pub const NAME: &str = "signalwire";

/// The resources below an account (`signalwire_compatibility.yaml`).
const RESOURCES: [&str; 9] = [
    "Applications",
    "AvailablePhoneNumbers",
    "Calls",
    "Conferences",
    "IncomingPhoneNumbers",
    "Queues",
    "Recordings",
    "Tokens",
    "Transcriptions",
];

/// Resources that SignalWire publishes and that this server does not have. docs/compatibility.md has the same list.
const REFUSED: [(&str, &str); 4] = [
    ("Faxes", "faxes"),
    ("ImportedPhoneNumbers", "imported numbers: a carrier's number is configured in [[numbers]]"),
    ("LamlBins", "documents stored by REST: a number's document is configured in [[numbers]]"),
    ("tokens", "tokens for browser SDKs"),
];

/// The largest value of `MachineDetectionTimeout` in seconds. A larger value of the parameter is in milliseconds.
const MAX_TIMEOUT_SECONDS: u64 = 120;

static DETECTION: DetectionRules = DetectionRules { within: (1..=MAX_TIMEOUT_SECONDS, 30), ..DetectionRules::TWILIO };

/// SignalWire's dialect. If `strip_https_port` is set, this server removes the port from an `https` URL before it signs
/// the URL. Otherwise this server signs the URL as configured.
pub fn dialect(strip_https_port: bool) -> Family {
    Family::new(&SignalWire, strip_https_port)
}

/// The provider of the Compatibility API.
#[derive(Debug)]
pub struct SignalWire;

impl Provider for SignalWire {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ids(&self) -> Ids {
        Ids::Uuid
    }

    fn root(&self) -> &'static str {
        "/api/laml/2010-04-01"
    }

    fn credentials<'a>(&self, account: &'a Account) -> Option<Credentials<'a>> {
        let own = account.signalwire.as_ref()?;
        Some(Credentials { sid: (&own.project_id).into(), secret: &own.api_token, signing_key: &own.signing_key })
    }

    fn new_account(&self, id: u128) -> Option<Account> {
        let [token, key] = ["PT", "PSK_"].map(|prefix| Some(format!("{prefix}{:032x}", rand::random::<u128>())));
        Some(Account::of_subaccount(&self.ids().spell("AC", id), token, key))
    }

    fn has(&self, resource: &str) -> bool {
        RESOURCES.contains(&resource)
    }

    fn refused(&self) -> &'static [(&'static str, &'static str)] {
        &REFUSED
    }

    /// The extension of the URL of a recording's audio. The URL without an extension is the URL of the Recording
    /// resource.
    fn audio_extension(&self) -> &'static str {
        ".wav"
    }

    /// The lists publish "created before the date provided".
    fn includes_last_date(&self) -> bool {
        false
    }

    fn normalise(&self, pairs: &mut Vec<(String, String)>) {
        pairs
            .retain(|(name, value)| name != "MachineWordsThreshold" && (name != "MachineDetection" || value != "none"));
        for (name, value) in pairs {
            match name.as_str() {
                "Laml" => *name = "Twiml".to_owned(),
                "MachineDetectionTimeout" => {
                    if let Some(milliseconds) = value.parse().ok().filter(|number: &u64| *number > MAX_TIMEOUT_SECONDS)
                    {
                        *value = milliseconds.div_ceil(1_000).to_string();
                    }
                }
                _ => {}
            }
        }
    }

    fn lists_events(&self) -> bool {
        true
    }

    /// SignalWire's own examples expect `answered`. Its published description has `in-progress`. So applications wait for
    /// either word. The published word comes first.
    fn answered_words(&self) -> &'static [&'static str] {
        &["in-progress", "answered"]
    }

    fn answer(&self) -> Option<Rewrite> {
        Some(rest::answer::rewrite)
    }

    fn stream_track(&self) -> Track {
        Track::Both
    }

    fn detection(&self) -> &'static DetectionRules {
        &DETECTION
    }

    fn streams_conferences(&self) -> bool {
        true
    }

    fn direction(&self, direction: Direction) -> &'static str {
        if direction == Direction::Inbound { "inbound" } else { "outbound" }
    }

    fn answered_by(&self, result: DetectionResult) -> &'static str {
        if result == DetectionResult::Human { "human" } else { "machine" }
    }

    fn call(&self, leg: &LegInfo, fields: &mut Fields) {
        for (twin, of) in [("formatted_to", "to_formatted"), ("formatted_from", "from_formatted")] {
            let value = fields.get(of).cloned().unwrap_or_default();
            fields.insert(twin.to_owned(), value);
        }
        for key in ["stir_verstat", "queue_time", "trunk_sid"] {
            fields.remove(key);
        }
        let quality = leg.sip.quality.as_ref();
        fields.insert("annotation".to_owned(), serde_json::Value::Null);
        fields.insert("sip_result_code".to_owned(), leg.final_response().map(|code| code.to_string()).into());
        fields.insert("audio_in_mos".to_owned(), quality.and_then(mos).into());
    }

    fn gathered(&self, input: &'static str, push: &mut dyn FnMut(&str, String)) {
        push("input_type", input.to_owned());
    }

    /// Whether the client is a Go program. Go's `time.Time` parses only RFC 3339 (`birddigital/signalwire-telephony`).
    fn writes_iso_dates(&self, user_agent: &str) -> bool {
        user_agent.starts_with("Go-http-client/")
    }

    /// The figures of an ended leg. The published `AudioInAveragePtime`, `AudioInJitterMaxVariance`,
    /// `AudioInJitterMinVariance`, `AudioInLargestJbSize`, `AudioInDtmfPacketCount` and `AudioOutDtmfPacketCount` are left
    /// out: this server does not measure these values, and an invented value would mislead.
    fn progress(&self, leg: &LegInfo, completed: bool, push: &mut dyn FnMut(&str, String)) {
        if !completed {
            return;
        }
        if let Some(code) = leg.final_response() {
            push("SipResultCode", code.to_string());
            push("SipInviteResultPhrase", tandem_sip::reason_phrase(code).to_owned());
        }
        if let Some(end) = &leg.end {
            let inbound = leg.direction == Direction::Inbound;
            // The caller is the party that called. On an inbound leg the caller is the far end, on an outbound leg this
            // server.
            let by_caller = (end.by == EndedBy::FarEnd) == inbound;
            push("HangupBy", if by_caller { "caller" } else { "callee" }.to_owned());
            push("HangupDirection", if end.by == EndedBy::FarEnd { "inbound" } else { "outbound" }.to_owned());
        }
        if let Some(quality) = &leg.sip.quality {
            if let Some(mos) = mos(quality) {
                push("AudioInMos", mos);
            }
            push("AudioInMediaPacketCount", quality.packets_in.to_string());
            push("AudioInSkipPacketCount", quality.lost.to_string());
            push("AudioInFlushPacketCount", quality.late.to_string());
            push("AudioOutMediaPacketCount", quality.packets_out.to_string());
        }
    }

    fn signing_key_name(&self) -> &'static str {
        "signing key"
    }

    fn stream_version(&self) -> &'static str {
        "0.2.0"
    }

    fn ignores_unknown_messages(&self) -> bool {
        true
    }

    fn streams_send_dtmf(&self) -> bool {
        true
    }

    fn flavour(&self) -> &'static Flavour {
        &CXML
    }

    /// An application of this API may also return an SWML document.
    fn other_dialect(&self, body: &[u8]) -> Option<&'static str> {
        swml::is_document(body).then_some(swml::NAME)
    }

    fn signature_headers(&self) -> &'static [&'static str] {
        &["X-SignalWire-Signature", "X-Twilio-Signature"]
    }
}

/// The mean opinion score (MOS) of the received audio, with two decimals.
fn mos(quality: &Quality) -> Option<String> {
    quality.mos.map(|mos| format!("{mos:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signalwire_accepts_values_that_twilio_refuses() {
        assert_eq!(SignalWire.answered_words(), ["in-progress", "answered"]);
        assert_eq!(SignalWire.detection().within, (1..=120, 30), "Twilio permits 3 to 60 s");
        assert_eq!(SignalWire.stream_track(), Track::Both);
        let origin = tandem_markup::Origin { local_files: true, ..Default::default() };
        let document = b"<Response><Gather finishOnKey='*#'/></Response>";
        let program = tandem_markup::document(&CXML, origin, document).unwrap();
        assert!(program.warnings.is_empty(), "{:?}", program.warnings);
        let codecs =
            b"<Response><Dial><Sip codecs='PCMU' sessionTimeout='1800'>sip:a@b.example</Sip></Dial></Response>";
        let program = tandem_markup::document(&CXML, origin, codecs).unwrap();
        assert!(program.warnings.is_empty(), "{:?}", program.warnings);
        let stream = b"<Response><Connect><Stream url='wss://a.test/' codec='L16'/></Connect></Response>";
        let program = tandem_markup::document(&CXML, origin, stream).unwrap();
        assert!(program.warnings.is_empty(), "{:?}", program.warnings);
    }
}
