//! Reads the tree of a document, and collects instructions and warnings.

use std::sync::Arc;

use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::program::instruction::{Instruction, Program, Warning};
use tandem_call::recording::Track;
use tandem_call::{Method, Target};
use url::Url;

use super::element::{Element, Node};
use super::flavour::{AttributeSupport, Defaults, Flavour, Meaning, Rule};
use super::{Origin, code, failure, verb};

/// Maximum number of stored warnings for one document. Further warnings are dropped.
const MAX_WARNINGS: usize = 100;

/// Names of verbs in the documents of other providers (Plivo, Exotel, old Twilio documents), each with the name here.
const OTHER_NAMES: [(&str, &str); 8] = [
    ("Speak", "Say"),
    ("Wait", "Pause"),
    ("Sleep", "Pause"),
    ("GetDigits", "Gather"),
    ("GetInput", "Gather"),
    ("PlayAudio", "Play"),
    ("Transfer", "Dial"),
    ("Forward", "Dial"),
];

/// Reads one document into a program, and collects warnings.
pub struct Reader<'a> {
    /// The table of verbs and attributes for this document.
    pub flavour: &'static Flavour,
    /// The source of the document. The source decides which URLs the document may use.
    pub origin: Origin<'a>,
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    /// Creates a reader without warnings.
    pub fn new(flavour: &'static Flavour, origin: Origin<'a>) -> Self {
        Self { flavour, origin, warnings: Vec::new() }
    }

    /// Reads the root element. Fails only if the whole document is unusable.
    pub fn program(mut self, root: &Element) -> Result<Program, FetchFailure> {
        let mut instructions = Vec::new();
        self.only_elements(root);
        for element in root.elements() {
            let Some(rule) = self.rule(element) else { continue };
            match rule.meaning {
                Meaning::Say | Meaning::Play | Meaning::Pause => {
                    verb::sound::read(&mut self, rule, element, &mut instructions)?;
                }
                Meaning::Gather => instructions.push(Instruction::Gather(verb::gather::read(&mut self, element)?)),
                Meaning::Record => instructions.push(Instruction::Record(verb::record::read(&mut self, element)?)),
                Meaning::Dial => instructions.extend(verb::dial::read(&mut self, element)?),
                Meaning::Redirect => instructions.extend(verb::flow::redirect(&mut self, element)?),
                Meaning::Reject | Meaning::Hangup => {
                    instructions.extend(verb::flow::handed_back(&mut self, element));
                    instructions.push(match rule.meaning {
                        Meaning::Reject => verb::flow::reject(&mut self, element),
                        _ => Instruction::Hangup,
                    });
                }
                Meaning::Echo => instructions.push(Instruction::Echo),
                Meaning::Pay => instructions.push(verb::pay::read(&mut self, element)?),
                Meaning::Connect => instructions.extend(verb::stream::connect(&mut self, element)?),
                Meaning::Stream if rule.is_allowed_in(&root.name) => {
                    instructions.extend(verb::stream::alone(&mut self, element)?);
                }
                Meaning::AgentGather => instructions.extend(verb::agent::gather(&mut self, element)?),
                Meaning::Enqueue => instructions.extend(verb::queue::enqueue(&mut self, element)?),
                Meaning::Leave => instructions.push(Instruction::Leave),
                Meaning::Refer => instructions.extend(verb::refer::read(&mut self, element)?),
                Meaning::Start => verb::stream::start(&mut self, element, &mut instructions)?,
                Meaning::Stop => verb::stream::stop(&mut self, element, &mut instructions),
                Meaning::Number
                | Meaning::Sip
                | Meaning::Client
                | Meaning::Application
                | Meaning::Conference
                | Meaning::Queue
                | Meaning::Conversation
                | Meaning::Agent
                | Meaning::Assistant
                | Meaning::Recording
                | Meaning::Siprec
                | Meaning::Transcription
                | Meaning::Suppression
                | Meaning::Speech
                | Meaning::Stream
                | Meaning::Part => {
                    self.misplaced(element, root);
                }
                Meaning::Unsupported(code) => {
                    self.unserved(element, code);
                    instructions.extend(refusal(element));
                }
            }
        }
        Ok(Program { instructions, warnings: self.warnings })
    }

    /// Returns the rule of an element, and warns about unknown or refused attributes. If the element is unknown, warns
    /// and returns `None`.
    pub fn rule(&mut self, element: &Element) -> Option<&'static Rule> {
        let rule = self.flavour.rule(&element.name);
        self.checked(element, rule)
    }

    /// Returns the values of a stream's `track` attribute in this flavour, each with the direction of the audio.
    pub fn tracks(&self) -> &'static [(&'static str, Track)] {
        self.flavour.tracks
    }

    /// Returns the defaults of absent attributes in this flavour.
    pub fn defaults(&self) -> &'static Defaults {
        &self.flavour.defaults
    }

    /// Whether an attribute of an element has an effect in this flavour.
    pub fn honours(&self, element: &Element, attribute: &str) -> bool {
        let rule = self.flavour.rule(&element.name);
        rule.and_then(|rule| rule.support(attribute)) == Some(AttributeSupport::Honoured)
    }

    /// Does the same as [`Self::rule`] for an element whose attributes depend on the parent element.
    pub fn rule_in(&mut self, element: &Element, parent: &Element) -> Option<&'static Rule> {
        let rule = self.flavour.rule_in(&element.name, &parent.name);
        self.checked(element, rule)
    }

    fn checked(&mut self, element: &Element, rule: Option<&'static Rule>) -> Option<&'static Rule> {
        let Some(rule) = rule else {
            let names = || self.flavour.rules().map(|rule| rule.name);
            let same = OTHER_NAMES.iter().find(|(other, _)| *other == element.name).map(|(_, name)| *name);
            let same = same.filter(|name| names().any(|known| known == *name));
            let near =
                same.or_else(|| self.nearest(&element.name, names())).map(|near| format!("; did you mean <{near}>?"));
            let near = near.unwrap_or_default();
            self.warn(code::SCHEMA, format!("<{}> is unknown and was skipped{near}", element.name));
            return None;
        };
        if matches!(rule.meaning, Meaning::Unsupported(_)) {
            return Some(rule);
        }
        for (name, value) in &element.attributes {
            match rule.support(name) {
                Some(AttributeSupport::Honoured | AttributeSupport::NoEffect(_)) => {}
                // An empty value or `false` does not request anything.
                Some(AttributeSupport::Refused(..)) if value.is_empty() || value == "false" => {}
                Some(AttributeSupport::Refused(code, why)) => {
                    self.warn(code, format!("<{}> {name} is not served ({why}); it was ignored", element.name));
                }
                None if name.starts_with("xmlns") => {}
                None => {
                    let near = self.nearest(name, rule.attributes.iter().map(|attribute| attribute.name));
                    let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                    self.warn(
                        code::SCHEMA,
                        format!("<{}> has no attribute {name}; it was ignored{near}", element.name),
                    );
                }
            }
        }
        Some(rule)
    }

    /// Adds a warning with the provider's error number. Stores at most `MAX_WARNINGS` warnings.
    pub fn warn(&mut self, code: u32, message: impl Into<String>) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(Warning { code, message: message.into() });
        }
    }

    /// Returns the known name that is most similar to a misspelt name. `None` if the document has so many warnings that
    /// no further warning is stored: a document of thousands of unknown names must not cost thousands of comparisons.
    fn nearest(&self, given: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
        (self.warnings.len() < MAX_WARNINGS).then(|| nearest(given, known)).flatten()
    }

    /// Warns that the parent must not contain this element.
    pub fn misplaced(&mut self, element: &Element, parent: &Element) {
        self.warn(code::SCHEMA, format!("<{}> does not belong in <{}> and was skipped", element.name, parent.name));
    }

    /// Warns that this server does not support an element.
    pub fn unserved(&mut self, element: &Element, code: u32) {
        self.warn(code, format!("{} and was skipped", not_available(element)));
    }

    /// Warns about text in an element that may contain only elements.
    pub(crate) fn only_elements(&mut self, element: &Element) {
        if element.children.iter().any(|node| matches!(node, Node::Text(text) if !text.trim().is_empty())) {
            self.warn(code::SCHEMA, format!("text directly in <{}> was ignored", element.name));
        }
    }

    /// Reads an absolute `http` or `https` URL. If the URL is unusable, warns and returns `None`. An absolute URL is
    /// returned exactly as written, because the signature of a request covers the URL as written.
    ///
    /// # Errors
    /// The URL is relative, and the document has no base URL.
    pub fn url(&mut self, text: &str, code: u32) -> Result<Option<Arc<str>>, FetchFailure> {
        let text = text.trim();
        let Some(url) = self.resolve(text, code)? else { return Ok(None) };
        match url.scheme() {
            "http" | "https" => Ok(Some(as_written(text, &url))),
            scheme => {
                self.warn(code, format!("{text}: URLs of scheme {scheme} are not allowed here"));
                Ok(None)
            }
        }
    }

    /// Does the same as [`Self::url`] for audio. A document of the configuration may also name a local file.
    pub fn audio_url(&mut self, text: &str) -> Result<Option<Arc<str>>, FetchFailure> {
        let text = text.trim();
        let Some(url) = self.resolve(text, code::BAD_URL)? else { return Ok(None) };
        let local = self.origin.local_files && self.origin.base.is_none();
        match url.scheme() {
            "http" | "https" => Ok(Some(as_written(text, &url))),
            "file" if local => Ok(Some(url.as_str().into())),
            scheme => {
                self.warn(code::BAD_URL, format!("{text}: audio cannot be loaded from URLs of scheme {scheme}"));
                Ok(None)
            }
        }
    }

    /// Does the same as [`Self::url`] for WebSockets. A relative URL gets the host of the document's URL. The scheme of
    /// the result is `wss` if the document's URL is `https`. Otherwise the scheme is `ws`.
    pub(crate) fn websocket_url(&mut self, text: &str) -> Result<Option<String>, FetchFailure> {
        let text = text.trim();
        let Some(mut url) = self.resolve(text, code::BAD_STREAM_URL)? else { return Ok(None) };
        let relative = Url::parse(text).is_err();
        if relative {
            let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
            // `set_scheme` cannot fail, because URLs of both schemes have a host, like the document's URL.
            let _ = url.set_scheme(scheme);
            return Ok(Some(url.into()));
        }
        if !matches!(url.scheme(), "ws" | "wss") {
            let scheme = url.scheme();
            self.warn(
                code::STREAM_SCHEME,
                format!("{text}: the URL of a stream must begin with ws: or wss:, not {scheme}:"),
            );
            return Ok(None);
        }
        Ok(Some(as_written(text, &url).as_ref().into()))
    }

    /// Returns the URL of the document. Returns `None` if the document has no URL.
    pub fn current(&self) -> Option<Arc<str>> {
        self.origin.base.map(|base| base.as_str().into())
    }

    /// Reads a target from an attribute such as `action`. Returns `None` if the attribute is absent, empty or unusable.
    pub fn target(&mut self, url: Option<&str>, method: Method, code: u32) -> Result<Option<Target>, FetchFailure> {
        match url.map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) => Ok(self.url(text, code)?.map(|url| Target { url, method })),
        }
    }

    fn resolve(&mut self, text: &str, code: u32) -> Result<Option<Url>, FetchFailure> {
        let parsed = match (Url::parse(text), self.origin.base) {
            (Err(url::ParseError::RelativeUrlWithoutBase), Some(base)) => base.join(text),
            (Err(url::ParseError::RelativeUrlWithoutBase), None) => {
                let detail = format!("{text}: relative URL in a document without a URL of its own");
                return Err(failure(FailureKind::Document(code::NO_BASE), detail));
            }
            (parsed, _) => parsed,
        };
        match parsed {
            Ok(url) => Ok(Some(url)),
            Err(error) => {
                self.warn(code, format!("{text}: {error}"));
                Ok(None)
            }
        }
    }
}

/// Returns the unchanged text if the text is an absolute URL that is safe to send. Otherwise returns the parsed URL.
fn as_written(text: &str, url: &Url) -> Arc<str> {
    let whole = Url::parse(text).is_ok() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if whole { text.into() } else { url.as_str().into() }
}

/// Returns the known name that is most similar to a misspelt name. In a name of fewer than six characters, at most one
/// character may differ. In a longer name, at most two characters may differ. The comparison ignores case.
fn nearest(given: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let given = given.get(..LONGEST_NAME).unwrap_or(given).to_ascii_lowercase();
    let max = (given.chars().count() / 3).clamp(1, 2);
    // Names whose lengths differ more are not similar, and a comparison takes microseconds.
    let near = known.filter(|name| name.len().abs_diff(given.len()) <= max);
    let near = near.map(|name| (strsim::damerau_levenshtein(&given, &name.to_ascii_lowercase()), name));
    near.filter(|(distance, _)| *distance <= max).min().map(|(_, name)| name)
}

/// Number of octets of a name that are compared with the known names. Further octets are ignored.
const LONGEST_NAME: usize = 64;

/// Elements that do something beside the call. The call goes on without them.
const BESIDE_THE_CALL: [&str; 2] = ["Denoise", "Sms"];

fn not_available(element: &Element) -> String {
    format!("<{}> is not available on this server", element.name)
}

/// Returns the instruction for an element that this server does not support. `None` if the call can go on without the
/// element.
pub(crate) fn refusal(element: &Element) -> Option<Instruction> {
    (!BESIDE_THE_CALL.contains(&&*element.name)).then(|| Instruction::Refused(not_available(element)))
}
