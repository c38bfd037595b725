//! `connect`: calls targets, one after the other or at the same time, or a queue, or a stream.

use std::collections::VecDeque;
use std::time::Duration;

use tandem_call::program::instruction::{AfterBridge, Connect, Credentials, Dequeue, Dial, DialTarget, Instruction};
use tandem_call::{Method as HttpMethod, StatusEvent, Target};

use super::error::{Code, Fault};
use super::interpreter::{Flow, Interpreter, PendingResult};
use super::media::{self, DAY};
use super::method::{address, as_dest, does, inline, next, state_events};
use super::parameters::Parameters;
use super::value::{Object, Value};

/// Maximum ringing time of a called party, in seconds.
const MAX_RINGING_SECONDS: f64 = 600.0;

impl Interpreter {
    pub(super) fn connect(&mut self, parameters: &Parameters<'_>) -> Result<Flow, Fault> {
        let then = parameters.get("transfer_after_bridge").map(as_dest);
        let to = parameters.get("to").map(Value::rendered).unwrap_or_default();
        let (scheme, rest) = to.split_once(':').unwrap_or_default();
        match scheme {
            "queue" => {
                let dial = Dial {
                    queue: Some(Dequeue { queue: rest.trim().into(), whisper: None }),
                    ..self.dial(parameters, Vec::new())
                };
                self.waits = PendingResult::Connect { next: VecDeque::new(), then };
                does(vec![Instruction::Dial(dial)])
            }
            "stream" => {
                let callback = parameters.callback("status_url", None, &[StatusEvent::Completed]);
                let stream = media::stream(parameters, rest.trim().to_owned(), true, callback);
                self.waits = PendingResult::ConnectStream;
                does(vec![Instruction::Connect(Connect { stream, action: Some(next()), outlives_failure: false })])
            }
            _ => {
                let mut dials = self.dials(parameters);
                match dials.pop_front() {
                    Some(first) => {
                        self.waits = PendingResult::Connect { next: dials, then };
                        does(vec![Instruction::Dial(first)])
                    }
                    None => {
                        self.warn(Code::MethodExecuteFailed, "there is no target to connect to");
                        self.connected(None)?;
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
}

/// Converts a called target to an object that contains the settings of the target.
fn destination(value: &Value) -> Object {
    match value {
        Value::Object(object) => object.clone(),
        text => [("to", text.clone())].into_iter().collect(),
    }
}
