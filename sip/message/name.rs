//! How the names of header fields are usually written.

/// Names that the application may see, other than SIP's own bookkeeping (`header::is_core`).
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

/// The usual spelling of a name, whatever its case; as it came if it is not known.
pub(super) fn usual(name: &[u8]) -> &[u8] {
    let usual = NAMES.iter().find(|usual| usual.as_bytes().eq_ignore_ascii_case(name));
    usual.map_or(name, |usual| usual.as_bytes())
}
