//! Messages of a media stream. This server is the WebSocket client. Every number is written as a string.
//!
//! `sequence_number` counts all messages of the stream. The `start` message has the number "1". `chunk` counts the
//! media messages of one track. The unit of `timestamp` is the RTP clock, not the millisecond.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tandem_accounts::Account;
use tandem_call::leg::LegInfo;
use tandem_call::recording::Track;
use tandem_call::stream::{BidirectionalMode, StreamCodec, StreamSpec};
use tandem_dialect::{MediaFrame, StreamMessage, StreamProblem, StreamWire, Unplayable};
use tandem_id::StreamId;

use super::{id, time};

/// The `User-Agent` of the handshake. Some applications search for "telnyx" in this header, in upper or lower case.
/// These applications refuse clients without this word.
pub(super) const USER_AGENT: &str = "Telnyx/Tandem";
const AUTH_TOKEN: &str = "x-telnyx-streaming-auth-token";
/// Maximum duration of the payload in one message, in seconds.
const LONGEST_PAYLOAD: usize = 30;
/// Base64 decoder that accepts input with and without padding. Both forms occur, because applications use the encoders
/// of JavaScript, Go and Python.
const PAYLOAD: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The wire form of one stream.
pub struct Wire {
    start: Start,
    stream_id: String,
    auth_token: Option<String>,
    bidirectional_mode: Option<BidirectionalMode>,
    /// The `sequence_number` of the last message.
    sequence: u64,
    inbound_chunks: u64,
    outbound_chunks: u64,
    rtp: RtpHeaders,
}

impl Wire {
    /// Creates the wire form of a new stream that has not sent a message yet.
    pub fn new(account: &Account, leg: &LegInfo, stream: StreamId, spec: &StreamSpec) -> Self {
        let european = leg.sip.codec.as_deref() == Some("PCMA");
        let codec = spec.codec.unwrap_or(if european { StreamCodec::Pcma } else { StreamCodec::Pcmu });
        let parameters = spec.parameters.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        let start = Start {
            user_id: id::user_id(&account.name),
            call_control_id: id::call_control_id(leg.id),
            call_session_id: id::uuid(leg.session.0),
            from: leg.from.to_string(),
            to: leg.to.to_string(),
            tags: [],
            client_state: leg.client_state.clone(),
            custom_parameters: parameters.collect(),
            media_format: MediaFormat { encoding: name(codec), sample_rate: codec.hertz(), channels: 1 },
        };
        Self {
            start,
            stream_id: id::uuid(stream.0),
            auth_token: spec.auth_token.clone(),
            bidirectional_mode: spec.bidirectional_mode,
            sequence: 0,
            inbound_chunks: 0,
            outbound_chunks: 0,
            rtp: RtpHeaders::default(),
        }
    }

    fn sequence_number(&mut self) -> String {
        self.sequence += 1;
        self.sequence.to_string()
    }

    fn problem(&self, code: u32, title: &str, detail: &str) -> StreamProblem {
        let payload = ProblemPayload { code, title, detail };
        let answer = text(&ProblemFrame { event: "error", stream_id: &self.stream_id, payload });
        StreamProblem { code, detail: detail.into(), answer: Some(answer) }
    }

    fn malformed(&self, detail: &str) -> StreamProblem {
        self.problem(100_003, "malformed_frame", detail)
    }

    fn decode_media(&mut self, media: Option<IncomingMedia<'_>>) -> Result<StreamMessage, StreamProblem> {
        let Some(payload) = media.and_then(|media| media.payload) else {
            return Err(self.malformed("media.payload is missing"));
        };
        let Ok(audio) = PAYLOAD.decode(payload.as_bytes()) else {
            return Err(self.problem(100_004, "invalid_media", "media.payload is not base64"));
        };
        let mut audio = Bytes::from(audio);
        match self.bidirectional_mode {
            None => return Ok(StreamMessage::Ignored),
            Some(BidirectionalMode::Files) => {}
            Some(BidirectionalMode::Payload(codec)) => {
                if self.rtp.precedes(codec, &audio) {
                    audio = audio.slice(RTP_HEADER.min(audio.len())..);
                }
                if audio.len() > LONGEST_PAYLOAD * codec.hertz() as usize * codec.sample_octets() as usize {
                    return Err(self.problem(100_004, "invalid_media", "media.payload is longer than 30 seconds"));
                }
            }
        }
        Ok(if audio.is_empty() { StreamMessage::Ignored } else { StreamMessage::Media(audio) })
    }
}

impl StreamWire for Wire {
    fn handshake(&self) -> Vec<(String, String)> {
        let mut headers = vec![("User-Agent".to_owned(), USER_AGENT.to_owned())];
        headers.extend(self.auth_token.clone().map(|token| (AUTH_TOKEN.to_owned(), token)));
        headers
    }

    fn connected(&mut self) -> String {
        text(&Connected { event: "connected", version: "1.0.0", auth_token: self.auth_token.as_deref() })
    }

    fn start(&mut self) -> String {
        let sequence_number = self.sequence_number();
        text(&StartFrame { event: "start", sequence_number, stream_id: &self.stream_id, start: &self.start })
    }

    fn media(&mut self, frame: &MediaFrame<'_>, out: &mut String) {
        self.sequence += 1;
        let (track, chunk) = match frame.track {
            Track::Outbound => ("outbound", &mut self.outbound_chunks),
            Track::Inbound | Track::Both => ("inbound", &mut self.inbound_chunks),
        };
        *chunk += 1;
        // Writing to a `String` cannot fail.
        let _ = write!(
            out,
            concat!(
                r#"{{"event":"media","sequence_number":"{}","stream_id":"{}","#,
                r#""media":{{"track":"{}","chunk":"{}","timestamp":"{}","payload":""#
            ),
            self.sequence, self.stream_id, track, chunk, frame.rtp_timestamp,
        );
        STANDARD.encode_string(frame.payload, out);
        out.push_str(r#""}}"#);
    }

    fn dtmf(&mut self, digit: char, now: Timestamp) -> Option<String> {
        let sequence_number = self.sequence_number();
        let dtmf = Digit { digit };
        let frame =
            DtmfFrame { event: "dtmf", stream_id: &self.stream_id, occurred_at: time(now), sequence_number, dtmf };
        Some(text(&frame))
    }

    fn mark(&mut self, name: &str) -> String {
        let sequence_number = self.sequence_number();
        text(&MarkFrame { event: "mark", stream_id: &self.stream_id, sequence_number, mark: Mark { name } })
    }

    fn stop(&mut self) -> String {
        let sequence_number = self.sequence_number();
        let stop = Stop { user_id: &self.start.user_id, call_control_id: &self.start.call_control_id };
        text(&StopFrame { event: "stop", sequence_number, stream_id: &self.stream_id, stop })
    }

    fn unplayable(&self, why: Unplayable) -> StreamProblem {
        let detail = why.to_string();
        match why {
            Unplayable::Undecodable(_) => self.problem(100_004, "invalid_media", &detail),
            Unplayable::TooSoon => self.problem(100_005, "rate_limit_reached", &detail),
            // Telnyx does not have this limit, and has no error number for it.
            Unplayable::TooFarAhead => StreamProblem { code: 100_002, detail, answer: None },
            Unplayable::Container(_) => StreamProblem { code: 100_004, detail, answer: None },
        }
    }

    fn decode(&mut self, text: &str) -> Result<StreamMessage, StreamProblem> {
        // Only the event name is parsed first. A message that is ignored may have other members of any type.
        let event = match serde_json::from_str::<IncomingEvent<'_>>(text) {
            Ok(incoming) => incoming.event,
            Err(error) if error.is_data() && serde_json::from_str::<Map<String, Value>>(text).is_ok() => None,
            Err(_) => return Err(self.malformed("the message is not a JSON object")),
        };
        match event.as_deref() {
            Some("media") => match serde_json::from_str::<IncomingMediaFrame<'_>>(text) {
                Ok(frame) => self.decode_media(frame.media),
                Err(_) => Err(self.malformed("media.payload is not a string")),
            },
            Some("mark") => match serde_json::from_str::<IncomingMarkFrame>(text) {
                Ok(IncomingMarkFrame { mark }) => Ok(StreamMessage::Mark(mark.name)),
                Err(_) => Err(self.malformed("mark.name is missing")),
            },
            Some("clear") => Ok(StreamMessage::Clear),
            _ => Ok(StreamMessage::Ignored),
        }
    }
}

/// Number of octets in an RTP header that has no CSRC and no extension (RFC 3550 §5.1).
const RTP_HEADER: usize = 12;
/// Number of consecutive payloads that must look like RTP packets. With this number, a coincidence is ruled out.
const RTP_CERTAIN: u8 = 3;

/// Detects an application that sends whole RTP packets as the payload. Some gateways do this. Without this detection,
/// the caller would hear 12 octets of noise 50 times per second.
#[derive(Default)]
struct RtpHeaders {
    in_a_row: u8,
    last_sequence: u16,
}

impl RtpHeaders {
    /// Whether this payload begins with an RTP header that must be removed.
    fn precedes(&mut self, codec: StreamCodec, payload: &[u8]) -> bool {
        let payload_type = match codec {
            StreamCodec::Pcmu => 0,
            StreamCodec::Pcma => 8,
            // No known gateway sends RTP packets with L16.
            StreamCodec::L16(..) => return false,
        };
        let fits = payload.len() > RTP_HEADER && (payload.len() - RTP_HEADER).is_multiple_of(160);
        let sequence = match payload {
            [0x80, second, high, low, ..] if fits && second & 0x7f == payload_type => u16::from_be_bytes([*high, *low]),
            _ => {
                self.in_a_row = 0;
                return false;
            }
        };
        let rises = (1..=100).contains(&sequence.wrapping_sub(self.last_sequence));
        self.in_a_row = if self.in_a_row > 0 && rises { self.in_a_row.saturating_add(1) } else { 1 };
        self.last_sequence = sequence;
        self.in_a_row >= RTP_CERTAIN
    }
}

fn name(codec: StreamCodec) -> &'static str {
    match codec {
        StreamCodec::Pcmu => "PCMU",
        StreamCodec::Pcma => "PCMA",
        StreamCodec::L16(..) => "L16",
    }
}

fn text(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).unwrap_or_default()
}

#[derive(Serialize)]
struct Connected<'a> {
    event: &'static str,
    version: &'static str,
    #[serde(rename = "x-telnyx-streaming-auth-token", skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
}

#[derive(Serialize)]
struct StartFrame<'a> {
    event: &'static str,
    sequence_number: String,
    stream_id: &'a str,
    start: &'a Start,
}

#[derive(Serialize)]
struct Start {
    user_id: String,
    call_control_id: String,
    call_session_id: String,
    from: String,
    to: String,
    tags: [&'static str; 0],
    client_state: Option<String>,
    custom_parameters: Map<String, Value>,
    media_format: MediaFormat,
}

#[derive(Serialize)]
struct MediaFormat {
    encoding: &'static str,
    sample_rate: u32,
    channels: u8,
}

#[derive(Serialize)]
struct DtmfFrame<'a> {
    event: &'static str,
    stream_id: &'a str,
    occurred_at: String,
    sequence_number: String,
    dtmf: Digit,
}

#[derive(Serialize)]
struct Digit {
    digit: char,
}

#[derive(Serialize)]
struct MarkFrame<'a> {
    event: &'static str,
    stream_id: &'a str,
    sequence_number: String,
    mark: Mark<'a>,
}

#[derive(Serialize)]
struct Mark<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct StopFrame<'a> {
    event: &'static str,
    sequence_number: String,
    stream_id: &'a str,
    stop: Stop<'a>,
}

#[derive(Serialize)]
struct Stop<'a> {
    user_id: &'a str,
    call_control_id: &'a str,
}

#[derive(Serialize)]
struct ProblemFrame<'a> {
    event: &'static str,
    stream_id: &'a str,
    payload: ProblemPayload<'a>,
}

#[derive(Serialize)]
struct ProblemPayload<'a> {
    code: u32,
    title: &'a str,
    detail: &'a str,
}

#[derive(Deserialize)]
struct IncomingEvent<'a> {
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct IncomingMediaFrame<'a> {
    #[serde(borrow, default)]
    media: Option<IncomingMedia<'a>>,
}

#[derive(Deserialize)]
struct IncomingMedia<'a> {
    #[serde(borrow, default)]
    payload: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct IncomingMarkFrame {
    mark: IncomingMark,
}

#[derive(Deserialize)]
struct IncomingMark {
    name: String,
}

#[cfg(test)]
mod tests;
