//! The event log of a call: SIP messages, webhooks and media events, sorted by time.
//!
//! A live call keeps a limited number of lines in memory. At the end of the call, the lines are stored as one row
//! ([`crate::stored_log`]).

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_call::leg::QualityPoint;
use tandem_http::exchange::{ExchangeDirection, HttpExchange};
use tandem_id::{CallId, LegId};
use tandem_settings::printable::printable;

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

/// An HTTP exchange, and the leg that the exchange concerns.
pub type Exchanged = (Option<LegId>, HttpExchange);

/// The audio quality of a leg over time, the oldest point first.
pub type QualitySeries = (LegId, Vec<QualityPoint>);

/// The content of a log. Each list is sorted by time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LogContent {
    pub lines: Vec<Line>,
    pub exchanges: Vec<Exchanged>,
    pub quality: Vec<QualitySeries>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The time of the event.
    pub at: Timestamp,
    /// The leg that the event concerns.
    pub leg: Option<LegId>,
    /// The kind of the event: `sip`, `webhook`, `media`, `call`, `verb`, `siprec`, `advice`, `speech` (words, turns) or
    /// `stream`.
    pub kind: Cow<'static, str>,
    pub text: String,
    /// The event as JSON. The member `event` says which other members exist. If the event begins, changes or ends something
    /// that lasts, `state` is `started`, `changed` or `ended`, and `id` says which thing. If the event is a problem, `level` is
    /// `error` or `warning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Value>>,
}

/// The log of a live call. One string contains the text of all lines, and each line has a small entry.
#[derive(Default, Debug)]
pub struct EventLog {
    pub(crate) text: String,
    pub(crate) lines: Vec<LogEntry>,
    /// The data of lines, as JSON. Each entry has the index of its line. The indices are in ascending order.
    pub(crate) data: Vec<(u32, Value)>,
    pub(crate) legs: Vec<LegId>,
    pub(crate) kinds: Vec<Cow<'static, str>>,
    pub(crate) left_out: usize,
    problems: u32,
    pub(crate) exchanges: Vec<Exchanged>,
    exchanged: usize,
    /// The audio quality of each leg over time.
    pub(crate) quality: Vec<QualitySeries>,
    /// The receiver of new lines and exchanges.
    wire: Option<Wire>,
}

/// The entry of a line. The limits of the log ensure that the numbers fit into their types.
#[derive(Debug)]
pub(crate) struct LogEntry {
    /// The time of the line in microseconds since 1970 UTC.
    pub(crate) at: i64,
    /// The start of the line's text, in octets. `length` is the length of the text, in octets.
    pub(crate) start: u32,
    pub(crate) length: u16,
    /// The index of the leg plus 1, or 0 if there is no leg.
    pub(crate) leg: u16,
    /// The index of the line's kind.
    pub(crate) kind: u16,
}

/// Returns the index of `one` in the list. If the list does not contain `one`, appends `one` to the list.
pub(crate) fn place<T: PartialEq>(list: &mut Vec<T>, one: T) -> usize {
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

    pub(crate) fn keep(&mut self, at: Timestamp, leg: Option<LegId>, kind: Cow<'static, str>, text: &str) {
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

    /// Sets the audio quality of a leg over time.
    pub fn set_quality(&mut self, leg: LegId, points: Vec<QualityPoint>) {
        match self.quality.iter_mut().find(|(known, _)| *known == leg) {
            Some((_, known)) => *known = points,
            None if points.is_empty() => {}
            None => self.quality.push((leg, points)),
        }
    }

    /// Returns everything that the log has so far.
    pub fn content(&self) -> LogContent {
        LogContent { lines: self.lines(), exchanges: self.exchanges.clone(), quality: self.quality.clone() }
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
        for (leg, points) in std::mem::take(&mut other.quality) {
            self.set_quality(leg, points);
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
        *self = Self { left_out, problems, quality: std::mem::take(&mut self.quality), ..Self::default() };
        lines.into_iter().for_each(|line| self.push_line(line));
        for (leg, exchange) in exchanges {
            self.push_exchange(leg, exchange);
        }
        self.wire = wire;
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

#[cfg(test)]
mod tests {
    use super::*;

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
