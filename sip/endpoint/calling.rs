//! INVITEs of new outgoing calls. The module sends and cancels the INVITE. It also handles and acknowledges the
//! responses to the INVITE.

use super::leg_cx::LegCx;
use super::offer::Carrier;
use super::session_timer;
use super::state::{CallingHangup, End, State};
use super::transactions::client::{Acknowledge, InDialogRequest, NewClient, Purpose};
use crate::compose::{self, RequestParts};
use crate::dialog::Dialog;
use crate::digest;
use crate::keys::ClientId;
use crate::leg::{EndCause, Event};
use crate::message::{Method, Response};
use crate::recording;

impl LegCx<'_, '_> {
    /// Handles a response to the INVITE of this leg.
    pub(super) fn deliver_to_invite(&mut self, client: ClientId, response: &Response) {
        if (200..300).contains(&response.status) {
            return self.invite_answered(client, response);
        }
        let Some(flow) = self.cx.transactions.client(client).map(|client| client.flow) else { return };
        let leg = &mut *self.leg;
        let key = leg.key;
        let State::Calling(calling) = &mut leg.state else { return };
        if response.status < 200 {
            calling.provisional = true;
            let cancelled = calling.is_hung_up();
            let offered = !calling.outgoing.sdp.is_empty();
            if response.status > 100 && !self.acknowledge_provisional(client, response) {
                return;
            }
            if cancelled {
                // The call was hung up when the INVITE had no response yet. This response shows that the far end
                // responds.
                self.report_invite_outcome(true);
                self.send_cancel();
            } else if response.status > 100 && !self.leg.is_reported() {
                self.cx.core.event(Event::Provisional {
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
            self.finish(end);
            return;
        }
        if matches!(response.status, 401 | 407)
            && let Some(session) = leg.session.as_mut().filter(|session| session.trusts(flow.peer.ip()))
            && session.learn(digest::challenges(response), &mut calling.attempts)
        {
            return self.send_invite_again();
        }
        // RFC 4028 §7.3: the INVITE is sent again, with the Min-SE from the 422.
        if let Some(least) = session_timer::min_se_of(response)
            && calling.min_se < least
        {
            calling.min_se = least;
            return self.send_invite_again();
        }
        if matches!(response.status, 488 | 606) && !calling.outgoing.second_offer.is_empty() {
            calling.outgoing.sdp = std::mem::take(&mut calling.outgoing.second_offer);
            return self.send_invite_again();
        }
        self.report_invite_outcome(response.status != 503);
        self.finish(refusal(response));
    }

    /// Handles a 2xx to the initial INVITE. The first 2xx makes the dialog. For a retransmission of this 2xx, the same
    /// ACK is sent again. A 2xx of another fork gets an ACK and then a BYE (RFC 3261 §13.2.2.4).
    fn invite_answered(&mut self, client: ClientId, response: &Response) {
        if self.is_ack_due(client, response) {
            return;
        }
        let first = self.cx.transactions.client(client).is_some_and(|client| client.acknowledged() == 0);
        let Some((mut dialog, authorization)) = self.cx.answered_dialog(client, response) else { return };
        let offer = response.content.sdp().filter(|_| first && self.expects_offer(&dialog.remote_tag));
        let again = InDialogRequest { lines: authorization, ..InDialogRequest::default() };
        if offer.is_none() {
            self.cx.acknowledge_answer(client, Some(self.slot), &dialog, response.cseq, &again);
        }
        let leg = &mut *self.leg;
        let (key, reported) = (leg.key, leg.is_reported());
        let State::Calling(calling) = &mut leg.state else { return self.cx.send_bye_without_leg(dialog) };
        if !first {
            return self.cx.send_bye_without_leg(dialog);
        }
        let early = calling.early.iter().find(|early| early.dialog.remote_tag == dialog.remote_tag);
        dialog.remote_cseq = early.and_then(|early| early.dialog.remote_cseq);
        let (mut sdp, mut offer_again) = (None, None);
        if calling.outgoing.sdp.is_empty() {
            // Two far ends ring, and this server answers both offers in PRACKs. Then the far end that sent the first
            // offer answers the call. So its offer is reported again.
            let last = &calling.last_offer_from;
            let is_other = !last.is_empty() && *last != dialog.remote_tag;
            offer_again = early.filter(|early| early.settled && is_other).and_then(|early| early.answer.clone());
        } else {
            // Several phones may have rung and sent an SDP answer. Only the answer of the phone that sent the 200 is
            // valid.
            sdp = response.content.sdp().or_else(|| early?.answer.clone());
        }
        let hangup = calling.take_hangup();
        leg.dialog = Dialog { local_cseq: leg.dialog.local_cseq, ..dialog };
        leg.state = State::Established;
        self.report_invite_outcome(true);
        self.learn_session(response);
        if let Some(bye_headers) = hangup {
            return self.send_bye(bye_headers, End::of(EndCause::LocalHangup, None));
        }
        if reported {
            return;
        }
        let tag = response.to.tag.clone().unwrap_or_default();
        if let Some(offer) = offer {
            let (cseq, authorization) = (response.cseq, again.lines);
            self.report_delayed_offer(offer, Carrier::Ack { tag, client, cseq, authorization });
        } else if let Some(offer) = offer_again {
            self.report_delayed_offer(offer, Carrier::None { tag });
        }
        let headers = response.content.application_headers();
        let dialog = Some(Box::new(self.leg.dialog.state()));
        self.cx.core.event(Event::Answered { leg: key, sdp, headers, dialog });
    }

    /// Sends the INVITE again after the far end refused it. The new INVITE has the changes that the refusal requires
    /// (RFC 3261 §8.1.3.5).
    fn send_invite_again(&mut self) {
        let leg = &mut *self.leg;
        if let State::Calling(calling) = &mut leg.state {
            calling.early.clear();
        }
        leg.dialog.local_cseq = leg.dialog.local_cseq.wrapping_add(1);
        self.send_invite();
    }

    /// Sends the INVITE of a leg in the state `Calling`. The method is also used to send the INVITE again with
    /// credentials.
    pub(super) fn send_invite(&mut self) {
        let branch = self.cx.core.random_u128();
        let leg = &mut *self.leg;
        let State::Calling(calling) = &mut leg.state else { return };
        let flow = leg.dialog.flow;
        let (uri, routes) = leg.dialog.request_uri_and_routes(&leg.dialog.target);
        let recording = calling.outgoing.recording.as_ref();
        let (content_type, body) = recording::body(&calling.outgoing.sdp, recording, branch);
        let authorization = match leg.session.as_mut().filter(|session| session.trusts(flow.peer.ip())) {
            Some(session) => session.lines("INVITE", &String::from_utf8_lossy(&uri), &body, &mut self.cx.core.rng),
            None => String::new(),
        };
        let (prack, min_se) = (calling.outgoing.prack, calling.min_se);
        let replaces = calling.outgoing.replaces.clone();
        let extras = self.cx.core.invite_lines(prack, min_se, replaces.as_deref());
        let features = leg.features();
        let State::Calling(calling) = &mut leg.state else { return };
        let required = if leg.extensions.records { recording::REQUIRE } else { "" };
        let lines = [&*authorization, required, &*extras].concat();
        let (contact, sent_by) = (self.cx.core.contact(flow), self.cx.core.sent_by(flow));
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
            user_agent: &self.cx.core.config.user_agent,
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
        (calling.provisional, calling.asked_at) = (false, self.cx.now);
        let before = calling.client;
        let hops = self.cx.transactions.take_alternatives(before);
        let (method, leg) = (Method::Invite, Some(self.slot));
        let new = NewClient { method, branch, flow, data, leg, purpose: Purpose::Invite };
        let client = self.cx.transactions.start_client(self.cx.core, self.cx.now, new);
        self.cx.transactions.add_alternatives(self.cx.core, self.cx.now, client, hops, false);
        if let Some(client) = self.cx.transactions.client_mut(client) {
            client.acknowledge = Some(Box::new(acknowledge));
        }
        calling.client = client;
    }

    /// Sends CANCEL (RFC 3261 §9.1). The CANCEL has the branch of the INVITE, so that the far end can match the two
    /// requests.
    pub(super) fn send_cancel(&mut self) {
        let give_up = self.cx.now + self.cx.core.config.timers.timeout();
        let leg = &mut *self.leg;
        let State::Calling(calling) = &mut leg.state else { return };
        let CallingHangup::Wanted(wanted) = &mut calling.hangup else { return };
        let bye_headers = wanted.clone();
        calling.hangup = CallingHangup::Cancelled { bye_headers: std::mem::take(wanted), give_up };
        let Some(client) = self.cx.transactions.client(calling.client) else { return };
        let (flow, branch) = (client.flow, client.branch);
        let Some(acknowledge) = &client.acknowledge else { return };
        let sent_by = self.cx.core.locals.get(flow.local).map(|local| local.sent_by.as_str()).unwrap_or_default();
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
            user_agent: &self.cx.core.config.user_agent,
            ..RequestParts::default()
        });
        let (method, leg) = (Method::Cancel, Some(self.slot));
        let new = NewClient { method, branch, flow, data, leg, purpose: Purpose::Cancel };
        self.cx.transactions.start_client(self.cx.core, self.cx.now, new);
        self.arm_leg();
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
                .map(|value| crate::header::Header { name: "Contact".to_owned(), value }),
        );
    }
    End {
        cause: EndCause::Rejected,
        status: Some(response.status),
        reason: response.content.value("Reason").or_else(|| Some(response.reason().into_owned())),
        headers,
    }
}
