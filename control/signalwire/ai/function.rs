//! The functions of an agent (SWAIG) as its document defines them, and functions that other web servers describe (`includes`).

use serde_json::{Map, Value as Json, json};
use tandem_dialect::agent::Fillers;
use tandem_host::hash::{hex, sha256};

use super::address::{Credentials, address};
use super::definition::MAX_FUNCTIONS;
use super::params::{flag, number};
use super::template::written;

/// Functions that the model does not see. The server calls them at certain moments, or not at all.
pub(super) const RESERVED: [&str; 4] = ["startup_hook", "hangup_hook", "summarize_conversation", CHECK_FOR_INPUT];
/// A function that the service polls for texts of other channels. This server does not poll.
pub(super) const CHECK_FOR_INPUT: &str = "check_for_input";

/// A function that the model may call.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) description: String,
    /// JSON schema of the arguments, which is an object.
    pub(super) parameters: Json,
    /// The URL of the web server. `None` for a function with a `data_map`.
    pub(super) url: Option<String>,
    pub(super) data_map: Option<Json>,
    pub(super) fillers: Fillers,
    /// Whether the fillers of the language do not belong to this function.
    pub(super) skip_fillers: bool,
    pub(super) wait_file: Option<String>,
    pub(super) active: Active,
    pub(super) meta_data: Map<String, Json>,
    /// Functions with the same token share their `meta_data`.
    pub(super) token: String,
}

/// How often the model may call a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Active {
    Always,
    /// This number of times. 0 means never.
    Times(u32),
}

impl Active {
    /// Reads `active`: a boolean, or a number of calls. -1 and `null` mean always.
    pub(super) fn read(value: Option<&Json>) -> Self {
        match value {
            Some(Json::Number(_)) => match value.and_then(number) {
                Some(times) if times < 0.0 => Self::Always,
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the number is not negative"
                )]
                Some(times) => Self::Times(times.min(1_000_000.0) as u32),
                None => Self::Always,
            },
            Some(value) => match flag(value) {
                Some(false) => Self::Times(0),
                _ => Self::Always,
            },
            None => Self::Always,
        }
    }
}

impl Function {
    /// Reads the definition of a function. `defaults` is `SWAIG.defaults`.
    ///
    /// # Errors
    /// The reason why the function cannot be used.
    pub(super) fn read(definition: &Json, defaults: &Json) -> Result<Self, String> {
        let text =
            |key: &str| definition.get(key).and_then(Json::as_str).map(str::trim).filter(|text| !text.is_empty());
        let name = text("function").or_else(|| text("name")).ok_or("a function of SWAIG.functions has no name")?;
        if !is_name(name) {
            return Err(format!("function {name:?}: a name has 1 to 64 characters from a-z A-Z 0-9 _ -"));
        }
        let data_map = definition.get("data_map").filter(|map| map.as_object().is_some_and(|map| !map.is_empty()));
        // The reference of the service has other names for two reserved functions.
        let name = match name {
            "start_hook" => "startup_hook",
            "stop_hook" => "hangup_hook",
            name => name,
        };
        let default_url = defaults.get("web_hook_url").and_then(Json::as_str);
        let credentials = Credentials::of_functions(definition).or_else(|| Credentials::of_functions(defaults));
        let url = text("web_hook_url").or(default_url).filter(|_| data_map.is_none());
        let url = url.map(|url| address(url, credentials.as_ref()));
        if url.is_none() && data_map.is_none() {
            return Err(format!("function {name:?} has neither a web_hook_url nor a data_map"));
        }
        let parameters = definition.get("parameters").or_else(|| definition.get("argument"));
        let meta_data = definition.get("meta_data").and_then(Json::as_object).cloned().unwrap_or_default();
        let token = match text("meta_data_token") {
            Some(token) => token.to_owned(),
            None => token_of(url.as_deref().unwrap_or("data_map")),
        };
        Ok(Self {
            name: name.to_owned(),
            description: text("description").or_else(|| text("purpose")).unwrap_or_default().to_owned(),
            parameters: schema(parameters),
            url,
            data_map: data_map.cloned(),
            fillers: fillers(definition.get("fillers")),
            skip_fillers: definition.get("skip_fillers").and_then(flag).unwrap_or(false),
            wait_file: text("wait_file").map(str::to_owned),
            active: Active::read(definition.get("active")),
            meta_data,
            token,
        })
    }
}

/// Whether the models accept this name of a tool.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|one| one.is_ascii_alphanumeric() || matches!(one, b'_' | b'-'))
}

/// The token of functions without a `meta_data_token`. It does not depend on the query of the URL, because the service's SDK
/// adds another query for each function.
fn token_of(url: &str) -> String {
    let base = url.split(['?', '#']).next().unwrap_or(url);
    hex(&sha256([base.as_bytes()])).chars().take(32).collect()
}

/// The JSON schema of the arguments. Some documents give only the properties, or nothing.
fn schema(parameters: Option<&Json>) -> Json {
    match parameters {
        Some(Json::Object(schema)) if schema.contains_key("type") || schema.contains_key("properties") => {
            let mut schema = schema.clone();
            schema.insert("type".to_owned(), "object".into());
            schema.entry("properties").or_insert_with(|| json!({}));
            Json::Object(schema)
        }
        Some(Json::Object(properties)) if !properties.is_empty() => {
            let properties: Map<_, _> = properties
                .iter()
                .filter(|(_, value)| value.is_object())
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            json!({ "type": "object", "properties": properties })
        }
        _ => json!({ "type": "object", "properties": {} }),
    }
}

/// Fillers: an object of texts by language, a list of texts for each language, or a list of such objects.
pub(super) fn fillers(value: Option<&Json>) -> Fillers {
    let texts = |value: &Json| match value {
        Json::Array(items) => items.iter().filter(|item| item.is_string()).map(written).collect(),
        Json::String(text) => vec![text.clone()],
        _ => Vec::new(),
    };
    // The service translates the texts of `auto`. Here they are for each language without texts of its own.
    let code_of = |code: &String| if code == "auto" { String::new() } else { code.clone() };
    let by_language = |object: &Map<String, Json>| -> Vec<(String, Vec<String>)> {
        object.iter().map(|(code, value)| (code_of(code), texts(value))).collect()
    };
    match value {
        Some(Json::Object(object)) => Fillers(by_language(object)),
        Some(Json::Array(items)) if items.iter().any(Json::is_object) => {
            Fillers(items.iter().filter_map(Json::as_object).flat_map(by_language).collect())
        }
        Some(value @ (Json::Array(_) | Json::String(_))) if value.as_array().is_none_or(|items| !items.is_empty()) => {
            Fillers::of_each_language(texts(value))
        }
        _ => Fillers::default(),
    }
}

/// Functions that another web server describes.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Include {
    pub(super) url: String,
    functions: Vec<String>,
    meta_data: Map<String, Json>,
}

impl Include {
    pub(super) fn read(definition: &Json) -> Result<Self, String> {
        let url = definition.get("url").and_then(Json::as_str).ok_or("an entry of SWAIG.includes has no url")?;
        // The reference of the service writes these names too.
        let credentials = Credentials::read(definition, &["user"], &["pass", "password"]);
        let credentials = credentials.or_else(|| Credentials::of_functions(definition));
        let functions = definition.get("functions").or_else(|| definition.get("function"));
        let functions = functions.and_then(Json::as_array).into_iter().flatten().map(written).collect();
        let meta_data = definition.get("meta_data").and_then(Json::as_object).cloned().unwrap_or_default();
        Ok(Self { url: address(url, credentials.as_ref()), functions, meta_data })
    }

    /// The body of the request for the signatures of the functions.
    pub(super) fn request(&self, project_id: &str, space_id: &str) -> Json {
        let mut body = json!({
            "action": "get_signature",
            "functions": self.functions,
            "version": "2.0",
            "content_type": "text/swaig",
            "content_disposition": "function signature request",
            "project_id": project_id,
            "space_id": space_id,
        });
        if let Some(members) = body.as_object_mut().filter(|_| !self.meta_data.is_empty()) {
            members.insert("meta_data".to_owned(), Json::Object(self.meta_data.clone()));
        }
        body
    }

    /// The functions in the answer of the web server: a list of definitions, or one definition. The names in the request do not
    /// limit the answer. The second part has the reasons why definitions cannot be used.
    ///
    /// # Errors
    /// The reason why the answer is not usable.
    pub(super) fn read_answer(&self, body: &[u8]) -> Result<(Vec<Function>, Vec<String>), String> {
        let answer: Json = serde_json::from_slice(body).map_err(|_| "the answer is not JSON".to_owned())?;
        let answer = answer.get("functions").cloned().unwrap_or(answer);
        let definitions = match answer {
            Json::Array(items) => items,
            object @ Json::Object(_) => vec![object],
            _ => return Err("the answer has no functions".to_owned()),
        };
        let defaults = json!({ "web_hook_url": self.url });
        let (mut functions, mut unusable) = (Vec::new(), Vec::new());
        for definition in definitions.iter().take(MAX_FUNCTIONS) {
            match Function::read(definition, &defaults) {
                Ok(mut function) => {
                    for (key, value) in &self.meta_data {
                        function.meta_data.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                    functions.push(function);
                }
                Err(why) => unusable.push(why),
            }
        }
        match (functions.is_empty(), unusable.pop()) {
            (true, Some(why)) => Err(why),
            (true, None) => Err("the answer has no functions".to_owned()),
            (false, why) => {
                unusable.extend(why);
                Ok((functions, unusable))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_a_url_of_its_own_or_the_default_url_or_a_data_map() {
        let read = |definition: Json| Function::read(&definition, &Json::Null);
        let defaults = json!({"web_hook_url": "http://h/", "web_hook_auth_user": "me", "web_hook_auth_password": "pw"});
        assert!(read(json!({"function": "a"})).is_err());
        assert!(read(json!({"web_hook_url": "http://h/"})).is_err());
        assert!(read(json!({"function": "a b", "web_hook_url": "http://h/"})).is_err());
        let own = Function::read(&json!({"function": "a", "web_hook_url": "http://u:p@own/"}), &defaults).unwrap();
        assert_eq!(own.url.as_deref(), Some("http://u:p@own/"));
        let default = Function::read(&json!({"function": "a", "purpose": "p"}), &defaults).unwrap();
        assert_eq!((default.url.as_deref(), &*default.description), (Some("http://me:pw@h/"), "p"));
        let mapped = Function::read(&json!({"function": "a", "data_map": {"output": {}}}), &defaults).unwrap();
        assert!(mapped.url.is_none() && mapped.data_map.is_some());
    }

    #[test]
    fn arguments_may_be_a_schema_or_only_its_properties() {
        let of = |parameters: Json| {
            let definition = json!({"function": "a", "parameters": parameters, "web_hook_url": "http://h/"});
            Function::read(&definition, &Json::Null).unwrap().parameters
        };
        let schema = json!({"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]});
        assert_eq!(of(schema.clone()), schema);
        assert_eq!(of(json!({"x": {"type": "string"}}))["properties"]["x"]["type"], "string");
        assert_eq!(of(Json::Null), json!({"type": "object", "properties": {}}));
    }

    #[test]
    fn functions_at_the_same_url_share_their_token_whatever_their_query() {
        let token = |definition: Json| Function::read(&definition, &Json::Null).unwrap().token;
        let one = token(json!({"function": "a", "web_hook_url": "http://h/swaig?__token=1"}));
        let two = token(json!({"function": "b", "web_hook_url": "http://h/swaig?__token=2"}));
        assert_eq!(one, two);
        assert_eq!(token(json!({"function": "c", "web_hook_url": "http://h/", "meta_data_token": "own"})), "own");
    }

    #[test]
    fn active_is_a_boolean_or_a_number_of_calls() {
        assert_eq!(Active::read(None), Active::Always);
        assert_eq!(Active::read(Some(&json!("false"))), Active::Times(0));
        assert_eq!(Active::read(Some(&json!(2))), Active::Times(2));
        assert_eq!(Active::read(Some(&json!(-1))), Active::Always);
    }

    #[test]
    fn fillers_are_texts_by_language_or_for_each_language() {
        assert_eq!(fillers(Some(&json!({"en-US": ["wait"]}))).of("en-GB"), ["wait"]);
        assert_eq!(fillers(Some(&json!(["wait"]))).of("de"), ["wait"]);
        assert_eq!(fillers(Some(&json!([{"en": ["wait"]}, {"de": ["warte"]}]))).of("de"), ["warte"]);
        assert!(fillers(Some(&json!(7))).of("de").is_empty());
        assert!(fillers(Some(&json!([]))).of("de").is_empty());
    }

    #[test]
    fn the_answer_to_a_signature_request_gives_all_its_functions() {
        let definition =
            json!({"url": "http://h/swaig", "function": ["a"], "meta_data": {"k": 1}, "user": "me", "pass": "pw"});
        let include = Include::read(&definition).unwrap();
        let request = include.request("project", "space");
        assert_eq!((&request["functions"], &request["project_id"]), (&json!(["a"]), &json!("project")));
        let answer =
            json!([{"function": "a", "description": "d"}, {"function": "b", "description": "d"}, {"description": "c"}]);
        let (functions, unusable) = include.read_answer(answer.to_string().as_bytes()).unwrap();
        assert_eq!(functions.iter().map(|function| &*function.name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(functions[1].url.as_deref(), Some("http://me:pw@h/swaig"));
        assert_eq!(functions[1].meta_data["k"], 1);
        assert_eq!(unusable, ["a function of SWAIG.functions has no name"]);
        assert!(include.read_answer(b"<html>").is_err() && include.read_answer(b"[]").is_err());
        let bare = Include::read(&json!({"url": "http://h/", "functions": []})).unwrap();
        assert!(bare.request("p", "s").get("meta_data").is_none());
    }
}
