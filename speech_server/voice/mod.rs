//! Speech synthesis with the voices of Piper and Kokoro.
//!
//! ```text
//!   text ─► english (numbers, times, addresses ...) ─► clauses ─► espeak (phonemes) ─► network (audio) ─► resample
//! ```
//!
//! The audio of a sentence is ready before the next sentence begins, so the caller hears the first words early.

mod clauses;
mod config;
mod english;
mod espeak;
mod kokoro;
pub(crate) mod network;
mod onnx;
mod piper;

use std::fmt;
use std::ops::{ControlFlow, Deref};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clauses::Clause;
use kokoro::{Kokoro, Speaker};
use piper::Piper;

use crate::resample::Resampler;

/// The longest text of one call, in octets.
pub const LONGEST_TEXT: usize = 16 * 1024;
/// The most phonemes that the network gets at once: about 20 s of speech, and about 100 MB of memory.
const MOST_PHONEMES: usize = 300;
/// If the first sentence is longer, its first clause is spoken alone, so that the speech begins early: about 4 s.
const LONG_FIRST: usize = 60;
/// A first clause shorter than this is not spoken alone: the voice would stop after one word.
const SHORT_FIRST: usize = 20;
/// The loudest sample of a sentence, relative to full scale.
const PEAK: f32 = 0.8;

/// How a text is spoken.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The sampling rate of the audio in Hz, from 8,000 to 48,000. `None` is the rate of the voice.
    pub rate: Option<u32>,
    /// The speed, 1.0 is the voice's own. Values outside of 0.25 to 4.0 count as these.
    pub speed: f32,
    /// The silence between two sentences at the speed 1.0.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { rate: None, speed: 1.0, pause: Duration::from_millis(250) }
    }
}

/// The reason why a text cannot be spoken, or a voice cannot be loaded.
#[derive(Debug)]
pub enum VoiceError {
    /// The folder has no voice, or a broken one.
    Files(String),
    /// The program espeak-ng is missing or failed.
    Espeak(String),
    /// The text is longer than [`LONGEST_TEXT`].
    TooLong(usize),
    /// The network failed.
    Network(String),
}

impl fmt::Display for VoiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(reason) => write!(f, "the voice cannot be loaded: {reason}"),
            Self::Espeak(reason) => write!(f, "no phonemes: {reason}"),
            Self::TooLong(length) => write!(f, "the text has {length} bytes, more than {LONGEST_TEXT}"),
            Self::Network(reason) => write!(f, "the voice failed: {reason}"),
        }
    }
}

impl std::error::Error for VoiceError {}

/// A voice. Several threads can use it at the same time.
pub struct Voice {
    name: String,
    language: String,
    rate: u32,
    /// The voice of espeak-ng that gives the phonemes.
    espeak_voice: String,
    engine: Engine,
}

/// A network that makes audio of phonemes.
enum Engine {
    Piper(Box<Piper>),
    Kokoro(Speaker),
}

impl Voice {
    /// Loads the voice of a folder. Takes some 0.1 s. Of several voices, this is the first by name.
    ///
    /// # Errors
    /// The folder has no voice, or a broken one.
    pub fn load(folder: &Path) -> Result<Self, VoiceError> {
        let none = || VoiceError::Files(format!("{} has no voice", folder.display()));
        Self::load_all(folder)?.into_iter().next().ok_or_else(none)
    }

    /// Loads all voices of a folder: the one of Piper (a file `.onnx` and its configuration `.onnx.json`), or those of Kokoro
    /// (`kokoro.onnx` and `voices/NAME.bin`), which have one network.
    ///
    /// # Errors
    /// The folder has no voices, or broken ones.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>, VoiceError> {
        let voices = if folder.join(kokoro::NETWORK).exists() { load_kokoro(folder) } else { load_piper(folder) };
        voices.map_err(VoiceError::Files)
    }

    /// The name of the speaker, for example `joe`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The language, for example `en-US`.
    pub fn language(&self) -> &str {
        &self.language
    }

    /// The sampling rate of the voice in Hz.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Speaks a text, and calls `audio` with the samples of each sentence as soon as they are ready. The samples have the rate of
    /// `options`. `audio` can stop the speech.
    ///
    /// # Errors
    /// The text is too long, espeak-ng is missing, or the network failed.
    pub fn speak(
        &self,
        text: &str,
        options: &Options,
        mut audio: impl FnMut(&[i16]) -> ControlFlow<()>,
    ) -> Result<(), VoiceError> {
        for samples in Speech::begin(self, text, options)? {
            if audio(&samples?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn is_english(&self) -> bool {
        self.language.split('-').next() == Some("en")
    }

    /// The audio of phonemes, from -1 to 1, at the rate of the voice. `None` if there are no phonemes.
    fn speak_chunk(&self, phonemes: &str, speed: f32) -> Result<Option<Vec<f32>>, VoiceError> {
        let samples = match &self.engine {
            Engine::Piper(piper) => piper.speak(phonemes, speed),
            Engine::Kokoro(speaker) => speaker.speak(phonemes, speed),
        };
        let Some(mut samples) = samples.map_err(VoiceError::Network)? else { return Ok(None) };
        // As Piper does: sentences differ in their level, and each gets the same peak.
        let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        let gain = if peak > 1e-6 && peak.is_finite() { PEAK / peak } else { 0.0 };
        for sample in &mut samples {
            *sample *= gain;
        }
        Ok(Some(samples))
    }
}

/// The speech of a text: the samples of one sentence after the other. Each is made when it is taken. `V` is a [`Voice`] behind a
/// reference or an `Arc`.
pub struct Speech<V> {
    voice: V,
    chunks: std::vec::IntoIter<Chunk>,
    resampler: Option<Resampler>,
    rate: u32,
    speed: f32,
    /// The silence after a sentence, in s.
    pause: f32,
    /// The silence before the next samples, in s.
    silence: f32,
}

impl<V: Deref<Target = Voice>> Speech<V> {
    /// Makes the phonemes of a text.
    ///
    /// # Errors
    /// The text is too long, or espeak-ng is missing.
    pub fn begin(voice: V, text: &str, options: &Options) -> Result<Self, VoiceError> {
        if text.len() > LONGEST_TEXT {
            return Err(VoiceError::TooLong(text.len()));
        }
        let written = if voice.is_english() { english::write_out(text) } else { text.to_owned() };
        let clauses = clauses::split(&written);
        let lines: Vec<&str> = clauses.iter().map(|clause| clause.text.as_str()).collect();
        let phonemes = if lines.is_empty() { Vec::new() } else { espeak::phonemes(&voice.espeak_voice, &lines)? };
        let rate = options.rate.unwrap_or(voice.rate).clamp(8_000, 48_000);
        let speed = if options.speed.is_finite() { options.speed.clamp(0.25, 4.0) } else { 1.0 };
        Ok(Self {
            chunks: chunks(&clauses, &phonemes).into_iter(),
            resampler: Resampler::new(voice.rate, rate),
            rate,
            speed,
            pause: options.pause.as_secs_f32().min(5.0) / speed,
            silence: 0.0,
            voice,
        })
    }

    fn samples(&mut self, chunk: &Chunk) -> Result<Option<Vec<i16>>, VoiceError> {
        let Some(spoken) = self.voice.speak_chunk(&chunk.phonemes, self.speed)? else { return Ok(None) };
        let spoken = match &self.resampler {
            Some(resampler) => resampler.convert(&spoken),
            None => spoken,
        };
        let mut samples = vec![0; (self.silence * self.rate as f32) as usize];
        samples.extend(spoken.iter().map(|sample| (sample * 32_767.0) as i16));
        self.silence = if chunk.ends_sentence { self.pause } else { self.pause / 3.0 };
        Ok(Some(samples))
    }
}

impl<V: Deref<Target = Voice>> Iterator for Speech<V> {
    type Item = Result<Vec<i16>, VoiceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(chunk) = self.chunks.next() {
            if let Some(found) = self.samples(&chunk).transpose() {
                return Some(found);
            }
        }
        None
    }
}

fn load_piper(folder: &Path) -> Result<Vec<Voice>, String> {
    let (piper, name) = Piper::load(folder)?;
    let config = &piper.config;
    let (language, rate, espeak_voice) = (config.language.clone(), config.rate, config.espeak_voice.clone());
    Ok(vec![Voice { name, language, rate, espeak_voice, engine: Engine::Piper(Box::new(piper)) }])
}

fn load_kokoro(folder: &Path) -> Result<Vec<Voice>, String> {
    let network = Arc::new(Kokoro::load(folder)?);
    let styles = folder.join("voices");
    let entries = std::fs::read_dir(&styles).map_err(|error| format!("{}: {error}", styles.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut voices = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some((language, espeak_voice)) = kokoro::language(&name) else { continue };
        let engine = Engine::Kokoro(Speaker::load(&network, &path, language)?);
        let (language, espeak_voice) = (language.to_owned(), espeak_voice.to_owned());
        voices.push(Voice { name, language, rate: kokoro::RATE, espeak_voice, engine });
    }
    Ok(voices)
}

/// The phonemes that the network gets at once.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    phonemes: String,
    ends_sentence: bool,
}

/// Joins clauses to sentences. A sentence that is too long, and a long first one, is split between its clauses.
fn chunks(clauses: &[Clause], phonemes: &[String]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut current = String::new();
    let length = |text: &str| text.chars().count();
    let mut rest_of_sentence: Vec<usize> = Vec::new();
    // The number of phonemes from each clause to the end of its sentence.
    let mut sum = 0;
    for (clause, phonemes) in clauses.iter().zip(phonemes).rev() {
        sum = length(phonemes) + 1 + if clause.ends_sentence() { 0 } else { sum + 1 };
        rest_of_sentence.push(sum);
    }
    rest_of_sentence.reverse();
    let is_early = rest_of_sentence.first().is_some_and(|length| *length > LONG_FIRST);
    for ((clause, phonemes), rest) in clauses.iter().zip(phonemes).zip(&rest_of_sentence) {
        if !current.is_empty() {
            let first = chunks.is_empty() && is_early && length(&current) >= SHORT_FIRST;
            if first
                || length(&current) + length(phonemes) > MOST_PHONEMES
                || (length(&current) + rest > 2 * MOST_PHONEMES)
            {
                chunks
                    .push(Chunk { phonemes: std::mem::take(&mut current).trim_end().to_owned(), ends_sentence: false });
            }
        }
        for part in parts(phonemes) {
            if !current.is_empty() && length(&current) + length(&part) > MOST_PHONEMES {
                chunks.push(Chunk { phonemes: std::mem::take(&mut current), ends_sentence: false });
            }
            current += &part;
        }
        current.push(clause.mark);
        if clause.ends_sentence() {
            chunks.push(Chunk { phonemes: std::mem::take(&mut current), ends_sentence: true });
        } else {
            current.push(' ');
        }
    }
    chunks
}

/// The phonemes of one clause in parts of at most [`MOST_PHONEMES`], split at a space if there is one.
fn parts(phonemes: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut count = 0;
    for c in phonemes.chars() {
        if count >= MOST_PHONEMES || (c == ' ' && count >= MOST_PHONEMES * 4 / 5) {
            parts.push(String::new());
            count = 0;
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
        count += 1;
    }
    parts
}

#[cfg(test)]
mod tests;
