//! `tandem numbers` lists all numbers and the destinations of their calls.

use serde_json::Value;

use super::Failure;
use super::list::{self, List, text};
use super::paint::Style;
use super::table::{Cell, plain};

/// List the numbers, and where their calls go
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    list: list::Options,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let list = List {
        path: "/console/numbers".to_owned(),
        key: "numbers",
        row_key: "number",
        newest_first: false,
        heads: &["NUMBER", "ACCOUNT", "PROVIDER", "FROM", "CALLS GO TO"],
        wraps: true,
        name: |row| format!("{} {}", text(row, "account"), text(row, "number")),
        row,
        note: |_| None,
        empty: "No numbers. [[numbers]] in the configuration makes one: number, account, voice_url (docs/numbers.md); or `tandem \
                dev URL`.",
    };
    list::run(&arguments.list, &list)
}

fn row(number: &Value) -> Vec<Cell> {
    let to = number.get("goes_to");
    let kind = to.map(|to| text(to, "kind")).unwrap_or_default();
    vec![
        (text(number, "number").to_owned(), Style::Bold),
        plain(text(number, "account")),
        plain(text(number, "provider")),
        (text(number, "source").to_owned(), Style::Dim),
        (
            to.map(|to| text(to, "text")).unwrap_or_default().to_owned(),
            if kind == "nowhere" { Style::Bad } else { Style::Plain },
        ),
    ]
}
