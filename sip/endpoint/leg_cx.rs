//! One leg with the machines that it uses while it handles one input.

use std::time::Instant;

use super::dialogs::Context;
use super::state::{End, EndReport, Leg, PROVISIONAL_REPEAT, State};
use super::transactions::client::{InDialogRequest, Purpose};
use crate::compose::ResponseParts;
use crate::header::ByeHeaders;
use crate::keys::{ClientId, LegSlot, ServerId};
use crate::leg::{Command, EndCause, Event};
use crate::message::{Method, Request, Response};
use crate::timer::Owner;

/// A leg, and the context in which it handles one input. [`Dialogs::with`](super::dialogs::Dialogs::with) creates it.
pub(super) struct LegCx<'a, 'm> {
    pub(super) slot: LegSlot,
    pub(super) leg: &'a mut Leg,
    pub(super) cx: &'a mut Context<'m>,
    /// Whether the leg has finished. The dialogs then remove it after this input.
    pub(super) finished: bool,
}

impl LegCx<'_, '_> {
    /// Handles a command for a leg.
    pub(super) fn handle_command(&mut self, command: Command) {
        if self.leg.is_reported() {
            return;
        }
        match command {
            Command::Invite { .. }
            | Command::Rename { .. }
            | Command::End(_)
            | Command::EndUnanswered(_)
            | Command::Directory(_)
            | Command::TakeCalls(_)
            | Command::TrunkSlices(_)
            | Command::Nodes(_)
            | Command::Learn { .. }
            | Command::Forget(_) => {}
            Command::Provisional { status, sdp, headers, .. } => {
                self.provisional(status, sdp.as_ref(), &headers);
            }
            Command::Answer { sdp, headers, .. } => self.answer(&sdp, &headers),
            Command::Reject { status, reason, headers, .. } => {
                self.reject(status, reason.as_deref(), "", &headers);
            }
            Command::Hangup { status, reason, headers, .. } => self.hangup(status, reason, headers),
            Command::AnswerOffer { sdp, .. } => self.answer_offer(&sdp),
            Command::RejectOffer { status, reason, headers, .. } => {
                self.reject_offer(status, reason.as_deref(), &headers);
            }
            Command::Offer { sdp, .. } => self.offer(sdp, None),
            Command::OfferRecording { sdp, metadata, .. } => self.offer(sdp, Some(metadata)),
            Command::Info { content_type, body, .. } => {
                if matches!(self.leg.state, State::Established) {
                    let body = Some((content_type, body));
                    self.send_in_dialog(
                        Method::Info,
                        Purpose::Info,
                        InDialogRequest { body, ..InDialogRequest::default() },
                    );
                }
            }
            Command::Refer { refer, .. } => self.refer(*refer),
            Command::AnswerRefer { status, .. } => self.answer_refer(status),
            Command::NotifyRefer { status, .. } => self.notify_refer(status),
        }
    }

    /// Handles a response to a request of the leg.
    pub(super) fn handle_response(&mut self, id: ClientId, purpose: Purpose, response: &Response) {
        match purpose {
            Purpose::Invite => self.deliver_to_invite(id, response),
            Purpose::Reinvite => self.deliver_to_reinvite(id, response),
            Purpose::Cancel => {}
            _ if response.status < 200 || self.repeat_with_credentials(id, response) => {}
            Purpose::Bye => self.finish_ending(),
            purpose => self.answered_in_dialog(purpose, response.status, Some(response)),
        }
    }

    /// Handles a CANCEL. `server` is the transaction of the cancelled INVITE. The CANCEL has already been answered (RFC
    /// 3261 §9.2).
    pub(super) fn handle_cancel(&mut self, server: ServerId, request: &Request) {
        let leg = &mut *self.leg;
        if matches!(leg.state, State::Ringing { server: ringing, .. } if ringing == server) {
            let end = End {
                cause: EndCause::Cancelled,
                status: Some(487),
                reason: request.content.value("Reason"),
                headers: request.content.application_headers(),
            };
            self.finish(end);
        } else {
            leg.offer.cancel(server);
        }
    }

    /// Sets the timer of the leg to the leg's next timeout.
    pub(super) fn arm_leg(&mut self) {
        let next = self.leg.next_timeout();
        self.cx.core.timers.arm(&mut self.leg.wake, next, Owner::Leg(self.slot));
    }

    /// Reports the end of the leg to the application. A second call for the same leg reports nothing.
    pub(super) fn report_end(&mut self, end: End) {
        let leg = &mut *self.leg;
        if !leg.is_reported() {
            leg.end_report = EndReport::Done;
            self.cx.core.traced.remove(self.slot);
            let leg = leg.key;
            let End { cause, status, reason, headers } = end;
            self.cx.core.event(Event::Ended { leg, cause, status, reason, headers });
        }
    }

    /// Returns the end that a leg in the state `Ending` will report. For other legs, this is a local hang-up.
    pub(super) fn take_end(&mut self) -> End {
        let local = End::of(EndCause::LocalHangup, None);
        match &mut self.leg.state {
            State::Ending(end) => std::mem::replace(&mut **end, local),
            _ => local,
        }
    }

    /// Reports the end of the leg. The dialogs remove the leg after this input.
    pub(super) fn finish(&mut self, end: End) {
        self.report_end(end);
        self.finished = true;
    }

    /// Handles the timers of the leg that are due.
    pub(super) fn handle_timeout(&mut self, at: Instant) {
        let t2 = self.cx.core.config.timers.t2;
        let leg = &mut *self.leg;
        if leg.wake == Some(at) {
            leg.wake = None;
        }
        if matches!(leg.end_report, EndReport::DueBy(at) if at <= self.cx.now) {
            let end = self.take_end();
            self.report_end(end);
        }
        let leg = &mut *self.leg;
        if let State::Ringing { server, expires: Some(expires), .. } = &leg.state
            && *expires <= self.cx.now
        {
            let server = *server;
            self.abandon_offer();
            self.cx.respond(server, ResponseParts { status: 487, ..ResponseParts::default() });
            self.finish(End::of(EndCause::Cancelled, Some(487)));
            return;
        }
        if self.lost_flow_timeout() {
            return;
        }
        let leg = &mut *self.leg;
        if let State::Ringing { server, repeat: Some(repeat), .. } = &mut leg.state
            && *repeat <= self.cx.now
        {
            *repeat = self.cx.now + PROVISIONAL_REPEAT;
            let server = *server;
            // RFC 3262 §3: a reliable provisional response is not repeated here. A new provisional response is sent
            // instead.
            if !self.send_reliable(180, None, &[]) {
                self.cx.transactions.transmit_response(self.cx.core, server, true);
            }
        }
        let leg = &mut *self.leg;
        if let State::Calling(calling) = &mut leg.state
            && calling.give_up().is_some_and(|at| at <= self.cx.now)
        {
            // RFC 3261 §9.1: the INVITE transaction counts as cancelled 64*T1 after the CANCEL.
            let client = calling.client;
            self.cx.transactions.remove_client(client);
            self.finish(End::of(EndCause::LocalHangup, Some(487)));
            return;
        }
        let leg = &mut *self.leg;
        if let Some(ack) = &mut leg.awaiting_ack {
            if ack.deadline <= self.cx.now {
                let bye = leg.awaiting_ack.take().and_then(|ack| ack.bye);
                let (bye_headers, end) =
                    bye.unwrap_or_else(|| (ByeHeaders::default(), End::of(EndCause::AckTimeout, None)));
                self.send_bye(bye_headers, end);
            } else if ack.retransmit <= self.cx.now {
                ack.interval = (ack.interval * 2).min(t2);
                ack.retransmit = self.cx.now + ack.interval;
                self.cx.core.counters.repeated += 1;
                let (flow, data) = (ack.flow, ack.response.clone());
                self.cx.core.transmit(flow, data);
                self.cx.core.trace(Some(self.slot), true, flow, || "200 OK (INVITE) (retransmission)".to_owned());
            }
        }
        let leg = &mut *self.leg;
        if leg.waiting_offer.as_ref().is_some_and(|waiting| waiting.at <= self.cx.now) {
            self.send_offer();
        }
        self.reliable_timeout();
        if self.finished {
            return;
        }
        self.session_timeout();
        self.referral_timeout();
        self.arm_leg();
    }
}
