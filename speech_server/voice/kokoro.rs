//! The voices of Kokoro: one network, and a style for each speaker.

use std::path::Path;
use std::sync::Arc;

use rten::NodeId;
use rten_tensor::NdTensor;

use super::network::Network;
use super::onnx;

/// The sampling rate of all voices in Hz.
pub(super) const RATE: u32 = 24_000;
/// The file of the network. A folder with this file is one of Kokoro.
pub(super) const NETWORK: &str = "kokoro.onnx";
/// A style has 256 numbers for each number of phonemes.
const STYLE: usize = 256;
/// The number at the begin and at the end of the phonemes.
const EDGE: i32 = 0;
/// The network adds silence before and after the speech. So much of it stays, in samples (40 ms and 80 ms).
const BEFORE: usize = RATE as usize / 25;
const AFTER: usize = RATE as usize / 12;
/// The samples at both ends that are left out. The network divides by the sum of windows, which is nearly 0 there, so one sample can
/// be far too loud.
const ENDS: usize = 32;
/// A sample below this part of the loudest one is silence.
const SILENCE: f32 = 0.02;

/// The languages by the first letter of a voice: the language, and the voice of espeak-ng that gives the phonemes. Japanese and
/// Chinese need phonemes that espeak-ng does not give.
const LANGUAGES: &[(char, &str, &str)] = &[
    ('a', "en-US", "en-us"),
    ('b', "en-GB", "en-gb"),
    ('e', "es-ES", "es"),
    ('f', "fr-FR", "fr-fr"),
    ('h', "hi-IN", "hi"),
    ('i', "it-IT", "it"),
    ('p', "pt-BR", "pt-br"),
];

/// Phonemes that espeak-ng writes with two signs, and Kokoro with one.
const OF_ALL: &[(&str, &str)] = &[("dʒ", "ʤ"), ("tʃ", "ʧ"), ("dz", "ʣ"), ("ts", "ʦ")];
const OF_ENGLISH: &[(&str, &str)] = &[
    ("aɪ", "I"),
    ("aʊ", "W"),
    ("eɪ", "A"),
    ("ɔɪ", "Y"),
    ("əl", "ᵊl"),
    ("oʊ", "O"),
    ("əʊ", "Q"),
    ("ɚɹ", "əɹ"),
    ("ɚ", "əɹ"),
    ("r", "ɹ"),
    ("x", "k"),
    ("ç", "k"),
    ("ɐ", "ə"),
    ("ɬ", "l"),
    ("ʲ", ""),
];
const OF_AMERICAN: &[(&str, &str)] = &[("oːɹ", "ɔɹ"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""), ("ɾ", "T")];

/// The network, for all voices.
pub(super) struct Kokoro {
    network: Network,
    inputs: [NodeId; 3],
    output: NodeId,
}

impl Kokoro {
    /// Loads the network of a folder. Takes about 0.3 s.
    pub(super) fn load(folder: &Path) -> Result<Self, String> {
        let path = folder.join(NETWORK);
        let model = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let model = onnx::without_fused_products(&model).ok_or_else(|| format!("{} is broken", path.display()))?;
        let network = Network::read(model).map_err(|error| format!("{}: {error}", path.display()))?;
        let inputs = [network.node("tokens")?, network.node("style")?, network.node("speed")?];
        let output = network.node("audio")?;
        Ok(Self { network, inputs, output })
    }
}

/// The voice of one speaker.
pub(super) struct Speaker {
    kokoro: Arc<Kokoro>,
    styles: Vec<f32>,
    is_english: bool,
    is_american: bool,
}

/// The language and the voice of espeak-ng for the name of a voice (`ef_dora`). `None` if its language is not supported.
pub(super) fn language(name: &str) -> Option<(&'static str, &'static str)> {
    let letter = name.chars().next()?;
    let found = LANGUAGES.iter().find(|(of_language, _, _)| *of_language == letter)?;
    Some((found.1, found.2))
}

impl Speaker {
    /// Reads the style of a speaker.
    pub(super) fn load(kokoro: &Arc<Kokoro>, path: &Path, language: &str) -> Result<Self, String> {
        let octets = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let styles: Vec<f32> =
            octets.chunks_exact(4).filter_map(|octets| Some(f32::from_le_bytes(octets.try_into().ok()?))).collect();
        if styles.is_empty() || !styles.len().is_multiple_of(STYLE) {
            return Err(format!("{} is no style of a voice", path.display()));
        }
        let is_english = language.starts_with("en");
        Ok(Self { kokoro: Arc::clone(kokoro), styles, is_english, is_american: language == "en-US" })
    }

    /// The audio of phonemes at the speed, from -1 to 1. `None` if there are no phonemes.
    pub(super) fn speak(&self, phonemes: &str, speed: f32) -> Result<Option<Vec<f32>>, String> {
        let ids = ids(&self.written(phonemes));
        if !phonemes.chars().any(char::is_alphabetic) || ids.is_empty() {
            return Ok(None);
        }
        let count = self.styles.len() / STYLE;
        let at = (ids.len() - 1).min(count - 1) * STYLE;
        let style = self.styles.get(at..at + STYLE).unwrap_or_default().to_vec();
        let ids = [&[EDGE], ids.as_slice(), &[EDGE]].concat();
        let [tokens, of_style, of_speed] = self.kokoro.inputs;
        let inputs = vec![
            (tokens, NdTensor::from_data([1, ids.len()], ids).into()),
            (of_style, NdTensor::from_data([1, STYLE], style).into()),
            (of_speed, NdTensor::from_data([1], vec![speed]).into()),
        ];
        let [audio] = self.kokoro.network.run(inputs, [self.kokoro.output])?;
        let audio = audio.into_tensor::<f32>().ok_or("the network gave no audio")?.into_data();
        Ok(Some(trim(&audio).to_vec()))
    }

    /// The phonemes in the signs of Kokoro.
    fn written(&self, phonemes: &str) -> String {
        let mut written = phonemes.to_owned();
        let tables: &[&[(&str, &str)]] = match (self.is_english, self.is_american) {
            (true, true) => &[OF_ALL, OF_ENGLISH, OF_AMERICAN],
            (true, false) => &[OF_ALL, OF_ENGLISH],
            _ => &[OF_ALL],
        };
        for (from, to) in tables.iter().copied().flatten() {
            written = written.replace(from, to);
        }
        written
    }
}

/// The numbers of phonemes. Unknown signs are left out.
fn ids(phonemes: &str) -> Vec<i32> {
    let id = |sign: char| VOCABULARY.iter().find(|(known, _)| *known == sign).map(|(_, id)| *id);
    phonemes.chars().filter_map(id).collect()
}

/// The speech without most of the silence around it.
fn trim(audio: &[f32]) -> &[f32] {
    let audio = audio.get(ENDS..audio.len().saturating_sub(ENDS)).unwrap_or_default();
    let peak = audio.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
    let is_loud = |sample: &f32| sample.abs() > SILENCE * peak;
    let (Some(begin), Some(end)) = (audio.iter().position(is_loud), audio.iter().rposition(is_loud)) else {
        return &[];
    };
    audio.get(begin.saturating_sub(BEFORE)..(end + AFTER).min(audio.len())).unwrap_or_default()
}

/// The signs that the network knows, and their numbers.
#[rustfmt::skip]
const VOCABULARY: &[(char, i32)] = &[
    (';', 1), (':', 2), (',', 3), ('.', 4), ('!', 5), ('?', 6), ('—', 9), ('…', 10), ('"', 11), ('(', 12),
    (')', 13), ('“', 14), ('”', 15), (' ', 16), ('\u{303}', 17), ('ʣ', 18), ('ʥ', 19), ('ʦ', 20), ('ʨ', 21),
    ('ᵝ', 22), ('ꭧ', 23), ('A', 24), ('I', 25), ('O', 31), ('Q', 33), ('S', 35), ('T', 36), ('W', 39),
    ('Y', 41), ('ᵊ', 42), ('a', 43), ('b', 44), ('c', 45), ('d', 46), ('e', 47), ('f', 48), ('h', 50),
    ('i', 51), ('j', 52), ('k', 53), ('l', 54), ('m', 55), ('n', 56), ('o', 57), ('p', 58), ('q', 59),
    ('r', 60), ('s', 61), ('t', 62), ('u', 63), ('v', 64), ('w', 65), ('x', 66), ('y', 67), ('z', 68),
    ('ɑ', 69), ('ɐ', 70), ('ɒ', 71), ('æ', 72), ('β', 75), ('ɔ', 76), ('ɕ', 77), ('ç', 78), ('ɖ', 80),
    ('ð', 81), ('ʤ', 82), ('ə', 83), ('ɚ', 85), ('ɛ', 86), ('ɜ', 87), ('ɟ', 90), ('ɡ', 92), ('ɥ', 99),
    ('ɨ', 101), ('ɪ', 102), ('ʝ', 103), ('ɯ', 110), ('ɰ', 111), ('ŋ', 112), ('ɳ', 113), ('ɲ', 114), ('ɴ', 115),
    ('ø', 116), ('ɸ', 118), ('θ', 119), ('œ', 120), ('ɹ', 123), ('ɾ', 125), ('ɻ', 126), ('ʁ', 128), ('ɽ', 129),
    ('ʂ', 130), ('ʃ', 131), ('ʈ', 132), ('ʧ', 133), ('ʊ', 135), ('ʋ', 136), ('ʌ', 138), ('ɣ', 139), ('ɤ', 140),
    ('χ', 142), ('ʎ', 143), ('ʒ', 147), ('ʔ', 148), ('ˈ', 156), ('ˌ', 157), ('ː', 158), ('ʰ', 162), ('ʲ', 164),
    ('↓', 169), ('→', 171), ('↗', 172), ('↘', 173), ('ᵻ', 177),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_letter_of_a_voice_is_its_language() {
        assert_eq!(language("ef_dora"), Some(("es-ES", "es")));
        assert_eq!(language("jf_alpha"), None);
        assert_eq!(language(""), None);
    }

    #[test]
    fn phonemes_become_numbers_and_unknown_signs_are_left_out() {
        assert_eq!(ids("hə\u{7}l."), [50, 83, 54, 4]);
        assert_eq!(VOCABULARY.len(), 114);
        assert!(VOCABULARY.is_sorted_by(|one, other| one.1 < other.1));
    }

    #[test]
    fn silence_around_speech_is_cut() {
        let mut audio = vec![0.001; 30_000];
        audio[10_000..12_000].fill(0.5);
        // The click at the begin that the network can make.
        audio[9] = 10.0;
        assert_eq!(trim(&audio).len(), BEFORE + 2_000 + AFTER - 1);
        assert!(trim(&[0.0; 100]).is_empty() && trim(&[]).is_empty() && trim(&[1.0; 10]).is_empty());
        assert_eq!(trim(&[1.0; 100]).len(), 100 - 2 * ENDS);
    }
}
