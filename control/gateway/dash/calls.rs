//! The calls that the gateway makes, and the events and audio of these calls.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;
use tandem_call::address::{Address, PhoneNumber};
use tandem_call::command::{Command, Refused, Request};
use tandem_call::event::CallEvent;
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{EndCause, LegOwner, TargetLegs};
use tandem_call::new_leg::OnAnswer;
use tandem_call::recording::Track;
use tandem_call::stream::{BidirectionalMode, ConnectTiming, StreamCodec, StreamSpec, StreamTransport};
use tandem_dialect::Context;
use tandem_events::{Filter, Subscription};
use tandem_host::clock;
use tandem_id::LegId;
use tandem_routing::new_call::{CreateError, NewCall};
use tandem_store::StoreFailed;
use tandem_streams::local::{LocalMessage, LocalStream};
use tandem_telnyx::{self as telnyx, rest};
use tokio::sync::mpsc;

use super::Dash;
use crate::frontends::FrontendMessage;

/// Maximum time for the last messages of a stream after the end of the stream's call.
const LAST_MESSAGES: Duration = Duration::from_secs(2);
/// Maximum ringing time of a call. Other calls through this provider's API have the same maximum.
const RINGING_TIMEOUT: Duration = Duration::from_secs(30);

/// The reason why a request of a frontend was not carried out.
#[derive(Debug)]
pub(super) enum CallError {
    /// The server has no account.
    NoAccount,
    /// The call was not created.
    NotCreated(CreateError),
    /// The call refused the command, or there is no such call.
    Refused(Refused),
    /// The database did not answer.
    Store(StoreFailed),
}

impl CallError {
    /// Returns the text for the user, as the provider's API words it.
    pub(super) fn detail(self) -> String {
        match self {
            Self::NoAccount => "The server has no account.".to_owned(),
            Self::NotCreated(error) => rest::why_not_made(error),
            Self::Refused(refused) => rest::why_refused(refused),
            Self::Store(failed) => failed.to_string(),
        }
    }
}

/// A call that the gateway has started.
pub(super) struct PlacedCall {
    pub(super) leg: LegId,
    pub(super) control_id: String,
    pub(super) at: Timestamp,
}

impl Dash {
    /// Calls a number for a human agent.
    pub(super) async fn call(
        self: &Arc<Self>,
        to: PhoneNumber,
        from: Address,
        agent: &str,
    ) -> Result<PlacedCall, CallError> {
        let calls = &self.app.calls;
        let services = calls.services();
        let account = crate::account(&self.app, self.config.account.as_ref());
        let account = account.ok_or(CallError::NoAccount)?;
        let at = clock::time();
        let leg = LegId::new(at, &mut rand::rng());
        let control_id = telnyx::id::call_control_id(leg);
        // The subscription starts before the call, so that no event and no message is lost.
        let following =
            services.events.subscribe(Filter::leg(leg)).map_err(|_| CallError::NotCreated(CreateError::Full))?;
        let stream = services.streams.local().expect(leg);
        let (upstream, words) = self.upstreams.open(&control_id);
        self.own.lock().insert(leg);
        let to = Address::Phone(to);
        let state = json!({ "agentId": agent, "timestamp": at.as_millisecond() }).to_string();
        let owner = LegOwner { application: self.config.application.clone(), ..LegOwner::new(account, telnyx::NAME) };
        let mut new = NewCall::plain(owner, to, from, OnAnswer::Wait);
        (new.plan.timeout, new.plan.unanswered) = (RINGING_TIMEOUT, EndCause::Timeout);
        new.plan.stream = Some(self.stream());
        new.client_state = Some(STANDARD.encode(state));
        if let Err(error) = calls.create_if_allowed(leg, new).await {
            self.upstreams.close(upstream);
            self.own.lock().remove(&leg);
            return Err(CallError::NotCreated(error));
        }
        let suppress = Command::SuppressNoise { track: Track::Both, on: true };
        // If the command fails, the call continues without noise suppression.
        let _ = calls.request(leg, Request { client_state: None, command: suppress }).await;
        let dash = Arc::clone(self);
        tokio::spawn(async move {
            dash.follow_call(following, stream, upstream, words).await;
            dash.upstreams.close(upstream);
            dash.own.lock().remove(&leg);
        });
        Ok(PlacedCall { leg, control_id, at })
    }

    /// The settings of the stream that carries audio between the call and the gateway. The stream has only the inbound
    /// track, because frontends drop the outbound track.
    fn stream(&self) -> StreamSpec {
        StreamSpec {
            url: self.stream_url(),
            name: None,
            track: Track::Inbound,
            codec: Some(StreamCodec::Pcmu),
            bidirectional_mode: Some(BidirectionalMode::Payload(StreamCodec::Pcmu)),
            parameters: Vec::new(),
            callback: None,
            target_legs: TargetLegs::Own,
            auth_token: None,
            connect_timing: ConnectTiming::AtAnswer,
            transport: StreamTransport::Messages,
        }
    }

    /// Sends the events and audio of the call to the frontends, and the audio of the frontends to the call. Runs until
    /// the call ends.
    async fn follow_call(
        &self,
        mut following: Subscription,
        mut stream: LocalStream,
        upstream: u64,
        mut words: mpsc::Receiver<FrontendMessage>,
    ) {
        let mut streaming = true;
        loop {
            tokio::select! {
                event = following.next_of_leg() => match event {
                    Some(event) => self.happened(&event),
                    None => break,
                },
                message = stream.next(), if streaming => match message {
                    Some(message) => self.received(upstream, message),
                    None => streaming = false,
                },
                Some(FrontendMessage::Text(text)) = words.recv() => streaming = streaming && stream.send(text.as_str().to_owned()).await,
            }
        }
        self.upstreams.end(upstream);
        let rest = async {
            while let Some(message) = stream.next().await {
                self.received(upstream, message);
            }
        };
        // Messages that arrive later are dropped.
        let _ = tokio::time::timeout(LAST_MESSAGES, rest).await;
    }

    fn happened(&self, event: &CallEvent) {
        let public_url = Arc::clone(&self.app.public_url);
        let context = Context { public_url, sequence: 0, recording: None, queue: None };
        for (kind, payload) in telnyx::event_types_and_payloads(event, &context) {
            self.broadcast_own(kind, event.at, &payload);
        }
    }

    fn received(&self, upstream: u64, message: LocalMessage) {
        if let LocalMessage::Text(text) = message {
            self.frame(upstream, &text);
        }
    }

    /// Hangs up a call.
    pub(super) async fn end(&self, control_id: &str) -> Result<(), CallError> {
        let leg = self.live(control_id).await?;
        let command = Command::Hangup { headers: HeaderFields::new() };
        let done = self.app.calls.request(leg, Request { client_state: None, command }).await;
        done.map(drop).map_err(CallError::Refused)
    }

    /// Mutes or unmutes the frontends in a call.
    pub(super) async fn mute(&self, control_id: &str, muted: bool) -> Result<(), CallError> {
        self.live(control_id).await?;
        match self.upstreams.mute(control_id, muted) {
            true => Ok(()),
            false => Err(CallError::Refused(Refused::NoSuchLeg)),
        }
    }

    /// Finds a live call that the gateway has made.
    async fn live(&self, control_id: &str) -> Result<LegId, CallError> {
        let unknown = || CallError::Refused(Refused::NoSuchLeg);
        let account = crate::account(&self.app, self.config.account.as_ref()).ok_or_else(unknown)?;
        let leg = telnyx::id::parse_call_control_id(control_id).ok_or_else(unknown)?;
        let found = self.app.calls.get(&account, leg).await.map_err(CallError::Store)?;
        match found.ok_or_else(unknown)? {
            leg if leg.status.is_final() => Err(CallError::Refused(Refused::Ended)),
            // The account has this call, but the gateway did not make the call.
            _ if !self.own.lock().contains(&leg) => Err(unknown()),
            _ => Ok(leg),
        }
    }
}
