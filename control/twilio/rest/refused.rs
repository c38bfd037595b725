//! Resources of Twilio's published API that this server does not have, because this server has only voice. Requests to
//! these resources get the same clear error with any method. docs/twilio.md has the same list, and a test compares the
//! list here with the list there.

use super::super::error::ApiError;
use super::super::family::Provider;

/// Error number for a refused path. The HTTP status is 403.
pub(super) const CODE: u32 = 20006;

/// Paths below an account, each with a description. `*` stands for any one segment. A longer path that begins with one
/// of these paths is refused too.
pub(super) const REFUSED: [(&str, &str); 7] = [
    ("Messages", "messages, their media and feedback"),
    ("SMS", "short codes"),
    ("ConnectApps", "connect apps"),
    ("AuthorizedConnectApps", "authorized connect apps"),
    ("Calls/*/Payments", "payments"),
    ("IncomingPhoneNumbers/*/AssignedAddOns", "add-ons of numbers"),
    ("Recordings/*/AddOnResults", "results of add-ons"),
];

/// The error for a refused path. `None` if the path is not refused.
pub(super) fn find(provider: &dyn Provider, below: &[&str]) -> Option<ApiError> {
    let fits = |path: &str| {
        let segments: Vec<&str> = path.split('/').collect();
        segments.len() <= below.len() && segments.iter().zip(below).all(|(one, other)| *one == "*" || one == other)
    };
    if let Some((_, what)) = provider.refused().iter().find(|(path, _)| fits(path)) {
        return Some(ApiError::forbidden(CODE, format!("This server has no {what}")));
    }
    let (_, what) = REFUSED.iter().find(|(path, _)| fits(path))?;
    Some(ApiError::forbidden(CODE, format!("This server supports voice only and has no {what}")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::Twilio;

    #[test]
    fn refused_resources_are_refused_at_any_depth() {
        for path in ["Messages", "Messages/MM1/Media/ME1", "SMS/ShortCodes", "Calls/CA1/Payments/PK1"] {
            assert!(find(&Twilio, &path.split('/').collect::<Vec<_>>()).is_some(), "{path}");
        }
        for path in ["Calls", "Calls/CA1", "Calls/CA1/Recordings", "IncomingPhoneNumbers/PN1", "Recordings/RE1", ""] {
            assert!(find(&Twilio, &path.split('/').collect::<Vec<_>>()).is_none(), "{path}");
        }
    }

    #[test]
    fn the_documentation_lists_every_refused_resource() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let text = std::fs::read_to_string(root.join("docs/twilio.md")).expect("docs/twilio.md");
        for (path, what) in REFUSED {
            let row = format!("| `{path}` | {what} |");
            assert!(text.contains(&row), "docs/twilio.md has no line {row:?}");
        }
        let listed = text.lines().skip_while(|line| !line.starts_with("| path | content")).skip(2);
        let listed = listed.take_while(|line| line.starts_with('|')).count();
        assert_eq!(listed, REFUSED.len(), "docs/twilio.md lists what is not refused");
    }

    /// Checks that every refused path is in the published API and has an operation there.
    #[test]
    fn only_published_operations_are_refused() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let Ok(text) = std::fs::read_to_string(root.join("../shared/openapi/twilio_api_v2010.json")) else {
            tandem_test_support::skip(tandem_test_support::Needs::Shared("openapi/twilio_api_v2010.json"));
            return;
        };
        let document: Value = serde_json::from_str(&text).unwrap();
        let mut refused = [0; REFUSED.len()];
        for (path, methods) in document["paths"].as_object().unwrap() {
            let below = path.trim_start_matches("/2010-04-01/Accounts/{AccountSid}/").trim_end_matches(".json");
            let operations = ["get", "post", "delete"].iter().filter(|method| methods.get(**method).is_some()).count();
            let below: Vec<&str> = below.split('/').collect();
            let place = REFUSED.iter().position(|(path, _)| {
                path.split('/').count() <= below.len()
                    && path.split('/').zip(&below).all(|(one, other)| one == "*" || one == *other)
            });
            assert_eq!(place.is_some(), find(&Twilio, &below).is_some(), "{path}");
            if let Some(place) = place {
                refused[place] += operations;
            }
        }
        println!("refused operations: {}, {refused:?}", refused.iter().sum::<usize>());
        assert!(refused.iter().all(|count| *count > 0), "{refused:?}");
    }
}
