//! Contexts and steps: the flow of a conversation as a document defines it. A context has steps, and a step has instructions, its
//! own set of functions, and the steps and contexts that may follow. A step may first gather answers, one question at a time.
//!
//! ```text
//!   context ── step ──next_step──► step ──change_context──► step of another context
//!               │ gather: question ──gather_submit──► question ──► the step itself, or another step
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use tandem_dialect::agent::{Fillers, ScriptTool};

use super::function::fillers;
use super::params::flag;
use super::pom::{Format, prompt, rendered};
use super::template::written;

/// Maximum number of contexts, and of steps in a context. Further ones are left out, with a warning.
const MAX_CONTEXTS: usize = 50;
const MAX_STEPS: usize = 100;
/// The tools that the server adds for the flow.
pub(super) const NEXT_STEP: &str = "next_step";
pub(super) const CHANGE_CONTEXT: &str = "change_context";
pub(super) const GATHER_SUBMIT: &str = "gather_submit";

/// The contexts of an agent.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Contexts(Vec<Context>);

/// A context.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Context {
    name: String,
    prompt: Option<String>,
    pub(super) system_prompt: Option<String>,
    pub(super) user_prompt: Option<String>,
    pub(super) full_reset: bool,
    pub(super) consolidate: bool,
    pub(super) isolated: bool,
    pub(super) post_prompt: Option<String>,
    enter_fillers: Fillers,
    exit_fillers: Fillers,
    initial_step: Option<String>,
    valid_steps: Option<Vec<String>>,
    valid_contexts: Option<Vec<String>>,
    hides_history: bool,
    steps: Vec<Step>,
}

/// A step of a context.
#[derive(Clone, PartialEq, Debug)]
struct Step {
    name: String,
    text: String,
    criteria: Option<String>,
    /// The functions that the model may call. `None` means the functions of the step before.
    functions: Option<Vec<String>>,
    valid_steps: Option<Vec<String>>,
    valid_contexts: Option<Vec<String>>,
    end: bool,
    skips_caller: bool,
    hides_history: Option<bool>,
    reset: Option<Reset>,
    gather: Option<Gather>,
}

/// A change of the prompts when a step begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reset {
    pub(super) system_prompt: Option<String>,
    pub(super) user_prompt: Option<String>,
    pub(super) full_reset: bool,
}

#[derive(Clone, PartialEq, Debug)]
struct Gather {
    prompt: Option<String>,
    output_key: Option<String>,
    completion: Option<String>,
    questions: Vec<Question>,
}

#[derive(Clone, PartialEq, Debug)]
struct Question {
    key: String,
    text: String,
    kind: &'static str,
    confirm: bool,
    prompt: Option<String>,
    functions: Vec<String>,
}

/// The position of a conversation in the contexts of its agent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Position {
    context: usize,
    /// The step. `None` in a context without steps.
    step: Option<usize>,
    /// The question that the agent asks. `None` when there is none, or no more.
    question: Option<usize>,
    /// The functions that the model may call. `None` means all.
    functions: Option<Vec<String>>,
}

/// The consequence of a change of step or context.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Moved {
    /// Whether the conversation is in another context than before.
    pub(super) into_context: bool,
    /// The index of the context that the conversation has left.
    from: usize,
    /// Whether the model forgets the dialogue so far.
    pub(super) forgets: bool,
    /// The change of the prompts.
    pub(super) reset: Option<Reset>,
}

/// An answer to a question of a gather.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Gathered {
    /// The object in the global data for the answer. `None` means the global data itself.
    pub(super) output_key: Option<String>,
    pub(super) key: String,
    pub(super) answer: Json,
    /// The change of step after the last question.
    pub(super) moved: Option<Moved>,
}

fn text(value: &Json, key: &str) -> Option<String> {
    value.get(key).and_then(Json::as_str).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn names(value: &Json, key: &str) -> Option<Vec<String>> {
    match value.get(key)? {
        Json::Array(items) => Some(items.iter().map(written).collect()),
        Json::String(name) if name == "none" => Some(Vec::new()),
        Json::String(name) => Some(vec![name.clone()]),
        _ => None,
    }
}

fn set(value: &Json, key: &str) -> bool {
    value.get(key).and_then(flag).unwrap_or(false)
}

/// Whether a mode of `history` hides the dialogue so far.
fn hides(value: &Json) -> Option<bool> {
    value.get("history").and_then(Json::as_str).map(|mode| mode == "hide")
}

impl Contexts {
    /// Reads the contexts of a prompt. The first context is `default`, or the first one of `order`, which has the names in the order
    /// of the document.
    pub(super) fn read(value: Option<&Json>, order: &[String], format: Format, warnings: &mut Vec<String>) -> Self {
        let none = Map::new();
        let object = value.and_then(Json::as_object).unwrap_or(&none);
        if object.len() > MAX_CONTEXTS {
            warnings.push(format!("only the first {MAX_CONTEXTS} contexts are used"));
        }
        let mut contexts: Vec<_> = object
            .iter()
            .take(MAX_CONTEXTS)
            .map(|(name, value)| Context::read(name, value, format, warnings))
            .collect();
        let place = |name: &str| order.iter().position(|known| known == name).unwrap_or(usize::MAX);
        contexts.sort_by_key(|context| (context.name != "default", place(&context.name)));
        Self(contexts)
    }

    /// The position at the start. `None` if there are no contexts.
    pub(super) fn start(&self) -> Option<Position> {
        let first = self.0.first()?;
        let mut position = Position::default();
        self.enter_step(&mut position, first.first_step());
        Some(position)
    }

    /// The context of a position.
    pub(super) fn context(&self, position: &Position) -> Option<&Context> {
        self.0.get(position.context)
    }

    /// The texts for a change of the context, in this order: those of the old context, and those of the new one.
    pub(super) fn fillers(&self, position: &Position, moved: &Moved) -> [&Fillers; 2] {
        const NONE: &Fillers = &Fillers(Vec::new());
        let exit = self.0.get(moved.from).map(|context| &context.exit_fillers);
        let enter = self.context(position).map(|context| &context.enter_fillers);
        [exit, enter].map(|fillers| fillers.filter(|_| moved.into_context).unwrap_or(NONE))
    }

    fn step(&self, position: &Position) -> Option<&Step> {
        self.context(position)?.steps.get(position.step?)
    }

    fn question(&self, position: &Position) -> Option<(&Gather, &Question)> {
        let gather = self.step(position)?.gather.as_ref()?;
        Some((gather, gather.questions.get(position.question?)?))
    }

    /// The names of the context and of the step.
    #[cfg(test)]
    pub(super) fn place(&self, position: &Position) -> (Option<&str>, Option<&str>) {
        (self.context(position).map(|context| &*context.name), self.step(position).map(|step| &*step.name))
    }

    /// The instructions of a position: those of the context, and those of the step or of the question.
    pub(super) fn instructions(&self, position: &Position) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.context(position).and_then(|context| context.prompt.clone()));
        if let Some((gather, question)) = self.question(position) {
            parts.extend(gather.prompt.clone());
            parts.push(question.instructions());
        } else if let Some(step) = self.step(position) {
            parts.push(format!("## The current step\n{}", step.text));
            let tools = self.tools(position);
            let leads_on = tools.iter().any(|tool| tool.name == NEXT_STEP);
            if let Some(criteria) = &step.criteria {
                parts.push(format!("The step is complete when: {criteria}"));
            }
            if leads_on {
                parts.push(match step.skips_caller {
                    true => format!("Do not wait for an answer of the caller: call `{NEXT_STEP}` in the same answer."),
                    false => format!("When the step is complete, call `{NEXT_STEP}`. Do not call it before."),
                });
            }
            parts.push(
                "Keep to this step. Do not mention steps to the caller. The end of a step is not the end of the conversation.".to_owned(),
            );
        }
        parts.join("\n\n")
    }

    /// The steps that may follow, by name.
    fn next_steps(&self, position: &Position) -> Vec<&str> {
        let (Some(context), Some(at), Some(step)) = (self.context(position), position.step, self.step(position)) else {
            return Vec::new();
        };
        let following = || context.steps.get(at + 1).map(|step| &*step.name);
        let Some(valid) = step.valid_steps.as_ref().or(context.valid_steps.as_ref()) else {
            return following().filter(|_| !step.end).into_iter().collect();
        };
        let mut found: Vec<&str> = Vec::new();
        for name in valid {
            let one = match name.as_str() {
                "next" => following(),
                name => context.steps.iter().find(|step| step.name == name).map(|step| &*step.name),
            };
            found.extend(one.filter(|one| !found.contains(one)));
        }
        found
    }

    /// The contexts that may follow, by name.
    fn next_contexts(&self, position: &Position) -> Vec<&str> {
        let Some(context) = self.context(position) else { return Vec::new() };
        let valid =
            self.step(position).and_then(|step| step.valid_contexts.as_ref()).or(context.valid_contexts.as_ref());
        let known = |name: &String| self.0.iter().find(|other| other.name == *name && other.name != context.name);
        valid.into_iter().flatten().filter_map(known).map(|context| &*context.name).collect()
    }

    /// The tools of the flow.
    pub(super) fn tools(&self, position: &Position) -> Vec<ScriptTool> {
        let choice = |name: &str, description: &str, key: &str, values: Vec<&str>| ScriptTool {
            name: name.to_owned(),
            description: description.to_owned(),
            parameters: json!({
                "type": "object",
                "properties": { key: { "type": "string", "enum": values } },
                "required": [key],
            }),
            ..ScriptTool::default()
        };
        if let Some((_, question)) = self.question(position) {
            return vec![question.tool()];
        }
        let mut tools = Vec::new();
        let steps = self.next_steps(position);
        if !steps.is_empty() {
            tools.push(choice(NEXT_STEP, "Goes on to another step when the current step is complete.", "step", steps));
        }
        let contexts = self.next_contexts(position);
        if !contexts.is_empty() {
            tools.push(choice(CHANGE_CONTEXT, "Changes to another part of the conversation.", "context", contexts));
        }
        tools
    }

    /// Whether the model may call a function at this position.
    pub(super) fn allows(&self, position: &Position, function: &str) -> bool {
        if let Some((_, question)) = self.question(position) {
            return question.functions.iter().any(|name| name == function);
        }
        position.functions.as_ref().is_none_or(|names| names.iter().any(|name| name == function))
    }

    /// Handles the model's call of `next_step`. Without a name, the only possible step is meant.
    ///
    /// # Errors
    /// The reason for the model why the step may not follow.
    pub(super) fn next_step(&self, position: &mut Position, name: Option<&str>) -> Result<Moved, String> {
        let steps = self.next_steps(position);
        let chosen = match name {
            Some("next") | None => steps.first().copied(),
            Some(name) => steps.iter().copied().find(|step| *step == name),
        };
        let Some(chosen) = chosen.map(str::to_owned) else {
            return Err(format!("the current step does not allow this. Possible steps: {}", steps.join(", ")));
        };
        self.change_step(position, &chosen).ok_or_else(|| "there is no such step".to_owned())
    }

    /// Handles the model's call of `change_context`.
    ///
    /// # Errors
    /// The reason for the model why the context may not follow.
    pub(super) fn next_context(&self, position: &mut Position, name: &str) -> Result<Moved, String> {
        let contexts = self.next_contexts(position);
        if !contexts.contains(&name) {
            return Err(format!("this is not possible now. Possible contexts: {}", contexts.join(", ")));
        }
        self.change_context(position, name).ok_or_else(|| "there is no such context".to_owned())
    }

    /// Goes to a step of the current context, or to the next one (`next`). `None` if there is no such step.
    pub(super) fn change_step(&self, position: &mut Position, name: &str) -> Option<Moved> {
        let context = self.context(position)?;
        let at = match name {
            "next" => position.step.map_or(0, |step| step + 1),
            name => context.steps.iter().position(|step| step.name == name)?,
        };
        context.steps.get(at)?;
        Some(self.enter_step(position, Some(at)))
    }

    /// Goes to another context. `None` if there is no such context.
    pub(super) fn change_context(&self, position: &mut Position, name: &str) -> Option<Moved> {
        let at = self.0.iter().position(|context| context.name == name)?;
        let context = self.0.get(at)?;
        let from = std::mem::replace(&mut position.context, at);
        let step = self.enter_step(position, context.first_step());
        let changes = context.system_prompt.is_some() || context.user_prompt.is_some();
        let own = changes.then(|| Reset {
            system_prompt: context.system_prompt.clone(),
            user_prompt: context.user_prompt.clone(),
            full_reset: context.full_reset,
        });
        // A reset keeps the dialogue, also in an isolated context.
        let keeps = context.consolidate || context.full_reset;
        Some(Moved {
            into_context: true,
            from,
            forgets: step.forgets || (context.isolated && !keeps),
            reset: step.reset.or(own),
        })
    }

    fn enter_step(&self, position: &mut Position, at: Option<usize>) -> Moved {
        position.step = at;
        position.question = None;
        let (Some(context), Some(step)) = (self.context(position), self.step(position)) else {
            return Moved::default();
        };
        position.question = step.gather.as_ref().filter(|gather| !gather.questions.is_empty()).map(|_| 0);
        if let Some(functions) = &step.functions {
            position.functions = Some(functions.clone());
        }
        Moved {
            into_context: false,
            from: position.context,
            forgets: step.hides_history.unwrap_or(context.hides_history),
            reset: step.reset.clone(),
        }
    }

    /// Handles the model's call of `gather_submit`.
    ///
    /// # Errors
    /// The reason for the model why the answer is not accepted.
    pub(super) fn submit(&self, position: &mut Position, arguments: &Json) -> Result<Gathered, String> {
        let Some((gather, question)) = self.question(position) else {
            return Err("there is no open question".to_owned());
        };
        let answer =
            arguments.get("answer").filter(|answer| !answer.is_null()).ok_or("the argument answer is missing")?;
        if question.confirm && arguments.get("confirmed_by_user").map(written).as_deref() != Some("true") {
            return Err("read the answer back to the caller, and submit it when the caller has confirmed it".to_owned());
        }
        let mut gathered = Gathered {
            output_key: gather.output_key.clone(),
            key: question.key.clone(),
            answer: answer.clone(),
            moved: None,
        };
        let next = position.question.map_or(0, |question| question + 1);
        if next < gather.questions.len() {
            position.question = Some(next);
        } else {
            position.question = None;
            let completion = gather.completion.clone();
            gathered.moved = match completion.as_deref() {
                Some("next_step") => self.change_step(position, "next"),
                Some(name) => self.change_step(position, name),
                None => None,
            };
        }
        Ok(gathered)
    }
}

impl Context {
    fn read(name: &str, value: &Json, format: Format, warnings: &mut Vec<String>) -> Self {
        let steps = value.get("steps").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        if steps.len() > MAX_STEPS {
            warnings.push(format!("context {name:?}: only the first {MAX_STEPS} steps are used"));
        }
        if set(value, "consolidate") {
            warnings.push(format!("context {name:?}: consolidate has no effect, the model keeps the whole dialogue"));
        }
        let own_prompt = || text(value, "prompt").or_else(|| text(value, "text"));
        Self {
            name: name.to_owned(),
            prompt: value
                .get("pom")
                .map(|pom| rendered(pom, format))
                .filter(|text| !text.is_empty())
                .or_else(own_prompt),
            system_prompt: text(value, "system_prompt"),
            user_prompt: text(value, "user_prompt"),
            full_reset: set(value, "full_reset"),
            consolidate: set(value, "consolidate"),
            isolated: set(value, "isolated"),
            post_prompt: value.get("post_prompt").and_then(|value| prompt(value, format)),
            enter_fillers: fillers(value.get("enter_fillers")),
            exit_fillers: fillers(value.get("exit_fillers")),
            initial_step: text(value, "initial_step"),
            valid_steps: names(value, "valid_steps"),
            valid_contexts: names(value, "valid_contexts"),
            hides_history: hides(value).unwrap_or(false),
            steps: steps.iter().take(MAX_STEPS).map(|step| Step::read(step, format, warnings)).collect(),
        }
    }

    fn first_step(&self) -> Option<usize> {
        let named = |name: &String| self.steps.iter().position(|step| step.name == *name);
        let first = (!self.steps.is_empty()).then_some(0);
        self.initial_step.as_ref().and_then(named).or(first)
    }
}

impl Step {
    fn read(value: &Json, format: Format, warnings: &mut Vec<String>) -> Self {
        let name = text(value, "name").unwrap_or_default();
        let gather = value.get("gather_info").filter(|gather| gather.is_object());
        let questions = gather.and_then(|gather| gather.get("questions")).and_then(Json::as_array);
        if gather.into_iter().chain(questions.into_iter().flatten()).any(|part| set(part, "isolated")) {
            warnings
                .push(format!("step {name:?}: isolated of gather_info has no effect, the model sees earlier answers"));
        }
        let reset = value.get("reset").filter(|reset| reset.is_object()).map(|reset| Reset {
            system_prompt: text(reset, "system_prompt"),
            user_prompt: text(reset, "user_prompt"),
            full_reset: set(reset, "full_reset"),
        });
        Self {
            name,
            text: prompt(value, format).unwrap_or_default(),
            criteria: text(value, "step_criteria"),
            functions: names(value, "functions"),
            valid_steps: names(value, "valid_steps"),
            valid_contexts: names(value, "valid_contexts"),
            end: set(value, "end"),
            skips_caller: set(value, "skip_user_turn") || set(value, "skip_to_next_step"),
            hides_history: hides(value),
            reset,
            gather: gather.map(Gather::read),
        }
    }
}

impl Gather {
    fn read(value: &Json) -> Self {
        let questions = value.get("questions").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        Self {
            prompt: text(value, "prompt"),
            output_key: text(value, "output_key"),
            completion: text(value, "completion_action"),
            questions: questions.iter().take(MAX_STEPS).filter_map(Question::read).collect(),
        }
    }
}

impl Question {
    fn read(value: &Json) -> Option<Self> {
        let kind = match value.get("type").and_then(Json::as_str) {
            Some("integer") => "integer",
            Some("number") => "number",
            Some("boolean") => "boolean",
            _ => "string",
        };
        Some(Self {
            key: text(value, "key")?,
            text: text(value, "question")?,
            kind,
            confirm: set(value, "confirm"),
            prompt: text(value, "prompt"),
            functions: names(value, "functions").unwrap_or_default(),
        })
    }

    fn instructions(&self) -> String {
        let mut text = format!("Ask the caller this question now, and no other: {}", self.text);
        if let Some(more) = &self.prompt {
            text.push('\n');
            text.push_str(more);
        }
        if self.confirm {
            text.push_str("\nRead the answer back, and let the caller confirm it.");
        }
        text.push_str(&format!("\nWhen you have the answer, call `{GATHER_SUBMIT}`."));
        text
    }

    fn tool(&self) -> ScriptTool {
        let answer = json!({ "type": self.kind, "description": self.text });
        let mut properties: Map<String, Json> = [("answer".to_owned(), answer)].into_iter().collect();
        let mut required = vec!["answer"];
        if self.confirm {
            let description = "Whether the caller has confirmed the answer.";
            let confirmed = json!({ "type": "string", "enum": ["true", "false"], "description": description });
            properties.insert("confirmed_by_user".to_owned(), confirmed);
            required.push("confirmed_by_user");
        }
        ScriptTool {
            name: GATHER_SUBMIT.to_owned(),
            description: "Stores the answer of the caller to the current question.".to_owned(),
            parameters: json!({ "type": "object", "properties": properties, "required": required }),
            ..ScriptTool::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts(value: &Json) -> Contexts {
        Contexts::read(Some(value), &[], Format::Markdown, &mut Vec::new())
    }

    fn named(contexts: &Contexts, position: &Position) -> Vec<String> {
        contexts.tools(position).into_iter().map(|tool| tool.name).collect()
    }

    fn sales() -> Contexts {
        contexts(&json!({
            "support": {"isolated": true, "enter_fillers": {"en-US": ["Support here."]}, "system_prompt": "You are support.", "steps": [{"name": "help", "text": "Help."}]},
            "default": {"exit_fillers": ["Bye."], "pom": [{"title": "Shop", "body": "You sell bicycles."}], "steps": [
                {"name": "greet", "text": "Greet.", "step_criteria": "the caller has a name", "functions": ["lookup"]},
                {"name": "offer", "text": "Offer.", "valid_steps": ["next", "greet"], "valid_contexts": ["support"]},
                {"name": "bye", "text": "Say goodbye.", "functions": "none", "end": true},
            ]},
        }))
    }

    #[test]
    fn the_conversation_starts_in_the_first_step_of_the_default_context() {
        let contexts = sales();
        let position = contexts.start().unwrap();
        assert_eq!(contexts.place(&position), (Some("default"), Some("greet")));
        let text = contexts.instructions(&position);
        assert!(text.starts_with("## Shop\n\nYou sell bicycles."), "{text}");
        assert!(
            text.contains("Greet.") && text.contains("the caller has a name") && text.contains("`next_step`"),
            "{text}"
        );
        assert!(Contexts::default().start().is_none());
    }

    #[test]
    fn without_a_default_context_the_first_one_of_the_document_starts() {
        let value = json!({"a": {"steps": [{"name": "x"}]}, "z": {"steps": [{"name": "y"}]}});
        let order = ["z".to_owned(), "a".to_owned()];
        let contexts = Contexts::read(Some(&value), &order, Format::Markdown, &mut Vec::new());
        assert_eq!(contexts.place(&contexts.start().unwrap()).0, Some("z"));
    }

    #[test]
    fn the_next_step_in_order_follows_unless_a_step_names_others() {
        let contexts = sales();
        let mut position = contexts.start().unwrap();
        assert_eq!(named(&contexts, &position), [NEXT_STEP]);
        assert!(contexts.next_step(&mut position, Some("bye")).is_err());
        contexts.next_step(&mut position, Some("offer")).unwrap();
        assert_eq!(named(&contexts, &position), [NEXT_STEP, CHANGE_CONTEXT]);
        assert_eq!(contexts.next_steps(&position), ["bye", "greet"]);
        contexts.next_step(&mut position, None).unwrap();
        assert_eq!(contexts.place(&position).1, Some("bye"));
        assert!(named(&contexts, &position).is_empty());
    }

    #[test]
    fn a_step_without_functions_keeps_those_of_the_step_before() {
        let contexts = sales();
        let mut position = contexts.start().unwrap();
        assert!(contexts.allows(&position, "lookup") && !contexts.allows(&position, "pay"));
        contexts.next_step(&mut position, None).unwrap();
        assert!(contexts.allows(&position, "lookup") && !contexts.allows(&position, "pay"));
        contexts.next_step(&mut position, None).unwrap();
        assert!(!contexts.allows(&position, "lookup"));
    }

    #[test]
    fn an_isolated_context_forgets_the_dialogue_and_brings_its_prompt() {
        let contexts = sales();
        let mut position = contexts.start().unwrap();
        assert!(contexts.next_context(&mut position, "support").is_err(), "the first step does not allow it");
        contexts.next_step(&mut position, None).unwrap();
        let moved = contexts.next_context(&mut position, "support").unwrap();
        assert!(moved.into_context && moved.forgets);
        let fillers = contexts.fillers(&position, &moved).map(|fillers| fillers.of("en"));
        assert_eq!(fillers, [["Bye."], ["Support here."]]);
        assert_eq!(moved.reset.unwrap().system_prompt.as_deref(), Some("You are support."));
        assert_eq!(contexts.place(&position), (Some("support"), Some("help")));
    }

    #[test]
    fn a_gather_asks_one_question_after_the_other_and_locks_the_functions() {
        let contexts = contexts(&json!({"default": {"steps": [
            {"name": "ask", "text": "Then help.", "gather_info": {"output_key": "profile", "prompt": "You are friendly.",
                "completion_action": "next_step", "questions": [
                {"key": "name", "question": "What is your name?", "confirm": true, "functions": ["check"]},
                {"key": "age", "question": "How old are you?", "type": "integer"}]}},
            {"name": "done", "text": "Use ${profile}."},
        ]}}));
        let mut position = contexts.start().unwrap();
        assert_eq!(named(&contexts, &position), [GATHER_SUBMIT]);
        assert!(contexts.allows(&position, "check") && !contexts.allows(&position, "other"));
        assert!(contexts.instructions(&position).contains("What is your name?"));
        assert!(contexts.submit(&mut position, &json!({"answer": "Ann", "confirmed_by_user": "false"})).is_err());
        let first = contexts.submit(&mut position, &json!({"answer": "Ann", "confirmed_by_user": "true"})).unwrap();
        assert_eq!((first.output_key.as_deref(), &*first.key, &first.answer), (Some("profile"), "name", &json!("Ann")));
        let last = contexts.submit(&mut position, &json!({"answer": 7})).unwrap();
        assert!(last.moved.is_some());
        assert_eq!(contexts.place(&position).1, Some("done"));
        assert!(contexts.submit(&mut position, &json!({"answer": 7})).is_err());
    }

    #[test]
    fn an_isolated_question_is_a_warning() {
        let questions = json!([{"key": "a", "question": "A?"}, {"key": "b", "question": "B?", "isolated": true}]);
        let value = json!({"default": {"steps": [{"name": "ask", "gather_info": {"questions": questions}}]}});
        let mut warnings = Vec::new();
        Contexts::read(Some(&value), &[], Format::Markdown, &mut warnings);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("isolated of gather_info"), "{warnings:?}");
    }

    #[test]
    fn wrong_names_in_a_document_lead_nowhere() {
        let contexts = contexts(
            &json!({"default": {"initial_step": "none", "valid_steps": ["nowhere"], "steps": [{"name": "a"}, 7]}}),
        );
        let mut position = contexts.start().unwrap();
        assert!(named(&contexts, &position).is_empty());
        assert!(contexts.change_step(&mut position, "nowhere").is_none());
        assert!(contexts.change_context(&mut position, "nowhere").is_none());
    }
}
