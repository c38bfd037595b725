//! The slices of the limits that nodes share: one row for each limit and node. Only PostgreSQL has several nodes.
//!
//! A node changes its rows in a transaction that holds a lock, so no two nodes change slices at the same time. The change
//! also says what the node needs. Each change gets a number that is larger than all numbers before, so a node reads only
//! what has changed since its last read.

use sqlx::any::{AnyConnectOptions, AnyRow};
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::column::Columns;
use super::nodes::NodeState;
use super::{Store, StoreError};

/// The lock that is held while a node changes slices. It consists of the text "tandem" and a number.
const CHANGING: i64 = 0x7461_6e64_656d_0003;

/// The settings of the connection, in milliseconds. A node that hangs in the middle of a change must not stop the other
/// nodes.
const SETTINGS: [&str; 3] =
    ["SET lock_timeout = 800", "SET statement_timeout = 900", "SET idle_in_transaction_session_timeout = 1500"];

/// Time in microseconds after which a row without an amount is removed. A node reads the changes each second, so every
/// node has read before that the row has no amount.
const FORGOTTEN_AFTER: i64 = 600_000_000;

/// The part of a limit that a node may use, and what the node needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceRow {
    /// The name of the limit.
    pub name: String,
    /// The epoch of the node.
    pub epoch: i64,
    /// The part of the limit that the node may use. The node uses at most this part.
    pub amount: u32,
    /// The part of the limit that the node uses or needs, at about the time of the change.
    pub need: u32,
    /// How urgently the node needs more. 0: it has enough.
    pub urgency: u8,
}

/// The nodes, and rows of slices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SliceChanges {
    /// The epochs and states of all nodes that are not gone.
    pub nodes: Vec<(i64, NodeState)>,
    /// The rows. No row belongs to a node that is gone.
    pub rows: Vec<SliceRow>,
    /// The number of the latest change of these rows. 0 if there is none.
    pub latest: i64,
    /// The time in microseconds since 1970 UTC, by the clock of the database.
    pub now: i64,
}

/// The connection with which a node reads and changes slices. It is no connection of the pool: a change must not wait for
/// others, and after an error the connection is replaced.
pub struct SliceConnection {
    options: AnyConnectOptions,
    open: Option<AnyConnection>,
}

impl SliceConnection {
    pub fn of(store: &Store) -> Self {
        Self { options: store.options.clone(), open: None }
    }

    /// Whether the connection is open. After an error it is closed.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the open connection, or opens one. After an error, or if the future that uses it is dropped, it is closed.
    async fn take(&mut self) -> Result<AnyConnection, StoreError> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let mut connection = self.options.connect().await?;
        for setting in SETTINGS {
            connection.execute(setting).await?;
        }
        Ok(connection)
    }

    /// Returns the rows with a change after the change `after`.
    pub async fn read(&mut self, after: i64) -> Result<SliceChanges, StoreError> {
        let mut connection = self.take().await?;
        let rows = sqlx::query(super::assembled(select("changed > $1"))).bind(after).fetch_all(&mut connection).await?;
        self.open = Some(connection);
        changes(&rows, after)
    }

    /// Changes slices of the node with this epoch. `decide` gets all rows of the limits with these names, and returns the
    /// rows to write. These must be rows of this node. Returns the rows of these limits after the change. Returns `None` if
    /// the node has no living row any more, and writes nothing.
    pub async fn change(
        &mut self,
        epoch: i64,
        names: &[&str],
        decide: impl FnOnce(&SliceChanges) -> Vec<SliceRow>,
    ) -> Result<Option<SliceChanges>, StoreError> {
        let mut connection = self.take().await?;
        let mut transaction = connection.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)::TEXT").bind(CHANGING).execute(&mut *transaction).await?;
        let names = serde_json::to_string(names).unwrap_or_default();
        let of_names = "name IN (SELECT json_array_elements_text(CAST($1 AS json)))";
        let rows = sqlx::query(super::assembled(select(of_names))).bind(names).fetch_all(&mut *transaction).await?;
        let mut fresh = changes(&rows, 0)?;
        if !fresh.nodes.iter().any(|(node, state)| *node == epoch && state.is_living()) {
            return Ok(None);
        }
        let new = decide(&fresh);
        if !new.is_empty() {
            let sql = format!(
                "INSERT INTO limit_slices (name, epoch, amount, need, urgency, changed) \
                 SELECT name, $2, amount, need, urgency, (SELECT GREATEST(COALESCE(MAX(changed), 0) + 1, {NOW}) FROM limit_slices) \
                 FROM json_to_recordset(CAST($1 AS json)) AS new (name TEXT, amount BIGINT, need BIGINT, urgency BIGINT) \
                 ON CONFLICT (name, epoch) DO UPDATE SET \
                 amount = EXCLUDED.amount, need = EXCLUDED.need, urgency = EXCLUDED.urgency, changed = EXCLUDED.changed",
                NOW = super::nodes::NOW
            );
            let written = new.iter().map(|row| {
                serde_json::json!({ "name": row.name, "amount": row.amount, "need": row.need, "urgency": row.urgency })
            });
            let written = serde_json::Value::Array(written.collect()).to_string();
            sqlx::query(super::assembled(sql)).bind(written).bind(epoch).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        self.open = Some(connection);
        fresh.rows.retain(|row| row.epoch != epoch || new.iter().all(|new| new.name != row.name));
        fresh.rows.extend(new);
        Ok(Some(fresh))
    }

    /// Removes the rows of nodes that are gone, and rows without an amount that have not changed for 10 min. They have no
    /// meaning.
    pub async fn prune(&mut self) -> Result<(), StoreError> {
        let mut connection = self.take().await?;
        let sql = format!(
            "DELETE FROM limit_slices WHERE epoch NOT IN (SELECT epoch FROM nodes WHERE state <> 'gone') \
             OR amount = 0 AND changed < {} - {FORGOTTEN_AFTER}",
            super::nodes::NOW
        );
        sqlx::query(super::assembled(sql)).execute(&mut connection).await?;
        self.open = Some(connection);
        Ok(())
    }
}

/// Returns the query for the nodes that are not gone, and their rows with this condition. The first row has only the time.
fn select(condition: &str) -> String {
    format!(
        "SELECT '' AS name, 0::BIGINT AS epoch, 'gone' AS state, 0::BIGINT AS amount, 0::BIGINT AS need, \
         0::BIGINT AS urgency, {} AS changed, 0 AS part \
         UNION ALL SELECT '', epoch, state, 0, 0, 0, 0, 1 FROM nodes WHERE state <> 'gone' \
         UNION ALL SELECT name, epoch, '', amount, need, urgency, changed, 2 FROM limit_slices \
         WHERE {condition} AND epoch IN (SELECT epoch FROM nodes WHERE state <> 'gone') ORDER BY part, epoch",
        super::nodes::NOW
    )
}

fn changes(rows: &[AnyRow], after: i64) -> Result<SliceChanges, StoreError> {
    let mut found = SliceChanges { latest: after, ..SliceChanges::default() };
    for row in rows {
        let columns = Columns(row);
        let part: i32 = row.try_get("part")?;
        let (epoch, changed) = (columns.integer("epoch")?, columns.integer("changed")?);
        match part {
            0 => found.now = changed,
            1 => found.nodes.push((epoch, NodeState::parse(&columns.text("state")?)?)),
            _ => {
                let number = |column: &'static str| {
                    let value = columns.integer(column)?;
                    u32::try_from(value).map_err(|_| StoreError::Corrupt { column, value: value.to_string() })
                };
                found.latest = found.latest.max(changed);
                found.rows.push(SliceRow {
                    name: columns.text("name")?,
                    epoch,
                    amount: number("amount")?,
                    need: number("need")?,
                    urgency: u8::try_from(number("urgency")?).unwrap_or(u8::MAX),
                });
            }
        }
    }
    Ok(found)
}
