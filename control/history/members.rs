//! Finds the members of a JSON webhook that say what happened.

use std::collections::VecDeque;

use serde_json::Value;

/// Finds members of a JSON value by name, at any depth. Returns each name once, with the text of the member that is
/// least deep. Members that are empty, lists or objects are left out.
pub fn members(json: &Value, names: &[&'static str]) -> Vec<(&'static str, String)> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    let mut rest = VecDeque::from([json]);
    while let Some(value) = rest.pop_front() {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let text = match member {
                        Value::String(text) => text.clone(),
                        Value::Number(number) => number.to_string(),
                        other => {
                            rest.push_back(other);
                            continue;
                        }
                    };
                    let known = names.iter().find(|known| *known == name).filter(|_| !text.is_empty());
                    if let Some(name) = known.filter(|known| !found.iter().any(|(other, _)| other == *known)) {
                        found.push((*name, text));
                    }
                }
            }
            Value::Array(items) => rest.extend(items),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_members_are_found_at_any_depth_and_the_outermost_member_counts() {
        let json = serde_json::json!({
            "data": { "payload": { "digits": "12", "status": "valid", "inner": { "status": "x" }, "empty": "" } },
        });
        let found = members(&json, &["status", "digits", "empty"]);
        assert_eq!(found, [("digits", "12".to_owned()), ("status", "valid".to_owned())]);
    }
}
