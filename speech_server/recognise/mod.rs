//! Speech recognition with Whisper: audio in, words out.
//!
//! ```text
//!   audio ─► resample ─► mel (features) ─► encoder ─► decoder + search (tokens) ─► tokens (text) ─► digits
//!                                             └────────── kernel (products of matrices) ──────────┘
//! ```

pub mod ct2;
mod decoder;
mod digits;
mod encoder;
mod kernel;
pub mod mel;
mod search;
pub mod tokens;
pub mod wav;
mod whisper;

use std::path::Path;

use self::mel::RATE;
use self::whisper::{WINDOW, Whisper};
use crate::load::load;
use crate::resample::Resampler;

/// The folder of the model for English.
pub const ENGLISH: &str = "whisper-tiny.en";
/// The folder of the model for all languages.
pub const ALL_LANGUAGES: &str = "whisper-base";

/// How to recognise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// A language (`en`, `de-DE`). Without it, the model for all languages finds the language, and the model for English takes
    /// English.
    pub language: Option<String>,
    /// Words that are likely: names, products.
    pub hints: Vec<String>,
    /// Whether numbers are expected. Spelled digits then become digits: `four two` becomes `42`.
    pub digits: bool,
}

/// The words of some audio.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    /// The words. Empty if there was no speech.
    pub text: String,
    /// How sure the model is, 0.0 to 1.0.
    pub confidence: f32,
    /// The language, as a code of ISO 639-1.
    pub language: String,
    /// The probability that the audio has no speech, 0.0 to 1.0.
    pub no_speech: f32,
}

/// The reason why nothing was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecogniseError {
    /// No model for this language is on this computer.
    NoModel(String),
}

impl std::fmt::Display for RecogniseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoModel(language) => {
                write!(
                    f,
                    "no model for the language {language:?} is installed; `tandem-speech install {language}` fetches it"
                )
            }
        }
    }
}

impl std::error::Error for RecogniseError {}

/// A recogniser. Tests have one without models.
pub trait Recognise: Send + Sync {
    /// The codes of the languages.
    fn languages(&self) -> Vec<String>;

    /// The names of the models.
    fn names(&self) -> Vec<String>;

    /// Whether a language can be recognised.
    ///
    /// # Errors
    /// [`RecogniseError::NoModel`] if no model has the language.
    fn can(&self, language: Option<&str>) -> Result<(), RecogniseError>;

    /// Recognises audio at 16 kHz. The call takes CPU time on the caller's thread: about 0.1 s for a second of audio.
    ///
    /// # Errors
    /// [`RecogniseError::NoModel`] if no model has the language.
    fn recognise(&self, audio: &[f32], options: &Options) -> Result<Transcript, RecogniseError>;
}

/// The models of a folder.
#[derive(Default)]
pub struct Models {
    english: Option<Whisper>,
    all: Option<Whisper>,
}

impl Models {
    /// Reads the models that are in the folder. This takes about 0.1 s for each model. The second value has a line for each model
    /// that is there and cannot be read.
    pub fn open(folder: &Path) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let mut open = |name: &str| {
            load(&folder.join(name), &mut warnings, |folder| Whisper::open(folder).map_err(|error| error.to_string()))
        };
        (Self { english: open(ENGLISH), all: open(ALL_LANGUAGES) }, warnings)
    }

    /// Whether there is no model.
    pub fn is_empty(&self) -> bool {
        self.english.is_none() && self.all.is_none()
    }

    fn find(&self, language: Option<&str>) -> Result<&Whisper, RecogniseError> {
        let code = language.and_then(short_code);
        let found = match code.as_deref() {
            Some("en") => self.english.as_ref().or(self.all.as_ref()),
            Some(language) => self.all.as_ref().filter(|model| model.languages().iter().any(|known| known == language)),
            None => self.all.as_ref().or(self.english.as_ref()),
        };
        found.ok_or_else(|| RecogniseError::NoModel(code.unwrap_or_else(|| "en".to_owned())))
    }
}

impl Recognise for Models {
    fn languages(&self) -> Vec<String> {
        self.all.as_ref().or(self.english.as_ref()).map(Whisper::languages).unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        let of = |model: &Option<Whisper>, name: &str| model.is_some().then(|| name.to_owned());
        [of(&self.english, ENGLISH), of(&self.all, ALL_LANGUAGES)].into_iter().flatten().collect()
    }

    fn can(&self, language: Option<&str>) -> Result<(), RecogniseError> {
        self.find(language).map(drop)
    }

    fn recognise(&self, audio: &[f32], options: &Options) -> Result<Transcript, RecogniseError> {
        let model = self.find(options.language.as_deref())?;
        let language = options.language.as_deref().and_then(short_code);
        let mut options = Options { language, ..options.clone() };
        let mut whole = Transcript::default();
        let mut parts = 0.0;
        for window in windows(audio, RATE) {
            let mut part = model.recognise(window, &options);
            if options.digits {
                part.text = digits::written(&part.text, part.language == "en");
            }
            if options.language.is_none() && !part.text.is_empty() {
                // The language of the first words is the language of the rest.
                options.language = Some(part.language.clone());
            }
            whole.add(part, &mut parts);
        }
        Ok(whole)
    }
}

impl Transcript {
    /// Appends the words of the next window. `parts` counts the windows with words.
    pub(crate) fn add(&mut self, part: Self, parts: &mut f32) {
        let has_words = !part.text.is_empty();
        if self.text.is_empty() {
            *self = part;
        } else if has_words {
            self.text.push(' ');
            self.text.push_str(&part.text);
            self.confidence = (self.confidence * *parts + part.confidence) / (*parts + 1.0);
            self.no_speech = self.no_speech.min(part.no_speech);
        }
        if has_words {
            *parts += 1.0;
        }
    }
}

/// `de-DE` is the language `de`. `multi` and an empty code stand for no language.
fn short_code(language: &str) -> Option<String> {
    let code = language.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    (!code.is_empty() && code != "multi" && code != "auto").then_some(code)
}

/// Cuts audio into windows of at most 30 s, at the quietest place in the last third of each. `rate` is in Hz.
pub fn windows<T: Copy + Into<f32>>(audio: &[T], rate: usize) -> Vec<&[T]> {
    let (step, longest) = (rate / 20, WINDOW * rate);
    let mut rest = audio;
    let mut windows = Vec::new();
    while rest.len() > longest {
        let from = longest * 2 / 3;
        let places = rest.get(from..longest).unwrap_or_default().chunks_exact(step.max(1)).enumerate();
        let loudness = |piece: &[T]| piece.iter().map(|sample| Into::<f32>::into(*sample).powi(2)).sum::<f32>();
        let quietest = places.min_by(|(_, one), (_, other)| loudness(one).total_cmp(&loudness(other)));
        let cut = from + quietest.map_or(0, |(index, _)| index * step + step / 2);
        let (window, after) = rest.split_at(cut);
        windows.push(window);
        rest = after;
    }
    // Shorter audio has no words.
    if rest.len() >= rate / 10 {
        windows.push(rest);
    }
    windows
}

/// Converts samples of `rate` Hz to 16 kHz, in the range -1.0 to 1.0. A rate below 1,000 Hz or above 192,000 Hz gives no samples.
pub fn to_16_khz(samples: &[i16], rate: u32) -> Vec<f32> {
    if !(1_000..=192_000).contains(&rate) {
        return Vec::new();
    }
    let scaled: Vec<f32> = samples.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    match Resampler::new(rate, RATE as u32) {
        Some(resampler) => resampler.convert(&scaled),
        None => scaled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_audio_is_cut_where_it_is_quiet() {
        let mut audio = vec![0.5_f32; 70 * RATE];
        audio[25 * RATE..25 * RATE + RATE / 2].fill(0.0);
        let windows = windows(&audio, RATE);
        assert_eq!(windows.iter().map(|window| window.len()).sum::<usize>(), audio.len());
        assert!(windows.iter().all(|window| window.len() <= WINDOW * RATE));
        assert!((25 * RATE..26 * RATE).contains(&windows[0].len()), "{}", windows[0].len());
    }

    #[test]
    fn very_short_audio_has_no_window() {
        assert!(windows(&[0.0_f32; 100], RATE).is_empty() && windows::<f32>(&[], RATE).is_empty());
        assert_eq!(windows(&[0_i16; 800], 8_000).len(), 1);
    }

    #[test]
    fn odd_rates_and_no_samples_are_no_error() {
        for (samples, rate) in [(&[][..], 8_000), (&[1, 2], 0), (&[1], u32::MAX)] {
            assert!(to_16_khz(samples, rate).is_empty(), "{rate}");
        }
        for rate in [8_000, 11_025, 16_000, 47_999] {
            assert_eq!(to_16_khz(&vec![1; rate as usize], rate).len(), RATE, "{rate}");
        }
    }

    #[test]
    fn the_confidence_is_the_mean_of_the_windows_with_words() {
        let part = |text: &str, confidence| Transcript { text: text.to_owned(), confidence, ..Transcript::default() };
        let mut whole = Transcript::default();
        let mut parts = 0.0;
        for part in [part("", 0.0), part("one", 0.5), part("", 0.0), part("two", 0.9)] {
            whole.add(part, &mut parts);
        }
        assert_eq!(whole.text, "one two");
        assert!((whole.confidence - 0.7).abs() < 1e-6, "{}", whole.confidence);
    }

    #[test]
    fn the_region_of_a_language_does_not_matter() {
        assert_eq!(short_code("de-DE").as_deref(), Some("de"));
        assert_eq!(short_code("EN_us").as_deref(), Some("en"));
        assert_eq!((short_code("multi"), short_code("")), (None, None));
    }

    #[test]
    fn without_models_the_error_says_what_to_do() {
        let error = Models::default().recognise(&[0.0; 16_000], &Options::default()).unwrap_err();
        assert!(error.to_string().contains("tandem-speech install en"), "{error}");
    }
}
