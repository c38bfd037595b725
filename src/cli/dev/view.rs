//! The live view of calls: short lines, with colours on a terminal.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Signal, getpid, kill_process};
use tandem_accounts::Account;
use tandem_call::id::{CallId, LegId};
use tandem_call::leg::{Direction, LegInfo};
use tandem_history::event_log::Line;
use tandem_history::feed::{Entry, FeedItem};
use tandem_http::exchange::{ExchangeDirection, HttpExchange};
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
/// Maximum number of lines of a call that wait for the title of the call.
const MAX_HELD: usize = 50;
/// Number of attempts to read the record of a leg, and the time between two attempts.
const TRIES: u32 = 20;
const RETRY: Duration = Duration::from_millis(10);
/// Maximum number of verbs that the view shows for a document.
const MAX_VERBS: usize = 8;
/// Maximum number of characters that the view shows of the answer to a refused request.
const MAX_ANSWER_LENGTH: usize = 300;
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
    /// The time of the first entry of the call's log.
    first: Timestamp,
    title: Title,
    /// The lines that wait for the title. There are at most [`MAX_HELD`] lines.
    held: Vec<String>,
    legs: HashMap<LegId, String>,
}

/// The line above the lines of a call.
#[derive(PartialEq)]
enum Title {
    /// The caller and the called number are not known yet.
    Missing,
    /// This title will be printed before the next line.
    Waiting(String),
    Printed,
}

impl Shown {
    /// Returns the lines to print when `text` is the next line. The title comes before all other lines.
    fn lines(&mut self, text: Option<String>) -> Vec<String> {
        self.held.extend(text);
        if self.held.is_empty() || self.title == Title::Missing && self.held.len() < MAX_HELD {
            return Vec::new();
        }
        let title = match std::mem::replace(&mut self.title, Title::Printed) {
            Title::Waiting(title) => Some(title),
            Title::Missing | Title::Printed => None,
        };
        title.into_iter().chain(std::mem::take(&mut self.held)).collect()
    }
}

impl View {
    pub(super) fn new(paint: Paint, shows_sip: bool, calls: Calls, accounts: Arc<Vec<Arc<Account>>>) -> Self {
        Self { paint, shows_sip, calls, accounts, shown: HashMap::new(), order: Vec::new(), number: 0 }
    }

    /// Prints the lines of calls until the server has ended. If the output is closed, the server ends.
    pub(super) async fn run(mut self, mut entries: Receiver<FeedItem>) {
        loop {
            let shown = match entries.recv().await {
                Ok(event) => self.show(event).await,
                Err(RecvError::Lagged(missed)) => put(&self.paint.red(format!("{missed} lines were not shown"))),
                Err(RecvError::Closed) => return,
            };
            if shown.is_err() {
                // The server shuts down as after Ctrl-C. The signal cannot fail, because this process gets it.
                let _ = kill_process(getpid(), Signal::TERM);
                return;
            }
        }
    }

    async fn show(&mut self, FeedItem { session, entry }: FeedItem) -> io::Result<()> {
        let first = match &entry {
            Entry::Line(line) => line.at,
            Entry::Exchange(_, exchange) => exchange.at,
        };
        let number = self.remember(session, first);
        let leg = match &entry {
            Entry::Line(line) => line.leg,
            Entry::Exchange(leg, _) => *leg,
        };
        if let Some(leg) = leg {
            self.introduce(session, leg).await;
        }
        let Some(shown) = self.shown.get(&session) else { return Ok(()) };
        let text = match entry {
            Entry::Line(line) => {
                if (line.kind == "sip" && !self.shows_sip) || HIDDEN_LINES.contains(&line.text.as_str()) {
                    None
                } else {
                    let who = line.leg.and_then(|leg| shown.legs.get(&leg)).map_or("", String::as_str);
                    // The first line that arrives is not always the earliest.
                    let at = line.at.duration_since(shown.first).as_secs_f64().max(0.0);
                    let time = self.paint.dim(format!("#{number:<3}{at:8.2}"));
                    Some(format!("{time}  {who:<9} {}", self.coloured(&line)))
                }
            }
            Entry::Exchange(_, exchange) => details(&exchange)
                .map(|details| format!("                        {}", self.paint.dim(harmless(&details)))),
        };
        let Some(shown) = self.shown.get_mut(&session) else { return Ok(()) };
        shown.lines(text).iter().try_for_each(|line| put(line))
    }

    /// Remembers the call, and returns its number. `first` is the time of the first entry.
    fn remember(&mut self, session: CallId, first: Timestamp) -> u32 {
        if let Some(known) = self.shown.get(&session) {
            return known.number;
        }
        self.number += 1;
        let number = self.number;
        let (held, legs) = (Vec::new(), HashMap::new());
        self.shown.insert(session, Shown { number, first, title: Title::Missing, held, legs });
        self.order.push(session);
        if self.order.len() > MAX_CALLS {
            let oldest = self.order.remove(0);
            self.shown.remove(&oldest);
        }
        number
    }

    /// Assigns a name to the leg, and a title to the call as soon as the caller and the called number are known.
    async fn introduce(&mut self, session: CallId, leg: LegId) {
        if self.shown.get(&session).is_none_or(|shown| shown.legs.contains_key(&leg)) {
            return;
        }
        let info = self.info(leg).await;
        let Some(shown) = self.shown.get_mut(&session) else { return };
        let Some(info) = info else {
            // The record belongs to an account that the view does not know.
            shown.legs.insert(leg, String::new());
            if shown.title == Title::Missing {
                shown.title = Title::Waiting(format!("\n{}", self.paint.bold(format!("call #{}", shown.number))));
            }
            return;
        };
        let id = self.calls.services().call_id(&info);
        let name = if info.direction == Direction::Inbound { "caller" } else { "callee" };
        let same = shown.legs.values().filter(|known| known.starts_with(name)).count();
        shown.legs.insert(leg, if same == 0 { name.to_owned() } else { format!("{name} {}", same + 1) });
        if shown.title == Title::Missing {
            let (from, to) = (harmless(&info.from.to_string()), harmless(&info.to.to_string()));
            let title = self.paint.bold(format!("call #{} from {from} to {to}", shown.number));
            shown.title = Title::Waiting(format!("\n{title}  {}", self.paint.dim(id)));
        }
    }

    /// Returns the record of a leg. The first line of a leg may arrive a little before the record is stored.
    async fn info(&self, leg: LegId) -> Option<Arc<LegInfo>> {
        for _ in 0..TRIES {
            for account in self.accounts.iter() {
                if let Ok(Some(found)) = self.calls.get(&account.name, leg).await {
                    return Some(found);
                }
            }
            tokio::time::sleep(RETRY).await;
        }
        None
    }

    fn coloured(&self, line: &Line) -> String {
        let (text, paint) = (harmless(&line.text), self.paint);
        match &*line.kind {
            "advice" => paint.yellow(format!("→ {text}")),
            "webhook" | "request" if is_good(&text) => paint.green(text),
            "webhook" | "request" => paint.red(text),
            "media" | "sip" => paint.dim(text),
            _ if text.contains("failed") || text.contains("refused") || text.contains("apologises") => paint.red(text),
            _ if text.starts_with("warning") => paint.yellow(text),
            _ if text.starts_with("answered") => paint.green(text),
            _ if text.starts_with("ended") => paint.bold(text),
            _ => text,
        }
    }
}

/// Prints a line. An error means that the output is closed.
fn put(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Returns whether the line of a webhook contains a status from 200 to 399, for example `POST http://app/voice 200 (3
/// ms)`. After redirects, only the last response counts.
fn is_good(text: &str) -> bool {
    let text = text.rsplit(" -> ").next().unwrap_or(text);
    let mut status = text.split_whitespace().filter_map(|word| word.parse::<u16>().ok());
    status.any(|status| (200..400).contains(&status))
}

/// Returns a short description of the request's parameters and of the response, or `None` if there is nothing to show.
fn details(exchange: &HttpExchange) -> Option<String> {
    if exchange.direction == ExchangeDirection::Received {
        // The line of the request has its parameters. Only a refusal needs the answer.
        let answer = exchange.answer.as_ref().filter(|answer| answer.status >= 400)?;
        return Some(format!("→ {}", answer.body.chars().take(MAX_ANSWER_LENGTH).collect::<String>()));
    }
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
        assert!(!is_good("POST http://127.0.0.1:5000/a 302 -> GET http://127.0.0.1:5000/b 405 (3 ms)"));
        assert!(is_good("POST http://127.0.0.1:5000/a 302 -> GET http://127.0.0.1:5000/b 200 (3 ms)"));
        assert!(!is_good("POST http://127.0.0.1:5000/voice: connection refused"));
    }

    #[test]
    fn the_title_of_a_call_comes_before_its_lines_whenever_it_is_known() {
        let mut shown = Shown {
            number: 1,
            first: Timestamp::UNIX_EPOCH,
            title: Title::Missing,
            held: Vec::new(),
            legs: HashMap::new(),
        };
        assert!(shown.lines(Some("first".to_owned())).is_empty());
        shown.title = Title::Waiting("title".to_owned());
        assert_eq!(shown.lines(Some("second".to_owned())), ["title", "first", "second"]);
        assert_eq!(shown.lines(Some("third".to_owned())), ["third"]);
        assert!(shown.lines(None).is_empty());
    }

    #[test]
    fn lines_without_a_title_do_not_wait_for_ever() {
        let (title, held, legs) = (Title::Missing, Vec::new(), HashMap::new());
        let mut shown = Shown { number: 1, first: Timestamp::UNIX_EPOCH, title, held, legs };
        let printed: usize = (0..MAX_HELD).map(|line| shown.lines(Some(line.to_string())).len()).sum();
        assert_eq!(printed, MAX_HELD);
    }
}
