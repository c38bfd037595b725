//! The event log of a call: SIP messages, webhooks and media marks in the order they happened.
//!
//! A live call keeps its lines in memory (bounded) and writes them as one row when it is over, so that a short call costs
//! one insert and not thirty. What is heard of a call after its end (a callback that was retried) is a row of its own.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::id::{CallId, LegId};

use crate::exchange::Exchange;
use crate::store::events::{self, EventRow};
use crate::store::{Store, StoreError};

/// Lines kept of one live call; later ones are counted only.
const MOST_LINES: usize = 2_000;
/// Characters kept of a line.
const LONGEST_LINE: usize = 512;
/// Memory for the exchanges kept of one live call, octets; later ones are not kept.
const MOST_EXCHANGED: usize = 512 * 1024;
/// Kind of a stored row that is an exchange and no line.
const EXCHANGE: &str = "exchange";

/// A request with its answer, and the leg it was about.
pub type Exchanged = (Option<LegId>, Exchange);

/// One line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// The leg it is about.
    pub leg: Option<LegId>,
    /// `sip`, `webhook`, `media`, `call`.
    pub kind: Cow<'static, str>,
    /// What, in words.
    pub text: String,
}

/// A log as it is stored: half the octets that its lines would have one by one.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    legs: Vec<LegId>,
    lines: Vec<StoredLine<'a>>,
    /// Which leg, and what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exchanges: Vec<(Option<usize>, Cow<'a, Exchange>)>,
}

/// Microseconds since 1970 UTC, which leg, kind, text.
type StoredLine<'a> = (i64, Option<usize>, Cow<'a, str>, Cow<'a, str>);

impl<'a> Stored<'a> {
    fn of(lines: &'a [Line], exchanges: &'a [Exchanged]) -> Self {
        let mut legs: Vec<LegId> = Vec::new();
        let mut number = |leg| {
            legs.iter().position(|known| *known == leg).unwrap_or_else(|| {
                legs.push(leg);
                legs.len() - 1
            })
        };
        let line = |line: &'a Line| {
            let (kind, text) = (Cow::Borrowed(&*line.kind), Cow::Borrowed(&*line.text));
            (line.at.as_microsecond(), line.leg.map(&mut number), kind, text)
        };
        let lines = lines.iter().map(line).collect();
        let exchanges =
            exchanges.iter().map(|(leg, exchange)| (leg.map(&mut number), Cow::Borrowed(exchange))).collect();
        Self { legs, lines, exchanges }
    }

    fn exchanges(self) -> Vec<Exchanged> {
        let Self { legs, exchanges, .. } = self;
        let leg = |number: Option<usize>| number.and_then(|number| legs.get(number).copied());
        exchanges.into_iter().map(|(number, exchange)| (leg(number), exchange.into_owned())).collect()
    }

    fn lines(self) -> Vec<Line> {
        let Self { legs, lines, .. } = self;
        let line = |(at, leg, kind, text): StoredLine<'_>| Line {
            at: Timestamp::from_microsecond(at).unwrap_or_default(),
            leg: leg.and_then(|number| legs.get(number).copied()),
            kind: Cow::Owned(kind.into_owned()),
            text: text.into_owned(),
        };
        lines.into_iter().map(line).collect()
    }
}

/// The lines of a stored log; those of older versions stood one by one. `None`: it is none.
fn read_stored(data: &str) -> Option<Vec<Line>> {
    let stored = serde_json::from_str::<Stored<'_>>(data).map(Stored::lines);
    stored.or_else(|_| serde_json::from_str(data)).ok()
}

/// The lines of a live call.
#[derive(Default, Debug)]
pub struct EventLog {
    lines: Vec<Line>,
    left_out: usize,
    exchanges: Vec<Exchanged>,
    exchanged: usize,
}

impl EventLog {
    /// Adds a line.
    pub fn push(&mut self, at: Timestamp, leg: Option<LegId>, kind: impl Into<Cow<'static, str>>, mut text: String) {
        if self.lines.len() < MOST_LINES {
            if text.len() > LONGEST_LINE
                && let Some((end, _)) = text.char_indices().nth(LONGEST_LINE)
            {
                text.truncate(end);
            }
            self.lines.push(Line { at, leg, kind: kind.into(), text });
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a request with its answer.
    pub fn push_exchange(&mut self, leg: Option<LegId>, exchange: Exchange) {
        let size = exchange.size();
        if self.exchanged + size <= MOST_EXCHANGED {
            self.exchanged += size;
            self.exchanges.push((leg, exchange));
        }
    }

    /// The exchanges so far.
    pub fn exchanges(&self) -> &[Exchanged] {
        &self.exchanges
    }

    /// The last one about a leg.
    pub fn last_exchange(&self, leg: LegId) -> Option<&Exchange> {
        self.exchanges.iter().rev().find(|(about, _)| *about == Some(leg)).map(|(_, exchange)| exchange)
    }

    /// The lines so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Takes another log's lines in.
    pub fn append(&mut self, mut other: Self) {
        self.lines.append(&mut other.lines);
        self.lines.sort_by_key(|line| line.at);
        self.left_out += other.left_out + self.lines.len().saturating_sub(MOST_LINES);
        self.lines.truncate(MOST_LINES);
        for (leg, exchange) in other.exchanges {
            self.push_exchange(leg, exchange);
        }
        self.exchanges.sort_by_key(|(_, exchange)| exchange.at);
    }

    /// Writes the log of an ended call, under each of its sessions.
    pub fn write(mut self, store: &Store, sessions: &[CallId], at: Timestamp) {
        if self.left_out > 0 {
            let text = format!("{} more lines were not kept", self.left_out);
            self.lines.push(Line { at, leg: None, kind: "call".into(), text });
        }
        let began = self.lines.first().map_or(at, |line| line.at);
        let data = serde_json::to_string(&Stored::of(&self.lines, &self.exchanges)).ok();
        let text = format!("{} lines", self.lines.len());
        for session in sessions {
            let row = EventRow {
                session: session.0,
                leg: None,
                at: began,
                kind: "log".to_owned(),
                text: text.clone(),
                data: data.clone(),
            };
            events::insert(store, row);
        }
    }
}

/// The lines as people read them: seconds since the first, who, what kind, what.
pub fn timeline<'a>(lines: &[Line], name: impl Fn(LegId) -> Option<&'a str>) -> String {
    let mut text = String::new();
    let Some(start) = lines.first().map(|line| line.at) else { return text };
    for Line { at, leg, kind, text: what } in lines {
        let at = at.duration_since(start).as_secs_f64();
        let leg = leg.and_then(&name).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {at:7.3}  {leg:<8}  {kind:<7}  {what}");
    }
    text
}

/// A line about a call that is over.
pub fn late(store: &Store, session: CallId, line: Line) {
    let Line { at, leg, kind, text } = line;
    let (leg, kind) = (leg.map(|leg| leg.0), kind.into_owned());
    events::insert(store, EventRow { session: session.0, leg, at, kind, text, data: None });
}

/// An exchange about a call that is over, with its line, if it has one.
pub fn late_exchange(store: &Store, session: CallId, leg: Option<LegId>, exchange: &Exchange, line: Option<Line>) {
    let data = serde_json::to_string(exchange).ok();
    let (kind, text) = match line {
        Some(line) => (line.kind.into_owned(), line.text),
        None => (EXCHANGE.to_owned(), String::new()),
    };
    events::insert(
        store,
        EventRow { session: session.0, leg: leg.map(|leg| leg.0), at: exchange.at, kind, text, data },
    );
}

/// The exchanges of an ended call, oldest first.
pub async fn read_exchanges(store: &Store, session: CallId) -> Result<Vec<Exchanged>, StoreError> {
    let mut exchanges = Vec::new();
    for row in events::list(store, session.0).await? {
        let Some(data) = row.data.as_deref() else { continue };
        match serde_json::from_str::<Stored<'_>>(data) {
            Ok(stored) => exchanges.append(&mut stored.exchanges()),
            Err(_) => exchanges.extend(serde_json::from_str(data).ok().map(|exchange| (row.leg.map(LegId), exchange))),
        }
    }
    exchanges.sort_by_key(|(_, exchange)| exchange.at);
    Ok(exchanges)
}

/// The log of an ended call.
pub async fn read(store: &Store, session: CallId) -> Result<Vec<Line>, StoreError> {
    let mut lines = Vec::new();
    for row in events::list(store, session.0).await?.into_iter().filter(|row| row.kind != EXCHANGE) {
        match row.data.as_deref().and_then(read_stored) {
            Some(mut written) => lines.append(&mut written),
            None => lines.push(Line { at: row.at, leg: row.leg.map(LegId), kind: row.kind.into(), text: row.text }),
        }
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_log_is_read_as_it_was_and_so_is_one_of_an_older_version() {
        let at = |microseconds| Timestamp::from_microsecond(microseconds).unwrap();
        let line = |at, leg: Option<u128>, kind: &'static str, text: &str| Line {
            at,
            leg: leg.map(LegId),
            kind: kind.into(),
            text: text.to_owned(),
        };
        let lines = [
            line(at(1_700_000_000_000_001), Some(7), "sip", "<- \"x\" \u{e9}"),
            line(at(1_700_000_000_000_002), Some(8), "media", ""),
            line(at(1_700_000_000_000_003), Some(7), "call", "answered"),
            line(at(1_700_000_000_000_004), None, "webhook", "200"),
        ];
        let stored = serde_json::to_string(&Stored::of(&lines, &[])).unwrap();
        assert_eq!(read_stored(&stored).as_deref(), Some(&lines[..]));
        let exchange = Exchange::new(at(7), "POST", "http://h/", &[("A".into(), "b".into())], Default::default());
        let exchanges = [(Some(LegId(8)), exchange.clone()), (None, exchange)];
        let with = serde_json::to_string(&Stored::of(&lines, &exchanges)).unwrap();
        assert_eq!(read_stored(&with).as_deref(), Some(&lines[..]));
        assert_eq!(serde_json::from_str::<Stored<'_>>(&with).unwrap().exchanges(), exchanges);
        let older = serde_json::to_string(&lines).unwrap();
        assert_eq!(read_stored(&older).as_deref(), Some(&lines[..]));
        assert!(stored.len() < older.len(), "{stored}");
        assert_eq!(read_stored("{}"), None);
    }
}
