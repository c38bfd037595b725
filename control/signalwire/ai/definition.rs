//! The definition of an agent: the parameters of the `ai` method, read from a document.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use tandem_dialect::agent::{AgentLanguage, Fillers, Pronunciation};

use super::address::{Credentials, address};
use super::contexts::Contexts;
use super::data_map::{regex, unusable_patterns};
use super::function::{CHECK_FOR_INPUT, Function, Include, fillers};
use super::languages::Languages;
use super::params::{Params, flag, number};
use super::pom::prompt;
use super::template::written;

/// Maximum number of functions. Further ones are left out, with a warning.
pub(super) const MAX_FUNCTIONS: usize = 128;
/// Maximum number of entries of the other lists: languages, hints, pronunciations, includes.
const MAX_ENTRIES: usize = 200;
/// The members of `ai` that this server reads.
const MEMBERS: [&str; 14] = [
    "prompt",
    "post_prompt",
    "post_prompt_url",
    "post_prompt_auth_user",
    "post_prompt_auth_password",
    "post_prompt_auth_pass",
    "languages",
    "multilingual",
    "hints",
    "pronounce",
    "params",
    "global_data",
    "SWAIG",
    "swaig",
];
/// The functions that the service has itself.
pub(super) const NATIVE: [&str; 4] = ["check_time", "wait_seconds", "wait_for_user", "adjust_response_latency"];

/// The definition of an agent.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Definition {
    /// The system prompt, with its templates.
    pub(super) prompt: String,
    pub(super) contexts: Contexts,
    /// Fields of each request to the model.
    pub(super) model: Map<String, Json>,
    pub(super) post_prompt: Option<String>,
    pub(super) post_prompt_model: Map<String, Json>,
    pub(super) post_prompt_url: Option<String>,
    pub(super) languages: Vec<AgentLanguage>,
    /// Fillers for functions, by language.
    pub(super) function_fillers: Fillers,
    pub(super) hints: Vec<String>,
    pub(super) pronunciations: Vec<Pronunciation>,
    pub(super) params: Params,
    pub(super) global_data: Map<String, Json>,
    pub(super) functions: Vec<Function>,
    pub(super) includes: Vec<Include>,
    pub(super) native: Vec<&'static str>,
    /// Fillers for functions of this server, by the name of the function.
    pub(super) internal_fillers: BTreeMap<String, Fillers>,
    /// The parts of the definition that have no effect here, for the log of the call.
    pub(super) warnings: Vec<String>,
}

impl Definition {
    /// Reads the parameters of the method. `order` has the names of the contexts in the order of the document.
    ///
    /// # Errors
    /// The reason why there can be no agent.
    pub(super) fn read(ai: &Json, order: &[String]) -> Result<Self, String> {
        let object = ai.as_object().ok_or("the parameters are not an object")?;
        let mut warnings = Vec::new();
        let unknown = object.keys().filter(|key| !MEMBERS.contains(&key.as_str()));
        warnings.extend(unknown.map(|key| format!("{key} is not known")));
        let get = |key: &str| object.get(key).filter(|value| !value.is_null());
        let params = Params::read(get("params").unwrap_or(&Json::Null), &mut warnings);
        let format = params.pom_format;
        let prompt_object = get("prompt").unwrap_or(&Json::Null);
        let contexts = Contexts::read(prompt_object.get("contexts"), order, format, &mut warnings);
        let text = prompt(prompt_object, format);
        if text.is_none() && contexts.start().is_none() {
            return Err("prompt has neither text nor pom".to_owned());
        }
        let mut model = model_fields(prompt_object);
        if let Some(tokens) = params.max_response_tokens {
            model.insert("max_tokens".to_owned(), tokens.into());
        }
        let post = get("post_prompt").unwrap_or(&Json::Null);
        let credentials =
            Credentials::read(ai, &["post_prompt_auth_user"], &["post_prompt_auth_password", "post_prompt_auth_pass"]);
        let languages = Languages::read(object, &mut warnings);
        let mut pronunciations = pronunciations(get("pronounce"));
        pronunciations.extend(languages.pronunciations);
        let swaig = get("SWAIG").or_else(|| get("swaig")).unwrap_or(&Json::Null);
        let (functions, includes) = functions(swaig, &mut warnings);
        Ok(Self {
            prompt: text.unwrap_or_default(),
            contexts,
            model,
            post_prompt: prompt(post, format).filter(|text| !text.trim().is_empty()),
            post_prompt_model: model_fields(post),
            post_prompt_url: get("post_prompt_url")
                .and_then(Json::as_str)
                .filter(|url| !url.trim().is_empty())
                .map(|url| address(url, credentials.as_ref())),
            languages: languages.list,
            function_fillers: languages.function_fillers,
            hints: hints(get("hints"), &mut warnings),
            pronunciations,
            global_data: get("global_data").and_then(Json::as_object).cloned().unwrap_or_default(),
            functions,
            includes,
            native: native(swaig, &mut warnings),
            internal_fillers: internal_fillers(swaig),
            params,
            warnings,
        })
    }
}

/// The fields of a prompt that the model gets. `max_tokens` has the name that the configuration gives it.
pub(super) fn model_fields(prompt: &Json) -> Map<String, Json> {
    let fields = ["temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens"];
    let present = |name: &str| {
        // The action `settings` writes a dash.
        let value = prompt.get(name).or_else(|| prompt.get(name.replace('_', "-")))?;
        let number = number(value)?;
        Some((name.to_owned(), if name == "max_tokens" { whole(number)? } else { number.into() }))
    };
    fields.into_iter().filter_map(present).collect()
}

fn whole(number: f64) -> Option<Json> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the number is within the range")]
    (1.0..=1_000_000.0).contains(&number).then(|| Json::from(number as u32))
}

pub(super) fn entries(value: Option<&Json>) -> impl Iterator<Item = &Json> {
    value.and_then(Json::as_array).into_iter().flatten().take(MAX_ENTRIES)
}

fn hints(value: Option<&Json>, warnings: &mut Vec<String>) -> Vec<String> {
    let mut replaces = false;
    let hints = entries(value).filter_map(|hint| match hint {
        Json::String(text) => Some(text.clone()),
        object => {
            replaces |= object.get("pattern").is_some();
            object.get("hint").map(written)
        }
    });
    let hints: Vec<_> = hints.filter(|hint| !hint.trim().is_empty()).collect();
    if replaces {
        warnings.push(
            "pattern and replace of a hint have no effect: the model reads the words as they were recognised"
                .to_owned(),
        );
    }
    hints
}

pub(super) fn pronunciations(value: Option<&Json>) -> Vec<Pronunciation> {
    let read = |rule: &Json| {
        Some(Pronunciation {
            replace: rule.get("replace")?.as_str().filter(|text| !text.is_empty())?.to_owned(),
            with: rule.get("with")?.as_str()?.to_owned(),
            ignore_case: rule.get("ignore_case").and_then(flag).unwrap_or(true),
        })
    };
    entries(value).filter_map(read).collect()
}

fn functions(swaig: &Json, warnings: &mut Vec<String>) -> (Vec<Function>, Vec<Include>) {
    let defaults = swaig.get("defaults").unwrap_or(&Json::Null);
    let definitions = swaig.get("functions").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    if definitions.len() > MAX_FUNCTIONS {
        warnings.push(format!("only the first {MAX_FUNCTIONS} functions are used"));
    }
    let mut functions: Vec<Function> = Vec::new();
    for definition in definitions.iter().take(MAX_FUNCTIONS) {
        match Function::read(definition, defaults) {
            Ok(function) => {
                let patterns = function.data_map.as_ref().map(unusable_patterns).unwrap_or_default();
                for pattern in patterns {
                    let why = regex(&pattern).err().map(|error| error.to_string()).unwrap_or_default();
                    let why = why.lines().last().unwrap_or_default().to_owned();
                    warnings
                        .push(format!("function {}: the pattern {pattern:?} never matches here: {why}", function.name));
                }
                if function.name == CHECK_FOR_INPUT {
                    warnings.push(format!("the function {CHECK_FOR_INPUT} is not called: use calling.ai_message"));
                }
                functions.retain(|other| other.name != function.name);
                functions.push(function);
            }
            Err(why) => warnings.push(why),
        }
    }
    let mut includes = Vec::new();
    for definition in entries(swaig.get("includes")) {
        match Include::read(definition) {
            Ok(include) => includes.push(include),
            Err(why) => warnings.push(why),
        }
    }
    if swaig.get("mcp_servers").and_then(Json::as_array).is_some_and(|servers| !servers.is_empty()) {
        warnings.push(
            "SWAIG.mcp_servers is not served: put the MCP server behind a web server with functions (`mcp_gateway` of the SDK)".to_owned(),
        );
    }
    (functions, includes)
}

fn native(swaig: &Json, warnings: &mut Vec<String>) -> Vec<&'static str> {
    let names: Vec<String> = entries(swaig.get("native_functions")).map(written).collect();
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match NATIVE.iter().find(|known| **known == name) {
            Some(known) => found.push(*known),
            None => unknown.push(name),
        }
    }
    warnings.extend(unknown.into_iter().map(|name| format!("the native function {name} is not served")));
    found
}

fn internal_fillers(swaig: &Json) -> BTreeMap<String, Fillers> {
    let object = swaig.get("internal_fillers").and_then(Json::as_object);
    object.into_iter().flatten().take(MAX_ENTRIES).map(|(name, value)| (name.clone(), fillers(Some(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "shorter tests")]
    fn read(ai: Json) -> Result<Definition, String> {
        Definition::read(&ai, &[])
    }

    #[test]
    fn a_definition_needs_a_prompt_or_contexts() {
        assert!(read(json!({"prompt": {"temperature": 1}})).is_err());
        assert!(read(json!("x")).is_err());
        assert!(read(json!({"prompt": "You are kind."})).is_ok());
        assert!(read(json!({"prompt": {"contexts": {"default": {"steps": [{"name": "a", "text": "b"}]}}}})).is_ok());
    }

    #[test]
    fn the_definition_of_the_services_own_library_is_read_whole() {
        let ai = json!({
            "prompt": {"pom": [{"title": "Role", "body": "You help."}], "temperature": "0.5", "top_p": 0.9, "confidence": 0.6},
            "post_prompt": {"text": "Summarise.", "max_tokens": 100},
            "post_prompt_url": "http://u:p@h/post_prompt",
            "hints": ["Tandem", {"hint": "AI", "pattern": "a i", "replace": "AI", "ignore_case": true}],
            "languages": [{"name": "English", "code": "en-US", "voice": "rime.spore", "speech_fillers": ["hm"], "function_fillers": ["wait"]},
                {"name": "Spanish", "code": "es", "voice": "x.y", "fillers": ["eh"]}],
            "pronounce": [{"replace": "API", "with": "A P I"}, {"with": "x"}],
            "params": {"ai_model": "gpt-4o-mini", "max_response_tokens": 50},
            "global_data": {"k": 1},
            "SWAIG": {"defaults": {"web_hook_url": "http://h/swaig"}, "native_functions": ["check_time", "fly"],
                "includes": [{"url": "http://x/", "functions": ["f"]}, {}], "mcp_servers": [{"url": "http://m"}],
                "internal_fillers": {"next_step": {"en-US": ["right"]}},
                "functions": [{"function": "a", "description": "d"}, {"function": "a", "description": "e"}, {"description": "none"}]},
        });
        let definition = read(ai).unwrap();
        assert_eq!(definition.prompt, "## Role\n\nYou help.");
        assert_eq!(Json::from(definition.model), json!({"temperature": 0.5, "top_p": 0.9, "max_tokens": 50}));
        assert_eq!(definition.hints, ["Tandem", "AI"]);
        assert_eq!(definition.languages.len(), 2);
        assert_eq!(definition.languages[0].fillers, ["hm"]);
        assert_eq!(definition.function_fillers.of("es"), ["eh"]);
        assert_eq!(definition.pronunciations.len(), 1);
        assert_eq!((definition.functions.len(), &*definition.functions[0].description), (1, "e"));
        assert_eq!((definition.includes.len(), definition.native.as_slice()), (1, &["check_time"][..]));
        assert_eq!(definition.internal_fillers["next_step"].of("en-US"), ["right"]);
        let about = ["pattern and replace", "has no name", "has no url", "mcp_servers", "function fly"];
        for about in about {
            let found = definition.warnings.iter().filter(|warning| warning.contains(about)).count();
            assert_eq!(found, 1, "{about}: {:?}", definition.warnings);
        }
        assert_eq!(definition.warnings.len(), about.len(), "{:?}", definition.warnings);
    }

    #[test]
    fn credentials_of_the_report_may_stand_beside_its_url() {
        let ai = json!({"prompt": "x", "post_prompt": {"temperature": 0.2}, "post_prompt_url": "https://h/report",
            "post_prompt_auth_user": "me", "post_prompt_auth_password": "p w"});
        let definition = read(ai).unwrap();
        assert_eq!(definition.post_prompt_url.as_deref(), Some("https://me:p%20w@h/report"));
        assert_eq!(definition.post_prompt, None, "fields of the model alone are no question");
        assert!(definition.warnings.is_empty(), "{:?}", definition.warnings);
        assert_eq!(read(json!({"prompt": "x", "post_prompt_url": " "})).unwrap().post_prompt_url, None);
    }
}
