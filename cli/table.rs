//! Text output for terminals. This module provides tables that fit the width of the terminal, and short times.

use std::io::IsTerminal;

use tandem_host::clock;

use super::paint::{Paint, Style, harmless};

/// Returns the number of columns from the variable `COLUMNS` or from the terminal. Returns `None` if the variable is
/// not set and standard output is not a terminal.
pub fn columns() -> Option<usize> {
    let variable = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let stdout = std::io::stdout();
    let terminal = || stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    variable.or_else(|| terminal().map(|size| size.ws_col.into()).filter(|&columns: &usize| columns > 0))
}

/// The text of a table cell, and the style of the text.
pub(crate) type Cell = (String, Style);

/// Creates a cell without a style.
pub(crate) fn plain(text: impl Into<String>) -> Cell {
    (text.into(), Style::Plain)
}

/// A table to which rows can be added. The first rows determine the widths of the columns. Later rows may widen the
/// columns.
pub(crate) struct Table {
    heads: &'static [&'static str],
    widths: Vec<usize>,
    paint: Paint,
    columns: Option<usize>,
    headed: bool,
    /// Whether a text that is too long for the last cell continues on the next line. If this is `false`, the text is
    /// cut.
    wraps: bool,
}

impl Table {
    pub(crate) fn new(heads: &'static [&'static str], paint: Paint, wraps: bool) -> Self {
        let widths = heads.iter().map(|head| head.chars().count()).collect();
        Self { heads, widths, paint, columns: columns(), headed: false, wraps }
    }

    /// Returns the lines for these rows. If these are the first rows of the table, the first line contains the column
    /// heads.
    pub(crate) fn rows(&mut self, rows: &[Vec<Cell>]) -> Vec<String> {
        // An escaped character is longer than the character.
        let shown = |row: &Vec<Cell>| row.iter().map(|(text, style)| (harmless(text), *style)).collect();
        let rows: Vec<Vec<Cell>> = rows.iter().map(shown).collect();
        for row in &rows {
            for (width, (text, _)) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        let mut lines = Vec::new();
        if !std::mem::replace(&mut self.headed, true) {
            let heads: Vec<Cell> = self.heads.iter().map(|head| ((*head).to_owned(), Style::Dim)).collect();
            lines.push(self.line(&heads));
        }
        lines.extend(rows.iter().map(|row| self.line(row)));
        lines
    }

    /// Returns the lines of a note that is printed below a row. The lines are indented, begin with a mark, and fit the
    /// width of the terminal.
    pub(crate) fn note(&self, text: &str) -> String {
        let lines = folded(text, self.columns.unwrap_or(usize::MAX), 4);
        let marked = |(place, line): (usize, &String)| match place {
            0 => format!("  {} {}", self.paint.text(Style::Accent, "\u{2192}"), self.paint.text(Style::Plain, line)),
            _ => format!("    {}", self.paint.text(Style::Plain, line)),
        };
        lines.iter().enumerate().map(marked).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, row: &[Cell]) -> String {
        let mut line = String::new();
        let mut used = 0;
        let last = row.len().saturating_sub(1);
        for (place, ((text, style), width)) in row.iter().zip(&self.widths).enumerate() {
            let gap = if place == 0 { 0 } else { 2 };
            let room = self.columns.map_or(usize::MAX, |columns| columns.saturating_sub(used + gap));
            if room == 0 {
                break;
            }
            if self.wraps && place == last && text.chars().count() > room {
                for part in folded(text, self.columns.unwrap_or(usize::MAX), 4) {
                    line = format!("{}\n    {}", line.trim_end(), self.paint.text(*style, &part));
                }
                break;
            }
            let text = cut(text, room);
            let length = text.chars().count();
            line.push_str(&" ".repeat(gap));
            line.push_str(&self.paint.text(*style, &text));
            used += gap + length;
            if place < last {
                let fill = width.saturating_sub(length);
                line.push_str(&" ".repeat(fill));
                used += fill;
            }
        }
        line.trim_end().to_owned()
    }
}

/// Cuts a text that does not fit, and marks the cut with an ellipsis.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// Splits a text between words into lines. The maximum length of a line is `columns` minus `indent`.
pub fn folded(text: &str, columns: usize, indent: usize) -> Vec<String> {
    let room = columns.saturating_sub(indent).max(20);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if length > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Returns a short form of a UTC time such as `2026-11-23T05:17:19.123Z`. For a time of today, the result contains only
/// the time of day. Otherwise the result contains the date and the time.
pub(crate) fn time(at: &str) -> String {
    let today = clock::time().to_string();
    let (Some(date), Some(time)) = (at.get(..10), at.get(11..19)) else { return at.to_owned() };
    match today.get(..10) == Some(date) {
        true => time.to_owned(),
        false => format!("{} {}", at.get(5..10).unwrap_or(date), at.get(11..16).unwrap_or(time)),
    }
}

/// Formats a duration in seconds, for example as `3.2 s`, `4:05` or `1:02:03`.
pub(crate) fn length(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3_600, whole / 60 % 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal_and_marks_truncated_cells() {
        let mut table = Table { columns: Some(12), ..Table::new(&["ID", "TEXT"], Paint::plain(), false) };
        let rows = table.rows(&[vec![plain("abc"), plain("a long text")], vec![plain("d"), plain("x")]]);
        assert_eq!(rows, ["ID   TEXT", "abc  a long\u{2026}", "d    x"]);
        assert_eq!(table.rows(&[vec![plain("e"), plain("y")]]), ["e    y"], "the heads stand there once");
    }

    #[test]
    fn a_cell_that_must_not_be_truncated_continues_below() {
        let mut table = Table { columns: Some(24), ..Table::new(&["ID", "TEXT"], Paint::plain(), true) };
        let rows =
            table.rows(&[vec![plain("abc"), plain("short")], vec![plain("d"), plain("one two three four five six")]]);
        assert_eq!(rows, ["ID   TEXT", "abc  short", "d\n    one two three four\n    five six"]);
        assert_eq!(table.note("do this"), "  \u{2192} do this");
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(folded("one two three four five six", 24, 4), ["one two three four", "five six"]);
        assert_eq!(folded("", 24, 4), [""]);
    }

    #[test]
    fn times_and_durations_are_short() {
        assert_eq!(time("2001-02-03T04:05:06.789Z"), "02-03 04:05");
        assert_eq!(time("nonsense"), "nonsense");
        assert_eq!([0.04, 59.94, 245.0, 3_723.0].map(length), ["0.0 s", "59.9 s", "4:05", "1:02:03"]);
    }
}
