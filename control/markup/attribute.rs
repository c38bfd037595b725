//! Typed attribute values. An unusable value causes a warning, and the default replaces it.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::Wait;
use tandem_call::{Callback, Method, StatusEvent};

use super::code;
use super::element::Element;
use super::reader::Reader;

/// Maximum number of repetitions that a document can request. A larger `loop` is reduced to this number.
const MAX_LOOPS: u32 = 1000;
/// The names of the HTTP methods.
pub(crate) const METHODS: [(&str, Method); 2] = [("GET", Method::Get), ("POST", Method::Post)];

impl Reader<'_> {
    /// Reads a whole number. Returns `None` if the attribute is absent or the number is outside the range.
    pub fn number(&mut self, element: &Element, name: &str, range: RangeInclusive<u64>, code: u32) -> Option<u64> {
        let text = element.attribute(name)?.trim();
        match text.parse() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                self.bad_value(element, name, code);
                None
            }
        }
    }

    /// Reads a duration in whole seconds. Returns `None` if the attribute is absent or the duration is outside the
    /// range.
    pub fn seconds(
        &mut self,
        element: &Element,
        name: &str,
        range: RangeInclusive<u64>,
        code: u32,
    ) -> Option<Duration> {
        self.number(element, name, range, code).map(Duration::from_secs)
    }

    /// Reads `true` or `false`, in upper or lower case.
    pub fn flag(&mut self, element: &Element, name: &str, default: bool, code: u32) -> bool {
        let values = [("true", true), ("false", false)];
        self.word(element, name, &values, default, code)
    }

    /// Reads one of a few words, in upper or lower case.
    pub fn word<T: Copy>(&mut self, element: &Element, name: &str, words: &[(&str, T)], default: T, code: u32) -> T {
        let Some(text) = element.attribute(name) else { return default };
        let text = text.trim();
        match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            Some((_, value)) => *value,
            None => {
                self.bad_value(element, name, code);
                default
            }
        }
    }

    /// Reads `GET` or `POST`. Returns `POST` if the attribute is absent.
    pub fn method(&mut self, element: &Element, name: &str, code: u32) -> Method {
        self.word(element, name, &METHODS, Method::Post, code)
    }

    /// Reads `waitUrl`, the URL of the document that a waiting caller hears. An absent attribute means the server's own
    /// music, and an empty attribute means silence. `url_code` is the error number for an invalid URL. `method_code` is
    /// the error number for an invalid method.
    pub fn wait(
        &mut self,
        element: &Element,
        method: &str,
        (url_code, method_code): (u32, u32),
    ) -> Result<Wait, FetchFailure> {
        let method = self.method(element, method, method_code);
        Ok(match element.attribute("waitUrl").map(str::trim) {
            None => Wait::Music,
            Some("") => Wait::Silence,
            url => self.target(url, method, url_code)?.map_or(Wait::Music, Wait::Document),
        })
    }

    /// Reads at most `max` digits. `allowed` contains the allowed digits. An empty value means no digits.
    pub fn digits<'e>(
        &mut self,
        element: &'e Element,
        name: &str,
        allowed: &str,
        default: &'e str,
        max: usize,
        code: u32,
    ) -> &'e str {
        let Some(text) = element.attribute(name) else { return default };
        let text = text.trim();
        if text.len() <= max && text.chars().all(|key| allowed.contains(key)) {
            text
        } else {
            self.bad_value(element, name, code);
            default
        }
    }

    /// Reads `loop`, the number of repetitions. Returns 1 if the attribute is absent. Returns `None` for endless
    /// repetition (`loop="0"`).
    pub fn loops(&mut self, element: &Element, code: u32) -> Option<NonZeroU32> {
        match self.number(element, "loop", 0..=u64::from(u32::MAX), code) {
            None => Some(NonZeroU32::MIN),
            Some(0) => None,
            Some(number) => NonZeroU32::new(u32::try_from(number).unwrap_or(MAX_LOOPS).min(MAX_LOOPS)),
        }
    }

    /// Reads a status callback from `<prefix>`, `<prefix>Method` and `<prefix>Event`. An event that is not in `events`
    /// causes a warning. If there is no valid event, `default` is used.
    pub fn callback(
        &mut self,
        element: &Element,
        prefix: &str,
        events: &[(&str, StatusEvent)],
        default: &[StatusEvent],
        event_code: u32,
    ) -> Result<Option<Callback>, FetchFailure> {
        let method = self.method(element, &format!("{prefix}Method"), code::SCHEMA);
        let Some(target) = self.target(element.attribute(prefix), method, code::BAD_URL)? else { return Ok(None) };
        let name = format!("{prefix}Event");
        let mut subscribed: Vec<StatusEvent> = Vec::new();
        for word in element.attribute(&name).unwrap_or_default().split([' ', ',', '\n', '\t']).filter(|w| !w.is_empty())
        {
            match events.iter().find(|(known, _)| *known == word) {
                Some((_, status_event)) if subscribed.contains(status_event) => {}
                Some((_, status_event)) => subscribed.push(*status_event),
                None if self.flavour.defaults.unsent_events.contains(&word) => {
                    let message = format!("<{}> {name}: this server does not send the event {word}", element.name);
                    self.warn(event_code, message);
                }
                None => self.warn(event_code, format!("<{}> {name}: unknown event {word}", element.name)),
            }
        }
        if subscribed.is_empty() {
            subscribed.extend_from_slice(default);
        }
        Ok(Some(Callback::new(target, subscribed)))
    }

    /// Returns the name and value of every `Parameter` child.
    pub fn parameters(&mut self, element: &Element) -> Vec<(String, String)> {
        let mut parameters = Vec::new();
        for child in element.elements().filter(|child| child.name == "Parameter") {
            match (child.attribute("name"), child.attribute("value")) {
                (Some(name), value) => parameters.push((name.to_owned(), value.unwrap_or_default().to_owned())),
                (None, _) => self.warn(code::SCHEMA, "<Parameter> without a name was skipped"),
            }
        }
        parameters
    }

    /// Warns that an attribute has an invalid value. The attribute then has its default.
    pub fn bad_value(&mut self, element: &Element, name: &str, code: u32) {
        let value: String = element.attribute(name).unwrap_or_default().chars().take(80).collect();
        self.warn(code, format!("<{}> {name}=\"{value}\" is not allowed; the default is used", element.name));
    }
}
