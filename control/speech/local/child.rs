//! The process of the engine on this computer: starting it, watching it, and replacing it.
//!
//! A child is replaced when it ends, when it does not answer any more, and when the program or the models change. A child that
//! is replaced because of a change ends when the last request that uses it has ended.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde::Deserialize;
use tandem_http::{Client, FetchError, Request, Timeouts};
use tandem_settings::Secret;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::{LOCAL_PROGRAM, LocalFault, Program, Ready, Settings, State, Wanted};

/// The environment variable with the key that the child demands.
const KEY: &str = "TANDEM_SPEECH_KEY";
/// The priority of the child (setpriority(2)). The server itself has 0.
const NICE: i32 = 10;
/// Time limit until the child has loaded its models and writes its ready line.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before the first restart. The pause doubles with each further restart.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A child that ran this long counts as healthy: the pause before its restart is the first one again.
const HEALTHY: Duration = Duration::from_secs(60);
/// Requests wait during a pause of at most this length. During a longer pause, they fail at once.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// Time limit for the child to end by itself after its standard input was closed.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum time for which the last lines of a child are read after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Maximum length of a line of the child, in octets.
const LONGEST_LINE: u64 = 64 * 1024;
/// Number of checks in a row that a child may leave without an answer.
const SILENT_CHECKS: u8 = 3;
/// The directory of models of the installed service. The child looks there too.
const SERVICE_MODELS: &str = "/var/lib/tandem/speech";

/// The times of the checks of a running child.
#[derive(Clone, Copy)]
pub(super) struct Checks {
    /// The time between two checks.
    pub(super) interval: Duration,
    /// Time limit for the answer of the child.
    pub(super) limit: Duration,
}

impl Default for Checks {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), limit: Duration::from_secs(5) }
    }
}

/// The supervisor of the children.
pub(super) struct Supervisor {
    pub(super) program: Program,
    pub(super) client: Client,
    pub(super) state: watch::Sender<State>,
    pub(super) checks: Checks,
    /// The children that take no new requests.
    pub(super) retired: Arc<Mutex<JoinSet<()>>>,
}

/// A running child.
struct Running {
    child: Child,
    /// The child ends when this is closed.
    stdin: Option<ChildStdin>,
    /// Completes when no request uses the child and no new request gets it. `None` before the child is ready.
    unused: Option<oneshot::Receiver<()>>,
    complaints: AbortHandle,
}

/// The end of a run.
enum End {
    Fault(LocalFault),
    /// The program or the models have changed, so a new child is needed.
    Changed,
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

/// Returns the path of the installed program.
pub(crate) fn installed() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|server| Some(server.parent()?.join(LOCAL_PROGRAM)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join(LOCAL_PROGRAM));
    let is_executable =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    beside.into_iter().chain(in_path).find(is_executable)
}

/// Removes the settings of the server from the environment of a child, because one of them may be a password.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let is_setting =
            name.to_str().is_some_and(|name| name.starts_with("TANDEM_") && !name.starts_with("TANDEM_SPEECH_M"));
        if is_setting {
            command.env_remove(name);
        }
    }
}

impl Supervisor {
    /// Runs children until the sender of `wanted` is dropped.
    pub(super) async fn supervise(self, mut wanted: watch::Receiver<Wanted>) {
        let mut pause = FIRST_PAUSE;
        let mut last_fault = None;
        loop {
            let settings = wanted.borrow_and_update().clone();
            let Some(settings) = settings else {
                self.state.send_replace(State::Off);
                if wanted.changed().await.is_err() {
                    return;
                }
                pause = FIRST_PAUSE;
                continue;
            };
            let began = Instant::now();
            let mut running = None;
            let end = tokio::select! {
                end = self.run(&settings, &mut running) => end,
                changed = wanted.changed() => {
                    // The supervisor of a server that ends leaves the rest to `LocalSpeech::stop`.
                    self.retire(running.take());
                    if changed.is_err() {
                        return;
                    }
                    pause = FIRST_PAUSE;
                    continue;
                }
            };
            let fault = match end {
                End::Changed => {
                    tracing::info!("{LOCAL_PROGRAM} or its models have changed; it starts again");
                    self.state.send_replace(State::Starting);
                    self.retire(running.take());
                    continue;
                }
                End::Fault(fault) => fault,
            };
            if let Some(running) = running.take() {
                running.end().await;
            }
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
            self.state.send_replace(if waits { State::Restarting(fault) } else { State::Down(fault) });
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                changed = wanted.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    /// Lets a child end when no request uses it any more.
    fn retire(&self, running: Option<Running>) {
        let mut retired = self.retired.lock();
        while retired.try_join_next().is_some() {}
        if let Some(mut running) = running {
            retired.spawn(async move {
                if let Some(unused) = running.unused.take() {
                    tokio::select! {
                        // An error means that nobody holds the other end any more, which is the sign.
                        _ = unused => {}
                        _ = running.child.wait() => {}
                    }
                }
                running.end().await;
            });
        }
    }

    /// Runs one child until it ends, does not answer any more, or must be replaced.
    async fn run(&self, settings: &Settings, place: &mut Option<Running>) -> End {
        let path = match &self.program {
            Program::Installed => installed(),
            Program::At(path) => Some(path.clone()),
        };
        let Some(path) = path else { return End::Fault(LocalFault::NoProgram) };
        let before = fingerprint(&path, settings);
        let key = format!("{:032x}", rand::random::<u128>());
        let mut child = match spawn(&path, settings, &key) {
            Ok(child) => child,
            Err(error) => return down(format!("{}: {error}", path.display())),
        };
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return down("no pipe".to_owned());
        };
        // `wait` would close the standard input, and so end the child.
        let stdin = child.stdin.take();
        let last_words = Arc::new(Mutex::new(String::new()));
        let mut complaints = tokio::spawn(complaints(stderr, Arc::clone(&last_words)));
        let running = place.insert(Running { child, stdin, unused: None, complaints: complaints.abort_handle() });
        let Running { child, unused, .. } = running;
        let serving = async {
            let (ready, sign, stdout) = match begin(stdout, Secret::new(&key)).await {
                Ok(Some(begun)) => begun,
                Ok(None) => return None,
                Err(fault) => return Some(End::Fault(fault)),
            };
            *unused = Some(sign);
            let address = ready.address;
            self.state.send_replace(State::Ready(Arc::new(ready)));
            let has_changed = || path.is_file() && fingerprint(&path, settings) != before;
            Some(self.watch(address, &key, stdout, has_changed).await)
        };
        let ended = {
            let ended = child.wait();
            tokio::pin!(ended);
            tokio::select! {
                end = serving => match end {
                    Some(end) => return end,
                    // The child ends, or it has closed its output without a line.
                    None => timeout(END_TIMEOUT, &mut ended).await.map_or("it closed its output".to_owned(), exit),
                },
                status = &mut ended => exit(status),
            }
        };
        // The last lines may still be in the pipe.
        let _ = timeout(LAST_WORDS, &mut complaints).await;
        let last_words = last_words.lock().clone();
        match last_words.contains("speech install") {
            true => End::Fault(LocalFault::NoModels("any language")),
            false => down(format!("{LOCAL_PROGRAM} ended ({ended}) {last_words}").trim_end().to_owned()),
        }
    }

    /// Watches a child that takes requests. Completes when the child does not answer any more, or when `has_changed` is true
    /// in two checks: an installation that is not complete yet is no reason for a new child.
    async fn watch(
        &self,
        address: SocketAddr,
        key: &str,
        mut stdout: BufReader<ChildStdout>,
        has_changed: impl Fn() -> bool,
    ) -> End {
        let drain = async {
            // The child may write more. The pipe must not fill up.
            let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
            std::future::pending().await
        };
        let check = async {
            let request = Request {
                method: Method::GET,
                url: format!("http://{address}/health"),
                headers: vec![("Authorization".to_owned(), format!("Bearer {key}"))],
                body: bytes::Bytes::new(),
                timeouts: Timeouts { connect: None, total: self.checks.limit },
                max_body: 4_096,
            };
            let (mut silent, mut changed) = (0, 0);
            loop {
                sleep(self.checks.interval).await;
                // Any other failure is an answer too: the child refuses connections while it has too many.
                let is_silent = matches!(
                    self.client.send(&request).await,
                    Err(FetchError::Timeout(_) | FetchError::ConnectTimeout(_) | FetchError::ConnectRefused(_))
                );
                silent = if is_silent { silent + 1 } else { 0 };
                if silent >= SILENT_CHECKS {
                    return down(format!("{LOCAL_PROGRAM} does not answer"));
                }
                changed = if has_changed() { changed + 1 } else { 0 };
                if changed >= 2 {
                    return End::Changed;
                }
            }
        };
        tokio::select! {
            end = check => end,
            end = drain => end,
        }
    }
}

impl Running {
    /// Ends the child. Kills the child if it does not end by itself.
    async fn end(mut self) {
        drop(self.stdin.take());
        if timeout(END_TIMEOUT, self.child.wait()).await.is_err() {
            // An error means that the child has just ended.
            let _ = self.child.kill().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that the child has started may keep the pipe open.
        self.complaints.abort();
    }
}

fn down(why: String) -> End {
    End::Fault(LocalFault::Down(why))
}

fn exit(status: std::io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// Waits until the child takes requests. Returns `None` if the child closes its output without a line. The receiver in the
/// result completes when nobody uses the child any more.
async fn begin(
    stdout: ChildStdout,
    key: Secret,
) -> Result<Option<(Ready, oneshot::Receiver<()>, BufReader<ChildStdout>)>, LocalFault> {
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    match timeout(START_TIMEOUT, (&mut stdout).take(LONGEST_LINE).read_line(&mut line)).await {
        Ok(Ok(0)) => return Ok(None),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(LocalFault::Down(error.to_string())),
        Err(_) => {
            let limit = START_TIMEOUT.as_secs();
            return Err(LocalFault::Down(format!("{LOCAL_PROGRAM} was not ready in {limit} s")));
        }
    }
    let ReadyLine { listening, recognition, voices } = serde_json::from_str(&line)
        .map_err(|error| LocalFault::Down(format!("{LOCAL_PROGRAM} wrote an unknown line: {error}")))?;
    if !listening.ip().is_loopback() {
        let why = format!("{LOCAL_PROGRAM} listens on {listening}, not on this computer alone");
        return Err(LocalFault::Down(why));
    }
    if recognition.is_empty() && voices.is_empty() {
        // Models that are installed later are found by the next child.
        return Err(LocalFault::NoModels("any language"));
    }
    let (languages, names) = (recognition.join(", "), voices.join(", "));
    tracing::info!("{LOCAL_PROGRAM} listens on {listening}; languages: {languages}; voices: {names}");
    let (used, unused) = oneshot::channel();
    Ok(Some((Ready { address: listening, key, recognition, voices, _used: used }, unused, stdout)))
}

fn spawn(program: &Path, settings: &Settings, key: &str) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    if let Some(models) = &settings.models {
        command.arg("--models").arg(models);
    }
    without_settings(&mut command);
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

/// The identity of the program, and of the folders of models in each directory in which the child looks for models.
#[derive(PartialEq)]
struct Fingerprint(BTreeSet<(PathBuf, u64, i64)>);

fn fingerprint(program: &Path, settings: &Settings) -> Fingerprint {
    let directories = match &settings.models {
        Some(models) => vec![models.clone()],
        None => {
            let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
            let of_user = data.map(|data| data.join("tandem/speech"));
            [variable("TANDEM_SPEECH_MODELS"), Some(SERVICE_MODELS.into()), of_user].into_iter().flatten().collect()
        }
    };
    let folders = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
    let folders = folders.map(|entry| entry.path());
    let folders =
        folders.filter(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    let identity = |path: PathBuf| path.metadata().ok().map(|found| (path, found.ino(), found.mtime()));
    Fingerprint(folders.chain([program.to_owned()]).filter_map(identity).collect())
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
