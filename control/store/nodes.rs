//! The nodes of a cluster: who is alive, by the clock of the database. Only PostgreSQL has several nodes.
//!
//! ```text
//!   join ──► alive ──(leave)──────────────────────────────► gone
//!              └───(no renewal for EXPIRY, declare_dead)──► dead ──(the successor has ended its calls)──► gone
//! ```
//!
//! A row is one start of a server: an epoch. A server that has lost its epoch never gets it back: it must start again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::any::{AnyConnectOptions, AnyRow};
use sqlx::{AnyConnection, ConnectOptions as _, Executor, Row};

use super::column::Columns;
use super::{Store, StoreError};

/// Time after the last renewal at which a node counts as dead.
pub const EXPIRY: Duration = Duration::from_secs(3);

/// The lock that is held while a node takes its epoch. It consists of the text "tandem" and a number.
const JOINING: i64 = 0x7461_6e64_656d_0002;

/// The time in microseconds since 1970 UTC, by the clock of the database.
pub(super) const NOW: &str = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT";

/// A node: one start of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// The number of this start. Later starts have larger numbers.
    pub epoch: i64,
    /// The configured name.
    pub name: String,
    pub state: NodeState,
    /// The last renewal, by the clock of the database.
    pub alive_at: Timestamp,
    /// The epoch of the node that ends the calls of this dead node.
    pub successor: Option<i64>,
    pub details: NodeDetails,
}

/// The facts about a node for other nodes and for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDetails {
    /// Version of the program.
    pub version: String,
    /// Address of the HTTP listener.
    pub http: String,
    /// The SIP address for people and proxies, in the form `udp://ADDRESS:PORT`.
    pub sip: String,
    /// The SIP addresses for other nodes.
    pub hops: Hops,
    /// The addresses of the SIP sockets from which the node sends to other nodes.
    pub addresses: Vec<SocketAddr>,
    /// Number of live legs.
    pub legs: u64,
}

/// The SIP addresses for other nodes, by transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hops {
    pub udp: Option<SocketAddr>,
    pub tcp: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// The node takes calls.
    Alive,
    /// The node continues its calls, and takes no new calls.
    Draining,
    /// The node has not renewed its row in time, and its successor ends its calls.
    Dead,
    /// The node has stopped, or its successor has ended its calls.
    Gone,
}

impl NodeState {
    /// Returns the word for this state in the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Dead => "dead",
            Self::Gone => "gone",
        }
    }

    /// Whether a node with this state owns its calls.
    pub fn is_living(self) -> bool {
        matches!(self, Self::Alive | Self::Draining)
    }

    pub(super) fn parse(word: &str) -> Result<Self, StoreError> {
        let all = [Self::Alive, Self::Draining, Self::Dead, Self::Gone];
        let found = all.into_iter().find(|state| state.word() == word);
        found.ok_or_else(|| StoreError::Corrupt { column: "state", value: word.to_owned() })
    }
}

/// All nodes that are not gone, at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The time, by the clock of the database.
    pub now: Timestamp,
    pub rows: Vec<NodeRow>,
    /// The number of changes of each group of stored settings. The map has no group without a change.
    pub changes: BTreeMap<String, i64>,
}

/// A group of stored settings that every node has in memory. Triggers of PostgreSQL count the changes of each group, in
/// the transaction of the change. So no change is missed, whichever code makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settings {
    /// Numbers, applications, outbound profiles and verified caller IDs.
    Inventory,
    /// Subaccounts and API keys.
    Accounts,
    /// Phones, SIP domains, lists and customer trunks.
    Phones,
    /// Call queues.
    Queues,
    /// The entries of the web console.
    Entries,
}

impl Settings {
    pub const ALL: [Self; 5] = [Self::Inventory, Self::Accounts, Self::Phones, Self::Queues, Self::Entries];

    /// The word in the key of the counter.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Accounts => "accounts",
            Self::Phones => "phones",
            Self::Queues => "queues",
            Self::Entries => "entries",
        }
    }

    /// The kinds of resources in this group.
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Inventory => &["number", "application", "outbound profile", "caller"],
            Self::Accounts => &["account", "key"],
            Self::Phones => &[
                "phone",
                "connection-phone",
                "connection-to-hosts",
                "connection-to-addresses",
                "connection-host",
                "connection-address",
                "trunk",
                "origination",
            ],
            Self::Queues => &["queue"],
            Self::Entries => &["entry"],
        }
    }

    /// The tables that belong to this group as a whole.
    fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Phones => &["sip_domains", "sip_lists", "sip_credentials", "sip_addresses", "sip_mappings"],
            Self::Inventory | Self::Accounts | Self::Queues | Self::Entries => &[],
        }
    }

    /// The triggers of this group: their names, and the statements that create them. A trigger whose statement changes
    /// needs a new name.
    fn triggers(self) -> Vec<(String, String)> {
        let word = self.word();
        let kinds: Vec<String> = self.kinds().iter().map(|kind| format!("'{kind}'")).collect();
        let kinds = kinds.join(", ");
        let trigger = |name: String, when: &str| {
            let sql = format!("CREATE TRIGGER tandem_{name} {when} EXECUTE FUNCTION tandem_count_change('{word}')");
            (format!("tandem_{name}"), sql)
        };
        let written = format!("AFTER INSERT OR UPDATE ON resources FOR EACH ROW WHEN (NEW.kind IN ({kinds}))");
        let deleted = format!("AFTER DELETE ON resources FOR EACH ROW WHEN (OLD.kind IN ({kinds}))");
        let mut statements =
            vec![trigger(format!("{word}_written"), &written), trigger(format!("{word}_deleted"), &deleted)];
        for table in self.tables() {
            let when = format!("AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH STATEMENT");
            statements.push(trigger(format!("{word}_{table}"), &when));
        }
        statements
    }
}

/// The numbers of changes of each group of settings that this process has made, in the order of [`Settings::ALL`].
#[derive(Debug, Default)]
pub(super) struct Written([AtomicU64; Settings::ALL.len()]);

impl Written {
    /// Counts a change of a resource of this kind, if the kind is a setting.
    pub(super) fn add_kind(&self, kind: &str) {
        if let Some(group) = Settings::ALL.into_iter().find(|group| group.kinds().contains(&kind)) {
            self.add(group);
        }
    }

    pub(super) fn add(&self, group: Settings) {
        if let Some(count) = self.0.get(group as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The changes of settings of this process up to a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingsWritten([u64; Settings::ALL.len()]);

impl SettingsWritten {
    /// Returns the groups that have changed since this time.
    pub fn changed(self, store: &Store) -> Vec<Settings> {
        let now = store.settings_written();
        let changed = Settings::ALL.into_iter().zip(self.0.iter().zip(now.0));
        changed.filter(|(_, (before, now))| *before != now).map(|(group, _)| group).collect()
    }
}

impl Store {
    /// Returns the changes of settings that this process has made.
    pub fn settings_written(&self) -> SettingsWritten {
        SettingsWritten(std::array::from_fn(|group| {
            self.written.0.get(group).map_or(0, |count| count.load(Ordering::Relaxed))
        }))
    }
}

/// The function of the triggers. Its argument is the word of the group.
const COUNT_CHANGE: &str = "CREATE OR REPLACE FUNCTION tandem_count_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    INSERT INTO server (key, value) VALUES ('changes of ' || TG_ARGV[0], 1) \
    ON CONFLICT (key) DO UPDATE SET value = server.value + 1; RETURN NULL; END $$";

/// The reason why a server cannot join a cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "a node with the name {name:?} is alive, at {address}: give each node its own cluster.node, or stop this node first"
    )]
    NameInUse { name: String, address: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The connection with which a node renews its row. It is no connection of the pool: a renewal must not wait for others,
/// and after an error the connection is replaced.
pub struct NodeConnection {
    options: AnyConnectOptions,
    open: Option<AnyConnection>,
}

impl NodeConnection {
    pub fn of(store: &Store) -> Self {
        Self { options: store.options.clone(), open: None }
    }

    /// Takes the open connection, or opens one. After an error, or if the future that uses it is dropped, it is closed.
    async fn take(&mut self) -> Result<AnyConnection, StoreError> {
        match self.open.take() {
            Some(open) => Ok(open),
            None => Ok(self.options.connect().await?),
        }
    }

    /// Renews the row of a living node, and reads all nodes. Returns `None` if the node has no living row any more: it
    /// has lost its epoch.
    pub async fn renew(&mut self, epoch: i64, details: &NodeDetails) -> Result<Option<Seen>, StoreError> {
        let mut connection = self.take().await?;
        let seen = renew(&mut connection, epoch, details).await?;
        self.open = Some(connection);
        Ok(seen)
    }

    /// Declares a node dead that was not renewed for [`EXPIRY`], with `successor` as the node that ends its calls. A dead node
    /// whose successor is dead or gone gets the new successor too. Returns `false` if the node was renewed, or has another
    /// successor.
    pub async fn declare_dead(&mut self, epoch: i64, successor: i64) -> Result<bool, StoreError> {
        let mut connection = self.take().await?;
        let sql = format!(
            "UPDATE nodes SET state = 'dead', heir = $2 WHERE epoch = $1 AND (state IN ('alive', 'draining') \
             AND alive_at <= {NOW} - {} OR state = 'dead' AND (heir = $2 OR NOT EXISTS \
             (SELECT 1 FROM nodes AS other WHERE other.epoch = nodes.heir AND other.state IN ('alive', 'draining'))))",
            EXPIRY.as_micros()
        );
        let done = sqlx::query(super::assembled(sql)).bind(epoch).bind(successor).execute(&mut connection).await?;
        self.open = Some(connection);
        Ok(done.rows_affected() > 0)
    }
}

async fn renew(connection: &mut AnyConnection, epoch: i64, details: &NodeDetails) -> Result<Option<Seen>, StoreError> {
    let sql =
        format!("UPDATE nodes SET alive_at = {NOW}, details = $2 WHERE epoch = $1 AND state IN ('alive', 'draining')");
    // The serialisation of these types cannot fail.
    let details = serde_json::to_string(details).unwrap_or_default();
    let done = sqlx::query(super::assembled(sql)).bind(epoch).bind(details).execute(&mut *connection).await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    let seen = seen(&mut *connection).await?;
    Ok(Some(Seen { changes: changes(connection).await?, ..seen }))
}

/// Returns the number of changes of each group of stored settings.
async fn changes<'c>(executor: impl Executor<'c, Database = sqlx::Any>) -> Result<BTreeMap<String, i64>, StoreError> {
    let rows = sqlx::query("SELECT SUBSTR(key, 12) AS key, value FROM server WHERE key LIKE 'changes of %'");
    let rows = rows.fetch_all(executor).await?;
    rows.iter().map(|row| Ok((row.try_get("key")?, row.try_get("value")?))).collect()
}

async fn seen<'c>(executor: impl Executor<'c, Database = sqlx::Any>) -> Result<Seen, StoreError> {
    // The first row has only the time.
    let sql = format!(
        "SELECT 0::BIGINT AS epoch, '' AS name, 'gone' AS state, {NOW} AS alive_at, NULL::BIGINT AS heir, '{{}}' AS details \
         UNION ALL SELECT epoch, name, state, alive_at, heir, details FROM nodes WHERE state <> 'gone' ORDER BY epoch"
    );
    let rows = sqlx::query(super::assembled(sql)).fetch_all(executor).await?;
    let mut rows = rows.iter().map(read);
    let now = rows.next().transpose()?.map_or(Timestamp::UNIX_EPOCH, |row| row.alive_at);
    Ok(Seen { now, rows: rows.collect::<Result<_, _>>()?, changes: BTreeMap::new() })
}

/// Returns all nodes that are not gone.
pub async fn list(store: &Store) -> Result<Seen, StoreError> {
    let seen = seen(&store.pool).await?;
    Ok(Seen { changes: changes(&store.pool).await?, ..seen })
}

/// Returns the id of the cluster. The first node that asks makes the id.
pub async fn cluster_id(store: &Store) -> Result<i64, StoreError> {
    let new = i64::from(rand::random::<u32>());
    sqlx::query("INSERT INTO server (key, value) VALUES ('cluster', $1) ON CONFLICT (key) DO NOTHING")
        .bind(new)
        .execute(&store.pool)
        .await?;
    Ok(sqlx::query_scalar("SELECT value FROM server WHERE key = 'cluster'").fetch_one(&store.pool).await?)
}

/// Adds a node with the next epoch, and returns the epoch. An earlier start with the same name that is not renewed any
/// more becomes dead, with the new node as its successor.
///
/// # Errors
/// [`JoinError::NameInUse`] if a node with this name was renewed within the last [`EXPIRY`].
pub async fn join(store: &Store, name: &str, details: &NodeDetails) -> Result<i64, JoinError> {
    let mut transaction = store.pool.begin().await.map_err(StoreError::from)?;
    let joined = join_within(&mut transaction, name, details).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(joined)
}

/// Creates the triggers that are missing. A trigger needs a lock on its table, so existing triggers are left alone.
async fn create_triggers(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let names =
        sqlx::query_scalar("SELECT tgname::TEXT FROM pg_trigger WHERE tgname LIKE 'tandem%' AND NOT tgisinternal");
    let present: Vec<String> = names.fetch_all(&mut *connection).await?;
    let all = Settings::ALL.into_iter().flat_map(Settings::triggers);
    let missing: Vec<_> = all.filter(|(name, _)| !present.contains(name)).map(|(_, sql)| sql).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for statement in ["SET LOCAL lock_timeout = '10s'".to_owned(), COUNT_CHANGE.to_owned()].into_iter().chain(missing) {
        sqlx::query(super::assembled(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn join_within(connection: &mut AnyConnection, name: &str, details: &NodeDetails) -> Result<i64, JoinError> {
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)::TEXT").bind(JOINING);
    lock.execute(&mut *connection).await.map_err(StoreError::from)?;
    create_triggers(&mut *connection).await?;
    let seen = seen(&mut *connection).await?;
    let mut same = seen.rows.iter().filter(|row| row.name == name && row.state.is_living());
    if let Some(living) = same.find(|row| seen.now.duration_since(row.alive_at).unsigned_abs() < EXPIRY) {
        return Err(JoinError::NameInUse { name: name.to_owned(), address: living.details.http.clone() });
    }
    let last: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(epoch), 0) FROM nodes")
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::from)?;
    let tag = tandem_id::node::NodeTag::of_epoch;
    // The tag of a new epoch differs from the tags of all nodes that are not gone.
    let is_free = |epoch: i64| tag(epoch).is_some_and(|own| seen.rows.iter().all(|row| tag(row.epoch) != Some(own)));
    let epoch = (last + 1..).find(|epoch| is_free(*epoch)).unwrap_or(last + 1);
    let sql = "UPDATE nodes SET state = 'dead', heir = $2 WHERE name = $1 AND state IN ('alive', 'draining')";
    sqlx::query(sql).bind(name.to_owned()).bind(epoch).execute(&mut *connection).await.map_err(StoreError::from)?;
    let sql = format!("INSERT INTO nodes (epoch, name, state, alive_at, details) VALUES ($1, $2, 'alive', {NOW}, $3)");
    sqlx::query(super::assembled(sql))
        .bind(epoch)
        .bind(name.to_owned())
        .bind(serde_json::to_string(details).unwrap_or_default())
        .execute(&mut *connection)
        .await
        .map_err(StoreError::from)?;
    // The row with the largest epoch stays, because the next epoch depends on it.
    sqlx::query("DELETE FROM nodes WHERE state = 'gone' AND epoch < $1 - 1000")
        .bind(epoch)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::from)?;
    Ok(epoch)
}

/// Ends the row of a node: the node stops, or its successor has ended its calls.
pub async fn end(store: &Store, epoch: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE nodes SET state = 'gone' WHERE epoch = $1").bind(epoch).execute(&store.vital).await?;
    Ok(())
}

/// Sets whether a living node takes calls. Returns `false` if no living node has this name.
pub async fn drain(store: &Store, name: &str, drains: bool) -> Result<bool, StoreError> {
    let state = if drains { NodeState::Draining } else { NodeState::Alive };
    let sql = "UPDATE nodes SET state = $2 WHERE name = $1 AND state IN ('alive', 'draining')";
    let done = sqlx::query(sql).bind(name.to_owned()).bind(state.word()).execute(&store.pool).await?;
    Ok(done.rows_affected() > 0)
}

fn read(row: &AnyRow) -> Result<NodeRow, StoreError> {
    let columns = Columns(row);
    let details = columns.text("details")?;
    Ok(NodeRow {
        epoch: columns.integer("epoch")?,
        name: columns.text("name")?,
        state: NodeState::parse(&columns.text("state")?)?,
        alive_at: columns.time("alive_at")?,
        successor: row.try_get("heir")?,
        details: serde_json::from_str(&details)
            .map_err(|_| StoreError::Corrupt { column: "details", value: details.clone() })?,
    })
}
