//! Typed access to the parameters of methods and commands, with a list of errors.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tandem_call::header_fields::HeaderFields;
use tandem_call::{Callback, Method, StatusEvent, Target};
use url::Url;

use super::value::{Object, Value};

/// An error in a parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InvalidParameter {
    /// The parameter's name.
    pub(crate) parameter: String,
    /// A description of the error.
    pub(crate) detail: String,
}

/// The members of an object. If a member is invalid, its error is recorded, and the member counts as absent.
pub(crate) struct Parameters<'a> {
    object: &'a Object,
    wrong: RefCell<Vec<InvalidParameter>>,
    /// The names of the members that were read.
    read: RefCell<Vec<&'a str>>,
    /// Values without effect.
    idle: RefCell<Vec<String>>,
}

impl<'a> Parameters<'a> {
    pub(crate) fn new(object: &'a Object) -> Self {
        Self { object, wrong: RefCell::default(), read: RefCell::default(), idle: RefCell::default() }
    }

    /// The errors so far.
    pub(crate) fn wrong(self) -> Vec<InvalidParameter> {
        self.wrong.into_inner()
    }

    /// The members that were not read, and the values without effect.
    pub(crate) fn unused(&self) -> Vec<String> {
        let read = self.read.borrow();
        let members = self.object.iter().map(|(name, _)| name).filter(|name| !read.contains(name));
        members.map(str::to_owned).chain(self.idle.borrow().iter().cloned()).collect()
    }

    /// Notes a value that has no effect.
    pub(crate) fn note_idle(&self, value: impl Into<String>) {
        self.idle.borrow_mut().push(value.into());
    }

    pub(crate) fn note(&self, parameter: &str, detail: impl Into<String>) {
        self.wrong.borrow_mut().push(InvalidParameter { parameter: parameter.to_owned(), detail: detail.into() });
    }

    /// A member. `None` if the member is absent, `null` or an empty text.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        let (name, value) = self.object.iter().find(|(known, _)| *known == name)?;
        self.read.borrow_mut().push(name);
        Some(value).filter(|value| !value.is_nothing() && value.text() != Some(""))
    }

    /// A text. Numbers and booleans are converted to text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::List(_) | Value::Object(_) => {
                self.note(name, "is not text");
                None
            }
            value => Some(value.to_string()),
        }
    }

    pub(crate) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let number = self.get(name)?.number();
        if number.is_none_or(|number| !range.contains(&number)) {
            self.note(name, format!("is not a number from {} to {}", range.start(), range.end()));
        }
        number.filter(|number| range.contains(number))
    }

    /// A duration in seconds, with fractions.
    pub(crate) fn seconds(&self, name: &str, range: RangeInclusive<f64>) -> Option<Duration> {
        self.number(name, range).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        if value.flag().is_none() {
            self.note(name, "is neither true nor false");
        }
        value.flag()
    }

    /// The value that `words` has for the parameter's word. The word may be in upper or lower case.
    pub(crate) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text)).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.note(name, format!("is not one of {}", words.join(", ")));
        }
        found
    }

    /// DTMF digits.
    pub(crate) fn digits(&self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        let fits = text.chars().all(|key| "0123456789*#ABCD".contains(key.to_ascii_uppercase()));
        if !fits {
            self.note(name, "contains an invalid digit (allowed: 0-9 * # A-D)");
        }
        fits.then_some(text)
    }

    /// A URL with one of these schemes. The fragment is removed from the URL.
    pub(crate) fn url(&self, name: &str, schemes: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        let fits = is_url(&text, schemes);
        if !fits {
            self.note(name, format!("is not a URL that begins with {}:", schemes.join(": or ")));
        }
        fits.then(|| text.split('#').next().unwrap_or_default().to_owned())
    }

    /// A member that is an object.
    pub(crate) fn object(&self, name: &str) -> Option<&'a Object> {
        let value = self.get(name)?;
        if value.object().is_none() {
            self.note(name, "is not an object");
        }
        value.object()
    }

    /// The texts of a list. A single text is split at commas.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            None => Vec::new(),
            Some(Value::List(items)) => items.iter().map(Value::rendered).filter(|text| !text.is_empty()).collect(),
            Some(one) => one.rendered().split(',').map(|text| text.trim().to_owned()).collect(),
        }
    }

    /// The names and values of an object. Each value is converted to text.
    pub(crate) fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let members = self.object(name).into_iter().flat_map(Object::iter);
        members.map(|(key, value)| (key.to_owned(), value.rendered())).collect()
    }

    /// Header fields: `[{name, value}]`. Invalid header fields are left out.
    pub(crate) fn headers(&self, name: &str) -> HeaderFields {
        let Some(value) = self.get(name) else { return HeaderFields::new() };
        let mut headers = HeaderFields::new();
        for item in value.list().unwrap_or_default() {
            let part = |key| item.object().and_then(|object| object.get(key)).map(Value::rendered);
            match (part("name"), part("value")) {
                (Some(key), Some(_)) if tandem_sip::is_own_header(&key) => {
                    self.note(name, format!("contains {key}, a header field that SIP itself sets"));
                }
                (Some(key), Some(value)) if is_header(&key, &value) && headers.len() < MAX_HEADERS => {
                    headers.push((key, value));
                }
                _ => self.note(name, "contains an invalid header field (name and value)"),
            }
        }
        headers
    }

    /// A callback from the parameters `name` and `<name>_method`, for example `status_url` and `status_url_method`.
    pub(crate) fn callback(&self, name: &str, control_id: Option<&str>, events: &[StatusEvent]) -> Option<Callback> {
        let url = self.url(name, WEB)?;
        let method = self.method(&format!("{name}_method"));
        Some(callback(&url, method, control_id, events))
    }

    pub(crate) fn method(&self, name: &str) -> Method {
        self.word(name, &[("GET", Method::Get), ("POST", Method::Post)]).unwrap_or_default()
    }
}

/// The schemes of HTTP URLs.
pub(crate) const WEB: &[&str] = &["http", "https"];
/// Maximum number of header fields of a method.
const MAX_HEADERS: usize = 50;

/// Creates a callback. The id of the callback's job is stored in the fragment of the URL, because a request does not
/// contain the fragment.
pub(crate) fn callback(url: &str, method: Method, control_id: Option<&str>, events: &[StatusEvent]) -> Callback {
    let url = url.split('#').next().unwrap_or(url);
    let url = match control_id {
        Some(id) => format!("{url}#{}", percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC)),
        None => url.to_owned(),
    };
    Callback::new(Target { url: url.into(), method }, events.to_vec())
}

/// The URL of a callback as the application gave it, and the id of the callback's job.
pub(crate) fn target_and_control_id(callback: &Callback) -> (Target, Option<String>) {
    let Target { url, method } = &callback.target;
    let (url, id) = match url.split_once('#') {
        Some((url, id)) => (Arc::from(url), percent_encoding::percent_decode_str(id).decode_utf8().ok()),
        None => (Arc::clone(url), None),
    };
    (Target { url, method: *method }, id.map(std::borrow::Cow::into_owned))
}

/// Whether a text is an absolute URL with one of these schemes.
pub(crate) fn is_url(text: &str, schemes: &[&str]) -> bool {
    Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host())
}

fn is_header(name: &str, value: &str) -> bool {
    let token = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.!%*+`'~".contains(&octet);
    !name.is_empty()
        && name.len() <= 128
        && name.bytes().all(token)
        && value.len() <= 1024
        && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        let value: Value = serde_json::from_str(json).unwrap();
        value.object().unwrap().clone()
    }

    #[test]
    fn numbers_and_booleans_may_be_text() {
        let object = object(r#"{"a":"2.5","b":"true","c":3,"d":"x","e":null,"f":""}"#);
        let parameters = Parameters::new(&object);
        assert_eq!(parameters.seconds("a", 0.0..=10.0), Some(Duration::from_millis(2_500)));
        assert_eq!(parameters.flag("b"), Some(true));
        assert_eq!(parameters.text("c").as_deref(), Some("3"));
        assert_eq!((parameters.text("e"), parameters.text("f")), (None, None));
        assert_eq!(parameters.number("d", 0.0..=1.0), None);
        assert_eq!(parameters.number("c", 0.0..=1.0), None);
        let wrong: Vec<_> = parameters.wrong().into_iter().map(|wrong| wrong.parameter).collect();
        assert_eq!(wrong, ["d", "c"]);
    }

    #[test]
    fn the_control_id_is_stored_in_the_fragment_of_the_callback_url() {
        let object = object(r#"{"status_url":"http://h/a?b=1#own"}"#);
        let parameters = Parameters::new(&object);
        let callback = parameters.callback("status_url", Some("job 1#/ä"), &[StatusEvent::Completed]).unwrap();
        let (target, id) = target_and_control_id(&callback);
        assert_eq!((&*target.url, id.as_deref()), ("http://h/a?b=1", Some("job 1#/ä")));
        let plain = parameters.callback("status_url", None, &[]).unwrap();
        assert_eq!(&*plain.target.url, "http://h/a?b=1");
        assert_eq!(target_and_control_id(&plain).1, None);
    }

    #[test]
    fn invalid_urls_and_headers_are_refused() {
        let object = object(
            r#"{"a":"ftp://h/","b":"/relative","c":"https://h/","headers":[{"name":"X-A","value":"1"},{"name":"X A","value":"1"},{"name":"X-B","value":"1\r\nX: y"},{"name":"call-id","value":"1"},{"name":"Route","value":"<sip:h>"}]}"#,
        );
        let parameters = Parameters::new(&object);
        assert_eq!(parameters.url("a", WEB), None);
        assert_eq!(parameters.url("b", WEB), None);
        assert_eq!(parameters.url("c", WEB).as_deref(), Some("https://h/"));
        assert_eq!(*parameters.headers("headers"), [("X-A".to_owned(), "1".to_owned())]);
        assert_eq!(parameters.wrong().len(), 6);
    }
}
