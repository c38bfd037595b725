//! The published parameters of each command. A parameter that Telnyx does not publish has no effect, so the application
//! is told of such a parameter.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};
use tandem_history::report::Unused;

/// The published parameters of each command, with example values (from `telnyx_voice.json`).
pub(super) const PUBLISHED: &str = include_str!("../fixtures/parameters.json");
/// Parameters that this server reads although Telnyx does not publish them.
const OWN: [&str; 3] = ["from_", "stop_playback_on_dtmf", "webhook_timeout_secs"];
/// Maximum number of names in a note.
const MAX_NAMES: usize = 5;

static NAMES: LazyLock<HashMap<String, Map<String, Value>>> = LazyLock::new(|| {
    let all: HashMap<String, Map<String, Value>> = serde_json::from_str(PUBLISHED).unwrap_or_default();
    let names = |mut command: Map<String, Value>| match command.remove("properties") {
        Some(Value::Object(names)) => names,
        _ => Map::new(),
    };
    all.into_iter().map(|(command, about)| (command, names(about))).collect()
});

/// Returns the members of a request that the command does not have. Empty if Telnyx does not publish the command.
pub(super) fn unused(command: &str, body: &Map<String, Value>) -> Unused {
    let Some(names) = NAMES.get(command) else { return Unused::default() };
    let unknown = body.keys().filter(|name| !names.contains_key(*name) && !OWN.contains(&name.as_str()));
    Unused(unknown.take(MAX_NAMES).cloned().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_parameters_of_a_command_are_named() {
        let unused = |command: &str, body: Value| super::unused(command, body.as_object().unwrap()).0;
        assert_eq!(unused("speak", json!({ "payload": "x", "voice": "female", "langauge": "en-US" })), ["langauge"]);
        assert_eq!(unused("hangup", json!({ "client_state": "YQ==", "command_id": "1" })), Vec::<String>::new());
        assert_eq!(unused("dial", json!({ "from_": "+1", "webhook_timeout_secs": 3, "two": 2 })), ["two"]);
        assert_eq!(unused("mute", json!({ "x": 1 })), Vec::<String>::new());
    }
}
