//! Two legs of this server that are each other's far end: a call to an application or a number of it, with no phone and no SIP
//! between.
//!
//! Each command that one leg gives to SIP reaches the other leg as the event that SIP would make of it. So neither leg knows the
//! difference, and each can do whatever a leg can do. Their audio goes from socket to socket of this machine, by offer and
//! answer like any other's.
//!
//! ```text
//!   caller's leg ── Command ──► Tie ── Event ──► called leg's call          (Hangup -> Ended, Answer -> Answered ...)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tandem_call::id::LegId;
use tandem_sip as sip;

use crate::registry::Calls;

/// Most calls from within that may come of one call from within; a further one is refused. [`MOST_IN_A_ROW`] bounds a chain of
/// calls, and this bounds a tree of them: a number's document can call many numbers at once.
///
/// [`MOST_IN_A_ROW`]: tandem_call::handover::MOST_IN_A_ROW
const MOST_OF_ONE_FAMILY: usize = 100;

/// One leg's way to the other.
pub struct Tie {
    calls: Calls,
    own: sip::LegKey,
    other: sip::LegKey,
    shared: Arc<Shared>,
    family: Family,
}

/// The calls from within that have come of one, directly or by another one: how many there were so far.
#[derive(Clone, Default)]
pub struct Family(Arc<AtomicUsize>);

impl Family {
    /// Counts another call. `false`: there were too many already, and this one is not to be made.
    pub fn takes_another(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) < MOST_OF_ONE_FAMILY
    }
}

#[derive(Default)]
struct Shared {
    answered: AtomicBool,
    over: AtomicBool,
}

impl Tie {
    /// The caller's end of a new one, and the called leg's.
    pub fn pair(calls: &Calls, caller: LegId, called: LegId, family: &Family) -> (Self, Self) {
        let shared = Arc::new(Shared::default());
        let tie = |own: LegId, other: LegId| Self {
            calls: calls.clone(),
            own: sip::LegKey(own.0),
            other: sip::LegKey(other.0),
            shared: Arc::clone(&shared),
            family: family.clone(),
        };
        (tie(caller, called), tie(called, caller))
    }

    /// The family that it belongs to.
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// What SIP would be told, told to the other leg.
    pub fn carry(&self, command: sip::Command) {
        let leg = self.other;
        match command {
            sip::Command::Provisional { status, sdp, headers, .. } => {
                self.calls.on_sip(sip::Event::Provisional { leg, status, reason: String::new(), sdp, headers });
            }
            sip::Command::Answer { sdp, headers, .. } => {
                self.shared.answered.store(true, Ordering::Release);
                self.calls.on_sip(sip::Event::Answered { leg, sdp: Some(sdp), headers, dialog: None });
            }
            sip::Command::Reject { status, reason, headers, .. } => {
                self.end(sip::EndCause::Rejected, Some(status), reason, headers);
            }
            sip::Command::Hangup { reason, headers, .. } => {
                let answered = self.shared.answered.load(Ordering::Acquire);
                let cause = if answered { sip::EndCause::Bye } else { sip::EndCause::Cancelled };
                self.end(cause, None, reason, headers);
            }
            sip::Command::Info { content_type, body, .. } => {
                self.calls.on_sip(sip::Event::Info { leg, content_type, body });
            }
            // There is nobody who could call somebody else.
            sip::Command::Refer { .. } => self.calls.on_sip(sip::Event::ReferAnswered { leg: self.own, status: 501 }),
            // Neither makes another offer, and neither is asked for a transfer.
            _ => {}
        }
    }

    /// Both hear of the end, each as SIP would tell it; the first who ends it says why.
    fn end(&self, cause: sip::EndCause, status: Option<u16>, reason: Option<String>, headers: Vec<sip::Header>) {
        if !self.shared.over.swap(true, Ordering::AcqRel) {
            self.calls.on_sip(sip::Event::Ended { leg: self.other, cause, status, reason, headers });
        }
        let (cause, headers) = (sip::EndCause::LocalHangup, Vec::new());
        self.calls.on_sip(sip::Event::Ended { leg: self.own, cause, status: None, reason: None, headers });
    }
}
