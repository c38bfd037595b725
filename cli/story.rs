//! Formats the JSON of `/console/calls/{id}` as text: the parties of a call, its errors, and its timeline. All commands
//! that show the details of a call use this module.

use std::fmt::Write;

use serde_json::Value;

use super::calls::{is_bad, state};
use super::errors::note;
use super::list::text;
use super::paint::{Paint, Style};
use super::table::{columns, folded, length, time};

/// Maximum number of characters that are shown from the body of an unsuccessful response.
const BODY: usize = 300;

/// Returns the complete text about a call. `sip` is true if the text includes the SIP messages.
pub(crate) fn whole(story: &Value, paint: Paint, sip: bool) -> String {
    let mut out = heads(story, paint);
    out.push_str(&errors(story, paint));
    let lines: Vec<&Value> = rows(story, "timeline").filter(|line| sip || text(line, "kind") != "sip").collect();
    if let Some(first) = rows(story, "timeline").next() {
        let since = format!("seconds since {}{} UTC", first_date(text(first, "at")), clock(text(first, "at")));
        let _ = writeln!(out, "\n{}  {}", paint.text(Style::Bold, "Timeline"), paint.text(Style::Dim, &since));
    }
    for one in lines {
        let _ = writeln!(out, "{}", line(one, paint));
    }
    out.push_str(&requests(story, paint));
    out.push_str(&recordings(story, paint));
    if !sip && rows(story, "timeline").any(|line| text(line, "kind") == "sip") {
        let more = "SIP messages are not shown: use --sip to show them, or `tandem trace` to draw them.";
        let _ = writeln!(out, "\n{}", paint.text(Style::Dim, more));
    }
    out
}

/// Returns the parties of the call, and the end of each leg.
pub(crate) fn heads(story: &Value, paint: Paint) -> String {
    let mut out = String::new();
    for call in rows(story, "calls") {
        let (status, end) = (text(call, "status"), call.get("end").map(|end| text(end, "text")).unwrap_or_default());
        let mut about = vec![text(call, "direction").to_owned()];
        about.extend(Some(text(call, "trunk")).filter(|trunk| !trunk.is_empty()).map(|trunk| format!("trunk {trunk}")));
        about.extend(
            Some(text(call, "source_ip")).filter(|source| !source.is_empty()).map(|source| format!("from {source}")),
        );
        about.extend(Some(text(call, "codec")).filter(|codec| !codec.is_empty()).map(str::to_owned));
        let seconds = call.get("seconds").and_then(Value::as_f64).unwrap_or_default();
        if call.get("answered_at").is_some_and(|at| !at.is_null()) {
            about.push(length(seconds));
        }
        let _ = writeln!(
            out,
            "{:<8}  {}  {} -> {}  {}",
            text(call, "name"),
            paint.text(Style::Accent, text(call, "id")),
            paint.text(Style::Bold, text(call, "from")),
            paint.text(Style::Bold, text(call, "to")),
            paint.text(Style::Dim, &about.join(", ")),
        );
        let style = if is_bad(status, end) { Style::Bad } else { Style::Plain };
        let colon = if end.is_empty() { "" } else { ": " };
        let end = paint.text(style, end);
        let _ = writeln!(out, "          {}{colon}{end}", paint.text(state(status), status));
        if let Some(quality) = call.get("quality").filter(|quality| quality.is_object()) {
            let _ = writeln!(out, "          {}", paint.text(Style::Dim, &audio(quality)));
        }
    }
    out
}

fn audio(quality: &Value) -> String {
    let number = |key: &str| quality.get(key).and_then(Value::as_f64);
    let whole = |key: &str| number(key).unwrap_or_default();
    let mos = number("mos").map_or("-".to_owned(), |mos| format!("{mos:.1}"));
    format!(
        "audio: {} packets in, {} out, {} lost, jitter {:.1} ms, MOS {mos}",
        whole("packets_in"),
        whole("packets_out"),
        whole("lost"),
        whole("jitter_ms"),
    )
}

/// Returns the errors and then the warnings, each with its advice. If several errors have the same advice, this advice is shown only once.
fn errors(story: &Value, paint: Paint) -> String {
    let mut out = String::new();
    let (mut errors, warnings): (Vec<&Value>, Vec<&Value>) =
        rows(story, "errors").partition(|error| text(error, "level") == "error");
    let first_warning = errors.len();
    errors.extend(warnings);
    for (place, error) in errors.iter().enumerate() {
        let (style, mark, title) = if place < first_warning {
            (Style::Bad, "\u{2717}", "What went wrong")
        } else {
            (Style::Warning, "!", "Warnings")
        };
        if place == 0 || place == first_warning {
            let _ = writeln!(out, "\n{}", paint.text(Style::Bold, title));
        }
        let _ = writeln!(out, "  {} {}", paint.text(style, mark), paint.text(style, text(error, "message")));
        // The advice is shown below the last error that has this advice.
        let advice = note(error);
        let again = errors.iter().skip(place + 1).any(|later| note(later) == advice);
        if let Some(advice) = advice.filter(|_| !again) {
            for (line, text) in folded(&advice, columns().unwrap_or(usize::MAX), 4).iter().enumerate() {
                let mark = if line == 0 { "\u{2192}" } else { " " };
                let _ = writeln!(out, "  {} {}", paint.text(Style::Accent, mark), paint.text(Style::Plain, text));
            }
        }
    }
    out
}

/// Returns one line of the timeline.
pub(crate) fn line(line: &Value, paint: Paint) -> String {
    let (kind, content) = (text(line, "kind"), text(line, "text"));
    let failed = failed(content);
    let style = match kind {
        _ if failed => Style::Bad,
        "advice" => Style::Accent,
        "sip" => Style::Dim,
        "webhook" | "request" => exchange_style(content),
        "call" if content.starts_with("warning") => Style::Warning,
        _ => Style::Plain,
    };
    let seconds = line.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    let mark = if kind == "advice" { "\u{2192} " } else { "" };
    format!(
        "  {}  {:<8}  {}  {mark}{}",
        paint.text(Style::Dim, &format!("{seconds:8.3}")),
        text(line, "call"),
        paint.text(Style::Dim, &format!("{kind:<7}")),
        paint.text(style, content),
    )
}

/// Whether a line says that something failed.
fn failed(content: &str) -> bool {
    content.contains(" failed") || content.contains("given up") || content.contains("apologise")
}

/// Returns the style for the line of a webhook or a request, in either direction. The style depends on the status in the line, for example 200 in
/// `POST http://... 200 (12 ms)`. After redirects, only the last response counts.
pub fn exchange_style(content: &str) -> Style {
    if failed(content) {
        return Style::Bad;
    }
    let content = content.rsplit(" -> ").next().unwrap_or(content);
    let status = content.split(' ').filter_map(|word| word.parse::<u16>().ok()).find(|word| (100..600).contains(word));
    match status {
        Some(200..300) => Style::Good,
        Some(_) => Style::Bad,
        None => Style::Plain,
    }
}

/// Returns the requests, in both directions, for which the response was not successful. Each request has the start of
/// the response body.
fn requests(story: &Value, paint: Paint) -> String {
    let mut out = String::new();
    let status =
        |request: &Value| request.get("answer").and_then(|answer| answer.get("status")).and_then(Value::as_u64);
    let refused = rows(story, "requests").filter_map(|request| Some((request, status(request).filter(|s| *s >= 300)?)));
    for (request, status) in refused.take(5) {
        if out.is_empty() {
            let _ = writeln!(out, "\n{}", paint.text(Style::Bold, "Unsuccessful responses"));
        }
        let from = if text(request, "direction") == "received" { "from the application: " } else { "" };
        let answer = request.get("answer");
        let mut what = format!("{from}{} {}", text(request, "method"), text(request, "url"));
        for next in answer.into_iter().flat_map(|answer| rows(answer, "redirects")) {
            let before = next.get("status").and_then(Value::as_u64).unwrap_or_default();
            let _ = write!(what, " {before} -> {} {}", text(next, "method"), text(next, "url"));
        }
        let _ = writeln!(out, "  {}", paint.text(Style::Bad, &format!("{what} {status}")));
        let _ = writeln!(
            out,
            "    {}",
            paint.text(Style::Dim, answer.map(|answer| text(answer, "content_type")).unwrap_or_default())
        );
        let body: String = answer.map(|answer| text(answer, "body")).unwrap_or_default().chars().take(BODY).collect();
        for line in body.lines().filter(|line| !line.trim().is_empty()).take(8) {
            let _ = writeln!(out, "    {}", paint.text(Style::Plain, line));
        }
    }
    out
}

fn recordings(story: &Value, paint: Paint) -> String {
    let mut out = String::new();
    for recording in rows(story, "recordings") {
        if out.is_empty() {
            let _ = writeln!(out, "\n{}", paint.text(Style::Bold, "Recordings"));
        }
        let seconds = recording.get("seconds").and_then(Value::as_f64).map(length).unwrap_or_default();
        let (id, status, path) = (text(recording, "id"), text(recording, "status"), text(recording, "path"));
        let _ =
            writeln!(out, "  {}  {status} {seconds}  {}", paint.text(Style::Accent, id), paint.text(Style::Dim, path));
    }
    out
}

fn rows<'a>(story: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    story.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// Returns the date followed by a space, or an empty text if the date is today.
fn first_date(at: &str) -> String {
    if time(at).len() > 8 { format!("{} ", at.get(..10).unwrap_or_default()) } else { String::new() }
}

/// Returns the time of day with milliseconds.
fn clock(at: &str) -> &str {
    at.get(11..23).or(at.get(11..19)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn story() -> Value {
        json!({
            "session": "s",
            "calls": [{
                "name": "caller", "id": "CA01", "from": "+1555", "to": "600", "direction": "inbound", "status": "completed",
                "seconds": 3.4, "answered_at": "2026-11-23T05:00:00Z",
                "end": { "text": "apologised and hung up: the document failed (http://h/: answered 405)" },
            }],
            "timeline": [
                { "at": "2001-11-23T05:00:00.5Z", "seconds": 0.0, "call": "caller", "kind": "sip", "text": "<- INVITE" },
                { "at": "2001-11-23T05:00:00.5Z", "seconds": 0.1, "call": "caller", "kind": "webhook", "text": "POST http://h/ 405 (2 ms)" },
                { "at": "2001-11-23T05:00:00.5Z", "seconds": 0.1, "call": "caller", "kind": "advice", "text": "Allow POST." },
            ],
            "requests": [{ "method": "POST", "url": "http://h/", "answer": { "status": 405, "content_type": "text/html", "body": "<h1>No\n\n</h1>" } }],
            "recordings": [],
            "errors": [{ "level": "error", "message": "document failed", "advice": "Allow POST.", "page": "p#answered-405" }],
        })
    }

    #[test]
    fn a_story_begins_with_the_failure_and_the_advice() {
        let text = whole(&story(), Paint::plain(), false);
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is not in:\n{text}"));
        assert!(place("apologised and hung up") < place("What went wrong"));
        assert!(place("\u{2717} document failed") < place("\u{2192} Allow POST. (p#answered-405)"));
        assert!(place("(p#answered-405)") < place("Timeline"));
        assert!(place("POST http://h/ 405 (2 ms)") < place("Unsuccessful responses"));
        assert!(place("    <h1>No\n    </h1>") > 0);
        assert!(!text.contains("INVITE") && text.contains("--sip"));
        assert!(whole(&story(), Paint::plain(), true).contains("INVITE"));
    }

    #[test]
    fn warnings_come_after_the_errors_and_have_another_mark() {
        let of = |level: &str| json!({ "level": level, "message": level });
        let text = errors(&json!({ "errors": [of("warning"), of("error")] }), Paint::plain());
        assert_eq!(text, "\nWhat went wrong\n  \u{2717} error\n\nWarnings\n  ! warning\n");
        assert_eq!(errors(&json!({ "errors": [of("warning")] }), Paint::plain()), "\nWarnings\n  ! warning\n");
    }

    #[test]
    fn an_empty_story_has_no_text() {
        assert_eq!(whole(&json!({}), Paint::plain(), false), "");
        assert_eq!(exchange_style("POST http://h/ 200 (1 ms)"), Style::Good);
        assert_eq!(exchange_style("POST http://h/ failed: refused"), Style::Bad);
        assert_eq!(exchange_style("SWML: main.[0].play"), Style::Plain);
    }
}
