//! `command_id`: the id that an application gives to a command. If an earlier command within the last minute has the
//! same id, the server does not execute the new command. The new command gets the answer of the earlier command.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tandem_host::hash;
use tokio::sync::OnceCell;
use tokio::time::Instant;

const REMEMBERED_FOR: Duration = Duration::from_secs(60);
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
        // A digest limits the size of an entry, because an application's ids may have any length.
        let key = hash::sha256([scope.as_bytes(), &[0], command_id.as_bytes()]);
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
