//! Statements that insert several rows at once. Fewer statements are faster, because each statement requires a round
//! trip to the database's thread or process.

use std::fmt::Write as _;
use std::sync::OnceLock;

use sqlx::AnyConnection;

/// Number of different statement sizes. The sizes are 1, 2, 4 ... 32 rows. So the database prepares only a few
/// statements.
const SIZES: usize = 6;

/// The statement `INSERT INTO into VALUES (...), (...) tail`. For each number of rows, the text of the statement is
/// built only once.
pub(super) struct Insert {
    into: &'static str,
    columns: usize,
    tail: &'static str,
    sqlite: [OnceLock<String>; SIZES],
    postgres: [OnceLock<String>; SIZES],
}

/// The database for which the SQL is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Backend {
    /// SQLite. The placeholders are `?` without numbers, because SQLite searches all placeholders when it binds a value
    /// to a numbered placeholder. `OR FAIL` avoids a journal for each statement. If a statement fails, its first rows
    /// stay in the transaction, and the transaction is then rolled back.
    Sqlite,
    /// PostgreSQL. The placeholders are `$1`, `$2` and so on, because PostgreSQL supports only this form.
    Postgres,
}

impl Backend {
    pub(super) fn of(connection: &AnyConnection) -> Self {
        if connection.backend_name() == "SQLite" { Self::Sqlite } else { Self::Postgres }
    }
}

impl Insert {
    pub(super) const fn new(into: &'static str, columns: usize, tail: &'static str) -> Self {
        Self {
            into,
            columns,
            tail,
            sqlite: [const { OnceLock::new() }; SIZES],
            postgres: [const { OnceLock::new() }; SIZES],
        }
    }

    /// Splits the rows into pieces. Returns each piece together with the statement that inserts it.
    pub(super) fn pieces<'a, T>(
        &'static self,
        backend: Backend,
        mut rows: &'a [T],
    ) -> impl Iterator<Item = (&'static str, &'a [T])> {
        std::iter::from_fn(move || {
            let size = (rows.len().checked_ilog2()? as usize).min(SIZES - 1);
            let (piece, rest) = rows.split_at(1 << size);
            rows = rest;
            Some((self.text(backend, size)?, piece))
        })
    }

    fn text(&'static self, backend: Backend, size: usize) -> Option<&'static str> {
        let texts = if backend == Backend::Sqlite { &self.sqlite } else { &self.postgres };
        Some(texts.get(size)?.get_or_init(|| self.spell(backend, 1 << size)))
    }

    fn spell(&self, backend: Backend, rows: usize) -> String {
        let insert = if backend == Backend::Sqlite { "INSERT OR FAIL" } else { "INSERT" };
        let mut text = format!("{insert} INTO {} VALUES ", self.into);
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
            // This never fails, because the text goes into a `String`.
            let _ = match backend {
                Backend::Sqlite => write!(text, "{before}?{after}"),
                Backend::Postgres => write!(text, "{before}${number}{after}"),
            };
        }
        text + " " + self.tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static INSERT: Insert = Insert::new("t (a, b)", 2, "ON CONFLICT DO NOTHING");

    #[test]
    fn rows_are_inserted_in_powers_of_two() {
        let rows: Vec<u32> = (0..75).collect();
        let sizes: Vec<usize> = INSERT.pieces(Backend::Sqlite, &rows).map(|(_, piece)| piece.len()).collect();
        assert_eq!(sizes, [32, 32, 8, 2, 1]);
        let all: Vec<u32> = INSERT.pieces(Backend::Sqlite, &rows).flat_map(|(_, piece)| piece).copied().collect();
        assert_eq!(all, rows);
        assert_eq!(INSERT.pieces(Backend::Sqlite, &rows[..0]).count(), 0);
    }

    #[test]
    fn each_value_has_a_placeholder_of_its_database() {
        let texts: Vec<&str> = INSERT.pieces(Backend::Sqlite, &[0; 2]).map(|(text, _)| text).collect();
        assert_eq!(texts, ["INSERT OR FAIL INTO t (a, b) VALUES (?, ?), (?, ?) ON CONFLICT DO NOTHING"]);
        let texts: Vec<&str> = INSERT.pieces(Backend::Postgres, &[0; 3]).map(|(text, _)| text).collect();
        assert_eq!(
            texts,
            [
                "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING",
                "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING"
            ]
        );
    }
}
