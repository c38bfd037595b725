//! Requests within a dialog (RFC 3261 §12.2.2): ACK, offers, INFO, BYE.

use super::dialogs::Dialogs;
use super::incoming::{options_lines, refusal_of_body, unsupported};
use super::leg_cx::LegCx;
use super::offer::{Carrier, OfferRequest, OkBody};
use super::retry::RetryReason;
use super::state::{AwaitingAck, End, State, tag_number};
use super::transactions::Key;
use super::transactions::server::{NewServer, request_line};
use super::{Arrival, session_timer};
use crate::compose::{self, ResponseParts};
use crate::flow::Flow;
use crate::header::Header;
use crate::info::{self, Info};
use crate::keys::{LegSlot, ServerId};
use crate::leg::{EndCause, Event, LegId};
use crate::message::{Echo, Method, Request};
use crate::prack::Prack;
use bytes::Bytes;

const NO_PACKAGES: &str = "Recv-Info:\r\n";

impl LegCx<'_, '_> {
    pub(super) fn handle_ack(&mut self, arrival: &Arrival, request: &Request) {
        let flow = self.cx.core.arrival_flow(arrival);
        self.cx.core.trace(Some(self.slot), false, flow, || request_line(request));
        let leg = &mut *self.leg;
        if leg.awaiting_ack.as_ref().is_none_or(|ack| ack.cseq != request.cseq) {
            return;
        }
        let bye = leg.awaiting_ack.take().and_then(|ack| ack.bye);
        leg.extensions.lost_flow = None;
        leg.offer.handle_ack();
        let (key, reported) = (leg.key, leg.is_reported());
        match bye {
            Some((bye_headers, end)) => self.send_bye(bye_headers, end),
            None if !reported => self.cx.core.event(Event::Acknowledged { leg: key, sdp: request.content.sdp() }),
            None => {}
        }
    }

    /// Handles a request in a dialog of the leg. `replaced` is the leg that a REFER asks to replace.
    pub(super) fn handle_in_dialog(
        &mut self,
        arrival: &Arrival,
        request: Request,
        key: Key,
        echo: Echo,
        replaced: Option<LegId>,
    ) {
        let flow = self.cx.core.arrival_flow(arrival);
        self.cx.core.trace(Some(self.slot), false, flow, || request_line(&request));
        let leg = &mut *self.leg;
        if matches!(leg.state, State::Calling(_)) {
            self.handle_early(arrival, &request, key, echo);
            return;
        }
        // RFC 3261 §12.2.2: the request is out of order. If the CSeq is equal, the request is a merged request, or a
        // retransmission whose transaction is gone.
        if leg.dialog.remote_cseq.is_some_and(|last| request.cseq <= last) {
            self.cx.core.refuse(arrival, &echo, 500, "Retry-After: 1\r\n");
            return;
        }
        if request.method != Method::Bye && !self.cx.has_room() {
            self.cx.core.counters.shed += 1;
            let lines = self.cx.core.retry_after(RetryReason::Dialog);
            self.cx.core.refuse(arrival, &echo, 503, &lines);
            return;
        }
        let leg = &mut *self.leg;
        leg.dialog.remote_cseq = Some(request.cseq);
        leg.dialog.flow = Flow { pinned: leg.dialog.flow.pinned, secure: leg.dialog.flow.secure, ..flow };
        let ending = matches!(leg.state, State::Ending(_)) || leg.is_reported();
        let (tag, refer) = (leg.tag, leg.extensions.may_refer);
        let server = self.cx.transactions.insert_server(
            self.cx.core,
            NewServer { arrival, request: &request, key, merge_key: None, echo, leg: Some(self.slot), tag, refer },
        );
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        match request.method {
            Method::Bye => self.handle_bye(server, &request),
            _ if ending && !matches!(request.method, Method::Notify) => self.cx.respond(server, plain(481)),
            Method::Invite | Method::Update => self.handle_offer(server, &request),
            Method::Info => self.handle_info(server, &request),
            Method::Prack => self.handle_prack(server, &request),
            Method::Refer => self.handle_refer(server, &request, replaced),
            Method::Notify => self.handle_notify(server, &request),
            Method::Subscribe => self.handle_subscribe(server, &request),
            Method::Options => {
                let prack = self.cx.core.prack_of(self.cx.core.trunk_at(arrival.source.ip()));
                self.cx.respond(server, ResponseParts { lines: &options_lines(prack), ..plain(200) });
            }
            Method::Ack | Method::Cancel | Method::Register | Method::Other(_) => self.cx.respond(server, plain(405)),
        }
    }

    pub(super) fn handle_info(&mut self, server: ServerId, request: &Request) {
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        // RFC 6086 §4.2.2: this server accepts no INFO packages. An INFO without a package is an INFO of RFC 2976.
        if request.content.value("Info-Package").is_some() {
            self.cx.respond(server, ResponseParts { lines: NO_PACKAGES, ..plain(469) });
            return;
        }
        match Info::read(&request.content.content_type(), &request.content.body) {
            Info::OtherType => self.cx.respond(server, ResponseParts { lines: info::ACCEPT, ..plain(415) }),
            Info::Unreadable => {
                self.cx.respond(server, ResponseParts { reason: Some("No Digit In The Body"), ..plain(400) });
            }
            Info::Nothing => self.cx.respond(server, plain(200)),
            Info::Digit(digit) => {
                self.cx.respond(server, plain(200));
                self.cx.core.event(Event::Info { leg: self.leg.key, digit });
            }
        }
    }

    /// Handles a BYE (RFC 3261 §15.1.2).
    pub(super) fn handle_bye(&mut self, server: ServerId, request: &Request) {
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        self.cx.respond(server, plain(200));
        self.abandon_offer();
        let leg = &mut *self.leg;
        let waiting = match leg.state {
            State::Ringing { server, .. } => Some(server),
            _ => leg.offer.take_server(),
        };
        let end = match &mut leg.state {
            // Both sides hung up, and this server hung up first.
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
            self.cx.respond(waiting, plain(487));
        }
        self.finish(end);
    }

    /// Handles a re-INVITE (RFC 3261 §14.2) or an UPDATE (RFC 3311 §5.2).
    pub(super) fn handle_offer(&mut self, server: ServerId, request: &Request) {
        let invite = request.method == Method::Invite;
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        if let Some(lines) = unsupported(request, self.cx.core.config.prack) {
            self.cx.respond(server, ResponseParts { lines: &lines, ..plain(420) });
            return;
        }
        if let Some((status, lines)) = refusal_of_body(request) {
            self.cx.respond(server, ResponseParts { lines: &lines, ..plain(status) });
            return;
        }
        let leg = &mut *self.leg;
        let asks = invite || request.content.has_sdp();
        let kind = match request.method {
            Method::Invite => OfferRequest::Invite,
            _ if asks => OfferRequest::Update,
            _ => OfferRequest::PlainUpdate,
        };
        // The far end sends a re-INVITE, so it has got the 200 whose ACK is missing. The BYE that waits for this ACK comes
        // first.
        let hangs_up = invite && leg.awaiting_ack.as_ref().is_some_and(|ack| ack.bye.is_some());
        let status = leg.offer.refusal_of(kind).or(hangs_up.then_some(500));
        if let Some(status) = status {
            let lines = if status == 500 { self.cx.core.retry_after_offer() } else { String::new() };
            self.cx.respond(server, ResponseParts { lines: &lines, ..plain(status) });
            return;
        }
        let negotiated_timer =
            match session_timer::negotiate(request, self.cx.core.config.session_expires, self.cx.core.config.min_se) {
                Ok(negotiated_timer) => negotiated_timer,
                Err(least) => {
                    let lines = format!("Min-SE: {least}\r\n");
                    self.cx.respond(server, ResponseParts { lines: &lines, ..plain(422) });
                    return;
                }
            };
        let leg = &mut *self.leg;
        if invite && leg.awaiting_ack.take().is_some() {
            self.cx.core.event(Event::Acknowledged { leg: leg.key, sdp: None });
        }
        if matches!(leg.state, State::Established) {
            leg.extensions.negotiated_timer = negotiated_timer;
        }
        // INVITE and UPDATE are target refresh requests (RFC 3261 §12.2.2).
        if let Some(target) = request.content.contact() {
            leg.dialog.target = target;
        }
        if !asks {
            let (flow, established) = (leg.dialog.flow, matches!(leg.state, State::Established));
            let contact = self.cx.core.contact(flow);
            let negotiated_timer = negotiated_timer.filter(|_| established);
            let lines = session_timer::answer_lines(negotiated_timer);
            self.cx.respond(server, ResponseParts { contact: Some(&contact), lines: &lines, ..plain(200) });
            if established {
                self.start_session(negotiated_timer);
            }
            return;
        }
        leg.offer.receive(Carrier::Response(server));
        let leg = leg.key;
        if invite {
            self.cx.respond(server, plain(100));
        }
        self.cx.core.event(Event::Offered { leg, sdp: request.content.sdp(), refusable: true });
    }

    /// Sends the 200 to an INVITE or re-INVITE. The leg stores the 200 until the ACK of this 200 comes.
    pub(super) fn respond_until_acknowledged(&mut self, server_slot: ServerId, sdp: &Bytes, headers: &[Header]) {
        let timers = self.cx.core.config.timers;
        let Some(server) = self.cx.transactions.server(server_slot) else { return };
        let (flow, cseq, initial, has_offer) = (server.flow, server.cseq, server.merge_key.is_some(), server.has_offer);
        let contact = self.own_contact(flow);
        let features = self.leg.features();
        let leg = &mut *self.leg;
        let (negotiated_timer, reliable) = (leg.extensions.negotiated_timer.take(), leg.extensions.reliable.is_some());
        let supported = compose::supported(reliable || self.cx.core.config.prack != Prack::Off);
        let body = match leg.offer.handle_ok(initial, has_offer) {
            OkBody::Sdp => Some(("application/sdp", sdp.as_ref())),
            OkBody::Empty => None,
        };
        let lines = ["Supported: ", supported, "\r\n", &*session_timer::answer_lines(negotiated_timer)].concat();
        let response = self.cx.transactions.respond(
            self.cx.core,
            self.cx.now,
            server_slot,
            ResponseParts {
                status: 200,
                contact: Some(&contact),
                features,
                lines: &lines,
                headers,
                body,
                ..ResponseParts::default()
            },
        );
        // From now on, the leg retransmits the 200 (RFC 6026 §8.7).
        let Some(response) = response else { return };
        self.leg.awaiting_ack = Some(Box::new(AwaitingAck {
            cseq,
            initial,
            response,
            flow,
            interval: timers.t1,
            retransmit: self.cx.now + timers.t1,
            deadline: self.answer_deadline(),
            bye: None,
        }));
        self.start_session(negotiated_timer);
    }

    /// Returns the local Contact for a response of a leg on this flow.
    pub(super) fn own_contact(&self, flow: Flow) -> String {
        self.cx.core.contact(Flow { secure: self.leg.dialog.flow.secure, ..flow })
    }
}

impl Dialogs {
    /// Returns the leg that has the dialog of the request. A leg in the state `Calling` may have several dialogs:
    /// provisional responses of different phones make different early dialogs.
    pub(super) fn dialog_of(&self, request: &Request) -> Option<LegSlot> {
        let tag = tag_number(request.to.tag.as_deref()?)?;
        let slot = *self.by_tag.get(&tag)?;
        let leg = self.legs.get(slot)?;
        let remote = request.from.tag.as_deref().unwrap_or_default();
        let known = match &leg.state {
            // A far end that sent a provisional response knows the local tag, which an attacker cannot guess. This
            // server does not store every such early dialog, so the remote tag is not checked.
            State::Calling(calling) => calling.provisional,
            _ => leg.dialog.remote_tag == remote,
        };
        (known && leg.dialog.call_id == request.call_id).then_some(slot)
    }
}
