//! The per-call event log: what an operator or the console reads to understand one call.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::insert::{Backend, Insert};
use super::writer::Write;
use super::{Store, StoreError};

/// Lines of one [`list`] at most.
const MAXIMUM_LINES: i64 = 10_000;

/// One line of a call's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The call.
    pub session: u128,
    /// The leg that it concerns.
    pub leg: Option<u128>,
    /// When it happened.
    pub at: Timestamp,
    /// `sip`, `webhook`, `media` or `call`.
    pub kind: String,
    /// One line for a human, without secrets.
    pub text: String,
    /// JSON for a machine.
    pub data: Option<Details>,
}

/// JSON that is written out only when it is stored, with that of other calls.
#[derive(Clone)]
pub struct Details(Arc<dyn Fn() -> String + Send + Sync>);

impl Details {
    /// `write` says the same whenever it is asked.
    pub fn of(write: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// The text.
    pub fn text(&self) -> String {
        (self.0)()
    }
}

impl From<String> for Details {
    fn from(text: String) -> Self {
        Self::of(move || text.clone())
    }
}

impl std::fmt::Debug for Details {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl PartialEq for Details {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Details {}

/// Submits the line. When the writer's queue is full the line is dropped and counted
/// ([`Writer::dropped`](super::writer::Writer::dropped)): the log never slows a call.
pub fn insert(store: &Store, row: EventRow) {
    store.writer.try_submit(Write::Event(Box::new(row)));
}

/// The call's lines in the order in which they were submitted; the first 10,000.
pub async fn list(store: &Store, session: u128) -> Result<Vec<EventRow>, StoreError> {
    store.flush().await?;
    sqlx::query("SELECT * FROM events WHERE session = $1 ORDER BY seq LIMIT $2")
        .bind(hex(session))
        .bind(MAXIMUM_LINES)
        .fetch_all(&store.pool)
        .await?
        .iter()
        .map(read)
        .collect()
}

static INSERT: Insert = Insert::new("events (session, seq, leg, at, kind, text, data)", 7, "");

/// Stores lines within the writer's transaction, in order, each with the `next` number.
pub(super) async fn write(
    connection: &mut AnyConnection,
    lines: &[&EventRow],
    mut next: impl FnMut() -> i64,
) -> Result<(), sqlx::Error> {
    for (sql, lines) in INSERT.pieces(Backend::of(connection), lines) {
        let mut query = sqlx::query(sql);
        for line in lines {
            query = query
                .bind(hex(line.session))
                .bind(next())
                .bind(line.leg.map(hex))
                .bind(microseconds(line.at))
                .bind(line.kind.clone())
                .bind(line.text.clone())
                .bind(line.data.as_ref().map(Details::text));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

fn read(row: &AnyRow) -> Result<EventRow, StoreError> {
    let columns = Columns(row);
    Ok(EventRow {
        session: columns.id("session")?,
        leg: columns.optional_id("leg")?,
        at: columns.time("at")?,
        kind: columns.text("kind")?,
        text: columns.text("text")?,
        data: columns.optional_text("data")?.map(Details::from),
    })
}
