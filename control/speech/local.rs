//! The speech engine on this computer: the program `tandem-speech`, which the server starts as a child process and watches.
//! The child has a lower priority than the server, so its work delays no call. The child ends when its standard input is
//! closed, so it does not outlive the server.
//!
//! ```text
//!   off ──(stt or tts is "local")──► starting ──ready line──► ready ──the child ends or does not answer──► starting, after a pause
//!                                       │                       └──── the program or a model is new ──► starting, at once
//!                                       └──── no program, no ready line ──► down ──pause──► starting
//! ```

mod child;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tandem_call::engine::{LOCAL_SPEECH_BUSY, LOCAL_SPEECH_DOWN, SPEECH_NOT_INSTALLED};
use tandem_http::{Client, NetworkPolicy, SystemResolver};
use tandem_settings::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::SpeechConfig;
use child::{Checks, END_TIMEOUT, Supervisor};
pub(crate) use child::{installed, without_settings};

/// The name of the program.
pub const LOCAL_PROGRAM: &str = "tandem-speech";
/// Maximum time for which a request waits for the child to start.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for which a request waits for the restart of the child.
const RESTART_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of recognitions (live sessions and files) at the same time.
const MAX_RECOGNITIONS: usize = 256;
/// Maximum length of the code of a language, in octets.
const LONGEST_CODE: usize = 8;
/// Maximum number of texts that are spoken or wait.
const MAX_TEXTS: usize = 32;

/// The program `tandem-speech`. There is one instance for all calls. Without a configuration that needs it, the program
/// does not run.
pub struct LocalSpeech {
    program: Program,
    wanted: watch::Sender<Wanted>,
    state: watch::Sender<State>,
    supervisor: Mutex<Option<tokio::task::JoinHandle<()>>>,
    checks: Checks,
    /// The children that take no new requests. Each ends with the last request that uses it.
    retired: Arc<Mutex<JoinSet<()>>>,
    /// A client that reaches only this computer.
    pub(crate) client: Client,
    recognitions: Arc<Semaphore>,
    texts: Arc<Semaphore>,
}

/// The place of the program.
#[derive(Clone)]
enum Program {
    /// Beside the executable of the server, or in PATH.
    Installed,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests run a program of their own"))]
    At(PathBuf),
}

/// The child that the configuration demands. `None` means no child.
type Wanted = Option<Settings>;

#[derive(Clone, PartialEq)]
struct Settings {
    models: Option<PathBuf>,
}

#[derive(Clone)]
enum State {
    Off,
    /// The child will soon be ready, or fail.
    Starting,
    /// The child failed for this reason, and will soon be started again.
    Restarting(LocalFault),
    Ready(Arc<Ready>),
    Down(LocalFault),
}

/// A child that takes requests.
pub(crate) struct Ready {
    pub(crate) address: SocketAddr,
    pub(crate) key: Secret,
    /// The languages of the models for recognition. Empty without a model.
    pub(crate) recognition: Vec<String>,
    /// The names of the voices. Empty without a model.
    pub(crate) voices: Vec<String>,
    /// The sign that a request uses the child, so that the child does not end.
    _used: oneshot::Sender<()>,
}

impl Ready {
    /// Returns an error if no model recognises this language. `None` stands for any language.
    pub(crate) fn recognises(&self, language: Option<&str>) -> Result<(), LocalFault> {
        if self.recognition.is_empty() {
            return Err(LocalFault::NoModels("recognition"));
        }
        let code = language.unwrap_or_default().split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        // The program takes these names for any language.
        if matches!(code.as_str(), "" | "multi" | "auto") || self.recognition.contains(&code) {
            return Ok(());
        }
        // A document names the language, so the name is written in an advice only if it can be a code.
        match code.len() <= LONGEST_CODE && code.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
            true => Err(LocalFault::NoLanguage(code)),
            false => Err(LocalFault::NoModels("this language")),
        }
    }

    /// Returns the name of the voice for a text: this voice, or the first one if there is no voice with this name.
    pub(crate) fn voice(&self, name: &str) -> Result<&str, LocalFault> {
        let known = self.voices.iter().find(|known| *known == name).or_else(|| self.voices.first());
        known.map(String::as_str).ok_or(LocalFault::NoModels("a voice"))
    }
}

/// The reason why the engine on this computer does not serve a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalFault {
    /// There is no program.
    #[error(
        "{SPEECH_NOT_INSTALLED}: there is no program {LOCAL_PROGRAM} beside this server or in PATH; install it, then run \
         `tandem speech install`"
    )]
    NoProgram,
    /// The program has no models for the purpose in the field.
    #[error("{SPEECH_NOT_INSTALLED}: {LOCAL_PROGRAM} has no model for {0}; run `tandem speech install`")]
    NoModels(&'static str),
    /// The program has no model that recognises the language with this code.
    #[error(
        "{SPEECH_NOT_INSTALLED}: {LOCAL_PROGRAM} has no model for the language {0}; run `tandem speech install {0}`"
    )]
    NoLanguage(String),
    /// The program did not start, ended or does not answer. The field contains the reason.
    #[error("{LOCAL_SPEECH_DOWN}: {0}")]
    Down(String),
    /// There is too much work.
    #[error("{LOCAL_SPEECH_BUSY}: {0}")]
    Busy(String),
}

impl LocalSpeech {
    /// Creates the engine. No program is started until [`Self::configure`] demands this. `client` gives the TLS settings,
    /// which are not used.
    pub fn new(client: &Client) -> std::io::Result<Arc<Self>> {
        Self::with(Program::Installed, Checks::default(), client)
    }

    #[cfg(test)]
    pub(crate) fn of_program(path: PathBuf, client: &Client) -> Arc<Self> {
        Self::with(Program::At(path), Checks::default(), client).unwrap()
    }

    /// Checks the child every few milliseconds.
    #[cfg(test)]
    fn checked(path: PathBuf, client: &Client) -> Arc<Self> {
        let checks = Checks { interval: Duration::from_millis(20), limit: Duration::from_millis(50) };
        Self::with(Program::At(path), checks, client).unwrap()
    }

    fn with(program: Program, checks: Checks, client: &Client) -> std::io::Result<Arc<Self>> {
        let policy = NetworkPolicy { allow_networks: "127.0.0.0/8".parse().into_iter().collect() };
        Ok(Arc::new(Self {
            program,
            wanted: watch::Sender::new(None),
            state: watch::Sender::new(State::Off),
            supervisor: Mutex::default(),
            checks,
            retired: Arc::default(),
            client: Client::with(policy, READY_TIMEOUT, client.tls(), Arc::new(SystemResolver))?,
            recognitions: Arc::new(Semaphore::new(MAX_RECOGNITIONS)),
            texts: Arc::new(Semaphore::new(MAX_TEXTS)),
        }))
    }

    /// Starts, restarts or stops the program, as the settings demand. The function must run within a tokio runtime. The
    /// same settings again have no effect.
    pub fn configure(&self, config: &SpeechConfig) {
        let wanted = config.is_local().then(|| Settings { models: config.models.clone() });
        if wanted.is_none() && self.supervisor.lock().is_none() {
            return;
        }
        if wanted.is_some() && *self.wanted.borrow() != wanted {
            self.state.send_replace(State::Starting);
        }
        self.wanted.send_if_modified(|before| {
            let is_new = *before != wanted;
            *before = wanted;
            is_new
        });
        let mut supervisor = self.supervisor.lock();
        if supervisor.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            let supervision = Supervisor {
                program: self.program.clone(),
                client: self.client.clone(),
                state: self.state.clone(),
                checks: self.checks,
                retired: Arc::clone(&self.retired),
            };
            *supervisor = Some(tokio::spawn(supervision.supervise(self.wanted.subscribe())));
        }
    }

    /// Ends the program.
    pub async fn stop(&self) {
        let supervisor = self.supervisor.lock().take();
        self.wanted.send_replace(None);
        if let Some(supervisor) = supervisor {
            let ended = async {
                let mut state = self.state.subscribe();
                // An error means that there is no supervisor any more.
                let _ = state.wait_for(|state| matches!(state, State::Off)).await;
            };
            let limit = END_TIMEOUT + Duration::from_secs(1);
            let _ = timeout(limit, ended).await;
            supervisor.abort();
            let mut retired = std::mem::take(&mut *self.retired.lock());
            // A child that a request still uses is killed.
            let _ = timeout(limit, async { while retired.join_next().await.is_some() {} }).await;
        }
    }

    /// Waits for a child that takes requests, but at most `limit`. If the child cannot start soon, the error comes at once.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<Arc<Ready>, LocalFault> {
        let mut state = self.state.subscribe();
        let limit = if matches!(*state.borrow(), State::Restarting(_)) { limit.min(RESTART_TIMEOUT) } else { limit };
        let is_known = |state: &State| !matches!(state, State::Starting | State::Restarting(_));
        let known = timeout(limit, state.wait_for(is_known)).await;
        match known.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Ready(ready))) => Ok(ready),
            Ok(Ok(State::Down(why))) => Err(why),
            Ok(_) => Err(LocalFault::Down("this command does not start it".to_owned())),
            Err(_) => match &*self.state.borrow() {
                State::Restarting(why) => Err(why.clone()),
                _ => Err(LocalFault::Down(format!("{LOCAL_PROGRAM} is starting"))),
            },
        }
    }

    /// Takes a place for a recognition.
    pub(crate) fn recognition_place(&self) -> Result<OwnedSemaphorePermit, LocalFault> {
        let busy = |_| LocalFault::Busy(format!("{MAX_RECOGNITIONS} recognitions run"));
        Arc::clone(&self.recognitions).try_acquire_owned().map_err(busy)
    }

    /// Takes a place for a text.
    pub(crate) fn text_place(&self) -> Result<OwnedSemaphorePermit, LocalFault> {
        let busy = |_| LocalFault::Busy(format!("{MAX_TEXTS} texts wait to be spoken"));
        Arc::clone(&self.texts).try_acquire_owned().map_err(busy)
    }
}

/// Returns the reason why a request to the child failed. `why` is the error of the request. A child that gave no answer has
/// most likely ended.
pub(crate) fn fault_of(why: &str) -> String {
    let answers = ["the engine answered 429", "the engine answered 503", "HTTP error: 429", "HTTP error: 503"];
    let is_busy = answers.iter().any(|answer| why.contains(answer));
    match why.contains("the engine answered") || why.contains("HTTP error: ") {
        _ if is_busy => LocalFault::Busy(why.to_owned()).to_string(),
        true => why.to_owned(),
        false => LocalFault::Down(why.to_owned()).to_string(),
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
