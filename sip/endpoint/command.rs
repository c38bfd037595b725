//! Commands of the application.

use std::time::Instant;

use bytes::Bytes;
use ipnet::IpNet;

use super::locate::PendingLookup;
use super::state::{ByeHeaders, Calling, End, Extensions, Leg, Offering, State};
use super::transactions::client::{InDialogRequest, Purpose};
use super::{Endpoint, Target, session_timer};
use crate::compose::{self, ResponseParts};
use crate::dialog::{Dialog, Flow};
use crate::digest;
use crate::guard::Offence;
use crate::keys::{ClientId, LegId};
use crate::leg::{Command, EndCause, Event, Header, LegKey, Outgoing};
use crate::message::{Method, Uri};
use crate::peer::Way;

/// An INVITE that is given up after so many T1 without any response has met silence. With T1 = 500 ms that is 4 s, after
/// three retransmissions.
const SILENCE: u32 = 8;

/// What else is known of where an INVITE goes.
#[derive(Default)]
pub(super) struct InviteRoute {
    /// Route values of the INVITE.
    pub(super) routes: Vec<Bytes>,
    /// It goes to a phone that has registered.
    pub(super) phone: bool,
    /// Addresses that its credentials may be shown to.
    pub(super) home: Vec<IpNet>,
    /// Other places to go to.
    pub(super) hops: Vec<Target>,
}

impl Endpoint {
    /// One command. The destination of a [`Command::Invite`] may have to be looked up: [`Output::Resolve`](super::Output).
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        let key = command.leg();
        match command {
            Command::Invite { leg, invite } => self.invite(now, leg, invite),
            Command::Ring { leg, aor, invite } => self.ring(now, leg, &aor, invite),
            Command::End(state) => self.end_stored(now, *state),
            Command::Directory(directory) => self.set_directory(directory),
            command if self.forks.handle_command(&command) => {}
            command => self.command_leg(now, key, command),
        }
        self.serve_forks(now);
    }

    fn command_leg(&mut self, now: Instant, key: LegKey, command: Command) {
        let Some(&slot) = self.legs_by_key.get(&key) else {
            if matches!(command, Command::Hangup { .. }) {
                self.abandon_lookup(key);
            }
            return;
        };
        if self.legs.get(slot).is_none_or(|leg| leg.reported) {
            return;
        }
        match command {
            Command::Invite { .. } | Command::Ring { .. } | Command::End(_) | Command::Directory(_) => {}
            Command::Provisional { status, sdp, headers, .. } => {
                self.provisional(now, slot, status, sdp.as_ref(), &headers)
            }
            Command::Answer { sdp, headers, .. } => self.answer(now, slot, &sdp, &headers),
            Command::Reject { status, reason, headers, .. } => {
                self.reject(now, slot, status, reason.as_deref(), "", &headers)
            }
            Command::Hangup { status, reason, headers, .. } => self.hangup(now, slot, status, reason, headers),
            Command::AnswerOffer { sdp, .. } => self.answer_offer(now, slot, &sdp),
            Command::RejectOffer { status, reason, headers, .. } => {
                if self.answer_delayed_offer(now, slot, None) {
                    return;
                }
                if let Some(server) = self.legs.get_mut(slot).and_then(|leg| leg.offered.take()) {
                    let status = if (400..700).contains(&status) { status } else { 488 };
                    let (reason, headers) = (reason.as_deref(), headers.as_slice());
                    self.respond(now, server, ResponseParts { status, reason, headers, ..ResponseParts::default() });
                }
            }
            Command::Offer { sdp, .. } => self.offer(now, slot, key, sdp, None),
            Command::OfferRecording { sdp, metadata, .. } => self.offer(now, slot, key, sdp, Some(metadata)),
            Command::Info { content_type, body, .. } => {
                if self.legs.get(slot).is_some_and(|leg| matches!(leg.state, State::Established)) {
                    let body = Some((content_type, body));
                    self.send_in_dialog(
                        now,
                        slot,
                        Method::Info,
                        Purpose::Info,
                        InDialogRequest { body, ..InDialogRequest::default() },
                    );
                }
            }
            Command::Refer { refer, .. } => self.refer(now, slot, *refer),
            Command::AnswerRefer { status, .. } => self.answer_refer(now, slot, status),
            Command::NotifyRefer { status, .. } => self.notify_refer(now, slot, status),
        }
    }

    fn invite(&mut self, now: Instant, key: LegKey, outgoing: Box<Outgoing>) {
        if self.legs_by_key.contains_key(&key) || self.lookups.holds(key) {
            tracing::error!(leg = ?key, "leg key used twice");
            return;
        }
        if self.legs.len() >= self.core.config.max_legs || !self.has_room() {
            self.report_unplaced(key, EndCause::Overload);
            return;
        }
        let hop = outgoing.next_hop.as_ref().unwrap_or(&outgoing.request_uri);
        let Some(hop) = Uri::parse(hop.as_bytes()) else {
            self.report_unplaced(key, EndCause::Invalid);
            return;
        };
        let trunk = outgoing.trunk.clone();
        self.locate(now, &hop, trunk, PendingLookup::Invite { key, outgoing });
    }

    /// Sends the INVITE to the first hop that a socket of ours reaches.
    pub(super) fn place(&mut self, now: Instant, key: LegKey, outgoing: Box<Outgoing>, mut hops: Vec<Target>) {
        let home = hops.iter().map(|hop| hop.address.ip().to_canonical().into()).collect();
        match self.core.next_hop(&mut hops) {
            Some(flow) => {
                self.place_along(now, key, outgoing, flow, InviteRoute { home, hops, ..InviteRoute::default() })
            }
            None => self.report_unplaced(key, EndCause::NoSocket),
        }
    }

    /// Sends the INVITE that way.
    pub(super) fn place_along(
        &mut self,
        now: Instant,
        key: LegKey,
        outgoing: Box<Outgoing>,
        flow: Flow,
        route: InviteRoute,
    ) {
        let target = Uri::parse(outgoing.request_uri.as_bytes());
        let to = outgoing.to.as_ref().map_or_else(|| target.clone(), |to| Uri::parse(to.as_bytes()));
        let (Some(target), Some(to)) = (target, to) else {
            self.report_unplaced(key, EndCause::Invalid);
            return;
        };
        let trunk = outgoing.trunk.as_deref().and_then(|trunk| self.trunks.index_of(trunk));
        let tag = self.fresh_tag();
        let host = match (&outgoing.from_host, self.core.locals.get(flow.local)) {
            (Some(host), _) => host.clone(),
            (None, Some(local)) => local.host().to_owned(),
            (None, None) => String::new(),
        };
        let user = compose::escape_user(&outgoing.from_user);
        let from_uri = ["sip:", &user, if user.is_empty() { "" } else { "@" }, &host].concat();
        if !Uri::is_one(from_uri.as_bytes()) {
            self.report_unplaced(key, EndCause::Invalid);
            return;
        }
        let mut from = compose::name_addr(outgoing.from_display.as_deref(), &from_uri).into_bytes();
        from.extend_from_slice(b";tag=");
        from.extend_from_slice(&compose::hex(tag));
        if !self.trunks.admit(&mut self.core, now, trunk, Way::Out) {
            self.report_unplaced(key, EndCause::TrunkFull);
            return;
        }
        let call_id = outgoing.call_id.clone().unwrap_or_else(|| format!("{:032x}", self.core.random_u128()));
        let cseq = u32::from(rand::Rng::next_u32(&mut self.core.rng) as u16) + 1;
        let dialog = Dialog {
            call_id: Bytes::from(call_id),
            local: Bytes::from(from),
            remote: Bytes::from(compose::name_addr(None, &String::from_utf8_lossy(to.text()))),
            remote_tag: Bytes::new(),
            target,
            routes: route.routes,
            local_cseq: cseq,
            remote_cseq: None,
            flow,
        };
        let mut home = self.trunks.home_of(&self.core, trunk);
        home.extend(route.home);
        let session = outgoing.credentials.clone().map(|own| {
            let session = digest::Session::new(own).at_home(home);
            match &outgoing.realm {
                Some(realm) => session.expecting(realm),
                None => session,
            }
        });
        let origin = self.origin_of_outgoing(outgoing.on_behalf_of);
        let impatient = outgoing.impatient;
        let records = outgoing.recording.is_some();
        let may_refer = route.phone || self.core.may_refer(outgoing.trunk.as_ref());
        let calling = Calling {
            outgoing,
            client: ClientId::default(),
            provisional: false,
            hangup: None,
            asked_at: now,
            give_up: None,
            attempts: digest::Attempts::default(),
            early: Vec::new(),
            min_se: 0,
        };
        let slot = self.insert_leg(Leg {
            key,
            tag,
            incoming: false,
            dialog,
            state: State::Calling(Box::new(calling)),
            reported: false,
            awaiting_ack: None,
            offered: None,
            offering: None,
            session,
            peer: trunk,
            report_by: None,
            wake: None,
            extensions: Extensions { origin, may_refer, records, ..Extensions::default() },
        });
        self.send_invite(now, slot);
        if let Some(State::Calling(calling)) = self.legs.get(slot).map(|leg| &leg.state) {
            let client = calling.client;
            self.transactions.add_alternatives(&mut self.core, now, client, route.hops, impatient);
        }
    }

    fn provisional(&mut self, now: Instant, slot: LegId, status: u16, sdp: Option<&Bytes>, headers: &[Header]) {
        let Some(leg) = self.legs.get(slot) else { return };
        let State::Ringing { server, .. } = leg.state else { return };
        let contact = self.core.contact(leg.dialog.flow);
        let offers_first = leg.extensions.offers_first;
        let status = if (101..200).contains(&status) { status } else { 180 };
        if self.send_reliable(now, slot, status, sdp, headers) {
            return;
        }
        let body = sdp.filter(|_| !offers_first).map(|sdp| ("application/sdp", sdp.as_ref()));
        self.respond(
            now,
            server,
            ResponseParts { status, contact: Some(&contact), headers, body, ..ResponseParts::default() },
        );
        self.repeat_provisional(now, slot);
    }

    pub(super) fn answer(&mut self, now: Instant, slot: LegId, sdp: &Bytes, headers: &[Header]) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let State::Ringing { server, .. } = leg.state else { return };
        if self.hold_answer_for_prack(slot, sdp, headers) {
            return;
        }
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.state = State::Established;
        self.respond_until_acknowledged(now, slot, server, sdp, headers);
    }

    fn reject(
        &mut self,
        now: Instant,
        slot: LegId,
        status: u16,
        reason: Option<&str>,
        lines: &str,
        headers: &[Header],
    ) {
        let Some(leg) = self.legs.get(slot) else { return };
        let State::Ringing { server, .. } = leg.state else { return };
        let status = if (300..700).contains(&status) { status } else { 480 };
        if matches!(status, 404 | 484 | 604) {
            self.core.offend(now, leg.dialog.flow.peer.ip(), Offence::Number);
        }
        self.respond(now, server, ResponseParts { status, reason, lines, headers, ..ResponseParts::default() });
        self.finish(slot, End::of(EndCause::LocalHangup, Some(status)));
    }

    pub(super) fn hangup(
        &mut self,
        now: Instant,
        slot: LegId,
        status: u16,
        reason: Option<String>,
        headers: Vec<Header>,
    ) {
        let report_by = now + self.core.config.timers.t1 * 4;
        let lines = reason.map(|reason| reason_line(&reason)).unwrap_or_default();
        let bye_headers = ByeHeaders { lines, headers };
        let Some(leg) = self.legs.get_mut(slot) else { return };
        match &mut leg.state {
            State::Ending(_) => {}
            State::Ringing { .. } => {
                let ByeHeaders { lines, headers } = bye_headers;
                self.reject(now, slot, status, None, &lines, &headers);
            }
            State::Calling(calling) => {
                if calling.hangup.is_some() {
                    return;
                }
                calling.hangup = Some(bye_headers);
                let provisional = calling.provisional;
                let unheard = now.saturating_duration_since(calling.asked_at);
                leg.report_by = Some(report_by);
                if provisional {
                    self.send_cancel(now, slot);
                } else if unheard >= self.core.config.timers.t1 * SILENCE {
                    // The application waits less long than Timer B does: without this, no call would show that nobody is there.
                    self.report_invite_outcome(now, slot, false);
                }
                self.arm_leg(slot);
            }
            State::Established => {
                let end = End::of(EndCause::LocalHangup, None);
                // RFC 3261 §15: the callee waits for the ACK of its 200 first.
                match &mut leg.awaiting_ack {
                    Some(ack) if ack.initial => {
                        if ack.bye.is_none() {
                            ack.bye = Some((bye_headers, end));
                            leg.report_by = Some(report_by);
                        }
                        self.arm_leg(slot);
                    }
                    _ => self.send_bye(now, slot, bye_headers, end),
                }
            }
        }
    }

    fn answer_offer(&mut self, now: Instant, slot: LegId, sdp: &Bytes) {
        if self.answer_delayed_offer(now, slot, Some(sdp)) {
            return;
        }
        let Some(server_slot) = self.legs.get_mut(slot).and_then(|leg| leg.offered.take()) else { return };
        let Some(server) = self.transactions.server(server_slot) else { return };
        if server.method == Method::Invite {
            self.respond_until_acknowledged(now, slot, server_slot, sdp, &[]);
            return;
        }
        let (contact, update) = (self.core.contact(server.flow), server.method == Method::Update);
        let features = self.legs.get(slot).map(|leg| leg.features()).unwrap_or_default();
        let agreed = self.legs.get_mut(slot).and_then(|leg| leg.extensions.agreed.take());
        let lines = session_timer::answer_lines(agreed);
        let parts = ResponseParts {
            status: 200,
            contact: Some(&contact),
            features,
            body: Some(("application/sdp", sdp)),
            lines: &lines,
            ..ResponseParts::default()
        };
        self.respond(now, server_slot, parts);
        if update && self.legs.get(slot).is_some_and(|leg| matches!(leg.state, State::Established)) {
            self.start_session(now, slot, agreed);
        }
    }

    fn offer(&mut self, now: Instant, slot: LegId, key: LegKey, sdp: Bytes, metadata: Option<Bytes>) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let ready = match &leg.state {
            State::Established => true,
            // RFC 3311 §5.1: in an early dialog once the first offer and answer are through.
            State::Calling(calling) => calling.hangup.is_none() && calling.early.iter().any(|early| early.settled),
            State::Ringing { .. } => leg.extensions.reliable.as_ref().is_some_and(|reliable| reliable.settled),
            State::Ending(_) => false,
        };
        if leg.offering.is_some() || !ready {
            self.core.event(Event::OfferRejected { leg: key, status: 491 });
            return;
        }
        leg.offering = Some(Offering { sdp, metadata, client: None, retry_at: None, deferrals: 0 });
        self.send_offer(now, slot);
    }
}

fn reason_line(reason: &str) -> String {
    let mut line = String::with_capacity(reason.len() + 10);
    line.push_str("Reason: ");
    line.extend(reason.chars().map(|c| if c.is_control() { ' ' } else { c }));
    line.push_str("\r\n");
    line
}
