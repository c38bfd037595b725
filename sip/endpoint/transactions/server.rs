//! Server transactions: requests that this server received.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::completed::{Answer, AnsweredServer};
use super::{Key, Transactions};
use crate::compose::{self, ResponseParts};
use crate::endpoint::Arrival;
use crate::endpoint::core::Core;
use crate::flow::Flow;
use crate::header;
use crate::keys::{LegSlot, ServerId};
use crate::message::{self, Echo, Message, Method, Request};
use crate::timer::Owner;
use crate::transaction::{Action, ServerInput, ServerMachine};

/// A request that this server received.
#[derive(Debug)]
pub(in crate::endpoint) struct Server {
    machine: ServerMachine,
    pub(in crate::endpoint) method: Method,
    key: Key,
    /// The key that detects merged requests (RFC 3261 §8.2.2.2). This field is set only for an initial INVITE.
    pub(in crate::endpoint) merge_key: Option<Key>,
    leg: Option<LegSlot>,
    pub(in crate::endpoint) flow: Flow,
    pub(in crate::endpoint) echo: Echo,
    pub(in crate::endpoint) record_routes: Vec<Bytes>,
    /// Whether the request has SDP.
    pub(in crate::endpoint) has_offer: bool,
    tag: u64,
    pub(in crate::endpoint) cseq: u32,
    /// Whether the far end may transfer the call. If so, the Allow header contains REFER.
    pub(in crate::endpoint) refer: bool,
    pub(in crate::endpoint) response: Option<Bytes>,
    pub(in crate::endpoint) status: u16,
    /// Whether the response can be composed again from a retransmission of the request alone.
    is_plain: bool,
    wake: Option<Instant>,
}

/// A request for which a new transaction is created.
pub(in crate::endpoint) struct NewServer<'a> {
    pub(in crate::endpoint) arrival: &'a Arrival,
    pub(in crate::endpoint) request: &'a Request,
    pub(in crate::endpoint) key: Key,
    /// The key that detects merged requests (RFC 3261 §8.2.2.2). This field is set only for an initial INVITE.
    pub(in crate::endpoint) merge_key: Option<Key>,
    pub(in crate::endpoint) echo: Echo,
    pub(in crate::endpoint) leg: Option<LegSlot>,
    /// The local tag, which is used in To.
    pub(in crate::endpoint) tag: u64,
    /// Whether the far end may transfer the call. If so, the Allow header contains REFER.
    pub(in crate::endpoint) refer: bool,
}

/// An open request that another process received.
pub(in crate::endpoint) struct ResumedServer {
    pub(in crate::endpoint) method: Method,
    /// Whether the request is an INVITE that creates a dialog.
    pub(in crate::endpoint) initial: bool,
    pub(in crate::endpoint) leg: LegSlot,
    pub(in crate::endpoint) flow: Flow,
    pub(in crate::endpoint) echo: Echo,
    pub(in crate::endpoint) record_routes: Vec<Bytes>,
    pub(in crate::endpoint) has_offer: bool,
    pub(in crate::endpoint) tag: u64,
    pub(in crate::endpoint) refer: bool,
    /// The last provisional response and its status.
    pub(in crate::endpoint) response: Option<(u16, Bytes)>,
}

/// Whether a request belongs to an existing transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::endpoint) enum Repetition {
    /// The request belongs to no transaction.
    New,
    /// The request belongs to a transaction, and this transaction has handled the request.
    Absorbed,
    /// The request is the ACK of a 2xx to the INVITE of this leg.
    Ack(LegSlot),
}

/// The INVITE that a CANCEL cancels.
pub(in crate::endpoint) struct CancelledInvite {
    pub(in crate::endpoint) leg: Option<LegSlot>,
    pub(in crate::endpoint) tag: u64,
    /// The transaction of the INVITE, if the INVITE has no final response yet.
    pub(in crate::endpoint) pending: Option<ServerId>,
}

/// Whether a state machine passed the message to the transaction user.
#[derive(PartialEq, Eq)]
enum Delivered {
    Yes,
    No,
}

impl Transactions {
    pub(in crate::endpoint) fn server(&self, id: ServerId) -> Option<&Server> {
        self.servers.get(id)
    }

    /// Returns whether there is a live or completed transaction with this key.
    pub(in crate::endpoint) fn has_server(&self, key: &Key) -> bool {
        self.servers_by_key.contains_key(key) || self.completed.answered_server(key).is_some()
    }

    /// Returns whether an INVITE with this merge key has already arrived along another path (RFC 3261 §8.2.2.2).
    pub(in crate::endpoint) fn is_merged(&self, merge_key: &Key) -> bool {
        self.servers_by_merge_key.contains_key(merge_key) || self.completed.has_merge_key(merge_key)
    }

    /// Sends the next responses along another flow, because the flow of the request is lost.
    pub(in crate::endpoint) fn move_server(&mut self, id: ServerId, flow: Flow) {
        if let Some(server) = self.servers.get_mut(id) {
            server.flow = flow;
        }
    }

    /// Creates the transaction of a request.
    pub(in crate::endpoint) fn insert_server(&mut self, core: &Core, new: NewServer<'_>) -> ServerId {
        let NewServer { arrival, request, key, merge_key, echo, leg, tag, refer } = new;
        let flow = core.response_flow(arrival, &echo);
        let invite = request.method == Method::Invite;
        let id = self.servers.insert(Server {
            machine: ServerMachine::new(invite, arrival.transport.is_reliable()),
            method: request.method.clone(),
            key,
            merge_key,
            leg,
            flow,
            echo,
            record_routes: if invite { request.content.record_routes() } else { Vec::new() },
            has_offer: request.content.has_sdp(),
            tag,
            cseq: request.cseq,
            refer,
            response: None,
            status: 0,
            is_plain: false,
            wake: None,
        });
        self.servers_by_key.insert(key, id);
        if let Some(merge_key) = merge_key {
            self.servers_by_merge_key.insert(merge_key, id);
        }
        id
    }

    /// Continues the transaction of an open request that another process received. Returns `None` if the lines of the
    /// request are malformed.
    pub(in crate::endpoint) fn resume_server(&mut self, core: &Core, resumed: ResumedServer) -> Option<ServerId> {
        let ResumedServer { method, initial, leg, flow, echo, record_routes, has_offer, tag, refer, response } =
            resumed;
        let to = [b"To: ", &echo.to[..], b"\r\n\r\n"].concat();
        let request = request_of(&method, &[&echo.lines[..], &to[..]].concat())?;
        let (key, merge_key) = (core.server_key(&request, &method), initial.then(|| core.merge_key(&request)));
        let (status, response) = response.unzip();
        let id = self.servers.insert(Server {
            machine: ServerMachine::new(method == Method::Invite, flow.transport.is_reliable()),
            method,
            key,
            merge_key,
            leg: Some(leg),
            flow,
            echo,
            record_routes,
            has_offer,
            tag,
            cseq: request.cseq,
            refer,
            response,
            status: status.unwrap_or_default(),
            is_plain: false,
            wake: None,
        });
        self.servers_by_key.insert(key, id);
        if let Some(merge_key) = merge_key {
            self.servers_by_merge_key.insert(merge_key, id);
        }
        Some(id)
    }

    /// Continues the transaction of an INVITE that another process answered with this 200. Retransmissions of the INVITE
    /// are absorbed until this time, and the leg retransmits the 200.
    pub(in crate::endpoint) fn resume_answered_invite(
        &mut self,
        core: &Core,
        until: Instant,
        leg: LegSlot,
        tag: u64,
        response: &[u8],
        initial: bool,
    ) {
        let start = response.windows(2).position(|two| two == b"\r\n").map_or(response.len(), |at| at + 2);
        let Some(request) = response.get(start..).and_then(|lines| request_of(&Method::Invite, lines)) else { return };
        let merge_key = initial.then(|| core.merge_key(&request));
        let answered = AnsweredServer { leg: Some(leg), tag, answer: Answer::ByLeg };
        self.completed.insert_server(until, core.server_key(&request, &Method::Invite), merge_key, answered);
    }

    /// Handles a request that is a retransmission, or the ACK of a final response.
    pub(in crate::endpoint) fn handle_repetition(
        &mut self,
        core: &mut Core,
        now: Instant,
        arrival: &Arrival,
        key: &Key,
        request: &Request,
    ) -> Repetition {
        let Some(&id) = self.servers_by_key.get(key) else {
            return self.handle_late_repetition(core, arrival, key, request);
        };
        let leg = self.servers.get(id).and_then(|server| server.leg);
        let flow = core.arrival_flow(arrival);
        let is_ack = request.method == Method::Ack;
        core.trace(leg, false, flow, || repetition_line(request));
        let input = if is_ack { ServerInput::Ack } else { ServerInput::Retransmission };
        match (self.run_server(core, now, id, input), leg) {
            (Delivered::Yes, Some(leg)) => Repetition::Ack(leg),
            _ => Repetition::Absorbed,
        }
    }

    /// Handles a retransmission of a request whose transaction is completed.
    fn handle_late_repetition(
        &mut self,
        core: &mut Core,
        arrival: &Arrival,
        key: &Key,
        request: &Request,
    ) -> Repetition {
        let Some(AnsweredServer { leg, tag, answer }) = self.completed.answered_server(key).cloned() else {
            return Repetition::New;
        };
        let flow = core.arrival_flow(arrival);
        core.trace(leg, false, flow, || repetition_line(request));
        let (status, flow, data) = match answer {
            Answer::ByLeg => {
                return match leg {
                    Some(leg) if request.method == Method::Ack => Repetition::Ack(leg),
                    _ => Repetition::Absorbed,
                };
            }
            Answer::Status { status, refer } => {
                let Some(echo) = request.echo(arrival.source) else { return Repetition::Absorbed };
                let server = core.config.user_agent.as_str();
                let parts = ResponseParts { status, tag: Some(tag), refer, server, ..ResponseParts::default() };
                (status, core.response_flow(arrival, &echo), compose::response(&echo, &parts))
            }
            Answer::Stored(stored) => *stored,
        };
        core.transmit(flow, data);
        let method = request.method.as_str();
        core.trace(leg, true, flow, || response_line(status, compose::reason_phrase(status), method, true));
        Repetition::Absorbed
    }

    /// Returns the INVITE that a CANCEL cancels (RFC 3261 §9.2). `key` is the key of the INVITE.
    pub(in crate::endpoint) fn cancelled_invite(&self, key: &Key) -> Option<CancelledInvite> {
        if let Some(&id) = self.servers_by_key.get(key)
            && let Some(server) = self.servers.get(id)
        {
            let pending = Some(id).filter(|_| server.machine.is_pending());
            return Some(CancelledInvite { leg: server.leg, tag: server.tag, pending });
        }
        let answered = self.completed.answered_server(key)?;
        Some(CancelledInvite { leg: answered.leg, tag: answered.tag, pending: None })
    }

    /// Responds to a request. The transaction repeats the response for each retransmission of the request.
    pub(in crate::endpoint) fn respond(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ServerId,
        parts: ResponseParts<'_>,
    ) -> Option<Bytes> {
        let server = self.servers.get(id)?;
        let forms_dialog = server.method == Method::Invite && (101..300).contains(&parts.status);
        let status = parts.status;
        let is_plain = server.echo.tagged
            && parts.lines.is_empty()
            && parts.headers.is_empty()
            && (parts.reason, parts.contact, parts.body) == (None, None, None);
        let parts = ResponseParts {
            tag: Some(server.tag),
            refer: server.refer,
            record_routes: if forms_dialog { &server.record_routes } else { &[] },
            server: &core.config.user_agent,
            ..parts
        };
        let data = compose::response(&server.echo, &parts);
        let server = self.servers.get_mut(id).filter(|server| server.machine.is_pending())?;
        server.response = Some(data.clone());
        server.status = status;
        server.is_plain = is_plain;
        if status >= 200 {
            // No second final response will be composed. So the data for another response is dropped.
            server.echo.lines = Vec::new();
            server.echo.to = Bytes::new();
            server.record_routes = Vec::new();
        }
        self.run_server(core, now, id, ServerInput::Respond(status));
        Some(data)
    }

    /// Sends the last response. `again` says whether the response was already sent earlier.
    pub(in crate::endpoint) fn transmit_response(&mut self, core: &mut Core, id: ServerId, again: bool) {
        let Some(server) = self.servers.get(id) else { return };
        let Some(data) = server.response.clone() else { return };
        let (leg, flow, status) = (server.leg, server.flow, server.status);
        core.transmit(flow, data);
        let reason = compose::reason_phrase(status);
        core.trace(leg, true, flow, || response_line(status, reason, server.method.as_str(), again));
    }

    /// Handles a timer of the transaction. This function may also be called before the timer is due.
    pub(in crate::endpoint) fn handle_server_timeout(
        &mut self,
        core: &mut Core,
        now: Instant,
        at: Instant,
        id: ServerId,
    ) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.wake == Some(at) {
            server.wake = None;
        }
        match server.machine.take_due(now) {
            Some(timer) => {
                self.run_server(core, now, id, ServerInput::Timer(timer));
            }
            None => {
                let next = server.machine.next_timeout();
                core.timers.arm(&mut server.wake, next, Owner::Server(id));
            }
        }
    }

    fn run_server(&mut self, core: &mut Core, now: Instant, id: ServerId, input: ServerInput) -> Delivered {
        let mut actions = std::mem::take(&mut self.actions);
        let mut delivered = Delivered::No;
        if let Some(server) = self.servers.get_mut(id) {
            server.machine.handle(now, input, &core.config.timers, &mut actions);
            // A completed transaction needs no timer of its own.
            let next = server.machine.next_timeout().filter(|_| server.machine.absorbs_until().is_none());
            core.timers.arm(&mut server.wake, next, Owner::Server(id));
        }
        for action in actions.drain(..) {
            match action {
                Action::Transmit => self.transmit_response(core, id, false),
                Action::Retransmit => self.transmit_response(core, id, true),
                Action::Deliver => delivered = Delivered::Yes,
                Action::Terminate => drop(self.remove_server(id)),
                // The final response was not acknowledged or cannot be sent. Nothing has to be done, because the leg
                // has ended.
                Action::Acknowledge | Action::TimedOut | Action::TransportFailed(_) => {}
            }
        }
        self.actions = actions;
        if let Some(until) = self.servers.get(id).and_then(|server| server.machine.absorbs_until())
            && let Some(server) = self.remove_server(id)
        {
            let Server { key, merge_key, leg, tag, flow, status, is_plain, refer, response, .. } = server;
            let answer = match response {
                _ if server.method == Method::Invite => Answer::ByLeg,
                Some(response) if !is_plain => Answer::Stored(Box::new((status, flow, response))),
                _ => Answer::Status { status, refer: refer && is_plain },
            };
            self.completed.insert_server(until, key, merge_key, AnsweredServer { leg, tag, answer });
        }
        delivered
    }

    fn remove_server(&mut self, id: ServerId) -> Option<Server> {
        let server = self.servers.remove(id)?;
        self.servers_by_key.remove(&server.key);
        if let Some(merge_key) = &server.merge_key {
            self.servers_by_merge_key.remove(merge_key);
        }
        Some(server)
    }

    /// Drops or moves the timer of a server transaction, as [`Transactions::skip_client_timer`] does for a client
    /// transaction.
    pub(in crate::endpoint) fn skip_server_timer(&mut self, core: &mut Core, at: Instant, id: ServerId) -> bool {
        let Some(server) = self.servers.get_mut(id) else { return core.timers.skip(None, at, None, Owner::Server(id)) };
        let next = server.machine.next_timeout();
        core.timers.skip(Some(&mut server.wake), at, next, Owner::Server(id))
    }
}

/// Reads the header lines that a response repeats from its request. The URI of the request is not known, and only the
/// keys of a request according to RFC 2543 depend on it.
fn request_of(method: &Method, lines: &[u8]) -> Option<Request> {
    let text = [method.as_str().as_bytes(), b" sip:unknown SIP/2.0\r\n", lines].concat();
    match message::parse(&Bytes::from(text), SocketAddr::from(([0, 0, 0, 0], 0))) {
        Ok(Message::Request(request)) => Some(request),
        Ok(Message::Response(_)) | Err(_) => None,
    }
}

/// Returns the text that represents a request in the trace.
pub(in crate::endpoint) fn request_line(request: &Request) -> String {
    [request.method.as_str(), " ", &String::from_utf8_lossy(request.uri.text())].concat()
}

fn repetition_line(request: &Request) -> String {
    if request.method == Method::Ack { "ACK".to_owned() } else { format!("{} (retransmission)", request_line(request)) }
}

/// Returns the text that represents a response in the trace.
pub(in crate::endpoint) fn response_line(status: u16, reason: &str, method: &str, again: bool) -> String {
    let mut line = Vec::with_capacity(64);
    header::push_number(&mut line, status.into());
    for part in [" ", reason, " (", method, if again { ") (retransmission)" } else { ")" }] {
        line.extend_from_slice(part.as_bytes());
    }
    String::from_utf8(line).unwrap_or_default()
}
