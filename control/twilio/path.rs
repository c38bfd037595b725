//! What a path of the 2010 API is made of. Every path works with and without `.json`, except that a recording's without one
//! is its audio. Other extensions are those of other forms of the answer (`rest/written.rs`).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// First segment of every path.
pub(super) const VERSION: &str = "2010-04-01";

/// Where the API is.
pub(super) const ROOT: &str = "/2010-04-01";
/// The same, with the extension of JSON.
pub(super) const ROOT_AS_JSON: &str = "/2010-04-01.json";

/// The API's version as a resource, which anybody may ask for.
pub(super) fn version() -> Value {
    json!({
        "name": VERSION,
        "uri": ROOT_AS_JSON,
        "subresource_uris": { "accounts": format!("{ROOT}/Accounts.json") },
    })
}

/// Most segments below an account; deeper paths name nothing.
const DEEPEST: usize = 8;

/// A path, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Path<'a> {
    /// `AC...` of the path; `None` for the list of accounts.
    pub(super) account: Option<Cow<'a, str>>,
    /// The segments below it, decoded, the last one without its `.json`.
    pub(super) below: Vec<Cow<'a, str>>,
    /// Whether the last one had it.
    pub(super) json: bool,
}

/// Where TeXML's is, which has no date.
pub(super) const TEXML: &str = "v2/texml";

/// Takes a path apart; `None` if it is not under `/2010-04-01/Accounts` or `/v2/texml/Accounts`.
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

/// Where a resource of an account is: `name` is its path below the account's, without `.json`.
pub(super) fn uri(account: &str, name: &str) -> String {
    format!("/{VERSION}/Accounts/{account}/{name}.json")
}

fn decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_with_and_without_json() {
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
    fn other_paths_are_none() {
        for path in ["/2010-04-01", "/2010-04-01/", "/2010-04-01/Dance.json", "/v1/Trunks", "/2010-04-01x/Accounts"] {
            assert_eq!(parse(path), None, "{path}");
        }
        assert_eq!(parse(&format!("/2010-04-01/Accounts/AC1{}", "/a".repeat(1000))).unwrap().below.len(), DEEPEST + 1);
    }
}
