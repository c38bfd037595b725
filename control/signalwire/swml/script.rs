//! The script of one leg: the interpreter, the script's requests to applications, and the programs for the leg.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tandem_accounts::Account;
use tandem_call::Target;
use tandem_call::conversation::AgentSpec;
use tandem_call::fetch::{FailureKind, Fetch, FetchFailure, FetchReason, Scope};
use tandem_call::program::instruction::{Instruction, Program, RejectReason, Warning};
use tandem_call::snapshot::{self, CallSnapshotError};
use tandem_causes::UNANSWERED_SCRIPT;
use tandem_dialect::script::{Request, Response, Script, Step, Timeouts};
use tandem_dialect::{Context, Notice};
use tandem_id::FetchId;
use tandem_markup::{WEB_PAGE, code, is_web_page};
use tandem_webhooks::Body;
use url::Url;

use super::error::{Code, Fault};
use super::facts::{self, Remembered};
use super::interpreter::{CallContext, Interpreter, Next, PendingResult, ScriptRequest};
use super::method::{NEXT, inlined, next};
use super::value::{Object, Value};
use super::written;

#[cfg(test)]
mod tests;

/// The version of the written form of a script.
const VERSION: u8 = 1;
/// The number of a warning. SWML's error codes are words, not numbers.
const NO_NUMBER: u32 = 0;
/// Maximum size of the answer to the `request` method, in octets.
const MAX_RESPONSE_OCTETS: usize = 1024 * 1024;
/// Maximum number of agents of earlier scripts whose reports are due at the end of the leg.
const MAX_ABSENT: usize = 8;
/// Maximum number of methods in a document of sounds. Such a document is played in a loop.
const MAX_SOUNDS: usize = 100;

/// The script of one leg, as data.
#[derive(PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct LegScript {
    machine: Option<Interpreter>,
    /// The request of the leg that the script received last.
    fetch: Option<FetchId>,
    /// Agents of earlier scripts of the leg that waited for a document when another script began.
    #[serde(default)]
    absent: Vec<AgentSpec>,
    /// The data with which the script will start. This field is set while the first document is being fetched.
    begins: Option<Beginning>,
}

/// The data with which a script starts.
#[derive(PartialEq, Debug, Serialize, Deserialize)]
struct Beginning {
    context: CallContext,
    #[serde(with = "written")]
    envs: Object,
}

impl Script for LegScript {
    fn handle_fetch(&mut self, account: &Account, fetch: &Fetch, context: &Context) -> Step {
        let gone = matches!(fetch.reason, FetchReason::Recorded { hangup: true, .. });
        if gone || fetch.leg.status.is_final() {
            return Step::Done { result: Ok(Program::default()), line: "SWML: the call has ended".to_owned() };
        }
        let call_context = CallContext {
            call: facts::call(account, &fetch.leg, &context.public_url),
            answered: fetch.leg.answered_at.is_some(),
            recordings: super::recordings(&context.public_url, account),
        };
        // The leg repeats its request, because the response to the script's request was lost in a restart.
        let repeats = self.fetch.replace(fetch.id) == Some(fetch.id) && self.begins.is_none();
        if repeats && let Some(step) = self.machine.as_ref().and_then(Interpreter::awaited_response) {
            return self.does(step, fetch);
        }
        if &*fetch.target.url == NEXT {
            let Some(machine) = &mut self.machine else {
                return failed(&Fault::new(Code::InternalError, "there is no script to continue"));
            };
            machine.context = call_context;
            machine.budget.renew();
            return match machine.resume(&fetch.reason) {
                Ok(None) => self.go_on(fetch),
                Ok(Some(next)) => self.does(next, fetch),
                Err(fault) => failed(&fault),
            };
        }
        let envs: Object = Remembered::of(&fetch.leg).envs.into_iter().collect();
        if let Some(text) = inlined(&fetch.target.url) {
            return self.begin(&text, call_context, envs, fetch);
        }
        let notice =
            document_notice(&fetch.target, &call_context, &Object::default(), &envs, &Value::Object(Object::default()));
        self.begins = Some(Beginning { context: call_context, envs });
        Step::Document(notice)
    }

    fn handle_response(&mut self, fetch: &Fetch, answer: Result<&Response, FetchFailure>) -> Step {
        if let Some(Beginning { context, envs }) = self.begins.take() {
            return match answer {
                Ok(response) => self.begin(&response.body, context, envs, fetch),
                Err(failure) => Step::Done { line: format!("SWML: {}", failure.detail), result: Err(failure) },
            };
        }
        let Some(machine) = &mut self.machine else {
            return failed(&Fault::new(Code::InternalError, "there is no script to continue"));
        };
        match (std::mem::take(&mut machine.waits), answer) {
            (PendingResult::Request(ask), answer) => {
                let answer = answer.as_ref().ok().map(|answer| (answer.status, &answer.headers, &*answer.body));
                machine.requested(answer, ask.save);
            }
            (PendingResult::Document { .. }, Ok(response)) if let Some(failure) = no_script(&response.body) => {
                return Step::Done { line: format!("SWML: {}", failure.detail), result: Err(failure) };
            }
            (PendingResult::Document { params, entry, .. }, Ok(response)) => match machine.document(&response.body) {
                Ok(document) => machine.enter(document, "main", params, entry),
                Err(fault) => return failed(&fault),
            },
            (_, Err(failure)) => {
                return Step::Done { line: format!("SWML: {}", failure.detail), result: Err(failure) };
            }
            (_, Ok(_)) => {}
        }
        self.go_on(fetch)
    }

    fn take_absent_agents(&mut self) -> Vec<AgentSpec> {
        let mut agents = std::mem::take(&mut self.absent);
        agents.extend(self.machine.iter_mut().flat_map(|machine| machine.memory.take_absent()));
        agents
    }

    fn write(&self) -> Result<Vec<u8>, CallSnapshotError> {
        snapshot::write(VERSION, self)
    }
}

impl LegScript {
    /// Reads a script that [`Script::write`] has written.
    pub(super) fn read(octets: &[u8]) -> Result<Self, CallSnapshotError> {
        snapshot::read(VERSION, octets)
    }

    fn begin(&mut self, text: &[u8], call_context: CallContext, envs: Object, fetch: &Fetch) -> Step {
        if let Some(failure) = no_script(text) {
            return Step::Done { line: format!("SWML: {}", failure.detail), result: Err(failure) };
        }
        match Interpreter::read(text, envs) {
            Ok(mut machine) => {
                machine.context = call_context;
                if let Some(mut earlier) = self.machine.replace(machine) {
                    let room = MAX_ABSENT.saturating_sub(self.absent.len());
                    self.absent.extend(earlier.memory.take_absent().into_iter().take(room));
                }
                self.go_on(fetch)
            }
            Err(fault) => failed(&fault),
        }
    }

    fn go_on(&mut self, fetch: &Fetch) -> Step {
        match self.machine.as_mut().map(Interpreter::next) {
            Some(Ok(next)) => self.does(next, fetch),
            Some(Err(fault)) => failed(&fault),
            None => failed(&Fault::new(Code::InternalError, "there is no script to continue")),
        }
    }

    fn does(&mut self, next: Next, fetch: &Fetch) -> Step {
        let Some(machine) = &mut self.machine else {
            return failed(&Fault::new(Code::InternalError, "there is no script to continue"));
        };
        match next {
            Next::Document(url) => {
                let target = Target { url: url.into(), method: tandem_call::Method::Post };
                let params = match &machine.waits {
                    PendingResult::Document { params, .. } => params.clone(),
                    _ => Value::Object(Object::default()),
                };
                Step::Document(document_notice(&target, &machine.context, &machine.vars, &machine.envs, &params))
            }
            Next::Request(ask) => Step::Request(Box::new(request(*ask))),
            Next::Run(instructions) if machine.refused.is_some() && is_hangup(&instructions) => self.ends(fetch),
            Next::Run(mut instructions) => {
                machine.refused = None;
                if fetch.scope == Scope::Whisper && !instructions.iter().all(is_in_place_before_a_join) {
                    machine.warn(Code::MethodExecuteFailed, "is not allowed before the bridge");
                    machine.waits = PendingResult::Nothing;
                    return self.go_on(fetch);
                }
                instructions.push(Instruction::Redirect(next_target()));
                let line = format!("SWML: {}{}", machine.path(), machine.place());
                Step::Done { result: Ok(program(instructions, machine)), line }
            }
            Next::End => self.ends(fetch),
        }
    }

    fn ends(&mut self, fetch: &Fetch) -> Step {
        let Some(machine) = &mut self.machine else {
            return failed(&Fault::new(Code::InternalError, "there is no script to continue"));
        };
        let mut unanswered = None;
        let has_dialled = machine.vars.get("connect_result").is_some();
        if !machine.context.answered && fetch.scope == Scope::Leg && machine.refused.is_none() && !has_dialled {
            unanswered = Some(Warning { code: NO_NUMBER, message: UNANSWERED_SCRIPT.to_owned() });
        }
        let refused = machine.refused.take().filter(|_| fetch.scope == Scope::Leg);
        let ends = machine.context.answered || fetch.scope != Scope::Leg;
        let instructions = match refused {
            Some(why) => vec![Instruction::Refused(why)],
            None if ends => Vec::new(),
            None => vec![Instruction::Reject(RejectReason::Status(480))],
        };
        let mut program = program(instructions, machine);
        program.warnings.extend(unanswered);
        Step::Done { result: Ok(program), line: format!("SWML: {}the script has ended", machine.path()) }
    }
}

/// Whether these instructions only end the call.
fn is_hangup(instructions: &[Instruction]) -> bool {
    instructions.iter().all(|instruction| matches!(instruction, Instruction::Hangup | Instruction::Reject(_)))
}

fn next_target() -> Target {
    next()
}

fn program(instructions: Vec<Instruction>, machine: &mut Interpreter) -> Program {
    let warnings = machine.warnings().into_iter();
    let warnings = warnings.map(|fault| Warning { code: NO_NUMBER, message: fault.to_string() }).collect();
    Program { instructions, warnings }
}

fn is_in_place_before_a_join(instruction: &Instruction) -> bool {
    !matches!(
        instruction,
        Instruction::Dial(_)
            | Instruction::Enqueue(_)
            | Instruction::Conference(_)
            | Instruction::Connect(_)
            | Instruction::Converse(_)
            | Instruction::Refer(_)
    )
}

fn failed(fault: &Fault) -> Step {
    let failure = failure(fault);
    Step::Done { line: format!("SWML: {fault}"), result: Err(failure) }
}

fn failure(fault: &Fault) -> FetchFailure {
    let kind = match fault.code {
        Code::TooManyTransfers => FailureKind::Loop,
        Code::TooMuchWork => FailureKind::TooMuchWork,
        Code::ParseError => FailureKind::ScriptSyntax,
        _ => FailureKind::ScriptInvalid,
    };
    FetchFailure { kind, detail: fault.to_string() }
}

/// Recognises an answer that is not a script at all: an empty answer, a web page, or XML.
fn no_script(body: &[u8]) -> Option<FetchFailure> {
    let failure = |kind, detail: &str| Some(FetchFailure { kind, detail: detail.to_owned() });
    let text = String::from_utf8_lossy(body);
    match text.trim_start_matches('\u{feff}').trim_start() {
        "" => failure(FailureKind::Empty, "the answer is empty"),
        page if is_web_page(page) => failure(FailureKind::Document(code::NOT_XML), WEB_PAGE),
        xml if xml.starts_with('<') => failure(
            FailureKind::OtherDialect,
            "the answer is XML, not SWML: use the provider \"signalwire\" for XML documents (cXML)",
        ),
        _ => None,
    }
}

/// The HTTP request for a document.
fn document_notice(
    target: &Target,
    call_context: &CallContext,
    vars: &Object,
    envs: &Object,
    params: &Value,
) -> Notice {
    let json = |object: &Object| Value::Object(object.clone()).to_json();
    let body = json!({
        "call": json(&call_context.call),
        "vars": json(vars),
        "envs": json(envs),
        "params": params.to_json(),
    });
    Notice { event: "swml".into(), target: target.clone(), failover: None, body: Body::Json(body), numbered: false }
}

/// The HTTP request for a document of sounds. Such a document is not part of the leg's script.
pub(super) fn sounds_notice(account: &Account, fetch: &Fetch, context: &Context) -> Notice {
    let call_context = CallContext {
        call: facts::call(account, &fetch.leg, &context.public_url),
        answered: true,
        recordings: String::new(),
    };
    let none = Object::default();
    document_notice(&fetch.target, &call_context, &none, &none, &Value::Object(none.clone()))
}

/// Converts the request of a `request` method to an HTTP request.
fn request(ask: ScriptRequest) -> Request {
    Request {
        method: ask.method,
        url: ask.url,
        headers: ask.headers,
        body: ask.body,
        timeouts: Timeouts { connect: Some(ask.connect_timeout), total: ask.timeout },
        max_body: MAX_RESPONSE_OCTETS,
    }
}

/// Parses a document of sounds for a caller in a queue or a conference. Returns the sounds and pauses in the order of
/// the document.
pub(super) fn sounds(base: Option<&Url>, content_type: Option<&str>, body: &[u8]) -> Result<Program, FetchFailure> {
    use tandem_call::program::instruction::{AudioSource, Play};
    if let Some(url) = base.filter(|_| content_type.is_some_and(|kind| kind.starts_with("audio/"))) {
        let play = Instruction::Play(Play::once(AudioSource::Url(url.to_string())));
        return Ok(Program { instructions: vec![play], warnings: Vec::new() });
    }
    let mut machine = Interpreter::read(body, Object::default()).map_err(|fault| failure(&fault))?;
    let mut audible = Vec::new();
    for _ in 0..MAX_SOUNDS {
        match machine.next().map_err(|fault| failure(&fault))? {
            Next::Run(instructions) => {
                machine.waits = PendingResult::Nothing;
                let sounds = |one: &Instruction| matches!(one, Instruction::Play(_) | Instruction::Pause(_));
                if !instructions.iter().all(sounds) {
                    machine.warn(Code::MethodExecuteFailed, "is not allowed in a document of sounds");
                }
                audible.extend(instructions.into_iter().filter(sounds));
            }
            Next::Document(_) | Next::Request(_) => {
                machine.waits = PendingResult::Nothing;
                machine.warn(Code::MethodExecuteFailed, "is not allowed in a document of sounds");
            }
            Next::End => break,
        }
    }
    Ok(program(audible, &mut machine))
}
