//! Masks secrets in data that people see or hand on.

use std::collections::VecDeque;

use serde_json::Value;
use tandem_http::without_credentials;

/// Parts of the names of parameters whose values are secret. An SDP has keys. The comparison ignores case, `_` and `-`.
const SECRETS: [&str; 8] =
    ["password", "secret", "token", "apikey", "authorization", "credential", "privatekey", "sdp"];
pub use tandem_settings::entry::MASK;

/// Whether the value of a parameter with this name is secret.
pub fn is_secret(name: &str) -> bool {
    let name: String = name.chars().filter(|one| !matches!(one, '_' | '-')).flat_map(char::to_lowercase).collect();
    name == "key" || SECRETS.iter().any(|secret| name.contains(secret))
}

/// Masks the secrets in a JSON value, and removes the passwords from its URLs.
pub fn redact(json: &mut Value) {
    redact_with(json, |text| text.contains("://").then(|| without_credentials(text)));
}

/// Masks the secrets in a JSON value like [`redact`], in its lists of names and values, and within its texts: in the query of
/// a URL, in an XML attribute, and in JSON. A text may have been cut off, so it need not be well-formed. Numbers are no
/// secrets.
pub fn redact_deeply(json: &mut Value) {
    redact_with(json, masked);
}

fn redact_with(json: &mut Value, text_of: impl Fn(&str) -> Option<String>) {
    let mut rest = VecDeque::from([json]);
    while let Some(value) = rest.pop_front() {
        match value {
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    match member {
                        Value::Null | Value::Number(_) | Value::Bool(_) => {}
                        member if is_secret(name) => *member = Value::from(MASK),
                        member => rest.push_back(member),
                    }
                }
            }
            Value::Array(items) => match &mut items[..] {
                [Value::String(name), value @ Value::String(_)] if is_secret(name) => *value = Value::from(MASK),
                items => rest.extend(items),
            },
            Value::String(text) => {
                if let Some(shown) = text_of(text) {
                    *text = shown;
                }
            }
            _ => {}
        }
    }
}

/// Masks the values of secret names in a text: `token=abc`, `password="abc"`, `"token": "abc"`, and the value of
/// `name="token" value="abc"`. `None` if the text has no secret name.
fn masked(text: &str) -> Option<String> {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    // The value of the attribute `name` was a secret name, so the next attribute `value` is secret.
    let mut is_named = false;
    while let Some(place) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(place + 1);
        let name = before.get(..place).unwrap_or_default().trim_end().trim_end_matches(['"', '\'', '\\']);
        let is_part = |one: char| !(one.is_ascii_alphanumeric() || one == '_' || one == '-');
        let name =
            name.rfind(is_part).map_or(name, |end| name.get(end..).unwrap_or_default().trim_start_matches(is_part));
        let space = after.len() - after.trim_start().len();
        let (gap, value) = after.split_at(space);
        let quote = value.trim_start_matches('\\').chars().next().filter(|one| matches!(one, '"' | '\''));
        let open = quote.map_or(0, |_| value.find(['"', '\'']).unwrap_or_default() + 1);
        let (opening, value) = value.split_at(open);
        let end = match quote {
            Some(quote) => value.find([quote, '\\']),
            None => value.find(|one: char| one.is_whitespace() || "&,;<>\"')}]".contains(one)),
        };
        let (value, tail) = value.split_at(end.unwrap_or(value.len()));
        let secret = is_secret(name) || is_named && name == "value";
        is_named = if name == "name" { is_secret(value) } else { is_named && name != "value" };
        shown.push_str(before);
        if secret && !value.is_empty() {
            shown.extend([gap, opening, MASK]);
            rest = tail;
        } else {
            rest = after;
        }
    }
    shown.push_str(rest);
    (shown != text).then_some(shown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_in_urls_documents_and_pairs() {
        for (text, shown) in [
            ("wss://h/s?token=secret1&a=b", "wss://h/s?token=***&a=b"),
            (
                "<Sip username=\"u\" password=\"secret2\">sip:a@b</Sip>",
                "<Sip username=\"u\" password=\"***\">sip:a@b</Sip>",
            ),
            ("<Parameter name='auth_token' value='secret3'/>", "<Parameter name='auth_token' value='***'/>"),
            ("{\"api_key\": \"secret4\", \"n\": 1", "{\"api_key\": \"***\", \"n\": 1"),
            ("{\\\"password\\\":\\\"secret5\\\"", "{\\\"password\\\":\\\"***\\\""),
            ("a=b: 200 OK, 12:30", "a=b: 200 OK, 12:30"),
            ("token=", "token="),
        ] {
            let mut json = json!({ "answer": [text] });
            redact_deeply(&mut json);
            assert_eq!(json, json!({ "answer": [shown] }));
        }
        let mut json = json!({
            "parameters": [["SipAuthPassword", "secret"], ["To", "+1"]], "token_ms": 12, "client_secret": ["secret"],
        });
        redact_deeply(&mut json);
        let masked =
            json!({ "parameters": [["SipAuthPassword", MASK], ["To", "+1"]], "token_ms": 12, "client_secret": MASK });
        assert_eq!(json, masked);
    }
}
