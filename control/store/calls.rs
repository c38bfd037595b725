//! Call records. There is one row for each leg. The providers name a leg a call.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::{AnyArguments, AnyRow};
use tandem_id::AccountName;
use tandem_id::node::NodeTag;

use super::column::{Columns, hex, microseconds};
use super::insert::{Backend, Insert};
use super::select::{Conditions, began};
use super::writer::Write;
use super::{Cursor, OwnedBy, Page, Store, StoreError, TimeRange};

/// The record of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    /// Id of the leg.
    pub id: u128,
    /// The id of the call to which the leg belongs.
    pub session: u128,
    /// The leg that dialled this leg.
    pub parent: Option<u128>,
    /// Name of the account.
    pub account: AccountName,
    /// Name of the leg's dialect.
    pub dialect: String,
    /// The direction: `inbound`, `outbound-api` or `outbound-dial`.
    pub direction: String,
    /// The calling party: an E.164 number, a SIP URI or a client name.
    pub from: String,
    /// The called party, in the same formats as `from`.
    pub to: String,
    /// Status of the leg, such as `ringing` or `completed`.
    pub status: String,
    /// Time of creation. This time never changes, because lists are ordered by this time.
    pub created_at: Timestamp,
    /// Time of the answer.
    pub answered_at: Option<Timestamp>,
    /// Time of the end.
    pub ended_at: Option<Timestamp>,
    /// Time of the last change of this row.
    pub updated_at: Timestamp,
    /// Final SIP status, from 200 to 699.
    pub sip_status: Option<i64>,
    /// Reason of the end.
    pub cause: Option<String>,
    /// The complete record as JSON.
    pub details: String,
}

/// A row that is built only when it is written. The row is written in one batch with the rows of other calls. Most
/// states of a leg are never written.
pub struct LateRow {
    /// Id of the leg.
    pub id: u128,
    row: Box<dyn Fn() -> CallRow + Send + Sync>,
}

impl LateRow {
    /// Creates a row for the leg with this id. `row` must return an equal row at every call.
    pub fn of(id: u128, row: impl Fn() -> CallRow + Send + Sync + 'static) -> Self {
        Self { id, row: Box::new(row) }
    }

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

/// The time by which a list of calls is ordered. A filter for the time of the answer or of the end, without a filter for
/// a party, a status or another call, orders the list by this time. Any other list is ordered by the time of creation.
/// So each list reads an index from its newest row on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Created,
    Answered,
    Ended,
}

impl Order {
    fn column(self) -> &'static str {
        match self {
            Order::Created => "created_at",
            Order::Answered => "answered_at",
            Order::Ended => "ended_at",
        }
    }
}

/// Criteria for calls. An empty field matches every call.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// The called party. The comparison is exact.
    pub to: Option<String>,
    /// The calling party. The comparison is exact.
    pub from: Option<String>,
    /// The parent of the legs.
    pub parent: Option<u128>,
    /// The id of the call to which the legs belong.
    pub session: Option<u128>,
    /// The allowed statuses.
    pub status: Vec<String>,
    /// Whether only legs that have not ended match.
    pub live: bool,
    /// Whether only legs that have ended match.
    pub over: bool,
    /// The node whose live legs do not match. Legs of other nodes match, live or ended.
    pub without_live_of: Option<NodeTag>,
    /// The name of the dialect.
    pub dialect: Option<String>,
    /// The direction of the legs.
    pub direction: Option<String>,
    /// Range of `created_at`.
    pub created: TimeRange,
    /// Range of `answered_at`. This range excludes legs that were not answered.
    pub answered: TimeRange,
    /// Range of `ended_at`. This range excludes live legs.
    pub ended: TimeRange,
}

impl CallFilter {
    /// Returns the column by which a list with this filter is ordered.
    pub(super) fn order_column(&self) -> &'static str {
        self.order().column()
    }

    /// Returns the position of a leg with these times in a list with this filter.
    pub fn cursor(
        &self,
        id: u128,
        created_at: Timestamp,
        answered_at: Option<Timestamp>,
        ended_at: Option<Timestamp>,
    ) -> Cursor {
        let at = match self.order() {
            Order::Created => None,
            Order::Answered => answered_at,
            Order::Ended => ended_at,
        };
        Cursor { at: at.unwrap_or(created_at), id }
    }

    fn order(&self) -> Order {
        let Self { to, from, parent, session, status, live, .. } = self;
        let has_index = to.is_some() || from.is_some() || parent.is_some() || session.is_some();
        if has_index || !status.is_empty() || *live {
            Order::Created
        } else if self.answered != TimeRange::default() {
            Order::Answered
        } else if self.ended != TimeRange::default() {
            Order::Ended
        } else {
            Order::Created
        }
    }
}

/// Submits a row to the writer. The writer adds the row, or updates the existing row with the same id. The account,
/// both parties and the time of creation keep the values of the first write. The future waits only if the writer's
/// queue is full.
pub fn upsert(store: &Store, row: impl Into<LateRow>) -> impl Future<Output = Result<(), StoreError>> + Send {
    store.writer.submit(Write::Call(row.into()))
}

/// Submits new details for an existing row. A deleted row is not created again. If the writer's queue is full, the
/// write is dropped.
pub fn update(store: &Store, row: LateRow) {
    store.writer.try_submit(Write::CallDetails(row));
}

/// Returns the record of a leg of any account. Only the server may use this function, not a request of an account.
pub async fn find(store: &Store, id: u128) -> Result<Option<CallRow>, StoreError> {
    store.flush().await?;
    let row = sqlx::query("SELECT * FROM calls WHERE id = $1").bind(hex(id)).fetch_optional(&store.pool).await?;
    row.as_ref().map(read).transpose()
}

/// Returns at most `limit` records of any account whose ids begin with these hexadecimal digits.
pub async fn starting(store: &Store, digits: &str, limit: u32) -> Result<Vec<CallRow>, StoreError> {
    let digits: String =
        digits.chars().filter(char::is_ascii_hexdigit).take(32).collect::<String>().to_ascii_lowercase();
    store.flush().await?;
    // In the sort order, `g` follows every hexadecimal digit.
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

/// Deletes the record. Returns `false` if `account` has no record with this id.
pub async fn delete(store: &Store, account: &AccountName, id: u128) -> Result<bool, StoreError> {
    store.flush().await?;
    let done = sqlx::query("DELETE FROM calls WHERE account = $1 AND id = $2")
        .bind(account.to_string())
        .bind(hex(id))
        .execute(&store.pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Returns a page of the calls of these accounts, newest call first. If the only filter is a range of `answered_at`, the
/// latest answer comes first. If it is a range of `ended_at`, the latest end comes first.
pub async fn list(
    store: &Store,
    accounts: &[AccountName],
    filter: &CallFilter,
    page: &Page,
) -> Result<Vec<CallRow>, StoreError> {
    let column = filter.order_column();
    conditions(accounts, filter).page(store, "calls", column, page).await?.iter().map(read).collect()
}

/// Number of calls that [`search`] reads: the newest calls of the account, or of the server.
pub const SEARCHED: u32 = 20_000;

/// The parts of texts for which [`search`] searches. A call matches if it has all given parts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'a> {
    /// A part of the calling party.
    pub from: Option<&'a str>,
    /// A part of the called party.
    pub to: Option<&'a str>,
    /// A part of the leg's id in hexadecimal digits, or a part of any text in the record, such as the SIP Call-ID.
    pub any: Option<&'a str>,
    /// A part of either party.
    pub party: Option<&'a str>,
    /// A part of either party, of the id, of the cause, or of any text in the record.
    pub anywhere: Option<&'a str>,
}

/// Returns a page of the calls that contain these parts, newest call first. No index helps such a search, so the
/// function reads only the newest [`SEARCHED`] calls: of the account if there is one, otherwise of the server. Without
/// accounts, the page is empty. The fields `from` and `to` of the filter have no effect.
pub async fn search(
    store: &Store,
    accounts: &[AccountName],
    filter: &CallFilter,
    parts: Parts<'_>,
    page: &Page,
) -> Result<Vec<CallRow>, StoreError> {
    let filter = CallFilter { from: None, to: None, ..filter.clone() };
    let order = filter.order_column();
    let mut conditions = match accounts {
        [] => return Ok(Vec::new()),
        [account] => {
            let oldest = Page { limit: 1, offset: u64::from(SEARCHED) - 1, ..Page::default() };
            let oldest = Conditions::account(account).page(store, "calls", "created_at", &oldest).await?;
            let since = oldest.first().map(|row| Columns(row).time("created_at")).transpose()?;
            let mut conditions = filter_conditions(Conditions::account(account).without_index(), &filter);
            conditions.within("created_at", TimeRange { since, before: None });
            conditions
        }
        _ => {
            // The id of a call begins with the time, and has an index. The id of an inbound leg is random.
            let sql = format!("SELECT session FROM calls ORDER BY session DESC LIMIT 1 OFFSET {}", SEARCHED - 1);
            let oldest = store.reads.rows(None, sql, AnyArguments::default()).await?;
            let mut conditions = filter_conditions(Conditions::accounts(accounts).without_index(), &filter);
            // The index of each account is in the order of the creation, so the condition is about this time too.
            let began = oldest.first().map(|row| Columns(row).id("session")).transpose()?.map(began_at);
            conditions.within("created_at", TimeRange { since: began, before: None });
            conditions
        }
    };
    for (columns, part) in [
        (&["from_address"][..], parts.from),
        (&["to_address"][..], parts.to),
        (&["from_address", "to_address"][..], parts.party),
        (&["id", "details"][..], parts.any),
        (&["id", "from_address", "to_address", "cause", "details"][..], parts.anywhere),
    ] {
        if let Some(part) = part {
            conditions.contains(columns, part);
        }
    }
    conditions.page(store, "calls", order, page).await?.iter().map(read).collect()
}

/// Returns the time at which the id of a call was made: its first 48 bits, in ms since 1970 UTC.
fn began_at(session: u128) -> Timestamp {
    let milliseconds = i64::try_from(session >> 80).unwrap_or_default();
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// Returns the number of the account's calls that match the filter.
pub async fn count(store: &Store, account: &AccountName, filter: &CallFilter) -> Result<u64, StoreError> {
    conditions(std::slice::from_ref(account), filter).count(store, "calls").await
}

/// Returns the rows of calls that have not ended, of all accounts. Returns at most 1000 rows, the oldest first. After a
/// crash of the owner, a server marks these calls as ended.
pub async fn unfinished(store: &Store, owner: &OwnedBy) -> Result<Vec<CallRow>, StoreError> {
    store.flush().await?;
    let owned = owner.condition("id");
    let sql = format!("SELECT * FROM calls WHERE ended_at IS NULL AND {owned} ORDER BY created_at, id LIMIT 1000");
    sqlx::query(super::assembled(sql)).fetch_all(&store.pool).await?.iter().map(read).collect()
}

/// The statement that adds or updates rows. An update does not set the columns that never change. For each column that
/// an update sets, the database writes the indexes of the column again, even if the value stays the same.
static INSERT: Insert = Insert::new(
    "calls (id, session, parent, account, dialect, direction, from_address, to_address, status, \
     created_at, answered_at, ended_at, updated_at, sip_status, cause, details)",
    16,
    "ON CONFLICT (id) DO UPDATE SET status = excluded.status, answered_at = excluded.answered_at, \
     ended_at = excluded.ended_at, updated_at = excluded.updated_at, sip_status = excluded.sip_status, \
     cause = excluded.cause, details = excluded.details",
);

/// Writes the rows of different legs. The change is part of the writer's transaction.
pub(super) async fn write(connection: &mut AnyConnection, rows: &[&LateRow]) -> Result<(), sqlx::Error> {
    for (sql, rows) in INSERT.pieces(Backend::of(connection), rows) {
        let mut query = sqlx::query(sql);
        for row in rows {
            let row = row.row();
            query = query
                .bind(hex(row.id))
                .bind(hex(row.session))
                .bind(row.parent.map(hex))
                .bind(row.account.to_string())
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

/// Updates an existing row. A deleted row is not created again.
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

pub(super) fn conditions(accounts: &[AccountName], filter: &CallFilter) -> Conditions {
    filter_conditions(Conditions::accounts(accounts), filter)
}

fn filter_conditions(mut conditions: Conditions, filter: &CallFilter) -> Conditions {
    conditions.is(("session", "calls_by_session"), filter.session.map(hex));
    conditions.is(("parent", "calls_by_parent"), filter.parent.map(hex));
    if filter.live {
        conditions.is_null(("ended_at", "calls_live"));
    }
    if filter.over {
        // An expression has no index, so the condition does not change which index the list uses. The live legs that the
        // list then skips are few.
        conditions.and("COALESCE(ended_at, 0) > 0");
    }
    if let Some(node) = filter.without_live_of {
        let other = OwnedBy::NoneOf(vec![node]).condition("id");
        conditions.and(&format!("(COALESCE(ended_at, 0) > 0 OR {other})"));
    }
    // A number of the server often receives more calls than one party makes.
    conditions.is(("from_address", "calls_by_from"), filter.from.clone());
    conditions.is(("to_address", "calls_by_to"), filter.to.clone());
    conditions.one_of(("status", "calls_by_status"), &filter.status);
    conditions.is(("direction", "calls_by_direction"), filter.direction.clone());
    conditions.equal("dialect", filter.dialect.as_deref());
    conditions.within("created_at", filter.created);
    for (column, range) in [("answered_at", filter.answered), ("ended_at", filter.ended)] {
        conditions.within(column, range);
        if filter.order() == Order::Created {
            conditions.within("created_at", began(range));
        }
    }
    conditions
}

fn read(row: &AnyRow) -> Result<CallRow, StoreError> {
    let columns = Columns(row);
    Ok(CallRow {
        id: columns.id("id")?,
        session: columns.id("session")?,
        parent: columns.optional_id("parent")?,
        account: columns.account()?,
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
