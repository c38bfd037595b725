//! Offers to the far end within a dialog (re-INVITE, UPDATE). The module sends offers and handles the answers. If two
//! offers cross, the module sends its offer later.

use super::calling::refusal;
use super::dialogs::{Context, Dialogs};
use super::offer::{OfferState, WaitingOffer};
use super::state::{ByeHeaders, State};
use super::transactions::client::{InDialogRequest, Purpose};
use crate::dialog::Dialog;
use crate::keys::{ClientId, LegSlot};
use crate::leg::Event;
use crate::message::{Method, Response, Uri};
use crate::recording;
use std::time::{Duration, Instant};

/// Maximum number of times that the far end may defer an offer. After that the offer counts as refused. The next
/// constant, `MAX_DEFERRAL`, is the longest time in seconds for which the far end may defer an offer.
const MAX_DEFERRALS: u8 = 10;
const MAX_DEFERRAL: u64 = 10;

impl Dialogs {
    /// Handles the response to an offer in an early dialog. This response does not decide whether the call is answered.
    /// Only the response to the INVITE decides this.
    pub(super) fn update_answered(
        &mut self,
        cx: &mut Context<'_>,
        slot: LegSlot,
        status: u16,
        response: Option<&Response>,
    ) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if !matches!(leg.offer, OfferState::Sent { .. }) || leg.is_reported() {
            return;
        }
        let key = leg.key;
        match (status, response) {
            (200..=299, Some(response)) => {
                leg.offer.take_sent();
                cx.core.event(Event::OfferAnswered { leg: key, sdp: response.content.sdp().unwrap_or_default() });
            }
            (_, Some(response)) if self.defer_offer(cx, slot, response) => {}
            _ => {
                self.abandon_offer(cx, slot);
                cx.core.event(Event::OfferRejected { leg: key, status });
            }
        }
    }

    pub(super) fn deliver_to_reinvite(
        &mut self,
        cx: &mut Context<'_>,
        slot: ClientId,
        leg_slot: Option<LegSlot>,
        response: &Response,
    ) {
        let success = (200..300).contains(&response.status);
        if success {
            if cx.transactions.acknowledge_again(cx.core, slot, response) {
                return;
            }
            let Some(client) = cx.transactions.client(slot) else { return };
            let flow = client.flow;
            let (authorization, fallback) = client
                .acknowledge
                .as_ref()
                .map(|acknowledge| (acknowledge.authorization.clone(), Uri::parse(&acknowledge.uri)))
                .unwrap_or_default();
            let Some(fallback) = fallback else { return };
            // RFC 3261 §12.2.1.2: the route set of a dialog never changes after the first transaction. Only the remote
            // target may change.
            let mut dialog = Dialog::from_response(response, &fallback, flow);
            if let Some(leg) = leg_slot.and_then(|slot| self.legs.get_mut(slot)) {
                if let Some(target) = response.content.contact() {
                    leg.dialog.target = target;
                }
                dialog = Dialog { local_cseq: response.cseq, ..leg.dialog.clone() };
            }
            let again = InDialogRequest { lines: authorization, ..InDialogRequest::default() };
            self.acknowledge_answer(cx, slot, leg_slot, &dialog, response.cseq, &again);
        }
        let Some(leg_slot) = leg_slot else { return };
        if response.status < 200 || (!success && self.repeat_with_credentials(cx, slot, leg_slot, response)) {
            return;
        }
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let key = leg.key;
        if leg.is_reported() || matches!(leg.state, State::Ending(_)) {
            return;
        }
        match response.status {
            200..=299 => {
                leg.offer.take_sent();
                self.learn_session(cx, leg_slot, response);
                cx.core.event(Event::OfferAnswered { leg: key, sdp: response.content.sdp().unwrap_or_default() });
            }
            _ if self.defer_offer(cx, leg_slot, response) => {}
            408 | 481 => self.send_bye(cx, leg_slot, ByeHeaders::default(), refusal(response)),
            status => {
                self.abandon_offer(cx, leg_slot);
                self.refresh_again(cx, leg_slot);
                cx.core.event(Event::OfferRejected { leg: key, status });
            }
        }
    }

    /// Schedules the offer again, if the response only defers the offer. The response is 491 if two offers crossed. It
    /// is 500 with Retry-After if the far end is still busy with another offer (RFC 3261 §14.2, RFC 3311 §5.2). Returns
    /// `false` if the response is a refusal.
    pub(super) fn defer_offer(&mut self, cx: &mut Context<'_>, slot: LegSlot, response: &Response) -> bool {
        let seconds = response.content.value("Retry-After").and_then(|value| {
            value.split([';', ' ', '(']).next().and_then(|seconds| seconds.trim().parse::<u64>().ok())
        });
        let wait = match (response.status, seconds) {
            (491, _) => None,
            (500, Some(seconds)) if seconds <= MAX_DEFERRAL => Some(Duration::from_secs(seconds)),
            _ => return false,
        };
        let Some(leg) = self.legs.get_mut(slot) else { return false };
        let OfferState::Sent { offer, .. } = &mut leg.offer else { return false };
        if offer.deferrals >= MAX_DEFERRALS {
            return false;
        }
        offer.deferrals += 1;
        match wait {
            Some(wait) => self.send_offer_at(cx, slot, cx.now + wait),
            None => self.retry_offer(cx, slot),
        }
        true
    }

    /// Schedules the offer again after two offers crossed (glare). The side that created the Call-ID waits longer than
    /// the other side, so that the offers do not cross again (RFC 3261 §14.1).
    pub(super) fn retry_offer(&mut self, cx: &mut Context<'_>, slot: LegSlot) {
        let random = rand::Rng::next_u64(&mut cx.core.rng);
        let Some(leg) = self.legs.get(slot) else { return };
        let tens = if leg.incoming { random % 201 } else { 210 + random % 191 };
        self.send_offer_at(cx, slot, cx.now + Duration::from_millis(tens * 10));
    }

    /// Schedules the offer of this server, which was refused for now or was not sent yet.
    fn send_offer_at(&mut self, cx: &mut Context<'_>, slot: LegSlot, at: Instant) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let sent = leg.offer.take_sent().map(|(offer, _)| offer);
        let offer = sent.or_else(|| leg.waiting_offer.take().map(|waiting| waiting.offer));
        leg.waiting_offer = offer.map(|offer| WaitingOffer { offer, at });
        self.arm_leg(cx, slot);
    }

    pub(super) fn send_offer(&mut self, cx: &mut Context<'_>, slot: LegSlot) {
        let random = cx.core.random_u128();
        let Some(leg) = self.legs.get_mut(slot) else { return };
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
            self.retry_offer(cx, slot);
            return;
        }
        let Some(WaitingOffer { offer, .. }) = leg.waiting_offer.take() else { return };
        let (content_type, body) = recording::body(&offer.sdp, offer.metadata.as_ref(), random);
        leg.offer = OfferState::Sent { offer, client: None };
        let body = Some((content_type.into_owned(), body));
        if let Some(dialog) = dialog {
            let again = InDialogRequest { body, ..InDialogRequest::default() };
            self.send_in(cx, slot, Some(&dialog), Method::Update, Purpose::Update, again);
            return;
        }
        let Some(leg) = self.legs.get(slot) else { return };
        let lines = self.refresh_lines(leg);
        self.send_in_dialog(
            cx,
            slot,
            Method::Invite,
            Purpose::Reinvite,
            InDialogRequest { lines, body, ..InDialogRequest::default() },
        );
    }

    /// Abandons the leg's offer, because the leg ends. If a response to the re-INVITE comes within 64*T1, this server
    /// still sends the ACK.
    pub(super) fn abandon_offer(&mut self, cx: &mut Context<'_>, slot: LegSlot) {
        let at = cx.now + cx.core.config.timers.timeout();
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.waiting_offer = None;
        if let Some((_, Some(client))) = leg.offer.take_sent() {
            cx.transactions.abandon(cx.core, client, at);
        }
    }
}
