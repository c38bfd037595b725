//! The settings of `[speech]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tandem_settings::Secret;
use url::Url;

/// The settings of `[speech]`: the engines for text to speech and speech to text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpeechConfig {
    /// The text-to-speech engine.
    pub tts: Tts,
    /// Key for a text-to-speech engine with a URL.
    pub tts_key: Option<Secret>,
    /// Model of a text-to-speech engine with a URL.
    pub tts_model: Arc<str>,
    /// Default voice of a text-to-speech engine other than espeak-ng. The server uses this voice if no entry of
    /// `tts_voices` matches.
    pub tts_voice: Arc<str>,
    /// Voices of a text-to-speech engine other than espeak-ng. The key is a voice that a document can request: a
    /// complete voice name, a language (`de-DE`, `de`), `man` or `woman`. The value is the engine's name for the voice.
    pub tts_voices: BTreeMap<String, String>,
    /// The speech-to-text engine.
    pub stt: Stt,
    /// API key for the speech-to-text engine.
    pub stt_key: Option<Secret>,
    /// Model of the speech-to-text engine.
    pub stt_model: Option<Arc<str>>,
    /// Directory with the models of the local engine. `None` means the default of the program `tandem-speech`.
    pub models: Option<PathBuf>,
    /// Time limit for one answer of an engine, in seconds. The range is 1 to 60. For a recording, the limit is ten
    /// times as long.
    pub timeout_seconds: u16,
    /// Whether the timelines of calls show the words of conversations. If this is off, the timelines show only the
    /// number of characters.
    pub timeline_words: bool,
}

/// The default of `tts_model`.
pub(crate) const DEFAULT_MODEL: &str = "tts-1";
/// The default of `tts_voice`.
pub const DEFAULT_VOICE: &str = "alloy";

impl SpeechConfig {
    /// Whether the server runs the program `tandem-speech`.
    pub fn is_local(&self) -> bool {
        self.tts == Tts::Local || self.stt == Stt::Local
    }
}

impl Default for SpeechConfig {
    fn default() -> Self {
        let voices = [("man", "onyx"), ("woman", "nova")];
        Self {
            tts: Tts::default(),
            tts_key: None,
            tts_model: DEFAULT_MODEL.into(),
            tts_voice: DEFAULT_VOICE.into(),
            tts_voices: voices.map(|(name, voice)| (name.to_owned(), voice.to_owned())).into(),
            stt: Stt::default(),
            stt_key: None,
            stt_model: None,
            models: None,
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
    /// The program `tandem-speech`, which the server starts. It uses models on this computer.
    Local,
    /// A program with its arguments. It reads a text from standard input and writes a WAV file to standard output.
    /// `{voice}` and `{language}` in an argument stand for the voice and the language of the text.
    Command(Arc<[Box<str>]>),
    /// A server at this URL. The interface is OpenAI's `/v1/audio/speech`.
    Http(Url),
    /// A server at this URL (`ws` or `wss`). The path of the URL names the interface.
    WebSocket(Url, SocketInterface),
    /// No engine. No text is spoken, and the server reports this.
    Off,
}

/// The interfaces for text to speech over a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketInterface {
    /// ElevenLabs: `/v1/text-to-speech/VOICE/stream-input`. A connection speaks one text.
    ElevenLabs,
    /// ElevenLabs: `/v1/text-to-speech/VOICE/multi-stream-input`. A connection speaks any number of texts.
    ElevenLabsMulti,
    /// Cartesia: `/tts/websocket`.
    Cartesia,
    /// Deepgram: `/v1/speak`.
    Deepgram,
}

impl SocketInterface {
    /// Returns the interface that the path of a URL names.
    pub fn of(url: &Url) -> Option<Self> {
        let path = url.path().trim_end_matches('/');
        [
            ("/multi-stream-input", Self::ElevenLabsMulti),
            ("/stream-input", Self::ElevenLabs),
            ("/tts/websocket", Self::Cartesia),
            ("/v1/speak", Self::Deepgram),
        ]
        .into_iter()
        .find(|(end, _)| path.ends_with(end))
        .map(|(_, interface)| interface)
    }
}

/// A speech-to-text engine.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Stt {
    /// No engine.
    #[default]
    Off,
    /// The program `tandem-speech`, which the server starts. It uses models on this computer.
    Local,
    /// A server at this URL. The interface is OpenAI's `/v1/audio/transcriptions`.
    Http(Url),
    /// A server at this URL (`ws` or `wss`). The interface is Deepgram's `/v1/listen`.
    WebSocket(Url),
}

const SPEECH: &str = "http://HOST/v1/audio/speech";
const STREAMED: &str = "wss://HOST/tts/websocket";
const TRANSCRIPTIONS: &str = "http://HOST/v1/audio/transcriptions";
const LISTEN: &str = "ws://HOST/v1/listen";
/// Maximum number of words of a command line.
const MAX_WORDS: usize = 64;

impl<'de> Deserialize<'de> for Tts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TtsVisitor)
    }
}

struct TtsVisitor;

impl<'de> Visitor<'de> for TtsVisitor {
    type Value = Tts;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name or the URL of an engine, or a list of a program and its arguments")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tts, E> {
        match (text, url(text)) {
            ("espeak", _) => Ok(Tts::Espeak),
            ("local", _) => Ok(Tts::Local),
            ("off", _) => Ok(Tts::Off),
            (_, Some(url)) if matches!(url.scheme(), "http" | "https") => Ok(Tts::Http(url)),
            (_, Some(url)) if matches!(url.scheme(), "ws" | "wss") => match SocketInterface::of(&url) {
                Some(interface) => Ok(Tts::WebSocket(url, interface)),
                None => Err(E::custom(
                    "the path of the URL must end in /stream-input or /multi-stream-input (ElevenLabs), \
                     /tts/websocket (Cartesia) or /v1/speak (Deepgram)",
                )),
            },
            (given, _) => Err(E::unknown_variant(given, &["espeak", "local", "off", SPEECH, STREAMED])),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Tts, A::Error> {
        let mut command: Vec<Box<str>> = Vec::new();
        while let Some(word) = words.next_element::<String>()? {
            command.push(word.into());
        }
        match command.first() {
            Some(program) if !program.trim().is_empty() && command.len() <= MAX_WORDS => {
                Ok(Tts::Command(command.into()))
            }
            _ => Err(A::Error::custom(format!("must contain a program and at most {} arguments", MAX_WORDS - 1))),
        }
    }
}

impl<'de> Deserialize<'de> for Stt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), url(&text)) {
            ("off", _) => Ok(Self::Off),
            ("local", _) => Ok(Self::Local),
            (_, Some(url)) if matches!(url.scheme(), "http" | "https") => Ok(Self::Http(url)),
            (_, Some(url)) if matches!(url.scheme(), "ws" | "wss") => Ok(Self::WebSocket(url)),
            (given, _) => Err(D::Error::unknown_variant(given, &["off", "local", TRANSCRIPTIONS, LISTEN])),
        }
    }
}

fn url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(Url::has_host)
}
