//! The configuration of a voice: `NAME.onnx.json` of Piper.

use std::collections::HashMap;

use serde::Deserialize;

/// The marks of the begin, of the end, and between all phonemes.
const BEGIN: &str = "^";
const END: &str = "$";
const PADDING: &str = "_";

/// The part of the configuration that a voice needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    /// The sampling rate in Hz.
    pub(super) rate: u32,
    /// The language, for example `en-US`.
    pub(super) language: String,
    /// The voice of espeak-ng that gives the phonemes.
    pub(super) espeak_voice: String,
    /// The variation of the sound.
    pub(super) noise: f32,
    /// The factor of the length: 1.0, a larger value is slower.
    pub(super) length: f32,
    /// The variation of the lengths of phonemes.
    pub(super) noise_of_lengths: f32,
    ids: HashMap<char, Vec<i32>>,
    begin: Vec<i32>,
    end: Vec<i32>,
    padding: Vec<i32>,
}

#[derive(Deserialize)]
struct Written {
    audio: Audio,
    espeak: Espeak,
    #[serde(default)]
    inference: Inference,
    #[serde(default)]
    language: Option<Language>,
    #[serde(default)]
    phoneme_type: Option<String>,
    #[serde(default)]
    num_speakers: u32,
    phoneme_id_map: HashMap<String, Vec<i32>>,
}

#[derive(Deserialize)]
struct Audio {
    sample_rate: u32,
}

#[derive(Deserialize)]
struct Espeak {
    voice: String,
}

#[derive(Deserialize, Default)]
struct Inference {
    noise_scale: Option<f32>,
    length_scale: Option<f32>,
    noise_w: Option<f32>,
}

#[derive(Deserialize)]
struct Language {
    code: String,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Says what is wrong with it, or that the voice is of a kind that is not supported.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let written: Written = serde_json::from_str(text).map_err(|error| format!("the configuration: {error}"))?;
        if written.phoneme_type.as_deref().is_some_and(|kind| kind != "espeak") {
            return Err("the voice does not use the phonemes of espeak-ng".to_owned());
        }
        if written.num_speakers > 1 {
            return Err("the voice has several speakers".to_owned());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '_');
        let espeak_voice = written.espeak.voice;
        if espeak_voice.is_empty() || !espeak_voice.chars().all(is_name) {
            return Err("the voice of espeak-ng has no valid name".to_owned());
        }
        if !(8_000..=48_000).contains(&written.audio.sample_rate) {
            return Err(format!("the sampling rate is {} Hz", written.audio.sample_rate));
        }
        let of = |mark: &str| {
            let ids = written.phoneme_id_map.get(mark).cloned();
            ids.ok_or_else(|| format!("the configuration has no phoneme `{mark}`"))
        };
        let (begin, end, padding) = (of(BEGIN)?, of(END)?, of(PADDING)?);
        let single = |text: &str| text.chars().next().filter(|c| c.len_utf8() == text.len());
        let ids = written.phoneme_id_map.iter().filter_map(|(text, ids)| Some((single(text)?, ids.clone()))).collect();
        let language =
            written.language.map_or_else(|| espeak_voice.clone(), |language| language.code.replace('_', "-"));
        Ok(Self {
            rate: written.audio.sample_rate,
            language,
            espeak_voice,
            noise: written.inference.noise_scale.unwrap_or(0.667),
            length: written.inference.length_scale.unwrap_or(1.0),
            noise_of_lengths: written.inference.noise_w.unwrap_or(0.8),
            ids,
            begin,
            end,
            padding,
        })
    }

    /// The numbers of phonemes for the network: the begin, each phoneme with a padding after it, the end. Unknown phonemes are
    /// left out.
    pub(super) fn ids(&self, phonemes: &str) -> Vec<i32> {
        let mut ids = [self.begin.as_slice(), &self.padding].concat();
        for found in phonemes.chars().filter_map(|phoneme| self.ids.get(&phoneme)) {
            ids.extend(found);
            ids.extend(&self.padding);
        }
        ids.extend(&self.end);
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"audio":{"sample_rate":22050},"espeak":{"voice":"en-us"},"inference":{"noise_scale":0.5,"length_scale":1,"noise_w":0.8},
        "phoneme_type":"espeak","num_speakers":1,"language":{"code":"en_US"},"phoneme_id_map":{"_":[0],"^":[1],"$":[2],"a":[14],"ab":[7]}}"#;

    #[test]
    fn phonemes_become_numbers_with_paddings() {
        let config = Config::read(JSON).unwrap();
        assert_eq!(config.ids("axa"), [1, 0, 14, 0, 14, 0, 2]);
        assert_eq!((config.language.as_str(), config.rate, config.noise), ("en-US", 22_050, 0.5));
    }

    #[test]
    fn a_voice_of_another_kind_is_refused() {
        assert!(Config::read("{}").is_err());
        assert!(
            Config::read(&JSON.replace("\"espeak\",\"num", "\"text\",\"num"))
                .unwrap_err()
                .contains("phonemes of espeak-ng")
        );
        assert!(Config::read(&JSON.replace("speakers\":1", "speakers\":9")).unwrap_err().contains("several speakers"));
        assert!(Config::read(&JSON.replace("en-us", "en us; rm")).unwrap_err().contains("valid name"));
        assert!(Config::read(&JSON.replace("\"^\"", "\"x\"")).unwrap_err().contains("`^`"));
    }
}
