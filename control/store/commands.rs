//! The commands with an id of the application that any node of a cluster may receive. One node executes a command; the
//! others wait for its answer. Only PostgreSQL has several nodes.
//!
//! ```text
//!   begin ──► Begun ── finish ──► answered ──(KEPT_FOR)──► forgotten
//!               └───── abandon ─► forgotten: the next attempt executes the command
//! ```

use std::time::Duration;

use super::column::Columns;
use super::nodes::NOW;
use super::{Store, StoreError};

/// Time for which the answer of a command is kept, from the start of the command.
pub const KEPT_FOR: Duration = Duration::from_secs(60);

/// Time after which a command is removed in any case. An answer is missing if the database was away when it came.
const REMOVED_AFTER: Duration = Duration::from_secs(600);

/// The state of a command for the node that has received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandState {
    /// This node executes the command now. It must call [`finish`] or [`abandon`].
    Begun,
    /// Another request with the same key is being executed.
    Running,
    /// The answer of the earlier command.
    Answered(String),
}

/// Begins the command with this key, unless it was begun within [`KEPT_FOR`]. A command whose node has died without an
/// answer begins again: this node has ended, and so have its calls.
pub async fn begin(store: &Store, key: &str, epoch: i64) -> Result<CommandState, StoreError> {
    let kept_for = KEPT_FOR.as_micros();
    let sql = format!(
        "INSERT INTO commands (key, epoch, at) VALUES ($1, $2, {NOW}) ON CONFLICT (key) DO UPDATE SET \
         epoch = EXCLUDED.epoch, at = EXCLUDED.at, answer = NULL \
         WHERE commands.answer IS NOT NULL AND commands.at < EXCLUDED.at - {kept_for} OR commands.answer IS NULL AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.epoch = commands.epoch \
         AND nodes.state IN ('alive', 'draining'))"
    );
    let done = sqlx::query(super::assembled(sql)).bind(key.to_owned()).bind(epoch).execute(&store.pool).await?;
    if done.rows_affected() > 0 {
        return Ok(CommandState::Begun);
    }
    let row = sqlx::query("SELECT answer FROM commands WHERE key = $1").bind(key.to_owned());
    let row = row.fetch_optional(&store.pool).await?;
    let answer = row.map(|row| Columns(&row).optional_text("answer")).transpose()?.flatten();
    // A command that was abandoned since then counts as running. The next attempt begins it.
    Ok(answer.map_or(CommandState::Running, CommandState::Answered))
}

/// Stores the answer of a command that this node has begun.
pub async fn finish(store: &Store, key: &str, epoch: i64, answer: &str) -> Result<(), StoreError> {
    let sql = "UPDATE commands SET answer = $3 WHERE key = $1 AND epoch = $2";
    let query = sqlx::query(sql).bind(key.to_owned()).bind(epoch).bind(answer.to_owned());
    query.execute(&store.pool).await?;
    Ok(())
}

/// Forgets a command that this node has begun, because it had no effect.
pub async fn abandon(store: &Store, key: &str, epoch: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM commands WHERE key = $1 AND epoch = $2 AND answer IS NULL";
    sqlx::query(sql).bind(key.to_owned()).bind(epoch).execute(&store.pool).await?;
    Ok(())
}

/// Removes old commands.
pub async fn prune(store: &Store) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM commands WHERE at < {NOW} - {}", REMOVED_AFTER.as_micros());
    sqlx::query(super::assembled(sql)).execute(&store.pool).await?;
    Ok(())
}
