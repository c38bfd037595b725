//! The usual spelling of header field names.

/// Names of header fields that the application may see. Names that SIP itself needs (`header::is_core`) are not in the
/// list.
const NAMES: &[&str] = &[
    "Accept-Contact",
    "Alert-Info",
    "Call-Info",
    "Content-Language",
    "Date",
    "Error-Info",
    "Expires",
    "Feature-Caps",
    "Flow-Timer",
    "History-Info",
    "Identity",
    "Identity-Info",
    "In-Reply-To",
    "Min-Expires",
    "Organization",
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Path",
    "Priority",
    "Privacy",
    "Reason",
    "Referred-By",
    "Reject-Contact",
    "Reply-To",
    "Request-Disposition",
    "Retry-After",
    "SIP-ETag",
    "SIP-If-Match",
    "Server",
    "Service-Route",
    "Subject",
    "User-Agent",
    "Warning",
];

/// Returns the usual spelling of a name. The case of the input is ignored. An unknown name is returned as received.
pub(super) fn usual(name: &[u8]) -> &[u8] {
    let usual = NAMES.iter().find(|usual| usual.as_bytes().eq_ignore_ascii_case(name));
    usual.map_or(name, |usual| usual.as_bytes())
}
