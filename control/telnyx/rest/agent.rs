//! Conversations with a voice agent: `ai_assistant_start`, `ai_assistant_add_messages` and `gather_using_ai`. The agent is
//! one of this server's agents. Parameters in the request take precedence over the agent's configuration.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_agent::Agents;
use tandem_call::command::Command;
use tandem_call::conversation::{
    AgentMessage, AgentSpec, ConversationRequest, ConversationSpec, ConversationTarget, MessageRole, Utterance,
};
use tandem_call::program::instruction::{Converse, Instruction};
use tandem_id::{AccountName, ConversationId};
use tandem_routing::inventory::{Inventory, StoredAgent};
use tandem_store::resources::Resource;

use super::error::{ApiError, sentence};
use super::parameters::Parameters;
use crate::assistant::tool::Tool;
use crate::{conversation, id};

/// Maximum length of the agent's first text and of the agent's last text, in characters.
const LONGEST: usize = 3_000;
/// Maximum size in octets of the JSON schema for the values that the agent collects.
const LARGEST_SCHEMA: usize = 64 * 1024;
/// Maximum number of tools in one request.
const MAX_TOOLS: usize = 64;
/// Maximum number of messages in one request.
const MAX_MESSAGES: usize = 100;
/// Maximum length of a message, in characters.
const LONGEST_MESSAGE: usize = 16 * 1024;
/// The authors of messages. The result of a tool is a text that the model knows, like an instruction.
const ROLES: &[(&str, MessageRole)] = &[
    ("user", MessageRole::User),
    ("assistant", MessageRole::Assistant),
    ("system", MessageRole::System),
    ("developer", MessageRole::System),
    ("tool", MessageRole::System),
];
/// Words in place of a language: the recognition expects several languages.
const SEVERAL_LANGUAGES: &[&str] = &["auto", "auto_beta", "codeswitch", "multi"];
/// Parameters of an assistant that a request cannot set. An agent of this server gets these parameters only from its
/// configuration.
const UNSUPPORTED: &[&str] = &["external_llm", "fallback_config", "mcp_servers", "observability_settings"];

/// Parses `ai_assistant_start`. The conversation has no end condition.
pub(super) fn start(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    parameters.refuse_filled(&["participants"])?;
    Ok(converse(ConversationTarget::Agent(Box::new(started(parameters, parameters.object("assistant")?)?))))
}

/// Parses the object `assistant` of `answer` and `dial`. `None` if there is no such object.
pub(super) fn on_answer(parameters: Parameters<'_>) -> Result<Option<AgentSpec>, ApiError> {
    if parameters.get("assistant").is_none() {
        return Ok(None);
    }
    let assistant = parameters.object("assistant")?;
    assistant.required("id").map_err(|error| error.within("assistant"))?;
    started(assistant.object("")?, assistant).map(Some)
}

/// The agent that an assistant becomes. `parameters` has the parameters of the command, besides the assistant.
fn started(parameters: Parameters<'_>, assistant: Parameters<'_>) -> Result<AgentSpec, ApiError> {
    let variables = assistant.object("dynamic_variables")?;
    let filled = |text: Option<&str>| text.map(|text| Arc::from(filled(text, variables.0)));
    let greeting = parameters.sized("greeting", 0..=LONGEST)?.or(assistant.sized("greeting", 0..=LONGEST)?);
    let mut own = Map::new();
    own.extend(assistant.get("instructions").map(|text| ("instructions".to_owned(), text.clone())));
    own.extend(greeting.map(|text| ("greeting".to_owned(), text.into())));
    own.extend(tools(assistant)?.map(|tools| ("tools".to_owned(), tools)));
    let definition = json!({ "assistant": own, "variables": variables.0 });
    Ok(AgentSpec {
        script: Some(definition.to_string().into()),
        name: assistant.text("id")?.unwrap_or_default().into(),
        prompt: filled(assistant.text("instructions")?),
        first_message: filled(greeting),
        ..common(parameters, assistant)?
    })
}

/// Parses `ai_assistant_add_messages`. The agent answers at once if the last message is the caller's.
pub(super) fn add_messages(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    const NAME: &str = "messages";
    let given = parameters.get(NAME).ok_or_else(|| ApiError::missing(NAME))?;
    let given = given.as_array().ok_or_else(|| ApiError::wrong_type(NAME, "array"))?;
    if given.is_empty() || given.len() > MAX_MESSAGES {
        return Err(ApiError::bad_value(NAME, format!("1 to {MAX_MESSAGES} messages must be given.")));
    }
    let message = |message: &Value| {
        let message = message.as_object().map(Parameters).ok_or_else(|| ApiError::wrong_type(NAME, "array"))?;
        let Some(role) = message.word("role", ROLES)? else { return Err(ApiError::missing("role")) };
        let text = message.sized("content", 0..=LONGEST_MESSAGE)?.unwrap_or_default();
        // A message with only tool calls has no text.
        let is_call = role == MessageRole::Assistant && message.get("tool_calls").is_some();
        if text.is_empty() && !is_call {
            return Err(ApiError::missing("content"));
        }
        Ok((!text.is_empty()).then(|| AgentMessage { role, text: text.into() }))
    };
    let parsed: Result<Vec<_>, ApiError> = given.iter().map(message).collect();
    let messages: Vec<AgentMessage> = parsed.map_err(|error| error.within(NAME))?.into_iter().flatten().collect();
    let answer = messages.last().is_some_and(|last| last.role == MessageRole::User);
    Ok(Command::AskConversation(ConversationRequest::AddMessages { messages, answer }))
}

/// Parses `gather_using_ai`. The conversation ends when all values of a schema are known.
pub(super) fn gather(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    parameters.get("parameters").ok_or_else(|| ApiError::missing("parameters"))?;
    let mut schema = parameters.object("parameters")?.0.clone();
    schema.entry("type").or_insert_with(|| "object".into());
    let schema = Value::Object(schema);
    if schema.to_string().len() > LARGEST_SCHEMA {
        return Err(ApiError::wrong_length("parameters", 1, LARGEST_SCHEMA));
    }
    let assistant = parameters.object("assistant")?;
    let common = common(parameters, assistant)?;
    let language = parameters.text("language")?.map(Arc::from).or_else(|| common.language.clone());
    let reports_partial_results = parameters.flag("send_partial_results")?;
    let definition = tools(assistant)?.map(|tools| {
        let mut own = Map::new();
        own.extend(assistant.get("instructions").map(|text| ("instructions".to_owned(), text.clone())));
        own.insert("tools".to_owned(), tools);
        json!({ "assistant": own, "collect": schema, "partial_results": reports_partial_results })
    });
    let agent = AgentSpec {
        script: definition.map(|definition| definition.to_string().into()),
        prompt: assistant.text("instructions")?.map(Into::into),
        // Without a greeting the caller speaks first.
        first_message: Some(parameters.sized("greeting", 0..=LONGEST)?.unwrap_or_default().into()),
        language,
        collect_schema: Some(schema.to_string().into()),
        closing_message: parameters.sized("gather_ended_speech", 0..=LONGEST)?.map(Into::into),
        silence: parameters.milliseconds("user_response_timeout_ms", 1_000..=600_000)?,
        reports_partial_results,
        ..common
    };
    Ok(converse(ConversationTarget::Agent(Box::new(agent))))
}

/// The tools in a request. `None` if there are none.
fn tools(assistant: Parameters<'_>) -> Result<Option<Value>, ApiError> {
    let Some(given) = assistant.get("tools") else { return Ok(None) };
    let all = given.as_array().ok_or_else(|| ApiError::wrong_type("tools", "array").within("assistant"))?;
    if all.len() > MAX_TOOLS {
        let detail = format!("At most {MAX_TOOLS} tools may be given.");
        return Err(ApiError::bad_value("tools", detail).within("assistant"));
    }
    for tool in all {
        let refused = |why: String| ApiError::bad_value("tools", sentence(why)).within("assistant");
        Tool::parse(tool).map_err(refused)?;
    }
    Ok((!all.is_empty()).then(|| given.clone()))
}

/// Parses the parameters that both actions share. The model and the model's key come from the configuration.
fn common(parameters: Parameters<'_>, assistant: Parameters<'_>) -> Result<AgentSpec, ApiError> {
    assistant.refuse_filled(UNSUPPORTED).map_err(|error| error.within("assistant"))?;
    assistant.text("model")?;
    parameters.object("voice_settings")?;
    let settings = parameters.object("interruption_settings")?;
    Ok(AgentSpec {
        voice: parameters.text("voice")?.map(Into::into),
        interruptible: settings.get("enable").map(|_| settings.flag("enable")).transpose()?,
        history: history(parameters)?,
        language: language(parameters.object("transcription")?)?.map(Into::into),
        reports_utterances: parameters.flag("send_message_history_updates")?,
        ..AgentSpec::default()
    })
}

/// The language in the settings of the recognition. `None` for a word that stands for several languages, because a voice
/// speaks one language.
pub(super) fn language(transcription: Parameters<'_>) -> Result<Option<&str>, ApiError> {
    let language = transcription.text("language")?;
    Ok(language.filter(|language| !language.is_empty() && !SEVERAL_LANGUAGES.contains(language)))
}

/// The value of `message_history`. Messages with a role other than the agent and the caller are left out.
fn history(parameters: Parameters<'_>) -> Result<Vec<Utterance>, ApiError> {
    let Some(messages) = parameters.get("message_history") else { return Ok(Vec::new()) };
    let messages = messages.as_array().ok_or_else(|| ApiError::wrong_type("message_history", "array"))?;
    let line = |message: &Value| {
        let by_agent = match message.get("role")?.as_str()? {
            "assistant" => true,
            "user" => false,
            _ => return None,
        };
        Some(Utterance { by_agent, text: message.get("content")?.as_str()?.into() })
    };
    Ok(messages.iter().filter_map(line).collect())
}

/// Replaces each `{{name}}` in a text with the variable's value. Unknown names stay unchanged.
fn filled(text: &str, variables: &Map<String, Value>) -> String {
    let mut filled = text.to_owned();
    for (name, value) in variables {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        filled = filled.replace(&format!("{{{{{name}}}}}"), &value);
    }
    filled
}

/// The command that starts a conversation.
pub(super) fn converse(with: ConversationTarget) -> Command {
    begin(ConversationSpec::new(with))
}

/// The command that starts this conversation.
pub(super) fn begin(spec: ConversationSpec) -> Command {
    Command::Enqueue(Box::new(Instruction::Converse(Converse { spec: Box::new(spec), action: None })))
}

/// A conversation that a request starts. The answer to the request has the id of the conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begun {
    Assistant(u128),
    Relay(ConversationId),
}

impl Begun {
    /// Adds the id of the conversation to the data of the answer.
    pub(super) fn add_to(self, data: &mut Map<String, Value>) {
        match self {
            Self::Assistant(id) => data.insert("conversation_id".to_owned(), id::uuid_v4(id).into()),
            Self::Relay(id) => data.insert("conversation_relay_id".to_owned(), conversation::session_id(id).into()),
        };
    }
}

/// Completes a command that starts a conversation: sets the agent and the conversation's id. Returns `None` for any
/// other command.
pub(super) fn settle(command: &mut Command, own: &Own<'_>, id: u128) -> Result<Option<Begun>, ApiError> {
    let Command::Enqueue(instruction) = command else { return Ok(None) };
    let Instruction::Converse(converse) = &mut **instruction else { return Ok(None) };
    settle_spec(&mut converse.spec, own, id).map(Some)
}

/// The agents that a request may use.
pub(super) struct Own<'a> {
    pub(super) account: &'a AccountName,
    pub(super) agents: &'a Agents,
    pub(super) inventory: &'a Inventory,
    /// The value of `model` in the request.
    pub(super) model: Option<&'a str>,
}

impl Own<'_> {
    /// The assistant of the account with this id.
    fn stored(&self, id: &str) -> Option<Arc<Resource<StoredAgent>>> {
        self.inventory.agents.find_own(self.account, id)
    }
}

/// The definition of an agent: the members of `base`, replaced by those of the request.
fn merged(base: Value, definition: Map<String, Value>) -> Value {
    let mut definition = definition;
    let mut assistant = base;
    if let (Some(assistant), Some(Value::Object(own))) = (assistant.as_object_mut(), definition.remove("assistant")) {
        assistant.extend(own);
    }
    definition.insert("assistant".to_owned(), assistant);
    Value::Object(definition)
}

/// Does the same as [`settle`] for a conversation.
pub(super) fn settle_spec(spec: &mut ConversationSpec, own: &Own<'_>, id: u128) -> Result<Begun, ApiError> {
    let ConversationTarget::Agent(agent) = &mut spec.with else {
        spec.id = Some(ConversationId(id));
        return Ok(Begun::Relay(ConversationId(id)));
    };
    let definition: Map<String, Value> =
        agent.script.take().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    if agent.name.is_empty() {
        let named = own.model.and_then(|model| own.agents.get(model));
        let fits = named.or_else(|| own.agents.default_agent()).ok_or_else(|| ApiError::missing("assistant"))?;
        agent.name = Arc::clone(&fits.name);
    }
    if let Some(configured) = own.agents.find(&agent.name) {
        // The configuration defines the agent, unless the request brings tools.
        let tools = definition.get("assistant").and_then(|own| own.get("tools")).and_then(Value::as_array);
        if tools.is_some_and(|tools| !tools.is_empty()) {
            let base = json!({ "instructions": configured.prompt });
            agent.script = Some(merged(base, definition).to_string().into());
        }
    } else if let Some(stored) = own.stored(&agent.name) {
        // The settings of the assistant take precedence over the parameter of the request.
        let reports = stored.details.definition.get("telephony_settings");
        let reports =
            reports.and_then(|settings| settings.get("send_message_history_updates")).and_then(Value::as_bool);
        agent.reports_utterances = reports.unwrap_or(agent.reports_utterances);
        let base = Value::Object(stored.details.definition.clone());
        agent.script = Some(merged(base, definition).to_string().into());
    } else {
        let detail = format!("There is no assistant with the id {}.", agent.name);
        return Err(ApiError::bad_value("assistant", detail));
    }
    if agent.script.is_some() && agent.collect_schema.is_none() {
        // The script has the prompt and the greeting. It says the greeting when it has the values of all variables.
        (agent.prompt, agent.first_message) = (None, None);
    }
    agent.conversation = Some(id);
    Ok(Begun::Assistant(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_variables_are_replaced_and_unknown_variables_stay() {
        let variables = json!({ "name": "Ann", "age": 7 });
        let text = filled("{{name}} is {{age}}, {{unknown}}", variables.as_object().unwrap());
        assert_eq!(text, "Ann is 7, {{unknown}}");
    }
}
