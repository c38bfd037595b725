//! Speech to text: a leg's audio as it comes, or a whole file in; words out. Engines stay behind [`Recogniser`].
//!
//! ```text
//!   a tap's frames ──► Session ──► ears ─┬─► voice (began, paused) ──────────────────────┐
//!                                        ├─► live (a WebSocket: the engine cuts) ────────┼──► Heard
//!                                        └─► utterances (cut at pauses) ──► file (HTTP) ─┘
//! ```

mod ears;
mod file;
mod live;
#[cfg(test)]
mod tests;
mod utterances;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tandem_call::hearing::{Heard, Listening, Words};
use tandem_http::Client;
use tandem_media as media;
use tandem_metrics::timings::{Count, Timings};
use tandem_settings::current::Current;
use tokio::sync::mpsc;

use super::{SpeechConfig, Stt};
use ears::Ears;
pub use ears::{Edges, PAUSE};
use file::{FileEngine, Protocol};

/// Audio that may wait for an engine that has not answered yet, in pieces of 20 ms; what comes beyond is dropped.
const WAITING: usize = 500;
/// What was heard and not taken yet; the engine waits then.
const HEARD: usize = 64;

/// Hears. Shared by all calls; made once.
pub struct Recogniser {
    client: Client,
    config: Current<SpeechConfig>,
    timings: Arc<Timings>,
}

/// Why nothing was recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecogniseError {
    /// The configuration wants none.
    #[error("speech to text is off (speech.stt)")]
    Off,
    /// The engine failed.
    #[error("speech to text: {0}")]
    Failed(String),
}

/// One leg being listened to. Dropping it ends it at once.
pub struct Session {
    frames: Option<mpsc::Sender<Vec<i16>>>,
    heard: mpsc::Receiver<Result<Heard, RecogniseError>>,
}

impl Recogniser {
    /// Starts nothing yet.
    pub fn new(config: SpeechConfig, client: Client, timings: Arc<Timings>) -> Self {
        Self { client, config: Current::new(config), timings }
    }

    /// Takes other settings, for whatever is asked from now on. Sessions that run keep theirs.
    pub fn reconfigure(&self, config: SpeechConfig) {
        self.config.set(config);
    }

    /// Whether there is no engine.
    pub fn is_off(&self) -> bool {
        self.config.get().stt == Stt::Off
    }

    /// Whether the words that are heard and said may be shown in the timelines of calls.
    pub fn shows_words(&self) -> bool {
        self.config.get().timeline_words
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// [`RecogniseError::Off`]. What goes wrong later is the session's last word.
    pub fn listen(&self, how: &Listening) -> Result<Session, RecogniseError> {
        let (frames, receiver) = mpsc::channel(WAITING);
        let (sender, heard) = mpsc::channel(HEARD);
        let ears = Ears::new(receiver);
        let (config, timings) = (self.config.get(), Arc::clone(&self.timings));
        match &config.stt {
            Stt::Off => return Err(RecogniseError::Off),
            Stt::Http(_) => {
                let engine = self.file_engine()?;
                let how = how.clone();
                tokio::spawn(async move {
                    last_word(utterances::run(&engine, &how, ears, &sender).await, &sender, &timings).await;
                });
            }
            Stt::WebSocket(url) => {
                let live = live::Live::new(self.client.clone(), url, &config, how);
                tokio::spawn(async move { last_word(live.run(ears, &sender).await, &sender, &timings).await });
            }
        }
        Ok(Session { frames: Some(frames), heard })
    }

    /// The words of a whole file: WAV of any kind.
    ///
    /// # Errors
    /// [`RecogniseError`]; the engine is asked once.
    pub async fn transcribe(&self, wav: Bytes, how: &Listening) -> Result<Words, RecogniseError> {
        let time = Duration::from_secs(self.config.get().timeout_seconds.into()) * 10;
        let words = self.file_engine()?.transcribe(wav, how, time).await;
        words.map_err(|why| {
            self.timings.count(Count::SttFailed, 1);
            RecogniseError::Failed(why)
        })
    }

    fn file_engine(&self) -> Result<FileEngine, RecogniseError> {
        let config = self.config.get();
        let (url, protocol) = match &config.stt {
            Stt::Off => return Err(RecogniseError::Off),
            Stt::Http(url) => (url.clone(), Protocol::Form),
            Stt::WebSocket(url) => (live::of_files(url), Protocol::Body),
        };
        let (client, timings) = (self.client.clone(), Arc::clone(&self.timings));
        Ok(FileEngine { client, url, protocol, config, timings })
    }
}

impl Session {
    /// Takes audio of the leg: samples at 8,000 Hz, any number. Dropped when the engine is ten seconds behind.
    pub fn hear(&self, samples: &[i16]) {
        if let Some(frames) = &self.frames {
            // Full: documented. Closed: the session has ended and says so itself.
            let _ = frames.try_send(samples.to_vec());
        }
    }

    /// No more audio: what is still unsaid comes, and then the end.
    pub fn finish(&mut self) {
        self.frames = None;
    }

    /// The next thing heard; `None` at the end, which also comes after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Heard, RecogniseError>> {
        self.heard.recv().await
    }
}

/// The samples of a tap's frame, at 8,000 Hz; none of one that was made at 16,000 Hz.
pub fn samples(frame: &media::TapFrame) -> Vec<i16> {
    let law = match frame.codec {
        media::Codec::Pcmu => media::g711::Law::Mu,
        media::Codec::Pcma => media::g711::Law::A,
        media::Codec::L16(media::SampleRate::Hz8000) => {
            return frame.audio().as_chunks().0.iter().copied().map(i16::from_le_bytes).collect();
        }
        _ => return Vec::new(),
    };
    let mut samples = vec![0; frame.audio().len()];
    law.decode(frame.audio(), &mut samples);
    samples
}

async fn last_word(
    outcome: Result<(), String>,
    heard: &mpsc::Sender<Result<Heard, RecogniseError>>,
    timings: &Timings,
) {
    if let Err(why) = outcome {
        timings.count(Count::SttFailed, 1);
        // Nobody listens any more: then nobody minds.
        let _ = heard.send(Err(RecogniseError::Failed(why))).await;
    }
}
