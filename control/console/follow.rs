//! Followed lists and calls. The response has one line of JSON for each row (NDJSON). For each row that is new, has
//! changed or has left the list later, the response gets a further line. A client that accepts `text/event-stream` gets
//! the same lines as server-sent events.
//!
//! A follower reads the event bus, so an idle server reads no list. The bus also has the events of the other nodes of a
//! cluster. A line `{"away": ["b"]}` names the nodes that do not answer. The list of names is empty when all answer again.
//!
//! There are two limits. First, the server serves at most [`FOLLOWERS`] followers of all accounts at the same time, and at
//! most [`FOLLOWERS_OF_ACCOUNT`] of one account and its subaccounts. Operators have [`FOLLOWERS_OF_OPERATORS`] places of
//! their own. Further followers receive 503 with `Retry-After`. Second, at most [`WAITING`] lines wait for a slow client. If a client accepts no line within
//! [`SEND_TIMEOUT`], the server sends a last line with the reason and disconnects the client.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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
use tandem_events::{Filter, Item, NodeNames, Subscription};
use tandem_id::{AccountName, CallId};
use tandem_runtime::app::App;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::list::{Change, Held, List, Row};
use super::{ListQuery, Scope, elsewhere};

/// Time between an event after which a call or the list must be read again, and the read. Further events in this time
/// cause no further read.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// Time after which the list is read again if calls have not replied.
const RETRY: Duration = Duration::from_secs(1);
/// Time after which the list is read again if nodes of the cluster have not answered.
const RETRY_NODES: Duration = Duration::from_secs(3);
/// Time after which a change at another node is in the database.
const STORED: Duration = Duration::from_secs(2);
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
/// Maximum number of rows to which a list grows by single new rows. Such rows leave the list only if it is full.
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

    /// Sends the names of the nodes that are away.
    pub(super) async fn away<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> Result<(), Gone> {
        self.send(away(nodes)).await
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
    let (own_app, own_scope, filter) = (app.clone(), scope.clone(), filter(&scope, L::KINDS));
    answer(&own_app, &own_scope, headers, filter, move |lines, events| async move {
        follow::<L>(&app, &scope, &query, &lines, events).await
    })
}

/// Answers a client that follows three lists in one response. No key of a row is in two of the lists.
pub(super) fn three<A: List, B: List, C: List>(
    app: App,
    scope: Scope,
    query: Arc<ListQuery>,
    headers: &HeaderMap,
) -> Response {
    let (own_app, own_scope, first) = (app.clone(), scope.clone(), filter(&scope, A::KINDS));
    answer(&own_app, &own_scope, headers, first, move |lines, events| async move {
        let more = |kinds| app.calls.services().events.subscribe(filter(&scope, kinds));
        let (Ok(second), Ok(third)) = (more(B::KINDS), more(C::KINDS)) else {
            return lines.note("too many lists are followed already; open the page again later").await;
        };
        let (second, third) =
            (follow::<B>(&app, &scope, &query, &lines, second), follow::<C>(&app, &scope, &query, &lines, third));
        tokio::try_join!(follow::<A>(&app, &scope, &query, &lines, events), second, third).map(drop)
    })
}

/// Selects the events of these kinds that the client may see.
fn filter(scope: &Scope, kinds: &[tandem_events::Kind]) -> Filter {
    match scope.is_operator() {
        true => Filter::kinds(kinds),
        false => Filter::kinds(kinds).of_account(scope.account.name.clone()),
    }
    .everywhere()
}

/// Sends all rows of a list, and later each change.
async fn follow<L: List>(
    app: &App,
    scope: &Scope,
    query: &ListQuery,
    lines: &Lines,
    mut events: Subscription,
) -> Result<(), Gone> {
    let mut follower = Follower::new(app, scope, query);
    let mut alive_at = Instant::now() + KEEPALIVE;
    let mut is_first = true;
    loop {
        let next_at = follower.due.at.map_or(alive_at, |at| at.min(alive_at));
        let ready = tokio::select! {
            biased;
            () = lines.closed() => return Err(Gone),
            () = tokio::time::sleep_until(next_at) => match follower.due.take(Instant::now()) {
                Some(due) => follower.read::<L>(due, lines).await?,
                None => vec!["\n".to_owned()],
            },
            item = events.next() => match item {
                Some(Item::Event(event)) => follower.take::<L>(L::change(app, scope, query, &event)),
                Some(Item::Missed(_)) => follower.take::<L>(Change::List),
                Some(Item::Away(nodes)) => {
                    follower.silent = nodes;
                    follower.take::<L>(Change::List)
                }
                None => return Ok(()),
            },
            () = app.calls.draining() => {
                // The last changes come before the note.
                for line in follower.read::<L>(Due::list(Instant::now()), lines).await? {
                    lines.send(line).await?;
                }
                return lines.note("the server is stopping").await;
            }
        };
        // The reader of an empty list learns at once that the list is empty.
        let is_empty = std::mem::take(&mut is_first) && ready.is_empty();
        let away = follower.away_line();
        for line in ready.into_iter().chain(is_empty.then(|| "\n".to_owned())).chain(away) {
            lines.send(line).await?;
            alive_at = Instant::now() + KEEPALIVE;
        }
    }
}

/// The state of the follower of a list.
struct Follower<'a> {
    app: &'a App,
    scope: &'a Scope,
    query: &'a ListQuery,
    known: Known,
    due: Due,
    /// The nodes whose events do not come.
    silent: NodeNames,
    /// The nodes that have not answered the last questions for rows.
    away: Vec<String>,
    /// The nodes that are away, as the client knows.
    said: BTreeSet<String>,
}

impl<'a> Follower<'a> {
    fn new(app: &'a App, scope: &'a Scope, query: &'a ListQuery) -> Self {
        let due = Due { repeats: app.calls.services().cluster.is_on(), ..Due::list(Instant::now()) };
        let (known, silent, away, said) = (Known::default(), NodeNames::default(), Vec::new(), BTreeSet::new());
        Self { app, scope, query, known, due, silent, away, said }
    }

    /// Reads what is due. Returns the lines of the changes.
    async fn read<L: List>(&mut self, mut due: Due, lines: &Lines) -> Result<Vec<String>, Gone> {
        let page = match due.is_list {
            true => elsewhere::page::<L>(self.app, self.scope, self.query).await,
            false => Ok(elsewhere::rows_of::<L>(self.app, self.scope, self.query, &due.calls).await),
        };
        let page = match page {
            Ok(page) => page,
            Err(wrong) => {
                lines.note(&wrong.to_string()).await?;
                return Err(Gone);
            }
        };
        if due.repeats && L::HELD == Held::ByAll {
            self.due = Due::list(Instant::now() + STORED);
        }
        let entries: Vec<_> = page.rows.iter().map(Entry::of::<L>).collect();
        if due.is_list {
            self.away = page.away;
        } else {
            self.away.extend(page.away);
        }
        if !self.away.is_empty() {
            self.due = Due::list(Instant::now() + RETRY_NODES);
        }
        if page.is_partial {
            // Nobody knows whether the missing rows have left the list.
            self.due = Due::list(Instant::now() + RETRY);
            return Ok(entries.into_iter().rev().filter_map(|entry| self.known.changed(entry)).collect());
        }
        // The rows of a node that does not answer stay.
        let (cluster, away) = (&self.app.calls.services().cluster, &self.away);
        let is_away =
            |id: u128| !away.is_empty() && cluster.other_owner_of(id).is_some_and(|node| away.contains(&node.name));
        due.calls.retain(|call| !is_away(call.0));
        let stays = |key: &str| L::HELD == Held::ByOwner && u128::from_str_radix(key, 16).is_ok_and(is_away);
        Ok(match due.is_list {
            true => self.known.replace(entries, stays),
            false => self.known.replace_calls(&due.calls, entries),
        })
    }

    /// Returns a line with the names of the nodes that are away, if they have changed.
    fn away_line(&mut self) -> Option<String> {
        let away: BTreeSet<_> = self.silent.iter().map(ToString::to_string).chain(self.away.iter().cloned()).collect();
        if away == self.said {
            return None;
        }
        self.said = away;
        Some(self::away(self.said.iter().map(String::as_str)))
    }

    /// Takes a change of the list. Returns the lines that can be sent at once.
    fn take<L: List>(&mut self, change: Change<L::Row>) -> Vec<String> {
        // If the first read is due, it has this change too.
        if self.due.is_list && self.known.0.is_empty() {
            return Vec::new();
        }
        match change {
            Change::Nothing => Vec::new(),
            Change::Row(row) => {
                Row::of::<L>(&row).map(|row| self.known.insert(Entry::of::<L>(&row))).unwrap_or_default()
            }
            Change::Gone(key) => self.known.remove(&key).into_iter().collect(),
            Change::Part(json, call) => {
                let line = format!("{json}\n");
                let read = call.map(|call| self.take::<L>(Change::Call(call)));
                std::iter::once(line).chain(read.into_iter().flatten()).collect()
            }
            Change::Call(call) => {
                self.due.calls.insert(call);
                self.due.at.get_or_insert_with(|| Instant::now() + DEBOUNCE);
                Vec::new()
            }
            Change::List => {
                self.due.is_list = true;
                self.due.repeats = self.app.calls.services().cluster.is_on();
                self.due.at.get_or_insert_with(|| Instant::now() + DEBOUNCE);
                Vec::new()
            }
        }
    }
}

/// The rows that must be read again.
#[derive(Default)]
struct Due {
    /// The time of the read. `None` if nothing is due.
    at: Option<Instant>,
    /// Whether the whole list is due.
    is_list: bool,
    /// Whether the list must be read a second time, because the database may lag behind the events of other nodes.
    repeats: bool,
    /// The calls whose rows are due.
    calls: BTreeSet<CallId>,
}

impl Due {
    fn list(at: Instant) -> Self {
        Self { at: Some(at), is_list: true, ..Self::default() }
    }

    /// Returns what is due at `now`. From then on, nothing is due.
    fn take(&mut self, now: Instant) -> Option<Self> {
        self.at.is_some_and(|at| at <= now).then(|| std::mem::take(self))
    }
}

/// A row of a list, as a follower sends it.
struct Entry {
    key: String,
    /// As in [`List::calls`].
    calls: Vec<CallId>,
    mark: u64,
    line: String,
}

impl Entry {
    fn of<L: List>(row: &Row) -> Self {
        let Row { key, calls, json } = row;
        let line = format!("{{\"{}\":{json},\"key\":{}}}\n", L::ROW, serde_json::json!(key));
        let mark = mark(serde_json::from_str(json.get()).unwrap_or_default());
        Self { calls: calls.clone(), mark, line, key: key.clone() }
    }
}

/// The rows that the client has, by key.
#[derive(Default)]
struct Known(HashMap<String, Sent>);

/// A row that the client has.
struct Sent {
    /// The hash of the row.
    mark: u64,
    calls: Vec<CallId>,
    /// The time at which the client received the row first.
    since: Instant,
}

impl Known {
    /// Makes `entries` the rows of the client. They are all rows of the list, newest row first. Returns the lines: first
    /// the rows that have left the list, then new and changed rows, oldest row first. `stays` says that a row with this key
    /// has not left the list although it is no entry.
    fn replace(&mut self, entries: Vec<Entry>, stays: impl Fn(&str) -> bool) -> Vec<String> {
        let listed: HashSet<&str> = entries.iter().map(|entry| &*entry.key).collect();
        let has_left = |key: &&String| !listed.contains(&***key) && !stays(key);
        let left: Vec<String> = self.0.keys().filter(has_left).cloned().collect();
        let gone: Vec<String> = left.iter().filter_map(|key| self.remove(key)).collect();
        gone.into_iter().chain(entries.into_iter().rev().filter_map(|entry| self.changed(entry))).collect()
    }

    /// Makes `entries` the client's rows of these calls, newest row first. Returns the lines.
    fn replace_calls(&mut self, calls: &BTreeSet<CallId>, entries: Vec<Entry>) -> Vec<String> {
        let live: HashSet<CallId> = entries.iter().flat_map(|entry| entry.calls.iter().copied()).collect();
        let mut lines = Vec::new();
        for entry in entries.into_iter().rev() {
            // The rows of calls that were merged into this call.
            let merged = entry.calls.iter().map(ToString::to_string).filter(|key| *key != entry.key);
            lines.extend(merged.filter_map(|key| self.remove(&key)));
            lines.extend(self.changed(entry));
        }
        let is_over = |call: &CallId| calls.contains(call) && !live.contains(call);
        let over = self.0.iter().filter(|(_, sent)| sent.calls.iter().any(is_over));
        let over: Vec<String> = over.map(|(key, _)| key.clone()).collect();
        lines.extend(over.iter().filter_map(|key| self.remove(key)));
        lines
    }

    /// Adds or changes a single row. Returns the lines. If the client has [`MAX_KNOWN`] rows, the oldest row makes room
    /// for a new row.
    fn insert(&mut self, entry: Entry) -> Vec<String> {
        let is_full = self.0.len() >= MAX_KNOWN && !self.0.contains_key(&entry.key);
        let oldest = || self.0.iter().min_by_key(|(_, sent)| sent.since).map(|(key, _)| key.clone());
        let gone = is_full.then(oldest).flatten().and_then(|key| self.remove(&key));
        gone.into_iter().chain(self.changed(entry)).collect()
    }

    /// Returns the line of a row, if the row is new or has changed.
    fn changed(&mut self, entry: Entry) -> Option<String> {
        let Entry { key, calls, mark, line } = entry;
        let before = self.0.get(&key);
        let (is_same, since) = (before.is_some_and(|sent| sent.mark == mark), before.map(|sent| sent.since));
        self.0.insert(key, Sent { mark, calls, since: since.unwrap_or_else(Instant::now) });
        (!is_same).then_some(line)
    }

    /// Removes a row. Returns the line for the client, if the client has the row.
    fn remove(&mut self, key: &str) -> Option<String> {
        self.0.remove(key).map(|_| format!("{}\n", serde_json::json!({ "gone": key })))
    }
}

/// Returns the hash of a row without the fields that change by themselves: the seconds and the quality of live calls.
fn mark(mut value: Value) -> u64 {
    remove_measurements(&mut value);
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// Removes the seconds and the quality of a row and of the legs of a row.
fn remove_measurements(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("seconds");
            fields.remove("quality");
            fields.values_mut().filter(|field| field.is_array()).for_each(remove_measurements);
        }
        Value::Array(rows) => rows.iter_mut().for_each(remove_measurements),
        _ => {}
    }
}

fn line(key: &str, json: &str) -> String {
    format!("{{\"{key}\":{json}}}\n")
}

fn away<'a>(nodes: impl IntoIterator<Item = &'a str>) -> String {
    format!("{}\n", serde_json::json!({ "away": nodes.into_iter().collect::<Vec<_>>() }))
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

    /// The row of a list as a follower sends it.
    fn entry(key: &str, status: &str, seconds: f64, calls: &[u128]) -> Entry {
        let calls: Vec<_> = calls.iter().copied().map(CallId).collect();
        let legs: Vec<_> =
            calls.iter().map(|_| serde_json::json!({ "seconds": seconds, "quality": { "mos": seconds } })).collect();
        let row = serde_json::json!({ "id": key, "status": status, "seconds": seconds, "legs": legs });
        Entry { key: key.to_owned(), calls, mark: mark(row), line: format!("{key} {status}") }
    }

    #[test]
    fn only_new_and_changed_rows_are_sent_and_measurements_are_no_change() {
        let mut known = Known::default();
        let row = |key: &str, status: &str, seconds: f64| entry(key, status, seconds, &[1]);
        let first = known.replace(vec![row("b", "ringing", 0.0), row("a", "live", 1.0)], |_| false);
        assert_eq!(first, ["a live", "b ringing"], "the oldest comes first");
        assert!(known.replace(vec![row("b", "ringing", 0.0), row("a", "live", 1.5)], |_| false).is_empty());
        assert_eq!(known.replace(vec![row("b", "live", 0.0), row("a", "live", 2.0)], |_| false), ["b live"]);
        assert!(known.insert(row("b", "live", 9.0)).is_empty());
        assert_eq!(known.insert(row("c", "ringing", 0.0)), ["c ringing"]);
        assert_eq!(note("x"), "{\"note\":\"x\"}\n");
    }

    #[test]
    fn each_row_that_leaves_the_list_is_gone_once() {
        let mut known = Known::default();
        let row = |key: &str| entry(key, "live", 0.0, &[]);
        assert_eq!(known.replace(vec![row("b"), row("a")], |_| false).len(), 2);
        assert_eq!(known.replace(vec![row("c"), row("b")], |_| false), ["{\"gone\":\"a\"}\n", "c live"]);
        assert_eq!(known.remove("b").as_deref(), Some("{\"gone\":\"b\"}\n"));
        assert_eq!(known.remove("b"), None);
        assert_eq!(known.insert(row("b")), ["b live"], "a row can return");
        let left = known.replace(vec![], |key| key == "c");
        assert_eq!(left, ["{\"gone\":\"b\"}\n"], "the row of a node that does not answer stays");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_row_makes_room_for_a_new_row() {
        let mut known = Known::default();
        for number in 0..MAX_KNOWN {
            assert_eq!(known.insert(entry(&number.to_string(), "live", 0.0, &[])).len(), 1);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(known.insert(entry("0", "ended", 0.0, &[])), ["0 ended"], "a known row needs no room");
        assert_eq!(known.insert(entry("new", "live", 0.0, &[])), ["{\"gone\":\"0\"}\n", "new live"]);
        assert_eq!(known.0.len(), MAX_KNOWN);
    }

    #[test]
    fn a_merged_call_has_one_row_which_is_gone_after_the_last_leg() {
        let mut known = Known::default();
        let key = |call: u128| CallId(call).to_string();
        let gone = |call: u128| format!("{}\n", serde_json::json!({ "gone": key(call) }));
        let row = |call: u128, status: &str, calls: &[u128]| entry(&key(call), status, 0.0, calls);
        let due = |calls: &[u128]| calls.iter().copied().map(CallId).collect::<BTreeSet<_>>();
        assert_eq!(
            known.replace(vec![row(3, "live", &[3]), row(2, "live", &[2]), row(1, "live", &[1])], |_| false).len(),
            3
        );
        // Call 2 is merged into call 1. The event has either id.
        let merged = known.replace_calls(&due(&[2]), vec![row(1, "bridged", &[1, 2])]);
        assert_eq!(merged, [gone(2), format!("{} bridged", key(1))]);
        // The leg of call 1 ends, then the leg that was created in call 2.
        assert_eq!(known.replace_calls(&due(&[1]), vec![row(1, "one", &[2])]), [format!("{} one", key(1))]);
        assert_eq!(known.replace_calls(&due(&[2]), vec![]), [gone(1)]);
        assert!(known.replace_calls(&due(&[1, 2]), vec![]).is_empty());
        assert_eq!(known.0.len(), 1, "call 3 is not concerned");
    }

    #[test]
    fn a_line_is_one_server_sent_event_and_an_empty_line_is_a_comment() {
        assert_eq!(server_sent(&line("line", "{\"text\":\"a\"}")), "data: {\"line\":{\"text\":\"a\"}}\n\n");
        assert_eq!(server_sent("\n"), ":\n\n");
    }
}
