//! `tandem signature CALL` shows the signatures that this server sent for a call. It also compares two URLs: the URL that
//! this server signed, and the URL that the application checks.

use std::fmt::Write;

use serde_json::Value;

use super::ask::{Server, escaped};
use super::list::{print, print_json, text};
use super::paint::{Paint, Style};
use super::table::{columns, folded};
use super::{Failure, party};

/// Show the signatures that were sent and their key, to find out why an application answers 403
///
/// Each provider signs in its own way. Most signatures cover the URL. To check a signature, an application builds the URL of the request itself. Behind a reverse proxy or a tunnel, this
/// URL differs from the URL that this server signed. Use --checked with the URL of the application to see the
/// differences.
#[derive(clap::Args)]
pub struct Arguments {
    /// The call: an id of the call in any form, the session id, a number (the newest call from or to it), or "last" for the
    /// newest call
    #[arg(value_name = "CALL", default_value = "last")]
    call: String,
    /// URL that the application checks: the first argument of its request validator
    #[arg(long, value_name = "URL")]
    checked: Option<String>,
    /// Print all information as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Prints the signatures.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    super::log("warn");
    let console = arguments.server.console()?;
    super::block_on(async {
        let call = party::id_of(&console, &arguments.call).await?;
        let mut path = format!("/console/signature?call={}", escaped(&call));
        if let Some(url) = &arguments.checked {
            let _ = write!(path, "&url={}", escaped(url));
        }
        if arguments.json {
            print_json(&console.get(&path).await?);
        } else {
            print(&describe(&console.json(&path).await?, Paint::stdout()));
        }
        Ok(())
    })?
    .map_err(party::explain)
}

fn describe(signed: &Value, paint: Paint) -> String {
    let mut out = String::new();
    let requests: Vec<&Value> = signed.get("requests").and_then(Value::as_array).into_iter().flatten().collect();
    let key = text(signed, "key");
    if requests.is_empty() {
        return format!(
            "The application of this call got no request, so nothing was signed. {}\n",
            text(signed, "check")
        );
    }
    let _ = writeln!(out, "We sign with {}:", paint.text(Style::Bold, key));
    for request in &requests {
        let status = request.get("status").and_then(Value::as_u64);
        let style = match status {
            Some(200..300) => Style::Good,
            _ => Style::Bad,
        };
        let status = status.map_or("no answer".to_owned(), |status| status.to_string());
        let (method, url) = (text(request, "method"), paint.text(Style::Bold, text(request, "url")));
        let _ = writeln!(out, "  {method} {url}  {}", paint.text(style, &status));
        let headers = request.get("headers").and_then(Value::as_array).into_iter().flatten();
        let lines: Vec<String> = headers.map(|header| format!("{}: {}", item(header, 0), item(header, 1))).collect();
        if lines.is_empty() {
            let _ = writeln!(out, "    {}", paint.text(Style::Dim, "sent without a signature"));
        }
        for line in lines {
            let _ = writeln!(out, "    {}", paint.text(Style::Dim, &line));
        }
    }
    match signed.get("comparison").filter(|comparison| comparison.is_object()) {
        Some(comparison) => {
            let _ =
                writeln!(out, "\nYour application checks {}:", paint.text(Style::Bold, text(comparison, "checked")));
            for difference in texts(comparison, "differences") {
                let _ =
                    writeln!(out, "  {} {}", paint.text(Style::Bad, "\u{2717}"), paint.text(Style::Plain, difference));
            }
            advise(&mut out, text(comparison, "advice"), paint);
        }
        None => {
            // The key comes first: it is the only possible cause for many applications.
            advise(&mut out, text(signed, "check"), paint);
            if signed.get("covers_url").and_then(Value::as_bool) == Some(true) {
                describe_urls(&mut out, signed, paint);
            }
        }
    }
    out
}

/// Adds the URLs that the application may check instead of the signed URL, and the command that names the differences.
fn describe_urls(out: &mut String, signed: &Value, paint: Paint) {
    let mut usual = texts(signed, "usual").peekable();
    if usual.peek().is_some() {
        let _ = writeln!(
            out,
            "\nYour application refused a request. If its key is right, it most likely checks one of these URLs instead:"
        );
    }
    for url in usual {
        let _ = writeln!(out, "  {}", paint.text(Style::Plain, url));
    }
    let advice = format!(
        "Print the URL that your application gives to its validator: `tandem signature {} --checked URL` then names the \
         differences.",
        text(signed, "session")
    );
    advise(out, &advice, paint);
}

/// Adds a paragraph of advice.
fn advise(out: &mut String, advice: &str, paint: Paint) {
    let _ = writeln!(out);
    for (place, line) in folded(advice, columns().unwrap_or(usize::MAX), 4).iter().enumerate() {
        let mark = if place == 0 { "\u{2192}" } else { " " };
        let _ = writeln!(out, "{} {}", paint.text(Style::Accent, mark), paint.text(Style::Plain, line));
    }
}

/// Returns the texts of an array.
fn texts<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    object.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Returns a text in an array.
fn item(array: &Value, place: usize) -> &str {
    array.get(place).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_different_host_is_reported_with_advice() {
        let signed = json!({
            "session": "s", "key": "the auth token of AC1",
            "requests": [{ "method": "POST", "url": "http://127.0.0.1:5000/voice", "status": 403, "headers": [["X-A-Signature", "x="]] }],
            "comparison": {
                "signed": "http://127.0.0.1:5000/voice", "checked": "https://abc.example/voice",
                "differences": ["host: \"127.0.0.1\" was signed, you check \"abc.example\""], "advice": "Do this.",
            },
        });
        let text = describe(&signed, Paint::plain());
        assert!(text.starts_with(
            "We sign with the auth token of AC1:\n  POST http://127.0.0.1:5000/voice  403\n    X-A-Signature: x=\n"
        ));
        assert!(text.contains("Your application checks https://abc.example/voice:\n  \u{2717} host: \"127.0.0.1\""));
        assert!(text.ends_with("\u{2192} Do this.\n"));
    }

    #[test]
    fn signatures_without_the_url_and_unsigned_requests_are_marked() {
        let signed = json!({
            "session": "s", "key": "the key K", "covers_url": false, "check": "Check the body with K.", "usual": [],
            "requests": [
                { "method": "POST", "url": "http://h/hook", "status": 403, "headers": [["telnyx-timestamp", "1"]] },
                { "method": "GET", "url": "http://h/data", "status": 200, "headers": [] },
            ],
        });
        let text = describe(&signed, Paint::plain());
        assert!(
            text.contains("    telnyx-timestamp: 1\n") && text.contains("200\n    sent without a signature\n"),
            "{text}"
        );
        assert!(text.ends_with("\u{2192} Check the body with K.\n") && !text.contains("--checked"), "{text}");
    }
}
