//! The steps of a call, from the command line or from a script.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, Error};

use super::problems::Expected;
use super::script;

/// Default time limit of an expectation.
const WITHIN: Duration = Duration::from_secs(10);
/// Default duration of an expected silence.
const QUIET: Duration = Duration::from_secs(2);
/// Maximum duration in a step, in seconds. The value is one day.
const LONGEST: f64 = 86_400.0;
/// Maximum number of digits in one step.
const MAX_DIGITS: usize = 1_024;

/// One step of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Speak this text.
    Say(String),
    /// Send these DTMF digits (RFC 4733). A `w` means a pause of 0.5 s.
    Press(String),
    /// Play this WAV file.
    Play(PathBuf),
    /// Wait for this duration.
    Wait(Duration),
    /// Wait for this sound or event. The command fails if the sound or event does not occur in time.
    Expect(Expectation),
    /// End the call.
    Hangup,
}

/// An expected sound or event, with the time limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expectation {
    /// The expected sound or event.
    pub(crate) what: Sound,
    /// Time limit, measured from the end of the previous step.
    pub(crate) within: Duration,
}

/// A sound or event that a step can expect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sound {
    /// Speech.
    Speech,
    /// A steady tone. If there is a number, the tone must have this frequency in Hz.
    Tone(Option<f64>),
    /// These words in the spelling of the speech-to-text engine, in lower case and separated by one space.
    Words(String),
    /// Silence with this duration.
    Silence(Duration),
    /// These DTMF digits.
    Digits(String),
    /// A hang-up by the other side.
    Hangup,
    /// A problem of the call, which the server reports.
    Problem(Expected),
}

impl Step {
    fn of(name: &str, value: &str) -> Result<Self, String> {
        match name {
            "say" => match value.trim() {
                "" => Err("there are no words to say".to_owned()),
                text => Ok(Self::Say(text.to_owned())),
            },
            "press" => {
                let known = |one: char| one.is_ascii_digit() || "*#wWABCDabcd".contains(one);
                match value.chars().find(|one| !known(*one)) {
                    Some(other) => Err(format!(
                        "{other:?} is not a digit; digits are 0 to 9, *, #, A to D, and w, which waits for half a second"
                    )),
                    None if value.is_empty() || value.len() > MAX_DIGITS => {
                        Err(format!("expected 1 to {MAX_DIGITS} digits"))
                    }
                    None => Ok(Self::Press(value.to_owned())),
                }
            }
            "play" => Ok(Self::Play(PathBuf::from(value))),
            "wait" => Ok(Self::Wait(seconds(value)?)),
            "expect" => Ok(Self::Expect(value.parse()?)),
            "hangup" => Ok(Self::Hangup),
            other => Err(format!("unknown step {other:?}; the steps are say, press, play, wait, expect and hangup")),
        }
    }

    /// Returns the problem that this step expects, if any.
    pub(super) fn expected_problem(&self) -> Option<&Expected> {
        match self {
            Self::Expect(Expectation { what: Sound::Problem(expected), .. }) => Some(expected),
            _ => None,
        }
    }

    /// Parses a step of a script. `name` is the name of the step. `within` is permitted only for the step `expect`.
    pub(crate) fn named(name: &str, value: &str, within: Option<&str>) -> Result<Self, String> {
        match (Self::of(name, value)?, within) {
            (Self::Expect(expectation), Some(within)) => {
                Ok(Self::Expect(Expectation { within: seconds(within)?, ..expectation }))
            }
            (_, Some(_)) => Err(format!("\"within\" belongs to expect, not to {name}")),
            (step, None) => Ok(step),
        }
    }
}

/// Parses a number of seconds. A unit after the number is optional.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let units = ["seconds", "second", "sec", "s"];
    let number = units.iter().find_map(|unit| text.strip_suffix(unit)).unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(seconds) if (0.0..=LONGEST).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text:?} is not a time; write seconds, such as 2 or 0.5")),
    }
}

impl std::str::FromStr for Expectation {
    type Err = String;

    /// Parses an expectation, for example `tone:440 within 5 seconds`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let timed = text.rsplit_once(" within ").and_then(|(what, time)| Some((what, seconds(time).ok()?)));
        let (what, within) = timed.unwrap_or((text, WITHIN));
        Ok(Self { what: what.parse()?, within })
    }
}

impl std::str::FromStr for Sound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A problem has the form `problem answered-403` in sentences, and `problem:answered-403` like the other forms.
        if let Some(cause) = text.strip_prefix("problem").filter(|rest| rest.starts_with([' ', ':'])) {
            return Ok(Self::Problem(cause.trim_start_matches([' ', ':']).trim().trim_matches('"').parse()?));
        }
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"').trim())),
            None => (text.trim(), None),
        };
        match (name, value) {
            ("speech", None) => Ok(Self::Speech),
            ("hangup", None) => Ok(Self::Hangup),
            ("silence", None) => Ok(Self::Silence(QUIET)),
            ("silence", Some(time)) => Ok(Self::Silence(seconds(time)?)),
            ("tone", None) => Ok(Self::Tone(None)),
            ("tone", Some(hertz)) => match hertz.trim_end_matches("Hz").trim().parse::<f64>() {
                Ok(hertz) if (200.0..=3_400.0).contains(&hertz) => Ok(Self::Tone(Some(hertz))),
                _ => Err(format!("{hertz:?} is not a frequency that a telephone carries; write 200 to 3400, in Hz")),
            },
            ("words", Some(words)) if !plain_words(words).is_empty() => Ok(Self::Words(plain_words(words))),
            ("keys", Some(digits)) if !digits.is_empty() => Ok(Self::Digits(digits.to_ascii_uppercase())),
            _ => Err(format!(
                "nothing like {text:?} can be expected; there are speech, tone, tone:440, words:\"press one\", keys:12, silence, \
                 silence:3, hangup and \"problem answered-403\", each followed by \"within 5 seconds\" if 10 seconds are not right"
            )),
        }
    }
}

/// Returns the words in lower case and without punctuation, so that they can be compared with the text from an engine.
pub(crate) fn plain_words(text: &str) -> String {
    let plain: String = text.chars().map(|one| if one.is_alphanumeric() || one == '\'' { one } else { ' ' }).collect();
    plain.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say(text) => write!(f, "say \"{text}\""),
            Self::Press(digits) => write!(f, "press {digits}"),
            Self::Play(file) => write!(f, "play {}", file.display()),
            Self::Wait(time) => write!(f, "wait {} s", time.as_secs_f64()),
            Self::Expect(expectation) => write!(f, "expect {expectation}"),
            Self::Hangup => f.write_str("hangup"),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} within {} s", self.what, self.within.as_secs_f64())
    }
}

impl fmt::Display for Sound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Speech => f.write_str("speech"),
            Self::Tone(None) => f.write_str("a tone"),
            Self::Tone(Some(hertz)) => write!(f, "a tone of {hertz} Hz"),
            Self::Words(words) => write!(f, "the words \"{words}\""),
            Self::Silence(time) => write!(f, "{} s of silence", time.as_secs_f64()),
            Self::Digits(digits) => write!(f, "the keys {digits}"),
            Self::Hangup => f.write_str("a hang-up"),
            Self::Problem(expected) => expected.fmt(f),
        }
    }
}

/// The steps of the command line, in the order of the arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(pub(super) Vec<Step>);

/// Each option with its name, the placeholder for its value, and its help text.
const OPTIONS: [(&str, &str, &str); 7] = [
    ("say", "TEXT", "Speak this text, with the configured voice"),
    ("press", "DIGITS", "Send these digits (RFC 4733); w waits for half a second"),
    ("play", "FILE", "Play this WAV file"),
    ("wait", "SECONDS", "Wait for this many seconds"),
    (
        "expect",
        "WHAT",
        "Wait until this is heard, or end with exit code 1: speech, tone, tone:440, words:\"press one\", keys:12, silence, silence:3, hangup, \"problem answered-403\"; the limit is 10 s, \"... within 5 seconds\" changes it",
    ),
    ("script", "FILE.yaml", "Take the steps of this file, a YAML list"),
    ("hangup", "", "Hang up"),
];

impl clap::Args for Steps {
    fn augment_args(command: Command) -> Command {
        OPTIONS.iter().fold(command, |command, (name, value, help)| {
            let arg = Arg::new(*name).long(*name).help(*help).help_heading("Steps (taken in the order given)");
            command.arg(match *value {
                "" => arg.action(ArgAction::Append).num_args(0).default_missing_value(""),
                value => arg.action(ArgAction::Append).value_name(value).allow_hyphen_values(*name != "script"),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Steps {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut found: Vec<(usize, &str, &String)> = Vec::new();
        for (name, _, _) in OPTIONS {
            let places = matches.indices_of(name).into_iter().flatten();
            let values = matches.get_many::<String>(name).into_iter().flatten();
            found.extend(places.zip(values).map(|(place, value)| (place, name, value)));
        }
        found.sort_by_key(|(place, _, _)| *place);
        let mut steps = Vec::new();
        for (_, name, value) in found {
            let fault = |why: String| Error::raw(ErrorKind::ValueValidation, format!("--{name}: {why}\n"));
            match name {
                "script" => steps.append(&mut script::read(Path::new(value)).map_err(fault)?),
                name => steps.push(Step::of(name, value).map_err(fault)?),
            }
        }
        Ok(Self(steps))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn steps(arguments: &[&str]) -> Result<Vec<Step>, String> {
        let command = Steps::augment_args(Command::new("call").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        Ok(Steps::from_arg_matches(&matches).map_err(|error| error.to_string())?.0)
    }

    fn expectation(text: &str) -> (Sound, f64) {
        let Expectation { what, within } = text.parse().unwrap();
        (what, within.as_secs_f64())
    }

    #[test]
    fn steps_run_in_the_order_of_the_command_line() {
        let found = steps(&["--press", "1w#", "--say", "sales", "--press", "2", "--hangup", "--wait", "0.5"]).unwrap();
        let wait = Step::Wait(Duration::from_millis(500));
        let (one, two) = (Step::Press("1w#".into()), Step::Press("2".into()));
        assert_eq!(found, [one, Step::Say("sales".into()), two, Step::Hangup, wait]);
    }

    #[test]
    fn an_expectation_has_a_sound_and_a_time_limit() {
        assert_eq!(expectation("tone:440 within 5 seconds"), (Sound::Tone(Some(440.0)), 5.0));
        assert_eq!(expectation("speech"), (Sound::Speech, 10.0));
        assert_eq!(expectation("silence:3s within 20"), (Sound::Silence(Duration::from_secs(3)), 20.0));
        assert_eq!(expectation("hangup within 0.5s"), (Sound::Hangup, 0.5));
        assert_eq!(expectation("words:\"Press one.\" within 4 s"), (Sound::Words("press one".into()), 4.0));
        assert_eq!(expectation("words:within reach"), (Sound::Words("within reach".into()), 10.0));
        assert_eq!(expectation("keys:12a"), (Sound::Digits("12A".into()), 10.0));
        let problem = |cause: &str| Sound::Problem(cause.parse().unwrap());
        assert_eq!(expectation("problem answered-403 within 3 s"), (problem("answered-403"), 3.0));
        assert_eq!(expectation("problem:11200"), (problem("11200"), 10.0));
    }

    #[test]
    fn an_invalid_step_is_refused_with_advice() {
        let fault = |arguments: &[&str]| steps(arguments).unwrap_err();
        assert!(fault(&["--press", "1x"]).contains("'x' is not a digit; digits are 0 to 9"));
        assert!(fault(&["--expect", "music"]).contains("there are speech, tone"));
        assert!(fault(&["--expect", "problem answered-402"]).contains("answered-403"));
        assert!(fault(&["--expect", "problem"]).contains("problem answered-403"));
        assert!(fault(&["--expect", "tone:9000"]).contains("200 to 3400"));
        assert!(fault(&["--wait", "soon"]).contains("write seconds"));
        assert!(fault(&["--script", "/nowhere.yaml"]).contains("/nowhere.yaml"));
    }
}
