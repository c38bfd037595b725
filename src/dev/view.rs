//! The live view of calls: short lines, with colours on a terminal.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;
use tandem_accounts::Account;
use tandem_call::leg::{Direction, LegInfo};
use tandem_events::{Event, Item, Subscription};
use tandem_history::event_log::Line;
use tandem_history::live_log::{Entry, LogEntry};
use tandem_history::members::members;
use tandem_http::exchange::{ExchangeDirection, HttpExchange};
use tandem_id::{CallId, LegId};
use tandem_runtime::Calls;
use tokio::time::Instant;

use tandem_cli::paint::{Paint, harmless};
use tandem_cli::story::exchange_style;

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
/// Members of JSON webhooks that the view shows. The line of the webhook has the other members that say what happened.
const SHOWN_MEMBERS: [&str; 4] = ["digit", "digits", "text", "transcript"];
/// Time for which the view holds an entry back. A request's line has the time of the request, but arrives after the
/// answer, which may be later than the lines of the effects. If more than `MAX_HELD_ENTRIES` entries wait, the first ones
/// are shown at once.
const MAX_HELD_ENTRIES: usize = 10_000;
const HOLD: Duration = Duration::from_millis(150);
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
    /// The reason in the line of the latest failed request. Lines that follow need not repeat it.
    reason: String,
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

/// The entries that the view holds back, so that it can show them in the order of their times.
#[derive(Default)]
struct Held {
    /// The entries, sorted by their times.
    entries: VecDeque<HeldEntry>,
    /// Number of entries that arrived so far.
    arrivals: u64,
}

struct HeldEntry {
    at: Timestamp,
    /// The time at which the entry arrived, and the number of the arrival.
    arrived: (Instant, u64),
    item: LogEntry,
}

impl Held {
    fn push(&mut self, now: Instant, item: LogEntry) {
        let at = match &item.entry {
            Entry::Line(line) => line.at,
            // An exchange belongs to the line that arrived before it.
            Entry::Exchange(_, exchange) => {
                let of_call = self.entries.iter().filter(|other| other.item.session == item.session);
                of_call.max_by_key(|other| other.arrived).map_or(exchange.at, |line| line.at)
            }
        };
        self.arrivals += 1;
        let place = self.entries.partition_point(|other| other.at <= at);
        self.entries.insert(place, HeldEntry { at, arrived: (now, self.arrivals), item });
    }

    /// Returns the time at which the first entry may be shown.
    fn wakes(&self) -> Option<Instant> {
        self.entries.front().map(|first| first.arrived.0 + HOLD)
    }

    /// Removes and returns the first entry, if the view has held it long enough.
    fn due(&mut self, now: Instant) -> Option<LogEntry> {
        if self.wakes()? > now && self.entries.len() <= MAX_HELD_ENTRIES {
            return None;
        }
        self.entries.pop_front().map(|first| first.item)
    }
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

    /// Prints the lines of calls. If the output is closed, the function ends the server and returns.
    pub(super) async fn run(mut self, mut entries: Subscription) {
        let mut held = Held::default();
        loop {
            let wakes = held.wakes();
            let received = tokio::select! {
                received = entries.next() => received,
                () = tokio::time::sleep_until(wakes.unwrap_or_else(Instant::now)), if wakes.is_some() => None,
            };
            let mut shown = Ok(());
            match received {
                Some(Item::Event(event)) => {
                    if let Event::Log(entry) = &*event {
                        held.push(Instant::now(), entry.clone());
                    }
                }
                Some(Item::Missed(missed)) => {
                    shown = put(&self.paint.red(format!("{missed} lines were not shown")));
                }
                Some(Item::Away(_)) | None => {}
            }
            while let Some(item) = held.due(Instant::now()).filter(|_| shown.is_ok()) {
                shown = self.show(item).await;
            }
            if shown.is_err() {
                // The server shuts down as after Ctrl-C. The signal cannot fail, because this process gets it.
                let _ = kill_process(getpid(), Signal::TERM);
                return;
            }
        }
    }

    async fn show(&mut self, LogEntry { session, entry }: LogEntry) -> io::Result<()> {
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
        let text = match entry {
            Entry::Line(mut line) => {
                let is_news =
                    self.shown.get_mut(&session).is_some_and(|shown| drop_known(&mut shown.reason, &mut line));
                let Some(shown) = self.shown.get(&session) else { return Ok(()) };
                if !is_news
                    || line.kind == "verb"
                    || (line.kind == "sip" && !self.shows_sip)
                    || HIDDEN_LINES.contains(&line.text.as_str())
                {
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
        let (held, legs, reason) = (Vec::new(), HashMap::new(), String::new());
        self.shown.insert(session, Shown { number, first, title: Title::Missing, held, legs, reason });
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
            "webhook" | "request" => paint.text(exchange_style(&text), &text),
            "media" | "sip" => paint.dim(text),
            _ if text.contains("failed") || text.contains("refused") || text.contains("apologises") => paint.red(text),
            _ if text.starts_with("warning") => paint.yellow(text),
            _ if text.starts_with("answered") => paint.green(text),
            _ if text.starts_with("ended") => paint.bold(text),
            _ => text,
        }
    }
}

/// Removes the reason of a failed request from a line that follows the line of the request. `reason` is the reason of the
/// latest failed request. Returns false if the line says nothing else.
fn drop_known(reason: &mut String, line: &mut Line) -> bool {
    if let ("webhook" | "request", Some((_, why))) = (&*line.kind, line.text.split_once(" failed: ")) {
        why.clone_into(reason);
    } else if !reason.is_empty() {
        if line.text.strip_prefix("SWML: ") == Some(reason) {
            return false;
        }
        if let Some(detail) = line.text.strip_prefix("document failed: ")
            && let Some((_, number)) = detail.split_once(&format!(": {reason}"))
        {
            line.text = format!("document failed{number}");
        }
    }
    true
}

/// Prints a line. An error means that the output is closed.
fn put(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Returns a short description of the request's parameters and of the response, or `None` if there is nothing to show.
fn details(exchange: &HttpExchange) -> Option<String> {
    if exchange.direction == ExchangeDirection::Received {
        // The line of the request has its parameters and the reason of a refusal.
        return None;
    }
    let value = |name: &str| exchange.parameters.iter().find(|(key, value)| key == name && !value.is_empty());
    let shown = |(name, value): &(String, String)| {
        let short: String = value.chars().take(MAX_PARAMETER_LENGTH).collect();
        format!("{name}={short}{}", if short.len() < value.len() { "..." } else { "" })
    };
    let body = exchange.answer.as_ref().map_or("", |answer| &answer.body);
    let verbs = verbs(body);
    let parameters = SHOWN_PARAMETERS.iter().filter_map(|name| value(name));
    let parameters = parameters.chain(value(STATUS).filter(|_| verbs.is_empty()));
    let json: Value = exchange.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
    let members: Vec<_> =
        members(&json, &SHOWN_MEMBERS).into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    let parameters = parameters.chain(&members).map(shown).collect::<Vec<_>>().join(" ");
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
    use tandem_cli::paint::Style;

    fn exchange(parameters: &[(&str, &str)], body: &str) -> HttpExchange {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let exchange = HttpExchange::new(Timestamp::UNIX_EPOCH, "POST", "http://h/", &parameters, Duration::ZERO);
        HttpExchange { answer: Some(HttpAnswer::ours(200, "text/xml", body)), ..exchange }
    }

    #[test]
    fn the_line_of_a_webhook_has_its_main_values_and_the_verbs_of_its_answer() {
        let document =
            "<?xml version=\"1.0\"?><Response><Gather numDigits='1'><Say>Hello</Say></Gather><Hangup/></Response>";
        let webhook = exchange(&[("CallStatus", "in-progress"), ("Digits", "12")], document);
        assert_eq!(details(&webhook).unwrap(), "Digits=12 → <Gather> <Say> <Hangup>");
        assert_eq!(details(&exchange(&[("CallStatus", "completed")], "")).unwrap(), "CallStatus=completed");
        assert_eq!(details(&exchange(&[], "")), None);
    }

    #[test]
    fn the_status_decides_the_colour_of_a_webhooks_line() {
        for (line, style) in [
            ("POST http://127.0.0.1:5000/voice 200 (3 ms)", Style::Good),
            ("POST http://127.0.0.1:5000/voice 404 (3 ms)", Style::Bad),
            ("POST http://127.0.0.1:5000/a 302 -> GET http://127.0.0.1:5000/b 405 (3 ms)", Style::Bad),
            ("POST http://127.0.0.1:5000/a 302 -> GET http://127.0.0.1:5000/b 200 (3 ms)", Style::Good),
            ("POST http://127.0.0.1:5000/voice failed: connection refused", Style::Bad),
            ("SWML: main.[0].answer", Style::Plain),
            ("POST /v2/calls/v3:x/actions/hangup 422 (0 ms): no longer active (90018)", Style::Bad),
        ] {
            assert_eq!(exchange_style(line), style, "{line}");
        }
    }

    #[test]
    fn the_digits_of_a_json_webhook_are_shown() {
        let body = r#"{"data":{"event_type":"call.gather.ended","payload":{"digits":"12","status":"valid"}}}"#;
        let sent = exchange(&[], "").with_body(Some(body));
        assert_eq!(details(&sent).unwrap(), "digits=12");
        assert_eq!(details(&exchange(&[], "").with_body(Some("{\"a\":1}"))), None);
    }

    #[test]
    fn entries_are_shown_in_the_order_of_their_times() {
        let (mut held, session) = (Held::default(), CallId(1));
        let line = |second: i64, text: &str| LogEntry {
            session,
            entry: Entry::Line(Line {
                at: Timestamp::from_second(second).unwrap(),
                leg: None,
                kind: "call".into(),
                text: text.to_owned(),
                data: None,
            }),
        };
        let now = Instant::now();
        held.push(now, line(2, "effect"));
        held.push(now, line(1, "cause"));
        held.push(now, LogEntry { session, entry: Entry::Exchange(None, Box::new(exchange(&[], ""))) });
        assert!(held.due(now).is_none());
        let mut texts = Vec::new();
        while let Some(item) = held.due(now + HOLD) {
            texts.push(match item.entry {
                Entry::Line(line) => line.text,
                Entry::Exchange(..) => "exchange".to_owned(),
            });
        }
        assert_eq!(texts, ["cause", "exchange", "effect"]);
    }

    #[test]
    fn a_reason_is_shown_once() {
        let line = |kind: &'static str, text: &str| Line {
            at: Timestamp::UNIX_EPOCH,
            leg: None,
            kind: kind.into(),
            text: text.to_owned(),
            data: None,
        };
        let mut reason = String::new();
        let mut shown = |kind, text: &str| {
            let mut line = line(kind, text);
            drop_known(&mut reason, &mut line).then_some(line.text)
        };
        let alone = "document failed: http://h/a: timeout (11203)";
        assert_eq!(shown("call", alone).as_deref(), Some(alone), "no request says the reason");
        let request = "POST http://h/a failed: timeout";
        assert_eq!(shown("webhook", request).as_deref(), Some(request));
        assert_eq!(shown("webhook", "SWML: timeout"), None);
        assert_eq!(shown("call", alone).as_deref(), Some("document failed (11203)"));
        let other = "document failed: http://h/a: answered 403 (11200)";
        assert_eq!(shown("call", other).as_deref(), Some(other));
    }

    #[test]
    fn the_title_of_a_call_comes_before_its_lines_whenever_it_is_known() {
        let mut shown = Shown {
            number: 1,
            first: Timestamp::UNIX_EPOCH,
            title: Title::Missing,
            held: Vec::new(),
            legs: HashMap::new(),
            reason: String::new(),
        };
        assert!(shown.lines(Some("first".to_owned())).is_empty());
        shown.title = Title::Waiting("title".to_owned());
        assert_eq!(shown.lines(Some("second".to_owned())), ["title", "first", "second"]);
        assert_eq!(shown.lines(Some("third".to_owned())), ["third"]);
        assert!(shown.lines(None).is_empty());
    }

    #[test]
    fn lines_without_a_title_are_printed_at_the_limit() {
        let (title, held, legs, reason) = (Title::Missing, Vec::new(), HashMap::new(), String::new());
        let mut shown = Shown { number: 1, first: Timestamp::UNIX_EPOCH, title, held, legs, reason };
        let printed: usize = (0..MAX_HELD).map(|line| shown.lines(Some(line.to_string())).len()).sum();
        assert_eq!(printed, MAX_HELD);
    }
}
