//! The end of a leg: its cause, the side that caused it, and the cleanup after it.

use std::sync::Arc;
use std::time::Duration;

use crate::call::{Abort, Call};
use crate::conference::LeaveReason;
use crate::engine::EngineFailure;
use crate::event::EventKind;
use crate::leg::{BY_AGENT, DOCUMENT_ENDED, Direction, EndCause, EndFailure, EndedBy, LegEnd, SHUT_DOWN, Status};
use crate::output::{EndReason, HangupReason, LegCommand};
use crate::program::ChildEvent;
use crate::program::instruction::RejectReason;
use crate::timer::LegTimer;
use tandem_id::LegId;
use tandem_id::Now;

/// Status code of the final response to an unanswered inbound leg: 480 Temporarily Unavailable (RFC 3261 §21.4.18).
/// This code is used if the end of the leg has no status code of its own.
const UNAVAILABLE: u16 = 480;
/// Maximum time for which the call keeps an ended leg. In this time the recordings of the leg are closed, and its
/// transcriptions are reported.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Text about the end of a leg whose agent has apologised for the failure of an engine.
pub(crate) fn apologised(failure: &EngineFailure) -> String {
    format!("apologised and hung up: {failure}")
}

impl Call {
    /// Hangs up a leg in any state.
    pub(crate) fn hangup(&mut self, leg: LegId, cause: EndCause, by: EndedBy) {
        self.hangup_with(leg, cause, by, None);
    }

    /// Hangs up a leg on behalf of the server. The reason in words is stored in the leg's record.
    pub(crate) fn hangup_because(&mut self, leg: LegId, cause: EndCause, why: String) {
        self.hangup_with(leg, cause, EndedBy::Server, Some(why));
    }

    /// Hangs up every leg because the server shuts down.
    pub fn handle_shutdown(&mut self, now: Now) {
        self.set_now(now);
        let legs: Vec<LegId> = self.legs().map(|leg| leg.id).collect();
        for leg in legs {
            self.hangup_because(leg, self.clearing(leg), SHUT_DOWN.to_owned());
        }
    }

    fn hangup_with(&mut self, leg: LegId, cause: EndCause, by: EndedBy, detail: Option<String>) {
        let Some(state) = self.leg_state(leg) else { return };
        if state.info.status.is_final() {
            return;
        }
        // An inbound leg without an answer gets a final response.
        let refused = state.info.answered_at.is_none() && state.info.direction == Direction::Inbound;
        let status = refused.then_some(UNAVAILABLE);
        // When one leg of a race or dial is answered, the server cancels the other legs.
        let answered_elsewhere = cause == EndCause::OriginatorCancel && by == EndedBy::Server;
        // After the apology for a failed document or engine, the far end receives "failed" as the reason. The recorded
        // cause stays the normal one.
        let apologised = matches!(state.failure.as_deref(), Some(EndFailure::Document(_) | EndFailure::Engine(_)));
        let reason = if apologised { EndCause::Failed } else { cause };
        let command = LegCommand::Hangup(HangupReason { cause: reason, answered_elsewhere });
        self.push_command(leg, status.map_or(command, |status| LegCommand::Reject(RejectReason::Status(status))));
        self.end_leg(leg, LegEnd { at: self.now().time, cause, by, sip_status: status, detail, failure: None });
    }

    /// Hangs up a leg for a program or a request. An unanswered outbound leg is cancelled; any other leg is cleared.
    pub(crate) fn clear(&mut self, leg: LegId, by: EndedBy) {
        self.hangup(leg, self.clearing(leg), by);
    }

    /// Hangs up a leg for the application. `how` is [`BY_REQUEST`] or a similar text. It says in which way the
    /// application ended the leg.
    pub(crate) fn clear_for_application(&mut self, leg: LegId, how: &str) {
        let answered = self.leg_state(leg).is_some_and(|state| state.info.answered_at.is_some());
        // For a leg that was never answered, the cause and the status say more than this text.
        self.hangup_with(leg, self.clearing(leg), EndedBy::Application, answered.then(|| how.to_owned()));
    }

    /// Hangs up a leg for its voice agent.
    pub(crate) fn agent_hung_up(&mut self, leg: LegId) {
        match self.engine_failure(leg) {
            Some(apologised) => self.hangup_because(leg, self.clearing(leg), apologised),
            None => self.clear_for_application(leg, BY_AGENT),
        }
    }

    /// Returns the text about the end of a leg whose agent ends the call because of the failure of an engine.
    fn engine_failure(&self, leg: LegId) -> Option<String> {
        match self.leg_state(leg)?.failure.as_deref()? {
            EndFailure::Engine(failure) => Some(apologised(failure)),
            _ => None,
        }
    }

    /// Hangs up a leg whose document has no further instruction.
    pub(crate) fn document_ended(&mut self, leg: LegId) {
        if let Some(apologised) = self.engine_failure(leg) {
            return self.hangup_because(leg, self.clearing(leg), apologised);
        }
        let failed = match self.leg_state(leg).and_then(|state| state.failure.as_deref()) {
            Some(EndFailure::Stream(_)) => " (its stream had failed)",
            Some(EndFailure::Conversation(_)) => " (its conversation had failed)",
            Some(EndFailure::Document(_) | EndFailure::Engine(_)) | None => "",
        };
        self.clear_for_application(leg, &format!("{DOCUMENT_ENDED}{failed}"));
    }

    /// Returns the cause of the end for a leg that this server ends.
    fn clearing(&self, leg: LegId) -> EndCause {
        let unanswered = self
            .leg_state(leg)
            .is_some_and(|state| state.info.answered_at.is_none() && state.info.direction != Direction::Inbound);
        if unanswered { EndCause::OriginatorCancel } else { EndCause::NormalClearing }
    }

    pub(crate) fn reject(&mut self, leg: LegId, reason: RejectReason, by: EndedBy) {
        self.reject_because(leg, reason, by, None);
    }

    /// Refuses a leg. `detail` is the reason in words, if it says more than the status.
    pub(crate) fn reject_because(&mut self, leg: LegId, reason: RejectReason, by: EndedBy, detail: Option<String>) {
        let answered = self.leg_state(leg).is_some_and(|state| state.info.answered_at.is_some());
        if answered {
            return self.hangup(leg, EndCause::NormalClearing, by);
        }
        let (cause, status) = match reason {
            RejectReason::Busy => (EndCause::Busy, 486),
            RejectReason::Rejected => (EndCause::Rejected, 603),
            RejectReason::Status(status) => (cause_of_status(status), status),
        };
        self.push_command(leg, LegCommand::Reject(reason));
        self.end_leg(leg, LegEnd { at: self.now().time, cause, by, sip_status: Some(status), detail, failure: None });
    }

    /// Marks a leg as ended. Aborts the leg's program, stops its streams, transcriptions and recordings, and emits the
    /// `Ended` event.
    pub(crate) fn end_leg(&mut self, leg: LegId, mut end: LegEnd) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        if state.info.status.is_final() {
            return;
        }
        let answered = state.info.answered_at.is_some();
        let info = Arc::make_mut(&mut state.info);
        if end.cause == EndCause::Timeout && info.status == Status::Initiated {
            end.detail = Some(format!("{}, and the far end never rang", end.cause));
        }
        // If the application refuses an inbound call, the status is no-answer and not failed.
        let declined = info.direction == Direction::Inbound && end.by == EndedBy::Application;
        info.status = match final_status(end.cause, answered) {
            Status::Failed if declined && end.cause == EndCause::Rejected => Status::NoAnswer,
            status => status,
        };
        end.failure = state.failure.take();
        info.end = Some(end);
        info.sip.dialog = None;
        self.effects.timers.cancel_all(leg);
        let awaited = self.end_in_transfer(leg);
        self.with_leg(leg, |cx| {
            if let Some(side) = cx.leg.side_gather.take() {
                side.abort(cx, Abort::Hangup);
            }
            cx.stop_overlay(Abort::Hangup);
        });
        self.abort_program(leg, Abort::Hangup);
        self.stop_streams(leg, None);
        self.with_leg(leg, |cx| {
            cx.stop_siprecs(None);
            cx.stop_transcriptions(None);
        });
        self.leave_conference(leg, LeaveReason::Ended);
        let parted = self.unbridge(leg);
        self.end_supervisions(leg);
        self.emit(leg, EventKind::Ended);
        self.with_leg(leg, |cx| cx.stop_recordings());
        if let Some((other, after)) = parted.filter(|_| !awaited) {
            self.continue_after_bridge(leg, other, after);
        }
        self.notify_parent(leg, ChildEvent::Ended);
        if !awaited {
            self.end_idle_remotes_of(leg);
        }
        self.effects.set_timer(leg, LegTimer::Release, RELEASE_TIMEOUT);
        self.release_if_idle(leg);
    }

    /// Releases an ended leg if all its recordings and transcriptions are closed.
    pub(crate) fn release_if_idle(&mut self, leg: LegId) {
        let Some(state) = self.leg_state(leg) else { return };
        let open =
            !state.recordings.is_empty() || !state.transcriptions.is_empty() || state.waiting_transcript.is_some();
        if state.info.status.is_final() && !open && state.runner.running.is_none() {
            self.release(leg);
        }
    }

    pub(crate) fn release(&mut self, leg: LegId) {
        if self.leg_state(leg).is_none() {
            return;
        }
        self.with_leg(leg, |cx| cx.begin_waiting_transcript(None));
        self.effects.timers.cancel_all(leg);
        self.push_command(leg, LegCommand::Release);
        self.leg_states.retain(|state| state.info.id != leg);
    }
}

pub(crate) fn cause_of(reason: EndReason, sip_status: Option<u16>, answered: bool) -> EndCause {
    match reason {
        EndReason::HungUp => EndCause::NormalClearing,
        EndReason::Cancelled => EndCause::OriginatorCancel,
        EndReason::Rejected => sip_status.map_or(EndCause::Rejected, cause_of_status),
        EndReason::Refused(cause) => cause,
        EndReason::Timeout if answered => EndCause::Unspecified,
        // A timeout of the transaction means that not even a provisional response came, so the far end was not reached.
        // If the far end rings and nobody answers, the leg ends with another cause.
        EndReason::Timeout | EndReason::Unreachable | EndReason::Failed | EndReason::Loop => EndCause::Failed,
    }
}

fn cause_of_status(status: u16) -> EndCause {
    match status {
        486 | 600 => EndCause::Busy,
        408 | 480 => EndCause::NoAnswer,
        404 | 410 | 484 | 604 => EndCause::NotFound,
        487 => EndCause::OriginatorCancel,
        401 | 403 | 407 | 603 | 607 | 608 => EndCause::Rejected,
        500..=599 => EndCause::Failed,
        _ => EndCause::Unspecified,
    }
}

fn final_status(cause: EndCause, answered: bool) -> Status {
    match cause {
        _ if answered => Status::Completed,
        EndCause::Busy => Status::Busy,
        EndCause::Timeout | EndCause::NoAnswer => Status::NoAnswer,
        EndCause::OriginatorCancel | EndCause::NormalClearing => Status::Canceled,
        _ => Status::Failed,
    }
}
