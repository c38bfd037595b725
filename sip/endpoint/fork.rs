//! One call to several contacts (RFC 3261 §16.6 to §16.8, as a user agent): all of one preference ring together, and when
//! none of them takes the call, those of the next.
//!
//! ```text
//!   Command::Ring ──> Fork ──┬─> branch (a leg of its own) ──> contact
//!                            └─> branch ──> contact       what they say ──> settle_forks ──> Event of the one leg
//! ```
//!
//! The first 200 wins: its branch becomes the leg, the others are cancelled, and a 200 that crosses its CANCEL is
//! acknowledged and hung up, as for any leg that is given up. Branches are legs, and bounded as these are.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::HashMap;

use super::Endpoint;
use super::command::InviteRoute;
use super::state::End;
use crate::leg::{Command, EndCause, Event, LegKey, Outgoing};
use crate::message::Uri;
use crate::registrar::{Aor, Way};

/// How long the phones of one preference ring before those of the next do.
const SERIAL: Duration = Duration::from_secs(20);
/// Said to those who lost (RFC 3326, as Asterisk and its phones know it: no missed call is shown).
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// Calls that ring at several contacts.
#[derive(Debug, Default)]
pub(super) struct Forks {
    by_leg: HashMap<LegKey, Fork>,
    timers: BTreeSet<(Instant, LegKey)>,
}

#[derive(Debug)]
struct Fork {
    outgoing: Box<Outgoing>,
    /// Contacts that do not ring yet, in groups of one preference.
    waiting: VecDeque<Vec<Way>>,
    branches: Vec<LegKey>,
    best: Option<End>,
    /// The branch whose early media is passed on: the first that has some.
    early_media_from: Option<LegKey>,
    /// Answered, hung up, or declined everywhere: what is left of it is nobody's concern.
    settled: Settled,
    next_group: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    No,
    Answered,
    HungUp,
    /// 6xx.
    Declined,
}

impl Endpoint {
    /// Calls a user's phones.
    pub(super) fn ring(&mut self, now: Instant, key: LegKey, aor: &Aor, outgoing: Box<Outgoing>) {
        if self.legs_by_key.contains_key(&key) || self.forks.by_leg.contains_key(&key) {
            tracing::error!(leg = ?key, "leg key used twice");
            return;
        }
        let mut groups: VecDeque<Vec<Way>> = VecDeque::new();
        let instance = Uri::parse(outgoing.request_uri.as_bytes()).and_then(|uri| uri.instance());
        for way in self.phones.contacts(now, aor, instance.as_deref()) {
            match groups.back_mut().filter(|group| group.first().is_some_and(|first| first.q == way.q)) {
                Some(group) => group.push(way),
                None => groups.push_back(vec![way]),
            }
        }
        if groups.is_empty() {
            let reason = Some(format!("{} is not registered", aor.username));
            let end =
                Event::Ended { leg: key, cause: EndCause::Rejected, status: Some(480), reason, headers: Vec::new() };
            return self.core.event(end);
        }
        let to = outgoing.to.clone().or_else(|| Some(outgoing.request_uri.clone()));
        let fork = Fork {
            outgoing: Box::new(Outgoing { to, ..*outgoing }),
            waiting: groups,
            branches: Vec::new(),
            best: None,
            early_media_from: None,
            settled: Settled::No,
            next_group: None,
        };
        self.forks.by_leg.insert(key, fork);
        self.ring_next(now, key);
    }

    /// A command for a leg that still rings at several contacts. `false`: it is for the leg itself.
    pub(super) fn command_fork(&mut self, now: Instant, command: &Command) -> bool {
        let key = command.leg();
        let Some(fork) = self.forks.by_leg.get_mut(&key).filter(|fork| fork.settled != Settled::Answered) else {
            return false;
        };
        if matches!(command, Command::Hangup { .. }) && fork.settled != Settled::HungUp {
            fork.settled = Settled::HungUp;
            for branch in fork.branches.clone() {
                self.command_branch(now, branch, command);
            }
            self.end_fork(key);
        }
        true
    }

    /// Looks at what branches have said.
    pub(super) fn settle_forks(&mut self, now: Instant) {
        while let Some(event) = self.core.branch_events.pop_front() {
            let branch = event.leg();
            if let Some(&key) = self.core.branches.get(&branch) {
                self.handle_branch_event(now, key, branch, event);
            }
        }
    }

    pub(super) fn fork_deadline(&self) -> Option<Instant> {
        self.forks.timers.first().map(|(at, _)| *at)
    }

    /// The next group's turn.
    pub(super) fn fork_timeout(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.forks.timers.first() {
            if at > now {
                break;
            }
            self.forks.timers.remove(&(at, key));
            let Some(fork) = self.forks.by_leg.get_mut(&key) else { continue };
            fork.next_group = None;
            for branch in fork.branches.clone() {
                let reason = None;
                self.command_branch(now, branch, &hangup(branch, reason));
            }
            self.ring_next(now, key);
        }
    }

    fn handle_branch_event(&mut self, now: Instant, key: LegKey, branch: LegKey, mut event: Event) {
        let Some(fork) = self.forks.by_leg.get_mut(&key) else { return };
        match &mut event {
            Event::Trace { .. } => {}
            Event::Ended { cause, status, reason, headers, .. } => {
                let end =
                    End { cause: *cause, status: *status, reason: reason.take(), headers: std::mem::take(headers) };
                return self.branch_ended(now, key, branch, end);
            }
            _ if fork.settled != Settled::No => return,
            Event::Answered { .. } => return self.branch_answered(now, key, branch, event),
            Event::Provisional { sdp: sdp @ Some(_), .. } if *fork.early_media_from.get_or_insert(branch) != branch => {
                *sdp = None
            }
            _ => {}
        }
        event.set_leg(key);
        self.core.emit(event);
    }

    /// RFC 3261 §16.7 step 5 and 10: the first 2xx is passed on, and everything else is cancelled.
    fn branch_answered(&mut self, now: Instant, key: LegKey, branch: LegKey, mut event: Event) {
        let Some(fork) = self.forks.by_leg.get_mut(&key) else { return };
        fork.settled = Settled::Answered;
        fork.waiting.clear();
        fork.branches.retain(|one| *one != branch);
        for loser in fork.branches.clone() {
            self.command_branch(now, loser, &hangup(loser, Some(ELSEWHERE)));
        }
        self.core.branches.remove(&branch);
        if let Some(slot) = self.legs_by_key.remove(&branch) {
            self.legs_by_key.insert(key, slot);
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.key = key;
                self.core.traced.insert(slot, key);
            }
        }
        event.set_leg(key);
        self.core.emit(event);
        self.end_fork(key);
    }

    fn branch_ended(&mut self, now: Instant, key: LegKey, branch: LegKey, end: End) {
        self.core.branches.remove(&branch);
        let Some(fork) = self.forks.by_leg.get_mut(&key) else { return };
        fork.branches.retain(|one| *one != branch);
        let declined = end.cause == EndCause::Rejected && end.status.is_some_and(|status| status >= 600);
        if fork.best.as_ref().is_none_or(|best| rank(&end) < rank(best)) {
            fork.best = Some(end);
        }
        if declined && fork.settled == Settled::No {
            fork.settled = Settled::Declined;
            fork.waiting.clear();
            for other in fork.branches.clone() {
                self.command_branch(now, other, &hangup(other, None));
            }
        }
        let Some(fork) = self.forks.by_leg.get(&key) else { return };
        if fork.branches.is_empty() && fork.settled == Settled::No && !fork.waiting.is_empty() {
            self.ring_next(now, key);
        }
        self.end_fork(key);
    }

    fn ring_next(&mut self, now: Instant, key: LegKey) {
        let Some(fork) = self.forks.by_leg.get_mut(&key) else { return };
        let Some(group) = fork.waiting.pop_front() else { return };
        let outgoing = fork.outgoing.clone();
        if let Some(at) = fork.next_group.take() {
            self.forks.timers.remove(&(at, key));
        }
        if !fork.waiting.is_empty() {
            fork.next_group = Some(now + SERIAL);
            self.forks.timers.insert((now + SERIAL, key));
        }
        for way in group {
            let branch = self.fresh_leg_key();
            self.core.branches.insert(branch, key);
            if let Some(fork) = self.forks.by_leg.get_mut(&key) {
                fork.branches.push(branch);
            }
            let outgoing = Outgoing { request_uri: way.contact, next_hop: None, ..(*outgoing).clone() };
            let route = InviteRoute { routes: way.routes, phone: true, ..InviteRoute::default() };
            match self.legs.len() < self.core.config.max_legs && self.has_room() {
                true => self.place_along(now, branch, Box::new(outgoing), way.flow, route),
                false => self.report_unplaced(branch, EndCause::Overload),
            }
        }
    }

    fn command_branch(&mut self, now: Instant, branch: LegKey, command: &Command) {
        if let Command::Hangup { status, reason, headers, .. } = command
            && let Some(&slot) = self.legs_by_key.get(&branch)
        {
            self.hangup(now, slot, *status, reason.clone(), headers.clone());
        }
    }

    /// Forgets the fork once no branch is left, and says how it came out if nobody has.
    fn end_fork(&mut self, key: LegKey) {
        let over = |fork: &Fork| fork.branches.is_empty() && (fork.settled != Settled::No || fork.waiting.is_empty());
        if !self.forks.by_leg.get(&key).is_some_and(over) {
            return;
        }
        let Some(fork) = self.forks.by_leg.remove(&key) else { return };
        if let Some(at) = fork.next_group {
            self.forks.timers.remove(&(at, key));
        }
        let end = match fork.settled {
            Settled::Answered => return,
            Settled::HungUp => End::of(EndCause::LocalHangup, None),
            Settled::No | Settled::Declined => fork.best.unwrap_or_else(|| End::of(EndCause::Timeout, None)),
        };
        let End { cause, status, reason, headers } = end;
        self.core.emit(Event::Ended { leg: key, cause, status, reason, headers });
    }
}

fn hangup(leg: LegKey, reason: Option<&str>) -> Command {
    Command::Hangup { leg, status: 487, reason: reason.map(str::to_owned), headers: Vec::new() }
}

/// Which of two ends is told (RFC 3261 §16.7 step 6): a 6xx, else the lowest class, and in 4xx what the caller can do
/// something about. What we gave up ourselves, and who could not be reached, come last.
fn rank(end: &End) -> u16 {
    match (end.cause, end.status) {
        (EndCause::Rejected, Some(600..)) => 0,
        (EndCause::Rejected, Some(300..400)) => 1,
        (EndCause::Rejected, Some(401 | 407 | 415 | 420 | 484)) => 2,
        (EndCause::Rejected, Some(408 | 480 | 487)) => 4,
        (EndCause::Rejected, Some(400..500)) => 3,
        (EndCause::Rejected, _) => 5,
        (EndCause::Timeout, _) => 6,
        (EndCause::LocalHangup, _) => 8,
        _ => 7,
    }
}

#[cfg(test)]
mod tests;
