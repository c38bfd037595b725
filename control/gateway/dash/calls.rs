//! Calls that the gateway makes, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;
use tandem_call::address::{Address, PhoneNumber};
use tandem_call::command::{Command, Refused, Request};
use tandem_call::event::CallEvent;
use tandem_call::id::LegId;
use tandem_call::leg::{EndCause, Hearers};
use tandem_call::recording::Track;
use tandem_call::stream::{Form, Opens, Playout, StreamCodec, StreamSpec};
use tandem_clock as clock;
use tandem_dialect::Context;
use tandem_routing::new_call::{CreateError, First, NewCall};
use tandem_runtime::followers::Following;
use tandem_runtime::local_streams::LocalStream;
use tandem_telnyx::{self as telnyx, rest};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::Dash;
use crate::frontends::Out;

/// How long the last messages of a stream may take once its call is over.
const LAST_MESSAGES: Duration = Duration::from_secs(2);
/// How long a call rings, as for other calls by this provider's API.
const RINGS_FOR: Duration = Duration::from_secs(30);

/// A call that has been made.
pub(super) struct Made {
    pub(super) leg: LegId,
    pub(super) control_id: String,
    pub(super) at: Timestamp,
}

impl Dash {
    /// Calls somebody for an agent. An error is for people to read.
    pub(super) async fn call(self: &Arc<Self>, to: PhoneNumber, from: Address, agent: &str) -> Result<Made, String> {
        let calls = &self.app.calls;
        let services = calls.services();
        let account = crate::account(&self.app, self.config.account.as_ref());
        let account = account.ok_or_else(|| "The server has no account.".to_owned())?;
        let at = clock::time();
        let leg = LegId::new(at, &mut rand::rng());
        let control_id = telnyx::id::call_control_id(leg);
        // Before the call: nothing of it may be missed.
        let following = services.followers.follow(leg).ok_or_else(|| rest::why_not_made(CreateError::Full))?;
        let stream = services.local_streams.expect(leg).await;
        let (upstream, words) = self.upstreams.open(&control_id);
        let to = Address::Phone(to);
        let state = json!({ "agentId": agent, "timestamp": at.as_millisecond() }).to_string();
        let new = NewCall {
            application: self.config.application.clone(),
            timeout: RINGS_FOR,
            unanswered: EndCause::Timeout,
            stream: Some(self.stream()),
            client_state: Some(STANDARD.encode(state)),
            ..NewCall::plain(account, telnyx::NAME, to, from, First::Commands)
        };
        if let Err(error) = calls.create_if_allowed(leg, new).await {
            self.upstreams.close(upstream);
            return Err(rest::why_not_made(error));
        }
        let suppress = Command::Suppress { track: Track::Both, on: true };
        // Without it the call goes on.
        let _ = calls.request(leg, Request { client_state: None, command: suppress }).await;
        let dash = Arc::clone(self);
        tokio::spawn(async move {
            dash.accompany(following, stream, upstream, words).await;
            dash.upstreams.close(upstream);
        });
        Ok(Made { leg, control_id, at })
    }

    /// The audio of a call, to and from this gateway. Its own side is left out: frontends would drop it.
    fn stream(&self) -> StreamSpec {
        StreamSpec {
            url: self.stream_url(),
            name: None,
            track: Track::Inbound,
            codec: Some(StreamCodec::Pcmu),
            playout: Some(Playout::Payload(StreamCodec::Pcmu)),
            parameters: Vec::new(),
            callback: None,
            hearers: Hearers::Own,
            auth_token: None,
            opens: Opens::AtAnswer,
            form: Form::Messages,
        }
    }

    /// Tells frontends of the call's events and audio, and the call what they say, until it is over.
    async fn accompany(
        &self,
        mut following: Following,
        mut stream: LocalStream,
        upstream: u64,
        mut words: mpsc::Receiver<Out>,
    ) {
        let mut streaming = true;
        loop {
            tokio::select! {
                event = following.next() => match event {
                    Some(event) => self.happened(&event),
                    None => break,
                },
                message = stream.next(), if streaming => match message {
                    Some(message) => self.heard(upstream, message),
                    None => streaming = false,
                },
                Some(Out::Text(text)) = words.recv() => streaming = streaming && stream.send(text.as_str().into()).await,
            }
        }
        self.upstreams.end(upstream);
        let rest = async {
            while let Some(message) = stream.next().await {
                self.heard(upstream, message);
            }
        };
        // What does not come in time is lost with the call.
        let _ = tokio::time::timeout(LAST_MESSAGES, rest).await;
    }

    fn happened(&self, event: &CallEvent) {
        let public_url = Arc::clone(&self.app.public_url);
        let context = Context { public_url, sequence: 0, recording: None, queue: None };
        if let Some((kind, payload)) = telnyx::told(event, &context) {
            self.broadcast_own(kind, event.at, &payload);
        }
    }

    fn heard(&self, upstream: u64, message: Message) {
        if let Message::Text(text) = message {
            self.frame(upstream, text.as_str());
        }
    }

    /// Hangs a call up. An error is for people to read.
    pub(super) async fn end(&self, control_id: &str) -> Result<(), String> {
        let leg = self.live(control_id).await?;
        let command = Command::Hangup { headers: Vec::new() };
        let done = self.app.calls.request(leg, Request { client_state: None, command }).await;
        done.map(drop).map_err(rest::why_refused)
    }

    /// Has frontends not be heard in a call, or be heard again. An error is for people to read.
    pub(super) async fn mute(&self, control_id: &str, muted: bool) -> Result<(), String> {
        self.live(control_id).await?;
        match self.upstreams.mute(control_id, muted) {
            true => Ok(()),
            // A call of the account's that this gateway did not make.
            false => Err(rest::why_refused(Refused::NoSuchLeg)),
        }
    }

    /// A live call of the gateway's account. An error is for people to read.
    async fn live(&self, control_id: &str) -> Result<LegId, String> {
        let unknown = || rest::why_refused(Refused::NoSuchLeg);
        let account = crate::account(&self.app, self.config.account.as_ref()).ok_or_else(unknown)?;
        let leg = telnyx::id::parse_call_control_id(control_id).ok_or_else(unknown)?;
        let found = self.app.calls.get(&account, leg).await.map_err(|failed| failed.to_string())?;
        match found.ok_or_else(unknown)?.status.is_final() {
            true => Err(rest::why_refused(Refused::Ended)),
            false => Ok(leg),
        }
    }
}
