//! Several equal nodes. A node owns its calls, conferences and recordings: their ids name it ([`tandem_id::node`]). Three
//! parts join the nodes:
//!
//! - the **lease**: a row in PostgreSQL that each node renews each second. The row says who owns calls (lease.rs).
//! - the **bus**: NATS. A node asks the owner with [`Cluster::ask`], and tells all nodes with [`Cluster::post`].
//! - the **successor**: when a node does not renew its row, one of the others ends its calls ([`Change::Expired`]).
//!
//! A server without `[cluster]` is alone: it owns everything, asks nobody, and has no bus.
#![forbid(unsafe_code)]

mod bus;
mod lease;
pub mod slices;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_causes::cause::Cause;
use tandem_id::AccountName;
use tandem_id::node::{self, NodeTag};
use tandem_settings::ClusterConfig;
use tandem_store::health::Check;
use tandem_store::nodes::{self, Hops, JoinError, NodeConnection, NodeDetails, NodeRow, NodeState, Settings};
use tandem_store::owned_names::{self, Named};
use tandem_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use bus::{ANSWER_TIME, AskError, BusCounts, CHANGE_TIME, MAX_MESSAGE};
pub use lease::Refusal;

use bus::{Bus, TO_ALL};
use lease::{Finding, HELD, Lease};

/// Maximum difference between the clocks of a node and of the database at the start of the node.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(2);

/// Maximum time for one renewal. Then the node tries again with a new connection.
const RENEWAL_TIME: Duration = Duration::from_secs(1);

/// Maximum time for the database to say which node has a name.
pub const NAME_TIME: Duration = Duration::from_secs(2);

/// Pause before a question is repeated to a node that did not answer.
pub const REPEAT: Duration = Duration::from_secs(1);

/// Time for which a starting node waits for the end of the lease of an earlier start with its name.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// Maximum number of notes that wait for the bus.
const NOTES: usize = 4_096;

/// Maximum number of changes that wait for their reader.
const CHANGES: usize = 256;

/// A question to another node. The type is the question, and `Answer` is the type of the answer.
pub trait Question: Serialize + DeserializeOwned + Send + 'static {
    /// The last part of the subject on the bus.
    const NAME: &'static str;
    /// The answer.
    type Answer: Serialize + DeserializeOwned + Send;
}

/// A note to all other nodes, or to one node.
pub trait Note: Serialize + DeserializeOwned + Send + 'static {
    /// The last part of the subject on the bus.
    const NAME: &'static str;
}

/// A node has declared another node dead, and ends its calls. The dead node may still be connected to the bus.
#[derive(Serialize, Deserialize)]
struct Dead {
    epoch: i64,
}

impl Note for Dead {
    const NAME: &'static str = "dead";
}

/// The nodes, seen from this server. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Option<Arc<Member>>);

struct Member {
    name: Arc<str>,
    epoch: i64,
    tag: NodeTag,
    store: Store,
    details: Mutex<NodeDetails>,
    bus: Bus,
    lease: Mutex<Lease>,
    legs: AtomicU64,
    /// Cancelled when another node ends the calls of this node.
    lost: CancellationToken,
    /// Whether this node has ended its row itself.
    has_left: AtomicBool,
    bus_was_away: AtomicBool,
    /// The notes that wait for the bus.
    notes: mpsc::Sender<(&'static str, Bytes)>,
}

impl Member {
    fn post<N: Note>(&self, note: &N) {
        if self.notes.try_send((N::NAME, serde_json::to_vec(note).unwrap_or_default().into())).is_err() {
            tracing::warn!(note = N::NAME, "a note to the other nodes was dropped");
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Cluster").field(&self.name()).finish()
    }
}

/// A change of the cluster, for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node takes part now, or has other addresses now.
    Joined(NodeRow),
    /// A node was not renewed in time, and this node is its successor: this node must end the calls of the dead node, and then
    /// call [`Cluster::ended_calls_of`].
    Expired(NodeRow),
    /// A node takes part no more: it is gone, or another node ends its calls.
    Left(NodeRow),
    /// Stored settings have changed: this node must read them again.
    Settings(Settings),
}

/// Asks a node to read stored settings again.
#[derive(Serialize, Deserialize)]
pub struct ReadSettings {
    pub groups: Vec<Settings>,
}

impl Question for ReadSettings {
    const NAME: &'static str = "settings";
    type Answer = ();
}

/// The owner of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOwner {
    /// This node.
    This,
    /// Another living node, and its id for the name.
    Other(Box<NodeRow>, u128),
    /// This node may not take names now. The other nodes may not know it yet, or it may not know the owner yet: then two nodes
    /// would own the name.
    Unknown(Refusal),
}

/// A node, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub row: NodeRow,
    /// Time since the last renewal, by the clock of the database.
    pub age: Duration,
    /// Whether it is the node that was asked.
    pub is_own: bool,
}

/// The reason why a server cannot be a node.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cluster.node: {0}")]
    Join(#[from] JoinError),
    #[error("cluster.bus: {0}")]
    Bus(String),
    #[error("database.url: {0}")]
    Store(#[from] StoreError),
    #[error(
        "cluster.node: the clock of this machine and the clock of the database differ by {0} s, and nodes need the same time: set both clocks by NTP"
    )]
    Clock(i64),
}

impl Cluster {
    /// Returns the cluster of a server that is alone.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Makes this server a node: takes an epoch, connects to the bus, and sets the node in all later ids. The lease is
    /// renewed by [`Self::run`]. Without `cluster.node`, the server is alone.
    pub async fn join(config: &ClusterConfig, store: &Store, details: NodeDetails) -> Result<Self, StartError> {
        let Some(name) = config.node.clone() else { return Ok(Self::alone()) };
        let database = nodes::list(store).await?.now;
        let difference = Timestamp::now().duration_since(database);
        if difference.unsigned_abs() > MAX_CLOCK_DIFFERENCE {
            return Err(StartError::Clock(difference.as_secs()));
        }
        let cluster = nodes::cluster_id(store).await?;
        // The epoch is taken after the connection to the bus, so that a server without a bus is no node. Only the name of
        // the connection does not need the epoch.
        let servers: Vec<String> = config.bus_servers().map(str::to_owned).collect();
        let mut bus = Bus::connect(&servers, &name, cluster).await.map_err(StartError::Bus)?;
        let sent = Instant::now();
        let epoch = join_after_predecessor(store, &name, &details).await?;
        bus.set_epoch(epoch);
        let tag = NodeTag::of_epoch(epoch).unwrap_or(NodeTag::of_id(0));
        node::set_own(tag);
        store.fence(epoch);
        let mut lease = Lease::new(epoch);
        lease.joined(sent, &nodes::list(store).await?);
        let (legs, has_left, bus_was_away) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let lost = CancellationToken::new();
        let (store, lease, details) = (store.clone(), Mutex::new(lease), Mutex::new(details));
        let (notes, mut waiting) = mpsc::channel::<(&'static str, Bytes)>(NOTES);
        let member = Arc::new(Member {
            name,
            epoch,
            tag,
            store,
            details,
            bus,
            lease,
            legs,
            lost,
            has_left,
            bus_was_away,
            notes,
        });
        let sender = Arc::downgrade(&member);
        tokio::spawn(async move {
            while let Some((name, note)) = waiting.recv().await {
                let Some(member) = sender.upgrade() else { return };
                if let Err(error) = member.bus.tell(TO_ALL, name, note).await {
                    tracing::debug!(%error, note = name, "a note to the other nodes was not sent");
                }
            }
        });
        Ok(Self(Some(member)))
    }

    /// Starts to answer questions, and to renew the lease. Returns the changes of the cluster. If this server is alone,
    /// there are no changes.
    pub async fn run(&self) -> Result<mpsc::Receiver<Change>, StartError> {
        let (sender, changes) = mpsc::channel(CHANGES);
        if let Some(member) = &self.0 {
            let lost = member.lost.clone();
            let own = member.epoch;
            self.listen(move |dead: Dead, _| {
                if dead.epoch == own {
                    lost.cancel();
                }
            });
            member.bus.listen().await.map_err(StartError::Bus)?;
            tokio::spawn(renew(Arc::clone(member), sender));
        }
        Ok(changes)
    }

    /// Waits until this node has lost its lease, and another node ends its calls. The server must then end at once. A server
    /// that is alone waits for ever.
    pub async fn lost(&self) {
        match &self.0 {
            Some(member) => member.lost.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Whether this server is a node of a cluster.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the name of this node.
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|member| &*member.name)
    }

    /// Returns the epoch of this node.
    pub fn epoch(&self) -> Option<i64> {
        self.0.as_ref().map(|member| member.epoch)
    }

    /// Returns the tag of this node, with which its ids end.
    pub fn tag(&self) -> Option<NodeTag> {
        self.0.as_ref().map(|member| member.tag)
    }

    /// Returns the reason why this node takes no new calls. `None` if it takes calls.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.as_ref().and_then(|member| member.lease.lock().refusal(Instant::now()))
    }

    /// Whether this server does the work that only one node may do, such as the removal of old records.
    pub fn is_first(&self) -> bool {
        self.0.as_ref().is_none_or(|member| member.lease.lock().is_first(Instant::now()))
    }

    /// Returns the other living node that owns the call, the conference or the recording with this id. `None` if it is this
    /// node, or if nobody owns it: a node that is gone owns nothing, and its records are in the database.
    pub fn other_owner_of(&self, id: u128) -> Option<NodeRow> {
        let tag = NodeTag::of_id(id);
        let member = self.0.as_ref().filter(|member| member.tag != tag)?;
        member.lease.lock().living_with(tag).cloned()
    }

    /// Whether this server sends the webhooks of a queue. The name of the queue ends with an id. The owner of the id sends
    /// them, and the first node those of owners that have ended.
    pub fn sends(&self, queue: &str) -> bool {
        let Some((member, tag)) = self.0.as_ref().zip(NodeTag::at_end_of(queue)) else { return true };
        let lease = member.lease.lock();
        tag == member.tag || lease.living_with(tag).is_none() && lease.is_first(Instant::now())
    }

    /// Returns the other living node with this epoch.
    pub fn other(&self, epoch: i64) -> Option<NodeRow> {
        self.0.as_ref().and_then(|member| member.lease.lock().living().find(|row| row.epoch == epoch).cloned())
    }

    /// Returns the other living nodes.
    pub fn others(&self) -> Vec<NodeRow> {
        self.0.as_ref().map(|member| member.lease.lock().living().cloned().collect()).unwrap_or_default()
    }

    /// Returns the tags of all living nodes, with this node, and of the dead nodes whose successors still end their calls.
    pub fn tags(&self) -> Vec<NodeTag> {
        let Some(member) = &self.0 else { return Vec::new() };
        let others: Vec<i64> = member.lease.lock().others().map(|row| row.epoch).collect();
        others.into_iter().chain([member.epoch]).filter_map(NodeTag::of_epoch).collect()
    }

    /// Asks a node. The answer comes within [`ANSWER_TIME`].
    pub async fn ask<Q: Question>(&self, node: &NodeRow, question: &Q) -> Result<Q::Answer, AskError> {
        self.ask_within(node, question, ANSWER_TIME).await
    }

    /// Asks a node. The answer comes within this time.
    pub async fn ask_within<Q: Question>(
        &self,
        node: &NodeRow,
        question: &Q,
        within: Duration,
    ) -> Result<Q::Answer, AskError> {
        let Some(member) = &self.0 else { return Err(AskError::BusAway) };
        // The serialisation of these types cannot fail.
        let question = serde_json::to_vec(question).unwrap_or_default();
        let answer = member.bus.ask(node.epoch, Q::NAME, question.into(), within).await?;
        serde_json::from_slice(&answer).map_err(|error| AskError::Unreadable(error.to_string()))
    }

    /// Asks a node until it answers or is gone. Returns `None` if it is gone.
    pub async fn repeat<Q: Question>(&self, node: &NodeRow, question: &Q) -> Option<Q::Answer> {
        self.repeat_after(node, question, REPEAT).await
    }

    /// Does the same as [`Self::repeat`], with this pause before a repetition.
    pub async fn repeat_after<Q: Question>(&self, node: &NodeRow, question: &Q, pause: Duration) -> Option<Q::Answer> {
        while self.other(node.epoch).is_some() {
            match self.ask(node, question).await {
                Ok(answer) => return Some(answer),
                Err(error) => tracing::debug!("node {}: {}: {error}", node.name, Q::NAME),
            }
            tokio::time::sleep(pause).await;
        }
        None
    }

    /// Takes a name for the new id `new` of this node, unless another living node has the name. The caller must hold a lock, so
    /// that two tasks of this node do not take the same name, and must limit the time ([`NAME_TIME`]). A server that is
    /// alone owns all names.
    pub async fn take_name(
        &self,
        what: Named,
        (account, name): (&AccountName, &str),
        new: u128,
    ) -> Result<NameOwner, StoreError> {
        let Some(member) = &self.0 else { return Ok(NameOwner::This) };
        if let Some(refusal @ (Refusal::Joining | Refusal::NoLease)) = self.refusal() {
            return Ok(NameOwner::Unknown(refusal));
        }
        loop {
            let id = owned_names::take(&member.store, what, account, name, new).await?;
            if id == new {
                return Ok(NameOwner::This);
            }
            if let Some(node) = self.other_owner_of(id) {
                return Ok(NameOwner::Other(Box::new(node), id));
            }
            // The owner has ended with its node, or this node gives the name up just now.
            if owned_names::replace(&member.store, what, account, name, (id, new)).await? {
                return Ok(NameOwner::This);
            }
        }
    }

    /// Lets all other nodes read these groups of settings again, because this node has changed them. Waits until they have, for
    /// at most [`ANSWER_TIME`]. A node that does not answer sees the change with its next renewal.
    pub async fn settings_changed(&self, groups: Vec<Settings>) {
        if groups.is_empty() {
            return;
        }
        let (nodes, asked) = (self.others(), ReadSettings { groups });
        let asked = nodes.iter().map(|node| async {
            if let Err(error) = self.ask(node, &asked).await {
                tracing::debug!("node {}: settings: {error}", node.name);
            }
        });
        futures_util::future::join_all(asked).await;
    }

    /// Sets the function that answers a question of other nodes.
    pub fn answer<Q: Question, A>(&self, answer: impl Fn(Q) -> A + Send + Sync + 'static)
    where
        A: Future<Output = Q::Answer> + Send + 'static,
    {
        let Some(member) = &self.0 else { return };
        let handler = move |octets: Bytes, _sender: i64| -> futures_util::future::BoxFuture<'static, Option<Bytes>> {
            match serde_json::from_slice::<Q>(&octets) {
                Ok(question) => {
                    let answered = answer(question);
                    Box::pin(async move { serde_json::to_vec(&answered.await).ok().map(Bytes::from) })
                }
                Err(error) => {
                    tracing::warn!(%error, question = Q::NAME, "a question of another node cannot be read");
                    Box::pin(std::future::ready(None))
                }
            }
        };
        member.bus.handle(Q::NAME, Arc::new(handler));
    }

    /// Sends a note to all other nodes, after the notes that were posted before. Never waits. The note is lost if the bus is
    /// away, or if 4,096 notes wait.
    pub fn post<N: Note>(&self, note: &N) {
        if let Some(member) = &self.0 {
            member.post(note);
        }
    }

    /// Sends a note to one node, after the notes that were told to it before. Waits for a moment if the bus is slow.
    ///
    /// # Errors
    /// The note was not sent. A note that was sent may be lost with the connection to the bus.
    pub async fn tell<N: Note>(&self, epoch: i64, note: &N) -> Result<(), AskError> {
        let Some(member) = &self.0 else { return Err(AskError::BusAway) };
        member.bus.tell(&epoch.to_string(), N::NAME, serde_json::to_vec(note).unwrap_or_default().into()).await
    }

    /// Sets the function that receives the notes of other nodes, with the epoch of the sender.
    pub fn listen<N: Note>(&self, listener: impl Fn(N, i64) + Send + Sync + 'static) {
        let Some(member) = &self.0 else { return };
        let handler = move |octets: Bytes, sender: i64| -> futures_util::future::BoxFuture<'static, Option<Bytes>> {
            match serde_json::from_slice::<N>(&octets) {
                Ok(note) => listener(note, sender),
                Err(error) => tracing::warn!(%error, note = N::NAME, "a note of another node cannot be read"),
            }
            Box::pin(std::future::ready(None))
        };
        member.bus.handle(N::NAME, Arc::new(handler));
    }

    /// Publishes the SIP addresses of this node: the one that people and proxies use, those for other nodes over UDP and TCP,
    /// and all from which it sends. The others see them with their next renewal.
    pub async fn publish_sip(&self, sip: String, hops: Hops, addresses: Vec<SocketAddr>) -> Result<(), StoreError> {
        let Some(member) = &self.0 else { return Ok(()) };
        let details = {
            let mut details = member.details.lock();
            (details.sip, details.hops, details.addresses) = (sip, hops, addresses);
            details.clone()
        };
        let renewed = NodeConnection::of(&member.store).renew(member.epoch, &details).await?;
        if renewed.is_none() {
            member.lost.cancel();
        }
        Ok(())
    }

    /// Returns what other nodes know about this node.
    pub fn own_details(&self) -> Option<NodeDetails> {
        self.0.as_ref().map(|member| member.details.lock().clone())
    }

    /// Sets the number of live legs, which other nodes see.
    pub fn set_legs(&self, legs: u64) {
        if let Some(member) = &self.0 {
            member.legs.store(legs, Ordering::Relaxed);
        }
    }

    /// Ends the row of a dead node whose calls this node has ended.
    pub async fn ended_calls_of(&self, dead: &NodeRow) -> Result<(), StoreError> {
        match &self.0 {
            Some(member) => nodes::end(&member.store, dead.epoch).await,
            None => Ok(()),
        }
    }

    /// Ends the row of this node. The calls of this node have ended.
    pub async fn leave(&self) {
        let member = self.0.as_ref().filter(|member| !member.has_left.swap(true, Ordering::Relaxed));
        if let Some(member) = member
            && let Err(error) = nodes::end(&member.store, member.epoch).await
        {
            tracing::warn!(%error, "the database does not know that this node has stopped");
        }
    }

    /// Returns all nodes, by the database. If this server is alone, there are none.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        let Some(member) = &self.0 else { return Ok(Vec::new()) };
        let seen = nodes::list(&member.store).await?;
        let view = |row: NodeRow| NodeView {
            age: Duration::try_from(seen.now.duration_since(row.alive_at)).unwrap_or_default(),
            is_own: row.epoch == member.epoch,
            row,
        };
        Ok(seen.rows.into_iter().map(view).collect())
    }

    /// Lets the other nodes and people see that this node is being stopped: it takes no new calls.
    pub async fn stopping(&self) {
        if let Some(member) = &self.0 {
            let drained = tokio::time::timeout(RENEWAL_TIME, nodes::drain(&member.store, &member.name, true)).await;
            if !matches!(drained, Ok(Ok(_))) {
                tracing::warn!("the other nodes do not know that this node is being stopped");
            }
        }
    }

    /// Sets whether a node takes new calls. Returns `false` if no living node has this name.
    pub async fn drain(&self, name: &str, drains: bool) -> Result<bool, StoreError> {
        match &self.0 {
            Some(member) => nodes::drain(&member.store, name, drains).await,
            None => Ok(false),
        }
    }

    /// Returns the numbers of messages on the bus. `None` if this server is alone.
    pub fn bus_counts(&self) -> Option<BusCounts> {
        self.0.as_ref().map(|member| member.bus.counts())
    }

    /// Whether this node is connected to the bus. `None` if this server is alone.
    pub fn is_on_bus(&self) -> Option<bool> {
        self.0.as_ref().map(|member| member.bus.is_connected())
    }

    /// Whether this node holds its lease. `None` if this server is alone.
    pub fn holds_lease(&self) -> Option<bool> {
        self.0.as_ref().map(|member| member.lease.lock().is_held(Instant::now()))
    }
}

/// Takes an epoch. If an earlier start with this name was killed a moment ago, waits until its lease has ended.
async fn join_after_predecessor(store: &Store, name: &str, details: &NodeDetails) -> Result<i64, JoinError> {
    let since = Instant::now();
    loop {
        match nodes::join(store, name, details).await {
            Err(JoinError::NameInUse { .. }) if since.elapsed() < PREDECESSOR => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            joined => return joined,
        }
    }
}

/// Renews the lease for as long as the node has it, and reports the changes.
async fn renew(member: Arc<Member>, changes: mpsc::Sender<Change>) {
    let mut connection = NodeConnection::of(&member.store);
    let mut due = Instant::now();
    while !member.has_left.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due).await;
        let sent = Instant::now();
        let details = NodeDetails { legs: member.legs.load(Ordering::Relaxed), ..member.details.lock().clone() };
        let renewed = tokio::time::timeout(RENEWAL_TIME, connection.renew(member.epoch, &details)).await;
        let health = member.store.health();
        match renewed {
            Ok(Ok(Some(seen))) => {
                let (findings, next) = {
                    let mut lease = member.lease.lock();
                    (lease.renewed(sent, &seen), lease.next_renewal(sent))
                };
                due = next;
                health.note(Check::Heartbeat, Ok(()));
                for finding in findings {
                    let Some(change) = change_of(&member, &mut connection, finding).await else { continue };
                    let expired = if let Change::Expired(row) = &change { Some(row.epoch) } else { None };
                    // The lease must not wait for a slow reader. A dead node is found again at the next renewal.
                    match changes.try_send(change) {
                        Ok(()) => expired.into_iter().for_each(|epoch| member.lease.lock().begin(epoch)),
                        Err(TrySendError::Full(change)) => {
                            tracing::error!(?change, "a change of the cluster was dropped");
                        }
                        Err(TrySendError::Closed(_)) => return,
                    }
                }
            }
            Ok(Ok(None)) => {
                if !member.has_left.load(Ordering::Relaxed) {
                    member.lost.cancel();
                }
                return;
            }
            Ok(Err(error)) => {
                health.note(Check::Heartbeat, Err(error.to_string()));
                due = sent + Duration::from_millis(250);
            }
            Err(_) => {
                let text = format!("the database did not answer within {} s", RENEWAL_TIME.as_secs());
                health.note(Check::Heartbeat, Err(text));
                // The dropped connection may hang for ever.
                connection = NodeConnection::of(&member.store);
                due = Instant::now();
            }
        }
        report_bus(&member);
    }
}

/// Returns the change that a finding means. If a node has expired and this node does not become its successor, there is no
/// change for this node.
async fn change_of(member: &Member, connection: &mut NodeConnection, finding: Finding) -> Option<Change> {
    let row = match finding {
        Finding::Joined(row) => return Some(Change::Joined(row)),
        Finding::Left(row) => return Some(Change::Left(row)),
        Finding::Changed(settings) => return Some(Change::Settings(settings)),
        Finding::Expired(row) => row,
    };
    match tokio::time::timeout(RENEWAL_TIME, connection.declare_dead(row.epoch, member.epoch)).await {
        Ok(Ok(true)) => {
            // The node may be cut off from the database only.
            member.post(&Dead { epoch: row.epoch });
            Some(Change::Expired(row))
        }
        Ok(Ok(false)) => None,
        // The next renewal finds the node again, also if only the answer of the database was lost.
        Ok(Err(error)) => {
            tracing::warn!(%error, node = row.name, "cannot declare a silent node dead");
            None
        }
        Err(_) => {
            tracing::warn!(node = row.name, "cannot declare a silent node dead: the database does not answer");
            *connection = NodeConnection::of(&member.store);
            None
        }
    }
}

/// Reports that the bus is away, once for each time.
fn report_bus(member: &Member) {
    let is_away = !member.bus.is_connected();
    if member.bus_was_away.swap(is_away, Ordering::Relaxed) != is_away {
        if is_away {
            let text = "this node is not connected to cluster.bus: it continues its calls, and answers 503 to requests for \
                        calls of other nodes";
            member.store.health().report(&AccountName::server(), Cause::BusAway, text.to_owned());
        } else {
            tracing::info!("connected to cluster.bus again");
        }
    }
}

/// Returns whether a node with this state takes calls, as a word for people.
pub fn state_word(view: &NodeView) -> &'static str {
    let is_late = view.row.state.is_living() && view.age >= HELD;
    match view.row.state {
        NodeState::Alive | NodeState::Draining if is_late => "silent",
        state => state.word(),
    }
}
