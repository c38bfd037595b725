//! The topmost Via of a request.

use std::net::IpAddr;

use bytes::Bytes;
use sipx_sip::Via;

/// The topmost Via of a request.
#[derive(Debug, Clone)]
pub(crate) struct TopVia {
    /// The branch, when it begins with the magic cookie (RFC 3261 §8.1.1.7) and has something after it.
    pub(crate) branch: Option<Bytes>,
    /// Lower-case `host[:port]`.
    pub(crate) sent_by: Bytes,
    /// It has `rport` (RFC 3581 §3).
    pub(crate) rport: bool,
    /// The port where its sender listens, if it has `alias` (RFC 5923 §8.1).
    pub(crate) alias: Option<u16>,
    /// Its host, if that is an address.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

impl TopVia {
    pub(super) fn of(via: &Via) -> Self {
        let host = via.host.to_string().to_ascii_lowercase();
        let sent_by = match via.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        let branch = via.branch().filter(|branch| Self::is_magic(branch)).map(Bytes::copy_from_slice);
        let alias = via.params.iter().any(|param| param.is("alias")).then(|| via.port.unwrap_or(5061));
        let sent_by = Bytes::from(sent_by);
        Self { branch, sent_by, rport: via.rport().is_some(), alias, ip: ip_of(via), port: via.port }
    }

    pub(super) fn is_magic(branch: &[u8]) -> bool {
        branch.len() > 7 && branch.starts_with(b"z9hG4bK")
    }
}

pub(super) fn ip_of(via: &Via) -> Option<IpAddr> {
    match &via.host {
        sipx_sip::Host::Ip(ip) => Some(*ip),
        sipx_sip::Host::Name(_) => None,
    }
}
