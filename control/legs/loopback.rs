//! Internal calls. Two legs of this server are connected, and each leg is the far end of the other leg. There is no
//! phone and no SIP between the two legs. One of the legs calls an application or a number of this server.
//!
//! A command of one leg reaches the other leg as the event that SIP would produce. For each leg, the call is the same
//! as a SIP call, and both legs have all functions of a leg. The audio goes between two sockets of this host. Offer and
//! answer negotiate the audio as in a SIP call.
//!
//! ```text
//!   caller's leg ── Command ──► LoopbackDialog ── Event ──► called leg's call  (Hangup -> Ended, ...)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tandem_id::LegId;
use tandem_sip as sip;

/// Maximum number of internal calls with a common origin. Further internal calls are refused. [`MAX_CHAIN`] limits
/// the depth of a chain of calls. This constant limits the size of a tree of calls, because the document of one number
/// can call many numbers at once.
///
/// [`MAX_CHAIN`]: tandem_call::internal_call::MAX_CHAIN
const MAX_CALLS_OF_ONE_ORIGIN: usize = 100;

/// A function that delivers an event to the call of the event's leg, as SIP does. The function never waits.
pub type Deliver = Arc<dyn Fn(sip::Event) + Send + Sync>;

/// The connection of one leg to the other leg of an internal call.
pub struct LoopbackDialog {
    deliver: Deliver,
    own: LegId,
    other: LegId,
    shared: Arc<Shared>,
    call_chain: CallChain,
}

/// A counter of the internal calls that have a common origin. The origin is a leg that no other leg has dialled. An
/// internal call has this origin directly, or through other dialled legs and internal calls. The counter is never
/// decreased, so it counts the calls of the whole life of the origin.
#[derive(Clone, Default)]
pub struct CallChain(Arc<AtomicUsize>);

impl CallChain {
    /// Counts another internal call. Returns `false` if the limit is reached. The call must then not be made.
    pub fn try_add(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) < MAX_CALLS_OF_ONE_ORIGIN
    }
}

#[derive(Default)]
struct Shared {
    answered: AtomicBool,
    over: AtomicBool,
}

impl LoopbackDialog {
    /// Connects two legs. `deliver` receives the events for both legs. Returns the caller's connection and the called
    /// leg's connection.
    pub fn pair(deliver: &Deliver, caller: LegId, called: LegId, call_chain: &CallChain) -> (Self, Self) {
        let shared = Arc::new(Shared::default());
        let loopback = |own: LegId, other: LegId| Self {
            deliver: Arc::clone(deliver),
            own,
            other,
            shared: Arc::clone(&shared),
            call_chain: call_chain.clone(),
        };
        (loopback(caller, called), loopback(called, caller))
    }

    /// Returns the chain that contains this internal call.
    pub fn call_chain(&self) -> &CallChain {
        &self.call_chain
    }

    /// Delivers a SIP command of this leg to the other leg.
    pub fn carry(&self, command: sip::Command) {
        let leg = self.other;
        match command {
            sip::Command::Provisional { status, sdp, headers, .. } => {
                (self.deliver)(sip::Event::Provisional { leg, status, reason: String::new(), sdp, headers });
            }
            sip::Command::Answer { sdp, headers, .. } => {
                self.shared.answered.store(true, Ordering::Release);
                (self.deliver)(sip::Event::Answered { leg, sdp: Some(sdp), headers, dialog: None });
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
                if let sip::Info::Digit(digit) = sip::Info::read(&content_type, &body) {
                    (self.deliver)(sip::Event::Info { leg, digit });
                }
            }
            // The other leg cannot call another destination, so the response is 501.
            sip::Command::Refer { .. } => (self.deliver)(sip::Event::ReferAnswered { leg: self.own, status: 501 }),
            // In an internal call, no leg makes a second offer or receives a REFER.
            _ => {}
        }
    }

    /// Reports the end of the call to both legs, as SIP does. If both sides end the call, the reason of the first side
    /// counts.
    fn end(&self, cause: sip::EndCause, status: Option<u16>, reason: Option<String>, headers: Vec<sip::Header>) {
        if !self.shared.over.swap(true, Ordering::AcqRel) {
            (self.deliver)(sip::Event::Ended { leg: self.other, cause, status, reason, headers });
        }
        let (cause, headers) = (sip::EndCause::LocalHangup, Vec::new());
        (self.deliver)(sip::Event::Ended { leg: self.own, cause, status: None, reason: None, headers });
    }
}
