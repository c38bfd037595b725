//! A document: sections of steps. The whole document is checked before the first step runs.
//!
//! Some forms are accepted although the schema forbids them, because SignalWire's own examples use these forms
//! (`hangup` instead of `hangup: {}`, `play: "say:Hi"`). An unknown step is an error. If a step has a parameter that
//! its method does not know, the server gives a warning.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{Code, Fault};
use super::text;
use super::value::{Object, Value};
use super::written;

/// Maximum number of warnings about a document, and of stored warnings of a script. Further warnings are dropped.
pub(super) const MAX_WARNINGS: usize = 100;

/// A checked document. A clone is cheap.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Document {
    /// The text in the form of [`written`](super::written). The written form of a script has it.
    pub(super) source: Arc<str>,
    sections: Arc<BTreeMap<String, Steps>>,
    /// Warnings about the document.
    pub(super) warnings: Arc<Vec<Fault>>,
}

/// Steps that run one after the other.
pub(super) type Steps = Arc<Vec<Step>>;

/// A step: a method and the method's parameters. Parameters may contain placeholders.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Step {
    /// The step's number, unique in the document.
    pub(super) id: usize,
    pub(super) method: &'static Method,
    /// The parameters of the step. For most methods, this is an object. For `return` and `unset`, this is any value.
    pub(super) parameters: Value,
    /// The steps within this step.
    pub(super) inner: Inner,
}

/// The steps within a step.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) enum Inner {
    #[default]
    None,
    /// The branches of `cond`.
    Branches(Vec<Branch>),
    /// The cases of `switch`.
    Cases(Cases),
    /// The steps that run when `execute`, `connect` or `join_conference` has ended.
    Over { on_return: Steps, result: Option<Box<Inner>> },
}

/// A branch of `cond`.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Branch {
    /// The condition. If there is no condition, the steps of `then` always run.
    pub(super) when: Option<String>,
    pub(super) then: Steps,
    pub(super) otherwise: Steps,
}

/// The cases of `switch`.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Cases {
    /// The variable's name. `None` means the variable `return_value`.
    pub(super) variable: Option<String>,
    pub(super) cases: Vec<(String, Steps)>,
    pub(super) default: Option<Steps>,
}

/// A method, and the names of its parameters.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Method {
    pub(super) name: &'static str,
    /// The name of the parameter that gets a value without a name. Empty if the method does not allow a value without a
    /// name.
    first: &'static str,
    /// Names of parameters. A step must have at least one of these parameters. Empty if no parameter is required.
    needs: &'static [&'static str],
    /// The other parameters of the method. If `any` is set, the method allows any parameter.
    knows: &'static [&'static str],
    any: bool,
}

const fn method(
    name: &'static str,
    first: &'static str,
    needs: &'static [&'static str],
    knows: &'static [&'static str],
) -> Method {
    Method { name, first, needs, knows, any: false }
}

const fn open(name: &'static str, first: &'static str, needs: &'static [&'static str]) -> Method {
    Method { name, first, needs, knows: &[], any: true }
}

const VOICE: [&str; 3] = ["say_voice", "say_language", "say_gender"];

/// All methods of the schema, and `echo`.
pub(super) static METHODS: [Method; 44] = [
    method("answer", "max_duration", &[], &["codecs", "username", "password"]),
    method("cond", "", &[], &[]),
    method(
        "connect",
        "to",
        &["to", "serial", "parallel", "serial_parallel"],
        &[
            "from",
            "from_name",
            "timeout",
            "max_duration",
            "answer_on_bridge",
            "ringback",
            "confirm",
            "confirm_timeout",
            "headers",
            "codecs",
            "webrtc_media",
            "session_timeout",
            "encryption",
            "username",
            "password",
            "call_state_url",
            "call_state_events",
            "status_url",
            "status_url_method",
            "result",
            "transfer_after_bridge",
            "name",
            "codec",
            "realtime",
            "authorization_bearer_token",
            "custom_parameters",
        ],
    ),
    method("denoise", "", &[], &[]),
    method(
        "detect_machine",
        "detectors",
        &[],
        &[
            "detect_message_end",
            "initial_timeout",
            "end_silence_timeout",
            "machine_ready_timeout",
            "machine_voice_threshold",
            "machine_words_threshold",
            "timeout",
            "tone",
            "wait",
            "status_url",
            "detect_interruptions",
        ],
    ),
    method("echo", "timeout", &[], &[]),
    method(
        "enter_queue",
        "queue_name",
        &["queue_name"],
        &["transfer_after_bridge", "status_url", "wait_url", "wait_time"],
    ),
    method("execute", "dest", &["dest"], &["params", "meta", "on_return", "result"]),
    method("goto", "label", &["label"], &["when", "max", "meta"]),
    method("hangup", "reason", &[], &[]),
    method(
        "join_conference",
        "name",
        &["name"],
        &[
            "muted",
            "beep",
            "start_on_enter",
            "end_on_exit",
            "wait_url",
            "max_participants",
            "record",
            "region",
            "trim",
            "coach",
            "status_callback",
            "status_callback_method",
            "status_callback_event",
            "status_callback_event_type",
            "recording_status_callback",
            "recording_status_callback_method",
            "recording_status_callback_event",
            "recording_status_callback_event_type",
            "result",
            "stream",
        ],
    ),
    method("join_room", "name", &["name"], &[]),
    method("label", "label", &[], &[]),
    method("play", "url", &["url", "urls"], &["auto_answer", "volume", "status_url", VOICE[0], VOICE[1], VOICE[2]]),
    method(
        "prompt",
        "play",
        &["play"],
        &[
            "volume",
            "max_digits",
            "terminators",
            "digit_timeout",
            "initial_timeout",
            "speech_timeout",
            "speech_end_timeout",
            "speech_language",
            "speech_hints",
            "speech_engine",
            "status_url",
            VOICE[0],
            VOICE[1],
            VOICE[2],
        ],
    ),
    method("receive_fax", "status_url", &[], &[]),
    method("record", "beep", &[], &RECORDING),
    method("record_call", "control_id", &[], &RECORDING),
    method("request", "url", &["url"], &["method", "headers", "body", "connect_timeout", "timeout", "save_variables"]),
    open("return", "", &[]),
    method("send_digits", "digits", &["digits"], &[]),
    open("send_fax", "document", &["document"]),
    open("send_sms", "body", &["to_number"]),
    open("set", "", &[]),
    method("sip_refer", "to_uri", &["to_uri"], &["status_url", "username", "password"]),
    method("sleep", "duration", &["duration"], &[]),
    method("stop_denoise", "", &[], &[]),
    method("stop_record_call", "control_id", &[], &[]),
    method("stop_stream", "control_id", &[], &[]),
    method("stop_tap", "control_id", &[], &[]),
    method(
        "stream",
        "url",
        &["url"],
        &[
            "control_id",
            "name",
            "track",
            "codec",
            "status_url",
            "status_url_method",
            "authorization_bearer_token",
            "custom_parameters",
            "realtime",
        ],
    ),
    method("switch", "", &["variable"], &["case", "default"]),
    method("tap", "uri", &["uri"], &["control_id", "direction", "codec", "rtp_ptime", "status_url"]),
    method("transcribe", "status_url", &[], &[]),
    method("transcribe_stop", "", &[], &[]),
    method("live_transcribe", "action", &["action"], &[]),
    method("transfer", "dest", &["dest"], &["params", "meta"]),
    open("unset", "", &[]),
    method("user_event", "event", &[], &[]),
    open("ai", "", &[]),
    open("ai_sidecar", "", &[]),
    open("amazon_bedrock", "", &[]),
    open("live_translate", "", &[]),
    open("pay", "", &[]),
];

/// The parameters of `record` and `record_call`.
const RECORDING: [&str; 13] = [
    "stereo",
    "format",
    "direction",
    "terminators",
    "beep",
    "input_sensitivity",
    "initial_timeout",
    "end_silence_timeout",
    "max_length",
    "status_url",
    "control_id",
    "volume",
    "auto_answer",
];

impl Document {
    /// Parses and checks a document.
    ///
    /// # Errors
    /// The first fault that makes the document unusable.
    pub(crate) fn read(text: &[u8]) -> Result<Self, Fault> {
        Self::of(text::read(text)?)
    }

    /// Checks a parsed document, or a document that was part of a request.
    pub(crate) fn of(value: Value) -> Result<Self, Fault> {
        let wrong = |code, detail: &str| Fault::new(code, detail);
        let source = written::text(&value).into();
        let Value::Object(mut document) = value else {
            return Err(wrong(Code::ElementWrongType, "a document must be an object with version and sections"));
        };
        match document.get("version") {
            None => {}
            Some(version) if version.text() == Some("1.0.0") => {}
            Some(version) => {
                return Err(Fault::new(Code::VersionInvalid, format!("version must be 1.0.0, not {version}")));
            }
        }
        if let Some((key, _)) = document.iter().find(|(key, _)| !matches!(*key, "version" | "sections")) {
            return Err(Fault::new(
                Code::ElementUndefined,
                format!("a document has only version and sections, not {key:?}"),
            ));
        }
        let sections = match document.remove("sections") {
            Some(Value::Object(sections)) => sections,
            Some(_) => return Err(wrong(Code::ElementWrongType, "sections must be an object of sections by name")),
            None => return Err(wrong(Code::SectionsMissing, "there are no sections")),
        };
        if sections.get("main").is_none() {
            return Err(wrong(Code::MainSectionMissing, "there is no section main"));
        }
        let mut reader = Reader::default();
        let mut read = BTreeMap::new();
        for (name, steps) in sections {
            reader.place.push(name.clone());
            let steps = reader.steps(steps)?;
            reader.place.pop();
            if steps.is_empty() && name == "main" {
                return Err(wrong(Code::SectionCodeMissing, "section main has no steps"));
            }
            read.insert(name, steps);
        }
        Ok(Self { source, sections: Arc::new(read), warnings: Arc::new(reader.warnings) })
    }

    pub(super) fn section(&self, name: &str) -> Option<&Steps> {
        self.sections.get(name)
    }

    /// Whether both are the same document in memory.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sections, &other.sections)
    }

    /// Returns the steps that begin with the step with this number.
    pub(super) fn steps_from(&self, id: usize) -> Option<Steps> {
        self.sections.values().find_map(|steps| steps_from(steps, id))
    }
}

/// Finds the steps that begin with the step with the number `id`: these steps, or steps within them.
fn steps_from(steps: &Steps, id: usize) -> Option<Steps> {
    // The numbers of steps rise in the order of the document.
    let first = steps.first()?.id;
    match first.cmp(&id) {
        Ordering::Equal => Some(Arc::clone(steps)),
        Ordering::Greater => None,
        Ordering::Less => {
            let enclosing = steps.partition_point(|step| step.id < id).checked_sub(1)?;
            inner_steps_from(&steps.get(enclosing)?.inner, id)
        }
    }
}

fn inner_steps_from(inner: &Inner, id: usize) -> Option<Steps> {
    match inner {
        Inner::None => None,
        Inner::Branches(branches) => {
            branches.iter().flat_map(|branch| [&branch.then, &branch.otherwise]).find_map(|steps| steps_from(steps, id))
        }
        Inner::Cases(cases) => {
            let all = cases.cases.iter().map(|(_, steps)| steps).chain(&cases.default);
            { all }.find_map(|steps| steps_from(steps, id))
        }
        Inner::Over { on_return, result } => {
            steps_from(on_return, id).or_else(|| inner_steps_from(result.as_deref()?, id))
        }
    }
}

#[derive(Default)]
struct Reader {
    place: Vec<String>,
    warnings: Vec<Fault>,
    next: usize,
}

impl Reader {
    fn fault(&self, code: Code, detail: impl std::fmt::Display) -> Fault {
        Fault::new(code, format!("{}: {detail}", self.place.join(".")))
    }

    /// Reads a list of steps, or a single step.
    fn steps(&mut self, value: Value) -> Result<Steps, Fault> {
        let steps = match value {
            Value::List(items) => items,
            Value::Null | Value::Undefined => Vec::new(),
            one @ (Value::Object(_) | Value::Text(_)) => vec![one],
            _ => return Err(self.fault(Code::ElementWrongType, "a section must be a list of steps")),
        };
        let mut read = Vec::with_capacity(steps.len());
        for (index, step) in steps.into_iter().enumerate() {
            self.place.push(format!("[{index}]"));
            read.push(self.step(step)?);
            self.place.pop();
        }
        Ok(Arc::new(read))
    }

    fn step(&mut self, value: Value) -> Result<Step, Fault> {
        let (name, parameters) = match value {
            Value::Text(name) => (name, Value::Null),
            Value::Object(object) if object.len() > 1 => {
                let detail = "a step must have exactly one method: begin each with \"- \"";
                return Err(self.fault(Code::MethodMissingName, detail));
            }
            Value::Object(object) => match object.into_iter().next() {
                Some(one) => one,
                None => return Err(self.fault(Code::MethodMissingName, "a step must name a method")),
            },
            _ => return Err(self.fault(Code::ElementWrongType, "a step must be a method, such as play: {url: ...}")),
        };
        let Some(method) = METHODS.iter().find(|method| method.name == name) else {
            return Err(self.fault(Code::MethodUndefined, format_args!("there is no method {name:?}")));
        };
        self.place.push(name);
        self.next += 1;
        let id = self.next;
        let (parameters, inner) = match method.name {
            "cond" => (Value::Null, self.branches(parameters)?),
            "return" | "unset" => (parameters, Inner::None),
            _ => {
                let mut parameters = self.parameters(method, parameters)?;
                let inner = self.inner(method.name, &mut parameters)?;
                (Value::Object(parameters), inner)
            }
        };
        self.place.pop();
        Ok(Step { id, method, parameters, inner })
    }

    /// Converts the parameters to the usual form, which is an object.
    fn parameters(&mut self, method: &Method, value: Value) -> Result<Object, Fault> {
        let is_pair = |item: &Value| item.object().is_some_and(|object| object.len() == 1);
        let parameters = match value {
            Value::Object(object) => object,
            Value::Null | Value::Undefined => Object::default(),
            // A list of objects. Each object has one parameter.
            Value::List(items) if !items.is_empty() && items.iter().all(is_pair) && method.name != "play" => {
                let object = |item| if let Value::Object(object) = item { object } else { Object::default() };
                items.into_iter().flat_map(object).collect()
            }
            list @ Value::List(_) if method.name == "play" => [("urls", list)].into_iter().collect(),
            _ if method.first.is_empty() => {
                return Err(self.fault(Code::ElementWrongType, "its parameters must be an object"));
            }
            bare => [(method.first, bare)].into_iter().collect(),
        };
        if !method.needs.is_empty() && !method.needs.iter().any(|name| parameters.get(name).is_some()) {
            let needs = method.needs.join(" or ");
            return Err(self.fault(Code::MethodParameterMissing, format_args!("{needs} is missing")));
        }
        let known = |key: &str| method.first == key || method.needs.contains(&key) || method.knows.contains(&key);
        let unknown = parameters.iter().filter(|(key, _)| !method.any && !known(key));
        for (key, _) in unknown.take(MAX_WARNINGS.saturating_sub(self.warnings.len())) {
            let fault = self.fault(Code::MethodParameterUndefined, format_args!("there is no parameter {key:?}"));
            self.warnings.push(fault);
        }
        Ok(parameters)
    }

    fn inner(&mut self, name: &str, parameters: &mut Object) -> Result<Inner, Fault> {
        match name {
            "switch" => self.cases(parameters).map(Inner::Cases),
            "execute" | "connect" | "join_conference" => {
                let on_return = self.named_steps(parameters, "on_return")?;
                let result = match parameters.remove("result") {
                    None | Some(Value::Null) => None,
                    Some(Value::Object(mut switch)) => {
                        self.place.push("result".to_owned());
                        let cases = self.cases(&mut switch)?;
                        self.place.pop();
                        Some(Box::new(Inner::Cases(cases)))
                    }
                    Some(branches) => {
                        self.place.push("result".to_owned());
                        let branches = self.branches(branches)?;
                        self.place.pop();
                        Some(Box::new(branches))
                    }
                };
                Ok(Inner::Over { on_return, result })
            }
            _ => Ok(Inner::None),
        }
    }

    fn named_steps(&mut self, parameters: &mut Object, key: &str) -> Result<Steps, Fault> {
        let Some(steps) = parameters.remove(key) else { return Ok(Steps::default()) };
        self.place.push(key.to_owned());
        let steps = self.steps(steps)?;
        self.place.pop();
        Ok(steps)
    }

    fn cases(&mut self, parameters: &mut Object) -> Result<Cases, Fault> {
        let variable = match parameters.get("variable") {
            None | Some(Value::Null) => None,
            Some(Value::Text(name)) => Some(name.clone()),
            Some(_) => return Err(self.fault(Code::ElementWrongType, "variable must be the name of a variable")),
        };
        let mut cases = Vec::new();
        match parameters.remove("case") {
            Some(Value::Object(object)) => {
                for (value, steps) in object {
                    self.place.push(format!("case.{value}"));
                    cases.push((value, self.steps(steps)?));
                    self.place.pop();
                }
            }
            None | Some(Value::Null) => {}
            Some(_) => return Err(self.fault(Code::ElementWrongType, "case must be an object of steps by value")),
        }
        let default = match parameters.get("default") {
            Some(_) => Some(self.named_steps(parameters, "default")?),
            None => None,
        };
        Ok(Cases { variable, cases, default })
    }

    fn branches(&mut self, value: Value) -> Result<Inner, Fault> {
        let items = match value {
            Value::List(items) => items,
            one @ Value::Object(_) => vec![one],
            _ => return Err(self.fault(Code::ElementWrongType, "cond must be a list of conditions")),
        };
        let mut branches = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            self.place.push(format!("[{index}]"));
            let Value::Object(mut object) = item else {
                return Err(self.fault(Code::ElementWrongType, "a condition must have when and then, or else"));
            };
            let when = match object.remove("when") {
                None => None,
                Some(Value::Text(when)) => Some(when),
                Some(other) => Some(other.rendered()),
            };
            if when.is_none() && object.get("else").is_none() {
                return Err(self.fault(Code::MethodParameterMissing, "when is missing"));
            }
            if when.is_some() && object.get("then").is_none() {
                return Err(self.fault(Code::MethodParameterMissing, "then is missing"));
            }
            let then = self.named_steps(&mut object, "then")?;
            let otherwise = self.named_steps(&mut object, "else")?;
            self.place.pop();
            branches.push(Branch { when, then, otherwise });
        }
        Ok(Inner::Branches(branches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Document, Fault> {
        Document::read(text.as_bytes())
    }

    fn main(text: &str) -> Vec<(&'static str, String)> {
        let document = read(text).unwrap();
        let steps = document.section("main").unwrap();
        steps.iter().map(|step| (step.method.name, step.parameters.to_json().to_string())).collect()
    }

    #[test]
    fn a_document_is_parsed_from_json_and_from_yaml() {
        let json = r#"{"version":"1.0.0","sections":{"main":[{"answer":{}},{"play":{"url":"say:Hi"}},"hangup"]}}"#;
        let yaml =
            "version: 1.0.0\nsections:\n  main:\n    - answer: {}\n    - play:\n        url: 'say:Hi'\n    - hangup\n";
        let expected = [("answer", "{}"), ("play", r#"{"url":"say:Hi"}"#), ("hangup", "{}")];
        let expected = expected.map(|(name, parameters)| (name, parameters.to_owned()));
        assert_eq!(main(json), expected);
        assert_eq!(main(yaml), expected);
    }

    #[test]
    fn short_forms_of_a_method_expand_to_their_long_forms() {
        let text = "sections:\n  main:\n  - play: say:Hi\n  - play: [say:a, 'say:b']\n  - transfer: https://x/\n  - send_digits: '12'\n  - goto: top\n  - sleep: 500\n  - hangup:\n  - return: null\n  - unset: [a, b]\n  - transfer:\n    - dest: sub\n    - params: {a: 1}\n  - connect: '+15550001'\n";
        let parameters: Vec<_> = main(text).into_iter().map(|(_, parameters)| parameters).collect();
        assert_eq!(
            parameters,
            [
                r#"{"url":"say:Hi"}"#,
                r#"{"urls":["say:a","say:b"]}"#,
                r#"{"dest":"https://x/"}"#,
                r#"{"digits":"12"}"#,
                r#"{"label":"top"}"#,
                r#"{"duration":500}"#,
                "{}",
                "null",
                r#"["a","b"]"#,
                r#"{"dest":"sub","params":{"a":1}}"#,
                r#"{"to":"+15550001"}"#,
            ]
        );
    }

    #[test]
    fn a_section_may_be_a_single_method() {
        assert_eq!(main("sections: {main: {hangup: {}}}").len(), 1);
    }

    #[test]
    fn methods_inside_cond_and_switch_are_checked() {
        let text = "sections:\n  main:\n  - cond:\n    - when: a == 1\n      then: [hangup]\n    - else: [{play: say:x}]\n  - switch:\n      variable: x\n      case:\n        1: [hangup]\n        two: hangup\n      default: [{explode: {}}]\n";
        let fault = read(text).unwrap_err();
        assert_eq!(fault.code, Code::MethodUndefined);
        assert_eq!(fault.detail, "main.[1].switch.default.[0]: there is no method \"explode\"");
    }

    #[test]
    fn an_invalid_document_gets_its_error_code() {
        for (text, code) in [
            ("{", Code::ParseError),
            ("[]", Code::ElementWrongType),
            ("version: 1.0.0", Code::SectionsMissing),
            ("version: 2.0.0\nsections: {main: [hangup]}", Code::VersionInvalid),
            ("sections: {other: [hangup]}", Code::MainSectionMissing),
            ("sections: {main: []}", Code::SectionCodeMissing),
            ("sections: {main: [hangup]}\nextra: 1", Code::ElementUndefined),
            ("sections: {main: 5}", Code::ElementWrongType),
            ("sections: {main: [5]}", Code::ElementWrongType),
            ("sections: {main: [{}]}", Code::MethodMissingName),
            ("sections: {main: [{play: {}}]}", Code::MethodParameterMissing),
            ("sections: {main: [{cond: [{then: []}]}]}", Code::MethodParameterMissing),
            ("sections: {main: [{explode: {}}]}", Code::MethodUndefined),
        ] {
            assert_eq!(read(text).map(|_| ()).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn an_unknown_parameter_of_a_method_causes_a_warning() {
        let document = read("sections: {main: [{play: {url: 'say:x', colour: red}}]}").unwrap();
        assert_eq!(document.warnings.first().map(|fault| fault.code), Some(Code::MethodParameterUndefined));
    }
}
