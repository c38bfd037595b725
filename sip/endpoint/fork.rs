//! One call to several contacts. RFC 3261 §16.6 to §16.8 describe this for a proxy; this server does it as a user
//! agent. All contacts with the same preference ring together. If no contact answers, the contacts with the next
//! preference ring.
//!
//! ```text
//!   Command::Ring ──> Fork ──┬─> branch (a leg of its own) ──> contact
//!                            └─> branch ──> contact       their events ──> serve_forks ──> Event of the one leg
//! ```
//!
//! [`Forks`] sends nothing itself. [`ForkOutput`]s make the hub place or hang up branches.
//!
//! The first 200 decides. The branch that got this 200 becomes the leg, and the other branches are cancelled. If a 200
//! crosses the CANCEL of a branch, the 200 gets an ACK and a BYE, as in any cancelled leg. Branches are legs, so the
//! limit on legs also applies to branches.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::HashMap;

use super::Endpoint;
use super::core::Core;
use super::state::End;
use crate::leg::{Command, EndCause, Event, Header, LegId, Outgoing};
use crate::message::Uri;
use crate::registrar::{Aor, ContactTarget};

/// Time for which the contacts of one preference ring. After this time, the contacts of the next preference ring.
const GROUP_RING_TIME: Duration = Duration::from_secs(20);
/// The Reason header in the CANCEL to the other phones (RFC 3326). Asterisk sends the same text. Phones that know this
/// text do not show a missed call.
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// All calls that ring at several contacts.
#[derive(Debug, Default)]
pub(super) struct Forks {
    by_leg: HashMap<LegId, Fork>,
    outputs: VecDeque<ForkOutput>,
    timers: BTreeSet<(Instant, LegId)>,
}

/// A task of a fork for the hub. The hub executes the tasks in order.
#[derive(Debug)]
pub(super) enum ForkOutput {
    /// Send the INVITE of a branch to a contact.
    Invite { branch: LegId, outgoing: Box<Outgoing>, target: ContactTarget },
    /// Hang up a branch.
    Hangup { branch: LegId, status: u16, reason: Option<String>, headers: Vec<Header> },
    /// Give the answered branch the key of the leg that the application knows.
    Promote { branch: LegId, leg: LegId },
    /// Report an event to the application.
    Event(Event),
}

#[derive(Debug)]
struct Fork {
    outgoing: Box<Outgoing>,
    /// Contacts that do not ring yet, in groups of the same preference.
    waiting: VecDeque<Vec<ContactTarget>>,
    branches: Vec<LegId>,
    best: Option<End>,
    /// The first branch that sent early media. Only the early media of this branch is passed on.
    early_media_from: Option<LegId>,
    /// Whether the call was answered, hung up or declined. If so, the fork does not report events of other branches any
    /// more.
    state: ForkState,
    next_group: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ForkState {
    Ringing,
    Answered,
    HungUp,
    /// A branch declined the call with a 6xx response, which is valid for all phones.
    Declined,
}

impl Forks {
    /// Returns whether this leg still rings at several contacts.
    pub(super) fn holds(&self, leg: LegId) -> bool {
        self.by_leg.contains_key(&leg)
    }

    pub(super) fn poll_output(&mut self) -> Option<ForkOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time at which the next contacts ring.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Calls these contacts. The list is in order of preference.
    pub(super) fn start(
        &mut self,
        core: &mut Core,
        now: Instant,
        key: LegId,
        contacts: Vec<ContactTarget>,
        outgoing: Box<Outgoing>,
    ) {
        let mut groups: VecDeque<Vec<ContactTarget>> = VecDeque::new();
        for target in contacts {
            match groups.back_mut().filter(|group| group.first().is_some_and(|first| first.q == target.q)) {
                Some(group) => group.push(target),
                None => groups.push_back(vec![target]),
            }
        }
        let to = outgoing.to.clone().or_else(|| Some(outgoing.request_uri.clone()));
        let fork = Fork {
            outgoing: Box::new(Outgoing { to, ..*outgoing }),
            waiting: groups,
            branches: Vec::new(),
            best: None,
            early_media_from: None,
            state: ForkState::Ringing,
            next_group: None,
        };
        self.by_leg.insert(key, fork);
        self.ring_next(core, now, key);
    }

    /// Executes a command for a leg that still rings at several contacts. Returns `false` if the leg does not ring at
    /// several contacts. The caller must then pass the command to the leg.
    pub(super) fn handle_command(&mut self, command: &Command) -> bool {
        let Some(key) = command.leg() else { return false };
        let Some(fork) = self.by_leg.get_mut(&key).filter(|fork| fork.state != ForkState::Answered) else {
            return false;
        };
        if let Command::Hangup { status, reason, headers, .. } = command
            && fork.state != ForkState::HungUp
        {
            fork.state = ForkState::HungUp;
            for &branch in &fork.branches {
                let (status, reason, headers) = (*status, reason.clone(), headers.clone());
                self.outputs.push_back(ForkOutput::Hangup { branch, status, reason, headers });
            }
            self.end(key);
        }
        true
    }

    /// Starts the next group of contacts in each fork whose current contacts have rung for long enough.
    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        while let Some(&(at, key)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.remove(&(at, key));
            let Some(fork) = self.by_leg.get_mut(&key) else { continue };
            fork.next_group = None;
            self.outputs.extend(fork.branches.iter().map(|&branch| hangup(branch, None)));
            self.ring_next(core, now, key);
        }
    }

    /// Handles an event of a branch.
    pub(super) fn handle_event(&mut self, core: &mut Core, now: Instant, mut event: Event) {
        let Some(branch) = event.leg() else { return };
        let Some(&key) = core.branches.get(&branch) else { return };
        let Some(fork) = self.by_leg.get_mut(&key) else { return };
        match &mut event {
            Event::Trace { .. } => {}
            Event::Ended { cause, status, reason, headers, .. } => {
                let end =
                    End { cause: *cause, status: *status, reason: reason.take(), headers: std::mem::take(headers) };
                return self.branch_ended(core, now, key, branch, end);
            }
            _ if fork.state != ForkState::Ringing => return,
            Event::Answered { .. } => return self.branch_answered(core, key, branch, event),
            Event::Provisional { sdp: sdp @ Some(_), .. } if *fork.early_media_from.get_or_insert(branch) != branch => {
                *sdp = None;
            }
            _ => {}
        }
        event.set_leg(key);
        self.outputs.push_back(ForkOutput::Event(event));
    }

    /// Handles the first 2xx: reports it to the application, and cancels all other branches (RFC 3261 §16.7 steps 5 and
    /// 10).
    fn branch_answered(&mut self, core: &mut Core, key: LegId, branch: LegId, mut event: Event) {
        let Some(fork) = self.by_leg.get_mut(&key) else { return };
        fork.state = ForkState::Answered;
        fork.waiting.clear();
        fork.branches.retain(|one| *one != branch);
        self.outputs.extend(fork.branches.iter().map(|&loser| hangup(loser, Some(ELSEWHERE))));
        core.branches.remove(&branch);
        self.outputs.push_back(ForkOutput::Promote { branch, leg: key });
        event.set_leg(key);
        self.outputs.push_back(ForkOutput::Event(event));
        self.end(key);
    }

    fn branch_ended(&mut self, core: &mut Core, now: Instant, key: LegId, branch: LegId, end: End) {
        core.branches.remove(&branch);
        let Some(fork) = self.by_leg.get_mut(&key) else { return };
        fork.branches.retain(|one| *one != branch);
        let declined = end.cause == EndCause::Rejected && end.status.is_some_and(|status| status >= 600);
        if fork.best.as_ref().is_none_or(|best| rank(&end) < rank(best)) {
            fork.best = Some(end);
        }
        if declined && fork.state == ForkState::Ringing {
            fork.state = ForkState::Declined;
            fork.waiting.clear();
            self.outputs.extend(fork.branches.iter().map(|&other| hangup(other, None)));
        }
        if fork.branches.is_empty() && fork.state == ForkState::Ringing && !fork.waiting.is_empty() {
            self.ring_next(core, now, key);
        }
        self.end(key);
    }

    fn ring_next(&mut self, core: &mut Core, now: Instant, key: LegId) {
        let Some(fork) = self.by_leg.get_mut(&key) else { return };
        let Some(group) = fork.waiting.pop_front() else { return };
        if let Some(at) = fork.next_group.take() {
            self.timers.remove(&(at, key));
        }
        if !fork.waiting.is_empty() {
            fork.next_group = Some(now + GROUP_RING_TIME);
            self.timers.insert((now + GROUP_RING_TIME, key));
        }
        for target in group {
            let branch = core.new_leg_key(now);
            core.branches.insert(branch, key);
            fork.branches.push(branch);
            let outgoing = fork.outgoing.clone();
            self.outputs.push_back(ForkOutput::Invite { branch, outgoing, target });
        }
    }

    /// Removes the fork if no branch is left. If the call was not answered, reports the end of the call.
    fn end(&mut self, key: LegId) {
        let is_over =
            |fork: &Fork| fork.branches.is_empty() && (fork.state != ForkState::Ringing || fork.waiting.is_empty());
        if !self.by_leg.get(&key).is_some_and(is_over) {
            return;
        }
        let Some(fork) = self.by_leg.remove(&key) else { return };
        if let Some(at) = fork.next_group {
            self.timers.remove(&(at, key));
        }
        let end = match fork.state {
            ForkState::Answered => return,
            ForkState::HungUp => End::of(EndCause::LocalHangup, None),
            ForkState::Ringing | ForkState::Declined => fork.best.unwrap_or_else(|| End::of(EndCause::Timeout, None)),
        };
        let End { cause, status, reason, headers } = end;
        self.outputs.push_back(ForkOutput::Event(Event::Ended { leg: key, cause, status, reason, headers }));
    }
}

impl Endpoint {
    /// Calls the registered phones of a user. If no phone is registered, the call ends with 480.
    pub(super) fn ring(&mut self, now: Instant, key: LegId, aor: &Aor, outgoing: Box<Outgoing>) {
        if self.dialogs.holds(key) || self.forks.holds(key) {
            tracing::error!(leg = ?key, "leg key used twice");
            return;
        }
        let instance = Uri::parse(outgoing.request_uri.as_bytes()).and_then(|uri| uri.instance());
        let contacts = self.phones.contacts(now, aor, instance.as_deref());
        if contacts.is_empty() {
            return self.core.report_unregistered(key, aor);
        }
        self.forks.start(&mut self.core, now, key, contacts, outgoing);
        self.serve_forks(now);
    }

    /// Executes the outputs of the forks, and passes the events of branches to the forks.
    pub(super) fn serve_forks(&mut self, now: Instant) {
        loop {
            if let Some(output) = self.forks.poll_output() {
                self.serve_fork(now, output);
            } else if let Some(event) = self.core.branch_events.pop_front() {
                self.forks.handle_event(&mut self.core, now, event);
            } else {
                return;
            }
        }
    }

    fn serve_fork(&mut self, now: Instant, output: ForkOutput) {
        match output {
            ForkOutput::Invite { branch, outgoing, target } => {
                if self.dialogs.len() >= self.core.config.max_legs || !self.has_room() {
                    return self.core.report_unplaced(branch, EndCause::Overload);
                }
                self.place_at_contact(now, branch, outgoing, target);
            }
            ForkOutput::Hangup { branch, status, reason, headers } => {
                if let Some(leg) = self.dialogs.id_of(branch) {
                    let (dialogs, mut cx) = self.dialogs(now);
                    dialogs.with(&mut cx, leg, |leg| leg.hangup(status, reason, headers));
                }
            }
            ForkOutput::Promote { branch, leg } => self.dialogs.rename(&mut self.core, branch, leg),
            ForkOutput::Event(event) => self.core.emit(event),
        }
    }
}

fn hangup(branch: LegId, reason: Option<&str>) -> ForkOutput {
    ForkOutput::Hangup { branch, status: 487, reason: reason.map(str::to_owned), headers: Vec::new() }
}

/// Returns the rank of a branch's end. The end with the lowest rank is reported (RFC 3261 §16.7 step 6). A 6xx has the
/// lowest rank. After that, the ranks rise from 3xx to 5xx. Within 4xx, a status to which the caller can react has a
/// lower rank than other statuses. Timeouts, unreachable phones and branches that this server cancelled have the
/// highest ranks.
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
