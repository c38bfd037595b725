//! A conversation with a realtime model. The task sends the caller's audio to the model's WebSocket, and plays the
//! model's audio to the caller.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_agent::AgentConfig;
use tandem_agent::realtime::{Dialogue, Event, Format, RealtimeOutput, append, decode};
use tandem_call::conversation::{AgentSpec, ConversationStatus};
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::stream::StreamFailure;
use tandem_dialect::agent::{AgentScript, EndReason, Response};
use tandem_dialect::conversation::ConversationEnd;
use tandem_history::call_port::CallPort;
use tandem_host::clock;
use tandem_http::Client;
use tandem_http::websocket::{NORMAL, Socket, SocketMessage};
use tandem_id::LegId;
use tandem_media as media;
use tandem_metrics::timings::{Count, Timing};
use tandem_metrics::turns::Turns;
use tandem_speech::recognise;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::log::ConversationLog;
use super::onset::Onset;
use super::task::{AfterEnd, of_end, record, sleep_until};
use super::turn_taking::ConversationFact;
use super::{
    ConversationInput, ConversationUpdate, Conversations, LONGEST, LiveConversation, MAX_INPUTS, ORDER, TAP_FRAMES,
};

/// Maximum number of WebSockets in one conversation. A lost WebSocket is replaced until this number is reached.
const MAX_SOCKETS: u32 = 3;
/// Number of samples in 20 ms at 8,000 Hz. `FRAME_24K` is the number at 24,000 Hz, and `FRAME_48K` is the number at the
/// intermediate rate of 48,000 Hz.
const FRAME_8K: usize = 160;
const FRAME_24K: usize = 480;
const FRAME_48K: usize = 960;

/// The parameters of a conversation.
pub(super) struct NewRealtime {
    pub(super) leg: LegId,
    pub(super) provider_ids: (String, String),
    pub(super) config: Arc<AgentConfig>,
    pub(super) agent: AgentSpec,
    pub(super) script: Option<Box<dyn AgentScript>>,
    pub(super) client: Client,
    pub(super) live: Arc<LiveConversation>,
}

/// Runs a conversation until one side ends it.
pub(super) async fn run(
    shared: &Conversations,
    call: &dyn CallPort<ConversationUpdate>,
    new: NewRealtime,
    mut inputs: mpsc::Receiver<ConversationInput>,
) -> (ConversationStatus, Option<AfterEnd>) {
    let NewRealtime { leg, provider_ids, config, agent, script, client, live } = new;
    let (sink, mut tap) = media::tap(TAP_FRAMES, media::TapCodec::L16(ORDER));
    let mut task = RealtimeTask {
        dialogue: Dialogue::new(Arc::clone(&config), agent, script, clock::now()),
        log: ConversationLog::new(call, leg, provider_ids, shared.recogniser.shows_words(), live),
        turns: Turns::default(),
        shared,
        call,
        client,
        config,
        socket: None,
        sockets: 0,
        sink: Some(sink),
        writer: None,
        running: JoinSet::new(),
        onset: Onset::default(),
        upsampler: media::Resampler::new(media::SampleRate::Hz8000, media::SampleRate::Hz48000),
        opening: None,
        waiting: VecDeque::new(),
    };
    task.dialogue.start(clock::now().instant);
    task.open();
    let (status, why) = loop {
        if let Some(status) = task.perform().await {
            break (status, None);
        }
        let due = task.dialogue.poll_timeout();
        // While the WebSocket opens, the requests and the answers for the model wait.
        let is_open = task.opening.is_none();
        tokio::select! {
            opened = next_socket(&mut task.opening) => task.opened(opened),
            word = next_message(&mut task.socket) => task.take(word),
            frame = tap.next() => match frame {
                Some(frame) => task.listen(&recognise::samples(&frame)).await,
                None => break (ConversationStatus::Completed, Some(EndReason::Caller)),
            },
            Some(ran) = task.running.join_next(), if is_open => if let Ok((call, result)) = ran {
                task.dialogue.handle_response(clock::now().instant, &call, result.as_ref().map_err(Clone::clone));
            },
            note = next_input(&mut inputs, &mut task.waiting, is_open) => match note {
                Some(ConversationInput::Digit(key)) => {
                    let queued = task.queued();
                    task.dialogue.handle_digit(clock::now().instant, queued, key);
                }
                // Marks are not needed, because the amount of waiting audio is known.
                Some(ConversationInput::Mark(_)) => {}
                Some(ConversationInput::Request(request)) => {
                    task.dialogue.handle_request(clock::now().instant, request);
                }
                Some(ConversationInput::Stop) | None => break (ConversationStatus::Completed, Some(EndReason::Caller)),
            },
            () = sleep_until(due), if due.is_some() => {
                let queued = task.queued();
                task.dialogue.handle_timeout(clock::now().instant, queued);
            }
        }
    };
    task.log.end(task.turns.totals());
    if let Some(socket) = task.socket.take() {
        tokio::spawn(socket.close(NORMAL, ""));
    }
    let queued = task.queued();
    let RealtimeTask { dialogue, client, .. } = task;
    let after = dialogue.finish(client, clock::now().instant, queued, why);
    (status, Some(Box::pin(after)))
}

/// A WebSocket that opens.
type Opening = Pin<Box<dyn Future<Output = Result<Socket, StreamFailure>> + Send>>;

/// Waits until the WebSocket is open. If no WebSocket opens, the future never completes. This function is cancel-safe.
async fn next_socket(opening: &mut Option<Opening>) -> Result<Socket, StreamFailure> {
    match opening {
        Some(socket) => socket.await,
        None => std::future::pending().await,
    }
}

/// Returns the next input of the call. If the model's WebSocket is not open, only the end is returned, and the other inputs wait.
/// Further inputs than [`MAX_INPUTS`] are dropped. This function is cancel-safe.
async fn next_input(
    inputs: &mut mpsc::Receiver<ConversationInput>,
    waiting: &mut VecDeque<ConversationInput>,
    is_open: bool,
) -> Option<ConversationInput> {
    if is_open && let Some(input) = waiting.pop_front() {
        return Some(input);
    }
    loop {
        match inputs.recv().await {
            Some(input) if !is_open && !matches!(input, ConversationInput::Stop) => {
                if waiting.len() < MAX_INPUTS {
                    waiting.push_back(input);
                }
            }
            input => return input,
        }
    }
}

/// Waits for the next message of the model. Without a WebSocket, the future never completes. This function is
/// cancel-safe.
async fn next_message(socket: &mut Option<Socket>) -> SocketMessage {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

struct RealtimeTask<'a> {
    dialogue: Dialogue,
    log: ConversationLog<'a>,
    turns: Turns,
    shared: &'a Conversations,
    call: &'a dyn CallPort<ConversationUpdate>,
    client: Client,
    config: Arc<AgentConfig>,
    socket: Option<Socket>,
    sockets: u32,
    /// The sink of the tap. `None` after the session has become ready.
    sink: Option<media::TapSink>,
    writer: Option<media::StreamWriter>,
    running: JoinSet<(String, Result<Response, String>)>,
    onset: Onset,
    upsampler: media::Resampler,
    opening: Option<Opening>,
    /// The inputs of the call that wait for the WebSocket.
    waiting: VecDeque<ConversationInput>,
}

impl RealtimeTask<'_> {
    /// Begins to open a WebSocket.
    fn open(&mut self) {
        self.sockets += 1;
        let (client, config) = (self.client.clone(), Arc::clone(&self.config));
        let timings = Arc::clone(&self.shared.timings);
        self.opening = Some(Box::pin(async move {
            let (model, began) = (&config.model, clock::now().instant);
            let socket = Socket::open(&client, model.realtime_url().as_str(), model.realtime_headers(), None).await?;
            timings.took(Timing::ConversationConnect, clock::now().instant.saturating_duration_since(began));
            Ok(socket)
        }));
    }

    /// Starts a session over the WebSocket that is open now.
    fn opened(&mut self, opened: Result<Socket, StreamFailure>) {
        self.opening = None;
        match opened {
            Ok(socket) => {
                self.socket = Some(socket);
                self.dialogue.begin(clock::now().instant);
            }
            Err(why) => self.model_failed(&why.detail),
        }
    }

    /// Handles the permanent loss of the model.
    fn model_failed(&mut self, why: &str) {
        self.socket = None;
        self.dialogue.failed(why);
    }

    fn queued(&self) -> Duration {
        self.writer.as_ref().map(media::StreamWriter::queued).unwrap_or_default()
    }

    fn take(&mut self, word: SocketMessage) {
        match word {
            SocketMessage::Text(text) => {
                let event = decode(&text);
                let now = clock::now().instant;
                if event == Event::Speech(false) {
                    self.turns.caller_paused(now);
                }
                let queued = self.queued();
                self.dialogue.event(now, queued, event);
                if self.dialogue.is_ready() && self.writer.is_none() {
                    self.ready();
                }
            }
            // Realtime models send no binary messages.
            SocketMessage::Binary => {}
            SocketMessage::Closed(how) => {
                let why =
                    how.err().map_or_else(|| "the model's server closed the connection".to_owned(), |why| why.detail);
                self.socket = None;
                if self.sockets < MAX_SOCKETS {
                    let why = format!("reconnecting to the model: {why}");
                    self.dialogue.report(EngineFailure::new(Engine::Model, why), EngineEffect::Recovered);
                    self.dialogue.lost();
                    self.open();
                } else {
                    self.model_failed(&why);
                }
            }
        }
    }

    /// Connects the session to the leg's audio when the session becomes ready.
    fn ready(&mut self) {
        let Some(sink) = self.sink.take() else { return };
        let codec = match self.dialogue.format() {
            Format::Pcmu => media::SourceCodec::Law(media::g711::Law::Mu),
            Format::Pcm24 => media::SourceCodec::L16(media::SourceRate::Hz24000, ORDER),
        };
        let (source, writer) = media::source(codec, LONGEST);
        self.writer = Some(writer);
        self.post(ConversationUpdate::Ready { sink, source });
    }

    /// Handles 20 ms of the caller's audio.
    async fn listen(&mut self, samples: &[i16]) {
        if self.onset.push(samples) {
            let queued = self.queued();
            self.dialogue.handle_sound(clock::now().instant, queued);
        }
        let octets = match self.dialogue.format() {
            Format::Pcmu => {
                let mut octets = vec![0; samples.len()];
                media::g711::Law::Mu.encode(samples, &mut octets);
                octets
            }
            Format::Pcm24 => self.upsample(samples),
        };
        if self.dialogue.is_ready()
            && let Some(socket) = &mut self.socket
            && let Err(why) = socket.send(append(&octets)).await
        {
            self.model_failed(&why.detail);
        }
    }

    /// Converts samples to 24,000 Hz. The function first resamples the samples to 48,000 Hz, and then drops every
    /// second sample.
    fn upsample(&mut self, samples: &[i16]) -> Vec<u8> {
        let mut between = [0; FRAME_48K];
        let mut octets = Vec::with_capacity(2 * FRAME_24K);
        for frame in samples.chunks(FRAME_8K) {
            self.upsampler.process(frame, &mut between);
            let used = frame.len() * FRAME_48K / FRAME_8K;
            octets.extend(between.iter().take(used).step_by(2).flat_map(|sample| sample.to_le_bytes()));
        }
        octets
    }

    /// Performs the actions of the dialogue. Returns a status if the conversation is over.
    async fn perform(&mut self) -> Option<ConversationStatus> {
        while let Some(act) = self.dialogue.poll_output() {
            match act {
                RealtimeOutput::Send(message) => {
                    if let Some(socket) = &mut self.socket
                        && let Err(why) = socket.send(message.to_string()).await
                    {
                        self.model_failed(&why.detail);
                    }
                }
                RealtimeOutput::Play(octets) => {
                    self.answered(clock::now().instant);
                    if let Some(writer) = &self.writer
                        && writer.audio(octets).is_err()
                    {
                        let why = format!("audio longer than {} s is not played", LONGEST.as_secs());
                        self.log.of_agent(why, serde_json::json!({ "event": "problem" }));
                    }
                }
                RealtimeOutput::Clear => self.writer.iter().for_each(media::StreamWriter::clear),
                RealtimeOutput::Pause(true) => self.writer.iter().for_each(media::StreamWriter::pause),
                RealtimeOutput::Pause(false) => self.writer.iter().for_each(media::StreamWriter::resume),
                RealtimeOutput::SendRequest(request) => drop(self.running.spawn(request.send(self.client.clone()))),
                RealtimeOutput::SendDigits(digits) => self.post(ConversationUpdate::SendDigits(digits)),
                RealtimeOutput::LegCommand(command) => self.post(ConversationUpdate::Command(command)),
                RealtimeOutput::Warn(text) => self.post(ConversationUpdate::Warned(text)),
                RealtimeOutput::Record(on) => self.post(ConversationUpdate::Command(Box::new(record(on)))),
                RealtimeOutput::End(ConversationEnd::Handoff(word)) => return Some(ConversationStatus::Ended(word)),
                RealtimeOutput::End(end) => self.post(of_end(end)),
                RealtimeOutput::Utterance(line) => {
                    self.log.note(&match line.by_agent {
                        true => ConversationFact::Spoken(line.text.to_string()),
                        false => ConversationFact::Heard { text: line.text.to_string(), sent: true },
                    });
                    self.post(ConversationUpdate::Utterance(line));
                }
                RealtimeOutput::PartialResult(values) => self.post(ConversationUpdate::PartialResult(values)),
                RealtimeOutput::Interrupted => {
                    self.turns.interrupted();
                    self.shared.timings.count(Count::ConversationInterrupted, 1);
                }
                RealtimeOutput::Note(text, data) => self.log.of_agent(text, data),
                RealtimeOutput::EngineFailed(failure) => self.post(ConversationUpdate::EngineFailed(failure)),
            }
        }
        None
    }

    /// Handles the playout of a response. The first audio of a response completes the turn, which is then logged.
    fn answered(&mut self, now: Instant) {
        if let Some(turn) = self.turns.spoke_at_last(now) {
            self.shared.timings.took(Timing::TurnAudio, turn.audio);
            self.log.note(&ConversationFact::Turn(turn));
        }
    }

    fn post(&self, update: ConversationUpdate) {
        // An error is ignored. If the call has ended, the call has stopped this conversation.
        let _ = self.call.report(update);
    }
}
