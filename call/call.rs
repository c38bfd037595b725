//! The call: its legs, the program of each leg, and the bridges between legs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::Target;
use crate::address::Address;
use crate::command::Refused;
use crate::conference::{LeaveReason, Participation};
use crate::ending::cause_of;
use crate::engine::EngineEffect;
use crate::event::EventKind;
use crate::fetch::{FetchFailure, FetchReason};
use crate::header_fields::HeaderFields;
use crate::leg::{Direction, EndCause, EndFailure, EndedBy, LegEnd, LegInfo, Status};
use crate::leg_cx::{Effects, LegCx};
use crate::leg_state::{BridgeOnAnswer, LegState, MAX_LEGS, Mode};
use crate::new_leg::{NewLeg, OnAnswer};
use crate::output::{EndReason, LegCommand, LegEvent, Output, Progress};
use crate::program::document::RunningDocument;
use crate::program::instruction::{AfterBridge, Converse, Instruction, Program, RejectReason};
use crate::program::send_digits::SendingDigits;
use crate::program::{ChildEvent, Input, Running};
use crate::route::{Decision, Route};
use crate::stream::ConnectTiming;
use crate::supervision::Supervision;
use crate::timer::{LegTimer, Timers};
use tandem_id::{CallId, Entropy, FetchId, LegId, Now, OpId};

/// Maximum duration of an inbound leg after its answer, unless a request sets another limit. This limit ends the leg if
/// the caller has vanished without a BYE.
const INBOUND_TIME_LIMIT: Duration = Duration::from_secs(4 * 3_600);
/// Maximum time for which an inbound leg may stay unanswered. Before the answer, this server only repeats its
/// provisional response (RFC 3261 §13.3.1.1), and the caller need not send anything. So this server cannot know whether
/// the caller has vanished or waits. The limit is long enough for two consecutive dials of 600 s.
pub(crate) const UNANSWERED_LIMIT: Duration = Duration::from_secs(30 * 60);

/// One call with its legs. `Call` is a pure state machine. The `handle_*` methods take inputs, and the `poll_*` methods
/// return the next actions. After each use of a `handle_*` method, poll outputs until no output is left.
pub struct Call {
    pub(crate) id: CallId,
    pub(crate) leg_states: Vec<LegState>,
    pub(crate) effects: Effects,
}

impl Call {
    /// Creates a call without legs.
    pub fn new(id: CallId, seed: [u8; 32], now: Now) -> Self {
        Self {
            id,
            // Most calls have two legs.
            leg_states: Vec::with_capacity(2),
            effects: Effects {
                now,
                entropy: Entropy::new(seed),
                next_op: 0,
                timers: Timers::default(),
                outputs: VecDeque::new(),
            },
        }
    }

    /// Returns the id of the call.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Returns the facts about all legs, including ended legs that are not released yet.
    pub fn legs(&self) -> impl Iterator<Item = &Arc<LegInfo>> {
        self.leg_states.iter().map(|state| &state.info)
    }

    /// Returns the facts about one leg, or `None` if the call has no such leg.
    pub fn leg(&self, leg: LegId) -> Option<&Arc<LegInfo>> {
        self.leg_state(leg).map(|state| &state.info)
    }

    /// Returns whether every leg has ended and was released, and no output is left to poll.
    pub fn is_finished(&self) -> bool {
        self.leg_states.is_empty() && self.effects.outputs.is_empty()
    }

    // ----- inputs -------------------------------------------------------------------------------------------------

    /// Handles an inbound call. `info` has the owner of `route`. `route` also says whether a document, a program or
    /// commands control the call, or whether the call is refused.
    pub fn handle_incoming(&mut self, now: Now, info: LegInfo, route: Route) {
        self.effects.now = now;
        let leg = info.id;
        self.leg_states.push(LegState::new(info));
        let documents = matches!(route.decision, Decision::Document { .. } | Decision::Program(_));
        if let Some(state) = self.leg_state_mut(leg) {
            state.mode = if documents { Mode::Document } else { Mode::Commands };
            state.time_limit = Some(INBOUND_TIME_LIMIT);
            let info = Arc::make_mut(&mut state.info);
            info.status_callback = route.status;
            info.status = Status::Initiated;
            if let Decision::Document { fallback, .. } = &route.decision {
                info.fallback = fallback.clone();
            }
        }
        let record = route.record.map(|spec| Box::new(self.effects.new_recording(spec)));
        let first_command = match route.decision {
            Decision::CommandsWithTimeout(time) => Some(time),
            _ => None,
        };
        self.effects.set_timer(leg, LegTimer::Ring, first_command.unwrap_or(UNANSWERED_LIMIT));
        if let Some(state) = self.leg_state_mut(leg) {
            state.awaits_command = first_command.is_some();
            state.record_on_answer = record;
        }
        match route.decision {
            Decision::Reject(reason) => {
                self.emit(leg, EventKind::Initiated);
                self.reject(leg, reason, EndedBy::Server);
            }
            Decision::Refuse(status, why) => {
                self.emit(leg, EventKind::Initiated);
                let why = format!("refused with {status}: {why}");
                self.reject_because(leg, RejectReason::Status(status), EndedBy::Server, Some(why));
            }
            Decision::Document { target, .. } => {
                self.with_leg(leg, |cx| cx.ring(false));
                self.emit(leg, EventKind::Initiated);
                self.fetch(leg, target, FetchReason::Start);
            }
            Decision::Program(program) => {
                self.emit(leg, EventKind::Initiated);
                self.run(leg, program);
            }
            Decision::Commands | Decision::CommandsWithTimeout(_) => {
                self.with_leg(leg, |cx| cx.ring(false));
                self.emit(leg, EventKind::Initiated);
            }
        }
    }

    /// Creates an outbound leg for a request of an application.
    pub fn handle_new_leg(&mut self, now: Now, leg: NewLeg) -> Result<(), Refused> {
        self.effects.now = now;
        if !self.has_room() {
            return Err(Refused::TooMany);
        }
        self.start_leg(leg);
        Ok(())
    }

    /// Handles an event of a leg. If the leg has ended, only the end of a recording or a transcription is handled;
    /// other events are ignored.
    pub fn handle_leg(&mut self, now: Now, leg: LegId, event: LegEvent) {
        self.effects.now = now;
        // This leg may have ended meanwhile. Even then, the leg that takes this leg out of the queue must be notified.
        if let LegEvent::Called { queue, by } = event {
            return self.called(leg, queue, by);
        }
        let Some(state) = self.leg_state_mut(leg) else { return };
        let ended = state.info.status.is_final();
        match event {
            LegEvent::RecordingFinished { op, end, duration, recorded } => {
                self.recording_finished(leg, op, end, duration, recorded);
            }
            LegEvent::Transcription { id, status } => self.transcription_changed(leg, id, status),
            _ if ended => {}
            LegEvent::Ringing { progress } => self.far_end_rings(leg, progress),
            LegEvent::PacketArrived => self.packet_arrived(leg),
            LegEvent::Answered { codec, headers, dialog } => self.far_end_answered(leg, codec, headers, dialog),
            LegEvent::Ended { reason, sip_status, detail } => {
                let (answered, parent) = (state.info.answered_at.is_some(), state.info.parent);
                if let (EndReason::Loop, Some(parent)) = (reason, parent) {
                    self.with_leg(parent, |cx| cx.found_loop(detail.clone().unwrap_or_default()));
                }
                let cause = cause_of(reason, sip_status, answered);
                let by = match reason {
                    EndReason::Failed | EndReason::Unreachable | EndReason::Loop => EndedBy::Server,
                    EndReason::Timeout if !answered => EndedBy::Server,
                    _ => EndedBy::FarEnd,
                };
                self.end_leg(leg, LegEnd { at: now.time, cause, by, sip_status, detail, failure: None });
            }
            LegEvent::Referred(referred) => self.referred(leg, *referred),
            LegEvent::ReferAnswered { status } => self.handle_input(leg, Input::ReferAnswered { status }),
            LegEvent::ReferProgress { status, done } => self.handle_input(leg, Input::ReferProgress { status, done }),
            LegEvent::Dtmf(digit) => {
                self.emit(leg, EventKind::DtmfReceived { digit });
                self.handle_input(leg, Input::Dtmf(digit));
            }
            LegEvent::PlayFinished { op, .. }
                if state.sending_digits.as_ref().is_some_and(|sending| sending.op == op) =>
            {
                self.proceed(leg);
                self.notify_parent(leg, ChildEvent::Ready);
            }
            LegEvent::MachineDetected { op, result, after } => self.machine_detected(leg, op, result, after),
            LegEvent::PlayFinished { op, end } => self.handle_input(leg, Input::Played { op, end }),
            LegEvent::Stream { id, status } => self.stream_changed(leg, id, status),
            LegEvent::Siprec { id, status } => {
                self.with_leg(leg, |cx| cx.siprec_changed(id, status));
            }
            LegEvent::Recognition { op, event } => self.handle_input(leg, Input::Recognition { op, event }),
            LegEvent::RecognitionEnded { op, failed } => self.handle_input(leg, Input::RecognitionEnded { op, failed }),
            LegEvent::Conversation { id, status } => self.handle_input(leg, Input::Conversation { id, status }),
            LegEvent::ConferenceOver { clears } => self.conference_over(leg, LeaveReason::Over, clears),
            LegEvent::ConferenceRefused => self.conference_refused(leg),
            LegEvent::EngineFailed(failure) => {
                if failure.effect == EngineEffect::Fatal {
                    state.failure = Some(Box::new(EndFailure::Engine(failure.clone())));
                }
                self.emit(leg, EventKind::EngineFailed(failure));
            }
            LegEvent::AgentHungUp => self.agent_hung_up(leg),
            LegEvent::Warned(warning) => self.emit(leg, EventKind::Warned(warning)),
            LegEvent::Enqueued { op, result } if self.waits_by_request(leg) => self.entered_by_request(leg, op, result),
            LegEvent::Enqueued { op, result } => self.handle_input(leg, Input::Enqueued { op, result }),
            LegEvent::DequeueFailed => self.handle_input(leg, Input::DequeueFailed),
            LegEvent::Called { .. } => {}
        }
    }

    /// Handles the response to a [`Fetch`](crate::fetch::Fetch). Ignores the response if the leg no longer waits for it.
    pub fn handle_fetched(&mut self, now: Now, leg: LegId, id: FetchId, result: Result<Program, FetchFailure>) {
        self.effects.now = now;
        self.with_leg(leg, |cx| cx.begin_waiting_transcript(Some(id)));
        self.handle_input(leg, Input::Fetched { id, result: Box::new(result) });
        self.release_if_idle(leg);
    }

    /// Whether the leg waits for the result of this document request. A leg that has ended, or that another document
    /// controls now, does not wait.
    pub fn awaits_document(&self, leg: LegId, id: FetchId) -> bool {
        let running = self.leg_state(leg).and_then(|state| state.runner.running.as_ref());
        running.and_then(Running::awaited_document) == Some(id)
    }

    /// Returns the name of the instruction that the leg runs. `None` if the leg runs no instruction, for example because
    /// commands control it.
    pub fn running_verb(&self, leg: LegId) -> Option<&'static str> {
        self.leg_state(leg).and_then(|state| state.runner.running.as_ref()).map(Running::verb)
    }

    /// Returns the URL of the document that the leg runs, if its program comes from a fetched document.
    pub fn running_document(&self, leg: LegId) -> Option<&str> {
        self.leg_state(leg).and_then(|state| state.document.as_deref()).map(RunningDocument::url)
    }

    /// Whether a request has muted the far end of the leg.
    pub fn is_muted(&self, leg: LegId) -> bool {
        self.leg_state(leg).is_some_and(|state| state.muted)
    }

    /// Returns how the leg participates in its conference. `None` if the leg is in no conference.
    pub fn participation(&self, leg: LegId) -> Option<&Participation> {
        self.leg_state(leg)?.conference.as_deref()
    }

    /// Returns the supervision by this leg. `None` if the leg supervises no other leg.
    pub fn supervision(&self, leg: LegId) -> Option<Supervision> {
        self.leg_state(leg)?.supervision.as_deref().copied()
    }

    /// Fires the timers that are due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        self.effects.now = now;
        while let Some((leg, timer)) = self.effects.timers.pop_due(now.instant) {
            self.timer_fired(leg, timer);
        }
    }

    /// Returns the number of legs that can be added to the call. A call has at most 64 legs.
    pub fn room(&self) -> usize {
        MAX_LEGS.saturating_sub(self.leg_states.len())
    }

    /// Moves the legs of another call into this call, so that they can be bridged with legs of this call. Check
    /// [`Call::room`] first.
    pub fn merge(&mut self, now: Now, mut other: Self) {
        self.effects.now = now;
        self.leg_states.append(&mut other.leg_states);
        self.effects.timers.append(&mut other.effects.timers);
        self.effects.outputs.append(&mut other.effects.outputs);
        self.effects.next_op = self.effects.next_op.max(other.effects.next_op);
    }

    // ----- outputs ------------------------------------------------------------------------------------------------

    /// Returns the next output, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.effects.outputs.pop_front()
    }

    /// Returns the time at which [`Call::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.effects.timers.next()
    }

    // ----- building blocks of verbs and commands -----------------------------------------------------------------

    pub(crate) fn now(&self) -> Now {
        self.effects.now
    }

    pub(crate) fn set_now(&mut self, now: Now) {
        self.effects.now = now;
    }

    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    pub(crate) fn leg_state(&self, leg: LegId) -> Option<&LegState> {
        self.leg_states.iter().find(|state| state.info.id == leg)
    }

    pub(crate) fn leg_state_mut(&mut self, leg: LegId) -> Option<&mut LegState> {
        self.leg_states.iter_mut().find(|state| state.info.id == leg)
    }

    /// Returns the context of an action that concerns only this leg.
    pub(crate) fn cx(&mut self, leg: LegId) -> Option<LegCx<'_>> {
        let state = self.leg_states.iter_mut().find(|state| state.info.id == leg)?;
        Some(LegCx { leg: state, call: &mut self.effects })
    }

    /// Runs an action that concerns only this leg. Returns `None` if the call has no such leg.
    pub(crate) fn with_leg<T>(&mut self, leg: LegId, action: impl FnOnce(&mut LegCx<'_>) -> T) -> Option<T> {
        self.cx(leg).map(|mut cx| action(&mut cx))
    }

    pub(crate) fn push_command(&mut self, leg: LegId, command: LegCommand) {
        self.effects.command(leg, command);
    }

    pub(crate) fn emit(&mut self, leg: LegId, kind: EventKind) {
        self.with_leg(leg, |cx| cx.emit(kind));
    }

    /// Sets a timer; see [`Effects::timer`].
    pub(crate) fn timer(&mut self, leg: LegId, after: Duration) -> OpId {
        self.effects.timer(leg, after)
    }

    /// Stops a timer; see [`Effects::cancel_timer`].
    pub(crate) fn cancel_timer(&mut self, leg: LegId, timer: Option<OpId>) {
        self.effects.cancel_timer(leg, timer);
    }

    /// Answers an inbound leg if the leg is not answered yet. Returns whether the leg is answered now.
    pub(crate) fn ensure_answered(&mut self, leg: LegId) -> bool {
        self.with_leg(leg, |cx| cx.ensure_answered()).unwrap_or_default()
    }

    pub(crate) fn start_leg(&mut self, new: NewLeg) {
        let leg = new.info.id;
        let plan = new.plan;
        let mut state = LegState::new(new.info);
        state.on_answer = Some(Box::new(plan.then));
        state.time_limit = plan.time_limit;
        state.send_digits = plan.send_digits.map(Box::new);
        state.detect_on_answer = plan.detect;
        state.record_on_answer = new.record.map(Box::new);
        state.stream_on_answer = plan.stream.map(Box::new);
        let after = (AfterBridge::Hangup, AfterBridge::Hangup);
        state.bridge_on_answer = plan.bridge_to.map(|with| BridgeOnAnswer { with, after, if_free: plan.if_free });
        state.unanswered = plan.unanswered;
        state.race = new.race;
        let info = Arc::make_mut(&mut state.info);
        info.status = Status::Initiated;
        // An internal call (to an application of this server) uses no SIP.
        let call_id = || Arc::from(tandem_id::digits(self.effects.entropy.next_rng().random(), &mut [0; 32]));
        info.sip.call_id = (!matches!(new.invite.to, Address::Application(_))).then(call_id);
        let early =
            state.stream_on_answer.as_deref().filter(|spec| spec.connect_timing != ConnectTiming::AtAnswer).cloned();
        self.leg_states.push(state);
        if let Some(spec) = early {
            // The stream starts before the INVITE, because the INVITE may have to wait for it.
            self.with_leg(leg, |cx| cx.start_stream(spec));
        }
        self.push_command(leg, LegCommand::Invite(Box::new(new.invite)));
        self.effects.set_timer(leg, LegTimer::Ring, plan.timeout);
        self.emit(leg, EventKind::Initiated);
    }

    /// Runs a program on a leg, in place of the current program.
    pub(crate) fn run(&mut self, leg: LegId, program: Program) {
        self.clear_runner(leg, Abort::Replaced);
        for warning in program.warnings {
            self.emit(leg, EventKind::Warned(warning));
        }
        if let Some(state) = self.leg_state_mut(leg) {
            if state.info.status.is_final() {
                return;
            }
            state.runner.queue = program.instructions.into();
        }
        self.advance(leg);
    }

    pub(crate) fn fetch(&mut self, leg: LegId, target: Target, reason: FetchReason) {
        self.clear_runner(leg, Abort::Replaced);
        if self.leg_state(leg).is_none_or(|state| state.info.status.is_final()) {
            return;
        }
        self.with_leg(leg, |cx| cx.leg.runner.running = Some(Running::fetch(cx, target, reason)));
    }

    /// Delivers an input to every instruction and gather that runs on the leg.
    pub(crate) fn handle_input(&mut self, leg: LegId, input: Input) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        if let Some(transfer) = state.transfer.take() {
            let step = transfer.handle(self, leg, &input);
            self.step_transfer(leg, step);
        }
        self.with_leg(leg, |cx| cx.handle_overlay_input(&input));
        let Some(state) = self.leg_state_mut(leg) else { return };
        if let Some(side) = state.side_gather.take() {
            self.with_leg(leg, |cx| cx.leg.side_gather = side.handle(cx, &input));
        }
        let Some(running) = self.leg_state_mut(leg).and_then(|state| state.runner.running.take()) else { return };
        let step = running.handle(self, leg, input);
        self.step(leg, step);
    }

    /// Aborts everything that the leg runs, because another program or command replaces it. A wait in a queue is
    /// aborted too.
    pub(crate) fn abort_program(&mut self, leg: LegId, why: Abort) {
        self.clear_runner(leg, why);
        self.end_wait(leg, why);
    }

    /// Aborts the running instruction and drops the instructions after it.
    pub(crate) fn clear_runner(&mut self, leg: LegId, why: Abort) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        state.sending_digits = None;
        if let Some(detecting) = &mut state.detecting {
            detecting.holds = false;
        }
        state.runner.queue.clear();
        if let Some(transfer) = state.transfer.take() {
            transfer.abort(self, leg, why);
        }
        let Some(state) = self.leg_state_mut(leg) else { return };
        if let Some(running) = state.runner.running.take() {
            running.abort(self, leg, why);
        }
    }

    /// Sets the trunk over which an outbound leg is called.
    pub fn set_trunk(&mut self, leg: LegId, trunk: Arc<str>) {
        if let Some(state) = self.leg_state_mut(leg) {
            Arc::make_mut(&mut state.info).sip.trunk = Some(trunk);
        }
    }

    /// Changes the dialect of a leg, because its application has answered in another dialect.
    pub fn set_dialect(&mut self, leg: LegId, dialect: Arc<str>) {
        if let Some(state) = self.leg_state_mut(leg) {
            Arc::make_mut(&mut state.info).dialect = dialect;
        }
    }

    /// Marks an outbound leg as an internal call, which has no SIP Call-ID.
    pub fn set_internal_call(&mut self, leg: LegId) {
        if let Some(state) = self.leg_state_mut(leg) {
            Arc::make_mut(&mut state.info).sip.call_id = None;
        }
    }

    /// Sets the values that the called application returned to this leg.
    pub fn set_returned(&mut self, leg: LegId, returned: Vec<(String, String)>) {
        if let Some(handover) =
            self.leg_state_mut(leg).and_then(|state| Arc::make_mut(&mut state.info).handover.as_mut())
        {
            handover.returned = returned;
        }
    }

    /// Sets the negotiated codec of a leg. The shell calls this function again when the codec changes.
    pub fn set_codec(&mut self, leg: LegId, codec: &str) {
        if let Some(state) = self.leg_state_mut(leg)
            && state.info.sip.codec.as_deref() != Some(codec)
        {
            Arc::make_mut(&mut state.info).sip.codec = Some(codec.to_owned());
        }
    }

    pub(crate) fn notify_parent(&mut self, child: LegId, event: ChildEvent) {
        if let Some(parent) = self.leg_state(child).and_then(|state| state.progress_listener.or(state.info.parent)) {
            self.handle_input(parent, Input::Child { leg: child, event });
        }
    }

    fn timer_fired(&mut self, leg: LegId, timer: LegTimer) {
        let Some(unanswered) = self.leg_state(leg).map(|state| state.unanswered) else { return };
        match timer {
            LegTimer::Ring => self.hangup(leg, unanswered, EndedBy::Server),
            LegTimer::Limit => self.hangup(leg, EndCause::TimeLimit, EndedBy::Server),
            LegTimer::Release => {
                self.abandon_recordings(leg);
                self.abandon_transcriptions(leg);
                self.release(leg);
            }
            LegTimer::Wait => self.wait_timed_out(leg),
            LegTimer::Siprec(op) => {
                self.with_leg(leg, |cx| cx.siprec_timed_out(op));
            }
            LegTimer::Instruction(op) => self.handle_input(leg, Input::Timer(op)),
        }
    }

    fn far_end_rings(&mut self, leg: LegId, progress: Progress) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        if state.info.answered_at.is_some() || state.info.direction == Direction::Inbound {
            return;
        }
        let first = state.info.status != Status::Ringing;
        Arc::make_mut(&mut state.info).status = Status::Ringing;
        state.has_early_media |= progress.early_media;
        if first {
            self.emit(leg, EventKind::Ringing { early_media: progress.early_media });
            self.target_rings(leg);
        }
        self.notify_parent(leg, ChildEvent::Ringing(progress));
    }

    fn packet_arrived(&mut self, leg: LegId) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        state.has_packets = true;
        if state.info.answered_at.is_none() {
            self.notify_parent(leg, ChildEvent::PacketArrived);
        }
    }

    fn far_end_answered(&mut self, leg: LegId, codec: Option<String>, headers: HeaderFields, dialog: Option<Arc<str>>) {
        let time = self.effects.now.time;
        let Some(state) = self.leg_state_mut(leg) else { return };
        if state.info.answered_at.is_some() || state.info.direction == Direction::Inbound {
            return;
        }
        let info = Arc::make_mut(&mut state.info);
        info.answered_at = Some(time);
        info.status = Status::InProgress;
        info.sip.codec = codec;
        info.sip.headers = headers;
        info.sip.dialog = dialog;
        let (record, stream) = (state.record_on_answer.take(), state.stream_on_answer.take());
        let (digits, race) = (state.send_digits.take(), state.race.take());
        let detect = state.detect_on_answer.take();
        self.effects.timers.cancel(leg, LegTimer::Ring);
        self.emit(leg, EventKind::Answered { stream: stream.clone() });
        self.with_leg(leg, |cx| cx.start_time_limit());
        if race.is_some() {
            let others = self.leg_states.iter().filter(|state| state.race == race).map(|state| state.info.id);
            for other in others.collect::<Vec<_>>() {
                self.hangup(other, EndCause::OriginatorCancel, EndedBy::Server);
            }
        }
        if let Some(new) = record {
            self.with_leg(leg, |cx| cx.begin_recording(*new));
        }
        match stream {
            Some(spec) if spec.connect_timing == ConnectTiming::AtAnswer => {
                self.with_leg(leg, |cx| cx.start_stream(*spec));
            }
            Some(_) => self.push_command(leg, LegCommand::BeginStreams),
            None => {}
        }
        if let Some(spec) = detect {
            self.with_leg(leg, |cx| cx.detect_machine(spec));
        }
        match digits {
            // The digits open a door or select an extension behind a switchboard. So they must be sent before anything
            // else.
            Some(digits) => {
                self.with_leg(leg, |cx| {
                    cx.leg.sending_digits = Some(Box::new(SendingDigits::begin(cx, *digits)));
                });
            }
            None => self.proceed(leg),
        }
        self.target_answered(leg);
        self.notify_parent(leg, ChildEvent::Answered);
    }

    /// Starts the action that follows the answer of an outbound leg. This function is called when the digits after the
    /// answer have been sent. Does nothing while answering-machine detection holds the leg's program.
    pub(crate) fn proceed(&mut self, leg: LegId) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        state.sending_digits = None;
        if state.detecting.as_ref().is_some_and(|detecting| detecting.holds) {
            return;
        }
        match state.on_answer.take().map(|then| *then) {
            Some(OnAnswer::Document(target)) => {
                self.set_mode(leg, Mode::Document);
                self.fetch(leg, target, FetchReason::Start);
            }
            Some(OnAnswer::Program(program)) => {
                self.set_mode(leg, Mode::Document);
                self.run(leg, program);
            }
            // The bridge starts after the audio has been played.
            Some(OnAnswer::Play(play)) => {
                if self.enqueue(leg, Instruction::Play(play)).is_ok() {
                    return;
                }
            }
            Some(OnAnswer::Converse(spec)) => {
                // The leg is answered and runs nothing, so the conversation begins at once.
                let _ = self.enqueue(leg, Instruction::Converse(Converse { spec, action: None }));
            }
            Some(OnAnswer::JoinConference(participation)) => self.join_conference(leg, *participation),
            Some(OnAnswer::Supervise(supervision)) => self.supervise(leg, supervision),
            Some(OnAnswer::Wait) | None => {}
        }
        self.make_planned_bridge(leg);
    }

    pub(crate) fn set_mode(&mut self, leg: LegId, mode: Mode) {
        if let Some(state) = self.leg_state_mut(leg) {
            state.mode = mode;
        }
    }
}

/// The reason why the running instruction of a leg is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Abort {
    /// Another program or instruction runs instead.
    Replaced,
    /// A request stopped the instruction.
    Stopped,
    /// The leg ended.
    Hangup,
}
