//! The method `ai`: a conversation with a voice agent of this server, which behaves as the document says. `amazon_bedrock` is
//! the same with another model in the cloud; here it has the same model.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tandem_call::conversation::{
    AgentSpec, ConversationFacts, ConversationSpec, ConversationStatus, ConversationTarget, Utterance,
};
use tandem_call::program::instruction::{Converse, Instruction};

use super::document::Document;
use super::error::{Code, Fault};
use super::frame::Entry;
use super::interpreter::{Flow, Interpreter, Next, PendingResult};
use super::method::{does, next};
use super::parameters::{WEB, is_url};
use super::value::{Object, Value};
use super::written;
use crate::ai::{Continuation, Outcome, Saved, Seed, check};

/// Maximum number of utterances that an agent knows when it comes back.
const MAX_HISTORY: usize = 200;
/// Maximum number of agents of a call that wait for the end of a document. The one that has waited longest comes back without its
/// state.
const MAX_AWAY: usize = 8;

/// The data of the agents of a call.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct AgentMemory {
    /// The global data of the last agent, as the text of a JSON object.
    global_data: Option<String>,
    /// The names of the last agent that its documents can use: `global_data`, `caller_id_number` ...
    #[serde(with = "written", default)]
    pub(super) names: Object,
    /// The agents that come back when the documents of their actions have ended, innermost last.
    #[serde(default)]
    away: Vec<AwayAgent>,
}

/// An agent that waits for the end of a document.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct AwayAgent {
    /// Number of frames when the method of the agent runs. The agent of another method has another number, because the documents
    /// run above the method.
    depth: usize,
    /// The agent in its present state.
    agent: AgentSpec,
}

impl AgentMemory {
    /// Takes the agents that wait for a document of a script that has ended.
    pub(super) fn take_absent(&mut self) -> Vec<AgentSpec> {
        std::mem::take(&mut self.away).into_iter().map(|away| away.agent).collect()
    }
}

impl Interpreter {
    /// Starts the agent, or lets it come back.
    pub(super) fn agent(&mut self, method: &str, parameters: &Object) -> Result<Flow, Fault> {
        let ai = Value::Object(parameters.clone()).to_json();
        let (saved, history) = self.returning_agent();
        match check(&ai) {
            Ok(warnings) if saved.is_none() => {
                for warning in warnings {
                    self.warn(Code::MethodParameterInvalidValue, warning);
                }
            }
            Ok(_) => {}
            Err(why) => {
                self.warn(Code::MethodExecuteFailed, &why);
                self.agent_failed(method, format!("{method}: {why}"));
                return Ok(Flow::Continue);
            }
        }
        let global_data = self.memory.global_data.as_deref().and_then(|data| serde_json::from_str(data).ok());
        let model = ai.get("params").and_then(|params| params.get("ai_model")).and_then(Json::as_str);
        let name = model.filter(|_| method == "ai").unwrap_or_default().trim().into();
        let contexts = parameters.get("prompt").and_then(Value::object).and_then(|prompt| prompt.get("contexts"));
        let contexts = contexts.and_then(Value::object).into_iter().flat_map(Object::iter);
        let comes_back = saved.is_some();
        let seed = Seed {
            contexts: contexts.map(|(name, _)| name.to_owned()).collect(),
            call: Value::Object(self.context.call.clone()).to_json(),
            vars: Value::Object(self.vars.clone()).to_json(),
            global_data: global_data.unwrap_or_default(),
            saved,
            ai,
        };
        let script = serde_json::to_string(&seed).unwrap_or_default().into();
        let agent = AgentSpec { name, script: Some(script), history, ..AgentSpec::default() };
        let spec = ConversationSpec::new(ConversationTarget::Agent(Box::new(agent)));
        // The words for an agent that comes back belong to it, although another agent may run first.
        if comes_back {
            self.unset("ai_response");
        }
        self.waits = PendingResult::Agent { method: method.to_owned() };
        does(vec![Instruction::Converse(Converse { spec: Box::new(spec), action: Some(next()) })])
    }

    /// Takes the state and the utterances of the agent of the running method, if this agent comes back.
    fn returning_agent(&mut self) -> (Option<Box<Saved>>, Vec<Utterance>) {
        let depth = self.depth();
        self.memory.away.retain(|agent| agent.depth <= depth);
        match self.memory.away.pop_if(|agent| agent.depth == depth) {
            Some(AwayAgent { agent, .. }) => (seed_of(&agent).saved, agent.history),
            None => (None, Vec::new()),
        }
    }

    /// Continues the script after the agent has left.
    ///
    /// # Errors
    /// The errors of [`Interpreter::next`].
    pub(super) fn agent_left(
        &mut self,
        method: &str,
        facts: Option<&ConversationFacts>,
    ) -> Result<Option<Next>, Fault> {
        let text = match facts.map(|facts| &facts.status) {
            Some(ConversationStatus::Ended(text)) => text.as_deref(),
            Some(ConversationStatus::Failed { why, .. }) => {
                self.agent_failed(method, format!("{method}: {}", why.detail));
                return Ok(None);
            }
            _ => None,
        };
        self.set(&format!("{method}_result"), "success");
        self.set("return_value", "success");
        let Some(outcome) = text.and_then(|text| serde_json::from_str::<Outcome>(text).ok()) else { return Ok(None) };
        self.memory.global_data = serde_json::to_string(&outcome.global_data).ok().filter(|_| outcome.persists);
        self.memory.names = agent_names(&outcome);
        for warning in &outcome.warnings {
            self.warn(Code::MethodExecuteFailed, warning);
        }
        let next = match outcome.then {
            None => None,
            Some(Continuation::Transfer(document)) => {
                self.agent_document(document, Entry::Transfer);
                None
            }
            Some(Continuation::Return(saved)) => {
                let history = facts.and_then(|facts| facts.agent.as_ref()).map_or_else(Vec::new, |agent| {
                    let earlier = agent.spec.history.iter().chain(&agent.utterances);
                    let all: Vec<_> = earlier.cloned().collect();
                    all.get(all.len().saturating_sub(MAX_HISTORY)..).unwrap_or_default().to_vec()
                });
                let spec = facts.and_then(|facts| facts.agent.as_ref()).map(|agent| Arc::clone(&agent.spec));
                let spec = spec.unwrap_or_default();
                let vars = Value::Object(self.vars.clone()).to_json();
                let seed = Seed { saved: Some(saved), vars, ..seed_of(&spec) };
                let script = serde_json::to_string(&seed).unwrap_or_default().into();
                let agent = AgentSpec { script: Some(script), history, ..(*spec).clone() };
                if self.memory.away.len() >= MAX_AWAY {
                    self.memory.away.remove(0);
                }
                self.memory.away.push(AwayAgent { depth: self.depth(), agent });
                // The method starts again when the documents have ended.
                self.repeat_step();
                None
            }
            Some(Continuation::Destination(dest)) => self.agent_destination(dest, outcome.documents.is_empty())?,
        };
        for document in outcome.documents.into_iter().rev() {
            self.agent_document(document, Entry::Agent);
        }
        Ok(next)
    }

    /// Goes to the URL of a document, to a section, or to a party. `at_once` says whether no document runs first.
    ///
    /// # Errors
    /// The errors of [`Interpreter::next`].
    fn agent_destination(&mut self, dest: String, at_once: bool) -> Result<Option<Next>, Fault> {
        let is_document = is_url(&dest, WEB) || self.has_section(&dest) || dest.contains("sections");
        if is_document && at_once {
            return match self.go_to(&Value::from(dest), Value::Object(Object::default()), Entry::Transfer)? {
                Flow::Continue => Ok(None),
                Flow::Yield(next) => Ok(Some(next)),
            };
        }
        let step = match is_document {
            true => serde_json::json!({ "transfer": { "dest": dest } }),
            false => serde_json::json!({ "connect": { "to": dest } }),
        };
        self.agent_document(serde_json::json!({ "sections": { "main": [step] } }), Entry::Transfer);
        Ok(None)
    }

    /// Enters the document of an action. A wrong document is a warning: the script continues as if it were empty.
    fn agent_document(&mut self, document: Json, entry: Entry) {
        match Document::of(Value::from(document)) {
            Ok(document) => self.enter(document, "main", Value::Object(Object::default()), entry),
            Err(fault) => self.warn(fault.code, format_args!("the action SWML of a function: {}", fault.detail)),
        }
    }

    fn agent_failed(&mut self, method: &str, why: String) {
        self.set(&format!("{method}_result"), "failed");
        self.set("return_value", "failed");
        self.refused = Some(why);
    }

    /// Replaces the placeholders of an agent's parameters that name a scope of the script (`${vars.x}`, `${call.from}`), or, outside
    /// of its functions, a variable. All other placeholders are templates of the agent, which get their values later.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn agent_parameters(&mut self, value: &Value, variables: bool) -> Result<Value, Fault> {
        Ok(match value {
            Value::Text(text) => self.agent_text(text, variables)?,
            Value::List(items) => {
                Value::List(items.iter().map(|item| self.agent_parameters(item, variables)).collect::<Result<_, _>>()?)
            }
            Value::Object(object) => {
                let mut members = Vec::new();
                for (key, value) in object.iter() {
                    let variables = variables && key != "SWAIG";
                    members.push((key.to_owned(), self.agent_parameters(value, variables)?));
                }
                Value::Object(members.into_iter().collect())
            }
            other => other.clone(),
        })
    }

    fn agent_text(&mut self, text: &str, variables: bool) -> Result<Value, Fault> {
        self.pay(text.len())?;
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(['$', '%']) {
            let (before, placeholder) = rest.split_at(at);
            let inner =
                placeholder.get(1..).and_then(|inner| inner.strip_prefix('{')).and_then(|inner| inner.split_once('}'));
            let Some((inner, after)) = inner.filter(|(inner, _)| self.is_of_script(inner, variables)) else {
                out.push_str(before);
                out.push_str(placeholder.get(..1).unwrap_or_default());
                rest = placeholder.get(1..).unwrap_or_default();
                continue;
            };
            let value = self.expanded(&Value::from(format!("${{{inner}}}")))?;
            if before.is_empty() && after.is_empty() && out.is_empty() {
                return Ok(value);
            }
            out.push_str(before);
            out.push_str(&value.rendered());
            rest = after;
        }
        out.push_str(rest);
        Ok(out.into())
    }

    fn is_of_script(&self, placeholder: &str, variables: bool) -> bool {
        let name = placeholder.trim().split(['.', '[']).next().unwrap_or_default();
        let scoped = ["vars", "envs", "call", "params"].contains(&name) && placeholder.contains('.');
        scoped || (variables && (self.vars.get(name).is_some() || self.envs.get(name).is_some()))
    }
}

/// The data from which the script of this agent is made.
fn seed_of(agent: &AgentSpec) -> Seed {
    agent.script.as_deref().and_then(|script| serde_json::from_str(script).ok()).unwrap_or_default()
}

/// The names of an agent that the placeholders of its documents can use.
fn agent_names(outcome: &Outcome) -> Object {
    let data = &outcome.global_data;
    let facts = [
        ("caller_id_name", "caller_id_name"),
        ("caller_id_number", "caller_id_number"),
        ("caller_id_num", "caller_id_number"),
    ];
    let facts = facts.into_iter().filter_map(|(name, key)| Some((name, data.get(key)?.clone())));
    let names = facts.chain([("global_data", Json::Object(data.clone()))]);
    names.map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tandem_call::conversation::AgentFacts;
    use tandem_call::fetch::FetchReason;
    use tandem_call::stream::StreamFault;
    use tandem_id::ConversationId;

    use super::*;

    const DOCUMENT: &str = "sections:\n  main:\n  - set: {plan: gold}\n  - ai:\n      prompt: {text: 'I sell ${plan} to ${call.from}, \
        ${caller_id_name}.'}\n      params: {ai_model: shop, static_greeting: '${vars.plan}', enable_vision: '${vars.none}'}\n      \
        global_data: {a: 1}\n      SWAIG: {functions: [{function: f, data_map: {output: {response: '${plan} ${vars.plan}'}}}]}\n  \
        - play: 'say:${ai_result}'\n  other:\n  - play: 'say:other'\n";

    fn started(document: &str) -> (Interpreter, Box<AgentSpec>) {
        let mut machine = Interpreter::read(document.as_bytes(), Object::default()).unwrap();
        machine.context.call = [("from", "+15551230009")].into_iter().collect();
        let agent = agent(machine.next().unwrap());
        (machine, agent)
    }

    fn agent(next: Next) -> Box<AgentSpec> {
        match next {
            Next::Run(mut instructions) => match instructions.pop() {
                Some(Instruction::Converse(Converse { spec, action: Some(_) })) => match spec.with {
                    ConversationTarget::Agent(agent) => agent,
                    other @ ConversationTarget::Application(_) => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn seed(agent: &AgentSpec) -> Seed {
        serde_json::from_str(agent.script.as_deref().unwrap()).unwrap()
    }

    fn left(machine: &mut Interpreter, status: ConversationStatus) -> Option<Next> {
        let utterances = vec![Utterance { by_agent: true, text: "Hello".into() }];
        let agent = Some(AgentFacts { spec: Arc::default(), utterances });
        let facts = ConversationFacts { id: ConversationId(1), status, duration: Duration::ZERO, agent };
        machine.resume(&FetchReason::Conversed(Box::new(facts))).unwrap()
    }

    fn ended(then: Option<Continuation>) -> ConversationStatus {
        let global_data = json!({"a": 2}).as_object().unwrap().clone();
        let outcome = Outcome { then, global_data, persists: true, ..Outcome::default() };
        ConversationStatus::Ended(serde_json::to_string(&outcome).ok())
    }

    fn after(documents: Vec<Json>, then: Option<Continuation>) -> ConversationStatus {
        let global_data = json!({"a": 2}).as_object().unwrap().clone();
        let outcome = Outcome { documents, then, global_data, persists: true, warnings: Vec::new() };
        ConversationStatus::Ended(serde_json::to_string(&outcome).ok())
    }

    fn returns() -> Option<Continuation> {
        Some(Continuation::Return(Box::default()))
    }

    fn next_text(machine: &mut Interpreter) -> String {
        format!("{:?}", machine.next().unwrap())
    }

    #[test]
    fn placeholders_of_the_script_get_their_values_and_templates_of_the_agent_stay() {
        let (mut machine, agent) = started(DOCUMENT);
        assert_eq!(&*agent.name, "shop");
        let seed = seed(&agent);
        assert_eq!(seed.ai["prompt"]["text"], "I sell gold to +15551230009, ${caller_id_name}.");
        assert_eq!(seed.ai["params"]["static_greeting"], "gold");
        assert_eq!(seed.ai["SWAIG"]["functions"][0]["data_map"]["output"]["response"], "${plan} gold");
        assert_eq!((&seed.vars["plan"], &seed.call["from"]), (&json!("gold"), &json!("+15551230009")));
        assert!(machine.warnings().is_empty());
    }

    #[test]
    fn behind_an_agent_that_has_stopped_the_script_goes_on() {
        let (mut machine, _) = started(DOCUMENT);
        assert_eq!(left(&mut machine, ended(None)), None);
        assert!(next_text(&mut machine).contains("success"));
        assert_eq!(machine.next().unwrap(), Next::End);
        let (mut machine, _) = started(DOCUMENT);
        left(&mut machine, ConversationStatus::Completed);
        assert!(next_text(&mut machine).contains("success"));
    }

    #[test]
    fn behind_an_agent_that_has_failed_an_apology_can_follow() {
        let (mut machine, _) = started(DOCUMENT);
        let why = StreamFault::Internal.because("no agent in [[agents]]");
        left(&mut machine, ConversationStatus::Failed { after_start: false, why });
        assert!(machine.refused.as_ref().unwrap().contains("no agent in [[agents]]"));
        assert!(next_text(&mut machine).contains("failed"));
    }

    #[test]
    fn a_document_replaces_the_rest_of_the_script() {
        let (mut machine, _) = started(DOCUMENT);
        let document = json!({"sections": {"main": [{"play": "say:taken over ${plan}"}]}});
        left(&mut machine, ended(Some(Continuation::Transfer(document))));
        assert!(next_text(&mut machine).contains("taken over gold"));
        assert_eq!(machine.next().unwrap(), Next::End);
    }

    #[test]
    fn after_a_document_the_agent_comes_back_with_its_state_even_if_the_document_transfers() {
        let (mut machine, _) = started(DOCUMENT);
        let main = json!([{"set": {"ai_response": "back"}}, {"transfer": {"dest": "aside"}}, {"play": "say:never"}]);
        let document = json!({"sections": {"main": main, "aside": [{"play": "say:aside"}]}});
        left(&mut machine, after(vec![document], returns()));
        assert!(next_text(&mut machine).contains("aside"));
        assert_eq!(machine.resume(&FetchReason::Redirect).unwrap(), None);
        let again = agent(machine.next().unwrap());
        let seed = seed(&again);
        assert!(seed.saved.is_some());
        assert_eq!((&seed.vars["ai_response"], &seed.global_data["a"]), (&json!("back"), &json!(2)));
        assert_eq!(again.history.len(), 1);
        left(&mut machine, ended(None));
        assert!(next_text(&mut machine).contains("success"));
        assert_eq!(machine.next().unwrap(), Next::End);
    }

    #[test]
    fn documents_run_in_their_order_before_any_continuation() {
        let say = |text: &str| json!({"sections": {"main": [{"play": format!("say:{text}")}]}});
        let transfer = Continuation::Transfer(say("over"));
        let to = |dest: &str| Continuation::Destination(dest.to_owned());
        for (then, last) in [
            (returns(), "Converse"),
            (None, "success"),
            (Some(transfer), "over"),
            (Some(to("+15551230001")), "Dial"),
            (Some(to("http://h/next")), "Document"),
        ] {
            let (mut machine, _) = started(DOCUMENT);
            assert_eq!(left(&mut machine, after(vec![say("first"), say("second")], then)), None);
            for text in ["first", "second", last] {
                let next = next_text(&mut machine);
                assert!(next.contains(text), "{text}: {next}");
                machine.waits = PendingResult::Nothing;
            }
        }
    }

    #[test]
    fn documents_can_use_the_global_data_of_their_agent() {
        let (mut machine, _) = started(DOCUMENT);
        let main = json!([{"play": "say:${global_data.a} [${global_data.none}] ${vars.plan}"}]);
        left(&mut machine, after(vec![json!({"sections": {"main": main}})], returns()));
        assert!(next_text(&mut machine).contains("2 [] gold"));
    }

    #[test]
    fn an_agent_of_a_document_has_its_own_state_and_the_first_agent_comes_back_with_its_words() {
        let (mut machine, _) = started(DOCUMENT);
        let main = json!([{"set": {"ai_response": "back"}}, {"ai": {"prompt": "I am the second.", "params": {"ai_model": "two"}}}]);
        left(&mut machine, after(vec![json!({"sections": {"main": main}})], returns()));
        let second = agent(machine.next().unwrap());
        assert_eq!((&*second.name, seed(&second).saved), ("two", None));
        left(&mut machine, after(vec![json!({"sections": {"main": [{"play": "say:inner"}]}})], returns()));
        assert!(next_text(&mut machine).contains("inner"));
        machine.resume(&FetchReason::Redirect).unwrap();
        let second = agent(machine.next().unwrap());
        assert!(&*second.name == "two" && seed(&second).saved.is_some());
        left(&mut machine, ended(None));
        let first = agent(machine.next().unwrap());
        assert!(&*first.name == "shop" && seed(&first).saved.is_some());
        assert_eq!(first.history.len(), 1);
        left(&mut machine, ended(None));
        assert!(next_text(&mut machine).contains("success"));
    }

    #[test]
    fn agents_in_documents_of_agents_without_end_do_not_fill_the_memory() {
        let (mut machine, _) = started(DOCUMENT);
        let main = json!([{"ai": {"prompt": "x"}}, {"play": "say:x"}]);
        for _ in 0..20 {
            left(&mut machine, after(vec![json!({"sections": {"main": main}})], returns()));
            agent(machine.next().unwrap());
        }
        assert_eq!(machine.memory.away.len(), MAX_AWAY);
    }

    #[test]
    fn a_wrong_document_of_a_function_is_a_warning_and_the_agent_comes_back() {
        let (mut machine, _) = started(DOCUMENT);
        let document = json!({"sections": {"main": [{"execute_rpc": {"method": "dial"}}]}});
        left(&mut machine, after(vec![document], returns()));
        assert!(seed(&agent(machine.next().unwrap())).saved.is_some());
        assert_eq!(machine.warnings().len(), 1);
    }

    #[test]
    fn a_destination_is_a_section_a_document_or_a_party() {
        let to = |dest: &str| {
            let (mut machine, _) = started(DOCUMENT);
            match left(&mut machine, ended(Some(Continuation::Destination(dest.to_owned())))) {
                Some(next) => format!("{next:?}"),
                None => next_text(&mut machine),
            }
        };
        assert!(to("other").contains("other"));
        assert!(to("http://h/next").contains("Document(\"http://h/next\")"));
        assert!(to("+15551230001").contains("Dial"));
        assert!(to("sip:a@h").contains("Dial"));
    }

    #[test]
    fn a_wrong_definition_is_a_warning_and_parts_without_effect_too() {
        let mut machine =
            Interpreter::read(b"sections: {main: [{ai: {prompt: {temperature: 1}}}]}", Object::default()).unwrap();
        assert_eq!(machine.next().unwrap(), Next::End);
        assert!(machine.warnings()[0].to_string().contains("prompt has neither text nor pom"));
        assert!(machine.refused.is_some());
        let (mut machine, _) = started("sections: {main: [{ai: {prompt: x, params: {enable_vision: true}}}]}");
        assert!(machine.warnings()[0].to_string().contains("params.enable_vision has no effect"));
        let (_, agent) = started("sections: {main: [{amazon_bedrock: {prompt: x, params: {ai_model: other}}}]}");
        assert_eq!(&*agent.name, "", "the model is the configured one");
    }
}
