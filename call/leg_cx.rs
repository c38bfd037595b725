//! One leg, with what the actions of a leg need from its call: the clocks, ids, timers and the queue of outputs.
//!
//! An action that concerns one leg takes a [`LegCx`]. An action that joins legs (a bridge, a dial, a transfer, a
//! supervision, the end of a leg) is a method of [`Call`](crate::call::Call), which has all legs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tandem_id::{Deadline, Entropy, FetchId, LegId, Now, OpId};

use crate::Target;
use crate::call::{Abort, UNANSWERED_LIMIT};
use crate::event::{CallEvent, EventKind};
use crate::fetch::{Fetch, FetchReason};
use crate::leg::{Direction, LegInfo, Status};
use crate::leg_state::LegState;
use crate::output::{LegCommand, Output, Progress};
use crate::timer::{LegTimer, Timers};

/// The part of a call that every leg uses: the time of the current input, the sources of ids, the timers and the outputs.
pub(crate) struct Effects {
    pub(crate) now: Now,
    pub(crate) entropy: Entropy,
    pub(crate) next_op: u64,
    pub(crate) timers: Timers,
    pub(crate) outputs: VecDeque<Output>,
}

impl Effects {
    pub(crate) fn new_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    pub(crate) fn command(&mut self, leg: LegId, command: LegCommand) {
        self.outputs.push_back(Output::Leg { leg, command: Box::new(command) });
    }

    pub(crate) fn emit(&mut self, leg: &Arc<LegInfo>, kind: EventKind) {
        let event = CallEvent { at: self.now.time, leg: Arc::clone(leg), kind };
        self.outputs.push_back(Output::Event(Box::new(event)));
    }

    /// Sets a timer. When the timer fires, the instruction that runs on the leg receives
    /// [`Input::Timer`](crate::program::Input::Timer).
    pub(crate) fn timer(&mut self, leg: LegId, after: Duration) -> OpId {
        let op = self.new_op();
        self.set_timer(leg, LegTimer::Instruction(op), after);
        op
    }

    /// Stops a timer that [`Self::timer`] has set, if there is one.
    pub(crate) fn cancel_timer(&mut self, leg: LegId, timer: Option<OpId>) {
        if let Some(op) = timer {
            self.timers.cancel(leg, LegTimer::Instruction(op));
        }
    }

    pub(crate) fn set_timer(&mut self, leg: LegId, timer: LegTimer, after: Duration) {
        if let Some(at) = Deadline::after(self.now, after) {
            self.timers.set(at, leg, timer);
        }
    }
}

/// The context of an action that concerns one leg.
pub(crate) struct LegCx<'a> {
    pub(crate) leg: &'a mut LegState,
    pub(crate) call: &'a mut Effects,
}

impl LegCx<'_> {
    pub(crate) fn now(&self) -> Now {
        self.call.now
    }

    pub(crate) fn new_op(&mut self) -> OpId {
        self.call.new_op()
    }

    pub(crate) fn command(&mut self, command: LegCommand) {
        self.call.command(self.leg.info.id, command);
    }

    /// Reports an event of the leg. A leg that stands for a leg of another node has no events here.
    pub(crate) fn emit(&mut self, kind: EventKind) {
        if self.leg.remote.is_none() {
            self.call.emit(&self.leg.info, kind);
        }
    }

    /// Sets a timer; see [`Effects::timer`].
    pub(crate) fn timer(&mut self, after: Duration) -> OpId {
        self.call.timer(self.leg.info.id, after)
    }

    /// Stops a timer; see [`Effects::cancel_timer`].
    pub(crate) fn cancel_timer(&mut self, timer: Option<OpId>) {
        self.call.cancel_timer(self.leg.info.id, timer);
    }

    pub(crate) fn set_timer(&mut self, timer: LegTimer, after: Duration) {
        self.call.set_timer(self.leg.info.id, timer, after);
    }

    pub(crate) fn cancel(&mut self, timer: LegTimer) {
        self.call.timers.cancel(self.leg.info.id, timer);
    }

    pub(crate) fn request_fetch(&mut self, target: Target, reason: FetchReason) -> FetchId {
        let id = FetchId(self.new_op().0);
        if reason == FetchReason::Start {
            self.leg.first_method = Some(target.method);
        }
        let (leg, scope) = (Arc::clone(&self.leg.info), self.leg.mode.scope());
        let first_method = self.leg.first_method.unwrap_or_default();
        let fetch = Fetch { id, leg, target, reason, scope, first_method };
        self.call.outputs.push_back(Output::Fetch(Box::new(fetch)));
        id
    }

    /// Reports the result of an aborted instruction to its action. The document in the response is ignored. An action that
    /// is the next step of a script is not requested if another program replaces the script.
    pub(crate) fn report_to_action(&mut self, action: Option<Target>, reason: FetchReason, why: Abort) {
        if let Some(action) = action.filter(|action| why == Abort::Hangup || action.is_request()) {
            self.request_fetch(action, reason);
        }
    }

    /// Whether the leg is inbound, lives and is not answered: this server can still send a provisional response.
    fn is_before_answer(&self) -> bool {
        let info = &self.leg.info;
        info.direction == Direction::Inbound && info.answered_at.is_none() && !info.status.is_final()
    }

    pub(crate) fn ring(&mut self, early_media: bool) {
        let first = self.leg.info.status != Status::Ringing;
        if self.is_before_answer() && (first || early_media) {
            self.send_progress(Progress { alerting: !early_media, early_media });
        }
    }

    /// Sends a provisional response to an inbound leg that is not answered yet. Does nothing if the last provisional
    /// response of this leg was the same: the SIP side repeats the last response (RFC 3261 §13.3.1.1).
    pub(crate) fn send_progress(&mut self, progress: Progress) {
        if self.is_before_answer() && self.leg.progress != Some(progress) {
            self.leg.progress = Some(progress);
            Arc::make_mut(&mut self.leg.info).status = Status::Ringing;
            self.command(LegCommand::Ring { progress });
        }
    }

    /// Answers an inbound leg if the leg is not answered yet. Returns whether the leg is answered now.
    pub(crate) fn ensure_answered(&mut self) -> bool {
        if !self.is_before_answer() {
            return self.leg.info.answered_at.is_some();
        }
        let info = Arc::make_mut(&mut self.leg.info);
        info.answered_at = Some(self.call.now.time);
        info.status = Status::InProgress;
        self.cancel(LegTimer::Ring);
        self.command(LegCommand::Answer);
        let stream = self.leg.stream_on_answer.clone();
        self.emit(EventKind::Answered { stream });
        self.start_time_limit();
        if let Some(new) = self.leg.record_on_answer.take() {
            self.begin_recording(*new);
        }
        true
    }

    /// Records that the application has given its first command. The time limit for the first command no longer
    /// applies. The limit for unanswered legs applies from now on.
    pub(crate) fn note_command(&mut self) {
        if std::mem::take(&mut self.leg.awaits_command) && self.leg.info.answered_at.is_none() {
            self.set_timer(LegTimer::Ring, UNANSWERED_LIMIT);
        }
    }

    pub(crate) fn start_time_limit(&mut self) {
        if let Some(limit) = self.leg.time_limit {
            self.set_timer(LegTimer::Limit, limit);
        }
    }

    /// Sets the maximum duration of the leg after its answer.
    pub(crate) fn limit(&mut self, limit: Duration) {
        self.cancel(LegTimer::Limit);
        match self.leg.info.answered_at {
            Some(answered) => {
                let gone = self.now().since(answered);
                self.set_timer(LegTimer::Limit, limit.saturating_sub(gone));
            }
            None => self.leg.time_limit = Some(limit),
        }
    }
}
