//! Asks the called server which problems the call had. A problem is everything that `tandem errors` lists for a call: a
//! document, an audio file, a stream, an engine, a trunk or a webhook that failed.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_causes::Cause;

use tandem_cli::Failure;
use tandem_cli::ask::{Console, escaped};
use tandem_cli::list::text;

/// Time between two requests for the problems of a call.
pub(super) const EVERY: Duration = Duration::from_millis(100);
/// Number of the latest errors among which a refused call is searched.
const LATEST: u32 = 50;

/// The first words of the problem of a webhook about a new call that could not be delivered.
const NEW_CALL: &str = "webhook call.initiated ";

/// A problem of the call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    /// The id of the cause (docs/troubleshooting.md). If there is none, the provider's error number or the level.
    pub(crate) cause: String,
    /// The provider's error number, if there is one.
    pub(crate) code: Option<u64>,
    /// The description of the problem.
    pub(crate) message: String,
    /// The advice, if the cause is known.
    pub(crate) advice: Option<String>,
}

/// A problem that a script expects: the id of a cause, or the provider's error number or error word (such as
/// `relay_script_method_undefined`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected(String);

/// Whether the call may have further problems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum More {
    /// The call has ended, its requests are answered, and each of its webhooks was sent at least once.
    No,
    /// The call is live, or a webhook was not sent yet.
    #[default]
    Soon,
    /// The call has ended, but the application has not answered a request for a document.
    AfterAnswer,
}

/// The server's knowledge about the call.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) problems: Vec<Problem>,
    pub(super) more: More,
}

/// The server that is asked for the problems of the call, if there is one.
pub(super) enum Informant {
    /// Nobody, because the call does not go to the server of the configuration.
    Nobody,
    /// The server of the configuration, which takes the call.
    Server(Server),
    /// The server of the configuration takes the call, but does not tell the problems. The text says why.
    Silent(String),
}

/// The server that takes the call.
pub(super) struct Server {
    console: Console,
    sip_call_id: String,
}

impl Server {
    /// `sip_call_id` is the Call-ID of the phone's INVITE.
    pub(super) fn new(console: Console, sip_call_id: String) -> Self {
        Self { console, sip_call_id }
    }

    /// Asks the server. An error says why the problems of the call are not known.
    pub(super) async fn ask(&self) -> Result<Answer, Failure> {
        let id = escaped(&self.sip_call_id);
        if let Some(story) = self.console.find(&format!("/console/calls/{id}")).await? {
            return Ok(Answer::of(&story));
        }
        // The server may have refused the call before the call had an id.
        let latest = self.console.json(&format!("/console/errors?limit={LATEST}")).await?;
        let is_own =
            |error: &&Value| error.get("request").is_some_and(|one| text(one, "sip_call_id") == self.sip_call_id);
        let problems: Vec<_> = rows(&latest, "errors").filter(is_own).map(Problem::of).collect();
        if problems.is_empty() {
            return Err(Failure::Environment(anyhow::anyhow!(
                "the server at {} knows no call with the Call-ID {}: another server took the call",
                self.console.base(),
                self.sip_call_id
            )));
        }
        Ok(Answer { problems, more: More::No })
    }
}

impl Answer {
    fn of(story: &Value) -> Self {
        let live = rows(story, "calls").any(|call| call.get("live").and_then(Value::as_bool) == Some(true));
        let waits = rows(story, "webhooks").any(|webhook| {
            text(webhook, "state") == "pending" && webhook.get("attempts").and_then(Value::as_u64) == Some(0)
        });
        let asks = story.get("pending_requests").and_then(Value::as_u64).unwrap_or_default() > 0;
        let more = match (live || waits, asks) {
            (true, _) => More::Soon,
            (false, true) => More::AfterAnswer,
            (false, false) => More::No,
        };
        Self { problems: rows(story, "errors").map(Problem::of).collect(), more }
    }
}

fn rows<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

impl Problem {
    fn of(error: &Value) -> Self {
        let some = |key| Some(text(error, key)).filter(|text| !text.is_empty()).map(str::to_owned);
        let code = error.get("code").and_then(Value::as_u64);
        Self {
            cause: some("cause")
                .or(code.map(|code| code.to_string()))
                .unwrap_or_else(|| text(error, "level").to_owned()),
            code,
            message: text(error, "message").to_owned(),
            advice: some("advice"),
        }
    }

    /// Returns whether nobody will answer a ringing call after this problem: the application that works with commands did
    /// not get the webhook about the call.
    pub(super) fn ends_ringing(&self) -> bool {
        self.message.starts_with(NEW_CALL)
    }

    /// Returns the problem for the JSON report. `expected` is whether a step of the script expects the problem.
    pub(super) fn report(&self, expected: bool) -> Value {
        let Self { cause, code, message, advice } = self;
        json!({"cause": cause, "code": code, "message": message, "advice": advice, "expected": expected})
    }
}

impl Expected {
    /// Returns whether this is the problem.
    pub(crate) fn is(&self, problem: &Problem) -> bool {
        let is_part = |one: char| !(one.is_ascii_alphanumeric() || one == '_');
        problem.cause == self.0
            || problem.code.is_some_and(|code| code.to_string() == self.0)
            || self.0.contains('_') && problem.message.split(is_part).any(|word| word == self.0)
    }
}

impl std::str::FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        let is_word = text.contains('_') && text.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_');
        match Cause::of_id(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None if is_number || is_word => Ok(Self(text.to_owned())),
            None => Err(tandem_cli::errors::unknown_cause(text)),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the problem {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_has_the_problems_of_all_its_calls_and_whether_more_may_follow() {
        let mut story = json!({
            "calls": [{ "live": false }, { "live": true }],
            "webhooks": [{ "state": "pending", "attempts": 0 }],
            "errors": [
                { "level": "error", "cause": "answered-403", "code": 11_200, "message": "document failed", "advice": "Compare." },
                { "level": "warning", "cause": null, "code": 13_520, "message": "m", "advice": null },
                { "level": "warning", "message": "m" },
            ],
        });
        let answer = Answer::of(&story);
        let causes: Vec<&str> = answer.problems.iter().map(|problem| &*problem.cause).collect();
        assert_eq!((causes, answer.more), (vec!["answered-403", "13520", "warning"], More::Soon));
        story["calls"][1]["live"] = json!(false);
        assert_eq!(Answer::of(&story).more, More::Soon, "a webhook was not sent yet");
        story["webhooks"][0]["attempts"] = json!(1);
        story["pending_requests"] = json!(1);
        assert_eq!(Answer::of(&story).more, More::AfterAnswer);
        story["pending_requests"] = json!(0);
        assert_eq!(Answer::of(&story).more, More::No);
    }

    #[test]
    fn a_problem_is_expected_by_its_cause_or_by_its_code() {
        let problem =
            Problem { cause: "answered-403".into(), code: Some(11_200), message: String::new(), advice: None };
        let expected = |text: &str| text.parse::<Expected>();
        assert!(expected("answered-403").unwrap().is(&problem) && expected("11200").unwrap().is(&problem));
        assert!(!expected("answered-404").unwrap().is(&problem));
        assert!(expected("answered-999").unwrap_err().contains("answered-403"));
        assert!(expected("").is_err());
        let message = "http://h/: relay_script_method_undefined: main.[0]: there is no method".to_owned();
        let problem = Problem { message, ..problem };
        assert!(expected("relay_script_method_undefined").unwrap().is(&problem));
        assert!(!expected("relay_script_method").unwrap().is(&problem));
        assert!(!problem.ends_ringing());
    }
}
