//! The languages of an agent: `languages`, a list with a voice for each, or `multilingual`, whose voices share the fillers.

use serde_json::{Map, Value as Json};
use tandem_dialect::agent::{AgentLanguage, Fillers, Pronunciation};

use super::definition::{entries, pronunciations};
use super::function::fillers;

/// The code with which the recogniser expects any language.
const ANY: &str = "multi";
/// Maximum number of codes of one entry.
const MAX_CODES: usize = 3;

/// The languages of a definition.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Languages {
    /// The default language first.
    pub(super) list: Vec<AgentLanguage>,
    /// Fillers for functions, by language.
    pub(super) function_fillers: Fillers,
    /// The pronunciations that belong to the language of an agent with one language.
    pub(super) pronunciations: Vec<Pronunciation>,
}

fn text<'a>(value: &'a Json, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Json::as_str).map(str::trim).filter(|text| !text.is_empty())
}

impl Languages {
    /// Reads the languages of the parameters of the method.
    pub(super) fn read(ai: &Map<String, Json>, warnings: &mut Vec<String>) -> Self {
        match ai.get("multilingual").filter(|value| value.is_object()) {
            Some(multilingual) => Self::multilingual(multilingual),
            None => Self::listed(ai.get("languages"), warnings),
        }
    }

    fn listed(list: Option<&Json>, warnings: &mut Vec<String>) -> Self {
        let mut languages = Self::default();
        let count = entries(list).count();
        for entry in entries(list) {
            let codes = codes(entry.get("code").or_else(|| entry.get("listen_language")));
            let Some(first) = codes.first() else {
                warnings.push("a language without a code has no effect".to_owned());
                continue;
            };
            let texts = |key: &str| fillers(entry.get(key)).of(first).to_vec();
            // `fillers` is the old name of `function_fillers`.
            let functions = match texts("function_fillers") {
                texts if texts.is_empty() => self::fillers(entry.get("fillers")).of(first).to_vec(),
                texts => texts,
            };
            for (place, code) in codes.iter().enumerate() {
                // Beside other languages, the model must be able to name each language.
                let code = if code == ANY && (count > 1 || codes.len() > 1) { "en" } else { code.as_str() };
                // Several voices of one language: the model selects one by a private subtag (RFC 5646 §2.2.7).
                let code = match languages.list.iter().any(|language| language.code == code) {
                    true => format!("{code}-x-{}", languages.list.len() + 1),
                    false => code.to_owned(),
                };
                languages.function_fillers.0.push((code.clone(), functions.clone()));
                languages.list.push(AgentLanguage {
                    name: text(entry, "name").filter(|_| place == 0).unwrap_or(&code).to_owned(),
                    voice: text(entry, "voice").map(str::to_owned),
                    fillers: texts("speech_fillers"),
                    code,
                });
            }
            let own = pronunciations(entry.get("pronounce"));
            if count == 1 {
                languages.pronunciations = own;
            } else if !own.is_empty() {
                warnings.push(format!("pronounce of the language {first} has no effect: use ai.pronounce"));
            }
        }
        languages.function_fillers.0.retain(|(_, texts)| !texts.is_empty());
        languages
    }

    fn multilingual(multilingual: &Json) -> Self {
        let list: Vec<&Json> = entries(multilingual.get("languages")).collect();
        let code = |entry: &Json| text(entry, "language").or_else(|| text(entry, "code")).map(str::to_owned);
        let base = list.iter().find(|entry| code(entry).as_deref() == Some("default")).or(list.first());
        let base_voice = base.and_then(|entry| text(entry, "voice")).map(str::to_owned);
        let allowed: Vec<String> = entries(multilingual.get("allowed")).map(super::template::written).collect();
        let mut voices: Vec<(String, Option<String>)> = Vec::new();
        for entry in &list {
            let Some(code) = code(entry).filter(|code| code != "default") else { continue };
            if allowed.is_empty() || allowed.contains(&code) {
                voices.push((code, text(entry, "voice").map(str::to_owned)));
            }
        }
        for code in allowed {
            if voices.iter().all(|(known, _)| *known != code) {
                voices.push((code, None));
            }
        }
        if voices.is_empty() && base.is_some() {
            voices.push((ANY.to_owned(), None));
        }
        let start = text(multilingual, "start_language").unwrap_or("en");
        voices.sort_by_key(|(code, _)| code != start);
        let speech = fillers(multilingual.get("fillers"));
        let language = |(code, voice): (String, Option<String>)| AgentLanguage {
            name: code.clone(),
            fillers: speech.of(&code).to_vec(),
            voice: voice.or_else(|| base_voice.clone()),
            code,
        };
        Self {
            list: voices.into_iter().map(language).collect(),
            function_fillers: fillers(multilingual.get("function_fillers")),
            pronunciations: Vec::new(),
        }
    }
}

/// The codes of an entry: a text, or a list of texts.
fn codes(value: Option<&Json>) -> Vec<String> {
    let list = match value {
        Some(Json::Array(items)) => items.as_slice(),
        Some(code) => std::slice::from_ref(code),
        None => &[],
    };
    let codes = list.iter().filter_map(Json::as_str).map(str::trim).filter(|code| !code.is_empty());
    codes.take(MAX_CODES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "shorter tests")]
    fn read(ai: Json) -> (Languages, Vec<String>) {
        let mut warnings = Vec::new();
        (Languages::read(ai.as_object().unwrap(), &mut warnings), warnings)
    }

    fn codes_of(languages: &Languages) -> Vec<&str> {
        languages.list.iter().map(|language| &*language.code).collect()
    }

    fn voices_of(languages: &Languages) -> Vec<&str> {
        languages.list.iter().map(|language| language.voice.as_deref().unwrap_or_default()).collect()
    }

    #[test]
    fn a_language_may_have_several_codes_or_any_and_keeps_its_voice() {
        let (languages, warnings) =
            read(json!({"languages": [{"name": "English", "code": ["en", "es"], "voice": "a"}, {"name": "x"}]}));
        assert_eq!((codes_of(&languages), voices_of(&languages)), (vec!["en", "es"], vec!["a", "a"]));
        assert_eq!(languages.list[0].name, "English");
        assert_eq!(warnings, ["a language without a code has no effect"]);
        let (languages, _) = read(json!({"languages": [{"name": "Any", "code": "multi", "voice": "a"}]}));
        assert_eq!((codes_of(&languages), voices_of(&languages)), (vec!["multi"], vec!["a"]));
        let (languages, _) = read(json!({"languages": [{"listen_language": "multi"}, {"code": "de"}]}));
        assert_eq!(codes_of(&languages), ["en", "de"]);
    }

    #[test]
    fn voices_of_the_same_language_have_codes_that_the_model_can_distinguish() {
        let (languages, warnings) =
            read(json!({"languages": [{"name": "English-Franklin", "code": "en-US", "voice": "a"},
            {"name": "English-Dwight", "code": "en-US", "voice": "b", "function_fillers": ["wait"]}]}));
        assert_eq!((codes_of(&languages), voices_of(&languages)), (vec!["en-US", "en-US-x-2"], vec!["a", "b"]));
        assert_eq!(languages.list[1].name, "English-Dwight");
        assert_eq!(languages.function_fillers.of("en-US-x-2"), ["wait"]);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn the_old_name_of_fillers_means_fillers_for_functions() {
        let (languages, _) = read(json!({"languages": [{"code": "en", "fillers": ["old"]},
            {"code": "es", "fillers": ["old"], "function_fillers": ["new"], "speech_fillers": ["eh"]}]}));
        assert_eq!(
            (languages.function_fillers.of("en"), languages.function_fillers.of("es")),
            (&["old".to_owned()][..], &["new".to_owned()][..])
        );
        assert!(languages.list[0].fillers.is_empty());
        assert_eq!(languages.list[1].fillers, ["eh"]);
    }

    #[test]
    fn pronunciations_of_the_only_language_count_and_others_are_a_warning() {
        let pronounce = json!([{"replace": "API", "with": "A P I"}]);
        let (languages, warnings) = read(json!({"languages": [{"code": "en", "pronounce": pronounce}]}));
        assert!(languages.pronunciations.len() == 1 && warnings.is_empty());
        let (languages, warnings) =
            read(json!({"languages": [{"code": "en", "pronounce": pronounce}, {"code": "de"}]}));
        assert!(languages.pronunciations.is_empty() && warnings.len() == 1, "{warnings:?}");
    }

    #[test]
    fn multilingual_languages_begin_with_the_start_language_and_share_the_default_voice_and_the_fillers() {
        let (languages, _) = read(
            json!({"multilingual": {"start_language": "es", "fillers": {"es": ["eh"], "auto": ["hm"]},
            "function_fillers": ["wait"], "allowed": ["en", "es", "fr"], "languages": [
            {"language": "default", "voice": "a"}, {"language": "en"}, {"language": "es", "voice": "c"}, {"language": "de", "voice": "d"}]}}),
        );
        assert_eq!(codes_of(&languages), ["es", "en", "fr"]);
        assert_eq!(voices_of(&languages), ["c", "a", "a"]);
        assert_eq!(
            (languages.list[0].fillers.as_slice(), languages.list[1].fillers.as_slice()),
            (&["eh".to_owned()][..], &["hm".to_owned()][..])
        );
        assert_eq!(languages.function_fillers.of("fr"), ["wait"]);
        let (languages, _) = read(json!({"multilingual": {"languages": [{"language": "default", "voice": "a"}]}}));
        assert_eq!((codes_of(&languages), voices_of(&languages)), (vec!["multi"], vec!["a"]));
    }
}
