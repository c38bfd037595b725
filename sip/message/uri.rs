//! URIs.

use std::net::IpAddr;

use bytes::Bytes;
use sipx_sip::Address;

use super::{lossy, plain};
use crate::leg::Transport;

/// A URI of any scheme; SIP URIs can be taken apart. Most are only ever repeated: it is its text, which has been seen to be
/// right, and is taken apart when asked.
#[derive(Debug, Clone)]
pub(crate) struct Uri {
    pub(super) text: Bytes,
}

/// Where a SIP URI points, before any name lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
    /// `None`: the URI does not say, so UDP.
    pub(crate) transport: Option<Transport>,
}

/// A host, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Uri {
    /// Parses the URI alone, without angle brackets.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        Self::is_one(text).then(|| Self { text: Bytes::copy_from_slice(text) })
    }

    /// Whether it is a URI.
    pub(crate) fn is_one(text: &[u8]) -> bool {
        plain::uri(text).is_some() || sipx_sip::Uri::parse(Bytes::copy_from_slice(text)).is_ok()
    }

    /// The URI of a Route or Record-Route value, or of another name-addr or addr-spec (Refer-To, Referred-By).
    pub(crate) fn of_address(value: &[u8]) -> Option<Self> {
        match plain::uri_of_address(value) {
            Some(uri) => Some(Self { text: Bytes::copy_from_slice(uri) }),
            None => Address::parse(value, "Route").ok().map(|address| Self::of(&address.uri)),
        }
    }

    pub(super) fn of(parsed: &sipx_sip::Uri) -> Self {
        Self { text: parsed.to_bytes() }
    }

    /// As received or built.
    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    pub(crate) fn is_sip(&self) -> bool {
        let scheme = self.text.split(|&byte| byte == b':').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips")
    }

    fn parsed(&self) -> Option<sipx_sip::Uri> {
        sipx_sip::Uri::parse(self.text.clone()).ok()
    }

    /// A parameter of a SIP URI, if it has a value.
    fn parameter(&self, name: &str) -> Option<String> {
        match plain::uri(&self.text) {
            _ if !self.text.contains(&b';') => None,
            Some(parts) => parts.parameter(name).map(lossy),
            None => self.parsed()?.params()?.value(name).map(lossy),
        }
    }

    /// The user (or telephone number), percent escapes decoded. A telephone number loses its parameters (RFC 3261 §19.1.6,
    /// `+15550001;npdi`) and what is in it for the eye only; any other user keeps its semicolons.
    pub(crate) fn user(&self) -> String {
        let mut user = match plain::uri(&self.text) {
            Some(parts) => lossy(parts.user),
            None => {
                let Some(parsed) = self.parsed() else { return String::new() };
                if let Some(tel) = parsed.tel_parts() {
                    return without_separators(lossy(tel.subscriber()));
                }
                parsed.decoded_user().map(|user| lossy(&user)).unwrap_or_default()
            }
        };
        if user.starts_with(|c: char| c == '+' || c.is_ascii_digit())
            && let Some(end) = user.find(';')
        {
            user.truncate(end);
        }
        let is_phone = || self.parameter("user").as_deref() == Some("phone");
        if user.starts_with('+') || is_phone() { without_separators(user) } else { user }
    }

    /// The `gr` parameter: the instance that is meant (RFC 5627 §5.1).
    pub(crate) fn instance(&self) -> Option<String> {
        self.parameter("gr")
    }

    /// The `line` parameter, as we put it into the Contacts that registrars are told.
    pub(crate) fn line_token(&self) -> Option<u128> {
        let digits = self.parameter("line").filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(&digits, 16).ok()
    }

    /// Host of a SIP URI, as it is written; empty for other schemes.
    pub(crate) fn host_text(&self) -> String {
        if let Some(parts) = plain::uri(&self.text) {
            return lossy(parts.host_text);
        }
        let host = |parsed: sipx_sip::Uri| parsed.host().map(|host| lossy(&host.to_bytes()));
        self.parsed().and_then(host).unwrap_or_default()
    }

    /// Port of a SIP URI, where it is written.
    pub(crate) fn port(&self) -> Option<u16> {
        match plain::uri(&self.text) {
            Some(parts) => parts.port,
            None => self.parsed()?.port(),
        }
    }

    /// RFC 3261 §19.1.4.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        matches!((self.parsed(), other.parsed()), (Some(one), Some(other)) if one.equivalent(&other))
    }

    /// RFC 3261 §19.1.1 `lr`.
    pub(crate) fn is_loose_router(&self) -> bool {
        self.parsed().is_some_and(|parsed| parsed.params().is_some_and(|params| params.contains("lr")))
    }

    /// Host, port and transport of a SIP URI. `None` for other schemes and for transports we do not speak. `sips:` is TLS
    /// whatever the parameter says, unless it says WebSocket (RFC 7118 §5.3), or UDP, which cannot be.
    pub(crate) fn destination(&self) -> Option<Destination> {
        let (host, port, secure) = match plain::uri(&self.text) {
            Some(parts) => (parts.host(), parts.port, parts.secure),
            None => {
                let parsed = self.parsed()?;
                let host = match parsed.host()? {
                    sipx_sip::Host::Ip(ip) => Host::Ip(*ip),
                    sipx_sip::Host::Name(name) => Host::Name(lossy(name.as_bytes())),
                };
                (host, parsed.port(), parsed.scheme().is_secure())
            }
        };
        let named = match self.parameter("transport") {
            Some(name) => Some(Transport::named(&name)?),
            None => None,
        };
        let transport = match (secure, named) {
            (false, named) => named,
            (true, Some(Transport::Udp)) => return None,
            (true, Some(Transport::Ws | Transport::Wss)) => Some(Transport::Wss),
            (true, None | Some(Transport::Tcp | Transport::Tls)) => Some(Transport::Tls),
        };
        Some(Destination { host, port, transport })
    }
}

/// A telephone number without its visual separators (RFC 3966 §5.1.1); what is none stays as it is.
fn without_separators(mut user: String) -> String {
    let is_separator = |c: char| matches!(c, '-' | '.' | '(' | ')' | ' ');
    let digits = user.strip_prefix('+').unwrap_or(&user);
    let is_number = digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '*' | '#') || is_separator(c));
    if is_number && digits.contains(|c: char| c.is_ascii_digit()) {
        user.retain(|c| !is_separator(c));
    }
    user
}
