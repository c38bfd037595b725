//! `tandem trunks` lists the state of the trunks to carriers and PBXs.

use serde_json::Value;

use super::Failure;
use super::list::{self, List, text};
use super::paint::Style;
use super::table::{Cell, plain};

/// List the trunks with their limits, and show whether each trunk takes calls. If a trunk takes no calls, the reason is
/// shown
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    list: list::Options,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let list = List {
        path: "/console/trunks".to_owned(),
        key: "trunks",
        row_key: "trunk",
        newest_first: false,
        heads: &["TRUNK", "HEALTH", "CALLS", "REGISTRATION", "WHERE", "PREFIXES", "WHY"],
        wraps: true,
        name: |row| text(row, "name").to_owned(),
        row,
        note: |trunk| {
            let advice = text(trunk, "advice");
            (!advice.is_empty()).then(|| format!("{advice} (docs/troubleshooting.md#{})", text(trunk, "cause")))
        },
        empty: "No trunks. Add [[trunks]] to the configuration with name, uri, prefixes and inbound_from (docs/trunks.md).",
    };
    list::run(&arguments.list, &list)
}

fn row(trunk: &Value) -> Vec<Cell> {
    let health = text(trunk, "health");
    let number = |key: &str| trunk.get(key).and_then(Value::as_u64);
    let calls = match (number("live_calls").unwrap_or_default(), number("max_calls")) {
        (calls, Some(limit)) => format!("{calls} of {limit}"),
        (calls, None) => calls.to_string(),
    };
    let registration = match (text(trunk, "registration"), number("registration_status")) {
        ("none", _) => "-".to_owned(),
        (state, Some(status)) => format!("{state} ({status})"),
        (state, None) => state.to_owned(),
    };
    let prefixes = trunk.get("prefixes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let prefixes: Vec<&str> = prefixes.iter().filter_map(Value::as_str).collect();
    let why = match text(trunk, "since") {
        "" => text(trunk, "reason").to_owned(),
        since => format!("{}, since {}", text(trunk, "reason"), super::table::time(since)),
    };
    let refused = registration.starts_with("refused") || registration == "unanswered";
    vec![
        (text(trunk, "name").to_owned(), Style::Bold),
        (
            health.to_owned(),
            match health {
                "up" => Style::Good,
                "down" => Style::Bad,
                _ => Style::Warning,
            },
        ),
        plain(calls),
        (registration, if refused { Style::Bad } else { Style::Plain }),
        plain(match text(trunk, "uri") {
            "" => "incoming calls only",
            uri => uri,
        }),
        plain(prefixes.join(" ")),
        (why, Style::Dim),
    ]
}
