//! Speech: words in, samples out ([`Voice`]), and the other way round ([`recognise`]).
//!
//! ```text
//!   Speech ──► voices (which of the engine's) ──► memory ──► disk ──► an engine ──► 8 kHz samples
//!                                                                     espeak-ng, or one over HTTP with espeak-ng behind it
//! ```
#![forbid(unsafe_code)]

mod config;
mod disk;
mod espeak;
mod over_http;
pub mod recognise;
mod ssml;
mod voices;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tandem_call::program::instruction::Speech;
use tandem_http::Client;
use tandem_metrics::timings::{Count, Timing, Timings};
use tandem_settings::current::Current;
use tokio::time::Instant;

use disk::Disk;
use espeak::{Espeak, PROGRAM};
use over_http::HttpVoice;
use ssml::Part;

pub use config::{SpeechConfig, Stt, Tts};

/// Longest text, octets; providers stop at 3,000 to 4,096 characters.
const LONGEST_TEXT: usize = 16 * 1024;
/// Time for one text of espeak-ng, waiting for its turn included.
const TIME: Duration = Duration::from_secs(10);
/// Time for a text of an engine over HTTP while somebody waits at the telephone.
const SOON: Duration = Duration::from_secs(3);
/// How long one that failed is then not asked.
const REST: Duration = Duration::from_secs(10);
/// Texts that wait for their turn; more get [`SpeechError::Busy`].
const WAITING: usize = 256;
/// Audio kept in memory, octets; the least used goes first.
const MEMORY: u64 = 64 * 1024 * 1024;
/// Audio kept on disk, octets; the oldest goes first.
const DISK: u64 = 256 * 1024 * 1024;
/// Part of every cache key: another number when the same words would sound different.
const EDITION: u8 = 3;

/// Speaks. Shared by all calls; made once.
pub struct Voice {
    client: Client,
    engine: Current<Option<Engine>>,
    timings: Arc<Timings>,
    /// Until then an engine that failed is not asked for those who wait at the telephone.
    rests_until: Mutex<Option<Instant>>,
    cache: Cache<[u8; 32], Arc<[i16]>>,
    disk: Disk,
}

enum Engine {
    Espeak(Espeak),
    /// The other one speaks when it cannot.
    Http(Box<HttpVoice>, Espeak),
}

/// Why something could not be spoken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpeechError {
    /// The configuration wants none.
    #[error("text to speech is off (speech.tts)")]
    Off,
    /// The engine's program is not there.
    #[error("{PROGRAM} is not installed: `apt install {PROGRAM}`, or set speech.tts = \"off\"")]
    NoEngine,
    /// Longer than we speak at once (`LONGEST_TEXT`).
    #[error("the text has {0} octets; at most {LONGEST_TEXT} can be spoken at a time")]
    TooLong(usize),
    /// Too many texts wait already.
    #[error("{WAITING} texts wait to be spoken already")]
    Busy,
    /// Not done in this time.
    #[error("not spoken within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The engine failed.
    #[error("{0}")]
    Failed(String),
}

/// Whether the configured engine is missing on this machine, and what to do about it.
pub fn missing(config: &SpeechConfig) -> Option<SpeechError> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let there = || std::env::split_paths(&directories).any(|directory| directory.join(PROGRAM).is_file());
    (matches!(config.tts, Tts::Espeak) && !there()).then_some(SpeechError::NoEngine)
}

impl Voice {
    /// Starts nothing yet. `cache_dir` is made when there is something to keep; without it, or when it cannot be
    /// written, everything still works, only slower.
    pub fn new(config: SpeechConfig, cache_dir: impl Into<PathBuf>, client: Client, timings: Arc<Timings>) -> Self {
        let weigh = |_: &[u8; 32], samples: &Arc<[i16]>| u32::try_from(samples.len() * 2 + 64).unwrap_or(u32::MAX);
        Self {
            engine: Current::new(engine(config, &client)),
            client,
            timings,
            rests_until: Mutex::default(),
            cache: Cache::builder().max_capacity(MEMORY).weigher(weigh).build(),
            disk: Disk::new(cache_dir.into(), DISK),
        }
    }

    /// Takes other settings, for whatever is spoken from now on. What was spoken is kept by engine, model and voice.
    pub fn reconfigure(&self, config: SpeechConfig) {
        self.engine.set(engine(config, &self.client));
    }

    /// The words as samples at 8,000 Hz, one channel. The same words in the same voice are spoken once.
    pub async fn speak(&self, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        let engine = self.engine.get();
        let engine = Option::as_ref(&engine).ok_or(SpeechError::Off)?;
        if speech.text.len() > LONGEST_TEXT {
            return Err(SpeechError::TooLong(speech.text.len()));
        }
        if speech.text.trim().is_empty() {
            return Ok(Arc::default());
        }
        match engine {
            Engine::Espeak(espeak) => {
                let spoken = self.by_espeak(espeak, speech).await;
                spoken.inspect_err(|_| self.timings.count(Count::TtsFailed, 1))
            }
            Engine::Http(http, espeak) => match self.by_http(http, speech).await {
                Ok(samples) => Ok(samples),
                Err(why) => {
                    self.timings.count(Count::TtsFailed, 1);
                    tracing::warn!("speech.tts: {why}; {PROGRAM} speaks instead");
                    self.by_espeak(espeak, speech).await
                }
            },
        }
    }

    /// As [`Self::speak`], for somebody who waits at the telephone: where an engine over HTTP takes over three seconds, or did so or failed
    /// within the last ten, espeak-ng speaks.
    pub async fn speak_soon(&self, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        let engine = self.engine.get();
        let Some(Engine::Http(http, espeak)) = Option::as_ref(&engine) else { return self.speak(speech).await };
        if speech.text.len() > LONGEST_TEXT || speech.text.trim().is_empty() {
            return self.speak(speech).await;
        }
        let rests = self.rests_until.lock().is_some_and(|until| until > Instant::now());
        let known = || async { self.cache.get(&key(&http.identity(&http.voice(speech)), speech)).await };
        if rests && let Some(samples) = known().await {
            return Ok(samples);
        }
        if !rests {
            let spoken = tokio::time::timeout(SOON, self.by_http(http, speech)).await;
            match spoken.unwrap_or(Err(SpeechError::Timeout(SOON))) {
                Ok(samples) => return Ok(samples),
                Err(why) => {
                    self.timings.count(Count::TtsFailed, 1);
                    *self.rests_until.lock() = Some(Instant::now() + REST);
                    tracing::warn!("speech.tts: {why}; {PROGRAM} speaks instead for {} s", REST.as_secs());
                }
            }
        }
        self.by_espeak(espeak, speech).await
    }

    /// Marks of a text that have no effect with this engine, in words.
    pub fn unsaid(&self, speech: &Speech) -> Vec<String> {
        match &*self.engine.get() {
            Some(Engine::Espeak(_)) if speech.ssml => ssml::espeak(&speech.text).unsaid,
            Some(Engine::Http(..)) if speech.ssml => ssml::plain(&speech.text).unsaid,
            _ => Vec::new(),
        }
    }

    async fn by_espeak(&self, espeak: &Espeak, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        let voice = espeak.voice(speech).await?;
        let mut marked = speech.clone();
        if speech.ssml
            && let Some(Part::Words(words)) = ssml::espeak(&speech.text).parts.pop()
        {
            marked.text = words;
        }
        self.kept(key(&voice, &marked), espeak.speak(&voice, &marked)).await
    }

    async fn by_http(&self, http: &HttpVoice, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        let voice = http.voice(speech);
        let identity = http.identity(&voice);
        if !speech.ssml {
            return self.kept(key(&identity, speech), http.speak(&voice, &speech.text)).await;
        }
        let mut samples = Vec::new();
        for part in ssml::plain(&speech.text).parts {
            match part {
                Part::Words(text) => {
                    let words = Speech { text, ssml: false, ..speech.clone() };
                    let made = http.speak(&voice, &words.text);
                    samples.extend_from_slice(&self.kept(key(&identity, &words), made).await?);
                }
                // 8 samples a millisecond.
                Part::Break(length) => samples.resize(samples.len() + length.as_millis() as usize * 8, 0),
            }
        }
        Ok(samples.into())
    }

    /// What is kept under this key, or else is made now and kept.
    async fn kept(
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

/// The engine that the settings choose; `None`: none.
fn engine(config: SpeechConfig, client: &Client) -> Option<Engine> {
    match config.tts.clone() {
        Tts::Off => None,
        Tts::Espeak => Some(Engine::Espeak(Espeak::new())),
        Tts::Http(url) => Some(Engine::Http(Box::new(HttpVoice::new(client.clone(), url, config)), Espeak::new())),
    }
}

/// The samples of a WAV file, at 8,000 Hz.
async fn samples(wav: Vec<u8>) -> Result<Arc<[i16]>, SpeechError> {
    let failed = |error: &dyn std::fmt::Display| SpeechError::Failed(error.to_string());
    let audio = tokio::task::spawn_blocking(move || tandem_media::read_wav(&wav)).await;
    Ok(audio.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?.samples().into())
}

fn key(voice: &str, speech: &Speech) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([EDITION, u8::from(speech.ssml)]);
    hash.update(voice);
    hash.update([0]);
    hash.update(&speech.text);
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
