//! The variables for the outcome of a method, which the script reads.

use tandem_call::command::{Accepted, Refused};
use tandem_call::conversation::ConversationFacts;
use tandem_call::event::{DialResult, DialStatus, MachineFacts, ReferFacts, ReferState};
use tandem_call::fetch::FetchReason;
use tandem_call::machine_detection::{DetectionResult, GreetingEnd};
use tandem_call::program::instruction::Instruction;
use tandem_call::queue::{QueueOutcome, QueueResult};
use tandem_call::recording::RecordingFormat;
use tandem_call::stream::StreamStatus;

use super::error::Fault;
use super::frame::Entry;
use super::interpreter::{Flow, Interpreter, Next, PendingResult};
use super::value::{Object, Value};

/// Maximum number of header fields of an answer that become variables.
const MAX_RESPONSE_HEADERS: usize = 64;
const MAX_RESPONSE_BODY: usize = 64 * 1024;

impl Interpreter {
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
                self.set(&variable, if accepted(reason).is_some() { "success" } else { "failed" });
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
            (PendingResult::Connect { mut next, then }, reason) => {
                let dialled = match reason {
                    FetchReason::Dialed(dialled) => Some(dialled),
                    _ => None,
                };
                let joined = dialled.is_some_and(|dialled| dialled.bridged);
                if let Some(dial) = next.pop_front().filter(|_| !joined) {
                    self.waits = PendingResult::Connect { next, then };
                    return Ok(Some(Next::Run(vec![Instruction::Dial(dial)])));
                }
                self.connected(dialled)?;
                if let Some(dest) = then.filter(|_| joined) {
                    return self.transfer_to(&dest);
                }
            }
            (PendingResult::ConnectStream, reason) => {
                let failed = !matches!(reason, FetchReason::Connected(facts) if matches!(facts.status, StreamStatus::Started | StreamStatus::Stopped));
                self.set("connect_result", if failed { "failed" } else { "connected" });
                if failed {
                    self.set("connect_failed_reason", "error");
                }
                self.set("return_value", if failed { "failed" } else { "connected" });
                self.follow_result()?;
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
            (PendingResult::Conference { variable }, reason) => {
                let joined = !matches!(reason, FetchReason::Dialed(DialResult { status: DialStatus::Failed, .. }));
                let word = match (&*variable, joined) {
                    ("join_room_result", true) => "joined",
                    (_, true) => "completed",
                    (_, false) => "failed",
                };
                self.set(&variable, word);
                self.set("return_value", word);
                self.follow_result()?;
            }
            (PendingResult::Refer, reason) => self.referred(match reason {
                FetchReason::Refer(facts) => Some(facts),
                _ => None,
            }),
            (PendingResult::Agent { method }, reason) => return self.agent_left(&method, conversed(reason)),
            (PendingResult::Detect, FetchReason::Detected(facts)) => self.detected(facts),
            (PendingResult::Detect, _) => self.set("detect_result", "error"),
            (PendingResult::Nothing | PendingResult::Document { .. } | PendingResult::Request(_), _) => {}
        }
        Ok(None)
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

    /// Sets the variables after a connection has ended or has failed.
    pub(super) fn connected(&mut self, dialled: Option<&DialResult>) -> Result<(), Fault> {
        let joined = dialled.is_some_and(|dialled| dialled.bridged);
        let word = if joined { "connected" } else { "failed" };
        self.set("connect_result", word);
        if !joined {
            self.set("connect_failed_reason", dialled.map_or("error", failed_reason));
        }
        self.set("return_value", word);
        self.follow_result()
    }

    fn transfer_to(&mut self, dest: &str) -> Result<Option<Next>, Fault> {
        match self.go_to(&Value::from(dest), Value::Object(Object::default()), Entry::Transfer)? {
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

/// The facts about the conversation that has ended. `None` if there was no conversation.
fn conversed(reason: &FetchReason) -> Option<&ConversationFacts> {
    match reason {
        FetchReason::Conversed(facts) => Some(facts),
        _ => None,
    }
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
