//! Text to speech ([`Voice`]) and speech to text ([`recognise`]).
//!
//! ```text
//!   Speech ──► voices (selects a voice) ──► memory ──► disk ──► an engine ──► 8 kHz samples
//!                                                               espeak-ng, or HTTP with espeak-ng as fallback
//! ```
#![forbid(unsafe_code)]

mod config;
mod disk;
mod espeak;
mod over_http;
pub mod recognise;
mod ssml;
pub mod tap;
mod voices;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::future::Cache;
use parking_lot::Mutex;
use tandem_call::program::instruction::Speech;
use tandem_host::hash;
use tandem_http::{Budget, Client};
use tandem_id::AccountName;
use tandem_metrics::timings::{Count, Timing, Timings};
use tandem_shares::{ParentOf, PerAccount};
use tokio::time::Instant;

use disk::Disk;
use espeak::{Espeak, PROGRAM, Places};
use over_http::HttpVoice;
use ssml::Part;

pub use config::{SpeechConfig, Stt, Tts};

/// Maximum length of a text, in octets. Providers allow 3,000 to 4,096 characters.
const LONGEST_TEXT: usize = 16 * 1024;
/// Time limit for one text of espeak-ng. The time in the queue is included.
const TIME: Duration = Duration::from_secs(10);
/// Time limit for an engine over HTTP while a caller waits for the audio.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for which a failed engine over HTTP gets no texts of waiting callers.
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

/// Text to speech. There is one instance for all calls.
pub struct Voice {
    client: Client,
    engine: ArcSwap<Option<Engine>>,
    /// The places of each account. They outlive a change of the engine.
    places: Arc<PerAccount<Places>>,
    timings: Arc<Timings>,
    /// The time until which a failed engine over HTTP gets no texts of waiting callers.
    retry_at: Mutex<Option<Instant>>,
    cache: Cache<[u8; 32], Arc<[i16]>>,
    disk: Disk,
}

enum Engine {
    Espeak(Espeak),
    /// An engine over HTTP. If this engine fails, espeak-ng replaces it.
    Http(Box<HttpVoice>, Espeak),
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
    /// The engine failed. The field contains the reason.
    #[error("{0}")]
    Failed(String),
}

/// Returns an error if the configured engine is not installed on this computer. The error says how to fix this.
pub fn missing(config: &SpeechConfig) -> Option<SpeechError> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let there = || std::env::split_paths(&directories).any(|directory| directory.join(PROGRAM).is_file());
    (matches!(config.tts, Tts::Espeak) && !there()).then_some(SpeechError::NoEngine)
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
            engine: ArcSwap::from_pointee(engine(config, &client, &places)),
            places,
            client,
            timings,
            retry_at: Mutex::default(),
            cache: Cache::builder().max_capacity(MEMORY).weigher(weigh).build(),
            disk: Disk::new(cache_dir.into(), DISK),
        }
    }

    /// Applies new settings to all later texts. Cached audio stays valid, because the cache keys contain the engine,
    /// the model and the voice.
    pub fn reconfigure(&self, config: SpeechConfig) {
        self.engine.store(Arc::new(engine(config, &self.client, &self.places)));
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
            Engine::Http(http, espeak) => match self.by_http(http, speech).await {
                Ok(samples) => Ok(samples.into()),
                Err(why) => {
                    self.timings.count(Count::TtsFailed, 1);
                    let instead_of = Some(format!("speech.tts: {why}; {PROGRAM} speaks instead"));
                    Ok(Spoken { samples: self.by_espeak(espeak, account, speech).await?, instead_of })
                }
            },
        }
    }

    /// Does the same as [`Self::say`] for a caller who waits. If an engine over HTTP needs more than 3 s or fails,
    /// espeak-ng speaks the text. After that, espeak-ng also speaks the texts of the next 10 s.
    pub async fn say_soon(&self, account: &AccountName, speech: &Speech) -> Result<Spoken, SpeechError> {
        let engine = self.engine.load_full();
        let Some(Engine::Http(http, espeak)) = Option::as_ref(&engine) else { return self.say(account, speech).await };
        if speech.text.len() > LONGEST_TEXT || speech.text.trim().is_empty() {
            return self.say(account, speech).await;
        }
        let mut instead_of = None;
        let rests = self.retry_at.lock().is_some_and(|until| until > Instant::now());
        let known = || async { self.cache.get(&key(&http.identity(&http.voice(speech)), speech)).await };
        if rests && let Some(samples) = known().await {
            return Ok(samples.into());
        }
        if !rests {
            let spoken = tokio::time::timeout(CALL_TIMEOUT, self.by_http(http, speech)).await;
            match spoken.unwrap_or(Err(SpeechError::Timeout(CALL_TIMEOUT))) {
                Ok(samples) => return Ok(samples.into()),
                Err(why) => {
                    self.timings.count(Count::TtsFailed, 1);
                    *self.retry_at.lock() = Some(Instant::now() + ENGINE_RETRY_AFTER);
                    let seconds = ENGINE_RETRY_AFTER.as_secs();
                    instead_of = Some(format!("speech.tts: {why}; {PROGRAM} speaks instead for {seconds} s"));
                }
            }
        }
        Ok(Spoken { samples: self.by_espeak(espeak, account, speech).await?, instead_of })
    }

    /// Returns descriptions of the SSML elements in a text that this engine does not support.
    pub fn unsupported(&self, speech: &Speech) -> Vec<String> {
        match &*self.engine.load_full() {
            Some(Engine::Espeak(_)) if speech.ssml => ssml::espeak(&speech.text).unsupported,
            Some(Engine::Http(..)) if speech.ssml => ssml::plain(&speech.text).unsupported,
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

    async fn by_http(&self, http: &HttpVoice, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        let voice = http.voice(speech);
        let identity = http.identity(&voice);
        if !speech.ssml {
            return self.cached(key(&identity, speech), http.speak(&voice, &speech.text)).await;
        }
        let mut samples = Vec::new();
        for part in ssml::plain(&speech.text).parts {
            match part {
                Part::Words(text) => {
                    let words = Speech { text, ssml: false, ..speech.clone() };
                    let made = http.speak(&voice, &words.text);
                    samples.extend_from_slice(&self.cached(key(&identity, &words), made).await?);
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

/// Creates the configured engine. `None` if text to speech is off.
fn engine(config: SpeechConfig, client: &Client, places: &Arc<PerAccount<Places>>) -> Option<Engine> {
    match config.tts.clone() {
        Tts::Off => None,
        Tts::Espeak => Some(Engine::Espeak(Espeak::new(places))),
        Tts::Http(url) => {
            Some(Engine::Http(Box::new(HttpVoice::new(client.clone(), url, config)), Espeak::new(places)))
        }
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
mod tests;
