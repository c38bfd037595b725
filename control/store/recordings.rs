//! Recordings: one row per file.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::select::Conditions;
use super::writer::Write;
use super::{Cursor, Page, Store, StoreError, TimeRange};

/// A recording's record. The audio itself is a file or object at `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingRow {
    /// Its id.
    pub id: u128,
    /// The owner's name in the configuration.
    pub account: String,
    /// Which dialect spells its id.
    pub dialect: String,
    /// The leg that was recorded.
    pub leg: u128,
    /// The call (B2BUA session) of that leg.
    pub session: u128,
    /// What asked for it: a verb, a REST action, a route. The dialect's word.
    pub source: String,
    /// 1 or 2.
    pub channels: i64,
    /// `inbound`, `outbound` or `both`.
    pub track: String,
    /// `wav`, ...
    pub format: String,
    /// Relative to `recordings.url`.
    pub path: String,
    /// The dialect's word.
    pub status: String,
    /// When the first audio was taken; lists are ordered by it, so it never changes.
    pub started_at: Timestamp,
    /// When it was closed.
    pub ended_at: Option<Timestamp>,
    /// Length of the audio, ms.
    pub duration_ms: Option<i64>,
    /// Length of the file, octets.
    pub bytes: Option<i64>,
    /// Opaque JSON of the dialect.
    pub details: String,
}

impl RecordingRow {
    /// Its place in [`list`].
    pub fn cursor(&self) -> Cursor {
        Cursor { at: self.started_at, id: self.id }
    }
}

/// Which recordings; what is empty does not restrict.
#[derive(Debug, Clone, Default)]
pub struct RecordingFilter {
    /// Of this leg.
    pub leg: Option<u128>,
    /// Of this session.
    pub session: Option<u128>,
    /// Of a leg whose caller is this.
    pub from: Option<String>,
    /// Of a leg whose called party is this.
    pub to: Option<String>,
    /// Of this dialect.
    pub dialect: Option<String>,
    /// One of these.
    pub status: Vec<String>,
    /// By `started_at`.
    pub created: TimeRange,
    /// By `ended_at`.
    pub ended: TimeRange,
}

/// Submits the row: replaces the one with its id, or adds it. Waits only when the writer's queue is full.
pub fn upsert(store: &Store, row: RecordingRow) -> impl Future<Output = Result<(), StoreError>> + Send {
    store.writer.submit(Write::Recording(Box::new(row)))
}

/// The recording, when `account` owns it.
pub async fn get(store: &Store, account: &str, id: u128) -> Result<Option<RecordingRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM recordings WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The recording, whoever owns it: for the server's own use.
pub async fn find(store: &Store, id: u128) -> Result<Option<RecordingRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM recordings WHERE id = $1").bind(hex(id)).fetch_optional(&store.pool).await?;
    row.as_ref().map(read).transpose()
}

/// Removes the record (not the file); false when `account` has none with this id.
pub async fn delete(store: &Store, account: &str, id: u128) -> Result<bool, StoreError> {
    store.flush().await?;
    let done = sqlx::query("DELETE FROM recordings WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .execute(&store.pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// One page of the account's recordings, newest first.
pub async fn list(
    store: &Store,
    account: &str,
    filter: &RecordingFilter,
    page: &Page,
) -> Result<Vec<RecordingRow>, StoreError> {
    conditions(account, filter).page(store, "recordings", "started_at", page).await?.iter().map(read).collect()
}

/// How many of the account's recordings match.
pub async fn count(store: &Store, account: &str, filter: &RecordingFilter) -> Result<u64, StoreError> {
    conditions(account, filter).count(store, "recordings").await
}

/// Up to 1000 rows of any account that were not closed, oldest first: after a crash, the files to be repaired.
pub async fn unfinished(store: &Store) -> Result<Vec<RecordingRow>, StoreError> {
    store.flush().await?;
    sqlx::query("SELECT * FROM recordings WHERE ended_at IS NULL ORDER BY started_at, id LIMIT 1000")
        .fetch_all(&store.pool)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Stores the row within the writer's transaction.
pub(super) async fn write(connection: &mut AnyConnection, row: &RecordingRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO recordings (id, account, dialect, leg, session, source, channels, track, format, path, status, \
         started_at, ended_at, duration_ms, bytes, details) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
         ON CONFLICT (id) DO UPDATE SET account = excluded.account, dialect = excluded.dialect, leg = excluded.leg, \
         session = excluded.session, source = excluded.source, channels = excluded.channels, track = excluded.track, \
         format = excluded.format, path = excluded.path, status = excluded.status, ended_at = excluded.ended_at, \
         duration_ms = excluded.duration_ms, bytes = excluded.bytes, details = excluded.details",
    )
    .bind(hex(row.id))
    .bind(row.account.clone())
    .bind(row.dialect.clone())
    .bind(hex(row.leg))
    .bind(hex(row.session))
    .bind(row.source.clone())
    .bind(row.channels)
    .bind(row.track.clone())
    .bind(row.format.clone())
    .bind(row.path.clone())
    .bind(row.status.clone())
    .bind(microseconds(row.started_at))
    .bind(row.ended_at.map(microseconds))
    .bind(row.duration_ms)
    .bind(row.bytes)
    .bind(row.details.clone())
    .execute(connection)
    .await?;
    Ok(())
}

fn conditions(account: &str, filter: &RecordingFilter) -> Conditions {
    let mut conditions = Conditions::account(account);
    conditions.equal_id("leg", filter.leg);
    conditions.equal_id("session", filter.session);
    conditions.equal_in_call("leg", "from_address", filter.from.as_deref());
    conditions.equal_in_call("leg", "to_address", filter.to.as_deref());
    conditions.equal("dialect", filter.dialect.as_deref());
    conditions.one_of("status", &filter.status);
    conditions.within("started_at", filter.created);
    conditions.within("ended_at", filter.ended);
    conditions
}

fn read(row: &AnyRow) -> Result<RecordingRow, StoreError> {
    let columns = Columns(row);
    Ok(RecordingRow {
        id: columns.id("id")?,
        account: columns.text("account")?,
        dialect: columns.text("dialect")?,
        leg: columns.id("leg")?,
        session: columns.id("session")?,
        source: columns.text("source")?,
        channels: columns.integer("channels")?,
        track: columns.text("track")?,
        format: columns.text("format")?,
        path: columns.text("path")?,
        status: columns.text("status")?,
        started_at: columns.time("started_at")?,
        ended_at: columns.optional_time("ended_at")?,
        duration_ms: columns.optional_integer("duration_ms")?,
        bytes: columns.optional_integer("bytes")?,
        details: columns.text("details")?,
    })
}
