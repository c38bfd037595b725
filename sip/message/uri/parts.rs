//! The parts of a URI. SIP and SIPS URIs (RFC 3261 §19.1.1) and telephone numbers (RFC 3966) are parsed. For any other
//! URI only the scheme is read.

use super::escape;
use crate::message::grammar::{PHONE, SCHEME, URI, USER, all, cut, is};
use crate::message::host::{HostText, take_port};

/// Maximum number of parameters of a URI. The same maximum applies to the headers of a URI. The limit exists because
/// the time of a comparison grows with the square of the number.
const MAX_PARAMETERS: usize = 64;

/// The error of a malformed URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UriFault {
    #[error("scheme")]
    Scheme,
    /// The URI contains a character that no URI may contain: a space, `<`, `>`, `"`, a control character or a character
    /// outside ASCII.
    #[error("character")]
    Character,
    #[error("escape")]
    Escape,
    #[error("user")]
    User,
    #[error("host")]
    Host,
    #[error("port")]
    Port,
    #[error("parameter")]
    Parameter,
    /// A parameter occurs twice, which RFC 3261 §19.1.1 forbids.
    #[error("repeated parameter")]
    RepeatedParameter,
    #[error("telephone number")]
    Number,
}

/// A parsed URI. The parts still contain their escapes.
pub(in crate::message) enum Parts<'a> {
    Sip(SipUri<'a>),
    Tel(TelUri<'a>),
    Other { scheme: &'a [u8], rest: &'a [u8] },
}

/// A SIP URI: `sip:user:password@host:port;parameters?headers`.
pub(in crate::message) struct SipUri<'a> {
    /// Whether the scheme is `sips`.
    pub(super) secure: bool,
    pub(super) user: Option<&'a [u8]>,
    pub(super) password: Option<&'a [u8]>,
    pub(super) host: HostText<'a>,
    pub(super) port: Option<u16>,
    parameters: &'a [u8],
    headers: &'a [u8],
}

/// A URI of a telephone number: `tel:+15550001;parameters`.
pub(in crate::message) struct TelUri<'a> {
    /// The number, including its visual separators.
    pub(super) number: &'a [u8],
    /// The parameters without the first semicolon.
    pub(super) parameters: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Parses a URI without angle brackets.
    pub(in crate::message) fn read(text: &'a [u8]) -> Result<Self, UriFault> {
        let (scheme, rest) = cut(text, b':').ok_or(UriFault::Scheme)?;
        if scheme.is_empty() || !all(scheme, SCHEME) {
            return Err(UriFault::Scheme);
        }
        if !escape::are_sound(rest) {
            return Err(UriFault::Escape);
        }
        let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
        if is("sip") || is("sips") {
            return SipUri::read(rest, is("sips")).map(Self::Sip);
        }
        if !all(rest, URI) {
            return Err(UriFault::Character);
        }
        if is("tel") { TelUri::read(rest).map(Self::Tel) } else { Ok(Self::Other { scheme, rest }) }
    }
}

impl<'a> SipUri<'a> {
    fn read(rest: &'a [u8], secure: bool) -> Result<Self, UriFault> {
        // The parts after the user must not contain an unescaped `@`.
        let (user, password, rest) = match cut(rest, b'@') {
            Some((info, rest)) => match cut(info, b':') {
                Some((user, password)) => (Some(user), Some(password), rest),
                None => (Some(info), None, rest),
            },
            None => (None, None, rest),
        };
        let is_user = |user: &[u8]| !user.is_empty() && all(user, USER);
        if !user.is_none_or(is_user) || !password.is_none_or(|password| all(password, URI)) {
            return Err(UriFault::User);
        }
        let (host, rest) = HostText::take(rest).ok_or(UriFault::Host)?;
        let (port, rest) = match rest.strip_prefix(b":") {
            Some(rest) => take_port(rest).map(|(port, rest)| (Some(port), rest)).ok_or(UriFault::Port)?,
            None => (None, rest),
        };
        let (rest, headers) = match cut(rest, b'?') {
            Some((rest, headers)) => (rest, checked(headers, b'&')?),
            None => (rest, &[][..]),
        };
        let parameters = match rest.split_first() {
            Some((b';', parameters)) => checked(parameters, b';')?,
            Some(_) => return Err(UriFault::Host),
            None => &[],
        };
        let uri = Self { secure, user, password, host, port, parameters, headers };
        if uri.repeats_a_parameter() { Err(UriFault::RepeatedParameter) } else { Ok(uri) }
    }

    fn repeats_a_parameter(&self) -> bool {
        let names = || self.parameters().map(|(name, _)| name);
        names().enumerate().any(|(at, name)| names().take(at).any(|other| escape::are_same_in_any_case(name, other)))
    }

    /// Returns the names and values of the parameters.
    pub(super) fn parameters(&self) -> impl Iterator<Item = Pair<'a>> {
        pairs(self.parameters, b';')
    }

    /// Returns the names and values of the headers.
    pub(super) fn headers(&self) -> impl Iterator<Item = Pair<'a>> {
        pairs(self.headers, b'&')
    }

    pub(in crate::message) fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    pub(super) fn has_parameter(&self, name: &str) -> bool {
        self.parameters().any(|(other, _)| escape::are_same_in_any_case(other, name.as_bytes()))
    }

    /// Returns the value of a parameter, if the parameter has a value.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        self.parameters().find(|(other, _)| escape::are_same_in_any_case(other, name.as_bytes()))?.1
    }
}

impl<'a> TelUri<'a> {
    fn read(rest: &'a [u8]) -> Result<Self, UriFault> {
        let (number, parameters) = cut(rest, b';').unwrap_or((rest, &[]));
        // A global number has only decimal digits. A local number may also have other characters, such as `*` and `#`.
        let is_separator = |byte: &u8| matches!(byte, b'-' | b'.' | b'(' | b')');
        let mut digits =
            number.strip_prefix(b"+").unwrap_or(number).iter().filter(|byte| !is_separator(byte)).peekable();
        let is_digit = |byte: &u8| if number.starts_with(b"+") { byte.is_ascii_digit() } else { is(*byte, PHONE) };
        if digits.peek().is_none() || !digits.all(is_digit) {
            return Err(UriFault::Number);
        }
        if pairs(parameters, b';').nth(MAX_PARAMETERS).is_some() {
            return Err(UriFault::Parameter);
        }
        Ok(Self { number, parameters })
    }
}

/// A name and an optional value.
pub(super) type Pair<'a> = (&'a [u8], Option<&'a [u8]>);

/// Checks that each item of the list has a name and that there are not too many items. Returns the list.
fn checked(list: &[u8], separator: u8) -> Result<&[u8], UriFault> {
    let is_sound = pairs(list, separator)
        .all(|(name, value)| !name.is_empty() && all(name, URI) && value.is_none_or(|value| all(value, URI)));
    let is_short = pairs(list, separator).nth(MAX_PARAMETERS).is_none();
    if !list.is_empty() && is_sound && is_short { Ok(list) } else { Err(UriFault::Parameter) }
}

/// Splits the list at the separators into items of the form `name=value` or `name`. An empty list has no items.
pub(super) fn pairs(list: &[u8], separator: u8) -> impl Iterator<Item = Pair<'_>> {
    let items = list.split(move |&byte| byte == separator).filter(|_| !list.is_empty());
    items.map(|item| cut(item, b'=').map_or((item, None), |(name, value)| (name, Some(value))))
}
