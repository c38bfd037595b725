//! The event log of a call: SIP messages, webhooks and media events, sorted by time.
//!
//! A live call keeps a limited number of lines in memory. At the end of the call, the lines are stored as one row. So a
//! short call needs one insert instead of thirty inserts. An event after the end of the call (for example a retried
//! webhook) is stored in a separate row.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_http::exchange::{ExchangeDirection, HttpExchange};
use tandem_id::{CallId, LegId};
use tandem_settings::printable::printable;
use tandem_store::events::{self, Details, EventRow};
use tandem_store::{Store, StoreError};

use crate::live_log::{Entry, LogListener, Wire};

/// Maximum number of lines of a live call. Later lines are only counted.
const MAX_LINES: usize = 2_000;
/// Number of lines for which memory is reserved. A call typically has this number of lines when the call is answered.
const TYPICAL_LINES: usize = 16;
/// Maximum number of characters of a line.
const LONGEST_LINE: usize = 512;
/// Maximum memory for the HTTP exchanges of a live call, in octets. Further exchanges are dropped.
const MAX_EXCHANGE_OCTETS: usize = 512 * 1024;
/// Maximum number of problems of one call that are stored as reports. Later problems are only in the log and in the
/// metrics.
const MAX_PROBLEMS: u32 = 200;
/// The kind of a line that contains advice about the previous line.
pub const ADVICE: &str = "advice";
/// The kind of a stored row that contains an HTTP exchange without a line.
const EXCHANGE: &str = "exchange";
/// The kind of the stored row that contains the log of a live call.
const LOG: &str = "log";

/// An HTTP exchange, and the leg that the exchange concerns.
pub type Exchanged = (Option<LegId>, HttpExchange);

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The time of the event.
    pub at: Timestamp,
    /// The leg that the event concerns.
    pub leg: Option<LegId>,
    /// The kind of the event: `sip`, `webhook`, `media`, `call`, `siprec`, `advice`, `speech` (words, turns) or
    /// `stream`.
    pub kind: Cow<'static, str>,
    pub text: String,
    /// The event as JSON, for kinds of events with figures. The member `event` says which other members exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Value>>,
}

/// The stored form of a log. `EventLog` has the same structure.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    legs: Vec<LegId>,
    kinds: Cow<'a, [Cow<'static, str>]>,
    text: Cow<'a, str>,
    lines: Vec<StoredLine>,
    /// The data of lines, as JSON. Each entry has the index of its line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    data: Vec<(u32, Cow<'a, Value>)>,
    /// The HTTP exchanges, each with the index of its leg.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exchanges: Vec<(Option<usize>, Cow<'a, HttpExchange>)>,
}

/// The stored form of a line. The first number is the time in microseconds since the previous line. In the first line,
/// this number is the time since 1970 UTC. The second number is the length of the text in octets. The third number is
/// the index of the kind. The fourth number is the index of the leg plus 1, or 0 if there is no leg.
type StoredLine = (i64, u16, u16, u16);

/// The stored form that an older version wrote. In this form each line contains its own text.
#[derive(Deserialize)]
struct OldStored<'a> {
    legs: Vec<LegId>,
    lines: Vec<OldStoredLine<'a>>,
    #[serde(default)]
    exchanges: Vec<(Option<usize>, Cow<'a, HttpExchange>)>,
}

/// The older stored form of a line: microseconds since 1970 UTC, index of the leg, kind, text.
type OldStoredLine<'a> = (i64, Option<usize>, Cow<'a, str>, Cow<'a, str>);

impl<'a> Stored<'a> {
    fn of(log: &'a EventLog) -> Self {
        let mut legs = log.legs.clone();
        let mut before = 0;
        let lines = log.lines.iter().map(|entry| {
            let since = entry.at - std::mem::replace(&mut before, entry.at);
            (since, entry.length, entry.kind, entry.leg)
        });
        let lines = lines.collect();
        let exchanges = log.exchanges.iter().map(|(leg, exchange)| {
            let leg = leg.map(|leg| place(&mut legs, leg));
            (leg, Cow::Borrowed(exchange))
        });
        let exchanges = exchanges.collect();
        let (kinds, text) = (Cow::Borrowed(&*log.kinds), Cow::Borrowed(&*log.text));
        let data = log.data.iter().map(|(line, data)| (*line, Cow::Borrowed(data))).collect();
        Self { legs, kinds, text, lines, data, exchanges }
    }

    fn lines(self) -> Vec<Line> {
        let (mut at, mut start) = (0_i64, 0);
        let line = |(since, length, kind, leg): StoredLine| {
            at = at.saturating_add(since);
            let end = start + usize::from(length);
            let text = self.text.get(std::mem::replace(&mut start, end)..end).unwrap_or_default();
            Line {
                at: Timestamp::from_microsecond(at).unwrap_or_default(),
                leg: usize::from(leg).checked_sub(1).and_then(|place| self.legs.get(place).copied()),
                kind: self.kinds.get(usize::from(kind)).cloned().unwrap_or_default(),
                text: text.to_owned(),
                data: None,
            }
        };
        let mut lines: Vec<Line> = self.lines.into_iter().map(line).collect();
        for (place, data) in self.data {
            if let Some(line) = lines.get_mut(place as usize) {
                line.data = Some(Box::new(data.into_owned()));
            }
        }
        lines
    }
}

impl OldStored<'_> {
    fn lines(self) -> Vec<Line> {
        let Self { legs, lines, .. } = self;
        let line = |(at, leg, kind, text): OldStoredLine<'_>| Line {
            at: Timestamp::from_microsecond(at).unwrap_or_default(),
            leg: leg.and_then(|number| legs.get(number).copied()),
            kind: Cow::Owned(kind.into_owned()),
            text: text.into_owned(),
            data: None,
        };
        lines.into_iter().map(line).collect()
    }
}

/// Reads the lines of a stored log, in the current form or an older form. Returns `None` if the text is not a stored
/// log.
fn read_stored(data: &str) -> Option<Vec<Line>> {
    let stored = serde_json::from_str::<Stored<'_>>(data).map(Stored::lines);
    let stored = stored.or_else(|_| serde_json::from_str::<OldStored<'_>>(data).map(OldStored::lines));
    stored.or_else(|_| serde_json::from_str(data)).ok()
}

/// Reads the HTTP exchanges of a stored log. Returns `None` if the text is not a stored log.
fn read_stored_exchanges(data: &str) -> Option<Vec<Exchanged>> {
    let stored = serde_json::from_str::<Stored<'_>>(data).map(|stored| (stored.legs, stored.exchanges));
    let stored =
        stored.or_else(|_| serde_json::from_str::<OldStored<'_>>(data).map(|older| (older.legs, older.exchanges)));
    let (legs, exchanges) = stored.ok()?;
    let leg = |number: Option<usize>| number.and_then(|number| legs.get(number).copied());
    Some(exchanges.into_iter().map(|(number, exchange)| (leg(number), exchange.into_owned())).collect())
}

/// The log of a live call. One string contains the text of all lines, and each line has a small entry.
#[derive(Default, Debug)]
pub struct EventLog {
    text: String,
    lines: Vec<LogEntry>,
    /// The data of lines, as JSON. Each entry has the index of its line. The indices are in ascending order.
    data: Vec<(u32, Value)>,
    legs: Vec<LegId>,
    kinds: Vec<Cow<'static, str>>,
    left_out: usize,
    problems: u32,
    exchanges: Vec<Exchanged>,
    exchanged: usize,
    /// The receiver of new lines and exchanges.
    wire: Option<Wire>,
}

/// The entry of a line. The limits of the log ensure that the numbers fit into their types.
#[derive(Debug)]
struct LogEntry {
    /// The time of the line in microseconds since 1970 UTC.
    at: i64,
    /// The start of the line's text, in octets. `length` is the length of the text, in octets.
    start: u32,
    length: u16,
    /// The index of the leg plus 1, or 0 if there is no leg.
    leg: u16,
    /// The index of the line's kind.
    kind: u16,
}

/// Returns the index of `one` in the list. If the list does not contain `one`, appends `one` to the list.
fn place<T: PartialEq>(list: &mut Vec<T>, one: T) -> usize {
    list.iter().position(|known| *known == one).unwrap_or_else(|| {
        list.push(one);
        list.len() - 1
    })
}

impl EventLog {
    /// Sends each later entry also to this listener. `session` is the id of the call.
    pub fn send_to(&mut self, session: CallId, listener: Arc<dyn LogListener>) {
        self.wire = Some(Wire::new(session, listener));
    }

    /// Adds a line.
    pub fn push(
        &mut self,
        at: Timestamp,
        leg: Option<LegId>,
        kind: impl Into<Cow<'static, str>>,
        text: impl AsRef<str>,
    ) {
        self.add(at, leg, kind.into(), text.as_ref(), None, None);
    }

    /// Adds a line that another task has created, or a line with JSON.
    pub fn push_line(&mut self, Line { at, leg, kind, text, data }: Line) {
        self.add(at, leg, kind, &text, None, data);
    }

    /// Adds a line with a text that only the listener gets, and not the log. The log has the text of `line`.
    pub fn push_shown(&mut self, Line { at, leg, kind, text, data }: Line, shown: &str) {
        self.add(at, leg, kind, &text, Some(shown), data);
    }

    fn add(
        &mut self,
        at: Timestamp,
        leg: Option<LegId>,
        kind: Cow<'static, str>,
        text: &str,
        shown: Option<&str>,
        data: Option<Box<Value>>,
    ) {
        if self.lines.len() >= MAX_LINES {
            self.left_out += 1;
            return;
        }
        let end = if text.len() > LONGEST_LINE { text.char_indices().nth(LONGEST_LINE) } else { None };
        let text = end.and_then(|(end, _)| text.get(..end)).unwrap_or(text);
        if let Some(wire) = &self.wire {
            wire.send(leg, &|| {
                let (kind, text) = (kind.clone(), shown.unwrap_or(text).to_owned());
                Entry::Line(Line { at, leg, kind, text, data: data.clone() })
            });
        }
        if let Some(data) = data {
            self.data.push((u32::try_from(self.lines.len()).unwrap_or(u32::MAX), *data));
        }
        self.keep(at, leg, kind, text);
    }

    fn keep(&mut self, at: Timestamp, leg: Option<LegId>, kind: Cow<'static, str>, text: &str) {
        let number = |place: usize| u16::try_from(place).unwrap_or(u16::MAX);
        let leg = leg.map_or(0, |leg| number(place(&mut self.legs, leg)).saturating_add(1));
        let kind = number(place(&mut self.kinds, kind));
        let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        let length = number(text.len());
        if self.lines.is_empty() {
            self.lines.reserve(TYPICAL_LINES);
            self.text.reserve(TYPICAL_LINES * 32);
        }
        self.text.push_str(text);
        self.lines.push(LogEntry { at: at.as_microsecond(), start, length, leg, kind });
    }

    /// Returns all lines, each with its entry, its kind and its text.
    fn entries(&self) -> impl Iterator<Item = (&LogEntry, &str, &str)> {
        self.lines.iter().map(|entry| {
            let start = entry.start as usize;
            let text = self.text.get(start..start + usize::from(entry.length)).unwrap_or_default();
            (entry, self.kinds.get(usize::from(entry.kind)).map_or("", |kind| kind), text)
        })
    }

    /// Whether the log contains a line with this kind and this text.
    pub fn says(&self, kind: &str, text: &str) -> bool {
        self.entries().any(|(_, known, logged)| known == kind && logged == text)
    }

    /// Adds a line with advice, unless the log has this advice already.
    pub fn push_advice(&mut self, line: Line) {
        if !self.says(ADVICE, &line.text) {
            self.push_line(line);
        }
    }

    /// Counts a problem. Returns whether the problem may be stored as a report.
    pub fn admits_problem(&mut self) -> bool {
        self.problems = self.problems.saturating_add(1);
        self.problems <= MAX_PROBLEMS
    }

    /// Adds an HTTP exchange, unless the memory for exchanges is full.
    pub fn push_exchange(&mut self, leg: Option<LegId>, exchange: HttpExchange) {
        if let Some(wire) = &self.wire {
            wire.send(leg, &|| Entry::Exchange(leg, Box::new(exchange.clone())));
        }
        let size = exchange.size();
        if self.exchanged + size <= MAX_EXCHANGE_OCTETS {
            self.exchanged += size;
            self.exchanges.push((leg, exchange));
        }
    }

    /// Returns the HTTP exchanges so far.
    pub fn exchanges(&self) -> &[Exchanged] {
        &self.exchanges
    }

    /// Returns the last request of this server about a leg.
    pub fn last_exchange(&self, leg: LegId) -> Option<&HttpExchange> {
        let sent =
            |(about, exchange): &&Exchanged| *about == Some(leg) && exchange.direction == ExchangeDirection::Sent;
        self.exchanges.iter().rev().find(sent).map(|(_, exchange)| exchange)
    }

    /// Returns the lines so far. The times of the lines are exact to the microsecond.
    pub fn lines(&self) -> Vec<Line> {
        let line = |(entry, kind, text): (&LogEntry, &str, &str)| Line {
            at: Timestamp::from_microsecond(entry.at).unwrap_or_default(),
            leg: entry.leg.checked_sub(1).and_then(|place| self.legs.get(usize::from(place)).copied()),
            kind: Cow::Owned(kind.to_owned()),
            text: text.to_owned(),
            data: None,
        };
        let mut lines: Vec<Line> = self.entries().map(line).collect();
        for (place, data) in &self.data {
            if let Some(line) = lines.get_mut(*place as usize) {
                line.data = Some(Box::new(data.clone()));
            }
        }
        lines
    }

    /// Merges another log into this log, sorted by time.
    pub fn append(&mut self, mut other: Self) {
        // The listener already has the entries of both logs, so they are added without the listener. It has no entries of
        // a log that another call left behind when it was merged.
        let is_left_behind = other.wire.is_none();
        let wire = self.wire.take().map(|wire| wire.and(other.wire.take())).or(other.wire.take());
        for wire in wire.iter().filter(|_| is_left_behind) {
            other.lines().into_iter().for_each(|line| wire.send(line.leg, &|| Entry::Line(line.clone())));
            for (leg, exchange) in &other.exchanges {
                wire.send(*leg, &|| Entry::Exchange(*leg, Box::new(exchange.clone())));
            }
        }
        if other.lines.is_empty() && other.exchanges.is_empty() {
            self.wire = wire;
            return;
        }
        let mut lines = self.lines();
        lines.append(&mut other.lines());
        lines.sort_by_key(|line| line.at);
        let mut exchanges = std::mem::take(&mut self.exchanges);
        exchanges.append(&mut other.exchanges);
        exchanges.sort_by_key(|(_, exchange)| exchange.at);
        let (left_out, problems) = (self.left_out + other.left_out, self.problems.saturating_add(other.problems));
        *self = Self { left_out, problems, ..Self::default() };
        lines.into_iter().for_each(|line| self.push_line(line));
        for (leg, exchange) in exchanges {
            self.push_exchange(leg, exchange);
        }
        self.wire = wire;
    }

    /// Stores the log of an ended call, once for each session id of the call.
    pub fn write(mut self, store: &Store, sessions: &[CallId], at: Timestamp) {
        if self.left_out > 0 {
            let text = format!("{} more lines were dropped", self.left_out);
            self.keep(at, None, "call".into(), &text);
        }
        let began = self.lines.first().and_then(|line| Timestamp::from_microsecond(line.at).ok()).unwrap_or(at);
        let text = format!("{} lines", self.lines.len());
        let data = Details::of(move || serde_json::to_string(&Stored::of(&self)).unwrap_or_default());
        for session in sessions {
            let row = EventRow {
                session: session.0,
                leg: None,
                at: began,
                kind: LOG.to_owned(),
                text: text.clone(),
                data: Some(data.clone()),
            };
            events::insert(store, row);
        }
    }
}

/// Returns the log lines as text. Each line of text contains the seconds since the first line, the leg, the kind and
/// the text of the log line.
pub fn timeline<'a>(lines: &[Line], name: impl Fn(LegId) -> Option<&'a str>) -> String {
    let mut text = String::new();
    let Some(start) = lines.first().map(|line| line.at) else { return text };
    for Line { at, leg, kind, text: what, .. } in lines {
        let at = at.duration_since(start).as_secs_f64();
        let leg = leg.and_then(&name).unwrap_or_default();
        // This never fails, because the text goes into a `String`.
        let what = printable(what);
        let _ = writeln!(text, "  {at:7.3}  {leg:<8}  {kind:<7}  {what}");
    }
    text
}

/// Stores a line about an ended call.
pub fn late(store: &Store, session: CallId, line: Line) {
    let Line { mut at, leg, kind, text, .. } = line;
    if kind == ADVICE {
        // The log is sorted by time. A time one microsecond later keeps this line behind the line about the problem.
        at = at.saturating_add(SignedDuration::from_micros(1)).unwrap_or(at);
    }
    let (leg, kind) = (leg.map(|leg| leg.0), kind.into_owned());
    events::insert(store, EventRow { session: session.0, leg, at, kind, text, data: None });
}

/// Stores an HTTP exchange of an ended call. If the exchange has a log line, stores this line too.
pub fn late_exchange(store: &Store, session: CallId, leg: Option<LegId>, exchange: &HttpExchange, line: Option<Line>) {
    let data = serde_json::to_string(exchange).ok().map(Details::from);
    let (kind, text) = match line {
        Some(line) => (line.kind.into_owned(), line.text),
        None => (EXCHANGE.to_owned(), String::new()),
    };
    events::insert(
        store,
        EventRow { session: session.0, leg: leg.map(|leg| leg.0), at: exchange.at, kind, text, data },
    );
}

/// The stored entries of a call, in the order of their rows.
pub struct Read<T> {
    /// The entries.
    pub parts: Vec<T>,
    /// Whether the entries include the row of the live call. The call stores this row last.
    pub is_complete: bool,
}

impl<T> Read<T> {
    /// Adds the entries that the live call returned before the database was read. Adds nothing if the database already
    /// contains the row of the live call, because this row has all entries.
    pub fn and(mut self, live: Vec<T>) -> Vec<T> {
        if !self.is_complete {
            self.parts.extend(live);
        }
        self.parts
    }
}

/// Reads the stored HTTP exchanges of a call.
pub async fn read_exchanges(store: &Store, session: CallId) -> Result<Read<Exchanged>, StoreError> {
    let mut read = Read { parts: Vec::new(), is_complete: false };
    for row in events::list(store, session.0).await? {
        read.is_complete |= row.kind == LOG;
        let Some(data) = row.data.as_ref().map(Details::text) else { continue };
        match read_stored_exchanges(&data) {
            Some(mut stored) => read.parts.append(&mut stored),
            None => read.parts.extend(serde_json::from_str(&data).ok().map(|exchange| (row.leg.map(LegId), exchange))),
        }
    }
    Ok(read)
}

/// Reads the stored lines of a call.
pub async fn read(store: &Store, session: CallId) -> Result<Read<Line>, StoreError> {
    let mut read = Read { parts: Vec::new(), is_complete: false };
    for row in events::list(store, session.0).await?.into_iter().filter(|row| row.kind != EXCHANGE) {
        read.is_complete |= row.kind == LOG;
        match row.data.as_ref().and_then(|data| read_stored(&data.text())) {
            Some(mut written) => read.parts.append(&mut written),
            None => {
                let (leg, kind) = (row.leg.map(LegId), row.kind.into());
                read.parts.push(Line { at: row.at, leg, kind, text: row.text, data: None });
            }
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_logs_of_this_and_of_older_versions_are_read() {
        let at = |microseconds| Timestamp::from_microsecond(microseconds).unwrap();
        let line = |at, leg: Option<u128>, kind: &'static str, text: &str| Line {
            at,
            leg: leg.map(LegId),
            kind: kind.into(),
            text: text.to_owned(),
            data: None,
        };
        let figures = |turn| Some(Box::new(serde_json::json!({ "event": "turn", "turn": turn })));
        let lines = [
            line(at(1_700_000_000_000_001), Some(7), "sip", "<- \"x\" \u{e9}"),
            line(at(1_700_000_000_000_002), Some(8), "media", ""),
            line(at(1_700_000_000_000_003), Some(7), "call", "answered"),
            line(at(1_700_000_000_000_004), None, "webhook", "200"),
        ];
        let mut log = EventLog::default();
        lines.iter().cloned().for_each(|line| log.push_line(line));
        assert_eq!(log.lines(), lines);
        let stored = serde_json::to_string(&Stored::of(&log)).unwrap();
        assert_eq!(read_stored(&stored).as_deref(), Some(&lines[..]));
        let mut with_figures = EventLog::default();
        let turn = Line { data: figures(1), ..line(at(1_700_000_000_000_005), Some(7), "speech", "turn 1") };
        let all = [lines[0].clone(), turn, lines[3].clone()];
        all.iter().cloned().for_each(|line| with_figures.push_line(line));
        assert_eq!(with_figures.lines(), all);
        let stored_with = serde_json::to_string(&Stored::of(&with_figures)).unwrap();
        assert_eq!(read_stored(&stored_with).as_deref(), Some(&all[..]));
        let mut joined = EventLog::default();
        joined.push_line(lines[2].clone());
        joined.append(with_figures);
        assert_eq!(
            joined.lines().iter().filter_map(|line| line.data.clone()).collect::<Vec<_>>(),
            [figures(1).unwrap()]
        );
        let exchange = HttpExchange::new(at(7), "POST", "http://h/", &[("A".into(), "b".into())], Default::default());
        let exchanges = [(Some(LegId(8)), exchange.clone()), (None, exchange)];
        exchanges.iter().cloned().for_each(|(leg, exchange)| log.push_exchange(leg, exchange));
        let with = serde_json::to_string(&Stored::of(&log)).unwrap();
        assert_eq!(read_stored(&with).as_deref(), Some(&lines[..]));
        assert_eq!(read_stored_exchanges(&with).unwrap(), exchanges);
        let line_by_line = format!(
            r#"{{"legs":["{:032x}","{:032x}"],"lines":[[1700000000000001,0,"sip","<- \"x\" é"],[1700000000000002,1,"media",""],[1700000000000003,0,"call","answered"],[1700000000000004,null,"webhook","200"]],"exchanges":[[1,{}]]}}"#,
            7,
            8,
            serde_json::to_string(&exchanges[0].1).unwrap()
        );
        assert_eq!(read_stored(&line_by_line).as_deref(), Some(&lines[..]));
        assert_eq!(read_stored_exchanges(&line_by_line).as_deref(), Some(&exchanges[..1]));
        let older = serde_json::to_string(&lines).unwrap();
        assert_eq!(read_stored(&older).as_deref(), Some(&lines[..]));
        assert!(stored.len() < older.len(), "{stored}");
        assert_eq!(read_stored("{}"), None);
    }

    #[tokio::test]
    async fn an_exchange_is_read_once_while_its_log_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let (session, at) = (CallId(7), Timestamp::from_second(1).unwrap());
        let mut log = EventLog::default();
        log.push(at, None, "call", "answered");
        let exchange = HttpExchange::new(at, "POST", "http://h/", &[("A".into(), "b".into())], Default::default());
        log.push_exchange(None, exchange.clone());
        let (lines, exchanges) = (log.lines(), log.exchanges().to_vec());

        // The result contains the exchange that another task has stored, and the exchanges of the live call.
        late_exchange(&store, session, None, &exchange, None);
        store.flush().await.unwrap();
        assert_eq!(read_exchanges(&store, session).await.unwrap().and(exchanges.clone()).len(), 2);
        assert_eq!(read(&store, session).await.unwrap().and(lines.clone()), lines);

        log.write(&store, &[session], at);
        store.flush().await.unwrap();
        assert_eq!(read_exchanges(&store, session).await.unwrap().and(exchanges).len(), 2);
        assert_eq!(read(&store, session).await.unwrap().and(lines.clone()), lines);
        store.close().await;
    }

    #[test]
    fn merged_logs_are_in_order_of_time_and_count_dropped_lines() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (mut one, mut other) = (EventLog::default(), EventLog::default());
        for second in 0..MAX_LINES as i64 {
            one.push(at(2 * second), Some(LegId(1)), "sip", format!("one {second}"));
        }
        other.push(at(1), Some(LegId(2)), "media", "\u{e9}".repeat(600));
        other.push(at(3), None, "call", "last");
        one.append(other);
        let lines = one.lines();
        assert_eq!((lines.len(), one.left_out), (MAX_LINES, 2));
        assert_eq!((lines[1].leg, &*lines[1].kind, lines[1].text.chars().count()), (Some(LegId(2)), "media", 512));
        assert_eq!((lines[2].leg, &*lines[2].text), (Some(LegId(1)), "one 1"));
        assert_eq!((lines[3].leg, &*lines[3].text), (None, "last"));
    }
}
