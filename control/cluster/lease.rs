//! The lease of a node, without I/O: how long this node may take calls, and which nodes are dead.
//!
//! Each node renews its row each second. Two rules keep the owners apart:
//!
//! - A node takes no calls from [`HELD`] after it *sent* its last successful renewal. The others count it as dead
//!   [`EXPIRY`] after the database *made* this renewal, which is later. So the node stops before another begins.
//! - A node judges others only after it has itself renewed for [`EXPIRY`] without a gap. So after the database was away
//!   from all nodes, none of them is declared dead, although all rows are old.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tandem_id::node::NodeTag;
use tandem_store::nodes::{EXPIRY, NodeRow, NodeState, Seen, Settings};
use tokio::time::Instant;

/// Interval between two renewals.
pub(crate) const RENEWAL: Duration = Duration::from_secs(1);

/// Time for which a successful renewal lets a node take calls, from the start of the renewal.
pub(crate) const HELD: Duration = Duration::from_millis(2_700);

/// Time after its start at which the others know a node: each of them has renewed its lease.
const KNOWN: Duration = Duration::from_secs(2);

/// Minimum pause between two renewals.
const MIN_PAUSE: Duration = Duration::from_millis(50);

/// The state of the lease, and the last known state of the other nodes.
#[derive(Debug)]
pub(crate) struct Lease {
    epoch: i64,
    held_until: Option<Instant>,
    /// The first of the renewals that followed each other without a gap.
    steady_since: Option<Instant>,
    is_draining: bool,
    others: BTreeMap<i64, NodeRow>,
    /// The number of changes of each group of stored settings, of which this node knows.
    changes: Option<BTreeMap<String, i64>>,
    /// The dead nodes whose calls this process ends.
    begun: BTreeSet<i64>,
    /// The time at which the other nodes know this node.
    known_from: Option<Instant>,
    /// The time of the last look at the nodes, by both clocks.
    looked: Option<(Instant, Timestamp)>,
}

/// The reason why a server takes no new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The server is being stopped.
    #[error("the server is being stopped")]
    Stopping,
    /// This node has just started, and the other nodes do not know it yet.
    #[error("this node has just joined the cluster")]
    Joining,
    /// An operator drains this node.
    #[error("this node is draining")]
    Draining,
    /// The lease of this node has ended, because the database did not answer.
    #[error("this node cannot renew its lease in the database")]
    NoLease,
}

/// The finding of a renewal about another node or about settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The node takes part now, or has other addresses now.
    Joined(NodeRow),
    /// The node was not renewed in time, or its successor has died. This node may become its successor.
    Expired(NodeRow),
    /// The node owns no calls any more: it is gone, or its successor ends its calls.
    Left(NodeRow),
    /// Stored settings of this group have changed.
    Changed(Settings),
}

impl Lease {
    pub(crate) fn new(epoch: i64) -> Self {
        Self {
            epoch,
            held_until: None,
            steady_since: None,
            is_draining: false,
            others: BTreeMap::new(),
            changes: None,
            begun: BTreeSet::new(),
            known_from: None,
            looked: None,
        }
    }

    /// Whether this node owns its calls at this time.
    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Returns the reason why this node takes no new calls.
    pub(crate) fn refusal(&self, now: Instant) -> Option<Refusal> {
        if !self.is_held(now) {
            return Some(Refusal::NoLease);
        }
        let is_unknown = self.known_from.is_some_and(|known| now < known);
        if is_unknown { Some(Refusal::Joining) } else { self.is_draining.then_some(Refusal::Draining) }
    }

    /// Returns the other nodes that own calls, with the newest epoch of each name.
    pub(crate) fn living(&self) -> impl Iterator<Item = &NodeRow> {
        self.others.values().filter(|row| row.state.is_living())
    }

    /// Returns all nodes that are not gone, except this node.
    pub(crate) fn others(&self) -> impl Iterator<Item = &NodeRow> {
        self.others.values()
    }

    /// Returns the living node with this tag, if it is not this node.
    pub(crate) fn living_with(&self, tag: NodeTag) -> Option<&NodeRow> {
        self.living().find(|row| NodeTag::of_epoch(row.epoch) == Some(tag))
    }

    /// Returns whether this node has the lowest epoch of the living nodes. One node does the work that only one may do.
    pub(crate) fn is_first(&self, now: Instant) -> bool {
        self.is_held(now) && self.living().all(|row| row.epoch > self.epoch)
    }

    /// Handles the start of this node. If there are other nodes, this node takes calls when they have renewed their leases,
    /// and so have seen it. The dead nodes whose successor it is are its own earlier starts.
    pub(crate) fn joined(&mut self, sent: Instant, seen: &Seen) {
        self.renewed(sent, seen);
        let has_others = self.living().next().is_some();
        self.known_from = has_others.then(|| sent + KNOWN);
        let own = self.others.values().filter(|row| row.successor == Some(self.epoch));
        self.begun = own.map(|row| row.epoch).collect();
    }

    /// Notes that this process ends the calls of a dead node.
    pub(crate) fn begin(&mut self, epoch: i64) {
        self.begun.insert(epoch);
    }

    /// Handles a successful renewal that was sent at `sent`.
    pub(crate) fn renewed(&mut self, sent: Instant, seen: &Seen) -> Vec<Finding> {
        if !self.is_held(sent) {
            self.steady_since = Some(sent);
        }
        self.held_until = Some(sent + HELD);
        self.looked = Some((sent, seen.now));
        let mut findings = Vec::new();
        let mut others = BTreeMap::new();
        for row in &seen.rows {
            if row.epoch == self.epoch {
                self.is_draining = row.state == NodeState::Draining;
                continue;
            }
            let before = self.others.remove(&row.epoch);
            let before = before.filter(|before| before.state.is_living());
            let has_moved = |before: &NodeRow| before.details.addresses != row.details.addresses;
            match (before, row.state.is_living()) {
                (before, true) if before.as_ref().is_none_or(has_moved) => findings.push(Finding::Joined(row.clone())),
                (Some(_), false) => findings.push(Finding::Left(row.clone())),
                (Some(_), true) | (None, _) => {}
            }
            others.insert(row.epoch, row.clone());
        }
        let gone = std::mem::replace(&mut self.others, others).into_values();
        findings.extend(gone.map(Finding::Left));
        if let Some(known) = self.changes.replace(seen.changes.clone()) {
            let is_changed = |group: &Settings| known.get(group.word()) != seen.changes.get(group.word());
            findings.extend(Settings::ALL.into_iter().filter(is_changed).map(Finding::Changed));
        }
        if self.steady_since.is_some_and(|since| sent.saturating_duration_since(since) >= EXPIRY)
            && self.is_judge(seen.now)
        {
            let expired = self.others.values().filter(|row| self.is_expired(row, seen.now));
            findings.extend(expired.cloned().map(Finding::Expired));
        }
        findings
    }

    /// Whether this node declares others dead: it has the lowest epoch of the nodes that are not expired. So the successor of a
    /// dead node is the node that also continues the webhook queues.
    fn is_judge(&self, now: Timestamp) -> bool {
        let mut lower = self.living().filter(|row| row.epoch < self.epoch);
        lower.all(|row| age(row, now) >= EXPIRY)
    }

    fn is_expired(&self, row: &NodeRow, now: Timestamp) -> bool {
        match row.state {
            NodeState::Alive | NodeState::Draining => age(row, now) >= EXPIRY,
            // The answer to the change that made this node the successor may have been lost.
            NodeState::Dead if row.successor == Some(self.epoch) => !self.begun.contains(&row.epoch),
            NodeState::Dead => {
                let successor = row.successor.and_then(|successor| self.others.get(&successor));
                successor.is_none_or(|successor| !successor.state.is_living())
            }
            NodeState::Gone => false,
        }
    }

    /// Returns the time of the next renewal: after [`RENEWAL`], or when another node expires.
    pub(crate) fn next_renewal(&self, sent: Instant) -> Instant {
        let regular = sent + RENEWAL;
        let Some((looked, now)) = self.looked.filter(|(looked, _)| *looked == sent) else { return regular };
        let expiries =
            self.living().map(|row| looked + EXPIRY.saturating_sub(age(row, now)) + Duration::from_millis(5));
        expiries.min().map_or(regular, |expiry| regular.min(expiry.max(sent + MIN_PAUSE)))
    }
}

/// Returns the time since the last renewal of a node. A renewal in the future has the age zero.
fn age(row: &NodeRow, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(row.alive_at)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tandem_store::nodes::NodeDetails;

    use super::*;

    const OWN: i64 = 1;

    fn row(epoch: i64, alive_at: i64) -> NodeRow {
        let alive_at = Timestamp::from_millisecond(alive_at).unwrap();
        let (name, details) = (format!("node-{epoch}"), NodeDetails::default());
        NodeRow { epoch, name, state: NodeState::Alive, alive_at, successor: None, details }
    }

    fn seen(now: i64, rows: impl IntoIterator<Item = NodeRow>) -> Seen {
        let changes = BTreeMap::new();
        Seen { now: Timestamp::from_millisecond(now).unwrap(), rows: rows.into_iter().collect(), changes }
    }

    fn expired(findings: &[Finding]) -> Vec<i64> {
        let expired = |finding: &Finding| match finding {
            Finding::Expired(row) => Some(row.epoch),
            Finding::Joined(_) | Finding::Left(_) | Finding::Changed(_) => None,
        };
        findings.iter().filter_map(expired).collect()
    }

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_node_takes_calls_until_shortly_before_the_others_count_it_as_dead() {
        let (start, mut lease) = (Instant::now(), Lease::new(OWN));
        assert!(!lease.is_held(start), "not before the first renewal");
        lease.renewed(start, &seen(0, [row(OWN, 0)]));
        assert!(lease.is_held(after(start, 2_699)) && !lease.is_held(after(start, 2_700)));
        assert!(HELD < EXPIRY);
    }

    #[test]
    fn a_silent_node_is_expired_three_seconds_after_its_last_renewal() {
        let (start, mut lease) = (Instant::now(), Lease::new(OWN));
        for second in 0..=4 {
            let at = second * 1_000;
            let found = lease.renewed(after(start, at as u64), &seen(at, [row(OWN, at), row(2, at)]));
            assert_eq!(expired(&found), [0; 0]);
        }
        // The last renewal of node 2 was at 4,000.
        for at in [5_000, 6_000] {
            assert_eq!(expired(&lease.renewed(after(start, at as u64), &seen(at, [row(2, 4_000)]))), [0; 0]);
        }
        // The next look is at the expiry, and not a second after the last look.
        assert_eq!(lease.next_renewal(after(start, 6_000)), after(start, 7_000), "which is the same time here");
        assert_eq!(expired(&lease.renewed(after(start, 6_500), &seen(6_500, [row(2, 4_000)]))), [0; 0]);
        assert_eq!(lease.next_renewal(after(start, 6_500)), after(start, 7_005));
        assert_eq!(expired(&lease.renewed(after(start, 7_005), &seen(7_005, [row(2, 4_000)]))), [2]);
    }

    #[test]
    fn nobody_is_declared_dead_right_after_the_database_was_away_from_all_nodes() {
        let (start, mut lease) = (Instant::now(), Lease::new(OWN));
        for second in 0..=4 {
            lease.renewed(after(start, second * 1_000), &seen(second as i64 * 1_000, [row(2, second as i64 * 1_000)]));
        }
        // The database returns after 20 s, and this node is the first to renew.
        for at in [24_000, 25_000, 26_000] {
            assert_eq!(expired(&lease.renewed(after(start, at), &seen(at as i64, [row(2, 4_000)]))), [0; 0]);
        }
        assert_eq!(expired(&lease.renewed(after(start, 27_000), &seen(27_000, [row(2, 4_000)]))), [2]);
    }

    #[test]
    fn only_the_first_of_the_living_nodes_declares_others_dead() {
        let (start, mut lease) = (Instant::now(), Lease::new(5));
        for at in [0, 1_000, 2_000, 3_000, 4_000] {
            let found = lease.renewed(after(start, at), &seen(at as i64, [row(1, at as i64), row(2, 0)]));
            assert_eq!(expired(&found), [0; 0], "node 1 lives");
        }
        let found = lease.renewed(after(start, 7_000), &seen(7_000, [row(1, 4_000), row(2, 0)]));
        assert_eq!(expired(&found), [0; 0], "this node did not renew for 3 s");
        for at in [8_000, 9_000] {
            lease.renewed(after(start, at), &seen(at as i64, [row(1, 4_000), row(2, 0)]));
        }
        let found = lease.renewed(after(start, 10_000), &seen(10_000, [row(1, 4_000), row(2, 0)]));
        assert_eq!(expired(&found), [1, 2], "node 1 is dead too");
    }

    #[test]
    fn a_dead_node_needs_another_heir_when_its_heir_is_dead_or_gone() {
        let (start, mut lease) = (Instant::now(), Lease::new(OWN));
        let dead = |successor| NodeRow { state: NodeState::Dead, successor: Some(successor), ..row(2, 0) };
        for at in [0, 1_000, 2_000, 3_000] {
            let found = lease.renewed(after(start, at), &seen(at as i64, [dead(3), row(3, at as i64)]));
            assert_eq!(expired(&found), [0; 0]);
        }
        assert_eq!(expired(&lease.renewed(after(start, 4_000), &seen(4_000, [dead(3)]))), [2], "the successor is gone");
        // The answer of the database was lost.
        assert_eq!(expired(&lease.renewed(after(start, 5_000), &seen(5_000, [dead(OWN)]))), [2]);
        lease.begin(2);
        assert_eq!(expired(&lease.renewed(after(start, 6_000), &seen(6_000, [dead(OWN)]))), [0; 0]);
    }

    #[test]
    fn a_new_node_takes_calls_when_the_others_know_it() {
        let start = Instant::now();
        let mut alone = Lease::new(OWN);
        alone.joined(start, &seen(0, [row(OWN, 0)]));
        assert_eq!(alone.refusal(start), None);
        let mut second = Lease::new(2);
        second.joined(start, &seen(0, [row(1, 0), row(2, 0)]));
        assert_eq!(second.refusal(after(start, 1_999)), Some(Refusal::Joining));
        assert_eq!(second.refusal(after(start, 2_000)), None);
    }

    #[test]
    fn changed_settings_are_found_once_after_the_first_renewal() {
        let (start, mut lease) = (Instant::now(), Lease::new(OWN));
        let changed = |at: i64, word: &str, count: i64| Seen {
            changes: BTreeMap::from([(word.to_owned(), count)]),
            ..seen(at, [])
        };
        assert_eq!(lease.renewed(start, &changed(0, "phones", 3)), [], "the settings are loaded after this renewal");
        assert_eq!(lease.renewed(start, &changed(1, "phones", 3)), []);
        assert_eq!(lease.renewed(start, &changed(2, "phones", 5)), [Finding::Changed(Settings::Phones)]);
        assert_eq!(lease.renewed(start, &changed(3, "phones", 5)), []);
    }

    #[test]
    fn nodes_join_drain_and_leave() {
        let (start, mut lease) = (Instant::now(), Lease::new(OWN));
        let found = lease.renewed(start, &seen(0, [row(OWN, 0), row(2, 0)]));
        assert_eq!(found, [Finding::Joined(row(2, 0))]);
        assert!(lease.is_first(start) && lease.refusal(start).is_none());
        assert_eq!(lease.living_with(NodeTag::of_epoch(2).unwrap()), Some(&row(2, 0)));
        let own = NodeRow { state: NodeState::Draining, ..row(OWN, 1_000) };
        let found = lease.renewed(after(start, 1_000), &seen(1_000, [own]));
        assert_eq!(found, [Finding::Left(row(2, 0))]);
        assert!(lease.refusal(after(start, 1_000)) == Some(Refusal::Draining));
    }
}
