//! The called parties in documents and REST requests: telephone numbers, SIP URIs, and the headers of SIP URIs.

use tandem_call::address::{Address, PhoneNumber};
use tandem_call::header_fields::HeaderFields;

/// Limit for all headers of one SIP URI together, in octets. The headers must be shorter than this limit.
pub const MAX_HEADERS: usize = 1024;

/// Parses a telephone number in common notation: `(415) 555-1212`, `+1 415.555.1212`.
pub fn phone(text: &str) -> Option<Address> {
    let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')' | '\u{a0}')).collect();
    digits.parse::<PhoneNumber>().ok().map(Address::Phone)
}

/// Parses a telephone number like [`phone`], with North America as the default country. A number with 10 digits gets
/// the country code 1. A number with 11 digits that begins with 1 has this country code already. So `415-555-1212`
/// becomes `+14155551212`. Extensions and other numbers that begin with 0 or 1 are unchanged.
pub fn north_american(text: &str) -> Option<Address> {
    let Address::Phone(number) = phone(text)? else { return None };
    let written = number.as_str();
    let (plus, national) = match written.strip_prefix('1') {
        Some(national) if national.len() == 10 => ("+", national),
        _ => ("+1", written),
    };
    let names = national.len() == 10
        && national.starts_with(|digit| ('2'..='9').contains(&digit))
        && national.bytes().all(|digit| digit.is_ascii_digit());
    let whole = names.then(|| format!("{plus}{written}").parse().ok()).flatten();
    Some(Address::Phone(whole.unwrap_or(number)))
}

/// Splits a SIP URI and its headers. The headers are percent-decoded, but their names and values are not checked.
pub fn split_sip_uri(text: &str) -> Result<(String, HeaderFields), &'static str> {
    let text = text.trim();
    let scheme = text.split(':').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("sip") && !scheme.eq_ignore_ascii_case("sips") {
        return Err("not a SIP URI");
    }
    let (uri, headers) = text.split_once('?').unwrap_or((text, ""));
    let rest = uri.get(scheme.len() + 1..).unwrap_or_default();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let unfit = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '\\' | ',');
    if host.is_empty() || host.starts_with([';', ':']) || uri.len() > 512 || uri.chars().any(unfit) {
        return Err("not a SIP URI");
    }
    if headers.len() >= MAX_HEADERS {
        return Err("its headers are too long");
    }
    let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let pairs = headers.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    });
    Ok((uri.to_owned(), pairs.collect()))
}

/// Splits a name and the parameters after the `?`. The parameters are percent-decoded.
pub fn split_parameters(text: &str) -> (&str, Vec<(String, String)>) {
    let (name, parameters) = text.split_once('?').unwrap_or((text, ""));
    (name, url::form_urlencoded::parse(parameters.as_bytes()).into_owned().collect())
}

/// The name of a parameter that cannot be a SIP header: the name or the value has characters that no header may have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the parameter {0} cannot be a SIP header")]
pub struct NotAHeader(pub String);

/// Converts the parameters for a phone into SIP headers of the call to the phone. Adds the prefix `X-` to each name
/// without this prefix.
pub fn as_headers(parameters: Vec<(String, String)>) -> Result<HeaderFields, NotAHeader> {
    let header = |(name, value): (String, String)| {
        let own = name.get(..2).is_some_and(|head| head.eq_ignore_ascii_case("X-"));
        let header = if own { name.clone() } else { format!("X-{name}") };
        let fits = !name.is_empty() && is_allowed_header(&header) && !value.chars().any(char::is_control);
        if fits { Ok((header, value)) } else { Err(NotAHeader(name)) }
    };
    parameters.into_iter().map(header).collect()
}

/// Whether an application may set this header. Applications may set `X-` headers, and a few headers that transport the
/// application's data end to end.
pub fn is_allowed_header(name: &str) -> bool {
    let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
    let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    token
        && (starts("X-")
            || ["User-to-User", "Remote-Party-ID", "P-Preferred-Identity", "P-Called-Party-ID"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known)))
}

/// Maximum length of a call reason, in characters.
pub const MAX_REASON: usize = 50;

/// Builds the header that shows the reason of a call to the called party (RFC 9796). Returns `None` if the text is
/// empty, is too long, or has control characters.
pub fn call_reason(text: &str) -> Option<(String, String)> {
    let fits = !text.is_empty() && text.chars().count() <= MAX_REASON && !text.chars().any(char::is_control);
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    fits.then(|| ("Call-Info".to_owned(), format!("<data:>;purpose=jcard;call-reason=\"{quoted}\"")))
}

/// Returns DTMF digits in the spelling of the call model: `A-D` in upper case, `w` and `W` unchanged. Returns `None` if
/// the text is empty or has other characters.
pub fn send_digits(text: &str) -> Option<String> {
    let sendable = !text.is_empty() && text.chars().all(|key| "0123456789ABCDabcd#*wW".contains(key));
    sendable.then(|| text.chars().map(|key| if key == 'w' { key } else { key.to_ascii_uppercase() }).collect())
}
