//! INVITEs without an offer (late offer), for the roles UAC and UAS. The called party sends the offer in its first
//! reliable message: a reliable provisional response or the 200. The PRACK or ACK of this message contains the answer
//! (RFC 3261 §13.2.1, RFC 3262 §5, RFC 6337 §2.2).
//!
//! ```text
//!   this server calls                    this server is called
//!     INVITE ──────────────>               <────────────── INVITE
//!     <── 18x, reliable, or 200: offer     18x, reliable, or 200: offer ──>
//!     PRACK, or ACK: answer ──>            <── PRACK, or ACK: answer
//! ```
//!
//! This server sends the PRACK or ACK only after the application has answered. During this wait the far end retransmits
//! the message with the offer. A retransmission is not reported again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::dialogs::{Context, Dialogs};
use super::state::State;
use super::transactions::MAX_FORKS;
use super::transactions::client::{InDialogRequest, Purpose};
use crate::keys::{ClientId, LegSlot};
use crate::leg::Event;
use crate::message::{Method, Response};

/// The offers that an outgoing call has received after an INVITE without an offer.
#[derive(Debug, Default)]
pub(super) struct DelayedOffers {
    /// The messages that will contain the answers, in the order of the offers, oldest first. Each entry has the tag of
    /// the far end that sent the offer. Like the list of early dialogs, this list has at most [`MAX_FORKS`] entries.
    due: VecDeque<(Bytes, Acknowledgement)>,
    /// The tag of the far end whose offer was the last to be reported.
    last_reported: Bytes,
}

/// The message that will contain an answer.
#[derive(Debug)]
pub(super) enum Acknowledgement {
    /// A PRACK with this RAck line.
    Prack(String),
    /// The ACK of the 200 to this INVITE.
    Ack { client: ClientId, cseq: u32, authorization: String },
    /// No message, because the offer has been answered before. The offer is only reported to the application again.
    None,
}

impl Dialogs {
    /// Returns whether this server must answer an offer of the far end with this tag. This is so in one case: the leg
    /// has sent an INVITE without an offer, and has not answered an offer of this far end yet.
    pub(super) fn expects_offer(&self, leg: LegSlot, tag: &[u8]) -> bool {
        let Some(leg) = self.legs.get(leg).filter(|leg| !leg.is_reported()) else { return false };
        let State::Calling(calling) = &leg.state else { return false };
        let settled = calling.early.iter().any(|early| early.settled && early.dialog.remote_tag == tag);
        calling.outgoing.sdp.is_empty() && !calling.is_hung_up() && !settled
    }

    /// Reports the far end's offer to the application. `carrier` is the message that will contain the answer.
    pub(super) fn report_delayed_offer(
        &mut self,
        cx: &mut Context<'_>,
        leg: LegSlot,
        tag: Bytes,
        offer: Bytes,
        carrier: Acknowledgement,
    ) {
        let Some(leg) = self.legs.get_mut(leg) else { return };
        let late = leg.extensions.delayed_offers.get_or_insert_default();
        // After a 200, a PRACK for the same far end is not needed any more.
        late.due.retain(|(known, _)| *known != tag);
        if late.due.len() >= MAX_FORKS {
            late.due.pop_front();
        }
        late.last_reported.clone_from(&tag);
        late.due.push_back((tag, carrier));
        let leg = leg.key;
        cx.core.event(Event::Offered { leg, sdp: Some(offer), refusable: false });
    }

    /// Reports an offer to the application again, if another far end's offer was reported last. Example: two far ends
    /// ring, and this server answers both offers in PRACKs. Then the far end that sent the first offer answers the
    /// call.
    pub(super) fn report_offer_again(
        &mut self,
        cx: &mut Context<'_>,
        slot: LegSlot,
        tag: &Bytes,
        offer: Option<Bytes>,
    ) {
        let last_reported = self
            .legs
            .get(slot)
            .and_then(|leg| leg.extensions.delayed_offers.as_ref())
            .map(|late| late.last_reported.clone());
        if let (Some(last_reported), Some(offer)) = (last_reported, offer)
            && last_reported != tag
        {
            self.report_delayed_offer(cx, slot, tag.clone(), offer, Acknowledgement::None);
        }
    }

    /// Returns whether the ACK of this 200 waits for the application's answer.
    pub(super) fn is_ack_due(&self, client: ClientId, leg: Option<LegSlot>, response: &Response) -> bool {
        let late = leg.and_then(|leg| self.legs.get(leg)).and_then(|leg| leg.extensions.delayed_offers.as_ref());
        late.is_some_and(|late| {
            late.due.iter().any(|(tag, carrier)| {
                matches!(carrier, Acknowledgement::Ack { client: one, .. } if *one == client)
                    && Some(tag) == response.to.tag.as_ref()
            })
        })
    }

    /// Sends the application's answer to the oldest pending offer. If `answer` is `None`, sends the PRACK or ACK
    /// without an answer. Returns `false` if no offer is pending.
    pub(super) fn answer_delayed_offer(&mut self, cx: &mut Context<'_>, slot: LegSlot, answer: Option<&Bytes>) -> bool {
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

    /// Sends the ACK of a pending 200 without an answer, because the leg is about to send BYE.
    pub(super) fn acknowledge_without_answer(&mut self, cx: &mut Context<'_>, slot: LegSlot) {
        while self.answer_delayed_offer(cx, slot, None) {}
    }
}
