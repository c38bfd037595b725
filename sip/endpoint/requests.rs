//! Requests of this server in dialogs. The module composes and sends them, and changes the leg when responses come.

use bytes::Bytes;

use super::dialogs::{Context, Dialogs};
use super::offer::{Carrier, OfferState};
use super::state::{ByeHeaders, End, State};
use super::targets::Targets;
use super::transactions::client::{Acknowledge, InDialogRequest, NewClient, Purpose, start_line};
use crate::compose::{self, RequestParts};
use crate::dialog::{Dialog, Flow, NextHop};
use crate::digest;
use crate::keys::{ClientId, LegSlot};
use crate::leg::{EndCause, Event};
use crate::message::{Method, Response};

impl Dialogs {
    /// Handles a further response to an INVITE that already got a 2xx (RFC 3261 §13.2.2.4). If the response is a
    /// retransmission of this 2xx, the same ACK is sent again. A 2xx of another fork gets an ACK and then a BYE.
    pub(super) fn handle_late_response(&mut self, cx: &mut Context<'_>, branch: u128, response: &Response) {
        let Some(late) = cx.transactions.handle_late_response(cx.core, branch, response) else { return };
        let Some(target) = response.content.contact() else { return };
        let dialog = Dialog::from_response(response, &target, late.flow);
        let (flow, data) = self.compose_ack(cx, branch, &dialog, response.cseq, &InDialogRequest::default());
        cx.core.transmit(flow, data.clone());
        cx.core.trace(late.leg, true, flow, || format!("{} (retransmission)", start_line(&data)));
        if !late.is_repetition {
            self.send_bye_without_leg(cx, dialog);
        }
    }

    /// Reports to the leg's trunk whether the INVITE of the leg was answered.
    pub(super) fn report_invite_outcome(&mut self, cx: &mut Context<'_>, leg: LegSlot, answered: bool) {
        let trunk = self.legs.get(leg).and_then(|leg| leg.trunk);
        cx.trunks.report_invite_outcome(cx.core, cx.now, trunk, answered);
    }

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

    /// Sends the ACK of a 2xx. This ACK is a separate request and uses the route set of the dialog (RFC 3261
    /// §13.2.2.4).
    pub(super) fn acknowledge_answer(
        &mut self,
        cx: &mut Context<'_>,
        id: ClientId,
        leg: Option<LegSlot>,
        dialog: &Dialog,
        cseq: u32,
        again: &InDialogRequest,
    ) {
        let Some(branch) = cx.transactions.client(id).map(|client| client.branch) else { return };
        let ack = self.compose_ack(cx, branch, dialog, cseq, again);
        cx.transactions.acknowledge_answer(cx.core, id, leg, &dialog.remote_tag, ack, again.is_empty());
    }

    /// Handles the final response to a request in the dialog. `status` is 408 if no response came.
    pub(super) fn answered_in_dialog(
        &mut self,
        cx: &mut Context<'_>,
        leg: LegSlot,
        purpose: Purpose,
        status: u16,
        response: Option<&Response>,
    ) {
        match purpose {
            Purpose::Refresh => self.refresh_answered(cx, leg, status, response),
            Purpose::Refer => self.refer_answered(cx, leg, status, response),
            Purpose::Notify => self.notify_answered(cx, leg, status),
            Purpose::Update => self.update_answered(cx, leg, status, response),
            Purpose::Invite
            | Purpose::Reinvite
            | Purpose::Cancel
            | Purpose::Bye
            | Purpose::Info
            | Purpose::Prack
            | Purpose::OutOfDialog(_) => {}
        }
    }

    pub(super) fn finish_ending(&mut self, cx: &mut Context<'_>, leg: LegSlot) {
        let end = match self.legs.get_mut(leg).map(|leg| &mut leg.state) {
            Some(State::Ending(end)) => std::mem::replace(&mut **end, End::of(EndCause::LocalHangup, None)),
            _ => End::of(EndCause::LocalHangup, None),
        };
        self.finish(cx, leg, end);
    }

    /// Handles the failure of a request that got no response. Does nothing if the request belongs to no leg.
    pub(super) fn handle_failure(&mut self, cx: &mut Context<'_>, slot: ClientId, cause: EndCause) {
        let Some(client) = cx.transactions.client(slot) else { return };
        let purpose = client.purpose;
        let Some(leg_slot) = client.leg else { return };
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let key = leg.key;
        match purpose {
            Purpose::Invite => {
                let State::Calling(calling) = &leg.state else { return };
                if calling.client != slot {
                    return;
                }
                let hung_up = calling.is_hung_up();
                let cause = if hung_up { EndCause::LocalHangup } else { cause };
                if !hung_up {
                    self.report_invite_outcome(cx, leg_slot, false);
                }
                self.finish(cx, leg_slot, End::of(cause, None));
            }
            Purpose::Bye => self.finish_ending(cx, leg_slot),
            Purpose::Reinvite => {
                leg.offer.take_sent();
                if matches!(leg.state, State::Established) && !leg.is_reported() {
                    cx.core.event(Event::OfferRejected { leg: key, status: 408 });
                    // RFC 3261 §14.1: a missing response counts as a 408, and a 408 ends the dialog.
                    self.send_bye(cx, leg_slot, ByeHeaders::default(), End::of(cause, None));
                }
            }
            Purpose::Cancel | Purpose::OutOfDialog(_) => {}
            purpose => self.answered_in_dialog(cx, leg_slot, purpose, 408, None),
        }
    }

    /// Sends BYE. The leg is removed when the response to the BYE arrives. The end of the leg is reported when the leg
    /// is removed. If the response has not come after 4*T1, the end is reported then.
    pub(super) fn send_bye(&mut self, cx: &mut Context<'_>, slot: LegSlot, bye_headers: ByeHeaders, end: End) {
        let report_by = cx.now + cx.core.config.timers.t1 * 4;
        self.abandon_offer(cx, slot);
        while let Some(carrier) = self.legs.get_mut(slot).and_then(|leg| leg.offer.take_received()) {
            match carrier {
                Carrier::Response(server) => {
                    cx.respond(server, compose::ResponseParts { status: 487, ..Default::default() });
                }
                carrier => self.send_answer(cx, slot, carrier, None),
            }
        }
        self.send_last_notify(cx, slot);
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.state = State::Ending(Box::new(end));
        leg.awaiting_ack = None;
        leg.report_end_by(report_by);
        let ByeHeaders { lines, headers } = bye_headers;
        self.send_in_dialog(
            cx,
            slot,
            Method::Bye,
            Purpose::Bye,
            InDialogRequest { lines, headers, ..InDialogRequest::default() },
        );
        self.arm_leg(cx, slot);
    }

    /// Hangs up a dialog without a leg. The dialog belongs to a second fork, or to an earlier process.
    pub(super) fn send_bye_without_leg(&mut self, cx: &mut Context<'_>, mut dialog: Dialog) {
        dialog.local_cseq = dialog.local_cseq.wrapping_add(1);
        let branch = cx.core.random_u128();
        let hop = self.next_hop_in(cx, &dialog);
        let data = self.compose_in_dialog(
            cx,
            &dialog,
            &hop,
            branch,
            "BYE",
            dialog.local_cseq,
            &InDialogRequest::default(),
            "",
        );
        let new = NewClient { method: Method::Bye, branch, flow: hop.flow, data, leg: None, purpose: Purpose::Bye };
        cx.transactions.start_client(cx.core, cx.now, new);
    }

    pub(super) fn send_in_dialog(
        &mut self,
        cx: &mut Context<'_>,
        slot: LegSlot,
        method: Method,
        purpose: Purpose,
        again: InDialogRequest,
    ) {
        self.send_in(cx, slot, None, method, purpose, again);
    }

    /// Sends a request in the leg's dialog, or in one of its early dialogs. All dialogs of a leg share one sequence of
    /// CSeq numbers.
    pub(super) fn send_in(
        &mut self,
        cx: &mut Context<'_>,
        slot: LegSlot,
        early: Option<&Dialog>,
        method: Method,
        purpose: Purpose,
        mut again: InDialogRequest,
    ) {
        let branch = cx.core.random_u128();
        let Some(leg) = self.legs.get(slot) else { return };
        let hop = self.next_hop_in(cx, early.unwrap_or(&leg.dialog));
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.dialog.local_cseq = leg.dialog.local_cseq.wrapping_add(1);
        let cseq = leg.dialog.local_cseq;
        again.refer = leg.extensions.may_refer;
        again.records = leg.extensions.records;
        let authorization = match leg.session.as_mut().filter(|session| session.trusts(hop.flow.peer.ip())) {
            Some(session) => {
                let body = again.body.as_ref().map(|(_, body)| body.as_ref()).unwrap_or_default();
                session.lines(method.as_str(), &String::from_utf8_lossy(&hop.uri), body, &mut cx.core.rng)
            }
            None => String::new(),
        };
        let authenticates = leg.session.is_some();
        let lines = [&*authorization, &*again.lines].concat();
        let Some(leg) = self.legs.get(slot) else { return };
        let dialog = early.unwrap_or(&leg.dialog);
        let data = self.compose_in_dialog(cx, dialog, &hop, branch, method.as_str(), cseq, &again, &lines);
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
        let new = NewClient { method, branch, flow, data, leg: Some(slot), purpose };
        let client = cx.transactions.start_client(cx.core, cx.now, new);
        if matches!(purpose, Purpose::Reinvite | Purpose::Update)
            && let Some(OfferState::Sent { client: open, .. }) = self.legs.get_mut(slot).map(|leg| &mut leg.offer)
        {
            *open = Some(client);
        }
        if let Some(client) = cx.transactions.client_mut(client) {
            client.again = authenticates.then(|| Box::new(again));
            client.acknowledge = acknowledge;
        }
    }

    /// Sends the request again with credentials (RFC 3261 §22.2). Returns `false` if this is not possible. In this case
    /// the response is final.
    pub(super) fn repeat_with_credentials(
        &mut self,
        cx: &mut Context<'_>,
        slot: ClientId,
        leg_slot: LegSlot,
        response: &Response,
    ) -> bool {
        if !matches!(response.status, 401 | 407) {
            return false;
        }
        let Some(client) = cx.transactions.client_mut(slot) else { return false };
        let (method, purpose, asker) = (client.method.clone(), client.purpose, client.flow.peer.ip());
        let Some(mut again) = client.again.take() else { return false };
        let Some(session) = self.legs.get_mut(leg_slot).and_then(|leg| leg.session.as_mut()) else { return false };
        if !session.trusts(asker) || !session.learn(digest::challenges(response), &mut again.attempts) {
            return false;
        }
        self.send_in_dialog(cx, leg_slot, method, purpose, *again);
        true
    }

    /// Composes the ACK of a 2xx. `branch` is the branch of the INVITE. Every retransmission of the 2xx gets the same
    /// ACK.
    pub(super) fn compose_ack(
        &self,
        cx: &Context<'_>,
        branch: u128,
        dialog: &Dialog,
        cseq: u32,
        again: &InDialogRequest,
    ) -> (Flow, Bytes) {
        let branch = cx.core.key_of((branch, &dialog.remote_tag)).0;
        let hop = self.next_hop_in(cx, dialog);
        (hop.flow, self.compose_in_dialog(cx, dialog, &hop, branch, "ACK", cseq, again, &again.lines))
    }

    /// Returns the target, the routes and the flow of the next request in a dialog.
    fn next_hop_in(&self, cx: &Context<'_>, dialog: &Dialog) -> NextHop {
        // Only the flows of phones and guests are pinned.
        let contact = dialog.flow.pinned.then(|| cx.phones.contact_of_gruu(cx.now, &dialog.target)).flatten();
        let (uri, routes) = dialog.request_uri_and_routes(contact.as_ref().unwrap_or(&dialog.target));
        let targets = Targets { core: cx.core, trunks: cx.trunks };
        NextHop { flow: dialog.next_flow(|peer, to, transport| targets.follows(peer, to, transport)), uri, routes }
    }

    #[expect(clippy::too_many_arguments, reason = "one message's parts, named at every call")]
    fn compose_in_dialog(
        &self,
        cx: &Context<'_>,
        dialog: &Dialog,
        hop: &NextHop,
        branch: u128,
        method: &str,
        cseq: u32,
        again: &InDialogRequest,
        lines: &str,
    ) -> Bytes {
        let refreshes = matches!(method, "INVITE" | "UPDATE" | "REFER" | "NOTIFY");
        let contact = refreshes.then(|| cx.core.contact(hop.flow));
        compose::request(&RequestParts {
            method,
            uri: &hop.uri,
            via_transport: Some(hop.flow.transport),
            sent_by: cx.core.sent_by(hop.flow),
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
            user_agent: &cx.core.config.user_agent,
            refer: again.refer,
            ..RequestParts::default()
        })
    }
}
