//! Conversations with a voice agent: `ai_assistant_start` and `gather_using_ai`. The agent is one of this server's
//! agents. Parameters in the request take precedence over the agent's configuration.

use std::sync::Arc;

use serde_json::{Map, Value};
use tandem_agent::Agents;
use tandem_call::command::Command;
use tandem_call::conversation::{AgentSpec, ConversationSpec, ConversationTarget, Utterance};
use tandem_call::program::instruction::{Converse, Instruction};

use super::error::ApiError;
use super::parameters::Parameters;

/// Maximum length of the agent's first text and of the agent's last text, in characters.
const LONGEST: usize = 3_000;
/// Maximum size in octets of the JSON schema for the values that the agent collects.
const LARGEST_SCHEMA: usize = 64 * 1024;
/// Parameters of an assistant that a request cannot set. An agent of this server gets these parameters only from its
/// configuration.
const OWN: &[&str] = &["tools", "external_llm", "mcp_servers"];

/// Parses `ai_assistant_start`. The conversation has no end condition.
pub(super) fn start(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    parameters.refuse_filled(&["participants"])?;
    let assistant = parameters.object("assistant")?;
    let variables = assistant.object("dynamic_variables")?;
    let filled = |text: Option<&str>| text.map(|text| Arc::from(filled(text, variables.0)));
    let greeting = parameters.sized("greeting", 0..=LONGEST)?.or(assistant.text("greeting")?);
    let agent = AgentSpec {
        name: assistant.text("id")?.unwrap_or_default().into(),
        prompt: filled(assistant.text("instructions")?),
        first_message: filled(greeting),
        ..common(parameters, assistant)?
    };
    let language = parameters.object("transcription")?.text("language")?.filter(|language| *language != "auto");
    parameters.flag("send_message_history_updates")?;
    Ok(converse(AgentSpec { language: language.map(Into::into), ..agent }))
}

/// Parses `gather_using_ai`. The conversation ends when all values of a schema are known.
pub(super) fn gather(parameters: Parameters<'_>) -> Result<Command, ApiError> {
    parameters.get("parameters").ok_or_else(|| ApiError::missing("parameters"))?;
    let mut schema = parameters.object("parameters")?.0.clone();
    schema.entry("type").or_insert_with(|| "object".into());
    let schema = Value::Object(schema).to_string();
    if schema.len() > LARGEST_SCHEMA {
        return Err(ApiError::wrong_length("parameters", 1, LARGEST_SCHEMA));
    }
    let assistant = parameters.object("assistant")?;
    let transcription_language =
        parameters.object("transcription")?.text("language")?.filter(|language| *language != "auto");
    let language = parameters.text("language")?.or(transcription_language);
    parameters.flag("send_partial_results")?;
    Ok(converse(AgentSpec {
        prompt: assistant.text("instructions")?.map(Into::into),
        // Without a greeting the caller speaks first.
        first_message: Some(parameters.sized("greeting", 0..=LONGEST)?.unwrap_or_default().into()),
        language: language.map(Into::into),
        collect_schema: Some(schema.into()),
        closing_message: parameters.sized("gather_ended_speech", 0..=LONGEST)?.map(Into::into),
        silence: parameters.milliseconds("user_response_timeout_ms", 1_000..=600_000)?,
        reports_utterances: parameters.flag("send_message_history_updates")?,
        ..common(parameters, assistant)?
    }))
}

/// Parses the parameters that both actions share. The model and the model's key come from the configuration.
fn common(parameters: Parameters<'_>, assistant: Parameters<'_>) -> Result<AgentSpec, ApiError> {
    assistant.refuse_filled(OWN).map_err(|error| error.within("assistant"))?;
    assistant.text("model")?;
    parameters.object("voice_settings")?;
    let settings = parameters.object("interruption_settings")?;
    Ok(AgentSpec {
        voice: parameters.text("voice")?.map(Into::into),
        interruptible: settings.get("enable").map(|_| settings.flag("enable")).transpose()?,
        history: history(parameters)?,
        ..AgentSpec::default()
    })
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

fn converse(agent: AgentSpec) -> Command {
    let spec = Box::new(ConversationSpec::new(ConversationTarget::Agent(Box::new(agent))));
    Command::Enqueue(Box::new(Instruction::Converse(Converse { spec, action: None })))
}

/// Completes a command that starts a conversation: sets the agent's name and the conversation's id. Returns the id of
/// the conversation. Returns `None` for any other command.
pub(super) fn settle(command: &mut Command, agents: &Agents, conversation: u128) -> Result<Option<u128>, ApiError> {
    let Command::Enqueue(instruction) = command else { return Ok(None) };
    let Instruction::Converse(converse) = &mut **instruction else { return Ok(None) };
    let ConversationTarget::Agent(agent) = &mut converse.spec.with else { return Ok(None) };
    if agent.name.is_empty() {
        let only = agents.only().ok_or_else(|| ApiError::missing("assistant"))?;
        agent.name = Arc::clone(only);
    } else if agents.get(&agent.name).is_none() {
        let detail = format!("There is no assistant with the id {}.", agent.name);
        return Err(ApiError::bad_value("assistant", detail));
    }
    agent.conversation = Some(conversation);
    Ok(Some(conversation))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_variables_are_replaced_and_unknown_variables_stay() {
        let variables = json!({ "name": "Ann", "age": 7 });
        let text = filled("{{name}} is {{age}}, {{unknown}}", variables.as_object().unwrap());
        assert_eq!(text, "Ann is 7, {{unknown}}");
    }
}
