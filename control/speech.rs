//! Text to speech: words in, samples out. Engines stay behind [`Voice`].
//!
//! ```text
//!   Speech ──► voices (which of the engine's) ──► memory ──► disk ──► espeak-ng ──► 8 kHz samples
//! ```
//!
//! The engine is a program of its own, never a library: it is GPL-licensed, keeps global state and is given strangers'
//! text. That text goes in by standard input; its command line holds only words of ours.

mod disk;
mod voices;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use sha2::{Digest, Sha256};
use tandem_call::program::instruction::Speech;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{OnceCell, Semaphore};

use crate::config::{SpeechConfig, Tts};
use disk::Disk;

/// The engine's program.
const PROGRAM: &str = "espeak-ng";
/// Longest text, octets; providers stop at 3,000 to 4,096 characters.
const LONGEST_TEXT: usize = 16 * 1024;
/// Most audio one text may give, octets of 22,050 Hz WAV: some 20 minutes.
const LARGEST_AUDIO: u64 = 56 * 1024 * 1024;
/// Time for one text, waiting for its turn included.
const TIME: Duration = Duration::from_secs(10);
/// Texts that wait for their turn; more get [`SpeechError::Busy`].
const WAITING: usize = 256;
/// Audio kept in memory, octets; the least used goes first.
const MEMORY: u64 = 64 * 1024 * 1024;
/// Audio kept on disk, octets; the oldest goes first.
const DISK: u64 = 256 * 1024 * 1024;
/// Part of every cache key: another number when the same words would sound different.
const EDITION: u8 = 1;

/// Speaks. Shared by all calls; made once.
pub struct Voice {
    tts: Tts,
    /// What the engine can speak, asked once.
    voices: OnceCell<HashSet<String>>,
    cache: Cache<[u8; 32], Arc<[i16]>>,
    disk: Disk,
    running: Semaphore,
    waiting: Semaphore,
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
    /// Not done in time (`TIME`).
    #[error("not spoken within {} s", TIME.as_secs())]
    Timeout,
    /// The engine failed.
    #[error("{PROGRAM}: {0}")]
    Failed(String),
}

/// Whether the configured engine is missing on this machine, and what to do about it.
pub fn missing(config: &SpeechConfig) -> Option<SpeechError> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let there = || std::env::split_paths(&directories).any(|directory| directory.join(PROGRAM).is_file());
    (config.tts == Tts::Espeak && !there()).then_some(SpeechError::NoEngine)
}

impl Voice {
    /// Starts nothing yet. `cache_dir` is made when there is something to keep; without it, or when it cannot be
    /// written, everything still works, only slower.
    pub fn new(config: SpeechConfig, cache_dir: impl Into<PathBuf>) -> Self {
        let weigh = |_: &[u8; 32], samples: &Arc<[i16]>| u32::try_from(samples.len() * 2 + 64).unwrap_or(u32::MAX);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            tts: config.tts,
            voices: OnceCell::new(),
            cache: Cache::builder().max_capacity(MEMORY).weigher(weigh).build(),
            disk: Disk::new(cache_dir.into(), DISK),
            running: Semaphore::new(cores.max(2)),
            waiting: Semaphore::new(WAITING),
        }
    }

    /// The words as samples at 8,000 Hz, one channel. The same words in the same voice are spoken once.
    pub async fn speak(&self, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        if self.tts == Tts::Off {
            return Err(SpeechError::Off);
        }
        if speech.text.len() > LONGEST_TEXT {
            return Err(SpeechError::TooLong(speech.text.len()));
        }
        if speech.text.trim().is_empty() {
            return Ok(Arc::default());
        }
        let known = self.voices.get_or_try_init(list_voices).await?;
        let voice = voices::choose(speech.voice.as_deref(), speech.language.as_deref(), known);
        let key = key(&voice, speech);
        let make = async {
            if let Some(samples) = self.disk.read(&key).await {
                return Ok(samples);
            }
            let samples = self.synthesise(&voice, speech).await?;
            self.disk.write(&key, &samples).await;
            Ok(samples)
        };
        self.cache.try_get_with(key, make).await.map_err(|error: Arc<SpeechError>| (*error).clone())
    }

    async fn synthesise(&self, voice: &str, speech: &Speech) -> Result<Arc<[i16]>, SpeechError> {
        let _place = self.waiting.try_acquire().map_err(|_| SpeechError::Busy)?;
        let work = async {
            let _turn = self.running.acquire().await.map_err(|_| SpeechError::Busy)?;
            run(voice, speech).await
        };
        let wav = tokio::time::timeout(TIME, work).await.map_err(|_| SpeechError::Timeout)??;
        let failed = |error: &dyn std::fmt::Display| SpeechError::Failed(error.to_string());
        let audio = tokio::task::spawn_blocking(move || tandem_media::read_wav(&wav)).await;
        Ok(audio.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?.samples().into())
    }
}

fn key(voice: &str, speech: &Speech) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([EDITION, u8::from(speech.ssml)]);
    hash.update(voice);
    hash.update([0]);
    hash.update(&speech.text);
    hash.finalize().into()
}

/// One run of the engine: text in, a WAV file out. The engine dies with this future.
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
        // An engine that ends early says why itself.
        drop(stdin.write_all(text.as_bytes()).await);
        drop(stdin.shutdown().await);
    };
    let mut wav = Vec::new();
    let mut complaint = Vec::new();
    let (mut stdout, mut stderr) = (stdout.take(LARGEST_AUDIO), stderr.take(4_096));
    let (_, read, _) = tokio::join!(feed, stdout.read_to_end(&mut wav), stderr.read_to_end(&mut complaint));
    read.map_err(|error| SpeechError::Failed(error.to_string()))?;
    if stdout.limit() == 0 {
        return Err(SpeechError::Failed("more audio than one text may give".to_owned()));
    }
    let status = child.wait().await.map_err(|error| SpeechError::Failed(error.to_string()))?;
    ended(status, &complaint)?;
    Ok(wav)
}

/// The names that `-v` takes: languages, in lower case.
async fn list_voices() -> Result<HashSet<String>, SpeechError> {
    let list = Command::new(PROGRAM).arg("--voices").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(TIME, list).await.map_err(|_| SpeechError::Timeout)?.map_err(cannot_start)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(text: &str) -> Speech {
        Speech { text: text.to_owned(), ssml: false, voice: None, language: None }
    }

    fn voice(directory: &tempfile::TempDir) -> Option<Voice> {
        if std::process::Command::new(PROGRAM).arg("--version").output().is_err() {
            println!("skipped: no {PROGRAM}");
            return None;
        }
        Some(Voice::new(SpeechConfig::default(), directory.path().join("speech")))
    }

    fn loudness(samples: &[i16]) -> f64 {
        let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (energy / samples.len().max(1) as f64).sqrt()
    }

    #[tokio::test]
    async fn a_sentence_is_heard_and_the_second_time_comes_from_the_cache() {
        let directory = tempfile::tempdir().unwrap();
        let Some(first) = voice(&directory) else { return };
        let sentence = speech("Please enter your account number, followed by the pound sign.");
        let samples = first.speak(&sentence).await.unwrap();
        assert!((16_000..56_000).contains(&samples.len()), "{} samples", samples.len());
        assert!(loudness(&samples) > 500.0, "{}", loudness(&samples));
        assert!(Arc::ptr_eq(&samples, &first.speak(&sentence).await.unwrap()));
        assert_eq!(std::fs::read_dir(directory.path().join("speech")).unwrap().count(), 1);
        let second = voice(&directory).unwrap();
        assert_eq!(samples, second.speak(&sentence).await.unwrap());
    }

    #[tokio::test]
    async fn text_is_never_an_option_or_markup_unless_it_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let Some(voice) = voice(&directory) else { return };
        for text in ["-w /tmp/x hello", "--help", "a < b & c", "<speak", "\u{0}\u{1b}hi", "$(reboot)"] {
            assert!(!voice.speak(&speech(text)).await.unwrap().is_empty(), "{text}");
        }
        let plain = voice.speak(&speech("<speak>one<break time=\"2s\"/>two</speak>")).await.unwrap();
        let markup = Speech { ssml: true, ..speech("<speak>one<break time=\"2s\"/>two</speak>") };
        let markup = voice.speak(&markup).await.unwrap();
        assert_ne!(plain, markup);
        assert!(markup.len() > 16_000, "the break lasts 2 s: {}", markup.len());
        assert!(voice.speak(&speech(" \n")).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn languages_and_genders_sound_different_and_unknown_ones_still_speak() {
        let directory = tempfile::tempdir().unwrap();
        let Some(voice) = voice(&directory) else { return };
        let say = |name: Option<&str>, language: Option<&str>| Speech {
            voice: name.map(str::to_owned),
            language: language.map(str::to_owned),
            ..speech("Guten Tag, 25")
        };
        let man = voice.speak(&say(Some("man"), None)).await.unwrap();
        let woman = voice.speak(&say(Some("woman"), None)).await.unwrap();
        let german = voice.speak(&say(Some("Polly.Hans"), None)).await.unwrap();
        let unknown = voice.speak(&say(Some("Nobody.Knows-Me"), Some("xx-XX"))).await.unwrap();
        assert_ne!(man, woman);
        assert_ne!(man, german);
        assert!(!unknown.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_spoken_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let off = SpeechConfig { tts: Tts::Off, ..SpeechConfig::default() };
        let off = Voice::new(off, directory.path());
        assert!(matches!(off.speak(&speech("a")).await, Err(SpeechError::Off)));
        let on = Voice::new(SpeechConfig::default(), directory.path());
        assert!(matches!(on.speak(&speech(&"a".repeat(LONGEST_TEXT + 1))).await, Err(SpeechError::TooLong(_))));
        assert!(SpeechError::NoEngine.to_string().contains("apt install espeak-ng"));
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_costs_only_time() {
        let directory = tempfile::tempdir().unwrap();
        let Some(_) = voice(&directory) else { return };
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let voice = Voice::new(SpeechConfig::default(), file.join("below"));
        assert!(!voice.speak(&speech("hello")).await.unwrap().is_empty());
    }
}
