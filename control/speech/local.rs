//! The speech engine on this computer: the program `tandem-speech`, which the server starts as a child process and watches.
//! The child has a lower priority than the server, so its work delays no call. The child ends when its standard input is
//! closed, so it does not outlive the server.
//!
//! ```text
//!   off ──(stt or tts is "local")──► starting ──ready line──► ready ──the child ends──► starting, after a pause
//!                                       └──── no program, no ready line ──► down ──pause──► starting
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tandem_call::engine::{LOCAL_SPEECH_BUSY, LOCAL_SPEECH_DOWN, SPEECH_NOT_INSTALLED};
use tandem_http::{Client, NetworkPolicy, SystemResolver};
use tandem_settings::Secret;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::SpeechConfig;

/// The name of the program.
pub const LOCAL_PROGRAM: &str = "tandem-speech";
/// The environment variable with the key that the child demands.
const KEY: &str = "TANDEM_SPEECH_KEY";
/// The priority of the child (setpriority(2)). The server itself has 0.
const NICE: i32 = 10;
/// Time limit until the child has loaded its models and writes its ready line.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time for which a request waits for the child to start.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before the first restart. The pause doubles with each further restart.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A child that ran this long counts as healthy: the pause before its restart is the first one again.
const HEALTHY: Duration = Duration::from_secs(60);
/// Requests wait during a pause of at most this length. During a longer pause, they fail at once.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// Maximum time for which a request waits for the restart of the child.
const RESTART_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for the child to end by itself after its standard input was closed.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum time for which the last lines of a child are read after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Maximum length of a line of the child, in octets.
const LONGEST_LINE: u64 = 64 * 1024;
/// Maximum number of recognitions (live sessions and files) at the same time.
const MAX_RECOGNITIONS: usize = 256;
/// Maximum number of texts that are spoken or wait.
const MAX_TEXTS: usize = 32;

/// The program `tandem-speech`. There is one instance for all calls. Without a configuration that needs it, the program
/// does not run.
pub struct LocalSpeech {
    program: Program,
    wanted: watch::Sender<Wanted>,
    state: watch::Sender<State>,
    supervisor: Mutex<Option<tokio::task::JoinHandle<()>>>,
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
    /// The program did not start, or ended. The field contains the reason.
    #[error("{LOCAL_SPEECH_DOWN}: {0}")]
    Down(String),
    /// There is too much work.
    #[error("{LOCAL_SPEECH_BUSY}: {0}")]
    Busy(String),
}

/// The line that the child writes when it takes requests.
#[derive(Deserialize)]
struct ReadyLine {
    listening: SocketAddr,
    #[serde(default)]
    recognition: Vec<String>,
    #[serde(default)]
    voices: Vec<String>,
}

impl LocalSpeech {
    /// Creates the engine. No program is started until [`Self::configure`] demands this. `client` gives the TLS settings,
    /// which are not used.
    pub fn new(client: &Client) -> std::io::Result<Arc<Self>> {
        Self::with(Program::Installed, client)
    }

    #[cfg(test)]
    pub(crate) fn of_program(path: PathBuf, client: &Client) -> Arc<Self> {
        Self::with(Program::At(path), client).unwrap()
    }

    fn with(program: Program, client: &Client) -> std::io::Result<Arc<Self>> {
        let policy = NetworkPolicy { allow_networks: "127.0.0.0/8".parse().into_iter().collect() };
        Ok(Arc::new(Self {
            program,
            wanted: watch::Sender::new(None),
            state: watch::Sender::new(State::Off),
            supervisor: Mutex::default(),
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
            let supervision = supervise(self.program.clone(), self.wanted.subscribe(), self.state.clone());
            *supervisor = Some(tokio::spawn(supervision));
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
            let _ = timeout(END_TIMEOUT + Duration::from_secs(1), ended).await;
            supervisor.abort();
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
    match why.contains("the engine answered") {
        _ if is_busy => LocalFault::Busy(why.to_owned()).to_string(),
        true => why.to_owned(),
        false => LocalFault::Down(why.to_owned()).to_string(),
    }
}

/// Returns the path of the installed program.
pub(crate) fn installed() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|server| Some(server.parent()?.join(LOCAL_PROGRAM)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join(LOCAL_PROGRAM));
    beside.into_iter().chain(in_path).find(|program| program.is_file())
}

/// Runs children until the sender of `wanted` is dropped.
async fn supervise(program: Program, mut wanted: watch::Receiver<Wanted>, state: watch::Sender<State>) {
    let mut pause = FIRST_PAUSE;
    let mut last_fault = None;
    loop {
        let settings = wanted.borrow_and_update().clone();
        let Some(settings) = settings else {
            state.send_replace(State::Off);
            if wanted.changed().await.is_err() {
                return;
            }
            pause = FIRST_PAUSE;
            continue;
        };
        let began = Instant::now();
        let mut child = None;
        let fault = tokio::select! {
            fault = run(&program, &settings, &state, &mut child) => Some(fault),
            changed = wanted.changed() => {
                end(child.take()).await;
                if changed.is_err() {
                    return;
                }
                None
            }
        };
        let Some(fault) = fault else {
            pause = FIRST_PAUSE;
            continue;
        };
        if began.elapsed() >= HEALTHY {
            pause = FIRST_PAUSE;
        }
        match &fault {
            // The start of the server has already warned of a missing program.
            LocalFault::NoProgram => {}
            _ if last_fault.as_ref() == Some(&fault) => tracing::debug!("{fault}"),
            LocalFault::NoModels(_) => tracing::warn!("{fault}"),
            _ => tracing::warn!("{fault}; it starts again in {:.1} s", pause.as_secs_f64()),
        }
        last_fault = Some(fault.clone());
        let waits = pause <= SHORT_PAUSE && matches!(fault, LocalFault::Down(_));
        state.send_replace(if waits { State::Restarting(fault) } else { State::Down(fault) });
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Runs one child until it ends. Returns the reason.
async fn run(
    program: &Program,
    settings: &Settings,
    state: &watch::Sender<State>,
    running: &mut Option<Child>,
) -> LocalFault {
    let path = match program {
        Program::Installed => installed(),
        Program::At(path) => Some(path.clone()),
    };
    let Some(path) = path else { return LocalFault::NoProgram };
    let key = format!("{:032x}", rand::random::<u128>());
    let child = match spawn(&path, settings, &key) {
        Ok(child) => running.insert(child),
        Err(error) => return LocalFault::Down(format!("{}: {error}", path.display())),
    };
    let (Some(mut stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return LocalFault::Down("no pipe".to_owned());
    };
    // `wait` would close the standard input, and so end the child.
    let stdin = child.stdin.take();
    let last_words = Arc::new(Mutex::new(String::new()));
    // This task ends when the child and its own children have ended.
    let mut complaints = tokio::spawn(complaints(stderr, Arc::clone(&last_words)));
    let serving = async {
        let mut line = String::new();
        let mut lines = BufReader::new((&mut stdout).take(LONGEST_LINE));
        match timeout(START_TIMEOUT, lines.read_line(&mut line)).await {
            Ok(Ok(0)) => return None,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Some(LocalFault::Down(error.to_string())),
            Err(_) => {
                return Some(LocalFault::Down(format!(
                    "{LOCAL_PROGRAM} was not ready in {} s",
                    START_TIMEOUT.as_secs()
                )));
            }
        }
        let ReadyLine { listening, recognition, voices } = match serde_json::from_str(&line) {
            Ok(ready) => ready,
            Err(error) => return Some(LocalFault::Down(format!("{LOCAL_PROGRAM} wrote an unknown line: {error}"))),
        };
        if !listening.ip().is_loopback() {
            return Some(LocalFault::Down(format!(
                "{LOCAL_PROGRAM} listens on {listening}, not on this computer alone"
            )));
        }
        if recognition.is_empty() && voices.is_empty() {
            // Models that are installed later are found by the next child.
            return Some(LocalFault::NoModels("any language"));
        }
        let (languages, names) = (recognition.join(", "), voices.join(", "));
        tracing::info!("{LOCAL_PROGRAM} listens on {listening}; languages: {languages}; voices: {names}");
        let ready = Ready { address: listening, key: Secret::new(&key), recognition, voices };
        state.send_replace(State::Ready(Arc::new(ready)));
        // The child may write more. The pipe must not fill up.
        let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
        std::future::pending().await
    };
    let (fault, ended) = {
        let ended = child.wait();
        tokio::pin!(ended);
        tokio::select! {
            fault = serving => match fault {
                Some(fault) => (Some(fault), String::new()),
                // The child ends, or it has closed its output without a line.
                None => (None, timeout(END_TIMEOUT, &mut ended).await.map_or("it closed its output".to_owned(), exit)),
            },
            status = &mut ended => (None, exit(status)),
        }
    };
    drop(stdin);
    // The last lines may still be in the pipe.
    let _ = timeout(LAST_WORDS, &mut complaints).await;
    end(running.take()).await;
    if let Some(fault) = fault {
        return fault;
    }
    let last_words = last_words.lock().clone();
    match last_words.contains("speech install") {
        true => LocalFault::NoModels("any language"),
        false => LocalFault::Down(format!("{LOCAL_PROGRAM} ended ({ended}) {last_words}").trim_end().to_owned()),
    }
}

fn exit(status: std::io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn spawn(program: &Path, settings: &Settings, key: &str) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    if let Some(models) = &settings.models {
        command.arg("--models").arg(models);
    }
    // The child needs no setting of the server, and no password in one.
    for (name, _) in std::env::vars_os() {
        let is_setting =
            name.to_str().is_some_and(|name| name.starts_with("TANDEM_") && !name.starts_with("TANDEM_SPEECH_M"));
        if is_setting {
            command.env_remove(name);
        }
    }
    command.env(KEY, key).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Ctrl-C in a terminal goes to the whole process group. The calls that are still live need the engine.
    command.process_group(0);
    let child = command.spawn()?;
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid
        && let Err(error) = rustix::process::setpriority_process(Some(pid), NICE)
    {
        tracing::warn!(%error, "the priority of {LOCAL_PROGRAM} cannot be lowered");
    }
    Ok(child)
}

/// Ends a child whose standard input is closed. Kills the child if it does not end by itself.
async fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        drop(child.stdin.take());
        if timeout(END_TIMEOUT, child.wait()).await.is_err() {
            // An error means that the child has just ended.
            let _ = child.kill().await;
        }
    }
}

/// Logs the lines that the child writes to its standard error, and keeps the last one.
async fn complaints(stderr: impl AsyncRead + Unpin, last: Arc<Mutex<String>>) {
    let mut reader = BufReader::new(stderr);
    let mut recent: VecDeque<u8> = VecDeque::new();
    loop {
        let octets = match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(octets) => octets.to_vec(),
        };
        reader.consume(octets.len());
        for octet in octets {
            if octet == b'\n' {
                let line = String::from_utf8_lossy(recent.make_contiguous()).trim().to_owned();
                recent.clear();
                if !line.is_empty() {
                    tracing::info!("{LOCAL_PROGRAM}: {line}");
                    *last.lock() = line;
                }
            } else if recent.len() < 500 {
                recent.push_back(octet);
            }
        }
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
