//! Requests of this server in dialogs. The module composes and sends them, and changes the leg when responses come.

use bytes::Bytes;

use super::dialogs::{Context, Dialogs};
use super::leg_cx::LegCx;
use super::offer::{Carrier, OfferState};
use super::state::{End, State};
use super::targets::Targets;
use super::transactions::MAX_FORKS;
use super::transactions::client::{Acknowledge, InDialogRequest, NewClient, Purpose, start_line};
use crate::compose::{self, RequestParts};
use crate::dialog::{Dialog, NextHop};
use crate::digest;
use crate::flow::Flow;
use crate::header::ByeHeaders;
use crate::keys::{ClientId, LegSlot};
use crate::leg::{EndCause, Event};
use crate::message::{Method, Response, Uri};

impl Context<'_> {
    /// Handles a further response to an INVITE that already got a 2xx (RFC 3261 §13.2.2.4). If the response is a
    /// retransmission of this 2xx, the same ACK is sent again. A 2xx of another fork gets an ACK and then a BYE.
    pub(super) fn handle_late_response(&mut self, branch: u128, response: &Response) {
        let Some(late) = self.transactions.handle_late_response(self.core, branch, response) else { return };
        let Some(target) = response.content.contact() else { return };
        let dialog = Dialog::from_response(response, &target, late.flow);
        let (flow, data) = self.compose_ack(branch, &dialog, response.cseq, &InDialogRequest::default());
        self.core.transmit(flow, data.clone());
        self.core.trace(late.leg, true, flow, || format!("{} (retransmission)", start_line(&data)));
        if !late.is_repetition {
            self.send_bye_without_leg(dialog);
        }
    }

    /// Returns the dialog that a 2xx to an INVITE or re-INVITE makes, and the credentials for its ACK. Returns `None` if
    /// the 2xx needs no ACK of the caller: the 2xx is a retransmission, and its ACK was sent again here, or too many
    /// forks have answered.
    pub(super) fn answered_dialog(&mut self, id: ClientId, response: &Response) -> Option<(Dialog, String)> {
        if self.transactions.acknowledge_again(self.core, id, response) {
            return None;
        }
        let client = self.transactions.client(id).filter(|client| client.acknowledged() < MAX_FORKS)?;
        let acknowledge = client.acknowledge.as_ref()?;
        let fallback = Uri::parse(&acknowledge.uri)?;
        Some((Dialog::from_response(response, &fallback, client.flow), acknowledge.authorization.clone()))
    }

    /// Acknowledges a 2xx to an INVITE or re-INVITE whose leg has ended. Returns the dialog of the 2xx, if the 2xx needs
    /// this ACK ([`Context::answered_dialog`]).
    pub(super) fn acknowledge_without_leg(&mut self, id: ClientId, response: &Response) -> Option<Dialog> {
        let (dialog, lines) = self.answered_dialog(id, response)?;
        let again = InDialogRequest { lines, ..InDialogRequest::default() };
        self.acknowledge_answer(id, None, &dialog, response.cseq, &again);
        Some(dialog)
    }

    /// Sends the ACK of a 2xx. This ACK is a separate request and uses the route set of the dialog (RFC 3261
    /// §13.2.2.4).
    pub(super) fn acknowledge_answer(
        &mut self,
        id: ClientId,
        leg: Option<LegSlot>,
        dialog: &Dialog,
        cseq: u32,
        again: &InDialogRequest,
    ) {
        let Some(branch) = self.transactions.client(id).map(|client| client.branch) else { return };
        let ack = self.compose_ack(branch, dialog, cseq, again);
        self.transactions.acknowledge_answer(self.core, id, leg, &dialog.remote_tag, ack, again.is_empty());
    }

    /// Hangs up a dialog without a leg. The dialog belongs to a second fork, or to an earlier process.
    pub(super) fn send_bye_without_leg(&mut self, mut dialog: Dialog) {
        dialog.local_cseq = dialog.local_cseq.wrapping_add(1);
        let branch = self.core.random_u128();
        let hop = self.next_hop_in(&dialog);
        let (cseq, bare) = (dialog.local_cseq, InDialogRequest::default());
        let data = self.compose_in_dialog(&dialog, &hop, branch, "BYE", cseq, &bare, "");
        let new = NewClient { method: Method::Bye, branch, flow: hop.flow, data, leg: None, purpose: Purpose::Bye };
        self.transactions.start_client(self.core, self.now, new);
    }

    /// Composes the ACK of a 2xx. `branch` is the branch of the INVITE. Every retransmission of the 2xx gets the same
    /// ACK.
    pub(super) fn compose_ack(
        &self,
        branch: u128,
        dialog: &Dialog,
        cseq: u32,
        again: &InDialogRequest,
    ) -> (Flow, Bytes) {
        let branch = self.core.key_of((branch, &dialog.remote_tag)).0;
        let hop = self.next_hop_in(dialog);
        (hop.flow, self.compose_in_dialog(dialog, &hop, branch, "ACK", cseq, again, &again.lines))
    }

    /// Returns the target, the routes and the flow of the next request in a dialog.
    fn next_hop_in(&self, dialog: &Dialog) -> NextHop {
        // Only the flows of phones and guests are pinned. The flow to the phone of another node leads to this node.
        let leads_to_phone = dialog.flow.pinned || self.core.is_node(dialog.flow.peer.ip());
        let phone = leads_to_phone.then(|| self.phones.phone_of_gruu(self.now, &dialog.target)).flatten();
        let contact = phone.as_ref().map_or(&dialog.target, |(contact, _)| contact);
        let (uri, routes) = dialog.request_uri_and_routes(contact);
        let flow = match self.newest_flow(dialog, phone.map(|(_, flow)| flow)) {
            Some(flow) => flow,
            None => {
                let targets = Targets { core: self.core, trunks: self.trunks };
                dialog.next_flow(|peer, to, transport| targets.follows(peer, to, transport))
            }
        };
        NextHop { flow, uri, routes }
    }

    /// Returns the flow over which the browser of a dialog has registered last. `named` is the flow of the phone that the
    /// target names, if the target is a GRUU. A browser may have lost its connection during the call. Only the browser can
    /// open another one, and it registers over the new connection (RFC 5626 §5.3).
    fn newest_flow(&self, dialog: &Dialog, named: Option<Flow>) -> Option<Flow> {
        let is_browser = dialog.flow.pinned && dialog.flow.transport.is_websocket();
        let newest = || named.or_else(|| self.phones.flow_of_contact(self.now, &dialog.remote, &dialog.target));
        let flow = is_browser.then(newest).flatten().filter(|flow| flow.transport.is_websocket())?;
        Some(Flow { pinned: true, secure: dialog.flow.secure, ..flow })
    }

    /// Returns the flow over which the browser of a dialog has registered last.
    pub(super) fn newest_flow_of(&self, dialog: &Dialog) -> Option<Flow> {
        let phone = self.phones.phone_of_gruu(self.now, &dialog.target);
        self.newest_flow(dialog, phone.map(|(_, flow)| flow))
    }

    #[expect(clippy::too_many_arguments, reason = "one message's parts, named at every call")]
    fn compose_in_dialog(
        &self,
        dialog: &Dialog,
        hop: &NextHop,
        branch: u128,
        method: &str,
        cseq: u32,
        again: &InDialogRequest,
        lines: &str,
    ) -> Bytes {
        let refreshes = matches!(method, "INVITE" | "UPDATE" | "REFER" | "NOTIFY");
        let contact = refreshes.then(|| self.core.contact(hop.flow));
        compose::request(&RequestParts {
            method,
            uri: &hop.uri,
            via_transport: Some(hop.flow.transport),
            sent_by: self.core.sent_by(hop.flow),
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
            user_agent: &self.core.config.user_agent,
            refer: again.refer,
            ..RequestParts::default()
        })
    }
}

impl Dialogs {
    /// Sends the request to the next target of this request (RFC 3263 §4.3). Returns `false` if no target is left, or
    /// if the call was hung up.
    pub(super) fn try_next_target(&mut self, cx: &mut Context<'_>, id: ClientId) -> bool {
        let leg = cx.transactions.client(id).and_then(|client| client.leg);
        let mut has_alternatives = false;
        if let Some(State::Calling(calling)) = leg.and_then(|leg| self.legs.get(leg)).map(|leg| &leg.state) {
            if calling.client != id || calling.is_hung_up() {
                return false;
            }
            has_alternatives = calling.outgoing.has_alternatives;
        }
        let Some((next, flow)) = cx.transactions.send_to_next_target(cx.core, cx.now, id, has_alternatives) else {
            return false;
        };
        if let Some(leg) = leg.and_then(|leg| self.legs.get_mut(leg))
            && let State::Calling(calling) = &mut leg.state
        {
            calling.client = next;
            calling.provisional = false;
            leg.dialog.flow = flow;
        }
        true
    }

    /// Handles the failure of a request that got no response. Does nothing if the request belongs to no leg.
    pub(super) fn handle_failure(&mut self, cx: &mut Context<'_>, id: ClientId, cause: EndCause) {
        let Some(client) = cx.transactions.client(id) else { return };
        if let (purpose, Some(slot)) = (client.purpose, client.leg) {
            self.with(cx, slot, |leg| leg.handle_failure(id, purpose, cause));
        }
    }
}

impl LegCx<'_, '_> {
    /// Reports to the leg's trunk whether the INVITE of the leg was answered.
    pub(super) fn report_invite_outcome(&mut self, answered: bool) {
        self.cx.trunks.report_invite_outcome(self.cx.core, self.cx.now, self.leg.trunk, answered);
    }

    /// Handles the final response to a request in the dialog. `status` is 408 if no response came.
    pub(super) fn answered_in_dialog(&mut self, purpose: Purpose, status: u16, response: Option<&Response>) {
        match purpose {
            Purpose::Refresh => self.refresh_answered(status, response),
            Purpose::Refer => self.refer_answered(status, response),
            Purpose::Notify => self.notify_answered(status),
            Purpose::Update => self.update_answered(status, response),
            Purpose::Invite
            | Purpose::Reinvite
            | Purpose::Cancel
            | Purpose::Bye
            | Purpose::Info
            | Purpose::Prack
            | Purpose::OutOfDialog(_) => {}
        }
    }

    pub(super) fn finish_ending(&mut self) {
        let end = self.take_end();
        self.finish(end);
    }

    /// Handles the failure of a request that got no response.
    pub(super) fn handle_failure(&mut self, id: ClientId, purpose: Purpose, cause: EndCause) {
        let leg = &mut *self.leg;
        let key = leg.key;
        match purpose {
            Purpose::Invite => {
                let State::Calling(calling) = &leg.state else { return };
                if calling.client != id {
                    return;
                }
                let hung_up = calling.is_hung_up();
                let cause = if hung_up { EndCause::LocalHangup } else { cause };
                if !hung_up {
                    self.report_invite_outcome(false);
                }
                self.finish(End::of(cause, None));
            }
            Purpose::Bye => self.finish_ending(),
            Purpose::Reinvite => {
                leg.offer.take_sent();
                if matches!(leg.state, State::Established) && !leg.is_reported() {
                    self.cx.core.event(Event::OfferRejected { leg: key, status: 408 });
                    // RFC 3261 §14.1: a missing response counts as a 408, and a 408 ends the dialog.
                    self.send_bye(ByeHeaders::default(), End::of(cause, None));
                }
            }
            Purpose::Cancel | Purpose::OutOfDialog(_) => {}
            purpose => self.answered_in_dialog(purpose, 408, None),
        }
    }

    /// Sends BYE. The leg is removed when the response to the BYE arrives. The end of the leg is reported when the leg
    /// is removed. If the response has not come after 4*T1, the end is reported then.
    pub(super) fn send_bye(&mut self, bye_headers: ByeHeaders, end: End) {
        let report_by = self.cx.now + self.cx.core.config.timers.t1 * 4;
        self.abandon_offer();
        while let Some(carrier) = self.leg.offer.take_received() {
            match carrier {
                Carrier::Response(server) => {
                    self.cx.respond(server, compose::ResponseParts { status: 487, ..Default::default() });
                }
                carrier => self.send_answer(carrier, None),
            }
        }
        self.send_last_notify();
        let leg = &mut *self.leg;
        leg.state = State::Ending(Box::new(end));
        leg.awaiting_ack = None;
        leg.report_end_by(report_by);
        let ByeHeaders { lines, headers } = bye_headers;
        self.send_in_dialog(
            Method::Bye,
            Purpose::Bye,
            InDialogRequest { lines, headers, ..InDialogRequest::default() },
        );
        self.arm_leg();
    }

    pub(super) fn send_in_dialog(&mut self, method: Method, purpose: Purpose, again: InDialogRequest) {
        self.send_in(None, method, purpose, again);
    }

    /// Sends a request in the leg's dialog, or in one of its early dialogs. All dialogs of a leg share one sequence of
    /// CSeq numbers.
    pub(super) fn send_in(
        &mut self,
        early: Option<&Dialog>,
        method: Method,
        purpose: Purpose,
        mut again: InDialogRequest,
    ) {
        let branch = self.cx.core.random_u128();
        let hop = self.cx.next_hop_in(early.unwrap_or(&self.leg.dialog));
        let leg = &mut *self.leg;
        leg.dialog.local_cseq = leg.dialog.local_cseq.wrapping_add(1);
        let cseq = leg.dialog.local_cseq;
        again.refer = leg.extensions.may_refer;
        again.records = leg.extensions.records;
        let authorization = match leg.session.as_mut().filter(|session| session.trusts(hop.flow.peer.ip())) {
            Some(session) => {
                let body = again.body.as_ref().map(|(_, body)| body.as_ref()).unwrap_or_default();
                session.lines(method.as_str(), &String::from_utf8_lossy(&hop.uri), body, &mut self.cx.core.rng)
            }
            None => String::new(),
        };
        let authenticates = leg.session.is_some();
        let lines = [&*authorization, &*again.lines].concat();
        let dialog = early.unwrap_or(&leg.dialog);
        let data = self.cx.compose_in_dialog(dialog, &hop, branch, method.as_str(), cseq, &again, &lines);
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
        let new = NewClient { method, branch, flow, data, leg: Some(self.slot), purpose };
        let client = self.cx.transactions.start_client(self.cx.core, self.cx.now, new);
        if matches!(purpose, Purpose::Reinvite | Purpose::Update)
            && let OfferState::Sent { client: open, .. } = &mut self.leg.offer
        {
            *open = Some(client);
        }
        if let Some(client) = self.cx.transactions.client_mut(client) {
            client.again = authenticates.then(|| Box::new(again));
            client.acknowledge = acknowledge;
        }
    }

    /// Sends the request again with credentials (RFC 3261 §22.2). Returns `false` if this is not possible. In this case
    /// the response is final.
    pub(super) fn repeat_with_credentials(&mut self, client: ClientId, response: &Response) -> bool {
        if !matches!(response.status, 401 | 407) {
            return false;
        }
        let Some(client) = self.cx.transactions.client_mut(client) else { return false };
        let (method, purpose, asker) = (client.method.clone(), client.purpose, client.flow.peer.ip());
        let Some(mut again) = client.again.take() else { return false };
        let Some(session) = &mut self.leg.session else { return false };
        if !session.trusts(asker) || !session.learn(digest::challenges(response), &mut again.attempts) {
            return false;
        }
        self.send_in_dialog(method, purpose, *again);
        true
    }
}
