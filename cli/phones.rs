//! `tandem phones` lists the phones that may register, and shows their registrations.

use serde_json::Value;

use super::Failure;
use super::list::{self, List, text};
use super::paint::Style;
use super::table::{Cell, plain, time};

/// List the phones, and show which phones are registered and from which address
///
/// If a registration of a user was refused since the start of the server, the last refusal is shown below the user.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    list: list::Options,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let list = List {
        path: "/console/phones".to_owned(),
        key: "phones",
        row_key: "phone",
        newest_first: false,
        heads: &["USER", "ACCOUNT", "STATE", "FROM", "OVER", "UNTIL", "PHONE"],
        wraps: false,
        name: |row| format!("{} {}", text(row, "account"), text(row, "uri")),
        row,
        note: last_refusal,
        empty: "No phones. Add [[endpoints]] to the configuration with account, username and password (docs/phones.md).",
    };
    list::run(&arguments.list, &list)
}

/// Returns a description of the last refused registration of a user, with the time, the source address and the reason.
fn last_refusal(phone: &Value) -> Option<String> {
    let last = phone.get("last_refusal").filter(|last| last.is_object())?;
    let count = last.get("count").and_then(Value::as_u64).unwrap_or_default();
    let others = if count > 1 { format!(" ({count} refusals since the start)") } else { String::new() };
    Some(format!(
        "{} refused at {} UTC from {} {}: {}{others}",
        text(last, "method"),
        time(text(last, "at")),
        text(last, "source"),
        text(last, "transport"),
        text(last, "reason"),
    ))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_refusal_of_a_user_has_its_time_source_and_reason() {
        let last = json!({
            "at": "2001-11-23T08:37:37Z", "method": "REGISTER", "source": "192.0.2.1:5060", "transport": "UDP",
            "reason": "wrong password", "count": 3
        });
        let text = last_refusal(&json!({ "username": "desk", "last_refusal": last })).unwrap();
        assert!(text.starts_with("REGISTER refused at ") && text.contains("11-23 08:37 UTC"), "{text}");
        assert!(text.ends_with("from 192.0.2.1:5060 UDP: wrong password (3 refusals since the start)"), "{text}");
        assert_eq!(last_refusal(&json!({ "username": "desk", "last_refusal": null })), None);
    }
}
