//! Execution of the requests that applications send to live legs.

use std::iter;
use std::sync::Arc;

use crate::call::{Abort, Call};
use crate::command::{Accepted, Command, Interrupt, Refused, Request};
use crate::conference::{Change, LeaveReason, Participation};
use crate::conversation::{AgentSpec, ConversationRequest};
use crate::event::{EventKind, GatherEnd};
use crate::fetch::FetchReason;
use crate::header_fields::HeaderFields;
use crate::leg::{BY_REQUEST, Direction, EndCause, EndedBy, TargetLegs};
use crate::leg_cx::LegCx;
use crate::leg_state::{LegState, MAX_QUEUED, Mode};
use crate::output::LegCommand;
use crate::program::dial::Dialing;
use crate::program::gather::Gathering;
use crate::program::instruction::{Dial, Gather, Instruction, Play, Program, RejectReason};
use crate::program::{ChildEvent, Running};
use crate::stream::{ActiveStream, StreamSpec};
use tandem_id::LegId;
use tandem_id::Now;

impl Call {
    /// Executes an application's request to a leg. Returns the reason if the request cannot be executed. A refused
    /// request does not change the client state.
    pub fn handle_request(&mut self, now: Now, leg: LegId, request: Request) -> Result<Accepted, Refused> {
        self.set_now(now);
        let Some(state) = self.leg_state_mut(leg) else { return Err(Refused::NoSuchLeg) };
        if state.info.status.is_final() {
            return Err(Refused::Ended);
        }
        if needs_answer(&request.command) && state.info.answered_at.is_none() {
            return Err(Refused::NotAnswered);
        }
        // Before the answer, only an inbound leg can be transferred, because only an inbound leg already has a caller.
        let ringing_out = state.info.answered_at.is_none() && state.info.direction != Direction::Inbound;
        if ringing_out && matches!(request.command, Command::Transfer(_)) {
            return Err(Refused::NotAnswered);
        }
        let before = state.info.client_state.clone();
        if request.client_state.is_some() {
            Arc::make_mut(&mut state.info).client_state = request.client_state;
        }
        let outcome = self.execute(leg, request.command);
        if outcome.is_ok() {
            self.with_leg(leg, |cx| cx.note_command());
        }
        if let (Err(_), Some(state)) = (&outcome, self.leg_state_mut(leg))
            && state.info.client_state != before
        {
            Arc::make_mut(&mut state.info).client_state = before;
        }
        outcome
    }

    pub(crate) fn execute(&mut self, leg: LegId, command: Command) -> Result<Accepted, Refused> {
        let mut accepted = Accepted::default();
        match command {
            Command::Answer { record, stream, headers } => {
                self.answer_by_request(leg, stream.clone(), headers)?;
                let mut cx = self.cx(leg).ok_or(Refused::NoSuchLeg)?;
                accepted.recording = record.and_then(|spec| cx.start_recording(spec));
                accepted.stream = stream.and_then(|spec| cx.start_stream(spec));
            }
            Command::Reject(reason) => self.reject_by_request(leg, reason)?,
            Command::Hangup { headers } => {
                self.with_leg(leg, |cx| cx.add_headers(headers));
                self.clear_for_application(leg, BY_REQUEST);
            }
            Command::Cancel => {
                if self.leg_state(leg).is_some_and(|state| state.info.answered_at.is_none()) {
                    self.hangup(leg, EndCause::OriginatorCancel, EndedBy::Application);
                }
            }
            Command::Run(program) => {
                self.take_over(leg);
                self.run(leg, program);
            }
            Command::Redirect(target) => {
                self.take_over(leg);
                self.fetch(leg, target, FetchReason::Redirect);
            }
            Command::Play { play, interrupt, to } => {
                for target in self.target_legs(leg, to)? {
                    self.play(target, play.clone(), interrupt)?;
                }
            }
            Command::StopPlayback(interrupt) => self.stop_playback(leg, interrupt),
            Command::Gather(gather) => self.gather_by_request(leg, *gather)?,
            Command::StopGather => self.stop_gathers(leg),
            Command::StopConversation => return done(self.stop_conversation(leg)),
            Command::AskConversation(request) => return done(self.ask_conversation(leg, request)),
            Command::InterruptConversation { program, agent } => {
                return done(self.interrupt_conversation(leg, program, agent));
            }
            Command::StopStream(None) => {
                let any = self.leg_state(leg).is_some_and(|state| !state.streams.is_empty());
                self.stop_streams(leg, None);
                return done(any);
            }
            Command::StopStream(Some(id)) => return self.stop_stream_by_request(leg, |stream| stream.id == id),
            Command::StopNamedStream(name) => {
                return self.stop_stream_by_request(leg, |stream| stream.spec.name.as_ref() == Some(&name));
            }
            Command::Bridge { with, after, if_free } => return self.bridge_by_request(leg, with, after, if_free),
            Command::ReplaceLeg { of } => return self.replace_leg(leg, of),
            Command::JoinConference(participation) => self.join_conference_by_request(leg, participation),
            Command::MuteInConference(muted) => {
                return done(self.change_in_conference(leg, Change { muted: Some(muted), ..Change::default() }));
            }
            Command::ChangeInConference(change) => return done(self.change_in_conference(leg, *change)),
            Command::LeaveConference => {
                if self.leg_state(leg).is_none_or(|state| state.conference.is_none()) {
                    return Err(Refused::NotJoined);
                }
                self.stop_supervising(leg);
                self.conference_over(leg, LeaveReason::Removed, false);
            }
            Command::Supervise(role) => return done(self.supervise_as(leg, role)),
            Command::Transfer(dial) => self.transfer_by_request(leg, *dial)?,
            Command::EnterQueue(enqueue) => self.enter_queue_by_request(leg, *enqueue)?,
            Command::LeaveQueue => return done(self.leave_queue_by_request(leg)),
            Command::Dequeue(target) => {
                if !self.waits_in_queue(leg) {
                    return Err(Refused::NotRunning);
                }
                self.take_over(leg);
                self.fetch(leg, target, FetchReason::Redirect);
            }
            Command::Enqueue(instruction) => {
                if matches!(*instruction, Instruction::Converse(_)) && self.has_conversation(leg) {
                    return Err(Refused::AlreadyRunning);
                }
                self.enqueue(leg, *instruction)?;
            }
            command => return self.cx(leg).ok_or(Refused::NoSuchLeg)?.execute(command),
        }
        Ok(accepted)
    }

    /// Stops the oldest stream that `wanted` selects.
    fn stop_stream_by_request(
        &mut self,
        leg: LegId,
        wanted: impl Fn(&ActiveStream) -> bool,
    ) -> Result<Accepted, Refused> {
        let state = self.leg_state(leg).ok_or(Refused::NoSuchLeg)?;
        let stream = state.streams.iter().find(|stream| wanted(stream)).ok_or(Refused::NotRunning)?;
        let (id, stream_name) = (stream.id, stream.spec.name.clone());
        self.stop_stream(leg, id);
        Ok(Accepted { stream: Some(id), stream_name, ..Accepted::default() })
    }

    /// Answers an inbound leg by request. `stream` is the stream that starts with the answer.
    fn answer_by_request(
        &mut self,
        leg: LegId,
        stream: Option<StreamSpec>,
        headers: HeaderFields,
    ) -> Result<(), Refused> {
        let state = self.leg_state_mut(leg).ok_or(Refused::NoSuchLeg)?;
        if state.info.answered_at.is_some() {
            return Err(Refused::AlreadyAnswered);
        }
        if state.info.direction == Direction::Inbound {
            state.stream_on_answer = stream.map(Box::new);
            self.with_leg(leg, |cx| cx.add_headers(headers));
        }
        if self.ensure_answered(leg) { Ok(()) } else { Err(Refused::NotAnswered) }
    }

    fn reject_by_request(&mut self, leg: LegId, reason: RejectReason) -> Result<(), Refused> {
        let state = self.leg_state(leg).ok_or(Refused::NoSuchLeg)?;
        if state.info.answered_at.is_some() || state.info.direction != Direction::Inbound {
            return Err(Refused::AlreadyAnswered);
        }
        self.reject(leg, reason, EndedBy::Application);
        Ok(())
    }

    /// Starts a gather by request. A gather without prompts runs at the same time as the leg's program. A gather with
    /// prompts starts after the queued instructions.
    fn gather_by_request(&mut self, leg: LegId, gather: Gather) -> Result<(), Refused> {
        self.stop_gathers(leg);
        // After the stopped gather the document continues, and the document may end the leg.
        if self.leg_state(leg).is_none_or(|state| state.info.status.is_final()) {
            return Err(Refused::Ended);
        }
        if !gather.prompts.is_empty() {
            return self.enqueue(leg, Instruction::Gather(gather));
        }
        self.with_leg(leg, |cx| cx.leg.side_gather = Some(Box::new(Gathering::begin(cx, gather))));
        Ok(())
    }

    /// Joins a conference by request. If the leg is already in this conference, only its participation is changed.
    fn join_conference_by_request(&mut self, leg: LegId, participation: Participation) {
        let same =
            |state: &LegState| state.conference.as_ref().is_some_and(|now| now.conference == participation.conference);
        if !self.leg_state(leg).is_some_and(same) {
            self.notify_parent(leg, ChildEvent::Taken);
            self.abort_program(leg, Abort::Replaced);
        }
        self.stop_supervising(leg);
        self.join_conference(leg, participation);
    }

    fn transfer_by_request(&mut self, leg: LegId, dial: Dial) -> Result<(), Refused> {
        if !self.has_room() {
            return Err(Refused::TooMany);
        }
        self.abort_program(leg, Abort::Replaced);
        let step = Dialing::begin(self, leg, dial);
        self.step_transfer(leg, step);
        Ok(())
    }

    /// Prepares a leg for a redirect. The leg leaves its queue and its bridge. The dial that created the leg no longer
    /// controls the leg.
    fn take_over(&mut self, leg: LegId) {
        self.end_wait(leg, Abort::Replaced);
        if !self.runs_dial(leg) {
            self.end_bridge(leg);
        }
        // Documents that come from requests do not count as a loop of documents.
        if let Some(state) = self.leg_state_mut(leg) {
            state.short_documents = 0;
            state.document = None;
        }
        self.notify_parent(leg, ChildEvent::Taken);
        self.set_mode(leg, Mode::Document);
    }

    fn runs_dial(&self, leg: LegId) -> bool {
        let dials =
            |state: &LegState| state.transfer.is_some() || matches!(state.runner.running, Some(Running::Dial(_)));
        self.leg_state(leg).is_some_and(dials)
    }

    pub(crate) fn enqueue(&mut self, leg: LegId, instruction: Instruction) -> Result<(), Refused> {
        let state = self.leg_state_with_room(leg)?;
        state.runner.queue.push_back(instruction);
        self.advance(leg);
        Ok(())
    }

    fn leg_state_with_room(&mut self, leg: LegId) -> Result<&mut LegState, Refused> {
        let state = self.leg_state_mut(leg).ok_or(Refused::NoSuchLeg)?;
        if state.runner.queue.len() < MAX_QUEUED { Ok(state) } else { Err(Refused::TooMany) }
    }

    fn target_legs(&self, leg: LegId, to: TargetLegs) -> Result<Vec<LegId>, Refused> {
        let bridged = self
            .leg_state(leg)
            .and_then(|state| state.bridge)
            .filter(|bridge| bridge.reported)
            .map(|bridge| bridge.with);
        match to {
            TargetLegs::Own => Ok(vec![leg]),
            TargetLegs::Bridged => bridged.map(|bridged| vec![bridged]).ok_or(Refused::NotJoined),
            TargetLegs::Both => Ok(iter::once(leg).chain(bridged).collect()),
        }
    }

    fn play(&mut self, leg: LegId, play: Play, interrupt: Interrupt) -> Result<(), Refused> {
        match interrupt {
            Interrupt::None => self.enqueue(leg, Instruction::Play(play))?,
            Interrupt::All => {
                self.stop_playback(leg, Interrupt::All);
                self.enqueue(leg, Instruction::Play(play))?;
            }
            Interrupt::Current => {
                self.leg_state_with_room(leg)?.runner.queue.push_front(Instruction::Play(play));
                self.stop_playback(leg, Interrupt::Current);
            }
        }
        Ok(())
    }

    fn stop_playback(&mut self, leg: LegId, interrupt: Interrupt) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        if interrupt == Interrupt::All {
            state.runner.queue.retain(|instruction| !matches!(instruction, Instruction::Play(_)));
        }
        if interrupt != Interrupt::None && matches!(state.runner.running, Some(Running::Playing(_))) {
            let running = state.runner.running.take();
            if let Some(running) = running {
                running.abort(self, leg, Abort::Stopped);
            }
        }
        self.advance(leg);
    }

    /// Whether a conversation runs, or waits until the running instruction ends. An agent that has started a transfer waits.
    fn has_conversation(&self, leg: LegId) -> bool {
        let Some(runner) = self.leg_state(leg).map(|state| &state.runner) else { return false };
        matches!(runner.running, Some(Running::Converse(_)))
            || runner.queue.iter().any(|instruction| matches!(instruction, Instruction::Converse(_)))
    }

    /// Ends the running conversation, then continues with the next instruction. A conversation that waits does not begin.
    /// Returns `false` if there is no conversation.
    fn stop_conversation(&mut self, leg: LegId) -> bool {
        let converses = |running: &mut Running| matches!(running, Running::Converse(_));
        let Some(state) = self.leg_state_mut(leg) else { return false };
        let Some(running) = state.runner.running.take_if(converses) else {
            let before = state.runner.queue.len();
            state.runner.queue.retain(|instruction| !matches!(instruction, Instruction::Converse(_)));
            return state.runner.queue.len() < before;
        };
        running.abort(self, leg, Abort::Stopped);
        self.advance(leg);
        true
    }

    /// Ends the running conversation with an agent, and puts a program and then the agent before the waiting instructions.
    /// Returns `false` if no conversation runs.
    fn interrupt_conversation(&mut self, leg: LegId, program: Program, agent: Box<AgentSpec>) -> bool {
        let converses = |running: &mut Running| matches!(running, Running::Converse(_));
        let Some(state) = self.leg_state_mut(leg) else { return false };
        let Some(Running::Converse(conversing)) = state.runner.running.take_if(converses) else { return false };
        let warnings = program.warnings;
        state.runner.queue.push_front(Instruction::Converse(conversing.again(agent)));
        for instruction in program.instructions.into_iter().take(MAX_QUEUED).rev() {
            state.runner.queue.push_front(instruction);
        }
        Running::Converse(conversing).abort(self, leg, Abort::Stopped);
        for warning in warnings {
            self.emit(leg, EventKind::Warned(warning));
        }
        self.advance(leg);
        true
    }

    /// Passes a request to the running conversation. Returns `false` if no conversation runs.
    fn ask_conversation(&mut self, leg: LegId, request: ConversationRequest) -> bool {
        self.with_leg(leg, |cx| {
            let Some(Running::Converse(conversing)) = &cx.leg.runner.running else { return false };
            let id = conversing.id();
            cx.command(LegCommand::AskConversation { id, request });
            true
        })
        .unwrap_or(false)
    }

    /// Ends the running gathers and removes the waiting gathers.
    fn stop_gathers(&mut self, leg: LegId) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        let side = state.side_gather.take();
        let mut waiting = Vec::new();
        state.runner.queue.retain(|instruction| match instruction {
            Instruction::Gather(gather) => {
                waiting.push((gather.id.clone(), gather.callback.clone()));
                false
            }
            _ => true,
        });
        let running_gather = match state.runner.running {
            Some(Running::Gather(_)) => state.runner.running.take(),
            _ => None,
        };
        if let Some(side) = side {
            self.with_leg(leg, |cx| side.abort(cx, Abort::Stopped));
        }
        let advances = running_gather.is_some();
        if let Some(running) = running_gather {
            running.abort(self, leg, Abort::Stopped);
        }
        for (id, callback) in waiting {
            let (digits, end) = (String::new(), GatherEnd::Stopped);
            self.emit(leg, EventKind::GatherEnded { digits, end, terminator: None, id, words: None, callback });
        }
        if advances {
            self.advance(leg);
        }
    }
}

impl LegCx<'_> {
    /// Executes a command that concerns only its leg. [`Call::execute`] executes all other commands.
    fn execute(&mut self, command: Command) -> Result<Accepted, Refused> {
        let mut accepted = Accepted::default();
        match command {
            Command::PlayOverlay(plays) => self.play_overlay(plays)?,
            Command::StopOverlay => return done(self.stop_overlay(Abort::Stopped)),
            Command::StartGatherTimers => self.start_gather_timers()?,
            Command::SendDigits(digits) => {
                let op = self.new_op();
                self.command(LegCommand::SendDigits { op, digits, elapsed: None });
            }
            Command::SendInfo { content_type, body } => self.command(LegCommand::SendInfo { content_type, body }),
            Command::StartRecording(spec) => {
                accepted.recording = Some(self.start_recording(spec).ok_or(Refused::TooMany)?);
            }
            Command::StopRecording(which) => return done(self.stop_recording(which)),
            Command::PauseRecording { which, pause_behavior } => {
                return done(self.pause_recording(which, Some(pause_behavior)));
            }
            Command::ResumeRecording(which) => return done(self.pause_recording(which, None)),
            Command::StartStream { spec, if_none_runs } => {
                if if_none_runs && !self.leg.streams.is_empty() {
                    return Err(Refused::AlreadyRunning);
                }
                accepted.stream = Some(self.start_stream(spec).ok_or(Refused::TooMany)?);
            }
            Command::StartSiprec(spec) => {
                let name = spec.name.clone();
                accepted.siprec = Some((self.start_siprec(spec).ok_or(Refused::TooMany)?, name));
            }
            Command::StopSiprec(id) => {
                accepted.siprec = Some((id, self.stop_siprec(id).ok_or(Refused::NotRunning)?));
            }
            Command::StopNamedSiprec(name) => {
                let id = self.named_siprec(&name).ok_or(Refused::NotRunning)?;
                self.stop_siprec(id);
                accepted.siprec = Some((id, Some(name)));
            }
            Command::StartTranscription(spec) => accepted.transcription = Some(self.start_transcription(*spec)?),
            Command::StopTranscription(id) => return done(self.stop_transcription(id)),
            Command::StopNamedTranscription(name) => {
                let id = self.named_transcription(&name).ok_or(Refused::NotRunning)?;
                self.stop_transcription(id);
                accepted.transcription = Some(id);
            }
            Command::Mute(on) => {
                self.leg.muted = on;
                self.command(LegCommand::Mute(on));
            }
            Command::SuppressNoise { track, on } => {
                self.leg.noise_suppression.set(track, on);
                self.command(LegCommand::SuppressNoise { track, on });
            }
            Command::DetectMachine(spec) => drop(self.detect_machine(spec)),
            Command::StopDetecting => return done(self.leg.detecting.take().is_some()),
            Command::SetCallback(callback) => Arc::make_mut(&mut self.leg.info).status_callback = callback,
            Command::SetFallback(fallback) => Arc::make_mut(&mut self.leg.info).fallback = fallback,
            Command::TimeLimit(limit) => self.limit(limit),
            // `SetClientState` has set the client state before.
            Command::SetClientState => {}
            // `Call::execute` executes these commands.
            Command::Answer { .. }
            | Command::Reject(_)
            | Command::Hangup { .. }
            | Command::Cancel
            | Command::Run(_)
            | Command::Redirect(_)
            | Command::Play { .. }
            | Command::StopPlayback(_)
            | Command::Gather(_)
            | Command::StopGather
            | Command::StopConversation
            | Command::AskConversation(_)
            | Command::InterruptConversation { .. }
            | Command::StopStream(_)
            | Command::StopNamedStream(_)
            | Command::Bridge { .. }
            | Command::ReplaceLeg { .. }
            | Command::JoinConference(_)
            | Command::MuteInConference(_)
            | Command::ChangeInConference(_)
            | Command::LeaveConference
            | Command::Supervise(_)
            | Command::Transfer(_)
            | Command::EnterQueue(_)
            | Command::LeaveQueue
            | Command::Dequeue(_)
            | Command::Enqueue(_) => {}
        }
        Ok(accepted)
    }

    fn add_headers(&mut self, headers: HeaderFields) {
        if !headers.is_empty() {
            self.command(LegCommand::Headers(headers));
        }
    }

    /// Starts the timers of the running gathers. A gather that waits behind audio has timers of its own when it begins.
    fn start_gather_timers(&mut self) -> Result<(), Refused> {
        let (mut side, mut running) = (self.leg.side_gather.take(), self.leg.runner.running.take());
        let own = match &mut running {
            Some(Running::Gather(gathering)) => Some(gathering),
            _ => None,
        };
        let mut started = Err(Refused::NotRunning);
        for gathering in own.into_iter().chain(side.as_mut()) {
            gathering.start_timers(self);
            started = Ok(());
        }
        (self.leg.side_gather, self.leg.runner.running) = (side, running);
        started
    }
}

/// The result of a command that stops or changes an operation.
fn done(found: bool) -> Result<Accepted, Refused> {
    if found { Ok(Accepted::default()) } else { Err(Refused::NotRunning) }
}

pub(crate) fn needs_answer(command: &Command) -> bool {
    matches!(
        command,
        Command::Run(_)
            | Command::Redirect(_)
            | Command::Play { .. }
            | Command::StopPlayback(_)
            | Command::PlayOverlay(_)
            | Command::Gather(_)
            | Command::StopGather
            | Command::StartGatherTimers
            | Command::StopConversation
            | Command::AskConversation(_)
            | Command::InterruptConversation { .. }
            | Command::SendDigits(_)
            | Command::SendInfo { .. }
            | Command::StartRecording(_)
            | Command::StartStream { .. }
            | Command::StartSiprec(_)
            | Command::StartTranscription(_)
            | Command::JoinConference(_)
            | Command::DetectMachine(_)
            | Command::EnterQueue(_)
            | Command::Enqueue(_)
    )
}
