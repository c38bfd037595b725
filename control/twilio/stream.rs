//! Messages of media streams: JSON texts in both directions. Numbers are written as strings, except in `mediaFormat`.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tandem_call::recording::Track;
use tandem_call::stream::{StreamCodec, StreamSpec};
use tandem_dialect::{MediaFrame, StreamMessage, StreamProblem, StreamWire, Unplayable};
use tandem_id::{LegId, StreamId};

use super::family::Owner;
use super::sign;

/// Base64 decoder that accepts input with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Maximum number of digits in one message.
const MAX_DIGITS: usize = 32;

/// Error number: the playout queue is full, and audio was dropped.
const DISCARDED: u32 = 31931;
/// Error number: the text is not JSON or is not a message.
const MALFORMED: u32 = 31950;
/// Error number: the message is invalid.
const INVALID: u32 = 31951;

/// The wire form of one stream.
pub(super) struct Wire {
    account_sid: String,
    call_sid: String,
    stream_sid: String,
    handshake: Vec<(String, String)>,
    tracks: &'static [&'static str],
    encoding: &'static str,
    hertz: u32,
    parameters: Map<String, Value>,
    bidirectional: bool,
    /// The protocol version for the first message.
    version: &'static str,
    /// Whether messages of unknown types are ignored without a warning.
    lenient: bool,
    /// Whether the application may send DTMF.
    accepts_dtmf: bool,
    sequence: u64,
    inbound_chunks: u64,
    outbound_chunks: u64,
}

impl Wire {
    pub(super) fn new(owner: Owner<'_>, auth_token: &str, leg: LegId, id: StreamId, spec: &StreamSpec) -> Self {
        let url = spec.url.split('#').next().unwrap_or(&spec.url);
        let signature = sign::signature(auth_token, url, []);
        let signatures = owner.provider.signature_headers().iter().map(|name| (*name, signature.clone()));
        let bearer = spec.auth_token.iter().map(|token| ("Authorization", format!("Bearer {token}")));
        let handshake =
            [("User-Agent", "Twilio.TmeWs/1.0".to_owned()), ("Accept-Encoding", "gzip".to_owned())].into_iter();
        Self {
            account_sid: owner.sid.into(),
            call_sid: owner.ids.call(leg),
            stream_sid: owner.ids.stream(id),
            handshake: handshake
                .chain(signatures)
                .chain(bearer)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            version: owner.provider.stream_version(),
            lenient: owner.provider.ignores_unknown_messages(),
            accepts_dtmf: owner.provider.streams_send_dtmf() && spec.bidirectional_mode.is_some(),
            encoding: if matches!(spec.codec, Some(StreamCodec::L16(..))) { "audio/x-L16" } else { "audio/x-mulaw" },
            hertz: spec.codec.map_or(8_000, StreamCodec::hertz),
            tracks: match spec.track {
                Track::Inbound => &["inbound"],
                Track::Outbound => &["outbound"],
                Track::Both => &["inbound", "outbound"],
            },
            parameters: spec.parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
            bidirectional: spec.bidirectional_mode.is_some(),
            sequence: 0,
            inbound_chunks: 0,
            outbound_chunks: 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

impl StreamWire for Wire {
    fn handshake(&self) -> Vec<(String, String)> {
        self.handshake.clone()
    }

    fn connected(&mut self) -> String {
        format!(r#"{{"event":"connected","protocol":"Call","version":"{}"}}"#, self.version)
    }

    fn start(&mut self) -> String {
        let sequence = self.next().to_string();
        json!({
            "event": "start",
            "sequenceNumber": sequence,
            "start": {
                "accountSid": self.account_sid,
                "streamSid": self.stream_sid,
                "callSid": self.call_sid,
                "tracks": self.tracks,
                "mediaFormat": { "encoding": self.encoding, "sampleRate": self.hertz, "channels": 1 },
                "customParameters": self.parameters,
            },
            "streamSid": self.stream_sid,
        })
        .to_string()
    }

    fn media(&mut self, frame: &MediaFrame<'_>, out: &mut String) {
        let sequence = self.next();
        let (track, chunk) = if frame.track == Track::Outbound {
            self.outbound_chunks += 1;
            ("outbound", self.outbound_chunks)
        } else {
            self.inbound_chunks += 1;
            ("inbound", self.inbound_chunks)
        };
        let timestamp = frame.timestamp_ms;
        // Writing to a `String` cannot fail.
        let _ = write!(
            out,
            r#"{{"event":"media","sequenceNumber":"{sequence}","media":{{"track":"{track}","chunk":"{chunk}","timestamp":"{timestamp}","payload":""#
        );
        STANDARD.encode_string(frame.payload, out);
        let _ = write!(out, r#""}},"streamSid":"{}"}}"#, self.stream_sid);
    }

    fn dtmf(&mut self, digit: char, _now: Timestamp) -> Option<String> {
        if !self.bidirectional {
            return None;
        }
        let sequence = self.next().to_string();
        let dtmf = json!({ "track": "inbound_track", "digit": digit.to_string() });
        let message =
            json!({ "event": "dtmf", "streamSid": self.stream_sid, "sequenceNumber": sequence, "dtmf": dtmf });
        Some(message.to_string())
    }

    fn mark(&mut self, name: &str) -> String {
        let sequence = self.next().to_string();
        let mark = json!({ "name": name });
        json!({ "event": "mark", "sequenceNumber": sequence, "streamSid": self.stream_sid, "mark": mark }).to_string()
    }

    fn stop(&mut self) -> String {
        let sequence = self.next().to_string();
        let stop = json!({ "accountSid": self.account_sid, "callSid": self.call_sid });
        json!({ "event": "stop", "sequenceNumber": sequence, "stop": stop, "streamSid": self.stream_sid }).to_string()
    }

    fn unplayable(&self, why: Unplayable) -> StreamProblem {
        let code = match why {
            Unplayable::TooFarAhead => DISCARDED,
            Unplayable::Undecodable(_) | Unplayable::TooSoon | Unplayable::Container(_) => INVALID,
        };
        problem(code, why.to_string())
    }

    fn binary(&self) -> Option<StreamProblem> {
        Some(problem(MALFORMED, "a binary message was received, but only text messages are supported".into()))
    }

    fn decode(&mut self, text: &str) -> Result<StreamMessage, StreamProblem> {
        let message: Incoming<'_> =
            serde_json::from_str(text).map_err(|error| problem(MALFORMED, error.to_string()))?;
        if message.stream_sid.as_deref().is_some_and(|sid| sid != self.stream_sid) {
            return Err(problem(INVALID, "the streamSid belongs to another stream".into()));
        }
        let decoded = match message.event.as_ref() {
            "media" => {
                let media = message.media.ok_or_else(|| problem(INVALID, "a media message without media".into()))?;
                let audio = LENIENT
                    .decode(media.payload.as_bytes())
                    .map_err(|error| problem(INVALID, format!("the payload is not base64: {error}")))?;
                StreamMessage::Media(audio.into())
            }
            "mark" => {
                let mark = message.mark.ok_or_else(|| problem(INVALID, "a mark message without a mark".into()))?;
                StreamMessage::Mark(mark.name.into_owned())
            }
            "clear" => StreamMessage::Clear,
            "dtmf" if self.accepts_dtmf => {
                let digits = message.dtmf.map(|dtmf| dtmf.digit.into_owned()).unwrap_or_default();
                let is_key = |one: char| one.is_ascii_digit() || "ABCD*#".contains(one);
                if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.chars().all(is_key) {
                    return Err(problem(INVALID, "a dtmf message without valid digits (0-9 A-D * #)".into()));
                }
                StreamMessage::Dtmf(digits)
            }
            _ if self.lenient => StreamMessage::Ignored,
            other => {
                let name: String = other.chars().take(80).collect();
                return Err(problem(INVALID, format!("unknown event {name}")));
            }
        };
        // A unidirectional stream plays no audio. Some applications send audio nevertheless.
        Ok(if self.bidirectional { decoded } else { StreamMessage::Ignored })
    }
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default, rename = "streamSid")]
    stream_sid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    media: Option<IncomingMedia<'a>>,
    #[serde(borrow, default)]
    mark: Option<IncomingMark<'a>>,
    #[serde(borrow, default)]
    dtmf: Option<IncomingDtmf<'a>>,
}

#[derive(Deserialize)]
struct IncomingDtmf<'a> {
    #[serde(borrow)]
    digit: Cow<'a, str>,
}

#[derive(Deserialize)]
struct IncomingMedia<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[derive(Deserialize)]
struct IncomingMark<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

fn problem(code: u32, detail: String) -> StreamProblem {
    StreamProblem { code, detail, answer: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_call::stream::{BidirectionalMode, ConnectTiming, StreamTransport};

    fn spec(bidirectional: bool) -> StreamSpec {
        StreamSpec {
            url: "wss://127.0.0.1:5000/media".into(),
            name: None,
            track: Track::Both,
            codec: Some(StreamCodec::Pcmu),
            bidirectional_mode: bidirectional.then_some(BidirectionalMode::Payload(StreamCodec::Pcmu)),
            parameters: vec![("k".into(), "v\"".into())],
            callback: None,
            target_legs: tandem_call::leg::TargetLegs::Own,
            auth_token: None,
            connect_timing: ConnectTiming::default(),
            transport: StreamTransport::Messages,
        }
    }

    fn wire(bidirectional: bool) -> Wire {
        Wire::new(crate::owner("AC1"), "12345", LegId(1), StreamId(2), &spec(bidirectional))
    }

    const SID: &str = "MZ00000000000000000000000000000002";

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_stream_handshake_is_signed_and_has_no_origin() {
        let headers = wire(true).handshake();
        assert!(headers.contains(&("X-Twilio-Signature".into(), "vpxf0v2dd7/HzhiIw0qU9UREaYw=".into())));
        assert!(headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("origin")));
    }

    #[test]
    fn an_application_sends_digits_only_if_the_provider_supports_it() {
        let keys = r#"{"event":"dtmf","dtmf":{"digit":"12#","duration":100}}"#;
        assert!(wire(true).decode(keys).is_err());
        let mut other = Wire { accepts_dtmf: true, lenient: true, ..wire(true) };
        assert_eq!(other.decode(keys), Ok(StreamMessage::Dtmf("12#".to_owned())));
        for wrong in [r#"{"event":"dtmf"}"#, r#"{"event":"dtmf","dtmf":{"digit":"x"}}"#] {
            assert!(other.decode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sequence_numbers_begin_with_the_start_message() {
        let mut wire = wire(true);
        assert_eq!(json(&wire.connected()), json(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#));
        let start = json(&wire.start());
        assert_eq!(start["sequenceNumber"], "1");
        assert_eq!(start["start"]["tracks"], json!(["inbound", "outbound"]));
        assert_eq!(start["start"]["mediaFormat"], json!({"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}));
        assert_eq!(start["start"]["customParameters"], json!({"k": "v\""}));
        assert_eq!(start["start"]["callSid"], "CA00000000000000000000000000000001");
        let mut out = String::new();
        let payload = [0xffu8; 160];
        wire.media(
            &MediaFrame { track: Track::Inbound, timestamp_ms: 20, rtp_timestamp: 160, payload: &payload },
            &mut out,
        );
        let expected = json!({
            "event": "media", "sequenceNumber": "2", "streamSid": SID,
            "media": {"track": "inbound", "chunk": "1", "timestamp": "20", "payload": STANDARD.encode(payload)},
        });
        assert_eq!(json(&out), expected);
        assert_eq!(expected["media"]["payload"].as_str().unwrap().len(), 216);
        out.clear();
        wire.media(
            &MediaFrame { track: Track::Outbound, timestamp_ms: 20, rtp_timestamp: 160, payload: &payload },
            &mut out,
        );
        assert_eq!(json(&out)["media"]["chunk"], "1");
        let dtmf = json(&wire.dtmf('5', Timestamp::UNIX_EPOCH).unwrap());
        assert_eq!(
            dtmf,
            json!({"event":"dtmf","streamSid":SID,"sequenceNumber":"4","dtmf":{"track":"inbound_track","digit":"5"}})
        );
        let mark = json(&wire.mark("a\"b"));
        assert_eq!(mark, json!({"event":"mark","streamSid":SID,"sequenceNumber":"5","mark":{"name":"a\"b"}}));
        let stop = json(&wire.stop());
        let call = "CA00000000000000000000000000000001";
        assert_eq!(
            stop,
            json!({"event":"stop","streamSid":SID,"sequenceNumber":"6","stop":{"accountSid":"AC1","callSid":call}})
        );
    }

    #[test]
    fn a_media_message_reuses_the_capacity_of_its_buffer() {
        let mut wire = wire(true);
        let mut out = String::new();
        let payload = [0x7fu8; 160];
        let frame = MediaFrame { track: Track::Inbound, timestamp_ms: 999_999, rtp_timestamp: 0, payload: &payload };
        wire.media(&frame, &mut out);
        let (capacity, address) = (out.capacity(), out.as_ptr());
        for _ in 0..7 {
            out.clear();
            wire.media(&frame, &mut out);
        }
        assert_eq!((out.capacity(), out.as_ptr()), (capacity, address));
    }

    #[test]
    fn media_mark_and_clear_messages_are_parsed() {
        let mut wire = wire(true);
        let media =
            format!(r#"{{"event":"media","streamSid":"{SID}","extra":1,"media":{{"payload":"\/\/8=","track":"x"}}}}"#);
        assert_eq!(wire.decode(&media).unwrap(), StreamMessage::Media(bytes::Bytes::from_static(b"\xff\xff")));
        assert_eq!(
            wire.decode(r#"{"event":"media","media":{"payload":"//8"}}"#).unwrap(),
            StreamMessage::Media(bytes::Bytes::from_static(b"\xff\xff"))
        );
        let mark = format!(r#"{{"event":"mark","streamSid":"{SID}","mark":{{"name":"x"}}}}"#);
        assert_eq!(wire.decode(&mark).unwrap(), StreamMessage::Mark("x".into()));
        assert_eq!(wire.decode(r#"{"event":"clear"}"#).unwrap(), StreamMessage::Clear);
    }

    #[test]
    fn an_invalid_stream_message_gets_twilios_error_code() {
        let mut wire = wire(true);
        for (text, code) in [
            ("nonsense", 31950),
            ("[]", 31950),
            (r#"{"event":1}"#, 31950),
            (r#"{"event":"dance"}"#, 31951),
            (r#"{"event":"media"}"#, 31951),
            (r#"{"event":"media","media":{"payload":"?"}}"#, 31951),
            (r#"{"event":"clear","streamSid":"MZother"}"#, 31951),
            (r#"{"event":"mark"}"#, 31951),
        ] {
            assert_eq!(wire.decode(text).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn a_unidirectional_stream_ignores_media_and_receives_no_digits() {
        let mut wire = wire(false);
        assert_eq!(wire.decode(r#"{"event":"media","media":{"payload":"//8="}}"#).unwrap(), StreamMessage::Ignored);
        assert_eq!(wire.dtmf('1', Timestamp::UNIX_EPOCH), None);
    }
}
