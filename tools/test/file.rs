//! Reads a file of tests. The reader reports every error at once, each with its line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tandem_call::Method;
use tandem_settings::PROVIDERS;
use toml::de::{DeTable, DeValue};
use url::Url;

use super::expectation::Step;
use crate::call::steps::seconds;

/// Maximum size of a file, in octets.
const MAX_SIZE: u64 = 1024 * 1024;
/// Default maximum duration of a call, on the virtual clock.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Time for which a called party rings before it answers or refuses.
const RINGING: Duration = Duration::from_secs(1);

/// The keys of a test. The same keys at the top of the file are the defaults of all tests.
const KEYS: &str = "base_url, voice_url, voice_method, document, fallback_url, status_callback, provider, from, to, timeout and called";

/// A file of tests.
#[derive(Debug)]
pub(super) struct TestFile {
    /// The credentials that sign the requests, in the form of an element of `[[accounts]]`.
    pub(super) account: Option<toml::Table>,
    pub(super) tests: Vec<Test>,
}

/// One test: one call to the application.
#[derive(Clone, Debug)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) settings: Settings,
    pub(super) steps: Vec<Step>,
}

/// The application, the parties and the limits of a test.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The URL to which other URLs are relative.
    base_url: Option<String>,
    pub(super) application: Option<Application>,
    pub(super) voice_method: Method,
    pub(super) fallback_url: Option<String>,
    pub(super) status_callback: Option<String>,
    /// The dialect of the application: one of [`PROVIDERS`] except `telnyx`.
    pub(super) provider: String,
    pub(super) from: String,
    pub(super) to: String,
    /// Maximum duration of the call, on the virtual clock.
    pub(super) timeout: Duration,
    pub(super) called: Vec<Called>,
}

/// The origin of the call's first document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Application {
    /// A URL of the application.
    Url(String),
    /// The document itself.
    Document(String),
}

/// A party that the application may call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Called {
    /// The number, `client:` name or SIP URI.
    pub(super) address: String,
    pub(super) outcome: CalledOutcome,
    /// Time from the call to the answer or the refusal.
    pub(super) after: Duration,
    /// Whether an answering machine answers.
    pub(super) machine: bool,
    pub(super) steps: Vec<Step>,
}

/// The reaction of a called party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CalledOutcome {
    Answer,
    /// Rings without end.
    NoAnswer,
    /// Refuses with this SIP status: 486 for `busy`, 503 for `failed`.
    Refuse(u16),
}

impl CalledOutcome {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "answer" => Self::Answer,
            "no-answer" => Self::NoAnswer,
            "busy" => Self::Refuse(486),
            "failed" => Self::Refuse(503),
            code => Self::Refuse(code.parse().ok().filter(|code| (400..700).contains(code))?),
        })
    }
}

/// Reads a file. `base_url` replaces the key `base_url` of the file.
///
/// # Errors
/// Returns all errors, one a line, each with the path and the line.
pub(super) fn read(path: &Path, base_url: Option<&str>) -> Result<TestFile, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > MAX_SIZE {
        return Err(format!("{shown}: {size} octets; the maximum is {MAX_SIZE}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    parse(&text, path.parent().unwrap_or(Path::new("")), base_url).map_err(|faults| {
        let mut lines = String::new();
        for (line, why) in faults {
            let _ = writeln!(lines, "{shown}:{line}: {why}");
        }
        lines.trim_end().to_owned()
    })
}

/// The line of an error, and the error message.
pub(super) type Fault = (usize, String);

/// A value, with the line on which it begins.
struct At<'a>(usize, &'a DeValue<'a>);

struct Reader<'a> {
    text: &'a str,
    /// The directory of the file, to which the paths of documents are relative.
    directory: PathBuf,
    base_url: Option<&'a str>,
    faults: Vec<Fault>,
}

pub(super) fn parse(text: &str, directory: &Path, base_url: Option<&str>) -> Result<TestFile, Vec<Fault>> {
    let mut reader = Reader { text, directory: directory.to_owned(), base_url, faults: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let fault = |error: &toml::de::Error| {
            (error.span().map_or(1, |span| reader.line(span.start)), error.message().to_owned())
        };
        return Err(errors.iter().map(fault).collect());
    }
    let file = reader.file(table.get_ref());
    if reader.faults.is_empty() { Ok(file) } else { Err(reader.faults) }
}

impl<'a> Reader<'a> {
    fn line(&self, octet: usize) -> usize {
        self.text.bytes().take(octet).filter(|one| *one == b'\n').count() + 1
    }

    fn fault(&mut self, line: usize, why: impl Into<String>) {
        self.faults.push((line, why.into()));
    }

    fn file(&mut self, table: &'a DeTable<'a>) -> TestFile {
        let mut defaults = Settings {
            base_url: self.base_url.map(str::to_owned),
            application: None,
            voice_method: Method::Post,
            fallback_url: None,
            status_callback: None,
            provider: "twilio".to_owned(),
            from: "+15550109999".to_owned(),
            to: "+15550100000".to_owned(),
            timeout: TIMEOUT,
            called: Vec::new(),
        };
        let mut tests = None;
        let mut has_account = false;
        for (key, value) in in_order(table) {
            let at = At(self.line(key.span().start), value.get_ref());
            match key.get_ref().as_ref() {
                "tests" => tests = Some(at),
                "account" => has_account = true,
                name if self.setting(&mut defaults, name, &at) => {}
                name => self.fault(at.0, format!("unknown key {name:?}; the keys are tests, account, {KEYS}")),
            }
        }
        let account = has_account.then(|| toml::from_str::<toml::Table>(self.text).ok()?.remove("account")).flatten();
        let account = account.and_then(|account| account.as_table().cloned());
        let mut made: Vec<Test> = Vec::new();
        match tests {
            Some(At(_, DeValue::Array(list))) if !list.is_empty() => {
                for one in list {
                    let line = self.line(one.span().start);
                    let test = self.test(line, one.get_ref(), &defaults);
                    if made.iter().any(|other| other.name == test.name) {
                        self.fault(line, format!("a second test has the name {:?}; names must differ", test.name));
                    }
                    made.push(test);
                }
            }
            _ => self.fault(1, "the file has no tests: add [[tests]] with a name and steps"),
        }
        TestFile { account, tests: made }
    }

    fn test(&mut self, line: usize, value: &'a DeValue<'a>, defaults: &Settings) -> Test {
        let mut test = Test { name: String::new(), settings: defaults.clone(), steps: Vec::new() };
        let DeValue::Table(table) = value else {
            self.fault(line, "a test is a table: write [[tests]]");
            return test;
        };
        for (key, value) in in_order(table) {
            let at = At(self.line(key.span().start), value.get_ref());
            match key.get_ref().as_ref() {
                "name" => test.name = self.text(&at),
                "steps" => test.steps = self.steps(&at),
                name if self.setting(&mut test.settings, name, &at) => {}
                name => self.fault(at.0, format!("unknown key {name:?}; the keys of a test are name, steps, {KEYS}")),
            }
        }
        if test.name.trim().is_empty() {
            self.fault(line, "the test has no name: add name = \"the caller reaches sales\"");
        }
        if test.steps.is_empty() {
            self.fault(line, "the test has no steps: add steps = [{ expect = \"speech\" }, \"hangup\"]");
        }
        self.complete(line, &mut test.settings);
        test
    }

    /// Makes all URLs of a test absolute.
    fn complete(&mut self, line: usize, settings: &mut Settings) {
        let base = match settings.base_url.as_deref().map(Url::parse) {
            Some(Ok(base)) => Some(base),
            Some(Err(error)) => {
                return self.fault(line, format!("base_url: {error}; write http://127.0.0.1:5000"));
            }
            None => None,
        };
        let mut faults = Vec::new();
        let mut absolute = |key: &str, url: &mut String| {
            let joined = base.as_ref().map_or_else(|| Url::parse(url), |base| base.join(url));
            match joined {
                Ok(joined) if matches!(joined.scheme(), "http" | "https") => *url = joined.into(),
                _ => faults.push(format!("{key}: {url:?} is not a URL; write http://HOST:PORT/PATH, or set base_url")),
            }
        };
        match &mut settings.application {
            Some(Application::Url(url)) => absolute("voice_url", url),
            Some(Application::Document(_)) => {}
            None => {
                self.fault(line, "nothing handles the call: set voice_url or document, for this test or at the top");
            }
        }
        settings.fallback_url.iter_mut().for_each(|url| absolute("fallback_url", url));
        settings.status_callback.iter_mut().for_each(|url| absolute("status_callback", url));
        for why in faults {
            self.fault(line, why);
        }
    }

    /// Reads a key that a test has, and the top of the file too. Returns false for any other key.
    fn setting(&mut self, settings: &mut Settings, name: &str, at: &At<'a>) -> bool {
        match name {
            "base_url" => {
                let text = self.text(at);
                // The option of the command line is stronger.
                settings.base_url = self.base_url.map(str::to_owned).or(Some(text));
            }
            "voice_url" => settings.application = Some(Application::Url(self.text(at))),
            "voice_method" => match Method::parse(&self.text(at)) {
                Some(method) => settings.voice_method = method,
                None => self.fault(at.0, "voice_method is \"GET\" or \"POST\""),
            },
            "document" => settings.application = self.document(at).map(Application::Document),
            "fallback_url" => settings.fallback_url = Some(self.text(at)),
            "status_callback" => settings.status_callback = Some(self.text(at)),
            "provider" => settings.provider = self.provider(at),
            "from" => settings.from = self.text(at),
            "to" => settings.to = self.text(at),
            "timeout" => match seconds(&self.text(at)) {
                Ok(timeout) => settings.timeout = timeout,
                Err(why) => self.fault(at.0, format!("timeout: {why}")),
            },
            "called" => settings.called = self.called(at),
            _ => return false,
        }
        true
    }

    /// Reads a document: the text itself, or the path of a file.
    fn document(&mut self, at: &At<'a>) -> Option<String> {
        let text = self.text(at);
        if text.trim_start().starts_with('<') {
            return Some(text);
        }
        let path = self.directory.join(&text);
        match std::fs::read_to_string(&path) {
            Ok(text) => return Some(text),
            Err(error) => self.fault(
                at.0,
                format!("document: {}: {error}; write the path of a file, or <Response>...</Response>", path.display()),
            ),
        }
        None
    }

    fn provider(&mut self, at: &At<'a>) -> String {
        let name = self.text(at);
        if name == "telnyx" {
            self.fault(
                at.0,
                "provider: an application of Telnyx Call Control sends commands to a server: test it with tandem dev and tandem \
                 call. Documents of Telnyx are \"texml\"",
            );
        } else if !PROVIDERS.contains(&name.as_str()) {
            self.fault(at.0, format!("provider: unknown provider {name:?}; write twilio, texml, signalwire or swml"));
        }
        name
    }

    fn called(&mut self, at: &At<'a>) -> Vec<Called> {
        let DeValue::Table(table) = at.1 else {
            self.fault(at.0, "called is a table: called = { \"+15551230002\" = \"answer\" }");
            return Vec::new();
        };
        let mut all = Vec::new();
        for (key, value) in in_order(table) {
            let at = At(self.line(key.span().start), value.get_ref());
            let mut called = Called {
                address: key.get_ref().to_string(),
                outcome: CalledOutcome::Answer,
                after: RINGING,
                machine: false,
                steps: Vec::new(),
            };
            match at.1 {
                DeValue::Table(table) => {
                    for (key, value) in in_order(table) {
                        let at = At(self.line(key.span().start), value.get_ref());
                        match key.get_ref().as_ref() {
                            "outcome" => called.outcome = self.outcome(&at),
                            "after" => match seconds(&self.text(&at)) {
                                Ok(after) => called.after = after,
                                Err(why) => self.fault(at.0, format!("after: {why}")),
                            },
                            "machine" => called.machine = matches!(at.1, DeValue::Boolean(true)),
                            "steps" => called.steps = self.steps(&at),
                            other => self.fault(
                                at.0,
                                format!("unknown key {other:?}; the keys of a called party are outcome, after, machine and steps"),
                            ),
                        }
                    }
                }
                _ => called.outcome = self.outcome(&at),
            }
            all.push(called);
        }
        all
    }

    fn outcome(&mut self, at: &At<'a>) -> CalledOutcome {
        let text = self.text(at);
        CalledOutcome::parse(&text).unwrap_or_else(|| {
            self.fault(
                at.0,
                format!("{text:?} is no outcome of a call; write answer, busy, no-answer, failed or a SIP status such as 404"),
            );
            CalledOutcome::Answer
        })
    }

    fn steps(&mut self, at: &At<'a>) -> Vec<Step> {
        let DeValue::Array(list) = at.1 else {
            self.fault(at.0, "steps is a list: steps = [{ expect = \"speech\" }, { press = 1 }]");
            return Vec::new();
        };
        let mut steps = Vec::new();
        for one in list {
            let line = self.line(one.span().start);
            match self.step(line, one.get_ref()) {
                Ok(step) => steps.push(step),
                Err(why) => self.fault(line, why),
            }
        }
        steps
    }

    fn step(&mut self, line: usize, value: &'a DeValue<'a>) -> Result<Step, String> {
        let DeValue::Table(table) = value else { return Step::named(&self.text(&At(line, value)), "", None) };
        let (mut named, mut within) = (None, None);
        for (key, value) in in_order(table) {
            let (name, value) = (key.get_ref().to_string(), self.text(&At(line, value.get_ref())));
            if name == "within" {
                within = Some(value);
            } else if let Some((first, _)) = named.replace((name, value)) {
                return Err(format!(
                    "{first} and another action in one step: write {{ {first} = ... }} and a further step"
                ));
            }
        }
        let (name, value) = named.ok_or("a step without an action, such as { press = 1 }")?;
        Step::named(&name, &value, within.as_deref())
    }

    /// Returns a text, a number or a truth value as text.
    fn text(&mut self, at: &At<'a>) -> String {
        match at.1 {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(one) => one.to_string(),
            _ => {
                self.fault(at.0, "this value must be a text in quotes or a number");
                String::new()
            }
        }
    }
}

/// Returns the entries of a table in the order of the file.
fn in_order<'a>(
    table: &'a DeTable<'a>,
) -> Vec<(&'a toml::Spanned<std::borrow::Cow<'a, str>>, &'a toml::Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<Fault> {
        parse(text, Path::new(""), None).unwrap_err()
    }

    #[test]
    fn a_test_has_the_defaults_of_its_file() {
        let text = r#"
base_url = "http://127.0.0.1:5000"
voice_url = "/voice"
from = "+15550001"
called = { "+15551230002" = "busy", "client:alice" = { outcome = "answer", after = 3, steps = [{ press = 1 }] } }

[[tests]]
name = "one"
steps = [{ expect = "words:\"press one\"", within = 20 }, { press = 01 }, "hangup"]

[[tests]]
name = "two"
voice_url = "http://h/other"
voice_method = "get"
called = { "+15551230002" = 404 }
timeout = 30
steps = ["hangup"]
"#;
        let text = text.replace("press = 01", "press = \"01\"");
        let file = parse(&text, Path::new(""), None).unwrap();
        let [one, two] = &file.tests[..] else { panic!("two tests") };
        assert_eq!(one.settings.application, Some(Application::Url("http://127.0.0.1:5000/voice".into())));
        assert_eq!((&*one.settings.from, one.settings.called.len()), ("+15550001", 2));
        assert_eq!(one.settings.called[0].outcome, CalledOutcome::Refuse(486));
        assert_eq!(one.settings.called[1].steps, [Step::Press("1".into())]);
        assert_eq!(one.steps[1], Step::Press("01".into()));
        assert_eq!(two.settings.called[0].outcome, CalledOutcome::Refuse(404));
        assert_eq!((two.settings.voice_method, two.settings.timeout), (Method::Get, Duration::from_secs(30)));
        let moved = parse(&text, Path::new(""), Some("http://h:7/")).unwrap();
        assert_eq!(moved.tests[0].settings.application, Some(Application::Url("http://h:7/voice".into())));
    }

    #[test]
    fn every_error_is_reported_with_its_line_and_says_what_is_right() {
        let found = faults(
            "voice_ur = \"http://h/\"\nprovider = \"telnyx\"\n\n[[tests]]\nname = \"a\"\nsteps = [\n  { press = 1 },\n  { pres = 2 },\n]\n\n\
             [[tests]]\nname = \"a\"\nvoice_url = \"/voice\"\ncalled = { \"1\" = \"sings\" }\nsteps = []\n",
        );
        let of = |line: usize, text: &str| found.iter().any(|(at, why)| *at == line && why.contains(text));
        assert!(of(1, "unknown key \"voice_ur\"; the keys are tests, account, base_url, voice_url"), "{found:?}");
        assert!(of(2, "tandem call"), "{found:?}");
        assert!(of(8, "the steps are say, press"), "{found:?}");
        assert!(of(11, "names must differ") && of(11, "no steps") && of(11, "set base_url"), "{found:?}");
        assert!(of(14, "answer, busy"), "{found:?}");
        assert!(of(4, "nothing handles the call"), "{found:?}");
        assert_eq!(found.len(), 8, "{found:?}");
        assert_eq!(faults("a = \n")[0].0, 1);
        assert!(faults("")[0].1.contains("[[tests]]"));
        assert!(
            faults("document = \"nowhere.xml\"\n[[tests]]\nname = \"a\"\nsteps = [\"hangup\"]\n")[0]
                .1
                .contains("nowhere.xml")
        );
    }
}
