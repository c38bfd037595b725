//! The parts of SIPREC (RFC 7866) that mark a dialog as a session with a recording server. These parts are an option
//! tag, a feature tag in the Contact, and a multipart body. The second part of this body describes the recorded
//! session.

use std::borrow::Cow;

use bytes::Bytes;

/// Header line that requires support for recording sessions (RFC 7866 §6.1.1).
pub(crate) const REQUIRE: &str = "Require: siprec\r\n";
/// Feature tag in the Contact of a session recording client, which is the side that sends the recorded media (RFC 7866
/// §6.1.1).
pub(crate) const FEATURE: &str = ";+sip.src";
/// Media type of the recording metadata (RFC 7865, RFC 9806).
const METADATA: &str = "application/rs-metadata+xml";

/// Returns the Content-Type and the body of an offer. The body is the SDP alone, or a multipart body with the SDP and
/// the recording metadata. `random` makes the multipart boundary unique.
pub(crate) fn body(sdp: &Bytes, metadata: Option<&Bytes>, random: u128) -> (Cow<'static, str>, Bytes) {
    let Some(metadata) = metadata else { return ("application/sdp".into(), sdp.clone()) };
    let boundary = format!("rs-{random:032x}");
    let mut out = Vec::with_capacity(sdp.len() + metadata.len() + 320);
    out.extend_from_slice(
        format!(
            "--{boundary}\r\nContent-Type: application/sdp\r\nContent-Disposition: session;handling=required\r\n\r\n"
        )
        .as_bytes(),
    );
    out.extend_from_slice(sdp);
    out.extend_from_slice(
        format!("\r\n--{boundary}\r\nContent-Type: {METADATA}\r\nContent-Disposition: recording-session\r\n\r\n")
            .as_bytes(),
    );
    out.extend_from_slice(metadata);
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/mixed;boundary={boundary}").into(), out.into())
}
