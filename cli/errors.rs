//! `tandem errors` lists recent errors, each with advice.

use anyhow::anyhow;
use serde_json::Value;
use tandem_causes::Cause;

use super::ask::escaped;
use super::calls::short;
use super::list::{self, List, text};
use super::paint::Style;
use super::table::{Cell, plain, time};
use super::{Failure, env};

/// List recent errors, with advice for each
///
/// The newest error is the last line. docs/troubleshooting.md explains each cause.
#[derive(clap::Args)]
pub struct Arguments {
    /// Show only this cause; docs/troubleshooting.md has the names of the causes
    #[arg(long, value_name = "CAUSE")]
    cause: Option<String>,
    /// Show only this level: error or warning
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// Maximum number of errors
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    list: list::Options,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(wrong) = arguments.cause.as_deref().filter(|id| Cause::of_id(id).is_none()) {
        return Err(Failure::Input(anyhow!("--cause: {}", unknown_cause(wrong))));
    }
    let mut path = format!("/console/errors?limit={}", arguments.limit);
    for (name, value) in [("cause", &arguments.cause), ("level", &arguments.level)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    let list = List {
        path,
        key: "errors",
        row_key: "error",
        newest_first: true,
        heads: &["TIME (UTC)", "CALL", "CAUSE", "WHAT HAPPENED"],
        wraps: true,
        name: |row| text(row, "id").to_owned(),
        row,
        note,
        empty: "No errors. `tandem errors -f` shows errors as they occur.",
    };
    list::run(&arguments.list, &list)
}

/// Returns the error message for an id that no cause has. The message names similar causes. If no cause is similar, the
/// message names all causes.
pub fn unknown_cause(id: &str) -> String {
    let words: Vec<&str> = id.split('-').filter(|word| word.len() > 2).collect();
    let all = || Cause::ALL.into_iter().map(Cause::id);
    let mut near: Vec<&str> = all().filter(|known| words.iter().any(|word| known.contains(word))).collect();
    if near.is_empty() {
        near = all().collect();
    }
    format!("unknown cause {id:?}; there are: {} (docs/troubleshooting.md)", near.join(", "))
}

fn row(error: &Value) -> Vec<Cell> {
    let style = if text(error, "level") == "error" { Style::Bad } else { Style::Warning };
    let code = error.get("code").and_then(Value::as_u64).map(|code| code.to_string());
    let cause = match text(error, "cause") {
        "" => code.unwrap_or_else(|| text(error, "level").to_owned()),
        cause => cause.to_owned(),
    };
    let call = short(text(error, "call"));
    vec![
        (time(text(error, "at")), Style::Dim),
        (if call.is_empty() { "-".to_owned() } else { call }, Style::Accent),
        (cause, style),
        plain(text(error, "message")),
    ]
}

/// Returns the advice for an error, together with the page of the documentation that explains the error.
pub(crate) fn note(error: &Value) -> Option<String> {
    let advice = text(error, "advice");
    let sip_call_id = error.get("request").map(|request| text(request, "sip_call_id")).unwrap_or_default();
    let trace = match sip_call_id {
        "" => String::new(),
        id => format!(" `tandem trace {}` shows its messages.", env::quoted(id)),
    };
    (!advice.is_empty()).then(|| format!("{advice} ({}){trace}", text(error, "page")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_cause_is_reported_with_similar_causes() {
        let text = unknown_cause("trunk-quiet");
        assert!(text.contains("trunk-silent, trunk-refused") && !text.contains("stream-"), "{text}");
        assert!(unknown_cause("nonsense").contains("connection-refused, "), "all of them");
    }
}
