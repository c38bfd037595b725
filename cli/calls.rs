//! `tandem calls` lists live and recent calls.

use serde_json::Value;

use super::Failure;
use super::ask::escaped;
use super::list::{self, List, text};
use super::paint::Style;
use super::table::{Cell, length, plain, time};

/// Number of digits of an id that a table shows. These digits are enough to distinguish calls, and `tandem show`
/// accepts them.
const SHORT: usize = 16;

/// List live and recent calls
///
/// The newest call is the last line. `tandem show CALL` shows all details of one call. `tandem show last` shows all
/// details of the newest call. A part of an id is sufficient.
#[derive(clap::Args)]
pub struct Arguments {
    /// Show only calls in this state: live, ended, completed, failed, busy, no-answer, canceled, in-progress, ringing
    #[arg(long, value_name = "STATE")]
    status: Option<String>,
    /// Show only calls from this number or address, or from numbers that contain this text
    ///
    /// If no call is from exactly this number or address, the newest 20,000 calls are searched for the text. So 4930555
    /// finds +4930555100.
    #[arg(long, value_name = "WHO")]
    from: Option<String>,
    /// Show only calls to this number or address, or to numbers that contain this text (see --from)
    #[arg(long, value_name = "WHO")]
    to: Option<String>,
    /// Maximum number of calls
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    list: list::Options,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut path = format!("/console/calls?limit={}", arguments.limit);
    for (name, value) in [("status", &arguments.status), ("from", &arguments.from), ("to", &arguments.to)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    let filtered = arguments.status.is_some() || arguments.from.is_some() || arguments.to.is_some();
    let list = List {
        path,
        key: "calls",
        row_key: "call",
        newest_first: true,
        heads: &["TIME (UTC)", "CALL", "", "FROM", "TO", "STATE", "LENGTH", "HOW IT ENDED"],
        wraps: false,
        name: |row| text(row, "id").to_owned(),
        row,
        note: |_| None,
        empty: if filtered {
            "No such call. `tandem errors` lists calls that were refused because their number or their caller is unknown."
        } else {
            "No call yet. Call one of the numbers that `tandem numbers` lists; `tandem calls -f` shows calls as they arrive."
        },
    };
    list::run(&arguments.list, &list)
}

fn row(call: &Value) -> Vec<Cell> {
    let status = text(call, "status");
    let way = match text(call, "direction") {
        "inbound" => "in",
        "outbound-dial" => "dial",
        _ => "out",
    };
    let end = call.get("end").map(|end| text(end, "text")).unwrap_or_default();
    let seconds = call.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    vec![
        (time(text(call, "created_at")), Style::Dim),
        (short(text(call, "id")), Style::Accent),
        (way.to_owned(), Style::Dim),
        plain(text(call, "from")),
        plain(text(call, "to")),
        match (call.get("lacks_audio").and_then(Value::as_bool), problem(call)) {
            (Some(true), _) => (format!("{status}, no audio"), Style::Bad),
            (_, Some((cause, style))) => (format!("{status}, {cause}"), style),
            _ => (status.to_owned(), state(status)),
        },
        plain(if call.get("answered_at").is_some_and(|at| !at.is_null()) { length(seconds) } else { String::new() }),
        (end.to_owned(), if is_bad(status, end) { Style::Bad } else { Style::Dim }),
    ]
}

/// Shortens an id to the form that a table shows.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(SHORT).collect()
}

/// Returns the style for a state.
pub(crate) fn state(status: &str) -> Style {
    match status {
        "in-progress" => Style::Good,
        "failed" => Style::Bad,
        "busy" | "no-answer" | "canceled" => Style::Warning,
        "completed" => Style::Plain,
        _ => Style::Accent,
    }
}

/// Returns the cause of an error that was reported for a call, or else of a warning, and its style.
fn problem(call: &Value) -> Option<(&str, Style)> {
    let problems = call.get("problems").and_then(Value::as_array)?;
    let error = problems.iter().find(|problem| text(problem, "level") == "error");
    let style = if error.is_some() { Style::Bad } else { Style::Warning };
    error.or_else(|| problems.first()).map(|problem| (text(problem, "cause"), style))
}

/// Returns whether the call failed, or ended with an error message because of a failure. The operator should
/// investigate such a call.
pub(crate) fn is_bad(status: &str, end: &str) -> bool {
    status == "failed" || end.starts_with("apologised")
}
