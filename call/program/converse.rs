//! The converse instruction. The leg waits until the application or the caller ends the conversation.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Target;
use crate::call::Abort;
use crate::conversation::{
    AgentFacts, AgentSpec, ConversationFacts, ConversationSpec, ConversationStatus, ConversationTarget,
};
use crate::event::EventKind;
use crate::fetch::FetchReason;
use crate::leg::{EndFailure, Status};
use crate::leg_cx::LegCx;
use crate::output::LegCommand;
use crate::program::instruction::Converse;
use crate::program::{Input, Running, Step};
use crate::resume::Standing;
use tandem_id::{ConversationId, OpId};

/// A running converse instruction.
#[derive(Serialize, Deserialize)]
pub(crate) struct Conversing {
    op: OpId,
    id: ConversationId,
    spec: Box<ConversationSpec>,
    /// Status of the leg before the instruction began.
    status: Status,
    action: Option<Target>,
    began: Timestamp,
    /// Whether the application is connected, or the agent has started.
    started: bool,
    agent: Option<AgentFacts>,
}

/// Maximum number of utterances that are stored for a conversation with an agent. Older utterances are dropped.
const MAX_UTTERANCES: usize = 200;

impl Conversing {
    pub(crate) fn begin(cx: &mut LegCx<'_>, converse: Converse) -> Step {
        let new_id = ConversationId::new(cx.now().time, &mut cx.call.entropy.next_rng());
        let (id, op) = (converse.spec.id.unwrap_or(new_id), cx.new_op());
        let began = cx.now().time;
        // If the leg was answered at this same moment, this instruction caused the answer. The application then
        // receives the status before the answer: ringing.
        let answered_for_it = cx.leg.info.answered_at == Some(began);
        let status = if answered_for_it { Status::Ringing } else { Status::InProgress };
        let agent = match &converse.spec.with {
            ConversationTarget::Agent(spec) => {
                Some(AgentFacts { spec: Arc::new((**spec).clone()), utterances: Vec::new() })
            }
            ConversationTarget::Application(_) => None,
        };
        let Converse { spec, action } = converse;
        cx.command(LegCommand::Converse { op, id, spec: spec.clone(), status });
        Step::Stay(Running::Converse(Self { op, id, spec, status, action, began, started: false, agent }))
    }

    pub(crate) fn handle(mut self, cx: &mut LegCx<'_>, input: Input) -> Step {
        let Input::Conversation { id, mut status } = input else { return Step::Stay(Running::Converse(self)) };
        if id != self.id {
            return Step::Stay(Running::Converse(self));
        }
        self.started |= status == ConversationStatus::Started;
        let goes_on = matches!(
            status,
            ConversationStatus::Started | ConversationStatus::Utterance(_) | ConversationStatus::PartialResult(_)
        );
        if let (ConversationStatus::Utterance(line), Some(agent)) = (&status, &mut self.agent) {
            if agent.utterances.len() == MAX_UTTERANCES {
                agent.utterances.remove(0);
            }
            agent.utterances.push(line.clone());
        }
        if let (ConversationStatus::Failed { why, .. }, None) = (&mut status, &self.action) {
            why.is_fatal = cx.leg.has_only_this_left();
            cx.leg.failure = why.is_fatal.then(|| Box::new(EndFailure::Conversation(why.clone())));
        }
        let facts = self.report_status(cx, status);
        match self.action {
            _ if goes_on => Step::Stay(Running::Converse(self)),
            Some(action) => Step::Fetch(action, FetchReason::Conversed(Box::new(facts))),
            None => Step::Next,
        }
    }

    /// Returns the id of the conversation.
    pub(crate) fn id(&self) -> ConversationId {
        self.id
    }

    /// Returns the instruction that continues this conversation with an agent. It is a new conversation with a new id, because
    /// reports of this conversation may still arrive.
    pub(crate) fn again(&self, agent: Box<AgentSpec>) -> Converse {
        let with = ConversationTarget::Agent(agent);
        let spec = ConversationSpec { with, id: None, greeting: None, ..(*self.spec).clone() };
        Converse { spec: Box::new(spec), action: self.action.clone() }
    }

    /// Continues the conversation. A greeting that has begun is not spoken again, and an agent knows the utterances so far.
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let (op, id, mut spec, status) = (self.op, self.id, self.spec.clone(), self.status);
        if self.started {
            spec.greeting = None;
        }
        if let (ConversationTarget::Agent(agent), Some(facts)) = (&mut spec.with, &self.agent)
            && !facts.utterances.is_empty()
        {
            agent.history.extend_from_slice(&facts.utterances);
            (agent.first_message, agent.event) = (Some("".into()), None);
        }
        standing.command(LegCommand::Converse { op, id, spec, status });
    }

    /// Ends the conversation. If the caller hung up, the action is still requested, but the response is ignored.
    pub(crate) fn abort(self, cx: &mut LegCx<'_>, why: Abort) {
        cx.command(LegCommand::StopConversation { id: self.id });
        let facts = self.report_status(cx, ConversationStatus::Completed);
        if let Some(action) = self.action.filter(|_| why == Abort::Hangup) {
            cx.request_fetch(action, FetchReason::Conversed(Box::new(facts)));
        }
    }

    fn report_status(&self, cx: &mut LegCx<'_>, status: ConversationStatus) -> ConversationFacts {
        let duration = cx.now().since(self.began);
        let facts = ConversationFacts { id: self.id, status, duration, agent: self.agent.clone() };
        cx.emit(EventKind::Conversation(Box::new(facts.clone())));
        facts
    }
}
