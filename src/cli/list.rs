//! Code that all lists share: a list is printed once, or followed.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use super::Failure;
use super::ask::{Console, Server};
use super::table::{Cell, Paint, Table};

/// Polling interval of a list that is followed.
const EVERY: Duration = Duration::from_secs(1);

/// The arguments that every list has.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Continue to print new and changed rows until Ctrl-C
    #[arg(short = 'f', long)]
    follow: bool,
    /// Print JSON instead of a table: the server's response, or with --follow one line per row
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// A list: how it is fetched and shown.
pub(crate) struct List {
    /// Path and query of the request.
    pub(crate) path: String,
    /// Key of the response that contains the rows.
    pub(crate) key: &'static str,
    /// Whether the response starts with the newest row; it is printed last.
    pub(crate) newest_first: bool,
    pub(crate) heads: &'static [&'static str],
    /// Whether a last cell that is too long continues on the next line.
    pub(crate) wraps: bool,
    /// Returns the key that identifies a row.
    pub(crate) name: fn(&Value) -> String,
    pub(crate) row: fn(&Value) -> Vec<Cell>,
    /// Returns the note to print below a row.
    pub(crate) note: fn(&Value) -> Option<String>,
    /// Text for an empty list, with advice on what to do next.
    pub(crate) empty: &'static str,
}

/// Prints a list, or follows it.
pub(crate) fn run(arguments: &Options, list: &List) -> Result<(), Failure> {
    super::log("warn");
    let console = arguments.server.console()?;
    super::block_on(async {
        match (arguments.follow, arguments.json) {
            (false, true) => {
                let body = console.get(&list.path).await?;
                print(&String::from_utf8_lossy(&body));
                Ok(())
            }
            (false, false) => {
                let rows = rows(&console, list).await?;
                if rows.is_empty() {
                    print(&format!("{}\n", list.empty));
                }
                let mut shown = Shown::new(list);
                shown.show(&rows.iter().collect::<Vec<_>>());
                Ok(())
            }
            (true, json) => follow(&console, list, json).await,
        }
    })?
}

async fn rows(console: &Console, list: &List) -> Result<Vec<Value>, Failure> {
    let mut answer = console.json(&list.path).await?;
    let mut rows = match answer.get_mut(list.key).map(Value::take) {
        Some(Value::Array(rows)) => rows,
        _ => Vec::new(),
    };
    if list.newest_first {
        rows.reverse();
    }
    Ok(rows)
}

/// Prints rows when they are new or have changed. If the server disappears, the function waits for it to return.
async fn follow(console: &Console, list: &List, json: bool) -> Result<(), Failure> {
    let mut shown = Shown::new(list);
    let mut known: HashMap<String, String> = HashMap::new();
    // A missing server is an error at the start. Later it is taken for a restart.
    let mut now = Some(rows(console, list).await?);
    if now.as_ref().is_some_and(Vec::is_empty) && !json {
        print(&format!("{}\n", list.empty));
    }
    loop {
        if let Some(rows) = now {
            let changed = rows.iter().filter(|row| known.get(&(list.name)(row)) != Some(&without_clock(row)));
            let changed: Vec<&Value> = changed.collect();
            match json {
                true => changed.iter().for_each(|row| print(&format!("{row}\n"))),
                false => shown.show(&changed),
            }
            known = rows.iter().map(|row| ((list.name)(row), without_clock(row))).collect();
        }
        tokio::time::sleep(EVERY).await;
        now = match rows(console, list).await {
            Ok(rows) => Some(rows),
            Err(failure @ Failure::Input(_)) => return Err(failure),
            Err(_) => None,
        };
    }
}

/// Returns a row without the field that changes constantly: the duration of a live call.
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
    /// The latest note; it is not repeated below every row.
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
            // Of several consecutive rows with the same note, only the last one shows it.
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

/// Prints to standard output and flushes. If the reader has closed it (`| head`), the process exits with 0.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Returns a text field of a row; empty if it has none.
pub(crate) fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}
