//! A web application, as a customer of a provider runs it. The application answers HTTP requests and accepts WebSockets
//! for streams.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tandem_twilio::sign;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::audio::encode;
use crate::log::{Log, PATIENCE};
use crate::test_server::AUTH_TOKEN;

/// An HTTP request that the application received.
#[derive(Clone, Debug)]
pub(crate) struct AppRequest {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl AppRequest {
    /// The fields of the form in the body.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    /// The value of a field of the form. Empty if the field is missing.
    pub(crate) fn field(&self, name: &str) -> String {
        self.form().remove(name).unwrap_or_default()
    }

    /// The JSON body. Null if the body is not JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the request's `X-Twilio-Signature` is valid.
    pub(crate) fn is_signed(&self) -> bool {
        let url = format!("http://{}{}", self.header("host"), self.path);
        let form = self.form();
        let pairs = form.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.header("x-twilio-signature") == sign::signature(AUTH_TOKEN, &url, pairs)
    }
}

type Answer = dyn Fn(&AppRequest) -> String + Send + Sync;

/// A running application. It stops when this value is dropped.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    /// All requests, in the order of their arrival.
    pub(crate) requests: Arc<Log<AppRequest>>,
    streams: mpsc::UnboundedReceiver<Stream>,
    task: AbortHandle,
}

#[derive(Clone)]
struct Shared {
    answer: Arc<Answer>,
    requests: Arc<Log<AppRequest>>,
    streams: mpsc::UnboundedSender<Stream>,
}

impl App {
    /// Starts an application. The application answers every HTTP request with the document that `answer` returns, and
    /// accepts WebSockets at `/stream`.
    pub(crate) async fn start(answer: impl Fn(&AppRequest) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Log::default());
        let (sender, streams) = mpsc::unbounded_channel();
        let shared = Shared { answer: Arc::new(answer), requests: Arc::clone(&requests), streams: sender };
        let router = Router::new().route("/stream", get(upgrade)).fallback(any(respond)).with_state(shared);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }).abort_handle();
        Self { address, requests, streams, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn stream_url(&self) -> String {
        format!("ws://{}/stream", self.address)
    }

    /// Waits for the first request for this path.
    pub(crate) async fn request(&self, path: &str) -> AppRequest {
        self.requests.find(path, |request| request.path == path).await
    }

    /// Waits for the first Telnyx webhook with this event type and returns the payload of the webhook.
    pub(crate) async fn event(&self, name: &str) -> Value {
        let is = |request: &AppRequest| request.json()["data"]["event_type"] == name;
        self.requests.find(name, is).await.json()["data"]["payload"].take()
    }

    /// The number of requests for this path so far.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.requests.all().iter().filter(|request| request.path == path).count()
    }

    /// Waits for the next stream that the server opens.
    pub(crate) async fn stream(&mut self) -> Stream {
        tokio::time::timeout(PATIENCE, self.streams.recv()).await.expect("no stream comes").unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let request = AppRequest { path, headers, body };
    let answer = (shared.answer)(&request);
    shared.requests.push(request);
    ([(header::CONTENT_TYPE, "text/xml")], answer).into_response()
}

async fn upgrade(State(shared): State<Shared>, headers: HeaderMap, socket: WebSocketUpgrade) -> Response {
    socket.on_upgrade(move |socket| async move {
        let (says, orders) = mpsc::unbounded_channel();
        let frames = Arc::new(Log::default());
        let echoes = Arc::new(AtomicBool::new(false));
        let stream = Stream { headers, frames: Arc::clone(&frames), says, echoes: Arc::clone(&echoes) };
        if shared.streams.send(stream).is_ok() {
            pump(socket, orders, &frames, &echoes).await;
        }
    })
}

/// A message of a stream, and the time of its arrival. `Null` means that the server closed the stream.
pub(crate) type Frame = (Instant, Value);

enum Order {
    Say(Message),
    Vanish,
}

/// The application's side of a stream.
pub(crate) struct Stream {
    /// The headers of the WebSocket handshake.
    pub(crate) headers: HeaderMap,
    /// The messages that the server sent.
    pub(crate) frames: Arc<Log<Frame>>,
    says: mpsc::UnboundedSender<Order>,
    echoes: Arc<AtomicBool>,
}

impl Stream {
    /// Sets whether the application sends each media message back immediately.
    pub(crate) fn echo(&self, on: bool) {
        self.echoes.store(on, Ordering::SeqCst);
    }

    /// Sends audio. The server plays this audio after the audio that is already in the queue.
    pub(crate) fn play(&self, samples: &[i16]) {
        self.say(json!({ "event": "media", "media": { "payload": STANDARD.encode(encode(samples)) } }));
    }

    pub(crate) fn mark(&self, name: &str) {
        self.say(json!({ "event": "mark", "mark": { "name": name } }));
    }

    pub(crate) fn clear(&self) {
        self.say(json!({ "event": "clear" }));
    }

    pub(crate) fn say(&self, message: Value) {
        self.send(Message::text(message.to_string()));
    }

    /// Sends a message. The message may be invalid.
    pub(crate) fn send(&self, message: Message) {
        self.says.send(Order::Say(message)).unwrap();
    }

    /// Closes the stream with code 1000, as an application does at the end of its work.
    pub(crate) fn close(&self) {
        self.send(Message::Close(Some(CloseFrame { code: 1000, reason: "".into() })));
    }

    /// Drops the connection without a close frame, like an application that crashes.
    pub(crate) fn vanish(&self) {
        self.says.send(Order::Vanish).unwrap();
    }

    /// Waits for the first message with this `event`.
    pub(crate) async fn event(&self, name: &str) -> Frame {
        self.frames.find(name, |(_, frame)| frame["event"] == name).await
    }

    /// All messages with this `event` that have arrived.
    pub(crate) fn events(&self, name: &str) -> Vec<Frame> {
        self.frames.all().into_iter().filter(|(_, frame)| frame["event"] == name).collect()
    }

    /// Waits until the server returns the mark with this name. Returns the time of its arrival.
    pub(crate) async fn marked(&self, name: &str) -> Instant {
        self.frames.find(name, |(_, frame)| frame["event"] == "mark" && frame["mark"]["name"] == name).await.0
    }

    /// Waits until this number of milliseconds of further audio has arrived. The media messages of the stream are the
    /// clock.
    pub(crate) async fn listen(&self, milliseconds: usize) {
        let mut place = self.frames.len();
        for _ in 0..milliseconds / 20 {
            place = self.frames.find_after(place, "media", |(_, frame)| frame["event"] == "media").await.1;
        }
    }

    /// Waits until the server has closed the stream.
    pub(crate) async fn closed(&self) {
        self.frames.find("the close", |(_, frame)| frame.is_null()).await;
    }
}

async fn pump(
    mut socket: WebSocket,
    mut orders: mpsc::UnboundedReceiver<Order>,
    frames: &Log<Frame>,
    echoes: &AtomicBool,
) {
    loop {
        let out = tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    let back = (frame["event"] == "media" && echoes.load(Ordering::SeqCst)).then(|| {
                        json!({ "event": "media", "media": { "payload": frame["media"]["payload"] } }).to_string()
                    });
                    frames.push((Instant::now(), frame));
                    match back {
                        Some(back) => Message::text(back),
                        None => continue,
                    }
                }
                Some(Ok(Message::Close(Some(CloseFrame { code: 1000, .. })))) => {
                    frames.push((Instant::now(), Value::Null));
                    continue;
                }
                Some(Ok(_)) => continue,
                // No `Null` is added here. A test that waits for a close must fail if the server sent no close.
                Some(Err(_)) | None => return,
            },
            order = orders.recv() => match order {
                Some(Order::Say(message)) => message,
                Some(Order::Vanish) | None => return,
            },
        };
        if socket.send(out).await.is_err() {
            return;
        }
    }
}
