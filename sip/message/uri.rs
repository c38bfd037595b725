//! URIs (RFC 3261 §19.1).

mod equivalence;
mod escape;
mod parts;

use bytes::Bytes;

use self::parts::{Pair, SipUri, pairs};
pub(super) use self::parts::{Parts, UriFault};
use super::address::Address;
use super::{Host, lossy};
use crate::flow::Transport;

/// A URI of any scheme, stored as checked text. Most URIs are only copied into messages. So the text is parsed only
/// when a part of the URI is needed.
#[derive(Debug, Clone)]
pub(crate) struct Uri {
    text: Bytes,
}

/// The destination that a SIP URI names, before any DNS lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
    /// The transport. `None` if the URI has no transport, which means UDP.
    pub(crate) transport: Option<Transport>,
}

impl Uri {
    /// Parses a URI without angle brackets. Returns `None` if the URI is malformed.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        Self::is_one(text).then(|| Self::copied(text))
    }

    /// Returns whether the text is a URI.
    pub(crate) fn is_one(text: &[u8]) -> bool {
        Parts::read(text).is_ok()
    }

    /// Returns the URI in the value of a header field: Route, Record-Route, Refer-To, Referred-By, or another field
    /// that contains a name-addr or addr-spec.
    pub(crate) fn of_address(value: &[u8]) -> Option<Self> {
        Address::read(value).map(|address| Self::copied(address.uri))
    }

    /// Creates a URI from checked text. `uri` is a part of `text`, and the new URI keeps `text` in memory.
    pub(super) fn within(text: &Bytes, uri: &[u8]) -> Self {
        Self { text: text.slice_ref(uri) }
    }

    /// Creates a URI from a copy of checked text. The copy is for a URI that is stored for a long time.
    pub(super) fn copied(uri: &[u8]) -> Self {
        Self { text: Bytes::copy_from_slice(uri) }
    }

    /// Returns the text of the URI, as it was received or composed.
    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    pub(crate) fn is_sip(&self) -> bool {
        let scheme = self.text.split(|&byte| byte == b':').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips")
    }

    /// Returns whether the scheme is `sips`.
    pub(crate) fn is_secure(&self) -> bool {
        self.text.split(|&byte| byte == b':').next().unwrap_or_default().eq_ignore_ascii_case(b"sips")
    }

    fn parts(&self) -> Option<Parts<'_>> {
        Parts::read(&self.text).ok()
    }

    fn sip(&self) -> Option<SipUri<'_>> {
        match self.parts()? {
            Parts::Sip(uri) => Some(uri),
            _ => None,
        }
    }

    /// Returns the value of a SIP URI parameter. Returns `None` if the parameter is absent or has no value.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        if !self.text.contains(&b';') {
            return None;
        }
        self.sip()?.parameter(name).map(lossy)
    }

    /// Returns the user or telephone number, with decoded percent escapes. The parameters (RFC 3261 §19.1.6,
    /// `+15550001;npdi`) and the visual separators of a telephone number are removed. A local number gets the prefix in
    /// its `phone-context`. Any other user keeps its semicolons.
    pub(crate) fn user(&self) -> String {
        let mut user = match self.parts() {
            Some(Parts::Sip(uri)) => uri.user.map(|user| lossy(&escape::decoded(user))).unwrap_or_default(),
            Some(Parts::Tel(uri)) => {
                let number = lossy(uri.number);
                return in_context(&number, uri.parameters).unwrap_or_else(|| without_separators(number));
            }
            _ => String::new(),
        };
        if user.starts_with(|c: char| c == '+' || c.is_ascii_digit())
            && let Some((number, parameters)) = user.split_once(';')
        {
            user = in_context(number, parameters.as_bytes()).unwrap_or_else(|| number.to_owned());
        }
        let is_phone = || self.parameter("user").as_deref() == Some("phone");
        if user.starts_with('+') || is_phone() { without_separators(user) } else { user }
    }

    /// Returns the user like [`Uri::user`]. If the user has only digits and visual separators, the separators are
    /// removed, even if nothing says that the user is a telephone number.
    pub(super) fn number(&self) -> String {
        without_separators(self.user())
    }

    /// Returns the value of the `gr` parameter, which names the instance of a GRUU (RFC 5627 §5.1).
    pub(crate) fn instance(&self) -> Option<String> {
        self.parameter("gr")
    }

    /// Returns the value of the `line` parameter. The server adds this parameter to the Contacts that it registers.
    pub(crate) fn line_token(&self) -> Option<u128> {
        let digits = self.parameter("line").filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(&digits, 16).ok()
    }

    /// Returns the host of a SIP URI as written, without brackets. The result is empty for other schemes.
    pub(crate) fn host_text(&self) -> String {
        self.sip().map(|uri| uri.host.text()).unwrap_or_default()
    }

    /// Returns the port of a SIP URI. Returns `None` if the URI has no port.
    pub(crate) fn port(&self) -> Option<u16> {
        self.sip()?.port
    }

    /// Returns whether two URIs are equivalent (RFC 3261 §19.1.4).
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        matches!((self.parts(), other.parts()), (Some(one), Some(other)) if one.are_equivalent(&other))
    }

    /// Returns whether the URI has the parameter `lr` (RFC 3261 §19.1.1).
    pub(crate) fn is_loose_router(&self) -> bool {
        self.sip().is_some_and(|uri| uri.has_parameter("lr"))
    }

    /// Returns host, port and transport of a SIP URI. Returns `None` for other schemes and for unsupported transports.
    /// The scheme `sips:` means TLS, with two exceptions. A `sips:` URI with `transport=ws` or `transport=wss` means
    /// secure WebSocket (RFC 7118 §5.3). For a `sips:` URI with `transport=udp`, the result is `None`.
    pub(crate) fn destination(&self) -> Option<Destination> {
        let uri = self.sip()?;
        let named = match uri.parameter("transport") {
            Some(name) => Some(Transport::named(&lossy(name))?),
            None => None,
        };
        let transport = match (uri.secure, named) {
            (false, named) => named,
            (true, Some(Transport::Udp)) => return None,
            (true, Some(Transport::Ws | Transport::Wss)) => Some(Transport::Wss),
            (true, None | Some(Transport::Tcp | Transport::Tls)) => Some(Transport::Tls),
        };
        Some(Destination { host: uri.host.parsed(), port: uri.port, transport })
    }
}

/// Returns a local number with the prefix in its `phone-context`, without visual separators (RFC 3966 §5.1.5). Returns
/// `None` if the number is global, if the context is no prefix of telephone numbers, or if both together are no global
/// number: an emergency number has a context too, and a number with a trunk prefix (0).
fn in_context(number: &str, parameters: &[u8]) -> Option<String> {
    let is_context = |(name, _): &Pair<'_>| name.eq_ignore_ascii_case(b"phone-context");
    let context = without_separators(lossy(pairs(parameters, b';').find(is_context)?.1?));
    let number = without_separators(number.to_owned());
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_global = context.len() + number.len() > 8 && !number.starts_with('0');
    (context.strip_prefix('+').is_some_and(are_digits) && are_digits(&number) && is_global).then(|| context + &number)
}

/// Removes the visual separators of a telephone number (RFC 3966 §5.1.1). Any other text is returned unchanged.
fn without_separators(mut user: String) -> String {
    let is_separator = |c: char| matches!(c, '-' | '.' | '(' | ')' | ' ');
    let digits = user.strip_prefix('+').unwrap_or(&user);
    let is_number = digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '*' | '#') || is_separator(c));
    if is_number && digits.contains(|c: char| c.is_ascii_digit()) {
        user.retain(|c| !is_separator(c));
    }
    user
}
