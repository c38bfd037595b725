//! A leg's conversation with an application: the start, the connection to the leg's audio, and the end.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::command::{Command, Request};
use tandem_call::conversation::{ConversationSpec, ConversationStatus};
use tandem_call::leg::Status;
use tandem_call::output::{LegCommand, LegEvent};
use tandem_call::program::instruction::SendDigits;
use tandem_call::stream::CallOver;
use tandem_conversations::{ConversationCall, ConversationUpdate, NewConversation};
use tandem_history::event_log::Line;
use tandem_host::clock;
use tandem_id::{ConversationId, LegId, OpId};
use tandem_media as media;
use tokio::sync::oneshot;

use super::CallTask;
use crate::inbox::{Inbox, Message};

/// Duration of a digit that an application sends.
const TONE: Duration = Duration::from_millis(100);

/// The call of a conversation. This type passes the conversation's reports and commands to the call's inbox.
struct CallOfConversation {
    inbox: Inbox,
    leg: LegId,
    id: ConversationId,
}

impl ConversationCall for CallOfConversation {
    fn report(&self, update: ConversationUpdate) -> Result<(), CallOver> {
        let (leg, id, update) = (self.leg, self.id, Box::new(update));
        self.inbox.post(Message::Conversation { leg, id, update }).map_err(|_| CallOver)
    }

    fn request(&self, command: Command) {
        let request = Box::new(Request { client_state: None, command });
        // Nobody reads the reply, because the call writes the result to the log.
        let (reply, _) = oneshot::channel();
        // The call may be over.
        let _ = self.inbox.post(Message::Request { leg: self.leg, request, reply });
    }

    fn log(&self, line: Line) {
        self.inbox.log().push_line(line);
    }
}

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
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let own = found.map_or_else(|| id.to_string(), |(dialect, _)| dialect.conversation_id(id));
        let names = (own, services.call_id(&info));
        let new = NewConversation { leg, account: Arc::clone(&info.account), id, op, spec, wire, provider_ids: names };
        let call = Box::new(CallOfConversation { inbox: self.inbox.clone(), leg, id });
        live.conversation = Some(services.conversations.start(call, new));
    }

    pub(super) fn handle_conversation(&mut self, leg: LegId, id: ConversationId, update: ConversationUpdate) {
        let Some(live) = self.state.legs.get(&leg) else { return };
        let Some(op) = live.conversation.as_ref().filter(|own| own.id == id).map(|own| own.op) else { return };
        match update {
            ConversationUpdate::Ready { sink, source } => {
                let tap = op;
                live.io.command(media::Command::Tap { op: tap, tracks: media::Tracks::Inbound, sink });
                live.io.command(media::Command::Source { op: tap, source });
                let started = LegEvent::Conversation { id, status: ConversationStatus::Started };
                self.state.call.handle_leg(clock::now(), leg, started);
            }
            ConversationUpdate::SendDigits(digits) => self.send_dtmf(leg, op, digits),
            ConversationUpdate::Utterance(line) => {
                let said = LegEvent::Conversation { id, status: ConversationStatus::Utterance(line) };
                self.state.call.handle_leg(clock::now(), leg, said);
            }
            ConversationUpdate::EngineFailed(failure) => {
                self.state.call.handle_leg(clock::now(), leg, LegEvent::EngineFailed(failure));
            }
            ConversationUpdate::HungUp => self.state.call.handle_leg(clock::now(), leg, LegEvent::AgentHungUp),
            ConversationUpdate::Over(status) => {
                self.end_conversation(leg, id);
                self.state.call.handle_leg(clock::now(), leg, LegEvent::Conversation { id, status });
            }
        }
    }

    /// Sends DTMF digits for a WebSocket application. The function does not wait for the end of the digits, because the
    /// audio of the application pauses automatically during the digits.
    pub(super) fn send_dtmf(&mut self, leg: LegId, op: OpId, digits: String) {
        self.command(leg, LegCommand::SendDigits { op, digits: SendDigits { digits, tone: TONE }, elapsed: None });
    }

    /// Removes a conversation, and disconnects the conversation from the leg's audio.
    pub(super) fn end_conversation(&mut self, leg: LegId, id: ConversationId) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        if let Some(conversation) = live.conversation.take_if(|own| own.id == id) {
            conversation.stop();
            let op = conversation.op;
            live.io.command(media::Command::Untap { op });
            live.io.command(media::Command::Unsource { op });
        }
    }
}
