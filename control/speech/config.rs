//! `[speech]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de::Error};
use tandem_settings::Secret;
use url::Url;

/// `[speech]`: the engines for text to speech and speech to text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpeechConfig {
    /// Text to speech.
    pub tts: Tts,
    /// Bearer token of an engine over HTTP.
    pub tts_key: Option<Secret>,
    /// Its model.
    pub tts_model: Arc<str>,
    /// Its voice for whatever `tts_voices` does not know.
    pub tts_voice: Arc<str>,
    /// Its voices by what documents ask for: a voice's whole name, a language (`de-DE`, `de`), or `man` and `woman`.
    pub tts_voices: BTreeMap<String, String>,
    /// Speech to text.
    pub stt: Stt,
    /// Its key.
    pub stt_key: Option<Secret>,
    /// Its model.
    pub stt_model: Option<Arc<str>>,
    /// How long an engine may take for one answer, in seconds, 1 to 60; for a recording ten times as long.
    pub timeout_seconds: u16,
    /// Whether the timelines of calls show the words of conversations, heard and said; else only how many characters they had.
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
    /// `espeak-ng`, run as a program of its own.
    #[default]
    Espeak,
    /// An `/v1/audio/speech` as OpenAI has it, at this URL.
    Http(Url),
    /// None: what is to be said is silence, and reported.
    Off,
}

/// A speech-to-text engine.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Stt {
    /// None.
    #[default]
    Off,
    /// An `/v1/audio/transcriptions` as OpenAI has it, at this URL.
    Http(Url),
    /// A `/v1/listen` as Deepgram has it, at this URL (`ws` or `wss`).
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
