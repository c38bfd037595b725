//! Call records: one row for each leg. Providers call a leg a call.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::insert::{Backend, Insert};
use super::select::Conditions;
use super::writer::Write;
use super::{Cursor, Page, Store, StoreError, TimeRange};

/// The record of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    /// Id of the leg.
    pub id: u128,
    /// The call (B2BUA session) of the leg.
    pub session: u128,
    /// The leg that dialed this one.
    pub parent: Option<u128>,
    /// Name of the account.
    pub account: String,
    /// Name of the dialect that reports the leg.
    pub dialect: String,
    /// `inbound`, `outbound-api` or `outbound-dial`.
    pub direction: String,
    /// The calling party: E.164 number, SIP URI or client name.
    pub from: String,
    /// The called party, in the same formats.
    pub to: String,
    /// Status of the leg, such as `ringing` or `completed`.
    pub status: String,
    /// Time of creation. Lists are ordered by it, so it never changes.
    pub created_at: Timestamp,
    /// Time of the answer.
    pub answered_at: Option<Timestamp>,
    /// Time of the end.
    pub ended_at: Option<Timestamp>,
    /// Time of the last change of this row.
    pub updated_at: Timestamp,
    /// Final SIP status, 200 to 699.
    pub sip_status: Option<i64>,
    /// Reason of the end.
    pub cause: Option<String>,
    /// The complete record as JSON.
    pub details: String,
}

/// A row that is built only when it is written, in one batch with those of other calls. Most states that a leg passes
/// through are never written.
pub struct LateRow {
    /// Id of the leg.
    pub id: u128,
    row: Box<dyn Fn() -> CallRow + Send + Sync>,
}

impl LateRow {
    /// Creates a row for the leg with this id. `row` must return the same row at every call.
    pub fn of(id: u128, row: impl Fn() -> CallRow + Send + Sync + 'static) -> Self {
        Self { id, row: Box::new(row) }
    }

    /// Returns the row.
    pub fn row(&self) -> CallRow {
        (self.row)()
    }
}

impl From<CallRow> for LateRow {
    fn from(row: CallRow) -> Self {
        Self::of(row.id, move || row.clone())
    }
}

impl std::fmt::Debug for LateRow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.row().fmt(formatter)
    }
}

impl CallRow {
    /// Returns the row's position in [`list`].
    pub fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id }
    }
}

/// Criteria for calls; empty fields match everything.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// The called party, compared exactly.
    pub to: Option<String>,
    /// The calling party, compared exactly.
    pub from: Option<String>,
    /// The leg that dialed the wanted legs.
    pub parent: Option<u128>,
    /// The session.
    pub session: Option<u128>,
    /// Allowed statuses.
    pub status: Vec<String>,
    /// The dialect.
    pub dialect: Option<String>,
    /// The direction.
    pub direction: Option<String>,
    /// Range of `created_at`.
    pub created: TimeRange,
    /// Range of `answered_at`; it excludes legs that were not answered.
    pub answered: TimeRange,
    /// Range of `ended_at`; it excludes live legs.
    pub ended: TimeRange,
}

/// Submits the row: adds it, or updates the row with its id. The account, both parties and the time of creation keep
/// the values of the first write. Waits only when the writer's queue is full.
pub fn upsert(store: &Store, row: impl Into<LateRow>) -> impl Future<Output = Result<(), StoreError>> + Send {
    store.writer.submit(Write::Call(row.into()))
}

/// Submits new details for an existing row. A deleted row is not created again. Dropped when the writer's queue is
/// full.
pub fn update(store: &Store, row: LateRow) {
    store.writer.try_submit(Write::CallDetails(row));
}

/// Returns a leg's record, if it belongs to `account`.
pub async fn get(store: &Store, account: &str, id: u128) -> Result<Option<CallRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM calls WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Returns a leg's record of any account, for the server's own use.
pub async fn find(store: &Store, id: u128) -> Result<Option<CallRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM calls WHERE id = $1").bind(hex(id)).fetch_optional(&store.pool).await?;
    row.as_ref().map(read).transpose()
}

/// Returns up to `limit` records of any account whose ids begin with these hexadecimal digits.
pub async fn starting(store: &Store, digits: &str, limit: u32) -> Result<Vec<CallRow>, StoreError> {
    let digits: String =
        digits.chars().filter(char::is_ascii_hexdigit).take(32).collect::<String>().to_ascii_lowercase();
    store.flush().await?;
    // `g` sorts after every hexadecimal digit.
    sqlx::query("SELECT * FROM calls WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3")
        .bind(digits.clone())
        .bind(digits + "g")
        .bind(i64::from(limit))
        .fetch_all(&store.pool)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Deletes the record. Returns `false` if `account` has none with this id.
pub async fn delete(store: &Store, account: &str, id: u128) -> Result<bool, StoreError> {
    store.flush().await?;
    let done = sqlx::query("DELETE FROM calls WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .execute(&store.pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Returns a page of the account's calls, newest first.
pub async fn list(store: &Store, account: &str, filter: &CallFilter, page: &Page) -> Result<Vec<CallRow>, StoreError> {
    conditions(account, filter).page(store, "calls", "created_at", page).await?.iter().map(read).collect()
}

/// Counts the account's calls that match.
pub async fn count(store: &Store, account: &str, filter: &CallFilter) -> Result<u64, StoreError> {
    conditions(account, filter).count(store, "calls").await
}

/// Returns up to 1000 rows of any account that have not ended, oldest first. After a crash, these must be ended.
pub async fn unfinished(store: &Store) -> Result<Vec<CallRow>, StoreError> {
    store.flush().await?;
    sqlx::query("SELECT * FROM calls WHERE ended_at IS NULL ORDER BY created_at, id LIMIT 1000")
        .fetch_all(&store.pool)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Setting a column rewrites its indexes even if the value is the same; therefore columns that never change are not
/// updated.
static INSERT: Insert = Insert::new(
    "calls (id, session, parent, account, dialect, direction, from_address, to_address, status, \
     created_at, answered_at, ended_at, updated_at, sip_status, cause, details)",
    16,
    "ON CONFLICT (id) DO UPDATE SET status = excluded.status, answered_at = excluded.answered_at, \
     ended_at = excluded.ended_at, updated_at = excluded.updated_at, sip_status = excluded.sip_status, \
     cause = excluded.cause, details = excluded.details",
);

/// Writes rows of different legs, within the writer's transaction.
pub(super) async fn write(connection: &mut AnyConnection, rows: &[&LateRow]) -> Result<(), sqlx::Error> {
    for (sql, rows) in INSERT.pieces(Backend::of(connection), rows) {
        let mut query = sqlx::query(sql);
        for row in rows {
            let row = row.row();
            query = query
                .bind(hex(row.id))
                .bind(hex(row.session))
                .bind(row.parent.map(hex))
                .bind(row.account)
                .bind(row.dialect)
                .bind(row.direction)
                .bind(row.from)
                .bind(row.to)
                .bind(row.status)
                .bind(microseconds(row.created_at))
                .bind(row.answered_at.map(microseconds))
                .bind(row.ended_at.map(microseconds))
                .bind(microseconds(row.updated_at))
                .bind(row.sip_status)
                .bind(row.cause)
                .bind(row.details);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Updates an existing row; a deleted row is not created again.
pub(super) async fn write_details(connection: &mut AnyConnection, row: &LateRow) -> Result<(), sqlx::Error> {
    let row = row.row();
    sqlx::query("UPDATE calls SET details = $2, updated_at = $3 WHERE id = $1")
        .bind(hex(row.id))
        .bind(row.details)
        .bind(microseconds(row.updated_at))
        .execute(connection)
        .await?;
    Ok(())
}

fn conditions(account: &str, filter: &CallFilter) -> Conditions {
    let mut conditions = Conditions::account(account);
    conditions.equal("to_address", filter.to.as_deref());
    conditions.equal("from_address", filter.from.as_deref());
    conditions.equal_id("parent", filter.parent);
    conditions.equal_id("session", filter.session);
    conditions.one_of("status", &filter.status);
    conditions.equal("dialect", filter.dialect.as_deref());
    conditions.equal("direction", filter.direction.as_deref());
    conditions.within("created_at", filter.created);
    conditions.within("answered_at", filter.answered);
    conditions.within("ended_at", filter.ended);
    conditions
}

fn read(row: &AnyRow) -> Result<CallRow, StoreError> {
    let columns = Columns(row);
    Ok(CallRow {
        id: columns.id("id")?,
        session: columns.id("session")?,
        parent: columns.optional_id("parent")?,
        account: columns.text("account")?,
        dialect: columns.text("dialect")?,
        direction: columns.text("direction")?,
        from: columns.text("from_address")?,
        to: columns.text("to_address")?,
        status: columns.text("status")?,
        created_at: columns.time("created_at")?,
        answered_at: columns.optional_time("answered_at")?,
        ended_at: columns.optional_time("ended_at")?,
        updated_at: columns.time("updated_at")?,
        sip_status: columns.optional_integer("sip_status")?,
        cause: columns.optional_text("cause")?,
        details: columns.text("details")?,
    })
}
