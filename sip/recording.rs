//! What makes a session of ours one with a recording server (SIPREC, RFC 7866): an option tag, a mark of our Contact, and a body of
//! two parts, one of which describes the session that is recorded.

use std::borrow::Cow;

use bytes::Bytes;

/// The server must know what it is called for (RFC 7866 §6.1.1).
pub(crate) const REQUIRE: &str = "Require: siprec\r\n";
/// We send what is recorded (RFC 7866 §6.1.1).
pub(crate) const FEATURE: &str = ";+sip.src";
/// Type of what is said of the recorded session (RFC 7865, RFC 9806).
const METADATA: &str = "application/rs-metadata+xml";

/// Content-Type and body of an offer: alone, or with what there is to say of the recorded session. `random` keeps the parts apart.
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
