//! The results of the tests: one line a test, a transcript of each failed test, and reports for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use tandem_cli::Failure;
use tandem_cli::paint::{Paint, Style, harmless};

use super::log::Entry;

/// The result of one test.
pub(super) struct Outcome {
    file: String,
    name: String,
    /// The reason of the failure. `None` if the test passed.
    pub(super) failure: Option<String>,
    /// The reason why the application was not reached.
    pub(super) unreachable: Option<String>,
    pub(super) real: Duration,
    pub(super) virtual_time: Duration,
    pub(super) requests: u32,
    pub(super) log: Vec<Entry>,
}

impl Outcome {
    pub(super) fn new(file: &str, name: &str) -> Self {
        Self {
            file: file.to_owned(),
            name: name.to_owned(),
            failure: None,
            unreachable: None,
            real: Duration::ZERO,
            virtual_time: Duration::ZERO,
            requests: 0,
            log: Vec::new(),
        }
    }

    fn milliseconds(&self) -> f64 {
        (self.real.as_secs_f64() * 10_000.0).round() / 10.0
    }

    fn transcript(&self) -> String {
        let mut text = String::new();
        for entry in &self.log {
            let _ = writeln!(text, "{}", entry.line());
        }
        text
    }

    fn report(&self) -> Value {
        json!({
            "file": self.file,
            "name": self.name,
            "passed": self.failure.is_none(),
            "failure": self.failure,
            "milliseconds": self.milliseconds(),
            "virtual_seconds": self.virtual_time.as_secs_f64(),
            "requests": self.requests,
            "transcript": self.log.iter().map(Entry::report).collect::<Vec<_>>(),
        })
    }
}

/// The results of all tests.
pub(super) struct Report {
    json: bool,
    verbose: bool,
    paint: Paint,
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(json: bool, verbose: bool) -> Self {
        let paint = if json { Paint::for_stream(&std::io::stderr()) } else { Paint::stdout() };
        Self { json, verbose, paint, outcomes: Vec::new() }
    }

    /// Adds a result, and prints its line.
    pub(super) fn add(&mut self, outcome: Outcome) {
        let word = match outcome.failure {
            None => self.paint.text(Style::Good, "ok    "),
            Some(_) => self.paint.text(Style::Bad, "FAILED"),
        };
        let (calls, time) = (outcome.requests, outcome.virtual_time.as_secs_f64());
        let mut text = format!(
            "{word}  {}  ({} ms; {time:.1} s of the call, {calls} requests)",
            harmless(&outcome.name),
            outcome.milliseconds()
        );
        if self.verbose || outcome.failure.is_some() {
            for line in outcome.transcript().lines() {
                let _ = write!(text, "\n    {}", harmless(line));
            }
            for failure in outcome.failure.iter().flat_map(|failure| failure.lines()) {
                let _ = write!(text, "\n    {}", self.paint.text(Style::Bad, failure));
            }
        }
        self.print(&text);
        self.outcomes.push(outcome);
    }

    fn print(&self, text: &str) {
        if self.json {
            tandem_cli::say_error!("{text}");
        } else {
            tandem_cli::say!("{text}");
        }
    }

    /// Prints the sum of the results, and writes the reports.
    ///
    /// # Errors
    /// Returns an error if a test failed, or if a report cannot be written.
    pub(super) fn finish(self, junit: Option<&Path>) -> Result<(), Failure> {
        if let Some(path) = junit {
            std::fs::write(path, self.junit())
                .with_context(|| format!("--junit: {}", path.display()))
                .map_err(Failure::Environment)?;
        }
        let (all, failed) = (self.outcomes.len(), self.outcomes.iter().filter(|one| one.failure.is_some()).count());
        if self.json {
            let tests: Vec<Value> = self.outcomes.iter().map(Outcome::report).collect();
            let report = json!({ "passed": failed == 0, "tests": tests });
            tandem_cli::say!("{report:#}");
        }
        if let Some(why) = self.outcomes.iter().find_map(|one| one.unreachable.as_ref()) {
            return Err(Failure::Environment(anyhow!(
                "the application was not reached: {why}: start it, or set its address with --base-url"
            )));
        }
        match failed {
            0 => self.print(&format!("{all} passed")),
            failed => {
                return Err(Failure::Input(anyhow!("{failed} of {all} tests failed; their transcripts are above")));
            }
        }
        Ok(())
    }

    /// Returns the results in the format of JUnit.
    fn junit(&self) -> String {
        let seconds = |time: Duration| format!("{:.4}", time.as_secs_f64());
        let failed = self.outcomes.iter().filter(|one| one.failure.is_some()).count();
        let time = seconds(self.outcomes.iter().map(|one| one.real).sum());
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"tandem test\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" time=\"{time}\">\n",
            self.outcomes.len()
        );
        for one in &self.outcomes {
            let (file, name) = (escaped(&one.file), escaped(&one.name));
            let _ = write!(text, "<testcase classname=\"{file}\" name=\"{name}\" time=\"{}\"", seconds(one.real));
            match &one.failure {
                None => text.push_str("/>\n"),
                Some(why) => {
                    let (why, transcript) = (escaped(why), escaped(&one.transcript()));
                    let _ = write!(text, ">\n<failure message=\"{why}\">{transcript}</failure>\n</testcase>\n");
                }
            }
        }
        text.push_str("</testsuite>\n</testsuites>\n");
        text
    }
}

/// Returns a text for XML. Characters that XML cannot contain are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(one),
            one if one < ' ' || matches!(one, '\u{fffe}' | '\u{ffff}') => {}
            one => escaped.push(one),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::log::Fact;

    #[test]
    fn a_junit_report_has_a_case_for_each_test_and_is_valid_xml() {
        let mut report = Report::new(true, false);
        report.add(Outcome::new("ivr.toml", "passes"));
        let mut failed = Outcome::new("ivr.toml", "a < b & \"c\"");
        failed.failure = Some("expected \"x\"".to_owned());
        let (at, party) = (Duration::from_millis(1500), "caller".to_owned());
        failed.log.push(Entry { at, party, text: "hears <Say>\u{1}".to_owned(), fact: Fact::Note });
        report.add(failed);
        let text = report.junit();
        assert!(text.contains("tests=\"2\" failures=\"1\""), "{text}");
        assert!(text.contains("<testcase classname=\"ivr.toml\" name=\"passes\" time=\"0.0000\"/>"), "{text}");
        assert!(text.contains("name=\"a &lt; b &amp; &quot;c&quot;\""), "{text}");
        assert!(
            text.contains("    1.500  caller hears &lt;Say&gt;</failure>")
                || text.contains("1.500  caller hears &lt;Say&gt;\n"),
            "{text}"
        );
        assert!(matches!(report.finish(None), Err(Failure::Input(_))));
    }
}
