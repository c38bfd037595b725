//! The web application of the demo. Like the application of a user, this application returns TwiML documents and serves
//! a media-stream WebSocket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Form, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Number of messages that the application echoes. These messages contain 1.5 s of audio.
const ECHOED: usize = 75;
/// Maximum number of events that wait for the demo. There are some ten in all. A further event is lost, and the step that
/// waits for it fails.
const EVENTS: usize = 256;
/// Time limit for each step of the demo.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A request or message that the application received.
#[derive(Debug)]
pub(super) enum AppEvent {
    /// The gathered digits.
    Digits(String),
    /// The recording has started, so the caller may speak.
    Recording,
    /// The recording is complete.
    Recorded,
    /// The stream is open, so the caller may speak.
    Streaming,
    /// The stream has ended. The fields contain the number of echoed media messages, whether each message had 160
    /// octets, and whether the mark came back.
    Echoed { messages: usize, complete: bool, marked: bool },
    /// The second phone's leg has ended with this status.
    Dialed(String),
    /// The call has ended.
    Completed,
}

/// The web application while it runs.
pub(super) struct WebApp {
    /// Address on which the application listens.
    pub(super) address: SocketAddr,
    events: mpsc::Receiver<AppEvent>,
}

#[derive(Clone)]
struct Shared {
    desk: Arc<str>,
    address: SocketAddr,
    events: mpsc::Sender<AppEvent>,
}

type Parameters = Form<Vec<(String, String)>>;

impl WebApp {
    /// Starts the application on a free port. The last document of the application dials `desk`.
    pub(super) async fn start(desk: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, events) = mpsc::channel(EVENTS);
        let router = Router::new()
            .route("/voice", post(voice))
            .route("/digits", post(digits))
            .route("/recording", post(recording))
            .route("/recorded", post(recorded))
            .route("/stream", any(stream))
            .route("/dialed", post(dialed))
            .route("/status", post(status))
            .with_state(Shared { desk: desk.into(), address, events: sender });
        // The task ends with the process.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, events })
    }

    /// Waits for the next request or message that the application receives.
    pub(super) async fn next(&mut self) -> anyhow::Result<AppEvent> {
        let event = tokio::time::timeout(TIMEOUT, self.events.recv()).await;
        event.ok().flatten().with_context(|| format!("the web application got no request for {} s", TIMEOUT.as_secs()))
    }
}

fn twiml(verbs: &str) -> Response {
    let document = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>{verbs}</Response>");
    ([(header::CONTENT_TYPE, "text/xml")], document).into_response()
}

fn parameter<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

async fn voice() -> Response {
    twiml(
        "<Gather numDigits=\"4\" action=\"/digits\" timeout=\"10\">\
         <Say>Welcome to Tandem. Please enter your four digit code.</Say></Gather>",
    )
}

async fn digits(State(shared): State<Shared>, Form(form): Parameters) -> Response {
    shared.report(AppEvent::Digits(parameter(&form, "Digits").to_owned()));
    twiml(
        "<Say>Thank you. Leave a message after the tone.</Say>\
         <Record action=\"/recorded\" maxLength=\"20\" timeout=\"5\" finishOnKey=\"#\" \
         recordingStatusCallback=\"/recording\" recordingStatusCallbackEvent=\"in-progress completed\"/>",
    )
}

async fn recording(State(shared): State<Shared>, Form(form): Parameters) {
    if parameter(&form, "RecordingStatus") == "in-progress" {
        shared.report(AppEvent::Recording);
    }
}

async fn recorded(State(shared): State<Shared>) -> Response {
    shared.report(AppEvent::Recorded);
    let Shared { address, desk, .. } = shared;
    twiml(&format!(
        "<Connect><Stream url=\"ws://{address}/stream\"/></Connect>\
         <Dial answerOnBridge=\"true\" action=\"/dialed\"><Sip>{desk}</Sip></Dial>"
    ))
}

async fn dialed(State(shared): State<Shared>, Form(form): Parameters) -> Response {
    shared.report(AppEvent::Dialed(parameter(&form, "DialCallStatus").to_owned()));
    twiml("<Say>Goodbye.</Say><Hangup/>")
}

async fn status(State(shared): State<Shared>, Form(form): Parameters) {
    if parameter(&form, "CallStatus") == "completed" {
        shared.report(AppEvent::Completed);
    }
}

async fn stream(State(shared): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| async move {
        if let Some(event) = echo(socket, &shared).await {
            shared.report(event);
        }
    })
}

/// Echoes the first messages and then sends a mark. Closes the socket when the server sends the mark back.
async fn echo(mut socket: WebSocket, shared: &Shared) -> Option<AppEvent> {
    let (mut messages, mut complete, mut marked, mut sid) = (0, true, false, Value::Null);
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).ok()?;
        match message.get("event").and_then(Value::as_str) {
            Some("start") => {
                sid = message.get("streamSid").cloned()?;
                shared.report(AppEvent::Streaming);
            }
            Some("media") if messages < ECHOED => {
                let payload = message.pointer("/media/payload").and_then(Value::as_str)?;
                messages += 1;
                complete &= BASE64_STANDARD.decode(payload).is_ok_and(|octets| octets.len() == 160);
                let echo = json!({"event": "media", "streamSid": sid, "media": {"payload": payload}});
                socket.send(Message::text(echo.to_string())).await.ok()?;
                if messages == ECHOED {
                    let mark = json!({"event": "mark", "streamSid": sid, "mark": {"name": "echoed"}});
                    socket.send(Message::text(mark.to_string())).await.ok()?;
                }
            }
            Some("mark") => {
                marked = true;
                // An error means that the socket is already closed.
                drop(socket.send(Message::Close(None)).await);
                break;
            }
            _ => {}
        }
    }
    Some(AppEvent::Echoed { messages, complete, marked })
}

impl Shared {
    fn report(&self, event: AppEvent) {
        // Sending fails if the demo has ended, or if too many events wait.
        drop(self.events.try_send(event));
    }
}
