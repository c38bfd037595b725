//! Handles the application's commands to a leg, and sends the INVITE of an outgoing leg.

use bytes::Bytes;
use ipnet::IpNet;

use super::dialogs::{Context, Dialogs};
use super::leg_cx::LegCx;
use super::offer::{Carrier, Offer, OfferState, WaitingOffer};
use super::session_timer;
use super::state::{Calling, CallingHangup, End, Extensions, Leg, State};
use crate::compose::{self, ResponseParts};
use crate::dialog::Dialog;
use crate::digest;
use crate::flow::{Flow, Target};
use crate::guard::Offence;
use crate::header::{ByeHeaders, Header};
use crate::keys::ClientId;
use crate::leg::{EndCause, Event, LegId, Outgoing};
use crate::message::{Method, Uri};
use crate::trunk::CallDirection;

/// Time, as a multiple of T1, after which an INVITE without a response counts against its trunk, even if the call was
/// hung up. With T1 = 500 ms this time is 4 s, and the INVITE has been retransmitted three times.
const SILENCE: u32 = 8;

/// Details about the destination of an INVITE.
#[derive(Default)]
pub(super) struct InviteRoute {
    /// The Route values of the INVITE.
    pub(super) routes: Vec<Bytes>,
    /// Whether the destination is a registered phone.
    pub(super) phone: bool,
    /// The addresses to which this server may send the credentials.
    pub(super) trusted_networks: Vec<IpNet>,
    /// Further targets. They are tried in order if the first target fails.
    pub(super) hops: Vec<Target>,
}

impl Dialogs {
    /// Sends the INVITE of a new leg along this flow.
    pub(super) fn place_along(
        &mut self,
        cx: &mut Context<'_>,
        key: LegId,
        outgoing: Box<Outgoing>,
        flow: Flow,
        route: InviteRoute,
    ) {
        let target = Uri::parse(outgoing.request_uri.as_bytes());
        let to = outgoing.to.as_ref().map_or_else(|| target.clone(), |to| Uri::parse(to.as_bytes()));
        let (Some(target), Some(to)) = (target, to) else {
            cx.core.report_unplaced(key, EndCause::Invalid);
            return;
        };
        let trunk = outgoing.trunk.as_deref().and_then(|trunk| cx.trunks.index_of(trunk));
        let tag = self.fresh_tag(cx);
        let host = match (&outgoing.from_host, cx.core.locals.get(flow.local)) {
            (Some(host), _) => host.clone(),
            (None, Some(local)) => local.host().to_owned(),
            (None, None) => String::new(),
        };
        let user = compose::escape_user(&outgoing.from_user);
        let from_uri = ["sip:", &user, if user.is_empty() { "" } else { "@" }, &host].concat();
        if !Uri::is_one(from_uri.as_bytes()) {
            cx.core.report_unplaced(key, EndCause::Invalid);
            return;
        }
        let mut from = compose::name_addr(outgoing.from_display.as_deref(), &from_uri).into_bytes();
        from.extend_from_slice(b";tag=");
        from.extend_from_slice(&compose::hex(tag));
        if !cx.trunks.admit(cx.core, cx.now, trunk, CallDirection::Outbound) {
            cx.core.report_unplaced(key, EndCause::TrunkFull);
            return;
        }
        let call_id = outgoing.call_id.clone().unwrap_or_else(|| format!("{:032x}", cx.core.random_u128()));
        let cseq = u32::from(rand::Rng::next_u32(&mut cx.core.rng) as u16) + 1;
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
        let mut trusted_networks = cx.trunks.trusted_networks_of(cx.core, trunk);
        trusted_networks.extend(route.trusted_networks);
        let session = outgoing.credentials.clone().map(|own| {
            let session = digest::Session::new(own).for_networks(trusted_networks);
            match &outgoing.realm {
                Some(realm) => session.expecting(realm),
                None => session,
            }
        });
        let origin = self.origin_of_outgoing(outgoing.on_behalf_of);
        let has_alternatives = outgoing.has_alternatives;
        let (records, branch_of) = (outgoing.recording.is_some(), outgoing.branch_of);
        let may_refer = route.phone || cx.core.may_refer(outgoing.trunk.as_ref());
        let calling = Calling {
            outgoing,
            client: ClientId::default(),
            provisional: false,
            hangup: CallingHangup::No,
            asked_at: cx.now,
            attempts: digest::Attempts::default(),
            early: Vec::new(),
            last_offer_from: Bytes::new(),
            min_se: 0,
        };
        let slot = self.insert_leg(cx, |_, _| {
            let extensions = Extensions { origin, branch_of, may_refer, records, ..Extensions::default() };
            let state = State::Calling(Box::new(calling));
            Leg { session, trunk, extensions, ..Leg::new(key, tag, dialog, state) }
        });
        self.with(cx, slot, |leg| leg.place(route.hops, has_alternatives));
    }
}

impl LegCx<'_, '_> {
    /// Sends the first INVITE of the leg. If its target fails, these targets are tried in order.
    fn place(&mut self, hops: Vec<Target>, has_alternatives: bool) {
        self.send_invite();
        if let State::Calling(calling) = &self.leg.state {
            let (client, cx) = (calling.client, &mut *self.cx);
            cx.transactions.add_alternatives(cx.core, cx.now, client, hops, has_alternatives);
        }
    }

    pub(super) fn provisional(&mut self, status: u16, sdp: Option<&Bytes>, headers: &[Header]) {
        let leg = &*self.leg;
        let State::Ringing { server, .. } = leg.state else { return };
        let contact = self.cx.core.contact(leg.dialog.flow);
        // Only a reliable provisional response may have an offer (RFC 3262 §5).
        let owes_offer = matches!(leg.offer, OfferState::FirstOwed);
        let status = if (101..200).contains(&status) { status } else { 180 };
        if self.send_reliable(status, sdp, headers) {
            return;
        }
        let body = sdp.filter(|_| !owes_offer).map(|sdp| ("application/sdp", sdp.as_ref()));
        self.cx.respond(
            server,
            ResponseParts { status, contact: Some(&contact), headers, body, ..ResponseParts::default() },
        );
        self.repeat_provisional();
    }

    pub(super) fn answer(&mut self, sdp: &Bytes, headers: &[Header]) {
        let leg = &mut *self.leg;
        let State::Ringing { server, .. } = leg.state else { return };
        if self.hold_answer_for_prack(sdp, headers) {
            return;
        }
        let leg = &mut *self.leg;
        leg.state = State::Established;
        self.respond_until_acknowledged(server, sdp, headers);
    }

    pub(super) fn reject(&mut self, status: u16, reason: Option<&str>, lines: &str, headers: &[Header]) {
        let leg = &*self.leg;
        let State::Ringing { server, .. } = leg.state else { return };
        let status = if (300..700).contains(&status) { status } else { 480 };
        if matches!(status, 404 | 484 | 604) && !leg.extensions.is_own_request {
            self.cx.core.record_offence(self.cx.now, leg.dialog.flow.peer.ip(), Offence::Number);
        }
        self.cx.respond(server, ResponseParts { status, reason, lines, headers, ..ResponseParts::default() });
        self.finish(End::of(EndCause::LocalHangup, Some(status)));
    }

    pub(super) fn hangup(&mut self, status: u16, reason: Option<String>, headers: Vec<Header>) {
        let report_by = self.cx.now + self.cx.core.config.timers.t1 * 4;
        let lines = reason.map(|reason| reason_line(&reason)).unwrap_or_default();
        let bye_headers = ByeHeaders { lines, headers };
        let leg = &mut *self.leg;
        match &mut leg.state {
            State::Ending(_) => {}
            State::Ringing { .. } => {
                let ByeHeaders { lines, headers } = bye_headers;
                self.reject(status, None, &lines, &headers);
            }
            State::Calling(calling) => {
                if calling.is_hung_up() {
                    return;
                }
                calling.hangup = CallingHangup::Wanted(bye_headers);
                let provisional = calling.provisional;
                let unheard = self.cx.now.saturating_duration_since(calling.asked_at);
                leg.report_end_by(report_by);
                if provisional {
                    self.send_cancel();
                } else if unheard >= self.cx.core.config.timers.t1 * SILENCE {
                    // The application gives up before Timer B fires. Without this check, no call would ever show that
                    // the trunk does not respond.
                    self.report_invite_outcome(false);
                }
                self.arm_leg();
            }
            State::Established => {
                let end = End::of(EndCause::LocalHangup, None);
                // RFC 3261 §15: the callee must wait for the ACK of its 200 before it sends BYE. So the BYE may have to
                // wait.
                match &mut leg.awaiting_ack {
                    Some(ack) if ack.initial => {
                        if ack.bye.is_none() {
                            ack.bye = Some((bye_headers, end));
                            leg.report_end_by(report_by);
                        }
                        self.arm_leg();
                    }
                    _ => self.send_bye(bye_headers, end),
                }
            }
        }
    }

    pub(super) fn answer_offer(&mut self, sdp: &Bytes) {
        let server_slot = match self.leg.offer.take_received() {
            Some(Carrier::Response(server)) => server,
            Some(carrier) => return self.send_answer(carrier, Some(sdp)),
            None => return,
        };
        let Some(server) = self.cx.transactions.server(server_slot) else { return };
        if server.method == Method::Invite {
            self.respond_until_acknowledged(server_slot, sdp, &[]);
            return;
        }
        let (contact, update) = (self.own_contact(server.flow), server.method == Method::Update);
        let features = self.leg.features();
        let negotiated_timer = self.leg.extensions.negotiated_timer.take();
        let lines = session_timer::answer_lines(negotiated_timer);
        let parts = ResponseParts {
            status: 200,
            contact: Some(&contact),
            features,
            body: Some(("application/sdp", sdp)),
            lines: &lines,
            ..ResponseParts::default()
        };
        self.cx.respond(server_slot, parts);
        if update && matches!(self.leg.state, State::Established) {
            self.start_session(negotiated_timer);
        }
    }

    /// Refuses the oldest offer of the far end. An offer that cannot be refused gets a PRACK or ACK without an answer.
    pub(super) fn reject_offer(&mut self, status: u16, reason: Option<&str>, headers: &[Header]) {
        match self.leg.offer.take_received() {
            Some(Carrier::Response(server)) => {
                let status = if (400..700).contains(&status) { status } else { 488 };
                self.cx.respond(server, ResponseParts { status, reason, headers, ..ResponseParts::default() });
            }
            Some(carrier) => self.send_answer(carrier, None),
            None => {}
        }
    }

    pub(super) fn offer(&mut self, sdp: Bytes, metadata: Option<Bytes>) {
        let leg = &mut *self.leg;
        let ready = match &leg.state {
            State::Established => true,
            // RFC 3311 §5.1: in an early dialog, an offer is allowed only after the first offer and answer.
            State::Calling(calling) => !calling.is_hung_up() && calling.early.iter().any(|early| early.settled),
            State::Ringing { .. } => !leg.offer.is_first(),
            State::Ending(_) => false,
        };
        if matches!(leg.offer, OfferState::Sent { .. }) || leg.waiting_offer.is_some() || !ready {
            let leg = leg.key;
            self.cx.core.event(Event::OfferRejected { leg, status: 491 });
            return;
        }
        leg.waiting_offer = Some(WaitingOffer { offer: Offer { sdp, metadata, deferrals: 0 }, at: self.cx.now });
        self.send_offer();
    }
}

fn reason_line(reason: &str) -> String {
    let mut line = String::with_capacity(reason.len() + 10);
    line.push_str("Reason: ");
    line.extend(reason.chars().map(|c| if c.is_control() { ' ' } else { c }));
    line.push_str("\r\n");
    line
}
