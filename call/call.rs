//! The call: its legs, the program of each leg, and the bridges between legs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Now;
use crate::address::Address;
use crate::command::Refused;
use crate::conference::{LeaveReason, Participation};
use crate::ending::cause_of;
use crate::event::{CallEvent, EventKind};
use crate::fetch::{Fetch, FetchFailure, FetchReason, Scope};
use crate::id::{self, CallId, FetchId, LegId, OpId};
use crate::leg::{Direction, EndCause, EndedBy, LegEnd, LegInfo, Status};
use crate::leg_state::{BridgeOnAnswer, LegState, MOST_LEGS, Mode};
use crate::machine_detection::MachineDetection;
use crate::output::{Invite, LegCommand, LegEvent, LegGone, Output};
use crate::program::instruction::{AfterBridge, Instruction, Play, Program};
use crate::program::{ChildEvent, Running, Signal};
use crate::route::{Decision, Route};
use crate::stream::ConnectTiming;
use crate::supervision::Supervision;
use crate::timer::Timers;
use crate::{Callback, Target};

/// Maximum duration of an inbound leg after its answer, unless a request sets another limit. This limit ends the leg if
/// the caller has vanished without a BYE.
const INBOUND_TIME_LIMIT: Duration = Duration::from_secs(4 * 3_600);
/// Maximum time for which an inbound leg may stay unanswered. Before the answer this server only repeats its
/// provisional response (RFC 3261 §13.3.1.1). So this server cannot distinguish a vanished caller from a patient
/// caller. The limit is long enough for two consecutive dials of 600 s.
const UNANSWERED_LIMIT: Duration = Duration::from_secs(30 * 60);

/// One call with its legs. `Call` is a pure state machine: the `handle_*` methods take inputs, the `poll_*` methods
/// return the next actions. After each `handle_*` call, poll outputs until there are none.
pub struct Call {
    id: CallId,
    pub(crate) parties: Vec<LegState>,
    pub(crate) rng: StdRng,
    pub(crate) timers: Timers,
    outputs: VecDeque<Output>,
    next_op: u64,
    now: Now,
}

/// An outbound leg that is to be created.
#[derive(Clone, Debug)]
pub struct NewLeg {
    /// Facts about the new leg. The status in these facts is `Queued`.
    pub info: LegInfo,
    /// The INVITE to send.
    pub invite: Invite,
    /// Maximum time from the creation of the leg to its answer.
    pub timeout: Duration,
    /// Maximum duration of the leg after its answer.
    pub time_limit: Option<Duration>,
    /// The action of the leg after its answer.
    pub then: OnAnswer,
    /// DTMF digits that this server sends after the answer, before anything else.
    pub send_digits: Option<crate::program::instruction::SendDigits>,
    /// Answering-machine detection that starts with the answer.
    pub detect: Option<Box<MachineDetection>>,
    /// The recording that starts with the answer.
    pub record: Option<crate::recording::NewRecording>,
    /// The stream that carries the audio from the answer on. The stream may connect before the answer.
    pub stream: Option<crate::stream::StreamSpec>,
    /// The leg with which this leg is bridged after the answer.
    pub bridge_to: Option<LegId>,
    /// Whether this leg is hung up, and not bridged, if `bridge_to` is bridged with a third leg at the time of the
    /// answer.
    pub if_free: bool,
    /// Cause of the leg's end if the leg is not answered within `timeout`.
    pub unanswered: EndCause,
    /// The race in which the leg takes part. The id of a race is the id of one of its legs. All legs of a race ring at
    /// the same time; the first answer ends the other legs.
    pub race: Option<LegId>,
}

impl NewLeg {
    /// Creates a leg that does nothing by itself after the answer. The creator of the leg controls the leg.
    pub fn waiting(info: LegInfo, invite: Invite, timeout: Duration) -> Self {
        Self {
            info,
            invite,
            timeout,
            time_limit: None,
            then: OnAnswer::Wait,
            send_digits: None,
            detect: None,
            record: None,
            stream: None,
            bridge_to: None,
            if_free: false,
            unanswered: EndCause::Timeout,
            race: None,
        }
    }
}

/// The action of an outbound leg after its answer.
#[derive(Clone, PartialEq, Debug)]
pub enum OnAnswer {
    /// Fetch and run this document.
    Document(Target),
    /// Run this program.
    Program(Program),
    /// Play this audio, then bridge the leg if `bridge_to` is set, then wait for commands.
    Play(Play),
    /// Join a conference, then wait for commands.
    JoinConference(Box<Participation>),
    /// Supervise the call of another leg, then wait for commands.
    Supervise(Supervision),
    /// Wait for commands, or for the dial that created this leg.
    Wait,
}

impl Call {
    /// Creates a call without legs.
    pub fn new(id: CallId, seed: [u8; 32], now: Now) -> Self {
        Self {
            id,
            // Most calls have two legs.
            parties: Vec::with_capacity(2),
            rng: StdRng::from_seed(seed),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            next_op: 0,
            now,
        }
    }

    /// Returns the id of the call.
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Returns the facts about all legs, including ended legs that are not released yet.
    pub fn legs(&self) -> impl Iterator<Item = &Arc<LegInfo>> {
        self.parties.iter().map(|party| &party.info)
    }

    /// Returns the facts about one leg, or `None` if the call has no such leg.
    pub fn leg(&self, leg: LegId) -> Option<&Arc<LegInfo>> {
        self.party(leg).map(|party| &party.info)
    }

    /// Returns whether every leg has ended and been released, and every output has been polled.
    pub fn is_finished(&self) -> bool {
        self.parties.is_empty() && self.outputs.is_empty()
    }

    // ----- inputs -------------------------------------------------------------------------------------------------

    /// Handles an inbound call. `route` contains the account of the call, and the document, program, commands or
    /// refusal that follow.
    pub fn handle_incoming(&mut self, now: Now, info: LegInfo, route: Route) {
        self.now = now;
        let leg = info.id;
        self.parties.push(LegState::new(info));
        let documents = matches!(route.decision, Decision::Document { .. } | Decision::Program(_));
        if let Some(party) = self.party_mut(leg) {
            party.mode = if documents { Mode::Document } else { Mode::Commands };
            party.time_limit = Some(INBOUND_TIME_LIMIT);
            let info = Arc::make_mut(&mut party.info);
            info.account = route.account;
            info.dialect = route.dialect;
            info.application = route.application;
            info.status_callback = route.status;
            info.status = Status::Initiated;
            if let Decision::Document { fallback, .. } = &route.decision {
                info.fallback = fallback.clone();
            }
        }
        let record = route.record.map(|spec| Box::new(self.new_recording(spec)));
        let first_command = match route.decision {
            Decision::CommandsWithin(time) => Some(time),
            _ => None,
        };
        let ring_timer = self.timer(leg, first_command.unwrap_or(UNANSWERED_LIMIT));
        if let Some(party) = self.party_mut(leg) {
            party.ring_timer = Some(ring_timer);
            party.awaits_command = first_command.is_some();
            party.record_on_answer = record;
        }
        match route.decision {
            Decision::Reject(reason) => {
                self.emit(leg, EventKind::Initiated);
                self.reject(leg, reason, EndedBy::Server);
            }
            Decision::Document { target, .. } => {
                self.ring(leg, false);
                self.emit(leg, EventKind::Initiated);
                self.fetch(leg, target, FetchReason::Start);
            }
            Decision::Program(program) => {
                self.emit(leg, EventKind::Initiated);
                self.run(leg, program);
            }
            Decision::Commands | Decision::CommandsWithin(_) => {
                self.ring(leg, false);
                self.emit(leg, EventKind::Initiated);
            }
        }
    }

    /// Creates an outbound leg for a request of an application.
    pub fn handle_new_leg(&mut self, now: Now, leg: NewLeg) -> Result<(), Refused> {
        self.now = now;
        if !self.has_room() {
            return Err(Refused::TooMany);
        }
        self.start_leg(leg);
        Ok(())
    }

    /// Handles an event of a leg. If the leg has ended, only the end of a recording or a transcription is handled;
    /// other events are ignored.
    pub fn handle_leg(&mut self, now: Now, leg: LegId, event: LegEvent) {
        self.now = now;
        // This leg may have ended meanwhile. Even then, the leg that takes this leg out of the queue must be notified.
        if let LegEvent::Called { queue, by } = event {
            return self.called(leg, queue, by);
        }
        let Some(party) = self.party_mut(leg) else { return };
        let ended = party.info.status.is_final();
        match event {
            LegEvent::RecordingFinished { op, end, duration, recorded } => {
                self.recording_finished(leg, op, end, duration, recorded);
            }
            LegEvent::Transcription { id, status } => self.transcription_changed(leg, id, status),
            _ if ended => {}
            LegEvent::Ringing { early_media } => self.peer_rings(leg, early_media),
            LegEvent::Answered { codec, headers, dialog } => self.peer_answered(leg, codec, headers, dialog),
            LegEvent::Ended { reason, sip_status, detail } => {
                let answered = party.info.answered_at.is_some();
                let cause = cause_of(reason, sip_status, answered);
                let by = match reason {
                    LegGone::Failed | LegGone::Unreachable => EndedBy::Server,
                    LegGone::Timeout if !answered => EndedBy::Server,
                    _ => EndedBy::Peer,
                };
                self.end_leg(leg, LegEnd { at: now.time, cause, by, sip_status, detail, failure: None });
            }
            LegEvent::Referred(referred) => self.referred(leg, *referred),
            LegEvent::ReferAnswered { status } => self.signal(leg, Signal::ReferAnswered { status }),
            LegEvent::ReferProgress { status, done } => self.signal(leg, Signal::ReferProgress { status, done }),
            LegEvent::Dtmf(digit) => {
                self.emit(leg, EventKind::DtmfReceived { digit });
                self.signal(leg, Signal::Dtmf(digit));
            }
            LegEvent::PlayFinished { op, .. } if party.sending_digits == Some(op) => {
                self.proceed(leg);
                self.tell_parent(leg, ChildEvent::Ready);
            }
            LegEvent::MachineDetected { op, verdict, after } => self.machine_detected(leg, op, verdict, after),
            LegEvent::PlayFinished { op, end } => self.signal(leg, Signal::Played { op, end }),
            LegEvent::Stream { id, status } => self.stream_changed(leg, id, status),
            LegEvent::Siprec { id, status } => self.siprec_changed(leg, id, status),
            LegEvent::Heard { op, heard } => self.signal(leg, Signal::Heard { op, heard }),
            LegEvent::RecognitionEnded { op, failed } => self.signal(leg, Signal::RecognitionEnded { op, failed }),
            LegEvent::Conversation { id, status } => self.signal(leg, Signal::Conversation { id, status }),
            LegEvent::ConferenceOver { clears } => self.conference_over(leg, LeaveReason::Over, clears),
            LegEvent::ConferenceRefused => self.conference_refused(leg),
            LegEvent::Warned(warning) => self.emit(leg, EventKind::Warned(warning)),
            LegEvent::Enqueued { op, standing } if self.waits_beside(leg) => self.entered_beside(leg, op, standing),
            LegEvent::Enqueued { op, standing } => self.signal(leg, Signal::Enqueued { op, standing }),
            LegEvent::DequeueFailed => self.signal(leg, Signal::DequeueFailed),
            LegEvent::Called { .. } => {}
        }
    }

    /// Handles the response to a [`Fetch`]. A response that the leg does not wait for any more is ignored.
    pub fn handle_fetched(&mut self, now: Now, leg: LegId, id: FetchId, result: Result<Program, FetchFailure>) {
        self.now = now;
        self.signal(leg, Signal::Fetched { id, result: Box::new(result) });
    }

    /// Fires the timers that are due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        while let Some((leg, op)) = self.timers.pop_due(now.instant) {
            self.timer_fired(leg, op);
        }
    }

    /// Returns the number of legs that can be added to the call. A call has at most 64 legs.
    pub fn room(&self) -> usize {
        MOST_LEGS.saturating_sub(self.parties.len())
    }

    /// Moves the legs of another call into this call, so that they can be bridged with legs of this call. Check
    /// [`Call::room`] first.
    pub fn merge(&mut self, now: Now, mut other: Self) {
        self.now = now;
        self.parties.append(&mut other.parties);
        self.timers.append(&mut other.timers);
        self.outputs.append(&mut other.outputs);
        self.next_op = self.next_op.max(other.next_op);
    }

    // ----- outputs ------------------------------------------------------------------------------------------------

    /// Returns the next output, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the time at which [`Call::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    // ----- building blocks of verbs and commands -----------------------------------------------------------------

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    pub(crate) fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    pub(crate) fn party(&self, leg: LegId) -> Option<&LegState> {
        self.parties.iter().find(|party| party.info.id == leg)
    }

    pub(crate) fn party_mut(&mut self, leg: LegId) -> Option<&mut LegState> {
        self.parties.iter_mut().find(|party| party.info.id == leg)
    }

    pub(crate) fn new_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    pub(crate) fn order(&mut self, leg: LegId, command: LegCommand) {
        self.outputs.push_back(Output::Leg { leg, command: Box::new(command) });
    }

    pub(crate) fn emit(&mut self, leg: LegId, kind: EventKind) {
        let at = self.now.time;
        if let Some(party) = self.party(leg) {
            let event = CallEvent { at, leg: Arc::clone(&party.info), kind };
            self.outputs.push_back(Output::Event(Box::new(event)));
        }
    }

    /// Sets a timer. When it fires, the instruction that runs on the leg receives [`Signal::Timer`].
    pub(crate) fn timer(&mut self, leg: LegId, after: Duration) -> OpId {
        let op = self.new_op();
        if let Some(at) = self.now.instant.checked_add(after) {
            self.timers.set(at, leg, op);
        }
        op
    }

    pub(crate) fn request_fetch(&mut self, leg: LegId, target: Target, reason: FetchReason) -> FetchId {
        let id = FetchId(self.new_op().0);
        if let Some(party) = self.party(leg) {
            let scope = match party.mode {
                Mode::Document | Mode::Commands => Scope::Leg,
                Mode::Whisper => Scope::Whisper,
                Mode::Queue => Scope::Queue,
            };
            let fetch = Fetch { id, leg: Arc::clone(&party.info), target, reason, scope };
            self.outputs.push_back(Output::Fetch(Box::new(fetch)));
        }
        id
    }

    pub(crate) fn ring(&mut self, leg: LegId, early_media: bool) {
        let Some(party) = self.party_mut(leg) else { return };
        if party.info.direction != Direction::Inbound
            || party.info.answered_at.is_some()
            || party.info.status.is_final()
        {
            return;
        }
        let first = party.info.status != Status::Ringing;
        if first || early_media {
            Arc::make_mut(&mut party.info).status = Status::Ringing;
            self.order(leg, LegCommand::Ring { early_media });
        }
    }

    /// Answers an inbound leg if the leg is not answered yet. Returns whether the leg is answered now.
    pub(crate) fn ensure_answered(&mut self, leg: LegId) -> bool {
        let time = self.now.time;
        let Some(party) = self.party_mut(leg) else { return false };
        if party.info.answered_at.is_some() {
            return true;
        }
        if party.info.direction != Direction::Inbound || party.info.status.is_final() {
            return false;
        }
        let info = Arc::make_mut(&mut party.info);
        info.answered_at = Some(time);
        info.status = Status::InProgress;
        let (stream, record) = (party.stream_on_answer.clone(), party.record_on_answer.take());
        if let Some(op) = party.ring_timer.take() {
            self.timers.cancel(leg, op);
        }
        self.order(leg, LegCommand::Answer);
        self.emit(leg, EventKind::Answered { stream });
        self.start_time_limit(leg);
        if let Some(new) = record {
            self.begin_recording(leg, *new);
        }
        true
    }

    pub(crate) fn start_leg(&mut self, new: NewLeg) {
        let leg = new.info.id;
        let mut party = LegState::new(new.info);
        party.on_answer = Some(Box::new(new.then));
        party.time_limit = new.time_limit;
        party.send_digits = new.send_digits.map(Box::new);
        party.detect_on_answer = new.detect;
        party.record_on_answer = new.record.map(Box::new);
        party.stream_on_answer = new.stream.map(Box::new);
        let after = (AfterBridge::Hangup, AfterBridge::Hangup);
        party.bridge_on_answer = new.bridge_to.map(|with| BridgeOnAnswer { with, after, if_free: new.if_free });
        party.unanswered = new.unanswered;
        party.race = new.race;
        let info = Arc::make_mut(&mut party.info);
        info.status = Status::Initiated;
        // An internal call (to an application of this server) uses no SIP.
        let call_id = || Arc::from(id::digits(self.rng.random(), &mut [0; 32]));
        info.sip.call_id = (!matches!(new.invite.to, Address::Application(_))).then(call_id);
        let early = party.stream_on_answer.as_deref().filter(|spec| spec.opens != ConnectTiming::AtAnswer).cloned();
        self.parties.push(party);
        if let Some(spec) = early {
            // The stream starts before the INVITE, because the INVITE may have to wait for it.
            self.start_stream(leg, spec);
        }
        self.order(leg, LegCommand::Invite(Box::new(new.invite)));
        let ring_timer = self.timer(leg, new.timeout);
        if let Some(party) = self.party_mut(leg) {
            party.ring_timer = Some(ring_timer);
        }
        self.emit(leg, EventKind::Initiated);
    }

    /// Records that the application has given its first command. The time limit for the first command ends, and the
    /// limit for unanswered legs begins.
    pub(crate) fn commanded(&mut self, leg: LegId) {
        let Some(party) = self.party_mut(leg) else { return };
        if !std::mem::take(&mut party.awaits_command) || party.info.answered_at.is_some() {
            return;
        }
        if let Some(op) = party.ring_timer.take() {
            self.timers.cancel(leg, op);
        }
        let ring_timer = self.timer(leg, UNANSWERED_LIMIT);
        if let Some(party) = self.party_mut(leg) {
            party.ring_timer = Some(ring_timer);
        }
    }

    /// Runs a program on a leg, in place of the current program.
    pub(crate) fn run(&mut self, leg: LegId, program: Program) {
        self.clear_runner(leg, Abort::Replaced);
        for warning in program.warnings {
            self.emit(leg, EventKind::Warned(warning));
        }
        if let Some(party) = self.party_mut(leg) {
            if party.info.status.is_final() {
                return;
            }
            party.runner.queue = program.instructions.into();
        }
        self.advance(leg);
    }

    pub(crate) fn fetch(&mut self, leg: LegId, target: Target, reason: FetchReason) {
        self.clear_runner(leg, Abort::Replaced);
        if self.party(leg).is_none_or(|party| party.info.status.is_final()) {
            return;
        }
        let running = Running::fetch(self, leg, target, reason);
        if let Some(party) = self.party_mut(leg) {
            party.runner.running = Some(running);
        }
    }

    /// Delivers a signal to every instruction and gather that runs on the leg.
    pub(crate) fn signal(&mut self, leg: LegId, signal: Signal) {
        let Some(party) = self.party_mut(leg) else { return };
        if let Some(transfer) = party.transfer.take() {
            let step = transfer.handle(self, leg, &signal);
            self.step_transfer(leg, step);
        }
        self.signal_overlay(leg, &signal);
        let Some(party) = self.party_mut(leg) else { return };
        if let Some(side) = party.side_gather.take() {
            let kept = side.handle(self, leg, &signal);
            if let Some(party) = self.party_mut(leg) {
                // A request that was handled meanwhile may have started another gather, which replaces this gather.
                if party.side_gather.is_none() {
                    party.side_gather = kept;
                }
            }
        }
        let Some(running) = self.party_mut(leg).and_then(|party| party.runner.running.take()) else { return };
        let step = running.handle(self, leg, signal);
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
        let Some(party) = self.party_mut(leg) else { return };
        party.sending_digits = None;
        if let Some(detecting) = &mut party.detecting {
            detecting.holds = false;
        }
        party.runner.queue.clear();
        if let Some(transfer) = party.transfer.take() {
            transfer.abort(self, leg, why);
        }
        let Some(party) = self.party_mut(leg) else { return };
        if let Some(running) = party.runner.running.take() {
            running.abort(self, leg, why);
        }
    }

    /// Sets the trunk over which an outbound leg is called.
    pub fn set_trunk(&mut self, leg: LegId, trunk: Arc<str>) {
        if let Some(party) = self.party_mut(leg) {
            Arc::make_mut(&mut party.info).sip.trunk = Some(trunk);
        }
    }

    /// Changes the dialect of a leg, because its application has answered in another dialect.
    pub fn set_dialect(&mut self, leg: LegId, dialect: Arc<str>) {
        if let Some(party) = self.party_mut(leg) {
            Arc::make_mut(&mut party.info).dialect = dialect;
        }
    }

    /// Marks an outbound leg as an internal call, which has no SIP Call-ID.
    pub fn set_within(&mut self, leg: LegId) {
        if let Some(party) = self.party_mut(leg) {
            Arc::make_mut(&mut party.info).sip.call_id = None;
        }
    }

    /// Sets the values that were returned by the application that this leg called.
    pub fn set_returned(&mut self, leg: LegId, returned: Vec<(String, String)>) {
        if let Some(handover) = self.party_mut(leg).and_then(|party| Arc::make_mut(&mut party.info).handover.as_mut()) {
            handover.returned = returned;
        }
    }

    /// Sets the negotiated codec of a leg. Called again when the codec changes.
    pub fn set_codec(&mut self, leg: LegId, codec: &str) {
        if let Some(party) = self.party_mut(leg)
            && party.info.sip.codec.as_deref() != Some(codec)
        {
            Arc::make_mut(&mut party.info).sip.codec = Some(codec.to_owned());
        }
    }

    pub(crate) fn set_status_callback(&mut self, leg: LegId, callback: Option<Callback>) {
        if let Some(party) = self.party_mut(leg) {
            Arc::make_mut(&mut party.info).status_callback = callback;
        }
    }

    pub(crate) fn set_fallback(&mut self, leg: LegId, fallback: Option<Target>) {
        if let Some(party) = self.party_mut(leg) {
            Arc::make_mut(&mut party.info).fallback = fallback;
        }
    }

    pub(crate) fn tell_parent(&mut self, child: LegId, event: ChildEvent) {
        if let Some(parent) = self.party(child).and_then(|party| party.progress_listener.or(party.info.parent)) {
            self.signal(parent, Signal::Child { leg: child, event });
        }
    }

    fn timer_fired(&mut self, leg: LegId, op: OpId) {
        let Some(party) = self.party_mut(leg) else { return };
        if party.ring_timer == Some(op) {
            party.ring_timer = None;
            let cause = party.unanswered;
            self.hangup(leg, cause, EndedBy::Server);
        } else if party.limit_timer == Some(op) {
            self.hangup(leg, EndCause::TimeLimit, EndedBy::Server);
        } else if party.release_timer == Some(op) {
            self.abandon_recordings(leg);
            self.abandon_transcriptions(leg);
            self.release(leg);
        } else if !self.siprec_timed_out(leg, op) && !self.wait_timed_out(leg, op) {
            self.signal(leg, Signal::Timer(op));
        }
    }

    fn peer_rings(&mut self, leg: LegId, early_media: bool) {
        let Some(party) = self.party_mut(leg) else { return };
        if party.info.answered_at.is_some() || party.info.direction == Direction::Inbound {
            return;
        }
        let first = party.info.status != Status::Ringing;
        Arc::make_mut(&mut party.info).status = Status::Ringing;
        if first {
            self.emit(leg, EventKind::Ringing { early_media });
            self.target_rings(leg);
        }
        if first || early_media {
            self.tell_parent(leg, ChildEvent::Ringing { early_media });
        }
    }

    fn peer_answered(
        &mut self,
        leg: LegId,
        codec: Option<String>,
        headers: Vec<(String, String)>,
        dialog: Option<Arc<str>>,
    ) {
        let time = self.now.time;
        let Some(party) = self.party_mut(leg) else { return };
        if party.info.answered_at.is_some() || party.info.direction == Direction::Inbound {
            return;
        }
        let info = Arc::make_mut(&mut party.info);
        info.answered_at = Some(time);
        info.status = Status::InProgress;
        info.sip.codec = codec;
        info.sip.headers = headers;
        info.sip.dialog = dialog;
        let ring_timer = party.ring_timer.take();
        let (record, stream) = (party.record_on_answer.take(), party.stream_on_answer.take());
        let (digits, race) = (party.send_digits.take(), party.race.take());
        let detect = party.detect_on_answer.take();
        if let Some(op) = ring_timer {
            self.timers.cancel(leg, op);
        }
        self.emit(leg, EventKind::Answered { stream: stream.clone() });
        self.start_time_limit(leg);
        if race.is_some() {
            let others = self.parties.iter().filter(|party| party.race == race).map(|party| party.info.id);
            for other in others.collect::<Vec<_>>() {
                self.hangup(other, EndCause::OriginatorCancel, EndedBy::Server);
            }
        }
        if let Some(new) = record {
            self.begin_recording(leg, *new);
        }
        match stream {
            Some(spec) if spec.opens == ConnectTiming::AtAnswer => drop(self.start_stream(leg, *spec)),
            Some(_) => self.order(leg, LegCommand::BeginStreams),
            None => {}
        }
        if let Some(spec) = detect {
            let _ = self.detect_machine(leg, spec);
        }
        match digits {
            // The digits open a door or select an extension behind a switchboard. So they must be sent before anything
            // else.
            Some(digits) => {
                let (op, digits) = (self.new_op(), *digits);
                self.order(leg, LegCommand::SendDigits { op, digits });
                if let Some(party) = self.party_mut(leg) {
                    party.sending_digits = Some(op);
                }
            }
            None => self.proceed(leg),
        }
        self.target_answered(leg);
        self.tell_parent(leg, ChildEvent::Answered);
    }

    /// Starts the action that follows the answer of an outbound leg, after the digits were sent. Does nothing while
    /// answering-machine detection holds the leg's program.
    pub(crate) fn proceed(&mut self, leg: LegId) {
        let Some(party) = self.party_mut(leg) else { return };
        party.sending_digits = None;
        if party.detecting.as_ref().is_some_and(|detecting| detecting.holds) {
            return;
        }
        match party.on_answer.take().map(|then| *then) {
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
            Some(OnAnswer::JoinConference(participation)) => self.confer(leg, *participation),
            Some(OnAnswer::Supervise(supervision)) => self.supervise(leg, supervision),
            Some(OnAnswer::Wait) | None => {}
        }
        self.join_as_promised(leg);
    }

    pub(crate) fn set_mode(&mut self, leg: LegId, mode: Mode) {
        if let Some(party) = self.party_mut(leg) {
            party.mode = mode;
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
