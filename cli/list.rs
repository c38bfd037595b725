//! Code for all commands that print a list. With `--follow`, a command continues to print new and changed rows.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use super::Failure;
use super::ask::{Console, Lines, Server};
use super::paint::{Paint, harmless_json};
use super::table::{Cell, Table};

/// Time between two attempts to connect to the server again.
const RETRY: Duration = Duration::from_secs(1);

/// Maximum number of rows that the command remembers.
const MAX_KNOWN: usize = 10_000;

/// The arguments that every list has.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Continue to print new and changed rows until Ctrl-C
    #[arg(short = 'f', long)]
    follow: bool,
    /// Print JSON instead of a table. With --follow, print one line of JSON for each row. Otherwise print the server's
    /// response
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Describes a list: the request that fetches its rows, and the form in which the rows are printed.
pub(crate) struct List {
    /// Path and query of the request.
    pub(crate) path: String,
    /// Key of the value in the response that contains the rows.
    pub(crate) key: &'static str,
    /// Key of the row in a line of the followed list.
    pub(crate) row_key: &'static str,
    /// Whether the response starts with the newest row. The newest row is always printed last.
    pub(crate) newest_first: bool,
    pub(crate) heads: &'static [&'static str],
    /// Whether a text that is too long for the last cell continues on the next line.
    pub(crate) wraps: bool,
    /// Returns the key that identifies this row.
    pub(crate) name: fn(&Value) -> String,
    pub(crate) row: fn(&Value) -> Vec<Cell>,
    /// Returns the note that is printed below this row.
    pub(crate) note: fn(&Value) -> Option<String>,
    /// Text that is printed for an empty list. The text recommends a next step.
    pub(crate) empty: &'static str,
}

/// Prints a list once, or follows the list.
pub(crate) fn run(arguments: &Options, list: &List) -> Result<(), Failure> {
    super::log("warn");
    let console = arguments.server.console()?;
    super::block_on(async {
        match (arguments.follow, arguments.json) {
            (false, true) => {
                let body = console.get(&list.path).await?;
                print_json(&body);
                Ok(())
            }
            (false, false) => {
                let answer = console.json(&list.path).await?;
                let searched = answer.get("searched").and_then(Value::as_u64);
                let away = away(&answer);
                let rows = rows_of(answer, list);
                if rows.is_empty() {
                    print(&format!("{}\n", list.empty));
                }
                let mut shown = Shown::new(list);
                shown.show(&rows.iter().collect::<Vec<_>>());
                if let Some(searched) = searched {
                    print(&format!("Only the newest {searched} calls were searched for this part.\n"));
                }
                if let Some(away) = away {
                    print(&format!("{away}\n"));
                }
                Ok(())
            }
            (true, json) => follow(&console, list, json).await,
        }
    })?
}

async fn rows(console: &Console, list: &List) -> Result<Vec<Value>, Failure> {
    Ok(rows_of(console.json(&list.path).await?, list))
}

fn rows_of(mut answer: Value, list: &List) -> Vec<Value> {
    let mut rows = match answer.get_mut(list.key).map(Value::take) {
        Some(Value::Array(rows)) => rows,
        _ => Vec::new(),
    };
    if list.newest_first {
        rows.reverse();
    }
    rows
}

/// Prints all rows, and later each row that is new or has changed. If the server is not reachable for some time, the
/// function waits for the server.
async fn follow(console: &Console, list: &List, json: bool) -> Result<(), Failure> {
    let mut shown = Shown::new(list);
    let mut known: HashMap<String, String> = HashMap::new();
    let mut show = |rows: Vec<Value>| {
        let changed = |row: &Value| {
            let now = without_clock(row);
            if known.len() >= MAX_KNOWN {
                // Some rows may be printed again.
                known.clear();
            }
            known.insert((list.name)(row), now.clone()) != Some(now)
        };
        let rows: Vec<Value> = rows.into_iter().filter(changed).collect();
        match json {
            true => rows.iter().for_each(|row| print_json(format!("{row}\n").as_bytes())),
            false => shown.show(&rows.iter().collect::<Vec<_>>()),
        }
    };
    // If the server is not reachable at the start, the command fails. Later, the reason may be a restart, so the
    // command waits.
    let now = rows(console, list).await?;
    if now.is_empty() && !json {
        print(&format!("{}\n", list.empty));
    }
    show(now);
    let path = format!("{}{}follow=true", list.path, if list.path.contains('?') { '&' } else { '?' });
    let mut lines = Some(console.follow(&path).await?);
    loop {
        while let Some(values) = next(&mut lines).await {
            values.iter().filter_map(away).for_each(|away| say_error!("{away}"));
            show(values.into_iter().filter_map(|mut value| value.get_mut(list.row_key).map(Value::take)).collect());
        }
        tokio::time::sleep(RETRY).await;
        lines = match console.follow(&path).await {
            Ok(lines) => Some(lines),
            Err(failure @ Failure::Input(_)) => return Err(failure),
            Err(_) => None,
        };
    }
}

/// Returns a text that names the nodes of the cluster without an answer. `None` if there are none.
pub(crate) fn away(answer: &Value) -> Option<String> {
    let names: Vec<_> = answer.get("away")?.as_array()?.iter().filter_map(Value::as_str).collect();
    (!names.is_empty()).then(|| format!("Without an answer: node {}. Its rows are missing or old.", names.join(", ")))
}

async fn next(lines: &mut Option<Lines>) -> Option<Vec<Value>> {
    lines.as_mut()?.next().await
}

/// Returns the row without the duration of the call. The duration of a live call changes constantly.
fn without_clock(row: &Value) -> String {
    let mut row = row.clone();
    if let Some(fields) = row.as_object_mut() {
        fields.remove("seconds");
    }
    row.to_string()
}

/// A table that is printed to standard output.
struct Shown<'a> {
    list: &'a List,
    table: Table,
    /// The last note that was printed. A note is not repeated below the next row.
    noted: Option<String>,
}

impl<'a> Shown<'a> {
    fn new(list: &'a List) -> Self {
        Self { list, table: Table::new(list.heads, Paint::stdout(), list.wraps), noted: None }
    }

    fn show(&mut self, rows: &[&Value]) {
        if rows.is_empty() {
            return;
        }
        let cells: Vec<_> = rows.iter().map(|row| (self.list.row)(row)).collect();
        let lines = self.table.rows(&cells);
        let (heads, lines) = lines.split_at(lines.len() - rows.len());
        let mut text: String = heads.iter().map(|head| format!("{head}\n")).collect();
        let notes: Vec<_> = rows.iter().map(|row| (self.list.note)(row)).collect();
        for (place, (line, note)) in lines.iter().zip(&notes).enumerate() {
            text.push_str(line);
            text.push('\n');
            // If consecutive rows have the same note, the note is printed only below the last of these rows.
            let repeats = notes.get(place + 1).is_some_and(|next| next == note);
            if let Some(note) = note.as_ref().filter(|note| !repeats && self.noted.as_ref() != Some(*note)) {
                text.push_str(&self.table.note(note));
                text.push('\n');
            }
            if !repeats {
                self.noted.clone_from(note);
            }
        }
        print(&text);
    }
}

/// Prints JSON to standard output. Its texts from outside cannot control the terminal.
pub(crate) fn print_json(json: &[u8]) {
    print(&harmless_json(&String::from_utf8_lossy(json)));
}

/// Prints to standard output and flushes the output. If the reader has closed the output, as `| head` does, the process
/// exits with 0. Any other error ends the process with the exit code of a problem of the environment.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        super::keep_error(Err(error));
        let code = super::written().err().map_or(0, |failure| {
            say_error!("{failure}");
            Failure::ENVIRONMENT
        });
        std::process::exit(code.into());
    }
}

/// Returns the text of a field of a row, or an empty text if the row has no text in this field.
pub fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}
