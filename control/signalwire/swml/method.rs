//! The methods that act on a leg. For each method, this module creates the instructions and sets the variables for the
//! outcome.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tandem_call::address::Address;
use tandem_call::command::{Accepted, Command, Refused};
use tandem_call::conference::{Beep, Coaching, ConferenceSettings, Participation};
use tandem_call::event::{DialResult, DialStatus, MachineFacts, ReferFacts, ReferState};
use tandem_call::fetch::FetchReason;
use tandem_call::machine_detection::{DetectionResult, GreetingEnd};
use tandem_call::program::instruction::{
    AfterBridge, Conference, Connect, Credentials, Dequeue, DetectMachine, Dial, DialTarget, Enqueue, ExecuteCommand,
    Gather, Instruction, Play, Record, Refer, RejectReason, SendDigits, Wait,
};
use tandem_call::queue::{QueueOutcome, QueueResult};
use tandem_call::recording::{RecordingFormat, RecordingSource, RecordingSpec, Track};
use tandem_call::stream::StreamStatus;
use tandem_call::{Method as HttpMethod, StatusEvent, Target};
use tandem_markup::verb::conference;

use super::document::{Inner, Step};
use super::error::{Code, Fault};
use super::interpreter::{Flow, Interpreter, Next, PendingResult, ScriptRequest};
use super::media::{self, DAY, RECORDING_EVENTS, RecordingDefaults};
use super::parameters::{Parameters, WEB};
use super::sound::{Voice, sound};
use super::value::{Object, Value};

/// The pseudo URL with which a leg asks for the next action of the script.
pub(super) const NEXT: &str = "swml:next";
/// Prefix of a pseudo URL that contains a document. After the prefix, the URL has the JSON of the document as
/// base64url.
const INLINE: &str = "swml:document,";
/// Maximum ringing time of a called party, in seconds.
const MAX_RINGING_SECONDS: f64 = 600.0;
/// Default and maximum timeout of the `request` method, in seconds.
const REQUEST: f64 = 30.0;
/// Header fields that the `request` method may send, in lower case. Header fields that begin with `X-` are allowed too.
const REQUEST_HEADERS: [&str; 4] = ["accept", "authorization", "content-type", "range"];
/// Maximum number of header fields of an answer that become variables.
const MAX_RESPONSE_HEADERS: usize = 64;
const MAX_RESPONSE_BODY: usize = 64 * 1024;
/// Methods that talk with the caller. If the script ends after such a method, and this server does not support the
/// method, the caller hears an apology.
const TAKES_OVER: [&str; 4] = ["ai", "amazon_bedrock", "pay", "receive_fax"];
/// Duration of each digit's tone when digits are sent. SignalWire has the same default.
const TONE: Duration = Duration::from_millis(100);

/// The target with which a leg asks for the next action of the script.
pub(super) fn next() -> Target {
    Target { url: NEXT.into(), method: HttpMethod::Post }
}

/// A pseudo URL that contains the document.
pub(crate) fn inline(document: &Value) -> Target {
    let text = URL_SAFE_NO_PAD.encode(document.to_json().to_string());
    Target { url: format!("{INLINE}{text}").into(), method: HttpMethod::Post }
}

/// The document in a pseudo URL. `None` for any other URL.
pub(super) fn inlined(url: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(url.strip_prefix(INLINE)?).ok()
}

fn does(instructions: Vec<Instruction>) -> Result<Flow, Fault> {
    Ok(Flow::Yield(Next::Run(instructions)))
}

fn order(command: Command) -> Instruction {
    Instruction::ExecuteCommand(Box::new(ExecuteCommand { command, action: Some(next()) }))
}

impl Interpreter {
    /// Starts a method.
    pub(super) fn method(&mut self, step: &Step, object: &Object) -> Result<Flow, Fault> {
        let parameters = Parameters::new(object);
        let flow = self.begin(step, &parameters);
        for wrong in parameters.wrong() {
            self.warn(Code::MethodParameterInvalidValue, format_args!("{} {}", wrong.parameter, wrong.detail));
        }
        flow
    }

    fn begin(&mut self, step: &Step, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        match step.method.name {
            "answer" => {
                let answer = Command::Answer { record: None, stream: None, headers: Vec::new() };
                let limit = parameters.seconds("max_duration", 1.0..=DAY).map(Command::TimeLimit);
                let order = |command| Instruction::ExecuteCommand(Box::new(ExecuteCommand { command, action: None }));
                does([Some(answer), limit].into_iter().flatten().map(order).collect())
            }
            "hangup" => {
                let reasons = [("busy", RejectReason::Busy), ("decline", RejectReason::Rejected)];
                let reason = parameters.get("reason").filter(|reason| reason.text() != Some("hangup"));
                let reason = reason.and_then(|_| parameters.word("reason", &reasons));
                does(vec![if self.context.answered {
                    Instruction::Hangup
                } else {
                    Instruction::Reject(reason.unwrap_or(RejectReason::Status(480)))
                }])
            }
            "play" => {
                let early = !parameters.flag("auto_answer").unwrap_or(true);
                let sounds = parameters.get("urls").or_else(|| parameters.get("url"));
                let sounds = self.sounds(sounds, parameters);
                let url = parameters.url("status_url", WEB);
                let plays = with_end_callback(sounds, url.as_deref(), None);
                does(plays.into_iter().map(|play| Instruction::Play(Play { early, ..play })).collect())
            }
            "prompt" => {
                let gather = self.gather(parameters);
                self.waits = PendingResult::Prompt;
                does(vec![Instruction::Gather(gather)])
            }
            "record" => {
                let callback = parameters.callback("status_url", None, &RECORDING_EVENTS);
                let defaults = recording_defaults(RecordingSource::Record, Track::Inbound, 5.0);
                let spec = media::recording(parameters, defaults, callback);
                let beep = spec.beep;
                let spec = RecordingSpec { beep: false, ..spec };
                let finish_on = parameters.digits("terminators").unwrap_or_else(|| "#".to_owned());
                self.waits = PendingResult::Record;
                does(vec![Instruction::Record(Record {
                    spec,
                    finish_on,
                    beep,
                    action: Some(next()),
                    transcribe: None,
                })])
            }
            "record_call" => {
                let control_id = self.control_id(parameters);
                let callback = parameters.callback("status_url", Some(&control_id), &RECORDING_EVENTS);
                let defaults = recording_defaults(RecordingSource::Start, Track::Both, 0.0);
                let spec = media::recording(parameters, defaults, callback);
                self.waits = PendingResult::RecordCall { control_id };
                does(vec![order(Command::StartRecording(spec))])
            }
            "stop_record_call" => {
                let control_id = parameters.text("control_id");
                let found = last(&mut self.jobs.recordings, control_id.as_deref());
                self.stop("stop_record_call_result", found.map(|id| Command::StopRecording(Some(id))))
            }
            "stream" => {
                let control_id = self.control_id(parameters);
                let Some(url) = parameters.url("url", &["ws", "wss"]) else {
                    self.set("stream_result", "failed");
                    return Ok(Flow::Continue);
                };
                let callback = parameters.callback("status_url", Some(&control_id), &[StatusEvent::Completed]);
                let spec = media::stream(parameters, url, false, callback);
                self.waits = PendingResult::Stream { control_id };
                does(vec![order(Command::StartStream { spec, if_none_runs: false })])
            }
            "stop_stream" => {
                let control_id = parameters.text("control_id");
                let found = last(&mut self.jobs.streams, control_id.as_deref());
                self.stop("stop_stream_result", found.map(|id| Command::StopStream(Some(id))))
            }
            "tap" => {
                let control_id = self.control_id(parameters);
                let callback = parameters.callback("status_url", Some(&control_id), &[StatusEvent::Completed]);
                let uri = parameters.text("uri").unwrap_or_default();
                self.set("tap_uri", uri.as_str());
                let Some(spec) = media::tap(parameters, &uri, "rtp_ptime", callback) else {
                    parameters.note("uri", "must be rtp://ADDRESS:PORT or begin with ws: or wss:");
                    self.set("tap_result", "failed");
                    return Ok(Flow::Continue);
                };
                for (name, value) in media::tap_facts(&spec) {
                    self.set(&format!("tap_{name}"), value);
                }
                self.waits = PendingResult::Tap { control_id };
                does(vec![order(Command::StartStream { spec, if_none_runs: false })])
            }
            "stop_tap" => {
                let control_id = parameters.text("control_id");
                let found = last(&mut self.jobs.taps, control_id.as_deref());
                self.stop("stop_tap_result", found.map(|id| Command::StopStream(Some(id))))
            }
            "connect" => self.connect(step, parameters),
            "enter_queue" => {
                let then = parameters.get("transfer_after_bridge").map(as_dest);
                let wait =
                    parameters.url("wait_url", WEB).map(|url| Target { url: url.into(), method: HttpMethod::Post });
                let enqueue = Enqueue {
                    queue: parameters.text("queue_name").unwrap_or_default().into(),
                    max_size: None,
                    wait: wait.map_or(Wait::Music, Wait::Document),
                    max_duration: Some(
                        parameters.seconds("wait_time", 1.0..=DAY).unwrap_or(Duration::from_secs(3_600)),
                    ),
                    action: Some(next()),
                };
                self.waits = PendingResult::Queue { then };
                does(vec![Instruction::Enqueue(enqueue)])
            }
            "join_conference" => self.conference(step, parameters),
            "join_room" => {
                let name = parameters.text("name").unwrap_or_default();
                self.waits = PendingResult::Conference { variable: "join_room_result", result: None };
                does(vec![takes_part(Participation::new(name))])
            }
            "send_digits" => {
                let digits = parameters.text("digits").unwrap_or_default();
                let fits = !digits.is_empty() && digits.chars().all(|key| "0123456789*#ABCDabcdwW".contains(key));
                self.set("send_digits_result", if fits { "finished" } else { "failed" });
                if !fits {
                    parameters.note("digits", "contains an invalid digit (allowed: 0-9 * # A-D w W)");
                    return Ok(Flow::Continue);
                }
                does(vec![Instruction::SendDigits(SendDigits { digits, tone: TONE })])
            }
            "sip_refer" => {
                let to = parameters.text("to_uri").unwrap_or_default();
                self.set("sip_refer_to", to.as_str());
                self.waits = PendingResult::Refer;
                does(vec![Instruction::Refer(Refer { to, headers: Vec::new(), action: Some(next()) })])
            }
            "denoise" | "stop_denoise" => {
                let on = step.method.name == "denoise";
                self.set("denoise_result", if on { "on" } else { "off" });
                let command = Command::SuppressNoise { track: Track::Inbound, on };
                does(vec![Instruction::ExecuteCommand(Box::new(ExecuteCommand { command, action: None }))])
            }
            "detect_machine" => {
                let callback = parameters.callback("status_url", None, &[StatusEvent::Completed]);
                let spec = media::detection(parameters, false, callback);
                if !parameters.flag("wait").unwrap_or(true) {
                    self.set("detect_result", "detecting");
                    let command = Command::DetectMachine(Box::new(spec));
                    return does(vec![Instruction::ExecuteCommand(Box::new(ExecuteCommand { command, action: None }))]);
                }
                self.waits = PendingResult::Detect;
                let detect = DetectMachine { spec, action: Some(next()) };
                does(vec![Instruction::DetectMachine(Box::new(detect))])
            }
            "live_transcribe" => self.live_transcribe(parameters),
            "transcribe" => {
                let control_id = self.control_id(parameters);
                let callback = parameters.callback("status_url", Some(&control_id), &[StatusEvent::Completed]);
                self.set("transcribe_control_id", control_id);
                self.waits = PendingResult::Done { variable: "transcribe_result" };
                does(vec![order(Command::StartTranscription(Box::new(media::whole_transcription(callback))))])
            }
            "transcribe_stop" => {
                let stop = Command::StopNamedTranscription(media::WHOLE.to_owned());
                self.stop("transcribe_stop_result", Some(stop))
            }
            "sleep" => {
                let milliseconds = parameters.number("duration", -1.0..=f64::from(u32::MAX)).unwrap_or(0.0);
                let length = Duration::try_from_secs_f64(milliseconds / 1_000.0).unwrap_or(FOR_EVER);
                does(vec![Instruction::Pause(length)])
            }
            "echo" => does(vec![Instruction::Echo]),
            "request" => self.request(parameters),
            // This server has no client that receives user events.
            "user_event" => Ok(Flow::Continue),
            other => {
                self.refuse(other);
                Ok(Flow::Continue)
            }
        }
    }

    /// Marks an unsupported method as failed and lets the script continue.
    fn refuse(&mut self, method: &str) {
        let failed = match method {
            "pay" => "internal-error",
            _ => "failed",
        };
        self.set(&format!("{method}_result"), failed);
        if matches!(method, "ai" | "amazon_bedrock" | "ai_sidecar") {
            self.set("return_value", failed);
        }
        self.warn(Code::MethodExecuteFailed, "not served here");
        if TAKES_OVER.contains(&method) {
            self.refused = Some(format!("{method} is not available on this server"));
        }
    }

    /// The id of a job. The script can give this id. If the script gives no id, the function creates an id.
    fn control_id(&mut self, parameters: &Parameters<'_>) -> String {
        parameters.text("control_id").unwrap_or_else(|| {
            self.jobs.nameless += 1;
            let call = self.context.call.get("call_id").map(Value::rendered).unwrap_or_default();
            format!("{call}.{}", self.jobs.nameless)
        })
    }

    fn stop(&mut self, variable: &'static str, command: Option<Command>) -> Result<Flow, Fault> {
        match command {
            Some(command) => {
                self.waits = PendingResult::Done { variable };
                does(vec![order(command)])
            }
            None => {
                self.set(variable, "failed");
                Ok(Flow::Continue)
            }
        }
    }

    /// The voice that the parameters name. If a parameter is missing, the variable with the same name is used.
    fn voice(&self, parameters: &Parameters<'_>) -> Voice {
        let named = |name: &str| {
            let variable = || self.vars.get(name).and_then(Value::text).map(str::to_owned);
            parameters.text(name).or_else(variable)
        };
        Voice::new(named("say_voice"), named("say_language"))
    }

    fn sounds(&self, sounds: Option<&Value>, parameters: &Parameters<'_>) -> Vec<Play> {
        let voice = self.voice(parameters);
        let texts = match sounds {
            Some(Value::List(items)) => items.iter().map(Value::rendered).collect(),
            Some(one) => vec![one.rendered()],
            None => Vec::new(),
        };
        let mut plays = Vec::new();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            match sound(text, &voice) {
                Ok(play) => plays.push(play),
                Err(why) => parameters.note("url", why),
            }
        }
        plays
    }

    fn gather(&self, parameters: &Parameters<'_>) -> Gather {
        let asks_for = |names: &[&str]| names.iter().any(|name| parameters.get(name).is_some());
        let words =
            asks_for(&["speech_timeout", "speech_end_timeout", "speech_language", "speech_hints", "speech_engine"]);
        let digits = !words || asks_for(&["max_digits", "terminators", "digit_timeout"]);
        let seconds = |name, default| parameters.seconds(name, 0.0..=DAY).unwrap_or(Duration::from_secs(default));
        let speech = words.then(|| {
            let max_duration = parameters.seconds("speech_timeout", 0.0..=DAY);
            let pause = parameters.seconds("speech_end_timeout", 0.0..=DAY);
            let language = parameters.text("speech_language");
            Box::new(media::listening(language, parameters.texts("speech_hints"), None, (pause, max_duration), digits))
        });
        let callback = parameters.callback("status_url", None, &[StatusEvent::Completed]);
        Gather {
            prompts: self.sounds(parameters.get("play"), parameters),
            retry_prompts: Vec::new(),
            tries: 1,
            min_digits: 1,
            max_digits: Some(media::count(parameters, "max_digits", 1_000).map_or(1, std::num::NonZeroU32::get)),
            terminators: parameters.digits("terminators").unwrap_or_default(),
            valid_digits: None,
            first_digit_timeout: seconds("initial_timeout", 5),
            holds_timers: false,
            inter_digit_timeout: seconds("digit_timeout", 5),
            total_timeout: None,
            barge_in: true,
            action: Some(next()),
            action_on_empty: true,
            id: None,
            speech,
            callback: callback.map(Arc::new),
        }
    }

    // ----- connect ----------------------------------------------------------------------------------------------------

    fn connect(&mut self, step: &Step, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let result = match &step.inner {
            Inner::Over { result, .. } => result.as_deref().cloned(),
            _ => None,
        };
        let then = parameters.get("transfer_after_bridge").map(as_dest);
        let to = parameters.get("to").map(Value::rendered).unwrap_or_default();
        let (scheme, rest) = to.split_once(':').unwrap_or_default();
        match scheme {
            "queue" => {
                let dial = Dial {
                    queue: Some(Dequeue { queue: rest.trim().into(), whisper: None }),
                    ..self.dial(parameters, Vec::new())
                };
                self.waits = PendingResult::Connect { next: VecDeque::new(), result, then };
                does(vec![Instruction::Dial(dial)])
            }
            "stream" => {
                let callback = parameters.callback("status_url", None, &[StatusEvent::Completed]);
                let stream = media::stream(parameters, rest.trim().to_owned(), true, callback);
                self.waits = PendingResult::ConnectStream { result };
                does(vec![Instruction::Connect(Connect { stream, action: Some(next()), outlives_failure: false })])
            }
            _ => {
                let mut dials = self.dials(parameters);
                match dials.pop_front() {
                    Some(first) => {
                        self.waits = PendingResult::Connect { next: dials, result, then };
                        does(vec![Instruction::Dial(first)])
                    }
                    None => {
                        self.warn(Code::MethodExecuteFailed, "there is no target to connect to");
                        self.connected(None, result)?;
                        Ok(Flow::Continue)
                    }
                }
            }
        }
    }

    /// The dials of a `connect`, in order. Each dial may call several targets at the same time.
    fn dials(&self, parameters: &Parameters<'_>) -> VecDeque<Dial> {
        let targets = |list: &Value| -> Vec<Object> {
            list.list().unwrap_or(std::slice::from_ref(list)).iter().map(destination).collect()
        };
        let groups: Vec<Vec<Object>> = if let Some(groups) = parameters.get("serial_parallel") {
            groups.list().unwrap_or_default().iter().map(targets).collect()
        } else if let Some(list) = parameters.get("parallel") {
            vec![targets(list)]
        } else if let Some(list) = parameters.get("serial") {
            targets(list).into_iter().map(|one| vec![one]).collect()
        } else {
            parameters.get("to").map(|to| vec![destination(to)]).into_iter().collect()
        };
        let dial = |group: Vec<Object>| {
            let mut timeout = None;
            let targets = group.iter().filter_map(|object| {
                let own = Parameters::new(object);
                timeout = timeout.max(own.seconds("timeout", 1.0..=MAX_RINGING_SECONDS));
                let target = self.target(&own, parameters);
                own.wrong().into_iter().for_each(|wrong| parameters.note(&wrong.parameter, wrong.detail));
                target
            });
            let targets: Vec<_> = targets.collect();
            let dial = self.dial(parameters, targets);
            Dial { timeout: timeout.unwrap_or(dial.timeout), ..dial }
        };
        groups.into_iter().map(dial).filter(|dial| !dial.targets.is_empty()).collect()
    }

    fn dial(&self, parameters: &Parameters<'_>, targets: Vec<DialTarget>) -> Dial {
        let ringback = parameters.texts("ringback").into_iter().find_map(|sound| {
            let country = sound.trim().strip_prefix("ring:")?.trim().rsplit(':').next()?.to_owned();
            Some(country)
        });
        if ringback.is_none() && parameters.get("ringback").is_some() {
            parameters.note("ringback", "must be ring:COUNTRY");
        }
        let own_caller = targets.first().and_then(|_| parameters.text("from"));
        Dial {
            targets,
            queue: None,
            sequential: false,
            timeout: parameters.seconds("timeout", 1.0..=MAX_RINGING_SECONDS).unwrap_or(Duration::from_secs(60)),
            time_limit: Some(parameters.seconds("max_duration", 1.0..=DAY).unwrap_or(Duration::from_secs(14_400))),
            caller_id: own_caller.map(|from| address(&from)),
            caller_name: parameters.text("from_name"),
            answer_on_bridge: parameters.flag("answer_on_bridge").unwrap_or(false),
            ring_tone: Some(ringback.unwrap_or_else(|| "us".to_owned())),
            hangup_on_star: false,
            record: None,
            action: Some(next()),
            after: AfterBridge::Continue,
            pass_failure: false,
            refer: None,
        }
    }

    /// A target that the server calls. The target's own settings take precedence over the settings for all targets.
    fn target(&self, own: &Parameters<'_>, all: &Parameters<'_>) -> Option<DialTarget> {
        let text = own.text("to")?;
        let either = |name: &str| own.text(name).or_else(|| all.text(name));
        let credentials = either("username").zip(either("password"));
        let headers = own.headers("headers");
        let confirm = own.get("confirm").or_else(|| all.get("confirm"));
        let whisper = confirm.map(|confirm| match confirm {
            Value::Text(url) => Target { url: url.as_str().into(), method: HttpMethod::Post },
            steps => {
                let sections: Object = [("main", steps.clone())].into_iter().collect();
                let document: Object = [("sections", Value::from(sections))].into_iter().collect();
                inline(&document.into())
            }
        });
        let status = |parameters: &Parameters<'_>| {
            let events = state_events(&parameters.texts("call_state_events"));
            parameters.callback("call_state_url", None, &events)
        };
        Some(DialTarget {
            headers: if headers.is_empty() { all.headers("headers") } else { headers },
            credentials: credentials.map(|(username, password)| Credentials { username, password }),
            whisper,
            status: status(own).or_else(|| status(all)),
            ..DialTarget::new(address(&text))
        })
    }

    /// Sets the variables after a connection has ended or has failed.
    fn connected(&mut self, dialled: Option<&DialResult>, result: Option<Inner>) -> Result<(), Fault> {
        let joined = dialled.is_some_and(|dialled| dialled.bridged);
        let word = if joined { "connected" } else { "failed" };
        self.set("connect_result", word);
        if !joined {
            self.set("connect_failed_reason", dialled.map_or("error", failed_reason));
        }
        self.set("return_value", word);
        self.follow(result.as_ref())
    }

    // ----- conferences ------------------------------------------------------------------------------------------------

    fn conference(&mut self, step: &Step, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let result = match &step.inner {
            Inner::Over { result, .. } => result.as_deref().cloned(),
            _ => None,
        };
        let beeps = [("true", Beep::Both), ("false", Beep::None), ("onEnter", Beep::Enter), ("onExit", Beep::Exit)];
        let coach = parameters.text("coach").and_then(|id| super::ids().parse_call(&id));
        let wait = parameters.url("wait_url", WEB).map(|url| Target { url: url.into(), method: HttpMethod::Post });
        let events = parameters.text("status_callback_event").unwrap_or_else(|| "start end".to_owned());
        let events: Vec<StatusEvent> = events
            .split([' ', ','])
            .filter_map(|word| {
                conference::STATUS_EVENTS.iter().find(|(name, _)| *name == word).map(|(_, status_event)| *status_event)
            })
            .collect();
        let records = parameters.text("record").is_some_and(|word| word == "record-from-start" || word == "true");
        let record = records.then(|| {
            let callback = parameters.callback("recording_status_callback", None, &RECORDING_EVENTS);
            let whole =
                RecordingSpec::new(RecordingSource::Conference, tandem_call::recording::RecordingChannels::Mono);
            let trim = parameters.text("trim").is_none_or(|word| word == "trim-silence");
            RecordingSpec { trim, callback, ..whole }
        });
        let opening = ConferenceSettings {
            callback: parameters.callback("status_callback", None, &events),
            record,
            recorded: None,
            region: parameters.text("region").map(Into::into),
            ..ConferenceSettings::default()
        };
        let max_participants = parameters.number("max_participants", 2.0..=100_000.0).unwrap_or(250.0).min(250.0);
        let participation = Participation {
            muted: parameters.flag("muted").unwrap_or(false),
            waits: !parameters.flag("start_on_enter").unwrap_or(true),
            ends: parameters.flag("end_on_exit").unwrap_or(false),
            beep: parameters.word("beep", &beeps).unwrap_or(Beep::Both),
            coach: coach.map(|leg| Coaching::of(vec![leg])),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 2 to 250")]
            max_participants: max_participants as u16,
            wait: wait.map_or(Wait::Music, Wait::Document),
            opening: Some(opening).filter(|opening| *opening != ConferenceSettings::default()).map(Arc::new),
            ..Participation::new(parameters.text("name").unwrap_or_default())
        };
        self.waits = PendingResult::Conference { variable: "join_conference_result", result };
        does(vec![takes_part(participation)])
    }

    // ----- transcription ----------------------------------------------------------------------------------------------

    fn live_transcribe(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let start = parameters.get("action").and_then(Value::object).and_then(|action| action.get("start"));
        let Some(start) = start.and_then(Value::object) else {
            if parameters.get("action").and_then(Value::text) == Some("stop") {
                return does(vec![Instruction::StopTranscription(Some(media::LIVE.to_owned()))]);
            }
            self.refuse("live_transcribe");
            return Ok(Flow::Continue);
        };
        let spec = media::transcription(&Parameters::new(start));
        does(vec![Instruction::StartTranscription(Box::new(spec))])
    }

    // ----- requests ---------------------------------------------------------------------------------------------------

    fn request(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        use http::Method;
        let url = parameters.url("url", WEB);
        let methods = ["GET", "POST", "PUT", "DELETE"].map(|word| (word, word));
        let method = match parameters.word("method", &methods).unwrap_or("GET") {
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "DELETE" => Method::DELETE,
            _ => Method::GET,
        };
        let Some(url) = url else {
            self.requested(None, false);
            return Ok(Flow::Continue);
        };
        self.set("request_url", url.as_str());
        let may = |name: &str| {
            let name = name.to_ascii_lowercase();
            name.starts_with("x-") || REQUEST_HEADERS.contains(&name.as_str())
        };
        let is_sendable = |(name, value): &(String, String)| may(name) && !value.chars().any(char::is_control);
        let mut headers: Vec<_> = parameters.pairs("headers").into_iter().filter(is_sendable).collect();
        let body = parameters.get("body").map(Value::rendered).unwrap_or_default();
        if !body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            let kind = match body.trim_start().chars().next() {
                Some('{' | '[') => "application/json",
                Some('<') => "application/xml",
                _ if body.contains('=') => "application/x-www-form-urlencoded",
                _ => "text/plain",
            };
            headers.push(("Content-Type".to_owned(), kind.to_owned()));
        }
        let save = parameters.flag("save_variables").unwrap_or(false);
        let seconds = |name| parameters.number(name, 0.0..=DAY).filter(|seconds| *seconds > 0.0);
        let ask = ScriptRequest {
            method,
            url,
            headers,
            body: body.into(),
            timeout: seconds("timeout").unwrap_or(REQUEST).min(REQUEST),
            connect_timeout: seconds("connect_timeout").unwrap_or(5.0).min(REQUEST),
            save,
        };
        self.waits = PendingResult::Request { save };
        Ok(Flow::Yield(Next::Request(Box::new(ask))))
    }

    /// Sets the variables for the outcome of the `request` method: status, header fields and body.
    pub(super) fn requested(&mut self, answer: Option<(u16, &http::HeaderMap, &[u8])>, save: bool) {
        let succeeded = answer.as_ref().is_some_and(|(status, ..)| (200..300).contains(status));
        let word = if succeeded { "success" } else { "failed" };
        self.set("request_result", word);
        self.set("return_value", word);
        let Some((status, headers, body)) = answer else { return };
        self.set("request_response_code", u32::from(status));
        let fields = headers.iter().take(MAX_RESPONSE_HEADERS);
        let fields = fields.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        self.set("request_response_headers", Value::Object(fields.collect()));
        let body = body.get(..MAX_RESPONSE_BODY).unwrap_or(body);
        let text = String::from_utf8_lossy(body).into_owned();
        if save
            && self.budget.parse_json(body).is_ok()
            && let Ok(Value::Object(members)) = serde_json::from_str(&text)
        {
            self.set("request_response", Value::Object(members));
        }
        self.set("request_response_body", text);
    }

    // ----- outcomes ---------------------------------------------------------------------------------------------------

    /// Sets the variables for the outcome of the method that started last. Returns the next action if the script does
    /// not continue with the next step.
    ///
    /// # Errors
    /// The errors of [`Interpreter::next`].
    pub(super) fn resume(&mut self, reason: &FetchReason) -> Result<Option<Next>, Fault> {
        match (std::mem::take(&mut self.waits), reason) {
            (PendingResult::Prompt, reason) => self.prompted(reason),
            (PendingResult::Record, reason) => {
                let recording = match reason {
                    FetchReason::Recorded { recording, .. } => Some(recording),
                    _ => None,
                };
                let whole = recording.filter(|recording| recording.has_audio());
                if let Some(recording) = recording {
                    self.set("record_url", self.recording_url(recording.id, recording.spec.format));
                }
                self.set("record_result", if whole.is_some() { "success" } else { "failed" });
            }
            (PendingResult::RecordCall { control_id }, reason) => {
                let id = accepted(reason).and_then(|accepted| accepted.recording);
                if let Some(id) = id {
                    // The format decides only the extension of the URL. The audio is available in both formats.
                    self.set("record_call_url", self.recording_url(id, RecordingFormat::Wav));
                    self.set("record_control_id", control_id.as_str());
                    self.jobs.recordings.push((control_id, id));
                }
                self.set("record_call_result", if id.is_some() { "success" } else { "failed" });
            }
            (PendingResult::Done { variable }, reason) => {
                self.set(variable, if accepted(reason).is_some() { "success" } else { "failed" });
            }
            (PendingResult::Stream { control_id }, reason) => {
                let id = accepted(reason).and_then(|accepted| accepted.stream);
                if let Some(id) = id {
                    self.set("stream_control_id", control_id.as_str());
                    self.jobs.streams.push((control_id, id));
                }
                self.set("stream_result", if id.is_some() { "success" } else { "failed" });
            }
            (PendingResult::Tap { control_id }, reason) => {
                let id = accepted(reason).and_then(|accepted| accepted.stream);
                if let Some(id) = id {
                    self.set("tap_control_id", control_id.as_str());
                    self.jobs.taps.push((control_id, id));
                }
                self.set("tap_result", if id.is_some() { "success" } else { "failed" });
            }
            (PendingResult::Connect { mut next, result, then }, reason) => {
                let dialled = match reason {
                    FetchReason::Dialed(dialled) => Some(dialled),
                    _ => None,
                };
                let joined = dialled.is_some_and(|dialled| dialled.bridged);
                if let Some(dial) = next.pop_front().filter(|_| !joined) {
                    self.waits = PendingResult::Connect { next, result, then };
                    return Ok(Some(Next::Run(vec![Instruction::Dial(dial)])));
                }
                self.connected(dialled, result)?;
                if let Some(dest) = then.filter(|_| joined) {
                    return self.transfer_to(&dest);
                }
            }
            (PendingResult::ConnectStream { result }, reason) => {
                let failed = !matches!(reason, FetchReason::Connected(facts) if matches!(facts.status, StreamStatus::Started | StreamStatus::Stopped));
                self.set("connect_result", if failed { "failed" } else { "connected" });
                if failed {
                    self.set("connect_failed_reason", "error");
                }
                self.set("return_value", if failed { "failed" } else { "connected" });
                self.follow(result.as_ref())?;
            }
            (PendingResult::Queue { then }, reason) => {
                let outcome = match reason {
                    FetchReason::Queued(outcome) => Some(outcome),
                    _ => None,
                };
                self.queued(outcome);
                let bridged = outcome.is_some_and(|outcome| outcome.result == QueueResult::Bridged);
                if let Some(dest) = then.filter(|_| bridged) {
                    return self.transfer_to(&dest);
                }
            }
            (PendingResult::Conference { variable, result }, reason) => {
                let joined = !matches!(reason, FetchReason::Dialed(DialResult { status: DialStatus::Failed, .. }));
                let word = match (variable, joined) {
                    ("join_room_result", true) => "joined",
                    (_, true) => "completed",
                    (_, false) => "failed",
                };
                self.set(variable, word);
                self.set("return_value", word);
                self.follow(result.as_ref())?;
            }
            (PendingResult::Refer, reason) => self.referred(match reason {
                FetchReason::Refer(facts) => Some(facts),
                _ => None,
            }),
            (PendingResult::Detect, FetchReason::Detected(facts)) => self.detected(facts),
            (PendingResult::Detect, _) => self.set("detect_result", "error"),
            (PendingResult::Nothing | PendingResult::Document { .. } | PendingResult::Request { .. }, _) => {}
        }
        Ok(None)
    }

    fn transfer_to(&mut self, dest: &str) -> Result<Option<Next>, Fault> {
        match self.go_to(&Value::from(dest), Value::Object(Object::default()), None)? {
            Flow::Continue => Ok(None),
            Flow::Yield(next) => Ok(Some(next)),
        }
    }

    fn prompted(&mut self, reason: &FetchReason) {
        let (result, value) = match reason {
            FetchReason::Gathered { digits, terminator } => {
                if let Some(key) = terminator {
                    self.set("prompt_digit_terminator", String::from(*key));
                }
                (if digits.is_empty() { "no_input" } else { "match_digits" }, digits.clone())
            }
            FetchReason::GatheredSpeech(words) if words.text().is_empty() => ("no_input", String::new()),
            FetchReason::GatheredSpeech(words) => {
                if let Some(confidence) = words.confidence {
                    self.set("prompt_speech_confidence", f64::from(confidence * 100.0).round());
                }
                ("match_speech", words.text())
            }
            _ => ("failed", String::new()),
        };
        self.set("prompt_result", result);
        self.set("prompt_value", value);
    }

    fn queued(&mut self, outcome: Option<&QueueOutcome>) {
        let word = match outcome.map(|outcome| outcome.result) {
            Some(QueueResult::Bridged | QueueResult::Bridging | QueueResult::RedirectedFromBridge) => "connected",
            Some(QueueResult::Left | QueueResult::Redirected) => "leaving",
            Some(QueueResult::TimedOut) => "timeout",
            Some(QueueResult::Hangup) => "hangup",
            Some(QueueResult::Full | QueueResult::Failed) | None => "failed",
        };
        self.set("queue_result", word);
        self.set("return_value", word);
        if let Some((_, waited)) = outcome.and_then(|outcome| outcome.waited) {
            self.set("wait_time", waited.as_secs_f64().floor());
        }
        // The script does not know the number of waiting callers at that time.
        self.set("entry_position", -1.0);
        self.set("entry_size", -1.0);
    }

    fn referred(&mut self, facts: Option<&ReferFacts>) {
        let done = facts.is_some_and(|facts| facts.state == ReferState::Completed);
        let word = if done { "success" } else { "failed" };
        self.set("sip_refer_result", word);
        self.set("return_value", word);
        if let Some(status) = facts.and_then(|facts| facts.answer) {
            self.set("sip_refer_response_code", status.to_string());
        }
        if let Some(status) = facts.and_then(|facts| facts.progress) {
            self.set("sip_refer_to_response_code", status.to_string());
        }
    }

    fn detected(&mut self, facts: &MachineFacts) {
        let word = match facts.result {
            DetectionResult::Human => "human",
            DetectionResult::Machine | DetectionResult::GreetingEnded(_) => "machine",
            DetectionResult::Fax => "fax",
            DetectionResult::Silence | DetectionResult::NotSure => "unknown",
        };
        self.set("detect_result", word);
        self.set("detect_machine_beep", facts.result == DetectionResult::GreetingEnded(GreetingEnd::Beep));
        self.set("detect_ms", f64::from(u32::try_from(facts.after.as_millis()).unwrap_or(u32::MAX)));
    }

    fn recording_url(&self, id: tandem_id::RecordingId, format: RecordingFormat) -> String {
        super::recording_url(&self.context.recordings, id, format)
    }
}

/// A duration that is longer than any call.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

fn recording_defaults(source: RecordingSource, track: Track, end_silence: f64) -> RecordingDefaults {
    RecordingDefaults { source, track, format: RecordingFormat::Wav, end_silence }
}

/// Adds a callback to the sounds. The callback gets a notice at the start of the first sound and at the end of the last
/// sound.
pub(crate) fn with_end_callback(mut plays: Vec<Play>, url: Option<&str>, control_id: Option<&str>) -> Vec<Play> {
    let Some(url) = url else { return plays };
    let count = plays.len();
    for (place, play) in plays.iter_mut().enumerate() {
        let first = (place == 0).then_some(StatusEvent::Initiated);
        let last = (place + 1 == count).then_some(StatusEvent::Completed);
        let events: Vec<_> = first.into_iter().chain(last).collect();
        if !events.is_empty() {
            let callback = super::parameters::callback(url, HttpMethod::Post, control_id, &events);
            play.callback = Some(Arc::new(callback));
        }
    }
    plays
}

/// The events that the words of `call_state_events` or `status_events` name. If no word is known, the only event is the
/// end of the call.
pub(crate) fn state_events(words: &[String]) -> Vec<StatusEvent> {
    let mut events: Vec<_> = words.iter().filter_map(|word| state_event(word)).collect();
    events.dedup();
    if events.is_empty() { vec![StatusEvent::Completed] } else { events }
}

/// The event that a word of `call_state_events` or `status_events` names.
pub(crate) fn state_event(word: &str) -> Option<StatusEvent> {
    match word {
        "created" | "initiated" | "queued" => Some(StatusEvent::Initiated),
        "ringing" => Some(StatusEvent::Ringing),
        "answered" => Some(StatusEvent::Answered),
        "ended" | "ending" => Some(StatusEvent::Completed),
        _ => None,
    }
}

/// The address of a called party: an E.164 number, a SIP URI, or a similar form.
pub(crate) fn address(text: &str) -> Address {
    let text = text.trim();
    let bare = text.strip_prefix("/public/").or_else(|| text.strip_prefix("/private/"));
    match bare {
        Some(name) => Address::Client(name.split('?').next().unwrap_or(name).into()),
        None if text.contains('@') && !text.contains(':') => Address::Sip(format!("sip:{text}").into()),
        None => match text.strip_prefix("verto:") {
            Some(name) => Address::Client(name.split('@').next().unwrap_or(name).into()),
            None => Address::from(text),
        },
    }
}

/// Converts a called target to an object that contains the settings of the target.
fn destination(value: &Value) -> Object {
    match value {
        Value::Object(object) => object.clone(),
        text => [("to", text.clone())].into_iter().collect(),
    }
}

/// Converts the destination of a transfer to text.
fn as_dest(value: &Value) -> String {
    value.rendered()
}

fn takes_part(participation: Participation) -> Instruction {
    Instruction::Conference(Conference { participation, time_limit: None, hangup_on_star: false, action: Some(next()) })
}

fn accepted(reason: &FetchReason) -> Option<&Accepted> {
    match reason {
        FetchReason::CommandExecuted(done) => { done as &Result<Accepted, Refused> }.as_ref().ok(),
        _ => None,
    }
}

/// The reason why a connection failed, as a word of `end_reason`.
fn failed_reason(dialled: &DialResult) -> &'static str {
    match (dialled.status, dialled.sip_status) {
        (DialStatus::Busy, _) => "busy",
        (DialStatus::NoAnswer, _) => "noAnswer",
        (DialStatus::Canceled, _) => "cancel",
        (_, Some(403 | 603 | 608)) => "decline",
        _ => "error",
    }
}

/// Removes and returns the job with the id `wanted`. If `wanted` is `None`, the function removes and returns the last
/// job.
fn last<T: Copy>(jobs: &mut Vec<(String, T)>, control_id: Option<&str>) -> Option<T> {
    let at = match control_id {
        Some(control_id) => jobs.iter().rposition(|(id, _)| id == control_id)?,
        None => jobs.len().checked_sub(1)?,
    };
    Some(jobs.remove(at).1)
}
