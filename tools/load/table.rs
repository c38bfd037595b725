//! The report as a table. The table contains the important values of the JSON report. The table for one run has one
//! value in each line. The table for several runs has one run in each row.

use std::fmt::Write as _;

use serde_json::Value;

/// Returns the table for one run, for a curve or for a search.
pub(super) fn of(report: &Value) -> String {
    match text(report, "mode").as_str() {
        "curve" => rows(report),
        "search" => steps(report),
        _ => lines(report),
    }
}

/// The lines of the table for one run. A line without a value is left out.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: String) {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(self.0, "  {name:<17}{value}");
        }
    }
}

/// Returns the table for one run, with one value in each line.
fn lines(report: &Value) -> String {
    let mut lines = Lines::default();
    let held = text(report, "mode") == "held";
    calls(report, held, &mut lines);
    media(at(report, &["media"]), &mut lines);
    streams(at(report, &["streams"]), &mut lines);
    lines.add("generator late", spread(at(report, &["media", "generator_late_ms"])));
    cpu(at(report, &["cpu"]), held, &mut lines);
    let machine = at(report, &["machine"]);
    lines.add(
        "machine",
        format!(
            "{} cores; the generator used {}, others {}",
            text(machine, "cores"),
            text(machine, "generator_cores"),
            text(machine, "others_cores")
        ),
    );
    lines.0
}

/// Adds the results of the calls and the delays of their messages.
fn calls(report: &Value, held: bool, lines: &mut Lines) {
    let how = if held {
        format!("together for {} s", text(report, "seconds"))
    } else {
        format!("{} a second", text(report, "cps"))
    };
    let clean = if at(report, &["clean"]) == &Value::Bool(true) { ", clean" } else { ", not clean" };
    lines.add(
        "calls",
        format!(
            "{} of {} well, {how}, at most {} at a time{clean}",
            text(report, "ok"),
            text(report, "calls"),
            text(report, "most_at_a_time")
        ),
    );
    if let Value::Object(failures) = at(report, &["failures"]) {
        let all: Vec<String> = failures.iter().map(|(why, count)| format!("{why}: {count}")).collect();
        lines.add("failed", all.join(", "));
    }
    lines.add(
        "repeated, late",
        format!("{} messages, {} calls", text(report, "retransmissions"), text(report, "started_late")),
    );
    lines.add("post-dial delay", spread(at(report, &["post_dial_delay_ms"])));
    lines.add("added delay", spread(at(report, &["added_delay_ms"])));
}

/// Adds the RTP packets in both directions.
fn media(media: &Value, lines: &mut Lines) {
    for (name, direction) in [("to the answerer", "to_answerer"), ("to the caller", "to_caller")] {
        let direction = at(media, &[direction]);
        if number(at(direction, &["received"])).is_some_and(|received| received > 0.0) {
            let delay = match spread(at(direction, &["latency_ms"])) {
                delay if delay.is_empty() => delay,
                delay => format!("; one way {delay}"),
            };
            lines
                .add(name, format!("{} packets, {} lost{delay}", text(direction, "received"), text(direction, "lost")));
        }
    }
    lines.add("media connected", spread(at(media, &["connected_ms"])));
    lines.add("first audio", spread(at(media, &["first_audio_ms"])));
    if number(at(media, &["dropped_here"])).is_some_and(|dropped| dropped > 0.0) {
        lines.add(
            "dropped here",
            format!("{} packets found the generator's own sockets full", text(media, "dropped_here")),
        );
    }
}

/// Adds the media streams that the server opened.
fn streams(streams: &Value, lines: &mut Lines) {
    if let Value::Object(_) = streams {
        let stamps = at(streams, &["stamps"]);
        lines.add(
            "streams",
            format!(
                "{}, {} messages, {} dropped",
                text(streams, "streams"),
                text(streams, "messages"),
                text(streams, "dropped")
            ),
        );
        lines.add(
            "packets",
            format!(
                "{} sent, {} found, {} missing between, {} before or after; {} ms cut, {} ms added",
                text(stamps, "sent"),
                text(stamps, "found"),
                text(stamps, "missing_between"),
                text(stamps, "before_or_after"),
                text(stamps, "audio_cut_ms"),
                text(stamps, "audio_added_ms")
            ),
        );
        lines.add("to their message", spread(at(streams, &["packet_to_message_ms"])));
        lines.add("than the fastest", spread(at(streams, &["later_than_fastest_ms"])));
        lines.add("the sink's own", spread(at(streams, &["generator_late_ms"])));
    }
}

/// Adds the CPU time and the memory of the server.
fn cpu(cpu: &Value, held: bool, lines: &mut Lines) {
    if let Value::Object(_) = cpu {
        let (name, each) = if held { ("ms_a_call_and_second", "call and second") } else { ("ms_a_call", "call") };
        lines.add(
            "CPU",
            format!("{} ms a {each}, {} ms in all, {} cores", text(cpu, name), text(cpu, "ms"), text(cpu, "cores")),
        );
        let each = if held { format!(", {} KiB a call", text(cpu, "pss_kb_a_call")) } else { String::new() };
        lines.add(
            "memory",
            format!(
                "{} KiB before, {} at the end, {} at most{each}",
                text(cpu, "rss_before_kb"),
                text(cpu, "rss_kb"),
                text(cpu, "most_rss_kb")
            ),
        );
    }
}

/// Returns the table for a curve, with one row for each run.
fn rows(report: &Value) -> String {
    let mut table = String::from(
        "   calls   failed   CPU ms a call and s   KiB a call      lost   one way p50      p99      max ms   others' cores\n",
    );
    for run in at(report, &["runs"]).as_array().into_iter().flatten() {
        let ways = [at(run, &["media", "to_answerer"]), at(run, &["media", "to_caller"])];
        let lost: f64 = ways.iter().filter_map(|direction| number(at(direction, &["lost"]))).sum();
        let worst = |name: &str| {
            let all = ways.iter().filter_map(|direction| number(at(direction, &["latency_ms", name])));
            all.reduce(f64::max).map_or_else(|| "-".to_owned(), |worst| format!("{worst:.2}"))
        };
        let _ = writeln!(
            table,
            "{:>8} {:>8} {:>21} {:>12} {lost:>9} {:>13} {:>8} {:>11} {:>15}",
            text(run, "calls"),
            text(run, "failed"),
            text(at(run, &["cpu"]), "ms_a_call_and_second"),
            text(at(run, &["cpu"]), "pss_kb_a_call"),
            worst("p50"),
            worst("p99"),
            worst("max"),
            text(at(run, &["machine"]), "others_cores"),
        );
    }
    table
}

fn steps(report: &Value) -> String {
    let mut table = String::from("  calls a second   clean   failed   repeated   begun late\n");
    for step in at(report, &["steps"]).as_array().into_iter().flatten() {
        let clean = if at(step, &["clean"]) == &Value::Bool(true) { "yes" } else { "no" };
        let _ = writeln!(
            table,
            "{:>16} {clean:>7} {:>8} {:>10} {:>12}",
            text(step, "cps"),
            text(step, "failed"),
            text(step, "retransmissions"),
            text(step, "started_late")
        );
    }
    let _ = writeln!(table, "  highest clean rate: {} calls a second; there:", text(report, "most_clean_cps"));
    if let best @ Value::Object(_) = at(report, &["at_most"]) {
        table.push_str(&lines(best));
    }
    table
}

/// Returns the percentiles in ms, or an empty text if there are no measured values.
fn spread(figures: &Value) -> String {
    let Value::Object(_) = figures else { return String::new() };
    let [middle, p99, last] = ["p50", "p99", "max"].map(|name| text(figures, name));
    format!("p50 {middle}, p99 {p99}, max {last} ms")
}

fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// Returns a value as text, or a dash if the value does not exist.
fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run() -> Value {
        json!({
            "mode": "held", "seconds": 5, "calls": 2, "ok": 1, "failed": 1, "failures": { "503": 1 }, "clean": false, "most_at_a_time": 2,
            "retransmissions": 3, "started_late": 0, "post_dial_delay_ms": null,
            "added_delay_ms": { "n": 1, "min": 1.0, "p50": 1.5, "p95": 2.0, "p99": 2.5, "max": 3.0 },
            "media": { "to_answerer": { "sent": 10, "received": 9, "lost": 1, "latency_ms": { "p50": 4.0, "p99": 5.0, "max": 6.25 } } },
            "cpu": { "ms": 10, "ms_a_call_and_second": 0.5, "pss_kb_a_call": 60.5, "cores": 0.1, "rss_before_kb": 1, "rss_kb": 2, "most_rss_kb": 3 },
            "machine": { "cores": 2, "generator_cores": 0.2, "others_cores": 0.1 },
        })
    }

    #[test]
    fn the_table_of_a_run_has_no_empty_lines() {
        let table = of(&run());
        for said in [
            "1 of 2 well",
            "not clean",
            "503: 1",
            "added delay      p50 1.5, p99 2.5, max 3.0 ms",
            "9 packets, 1 lost",
            "60.5 KiB a call",
        ] {
            assert!(table.contains(said), "{said} in\n{table}");
        }
        assert!(!table.contains("post-dial") && !table.contains("streams"), "{table}");
    }

    #[test]
    fn a_curve_has_a_row_per_run_and_a_search_a_row_per_step() {
        let curve = of(&json!({ "mode": "curve", "runs": [run(), run()] }));
        assert_eq!(curve.lines().count(), 3);
        assert!(
            curve
                .lines()
                .nth(1)
                .unwrap()
                .split_whitespace()
                .eq(["2", "1", "0.5", "60.5", "1", "4.00", "5.00", "6.25", "0.1"])
        );
        let step = json!({ "cps": 400.0, "clean": true, "failed": 0, "retransmissions": 0, "started_late": 0 });
        let search = of(&json!({ "mode": "search", "most_clean_cps": 400.0, "steps": [step], "at_most": null }));
        assert!(search.contains("yes") && search.contains("highest clean rate: 400.0"), "{search}");
    }
}
