//! Spelling of ids: a prefix and 32 lower-case hex digits.

use tandem_call::id::{ConferenceId, ConversationId, LegId, QueueId, RecordingId, SiprecId, StreamId, TranscriptionId};

/// Prefix and hex digits.
pub fn spell(prefix: &str, id: u128) -> String {
    format!("{prefix}{id:032x}")
}

/// `CA...`
pub fn call(id: LegId) -> String {
    format!("CA{id}")
}

/// `CF...`
pub fn conference(id: ConferenceId) -> String {
    format!("CF{id}")
}

/// `RE...`
pub fn recording(id: RecordingId) -> String {
    format!("RE{id}")
}

/// `MZ...`
pub fn stream(id: StreamId) -> String {
    format!("MZ{id}")
}

/// `SR...`
pub fn siprec(id: SiprecId) -> String {
    format!("SR{id}")
}

/// The recording session that a `SR...` names.
pub fn parse_siprec(text: &str) -> Option<SiprecId> {
    parse("SR", text).map(SiprecId)
}

/// `QU...`
pub fn queue(id: QueueId) -> String {
    format!("QU{id}")
}

/// The queue a `QU...` names.
pub fn parse_queue(text: &str) -> Option<QueueId> {
    parse("QU", text).map(QueueId)
}

/// `TR...`, of a recording's.
pub fn transcript(id: TranscriptionId) -> String {
    format!("TR{id}")
}

/// `GT...`, of a live one.
pub fn transcription(id: TranscriptionId) -> String {
    format!("GT{id}")
}

/// `VX...`
pub fn conversation(id: ConversationId) -> String {
    format!("VX{id}")
}

/// The leg a `CA...` names; hex digits of either case are taken.
pub fn parse_call(text: &str) -> Option<LegId> {
    parse("CA", text).map(LegId)
}

/// The recording a `RE...` names.
pub fn parse_recording(text: &str) -> Option<RecordingId> {
    parse("RE", text).map(RecordingId)
}

/// The conference a `CF...` names.
pub fn parse_conference(text: &str) -> Option<ConferenceId> {
    parse("CF", text).map(ConferenceId)
}

/// The stream a `MZ...` names.
pub fn parse_stream(text: &str) -> Option<StreamId> {
    parse("MZ", text).map(StreamId)
}

/// The transcription of a recording that a `TR...` names.
pub fn parse_transcript(text: &str) -> Option<TranscriptionId> {
    parse("TR", text).map(TranscriptionId)
}

/// The live transcription that a `GT...` names.
pub fn parse_transcription(text: &str) -> Option<TranscriptionId> {
    parse("GT", text).map(TranscriptionId)
}

/// The 128 bits behind a prefix and 32 hex digits.
pub fn parse(prefix: &str, text: &str) -> Option<u128> {
    let hex = text.strip_prefix(prefix)?;
    // `from_str_radix` alone would also take a sign and fewer digits.
    let all_hex = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if all_hex { u128::from_str_radix(hex, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_spelled_and_read_back() {
        let id = LegId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(call(id), "CA0123456789abcdef0123456789abcdef");
        assert_eq!(parse_call(&call(id)), Some(id));
        assert_eq!(parse_call("CA0123456789ABCDEF0123456789ABCDEF"), Some(id));
    }

    #[test]
    fn what_is_no_sid_is_refused() {
        for text in
            ["", "CA", "CA123", "RE0123456789abcdef0123456789abcdef", "CA+123456789abcdef0123456789abcdef", "CAü"]
        {
            assert_eq!(parse_call(text), None, "{text}");
        }
    }
}
