//! Followed lists. The response has one line of JSON for each row (NDJSON). For each row that is new or has changed
//! later, the response gets a further line.
//!
//! The server reads the list twice a second, so followers cause no work in calls. A list in the database is read only
//! after a write to the database. There are two limits. First, the server serves at most [`FOLLOWERS`] followers of all
//! accounts at the same time, and at most [`FOLLOWERS_OF_ACCOUNT`] of one account and its subaccounts. Operators have
//! [`FOLLOWERS_OF_OPERATORS`] places of their own. Further followers receive 503 with `Retry-After`. Second, at most
//! [`WAITING`] lines wait for a slow client. If a client accepts no line within [`SEND_TIMEOUT`], the server sends
//! a last line with the reason and disconnects the client.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tandem_runtime::app::App;
use tokio::sync::mpsc;

use super::{QueryError, Scope};

/// Time between two reads of the list.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Number of consecutive reads without a change after which the server sends an empty line. The empty line shows that
/// the connection is alive.
const KEEPALIVE_ROUNDS: u32 = 30;
/// Maximum number of concurrent followers of accounts that are not operators.
const FOLLOWERS: usize = 32;
/// Maximum number of concurrent followers of one account, together with its subaccounts.
const FOLLOWERS_OF_ACCOUNT: usize = 8;
/// Maximum number of concurrent followers of all operators together.
const FOLLOWERS_OF_OPERATORS: usize = 32;
/// The time, in seconds, after which a refused client may try again.
const RETRY_AFTER: &str = "5";
/// Maximum number of lines that wait for a slow client.
const WAITING: usize = 1_024;
/// Maximum time for which a new line waits for space in the queue.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of followers of each account. Operators share one entry.
static FOLLOWED: Places = Places(Mutex::new(BTreeMap::new()));

struct Places(Mutex<BTreeMap<Option<Arc<str>>, usize>>);

/// The place of one follower. Dropping this value frees the place.
struct Place(&'static Places, Option<Arc<str>>);

impl Places {
    /// Takes a place. `account` is `None` for an operator. Returns `None` if there is no place.
    fn take(&'static self, account: Option<Arc<str>>) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&account).copied().unwrap_or_default();
        let others: usize = taken.iter().filter(|(name, _)| name.is_some()).map(|(_, count)| count).sum();
        let is_full = match &account {
            Some(_) => own >= FOLLOWERS_OF_ACCOUNT || others >= FOLLOWERS,
            None => own >= FOLLOWERS_OF_OPERATORS,
        };
        if is_full {
            return None;
        }
        taken.insert(account.clone(), own + 1);
        Some(Place(self, account))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.1)),
        }
    }
}

/// Follows the list that `list` returns, newest row first. `scope` is the client's scope. `name` returns the key of a row.
/// `kind` is the member name in each line, for example `call` in `{"call": {...}}`. `version` returns a number that
/// changes before the list changes. If `version` returns `None`, the list is read in any case.
pub(super) fn rows<T, F>(
    app: App,
    scope: &Scope,
    kind: &'static str,
    version: impl Fn(&App) -> Option<u64> + Send + 'static,
    name: impl Fn(&T) -> String + Send + 'static,
    list: impl Fn(App) -> F + Send + 'static,
) -> Response
where
    T: Serialize + Send,
    F: Future<Output = Result<Vec<T>, QueryError>> + Send,
{
    // An account and its subaccounts share their places, because an account can create many subaccounts.
    let own = &scope.account.name;
    let shared_by = || app.accounts.parent(own).unwrap_or_else(|| Arc::clone(own));
    let account = (!scope.is_operator()).then(shared_by);
    let Some(place) = FOLLOWED.take(account) else {
        let says = "too many lists are followed already\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], says).into_response();
    };
    let (lines, mut waiting) = mpsc::channel::<String>(WAITING);
    let too_slow = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&too_slow);
    tokio::spawn(async move {
        let _place = place;
        let mut known = HashMap::new();
        let mut quiet = 0;
        let mut read = None;
        let end = loop {
            // When the server stops, the followers still receive the last changes.
            let last = !app.calls.accepts();
            let before = std::mem::replace(&mut read, version(&app));
            let changed = match read.is_some() && read == before {
                true => Vec::new(),
                false => match list(app.clone()).await {
                    Ok(rows) => changed(&mut known, kind, &rows, &name),
                    Err(wrong) => break note(&wrong.to_string()),
                },
            };
            quiet = if changed.is_empty() { quiet + 1 } else { 0 };
            let alive = (quiet > 0 && quiet % KEEPALIVE_ROUNDS == 0).then(|| "\n".to_owned());
            for line in changed.into_iter().chain(alive) {
                match tokio::time::timeout(SEND_TIMEOUT, lines.send(line)).await {
                    Ok(Ok(())) => {}
                    // The client has disconnected.
                    Ok(Err(_)) => return,
                    Err(_) => return slow.store(true, Ordering::Relaxed),
                }
            }
            if last {
                break note("the server is stopping");
            }
            tokio::select! {
                () = lines.closed() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        };
        // This is the last line. The client may have disconnected, so an error is ignored.
        let _ = lines.try_send(end);
    });
    let stream = futures_util::stream::poll_fn(move |context| {
        waiting.poll_recv(context).map(|line| {
            let last = || {
                too_slow.swap(false, Ordering::Relaxed).then(|| note("the client reads too slowly: lines were dropped"))
            };
            line.or_else(last).map(|line| Ok::<_, Infallible>(Bytes::from(line)))
        })
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}

/// The version of the lists in the database: the number of writes.
pub(super) fn writes(app: &App) -> Option<u64> {
    Some(app.calls.services().store.writer().submitted())
}

/// The version of the lists that are in memory. They are always read.
pub(super) fn unknown(_app: &App) -> Option<u64> {
    None
}

/// Returns the lines of new and changed rows, oldest row first.
fn changed<T: Serialize>(
    known: &mut HashMap<String, u64>,
    kind: &'static str,
    rows: &[T],
    name: impl Fn(&T) -> String,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut now = HashMap::with_capacity(rows.len());
    for row in rows.iter().rev() {
        let name = name(row);
        let text = serde_json::to_string(row).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        without_clock(row).hash(&mut hasher);
        let mark = hasher.finish();
        if known.get(&name) != Some(&mark) {
            lines.push(format!("{{\"{kind}\":{text}}}\n"));
        }
        now.insert(name, mark);
    }
    // The new map contains only rows that are in the list, so the map stays as small as the list.
    *known = now;
    lines
}

/// Returns a row without the seconds of a live call, because this field changes by itself.
fn without_clock(row: &impl Serialize) -> String {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("seconds");
    }
    value.to_string()
}

fn note(text: &str) -> String {
    format!("{}\n", serde_json::json!({ "note": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_followers_is_limited_per_account_and_in_total_and_separately_for_operators() {
        static PLACES: Places = Places(Mutex::new(BTreeMap::new()));
        let take = |name: &str, count: usize| -> Vec<Place> {
            let account = || (!name.is_empty()).then(|| Arc::from(name));
            std::iter::repeat_with(|| PLACES.take(account())).take(count).flatten().collect()
        };
        let greedy = take("greedy", 40);
        assert_eq!(greedy.len(), FOLLOWERS_OF_ACCOUNT);
        let others: Vec<_> = ["a", "b", "c", "d"].map(|name| take(name, 40)).into_iter().flatten().collect();
        assert_eq!(greedy.len() + others.len(), FOLLOWERS);
        assert_eq!(take("", 40).len(), FOLLOWERS_OF_OPERATORS);
        drop(greedy);
        assert_eq!(take("late", 40).len(), FOLLOWERS_OF_ACCOUNT);
        drop(others);
        assert!(PLACES.0.lock().unwrap().is_empty());
    }

    #[test]
    fn only_new_and_changed_rows_are_sent_and_elapsed_seconds_are_no_change() {
        let mut known = HashMap::new();
        let mut told = |rows: &[serde_json::Value]| {
            changed(&mut known, "call", rows, |row| row["id"].as_str().unwrap_or_default().to_owned())
        };
        let row = |id: &str, status: &str, seconds: f64| serde_json::json!({ "id": id, "status": status, "seconds": seconds });
        let first = told(&[row("b", "ringing", 0.0), row("a", "live", 1.0)]);
        assert_eq!(first.len(), 2);
        assert!(first[0].starts_with("{\"call\":{\"id\":\"a\"") && first[0].ends_with("}\n"), "the oldest comes first");
        assert!(told(&[row("b", "ringing", 0.0), row("a", "live", 1.5)]).is_empty());
        let second = told(&[row("b", "live", 0.0), row("a", "live", 2.0)]);
        assert!(second.len() == 1 && second[0].contains("\"b\""));
        assert_eq!(note("x"), "{\"note\":\"x\"}\n");
    }
}
