//! Audio for playback. The sources are synthesised speech, fetched files, inline audio, local files, and the
//! files that accounts upload ([`stored_media`]).
#![forbid(unsafe_code)]

mod fetched;
pub mod stored_media;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use moka::future::Cache;
use tandem_call::program::instruction::AudioSource;
use tandem_host::clock;
use tandem_http::{Client, RedirectRules, Request, Timeouts};
use tandem_id::AccountName;
use tandem_media::Audio;
use tandem_shares::ParentOf;
use tandem_speech::{SpeechError, SpeechStream, Spoken, SpokenPart, Voice, VoiceSession};

use fetched::FetchedAudio;
use stored_media::StoredMedia;

/// Time limit of a connection attempt to a file's server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of one request for a file.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// The content types that the requests for files accept.
const ACCEPT: &str = "audio/*, */*;q=0.1";
/// Maximum size of an audio file, in octets.
const MAX_FILE: usize = 64 * 1024 * 1024;
/// Maximum total size of the files that are downloaded or decoded at the same time, in octets. One account can use at
/// most two thirds: its part, or instead of the part one file of the maximum size, and one more file beyond the part.
const IN_FLIGHT: usize = 192 * 1024 * 1024;
/// The part of one account in [`IN_FLIGHT`], in octets.
const ACCOUNT_IN_FLIGHT: usize = 32 * 1024 * 1024;
/// Maximum size of each cache of decoded audio, in octets. There is one for fetched files and one for local files.
const CACHE: u64 = 128 * 1024 * 1024;
/// Time for which unused audio stays in a cache. Whether the audio is still valid is a separate question.
const CACHE_IDLE: Duration = Duration::from_secs(60 * 60);

/// Produces audio from the sources, and caches the result. This type is cheap to clone.
#[derive(Clone)]
pub struct AudioLoader {
    fetched: FetchedAudio,
    voice: Arc<Voice>,
    stored: Arc<StoredMedia>,
    /// The audio of local files. The key is the path of the file and the time of its last change.
    files: Cache<(PathBuf, SystemTime), Arc<Audio>>,
}

/// The reason why audio is not available, as text for the log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AudioError {
    /// The file does not exist.
    #[error("{0}")]
    Missing(String),
    /// The audio cannot be fetched, read, decoded or synthesised.
    #[error("{0}")]
    Unusable(String),
}

/// The audio of a source.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub audio: Arc<Audio>,
    /// The failure of the speech engine, if another engine spoke in its place.
    pub instead_of: Option<String>,
}

/// The audio of a source, in parts. Dropping the value cancels the work.
pub enum AudioStream {
    Speech(SpeechStream),
    /// The audio has one part. `None` after this part.
    Whole(Option<Box<(AudioLoader, AudioSource, AccountName)>>),
}

/// A part of the audio of a source.
#[derive(Clone, Debug)]
pub enum AudioPart {
    /// Samples at 8,000 Hz, with one channel.
    Samples(Arc<[i16]>),
    /// The speech engine failed, for this reason. Another engine speaks the rest.
    InsteadOf(String),
}

impl AudioStream {
    /// Returns the next part. `None` at the end of the audio, and after an error.
    pub async fn next(&mut self) -> Option<Result<AudioPart, AudioError>> {
        match self {
            Self::Speech(speech) => Some(match speech.next().await? {
                Ok(SpokenPart::Samples(samples)) => Ok(AudioPart::Samples(samples)),
                Ok(SpokenPart::InsteadOf(why)) => Ok(AudioPart::InsteadOf(why)),
                Err(error) => Err(AudioError::Unusable(error.to_string())),
            }),
            Self::Whole(wanted) => {
                let (loader, source, account) = *wanted.take()?;
                let loaded = loader.get(&source, &account).await;
                Some(loaded.map(|loaded| AudioPart::Samples(loaded.audio.samples().into())))
            }
        }
    }
}

impl AudioLoader {
    /// Creates a loader with an empty cache.
    pub fn new(client: Client, voice: Arc<Voice>, stored: Arc<StoredMedia>) -> Self {
        let weigh = |_: &(PathBuf, SystemTime), audio: &Arc<Audio>| weight(audio);
        let files = Cache::builder().max_capacity(CACHE).weigher(weigh).time_to_idle(CACHE_IDLE).build();
        Self { fetched: FetchedAudio::new(client), voice, stored, files }
    }

    /// Sets the function that returns the main account of a subaccount. From then on, downloads and texts of a subaccount
    /// count for its main account. Further calls have no effect.
    pub fn share(&self, parent_of: ParentOf) {
        self.fetched.share(Arc::clone(&parent_of));
        self.voice.share(parent_of);
    }

    /// The voice, which speaks texts.
    pub fn voice(&self) -> &Voice {
        &self.voice
    }

    /// Returns the audio of a source, for a call of this account. For a tone, the function returns an error, because
    /// the media engine generates tones.
    pub async fn get(&self, source: &AudioSource, account: &AccountName) -> Result<Loaded, AudioError> {
        let audio = match source {
            AudioSource::Speech(speech) => return spoken(self.voice.say(account, speech).await),
            AudioSource::Url(url) => match url.strip_prefix("file://") {
                Some(path) => self.file(PathBuf::from(path)).await,
                None => self.fetched.get(url, account).await,
            },
            AudioSource::UncachedUrl(url) => self.fetched.get_uncached(url, account).await,
            AudioSource::Inline(bytes) => decode(bytes.clone(), None).await,
            AudioSource::Stored(name) => match self.stored.find(account, name, clock::time()) {
                Some(medium) => self.file(self.stored.path(&medium.details)).await,
                None => Err(AudioError::Missing(format!("the account has no media file {name:?}"))),
            },
            AudioSource::Silence(length) => Ok(Arc::new(Audio::silence(*length))),
            AudioSource::Music => Ok(tandem_media::hold_music()),
            AudioSource::Tone(_) => Err(AudioError::Unusable("a tone is not a file".to_owned())),
        };
        Ok(Loaded { audio: audio?, instead_of: None })
    }

    /// Starts to produce the audio of a source like [`Self::get`], for a caller who waits for the audio. The audio of a
    /// speech comes in parts, while the engine makes the speech ([`Voice::stream`]).
    pub fn stream(&self, session: &VoiceSession, source: &AudioSource, account: &AccountName) -> AudioStream {
        match source {
            AudioSource::Speech(speech) => AudioStream::Speech(self.voice.stream(session, account, speech)),
            _ => AudioStream::Whole(Some(Box::new((self.clone(), source.clone(), account.clone())))),
        }
    }

    async fn file(&self, path: PathBuf) -> Result<Arc<Audio>, AudioError> {
        let unreadable = |error: std::io::Error| {
            let what = format!("{}: {error}", path.display());
            if error.kind() == std::io::ErrorKind::NotFound {
                AudioError::Missing(what)
            } else {
                AudioError::Unusable(what)
            }
        };
        let metadata = tokio::fs::metadata(&path).await.map_err(unreadable)?;
        if metadata.len() > MAX_FILE as u64 {
            return Err(AudioError::Unusable(format!("{} is larger than {MAX_FILE} octets", path.display())));
        }
        let key = (path.clone(), metadata.modified().map_err(unreadable)?);
        let get = async {
            let bytes = tokio::fs::read(&path).await.map_err(unreadable)?;
            decode(bytes.into(), None).await
        };
        self.files.try_get_with(key, get).await.map_err(|error: Arc<AudioError>| (*error).clone())
    }
}

/// The size of decoded audio in octets.
fn weight(audio: &Audio) -> u32 {
    u32::try_from(audio.samples().len() * 2).unwrap_or(u32::MAX)
}

fn spoken(speech: Result<Spoken, SpeechError>) -> Result<Loaded, AudioError> {
    let Spoken { samples, instead_of } = speech.map_err(|error| AudioError::Unusable(error.to_string()))?;
    Ok(Loaded { audio: Arc::new(Audio::new(samples)), instead_of })
}

async fn decode(bytes: bytes::Bytes, content_type: Option<String>) -> Result<Arc<Audio>, AudioError> {
    tokio::task::spawn_blocking(move || tandem_media::decode(&bytes, content_type.as_deref()))
        .await
        .map_err(|error| AudioError::Unusable(error.to_string()))?
        .map(Arc::new)
        .map_err(|error| AudioError::Unusable(error.to_string()))
}

/// Fetches an audio file. Returns the octets and the content type of the file. `max` is the maximum size in octets.
pub async fn file(client: &Client, url: &str, max: usize) -> Result<(Bytes, Option<String>), AudioError> {
    let response = client
        .send_following(request(url, Vec::new(), max), RedirectRules::PROVIDER, None, None)
        .await
        .map_err(|error| AudioError::Unusable(error.to_string()))?;
    check_status(url, response.status)?;
    let content_type = response.header("content-type").map(str::to_owned);
    Ok((response.body, content_type))
}

/// The request for an audio file.
fn request(url: &str, mut headers: Vec<(String, String)>, max: usize) -> Request {
    headers.push(("Accept".into(), ACCEPT.into()));
    Request {
        method: http::Method::GET,
        url: url.to_owned(),
        headers,
        body: Bytes::new(),
        timeouts: Timeouts { connect: Some(CONNECT_TIMEOUT), total: TOTAL_TIMEOUT },
        max_body: max,
    }
}

fn check_status(url: &str, status: u16) -> Result<(), AudioError> {
    match status {
        200..300 => Ok(()),
        404 | 410 => Err(AudioError::Missing(format!("{url} answered {status}"))),
        status => Err(AudioError::Unusable(format!("{url} answered {status}"))),
    }
}
