//! Facts about the server process itself, and its housekeeping.

use jiff::Timestamp;

use super::column::microseconds;
use super::{Store, StoreError};

/// Notes that the server is alive at `now`. After a crash it tells when the calls that were live must have ended.
pub async fn heartbeat(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO server (key, value) VALUES ('alive_at', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(microseconds(now))
    .execute(&store.pool)
    .await?;
    Ok(())
}

/// The last [`heartbeat`], of this process or the one before; `None` on a new database.
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

/// Removes event lines and finished deliveries older than `before`, and says how many; calls and recordings stay, for
/// they are the user's to delete.
pub async fn prune(store: &Store, before: Timestamp) -> Result<u64, StoreError> {
    store.flush().await?;
    let mut removed = 0;
    for statement in ["DELETE FROM events WHERE at < $1", "DELETE FROM deliveries WHERE done_at < $1"] {
        removed += sqlx::query(statement).bind(microseconds(before)).execute(&store.pool).await?.rows_affected();
    }
    Ok(removed)
}
