//! A leg's conversation with an application: the start, the connection to the leg's audio, and the end.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem_call::command::Request;
use tandem_call::conversation::{
    AgentSpec, ConversationRequest, ConversationSpec, ConversationStatus, ConversationTarget,
};
use tandem_call::leg::{LegInfo, Status};
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::{SendDigits, Warning};
use tandem_conversations::{ConversationUpdate, NewConversation};
use tandem_host::clock;
use tandem_id::{AccountName, ConversationId, LegId, OpId};
use tandem_media as media;

use super::CallTask;
use super::port::InboxPort;
use crate::inbox::{Inbox, Message};
use crate::services::Services;

impl CallTask {
    pub(super) fn converse(
        &mut self,
        leg: LegId,
        op: OpId,
        id: ConversationId,
        spec: ConversationSpec,
        status: Status,
    ) {
        let Some(info) = self.state.call.leg(leg).cloned() else { return };
        let services = &self.services;
        let found = services.dialects.get(&info.dialect).zip(services.accounts.by_name(&info.account));
        let wire =
            found.as_ref().and_then(|(dialect, account)| dialect.conversation(account, &info, status, id, &spec));
        let mut spec = spec;
        if let ConversationTarget::Agent(agent) = &mut spec.with {
            resolve_stored(services, &info.account, agent);
        }
        let definition = match &spec.with {
            ConversationTarget::Agent(agent) => agent.script.clone(),
            ConversationTarget::Application(_) => None,
        };
        let script = definition.map(|definition| {
            let made =
                found.as_ref().and_then(|(dialect, account)| dialect.agent_script(account, &info, id, &definition));
            made.unwrap_or_else(|| Err("the dialect of the call has no agents that documents define".to_owned()))
        });
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let own = found.map_or_else(|| id.to_string(), |(dialect, _)| dialect.conversation_id(id));
        let names = (own, services.call_id(&info));
        let new =
            NewConversation { leg, account: info.account.clone(), id, op, spec, wire, script, provider_ids: names };
        let call = InboxPort::new(&self.inbox, move |inbox: &Inbox, update: ConversationUpdate| {
            inbox.post(Message::Conversation { leg, id, update: Box::new(update) })
        });
        live.attachments.conversation = Some(services.conversations.start(Box::new(call), new));
    }

    /// Lets the agents that have left for a document, and cannot come back to a leg that has ended, send their reports.
    pub(super) fn finish_absent_agents(&self, info: &LegInfo) {
        let Some(live) = self.state.legs.get(&info.id) else { return };
        let services = &self.services;
        let Some((dialect, account)) =
            services.dialects.get(&info.dialect).zip(services.accounts.by_name(&info.account))
        else {
            return;
        };
        let id = ConversationId(info.id.0);
        for agent in live.script.take_absent_agents() {
            let definition = agent.script.clone().unwrap_or_default();
            let Some(Ok(script)) = dialect.agent_script(&account, info, id, &definition) else { continue };
            let leg = info.id;
            let call = InboxPort::new(&self.inbox, move |inbox: &Inbox, update: ConversationUpdate| {
                inbox.post(Message::Conversation { leg, id, update: Box::new(update) })
            });
            services.conversations.finish_absent(Box::new(call), leg, &info.account, agent, script);
        }
    }

    pub(super) fn handle_conversation(&mut self, leg: LegId, id: ConversationId, update: ConversationUpdate) {
        let own = self
            .state
            .legs
            .get(&leg)
            .and_then(|live| live.attachments.conversation.as_ref())
            .filter(|own| own.id == id);
        match (update, own.map(|own| own.op)) {
            (ConversationUpdate::Command(command), _) => {
                // The call writes the result to its log.
                let _ = self.state.call.handle_request(
                    clock::now(),
                    leg,
                    Request { client_state: None, command: *command },
                );
            }
            (ConversationUpdate::Warned(message), _) => {
                let warning = Warning { code: 0, message };
                self.state.call.handle_leg(clock::now(), leg, LegEvent::Warned(warning));
            }
            // The report of an agent after its conversation failed.
            (ConversationUpdate::EngineFailed(failure), None) => {
                self.state.call.handle_leg(clock::now(), leg, LegEvent::EngineFailed(failure));
            }
            (_, None) => {}
            (ConversationUpdate::Ready { sink, source }, Some(op)) => {
                let Some(live) = self.state.legs.get(&leg) else { return };
                live.io.command(media::Command::Tap { op, tracks: media::Tracks::Inbound, sink });
                live.io.command(media::Command::Source { op, source });
                let started = LegEvent::Conversation { id, status: ConversationStatus::Started };
                self.state.call.handle_leg(clock::now(), leg, started);
            }
            (ConversationUpdate::SendDigits(digits), Some(op)) => self.send_dtmf(leg, op, digits),
            (ConversationUpdate::Utterance(line), Some(_)) => {
                let utterance = LegEvent::Conversation { id, status: ConversationStatus::Utterance(line) };
                self.state.call.handle_leg(clock::now(), leg, utterance);
            }
            (ConversationUpdate::PartialResult(values), Some(_)) => {
                let status = ConversationStatus::PartialResult(values);
                self.state.call.handle_leg(clock::now(), leg, LegEvent::Conversation { id, status });
            }
            (ConversationUpdate::EngineFailed(failure), Some(_)) => {
                own.iter().for_each(|own| own.live.failed(&failure));
                self.state.call.handle_leg(clock::now(), leg, LegEvent::EngineFailed(failure));
            }
            (ConversationUpdate::HungUp, Some(_)) => {
                self.state.call.handle_leg(clock::now(), leg, LegEvent::AgentHungUp);
            }
            (ConversationUpdate::Over(status), Some(_)) => {
                self.end_conversation(leg, id);
                self.state.call.handle_leg(clock::now(), leg, LegEvent::Conversation { id, status });
            }
        }
    }

    /// Passes a request of an application to the conversation.
    pub(super) fn ask_conversation(&self, leg: LegId, id: ConversationId, request: ConversationRequest) {
        let own = self.state.legs.get(&leg).and_then(|live| live.attachments.conversation.as_ref());
        if let Some(own) = own.filter(|own| own.id == id) {
            own.ask(request);
        }
    }

    /// Sends DTMF digits for a WebSocket application. The function does not wait for the end of the digits, because the
    /// audio of the application pauses automatically during the digits.
    pub(super) fn send_dtmf(&mut self, leg: LegId, op: OpId, digits: String) {
        self.command(leg, LegCommand::SendDigits { op, digits: SendDigits::new(digits), elapsed: None });
    }

    /// Removes a conversation, and disconnects the conversation from the leg's audio.
    pub(super) fn end_conversation(&mut self, leg: LegId, id: ConversationId) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        if let Some(conversation) = live.attachments.conversation.take_if(|own| own.id == id) {
            conversation.stop();
            let op = conversation.op;
            live.io.command(media::Command::Untap { op });
            live.io.command(media::Command::Unsource { op });
        }
    }
}

/// Gives an agent that the account has stored its definition, and the agent of the configuration that has its model. Does
/// nothing for an agent of the configuration, and for an unknown agent.
fn resolve_stored(services: &Services, account: &AccountName, agent: &mut AgentSpec) {
    let (agents, routing) = (services.conversations.agents.load(), services.routing.load());
    let variables = agent.script.as_deref().and_then(only_variables);
    if agents.find(&agent.name).is_some() {
        if variables.is_some() {
            // The texts of the configuration have no variables.
            agent.script = None;
        }
        return;
    }
    let Some(row) = routing.inventory().agents.find_own(account, &agent.name) else { return };
    let stored = &row.details;
    let Some(model) = agents.get(&stored.model).or_else(|| agents.default_agent()) else { return };
    agent.name = Arc::clone(&model.name);
    let definition = || Value::Object(stored.definition.clone());
    match variables {
        Some(variables) => {
            agent.script = Some(json!({ "assistant": definition(), "variables": variables }).to_string().into());
        }
        None => {
            agent.script.get_or_insert_with(|| definition().to_string().into());
        }
    }
    agent.language = agent.language.take().or_else(|| stored.language.as_deref().map(Into::into));
    agent.voice = agent.voice.take().or_else(|| stored.voice.as_deref().map(Into::into));
    agent.interruptible = agent.interruptible.or(stored.interruptible);
}

/// The values of the variables for the agent, if a document gives these values and no definition.
fn only_variables(script: &str) -> Option<Value> {
    let mut script: Map<String, Value> = serde_json::from_str(script).ok()?;
    let variables = script.remove("variables")?;
    script.is_empty().then_some(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_with_only_variables_has_no_definition() {
        assert_eq!(only_variables(r#"{"variables":{"a":"b"}}"#), Some(json!({ "a": "b" })));
        assert_eq!(only_variables(r#"{"assistant":{},"variables":{"a":"b"}}"#), None);
        assert_eq!(only_variables(r#"{"instructions":"x"}"#), None);
        assert_eq!(only_variables("{"), None);
    }
}
