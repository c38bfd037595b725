//! The configurable engines for text to speech. All engines but espeak-ng speak plain text only, and espeak-ng replaces
//! them if they fail.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tandem_call::engine::LOCAL_SPEECH_BUSY;
use tandem_call::program::instruction::Speech;
use tandem_http::Client;
use tandem_id::AccountName;
use tandem_shares::PerAccount;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::command::CommandVoice;
use super::espeak::{Espeak, Places};
use super::local::{self, LocalFault, LocalSpeech};
use super::over_http::HttpVoice;
use super::socket::{Protocol, SocketVoice, VoiceLine};
use super::ssml::{self, Part};
use super::{SpeechConfig, SpeechError, Tts, voices};

/// Number of pieces of audio that wait for their reader.
const CHUNKS: usize = 16;

/// The engine that speaks texts.
pub(super) enum Engine {
    Espeak(Espeak),
    /// Another engine. If this engine fails, espeak-ng replaces it.
    Other(Box<Other>, Espeak),
}

/// An engine other than espeak-ng.
pub(super) struct Other {
    maker: Maker,
    /// The setting `tts_voices`.
    voices: BTreeMap<String, String>,
    /// The setting `tts_voice`.
    default_voice: Arc<str>,
    /// Time limit for the first audio of a text, and for each pause in the audio, if no caller waits.
    patience: Duration,
}

enum Maker {
    Http(HttpVoice),
    Local { speech: Arc<LocalSpeech>, models: Option<PathBuf>, time: Duration },
    Command(CommandVoice),
    Socket(Arc<SocketVoice>),
}

/// The voice, the language and the identity of the engine for a text.
#[derive(Clone)]
pub(super) struct Voicing {
    pub(super) voice: String,
    pub(super) language: Option<String>,
    /// The part of the cache key that identifies the engine, the model, the voice and the language.
    pub(super) identity: String,
}

/// A text whose audio broke off.
#[derive(Clone)]
pub(super) struct Broken {
    /// Number of samples before the failure.
    pub(super) heard: usize,
    pub(super) why: SpeechError,
}

/// Takes the samples of a text while the engine makes them.
pub(super) type Reader<'a> = &'a mut (dyn FnMut(Arc<[i16]>) + Send);

/// Creates the configured engine. `None` if text to speech is off.
pub(super) fn engine(
    config: SpeechConfig,
    client: &Client,
    places: &Arc<PerAccount<Places>>,
    local: Option<&Arc<LocalSpeech>>,
) -> Option<Engine> {
    let time = Duration::from_secs(config.timeout_seconds.into());
    let maker = match config.tts {
        Tts::Off => return None,
        Tts::Espeak => return Some(Engine::Espeak(Espeak::new(places))),
        Tts::Http(url) => Maker::Http(HttpVoice {
            client: client.clone(),
            url: url.into(),
            key: config.tts_key,
            model: config.tts_model,
            time,
        }),
        Tts::Local => match local {
            Some(speech) => Maker::Local { speech: Arc::clone(speech), models: config.models, time },
            None => return Some(Engine::Espeak(Espeak::new(places))),
        },
        Tts::Command(words) => Maker::Command(CommandVoice::new(words, places, time)),
        Tts::WebSocket(url, interface) => {
            let protocol = Protocol { interface, url, key: config.tts_key, model: config.tts_model.to_string() };
            Maker::Socket(Arc::new(SocketVoice { protocol, client: client.clone(), time }))
        }
    };
    let other = Other { maker, voices: config.tts_voices, default_voice: config.tts_voice, patience: time };
    Some(Engine::Other(Box::new(other), Espeak::new(places)))
}

/// Returns the parts of a text for an engine without SSML support.
pub(super) fn parts(speech: &Speech) -> Vec<Part> {
    match speech.ssml {
        true => ssml::plain(&speech.text).parts,
        false => vec![Part::Words(speech.text.clone())],
    }
}

impl Other {
    /// Returns the engine's voice for a text. The voice name, the language or the gender selects the voice. If none of
    /// these matches, the result is the default voice.
    pub(super) fn voicing(&self, speech: &Speech) -> Voicing {
        let table = &self.voices;
        let named =
            |name: &str| table.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, voice)| voice);
        let by_name = speech.voice.as_deref().and_then(named);
        let by_language = || {
            let language = speech.language.as_deref()?;
            named(language).or_else(|| named(language.split(['-', '_']).next()?))
        };
        let by_gender = || named(voices::gender(speech.voice.as_deref()?));
        let voice = by_name.or_else(by_language).or_else(by_gender);
        let voice = voice.map_or_else(|| self.default_voice.to_string(), String::clone);
        let language = speech.language.clone();
        let identity = match &self.maker {
            Maker::Http(http) => http.identity(&voice),
            Maker::Local { models, .. } => format!("local {models:?} {voice}"),
            Maker::Command(command) => command.identity(&voice, language.as_deref()),
            Maker::Socket(socket) => socket.identity(&voice, language.as_deref()),
        };
        Voicing { voice, language, identity }
    }

    /// Whether the engine can speak the language of a text. The voices of the local engine speak English only.
    pub(super) fn speaks(&self, speech: &Speech) -> bool {
        !matches!(self.maker, Maker::Local { .. })
            || voices::is_english(speech.voice.as_deref(), speech.language.as_deref())
    }

    /// Creates a line to an engine with a WebSocket interface. With `ahead`, the line opens its connection at once, for the
    /// default voice.
    pub(super) fn line(&self, ahead: bool) -> Option<VoiceLine> {
        match &self.maker {
            Maker::Socket(socket) => Some(socket.line(ahead.then(|| self.default_voice.to_string()))),
            _ => None,
        }
    }

    /// Returns the speech for a plain text as samples at 8,000 Hz.
    pub(super) async fn whole(
        &self,
        account: &AccountName,
        voicing: &Voicing,
        text: &str,
    ) -> Result<Arc<[i16]>, SpeechError> {
        if let Maker::Http(http) = &self.maker {
            return http.speak(&voicing.voice, text).await;
        }
        let made = self.in_chunks(None, account, voicing, text, (self.patience, None)).await;
        made.map(Arc::from).map_err(|broken| broken.why)
    }

    /// Returns the speech for a plain text. While the engine makes the speech, the samples also go to `reader`. `patience`
    /// limits the time until the first audio, and each pause in the audio.
    pub(super) async fn in_chunks(
        &self,
        line: Option<&VoiceLine>,
        account: &AccountName,
        voicing: &Voicing,
        text: &str,
        (patience, mut reader): (Duration, Option<Reader<'_>>),
    ) -> Result<Vec<i16>, Broken> {
        let (sender, mut chunks) = mpsc::channel(CHUNKS);
        let making = self.make(line, account, voicing, text, sender);
        tokio::pin!(making);
        let (mut outcome, mut all) = (None, Vec::new());
        // The texts of a line wait for each other. Their time begins with the first chunk, which is empty.
        let mut deadline = line.is_none().then(|| Instant::now() + patience);
        let outcome = loop {
            tokio::select! {
                biased;
                chunk = chunks.recv() => match chunk {
                    Some(samples) => {
                        all.extend_from_slice(&samples);
                        if let Some(reader) = &mut reader
                            && !samples.is_empty()
                        {
                            reader(samples.into());
                        }
                        deadline = Some(Instant::now() + patience);
                    }
                    None => match outcome.take() {
                        Some(outcome) => break outcome,
                        None => break timeout(patience, &mut making).await.unwrap_or(Err(SpeechError::Timeout(patience))),
                    },
                },
                done = &mut making, if outcome.is_none() => outcome = Some(done),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    break Err(SpeechError::Timeout(patience));
                }
            }
        };
        match outcome {
            Ok(()) if all.is_empty() => Err(SpeechError::Refused("the engine sent no audio".to_owned())),
            outcome => outcome,
        }
        .map_err(|why| Broken { heard: all.len(), why })?;
        Ok(all)
    }

    async fn make(
        &self,
        line: Option<&VoiceLine>,
        account: &AccountName,
        voicing: &Voicing,
        text: &str,
        chunks: mpsc::Sender<Vec<i16>>,
    ) -> Result<(), SpeechError> {
        let Voicing { voice, language, .. } = voicing;
        match &self.maker {
            Maker::Http(http) => http.speak_in_chunks(voice, text, &chunks).await,
            Maker::Local { speech, time, .. } => locally(speech, *time, voice, text, &chunks).await,
            Maker::Command(command) => command.speak(account, (voice, language.as_deref()), text, &chunks).await,
            Maker::Socket(socket) => {
                let own;
                let line = match line {
                    Some(line) => line,
                    None => {
                        own = socket.line(None);
                        &own
                    }
                };
                line.speak((voice, language.as_deref()), text, chunks).await
            }
        }
    }
}

/// Speaks a plain text with the program `tandem-speech`.
async fn locally(
    speech: &LocalSpeech,
    time: Duration,
    voice: &str,
    text: &str,
    chunks: &mpsc::Sender<Vec<i16>>,
) -> Result<(), SpeechError> {
    // A program with much work has not failed: it still speaks the texts of others.
    let of_why = |why: String| match why.contains(LOCAL_SPEECH_BUSY) {
        true => SpeechError::Refused(why),
        false => SpeechError::Failed(why),
    };
    let of_fault = |fault: LocalFault| of_why(fault.to_string());
    let _place = speech.text_place().map_err(of_fault)?;
    let ready = speech.ready(local::READY_TIMEOUT).await.map_err(of_fault)?;
    let voice = ready.voice(voice).map_err(of_fault)?;
    let http = HttpVoice {
        client: speech.client.clone(),
        url: format!("http://{}/v1/audio/speech", ready.address),
        key: Some(ready.key.clone()),
        model: "local".into(),
        time,
    };
    let spoken = http.speak_in_chunks(voice, text, chunks).await;
    spoken.map_err(|why| match why {
        SpeechError::Failed(why) => of_why(local::fault_of(&why)),
        SpeechError::Refused(why) => SpeechError::Refused(local::fault_of(&why)),
        why => why,
    })
}
