//! INVITEs of new outgoing calls. The module sends and cancels the INVITE. It also handles and acknowledges the
//! responses to the INVITE.

use super::dialogs::{Context, Dialogs};
use super::offer::Carrier;
use super::session_timer;
use super::state::{CallingHangup, End, Leg, State};
use super::transactions::MAX_FORKS;
use super::transactions::client::{Acknowledge, InDialogRequest, NewClient, Purpose};
use crate::compose::{self, RequestParts};
use crate::dialog::Dialog;
use crate::digest;
use crate::keys::{ClientId, LegSlot};
use crate::leg::{EndCause, Event};
use crate::message::{Method, Response, Uri};
use crate::recording;

impl Dialogs {
    pub(super) fn deliver_to_invite(
        &mut self,
        cx: &mut Context<'_>,
        slot: ClientId,
        leg_slot: Option<LegSlot>,
        response: &Response,
    ) {
        if (200..300).contains(&response.status) {
            self.invite_answered(cx, slot, leg_slot, response);
            return;
        }
        let Some(leg_slot) = leg_slot else { return };
        let Some(flow) = cx.transactions.client(slot).map(|client| client.flow) else { return };
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let key = leg.key;
        let State::Calling(calling) = &mut leg.state else { return };
        if response.status < 200 {
            calling.provisional = true;
            let cancelled = calling.is_hung_up();
            let offered = !calling.outgoing.sdp.is_empty();
            if response.status > 100 && !self.acknowledge_provisional(cx, slot, leg_slot, response) {
                return;
            }
            if cancelled {
                // The call was hung up when the INVITE had no response yet. This response shows that the far end
                // responds.
                self.report_invite_outcome(cx, leg_slot, true);
                self.send_cancel(cx, leg_slot);
            } else if response.status > 100 && !self.legs.get(leg_slot).is_some_and(Leg::is_reported) {
                cx.core.event(Event::Provisional {
                    leg: key,
                    status: response.status,
                    reason: response.reason().into_owned(),
                    sdp: response.content.sdp().filter(|_| offered),
                    headers: response.content.application_headers(),
                });
            }
            return;
        }
        if calling.is_hung_up() {
            let end = End {
                reason: response.content.value("Reason"),
                ..End::of(EndCause::LocalHangup, Some(response.status))
            };
            self.finish(cx, leg_slot, end);
            return;
        }
        if matches!(response.status, 401 | 407)
            && let Some(session) = leg.session.as_mut().filter(|session| session.trusts(flow.peer.ip()))
            && session.learn(digest::challenges(response), &mut calling.attempts)
        {
            return self.send_invite_again(cx, leg_slot);
        }
        // RFC 4028 §7.3: the INVITE is sent again, with the Min-SE from the 422.
        if let Some(least) = session_timer::min_se_of(response)
            && calling.min_se < least
        {
            calling.min_se = least;
            return self.send_invite_again(cx, leg_slot);
        }
        if matches!(response.status, 488 | 606) && !calling.outgoing.second_offer.is_empty() {
            calling.outgoing.sdp = std::mem::take(&mut calling.outgoing.second_offer);
            return self.send_invite_again(cx, leg_slot);
        }
        self.report_invite_outcome(cx, leg_slot, response.status != 503);
        self.finish(cx, leg_slot, refusal(response));
    }

    /// Handles a 2xx to the initial INVITE. The first 2xx makes the dialog. For a retransmission of this 2xx, the same
    /// ACK is sent again. A 2xx of another fork gets an ACK and then a BYE (RFC 3261 §13.2.2.4).
    pub(super) fn invite_answered(
        &mut self,
        cx: &mut Context<'_>,
        slot: ClientId,
        leg_slot: Option<LegSlot>,
        response: &Response,
    ) {
        if cx.transactions.acknowledge_again(cx.core, slot, response) || self.is_ack_due(slot, leg_slot, response) {
            return;
        }
        let Some(client) = cx.transactions.client(slot) else { return };
        let first = client.acknowledged() == 0;
        let flow = client.flow;
        let authorization =
            client.acknowledge.as_ref().map(|acknowledge| acknowledge.authorization.clone()).unwrap_or_default();
        let Some(fallback) = client.acknowledge.as_ref().and_then(|acknowledge| Uri::parse(&acknowledge.uri)) else {
            return;
        };
        if client.acknowledged() >= MAX_FORKS {
            return;
        }
        let mut dialog = Dialog::from_response(response, &fallback, flow);
        let mut offer = response
            .content
            .sdp()
            .filter(|_| first && leg_slot.is_some_and(|leg| self.expects_offer(leg, &dialog.remote_tag)));
        let again = InDialogRequest { lines: authorization, ..InDialogRequest::default() };
        if offer.is_none() {
            self.acknowledge_answer(cx, slot, leg_slot, &dialog, response.cseq, &again);
        }
        let mut offer_again = None;
        let calling = leg_slot.and_then(|slot| self.legs.get_mut(slot)).and_then(|leg| match &mut leg.state {
            State::Calling(calling) if first => {
                let early = calling.early.iter().find(|early| early.dialog.remote_tag == dialog.remote_tag);
                dialog.remote_cseq = early.and_then(|early| early.dialog.remote_cseq);
                if calling.outgoing.sdp.is_empty() {
                    // Two far ends ring, and this server answers both offers in PRACKs. Then the far end that sent the
                    // first offer answers the call. So its offer is reported again.
                    let early =
                        early.filter(|early| early.settled && calling.last_offer_from != early.dialog.remote_tag);
                    offer_again =
                        early.filter(|_| !calling.last_offer_from.is_empty()).and_then(|early| early.answer.clone());
                    return Some((calling.take_hangup(), leg.is_reported(), None));
                }
                // Several phones may have rung and sent an SDP answer. Only the answer of the phone that sent the 200
                // is valid.
                let sdp = response.content.sdp().or_else(|| early?.answer.clone());
                Some((calling.take_hangup(), leg.is_reported(), sdp))
            }
            _ => None,
        });
        match (calling, leg_slot) {
            (Some((hangup, reported, sdp)), Some(leg_slot)) => {
                self.report_invite_outcome(cx, leg_slot, true);
                let Some(leg) = self.legs.get_mut(leg_slot) else { return };
                let key = leg.key;
                leg.dialog = Dialog { local_cseq: leg.dialog.local_cseq, ..dialog };
                leg.state = State::Established;
                self.learn_session(cx, leg_slot, response);
                if let Some(bye_headers) = hangup {
                    self.send_bye(cx, leg_slot, bye_headers, End::of(EndCause::LocalHangup, None));
                } else if !reported {
                    let tag = response.to.tag.clone().unwrap_or_default();
                    if let Some(offer) = offer.take() {
                        let (cseq, authorization) = (response.cseq, again.lines);
                        let carrier = Carrier::Ack { tag, client: slot, cseq, authorization };
                        self.report_delayed_offer(cx, leg_slot, offer, carrier);
                    } else if let Some(offer) = offer_again {
                        self.report_delayed_offer(cx, leg_slot, offer, Carrier::None { tag });
                    }
                    let headers = response.content.application_headers();
                    let dialog = self.legs.get(leg_slot).map(|leg| Box::new(leg.dialog.state()));
                    cx.core.event(Event::Answered { leg: key, sdp, headers, dialog });
                }
            }
            _ => self.send_bye_without_leg(cx, dialog),
        }
    }

    /// Sends the INVITE again after the far end refused it. The new INVITE has the changes that the refusal requires
    /// (RFC 3261 §8.1.3.5).
    fn send_invite_again(&mut self, cx: &mut Context<'_>, leg_slot: LegSlot) {
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        if let State::Calling(calling) = &mut leg.state {
            calling.early.clear();
        }
        leg.dialog.local_cseq = leg.dialog.local_cseq.wrapping_add(1);
        self.send_invite(cx, leg_slot);
    }

    /// Sends the INVITE of a leg in the state `Calling`. The method is also used to send the INVITE again with
    /// credentials.
    pub(super) fn send_invite(&mut self, cx: &mut Context<'_>, leg_slot: LegSlot) {
        let branch = cx.core.random_u128();
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let State::Calling(calling) = &mut leg.state else { return };
        let flow = leg.dialog.flow;
        let (uri, routes) = leg.dialog.request_uri_and_routes(&leg.dialog.target);
        let recording = calling.outgoing.recording.as_ref();
        let (content_type, body) = recording::body(&calling.outgoing.sdp, recording, branch);
        let authorization = match leg.session.as_mut().filter(|session| session.trusts(flow.peer.ip())) {
            Some(session) => session.lines("INVITE", &String::from_utf8_lossy(&uri), &body, &mut cx.core.rng),
            None => String::new(),
        };
        let (prack, min_se) = (calling.outgoing.prack, calling.min_se);
        let replaces = calling.outgoing.replaces.clone();
        let extras = cx.core.invite_lines(prack, min_se, replaces.as_deref());
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let features = leg.features();
        let State::Calling(calling) = &mut leg.state else { return };
        let required = if leg.extensions.records { recording::REQUIRE } else { "" };
        let lines = [&*authorization, required, &*extras].concat();
        let (contact, sent_by) = (cx.core.contact(flow), cx.core.sent_by(flow));
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
            contact: Some(&contact),
            features,
            max_forwards: Some(leg.extensions.origin.hops),
            lines: &lines,
            headers: &calling.outgoing.headers,
            body: Some((&content_type, &body)),
            user_agent: &cx.core.config.user_agent,
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
        (calling.provisional, calling.asked_at) = (false, cx.now);
        let before = calling.client;
        let hops = cx.transactions.take_alternatives(before);
        let (method, leg) = (Method::Invite, Some(leg_slot));
        let new = NewClient { method, branch, flow, data, leg, purpose: Purpose::Invite };
        let client = cx.transactions.start_client(cx.core, cx.now, new);
        cx.transactions.add_alternatives(cx.core, cx.now, client, hops, false);
        if let Some(client) = cx.transactions.client_mut(client) {
            client.acknowledge = Some(Box::new(acknowledge));
        }
        if let Some(Leg { state: State::Calling(calling), .. }) = self.legs.get_mut(leg_slot) {
            calling.client = client;
        }
    }

    /// Sends CANCEL (RFC 3261 §9.1). The CANCEL has the branch of the INVITE, so that the far end can match the two
    /// requests.
    pub(super) fn send_cancel(&mut self, cx: &mut Context<'_>, leg_slot: LegSlot) {
        let give_up = cx.now + cx.core.config.timers.timeout();
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let State::Calling(calling) = &mut leg.state else { return };
        let CallingHangup::Wanted(wanted) = &mut calling.hangup else { return };
        let bye_headers = wanted.clone();
        calling.hangup = CallingHangup::Cancelled { bye_headers: std::mem::take(wanted), give_up };
        let Some(client) = cx.transactions.client(calling.client) else { return };
        let (flow, branch) = (client.flow, client.branch);
        let Some(acknowledge) = &client.acknowledge else { return };
        let sent_by = cx.core.locals.get(flow.local).map(|local| local.sent_by.as_str()).unwrap_or_default();
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
            lines: &bye_headers.lines,
            headers: &bye_headers.headers,
            user_agent: &cx.core.config.user_agent,
            ..RequestParts::default()
        });
        let (method, leg) = (Method::Cancel, Some(leg_slot));
        let new = NewClient { method, branch, flow, data, leg, purpose: Purpose::Cancel };
        cx.transactions.start_client(cx.core, cx.now, new);
        self.arm_leg(cx, leg_slot);
    }
}

pub(super) fn refusal(response: &Response) -> End {
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
        reason: response.content.value("Reason").or_else(|| Some(response.reason().into_owned())),
        headers,
    }
}
