//! The task of one call. The task drives the pure [`Call`], performs the outputs of the `Call`, and passes the results
//! back to the `Call`.
//!
//! No code in this module waits for an application or another call. Slow work runs in a separate task, which reports to
//! the [inbox](crate::inbox). The documentation of the inbox describes what happens when the inbox is full. Records and
//! notices go to bounded queues, because none of them may be lost. If a queue is full, the task waits for a free place
//! and handles no message: when 16,384 writes of the server wait for the database ([`tandem_store::writer`]), or 1,024
//! notices of this call. This happens only when the database has been slow or unreachable for some time. Audio
//! continues.
//!
//! The files of this module together implement [`CallTask`], so these files use each other.

pub(crate) mod conferencing;
mod converse;
mod event_data;
mod inspect;
mod internal_call;
mod perform;
mod port;
mod publish;
mod queueing;
mod recognition;
mod remote;
mod siprec;
mod streaming;
mod supervise;
mod transfer;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_audio::{AudioError, Loaded};
use tandem_call::call::Call;
use tandem_call::command::{Accepted, Refused};
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::event::{CallEvent, EventKind, PlaybackEnd};
use tandem_call::fetch::FetchFailure;
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegInfo, Status};
use tandem_call::new_leg::NewLeg;
use tandem_call::output::{EndReason, LegEvent};
use tandem_call::program::instruction::{Program, RejectReason};
use tandem_call::route::{Decision, Route};
use tandem_causes::{Cause, NO_MEDIA, NO_MEDIA_CONNECTION};
use tandem_history::problem::Problem;
use tandem_history::records;
use tandem_history::stored_log;
use tandem_host::clock;
use tandem_id::Now;
use tandem_id::{CallId, LegId, OpId};
use tandem_leg::dtmf::DigitForm;
use tandem_leg::offer_answer::Unusable;
use tandem_leg::signal::SignalEvent;
use tandem_legs::sip::{PendingCall, SipSignalling};
use tandem_legs::{LegIo, LegReport, OpenSession, RouteMedia, Signalling};
use tandem_media as media;
use tandem_metrics::quality;
use tandem_store as store;
use tandem_webhooks::Submitted;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::call_state::{CallState, LiveLeg, MovedCall};
use crate::inbox::{FetchedDocument, Inbox, LoggedExchange, Message, Messages};
use crate::registry::Registry;
use crate::reporting::ProblemOwner;
use crate::services::Services;

/// The lines of the call's log about the connection of a far end with ICE.
const CONNECTION_INTERRUPTED: &str =
    "the far end has answered no connectivity check for 15 s: its network may have changed";
const CONNECTION_RESTORED: &str = "the far end answers connectivity checks again";

/// Maximum time for which an ended call waits for the final events of its legs.
const FINAL_EVENTS_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) enum CallStart {
    Incoming {
        info: Box<LegInfo>,
        /// The message of the call as a line for the log.
        line: String,
        /// The SDP offer, if the call has one.
        offer: Option<bytes::Bytes>,
        signalling: Signalling,
        /// The settings of the leg's media, from the routing that has found the route (ADR 28).
        media: RouteMedia,
        route: Box<Route>,
        /// Measures how long the call waits. The value is dropped when the first outputs are performed.
        waiting: PendingCall,
    },
    /// An outbound call that an application requested.
    Outgoing(Vec<NewLeg>),
}

/// Spawns the task of a call.
pub(crate) fn spawn(registry: Registry, id: CallId, inbox: Inbox, messages: Messages, start: CallStart) {
    let task = Box::new(CallTask {
        state: CallState::new(Call::new(id, rand::random(), clock::now())),
        services: Arc::clone(registry.services()),
        registry,
        inbox,
        has_fetched: false,
        notices: None,
        answers: Vec::new(),
        refused: Vec::new(),
        refused_offer: None,
        expected: None,
    });
    // The task is in a box, because otherwise the spawn would copy the task eight times. The future lives as long as
    // the call. So the future does not contain state that few calls need, or that a call needs only briefly. A test
    // checks the size of the future.
    //
    // Each log line contains the id of the call. A span would be entered and left at each wake-up, for only two log
    // lines in total.
    tokio::spawn(Box::pin(task.run(messages, start)));
}

type Answer = Result<Accepted, Refused>;

struct CallTask {
    /// The state that moves into another call when two calls are merged.
    state: CallState,
    services: Arc<Services>,
    registry: Registry,
    inbox: Inbox,
    /// Whether the call has requested a document from an application.
    has_fetched: bool,
    /// The channel to the task that sends the call's notices in order, and the handle of this task.
    notices: Option<(mpsc::Sender<Submitted>, JoinHandle<()>)>,
    /// The replies to requests. A reply is sent after the outputs of its request are performed.
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    /// The new legs that the call refused, each with the reason.
    refused: Vec<(LegInfo, String)>,
    /// The reason why the SDP offer of the inbound leg was refused, if it was refused.
    refused_offer: Option<String>,
    /// Completes when it is certain that no other call will be merged into this call. This call does not end before
    /// this receiver completes.
    expected: Option<oneshot::Receiver<()>>,
}

enum LoopStep {
    Continue,
    Over,
    /// The complete state of this call moves into the call with this inbox.
    MergeInto(Inbox, oneshot::Sender<()>),
}

impl CallTask {
    async fn run(mut self: Box<Self>, mut messages: Messages, start: CallStart) {
        let waiting = self.begin(start);
        self.perform().await;
        drop(waiting);
        let mut teardown = None;
        // The timer is reset only when the time changes. Few messages change the time.
        let mut alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut set = None;
        loop {
            if self.state.call.is_finished() && self.expected.is_none() {
                if self.state.facts.ended.is_empty() {
                    break;
                }
                teardown.get_or_insert_with(|| tokio::time::Instant::now() + FINAL_EVENTS_TIMEOUT);
            } else {
                teardown = None;
            }
            let timer = [self.state.call.poll_timeout(), self.leg_timeout()].into_iter().flatten().min();
            let wake = timer.map(Into::into).or(teardown);
            if let Some(at) = wake.filter(|at| set != Some(*at)) {
                alarm.as_mut().reset(at);
                set = Some(at);
            }
            let turn = tokio::select! {
                // Messages go first, because waiting messages are older than the alarm.
                biased;
                message = messages.next() => match message {
                    Some(message) => self.handle_message(message),
                    None => LoopStep::Over,
                },
                () = &mut alarm, if wake.is_some() => {
                    let now = clock::now();
                    self.state.call.handle_timeout(now);
                    self.handle_leg_timeouts(now);
                    if teardown.is_some_and(|at| at <= tokio::time::Instant::now()) { LoopStep::Over } else { LoopStep::Continue }
                }
                () = settled(&mut self.expected), if self.expected.is_some() => LoopStep::Continue,
            };
            self.perform().await;
            match turn {
                LoopStep::Continue => {}
                LoopStep::Over => break,
                LoopStep::MergeInto(target, done) => {
                    // The notices of this call must be sent before the notices of the target call.
                    self.finish_notices().await;
                    match self.merge_into(&target, done) {
                        // Messages arrive here as long as other tasks hold the address of this inbox. These messages
                        // are forwarded.
                        Ok(()) => return forward(messages, &target).await,
                        Err(still_here) => self = still_here,
                    }
                }
            }
        }
        messages.close();
        while let Some(message) = messages.next().await {
            match message {
                // Late requests are refused. Late reports have no effect.
                Message::NewLegs(legs) => {
                    // Only `info` stays alive across the await. Complete legs would enlarge the task's future during
                    // the whole call.
                    for info in legs.into_iter().map(|leg| leg.info) {
                        self.refuse_leg(info, "the call is over").await;
                    }
                }
                Message::Exchanged(exchange) => self.note_exchange(*exchange),
                Message::Fetched(fetched) => drop(self.note_fetched(clock::time(), *fetched)),
                Message::Log(reply) => drop(reply.send(self.inbox.log().content())),
                _ => {}
            }
        }
        self.finish_notices().await;
        let log = std::mem::take(&mut *self.inbox.log());
        stored_log::write(log, &self.services.store, &self.state.facts.sessions, clock::time());
        // Legs whose final event did not arrive in time are unregistered too.
        let live = self.state.legs.values().flat_map(|live| live.io.branches());
        self.registry.forget_branches(
            live.chain(self.state.facts.ended.values().flat_map(|teardown| teardown.branches.clone())),
        );
        let legs = self.state.facts.ended.keys().chain(self.state.legs.keys()).map(|leg| leg.0);
        for id in legs.chain(self.state.facts.sessions.iter().map(|session| session.0)) {
            self.registry.forget(id);
        }
    }

    async fn finish_notices(&mut self) {
        if let Some((notices, notifier)) = self.notices.take() {
            drop(notices);
            // The notifier task ends by itself. If this task has panicked, there is nothing to write.
            let _ = notifier.await;
        }
    }

    fn begin(&mut self, start: CallStart) -> PendingCall {
        match start {
            CallStart::Outgoing(legs) => {
                legs.into_iter().for_each(|leg| self.add_leg(leg));
                PendingCall::default()
            }
            CallStart::Incoming { mut info, line, offer, signalling, media: settings, route, waiting } => {
                let leg = info.id;
                self.note_line(info.created_at, leg, "sip", line);
                let session = match &signalling {
                    Signalling::Internal(_) => self.open_internal_media(leg),
                    Signalling::Sip(_) | Signalling::Web(_) => {
                        // Without an offer, the far end most likely has the address family of its signalling.
                        let far_end = offer.as_deref().and_then(media::offered_address).or(info.sip.source_ip);
                        self.open(leg, (far_end, info.sip.source_ip), &settings)
                    }
                };
                let mut io = LegIo::incoming(leg, signalling);
                match session {
                    Ok(session) => match io.accept_offer(session, &settings, offer.clone()) {
                        Ok(()) => {
                            info.sip.offered_codecs = io.offered_codecs().into();
                            info.sip.codec = io.codec().map(str::to_owned);
                            self.state.legs.insert(leg, Box::new(LiveLeg::new(io)));
                            self.state.call.handle_incoming(clock::now(), *info, *route);
                        }
                        Err(Unusable { status, why, .. }) => {
                            self.note_line(info.created_at, leg, "media", format!("SDP offer refused: {why}"));
                            self.refused_offer = Some(why.clone());
                            let decision = Decision::Refuse(status, why);
                            self.refuse(leg, io, *info, offer.as_deref(), *route, decision);
                        }
                    },
                    Err(status) => {
                        let decision = Decision::Reject(RejectReason::Status(status));
                        self.refuse(leg, io, *info, offer.as_deref(), *route, decision);
                    }
                }
                waiting
            }
        }
    }

    /// Refuses a call that cannot have audio, and stores a record of the call.
    fn refuse(
        &mut self,
        leg: LegId,
        io: LegIo,
        mut info: LegInfo,
        offer: Option<&[u8]>,
        mut route: Route,
        decision: Decision,
    ) {
        info.sip.offered_codecs = offer.map_or_else(Vec::new, media::offered_codecs).into();
        self.state.legs.insert(leg, Box::new(LiveLeg::new(io)));
        route.decision = decision;
        self.state.call.handle_incoming(clock::now(), info, route);
    }

    fn add_leg(&mut self, new: NewLeg) {
        let info = new.info.clone();
        if let Err(refused) = self.state.call.handle_new_leg(clock::now(), new) {
            self.refused.push((info, refused.to_string()));
        }
    }

    /// Reports the end of a leg that this server has accepted and the call refuses to add. The report is the same as
    /// for every other leg.
    fn refuse_leg(&mut self, mut info: LegInfo, why: &str) -> impl Future<Output = ()> + Send {
        let now = clock::now();
        info.status = Status::Failed;
        let detail = Some(format!("leg not added: {why}"));
        let (cause, by) = (EndCause::Failed, EndedBy::Server);
        info.end = Some(LegEnd { at: now.time, cause, by, sip_status: None, detail, failure: None });
        let leg = info.id;
        let event = Box::new(CallEvent { at: now.time, leg: Arc::new(info), kind: EventKind::Ended });
        async move {
            self.publish(event).await;
            self.release(leg);
        }
    }

    /// Stores the leg's current state.
    fn record(&self, info: &Arc<LegInfo>, at: jiff::Timestamp) {
        self.registry.live().update(info, &self.inbox);
        store::calls::update(&self.services.store, records::call_row(info, at));
    }

    /// Opens the media session of a leg with these settings. `far_end` is an address of the far end, which has the
    /// address family of its audio. `source` is the far end's address in SIP, if it is known.
    fn open(
        &self,
        leg: LegId,
        (far_end, source): (Option<IpAddr>, Option<IpAddr>),
        settings: &RouteMedia,
    ) -> Result<media::Session, u16> {
        let spec = media::OpenSpec { far_end: far_end.into(), ..media::OpenSpec::new(leg, self.state.call.id().0) };
        let opened = self.services.media.open(spec, self.inbox.sink(leg));
        let mut session = self.media_session(leg, opened)?;
        session.set_sip_source(source);
        settings.apply(&mut session);
        Ok(session)
    }

    /// Returns the function that opens another media session for a leg, with another key. The other arguments are as in
    /// [`CallTask::open`].
    fn opener(&self, leg: LegId, (far_end, source): (Option<IpAddr>, Option<IpAddr>)) -> OpenSession {
        let (services, inbox, affinity) = (Arc::clone(&self.services), self.inbox.clone(), self.state.call.id().0);
        Box::new(move || {
            let key = LegId::new(clock::time(), &mut rand::rng());
            let spec = media::OpenSpec { far_end: far_end.into(), ..media::OpenSpec::new(key, affinity) };
            let opened = services.media.open(spec, inbox.sink(leg)).inspect_err(|error| {
                inbox.log().push(clock::time(), Some(leg), "media", format!("a contact does not ring: {error}"));
            });
            let mut session = opened.ok()?;
            session.set_sip_source(source);
            Some(session)
        })
    }

    /// Adds the reason to the call's log if the media engine has no session for a leg. The end of the leg reports the
    /// problem. An error is the status with which the leg is refused.
    fn media_session(
        &self,
        leg: LegId,
        opened: Result<media::Session, media::OpenError>,
    ) -> Result<media::Session, u16> {
        opened.map_err(|error| {
            self.note_line(clock::time(), leg, "media", format!("{NO_MEDIA}: {error}"));
            503
        })
    }

    fn handle_message(&mut self, message: Message) -> LoopStep {
        let now = clock::now();
        match message {
            Message::SendSignal(leg, order) => {
                if let Some(live) = self.state.legs.get_mut(&leg) {
                    live.io.signal(order);
                }
            }
            Message::Signal { leg, branch, event } => self.handle_signal(now, leg, branch, event),
            Message::Media(leg, event) => self.handle_media(now, leg, *event),
            Message::Fetched(fetched) => {
                let (leg, id, other_dialect) = (fetched.leg.id, fetched.id, fetched.other_dialect.clone());
                // The log line of the request must come before the log lines of the effects, which have the same time.
                let result = self.note_fetched(now.time, *fetched);
                if let Some(dialect) = other_dialect {
                    self.state.call.set_dialect(leg, dialect);
                }
                self.state.call.handle_fetched(now, leg, id, result);
            }
            Message::Rendered { leg, op, loops, elapsed, audio } => self.handle_audio(leg, op, audio, (loops, elapsed)),
            Message::StreamOpen { leg, id } => {
                let waiting_invite = self.state.legs.get_mut(&leg).and_then(|live| {
                    live.attachments.streams.get_mut(&id)?.delays_invite = false;
                    live.facts.waiting_invite.take()
                });
                waiting_invite.into_iter().for_each(|invite| self.invite(leg, *invite));
            }
            Message::StreamReady { leg, id, ready } => self.attach_stream(leg, id, *ready),
            Message::Seated { leg, number, seat } => self.seated(leg, number, *seat),
            Message::EnteredQueue { leg, op, result } => self.entered_queue(leg, op, *result),
            Message::JoinRemote { leg, other, node, wish, reply } => {
                self.join_remote(leg, other, *node, wish, reply);
            }
            Message::JoinedBy { join, reply } => self.joined_by(*join, reply),
            Message::StreamDigits { leg, id, digits } => {
                if let Some(op) =
                    self.state.legs.get(&leg).and_then(|live| live.attachments.streams.get(&id)).map(|stream| stream.op)
                {
                    self.send_dtmf(leg, op, digits);
                }
            }
            Message::Stream { leg, id, status } => {
                // At this point the stream has already ended.
                let delays_invite = self.detach_stream(leg, id).is_some_and(|stream| stream.delays_invite);
                self.state.call.handle_leg(now, leg, LegEvent::Stream { id, status });
                let live = self.state.legs.get_mut(&leg).filter(|_| delays_invite);
                let waiting_invite = live.and_then(|live| live.facts.waiting_invite.take());
                waiting_invite.into_iter().for_each(|invite| self.invite(leg, *invite));
            }
            Message::Conversation { leg, id, update } => self.handle_conversation(leg, id, *update),
            Message::Request { leg, request, reply } => {
                let says_state = request.client_state.is_some();
                let answer = self.state.call.handle_request(now, leg, *request);
                // The request may cause no event, but the REST resource must show the new state. The end of a leg is
                // stored together with the event of the end, after the notices of this event.
                if let (true, Some(info)) = (says_state, self.state.call.leg(leg))
                    && !info.status.is_final()
                {
                    self.record(info, now.time);
                }
                self.answers.push((reply, answer));
            }
            Message::NewLegs(legs) => legs.into_iter().for_each(|leg| self.add_leg(leg)),
            Message::Expect { room, settled } => {
                self.expected = Some(settled);
                // The requesting task may no longer wait for the reply.
                let _ = room.send(self.state.call.room());
            }
            Message::MergeInto { target, room, done } => {
                if room >= self.state.call.legs().count() && !target.same(&self.inbox) {
                    return LoopStep::MergeInto(target, done);
                }
            }
            Message::Merge { moved, done } => {
                self.merge(*moved);
                let _ = done.send(());
            }
            Message::LegEvent(leg, event) => {
                if let LegEvent::Called { queue, .. } = event {
                    self.note_called(leg, queue);
                }
                self.state.call.handle_leg(now, leg, event);
            }
            Message::Exchanged(exchange) => self.note_exchange(*exchange),
            Message::Log(reply) => {
                let _ = reply.send(self.inbox.log().content());
            }
            Message::Inspect(reply) => {
                let _ = reply.send(self.view());
            }
            Message::MeasureQuality { leg, done } => self.measure(leg, done),
            Message::HangupAll => {
                self.state.call.handle_shutdown(now);
            }
        }
        LoopStep::Continue
    }

    fn note_line(&self, at: jiff::Timestamp, leg: LegId, kind: &'static str, text: impl AsRef<str>) {
        self.inbox.log().push(at, Some(leg), kind, text);
    }

    /// Adds a document request to the call's log. Reports a failed request for whose result no leg waits any more.
    /// Returns the result of the request.
    fn note_fetched(&mut self, at: jiff::Timestamp, fetched: FetchedDocument) -> Result<Program, FetchFailure> {
        let FetchedDocument { leg, id, line, exchange, result, .. } = fetched;
        self.note_line(at, leg.id, "webhook", line);
        let unused = result.as_ref().err().filter(|_| !self.state.call.awaits_document(leg.id, id));
        let problem = unused.and_then(|why| self.services.problem_of_unused(&leg, why, exchange.as_ref()));
        if let Some(exchange) = exchange {
            self.inbox.log().push_exchange(Some(leg.id), exchange);
        }
        if let Some(problem) = problem {
            self.report(&leg, at, problem);
        }
        result
    }

    fn note_exchange(&mut self, exchange: LoggedExchange) {
        let LoggedExchange { leg, exchange, line, advice } = exchange;
        let mut log = self.inbox.log();
        line.into_iter().for_each(|line| log.push_line(line));
        log.push_exchange(leg, exchange);
        advice.into_iter().for_each(|line| log.push_advice(line));
    }

    /// Moves the complete state to the call with the inbox `target`. If the target call no longer exists, this call
    /// continues.
    fn merge_into(mut self: Box<Self>, target: &Inbox, done: oneshot::Sender<()>) -> Result<(), Box<Self>> {
        let empty = CallState::new(Call::new(self.state.call.id(), [0; 32], clock::now()));
        let state = std::mem::replace(&mut self.state, empty);
        let log = std::mem::take(&mut *self.inbox.log());
        let Err(moved) = target.post_merge(Box::new(MovedCall { state, log }), done) else { return Ok(()) };
        self.state = moved.state;
        self.inbox.log().append(moved.log);
        Err(self)
    }

    fn merge(&mut self, MovedCall { state, log }: MovedCall) {
        let recorders =
            state.legs.values().flat_map(|live| &live.attachments.siprec_sessions).map(|session| session.id().0);
        let legs = state.call.legs().map(|leg| leg.id.0).chain(state.facts.ended.keys().map(|leg| leg.0));
        for id in legs.chain(recorders).chain(state.facts.sessions.iter().map(|session| session.0)) {
            self.registry.register(id, self.inbox.clone());
        }
        self.state.merge(clock::now(), state);
        self.inbox.log().append(log);
    }

    /// Returns the signalling of a leg over SIP.
    fn sip(&self) -> Signalling {
        Signalling::Sip(SipSignalling::new(Arc::clone(&self.services.sip)))
    }

    /// Handles a signal of a leg, or of a branch of the leg.
    fn handle_signal(&mut self, now: Now, leg: LegId, branch: LegId, event: SignalEvent) {
        if !self.state.legs.contains_key(&leg) || self.state.facts.ended.contains_key(&leg) {
            return self.handle_late_signal(now, leg, branch, event);
        }
        if let Some(returned) = self.state.legs.get(&leg).and_then(|live| live.io.returned(&event)) {
            self.state.call.set_returned(leg, returned);
        }
        self.take_codec_preference(leg);
        if let Some(live) = self.state.legs.get_mut(&leg) {
            live.io.handle_signal(now, branch, event, &mut || self.registry.add_branch(leg));
        }
        self.share_codec_preference(leg);
        self.handle_reports(now, leg);
    }

    /// Handles a signal of a leg whose end was reported, or of the session with a recording server.
    fn handle_late_signal(&mut self, now: Now, leg: LegId, branch: LegId, event: SignalEvent) {
        let Some(teardown) = self.state.facts.ended.get_mut(&leg) else {
            if let Some((owner, id)) = self.siprec_of(leg) {
                self.handle_recorder_event(owner, id, &event);
            }
            return;
        };
        let is_end = matches!(event, SignalEvent::Ended(_));
        if let Some(live) = self.state.legs.get_mut(&leg) {
            live.io.handle_signal(now, branch, event, &mut || self.registry.add_branch(leg));
            // The call has reported the end, so nothing else is reported.
            while live.io.poll_report().is_some() {}
            teardown.dialog |= is_end && live.io.is_gone();
        } else if is_end {
            teardown.branches.retain(|one| *one != branch);
            teardown.dialog |= branch == leg || teardown.branches.is_empty();
        }
        self.remove_ended_leg(leg);
    }

    /// Performs the commands of a leg, and handles the reports of the leg.
    fn handle_reports(&mut self, now: Now, leg: LegId) {
        while let Some(report) = self.state.legs.get_mut(&leg).and_then(|live| live.io.poll_report()) {
            match report {
                LegReport::Event(event) => self.state.call.handle_leg(now, leg, event),
                report => self.handle_report(now, leg, report),
            }
        }
    }

    fn handle_report(&mut self, now: Now, leg: LegId, report: LegReport) {
        match report {
            LegReport::Event(event) => self.post_leg_event(leg, event),
            LegReport::Digit(digit, form) => self.handle_digit(now, leg, digit, form),
            LegReport::Transfer(request) => self.handle_refer(leg, *request),
            LegReport::Lost => self.note_line(now.time, leg, "call", "the connection of the far end is interrupted"),
            LegReport::Resumed => self.note_line(now.time, leg, "call", "the connection of the far end has returned"),
            LegReport::Signed(signing) => {
                self.services.counters.stir.signed(signing.word());
                self.note_line(now.time, leg, "sip", signing.to_string());
            }
            LegReport::RouteFailed(failed) => {
                if let Some(trunk) = self.state.call.leg(leg).and_then(|info| info.sip.trunk.as_ref()) {
                    self.services.counters.failed_over(trunk, failed.status);
                }
                self.note_line(now.time, leg, "sip", failed.line);
                if let Some(trunk) = failed.next {
                    self.state.call.set_trunk(leg, trunk);
                }
            }
        }
    }

    /// Passes a digit to the bridged leg, the streams and the call.
    fn handle_digit(&mut self, now: Now, leg: LegId, digit: char, form: DigitForm) {
        let bridged = self.state.legs.get(&leg).and_then(|live| live.bridged_with);
        if let Some(bridged) = bridged.and_then(|bridged| self.state.legs.get_mut(&bridged)) {
            bridged.io.relay_digit(digit, form);
        }
        let Some(live) = self.state.legs.get(&leg) else { return };
        live.attachments.streams.values().for_each(|stream| stream.dtmf(digit));
        if let Some(conversation) = &live.attachments.conversation {
            conversation.digit(digit);
        }
        self.state.call.handle_leg(now, leg, LegEvent::Dtmf(digit));
    }

    /// Returns the earliest timeout of the legs.
    fn leg_timeout(&self) -> Option<Instant> {
        self.state.legs.values().filter_map(|live| live.io.poll_timeout()).min()
    }

    /// Handles the timeouts of the legs that are due.
    fn handle_leg_timeouts(&mut self, now: Now) {
        let is_due = |live: &LiveLeg| live.io.poll_timeout().is_some_and(|at| at <= now.instant);
        let due: Vec<LegId> = self.state.legs.iter().filter(|(_, live)| is_due(live)).map(|(leg, _)| *leg).collect();
        for leg in due {
            if let Some(live) = self.state.legs.get_mut(&leg) {
                live.io.handle_timeout(now, &mut || self.registry.add_branch(leg));
            }
            self.handle_reports(now, leg);
        }
    }

    /// Returns the bridged leg of this leg. Before a bridge, returns the parent leg, with which this leg will be
    /// bridged.
    fn other_leg(&self, leg: LegId) -> Option<LegId> {
        let joined = self.state.legs.get(&leg).and_then(|live| live.bridged_with);
        joined.or_else(|| self.state.call.leg(leg).and_then(|info| info.parent))
    }

    /// Sets the codec preference of a leg to the preference of its other leg.
    fn take_codec_preference(&mut self, leg: LegId) {
        let preference =
            self.other_leg(leg).and_then(|other| self.state.legs.get(&other)).map(|live| live.io.preference());
        if let (Some(preference), Some(live)) = (preference, self.state.legs.get_mut(&leg)) {
            live.io.prefer(preference);
        }
    }

    /// Gives the other leg the codec preference of this leg, and gives the call the codecs of both legs.
    fn share_codec_preference(&mut self, leg: LegId) {
        let preference = self.state.legs.get(&leg).map(|live| live.io.preference());
        let other = self.other_leg(leg);
        if let (Some(preference), Some(live)) = (preference, other.and_then(|other| self.state.legs.get_mut(&other))) {
            live.io.prefer(preference);
        }
        for one in [Some(leg), other].into_iter().flatten() {
            if let Some(codec) = self.state.legs.get(&one).and_then(|live| live.io.codec()) {
                self.state.call.set_codec(one, codec);
            }
        }
    }

    fn handle_media(&mut self, now: Now, leg: LegId, event: media::Event) {
        if self.state.call.is_remote(leg) && !remote::concerns(&event) {
            return;
        }
        match &event {
            // The log has only the legs of this node.
            media::Event::FirstPacket | media::Event::NextPacket if self.state.call.is_remote(leg) => {}
            media::Event::FirstPacket => self.note_line(now.time, leg, "media", "first packet came"),
            media::Event::NextPacket => self.note_line(now.time, leg, "media", "packets still come after the 180"),
            media::Event::SourceMoved { to } => {
                self.note_line(now.time, leg, "media", format!("RTP now comes from {to}"));
            }
            media::Event::TargetRefused { to } => {
                let text = format!(
                    "the far end's SDP says {to}, where the far end cannot be: nothing is sent there until packets come \
                     from this address"
                );
                self.report_of(leg, "media", Problem::warning(Cause::MediaAddressRefused, text));
            }
            // The engine reports each digit once, whether the digit arrived as telephone-event or as tone.
            media::Event::Dtmf { digit, method, .. } => {
                let form = match method {
                    media::DtmfMethod::Tone => DigitForm::Tone,
                    media::DtmfMethod::Event => DigitForm::Event,
                };
                if let Some(live) = self.state.legs.get_mut(&leg) {
                    live.io.handle_digit(now, *digit, form);
                }
                return self.handle_reports(now, leg);
            }
            media::Event::MarkReached { op, name } => return self.reach_mark(now, leg, *op, name),
            media::Event::StreamOverflow { dropped_ms, .. } => {
                let text = format!("the stream's application is too slow: {dropped_ms} ms of audio dropped");
                self.note_line(now.time, leg, "media", text);
            }
            media::Event::RecordingFinished { dropped, path, .. } if !dropped.is_zero() => {
                let (milliseconds, path) = (dropped.as_millis(), path.display());
                self.services.counters.add_unrecorded(*dropped);
                let text = format!(
                    "the disk was too slow for a recording: {milliseconds} ms of {path} were replaced by silence"
                );
                self.report_of(leg, "media", Problem::new(Cause::DiskSlow, text));
            }
            media::Event::Impaired { cause, value } => {
                self.services.counters.impaired(*cause);
                self.note_line(now.time, leg, "media", quality::complaint(*cause, *value));
            }
            media::Event::AudioMissing { ever, signalled } => {
                self.services.counters.audio_missing(leg);
                let (cause, since) = match ever {
                    true => (Cause::AudioStopped, "for 2 s"),
                    false => (Cause::NoAudio, "since the answer, 2 s ago"),
                };
                let mut text = format!("no audio from the far end: no packet has arrived {since}");
                let ours = self.state.legs.get(&leg).and_then(|live| live.io.media_address());
                if let (Some(theirs), Some(ours)) = (signalled, ours) {
                    let source = self.state.call.leg(leg).and_then(|info| info.sip.source_ip);
                    let other = source.filter(|source| *source != theirs.ip());
                    let other = other.map(|source| format!(", but its SIP comes from {source}")).unwrap_or_default();
                    text.push_str(&format!(". Its SDP says {theirs}{other}; our SDP says {ours}"));
                }
                self.report_of(leg, "media", Problem::warning(cause, text));
            }
            media::Event::AudioResumed => {
                self.services.counters.audio_resumed(leg);
                self.note_line(now.time, leg, "media", "audio from the far end arrives again");
            }
            media::Event::ConnectionEncrypted { certificate } => {
                let text =
                    format!("the media is encrypted with keys of DTLS. The far end's certificate: {certificate}");
                self.note_line(now.time, leg, "media", text);
            }
            media::Event::ConnectionInterrupted => self.note_line(now.time, leg, "media", CONNECTION_INTERRUPTED),
            media::Event::ConnectionRestored => self.note_line(now.time, leg, "media", CONNECTION_RESTORED),
            media::Event::TransportFailed { reason } => {
                self.note_line(now.time, leg, "media", reason.to_string());
                if let Some(live) = self.state.legs.get_mut(&leg) {
                    live.io.fail_media(format!("{NO_MEDIA_CONNECTION}{reason}"));
                }
                return self.handle_reports(now, leg);
            }
            media::Event::SuppressionShed { track } => {
                self.services.counters.suppression_shed();
                let text = format!("noise suppression of {} is paused: the CPU has no time for it", side(*track));
                self.note_line(now.time, leg, "media", text);
            }
            media::Event::SuppressionResumed { track } => {
                let text = format!("noise suppression of {} is on again", side(*track));
                self.note_line(now.time, leg, "media", text);
            }
            media::Event::Stats { stats, series } => return self.measured(now, leg, stats, series),
            media::Event::Closed { stats, series } => return self.closed(now, leg, stats, series),
            _ => {}
        }
        if let Some(leg_event) = tandem_legs::on_media(&event) {
            self.state.call.handle_leg(now, leg, leg_event);
        }
    }

    /// Tells the conversation or the stream of this source that all audio before the mark has been sent or cleared.
    fn reach_mark(&mut self, now: Now, leg: LegId, op: OpId, name: &Arc<str>) {
        let conversation = self.state.legs.get(&leg).and_then(|live| live.attachments.conversation.as_ref());
        if let Some(conversation) = conversation.filter(|own| own.op == op) {
            return conversation.mark(Arc::clone(name));
        }
        if !self.state.call.is_remote(leg) {
            self.note_line(now.time, leg, "media", format!("mark {name:?} reached"));
        }
        let own = self.state.legs.get(&leg).into_iter().flat_map(|live| live.attachments.streams.values());
        // The stream may belong to the current or former bridged leg of this leg.
        let others = self.state.legs.values().flat_map(|live| live.attachments.streams.values());
        let reached =
            own.filter(|stream| stream.op == op).chain(others.filter(|stream| stream.bridged_op() == op)).next();
        if let Some(stream) = reached {
            stream.mark(Arc::clone(name));
        }
    }

    /// Handles the engine's final event of a leg.
    fn closed(&mut self, now: Now, leg: LegId, stats: &media::Stats, series: &[media::QualityPoint]) {
        let is_known = self.state.legs.contains_key(&leg) || self.state.facts.ended.contains_key(&leg);
        // The other node reports on the quality of a remote leg. A remote leg may be released before this event.
        if is_known && !self.state.call.is_remote(leg) {
            self.inbox.log().set_quality(leg, quality::series(series));
            self.note_line(now.time, leg, "media", quality::summary(stats));
            self.services.counters.add_media(stats);
        }
        self.note_one_sided(now, leg, stats);
        let Some(teardown) = self.state.facts.ended.get_mut(&leg) else {
            // The leg has not ended. The engine has closed the media session, and a leg without audio must end.
            if let Some(live) = self.state.legs.get_mut(&leg) {
                live.io.lose_media();
            }
            let detail = Some("the media engine closed the session".to_owned());
            let gone = LegEvent::Ended { reason: EndReason::Failed, sip_status: None, detail };
            return self.state.call.handle_leg(now, leg, gone);
        };
        teardown.media = true;
        if let Some(mut info) = teardown.info.clone() {
            Arc::make_mut(&mut info).sip.quality = Some(quality::of(stats));
            self.record(&info, now.time);
        }
        self.remove_ended_leg(leg);
    }

    /// Logs an answered leg that sent no audio, or that sent audio from an address other than the address in its SDP.
    /// Reports the problem if one party did not hear the other party.
    fn note_one_sided(&self, now: Now, leg: LegId, stats: &media::Stats) {
        let Some(info) = self.state.facts.ended.get(&leg).and_then(|teardown| teardown.info.as_ref()) else { return };
        let Some(one_sided) = quality::one_sided(stats, info.duration(now.time)) else { return };
        // A leg that has lacked audio since its answer has been reported.
        let is_known = one_sided.cause == Cause::NoAudio && self.services.counters.lacks_audio(leg);
        match one_sided.is_wrong && !is_known {
            true => self.report_as(info, "media", Problem::warning(one_sided.cause, one_sided.text)),
            false => self.note_line(now.time, leg, "media", &one_sided.text),
        }
    }

    /// Adds the text of a problem of a live leg to the call's log as a line of this kind, and reports the problem.
    pub(super) fn report_of(&self, leg: LegId, kind: &'static str, problem: Problem) {
        let ended = || self.state.facts.ended.get(&leg).and_then(|teardown| teardown.info.as_ref());
        match self.state.call.leg(leg).or_else(ended) {
            Some(info) => self.report_as(info, kind, problem),
            None => self.services.report(ProblemOwner::Server, clock::time(), problem),
        }
    }

    /// Removes an ended leg when both SIP and the media engine have reported their final event.
    fn remove_ended_leg(&mut self, leg: LegId) {
        if self.state.facts.ended.get(&leg).is_some_and(|teardown| teardown.dialog && teardown.media)
            && let Some(teardown) = self.state.facts.ended.remove(&leg)
        {
            self.registry.forget_branches(teardown.branches.into_iter());
            self.registry.forget(leg.0);
        }
    }

    /// Plays the audio of a playback, or ends the playback. `loops` and `elapsed` are as in [`Message::Rendered`].
    fn handle_audio(
        &mut self,
        leg: LegId,
        op: OpId,
        audio: Result<Loaded, AudioError>,
        (loops, elapsed): (Option<NonZeroU32>, Duration),
    ) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        if live.attachments.renders.remove(&op).is_none() {
            return;
        }
        let failed = match audio {
            Ok(Loaded { audio, instead_of }) => {
                if let Some(why) = instead_of {
                    let failure = EngineFailure::new(Engine::Voice, why).with_effect(EngineEffect::Recovered);
                    self.state.call.handle_leg(clock::now(), leg, LegEvent::EngineFailed(failure));
                }
                let command = media::Command::Play { op, audio, loops, elapsed };
                (!live.io.command(command)).then(|| AudioError::Unusable("no audio path".to_owned()))
            }
            Err(why) => Some(why),
        };
        if let Some(why) = failed {
            let end = match why {
                AudioError::Missing(what) => PlaybackEnd::Missing(what),
                AudioError::Unusable(what) => PlaybackEnd::Failed(what),
            };
            self.state.call.handle_leg(clock::now(), leg, LegEvent::PlayFinished { op, end });
        }
    }
}

/// Returns the name of a direction of a leg's audio, for log lines.
fn side(track: media::Track) -> &'static str {
    match track {
        media::Track::Inbound => "the inbound audio",
        media::Track::Outbound => "the outbound audio",
    }
}

/// Forwards the messages and log lines of a call that was merged into another call.
async fn forward(mut messages: Messages, target: &Inbox) {
    loop {
        let message = messages.next().await;
        let lines = std::mem::take(&mut *messages.log());
        target.log().append(lines);
        let Some(message) = message else { return };
        // The target call may have ended, together with the legs that were moved.
        let _ = target.post(message);
    }
}

/// Returns when no other call will be merged into this call.
async fn settled(expected: &mut Option<oneshot::Receiver<()>>) {
    if let Some(settled) = expected {
        // A dropped sender has the same effect as a reply.
        let _ = settled.await;
    }
    *expected = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the size of the future of an `async fn` with three arguments, in octets.
    fn future<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[tokio::test]
    async fn log_lines_of_a_merged_call_are_in_the_log_of_its_target() {
        let ((inbox, messages), (target, _of_heir)) = (Inbox::new(), Inbox::new());
        inbox.log().push(clock::time(), None, "media", "said before the last word");
        inbox.post(Message::HangupAll).unwrap();
        inbox.log().push(clock::time(), None, "media", "said after it");
        drop(inbox);
        forward(messages, &target).await;
        let lines: Vec<_> = target.log().lines().into_iter().map(|line| line.text).collect();
        assert_eq!(lines, ["said before the last word", "said after it"]);
    }

    #[test]
    fn the_memory_of_a_call_task_is_limited() {
        let (run, task, leg) = (future(CallTask::run), size_of::<CallTask>(), size_of::<LiveLeg>());
        assert!(run <= 6_400 && task <= 1_024 && leg <= 1_648, "{run}, {task} and {leg} octets");
    }
}
