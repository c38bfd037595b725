//! The arithmetic of limits that several nodes share, without I/O. Each node has a slice of each limit: the part that it
//! may use. The sum of the slices of a limit is never above the limit, so a node decides about a call alone.
//!
//! ```text
//!            plan                     decide (under the lock)        committed
//!   usage ────────► lower locally ──► write rows ──────────────────► raise locally
//!                        ▲                 │
//!   rows of others ──────┘                 └──► the rows of this node for others
//! ```
//!
//! The rows of a limit in the database have the amounts, and about what each node needs. Three rules keep the sum below the
//! limit:
//!
//! - A node uses at most the amount of its row. It lowers its own use first and the row second, and raises the row first.
//! - A node raises its row only by what the rows of all nodes leave free, and under a lock.
//! - The row of a node counts until the node is gone.
//!
//! The needs only decide how the rest is divided. Wrong needs cost calls, but never break the limit.

mod division;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tandem_store::nodes::NodeState;
use tandem_store::slices::{SliceChanges, SliceRow};

use division::{Claim, Division, Share};

/// Time in microseconds for which a rest that cannot be divided stays at one of several nodes that need it.
const TURN: i64 = 4_000_000;

/// The name of a limit.
pub type LimitName = Arc<str>;

/// How urgently a node needs more of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Urgency {
    /// The node has enough, or has no calls.
    #[default]
    None,
    /// The node has used up its slice, and has had a call a moment ago.
    UsedUp,
    /// The node has refused a call a moment ago because its slice is used up.
    Refused,
}

impl Urgency {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::UsedUp,
            _ => Self::Refused,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::UsedUp => 1,
            Self::Refused => 2,
        }
    }
}

/// The use of a limit by this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// The limit of all nodes together.
    pub limit: u32,
    /// The part that this node cannot give away: the calls that it has. 0 for most rates.
    pub held: u32,
    /// The part that this node uses: the calls that it has, or the calls of the last second.
    pub need: u32,
    pub urgency: Urgency,
}

/// The steps of this node to divide the limits well.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// The slices that this node must lower before it writes its rows, with their new amounts.
    pub lower: Vec<(LimitName, u32)>,
    /// The limits whose rows this node must write. The lowered limits are part of them.
    pub write: Vec<LimitName>,
    /// Whether other nodes should look at the rows at once.
    pub concerns_others: bool,
}

/// The slices of this node, and the rows of all nodes as they were last read.
#[derive(Debug)]
pub struct Slices {
    epoch: i64,
    nodes: BTreeMap<i64, NodeState>,
    /// The rows, by limit and epoch.
    rows: HashMap<LimitName, BTreeMap<i64, Share>>,
    /// The amounts that this node uses at most. Never above the amounts of its rows.
    own: HashMap<LimitName, u32>,
    latest: i64,
    /// The time of the last read by the clock of the database, in microseconds.
    now: i64,
}

impl Slices {
    /// Makes the slices of the node with this epoch. The node has none.
    pub fn new(epoch: i64) -> Self {
        let nodes = BTreeMap::new();
        Self { epoch, nodes, rows: HashMap::new(), own: HashMap::new(), latest: 0, now: 0 }
    }

    /// Returns the number of the last change that was read.
    pub fn latest(&self) -> i64 {
        self.latest
    }

    /// Whether this node has neither slices nor rows.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.rows.is_empty()
    }

    /// Returns the slice of this node.
    pub fn amount(&self, name: &str) -> u32 {
        self.own.get(name).copied().unwrap_or(0)
    }

    /// Handles a read of all rows that have changed since [`Self::latest`], or of all rows.
    pub fn read(&mut self, changes: &SliceChanges, is_complete: bool) {
        if is_complete {
            self.rows.clear();
        }
        self.latest = changes.latest;
        self.merge(changes);
    }

    fn merge(&mut self, changes: &SliceChanges) {
        self.now = changes.now;
        self.nodes = changes.nodes.iter().copied().collect();
        for row in &changes.rows {
            let rows = match self.rows.get_mut(row.name.as_str()) {
                Some(rows) => rows,
                None => self.rows.entry(row.name.as_str().into()).or_default(),
            };
            rows.insert(row.epoch, Share::of(row));
        }
        let nodes = &self.nodes;
        self.rows.retain(|_, rows| {
            rows.retain(|epoch, share| {
                nodes.contains_key(epoch) && (share.amount, share.need, share.urgency) != (0, 0, Urgency::None)
            });
            !rows.is_empty()
        });
    }

    /// Returns what this node must do. `usages` has the limits that are configured.
    pub fn plan(&self, usages: &HashMap<LimitName, Usage>) -> Plan {
        let mut plan = Plan::default();
        for (name, usage) in usages {
            let (own, row) = (self.amount(name), self.row(name));
            let division = self.division(name, usage);
            let target = division.own.max(usage.held);
            let room = self.room(name, usage.limit);
            // If the limit was lowered, the sum of the slices may be above the limit.
            let must_lower = room < own || !self.takes_calls() || division.has_short_node(usage);
            if target < own && must_lower {
                plan.lower.push((Arc::clone(name), target));
                plan.concerns_others = true;
            } else if target > own && room > own || own != row.amount || is_news(usage, &row) {
                plan.write.push(Arc::clone(name));
                plan.concerns_others |= self.is_pressing(name, usage);
            }
        }
        // A limit that is not configured any more.
        let kept = self.own.iter().filter(|(_, amount)| **amount > 0).map(|(name, _)| name);
        let written = self.rows.iter().filter(|(_, rows)| rows.contains_key(&self.epoch)).map(|(name, _)| name);
        let unused = kept.chain(written).filter(|name| !usages.contains_key(*name));
        plan.lower.extend(unused.map(|name| (Arc::clone(name), 0)));
        plan.lower.sort_unstable();
        plan.lower.dedup();
        plan.write.extend(plan.lower.iter().map(|(name, _)| Arc::clone(name)));
        plan
    }

    /// Whether the row of this node says that it has more room than it has: others should know, and this node may need more
    /// soon.
    pub fn is_pressing(&self, name: &str, usage: &Usage) -> bool {
        let (row, own) = (self.row(name), self.amount(name));
        usage.urgency > row.urgency || row.headroom() > 0 && own.saturating_sub(usage.need) * 2 <= row.headroom()
    }

    /// Notes that this node uses at most `amount` from now on.
    pub fn lowered(&mut self, name: &LimitName, amount: u32) {
        if amount == 0 {
            self.own.remove(name);
        } else {
            self.own.insert(Arc::clone(name), amount);
        }
    }

    /// Returns the rows that this node writes, from the present rows of these limits. Called under the lock, after
    /// [`Self::lowered`].
    pub fn decide(
        &self,
        names: &[LimitName],
        usages: &HashMap<LimitName, Usage>,
        fresh: &SliceChanges,
    ) -> Vec<SliceRow> {
        let mut present = Self::new(self.epoch);
        present.merge(fresh);
        let mut rows = Vec::new();
        for name in names {
            let usage = usages.get(name).copied().unwrap_or_default();
            let (own, row) = (self.amount(name), present.row(name));
            let target = present.division_with(name, &usage, own).own;
            let free = present.room(name, usage.limit);
            // Calls that the slice does not cover continue, for example after the limit was lowered. They take the places
            // of other nodes.
            let amount = own.max(target.min(free)).max(usage.held);
            let urgency = if amount > own { Urgency::None } else { usage.urgency };
            let new = Share { amount, need: usage.need, urgency };
            if (new.amount, new.need, new.urgency) != (row.amount, row.need, row.urgency) {
                rows.push(SliceRow {
                    name: name.to_string(),
                    epoch: self.epoch,
                    amount,
                    need: usage.need,
                    urgency: urgency.number(),
                });
            }
        }
        rows
    }

    /// Handles the rows after a change by this node was committed. Returns the slices that are larger now.
    pub fn committed(&mut self, fresh: &SliceChanges) -> Vec<(LimitName, u32)> {
        self.merge(fresh);
        let mut raised = Vec::new();
        for row in fresh.rows.iter().filter(|row| row.epoch == self.epoch) {
            if row.amount > self.amount(&row.name) {
                let name: LimitName = row.name.as_str().into();
                self.own.insert(Arc::clone(&name), row.amount);
                raised.push((name, row.amount));
            }
        }
        raised
    }

    fn takes_calls(&self) -> bool {
        self.nodes.get(&self.epoch) == Some(&NodeState::Alive)
    }

    /// Returns the row of this node.
    fn row(&self, name: &str) -> Share {
        self.rows.get(name).and_then(|rows| rows.get(&self.epoch)).copied().unwrap_or_default()
    }

    /// Returns what the rows of the other nodes leave of a limit.
    fn room(&self, name: &str, limit: u32) -> u32 {
        let others = self.rows.get(name).into_iter().flatten().filter(|(epoch, _)| **epoch != self.epoch);
        others.fold(limit, |room, (_, share)| room.saturating_sub(share.amount))
    }

    fn division(&self, name: &str, usage: &Usage) -> Division {
        self.division_with(name, usage, self.amount(name))
    }

    /// Divides a limit. `own` is the present slice of this node.
    fn division_with(&self, name: &str, usage: &Usage, own: u32) -> Division {
        let rows = self.rows.get(name);
        let mut limit = usage.limit;
        let mut claims = Vec::with_capacity(self.nodes.len());
        for (&epoch, &state) in &self.nodes {
            let share = rows.and_then(|rows| rows.get(&epoch)).copied().unwrap_or_default();
            match state {
                _ if epoch == self.epoch => {
                    let share = Share { amount: own, need: usage.need, urgency: usage.urgency };
                    claims.push(Claim { epoch, share, takes_calls: state == NodeState::Alive });
                }
                NodeState::Alive => claims.push(Claim { epoch, share, takes_calls: true }),
                NodeState::Draining => claims.push(Claim { epoch, share, takes_calls: false }),
                // Its calls may still exist.
                NodeState::Dead | NodeState::Gone => limit = limit.saturating_sub(share.amount),
            }
        }
        Division::of(self.epoch, limit, claims, self.now / TURN)
    }
}

/// Whether the use of this node differs so much from its row that others would divide differently: its room has at least
/// doubled or halved. So the number of writes grows only with the logarithm of the calls.
fn is_news(usage: &Usage, row: &Share) -> bool {
    let (room, claimed) = (row.amount.saturating_sub(usage.need), row.headroom());
    let (least, most) = (usage.need.min(row.need), usage.need.max(row.need));
    usage.urgency != row.urgency
        || claimed > 0 && u64::from(room) * 2 <= u64::from(claimed)
        || room > claimed && u64::from(room) >= u64::from(claimed) * 2
        || most > row.amount && u64::from(most - least) * 4 > u64::from(most)
}
