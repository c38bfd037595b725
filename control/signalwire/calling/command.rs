//! Converts the body of a request into a new call or into commands for a leg.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::command::Command;
use tandem_call::conversation::{AgentMessage, ConversationRequest, MessageRole};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{LegInfo, LegOwner, Status};
use tandem_call::new_leg::{LegPlan, OnAnswer};
use tandem_call::output::Invite;
use tandem_call::program::instruction::{
    AudioSource, Credentials, Gather, Instruction, Play, Program, Refer, RejectReason, SendDigits,
};
use tandem_call::recording::{PauseBehavior, RecordingFormat, RecordingSource, Track};
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_history::report::Unused;
use tandem_id::{AccountName, LegId};
use tandem_routing::new_call::NewCall;

use super::error::ApiError;
use crate::swml::NAME;
use crate::swml::document::Document;
use crate::swml::facts::Remembered;
use crate::swml::media::{self, DAY, RECORDING_EVENTS, RecordingDefaults};
use crate::swml::method::{address, inline, state_event, state_events, with_end_callback};
use crate::swml::parameters::{InvalidParameter, Parameters, WEB, is_url};
use crate::swml::sound::{Voice, ringing};
use crate::swml::value::{Object, Value};
use crate::swml::{self, text};

/// The default ringing time of a call.
const RINGING_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_RINGING_SECONDS: f64 = 600.0;
const MAX_DURATION: Duration = Duration::from_secs(14_400);
/// Maximum number of `custom_variables` in a dial.
const MAX_VARIABLES: usize = 20;
/// Maximum number of sounds in one request, including repetitions.
const MAX_SOUNDS: usize = 100;
/// Maximum number of names in a note about parameters without effect.
const MAX_UNUSED: usize = 5;
/// Commands of SignalWire that this server does not support.
const NOT_SERVED: [(&str, &str); 6] = [
    ("play.pause", ": use calling.play.stop"),
    ("play.resume", ": use calling.play again"),
    ("play.volume", ""),
    ("disconnect", ": use calling.end, or calling.transfer to a document"),
    ("live_translate", ""),
    ("echo", ""),
];

/// The kinds of jobs. A job has an id that the application chooses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    Play,
    Record,
    Collect,
    Detect,
    Stream,
    Tap,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Play => "play",
            Self::Record => "record",
            Self::Collect => "collect",
            Self::Detect => "detect",
            Self::Stream => "stream",
            Self::Tap => "tap",
        })
    }
}

/// An operation on a running job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Control {
    Stop,
    Pause(PauseBehavior),
    Resume,
    /// Start the timer of a collect whose `start_input_timers` is false.
    StartTimers,
}

/// A check whether the call's state allows the commands.
type Allowed = fn(&LegInfo) -> Result<(), ApiError>;

/// The parsed request.
#[derive(Debug)]
pub(super) enum Plan {
    /// Creates a call.
    Dial(Box<NewCall>),
    /// Sends commands to a leg. `job` has the kind and the id of the job that the commands start.
    Leg { leg: LegId, commands: Vec<Command>, job: Option<(Kind, String)>, allowed: Allowed },
    /// Stops, pauses or resumes a job of a leg.
    Job { leg: LegId, kind: Kind, control_id: String, control: Control },
}

/// Parses a request.
pub(super) fn plan(body: &Value, account: &AccountName) -> Result<(Plan, Unused), ApiError> {
    let body = body.object().ok_or_else(|| ApiError::BadRequest("the body must be a JSON object".to_owned()))?;
    let none = Object::default();
    let given = match body.get("params") {
        None | Some(Value::Null) => &none,
        Some(params) => {
            params.object().ok_or_else(|| ApiError::BadRequest("params must be a JSON object".to_owned()))?
        }
    };
    let command = body.get("command").and_then(Value::text).ok_or_else(|| ApiError::missing("command"))?;
    let parameters = Parameters::new(given);
    let plan = read(command, body, &parameters, account)?;
    let beside = body.iter().map(|(name, _)| name).filter(|name| !["command", "id", "params"].contains(name));
    let unused = beside.map(str::to_owned).chain(parameters.unused()).take(MAX_UNUSED).collect();
    match parameters.wrong().into_iter().next() {
        Some(InvalidParameter { parameter, detail }) => {
            Err(ApiError::invalid("invalid_parameter", &parameter, format!("{parameter} {detail}")))
        }
        None => Ok((plan, Unused(unused))),
    }
}

fn read(command: &str, body: &Object, parameters: &Parameters<'_>, account: &AccountName) -> Result<Plan, ApiError> {
    match command {
        "dial" => return dial(parameters, account).map(|call| Plan::Dial(Box::new(call))),
        "update" => return update(leg_of(parameters.text("id").as_deref())?, parameters),
        _ => {}
    }
    let name = command.strip_prefix("calling.").ok_or_else(|| unknown(command))?;
    if let Some((_, instead)) = NOT_SERVED.iter().find(|(refused, _)| *refused == name) {
        return Err(not_served("command", &format!("{command}{instead}")));
    }
    let leg = leg_of(body.get("id").and_then(Value::text))?;
    let control = parameters.text("control_id");
    let control_id = || control.clone().ok_or_else(|| ApiError::missing("control_id"));
    let commands = |commands: Vec<Command>| Ok(Plan::Leg { leg, commands, job: None, allowed: |_| Ok(()) });
    let job = |kind, control| Ok(Plan::Job { leg, kind, control_id: control_id()?, control });
    let starts = |kind, command| {
        Ok(Plan::Leg { leg, commands: vec![command], job: Some((kind, control_id()?)), allowed: |_| Ok(()) })
    };
    let callback_for = |events: &[StatusEvent]| parameters.callback("status_url", control.as_deref(), events);
    match name {
        "end" => commands(end(parameters)),
        "transfer" => {
            let dest = parameters.get("dest").ok_or_else(|| ApiError::missing("dest"))?;
            commands(vec![Command::Redirect(destination(dest)?)])
        }
        "play" => {
            let url = parameters.url("status_url", WEB);
            let plays = with_end_callback(plays(parameters)?, url.as_deref(), control.as_deref());
            starts(Kind::Play, Command::PlayOverlay(plays))
        }
        "play.stop" => job(Kind::Play, Control::Stop),
        "record" => starts(Kind::Record, record(parameters, callback_for(&RECORDING_EVENTS))?),
        "record.stop" => job(Kind::Record, Control::Stop),
        "record.pause" => {
            let gap =
                parameters.word("behavior", &[("skip", PauseBehavior::Skip), ("silence", PauseBehavior::Silence)]);
            job(Kind::Record, Control::Pause(gap.unwrap_or(PauseBehavior::Skip)))
        }
        "record.resume" => job(Kind::Record, Control::Resume),
        "collect" => {
            let gather = collect(parameters)?;
            let callback = callback_for(&[StatusEvent::Completed]).map(Arc::new);
            starts(Kind::Collect, Command::Gather(Box::new(Gather { callback, ..gather })))
        }
        "collect.stop" => job(Kind::Collect, Control::Stop),
        "collect.start_input_timers" => job(Kind::Collect, Control::StartTimers),
        "detect" => starts(Kind::Detect, detect(parameters, callback_for(&[StatusEvent::Completed]))?),
        "detect.stop" => job(Kind::Detect, Control::Stop),
        "stream" => {
            let url = parameters.url("url", &["ws", "wss"]).ok_or_else(|| ApiError::missing("url"))?;
            let spec = media::stream(parameters, url, false, callback_for(&[StatusEvent::Completed]));
            starts(Kind::Stream, Command::StartStream { spec, if_none_runs: false })
        }
        "stream.stop" => job(Kind::Stream, Control::Stop),
        "tap" => starts(Kind::Tap, tap(parameters, callback_for(&[StatusEvent::Completed]))?),
        "tap.stop" => job(Kind::Tap, Control::Stop),
        "denoise" | "denoise.stop" => {
            commands(vec![Command::SuppressNoise { track: Track::Inbound, on: name == "denoise" }])
        }
        "live_transcribe" => commands(vec![live_transcribe(parameters)?]),
        "transcribe" => {
            let spec = media::whole_transcription(callback_for(&[StatusEvent::Completed]));
            control_id()?;
            commands(vec![Command::StartTranscription(Box::new(spec))])
        }
        "transcribe.stop" => commands(vec![Command::StopNamedTranscription(media::WHOLE.to_owned())]),
        "refer" => commands(vec![refer(parameters)?]),
        // This server has no client that receives user events.
        "user_event" => commands(Vec::new()),
        "ai_message" => commands(ai_message(parameters)?),
        "ai_hold" => {
            let timeout = parameters.seconds("timeout", 1.0..=900.0);
            commands(vec![Command::AskConversation(ConversationRequest::Hold(timeout))])
        }
        "ai_unhold" => {
            let prompt = parameters.text("prompt").map(|text| ai_messages(MessageRole::System, text));
            // The agent answers the prompt when the hold is over, and not once more after that.
            commands(prompt.into_iter().chain([Command::AskConversation(ConversationRequest::Unhold)]).collect())
        }
        "ai.stop" => {
            // An agent of a leg is its only one, so the id of the job names no other.
            drop(control);
            commands(vec![Command::StopConversation])
        }
        _ if name.ends_with("_fax.stop") => {
            Err(ApiError::state("invalid_state", format!("the call has no job for {command}")))
        }
        _ => Err(unknown(command)),
    }
}

/// The commands of `ai_message`: data and prompts for the agent, and then a message that the agent answers.
fn ai_message(parameters: &Parameters<'_>) -> Result<Vec<Command>, ApiError> {
    let own = ["global_data", "reset"].into_iter().filter_map(|name| {
        let object = parameters.object(name)?;
        Some((name.to_owned(), Value::Object(object.clone())))
    });
    let own: Object = own.collect();
    let has_data = own.iter().next().is_some();
    let data = Value::Object(own).to_json().to_string();
    let data = has_data.then(|| Command::AskConversation(ConversationRequest::ToScript(data.into())));
    let roles = [("system", MessageRole::System), ("user", MessageRole::User), ("assistant", MessageRole::Assistant)];
    let role = parameters.word("role", &roles).unwrap_or(MessageRole::System);
    let message = parameters.text("message_text").map(|text| ai_messages(role, text));
    let commands: Vec<_> = data.into_iter().chain(message).collect();
    if commands.is_empty() { Err(ApiError::missing("message_text")) } else { Ok(commands) }
}

/// The command that gives the agent a message. The agent answers the message, unless the message is one of its own.
fn ai_messages(role: MessageRole, text: String) -> Command {
    let messages = vec![AgentMessage { role, text: text.into() }];
    Command::AskConversation(ConversationRequest::AddMessages { messages, answer: role != MessageRole::Assistant })
}

/// The commands that end a call.
fn end(parameters: &Parameters<'_>) -> Vec<Command> {
    let reasons = [("busy", Some(RejectReason::Busy)), ("decline", Some(RejectReason::Rejected))];
    let others = ["hangup", "cancel", "noAnswer", "error"].map(|word| (word, None));
    let reason = parameters.word("reason", &[reasons.as_slice(), others.as_slice()].concat()).flatten();
    // If the call is already answered, the call refuses the reject, and the hangup ends the call.
    let reject = reason.map(Command::Reject);
    reject.into_iter().chain([Command::Hangup { headers: HeaderFields::new() }]).collect()
}

/// The command that starts a recording.
fn record(parameters: &Parameters<'_>, callback: Option<Callback>) -> Result<Command, ApiError> {
    // SignalWire's SDK omits the outer object.
    let record = parameters.object("record").and_then(|record| record.get("audio")).and_then(Value::object);
    let audio = record.or_else(|| parameters.object("audio"));
    let own = Parameters::new(audio.ok_or_else(|| ApiError::missing("record.audio"))?);
    let defaults = RecordingDefaults {
        source: RecordingSource::Request,
        track: Track::Inbound,
        format: RecordingFormat::Mp3,
        end_silence: 0.5,
    };
    let spec = media::recording(&own, defaults, callback);
    note(parameters, own);
    Ok(Command::StartRecording(spec))
}

/// The command that detects an answering machine.
fn detect(parameters: &Parameters<'_>, callback: Option<Callback>) -> Result<Command, ApiError> {
    let detect = parameters.object("detect").ok_or_else(|| ApiError::missing("detect"))?;
    if detect.get("type").and_then(Value::text) == Some("digit") {
        return Err(not_served("detect.type", "digit detection: use calling.collect"));
    }
    let none = Object::default();
    let own = Parameters::new(detect.get("params").and_then(Value::object).unwrap_or(&none));
    let mut spec = media::detection(&own, true, callback);
    spec.first_result_timeout = parameters.seconds("timeout", 0.0..=600.0).unwrap_or(spec.first_result_timeout);
    note(parameters, own);
    Ok(Command::DetectMachine(Box::new(spec)))
}

/// The command that sends the audio of the call to a device.
fn tap(parameters: &Parameters<'_>, callback: Option<Callback>) -> Result<Command, ApiError> {
    let tap = parameters.object("tap").ok_or_else(|| ApiError::missing("tap"))?;
    let tap = tap.get("params").and_then(Value::object).ok_or_else(|| ApiError::missing("tap.params"))?;
    let device = parameters.object("device").ok_or_else(|| ApiError::missing("device"))?;
    let to = device.get("params").and_then(Value::object).ok_or_else(|| ApiError::missing("device.params"))?;
    // The two objects have no names in common, so one object can have the members of both.
    let all: Object = tap.iter().chain(to.iter()).map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let own = Parameters::new(&all);
    let uri = match own.text("uri") {
        Some(uri) => uri,
        None => {
            let addr = own.text("addr").ok_or_else(|| ApiError::missing("device.params.addr"))?;
            let port = own.text("port").ok_or_else(|| ApiError::missing("device.params.port"))?;
            format!("rtp://{addr}:{port}")
        }
    };
    let spec = media::tap(&own, &uri, "ptime", callback);
    let message = "a tap is sent to an IP address and a port, or to a WebSocket";
    let spec = spec.ok_or_else(|| ApiError::invalid("invalid_parameter", "device", message))?;
    note(parameters, own);
    Ok(Command::StartStream { spec, if_none_runs: false })
}

/// The command that starts or stops the live transcription.
fn live_transcribe(parameters: &Parameters<'_>) -> Result<Command, ApiError> {
    let action = parameters.get("action").ok_or_else(|| ApiError::missing("action"))?;
    if action.text() == Some("stop") {
        return Ok(Command::StopNamedTranscription(media::LIVE.to_owned()));
    }
    let start = action.object().and_then(|action| action.get("start")).and_then(Value::object);
    let start = start.ok_or_else(|| not_served("action", "actions other than start and stop"))?;
    Ok(Command::StartTranscription(Box::new(media::transcription(&Parameters::new(start)))))
}

/// The command that transfers the far end to another SIP address.
fn refer(parameters: &Parameters<'_>) -> Result<Command, ApiError> {
    let device = parameters.object("device").ok_or_else(|| ApiError::missing("device"))?;
    let to = device.get("params").and_then(Value::object).and_then(|params| params.get("to"));
    let to = to.and_then(Value::text).ok_or_else(|| ApiError::missing("device.params.to"))?;
    let refer = Refer { to: to.to_owned(), headers: HeaderFields::new(), action: None };
    let program = Program { instructions: vec![Instruction::Refer(refer)], warnings: Vec::new() };
    Ok(Command::Run(program))
}

fn unknown(command: &str) -> ApiError {
    ApiError::invalid("invalid_command_attempted", "command", format!("unknown command {command:?}"))
}

fn not_served(attribute: &str, what: &str) -> ApiError {
    ApiError::invalid("invalid_command_attempted", attribute, format!("this server does not support {what}"))
}

fn leg_of(id: Option<&str>) -> Result<LegId, ApiError> {
    let id = id.ok_or_else(|| ApiError::missing("id"))?;
    swml::ids().parse_call(id).ok_or_else(|| ApiError::NotFound(format!("{id:?} is not the id of a call")))
}

/// Adds the errors of nested parameters to the errors of the request.
fn note(all: &Parameters<'_>, own: Parameters<'_>) {
    own.unused().into_iter().for_each(|name| all.note_idle(name));
    own.wrong().into_iter().for_each(|wrong| all.note(&wrong.parameter, wrong.detail));
}

/// The document in `url` or `swml`. `None` if the request has neither.
fn document(parameters: &Parameters<'_>) -> Result<Option<Target>, ApiError> {
    match (parameters.text("url"), parameters.get("swml")) {
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("incompatible_parameters", "swml", "url and swml cannot be used together"))
        }
        (Some(url), None) if is_url(&url, WEB) => {
            Ok(Some(Target { url: url.into(), method: parameters.method("url_method") }))
        }
        (Some(_), None) => Err(ApiError::invalid("not_an_http_url", "url", "url must begin with http: or https:")),
        (None, Some(swml)) => checked(swml, "swml").map(Some),
        (None, None) => Ok(None),
    }
}

/// A document that is part of the request. The value is a JSON object, or the text of a document.
fn checked(swml: &Value, attribute: &str) -> Result<Target, ApiError> {
    let read = match swml {
        Value::Text(text) => text::read(text.as_bytes()),
        value => Ok(value.clone()),
    };
    let checked = read.and_then(|value| {
        let target = inline(&value);
        Document::of(value).map(|_| target)
    });
    checked.map_err(|fault| ApiError::invalid("not_json_or_yaml", attribute, fault.to_string()))
}

/// The destination of a transfer. `dest` is the URL of a document, a document, or the address of a party.
fn destination(dest: &Value) -> Result<Target, ApiError> {
    match dest.text() {
        Some(url) if is_url(url, WEB) => Ok(Target { url: url.into(), method: Method::Post }),
        Some(text) if !text.contains("sections") => {
            let to: Object = [("to", text)].into_iter().collect();
            let connect: Object = [("connect", to)].into_iter().collect();
            let main: Object = [("main", vec![Value::from(connect)])].into_iter().collect();
            let document: Object = [("sections", main)].into_iter().collect();
            Ok(inline(&document.into()))
        }
        _ => checked(dest, "dest"),
    }
}

fn dial(parameters: &Parameters<'_>, account: &AccountName) -> Result<NewCall, ApiError> {
    let to = parameters.text("to").ok_or_else(|| ApiError::missing("to"))?;
    let from = parameters.text("caller_id").or_else(|| parameters.text("from"));
    let from = from.ok_or_else(|| ApiError::missing("from"))?;
    if parameters.get("to_script").is_some() {
        return Err(not_served("to_script", "a separate document for the far end"));
    }
    let first = document(parameters)?
        .ok_or_else(|| ApiError::invalid("inline_swml_or_swml_webhook_required", "url", "a call needs url or swml"))?;
    let (called, caller) = (address(&to), address(&from));
    let code = match &called {
        Address::Phone(number) if !number.is_e164() => Some("invalid_pstn_destination"),
        Address::Name(_) => Some("to_destination_unresolvable"),
        _ => None,
    };
    if let Some(code) = code {
        return Err(ApiError::invalid(code, "to", format!("{to} is not an E.164 number, SIP URI or phone")));
    }
    if matches!((&called, &caller), (Address::Phone(_), Address::Name(_) | Address::Client(_))) {
        return Err(ApiError::invalid("invalid_from_number", "from", format!("{from} is not a phone number")));
    }
    let envs = parameters.pairs("custom_variables");
    if envs.len() > MAX_VARIABLES {
        let message = format!("at most {MAX_VARIABLES} are allowed");
        return Err(ApiError::invalid("too_many_custom_variables", "custom_variables", message));
    }
    let digits = parameters.text("send_digits").map(|digits| digits.replace(',', "w"));
    if digits.as_deref().is_some_and(|digits| !digits.chars().all(|key| "0123456789*#ABCDw".contains(key))) {
        parameters.note("send_digits", "contains an invalid digit (allowed: 0-9 * # A-D w ,)");
    }
    let events = status_events(parameters);
    let credentials = parameters.text("username").zip(parameters.text("password"));
    let fallback = parameters.url("fallback_url", WEB).map(|url| Target { url: url.into(), method: Method::Post });
    let credentials = credentials.map(|(username, password)| Credentials { username, password });
    let timeout = parameters.seconds("timeout", 1.0..=MAX_RINGING_SECONDS).unwrap_or(RINGING_TIMEOUT);
    Ok(NewCall {
        owner: LegOwner::new(account.clone(), NAME),
        invite: Invite { credentials, ..Invite::new(called, caller) },
        also: Vec::new(),
        plan: LegPlan {
            time_limit: Some(MAX_DURATION),
            then: OnAnswer::Document(first),
            send_digits: digits.map(SendDigits::new),
            ..LegPlan::waiting(timeout)
        },
        record: None,
        fallback,
        status: parameters.callback("status_url", None, &events),
        client_state: Remembered { envs }.spelled(),
        link_to: None,
        handover: None,
    })
}

/// The events of `status_events`. A word that is no event has no effect.
fn status_events(parameters: &Parameters<'_>) -> Vec<StatusEvent> {
    let words = parameters.texts("status_events");
    for word in words.iter().filter(|word| state_event(word).is_none()) {
        parameters.note_idle(format!("status_events {word}"));
    }
    state_events(&words)
}

fn update(leg: LegId, parameters: &Parameters<'_>) -> Result<Plan, ApiError> {
    let mut commands = Vec::new();
    if let Some(url) = parameters.url("fallback_url", WEB) {
        commands.push(Command::SetFallback(Some(Target { url: url.into(), method: Method::Post })));
    }
    if parameters.get("status_url").is_some() {
        let events = status_events(parameters);
        commands.push(Command::SetCallback(parameters.callback("status_url", None, &events)));
    }
    let allowed: Allowed = match (document(parameters)?, parameters.text("status").as_deref()) {
        (Some(target), _) => {
            commands.push(Command::Redirect(target));
            |leg| match leg.status {
                Status::InProgress => Ok(()),
                status if status.is_final() => Err(over()),
                _ => Err(ApiError::state("cannot_redirect_not_in_progress", "the call is not answered yet")),
            }
        }
        (None, Some("canceled")) => {
            commands.push(Command::Cancel);
            |leg| match leg.status {
                Status::InProgress => Err(ApiError::state("cannot_cancel_in_progress", "the call is answered")),
                status if status.is_final() => Err(over()),
                _ => Ok(()),
            }
        }
        (None, Some("completed")) => {
            commands.push(Command::Hangup { headers: HeaderFields::new() });
            |leg| if leg.status.is_final() { Err(over()) } else { Ok(()) }
        }
        (None, Some(_)) => {
            return Err(ApiError::invalid("invalid_parameter", "status", "status must be canceled or completed"));
        }
        (None, None) if commands.is_empty() => return Err(ApiError::missing("url")),
        (None, None) => |leg| if leg.status.is_final() { Err(over()) } else { Ok(()) },
    };
    Ok(Plan::Leg { leg, commands, job: None, allowed })
}

fn over() -> ApiError {
    ApiError::state("cannot_update_completed", "the call has ended")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of times is from 0 to 1,000")]
fn plays(parameters: &Parameters<'_>) -> Result<Vec<Play>, ApiError> {
    let list = parameters.get("play").ok_or_else(|| ApiError::missing("play"))?;
    let items = list.list().unwrap_or(std::slice::from_ref(list));
    let mut plays = Vec::new();
    for item in items {
        plays.push(piece(item, parameters)?);
    }
    let times = parameters.number("loop", 0.0..=1_000.0).unwrap_or(1.0) as usize;
    if let [only] = plays.as_mut_slice() {
        only.loops = u32::try_from(times).ok().and_then(NonZeroU32::new);
        return Ok(plays);
    }
    let count = if times == 0 { MAX_SOUNDS } else { plays.len().saturating_mul(times) };
    Ok(plays.iter().cycle().take(count.min(MAX_SOUNDS)).cloned().collect())
}

fn piece(item: &Value, parameters: &Parameters<'_>) -> Result<Play, ApiError> {
    let item = item.object().ok_or_else(|| ApiError::missing("play.type"))?;
    let none = Object::default();
    let own = Parameters::new(item.get("params").and_then(Value::object).unwrap_or(&none));
    let seconds = |default| own.seconds("duration", 0.0..=DAY).unwrap_or(Duration::from_secs(default));
    let voice = |name: &str| own.text(name).or_else(|| parameters.text(name));
    let play = match item.get("type").and_then(Value::text) {
        Some("audio") => {
            let url = own.url("url", WEB).ok_or_else(|| ApiError::missing("play.params.url"))?;
            Play::once(AudioSource::Url(url))
        }
        Some("tts") => {
            let text = own.text("text").ok_or_else(|| ApiError::missing("play.params.text"))?;
            Play::once(Voice::new(voice("voice"), voice("language")).says(&text))
        }
        Some("silence") => Play::once(AudioSource::Silence(seconds(1))),
        Some("ringtone") => ringing(&own.text("name").unwrap_or_else(|| "us".to_owned()), seconds(6)),
        _ => {
            let message = "play.type must be audio, tts, silence or ringtone";
            return Err(ApiError::invalid("invalid_parameter", "play.type", message));
        }
    };
    note(parameters, own);
    Ok(play)
}

fn collect(parameters: &Parameters<'_>) -> Result<Gather, ApiError> {
    let (digits, speech) = (parameters.object("digits"), parameters.object("speech"));
    if digits.is_none() && speech.is_none() {
        return Err(ApiError::BadRequest("calling.collect needs digits or speech".to_owned()));
    }
    let none = Object::default();
    let own = Parameters::new(digits.unwrap_or(&none));
    let speech_parameters = Parameters::new(speech.unwrap_or(&none));
    let initial = parameters.seconds("initial_timeout", 0.0..=DAY).unwrap_or(Duration::from_secs(4));
    let gather = Gather {
        prompts: Vec::new(),
        retry_prompts: Vec::new(),
        tries: 1,
        min_digits: 1,
        max_digits: media::count(&own, "max", 1_000).map(NonZeroU32::get),
        terminators: own.digits("terminators").unwrap_or_default(),
        valid_digits: None,
        first_digit_timeout: initial,
        holds_timers: !parameters.flag("start_input_timers").unwrap_or(false),
        inter_digit_timeout: own.seconds("digit_timeout", 0.0..=DAY).unwrap_or(Duration::from_secs(5)),
        total_timeout: None,
        barge_in: true,
        action: None,
        action_on_empty: false,
        id: None,
        speech: speech.map(|_| {
            let timeouts = (
                speech_parameters.seconds("end_silence_timeout", 0.0..=DAY),
                speech_parameters.seconds("speech_timeout", 0.0..=DAY),
            );
            let (language, model) = (speech_parameters.text("language"), speech_parameters.text("model"));
            Box::new(media::listening(language, speech_parameters.texts("hints"), model, timeouts, digits.is_some()))
        }),
        callback: None,
    };
    note(parameters, own);
    note(parameters, speech_parameters);
    Ok(gather)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-0000-0000-0000-000000000007";

    fn planned(json: &str) -> Result<Plan, ApiError> {
        plan(&serde_json::from_str(json).unwrap(), &AccountName::new("main")).map(|(plan, _)| plan)
    }

    fn commanded(command: &str, params: &str) -> Vec<Command> {
        match planned(&format!(r#"{{"command":"{command}","id":"{ID}","params":{params}}}"#)) {
            Ok(Plan::Leg { leg: LegId(7), commands, .. }) => commands,
            other => panic!("{other:?}"),
        }
    }

    fn code(json: &str) -> String {
        let (status, body) = planned(json).unwrap_err().answer();
        let code = body.pointer("/errors/0/code").and_then(|code| code.as_str()).map(str::to_owned);
        code.unwrap_or_else(|| status.to_string())
    }

    #[test]
    fn a_dial_command_creates_a_call_with_its_document_and_variables() {
        let json = r#"{"command":"dial","params":{"from":"+15550001","to":"sip:a@b","swml":{"sections":{"main":["hangup"]}},
            "custom_variables":{"a":"1"},"timeout":20,"send_digits":"1,2","status_url":"http://h/s","status_events":["answered","ended"]}}"#;
        let Plan::Dial(call) = planned(json).unwrap() else { panic!() };
        assert_eq!((call.plan.timeout, call.plan.send_digits), (Duration::from_secs(20), Some(SendDigits::new("1w2"))));
        assert_eq!(call.status.as_ref().unwrap().events, [StatusEvent::Answered, StatusEvent::Completed]);
        let OnAnswer::Document(target) = &call.plan.then else { panic!() };
        assert!(target.url.starts_with("swml:document,"));
    }

    #[test]
    fn an_invalid_command_gets_signalwires_error_code() {
        let dial = |params: &str| code(&format!(r#"{{"command":"dial","params":{params}}}"#));
        let url = r#""url":"http://h/""#;
        assert_eq!(dial("{}"), "missing_required_parameter");
        assert_eq!(dial(r#"{"from":"+15550001","to":"+15550002"}"#), "inline_swml_or_swml_webhook_required");
        assert_eq!(dial(&format!(r#"{{"from":"+15550001","to":"12",{url}}}"#)), "invalid_pstn_destination");
        assert_eq!(dial(&format!(r#"{{"from":"me","to":"+15550002",{url}}}"#)), "invalid_from_number");
        assert_eq!(dial(r#"{"from":"+15550001","to":"+15550002","url":"ftp://h/"}"#), "not_an_http_url");
        assert_eq!(
            dial(&format!(r#"{{"from":"+15550001","to":"+15550002",{url},"swml":{{}}}}"#)),
            "incompatible_parameters"
        );
        assert_eq!(dial(r#"{"from":"+15550001","to":"+15550002","swml":{"sections":{}}}"#), "not_json_or_yaml");
        assert_eq!(dial(&format!(r#"{{"from":"+15550001","to":"+15550002",{url},"timeout":0}}"#)), "invalid_parameter");
        assert_eq!(code(r#"{"command":"explode"}"#), "invalid_command_attempted");
        let tap = |params: &str| code(&format!(r#"{{"command":"calling.tap","id":"{ID}","params":{params}}}"#));
        assert_eq!(tap("{}"), "missing_required_parameter");
        let host = r#"{"control_id":"t","tap":{"params":{}},"device":{"params":{"addr":"host","port":9000}}}"#;
        assert_eq!(tap(host), "invalid_parameter", "only addresses");
        let disconnect = format!(r#"{{"command":"calling.disconnect","id":"{ID}","params":{{}}}}"#);
        assert_eq!(code(&disconnect), "invalid_command_attempted");
        assert_eq!(code(&format!(r#"{{"command":"calling.send_fax.stop","id":"{ID}"}}"#)), "invalid_state");
        assert_eq!(code(&format!(r#"{{"command":"calling.ai_message","id":"{ID}"}}"#)), "missing_required_parameter");
        assert_eq!(code(r#"{"command":"calling.end","id":"nobody"}"#), "404");
        assert_eq!(code("[]"), "400");
    }

    #[test]
    fn commands_for_an_agent_become_requests_to_its_conversation() {
        let asked = |name: &str, params: &str| commanded(&format!("calling.{name}"), params);
        let message = asked("ai_message", r#"{"role":"user","message_text":"Hi","global_data":{"a":1}}"#);
        let [Command::AskConversation(ConversationRequest::ToScript(data)), Command::AskConversation(request)] =
            &*message
        else {
            panic!("{message:?}")
        };
        assert_eq!(&**data, r#"{"global_data":{"a":1}}"#);
        let ConversationRequest::AddMessages { messages, answer: true } = request else { panic!("{request:?}") };
        assert_eq!((messages[0].role, &*messages[0].text), (MessageRole::User, "Hi"));
        let hold = asked("ai_hold", r#"{"timeout":60}"#);
        assert_eq!(hold, [Command::AskConversation(ConversationRequest::Hold(Some(Duration::from_secs(60))))]);
        let unhold = asked("ai_unhold", r#"{"prompt":"Go on."}"#);
        assert_eq!(unhold.len(), 2);
        assert_eq!(unhold[1], Command::AskConversation(ConversationRequest::Unhold));
        assert_eq!(asked("ai.stop", "{}"), [Command::StopConversation]);
    }

    #[test]
    fn play_plays_overlays_and_reports_their_start_and_end() {
        let params = r#"{"control_id":"p","status_url":"http://h/s","play":[{"type":"tts","params":{"text":"Hi"}},{"type":"silence","params":{"duration":2}}],"loop":2}"#;
        let commands = commanded("calling.play", params);
        let [Command::PlayOverlay(plays)] = &commands[..] else { panic!() };
        assert_eq!(plays.len(), 4);
        let events = |play: &Play| play.callback.as_ref().map(|callback| callback.events.clone());
        assert_eq!(events(&plays[0]), Some(vec![StatusEvent::Initiated]));
        assert_eq!((events(&plays[1]), events(&plays[3])), (None, Some(vec![StatusEvent::Completed])));
        assert_eq!(&*plays[0].callback.as_ref().unwrap().target.url, "http://h/s#p");
    }

    #[test]
    fn record_and_collect_have_the_defaults_of_the_calling_api() {
        let commands = commanded("calling.record", r#"{"control_id":"r","record":{"audio":{}}}"#);
        let [Command::StartRecording(spec)] = &commands[..] else { panic!() };
        assert_eq!((spec.format, spec.track), (RecordingFormat::Mp3, Track::Inbound));
        assert_eq!(spec.silence_timeout, Some(Duration::from_millis(500)));
        let commands = commanded("calling.collect", r##"{"control_id":"c","digits":{"max":4,"terminators":"#"}}"##);
        let [Command::Gather(gather)] = &commands[..] else { panic!() };
        assert_eq!((gather.max_digits, &*gather.terminators, gather.prompts.len()), (Some(4), "#", 0));
        assert!(gather.holds_timers, "start_input_timers is false by default");
        let timed = commanded("calling.collect", r#"{"control_id":"c","digits":{"max":4},"start_input_timers":true}"#);
        let [Command::Gather(gather)] = &timed[..] else { panic!() };
        assert!(!gather.holds_timers);
    }

    #[test]
    fn transfer_accepts_a_url_a_number_or_a_document() {
        let target = |dest: &str| match &commanded("calling.transfer", &format!(r#"{{"dest":{dest}}}"#))[..] {
            [Command::Redirect(target)] => target.url.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(target(r#""https://h/a""#), "https://h/a");
        assert!(target(r#""+15550003""#).starts_with("swml:document,"));
        assert!(target(r#"{"sections":{"main":["hangup"]}}"#).starts_with("swml:document,"));
    }

    #[test]
    fn update_ends_or_redirects_a_call() {
        let allowed = |params: &str| match planned(&format!(r#"{{"command":"update","params":{params}}}"#)) {
            Ok(Plan::Leg { commands, .. }) => commands.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(allowed(&format!(r#"{{"id":"{ID}","status":"completed"}}"#)), 1);
        assert_eq!(allowed(&format!(r#"{{"id":"{ID}","url":"http://h/","fallback_url":"http://h/f"}}"#)), 2);
        assert_eq!(code(&format!(r#"{{"command":"update","params":{{"id":"{ID}"}}}}"#)), "missing_required_parameter");
        assert_eq!(
            code(&format!(r#"{{"command":"update","params":{{"id":"{ID}","status":"x"}}}}"#)),
            "invalid_parameter"
        );
    }
}
