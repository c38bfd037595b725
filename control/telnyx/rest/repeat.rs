//! `command_id`: the id that an application gives to a command. If an earlier command within the last minute has the
//! same id, the server does not execute the new command. The new command gets the answer of the earlier command.
//!
//! Each node of a cluster remembers the commands that it has received. A command to a call or a conference always comes to
//! the owner, so no other node needs to know it. A command that makes something new may come to any node, and its repetition
//! to another. Such commands are in the database ([`Repeats::in_cluster`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tandem_host::hash;
use tandem_runtime::services::Services;
use tandem_store::commands::{self, CommandState};
use tandem_store::{Store, StoreFailed};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::error::ApiError;

const REMEMBERED_FOR: Duration = commands::KEPT_FOR;
/// Interval at which a node looks for the answer of another node.
const LOOK: Duration = Duration::from_millis(100);
/// Maximum time for which a node waits for the answer of another node.
const WAIT: Duration = Duration::from_secs(10);
/// Interval between two removals of old commands from the database.
const PRUNE: Duration = Duration::from_secs(60);
/// Interval between two attempts to store an answer.
const AGAIN: Duration = Duration::from_millis(500);
/// Maximum time for which the client waits until the answer is stored.
const STORED: Duration = Duration::from_secs(2);
/// Maximum number of stored answers. If there are more answers within one minute, the oldest answer is dropped. If an
/// application then repeats the command of this answer, the server executes the command again.
const MAX_ANSWERS: usize = 50_000;

/// The answers of the last minute. The key consists of the scope and the `command_id`. All clones share the answers.
#[derive(Clone, Default)]
pub(super) struct Repeats(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    answers: HashMap<[u8; 32], (Instant, Arc<OnceCell<Value>>)>,
    oldest_first: VecDeque<(Instant, [u8; 32])>,
    pruned_at: Option<Instant>,
}

/// A command that this node executes, in the database.
struct Begun {
    store: Store,
    key: String,
    epoch: i64,
}

impl Repeats {
    /// The cell for the answer of this command. For a new command, the cell is empty. The request that executes the
    /// command writes the answer into the cell. Repetitions that arrive during the execution wait for this answer. A
    /// failed command leaves the cell empty, so the next attempt executes the command.
    pub(super) fn answer(&self, scope: &str, command_id: &str, now: Instant) -> Arc<OnceCell<Value>> {
        let key = key(scope, command_id);
        let mut seen = self.0.lock();
        seen.forget(now);
        if let Some((_, answer)) = seen.answers.get(&key) {
            return answer.clone();
        }
        let answer = Arc::new(OnceCell::new());
        seen.answers.insert(key, (now, answer.clone()));
        seen.oldest_first.push_back((now, key));
        answer
    }

    /// Executes a command, unless another node of the cluster has executed it within the last minute or executes it now.
    /// Then returns the answer of this node. If the database is away, the command is not executed, because another node may
    /// have executed it. A server that is alone executes the command.
    pub(super) async fn in_cluster(
        &self,
        services: &Services,
        scope: &str,
        command_id: &str,
        execute: impl Future<Output = Result<Value, ApiError>>,
    ) -> Result<Value, ApiError> {
        let Some(epoch) = services.cluster.epoch() else { return execute.await };
        let (store, until) = (services.store.clone(), Instant::now() + WAIT);
        if self.0.lock().is_prune_due(Instant::now()) {
            commands::prune(&store).await.map_err(StoreFailed::from)?;
        }
        let key: String = key(scope, command_id).iter().map(|octet| format!("{octet:02x}")).collect();
        let begun = Begun { store, key, epoch };
        loop {
            match commands::begin(&begun.store, &begun.key, epoch).await.map_err(StoreFailed::from)? {
                CommandState::Begun => return begun.execute(execute).await,
                CommandState::Answered(answer) => return serde_json::from_str(&answer).map_err(|_| still_running()),
                CommandState::Running if Instant::now() >= until => return Err(still_running()),
                CommandState::Running => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

impl Begun {
    /// Executes the command, and stores its answer for the other nodes. A failed command is forgotten.
    async fn execute(self, execute: impl Future<Output = Result<Value, ApiError>>) -> Result<Value, ApiError> {
        // If the client goes away, the future of the request is dropped, and the next attempt executes the command.
        let mut unfinished = Unfinished(Some(self));
        let result = execute.await;
        let Some(begun) = unfinished.0.take() else { return result };
        let answer = result.as_ref().ok().map(Value::to_string);
        let stored = tokio::spawn(async move { begun.end(answer.as_deref()).await });
        // The database may be away now. The client must not wait for it.
        let _ = tokio::time::timeout(STORED, stored).await;
        result
    }

    /// Stores the answer, or forgets the command. Tries it until other nodes do not need it any more.
    async fn end(self, answer: Option<&str>) {
        let Self { store, key, epoch } = &self;
        let until = Instant::now() + REMEMBERED_FOR;
        loop {
            let ended = match answer {
                Some(answer) => commands::finish(store, key, *epoch, answer).await,
                None => commands::abandon(store, key, *epoch).await,
            };
            match ended {
                Ok(()) => return,
                Err(error) if Instant::now() >= until => {
                    return tracing::warn!(%error, "other nodes do not know the answer of a command");
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

/// A command that is forgotten when this value is dropped.
struct Unfinished(Option<Begun>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(begun) = self.0.take() {
            tokio::spawn(async move { begun.end(None).await });
        }
    }
}

/// Returns a digest of a command. It limits the size of an entry, because an application's ids may have any length.
fn key(scope: &str, command_id: &str) -> [u8; 32] {
    hash::sha256([scope.as_bytes(), &[0], command_id.as_bytes()])
}

fn still_running() -> ApiError {
    ApiError::unavailable("Another node of the cluster executes a command with this command_id: repeat the request.")
}

impl Seen {
    /// Whether the database has old commands to remove. This call counts as the removal.
    fn is_prune_due(&mut self, now: Instant) -> bool {
        let is_due = self.pruned_at.is_none_or(|at| now.saturating_duration_since(at) >= PRUNE);
        if is_due {
            self.pruned_at = Some(now);
        }
        is_due
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.oldest_first.front().copied() {
            if now.saturating_duration_since(at) < REMEMBERED_FOR && self.oldest_first.len() < MAX_ANSWERS {
                return;
            }
            self.oldest_first.pop_front();
            self.answers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any moment will do: the tests add to it")]
        std::time::Instant::now().into()
    }

    #[test]
    fn the_answer_of_a_command_id_is_kept_for_a_minute_per_call() {
        let (repeats, now) = (Repeats::default(), start());
        repeats.answer("leg 1", "a", now).set(json!(1)).unwrap();
        let again = |scope: &str, id: &str, after: u64| {
            repeats.answer(scope, id, now + Duration::from_millis(after)).get().cloned()
        };
        assert_eq!(again("leg 1", "a", 59_999), Some(json!(1)));
        assert_eq!(again("leg 2", "a", 59_999), None);
        assert_eq!(again("leg 1", "b", 59_999), None);
        assert_eq!(again("leg 1", "a", 60_000), None);
    }

    #[test]
    fn the_oldest_answer_is_dropped_at_the_limit() {
        let (repeats, now) = (Repeats::default(), start());
        for number in 0..MAX_ANSWERS + 10 {
            let _ = repeats.answer("leg", &number.to_string(), now).set(json!(number));
        }
        let seen = repeats.0.lock();
        assert_eq!((seen.answers.len(), seen.oldest_first.len()), (MAX_ANSWERS, MAX_ANSWERS));
        drop(seen);
        assert_eq!(repeats.answer("leg", &(MAX_ANSWERS + 9).to_string(), now).get(), Some(&json!(MAX_ANSWERS + 9)));
    }
}
