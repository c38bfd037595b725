//! The setting `trunks.pass_headers`: the header fields of a caller's INVITE that the server passes on with the call.

use serde::Deserialize;

/// The name of a header field, or a prefix of such names with `*` at the end of the prefix. Upper and lower case are
/// equal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderPattern {
    start: Box<str>,
    prefix: bool,
}

impl HeaderPattern {
    /// Whether the pattern matches a header field with this name.
    pub fn fits(&self, name: &str) -> bool {
        let start = if self.prefix { name.get(..self.start.len()) } else { Some(name) };
        start.is_some_and(|start| start.eq_ignore_ascii_case(&self.start))
    }
}

impl TryFrom<String> for HeaderPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (start, prefix) = text.strip_suffix('*').map_or((&*text, false), |start| (start, true));
        if start.is_empty() || !start.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-') {
            return Err(format!("{text:?} is neither a header name (\"User-to-User\") nor a prefix (\"X-*\")"));
        }
        if !prefix && is_made_here(start) {
            return Err(format!("{text:?} cannot be passed through: other settings decide the caller's identity"));
        }
        Ok(Self { start: start.into(), prefix })
    }
}

/// Returns the default patterns.
pub fn usual() -> Vec<HeaderPattern> {
    let pattern = |start: &str, prefix| HeaderPattern { start: start.into(), prefix };
    vec![pattern("X-", true), pattern("User-to-User", false)]
}

/// Whether this server must not pass on a field with this name. The server either writes a new field of this name for
/// each far end, or the field contains a statement that only the sender of the field may make.
pub fn is_made_here(name: &str) -> bool {
    const MADE: [&str; 5] = ["Privacy", "Referred-By", "User-Agent", "Server", "Date"];
    states_caller(name) || MADE.iter().any(|made| made.eq_ignore_ascii_case(name))
}

/// Whether a field with this name states who calls, who forwarded the call, or who pays for the call. `y` and `n` are
/// the compact forms of Identity and Identity-Info (RFC 8224, RFC 4474).
pub fn states_caller(name: &str) -> bool {
    const STATED: [&str; 12] = [
        "P-Asserted-Identity",
        "P-Preferred-Identity",
        "Remote-Party-ID",
        "RPID-Privacy",
        "Diversion",
        "History-Info",
        "Identity",
        "y",
        "Identity-Info",
        "n",
        "P-Charging-Vector",
        "P-Charging-Function-Addresses",
    ];
    STATED.iter().any(|stated| stated.eq_ignore_ascii_case(name))
}
