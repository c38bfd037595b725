//! The interpreter: sections, variables and conditions of a document. The interpreter is plain data and does no I/O.
//!
//! For each method that needs the leg, the interpreter returns the leg's next action ([`Next`]). Then it receives the
//! outcome of the method ([`Interpreter::resume`]). The interpreter executes a method that needs no leg (`set`, `cond`,
//! `goto`...) immediately.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_call::program::instruction::{Dial, Instruction};
use tandem_id::{RecordingId, StreamId};

use super::agent::AgentMemory;
use super::budget::{BUDGET, Budget, Exhausted, STEP};
use super::document::{Branch, Cases, Document, Inner, MAX_WARNINGS, Step, Steps};
use super::error::{Code, Fault};
use super::expression::{self, EvalError, Found, Scope};
use super::frame::{self, Entry, Frame, Section};
use super::parameters::{WEB, is_url};
use super::template::{self, expand};
use super::text;
use super::value::{Object, Value};
use super::written;

/// Maximum number of transfers in a call.
const MAX_TRANSFERS: u32 = 32;
/// The price of a step of a document, in units of the budget.
const STEP_OF_DOCUMENT: usize = 10 * STEP;
/// The price of the parameters of a method, for each octet. The method checks URLs, and creates instructions.
const PARAMETER_OCTET: usize = 4;
/// Maximum nesting depth of the lists and objects of a variable.
const DEEPEST_VARIABLE: usize = 64;
/// Maximum nesting depth of sections and conditions.
const DEEPEST: usize = 100;
/// Maximum size of all variables together, in octets.
const MAX_VARIABLE_OCTETS: usize = 1024 * 1024;
/// Maximum and default number of jumps of a `goto`.
const MAX_JUMPS: f64 = 100.0;
/// The variable with the code of the last error.
const SCRIPT_ERROR: &str = "script_error";

/// The leg's next action.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Next {
    /// The leg must run these instructions. Then the interpreter must be resumed.
    Run(Vec<Instruction>),
    /// The document at this URL must be fetched.
    Document(String),
    /// The HTTP request of a `request` method must be sent.
    Request(Box<ScriptRequest>),
    /// There is no next action, because the script has ended.
    End,
}

/// An HTTP request of the `request` method.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct ScriptRequest {
    #[serde(with = "written::http_method")]
    pub(super) method: http::Method,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    #[serde(with = "tandem_call::snapshot::base64_octets")]
    pub(super) body: Bytes,
    /// Maximum time for the whole request.
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    /// Whether the members of a JSON answer become variables of the script.
    pub(super) save: bool,
}

/// The outcome that the interpreter waits for. The step that waits is the current step of the innermost frame.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) enum PendingResult {
    #[default]
    Nothing,
    /// Digits or recognised words.
    Prompt,
    Record,
    /// The id of a recording that runs in the background.
    RecordCall {
        control_id: String,
    },
    /// Whether a job was started or stopped. `variable` is the name of the variable for the result.
    Done {
        variable: Cow<'static, str>,
    },
    Stream {
        control_id: String,
    },
    Tap {
        control_id: String,
    },
    /// The result of a dial. `next` has the further dials. The script starts the first of them if this dial fails.
    Connect {
        next: VecDeque<Dial>,
        then: Option<String>,
    },
    /// The end of the stream that has taken over the call.
    ConnectStream,
    Queue {
        then: Option<String>,
    },
    Conference {
        variable: Cow<'static, str>,
    },
    Refer,
    Detect,
    /// The document at this URL.
    Document {
        url: String,
        #[serde(with = "written")]
        params: Value,
        entry: Entry,
    },
    Request(Box<ScriptRequest>),
    /// The end of the agent that a method with this name has started.
    Agent {
        method: String,
    },
}

/// The jobs that run in the background.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Jobs {
    pub(super) recordings: Vec<(String, RecordingId)>,
    pub(super) streams: Vec<(String, StreamId)>,
    pub(super) taps: Vec<(String, StreamId)>,
    /// Number of jobs for which the script gave no id.
    pub(super) nameless: u32,
}

/// The properties of the call when a step runs.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct CallContext {
    /// The script's object `call`.
    #[serde(with = "written")]
    pub(super) call: Object,
    /// Whether the leg is answered.
    pub(super) answered: bool,
    /// The first part of the URL of every recording.
    pub(super) recordings: String,
}

/// Maximum number of decisions that are noted for the log between two actions of a script, and the maximum number of
/// characters of each.
const MAX_PATH: usize = 10;
const LONGEST_DECISION: usize = 60;

/// A running script. Its written form is its state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Interpreter {
    #[serde(with = "frame")]
    frames: Vec<Frame>,
    /// The work that the script may do before its next action.
    pub(super) budget: Budget,
    #[serde(with = "written")]
    pub(super) vars: Object,
    /// The size of the variables, in octets.
    var_octets: usize,
    #[serde(with = "written")]
    pub(super) envs: Object,
    pub(super) context: CallContext,
    pub(super) waits: PendingResult,
    pub(super) jobs: Jobs,
    /// The data of the agents of the call.
    #[serde(default)]
    pub(super) memory: AgentMemory,
    transfers: u32,
    warnings: Vec<Fault>,
    /// Name of the method that started last.
    method: Cow<'static, str>,
    /// The decisions since the last action: branches, jumps and sections. At most [`MAX_PATH`].
    path: Vec<String>,
    /// The reason why the script could not do the last thing that it wanted to do with the caller.
    pub(super) refused: Option<String>,
}

/// Says how a script continues after a step.
pub(super) enum Flow {
    Continue,
    Yield(Next),
}

impl Interpreter {
    /// A script at the start of the main section of the document with this text.
    ///
    /// # Errors
    /// The document is wrong.
    pub(super) fn read(text: &[u8], envs: Object) -> Result<Self, Fault> {
        let mut machine = Self { envs, ..Self::of_nothing() };
        // The size of a document bounds the time to parse it, so the script does not pay for its first document.
        machine.enter(Document::read(text)?, "main", Value::Object(Object::default()), Entry::Transfer);
        Ok(machine)
    }

    /// A script that has ended.
    pub(super) fn of_nothing() -> Self {
        Self {
            frames: Vec::new(),
            budget: Budget::default(),
            vars: Object::default(),
            var_octets: 0,
            envs: Object::default(),
            context: CallContext::default(),
            waits: PendingResult::Nothing,
            jobs: Jobs::default(),
            memory: AgentMemory::default(),
            transfers: 0,
            warnings: Vec::new(),
            method: Cow::Borrowed(""),
            path: Vec::new(),
            refused: None,
        }
    }

    /// Returns the place of the step that started last, such as `main.[2].play`. Log messages show this place.
    pub(super) fn place(&self) -> String {
        let start = self.frames.iter().rposition(|frame| frame.section.is_some()).unwrap_or_default();
        let mut place = String::new();
        for frame in self.frames.iter().skip(start) {
            if let Some(section) = &frame.section {
                place.push_str(&section.name);
                place.push('.');
            }
            if frame.at > 0 {
                let _ = write!(place, "[{}].", frame.at - 1);
            }
        }
        place.push_str(&self.method);
        place
    }

    /// Returns the decisions since the last action, and forgets them. If there are decisions, a comma follows.
    pub(super) fn path(&mut self) -> String {
        std::mem::take(&mut self.path).into_iter().map(|decision| decision + ", ").collect()
    }

    /// Notes a decision of the script for the log.
    fn decide(&mut self, decision: impl std::fmt::Display) {
        if self.path.len() < MAX_PATH {
            let decision = decision.to_string().chars().take(LONGEST_DECISION).collect();
            self.path.push(decision);
        }
    }

    /// Returns the new warnings and removes them from the interpreter.
    pub(super) fn warnings(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.warnings)
    }

    pub(super) fn warn(&mut self, code: Code, detail: impl std::fmt::Display) {
        self.set(SCRIPT_ERROR, code.to_string());
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(Fault::new(code, format!("{}: {detail}", self.place())));
        }
    }

    /// The `params` of the running section.
    fn params(&self) -> Option<&Value> {
        self.frames.iter().rev().find_map(|frame| frame.section.as_ref()).map(|section| &section.params)
    }

    /// Runs steps until a step takes time.
    ///
    /// # Errors
    /// A fault that ends the script.
    pub(super) fn next(&mut self) -> Result<Next, Fault> {
        loop {
            self.pay(STEP_OF_DOCUMENT)?;
            let Some((steps, at)) = self.step()? else {
                if self.frames.is_empty() {
                    return Ok(Next::End);
                }
                continue;
            };
            let Some(step) = steps.get(at) else { continue };
            if self.frames.len() > DEEPEST {
                let detail = format!("{}: more than {DEEPEST} nested sections and conditions", self.place());
                return Err(Fault::new(Code::NestedTooDeep, detail));
            }
            let flow = self.run(step)?;
            // A function that cannot fail may have used up the budget.
            self.pay(0)?;
            if let Flow::Yield(next) = flow {
                return Ok(next);
            }
        }
    }

    /// Returns the request whose response the script waits for.
    pub(super) fn awaited_response(&self) -> Option<Next> {
        match &self.waits {
            PendingResult::Document { url, .. } => Some(Next::Document(url.clone())),
            PendingResult::Request(ask) => Some(Next::Request(ask.clone())),
            _ => None,
        }
    }

    /// Pays for work of the script.
    ///
    /// # Errors
    /// The fault that ends the script, because the budget is used up.
    pub(super) fn pay(&self, units: usize) -> Result<(), Fault> {
        let paid = self.budget.spend(units);
        if paid.is_ok() && self.budget.left() > 0 { Ok(()) } else { Err(self.exhausted()) }
    }

    fn exhausted(&self) -> Fault {
        let detail = format!("{}: more than {BUDGET} octets of work since the last action of the call", self.place());
        Fault::new(Code::TooMuchWork, detail)
    }

    /// Returns the position of the next step, and moves on to the step after it. `None` if there is no further step in the
    /// section or the condition.
    fn step(&mut self) -> Result<Option<(Steps, usize)>, Fault> {
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        let step = (frame.at < frame.steps.len()).then(|| (Arc::clone(&frame.steps), frame.at));
        frame.at += 1;
        if step.is_none() {
            self.leave()?;
        }
        Ok(step)
    }

    /// Leaves the innermost section or condition.
    fn leave(&mut self) -> Result<(), Fault> {
        match self.frames.pop().and_then(|frame| frame.section).map(|section| section.entry) {
            Some(Entry::Execute) => {
                let on_return = match self.current_step() {
                    Some(Step { inner: Inner::Over { on_return, .. }, .. }) => on_return.clone(),
                    _ => Steps::default(),
                };
                // The block that is added last runs first. So `on_return` runs before `result`.
                self.follow_result()?;
                self.block(on_return);
            }
            Some(Entry::Transfer) => self.frames.clear(),
            Some(Entry::Agent) | None => {}
        }
        Ok(())
    }

    /// Returns the step of the innermost frame that started last.
    fn current_step(&self) -> Option<&Step> {
        let frame = self.frames.last()?;
        frame.steps.get(frame.at.checked_sub(1)?)
    }

    fn run(&mut self, step: &Step) -> Result<Flow, Fault> {
        self.method = Cow::Borrowed(step.method.name);
        let parameters = match step.method.name {
            // `set` replaces placeholders entry by entry, so that each entry sees the values of earlier entries. The
            // other methods replace placeholders later or not at all.
            "set" => return self.set_all(step),
            "cond" | "switch" | "label" => Value::Null,
            "connect" => {
                let mut parameters = self.expanded(&step.parameters)?;
                self.pay(step.parameters.size())?;
                keep_confirmations(&step.parameters, &mut parameters);
                parameters
            }
            "ai" | "amazon_bedrock" => self.agent_parameters(&step.parameters, true)?,
            _ => self.expanded(&step.parameters)?,
        };
        self.pay(parameters.size().saturating_mul(PARAMETER_OCTET))?;
        let none = Object::default();
        let object = parameters.object().unwrap_or(&none);
        match step.method.name {
            "unset" => match parameters {
                Value::List(names) => names.iter().for_each(|name| self.unset(&name.rendered())),
                Value::Object(names) => names.iter().for_each(|(_, name)| self.unset(&name.rendered())),
                name => self.unset(&name.rendered()),
            },
            "label" => {}
            "cond" => {
                if let Inner::Branches(branches) = &step.inner {
                    self.branch(branches)?;
                }
            }
            "switch" => {
                if let Inner::Cases(cases) = &step.inner {
                    self.choose(cases)?;
                }
            }
            "goto" => self.goto(step, object)?,
            "return" => self.return_with(parameters)?,
            "execute" => return self.go(object, Entry::Execute),
            "transfer" => return self.go(object, Entry::Transfer),
            _ => return self.method(step, object),
        }
        Ok(Flow::Continue)
    }

    fn set_all(&mut self, step: &Step) -> Result<Flow, Fault> {
        for (name, value) in step.parameters.object().into_iter().flat_map(Object::iter) {
            let value = self.expanded(value)?;
            self.set(name.strip_prefix("vars.").unwrap_or(name), value);
        }
        Ok(Flow::Continue)
    }

    /// Replaces the placeholders in a value.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn expanded(&mut self, value: &Value) -> Result<Value, Fault> {
        let expanded = expand(value, self).map_err(|Exhausted| self.exhausted())?;
        for fault in expanded.faults {
            self.warn(Code::JsEvalError, fault);
        }
        Ok(expanded.value)
    }

    /// Sets a variable. If all variables together would become larger than the maximum size, the variable keeps the old
    /// value. The function then adds a warning. If the budget is used up, the function does nothing.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        let before = self.vars.get(name);
        let price = self.vars.len() + before.map_or(0, Value::size) + value.size();
        if self.budget.spend(price).is_err() {
            return;
        }
        let freed = before.map_or(0, |before| name.len() + before.size());
        let octets = self.var_octets.saturating_sub(freed) + name.len() + value.size();
        if octets > MAX_VARIABLE_OCTETS {
            self.warn_about(name, "is too large");
        } else if value.depth() > DEEPEST_VARIABLE {
            self.warn_about(name, "is nested too deeply");
        } else {
            self.var_octets = octets;
            self.vars.set(name, value);
        }
    }

    /// Warns about a variable that could not be set. This warning may itself not fit into the variables.
    fn warn_about(&mut self, name: &str, why: &str) {
        if name != SCRIPT_ERROR {
            self.warn(Code::MethodExecuteFailed, format_args!("{name} {why}"));
        }
    }

    pub(super) fn unset(&mut self, name: &str) {
        let name = name.strip_prefix("vars.").unwrap_or(name);
        let Ok(()) = self.budget.spend(self.vars.len()) else { return };
        if let Some(before) = self.vars.remove(name) {
            self.var_octets = self.var_octets.saturating_sub(name.len() + before.size());
        }
    }

    fn holds(&mut self, condition: &str) -> Result<bool, Fault> {
        // In a condition, the text of a value replaces the placeholder before the evaluation.
        let text = if condition.contains("${") || condition.contains("%{") {
            self.expanded(&Value::from(condition))?.rendered()
        } else {
            condition.to_owned()
        };
        match expression::evaluate(&text, self) {
            Ok(value) => Ok(value.is_truthy()),
            Err(EvalError::Exhausted) => Err(self.exhausted()),
            Err(EvalError::Failed(why)) => {
                self.warn(Code::JsEvalError, format_args!("{condition}: {why}"));
                Ok(false)
            }
        }
    }

    fn branch(&mut self, branches: &[Branch]) -> Result<(), Fault> {
        for Branch { when, then, otherwise } in branches {
            let holds = match when {
                Some(when) => self.holds(when)?,
                None => true,
            };
            if holds && let Some(when) = when {
                self.decide(format_args!("cond {when}"));
                self.block(then.clone());
                return Ok(());
            }
            if !otherwise.is_empty() || when.is_none() {
                self.decide("cond else");
                self.block(if otherwise.is_empty() { then.clone() } else { otherwise.clone() });
                return Ok(());
            }
        }
        Ok(())
    }

    fn choose(&mut self, cases: &Cases) -> Result<(), Fault> {
        let name = cases.variable.as_deref().unwrap_or("return_value").trim();
        let bare = name.strip_prefix("${").or_else(|| name.strip_prefix("%{")).and_then(|name| name.strip_suffix('}'));
        let value = match template::path(bare.unwrap_or(name)) {
            Some(path) => {
                let found = template::lookup(&path, self)
                    .and_then(|found| found.map(|found| found.copied(&self.budget)).transpose());
                found.map_err(|Exhausted| self.exhausted())?.unwrap_or_default()
            }
            None => self.expanded(&Value::from(name))?,
        };
        let text = value.rendered();
        for (case, _) in &cases.cases {
            self.pay(STEP + case.len().min(text.len()))?;
        }
        let steps = cases.cases.iter().find(|(case, _)| *case == text).map(|(_, steps)| steps);
        match steps.or(cases.default.as_ref()) {
            Some(steps) => {
                self.decide(format_args!("switch {name} is {text:?}"));
                self.block(steps.clone());
            }
            None => self.warn(Code::MethodNoMatchingCondition, format_args!("no case of {name} is {text:?}")),
        }
        Ok(())
    }

    /// Continues with the steps that the current step has for its outcome.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn follow_result(&mut self) -> Result<(), Fault> {
        let result = match self.current_step() {
            Some(Step { inner: Inner::Over { result, .. }, .. }) => result.clone(),
            _ => None,
        };
        match result.as_deref() {
            Some(Inner::Cases(cases)) => self.choose(cases),
            Some(Inner::Branches(branches)) => self.branch(branches),
            Some(Inner::None | Inner::Over { .. }) | None => Ok(()),
        }
    }

    /// Enters steps within the running section.
    fn block(&mut self, steps: Steps) {
        if let Some(frame) = self.frames.last().filter(|_| !steps.is_empty()) {
            let document = frame.document.clone();
            self.frames.push(Frame { document, steps, at: 0, section: None });
        }
    }

    fn goto(&mut self, step: &Step, object: &Object) -> Result<(), Fault> {
        let label = object.get("label").map(Value::rendered).unwrap_or_default();
        let when = match step.parameters.object().and_then(|object| object.get("when")) {
            Some(when) => self.holds(&when.rendered())?,
            None => true,
        };
        if !when {
            return Ok(());
        }
        let max = object.get("max").and_then(Value::number).unwrap_or(MAX_JUMPS).clamp(1.0, MAX_JUMPS);
        let is_target = |step: &Step| {
            let own = step.parameters.object().and_then(|object| object.get("label"));
            let price = STEP + own.map_or(0, Value::size);
            let paid = self.budget.spend(price).is_ok();
            paid && step.method.name == "label" && own.is_some_and(|own| own.rendered() == label)
        };
        // The label that encloses this step most closely within the section.
        let mut found = None;
        for (place, frame) in self.frames.iter().enumerate().rev() {
            if let Some(at) = frame.steps.iter().position(is_target) {
                found = Some((place, at));
                break;
            }
            if frame.section.is_some() {
                break;
            }
        }
        let Some((place, to)) = found else {
            self.warn(Code::MethodExecuteFailed, format_args!("there is no label {label:?} in this section"));
            return Ok(());
        };
        if let Some(section) = self.frames.iter_mut().rev().find_map(|frame| frame.section.as_mut()) {
            let made = section.jumps.entry(step.id).or_default();
            if f64::from(*made) >= max {
                return Ok(());
            }
            *made += 1;
        }
        self.frames.truncate(place + 1);
        if let Some(frame) = self.frames.last_mut() {
            frame.at = to;
        }
        Ok(())
    }

    fn return_with(&mut self, value: Value) -> Result<(), Fault> {
        self.set("return_value", value);
        while self.frames.last().is_some_and(|frame| frame.section.is_none()) {
            self.frames.pop();
        }
        self.leave()
    }

    /// Executes a section or a document, or transfers the call to a section or a document.
    fn go(&mut self, object: &Object, entry: Entry) -> Result<Flow, Fault> {
        let params = object.get("params").cloned().unwrap_or_else(|| Value::Object(Object::default()));
        let params = as_params(params);
        self.go_to(object.get("dest").unwrap_or(&Value::Null), params, entry)
    }

    /// Does the same as `go` for the destination `dest`, which does not have to be a parameter of a method.
    pub(super) fn go_to(&mut self, dest: &Value, params: Value, entry: Entry) -> Result<Flow, Fault> {
        if entry == Entry::Transfer {
            self.transfers += 1;
            if self.transfers > MAX_TRANSFERS {
                let detail = format!("more than {MAX_TRANSFERS} transfers in one call");
                return Err(Fault::new(Code::TooManyTransfers, detail));
            }
        }
        let text = dest.rendered();
        let text = text.trim();
        if is_url(text, WEB) {
            // The request contains all variables.
            self.pay(self.var_octets.saturating_add(params.size()).saturating_mul(PARAMETER_OCTET))?;
            self.waits = PendingResult::Document { url: text.to_owned(), params, entry };
            return Ok(Flow::Yield(Next::Document(text.to_owned())));
        }
        if text.starts_with("relay:") {
            self.warn(Code::MethodExecuteFailed, format_args!("{text} is not served here"));
            return Ok(Flow::Continue);
        }
        let own = self.frames.last().map(|frame| &frame.document);
        if let Some(document) = own.filter(|document| document.section(text).is_some()).cloned() {
            self.enter(document, text, params, entry);
            return Ok(Flow::Continue);
        }
        let document = match dest {
            Value::Object(_) => {
                self.pay(dest.size().saturating_mul(PARAMETER_OCTET))?;
                Document::of(dest.clone())?
            }
            _ if text.contains("sections") => self.document(text.as_bytes())?,
            _ => {
                let detail = format!("{}: there is no section {text:?}", self.place());
                return Err(Fault::new(Code::SectionParameterUndefined, detail));
            }
        };
        self.enter(document, "main", params, entry);
        Ok(Flow::Continue)
    }

    /// Parses a document that the script executes.
    ///
    /// # Errors
    /// The document is wrong, or the budget is used up.
    pub(super) fn document(&self, text: &[u8]) -> Result<Document, Fault> {
        let paid = if text::is_json(text) { self.budget.parse_json(text) } else { self.budget.parse_yaml(text) };
        paid.map_err(|Exhausted| self.exhausted())?;
        Document::read(text)
    }

    /// Number of sections and conditions in which the running step is.
    pub(super) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Lets the step that started last start again when the section that the script enters next has ended.
    pub(super) fn repeat_step(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.at = frame.at.saturating_sub(1);
        }
    }

    /// Whether the document that runs has a section with this name.
    pub(super) fn has_section(&self, name: &str) -> bool {
        self.frames.last().is_some_and(|frame| frame.document.section(name).is_some())
    }

    /// Enters a section of a document.
    pub(super) fn enter(&mut self, document: Document, section: &str, params: Value, entry: Entry) {
        let steps = document.section(section).cloned().unwrap_or_default();
        for fault in document.warnings.iter() {
            if self.warnings.len() < MAX_WARNINGS && section == "main" {
                self.warnings.push(fault.clone());
            }
        }
        let mut entry = entry;
        match entry {
            // A document of an agent's action cannot leave the agent: the agent comes back after the last document.
            Entry::Transfer => match self.frames.iter().rposition(Frame::is_of_agent) {
                Some(at) => {
                    self.frames.truncate(at);
                    entry = Entry::Agent;
                }
                None => self.frames.clear(),
            },
            Entry::Execute => self.unset("return_value"),
            Entry::Agent => {}
        }
        let section = Section { name: section.to_owned(), params, entry, jumps: BTreeMap::new() };
        self.frames.push(Frame { document, steps, at: 0, section: Some(section) });
    }
}

/// Restores the placeholders in `confirm` steps. These steps run later on the called leg. They use the `call` object
/// and the variables of the called leg. Both values have the same keys in the same order.
fn keep_confirmations(written: &Value, expanded: &mut Value) {
    match (written, expanded) {
        (Value::Object(written), Value::Object(expanded)) => {
            for ((key, value), place) in written.iter().zip(expanded.values_mut()) {
                if key == "confirm" && value.text().is_none() {
                    *place = value.clone();
                } else {
                    keep_confirmations(value, place);
                }
            }
        }
        (Value::List(written), Value::List(expanded)) => {
            written.iter().zip(expanded).for_each(|(value, place)| keep_confirmations(value, place));
        }
        _ => {}
    }
}

/// Converts numbers in `params` to text. SWML passes numbers as text.
fn as_params(value: Value) -> Value {
    match value {
        Value::Number(_) => Value::Text(value.to_string()),
        Value::List(items) => Value::List(items.into_iter().map(as_params).collect()),
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(key, value)| (key, as_params(value))).collect())
        }
        other => other,
    }
}

impl Scope for Interpreter {
    fn find(&self, name: &str) -> Option<Found<'_>> {
        Some(match name {
            "vars" => Found::Object(&self.vars),
            "envs" => Found::Object(&self.envs),
            "call" => Found::Object(&self.context.call),
            "params" => Found::Value(self.params()?),
            _ => {
                let places = [&self.vars, &self.envs, &self.context.call, &self.memory.names];
                // If the budget is used up, the script ends after this step.
                places.iter().try_for_each(|place| self.budget.spend(place.len())).ok()?;
                Found::Value(places.into_iter().find_map(|place| place.get(name))?)
            }
        })
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }
}
