//! The interpreter of programs, with one file per verb.
//!
//! A leg runs one instruction at a time. An instruction that takes time is stored as a `Running`. A `Running` receives
//! every `Signal` of its leg and returns a `Step`. Only `Call::step` executes a `Step`.

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
pub(crate) enum Signal {
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

/// The next action of a leg, after an instruction has handled a signal.
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
    pub(crate) fn handle(self, call: &mut Call, leg: LegId, signal: Signal) -> Step {
        match self {
            Self::Fetching(fetching) => fetching.handle(call, leg, signal),
            Self::Playing(playing) => playing.handle(call, leg, &signal),
            Self::Gather(gathering) => gathering.handle_in_runner(call, leg, &signal),
            Self::Record(verb) => verb.handle(call, leg, signal),
            Self::Dial(dialing) => dialing.handle(call, leg, &signal),
            Self::Conference(conferring) => conferring.handle(call, leg, &signal),
            Self::Connect(connected) => connected.handle(call, leg, signal),
            Self::Converse(conversing) => conversing.handle(call, leg, signal),
            Self::Refer(referring) => referring.handle(call, leg, &signal),
            Self::Queueing => enqueue::handle(call, leg, &signal),
            Self::SendingDigits(sending) => match signal {
                Signal::Played { op, .. } if op == sending.op => Step::Next,
                _ => Step::Stay(Self::SendingDigits(sending)),
            },
            Self::Apologising(apology) => match signal {
                Signal::Played { op, .. } if op == apology.op => Step::GiveUp(apology.why),
                _ => Step::Stay(Self::Apologising(apology)),
            },
            Self::Pausing(op) => match signal {
                Signal::Timer(due) if due == op => {
                    // A pause at the start of a document only delays the answer; the leg must be answered after the
                    // pause.
                    call.ensure_answered(leg);
                    Step::Next
                }
                _ => Step::Stay(Self::Pausing(op)),
            },
            Self::Echoing => Step::Stay(Self::Echoing),
            Self::Detecting(op, action) => match signal {
                Signal::Detected { op: done, facts } if done == op => {
                    action.map_or(Step::Next, |action| Step::Fetch(action, FetchReason::Detected(facts)))
                }
                _ => Step::Stay(Self::Detecting(op, action)),
            },
        }
    }

    /// Aborts the instruction. An instruction that connects the leg with another party (a dial, a conference, a REFER, a
    /// wait in a queue) requests its action in any case, and the response is ignored. `Gather`, `Record` and a
    /// conversation take input of the caller. So a redirection ends them without a request; `Record` and a conversation
    /// report a hang-up.
    pub(crate) fn abort(self, call: &mut Call, leg: LegId, why: Abort) {
        match self {
            // Answering-machine detection continues after the instruction was aborted.
            Self::Fetching(_) | Self::Queueing | Self::Detecting(..) => {}
            Self::Apologising(apology) => call.push_command(leg, LegCommand::Stop { op: apology.op }),
            Self::SendingDigits(sending) => call.push_command(leg, LegCommand::Stop { op: sending.op }),
            Self::Pausing(op) => call.cancel_timer(leg, op),
            Self::Playing(playing) => playing.abort(call, leg, why),
            Self::Gather(gathering) => gathering.abort(call, leg, why),
            Self::Record(verb) => verb.abort(call, leg, why),
            Self::Dial(dialing) => dialing.abort(call, leg, why),
            Self::Conference(conferring) => conferring.abort(call, leg, why),
            Self::Connect(connected) => connected.abort(call, leg),
            Self::Converse(conversing) => conversing.abort(call, leg, why),
            Self::Refer(referring) => referring.abort(call, leg, why),
            Self::Echoing => call.push_command(leg, LegCommand::Echo(false)),
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
            self.count_instruction(leg, &instruction);
            if let Some(ended) = document::end_loop(self, leg) {
                return self.step(leg, Step::Stay(ended));
            }
            // The document continues, so an earlier failure is not the reason of the leg's end.
            if let Some(state) = self.leg_state_mut(leg) {
                state.failure = None;
            }
            match self.begin(leg, instruction) {
                Step::Next => {}
                step => return self.step(leg, step),
            }
        }
    }

    fn out_of_instructions(&mut self, leg: LegId) {
        match self.leg_state(leg).map(|state| state.mode) {
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
            Instruction::Play(play) => {
                if play.early {
                    self.ring(leg, true);
                }
                play::Playing::begin(self, leg, play)
            }
            Instruction::SendDigits(digits) => {
                let sending = send_digits::SendingDigits::begin(self, leg, digits);
                Step::Stay(Running::SendingDigits(Box::new(sending)))
            }
            Instruction::Pause(length) => {
                // While the leg is not answered, the caller hears ringing during a pause.
                self.ring(leg, false);
                Step::Stay(Running::Pausing(self.timer(leg, length)))
            }
            Instruction::Gather(gather) => {
                Step::Stay(Running::Gather(Box::new(gather::Gathering::begin(self, leg, gather))))
            }
            Instruction::Record(record) => record::RecordVerb::begin(self, leg, record),
            Instruction::Dial(dial) => dial::Dialing::begin(self, leg, dial),
            Instruction::Refer(refer) => refer::Referring::begin(self, leg, refer),
            Instruction::Conference(conference) => conference::InConference::begin(self, leg, conference),
            Instruction::Enqueue(enqueue) => enqueue::begin(self, leg, enqueue),
            Instruction::Leave => self.leave_queue(leg),
            Instruction::Connect(connect) => connect::Connected::begin(self, leg, connect),
            Instruction::Converse(converse) => converse::Conversing::begin(self, leg, converse),
            Instruction::StartStream(spec) => {
                self.start_stream(leg, spec);
                Step::Next
            }
            Instruction::StopStream(name) => {
                self.stop_named_streams(leg, name.as_deref());
                Step::Next
            }
            Instruction::StartSiprec(spec) => {
                self.try_siprec(leg, spec);
                Step::Next
            }
            Instruction::StopSiprec(name) => {
                self.stop_siprecs(leg, name.as_deref());
                Step::Next
            }
            Instruction::StartTranscription(spec) => {
                // If the leg already has its maximum number of transcriptions, the document continues without this
                // transcription.
                let _ = self.start_transcription(leg, *spec);
                Step::Next
            }
            Instruction::StopTranscription(name) => {
                self.stop_transcriptions(leg, name.as_deref());
                Step::Next
            }
            Instruction::StartRecording(spec) => {
                self.start_recording(leg, spec);
                Step::Next
            }
            Instruction::Redirect(target) => Step::Fetch(target, FetchReason::Redirect),
            Instruction::Reject(reason) => {
                self.reject(leg, reason, EndedBy::Application);
                Step::Next
            }
            Instruction::ReturnValues(pairs) => {
                if let Some(state) = self.leg_state_mut(leg).filter(|state| state.info.handover.is_some()) {
                    state.return_values = Some(pairs.clone().into());
                    self.push_command(leg, LegCommand::ReturnValues(pairs));
                }
                Step::Next
            }
            Instruction::Hangup => Step::Hangup(BY_INSTRUCTION),
            Instruction::Unsupported(unserved) => {
                self.emit(leg, EventKind::Warned(unserved.warning.clone()));
                self.emit(leg, EventKind::Unsupported(unserved.clone()));
                let Unsupported { action, outcome, warning, .. } = *unserved;
                match action {
                    Some(action) => Step::Fetch(action, FetchReason::Unsupported(outcome)),
                    None => document::refused(self, leg, warning.message),
                }
            }
            Instruction::Refused(why) => document::refused(self, leg, why),
            Instruction::GiveUp(failure) => {
                let why = apologised(&failure);
                if let Some(state) = self.leg_state_mut(leg) {
                    state.failure = Some(Box::new(EndFailure::Engine(*failure)));
                }
                Step::GiveUp(why)
            }
            Instruction::ExecuteCommand(order) => {
                let ExecuteCommand { command, action } = *order;
                let done = self.execute(leg, command);
                action.map_or(Step::Next, |action| Step::Fetch(action, FetchReason::CommandExecuted(done)))
            }
            Instruction::DetectMachine(detect) => {
                let DetectMachine { spec, action } = *detect;
                Step::Stay(Running::Detecting(self.detect_machine(leg, Box::new(spec)), action))
            }
            Instruction::Echo => {
                self.push_command(leg, LegCommand::Echo(true));
                Step::Stay(Running::Echoing)
            }
        }
    }
}
