//! Requests that go out: client transactions, their responses, and what those do to a leg.

use std::time::Instant;

use bytes::Bytes;

use super::server::response_line;
use super::state::{Acknowledge, Again, Client, End, Farewell, Purpose, State};
use super::{Endpoint, Target};
use crate::arena::Slot;
use crate::compose::{self, RequestParts};
use crate::dialog::{Dialog, DialogState, Flow, NextHop};
use crate::digest;
use crate::leg::{EndCause, Event, Transport};
use crate::message::{Method, Response};
use crate::timer::Owner;
use crate::transaction::{Action, ClientInput, ClientMachine};

/// How much of a message is looked through for its first branch, octets.
const HEAD: usize = 2_048;

impl Endpoint {
    /// Whether a message is a response that a transaction of ours waits for: its first branch is one that we drew, which nobody
    /// else can guess. Only the beginning of the message is looked at.
    #[must_use]
    pub fn awaits(&self, data: &[u8]) -> bool {
        let head = data.get(..HEAD).unwrap_or(data);
        if !head.starts_with(b"SIP/2.0 ") {
            return false;
        }
        let name = b"branch=";
        let Some(at) = head.windows(name.len()).position(|window| window == name) else { return false };
        let at = at + name.len();
        let branch = head.get(at..at + compose::BRANCH_LENGTH).and_then(compose::branch_number);
        branch.is_some_and(|branch| {
            self.lingering.has_asked(branch)
                || [true, false].iter().any(|cancel| self.clients_by_branch.contains_key(&(branch, *cancel)))
        })
    }

    pub(super) fn handle_response(&mut self, now: Instant, response: &Response) {
        // RFC 3261 §8.1.3.3: more than one Via means it was meant for somebody else.
        let branch = compose::branch_number(&response.branch).filter(|_| response.via_count == 1);
        let Some(branch) = branch else {
            tracing::debug!(status = response.status, "response matches no transaction");
            return;
        };
        let cancel = response.method == Method::Cancel;
        let Some(&slot) = self.clients_by_branch.get(&(branch, cancel)) else {
            return self.handle_late_response(now, branch, response);
        };
        let Some(client) = self.clients.get(slot) else { return };
        if client.method != response.method {
            return;
        }
        let (leg, flow, again) = (client.leg, client.flow, !client.machine.is_pending());
        self.trace(leg, false, flow, || {
            response_line(response.status, &response.reason(), response.method.as_str(), again)
        });
        self.run_client(now, slot, ClientInput::Response(response.status), Some(response));
    }

    pub(super) fn client_timeout(&mut self, now: Instant, at: Instant, slot: Slot) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.wake == Some(at) {
            client.wake = None;
        }
        match client.machine.take_due(now) {
            Some(timer) => self.run_client(now, slot, ClientInput::Timer(timer), None),
            None => {
                let next = client.next_wake(&self.timers);
                self.timers.arm(&mut client.wake, next, Owner::Client(slot));
            }
        }
    }

    pub(super) fn run_client(&mut self, now: Instant, slot: Slot, input: ClientInput, response: Option<&Response>) {
        let mut actions = std::mem::take(&mut self.actions);
        if let Some(client) = self.clients.get_mut(slot) {
            client.machine.handle(now, input, &self.config.timers, &mut actions);
            // Who lingers needs no timer of its own; whether it can is known after the ACK.
            let next = client.next_wake(&self.timers).filter(|_| client.machine.lingers_until().is_none());
            self.timers.arm(&mut client.wake, next, Owner::Client(slot));
        }
        for action in actions.drain(..) {
            match action {
                Action::Transmit | Action::Retransmit => self.retransmit_request(slot),
                Action::Acknowledge => {
                    if let Some(response) = response {
                        self.acknowledge_refusal(slot, response);
                    }
                }
                Action::Deliver => {
                    if let Some(response) = response {
                        self.deliver(now, slot, response);
                    }
                }
                Action::TimedOut => self.request_failed(now, slot, EndCause::Timeout),
                Action::TransportFailed(why) => self.request_failed(now, slot, EndCause::Unconnected(why)),
                Action::Terminate => self.remove_client(slot),
            }
        }
        self.actions = actions;
        let Some(client) = self.clients.get_mut(slot).filter(|client| !client.machine.is_pending()) else { return };
        // From now on ACKs are repeated, never the request.
        client.request = Bytes::new();
        let Some(until) = client.machine.lingers_until() else { return };
        if client.purpose == Purpose::Invite
            && client.acknowledged_alike
            && let (Some(response), [_]) = (response, client.acknowledged.as_slice())
            && response.content.contact().is_some()
        {
            let (branch, leg, flow) = (client.branch, client.leg, client.flow);
            self.remove_client(slot);
            let tag = self.tag_hash(response);
            self.lingering.ask(until, branch, leg, flow, tag);
        } else {
            self.timers.arm(&mut client.wake, Some(until), Owner::Client(slot));
        }
    }

    fn retransmit_request(&mut self, slot: Slot) {
        let Some(client) = self.clients.get(slot) else { return };
        let (leg, flow, data) = (client.leg, client.flow, client.request.clone());
        self.repeated += 1;
        self.transmit(flow, data.clone());
        self.trace(leg, true, flow, || format!("{} (retransmission)", start_line(&data)));
    }

    fn deliver(&mut self, now: Instant, slot: Slot, response: &Response) {
        // RFC 3263 §4.3.
        if response.status == 503 && self.try_next(now, slot) {
            return;
        }
        let Some(client) = self.clients.get(slot) else { return };
        let (purpose, leg) = (client.purpose, client.leg.filter(|&leg| self.legs.get(leg).is_some()));
        match (purpose, leg) {
            (Purpose::Errand(errand), _) => self.errand_answered(now, errand, response),
            (Purpose::Invite, leg) => self.deliver_to_invite(now, slot, leg, response),
            (Purpose::Reinvite, leg) => self.deliver_to_reinvite(now, slot, leg, response),
            (Purpose::Bye, Some(leg)) if response.status >= 200 => {
                if !self.repeat_with_credentials(now, slot, leg, response) {
                    self.finish_ending(leg);
                }
            }
            (Purpose::Cancel, _) => {}
            (_, Some(leg)) if response.status >= 200 => {
                if !self.repeat_with_credentials(now, slot, leg, response) {
                    self.answered_in_dialog(now, leg, purpose, response.status, Some(response));
                }
            }
            (_, _) => {}
        }
    }

    /// What a final response does, or a silence that counts as 408.
    fn answered_in_dialog(
        &mut self,
        now: Instant,
        leg: Slot,
        purpose: Purpose,
        status: u16,
        response: Option<&Response>,
    ) {
        match purpose {
            Purpose::Refresh => self.refresh_answered(now, leg, status, response),
            Purpose::Refer => self.refer_answered(leg, status, response),
            Purpose::Notify => self.news_answered(now, leg, status),
            Purpose::Update => self.update_answered(now, leg, status, response),
            Purpose::Invite
            | Purpose::Reinvite
            | Purpose::Cancel
            | Purpose::Bye
            | Purpose::Info
            | Purpose::Prack
            | Purpose::Errand(_) => {}
        }
    }

    fn finish_ending(&mut self, leg: Slot) {
        let end = match self.legs.get_mut(leg).map(|leg| &mut leg.state) {
            Some(State::Ending(end)) => std::mem::replace(&mut **end, End::of(EndCause::LocalHangup, None)),
            _ => End::of(EndCause::LocalHangup, None),
        };
        self.finish(leg, end);
    }

    fn request_failed(&mut self, now: Instant, slot: Slot, cause: EndCause) {
        if self.try_next(now, slot) {
            return;
        }
        let Some(client) = self.clients.get(slot) else { return };
        let purpose = client.purpose;
        if let Purpose::Errand(errand) = purpose {
            return self.errand_failed(now, errand, cause);
        }
        let Some(leg_slot) = client.leg else { return };
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let key = leg.key;
        match purpose {
            Purpose::Invite => {
                let State::Calling(calling) = &leg.state else { return };
                if calling.client != slot {
                    return;
                }
                let hung_up = calling.hangup.is_some();
                let cause = if hung_up { EndCause::LocalHangup } else { cause };
                if !hung_up {
                    self.judge_peer(now, leg_slot, false);
                }
                self.finish(leg_slot, End::of(cause, None));
            }
            Purpose::Bye => self.finish_ending(leg_slot),
            Purpose::Reinvite => {
                leg.offering = None;
                if matches!(leg.state, State::Established) && !leg.reported {
                    self.event(Event::OfferRejected { leg: key, status: 408 });
                    // RFC 3261 §14.1: no answer counts as 408, and 408 ends the dialog.
                    self.send_bye(now, leg_slot, Farewell::default(), End::of(cause, None));
                }
            }
            Purpose::Cancel | Purpose::Errand(_) => {}
            purpose => self.answered_in_dialog(now, leg_slot, purpose, 408, None),
        }
    }

    /// Sends BYE and waits for its answer before the leg is forgotten; the end is reported by then, or after 4*T1.
    pub(super) fn send_bye(&mut self, now: Instant, slot: Slot, farewell: Farewell, end: End) {
        let report_by = now + self.config.timers.t1 * 4;
        self.abandon_offer(now, slot);
        self.acknowledge_without_answer(now, slot);
        self.tell_last_news(now, slot);
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.state = State::Ending(Box::new(end));
        leg.awaiting_ack = None;
        if !leg.reported && leg.report_by.is_none() {
            leg.report_by = Some(report_by);
        }
        if let Some(offered) = leg.offered.take() {
            self.respond(now, offered, compose::ResponseParts { status: 487, ..Default::default() });
        }
        let Farewell { lines, headers } = farewell;
        self.send_in_dialog(now, slot, Method::Bye, Purpose::Bye, Again { lines, headers, ..Again::default() });
        self.arm_leg(slot);
    }

    /// Hangs up a dialog that no leg stands for: a second fork's.
    pub(super) fn send_bye_outside(&mut self, now: Instant, mut dialog: Dialog) {
        dialog.local_cseq = dialog.local_cseq.wrapping_add(1);
        let branch = self.random_u128();
        let hop = self.next_hop_in(now, &dialog);
        let data = self.compose_in_dialog(&dialog, &hop, branch, "BYE", dialog.local_cseq, &Again::default(), "");
        self.start_client(now, Method::Bye, branch, hop.flow, data, None, Purpose::Bye);
    }

    /// Hangs up a dialog of an earlier process, if a socket of ours reaches its peer and there is room for the transaction.
    pub(super) fn end_stored(&mut self, now: Instant, state: DialogState) {
        let (transport, peer) = state.way();
        if matches!(transport, Transport::Ws | Transport::Wss) || !self.has_room() {
            return;
        }
        let dialog = self.local_for(transport, peer.ip()).and_then(|local| state.restored(local));
        if let Some(dialog) = dialog {
            self.send_bye_outside(now, dialog);
        }
    }

    pub(super) fn send_in_dialog(&mut self, now: Instant, slot: Slot, method: Method, purpose: Purpose, again: Again) {
        self.send_along(now, slot, None, method, purpose, again);
    }

    /// The same in one of the leg's early dialogs, if one is given. All of them are numbered in one row, the leg's own.
    pub(super) fn send_along(
        &mut self,
        now: Instant,
        slot: Slot,
        early: Option<&Dialog>,
        method: Method,
        purpose: Purpose,
        mut again: Again,
    ) {
        let branch = self.random_u128();
        let Some(leg) = self.legs.get(slot) else { return };
        let hop = self.next_hop_in(now, early.unwrap_or(&leg.dialog));
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.dialog.local_cseq = leg.dialog.local_cseq.wrapping_add(1);
        let cseq = leg.dialog.local_cseq;
        again.refer = leg.extensions.may_refer;
        again.records = leg.extensions.records;
        let authorization = match leg.session.as_mut().filter(|session| session.trusts(hop.flow.peer.ip())) {
            Some(session) => {
                let body = again.body.as_ref().map(|(_, body)| body.as_ref()).unwrap_or_default();
                session.lines(method.as_str(), &String::from_utf8_lossy(&hop.uri), body, &mut self.rng)
            }
            None => String::new(),
        };
        let authenticates = leg.session.is_some();
        let lines = [&*authorization, &*again.lines].concat();
        let Some(leg) = self.legs.get(slot) else { return };
        let dialog = early.unwrap_or(&leg.dialog);
        let data = self.compose_in_dialog(dialog, &hop, branch, method.as_str(), cseq, &again, &lines);
        let NextHop { flow, uri, routes } = hop;
        let acknowledge = (method == Method::Invite).then(|| {
            Box::new(Acknowledge {
                uri,
                routes,
                from: dialog.local.clone(),
                call_id: dialog.call_id.clone(),
                cseq,
                authorization,
                bytes: None,
            })
        });
        let client = self.start_client(now, method, branch, flow, data, Some(slot), purpose);
        if matches!(purpose, Purpose::Reinvite | Purpose::Update)
            && let Some(offering) = self.legs.get_mut(slot).and_then(|leg| leg.offering.as_mut())
        {
            offering.client = Some(client);
        }
        if let Some(client) = self.clients.get_mut(client) {
            client.again = authenticates.then(|| Box::new(again));
            client.acknowledge = acknowledge;
        }
    }

    /// RFC 3261 §22.2 for requests in a dialog. `false`: the response is to be taken as it is.
    pub(super) fn repeat_with_credentials(
        &mut self,
        now: Instant,
        slot: Slot,
        leg_slot: Slot,
        response: &Response,
    ) -> bool {
        if !matches!(response.status, 401 | 407) {
            return false;
        }
        let Some(client) = self.clients.get_mut(slot) else { return false };
        let (method, purpose, asker) = (client.method.clone(), client.purpose, client.flow.peer.ip());
        let Some(mut again) = client.again.take() else { return false };
        let Some(session) = self.legs.get_mut(leg_slot).and_then(|leg| leg.session.as_mut()) else { return false };
        if !session.trusts(asker) || !session.learn(digest::challenges(response), &mut again.attempts) {
            return false;
        }
        self.send_in_dialog(now, leg_slot, method, purpose, *again);
        true
    }

    /// Sends the ACK of a 2xx once more, if it was sent before.
    pub(super) fn acknowledge_again(&mut self, slot: Slot, response: &Response) -> bool {
        let Some(client) = self.clients.get(slot) else { return true };
        let tag = response.to.tag.as_deref().unwrap_or_default();
        let Some((_, data, flow)) = client.acknowledged.iter().find(|(known, _, _)| known == tag).cloned() else {
            return false;
        };
        let leg = client.leg;
        self.transmit(flow, data.clone());
        self.trace(leg, true, flow, || format!("{} (retransmission)", start_line(&data)));
        true
    }

    /// RFC 3261 §13.2.2.4: the ACK of a 2xx is a request of its own, along the dialog's route set.
    pub(super) fn acknowledge_answer(
        &mut self,
        now: Instant,
        slot: Slot,
        leg: Option<Slot>,
        dialog: &Dialog,
        cseq: u32,
        again: &Again,
    ) {
        let Some(branch) = self.clients.get(slot).map(|client| client.branch) else { return };
        let (flow, data) = self.compose_ack(now, branch, dialog, cseq, again);
        self.transmit(flow, data.clone());
        self.trace(leg, true, flow, || start_line(&data));
        if let Some(client) = self.clients.get_mut(slot) {
            client.acknowledged_alike = again.is_empty();
            // A copy: the tag as it was parsed would keep the whole response.
            client.acknowledged.push((Bytes::copy_from_slice(&dialog.remote_tag), data, flow));
        }
    }

    /// The ACK of a 2xx to the INVITE with this branch: the same for every repetition of it.
    pub(super) fn compose_ack(
        &self,
        now: Instant,
        branch: u128,
        dialog: &Dialog,
        cseq: u32,
        again: &Again,
    ) -> (Flow, Bytes) {
        let branch = self.key_of((branch, &dialog.remote_tag)).0;
        let hop = self.next_hop_in(now, dialog);
        (hop.flow, self.compose_in_dialog(dialog, &hop, branch, "ACK", cseq, again, &again.lines))
    }

    /// The way of the next request in a dialog.
    fn next_hop_in(&self, now: Instant, dialog: &Dialog) -> NextHop {
        // Phones, and guests, are those whose way is kept.
        let contact = dialog.flow.pinned.then(|| self.contact_of_gruu(now, &dialog.target)).flatten();
        let (uri, routes) = dialog.request_uri_and_routes(contact.as_ref().unwrap_or(&dialog.target));
        NextHop { flow: dialog.next_flow(), uri, routes }
    }

    #[expect(clippy::too_many_arguments, reason = "one message's parts, named at every call")]
    fn compose_in_dialog(
        &self,
        dialog: &Dialog,
        hop: &NextHop,
        branch: u128,
        method: &str,
        cseq: u32,
        again: &Again,
        lines: &str,
    ) -> Bytes {
        let refreshes = matches!(method, "INVITE" | "UPDATE" | "REFER" | "NOTIFY");
        let contact = refreshes.then(|| self.contact(hop.flow));
        compose::request(&RequestParts {
            method,
            uri: &hop.uri,
            via_transport: Some(hop.flow.transport),
            sent_by: self.sent_by(hop.flow),
            branch,
            routes: &hop.routes,
            from: &dialog.local,
            to: &dialog.remote,
            call_id: &dialog.call_id,
            cseq,
            contact: contact.as_deref(),
            features: again.features(),
            lines,
            headers: &again.headers,
            body: again.body.as_ref().map(|(content_type, body)| (content_type.as_str(), body.as_ref())),
            user_agent: &self.config.user_agent,
            refer: again.refer,
            ..RequestParts::default()
        })
    }

    #[expect(clippy::too_many_arguments, reason = "a transaction's parts, named at every call")]
    pub(super) fn start_client(
        &mut self,
        now: Instant,
        method: Method,
        branch: u128,
        flow: Flow,
        mut data: Bytes,
        leg: Option<Slot>,
        purpose: Purpose,
    ) -> Slot {
        let mut flow = flow;
        if let Some(local) = self.locals.get(flow.local)
            && (local.transport != flow.transport || local.bound.is_ipv4() != flow.peer.is_ipv4())
            && let Some(local) = self.local_for(flow.transport, flow.peer.ip())
        {
            flow.local = local;
        }
        let mut fallback = Vec::new();
        if let Some(whole) = self.avoid_fragments(now, flow, data.len()) {
            let contact = self.contact(flow);
            let contacts = (contact.clone(), contact);
            data = compose::rerouted(&data, whole.transport, self.sent_by(whole), branch, &contacts);
            fallback.push(Target { transport: flow.transport, address: flow.peer, identity: None });
            flow = whole;
        }
        let invite = method == Method::Invite;
        let cancel = method == Method::Cancel;
        let machine = ClientMachine::new(now, invite, flow.transport.is_reliable(), &self.config.timers);
        let next = machine.next_timeout();
        self.transmit(flow, data.clone());
        self.trace(leg, true, flow, || start_line(&data));
        let slot = self.clients.insert(Client {
            machine,
            method,
            branch,
            purpose,
            leg,
            flow,
            request: data,
            acknowledge: None,
            acknowledged_alike: false,
            acknowledged: Vec::new(),
            alternatives: Vec::new(),
            again: None,
            wake: None,
        });
        self.clients_by_branch.insert((branch, cancel), slot);
        if flow.transport.is_reliable() {
            self.stream_clients.entry(flow.peer).or_default().insert(slot);
        }
        if let Some(client) = self.clients.get_mut(slot) {
            self.timers.arm(&mut client.wake, next, Owner::Client(slot));
        }
        self.may_also_try(now, slot, fallback, false);
        slot
    }

    pub(super) fn remove_client(&mut self, slot: Slot) {
        let Some(client) = self.clients.remove(slot) else { return };
        self.clients_by_branch.remove(&(client.branch, client.method == Method::Cancel));
        if client.flow.transport.is_reliable()
            && let Some(slots) = self.stream_clients.get_mut(&client.flow.peer)
        {
            slots.remove(&slot);
            if slots.is_empty() {
                self.stream_clients.remove(&client.flow.peer);
            }
        }
    }
}

/// `INVITE sip:...` of a request we wrote.
pub(super) fn start_line(data: &[u8]) -> String {
    let line = data.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.strip_suffix(" SIP/2.0").unwrap_or(&line).to_owned()
}
