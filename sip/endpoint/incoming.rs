//! Requests that begin something: INVITEs of new calls, and what of RFC 3261 §8.2 refuses them.

use super::phones::{self, Admission};
use super::refer::refusal_of_event;
use super::reliable::Reliable;
use super::retry::Full;
use super::server::request_line;
use super::state::{End, Extensions, Key, Leg, State};
use super::{Arrival, Endpoint, session_timer};
use crate::arena::Slot;
use crate::compose::{self, ResponseParts, SUPPORTED};
use crate::config::UnknownSources;
use crate::dialog::{Dialog, Flow};
use crate::digest;
use crate::guard::Offence;
use crate::leg::{Caller, EndCause, Event, Incoming, Prack, TrunkName};
use crate::message::{Echo, Method, Request, Uri};
use crate::peer::{PeerState, Way};
use crate::trunk;
use crate::waiting::Waiting;
use bytes::Bytes;
use std::net::IpAddr;
use std::time::Instant;

/// Longest Request-URI taken, octets (414 beyond it).
const MAX_URI: usize = 2_048;

impl Endpoint {
    pub(super) fn handle_out_of_dialog(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: Request,
        key: Key,
        echo: Echo,
    ) {
        if request.to.tag.is_some() {
            self.refuse(arrival, &echo, 481, "");
            return;
        }
        match request.method {
            Method::Invite => {}
            Method::Options => {
                self.answer_options(arrival, &request, &echo);
                return;
            }
            Method::Bye | Method::Info | Method::Update | Method::Prack => {
                self.refuse(arrival, &echo, 481, "");
                return;
            }
            Method::Notify | Method::Subscribe => {
                let (status, lines) = refusal_of_event(&request);
                self.refuse(arrival, &echo, status, lines);
                return;
            }
            // What is to be transferred is a call, and this names none.
            Method::Refer => {
                self.refuse(arrival, &echo, 403, "");
                return;
            }
            Method::Ack | Method::Cancel => return,
            Method::Register | Method::Other(_) => {
                self.refuse(arrival, &echo, 405, "");
                return;
            }
        }
        let (trunk, caller, guest) = match self.identify(now, arrival, &request, &echo) {
            Admission::Trunk { name, guest } => (name, None, guest),
            Admission::Caller(caller) => (None, Some(caller), true),
            Admission::Refused => return,
        };
        let merge_key = self.merge_key(&request);
        if let Some((status, lines)) = self.refusal_of_invite(&request, merge_key, trunk.as_ref()) {
            self.refuse(arrival, &echo, status, &lines);
            return;
        }
        let peer = trunk.as_deref().and_then(|trunk| self.peer_of(trunk));
        if !self.admit(now, peer, Way::In) {
            let full = peer.and_then(|peer| self.peers.get(peer)).is_some_and(PeerState::is_full);
            let lines = self.come_back(if full { Full::Calls } else { Full::Pace });
            self.refuse(arrival, &echo, 503, &lines);
            return;
        }
        // Some carriers ask for a password even for the BYE of a call of theirs.
        let credentials = peer.and_then(|peer| self.peers.get(peer)?.peer.credentials.clone());
        let session = credentials.map(|own| digest::Session::new(own).at_home(self.home_of(peer)));
        let flow = Flow { pinned: guest, ..self.arrival_flow(arrival) };
        let leg = self.accept_invite(now, arrival, flow, request, trunk, key, merge_key, echo, caller);
        match leg.and_then(|leg| self.legs.get_mut(leg)) {
            Some(leg) => {
                leg.peer = peer;
                leg.session = session;
            }
            None => peer.and_then(|peer| self.peers.get_mut(peer)).into_iter().for_each(PeerState::release),
        }
    }

    /// RFC 3261 §8.2 in its order.
    pub(super) fn refusal_of_invite(
        &mut self,
        request: &Request,
        merge_key: Key,
        trunk: Option<&TrunkName>,
    ) -> Option<(u16, String)> {
        if request.uri.text().len() > MAX_URI {
            return Some((414, String::new()));
        }
        if self.servers_by_merge_key.contains_key(&merge_key) || self.lingering.has_merged(&merge_key) {
            return Some((482, String::new()));
        }
        // Taking the call means forwarding it, so this is a proxy's question to us too (RFC 3261 §16.3).
        if request.max_forwards == Some(0) {
            return Some((483, String::new()));
        }
        if self.is_loop(request) {
            return Some((482, String::new()));
        }
        if let Some(lines) = unsupported(request, self.prack_of(trunk)) {
            return Some((420, lines));
        }
        if let Err(status) = self.replaced_by(request) {
            return Some((status, String::new()));
        }
        if let Err(least) = session_timer::agree(request, self.config.session_expires, self.config.min_se) {
            return Some((422, format!("Min-SE: {least}\r\n")));
        }
        if let Some(refusal) = refusal_of_body(request) {
            return Some(refusal);
        }
        if !accepts_sdp(request) {
            return Some((406, String::new()));
        }
        if self.overloaded || self.legs.len() >= self.config.max_legs || !self.has_room() {
            self.shed += 1;
            let full = if self.overloaded { Full::Late } else { Full::Tables };
            return Some((503, self.come_back(full)));
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "a call's parts, named at their one use")]
    pub(super) fn accept_invite(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        // A guest's own address may lie behind a NAT: what goes to it goes where it came from.
        flow: Flow,
        request: Request,
        trunk: Option<TrunkName>,
        key: Key,
        merge_key: Key,
        echo: Echo,
        caller: Option<Caller>,
    ) -> Option<Slot> {
        let leg_key = self.fresh_leg_key();
        let tag = self.fresh_tag();
        let mut local = echo.to.to_vec();
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(&compose::hex(tag));
        let target = request.content.contact().or_else(|| Uri::parse(format!("sip:{}", arrival.source).as_bytes()));
        let target = target?;
        let dialog = Dialog::from_request(&request, Bytes::from(local), target, flow);
        let incoming = Box::new(Incoming {
            request_uri: lossy(request.uri.text()),
            to_uri: lossy(request.to.uri.text()),
            from_uri: lossy(request.from.uri.text()),
            from_user: request.from.uri.user(),
            from_display: Some(lossy(&request.from.display)).filter(|display| !display.is_empty()),
            to_user: self.called_user(&request),
            sip_call_id: lossy(&request.call_id),
            source: arrival.source,
            transport: arrival.transport,
            trunk,
            caller,
            headers: request.content.application_headers(),
            offer: request.content.sdp(),
            replaces: self.replaced_by(&request).ok().flatten(),
            dialog: Some(Box::new(dialog.state())),
            waiting: Waiting::default(),
        });
        let trunk = incoming.trunk.as_ref();
        let is_user = incoming.caller.as_ref().is_some_and(|caller| caller.username.is_some());
        let may_refer = is_user || self.may_refer(trunk);
        let reliable = self.is_to_be_reliable(&request, trunk).then(|| {
            let first = u32::from(rand::Rng::next_u32(&mut self.rng) as u16);
            Box::new(Reliable::new(first, request.cseq))
        });
        let extensions = Extensions {
            origin: self.origin_of_incoming(&request),
            may_refer,
            peer_updates: request.content.has_token("Allow", "UPDATE"),
            reliable,
            offers_first: !request.content.has_sdp(),
            agreed: session_timer::agree(&request, self.config.session_expires, self.config.min_se).ok().flatten(),
            ..Extensions::default()
        };
        let slot = self.insert_leg(Leg {
            key: leg_key,
            tag,
            incoming: true,
            dialog,
            state: State::Established,
            reported: false,
            awaiting_ack: None,
            offered: None,
            offering: None,
            session: None,
            peer: None,
            report_by: None,
            wake: None,
            extensions,
        });
        // Before any trace: it is the leg's first event, and stands for the INVITE itself.
        self.event(Event::Incoming { leg: leg_key, incoming });
        let server = self.insert_server(arrival, &request, key, echo, Some(slot), tag);
        if let Some(server) = self.servers.get_mut(server) {
            server.merge_key = Some(merge_key);
        }
        self.servers_by_merge_key.insert(merge_key, server);
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.state = State::Ringing { server, repeat: None };
        }
        self.respond(now, server, ResponseParts { status: 100, ..ResponseParts::default() });
        Some(slot)
    }

    /// RFC 3261 §11: what we can do, without a dialog.
    pub(super) fn answer_options(&mut self, arrival: &Arrival, request: &Request, echo: &Echo) {
        let prack = self.prack_of(trunk::matching(&self.config.trunks, arrival.source.ip()));
        if let Some(lines) = unsupported(request, prack) {
            self.refuse(arrival, echo, 420, &lines);
        } else {
            self.refuse(arrival, echo, 200, &options_lines(prack));
        }
    }

    /// RFC 3261 §9.2.
    pub(super) fn handle_cancel(&mut self, now: Instant, arrival: &Arrival, request: &Request, echo: &Echo) {
        let key = self.server_key(request, &Method::Invite);
        let live = self.servers_by_key.get(&key).copied();
        let found = match (live.and_then(|slot| self.servers.get(slot)), self.lingering.served(&key)) {
            (Some(server), _) => Some((server.leg, server.tag, server.machine.is_pending())),
            (None, Some(served)) => Some((served.leg, served.tag, false)),
            (None, None) => None,
        };
        let Some((leg, tag, pending)) = found else {
            self.refuse(arrival, echo, 481, "");
            return;
        };
        let flow = self.arrival_flow(arrival);
        self.trace(leg, false, flow, || request_line(request));
        self.respond_statelessly(
            arrival,
            echo,
            ResponseParts { status: 200, tag: Some(tag), ..ResponseParts::default() },
        );
        self.trace(leg, true, flow, || "200 OK (CANCEL)".to_owned());
        let Some(slot) = live.filter(|_| pending) else { return };
        self.respond(now, slot, ResponseParts { status: 487, ..ResponseParts::default() });
        let Some(leg_slot) = leg else { return };
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        if matches!(leg.state, State::Ringing { server, .. } if server == slot) {
            let end = End {
                cause: EndCause::Cancelled,
                status: Some(487),
                reason: request.content.value("Reason"),
                headers: request.content.application_headers(),
            };
            self.finish(leg_slot, end);
        } else if leg.offered == Some(slot) {
            leg.offered = None;
        }
    }

    /// RFC 3261 §8.2.2.2.
    pub(super) fn merge_key(&self, request: &Request) -> Key {
        self.key_of((&request.call_id, request.from.tag.as_deref().unwrap_or_default(), request.cseq))
    }

    /// A carrier whose address is missing in the configuration would wonder for long: its calls leave a line, a scanner's
    /// other requests do not.
    pub(super) fn note_stranger(&mut self, now: Instant, arrival: &Arrival, request: &Request) {
        self.strangers += 1;
        self.offend(now, arrival.source.ip(), Offence::Refused);
        if request.method == Method::Invite
            && let Some(held_back) = self.stranger_lines.pass(now)
        {
            let what = match self.config.unknown_sources {
                UnknownSources::Reject => "refused with 403: its source is in no trunk's inbound_from",
                UnknownSources::Silent => "ignored: its source is in no trunk's inbound_from",
            };
            let refusal = phones::refusal(arrival, request, "", what, Some(held_back));
            self.event(Event::Stranger(Box::new(refusal)));
        }
    }

    /// Whether the message is from nobody we know: neither by its source nor by a certificate.
    pub(super) fn is_stranger(&self, arrival: &Arrival) -> bool {
        arrival.proven.is_none() && self.is_unknown(arrival.source.ip())
    }

    /// The trunk whose networks hold the address.
    pub(crate) fn trunk_at(&self, source: IpAddr) -> Option<TrunkName> {
        trunk::matching(&self.config.trunks, source).cloned()
    }

    /// Whether the source is in no trunk's networks.
    pub(crate) fn is_unknown(&self, source: IpAddr) -> bool {
        trunk::matching(&self.config.trunks, source).is_none()
    }
}

pub(super) fn options_lines(prack: Prack) -> String {
    let supported = compose::supported(prack != Prack::Off);
    format!(
        "Accept: application/sdp, multipart/mixed\r\nAccept-Encoding: identity\r\nAccept-Language: en\r\n\
         Supported: {supported}\r\nAllow-Events: refer\r\n"
    )
}

/// RFC 3261 §8.2.2.3.
pub(super) fn unsupported(request: &Request, prack: Prack) -> Option<String> {
    let known = match SUPPORTED.split_first() {
        Some((_reliable, others)) if prack == Prack::Off => others,
        _ => SUPPORTED,
    };
    let tags = request.content.unsupported(known);
    (!tags.is_empty()).then(|| unsupported_line(&tags))
}

pub(super) fn unsupported_line(tags: &[String]) -> String {
    let clean = |tag: &String| tag.chars().filter(|c| c.is_ascii_graphic()).collect::<String>();
    format!("Unsupported: {}\r\n", tags.iter().map(clean).collect::<Vec<_>>().join(", "))
}

/// RFC 3261 §8.2.3.
pub(super) fn refusal_of_body(request: &Request) -> Option<(u16, String)> {
    if request.content.encoded() {
        return Some((415, "Accept-Encoding: identity\r\n".to_owned()));
    }
    (!request.content.body.is_empty() && !request.content.has_sdp() && !request.content.is_optional())
        .then(|| (415, "Accept: application/sdp, multipart/mixed\r\n".to_owned()))
}

/// Whether Accept, if present, leaves room for our SDP.
fn accepts_sdp(request: &Request) -> bool {
    request.content.value("Accept").is_none_or(|accept| {
        let accept = accept.to_ascii_lowercase();
        accept.is_empty()
            || accept.contains("application/sdp")
            || accept.contains("*/*")
            || accept.contains("application/*")
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
