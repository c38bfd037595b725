//! Client transactions: requests that this server sent.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::server::response_line;
use super::{MAX_FORKS, Transactions};
use crate::compose::{self, RequestParts};
use crate::digest;
use crate::endpoint::core::Core;
use crate::endpoint::trunks::OutOfDialogRequest;
use crate::flow::{Flow, Target, Transport};
use crate::header::Header;
use crate::keys::{ClientId, LegSlot};
use crate::leg::EndCause;
use crate::message::{Method, Request, Response};
use crate::recording;
use crate::timer::Owner;
use crate::transaction::{Action, ClientInput, ClientMachine};

/// Number of octets at the beginning of a message that are searched for the first branch.
const HEAD: usize = 2_048;
/// Time for which long requests use UDP after a far end has refused TCP.
const UDP_ONLY: Duration = Duration::from_secs(3_600);
/// Maximum number of far ends in the list of far ends that refuse TCP. If the list is full, the whole list is cleared.
/// Each of these far ends then costs one more refused connection.
const MAX_UDP_ONLY: usize = 1_024;

/// A request that this server sent.
#[derive(Debug)]
pub(in crate::endpoint) struct Client {
    pub(in crate::endpoint) machine: ClientMachine,
    pub(in crate::endpoint) method: Method,
    pub(in crate::endpoint) branch: u128,
    pub(in crate::endpoint) purpose: Purpose,
    pub(in crate::endpoint) leg: Option<LegSlot>,
    pub(in crate::endpoint) flow: Flow,
    pub(in crate::endpoint) request: Bytes,
    /// The parts of the ACK of a 300-699 response. This field is set only for an INVITE.
    pub(in crate::endpoint) acknowledge: Option<Box<Acknowledge>>,
    /// Whether the ACK of the 2xx had neither credentials nor a body. If so, the ACK can be composed again from a
    /// retransmitted 2xx alone.
    pub(in crate::endpoint) plain_ack: bool,
    /// ACKs that were sent for 2xx responses. Each entry has the To tag of the 2xx, the ACK, and the flow of the ACK.
    /// There are at most [`MAX_FORKS`] entries.
    pub(in crate::endpoint) acknowledged: Vec<(Bytes, Bytes, Flow)>,
    /// Other targets, best first, that are tried if the current target does not respond.
    alternatives: Vec<Target>,
    /// The parts that are needed to send the request again with credentials.
    pub(in crate::endpoint) again: Option<Box<InDialogRequest>>,
    wake: Option<Instant>,
}

/// The purpose of a request that this server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::endpoint) enum Purpose {
    Invite,
    Reinvite,
    Cancel,
    Bye,
    Info,
    /// A request that belongs to no leg.
    OutOfDialog(OutOfDialogRequest),
    Prack,
    /// An UPDATE with an offer in an early dialog.
    Update,
    /// An UPDATE that refreshes the session.
    Refresh,
    Refer,
    Notify,
}

impl Purpose {
    /// Returns the purpose of a request that belongs to no leg. Returns `None` for any other request.
    pub(in crate::endpoint) fn out_of_dialog(self) -> Option<OutOfDialogRequest> {
        match self {
            Self::OutOfDialog(kind) => Some(kind),
            _ => None,
        }
    }
}

/// The parts that are needed to compose a CANCEL or the ACK of a 300-699 response.
#[derive(Debug, Clone)]
pub(in crate::endpoint) struct Acknowledge {
    pub(in crate::endpoint) uri: Bytes,
    pub(in crate::endpoint) routes: Vec<Bytes>,
    pub(in crate::endpoint) from: Bytes,
    pub(in crate::endpoint) call_id: Bytes,
    pub(in crate::endpoint) cseq: u32,
    pub(in crate::endpoint) authorization: String,
    /// The ACK; `None` until it is composed.
    pub(in crate::endpoint) bytes: Option<Bytes>,
}

/// A request in a dialog, without the parts that depend on its routing.
#[derive(Debug, Clone, Default)]
pub(in crate::endpoint) struct InDialogRequest {
    /// Complete header lines. Each line ends with CRLF.
    pub(in crate::endpoint) lines: String,
    pub(in crate::endpoint) headers: Vec<Header>,
    /// The content type and the body.
    pub(in crate::endpoint) body: Option<(String, Bytes)>,
    /// Whether the Allow header of the request contains REFER.
    pub(in crate::endpoint) refer: bool,
    /// Whether the request belongs to a session with a recording server.
    pub(in crate::endpoint) records: bool,
    pub(in crate::endpoint) attempts: digest::Attempts,
}

/// A request that is sent in a new client transaction.
pub(in crate::endpoint) struct NewClient {
    pub(in crate::endpoint) method: Method,
    pub(in crate::endpoint) branch: u128,
    pub(in crate::endpoint) flow: Flow,
    pub(in crate::endpoint) data: Bytes,
    pub(in crate::endpoint) leg: Option<LegSlot>,
    pub(in crate::endpoint) purpose: Purpose,
}

/// What the transaction user must handle after an input of a client transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::endpoint) enum ClientOutcome {
    /// The input was a response, which the transaction user must handle.
    Response,
    /// No response came, because of a timeout or a failed connection.
    Failed(EndCause),
}

/// A further response to an INVITE that already got a 2xx (RFC 3261 §13.2.2.4).
pub(in crate::endpoint) struct LateResponse {
    pub(in crate::endpoint) leg: Option<LegSlot>,
    pub(in crate::endpoint) flow: Flow,
    /// Whether a 2xx with this To tag was already acknowledged. If this is `false`, the response comes from another
    /// fork.
    pub(in crate::endpoint) is_repetition: bool,
}

impl Client {
    /// Returns the number of forks whose 2xx was acknowledged.
    pub(in crate::endpoint) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}

impl InDialogRequest {
    /// Returns the parameters of the Contact in the request.
    pub(in crate::endpoint) fn features(&self) -> &'static str {
        if self.records { recording::FEATURE } else { "" }
    }

    /// Returns whether `lines`, `headers` and `body` are all empty.
    pub(in crate::endpoint) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.headers.is_empty() && self.body.is_none()
    }
}

impl Transactions {
    pub(in crate::endpoint) fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(id)
    }

    pub(in crate::endpoint) fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id)
    }

    /// Returns whether a message is a response to a request of this server. The first branch in the message must be a
    /// branch that this server has generated. These branches are random, so an attacker cannot guess them. Only the
    /// first [`HEAD`] octets are checked.
    pub(in crate::endpoint) fn awaits(&self, data: &[u8]) -> bool {
        let head = data.get(..HEAD).unwrap_or(data);
        if !head.starts_with(b"SIP/2.0 ") {
            return false;
        }
        let name = b"branch=";
        let Some(at) = head.windows(name.len()).position(|window| window == name) else { return false };
        let at = at + name.len();
        let branch = head.get(at..at + compose::BRANCH_LENGTH).and_then(compose::branch_number);
        branch.is_some_and(|branch| {
            self.completed.has_invite(branch)
                || [true, false].iter().any(|cancel| self.clients_by_branch.contains_key(&(branch, *cancel)))
        })
    }

    /// Returns whether a received request is, octet for octet, a request that this server has sent and whose transaction
    /// still lives. Then this server has called its own socket. A far end cannot pretend this: if it sends back a request
    /// of this server, it says nothing of its own.
    pub(in crate::endpoint) fn has_sent(&self, request: &Request, data: &[u8]) -> bool {
        let branch = request.via.branch.as_ref().and_then(|branch| compose::branch_number(branch));
        let cancel = request.method == Method::Cancel;
        let id = branch.and_then(|branch| self.clients_by_branch.get(&(branch, cancel)));
        id.and_then(|id| self.clients.get(*id)).is_some_and(|client| client.request == data)
    }

    /// Sends a request in a new transaction. A request that is too long for UDP is tried over TCP first.
    pub(in crate::endpoint) fn start_client(&mut self, core: &mut Core, now: Instant, new: NewClient) -> ClientId {
        let NewClient { method, branch, mut flow, mut data, leg, purpose } = new;
        if let Some(local) = core.locals.get(flow.local)
            && (local.transport != flow.transport || local.bound.is_ipv4() != flow.peer.is_ipv4())
            && let Some(local) = core.local_for(flow.transport, flow.peer.ip())
        {
            flow.local = local;
        }
        let mut fallback = Vec::new();
        if let Some(whole) = self.avoid_fragments(core, now, flow, data.len()) {
            let contact = core.contact(flow);
            let contacts = (contact.clone(), contact);
            data = compose::rerouted(&data, whole.transport, core.sent_by(whole), branch, &contacts);
            fallback.push(Target { transport: flow.transport, address: flow.peer, identity: None });
            flow = whole;
        }
        let id = self.insert_client(core, now, NewClient { method, branch, flow, data, leg, purpose });
        self.add_alternatives(core, now, id, fallback, false);
        id
    }

    /// Sends a request along its flow in a new transaction.
    pub(in crate::endpoint) fn insert_client(&mut self, core: &mut Core, now: Instant, new: NewClient) -> ClientId {
        let reliable = new.flow.transport.is_reliable();
        let machine = ClientMachine::new(now, new.method == Method::Invite, reliable, &core.config.timers);
        core.transmit(new.flow, new.data.clone());
        core.trace(new.leg, true, new.flow, || start_line(&new.data));
        self.insert_machine(core, machine, new)
    }

    /// Continues an INVITE that got a 2xx in another process. Sends nothing.
    pub(in crate::endpoint) fn insert_answered(
        &mut self,
        core: &mut Core,
        until: Instant,
        new: NewClient,
        plain_ack: bool,
        acknowledged: Vec<(Bytes, Bytes, Flow)>,
    ) -> ClientId {
        let machine = ClientMachine::accepted(until, new.flow.transport.is_reliable());
        let id = self.insert_machine(core, machine, new);
        if let Some(client) = self.clients.get_mut(id) {
            (client.plain_ack, client.acknowledged) = (plain_ack, acknowledged);
        }
        id
    }

    /// Continues an INVITE that got a 2xx in another process, if its ACK can be composed again. `tag` is the hash of the
    /// To tag in the 2xx.
    pub(in crate::endpoint) fn resume_completed_invite(
        &mut self,
        until: Instant,
        branch: u128,
        leg: LegSlot,
        flow: Flow,
        tag: u64,
    ) {
        self.completed.insert_invite(until, branch, Some(leg), flow, tag);
    }

    /// Returns the transactions of a leg, without completed ones.
    pub(in crate::endpoint) fn clients_of(&self, leg: LegSlot) -> impl Iterator<Item = &Client> {
        self.clients.values().filter(move |client| client.leg == Some(leg))
    }

    /// Returns the branch and the flow of the INVITE of a leg, if the INVITE is completed.
    pub(in crate::endpoint) fn completed_invites_of(&self, leg: LegSlot) -> impl Iterator<Item = (u128, Flow)> {
        self.completed.invites_of(leg)
    }

    fn insert_machine(&mut self, core: &mut Core, machine: ClientMachine, new: NewClient) -> ClientId {
        let NewClient { method, branch, flow, data, leg, purpose } = new;
        let (cancel, next) = (method == Method::Cancel, machine.next_timeout());
        let id = self.clients.insert(Client {
            machine,
            method,
            branch,
            purpose,
            leg,
            flow,
            request: data,
            acknowledge: None,
            plain_ack: false,
            acknowledged: Vec::new(),
            alternatives: Vec::new(),
            again: None,
            wake: None,
        });
        self.clients_by_branch.insert((branch, cancel), id);
        if flow.transport.is_reliable() {
            self.stream_clients.entry(flow.peer).or_default().insert(id);
        }
        if let Some(client) = self.clients.get_mut(id) {
            core.timers.arm(&mut client.wake, next, Owner::Client(id));
        }
        id
    }

    /// Returns the live transaction to which a response belongs.
    pub(in crate::endpoint) fn client_of(&self, branch: u128, response: &Response) -> Option<ClientId> {
        self.clients_by_branch.get(&(branch, response.method == Method::Cancel)).copied()
    }

    /// Returns the transaction whose request was sent to `peer` over UDP and has no response yet. `quoted` is the
    /// beginning of the request. Only the branch in the first Via counts.
    pub(in crate::endpoint) fn unanswered_in(&self, peer: std::net::SocketAddr, quoted: &[u8]) -> Option<ClientId> {
        const BEFORE: &[u8] = b";branch=";
        let start = quoted.windows(BEFORE.len()).position(|window| window == BEFORE)? + BEFORE.len();
        let branch = compose::branch_number(quoted.get(start..start + compose::BRANCH_LENGTH)?)?;
        let id = *self.clients_by_branch.get(&(branch, quoted.starts_with(b"CANCEL ")))?;
        let client = self.clients.get(id)?;
        let is_hit = client.flow.transport == Transport::Udp && client.flow.peer == peer;
        (is_hit && client.machine.is_unanswered()).then_some(id)
    }

    /// Returns the transactions whose request was sent over a connection to `peer` and has no response yet.
    pub(in crate::endpoint) fn unanswered_over(
        &self,
        transport: Transport,
        peer: std::net::SocketAddr,
    ) -> Vec<ClientId> {
        let ids = self.stream_clients.get(&peer).into_iter().flatten().copied();
        ids.filter(|&id| {
            let is_hit = |client: &Client| client.flow.transport == transport && client.machine.is_unanswered();
            self.clients.get(id).is_some_and(is_hit)
        })
        .collect()
    }

    /// Handles a response. Returns `None` if the transaction user has nothing to handle, for example if the response
    /// does not belong to the request. Call [`Transactions::settle_client`] after the outcome was handled.
    pub(in crate::endpoint) fn handle_response(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        response: &Response,
    ) -> Option<ClientOutcome> {
        let client = self.clients.get(id).filter(|client| client.method == response.method)?;
        let (leg, flow, again) = (client.leg, client.flow, !client.machine.is_pending());
        core.trace(leg, false, flow, || {
            response_line(response.status, &response.reason(), response.method.as_str(), again)
        });
        self.handle_client(core, now, id, ClientInput::Response(response.status), Some(response))
    }

    /// Handles a timer of the transaction. This function may also be called before the timer is due.
    pub(in crate::endpoint) fn handle_client_timeout(
        &mut self,
        core: &mut Core,
        now: Instant,
        at: Instant,
        id: ClientId,
    ) -> Option<ClientOutcome> {
        let client = self.clients.get_mut(id)?;
        if client.wake == Some(at) {
            client.wake = None;
        }
        match client.machine.take_due(now) {
            Some(timer) => self.handle_client(core, now, id, ClientInput::Timer(timer), None),
            None => {
                let next = client.machine.next_timeout();
                core.timers.arm(&mut client.wake, next, Owner::Client(id));
                None
            }
        }
    }

    /// Passes one input to a client transaction. Call [`Transactions::settle_client`] after the outcome was handled.
    pub(in crate::endpoint) fn handle_client(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        input: ClientInput,
        response: Option<&Response>,
    ) -> Option<ClientOutcome> {
        let mut actions = std::mem::take(&mut self.actions);
        if let Some(client) = self.clients.get_mut(id) {
            client.machine.handle(now, input, &core.config.timers, &mut actions);
            // If an accepted INVITE becomes a completed transaction, it needs no timer of its own. Its ACK decides
            // whether it becomes one.
            let next = client.machine.next_timeout().filter(|_| client.machine.absorbs_until().is_none());
            core.timers.arm(&mut client.wake, next, Owner::Client(id));
        }
        let mut outcome = None;
        for action in actions.drain(..) {
            match action {
                Action::Transmit | Action::Retransmit => self.retransmit_request(core, id),
                Action::Acknowledge => {
                    if let Some(response) = response {
                        self.acknowledge_refusal(core, id, response);
                    }
                }
                Action::Deliver => outcome = Some(ClientOutcome::Response),
                Action::TimedOut => outcome = Some(ClientOutcome::Failed(EndCause::Timeout)),
                Action::TransportFailed(why) => outcome = Some(ClientOutcome::Failed(why.into())),
                // The transaction user may still read the transaction, so it is removed later, in `settle_client`.
                Action::Terminate => {}
            }
        }
        self.actions = actions;
        outcome
    }

    /// Completes an input of a client transaction after its outcome was handled. Removes a terminated transaction.
    /// Turns an accepted INVITE with a plain ACK into a completed transaction.
    pub(in crate::endpoint) fn settle_client(&mut self, core: &mut Core, id: ClientId, response: Option<&Response>) {
        let Some(client) = self.clients.get_mut(id).filter(|client| !client.machine.is_pending()) else { return };
        if client.machine.is_terminated() {
            self.remove_client(id);
            return;
        }
        // From now on, only ACKs are retransmitted. The request is not needed any more.
        client.request = Bytes::new();
        let Some(until) = client.machine.absorbs_until() else { return };
        if client.purpose == Purpose::Invite
            && client.plain_ack
            && let (Some(response), [_]) = (response, client.acknowledged.as_slice())
            && response.content.contact().is_some()
        {
            let (branch, leg, flow) = (client.branch, client.leg, client.flow);
            self.remove_client(id);
            let tag = core.tag_hash(response);
            self.completed.insert_invite(until, branch, leg, flow, tag);
        } else {
            core.timers.arm(&mut client.wake, Some(until), Owner::Client(id));
        }
    }

    fn retransmit_request(&mut self, core: &mut Core, id: ClientId) {
        let Some(client) = self.clients.get(id) else { return };
        let (leg, flow, data) = (client.leg, client.flow, client.request.clone());
        core.counters.repeated += 1;
        core.transmit(flow, data.clone());
        core.trace(leg, true, flow, || format!("{} (retransmission)", start_line(&data)));
    }

    /// Sends the ACK of a 300-699 response. This ACK belongs to the transaction of the INVITE (RFC 3261 §17.1.1.3).
    fn acknowledge_refusal(&mut self, core: &mut Core, id: ClientId, response: &Response) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let (leg, flow, branch) = (client.leg, client.flow, client.branch);
        let Some(acknowledge) = &mut client.acknowledge else { return };
        let repeated = acknowledge.bytes.is_some();
        let data = acknowledge.bytes.get_or_insert_with(|| {
            compose::request(&RequestParts {
                method: "ACK",
                uri: &acknowledge.uri,
                via_transport: Some(flow.transport),
                sent_by: core.sent_by(flow),
                branch,
                routes: &acknowledge.routes,
                from: &acknowledge.from,
                to: &response.to.text,
                call_id: &acknowledge.call_id,
                cseq: acknowledge.cseq,
                lines: &acknowledge.authorization,
                user_agent: &core.config.user_agent,
                ..RequestParts::default()
            })
        });
        let data = data.clone();
        core.transmit(flow, data.clone());
        core.trace(leg, true, flow, || {
            let again = if repeated { " (retransmission)" } else { "" };
            format!("{}{again}", start_line(&data))
        });
    }

    /// Sends the ACK of a 2xx, and stores the ACK for retransmissions of the 2xx. `plain` says that the ACK has neither
    /// credentials nor a body.
    pub(in crate::endpoint) fn acknowledge_answer(
        &mut self,
        core: &mut Core,
        id: ClientId,
        leg: Option<LegSlot>,
        tag: &[u8],
        (flow, data): (Flow, Bytes),
        plain: bool,
    ) {
        core.transmit(flow, data.clone());
        core.trace(leg, true, flow, || start_line(&data));
        if let Some(client) = self.clients.get_mut(id) {
            client.plain_ack = plain;
            // The tag is copied, because a slice of the response would keep the whole response in memory.
            client.acknowledged.push((Bytes::copy_from_slice(tag), data, flow));
        }
    }

    /// Sends the ACK of a 2xx again. Returns `false` if this 2xx has not been acknowledged yet.
    pub(in crate::endpoint) fn acknowledge_again(
        &mut self,
        core: &mut Core,
        id: ClientId,
        response: &Response,
    ) -> bool {
        let Some(client) = self.clients.get(id) else { return true };
        let tag = response.to.tag.as_deref().unwrap_or_default();
        let Some((_, data, flow)) = client.acknowledged.iter().find(|(known, _, _)| known == tag).cloned() else {
            return false;
        };
        let leg = client.leg;
        core.transmit(flow, data.clone());
        core.trace(leg, true, flow, || format!("{} (retransmission)", start_line(&data)));
        true
    }

    /// Handles a further response to an INVITE that already got a 2xx. Returns `None` if there is no such INVITE with
    /// this branch, or if nothing has to be done.
    pub(in crate::endpoint) fn handle_late_response(
        &mut self,
        core: &mut Core,
        branch: u128,
        response: &Response,
    ) -> Option<LateResponse> {
        let tag = core.tag_hash(response);
        let Some(invite) = self.completed.invite_mut(branch) else {
            tracing::debug!(status = response.status, "response matches no transaction");
            return None;
        };
        if response.method != Method::Invite {
            return None;
        }
        let (leg, flow) = (invite.leg, *invite.flow);
        let is_repetition = invite.tag == tag || invite.forks.contains(&tag);
        let answered = (200..300).contains(&response.status) && response.content.contact().is_some();
        let room = answered && (is_repetition || invite.forks.len() + 1 < MAX_FORKS);
        if room && !is_repetition {
            invite.forks = invite.forks.iter().copied().chain([tag]).collect();
        }
        core.trace(leg, false, flow, || response_line(response.status, &response.reason(), "INVITE", true));
        room.then_some(LateResponse { leg, flow, is_repetition })
    }

    /// Adds targets that are tried if the current target does not respond. If there are further targets, the request
    /// waits only [`crate::Config::failover_ms`] for a first response, and not 32 s. The wait is also shorter if
    /// `has_alternatives` is true, because then the application itself has other targets.
    pub(in crate::endpoint) fn add_alternatives(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        targets: Vec<Target>,
        has_alternatives: bool,
    ) {
        let failover_time = Duration::from_millis(core.config.failover_ms.into()).min(core.config.timers.timeout());
        if let Some(client) = self.clients.get_mut(id) {
            client.alternatives.extend(targets);
            if has_alternatives || !client.alternatives.is_empty() {
                self.expire_by(core, id, now + failover_time);
            }
        }
    }

    /// Removes and returns the targets that have not been tried yet.
    pub(in crate::endpoint) fn take_alternatives(&mut self, id: ClientId) -> Vec<Target> {
        self.clients.get_mut(id).map(|client| std::mem::take(&mut client.alternatives)).unwrap_or_default()
    }

    /// Makes the request fail at the time `by`, if no response has come until then.
    pub(in crate::endpoint) fn expire_by(&mut self, core: &mut Core, id: ClientId, by: Instant) {
        if let Some(client) = self.clients.get_mut(id) {
            client.machine.expire_by(by);
            let next = client.machine.next_timeout();
            core.timers.arm(&mut client.wake, next, Owner::Client(id));
        }
    }

    /// Marks the response as not needed any more. If an INVITE still rings at the time `at`, the transaction ends.
    pub(in crate::endpoint) fn abandon(&mut self, core: &mut Core, id: ClientId, at: Instant) {
        if let Some(client) = self.clients.get_mut(id) {
            client.machine.abandon(at);
            let next = client.machine.next_timeout();
            core.timers.arm(&mut client.wake, next, Owner::Client(id));
        }
    }

    /// Returns a TCP flow for a request that could be fragmented over UDP (RFC 3261 §18.1.1). Returns `None` if the
    /// request is short enough, if the far end is known to refuse TCP, or if there is no TCP socket. If the far end
    /// refuses the TCP connection, UDP is tried next. A request to another node stays on UDP: the node forwards it to a
    /// phone over UDP, and does not repeat it.
    fn avoid_fragments(&self, core: &Core, now: Instant, flow: Flow, length: usize) -> Option<Flow> {
        let limit = core.config.udp_max_request;
        let refused = self.udp_only.get(&flow.peer).is_some_and(|until| *until > now);
        let stays = flow.pinned || core.is_node(flow.peer.ip());
        if flow.transport != Transport::Udp || stays || limit == 0 || length <= limit || refused {
            return None;
        }
        let local = core.local_for(Transport::Tcp, flow.peer.ip())?;
        Some(Flow { transport: Transport::Tcp, local, ..flow })
    }

    /// Sends the same request to the next target in a new transaction (RFC 3263 §4.3). Returns `None` if no target is
    /// left. The old transaction still receives late responses.
    pub(in crate::endpoint) fn send_to_next_target(
        &mut self,
        core: &mut Core,
        now: Instant,
        id: ClientId,
        has_alternatives: bool,
    ) -> Option<(ClientId, Flow)> {
        let mut targets = self.take_alternatives(id);
        let flow = core.next_hop(&mut targets)?;
        let client = self.clients.get_mut(id)?;
        let old = client.flow;
        let flow = Flow { pinned: old.pinned, secure: old.secure, ..flow };
        if old.transport == Transport::Tcp && flow.transport == Transport::Udp && old.peer == flow.peer {
            if self.udp_only.len() >= MAX_UDP_ONLY {
                self.udp_only.clear();
            }
            self.udp_only.insert(flow.peer, now + UDP_ONLY);
        }
        let branch = core.random_u128();
        let contacts = (core.contact(old), core.contact(flow));
        let leg = client.leg.take();
        let (method, purpose, again) = (client.method.clone(), client.purpose, client.again.clone());
        let acknowledge = client.acknowledge.clone();
        let data = compose::rerouted(&client.request, flow.transport, core.sent_by(flow), branch, &contacts);
        let next = self.start_client(core, now, NewClient { method, branch, flow, data, leg, purpose });
        if let Some(client) = self.clients.get_mut(next) {
            client.again = again;
            client.acknowledge = acknowledge.map(|mut acknowledge| {
                acknowledge.bytes = None;
                acknowledge
            });
        }
        self.add_alternatives(core, now, next, targets, has_alternatives);
        Some((next, flow))
    }

    pub(in crate::endpoint) fn remove_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(id) else { return };
        self.clients_by_branch.remove(&(client.branch, client.method == Method::Cancel));
        if client.flow.transport.is_reliable()
            && let Some(ids) = self.stream_clients.get_mut(&client.flow.peer)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.stream_clients.remove(&client.flow.peer);
            }
        }
    }

    /// Drops or moves the timer of the transaction if nothing has to be done at the time `at`; see
    /// `Endpoint::skip_idle_timers`. Returns `false` if something has to be done.
    pub(in crate::endpoint) fn skip_client_timer(&mut self, core: &mut Core, at: Instant, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return core.timers.skip(None, at, None, Owner::Client(id)) };
        let next = client.machine.next_timeout();
        core.timers.skip(Some(&mut client.wake), at, next, Owner::Client(id))
    }
}

/// Returns the start line of a request that this server composed, without `SIP/2.0`. Example: `INVITE sip:...`.
pub(in crate::endpoint) fn start_line(data: &[u8]) -> String {
    let line = data.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.strip_suffix(" SIP/2.0").unwrap_or(&line).to_owned()
}
