//! What the newer APIs of the provider have in common: no account in their paths, dates of ISO 8601, lists with `meta`, and
//! URLs that are whole, for clients follow them as they are.

use jiff::Timestamp;
use serde_json::{Value, json};

/// What URLs of ours begin with: who called us by one of the provider's names is behind something that answers for it, over
/// TLS; everybody else knows us by the configured URL.
pub(super) fn base(host: Option<&str>, public_url: &str) -> String {
    match host {
        Some(host) if host.split(':').next().is_some_and(|name| name.ends_with(".twilio.com")) => {
            format!("https://{host}")
        }
        _ => public_url.to_owned(),
    }
}

/// A list of the other API as this one has it.
pub(super) fn envelope(key: &'static str, page: &Value) -> Value {
    json!({
        "meta": {
            "key": key,
            "page": page["page"],
            "page_size": page["page_size"],
            "first_page_url": page["first_page_uri"],
            "previous_page_url": page["previous_page_uri"],
            "next_page_url": page["next_page_uri"],
            "url": page["uri"],
        },
        key: page[key],
    })
}

/// `2015-01-02T11:23:45Z`.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The segments of a path below `/v1`; none for other paths.
pub(super) fn below(path: &str) -> Vec<&str> {
    let rest = path.strip_prefix("/v1/").unwrap_or_default();
    rest.split('/').filter(|segment| !segment.is_empty()).take(8).collect()
}
