//! The task of a conversation. The task connects the caller with the other side, which is an application's WebSocket or
//! an agent. The task also connects the caller with the voice that speaks for the other side, and with the recogniser
//! that listens to the caller.
//!
//! ```text
//!   peer ────words──► talk (who speaks, what is interrupted) ──phrases──► voice ──► source ──► caller
//!   peer ◄───prompts─ talk ◄──marks, digits, recognised words──── recogniser ◄──────── tap ◄──── caller
//! ```
//!
//! The task requests the media from its call ([`ConversationUpdate::Ready`]). At the end, the task reports how the
//! conversation ended. The module `turn_taking` limits the waiting pieces and the waiting text. These limits also limit
//! the size of the task's state. The task writes the recognised words, the spoken words and the duration of each turn
//! to the call's log (`log.rs`).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tandem_agent::{Agent, EndReport};
use tandem_call::command::Command;
use tandem_call::conversation::{BAD_DEFINITION, ConversationSpec, ConversationStatus, ConversationTarget, NO_AGENT};
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::recognition::RecognitionSpec;
use tandem_call::recording::{RecordingChannels, RecordingSource, RecordingSpec};
use tandem_call::stream::{CallOver, StreamFailure, StreamFault};
use tandem_dialect::agent::{AgentScript, EndReason};
use tandem_dialect::conversation::{ConversationEnd, ConversationEvent, ConversationWire};
use tandem_history::call_port::CallPort;
use tandem_host::clock;
use tandem_http::websocket::Socket;
use tandem_id::AccountName;
use tandem_media as media;
use tandem_metrics::timings::{Count, Timing};
use tandem_speech::recognise::{self, RecogniseError, RecognitionSession};
use tokio::sync::mpsc;

use super::backend::{BackendMessage, ConversationBackend};
use super::log::ConversationLog;
use super::onset::Onset;
use super::playout::{Playout, Progress};
use super::turn_taking::{ConversationFact, TurnOutput, TurnTaking};
use super::{
    ConversationInput, ConversationUpdate, Conversations, LONGEST, LiveConversation, NewConversation, ORDER,
    TAP_FRAMES, realtime,
};

/// Runs a conversation to its end. Returns its status, and the work that follows it.
pub(super) async fn run(
    shared: &Conversations,
    call: &dyn CallPort<ConversationUpdate>,
    new: NewConversation,
    mut inputs: mpsc::Receiver<ConversationInput>,
    live: Arc<LiveConversation>,
) -> (ConversationStatus, Option<AfterEnd>) {
    let NewConversation { leg, mut spec, wire, script, account, provider_ids, .. } = new;
    let script = match script.transpose() {
        Ok(script) => script,
        Err(why) => {
            let why = StreamFault::Internal.because(format!("{BAD_DEFINITION}: {why}"));
            return (ConversationStatus::Failed { after_start: false, why }, None);
        }
    };
    // A document that defines an agent may name a model of its provider. Without an entry of this name, the default agent applies.
    if let ConversationTarget::Agent(agent) = &mut spec.with
        && agent.script.is_some()
        && shared.agents.load().find(&agent.name).is_none()
    {
        agent.name = Arc::from("");
    }
    if let ConversationTarget::Agent(agent) = &spec.with
        && let Some(config) = shared.agents.load_full().find(&agent.name).filter(|config| config.model.is_realtime())
    {
        let (agent, config, client) = ((**agent).clone(), Arc::clone(config), shared.client.of_account(&account));
        let new = realtime::NewRealtime { leg, provider_ids, config, agent, script, client, live };
        return realtime::run(shared, call, new, inputs).await;
    }
    let opening = open_backend(shared, &account, &mut spec, wire, script);
    let mut backend = tokio::select! {
        opened = opening => match opened {
            Ok(backend) => backend,
            Err(why) => return (ConversationStatus::Failed { after_start: false, why }, None),
        },
        () = stopped(&mut inputs) => return (ConversationStatus::Completed, None),
    };
    let pronunciations = backend.pronunciations();
    let (sink, tap) = media::tap(TAP_FRAMES, media::TapCodec::L16(ORDER));
    let (source, writer) = media::source(media::SourceCodec::L16(media::SourceRate::Hz8000, ORDER), LONGEST);
    let mut task = ConversationTask {
        log: ConversationLog::new(call, leg, provider_ids, shared.recogniser.shows_words(), live),
        recognition_spec: recognition_spec(&spec),
        onset: spec.words_decide_interruption.then(Onset::default),
        turn_taking: TurnTaking::new(spec),
        shared,
        call,
        playout: Playout::new(shared.audio.clone(), account, writer),
        recognition: None,
        has_ended: false,
    };
    task.turn_taking.set_pronunciations(pronunciations);
    let end = match task.begin(&mut backend, sink, source).await {
        Ok(()) => task.run_loop(&mut backend, tap, inputs).await,
        Err(why) => Err(why),
    };
    task.log.end(task.turn_taking.totals());
    let why = reason(&end, task.has_ended);
    let (status, malformed) = match end {
        Ok(End::Stopped) | Err(Failure::CallOver) => (ConversationStatus::Completed, false),
        Ok(End::Over { status, malformed }) => (status, malformed),
        Err(Failure::Backend(why)) => (ConversationStatus::Failed { after_start: true, why }, false),
    };
    (status, Some(Box::pin(backend.finish(malformed, why))))
}

/// Returns the reason of the end for the agent. `None` means the reason that the agent itself has. `has_ended` says whether the
/// call has got the end that the agent requested: the call then stops the conversation, although the caller has not hung up.
fn reason(end: &Result<End, Failure>, has_ended: bool) -> Option<EndReason> {
    match end {
        Ok(End::Stopped) | Err(Failure::CallOver) => (!has_ended).then_some(EndReason::Caller),
        Ok(End::Over { .. }) => None,
        Err(Failure::Backend(_)) => Some(EndReason::Failed),
    }
}

/// The work that follows a conversation. The call does not wait for it. The results are reports to web servers.
pub(super) type AfterEnd = Pin<Box<dyn Future<Output = Vec<EndReport>> + Send>>;

/// Connects to the application, or creates the agent.
async fn open_backend(
    shared: &Conversations,
    account: &AccountName,
    spec: &mut ConversationSpec,
    wire: Option<Box<dyn ConversationWire>>,
    script: Option<Box<dyn AgentScript>>,
) -> Result<ConversationBackend, StreamFailure> {
    let client = shared.client.of_account(account);
    match (spec.with.clone(), wire) {
        (ConversationTarget::Agent(agent), _) => {
            let unknown = || {
                StreamFault::Internal.because(match agent.name.is_empty() {
                    true => NO_AGENT.to_owned(),
                    false => format!("{NO_AGENT} has the name {:?}", agent.name),
                })
            };
            let config = Arc::clone(shared.agents.load_full().find(&agent.name).ok_or_else(unknown)?);
            Ok(ConversationBackend::Agent(Box::new(Agent::new(config, client, *agent, spec, script))))
        }
        (ConversationTarget::Application(url), Some(wire)) => {
            let began = clock::now().instant;
            let socket = Socket::open(&client, &url, wire.handshake(), shared.idle).await?;
            let connected = clock::now().instant.saturating_duration_since(began);
            shared.timings.took(Timing::ConversationConnect, connected);
            Ok(ConversationBackend::Application(Box::new(socket), wire))
        }
        (ConversationTarget::Application(_), None) => Err(StreamFault::Internal.because("unknown account or dialect")),
    }
}

async fn stopped(inputs: &mut mpsc::Receiver<ConversationInput>) {
    while !matches!(inputs.recv().await, Some(ConversationInput::Stop) | None) {}
}

/// Returns the initial settings of speech recognition.
fn recognition_spec(spec: &ConversationSpec) -> RecognitionSpec {
    let language_settings = spec.language_settings(&spec.recognition_language);
    RecognitionSpec {
        language: language(&spec.recognition_language),
        hints: language_settings.hints.clone(),
        model: language_settings.model.clone(),
        partials: spec.partials,
        no_profanity: spec.no_profanity,
        punctuation: true,
        at_pauses: spec.words_decide_interruption,
        digits: false,
    }
}

/// Returns the language for the recogniser. `None` means any language. The result for the code `multi` is `None`.
fn language(code: &str) -> Option<String> {
    (code != "multi").then(|| code.to_owned())
}

/// The way in which a conversation ended.
enum End {
    /// The call ended the conversation.
    Stopped,
    /// The application ended the conversation, or the application's messages were invalid (`malformed`).
    Over { status: ConversationStatus, malformed: bool },
}

/// The reason why a conversation cannot go on.
enum Failure {
    /// The call has ended.
    CallOver,
    /// The connection to the other side failed.
    Backend(StreamFailure),
}

impl From<CallOver> for Failure {
    fn from(_: CallOver) -> Self {
        Self::CallOver
    }
}

impl From<StreamFailure> for Failure {
    fn from(why: StreamFailure) -> Self {
        Self::Backend(why)
    }
}

/// The state of the task that connects the caller and the application.
struct ConversationTask<'a> {
    turn_taking: TurnTaking,
    log: ConversationLog<'a>,
    shared: &'a Conversations,
    call: &'a dyn CallPort<ConversationUpdate>,
    /// The audio of the pieces that are not yet played.
    playout: Playout,
    recognition_spec: RecognitionSpec,
    recognition: Option<RecognitionSession>,
    /// Detects a voice earlier than the recogniser does. This detector is used only if recognised words decide about
    /// interruptions.
    onset: Option<Onset>,
    /// Whether the call has got the end of the conversation that the agent requested.
    has_ended: bool,
}

impl ConversationTask<'_> {
    async fn begin(
        &mut self,
        backend: &mut ConversationBackend,
        sink: media::TapSink,
        source: media::StreamSource,
    ) -> Result<(), Failure> {
        backend.begin(clock::now().instant).await?;
        self.call.report(ConversationUpdate::Ready { sink, source })?;
        if let Err(why) = self.start_recognition() {
            self.recognition_failed(backend, &why).await?;
        }
        self.turn_taking.begin(clock::now().instant);
        Ok(())
    }

    /// Handles a failure or the absence of speech recognition. Reports the failure to the other side. An application
    /// decides nothing about the failure, so the call gets the report at once. An agent reports the failure itself.
    async fn recognition_failed(
        &mut self,
        backend: &mut ConversationBackend,
        why: &RecogniseError,
    ) -> Result<(), Failure> {
        self.recognition = None;
        if !backend.reports_recognition() {
            let failure = EngineFailure::new(Engine::Recogniser, why.to_string());
            self.call.report(ConversationUpdate::EngineFailed(failure))?;
        }
        backend.send(ConversationEvent::RecognitionFailed(why.to_string()), clock::now()).await?;
        self.turn_taking.recogniser_ended(clock::now().instant);
        Ok(())
    }

    fn start_recognition(&mut self) -> Result<(), RecogniseError> {
        if self.recognition.take().is_some() {
            self.turn_taking.recogniser_ended(clock::now().instant);
        }
        self.recognition = Some(self.shared.recogniser.listen(&self.recognition_spec)?);
        Ok(())
    }

    async fn run_loop(
        &mut self,
        backend: &mut ConversationBackend,
        mut tap: media::TapReader,
        mut inputs: mpsc::Receiver<ConversationInput>,
    ) -> Result<End, Failure> {
        loop {
            if let Some(end) = self.perform_outputs(backend).await? {
                return Ok(end);
            }
            let due = self.turn_taking.poll_timeout();
            tokio::select! {
                received = backend.next() => {
                    let now = clock::now().instant;
                    match received {
                        BackendMessage::Command(ask) => self.turn_taking.handle_command(now, ask),
                        BackendMessage::Malformed(why) => self.turn_taking.malformed(why),
                        BackendMessage::Closed(why) => return Err(why.into()),
                        BackendMessage::Record(on) => self.call.report(ConversationUpdate::Command(Box::new(record(on))))?,
                        BackendMessage::LegCommand(command) => self.call.report(ConversationUpdate::Command(command))?,
                        BackendMessage::Warn(text) => self.call.report(ConversationUpdate::Warned(text))?,
                        BackendMessage::Note(text, data) => self.log.of_agent(text, data),
                        BackendMessage::EngineFailed(failure) => {
                            self.call.report(ConversationUpdate::EngineFailed(failure))?;
                        }
                        BackendMessage::Utterance(line) => self.call.report(ConversationUpdate::Utterance(line))?,
                        BackendMessage::PartialResult(values) => {
                            self.call.report(ConversationUpdate::PartialResult(values))?;
                        }
                        BackendMessage::RestartRecognition => if let Err(why) = self.start_recognition() {
                            self.recognition_failed(backend, &why).await?;
                        },
                    }
                }
                frame = tap.next() => match frame {
                    Some(frame) => self.push_audio(&recognise::samples(&frame)),
                    None => return Ok(End::Stopped),
                },
                heard = next_recognition(&mut self.recognition) => match heard {
                    Some(Ok(heard)) => self.turn_taking.handle_recognition(clock::now().instant, heard),
                    Some(Err(why)) => self.recognition_failed(backend, &why).await?,
                    None => {
                        let why = RecogniseError::Failed("the recogniser ended without a reason".to_owned());
                        self.recognition_failed(backend, &why).await?;
                    }
                },
                (piece, part) = self.playout.next() => {
                    let (progress, too_long) = self.playout.take(piece, part);
                    self.handle_progress(piece, progress)?;
                    self.is_too_long(backend, too_long).await?;
                }
                note = inputs.recv() => match note {
                    Some(ConversationInput::Mark(name)) => {
                        if let Some(piece) = self.playout.piece_of(&name) {
                            self.turn_taking.handle_mark(clock::now().instant, piece);
                        }
                    }
                    Some(ConversationInput::Digit(digit)) => self.turn_taking.handle_digit(clock::now().instant, digit),
                    Some(ConversationInput::Request(request)) => {
                        if !backend.request(clock::now().instant, request) {
                            self.turn_taking.malformed("an application takes no messages of other applications".to_owned());
                        }
                    }
                    Some(ConversationInput::Stop) | None => return Ok(End::Stopped),
                },
                () = sleep_until(due), if due.is_some() => self.turn_taking.handle_timeout(clock::now().instant),
            }
        }
    }

    /// Performs the outputs of `turn_taking`.
    async fn perform_outputs(&mut self, backend: &mut ConversationBackend) -> Result<Option<End>, Failure> {
        while let Some(order) = self.turn_taking.poll_output() {
            match order {
                TurnOutput::Make { piece, source } => {
                    self.playout.make(piece, source);
                }
                TurnOutput::Put { piece } => {
                    let too_long = self.playout.put(piece);
                    self.is_too_long(backend, too_long).await?;
                }
                TurnOutput::Forget { piece } => self.playout.forget(piece),
                TurnOutput::Clear => self.playout.clear(),
                TurnOutput::SendDigits(digits) => self.call.report(ConversationUpdate::SendDigits(digits))?,
                TurnOutput::Event(event) => {
                    self.log.live.event(&event);
                    backend.send(event, clock::now()).await?;
                }
                TurnOutput::Pause => self.playout.pause(),
                TurnOutput::Resume => self.playout.resume(),
                TurnOutput::RecogniseLanguage(code) => {
                    let (hints, model) = self.turn_taking.recogniser_settings(&code);
                    self.recognition_spec =
                        RecognitionSpec { language: language(&code), hints, model, ..self.recognition_spec.clone() };
                    if let Err(why) = self.start_recognition() {
                        self.recognition_failed(backend, &why).await?;
                    }
                }
                TurnOutput::Note(fact) => self.note(&fact),
                TurnOutput::EngineFailed(failure) => self.call.report(ConversationUpdate::EngineFailed(failure))?,
                TurnOutput::End(ConversationEnd::Handoff(word)) => {
                    return Ok(Some(End::Over { status: ConversationStatus::Ended(word), malformed: false }));
                }
                TurnOutput::End(end) => {
                    self.has_ended = true;
                    self.call.report(of_end(end))?;
                }
                TurnOutput::Over { status, malformed } => return Ok(Some(End::Over { status, malformed })),
            }
        }
        Ok(None)
    }

    /// Passes audio of the caller to the recogniser and to the voice detector.
    fn push_audio(&mut self, samples: &[i16]) {
        if !self.turn_taking.listens() {
            // Silence keeps the connection of the recogniser open.
            if let Some(recognition) = &self.recognition {
                recognition.push(&vec![0; samples.len()]);
            }
            return;
        }
        if let Some(recognition) = &self.recognition {
            recognition.push(samples);
        }
        if let Some(onset) = &mut self.onset
            && onset.push(samples)
        {
            self.turn_taking.handle_sound(clock::now().instant);
        }
    }

    fn note(&mut self, fact: &ConversationFact) {
        let timings = &self.shared.timings;
        match fact {
            ConversationFact::Interrupted { .. } => timings.count(Count::ConversationInterrupted, 1),
            ConversationFact::Turn(turn) => {
                let times = [(Timing::TurnWords, turn.words), (Timing::TurnToken, turn.token)];
                for (timing, time) in times.into_iter().chain([(Timing::TurnAudio, Some(turn.audio))]) {
                    time.into_iter().for_each(|time| timings.took(timing, time));
                }
            }
            _ => {}
        }
        self.log.note(fact);
    }

    /// Handles what a part of a piece changed.
    fn handle_progress(&mut self, piece: u64, progress: Option<Progress>) -> Result<(), CallOver> {
        let now = clock::now().instant;
        match progress {
            None => {}
            Some(Progress::Began) => self.turn_taking.audio_began(now, piece),
            Some(Progress::Complete(length)) => self.turn_taking.made(now, piece, Ok(length)),
            Some(Progress::InsteadOf(why)) => {
                let failure = EngineFailure::new(Engine::Voice, why).with_effect(EngineEffect::Recovered);
                self.call.report(ConversationUpdate::EngineFailed(failure))?;
            }
            Some(Progress::Failed(why, Duration::ZERO)) => self.turn_taking.made(now, piece, Err(why)),
            Some(Progress::Failed(why, length)) => {
                self.call.report(ConversationUpdate::EngineFailed(EngineFailure::new(Engine::Voice, why)))?;
                self.turn_taking.made(now, piece, Ok(length));
            }
        }
        Ok(())
    }

    /// Handles a piece that does not fit into the buffer of the media session. The caller does not hear the rest of it.
    async fn is_too_long(&mut self, backend: &mut ConversationBackend, piece: Option<u64>) -> Result<(), Failure> {
        let Some(piece) = piece else { return Ok(()) };
        let why = format!("audio longer than {} s is not played", LONGEST.as_secs());
        backend.send(ConversationEvent::Problem(why), clock::now()).await?;
        self.turn_taking.cut(piece);
        Ok(())
    }
}

/// Returns the report to the call that lets the call perform the end of a conversation.
pub(super) fn of_end(end: ConversationEnd) -> ConversationUpdate {
    match end {
        ConversationEnd::Handoff(word) => ConversationUpdate::Over(ConversationStatus::Ended(word)),
        ConversationEnd::Hangup => ConversationUpdate::HungUp,
        ConversationEnd::Run(program) => ConversationUpdate::Command(Box::new(Command::Run(*program))),
        ConversationEnd::RunThenReturn { program, agent } => {
            let command = Command::InterruptConversation { program: *program, agent };
            ConversationUpdate::Command(Box::new(command))
        }
    }
}

/// Returns the command that starts (`on`) or stops a recording.
pub(super) fn record(on: bool) -> Command {
    match on {
        true => Command::StartRecording(RecordingSpec::new(RecordingSource::Request, RecordingChannels::Dual)),
        false => Command::StopRecording(None),
    }
}

/// Waits for the next recognition event. Without a recogniser, the future never completes. This function is
/// cancel-safe.
async fn next_recognition(
    recognition: &mut Option<RecognitionSession>,
) -> Option<Result<tandem_call::recognition::RecognitionEvent, RecogniseError>> {
    match recognition {
        Some(recognition) => recognition.next().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn sleep_until(due: Option<std::time::Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stop_of_a_conversation_that_its_agent_has_ended_is_no_hang_up_of_the_caller() {
        assert_eq!(reason(&Ok(End::Stopped), false), Some(EndReason::Caller));
        assert_eq!(reason(&Ok(End::Stopped), true), None, "the agent has hung up or left");
        let over = || Err(Failure::from(CallOver));
        assert_eq!(reason(&over(), false), Some(EndReason::Caller), "the end of the call is no failure");
        assert_eq!(reason(&over(), true), None);
        let broken = Err(Failure::from(StreamFault::Closed.because("gone")));
        assert_eq!(reason(&broken, false), Some(EndReason::Failed));
    }
}
