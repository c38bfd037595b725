//! The event log of a call: SIP messages, webhooks and media marks in the order they happened.
//!
//! A live call keeps its lines in memory (bounded) and writes them as one row when it is over, so that a short call costs
//! one insert and not thirty. What is heard of a call after its end (a callback that was retried) is a row of its own.

use std::fmt::Write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::id::{CallId, LegId};

use crate::store::events::{self, EventRow};
use crate::store::{Store, StoreError};

/// Lines kept of one live call; later ones are counted only.
const MOST_LINES: usize = 2_000;
/// Characters kept of a line.
const LONGEST_LINE: usize = 512;

/// One line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// The leg it is about.
    pub leg: Option<LegId>,
    /// `sip`, `webhook`, `media`, `call`.
    pub kind: String,
    /// What, in words.
    pub text: String,
}

/// The lines of a live call.
#[derive(Default, Debug)]
pub struct EventLog {
    lines: Vec<Line>,
    left_out: usize,
}

impl EventLog {
    /// Adds a line.
    pub fn push(&mut self, at: Timestamp, leg: Option<LegId>, kind: &str, mut text: String) {
        if self.lines.len() < MOST_LINES {
            if let Some((end, _)) = text.char_indices().nth(LONGEST_LINE) {
                text.truncate(end);
            }
            self.lines.push(Line { at, leg, kind: kind.to_owned(), text });
        } else {
            self.left_out += 1;
        }
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
    }

    /// Writes the log of an ended call, under each of its sessions.
    pub fn write(mut self, store: &Store, sessions: &[CallId], at: Timestamp) {
        if self.left_out > 0 {
            let text = format!("{} more lines were not kept", self.left_out);
            self.lines.push(Line { at, leg: None, kind: "call".to_owned(), text });
        }
        let began = self.lines.first().map_or(at, |line| line.at);
        let data = serde_json::to_string(&self.lines).ok();
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
    events::insert(store, EventRow { session: session.0, leg: leg.map(|leg| leg.0), at, kind, text, data: None });
}

/// The log of an ended call.
pub async fn read(store: &Store, session: CallId) -> Result<Vec<Line>, StoreError> {
    let mut lines = Vec::new();
    for row in events::list(store, session.0).await? {
        match row.data.as_deref().map(serde_json::from_str::<Vec<Line>>) {
            Some(Ok(mut written)) => lines.append(&mut written),
            _ => lines.push(Line { at: row.at, leg: row.leg.map(LegId), kind: row.kind, text: row.text }),
        }
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}
