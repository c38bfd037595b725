//! Draws a ladder diagram. The diagram has a column for each far end, a column for this server, and a row for each
//! message.

use std::fmt::Write;

use tandem_settings::printable::printable;

use super::{CallTrace, Message};

/// Width of the time field, in columns.
const TIME: usize = 10;
/// Minimum distance between two far ends, in columns. Far ends without space share the last position.
const GAP: usize = 22;
/// Column of the first far end.
const FIRST: usize = 2;

pub(super) fn ladder(trace: &CallTrace, columns: usize) -> String {
    let mut out = String::new();
    heading(trace, columns, &mut out);
    let Some(first) = trace.messages.first() else {
        out.push_str("no messages\n");
        return out;
    };
    let _ = writeln!(out, "\nseconds since {:.3}\n", first.at);
    let canvas = Canvas::new(trace, columns);
    canvas.names(trace, &mut out);
    for message in &trace.messages {
        canvas.message(trace, message, &mut out);
    }
    for party in trace.unheard() {
        let _ = write!(out, "\n{}: it sent nothing.", party.name);
        if party.is_over {
            out.push_str(
                " The call is over. The INVITE is still retransmitted for 32 s: before a response, no CANCEL \
                 may be sent (RFC 3261, 9.1).",
            );
        }
        out.push('\n');
    }
    if trace.left_out > 0 {
        let _ = writeln!(out, "\n{} more messages of this call were not kept", trace.left_out);
    }
    out
}

fn heading(trace: &CallTrace, columns: usize, out: &mut String) {
    for party in &trace.parties {
        if party.name == "peer" && party.sip_call_ids.is_empty() {
            // These messages come from many sources, so each message shows its own source.
            continue;
        }
        let mut text = format!("{}:", party.name);
        if let Some(id) = &party.id {
            text.push_str(&format!(" {id},"));
        }
        if let (Some(direction), Some(from), Some(to)) = (&party.direction, &party.from, &party.to) {
            text.push_str(&format!(" {direction} {from} -> {to}"));
        }
        for more in party.trunk.iter().map(|trunk| format!("trunk {trunk}")).chain(party.outcome.clone()) {
            text.push_str(&format!(", {more}"));
        }
        let ids = party.sip_call_ids.iter().map(|id| format!("Call-ID {}", printable(id)));
        for (number, row) in wrap(&printable(&text), columns - 2).into_iter().chain(ids).enumerate() {
            // This never fails, because the text goes into a `String`.
            let _ = writeln!(out, "{}{row}", if number == 0 { "" } else { "  " });
        }
    }
}

struct Canvas {
    width: usize,
    places: Vec<usize>,
    ours: usize,
    /// Whether several far ends share the last position.
    crowded: bool,
}

impl Canvas {
    fn new(trace: &CallTrace, columns: usize) -> Self {
        let width = columns.saturating_sub(TIME).max(FIRST + GAP + 4);
        let room = width - FIRST - 3;
        let max = room / GAP;
        let parties = trace.parties.len();
        let shown = parties.min(max.max(1));
        let gap = room / shown.max(1);
        // The first far end is on the left of this server, and the other far ends are on the right.
        let place = |number: usize| FIRST + number * gap;
        let places =
            (0..parties).map(|party| if party == 0 { place(0) } else { place((party + 1).min(shown)) }).collect();
        Self { width, places, ours: place(1), crowded: parties > shown }
    }

    /// Returns a row that contains only the vertical lines.
    fn blank(&self) -> Vec<char> {
        let mut row = vec![' '; self.width];
        for &place in self.places.iter().chain([&self.ours]) {
            put(&mut row, place, "│");
        }
        row
    }

    fn names(&self, trace: &CallTrace, out: &mut String) {
        let mut rows = [vec![' '; self.width], vec![' '; self.width]];
        let first = trace.messages.first();
        let ours = first.map(|message| message.local.to_string()).unwrap_or_default();
        let mut columns = vec![(self.ours, "tandem".to_owned(), ours)];
        for (number, (party, &place)) in trace.parties.iter().zip(&self.places).enumerate() {
            if columns.iter().any(|(taken, ..)| *taken == place) {
                continue;
            }
            let met = trace.met(number);
            let address = met.map(|message| format!("{} {}", message.peer, message.transport)).unwrap_or_default();
            let shared = self.crowded && Some(&place) == self.places.last();
            columns.push((place, if shared { format!("{} ...", party.name) } else { party.name.clone() }, address));
        }
        for (place, name, address) in &columns {
            for (row, text) in rows.iter_mut().zip([name, address]) {
                let length = text.chars().count();
                let start = place.saturating_sub(length / 2).min(self.width.saturating_sub(length));
                put(row, if *place == FIRST { 0 } else { start }, text);
            }
        }
        for row in &rows {
            line(out, "", row);
        }
    }

    fn message(&self, trace: &CallTrace, message: &Message, out: &mut String) {
        let theirs = self.places.get(message.party).copied().unwrap_or(FIRST);
        let (left, right) = (theirs.min(self.ours), theirs.max(self.ours));
        let rightwards = (message.direction == "sent") == (theirs > self.ours);
        let mut row = self.blank();
        for place in left + 1..right {
            put(&mut row, place, "─");
        }
        put(&mut row, if rightwards { right - 1 } else { left + 1 }, if rightwards { "▶" } else { "◀" });
        let mut label = message.summary.clone();
        if self.crowded
            && Some(&theirs) == self.places.last()
            && let Some(party) = trace.parties.get(message.party)
        {
            label = format!("{}: {label}", party.name);
        }
        let again = if message.again { " again" } else { "" };
        let room = (right - left).saturating_sub(7 + again.len());
        put(&mut row, left + 3, &format!(" {}{again} ", clip(&label, room)));
        line(out, &format!("{:9.3}", message.seconds), &row);
        // A label that is longer than the arrow goes below the arrow, across the lines of other far ends.
        if label.chars().count() > room && left + 4 + label.chars().count() <= self.width {
            let mut row = self.blank();
            put(&mut row, left + 4, &label);
            line(out, "", &row);
        }
        let room = (right - left).saturating_sub(5);
        let more = self.address(trace, message).into_iter().chain(message.sdp.as_ref().map(|sdp| format!("SDP {sdp}")));
        for more in more.flat_map(|text| wrap(&text, room)) {
            let mut row = self.blank();
            put(&mut row, left + 4, &more);
            line(out, "", &row);
        }
    }

    /// Returns the address that the far end uses in this message. If the heading of the far end shows the same address,
    /// returns `None`, except when several far ends share one position.
    fn address(&self, trace: &CallTrace, message: &Message) -> Option<String> {
        let usual = trace.met(message.party)?;
        let there = (message.peer, message.transport);
        let word = if message.direction == "sent" { "to" } else { "from" };
        ((usual.peer, usual.transport) != there || self.crowded)
            .then(|| format!("{word} {} {}", message.peer, message.transport))
    }
}

fn line(out: &mut String, time: &str, row: &[char]) {
    let row: String = row.iter().collect();
    let _ = writeln!(out, "{}", format!("{time:<TIME$}{row}").trim_end());
}

fn put(row: &mut [char], at: usize, text: &str) {
    for (cell, c) in row.iter_mut().skip(at).zip(text.chars()) {
        *cell = c;
    }
}

fn clip(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut clipped: String = text.chars().take(room.saturating_sub(1)).collect();
    clipped.push('…');
    clipped
}

/// Breaks text between words into rows of at most `room` columns.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match rows.last_mut() {
            Some(row) if row.chars().count() + 1 + word.chars().count() <= room => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    rows.iter().map(|row| clip(row, room)).collect()
}
