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
    /// The warn-code of the Warning header field (RFC 3261 §20.43).
    warning: u16,
}

impl Refusal {
    pub(super) fn of(error: &media::SdpError) -> Self {
        let (status, warning) = match error {
            media::SdpError::Malformed(_) => (400, 399),
            media::SdpError::Incompatible(_) => (488, 305),
            media::SdpError::AddressFamily { .. } => (488, 301),
            media::SdpError::Srtp(_) => (488, 302),
        };
        Self { status, why: error.to_string(), warning }
    }

    /// Returns the reason phrase (only for a 400, RFC 3261 §21.4.1) and a Warning header field (§20.43).
    pub(super) fn into_parts(self) -> (Option<String>, Vec<sip::Header>) {
        let text: String = self.why.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(128).collect();
        let warning = sip::Header { name: "Warning".to_owned(), value: format!("{} tandem \"{text}\"", self.warning) };
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
        for (error, start) in [
            (
                media::SdpError::AddressFamily { theirs: "IPv6", ours: "IPv4" },
                "301 tandem \"incompatible SDP: the address ",
            ),
            (media::SdpError::Srtp("no key"), "302 tandem \"incompatible SDP: no key\""),
        ] {
            let (_, headers) = Refusal::of(&error).into_parts();
            assert!(headers[0].value.starts_with(start), "{headers:?}");
        }
        let (phrase, headers) = Refusal::of(&media::SdpError::Malformed("é\r\nx".repeat(200))).into_parts();
        assert!(phrase.is_some_and(|phrase| phrase.starts_with("malformed SDP: éxéx")));
        assert_eq!((headers[0].name.as_str(), headers[0].value.len() < 300), ("Warning", true));
    }
}
