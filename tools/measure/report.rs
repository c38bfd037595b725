//! The measurements of all calls as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::talk::Measured;
use super::waveform::Stop;
use crate::load::figures::Figures;

/// Collects the measurements.
pub(super) struct Report {
    target: String,
    noise: Option<i16>,
    echo: Option<i16>,
    calls: usize,
    answers: Figures,
    answered: usize,
    missing: usize,
    unmeasured: usize,
    stops: Figures,
    went_on: usize,
    was_silent: usize,
    details: Vec<Value>,
}

impl Report {
    pub(super) fn new(target: &str, noise: Option<i16>, echo: Option<i16>) -> Self {
        Self {
            target: target.to_owned(),
            noise,
            echo,
            calls: 0,
            answers: Figures::default(),
            answered: 0,
            missing: 0,
            unmeasured: 0,
            stops: Figures::default(),
            went_on: 0,
            was_silent: 0,
            details: Vec::new(),
        }
    }

    /// Adds the measurements of a call.
    pub(super) fn add(&mut self, measured: Measured) {
        self.calls += 1;
        self.unmeasured += measured.unmeasured;
        for (name, answer) in &measured.answers {
            match answer {
                Some(ms) => {
                    self.answers.add(*ms as f64);
                    self.answered += 1;
                }
                None => self.missing += 1,
            }
            self.details.push(json!({ "call": self.calls, "question": name, "answer_ms": answer }));
        }
        for (name, stop) in &measured.stops {
            let (ms, result) = match stop {
                Stop::After(ms) => (Some(*ms), "stopped"),
                Stop::WentOn => (None, "went-on"),
                Stop::WasSilent => (None, "was-silent"),
            };
            match stop {
                Stop::After(ms) => self.stops.add(*ms as f64),
                Stop::WentOn => self.went_on += 1,
                Stop::WasSilent => self.was_silent += 1,
            }
            self.details.push(json!({ "call": self.calls, "interruption": name, "result": result, "silent_ms": ms }));
        }
    }

    /// The number of questions without an answer.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// The number of questions.
    pub(super) fn questions(&self) -> usize {
        self.missing + self.answered
    }

    /// Returns the report for programs. All times are in ms.
    pub(super) fn json(&self) -> Value {
        json!({
            "target": self.target,
            "calls": self.calls,
            "noise_dbov": self.noise,
            "echo_db": self.echo,
            "end_of_question_to_first_word_ms": self.answers.report(),
            "questions_without_answer": self.missing,
            "recordings_not_measured": self.unmeasured,
            "interruption_to_silence_ms": self.stops.report(),
            "interruptions_ignored": self.went_on,
            "interruptions_of_silence": self.was_silent,
            "measurements": self.details,
        })
    }

    /// Returns the report for people.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{:<40}{:>5}{:>9}{:>9}{:>9}\n", "at the phone, by waveform", "n", "p50", "p95", "max");
        row(&mut text, "end of the question → first word", &self.answers);
        row(&mut text, "start of an interruption → silence", &self.stops);
        // Writing to a String cannot fail.
        if self.missing > 0 {
            let _ = writeln!(text, "questions without an answer: {}", self.missing);
        }
        if self.unmeasured > 0 {
            let _ = writeln!(text, "not measured, because this machine was too slow: {}", self.unmeasured);
        }
        if self.went_on > 0 {
            let _ = writeln!(text, "interruptions that the agent ignored: {}", self.went_on);
        }
        if self.was_silent > 0 {
            let _ =
                writeln!(text, "interruptions that came when the agent was silent (not counted): {}", self.was_silent);
        }
        text.trim_end().to_owned()
    }
}

fn row(text: &mut String, name: &str, figures: &Figures) {
    let report = figures.report();
    let value = |key: &str| report.get(key).and_then(Value::as_f64).map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
    let n = report.get("n").and_then(Value::as_u64).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name:<40}{n:>5}{:>9}{:>9}{:>9}", value("p50"), value("p95"), value("max"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_counts_answers_and_interruptions_of_all_calls() {
        let mut report = Report::new("sip:600@127.0.0.1", None, Some(25));
        for call in 0..2_usize {
            report.add(Measured {
                answers: vec![("a".into(), Some(600 + call)), ("b".into(), (call == 0).then_some(900))],
                stops: vec![
                    ("s".into(), Stop::After(110 + call)),
                    ("t".into(), if call == 0 { Stop::WentOn } else { Stop::WasSilent }),
                ],
                unmeasured: call,
            });
        }
        assert_eq!((report.missing(), report.questions()), (1, 4));
        let json = report.json();
        assert_eq!(json["end_of_question_to_first_word_ms"]["n"], 3);
        assert_eq!(json["end_of_question_to_first_word_ms"]["p50"], 601.0);
        assert_eq!(json["interruption_to_silence_ms"]["max"], 111.0);
        assert_eq!(json["recordings_not_measured"], 1);
        assert_eq!((&json["interruptions_ignored"], &json["echo_db"]), (&json!(1), &json!(25)));
        assert_eq!(json["measurements"].as_array().unwrap().len(), 8);
        let table = report.table();
        for part in ["first word            3", "601 ms", "900 ms", "without an answer: 1", "ignored: 1", "slow: 1"] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }

    #[test]
    fn a_report_without_measurements_has_no_figures() {
        let report = Report::new("sip:a@b", None, None);
        assert_eq!(report.json()["end_of_question_to_first_word_ms"], Value::Null);
        assert!(report.table().contains("  0        -"), "{}", report.table());
    }
}
