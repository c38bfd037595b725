//! Text to speech by a program of the operator. The program is started once for each text. It reads the text from standard
//! input and writes a WAV file to standard output. The file may be written while it is made.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tandem_id::AccountName;
use tandem_shares::PerAccount;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::SpeechError;
use super::espeak::Places;
use super::local::without_settings;
use super::wav::WavStream;

/// Time limit for the program to end after its audio.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Number of octets that are read from the program at a time.
const PIECE: usize = 8 * 1024;
/// The language of a text that names no usable language.
const LANGUAGE: &str = "en-US";
/// Maximum length of a language tag in characters.
const LONGEST_TAG: usize = 35;

pub(super) struct CommandVoice {
    /// The program and its arguments.
    words: Arc<[Box<str>]>,
    /// The places of all accounts: twice those of one account.
    all: Places,
    accounts: Arc<PerAccount<Places>>,
    time: Duration,
}

impl CommandVoice {
    pub(super) fn new(words: Arc<[Box<str>]>, accounts: &Arc<PerAccount<Places>>, time: Duration) -> Self {
        Self { words, all: Places::of_accounts(2), accounts: Arc::clone(accounts), time }
    }

    /// Returns the part of the cache key that identifies the engine, the voice and the language.
    pub(super) fn identity(&self, voice: &str, language: Option<&str>) -> String {
        format!("{:?} {voice} {}", self.words, tag(language))
    }

    /// Speaks a plain text in a voice and a language. Gives the samples, at 8,000 Hz, to `chunks` while the program makes
    /// them. Dropping the future ends the process.
    pub(super) async fn speak(
        &self,
        account: &AccountName,
        (voice, language): (&str, Option<&str>),
        text: &str,
        chunks: &mpsc::Sender<Vec<i16>>,
    ) -> Result<(), SpeechError> {
        let own = self.accounts.of(account);
        let _own_place = own.waiting.try_acquire().map_err(|_| SpeechError::Busy)?;
        let _place = self.all.waiting.try_acquire().map_err(|_| SpeechError::Busy)?;
        let work = async {
            let _own_turn = own.running.acquire().await.map_err(|_| SpeechError::Busy)?;
            let _turn = self.all.running.acquire().await.map_err(|_| SpeechError::Busy)?;
            self.run((voice, &tag(language)), text, chunks).await
        };
        tokio::time::timeout(self.time, work).await.map_err(|_| SpeechError::Timeout(self.time))?
    }

    async fn run(
        &self,
        (voice, language): (&str, &str),
        text: &str,
        chunks: &mpsc::Sender<Vec<i16>>,
    ) -> Result<(), SpeechError> {
        let mut words = self.words.iter().enumerate().map(|(place, word)| match place {
            0 => word.to_string(),
            _ => word.replace("{voice}", voice).replace("{language}", language),
        });
        let program = words.next().unwrap_or_default();
        let failed = |why: &dyn std::fmt::Display| SpeechError::Failed(format!("{program}: {why}"));
        let mut command = Command::new(&program);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // The program may be a script that starts other programs. They end together.
        command.process_group(0);
        without_settings(&mut command);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let mut group = Group(child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)));
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed(&"no pipe"));
        };
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let feed = async move {
            // If the program ends early, its own error message is the reported error.
            drop(stdin.write_all(line.as_bytes()).await);
            drop(stdin.write_all(b"\n").await);
            drop(stdin.shutdown().await);
        };
        let listen = async {
            let mut complaint = Vec::new();
            let mut first = (&mut stderr).take(4_096);
            let _ = first.read_to_end(&mut complaint).await;
            // The pipe must not fill up, so the rest is read too.
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            complaint
        };
        let (mut aside, mut complaint) = (Box::pin(async { tokio::join!(feed, listen).1 }), None);
        let read = {
            let read = read(&mut stdout, text, chunks);
            tokio::pin!(read);
            loop {
                tokio::select! {
                    read = &mut read => break read,
                    said = &mut aside, if complaint.is_none() => complaint = Some(said),
                }
            }
        };
        let said = async {
            match complaint {
                Some(said) => said,
                None => aside.await,
            }
        };
        // The rest of the output is read, because a closed pipe would be an error for the program. It ends a program whose audio
        // is of no use.
        let mut stdout = read.is_ok().then_some(stdout);
        let rest = async {
            if let Some(stdout) = &mut stdout {
                let _ = tokio::io::copy(stdout, &mut tokio::io::sink()).await;
            }
        };
        let ending = async { tokio::join!(child.wait(), said, rest) };
        let Ok((status, complaint, _)) = tokio::time::timeout(END_TIMEOUT, ending).await else {
            // The program still runs. It has not failed, and its process group ends here.
            return read.map_err(|why| failed(&why));
        };
        group.0 = None;
        let status = status.map_err(|error| failed(&error))?;
        if status.success() {
            return read.map_err(|why| failed(&why));
        }
        let complaint = String::from_utf8_lossy(&complaint);
        let why = format!("{status} {}", complaint.lines().next_back().unwrap_or_default());
        Err(match read {
            Err(reason) => failed(&format!("{reason} ({})", why.trim_end())),
            Ok(()) => failed(&why),
        })
    }
}

/// The process group of a program. Dropping the value kills all processes of the group.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // An error means that the processes have just ended.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Reads the WAV file of the program. The audio ends with the output, or after the length in the header of the file.
async fn read(
    stdout: &mut (impl AsyncReadExt + Unpin),
    text: &str,
    chunks: &mpsc::Sender<Vec<i16>>,
) -> Result<(), String> {
    let mut wav = WavStream::default();
    let mut left = super::longest_audio(text);
    let mut piece = vec![0; PIECE];
    loop {
        let length = stdout.read(&mut piece).await.map_err(|error| error.to_string())?;
        let samples = match length {
            0 => wav.finish()?,
            length => wav.push(piece.get(..length).unwrap_or_default())?,
        };
        left = left.checked_sub(samples.len()).ok_or("the audio of the text is too long")?;
        if !samples.is_empty() && chunks.send(samples).await.is_err() {
            return Ok(());
        }
        if length == 0 {
            return Ok(());
        }
        if wav.is_complete() {
            let last = wav.finish()?;
            // An error means that the text is cancelled.
            let _ = chunks.send(last).await;
            return Ok(());
        }
    }
}

/// Returns a language tag for an argument. A document names the language, so a text that is no tag is not used.
fn tag(language: Option<&str>) -> String {
    let is_tag = |tag: &&str| {
        (2..=LONGEST_TAG).contains(&tag.len())
            && tag.starts_with(|first: char| first.is_ascii_alphabetic())
            && tag.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    language.filter(is_tag).unwrap_or(LANGUAGE).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_cannot_write_an_option_into_the_command_line() {
        for (language, expected) in [
            (Some("de-DE"), "de-DE"),
            (Some("--output=/etc/passwd"), "en-US"),
            (Some("../../x"), "en-US"),
            (Some("e"), "en-US"),
            (None, "en-US"),
        ] {
            assert_eq!(tag(language), expected);
        }
    }
}
