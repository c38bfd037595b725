//! The search for a language model: the model that the command line or the environment names, or the first one that runs on
//! this machine.
//!
//! ```text
//!   --model │ OPENAI_BASE_URL, the usual ports, OPENAI_API_KEY ─► GET /models (a model that can chat) ─► a first answer
//! ```

use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};
use tandem_call::Method;
use tandem_cli::paint::harmless;
use tandem_cli::{Failure, say_error};
use tandem_http::{Client, FetchError, NetworkPolicy, Request, Timeouts, without_credentials};
use tokio::time::{Instant, sleep};
use url::Url;

/// The usual base URLs of model servers.
const USUAL: [(&str, &str); 4] = [
    ("Ollama", "http://127.0.0.1:11434/v1"),
    ("llama.cpp", "http://127.0.0.1:8080/v1"),
    ("LM Studio", "http://127.0.0.1:1234/v1"),
    ("vLLM", "http://127.0.0.1:8000/v1"),
];
const OPENAI: &str = "https://api.openai.com/v1";
/// Time limit for the list of models. A server of this machine answers within a few ms.
const LIST_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Time limit for the list of models of another machine.
const FAR_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for the first answer of a model. The model may have to be loaded.
const FIRST_TIMEOUT: Duration = Duration::from_secs(120);
/// Time after which the command says for which answer it waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum size of a list of models and of a first answer, in octets.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Maximum number of models that an error message names.
const MAX_NAMES: usize = 8;
/// The values of `reasoning_effort` for a model that does not think, or hardly. A model that thinks before it answers is too
/// slow for a telephone call. Models accept different values, and some servers refuse the field.
const EFFORTS: [Option<&str>; 3] = [Some("none"), Some("minimal"), None];
/// Statuses of a request that another value of `reasoning_effort` does not change: wrong keys, and unknown models.
const FINAL: [u16; 4] = [401, 403, 404, 429];
/// Parts of the names of models that do not chat.
const NO_CHAT: [&str; 24] = [
    "embed",
    "whisper",
    "tts",
    "rerank",
    "moderation",
    "dall-e",
    "image",
    "audio",
    "realtime",
    "transcribe",
    "davinci",
    "babbage",
    "bge-",
    "minilm",
    "clip",
    "guard",
    "ocr",
    "kokoro",
    "piper",
    "sora",
    "codex",
    "search",
    "turbo-instruct",
    "deep-research",
];
/// How to start a model server.
const START: &str = "\
Start one, for example:
  ollama serve                        in a terminal of its own (https://ollama.com),
  ollama pull llama3.2:3b             and once, in another terminal
or
  llama-server --jinja --port 8080 -hf Qwen/Qwen2.5-3B-Instruct-GGUF
or name one, on this machine or elsewhere; its key is OPENAI_API_KEY:
  tandem dev --agent \"...\" --model https://api.openai.com/v1#gpt-4.1-mini";

/// The variables of the environment that name a model.
#[derive(Default)]
pub(super) struct Environment {
    base: Option<String>,
    key: Option<String>,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let read = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Self { base: read("OPENAI_BASE_URL"), key: read("OPENAI_API_KEY") }
    }
}

/// A language model, or a server that may have one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    /// The base URL.
    pub(super) url: String,
    pub(super) name: Option<String>,
    pub(super) key: Option<String>,
    /// Where the model was found, for people.
    pub(super) source: String,
    /// The value of `reasoning_effort` that the server accepts.
    pub(super) effort: Option<&'static str>,
    /// The time of the first answer.
    pub(super) first_answer: Option<Duration>,
    /// The servers that come before this one and run, or that the environment names, with the reasons why they have no model.
    pub(super) passed_over: Vec<String>,
}

impl Model {
    fn at(source: &str, url: &str, key: Option<&str>) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            name: None,
            key: key.map(str::to_owned),
            source: source.to_owned(),
            effort: None,
            first_answer: None,
            passed_over: Vec::new(),
        }
    }

    /// Whether the model receives and sends audio.
    pub(super) fn is_realtime(&self) -> bool {
        self.url.starts_with("ws://") || self.url.starts_with("wss://")
    }
}

/// The reason why a model was not used.
struct Fault {
    /// The status with which the server refused the request.
    status: Option<u16>,
    why: String,
    /// Whether nothing listens at the address.
    is_closed: bool,
}

impl Fault {
    fn new(why: impl Into<String>) -> Self {
        Self { status: None, why: why.into(), is_closed: false }
    }
}

impl From<FetchError> for Fault {
    fn from(error: FetchError) -> Self {
        match &error {
            FetchError::ConnectRefused(text) if text.contains("refused") => {
                Self { is_closed: true, ..Self::new("nothing listens there") }
            }
            _ => Self::new(error.to_string()),
        }
    }
}

/// Finds a model that answers, for an agent with this prompt. `named` is the value of `--model`.
///
/// # Errors
/// Returns an error that says what was tried, and which command starts a model server.
pub(super) async fn find(named: Option<&str>, environment: &Environment, prompt: &str) -> Result<Model, Failure> {
    let client =
        Client::new(NetworkPolicy::everywhere(), FAR_TIMEOUT).map_err(|error| Failure::Environment(error.into()))?;
    let search = Search { client, prompt, patience: PATIENCE, note: &|line: String| say_error!("{}", harmless(&line)) };
    match named {
        Some(named) => search.named(named, environment).await,
        None => search.usual(environment, &USUAL).await,
    }
}

/// The search for a model.
struct Search<'a> {
    client: Client,
    /// The prompt of the agent.
    prompt: &'a str,
    /// Time after which the command says for which answer it waits.
    patience: Duration,
    /// Prints a line while the search runs.
    note: &'a dyn Fn(String),
}

impl Search<'_> {
    /// Returns the model that the command line names.
    async fn named(&self, named: &str, environment: &Environment) -> Result<Model, Failure> {
        let (url, name) = named.split_once('#').unwrap_or((named, ""));
        let is_known = ["http://", "https://", "ws://", "wss://"].iter().any(|scheme| url.starts_with(scheme));
        if Url::parse(url).is_err() || !is_known {
            return Err(Failure::Input(anyhow!(
                "--model: {url:?} is not a URL such as http://127.0.0.1:11434/v1#qwen3:8b"
            )));
        }
        let mut model = Model::at("--model", url, environment.key.as_deref());
        model.name = (!name.is_empty()).then(|| name.to_owned());
        let shown = without_credentials(&model.url);
        let found = self.look_at(model).await;
        found.map_err(|fault| Failure::Environment(anyhow!("--model: {shown}: {}", fault.why)))
    }

    /// Returns the first model of the environment and of the usual servers.
    async fn usual(&self, environment: &Environment, usual: &[(&str, &str)]) -> Result<Model, Failure> {
        let key = environment.key.as_deref();
        let mut candidates = Vec::new();
        candidates.extend(environment.base.as_deref().map(|base| Model::at("OPENAI_BASE_URL", base, key)));
        candidates.extend(usual.iter().map(|(source, url)| Model::at(source, url, None)));
        if environment.base.is_none() && key.is_some() {
            candidates.push(Model::at("OPENAI_API_KEY", OPENAI, key));
        }
        let (mut reasons, mut passed_over) = (Vec::new(), Vec::new());
        for candidate in candidates {
            let (source, url) = (candidate.source.clone(), without_credentials(&candidate.url));
            match self.look_at(candidate).await {
                Ok(model) => return Ok(Model { passed_over, ..model }),
                Err(Fault { why, is_closed, .. }) => {
                    reasons.push(format!("  {source:<16}{url:<28}  {why}"));
                    if !is_closed || source == "OPENAI_BASE_URL" {
                        passed_over.push(format!("{source} {url}: {why}"));
                    }
                }
            }
        }
        Err(Failure::Environment(anyhow!("no language model was found:\n{}\n{START}", reasons.join("\n"))))
    }

    /// Returns the model of a server, or the reason why it has none that answers.
    async fn look_at(&self, mut model: Model) -> Result<Model, Fault> {
        if model.is_realtime() {
            return Ok(model);
        }
        let is_named = model.name.is_some();
        if !is_named {
            let ids = self.list(&model).await?;
            model.name = Some(chosen(&model, &ids)?);
        }
        let began = Instant::now();
        let answered = {
            let answering = self.first_answer(&model);
            tokio::pin!(answering);
            tokio::select! {
                answered = &mut answering => answered,
                () = sleep(self.patience) => {
                    let (name, url) = (model.name.as_deref().unwrap_or_default(), without_credentials(&model.url));
                    (self.note)(format!(
                        "waiting for the first answer of {name} at {url}; the server may load the model first"
                    ));
                    answering.await
                }
            }
        };
        match answered {
            Ok(effort) => model.effort = effort,
            // A wrong name is a frequent mistake.
            Err(mut fault) if is_named && matches!(fault.status, Some(400 | 404)) => {
                if let Ok(ids) = self.list(&model).await
                    && !ids.is_empty()
                    && !ids.iter().any(|id| Some(id) == model.name.as_ref())
                {
                    let more = if ids.len() > MAX_NAMES { ", ..." } else { "" };
                    let first: Vec<&str> = ids.iter().take(MAX_NAMES).map(String::as_str).collect();
                    fault.why = format!("{}; its models are {}{more}", fault.why, first.join(", "));
                }
                return Err(fault);
            }
            Err(fault) => return Err(fault),
        }
        model.first_answer = Some(began.elapsed());
        Ok(model)
    }

    /// Returns the names of a server's models.
    async fn list(&self, model: &Model) -> Result<Vec<String>, Fault> {
        let is_usual = USUAL.iter().any(|(source, _)| *source == model.source);
        let timeout = if is_usual { LIST_TIMEOUT } else { FAR_TIMEOUT };
        let body = self.send(model, Method::Get, "/models", Vec::new(), timeout).await?;
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        let Some(list) = list.get("data").and_then(Value::as_array) else {
            return Err(Fault::new(format!("the server lists no models{}", advice(model))));
        };
        Ok(list.iter().filter_map(|one| Some(one.get("id")?.as_str()?.to_owned())).collect())
    }

    /// Asks the model for a word, so that it is loaded before the first call. Returns the value of `reasoning_effort` that the
    /// server accepts.
    async fn first_answer(&self, model: &Model) -> Result<Option<&'static str>, Fault> {
        let mut last = Fault::new("no answer");
        for effort in EFFORTS {
            match self.ask(model, effort).await {
                Ok(()) => return Ok(effort),
                Err(fault) if fault.status.is_none_or(|status| FINAL.contains(&status)) => return Err(fault),
                Err(fault) => last = fault,
            }
        }
        Err(last)
    }

    async fn ask(&self, model: &Model, effort: Option<&str>) -> Result<(), Fault> {
        let messages = json!([{ "role": "system", "content": self.prompt }, { "role": "user", "content": "Hello." }]);
        let mut request = json!({ "model": model.name, "messages": messages, "stream": true });
        if let Some(fields) = request.as_object_mut() {
            if model.url != OPENAI {
                fields.insert("max_tokens".to_owned(), json!(16));
            }
            if let Some(effort) = effort {
                fields.insert("reasoning_effort".to_owned(), json!(effort));
            }
        }
        let body = request.to_string().into_bytes();
        let answer = self.send(model, Method::Post, "/chat/completions", body, FIRST_TIMEOUT).await?;
        is_completion(&answer).map_err(|why| Fault::new(format!("{why}{}", advice(model))))
    }

    async fn send(
        &self,
        model: &Model,
        method: Method,
        path: &str,
        body: Vec<u8>,
        total: Duration,
    ) -> Result<Vec<u8>, Fault> {
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        headers.extend(model.key.as_ref().map(|key| ("Authorization".to_owned(), format!("Bearer {key}"))));
        let timeouts = Timeouts { connect: Some(total.min(FAR_TIMEOUT)), total };
        let url = format!("{}{path}", model.url);
        let method = tandem_http::method(method);
        let request = Request { method, url, headers, body: body.into(), timeouts, max_body: MAX_BODY };
        let response = self.client.send(&request).await?;
        if response.status == 200 {
            return Ok(response.body.to_vec());
        }
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let message = message(&answer).map(|text| format!(": {text}")).unwrap_or_default();
        let advice = if response.status == 404 { advice(model) } else { "" };
        let path = path.trim_start_matches('/');
        let why = format!("{path} answered {}{message}{advice}", response.status);
        Err(Fault { status: Some(response.status), why, is_closed: false })
    }
}

/// Returns the message of an error that a server sent.
fn message(answer: &Value) -> Option<String> {
    let message = answer.pointer("/error/message").or_else(|| answer.get("error"))?.as_str()?;
    Some(message.chars().take(200).collect())
}

/// Returns advice for a server that does not know the requests.
fn advice(model: &Model) -> &'static str {
    match model.url.contains("/v1") || model.source != "--model" && model.source != "OPENAI_BASE_URL" {
        true => "",
        false => "; the base URL of most servers ends with /v1",
    }
}

/// Checks that an answer with the status 200 is a chat completion: a stream of chunks. Another web server may answer every
/// request, and a model server may report an error in the stream.
fn is_completion(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let chunks = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let chunks: Vec<Value> = chunks.filter_map(|chunk| serde_json::from_str(chunk.trim()).ok()).collect();
    if let Some(message) = chunks.iter().find_map(message) {
        return Err(format!("the model failed: {message}"));
    }
    match chunks.iter().any(|chunk| chunk.get("choices").is_some()) {
        true => Ok(()),
        false => Err("chat/completions answered something else than a stream of chat completions".to_owned()),
    }
}

/// Returns the model of a server that an agent uses.
fn chosen(model: &Model, ids: &[String]) -> Result<String, Fault> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let chosen = if model.url == OPENAI { small_of_openai(&ids) } else { choose(&ids) };
    chosen.map(str::to_owned).ok_or_else(|| match (model.source.as_str(), ids.len()) {
        ("Ollama", _) => Fault::new("Ollama has no model that can chat: ollama pull llama3.2:3b"),
        (_, 0) => Fault::new("the server has no models"),
        (_, count) => Fault::new(format!("none of its {count} models can chat")),
    })
}

/// Returns the first model that can chat, in the order of the server.
fn choose<'a>(ids: &[&'a str]) -> Option<&'a str> {
    ids.iter().copied().find(|id| {
        let id = id.to_ascii_lowercase();
        !NO_CHAT.iter().any(|part| id.contains(part))
    })
}

/// Returns a small model of OpenAI, whose list has no order: the last one by name. A small model answers faster.
fn small_of_openai<'a>(ids: &[&'a str]) -> Option<&'a str> {
    let is_dated = |id: &str| {
        id.rsplit('-').next().is_some_and(|part| part.len() >= 2 && part.bytes().all(|one| one.is_ascii_digit()))
    };
    let small = ids.iter().copied().filter(|id| id.starts_with("gpt-") && id.ends_with("-mini") && !is_dated(id));
    small.filter(|id| choose(&[id]).is_some()).max().or_else(|| choose(ids))
}

#[cfg(test)]
mod tests;
