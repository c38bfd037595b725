//! Common parts of Twilio's newer APIs. In these APIs, paths name no account, dates have the ISO 8601 format, and lists
//! have `meta`. URLs are absolute, because clients request each URL without a change.

use jiff::Timestamp;
use serde_json::{Value, json};

/// The start of the URLs in an answer: scheme and host. If the request has one of Twilio's host names, the request came
/// through a proxy that serves this name over TLS. In this case the URLs have `https` and the same host name. Otherwise
/// the URLs begin with the configured public URL.
pub(super) fn base(host: Option<&str>, public_url: &str) -> String {
    match host {
        Some(host) if host.split(':').next().is_some_and(|name| name.ends_with(".twilio.com")) => {
            format!("https://{host}")
        }
        _ => public_url.to_owned(),
    }
}

/// Converts a list of the 2010-04-01 API to the format of the newer APIs.
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

/// A time in ISO 8601 format: `2015-01-02T11:23:45Z`.
pub(super) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The path segments below `/v1`. Empty for other paths.
pub(super) fn below(path: &str) -> Vec<&str> {
    let rest = path.strip_prefix("/v1/").unwrap_or_default();
    rest.split('/').filter(|segment| !segment.is_empty()).take(8).collect()
}
