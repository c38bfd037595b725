//! The heartbeat of the server process, and the pruning of old rows.

use std::io;
use std::time::Duration;

use jiff::Timestamp;

use super::column::microseconds;
use super::health::Check;
use super::{Store, StoreError};

/// Number of rows that [`prune`] deletes in one statement. A pause follows each statement, because SQLite allows no
/// other writer while a statement runs.
const PIECE: i64 = 1_000;
pub(super) const PAUSE: Duration = Duration::from_millis(50);

const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);

/// Stores that the server is alive at `now`. Reports two results in [`Store::health`]: whether the database accepted
/// the write, and whether the database file is still the file that the server opened. After a crash, the last heartbeat
/// is the latest time at which calls are known to have been live.
pub async fn heartbeat(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let beaten = tokio::time::timeout(HEARTBEAT_TIMEOUT, beat(store, now)).await;
    let beaten = beaten.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", HEARTBEAT_TIMEOUT.as_secs());
        Err(StoreError::Unavailable(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))))
    });
    let there = store.file.as_ref().map_or(Ok(()), |file| file.check());
    let outcome = match &beaten {
        Ok(()) => there,
        Err(error) => there.and_then(|()| Err(error.to_string())),
    };
    store.health.note(Check::Heartbeat, outcome);
    beaten
}

async fn beat(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO server (key, value) VALUES ('alive_at', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(microseconds(now))
    .execute(&store.vital)
    .await?;
    Ok(())
}

/// Removes the heartbeat of a server that was alone, because the nodes of a cluster renew their leases instead.
pub async fn forget_heartbeat(store: &Store) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM server WHERE key = 'alive_at'").execute(&store.pool).await?;
    Ok(())
}

/// Returns the time of the last [`heartbeat`] of this process or an earlier process. Returns `None` for a new database.
pub async fn last_alive(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    let value: Option<i64> =
        sqlx::query_scalar("SELECT value FROM server WHERE key = 'alive_at'").fetch_optional(&store.pool).await?;
    value
        .map(|value| {
            Timestamp::from_microsecond(value)
                .map_err(|_| StoreError::Corrupt { column: "value", value: value.to_string() })
        })
        .transpose()
}

/// Deletes event lines, notifications, reports, and finished webhook deliveries that are older than `before`. Returns
/// the number of deleted rows. The function keeps call records and recordings, because users delete them. It also keeps
/// deliveries that are not yet sent. Each statement finds its rows with an index, and does not read the rows that stay.
pub async fn prune(store: &Store, before: Timestamp) -> Result<u64, StoreError> {
    store.flush().await?;
    let mut removed = 0;
    for statement in PRUNINGS {
        loop {
            let done = sqlx::query(statement).bind(microseconds(before)).bind(PIECE).execute(&store.pool).await?;
            removed += done.rows_affected();
            if done.rows_affected() < PIECE as u64 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    shrink(store).await?;
    Ok(removed)
}

/// The statements of [`prune`]. The arguments are the time and the maximum number of rows.
pub(super) const PRUNINGS: [&str; 5] = [
    "DELETE FROM events WHERE (session, seq) IN (SELECT session, seq FROM events WHERE at < $1 LIMIT $2)",
    "DELETE FROM resources WHERE id IN (SELECT id FROM resources WHERE kind = 'trouble' AND created_at < $1 LIMIT $2)",
    "DELETE FROM resources WHERE id IN (SELECT id FROM resources WHERE kind = 'report' AND created_at < $1 LIMIT $2)",
    "DELETE FROM resources WHERE id IN (SELECT id FROM resources WHERE kind = 'change' AND created_at < $1 LIMIT $2)",
    "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE done_at < $1 LIMIT $2)",
];

/// Returns free pages of the SQLite file to the file system, if more than a quarter of the file is free. A smaller part
/// stays, because new rows need the pages. A file that an older version of this server created keeps its size
/// (docs/operating.md).
async fn shrink(store: &Store) -> Result<(), StoreError> {
    if store.file.is_none() {
        return Ok(());
    }
    let number = |pragma: &'static str| sqlx::query_scalar::<_, i64>(pragma).fetch_one(&store.pool);
    // The value 2 means INCREMENTAL.
    if number("PRAGMA auto_vacuum").await? != 2 {
        return Ok(());
    }
    let mut free = number("PRAGMA freelist_count").await?;
    while free > number("PRAGMA page_count").await? / 4 {
        sqlx::query("PRAGMA incremental_vacuum(1000)").execute(&store.pool).await?;
        let before = std::mem::replace(&mut free, number("PRAGMA freelist_count").await?);
        if free >= before {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
