//! The transport of a description: addresses, the profile and the keys. This module reads and writes these lines (`c=`,
//! `a=rtcp`, `a=crypto`), and keeps the part of a negotiation that concerns them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SdpError;
use super::crypto::{self, Crypto, Offered, Protection, RANDOM, Srtp};
use super::ice::{self, IceLines, IceNegotiation, IcePlan, IceSetup};
use super::section::{Section, malformed};

/// The part of a plan that says where a leg's packets go and how they are protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransportPlan {
    /// The RTP address in the far end's SDP. The value is `None` before the far end's first SDP, and during hold with
    /// the address 0.0.0.0.
    pub(crate) remote: Option<SocketAddr>,
    /// The far end's RTCP address, which comes from `a=rtcp` (RFC 3605). If there is no `a=rtcp`, RTCP uses the port
    /// after the RTP port.
    pub(crate) remote_rtcp: Option<SocketAddr>,
    pub(crate) protection: Protection,
    /// The hosts from which packets are accepted.
    pub(crate) source: MediaSource,
    /// Whether nothing may be sent to `remote` before a packet has arrived from there. This is so if `remote` is an
    /// address that only a host of our own network could reach, and the far end's SIP comes from elsewhere.
    pub(crate) waits: bool,
    /// How the connection is made, if ICE finds the addresses. Then the other addresses here are `None`.
    pub(crate) ice: Option<Box<IcePlan>>,
}

/// The hosts from which the engine accepts a far end's RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaSource {
    /// Packets from any host are accepted, until the host in the far end's SDP sends packets.
    #[default]
    Any,
    /// Only packets from the host in the far end's SDP are accepted.
    Signalled,
}

/// Our end of the stream.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Local {
    /// The address in `c=` and `o=`.
    pub(crate) address: IpAddr,
    /// The RTP port. RTCP uses the next port.
    pub(crate) port: u16,
    /// The session id in `o=`.
    pub(crate) id: u64,
}

/// The transport lines of an m-line that we can use.
#[derive(Debug)]
pub(super) struct TransportLines {
    /// The RTP address. The value is `None` if the far end requests hold by the old method, which has the address
    /// 0.0.0.0 in `c=`.
    pub(super) remote: Option<SocketAddr>,
    remote_rtcp: Option<SocketAddr>,
    security: Security,
}

/// The lines about the protection of packets.
#[derive(Debug)]
enum Security {
    /// Plain RTP, or keys in the description.
    Keys(Offered),
    /// Keys from DTLS, over a connection that ICE finds; or the reason why these lines cannot be used.
    Dtls(Result<Box<IceLines>, &'static str>),
}

/// The way in which an offered m-line can be used.
#[derive(Debug, Clone, Copy)]
pub(super) enum Choice<'a> {
    Plain,
    Key(&'a crypto::Line),
    Dtls(&'a IceLines),
}

impl<'a> Choice<'a> {
    pub(super) fn is_plain(self) -> bool {
        matches!(self, Choice::Plain)
    }

    /// The keys that our answer contains.
    pub(super) fn own_keys(self) -> OwnKeys<'a> {
        match self {
            Choice::Plain => OwnKeys::Nothing,
            Choice::Key(line) => OwnKeys::Answer(line),
            Choice::Dtls(_) => OwnKeys::Dtls { offers: false },
        }
    }
}

impl TransportLines {
    /// Reads the transport of an m-line. `remote` is the address of the m-line and its `c=` line. `head` are the lines
    /// before the first m-line. Returns `None` for a profile that we do not support, and for an m-line without an address
    /// that needs one.
    pub(super) fn read(
        remote: Option<SocketAddr>,
        proto: &str,
        media: Section<'_>,
        head: Section<'_>,
    ) -> Option<TransportLines> {
        if ice::is_dtls(proto) {
            let security = Security::Dtls(IceLines::read(media, head).map(Box::new));
            return Some(TransportLines { remote: None, remote_rtcp: None, security });
        }
        let security = Security::Keys(Offered::read(proto, media.values("a="))?);
        let remote = remote.filter(|remote| !remote.ip().is_unspecified());
        let remote_rtcp = remote.map(|remote| rtcp_address(media, remote));
        Some(TransportLines { remote, remote_rtcp, security })
    }

    /// Whether the address of the stream has the same address family as our socket.
    pub(super) fn is_reachable(&self, local: IpAddr) -> bool {
        self.remote.is_none_or(|remote: SocketAddr| remote.is_ipv4() == local.is_ipv4())
    }

    /// Whether the description says where the far end is. With ICE, its candidates and its checks say so. During a hold by
    /// the old method, the address is 0.0.0.0.
    pub(super) fn has_address(&self) -> bool {
        self.remote.is_some() || matches!(self.security, Security::Dtls(_))
    }
}

/// The far end as SIP knows it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum SipSource {
    /// The operator or this server itself has chosen the far end. Its SDP may name any address.
    Chosen,
    /// The address with which we exchange SIP, if it is known.
    At(Option<IpAddr>),
}

/// The keys that one of our descriptions contains.
#[derive(Clone, Copy)]
pub(super) enum OwnKeys<'a> {
    Nothing,
    Offer,
    Answer(&'a crypto::Line),
    /// No keys, but the fingerprint of our certificate. `offers` says whether the description is an offer.
    Dtls {
        offers: bool,
    },
}

/// The part of a negotiation that concerns the transport.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TransportNegotiation {
    pub(super) local: Local,
    crypto: Crypto,
    /// Whether the last agreed profile was RTP/SAVP, or `None` before the first agreement.
    secure: Option<bool>,
    /// The last address of the far end's media.
    remote: Option<SocketAddr>,
    /// The hosts from which media is accepted.
    source: MediaSource,
    sip_source: SipSource,
    /// The setup of ICE and the session's id, if this session can use ICE.
    #[serde(skip)]
    available: Option<(Arc<IceSetup>, u128)>,
    /// The negotiation of ICE, if this session uses ICE. Then our offers have ICE.
    ice: Option<Box<IceNegotiation>>,
}

impl TransportNegotiation {
    pub(super) fn new(local: Local) -> TransportNegotiation {
        TransportNegotiation {
            local,
            crypto: Crypto::off(),
            secure: None,
            remote: None,
            source: MediaSource::Any,
            sip_source: SipSource::Chosen,
            available: None,
            ice: None,
        }
    }

    pub(super) fn set_ice(&mut self, setup: Arc<IceSetup>, id: u128) {
        self.available = Some((setup, id));
    }

    /// Begins the negotiation of ICE if it has not begun. Has no effect if this session cannot use ICE. `controlling` says
    /// whether the first offer is ours.
    fn begin_ice(&mut self, controlling: bool) {
        if let (None, Some((setup, id))) = (&self.ice, &self.available) {
            let local = SocketAddr::new(self.local.address, self.local.port);
            self.ice = Some(Box::new(IceNegotiation::new((**setup).clone(), *id, local, controlling)));
        }
    }

    /// Makes our first offer an offer with ICE. Has no effect if this session cannot use ICE.
    pub(super) fn offer_ice(&mut self) {
        self.begin_ice(true);
    }

    /// Adds a trickled candidate. Returns the new plan if the candidate is new.
    pub(super) fn add_candidate(&mut self, candidate: &str) -> Option<TransportPlan> {
        let is_new = self.ice.as_mut().is_some_and(|ice| ice.add_candidate(candidate));
        is_new.then(|| self.ice_plan())
    }

    pub(super) fn set_srtp(&mut self, srtp: Srtp, random: Option<&[u8; RANDOM]>) {
        self.crypto = Crypto::new(srtp, random);
    }

    pub(super) fn set_source(&mut self, source: MediaSource) {
        self.source = source;
    }

    pub(super) fn set_sip_source(&mut self, address: Option<IpAddr>) {
        self.sip_source = SipSource::At(address);
    }

    pub(super) fn owes_new_keys(&self) -> bool {
        self.crypto.owes_new_keys
    }

    /// Returns the plan with the settings of this session.
    fn plan(
        &self,
        remote: Option<SocketAddr>,
        remote_rtcp: Option<SocketAddr>,
        protection: Protection,
    ) -> TransportPlan {
        TransportPlan {
            remote,
            remote_rtcp: remote_rtcp.filter(|to| self.may_send(*to)),
            protection,
            source: self.source,
            waits: remote.is_some_and(|to| !self.may_send(to)),
            ice: None,
        }
    }

    fn ice_plan(&self) -> TransportPlan {
        let ice = self.ice.as_ref().map(|ice| Box::new(ice.plan(|to| self.may_send(to))));
        TransportPlan { ice, ..self.plan(None, None, Protection::Dtls) }
    }

    /// Whether we may send to an address before a packet has arrived from there.
    fn may_send(&self, to: SocketAddr) -> bool {
        match self.sip_source {
            SipSource::Chosen => true,
            SipSource::At(address) => {
                let neighbours = [address, Some(self.local.address)];
                let to = to.ip().to_canonical();
                is_reachable_by_anyone(to) || neighbours.into_iter().flatten().any(|own| are_neighbours(own, to))
            }
        }
    }

    /// Whether our offers have ICE.
    pub(super) fn offers_ice(&self) -> bool {
        self.ice.is_some()
    }

    // ---- our offer ----

    /// Prepares the keys of our next offer. `agreed` says whether an offer or answer of the far end was accepted.
    pub(super) fn begin_offer(&mut self, agreed: bool) {
        self.crypto.offered_new_keys = self.crypto.owes_new_keys || !agreed;
        if self.crypto.owes_new_keys {
            self.crypto.renew();
        }
    }

    /// Returns the profile and the keys of our offer. A re-offer uses the profile that the far end has accepted. A first
    /// offer with optional SRTP uses the plain profile.
    pub(super) fn offer(&self) -> (&'static str, OwnKeys<'static>) {
        if self.offers_ice() {
            return (ice::PROFILE, OwnKeys::Dtls { offers: true });
        }
        self.offer_as(self.secure.unwrap_or(self.crypto.wanted() == Srtp::Required))
    }

    /// Returns the secure profile and the keys of our first offer. Returns `None` if SRTP is not optional, or if a
    /// profile is already agreed.
    pub(super) fn offer_secured(&self) -> Option<(&'static str, OwnKeys<'static>)> {
        let open = self.crypto.wanted() == Srtp::Optional && self.secure.is_none() && !self.offers_ice();
        open.then(|| self.offer_as(true))
    }

    fn offer_as(&self, secure: bool) -> (&'static str, OwnKeys<'static>) {
        let keys = if self.crypto.wanted() == Srtp::Off { OwnKeys::Nothing } else { OwnKeys::Offer };
        (if secure { "RTP/SAVP" } else { "RTP/AVP" }, keys)
    }

    /// Returns the plan for media that arrives before the answer to our offer.
    pub(super) fn early(&self) -> TransportPlan {
        if self.offers_ice() {
            return self.ice_plan();
        }
        let open = self.crypto.wanted() != Srtp::Off;
        self.plan(None, None, if open { Protection::Open } else { Protection::Plain })
    }

    /// Returns the plan for a stream that the far end has disabled. `before` is the plan until now.
    pub(super) fn disabled(&self, before: Option<TransportPlan>) -> TransportPlan {
        let before = before.unwrap_or_else(|| self.plan(None, None, Protection::Plain));
        TransportPlan { remote: None, remote_rtcp: None, waits: false, ..before }
    }

    /// Reads the transport of the far end's answer to our offer. The negotiation does not change if the answer's profile
    /// or its keys do not fit.
    pub(super) fn accept(&mut self, lines: &TransportLines) -> Result<TransportPlan, SdpError> {
        let keys = match (&lines.security, &mut self.ice) {
            (Security::Keys(keys), None) => keys,
            (Security::Dtls(Ok(lines)), Some(ice)) => {
                ice.accept(lines);
                return Ok(self.ice_plan());
            }
            (Security::Dtls(Err(why)), _) => return Err(SdpError::Srtp(why)),
            (Security::Keys(_), Some(_)) => {
                return Err(SdpError::Srtp("the offer has DTLS-SRTP, but the answer has not"));
            }
            (Security::Dtls(_), None) => return Err(SdpError::Srtp("the answer has DTLS-SRTP, but the offer has not")),
        };
        let protection = self.crypto.accept(keys)?;
        let moved = self.has_moved(lines.remote) && matches!(protection, Protection::Keyed(_));
        self.crypto.owes_new_keys |= moved && !self.crypto.offered_new_keys;
        self.secure = Some(keys.secure);
        Ok(self.plan(lines.remote, lines.remote_rtcp, protection))
    }

    // ---- our answer ----

    /// Decides about an offered m-line. `None` means that the m-line cannot be used.
    pub(super) fn choose<'a>(&self, lines: &'a TransportLines) -> Option<Choice<'a>> {
        match &lines.security {
            Security::Keys(keys) => self.crypto.choose(keys).map(|key| key.map_or(Choice::Plain, Choice::Key)),
            Security::Dtls(Ok(lines)) if self.ice.is_some() || self.available.is_some() => Some(Choice::Dtls(lines)),
            Security::Dtls(_) => None,
        }
    }

    /// Returns the error that says why no m-line was usable ([`Crypto::refusal`]).
    pub(super) fn refusal(&self, lines: &mut dyn Iterator<Item = &TransportLines>) -> SdpError {
        let mut dtls = None;
        let mut keys = Vec::new();
        for line in lines {
            match &line.security {
                Security::Keys(offered) => keys.push(offered),
                Security::Dtls(Err(why)) => dtls = dtls.or(Some(*why)),
                Security::Dtls(Ok(_)) => dtls = dtls.or(Some("this session cannot use DTLS-SRTP")),
            }
        }
        match dtls {
            Some(why) if keys.is_empty() => SdpError::Srtp(why),
            _ => self.crypto.refusal(&mut keys.into_iter()),
        }
    }

    /// Renews our keys before an answer, if the far end's media moves or new keys are owed. With ICE, takes the offer.
    /// Without ICE in the offer, the session leaves ICE.
    pub(super) fn begin_answer(&mut self, lines: &TransportLines, choice: Choice<'_>) {
        if let Choice::Dtls(lines) = choice {
            self.begin_ice(false);
            return self.ice.iter_mut().for_each(|ice| ice.answer(lines));
        }
        self.ice = None;
        if !choice.is_plain() && (self.has_moved(lines.remote) || self.crypto.owes_new_keys) {
            self.crypto.renew();
        }
    }

    /// Answers the transport of the far end's offer with a choice of [`TransportNegotiation::choose`].
    pub(super) fn answer(&mut self, lines: &TransportLines, choice: Choice<'_>) -> TransportPlan {
        let key = match choice {
            Choice::Dtls(_) => return self.ice_plan(),
            Choice::Key(line) => Some(line),
            Choice::Plain => None,
        };
        let protection = self.crypto.take(key);
        self.secure = Some(matches!(&lines.security, Security::Keys(keys) if keys.secure));
        self.plan(lines.remote, lines.remote_rtcp, protection)
    }

    /// Whether the far end's media moves to `remote`. If it does, the far end may have no state of our stream. So it gets
    /// a new key, under which the packet indices begin at 0 (RFC 4568 §7.1.4). In our answer, this key replaces the old
    /// key at once. But if the far end moves in an answer, our key is already in our offer. Then a further offer must
    /// bring the new key ([`TransportNegotiation::owes_new_keys`]).
    fn has_moved(&mut self, remote: Option<SocketAddr>) -> bool {
        let Some(remote) = remote else { return false };
        self.remote.replace(remote).is_some_and(|before| before != remote)
    }

    pub(super) fn write_keys(&self, keys: OwnKeys<'_>, body: &mut String) {
        match keys {
            OwnKeys::Nothing => {}
            OwnKeys::Offer => self.crypto.offer(body),
            OwnKeys::Answer(line) => self.crypto.answer(line, body),
            OwnKeys::Dtls { offers } => self.ice.iter().for_each(|ice| ice.write(offers, body)),
        }
    }

    /// Writes the lines about the transport before the first m-line.
    pub(super) fn write_head(&self, keys: OwnKeys<'_>, body: &mut String) {
        if matches!(keys, OwnKeys::Dtls { .. }) {
            self.ice.iter().for_each(|ice| ice.write_head(body));
        }
    }
}

/// Whether an address means the same host for everybody. Private addresses count too: a far end behind a NAT often
/// names one, and a far end in our own network must.
fn is_reachable_by_anyone(address: IpAddr) -> bool {
    let own = address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local(address);
    !own && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether a far end at `own` can be at `address`, which only its own host or its own link can reach.
fn are_neighbours(own: IpAddr, address: IpAddr) -> bool {
    let own = own.to_canonical();
    own.is_loopback() && address.is_loopback() || is_link_local(own) && is_link_local(address)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Returns the RTCP address from a line such as `a=rtcp:53020 IN IP4 126.16.64.4` (RFC 3605). The IP address in this
/// line is optional. Without the line, the RTCP address is the port after the RTP port.
fn rtcp_address(media: Section<'_>, rtp: SocketAddr) -> SocketAddr {
    let mut rtcp = rtp;
    rtcp.set_port(rtp.port().saturating_add(1));
    let Some(value) = media.values("a=rtcp:").next() else { return rtcp };
    let mut parts = value.split_ascii_whitespace();
    if let Some(port) = parts.next().and_then(|port| port.parse().ok())
        && port != 0
    {
        rtcp.set_port(port);
        if let Some(ip) = parts.nth(2).and_then(|ip| ip.parse::<IpAddr>().ok())
            && !ip.is_unspecified()
        {
            rtcp.set_ip(ip);
        }
    }
    rtcp
}

/// Returns the address of a `c=` line such as `IN IP4 192.0.2.1`. Returns `None` if we cannot send to the address.
pub(super) fn address(connection: &str) -> Result<Option<IpAddr>, SdpError> {
    let mut fields = connection.split(' ').filter(|field| !field.is_empty());
    let (Some(_), Some(_), Some(text), None) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
        return Err(malformed("a c-line that is not of three fields", connection));
    };
    // A TTL or a count may follow a multicast address. Some devices send a TTL with a unicast address too.
    let text = text.split('/').next().unwrap_or_default();
    Ok(text.trim().parse().ok().filter(|ip: &IpAddr| !ip.is_multicast()))
}

/// An address in the form `IN IP4 192.0.2.1`.
pub(super) fn connection(address: IpAddr) -> String {
    format!("IN {} {address}", if address.is_ipv4() { "IP4" } else { "IP6" })
}
