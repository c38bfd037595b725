//! The engines behind the API: recognition, voices, voice activity and the end of a turn. The traits are the seam for tests without
//! models.

use std::path::Path;
use std::sync::Arc;

use crate::load::load;
use crate::recognise::{Models, Recognise};
use crate::turn::{Silero, TurnModel, Vad};
use crate::voice::{self, Options, Voice};

/// The prefixes of the folders of voices.
const VOICES: [&str; 2] = ["piper-", "kokoro"];

/// The engines of this program.
#[derive(Clone)]
pub struct Engines {
    /// Words of audio.
    pub recogniser: Arc<dyn Recognise>,
    /// The voices. The first one is the default.
    pub voices: Vec<Arc<dyn Speak>>,
    /// Voice activity.
    pub activity: Arc<dyn MakeActivity>,
    /// Whether a turn is complete, if a model for this is there.
    pub turns: Option<Arc<TurnModel>>,
}

/// A voice.
pub trait Speak: Send + Sync {
    /// The name, for example `joe`.
    fn name(&self) -> String;

    /// The sampling rate in Hz.
    fn rate(&self) -> u32;

    /// Begins to speak a text.
    ///
    /// # Errors
    /// Says why the text cannot be spoken.
    fn begin(self: Arc<Self>, text: &str, options: &Options) -> Result<Box<Speech>, String>;
}

/// The samples of a text, one sentence after the other. Each is made when it is taken.
pub type Speech = dyn Iterator<Item = Result<Vec<i16>, String>> + Send;

impl Speak for Voice {
    fn name(&self) -> String {
        Self::name(self).to_owned()
    }

    fn rate(&self) -> u32 {
        Self::rate(self)
    }

    fn begin(self: Arc<Self>, text: &str, options: &Options) -> Result<Box<Speech>, String> {
        let speech = voice::Speech::begin(self, text, options).map_err(|error| error.to_string())?;
        Ok(Box::new(speech.map(|samples| samples.map_err(|error| error.to_string()))))
    }
}

/// Makes the voice activity of a stream.
pub trait MakeActivity: Send + Sync {
    /// `rate` is 8,000 or 16,000 Hz.
    fn activity(&self, rate: u32) -> Box<dyn Activity>;
}

/// The voice activity of a stream.
pub trait Activity {
    /// Takes a window of 32 ms, and returns the probability of speech.
    fn probability(&mut self, window: &[i16]) -> f32;
}

impl MakeActivity for Arc<Silero> {
    fn activity(&self, rate: u32) -> Box<dyn Activity> {
        match Vad::new(self, rate) {
            Some(vad) => Box::new(vad),
            None => Energy.activity(rate),
        }
    }
}

impl Activity for Vad {
    fn probability(&mut self, window: &[i16]) -> f32 {
        // Without an answer of the model, the window counts as silence.
        self.push(window).ok().and_then(|probabilities| probabilities.last().copied()).unwrap_or(0.0)
    }
}

/// Voice activity by loudness, for computers without the model.
pub struct Energy;

/// The loudness of the silence so far.
struct Loudness {
    floor: f32,
}

impl MakeActivity for Energy {
    fn activity(&self, _rate: u32) -> Box<dyn Activity> {
        Box::new(Loudness { floor: 100.0 })
    }
}

impl Activity for Loudness {
    fn probability(&mut self, window: &[i16]) -> f32 {
        let squares: f32 = window.iter().map(|sample| f32::from(*sample).powi(2)).sum();
        let level = (squares / window.len().max(1) as f32).sqrt();
        // The floor follows silence quickly, and noise that grows within some seconds.
        self.floor = if level < self.floor { level.max(20.0) } else { (self.floor * 1.01).min(2_000.0) };
        if level > self.floor * 3.0 && level > 150.0 { 1.0 } else { 0.0 }
    }
}

impl Engines {
    /// Loads the models of a folder. The second value has a line for each model that cannot be read; the others work.
    pub fn open(models: &Path) -> (Self, Vec<String>) {
        let (recogniser, mut warnings) = Models::open(models);
        let mut voices: Vec<Arc<dyn Speak>> = Vec::new();
        let mut folders: Vec<_> = std::fs::read_dir(models).into_iter().flatten().flatten().collect();
        folders.sort_by_key(std::fs::DirEntry::file_name);
        for folder in folders {
            let name = folder.file_name();
            if VOICES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                let found = load(&folder.path(), &mut warnings, |folder| {
                    Voice::load_all(folder).map_err(|error| error.to_string())
                });
                voices.extend(found.into_iter().flatten().map(|voice| Arc::new(voice) as Arc<dyn Speak>));
            }
        }
        // The first voice is the default, and joe is cheap.
        voices.sort_by_key(|voice| voice.name() != "joe");
        let activity: Arc<dyn MakeActivity> = match load(&models.join("silero"), &mut warnings, Silero::load) {
            Some(silero) => Arc::new(Arc::new(silero)),
            None => Arc::new(Energy),
        };
        let turns = load(&models.join("smart-turn-v3.2"), &mut warnings, TurnModel::load).map(Arc::new);
        (Self { recogniser: Arc::new(recogniser), voices, activity, turns }, warnings)
    }

    /// Returns the voice of this name. Without a name, the first one.
    pub fn voice(&self, name: &str) -> Option<&Arc<dyn Speak>> {
        if name.is_empty() {
            return self.voices.first();
        }
        self.voices.iter().find(|voice| voice.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_models_are_warnings_with_their_folders() {
        let models = tempfile::tempdir().unwrap();
        let folders = ["kokoro-82m", "piper-a", "silero", "smart-turn-v3.2", "whisper-base", "whisper-tiny.en"];
        for folder in folders {
            std::fs::create_dir(models.path().join(folder)).unwrap();
            std::fs::write(models.path().join(folder).join("silero_vad.onnx"), "no network").unwrap();
        }
        let (engines, mut warnings) = Engines::open(models.path());
        warnings.sort();
        assert_eq!(warnings.len(), folders.len(), "{warnings:?}");
        for (folder, warning) in folders.iter().zip(&warnings) {
            assert!(warning.contains(folder), "{warning}");
        }
        assert!(engines.voices.is_empty() && engines.turns.is_none() && engines.recogniser.names().is_empty());
    }

    #[test]
    fn loud_audio_is_speech_and_constant_noise_is_not_for_long() {
        let mut activity = Energy.activity(8_000);
        let noise = |level: i16| [level, -level].repeat(128);
        assert!((0..10).all(|_| activity.probability(&noise(20)) < 0.5));
        assert!(activity.probability(&noise(3_000)) > 0.5);
        let heard = (0..500).filter(|_| activity.probability(&noise(400)) > 0.5).count();
        assert!((1..300).contains(&heard), "{heard}");
    }
}
