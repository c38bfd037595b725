//! `tandem dev --agent`: the language model and the speech engines of this machine for a voice agent.
//!
//! ```text
//!   --model, OPENAI_BASE_URL, the usual ports of model servers ─► GET /models ─► a model that can chat ─┐
//!   tandem-speech and its models, or [speech] of --config ──────────────────────────────────────────────┴─► Agent
//! ```

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};
use tandem_call::Method;
use tandem_cli::Failure;
use tandem_cli::paint::Paint;
use tandem_cli::speech::{HOW_TO_GET, INSTALL, Installed};
use tandem_config::Config;
use tandem_http::{Client, FetchError, NetworkPolicy, Request, Timeouts};
use tandem_speech::{Stt, Tts};
use tokio::time::Instant;
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
/// Maximum size of a list of models and of a first answer, in octets.
const MAX_BODY: usize = 4 * 1024 * 1024;
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

/// The options of the command line for the agent.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Options {
    /// Serve a voice agent with this system prompt, in place of an application. It uses a language model that runs on this
    /// machine (Ollama, llama.cpp, LM Studio, vLLM), or the one of OPENAI_BASE_URL and OPENAI_API_KEY
    #[arg(long, value_name = "PROMPT", conflicts_with_all = ["url", "public", "provider"])]
    pub(super) agent: Option<String>,
    /// Language model of the agent: the base URL of an OpenAI-compatible server (http://127.0.0.1:11434/v1), and `#NAME` for
    /// one of its models. A ws:// or wss:// URL is a realtime model. The key is OPENAI_API_KEY
    #[arg(long, value_name = "URL[#NAME]", requires = "agent")]
    model: Option<String>,
    /// First words of the agent (default: a greeting; "" lets the caller speak first)
    #[arg(long, value_name = "TEXT", requires = "agent")]
    first_message: Option<String>,
    /// Voice of the agent: a name of the speech engine
    #[arg(long, value_name = "NAME", requires = "agent")]
    voice: Option<String>,
    /// Language that the agent speaks and understands, for example de-DE (default: en-US)
    #[arg(long, value_name = "TAG", requires = "agent")]
    language: Option<String>,
}

/// The variables of the environment that name a model.
#[derive(Default)]
struct Environment {
    base: Option<String>,
    key: Option<String>,
}

impl Environment {
    fn of_process() -> Self {
        let read = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Self { base: read("OPENAI_BASE_URL"), key: read("OPENAI_API_KEY") }
    }
}

/// A language model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    /// The base URL.
    url: String,
    name: Option<String>,
    key: Option<String>,
    /// Where the model was found, for people.
    source: String,
    /// Whether the server accepts `reasoning_effort = "none"`. A model that thinks before it answers is too slow for a
    /// telephone call.
    thinks_not: bool,
    /// The time of the first answer.
    first_answer: Option<Duration>,
}

/// The agent that the server gets.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    prompt: String,
    first_message: String,
    voice: Option<String>,
    language: Option<String>,
    model: Model,
    installed: Installed,
}

impl Agent {
    /// Finds the model and the speech engines of this machine. Returns `None` if the command line names no agent.
    ///
    /// # Errors
    /// Returns an error that says which command starts a model server.
    pub(super) fn find(options: &Options) -> Result<Option<Self>, Failure> {
        let Some(prompt) = options.agent.clone() else { return Ok(None) };
        if prompt.trim().is_empty() {
            return Err(Failure::Input(anyhow!("--agent: the prompt is empty; it tells the model what to do")));
        }
        let model =
            tandem_cli::block_on(find_model(options.model.as_deref(), &Environment::of_process(), &USUAL, &prompt))??;
        let first_message = options.first_message.clone().unwrap_or_else(|| "Hello, how can I help you?".to_owned());
        Ok(Some(Self {
            prompt,
            first_message,
            voice: options.voice.clone(),
            language: options.language.clone(),
            model,
            installed: Installed::on_this_machine(None),
        }))
    }

    /// Returns the variables that add the agent to a configuration, and the name of the agent. `before` is the configuration
    /// without the agent.
    pub(super) fn variables(&self, before: &Config) -> (Vec<(String, String)>, String) {
        let place = before.agents.len();
        let mut names = (1..).map(|number| if number == 1 { "dev".to_owned() } else { format!("dev-{number}") });
        let is_free = |name: &String| before.agents.iter().all(|agent| *agent.name != **name);
        let name = names.find(is_free).unwrap_or_default();
        let mut variables = Vec::new();
        let mut set = |key: &str, value: &str| {
            // A text that looks like a number stays a text.
            let value = toml::Value::String(value.to_owned()).to_string();
            variables.push((format!("TANDEM_AGENTS__{place}__{key}"), value));
        };
        set("NAME", &name);
        set("PROMPT", &self.prompt);
        if !self.first_message.is_empty() {
            set("FIRST_MESSAGE", &self.first_message);
        }
        let Model { url, name: model, key, .. } = &self.model;
        set("MODEL__URL", url);
        let optional =
            [("VOICE", &self.voice), ("LANGUAGE", &self.language), ("MODEL__NAME", model), ("MODEL__KEY", key)];
        for (key, value) in optional {
            if let Some(value) = value {
                set(key, value);
            }
        }
        if self.model.thinks_not {
            set("MODEL__EXTRA__REASONING_EFFORT", "none");
        }
        let networks = networks_towards(url, before);
        if !networks.is_empty() {
            let allowed = before.webhooks.allow_networks.iter().map(ToString::to_string);
            let all = allowed.chain(networks).map(|network| format!("\"{network}\""));
            let all = format!("[{}]", all.collect::<Vec<_>>().join(", "));
            variables.push(("TANDEM_WEBHOOKS__ALLOW_NETWORKS".to_owned(), all));
        }
        if before.speech.stt == Stt::Off && self.installed.recognises() {
            variables.push(("TANDEM_SPEECH__STT".to_owned(), "local".to_owned()));
        }
        if before.speech.tts == Tts::Espeak && self.installed.speaks() {
            variables.push(("TANDEM_SPEECH__TTS".to_owned(), "local".to_owned()));
        }
        (variables, name)
    }

    /// Whether the model server has this port of this machine.
    pub(super) fn uses_port(&self, port: u16) -> bool {
        let Ok(url) = Url::parse(&self.model.url) else { return false };
        let is_here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        is_here && url.port_or_known_default() == Some(port)
    }

    /// Returns the lines that say which engines the agent uses, and what is missing.
    pub(super) fn describe(&self, config: &Config, paint: Paint) -> String {
        let Model { url, name, source, first_answer, .. } = &self.model;
        let name = name.as_deref().map(|name| format!("{name} at ")).unwrap_or_default();
        let took = first_answer.map(|took| format!("; its first answer took {:.1} s", took.as_secs_f64()));
        let url = tandem_http::without_credentials(url);
        let mut text = format!("  model        {name}{url} ({source}){}\n", took.unwrap_or_default());
        if self.model.is_realtime() {
            text.push_str("  speech       the realtime model receives and sends audio itself\n");
            return text;
        }
        let local =
            |is_local: bool, other: &str| if is_local { "local (tandem-speech)".to_owned() } else { other.to_owned() };
        let configured = "as in the configuration";
        let (stt, tts) = (&config.speech.stt, &config.speech.tts);
        let recognises = *stt != Stt::Off;
        let recognition = match recognises {
            true => local(self.installed.recognises(), configured),
            false => "none".to_owned(),
        };
        let voice = match tts {
            Tts::Espeak => "espeak-ng".to_owned(),
            Tts::Off => "none".to_owned(),
            _ => local(self.installed.speaks(), configured),
        };
        text.push_str(&format!("  recognition  {recognition}\n  voice        {voice}\n"));
        if !recognises {
            let how = self.how_to_install();
            let line = format!("The agent cannot understand speech yet: this machine recognises none. {how}");
            text.push_str(&format!("{}\n", paint.yellow(line)));
        } else if *tts == Tts::Espeak {
            text.push_str(&format!("{}\n", paint.dim(format!("For a natural voice: {}", self.how_to_install()))));
        }
        text
    }

    fn how_to_install(&self) -> String {
        match self.installed.program {
            true => format!("Run `{INSTALL}`, then start this command again."),
            false => format!("First, {HOW_TO_GET}. Then run `{INSTALL}`, and start this command again."),
        }
    }
}

impl Model {
    fn is_realtime(&self) -> bool {
        self.url.starts_with("ws://") || self.url.starts_with("wss://")
    }
}

/// A server that may have models.
#[derive(Clone, Debug)]
struct Candidate {
    source: String,
    url: String,
    key: Option<String>,
    name: Option<String>,
}

/// Finds a model that answers.
async fn find_model(
    named: Option<&str>,
    environment: &Environment,
    usual: &[(&str, &str)],
    prompt: &str,
) -> Result<Model, Failure> {
    let client =
        Client::new(NetworkPolicy::everywhere(), FAR_TIMEOUT).map_err(|error| Failure::Environment(error.into()))?;
    let key = environment.key.clone();
    if let Some(named) = named {
        let (url, name) = named.split_once('#').map_or((named, None), |(url, name)| (url, Some(name.to_owned())));
        let is_known = ["http://", "https://", "ws://", "wss://"].iter().any(|scheme| url.starts_with(scheme));
        if Url::parse(url).is_err() || !is_known {
            return Err(Failure::Input(anyhow!(
                "--model: {url:?} is not a URL such as http://127.0.0.1:11434/v1#qwen3:8b"
            )));
        }
        let url = url.trim_end_matches('/').to_owned();
        let candidate = Candidate { source: "--model".to_owned(), url, key, name };
        return look_at(&client, candidate, prompt)
            .await
            .map_err(|why| Failure::Environment(anyhow!("--model: {why}")));
    }
    let mut candidates = Vec::new();
    if let Some(base) = &environment.base {
        let url = base.trim_end_matches('/').to_owned();
        candidates.push(Candidate { source: "OPENAI_BASE_URL".to_owned(), url, key: key.clone(), name: None });
    }
    candidates.extend(usual.iter().map(|(source, url)| Candidate {
        source: (*source).to_owned(),
        url: (*url).to_owned(),
        key: None,
        name: None,
    }));
    if let (None, Some(key)) = (&environment.base, key) {
        candidates.push(Candidate {
            source: "OPENAI_API_KEY".to_owned(),
            url: OPENAI.to_owned(),
            key: Some(key),
            name: None,
        });
    }
    let mut reasons = Vec::new();
    for candidate in candidates {
        let (source, url) = (candidate.source.clone(), candidate.url.clone());
        match look_at(&client, candidate, prompt).await {
            Ok(model) => return Ok(model),
            Err(why) => reasons.push(format!("  {source:<16}{url:<28}  {why}")),
        }
    }
    Err(Failure::Environment(anyhow!("no language model was found:\n{}\n{START}", reasons.join("\n"))))
}

/// Returns the model of a server, or the reason why it has none that answers.
async fn look_at(client: &Client, candidate: Candidate, prompt: &str) -> Result<Model, String> {
    let Candidate { source, url, key, name } = candidate;
    let mut model = Model { url, name, key, source, thinks_not: false, first_answer: None };
    if model.is_realtime() {
        return Ok(model);
    }
    if model.name.is_none() {
        model.name = Some(listed(client, &model).await?);
    }
    let began = Instant::now();
    let is_far = model.url == OPENAI;
    // Servers that do not know the field refuse or ignore it. Some models of OpenAI refuse it.
    let answers = !is_far && first_answer(client, &model, prompt, true).await.is_ok();
    if !answers {
        first_answer(client, &model, prompt, false).await?;
    }
    model.thinks_not = answers;
    model.first_answer = Some(began.elapsed());
    Ok(model)
}

/// Returns the name of a model that can chat.
async fn listed(client: &Client, model: &Model) -> Result<String, String> {
    let timeout =
        if model.source.starts_with("OPENAI") || model.source == "--model" { FAR_TIMEOUT } else { LIST_TIMEOUT };
    let body = send(client, model, Method::Get, "/models", Vec::new(), timeout).await?;
    let list: Value = serde_json::from_slice(&body).map_err(|_| "the server lists no models".to_owned())?;
    let ids = list.get("data").and_then(Value::as_array).ok_or("the server lists no models")?;
    let ids: Vec<&str> = ids.iter().filter_map(|one| one.get("id")?.as_str()).collect();
    let chosen = if model.url == OPENAI { small_of_openai(&ids) } else { choose(&ids) };
    chosen.map(str::to_owned).ok_or_else(|| match (model.source.as_str(), ids.is_empty()) {
        ("Ollama", _) => "Ollama has no model that can chat: ollama pull llama3.2:3b".to_owned(),
        (_, true) => "the server has no models".to_owned(),
        (_, false) => format!("none of its {} models can chat", ids.len()),
    })
}

/// Asks the model for a word, so that it is loaded before the first call.
async fn first_answer(client: &Client, model: &Model, prompt: &str, thinks_not: bool) -> Result<(), String> {
    let messages = json!([{ "role": "system", "content": prompt }, { "role": "user", "content": "Hello." }]);
    let mut request = json!({ "model": model.name, "messages": messages, "stream": true });
    if let Some(fields) = request.as_object_mut() {
        if model.url != OPENAI {
            fields.insert("max_tokens".to_owned(), json!(16));
        }
        if thinks_not {
            fields.insert("reasoning_effort".to_owned(), json!("none"));
        }
    }
    let body = request.to_string().into_bytes();
    send(client, model, Method::Post, "/chat/completions", body, FIRST_TIMEOUT).await.map(drop)
}

async fn send(
    client: &Client,
    model: &Model,
    method: Method,
    path: &str,
    body: Vec<u8>,
    total: Duration,
) -> Result<Vec<u8>, String> {
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    headers.extend(model.key.as_ref().map(|key| ("Authorization".to_owned(), format!("Bearer {key}"))));
    let connect = Some(total.min(FAR_TIMEOUT));
    let timeouts = Timeouts { connect, total };
    let url = format!("{}{path}", model.url);
    let method = tandem_http::method(method);
    let request = Request { method, url, headers, body: body.into(), timeouts, max_body: MAX_BODY };
    let response = client.send(&request).await.map_err(|error| reason(&error))?;
    if response.status == 200 {
        return Ok(response.body.to_vec());
    }
    let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let message = answer.pointer("/error/message").or_else(|| answer.get("error")).and_then(Value::as_str);
    let message = message.map(|text| format!(": {}", text.chars().take(200).collect::<String>())).unwrap_or_default();
    Err(format!("{} answered {}{message}", path.trim_start_matches('/'), response.status))
}

fn reason(error: &FetchError) -> String {
    let text = error.to_string();
    if text.contains("refused") { "nothing listens there".to_owned() } else { text }
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

/// Returns the networks of the model server that the server may not use yet. Requests to private addresses need a
/// permission, and the user has named this server.
fn networks_towards(url: &str, config: &Config) -> Vec<String> {
    let Ok(url) = Url::parse(url) else { return Vec::new() };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Vec::new() };
    let found =
        (host.trim_matches(['[', ']']), port).to_socket_addrs().into_iter().flatten().map(|address| address.ip());
    let is_allowed = |ip: &IpAddr| config.webhooks.allow_networks.iter().any(|network| network.contains(ip));
    let bits = |ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    found.filter(|ip| is_private(*ip) && !is_allowed(ip)).map(|ip| format!("{ip}/{}", bits(ip))).collect()
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests;
