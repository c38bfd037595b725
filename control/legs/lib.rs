//! Drives one leg: carries the orders of the leg's machine ([`tandem_leg::Leg`]) to SIP, to a web page or to another leg
//! of this server, and to the media engine, and carries their events back. SDP does not leave this crate.
#![forbid(unsafe_code)]

pub mod browser;
mod calling;
mod description;
mod engine;
pub mod internal;
mod machine_detection;
pub mod sip;
mod snapshot;
mod track;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tandem_call::header_fields::HeaderFields;
use tandem_call::output::{HangupReason, LegEvent, Progress};
use tandem_call::program::instruction::RejectReason;
use tandem_id::{LegId, Now, OpId};
use tandem_leg::dtmf::{DigitForm, Relay, WantedForm, relay};
use tandem_leg::offer_answer::Unusable;
use tandem_leg::signal::{SignalCommand, SignalEvent, TransferRequest};
use tandem_leg::{Leg, Output, Placement, RouteFailed};
use tandem_media as media;
use tandem_stir::SigningOutcome;

use self::browser::{Ringing, WebCall};
pub use self::calling::{CallRoute, OutgoingCall, RouteMedia};
use self::description::Description;
pub use self::description::OpenSession;
pub use self::engine::{on_media, tone};
use self::internal::{CallChain, InternalSignalling};
pub use self::machine_detection::detection;
use self::sip::SipSignalling;
pub use self::snapshot::{LegIoSnapshot, LegParts, MediaPart, NoParts};
pub use self::track::tracks;

/// Duration, in milliseconds, of a digit that is passed on in another form.
const DIGIT_MS: u16 = 160;
/// The operation id of digits that are passed on to the bridged leg. No code waits for the end of these digits.
pub(crate) const RELAYED_DIGIT: OpId = OpId(u64::MAX);

/// The signalling of a leg.
pub enum Signalling {
    /// SIP.
    Sip(SipSignalling),
    /// Another leg of this server is the far end.
    Internal(Box<InternalSignalling>),
    /// The protocol of a provider's browser SDK.
    Web(Arc<dyn WebCall>),
}

impl Signalling {
    /// Refuses a call that has no leg. `reason` is the reason phrase; `None` means the usual phrase.
    pub fn refuse(&self, leg: LegId, status: u16, reason: Option<String>) {
        // A client that obeys Retry-After sends no request before that time.
        let headers = (status == 503).then(retry_after).into_iter().collect();
        let order = SignalCommand::Refuse { status, reason, headers };
        match self {
            Self::Sip(sip) => sip.refuse(leg, order),
            Self::Internal(internal) => internal.send(order),
            Self::Web(page) => page.send(order),
        }
    }
}

/// A leg with its signalling and its media session.
pub struct LegIo {
    leg: Leg,
    media: Option<Description>,
    signalling: Signalling,
    /// The signalling of each branch that rings.
    branches: Vec<(LegId, Signalling)>,
    /// The outbound call, as long as the leg may be placed again.
    call: Option<Box<OutgoingCall>>,
    /// Header fields for the next message that answers, rejects or ends the call.
    pub headers: HeaderFields,
    /// Values that the other leg of an internal call receives when the call ends.
    pub handed_back: HeaderFields,
    /// The count of the internal calls of which this leg is the origin, or with which this leg has a common origin.
    pub call_chain: CallChain,
}

/// A report of a leg to its call.
#[derive(Debug)]
pub enum LegReport {
    /// An event of the leg.
    Event(LegEvent),
    /// A digit of the far end, in the form in which it arrived.
    Digit(char, DigitForm),
    /// The far end asks for a transfer.
    Transfer(Box<TransferRequest>),
    /// A route has failed, and the next one is tried.
    RouteFailed(RouteFailed),
    /// The signalling of the leg, or of a branch, is interrupted.
    Lost,
    /// The signalling is no longer interrupted.
    Resumed,
    /// The calling number was signed for the route that is tried now.
    Signed(SigningOutcome),
}

impl LegIo {
    /// Creates an inbound leg, which has signalling and no audio yet.
    pub fn incoming(leg: LegId, signalling: Signalling) -> Self {
        let call_chain = match &signalling {
            Signalling::Internal(internal) => internal.call_chain().clone(),
            Signalling::Sip(_) | Signalling::Web(_) => CallChain::default(),
        };
        Self { leg: Leg::incoming(leg), call_chain, ..Self::outgoing(leg, signalling) }
    }

    /// Creates an outbound leg, which is not placed and has no audio yet.
    pub fn outgoing(leg: LegId, signalling: Signalling) -> Self {
        Self {
            leg: Leg::outgoing(leg),
            media: None,
            signalling,
            branches: Vec::new(),
            call: None,
            headers: HeaderFields::new(),
            handed_back: HeaderFields::new(),
            call_chain: CallChain::default(),
        }
    }

    /// Returns the names of the codecs in the accepted offer.
    pub fn offered_codecs(&self) -> &[String] {
        self.media.as_ref().map_or(&[], |media| media.session.offered_codecs())
    }

    /// Returns the name of the negotiated codec.
    pub fn codec(&self) -> Option<&'static str> {
        self.media.as_ref()?.session.codec().map(media::Codec::name)
    }

    /// Returns the address and port of our RTP, as in our SDP.
    pub fn media_address(&self) -> Option<SocketAddr> {
        self.media.as_ref().map(|media| media.session.local_address())
    }

    /// Returns the codecs that another leg should use before a bridge with this leg, so that packets need no
    /// transcoding. Before this leg is answered, this leg can still agree on each of the returned codecs. After the
    /// answer, the result has only one codec.
    pub fn preference(&self) -> media::Preference {
        let mut preference = self.media.as_ref().map(|media| media.session.preference()).unwrap_or_default();
        if !self.leg.negotiation().is_open() {
            preference.codecs.truncate(1);
        }
        preference
    }

    /// Changes this leg to the codec of the leg that will be bridged with this leg. The codec changes only if the far
    /// end offers this codec and our answer is not sent yet.
    pub fn prefer(&mut self, preferred: media::Preference) {
        if let Some(media) = &mut self.media
            && media.prefer(preferred)
        {
            self.leg.prefer(media);
        }
    }

    /// Takes the offer of a call and prepares our answer. The session has these settings.
    ///
    /// # Errors
    /// If the offer cannot be used. The leg should be refused.
    pub fn accept_offer(
        &mut self,
        session: media::Session,
        settings: &RouteMedia,
        offer: Option<Bytes>,
    ) -> Result<(), Unusable> {
        let mut media = Description::new(session, media::Preference::default(), Vec::new());
        self.leg.wanted_digits = settings.wanted_digits();
        self.leg.begin(offer, &mut media)?;
        self.media = Some(media);
        Ok(())
    }

    /// Calls another leg of this server. `preferred` is the codec preference of the leg that will be bridged with this
    /// leg. Returns our offer for the called leg.
    pub fn call_internally(
        &mut self,
        session: media::Session,
        preferred: media::Preference,
        signalling: InternalSignalling,
    ) -> Bytes {
        let mut media = Description::new(session, preferred, Vec::new());
        let offer = self.leg.call(&mut media);
        (self.media, self.signalling) = (Some(media), Signalling::Internal(Box::new(signalling)));
        offer
    }

    /// Places the leg on the first route. `preferred` is the codec preference of the leg that will be bridged with this
    /// leg. `open` opens another session if the leg rings at contacts with two kinds of media. `fresh` makes and registers
    /// the ids of branches.
    pub fn place(
        &mut self,
        now: Now,
        (session, preferred): (media::Session, media::Preference),
        call: OutgoingCall,
        open: Option<OpenSession>,
        fresh: &mut impl FnMut() -> LegId,
    ) {
        let routes = call.leg_routes();
        let settings = call.routes.iter().map(|route| route.media.clone()).collect();
        let media = Description::new(session, preferred, settings);
        let media = self.media.insert(match open {
            Some(open) => media.with_two_kinds(open),
            None => media,
        });
        self.call = Some(Box::new(call));
        self.leg.place(now, routes, media, fresh);
    }

    /// Handles a signal of the leg or of one of its branches. `fresh` makes and registers the ids of branches.
    pub fn handle_signal(&mut self, now: Now, branch: LegId, event: SignalEvent, fresh: &mut impl FnMut() -> LegId) {
        let is_over = matches!(event, SignalEvent::Ended(_));
        self.leg.handle_signal(now, branch, event, self.media.as_mut(), fresh);
        if is_over {
            self.branches.retain(|(one, _)| *one != branch);
        }
    }

    /// Handles a digit that the media engine has found. A digit that has arrived in the signalling is ignored.
    pub fn handle_digit(&mut self, now: Now, digit: char, form: DigitForm) {
        self.leg.handle_digit(now, digit, form);
    }

    /// Returns the time at which [`LegIo::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<std::time::Instant> {
        self.leg.poll_timeout().map(tandem_id::Deadline::instant)
    }

    /// Handles the time.
    pub fn handle_timeout(&mut self, now: Now, fresh: &mut impl FnMut() -> LegId) {
        self.leg.handle_timeout(now, self.media.as_mut(), fresh);
    }

    /// Carries out what the leg orders. Returns what it reports next.
    pub fn poll_report(&mut self) -> Option<LegReport> {
        loop {
            let output = self.leg.poll_output()?;
            if let Some(report) = self.carry_out(output) {
                return Some(report);
            }
        }
    }

    /// Sends 180 or 183, with or without a description.
    pub fn ring(&mut self, progress: Progress) {
        self.leg.ring(progress, self.media.as_mut());
        self.flush();
    }

    /// Accepts the call of the far end.
    pub fn answer(&mut self) {
        self.leg.accept(self.media.as_mut());
        self.flush();
    }

    /// Refuses the call of the far end.
    pub fn reject(&mut self, reason: RejectReason) {
        self.leg.refuse(reason);
        self.flush();
    }

    /// Ends the call.
    pub fn hangup(&mut self, reason: Option<HangupReason>) {
        self.leg.end(reason);
        self.flush();
    }

    /// Sends an order to the far end.
    pub fn signal(&mut self, order: SignalCommand) {
        self.leg.signal(order);
        self.flush();
    }

    /// Whether the far end has called without an offer, and nothing is negotiated yet.
    pub fn wants_offer(&self) -> bool {
        self.leg.negotiation().wants_offer()
    }

    /// Whether digits are sent to the far end in the signalling.
    pub fn wants_digits_in_signalling(&self) -> bool {
        self.leg.wanted_digits == WantedForm::Signal
    }

    /// Passes on a digit from the bridged leg, unless the media engine passes the digit on. `received_by` is the form
    /// in which the bridged leg received the digit.
    pub fn relay_digit(&mut self, digit: char, received_by: DigitForm) {
        let events = self.media.as_ref().is_some_and(|media| media.session.has_events());
        match relay(self.leg.wanted_digits, received_by, events) {
            Relay::ByMedia => {}
            Relay::AsSignal => self.signal(SignalCommand::Digit { digit, duration_ms: DIGIT_MS }),
            Relay::AsEvent => {
                let (op, duration_ms) = (RELAYED_DIGIT, DIGIT_MS);
                self.command(media::Command::SendDigits { op, digits: digit.to_string(), duration_ms });
            }
        }
    }

    /// Returns the values that the other leg of an internal call sent with the end of the call.
    pub fn returned(&self, event: &SignalEvent) -> Option<Vec<(String, String)>> {
        match (event, &self.signalling) {
            (SignalEvent::Ended(end), Signalling::Internal(_)) => {
                Some(end.headers.to_vec()).filter(|it| !it.is_empty())
            }
            _ => None,
        }
    }

    /// Whether the signalling is over or has never existed.
    pub fn is_gone(&self) -> bool {
        self.leg.is_gone()
    }

    /// Returns the branches whose signals may still come.
    pub fn branches(&self) -> impl Iterator<Item = LegId> {
        self.leg.branches()
    }

    /// Ends the call after the media engine has found that no media can reach the far end. The media session stays open
    /// until [`LegIo::release`].
    pub fn fail_media(&mut self, reason: String) {
        self.leg.fail_media(reason);
    }

    /// Ends the call after the media engine has closed the media session.
    pub fn lose_media(&mut self) {
        self.media = None;
        self.hangup(None);
    }

    /// Closes the media session. Returns whether the media engine will report a final event.
    pub fn release(&mut self) -> bool {
        self.media.take().is_some()
    }

    /// Carries out the orders of the leg. An order of the call causes no report.
    fn flush(&mut self) {
        while let Some(report) = self.poll_report() {
            debug_assert!(false, "a report that nobody reads: {report:?}");
        }
    }

    fn carry_out(&mut self, output: Output) -> Option<LegReport> {
        match output {
            Output::Signal { branch, command } => self.send(branch, command),
            Output::Place(placement) => return self.place_now(placement).map(LegReport::Signed),
            Output::Adopt { branch } => self.adopt(branch),
            Output::SendSilence(on) => drop(self.command(media::Command::SendSilence(on))),
            Output::Event(event) => {
                // An answered leg is not placed again.
                if let LegEvent::Answered { .. } = event {
                    self.call = None;
                    if let Some(media) = &mut self.media {
                        media.answered();
                    }
                    if let Signalling::Sip(sip) = &mut self.signalling {
                        sip.forget_invite();
                    }
                }
                return Some(LegReport::Event(event));
            }
            Output::Lost { .. } => return Some(LegReport::Lost),
            Output::Resumed { .. } => return Some(LegReport::Resumed),
            Output::Digit { digit, form } => return Some(LegReport::Digit(digit, form)),
            Output::Transfer(request) => return Some(LegReport::Transfer(request)),
            Output::RouteFailed(failed) => {
                tracing::warn!(leg = %self.leg.id(), "call not placed: {}", failed.line);
                return Some(LegReport::RouteFailed(failed));
            }
        }
        None
    }

    fn place_now(&mut self, placement: Placement) -> Option<SigningOutcome> {
        let (Signalling::Sip(sip), Some(call)) = (&mut self.signalling, &self.call) else { return None };
        if let Some(page) = placement.contact.and_then(|contact| call.pages.get(&contact.id))
            && let Some(offer) = placement.offer
        {
            let invite = &call.invite;
            let ringing = Ringing {
                account: call.account.clone(),
                leg: self.leg.id(),
                branch: placement.branch,
                from: invite.from.clone(),
                from_display: invite.caller_name.clone(),
                to: invite.to.clone(),
                headers: invite.headers.clone(),
                offer,
            };
            self.branches.push((placement.branch, Signalling::Web(page.ring(ringing))));
            return None;
        }
        let of_other = placement.contact.is_some_and(|contact| contact.media != self.leg.media());
        let second = placement.offer.as_ref().and_then(|_| self.media.as_mut()?.offer_secured(of_other));
        if placement.branch != self.leg.id() {
            self.branches.push((placement.branch, Signalling::Sip(sip.of_branch())));
        }
        sip.place(self.leg.id(), call, placement, second)
    }

    /// Makes the signalling of a branch the signalling of the leg.
    fn adopt(&mut self, branch: LegId) {
        if let Some(at) = self.branches.iter().position(|(one, _)| *one == branch) {
            (_, self.signalling) = self.branches.swap_remove(at);
        }
        match &self.signalling {
            Signalling::Sip(sip) => sip.adopt(branch, self.leg.id()),
            Signalling::Web(page) => Arc::clone(page).adopt(self.leg.id()),
            Signalling::Internal(_) => {}
        }
    }

    /// Sends an order to the far end, with the header fields that wait for such a message.
    fn send(&mut self, branch: LegId, mut order: SignalCommand) {
        match &mut order {
            SignalCommand::Accept { headers, .. } => headers.append(&mut self.headers),
            SignalCommand::Refuse { status, headers, .. } => {
                *headers = self.final_headers(std::mem::take(headers));
                // The far end waits for this time before its next call.
                if *status == 503 && headers.named("Retry-After").next().is_none() {
                    headers.push(retry_after());
                }
            }
            SignalCommand::End { headers, .. } if branch == self.leg.id() => {
                *headers = self.final_headers(std::mem::take(headers));
            }
            // The branches of a leg that was not answered end with the same fields.
            SignalCommand::End { headers, .. } if self.leg.branches().any(|one| one == branch) => {
                headers.extend(self.headers.iter().cloned());
            }
            _ => {}
        }
        let of_branch = self.branches.iter().find(|(one, _)| *one == branch).map(|(_, signalling)| signalling);
        match of_branch.unwrap_or(&self.signalling) {
            Signalling::Internal(internal) => internal.send(order),
            Signalling::Sip(sip) => sip.send(branch, order),
            Signalling::Web(page) => page.send(order),
        }
    }

    /// Returns the header fields of the message that rejects or ends the call, followed by `more`. In an internal call,
    /// the message has the returned values instead.
    fn final_headers(&mut self, more: HeaderFields) -> HeaderFields {
        let (own, handed_back) = (std::mem::take(&mut self.headers), std::mem::take(&mut self.handed_back));
        let mut headers = match self.signalling {
            Signalling::Internal(_) => handed_back,
            Signalling::Sip(_) | Signalling::Web(_) => own,
        };
        headers.extend(more);
        headers
    }
}

/// Returns the Retry-After field of a 503 response. The value is a random time from 20 to 60 s, so that callers do not
/// all call again at the same time.
fn retry_after() -> (String, String) {
    ("Retry-After".to_owned(), rand::random_range(20..=60).to_string())
}
