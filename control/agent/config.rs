//! `[[agents]]`: voice agents that answer calls on this server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, json};
use tandem_call::address::Address;
use tandem_settings::Secret;
use url::Url;

/// An entry of `[[agents]]`: a caller talks with a language model through the engines of `[speech]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The name that numbers, documents and applications use for the agent.
    pub name: Arc<str>,
    /// The system prompt of the model.
    #[serde(default)]
    pub prompt: Option<Arc<str>>,
    /// The file with the system prompt, instead of `prompt`; 256 KiB at most.
    #[serde(default)]
    pub prompt_file: Option<PathBuf>,
    /// The agent's first words. Without them the caller speaks first.
    #[serde(default)]
    pub first_message: Option<Arc<str>>,
    /// The language (BCP 47) that the agent speaks and understands; `en-US` by default.
    #[serde(default = "english")]
    pub language: Arc<str>,
    /// The agent's voice: a name of `speech.tts_voices` or of the speech engine.
    #[serde(default)]
    pub voice: Option<Arc<str>>,
    /// The language model.
    pub model: ModelConfig,
    /// The tools that the model may call.
    #[serde(default)]
    pub tools: Vec<ToolConfig>,
    /// A number or SIP URI to which the caller is transferred when an engine has failed.
    #[serde(default)]
    pub fallback: Option<TransferDestination>,
    /// How long the agent waits for more words after a pause of the caller.
    #[serde(default)]
    pub patience: Patience,
    /// The caller's inputs that interrupt the agent.
    #[serde(default)]
    pub interruptions: Interruptions,
    /// Maximum duration of a call in seconds, 10 to 86,400; 1,800 by default.
    #[serde(default = "half_an_hour")]
    pub max_seconds: u32,
    /// Seconds of silence after which the agent asks whether the caller is still there, 2 to 600; 10 by default.
    #[serde(default = "ten")]
    pub silence_seconds: u32,
    /// How often the agent asks before it says goodbye, 0 to 10; 2 by default.
    #[serde(default = "two")]
    pub silence_prompts: u32,
    /// Phrases that the agent says without its model.
    #[serde(default)]
    pub phrases: PhraseConfig,
}

/// Maximum length of a `prompt_file`, in octets.
const LONGEST_PROMPT: usize = 256 * 1024;

fn english() -> Arc<str> {
    "en-US".into()
}

fn half_an_hour() -> u32 {
    1_800
}

fn ten() -> u32 {
    10
}

fn two() -> u32 {
    2
}

/// `model`: an OpenAI-compatible chat endpoint, or, with `ws://` or `wss://`, a model with OpenAI's realtime protocol.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The base URL; `/chat/completions` is appended unless it ends so. For a realtime model: the URL without
    /// `?model=`.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// The model's name at the endpoint. Not sent if absent.
    #[serde(default)]
    pub name: Option<Arc<str>>,
    /// The Bearer token.
    #[serde(default)]
    pub key: Option<Secret>,
    /// Maximum length of an answer, in tokens. Not sent if absent.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// The request's field for `max_tokens`: `max_completion_tokens`, or `max_tokens` for older servers.
    #[serde(default = "max_completion_tokens")]
    pub max_tokens_field: Arc<str>,
    /// The sampling temperature, sent unchanged. Not sent if absent.
    #[serde(default)]
    pub temperature: Option<f32>,
    /// More fields of each request, sent unchanged.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Seconds until the first word of an answer and between two words, 1 to 60; 6 by default. After that the model is
    /// asked once more.
    #[serde(default = "six")]
    pub timeout_seconds: u16,
    /// The version of a realtime model's protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// The transcription model that a realtime model uses for the caller's words; `whisper-1` by default.
    #[serde(default = "transcription")]
    pub transcription: Arc<str>,
}

/// The version of OpenAI's realtime protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OpenAI's version since August 2025.
    #[default]
    Ga,
    /// The version before, which many other servers use.
    Beta,
}

fn transcription() -> Arc<str> {
    "whisper-1".into()
}

fn max_completion_tokens() -> Arc<str> {
    "max_completion_tokens".into()
}

fn six() -> u16 {
    6
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    Url::parse(&text)
        .map_err(|_| D::Error::invalid_value(serde::de::Unexpected::Str(&text), &"a URL like http://HOST:PORT/v1"))
}

impl ModelConfig {
    /// The URL of chat requests.
    pub fn endpoint(&self) -> String {
        let url = self.url.as_str().trim_end_matches('/');
        if url.ends_with("/chat/completions") { url.to_owned() } else { format!("{url}/chat/completions") }
    }

    /// Whether the model takes and makes audio itself.
    pub fn is_realtime(&self) -> bool {
        matches!(self.url.scheme(), "ws" | "wss")
    }

    /// The URL of a realtime model's WebSocket.
    pub fn realtime_url(&self) -> Url {
        let mut url = self.url.clone();
        if let Some(name) = &self.name {
            url.query_pairs_mut().append_pair("model", name);
        }
        url
    }

    /// The headers of a realtime model's WebSocket handshake.
    pub fn realtime_headers(&self) -> Vec<(String, String)> {
        let key = self.key.as_ref().map(|key| ("Authorization".to_owned(), format!("Bearer {}", key.expose())));
        let beta = (self.protocol == Protocol::Beta).then(|| ("OpenAI-Beta".to_owned(), "realtime=v1".to_owned()));
        key.into_iter().chain(beta).collect()
    }

    /// Maximum time until the first word of an answer, and between two words.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

/// A destination of a call: a number or a SIP URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferDestination(pub Address);

impl<'de> Deserialize<'de> for TransferDestination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Address::from(text.as_str()) {
            address @ (Address::Phone(_) | Address::Client(_)) => Ok(Self(address)),
            address if text.starts_with("sip:") || text.starts_with("sips:") => Ok(Self(address)),
            _ => Err(D::Error::invalid_value(serde::de::Unexpected::Str(&text), &"a number or a SIP URI")),
        }
    }
}

/// How long an agent waits for more words after a pause of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Patience {
    /// Half of the normal waits.
    Quick,
    /// 50 ms after a complete sentence, 300 ms usually, 600 ms after digits, 1 s after words that need a continuation.
    #[default]
    Normal,
    /// Twice the normal waits.
    Patient,
}

impl Patience {
    /// Converts a wait of [`Patience::Normal`] into a wait of this setting.
    pub fn of(self, wait: Duration) -> Duration {
        match self {
            Self::Quick => wait / 2,
            Self::Normal => wait,
            Self::Patient => wait * 2,
        }
    }
}

/// The caller's inputs that interrupt an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interruptions {
    /// Words and digits. A voice without words only pauses the agent.
    #[default]
    Words,
    /// A voice at once, and digits.
    Voice,
    /// Digits only.
    Keys,
    /// Nothing.
    None,
}

/// `phrases`: what an agent says without its model. It says nothing for an empty text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhraseConfig {
    /// Said when the model has not answered 700 ms after the end of the caller's turn.
    pub wait: Arc<str>,
    /// Said every 6 s after that, three times at most.
    pub still_waiting: Arc<str>,
    /// Said when the caller is silent.
    pub silence: Arc<str>,
    /// Said when the caller's words were not understood, or when the model's answer is empty.
    pub repeat: Arc<str>,
    /// Said when an engine failed.
    pub apology: Arc<str>,
    /// Said after the apology, before the fallback is called.
    pub transfer: Arc<str>,
    /// Said 30 s before `max_seconds`.
    pub ending: Arc<str>,
    /// Said before the agent hangs up.
    pub goodbye: Arc<str>,
}

impl Default for PhraseConfig {
    fn default() -> Self {
        Self {
            wait: "One moment.".into(),
            still_waiting: "I am still working on it.".into(),
            silence: "Are you still there?".into(),
            repeat: "Sorry, I did not catch that. Could you say it again?".into(),
            apology: "I am sorry, I have a technical problem.".into(),
            transfer: "I will connect you with somebody who can help.".into(),
            ending: "We have half a minute left.".into(),
            goodbye: "Goodbye.".into(),
        }
    }
}

/// A tool that an agent may use.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolConfig {
    /// `hang_up`: end the call.
    HangUp,
    /// `send_digits`: send DTMF digits.
    SendDigits,
    /// `record`: start or stop a recording.
    Record,
    /// `transfer`: connect the caller with one of these destinations, by name.
    Transfer(BTreeMap<String, TransferDestination>),
    /// A tool of the operator's own: a request to a web server.
    Http(Box<HttpTool>),
}

/// A tool that sends a request to a web server.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpTool {
    /// The tool's name for the model: 1 to 64 of `a-z A-Z 0-9 _ -`.
    pub name: Arc<str>,
    /// The description of the tool for the model.
    pub description: Arc<str>,
    /// The URL, which is fixed. The model's arguments are the query of a GET or DELETE request and the JSON body of
    /// others.
    pub url: Url,
    /// The HTTP method; `POST` by default.
    pub method: http::Method,
    /// The headers of each request.
    pub headers: BTreeMap<String, String>,
    /// The JSON schema of the arguments, an object.
    pub parameters: Value,
    /// Said when the tool starts, unless the model has said something before the call.
    pub say: Option<Arc<str>>,
    /// Maximum duration of the request, 1 to 120 s; 20 s by default.
    pub timeout: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolTable {
    name: String,
    #[serde(default)]
    to: BTreeMap<String, TransferDestination>,
    #[serde(default)]
    description: String,
    url: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    say: Option<Arc<str>>,
    #[serde(default)]
    timeout_seconds: Option<u16>,
}

impl<'de> Deserialize<'de> for ToolConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let table = match value {
            Value::String(name) => json!({ "name": name }),
            table => table,
        };
        let table: ToolTable = serde_json::from_value(table).map_err(|error| D::Error::custom(error.to_string()))?;
        tool(table).map_err(D::Error::custom)
    }
}

fn tool(table: ToolTable) -> Result<ToolConfig, String> {
    let name = table.name;
    match (name.as_str(), table.url) {
        ("hang_up", None) => Ok(ToolConfig::HangUp),
        ("send_digits", None) => Ok(ToolConfig::SendDigits),
        ("record", None) => Ok(ToolConfig::Record),
        ("transfer", None) if table.to.is_empty() => {
            Err("tool \"transfer\" needs its destinations: to = { sales = \"+15551230001\" }".to_owned())
        }
        ("transfer", None) => Ok(ToolConfig::Transfer(table.to)),
        ("hang_up" | "send_digits" | "record" | "transfer", Some(_)) => {
            Err(format!("tool {name:?} is built in and takes no url"))
        }
        (_, None) => Err(format!(
            "tool {name:?} is not a built-in tool (hang_up, transfer, send_digits, record), so it needs a url"
        )),
        (_, Some(url)) => {
            let url = Url::parse(&url).map_err(|error| format!("tool {name:?}: {url:?} is not a URL: {error}"))?;
            let fits = (1..=64).contains(&name.len())
                && name.bytes().all(|one| one.is_ascii_alphanumeric() || matches!(one, b'_' | b'-'));
            if !fits {
                return Err(format!("tool name {name:?}: 1 to 64 of a-z, A-Z, 0-9, _ and -"));
            }
            let method = table.method.unwrap_or_else(|| "POST".to_owned());
            let method = http::Method::from_bytes(method.to_ascii_uppercase().as_bytes())
                .map_err(|_| format!("tool {name:?}: {method:?} is not an HTTP method"))?;
            Ok(ToolConfig::Http(Box::new(HttpTool {
                name: name.into(),
                description: table.description.into(),
                url,
                method,
                headers: table.headers,
                parameters: schema(table.parameters),
                say: table.say,
                timeout: Duration::from_secs(table.timeout_seconds.unwrap_or(20).clamp(1, 120).into()),
            })))
        }
    }
}

/// The schema of an object: `parameters` itself if it is one, else a schema with these properties, all of them
/// required.
fn schema(parameters: Map<String, Value>) -> Value {
    if parameters.get("type").is_some_and(|kind| kind == "object") {
        return Value::Object(parameters);
    }
    let required: Vec<&String> = parameters.keys().collect();
    json!({ "type": "object", "required": required, "properties": parameters, "additionalProperties": false })
}

impl ToolConfig {
    /// The tool's name for the model.
    pub fn name(&self) -> &str {
        match self {
            Self::HangUp => "hang_up",
            Self::SendDigits => "send_digits",
            Self::Record => "record",
            Self::Transfer(_) => "transfer",
            Self::Http(tool) => &tool.name,
        }
    }
}

impl AgentConfig {
    /// Returns the agent with the content of `prompt_file` as its prompt.
    ///
    /// # Errors
    /// The file cannot be read, or is too long.
    pub fn with_prompt(mut self) -> Result<Self, String> {
        if let Some(path) = &self.prompt_file {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            if text.len() > LONGEST_PROMPT {
                return Err(format!("{} has {} octets; the maximum is {LONGEST_PROMPT}", path.display(), text.len()));
            }
            self.prompt = Some(text.into());
        }
        Ok(self)
    }
}
