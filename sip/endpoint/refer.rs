//! Sends and receives REFER in a dialog (RFC 3515, RFC 4488). A REFER creates an implicit subscription. The part of RFC
//! 6665 that this subscription needs is also in this module.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::dialogs::Dialogs;
use super::leg_cx::LegCx;
use super::state::{State, tag_number};
use super::transactions::client::{InDialogRequest, Purpose};
use crate::compose::{self, ResponseParts};
use crate::header::Header;
use crate::keys::ServerId;
use crate::leg::{Event, LegId, Refer, Referred};
use crate::message::{Method, Request, Response, Uri};

/// Lifetime of a subscription in seconds. A NOTIFY does not extend the lifetime.
const EXPIRES: u64 = 180;
const TRANSFERS_NOT_ALLOWED: &str = "Reason: SIP;cause=403;text=\"Transfers are not allowed here\"\r\n";
const ALLOW_EVENTS: &str = "Allow-Events: refer\r\n";

/// The subscription of a received REFER. This server sends the progress of the requested call in NOTIFYs.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The transaction of the REFER; `None` after the application has answered the REFER.
    pub(super) server: Option<ServerId>,
    /// CSeq of the REFER. The CSeq distinguishes several REFERs in one dialog (RFC 3515 §2.4.6).
    pub(super) id: u32,
    /// Whether the far end does not want NOTIFYs (RFC 4488).
    pub(super) quiet: bool,
    /// Whether a NOTIFY has no response yet. The next NOTIFY waits for this response, so that NOTIFYs arrive in their
    /// order.
    pub(super) out: bool,
    /// The latest status that has not been sent yet.
    pub(super) next: Option<u16>,
    pub(super) last: u16,
}

/// A REFER that this server sent. The far end reports the progress of the requested call in NOTIFYs.
#[derive(Debug)]
pub(super) struct Referral {
    pub(super) accepted: bool,
    /// The last status that was reported to the application. The same status is not reported twice.
    pub(super) last: u16,
    /// Time at which the REFER counts as failed (408), if no final status has come before. NOTIFYs with other statuses
    /// do not change this time.
    pub(super) deadline: Instant,
}

impl LegCx<'_, '_> {
    // ----- as the recipient of REFER -----------------------------------------------------------------------------

    /// Handles a REFER. `replaced` is the leg that has the dialog in the Replaces of its URI.
    pub(super) fn handle_refer(&mut self, server: ServerId, request: &Request, replaced: Option<LegId>) {
        let plain = |status| ResponseParts { status, ..ResponseParts::default() };
        let leg = &*self.leg;
        let key = leg.key;
        let ready = matches!(leg.state, State::Established) && !leg.is_reported();
        let busy = leg.extensions.subscription.is_some();
        let values = request.content.list("Refer-To");
        let target = match values.as_slice() {
            [one] => Uri::of_address(one.as_bytes()),
            _ => None,
        };
        if !leg.extensions.may_refer {
            self.cx.respond(server, ResponseParts { lines: TRANSFERS_NOT_ALLOWED, ..plain(403) });
            return;
        }
        let status = match &target {
            _ if !ready => 481,
            None => 400,
            Some(uri) if !uri.is_sip() && !uri.text().starts_with(b"tel:") => 416,
            Some(_) if busy => 491,
            Some(_) => 0,
        };
        let Some(target) = target.filter(|_| status == 0) else {
            self.cx.respond(server, plain(status));
            return;
        };
        let quiet = request.content.value("Refer-Sub").is_some_and(|value| value.trim().eq_ignore_ascii_case("false"));
        let (uri, mut headers) = take_headers(&String::from_utf8_lossy(target.text()));
        let replaces = take_replaces(&mut headers);
        let referred_by = request.content.value("Referred-By");
        let subscription =
            Subscription { server: Some(server), id: request.cseq, quiet, out: false, next: None, last: 100 };
        self.leg.extensions.subscription = Some(Box::new(subscription));
        let own_user = self.cx.core.own_user(&target);
        let referred = Box::new(Referred { uri, headers, replaces, replaced, referred_by, own_user });
        self.cx.core.event(Event::Referred { leg: key, referred });
    }

    pub(super) fn answer_refer(&mut self, status: u16) {
        let leg = &mut *self.leg;
        let flow = leg.dialog.flow;
        let Some(subscription) = &mut leg.extensions.subscription else { return };
        let Some(server) = subscription.server.take() else { return };
        let quiet = subscription.quiet;
        let status = if (200..700).contains(&status) { status } else { 603 };
        if status >= 300 {
            leg.extensions.subscription = None;
            self.cx.respond(server, ResponseParts { status, ..ResponseParts::default() });
            return;
        }
        let contact = self.cx.core.contact(flow);
        let lines = if quiet { "Refer-Sub: false\r\n" } else { "" };
        let contact = Some(contact.as_str());
        self.cx.respond(server, ResponseParts { status: 202, lines, contact, ..ResponseParts::default() });
        // RFC 3515 §2.4.4: the first NOTIFY is sent at once.
        self.notify_refer(100);
    }

    /// Sends a NOTIFY with the status of the call that the far end requested. If the previous NOTIFY has no response
    /// yet, the method stores the status and sends it later.
    pub(super) fn notify_refer(&mut self, status: u16) {
        let leg = &mut *self.leg;
        let Some(subscription) = &mut leg.extensions.subscription else { return };
        if subscription.server.is_some() || !matches!(leg.state, State::Established) {
            return;
        }
        if subscription.quiet {
            if status >= 200 {
                leg.extensions.subscription = None;
            }
            return;
        }
        if subscription.out {
            subscription.next = Some(status);
            return;
        }
        subscription.out = true;
        subscription.last = status;
        let id = subscription.id;
        self.send_notify(id, status);
    }

    fn send_notify(&mut self, id: u32, status: u16) {
        let state =
            if status >= 200 { "terminated;reason=noresource".to_owned() } else { format!("active;expires={EXPIRES}") };
        let lines = format!("Event: refer;id={id}\r\nSubscription-State: {state}\r\n");
        let fragment = format!("SIP/2.0 {status} {}\r\n", compose::reason_phrase(status));
        let body = Some(("message/sipfrag;version=2.0".to_owned(), Bytes::from(fragment)));
        self.send_in_dialog(
            Method::Notify,
            Purpose::Notify,
            InDialogRequest { lines, body, ..InDialogRequest::default() },
        );
    }

    /// Handles the response to a NOTIFY. `status` is 408 if no response came.
    pub(super) fn notify_answered(&mut self, status: u16) {
        let leg = &mut *self.leg;
        let Some(subscription) = &mut leg.extensions.subscription else { return };
        subscription.out = false;
        let (next, over) = (subscription.next.take(), subscription.last >= 200);
        // RFC 6665 §4.2.2: a refused NOTIFY ends the subscription.
        if over || status >= 300 {
            leg.extensions.subscription = None;
        } else if let Some(next) = next {
            self.notify_refer(next);
        }
    }

    /// Sends the stored status, because the leg is about to send BYE.
    pub(super) fn send_last_notify(&mut self) {
        let leg = &mut *self.leg;
        let Some(subscription) = leg.extensions.subscription.take() else { return };
        if let Some(status) = subscription.next.filter(|_| matches!(leg.state, State::Established)) {
            self.send_notify(subscription.id, status);
        }
        if let Some(server) = subscription.server {
            self.cx.respond(server, ResponseParts { status: 603, ..ResponseParts::default() });
        }
    }

    /// Handles a SUBSCRIBE in a dialog. The only valid SUBSCRIBE refreshes the subscription of a REFER (RFC 6665
    /// §4.2.1).
    pub(super) fn handle_subscribe(&mut self, server: ServerId, request: &Request) {
        let leg = &mut *self.leg;
        let flow = leg.dialog.flow;
        let subscription = leg.extensions.subscription.as_ref().filter(|_| is_refer(request));
        let Some(status) = subscription.map(|subscription| subscription.next.unwrap_or(subscription.last)) else {
            let status = if is_refer(request) { 481 } else { 489 };
            self.cx.respond(server, ResponseParts { status, lines: ALLOW_EVENTS, ..ResponseParts::default() });
            return;
        };
        let requested = request.content.value("Expires").and_then(|value| value.trim().parse::<u64>().ok());
        let expires = requested.unwrap_or(EXPIRES).min(EXPIRES);
        let (contact, lines) = (self.cx.core.contact(flow), format!("Expires: {expires}\r\n"));
        let contact = Some(contact.as_str());
        self.cx.respond(server, ResponseParts { status: 200, lines: &lines, contact, ..ResponseParts::default() });
        self.notify_refer(status);
        if expires == 0 {
            self.leg.extensions.subscription = None;
        }
    }

    // ----- as the sender of REFER --------------------------------------------------------------------------------

    pub(super) fn refer(&mut self, refer: Refer) {
        let deadline = self.cx.now + Duration::from_secs(EXPIRES);
        let leg = &mut *self.leg;
        if leg.extensions.referral.is_some() || !matches!(leg.state, State::Established) {
            let leg = leg.key;
            self.cx.core.event(Event::ReferAnswered { leg, status: 491 });
            return;
        }
        leg.extensions.referral = Some(Box::new(Referral { accepted: false, last: 0, deadline }));
        let clean =
            |text: &str| text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect::<String>();
        let by = refer.referred_by.as_deref().map(|by| format!("Referred-By: <{}>\r\n", clean(by)));
        let lines = format!("Refer-To: <{}>\r\n{}", clean(&refer.refer_to), by.unwrap_or_default());
        let again = InDialogRequest { lines, headers: refer.headers, ..InDialogRequest::default() };
        self.send_in_dialog(Method::Refer, Purpose::Refer, again);
        self.arm_leg();
    }

    /// Handles the response to a REFER. `status` is 408 if no response came.
    pub(super) fn refer_answered(&mut self, status: u16, response: Option<&Response>) {
        let leg = &mut *self.leg;
        let key = leg.key;
        if leg.is_reported() {
            leg.extensions.referral = None;
            return;
        }
        let Some(referral) = &mut leg.extensions.referral else { return };
        let quiet = response
            .and_then(|response| response.content.value("Refer-Sub"))
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("false"));
        referral.accepted = true;
        if status >= 300 || quiet {
            leg.extensions.referral = None;
        }
        self.cx.core.event(Event::ReferAnswered { leg: key, status });
        if status < 300 && quiet {
            // RFC 4488 §4: the REFER was accepted, but no NOTIFY will follow.
            self.cx.core.event(Event::ReferProgress { leg: key, status: 200, done: true });
        }
    }

    pub(super) fn handle_notify(&mut self, server: ServerId, request: &Request) {
        let content = &request.content;
        let state = content.value("Subscription-State");
        let leg = &mut *self.leg;
        let key = leg.key;
        let status = match (&mut leg.extensions.referral, &state) {
            _ if content.value("Event").is_none() => 489,
            _ if !is_refer(request) => 489,
            (None, _) => 481,
            (Some(_), None) => 400,
            (Some(_), Some(_)) => 200,
        };
        let lines = if status == 489 { ALLOW_EVENTS } else { "" };
        self.cx.respond(server, ResponseParts { status, lines, ..ResponseParts::default() });
        if status != 200 {
            return;
        }
        let leg = &mut *self.leg;
        let Some(referral) = &mut leg.extensions.referral else { return };
        let done = state.is_some_and(|state| state.trim_start().to_ascii_lowercase().starts_with("terminated"));
        let reported_status =
            fragment_status(&content.body).unwrap_or(if referral.last == 0 { 100 } else { referral.last });
        let (accepted, news) = (referral.accepted, reported_status != referral.last);
        referral.last = reported_status;
        referral.accepted = true;
        // After a final status no other status follows, even if Subscription-State says so (RFC 3515 §2.4.5).
        let done = done || reported_status >= 200;
        if done {
            leg.extensions.referral = None;
        }
        if leg.is_reported() {
            return;
        }
        if !accepted {
            // The NOTIFY came before the 202 response.
            self.cx.core.event(Event::ReferAnswered { leg: key, status: 202 });
        }
        if news || done {
            self.cx.core.event(Event::ReferProgress { leg: key, status: reported_status, done });
        }
    }

    pub(super) fn referral_timeout(&mut self) {
        let leg = &mut *self.leg;
        if leg.extensions.referral.as_ref().is_some_and(|referral| referral.deadline <= self.cx.now) {
            leg.extensions.referral = None;
            if !leg.is_reported() {
                let leg = leg.key;
                self.cx.core.event(Event::ReferProgress { leg, status: 408, done: true });
            }
        }
    }
}

impl Dialogs {
    // ----- Replaces -----------------------------------------------------------------------------------------------

    /// Returns the leg that a REFER asks to replace: the leg that has the dialog in the Replaces of the URI.
    pub(super) fn replaced_by_refer(&self, request: &Request) -> Option<LegId> {
        let uri = Uri::of_address(request.content.list("Refer-To").first()?.as_bytes())?;
        let (_, mut headers) = take_headers(&String::from_utf8_lossy(uri.text()));
        self.named_by_replaces(&take_replaces(&mut headers)?).map(|(key, _)| key)
    }

    /// Returns the leg that a Replaces header names (RFC 3891 §3), and whether this leg is answered. `value` is the
    /// value of the header.
    pub(super) fn named_by_replaces(&self, value: &str) -> Option<(LegId, bool)> {
        let mut parts = value.split(';').map(str::trim);
        let call_id = parts.next()?;
        let (mut to, mut from) = ("", "");
        for (name, tag) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "to-tag" => to = tag.trim(),
                "from-tag" => from = tag.trim(),
                _ => {}
            }
        }
        let slot = *self.by_tag.get(&tag_number(to.as_bytes())?)?;
        let leg = self.legs.get(slot).filter(|leg| !leg.is_reported() && leg.dialog.call_id == call_id.as_bytes())?;
        match &leg.state {
            State::Established => (leg.dialog.remote_tag == from.as_bytes()).then_some((leg.key, true)),
            // RFC 3891: an early dialog cannot be replaced if the far end sent its INVITE.
            State::Calling(calling) => {
                calling.early.iter().any(|early| early.dialog.remote_tag == from.as_bytes()).then_some((leg.key, false))
            }
            State::Ringing { .. } | State::Ending(_) => None,
        }
    }

    /// Returns the leg that an INVITE asks to replace (RFC 3891 §3). Returns `Ok(None)` if the INVITE asks for no
    /// replacement. If the INVITE must be refused, returns the status code of the refusal as an error.
    pub(super) fn replaced_by(&self, request: &Request) -> Result<Option<LegId>, u16> {
        match request.content.list("Replaces").as_slice() {
            [] => Ok(None),
            [one] => match self.named_by_replaces(one) {
                Some((_, true)) if one.to_ascii_lowercase().contains("early-only") => Err(486),
                Some((key, _)) => Ok(Some(key)),
                None => Err(481),
            },
            _ => Err(400),
        }
    }
}

/// Returns the status and the header lines of the refusal of a NOTIFY or SUBSCRIBE that belongs to no subscription.
pub(super) fn refusal_of_event(request: &Request) -> (u16, &'static str) {
    match request.method {
        Method::Notify => (481, ""),
        _ if is_refer(request) => (403, ALLOW_EVENTS),
        _ => (489, ALLOW_EVENTS),
    }
}

fn is_refer(request: &Request) -> bool {
    let event = request.content.value("Event").unwrap_or_default();
    event.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("refer")
}

/// Returns the status code in the first line of a message/sipfrag body, for example 200 for `SIP/2.0 200 OK`.
fn fragment_status(body: &[u8]) -> Option<u16> {
    let line = body.split(|&byte| byte == b'\n').next()?;
    let mut words = line.split(u8::is_ascii_whitespace);
    words.next().filter(|version| version.eq_ignore_ascii_case(b"SIP/2.0"))?;
    let status = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    (100..700).contains(&status).then_some(status)
}

/// Separates the header fields from a SIP URI (RFC 3261 §19.1.1). Returns the URI without header fields, and the
/// decoded header fields.
fn take_headers(uri: &str) -> (String, Vec<Header>) {
    let host = uri.find('@').unwrap_or(0);
    let Some((at, _)) = uri.char_indices().skip_while(|(at, _)| *at < host).find(|(_, c)| *c == '?') else {
        return (uri.to_owned(), Vec::new());
    };
    let (uri, fields) = (uri.get(..at).unwrap_or_default(), uri.get(at + 1..).unwrap_or_default());
    let headers = fields
        .split('&')
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| Header { name: unescape(name), value: unescape(value) })
        .take(16)
        .collect();
    (uri.to_owned(), headers)
}

/// Removes the first Replaces header, and returns its value.
fn take_replaces(headers: &mut Vec<Header>) -> Option<String> {
    let index = headers.iter().position(|header| header.name.eq_ignore_ascii_case("Replaces"))?;
    Some(headers.remove(index).value)
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut rest = bytes.clone();
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (byte, digit(rest.next()), digit(rest.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                bytes = rest;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields_of_a_refer_to_uri_are_separated_from_it() {
        let (uri, headers) = take_headers("sip:c?x@h;transport=tcp?Replaces=a%40b%3Bto-tag%3D1&X-A=%zz");
        assert_eq!(uri, "sip:c?x@h;transport=tcp");
        let pairs: Vec<_> = headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect();
        assert_eq!(pairs, [("Replaces", "a@b;to-tag=1"), ("X-A", "%zz")]);
        assert_eq!(take_headers("sip:h"), ("sip:h".to_owned(), vec![]));
    }

    #[test]
    fn the_status_of_a_sipfrag_is_in_its_first_line() {
        assert_eq!(fragment_status(b"SIP/2.0 180 Ringing\r\nTo: x\r\n"), Some(180));
        for odd in [&b""[..], b"SIP/2.0", b"SIP/2.0 20", b"HTTP/1.1 200 OK", b"SIP/2.0 9999999 x"] {
            assert_eq!(fragment_status(odd), None);
        }
    }
}
