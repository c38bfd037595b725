//! Webhook deliveries. They are stored before the first attempt, so that a restart loses none.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::writer::{Begun, Write};
use super::{Store, StoreError};

/// The record of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Id of the delivery, the same for all attempts.
    pub id: u128,
    /// Queue of the delivery. Deliveries of a queue are sent one after the other.
    pub queue: String,
    /// Position in the queue, set by [`insert`].
    pub seq: i64,
    /// The call that the delivery reports on; 0 for none.
    pub session: u128,
    /// Name of the account.
    pub account: String,
    /// Name of the dialect that wrote the delivery.
    pub dialect: String,
    /// Label for logs.
    pub event: String,
    /// Opaque JSON: the request, and how it is retried.
    pub request: String,
    /// State of the delivery.
    pub state: DeliveryState,
    /// Number of attempts made.
    pub attempts: i64,
    /// Earliest time of the next attempt; `None` for at once.
    pub next_at: Option<Timestamp>,
    /// Time at which it was queued.
    pub created_at: Timestamp,
    /// Time of the final outcome.
    pub done_at: Option<Timestamp>,
    /// HTTP status of the last answer.
    pub last_status: Option<i64>,
    /// Error of the last attempt.
    pub last_error: Option<String>,
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Not sent yet, or to be sent again.
    Pending,
    /// The receiver has accepted it.
    Delivered,
    /// All attempts have failed.
    Failed,
}

/// The changes that an attempt makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryProgress {
    /// Id of the delivery.
    pub id: u128,
    /// New state.
    pub state: DeliveryState,
    /// Number of attempts made, including this one.
    pub attempts: i64,
    /// Time of the next attempt.
    pub next_at: Option<Timestamp>,
    /// Time of the final outcome.
    pub done_at: Option<Timestamp>,
    /// HTTP status of the answer.
    pub last_status: Option<i64>,
    /// Error of the attempt.
    pub last_error: Option<String>,
}

/// Adds the row at the end of its queue. The returned value tells when the row is stored. An id that was used before is
/// refused.
///
/// This function sets `seq`: two inserts that are awaited one after the other keep their order.
pub fn insert(store: &Store, mut row: DeliveryRow) -> impl Future<Output = Result<Begun, StoreError>> + Send {
    row.seq = store.next_sequence();
    store.writer.begin(Write::Delivery(Box::new(row)))
}

/// Stores the result of an attempt; returns when it is stored.
pub async fn update(store: &Store, progress: DeliveryProgress) -> Result<(), StoreError> {
    store.writer.write(Write::DeliveryProgress(Box::new(progress))).await
}

/// Returns the first `limit` pending rows of a queue, in order.
pub async fn pending_in(store: &Store, queue: &str, limit: u32) -> Result<Vec<DeliveryRow>, StoreError> {
    sqlx::query("SELECT * FROM deliveries WHERE state = 'pending' AND queue = $1 ORDER BY seq LIMIT $2")
        .bind(queue.to_owned())
        .bind(i64::from(limit))
        .fetch_all(&store.pool)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Returns the first `limit` pending rows of all queues, by queue and position.
pub async fn pending(store: &Store, limit: u32) -> Result<Vec<DeliveryRow>, StoreError> {
    store.flush().await?;
    sqlx::query("SELECT * FROM deliveries WHERE state = 'pending' ORDER BY queue, seq LIMIT $1")
        .bind(i64::from(limit))
        .fetch_all(&store.pool)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Returns up to `limit` names of queues with pending rows. Names are sorted; only names after `after` are returned.
pub async fn pending_queues(store: &Store, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
    store.flush().await?;
    let rows = sqlx::query(
        "SELECT DISTINCT queue FROM deliveries WHERE state = 'pending' AND queue > $1 ORDER BY queue LIMIT $2",
    )
    .bind(after.to_owned())
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(|row| Ok(row.try_get::<String, _>(0)?)).collect()
}

/// Returns a delivery, if it belongs to `account`.
pub async fn get(store: &Store, account: &str, id: u128) -> Result<Option<DeliveryRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM deliveries WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns the first 1000 deliveries of a call, oldest first.
pub async fn list(store: &Store, session: u128) -> Result<Vec<DeliveryRow>, StoreError> {
    store.flush().await?;
    sqlx::query("SELECT * FROM deliveries WHERE session = $1 ORDER BY seq LIMIT 1000")
        .bind(hex(session))
        .fetch_all(&store.pool)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Adds the row, within the writer's transaction.
pub(super) async fn write(connection: &mut AnyConnection, row: &DeliveryRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO deliveries (id, queue, seq, session, account, dialect, event, request, state, attempts, next_at, \
         created_at, done_at, last_status, last_error) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(hex(row.id))
    .bind(row.queue.clone())
    .bind(row.seq)
    .bind(hex(row.session))
    .bind(row.account.clone())
    .bind(row.dialect.clone())
    .bind(row.event.clone())
    .bind(row.request.clone())
    .bind(row.state.word())
    .bind(row.attempts)
    .bind(row.next_at.map(microseconds))
    .bind(microseconds(row.created_at))
    .bind(row.done_at.map(microseconds))
    .bind(row.last_status)
    .bind(row.last_error.clone())
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores the result of an attempt, within the writer's transaction.
pub(super) async fn write_progress(
    connection: &mut AnyConnection,
    progress: &DeliveryProgress,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE deliveries SET state = $2, attempts = $3, next_at = $4, done_at = $5, last_status = $6, \
         last_error = $7 WHERE id = $1",
    )
    .bind(hex(progress.id))
    .bind(progress.state.word())
    .bind(progress.attempts)
    .bind(progress.next_at.map(microseconds))
    .bind(progress.done_at.map(microseconds))
    .bind(progress.last_status)
    .bind(progress.last_error.clone())
    .execute(connection)
    .await?;
    Ok(())
}

impl DeliveryState {
    /// Returns the word in the database: `pending`, `delivered` or `failed`.
    pub fn word(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Result<DeliveryState, StoreError> {
        match word {
            "pending" => Ok(DeliveryState::Pending),
            "delivered" => Ok(DeliveryState::Delivered),
            "failed" => Ok(DeliveryState::Failed),
            other => Err(StoreError::Corrupt { column: "state", value: other.to_owned() }),
        }
    }
}

fn read(row: &AnyRow) -> Result<DeliveryRow, StoreError> {
    let columns = Columns(row);
    Ok(DeliveryRow {
        id: columns.id("id")?,
        queue: columns.text("queue")?,
        seq: columns.integer("seq")?,
        session: columns.id("session")?,
        account: columns.text("account")?,
        dialect: columns.text("dialect")?,
        event: columns.text("event")?,
        request: columns.text("request")?,
        state: DeliveryState::parse(&columns.text("state")?)?,
        attempts: columns.integer("attempts")?,
        next_at: columns.optional_time("next_at")?,
        created_at: columns.time("created_at")?,
        done_at: columns.optional_time("done_at")?,
        last_status: columns.optional_integer("last_status")?,
        last_error: columns.optional_text("last_error")?,
    })
}
