//! The registry of live calls.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use tandem_call::command::Refused;
use tandem_history::live_log::LogListener;
use tandem_id::{CallId, LegId};
use tandem_leg::signal::SignalEvent;
use tandem_legs::sip::Trace;
use tokio::sync::{Mutex, Notify, oneshot};

use crate::inbox::{self, Inbox, Message};
use crate::live_legs::LiveLegs;
use crate::remote_legs::RemoteLegs;
use crate::services::Services;

/// The live calls of the server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registry(Arc<Shared>);

struct Shared {
    services: Arc<Services>,
    /// The receiver of the log lines of live calls: the bus.
    log_listener: Arc<dyn LogListener>,
    live: LiveLegs<Inbox>,
    /// The legs of branches that ring. An entry ends with the last signal of its branch, or with its leg.
    branches: RwLock<HashMap<LegId, LegId>>,
    /// Wakes the waiting tasks when `live` becomes empty.
    idle: Notify,
    /// This lock is held during the merge of two calls.
    merging: Mutex<()>,
    remotes: RemoteLegs,
}

impl Registry {
    pub(crate) fn new(services: Arc<Services>) -> Self {
        let log_listener = Arc::new(services.events.clone());
        let (live, branches) = (LiveLegs::default(), RwLock::default());
        let (idle, merging) = (Notify::new(), Mutex::new(()));
        let remotes = RemoteLegs::default();
        let shared = Shared { services, log_listener, live, branches, idle, merging, remotes };
        Self(Arc::new(shared))
    }

    pub(crate) fn services(&self) -> &Arc<Services> {
        &self.0.services
    }

    /// Adds a message of a leg, or of a branch of a leg, to the log of the leg's call.
    pub(crate) fn trace(&self, trace: &Trace) {
        let leg = self.leg_of(trace.leg);
        if let Some(inbox) = self.inbox(leg.0) {
            inbox.trace(leg, trace);
        }
    }

    /// Passes a signal of a leg, or of a branch of a leg, to the call of the leg. Never waits. If there is no such call,
    /// the signal is dropped.
    pub(crate) fn signal(&self, id: LegId, event: SignalEvent) {
        if let Some(inbox) = self.inbox(id.0) {
            return inbox.signal(id, id, event);
        }
        let leg = self.leg_of(id);
        if matches!(event, SignalEvent::Ended(_)) {
            self.0.branches.write().remove(&id);
        }
        if let Some(inbox) = self.inbox(leg.0) {
            inbox.signal(leg, id, event);
        }
    }

    /// Returns the leg of a branch. An id that is no branch is the id of a leg.
    fn leg_of(&self, id: LegId) -> LegId {
        self.0.branches.read().get(&id).copied().unwrap_or(id)
    }

    /// Makes a leg reachable under the id of a new branch. Returns the id.
    pub(crate) fn add_branch(&self, leg: LegId) -> LegId {
        let branch = LegId::new(tandem_host::clock::time(), &mut rand::rng());
        self.0.branches.write().insert(branch, leg);
        branch
    }

    /// Removes the branches of a leg that has ended.
    pub(crate) fn forget_branches(&self, branches: impl Iterator<Item = LegId>) {
        let mut branches = branches.peekable();
        if branches.peek().is_some() {
            let mut table = self.0.branches.write();
            for branch in branches {
                table.remove(&branch);
            }
        }
    }

    /// Creates the inbox of a new call and connects the call's log to the bus.
    pub(crate) fn open(&self, session: CallId) -> (Inbox, inbox::Messages) {
        let (inbox, receiver) = Inbox::new();
        inbox.log().send_to(session, Arc::clone(&self.0.log_listener));
        (inbox, receiver)
    }

    /// Makes an inbox reachable under the id of a leg or of a call.
    pub(crate) fn register(&self, id: u128, inbox: Inbox) {
        self.0.live.register(id, inbox);
    }

    pub(crate) fn live(&self) -> &LiveLegs<Inbox> {
        &self.0.live
    }

    pub(crate) fn remotes(&self) -> &RemoteLegs {
        &self.0.remotes
    }

    /// Removes the inbox of a leg or of a call, and frees the channels of the leg.
    pub(crate) fn forget(&self, id: u128) {
        self.services().channels.free(LegId(id));
        self.services().counters.audio_resumed(LegId(id));
        self.services().usage_changed();
        if self.0.live.remove(id) {
            self.0.idle.notify_waiters();
        }
    }

    /// Whether the call of this leg is live.
    pub(crate) fn is_live(&self, leg: LegId) -> bool {
        self.inbox(leg.0).is_some()
    }

    /// Posts a message to the call of a live leg. The message is accepted even if the inbox is full. Returns `false` if
    /// the call has ended.
    pub(crate) fn post(&self, leg: LegId, message: Message) -> bool {
        self.inbox(leg.0).is_some_and(|inbox| inbox.post(message).is_ok())
    }

    /// Returns the inbox of the live leg or session with this id.
    pub(crate) fn inbox(&self, id: u128) -> Option<Inbox> {
        self.0.live.inbox(id)
    }

    /// Moves two legs into one call. Neither call waits for the other call, but this function waits for both calls.
    /// Only one merge runs at a time, because no leg may move into a third call during the merge.
    pub(crate) async fn merge(&self, leg: LegId, with: LegId) -> Result<(), Refused> {
        let _one_at_a_time = self.0.merging.lock().await;
        let target = self.inbox(leg.0).ok_or(Refused::NoSuchLeg)?;
        let other = self.inbox(with.0).ok_or(Refused::CannotBridge)?;
        if other.same(&target) {
            return Ok(());
        }
        let (reply, room) = oneshot::channel();
        let (_unsettled, settled) = oneshot::channel();
        target.post(Message::Expect { room: reply, settled }).map_err(|_| Refused::Ended)?;
        let room = room.await.map_err(|_| Refused::Ended)?;
        let (done, merged) = oneshot::channel();
        other.post(Message::MergeInto { target, room, done }).map_err(|_| Refused::CannotBridge)?;
        merged.await.map_err(|_| Refused::CannotBridge)
    }

    /// Waits until no call is live.
    pub(crate) async fn idle(&self) {
        loop {
            let change = self.0.idle.notified();
            if self.0.live.is_empty() {
                return;
            }
            change.await;
        }
    }

    pub(crate) fn hangup_all(&self) {
        for inbox in self.0.live.inboxes() {
            // An error is ignored, because an ended call needs no hang-up.
            let _ = inbox.post(Message::HangupAll);
        }
    }
}
