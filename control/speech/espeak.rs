//! The engine espeak-ng. This server runs espeak-ng as a separate program and does not link it as a library. The
//! reasons are that the licence of espeak-ng is the GPL, that the library has global state, and that the texts come
//! from outside. The program reads the text from standard input. The command line contains only words of this server.

use std::collections::HashSet;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tandem_call::program::instruction::Speech;
use tandem_id::AccountName;
use tandem_shares::PerAccount;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{OnceCell, Semaphore};

use super::{SpeechError, TIME, WAITING, voices};

pub(super) const PROGRAM: &str = "espeak-ng";
/// Maximum audio of one text, in octets of a WAV file at 22,050 Hz. This is about 20 minutes.
const LARGEST_AUDIO: u64 = 56 * 1024 * 1024;

/// The engine.
pub(super) struct Espeak {
    /// The names of the engine's voices. The server asks the program for this list only once.
    voices: OnceCell<HashSet<String>>,
    /// The places of all accounts: twice those of one account. So the texts of one account do not wait for those of
    /// another.
    all: Places,
    accounts: Arc<PerAccount<Places>>,
}

/// The limits on texts.
pub(super) struct Places {
    /// The processes that run.
    pub(super) running: Semaphore,
    /// The texts that run or wait.
    pub(super) waiting: Semaphore,
}

impl Places {
    /// The places of this number of accounts. An account has as many processes as the machine has cores, but at least
    /// two.
    pub(super) fn of_accounts(accounts: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { running: Semaphore::new(accounts * cores.max(2)), waiting: Semaphore::new(accounts * WAITING) }
    }
}

impl Espeak {
    pub(super) fn new(accounts: &Arc<PerAccount<Places>>) -> Self {
        Self { voices: OnceCell::new(), all: Places::of_accounts(2), accounts: Arc::clone(accounts) }
    }

    /// Returns the name of the voice that the engine uses for a text.
    pub(super) async fn voice(&self, speech: &Speech) -> Result<String, SpeechError> {
        let known = self.voices.get_or_try_init(list_voices).await?;
        Ok(voices::choose(speech.voice.as_deref(), speech.language.as_deref(), known))
    }

    /// Returns the speech for a text of this account as samples at 8,000 Hz.
    pub(super) async fn speak(
        &self,
        account: &AccountName,
        voice: &str,
        speech: &Speech,
    ) -> Result<Arc<[i16]>, SpeechError> {
        let own = self.accounts.of(account);
        let _own_place = own.waiting.try_acquire().map_err(|_| SpeechError::Busy)?;
        let _place = self.all.waiting.try_acquire().map_err(|_| SpeechError::Busy)?;
        let work = async {
            let _own_turn = own.running.acquire().await.map_err(|_| SpeechError::Busy)?;
            let _turn = self.all.running.acquire().await.map_err(|_| SpeechError::Busy)?;
            run(voice, speech).await
        };
        let wav = tokio::time::timeout(TIME, work).await.map_err(|_| SpeechError::Timeout(TIME))??;
        super::samples(wav).await
    }
}

/// Runs the program once. The input is the text, and the output is a WAV file. Dropping this future ends the process.
async fn run(voice: &str, speech: &Speech) -> Result<Vec<u8>, SpeechError> {
    let mut command = Command::new(PROGRAM);
    command.args(["--stdin", "--stdout", "-b", "1", "-v", voice]);
    if speech.ssml {
        command.arg("-m");
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot_start)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(SpeechError::Failed("no pipe".to_owned()));
    };
    let text: String = speech.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let feed = async move {
        // If the program ends early, its own error message is the reported error.
        drop(stdin.write_all(text.as_bytes()).await);
        drop(stdin.shutdown().await);
    };
    let mut wav = Vec::new();
    let mut complaint = Vec::new();
    let (mut stdout, mut stderr) = (stdout.take(LARGEST_AUDIO), stderr.take(4_096));
    let (_, read, _) = tokio::join!(feed, stdout.read_to_end(&mut wav), stderr.read_to_end(&mut complaint));
    read.map_err(|error| SpeechError::Failed(error.to_string()))?;
    if stdout.limit() == 0 {
        return Err(SpeechError::Failed("the audio of the text is too long".to_owned()));
    }
    let status = child.wait().await.map_err(|error| SpeechError::Failed(error.to_string()))?;
    ended(status, &complaint)?;
    Ok(wav)
}

/// Returns the voice names that the option `-v` accepts. The names are languages in lower case.
async fn list_voices() -> Result<HashSet<String>, SpeechError> {
    let list = Command::new(PROGRAM).arg("--voices").stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(TIME, list).await.map_err(|_| SpeechError::Timeout(TIME))?.map_err(cannot_start)?;
    ended(output.status, &output.stderr)?;
    Ok(voices::parse_list(&String::from_utf8_lossy(&output.stdout)))
}

fn cannot_start(error: std::io::Error) -> SpeechError {
    match error.kind() {
        std::io::ErrorKind::NotFound => SpeechError::NoEngine,
        _ => SpeechError::Failed(error.to_string()),
    }
}

fn ended(status: ExitStatus, complaint: &[u8]) -> Result<(), SpeechError> {
    if status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(complaint);
    Err(SpeechError::Failed(format!("{status} {}", complaint.lines().next().unwrap_or_default())))
}
