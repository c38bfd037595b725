//! `tandem phones`: who may register, and who is registered.

use serde_json::Value;

use super::Failure;
use super::list::{self, List, text};
use super::table::{Cell, Style, plain, time};

/// List the phones: who is registered, and from where
///
/// A phone with a wrong password is in `tandem errors`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    list: list::Options,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let list = List {
        path: "/console/phones".to_owned(),
        key: "phones",
        newest_first: false,
        heads: &["USER", "ACCOUNT", "STATE", "FROM", "OVER", "UNTIL", "PHONE"],
        wraps: false,
        name: |row| format!("{} {}", text(row, "account"), text(row, "uri")),
        row,
        note: |_| None,
        empty: "No phones. [[endpoints]] in the configuration makes one: account, username, password (docs/phones.md).",
    };
    list::run(&arguments.list, &list)
}

fn row(phone: &Value) -> Vec<Cell> {
    let name = match text(phone, "domain") {
        "" => text(phone, "username").to_owned(),
        domain => format!("{}@{domain}", text(phone, "username")),
    };
    let contacts = phone.get("contacts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let registered = !contacts.is_empty();
    let of = |key: &str| contacts.iter().map(|contact| text(contact, key).to_owned()).collect::<Vec<_>>().join(", ");
    let until = contacts.iter().map(|contact| time(text(contact, "expires_at"))).max();
    vec![
        (name, if registered { Style::Bold } else { Style::Plain }),
        plain(text(phone, "account")),
        match registered {
            true => ("registered".to_owned(), Style::Good),
            false => ("not there".to_owned(), Style::Warning),
        },
        plain(of("source")),
        plain(of("transport")),
        (until.unwrap_or_default(), Style::Dim),
        (of("user_agent"), Style::Dim),
    ]
}
