//! The event log of each call. Operators and the console use the log to explain a call.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::insert::{Backend, Insert};
use super::writer::Write;
use super::{Store, StoreError};

/// Maximum number of lines that [`list`] returns.
const MAXIMUM_LINES: i64 = 10_000;

/// A line of a call's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The id of the call.
    pub session: u128,
    /// The leg that the line concerns.
    pub leg: Option<u128>,
    /// Time of the event.
    pub at: Timestamp,
    /// Kind of the event: `sip`, `webhook`, `media` or `call`.
    pub kind: String,
    /// One line of text for operators. The text contains no secrets.
    pub text: String,
    /// Additional data as JSON.
    pub data: Option<Details>,
}

/// JSON that is serialised only when it is written. It is written in one batch with the JSON of other calls.
#[derive(Clone)]
pub struct Details(Arc<dyn Fn() -> String + Send + Sync>);

impl Details {
    /// Creates the details. Every call of `write` must return the same text.
    pub fn of(write: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Returns the JSON text.
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

/// Submits the line to the writer. If the writer's queue is full, the line is dropped and counted
/// ([`Writer::dropped`](super::writer::Writer::dropped)). So the log never slows down a call.
pub fn insert(store: &Store, row: EventRow) {
    store.writer.try_submit(Write::Event(Box::new(row)));
}

/// Returns the first 10,000 lines of a call, in the order in which they were submitted.
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

/// Writes lines in order. The change is part of the writer's transaction. Each line receives the next number, and the
/// first number is `next`.
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
