//! The usage of accounts. The database computes the usage from the records of calls and recordings. Once a day is over,
//! its usage is added up ([`settle`]), so that a request reads only the records of the last days.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::Arguments as _;
use sqlx::any::{AnyArguments, AnyRow};
use tandem_id::AccountName;

use super::column::Columns;
use super::server::PAUSE;
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

/// Returns the usage of the calls that began within the range. The range begins and ends at midnight UTC. `accounts` has
/// at most a thousand accounts.
pub async fn calls(store: &Store, accounts: &[AccountName], range: TimeRange) -> Result<Vec<CallUsage>, StoreError> {
    let recent = format!("SELECT created_at / {DAY} AS day, {CALLS} AND {} GROUP BY 1, 2, 3", within("created_at"));
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
    rows(store, "direction <> 'recording'", &recent, accounts, range).await?.iter().map(read).collect()
}

/// Returns the usage of the recordings that began within the range. The range begins and ends at midnight UTC.
/// `accounts` has at most a thousand accounts.
pub async fn recordings(
    store: &Store,
    accounts: &[AccountName],
    range: TimeRange,
) -> Result<Vec<RecordingUsage>, StoreError> {
    let recent = format!("SELECT started_at / {DAY} AS day, {RECORDED} AND {} GROUP BY 1", within("started_at"));
    let read = |row: &AnyRow| {
        let columns = Columns(row);
        Ok(RecordingUsage {
            day: columns.integer("day")?,
            count: whole(columns.integer("entries")?),
            minutes: whole(columns.integer("minutes")?),
        })
    };
    rows(store, "direction = 'recording'", &recent, accounts, range).await?.iter().map(read).collect()
}

/// The columns and the condition for the usage of calls. The account and the time are not included.
const CALLS: &str = "direction, \
    CASE WHEN from_address LIKE 'client:%' OR to_address LIKE 'client:%' THEN 'client' \
    WHEN from_address LIKE 'sip:%' OR to_address LIKE 'sip:%' THEN 'sip' ELSE 'phone' END AS party, \
    COUNT(*) AS entries, CAST(SUM(CASE WHEN ended_at > answered_at \
    THEN (ended_at - answered_at + 59999999) / 60000000 ELSE 1 END) AS BIGINT) AS minutes \
    FROM calls WHERE answered_at IS NOT NULL AND ended_at IS NOT NULL";

/// The columns and the condition for the usage of recordings. The account and the time are not included.
const RECORDED: &str = "'recording' AS direction, '' AS party, COUNT(*) AS entries, \
    CAST(SUM((COALESCE(duration_ms, 0) + 59999) / 60000) AS BIGINT) AS minutes \
    FROM recordings WHERE status = 'completed'";

/// The condition for the time and the accounts. The placeholders $1 and $2 are the range of time.
fn within(time: &str) -> String {
    format!("{time} >= $1 AND {time} < $2 AND account IN (ACCOUNTS)")
}

/// Returns the usage of the days that are added up, and of the later days.
async fn rows(
    store: &Store,
    settled: &str,
    recent: &str,
    accounts: &[AccountName],
    range: TimeRange,
) -> Result<Vec<AnyRow>, StoreError> {
    store.flush().await?;
    let since = range.since.map_or(i64::MIN, Timestamp::as_microsecond);
    let before = range.before.map_or(i64::MAX, Timestamp::as_microsecond);
    let first = unsettled(store).await?.unwrap_or(i64::MIN / DAY);
    let settled = format!(
        "SELECT day, direction, party, CAST(SUM(entries) AS BIGINT) AS entries, \
         CAST(SUM(minutes) AS BIGINT) AS minutes FROM usage_days \
         WHERE {settled} AND day >= $1 AND day < $2 AND account IN (ACCOUNTS) GROUP BY 1, 2, 3"
    );
    let mut all = Vec::new();
    for (sql, from, until) in [
        (settled.as_str(), since.div_euclid(DAY), before.div_euclid(DAY).min(first)),
        (recent, since.max(first.saturating_mul(DAY)), before),
    ] {
        let mut arguments = AnyArguments::default();
        let marks: Vec<String> = (0..accounts.len()).map(|index| format!("${}", index + 3)).collect();
        for number in [from, until] {
            // Encoding an integer or a text cannot fail.
            let _ = arguments.add(number);
        }
        for account in accounts {
            let _ = arguments.add(account.to_string());
        }
        let sql = sql.replace("ACCOUNTS", &marks.join(", "));
        all.extend(store.reads.rows(accounts.first(), sql, arguments).await?);
    }
    Ok(all)
}

/// The key in the table `server` of the first day whose usage is not in `usage_days`.
const UNSETTLED: &str = "usage_unsettled_day";

async fn unsettled(store: &Store) -> Result<Option<i64>, StoreError> {
    let day = sqlx::query_scalar("SELECT value FROM server WHERE key = $1").bind(UNSETTLED);
    Ok(day.fetch_optional(&store.pool).await?)
}

/// Adds up the usage of the days that are over, so that a request for the usage of a month does not read its calls
/// again. A day is over if the next day is over too, and if each call and each recording of the day has ended. Returns
/// the number of these days. A call that is deleted later stays in the usage.
pub async fn settle(store: &Store, now: Timestamp) -> Result<u64, StoreError> {
    store.flush().await?;
    let accounts = accounts(store).await?;
    let today = now.as_microsecond().div_euclid(DAY);
    let mut next = match unsettled(store).await? {
        Some(day) => day,
        None => {
            let mut first = today;
            for account in &accounts {
                for sql in [
                    "SELECT MIN(created_at) FROM calls WHERE account = $1",
                    "SELECT MIN(started_at) FROM recordings WHERE account = $1",
                ] {
                    first = first.min(day_of(store, sql, Some(account)).await?.unwrap_or(today));
                }
            }
            first
        }
    };
    let mut end = today - 1;
    for sql in [
        "SELECT MIN(created_at) FROM calls WHERE ended_at IS NULL",
        "SELECT MIN(started_at) FROM recordings WHERE ended_at IS NULL",
    ] {
        end = end.min(day_of(store, sql, None).await?.unwrap_or(today));
    }
    let mut settled = 0;
    while next < end {
        settle_day(store, &accounts, next).await?;
        next += 1;
        settled += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(settled)
}

/// Returns the accounts with calls or recordings. The function reads the index once for each account.
async fn accounts(store: &Store) -> Result<BTreeSet<AccountName>, StoreError> {
    let mut accounts = BTreeSet::new();
    for sql in
        ["SELECT MIN(account) FROM calls WHERE account > $1", "SELECT MIN(account) FROM recordings WHERE account > $1"]
    {
        let mut last = String::new();
        while let Some(next) = sqlx::query_scalar::<_, Option<String>>(sql).bind(last).fetch_one(&store.pool).await? {
            accounts.insert(AccountName::new(next.as_str()));
            last = next;
        }
    }
    Ok(accounts)
}

async fn day_of(store: &Store, sql: &'static str, account: Option<&AccountName>) -> Result<Option<i64>, StoreError> {
    let mut query = sqlx::query_scalar::<_, Option<i64>>(sql);
    if let Some(account) = account {
        query = query.bind(account.to_string());
    }
    Ok(query.fetch_one(&store.pool).await?.map(|at| at.div_euclid(DAY)))
}

async fn settle_day(store: &Store, accounts: &BTreeSet<AccountName>, day: i64) -> Result<(), StoreError> {
    let (from, until) = (day.saturating_mul(DAY), (day + 1).saturating_mul(DAY));
    let mut totals = Vec::new();
    for account in accounts {
        for sql in [
            format!("SELECT {CALLS} AND account = $1 AND created_at >= $2 AND created_at < $3 GROUP BY 1, 2"),
            format!("SELECT {RECORDED} AND account = $1 AND started_at >= $2 AND started_at < $3 HAVING COUNT(*) > 0"),
        ] {
            let query = sqlx::query(assembled(sql)).bind(account.to_string()).bind(from).bind(until);
            totals.extend(query.fetch_all(&store.pool).await?.into_iter().map(|row| (account, row)));
        }
    }
    // The totals are read before the transaction, because SQLite has one writer.
    let mut transaction = store.pool.begin().await?;
    for (account, row) in &totals {
        let columns = Columns(row);
        sqlx::query(
            "INSERT INTO usage_days (account, day, direction, party, entries, minutes) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(account.to_string())
        .bind(day)
        .bind(columns.text("direction")?)
        .bind(columns.text("party")?)
        .bind(columns.integer("entries")?)
        .bind(columns.integer("minutes")?)
        .execute(&mut *transaction)
        .await?;
    }
    sqlx::query(
        "INSERT INTO server (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(UNSETTLED)
    .bind(day + 1)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

fn whole(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
