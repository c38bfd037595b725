//! One Whisper model in memory.

use std::path::Path;

use serde::Deserialize;

use super::ct2::{ModelError, Tensors};
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::kernel::Products;
use super::mel::{HOP, LogMel, RATE};
use super::search::{self, Query, Rules, search};
use super::tokens::Vocabulary;
use super::{Options, Transcript};

/// The length of audio for which Whisper is made, in seconds. Longer audio is cut.
pub(super) const WINDOW: usize = 30;
/// Positions of the encoder above those of the audio. With fewer, Whisper does not see the end of the words and goes on.
const SPARE: usize = 192;
/// The same where the caller is expected to say a number. With fewer, Whisper writes a number twice, or some of its digits: of 60
/// four-digit numbers of six human voices, 40 were right with 192, and 46 with 448 and with all 1,500.
const SPARE_FOR_DIGITS: usize = 448;
/// The hints that are used, in octets: the last ones. Whisper takes 223 tokens of them, which have fewer octets. The time for the
/// tokens grows with the square of the length of a word.
const MAX_HINTS: usize = 2_048;
/// A result below this logarithm of a probability is noise.
const MIN_LOG_PROBABILITY: f32 = -1.0;
/// Above this probability of "no speech", a result needs [`MIN_LOG_PROBABILITY_OF_SPEECH`].
const NO_SPEECH: f32 = 0.6;
const MIN_LOG_PROBABILITY_OF_SPEECH: f32 = -0.6;

/// A model: Whisper tiny.en, base, or another one of this kind.
pub(super) struct Whisper {
    mel: LogMel,
    encoder: Encoder,
    decoder: Decoder,
    vocabulary: Vocabulary,
    rules: Rules,
}

/// The part of `config.json` that is used.
#[derive(Deserialize)]
struct Config {
    suppress_ids: Vec<u32>,
    suppress_ids_begin: Vec<u32>,
}

impl Config {
    fn open(path: &Path) -> Result<Self, ModelError> {
        serde_json::from_slice(&std::fs::read(path)?).map_err(|error| ModelError::Format(error.to_string()))
    }
}

impl Whisper {
    /// Reads `model.bin`, `vocabulary.txt` and `config.json`.
    pub(super) fn open(folder: &Path) -> Result<Self, ModelError> {
        let products = Products::default();
        let in_file = |name: &'static str| move |error: ModelError| ModelError::Format(format!("{name}: {error}"));
        let vocabulary = Vocabulary::open(&folder.join("vocabulary.txt")).map_err(in_file("vocabulary.txt"))?;
        let config = Config::open(&folder.join("config.json")).map_err(in_file("config.json"))?;
        let of_networks = in_file("model.bin");
        let mut tensors = Tensors::open(&folder.join("model.bin")).map_err(of_networks)?;
        let encoder = Encoder::take(&products, &mut tensors).map_err(of_networks)?;
        let decoder = Decoder::take(&products, &mut tensors, encoder.width).map_err(of_networks)?;
        if vocabulary.len() < decoder.vocabulary() {
            let what = format!("vocabulary.txt has {} tokens, the model {}", vocabulary.len(), decoder.vocabulary());
            return Err(ModelError::Format(what));
        }
        let rules = Rules::new(&vocabulary, &config.suppress_ids, &config.suppress_ids_begin);
        Ok(Self { mel: LogMel::new(), encoder, decoder, vocabulary, rules })
    }

    /// The codes of the languages. Models for English only have `en`.
    pub(super) fn languages(&self) -> Vec<String> {
        if self.vocabulary.languages.is_empty() {
            return vec!["en".to_owned()];
        }
        self.vocabulary.languages.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Recognises at most 30 s of audio at 16 kHz. The rest of longer audio is not used.
    pub(super) fn recognise(&self, audio: &[f32], options: &Options) -> Transcript {
        // The value cannot go to another thread. To make it is cheap: it is the choice of the instructions.
        let products = &Products::default();
        let audio = audio.get(..WINDOW * RATE).unwrap_or(audio);
        let spare = if options.digits { SPARE_FOR_DIGITS } else { SPARE };
        let positions = (audio.len().div_ceil(2 * HOP) + spare).min(self.encoder.max_positions());
        let features = self.mel.whisper(audio, 2 * positions);
        let encoded = self.encoder.encode(products, &features);
        let token = |language: &str| {
            self.vocabulary.languages.iter().find(|(name, _)| name == language).map(|(_, token)| *token)
        };
        let mut memory = self.decoder.begin(products, &encoded);
        let mut language = options.language.as_deref().and_then(token);
        if language.is_none() && !self.vocabulary.languages.is_empty() {
            let found = search::language(products, &self.decoder, &self.vocabulary, &mut memory);
            language = found.map(|(token, _)| token);
            memory.forget_tokens();
        }
        let hints = if options.hints.is_empty() {
            Vec::new()
        } else {
            let text = format!(" {}.", options.hints.join(", "));
            let from = text.ceil_char_boundary(text.len().saturating_sub(MAX_HINTS));
            self.vocabulary.tokens_of(text.get(from..).unwrap_or_default())
        };
        let seconds = audio.len() as f32 / RATE as f32;
        let query = Query { language, hints, digits: options.digits, seconds };
        let found = search(products, &self.decoder, &self.vocabulary, &self.rules, &mut memory, &query);
        let is_noise = found.log_probability < MIN_LOG_PROBABILITY
            || found.no_speech > NO_SPEECH && found.log_probability < MIN_LOG_PROBABILITY_OF_SPEECH;
        let name =
            |token: u32| self.vocabulary.languages.iter().find(|(_, id)| *id == token).map(|(name, _)| name.clone());
        Transcript {
            text: if is_noise { String::new() } else { self.vocabulary.text(&found.tokens).trim().to_owned() },
            confidence: if is_noise { 0.0 } else { found.log_probability.exp().min(1.0) },
            language: language.and_then(name).unwrap_or_else(|| "en".to_owned()),
            no_speech: found.no_speech,
        }
    }
}
