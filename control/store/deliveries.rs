//! Webhook deliveries. A delivery is stored before its first attempt, so that a restart loses no delivery.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row;
use sqlx::any::AnyRow;
use tandem_id::AccountName;

use super::column::{Columns, hex, microseconds};
use super::writer::{Begun, Write};
use super::{OwnedBy, Store, StoreError};

/// The record of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Id of the delivery. All attempts have this id.
    pub id: u128,
    /// Name of the delivery's queue. The deliveries of a queue are sent one after another.
    pub queue: String,
    /// Position in the queue, set by [`insert`].
    pub seq: i64,
    /// The id of the call that the delivery concerns. 0 means no call.
    pub session: u128,
    /// Name of the account.
    pub account: AccountName,
    /// Name of the delivery's dialect.
    pub dialect: String,
    /// Name of the event, for logs.
    pub event: String,
    /// The request and its retry policy, as JSON that this crate does not interpret.
    pub request: String,
    pub state: DeliveryState,
    /// Number of attempts so far.
    pub attempts: i64,
    /// Earliest time of the next attempt. `None` means at once.
    pub next_at: Option<Timestamp>,
    /// Time at which the delivery was queued.
    pub created_at: Timestamp,
    /// Time of the final result.
    pub done_at: Option<Timestamp>,
    /// HTTP status of the last response.
    pub last_status: Option<i64>,
    /// Error of the last attempt.
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// The delivery is not sent yet, or will be sent again.
    Pending,
    /// The receiver has accepted the delivery.
    Delivered,
    /// All attempts have failed.
    Failed,
}

/// The changes of a delivery after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryProgress {
    pub id: u128,
    /// New state of the delivery.
    pub state: DeliveryState,
    /// Number of attempts so far. This attempt is included.
    pub attempts: i64,
    /// Earliest time of the next attempt.
    pub next_at: Option<Timestamp>,
    /// Time of the final result.
    pub done_at: Option<Timestamp>,
    /// HTTP status of the response.
    pub last_status: Option<i64>,
    /// Error of the attempt.
    pub last_error: Option<String>,
}

/// Adds the row at the end of its queue. The returned value completes when the row is stored. The database refuses an
/// id that was used before.
///
/// This function sets `seq`. Two inserts keep their order if the calling code awaits this function for the first row
/// before it calls this function for the second row.
pub fn insert(store: &Store, mut row: DeliveryRow) -> impl Future<Output = Result<Begun, StoreError>> + Send {
    row.seq = store.next_sequence();
    store.writer.begin(Write::Delivery(Box::new(row)))
}

/// Stores the result of an attempt. The function returns when the result is stored.
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

/// Returns the first `limit` pending rows of all queues, ordered by queue and position.
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

/// Returns at most `limit` names of queues of `owner` with pending rows. The names are sorted. Only names that come after
/// `after` are returned.
pub async fn pending_queues(
    store: &Store,
    owner: &OwnedBy,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, StoreError> {
    store.flush().await?;
    let sql = format!(
        "SELECT DISTINCT queue FROM deliveries WHERE state = 'pending' AND queue > $1 AND {} ORDER BY queue LIMIT $2",
        owner.condition("queue")
    );
    let rows =
        sqlx::query(super::assembled(sql)).bind(after.to_owned()).bind(i64::from(limit)).fetch_all(&store.pool).await?;
    rows.iter().map(|row| Ok(row.try_get::<String, _>(0)?)).collect()
}

/// Returns a delivery, if the delivery belongs to `account`.
pub async fn get(store: &Store, account: &AccountName, id: u128) -> Result<Option<DeliveryRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM deliveries WHERE account = $1 AND id = $2")
        .bind(account.to_string())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns the first 1000 deliveries of a call, oldest delivery first.
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

/// Adds the row. The change is part of the writer's transaction.
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
    .bind(row.account.to_string())
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

/// Stores the result of an attempt. The change is part of the writer's transaction.
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
    /// Returns the word for this state in the database: `pending`, `delivered` or `failed`.
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
        account: columns.account()?,
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
