//! Reliable provisional responses (RFC 3262), for the roles UAS and UAC. With these responses, requests in an early
//! dialog become possible (RFC 3311). The module handles such requests too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Arrival;
use super::incoming::options_lines;
use super::leg_cx::LegCx;
use super::offer::{Carrier, OfferRequest};
use super::retry::RetryReason;
use super::state::{End, State};
use super::transactions::client::{InDialogRequest, Purpose};
use super::transactions::server::{NewServer, response_line};
use super::transactions::{Key, MAX_FORKS};
use crate::compose::ResponseParts;
use crate::dialog::Dialog;
use crate::flow::Flow;
use crate::header::Header;
use crate::keys::{ClientId, ServerId};
use crate::leg::{EndCause, Event};
use crate::message::{Echo, Method, Request, Response};

/// Maximum number of provisional responses that wait until an earlier response is acknowledged by PRACK. If more
/// responses would wait, the oldest waiting response is dropped.
const MAX_WAITING: usize = 8;

/// The reliable provisional responses of a UAS.
#[derive(Debug, Default)]
pub(super) struct Reliable {
    /// RSeq of the last response. For each INVITE, the first RSeq is a random number below 2^31 (RFC 3262 §3).
    pub(super) last: u32,
    /// CSeq of the INVITE.
    pub(super) cseq: u32,
    pub(super) unacknowledged: Option<Unacknowledged>,
    pub(super) waiting: VecDeque<(u16, Option<Bytes>, Vec<Header>)>,
    /// The SDP and the headers of the 200. The 200 is sent after a PRACK has come.
    pub(super) answer: Option<(Bytes, Vec<Header>)>,
}

#[derive(Debug)]
pub(super) struct Unacknowledged {
    pub(super) response: Bytes,
    pub(super) flow: Flow,
    pub(super) status: u16,
    pub(super) has_sdp: bool,
    pub(super) interval: Duration,
    pub(super) retransmit: Instant,
    pub(super) deadline: Instant,
}

/// An early dialog of an outgoing call. The far end sends reliable provisional responses in this dialog.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) dialog: Dialog,
    /// RSeq of the last response that was acknowledged.
    pub(super) last: u32,
    /// Whether the first offer and answer are complete in this early dialog.
    pub(super) settled: bool,
    /// The SDP of the provisional responses. The far end need not repeat this SDP in the 2xx.
    pub(super) answer: Option<Bytes>,
}

impl Reliable {
    pub(super) fn new(first: u32, cseq: u32) -> Self {
        Self { last: first, cseq, ..Self::default() }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.unacknowledged.as_ref().map(|response| response.retransmit.min(response.deadline))
    }
}

impl LegCx<'_, '_> {
    // ----- as UAS ------------------------------------------------------------------------------------------------

    /// Sends a reliable provisional response above 100. If an earlier response is not acknowledged yet, queues the
    /// response. Returns `false` if the leg does not send reliable provisional responses.
    pub(super) fn send_reliable(&mut self, status: u16, sdp: Option<&Bytes>, headers: &[Header]) -> bool {
        let leg = &mut *self.leg;
        let Some(reliable) = &mut leg.extensions.reliable else { return false };
        // RFC 3262 §3: the next response is sent when the previous response has been acknowledged. After the 200, no
        // further provisional response is sent.
        if reliable.unacknowledged.is_some() {
            if reliable.waiting.len() >= MAX_WAITING {
                reliable.waiting.pop_front();
            }
            reliable.waiting.push_back((status, sdp.cloned(), headers.to_vec()));
            return true;
        }
        let State::Ringing { server, .. } = leg.state else { return true };
        reliable.last += 1;
        let lines = format!("Require: 100rel\r\nRSeq: {}\r\n", reliable.last);
        let flow = leg.dialog.flow;
        let contact = self.cx.core.contact(flow);
        let body = sdp.map(|sdp| ("application/sdp", sdp.as_ref()));
        let contact = Some(contact.as_str());
        self.cx.respond(server, ResponseParts { status, contact, headers, body, lines: &lines, ..Default::default() });
        let sent = self.cx.transactions.server(server).and_then(|server| Some((server.response.clone()?, server.flow)));
        let t1 = self.cx.core.config.timers.t1;
        let deadline = self.cx.now + self.cx.core.config.timers.timeout();
        if let Some((response, flow)) = sent
            && let Some(reliable) = &mut self.leg.extensions.reliable
        {
            let (interval, retransmit, has_sdp) = (t1, self.cx.now + t1, sdp.is_some());
            reliable.unacknowledged =
                Some(Unacknowledged { response, flow, status, has_sdp, interval, retransmit, deadline });
        }
        self.repeat_provisional();
        true
    }

    /// Stores the 200 if a provisional response with SDP must be acknowledged first (RFC 3262 §3). The 200 is then sent
    /// after the PRACK. Returns `false` if the 200 can be sent now.
    pub(super) fn hold_answer_for_prack(&mut self, sdp: &Bytes, headers: &[Header]) -> bool {
        let Some(reliable) = &mut self.leg.extensions.reliable else { return false };
        reliable.waiting.clear();
        if reliable.unacknowledged.as_ref().is_some_and(|response| response.has_sdp) {
            reliable.answer = Some((sdp.clone(), headers.to_vec()));
            return true;
        }
        // After the final response, provisional responses are not retransmitted any more. The PRACK of such a response
        // may still come.
        reliable.unacknowledged = None;
        false
    }

    pub(super) fn reliable_timeout(&mut self) {
        let leg = &mut *self.leg;
        let State::Ringing { server, .. } = leg.state else { return };
        let Some(response) = leg.extensions.reliable.as_mut().and_then(|reliable| reliable.unacknowledged.as_mut())
        else {
            return;
        };
        if response.deadline <= self.cx.now {
            // RFC 3262 §3: if no PRACK has come after 64*T1, the INVITE is refused with a 5xx.
            leg.extensions.reliable = None;
            self.cx.respond(server, ResponseParts { status: 504, ..ResponseParts::default() });
            self.finish(End::of(EndCause::AckTimeout, Some(504)));
            return;
        }
        if response.retransmit <= self.cx.now {
            response.interval *= 2;
            response.retransmit = self.cx.now + response.interval;
            let (flow, data, status) = (response.flow, response.response.clone(), response.status);
            self.cx.core.transmit(flow, data);
            self.cx.core.trace(Some(self.slot), true, flow, || {
                response_line(status, crate::compose::reason_phrase(status), "INVITE", true)
            });
        }
    }

    pub(super) fn handle_prack(&mut self, server: ServerId, request: &Request) {
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        let named = request.content.value("RAck").and_then(|value| {
            let mut words = value.split_ascii_whitespace();
            let (rseq, cseq) = (words.next()?.parse::<u32>().ok()?, words.next()?.parse::<u32>().ok()?);
            words.next().is_some_and(|method| method == "INVITE").then_some((rseq, cseq))
        });
        let leg = &mut *self.leg;
        let ringing = matches!(leg.state, State::Ringing { .. });
        let key = leg.key;
        let known = leg.extensions.reliable.as_mut().filter(|reliable| named == Some((reliable.last, reliable.cseq)));
        let Some(reliable) = known.filter(|reliable| !ringing || reliable.unacknowledged.is_some()) else {
            self.cx.respond(server, plain(481));
            return;
        };
        let described = reliable.unacknowledged.take().is_some_and(|response| response.has_sdp);
        let answer = reliable.answer.take();
        let next = if answer.is_none() { reliable.waiting.pop_front() } else { None };
        let sdp = request.content.sdp();
        let is_answer = leg.offer.handle_prack(described, sdp.is_some());
        // RFC 3262 §5: a PRACK may contain a further offer while the leg rings, after the first offer was answered. The
        // 200 to the PRACK will contain the answer.
        let refusal = leg.offer.refusal_of(OfferRequest::Prack).or((!ringing || answer.is_some()).then_some(488));
        match (sdp, refusal) {
            (None, _) => self.cx.respond(server, plain(200)),
            (Some(sdp), _) if is_answer => {
                self.cx.respond(server, plain(200));
                self.cx.core.event(Event::OfferAnswered { leg: key, sdp });
            }
            (Some(sdp), None) => {
                leg.offer.receive(Carrier::Response(server));
                self.cx.core.event(Event::Offered { leg: key, sdp: Some(sdp), refusable: false });
            }
            // The PRACK still acknowledges the provisional response.
            (Some(_), Some(status)) => {
                let lines = if status == 500 { self.cx.core.retry_after_offer() } else { String::new() };
                self.cx.respond(server, ResponseParts { lines: &lines, ..plain(status) });
            }
        }
        if let Some((sdp, headers)) = answer {
            self.answer(&sdp, &headers);
        } else if let Some((status, sdp, headers)) = next {
            self.send_reliable(status, sdp.as_ref(), &headers);
        }
        self.arm_leg();
    }

    // ----- as UAC ------------------------------------------------------------------------------------------------

    /// Acknowledges a reliable provisional response with PRACK. Returns `false` if the response must be ignored. A
    /// response must be ignored if it is a retransmission, or if an earlier response is missing (RFC 3262 §4).
    pub(super) fn acknowledge_provisional(&mut self, client: ClientId, response: &Response) -> bool {
        if !response.content.has_token("Require", "100rel") {
            return true;
        }
        let rseq = response.content.value("RSeq").and_then(|value| value.trim().parse::<u32>().ok());
        let (Some(rseq), Some(tag)) = (rseq, response.to.tag.as_ref()) else { return false };
        let Some(flow) = self.cx.transactions.client(client).map(|client| client.flow) else { return false };
        let leg = &mut *self.leg;
        let fallback = leg.dialog.target.clone();
        let State::Calling(calling) = &mut leg.state else { return false };
        let late = calling.outgoing.sdp.is_empty();
        let settles = response.content.has_sdp() && !late;
        let answer = response.content.sdp();
        let room = calling.early.len() < MAX_FORKS;
        match calling.early.iter_mut().find(|early| early.dialog.remote_tag == *tag) {
            Some(early) if early.last.checked_add(1) != Some(rseq) => return false,
            Some(early) => {
                early.last = rseq;
                if let Some(target) = response.content.contact() {
                    early.dialog.target = target;
                }
                early.settled |= settles;
                // If the INVITE had no offer, the first SDP is the far end's offer. Later copies of this SDP change
                // nothing.
                early.answer = if late { early.answer.take().or(answer) } else { answer.or(early.answer.take()) };
            }
            None if !room => return false,
            None => {
                let dialog = Dialog::from_response(response, &fallback, flow);
                calling.early.push(Early { dialog, last: rseq, settled: settles, answer });
            }
        }
        let Some(early) = calling.early.iter().find(|early| early.dialog.remote_tag == *tag) else { return false };
        let dialog = early.dialog.clone();
        let lines = format!("RAck: {rseq} {} INVITE\r\n", response.cseq);
        if self.expects_offer(tag)
            && let Some(offer) = response.content.sdp()
        {
            let carrier = Carrier::Prack { tag: tag.clone(), lines };
            self.report_delayed_offer(offer, carrier);
            return true;
        }
        let again = InDialogRequest { lines, ..InDialogRequest::default() };
        self.send_in(Some(&dialog), Method::Prack, Purpose::Prack, again);
        true
    }

    /// Handles a request of the far end in an early dialog of an outgoing call. An early dialog is stored only if it
    /// has reliable responses, because an answer in an unreliable response is not valid (RFC 3261 §13.2.1).
    pub(super) fn handle_early(&mut self, arrival: &Arrival, request: &Request, key: Key, echo: Echo) {
        let flow = self.cx.core.arrival_flow(arrival);
        let full = !self.cx.has_room();
        let leg = &mut *self.leg;
        let (leg_key, tag) = (leg.key, leg.tag);
        let refer = leg.extensions.may_refer;
        let refusal = leg.offer.refusal_of(OfferRequest::Update);
        let State::Calling(calling) = &mut leg.state else { return };
        let from = request.from.tag.clone().unwrap_or_default();
        let mut early = calling.early.iter_mut().find(|early| early.dialog.remote_tag == from);
        let last = early.as_ref().and_then(|early| early.dialog.remote_cseq);
        let late = last.is_some_and(|last| request.cseq <= last);
        if let Some(early) = early.as_mut().filter(|_| !late && !full) {
            early.dialog.remote_cseq = Some(request.cseq);
            early.dialog.flow = flow;
        }
        let settled = early.is_some_and(|early| early.settled);
        if late || full {
            let (status, lines) = match late {
                true => (500, "Retry-After: 1\r\n".to_owned()),
                false => (503, self.cx.core.retry_after(RetryReason::Dialog)),
            };
            self.cx.core.refuse(arrival, &echo, status, &lines);
            return;
        }
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        let server = self.cx.transactions.insert_server(
            self.cx.core,
            NewServer { arrival, request, key, merge_key: None, echo, leg: Some(self.slot), tag, refer },
        );
        match request.method {
            Method::Update if request.content.has_sdp() => {
                // RFC 3311 §5.2: only one offer may be open at a time. A new offer is allowed when this server's own
                // offer and the far end's earlier offer have been answered.
                let Some(status) = (!settled).then_some(491).or(refusal) else {
                    self.leg.offer.receive(Carrier::Response(server));
                    self.cx.core.event(Event::Offered { leg: leg_key, sdp: request.content.sdp(), refusable: true });
                    return;
                };
                let lines = if status == 500 { self.cx.core.retry_after_offer() } else { String::new() };
                self.cx.respond(server, ResponseParts { lines: &lines, ..plain(status) });
            }
            Method::Update => {
                let contact = self.cx.core.contact(flow);
                self.cx.respond(server, ResponseParts { contact: Some(&contact), ..plain(200) });
            }
            Method::Info => self.handle_info(server, request),
            Method::Options => {
                let prack = self.cx.core.prack_of(self.cx.core.trunk_at(arrival.source.ip()));
                self.cx.respond(server, ResponseParts { lines: &options_lines(prack), ..plain(200) });
            }
            Method::Invite => self.cx.respond(server, plain(491)),
            Method::Bye | Method::Notify | Method::Prack => self.cx.respond(server, plain(481)),
            _ => self.cx.respond(server, plain(405)),
        }
    }
}
