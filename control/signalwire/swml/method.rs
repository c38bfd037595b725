//! The methods that act on a leg. For each method, this module creates the instructions.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tandem_call::address::Address;
use tandem_call::command::Command;
use tandem_call::conference::{Beep, Coaching, ConferenceSettings, Participation};
use tandem_call::header_fields::HeaderFields;
use tandem_call::program::instruction::{
    Conference, DetectMachine, Enqueue, ExecuteCommand, Gather, Instruction, Play, Record, Refer, RejectReason,
    SendDigits, Wait,
};
use tandem_call::recording::{RecordingFormat, RecordingSource, RecordingSpec, Track};
use tandem_call::{Method as HttpMethod, StatusEvent, Target};
use tandem_markup::verb::conference;

use super::document::Step;
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
/// Default and maximum timeout of the `request` method, in seconds.
const REQUEST: f64 = 30.0;
/// Header fields that the `request` method may send, in lower case. Header fields that begin with `X-` are allowed too.
const REQUEST_HEADERS: [&str; 4] = ["accept", "authorization", "content-type", "range"];
/// Methods that talk with the caller. If the script ends after such a method, and this server does not support the
/// method, the caller hears an apology.
const TAKES_OVER: [&str; 2] = ["pay", "receive_fax"];

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

pub(super) fn does(instructions: Vec<Instruction>) -> Result<Flow, Fault> {
    Ok(Flow::Yield(Next::Run(instructions)))
}

fn order(command: Command) -> Instruction {
    Instruction::ExecuteCommand(Box::new(ExecuteCommand { command, action: Some(next()) }))
}

impl Interpreter {
    /// Starts a method.
    pub(super) fn method(&mut self, step: &Step, object: &Object) -> Result<Flow, Fault> {
        if matches!(step.method.name, "ai" | "amazon_bedrock") {
            return self.agent(step.method.name, object);
        }
        let parameters = Parameters::new(object);
        let flow = self.begin(step, &parameters);
        for wrong in parameters.wrong() {
            self.warn(Code::MethodParameterInvalidValue, format_args!("{} {}", wrong.parameter, wrong.detail));
        }
        flow
    }

    fn begin(&mut self, step: &Step, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        match step.method.name {
            "answer" => Self::answer(parameters),
            "hangup" => self.hang_up(parameters),
            "play" => self.play(parameters),
            "prompt" => {
                let gather = self.gather(parameters);
                self.waits = PendingResult::Prompt;
                does(vec![Instruction::Gather(gather)])
            }
            "record" => self.record(parameters),
            "record_call" => self.record_call(parameters),
            "stop_record_call" => {
                let control_id = parameters.text("control_id");
                let found = last(&mut self.jobs.recordings, control_id.as_deref());
                self.stop("stop_record_call_result", found.map(|id| Command::StopRecording(Some(id))))
            }
            "stream" => self.stream(parameters),
            "stop_stream" => {
                let control_id = parameters.text("control_id");
                let found = last(&mut self.jobs.streams, control_id.as_deref());
                self.stop("stop_stream_result", found.map(|id| Command::StopStream(Some(id))))
            }
            "tap" => self.tap(parameters),
            "stop_tap" => {
                let control_id = parameters.text("control_id");
                let found = last(&mut self.jobs.taps, control_id.as_deref());
                self.stop("stop_tap_result", found.map(|id| Command::StopStream(Some(id))))
            }
            "connect" => self.connect(parameters),
            "enter_queue" => self.enter_queue(parameters),
            "join_conference" => self.conference(parameters),
            "join_room" => {
                let name = parameters.text("name").unwrap_or_default();
                self.waits = PendingResult::Conference { variable: "join_room_result".into() };
                does(vec![takes_part(Participation::new(name))])
            }
            "send_digits" => self.send_digits(parameters),
            "sip_refer" => {
                let to = parameters.text("to_uri").unwrap_or_default();
                self.set("sip_refer_to", to.as_str());
                self.waits = PendingResult::Refer;
                does(vec![Instruction::Refer(Refer { to, headers: HeaderFields::new(), action: Some(next()) })])
            }
            "denoise" | "stop_denoise" => {
                let on = step.method.name == "denoise";
                self.set("denoise_result", if on { "on" } else { "off" });
                let command = Command::SuppressNoise { track: Track::Inbound, on };
                does(vec![Instruction::ExecuteCommand(Box::new(ExecuteCommand { command, action: None }))])
            }
            "detect_machine" => self.detect_machine(parameters),
            "live_transcribe" => self.live_transcribe(parameters),
            "transcribe" => self.transcribe(parameters),
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

    /// Answers the call, and limits its duration.
    fn answer(parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let answer = Command::Answer { record: None, stream: None, headers: HeaderFields::new() };
        let limit = parameters.seconds("max_duration", 1.0..=DAY).map(Command::TimeLimit);
        let order = |command| Instruction::ExecuteCommand(Box::new(ExecuteCommand { command, action: None }));
        does([Some(answer), limit].into_iter().flatten().map(order).collect())
    }

    /// Ends the call. A call that is not answered is refused with the given reason.
    fn hang_up(&self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let reasons = [("busy", RejectReason::Busy), ("decline", RejectReason::Rejected)];
        let reason = parameters.get("reason").filter(|reason| reason.text() != Some("hangup"));
        let reason = reason.and_then(|_| parameters.word("reason", &reasons));
        does(vec![if self.context.answered {
            Instruction::Hangup
        } else {
            Instruction::Reject(reason.unwrap_or(RejectReason::Status(480)))
        }])
    }

    /// Plays sounds, one after the other.
    fn play(&self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let early = !parameters.flag("auto_answer").unwrap_or(true);
        let sounds = parameters.get("urls").or_else(|| parameters.get("url"));
        let sounds = self.sounds(sounds, parameters);
        let url = parameters.url("status_url", WEB);
        let plays = with_end_callback(sounds, url.as_deref(), None);
        does(plays.into_iter().map(|play| Instruction::Play(Play { early, ..play })).collect())
    }

    /// Records a message of the caller.
    fn record(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let callback = parameters.callback("status_url", None, &RECORDING_EVENTS);
        let defaults = recording_defaults(RecordingSource::Record, Track::Inbound, 5.0);
        let spec = media::recording(parameters, defaults, callback);
        let beep = spec.beep;
        let spec = RecordingSpec { beep: false, ..spec };
        let finish_on = parameters.digits("terminators").unwrap_or_else(|| "#".to_owned());
        self.waits = PendingResult::Record;
        does(vec![Instruction::Record(Record { spec, finish_on, beep, action: Some(next()), transcribe: None })])
    }

    /// Records the call in the background.
    fn record_call(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let control_id = self.control_id(parameters);
        let callback = parameters.callback("status_url", Some(&control_id), &RECORDING_EVENTS);
        let defaults = recording_defaults(RecordingSource::Start, Track::Both, 0.0);
        let spec = media::recording(parameters, defaults, callback);
        self.waits = PendingResult::RecordCall { control_id };
        does(vec![order(Command::StartRecording(spec))])
    }

    /// Starts a media stream to a WebSocket.
    fn stream(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
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

    /// Sends the audio of the call to an RTP address or to a WebSocket.
    fn tap(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
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

    /// Puts the call into a queue.
    fn enter_queue(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let then = parameters.get("transfer_after_bridge").map(as_dest);
        let wait = parameters.url("wait_url", WEB).map(|url| Target { url: url.into(), method: HttpMethod::Post });
        let enqueue = Enqueue {
            queue: parameters.text("queue_name").unwrap_or_default().into(),
            max_size: None,
            wait: wait.map_or(Wait::Music, Wait::Document),
            max_duration: Some(parameters.seconds("wait_time", 1.0..=DAY).unwrap_or(Duration::from_secs(3_600))),
            action: Some(next()),
        };
        self.waits = PendingResult::Queue { then };
        does(vec![Instruction::Enqueue(enqueue)])
    }

    /// Sends DTMF digits.
    fn send_digits(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let digits = parameters.text("digits").unwrap_or_default();
        let fits = !digits.is_empty() && digits.chars().all(|key| "0123456789*#ABCDabcdwW".contains(key));
        self.set("send_digits_result", if fits { "finished" } else { "failed" });
        if !fits {
            parameters.note("digits", "contains an invalid digit (allowed: 0-9 * # A-D w W)");
            return Ok(Flow::Continue);
        }
        does(vec![Instruction::SendDigits(SendDigits::new(digits))])
    }

    /// Detects an answering machine.
    fn detect_machine(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
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

    /// Transcribes the whole call in the background.
    fn transcribe(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let control_id = self.control_id(parameters);
        let callback = parameters.callback("status_url", Some(&control_id), &[StatusEvent::Completed]);
        self.set("transcribe_control_id", control_id);
        self.waits = PendingResult::Done { variable: "transcribe_result".into() };
        does(vec![order(Command::StartTranscription(Box::new(media::whole_transcription(callback))))])
    }

    /// Marks an unsupported method as failed and lets the script continue.
    fn refuse(&mut self, method: &str) {
        let failed = match method {
            "pay" => "internal-error",
            _ => "failed",
        };
        self.set(&format!("{method}_result"), failed);
        if method == "ai_sidecar" {
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
                self.waits = PendingResult::Done { variable: variable.into() };
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

    // ----- conferences ------------------------------------------------------------------------------------------------

    fn conference(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
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
        self.waits = PendingResult::Conference { variable: "join_conference_result".into() };
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
        let seconds = |name, default: f64| {
            let given = parameters.number(name, 0.0..=DAY).filter(|seconds| *seconds > 0.0);
            Duration::try_from_secs_f64(given.unwrap_or(default).min(REQUEST)).unwrap_or_default()
        };
        let ask = ScriptRequest {
            method,
            url,
            headers,
            body: body.into(),
            timeout: seconds("timeout", REQUEST),
            connect_timeout: seconds("connect_timeout", 5.0),
            save,
        };
        self.waits = PendingResult::Request(Box::new(ask.clone()));
        Ok(Flow::Yield(Next::Request(Box::new(ask))))
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

/// Converts the destination of a transfer to text.
pub(super) fn as_dest(value: &Value) -> String {
    value.rendered()
}

fn takes_part(participation: Participation) -> Instruction {
    Instruction::Conference(Conference { participation, time_limit: None, hangup_on_star: false, action: Some(next()) })
}

/// Removes and returns the job with the id `control_id`. If `control_id` is `None`, the function removes and returns the
/// last job.
fn last<T: Copy>(jobs: &mut Vec<(String, T)>, control_id: Option<&str>) -> Option<T> {
    let at = match control_id {
        Some(control_id) => jobs.iter().rposition(|(id, _)| id == control_id)?,
        None => jobs.len().checked_sub(1)?,
    };
    Some(jobs.remove(at).1)
}
