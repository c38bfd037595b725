//! The settings of `[speech]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de::Error};
use tandem_settings::Secret;
use url::Url;

/// The settings of `[speech]`: the engines for text to speech and speech to text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpeechConfig {
    /// The text-to-speech engine.
    pub tts: Tts,
    /// Bearer token for a text-to-speech engine over HTTP.
    pub tts_key: Option<Secret>,
    /// Model of a text-to-speech engine over HTTP.
    pub tts_model: Arc<str>,
    /// Default voice of a text-to-speech engine over HTTP. The server uses this voice if no entry of `tts_voices`
    /// matches.
    pub tts_voice: Arc<str>,
    /// Voices of a text-to-speech engine over HTTP. The key is a voice that a document can request: a complete voice
    /// name, a language (`de-DE`, `de`), `man` or `woman`. The value is the engine's name for the voice.
    pub tts_voices: BTreeMap<String, String>,
    /// The speech-to-text engine.
    pub stt: Stt,
    /// API key for the speech-to-text engine.
    pub stt_key: Option<Secret>,
    /// Model of the speech-to-text engine.
    pub stt_model: Option<Arc<str>>,
    /// Time limit for one answer of an engine, in seconds. The range is 1 to 60. For a recording, the limit is ten
    /// times as long.
    pub timeout_seconds: u16,
    /// Whether the timelines of calls show the words of conversations. If this is off, the timelines show only the
    /// number of characters.
    pub timeline_words: bool,
}

impl Default for SpeechConfig {
    fn default() -> Self {
        let voices = [("man", "onyx"), ("woman", "nova")];
        Self {
            tts: Tts::default(),
            tts_key: None,
            tts_model: "tts-1".into(),
            tts_voice: "alloy".into(),
            tts_voices: voices.map(|(name, voice)| (name.to_owned(), voice.to_owned())).into(),
            stt: Stt::default(),
            stt_key: None,
            stt_model: None,
            timeout_seconds: 10,
            timeline_words: true,
        }
    }
}

/// A text-to-speech engine.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Tts {
    /// `espeak-ng`, which runs as a separate program.
    #[default]
    Espeak,
    /// A server at this URL. The interface is OpenAI's `/v1/audio/speech`.
    Http(Url),
    /// No engine. No text is spoken, and the server reports this.
    Off,
}

/// A speech-to-text engine.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Stt {
    /// No engine.
    #[default]
    Off,
    /// A server at this URL. The interface is OpenAI's `/v1/audio/transcriptions`.
    Http(Url),
    /// A server at this URL (`ws` or `wss`). The interface is Deepgram's `/v1/listen`.
    WebSocket(Url),
}

const SPEECH: &str = "http://HOST/v1/audio/speech";
const TRANSCRIPTIONS: &str = "http://HOST/v1/audio/transcriptions";
const LISTEN: &str = "ws://HOST/v1/listen";

impl<'de> Deserialize<'de> for Tts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), url(&text)) {
            ("espeak", _) => Ok(Self::Espeak),
            ("off", _) => Ok(Self::Off),
            (_, Some(url)) if matches!(url.scheme(), "http" | "https") => Ok(Self::Http(url)),
            (given, _) => Err(D::Error::unknown_variant(given, &["espeak", "off", SPEECH])),
        }
    }
}

impl<'de> Deserialize<'de> for Stt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), url(&text)) {
            ("off", _) => Ok(Self::Off),
            (_, Some(url)) if matches!(url.scheme(), "http" | "https") => Ok(Self::Http(url)),
            (_, Some(url)) if matches!(url.scheme(), "ws" | "wss") => Ok(Self::WebSocket(url)),
            (given, _) => Err(D::Error::unknown_variant(given, &["off", TRANSCRIPTIONS, LISTEN])),
        }
    }
}

fn url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(Url::has_host)
}
