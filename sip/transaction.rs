//! The four transaction state machines (RFC 3261 §17, amended by RFC 6026).
//!
//! ```text
//!  INVITE client (§17.1.1.2)                     INVITE server (§17.2.1)
//!  Calling ─1xx─> Proceeding                     Proceeding ─2xx from TU──> Accepted ─L─> gone
//!     │ 2xx ─────────┴──> Accepted ─M─> gone         │ 300-699 from TU
//!     └─300-699──> Completed ─D─> gone               v
//!  A: retransmit, B: give up                     Completed ─ACK─> Confirmed ─I─> gone
//!                                                G: retransmit, H: give up
//!  non-INVITE client (§17.1.2.2)                 non-INVITE server (§17.2.2)
//!  Trying ─1xx─> Proceeding                      Trying ─1xx─> Proceeding
//!     └─200-699─┴─> Completed ─K─> gone             └─200-699─┴─> Completed ─J─> gone
//!  E: retransmit, F: give up
//! ```
//!
//! These state machines store no message and allocate no memory, because the endpoint stores the bytes that it has sent
//! and retransmits them. The timers are plain deadlines, so one heap contains all timers.

use std::time::{Duration, Instant};

use crate::config::Timers;
use crate::tls_fault::TransportFault;

/// The timers of RFC 3261 table 4 and RFC 6026 §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    A,
    B,
    D,
    E,
    F,
    G,
    H,
    I,
    J,
    K,
    L,
    M,
}

/// An action that the endpoint must execute for a state machine. The endpoint executes actions in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send the request, or the last response.
    Transmit,
    /// Send the same message again.
    Retransmit,
    /// Send the ACK of a 300-699 response. For each retransmission of the response, the ACK has the same bytes
    /// (§17.1.1.3).
    Acknowledge,
    /// Pass the message to the transaction user.
    Deliver,
    /// Report to the transaction user that Timer B, F or H fired.
    TimedOut,
    /// Report to the transaction user that the transport failed.
    TransportFailed(TransportFault),
    /// Remove the transaction.
    Terminate,
}

/// An input of a client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientInput {
    Response(u16),
    Timer(Timer),
    TransportError(TransportFault),
}

/// An input of a server transaction. A transport error is not an input (§17.2.4). If a response cannot be sent, it is
/// retransmitted until Timer H or J fires. The sender of the request has timers for this case too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerInput {
    /// The request was received again.
    Retransmission,
    Ack,
    /// The transaction user sends a response with this status.
    Respond(u16),
    Timer(Timer),
}

/// The deadlines of a state. A state has at most two deadlines: one for the next retransmission, and one at which the
/// state ends.
#[derive(Debug, Clone, Copy, Default)]
struct Deadlines {
    retransmit: Option<(Instant, Timer)>,
    expire: Option<(Instant, Timer)>,
}

impl Deadlines {
    fn next(&self) -> Option<Instant> {
        match (self.retransmit, self.expire) {
            (Some((a, _)), Some((b, _))) => Some(a.min(b)),
            (Some((at, _)), None) | (None, Some((at, _))) => Some(at),
            (None, None) => None,
        }
    }

    /// Removes and returns one timer that is due. The timer that ends the state comes first, so that nothing is sent
    /// after the end.
    fn take_due(&mut self, now: Instant) -> Option<Timer> {
        for clock in [&mut self.expire, &mut self.retransmit] {
            if let Some((at, timer)) = *clock
                && at <= now
            {
                *clock = None;
                return Some(timer);
            }
        }
        None
    }
}

/// The state machine of a client transaction.
#[derive(Debug)]
pub(crate) struct ClientMachine {
    state: ClientState,
    reliable: bool,
    /// Time at which a proceeding INVITE ends. [`ClientMachine::abandon`] sets this time.
    abandoned: Option<Instant>,
    deadlines: Deadlines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientState {
    Calling { interval: Duration },
    InviteProceeding,
    InviteCompleted,
    Accepted,
    Trying { interval: Duration },
    Proceeding,
    Completed,
    Terminated,
}

impl ClientMachine {
    /// Creates the state machine of a transaction. The caller has just sent the request.
    pub(crate) fn new(now: Instant, invite: bool, reliable: bool, timers: &Timers) -> Self {
        let (state, repeat, end) = if invite {
            (ClientState::Calling { interval: timers.t1 }, Timer::A, Timer::B)
        } else {
            (ClientState::Trying { interval: timers.t1 }, Timer::E, Timer::F)
        };
        let deadlines = Deadlines {
            retransmit: (!reliable).then(|| (now + timers.t1, repeat)),
            expire: Some((now + timers.timeout(), end)),
        };
        Self { state, reliable, abandoned: None, deadlines }
    }

    /// Creates the state machine of an INVITE that got a 2xx in another process. Retransmissions of the 2xx are expected
    /// until this time.
    pub(crate) fn accepted(until: Instant, reliable: bool) -> Self {
        let deadlines = Deadlines { retransmit: None, expire: Some((until, Timer::M)) };
        Self { state: ClientState::Accepted, reliable, abandoned: None, deadlines }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        self.deadlines.take_due(now)
    }

    /// Returns whether no response has been received yet.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self.state, ClientState::Calling { .. } | ClientState::Trying { .. })
    }

    /// Returns whether no final response has been received yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.is_unanswered() || matches!(self.state, ClientState::InviteProceeding | ClientState::Proceeding)
    }

    /// Returns whether the transaction has ended and can be removed.
    pub(crate) fn is_terminated(&self) -> bool {
        self.state == ClientState::Terminated
    }

    /// Returns the time at which the wait for retransmitted 2xx responses to an INVITE ends (Timer M). Returns `None`
    /// in any other state.
    pub(crate) fn absorbs_until(&self) -> Option<Instant> {
        let expire = self.deadlines.expire.map(|(at, _)| at);
        expire.filter(|_| self.state == ClientState::Accepted)
    }

    /// Records that the response of the transaction is not needed any more. No timer of the RFC ends an INVITE that got
    /// a provisional response. So such an INVITE ends at `at`.
    pub(crate) fn abandon(&mut self, at: Instant) {
        self.abandoned = Some(at);
        if self.state == ClientState::InviteProceeding {
            self.deadlines.expire = Some((at, Timer::M));
        }
    }

    /// Makes Timer B or F fire no later than `at`, if no response has been received. This is used if another address
    /// can be tried.
    pub(crate) fn expire_by(&mut self, at: Instant) {
        if self.is_unanswered()
            && let Some((expire, _)) = &mut self.deadlines.expire
        {
            *expire = at.min(*expire);
        }
    }

    /// Applies one input. Each case is a row of the state diagrams in the RFC.
    pub(crate) fn handle(&mut self, now: Instant, input: ClientInput, timers: &Timers, out: &mut Vec<Action>) {
        use ClientInput as In;
        use ClientState as S;
        match (self.state, input) {
            (S::Calling { .. } | S::InviteProceeding, In::Response(100..=199)) => {
                self.enter(S::InviteProceeding, self.abandoned.map(|at| (at, Timer::M)));
                out.push(Action::Deliver);
            }
            (S::Calling { .. } | S::InviteProceeding, In::Response(200..=299)) => {
                self.enter(S::Accepted, Some((now + timers.timeout(), Timer::M)));
                out.push(Action::Deliver);
            }
            (S::Calling { .. } | S::InviteProceeding, In::Response(_)) => {
                out.extend([Action::Acknowledge, Action::Deliver]);
                self.linger(S::InviteCompleted, now, timers.timeout(), Timer::D, out);
            }
            (S::Calling { interval }, In::Timer(Timer::A)) => {
                let interval = interval * 2;
                self.state = S::Calling { interval };
                self.deadlines.retransmit = Some((now + interval, Timer::A));
                out.push(Action::Retransmit);
            }
            (S::Calling { .. }, In::Timer(Timer::B)) | (S::Trying { .. } | S::Proceeding, In::Timer(Timer::F)) => {
                self.enter(S::Terminated, None);
                out.extend([Action::TimedOut, Action::Terminate]);
            }
            (S::InviteCompleted, In::Response(300..=699)) => out.push(Action::Acknowledge),
            (S::InviteCompleted, In::Timer(Timer::D))
            | (S::Accepted | S::InviteProceeding, In::Timer(Timer::M))
            | (S::Completed, In::Timer(Timer::K)) => {
                self.enter(S::Terminated, None);
                out.push(Action::Terminate);
            }
            (S::Accepted, In::Response(200..=299)) => out.push(Action::Deliver),
            (S::Trying { .. } | S::Proceeding, In::Response(100..=199)) => {
                self.state = S::Proceeding;
                out.push(Action::Deliver);
            }
            (S::Trying { .. } | S::Proceeding, In::Response(_)) => {
                out.push(Action::Deliver);
                self.linger(S::Completed, now, timers.t4, Timer::K, out);
            }
            (S::Trying { interval }, In::Timer(Timer::E)) => {
                let interval = (interval * 2).min(timers.t2);
                self.state = S::Trying { interval };
                self.deadlines.retransmit = Some((now + interval, Timer::E));
                out.push(Action::Retransmit);
            }
            (S::Proceeding, In::Timer(Timer::E)) => {
                self.deadlines.retransmit = Some((now + timers.t2, Timer::E));
                out.push(Action::Retransmit);
            }
            (S::Calling { .. } | S::InviteProceeding | S::Trying { .. } | S::Proceeding, In::TransportError(why)) => {
                self.enter(S::Terminated, None);
                out.extend([Action::TransportFailed(why), Action::Terminate]);
            }
            // The following inputs are ignored: late or repeated responses, timers of an earlier state, and transport
            // errors when the outcome is already known.
            (
                S::InviteCompleted | S::Accepted | S::Completed | S::Terminated,
                In::Response(_) | In::TransportError(_),
            )
            | (
                S::Calling { .. }
                | S::InviteProceeding
                | S::InviteCompleted
                | S::Accepted
                | S::Trying { .. }
                | S::Proceeding
                | S::Completed
                | S::Terminated,
                In::Timer(_),
            ) => {}
        }
    }

    fn enter(&mut self, state: ClientState, expire: Option<(Instant, Timer)>) {
        self.state = state;
        self.deadlines = Deadlines { retransmit: None, expire };
    }

    /// Enters a state that only absorbs retransmissions. A reliable transport has no retransmissions. For such a
    /// transport, the state is skipped.
    fn linger(&mut self, state: ClientState, now: Instant, time: Duration, timer: Timer, out: &mut Vec<Action>) {
        if self.reliable {
            self.enter(ClientState::Terminated, None);
            out.push(Action::Terminate);
        } else {
            self.enter(state, Some((now + time, timer)));
        }
    }
}

/// The state machine of a server transaction.
#[derive(Debug)]
pub(crate) struct ServerMachine {
    state: ServerState,
    reliable: bool,
    deadlines: Deadlines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerState {
    InviteProceeding,
    Accepted,
    InviteCompleted { interval: Duration },
    Confirmed,
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

impl ServerMachine {
    /// Creates the state machine of a transaction. The caller has just received the request. For an INVITE, the
    /// transaction user must send 100 at once.
    pub(crate) fn new(invite: bool, reliable: bool) -> Self {
        let state = if invite { ServerState::InviteProceeding } else { ServerState::Trying };
        Self { state, reliable, deadlines: Deadlines::default() }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        self.deadlines.take_due(now)
    }

    /// Returns the time at which the wait for retransmitted requests ends (Timers J and L). Returns `None` in any other
    /// state.
    pub(crate) fn absorbs_until(&self) -> Option<Instant> {
        let expire = self.deadlines.expire.map(|(at, _)| at);
        expire.filter(|_| matches!(self.state, ServerState::Accepted | ServerState::Completed))
    }

    /// Returns whether the final response has not been sent yet.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, ServerState::InviteProceeding | ServerState::Trying | ServerState::Proceeding)
    }

    /// Applies one input. Each case is a row of the state diagrams in the RFC.
    pub(crate) fn handle(&mut self, now: Instant, input: ServerInput, timers: &Timers, out: &mut Vec<Action>) {
        use ServerInput as In;
        use ServerState as S;
        match (self.state, input) {
            (S::InviteProceeding | S::InviteCompleted { .. } | S::Proceeding | S::Completed, In::Retransmission) => {
                out.push(Action::Retransmit);
            }
            (S::InviteProceeding, In::Respond(100..=199)) => out.push(Action::Transmit),
            (S::InviteProceeding, In::Respond(200..=299)) => {
                out.push(Action::Transmit);
                self.enter(S::Accepted, None, Some((now + timers.timeout(), Timer::L)));
            }
            (S::InviteProceeding, In::Respond(_)) => {
                out.push(Action::Transmit);
                let interval = timers.t1;
                let repeat = (!self.reliable).then(|| (now + interval, Timer::G));
                self.enter(S::InviteCompleted { interval }, repeat, Some((now + timers.timeout(), Timer::H)));
            }
            (S::InviteCompleted { interval }, In::Timer(Timer::G)) => {
                let interval = (interval * 2).min(timers.t2);
                self.state = S::InviteCompleted { interval };
                self.deadlines.retransmit = Some((now + interval, Timer::G));
                out.push(Action::Retransmit);
            }
            (S::InviteCompleted { .. }, In::Timer(Timer::H)) => {
                self.enter(S::Terminated, None, None);
                out.extend([Action::TimedOut, Action::Terminate]);
            }
            (S::InviteCompleted { .. }, In::Ack) => self.linger(S::Confirmed, now, timers.t4, Timer::I, out),
            (S::Confirmed, In::Timer(Timer::I))
            | (S::Accepted, In::Timer(Timer::L))
            | (S::Completed, In::Timer(Timer::J)) => {
                self.enter(S::Terminated, None, None);
                out.push(Action::Terminate);
            }
            // RFC 6026 §8.7: the transaction user retransmits the 2xx and handles the ACK.
            (S::Accepted, In::Respond(200..=299)) => out.push(Action::Retransmit),
            (S::Accepted, In::Ack) => out.push(Action::Deliver),
            (S::Trying | S::Proceeding, In::Respond(100..=199)) => {
                self.state = S::Proceeding;
                out.push(Action::Transmit);
            }
            (S::Trying | S::Proceeding, In::Respond(_)) => {
                out.push(Action::Transmit);
                self.linger(S::Completed, now, timers.timeout(), Timer::J, out);
            }
            // The following inputs are ignored: absorbed retransmissions, second final responses, and timers of an
            // earlier state.
            (S::Accepted | S::Confirmed | S::Trying | S::Terminated, In::Retransmission)
            | (
                S::InviteProceeding | S::Confirmed | S::Trying | S::Proceeding | S::Completed | S::Terminated,
                In::Ack,
            )
            | (S::Accepted | S::InviteCompleted { .. } | S::Confirmed | S::Completed | S::Terminated, In::Respond(_))
            | (
                S::InviteProceeding
                | S::Accepted
                | S::InviteCompleted { .. }
                | S::Confirmed
                | S::Trying
                | S::Proceeding
                | S::Completed
                | S::Terminated,
                In::Timer(_),
            ) => {}
        }
    }

    fn enter(&mut self, state: ServerState, retransmit: Option<(Instant, Timer)>, expire: Option<(Instant, Timer)>) {
        self.state = state;
        self.deadlines = Deadlines { retransmit, expire };
    }

    /// Enters a state that only absorbs retransmissions, in the same way as [`ClientMachine::linger`].
    fn linger(&mut self, state: ServerState, now: Instant, time: Duration, timer: Timer, out: &mut Vec<Action>) {
        if self.reliable {
            self.enter(ServerState::Terminated, None, None);
            out.push(Action::Terminate);
        } else {
            self.enter(state, None, Some((now + time, timer)));
        }
    }
}

#[cfg(test)]
mod tests;
