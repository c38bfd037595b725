//! Request parameters. A key may be repeated. The values in a list are separated by white space or commas. Each invalid
//! value has an error number.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tandem_call::{Callback, Method, StatusEvent, Target};
use url::Url;

use super::error::ApiError;
use super::family::Provider;
use super::sid::Ids;

/// The decoded parameters of one request, in order. Names are case-sensitive.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    provider: &'static dyn Provider,
    pairs: Vec<(String, String)>,
}

impl Parameters {
    /// Parses a query or a form body.
    pub(super) fn parse(provider: &'static dyn Provider, encoded: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(encoded);
        Self::new(provider, pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// Creates the parameters from pairs that are already decoded.
    pub(super) fn new(provider: &'static dyn Provider, mut pairs: Vec<(String, String)>) -> Self {
        provider.normalise(&mut pairs);
        Self { provider, pairs }
    }

    /// The provider whose API received the request.
    pub(super) fn provider(&self) -> &'static dyn Provider {
        self.provider
    }

    /// The provider's spelling of ids.
    pub(super) fn ids(&self) -> Ids {
        self.provider.ids()
    }

    /// All pairs of name and value, in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The trimmed value of a parameter. `None` if the parameter is absent or the value is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(key, _)| *key == name).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether the parameter is present, even if the value is empty. An empty value clears a setting.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs().any(|(key, _)| key == name)
    }

    /// The trimmed value of a parameter, even if the value is empty. An empty value clears a setting.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.given_as_it_is(name).map(str::trim)
    }

    /// The value of a parameter with all white space. White space is part of a password.
    pub(super) fn given_as_it_is(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All values of a repeated key. Each value is split at white space and commas.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.pairs().filter(move |(key, _)| *key == name).map(|(_, value)| value);
        values.flat_map(|value| value.split([' ', ',', '\n', '\t'])).filter(|word| !word.is_empty())
    }

    /// An absolute `http` or `https` URL. Any other value is an error with the number `code`. The URL is returned
    /// exactly as the client wrote it, because this server later signs the URL in this form.
    pub(super) fn url(&self, name: &str, code: u32) -> Result<Option<Arc<str>>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let web = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if web && !text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Ok(Some(text.into()))
        } else {
            Err(ApiError::bad(code, format!("{name} is not a valid URL: {text}")))
        }
    }

    /// `GET` or `POST`. `POST` if the parameter is absent. Any other value is error 21209.
    pub(super) fn method(&self, name: &str) -> Result<Method, ApiError> {
        let Some(text) = self.get(name) else { return Ok(Method::Post) };
        Method::parse(text).ok_or_else(|| ApiError::bad(21209, format!("{name} is not a valid HTTP method: {text}")))
    }

    /// A URL and the HTTP method for this URL. `code` is the error number of an invalid URL.
    pub(super) fn target(&self, url: &str, method: &str, code: u32) -> Result<Option<Target>, ApiError> {
        let method = self.method(method)?;
        Ok(self.url(url, code)?.map(|url| Target { url, method }))
    }

    /// An integer within `range`. Any other value is an error with the number `code`.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>, code: u32) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(ApiError::bad(code, format!("{name} is not valid: {text}"))),
        }
    }

    /// `true` or `false`, in upper or lower case. Any other value is error 20001.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        let words = [("true", true), ("false", false)];
        self.word(name, &words, default, 20001)
    }

    /// Looks up the parameter's word in `words` and returns the value of this word. Upper and lower case are equal. Any
    /// other word is an error with the number `code`. If the parameter is absent, the result is `default`.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)], default: T, code: u32) -> Result<T, ApiError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, value)| *value).ok_or_else(|| ApiError::bad(code, format!("{name} is not valid: {text}")))
    }

    /// The callback from the parameters `<prefix>`, `<prefix>Method` and `<prefix>Event`. Unknown events are ignored,
    /// because some applications still name events of older versions; the warnings in `request` name these events. If no
    /// known event remains, the callback gets the event `completed`.
    pub(super) fn callback(&self, prefix: &str, events: &[(&str, StatusEvent)]) -> Result<Option<Callback>, ApiError> {
        let Some(target) = self.target(prefix, &format!("{prefix}Method"), 21502)? else { return Ok(None) };
        let mut subscribed = Vec::new();
        for word in self.all(&format!("{prefix}Event")) {
            match events.iter().find(|(known, _)| *known == word) {
                Some((_, status_event)) if !subscribed.contains(status_event) => subscribed.push(*status_event),
                _ => {}
            }
        }
        if subscribed.is_empty() {
            subscribed.push(StatusEvent::Completed);
        }
        Ok(Some(Callback::new(target, subscribed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS_EVENTS: [(&str, StatusEvent); 2] =
        [("ringing", StatusEvent::Ringing), ("completed", StatusEvent::Completed)];

    fn events(form: &str) -> Vec<StatusEvent> {
        let form = format!("StatusCallback=http://x/&{form}");
        Parameters::parse(&crate::Twilio, form.as_bytes())
            .callback("StatusCallback", &STATUS_EVENTS)
            .unwrap()
            .unwrap()
            .events
    }

    #[test]
    fn repeated_parameters_and_separated_words_both_form_a_list() {
        let both = [StatusEvent::Ringing, StatusEvent::Completed];
        assert_eq!(events("StatusCallbackEvent=ringing&StatusCallbackEvent=completed"), both);
        assert_eq!(events("StatusCallbackEvent=ringing+completed"), both);
        assert_eq!(events("StatusCallbackEvent=ringing,busy,completed,ringing"), both);
        assert_eq!(events("StatusCallbackEvent=busy"), [StatusEvent::Completed]);
        assert_eq!(events(""), [StatusEvent::Completed]);
    }

    #[test]
    fn an_empty_value_counts_as_absent() {
        assert_eq!(Parameters::parse(&crate::Twilio, b"A=&B=+").get("A"), None);
        assert_eq!(Parameters::parse(&crate::Twilio, b"A=&B=+").get("B"), None);
    }

    #[test]
    fn urls_are_absolute_and_kept_as_written() {
        let url = |text: &str| {
            let form = form_urlencoded::Serializer::new(String::new()).append_pair("Url", text).finish();
            Parameters::parse(&crate::Twilio, form.as_bytes()).url("Url", 21205)
        };
        let kept = "HTTP://127.0.0.1:80/a'b?x=%41#rc=2";
        assert_eq!(url(kept).unwrap().unwrap().as_ref(), kept);
        for bad in ["/voice", "ftp://x/", "file:///etc/passwd", "not a url", "http://x/a b"] {
            assert_eq!(url(bad).unwrap_err().code, 21205, "{bad}");
        }
    }
}
