use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::Notify;

use super::*;

/// The body of a completion.
const ANSWER: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n";

/// A model server that keeps the requests for answers.
#[derive(Clone)]
struct Server {
    models: Vec<&'static str>,
    /// The values of `reasoning_effort` that the server refuses.
    refused: Vec<&'static str>,
    /// The status and the body of an accepted request.
    answer: (u16, &'static str),
    asked: Arc<Mutex<Vec<Value>>>,
    keys: Arc<Mutex<Vec<String>>>,
    /// The server answers after this notification.
    loaded: Option<Arc<Notify>>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            refused: Vec::new(),
            answer: (200, ANSWER),
            asked: Arc::default(),
            keys: Arc::default(),
            loaded: None,
        }
    }
}

impl Server {
    fn of(models: &[&'static str]) -> Self {
        Self { models: models.to_vec(), ..Self::default() }
    }

    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/models", get(list))
            .route("/v1/chat/completions", post(answer))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }
}

async fn list(State(server): State<Server>, headers: HeaderMap) -> Json<Value> {
    let key = headers.get("authorization").map_or("", |key| key.to_str().unwrap());
    server.keys.lock().unwrap().push(key.to_owned());
    Json(json!({ "data": server.models.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() }))
}

async fn answer(State(server): State<Server>, Json(body): Json<Value>) -> (StatusCode, String) {
    let effort = body.get("reasoning_effort").and_then(Value::as_str).map(str::to_owned);
    server.asked.lock().unwrap().push(body);
    if let Some(loaded) = &server.loaded {
        loaded.notified().await;
    }
    if effort.is_some_and(|effort| server.refused.contains(&&*effort)) {
        return (StatusCode::BAD_REQUEST, json!({ "error": { "message": "unknown field" } }).to_string());
    }
    (StatusCode::from_u16(server.answer.0).unwrap(), server.answer.1.to_owned())
}

fn environment(base: Option<&str>, key: Option<&str>) -> Environment {
    Environment { base: base.map(str::to_owned), key: key.map(str::to_owned) }
}

/// A URL at which nothing listens.
fn nothing() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

fn search(note: &dyn Fn(String)) -> Search<'_> {
    let client = Client::new(NetworkPolicy::everywhere(), FAR_TIMEOUT).unwrap();
    Search { client, prompt: "You are brief.", patience: FIRST_TIMEOUT, note }
}

async fn usual(environment: Environment, servers: &[(&str, &str)]) -> Result<Model, Failure> {
    search(&drop).usual(&environment, servers).await
}

async fn named(text: &str, key: Option<&str>) -> Result<Model, String> {
    search(&drop).named(text, &environment(None, key)).await.map_err(|failure| failure.to_string())
}

#[tokio::test]
async fn the_first_server_with_a_model_that_chats_is_used_and_the_model_is_loaded() {
    let embedding = Server::of(&["nomic-embed-text:latest", "whisper-1"]);
    let chat = Server::of(&["mxbai-embed-large", "llama3.2:3b", "qwen3:8b"]);
    let (one, other, nobody) = (embedding.start().await, chat.start().await, nothing());
    let servers = [("Ollama", nobody.as_str()), ("LM Studio", &one), ("vLLM", &other)];
    let model = usual(environment(None, None), &servers).await.ok().unwrap();
    assert_eq!((model.name.as_deref(), model.source.as_str()), (Some("llama3.2:3b"), "vLLM"));
    assert!(model.effort == Some("none") && model.first_answer.is_some());
    let asked = chat.asked.lock().unwrap().clone();
    assert_eq!(
        (&asked[0]["model"], &asked[0]["messages"][0]["content"]),
        (&json!("llama3.2:3b"), &json!("You are brief."))
    );
    // A server that runs, but has no model, is named. A port without a server is not.
    assert_eq!(model.passed_over, [format!("LM Studio {one}: none of its 2 models can chat")]);
}

#[tokio::test]
async fn a_server_that_refuses_a_field_is_asked_with_another_value_and_then_without_it() {
    for (refused, accepted) in [(vec!["none"], Some("minimal")), (vec!["none", "minimal"], None)] {
        let server = Server { refused: refused.clone(), ..Server::of(&["m"]) };
        let url = server.start().await;
        let model = usual(environment(None, None), &[("vLLM", &url)]).await.ok().unwrap();
        assert_eq!(model.effort, accepted);
        assert_eq!(server.asked.lock().unwrap().len(), refused.len() + 1);
    }
}

#[tokio::test]
async fn the_server_of_the_environment_comes_first_and_only_it_gets_the_key() {
    let (own, other) = (Server::of(&["a"]), Server::of(&["b"]));
    let (base, url) = (own.start().await, other.start().await);
    let servers = [("Ollama", url.as_str())];
    let model = usual(environment(Some(&base), Some("secret")), &servers).await.ok().unwrap();
    assert_eq!((model.name.as_deref(), model.source.as_str()), (Some("a"), "OPENAI_BASE_URL"));
    assert_eq!(*own.keys.lock().unwrap(), ["Bearer secret"]);
    // The server of the environment does not run. The user must learn that another one is used.
    let closed = nothing();
    let model = usual(environment(Some(&closed), Some("secret")), &servers).await.ok().unwrap();
    assert_eq!((model.name.as_deref(), model.key), (Some("b"), None));
    assert_eq!(*other.keys.lock().unwrap(), [""]);
    assert_eq!(model.passed_over, [format!("OPENAI_BASE_URL {closed}: nothing listens there")]);
}

#[tokio::test]
async fn a_named_model_is_not_searched() {
    let url = Server::of(&["a"]).start().await;
    let model = named(&format!("{url}/#other"), Some("k")).await.unwrap();
    assert_eq!(
        (model.url.as_str(), model.name.as_deref(), model.key.as_deref()),
        (url.as_str(), Some("other"), Some("k"))
    );
    assert_eq!(named(&format!("{url}#"), None).await.unwrap().name.as_deref(), Some("a"), "an empty name is no name");
    assert!(named("wss://models.example/v1/realtime#r", None).await.unwrap().is_realtime());
    let fault = named("qwen3", None).await.unwrap_err();
    assert!(fault.contains("http://127.0.0.1:11434/v1#qwen3:8b"), "{fault}");
    let closed = nothing();
    assert_eq!(named(&closed, None).await.unwrap_err(), format!("--model: {closed}: nothing listens there"));
}

#[tokio::test]
async fn a_model_that_the_server_does_not_have_is_reported_with_the_models_that_it_has() {
    let missing = (404, r#"{"error":{"message":"model \"b\" not found"}}"#);
    let server = Server { answer: missing, ..Server::of(&["a", "c"]) };
    let url = server.start().await;
    let fault = named(&format!("{url}#b"), None).await.unwrap_err();
    assert!(fault.ends_with("answered 404: model \"b\" not found; its models are a, c"), "{fault}");
    // Another value of a field does not help.
    assert_eq!(server.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_web_server_that_is_no_model_server_is_refused_although_it_answers_with_200() {
    for (body, expected) in [
        ("<html>Hello</html>", "something else than a stream of chat completions"),
        ("data: [DONE]\n\n", "something else than a stream of chat completions"),
        ("data: {\"error\":{\"message\":\"out of memory\"}}\n\n", "the model failed: out of memory"),
    ] {
        let url = Server { answer: (200, body), ..Server::of(&["m"]) }.start().await;
        let fault = named(&format!("{url}#m"), None).await.unwrap_err();
        assert!(fault.contains(expected), "{fault}");
    }
    // The end of the base URL is a frequent mistake.
    let url = Server::of(&["m"]).start().await;
    let root = url.trim_end_matches("/v1");
    for text in [root.to_owned(), format!("{root}#m")] {
        let fault = named(&text, None).await.unwrap_err();
        assert!(fault.contains("404; the base URL of most servers ends with /v1"), "{fault}");
    }
}

#[tokio::test]
async fn a_model_that_is_loaded_for_a_long_time_has_a_line_that_says_so() {
    let loaded = Arc::new(Notify::new());
    let server = Server { loaded: Some(Arc::clone(&loaded)), ..Server::of(&["big"]) };
    let url = server.start().await;
    let lines = Mutex::new(Vec::new());
    let note = |line| {
        lines.lock().unwrap().push(line);
        loaded.notify_one();
    };
    let search = Search { patience: Duration::ZERO, ..search(&note) };
    assert!(search.named(&url, &environment(None, None)).await.is_ok());
    let lines = lines.lock().unwrap();
    assert!(lines.len() == 1 && lines[0].contains(&format!("big at {url}")), "{lines:?}");
}

#[tokio::test]
async fn without_a_model_the_error_says_what_was_tried_and_which_command_starts_one() {
    let (one, nobody) = (Server::default().start().await, nothing());
    let failure = usual(environment(None, None), &[("Ollama", &one), ("llama.cpp", &nobody)]).await.err().unwrap();
    assert!(matches!(failure, Failure::Environment(_)));
    let text = failure.to_string();
    for part in
        ["ollama pull llama3.2:3b", "llama-server --jinja --port 8080", "nothing listens there", "--model", &nobody]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn models_that_do_not_chat_are_left_out() {
    assert_eq!(choose(&["text-embedding-nomic-embed-text-v1.5", "qwen2.5-7b-instruct"]), Some("qwen2.5-7b-instruct"));
    assert_eq!(choose(&["/models/Qwen3-4B-Q4_K_M.gguf"]), Some("/models/Qwen3-4B-Q4_K_M.gguf"));
    assert_eq!(choose(&["whisper-large-v3", "kokoro", "bge-m3"]), None);
    let openai = [
        "dall-e-3",
        "gpt-4.1",
        "gpt-4o-mini",
        "gpt-4.1-mini",
        "gpt-4.1-mini-2025-04-14",
        "gpt-4o-mini-audio-preview",
        "o3",
    ];
    assert_eq!(small_of_openai(&openai), Some("gpt-4o-mini"));
}
