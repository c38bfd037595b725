//! The offer/answer state of a leg, as far as transactions decide it (RFC 3261 §14, RFC 3262 §5, RFC 3311 §5, RFC 6337
//! §2). The SDP itself is the application's.
//!
//! ```text
//!   far end's INVITE with an offer ──> FirstReceived ──PRACK, or 200 with the answer──> Idle
//!   far end's INVITE without one ────> FirstOwed ──PRACK with the answer──────────────> Idle
//!                                          └──200 with the offer──> SentInOk ──ACK────> Idle
//!   Idle ──an offer of the far end──> Received ──the application's answer─────────────> Idle, or SentInOk
//!   Idle ──re-INVITE or UPDATE of this server──> Sent ──final response────────────────> Idle
//! ```
//!
//! If two offers cross, both sides refuse with 491 and send their offers again later. Until then the offer of this
//! server is a [`WaitingOffer`].
//!
//! A leg that has sent its INVITE is `Idle`: each of its early dialogs stores whether the first offer and answer are
//! complete in this dialog.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::keys::{ClientId, ServerId};

/// The open offer of a leg.
#[derive(Debug, Default)]
pub(super) enum OfferState {
    /// No offer is open.
    #[default]
    Idle,
    /// The far end's INVITE had the first offer. The far end has acknowledged no answer yet.
    FirstReceived,
    /// The far end's INVITE had no offer. The first offer of this server has no answer yet.
    FirstOwed,
    /// The application has not answered these offers of the far end yet, oldest first. There are several only if an
    /// INVITE without an offer reached several phones; then there are at most
    /// [`MAX_FORKS`](super::transactions::MAX_FORKS).
    Received(VecDeque<Carrier>),
    /// A re-INVITE or UPDATE with the offer of this server has no final response yet. `client` is `None` until the
    /// request is sent.
    Sent { offer: Offer, client: Option<ClientId> },
    /// The 200 of this server has an offer. The ACK will have the answer.
    SentInOk,
}

/// An offer of this server in a re-INVITE or UPDATE.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) sdp: Bytes,
    /// The metadata of a recorded session (RFC 7865).
    pub(super) metadata: Option<Bytes>,
    /// Number of times that the far end has deferred the offer.
    pub(super) deferrals: u8,
}

/// An offer of this server that is sent at this time.
#[derive(Debug)]
pub(super) struct WaitingOffer {
    pub(super) offer: Offer,
    pub(super) at: Instant,
}

/// The message that will contain the answer to an offer of the far end. The tag is the tag of the far end.
#[derive(Debug)]
pub(super) enum Carrier {
    /// The final response to this re-INVITE, UPDATE or PRACK.
    Response(ServerId),
    /// The PRACK of a reliable provisional response, with this RAck line.
    Prack { tag: Bytes, lines: String },
    /// The ACK of the 200 to this INVITE.
    Ack { tag: Bytes, client: ClientId, cseq: u32, authorization: String },
    /// No message, because the offer has been answered before. The offer is only reported to the application again.
    None { tag: Bytes },
}

/// A request of the far end that has an offer or asks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfferRequest {
    Invite,
    Update,
    /// An UPDATE without SDP, which only refreshes the session or the target.
    PlainUpdate,
    Prack,
}

/// The SDP in the 200 to an INVITE or re-INVITE of the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OkBody {
    /// An offer or an answer.
    Sdp,
    /// No SDP, because a reliable provisional response had the offer, and its PRACK had the answer (RFC 6337 §2.2).
    Empty,
}

impl Carrier {
    /// Returns the tag of the far end, if the offer came in a response to an INVITE.
    pub(super) fn tag(&self) -> Option<&Bytes> {
        match self {
            Self::Response(_) => None,
            Self::Prack { tag, .. } | Self::Ack { tag, .. } | Self::None { tag } => Some(tag),
        }
    }
}

impl OfferState {
    /// Returns the status with which a request of the far end must be refused. Returns `None` if the request is allowed
    /// in this state.
    pub(super) fn refusal_of(&self, request: OfferRequest) -> Option<u16> {
        use OfferRequest as R;
        match (self, request) {
            // An earlier offer of the far end has no answer yet (RFC 3261 §14.2, RFC 3311 §5.2).
            (Self::Received(_), _) | (Self::FirstReceived, R::Invite | R::Update) => Some(500),
            // An offer of this server has no answer yet.
            (Self::FirstOwed, R::Invite | R::Update)
            | (Self::Sent { .. }, R::Invite | R::Update | R::Prack)
            | (Self::SentInOk, R::Update) => Some(491),
            // The re-INVITE has overtaken the ACK (RFC 5407 §3.1.4).
            (Self::SentInOk, R::Invite) => Some(500),
            // The PRACK acknowledges no answer, so it cannot have a further offer (RFC 3262 §5).
            (Self::FirstReceived | Self::FirstOwed | Self::SentInOk, R::Prack) => Some(488),
            (Self::FirstReceived | Self::FirstOwed | Self::Sent { .. } | Self::SentInOk, R::PlainUpdate)
            | (Self::Idle, _) => None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// Returns whether the first offer and answer of the far end's INVITE are not complete.
    pub(super) fn is_first(&self) -> bool {
        matches!(self, Self::FirstReceived | Self::FirstOwed)
    }

    /// Adds an offer of the far end that the application must answer.
    pub(super) fn receive(&mut self, carrier: Carrier) {
        match self {
            Self::Received(carriers) => carriers.push_back(carrier),
            _ => *self = Self::Received(VecDeque::from([carrier])),
        }
    }

    /// Removes and returns the oldest offer of the far end that the application has not answered.
    pub(super) fn take_received(&mut self) -> Option<Carrier> {
        let Self::Received(carriers) = self else { return None };
        let carrier = carriers.pop_front();
        if carriers.is_empty() {
            *self = Self::Idle;
        }
        carrier
    }

    /// Removes and returns the transaction of an offer of the far end, if a response will contain the answer.
    pub(super) fn take_server(&mut self) -> Option<ServerId> {
        match self {
            Self::Received(carriers) => match carriers.front() {
                Some(&Carrier::Response(server)) => {
                    self.take_received();
                    Some(server)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Forgets the offer of a re-INVITE that the far end has cancelled.
    pub(super) fn cancel(&mut self, cancelled: ServerId) {
        if matches!(self, Self::Received(carriers)
            if matches!(carriers.front(), Some(Carrier::Response(server)) if *server == cancelled))
        {
            self.take_received();
        }
    }

    /// Removes and returns the offer of this server whose request has a final response, or is abandoned.
    pub(super) fn take_sent(&mut self) -> Option<(Offer, Option<ClientId>)> {
        match std::mem::take(self) {
            Self::Sent { offer, client } => Some((offer, client)),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Handles the PRACK of a reliable provisional response. `described` says whether the response had SDP, `has_sdp`
    /// whether the PRACK has SDP. Returns whether the SDP of the PRACK is the answer to the first offer of this server.
    pub(super) fn handle_prack(&mut self, described: bool, has_sdp: bool) -> bool {
        let is_answer = matches!(self, Self::FirstOwed) && described && has_sdp;
        if is_answer || matches!(self, Self::FirstReceived) && described {
            *self = Self::Idle;
        }
        is_answer
    }

    /// Handles the 200 to an INVITE of the far end. `initial` says whether the INVITE creates the dialog, `has_offer`
    /// whether the INVITE has an offer.
    pub(super) fn handle_ok(&mut self, initial: bool, has_offer: bool) -> OkBody {
        match (&*self, initial) {
            (Self::FirstReceived, true) => *self = Self::Idle,
            (Self::FirstOwed, true) => *self = Self::SentInOk,
            (_, true) if !has_offer => return OkBody::Empty,
            (_, false) if !has_offer => *self = Self::SentInOk,
            _ => {}
        }
        OkBody::Sdp
    }

    /// Handles the ACK of a 200.
    pub(super) fn handle_ack(&mut self) {
        if matches!(self, Self::SentInOk) {
            *self = Self::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received() -> OfferState {
        OfferState::Received(VecDeque::from([Carrier::Response(ServerId::default())]))
    }

    fn sent() -> OfferState {
        OfferState::Sent { offer: Offer { sdp: Bytes::new(), metadata: None, deferrals: 0 }, client: None }
    }

    #[test]
    fn each_state_allows_or_refuses_each_request_as_the_rfcs_say() {
        use OfferRequest as R;
        let requests = [R::Invite, R::Update, R::PlainUpdate, R::Prack];
        let table = [
            (OfferState::Idle, [None; 4]),
            (OfferState::FirstReceived, [Some(500), Some(500), None, Some(488)]),
            (OfferState::FirstOwed, [Some(491), Some(491), None, Some(488)]),
            (received(), [Some(500); 4]),
            (sent(), [Some(491), Some(491), None, Some(491)]),
            (OfferState::SentInOk, [Some(500), Some(491), None, Some(488)]),
        ];
        for (state, refusals) in table {
            assert_eq!(requests.map(|request| state.refusal_of(request)), refusals, "{state:?}");
        }
    }

    #[test]
    fn a_200_has_the_offer_the_answer_or_nothing() {
        use OfferState as S;
        // The state, whether the INVITE is the first one, whether it has an offer, the body, and whether the ACK is to
        // have the answer.
        let table = [
            (S::FirstReceived, true, true, OkBody::Sdp, false),
            (S::FirstOwed, true, false, OkBody::Sdp, true),
            (S::Idle, true, true, OkBody::Sdp, false),
            (S::Idle, true, false, OkBody::Empty, false),
            (S::Idle, false, true, OkBody::Sdp, false),
            (S::Idle, false, false, OkBody::Sdp, true),
        ];
        for (mut state, initial, has_offer, body, answer_in_ack) in table {
            let row = format!("{state:?} {initial} {has_offer}");
            assert_eq!(state.handle_ok(initial, has_offer), body, "{row}");
            assert_eq!(matches!(state, S::SentInOk), answer_in_ack, "{row}");
            state.handle_ack();
            assert!(state.is_idle(), "{row}");
        }
    }

    #[test]
    fn a_prack_completes_the_first_offer_and_answer_if_they_are_in_the_response_and_the_prack() {
        use OfferState as S;
        for (make, described, has_sdp, is_answer, is_first) in [
            ((|| S::FirstReceived) as fn() -> S, true, false, false, false),
            (|| S::FirstReceived, true, true, false, false),
            (|| S::FirstReceived, false, false, false, true),
            (|| S::FirstOwed, true, true, true, false),
            (|| S::FirstOwed, true, false, false, true),
            (|| S::FirstOwed, false, true, false, true),
        ] {
            let mut state = make();
            assert_eq!(state.handle_prack(described, has_sdp), is_answer, "{:?} {described} {has_sdp}", make());
            assert_eq!(state.is_first(), is_first, "{:?} {described} {has_sdp}", make());
        }
    }

    #[test]
    fn offers_of_several_phones_are_answered_in_their_order() {
        let mut state = OfferState::Idle;
        for tag in ["a", "b"] {
            state.receive(Carrier::None { tag: Bytes::from(tag) });
        }
        assert_eq!(state.take_server(), None, "no response will contain these answers");
        let tags: Vec<_> = std::iter::from_fn(|| state.take_received()).map(|one| one.tag().cloned()).collect();
        assert_eq!(tags, [Some(Bytes::from("a")), Some(Bytes::from("b"))]);
        assert!(state.is_idle());
    }
}
