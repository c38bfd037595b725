//! Call records: one row per leg, which is what providers call a call.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::column::{Columns, hex, microseconds};
use super::insert::{Backend, Insert};
use super::select::Conditions;
use super::writer::Write;
use super::{Cursor, Page, Store, StoreError, TimeRange};

/// A leg's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    /// The leg's id.
    pub id: u128,
    /// The call (B2BUA session) that it belongs to.
    pub session: u128,
    /// The leg that made this one.
    pub parent: Option<u128>,
    /// The owner's name in the configuration.
    pub account: String,
    /// Which dialect spells its id.
    pub dialect: String,
    /// The dialect's word for who called whom.
    pub direction: String,
    /// The caller: E.164, SIP URI or client name.
    pub from: String,
    /// The callee, in the same forms.
    pub to: String,
    /// The dialect's word.
    pub status: String,
    /// When the leg came to be; lists are ordered by it, so it never changes.
    pub created_at: Timestamp,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When this row last changed.
    pub updated_at: Timestamp,
    /// The final SIP status, 200 to 699.
    pub sip_status: Option<i64>,
    /// Why it ended.
    pub cause: Option<String>,
    /// Opaque JSON of the dialect.
    pub details: String,
}

/// A row that is made only when it is stored, with those of other calls: of the states a leg passes through, most are not.
pub struct LateRow {
    /// The leg's id.
    pub id: u128,
    row: Box<dyn Fn() -> CallRow + Send + Sync>,
}

impl LateRow {
    /// `row` makes the same one whenever it is asked, of the leg with this id.
    pub fn of(id: u128, row: impl Fn() -> CallRow + Send + Sync + 'static) -> Self {
        Self { id, row: Box::new(row) }
    }

    /// It.
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
    /// Its place in [`list`].
    pub fn cursor(&self) -> Cursor {
        Cursor { at: self.created_at, id: self.id }
    }
}

/// Which calls; what is empty does not restrict.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// Exactly this callee.
    pub to: Option<String>,
    /// Exactly this caller.
    pub from: Option<String>,
    /// Made by this leg.
    pub parent: Option<u128>,
    /// Of this session.
    pub session: Option<u128>,
    /// One of these.
    pub status: Vec<String>,
    /// Of this dialect.
    pub dialect: Option<String>,
    /// In this direction.
    pub direction: Option<String>,
    /// By `created_at`.
    pub created: TimeRange,
    /// By `answered_at`; a leg never answered is in no range.
    pub answered: TimeRange,
    /// By `ended_at`; a live leg is in no range.
    pub ended: TimeRange,
}

/// Submits the row: adds it, or brings the one with its id up to date. Whose the leg is, who calls whom and when it came
/// to be stay as they were first written. Waits only when the writer's queue is full.
pub fn upsert(store: &Store, row: impl Into<LateRow>) -> impl Future<Output = Result<(), StoreError>> + Send {
    store.writer.submit(Write::Call(row.into()))
}

/// Submits what the row says in its details; if it is there no more, it does not come back. Dropped when the writer's queue
/// is full.
pub fn update(store: &Store, row: LateRow) {
    store.writer.try_submit(Write::CallDetails(row));
}

/// The leg's record, when `account` owns it.
pub async fn get(store: &Store, account: &str, id: u128) -> Result<Option<CallRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM calls WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The leg's record, whoever owns it: for the server's own use.
pub async fn find(store: &Store, id: u128) -> Result<Option<CallRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM calls WHERE id = $1").bind(hex(id)).fetch_optional(&store.pool).await?;
    row.as_ref().map(read).transpose()
}

/// Up to `limit` records whose ids begin with these hex digits, whoever owns them.
pub async fn starting(store: &Store, digits: &str, limit: u32) -> Result<Vec<CallRow>, StoreError> {
    let digits: String =
        digits.chars().filter(char::is_ascii_hexdigit).take(32).collect::<String>().to_ascii_lowercase();
    store.flush().await?;
    // `g` is behind every hex digit.
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

/// Removes the record; false when `account` has none with this id.
pub async fn delete(store: &Store, account: &str, id: u128) -> Result<bool, StoreError> {
    store.flush().await?;
    let done = sqlx::query("DELETE FROM calls WHERE account = $1 AND id = $2")
        .bind(account.to_owned())
        .bind(hex(id))
        .execute(&store.pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// One page of the account's calls, newest first.
pub async fn list(store: &Store, account: &str, filter: &CallFilter, page: &Page) -> Result<Vec<CallRow>, StoreError> {
    conditions(account, filter).page(store, "calls", "created_at", page).await?.iter().map(read).collect()
}

/// How many of the account's calls match.
pub async fn count(store: &Store, account: &str, filter: &CallFilter) -> Result<u64, StoreError> {
    conditions(account, filter).count(store, "calls").await
}

/// Up to 1000 rows of any account that have not ended, oldest first: after a crash, what is to be closed with the truth.
pub async fn unfinished(store: &Store) -> Result<Vec<CallRow>, StoreError> {
    store.flush().await?;
    sqlx::query("SELECT * FROM calls WHERE ended_at IS NULL ORDER BY created_at, id LIMIT 1000")
        .fetch_all(&store.pool)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// A column that is set has its indexes rewritten, even to what it was: what never changes is left out.
static INSERT: Insert = Insert::new(
    "calls (id, session, parent, account, dialect, direction, from_address, to_address, status, \
     created_at, answered_at, ended_at, updated_at, sip_status, cause, details)",
    16,
    "ON CONFLICT (id) DO UPDATE SET status = excluded.status, answered_at = excluded.answered_at, \
     ended_at = excluded.ended_at, updated_at = excluded.updated_at, sip_status = excluded.sip_status, \
     cause = excluded.cause, details = excluded.details",
);

/// Stores rows of different legs within the writer's transaction.
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

/// Changes a row that is there; a record that was deleted does not come back.
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
