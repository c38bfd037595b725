//! The live view of calls: short lines, with colours on a terminal.

use std::collections::HashMap;
use std::sync::Arc;

use tandem_accounts::Account;
use tandem_call::id::{CallId, LegId};
use tandem_call::leg::Direction;
use tandem_history::event_log::Line;
use tandem_history::feed::{Entry, FeedItem};
use tandem_http::exchange::HttpExchange;
use tandem_runtime::Calls;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::super::paint::{Paint, harmless};

/// Maximum number of calls that the view remembers. If a forgotten call has further lines, the view shows these lines
/// as a new call.
const MAX_CALLS: usize = 200;
/// Webhook parameters that the view shows, in the order of the output.
const SHOWN_PARAMETERS: [&str; 13] = [
    "Digits",
    "SpeechResult",
    "Confidence",
    "DialCallStatus",
    "QueueResult",
    "RecordingUrl",
    "RecordingDuration",
    "RecordingStatus",
    "TranscriptionText",
    "AnsweredBy",
    "StreamEvent",
    "StatusCallbackEvent",
    "ErrorCode",
];
/// Webhook parameter that contains the status that a callback reports. The view also shows this parameter if the
/// response is not a document.
const STATUS: &str = "CallStatus";
/// Log lines that the view omits, because neighbouring lines contain the same information.
const HIDDEN_LINES: [&str; 4] = ["initiated", "first packet came", "playback completed", "playback stopped"];
/// Maximum number of verbs that the view shows for a document.
const MAX_VERBS: usize = 8;
/// Maximum number of characters that the view shows for a parameter.
const MAX_PARAMETER_LENGTH: usize = 80;

/// Prints the lines of all calls.
pub(super) struct View {
    paint: Paint,
    shows_sip: bool,
    calls: Calls,
    accounts: Arc<Vec<Arc<Account>>>,
    shown: HashMap<CallId, Shown>,
    /// The remembered calls, from the oldest to the newest.
    order: Vec<CallId>,
    number: u32,
}

/// A call that the view remembers.
struct Shown {
    number: u32,
    /// The first line of the call's log.
    first: Line,
    named: bool,
    legs: HashMap<LegId, String>,
}

impl View {
    pub(super) fn new(paint: Paint, shows_sip: bool, calls: Calls, accounts: Arc<Vec<Arc<Account>>>) -> Self {
        Self { paint, shows_sip, calls, accounts, shown: HashMap::new(), order: Vec::new(), number: 0 }
    }

    /// Prints the lines of calls until the server has ended.
    pub(super) async fn run(mut self, mut entries: Receiver<FeedItem>) {
        loop {
            match entries.recv().await {
                Ok(event) => self.show(event).await,
                Err(RecvError::Lagged(missed)) => {
                    println!("{}", self.paint.red(format!("{missed} lines were not shown")));
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn show(&mut self, FeedItem { session, entry }: FeedItem) {
        match entry {
            Entry::Line(line) => self.show_line(session, line).await,
            Entry::Exchange(_, exchange) => {
                if let Some(details) = details(&exchange) {
                    let details = self.paint.dim(harmless(&details));
                    println!("                        {details}");
                }
            }
        }
    }

    async fn show_line(&mut self, session: CallId, line: Line) {
        if !self.shown.contains_key(&session) {
            self.number += 1;
            let shown = Shown { number: self.number, first: line.clone(), named: false, legs: HashMap::new() };
            self.shown.insert(session, shown);
            self.order.push(session);
            if self.order.len() > MAX_CALLS {
                let oldest = self.order.remove(0);
                self.shown.remove(&oldest);
            }
        }
        if (line.kind == "sip" && !self.shows_sip) || HIDDEN_LINES.contains(&line.text.as_str()) {
            return;
        }
        self.introduce(session, line.leg).await;
        let Some(shown) = self.shown.get(&session) else { return };
        let who = line.leg.and_then(|leg| shown.legs.get(&leg)).map_or("", String::as_str);
        let at = line.at.duration_since(shown.first.at).as_secs_f64();
        let time = self.paint.dim(format!("#{:<3}{at:8.2}", shown.number));
        println!("{time}  {:<9} {}", who, self.coloured(&line));
    }

    /// Prints the caller and the called number of a call as soon as both are known. Assigns names to the legs of the
    /// call.
    async fn introduce(&mut self, session: CallId, leg: Option<LegId>) {
        let Some(leg) = leg else { return };
        if self.shown.get(&session).is_none_or(|shown| shown.legs.contains_key(&leg)) {
            return;
        }
        let mut info = None;
        for account in self.accounts.iter() {
            if let Ok(Some(found)) = self.calls.get(&account.name, leg).await {
                info = Some(found);
                break;
            }
        }
        let Some(info) = info else { return };
        let id = self.calls.services().call_id(&info);
        let Some(shown) = self.shown.get_mut(&session) else { return };
        let name = if info.direction == Direction::Inbound { "caller" } else { "callee" };
        let same = shown.legs.values().filter(|known| known.starts_with(name)).count();
        shown.legs.insert(leg, if same == 0 { name.to_owned() } else { format!("{name} {}", same + 1) });
        if !std::mem::replace(&mut shown.named, true) {
            let (from, to) = (harmless(&info.from.to_string()), harmless(&info.to.to_string()));
            let title = self.paint.bold(format!("call #{} from {from} to {to}", shown.number));
            println!("\n{title}  {}", self.paint.dim(id));
        }
    }

    fn coloured(&self, line: &Line) -> String {
        let (text, paint) = (harmless(&line.text), self.paint);
        match &*line.kind {
            "advice" => paint.yellow(format!("→ {text}")),
            "webhook" if is_good(&text) => paint.green(text),
            "webhook" => paint.red(text),
            "media" | "sip" => paint.dim(text),
            _ if text.contains("failed") || text.contains("refused") || text.contains("apologises") => paint.red(text),
            _ if text.starts_with("warning") => paint.yellow(text),
            _ if text.starts_with("answered") => paint.green(text),
            _ if text.starts_with("ended") => paint.bold(text),
            _ => text,
        }
    }
}

/// Returns whether the line of a webhook contains a status from 200 to 399, for example `POST http://app/voice 200 (3
/// ms)`.
fn is_good(text: &str) -> bool {
    let mut status = text.split_whitespace().filter_map(|word| word.parse::<u16>().ok());
    status.any(|status| (200..400).contains(&status))
}

/// Returns a short description of the request's parameters and of the response, or `None` if there is nothing to show.
fn details(exchange: &HttpExchange) -> Option<String> {
    let value = |name: &str| exchange.parameters.iter().find(|(key, value)| key == name && !value.is_empty());
    let shown = |(name, value): &(String, String)| {
        let short: String = value.chars().take(MAX_PARAMETER_LENGTH).collect();
        format!("{name}={short}{}", if short.len() < value.len() { "..." } else { "" })
    };
    let body = exchange.answer.as_ref().map_or("", |answer| &answer.body);
    let verbs = verbs(body);
    let parameters = SHOWN_PARAMETERS.iter().filter_map(|name| value(name));
    let parameters =
        parameters.chain(value(STATUS).filter(|_| verbs.is_empty())).map(shown).collect::<Vec<_>>().join(" ");
    match (parameters.is_empty(), verbs.is_empty()) {
        (true, true) => None,
        (false, true) => Some(parameters),
        (true, false) => Some(format!("→ {verbs}")),
        (false, false) => Some(format!("{parameters} → {verbs}")),
    }
}

/// Returns the verbs of a document, for example `<Gather> <Say>`.
fn verbs(body: &str) -> String {
    let names = body.split('<').skip(1).filter_map(|rest| {
        let name = rest.split(|one: char| !one.is_ascii_alphanumeric()).next()?;
        let verb = name.chars().next().is_some_and(|first| first.is_ascii_uppercase()) && name != "Response";
        verb.then(|| format!("<{name}>"))
    });
    let mut names: Vec<String> = names.take(MAX_VERBS + 1).collect();
    if names.len() > MAX_VERBS {
        names.truncate(MAX_VERBS);
        names.push("...".to_owned());
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tandem_http::exchange::HttpAnswer;

    use super::*;

    fn exchange(parameters: &[(&str, &str)], body: &str) -> HttpExchange {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let exchange = HttpExchange::new(Timestamp::UNIX_EPOCH, "POST", "http://h/", &parameters, Duration::ZERO);
        HttpExchange { answer: Some(HttpAnswer::ours(200, "text/xml", body)), ..exchange }
    }

    #[test]
    fn a_webhook_is_told_by_what_people_look_for() {
        let document =
            "<?xml version=\"1.0\"?><Response><Gather numDigits='1'><Say>Hello</Say></Gather><Hangup/></Response>";
        let asked = exchange(&[("CallStatus", "in-progress"), ("Digits", "12")], document);
        assert_eq!(details(&asked).unwrap(), "Digits=12 → <Gather> <Say> <Hangup>");
        assert_eq!(details(&exchange(&[("CallStatus", "completed")], "")).unwrap(), "CallStatus=completed");
        assert_eq!(details(&exchange(&[], "")), None);
    }

    #[test]
    fn a_webhooks_line_is_good_by_its_status() {
        assert!(is_good("POST http://127.0.0.1:5000/voice 200 (3 ms)"));
        assert!(!is_good("POST http://127.0.0.1:5000/voice 404 (3 ms)"));
        assert!(!is_good("POST http://127.0.0.1:5000/voice: connection refused"));
    }
}
