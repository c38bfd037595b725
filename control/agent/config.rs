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

/// An entry of `[[agents]]`: a language model that talks with a caller through the engines of `[speech]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The name of the agent. Numbers, documents and applications use this name.
    pub name: Arc<str>,
    /// The system prompt of the model.
    #[serde(default)]
    pub prompt: Option<Arc<str>>,
    /// A file that contains the system prompt, as an alternative to `prompt`. The file has at most 256 KiB.
    #[serde(default)]
    pub prompt_file: Option<PathBuf>,
    /// The first words of the agent. Without this setting, the caller speaks first.
    #[serde(default)]
    pub first_message: Option<Arc<str>>,
    /// The language (BCP 47) that the agent speaks and understands. The default is `en-US`.
    #[serde(default = "english")]
    pub language: Arc<str>,
    /// The voice of the agent: a name from `speech.tts_voices`, or a voice name of the speech engine.
    #[serde(default)]
    pub voice: Option<Arc<str>>,
    /// The language model.
    pub model: ModelConfig,
    /// The tools that the model may call.
    #[serde(default)]
    pub tools: Vec<ToolConfig>,
    /// A number or SIP URI. The caller is transferred to this destination after the failure of an engine.
    #[serde(default)]
    pub fallback: Option<TransferDestination>,
    /// How long the agent waits for more words after the caller has paused.
    #[serde(default)]
    pub patience: Patience,
    /// The inputs of the caller that interrupt the agent.
    #[serde(default)]
    pub interruptions: Interruptions,
    /// Maximum duration of a call in seconds, from 10 to 86,400. The default is 1,800.
    #[serde(default = "half_an_hour")]
    pub max_seconds: u32,
    /// Seconds of silence after which the agent asks whether the caller is still present, from 2 to 600. The default is
    /// 10.
    #[serde(default = "ten")]
    pub silence_seconds: u32,
    /// Number of questions to a silent caller before the agent says goodbye, from 0 to 10. The default is 2.
    #[serde(default = "two")]
    pub silence_prompts: u32,
    /// The phrases that the agent says without a request to its model.
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

/// The setting `model`: the language model of an agent. The model is a chat endpoint that is compatible with OpenAI.
/// With a `ws://` or `wss://` URL, the model is a server that speaks OpenAI's realtime protocol.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The base URL. `/chat/completions` is appended if the URL does not end with this path. For a realtime model, this
    /// is the URL without `?model=`.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// The name of the model at the endpoint. Without this setting, no name is sent.
    #[serde(default)]
    pub name: Option<Arc<str>>,
    /// The Bearer token.
    #[serde(default)]
    pub key: Option<Secret>,
    /// Maximum length of a response, in tokens. Without this setting, no limit is sent.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// The name of the request field for `max_tokens`: `max_completion_tokens`, or `max_tokens` for older servers.
    #[serde(default = "max_completion_tokens")]
    pub max_tokens_field: Arc<str>,
    /// The sampling temperature, which is sent unchanged. Without this setting, no temperature is sent.
    #[serde(default)]
    pub temperature: Option<f32>,
    /// Additional fields of each request, which are sent unchanged.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Maximum time in seconds until the first word of a response and between two words, from 1 to 60. The default is
    /// 6. After this time the agent repeats the request once.
    #[serde(default = "six")]
    pub timeout_seconds: u16,
    /// The version of the realtime protocol that a realtime model speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// The transcription model that a realtime model uses for the words of the caller. The default is `whisper-1`.
    #[serde(default = "transcription")]
    pub transcription: Arc<str>,
}

/// The version of OpenAI's realtime protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The version that OpenAI uses since August 2025.
    #[default]
    Ga,
    /// The version before August 2025. Many other servers use this version.
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
    /// Returns the URL of chat requests.
    pub fn endpoint(&self) -> String {
        let url = self.url.as_str().trim_end_matches('/');
        if url.ends_with("/chat/completions") { url.to_owned() } else { format!("{url}/chat/completions") }
    }

    /// Whether the model receives and produces audio itself (a realtime model).
    pub fn is_realtime(&self) -> bool {
        matches!(self.url.scheme(), "ws" | "wss")
    }

    /// Returns the URL for the WebSocket of a realtime model.
    pub fn realtime_url(&self) -> Url {
        let mut url = self.url.clone();
        if let Some(name) = &self.name {
            url.query_pairs_mut().append_pair("model", name);
        }
        url
    }

    /// Returns the header field with the key.
    pub fn authorization(&self) -> Option<(String, String)> {
        self.key.as_ref().map(|key| ("Authorization".to_owned(), format!("Bearer {}", key.expose())))
    }

    /// Returns the headers for the WebSocket handshake of a realtime model.
    pub fn realtime_headers(&self) -> Vec<(String, String)> {
        let beta = (self.protocol == Protocol::Beta).then(|| ("OpenAI-Beta".to_owned(), "realtime=v1".to_owned()));
        self.authorization().into_iter().chain(beta).collect()
    }

    /// Returns the maximum time until the first word of a response, and between two words.
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

/// How long an agent waits for more words after the caller has paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Patience {
    /// The agent waits half as long as with `Normal`.
    Quick,
    /// The agent waits 300 ms by default, 50 ms after a complete sentence, 600 ms after digits, and 1 s after words
    /// that need a continuation.
    #[default]
    Normal,
    /// The agent waits twice as long as with `Normal`.
    Patient,
}

impl Patience {
    /// Converts a time of [`Patience::Normal`] to the time for this setting.
    pub fn of(self, wait: Duration) -> Duration {
        match self {
            Self::Quick => wait / 2,
            Self::Normal => wait,
            Self::Patient => wait * 2,
        }
    }
}

/// The inputs of the caller that interrupt an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interruptions {
    /// Words and digits interrupt. A voice only pauses the agent until words are recognised.
    #[default]
    Words,
    /// The caller's voice interrupts at once. Digits interrupt too.
    Voice,
    /// Only digits interrupt.
    Keys,
    /// No input interrupts.
    None,
}

/// The setting `phrases`: the phrases that an agent says without a request to its model. The agent does not say an
/// empty phrase.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhraseConfig {
    /// The agent says this phrase if the model has not responded 700 ms after the end of the caller's turn.
    pub wait: Arc<str>,
    /// The agent says this phrase every 6 s after `wait`, at most three times.
    pub still_waiting: Arc<str>,
    /// The agent says this phrase if the caller is silent.
    pub silence: Arc<str>,
    /// The agent says this phrase if the caller's words were not understood, or if the model's response is empty.
    pub repeat: Arc<str>,
    /// The agent says this phrase after the failure of an engine.
    pub apology: Arc<str>,
    /// The agent says this phrase after the apology, before the fallback is called.
    pub transfer: Arc<str>,
    /// The agent says this phrase 30 s before the call reaches `max_seconds`.
    pub ending: Arc<str>,
    /// The agent says this phrase before it hangs up.
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
    /// `hang_up`: ends the call.
    HangUp,
    /// `send_digits`: sends DTMF digits.
    SendDigits,
    /// `record`: starts or stops a recording.
    Record,
    /// `transfer`: connects the caller with one of these destinations. The key is the destination's name.
    Transfer(BTreeMap<String, TransferDestination>),
    /// A tool that the operator defines: a request to a web server.
    Http(Box<HttpTool>),
}

/// A tool that sends a request to a web server.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpTool {
    /// The name of the tool for the model: 1 to 64 characters from `a-z A-Z 0-9 _ -`.
    pub name: Arc<str>,
    /// The description of the tool for the model.
    pub description: Arc<str>,
    /// The URL of the request, which does not change. In a GET or DELETE request, the model's arguments become the
    /// query. In every other request, the arguments become the JSON body.
    pub url: Url,
    /// The HTTP method. The default is `POST`.
    pub method: http::Method,
    /// The headers of each request.
    pub headers: BTreeMap<String, String>,
    /// The JSON schema of the arguments. The schema is an object.
    pub parameters: Value,
    /// The phrase that the agent says when the tool starts. The agent does not say this phrase if the model has said
    /// something before the tool call.
    pub say: Option<Arc<str>>,
    /// Maximum duration of the request, from 1 to 120 s. The default is 20 s.
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

/// Returns the JSON schema of an object. If `parameters` is already the schema of an object, the function returns
/// `parameters`. Otherwise the function returns a schema in which each entry of `parameters` is a required property.
fn schema(parameters: Map<String, Value>) -> Value {
    if parameters.get("type").is_some_and(|kind| kind == "object") {
        return Value::Object(parameters);
    }
    let required: Vec<&String> = parameters.keys().collect();
    json!({ "type": "object", "required": required, "properties": parameters, "additionalProperties": false })
}

impl ToolConfig {
    /// Returns the name of the tool for the model.
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
    /// Returns an error if the file cannot be read or is too long.
    pub(crate) fn with_prompt(mut self) -> Result<Self, String> {
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
