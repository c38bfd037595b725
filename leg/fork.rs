//! One leg that rings at several contacts (forking). RFC 3261 §16.6 to §16.8 describe this for a proxy; this server does
//! it as a user agent, whatever the signalling of each contact. All contacts with the same preference ring together. If
//! none answers, the contacts with the next preference ring.
//!
//! The first acceptance decides. Its branch becomes the signalling of the leg, and the other branches are ended. If an
//! acceptance crosses such an end, the signalling ends that branch by itself.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_id::{Deadline, LegId, Now};

use crate::signal::{SignalEnd, SignalEndCause, SignalEvent};

/// Time for which the contacts of one preference ring. After this time, the contacts of the next preference ring.
const GROUP_RING_TIME: Duration = Duration::from_secs(20);

/// A contact at which a user is reachable: a phone, or a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contact {
    /// The id of the contact's registration.
    pub id: u128,
    /// The preference of the contact, 0 to 1000.
    pub q: u16,
    /// The media that the contact speaks.
    pub media: MediaKind,
}

/// The kind of media that a far end speaks. Two kinds cannot share an offer (RFC 8829 §5.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// RTP, or SRTP with keys in the SDP.
    #[default]
    Plain,
    /// The media of browsers: ICE, and SRTP with keys of DTLS (RFC 8827).
    WebRtc,
}

impl MediaKind {
    /// Whether these kinds are not all the same.
    pub fn are_mixed(kinds: impl IntoIterator<Item = Self>) -> bool {
        let mut kinds = kinds.into_iter();
        kinds.next().is_some_and(|first| kinds.any(|other| other != first))
    }
}

/// An order of a fork to one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BranchOrder {
    /// Call this contact.
    Place(Contact),
    /// Refuse the offer of a branch whose media is not in use.
    RefuseOffer,
    /// End the branch. If another branch has answered, phones show no missed call.
    End {
        /// Whether another branch has answered.
        answered_elsewhere: bool,
    },
}

/// The meaning of a branch's event for the leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForkEvent {
    /// Nothing.
    Nothing,
    /// The leg gets this event.
    Pass(SignalEvent),
    /// The branch has become the signalling of the leg, which gets this event and uses the media of this kind.
    Answered(MediaKind, SignalEvent),
    /// No branch is left. The leg gets this end.
    Over(SignalEnd),
}

/// A leg that rings at several contacts.
#[derive(Clone, Debug)]
pub struct Fork {
    /// Contacts that do not ring yet, in groups of the same preference.
    waiting: VecDeque<Vec<Contact>>,
    /// The branches that are not over.
    branches: Vec<Branch>,
    /// The end that is reported if no branch answers.
    best: Option<SignalEnd>,
    /// The first branch that sent early media. Only the early media of this branch is passed on.
    early_media_from: Option<LegId>,
    /// Whether the contacts speak two kinds of media. No early media is passed on then, because the leg uses the media of
    /// neither kind before the answer.
    is_mixed: bool,
    state: State,
    next_group: Option<Deadline>,
    /// The offer to each contact with the leg's kind of media. `None` if the contacts make the offer.
    offer: Option<Bytes>,
    orders: VecDeque<(LegId, BranchOrder)>,
}

/// A branch that is not over.
#[derive(Clone, Debug)]
struct Branch {
    id: LegId,
    media: MediaKind,
    /// The answer for early media that was not passed on. It counts if the branch accepts without another answer.
    withheld: Option<Bytes>,
    /// The end of the wait for the branch's signalling, if it is interrupted.
    lost: Option<Deadline>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Ringing,
    Answered,
    /// This server has ended the leg.
    Ended,
    /// A branch has refused for all contacts (6xx).
    Declined,
}

impl Fork {
    /// Creates the fork of these contacts, which are in order of preference, and calls the first group.
    pub fn new(now: Now, contacts: Vec<Contact>, offer: Option<Bytes>, fresh: &mut impl FnMut() -> LegId) -> Self {
        let mut waiting: VecDeque<Vec<Contact>> = VecDeque::new();
        for contact in contacts {
            match waiting.back_mut().filter(|group| group.first().is_some_and(|first| first.q == contact.q)) {
                Some(group) => group.push(contact),
                None => waiting.push_back(vec![contact]),
            }
        }
        let mut fork = Self {
            is_mixed: MediaKind::are_mixed(waiting.iter().flatten().map(|contact| contact.media)),
            waiting,
            branches: Vec::new(),
            best: None,
            early_media_from: None,
            state: State::Ringing,
            next_group: None,
            offer,
            orders: VecDeque::new(),
        };
        fork.ring_next(now, fresh);
        fork
    }

    /// Returns the next order, with the id of its branch.
    pub fn poll_order(&mut self) -> Option<(LegId, BranchOrder)> {
        self.orders.pop_front()
    }

    /// Returns the time at which [`Fork::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.branches.iter().filter_map(|branch| branch.lost).chain(self.next_group).min()
    }

    /// Returns the offer to each contact with the leg's kind of media.
    pub fn offer(&self) -> Option<&Bytes> {
        self.offer.as_ref()
    }

    /// The branches that are not over.
    pub fn branches(&self) -> impl Iterator<Item = LegId> {
        self.branches.iter().map(|branch| branch.id)
    }

    /// Whether no branch has answered yet.
    pub fn is_ringing(&self) -> bool {
        self.state != State::Answered
    }

    /// Whether each branch is over and no contact waits.
    pub fn is_over(&self) -> bool {
        self.branches.is_empty() && (self.state != State::Ringing || self.waiting.is_empty())
    }

    /// Ends the branches whose signalling has not returned in time. Calls the next group of contacts, if the current
    /// group has rung for long enough.
    pub fn handle_timeout(&mut self, now: Now, fresh: &mut impl FnMut() -> LegId) -> ForkEvent {
        let is_due = |at: Deadline| at.instant() <= now.instant;
        let mut means = ForkEvent::Nothing;
        while let Some(branch) = self.branches.iter().find(|branch| branch.lost.is_some_and(is_due)) {
            let (branch, answered_elsewhere) = (branch.id, self.state == State::Answered);
            self.orders.push_back((branch, BranchOrder::End { answered_elsewhere }));
            means = self.branch_ended(now, branch, not_resumed(), fresh);
        }
        if self.next_group.is_some_and(is_due) {
            self.end_branches(false);
            self.ring_next(now, fresh);
        }
        means
    }

    /// Notes that the signalling of a branch is interrupted. If it is not resumed by this time, the branch ends. Returns
    /// `false` if there is no such branch, or if its signalling is interrupted already.
    pub fn lose(&mut self, branch: LegId, until: Deadline) -> bool {
        match self.branches.iter_mut().find(|one| one.id == branch) {
            Some(branch) if branch.lost.is_none() => {
                branch.lost = Some(until);
                true
            }
            _ => false,
        }
    }

    /// Notes that the signalling of a branch is no longer interrupted. Returns `false` if it was not interrupted.
    pub fn resume(&mut self, branch: LegId) -> bool {
        let resumed = self.branches.iter_mut().find(|one| one.id == branch);
        resumed.and_then(|branch| branch.lost.take()).is_some()
    }

    /// Ends all branches, because this server ends the leg. Returns the end of the leg if no branch must be ended first.
    pub fn end(&mut self) -> Option<SignalEnd> {
        if self.state != State::Ended && self.state != State::Answered {
            self.stop_ringing(State::Ended);
        }
        self.outcome()
    }

    /// Handles an event of a branch.
    pub fn handle(
        &mut self,
        now: Now,
        branch: LegId,
        event: SignalEvent,
        fresh: &mut impl FnMut() -> LegId,
    ) -> ForkEvent {
        let Some(at) = self.branches().position(|one| one == branch) else { return ForkEvent::Nothing };
        match event {
            SignalEvent::Ended(end) => self.branch_ended(now, branch, *end, fresh),
            _ if self.state != State::Ringing => ForkEvent::Nothing,
            SignalEvent::Accepted { sdp, headers, dialog } => {
                let Branch { media, withheld, .. } = self.branches.remove(at);
                self.stop_ringing(State::Answered);
                ForkEvent::Answered(media, SignalEvent::Accepted { sdp: sdp.or(withheld), headers, dialog })
            }
            SignalEvent::Ringing { status, sdp: Some(sdp) } => {
                if !self.is_mixed && *self.early_media_from.get_or_insert(branch) == branch {
                    return ForkEvent::Pass(SignalEvent::Ringing { status, sdp: Some(sdp) });
                }
                if let Some(branch) = self.branches.get_mut(at) {
                    branch.withheld = Some(sdp);
                }
                ForkEvent::Pass(SignalEvent::Ringing { status, sdp: None })
            }
            // The session of the leg has not agreed on media with this branch.
            SignalEvent::Offered { refusable, .. } if self.early_media_from != Some(branch) => {
                self.orders.extend(refusable.then_some((branch, BranchOrder::RefuseOffer)));
                ForkEvent::Nothing
            }
            event => ForkEvent::Pass(event),
        }
    }

    /// Ends a branch that cannot be called, because this server has no room for its media.
    pub(crate) fn refuse(&mut self, now: Now, branch: LegId, fresh: &mut impl FnMut() -> LegId) -> ForkEvent {
        self.branch_ended(now, branch, SignalEnd::of(SignalEndCause::Overloaded), fresh)
    }

    fn branch_ended(
        &mut self,
        now: Now,
        branch: LegId,
        end: SignalEnd,
        fresh: &mut impl FnMut() -> LegId,
    ) -> ForkEvent {
        self.branches.retain(|one| one.id != branch);
        let declined = end.cause == SignalEndCause::Refused && end.status.is_some_and(|status| status >= 600);
        if self.best.as_ref().is_none_or(|best| rank(&end) < rank(best)) {
            self.best = Some(end);
        }
        if declined && self.state == State::Ringing {
            self.stop_ringing(State::Declined);
        }
        if self.branches.is_empty() && self.state == State::Ringing && !self.waiting.is_empty() {
            self.ring_next(now, fresh);
        }
        self.outcome().map_or(ForkEvent::Nothing, ForkEvent::Over)
    }

    /// Returns the end of the leg if the leg was not answered and no branch is left.
    fn outcome(&mut self) -> Option<SignalEnd> {
        if !self.is_over() {
            return None;
        }
        match self.state {
            State::Answered => None,
            State::Ended => Some(SignalEnd::of(SignalEndCause::Local)),
            State::Ringing | State::Declined => {
                Some(self.best.take().unwrap_or_else(|| SignalEnd::of(SignalEndCause::NoResponse)))
            }
        }
    }

    /// Changes to this state, in which no further contact rings: ends the branches.
    fn stop_ringing(&mut self, state: State) {
        self.state = state;
        self.next_group = None;
        self.waiting.clear();
        self.end_branches(state == State::Answered);
    }

    fn end_branches(&mut self, answered_elsewhere: bool) {
        let end = BranchOrder::End { answered_elsewhere };
        self.orders.extend(self.branches.iter().map(|branch| (branch.id, end.clone())));
    }

    fn ring_next(&mut self, now: Now, fresh: &mut impl FnMut() -> LegId) {
        let Some(group) = self.waiting.pop_front() else { return };
        self.next_group = (!self.waiting.is_empty()).then(|| Deadline::after(now, GROUP_RING_TIME)).flatten();
        for contact in group {
            let branch = fresh();
            self.branches.push(Branch { id: branch, media: contact.media, withheld: None, lost: None });
            self.orders.push_back((branch, BranchOrder::Place(contact)));
        }
    }
}

/// A fork that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForkSnapshot {
    waiting: VecDeque<Vec<Contact>>,
    branches: Vec<BranchSnapshot>,
    best: Option<SignalEnd>,
    early_media_from: Option<LegId>,
    is_mixed: bool,
    state: State,
    next_group: Option<Timestamp>,
    offer: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BranchSnapshot {
    id: LegId,
    media: MediaKind,
    withheld: Option<Bytes>,
    lost: Option<Timestamp>,
}

impl Fork {
    pub(crate) fn write(&self, now: Now) -> ForkSnapshot {
        let Self { waiting, branches, best, early_media_from, is_mixed, state, next_group, offer, orders: _ } =
            self.clone();
        let next_group = next_group.map(|at| at.to_wall_time(now));
        let write = |Branch { id, media, withheld, lost }| {
            let lost = lost.map(|at: Deadline| at.to_wall_time(now));
            BranchSnapshot { id, media, withheld, lost }
        };
        let branches = branches.into_iter().map(write).collect();
        ForkSnapshot { waiting, branches, best, early_media_from, is_mixed, state, next_group, offer }
    }

    pub(crate) fn read(snapshot: ForkSnapshot, now: Now) -> Self {
        let ForkSnapshot { waiting, branches, best, early_media_from, is_mixed, state, next_group, offer } = snapshot;
        let next_group = next_group.map(|at| Deadline::from_wall_time(at, now));
        let read = |BranchSnapshot { id, media, withheld, lost }| {
            let lost = lost.map(|at| Deadline::from_wall_time(at, now));
            Branch { id, media, withheld, lost }
        };
        let (branches, orders) = (branches.into_iter().map(read).collect(), VecDeque::new());
        Self { waiting, branches, best, early_media_from, is_mixed, state, next_group, offer, orders }
    }
}

/// The end of a leg whose user has no contact.
pub fn not_reachable(user: &str) -> SignalEnd {
    let (status, reason) = (Some(480), Some(format!("{user} is not registered")));
    SignalEnd { status, reason, ..SignalEnd::of(SignalEndCause::Refused) }
}

/// The end of a leg or a branch whose signalling was lost and did not return in time.
pub(crate) fn not_resumed() -> SignalEnd {
    let detail = Cow::Borrowed("the connection of the far end was lost, and did not return");
    SignalEnd { detail, ..SignalEnd::of(SignalEndCause::Expired) }
}

/// Returns the rank of a branch's end. The end with the lowest rank is reported (RFC 3261 §16.7 step 6). A 6xx has the
/// lowest rank. After that, the ranks rise from 3xx to 5xx. Within 4xx, a status to which the caller can react has a
/// lower rank than other statuses. Contacts that do not respond, that cannot be reached, and branches that this server
/// ended have the highest ranks.
fn rank(end: &SignalEnd) -> u16 {
    match (end.cause, end.status) {
        (SignalEndCause::Refused, Some(600..)) => 0,
        (SignalEndCause::Refused, Some(300..400)) => 1,
        (SignalEndCause::Refused, Some(401 | 407 | 415 | 420 | 484)) => 2,
        (SignalEndCause::Refused, Some(408 | 480 | 487)) => 4,
        (SignalEndCause::Refused, Some(400..500)) => 3,
        (SignalEndCause::Refused, _) => 5,
        (SignalEndCause::NoResponse, _) => 6,
        (SignalEndCause::Local, _) => 8,
        _ => 7,
    }
}

#[cfg(test)]
mod tests;
