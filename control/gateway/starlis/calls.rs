//! The calls that the gateway makes, and the audio and transcripts of these calls.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tandem_call::address::{Address, PhoneNumber};
use tandem_call::command::{Command, Refused, Request};
use tandem_call::conversation::{AgentSpec, ConversationStatus};
use tandem_call::event::{CallEvent, EventKind};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{LegInfo, LegOwner, TargetLegs};
use tandem_call::new_leg::OnAnswer;
use tandem_call::program::instruction::{AudioSource, Play, Speech};
use tandem_call::recognition::RecognitionSpec;
use tandem_call::recording::Track;
use tandem_call::stream::{ConnectTiming, StreamCodec, StreamSpec, StreamTransport};
use tandem_call::transcription::{TranscriptionSpec, TranscriptionStatus};
use tandem_events::{Filter, Subscription};
use tandem_host::clock;
use tandem_id::LegId;
use tandem_routing::agent_program;
use tandem_routing::new_call::{CreateError, NewCall};
use tandem_store::StoreFailed;
use tandem_streams::local::{LocalMessage, LocalStream};
use tandem_twilio as twilio;

use super::sockets::Subscribed;
use super::{LiveCall, Starlis, Tracks};
use crate::frontends::{Frontends, NORMAL, WhenFull};

/// Capacity of the message queue of a frontend. The queue can contain two seconds of audio.
const ROOM: usize = 100;
/// Maximum time for the last audio of a call after the end of the call.
const LAST_MESSAGES: Duration = Duration::from_secs(2);
/// The client state of the calls that the gateway makes begins with this text, and ends with the user who made the call. The
/// gateway shows and ends only calls with such a state, and only for their user. The API of this dialect cannot set a
/// client state.
const OWN_CALL: &str = "gateways.starlis ";
/// Name of the transcription that the gateway starts on a call.
const TRANSCRIPTION: &str = "gateway";

/// The reason why a request of a user was not carried out. The text is for the user.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the server has no account")]
    NoAccount,
    #[error("the account has no calling number: set gateways.starlis.from")]
    NoCallingNumber,
    #[error(transparent)]
    NotCreated(#[from] CreateError),
    /// The user has no call with this id.
    #[error("The requested call {0} was not found")]
    Unknown(String),
    #[error("Call is not in-progress. Cannot redirect.")]
    Ended,
    #[error(transparent)]
    Refused(Refused),
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A request for a call: the user, the number to call, and the texts for the agent.
pub(super) struct CallRequest {
    pub(super) user: Arc<str>,
    pub(super) to: PhoneNumber,
    pub(super) prompt: Option<String>,
    pub(super) first_message: Option<String>,
}

impl Starlis {
    /// Calls a number.
    pub(super) async fn call(self: &Arc<Self>, request: CallRequest) -> Result<LegId, CallError> {
        let calls = &self.app.calls;
        let services = calls.services();
        let account = crate::account(&self.app, self.config.account.as_ref());
        let account = account.ok_or(CallError::NoAccount)?;
        let own = || services.routing.load_full().any_number(&account);
        let from = self.config.from.clone().map(Address::Phone).or_else(own);
        let from = from.ok_or(CallError::NoCallingNumber)?;
        let leg = LegId::new(clock::time(), &mut rand::rng());
        // The subscription starts before the call, so that no event and no message is lost.
        let following = services.events.subscribe(Filter::leg(leg)).map_err(|_| CreateError::Full)?;
        let stream = services.streams.local().expect(leg);
        let (to, user) = (Address::Phone(request.to.clone()), Arc::clone(&request.user));
        let client_state = Some(format!("{OWN_CALL}{}", request.user));
        let mut new = NewCall::plain(LegOwner::new(account, twilio::NAME), to, from, self.first(request));
        new.plan.stream = Some(self.stream());
        let new = NewCall { client_state, ..new };
        let frontends = Arc::new(Frontends::new(ROOM, WhenFull::Skip));
        self.live.lock().insert(leg, LiveCall { user, frontends: Arc::clone(&frontends) });
        if let Err(error) = calls.create_if_allowed(leg, new).await {
            self.live.lock().remove(&leg);
            return Err(error.into());
        }
        let starlis = Arc::clone(self);
        tokio::spawn(async move {
            starlis.follow_call(following, stream, &frontends).await;
            starlis.live.lock().remove(&leg);
            frontends.close(NORMAL, "Call ended");
        });
        Ok(leg)
    }

    /// Returns the first action after the answer. With a configured agent, the action is a conversation with this
    /// agent. Without an agent, the action is to speak the first message.
    fn first(&self, request: CallRequest) -> OnAnswer {
        if let Some(name) = &self.config.agent {
            return OnAnswer::Program(agent_program(AgentSpec {
                name: Arc::clone(name),
                prompt: request.prompt.map(Into::into),
                first_message: request.first_message.map(Into::into),
                ..AgentSpec::default()
            }));
        }
        match request.first_message {
            Some(text) => {
                let speech = Speech { text, ssml: false, voice: None, language: None };
                OnAnswer::Play(Play::once(AudioSource::Speech(speech)))
            }
            None => OnAnswer::Wait,
        }
    }

    /// The settings of the stream with a call's audio. Each message has 20 ms of audio without a header.
    fn stream(&self) -> StreamSpec {
        StreamSpec {
            url: "gateway:starlis".to_owned(),
            name: None,
            track: self.track(),
            codec: Some(StreamCodec::Pcmu),
            bidirectional_mode: None,
            parameters: Vec::new(),
            callback: None,
            target_legs: TargetLegs::Own,
            auth_token: None,
            connect_timing: ConnectTiming::AtAnswer,
            transport: StreamTransport::Octets,
        }
    }

    fn track(&self) -> Track {
        match self.config.tracks {
            Tracks::Inbound => Track::Inbound,
            Tracks::Both => Track::Both,
        }
    }

    /// Sends the audio and transcript of the call to the call's frontends until the call ends.
    async fn follow_call(
        &self,
        mut following: Subscription,
        mut stream: LocalStream,
        frontends: &Frontends<Subscribed>,
    ) {
        let mut streaming = true;
        loop {
            tokio::select! {
                event = following.next_of_leg() => match event {
                    Some(event) => self.happened(&event, frontends).await,
                    None => break,
                },
                message = stream.next(), if streaming => match message {
                    Some(message) => received(frontends, &message),
                    None => streaming = false,
                },
            }
        }
        let rest = async {
            while let Some(message) = stream.next().await {
                received(frontends, &message);
            }
        };
        // Messages that arrive later are dropped.
        let _ = tokio::time::timeout(LAST_MESSAGES, rest).await;
    }

    async fn happened(&self, event: &CallEvent, frontends: &Frontends<Subscribed>) {
        match &event.kind {
            // With an agent, the conversation reports the recognised words.
            EventKind::Answered { .. }
                if self.config.agent.is_none() && !self.app.calls.services().recogniser.is_off() =>
            {
                let command = Command::StartTranscription(Box::new(self.transcription()));
                // If the command fails, the call continues without a transcription. The log of the call has the reason.
                let _ = self.app.calls.request(event.leg.id, Request { client_state: None, command }).await;
            }
            EventKind::Transcription(facts) => {
                if let TranscriptionStatus::Recognised { words, is_final: true, .. } = &facts.status {
                    send_transcription(frontends, &words.text());
                }
            }
            EventKind::Conversation(facts) => {
                if let ConversationStatus::Utterance(line) = &facts.status
                    && (!line.by_agent || self.config.tracks == Tracks::Both)
                {
                    send_transcription(frontends, &line.text);
                }
            }
            _ => {}
        }
    }

    fn transcription(&self) -> TranscriptionSpec {
        TranscriptionSpec {
            name: Some(TRANSCRIPTION.to_owned()),
            track: self.track(),
            recognition: RecognitionSpec { punctuation: true, ..RecognitionSpec::default() },
            labels: (None, None),
            engine: (String::new(), String::new()),
            at_end: false,
            if_none_runs: true,
            callback: None,
        }
    }

    /// Finds a live or ended call that the gateway has made for this user.
    pub(super) async fn find(&self, call_sid: &str, user: &str) -> Result<Arc<LegInfo>, CallError> {
        let unknown = || CallError::Unknown(call_sid.to_owned());
        let account = crate::account(&self.app, self.config.account.as_ref()).ok_or_else(unknown)?;
        let leg = self.leg(call_sid).ok_or_else(unknown)?;
        let found = self.app.calls.get(&account, leg).await?;
        let of =
            |leg: &LegInfo| leg.client_state.as_deref().and_then(|state| state.strip_prefix(OWN_CALL)) == Some(user);
        found.filter(|leg| of(leg)).ok_or_else(unknown)
    }

    /// Ends a call of this user.
    pub(super) async fn end(&self, call_sid: &str, user: &str) -> Result<(), CallError> {
        let leg = self.find(call_sid, user).await?;
        let command = Command::Hangup { headers: HeaderFields::new() };
        match self.app.calls.request(leg.id, Request { client_state: None, command }).await {
            Ok(_) => Ok(()),
            Err(Refused::NoSuchLeg | Refused::Ended) => Err(CallError::Ended),
            Err(refused) => Err(CallError::Refused(refused)),
        }
    }

    /// Returns the id that frontends use for a call.
    pub(super) fn call_sid(&self, leg: LegId) -> String {
        let services = self.app.calls.services();
        services.dialects.get(twilio::NAME).map(|dialect| dialect.call_id(leg)).unwrap_or_default()
    }

    pub(super) fn leg(&self, call_sid: &str) -> Option<LegId> {
        self.app.calls.services().dialects.get(twilio::NAME)?.parse_call_id(call_sid)
    }
}

fn send_transcription(frontends: &Frontends<Subscribed>, text: &str) {
    if !text.is_empty() {
        let event = json!({ "event": "transcription", "text": text }).to_string();
        frontends.broadcast(&event.into(), Subscribed::has);
    }
}

fn received(frontends: &Frontends<Subscribed>, message: &LocalMessage) {
    if let LocalMessage::Octets(octets) = message {
        let mut text = String::with_capacity(256);
        text.push_str(r#"{"event":"audio","payload":""#);
        STANDARD.encode_string(octets, &mut text);
        text.push_str(r#""}"#);
        frontends.broadcast(&text.into(), Subscribed::has);
    }
}
