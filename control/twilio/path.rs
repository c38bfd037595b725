//! Parses the paths of the 2010-04-01 API. Every path works with and without `.json`, with one exception: a recording's
//! path without an extension names the recording's audio. Other extensions request other formats of the answer
//! (`rest/written.rs`).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// The API's version: the first segment of every path.
pub(super) const VERSION: &str = "2010-04-01";

/// The API's root path.
pub(super) const ROOT: &str = "/2010-04-01";
/// The API's root path with the extension `.json`.
pub(super) const ROOT_AS_JSON: &str = "/2010-04-01.json";

/// The resource that describes the API's version. A request for this resource needs no credentials.
pub(super) fn version() -> Value {
    json!({
        "name": VERSION,
        "uri": ROOT_AS_JSON,
        "subresource_uris": { "accounts": format!("{ROOT}/Accounts.json") },
    })
}

/// Maximum number of segments below an account. No resource has a deeper path.
const DEEPEST: usize = 8;

/// The parts of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Path<'a> {
    /// The account's SID in the path. `None` for the list of accounts.
    pub(super) account: Option<Cow<'a, str>>,
    /// The decoded segments below the account, without the `.json` of the last segment.
    pub(super) below: Vec<Cow<'a, str>>,
    /// Whether the path ended with `.json`.
    pub(super) json: bool,
}

/// Root of TeXML's paths. This root has no version date.
pub(super) const TEXML: &str = "v2/texml";

/// Parses a path. `None` if the path is not below `/2010-04-01/Accounts` or `/v2/texml/Accounts`.
pub(super) fn parse(path: &str) -> Option<Path<'_>> {
    let path = path.trim_start_matches('/');
    let path = path.strip_prefix(VERSION).or_else(|| path.strip_prefix(TEXML))?.strip_prefix('/')?;
    let (path, json) = path.strip_suffix(".json").map_or((path, false), |path| (path, true));
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).map(decoded);
    if segments.next()? != "Accounts" {
        return None;
    }
    let account = segments.next();
    Some(Path { account, below: segments.take(DEEPEST + 1).collect(), json })
}

/// The path of a resource of an account. `name` is the part of the path below the account, without `.json`.
pub(super) fn uri(account_sid: &str, name: &str) -> String {
    format!("/{VERSION}/Accounts/{account_sid}/{name}.json")
}

fn decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_parses_alike_with_and_without_the_json_extension() {
        for (path, json) in
            [("/2010-04-01/Accounts/AC1/Calls/CA1", false), ("/2010-04-01//Accounts/AC1/Calls/CA1.json", true)]
        {
            let parsed = parse(path).unwrap();
            assert_eq!((parsed.account.as_deref(), parsed.json), (Some("AC1"), json), "{path}");
            assert_eq!(parsed.below, ["Calls", "CA1"], "{path}");
        }
        let accounts = parse("/2010-04-01/Accounts.json").unwrap();
        assert_eq!((accounts.account, accounts.below.len()), (None, 0));
    }

    #[test]
    fn names_in_a_path_are_decoded() {
        let path = parse("/2010-04-01/Accounts/AC1/Conferences/My%20Room%2F1/Participants.json").unwrap();
        assert_eq!(path.below, ["Conferences", "My Room/1", "Participants"]);
    }

    #[test]
    fn paths_outside_of_the_api_are_rejected() {
        for path in ["/2010-04-01", "/2010-04-01/", "/2010-04-01/Dance.json", "/v1/Trunks", "/2010-04-01x/Accounts"] {
            assert_eq!(parse(path), None, "{path}");
        }
        assert_eq!(parse(&format!("/2010-04-01/Accounts/AC1{}", "/a".repeat(1000))).unwrap().below.len(), DEEPEST + 1);
    }
}
