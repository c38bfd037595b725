//! Typed access to the JSON members of a request. Errors have the error number and the JSON pointer that Telnyx uses.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde_json::{Map, Value};
use tandem_call::address::Address;
use tandem_call::command::Interrupt;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::TargetLegs;
use tandem_call::program::instruction::Credentials;
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_id::LegId;
use url::Url;

use super::error::ApiError;
use crate::id;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const MAX_HEADERS: usize = 64;
/// Maximum number of legs of one call that ring at the same time.
const MAX_CALLEES: usize = 32;
const LONGEST_URL: usize = 2_000;
/// Maximum length of a `client_state`, in octets. Telnyx publishes no maximum.
const LONGEST_CLIENT_STATE: usize = 64 * 1024;
pub(super) const WEB: &[&str] = &["http", "https"];
const METHODS: &[(&str, Method)] = &[("POST", Method::Post), ("GET", Method::Get)];
/// The words before the first dot in the names of Telnyx's events.
const EVENT_FAMILIES: &[&str] = &["call", "conference", "siprec", "streaming"];
/// Maximum number of entries in `webhook_urls`. Telnyx has fewer events than this number.
const MAX_WEBHOOK_URLS: usize = 100;

/// All progress events of a leg. Telnyx sends a webhook for each of these events.
pub(super) const ALL_EVENTS: [StatusEvent; 6] = [
    StatusEvent::Initiated,
    StatusEvent::Ringing,
    StatusEvent::Answered,
    StatusEvent::Completed,
    StatusEvent::InProgress,
    StatusEvent::Absent,
];

/// The members of a request body. A `null` member counts as absent. Unknown members are ignored.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Parameters<'a> {
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(self, name: &str) -> Result<Option<&'a str>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| ApiError::wrong_type(name, "string"))
    }

    /// A required text. A blank text is an error.
    pub(super) fn required(self, name: &str) -> Result<&'a str, ApiError> {
        match self.text(name)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(ApiError::missing(name)),
        }
    }

    /// A text. The number of characters must be within `length`.
    pub(super) fn sized(self, name: &str, length: RangeInclusive<usize>) -> Result<Option<&'a str>, ApiError> {
        let text = self.text(name)?;
        match text {
            Some(text) if !length.contains(&text.chars().count()) => {
                Err(ApiError::wrong_length(name, *length.start(), *length.end()))
            }
            _ => Ok(text),
        }
    }

    pub(super) fn integer(self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| number.fract() == 0.0);
        let number = number.ok_or_else(|| ApiError::wrong_type(name, "integer"))?;
        let fits = (f64::from(*range.start())..=f64::from(*range.end())).contains(&number);
        if fits {
            // The value is an integer within the range of u32.
            Ok(Some(number as u32))
        } else {
            Err(ApiError::out_of_range(name, i64::from(*range.start()), i64::from(*range.end())))
        }
    }

    pub(super) fn seconds(self, name: &str, range: RangeInclusive<u32>) -> Result<Option<Duration>, ApiError> {
        Ok(self.integer(name, range)?.map(|seconds| Duration::from_secs(seconds.into())))
    }

    pub(super) fn milliseconds(self, name: &str, range: RangeInclusive<u32>) -> Result<Option<Duration>, ApiError> {
        Ok(self.integer(name, range)?.map(|milliseconds| Duration::from_millis(milliseconds.into())))
    }

    /// An object. The object is empty if the member is absent.
    pub(super) fn object(self, name: &str) -> Result<Self, ApiError> {
        static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        let Some(value) = self.get(name) else { return Ok(Parameters(&NOTHING)) };
        value.as_object().map(Parameters).ok_or_else(|| ApiError::wrong_type(name, "object"))
    }

    /// A boolean. `false` if the member is absent.
    pub(super) fn flag(self, name: &str) -> Result<bool, ApiError> {
        self.flag_or(name, false)
    }

    pub(super) fn flag_or(self, name: &str, absent: bool) -> Result<bool, ApiError> {
        let Some(value) = self.get(name) else { return Ok(absent) };
        value.as_bool().ok_or_else(|| ApiError::wrong_type(name, "boolean"))
    }

    /// The value that belongs to the parameter's word. Words are case-sensitive.
    pub(super) fn word<T: Copy>(self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(ApiError::not_one_of(name, &words))
            }
        }
    }

    /// Checks a parameter that has no effect. The parameter must be absent, or its value must be one of these words.
    pub(super) fn check(self, name: &str, words: &[&str]) -> Result<Option<&'a str>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if words.contains(&text) { Ok(Some(text)) } else { Err(ApiError::not_one_of(name, words)) }
    }

    /// Refuses parameters that this server does not support. The values `false`, `""` and `{"enabled": false}` are
    /// accepted, because they do not enable a feature.
    pub(super) fn refuse(self, names: &[&str]) -> Result<(), ApiError> {
        let is_given = |value: &Value| match value {
            Value::Bool(on) => *on,
            Value::String(text) => !text.is_empty(),
            other => other["enabled"] != Value::Bool(false),
        };
        match names.iter().find(|name| self.get(name).is_some_and(is_given)) {
            Some(name) => Err(ApiError::not_permitted(name)),
            None => Ok(()),
        }
    }

    /// Refuses parameters that this server does not support. Empty arrays and empty objects are accepted.
    pub(super) fn refuse_filled(self, names: &[&str]) -> Result<(), ApiError> {
        let is_filled = |value: &Value| match value {
            Value::Array(all) => !all.is_empty(),
            Value::Object(all) => !all.is_empty(),
            _ => true,
        };
        match names.iter().find(|name| self.get(name).is_some_and(is_filled)) {
            Some(name) => Err(ApiError::not_permitted(name)),
            None => Ok(()),
        }
    }

    /// The value of `client_state` or a similar parameter. The value must be base64, and the server stores it without
    /// decoding. Each webhook of the leg contains the value, so its length is limited.
    pub(super) fn client_state(self, name: &str) -> Result<Option<String>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_str() {
            Some(text) if text.len() > LONGEST_CLIENT_STATE => {
                Err(ApiError::too_long_client_state(name, LONGEST_CLIENT_STATE))
            }
            Some(text) if BASE64.decode(text).is_ok() => Ok(Some(text.to_owned())),
            _ => Err(ApiError::bad_client_state(name)),
        }
    }

    pub(super) fn base64(self, name: &str) -> Result<Option<Bytes>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match BASE64.decode(text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(_) => Err(ApiError::bad_value(name, format!("The '{name}' parameter must be a valid Base64 string."))),
        }
    }

    pub(super) fn url(self, name: &str, schemes: &[&str]) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if is_url(text, schemes) { Ok(Some(text.to_owned())) } else { Err(ApiError::bad_url(name)) }
    }

    /// The leg that a call control id names.
    pub(super) fn leg(self, name: &str) -> Result<Option<LegId>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        id::parse_call_control_id(text).map(Some).ok_or_else(|| ApiError::no_such_call(name))
    }

    /// The legs that an array of call control ids names.
    pub(super) fn legs(self, name: &str) -> Result<Option<Vec<LegId>>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let items = value.as_array().ok_or_else(|| ApiError::wrong_type(name, "array"))?;
        let leg = |item: &Value| item.as_str().and_then(id::parse_call_control_id);
        items
            .iter()
            .map(|item| leg(item).ok_or_else(|| ApiError::no_such_call(name)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A UUID that this server gave to an object.
    pub(super) fn uuid(self, name: &str) -> Result<Option<u128>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        id::parse_uuid(text).map(Some).ok_or_else(|| ApiError::bad_id(name))
    }

    /// The called addresses. The value is one address, or an array of addresses that ring at the same time.
    pub(super) fn callees(self, name: &str) -> Result<Vec<Address>, ApiError> {
        let Some(Value::Array(several)) = self.get(name) else { return Ok(vec![callee(name, self.required(name)?)?]) };
        if several.is_empty() {
            return Err(ApiError::missing(name));
        }
        if several.len() > MAX_CALLEES {
            return Err(ApiError::bad_value(
                name,
                format!("At most {MAX_CALLEES} destinations can be called at once."),
            ));
        }
        let text = |one: &'a Value| one.as_str().ok_or_else(|| ApiError::wrong_type(name, "string"));
        several.iter().map(|one| callee(name, text(one)?)).collect()
    }

    /// The caller ID: a phone number, a SIP URI or a SIP user.
    pub(super) fn caller(self, name: &str) -> Result<Option<Address>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let address = Address::from(text.trim());
        let is_user = |name: &str| {
            (1..=128).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'()+".contains(&b))
        };
        let fits = match &address {
            Address::Phone(_) => true,
            Address::Sip(uri) => is_clean_uri(uri),
            Address::Client(name) | Address::Name(name) => is_user(name),
            Address::Application(_) => false,
        };
        if fits { Ok(Some(address)) } else { Err(ApiError::not_e164(name)) }
    }

    /// `from_display_name`: letters, digits, spaces and `-_~!.+`, at most 128 characters.
    pub(super) fn display_name(self) -> Result<Option<String>, ApiError> {
        const NAME: &str = "from_display_name";
        let Some(text) = self.sized(NAME, 0..=128)? else { return Ok(None) };
        if text.chars().all(|c| c.is_alphanumeric() || " -_~!.+".contains(c)) {
            Ok(Some(text.to_owned()).filter(|name| !name.is_empty()))
        } else {
            Err(ApiError::bad_value(NAME, "The display name may contain only letters, numbers, spaces and -_~!.+"))
        }
    }

    /// The header fields of an INVITE that `custom_headers`, `sip_headers` and `privacy` describe.
    pub(super) fn invite_headers(self) -> Result<HeaderFields, ApiError> {
        let mut headers = self.headers()?;
        if self.check("privacy", &["id", "none"])? == Some("id") {
            // The privacy value `id` asks the next hop to hide the caller's identity (RFC 3323 §4.2).
            headers.push(("Privacy".into(), "id".into()));
        }
        Ok(headers)
    }

    /// The header fields in `custom_headers` and `sip_headers`.
    pub(super) fn headers(self) -> Result<HeaderFields, ApiError> {
        let mut headers = HeaderFields::from(self.pairs("custom_headers")?);
        headers.extend(self.pairs("sip_headers")?);
        for (name, value) in &headers {
            let token =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
            let own = tandem_sip::is_own_header(name);
            if !token || own || name.len() > 128 || value.len() > 2_048 || value.chars().any(char::is_control) {
                return Err(ApiError::bad_value(
                    "custom_headers",
                    "A header cannot be set, or has invalid characters.",
                ));
            }
        }
        Ok(headers)
    }

    /// The names and values in an array of `{"name": ..., "value": ...}`.
    pub(super) fn pairs(self, name: &str) -> Result<Vec<(String, String)>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| ApiError::wrong_type(name, "array"))?;
        if items.len() > MAX_HEADERS {
            return Err(ApiError::out_of_range(name, 0, 64));
        }
        let pair = |item: &Value| match (item["name"].as_str(), item["value"].as_str()) {
            (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
            _ => Err(ApiError::bad_value(name, format!("Each of '{name}' needs a name and a value, both strings."))),
        };
        items.iter().map(pair).collect()
    }

    pub(super) fn credentials(self) -> Result<Option<Credentials>, ApiError> {
        let (username, password) = (self.text("sip_auth_username")?, self.text("sip_auth_password")?);
        Ok(username.map(|username| Credentials {
            username: username.to_owned(),
            password: password.unwrap_or_default().to_owned(),
        }))
    }

    /// DTMF digits `0-9 A-D * #`. `w` is a pause of 0.5 s, and `W` is a pause of 1 s.
    pub(super) fn digits(self, name: &str) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b"0123456789ABCD*#wW".contains(&b));
        if fits {
            Ok(Some(text.to_owned()))
        } else {
            let all = "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, A, B, C, D, w, W, * or #";
            let detail = format!("The '{name}' parameter must be a 'string' made of a combination of either {all}");
            Err(ApiError::bad_value(name, detail))
        }
    }

    /// The new targets for the webhooks of the call. The function reads `webhook_url`, `webhook_urls` and the methods
    /// for both. Retry policies in the request are ignored, because the server has its own retry policies.
    pub(super) fn webhook(self, before: Option<&Callback>) -> Result<Option<Callback>, ApiError> {
        let method = self.word("webhook_url_method", METHODS)?.unwrap_or_default();
        let elsewhere = self.webhook_urls()?;
        let target = match self.url("webhook_url", WEB)? {
            Some(url) => Target { url: url.into(), method },
            None if elsewhere.is_empty() => return Ok(None),
            None => before.map(|callback| callback.target.clone()).ok_or_else(|| ApiError::missing("webhook_url"))?,
        };
        let failover = before.and_then(|callback| callback.failover.clone());
        let timeout = before.and_then(|callback| callback.timeout);
        Ok(Some(Callback { target, failover, events: ALL_EVENTS.to_vec(), elsewhere, timeout }))
    }

    /// The targets for the webhooks of single events, from `webhook_urls` and `webhook_urls_method`. Events that this
    /// server never sends are accepted. Names that cannot be Telnyx events are refused.
    fn webhook_urls(self) -> Result<Vec<(Arc<str>, Target)>, ApiError> {
        const NAME: &str = "webhook_urls";
        let method = self.word("webhook_urls_method", METHODS)?.unwrap_or_default();
        let Some(value) = self.get(NAME) else { return Ok(Vec::new()) };
        let events = value.as_object().ok_or_else(|| ApiError::wrong_type(NAME, "object"))?;
        if events.len() > MAX_WEBHOOK_URLS {
            return Err(ApiError::bad_value(NAME, format!("At most {MAX_WEBHOOK_URLS} events may be given.")));
        }
        let target = |(event, url): (&String, &Value)| {
            let family = event.split_once('.').filter(|(_, kind)| !kind.is_empty()).map(|(family, _)| family);
            if !family.is_some_and(|family| EVENT_FAMILIES.contains(&family)) {
                return Err(ApiError::bad_value(NAME, format!("'{event}' is not the name of an event.")));
            }
            let url = url.as_str().filter(|url| is_url(url, WEB)).ok_or_else(|| ApiError::bad_url(NAME))?;
            Ok((event.as_str().into(), Target { url: url.into(), method }))
        };
        events.iter().map(target).collect()
    }

    /// The value of `loop`: 1 to 100, `infinity` or `infinite`. The result is `Some(1)` if the parameter is absent.
    /// `None` means an endless loop.
    pub(super) fn loops(self) -> Result<Option<NonZeroU32>, ApiError> {
        match self.get("loop") {
            None => Ok(Some(NonZeroU32::MIN)),
            Some(Value::String(word)) if word == "infinity" || word == "infinite" => Ok(None),
            Some(Value::String(digits)) => {
                let times = digits.parse().ok().filter(|times| (1..=100).contains(times)).and_then(NonZeroU32::new);
                times.map(Some).ok_or_else(|| ApiError::out_of_range("loop", 1, 100))
            }
            Some(_) => Ok(self.integer("loop", 1..=100)?.and_then(NonZeroU32::new)),
        }
    }

    pub(super) fn interrupt(self) -> Result<Option<Interrupt>, ApiError> {
        self.word("stop", &[("current", Interrupt::Current), ("all", Interrupt::All)])
    }

    /// The legs of a bridge that hear the audio. The value is `self`, `opposite` or `both`.
    pub(super) fn target_legs(self, name: &str) -> Result<Option<TargetLegs>, ApiError> {
        self.word(name, &[("self", TargetLegs::Own), ("opposite", TargetLegs::Bridged), ("both", TargetLegs::Both)])
    }
}

/// A phone number in E.164 format, or a SIP URI.
fn callee(name: &str, text: &str) -> Result<Address, ApiError> {
    let address = Address::from(text.trim());
    match &address {
        Address::Phone(number) if number.is_e164() => Ok(address),
        // The parameter `;secure=` requests SRTP or DTLS (RFC 3711, RFC 5763) for this target.
        Address::Sip(uri) if is_clean_uri(uri) && uri.to_ascii_lowercase().contains(";secure=") => {
            Err(ApiError::not_permitted(name))
        }
        Address::Sip(uri) if is_clean_uri(uri) => Ok(address),
        _ => Err(ApiError::not_e164(name)),
    }
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    text.len() <= LONGEST_URL
        && Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()) && url.host().is_some())
}

/// Whether a SIP URI may be used in a request line and in angle brackets.
fn is_clean_uri(uri: &str) -> bool {
    let host = uri.split_once(':').is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('@'));
    host && uri.len() <= 512 && uri.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"".contains(&b))
}
