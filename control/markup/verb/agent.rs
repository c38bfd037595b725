//! The elements of voice agents. `Agent` in a `Connect` is an extension of this server: the caller talks with an agent of
//! `[[agents]]`. With `AIAssistant` in a `Connect`, the caller talks with an assistant that the account has stored, or
//! with an agent of `[[agents]]`. With `AIGather`, an agent asks the caller for values.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_call::conversation::{AgentSpec, ConversationSpec, ConversationTarget, Utterance};
use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::{Converse, Instruction};

use crate::code;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::Reader;

/// Error number of an unusable attribute value.
const BAD_VALUE: u32 = 64101;
/// Maximum size of the JSON schema for the values that an agent collects, in octets.
const LARGEST_SCHEMA: usize = 64 * 1024;
/// Maximum length of a greeting and of an earlier message, in characters.
const LONGEST: usize = 3_000;
/// Maximum number of earlier messages.
const MAX_MESSAGES: usize = 200;
/// Maximum number of tools.
const MAX_TOOLS: usize = 64;
/// Maximum size of a tool, in octets.
const LARGEST_TOOL: usize = 64 * 1024;

/// Reads an `Agent`. If the element has no name, warns and returns `None`.
pub(crate) fn agent(reader: &mut Reader<'_>, element: &Element) -> Option<ConversationSpec> {
    let Some(name) = word(element, "name") else {
        reader.warn(BAD_VALUE, format!("<{}> without a name was skipped", element.name));
        return None;
    };
    let text = |name| element.attribute(name).map(Arc::from);
    let agent = AgentSpec {
        name: name.into(),
        prompt: text("prompt"),
        first_message: text("firstMessage"),
        language: word(element, "language").map(Arc::from),
        voice: word(element, "voice").map(Arc::from),
        ..AgentSpec::default()
    };
    Some(ConversationSpec::new(ConversationTarget::Agent(Box::new(agent))))
}

/// Reads an `AIAssistant`. If the element has no id, warns and returns `None`. An agent cannot talk with two legs, so
/// `join` is not supported. `dynamicVariables` is an extension of this server: a JSON object with the values of the
/// assistant's variables.
pub(crate) fn assistant(reader: &mut Reader<'_>, element: &Element) -> Option<ConversationSpec> {
    let Some(id) = word(element, "id") else {
        reader.warn(BAD_VALUE, format!("<{}> without an id was skipped", element.name));
        return None;
    };
    let variables = word(element, "dynamicVariables").and_then(|text| match serde_json::from_str(text) {
        Ok(Value::Object(variables)) => Some(json!({ "variables": variables }).to_string().into()),
        _ => {
            reader.warn(BAD_VALUE, format!("dynamicVariables of <{}> is not a JSON object", element.name));
            None
        }
    });
    let agent = AgentSpec { name: id.into(), script: variables, ..AgentSpec::default() };
    Some(ConversationSpec::new(ConversationTarget::Agent(Box::new(agent))))
}

/// Reads an `AIGather`: the agent asks the caller for the values of a JSON schema. If there is no usable schema, warns
/// and returns `None`.
pub(crate) fn gather(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Instruction>, FetchFailure> {
    let method = reader.method(element, "method", code::SCHEMA);
    let action = reader.target(element.attribute("action"), method, code::BAD_URL)?;
    // Without a greeting the caller speaks first.
    let mut agent = AgentSpec { first_message: Some("".into()), ..AgentSpec::default() };
    let mut tools = Vec::new();
    reader.only_elements(element);
    for child in element.elements() {
        let Some(rule) = reader.rule_in(child, element) else { continue };
        match (rule.meaning, rule.name) {
            (Meaning::Part, "Greeting") => agent.first_message = Some(shortened(&child.text())),
            (Meaning::Part, "Parameters") => agent.collect_schema = schema(reader, child),
            (Meaning::Part, "Voice") => agent.voice = word(child, "name").map(Arc::from),
            (Meaning::Part, "MessageHistory") => agent.history = history(reader, child),
            (Meaning::Part, "InterruptionSettings") => {
                let enabled = child.attribute("enable").map(|_| reader.flag(child, "enable", true, BAD_VALUE));
                agent.interruptible = enabled.or(agent.interruptible);
            }
            (Meaning::Part, "Transcription") => {
                agent.language = word(child, "language").filter(|language| *language != "auto").map(Arc::from);
            }
            (Meaning::Part, "Assistant") => {
                agent.prompt = word(child, "instructions").map(Arc::from);
                for part in child.elements() {
                    match reader.rule_in(part, child) {
                        Some(rule) if rule.name == "Tools" => read_tools(reader, part, &mut tools),
                        Some(_) => reader.misplaced(part, child),
                        None => {}
                    }
                }
            }
            (Meaning::Part, "Tools") => read_tools(reader, child, &mut tools),
            _ => reader.misplaced(child, element),
        }
    }
    let Some(schema) = &agent.collect_schema else {
        reader.warn(BAD_VALUE, format!("<{}> without usable <Parameters> was skipped", element.name));
        return Ok(None);
    };
    if !tools.is_empty() {
        agent.script = Some(definition(&agent, schema, tools).to_string().into());
    }
    let spec = Box::new(ConversationSpec::new(ConversationTarget::Agent(Box::new(agent))));
    Ok(Some(Instruction::Converse(Converse { spec, action })))
}

/// The definition of an agent that collects values and has tools of its own.
fn definition(agent: &AgentSpec, schema: &str, tools: Vec<Value>) -> Value {
    let mut assistant = Map::new();
    if let Some(prompt) = &agent.prompt {
        assistant.insert("instructions".to_owned(), json!(prompt));
    }
    assistant.insert("tools".to_owned(), Value::Array(tools));
    json!({ "assistant": assistant, "collect": serde_json::from_str::<Value>(schema).unwrap_or_default() })
}

/// Reads the JSON schema in a `Parameters`.
fn schema(reader: &mut Reader<'_>, element: &Element) -> Option<Arc<str>> {
    let text = element.text();
    if text.len() > LARGEST_SCHEMA {
        reader.warn(BAD_VALUE, format!("<{}> has more than {LARGEST_SCHEMA} octets", element.name));
        return None;
    }
    match serde_json::from_str::<Map<String, Value>>(&text) {
        Ok(mut schema) => {
            schema.entry("type").or_insert_with(|| "object".into());
            Some(Value::Object(schema).to_string().into())
        }
        Err(why) => {
            reader.warn(BAD_VALUE, format!("<{}> is not a JSON object: {why}", element.name));
            None
        }
    }
}

/// Reads a `MessageHistory`.
fn history(reader: &mut Reader<'_>, element: &Element) -> Vec<Utterance> {
    let mut history = Vec::new();
    for child in element.elements() {
        match reader.rule_in(child, element) {
            Some(rule) if rule.meaning == Meaning::Part && rule.name == "Message" => {}
            Some(_) => {
                reader.misplaced(child, element);
                continue;
            }
            None => continue,
        }
        let by_agent = reader.word(child, "role", &[("user", false), ("assistant", true)], false, BAD_VALUE);
        let text = shortened(&child.text());
        if !text.is_empty() && history.len() < MAX_MESSAGES {
            history.push(Utterance { by_agent, text });
        }
    }
    history
}

/// Reads the `Tool` elements in a `Tools`. Each contains a JSON object.
fn read_tools(reader: &mut Reader<'_>, element: &Element, tools: &mut Vec<Value>) {
    for child in element.elements() {
        match reader.rule_in(child, element) {
            Some(rule) if rule.meaning == Meaning::Part && rule.name == "Tool" => {}
            Some(_) => {
                reader.misplaced(child, element);
                continue;
            }
            None => continue,
        }
        let text = child.text();
        match serde_json::from_str::<Map<String, Value>>(&text) {
            Ok(tool) if text.len() <= LARGEST_TOOL && tools.len() < MAX_TOOLS => tools.push(Value::Object(tool)),
            Ok(_) => reader.warn(BAD_VALUE, format!("<{}> is too large or too many", child.name)),
            Err(why) => reader.warn(BAD_VALUE, format!("<{}> is not a JSON object: {why}", child.name)),
        }
    }
}

fn shortened(text: &str) -> Arc<str> {
    text.trim().chars().take(LONGEST).collect::<String>().into()
}

fn word<'e>(element: &'e Element, name: &str) -> Option<&'e str> {
    element.attribute(name).map(str::trim).filter(|word| !word.is_empty())
}
