//! The dialogs: INVITE sessions from the INVITE to the response to the BYE. Each session is a [`Leg`].
//!
//! ```text
//!   requests of the far end ──> handle_in_dialog, accept_invite ─┐
//!   responses to own requests ──────> handle_response ───────────┼─> a Leg ──> Event, request, response
//!   the application ──> handle_command ──────────────────────────┘
//! ```
//!
//! [`Dialogs`] owns only the legs. With each input, [`Dialogs`] gets a [`Context`] with the machines that it uses
//! (transactions, trunks, phones). [`Dialogs`] cannot call forks, lookups or the hub. These modules do the work of a
//! leg:
//!
//! - `calling` and `incoming` create legs.
//! - `in_dialog` handles requests of the far end, `command` handles commands of the application.
//! - `offer` is the state of offer and answer, and `offering` sends offers.
//! - `reliable`, `delayed_offer`, `session_timer` and `refer` are the extensions.
use std::sync::Arc;
use std::time::Instant;

use slotmap::SlotMap;

use super::core::Core;
use super::phones::Phones;
use super::state::{ByeHeaders, End, EndReport, Leg, PROVISIONAL_REPEAT, State};
use super::transactions::Transactions;
use super::transactions::client::{InDialogRequest, Purpose};
use super::trunks::Trunks;
use crate::HashMap;
use crate::compose::ResponseParts;
use crate::keys::{ClientId, LegSlot, ServerId};
use crate::ladder::Ladder;
use crate::leg::{Command, EndCause, Event, LegId};
use crate::message::{Method, Request, Response};
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

    /// Handles a command for a leg.
    pub(super) fn handle_command(&mut self, cx: &mut Context<'_>, slot: LegSlot, command: Command) {
        if self.legs.get(slot).is_none_or(super::state::Leg::is_reported) {
            return;
        }
        match command {
            Command::Invite { .. }
            | Command::Ring { .. }
            | Command::Rename { .. }
            | Command::End(_)
            | Command::EndUnanswered(_)
            | Command::Directory(_) => {}
            Command::Provisional { status, sdp, headers, .. } => {
                self.provisional(cx, slot, status, sdp.as_ref(), &headers);
            }
            Command::Answer { sdp, headers, .. } => self.answer(cx, slot, &sdp, &headers),
            Command::Reject { status, reason, headers, .. } => {
                self.reject(cx, slot, status, reason.as_deref(), "", &headers);
            }
            Command::Hangup { status, reason, headers, .. } => self.hangup(cx, slot, status, reason, headers),
            Command::AnswerOffer { sdp, .. } => self.answer_offer(cx, slot, &sdp),
            Command::RejectOffer { status, reason, headers, .. } => {
                self.reject_offer(cx, slot, status, reason.as_deref(), &headers);
            }
            Command::Offer { sdp, .. } => self.offer(cx, slot, sdp, None),
            Command::OfferRecording { sdp, metadata, .. } => self.offer(cx, slot, sdp, Some(metadata)),
            Command::Info { content_type, body, .. } => {
                if self.legs.get(slot).is_some_and(|leg| matches!(leg.state, State::Established)) {
                    let body = Some((content_type, body));
                    self.send_in_dialog(
                        cx,
                        slot,
                        Method::Info,
                        Purpose::Info,
                        InDialogRequest { body, ..InDialogRequest::default() },
                    );
                }
            }
            Command::Refer { refer, .. } => self.refer(cx, slot, *refer),
            Command::AnswerRefer { status, .. } => self.answer_refer(cx, slot, status),
            Command::NotifyRefer { status, .. } => self.notify_refer(cx, slot, status),
        }
    }

    /// Handles a response to a request in a dialog. A dialog without a leg is also possible.
    pub(super) fn handle_response(&mut self, cx: &mut Context<'_>, id: ClientId, response: &Response) {
        let Some(client) = cx.transactions.client(id) else { return };
        let (purpose, leg) = (client.purpose, client.leg.filter(|&leg| self.legs.contains_key(leg)));
        match (purpose, leg) {
            (Purpose::Invite, leg) => self.deliver_to_invite(cx, id, leg, response),
            (Purpose::Reinvite, leg) => self.deliver_to_reinvite(cx, id, leg, response),
            (Purpose::Bye, Some(leg)) if response.status >= 200 => {
                if !self.repeat_with_credentials(cx, id, leg, response) {
                    self.finish_ending(cx, leg);
                }
            }
            (Purpose::Cancel, _) => {}
            (_, Some(leg)) if response.status >= 200 => {
                if !self.repeat_with_credentials(cx, id, leg, response) {
                    self.answered_in_dialog(cx, leg, purpose, response.status, Some(response));
                }
            }
            (_, _) => {}
        }
    }

    /// Handles a CANCEL. `server` is the transaction of the cancelled INVITE. The CANCEL has already been answered (RFC
    /// 3261 §9.2).
    pub(super) fn handle_cancel(&mut self, cx: &mut Context<'_>, slot: LegSlot, server: ServerId, request: &Request) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if matches!(leg.state, State::Ringing { server: ringing, .. } if ringing == server) {
            let end = End {
                cause: EndCause::Cancelled,
                status: Some(487),
                reason: request.content.value("Reason"),
                headers: request.content.application_headers(),
            };
            self.finish(cx, slot, end);
        } else {
            leg.offer.cancel(server);
        }
    }
}

impl Dialogs {
    /// Returns a new key that no leg has.
    pub(super) fn fresh_leg_key(&self, cx: &mut Context<'_>) -> LegId {
        loop {
            let key = cx.core.new_leg_key(cx.now);
            if !self.by_key.contains_key(&key) {
                return key;
            }
        }
    }

    /// Sets the timer of the leg to the leg's next timeout.
    pub(super) fn arm_leg(&mut self, cx: &mut Context<'_>, slot: LegSlot) {
        if let Some(leg) = self.legs.get_mut(slot) {
            let next = leg.next_timeout();
            cx.core.timers.arm(&mut leg.wake, next, Owner::Leg(slot));
        }
    }

    /// Reports the end of the leg to the application. A second call for the same leg reports nothing.
    pub(super) fn report_end(&mut self, cx: &mut Context<'_>, slot: LegSlot, end: End) {
        if let Some(leg) = self.legs.get_mut(slot)
            && !leg.is_reported()
        {
            leg.end_report = EndReport::Done;
            cx.core.traced.remove(slot);
            let leg = leg.key;
            let End { cause, status, reason, headers } = end;
            cx.core.event(Event::Ended { leg, cause, status, reason, headers });
        }
    }

    /// Reports the end of the leg and removes the leg. The transactions of the leg are not removed. They end by their
    /// timers.
    pub(super) fn finish(&mut self, cx: &mut Context<'_>, slot: LegSlot, end: End) {
        self.report_end(cx, slot, end);
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

    /// Adds a leg to the tables.
    pub(super) fn insert_leg(
        &mut self,
        cx: &mut Context<'_>,
        make: impl FnOnce(&mut Context<'_>, LegSlot) -> Leg,
    ) -> LegSlot {
        let slot = self.legs.insert_with_key(|slot| make(cx, slot));
        if let Some(leg) = self.legs.get(slot) {
            if let Some(ladder) = &self.ladder {
                ladder.begin(leg.key, &leg.dialog.call_id);
            }
            self.by_key.insert(leg.key, slot);
            self.by_tag.insert(leg.tag, slot);
            cx.core.traced.insert(slot, leg.key);
        }
        slot
    }

    /// Handles the timers of the leg that are due.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>, at: Instant, slot: LegSlot) {
        let t2 = cx.core.config.timers.t2;
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if leg.wake == Some(at) {
            leg.wake = None;
        }
        if matches!(leg.end_report, EndReport::DueBy(at) if at <= cx.now) {
            let end = match &mut leg.state {
                State::Ending(end) => std::mem::replace(&mut **end, End::of(EndCause::LocalHangup, None)),
                _ => End::of(EndCause::LocalHangup, None),
            };
            self.report_end(cx, slot, end);
        }
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if let State::Ringing { server, expires: Some(expires), .. } = &leg.state
            && *expires <= cx.now
        {
            let server = *server;
            self.abandon_offer(cx, slot);
            cx.respond(server, ResponseParts { status: 487, ..ResponseParts::default() });
            self.finish(cx, slot, End::of(EndCause::Cancelled, Some(487)));
            return;
        }
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if let State::Ringing { server, repeat: Some(repeat), .. } = &mut leg.state
            && *repeat <= cx.now
        {
            *repeat = cx.now + PROVISIONAL_REPEAT;
            let server = *server;
            // RFC 3262 §3: a reliable provisional response is not repeated here. A new provisional response is sent
            // instead.
            if !self.send_reliable(cx, slot, 180, None, &[]) {
                cx.transactions.transmit_response(cx.core, server, true);
            }
        }
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if let State::Calling(calling) = &mut leg.state
            && calling.give_up().is_some_and(|at| at <= cx.now)
        {
            // RFC 3261 §9.1: the INVITE transaction counts as cancelled 64*T1 after the CANCEL.
            let client = calling.client;
            cx.transactions.remove_client(client);
            self.finish(cx, slot, End::of(EndCause::LocalHangup, Some(487)));
            return;
        }
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if let Some(ack) = &mut leg.awaiting_ack {
            if ack.deadline <= cx.now {
                let bye = leg.awaiting_ack.take().and_then(|ack| ack.bye);
                let (bye_headers, end) =
                    bye.unwrap_or_else(|| (ByeHeaders::default(), End::of(EndCause::AckTimeout, None)));
                self.send_bye(cx, slot, bye_headers, end);
            } else if ack.retransmit <= cx.now {
                ack.interval = (ack.interval * 2).min(t2);
                ack.retransmit = cx.now + ack.interval;
                cx.core.counters.repeated += 1;
                let (flow, data) = (ack.flow, ack.response.clone());
                cx.core.transmit(flow, data);
                cx.core.trace(Some(slot), true, flow, || "200 OK (INVITE) (retransmission)".to_owned());
            }
        }
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if leg.waiting_offer.as_ref().is_some_and(|waiting| waiting.at <= cx.now) {
            self.send_offer(cx, slot);
        }
        self.reliable_timeout(cx, slot);
        self.session_timeout(cx, slot);
        self.referral_timeout(cx, slot);
        self.arm_leg(cx, slot);
    }
}
