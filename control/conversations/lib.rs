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
#![forbid(unsafe_code)]

mod backend;
mod live;
mod log;
mod phrases;
mod realtime;
mod turn_taking;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tandem_agent::{Agent, Agents};
use tandem_audio::{AudioError, AudioLoader, Loaded};
use tandem_call::command::Command;
use tandem_call::conversation::{ConversationSpec, ConversationStatus, ConversationTarget, NO_AGENT, Utterance};
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::recognition::RecognitionSpec;
use tandem_call::recording::{RecordingChannels, RecordingSource, RecordingSpec};
use tandem_call::stream::{CallOver, StreamFailure, StreamFault};
use tandem_dialect::conversation::{ConversationEnd, ConversationEvent, ConversationWire};
use tandem_history::call_port::CallPort;
use tandem_host::clock;
use tandem_http::websocket::Socket;
use tandem_http::{Client, without_credentials};
use tandem_id::{AccountName, ConversationId, LegId, OpId};
use tandem_media as media;
use tandem_metrics::timings::{Count, Timing, Timings};
use tandem_speech::recognise::{self, RecogniseError, Recogniser, RecognitionSession};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use backend::{BackendMessage, ConversationBackend};
pub use live::{ConversationFigures, ConversationState, FailedEngine, LiveConversation};
use log::ConversationLog;
use turn_taking::{ConversationFact, TurnOutput, TurnTaking};

/// Maximum number of inputs that wait for a conversation's task.
const MAX_INPUTS: usize = 1024;
/// Maximum number of frames of the caller's audio that wait. This number is two seconds of audio.
const TAP_FRAMES: usize = 100;
/// Maximum duration of one piece of audio, for example of a file that the application plays.
const LONGEST: Duration = Duration::from_secs(600);
/// The byte order of the caller's audio and of the voice.
const ORDER: media::ByteOrder = media::ByteOrder::Little;

/// The handle of a running conversation. The conversation's call keeps this handle.
pub struct ConversationHandle {
    pub id: ConversationId,
    /// The id of the operation that owns the conversation's tap and source in the media session.
    pub op: OpId,
    /// The activity of the conversation, for people who watch it.
    pub live: Arc<LiveConversation>,
    inputs: mpsc::Sender<ConversationInput>,
}

/// The parameters of a new conversation.
pub struct NewConversation {
    /// The leg of the caller.
    pub leg: LegId,
    /// The name of the leg's account.
    pub account: AccountName,
    pub id: ConversationId,
    /// The id of the operation that will own the conversation's tap and source in the media session.
    pub op: OpId,
    /// The settings of the conversation.
    pub spec: ConversationSpec,
    /// The wire format of the application's messages. `None` for an agent.
    pub wire: Option<Box<dyn ConversationWire>>,
    /// The ids of the conversation and of the leg in the provider's form, for the log.
    pub provider_ids: (String, String),
}

/// The conversations of the server: the agents, and the data that all conversations share.
pub struct Conversations {
    /// The voice agents of the configuration.
    pub agents: ArcSwap<Agents>,
    client: Client,
    audio: AudioLoader,
    recogniser: Arc<Recogniser>,
    /// Receives the times and counts of conversations.
    timings: Arc<Timings>,
    /// The maximum time without a message from the application. After this time the application's WebSocket is closed.
    /// `None` means no limit.
    idle: Option<Duration>,
}

/// A report from a conversation to its call.
pub enum ConversationUpdate {
    /// The other side is connected. The call must attach this media. The sink receives the caller's audio.
    Ready {
        /// Receives the caller's audio.
        sink: media::TapSink,
        /// Plays the audio of the other side.
        source: media::StreamSource,
    },
    /// Send these DTMF digits.
    SendDigits(String),
    /// Carry out a command for the leg, even if the conversation has ended by now.
    Command(Box<Command>),
    /// A line of the dialogue between the caller and an agent.
    Utterance(Utterance),
    /// An engine that works for the conversation failed.
    EngineFailed(EngineFailure),
    /// The agent hangs up.
    HungUp,
    /// The conversation has ended with this status.
    Over(ConversationStatus),
}

enum ConversationInput {
    Mark(Arc<str>),
    Digit(char),
    Stop,
}

impl Conversations {
    /// Creates the conversations of a server. `timings` receives the times and counts of the conversations. `idle` is
    /// the maximum time without a message from the application. After this time the application's WebSocket is closed.
    pub fn new(
        agents: Agents,
        client: Client,
        audio: AudioLoader,
        recogniser: Arc<Recogniser>,
        timings: Arc<Timings>,
        idle: Option<Duration>,
    ) -> Self {
        Self { agents: ArcSwap::from_pointee(agents), client, audio, recogniser, timings, idle }
    }

    /// Starts a conversation that reports to `call`.
    pub fn start(
        self: &Arc<Self>,
        call: Box<dyn CallPort<ConversationUpdate>>,
        new: NewConversation,
    ) -> ConversationHandle {
        let (sender, inputs) = mpsc::channel(MAX_INPUTS);
        let (with, is_agent) = match &new.spec.with {
            ConversationTarget::Agent(agent) => (agent.name.to_string(), true),
            ConversationTarget::Application(url) => (without_credentials(url), false),
        };
        let live = Arc::new(LiveConversation::new(with, is_agent));
        let handle = ConversationHandle { id: new.id, op: new.op, live: Arc::clone(&live), inputs: sender };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let status = run(&shared, &*call, new, inputs, live).await;
            // The call may be over.
            let _ = call.report(ConversationUpdate::Over(status));
        });
        handle
    }
}

impl ConversationHandle {
    /// Reports that the playout has reached this mark.
    pub fn mark(&self, name: Arc<str>) {
        self.send_input(ConversationInput::Mark(name));
    }

    /// Reports a DTMF digit from the caller.
    pub fn digit(&self, digit: char) {
        self.send_input(ConversationInput::Digit(digit));
    }

    /// Ends the conversation.
    pub fn stop(&self) {
        self.send_input(ConversationInput::Stop);
    }

    fn send_input(&self, note: ConversationInput) {
        // The channel becomes full if the WebSocket accepts no data for a long time. The conversation then fails soon.
        // The end of the handle also ends the conversation.
        if let Err(error) = self.inputs.try_send(note) {
            tracing::debug!(%error, "conversation takes no note");
        }
    }
}

async fn run(
    shared: &Conversations,
    call: &dyn CallPort<ConversationUpdate>,
    new: NewConversation,
    mut inputs: mpsc::Receiver<ConversationInput>,
    live: Arc<LiveConversation>,
) -> ConversationStatus {
    let NewConversation { leg, mut spec, wire, account, provider_ids, .. } = new;
    if let ConversationTarget::Agent(agent) = &spec.with
        && let Some(config) = shared.agents.load_full().get(&agent.name).filter(|config| config.model.is_realtime())
    {
        let (agent, config, client) = ((**agent).clone(), Arc::clone(config), shared.client.of_account(&account));
        let new = realtime::NewRealtime { leg, provider_ids, config, agent, client, live };
        return realtime::run(shared, call, new, inputs).await;
    }
    let opening = open_backend(shared, &account, &mut spec, wire);
    let mut backend = tokio::select! {
        opened = opening => match opened {
            Ok(backend) => backend,
            Err(why) => return ConversationStatus::Failed { after_start: false, why },
        },
        () = stopped(&mut inputs) => return ConversationStatus::Completed,
    };
    let (sink, tap) = media::tap(TAP_FRAMES, media::TapCodec::L16(ORDER));
    let (source, writer) = media::source(media::SourceCodec::L16(media::SourceRate::Hz8000, ORDER), LONGEST);
    let mut task = ConversationTask {
        log: ConversationLog::new(call, leg, provider_ids, shared.recogniser.shows_words(), live),
        recognition_spec: recognition_spec(&spec),
        onset: spec.words_decide_interruption.then(Onset::default),
        turn_taking: TurnTaking::new(spec),
        shared,
        call,
        account,
        writer,
        made: HashMap::new(),
        making: HashMap::new(),
        makers: JoinSet::new(),
        cleared: 0,
        recognition: None,
    };
    let end = match task.begin(&mut backend, sink, source).await {
        Ok(()) => task.run_loop(&mut backend, tap, inputs).await,
        Err(why) => Err(why),
    };
    task.log.end(task.turn_taking.totals());
    match end {
        Ok(End::Stopped) => {
            backend.close(false).await;
            ConversationStatus::Completed
        }
        Ok(End::Over { status, malformed }) => {
            // The close runs in a task of its own, so that the call can continue.
            tokio::spawn(async move { backend.close(malformed).await });
            status
        }
        Err(why) => ConversationStatus::Failed { after_start: true, why },
    }
}

/// Connects to the application, or creates the agent.
async fn open_backend(
    shared: &Conversations,
    account: &AccountName,
    spec: &mut ConversationSpec,
    wire: Option<Box<dyn ConversationWire>>,
) -> Result<ConversationBackend, StreamFailure> {
    let client = shared.client.of_account(account);
    match (spec.with.clone(), wire) {
        (ConversationTarget::Agent(agent), _) => {
            let unknown = || StreamFault::Internal.because(format!("{NO_AGENT} has the name {:?}", agent.name));
            let config = Arc::clone(shared.agents.load_full().get(&agent.name).ok_or_else(unknown)?);
            Ok(ConversationBackend::Agent(Box::new(Agent::new(config, client, *agent, spec))))
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

/// The state of the task that connects the caller and the application.
struct ConversationTask<'a> {
    turn_taking: TurnTaking,
    log: ConversationLog<'a>,
    shared: &'a Conversations,
    call: &'a dyn CallPort<ConversationUpdate>,
    account: AccountName,
    writer: media::StreamWriter,
    /// The audio of the pieces that are not yet played, as octets.
    made: HashMap<u64, Bytes>,
    making: HashMap<u64, AbortHandle>,
    makers: JoinSet<(u64, Result<Loaded, AudioError>)>,
    /// Number of times that the source was cleared. A mark that was set before the latest clear is ignored.
    cleared: u64,
    recognition_spec: RecognitionSpec,
    recognition: Option<RecognitionSession>,
    /// Detects a voice earlier than the recogniser does. This detector is used only if recognised words decide about
    /// interruptions.
    onset: Option<Onset>,
}

/// Number of consecutive frames with a possible voice after which the playout pauses. Two frames are 40 ms.
const ONSET_FRAMES: u8 = 2;

/// Level in dBFS above which a sound may be a voice. Callers are louder than this level. Noise and the echo of the
/// agent are mostly quieter.
const VOICE_LEVEL_DBFS: f32 = -35.0;

/// Detects that the caller may have started to speak.
struct Onset {
    activity: media::VoiceActivity,
    active: u8,
}

impl Default for Onset {
    fn default() -> Self {
        Self { activity: media::VoiceActivity::new(media::SampleRate::Hz8000), active: 0 }
    }
}

impl Onset {
    /// Takes the next 20 ms of audio. Returns `true` at the moment when the caller may have started to speak.
    fn push(&mut self, samples: &[i16]) -> bool {
        let activity = self.activity.handle_frame(samples);
        // The detector needs some time until it reports a voice. Before that, a loud sound counts as a voice.
        let active = activity.active || (activity.sound && activity.level > VOICE_LEVEL_DBFS);
        self.active = if active { self.active.saturating_add(1) } else { 0 };
        self.active == ONSET_FRAMES
    }
}

impl ConversationTask<'_> {
    async fn begin(
        &mut self,
        backend: &mut ConversationBackend,
        sink: media::TapSink,
        source: media::StreamSource,
    ) -> Result<(), StreamFailure> {
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
    ) -> Result<(), StreamFailure> {
        self.recognition = None;
        if !backend.reports_recognition() {
            let failure = EngineFailure::new(Engine::Recogniser, why.to_string());
            self.call.report(ConversationUpdate::EngineFailed(failure))?;
        }
        backend.send(ConversationEvent::RecognitionFailed(why.to_string()), clock::now()).await
    }

    fn start_recognition(&mut self) -> Result<(), RecogniseError> {
        self.recognition = None;
        self.recognition = Some(self.shared.recogniser.listen(&self.recognition_spec)?);
        Ok(())
    }

    async fn run_loop(
        &mut self,
        backend: &mut ConversationBackend,
        mut tap: media::TapReader,
        mut inputs: mpsc::Receiver<ConversationInput>,
    ) -> Result<End, StreamFailure> {
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
                        BackendMessage::Closed(why) => return Err(why),
                        BackendMessage::Record(on) => self.call.report(ConversationUpdate::Command(Box::new(record(on))))?,
                        BackendMessage::Note(text, data) => self.log.of_agent(text, data),
                        BackendMessage::EngineFailed(failure) => {
                            self.call.report(ConversationUpdate::EngineFailed(failure))?;
                        }
                        BackendMessage::Utterance(line) => self.call.report(ConversationUpdate::Utterance(line))?,
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
                    None => self.recognition = None,
                },
                Some(made) = self.makers.join_next() => {
                    // Aborted pieces are no longer in `making`.
                    if let Ok((piece, made)) = made && self.making.remove(&piece).is_some() {
                        self.take(piece, made)?;
                    }
                }
                note = inputs.recv() => match note {
                    Some(ConversationInput::Mark(name)) => {
                        if let Some(piece) = self.piece(&name) {
                            self.turn_taking.handle_mark(clock::now().instant, piece);
                        }
                    }
                    Some(ConversationInput::Digit(digit)) => self.turn_taking.handle_digit(clock::now().instant, digit),
                    Some(ConversationInput::Stop) | None => return Ok(End::Stopped),
                },
                () = sleep_until(due), if due.is_some() => self.turn_taking.handle_timeout(clock::now().instant),
            }
        }
    }

    /// Performs the outputs of `turn_taking`.
    async fn perform_outputs(&mut self, backend: &mut ConversationBackend) -> Result<Option<End>, StreamFailure> {
        while let Some(order) = self.turn_taking.poll_output() {
            match order {
                TurnOutput::Make { piece, source } => {
                    let (audio, account) = (self.shared.audio.clone(), self.account.clone());
                    let making = self.makers.spawn(async move { (piece, audio.get_soon(&source, &account).await) });
                    self.making.insert(piece, making);
                }
                TurnOutput::Put { piece } => {
                    let octets = self.made.get(&piece).cloned().unwrap_or_default();
                    if self.writer.audio(octets).is_err() {
                        // No audio of this piece is queued, so the mark of the piece returns at once.
                        let why = ConversationEvent::Problem(format!(
                            "audio longer than {} s is not played",
                            LONGEST.as_secs()
                        ));
                        backend.send(why, clock::now()).await?;
                    }
                    self.writer.mark(format!("{}:{piece}", self.cleared).into());
                }
                TurnOutput::Forget { piece } => {
                    self.made.remove(&piece);
                    if let Some(making) = self.making.remove(&piece) {
                        making.abort();
                    }
                }
                TurnOutput::Clear => {
                    self.cleared += 1;
                    self.writer.clear();
                }
                TurnOutput::SendDigits(digits) => self.call.report(ConversationUpdate::SendDigits(digits))?,
                TurnOutput::Event(event) => {
                    self.log.live.event(&event);
                    backend.send(event, clock::now()).await?;
                }
                TurnOutput::Pause => self.writer.pause(),
                TurnOutput::Resume => self.writer.resume(),
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
                TurnOutput::End(ConversationEnd::Hangup) => self.call.report(ConversationUpdate::HungUp)?,
                TurnOutput::End(ConversationEnd::Run(program)) => {
                    self.call.report(ConversationUpdate::Command(Box::new(Command::Run(*program))))?;
                }
                TurnOutput::Over { status, malformed } => return Ok(Some(End::Over { status, malformed })),
            }
        }
        Ok(None)
    }

    /// Passes audio of the caller to the recogniser and to the voice detector.
    fn push_audio(&mut self, samples: &[i16]) {
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

    /// Stores the audio of a piece, or reports why the piece has no audio.
    fn take(&mut self, piece: u64, made: Result<Loaded, AudioError>) -> Result<(), CallOver> {
        let now = clock::now().instant;
        match made {
            Ok(Loaded { audio, instead_of }) => {
                if let Some(why) = instead_of {
                    let failure = EngineFailure::new(Engine::Voice, why).with_effect(EngineEffect::Recovered);
                    self.call.report(ConversationUpdate::EngineFailed(failure))?;
                }
                let octets: Vec<u8> = audio.samples().iter().flat_map(|sample| sample.to_le_bytes()).collect();
                let length = audio.duration();
                self.made.insert(piece, octets.into());
                self.turn_taking.made(now, piece, Ok(length));
            }
            Err(why) => self.turn_taking.made(now, piece, Err(why.to_string())),
        }
        Ok(())
    }

    /// Returns the piece to which this mark belongs. Returns `None` if the mark was set before the latest clear.
    fn piece(&self, mark: &str) -> Option<u64> {
        let (cleared, piece) = mark.split_once(':')?;
        (cleared.parse() == Ok(self.cleared)).then(|| piece.parse().ok())?
    }
}

/// Returns the command that starts (`on`) or stops a recording.
fn record(on: bool) -> Command {
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

async fn sleep_until(due: Option<std::time::Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}
