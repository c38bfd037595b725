//! Requests that go out: client transactions, their responses, and what those do to a leg.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::late::Acknowledgement;
use super::linger::Asked;
use super::state::{Acknowledge, Again, Calling, Client, End, Farewell, Leg, MAX_FORKS, Offering, Purpose, State};
use super::{Endpoint, Target, session_timer};
use crate::arena::Slot;
use crate::compose::{self, RequestParts};
use crate::dialog::{Dialog, Flow};
use crate::digest;
use crate::leg::{EndCause, Event, Prack};
use crate::message::{Method, Response, Uri};
use crate::timer::Owner;
use crate::transaction::{Action, ClientInput, ClientMachine};

/// How often an offer is put off at the peer's wish before it counts as refused, and for how many seconds each time.
const MOST_DEFERRALS: u8 = 10;
const LONGEST_DEFERRAL: u64 = 10;

impl Endpoint {
    pub(super) fn handle_response(&mut self, now: Instant, response: &Response) {
        // RFC 3261 §8.1.3.3: more than one Via means it was meant for somebody else.
        let branch = compose::branch_number(&response.branch).filter(|_| response.via_count == 1);
        let Some(branch) = branch else {
            tracing::debug!(status = response.status, "response to no transaction of ours");
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
            let again = if again { " (retransmission)" } else { "" };
            format!("{} {} ({}){again}", response.status, response.reason, response.method.as_str())
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
                let next = client.machine.next_timeout();
                self.timers.arm(&mut client.wake, next, Owner::Client(slot));
            }
        }
    }

    pub(super) fn run_client(&mut self, now: Instant, slot: Slot, input: ClientInput, response: Option<&Response>) {
        let mut actions = std::mem::take(&mut self.actions);
        if let Some(client) = self.clients.get_mut(slot) {
            client.machine.handle(now, input, &self.config.timers, &mut actions);
            // Who lingers needs no timer of its own; whether it can is known after the ACK.
            let next = client.machine.next_timeout().filter(|_| client.machine.lingers_until().is_none());
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
            let tags = vec![self.tag_hash(response)];
            self.lingering.ask(until, branch, Asked { leg, flow, tags });
        } else {
            self.timers.arm(&mut client.wake, Some(until), Owner::Client(slot));
        }
    }

    fn retransmit_request(&mut self, slot: Slot) {
        let Some(client) = self.clients.get(slot) else { return };
        let (leg, flow, data) = (client.leg, client.flow, client.request.clone());
        self.transmit(flow, data.clone());
        self.trace(leg, true, flow, || format!("{} (retransmission)", start_line(&data)));
    }

    /// RFC 3261 §17.1.1.3: the ACK of a refusal belongs to the INVITE's transaction.
    fn acknowledge_refusal(&mut self, slot: Slot, response: &Response) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let (leg, flow, branch) = (client.leg, client.flow, client.branch);
        let Some(acknowledge) = &mut client.acknowledge else { return };
        let repeated = acknowledge.bytes.is_some();
        let sent_by = self.locals.get(flow.local).map(|local| local.sent_by.as_str()).unwrap_or_default();
        let data = acknowledge.bytes.get_or_insert_with(|| {
            compose::request(&RequestParts {
                method: "ACK",
                uri: &acknowledge.uri,
                via_transport: Some(flow.transport),
                sent_by,
                branch,
                routes: &acknowledge.routes,
                from: &acknowledge.from,
                to: &response.to.text,
                call_id: &acknowledge.call_id,
                cseq: acknowledge.cseq,
                lines: &acknowledge.authorization,
                user_agent: &self.config.user_agent,
                ..RequestParts::default()
            })
        });
        let data = data.clone();
        self.transmit(flow, data.clone());
        self.trace(leg, true, flow, || {
            let again = if repeated { " (retransmission)" } else { "" };
            format!("{}{again}", start_line(&data))
        });
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

    /// An offer in an early dialog was answered; the call's own fate is its INVITE's to decide.
    fn update_answered(&mut self, now: Instant, slot: Slot, status: u16, response: Option<&Response>) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if leg.offering.is_none() || leg.reported {
            return;
        }
        let key = leg.key;
        match (status, response) {
            (200..=299, Some(response)) => {
                leg.offering = None;
                self.event(Event::OfferAnswered { leg: key, sdp: response.content.sdp().unwrap_or_default() });
            }
            (_, Some(response)) if self.defer_offer(now, slot, response) => {}
            _ => {
                self.abandon_offer(now, slot);
                self.event(Event::OfferRejected { leg: key, status });
            }
        }
    }

    fn finish_ending(&mut self, leg: Slot) {
        let end = match self.legs.get_mut(leg).map(|leg| &mut leg.state) {
            Some(State::Ending(end)) => std::mem::replace(&mut **end, End::of(EndCause::LocalHangup, None)),
            _ => End::of(EndCause::LocalHangup, None),
        };
        self.finish(leg, end);
    }

    fn deliver_to_invite(&mut self, now: Instant, slot: Slot, leg_slot: Option<Slot>, response: &Response) {
        if (200..300).contains(&response.status) {
            self.invite_answered(now, slot, leg_slot, response);
            return;
        }
        let Some(leg_slot) = leg_slot else { return };
        let Some(flow) = self.clients.get(slot).map(|client| client.flow) else { return };
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let key = leg.key;
        let State::Calling(calling) = &mut leg.state else { return };
        if response.status < 200 {
            calling.provisional = true;
            let (cancelled, reported) = (calling.hangup.is_some(), leg.reported);
            let offered = !calling.outgoing.sdp.is_empty();
            if response.status > 100 && !self.acknowledge_provisional(now, slot, leg_slot, response) {
                return;
            }
            if cancelled {
                self.send_cancel(now, leg_slot);
            } else if response.status > 100 && !reported {
                self.event(Event::Provisional {
                    leg: key,
                    status: response.status,
                    reason: response.reason.clone(),
                    sdp: response.content.sdp().filter(|_| offered),
                    headers: response.content.application_headers(),
                });
            }
            return;
        }
        if calling.hangup.is_some() {
            let end = End {
                reason: response.content.value("Reason"),
                ..End::of(EndCause::LocalHangup, Some(response.status))
            };
            self.finish(leg_slot, end);
            return;
        }
        if matches!(response.status, 401 | 407)
            && let Some(session) = leg.session.as_mut().filter(|session| session.trusts(flow.peer.ip()))
            && session.learn(digest::challenges(response), &mut calling.attempts)
        {
            calling.early.clear();
            leg.dialog.local_cseq = leg.dialog.local_cseq.wrapping_add(1);
            self.send_invite(now, leg_slot);
            return;
        }
        // RFC 4028 §7.3.
        if let Some(least) = session_timer::least_by(response)
            && calling.min_se < least
        {
            calling.min_se = least;
            calling.early.clear();
            leg.dialog.local_cseq = leg.dialog.local_cseq.wrapping_add(1);
            self.send_invite(now, leg_slot);
            return;
        }
        self.judge_peer(now, leg_slot, response.status != 503);
        self.finish(leg_slot, refusal(response));
    }

    /// A 2xx to the initial INVITE: the first makes the dialog, repetitions get their ACK again, and those of other forks
    /// are acknowledged and hung up (RFC 3261 §13.2.2.4).
    fn invite_answered(&mut self, now: Instant, slot: Slot, leg_slot: Option<Slot>, response: &Response) {
        if self.acknowledge_again(slot, response) || self.is_ack_due(slot, leg_slot, response) {
            return;
        }
        let Some(client) = self.clients.get(slot) else { return };
        let first = client.acknowledged.is_empty();
        let flow = client.flow;
        let authorization =
            client.acknowledge.as_ref().map(|acknowledge| acknowledge.authorization.clone()).unwrap_or_default();
        let Some(fallback) = client.acknowledge.as_ref().and_then(|acknowledge| Uri::parse(&acknowledge.uri)) else {
            return;
        };
        if client.acknowledged.len() >= MAX_FORKS {
            return;
        }
        let mut dialog = Dialog::from_response(response, &fallback, flow);
        let mut offer = response
            .content
            .sdp()
            .filter(|_| first && leg_slot.is_some_and(|leg| self.expects_offer(leg, &dialog.remote_tag)));
        let again = Again { lines: authorization, ..Again::default() };
        if offer.is_none() {
            self.acknowledge_answer(slot, leg_slot, &dialog, response.cseq, &again);
        }
        let mut told = None;
        let calling = leg_slot.and_then(|slot| self.legs.get_mut(slot)).and_then(|leg| match &mut leg.state {
            State::Calling(calling) if first => {
                let early = calling.early.iter().find(|early| early.dialog.remote_tag == dialog.remote_tag);
                dialog.remote_cseq = early.and_then(|early| early.dialog.remote_cseq);
                if calling.outgoing.sdp.is_empty() {
                    told = early.filter(|early| early.settled).and_then(|early| early.answer.clone());
                    return Some((calling.hangup.take(), leg.reported, None));
                }
                // Of several that rang, it is the answer of the one that has been picked up that counts.
                let sdp = response.content.sdp().or_else(|| early?.answer.clone());
                Some((calling.hangup.take(), leg.reported, sdp))
            }
            _ => None,
        });
        match (calling, leg_slot) {
            (Some((hangup, reported, sdp)), Some(leg_slot)) => {
                self.judge_peer(now, leg_slot, true);
                let Some(leg) = self.legs.get_mut(leg_slot) else { return };
                let key = leg.key;
                leg.dialog = Dialog { local_cseq: leg.dialog.local_cseq, ..dialog };
                leg.state = State::Established;
                self.learn_session(now, leg_slot, response);
                if let Some(farewell) = hangup {
                    self.send_bye(now, leg_slot, farewell, End::of(EndCause::LocalHangup, None));
                } else if !reported {
                    let tag = response.to.tag.clone().unwrap_or_default();
                    if let Some(offer) = offer.take() {
                        let (cseq, authorization) = (response.cseq, again.lines);
                        let ack = Acknowledgement::Ack { client: slot, cseq, authorization };
                        self.tell_late_offer(leg_slot, tag, offer, ack);
                    } else {
                        self.tell_offer_again(leg_slot, &tag, told);
                    }
                    self.event(Event::Answered { leg: key, sdp, headers: response.content.application_headers() });
                }
            }
            _ => self.send_bye_outside(now, dialog),
        }
    }

    fn deliver_to_reinvite(&mut self, now: Instant, slot: Slot, leg_slot: Option<Slot>, response: &Response) {
        let success = (200..300).contains(&response.status);
        if success {
            if self.acknowledge_again(slot, response) {
                return;
            }
            let Some(client) = self.clients.get(slot) else { return };
            let flow = client.flow;
            let (authorization, fallback) = client
                .acknowledge
                .as_ref()
                .map(|acknowledge| (acknowledge.authorization.clone(), Uri::parse(&acknowledge.uri)))
                .unwrap_or_default();
            let Some(fallback) = fallback else { return };
            // The route set stays as the dialog's first transaction made it; only the target may move (§12.2.1.2).
            let mut dialog = Dialog::from_response(response, &fallback, flow);
            if let Some(leg) = leg_slot.and_then(|slot| self.legs.get_mut(slot)) {
                if let Some(target) = response.content.contact() {
                    leg.dialog.target = target;
                }
                dialog = Dialog { local_cseq: response.cseq, ..leg.dialog.clone() };
            }
            let again = Again { lines: authorization, ..Again::default() };
            self.acknowledge_answer(slot, leg_slot, &dialog, response.cseq, &again);
        }
        let Some(leg_slot) = leg_slot else { return };
        if response.status < 200 || (!success && self.repeat_with_credentials(now, slot, leg_slot, response)) {
            return;
        }
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let key = leg.key;
        if leg.reported || matches!(leg.state, State::Ending(_)) {
            return;
        }
        match response.status {
            200..=299 => {
                leg.offering = None;
                self.learn_session(now, leg_slot, response);
                self.event(Event::OfferAnswered { leg: key, sdp: response.content.sdp().unwrap_or_default() });
            }
            _ if self.defer_offer(now, leg_slot, response) => {}
            408 | 481 => self.send_bye(now, leg_slot, Farewell::default(), refusal(response)),
            status => {
                self.abandon_offer(now, leg_slot);
                self.refresh_again(now, leg_slot);
                self.event(Event::OfferRejected { leg: key, status });
            }
        }
    }

    /// Sends our offer again later, if that is all that the peer wants: two that crossed (491), or one of its own that it is
    /// not done with (500 with Retry-After, RFC 3261 §14.2, RFC 3311 §5.2).
    fn defer_offer(&mut self, now: Instant, slot: Slot, response: &Response) -> bool {
        let seconds = response.content.value("Retry-After").and_then(|value| {
            value.split([';', ' ', '(']).next().and_then(|seconds| seconds.trim().parse::<u64>().ok())
        });
        let wait = match (response.status, seconds) {
            (491, _) => None,
            (500, Some(seconds)) if seconds <= LONGEST_DEFERRAL => Some(Duration::from_secs(seconds)),
            _ => return false,
        };
        let Some(offering) = self.legs.get_mut(slot).and_then(|leg| leg.offering.as_mut()) else { return false };
        if offering.deferrals >= MOST_DEFERRALS {
            return false;
        }
        offering.deferrals += 1;
        match wait {
            Some(wait) => {
                offering.retry_at = Some(now + wait);
                self.arm_leg(slot);
            }
            None => self.retry_offer(now, slot),
        }
        true
    }

    /// RFC 3261 §14.1: the owner of the Call-ID waits longer, so that the two do not collide again.
    pub(super) fn retry_offer(&mut self, now: Instant, slot: Slot) {
        let random = rand::Rng::next_u64(&mut self.rng);
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let tens = if leg.incoming { random % 201 } else { 210 + random % 191 };
        if let Some(offering) = &mut leg.offering {
            offering.retry_at = Some(now + Duration::from_millis(tens * 10));
        }
        self.arm_leg(slot);
    }

    pub(super) fn send_offer(&mut self, now: Instant, slot: Slot) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let (incoming, dialog) = match &leg.state {
            State::Ending(_) => return,
            State::Established => (leg.incoming, None),
            State::Ringing { .. } => (true, Some(leg.dialog.clone())),
            State::Calling(calling) => {
                (false, calling.early.iter().rfind(|early| early.settled).map(|early| early.dialog.clone()))
            }
        };
        let busy = leg.offered.is_some() || leg.awaiting_ack.is_some();
        if busy || (!incoming && matches!(leg.state, State::Calling(_)) && dialog.is_none()) {
            self.retry_offer(now, slot);
            return;
        }
        let Some(Offering { sdp, retry_at, .. }) = &mut leg.offering else { return };
        *retry_at = None;
        let body = Some(("application/sdp".to_owned(), sdp.clone()));
        if let Some(dialog) = dialog {
            let again = Again { body, ..Again::default() };
            self.send_along(now, slot, dialog, Method::Update, Purpose::Update, again);
            return;
        }
        let Some(leg) = self.legs.get(slot) else { return };
        let lines = self.refresh_lines(leg);
        self.send_in_dialog(now, slot, Method::Invite, Purpose::Reinvite, Again { lines, body, ..Again::default() });
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

    /// Sends (or, with credentials, sends again) the INVITE of a leg in `Calling`.
    pub(super) fn send_invite(&mut self, now: Instant, leg_slot: Slot) {
        let branch = self.random_u128();
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let State::Calling(calling) = &mut leg.state else { return };
        let flow = leg.dialog.flow;
        let (uri, routes) = leg.dialog.request_uri_and_routes();
        let authorization = match leg.session.as_mut().filter(|session| session.trusts(flow.peer.ip())) {
            Some(session) => {
                session.lines("INVITE", &String::from_utf8_lossy(&uri), &calling.outgoing.sdp, &mut self.rng)
            }
            None => String::new(),
        };
        let (prack, min_se) = (calling.outgoing.prack, calling.min_se);
        let replaces = calling.outgoing.replaces.clone();
        let extras = self.invite_lines(prack, min_se, replaces.as_deref());
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let State::Calling(calling) = &mut leg.state else { return };
        let lines = format!("{authorization}{extras}");
        let (contact, sent_by) = match self.locals.get(flow.local) {
            Some(local) => (local.contact.as_str(), local.sent_by.as_str()),
            None => ("", ""),
        };
        let data = compose::request(&RequestParts {
            method: "INVITE",
            uri: &uri,
            via_transport: Some(flow.transport),
            sent_by,
            branch,
            routes: &routes,
            from: &leg.dialog.local,
            to: &leg.dialog.remote,
            call_id: &leg.dialog.call_id,
            cseq: leg.dialog.local_cseq,
            contact: Some(contact),
            max_forwards: Some(leg.extensions.origin.hops),
            lines: &lines,
            headers: &calling.outgoing.headers,
            body: Some(("application/sdp", &calling.outgoing.sdp)),
            user_agent: &self.config.user_agent,
            refer: leg.extensions.may_refer,
        });
        let acknowledge = Acknowledge {
            uri,
            routes,
            from: leg.dialog.local.clone(),
            call_id: leg.dialog.call_id.clone(),
            cseq: leg.dialog.local_cseq,
            authorization,
            bytes: None,
        };
        calling.provisional = false;
        let before = calling.client;
        let hops = self.clients.get_mut(before).map(|client| std::mem::take(&mut client.alternatives));
        let client = self.start_client(now, Method::Invite, branch, flow, data, Some(leg_slot), Purpose::Invite);
        self.may_also_try(now, client, hops.unwrap_or_default(), false);
        if let Some(client) = self.clients.get_mut(client) {
            client.acknowledge = Some(Box::new(acknowledge));
        }
        if let Some(Leg { state: State::Calling(calling), .. }) = self.legs.get_mut(leg_slot) {
            calling.client = client;
        }
    }

    /// What extensions add to an INVITE.
    fn invite_lines(&self, prack: Option<Prack>, min_se: u32, replaces: Option<&str>) -> String {
        let prack = prack.unwrap_or(self.config.prack);
        let mut lines = format!("Supported: {}\r\n", compose::supported(prack != Prack::Off));
        if prack == Prack::Required {
            lines.push_str("Require: 100rel\r\n");
        }
        if let Some(replaces) = replaces {
            lines.push_str("Require: replaces\r\nReplaces: ");
            lines.extend(replaces.chars().map(|c| if c.is_control() { ' ' } else { c }));
            lines.push_str("\r\n");
        }
        lines.push_str(&self.session_lines(min_se));
        lines
    }

    /// RFC 3261 §9.1. The CANCEL copies the INVITE's branch, so that it matches.
    pub(super) fn send_cancel(&mut self, now: Instant, leg_slot: Slot) {
        let give_up = now + self.config.timers.timeout();
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let State::Calling(calling) = &mut leg.state else { return };
        if calling.give_up.is_some() {
            return;
        }
        calling.give_up = Some(give_up);
        let Calling { client, hangup, .. } = &**calling;
        let farewell = hangup.clone().unwrap_or_default();
        let Some(client) = self.clients.get(*client) else { return };
        let (flow, branch) = (client.flow, client.branch);
        let Some(acknowledge) = &client.acknowledge else { return };
        let sent_by = self.locals.get(flow.local).map(|local| local.sent_by.as_str()).unwrap_or_default();
        let data = compose::request(&RequestParts {
            method: "CANCEL",
            uri: &acknowledge.uri,
            via_transport: Some(flow.transport),
            sent_by,
            branch,
            routes: &acknowledge.routes,
            from: &acknowledge.from,
            to: &leg.dialog.remote,
            call_id: &acknowledge.call_id,
            cseq: acknowledge.cseq,
            lines: &farewell.lines,
            headers: &farewell.headers,
            user_agent: &self.config.user_agent,
            ..RequestParts::default()
        });
        self.start_client(now, Method::Cancel, branch, flow, data, Some(leg_slot), Purpose::Cancel);
        self.arm_leg(leg_slot);
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

    /// The leg ends: its re-INVITE may still be answered, and is acknowledged then, but no longer than 64*T1 from now.
    pub(super) fn abandon_offer(&mut self, now: Instant, slot: Slot) {
        let at = now + self.config.timers.timeout();
        let offering = self.legs.get_mut(slot).and_then(|leg| leg.offering.take());
        if let Some(slot) = offering.and_then(|offering| offering.client)
            && let Some(client) = self.clients.get_mut(slot)
        {
            client.machine.abandon(at);
            let next = client.machine.next_timeout();
            self.timers.arm(&mut client.wake, next, Owner::Client(slot));
        }
    }

    /// Hangs up a dialog that no leg stands for: a second fork's.
    pub(super) fn send_bye_outside(&mut self, now: Instant, mut dialog: Dialog) {
        dialog.local_cseq = dialog.local_cseq.wrapping_add(1);
        let branch = self.random_u128();
        let flow = dialog.next_flow();
        let data = self.compose_in_dialog(&dialog, flow, branch, "BYE", dialog.local_cseq, &Again::default(), "");
        self.start_client(now, Method::Bye, branch, flow, data, None, Purpose::Bye);
    }

    pub(super) fn send_in_dialog(&mut self, now: Instant, slot: Slot, method: Method, purpose: Purpose, again: Again) {
        if let Some(dialog) = self.legs.get(slot).map(|leg| leg.dialog.clone()) {
            self.send_along(now, slot, dialog, method, purpose, again);
        }
    }

    /// The same in one of the leg's early dialogs. All of them are numbered in one row, the leg's own.
    pub(super) fn send_along(
        &mut self,
        now: Instant,
        slot: Slot,
        mut dialog: Dialog,
        method: Method,
        purpose: Purpose,
        mut again: Again,
    ) {
        let branch = self.random_u128();
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.dialog.local_cseq = leg.dialog.local_cseq.wrapping_add(1);
        dialog.local_cseq = leg.dialog.local_cseq;
        again.refer = leg.extensions.may_refer;
        let flow = dialog.next_flow();
        let (uri, routes) = dialog.request_uri_and_routes();
        let authorization = match leg.session.as_mut().filter(|session| session.trusts(flow.peer.ip())) {
            Some(session) => {
                let body = again.body.as_ref().map(|(_, body)| body.as_ref()).unwrap_or_default();
                session.lines(method.as_str(), &String::from_utf8_lossy(&uri), body, &mut self.rng)
            }
            None => String::new(),
        };
        let authenticates = leg.session.is_some();
        let lines = format!("{authorization}{}", again.lines);
        let data = self.compose_in_dialog(&dialog, flow, branch, method.as_str(), dialog.local_cseq, &again, &lines);
        let invite = method == Method::Invite;
        let client = self.start_client(now, method, branch, flow, data, Some(slot), purpose);
        if matches!(purpose, Purpose::Reinvite | Purpose::Update)
            && let Some(offering) = self.legs.get_mut(slot).and_then(|leg| leg.offering.as_mut())
        {
            offering.client = Some(client);
        }
        if let Some(client) = self.clients.get_mut(client) {
            client.again = authenticates.then(|| Box::new(again));
            client.acknowledge = invite.then(|| {
                Box::new(Acknowledge {
                    uri,
                    routes,
                    from: dialog.local.clone(),
                    call_id: dialog.call_id.clone(),
                    cseq: dialog.local_cseq,
                    authorization,
                    bytes: None,
                })
            });
        }
    }

    /// RFC 3261 §22.2 for requests in a dialog. `false`: the response is to be taken as it is.
    fn repeat_with_credentials(&mut self, now: Instant, slot: Slot, leg_slot: Slot, response: &Response) -> bool {
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
    fn acknowledge_again(&mut self, slot: Slot, response: &Response) -> bool {
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
        slot: Slot,
        leg: Option<Slot>,
        dialog: &Dialog,
        cseq: u32,
        again: &Again,
    ) {
        let Some(branch) = self.clients.get(slot).map(|client| client.branch) else { return };
        let (flow, data) = self.compose_ack(branch, dialog, cseq, again);
        self.transmit(flow, data.clone());
        self.trace(leg, true, flow, || start_line(&data));
        if let Some(client) = self.clients.get_mut(slot) {
            client.acknowledged_alike = again.is_empty();
            // A copy: the tag as it was parsed would keep the whole response.
            client.acknowledged.push((Bytes::copy_from_slice(&dialog.remote_tag), data, flow));
        }
    }

    /// The ACK of a 2xx to the INVITE with this branch: the same for every repetition of it.
    pub(super) fn compose_ack(&self, branch: u128, dialog: &Dialog, cseq: u32, again: &Again) -> (Flow, Bytes) {
        let branch = self.key_of((branch, &dialog.remote_tag)).0;
        let flow = dialog.next_flow();
        (flow, self.compose_in_dialog(dialog, flow, branch, "ACK", cseq, again, &again.lines))
    }

    #[expect(clippy::too_many_arguments, reason = "one message's parts, named at every call")]
    fn compose_in_dialog(
        &self,
        dialog: &Dialog,
        flow: Flow,
        branch: u128,
        method: &str,
        cseq: u32,
        again: &Again,
        lines: &str,
    ) -> Bytes {
        let (uri, routes) = dialog.request_uri_and_routes();
        let refreshes = matches!(method, "INVITE" | "UPDATE" | "REFER" | "NOTIFY");
        let contact = refreshes.then(|| self.contact(flow));
        compose::request(&RequestParts {
            method,
            uri: &uri,
            via_transport: Some(flow.transport),
            sent_by: &self.sent_by(flow),
            branch,
            routes: &routes,
            from: &dialog.local,
            to: &dialog.remote,
            call_id: &dialog.call_id,
            cseq,
            contact: contact.as_deref(),
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
            data = compose::rerouted(&data, whole.transport, &self.sent_by(whole), branch, &contacts);
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

fn refusal(response: &Response) -> End {
    let mut headers = response.content.application_headers();
    if (300..400).contains(&response.status) {
        headers.extend(
            response
                .content
                .values("Contact")
                .into_iter()
                .map(|value| crate::leg::Header { name: "Contact".to_owned(), value }),
        );
    }
    End {
        cause: EndCause::Rejected,
        status: Some(response.status),
        reason: response.content.value("Reason").or_else(|| Some(response.reason.clone())),
        headers,
    }
}

/// `INVITE sip:...` of a request we wrote.
pub(super) fn start_line(data: &[u8]) -> String {
    let line = data.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.strip_suffix(" SIP/2.0").unwrap_or(&line).to_owned()
}
