//! Speech to text for live audio of a leg and for whole files. [`Recogniser`] hides the engines.
//!
//! ```text
//!   tap ──► RecognitionSession ──► frames ─┬─► speech began, speech paused ────────────────┐
//!                                          ├─► live (a WebSocket: the engine cuts) ────────┼──► RecognitionEvent
//!                                          └─► utterances (cut at pauses) ──► file (HTTP) ─┘
//! ```
//!
//! The engine on this computer is the program `tandem-speech`. It has both interfaces: live sessions and files.

mod file;
mod frames;
mod live;
#[cfg(test)]
mod tests;
mod utterances;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tandem_call::engine::SPEECH_TO_TEXT_OFF;
use tandem_call::recognition::{RecognisedText, RecognitionEvent, RecognitionSpec};
use tandem_http::Client;
use tandem_media as media;
use tandem_metrics::timings::{Count, Timings};
use tokio::sync::mpsc;
use url::Url;

use super::local::{self, LocalFault, LocalSpeech, Ready};
use super::{SpeechConfig, Stt};
use file::{FileEngine, Protocol};
use frames::FrameReader;
pub use frames::{PAUSE, SpeechEdges};

/// Maximum number of 20 ms audio pieces in the queue (10 s of audio). Further pieces are dropped.
const WAITING: usize = 500;
/// Maximum number of unread results. If there are so many unread results, the engine waits.
const MAX_RESULTS: usize = 64;

/// Speech to text. There is one instance for all calls.
pub struct Recogniser {
    client: Client,
    config: ArcSwap<SpeechConfig>,
    timings: Arc<Timings>,
    local: Option<Arc<LocalSpeech>>,
}

/// The reason why speech was not recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecogniseError {
    /// Speech to text is off in the configuration.
    #[error("{SPEECH_TO_TEXT_OFF}")]
    Off,
    /// The engine failed. The field contains the reason.
    #[error("speech to text: {0}")]
    Failed(String),
}

/// A session that recognises the speech of one leg. The session ends immediately when this value is dropped.
pub struct RecognitionSession {
    frames: Option<mpsc::Sender<Vec<i16>>>,
    results: mpsc::Receiver<Result<RecognitionEvent, RecogniseError>>,
}

impl Recogniser {
    /// Creates the recogniser. The function does not connect to an engine.
    pub fn new(config: SpeechConfig, client: Client, timings: Arc<Timings>) -> Self {
        Self { client, config: ArcSwap::from_pointee(config), timings, local: None }
    }

    /// Lets the recogniser use the engine on this computer, if the configuration names it.
    #[must_use]
    pub fn with_local(self, local: &Arc<LocalSpeech>) -> Self {
        local.configure(&self.config.load_full());
        Self { local: Some(Arc::clone(local)), ..self }
    }

    /// Ends the program of the engine on this computer, if it runs.
    pub async fn stop_local(&self) {
        if let Some(local) = &self.local {
            local.stop().await;
        }
    }

    /// Applies new settings to future sessions and files. Running sessions keep their settings.
    pub fn reconfigure(&self, config: SpeechConfig) {
        if let Some(local) = &self.local {
            local.configure(&config);
        }
        self.config.store(Arc::new(config));
    }

    /// Whether speech to text is off.
    pub fn is_off(&self) -> bool {
        self.config.load_full().stt == Stt::Off
    }

    /// Whether the timelines of calls may show the recognised words and the spoken words.
    pub fn shows_words(&self) -> bool {
        self.config.load_full().timeline_words
    }

    /// Starts a session.
    ///
    /// # Errors
    /// [`RecogniseError::Off`] if speech to text is off. The session reports a later error as its last result.
    pub fn listen(&self, how: &RecognitionSpec) -> Result<RecognitionSession, RecogniseError> {
        let (frames, receiver) = mpsc::channel(WAITING);
        let (sender, results) = mpsc::channel(MAX_RESULTS);
        let reader = FrameReader::new(receiver);
        let (config, timings) = (self.config.load_full(), Arc::clone(&self.timings));
        match &config.stt {
            Stt::Off => return Err(RecogniseError::Off),
            Stt::Http(_) => {
                let engine = self.file_engine()?;
                let how = how.clone();
                tokio::spawn(async move {
                    report_end(utterances::run(&engine, &how, reader, &sender).await, &sender, &timings).await;
                });
            }
            Stt::WebSocket(url) => {
                let live = live::Live::new(self.client.clone(), url, &config, how);
                tokio::spawn(async move { report_end(live.run(reader, &sender).await, &sender, &timings).await });
            }
            Stt::Local => {
                let (local, how) = (self.local.clone(), how.clone());
                tokio::spawn(async move {
                    report_end(listen_locally(local, config, &how, reader, &sender).await, &sender, &timings).await;
                });
            }
        }
        Ok(RecognitionSession { frames: Some(frames), results })
    }

    /// Recognises the words of a WAV file. The file may have any WAV format.
    ///
    /// # Errors
    /// Returns a [`RecogniseError`]. The request to the engine is not repeated.
    pub async fn transcribe(&self, wav: Bytes, how: &RecognitionSpec) -> Result<RecognisedText, RecogniseError> {
        let config = self.config.load_full();
        let time = Duration::from_secs(config.timeout_seconds.into()) * 10;
        let words = match &config.stt {
            Stt::Local => transcribe_locally(self.local.as_ref(), config, &self.timings, (wav, how, time)).await,
            _ => self.file_engine()?.transcribe(wav, how, time).await,
        };
        words.map_err(|why| {
            self.timings.count(Count::SttFailed, 1);
            RecogniseError::Failed(why)
        })
    }

    fn file_engine(&self) -> Result<FileEngine, RecogniseError> {
        let config = self.config.load_full();
        let (url, protocol) = match &config.stt {
            Stt::Off | Stt::Local => return Err(RecogniseError::Off),
            Stt::Http(url) => (url.clone(), Protocol::Form),
            Stt::WebSocket(url) => (live::of_files(url), Protocol::Body),
        };
        let (client, timings) = (self.client.clone(), Arc::clone(&self.timings));
        Ok(FileEngine { client, url, protocol, config, timings, is_local: false })
    }
}

/// Runs a live session with the program `tandem-speech`.
async fn listen_locally(
    local: Option<Arc<LocalSpeech>>,
    config: Arc<SpeechConfig>,
    how: &RecognitionSpec,
    reader: FrameReader,
    results: &mpsc::Sender<Result<RecognitionEvent, RecogniseError>>,
) -> Result<(), String> {
    let ready = async {
        let local = local.as_ref().ok_or_else(no_local)?;
        let place = local.recognition_place()?;
        Ok::<_, LocalFault>((local, place, local_engine(local, how).await?))
    };
    // The audio of the meantime waits in the queue of the session.
    let (local, _place, ready) = tokio::select! {
        ready = ready => ready.map_err(|fault| fault.to_string())?,
        () = results.closed() => return Ok(()),
    };
    let mut url = url_of(&ready, "ws", "/v1/listen")?;
    if how.digits {
        url.query_pairs_mut().append_pair("digits", "true");
    }
    let config = of_local(&config, &ready);
    let live = live::Live::new(local.client.clone(), &url, &config, how);
    live.run(reader, results).await.map_err(|why| local::fault_of(&why))
}

/// Recognises the words of a file with the program `tandem-speech`.
async fn transcribe_locally(
    local: Option<&Arc<LocalSpeech>>,
    config: Arc<SpeechConfig>,
    timings: &Arc<Timings>,
    (wav, how, time): (Bytes, &RecognitionSpec, Duration),
) -> Result<RecognisedText, String> {
    let of_fault = |fault: LocalFault| fault.to_string();
    let local = local.ok_or_else(no_local).map_err(of_fault)?;
    let _place = local.recognition_place().map_err(of_fault)?;
    let ready = local_engine(local, how).await.map_err(of_fault)?;
    let engine = FileEngine {
        client: local.client.clone(),
        url: url_of(&ready, "http", "/v1/audio/transcriptions")?,
        protocol: Protocol::Form,
        config: Arc::new(of_local(&config, &ready)),
        timings: Arc::clone(timings),
        is_local: true,
    };
    engine.transcribe(wav, how, time).await.map_err(|why| local::fault_of(&why))
}

/// Waits for the program `tandem-speech`, if it has a model for the language.
async fn local_engine(local: &LocalSpeech, how: &RecognitionSpec) -> Result<Arc<Ready>, LocalFault> {
    let ready = local.ready(local::READY_TIMEOUT).await?;
    ready.recognises(how.language.as_deref())?;
    Ok(ready)
}

fn no_local() -> LocalFault {
    LocalFault::Down("this command does not start it".to_owned())
}

fn url_of(ready: &Ready, scheme: &str, path: &str) -> Result<Url, String> {
    Url::parse(&format!("{scheme}://{}{path}", ready.address)).map_err(|error| error.to_string())
}

/// Returns the settings for a request to the program `tandem-speech`, which has its own key and its own models.
fn of_local(config: &SpeechConfig, ready: &Ready) -> SpeechConfig {
    SpeechConfig { stt_key: Some(ready.key.clone()), stt_model: None, ..config.clone() }
}

impl RecognitionSession {
    /// Adds audio of the leg: any number of samples at 8,000 Hz. The audio is dropped if the engine is 10 s late.
    pub fn push(&self, samples: &[i16]) {
        if let Some(frames) = &self.frames {
            // If the queue is full, the audio is dropped, as documented. If the queue is closed, the session has ended
            // and reports its end itself.
            let _ = frames.try_send(samples.to_vec());
        }
    }

    /// Ends the audio. The session then delivers the remaining results and ends.
    pub fn finish(&mut self) {
        self.frames = None;
    }

    /// Returns the next result. Returns `None` at the end of the session and after an error. This function is
    /// cancel-safe.
    pub async fn next(&mut self) -> Option<Result<RecognitionEvent, RecogniseError>> {
        self.results.recv().await
    }
}

/// Returns the samples of a tap's frame if the sampling rate is 8,000 Hz. A frame with another sampling rate gives no
/// samples.
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

async fn report_end(
    outcome: Result<(), String>,
    results: &mpsc::Sender<Result<RecognitionEvent, RecogniseError>>,
    timings: &Timings,
) {
    if let Err(why) = outcome {
        timings.count(Count::SttFailed, 1);
        // The application may have dropped the session.
        let _ = results.send(Err(RecogniseError::Failed(why))).await;
    }
}
