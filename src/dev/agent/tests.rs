use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::*;

/// A model server that keeps the requests for answers.
#[derive(Clone, Default)]
struct Server {
    models: Vec<&'static str>,
    /// Whether the server refuses fields that it does not know.
    is_strict: bool,
    asked: Arc<Mutex<Vec<Value>>>,
    keys: Arc<Mutex<Vec<String>>>,
}

impl Server {
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
    let is_known = body.get("reasoning_effort").is_none() || !server.is_strict;
    server.asked.lock().unwrap().push(body);
    match is_known {
        true => (StatusCode::OK, "data: [DONE]\n\n".to_owned()),
        false => (StatusCode::BAD_REQUEST, json!({ "error": { "message": "unknown field" } }).to_string()),
    }
}

fn environment(base: Option<&str>, key: Option<&str>) -> Environment {
    Environment { base: base.map(str::to_owned), key: key.map(str::to_owned) }
}

/// A URL at which nothing listens.
fn nothing() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

fn text(failure: Failure) -> String {
    failure.to_string()
}

#[tokio::test]
async fn the_first_server_with_a_model_that_chats_is_used_and_the_model_is_loaded() {
    let embedding = Server { models: vec!["nomic-embed-text:latest", "whisper-1"], ..Server::default() };
    let chat = Server { models: vec!["mxbai-embed-large", "llama3.2:3b", "qwen3:8b"], ..Server::default() };
    let (one, other, nobody) = (embedding.start().await, chat.start().await, nothing());
    let usual = [("Ollama", nobody.as_str()), ("LM Studio", &one), ("vLLM", &other)];
    let model = find_model(None, &environment(None, None), &usual, "You are brief.").await.ok().unwrap();
    assert_eq!((model.name.as_deref(), model.source.as_str()), (Some("llama3.2:3b"), "vLLM"));
    assert!(model.thinks_not && model.first_answer.is_some());
    let asked = chat.asked.lock().unwrap().clone();
    assert_eq!(
        (&asked[0]["model"], &asked[0]["messages"][0]["content"]),
        (&json!("llama3.2:3b"), &json!("You are brief."))
    );
}

#[tokio::test]
async fn a_server_that_refuses_a_field_is_asked_without_it() {
    let server = Server { models: vec!["m"], is_strict: true, ..Server::default() };
    let url = server.start().await;
    let model = find_model(None, &environment(None, None), &[("vLLM", &url)], "p").await.ok().unwrap();
    assert!(!model.thinks_not);
    assert_eq!(server.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn the_server_of_the_environment_comes_first_and_only_it_gets_the_key() {
    let (own, usual) =
        (Server { models: vec!["a"], ..Server::default() }, Server { models: vec!["b"], ..Server::default() });
    let (base, other) = (own.start().await, usual.start().await);
    let usual_places = [("Ollama", other.as_str())];
    let model = find_model(None, &environment(Some(&base), Some("secret")), &usual_places, "p").await.ok().unwrap();
    assert_eq!((model.name.as_deref(), model.source.as_str()), (Some("a"), "OPENAI_BASE_URL"));
    assert_eq!(*own.keys.lock().unwrap(), ["Bearer secret"]);
    // The server of the environment does not run.
    let model =
        find_model(None, &environment(Some(&nothing()), Some("secret")), &usual_places, "p").await.ok().unwrap();
    assert_eq!((model.name.as_deref(), model.key), (Some("b"), None));
    assert_eq!(*usual.keys.lock().unwrap(), [""]);
}

#[tokio::test]
async fn a_named_model_is_not_searched() {
    let server = Server { models: vec!["a"], ..Server::default() };
    let url = server.start().await;
    let named = format!("{url}/#other");
    let model = find_model(Some(&named), &environment(None, Some("k")), &[], "p").await.ok().unwrap();
    assert_eq!(
        (model.url.as_str(), model.name.as_deref(), model.key.as_deref()),
        (url.as_str(), Some("other"), Some("k"))
    );
    let realtime = find_model(Some("wss://models.example/v1/realtime#r"), &environment(None, None), &[], "p").await;
    assert!(realtime.ok().unwrap().is_realtime());
    let fault = text(find_model(Some("qwen3"), &environment(None, None), &[], "p").await.err().unwrap());
    assert!(fault.contains("http://127.0.0.1:11434/v1#qwen3:8b"), "{fault}");
    let closed = text(find_model(Some(&nothing()), &environment(None, None), &[], "p").await.err().unwrap());
    assert!(closed.starts_with("--model: nothing listens there"), "{closed}");
}

#[tokio::test]
async fn without_a_model_the_error_says_what_was_tried_and_which_command_starts_one() {
    let empty = Server::default();
    let (one, nobody) = (empty.start().await, nothing());
    let usual = [("Ollama", one.as_str()), ("llama.cpp", &nobody)];
    let failure = find_model(None, &environment(None, None), &usual, "p").await.err().unwrap();
    assert!(matches!(failure, Failure::Environment(_)));
    let text = text(failure);
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

fn agent(url: &str) -> Agent {
    Agent {
        prompt: "1234".to_owned(),
        first_message: "Say \"hello\".".to_owned(),
        voice: None,
        language: Some("de-DE".to_owned()),
        model: Model {
            url: url.to_owned(),
            name: Some("7".to_owned()),
            key: Some("secret".to_owned()),
            source: "Ollama".to_owned(),
            thinks_not: true,
            first_answer: Some(Duration::from_millis(1_260)),
        },
        installed: Installed { program: false, recognition: false, voice: false },
    }
}

#[test]
fn the_variables_of_an_agent_make_a_valid_configuration() {
    let (variables, name) = agent("http://10.1.2.3:8000/v1").variables(&Config::default());
    let config = Config::load(None, variables).unwrap();
    let [made] = &config.agents[..] else { panic!("{:?}", config.agents) };
    assert_eq!((&*made.name, made.prompt.as_deref(), &*name), ("dev", Some("1234"), "dev"));
    assert_eq!((made.first_message.as_deref(), &*made.language), (Some("Say \"hello\"."), "de-DE"));
    assert_eq!((made.model.name.as_deref(), &made.model.extra["reasoning_effort"]), (Some("7"), &json!("none")));
    // The user has named the server, so the private address is allowed, and nothing else.
    let networks: Vec<String> = config.webhooks.allow_networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["127.0.0.0/8", "10.1.2.3/32"]);
    assert_eq!((config.speech.stt, config.speech.tts), (Stt::Off, Tts::Espeak));
    // An agent of the configuration keeps its name.
    let (variables, name) = agent("http://127.0.0.1:1/v1").variables(&config_with_agent());
    assert_eq!(name, "dev-2");
    assert!(variables.iter().any(|(key, _)| key == "TANDEM_AGENTS__1__PROMPT"));
}

fn config_with_agent() -> Config {
    let (variables, _) = agent("http://127.0.0.1:1/v1").variables(&Config::default());
    Config::load(None, variables).unwrap()
}

#[test]
fn the_description_names_the_model_and_the_command_for_missing_speech() {
    let agent = agent("http://me:password@127.0.0.1:11434/v1");
    let text = agent.describe(&Config::default(), Paint::for_stream(&std::fs::File::open("/dev/null").unwrap()));
    for part in
        ["7 at http://127.0.0.1:11434/v1 (Ollama); its first answer took 1.3 s", "espeak-ng", INSTALL, "cargo build"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("password") && !text.contains("secret"), "{text}");
    assert!(agent.uses_port(11_434) && !agent.uses_port(8_080));
}
