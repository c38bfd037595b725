//! The usage of accounts. The database computes the usage from the records of calls and recordings.

use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::column::Columns;
use super::{Store, StoreError, TimeRange, assembled};

/// Length of a UTC day in microseconds.
const DAY: i64 = 86_400_000_000;

/// The usage of answered and ended legs for one day, one direction and one kind of party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallUsage {
    /// Day on which the legs began, as a number of UTC days since 1970-01-01.
    pub day: i64,
    /// Direction of the legs, as in the records of calls.
    pub direction: String,
    /// Kind of the party: `client`, `sip` or `phone`.
    pub party: String,
    /// Number of legs.
    pub count: u64,
    /// Total number of minutes. Each leg counts as full minutes: its duration is rounded up, and is at least one
    /// minute.
    pub minutes: u64,
}

/// The usage of completed recordings for one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingUsage {
    /// Day on which the recordings began, as a number of UTC days since 1970-01-01.
    pub day: i64,
    /// Number of recordings.
    pub count: u64,
    /// Total number of minutes. The duration of each recording is rounded up to full minutes.
    pub minutes: u64,
}

/// Returns the usage of the calls that began within the range. `accounts` has at most a thousand accounts.
pub async fn calls(store: &Store, accounts: &[String], range: TimeRange) -> Result<Vec<CallUsage>, StoreError> {
    let sql = format!(
        "SELECT created_at / {DAY} AS day, direction, \
         CASE WHEN from_address LIKE 'client:%' OR to_address LIKE 'client:%' THEN 'client' \
         WHEN from_address LIKE 'sip:%' OR to_address LIKE 'sip:%' THEN 'sip' ELSE 'phone' END AS party, \
         COUNT(*) AS entries, CAST(SUM(CASE WHEN ended_at > answered_at THEN (ended_at - answered_at + 59999999) / 60000000 ELSE 1 END) \
         AS BIGINT) AS minutes \
         FROM calls WHERE answered_at IS NOT NULL AND ended_at IS NOT NULL AND {} GROUP BY 1, 2, 3",
        condition("created_at", accounts)
    );
    let read = |row: &AnyRow| {
        let columns = Columns(row);
        Ok(CallUsage {
            day: columns.integer("day")?,
            direction: columns.text("direction")?,
            party: columns.text("party")?,
            count: whole(columns.integer("entries")?),
            minutes: whole(columns.integer("minutes")?),
        })
    };
    rows(store, assembled(sql), accounts, range).await?.iter().map(read).collect()
}

/// Returns the usage of the recordings that began within the range. `accounts` has at most a thousand accounts.
pub async fn recordings(
    store: &Store,
    accounts: &[String],
    range: TimeRange,
) -> Result<Vec<RecordingUsage>, StoreError> {
    let sql = format!(
        "SELECT started_at / {DAY} AS day, COUNT(*) AS entries, \
         CAST(SUM((COALESCE(duration_ms, 0) + 59999) / 60000) AS BIGINT) AS minutes \
         FROM recordings WHERE status = 'completed' AND {} GROUP BY 1",
        condition("started_at", accounts)
    );
    let read = |row: &AnyRow| {
        let columns = Columns(row);
        Ok(RecordingUsage {
            day: columns.integer("day")?,
            count: whole(columns.integer("entries")?),
            minutes: whole(columns.integer("minutes")?),
        })
    };
    rows(store, assembled(sql), accounts, range).await?.iter().map(read).collect()
}

async fn rows(
    store: &Store,
    sql: AssertSqlSafe<String>,
    accounts: &[String],
    range: TimeRange,
) -> Result<Vec<AnyRow>, StoreError> {
    store.flush().await?;
    let from = range.since.map_or(i64::MIN, jiff::Timestamp::as_microsecond);
    let until = range.before.map_or(i64::MAX, jiff::Timestamp::as_microsecond);
    let mut query = sqlx::query(sql).bind(from).bind(until);
    for account in accounts {
        query = query.bind(account.clone());
    }
    Ok(query.fetch_all(&store.pool).await?)
}

/// Returns the SQL condition for the time and the accounts. The placeholders $1 and $2 are the range of time. The
/// placeholders after $2 are the accounts.
fn condition(time: &str, accounts: &[String]) -> String {
    let marks: Vec<String> = (0..accounts.len().max(1)).map(|index| format!("${}", index + 3)).collect();
    format!("{time} >= $1 AND {time} < $2 AND account IN ({})", marks.join(", "))
}

fn whole(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
