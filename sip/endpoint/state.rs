//! The state of a leg in the endpoint.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::offer::{OfferState, WaitingOffer};
use super::origin::Origin;
use super::refer::{Referral, Subscription};
use super::reliable::{Early, Reliable};
use super::session_timer::SessionTimer;
use crate::compose;
use crate::dialog::Dialog;
use crate::digest;
use crate::flow::Flow;
use crate::header::{ByeHeaders, Header};
use crate::keys::{ClientId, ServerId};
use crate::leg::{EndCause, LegId, Outgoing};
use crate::negotiated_timer::NegotiatedTimer;
use crate::recording;

/// One INVITE session, from the INVITE to the response to its BYE.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) key: LegId,
    /// The local tag, which is a random number. By this tag, the server finds the leg to which a request in the dialog
    /// belongs.
    pub(super) tag: u64,
    /// Whether the far end sent the INVITE.
    pub(super) incoming: bool,
    pub(super) dialog: Dialog,
    pub(super) state: State,
    pub(super) end_report: EndReport,
    /// The 200 to an INVITE that this server has sent; `None` after the ACK has arrived.
    pub(super) awaiting_ack: Option<Box<AwaitingAck>>,
    pub(super) offer: OfferState,
    /// An offer of this server that is sent later, because two offers crossed or the far end was busy.
    pub(super) waiting_offer: Option<WaitingOffer>,
    pub(super) session: Option<digest::Session>,
    /// The index of the trunk, if the call counts towards the limits of a trunk.
    pub(super) trunk: Option<usize>,
    pub(super) wake: Option<Instant>,
    pub(super) extensions: Extensions,
}

/// Whether the event [`crate::Event::Ended`] was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReport {
    /// The event was not emitted, and the leg continues.
    Pending,
    /// The event was not emitted, and the leg is ending. The event is emitted no later than at this time, even if the
    /// far end has not confirmed the end.
    DueBy(Instant),
    /// The event was emitted. The leg reports nothing more to the application.
    Done,
}

/// The state of a leg for extensions of RFC 3261. Most legs use only a few extensions.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) origin: Origin,
    /// The leg of the application of which this leg is a branch that was not answered yet.
    pub(super) branch_of: Option<LegId>,
    /// Whether the far end may transfer the call with REFER.
    pub(super) may_refer: bool,
    /// Whether the leg is a session with a recording server.
    pub(super) records: bool,
    /// Whether the far end's Allow header contains UPDATE.
    pub(super) far_end_allows_update: bool,
    /// The reliable provisional responses, if the leg sends such responses.
    pub(super) reliable: Option<Box<Reliable>>,
    /// Whether this server itself has sent the far end's INVITE.
    pub(super) is_own_request: bool,
    /// The state of the far end's WebSocket, if it was lost before the far end acknowledged the answer to its INVITE.
    pub(super) lost_flow: Option<LostFlow>,
    /// The session timer for the 2xx to the current request.
    pub(super) negotiated_timer: Option<NegotiatedTimer>,
    pub(super) session: Option<Box<SessionTimer>>,
    /// The subscription of a REFER that the far end sent.
    pub(super) subscription: Option<Box<Subscription>>,
    /// The state of a REFER that this server sent.
    pub(super) referral: Option<Box<Referral>>,
}

/// The state of a far end whose WebSocket was lost (RFC 5626 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LostFlow {
    /// The far end has not registered over another WebSocket. At this time, the leg ends.
    Gone(Instant),
    /// The far end has registered over another WebSocket.
    Replaced,
}

impl LostFlow {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Gone(at) => Some(*at),
            Self::Replaced => None,
        }
    }
}

impl Extensions {
    fn next_timeout(&self) -> Option<Instant> {
        let reliable = self.reliable.as_ref().and_then(|reliable| reliable.next_timeout());
        let session = self.session.as_ref().map(|session| session.next_timeout());
        let referral = self.referral.as_ref().map(|referral| referral.deadline);
        let flow = self.lost_flow.as_ref().and_then(LostFlow::deadline);
        [reliable, session, referral, flow].into_iter().flatten().min()
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// This server sent an INVITE, and the INVITE has no final response yet.
    Calling(Box<Calling>),
    /// The far end sent an INVITE, and this server has not sent a final response yet. `repeat` is the time at which the
    /// last provisional response is sent again (RFC 3261 §13.3.1.1).
    /// `expires` is the time at which the INVITE expires (RFC 3261 §13.3.1), if the INVITE has an Expires header.
    Ringing {
        server: ServerId,
        repeat: Option<Instant>,
        expires: Option<Instant>,
    },
    Established,
    /// This server sent a BYE that has no final response yet. The value is the end that will be reported.
    Ending(Box<End>),
}

#[derive(Debug)]
pub(super) struct Calling {
    pub(super) outgoing: Box<Outgoing>,
    pub(super) client: ClientId,
    /// Whether a provisional response has come. Only then may a CANCEL be sent (RFC 3261 §9.1).
    pub(super) provisional: bool,
    pub(super) hangup: CallingHangup,
    /// Time at which the INVITE was sent. If a response makes this server send the INVITE again, this field gets the
    /// new time.
    pub(super) asked_at: Instant,
    pub(super) attempts: digest::Attempts,
    /// Early dialogs in which the far end sends reliable provisional responses. The list has at most
    /// [`MAX_FORKS`](super::transactions::MAX_FORKS) entries.
    pub(super) early: Vec<Early>,
    /// The tag of the far end whose offer was the last to be reported, if the INVITE has no offer. Empty before.
    pub(super) last_offer_from: Bytes,
    /// The Min-SE of a received 422, in seconds (RFC 4028 §7.3).
    pub(super) min_se: u32,
}

/// The progress of a hang-up before the final response to the INVITE.
#[derive(Debug)]
pub(super) enum CallingHangup {
    /// The application has not hung up the call.
    No,
    /// The application has hung up the call. The CANCEL waits for a provisional response (RFC 3261 §9.1).
    Wanted(ByeHeaders),
    /// The CANCEL was sent. At the time `give_up`, the INVITE counts as cancelled even without a response.
    Cancelled { bye_headers: ByeHeaders, give_up: Instant },
}

impl Calling {
    /// Returns whether the application has hung up the call.
    pub(super) fn is_hung_up(&self) -> bool {
        !matches!(self.hangup, CallingHangup::No)
    }

    /// Returns the time at which the INVITE counts as cancelled even without a response.
    pub(super) fn give_up(&self) -> Option<Instant> {
        match &self.hangup {
            CallingHangup::Cancelled { give_up, .. } => Some(*give_up),
            CallingHangup::No | CallingHangup::Wanted(_) => None,
        }
    }

    /// Removes and returns the additional headers of the hang-up, if the application has hung up the call.
    pub(super) fn take_hangup(&mut self) -> Option<ByeHeaders> {
        match std::mem::replace(&mut self.hangup, CallingHangup::No) {
            CallingHangup::No => None,
            CallingHangup::Wanted(bye_headers) | CallingHangup::Cancelled { bye_headers, .. } => Some(bye_headers),
        }
    }
}

/// The end of a leg, as [`crate::Event::Ended`] reports it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) cause: EndCause,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
    pub(super) headers: Vec<Header>,
}

impl End {
    pub(super) fn of(cause: EndCause, status: Option<u16>) -> Self {
        Self { cause, status, reason: None, headers: Vec::new() }
    }
}

/// A 200 to an INVITE or re-INVITE. The 200 is retransmitted until its ACK arrives (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct AwaitingAck {
    pub(super) cseq: u32,
    /// Whether the 200 answers the initial INVITE. If this is `false`, the 200 answers a re-INVITE.
    pub(super) initial: bool,
    pub(super) response: Bytes,
    pub(super) flow: Flow,
    pub(super) interval: Duration,
    pub(super) retransmit: Instant,
    pub(super) deadline: Instant,
    /// The BYE that is sent when the ACK arrives (RFC 3261 §15).
    pub(super) bye: Option<(ByeHeaders, End)>,
}

impl Leg {
    /// Creates an outgoing leg without a trunk and without extensions.
    pub(super) fn new(key: LegId, tag: u64, dialog: Dialog, state: State) -> Self {
        Self {
            key,
            tag,
            incoming: false,
            dialog,
            state,
            end_report: EndReport::Pending,
            awaiting_ack: None,
            offer: OfferState::Idle,
            waiting_offer: None,
            session: None,
            trunk: None,
            wake: None,
            extensions: Extensions::default(),
        }
    }

    /// Returns whether the end of the leg was reported.
    pub(super) fn is_reported(&self) -> bool {
        self.end_report == EndReport::Done
    }

    /// Whether the far end has called and has not acknowledged an answer.
    pub(super) fn is_unacknowledged(&self) -> bool {
        matches!(self.state, State::Ringing { .. }) || self.awaiting_ack.as_ref().is_some_and(|ack| ack.initial)
    }

    /// Marks the leg as ending. The end of the leg is reported no later than `at`.
    pub(super) fn report_end_by(&mut self, at: Instant) {
        if self.end_report == EndReport::Pending {
            self.end_report = EndReport::DueBy(at);
        }
    }

    /// Returns the parameters of the local Contact.
    pub(super) fn features(&self) -> &'static str {
        if self.extensions.records { recording::FEATURE } else { "" }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let report = match self.end_report {
            EndReport::DueBy(at) => Some(at),
            EndReport::Pending | EndReport::Done => None,
        };
        let ack = self.awaiting_ack.as_ref().map(|ack| ack.retransmit.min(ack.deadline));
        let offer = self.waiting_offer.as_ref().map(|waiting| waiting.at);
        let state = match &self.state {
            State::Calling(calling) => calling.give_up(),
            State::Ringing { repeat, expires, .. } => [*repeat, *expires].into_iter().flatten().min(),
            State::Established | State::Ending(_) => None,
        };
        [ack, offer, state, report, self.extensions.next_timeout()].into_iter().flatten().min()
    }
}

/// Formats a tag as 16 hexadecimal digits.
pub(super) fn tag_text(tag: u64) -> String {
    String::from_utf8_lossy(&compose::hex(tag)).into_owned()
}

/// Parses a tag that this server created.
pub(super) fn tag_number(tag: &[u8]) -> Option<u64> {
    compose::from_hex(tag)
}

/// Interval at which a provisional response is repeated, so that proxies do not end the INVITE transaction (RFC 3261
/// §13.3.1.1).
pub(super) const PROVISIONAL_REPEAT: Duration = Duration::from_secs(60);
