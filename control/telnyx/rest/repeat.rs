//! `command_id`: the id that an application gives to a command. If an earlier command within the last minute has the
//! same id, the server does not execute the new command. The new command gets the answer of the earlier command.
//!
//! Each node of a cluster remembers the commands that it has received. A command to a call or a conference always comes to
//! the owner, so no other node needs to know it. A command that makes something new may come to any node, and its repetition
//! to another. Such commands are also in the database ([`in_cluster`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tandem_host::hash;
use tandem_operations::commands;
use tandem_runtime::services::Services;
use tandem_store::commands::KEPT_FOR;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::error::ApiError;

const REMEMBERED_FOR: Duration = KEPT_FOR;
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
}

/// Executes a command that any node of a cluster may receive, unless another node has executed it within the last minute.
/// Then returns the answer of that node.
pub(super) async fn in_cluster(
    services: &Services,
    scope: &str,
    command_id: &str,
    execute: impl Future<Output = Result<Value, ApiError>>,
) -> Result<Value, ApiError> {
    let key = key(scope, command_id).iter().map(|octet| format!("{octet:02x}")).collect();
    let execute = async { execute.await.map(|answer| answer.to_string()) };
    let answer = commands::once_in_cluster(services, key, execute).await?;
    let still_running = "Another node of the cluster executes a command with this command_id: repeat the request.";
    answer.and_then(|answer| serde_json::from_str(&answer).ok()).ok_or_else(|| ApiError::unavailable(still_running))
}

/// Returns a digest of a command. It limits the size of an entry, because an application's ids may have any length.
fn key(scope: &str, command_id: &str) -> [u8; 32] {
    hash::sha256([scope.as_bytes(), &[0], command_id.as_bytes()])
}

impl Seen {
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
