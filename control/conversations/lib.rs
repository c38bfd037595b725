//! Conversations of callers with applications and voice agents. `task.rs` is the task of one conversation, and `realtime.rs` that with
//! a realtime model.
#![forbid(unsafe_code)]

mod backend;
mod live;
mod log;
mod onset;
mod phrases;
mod playout;
mod pronunciation;
mod realtime;
mod task;
mod turn_taking;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tandem_agent::{Agent, Agents};
use tandem_audio::AudioLoader;
use tandem_call::command::Command;
use tandem_call::conversation::{
    AgentSpec, ConversationRequest, ConversationSpec, ConversationStatus, ConversationTarget, Utterance,
};
use tandem_call::engine::EngineFailure;
use tandem_dialect::agent::{AgentScript, EndReason};
use tandem_dialect::conversation::ConversationWire;
use tandem_history::call_port::CallPort;
use tandem_http::{Client, without_credentials};
use tandem_id::{AccountName, ConversationId, LegId, OpId};
use tandem_media as media;
use tandem_metrics::timings::Timings;
use tandem_speech::recognise::Recogniser;
use tokio::sync::mpsc;

pub use live::{ConversationFigures, ConversationState, FailedEngine, LiveConversation};

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
    /// The script of an agent that a document defines, or the reason why its definition is not valid.
    pub script: Option<Result<Box<dyn AgentScript>, String>>,
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
    /// The agent knows these values so far. The text is a JSON object.
    PartialResult(String),
    /// A part of the agent's definition, or of an answer of its web server, was ignored.
    Warned(String),
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
    Request(ConversationRequest),
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
            let leg = new.leg;
            let (status, after) = task::run(&shared, &*call, new, inputs, live).await;
            // The call may be over.
            let _ = call.report(ConversationUpdate::Over(status));
            if let Some(after) = after {
                log::log_reports(&*call, leg, after.await);
            }
        });
        handle
    }

    /// Does the work that follows the conversation of an agent that has left for a document, and did not come back before the end
    /// of the leg.
    pub fn finish_absent(
        self: &Arc<Self>,
        call: Box<dyn CallPort<ConversationUpdate>>,
        leg: LegId,
        account: &AccountName,
        agent: AgentSpec,
        script: Box<dyn AgentScript>,
    ) {
        let agents = self.agents.load_full();
        let Some(config) = agents.find(&agent.name).or_else(|| agents.find("")).map(Arc::clone) else { return };
        let client = self.client.of_account(account);
        let mut spec = ConversationSpec::new(ConversationTarget::Agent(Box::new(agent.clone())));
        tokio::spawn(async move {
            let agent = Agent::new(config, client, agent, &mut spec, Some(script));
            log::log_reports(&*call, leg, agent.finish(Some(EndReason::Caller)).await);
        });
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

    /// Passes a request of an application to the conversation.
    pub fn ask(&self, request: ConversationRequest) {
        self.send_input(ConversationInput::Request(request));
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
