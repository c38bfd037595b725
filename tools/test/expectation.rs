//! The steps of a tested call. The words are those of `tandem call`, and further expectations about the application.

use std::fmt;
use std::time::Duration;

use crate::call::steps::{self, Sound, seconds};

/// Default time limit of an expectation, on the virtual clock.
const WITHIN: Duration = Duration::from_secs(60);

/// One step of a party of the call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Speak this text. A recogniser of the application gets exactly this text.
    Say(String),
    /// Send these DTMF digits. A `w` means a pause of 0.5 s.
    Press(String),
    /// Wait for this duration.
    Wait(Duration),
    /// Wait until this happens. The test fails if it does not happen in time.
    Expect { what: What, within: Duration },
    /// End the call.
    Hangup,
}

/// The things that a step can expect.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// A sound, the end or a problem of the call, as `tandem call` expects it.
    Sound(Sound),
    /// An action of the application, with a part of its name or address. An empty text means any.
    Action(Action, String),
    /// The call has ended with this status.
    End(String),
}

/// The actions of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Plays a file.
    Plays,
    /// Calls a party.
    Dial,
    /// Connects the caller with a party.
    Bridge,
    /// Records.
    Record,
    /// Answers a request for a document.
    Request,
    /// Gets the notice of a status.
    Status,
    /// Puts the caller into a queue.
    Queue,
    /// Puts the caller into a conference.
    Conference,
    /// Opens a stream or a conversation.
    Stream,
}

const ACTIONS: [(&str, Action); 9] = [
    ("plays", Action::Plays),
    ("dial", Action::Dial),
    ("bridge", Action::Bridge),
    ("record", Action::Record),
    ("request", Action::Request),
    ("status", Action::Status),
    ("queue", Action::Queue),
    ("conference", Action::Conference),
    ("stream", Action::Stream),
];

/// The ends of a call, in the words of the providers.
pub(super) const ENDS: [&str; 5] = ["completed", "busy", "failed", "no-answer", "canceled"];

impl Step {
    /// Parses a step of a file. `within` is a number of seconds, and permitted only for the step `expect`.
    ///
    /// # Errors
    /// Returns a text that says what would be right.
    pub(super) fn named(name: &str, value: &str, within: Option<&str>) -> Result<Self, String> {
        if name == "expect" {
            let timed = value.rsplit_once(" within ").and_then(|(what, time)| Some((what, seconds(time).ok()?)));
            let (what, limit) = timed.unwrap_or((value, WITHIN));
            let within = within.map(seconds).transpose()?.unwrap_or(limit);
            return Ok(Self::Expect { what: what.trim().parse()?, within });
        }
        match steps::Step::named(name, value, within)? {
            steps::Step::Say(text) => Ok(Self::Say(text)),
            steps::Step::Press(digits) => Ok(Self::Press(digits)),
            steps::Step::Wait(time) => Ok(Self::Wait(time)),
            steps::Step::Hangup => Ok(Self::Hangup),
            steps::Step::Play(_) => Err("a tested call has no audio: use say with the words of the file".to_owned()),
            // Handled above.
            steps::Step::Expect(_) => Err("expect takes what is expected".to_owned()),
        }
    }
}

impl std::str::FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name.trim(), value.trim().trim_matches('"').trim()),
            None => (text, ""),
        };
        if let Some((_, action)) = ACTIONS.iter().find(|(known, _)| *known == name) {
            return Ok(Self::Action(*action, value.to_owned()));
        }
        if name == "end" {
            let known = ENDS.contains(&value);
            return known.then(|| Self::End(value.to_owned())).ok_or_else(|| {
                format!("{text:?} is no end of a call; write end:completed, or another of {}", ENDS.join(", "))
            });
        }
        text.parse().map(Self::Sound).map_err(|why: String| {
            let actions = ACTIONS.map(|(name, _)| name).join(", ");
            format!("{why}; a test can also expect {actions} (each also with a part of its address: dial:+15551230002), and end:busy")
        })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound(sound) => sound.fmt(f),
            Self::End(status) => write!(f, "the end {status}"),
            Self::Action(action, of) => {
                let name = ACTIONS.iter().find(|(_, one)| one == action).map_or("", |(name, _)| name);
                match of.as_str() {
                    "" => f.write_str(name),
                    of => write!(f, "{name}:{of}"),
                }
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say(text) => write!(f, "say \"{text}\""),
            Self::Press(digits) => write!(f, "press {digits}"),
            Self::Wait(time) => write!(f, "wait {} s", time.as_secs_f64()),
            Self::Expect { what, within } => write!(f, "expect {what} within {} s", within.as_secs_f64()),
            Self::Hangup => f.write_str("hangup"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_the_words_of_the_phone_and_may_expect_actions_of_the_application() {
        let expect = |text: &str| match Step::named("expect", text, None).unwrap() {
            Step::Expect { what, within } => (what, within.as_secs()),
            other => panic!("{other}"),
        };
        assert_eq!(expect("dial:+15551230002"), (What::Action(Action::Dial, "+15551230002".into()), 60));
        assert_eq!(expect("request:/menu within 5 seconds").1, 5);
        assert_eq!(expect("words:\"press one\"").0.to_string(), "the words \"press one\"");
        assert_eq!(expect("end:busy"), (What::End("busy".into()), 60));
        assert_eq!(Step::named("press", "1w", None), Ok(Step::Press("1w".into())));
        let fault = |name: &str, value: &str| Step::named(name, value, None).unwrap_err();
        assert!(fault("expect", "end:well").contains("end:completed"));
        assert!(fault("expect", "music").contains("conference"));
        assert!(fault("play", "a.wav").contains("use say"));
        assert!(fault("pres", "1").contains("the steps are say"));
    }
}
