//! Offers to the far end within a dialog (re-INVITE, UPDATE). The module sends offers and handles the answers. If two
//! offers cross, the module sends its offer later.

use super::calling::refusal;
use super::leg_cx::LegCx;
use super::offer::{OfferState, WaitingOffer};
use super::state::State;
use super::transactions::client::{InDialogRequest, Purpose};
use crate::dialog::Dialog;
use crate::header::ByeHeaders;
use crate::keys::ClientId;
use crate::leg::Event;
use crate::message::{Method, Response};
use crate::recording;
use std::time::{Duration, Instant};

/// Maximum number of times that the far end may defer an offer. After that the offer counts as refused. The next
/// constant, `MAX_DEFERRAL`, is the longest time in seconds for which the far end may defer an offer.
const MAX_DEFERRALS: u8 = 10;
const MAX_DEFERRAL: u64 = 10;

impl LegCx<'_, '_> {
    /// Handles the response to an offer in an early dialog. This response does not decide whether the call is answered.
    /// Only the response to the INVITE decides this.
    pub(super) fn update_answered(&mut self, status: u16, response: Option<&Response>) {
        let leg = &mut *self.leg;
        if !matches!(leg.offer, OfferState::Sent { .. }) || leg.is_reported() {
            return;
        }
        let key = leg.key;
        match (status, response) {
            (200..=299, Some(response)) => {
                leg.offer.take_sent();
                self.cx.core.event(Event::OfferAnswered { leg: key, sdp: response.content.sdp().unwrap_or_default() });
            }
            (_, Some(response)) if self.defer_offer(response) => {}
            _ => {
                self.abandon_offer();
                self.cx.core.event(Event::OfferRejected { leg: key, status });
            }
        }
    }

    /// Handles a response to a re-INVITE of this leg.
    pub(super) fn deliver_to_reinvite(&mut self, client: ClientId, response: &Response) {
        let success = (200..300).contains(&response.status);
        if success {
            let Some((_, authorization)) = self.cx.answered_dialog(client, response) else { return };
            // RFC 3261 §12.2.1.2: the route set of a dialog never changes after the first transaction. Only the remote
            // target may change.
            if let Some(target) = response.content.contact() {
                self.leg.dialog.target = target;
            }
            let dialog = Dialog { local_cseq: response.cseq, ..self.leg.dialog.clone() };
            let again = InDialogRequest { lines: authorization, ..InDialogRequest::default() };
            self.cx.acknowledge_answer(client, Some(self.slot), &dialog, response.cseq, &again);
        }
        if response.status < 200 || (!success && self.repeat_with_credentials(client, response)) {
            return;
        }
        let leg = &mut *self.leg;
        let key = leg.key;
        if leg.is_reported() || matches!(leg.state, State::Ending(_)) {
            return;
        }
        match response.status {
            200..=299 => {
                leg.offer.take_sent();
                self.learn_session(response);
                self.cx.core.event(Event::OfferAnswered { leg: key, sdp: response.content.sdp().unwrap_or_default() });
            }
            _ if self.defer_offer(response) => {}
            408 | 481 => self.send_bye(ByeHeaders::default(), refusal(response)),
            status => {
                self.abandon_offer();
                self.refresh_again();
                self.cx.core.event(Event::OfferRejected { leg: key, status });
            }
        }
    }

    /// Schedules the offer again, if the response only defers the offer. The response is 491 if two offers crossed. It
    /// is 500 with Retry-After if the far end is still busy with another offer (RFC 3261 §14.2, RFC 3311 §5.2). Returns
    /// `false` if the response is a refusal.
    pub(super) fn defer_offer(&mut self, response: &Response) -> bool {
        let seconds = response.content.value("Retry-After").and_then(|value| {
            value.split([';', ' ', '(']).next().and_then(|seconds| seconds.trim().parse::<u64>().ok())
        });
        let wait = match (response.status, seconds) {
            (491, _) => None,
            (500, Some(seconds)) if seconds <= MAX_DEFERRAL => Some(Duration::from_secs(seconds)),
            _ => return false,
        };
        let leg = &mut *self.leg;
        let OfferState::Sent { offer, .. } = &mut leg.offer else { return false };
        if offer.deferrals >= MAX_DEFERRALS {
            return false;
        }
        offer.deferrals += 1;
        match wait {
            Some(wait) => self.send_offer_at(self.cx.now + wait),
            None => self.retry_offer(),
        }
        true
    }

    /// Schedules the offer again after two offers crossed (glare). The side that created the Call-ID waits longer than
    /// the other side, so that the offers do not cross again (RFC 3261 §14.1).
    pub(super) fn retry_offer(&mut self) {
        let random = rand::Rng::next_u64(&mut self.cx.core.rng);
        let leg = &*self.leg;
        let tens = if leg.incoming { random % 201 } else { 210 + random % 191 };
        self.send_offer_at(self.cx.now + Duration::from_millis(tens * 10));
    }

    /// Schedules the offer of this server, which was refused for now or was not sent yet.
    fn send_offer_at(&mut self, at: Instant) {
        let leg = &mut *self.leg;
        let sent = leg.offer.take_sent().map(|(offer, _)| offer);
        let offer = sent.or_else(|| leg.waiting_offer.take().map(|waiting| waiting.offer));
        leg.waiting_offer = offer.map(|offer| WaitingOffer { offer, at });
        self.arm_leg();
    }

    pub(super) fn send_offer(&mut self) {
        let random = self.cx.core.random_u128();
        let leg = &mut *self.leg;
        let (incoming, dialog) = match &leg.state {
            State::Ending(_) => return,
            State::Established => (leg.incoming, None),
            State::Ringing { .. } => (true, Some(leg.dialog.clone())),
            State::Calling(calling) => {
                (false, calling.early.iter().rfind(|early| early.settled).map(|early| early.dialog.clone()))
            }
        };
        let busy = !leg.offer.is_idle() || leg.awaiting_ack.is_some();
        if busy || (!incoming && matches!(leg.state, State::Calling(_)) && dialog.is_none()) {
            self.retry_offer();
            return;
        }
        let Some(WaitingOffer { offer, .. }) = leg.waiting_offer.take() else { return };
        let (content_type, body) = recording::body(&offer.sdp, offer.metadata.as_ref(), random);
        leg.offer = OfferState::Sent { offer, client: None };
        let body = Some((content_type.into_owned(), body));
        if let Some(dialog) = dialog {
            let again = InDialogRequest { body, ..InDialogRequest::default() };
            self.send_in(Some(&dialog), Method::Update, Purpose::Update, again);
            return;
        }
        let lines = self.refresh_lines();
        self.send_in_dialog(
            Method::Invite,
            Purpose::Reinvite,
            InDialogRequest { lines, body, ..InDialogRequest::default() },
        );
    }

    /// Abandons the leg's offer, because the leg ends. If a response to the re-INVITE comes within 64*T1, this server
    /// still sends the ACK.
    pub(super) fn abandon_offer(&mut self) {
        let at = self.cx.now + self.cx.core.config.timers.timeout();
        let leg = &mut *self.leg;
        leg.waiting_offer = None;
        if let Some((_, Some(client))) = leg.offer.take_sent() {
            self.cx.transactions.abandon(self.cx.core, client, at);
        }
    }
}
