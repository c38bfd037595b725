//! The interpreter of programs, with one file per verb.
//!
//! A leg runs one instruction at a time. An instruction that takes time is stored as a `Running`. A `Running` receives
//! every `Input` of its leg and returns a `Step`. Only `Call::step` executes a `Step`.

pub(crate) mod conference;
pub(crate) mod connect;
pub(crate) mod converse;
pub(crate) mod dial;
pub(crate) mod document;
pub(crate) mod enqueue;
pub(crate) mod gather;
pub mod instruction;
pub(crate) mod overlay;
pub(crate) mod play;
pub(crate) mod record;
pub(crate) mod refer;
pub(crate) mod send_digits;
pub(crate) mod speech_gather;
pub(crate) mod transcribe;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Target;
use crate::call::{Abort, Call};
use crate::conversation::ConversationStatus;
use crate::ending::apologised;
use crate::event::{EventKind, MachineFacts, PlaybackEnd};
use crate::fetch::{FetchFailure, FetchReason};
use crate::leg::{BY_INSTRUCTION, EndCause, EndFailure, EndedBy};
use crate::leg_cx::LegCx;
use crate::leg_state::Mode;
use crate::output::{LegCommand, Progress};
use crate::program::instruction::{DetectMachine, ExecuteCommand, Instruction, Program, Unsupported};
use crate::queue::NotQueued;
use crate::recognition::RecognitionEvent;
use crate::recording::Recording;
use crate::request::needs_answer;
use crate::stream::StreamStatus;
use tandem_id::{ConversationId, FetchId, LegId, OpId, QueueId, StreamId};

/// An input for a running instruction. `Called` goes to a dial that requested a leg of a queue, and contains the first
/// leg of this queue. `Called(None)` means that the first leg has left the queue meanwhile.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Dtmf(char),
    Played { op: OpId, end: PlaybackEnd },
    Recorded { op: OpId, recording: Box<Recording>, recorded: Duration },
    Timer(OpId),
    Stream { id: StreamId, status: StreamStatus },
    Conversation { id: ConversationId, status: ConversationStatus },
    Fetched { id: FetchId, result: Box<Result<Program, FetchFailure>> },
    Child { leg: LegId, event: ChildEvent },
    Recognition { op: OpId, event: RecognitionEvent },
    RecognitionEnded { op: OpId, failed: Option<String> },
    ConferenceOver,
    ConferenceRefused,
    Enqueued { op: OpId, result: Result<QueueId, NotQueued> },
    Called(Option<LegId>),
    DequeueFailed,
    Detected { op: OpId, facts: Box<MachineFacts> },
    ReferAnswered { status: u16 },
    ReferProgress { status: u16, done: bool },
}

/// Progress of a leg. The receiver of this progress is the leg that dialled this leg or took this leg out of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChildEvent {
    Ringing(Progress),
    /// RTP of the leg's far end has arrived before the answer.
    PacketArrived,
    Answered,
    /// The leg can be bridged now. Its digits were sent, or its greeting or whisper document has ended.
    Ready,
    /// A request moved the leg away from the dial.
    Taken,
    Ended,
}

/// An instruction that takes time and has started.
#[derive(Serialize, Deserialize)]
pub(crate) enum Running {
    Fetching(document::Fetching),
    Apologising(document::Apology),
    Playing(play::Playing),
    SendingDigits(Box<send_digits::SendingDigits>),
    Pausing(OpId),
    Gather(Box<gather::Gathering>),
    Record(record::RecordVerb),
    Dial(Box<dial::Dialing>),
    Conference(conference::InConference),
    Connect(connect::Connected),
    Converse(converse::Conversing),
    Refer(refer::Referring),
    /// Waits until a queue admits the leg, or waits in the queue in silence.
    Queueing,
    Echoing,
    /// Waits for the last result of answering-machine detection.
    Detecting(OpId, Option<Target>),
}

/// The next action of a leg, after an instruction has handled an input.
pub(crate) enum Step {
    /// The instruction continues.
    Stay(Running),
    /// The instruction ended, and the next instruction runs.
    Next,
    /// The instruction ended, and another document is fetched.
    Fetch(Target, FetchReason),
    /// The instruction ended, and the leg is hung up with this detail text.
    Hangup(&'static str),
    /// The server hangs up the leg with this detail text.
    GiveUp(String),
    /// The instruction ended, and this program replaces the current program.
    Run(Program),
}

impl Running {
    /// Returns the name of the instruction, for people.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Fetching(_) => "fetch",
            Self::Apologising(..) => "apologise",
            Self::Playing(_) => "play",
            Self::SendingDigits(_) => "send digits",
            Self::Pausing(_) => "pause",
            Self::Gather(_) => "gather",
            Self::Record(_) => "record",
            Self::Dial(_) => "dial",
            Self::Conference(_) => "conference",
            Self::Connect(_) => "connect",
            Self::Converse(_) => "converse",
            Self::Refer(_) => "refer",
            Self::Queueing => "enqueue",
            Self::Echoing => "echo",
            Self::Detecting(..) => "detect machine",
        }
    }

    pub(crate) fn handle(self, call: &mut Call, leg: LegId, input: Input) -> Step {
        match self {
            Self::Dial(dialing) => dialing.handle(call, leg, &input),
            Self::Conference(conferring) => conferring.handle(call, leg, &input),
            Self::Queueing => enqueue::handle(call, leg, &input),
            running => call.with_leg(leg, |cx| running.handle_in_leg(cx, input)).unwrap_or(Step::Next),
        }
    }

    /// Handles an input of an instruction that concerns only its leg.
    fn handle_in_leg(self, cx: &mut LegCx<'_>, input: Input) -> Step {
        match self {
            Self::Fetching(fetching) => fetching.handle(cx, input),
            Self::Playing(playing) => playing.handle(cx, &input),
            Self::Gather(gathering) => gathering.handle_in_runner(cx, &input),
            Self::Record(verb) => verb.handle(cx, input),
            Self::Connect(connected) => connected.handle(cx, input),
            Self::Converse(conversing) => conversing.handle(cx, input),
            Self::Refer(referring) => referring.handle(cx, &input),
            Self::SendingDigits(sending) => match input {
                Input::Played { op, .. } if op == sending.op => Step::Next,
                _ => Step::Stay(Self::SendingDigits(sending)),
            },
            Self::Apologising(apology) => match input {
                Input::Played { op, .. } if op == apology.op => Step::GiveUp(apology.why),
                _ => Step::Stay(Self::Apologising(apology)),
            },
            Self::Pausing(op) => match input {
                Input::Timer(due) if due == op => {
                    // A pause at the start of a document only delays the answer; the leg must be answered after the
                    // pause.
                    cx.ensure_answered();
                    Step::Next
                }
                _ => Step::Stay(Self::Pausing(op)),
            },
            Self::Detecting(op, action) => match input {
                Input::Detected { op: done, facts } if done == op => {
                    action.map_or(Step::Next, |action| Step::Fetch(action, FetchReason::Detected(facts)))
                }
                _ => Step::Stay(Self::Detecting(op, action)),
            },
            running @ (Self::Echoing | Self::Dial(_) | Self::Conference(_) | Self::Queueing) => Step::Stay(running),
        }
    }

    /// Aborts the instruction. An instruction that connects the leg with another party (a dial, a conference, a REFER, a
    /// wait in a queue) requests its action in any case, and the response is ignored. `Gather`, `Record` and a
    /// conversation take input of the caller. So a redirection ends them without a request; `Record` and a conversation
    /// report a hang-up.
    pub(crate) fn abort(self, call: &mut Call, leg: LegId, why: Abort) {
        match self {
            Self::Dial(dialing) => dialing.abort(call, leg, why),
            Self::Conference(conferring) => conferring.abort(call, leg, why),
            Self::Connect(connected) => connected.abort(call, leg),
            running => {
                call.with_leg(leg, |cx| running.abort_in_leg(cx, why));
            }
        }
    }

    /// Aborts an instruction that concerns only its leg.
    fn abort_in_leg(self, cx: &mut LegCx<'_>, why: Abort) {
        match self {
            Self::Apologising(apology) => cx.command(LegCommand::Stop { op: apology.op }),
            Self::SendingDigits(sending) => cx.command(LegCommand::Stop { op: sending.op }),
            Self::Pausing(op) => cx.cancel_timer(Some(op)),
            Self::Playing(playing) => playing.abort(cx, why),
            Self::Gather(gathering) => gathering.abort(cx, why),
            Self::Record(verb) => verb.abort(cx, why),
            Self::Converse(conversing) => conversing.abort(cx, why),
            Self::Refer(referring) => referring.abort(cx, why),
            Self::Echoing => cx.command(LegCommand::Echo(false)),
            // Answering-machine detection continues after the instruction was aborted.
            Self::Fetching(_) | Self::Queueing | Self::Detecting(..) => {}
            // These instructions join legs.
            Self::Dial(_) | Self::Conference(_) | Self::Connect(_) => {}
        }
    }
}

impl Call {
    /// Executes the step that an instruction returned.
    pub(crate) fn step(&mut self, leg: LegId, step: Step) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        // The instruction may have ended the leg or replaced its program. In these cases its step is ignored.
        let ended = state.info.status.is_final();
        if ended || state.runner.running.is_some() {
            if let Step::Stay(running) = step {
                running.abort(self, leg, if ended { Abort::Hangup } else { Abort::Replaced });
            }
            return;
        }
        match step {
            Step::Stay(running) => state.runner.running = Some(running),
            Step::Next => self.advance(leg),
            Step::Hangup(how) => self.clear_for_application(leg, how),
            Step::GiveUp(why) => self.hangup_because(leg, EndCause::NormalClearing, why),
            Step::Run(program) => self.run(leg, program),
            Step::Fetch(target, reason) => self.fetch(leg, target, reason),
        }
    }

    /// Executes the step that a transfer returned. The leg's program continues during the transfer, unless the leg has
    /// ended.
    pub(crate) fn step_transfer(&mut self, leg: LegId, step: Step) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        let ended = state.info.status.is_final();
        match step {
            Step::Stay(Running::Dial(dialing)) if !ended && state.transfer.is_none() => state.transfer = Some(dialing),
            Step::Stay(running) => running.abort(self, leg, if ended { Abort::Hangup } else { Abort::Replaced }),
            Step::Hangup(how) => self.clear_for_application(leg, how),
            Step::GiveUp(why) => self.hangup_because(leg, EndCause::NormalClearing, why),
            Step::Run(program) => self.run(leg, program),
            Step::Fetch(target, reason) => self.fetch(leg, target, reason),
            Step::Next => {}
        }
    }

    /// Starts the next instructions one after the other, until one of them takes time.
    pub(crate) fn advance(&mut self, leg: LegId) {
        loop {
            let Some(state) = self.leg_state_mut(leg) else { return };
            if state.info.status.is_final() || state.runner.running.is_some() {
                return;
            }
            let Some(instruction) = state.runner.queue.pop_front() else {
                return self.out_of_instructions(leg);
            };
            let Some(mut cx) = self.cx(leg) else { return };
            cx.count_instruction(&instruction);
            if let Some(ended) = document::end_loop(&mut cx) {
                return self.step(leg, Step::Stay(ended));
            }
            // The document continues, so an earlier failure is not the reason of the leg's end.
            cx.leg.failure = None;
            match self.begin(leg, instruction) {
                Step::Next => {}
                step => return self.step(leg, step),
            }
        }
    }

    fn out_of_instructions(&mut self, leg: LegId) {
        match self.leg_state(leg).map(|state| state.mode) {
            // The leg of the other node gets no leg of this call, or the bridge has ended.
            Some(Mode::Document) if self.is_remote(leg) => self.clear(leg, EndedBy::OtherLeg),
            Some(Mode::Document) => {
                self.ensure_answered(leg);
                self.document_ended(leg);
            }
            Some(Mode::Whisper) => {
                self.set_mode(leg, Mode::Commands);
                self.notify_parent(leg, ChildEvent::Ready);
            }
            Some(Mode::Queue) => self.continue_wait(leg),
            Some(Mode::Commands) => self.make_planned_bridge(leg),
            None => {}
        }
    }

    fn begin(&mut self, leg: LegId, instruction: Instruction) -> Step {
        let needs_answer = match &instruction {
            Instruction::ExecuteCommand(order) => needs_answer(&order.command),
            Instruction::Play(play) => !play.early,
            instruction => !matches!(
                instruction,
                Instruction::Pause(_)
                    | Instruction::Dial(_)
                    | Instruction::Redirect(_)
                    | Instruction::Reject(_)
                    | Instruction::ReturnValues(_)
                    | Instruction::Leave
                    | Instruction::Refused(_)
                    | Instruction::GiveUp(_)
            ),
        };
        if needs_answer && !self.ensure_answered(leg) {
            return Step::Next;
        }
        match instruction {
            Instruction::Dial(dial) => dial::Dialing::begin(self, leg, dial),
            Instruction::Conference(conference) => conference::InConference::begin(self, leg, conference),
            Instruction::Enqueue(enqueue) => enqueue::begin(self, leg, enqueue),
            Instruction::Leave => self.leave_queue(leg),
            Instruction::StopStream(name) => {
                self.stop_streams(leg, name.as_deref());
                Step::Next
            }
            Instruction::Reject(reason) => {
                self.reject(leg, reason, EndedBy::Application);
                Step::Next
            }
            Instruction::ExecuteCommand(order) => {
                let ExecuteCommand { command, action } = *order;
                let done = self.execute(leg, command);
                action.map_or(Step::Next, |action| Step::Fetch(action, FetchReason::CommandExecuted(done)))
            }
            instruction => self.with_leg(leg, |cx| cx.begin(instruction)).unwrap_or(Step::Next),
        }
    }
}

impl LegCx<'_> {
    /// Begins an instruction that concerns only its leg.
    fn begin(&mut self, instruction: Instruction) -> Step {
        match instruction {
            Instruction::Play(play) => {
                if play.early {
                    self.ring(true);
                }
                return play::Playing::begin(self, play);
            }
            Instruction::SendDigits(digits) => {
                let sending = send_digits::SendingDigits::begin(self, digits);
                return Step::Stay(Running::SendingDigits(Box::new(sending)));
            }
            Instruction::Pause(length) => {
                // While the leg is not answered, the caller hears ringing during a pause.
                self.ring(false);
                return Step::Stay(Running::Pausing(self.timer(length)));
            }
            Instruction::Gather(gather) => {
                return Step::Stay(Running::Gather(Box::new(gather::Gathering::begin(self, gather))));
            }
            Instruction::Record(record) => return record::RecordVerb::begin(self, record),
            Instruction::Refer(refer) => return refer::Referring::begin(self, refer),
            Instruction::Connect(connect) => return connect::Connected::begin(self, connect),
            Instruction::Converse(converse) => return converse::Conversing::begin(self, converse),
            Instruction::Redirect(target) => return Step::Fetch(target, FetchReason::Redirect),
            Instruction::Hangup => return Step::Hangup(BY_INSTRUCTION),
            Instruction::Unsupported(unsupported) => return self.begin_unsupported(*unsupported),
            Instruction::Refused(why) => return document::refused(self, why),
            Instruction::GiveUp(failure) => {
                let why = apologised(&failure);
                self.leg.failure = Some(Box::new(EndFailure::Engine(*failure)));
                return Step::GiveUp(why);
            }
            Instruction::DetectMachine(detect) => {
                let DetectMachine { spec, action } = *detect;
                return Step::Stay(Running::Detecting(self.detect_machine(Box::new(spec)), action));
            }
            Instruction::Echo => {
                self.command(LegCommand::Echo(true));
                return Step::Stay(Running::Echoing);
            }
            // The following instructions take no time. At its maximum number of operations, the leg continues without
            // the operation.
            Instruction::StartStream(spec) => drop(self.start_stream(spec)),
            Instruction::StartSiprec(spec) => self.try_siprec(spec),
            Instruction::StopSiprec(name) => self.stop_siprecs(name.as_deref()),
            Instruction::StartTranscription(spec) => drop(self.start_transcription(*spec)),
            Instruction::StopTranscription(name) => self.stop_transcriptions(name.as_deref()),
            Instruction::StartRecording(spec) => drop(self.start_recording(spec)),
            Instruction::ReturnValues(pairs) => {
                if self.leg.info.handover.is_some() {
                    self.leg.return_values = Some(pairs.clone().into());
                    self.command(LegCommand::ReturnValues(pairs));
                }
            }
            // These instructions join legs, or end their leg.
            Instruction::Dial(_)
            | Instruction::Conference(_)
            | Instruction::Enqueue(_)
            | Instruction::Leave
            | Instruction::StopStream(_)
            | Instruction::Reject(_)
            | Instruction::ExecuteCommand(_) => {}
        }
        Step::Next
    }

    fn begin_unsupported(&mut self, unsupported: Unsupported) -> Step {
        self.emit(EventKind::Warned(unsupported.warning.clone()));
        self.emit(EventKind::Unsupported(Box::new(unsupported.clone())));
        let Unsupported { action, outcome, warning, .. } = unsupported;
        match action {
            Some(action) => Step::Fetch(action, FetchReason::Unsupported(outcome)),
            None => document::refused(self, warning.message),
        }
    }
}
