//! Checks the INVITEs of new calls (RFC 3261 §8.2), and creates the legs of these calls.

use super::dialogs::{Context, Dialogs};
use super::leg_cx::LegCx;
use super::offer::OfferState;
use super::reliable::Reliable;
use super::state::{Extensions, Leg, PROVISIONAL_REPEAT, State};
use super::transactions::Key;
use super::transactions::server::NewServer;
use super::{Arrival, session_timer};
use crate::compose::{self, ResponseParts, SUPPORTED};
use crate::dialog::Dialog;
use crate::digest;
use crate::flow::Flow;
use crate::leg::{Caller, Event, Incoming};
use crate::message::{Echo, Request, Uri};
use crate::prack::Prack;
use crate::trunk_acl::TrunkName;
use crate::waiting::PendingCallGuard;
use bytes::Bytes;
use std::time::Duration;

/// The INVITE of a new call that this server has admitted.
pub(super) struct NewInvite<'a> {
    pub(super) arrival: &'a Arrival,
    /// The flow of later requests in the dialog. There are two cases in which later requests go to the source of the
    /// INVITE: the caller is not a trunk, or the server recognised a trunk only by a password. The reason is that the
    /// Contact of such a caller may be behind a NAT.
    pub(super) flow: Flow,
    pub(super) request: Request,
    pub(super) trunk: Option<TrunkName>,
    /// The index of the trunk, if the limits of a trunk apply to the call. `None` if no such limits apply.
    pub(super) trunk_index: Option<usize>,
    /// The Digest session with which this server answers challenges of the trunk.
    pub(super) session: Option<digest::Session>,
    pub(super) key: Key,
    /// The key that detects merged requests (RFC 3261 §8.2.2.2).
    pub(super) merge_key: Key,
    pub(super) echo: Echo,
    /// The caller; `None` if the call comes from a trunk.
    pub(super) caller: Option<Caller>,
}

impl Dialogs {
    /// Returns a random tag that no leg has.
    pub(super) fn fresh_tag(&self, cx: &mut Context<'_>) -> u64 {
        loop {
            let tag = rand::Rng::next_u64(&mut cx.core.rng);
            if !self.by_tag.contains_key(&tag) {
                return tag;
            }
        }
    }

    /// Creates the leg of an admitted INVITE and responds with 100.
    pub(super) fn accept_invite(&mut self, cx: &mut Context<'_>, invite: NewInvite<'_>) {
        let NewInvite { arrival, flow, request, trunk, trunk_index, session, key, merge_key, echo, caller } = invite;
        let leg_key = self.fresh_leg_key(cx);
        let tag = self.fresh_tag(cx);
        let mut local = echo.to.to_vec();
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(&compose::hex(tag));
        let target = request.content.contact().or_else(|| Uri::parse(format!("sip:{}", arrival.source).as_bytes()));
        let Some(target) = target else { return cx.trunks.release(cx.core, trunk_index) };
        let dialog = Dialog::from_request(&request, Bytes::from(local), target, flow);
        let incoming = Box::new(Incoming {
            request_uri: lossy(request.uri.text()),
            to_uri: lossy(request.to.uri.text()),
            from_uri: lossy(request.from.uri.text()),
            from_user: request.from.uri.user(),
            from_display: Some(lossy(&request.from.display)).filter(|display| !display.is_empty()),
            to_user: cx.trunks.called_user(&request),
            sip_call_id: lossy(&request.call_id),
            source: arrival.source,
            transport: arrival.transport,
            trunk,
            caller,
            headers: request.content.application_headers(),
            offer: request.content.sdp(),
            replaces: self.replaced_by(&request).ok().flatten(),
            dialog: Some(Box::new(dialog.state())),
            waiting: PendingCallGuard::default(),
        });
        let trunk = incoming.trunk.as_ref();
        let is_user = incoming.caller.as_ref().is_some_and(|caller| caller.username.is_some());
        let may_refer = is_user || cx.core.may_refer(trunk);
        let reliable = cx.core.is_to_be_reliable(&request, trunk).then(|| {
            let first = u32::from(rand::Rng::next_u32(&mut cx.core.rng) as u16);
            Box::new(Reliable::new(first, request.cseq))
        });
        let extensions = Extensions {
            origin: self.origin_of_incoming(&request),
            may_refer,
            far_end_allows_update: request.content.has_token("Allow", "UPDATE"),
            reliable,
            is_own_request: cx.core.handles_own_request,
            negotiated_timer: session_timer::negotiate(&request, cx.core.config.session_expires, cx.core.config.min_se)
                .ok()
                .flatten(),
            ..Extensions::default()
        };
        let seconds = session_timer::seconds(&request.content, "Expires").filter(|seconds| *seconds > 0);
        let expires = seconds.and_then(|seconds| cx.now.checked_add(Duration::from_secs(seconds.into())));
        let slot = self.insert_leg(cx, |cx, slot| {
            let (request, leg) = (&request, Some(slot));
            let new = NewServer { arrival, request, key, merge_key: Some(merge_key), echo, leg, tag, refer: may_refer };
            let server = cx.transactions.insert_server(cx.core, new);
            let state = State::Ringing { server, repeat: None, expires };
            let offer = if request.content.has_sdp() { OfferState::FirstReceived } else { OfferState::FirstOwed };
            let trunk = trunk_index;
            Leg { incoming: true, session, trunk, offer, extensions, ..Leg::new(leg_key, tag, dialog, state) }
        });
        if flow.transport.is_websocket() {
            self.add_web_caller(slot);
        }
        // This event must come before any trace event, because it is the first event of the leg and represents the
        // INVITE.
        cx.core.event(Event::Incoming { leg: leg_key, incoming });
        if let Some(Leg { state: State::Ringing { server, .. }, .. }) = self.legs.get(slot) {
            cx.respond(*server, ResponseParts { status: 100, ..ResponseParts::default() });
        }
        if expires.is_some() {
            self.with(cx, slot, |leg| leg.arm_leg());
        }
    }
}

impl LegCx<'_, '_> {
    /// Schedules the next repetition of the latest provisional response, which was sent just now.
    pub(super) fn repeat_provisional(&mut self) {
        if let State::Ringing { repeat, .. } = &mut self.leg.state {
            *repeat = Some(self.cx.now + PROVISIONAL_REPEAT);
        }
        self.arm_leg();
    }
}

pub(super) fn options_lines(prack: Prack) -> String {
    let supported = compose::supported(prack != Prack::Off);
    format!(
        "Accept: application/sdp, multipart/mixed\r\nAccept-Encoding: identity\r\nAccept-Language: en\r\n\
         Supported: {supported}\r\nAllow-Events: refer\r\n"
    )
}

/// Returns the Unsupported line of the response. Returns `None` if this server supports all option tags that the
/// request requires (RFC 3261 §8.2.2.3).
pub(super) fn unsupported(request: &Request, prack: Prack) -> Option<String> {
    let known = match SUPPORTED.split_first() {
        Some((_reliable, others)) if prack == Prack::Off => others,
        _ => SUPPORTED,
    };
    let tags = request.content.unsupported(known);
    (!tags.is_empty()).then(|| unsupported_line(&tags))
}

pub(super) fn unsupported_line(tags: &[String]) -> String {
    let clean = |tag: &String| tag.chars().filter(char::is_ascii_graphic).collect::<String>();
    format!("Unsupported: {}\r\n", tags.iter().map(clean).collect::<Vec<_>>().join(", "))
}

/// Checks whether this server can handle the body of a request (RFC 3261 §8.2.3). If not, returns the status and the
/// header lines of the refusal.
pub(super) fn refusal_of_body(request: &Request) -> Option<(u16, String)> {
    if request.content.encoded() {
        return Some((415, "Accept-Encoding: identity\r\n".to_owned()));
    }
    (!request.content.body.is_empty() && !request.content.has_sdp() && !request.content.is_optional())
        .then(|| (415, "Accept: application/sdp, multipart/mixed\r\n".to_owned()))
}

/// Returns whether the request accepts SDP: its Accept header allows SDP, or the request has no Accept header.
pub(super) fn accepts_sdp(request: &Request) -> bool {
    request.content.value("Accept").is_none_or(|accept| {
        let accept = accept.to_ascii_lowercase();
        accept.is_empty()
            || accept.contains("application/sdp")
            || accept.contains("*/*")
            || accept.contains("application/*")
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
