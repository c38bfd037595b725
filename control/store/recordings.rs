//! Records of recordings. There is one row for each recording file.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use tandem_id::AccountName;

use super::calls::{self, CallFilter};
use super::column::{Columns, hex, microseconds};
use super::select::{Conditions, began};
use super::writer::Write;
use super::{Cursor, OwnedBy, Page, Store, StoreError, TimeRange};

/// The record of a recording. The audio is the file at `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingRow {
    pub id: u128,
    /// Name of the account.
    pub account: AccountName,
    /// Name of the recording's dialect.
    pub dialect: String,
    pub leg: u128,
    /// The id of the leg's call, or the id of the recorded conference.
    pub session: u128,
    /// Origin of the recording, such as `record`, `dial` or `request`.
    pub source: String,
    /// Number of channels: 1 or 2.
    pub channels: i64,
    /// Recorded direction: `inbound`, `outbound` or `both`.
    pub track: String,
    /// Format of the file: `wav` or `mp3`.
    pub format: String,
    /// Path of the file.
    pub path: String,
    /// Status of the recording, such as `in-progress` or `completed`.
    pub status: String,
    /// Time of the start. This time never changes, because lists are ordered by this time.
    pub started_at: Timestamp,
    /// Time of the end.
    pub ended_at: Option<Timestamp>,
    /// Duration of the audio in milliseconds.
    pub duration_ms: Option<i64>,
    /// Size of the file in octets.
    pub bytes: Option<i64>,
    /// The complete record as JSON.
    pub details: String,
}

impl RecordingRow {
    /// Returns the position of this row in the result of [`list`].
    pub fn cursor(&self) -> Cursor {
        Cursor { at: self.started_at, id: self.id }
    }
}

/// Criteria for recordings. An empty field matches every recording.
#[derive(Debug, Clone, Default)]
pub struct RecordingFilter {
    pub leg: Option<u128>,
    /// The id of the call or conference.
    pub session: Option<u128>,
    /// The calling party of the recorded leg. The comparison is exact.
    pub from: Option<String>,
    /// The called party of the recorded leg. The comparison is exact.
    pub to: Option<String>,
    /// The name of the dialect.
    pub dialect: Option<String>,
    /// The allowed statuses.
    pub status: Vec<String>,
    /// Range of `started_at`.
    pub created: TimeRange,
    /// Range of `ended_at`.
    pub ended: TimeRange,
}

/// Maximum number of calls of a party whose recordings are searched call by call. If the party has more calls, the list
/// reads the recordings of the account, and looks up the call of each recording.
const MAX_CALLS: usize = 1_000;

/// The column of the recorded leg, and its index.
const LEG: (&str, &str) = ("leg", "recordings_by_leg");

/// Submits a row to the writer. The writer adds the row, or replaces the existing row with the same id. The future
/// waits only if the writer's queue is full.
pub fn upsert(store: &Store, row: RecordingRow) -> impl Future<Output = Result<(), StoreError>> + Send {
    store.writer.submit(Write::Recording(Box::new(row)))
}

/// Returns a recording, if the recording belongs to `account`.
pub async fn get(store: &Store, account: &AccountName, id: u128) -> Result<Option<RecordingRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM recordings WHERE account = $1 AND id = $2")
        .bind(account.to_string())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns a recording of any account. Only the server may use this function, not a request of an account.
pub async fn find(store: &Store, id: u128) -> Result<Option<RecordingRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM recordings WHERE id = $1").bind(hex(id)).fetch_optional(&store.pool).await?;
    row.as_ref().map(read).transpose()
}

/// Sets the place of a recording's audio. Returns `false` if there is no such record.
pub async fn set_path(store: &Store, id: u128, path: &str) -> Result<bool, StoreError> {
    store.flush().await?;
    let done = sqlx::query("UPDATE recordings SET path = $2 WHERE id = $1")
        .bind(hex(id))
        .bind(path.to_owned())
        .execute(&store.pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Deletes the record and keeps the file. Returns `false` if `account` has no record with this id.
pub async fn delete(store: &Store, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    store.flush().await?;
    let done = sqlx::query("DELETE FROM recordings WHERE account = $1 AND id = $2")
        .bind(account.to_string())
        .bind(hex(id))
        .execute(&store.pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Returns a page of the recordings of these accounts, newest recording first.
pub async fn list(
    store: &Store,
    accounts: &[AccountName],
    filter: &RecordingFilter,
    page: &Page,
) -> Result<Vec<RecordingRow>, StoreError> {
    match conditions(store, accounts, filter).await? {
        Some(conditions) => conditions.page(store, "recordings", "started_at", page).await?.iter().map(read).collect(),
        None => Ok(Vec::new()),
    }
}

/// Returns the number of the account's recordings that match the filter.
pub async fn count(store: &Store, account: &AccountName, filter: &RecordingFilter) -> Result<u64, StoreError> {
    match conditions(store, std::slice::from_ref(account), filter).await? {
        Some(conditions) => conditions.count(store, "recordings").await,
        None => Ok(0),
    }
}

/// Returns the rows of recordings that have not ended, of all accounts. Returns at most 1000 rows, the oldest first.
/// After a crash, the server repairs the files of these recordings.
pub async fn unfinished(store: &Store, owner: &OwnedBy) -> Result<Vec<RecordingRow>, StoreError> {
    store.flush().await?;
    let owned = owner.condition("id");
    let sql = format!("SELECT * FROM recordings WHERE ended_at IS NULL AND {owned} ORDER BY started_at, id LIMIT 1000");
    sqlx::query(super::assembled(sql)).fetch_all(&store.pool).await?.iter().map(read).collect()
}

/// Writes the row. The change is part of the writer's transaction.
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
    .bind(row.account.to_string())
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

/// Returns the conditions of a list. `None` if no recording can match.
async fn conditions(
    store: &Store,
    accounts: &[AccountName],
    filter: &RecordingFilter,
) -> Result<Option<Conditions>, StoreError> {
    let mut conditions = Conditions::accounts(accounts);
    if filter.from.is_some() || filter.to.is_some() {
        let parties = CallFilter { from: filter.from.clone(), to: filter.to.clone(), ..CallFilter::default() };
        let page = Page::first(u32::try_from(MAX_CALLS).unwrap_or(u32::MAX));
        let calls = calls::list(store, accounts, &parties, &page).await?;
        match calls.len() {
            0 => return Ok(None),
            MAX_CALLS.. => {
                let parties = [("from_address", &filter.from), ("to_address", &filter.to)];
                let parties: Vec<_> =
                    parties.into_iter().filter_map(|(column, party)| Some((column, party.as_deref()?))).collect();
                conditions.in_call("recordings.leg", &parties);
            }
            _ => conditions.one_of(LEG, &calls.iter().map(|call| hex(call.id)).collect::<Vec<_>>()),
        }
    }
    Ok(Some(columns(conditions, filter)))
}

/// Adds the conditions on the columns of the recordings.
pub(super) fn columns(mut conditions: Conditions, filter: &RecordingFilter) -> Conditions {
    conditions.is(LEG, filter.leg.map(hex));
    conditions.is(("session", "recordings_by_session"), filter.session.map(hex));
    conditions.equal("dialect", filter.dialect.as_deref());
    conditions.one_of(("status", "recordings_by_status"), &filter.status);
    conditions.within("started_at", filter.created);
    conditions.within("ended_at", filter.ended);
    conditions.within("started_at", began(filter.ended));
    conditions
}

fn read(row: &AnyRow) -> Result<RecordingRow, StoreError> {
    let columns = Columns(row);
    Ok(RecordingRow {
        id: columns.id("id")?,
        account: columns.account()?,
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
