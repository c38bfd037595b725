//! The measurements of all calls as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::talk::Measured;
use super::waveform::{Answer, Stop};
use crate::load::figures::Figures;

/// Collects the measurements.
pub(super) struct Report {
    target: String,
    noise: Option<i16>,
    echo: Option<i16>,
    calls: usize,
    answers: Figures,
    answered: usize,
    early: usize,
    missing: usize,
    unmeasured: usize,
    not_asked: usize,
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
            early: 0,
            missing: 0,
            unmeasured: 0,
            not_asked: 0,
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
        self.not_asked += measured.not_asked;
        for (name, answer) in &measured.answers {
            let (ms, result) = match answer {
                Answer::After(ms) => (Some(*ms), "answered"),
                Answer::Early => (None, "early"),
                Answer::Missing => (None, "missing"),
            };
            match answer {
                Answer::After(ms) => {
                    self.answers.add(*ms as f64);
                    self.answered += 1;
                }
                Answer::Early => self.early += 1,
                Answer::Missing => self.missing += 1,
            }
            self.details.push(json!({ "call": self.calls, "question": name, "result": result, "answer_ms": ms }));
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

    /// Returns the faults of the agent, for people. `None` if it answered all questions.
    pub(super) fn faults(&self) -> Option<String> {
        let all = self.questions();
        let missing =
            (self.missing > 0).then(|| format!("the agent did not answer {} of {all} questions", self.missing));
        let early =
            (self.early > 0).then(|| format!("the agent spoke before the end of {} of {all} questions", self.early));
        let faults: Vec<String> = missing.into_iter().chain(early).collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// The number of questions that were asked.
    pub(super) fn questions(&self) -> usize {
        self.missing + self.early + self.answered
    }

    /// The number of calls.
    pub(super) fn calls(&self) -> usize {
        self.calls
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
            "questions_answered_early": self.early,
            "questions_not_asked": self.not_asked,
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
        if self.early > 0 {
            let _ = writeln!(text, "answers that began before the end of the question: {}", self.early);
        }
        if self.not_asked > 0 {
            let _ = writeln!(text, "questions that were not asked: {}", self.not_asked);
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
                answers: vec![
                    ("a".into(), Answer::After(600 + call)),
                    ("b".into(), if call == 0 { Answer::After(900) } else { Answer::Missing }),
                    ("c".into(), if call == 0 { Answer::Early } else { Answer::After(700) }),
                ],
                stops: vec![
                    ("s".into(), Stop::After(110 + call)),
                    ("t".into(), if call == 0 { Stop::WentOn } else { Stop::WasSilent }),
                ],
                unmeasured: call,
                not_asked: 2 * call,
            });
        }
        assert_eq!((report.calls(), report.questions()), (2, 6));
        let faults = report.faults().unwrap();
        assert_eq!(
            faults,
            "the agent did not answer 1 of 6 questions; the agent spoke before the end of 1 of 6 questions"
        );
        let json = report.json();
        assert_eq!(json["end_of_question_to_first_word_ms"]["n"], 4);
        assert_eq!(json["interruption_to_silence_ms"]["max"], 111.0);
        assert_eq!((&json["recordings_not_measured"], &json["questions_not_asked"]), (&json!(1), &json!(2)));
        assert_eq!((&json["questions_answered_early"], &json["questions_without_answer"]), (&json!(1), &json!(1)));
        assert_eq!((&json["interruptions_ignored"], &json["echo_db"]), (&json!(1), &json!(25)));
        assert_eq!(json["measurements"].as_array().unwrap().len(), 10);
        let table = report.table();
        for part in [
            "first word            4",
            "900 ms",
            "without an answer: 1",
            "before the end of the question: 1",
            "not asked: 2",
            "ignored: 1",
            "slow: 1",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }

    #[test]
    fn a_report_without_measurements_has_no_figures_and_no_faults() {
        let report = Report::new("sip:a@b", None, None);
        assert_eq!(report.json()["end_of_question_to_first_word_ms"], Value::Null);
        assert!(report.table().contains("  0        -"), "{}", report.table());
        assert_eq!(report.faults(), None);
    }
}
