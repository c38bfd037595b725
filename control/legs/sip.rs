//! SIP as the signalling of a leg. This is the only file that knows both: orders become commands of the SIP endpoint, and
//! events of the endpoint become signals.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tandem_call::header_fields::HeaderFields;
use tandem_clients as clients;
use tandem_host::clock;
use tandem_id::{LegId, Now};
use tandem_leg::Placement;
use tandem_leg::attempt::Next;
use tandem_leg::fork::Contact;
use tandem_leg::signal::{
    Caller, Identity, IncomingCall, RedirectContact, RedirectTarget, SignalCommand, SignalEnd, SignalEndCause,
    SignalEvent, TransferRequest,
};
use tandem_routing::trunk::{identity, passing};
use tandem_routing::with_user;
use tandem_sip as sip;
pub use tandem_sip::escape_user;
use tandem_stir::SigningOutcome;

use crate::calling::{CallRoute, OutgoingCall};

/// The SIP endpoint.
pub type Endpoint = sip::transport::Handle;

/// A guard that is dropped when an inbound call was handled. If calls wait too long, the endpoint refuses new calls.
pub type PendingCall = sip::PendingCallGuard;

/// The reason why the signalling of a leg does not continue.
#[derive(Debug, thiserror::Error)]
pub enum NotResumed {
    /// The written dialog cannot be read.
    #[error(transparent)]
    Unreadable(#[from] sip::DialogStateError),
    /// The endpoint cannot continue the dialog.
    #[error(transparent)]
    Refused(#[from] sip::ResumeError),
    /// The endpoint has stopped.
    #[error("SIP has stopped")]
    Stopped,
}

/// The signalling of a leg over SIP.
#[derive(Clone)]
pub struct SipSignalling {
    endpoint: Arc<Endpoint>,
    /// The INVITE of the route with this index. A redirection and each contact of a user get a copy.
    invite: Option<(usize, Box<sip::Outgoing>)>,
}

impl SipSignalling {
    /// Creates the signalling of a leg over this endpoint.
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, invite: None }
    }

    /// Refuses a call that has no leg. If the queue of the endpoint is full, the refusal is dropped with a warning.
    pub(crate) fn refuse(&self, leg: LegId, order: SignalCommand) {
        if let Err(error) = self.endpoint.send(command(leg, order)) {
            tracing::warn!(?error, "SIP accepts no command");
        }
    }

    /// Returns the signalling of a branch of the leg.
    pub(crate) fn of_branch(&self) -> Self {
        Self::new(Arc::clone(&self.endpoint))
    }

    /// Asks the endpoint for the dialogs of these legs and branches, as texts. A leg that has no dialog is left out.
    pub(crate) fn dialogs(
        &self,
        now: Now,
        ids: Vec<LegId>,
    ) -> impl Future<Output = BTreeMap<LegId, Arc<str>>> + Send + use<> {
        let endpoint = Arc::clone(&self.endpoint);
        async move {
            let mut dialogs = BTreeMap::new();
            for id in ids {
                if let Some(state) = endpoint.dialog_state(now, id).await {
                    dialogs.insert(id, state.to_string().into());
                }
            }
            dialogs
        }
    }

    /// Continues the dialogs of a leg and its branches in this endpoint. `credentials` are those of the application, if
    /// the leg does not use the credentials of its trunk.
    ///
    /// # Errors
    /// A dialog cannot be continued. The dialogs before this dialog continue, and the leg must be ended.
    pub async fn resume(
        endpoint: Arc<Endpoint>,
        now: Now,
        dialogs: &BTreeMap<LegId, Arc<str>>,
        credentials: Option<(&str, &str)>,
    ) -> Result<Self, NotResumed> {
        for (id, text) in dialogs {
            let state: sip::DialogState = text.parse()?;
            let own = credentials
                .map(|(username, password)| sip::Credentials { username: username.into(), password: password.into() });
            endpoint.resume(now, *id, state, own).await.ok_or(NotResumed::Stopped)??;
        }
        Ok(Self::new(endpoint))
    }

    /// Sends an order of a leg, or of one of its branches.
    pub(crate) fn send(&self, branch: LegId, order: SignalCommand) {
        self.endpoint.post(command(branch, order));
    }

    /// Gives an answered branch the id of its leg.
    pub(crate) fn adopt(&self, branch: LegId, leg: LegId) {
        self.endpoint.post(sip::Command::Rename { branch, leg });
    }

    /// Frees the INVITE, because the leg is not placed again.
    pub(crate) fn forget_invite(&mut self) {
        self.invite = None;
    }

    /// Sends the INVITE of a placement of this leg. `second_offer` is sent if the far end refuses the keys of the first
    /// offer. Returns the signature of the calling number, if there is one.
    pub(crate) fn place(
        &mut self,
        leg: LegId,
        call: &OutgoingCall,
        placement: Placement,
        second_offer: Option<Bytes>,
    ) -> Option<SigningOutcome> {
        let Placement { branch, next, contact, offer, has_alternatives } = placement;
        let (index, redirect) = match next {
            Next::Route(index) => (index, None),
            Next::Redirect(index, target) => (index, Some(target)),
        };
        let route = call.routes.get(index)?;
        let first = self.invite.as_ref().filter(|(of, _)| *of == index).map(|(_, invite)| invite);
        let (mut invite, signing) = match (first, redirect) {
            (Some(first), Some(target)) => (redirected(first, &target), None),
            (Some(first), None) if contact.is_some() => {
                let mut invite = first.clone();
                // Contacts with another kind of media get another offer.
                (invite.sdp, invite.second_offer) = (offer.unwrap_or_default(), second_offer.unwrap_or_default());
                (invite, None)
            }
            _ => {
                let (mut invite, signing) = invitation(call, route);
                (invite.sdp, invite.second_offer) = (offer.unwrap_or_default(), second_offer.unwrap_or_default());
                invite.has_alternatives = has_alternatives;
                if route.follows_redirects || contact.is_some() {
                    self.invite = Some((index, invite.clone()));
                }
                (invite, signing)
            }
        };
        if let (Some(Contact { id, .. }), Some(user)) = (contact, &route.outbound.user) {
            let clients::User { account, name: username, domain } = user.clone();
            let aor = sip::Aor { account, username, domain };
            invite.binding = Some(sip::BindingRef { aor, id: sip::BindingId(id) });
        }
        invite.branch_of = (branch != leg).then_some(leg);
        self.endpoint.post(sip::Command::Invite { leg: branch, invite });
        signing
    }
}

/// The signalling of a session with a recording server (SIPREC, RFC 7866).
pub struct RecordingSignalling {
    endpoint: Arc<Endpoint>,
    id: LegId,
    invite: sip::Outgoing,
}

/// The call to a recording server.
pub struct RecordingCall {
    /// The user of the From URI.
    pub from_user: String,
    /// User name and password for challenges.
    pub credentials: Option<(String, String)>,
    /// The offer.
    pub offer: Bytes,
    /// The offer that is sent if the recording server refuses the keys of the first offer. Empty if there is none.
    pub second_offer: Bytes,
    /// The metadata of the recorded session (RFC 7865).
    pub metadata: Bytes,
}

impl RecordingSignalling {
    /// Creates the signalling of the session with this id.
    pub fn new(endpoint: Arc<Endpoint>, id: LegId, call: RecordingCall) -> Self {
        let RecordingCall { from_user, credentials, offer, second_offer, metadata } = call;
        let credentials = credentials.map(|(username, password)| sip::Credentials { username, password });
        let (sdp, recording) = (offer, Some(metadata));
        let invite = sip::Outgoing { from_user, credentials, sdp, second_offer, recording, ..sip::Outgoing::default() };
        Self { endpoint, id, invite }
    }

    /// Calls the recording server at this URI.
    pub fn place(&self, uri: &str, has_alternatives: bool) {
        let invite = sip::Outgoing { request_uri: uri.to_owned(), has_alternatives, ..self.invite.clone() };
        self.endpoint.post(sip::Command::Invite { leg: self.id, invite: Box::new(invite) });
    }

    /// Sends an order to the recording server.
    pub fn send(&self, order: SignalCommand) {
        self.endpoint.post(command(self.id, order));
    }

    /// Makes another offer, with new metadata.
    pub fn offer(&self, sdp: Bytes, metadata: Bytes) {
        self.endpoint.post(sip::Command::OfferRecording { leg: self.id, sdp, metadata });
    }
}

/// Returns the INVITE of a route, without offers. Also returns the signature of the calling number.
fn invitation(call: &OutgoingCall, route: &CallRoute) -> (Box<sip::Outgoing>, Option<SigningOutcome>) {
    let (outbound, trunk, invite) = (&route.outbound, route.outbound.trunk.as_deref(), &call.invite);
    let mut presented = identity::present(trunk, invite, call.parent_leg.as_ref(), &outbound.host());
    let mut signing = None;
    if outbound.user.is_none() {
        let (signature, outcome) = call.signing.headers(trunk, invite, &presented, clock::time());
        presented.headers.extend(signature);
        signing = outcome;
    }
    let passed = call.parent_leg.as_ref().filter(|_| invite.inherits_headers).map(|parent_leg| {
        let usual = tandem_settings::header_pattern::usual();
        passing::passed(trunk.map_or(&usual, |trunk| &trunk.pass_headers), &parent_leg.leg.sip.headers)
    });
    let own = invite.credentials.clone().map(|own| sip::Credentials { username: own.username, password: own.password });
    let outgoing = sip::Outgoing {
        request_uri: outbound.request_uri.clone(),
        next_hop: outbound.next_hop.clone(),
        from_user: presented.from_user,
        from_display: presented.from_display,
        from_host: presented.from_host.or_else(|| outbound.from_host.clone()),
        on_behalf_of: call.on_behalf_of,
        replaces: invite.replaces.clone(),
        prack: trunk.and_then(|trunk| trunk.prack),
        accounts: call.accounts.clone(),
        call_id: call.call_id.as_deref().map(str::to_owned),
        headers: headers(invite.headers.clone())
            .into_iter()
            .chain(headers(presented.headers))
            .chain(headers(passed.unwrap_or_default()))
            .collect(),
        trunk: trunk.map(|trunk| Arc::clone(&trunk.name)),
        credentials: own.or_else(|| outbound.credentials.clone()),
        ..sip::Outgoing::default()
    };
    (Box::new(outgoing), signing)
}

/// Returns the INVITE to the target of a redirection.
fn redirected(invite: &sip::Outgoing, target: &RedirectTarget) -> Box<sip::Outgoing> {
    let (request_uri, next_hop) = match target {
        RedirectTarget::Uri(uri) => (uri.clone(), None),
        // The number names no host, so the gateway that was called before gets the number (RFC 3261 §19.1.6).
        RedirectTarget::Number(number) => (with_user(&invite.request_uri, number), invite.next_hop.clone()),
    };
    Box::new(sip::Outgoing { request_uri, next_hop, ..invite.clone() })
}

/// Returns the command of the SIP endpoint for an order.
pub fn command(leg: LegId, order: SignalCommand) -> sip::Command {
    match order {
        SignalCommand::Ring { status, sdp } => sip::Command::Provisional { leg, status, sdp, headers: Vec::new() },
        SignalCommand::Accept { sdp, headers: own } => sip::Command::Answer { leg, sdp, headers: headers(own) },
        SignalCommand::Refuse { status, reason, headers: own } => {
            sip::Command::Reject { leg, status, reason, headers: headers(own) }
        }
        SignalCommand::End { status, reason, headers: own } => {
            sip::Command::Hangup { leg, status, reason, headers: headers(own) }
        }
        SignalCommand::Offer { sdp } => sip::Command::Offer { leg, sdp },
        SignalCommand::Answer { sdp } => sip::Command::AnswerOffer { leg, sdp },
        SignalCommand::RefuseOffer { status, reason, headers: own } => {
            sip::Command::RejectOffer { leg, status, reason, headers: headers(own) }
        }
        SignalCommand::Digit { digit, duration_ms } => {
            let body = format!("Signal={}\r\nDuration={duration_ms}\r\n", digit.to_ascii_uppercase());
            sip::Command::Info { leg, content_type: "application/dtmf-relay".to_owned(), body: Bytes::from(body) }
        }
        SignalCommand::Message { content_type, body } => sip::Command::Info { leg, content_type, body },
        SignalCommand::Refer { to, by, headers: own } => {
            let refer = sip::Refer { refer_to: to, referred_by: by, headers: headers(own) };
            sip::Command::Refer { leg, refer: Box::new(refer) }
        }
        SignalCommand::AnswerRefer { status } => sip::Command::AnswerRefer { leg, status },
        SignalCommand::NotifyRefer { status } => sip::Command::NotifyRefer { leg, status },
    }
}

fn headers(fields: HeaderFields) -> Vec<sip::Header> {
    fields.into_iter().map(|(name, value)| sip::Header { name, value }).collect()
}

fn fields(headers: Vec<sip::Header>) -> HeaderFields {
    headers.into_iter().map(|header| (header.name, header.value)).collect()
}

/// A report of the SIP endpoint about a leg.
#[derive(Debug)]
pub enum Report {
    /// A far end calls. The guard is dropped when the call was handled.
    Incoming(LegId, Box<IncomingCall>, PendingCall),
    /// A signal of the far end.
    Signal(LegId, SignalEvent),
    /// A message that was sent or received.
    Trace(Trace),
}

/// A SIP message of a leg, for the log.
#[derive(Debug)]
pub struct Trace {
    /// The leg.
    pub leg: LegId,
    /// Whether this server sent the message.
    pub sent: bool,
    /// The address of the far end.
    pub far_end: SocketAddr,
    /// The transport: `UDP`, `TCP`, `TLS`, `WS` or `WSS`.
    pub transport: &'static str,
    /// The message as one line.
    pub line: String,
}

/// Returns the report in an event of the SIP endpoint. Returns `None` if the event is about no leg.
pub fn report(event: sip::Event) -> Option<Report> {
    let leg = event.leg()?;
    let signal = match event {
        sip::Event::Trace { sent, peer, transport, line, .. } => {
            let (far_end, transport) = (peer, transport.token());
            return Some(Report::Trace(Trace { leg, sent, far_end, transport, line }));
        }
        sip::Event::Provisional { status, sdp, .. } => SignalEvent::Ringing { status, sdp },
        sip::Event::Answered { sdp, headers, dialog, .. } => {
            let dialog = dialog.map(|dialog| dialog.to_string().into());
            SignalEvent::Accepted { sdp, headers: fields(headers), dialog }
        }
        sip::Event::Acknowledged { sdp, .. } => SignalEvent::Acknowledged { sdp },
        sip::Event::Offered { sdp, refusable, .. } => SignalEvent::Offered { sdp, refusable },
        sip::Event::OfferAnswered { sdp, .. } => SignalEvent::OfferAnswered { sdp },
        sip::Event::OfferRejected { status, .. } => SignalEvent::OfferRefused { status },
        sip::Event::Info { digit, .. } => SignalEvent::Digit(digit),
        sip::Event::RefreshDue { .. } => SignalEvent::RefreshDue,
        sip::Event::Referred { referred, .. } => SignalEvent::Referred(Box::new(transfer(*referred))),
        sip::Event::ReferAnswered { status, .. } => SignalEvent::ReferAnswered { status },
        sip::Event::ReferProgress { status, done, .. } => SignalEvent::ReferProgress { status, done },
        sip::Event::Ended { cause, status, reason, headers, .. } => {
            SignalEvent::Ended(Box::new(end(cause, status, reason, headers)))
        }
        sip::Event::Incoming { incoming, .. } => {
            let (call, waiting) = incoming_call(*incoming);
            return Some(Report::Incoming(leg, Box::new(call), waiting));
        }
        sip::Event::Binding(_)
        | sip::Event::AuthenticationFailed(_)
        | sip::Event::ChallengeUnanswered { .. }
        | sip::Event::UnknownSource(_)
        | sip::Event::TrunkTroubled(_) => return None,
    };
    Some(Report::Signal(leg, signal))
}

fn incoming_call(incoming: sip::Incoming) -> (IncomingCall, PendingCall) {
    let sip::Incoming { request_uri, to_uri, from_uri, from_user, from_display, to_user, sip_call_id, .. } = incoming;
    let sip::Incoming { source, transport, trunk, caller, headers, offer, replaces, dialog, waiting, .. } = incoming;
    let call = IncomingCall {
        line: ["INVITE ", &request_uri].concat(),
        request_uri,
        to_uri,
        from_uri,
        from_user,
        from_display,
        to_user,
        signalling_id: sip_call_id,
        source,
        transport: transport.token(),
        is_secure: transport.is_secure(),
        trunk,
        caller: caller.map(|sip::Caller { account, username, domain }| Caller {
            account,
            identity: Identity::Sip { username, domain },
        }),
        headers: fields(headers),
        parameters: Vec::new(),
        client_state: None,
        offer,
        replaces,
        dialog: dialog.map(|dialog| dialog.to_string().into()),
    };
    (call, waiting)
}

fn transfer(referred: sip::Referred) -> TransferRequest {
    let sip::Referred { uri, headers, replaces, replaced, referred_by, own_user } = referred;
    let telephone = sip::Party::of_uri(&uri).filter(sip::Party::is_tel).map(|party| party.user());
    TransferRequest { uri, headers: fields(headers), replaces, replaced, by: referred_by, own_user, telephone }
}

fn end(cause: sip::EndCause, status: Option<u16>, reason: Option<String>, headers: Vec<sip::Header>) -> SignalEnd {
    let kind = match cause {
        sip::EndCause::LocalHangup => SignalEndCause::Local,
        sip::EndCause::Bye => SignalEndCause::HungUp,
        sip::EndCause::Cancelled => SignalEndCause::Cancelled,
        sip::EndCause::Rejected => SignalEndCause::Refused,
        sip::EndCause::Timeout => SignalEndCause::NoResponse,
        sip::EndCause::AckTimeout | sip::EndCause::FlowLost | sip::EndCause::SessionExpired => SignalEndCause::Expired,
        sip::EndCause::Unresolved
        | sip::EndCause::NoSocket
        | sip::EndCause::Unconnected(_)
        | sip::EndCause::Tls(_)
        | sip::EndCause::Forbidden => SignalEndCause::Unreachable,
        sip::EndCause::Invalid => SignalEndCause::Invalid,
        sip::EndCause::TrunkFull => SignalEndCause::RouteFull,
        sip::EndCause::Overload => SignalEndCause::Overloaded,
    };
    let contacts = match (kind, status) {
        (SignalEndCause::Refused, Some(300..400)) => {
            let values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("Contact"));
            values.flat_map(|header| redirections(&header.value)).collect()
        }
        _ => Vec::new(),
    };
    let mut end = SignalEnd { status, reason, headers: fields(headers), contacts, ..SignalEnd::of(kind) };
    // SIP knows more about the ends that the far end has not caused.
    if !matches!(
        kind,
        SignalEndCause::Local | SignalEndCause::HungUp | SignalEndCause::Cancelled | SignalEndCause::Refused
    ) {
        end.detail = cause.to_string().into();
    }
    end
}

/// Returns the contacts of a redirection in a Contact value.
fn redirections(value: &str) -> Vec<RedirectContact> {
    sip::Party::all(value)
        .filter(|contact| contact.is_sip() || contact.is_tel())
        .map(|contact| {
            let target = match contact.is_tel() {
                true => RedirectTarget::Number(contact.user()),
                // The redirecting server must not set headers of our request.
                false => RedirectTarget::Uri(contact.uri_without_headers()),
            };
            let q = contact.parameter("q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
            RedirectContact { target, q: (q.clamp(0.0, 1.0) * 1000.0) as u16 }
        })
        .collect()
}

/// Whether SIP itself sets the header field with this name, so that an application cannot set it.
pub fn is_own_header(name: &str) -> bool {
    sip::is_own_header(name)
}

/// Returns the digit in a message of an application, if the message is a DTMF message.
pub(crate) fn digit_in(content_type: &str, body: &[u8]) -> Option<char> {
    match sip::Info::read(content_type, body) {
        sip::Info::Digit(digit) => Some(digit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contacts_of_a_redirection_are_uris_and_numbers() {
        let value = "\"x, y\" <sip:b@h;transport=tcp?X=1>;q=0.2, <sip:c@h>, <mailto:d@h>, <tel:+41-22-333>;q=9";
        let found: Vec<_> = redirections(value).into_iter().map(|contact| (contact.target, contact.q)).collect();
        let uri = |uri: &str| RedirectTarget::Uri(uri.to_owned());
        let number = RedirectTarget::Number("+4122333".to_owned());
        assert_eq!(found, [(uri("sip:b@h;transport=tcp"), 200), (uri("sip:c@h"), 1_000), (number, 1_000)]);
    }

    #[test]
    fn a_redirection_to_a_number_keeps_the_host_of_the_first_call() {
        let text = |text: &str| Some(text.to_owned());
        let invite = sip::Outgoing {
            request_uri: "sip:a@h".to_owned(),
            next_hop: text("sip:proxy"),
            ..sip::Outgoing::default()
        };
        for (value, expected) in [
            ("<tel:+41-22-333>", "sip:+4122333@h"),
            ("<tel:3334455;phone-context=+4122>", "sip:+41223334455@h"),
            ("\"<sip:x@y>\" <tel:*21#>;q=0.3", "sip:*21%23@h"),
        ] {
            let next = redirected(&invite, &redirections(value)[0].target);
            assert_eq!((next.request_uri.as_str(), next.next_hop.as_deref()), (expected, Some("sip:proxy")), "{value}");
        }
        let next = redirected(&invite, &RedirectTarget::Uri("sip:c@other".to_owned()));
        assert_eq!((next.request_uri.as_str(), next.next_hop), ("sip:c@other", None));
    }

    #[test]
    fn a_digit_in_an_info_request_is_written_and_read_back() {
        let order = SignalCommand::Digit { digit: 'a', duration_ms: 160 };
        let sip::Command::Info { content_type, body, .. } = command(LegId(1), order) else { panic!() };
        assert_eq!((&*content_type, &body[..]), ("application/dtmf-relay", &b"Signal=A\r\nDuration=160\r\n"[..]));
        assert_eq!(digit_in(&content_type, &body), Some('A'));
    }

    #[test]
    fn each_end_of_a_dialog_has_a_cause_and_a_text() {
        for (cause, kind, words) in [
            (sip::EndCause::Bye, SignalEndCause::HungUp, "hung up"),
            (sip::EndCause::LocalHangup, SignalEndCause::Local, "hung up by this server"),
            (sip::EndCause::Timeout, SignalEndCause::NoResponse, "no answer, not even a provisional response"),
            (sip::EndCause::AckTimeout, SignalEndCause::Expired, "the far end did not acknowledge the answer"),
            (sip::EndCause::Unresolved, SignalEndCause::Unreachable, "host name not resolved"),
            (sip::EndCause::TrunkFull, SignalEndCause::RouteFull, "the trunk's max_calls or max_cps is reached"),
            (sip::EndCause::Invalid, SignalEndCause::Invalid, "the URI cannot be called"),
            (sip::EndCause::Overload, SignalEndCause::Overloaded, "too many legs or transactions"),
        ] {
            let end = end(cause, None, None, Vec::new());
            assert_eq!((end.cause, &*end.detail), (kind, words));
            assert_eq!(end.detail, cause.to_string());
        }
    }
}
