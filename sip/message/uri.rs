//! URIs.

use std::net::IpAddr;

use bytes::Bytes;
use sipx_sip::Address;

use super::lossy;
use crate::leg::Transport;

/// A URI of any scheme; SIP URIs can be taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Uri {
    pub(super) inner: sipx_sip::Uri,
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
        sipx_sip::Uri::parse(Bytes::copy_from_slice(text)).ok().map(|inner| Self { inner })
    }

    /// The URI of a Route or Record-Route value.
    pub(crate) fn of_route(route: &[u8]) -> Option<Self> {
        Address::parse(route, "Route").ok().map(|address| Self { inner: address.uri })
    }

    /// The URI of a name-addr or addr-spec (Refer-To, Referred-By).
    pub(crate) fn of_address(value: &str) -> Option<Self> {
        let uri = Address::parse(value.as_bytes(), "Refer-To").ok()?.uri;
        Some(Self { inner: uri })
    }

    /// As received or built.
    pub(crate) fn text(&self) -> Bytes {
        self.inner.to_bytes()
    }

    pub(crate) fn is_sip(&self) -> bool {
        self.inner.scheme().is_sip()
    }

    /// The user (or telephone number), percent escapes decoded. A telephone number loses its parameters (RFC 3261 §19.1.6,
    /// `+15550001;npdi`) and what is in it for the eye only; any other user keeps its semicolons.
    pub(crate) fn user(&self) -> String {
        if let Some(tel) = self.inner.tel_parts() {
            return without_separators(lossy(tel.subscriber()));
        }
        let mut user = self.inner.decoded_user().map(|user| lossy(&user)).unwrap_or_default();
        if user.starts_with(|c: char| c == '+' || c.is_ascii_digit())
            && let Some(end) = user.find(';')
        {
            user.truncate(end);
        }
        let kind = || self.inner.params().and_then(|params| params.value("user"));
        if user.starts_with('+') || kind() == Some(b"phone") { without_separators(user) } else { user }
    }

    /// The `gr` parameter: the instance that is meant (RFC 5627 §5.1).
    pub(crate) fn instance(&self) -> Option<String> {
        self.inner.params()?.value("gr").map(lossy)
    }

    /// The `line` parameter, as we put it into the Contacts that registrars are told.
    pub(crate) fn line_token(&self) -> Option<u128> {
        let text = self.inner.params()?.value("line")?;
        let digits = std::str::from_utf8(text).ok().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok()
    }

    /// Host of a SIP URI, as it is written; empty for other schemes.
    pub(crate) fn host_text(&self) -> String {
        self.inner.host().map(|host| lossy(&host.to_bytes())).unwrap_or_default()
    }

    /// RFC 3261 §19.1.4.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        self.inner.equivalent(&other.inner)
    }

    /// RFC 3261 §19.1.1 `lr`.
    pub(crate) fn is_loose_router(&self) -> bool {
        self.inner.params().is_some_and(|params| params.contains("lr"))
    }

    /// Host, port and transport of a SIP URI. `None` for other schemes and for transports we do not speak. `sips:` is TLS
    /// whatever the parameter says, unless it says WebSocket (RFC 7118 §5.3), or UDP, which cannot be.
    pub(crate) fn destination(&self) -> Option<Destination> {
        let host = match self.inner.host()? {
            sipx_sip::Host::Ip(ip) => Host::Ip(*ip),
            sipx_sip::Host::Name(name) => Host::Name(lossy(name.as_bytes())),
        };
        let named = match self.inner.transport() {
            Some(name) => Some(Transport::named(std::str::from_utf8(name).ok()?)?),
            None => None,
        };
        let transport = match (self.inner.scheme().is_secure(), named) {
            (false, named) => named,
            (true, Some(Transport::Udp)) => return None,
            (true, Some(Transport::Ws | Transport::Wss)) => Some(Transport::Wss),
            (true, None | Some(Transport::Tcp | Transport::Tls)) => Some(Transport::Tls),
        };
        Some(Destination { host, port: self.inner.port(), transport })
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
