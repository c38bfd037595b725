//! Webhook deliveries: written before the first attempt, so that a restart loses none.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::writer::{Begun, Write};
use super::{Store, StoreError};

/// A delivery's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its id, the same at every attempt.
    pub id: u128,
    /// Deliveries of one queue are sent one after the other.
    pub queue: String,
    /// Order within the queue, given by [`insert`].
    pub seq: i64,
    /// The call that it tells about.
    pub session: u128,
    /// The owner's name in the configuration.
    pub account: String,
    /// Which dialect wrote it.
    pub dialect: String,
    /// A label for logs.
    pub event: String,
    /// Opaque JSON: what is sent where, and how it is retried.
    pub request: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: i64,
    /// Not before this time; `None`: at once.
    pub next_at: Option<Timestamp>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When its outcome was final.
    pub done_at: Option<Timestamp>,
    /// The HTTP status of the last answer.
    pub last_status: Option<i64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be sent, or sent and to be retried.
    Pending,
    /// Accepted by its receiver.
    Delivered,
    /// Given up.
    Failed,
}

/// What an attempt changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryProgress {
    /// Of which delivery.
    pub id: u128,
    /// Where it stands now.
    pub state: DeliveryState,
    /// Attempts made, this one included.
    pub attempts: i64,
    /// When the next attempt is due.
    pub next_at: Option<Timestamp>,
    /// When the outcome was final.
    pub done_at: Option<Timestamp>,
    /// The HTTP status of the answer.
    pub last_status: Option<i64>,
    /// Why it failed.
    pub last_error: Option<String>,
}

/// Adds the row at the end of its queue; the answer tells when it is stored. An id that was used before
/// is refused.
///
/// `seq` is set here: two inserts awaited one after the other keep that order.
pub fn insert(store: &Store, mut row: DeliveryRow) -> impl Future<Output = Result<Begun, StoreError>> + Send {
    row.seq = store.next_sequence();
    store.writer.begin(Write::Delivery(Box::new(row)))
}

/// Notes an attempt and returns once that is stored.
pub async fn update(store: &Store, progress: DeliveryProgress) -> Result<(), StoreError> {
    store.writer.write(Write::DeliveryProgress(Box::new(progress))).await
}

/// The first `limit` pending rows of one queue, in order.
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

/// All pending rows, by queue and order within it; the first `limit`.
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

/// Names of up to `limit` queues that hold pending rows and come after `after` in the alphabet.
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

/// The delivery, when it is one of `account`.
pub async fn get(store: &Store, account: &str, id: u128) -> Result<Option<DeliveryRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM deliveries WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The call's deliveries, oldest first; the first 1000.
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

/// Adds the row within the writer's transaction.
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

/// Notes an attempt within the writer's transaction.
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
    /// As stored: `pending`, `delivered` or `failed`.
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
