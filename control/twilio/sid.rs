//! The spelling of ids at each provider.

use tandem_id::{ConferenceId, ConversationId, LegId, QueueId, RecordingId, SiprecId, StreamId, TranscriptionId};
pub use tandem_id::{parse_uuid, uuid};

/// The spelling of ids at one provider. Every id has 128 bits. A prefix of two letters names the kind of object.
#[derive(Clone, Copy, Debug)]
pub enum Ids {
    /// The prefix and 32 lower-case hex digits: `CA0123...`.
    Prefixed,
    /// A UUID (RFC 9562 §4) for every kind of object.
    Uuid,
    /// A spelling that the provider defines.
    Own(&'static Spelling),
}

/// A spelling that a provider defines. Both functions get the prefix that names the kind of object.
#[derive(Debug)]
pub struct Spelling {
    /// Converts an id to text.
    pub spell: fn(&str, u128) -> String,
    /// Parses an id. `None` if the text is not an id of this kind.
    pub parse: fn(&str, &str) -> Option<u128>,
}

impl Ids {
    /// Writes an id. The prefix names the kind of object.
    pub fn spell(self, prefix: &str, id: u128) -> String {
        match self {
            Self::Prefixed => spell(prefix, id),
            Self::Uuid => uuid(id),
            Self::Own(own) => (own.spell)(prefix, id),
        }
    }

    /// Parses an id. The prefix names the kind of object. Hex digits may be in upper or lower case.
    pub fn parse(self, prefix: &str, text: &str) -> Option<u128> {
        match self {
            Self::Prefixed => parse(prefix, text),
            Self::Uuid => parse_uuid(text),
            Self::Own(own) => (own.parse)(prefix, text),
        }
    }

    /// Writes a call's id (prefix `CA`).
    pub fn call(self, id: LegId) -> String {
        self.spell("CA", id.0)
    }

    /// Parses a call's id.
    pub fn parse_call(self, text: &str) -> Option<LegId> {
        self.parse("CA", text).map(LegId)
    }

    /// Writes a conference's id (prefix `CF`).
    pub fn conference(self, id: ConferenceId) -> String {
        self.spell("CF", id.0)
    }

    /// Parses a conference's id.
    pub(crate) fn parse_conference(self, text: &str) -> Option<ConferenceId> {
        self.parse("CF", text).map(ConferenceId)
    }

    /// Writes a recording's id (prefix `RE`).
    pub fn recording(self, id: RecordingId) -> String {
        self.spell("RE", id.0)
    }

    /// Parses a recording's id.
    pub(crate) fn parse_recording(self, text: &str) -> Option<RecordingId> {
        self.parse("RE", text).map(RecordingId)
    }

    /// Writes a stream's id (prefix `MZ`).
    pub fn stream(self, id: StreamId) -> String {
        self.spell("MZ", id.0)
    }

    /// Parses a stream's id.
    pub(crate) fn parse_stream(self, text: &str) -> Option<StreamId> {
        self.parse("MZ", text).map(StreamId)
    }

    /// Writes a SIPREC session's id (prefix `SR`).
    pub fn siprec(self, id: SiprecId) -> String {
        self.spell("SR", id.0)
    }

    /// Parses a SIPREC session's id.
    pub(crate) fn parse_siprec(self, text: &str) -> Option<SiprecId> {
        self.parse("SR", text).map(SiprecId)
    }

    /// Writes a queue's id (prefix `QU`).
    pub fn queue(self, id: QueueId) -> String {
        self.spell("QU", id.0)
    }

    /// Parses a queue's id.
    pub(crate) fn parse_queue(self, text: &str) -> Option<QueueId> {
        self.parse("QU", text).map(QueueId)
    }

    /// Writes the id of a recording's transcription (prefix `TR`).
    pub fn transcript(self, id: TranscriptionId) -> String {
        self.spell("TR", id.0)
    }

    /// Parses the id of a recording's transcription.
    pub(crate) fn parse_transcript(self, text: &str) -> Option<TranscriptionId> {
        self.parse("TR", text).map(TranscriptionId)
    }

    /// Writes a live transcription's id (prefix `GT`).
    pub fn transcription(self, id: TranscriptionId) -> String {
        self.spell("GT", id.0)
    }

    /// Parses a live transcription's id.
    pub(crate) fn parse_transcription(self, text: &str) -> Option<TranscriptionId> {
        self.parse("GT", text).map(TranscriptionId)
    }

    /// Writes a conversation's id (prefix `VX`).
    pub fn conversation(self, id: ConversationId) -> String {
        self.spell("VX", id.0)
    }
}

/// Writes an id as its prefix and 32 lower-case hex digits.
pub fn spell(prefix: &str, id: u128) -> String {
    format!("{prefix}{id:032x}")
}

/// Parses a prefix and 32 hex digits.
pub fn parse(prefix: &str, text: &str) -> Option<u128> {
    number(text.strip_prefix(prefix)?)
}

/// Parses exactly 32 hex digits. `from_str_radix` would also accept a sign and fewer digits.
fn number(hex: &str) -> Option<u128> {
    let all_hex = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if all_hex { u128::from_str_radix(hex, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_formatted_and_parsed_in_both_spellings() {
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
    fn text_that_is_no_sid_is_refused() {
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
