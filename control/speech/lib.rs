//! Text to speech ([`Voice`]) and speech to text ([`recognise`]).
//!
//! ```text
//!   Speech ──► voices (selects a voice) ──► memory ──► disk ──► an engine ──► 8 kHz samples
//!                                                               espeak-ng, or another engine with espeak-ng as fallback:
//!                                                               tandem-speech (a child process), HTTP, a WebSocket, a program
//! ```
//!
//! [`Voice::say`] returns the whole speech for a text. [`Voice::stream`] returns the speech in parts, while the engine makes
//! it, for conversations.
#![forbid(unsafe_code)]

mod command;
mod config;
mod disk;
mod espeak;
mod local;
mod maker;
mod over_http;
pub mod recognise;
mod socket;
mod ssml;
mod stream;
pub mod tap;
mod voices;
mod wav;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::future::Cache;
use parking_lot::Mutex;
use tandem_call::engine::ESPEAK_SPEAKS;
use tandem_call::program::instruction::Speech;
use tandem_host::hash;
use tandem_http::{Budget, Client};
use tandem_id::AccountName;
use tandem_metrics::timings::{Count, Timing, Timings};
use tandem_shares::{ParentOf, PerAccount};
use tokio::time::Instant;

use disk::Disk;
use espeak::{Espeak, PROGRAM, Places};
use maker::{Engine, Other, engine, parts};
use ssml::Part;
use stream::Makings;

pub use config::{DEFAULT_VOICE, SocketInterface, SpeechConfig, Stt, Tts};
pub use local::{LOCAL_PROGRAM, LocalFault, LocalSpeech};
pub use stream::{SpeechStream, SpokenPart, VoiceSession};

/// Maximum length of a text, in octets. Providers allow 3,000 to 4,096 characters.
const LONGEST_TEXT: usize = 16 * 1024;
/// Time limit for one text of espeak-ng. The time in the queue is included.
const TIME: Duration = Duration::from_secs(10);
/// Time limit for the first audio and for the next audio of an engine other than espeak-ng, while a caller waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for which a failed engine gets no texts of waiting callers.
const ENGINE_RETRY_AFTER: Duration = Duration::from_secs(10);
/// Maximum number of texts of one account in the queue. A further text gets the error [`SpeechError::Busy`].
const WAITING: usize = 256;
/// Maximum total size of the audio files that engines over HTTP send at the same time, in octets. Further answers wait.
const IN_FLIGHT: usize = 64 * 1024 * 1024;
/// Size of the audio cache in memory, in octets. If the cache is full, the entries with the least use are removed.
const MEMORY: u64 = 64 * 1024 * 1024;
/// Size of the audio cache on disk, in octets. If the cache is full, the oldest files are removed.
const DISK: u64 = 256 * 1024 * 1024;
/// Part of every cache key. A developer must increase this number when a change gives the same text a different sound.
const CACHE_VERSION: u8 = 3;
/// Maximum length of the speech for any text, in seconds.
const LONGEST_SPEECH: usize = 10 * 60;
/// Time that an engine may need for a text besides the words: pauses, and the header of the file. In seconds.
const PAUSES: usize = 20;
/// Number of octets of text that a slow voice speaks in a second. A usual voice speaks 15 letters in a second.
const SLOW: usize = 4;

/// Text to speech. There is one instance for all calls.
pub struct Voice {
    client: Client,
    engine: ArcSwap<Option<Engine>>,
    /// The places of each account. They outlive a change of the engine.
    places: Arc<PerAccount<Places>>,
    timings: Arc<Timings>,
    /// The time until which a failed engine gets no texts of waiting callers.
    retry_at: Mutex<Option<Instant>>,
    cache: Cache<[u8; 32], Arc<[i16]>>,
    disk: Disk,
    makings: Makings,
    local: Option<Arc<LocalSpeech>>,
}

/// The reason why a text was not spoken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpeechError {
    /// Text to speech is off in the configuration.
    #[error("text to speech is off (speech.tts)")]
    Off,
    /// The program of the engine is not installed.
    #[error("{PROGRAM} is not installed: `apt install {PROGRAM}`, or set speech.tts = \"off\"")]
    NoEngine,
    /// The text is longer than the limit (`LONGEST_TEXT`).
    #[error("the text has {0} octets; the maximum is {LONGEST_TEXT}")]
    TooLong(usize),
    /// The queue of texts is full.
    #[error("{WAITING} texts of the account are already waiting to be spoken")]
    Busy,
    /// The engine did not finish within this time limit.
    #[error("text to speech took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    /// The program of the local engine is not installed.
    #[error("{0}")]
    NoLocalEngine(LocalFault),
    /// The engine works, but does not speak this text now. The field contains the reason.
    #[error("{0}")]
    Refused(String),
    /// The engine failed. The field contains the reason.
    #[error("{0}")]
    Failed(String),
}

impl SpeechError {
    /// Whether the engine itself has failed, so that it would not speak other texts either.
    fn is_of_engine(&self) -> bool {
        !matches!(self, Self::TooLong(_) | Self::Busy | Self::Refused(_))
    }
}

/// Returns an error if the program of a configured engine is not installed on this computer. The error says how to fix
/// this.
pub fn missing(config: &SpeechConfig) -> Option<SpeechError> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let there = || std::env::split_paths(&directories).any(|directory| directory.join(PROGRAM).is_file());
    if config.is_local() && local::installed().is_none() {
        return Some(SpeechError::NoLocalEngine(LocalFault::NoProgram));
    }
    (matches!(config.tts, Tts::Espeak) && !there()).then_some(SpeechError::NoEngine)
}

/// Maximum length of the speech for a text, in seconds. The speech of a short text is short, so an engine that sends more is
/// broken, and its answers must not fill the memory.
fn longest_speech(text: &str) -> usize {
    (PAUSES + text.len() / SLOW).min(LONGEST_SPEECH)
}

/// Maximum length of the speech for a text, in samples at 8,000 Hz.
fn longest_audio(text: &str) -> usize {
    longest_speech(text) * 8_000
}

/// The speech for a text.
#[derive(Clone, Default, Debug)]
pub struct Spoken {
    /// Samples at 8,000 Hz, with one channel.
    pub samples: Arc<[i16]>,
    /// The failure of the configured engine, if espeak-ng spoke in its place.
    pub instead_of: Option<String>,
}

impl From<Arc<[i16]>> for Spoken {
    fn from(samples: Arc<[i16]>) -> Self {
        Self { samples, instead_of: None }
    }
}

impl Voice {
    /// Creates the engine but does not start a program. `cache_dir` is created at the first write. If the directory is
    /// missing or not writable, speech still works, but is slower.
    pub fn new(config: SpeechConfig, cache_dir: impl Into<PathBuf>, client: Client, timings: Arc<Timings>) -> Self {
        let weigh = |_: &[u8; 32], samples: &Arc<[i16]>| u32::try_from(samples.len() * 2 + 64).unwrap_or(u32::MAX);
        let client = client.with_budget(Budget::new(IN_FLIGHT));
        let places = Arc::new(PerAccount::new(|| Places::of_accounts(1)));
        Self {
            engine: ArcSwap::from_pointee(engine(config, &client, &places, None)),
            places,
            local: None,
            client,
            timings,
            retry_at: Mutex::default(),
            cache: Cache::builder().max_capacity(MEMORY).weigher(weigh).build(),
            disk: Disk::new(cache_dir.into(), DISK),
            makings: Makings::default(),
        }
    }

    /// Lets the voice use the engine on this computer, if `config` names it.
    #[must_use]
    pub fn with_local(self, config: &SpeechConfig, local: &Arc<LocalSpeech>) -> Self {
        let this = Self { local: Some(Arc::clone(local)), ..self };
        this.reconfigure(config.clone());
        this
    }

    /// Applies new settings to all later texts. Cached audio stays valid, because the cache keys contain the engine,
    /// the model and the voice.
    pub fn reconfigure(&self, config: SpeechConfig) {
        if let Some(local) = &self.local {
            local.configure(&config);
        }
        self.engine.store(Arc::new(engine(config, &self.client, &self.places, self.local.as_ref())));
    }

    /// Sets the function that returns the main account of a subaccount. From then on, the texts of a subaccount count for
    /// its main account. Further calls have no effect.
    pub fn share(&self, parent_of: ParentOf) {
        self.places.share(parent_of);
    }

    /// Returns the speech for a text of no account as samples at 8,000 Hz, with one channel. The same text in the same
    /// voice is synthesised only once.
    pub async fn speak(&self, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        Ok(self.say(&AccountName::server(), speech).await?.samples)
    }

    /// Does the same as [`Self::speak`] for an account, and also returns the failure of the configured engine if espeak-ng
    /// speaks in its place. An account with many texts waits for itself.
    pub async fn say(&self, account: &AccountName, speech: &Speech) -> Result<Spoken, SpeechError> {
        let engine = self.engine.load_full();
        let engine = Option::as_ref(&engine).ok_or(SpeechError::Off)?;
        if speech.text.len() > LONGEST_TEXT {
            return Err(SpeechError::TooLong(speech.text.len()));
        }
        if speech.text.trim().is_empty() {
            return Ok(Spoken::default());
        }
        match engine {
            Engine::Espeak(espeak) => {
                let spoken = self.by_espeak(espeak, account, speech).await;
                Ok(spoken.inspect_err(|_| self.timings.count(Count::TtsFailed, 1))?.into())
            }
            Engine::Other(other, espeak) if !other.speaks(speech) => {
                let spoken = self.by_espeak(espeak, account, speech).await;
                Ok(spoken.inspect_err(|_| self.timings.count(Count::TtsFailed, 1))?.into())
            }
            Engine::Other(other, espeak) => match self.by_other(other, account, speech).await {
                Ok(samples) => Ok(samples.into()),
                Err(why) => {
                    self.timings.count(Count::TtsFailed, 1);
                    let instead_of = Some(format!("speech.tts: {why}; {ESPEAK_SPEAKS}"));
                    Ok(Spoken { samples: self.by_espeak(espeak, account, speech).await?, instead_of })
                }
            },
        }
    }

    /// Returns descriptions of the SSML elements in a text that this engine does not support.
    pub fn unsupported(&self, speech: &Speech) -> Vec<String> {
        match &*self.engine.load_full() {
            Some(Engine::Espeak(_)) if speech.ssml => ssml::espeak(&speech.text).unsupported,
            Some(Engine::Other(..)) if speech.ssml => ssml::plain(&speech.text).unsupported,
            _ => Vec::new(),
        }
    }

    async fn by_espeak(
        &self,
        espeak: &Espeak,
        account: &AccountName,
        speech: &Speech,
    ) -> Result<Arc<[i16]>, SpeechError> {
        let voice = espeak.voice(speech).await?;
        let mut marked = speech.clone();
        if speech.ssml
            && let Some(Part::Words(words)) = ssml::espeak(&speech.text).parts.pop()
        {
            marked.text = words;
        }
        self.cached(key(&voice, &marked), espeak.speak(account, &voice, &marked)).await
    }

    async fn by_other(&self, other: &Other, account: &AccountName, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        let voicing = other.voicing(speech);
        let mut samples: Vec<i16> = Vec::new();
        for part in parts(speech) {
            match part {
                Part::Words(text) => {
                    let words = Speech { text, ssml: false, ..speech.clone() };
                    let made = other.whole(account, &voicing, &words.text);
                    let made = self.cached(key(&voicing.identity, &words), made).await?;
                    if !speech.ssml {
                        return Ok(made);
                    }
                    samples.extend_from_slice(&made);
                }
                // There are 8 samples per millisecond.
                Part::Break(length) => samples.resize(samples.len() + length.as_millis() as usize * 8, 0),
            }
        }
        Ok(samples.into())
    }

    /// Returns the cached samples for this key. If there are no samples for the key, the function runs `make` and
    /// stores the result in the cache.
    async fn cached(
        &self,
        key: [u8; 32],
        make: impl Future<Output = Result<Arc<[i16]>, SpeechError>>,
    ) -> Result<Arc<[i16]>, SpeechError> {
        let make = async {
            if let Some(samples) = self.disk.read(&key).await {
                return Ok(samples);
            }
            let began = Instant::now();
            let samples = make.await?;
            self.timings.took(Timing::TextToSpeech, began.elapsed());
            self.disk.write(&key, &samples).await;
            Ok(samples)
        };
        self.cache.try_get_with(key, make).await.map_err(|error: Arc<SpeechError>| (*error).clone())
    }
}

/// Removes the query of this URL from an error message. The operator may have put a key into the query, and the message is
/// shown to the owners of calls.
fn without_query(message: String, url: &str) -> String {
    match url.split_once('?') {
        Some((_, query)) if !query.is_empty() => message.replace(query, "..."),
        _ => message,
    }
}

/// Converts a WAV file to samples at 8,000 Hz.
async fn samples(wav: impl AsRef<[u8]> + Send + 'static) -> Result<Arc<[i16]>, SpeechError> {
    let failed = |error: &dyn std::fmt::Display| SpeechError::Failed(error.to_string());
    let audio = tokio::task::spawn_blocking(move || tandem_media::read_wav(wav.as_ref())).await;
    Ok(audio.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?.samples().into())
}

fn key(voice: &str, speech: &Speech) -> [u8; 32] {
    let head = [CACHE_VERSION, u8::from(speech.ssml)];
    hash::sha256([&head[..], voice.as_bytes(), &[0], speech.text.as_bytes()])
}

#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
