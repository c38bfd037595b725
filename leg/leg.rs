//! The machine of one leg.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::EndCause;
use tandem_call::output::{EndReason, HangupReason, LegEvent, Progress};
use tandem_call::program::instruction::RejectReason;
use tandem_id::{Deadline, LegId, Now};

use crate::attempt::{Attempt, LegRoute, Next};
use crate::dtmf::{DigitDedup, DigitForm, WantedForm};
use crate::ending;
use crate::fork::{self, BranchOrder, Contact, Fork, ForkEvent, MediaKind};
use crate::offer_answer::{Describe, Effect, Input, OfferAnswer, Unusable};
use crate::signal::{SignalCommand, SignalEnd, SignalEndCause, SignalEvent, TransferRequest};

/// The usual time for which a leg waits for interrupted signalling.
const LOST_LIMIT: Duration = Duration::from_secs(30);

/// The state of a leg's signalling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignallingState {
    /// The leg is not placed yet.
    #[default]
    New,
    /// Signals pass in both directions.
    Up,
    /// The signalling is interrupted. If it is not resumed by this time, the leg ends.
    Lost {
        /// The end of the wait.
        until: Deadline,
    },
    /// The signalling is over. No signal follows.
    Over,
}

/// One leg: its signalling, its negotiation, and the attempts to place it.
#[derive(Debug)]
pub struct Leg {
    pub(crate) id: LegId,
    pub(crate) signalling: SignallingState,
    pub(crate) negotiation: OfferAnswer,
    /// The kind of media in use.
    pub(crate) media: MediaKind,
    /// The offer to the contacts with the other kind of media, if the leg rings at contacts with two kinds.
    pub(crate) other_offer: Option<Box<OtherOffer>>,
    pub(crate) attempt: Option<Box<Attempt>>,
    pub(crate) fork: Option<Box<Fork>>,
    /// The branch that has answered. Its signals are the leg's, whatever id they have.
    pub(crate) adopted: Option<LegId>,
    pub(crate) digits: DigitDedup,
    /// The form in which the far end wants digits.
    pub wanted_digits: WantedForm,
    /// The time for which interrupted signalling of the leg, or of a branch, is waited for. After this time, the leg or
    /// the branch ends. The usual time is 30 s.
    pub lost_limit: Duration,
    pub(crate) outputs: VecDeque<Output>,
}

/// The offer to the contacts whose kind of media is not in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OtherOffer {
    offer: Bytes,
    negotiation: OfferAnswer,
}

/// An output of a leg. The driver carries out the outputs in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Place the leg.
    Place(Placement),
    /// Send this to the far end.
    Signal {
        /// The leg, or a branch of the leg.
        branch: LegId,
        /// The order.
        command: SignalCommand,
    },
    /// This branch has answered. Its signalling is the leg's signalling from now on.
    Adopt {
        /// The branch.
        branch: LegId,
    },
    /// The signalling of the leg or of a branch is interrupted. The media continues. The driver of a signalling that can
    /// be interrupted holds the orders to this far end until the signalling is resumed or over.
    Lost {
        /// The leg, or a branch of the leg.
        branch: LegId,
    },
    /// The signalling is no longer interrupted. The driver sends the orders that it holds.
    Resumed {
        /// The leg, or a branch of the leg.
        branch: LegId,
    },
    /// Report this to the call.
    Event(LegEvent),
    /// A digit of the far end, which was not reported in another form.
    Digit {
        /// The digit.
        digit: char,
        /// The form in which it arrived.
        form: DigitForm,
    },
    /// The far end asks for a transfer.
    Transfer(Box<TransferRequest>),
    /// A route has failed. The next route is placed with the next output.
    RouteFailed(RouteFailed),
    /// Send silence while the leg has no audio (`true`), or nothing (`false`). RTP before the answer silences the
    /// ringback tone of the caller's phone (RFC 3960 §3.2).
    SendSilence(bool),
}

/// An order to place the leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The leg, or a branch of the leg.
    pub branch: LegId,
    /// The route.
    pub next: Next,
    /// The contact to call, if the route leads to a user with contacts.
    pub contact: Option<Contact>,
    /// The offer. `None` if the far end makes the offer, or if a redirection takes the offer of the first placement.
    pub offer: Option<Bytes>,
    /// Whether another route follows if this one fails.
    pub has_alternatives: bool,
}

/// A route that has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFailed {
    /// The reason, and the trunk that is tried next, as a line for people.
    pub line: String,
    /// The status of the refusal, if there was one.
    pub status: Option<u16>,
    /// The trunk that is tried next.
    pub next: Option<Arc<str>>,
}

impl Leg {
    /// Creates a leg that is not placed yet.
    pub fn outgoing(id: LegId) -> Self {
        Self {
            id,
            signalling: SignallingState::New,
            negotiation: OfferAnswer::default(),
            media: MediaKind::default(),
            other_offer: None,
            attempt: None,
            fork: None,
            adopted: None,
            digits: DigitDedup::default(),
            wanted_digits: WantedForm::default(),
            lost_limit: LOST_LIMIT,
            outputs: VecDeque::new(),
        }
    }

    /// Creates a leg whose far end calls this server.
    pub fn incoming(id: LegId) -> Self {
        Self { signalling: SignallingState::Up, ..Self::outgoing(id) }
    }

    /// Returns the id of the leg.
    pub fn id(&self) -> LegId {
        self.id
    }

    /// Returns the kind of media in use.
    pub fn media(&self) -> MediaKind {
        self.media
    }

    /// Returns the state of the negotiation.
    pub fn negotiation(&self) -> &OfferAnswer {
        &self.negotiation
    }

    /// Returns the state of the signalling.
    pub fn signalling(&self) -> SignallingState {
        self.signalling
    }

    /// Whether the signalling is over or does not exist yet.
    pub fn is_gone(&self) -> bool {
        matches!(self.signalling, SignallingState::New | SignallingState::Over)
    }

    /// Returns the branches whose signals may still come.
    pub fn branches(&self) -> impl Iterator<Item = LegId> {
        self.fork.iter().flat_map(|fork| fork.branches()).chain(self.adopted)
    }

    /// Gives up the routes after the route that is being tried, and the session of the other kind of media.
    pub fn keep_route(&mut self) {
        self.other_offer = None;
        if let Some(attempt) = &mut self.attempt {
            attempt.give_up();
        }
    }

    /// Returns the next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the time at which [`Leg::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let lost = match self.signalling {
            SignallingState::Lost { until } => Some(until),
            SignallingState::New | SignallingState::Up | SignallingState::Over => None,
        };
        [lost, self.fork.as_ref().and_then(|fork| fork.poll_timeout())].into_iter().flatten().min()
    }

    /// Handles the time. `media` and `fresh` are as in [`Leg::handle_signal`].
    pub fn handle_timeout<M: Describe>(&mut self, now: Now, media: Option<&mut M>, fresh: &mut impl FnMut() -> LegId) {
        if let Some(fork) = &mut self.fork {
            let means = fork.handle_timeout(now, fresh);
            self.handle_fork(now, self.id, means, media, fresh);
        }
        if let SignallingState::Lost { until } = self.signalling
            && until.instant() <= now.instant
        {
            let headers = HeaderFields::new();
            self.signal(SignalCommand::End { status: 480, reason: None, headers });
            self.report_end(fork::not_resumed());
        }
    }

    // ---- orders of the call ----

    /// Calls a far end to which the driver connects the leg itself, without a route. Returns the offer.
    pub fn call(&mut self, media: &mut impl Describe) -> Bytes {
        self.signalling = SignallingState::Up;
        self.negotiation.place(false, media).unwrap_or_default()
    }

    /// Begins a leg whose far end calls.
    ///
    /// # Errors
    /// If the offer cannot be used. The leg should be refused.
    pub fn begin(&mut self, offer: Option<Bytes>, media: &mut impl Describe) -> Result<(), Unusable> {
        self.negotiation.begin(offer, media)
    }

    /// Places the leg on the first route. `fresh` makes ids of branches.
    pub fn place<M: Describe>(
        &mut self,
        now: Now,
        routes: Vec<LegRoute>,
        media: &mut M,
        fresh: &mut impl FnMut() -> LegId,
    ) {
        self.media = routes.first().map(LegRoute::media).unwrap_or_default();
        self.attempt = Some(Box::new(Attempt::new(routes)));
        self.place_route(now, 0, Some(media), fresh);
    }

    /// Uses other codecs in the answer that is not sent yet, because the codecs of the bridged leg have changed.
    pub fn prefer(&mut self, media: &mut impl Describe) {
        self.negotiation.prefer(media);
    }

    /// Reports progress to the calling far end: 180 or 183, with or without a description.
    pub fn ring(&mut self, progress: Progress, media: Option<&mut impl Describe>) {
        let early = progress.early_media && self.negotiation.is_agreed();
        let sdp = media.and_then(|media| self.negotiation.ring(progress.early_media, media));
        let alerting = progress.alerting || progress.early_media && !(early && sdp.is_some());
        if early && sdp.is_some() {
            self.outputs.push_back(Output::SendSilence(false));
        }
        self.signal(SignalCommand::Ring { status: if alerting { 180 } else { 183 }, sdp });
    }

    /// Accepts the call of the far end. Without a media session, refuses it.
    pub fn accept(&mut self, media: Option<&mut impl Describe>) {
        let Some(media) = media else { return self.refuse(RejectReason::Status(500)) };
        let sdp = self.negotiation.accept(media);
        self.outputs.push_back(Output::SendSilence(true));
        self.signal(SignalCommand::Accept { sdp, headers: HeaderFields::new() });
    }

    /// Refuses the call of the far end. The refusal says which part of the offer cannot be used, if that is the reason.
    pub fn refuse(&mut self, reason: RejectReason) {
        let status = match reason {
            RejectReason::Rejected => 603,
            RejectReason::Busy => 486,
            RejectReason::Status(status) => status,
        };
        let (reason, headers) = self.negotiation.take_unusable(status).map(Unusable::into_parts).unwrap_or_default();
        self.signal(SignalCommand::Refuse { status, reason, headers });
    }

    /// Ends the leg. No further route and no redirection is tried.
    pub fn end(&mut self, reason: Option<HangupReason>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.give_up();
        }
        if self.is_gone() {
            return;
        }
        let reason = reason.map(ending::reason_of);
        match self.fork.as_mut().filter(|fork| fork.is_ringing()) {
            Some(fork) => {
                let over = fork.end();
                self.end_branches(reason.as_deref());
                if over.is_some() {
                    self.signalling = SignallingState::Over;
                }
            }
            None => self.signal(SignalCommand::End { status: 480, reason, headers: HeaderFields::new() }),
        }
    }

    /// Ends the leg, because its media cannot reach the far end. `why` is the reason for people. The call gets the report
    /// of the end at once. While the signalling is interrupted, this has no effect: a page that is reloaded closes its
    /// media connection, and comes back with another one.
    pub fn fail_media(&mut self, why: String) {
        if self.is_gone() || matches!(self.signalling, SignallingState::Lost { .. }) {
            return;
        }
        self.end(Some(HangupReason { cause: EndCause::Failed, answered_elsewhere: false }));
        let event = LegEvent::Ended { reason: EndReason::Failed, sip_status: None, detail: Some(why) };
        self.outputs.push_back(Output::Event(event));
    }

    /// Sends this order to the far end.
    pub fn signal(&mut self, command: SignalCommand) {
        self.signal_to(self.id, command);
    }

    fn signal_to(&mut self, branch: LegId, command: SignalCommand) {
        self.outputs.push_back(Output::Signal { branch, command });
    }

    /// Handles a digit of the far end in this form. A digit that has arrived in another form is ignored.
    pub fn handle_digit(&mut self, now: Now, digit: char, form: DigitForm) {
        if self.digits.handle(now.instant, digit, form) {
            self.outputs.push_back(Output::Digit { digit, form });
        }
    }

    // ---- signals of the far end ----

    /// Handles a signal of the leg or of one of its branches. `media` is the media session, if there is one. `fresh`
    /// makes ids of branches.
    pub fn handle_signal<M: Describe>(
        &mut self,
        now: Now,
        branch: LegId,
        event: SignalEvent,
        media: Option<&mut M>,
        fresh: &mut impl FnMut() -> LegId,
    ) {
        if branch == self.id || self.adopted == Some(branch) {
            return self.handle_own(now, self.id, event, media, fresh);
        }
        let Some(fork) = &mut self.fork else { return };
        match event {
            SignalEvent::Lost => {
                if Deadline::after(now, self.lost_limit).is_some_and(|until| fork.lose(branch, until)) {
                    self.outputs.push_back(Output::Lost { branch });
                }
                return;
            }
            SignalEvent::Resumed => {
                if fork.resume(branch) {
                    self.outputs.push_back(Output::Resumed { branch });
                }
                return;
            }
            _ => {}
        }
        let means = fork.handle(now, branch, event, fresh);
        self.handle_fork(now, branch, means, media, fresh);
    }

    /// Carries out the orders of the fork, and handles the meaning of an event of this branch.
    fn handle_fork<M: Describe>(
        &mut self,
        now: Now,
        branch: LegId,
        mut means: ForkEvent,
        mut media: Option<&mut M>,
        fresh: &mut impl FnMut() -> LegId,
    ) {
        // A branch for whose media there is no room ends, and other contacts may ring then.
        while let Some(refused) = self.serve_fork(media.as_deref_mut()) {
            let Some(fork) = &mut self.fork else { return };
            if let over @ ForkEvent::Over(_) = fork.refuse(now, refused, fresh) {
                means = over;
            }
        }
        match means {
            ForkEvent::Nothing => {}
            ForkEvent::Pass(event) => self.handle_own(now, branch, event, media, fresh),
            ForkEvent::Answered(kind, event) => {
                self.adopted = Some(branch);
                self.outputs.push_back(Output::Adopt { branch });
                if let Some(media) = media.as_deref_mut() {
                    self.keep_media(kind, media);
                }
                self.handle_own(now, self.id, event, media, fresh);
            }
            ForkEvent::Over(end) => self.handle_end(now, end, media, fresh),
        }
        self.fork.take_if(|fork| fork.is_over());
    }

    /// Uses the media of this kind from now on, and closes the session of the other kind.
    fn keep_media(&mut self, kind: MediaKind, media: &mut impl Describe) {
        let other = self.other_offer.take();
        if let Some(other) = other.filter(|_| kind != self.media) {
            (self.media, self.negotiation) = (kind, other.negotiation);
            media.switch();
        }
        media.close_other();
    }

    /// Handles a signal of the leg, or a signal of a branch that concerns the leg. `branch` gets the response.
    fn handle_own<M: Describe>(
        &mut self,
        now: Now,
        branch: LegId,
        event: SignalEvent,
        media: Option<&mut M>,
        fresh: &mut impl FnMut() -> LegId,
    ) {
        if self.is_gone() {
            return;
        }
        match event {
            SignalEvent::Ringing { status, sdp } => {
                let early_media = self.negotiate(Input::Ringing(sdp.as_deref()), media) == Effect::EarlyMedia;
                // 181 and 182 say that the call is forwarded or waits, and 199 says that a branch has ended (RFC 6228).
                // After none of these responses does a phone ring.
                if early_media || !matches!(status, 181 | 182 | 199) {
                    let progress = Progress { alerting: status == 180, early_media };
                    self.outputs.push_back(Output::Event(LegEvent::Ringing { progress }));
                }
            }
            SignalEvent::Accepted { sdp, headers, dialog } => {
                let Some(media) = media else { return };
                match self.negotiate(Input::Accepted(sdp.as_deref()), Some(&mut *media)) {
                    Effect::Accepted => {
                        // An end of the answered call is no reason to call another contact or route.
                        if let Some(attempt) = &mut self.attempt {
                            attempt.give_up();
                        }
                        let codec = media.codec().map(str::to_owned);
                        self.outputs.push_back(Output::Event(LegEvent::Answered { codec, headers, dialog }));
                    }
                    effect => self.carry_out(branch, effect),
                }
            }
            SignalEvent::Acknowledged { sdp } => self.exchange(branch, Input::Acknowledged(sdp.as_deref()), media),
            SignalEvent::Offered { sdp: Some(sdp), refusable } => {
                self.exchange(branch, Input::Offer(&sdp, refusable), media);
            }
            SignalEvent::Offered { sdp: None, .. } => self.exchange(branch, Input::OfferWanted, media),
            SignalEvent::OfferAnswered { sdp } => self.exchange(branch, Input::Answer(&sdp), media),
            SignalEvent::OfferRefused { .. } => self.exchange(branch, Input::Refused, media),
            SignalEvent::RefreshDue => self.exchange(branch, Input::RefreshDue, media),
            SignalEvent::Digit(digit) => self.handle_digit(now, digit, DigitForm::Signal),
            SignalEvent::Referred(request) => self.outputs.push_back(Output::Transfer(request)),
            SignalEvent::ReferAnswered { status } => {
                self.outputs.push_back(Output::Event(LegEvent::ReferAnswered { status }));
            }
            SignalEvent::ReferProgress { status, done } => {
                self.outputs.push_back(Output::Event(LegEvent::ReferProgress { status, done }));
            }
            SignalEvent::Lost => {
                if let (SignallingState::Up, Some(until)) = (self.signalling, Deadline::after(now, self.lost_limit)) {
                    self.signalling = SignallingState::Lost { until };
                    self.outputs.push_back(Output::Lost { branch: self.id });
                }
            }
            SignalEvent::Resumed => {
                if let SignallingState::Lost { .. } = self.signalling {
                    self.signalling = SignallingState::Up;
                    self.outputs.push_back(Output::Resumed { branch: self.id });
                }
            }
            SignalEvent::Ended(end) => self.handle_end(now, *end, media, fresh),
        }
    }

    /// Handles an input of the negotiation and carries out its effect.
    fn exchange(&mut self, branch: LegId, input: Input<'_>, media: Option<&mut impl Describe>) {
        let effect = self.negotiate(input, media);
        self.carry_out(branch, effect);
    }

    fn negotiate(&mut self, input: Input<'_>, media: Option<&mut impl Describe>) -> Effect {
        let effect = media.map_or(Effect::Nothing, |media| self.negotiation.handle(input, media));
        if self.negotiation.is_agreed()
            && let Some(attempt) = &mut self.attempt
        {
            attempt.note_reached();
        }
        effect
    }

    fn carry_out(&mut self, branch: LegId, effect: Effect) {
        match effect {
            Effect::Send(command) => self.signal_to(branch, command),
            Effect::Failed(why) => self.end_without_audio(&why),
            Effect::Nothing | Effect::EarlyMedia | Effect::Accepted => {}
        }
    }

    /// Ends an answered leg whose media cannot be agreed. An answered call cannot be refused, so the end carries the
    /// reason that a refusal would carry.
    fn end_without_audio(&mut self, why: &str) {
        if let Some(attempt) = &mut self.attempt {
            attempt.give_up();
        }
        let reason = Some(ending::NOT_ACCEPTABLE.to_owned());
        self.signal(SignalCommand::End { status: 488, reason, headers: HeaderFields::new() });
        let detail = Some(format!("its SDP has no usable audio: {why}"));
        let event = LegEvent::Ended { reason: EndReason::Failed, sip_status: Some(488), detail };
        self.outputs.push_back(Output::Event(event));
    }

    // ---- ends, routes and branches ----

    /// Handles the end of the signalling: places the leg again, or reports the end.
    fn handle_end<M: Describe>(
        &mut self,
        now: Now,
        end: SignalEnd,
        media: Option<&mut M>,
        fresh: &mut impl FnMut() -> LegId,
    ) {
        self.signalling = SignallingState::Over;
        self.fork = None;
        let next = self.attempt.as_mut().filter(|_| media.is_some()).and_then(|attempt| {
            let failed = attempt.route().cloned();
            attempt.next(&end).map(|next| (failed, next))
        });
        match next {
            None => self.report_end(end),
            Some((failed, Next::Route(index))) => {
                let why = ending::why(failed.as_ref(), &end).unwrap_or_default();
                let next = self.attempt.as_ref().and_then(|attempt| attempt.route()?.trunk.clone());
                let line = format!("{why}; next: trunk \"{}\"", next.as_deref().unwrap_or_default());
                self.outputs.push_back(Output::RouteFailed(RouteFailed { line, status: end.status, next }));
                self.place_route(now, index, media, fresh);
            }
            Some((_, next @ Next::Redirect(..))) => {
                self.signalling = SignallingState::Up;
                let has_alternatives = self.attempt.as_ref().is_some_and(|attempt| attempt.has_alternatives());
                let (branch, contact, offer) = (self.id, None, None);
                let placement = Placement { branch, next, contact, offer, has_alternatives };
                self.outputs.push_back(Output::Place(placement));
            }
        }
    }

    /// Reports the end of the signalling, unless this server has ended it.
    fn report_end(&mut self, end: SignalEnd) {
        self.signalling = SignallingState::Over;
        if end.cause == SignalEndCause::Local {
            return;
        }
        let detail = ending::why(self.attempt.as_ref().and_then(|attempt| attempt.route()), &end);
        let event = LegEvent::Ended { reason: ending::kind_of(&end), sip_status: end.status, detail };
        self.outputs.push_back(Output::Event(event));
    }

    fn place_route<M: Describe>(
        &mut self,
        now: Now,
        index: usize,
        media: Option<&mut M>,
        fresh: &mut impl FnMut() -> LegId,
    ) {
        let Some(attempt) = &self.attempt else { return };
        let (Some(route), Some(media)) = (attempt.route(), media) else { return };
        let (late, user, has_alternatives) = (route.late_offer, route.user.clone(), attempt.has_alternatives());
        let kind = route.media();
        if kind != self.media {
            if self.other_offer.is_none() && !media.open_other() {
                return self.report_end(SignalEnd::of(SignalEndCause::Overloaded));
            }
            media.switch();
            self.media = kind;
        }
        self.other_offer = None;
        media.close_other();
        media.use_route(index);
        media.use_media(kind);
        self.wanted_digits = route.wanted_digits;
        let offer = self.negotiation.place(late, media);
        self.signalling = SignallingState::Up;
        match user {
            None => {
                let (branch, next, contact) = (self.id, Next::Route(index), None);
                let placement = Placement { branch, next, contact, offer, has_alternatives };
                self.outputs.push_back(Output::Place(placement));
            }
            Some(user) if user.contacts.is_empty() => {
                self.handle_end(now, fork::not_reachable(&user.name), Some(media), fresh);
            }
            Some(user) => {
                self.fork = Some(Box::new(Fork::new(now, user.contacts, offer, fresh)));
                self.handle_fork(now, self.id, ForkEvent::Nothing, Some(media), fresh);
            }
        }
    }

    /// Carries out the orders of the fork. Returns a branch that cannot be called, because there is no room for its
    /// media. The other orders wait then.
    fn serve_fork(&mut self, mut media: Option<&mut impl Describe>) -> Option<LegId> {
        while let Some((branch, order)) = self.fork.as_mut()?.poll_order() {
            match order {
                BranchOrder::Place(contact) => {
                    let Some(offer) = self.offer_to(contact, media.as_deref_mut()) else { return Some(branch) };
                    let attempt = self.attempt.as_ref()?;
                    let (next, has_alternatives) = (Next::Route(attempt.index()), attempt.has_alternatives());
                    let placement = Placement { branch, next, contact: Some(contact), offer, has_alternatives };
                    self.outputs.push_back(Output::Place(placement));
                }
                BranchOrder::RefuseOffer => {
                    let (status, reason, headers) = (488, None, HeaderFields::new());
                    self.signal_to(branch, SignalCommand::RefuseOffer { status, reason, headers });
                }
                BranchOrder::End { answered_elsewhere } => self.end_branch(branch, answered_elsewhere, None),
            }
        }
        None
    }

    /// Ends the branches of a fork that this server ends. `reason` is the reason with which the branches end.
    fn end_branches(&mut self, reason: Option<&str>) {
        while let Some((branch, order)) = self.fork.as_mut().and_then(|fork| fork.poll_order()) {
            if let BranchOrder::End { answered_elsewhere } = order {
                self.end_branch(branch, answered_elsewhere, reason);
            }
        }
    }

    fn end_branch(&mut self, branch: LegId, answered_elsewhere: bool, reason: Option<&str>) {
        let reason = if answered_elsewhere { Some(ending::ELSEWHERE) } else { reason };
        let reason = reason.map(str::to_owned);
        self.signal_to(branch, SignalCommand::End { status: 487, reason, headers: HeaderFields::new() });
    }

    /// Returns the offer to a contact. The first contact whose media is of the other kind opens a session for it. Returns
    /// `None` if there is no room for this session.
    fn offer_to(&mut self, contact: Contact, media: Option<&mut impl Describe>) -> Option<Option<Bytes>> {
        if contact.media == self.media {
            return Some(self.fork.as_ref()?.offer().cloned());
        }
        if self.other_offer.is_none() {
            let media = media?;
            if !media.open_other() {
                return None;
            }
            media.switch();
            media.use_media(contact.media);
            let mut negotiation = OfferAnswer::default();
            let offer = negotiation.place(false, media).unwrap_or_default();
            media.switch();
            self.other_offer = Some(Box::new(OtherOffer { offer, negotiation }));
        }
        self.other_offer.as_ref().map(|other| Some(other.offer.clone()))
    }
}

#[cfg(test)]
mod tests;
