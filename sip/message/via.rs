//! Via (RFC 3261 §20.42): the hop that sent a request.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;

use super::grammar::{Parameters, TOKEN, cut_at_space, first_value, leading, skip_space};
use super::host::{HostText, take_port};
use super::{lossy, within};
use crate::flow::Transport;

/// The parts of the topmost Via that a request stores.
#[derive(Debug, Clone)]
pub(crate) struct TopVia {
    /// The branch. `None` if the branch does not begin with the magic cookie (RFC 3261 §8.1.1.7), or if nothing follows
    /// the cookie.
    pub(crate) branch: Option<Bytes>,
    /// The host and optional port (`host[:port]`) in lower case.
    pub(crate) sent_by: Bytes,
    /// Whether the Via has `rport` (RFC 3581 §3).
    pub(crate) rport: bool,
    /// The port on which the sender accepts connections, if the Via has `alias` (RFC 5923 §8.1).
    pub(crate) alias: Option<u16>,
    /// The host of the Via, if the host is an IP address.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: Option<u16>,
    /// The transport. `None` if this server does not have the transport.
    pub(super) transport: Option<Transport>,
}

/// One value of Via.
pub(super) struct Hop<'a> {
    transport: &'a [u8],
    /// The host and port as written.
    sent_by: &'a [u8],
    host: HostText<'a>,
    pub(super) port: Option<u16>,
    /// The value of `branch`. The value is empty if there is no branch.
    pub(super) branch: Cow<'a, [u8]>,
    pub(super) rport: bool,
    /// The source address and port of the request, as the receiver of the request added them (RFC 3261 §18.2.1, RFC 3581
    /// §4).
    pub(super) received: Option<IpAddr>,
    pub(super) received_port: Option<u16>,
    alias: bool,
}

impl<'a> Hop<'a> {
    /// Reads the first hop of a Via line: `SIP/2.0/UDP host:port;branch=x`. Any protocol and any transport is accepted
    /// (RFC 4475 §3.1.1.10). Spaces around each part are accepted too (§3.1.1.1).
    pub(super) fn first(line: &'a [u8]) -> Option<Self> {
        let rest = take_token_and_slash(first_value(line)?)?;
        let (transport, rest) = leading(take_token_and_slash(rest)?, TOKEN);
        let (_, sent_by) = cut_at_space(rest).filter(|(before, _)| before.is_empty() && !transport.is_empty())?;
        let sent_by = skip_space(sent_by);
        let (host, after_host) = HostText::take(sent_by)?;
        let (port, after) = match skip_space(after_host).strip_prefix(b":") {
            Some(rest) => take_port(skip_space(rest)).map(|(port, rest)| (Some(port), rest))?,
            None => (None, after_host),
        };
        let sent_by = sent_by.get(..sent_by.len() - after.len())?;
        let (mut branch, mut rport, mut alias) = (None, false, false);
        let (mut received, mut received_port) = (None, None);
        for parameter in Parameters::of(after) {
            let parameter = parameter.ok()?;
            rport |= parameter.is("rport");
            alias |= parameter.is("alias");
            let text = || parameter.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
            if parameter.is("received") {
                received = text().and_then(|ip| ip.trim_matches(['[', ']']).parse().ok());
            } else if parameter.is("rport") {
                received_port = text().and_then(|port| port.parse().ok());
            }
            if parameter.is("branch") && branch.is_none() {
                branch = Some(parameter.value.unwrap_or_default());
            }
        }
        let branch = branch.unwrap_or_default();
        Some(Self { transport, sent_by, host, port, branch, rport, received, received_port, alias })
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host.ip()
    }

    /// Returns the parts of the hop that a request stores. The parts refer to `text`.
    pub(super) fn top_via(self, text: &Bytes) -> TopVia {
        let is_magic = self.branch.len() > 7 && self.branch.starts_with(b"z9hG4bK");
        TopVia {
            sent_by: self.written_sent_by(text),
            rport: self.rport,
            alias: self.alias.then(|| self.port.unwrap_or(5061)),
            ip: self.ip(),
            port: self.port,
            transport: Transport::named(&lossy(self.transport)),
            branch: is_magic.then(|| within(text, self.branch)),
        }
    }

    /// Returns the host and port in a uniform spelling, for comparisons.
    fn written_sent_by(&self, text: &Bytes) -> Bytes {
        let is_plain =
            |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b':');
        let port_is_plain = !self.sent_by.windows(2).any(|two| two == b":0");
        if self.sent_by.iter().all(is_plain) && port_is_plain {
            return text.slice_ref(self.sent_by);
        }
        let mut written = match self.host {
            HostText::Word(_) => self.host.text().to_ascii_lowercase(),
            HostText::Ip6(ip) => format!("[{ip}]"),
        };
        if let Some(port) = self.port {
            written.push_str(&format!(":{port}"));
        }
        Bytes::from(written)
    }
}

/// Reads `SIP /` or `2.0 /`. Returns the rest.
fn take_token_and_slash(text: &[u8]) -> Option<&[u8]> {
    let (token, rest) = leading(text, TOKEN);
    let rest = skip_space(rest).strip_prefix(b"/").filter(|_| !token.is_empty())?;
    Some(skip_space(rest))
}
