//! Maps the voice name of any provider to a voice of espeak-ng. The result has the requested language if espeak-ng
//! supports this language. The result has the gender of the requested voice if the name shows the gender. Voices of the
//! same language and gender sound the same.

use std::collections::HashSet;

/// Suffix for a female voice. The engine's default voice is male.
const FEMALE: &str = "+f3";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gender {
    Female,
    Male,
}

use Gender::{Female, Male};

/// Voices that have only a first name. These are the voices of Amazon Polly, with their languages.
const NAMES: &[(&str, Gender, &[&str])] = &[
    ("ar", Female, &["zeina", "hala"]),
    ("ar", Male, &["zayd"]),
    ("ca", Female, &["arlet"]),
    ("cmn", Female, &["zhiyu"]),
    ("cs", Female, &["jitka"]),
    ("cy", Female, &["gwyneth"]),
    ("da", Female, &["naja", "sofie"]),
    ("da", Male, &["mads"]),
    ("de", Female, &["marlene", "vicki", "hannah", "sabrina"]),
    ("de", Male, &["hans", "daniel"]),
    ("en-au", Female, &["nicole", "olivia"]),
    ("en-au", Male, &["russell"]),
    ("en-gb", Female, &["amy", "emma", "niamh", "aria", "ayanda", "jasmine"]),
    ("en-gb", Male, &["brian", "arthur", "geraint"]),
    ("en-in", Female, &["aditi", "raveena", "kajal"]),
    ("en-us", Female, &["joanna", "ivy", "kendra", "kimberly", "salli", "danielle", "ruth"]),
    ("en-us", Male, &["matthew", "joey", "justin", "kevin", "gregory", "stephen", "patrick"]),
    ("es", Female, &["conchita", "lucia", "alba"]),
    ("es", Male, &["enrique", "sergio", "raul"]),
    ("es-419", Female, &["mia", "lupe", "penelope"]),
    ("es-419", Male, &["miguel", "andres", "pedro"]),
    ("fi", Female, &["suvi"]),
    ("fr-be", Female, &["isabelle"]),
    ("fr-fr", Female, &["celine", "céline", "lea", "léa", "chantal", "gabrielle"]),
    ("fr-fr", Male, &["mathieu", "remi", "rémi", "liam"]),
    ("is", Female, &["dora", "dóra"]),
    ("is", Male, &["karl"]),
    ("it", Female, &["carla", "bianca"]),
    ("it", Male, &["giorgio", "adriano"]),
    ("ja", Female, &["mizuki", "kazuha", "tomoko"]),
    ("ja", Male, &["takumi"]),
    ("ko", Female, &["seoyeon", "jihye"]),
    ("nb", Female, &["liv", "ida"]),
    ("nl", Female, &["lotte", "laura", "lisa"]),
    ("nl", Male, &["ruben"]),
    ("pl", Female, &["ewa", "maja", "ola"]),
    ("pl", Male, &["jacek", "jan"]),
    ("pt", Female, &["ines", "inês"]),
    ("pt", Male, &["cristiano"]),
    ("pt-br", Female, &["camila", "vitoria", "vitória"]),
    ("pt-br", Male, &["ricardo", "thiago"]),
    ("ro", Female, &["carmen"]),
    ("ru", Female, &["tatyana"]),
    ("ru", Male, &["maxim"]),
    ("sv", Female, &["astrid", "elin"]),
    ("tr", Female, &["filiz", "burcu"]),
    ("yue", Female, &["hiujin"]),
];

/// Languages that have another name in espeak-ng.
const ALIASES: &[(&str, &str)] = &[
    ("arb", "ar"),
    ("fil", "en-us"),
    ("fr", "fr-fr"),
    ("fr-ca", "fr-fr"),
    ("iw", "he"),
    ("no", "nb"),
    ("zh", "cmn"),
    ("zh-hk", "yue"),
    ("zh-tw", "cmn"),
    ("es-es", "es"),
    ("en", "en-us"),
    ("en-au", "en-gb"),
    ("en-ie", "en-gb"),
    ("en-in", "en-gb"),
    ("en-nz", "en-gb"),
    ("en-za", "en-gb"),
];

/// Countries of the Americas. espeak-ng has one Spanish voice for all these countries.
const AMERICAS: [&str; 20] = [
    "ar", "bo", "cl", "co", "cr", "cu", "do", "ec", "gt", "hn", "mx", "ni", "pa", "pe", "pr", "py", "sv", "us", "uy",
    "ve",
];

/// Returns the value for espeak-ng's option `-v`. `known` has the languages of espeak-ng. The result is one of these
/// languages or `en-us`. For a female voice, the result also has a suffix.
pub(super) fn choose(name: Option<&str>, language: Option<&str>, known: &HashSet<String>) -> String {
    let query = name.map(read).unwrap_or_default();
    let language = language
        .and_then(|language| known_language(language, known))
        .or_else(|| query.language.and_then(|language| known_language(&language, known)))
        .unwrap_or_else(|| "en-us".to_owned());
    let gender = match (name, query.gender) {
        (None, _) => Male,
        (Some(_), gender) => gender.unwrap_or(Female),
    };
    if gender == Female { language + FEMALE } else { language }
}

/// Returns the gender that the name of a voice shows: `man` or `woman`. Returns `woman` if the name does not show the
/// gender.
pub(super) fn gender(name: &str) -> &'static str {
    match read(name).gender {
        Some(Male) => "man",
        Some(Female) | None => "woman",
    }
}

/// Whether a text with this voice name and this language is English. A text that names no language counts as English.
pub(super) fn is_english(name: Option<&str>, language: Option<&str>) -> bool {
    let of_name = name.map(read).and_then(|query| query.language);
    let language = language.map(str::to_lowercase).filter(|language| !language.is_empty()).or(of_name);
    language.is_none_or(|language| language.split(['-', '_']).next() == Some("en"))
}

#[derive(Default)]
struct VoiceQuery {
    language: Option<String>,
    gender: Option<Gender>,
}

/// Returns the language and the gender that the name of a voice shows. Examples of names are `Polly.Hans-Neural`,
/// `Google.de-DE-Wavenet-B` and `woman`.
fn read(name: &str) -> VoiceQuery {
    let mut query = VoiceQuery::default();
    for part in name.split(['.', '/', ' ']) {
        let words: Vec<String> = part.split(['-', '_']).map(str::to_lowercase).collect();
        if query.language.is_none() {
            query.language = tag(part);
        }
        for word in &words {
            let by_word = match word.as_str() {
                "man" | "male" => Some((None, Male)),
                "woman" | "female" | "alice" => Some((None, Female)),
                word => NAMES
                    .iter()
                    .find(|(_, _, names)| names.contains(&word))
                    .map(|(language, gender, _)| (Some(*language), *gender)),
            };
            if let Some((language, gender)) = by_word {
                query.gender = query.gender.or(Some(gender));
                query.language = query.language.or(language.map(str::to_owned));
            }
        }
        // The names of Google's voices end with a letter. In most languages, B, D, I and J are male voices.
        if let (true, Some(letter)) = (words.len() >= 4, words.last()) {
            let gender = match letter.as_str() {
                "b" | "d" | "i" | "j" => Some(Male),
                letter if letter.len() == 1 => Some(Female),
                _ => None,
            };
            query.gender = query.gender.or(gender);
        }
    }
    query
}

/// Returns the language at the beginning of a name such as `en-US-Standard-C`.
fn tag(part: &str) -> Option<String> {
    let mut words = part.split(['-', '_']);
    let (language, region) = (words.next()?, words.next()?);
    let fits = (2..=3).contains(&language.len())
        && language.bytes().all(|octet| octet.is_ascii_lowercase())
        && region.len() == 2
        && region.bytes().all(|octet| octet.is_ascii_uppercase());
    fits.then(|| format!("{language}-{region}").to_lowercase())
}

fn known_language(language: &str, known: &HashSet<String>) -> Option<String> {
    let language = language.replace('_', "-").to_lowercase();
    let (base, region) = language.split_once('-').unwrap_or((&language, ""));
    let american = (base == "es" && AMERICAS.contains(&region)).then_some("es-419");
    let alias = |name: &str| ALIASES.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
    [american, alias(&language), Some(language.as_str()), Some(base), alias(base)]
        .into_iter()
        .flatten()
        .find(|candidate| known.contains(*candidate))
        .map(str::to_owned)
}

/// Returns the languages in the second column of espeak-ng's list. A line may have other languages in parentheses at
/// its end. This function ignores these languages.
pub(super) fn parse_list(text: &str) -> HashSet<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  cmn             --/M      Chinese            sit/cmn              (zh-cmn 5)(zh 5)
 5  de              --/M      German             gmw/de
 2  en-gb           --/M      English            gmw/en               (en 2)
 2  en-us           --/M      English_(America)  gmw/en-US            (en 3)
 5  es              --/M      Spanish_(Spain)    roa/es
 5  es-419          --/M      Spanish_(America)  roa/es-419           (es-mx 6)(es 6)
 5  fr-fr           --/M      French_(France)    roa/fr               (fr 5)
 5  nb              --/M      Norwegian          gmq/nb               (no 5)
 5  pt-br           --/M      Portuguese_(Brazil) roa/pt-BR            (pt 6)
";

    #[test]
    fn the_language_or_else_the_name_of_the_voice_says_whether_a_text_is_english() {
        for (name, language, english) in [
            (None, None, true),
            (Some("Polly.Joanna"), None, true),
            (Some("Polly.Hans"), None, false),
            (Some("Polly.Hans"), Some("en-US"), true),
            (Some("woman"), Some("de-DE"), false),
            (Some("joe"), Some("EN"), true),
        ] {
            assert_eq!(is_english(name, language), english, "{name:?} {language:?}");
        }
    }

    #[test]
    fn every_voice_name_selects_an_espeak_voice() {
        let known = parse_list(LIST);
        let table = [
            (None, None, "en-us"),
            (Some("man"), None, "en-us"),
            (Some("woman"), Some("de-DE"), "de+f3"),
            (Some("alice"), Some("pt-BR"), "pt-br+f3"),
            (Some("Polly.Joanna"), None, "en-us+f3"),
            (Some("Polly.Matthew-Neural"), None, "en-us"),
            (Some("Polly.Hans"), None, "de"),
            (Some("Polly.Brian"), None, "en-gb"),
            (Some("AWS.Polly.Danielle-Neural"), None, "en-us+f3"),
            (Some("Google.de-DE-Wavenet-F"), None, "de+f3"),
            (Some("Google.en-US-Standard-B"), None, "en-us"),
            (Some("Azure.en-GB-RyanNeural"), None, "en-gb+f3"),
            (Some("KokoroTTS.af"), None, "en-us+f3"),
            (Some("male"), Some("en-AU"), "en-gb"),
            (Some("female"), Some("es-MX"), "es-419+f3"),
            (None, Some("es-ES"), "es"),
            (None, Some("fr-CA"), "fr-fr"),
            (None, Some("zh-CN"), "cmn"),
            (None, Some("no"), "nb"),
            (None, Some("xx-YY"), "en-us"),
            (Some("Polly.Hans"), Some("xx"), "de"),
            (Some("-v en+m1 --help"), Some("../../etc"), "en-us+f3"),
            (Some(""), Some(""), "en-us+f3"),
        ];
        for (name, language, expected) in table {
            assert_eq!(choose(name, language, &known), expected, "{name:?} {language:?}");
        }
    }
}
