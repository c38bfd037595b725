//! Followed lists and calls. The response has one line of JSON for each row (NDJSON). For each row that is new or has
//! changed later, the response gets a further line. A client that accepts `text/event-stream` gets the same lines as
//! server-sent events.
//!
//! A follower reads the event bus, so an idle server reads no list. There are two limits. First, the server serves at
//! most [`FOLLOWERS`] followers of all accounts at the same time, and at most [`FOLLOWERS_OF_ACCOUNT`] of one account and
//! its subaccounts. Operators have [`FOLLOWERS_OF_OPERATORS`] places of their own. Further followers receive 503 with
//! `Retry-After`. Second, at most [`WAITING`] lines wait for a slow client. If a client accepts no line within
//! [`SEND_TIMEOUT`], the server sends a last line with the reason and disconnects the client.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tandem_events::{Filter, Item, Subscription};
use tandem_id::AccountName;
use tandem_runtime::app::App;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::list::{Change, List};
use super::{ListQuery, Scope};

/// Time between an event after which the list must be read again, and the read. Further events in this time cause no
/// further read.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// Time without a line after which the server sends an empty line. The empty line shows that the connection is alive.
const KEEPALIVE: Duration = Duration::from_secs(15);
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
/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";
/// Maximum number of rows that a follower remembers.
const MAX_KNOWN: usize = 4_000;
/// Maximum time for which a new line waits for space in the queue.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of followers of each account. Operators share one entry.
static FOLLOWED: Places = Places(Mutex::new(BTreeMap::new()));

struct Places(Mutex<BTreeMap<Option<AccountName>, usize>>);

/// The place of one follower. Dropping this value frees the place.
struct Place(&'static Places, Option<AccountName>);

impl Places {
    /// Takes a place. `account` is `None` for an operator. Returns `None` if there is no place.
    fn take(&'static self, account: Option<AccountName>) -> Option<Place> {
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

/// The lines of a response to a client that follows a list or a call.
pub(super) struct Lines {
    sender: mpsc::Sender<String>,
    too_slow: Arc<AtomicBool>,
    _place: Place,
}

/// The client has disconnected, or is too slow.
pub(super) struct Gone;

impl Lines {
    /// Creates the lines of a test, and the receiver of the lines.
    #[cfg(test)]
    pub(super) fn to_test() -> (Self, mpsc::Receiver<String>) {
        static PLACES: Places = Places(Mutex::new(BTreeMap::new()));
        let (sender, waiting) = mpsc::channel(WAITING);
        let place = PLACES.take(None).expect("a place for each test");
        (Self { sender, too_slow: Arc::default(), _place: place }, waiting)
    }

    /// Sends a line. Waits until the queue has space.
    pub(super) async fn send(&self, line: String) -> Result<(), Gone> {
        match tokio::time::timeout(SEND_TIMEOUT, self.sender.send(line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                self.too_slow.store(true, Ordering::Relaxed);
                Err(Gone)
            }
        }
    }

    /// Sends a row under this key.
    pub(super) async fn row(&self, key: &str, row: &impl Serialize) -> Result<(), Gone> {
        self.send(line(key, &serde_json::to_string(row).unwrap_or_default())).await
    }

    /// Waits until the client has disconnected.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Sends the last line: the reason why no more lines follow.
    pub(super) async fn note(&self, text: &str) -> Result<(), Gone> {
        self.send(note(text)).await
    }
}

/// Answers with the lines that `write` sends. `filter` selects the events that `write` reads. `scope` is the client's
/// scope.
pub(super) fn answer<F>(
    app: &App,
    scope: &Scope,
    headers: &HeaderMap,
    filter: Filter,
    write: impl FnOnce(Lines, Subscription) -> F,
) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    // An account and its subaccounts share their places, because an account can create many subaccounts.
    let own = &scope.account.name;
    let shared_by = || app.accounts.parent(own).unwrap_or_else(|| own.clone());
    let account = (!scope.is_operator()).then(shared_by);
    let place = FOLLOWED.take(account);
    let Some((place, events)) =
        place.and_then(|place| Some((place, app.calls.services().events.subscribe(filter).ok()?)))
    else {
        let says = "too many lists are followed already\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], says).into_response();
    };
    let (sender, mut waiting) = mpsc::channel::<String>(WAITING);
    let too_slow = Arc::new(AtomicBool::new(false));
    let writing = write(Lines { sender, too_slow: Arc::clone(&too_slow), _place: place }, events);
    // An error means that the client has gone, so nothing is left to do.
    tokio::spawn(async move { drop(writing.await) });
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_stream = accepts.contains(EVENT_STREAM);
    let stream = futures_util::stream::poll_fn(move |context| {
        waiting.poll_recv(context).map(|line| {
            let last = || {
                too_slow.swap(false, Ordering::Relaxed).then(|| note("the client reads too slowly: lines were dropped"))
            };
            let line = line.or_else(last);
            line.map(|line| Ok::<_, Infallible>(Bytes::from(if is_stream { server_sent(&line) } else { line })))
        })
    });
    let content_type = if is_stream { EVENT_STREAM } else { "application/x-ndjson" };
    ([(header::CONTENT_TYPE, content_type)], Body::from_stream(stream)).into_response()
}

/// Answers a client that follows a list.
pub(super) fn list<L: List>(app: App, scope: Scope, query: Arc<ListQuery>, headers: &HeaderMap) -> Response {
    let (own_app, own_scope) = (app.clone(), scope.clone());
    let filter = match scope.is_operator() {
        true => Filter::kinds(L::KINDS),
        false => Filter::kinds(L::KINDS).of_account(scope.account.name.clone()),
    };
    answer(&own_app, &own_scope, headers, filter, move |lines, events| async move {
        follow::<L>(&app, &scope, &query, &lines, events).await
    })
}

/// Sends all rows of a list, and later each new or changed row.
async fn follow<L: List>(
    app: &App,
    scope: &Scope,
    query: &ListQuery,
    lines: &Lines,
    mut events: Subscription,
) -> Result<(), Gone> {
    let mut known = Known::default();
    let mut alive_at = Instant::now() + KEEPALIVE;
    let mut read_at = Some(Instant::now());
    loop {
        tokio::select! {
            biased;
            () = lines.closed() => return Err(Gone),
            () = tokio::time::sleep_until(read_at.map_or(alive_at, |at| at.min(alive_at))) => {
                if read_at.take_if(|at| *at <= Instant::now()).is_some() {
                    if known.read::<L>(app, scope, query, lines).await? {
                        alive_at = Instant::now() + KEEPALIVE;
                    }
                } else {
                    lines.send("\n".to_owned()).await?;
                    alive_at = Instant::now() + KEEPALIVE;
                }
            }
            item = events.next() => {
                let change = match item {
                    Some(Item::Event(event)) => L::change(app, scope, query, &event),
                    Some(Item::Missed(_)) => Change::List,
                    None => return Ok(()),
                };
                match change {
                    Change::Nothing => {}
                    // The first read is due, and has this row too.
                    Change::Row(_) | Change::List if known.is_empty() && read_at.is_some() => {}
                    Change::Row(row) => {
                        if let Some(line) = known.changed(L::ROW, L::key(&row), &row) {
                            lines.send(line).await?;
                            alive_at = Instant::now() + KEEPALIVE;
                        }
                    }
                    Change::List => read_at = read_at.or_else(|| Some(Instant::now() + DEBOUNCE)),
                }
            }
            () = app.calls.draining() => {
                // The last changes come before the note.
                known.read::<L>(app, scope, query, lines).await?;
                return lines.note("the server is stopping").await;
            }
        }
    }
}

/// The rows that the client has, by key. Each row is represented by a hash.
#[derive(Default)]
struct Known(HashMap<String, u64>);

impl Known {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the list and sends new and changed rows, oldest row first. Returns whether there were such rows.
    async fn read<L: List>(
        &mut self,
        app: &App,
        scope: &Scope,
        query: &ListQuery,
        lines: &Lines,
    ) -> Result<bool, Gone> {
        let rows = match L::page(app, scope, query).await {
            Ok(page) => page.rows,
            Err(wrong) => {
                lines.note(&wrong.to_string()).await?;
                return Err(Gone);
            }
        };
        let changed = self.replace(L::ROW, &rows, L::key);
        let any = !changed.is_empty();
        for line in changed {
            lines.send(line).await?;
        }
        Ok(any)
    }

    /// Returns the lines of new and changed rows, oldest row first. `rows` are all rows of the list, newest row first.
    fn replace<T: Serialize>(&mut self, kind: &str, rows: &[T], key: impl Fn(&T) -> String) -> Vec<String> {
        let before = std::mem::take(&mut self.0);
        let mut lines = Vec::new();
        // The new map contains only rows that are in the list, so the map stays as small as the list.
        for row in rows.iter().rev() {
            let (key, mark) = (key(row), mark(row));
            if before.get(&key) != Some(&mark) {
                lines.push(line(kind, &serde_json::to_string(row).unwrap_or_default()));
            }
            self.0.insert(key, mark);
        }
        lines
    }

    /// Returns the line of a row, if the row is new or has changed.
    fn changed(&mut self, kind: &str, key: String, row: &impl Serialize) -> Option<String> {
        let mark = mark(row);
        if self.0.len() >= MAX_KNOWN {
            // The client gets some rows again.
            self.0.clear();
        }
        let before = self.0.insert(key, mark);
        (before != Some(mark)).then(|| line(kind, &serde_json::to_string(row).unwrap_or_default()))
    }
}

/// Returns the hash of a row without the seconds of live calls, because this field changes by itself.
fn mark(row: &impl Serialize) -> u64 {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    remove_clock(&mut value);
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Removes the seconds of a row and of the legs of a row.
fn remove_clock(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("seconds");
            fields.values_mut().filter(|field| field.is_array()).for_each(remove_clock);
        }
        Value::Array(rows) => rows.iter_mut().for_each(remove_clock),
        _ => {}
    }
}

fn line(key: &str, json: &str) -> String {
    format!("{{\"{key}\":{json}}}\n")
}

fn note(text: &str) -> String {
    format!("{}\n", serde_json::json!({ "note": text }))
}

/// Returns a line as a server-sent event. An empty line becomes a comment.
fn server_sent(line: &str) -> String {
    match line.trim_end() {
        "" => ":\n\n".to_owned(),
        json => format!("data: {json}\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_followers_is_limited_per_account_and_in_total_and_separately_for_operators() {
        static PLACES: Places = Places(Mutex::new(BTreeMap::new()));
        let take = |name: &str, count: usize| -> Vec<Place> {
            let account = || (!name.is_empty()).then(|| AccountName::new(name));
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
        let mut known = Known::default();
        let key = |row: &serde_json::Value| row["id"].as_str().unwrap_or_default().to_owned();
        let mut changes = |rows: &[serde_json::Value]| known.replace("call", rows, key);
        let row = |id: &str, status: &str, seconds: f64| serde_json::json!({ "id": id, "status": status, "seconds": seconds });
        let first = changes(&[row("b", "ringing", 0.0), row("a", "live", 1.0)]);
        assert_eq!(first.len(), 2);
        assert!(first[0].starts_with("{\"call\":{\"id\":\"a\"") && first[0].ends_with("}\n"), "the oldest comes first");
        assert!(changes(&[row("b", "ringing", 0.0), row("a", "live", 1.5)]).is_empty());
        let second = changes(&[row("b", "live", 0.0), row("a", "live", 2.0)]);
        assert!(second.len() == 1 && second[0].contains("\"b\""));
        assert_eq!(note("x"), "{\"note\":\"x\"}\n");
        let mut changed = |row| known.changed("call", key(&row), &row);
        assert_eq!(changed(row("b", "live", 9.0)), None);
        let third = changed(row("c", "ringing", 0.0)).unwrap();
        assert!(third.starts_with("{\"call\":{\"id\":\"c\""));
    }

    #[test]
    fn a_line_is_one_server_sent_event_and_an_empty_line_is_a_comment() {
        assert_eq!(server_sent(&line("call", "{\"id\":\"a\"}")), "data: {\"call\":{\"id\":\"a\"}}\n\n");
        assert_eq!(server_sent("\n"), ":\n\n");
    }
}
