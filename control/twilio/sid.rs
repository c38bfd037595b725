//! Spelling of ids.

use tandem_call::id::{ConferenceId, ConversationId, LegId, QueueId, RecordingId, SiprecId, StreamId, TranscriptionId};

/// How a provider writes ids. Every id has 128 bits; a prefix of two letters says what it is of.
#[derive(Clone, Copy, Debug)]
pub enum Ids {
    /// The prefix and 32 lower-case hex digits: `CA0123...`.
    Prefixed,
    /// A UUID (RFC 9562 §4), whatever it is of.
    Uuid,
    /// In a way of the provider's own.
    Own(&'static Spelling),
}

/// A provider's own way to write ids, by the prefix that says what each is of.
#[derive(Debug)]
pub struct Spelling {
    /// Writes one.
    pub spell: fn(&str, u128) -> String,
    /// Reads one.
    pub parse: fn(&str, &str) -> Option<u128>,
}

impl Ids {
    /// An id of what the prefix says.
    pub fn spell(self, prefix: &str, id: u128) -> String {
        match self {
            Self::Prefixed => spell(prefix, id),
            Self::Uuid => uuid(id),
            Self::Own(own) => (own.spell)(prefix, id),
        }
    }

    /// The id behind a spelling; hex digits of either case are taken.
    pub fn parse(self, prefix: &str, text: &str) -> Option<u128> {
        match self {
            Self::Prefixed => parse(prefix, text),
            Self::Uuid => parse_uuid(text),
            Self::Own(own) => (own.parse)(prefix, text),
        }
    }

    /// `CA...`
    pub fn call(self, id: LegId) -> String {
        self.spell("CA", id.0)
    }

    /// The call that a spelling names.
    pub fn parse_call(self, text: &str) -> Option<LegId> {
        self.parse("CA", text).map(LegId)
    }

    /// `CF...`
    pub fn conference(self, id: ConferenceId) -> String {
        self.spell("CF", id.0)
    }

    /// The conference that a spelling names.
    pub fn parse_conference(self, text: &str) -> Option<ConferenceId> {
        self.parse("CF", text).map(ConferenceId)
    }

    /// `RE...`
    pub fn recording(self, id: RecordingId) -> String {
        self.spell("RE", id.0)
    }

    /// The recording that a spelling names.
    pub fn parse_recording(self, text: &str) -> Option<RecordingId> {
        self.parse("RE", text).map(RecordingId)
    }

    /// `MZ...`
    pub fn stream(self, id: StreamId) -> String {
        self.spell("MZ", id.0)
    }

    /// The stream that a spelling names.
    pub fn parse_stream(self, text: &str) -> Option<StreamId> {
        self.parse("MZ", text).map(StreamId)
    }

    /// `SR...`
    pub fn siprec(self, id: SiprecId) -> String {
        self.spell("SR", id.0)
    }

    /// The SIPREC session that a spelling names.
    pub fn parse_siprec(self, text: &str) -> Option<SiprecId> {
        self.parse("SR", text).map(SiprecId)
    }

    /// `QU...`
    pub fn queue(self, id: QueueId) -> String {
        self.spell("QU", id.0)
    }

    /// The queue that a spelling names.
    pub fn parse_queue(self, text: &str) -> Option<QueueId> {
        self.parse("QU", text).map(QueueId)
    }

    /// `TR...`
    pub fn transcript(self, id: TranscriptionId) -> String {
        self.spell("TR", id.0)
    }

    /// The transcription of a recording that a spelling names.
    pub fn parse_transcript(self, text: &str) -> Option<TranscriptionId> {
        self.parse("TR", text).map(TranscriptionId)
    }

    /// `GT...`
    pub fn transcription(self, id: TranscriptionId) -> String {
        self.spell("GT", id.0)
    }

    /// The live transcription that a spelling names.
    pub fn parse_transcription(self, text: &str) -> Option<TranscriptionId> {
        self.parse("GT", text).map(TranscriptionId)
    }

    /// `VX...`
    pub fn conversation(self, id: ConversationId) -> String {
        self.spell("VX", id.0)
    }
}

/// Prefix and hex digits.
pub fn spell(prefix: &str, id: u128) -> String {
    format!("{prefix}{id:032x}")
}

/// The 128 bits behind a prefix and 32 hex digits.
pub fn parse(prefix: &str, text: &str) -> Option<u128> {
    number(text.strip_prefix(prefix)?)
}

/// 8, 4, 4, 4 and 12 hex digits.
pub fn uuid(id: u128) -> String {
    let (a, b, c) = (id >> 96, (id >> 80) & 0xffff, (id >> 64) & 0xffff);
    let (d, e) = ((id >> 48) & 0xffff, id & 0xffff_ffff_ffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
}

/// The 128 bits behind a UUID.
pub fn parse_uuid(text: &str) -> Option<u128> {
    let dashes = [8, 13, 18, 23].iter().all(|place| text.as_bytes().get(*place) == Some(&b'-'));
    if text.len() == 36 && dashes { number(&text.replace('-', "")) } else { None }
}

/// 32 hex digits. `from_str_radix` alone would also take a sign and fewer digits.
fn number(hex: &str) -> Option<u128> {
    let all_hex = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if all_hex { u128::from_str_radix(hex, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_spelled_and_read_back() {
        let id = LegId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        for (ids, text) in
            [(Ids::Prefixed, "CA0123456789abcdef0123456789abcdef"), (Ids::Uuid, "01234567-89ab-cdef-0123-456789abcdef")]
        {
            assert_eq!(ids.call(id), text);
            assert_eq!(ids.parse_call(text), Some(id));
        }
        assert_eq!(Ids::Prefixed.parse_call("CA0123456789ABCDEF0123456789ABCDEF"), Some(id));
    }

    #[test]
    fn what_is_no_sid_is_refused() {
        for text in
            ["", "CA", "CA123", "RE0123456789abcdef0123456789abcdef", "CA+123456789abcdef0123456789abcdef", "CAü"]
        {
            assert_eq!(Ids::Prefixed.parse_call(text), None, "{text}");
        }
        for text in [
            "",
            "0123456789abcdef0123456789abcdef",
            "01234567-89ab-cdef-0123-456789abcde-",
            "0123456789-ab-cdef-0123-456789abcdef",
        ] {
            assert_eq!(Ids::Uuid.parse_call(text), None, "{text}");
        }
    }
}
