//! Statements that insert several rows: each statement is a trip to the database's thread or process and back.

use std::fmt::Write as _;
use std::sync::OnceLock;

use sqlx::AnyConnection;

/// Sizes of a statement: 1, 2, 4 ... 32 rows, so that few are ever prepared.
const SIZES: usize = 6;

/// `INSERT INTO table (columns) VALUES (...), (...) tail`, spelled for each number of rows once.
pub(super) struct Insert {
    head: &'static str,
    columns: usize,
    tail: &'static str,
    texts: [OnceLock<String>; SIZES],
    numbered: [OnceLock<String>; SIZES],
}

/// How a database wants a statement's values to be marked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Marks {
    /// `?`: SQLite looks each numbered one up among all of them, when a value is bound.
    Plain,
    /// `$1`: PostgreSQL knows no other.
    Numbered,
}

impl Marks {
    pub(super) fn of(connection: &AnyConnection) -> Self {
        if connection.backend_name() == "SQLite" { Self::Plain } else { Self::Numbered }
    }
}

impl Insert {
    pub(super) const fn new(head: &'static str, columns: usize, tail: &'static str) -> Self {
        Self {
            head,
            columns,
            tail,
            texts: [const { OnceLock::new() }; SIZES],
            numbered: [const { OnceLock::new() }; SIZES],
        }
    }

    /// The rows in pieces, each with its statement.
    pub(super) fn pieces<'a, T>(
        &'static self,
        marks: Marks,
        mut rows: &'a [T],
    ) -> impl Iterator<Item = (&'static str, &'a [T])> {
        std::iter::from_fn(move || {
            let size = (rows.len().checked_ilog2()? as usize).min(SIZES - 1);
            let (piece, rest) = rows.split_at(1 << size);
            rows = rest;
            Some((self.text(marks, size)?, piece))
        })
    }

    fn text(&'static self, marks: Marks, size: usize) -> Option<&'static str> {
        let texts = if marks == Marks::Plain { &self.texts } else { &self.numbered };
        Some(texts.get(size)?.get_or_init(|| self.spell(marks, 1 << size)))
    }

    fn spell(&self, marks: Marks, rows: usize) -> String {
        let mut text = format!("{} VALUES ", self.head);
        for number in 1..=rows * self.columns {
            let (first, last) = (number % self.columns == 1, number % self.columns == 0);
            let before = if first && number > 1 {
                ", ("
            } else if first {
                "("
            } else {
                ", "
            };
            let after = if last { ")" } else { "" };
            // Writing to a String cannot fail.
            let _ = match marks {
                Marks::Plain => write!(text, "{before}?{after}"),
                Marks::Numbered => write!(text, "{before}${number}{after}"),
            };
        }
        text + " " + self.tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static INSERT: Insert = Insert::new("INSERT INTO t (a, b)", 2, "ON CONFLICT DO NOTHING");

    #[test]
    fn rows_are_inserted_in_powers_of_two() {
        let rows: Vec<u32> = (0..75).collect();
        let sizes: Vec<usize> = INSERT.pieces(Marks::Plain, &rows).map(|(_, piece)| piece.len()).collect();
        assert_eq!(sizes, [32, 32, 8, 2, 1]);
        let all: Vec<u32> = INSERT.pieces(Marks::Plain, &rows).flat_map(|(_, piece)| piece).copied().collect();
        assert_eq!(all, rows);
        assert_eq!(INSERT.pieces(Marks::Plain, &rows[..0]).count(), 0);
    }

    #[test]
    fn every_value_has_its_mark() {
        let texts: Vec<&str> = INSERT.pieces(Marks::Plain, &[0; 2]).map(|(text, _)| text).collect();
        assert_eq!(texts, ["INSERT INTO t (a, b) VALUES (?, ?), (?, ?) ON CONFLICT DO NOTHING"]);
        let texts: Vec<&str> = INSERT.pieces(Marks::Numbered, &[0; 3]).map(|(text, _)| text).collect();
        assert_eq!(
            texts,
            [
                "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING",
                "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING"
            ]
        );
    }
}
