//! What the endpoint remembers of a leg.

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
    /// Our random tag, which finds the leg for requests in its dialog.
    pub(super) tag: u64,
    /// The far end sent the INVITE.
    pub(super) incoming: bool,
    pub(super) dialog: Dialog,
    pub(super) state: State,
    pub(super) end_report: EndReport,
    /// Our 200 to an INVITE, until its ACK.
    pub(super) awaiting_ack: Option<Box<AwaitingAck>>,
    /// The transaction of the far end's offer, until the application answers it.
    pub(super) offered: Option<ServerId>,
    /// Our offer, until the far end answers it.
    pub(super) offering: Option<Offering>,
    pub(super) session: Option<digest::Session>,
    /// The index of the trunk that the call counts for.
    pub(super) trunk: Option<usize>,
    pub(super) wake: Option<Instant>,
    pub(super) extensions: Extensions,
}

/// Whether [`crate::Event::Ended`] was emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReport {
    /// No, and the leg goes on.
    Pending,
    /// No. The leg ends, and its end is reported by then although the far end has not confirmed it.
    DueBy(Instant),
    /// Yes: the application hears nothing more of the leg.
    Done,
}

/// The state of a leg in extensions of RFC 3261. Most legs use few of them.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) origin: Origin,
    /// The far end may transfer its call (REFER).
    pub(super) may_refer: bool,
    /// Whether the dialog is a recording session with a recording server.
    pub(super) records: bool,
    /// The far end's Allow names UPDATE.
    pub(super) peer_updates: bool,
    /// Set if the leg sends reliable provisional responses.
    pub(super) reliable: Option<Box<Reliable>>,
    /// The far end's INVITE had no offer: ours comes first.
    pub(super) offers_first: bool,
    /// The far end's offers to an INVITE of ours without one.
    pub(super) delayed_offers: Option<Box<DelayedOffers>>,
    /// The session timer for our 2xx to the request in hand.
    pub(super) agreed: Option<Agreed>,
    pub(super) session: Option<Box<SessionTimer>>,
    /// The far end's REFER.
    pub(super) subscription: Option<Box<Subscription>>,
    /// The state of a REFER to the far end.
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
    /// The far end's INVITE has no final response. `repeat`: when the last provisional response is sent again (RFC 3261
    /// §13.3.1.1).
    Ringing {
        server: ServerId,
        repeat: Option<Instant>,
    },
    Established,
    /// Our BYE has no final response. It holds the end to report.
    Ending(Box<End>),
}

#[derive(Debug)]
pub(super) struct Calling {
    pub(super) outgoing: Box<Outgoing>,
    pub(super) client: ClientId,
    /// A provisional response came, so that a CANCEL may be sent (RFC 3261 §9.1).
    pub(super) provisional: bool,
    pub(super) hangup: CallingHangup,
    /// When the INVITE was sent first, or sent again after a response.
    pub(super) asked_at: Instant,
    pub(super) attempts: digest::Attempts,
    /// Early dialogs with reliable provisional responses, at most [`MAX_FORKS`](super::transactions::MAX_FORKS).
    pub(super) early: Vec<Early>,
    /// The Min-SE in seconds that a 422 asked for (RFC 4028 §7.3).
    pub(super) min_se: u32,
}

/// How far the hang-up of a call is that has no final response.
#[derive(Debug)]
pub(super) enum CallingHangup {
    /// It is not hung up.
    No,
    /// It is. The CANCEL waits for a provisional response (RFC 3261 §9.1).
    Wanted(ByeHeaders),
    /// The CANCEL was sent. At `give_up` the INVITE counts as cancelled.
    Cancelled { bye_headers: ByeHeaders, give_up: Instant },
}

impl Calling {
    /// Whether the application has hung up.
    pub(super) fn is_hung_up(&self) -> bool {
        !matches!(self.hangup, CallingHangup::No)
    }

    /// When the INVITE counts as cancelled without a response.
    pub(super) fn give_up(&self) -> Option<Instant> {
        match &self.hangup {
            CallingHangup::Cancelled { give_up, .. } => Some(*give_up),
            CallingHangup::No | CallingHangup::Wanted(_) => None,
        }
    }

    /// Takes the headers of the BYE, if the application has hung up.
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

/// A 200 to an INVITE or re-INVITE that is retransmitted until its ACK comes (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct AwaitingAck {
    pub(super) cseq: u32,
    /// It answers the INVITE of the call, not a re-INVITE.
    pub(super) initial: bool,
    pub(super) response: Bytes,
    pub(super) flow: Flow,
    pub(super) interval: Duration,
    pub(super) retransmit: Instant,
    pub(super) deadline: Instant,
    /// The BYE to send once the ACK is here (RFC 3261 §15).
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
    /// How often the far end has put it off.
    pub(super) deferrals: u8,
}

impl Leg {
    /// An outgoing leg without a trunk and without extensions.
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

    /// The leg ends: its end is reported at `at` at the latest.
    pub(super) fn report_end_by(&mut self, at: Instant) {
        if self.end_report == EndReport::Pending {
            self.end_report = EndReport::DueBy(at);
        }
    }

    /// Parameters of the local Contact.
    pub(super) fn features(&self) -> &'static str {
        if self.extensions.records { recording::FEATURE } else { "" }
    }

    /// The far end's INVITE had no offer, and its PRACK has answered ours.
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

/// A tag as 16 hex digits.
pub(super) fn tag_text(tag: u64) -> String {
    String::from_utf8_lossy(&compose::hex(tag)).into_owned()
}

/// The number of a tag that we wrote.
pub(super) fn tag_number(tag: &[u8]) -> Option<u64> {
    compose::from_hex(tag)
}

/// How often a provisional response is sent again, so that no proxy gives the INVITE up (RFC 3261 §13.3.1.1).
pub(super) const PROVISIONAL_REPEAT: Duration = Duration::from_secs(60);
