//! The enqueue instruction. A leg waits in a queue, hears audio during the wait, and then continues.
//!
//! The wait audio runs as the leg's program, like any document. During the wait, the instructions after the enqueue
//! instruction are stored separately. If a request put the leg into the queue, the leg's own program continues during
//! the wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::{Abort, Call};
use crate::command::Refused;
use crate::event::EventKind;
use crate::fetch::FetchReason;
use crate::leg_cx::LegCx;
use crate::leg_state::Mode;
use crate::output::LegCommand;
use crate::program::instruction::{AudioSource, Enqueue, Instruction, Play, Wait};
use crate::program::play::Playing;
use crate::program::{Input, Running, Step};
use crate::queue::{NotQueued, QueueOutcome, QueueResult};
use crate::resume::Standing;
use crate::timer::LegTimer;
use tandem_id::{LegId, OpId, QueueId};

/// Minimum time between the arrival of a wait document and the next request for the wait document.
const MIN_DOCUMENT_INTERVAL: Duration = Duration::from_secs(1);

/// A leg's wait in a queue. If an agent takes the leg, this struct exists until the bridge with the agent ends.
#[derive(Serialize, Deserialize)]
pub(crate) struct Waiting {
    enqueue: Enqueue,
    /// Whether a request put the leg into the queue. If so, the leg's program continues during the wait.
    by_request: bool,
    /// The instructions that the leg runs after the wait.
    then: VecDeque<Instruction>,
    mode: Mode,
    /// Id of the operation that enters the queue.
    op: OpId,
    /// Id of the queue; `None` until the queue has admitted the leg.
    queue: Option<QueueId>,
    since: Timestamp,
    /// Waiting time; `None` until an agent has taken the leg.
    waited: Option<Duration>,
    stage: Stage,
}

/// Progress of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Stage {
    /// The queue has not admitted the leg yet.
    Entering,
    Waiting,
    /// An agent takes the leg, but the agent and the leg are not bridged yet.
    Called,
    Joined,
}

pub(crate) fn begin(call: &mut Call, leg: LegId, enqueue: Enqueue) -> Step {
    // A wait document can contain an instruction to enter another queue. This instruction ends the old wait.
    call.end_wait(leg, Abort::Replaced);
    let (now, op) = (call.now(), call.effects.new_op());
    let (queue, max_size) = (Arc::clone(&enqueue.queue), enqueue.max_size);
    let Some(state) = call.leg_state_mut(leg) else { return Step::Next };
    state.waiting = Some(Box::new(Waiting {
        enqueue,
        by_request: false,
        then: std::mem::take(&mut state.runner.queue),
        mode: std::mem::replace(&mut state.mode, Mode::Queue),
        op,
        queue: None,
        since: now.time,
        waited: None,
        stage: Stage::Entering,
    }));
    call.push_command(leg, LegCommand::EnterQueue { op, queue, max_size });
    Step::Stay(Running::Queueing)
}

pub(crate) fn handle(call: &mut Call, leg: LegId, input: &Input) -> Step {
    let Input::Enqueued { op, result } = input else { return Step::Stay(Running::Queueing) };
    let now = call.now().time;
    let entering = |waiting: &&mut Waiting| waiting.stage == Stage::Entering && waiting.op == *op;
    let Some(waiting) = call.waiting_mut(leg).filter(entering) else {
        return Step::Stay(Running::Queueing);
    };
    match result {
        Ok(id) => {
            waiting.since = now;
            call.admit(leg, *id);
            call.start_wait_audio(leg)
        }
        Err(NotQueued::Full) => call.finish_wait(leg, QueueResult::Full),
        Err(NotQueued::TooManyQueues | NotQueued::NoOwner) => call.finish_wait(leg, QueueResult::Failed),
    }
}

impl Waiting {
    fn waited(&self, now: Timestamp) -> Duration {
        self.waited.unwrap_or_else(|| Duration::try_from(now.duration_since(self.since)).unwrap_or_default())
    }

    fn outcome(&self, result: QueueResult, now: Timestamp) -> QueueOutcome {
        let name = Arc::clone(&self.enqueue.queue);
        QueueOutcome { name, waited: self.queue.map(|queue| (queue, self.waited(now))), result }
    }
}

impl Waiting {
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let (queue, since) = (Arc::clone(&self.enqueue.queue), self.since);
        match self.stage {
            Stage::Entering => {
                let max_size = self.enqueue.max_size;
                standing.command(LegCommand::EnterQueue { op: self.op, queue, max_size });
            }
            Stage::Waiting => standing.command(LegCommand::ResumeWait { queue, since, called: false }),
            Stage::Called => standing.command(LegCommand::ResumeWait { queue, since, called: true }),
            // The leg has left the queue.
            Stage::Joined => {}
        }
    }
}

impl LegCx<'_> {
    /// Plays the server's own music until another action stops it.
    pub(crate) fn hold_music(&mut self) -> Step {
        self.repeat_audio(AudioSource::Music)
    }

    fn repeat_audio(&mut self, source: AudioSource) -> Step {
        Step::Stay(Running::Playing(Playing::start(self, Play::new(source, None), false)))
    }
}

impl Call {
    fn waiting_mut(&mut self, leg: LegId) -> Option<&mut Waiting> {
        self.leg_state_mut(leg)?.waiting.as_deref_mut()
    }

    fn wait_stage(&self, leg: LegId) -> Option<Stage> {
        Some(self.leg_state(leg)?.waiting.as_ref()?.stage)
    }

    /// Starts the waiting time, because the queue has admitted the leg.
    fn admit(&mut self, leg: LegId, id: QueueId) {
        let Some(waiting) = self.waiting_mut(leg) else { return };
        (waiting.queue, waiting.stage) = (Some(id), Stage::Waiting);
        let (queue, max_duration) = (Arc::clone(&waiting.enqueue.queue), waiting.enqueue.max_duration);
        if let Some(max_duration) = max_duration {
            self.effects.set_timer(leg, LegTimer::Wait, max_duration);
        }
        self.emit(leg, EventKind::Enqueued { queue, id });
    }

    /// Puts the leg into a queue by request, unless the leg already waits in a queue.
    pub(crate) fn enter_queue_by_request(&mut self, leg: LegId, enqueue: Enqueue) -> Result<(), Refused> {
        let (now, op) = (self.now(), self.effects.new_op());
        let (queue, max_size) = (Arc::clone(&enqueue.queue), enqueue.max_size);
        let state = self.leg_state_mut(leg).ok_or(Refused::NoSuchLeg)?;
        if state.waiting.is_some() {
            return Err(Refused::AlreadyRunning);
        }
        state.waiting = Some(Box::new(Waiting {
            enqueue: Enqueue { action: None, ..enqueue },
            by_request: true,
            then: VecDeque::new(),
            mode: state.mode,
            op,
            queue: None,
            since: now.time,
            waited: None,
            stage: Stage::Entering,
        }));
        self.push_command(leg, LegCommand::EnterQueue { op, queue, max_size });
        Ok(())
    }

    /// Whether the leg still wants to enter the queue for which this operation asked.
    pub fn enters_queue(&self, leg: LegId, op: OpId) -> bool {
        let waiting = self.leg_state(leg).and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.stage == Stage::Entering && waiting.op == op)
    }

    /// Returns whether a request put the leg into a queue. If true, the leg's program continues during the wait.
    pub(crate) fn waits_by_request(&self, leg: LegId) -> bool {
        self.leg_state(leg).and_then(|state| state.waiting.as_ref()).is_some_and(|waiting| waiting.by_request)
    }

    /// Handles the answer of the queue for a leg that a request put into the queue. The queue has either admitted or
    /// refused the leg.
    pub(crate) fn entered_by_request(&mut self, leg: LegId, op: OpId, result: Result<QueueId, NotQueued>) {
        let now = self.now().time;
        let entering = |waiting: &&mut Waiting| waiting.stage == Stage::Entering && waiting.op == op;
        let Some(waiting) = self.waiting_mut(leg).filter(entering) else { return };
        waiting.since = now;
        match result {
            Ok(id) => self.admit(leg, id),
            Err(NotQueued::Full) => drop(self.take_wait(leg, QueueResult::Full)),
            Err(NotQueued::TooManyQueues | NotQueued::NoOwner) => drop(self.take_wait(leg, QueueResult::Failed)),
        }
    }

    /// Takes the leg out of its queue by request. Returns `false` if the leg does not wait in a queue.
    pub(crate) fn leave_queue_by_request(&mut self, leg: LegId) -> bool {
        let waits = self.waits_in_queue(leg);
        if waits && self.waits_by_request(leg) {
            self.take_wait(leg, QueueResult::Left);
        } else if waits {
            self.clear_runner(leg, Abort::Stopped);
            let step = self.finish_wait(leg, QueueResult::Left);
            self.step(leg, step);
        }
        waits
    }

    /// Ends a wait that a request started. A request now bridges the leg.
    pub(crate) fn end_wait_for_bridge(&mut self, leg: LegId) {
        if self.waits_in_queue(leg) && self.waits_by_request(leg) {
            self.take_wait(leg, QueueResult::Bridged);
        }
    }

    /// Returns whether the leg waits in a queue and has not been taken by an agent yet.
    pub(crate) fn waits_in_queue(&self, leg: LegId) -> bool {
        self.wait_stage(leg) == Some(Stage::Waiting)
    }

    /// Starts the wait audio from the beginning.
    fn start_wait_audio(&mut self, leg: LegId) -> Step {
        let Some(waiting) = self.waiting_mut(leg) else { return Step::Next };
        match waiting.enqueue.wait.clone() {
            Wait::Music => self.with_leg(leg, |cx| cx.hold_music()).unwrap_or(Step::Next),
            Wait::Silence => Step::Stay(Running::Queueing),
            wait @ (Wait::File(_) | Wait::Stored(_)) => {
                let file = wait.file();
                let playing = file.and_then(|file| self.with_leg(leg, |cx| cx.repeat_audio(file)));
                playing.unwrap_or(Step::Next)
            }
            Wait::Document(target) => Step::Fetch(target, FetchReason::Wait),
        }
    }

    /// Continues a leg in [`Mode::Queue`] that has no instruction left. Starts the next round of the wait, or ends the
    /// wait.
    pub(crate) fn continue_wait(&mut self, leg: LegId) {
        let now = self.now();
        let Some(state) = self.leg_state(leg) else { return };
        let (alone, since) = (state.bridge.is_none(), state.document_since);
        let Some(waiting) = self.waiting_mut(leg) else { return };
        let step = match waiting.stage {
            Stage::Waiting => {
                // A wait document that takes a second does not count as a part of a loop.
                let lasted = since.map_or(Duration::ZERO, |since| now.since(since));
                match MIN_DOCUMENT_INTERVAL.checked_sub(lasted).filter(|left| !left.is_zero()) {
                    Some(left) => Step::Stay(Running::Pausing(self.timer(leg, left))),
                    None => self.start_wait_audio(leg),
                }
            }
            Stage::Joined if alone => self.finish_wait(leg, QueueResult::Bridged),
            Stage::Entering | Stage::Called | Stage::Joined => return,
        };
        self.step(leg, step);
    }

    /// Ends the wait at its maximum waiting time, unless an agent has already taken the leg.
    pub(crate) fn wait_timed_out(&mut self, leg: LegId) {
        let Some(waiting) = self.waiting_mut(leg) else { return };
        let (stage, by_request) = (waiting.stage, waiting.by_request);
        if stage == Stage::Waiting && by_request {
            self.take_wait(leg, QueueResult::TimedOut);
        } else if stage == Stage::Waiting {
            self.clear_runner(leg, Abort::Replaced);
            let step = self.finish_wait(leg, QueueResult::TimedOut);
            self.step(leg, step);
        }
    }

    /// Takes the leg out of its queue, because its wait document has a leave instruction.
    pub(crate) fn leave_queue(&mut self, leg: LegId) -> Step {
        if self.waits_in_queue(leg) { self.finish_wait(leg, QueueResult::Left) } else { Step::Next }
    }

    /// Ends the wait. The leg then requests the action, or runs the instructions that follow.
    fn finish_wait(&mut self, leg: LegId, result: QueueResult) -> Step {
        let Some((outcome, action, then)) = self.take_wait(leg, result) else { return Step::Next };
        if let Some(state) = self.leg_state_mut(leg) {
            state.runner.queue = then;
        }
        action.map_or(Step::Next, |action| Step::Fetch(action, FetchReason::Queued(outcome)))
    }

    /// Ends the wait in the queue, because another program replaces the waiting program or because the leg ends. If the
    /// wait has an action, its document is requested, but the response is ignored.
    pub(crate) fn end_wait(&mut self, leg: LegId, why: Abort) {
        let Some(stage) = self.wait_stage(leg) else { return };
        let result = match (stage, why) {
            (Stage::Called, _) => QueueResult::Bridging,
            (Stage::Joined, Abort::Hangup) => QueueResult::Bridged,
            (Stage::Joined, _) => QueueResult::RedirectedFromBridge,
            (Stage::Entering | Stage::Waiting, Abort::Hangup) => QueueResult::Hangup,
            (Stage::Entering | Stage::Waiting, _) => QueueResult::Redirected,
        };
        if let Some((outcome, action, _)) = self.take_wait(leg, result) {
            self.with_leg(leg, |cx| cx.report_to_action(action, FetchReason::Queued(outcome), why));
        }
    }

    fn take_wait(
        &mut self,
        leg: LegId,
        result: QueueResult,
    ) -> Option<(QueueOutcome, Option<crate::Target>, VecDeque<Instruction>)> {
        let now = self.now().time;
        let state = self.leg_state_mut(leg)?;
        let waiting = *state.waiting.take()?;
        state.mode = waiting.mode;
        self.effects.timers.cancel(leg, LegTimer::Wait);
        let outcome = waiting.outcome(result, now);
        // The event must come before the leg leaves the queue, because the event contains the leg's position.
        self.emit(leg, EventKind::Dequeued(outcome.clone()));
        self.push_command(leg, LegCommand::LeaveQueue);
        Some((outcome, waiting.enqueue.action, waiting.then))
    }

    /// Gives a waiting leg to the leg `by` of the same call. Both legs are checked first: `leg` must still wait, and
    /// `by` must still ask for a leg.
    pub(crate) fn called(&mut self, leg: LegId, queue: QueueId, by: LegId) {
        let now = self.now().time;
        // The leg may wait in another queue now.
        let here = |waiting: &&mut Waiting| waiting.stage == Stage::Waiting && waiting.queue == Some(queue);
        let waiting = self.waiting_mut(leg).filter(here);
        let called = waiting.map(|waiting| {
            waiting.stage = Stage::Called;
            waiting.waited = Some(waiting.waited(now));
        });
        self.handle_input(by, Input::Called(called.map(|()| leg)));
        let taken = self.leg_state(leg).is_some_and(|state| state.progress_listener == Some(by));
        if called.is_some() && !taken {
            self.return_to_queue(leg);
        }
    }

    /// Puts the leg back to its old position in the queue. The agent did not take the leg in the end.
    fn return_to_queue(&mut self, leg: LegId) {
        let Some(waiting) = self.waiting_mut(leg).filter(|waiting| waiting.stage == Stage::Called) else { return };
        (waiting.stage, waiting.waited) = (Stage::Waiting, None);
        let (by_request, mode) = (waiting.by_request, waiting.mode);
        self.push_command(leg, LegCommand::ReturnToQueue);
        if by_request {
            return self.set_mode(leg, mode);
        }
        self.set_mode(leg, Mode::Queue);
        // If no agent accepted the leg, its wait audio still plays.
        if self.leg_state(leg).is_some_and(|state| state.runner.running.is_none()) {
            let step = self.start_wait_audio(leg);
            self.step(leg, step);
        }
    }

    /// Lets the leg `by` take a called leg. Stops the wait audio. From now on, `by` receives the leg's progress.
    pub(crate) fn take_called(&mut self, leg: LegId, by: LegId) {
        self.clear_runner(leg, Abort::Replaced);
        if let Some(state) = self.leg_state_mut(leg) {
            state.progress_listener = Some(by);
        }
    }

    /// Returns the reason for the request of the whisper document. A dialled leg and a leg from a queue have different
    /// reasons.
    pub(crate) fn whisper_reason(&self, leg: LegId, by: LegId) -> FetchReason {
        let waiting = self.leg_state(leg).and_then(|state| state.waiting.as_deref());
        match waiting.and_then(|waiting| Some((waiting.queue?, waiting.waited(self.now().time)))) {
            Some((queue, waited)) => FetchReason::Called { queue, waited, by: self.shown_id(by) },
            None => FetchReason::Whisper,
        }
    }

    /// Takes a called leg out of the queue, because it is about to be bridged.
    pub(crate) fn join_called(&mut self, leg: LegId) {
        if let Some(waiting) = self.waiting_mut(leg).filter(|waiting| waiting.stage == Stage::Called) {
            waiting.stage = Stage::Joined;
            self.set_mode(leg, Mode::Queue);
            self.push_command(leg, LegCommand::LeaveQueue);
        }
    }

    /// Separates `by` from a leg that `by` took out of a queue. If both legs were bridged with each other, the leg from
    /// the queue continues after its wait. Otherwise it waits again. Returns `false` if `leg` has not been taken out of
    /// a queue.
    pub(crate) fn release_called(&mut self, leg: LegId, by: LegId) -> bool {
        let Some(stage @ (Stage::Called | Stage::Joined)) = self.wait_stage(leg) else { return false };
        if let Some(state) = self.leg_state_mut(leg) {
            state.progress_listener = None;
            // The leg has not run the whisper document, and will not run it now.
            state.whisper = None;
        }
        if stage == Stage::Called {
            self.clear_runner(leg, Abort::Replaced);
            self.return_to_queue(leg);
        } else {
            self.unbridge(by);
            self.advance(leg);
        }
        true
    }
}
