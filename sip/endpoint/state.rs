//! The endpoint's state of a leg.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::delayed_offer::DelayedOffers;
use super::origin::Origin;
use super::refer::{Referral, Subscription};
use super::reliable::{Early, Reliable};
use super::session_timer::{Agreed, SessionTimer};
use crate::compose;
use crate::dialog::{Dialog, Flow};
use crate::digest;
use crate::keys::{ClientId, ServerId};
use crate::leg::{EndCause, Header, LegKey, Outgoing};
use crate::recording;

/// One INVITE dialog usage, from the INVITE to the response to its BYE.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) key: LegKey,
    /// The local tag, a random number. Requests in the dialog find the leg by it.
    pub(super) tag: u64,
    /// Whether the far end sent the INVITE.
    pub(super) incoming: bool,
    pub(super) dialog: Dialog,
    pub(super) state: State,
    pub(super) end_report: EndReport,
    /// The 200 that this server has sent to an INVITE, until its ACK arrives.
    pub(super) awaiting_ack: Option<Box<AwaitingAck>>,
    /// The transaction of the far end's offer, until the application answers the offer.
    pub(super) offered: Option<ServerId>,
    /// This server's offer, until the far end answers it.
    pub(super) offering: Option<Offering>,
    pub(super) session: Option<digest::Session>,
    /// The index of the trunk whose limits count the call.
    pub(super) trunk: Option<usize>,
    pub(super) wake: Option<Instant>,
    pub(super) extensions: Extensions,
}

/// Whether [`crate::Event::Ended`] was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReport {
    /// It was not emitted, and the leg goes on.
    Pending,
    /// It was not emitted, and the leg is ending. It is emitted at this time even if the far end has not confirmed the
    /// end.
    DueBy(Instant),
    /// It was emitted. The leg reports nothing more to the application.
    Done,
}

/// The state of a leg for extensions of RFC 3261. Most legs use few of them.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) origin: Origin,
    /// Whether the far end may transfer its call (REFER).
    pub(super) may_refer: bool,
    /// Whether the dialog is a recording session with a recording server.
    pub(super) records: bool,
    /// Whether the far end's Allow contains UPDATE.
    pub(super) peer_updates: bool,
    /// Present if the leg sends reliable provisional responses.
    pub(super) reliable: Option<Box<Reliable>>,
    /// Whether the far end's INVITE had no offer, so that this server sends the first offer.
    pub(super) offers_first: bool,
    /// The far end's offers after an INVITE of this server without an offer.
    pub(super) delayed_offers: Option<Box<DelayedOffers>>,
    /// The session timer for the 2xx to the request that is being handled.
    pub(super) agreed: Option<Agreed>,
    pub(super) session: Option<Box<SessionTimer>>,
    /// The subscription of a REFER from the far end.
    pub(super) subscription: Option<Box<Subscription>>,
    /// The state of a REFER that this server sent.
    pub(super) referral: Option<Box<Referral>>,
}

impl Extensions {
    fn next_timeout(&self) -> Option<Instant> {
        let reliable = self.reliable.as_ref().and_then(|reliable| reliable.next_timeout());
        let session = self.session.as_ref().map(|session| session.next_timeout());
        let referral = self.referral.as_ref().map(|referral| referral.deadline);
        [reliable, session, referral].into_iter().flatten().min()
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// The INVITE to the far end has no final response yet.
    Calling(Box<Calling>),
    /// The far end's INVITE has no final response yet. `repeat` is the time to send the last provisional response again
    /// (RFC 3261 §13.3.1.1).
    Ringing {
        server: ServerId,
        repeat: Option<Instant>,
    },
    Established,
    /// The BYE that this server sent has no final response yet. The state holds the end to report.
    Ending(Box<End>),
}

#[derive(Debug)]
pub(super) struct Calling {
    pub(super) outgoing: Box<Outgoing>,
    pub(super) client: ClientId,
    /// Whether a provisional response came, so that a CANCEL may be sent (RFC 3261 §9.1).
    pub(super) provisional: bool,
    pub(super) hangup: CallingHangup,
    /// When the INVITE was first sent, or was last sent again after a response.
    pub(super) asked_at: Instant,
    pub(super) attempts: digest::Attempts,
    /// Early dialogs with reliable provisional responses, at most [`MAX_FORKS`](super::transactions::MAX_FORKS).
    pub(super) early: Vec<Early>,
    /// The Min-SE of a 422, in seconds (RFC 4028 §7.3).
    pub(super) min_se: u32,
}

/// The progress of hanging up a call that has no final response.
#[derive(Debug)]
pub(super) enum CallingHangup {
    /// The application has not hung up.
    No,
    /// The application has hung up. The CANCEL waits for a provisional response (RFC 3261 §9.1).
    Wanted(ByeHeaders),
    /// The CANCEL was sent. At `give_up` the INVITE counts as cancelled even without a response.
    Cancelled { bye_headers: ByeHeaders, give_up: Instant },
}

impl Calling {
    /// Whether the application has hung up.
    pub(super) fn is_hung_up(&self) -> bool {
        !matches!(self.hangup, CallingHangup::No)
    }

    /// Returns when the INVITE counts as cancelled without a response.
    pub(super) fn give_up(&self) -> Option<Instant> {
        match &self.hangup {
            CallingHangup::Cancelled { give_up, .. } => Some(*give_up),
            CallingHangup::No | CallingHangup::Wanted(_) => None,
        }
    }

    /// Takes the extra headers of the hang-up, if the application has hung up.
    pub(super) fn take_hangup(&mut self) -> Option<ByeHeaders> {
        match std::mem::replace(&mut self.hangup, CallingHangup::No) {
            CallingHangup::No => None,
            CallingHangup::Wanted(bye_headers) | CallingHangup::Cancelled { bye_headers, .. } => Some(bye_headers),
        }
    }
}

/// Extra headers of a CANCEL or BYE.
#[derive(Debug, Clone, Default)]
pub(super) struct ByeHeaders {
    pub(super) lines: String,
    pub(super) headers: Vec<Header>,
}

/// How a leg ended, for [`crate::Event::Ended`].
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

/// A 200 to an INVITE or re-INVITE that is retransmitted until its ACK arrives (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct AwaitingAck {
    pub(super) cseq: u32,
    /// Whether the 200 answers the initial INVITE, not a re-INVITE.
    pub(super) initial: bool,
    pub(super) response: Bytes,
    pub(super) flow: Flow,
    pub(super) interval: Duration,
    pub(super) retransmit: Instant,
    pub(super) deadline: Instant,
    /// The BYE to send once the ACK arrives (RFC 3261 §15).
    pub(super) bye: Option<(ByeHeaders, End)>,
}

#[derive(Debug)]
pub(super) struct Offering {
    pub(super) sdp: Bytes,
    /// The metadata of a recorded session (RFC 7865).
    pub(super) metadata: Option<Bytes>,
    /// The re-INVITE's transaction, once it has been sent.
    pub(super) client: Option<ClientId>,
    /// When to send the offer; `None` while it is outstanding.
    pub(super) retry_at: Option<Instant>,
    /// How often the far end has deferred the offer.
    pub(super) deferrals: u8,
}

impl Leg {
    /// Creates an outgoing leg without a trunk and without extensions.
    pub(super) fn new(key: LegKey, tag: u64, dialog: Dialog, state: State) -> Self {
        Self {
            key,
            tag,
            incoming: false,
            dialog,
            state,
            end_report: EndReport::Pending,
            awaiting_ack: None,
            offered: None,
            offering: None,
            session: None,
            trunk: None,
            wake: None,
            extensions: Extensions::default(),
        }
    }

    /// Whether the end was reported.
    pub(super) fn is_reported(&self) -> bool {
        self.end_report == EndReport::Done
    }

    /// Marks the leg as ending. Its end is reported at `at` at the latest.
    pub(super) fn report_end_by(&mut self, at: Instant) {
        if self.end_report == EndReport::Pending {
            self.end_report = EndReport::DueBy(at);
        }
    }

    /// Parameters of the local Contact.
    pub(super) fn features(&self) -> &'static str {
        if self.extensions.records { recording::FEATURE } else { "" }
    }

    /// Whether the far end's INVITE had no offer and its PRACK has answered this server's offer.
    pub(super) fn has_settled_early(&self) -> bool {
        let reliable = self.extensions.reliable.as_ref();
        self.extensions.offers_first && reliable.is_some_and(|reliable| reliable.settled)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let report = match self.end_report {
            EndReport::DueBy(at) => Some(at),
            EndReport::Pending | EndReport::Done => None,
        };
        let ack = self.awaiting_ack.as_ref().map(|ack| ack.retransmit.min(ack.deadline));
        let offer = self.offering.as_ref().and_then(|offering| offering.retry_at);
        let state = match &self.state {
            State::Calling(calling) => calling.give_up(),
            State::Ringing { repeat, .. } => *repeat,
            State::Established | State::Ending(_) => None,
        };
        [ack, offer, state, report, self.extensions.next_timeout()].into_iter().flatten().min()
    }
}

/// Formats a tag as 16 hexadecimal digits.
pub(super) fn tag_text(tag: u64) -> String {
    String::from_utf8_lossy(&compose::hex(tag)).into_owned()
}

/// Parses a tag that this server has created.
pub(super) fn tag_number(tag: &[u8]) -> Option<u64> {
    compose::from_hex(tag)
}

/// Interval at which a provisional response is sent again, so that proxies do not end the INVITE transaction (RFC 3261
/// §13.3.1.1).
pub(super) const PROVISIONAL_REPEAT: Duration = Duration::from_secs(60);
