//! INVITEs without an offer, both roles: then the one who is called offers first, in the first message that is sure to
//! arrive, and the answer goes back with what acknowledges that (RFC 3261 §13.2.1, RFC 3262 §5, RFC 6337 §2.2).
//!
//! ```text
//!   we call                              we are called
//!     INVITE ──────────────>               <────────────── INVITE
//!     <── 18x, reliable, or 200: offer     18x, reliable, or 200: offer ──>
//!     PRACK, or ACK: answer ──>            <── PRACK, or ACK: answer
//! ```
//!
//! The acknowledgement waits for the application's answer; the peer repeats its message meanwhile and is not heard twice.

use std::collections::VecDeque;

use bytes::Bytes;

use super::dialogs::{Context, Dialogs};
use super::state::State;
use super::transactions::MAX_FORKS;
use super::transactions::client::{InDialogRequest, Purpose};
use crate::keys::{ClientId, LegId};
use crate::leg::Event;
use crate::message::{Method, Response};

/// What a call of ours without an offer keeps of those that it got.
#[derive(Debug, Default)]
pub(super) struct DelayedOffers {
    /// What our answers go in, oldest first, each with the tag of who offered; at most [`MAX_FORKS`], as early dialogs are.
    due: VecDeque<(Bytes, Acknowledgement)>,
    /// Whose offer the application was told last.
    told: Bytes,
}

/// A message that carries an answer.
#[derive(Debug)]
pub(super) enum Acknowledgement {
    /// With this RAck.
    Prack(String),
    /// Of the 200 to that INVITE.
    Ack { client: ClientId, cseq: u32, authorization: String },
    /// None: it has had one, and it is the application that is to hear of it again.
    None,
}

impl Dialogs {
    /// Whether the leg calls without an offer, and has nobody's yet that rings with this tag.
    pub(super) fn expects_offer(&self, leg: LegId, tag: &[u8]) -> bool {
        let Some(leg) = self.legs.get(leg).filter(|leg| !leg.is_reported()) else { return false };
        let State::Calling(calling) = &leg.state else { return false };
        let settled = calling.early.iter().any(|early| early.settled && early.dialog.remote_tag == tag);
        calling.outgoing.sdp.is_empty() && !calling.is_hung_up() && !settled
    }

    /// Tells the peer's offer; what acknowledges it goes with the answer.
    pub(super) fn report_delayed_offer(
        &mut self,
        cx: &mut Context<'_>,
        leg: LegId,
        tag: Bytes,
        offer: Bytes,
        carrier: Acknowledgement,
    ) {
        let Some(leg) = self.legs.get_mut(leg) else { return };
        let late = leg.extensions.delayed_offers.get_or_insert_default();
        // A 200 whose PRACK is still due makes that superfluous.
        late.due.retain(|(known, _)| *known != tag);
        if late.due.len() >= MAX_FORKS {
            late.due.pop_front();
        }
        late.told.clone_from(&tag);
        late.due.push_back((tag, carrier));
        let leg = leg.key;
        cx.core.event(Event::Offered { leg, sdp: Some(offer), refusable: false });
    }

    /// Of several that rang and were answered by PRACK, this one was picked up: if another was told since, it is told again.
    pub(super) fn report_offer_again(&mut self, cx: &mut Context<'_>, slot: LegId, tag: &Bytes, offer: Option<Bytes>) {
        let told =
            self.legs.get(slot).and_then(|leg| leg.extensions.delayed_offers.as_ref()).map(|late| late.told.clone());
        if let (Some(told), Some(offer)) = (told, offer)
            && told != tag
        {
            self.report_delayed_offer(cx, slot, tag.clone(), offer, Acknowledgement::None);
        }
    }

    /// Whether the ACK of this 200 waits for the application.
    pub(super) fn is_ack_due(&self, client: ClientId, leg: Option<LegId>, response: &Response) -> bool {
        let late = leg.and_then(|leg| self.legs.get(leg)).and_then(|leg| leg.extensions.delayed_offers.as_ref());
        late.is_some_and(|late| {
            late.due.iter().any(|(tag, carrier)| {
                matches!(carrier, Acknowledgement::Ack { client: one, .. } if *one == client)
                    && Some(tag) == response.to.tag.as_ref()
            })
        })
    }

    /// The application's answer to the oldest of those offers; `None`: it has none. `false`: nobody waits for one.
    pub(super) fn answer_delayed_offer(&mut self, cx: &mut Context<'_>, slot: LegId, answer: Option<&Bytes>) -> bool {
        let Some(leg) = self.legs.get_mut(slot) else { return false };
        let Some((tag, carrier)) = leg.extensions.delayed_offers.as_mut().and_then(|late| late.due.pop_front()) else {
            return false;
        };
        let body = answer.map(|sdp| ("application/sdp".to_owned(), sdp.clone()));
        match carrier {
            Acknowledgement::Prack(lines) => {
                let State::Calling(calling) = &mut leg.state else { return true };
                let Some(early) = calling.early.iter_mut().find(|early| early.dialog.remote_tag == tag) else {
                    return true;
                };
                early.settled |= answer.is_some();
                let dialog = early.dialog.clone();
                let again = InDialogRequest { lines, body, ..InDialogRequest::default() };
                self.send_in(cx, slot, Some(&dialog), Method::Prack, Purpose::Prack, again);
            }
            Acknowledgement::Ack { client, cseq, authorization } => {
                let dialog = leg.dialog.clone();
                let again = InDialogRequest { lines: authorization, body, ..InDialogRequest::default() };
                self.acknowledge_answer(cx, client, Some(slot), &dialog, cseq, &again);
            }
            Acknowledgement::None => {}
        }
        true
    }

    /// The leg is about to send BYE: its 200 is acknowledged before, be it without an answer.
    pub(super) fn acknowledge_without_answer(&mut self, cx: &mut Context<'_>, slot: LegId) {
        while self.answer_delayed_offer(cx, slot, None) {}
    }
}
