//! Requests that come in: server transactions, the refusals of RFC 3261 §8.2, and what a dialog does with the rest.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;

use super::linger::{Answer, Served};
use super::phones::Admission;
use super::refer::refusal_of_event;
use super::reliable::Reliable;
use super::retry::Full;
use super::state::{AwaitingAck, End, Extensions, Key, Leg, PROVISIONAL_REPEAT, Server, State, tag_number, tag_text};
use super::{Arrival, Endpoint, Output, session_timer};
use crate::arena::Slot;
use crate::compose::{self, ResponseParts, SUPPORTED};
use crate::config::UnknownSources;
use crate::dialog::{Dialog, Flow};
use crate::digest;
use crate::guard::Offence;
use crate::leg::{Caller, EndCause, Event, Header, Incoming, Prack, Transport, TrunkName};
use crate::message::{Echo, Malformed, Method, Request, Uri};
use crate::peer::{PeerState, Way};
use crate::timer::Owner;
use crate::transaction::{Action, ServerInput, ServerMachine};
use crate::trunk;
use crate::waiting::Waiting;

/// Longest Request-URI taken, octets (414 beyond it).
const MAX_URI: usize = 2_048;

/// Whether a machine passed the message up.
#[derive(PartialEq, Eq)]
enum Delivered {
    Yes,
    No,
}

impl Endpoint {
    pub(super) fn refuse_malformed(&mut self, arrival: &Arrival, malformed: &Malformed) {
        self.malformed += 1;
        tracing::debug!(peer = %arrival.source, reason = %malformed.reason, "malformed message");
        let Some(echo) = &malformed.echo else { return };
        if self.is_stranger(arrival) && self.config.unknown_sources == UnknownSources::Silent {
            return;
        }
        // What is wrong in which words would tell a stranger which parser this is.
        let reason = (!self.is_unknown(arrival.source.ip())).then_some(&*malformed.reason);
        let parts = ResponseParts { status: malformed.status, reason, ..ResponseParts::default() };
        self.respond_statelessly(arrival, echo, parts);
    }

    pub(super) fn handle_request(&mut self, now: Instant, arrival: &Arrival, request: Request) {
        let key = self.server_key(&request, &request.method);
        if let Some(&slot) = self.servers_by_key.get(&key) {
            self.handle_repetition(now, arrival, slot, &request);
            return;
        }
        if self.handle_late_repetition(now, arrival, &key, &request) {
            return;
        }
        let leg = self.dialog_of(&request);
        if request.method == Method::Ack {
            if let Some(leg) = leg {
                self.handle_ack(now, arrival, leg, &request);
            }
            return;
        }
        // RFC 5923 §5: only to whom has shown a certificate is anything sent that it did not ask for.
        if let (Some(port), Transport::Tls) = (request.via.alias, arrival.transport)
            && let (Some(connection), Some(trunk)) = (arrival.connection, arrival.proven.clone())
        {
            let address = SocketAddr::new(arrival.source.ip(), port);
            self.outputs.push_back(Output::Alias { connection, address, trunk });
        }
        let Some(echo) = request.echo(arrival.source) else { return };
        if request.method == Method::Register && leg.is_none() {
            self.handle_register(now, arrival, &request, key, echo);
            return;
        }
        // An INVITE is asked later who it comes from.
        let is_invite = request.method == Method::Invite && request.to.tag.is_none();
        let known = leg.is_some() || is_invite || !self.is_outsider(arrival) || self.is_expected(&request);
        if !known {
            self.note_stranger(now, arrival, &request.method);
            if self.config.unknown_sources == UnknownSources::Reject {
                self.refuse(arrival, &echo, 403, "");
            }
            return;
        }
        if request.method == Method::Cancel {
            self.handle_cancel(now, arrival, &request, &echo);
        } else if let Some(leg) = leg {
            self.handle_in_dialog(now, arrival, leg, request, key, echo);
        } else {
            self.handle_out_of_dialog(now, arrival, request, key, echo);
        }
    }

    /// A request whose transaction exists: its repetition, or the ACK of our non-2xx response.
    fn handle_repetition(&mut self, now: Instant, arrival: &Arrival, slot: Slot, request: &Request) {
        let leg = self.servers.get(slot).and_then(|server| server.leg);
        let flow = self.arrival_flow(arrival);
        let is_ack = request.method == Method::Ack;
        self.trace(leg, false, flow, || {
            if is_ack { "ACK".to_owned() } else { format!("{} (retransmission)", request_line(request)) }
        });
        let input = if is_ack { ServerInput::Ack } else { ServerInput::Retransmission };
        if self.run_server(now, slot, input) == Delivered::Yes
            && let Some(leg) = leg
        {
            self.handle_ack(now, arrival, leg, request);
        }
    }

    fn handle_out_of_dialog(&mut self, now: Instant, arrival: &Arrival, request: Request, key: Key, echo: Echo) {
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
    fn refusal_of_invite(
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
    fn accept_invite(
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
        local.extend_from_slice(tag_text(tag).as_bytes());
        let target = request.content.contact().or_else(|| Uri::parse(format!("sip:{}", arrival.source).as_bytes()));
        let target = target?;
        let incoming = Box::new(Incoming {
            request_uri: lossy(&request.uri.text()),
            to_uri: lossy(&request.to.uri.text()),
            from_uri: lossy(&request.from.uri.text()),
            from_user: request.from.uri.user(),
            from_display: request.from.display.clone(),
            to_user: self.called_user(&request),
            sip_call_id: lossy(&request.call_id),
            source: arrival.source,
            transport: arrival.transport,
            trunk,
            caller,
            headers: request.content.application_headers(),
            offer: request.content.sdp(),
            replaces: self.replaced_by(&request).ok().flatten(),
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
        let dialog = Dialog::from_request(&request, Bytes::from(local), target, flow);
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
    fn answer_options(&mut self, arrival: &Arrival, request: &Request, echo: &Echo) {
        let prack = self.prack_of(trunk::matching(&self.config.trunks, arrival.source.ip()));
        if let Some(lines) = unsupported(request, prack) {
            self.refuse(arrival, echo, 420, &lines);
        } else {
            self.refuse(arrival, echo, 200, &options_lines(prack));
        }
    }

    /// RFC 3261 §9.2.
    fn handle_cancel(&mut self, now: Instant, arrival: &Arrival, request: &Request, echo: &Echo) {
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
            ResponseParts { status: 200, tag: &tag_text(tag), ..ResponseParts::default() },
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

    pub(super) fn handle_ack(&mut self, now: Instant, arrival: &Arrival, slot: Slot, request: &Request) {
        let flow = self.arrival_flow(arrival);
        self.trace(Some(slot), false, flow, || request_line(request));
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if leg.awaiting_ack.as_ref().is_none_or(|ack| ack.cseq != request.cseq) {
            return;
        }
        let bye = leg.awaiting_ack.take().and_then(|ack| ack.bye);
        let (key, reported) = (leg.key, leg.reported);
        match bye {
            Some((farewell, end)) => self.send_bye(now, slot, farewell, end),
            None if !reported => self.event(Event::Acknowledged { leg: key, sdp: request.content.sdp() }),
            None => {}
        }
    }

    fn handle_in_dialog(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        slot: Slot,
        request: Request,
        key: Key,
        echo: Echo,
    ) {
        let flow = self.arrival_flow(arrival);
        self.trace(Some(slot), false, flow, || request_line(&request));
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if matches!(leg.state, State::Calling(_)) {
            self.handle_early(now, arrival, slot, &request, key, echo);
            return;
        }
        // RFC 3261 §12.2.2: out of order. An equal number is a repetition whose transaction is gone, or a merge.
        if leg.dialog.remote_cseq.is_some_and(|last| request.cseq <= last) {
            self.refuse(arrival, &echo, 500, "Retry-After: 1\r\n");
            return;
        }
        if request.method != Method::Bye && !self.has_room() {
            self.shed += 1;
            let lines = self.come_back(Full::Dialog);
            self.refuse(arrival, &echo, 503, &lines);
            return;
        }
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.dialog.remote_cseq = Some(request.cseq);
        leg.dialog.flow = Flow { pinned: leg.dialog.flow.pinned, ..flow };
        let ending = matches!(leg.state, State::Ending(_)) || leg.reported;
        let tag = leg.tag;
        let server = self.insert_server(arrival, &request, key, echo, Some(slot), tag);
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        match request.method {
            Method::Bye => self.handle_bye(now, slot, server, &request),
            _ if ending && !matches!(request.method, Method::Notify) => self.respond(now, server, plain(481)),
            Method::Invite | Method::Update => self.handle_offer(now, slot, server, &request),
            Method::Info => self.handle_info(now, slot, server, &request),
            Method::Prack => self.handle_prack(now, slot, server, &request),
            Method::Refer => self.handle_refer(now, slot, server, &request),
            Method::Notify => self.handle_notify(now, slot, server, &request),
            Method::Subscribe => self.handle_subscribe(now, slot, server, &request),
            Method::Options => {
                let prack = self.prack_of(trunk::matching(&self.config.trunks, arrival.source.ip()));
                self.respond(now, server, ResponseParts { lines: &options_lines(prack), ..plain(200) });
            }
            Method::Ack | Method::Cancel | Method::Register | Method::Other(_) => self.respond(now, server, plain(405)),
        }
    }

    pub(super) fn handle_info(&mut self, now: Instant, slot: Slot, server: Slot, request: &Request) {
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        // RFC 6086 §4.2.2: we have asked for no package. Without one it is INFO as RFC 2976 had it.
        if request.content.value("Info-Package").is_some() {
            self.respond(now, server, ResponseParts { lines: NO_PACKAGES, ..plain(469) });
            return;
        }
        if !is_taken(&request.content.content_type()) {
            self.respond(now, server, ResponseParts { lines: INFO_LINES, ..plain(415) });
            return;
        }
        self.respond(now, server, plain(200));
        if let Some(leg) = self.legs.get(slot) {
            let leg = leg.key;
            let (content_type, body) = (request.content.content_type(), request.content.body.clone());
            self.event(Event::Info { leg, content_type, body });
        }
    }

    /// RFC 3261 §15.1.2.
    fn handle_bye(&mut self, now: Instant, slot: Slot, server: Slot, request: &Request) {
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        self.respond(now, server, plain(200));
        self.abandon_offer(now, slot);
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let waiting = match leg.state {
            State::Ringing { server, .. } => Some(server),
            _ => leg.offered.take(),
        };
        let end = match &mut leg.state {
            // Both hung up: ours was first.
            State::Ending(end) => std::mem::replace(&mut **end, End::of(EndCause::LocalHangup, None)),
            _ => match leg.awaiting_ack.as_mut().and_then(|ack| ack.bye.take()) {
                Some((_, end)) => end,
                None => End {
                    cause: EndCause::Bye,
                    status: None,
                    reason: request.content.value("Reason"),
                    headers: request.content.application_headers(),
                },
            },
        };
        if let Some(waiting) = waiting {
            self.respond(now, waiting, plain(487));
        }
        self.finish(slot, end);
    }

    /// A re-INVITE (RFC 3261 §14.2) or an UPDATE (RFC 3311 §5.2).
    fn handle_offer(&mut self, now: Instant, slot: Slot, server: Slot, request: &Request) {
        let invite = request.method == Method::Invite;
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        if let Some(lines) = unsupported(request, self.config.prack) {
            self.respond(now, server, ResponseParts { lines: &lines, ..plain(420) });
            return;
        }
        if let Some((status, lines)) = refusal_of_body(request) {
            self.respond(now, server, ResponseParts { lines: &lines, ..plain(status) });
            return;
        }
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let asks = invite || request.content.has_sdp();
        let settled = leg.extensions.reliable.as_ref().is_some_and(|reliable| reliable.settled);
        let status = match leg.state {
            _ if leg.offered.is_some() => Some(500),
            // Of our own offer the answer is still out; of theirs, ours.
            State::Ringing { .. } if asks && !settled => Some(if leg.extensions.offers_first { 491 } else { 500 }),
            _ if asks && leg.offering.as_ref().is_some_and(|offering| offering.retry_at.is_none()) => Some(491),
            _ if invite && leg.awaiting_ack.is_some() => Some(500),
            _ => None,
        };
        if let Some(status) = status {
            let lines = if status == 500 { self.retry_shortly() } else { String::new() };
            self.respond(now, server, ResponseParts { lines: &lines, ..plain(status) });
            return;
        }
        let agreed = match session_timer::agree(request, self.config.session_expires, self.config.min_se) {
            Ok(agreed) => agreed,
            Err(least) => {
                let lines = format!("Min-SE: {least}\r\n");
                self.respond(now, server, ResponseParts { lines: &lines, ..plain(422) });
                return;
            }
        };
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if matches!(leg.state, State::Established) {
            leg.extensions.agreed = agreed;
        }
        // Both are target refresh requests (RFC 3261 §12.2.2).
        if let Some(target) = request.content.contact() {
            leg.dialog.target = target;
        }
        if !asks {
            let (flow, established) = (leg.dialog.flow, matches!(leg.state, State::Established));
            let contact = self.contact(flow);
            let agreed = agreed.filter(|_| established);
            let lines = session_timer::answer_lines(agreed);
            self.respond(now, server, ResponseParts { contact: Some(&contact), lines: &lines, ..plain(200) });
            if established {
                self.start_session(now, slot, agreed);
            }
            return;
        }
        leg.offered = Some(server);
        let leg = leg.key;
        if invite {
            self.respond(now, server, plain(100));
        }
        self.event(Event::Offered { leg, sdp: request.content.sdp(), refusable: true });
    }

    /// Sends the 200 of an INVITE or re-INVITE and keeps it until its ACK.
    pub(super) fn respond_until_acknowledged(
        &mut self,
        now: Instant,
        slot: Slot,
        server_slot: Slot,
        sdp: &Bytes,
        headers: &[Header],
    ) {
        let timers = self.config.timers;
        let Some(server) = self.servers.get(server_slot) else { return };
        let (flow, cseq, initial) = (server.flow, server.cseq, server.merge_key.is_some());
        let contact = self.contact(flow);
        let leg = self.legs.get_mut(slot);
        let (agreed, reliable, settled) = leg
            .map(|leg| (leg.extensions.agreed.take(), leg.extensions.reliable.is_some(), leg.has_settled_early()))
            .unwrap_or_default();
        let supported = compose::supported(reliable || self.config.prack != Prack::Off);
        // Our offer was in a provisional response, its answer in a PRACK: another one is no part of the 200 (RFC 6337 §2.2).
        let body = (!(initial && settled)).then_some(("application/sdp", sdp.as_ref()));
        let lines = format!("Supported: {supported}\r\n{}", session_timer::answer_lines(agreed));
        let response = self.answer_through(
            now,
            server_slot,
            ResponseParts {
                status: 200,
                contact: Some(&contact),
                lines: &lines,
                headers,
                body,
                ..ResponseParts::default()
            },
        );
        // From here on it is the leg's to repeat (RFC 6026 §8.7).
        let Some(response) = response else { return };
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.awaiting_ack = Some(AwaitingAck {
                cseq,
                initial,
                response,
                flow,
                interval: timers.t1,
                retransmit: now + timers.t1,
                deadline: now + timers.timeout(),
                bye: None,
            });
        }
        self.start_session(now, slot, agreed);
    }

    /// Answers through the transaction.
    pub(super) fn respond(&mut self, now: Instant, slot: Slot, parts: ResponseParts<'_>) {
        // It is the transaction's to repeat.
        let _ = self.answer_through(now, slot, parts);
    }

    /// The same; what was sent, unless the request has its final response already.
    fn answer_through(&mut self, now: Instant, slot: Slot, parts: ResponseParts<'_>) -> Option<Bytes> {
        let server = self.servers.get(slot)?;
        let tag = tag_text(server.tag);
        let forms_dialog = server.method == Method::Invite && (101..300).contains(&parts.status);
        let status = parts.status;
        let refer = server.leg.and_then(|leg| self.legs.get(leg)).is_some_and(|leg| leg.extensions.may_refer);
        let plain = server.echo.tagged
            && parts.lines.is_empty()
            && parts.headers.is_empty()
            && (parts.reason, parts.contact, parts.body) == (None, None, None);
        let plain = plain.then_some(refer);
        let parts = ResponseParts {
            tag: &tag,
            refer,
            record_routes: if forms_dialog { &server.record_routes } else { &[] },
            server: &self.config.user_agent,
            ..parts
        };
        let data = compose::response(&server.echo, &parts);
        let server = self.servers.get_mut(slot).filter(|server| server.machine.is_pending())?;
        server.response = Some(data.clone());
        server.status = status;
        server.plain = plain;
        if status >= 200 {
            // There is no second final response to write.
            server.echo.lines = Vec::new();
            server.echo.to = Bytes::new();
            server.record_routes = Vec::new();
        }
        self.run_server(now, slot, ServerInput::Respond(status));
        Some(data)
    }

    /// Remembers when to repeat the provisional response just sent.
    pub(super) fn repeat_provisional(&mut self, now: Instant, slot: Slot) {
        if let Some(leg) = self.legs.get_mut(slot)
            && let State::Ringing { repeat, .. } = &mut leg.state
        {
            *repeat = Some(now + PROVISIONAL_REPEAT);
        }
        self.arm_leg(slot);
    }

    pub(super) fn transmit_response(&mut self, slot: Slot, again: bool) {
        let Some(server) = self.servers.get(slot) else { return };
        let Some(data) = server.response.clone() else { return };
        let (leg, flow, status, method) = (server.leg, server.flow, server.status, server.method.clone());
        self.transmit(flow, data);
        self.trace(leg, true, flow, || {
            let again = if again { " (retransmission)" } else { "" };
            format!("{status} {} ({}){again}", compose::reason_phrase(status), method.as_str())
        });
    }

    pub(super) fn server_timeout(&mut self, now: Instant, at: Instant, slot: Slot) {
        let Some(server) = self.servers.get_mut(slot) else { return };
        if server.wake == Some(at) {
            server.wake = None;
        }
        match server.machine.take_due(now) {
            Some(timer) => {
                self.run_server(now, slot, ServerInput::Timer(timer));
            }
            None => {
                let next = server.machine.next_timeout();
                self.timers.arm(&mut server.wake, next, Owner::Server(slot));
            }
        }
    }

    fn run_server(&mut self, now: Instant, slot: Slot, input: ServerInput) -> Delivered {
        let mut actions = std::mem::take(&mut self.actions);
        let mut delivered = Delivered::No;
        if let Some(server) = self.servers.get_mut(slot) {
            server.machine.handle(now, input, &self.config.timers, &mut actions);
            // Who lingers needs no timer of its own.
            let next = server.machine.next_timeout().filter(|_| server.machine.lingers_until().is_none());
            self.timers.arm(&mut server.wake, next, Owner::Server(slot));
        }
        for action in actions.drain(..) {
            match action {
                Action::Transmit => self.transmit_response(slot, false),
                Action::Retransmit => self.transmit_response(slot, true),
                Action::Deliver => delivered = Delivered::Yes,
                Action::Terminate => drop(self.remove_server(slot)),
                // A final response that nobody acknowledged or that cannot be sent changes nothing: its leg is over.
                Action::Acknowledge | Action::TimedOut | Action::TransportFailed(_) => {}
            }
        }
        self.actions = actions;
        if let Some(until) = self.servers.get(slot).and_then(|server| server.machine.lingers_until())
            && let Some(server) = self.remove_server(slot)
        {
            let Server { key, merge_key, leg, tag, flow, status, plain, response, .. } = server;
            let answer = match (plain, response) {
                _ if server.method == Method::Invite => Answer::Legs,
                (None, Some(response)) => Answer::Whole(Box::new((status, flow, response))),
                (plain, _) => Answer::Status { status, refer: plain.unwrap_or_default() },
            };
            self.lingering.serve(until, key, merge_key, Served { leg, tag, answer });
        }
        delivered
    }

    pub(super) fn insert_server(
        &mut self,
        arrival: &Arrival,
        request: &Request,
        key: Key,
        echo: Echo,
        leg: Option<Slot>,
        tag: u64,
    ) -> Slot {
        let flow = self.response_flow(arrival, &echo);
        let invite = request.method == Method::Invite;
        let slot = self.servers.insert(Server {
            machine: ServerMachine::new(invite, arrival.transport.is_reliable()),
            method: request.method.clone(),
            key,
            merge_key: None,
            leg,
            flow,
            echo,
            record_routes: if invite { request.content.record_routes() } else { Vec::new() },
            tag,
            cseq: request.cseq,
            response: None,
            status: 0,
            plain: None,
            wake: None,
        });
        self.servers_by_key.insert(key, slot);
        slot
    }

    fn remove_server(&mut self, slot: Slot) -> Option<Server> {
        let server = self.servers.remove(slot)?;
        self.servers_by_key.remove(&server.key);
        if let Some(merge_key) = &server.merge_key {
            self.servers_by_merge_key.remove(merge_key);
        }
        Some(server)
    }

    /// Answers and forgets (RFC 3261 §8.2.7).
    pub(super) fn refuse_with(&mut self, arrival: &Arrival, echo: &Echo, status: u16, reason: &str) {
        let parts = ResponseParts { status, reason: Some(reason), ..ResponseParts::default() };
        self.respond_statelessly(arrival, echo, parts);
    }

    pub(super) fn refuse(&mut self, arrival: &Arrival, echo: &Echo, status: u16, lines: &str) {
        self.respond_statelessly(arrival, echo, ResponseParts { status, lines, ..ResponseParts::default() });
    }

    fn respond_statelessly(&mut self, arrival: &Arrival, echo: &Echo, parts: ResponseParts<'_>) {
        let stateless;
        let tag = if parts.tag.is_empty() {
            stateless = tag_text(self.stateless_tag(&echo.lines));
            &stateless
        } else {
            parts.tag
        };
        // Nor are strangers told what we are.
        let known = arrival.proven.is_some() || !self.is_unknown(arrival.source.ip());
        let server = if known { self.config.user_agent.as_str() } else { "" };
        let refer = known && self.may_refer(trunk::matching(&self.config.trunks, arrival.source.ip()));
        let data = compose::response(echo, &ResponseParts { tag, server, refer, ..parts });
        let flow = self.response_flow(arrival, echo);
        self.transmit(flow, data);
    }

    /// RFC 3261 §18.2.2: a stream's response goes back on its connection, or, should that be gone, to the sent-by port.
    /// `maddr` is not followed: it would let anyone aim our responses at a third party.
    pub(super) fn response_flow(&self, arrival: &Arrival, echo: &Echo) -> Flow {
        let peer = if arrival.transport.is_reliable() { echo.reconnect } else { echo.destination };
        Flow { peer, ..self.arrival_flow(arrival) }
    }

    /// RFC 3261 §17.2.3, with `method` in place of the request's own so that a CANCEL finds its INVITE. Without a magic
    /// cookie in the branch the fields that RFC 2543 compared take its place.
    pub(super) fn server_key(&self, request: &Request, method: &Method) -> Key {
        let method = if *method == Method::Ack { "INVITE" } else { method.as_str() };
        let sent_by = &request.via.sent_by;
        match &request.via.branch {
            Some(branch) => self.key_of((method, sent_by, branch)),
            None => {
                let tag = request.from.tag.as_deref().unwrap_or_default();
                self.key_of((method, sent_by, request.uri.text(), tag, &request.call_id, request.cseq))
            }
        }
    }

    /// RFC 3261 §8.2.2.2.
    fn merge_key(&self, request: &Request) -> Key {
        self.key_of((&request.call_id, request.from.tag.as_deref().unwrap_or_default(), request.cseq))
    }

    /// 128 bits under a secret, so that no one can make two requests' keys meet.
    pub(super) fn key_of(&self, fields: impl Hash) -> Key {
        let half = |side: u64| {
            let mut hasher = DefaultHasher::new();
            (self.secret, side, &fields).hash(&mut hasher);
            hasher.finish()
        };
        Key(u128::from(half(0)) << 64 | u128::from(half(1)))
    }

    /// The leg whose dialog the request names. A leg that still calls has those that reliable provisional responses made.
    fn dialog_of(&self, request: &Request) -> Option<Slot> {
        let tag = tag_number(request.to.tag.as_deref()?)?;
        let slot = *self.legs_by_tag.get(&tag)?;
        let leg = self.legs.get(slot)?;
        let remote = request.from.tag.as_deref().unwrap_or_default();
        let known = match &leg.state {
            State::Calling(calling) => calling.early.iter().any(|early| early.dialog.remote_tag == remote),
            _ => leg.dialog.remote_tag == remote,
        };
        (known && leg.dialog.call_id == request.call_id).then_some(slot)
    }

    /// A carrier whose address is missing in the configuration would wonder for long: its calls leave a line, a scanner's
    /// other requests do not.
    pub(super) fn note_stranger(&mut self, now: Instant, arrival: &Arrival, method: &Method) {
        self.strangers += 1;
        self.offend(now, arrival.source.ip(), Offence::Refused);
        if *method == Method::Invite
            && let Some(held_back) = self.stranger_lines.pass(now)
        {
            let what = match self.config.unknown_sources {
                UnknownSources::Reject => "refused with 403",
                UnknownSources::Silent => "ignored",
            };
            let (peer, transport) = (arrival.source, arrival.transport.token());
            let held_back = (held_back > 0).then_some(held_back);
            tracing::warn!(held_back, "INVITE from {peer} {transport} {what}: in no trunk's inbound_from");
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

    pub(super) fn fresh_tag(&mut self) -> u64 {
        loop {
            let tag = rand::Rng::next_u64(&mut self.rng);
            if !self.legs_by_tag.contains_key(&tag) {
                return tag;
            }
        }
    }
}

fn options_lines(prack: Prack) -> String {
    let supported = compose::supported(prack != Prack::Off);
    format!(
        "Accept: application/sdp, multipart/mixed\r\nAccept-Encoding: identity\r\nAccept-Language: en\r\n\
         Supported: {supported}\r\nAllow-Events: refer\r\n"
    )
}

/// What an INFO may hold: a key press. One without a body asks whether the dialog lives.
const INFO_TYPES: [&str; 3] = ["application/dtmf-relay", "application/dtmf", ""];
const NO_PACKAGES: &str = "Recv-Info:\r\n";
const INFO_LINES: &str = "Accept: application/dtmf-relay, application/dtmf\r\n";

fn is_taken(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    INFO_TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// RFC 3261 §8.2.2.3.
fn unsupported(request: &Request, prack: Prack) -> Option<String> {
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
fn refusal_of_body(request: &Request) -> Option<(u16, String)> {
    if request.content.encoded() {
        return Some((415, "Accept-Encoding: identity\r\n".to_owned()));
    }
    (!request.content.body.is_empty() && !request.content.has_sdp())
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

pub(super) fn request_line(request: &Request) -> String {
    format!("{} {}", request.method.as_str(), lossy(&request.uri.text()))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
