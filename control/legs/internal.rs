//! Internal calls. Two legs of this server are connected, and each leg is the far end of the other leg. There is no
//! phone and no protocol between the two legs. One of the legs calls an application or a number of this server.
//!
//! Both legs have all functions of a leg. The audio goes between two sockets of this host. Offer and answer negotiate the
//! audio as in any other call.
//!
//! ```text
//!   caller's leg ── SignalCommand ──► InternalSignalling ── SignalEvent ──► called leg's call  (End -> Ended, ...)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_id::LegId;
use tandem_leg::internal::Link;
use tandem_leg::signal::{SignalCommand, SignalEvent};

/// Maximum number of internal calls with a common origin. Further internal calls are refused. [`MAX_CHAIN`] limits
/// the depth of a chain of calls. This constant limits the size of a tree of calls, because the document of one number
/// can call many numbers at once.
///
/// [`MAX_CHAIN`]: tandem_call::internal_call::MAX_CHAIN
const MAX_CALLS_OF_ONE_ORIGIN: usize = 100;

/// A function that delivers a signal to the call of a leg. The function never waits.
pub type Deliver = Arc<dyn Fn(LegId, SignalEvent) + Send + Sync>;

/// The signalling of one leg of an internal call.
pub struct InternalSignalling {
    deliver: Deliver,
    own: LegId,
    other: LegId,
    link: Arc<Mutex<Link>>,
    call_chain: CallChain,
}

/// The connection of a leg to another leg of this server, as data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InternalSnapshot {
    other: LegId,
    link: Link,
    /// The number of internal calls of the call chain.
    chain: usize,
}

/// A counter of the internal calls that have a common origin. The origin is a leg that no other leg has dialled. An
/// internal call has this origin directly, or through other dialled legs and internal calls. The counter is never
/// decreased, so it counts the calls of the whole life of the origin.
#[derive(Clone, Default)]
pub struct CallChain(Arc<AtomicUsize>);

impl CallChain {
    /// Creates the counter of an origin that has caused this number of internal calls.
    pub(crate) fn with(count: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(count)))
    }

    /// Returns the number of internal calls.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts another internal call. Returns `false` if the limit is reached. The call must then not be made.
    pub fn try_add(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) < MAX_CALLS_OF_ONE_ORIGIN
    }
}

/// Receives the signals of a leg of another node for a leg of this node.
#[derive(Clone)]
pub struct Receiver {
    deliver: Deliver,
    own: LegId,
    link: Arc<Mutex<Link>>,
}

impl Receiver {
    /// Gives the leg a signal of the other leg.
    pub fn receive(&self, event: SignalEvent) {
        self.link.lock().note(&event);
        (self.deliver)(self.own, event);
    }
}

impl InternalSignalling {
    /// Connects two legs. `deliver` receives the signals for both legs. Returns the signalling of the calling leg and of
    /// the called leg.
    pub fn pair(deliver: &Deliver, caller: LegId, called: LegId, call_chain: &CallChain) -> (Self, Self) {
        let link = Arc::new(Mutex::new(Link::default()));
        let signalling = |own: LegId, other: LegId| Self {
            deliver: Arc::clone(deliver),
            own,
            other,
            link: Arc::clone(&link),
            call_chain: call_chain.clone(),
        };
        (signalling(caller, called), signalling(called, caller))
    }

    /// Connects the leg `own` to the leg `other` of another node. `deliver` receives the signals for `own`, and `carry`
    /// those for `other`. Returns the signalling, and the end that receives the signals of the other node.
    pub fn to_other_node(
        deliver: &Deliver,
        (own, other): (LegId, LegId),
        carry: impl Fn(SignalEvent) + Send + Sync + 'static,
    ) -> (Self, Receiver) {
        let to_own = Arc::clone(deliver);
        let to_each: Deliver = Arc::new(move |leg, event| if leg == own { to_own(leg, event) } else { carry(event) });
        let (signalling, _of_other) = Self::pair(&to_each, own, other, &CallChain::default());
        let receiver = Receiver { deliver: Arc::clone(deliver), own, link: Arc::clone(&signalling.link) };
        (signalling, receiver)
    }

    /// Writes the connection.
    pub(crate) fn write(&self) -> InternalSnapshot {
        InternalSnapshot { other: self.other, link: *self.link.lock(), chain: self.call_chain.count() }
    }

    /// Reads the signalling of the leg `own`. `other` is the signalling of the other leg, if it was read before: both
    /// legs share the connection.
    pub fn read(deliver: &Deliver, own: LegId, snapshot: InternalSnapshot, other: Option<&Self>) -> Self {
        let InternalSnapshot { other: other_leg, link, chain } = snapshot;
        let (link, call_chain) = match other {
            Some(other) => (Arc::clone(&other.link), other.call_chain.clone()),
            None => (Arc::new(Mutex::new(link)), CallChain::with(chain)),
        };
        Self { deliver: Arc::clone(deliver), own, other: other_leg, link, call_chain }
    }

    /// Returns the chain that contains this internal call.
    pub fn call_chain(&self) -> &CallChain {
        &self.call_chain
    }

    /// Carries an order of this leg to the other leg.
    pub(crate) fn send(&self, order: SignalCommand) {
        // A DTMF message of the application is a digit.
        let order = match &order {
            SignalCommand::Message { content_type, body } => match crate::sip::digit_in(content_type, body) {
                Some(digit) => SignalCommand::Digit { digit, duration_ms: 0 },
                None => return,
            },
            _ => order,
        };
        let carried = self.link.lock().carry(order);
        if let Some(event) = carried.other {
            (self.deliver)(self.other, event);
        }
        if let Some(event) = carried.own {
            (self.deliver)(self.own, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_call::header_fields::HeaderFields;

    use super::*;

    /// The signals of both legs, each with its leg.
    type Signals = Arc<Mutex<Vec<(LegId, SignalEvent)>>>;

    /// Returns two connected legs, and the signals that they get.
    fn connected() -> (InternalSignalling, InternalSignalling, Signals) {
        let signals = Arc::new(Mutex::new(Vec::new()));
        let delivered = Arc::clone(&signals);
        let deliver: Deliver = Arc::new(move |leg, event| delivered.lock().push((leg, event)));
        let (caller, called) = InternalSignalling::pair(&deliver, LegId(1), LegId(2), &CallChain::default());
        (caller, called, signals)
    }

    fn end() -> SignalCommand {
        SignalCommand::End { status: 480, reason: None, headers: HeaderFields::from([("X".into(), "1".into())]) }
    }

    #[test]
    fn the_end_of_a_leg_is_reported_to_both_legs_and_only_the_first_end_has_values() {
        let (caller, called, signals) = connected();
        called.send(SignalCommand::Accept { sdp: "a".into(), headers: HeaderFields::new() });
        called.send(end());
        caller.send(end());
        let signals = std::mem::take(&mut *signals.lock());
        let ends: Vec<_> = signals
            .iter()
            .filter_map(|(leg, event)| match event {
                SignalEvent::Ended(end) => Some((leg.0, end.cause, end.headers.len())),
                _ => None,
            })
            .collect();
        use tandem_leg::signal::SignalEndCause::{HungUp, Local};
        assert_eq!(ends, [(1, HungUp, 1), (2, Local, 0), (1, Local, 0)]);
    }

    #[test]
    fn a_dtmf_message_of_an_application_is_a_digit_and_other_messages_are_dropped() {
        let (caller, _called, signals) = connected();
        let message = |content_type: &str| SignalCommand::Message {
            content_type: content_type.into(),
            body: "Signal=5\r\nDuration=100\r\n".into(),
        };
        caller.send(message("application/dtmf-relay"));
        caller.send(message("text/plain"));
        assert_eq!(*signals.lock(), [(LegId(2), SignalEvent::Digit('5'))]);
    }

    #[test]
    fn legs_that_were_written_and_read_share_their_connection_again() {
        let (caller, called, _) = connected();
        called.send(SignalCommand::Accept { sdp: "a".into(), headers: HeaderFields::new() });
        assert!(caller.call_chain().try_add());
        let signals: Signals = Arc::new(Mutex::new(Vec::new()));
        let delivered = Arc::clone(&signals);
        let deliver: Deliver = Arc::new(move |leg, event| delivered.lock().push((leg, event)));
        let read_caller = InternalSignalling::read(&deliver, LegId(1), caller.write(), None);
        let read_called = InternalSignalling::read(&deliver, LegId(2), called.write(), Some(&read_caller));
        assert_eq!((read_caller.write(), read_called.write()), (caller.write(), called.write()));
        read_caller.send(end());
        let ends = signals.lock().iter().filter(|(_, event)| matches!(event, SignalEvent::Ended(_))).count();
        assert_eq!(ends, 2);
        assert_eq!(read_called.write().link, read_caller.write().link, "the end is the end of both");
    }

    #[test]
    fn the_calls_of_one_origin_are_limited() {
        let chain = CallChain::default();
        assert_eq!((0..200).filter(|_| chain.clone().try_add()).count(), MAX_CALLS_OF_ONE_ORIGIN);
    }
}
