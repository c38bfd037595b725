//! The reason why a leg could not be set up, and the response to the far end.

use tandem_media as media;
use tandem_sip as sip;

/// The reason why a leg could not be set up.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The SIP status of the response.
    pub status: u16,
    /// The reason as text, for the log.
    pub why: String,
}

impl Refusal {
    pub(super) fn of(error: &media::SdpError) -> Self {
        let status = match error {
            media::SdpError::Malformed(_) => 400,
            media::SdpError::Incompatible(_) => 488,
        };
        Self { status, why: error.to_string() }
    }

    /// Returns the reason phrase (only for a 400, RFC 3261 §21.4.1) and a Warning header field (§20.43).
    pub(super) fn into_parts(self) -> (Option<String>, Vec<sip::Header>) {
        let code = if self.status == 488 { 305 } else { 399 };
        let text: String = self.why.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(128).collect();
        let warning = sip::Header { name: "Warning".to_owned(), value: format!("{code} tandem \"{text}\"") };
        ((self.status == 400).then_some(text), vec![warning])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_the_peer_why() {
        let (phrase, headers) = Refusal::of(&media::SdpError::Incompatible("no \"audio\"".into())).into_parts();
        assert_eq!((phrase, headers[0].value.as_str()), (None, "305 tandem \"incompatible SDP: no audio\""));
        let (phrase, headers) = Refusal::of(&media::SdpError::Malformed("é\r\nx".repeat(200))).into_parts();
        assert!(phrase.is_some_and(|phrase| phrase.starts_with("malformed SDP: éxéx")));
        assert_eq!((headers[0].name.as_str(), headers[0].value.len() < 300), ("Warning", true));
    }
}
