//! The interpreter: sections, variables and conditions of a document. The interpreter is plain data and does no I/O.
//!
//! For each method that needs the leg, the interpreter returns the leg's next action ([`Next`]). Then it receives the
//! outcome of the method ([`Interpreter::resume`]). The interpreter executes a method that needs no leg (`set`, `cond`,
//! `goto`...) immediately.

use std::collections::VecDeque;

use bytes::Bytes;
use tandem_call::id::{RecordingId, StreamId};
use tandem_call::program::instruction::{Dial, Instruction};

use super::document::{Branch, Cases, Document, Inner, Step, Steps};
use super::error::{Code, Fault};
use super::expression::{self, Scope};
use super::parameters::{WEB, is_url};
use super::template::{self, expand};
use super::value::{Object, Value};

/// Maximum number of transfers in a call.
const MAX_TRANSFERS: u32 = 32;
/// Maximum number of consecutive steps that take no time.
const MAX_STEPS: u32 = 10_000;
/// Maximum nesting depth of sections and conditions.
const DEEPEST: usize = 100;
/// Maximum size of all variables together, in octets.
const MAX_VARIABLE_OCTETS: usize = 1024 * 1024;
/// Maximum and default number of jumps of a `goto`.
const MAX_JUMPS: f64 = 100.0;
/// Maximum number of warnings that are stored until they are read.
const MAX_WARNINGS: usize = 100;

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
#[derive(Clone, PartialEq, Debug)]
pub(super) struct ScriptRequest {
    pub(super) method: http::Method,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// Maximum time for the whole request, in seconds.
    pub(super) timeout: f64,
    pub(super) connect_timeout: f64,
    /// Whether the members of a JSON answer become variables of the script.
    pub(super) save: bool,
}

/// The outcome that the interpreter waits for.
#[derive(Clone, PartialEq, Debug, Default)]
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
        variable: &'static str,
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
        result: Option<Inner>,
        then: Option<String>,
    },
    /// The end of the stream that has taken over the call.
    ConnectStream {
        result: Option<Inner>,
    },
    Queue {
        then: Option<String>,
    },
    Conference {
        variable: &'static str,
        result: Option<Inner>,
    },
    Refer,
    Detect,
    /// The document of an `execute` or of a `transfer`. `over` has the steps after an `execute`.
    Document {
        params: Value,
        over: Option<Box<Over>>,
    },
    Request {
        save: bool,
    },
}

/// The steps that run after an executed section.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Over {
    on_return: Steps,
    result: Option<Inner>,
}

#[derive(Clone, PartialEq, Debug)]
enum Frame {
    Section {
        document: Document,
        steps: Steps,
        at: usize,
        params: Value,
        over: Option<Box<Over>>,
        /// The steps that have made jumps: the number of the step, and the number of its jumps.
        jumps: Vec<(usize, u32)>,
    },
    /// Steps within a section.
    Block { steps: Steps, at: usize },
}

/// The jobs that run in the background.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Jobs {
    pub(super) recordings: Vec<(String, RecordingId)>,
    pub(super) streams: Vec<(String, StreamId)>,
    pub(super) taps: Vec<(String, StreamId)>,
    /// Number of jobs for which the script gave no id.
    pub(super) nameless: u32,
}

/// The properties of the call when a step runs.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct CallContext {
    /// The script's object `call`.
    pub(super) call: Object,
    /// Whether the leg is answered.
    pub(super) answered: bool,
    /// The first part of the URL of every recording.
    pub(super) recordings: String,
}

/// A running script.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Interpreter {
    frames: Vec<Frame>,
    pub(super) vars: Object,
    pub(super) envs: Object,
    pub(super) standing: CallContext,
    pub(super) waits: PendingResult,
    pub(super) jobs: Jobs,
    transfers: u32,
    warnings: Vec<Fault>,
    /// Name of the method that started last. Log messages show this name.
    pub(super) place: String,
}

/// Says how a script continues after a step.
pub(super) enum Flow {
    Continue,
    Yield(Next),
}

impl Interpreter {
    /// A script at the start of a document's main section.
    pub(super) fn new(document: &Document, envs: Object) -> Self {
        let mut machine = Self { envs, ..Self::of_nothing() };
        machine.enter(document.clone(), "main", Value::Object(Object::default()), None);
        machine
    }

    /// A script that has ended.
    pub(super) fn of_nothing() -> Self {
        Self {
            frames: Vec::new(),
            vars: Object::default(),
            envs: Object::default(),
            standing: CallContext::default(),
            waits: PendingResult::Nothing,
            jobs: Jobs::default(),
            transfers: 0,
            warnings: Vec::new(),
            place: String::new(),
        }
    }

    /// Returns the new warnings and removes them from the interpreter.
    pub(super) fn warnings(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.warnings)
    }

    pub(super) fn warn(&mut self, code: Code, detail: impl std::fmt::Display) {
        let fault = Fault::new(code, format!("{}: {detail}", self.place));
        self.vars.set("script_error", code.to_string());
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(fault);
        }
    }

    /// The `params` of the running section.
    pub(super) fn params(&self) -> Value {
        let sections = self.frames.iter().rev().filter_map(|frame| match frame {
            Frame::Section { params, .. } => Some(params),
            Frame::Block { .. } => None,
        });
        { sections }.next().cloned().unwrap_or_default()
    }

    /// Runs steps until a step takes time.
    ///
    /// # Errors
    /// A fault that ends the script.
    pub(super) fn next(&mut self) -> Result<Next, Fault> {
        for _ in 0..MAX_STEPS {
            let Some(step) = self.step() else {
                if self.frames.is_empty() {
                    return Ok(Next::End);
                }
                continue;
            };
            if self.frames.len() > DEEPEST {
                let detail = format!("{}: more than {DEEPEST} nested sections and conditions", self.place);
                return Err(Fault::new(Code::NestedTooDeep, detail));
            }
            match self.run(&step)? {
                Flow::Continue => {}
                Flow::Yield(next) => return Ok(next),
            }
        }
        Err(Fault::new(Code::InternalError, format!("{}: {MAX_STEPS} steps without one that takes time", self.place)))
    }

    /// Returns the next step, and moves the position to the step after it. `None` if there is no further step in the
    /// section or the condition.
    fn step(&mut self) -> Option<Step> {
        let (steps, at) = match self.frames.last_mut()? {
            Frame::Section { steps, at, .. } | Frame::Block { steps, at } => (steps, at),
        };
        let step = steps.get(*at).cloned();
        *at += 1;
        if step.is_none() {
            self.leave();
        }
        step
    }

    /// Leaves the innermost section or condition.
    fn leave(&mut self) {
        if let Some(Frame::Section { over, .. }) = self.frames.pop() {
            match over {
                Some(over) => {
                    // The block that is added last runs first. So `on_return` runs before `result`.
                    self.follow(over.result.as_ref());
                    self.block(over.on_return);
                }
                None => self.frames.clear(),
            }
        }
    }

    fn run(&mut self, step: &Step) -> Result<Flow, Fault> {
        self.place = step.method.name.to_owned();
        let parameters = match step.method.name {
            // `set` replaces placeholders entry by entry, so that each entry sees the values of earlier entries. The
            // other methods replace placeholders later or not at all.
            "set" | "cond" | "switch" | "label" => step.parameters.clone(),
            "connect" => {
                let mut parameters = self.expanded(&step.parameters);
                keep_confirmations(&step.parameters, &mut parameters);
                parameters
            }
            _ => self.expanded(&step.parameters),
        };
        let object = parameters.object().cloned().unwrap_or_default();
        match step.method.name {
            "set" => {
                for (name, value) in object {
                    let value = self.expanded(&value);
                    self.set(name.strip_prefix("vars.").unwrap_or(&name), value);
                }
            }
            "unset" => match parameters {
                Value::List(names) => names.iter().for_each(|name| self.unset(&name.rendered())),
                Value::Object(names) => names.iter().for_each(|(_, name)| self.unset(&name.rendered())),
                name => self.unset(&name.rendered()),
            },
            "label" => {}
            "cond" => {
                if let Inner::Branches(branches) = &step.inner {
                    self.branch(branches);
                }
            }
            "switch" => {
                if let Inner::Cases(cases) = &step.inner {
                    self.choose(cases);
                }
            }
            "goto" => self.goto(step, &object),
            "return" => self.return_with(parameters),
            "execute" => {
                let Inner::Over { on_return, result } = &step.inner else { return Ok(Flow::Continue) };
                let result = result.as_deref().cloned();
                let over = Box::new(Over { on_return: on_return.clone(), result });
                return self.go(&object, Some(over));
            }
            "transfer" => return self.go(&object, None),
            _ => return self.method(step, &object),
        }
        Ok(Flow::Continue)
    }

    /// Replaces the placeholders in a value.
    pub(super) fn expanded(&mut self, value: &Value) -> Value {
        let expanded = expand(value, self);
        for fault in expanded.faults {
            self.warn(Code::JsEvalError, fault);
        }
        expanded.value
    }

    /// Sets a variable. If all variables together would become larger than the maximum size, the variable keeps the old
    /// value. The function then adds a warning.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        let before = self.vars.remove(name);
        let value = value.into();
        let size: usize = self.vars.iter().map(|(name, value)| name.len() + value.size()).sum();
        if size + value.size() > MAX_VARIABLE_OCTETS {
            if let Some(before) = before {
                self.vars.set(name, before);
            }
            self.warn(Code::MethodExecuteFailed, format_args!("{name} is too large"));
        } else {
            self.vars.set(name, value);
        }
    }

    fn unset(&mut self, name: &str) {
        self.vars.remove(name.strip_prefix("vars.").unwrap_or(name));
    }

    fn holds(&mut self, condition: &str) -> bool {
        // In a condition, the text of a value replaces the placeholder before the evaluation.
        let text = if condition.contains("${") || condition.contains("%{") {
            self.expanded(&Value::from(condition)).rendered()
        } else {
            condition.to_owned()
        };
        match expression::evaluate(&text, self) {
            Ok(value) => value.is_truthy(),
            Err(why) => {
                self.warn(Code::JsEvalError, format_args!("{condition}: {why}"));
                false
            }
        }
    }

    fn branch(&mut self, branches: &[Branch]) {
        for Branch { when, then, otherwise } in branches {
            let holds = when.as_deref().is_none_or(|when| self.holds(when));
            if holds && when.is_some() {
                return self.block(then.clone());
            }
            if !otherwise.is_empty() || when.is_none() {
                return self.block(if otherwise.is_empty() { then.clone() } else { otherwise.clone() });
            }
        }
    }

    fn choose(&mut self, cases: &Cases) {
        let name = cases.variable.as_deref().unwrap_or("return_value").trim();
        let bare = name.strip_prefix("${").or_else(|| name.strip_prefix("%{")).and_then(|name| name.strip_suffix('}'));
        let value = match template::path(bare.unwrap_or(name)) {
            Some(path) => template::lookup(&path, self),
            None => self.expanded(&Value::from(name)),
        };
        let text = value.rendered();
        let steps = cases.cases.iter().find(|(case, _)| *case == text).map(|(_, steps)| steps);
        match steps.or(cases.default.as_ref()) {
            Some(steps) => self.block(steps.clone()),
            None => self.warn(Code::MethodNoMatchingCondition, format_args!("no case of {name} is {text:?}")),
        }
    }

    /// Continues with the steps that the document has for the outcome of a method.
    pub(super) fn follow(&mut self, result: Option<&Inner>) {
        match result {
            Some(Inner::Cases(cases)) => self.choose(cases),
            Some(Inner::Branches(branches)) => self.branch(branches),
            Some(Inner::None | Inner::Over { .. }) | None => {}
        }
    }

    fn block(&mut self, steps: Steps) {
        if !steps.is_empty() {
            self.frames.push(Frame::Block { steps, at: 0 });
        }
    }

    fn goto(&mut self, step: &Step, object: &Object) {
        let label = object.get("label").map(Value::rendered).unwrap_or_default();
        let when = match step.parameters.object().and_then(|object| object.get("when")) {
            Some(when) => self.holds(&when.rendered()),
            None => true,
        };
        if !when {
            return;
        }
        let max = object.get("max").and_then(Value::number).unwrap_or(MAX_JUMPS).clamp(1.0, MAX_JUMPS);
        let is_target = |step: &Step| {
            let own = step.parameters.object().and_then(|object| object.get("label"));
            step.method.name == "label" && own.is_some_and(|own| own.rendered() == label)
        };
        // The label that encloses this step most closely within the section.
        let mut found = None;
        for (place, frame) in self.frames.iter().enumerate().rev() {
            let (Frame::Section { steps, .. } | Frame::Block { steps, .. }) = frame;
            if let Some(at) = steps.iter().position(is_target) {
                found = Some((place, at));
                break;
            }
            if matches!(frame, Frame::Section { .. }) {
                break;
            }
        }
        let Some((place, to)) = found else {
            return self.warn(Code::MethodExecuteFailed, format_args!("there is no label {label:?} in this section"));
        };
        let section = self.frames.iter_mut().rev().find_map(|frame| match frame {
            Frame::Section { jumps, .. } => Some(jumps),
            Frame::Block { .. } => None,
        });
        if let Some(jumps) = section {
            let made = match jumps.iter_mut().find(|(id, _)| *id == step.id) {
                Some((_, made)) => made,
                None => {
                    jumps.push((step.id, 0));
                    let Some((_, made)) = jumps.last_mut() else { return };
                    made
                }
            };
            if f64::from(*made) >= max {
                return;
            }
            *made += 1;
        }
        self.frames.truncate(place + 1);
        if let Some(Frame::Section { at, .. } | Frame::Block { at, .. }) = self.frames.last_mut() {
            *at = to;
        }
    }

    fn return_with(&mut self, value: Value) {
        self.set("return_value", value);
        while matches!(self.frames.last(), Some(Frame::Block { .. })) {
            self.frames.pop();
        }
        self.leave();
    }

    /// Executes a section or a document, or transfers the call to a section or a document. `over` has the steps that
    /// run after an execution. `None` means a transfer.
    fn go(&mut self, object: &Object, over: Option<Box<Over>>) -> Result<Flow, Fault> {
        let params = as_params(object.get("params").cloned().unwrap_or_else(|| Value::Object(Object::default())));
        self.go_to(object.get("dest").unwrap_or(&Value::Null), params, over)
    }

    /// Does the same as `go` for the destination `dest`, which does not have to be a parameter of a method.
    pub(super) fn go_to(&mut self, dest: &Value, params: Value, over: Option<Box<Over>>) -> Result<Flow, Fault> {
        if over.is_none() {
            self.transfers += 1;
            if self.transfers > MAX_TRANSFERS {
                let detail = format!("more than {MAX_TRANSFERS} transfers in one call");
                return Err(Fault::new(Code::TooManyTransfers, detail));
            }
        }
        let text = dest.rendered();
        let text = text.trim();
        if is_url(text, WEB) {
            self.waits = PendingResult::Document { params, over };
            return Ok(Flow::Yield(Next::Document(text.to_owned())));
        }
        if text.starts_with("relay:") {
            self.warn(Code::MethodExecuteFailed, format_args!("{text} is not served here"));
            return Ok(Flow::Continue);
        }
        let own = self.frames.iter().rev().find_map(|frame| match frame {
            Frame::Section { document, .. } => Some(document.clone()),
            Frame::Block { .. } => None,
        });
        if let Some(document) = own.filter(|document| document.section(text).is_some()) {
            self.enter(document, text, params, over);
            return Ok(Flow::Continue);
        }
        let document = match dest {
            Value::Object(_) => Document::of(dest)?,
            _ if text.contains("sections") => Document::read(text.as_bytes())?,
            _ => {
                let detail = format!("{}: there is no section {text:?}", self.place);
                return Err(Fault::new(Code::SectionParameterUndefined, detail));
            }
        };
        self.enter(document, "main", params, over);
        Ok(Flow::Continue)
    }

    /// Continues with the fetched document of an `execute` or a `transfer`.
    pub(super) fn arrived(&mut self, document: Document, params: Value, over: Option<Box<Over>>) {
        self.enter(document, "main", params, over);
    }

    fn enter(&mut self, document: Document, section: &str, params: Value, over: Option<Box<Over>>) {
        let steps = document.section(section).cloned().unwrap_or_default();
        for fault in document.warnings.iter() {
            if self.warnings.len() < MAX_WARNINGS && section == "main" {
                self.warnings.push(fault.clone());
            }
        }
        if over.is_none() {
            self.frames.clear();
        } else {
            self.vars.remove("return_value");
        }
        self.frames.push(Frame::Section { document, steps, at: 0, params, over, jumps: Vec::new() });
    }
}

/// Restores the placeholders in `confirm` steps. These steps run later on the called leg. They use the `call` object
/// and the variables of the called leg.
fn keep_confirmations(written: &Value, expanded: &mut Value) {
    match (written, expanded) {
        (Value::Object(written), Value::Object(expanded)) => {
            for (key, value) in written.iter() {
                match expanded.get_mut(key) {
                    Some(place) if key == "confirm" && value.text().is_none() => *place = value.clone(),
                    Some(place) => keep_confirmations(value, place),
                    None => {}
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
    fn value_of(&self, name: &str) -> Value {
        match name {
            "vars" => Value::Object(self.vars.clone()),
            "envs" => Value::Object(self.envs.clone()),
            "call" => Value::Object(self.standing.call.clone()),
            "params" => self.params(),
            _ => {
                let places = [&self.vars, &self.envs, &self.standing.call];
                places.into_iter().find_map(|place| place.get(name)).cloned().unwrap_or_default()
            }
        }
    }
}
