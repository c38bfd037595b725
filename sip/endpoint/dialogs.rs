//! The dialogs: INVITE sessions from the INVITE to the response to the BYE. Each session is a [`Leg`].
//!
//! ```text
//!   requests of the far end ──> handle_in_dialog, accept_invite ─┐
//!   responses to own requests ──────> handle_response ───────────┼─> a Leg ──> Event, request, response
//!   the application ──> handle_command ──────────────────────────┘
//! ```
//!
//! [`Dialogs`] owns only the legs. With each input, [`Dialogs`] gets a [`Context`] with the machines that it uses
//! (transactions, trunks, phones). [`Dialogs`] cannot call lookups or the hub. [`Dialogs`] finds the leg of the
//! input. Then a [`LegCx`], which has the leg and the context, does the work. These modules are parts of [`LegCx`]:
//!
//! - `calling` and `incoming` create legs.
//! - `in_dialog` handles requests of the far end, `command` handles commands of the application.
//! - `lost_flow` finds a far end whose WebSocket was lost while its call rang.
//! - `offer` is the state of offer and answer, and `offering` sends offers.
//! - `reliable`, `delayed_offer`, `session_timer` and `refer` are the extensions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use slotmap::SlotMap;

use super::Arrival;
use super::core::Core;
use super::leg_cx::LegCx;
use super::phones::Phones;
use super::state::{Leg, LostFlow};
use super::transactions::client::Purpose;
use super::transactions::{Key, Transactions};
use super::trunks::Trunks;
use crate::HashMap;
use crate::compose::ResponseParts;
use crate::keys::{ClientId, LegSlot, ServerId};
use crate::ladder::Ladder;
use crate::leg::{Command, LegId};
use crate::message::{Echo, Method, Request, Response};
use crate::timer::Owner;

/// The other machines that the dialogs use while they handle one input.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) core: &'a mut Core,
    pub(super) transactions: &'a mut Transactions,
    pub(super) trunks: &'a mut Trunks,
    pub(super) phones: &'a Phones,
}

impl Context<'_> {
    /// Responds through the server transaction. The transaction repeats the response for each retransmission of the
    /// request.
    pub(super) fn respond(&mut self, server: ServerId, parts: ResponseParts<'_>) {
        let _ = self.transactions.respond(self.core, self.now, server, parts);
    }

    /// Returns whether there is room for another transaction.
    pub(super) fn has_room(&self) -> bool {
        self.transactions.has_room(self.core)
    }
}

/// All legs.
#[derive(Default)]
pub(super) struct Dialogs {
    pub(super) legs: SlotMap<LegSlot, Leg>,
    pub(super) by_key: HashMap<LegId, LegSlot>,
    /// Legs by their local tag.
    pub(super) by_tag: HashMap<u64, LegSlot>,
    /// Callers with a WebSocket. A call that is up, or that has ended, leaves the list when the list is used or grows.
    web_callers: Vec<LegSlot>,
    /// The message log. The dialogs report the Call-IDs of their legs to this log.
    pub(super) ladder: Option<Arc<Ladder>>,
}

impl Dialogs {
    /// Returns the number of legs that have not ended, including legs whose BYE has no response yet.
    pub(super) fn len(&self) -> usize {
        self.legs.len()
    }

    /// Returns whether there is a leg with this key.
    pub(super) fn holds(&self, key: LegId) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Returns the id of the leg with this key.
    pub(super) fn id_of(&self, key: LegId) -> Option<LegSlot> {
        self.by_key.get(&key).copied()
    }

    /// Changes the key of a leg, in the trace and the ladder too. This is needed when a branch of a fork was answered:
    /// the branch gets the key of the leg that the application knows.
    pub(super) fn rename(&mut self, core: &mut Core, from: LegId, to: LegId) {
        let Some(leg) = self.id_of(from).and_then(|slot| self.legs.get_mut(slot)) else { return };
        if leg.is_reported() {
            return;
        }
        if self.by_key.contains_key(&to) {
            tracing::error!(leg = ?to, "leg key used twice");
            return;
        }
        leg.key = to;
        leg.extensions.branch_of = None;
        if let Some(ladder) = &self.ladder {
            ladder.rename(&leg.dialog.call_id, from, to);
        }
        if let Some(slot) = self.by_key.remove(&from) {
            self.by_key.insert(to, slot);
            core.traced.insert(slot, to);
        }
    }

    /// Drops the timer of a leg that is due at `at`, if the leg has nothing to do at this time.
    /// [`Transactions::skip_client_timer`] does the same for a client transaction.
    pub(super) fn skip_timer(&mut self, core: &mut Core, at: Instant, slot: LegSlot) -> bool {
        let Some(leg) = self.legs.get_mut(slot) else { return core.timers.skip(None, at, None, Owner::Leg(slot)) };
        let next = leg.next_timeout();
        core.timers.skip(Some(&mut leg.wake), at, next, Owner::Leg(slot))
    }

    /// Calls `work` with the leg and the context. Afterwards, removes the leg if it has finished. Returns whether there
    /// is such a leg.
    pub(super) fn with(&mut self, cx: &mut Context<'_>, slot: LegSlot, work: impl FnOnce(&mut LegCx<'_, '_>)) -> bool {
        let Some(leg) = self.legs.get_mut(slot) else { return false };
        let mut leg = LegCx { slot, leg, cx, finished: false };
        work(&mut leg);
        if leg.finished {
            self.remove(cx, slot);
        }
        true
    }

    /// Handles a command for a leg.
    pub(super) fn handle_command(&mut self, cx: &mut Context<'_>, slot: LegSlot, command: Command) {
        self.with(cx, slot, |leg| leg.handle_command(command));
    }

    /// Handles a response to a request in a dialog. A dialog without a leg is also possible.
    pub(super) fn handle_response(&mut self, cx: &mut Context<'_>, id: ClientId, response: &Response) {
        let Some(client) = cx.transactions.client(id) else { return };
        let purpose = client.purpose;
        let slot = client.leg;
        let handled = slot.is_some_and(|slot| self.with(cx, slot, |leg| leg.handle_response(id, purpose, response)));
        let is_answer = (200..300).contains(&response.status) && matches!(purpose, Purpose::Invite | Purpose::Reinvite);
        if handled || !is_answer {
            return;
        }
        let dialog = cx.acknowledge_without_leg(id, response);
        if let Some(dialog) = dialog.filter(|_| purpose == Purpose::Invite) {
            cx.send_bye_without_leg(dialog);
        }
    }

    /// Handles a request in a dialog of a leg.
    pub(super) fn handle_in_dialog(
        &mut self,
        cx: &mut Context<'_>,
        arrival: &Arrival,
        slot: LegSlot,
        request: Request,
        key: Key,
        echo: Echo,
    ) {
        let may_refer = self.legs.get(slot).is_some_and(|leg| leg.extensions.may_refer);
        let replaced =
            if may_refer && request.method == Method::Refer { self.replaced_by_refer(&request) } else { None };
        self.with(cx, slot, |leg| leg.handle_in_dialog(arrival, request, key, echo, replaced));
    }

    /// Handles the ACK of a 2xx.
    pub(super) fn handle_ack(&mut self, cx: &mut Context<'_>, arrival: &Arrival, slot: LegSlot, request: &Request) {
        self.with(cx, slot, |leg| leg.handle_ack(arrival, request));
    }

    /// Handles a CANCEL. `server` is the transaction of the cancelled INVITE.
    pub(super) fn handle_cancel(&mut self, cx: &mut Context<'_>, slot: LegSlot, server: ServerId, request: &Request) {
        self.with(cx, slot, |leg| leg.handle_cancel(server, request));
    }

    /// Handles the timers of the leg that are due.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>, at: Instant, slot: LegSlot) {
        self.with(cx, slot, |leg| leg.handle_timeout(at));
    }

    /// Handles the loss of a WebSocket to `peer`.
    pub(super) fn lose_websocket(&mut self, cx: &mut Context<'_>, peer: SocketAddr) {
        for slot in self.web_callers(|leg| leg.dialog.flow.peer == peer) {
            self.with(cx, slot, |leg| leg.lose_flow());
        }
    }

    /// Handles a registration over a WebSocket: the far end of a leg may have come back.
    pub(super) fn find_flows(&mut self, cx: &mut Context<'_>) {
        for slot in self.web_callers(|leg| matches!(leg.extensions.lost_flow, Some(LostFlow::Gone(_)))) {
            self.with(cx, slot, |leg| leg.find_flow());
        }
    }

    /// Adds a caller to the list of callers with a WebSocket.
    pub(super) fn add_web_caller(&mut self, slot: LegSlot) {
        if self.web_callers.len() == self.web_callers.capacity() {
            self.web_callers.retain(|&slot| self.legs.get(slot).is_some_and(Leg::is_unacknowledged));
        }
        self.web_callers.push(slot);
    }

    /// Returns the callers with a WebSocket whose calls are not up, and that fit.
    fn web_callers(&mut self, fits: impl Fn(&Leg) -> bool) -> Vec<LegSlot> {
        self.web_callers.retain(|&slot| self.legs.get(slot).is_some_and(Leg::is_unacknowledged));
        self.web_callers.iter().copied().filter(|&slot| self.legs.get(slot).is_some_and(&fits)).collect()
    }

    /// Returns a new key that no leg has.
    pub(super) fn fresh_leg_key(&self, cx: &mut Context<'_>) -> LegId {
        loop {
            let key = cx.core.new_leg_key(cx.now);
            if !self.by_key.contains_key(&key) {
                return key;
            }
        }
    }

    /// Adds a leg to the tables.
    pub(super) fn insert_leg(
        &mut self,
        cx: &mut Context<'_>,
        make: impl FnOnce(&mut Context<'_>, LegSlot) -> Leg,
    ) -> LegSlot {
        let slot = self.legs.insert_with_key(|slot| make(cx, slot));
        if let Some(leg) = self.legs.get(slot) {
            if let Some(ladder) = &self.ladder {
                ladder.begin(leg.extensions.branch_of.unwrap_or(leg.key), &leg.dialog.call_id);
            }
            self.by_key.insert(leg.key, slot);
            self.by_tag.insert(leg.tag, slot);
            cx.core.traced.insert(slot, leg.key);
        }
        slot
    }

    /// Removes a leg from the tables. The transactions of the leg are not removed. They end by their timers.
    fn remove(&mut self, cx: &mut Context<'_>, slot: LegSlot) {
        if let Some(leg) = self.legs.remove(slot) {
            if let Some(ladder) = &self.ladder {
                ladder.end(&leg.dialog.call_id);
            }
            cx.trunks.release(cx.core, leg.trunk);
            self.by_tag.remove(&leg.tag);
            if self.by_key.get(&leg.key) == Some(&slot) {
                self.by_key.remove(&leg.key);
            }
        }
    }
}
