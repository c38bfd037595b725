//! `[[agents]]`: voice agents that answer calls on this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, json};
use tandem_call::address::Address;
use tandem_settings::Secret;
use url::Url;

/// One of `[[agents]]`: a caller talks with a language model, through the engines of `[speech]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// How numbers, documents and applications name it.
    pub name: Arc<str>,
    /// What its model is told to be and to do.
    #[serde(default)]
    pub prompt: Option<Arc<str>>,
    /// Instead of `prompt`: a file with it.
    #[serde(default)]
    pub prompt_file: Option<PathBuf>,
    /// What it says first. Without it the caller speaks first.
    #[serde(default)]
    pub first_message: Option<Arc<str>>,
    /// BCP 47 language that it speaks and understands.
    #[serde(default = "english")]
    pub language: Arc<str>,
    /// Its voice, as `speech.tts_voices` or the speech engine knows it.
    #[serde(default)]
    pub voice: Option<Arc<str>>,
    /// Its language model.
    pub model: ModelConfig,
    /// What it can do beside speaking.
    #[serde(default)]
    pub tools: Vec<ToolConfig>,
    /// A number or SIP URI that the caller is connected to when an engine has failed.
    #[serde(default)]
    pub fallback: Option<Place>,
    /// How long it waits for more words after a pause.
    #[serde(default)]
    pub patience: Patience,
    /// What of the caller cuts it short.
    #[serde(default)]
    pub interruptions: Interruptions,
    /// Seconds that a call may last, 10 to 86,400.
    #[serde(default = "half_an_hour")]
    pub max_seconds: u32,
    /// Seconds of silence after which it asks whether the caller is there, 2 to 600.
    #[serde(default = "ten")]
    pub silence_seconds: u32,
    /// How often it asks before it says goodbye, 0 to 10.
    #[serde(default = "two")]
    pub silence_prompts: u32,
    /// What it says without its model.
    #[serde(default)]
    pub phrases: PhraseConfig,
}

/// Octets of a `prompt_file`.
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

/// `model`: an OpenAI-compatible chat endpoint, or, with `ws://` or `wss://`, a realtime model of OpenAI's protocol.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The base: `/chat/completions` is added, unless it is there. Of a realtime model: all but `?model=`.
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// Its name there. Not sent when left out.
    #[serde(default)]
    pub name: Option<Arc<str>>,
    /// Bearer token.
    #[serde(default)]
    pub key: Option<Secret>,
    /// Longest answer, in tokens. Not sent when left out.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// How that is called: `max_completion_tokens`, or `max_tokens` for older servers.
    #[serde(default = "max_completion_tokens")]
    pub max_tokens_field: Arc<str>,
    /// Sent as it is, when it is there.
    #[serde(default)]
    pub temperature: Option<f32>,
    /// Further fields of each request, as they are.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Seconds until the first word of an answer, and between two, 1 to 60; then it is asked once more.
    #[serde(default = "six")]
    pub timeout_seconds: u16,
    /// Of a realtime model: whose names its messages have.
    #[serde(default)]
    pub protocol: Protocol,
    /// Of a realtime model: its model that writes down what the caller says.
    #[serde(default = "transcription")]
    pub transcription: Arc<str>,
}

/// The version of a realtime model's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OpenAI's since August 2025.
    #[default]
    Ga,
    /// The one before, which many other servers speak.
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
        .map_err(|_| D::Error::invalid_value(serde::de::Unexpected::Str(&text), &"a URL: http://HOST:PORT/v1"))
}

impl ModelConfig {
    /// Where it is asked.
    pub fn endpoint(&self) -> String {
        let url = self.url.as_str().trim_end_matches('/');
        if url.ends_with("/chat/completions") { url.to_owned() } else { format!("{url}/chat/completions") }
    }

    /// Whether it hears and speaks by itself.
    pub fn is_realtime(&self) -> bool {
        matches!(self.url.scheme(), "ws" | "wss")
    }

    /// Where a realtime model is reached.
    pub fn realtime_url(&self) -> Url {
        let mut url = self.url.clone();
        if let Some(name) = &self.name {
            url.query_pairs_mut().append_pair("model", name);
        }
        url
    }

    /// The headers of its handshake.
    pub fn realtime_headers(&self) -> Vec<(String, String)> {
        let key = self.key.as_ref().map(|key| ("Authorization".to_owned(), format!("Bearer {}", key.expose())));
        let beta = (self.protocol == Protocol::Beta).then(|| ("OpenAI-Beta".to_owned(), "realtime=v1".to_owned()));
        key.into_iter().chain(beta).collect()
    }

    /// How long it may take for the first word of an answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

/// Somewhere that a call can go: a number or a SIP URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(pub Address);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Address::from(text.as_str()) {
            address @ (Address::Phone(_) | Address::Client(_)) => Ok(Self(address)),
            address if text.starts_with("sip:") || text.starts_with("sips:") => Ok(Self(address)),
            _ => Err(D::Error::invalid_value(serde::de::Unexpected::Str(&text), &"a number or a SIP URI")),
        }
    }
}

/// How long an agent waits for more words after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Patience {
    /// Half as long.
    Quick,
    /// 50 ms after a whole sentence, 300 ms usually, 600 ms after digits, 1 s after words that something follows.
    #[default]
    Normal,
    /// Twice as long.
    Patient,
}

impl Patience {
    /// A wait of [`Patience::Normal`] in this one.
    pub fn of(self, wait: Duration) -> Duration {
        match self {
            Self::Quick => wait / 2,
            Self::Normal => wait,
            Self::Patient => wait * 2,
        }
    }
}

/// What of a caller cuts an agent short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interruptions {
    /// Words and keys; a voice only stops it until there are words.
    #[default]
    Words,
    /// A voice at once, and keys.
    Voice,
    /// Keys alone.
    Keys,
    /// Nothing.
    None,
}

/// `phrases`: what an agent says without its model. An empty text says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhraseConfig {
    /// When the model has not answered 700 ms after the caller's turn.
    pub wait: Arc<str>,
    /// When it has not for six seconds more.
    pub still_waiting: Arc<str>,
    /// When the caller is silent.
    pub silence: Arc<str>,
    /// When something was said and not understood.
    pub repeat: Arc<str>,
    /// When an engine failed.
    pub apology: Arc<str>,
    /// Behind it, before the fallback is called.
    pub transfer: Arc<str>,
    /// Half a minute before `max_seconds`.
    pub ending: Arc<str>,
    /// Last.
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

/// Something that an agent can do.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolConfig {
    /// End the call.
    HangUp,
    /// Press keys.
    SendDigits,
    /// Begin or end a recording.
    Record,
    /// Connect the caller with one of these, by name.
    Transfer(BTreeMap<String, Place>),
    /// Ask a web server.
    Http(Box<HttpTool>),
}

/// A tool that is a web server.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpTool {
    /// Its name, as the model knows it: `a-z A-Z 0-9 _ -`, 64 at most.
    pub name: Arc<str>,
    /// What it is for.
    pub description: Arc<str>,
    /// Fixed; the model's arguments are the query of GET and DELETE and the JSON body of others.
    pub url: Url,
    /// The method.
    pub method: http::Method,
    /// Headers of each request.
    pub headers: BTreeMap<String, String>,
    /// A JSON schema of an object.
    pub parameters: Value,
    /// Said when it begins, unless the model has said something.
    pub say: Option<Arc<str>>,
    /// Longest that it may take.
    pub timeout: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolTable {
    name: String,
    #[serde(default)]
    to: BTreeMap<String, Place>,
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
            Err(format!("tool {name:?} is the server's own and has no url"))
        }
        (_, None) => Err(format!(
            "tool {name:?} is none of hang_up, transfer, send_digits and record, and one of your own needs a url"
        )),
        (_, Some(url)) => {
            let url = Url::parse(&url).map_err(|error| format!("tool {name:?}: {url:?} is no URL: {error}"))?;
            let fits = (1..=64).contains(&name.len())
                && name.bytes().all(|one| one.is_ascii_alphanumeric() || matches!(one, b'_' | b'-'));
            if !fits {
                return Err(format!("tool name {name:?}: 1 to 64 of a-z, A-Z, 0-9, _ and -"));
            }
            let method = table.method.unwrap_or_else(|| "POST".to_owned());
            let method = http::Method::from_bytes(method.to_ascii_uppercase().as_bytes())
                .map_err(|_| format!("tool {name:?}: {method:?} is no HTTP method"))?;
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

/// A schema of an object: as it is given, or of these properties, all of them required.
fn schema(parameters: Map<String, Value>) -> Value {
    if parameters.get("type").is_some_and(|kind| kind == "object") {
        return Value::Object(parameters);
    }
    let required: Vec<&String> = parameters.keys().collect();
    json!({ "type": "object", "required": required, "properties": parameters, "additionalProperties": false })
}

impl ToolConfig {
    /// Its name, as the model knows it.
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
    /// The same with what its `prompt_file` says as its prompt.
    ///
    /// # Errors
    /// Why the file cannot be read, or that it is too long.
    pub fn with_prompt(mut self) -> Result<Self, String> {
        if let Some(path) = &self.prompt_file {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            if text.len() > LONGEST_PROMPT {
                return Err(format!("{} has {} octets; {LONGEST_PROMPT} at most", path.display(), text.len()));
            }
            self.prompt = Some(text.into());
        }
        Ok(self)
    }
}
