//! The hub's routing. It passes each message, each outcome and each command to the machine that handles it.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::command::InviteRoute;
use super::incoming::{NewInvite, accepts_sdp, options_lines, refusal_of_body, unsupported};
use super::locate::PendingLookup;
use super::phones::Admission;
use super::refer::refusal_of_event;
use super::retry::RetryReason;
use super::transactions::Key;
use super::transactions::client::ClientOutcome;
use super::transactions::server::{CancelledInvite, Repetition, request_line};
use super::{Arrival, Endpoint, Output, session_timer};
use crate::compose::{self, ResponseParts};
use crate::config::UnknownSources;
use crate::dialog::Dialog;
use crate::dialog_state::DialogState;
use crate::digest;
use crate::flow::{Flow, Target, Transport};
use crate::keys::ClientId;
use crate::leg::{Command, EndCause, LegId, Outgoing};
use crate::message::{Echo, Method, Request, Response, Uri};
use crate::registrar::{BindingRef, ContactTarget};
use crate::trunk::CallDirection;
use crate::trunk_acl::TrunkName;

/// Maximum length, in octets, of a Request-URI. A longer Request-URI gets 414.
const MAX_URI: usize = 2_048;

impl Endpoint {
    pub(super) fn handle_request(&mut self, now: Instant, arrival: &Arrival, request: Request) {
        if self.forward_request(now, arrival, &request) {
            return;
        }
        let key = self.core.server_key(&request, &request.method);
        match self.transactions.handle_repetition(&mut self.core, now, arrival, &key, &request) {
            Repetition::New => {}
            Repetition::Absorbed => return,
            Repetition::Ack(leg) => {
                let (dialogs, mut cx) = self.dialogs(now);
                return dialogs.handle_ack(&mut cx, arrival, leg, &request);
            }
        }
        let leg = self.dialogs.dialog_of(&request);
        if request.method == Method::Ack {
            if let Some(leg) = leg {
                let (dialogs, mut cx) = self.dialogs(now);
                dialogs.handle_ack(&mut cx, arrival, leg, &request);
            }
            return;
        }
        // RFC 5923 §5: this server sends requests over a client's connection only if the client has proven its identity
        // with a certificate.
        if let (Some(port), Transport::Tls) = (request.via.alias, arrival.transport)
            && let (Some(connection), Some(trunk)) = (arrival.connection, arrival.certified_trunk.clone())
        {
            let address = SocketAddr::new(arrival.source.ip(), port);
            self.core.outputs.push_back(Output::Alias { connection, address, trunk });
        }
        let Some(echo) = request.echo(arrival.source) else { return };
        if request.method == Method::Register && leg.is_none() {
            self.handle_register(now, arrival, &request, key, echo);
            return;
        }
        // For an INVITE, the source is identified later.
        let is_invite = request.method == Method::Invite && request.to.tag.is_none();
        let known = leg.is_some()
            || is_invite
            || !self.phones.is_unknown_and_unregistered(&self.core, arrival)
            || self.core.is_node(arrival.source.ip())
            || self.is_expected(&request);
        if !known {
            // The request belongs to a dialog that has ended or that was lost in a crash, so it does not come from a
            // scanner. It gets 481, so that the sender learns that the dialog is gone (RFC 3261 §12.2.2).
            let (status, strays) = if request.to.tag.is_some() { (481, true) } else { (403, false) };
            if strays {
                self.core.counters.unknown_source_requests += 1;
            } else {
                self.core.note_unknown_source(now, arrival, &request);
            }
            if self.core.config.unknown_sources == UnknownSources::Reject {
                self.core.refuse(arrival, &echo, status, "");
            }
            return;
        }
        if request.method == Method::Cancel {
            self.handle_cancel(now, arrival, &request, &echo);
        } else if let Some(leg) = leg {
            let (dialogs, mut cx) = self.dialogs(now);
            dialogs.handle_in_dialog(&mut cx, arrival, leg, request, key, echo);
        } else {
            self.handle_out_of_dialog(now, arrival, request, key, echo);
        }
    }

    fn handle_out_of_dialog(&mut self, now: Instant, arrival: &Arrival, request: Request, key: Key, echo: Echo) {
        if request.to.tag.is_some() {
            self.core.refuse(arrival, &echo, 481, "");
            return;
        }
        match request.method {
            Method::Invite => {}
            Method::Options => {
                self.answer_options(arrival, &request, &echo);
                return;
            }
            Method::Bye | Method::Info | Method::Update | Method::Prack => {
                self.core.refuse(arrival, &echo, 481, "");
                return;
            }
            Method::Notify | Method::Subscribe => {
                let (status, lines) = refusal_of_event(&request);
                self.core.refuse(arrival, &echo, status, lines);
                return;
            }
            // A REFER transfers a call, but this REFER belongs to no call.
            Method::Refer => {
                self.core.refuse(arrival, &echo, 403, "");
                return;
            }
            Method::Ack | Method::Cancel => return,
            Method::Register | Method::Other(_) => {
                self.core.refuse(arrival, &echo, 405, "");
                return;
            }
        }
        let (trunk, caller, by_password) =
            match self.phones.identify(&mut self.core, &self.trunks, now, arrival, &request, &echo) {
                Admission::Trunk { name, by_password } => (name, None, by_password),
                Admission::Caller(caller) => (None, Some(caller), true),
                Admission::Refused => return,
            };
        let merge_key = self.core.merge_key(&request);
        if let Some((status, lines)) = self.refusal_of_invite(&request, merge_key, trunk.as_ref()) {
            self.core.refuse(arrival, &echo, status, &lines);
            return;
        }
        let peer = trunk.as_deref().and_then(|trunk| self.trunks.index_of(trunk));
        if !self.trunks.admit(&mut self.core, now, peer, CallDirection::Inbound) {
            let full = self.trunks.is_full(peer);
            let lines = self.core.retry_after(if full { RetryReason::Calls } else { RetryReason::Pace });
            self.core.refuse(arrival, &echo, 503, &lines);
            return;
        }
        // Some carriers challenge even the BYE of a call that comes from the carrier.
        let credentials = peer.and_then(|peer| self.trunks.get(peer)?.credentials.clone());
        let session = credentials
            .map(|own| digest::Session::new(own).for_networks(self.trunks.trusted_networks_of(&self.core, peer)));
        let pinned = by_password || trunk.as_ref().is_some_and(|trunk| self.core.uses_nat(trunk));
        let secure = request.uri.is_secure() || request.content.makes_secure_dialog();
        let flow = Flow { pinned, secure, ..self.core.arrival_flow(arrival) };
        let invite =
            NewInvite { arrival, flow, request, trunk, trunk_index: peer, session, key, merge_key, echo, caller };
        let (dialogs, mut cx) = self.dialogs(now);
        dialogs.accept_invite(&mut cx, invite);
    }

    /// Applies the checks of RFC 3261 §8.2 to an INVITE, in the order of the RFC. If the INVITE must be refused,
    /// returns the status and the header lines of the refusal.
    fn refusal_of_invite(
        &mut self,
        request: &Request,
        merge_key: Key,
        trunk: Option<&TrunkName>,
    ) -> Option<(u16, String)> {
        if request.uri.text().len() > MAX_URI {
            return Some((414, String::new()));
        }
        if self.transactions.is_merged(&merge_key) {
            return Some((482, String::new()));
        }
        // This server forwards a call that it accepts. So the rule for proxies in RFC 3261 §16.3 applies.
        if request.max_forwards == Some(0) {
            return Some((483, String::new()));
        }
        if self.dialogs.is_loop(request) {
            return Some((482, String::new()));
        }
        if let Some(lines) = unsupported(request, self.core.prack_of(trunk)) {
            return Some((420, lines));
        }
        if let Err(status) = self.dialogs.replaced_by(request) {
            return Some((status, String::new()));
        }
        if let Err(least) = session_timer::negotiate(request, self.core.config.session_expires, self.core.config.min_se)
        {
            return Some((422, format!("Min-SE: {least}\r\n")));
        }
        if let Some(refusal) = refusal_of_body(request) {
            return Some(refusal);
        }
        if !accepts_sdp(request) {
            return Some((406, String::new()));
        }
        if self.overloaded || self.dialogs.len() >= self.core.config.max_legs || !self.has_room() {
            self.core.counters.shed += 1;
            let reason = if self.overloaded { RetryReason::Late } else { RetryReason::Tables };
            return Some((503, self.core.retry_after(reason)));
        }
        None
    }

    /// Answers an OPTIONS outside a dialog with the capabilities of this server (RFC 3261 §11).
    fn answer_options(&mut self, arrival: &Arrival, request: &Request, echo: &Echo) {
        let prack = self.core.prack_of(self.core.trunk_at(arrival.source.ip()));
        if let Some(lines) = unsupported(request, prack) {
            self.core.refuse(arrival, echo, 420, &lines);
        } else if self.core.refuses_calls {
            // RFC 3261 §11.2: the status is that of an INVITE. A proxy in front then calls another node.
            let lines = self.core.retry_after(RetryReason::Late);
            self.core.refuse(arrival, echo, 503, &lines);
        } else {
            self.core.refuse(arrival, echo, 200, &options_lines(prack));
        }
    }

    /// Handles a CANCEL (RFC 3261 §9.2).
    fn handle_cancel(&mut self, now: Instant, arrival: &Arrival, request: &Request, echo: &Echo) {
        let key = self.core.server_key(request, &Method::Invite);
        let Some(CancelledInvite { leg, tag, pending }) = self.transactions.cancelled_invite(&key) else {
            self.core.refuse(arrival, echo, 481, "");
            return;
        };
        let flow = self.core.arrival_flow(arrival);
        self.core.trace(leg, false, flow, || request_line(request));
        self.core.respond_statelessly(
            arrival,
            echo,
            ResponseParts { status: 200, tag: Some(tag), ..ResponseParts::default() },
        );
        self.core.trace(leg, true, flow, || "200 OK (CANCEL)".to_owned());
        let Some(server) = pending else { return };
        self.respond(now, server, ResponseParts { status: 487, ..ResponseParts::default() });
        if let Some(leg) = leg {
            let (dialogs, mut cx) = self.dialogs(now);
            dialogs.handle_cancel(&mut cx, leg, server, request);
        }
    }

    pub(super) fn handle_response(&mut self, now: Instant, arrival: &Arrival, response: &Response) {
        if self.forward_response(response) {
            return;
        }
        // RFC 3261 §8.1.3.3: a response with more than one Via is not meant for this server.
        let branch = compose::branch_number(&response.branch).filter(|_| response.via_count == 1);
        let Some(branch) = branch else {
            tracing::debug!(status = response.status, "response matches no transaction");
            return;
        };
        let Some(id) = self.transactions.client_of(branch, response) else {
            if self.handle_orphan(now, arrival, branch, response) {
                return;
            }
            let (_, mut cx) = self.dialogs(now);
            return cx.handle_late_response(branch, response);
        };
        let outcome = self.transactions.handle_response(&mut self.core, now, id, response);
        self.client_outcome(now, id, outcome, Some(response));
    }

    /// Handles the outcome of a client transaction. Afterwards, removes the transaction if it has ended.
    pub(super) fn client_outcome(
        &mut self,
        now: Instant,
        id: ClientId,
        outcome: Option<ClientOutcome>,
        response: Option<&Response>,
    ) {
        match (outcome, response) {
            (Some(ClientOutcome::Response), Some(response)) => self.deliver(now, id, response),
            (Some(ClientOutcome::Failed(cause)), _) => self.request_failed(now, id, cause),
            (Some(ClientOutcome::Response) | None, _) => {}
        }
        self.transactions.settle_client(&mut self.core, id, response);
    }

    fn deliver(&mut self, now: Instant, id: ClientId, response: &Response) {
        // RFC 3263 §4.3: after a 503, the request is sent to the next target.
        if response.status == 503 && self.try_next_target(now, id) {
            return;
        }
        if let Some(kind) = self.transactions.client(id).and_then(|client| client.purpose.out_of_dialog()) {
            self.trunks.handle_response(&mut self.core, now, kind, response);
            return self.serve_trunks(now);
        }
        let (dialogs, mut cx) = self.dialogs(now);
        dialogs.handle_response(&mut cx, id, response);
    }

    fn request_failed(&mut self, now: Instant, id: ClientId, cause: EndCause) {
        if self.try_next_target(now, id) {
            return;
        }
        if let Some(kind) = self.transactions.client(id).and_then(|client| client.purpose.out_of_dialog()) {
            self.trunks.handle_failure(&mut self.core, now, kind, cause);
            return self.serve_trunks(now);
        }
        let (dialogs, mut cx) = self.dialogs(now);
        dialogs.handle_failure(&mut cx, id, cause);
    }

    fn try_next_target(&mut self, now: Instant, id: ClientId) -> bool {
        let (dialogs, mut cx) = self.dialogs(now);
        dialogs.try_next_target(&mut cx, id)
    }

    /// Executes one command. For a [`Command::Invite`], the destination may need a lookup. In this case the endpoint
    /// emits [`Output::Resolve`](super::Output).
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Invite { leg, invite } => self.invite(now, leg, invite),
            Command::Rename { branch, leg } => self.dialogs.rename(&mut self.core, branch, leg),
            Command::End(state) => self.end_stored(now, *state),
            Command::EndUnanswered(call_ids) => self.expect_orphans(now, call_ids),
            Command::Directory(directory) => self.set_directory(directory),
            Command::TakeCalls(takes) => self.core.refuses_calls = !takes,
            Command::TrunkSlices(slices) => self.trunks.set_slices(&mut self.core, now, &slices),
            Command::Nodes(nodes) => self.set_nodes(nodes),
            Command::Learn { binding, node } => self.phones.learn(&mut self.core, now, *binding, &node),
            Command::Forget(binding) => self.phones.forget(&mut self.core, now, binding),
            command => match command.leg().and_then(|leg| self.dialogs.id_of(leg)) {
                Some(leg) => {
                    let (dialogs, mut cx) = self.dialogs(now);
                    dialogs.handle_command(&mut cx, leg, command);
                }
                None => {
                    if let Command::Hangup { leg, .. } = command {
                        self.abandon_lookup(leg);
                    }
                }
            },
        }
    }

    fn invite(&mut self, now: Instant, key: LegId, mut outgoing: Box<Outgoing>) {
        if self.dialogs.holds(key) || self.lookups.holds(key) {
            tracing::error!(leg = ?key, "leg key used twice");
            return;
        }
        if self.dialogs.len() >= self.core.config.max_legs || !self.has_room() {
            self.core.report_unplaced(key, EndCause::Overload);
            return;
        }
        if let Some(binding) = outgoing.binding.take() {
            return self.invite_binding(now, key, &binding, outgoing);
        }
        // Applications write `sip:*21#@host`. A URI must not contain a `#` without an escape (RFC 3261 §25.1).
        if outgoing.request_uri.contains('#') {
            outgoing.request_uri = outgoing.request_uri.replace('#', "%23");
        }
        let hop = outgoing.next_hop.as_ref().unwrap_or(&outgoing.request_uri);
        let Some(hop) = Uri::parse(hop.as_bytes()) else {
            self.core.report_unplaced(key, EndCause::Invalid);
            return;
        };
        let trunk = outgoing.trunk.clone();
        self.locate(now, &hop, trunk, PendingLookup::Invite { key, outgoing });
    }

    /// Sends the INVITE to a registered contact. If the binding has ended, the leg ends with 480.
    fn invite_binding(&mut self, now: Instant, key: LegId, binding: &BindingRef, outgoing: Box<Outgoing>) {
        let Some(target) = self.phones.contact(now, binding) else {
            return self.core.report_unregistered(key, &binding.aor);
        };
        let to = outgoing.to.clone().or_else(|| Some(outgoing.request_uri.clone()));
        let ContactTarget { contact: request_uri, routes, flow, .. } = target;
        let outgoing = Box::new(Outgoing { to, request_uri, next_hop: None, ..*outgoing });
        let route = InviteRoute { routes, phone: true, ..InviteRoute::default() };
        let (dialogs, mut cx) = self.dialogs(now);
        dialogs.place_along(&mut cx, key, outgoing, flow, route);
    }

    /// Sends the INVITE to the first target that a local socket can reach.
    pub(super) fn place(&mut self, now: Instant, key: LegId, outgoing: Box<Outgoing>, mut hops: Vec<Target>) {
        let trusted_networks = hops.iter().map(|hop| hop.address.ip().to_canonical().into()).collect();
        match self.core.next_hop(&mut hops) {
            Some(flow) => {
                let pinned = outgoing.trunk.as_ref().is_some_and(|trunk| self.core.uses_nat(trunk));
                let secure = Uri::parse(outgoing.request_uri.as_bytes()).is_some_and(|uri| uri.is_secure());
                let flow = Flow { pinned, secure, ..flow };
                let (dialogs, mut cx) = self.dialogs(now);
                dialogs.place_along(
                    &mut cx,
                    key,
                    outgoing,
                    flow,
                    InviteRoute { trusted_networks, hops, ..InviteRoute::default() },
                );
            }
            None => self.core.report_unplaced(key, EndCause::NoSocket),
        }
    }

    /// Ends a dialog of an earlier process. Does nothing if no local socket can reach the far end, or if there is no
    /// room for the transaction.
    pub(super) fn end_stored(&mut self, now: Instant, state: DialogState) {
        let (transport, peer) = state.address();
        if matches!(transport, Transport::Ws | Transport::Wss) || !self.has_room() {
            return;
        }
        let local = self.core.local_for(transport, peer.ip());
        let dialog = local.and_then(|local| Dialog::of_earlier_process(state.dialog, local));
        if let Some(dialog) = dialog {
            let (_, mut cx) = self.dialogs(now);
            cx.send_bye_without_leg(dialog);
        }
    }

    /// Returns the trunk whose networks contain the address.
    pub(crate) fn trunk_at(&self, source: IpAddr) -> Option<TrunkName> {
        self.core.trunk_at(source).cloned()
    }

    /// Returns whether the source is in no trunk's networks and no node of the cluster.
    pub(crate) fn is_unknown(&self, source: IpAddr) -> bool {
        self.core.is_unknown(source) && !self.core.is_node(source)
    }
}
