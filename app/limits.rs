//! The limits of a cluster: `max_calls` and `max_cps` of trunks, and the channels of connections and outbound profiles hold for
//! all nodes together. Each node has a slice of each limit and decides about a call alone, without the database. This task
//! moves the slices between the nodes ([`tandem_cluster::slices`]).
//!
//! ```text
//!   sip, channels ──(calls, refusals)──► round: read rows ▸ plan ▸ lower here ▸ write rows ▸ raise here
//!                 ◄──────(slices)──────┘                            └─(note)─► rounds of the other nodes
//! ```
//!
//! A round takes place each second, and at once when a slice is nearly used up or another node needs something, but at most
//! each 200 ms. If the database is away, every node keeps its slices.

mod recent;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_cluster::Note;
use tandem_cluster::slices::{LimitName, Slices, Usage};
use tandem_routing::channels::Channel;
use tandem_runtime::services::Services;
use tandem_sip::{Command, TrunkName, TrunkSlice, TrunkStatus};
use tandem_store::StoreError;
use tandem_store::slices::{SliceChanges, SliceConnection};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use self::recent::{Figures, Recent};

/// Interval between two rounds if nothing is urgent.
const ROUND: Duration = Duration::from_secs(1);

/// Interval between two looks at the trunks, and minimum interval between two rounds.
const LOOK: Duration = Duration::from_millis(200);

/// Interval between two reads of all rows. It repairs the effect of a clock of the database that was set back.
const COMPLETE: Duration = Duration::from_secs(60);

/// Maximum time for an answer of the database.
const ANSWER: Duration = Duration::from_secs(1);

/// Maximum time until SIP has set new slices. Then the rows of the trunks are not written in this round.
const SET: Duration = Duration::from_millis(500);

/// Maximum number of limits that one round changes. Further limits wait for the next round.
const AT_ONCE: usize = 2_000;

/// Other nodes should look at the rows of the slices: this node needs more, or has given something.
#[derive(Serialize, Deserialize)]
struct SlicesMoved {}

impl Note for SlicesMoved {
    const NAME: &'static str = "slices";
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Limit {
    /// The `max_calls` of a trunk.
    Calls(TrunkName),
    /// The `max_cps` of a trunk for incoming calls.
    InboundRate(TrunkName),
    /// The `max_cps` of a trunk for outgoing calls.
    OutboundRate(TrunkName),
    Channel(Channel),
}

impl Limit {
    fn name(&self) -> LimitName {
        match self {
            Self::Calls(trunk) => format!("trunk {trunk} calls").into(),
            Self::InboundRate(trunk) => format!("trunk {trunk} inbound rate").into(),
            Self::OutboundRate(trunk) => format!("trunk {trunk} outbound rate").into(),
            Self::Channel(channel) => channel.to_string().into(),
        }
    }

    fn trunk(&self) -> Option<&TrunkName> {
        match self {
            Self::Calls(trunk) | Self::InboundRate(trunk) | Self::OutboundRate(trunk) => Some(trunk),
            Self::Channel(_) => None,
        }
    }
}

/// The slices of this node.
pub(super) struct Limits {
    services: Arc<Services>,
    epoch: i64,
    slices: Slices,
    connection: SliceConnection,
    /// The limits that have or had a slice, by name.
    known: HashMap<LimitName, Limit>,
    recent: HashMap<LimitName, Recent>,
    /// The time of the last read of all rows.
    complete_at: Option<Instant>,
    moved: Arc<Notify>,
}

/// Takes all slices from this node, before it takes calls. A node without slices refuses the calls that have a limit.
pub(super) fn withhold(services: &Services) {
    // The queue of commands is empty before the start.
    let _ = services.sip.send(Command::TrunkSlices(Vec::new()));
    services.channels.share();
}

/// Gets the first slices of this node, and starts to move slices. A server that is alone has none.
pub(super) async fn start(services: &Arc<Services>) -> Result<(), StoreError> {
    let Some(epoch) = services.cluster.epoch() else { return Ok(()) };
    let moved = Arc::new(Notify::new());
    let woken = Arc::clone(&moved);
    services.cluster.listen(move |_: SlicesMoved, _| woken.notify_one());
    let mut limits = Limits {
        services: Arc::clone(services),
        epoch,
        slices: Slices::new(epoch),
        connection: SliceConnection::of(&services.store),
        known: HashMap::new(),
        recent: HashMap::new(),
        complete_at: None,
        moved,
    };
    limits.round().await?;
    tokio::spawn(limits.run());
    Ok(())
}

/// Whether the slices of this node can still move.
#[derive(PartialEq, Eq)]
enum Lease {
    Held,
    Lost,
}

impl Limits {
    /// Moves slices for as long as this node has its lease.
    async fn run(mut self) {
        let (services, moved) = (Arc::clone(&self.services), Arc::clone(&self.moved));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut is_urgent, mut is_away) = (Instant::now(), false, false);
        loop {
            let due = |is_urgent: bool| last + if is_urgent && !is_away { LOOK } else { ROUND };
            tokio::select! {
                () = services.channels.used_up() => is_urgent = true,
                () = moved.notified() => is_urgent = true,
                _ = look.tick(), if !is_urgent => is_urgent = self.is_pressing(),
                () = tokio::time::sleep_until(due(is_urgent)) => {}
            }
            if Instant::now() < due(is_urgent) {
                continue;
            }
            (last, is_urgent) = (Instant::now(), false);
            match self.round().await {
                Ok(Lease::Held) => is_away = false,
                Ok(Lease::Lost) => return,
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(%error, "this node keeps its slices of the limits: they cannot be moved");
                    }
                }
            }
        }
    }

    /// Reads the rows of the other nodes, and moves slices if this is useful.
    async fn round(&mut self) -> Result<Lease, StoreError> {
        let figures = self.figures();
        if figures.is_empty() && self.slices.is_empty() {
            return Ok(Lease::Held);
        }
        self.read().await?;
        self.repair(&figures);
        let usages = self.usages(&figures);
        let plan = self.slices.plan(&usages);
        let lowered: HashSet<LimitName> = plan.lower.iter().map(|(name, _)| Arc::clone(name)).collect();
        let mut names = plan.write;
        // Slices that other nodes wait for come first.
        names.sort_by_key(|name| !lowered.contains(name));
        names.truncate(AT_ONCE);
        let chosen: HashSet<&LimitName> = names.iter().collect();
        let lower: Vec<_> = plan.lower.into_iter().filter(|(name, _)| chosen.contains(name)).collect();
        self.lower(&lower);
        self.wait_for_trunks(&mut names).await;
        if names.is_empty() {
            return Ok(Lease::Held);
        }
        let Some((committed, has_written)) = self.write(&names, &usages).await? else { return Ok(Lease::Lost) };
        self.raise(&committed);
        self.known.retain(|name, _| usages.contains_key(name) || self.slices.amount(name) > 0);
        self.recent.retain(|name, _| usages.contains_key(name));
        if has_written && plan.concerns_others {
            self.services.cluster.post(&SlicesMoved {});
        }
        Ok(Lease::Held)
    }

    /// Reads the rows that have changed. The first node removes those that have no meaning.
    async fn read(&mut self) -> Result<(), StoreError> {
        let is_complete = !self.connection.is_open() || self.complete_at.is_none_or(|at| at.elapsed() >= COMPLETE);
        let after = if is_complete { 0 } else { self.slices.latest() };
        let changes = answered(self.connection.read(after)).await?;
        self.slices.read(&changes, is_complete);
        if is_complete {
            self.complete_at = Some(Instant::now());
            if self.services.cluster.is_first() {
                answered(self.connection.prune()).await?;
            }
        }
        Ok(())
    }

    /// Writes the rows of these limits, whose slices are in effect. Returns the rows of all nodes, and whether a row has
    /// changed. Returns `None` if this node has lost its lease.
    async fn write(
        &mut self,
        names: &[LimitName],
        usages: &HashMap<LimitName, Usage>,
    ) -> Result<Option<(SliceChanges, bool)>, StoreError> {
        let (slices, mut has_written) = (&self.slices, false);
        let words: Vec<&str> = names.iter().map(|name| &**name).collect();
        let change = self.connection.change(self.epoch, &words, |fresh| {
            let rows = slices.decide(names, usages, fresh);
            has_written = !rows.is_empty();
            rows
        });
        let committed = answered(change).await?;
        Ok(committed.map(|committed| (committed, has_written)))
    }

    /// Returns the figures of all limits that are configured.
    fn figures(&mut self) -> HashMap<LimitName, Figures> {
        let mut figures = self.figures_of_trunks();
        let limits = self.services.routing.load_full().channel_limits();
        let slices = self.services.channels.slices(limits.keys());
        for ((channel, limit), slice) in limits.into_iter().zip(slices) {
            let seen = Figures {
                limit,
                calls: Some(slice.calls),
                attempts: slice.taken + slice.refused,
                refused: slice.refused,
                in_effect: Some(slice.amount),
            };
            figures.push((Limit::Channel(channel), seen));
        }
        let named = figures.into_iter().map(|(limit, seen)| {
            let name = limit.name();
            self.known.entry(Arc::clone(&name)).or_insert(limit);
            (name, seen)
        });
        named.collect()
    }

    fn figures_of_trunks(&self) -> Vec<(Limit, Figures)> {
        let routing = self.services.routing.load_full();
        let limited = || routing.trunks().iter().filter(|trunk| trunk.max_calls.is_some() || trunk.max_cps.is_some());
        if limited().next().is_none() {
            return Vec::new();
        }
        let statuses: HashMap<TrunkName, TrunkStatus> = self.services.sip.trunk_statuses().into_iter().collect();
        let mut figures = Vec::new();
        for trunk in limited() {
            // A trunk that SIP does not know yet has no calls.
            let Some(TrunkStatus { calls, attempts, limited: refused, slice, .. }) = statuses.get(&trunk.name).copied()
            else {
                continue;
            };
            let of = |limit, calls, attempts, part: fn(TrunkSlice) -> u32| Figures {
                limit,
                calls,
                attempts,
                refused,
                in_effect: slice.map(part),
            };
            if let Some(max) = trunk.max_calls {
                let seen = of(max, Some(calls), attempts.0 + attempts.1, |slice| slice.calls);
                figures.push((Limit::Calls(Arc::clone(&trunk.name)), seen));
            }
            if let Some(max) = trunk.max_cps {
                let inbound = of(max, None, attempts.0, |slice| slice.inbound_cps);
                let outbound = of(max, None, attempts.1, |slice| slice.outbound_cps);
                figures.push((Limit::InboundRate(Arc::clone(&trunk.name)), inbound));
                figures.push((Limit::OutboundRate(Arc::clone(&trunk.name)), outbound));
            }
        }
        figures
    }

    /// Returns the usage of all limits that are configured.
    fn usages(&mut self, figures: &HashMap<LimitName, Figures>) -> HashMap<LimitName, Usage> {
        let (now, slices, recent) = (Instant::now(), &self.slices, &mut self.recent);
        let usage = |(name, seen): (&LimitName, &Figures)| {
            let recent = recent.entry(Arc::clone(name)).or_default();
            (Arc::clone(name), recent.usage(now, seen, slices.amount(name)))
        };
        figures.iter().map(usage).collect()
    }

    /// Whether a slice of a trunk is nearly used up, and the other nodes do not know it.
    fn is_pressing(&mut self) -> bool {
        let now = Instant::now();
        let mut is_pressing = false;
        for (limit, seen) in self.figures_of_trunks() {
            let name = limit.name();
            let recent = self.recent.entry(Arc::clone(&name)).or_default();
            let usage = recent.usage(now, &seen, self.slices.amount(&name));
            is_pressing |= self.slices.is_pressing(&name, &usage);
        }
        is_pressing
    }

    /// Sets slices again that are not in effect: the command was lost, or the channel was forgotten.
    fn repair(&self, figures: &HashMap<LimitName, Figures>) {
        let is_lost = |(name, seen): &(&LimitName, &Figures)| {
            seen.in_effect.is_some_and(|in_effect| in_effect != self.slices.amount(name))
        };
        let lost: Vec<LimitName> = figures.iter().filter(is_lost).map(|(name, _)| Arc::clone(name)).collect();
        self.set(&lost);
    }

    /// Lowers slices of this node.
    fn lower(&mut self, lower: &[(LimitName, u32)]) {
        for (name, to) in lower {
            self.slices.lowered(name, *to);
        }
        let names: Vec<LimitName> = lower.iter().map(|(name, _)| Arc::clone(name)).collect();
        for (name, in_use) in self.set(&names) {
            self.slices.lowered(&name, in_use);
        }
    }

    fn raise(&mut self, committed: &SliceChanges) {
        let raised = self.slices.committed(committed);
        let now = Instant::now();
        for (name, _) in &raised {
            self.recent.entry(Arc::clone(name)).or_default().raised(now);
        }
        let names: Vec<LimitName> = raised.into_iter().map(|(name, _)| name).collect();
        self.set(&names);
    }

    /// Sets the slices of these limits in SIP and in the table of channels. Returns the channels that have more calls than
    /// their slices, with the number of calls. This number is then the slice.
    fn set(&self, names: &[LimitName]) -> Vec<(LimitName, u32)> {
        let mut above = Vec::new();
        let mut trunks: HashMap<TrunkName, TrunkSlice> = HashMap::new();
        for name in names {
            match self.known.get(name) {
                Some(Limit::Channel(channel)) => {
                    let amount = self.slices.amount(name);
                    let in_use = self.services.channels.set_slice(channel, amount);
                    if in_use > amount {
                        self.services.channels.set_slice(channel, in_use);
                        above.push((Arc::clone(name), in_use));
                    }
                }
                Some(limit) => {
                    if let Some(trunk) = limit.trunk() {
                        trunks.insert(Arc::clone(trunk), self.trunk_slice(trunk));
                    }
                }
                None => {}
            }
        }
        if !trunks.is_empty() {
            // If the queue is full, the next round repairs it. The order of the commands must not change, so no task waits
            // for room.
            let _ = self.services.sip.send(Command::TrunkSlices(trunks.into_iter().collect()));
        }
        above
    }

    fn trunk_slice(&self, trunk: &TrunkName) -> TrunkSlice {
        let amount = |limit: fn(TrunkName) -> Limit| self.slices.amount(&limit(Arc::clone(trunk)).name());
        TrunkSlice {
            calls: amount(Limit::Calls),
            inbound_cps: amount(Limit::InboundRate),
            outbound_cps: amount(Limit::OutboundRate),
        }
    }

    /// Waits until the slices of the trunks among these limits are in effect. Trunks whose slices are not in effect in time
    /// are removed from the names, because a row must not be lower than the slice in effect. A trunk that has more calls
    /// than its slice gets the number of calls as its slice.
    async fn wait_for_trunks(&mut self, names: &mut Vec<LimitName>) {
        let trunks: HashSet<TrunkName> =
            names.iter().filter_map(|name| self.known.get(name)?.trunk().cloned()).collect();
        if trunks.is_empty() {
            return;
        }
        let until = Instant::now() + SET;
        let (statuses, late) = loop {
            let (statuses, late) = self.late_trunks(&trunks);
            if late.is_empty() || Instant::now() >= until {
                break (statuses, late);
            }
            // SIP sets slices within microseconds, unless it is busy.
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        names.retain(|name| self.known.get(name).and_then(Limit::trunk).is_none_or(|trunk| !late.contains(trunk)));
        let mut above = Vec::new();
        for trunk in trunks.difference(&late) {
            let name = Limit::Calls(Arc::clone(trunk)).name();
            let calls = statuses.get(trunk).map_or(0, |status| status.calls);
            // Calls of a trunk without a limit do not count.
            if self.known.contains_key(&name) && names.contains(&name) && calls > self.slices.amount(&name) {
                self.slices.lowered(&name, calls);
                above.push(name);
            }
        }
        self.set(&above);
    }

    /// Returns the status of each trunk, and those of these trunks whose slices are not in effect.
    fn late_trunks(&self, trunks: &HashSet<TrunkName>) -> (HashMap<TrunkName, TrunkStatus>, HashSet<TrunkName>) {
        let statuses: HashMap<TrunkName, TrunkStatus> = self.services.sip.trunk_statuses().into_iter().collect();
        // A trunk that was removed from the configuration has no status, and no new calls.
        let is_late = |trunk: &&TrunkName| {
            statuses.get(*trunk).is_some_and(|status| status.slice != Some(self.trunk_slice(trunk)))
        };
        let late = trunks.iter().filter(is_late).cloned().collect();
        (statuses, late)
    }
}

/// Waits for an answer of the database.
async fn answered<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Away(format!("it did not answer within {} s", ANSWER.as_secs()))),
    }
}
