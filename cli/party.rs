//! The argument CALL of a command: the id of a call, or the number of a party.

use anyhow::anyhow;
use jiff::Timestamp;
use serde_json::Value;

use super::Failure;
use super::ask::{Console, escaped};
use super::list::text;

/// The forms of the argument CALL.
const ACCEPTED: &str = "CALL is an id of the call in any form, a part of an id or of a SIP Call-ID (at least 6 characters), the \
                        session id, \"last\", or the whole number of a party, such as +15551230001 or 600, for the newest call \
                        from or to this number; `tandem calls` lists the calls";

/// Maximum number of digits of a telephone number (E.164).
const MAX_DIGITS: usize = 15;

/// Returns an id for the argument CALL. If the argument is a number and no id of a call, the id is the session id of the
/// newest call from or to this number. If there is no such call, or if the argument is no number, the argument stays as it is.
pub(crate) async fn id_of(console: &Console, call: &str) -> Result<String, Failure> {
    if !is_number(call) || console.find(&format!("/console/calls/{}", escaped(call))).await?.is_some() {
        return Ok(call.to_owned());
    }
    let mut rows = Vec::new();
    for party in ["from", "to"] {
        let path = format!("/console/calls?limit=1&{party}={}", escaped(call));
        rows.push(console.json(&path).await?);
    }
    Ok(newest(&rows).unwrap_or_else(|| call.to_owned()))
}

/// Adds the forms of the argument CALL to the error of an unknown call. Other failures stay as they are.
pub(crate) fn explain(failure: Failure) -> Failure {
    match failure {
        Failure::Input(error) if error.to_string().starts_with("no such call") => {
            Failure::Input(anyhow!("{error}\n{ACCEPTED}"))
        }
        other => other,
    }
}

fn is_number(call: &str) -> bool {
    let digits = call.strip_prefix('+').unwrap_or(call);
    (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit())
}

/// Returns the session id of the newest call in these lists. A list with `searched` has no call of this number, but calls
/// whose number contains the text, so this list is not used.
fn newest(lists: &[Value]) -> Option<String> {
    let whole = lists.iter().filter(|list| list.get("searched").is_none_or(Value::is_null));
    let rows = whole.filter_map(|list| list.get("calls").and_then(Value::as_array)).flatten();
    let newest = rows.max_by_key(|row| text(row, "created_at").parse::<Timestamp>().ok())?;
    Some(text(newest, "session").to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_extensions_are_recognised() {
        for number in ["600", "+15551230001", "15551230001", "7"] {
            assert!(is_number(number), "{number}");
        }
        for other in ["last", "CA0123456789", "0123456789abcdef", "", "+", "1234567890123456", "+1 555", "v3:1"] {
            assert!(!is_number(other), "{other}");
        }
    }

    #[test]
    fn the_newest_call_of_a_number_is_found_among_calls_from_and_to_it() {
        let call = |session: &str, at: &str| json!({ "calls": [{ "session": session, "created_at": at }] });
        let from = call("older", "2026-01-01T00:00:00Z");
        let to = call("newer", "2026-01-01T00:00:00.5Z");
        assert_eq!(newest(&[from.clone(), to.clone()]).as_deref(), Some("newer"));
        assert_eq!(newest(&[to, from]).as_deref(), Some("newer"));
        assert_eq!(newest(&[json!({ "calls": [] }), json!({ "calls": [] })]), None);
    }

    #[test]
    fn calls_whose_number_only_contains_the_text_do_not_count() {
        let row = json!([{ "session": "s", "created_at": "2026-01-01T00:00:00Z" }]);
        assert_eq!(newest(&[json!({ "calls": row, "searched": 20_000 })]), None);
        assert_eq!(newest(&[json!({ "calls": row })]).as_deref(), Some("s"));
    }

    #[test]
    fn the_error_of_an_unknown_call_names_the_accepted_forms() {
        let text = explain(Failure::Input(anyhow!("no such call"))).to_string();
        assert!(text.starts_with("no such call\nCALL is ") && text.contains("600"), "{text}");
        assert_eq!(
            explain(Failure::Input(anyhow!("there has been no call yet"))).to_string(),
            "there has been no call yet"
        );
    }
}
