//! Requests that come in: server transactions, the refusals of RFC 3261 §8.2, and what a dialog does with the rest.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::completed::{Answer, AnsweredServer};
use super::state::{Key, PROVISIONAL_REPEAT, Server, State};
use super::{Arrival, Endpoint, Output};
use crate::compose::{self, ResponseParts};
use crate::config::UnknownSources;
use crate::keys::{LegId, ServerId};
use crate::leg::Transport;
use crate::message::{Echo, Method, Request};
use crate::timer::Owner;
use crate::transaction::{Action, ServerInput, ServerMachine};

/// Whether a machine passed the message up.
#[derive(PartialEq, Eq)]
enum Delivered {
    Yes,
    No,
}

impl Endpoint {
    pub(super) fn handle_request(&mut self, now: Instant, arrival: &Arrival, request: Request) {
        let key = self.core.server_key(&request, &request.method);
        if let Some(&slot) = self.servers_by_key.get(&key) {
            self.handle_repetition(now, arrival, slot, &request);
            return;
        }
        if self.handle_late_repetition(now, arrival, &key, &request) {
            return;
        }
        let leg = self.dialog_of(&request);
        if request.method == Method::Ack {
            if let Some(leg) = leg {
                self.handle_ack(now, arrival, leg, &request);
            }
            return;
        }
        // RFC 5923 §5: only to whom has shown a certificate is anything sent that it did not ask for.
        if let (Some(port), Transport::Tls) = (request.via.alias, arrival.transport)
            && let (Some(connection), Some(trunk)) = (arrival.connection, arrival.proven.clone())
        {
            let address = SocketAddr::new(arrival.source.ip(), port);
            self.core.outputs.push_back(Output::Alias { connection, address, trunk });
        }
        let Some(echo) = request.echo(arrival.source) else { return };
        if request.method == Method::Register && leg.is_none() {
            self.handle_register(now, arrival, &request, key, echo);
            return;
        }
        // An INVITE is asked later who it comes from.
        let is_invite = request.method == Method::Invite && request.to.tag.is_none();
        let known = leg.is_some() || is_invite || !self.is_outsider(arrival) || self.is_expected(&request);
        if !known {
            // Of a dialog that is over, or was lost in a crash: no scanner's, and its end is to be told (RFC 3261 §12.2.2).
            let (status, strays) = if request.to.tag.is_some() { (481, true) } else { (403, false) };
            if strays {
                self.core.counters.strangers += 1;
            } else {
                self.note_stranger(now, arrival, &request);
            }
            if self.core.config.unknown_sources == UnknownSources::Reject {
                self.core.refuse(arrival, &echo, status, "");
            }
            return;
        }
        if request.method == Method::Cancel {
            self.handle_cancel(now, arrival, &request, &echo);
        } else if let Some(leg) = leg {
            self.handle_in_dialog(now, arrival, leg, request, key, echo);
        } else {
            self.handle_out_of_dialog(now, arrival, request, key, echo);
        }
    }

    /// A request whose transaction exists: its repetition, or the ACK of our non-2xx response.
    fn handle_repetition(&mut self, now: Instant, arrival: &Arrival, slot: ServerId, request: &Request) {
        let leg = self.servers.get(slot).and_then(|server| server.leg);
        let flow = self.core.arrival_flow(arrival);
        let is_ack = request.method == Method::Ack;
        self.core.trace(leg, false, flow, || {
            if is_ack { "ACK".to_owned() } else { format!("{} (retransmission)", request_line(request)) }
        });
        let input = if is_ack { ServerInput::Ack } else { ServerInput::Retransmission };
        if self.run_server(now, slot, input) == Delivered::Yes
            && let Some(leg) = leg
        {
            self.handle_ack(now, arrival, leg, request);
        }
    }

    /// Answers through the transaction.
    pub(super) fn respond(&mut self, now: Instant, slot: ServerId, parts: ResponseParts<'_>) {
        // It is the transaction's to repeat.
        let _ = self.answer_through(now, slot, parts);
    }

    /// The same; what was sent, unless the request has its final response already.
    pub(super) fn answer_through(&mut self, now: Instant, slot: ServerId, parts: ResponseParts<'_>) -> Option<Bytes> {
        let server = self.servers.get(slot)?;
        let forms_dialog = server.method == Method::Invite && (101..300).contains(&parts.status);
        let status = parts.status;
        let refer = server.leg.and_then(|leg| self.legs.get(leg)).is_some_and(|leg| leg.extensions.may_refer);
        let plain = server.echo.tagged
            && parts.lines.is_empty()
            && parts.headers.is_empty()
            && (parts.reason, parts.contact, parts.body) == (None, None, None);
        let plain = plain.then_some(refer);
        let parts = ResponseParts {
            tag: Some(server.tag),
            refer,
            record_routes: if forms_dialog { &server.record_routes } else { &[] },
            server: &self.core.config.user_agent,
            ..parts
        };
        let data = compose::response(&server.echo, &parts);
        let server = self.servers.get_mut(slot).filter(|server| server.machine.is_pending())?;
        server.response = Some(data.clone());
        server.status = status;
        server.plain = plain;
        if status >= 200 {
            // There is no second final response to write.
            server.echo.lines = Vec::new();
            server.echo.to = Bytes::new();
            server.record_routes = Vec::new();
        }
        self.run_server(now, slot, ServerInput::Respond(status));
        Some(data)
    }

    /// Remembers when to repeat the provisional response just sent.
    pub(super) fn repeat_provisional(&mut self, now: Instant, slot: LegId) {
        if let Some(leg) = self.legs.get_mut(slot)
            && let State::Ringing { repeat, .. } = &mut leg.state
        {
            *repeat = Some(now + PROVISIONAL_REPEAT);
        }
        self.arm_leg(slot);
    }

    pub(super) fn transmit_response(&mut self, slot: ServerId, again: bool) {
        let Some(server) = self.servers.get(slot) else { return };
        let Some(data) = server.response.clone() else { return };
        let (leg, flow, status, method) = (server.leg, server.flow, server.status, server.method.clone());
        self.core.transmit(flow, data);
        self.core
            .trace(leg, true, flow, || response_line(status, compose::reason_phrase(status), method.as_str(), again));
    }

    pub(super) fn server_timeout(&mut self, now: Instant, at: Instant, slot: ServerId) {
        let Some(server) = self.servers.get_mut(slot) else { return };
        if server.wake == Some(at) {
            server.wake = None;
        }
        match server.machine.take_due(now) {
            Some(timer) => {
                self.run_server(now, slot, ServerInput::Timer(timer));
            }
            None => {
                let next = server.next_wake(&self.core.timers);
                self.core.timers.arm(&mut server.wake, next, Owner::Server(slot));
            }
        }
    }

    fn run_server(&mut self, now: Instant, slot: ServerId, input: ServerInput) -> Delivered {
        let mut actions = std::mem::take(&mut self.actions);
        let mut delivered = Delivered::No;
        if let Some(server) = self.servers.get_mut(slot) {
            server.machine.handle(now, input, &self.core.config.timers, &mut actions);
            // Who lingers needs no timer of its own.
            let next = server.next_wake(&self.core.timers).filter(|_| server.machine.absorbs_until().is_none());
            self.core.timers.arm(&mut server.wake, next, Owner::Server(slot));
        }
        for action in actions.drain(..) {
            match action {
                Action::Transmit => self.transmit_response(slot, false),
                Action::Retransmit => self.transmit_response(slot, true),
                Action::Deliver => delivered = Delivered::Yes,
                Action::Terminate => drop(self.remove_server(slot)),
                // A final response that nobody acknowledged or that cannot be sent changes nothing: its leg is over.
                Action::Acknowledge | Action::TimedOut | Action::TransportFailed(_) => {}
            }
        }
        self.actions = actions;
        if let Some(until) = self.servers.get(slot).and_then(|server| server.machine.absorbs_until())
            && let Some(server) = self.remove_server(slot)
        {
            let Server { key, merge_key, leg, tag, flow, status, plain, response, .. } = server;
            let answer = match (plain, response) {
                _ if server.method == Method::Invite => Answer::ByLeg,
                (None, Some(response)) => Answer::Stored(Box::new((status, flow, response))),
                (plain, _) => Answer::Status { status, refer: plain.unwrap_or_default() },
            };
            self.completed.insert_server(until, key, merge_key, AnsweredServer { leg, tag, answer });
        }
        delivered
    }

    pub(super) fn insert_server(
        &mut self,
        arrival: &Arrival,
        request: &Request,
        key: Key,
        echo: Echo,
        leg: Option<LegId>,
        tag: u64,
    ) -> ServerId {
        let flow = self.core.response_flow(arrival, &echo);
        let invite = request.method == Method::Invite;
        let slot = self.servers.insert(Server {
            machine: ServerMachine::new(invite, arrival.transport.is_reliable()),
            method: request.method.clone(),
            key,
            merge_key: None,
            leg,
            flow,
            echo,
            record_routes: if invite { request.content.record_routes() } else { Vec::new() },
            tag,
            cseq: request.cseq,
            response: None,
            status: 0,
            plain: None,
            wake: None,
        });
        self.servers_by_key.insert(key, slot);
        slot
    }

    fn remove_server(&mut self, slot: ServerId) -> Option<Server> {
        let server = self.servers.remove(slot)?;
        self.servers_by_key.remove(&server.key);
        if let Some(merge_key) = &server.merge_key {
            self.servers_by_merge_key.remove(merge_key);
        }
        Some(server)
    }

    pub(super) fn fresh_tag(&mut self) -> u64 {
        loop {
            let tag = rand::Rng::next_u64(&mut self.core.rng);
            if !self.legs_by_tag.contains_key(&tag) {
                return tag;
            }
        }
    }
}

pub(super) fn request_line(request: &Request) -> String {
    [request.method.as_str(), " ", &String::from_utf8_lossy(request.uri.text())].concat()
}

pub(super) fn response_line(status: u16, reason: &str, method: &str, again: bool) -> String {
    let mut line = Vec::with_capacity(64);
    compose::push_number(&mut line, status.into());
    for part in [" ", reason, " (", method, if again { ") (retransmission)" } else { ")" }] {
        line.extend_from_slice(part.as_bytes());
    }
    String::from_utf8(line).unwrap_or_default()
}
