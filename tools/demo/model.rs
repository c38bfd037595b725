//! A stand-in for a language model: it answers one question. The demo uses it because a machine may have no model server.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const HOURS: &str = "We are open from nine to six, on every day but Sunday.";
const OTHER: &str = "I am only a stand-in, and I know nothing but the opening hours.";

/// The running stand-in. It ends with the process.
pub(super) struct StandIn {
    pub(super) address: SocketAddr,
    heard: Arc<Mutex<Option<String>>>,
}

impl StandIn {
    /// Starts the stand-in on a free port of loopback.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let heard = Arc::new(Mutex::new(None));
        let router = Router::new().route("/v1/chat/completions", post(answer)).with_state(Arc::clone(&heard));
        // The task ends with the process.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, heard })
    }

    /// Returns the last words of the caller that the stand-in got.
    pub(super) fn heard(&self) -> Option<String> {
        self.heard.lock().clone()
    }
}

/// Answers in the form of OpenAI's chat completions, as a stream.
async fn answer(State(heard): State<Arc<Mutex<Option<String>>>>, Json(request): Json<Value>) -> Response {
    let messages = request.get("messages").and_then(Value::as_array).into_iter().flatten();
    let mut of_user = messages.filter(|message| message.get("role").is_some_and(|role| role == "user"));
    let words = of_user.next_back().and_then(|message| message.get("content")?.as_str()).unwrap_or_default().to_owned();
    let lower = words.to_ascii_lowercase();
    let text = if lower.contains("open") || lower.contains("hours") { HOURS } else { OTHER };
    *heard.lock() = Some(words);
    let chunk = |delta: Value, reason: Option<&str>| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason });
        format!("data: {}\n\n", json!({ "object": "chat.completion.chunk", "choices": [choice] }))
    };
    let body = [
        chunk(json!({ "role": "assistant", "content": text }), None),
        chunk(json!({}), Some("stop")),
        "data: [DONE]\n\n".to_owned(),
    ];
    ([(header::CONTENT_TYPE, "text/event-stream")], body.concat()).into_response()
}
