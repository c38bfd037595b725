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

use bytes::Bytes;

use super::leg_cx::LegCx;
use super::offer::{Carrier, OfferState};
use super::state::State;
use super::transactions::MAX_FORKS;
use super::transactions::client::{InDialogRequest, Purpose};
use crate::keys::ClientId;
use crate::leg::Event;
use crate::message::{Method, Response};

impl LegCx<'_, '_> {
    /// Returns whether this server must answer an offer of the far end with this tag. This is so in one case: the leg
    /// has sent an INVITE without an offer, and has not answered an offer of this far end yet.
    pub(super) fn expects_offer(&self, tag: &[u8]) -> bool {
        let State::Calling(calling) = &self.leg.state else { return false };
        let settled = calling.early.iter().any(|early| early.settled && early.dialog.remote_tag == tag);
        calling.outgoing.sdp.is_empty() && !calling.is_hung_up() && !settled && !self.leg.is_reported()
    }

    /// Reports the far end's offer to the application. `carrier` is the message that will contain the answer.
    pub(super) fn report_delayed_offer(&mut self, offer: Bytes, carrier: Carrier) {
        let leg = &mut *self.leg;
        let key = leg.key;
        // Two phones ring, and this server has made an offer to one of them. The other phone must get its answer first.
        if let Some((_, client)) = leg.offer.take_sent() {
            let at = self.cx.now + self.cx.core.config.timers.timeout();
            if let Some(client) = client {
                self.cx.transactions.abandon(self.cx.core, client, at);
            }
            self.cx.core.event(Event::OfferRejected { leg: key, status: 491 });
        }
        if let OfferState::Received(carriers) = &mut leg.offer {
            // After a 200, a PRACK for the same far end is not needed any more.
            carriers.retain(|known| known.tag() != carrier.tag());
            if carriers.len() >= MAX_FORKS {
                carriers.pop_front();
            }
        }
        if let (State::Calling(calling), Some(tag)) = (&mut leg.state, carrier.tag()) {
            calling.last_offer_from.clone_from(tag);
        }
        leg.offer.receive(carrier);
        self.cx.core.event(Event::Offered { leg: key, sdp: Some(offer), refusable: false });
    }

    /// Returns whether the ACK of this 200 waits for the application's answer.
    pub(super) fn is_ack_due(&self, client: ClientId, response: &Response) -> bool {
        let OfferState::Received(carriers) = &self.leg.offer else { return false };
        carriers.iter().any(|carrier| {
            matches!(carrier, Carrier::Ack { client: one, .. } if *one == client)
                && carrier.tag() == response.to.tag.as_ref()
        })
    }

    /// Sends the application's answer to an offer in a response to an INVITE. If `answer` is `None`, sends the PRACK or
    /// ACK without an answer.
    pub(super) fn send_answer(&mut self, carrier: Carrier, answer: Option<&Bytes>) {
        let leg = &mut *self.leg;
        let body = answer.map(|sdp| ("application/sdp".to_owned(), sdp.clone()));
        match carrier {
            Carrier::Prack { tag, lines } => {
                let State::Calling(calling) = &mut leg.state else { return };
                let Some(early) = calling.early.iter_mut().find(|early| early.dialog.remote_tag == tag) else {
                    return;
                };
                early.settled |= answer.is_some();
                let dialog = early.dialog.clone();
                let again = InDialogRequest { lines, body, ..InDialogRequest::default() };
                self.send_in(Some(&dialog), Method::Prack, Purpose::Prack, again);
            }
            Carrier::Ack { client, cseq, authorization, .. } => {
                let dialog = leg.dialog.clone();
                let again = InDialogRequest { lines: authorization, body, ..InDialogRequest::default() };
                self.cx.acknowledge_answer(client, Some(self.slot), &dialog, cseq, &again);
            }
            Carrier::Response(_) | Carrier::None { .. } => {}
        }
    }
}
