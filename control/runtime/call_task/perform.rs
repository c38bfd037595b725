//! Performs the outputs of a call: the commands for the call's legs, the document requests, and the events.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::event::PlaybackEnd;
use tandem_call::fetch::{FailureKind, Fetch, FetchFailure, Scope};
use tandem_call::leg::{Direction, LegInfo};
use tandem_call::machine_detection::{DetectionResult, MachineDetection};
use tandem_call::output::{EndReason, Invite, LegCommand, LegEvent, Output};
use tandem_call::program::instruction::{AudioSource, Play, SendDigits, Warning};
use tandem_call::recording::{PauseBehavior, RecordingEnd, RecordingSpec};
use tandem_causes::{Cause, FOREIGN_CALLER, FOREIGN_IDENTITY, NO_MEDIA, NO_PHONE, NO_TRUNK};
use tandem_clients as clients;
use tandem_dialect::{Context, ReportedError};
use tandem_documents::{self as documents, ScriptRequest};
use tandem_history::event_log::Line;
use tandem_history::problem::Problem;
use tandem_host::clock;
use tandem_id::{LegId, OpId, RecordingId};
use tandem_leg::attempt::CalledUser;
use tandem_leg::dtmf;
use tandem_leg::signal::SignalCommand;
use tandem_legs::{CallRoute, LegIo, OutgoingCall, sip};
use tandem_media as media;
use tandem_metrics::timings::Timing;
use tandem_routing::phones;
use tandem_routing::trunk::identity::ParentLeg;
use tandem_routing::trunk::numbering::Numbering;
use tandem_routing::{Outbound, Routing};
use tandem_streams::StreamHandle;

use super::CallTask;
use super::inspect::verb_line;
use super::internal_call::NotCalled;
use crate::call_state::LiveLeg;
use crate::inbox::{FetchedDocument, Message};
use crate::registry::Registry;
use crate::reporting::signature_hint;
use crate::transcripts;

/// Maximum time for which the first document request of a call waits until the call's record is stored.
const RECORD_TIMEOUT: Duration = Duration::from_secs(1);

impl CallTask {
    pub(super) async fn perform(&mut self) {
        while let Some(output) = self.state.call.poll_output() {
            match output {
                Output::Leg { leg, command } => self.command(leg, *command),
                Output::Fetch(fetch) => self.fetch(*fetch),
                Output::Event(event) => self.publish(event).await,
            }
        }
        self.publish_verbs();
        for (info, why) in std::mem::take(&mut self.refused) {
            self.refuse_leg(info, &why).await;
        }
        for (reply, answer) in self.answers.drain(..) {
            // The requester may no longer wait for the reply. The request is performed in any case.
            let _ = reply.send(answer);
        }
    }

    pub(super) fn command(&mut self, leg: LegId, command: LegCommand) {
        use media::RecordingCommand::{Pause, Resume, Stop};
        match command {
            LegCommand::Invite(invite) => self.invite(leg, *invite),
            LegCommand::Bridge { with } => self.bridge(leg, with),
            LegCommand::Unbridge => self.unbridge(leg),
            LegCommand::Play { op, play, elapsed } => self.play(leg, op, play, elapsed.unwrap_or_default()),
            LegCommand::SendDigits { op, digits, .. }
                if self.state.legs.get(&leg).is_some_and(|live| live.io.wants_digits_in_signalling()) =>
            {
                self.send_digits_by_signalling(leg, op, &digits);
            }
            LegCommand::SendDigits { op, digits, .. } => self.send_digits(leg, op, digits),
            LegCommand::SendInfo { content_type, body } => {
                let body = body.into();
                self.with_leg(leg, |live| live.io.signal(SignalCommand::Message { content_type, body }));
            }
            LegCommand::DetectMachine { op, spec } => self.detect_machine(leg, op, &spec),
            LegCommand::Stop { op } => self.with_leg(leg, |live| live.stop(op)),
            LegCommand::Record { op, id, spec, after } => self.start_recording(leg, op, id, &spec, after),
            LegCommand::PauseRecording { op, pause_behavior } => {
                self.recording(leg, Pause { op, silence: pause_behavior == PauseBehavior::Silence });
            }
            LegCommand::ResumeRecording { op } => self.recording(leg, Resume { op }),
            LegCommand::StopRecording { op } => self.recording(leg, Stop { op }),
            LegCommand::StartStream { op, id, spec } => self.start_stream(leg, op, id, spec),
            LegCommand::BeginStreams => self.begin_streams(leg),
            LegCommand::StopStream { id } => {
                if let Some(stream) = self.detach_stream(leg, id) {
                    stream.stop();
                }
            }
            LegCommand::StartSiprec { ops, id, spec } => self.start_siprec(leg, ops, id, spec),
            LegCommand::StopSiprec { id } => self.stop_siprec(leg, id),
            LegCommand::StartRecognition { op, spec } => self.start_recognition(leg, op, &spec),
            LegCommand::FinishRecognition { op } => self.finish_recognition(leg, op),
            LegCommand::StopRecognition { op } => self.stop_recognition(leg, op),
            LegCommand::StartTranscription { op, id, spec } => self.start_transcription(leg, op, id, &spec),
            LegCommand::StopTranscription { op } => self.finish_recognition(leg, op),
            LegCommand::Transcribe { of, recording, order } => {
                transcripts::begin(&self.services, of, *recording, order);
            }
            LegCommand::Converse { op, id, spec, status } => self.converse(leg, op, id, *spec, status),
            LegCommand::StopConversation { id } => self.end_conversation(leg, id),
            LegCommand::AskConversation { id, request } => self.ask_conversation(leg, id, request),
            LegCommand::JoinConference(participation) => self.join_conference(leg, &participation),
            LegCommand::Supervise(supervision) => self.supervise(leg, supervision),
            LegCommand::StopSupervising => self.stop_supervising(leg),
            LegCommand::EnterQueue { op, queue, max_size } => self.enter_queue(leg, op, &queue, max_size),
            LegCommand::ResumeWait { queue, since, called } => self.resume_wait(leg, &queue, since, called),
            LegCommand::ReturnToQueue => self.return_to_queue(leg),
            LegCommand::LeaveQueue => self.with_leg(leg, |live| live.attachments.queue_membership = None),
            LegCommand::DequeueFirst { queue } => self.take_from_queue(leg, &queue),
            LegCommand::StopDequeue => self.with_leg(leg, |live| live.attachments.agent_request = None),
            LegCommand::LeaveConference { why, leg: info } => self.leave_conference(leg, &info, why),
            LegCommand::Echo(on) => self.engine(leg, media::Command::Echo(on)),
            LegCommand::Ring { progress } => self.with_leg(leg, |live| live.io.ring(progress)),
            LegCommand::ReportNextPacket => self.engine(leg, media::Command::ReportNextPacket),
            LegCommand::Mute(on) => self.engine(leg, media::Command::Mute { inbound: on }),
            LegCommand::SuppressNoise { track, on } => {
                self.engine(leg, media::Command::Suppress { direction: tandem_legs::tracks(track), on });
            }
            LegCommand::Headers(headers) => self.with_leg(leg, |live| live.io.headers = headers),
            LegCommand::ReturnValues(pairs) => self.with_leg(leg, |live| live.io.handed_back = pairs.into()),
            LegCommand::Answer => self.with_leg(leg, |live| live.io.answer()),
            LegCommand::Reject(reason) => self.with_leg(leg, |live| live.io.reject(reason)),
            LegCommand::Hangup(reason) => self.with_leg(leg, |live| live.io.hangup(Some(reason))),
            LegCommand::Refer { to, headers } => {
                let by = self.state.call.leg(leg).map(|info| info.local_uri());
                self.with_leg(leg, |live| live.io.signal(SignalCommand::Refer { to, by, headers }));
            }
            LegCommand::AnswerRefer { status } => {
                self.with_leg(leg, |live| live.io.signal(SignalCommand::AnswerRefer { status }));
            }
            LegCommand::NotifyRefer { status } => {
                self.with_leg(leg, |live| live.io.signal(SignalCommand::NotifyRefer { status }));
            }
            LegCommand::Release => self.release(leg),
        }
    }

    /// Posts an event that the task detected while it performed a command. The event waits in the inbox behind earlier
    /// messages.
    pub(super) fn post_leg_event(&self, leg: LegId, event: LegEvent) {
        // This cannot fail, because the inbox of a running task is open.
        let _ = self.inbox.post(Message::LegEvent(leg, event));
    }

    /// Calls `act` with a live leg. Does nothing if the leg is no longer live.
    fn with_leg(&mut self, leg: LegId, act: impl FnOnce(&mut LiveLeg)) {
        if let Some(live) = self.state.legs.get_mut(&leg) {
            act(live);
        }
    }

    /// Sends a command to the media engine and ignores the result.
    pub(super) fn engine(&self, leg: LegId, command: media::Command) {
        self.engine_takes(leg, command);
    }

    /// Sends a command to the media engine. Returns whether the engine will perform the command.
    fn engine_takes(&self, leg: LegId, command: media::Command) -> bool {
        self.state.legs.get(&leg).is_some_and(|live| live.io.command(command))
    }

    fn recording(&self, leg: LegId, command: media::RecordingCommand) {
        self.engine(leg, media::Command::Recording(command));
    }

    fn bridge(&mut self, leg: LegId, with: LegId) {
        self.engine(leg, media::Command::Bridge { with });
        for (one, other) in [(leg, with), (with, leg)] {
            self.with_leg(one, |live| live.bridged_with = Some(other));
            self.join_streams(one);
            self.update_recorders(one);
        }
        self.update_rooms(&[leg, with]);
    }

    fn unbridge(&mut self, leg: LegId) {
        self.engine(leg, media::Command::Unbridge);
        let bridged = self.state.legs.get_mut(&leg).and_then(|live| live.bridged_with.take());
        for one in [Some(leg), bridged].into_iter().flatten() {
            self.with_leg(one, |live| {
                live.bridged_with = None;
                live.attachments.streams.values().for_each(StreamHandle::part);
            });
            self.update_recorders(one);
        }
        self.update_rooms(&[]);
    }

    fn send_digits(&self, leg: LegId, op: OpId, digits: SendDigits) {
        let duration_ms = u16::try_from(digits.tone.as_millis()).unwrap_or(u16::MAX);
        let command = media::Command::SendDigits { op, digits: digits.digits, duration_ms };
        if !self.engine_takes(leg, command) {
            self.post_leg_event(leg, LegEvent::PlayFinished { op, end: PlaybackEnd::Failed("no audio path".into()) });
        }
    }

    fn detect_machine(&self, leg: LegId, op: OpId, spec: &MachineDetection) {
        let spec = Box::new(tandem_legs::detection(spec));
        if !self.engine_takes(leg, media::Command::DetectMachine { op, spec }) {
            let after = Duration::ZERO;
            self.post_leg_event(leg, LegEvent::MachineDetected { op, result: DetectionResult::NotSure, after });
        }
    }

    fn start_recording(&self, leg: LegId, op: OpId, id: RecordingId, spec: &RecordingSpec, after: Option<OpId>) {
        let files = &self.services.recordings;
        if !self.state.legs.get(&leg).is_some_and(|live| live.io.record(op, id, spec, after, files)) {
            let end = RecordingEnd::Failed("no audio path".into());
            let nothing = Duration::ZERO;
            self.post_leg_event(leg, LegEvent::RecordingFinished { op, end, duration: nothing, recorded: nothing });
        }
    }

    pub(super) fn invite(&mut self, leg: LegId, invite: Invite) {
        if let Some(live) = self.state.legs.get_mut(&leg)
            && live.attachments.streams.values().any(|stream| stream.delays_invite)
        {
            live.facts.waiting_invite = Some(Box::new(invite));
            return;
        }
        self.registry.register(leg.0, self.inbox.clone());
        // The leg's I/O exists already if a stream of the leg was opened before the call.
        let opened = self.state.legs.remove(&leg).map(|live| *live);
        let mut live = opened.unwrap_or_else(|| LiveLeg::new(LegIo::outgoing(leg, self.sip())));
        let placed = self.place(leg, invite, &mut live.io);
        self.state.legs.insert(leg, Box::new(live));
        if let Err(event) = placed {
            self.post_leg_event(leg, *event);
        }
        // The events of the leg wait in the inbox behind the outputs of the call.
        while let Some(report) = self.state.legs.get_mut(&leg).and_then(|live| live.io.poll_report()) {
            self.handle_report(clock::now(), leg, report);
        }
    }

    /// Places an outbound leg. One snapshot of the routing decides, because a reload changes new calls only (ADR 28).
    ///
    /// # Errors
    /// Returns the end of the leg, if the leg cannot be placed.
    fn place(&mut self, leg: LegId, invite: Invite, io: &mut LegIo) -> Result<(), Box<LegEvent>> {
        let failed =
            |detail| Box::new(LegEvent::Ended { reason: EndReason::Failed, sip_status: None, detail: Some(detail) });
        let routing = self.services.routing.load_full();
        let Some(info) = self.state.call.leg(leg).cloned() else { return Err(failed("the leg is over".to_owned())) };
        let parent = info.parent.and_then(|parent| self.state.call.leg(parent)).cloned();
        if let Some(parent) = info.parent.and_then(|parent| self.state.legs.get(&parent)) {
            io.call_chain = parent.io.call_chain.clone();
        }
        self.services.take_outbound(&routing, &info).map_err(|barred| failed(barred.to_string()))?;
        if let Some(fault) = self.foreign_identity(leg, &routing, &info, parent.as_deref(), &invite) {
            return Err(failed(fault));
        }
        if let Some(own) = routing.own(&info.account, &info.dialect, &invite.to, &invite.via) {
            let called = self.start_internal_call(leg, &routing, &invite, own, io);
            return called.map_err(|not_called| self.not_called(leg, &info, &invite.to, not_called));
        }
        let routes = self.call_routes(&routing, &info, &invite);
        let Some(first) = routes.first() else {
            let not_called = NotCalled { reason: EndReason::Unreachable, detail: unreachable_reason(&invite.to) };
            return Err(self.not_called(leg, &info, &invite.to, not_called));
        };
        let address = first.outbound.address();
        let addresses = (address, address);
        let session = self.open(leg, addresses, &first.media).map_err(|_| failed(NO_MEDIA.to_owned()))?;
        if let Some(trunk) = &first.outbound.trunk {
            self.state.call.set_trunk(leg, Arc::clone(&trunk.name));
        }
        let other = self.other_leg(leg).and_then(|other| self.state.legs.get(&other));
        let late_offer = other.is_some_and(|live| live.io.wants_offer());
        let preferred = other.map(|live| live.io.preference()).unwrap_or_default();
        let signing =
            self.services.stir.load_full().signing_request(&routing, &info.account, &invite, parent.as_deref());
        let parent_leg = parent.map(|leg| {
            let numbering = routing.trunk(leg.sip.trunk.as_deref()).map(|trunk| Numbering::of(trunk));
            ParentLeg { numbering: numbering.unwrap_or_default(), leg }
        });
        let (on_behalf_of, call_id) = (info.parent, info.sip.call_id.clone());
        let accounts = routing.trunk_owners(&info.account);
        let contacts = routes.iter().filter_map(|route| route.user.as_ref()).flat_map(|user| &user.contacts);
        let pages = contacts.filter_map(|one| Some((one.id, self.services.pages.get(one.id)?))).collect();
        let account = info.account.clone();
        let call = OutgoingCall {
            invite,
            parent_leg,
            on_behalf_of,
            call_id,
            signing,
            late_offer,
            routes,
            accounts,
            account,
            pages,
        };
        let open = call.has_two_kinds_of_media().then(|| self.opener(leg, addresses));
        io.place(clock::now(), (session, preferred), call, open, &mut || self.registry.add_branch(leg));
        Ok(())
    }

    /// Returns the routes of a leg, best first, with the contacts of the users that they lead to.
    fn call_routes(&self, routing: &Routing, info: &LegInfo, invite: &Invite) -> Vec<CallRoute> {
        let health = |trunk: &str| self.services.sip.trunk_status(trunk).health;
        let routes = routing.outbound(&info.account, &invite.to, &invite.via, health, &mut rand::rng());
        if let (Address::Client(name), [], []) = (&invite.to, &*routes, &*invite.via) {
            return self.route_to_pages(routing, info, name).into_iter().collect();
        }
        let route = |outbound: Outbound| {
            let user = outbound.user.as_ref().map(|user| {
                let contacts = self.services.clients.contacts(user, phones::instance_in(&outbound.request_uri));
                CalledUser { name: user.name.to_string(), contacts }
            });
            CallRoute::new(outbound, user, routing)
        };
        routes.into_iter().map(route).collect()
    }

    /// Returns the route to the connected pages with this name, which is no user of SIP. Returns `None` if there is no such
    /// page.
    fn route_to_pages(&self, routing: &Routing, info: &LegInfo, name: &Arc<str>) -> Option<CallRoute> {
        let user = clients::User { account: info.account.clone(), name: Arc::clone(name), domain: None };
        let contacts = self.services.clients.contacts_with_token(&user);
        if contacts.is_empty() {
            return None;
        }
        let called = CalledUser { name: name.to_string(), contacts };
        Some(CallRoute::new(Outbound::to_user(format!("client:{name}"), user), Some(called), routing))
    }

    /// Returns the reason why the leg may not be called: it may not show its calling number, or the application sets a
    /// header field that states another caller. The application is warned. Also notes the header fields that are not
    /// sent.
    fn foreign_identity(
        &self,
        leg: LegId,
        routing: &Routing,
        info: &LegInfo,
        parent: Option<&LegInfo>,
        invite: &Invite,
    ) -> Option<String> {
        for (name, _) in invite.headers.iter().filter(|(name, _)| sip::is_own_header(name)) {
            let line = format!("{name} was not sent: SIP itself sets this header field");
            self.note_line(clock::time(), leg, "sip", line);
        }
        let shown = parent.is_none_or(|parent| may_show_caller_id(parent, &invite.from))
            || routing.may_call_from(&info.account, &invite.from);
        let detail = match routing.refused_header(&invite.headers) {
            Some(name) => format!("{name} {FOREIGN_IDENTITY}"),
            None if !shown => format!("{} {FOREIGN_CALLER}", invite.from),
            None => return None,
        };
        self.warn(leg, ReportedError::Caller, &detail);
        Some(detail)
    }

    /// Warns the application that a leg was not called. Returns the end of the leg.
    fn not_called(&self, leg: LegId, info: &LegInfo, to: &Address, not_called: NotCalled) -> Box<LegEvent> {
        let NotCalled { reason, detail } = not_called;
        self.warn(leg, ReportedError::Callee(to), &detail);
        // A phone that is not registered counts as unavailable (480) for a dialled leg, and as unreachable for an
        // outbound call of the API.
        let (reason, sip_status) = match to {
            Address::Client(_) if info.direction != Direction::OutboundApi => (EndReason::Rejected, Some(480)),
            _ => (reason, None),
        };
        Box::new(LegEvent::Ended { reason, sip_status, detail: Some(detail) })
    }

    /// Warns the application. If its provider has no number for the fault, only reports the problem.
    pub(super) fn warn(&self, leg: LegId, fault: ReportedError<'_>, detail: &str) {
        let dialect = self.state.call.leg(leg).and_then(|info| self.services.dialects.get(&info.dialect));
        match dialect.and_then(|dialect| dialect.error_number(fault)) {
            Some(code) => self.post_leg_event(leg, LegEvent::Warned(Warning { code, message: detail.to_owned() })),
            None => self.report_of(leg, "call", Problem::warning(Cause::of_warning(0, detail), detail)),
        }
    }

    /// Plays audio. `elapsed` is the part that was played before a restart.
    fn play(&mut self, leg: LegId, op: OpId, play: Play, elapsed: Duration) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        if let AudioSource::Tone(tone) = &play.source {
            let command = media::Command::Tone { op, tone: tandem_legs::tone(tone) };
            if !live.io.command(command) {
                let end = PlaybackEnd::Failed("no audio path".to_owned());
                self.post_leg_event(leg, LegEvent::PlayFinished { op, end });
            }
            return;
        }
        if let AudioSource::Speech(speech) = &play.source {
            let now = clock::time();
            let unsupported = self.services.audio.voice().unsupported(speech);
            unsupported.into_iter().for_each(|line| self.inbox.log().push(now, Some(leg), "speech", line));
        }
        let account = self.state.call.leg(leg).map(|info| info.account.clone()).unwrap_or_default();
        let (audio_loader, inbox) = (self.services.audio.clone(), self.inbox.clone());
        let render = tokio::spawn(async move {
            let audio = audio_loader.get(&play.source, &account).await;
            // The call may have ended, so an error is ignored.
            let _ = inbox.post(Message::Rendered { leg, op, loops: play.loops, elapsed, audio });
        });
        live.attachments.renders.insert(op, render.abort_handle());
    }

    /// Sends digits in the signalling. A separate task controls the timing. This task is aborted in the same way as a
    /// task that prepares audio.
    fn send_digits_by_signalling(&mut self, leg: LegId, op: OpId, digits: &SendDigits) {
        let Some(live) = self.state.legs.get_mut(&leg) else { return };
        let steps = dtmf::schedule(&digits.digits, digits.tone);
        let duration_ms = u16::try_from(digits.tone.as_millis()).unwrap_or(u16::MAX);
        let inbox = self.inbox.clone();
        let task = tokio::spawn(async move {
            for (digit, time) in steps {
                if let Some(digit) = digit {
                    let _ = inbox.post(Message::SendSignal(leg, SignalCommand::Digit { digit, duration_ms }));
                }
                tokio::time::sleep(time).await;
            }
            // The call may have ended, so an error is ignored.
            let _ = inbox.post(Message::LegEvent(leg, LegEvent::PlayFinished { op, end: PlaybackEnd::Completed }));
        });
        live.attachments.renders.insert(op, task.abort_handle());
    }

    pub(super) fn release(&mut self, leg: LegId) {
        self.state.facts.sequences.remove(&leg);
        self.state.facts.own_recordings.remove(&leg);
        // The call of a queue's agent may have merged the calls of many callers. Only the cookies of the sessions with
        // remaining legs are kept.
        let call = &self.state.call;
        self.state.facts.cookie_jars.retain(|session, _| call.legs().any(|leg| leg.session == *session));
        let (Some(mut live), Some(teardown)) = (self.state.legs.remove(&leg), self.state.facts.ended.get_mut(&leg))
        else {
            self.state.facts.ended.remove(&leg);
            return self.registry.forget(leg.0);
        };
        if let Some(line) = verb_line(leg, live.published_verb.take(), None, None) {
            self.inbox.log().push_line(line);
        }
        teardown.dialog |= live.io.is_gone();
        teardown.branches = live.io.branches().collect();
        teardown.media |= !live.release();
        self.remove_ended_leg(leg);
    }

    fn fetch(&mut self, fetch: Fetch) {
        let (services, registry) = (Arc::clone(&self.services), self.registry.clone());
        let (inbox, session) = (self.inbox.clone(), fetch.leg.session);
        let jar = self.state.facts.cookie_jars.entry(session).or_default().clone();
        let script = self.state.legs.get(&fetch.leg.id).map(|live| live.script.clone()).unwrap_or_default();
        let membership = self
            .state
            .legs
            .get(&fetch.leg.id)
            .and_then(|live| live.attachments.queue_membership.as_ref())
            .filter(|_| fetch.scope == Scope::Queue);
        let in_queue = membership.map(|membership| (membership.queue(), membership.position(clock::time())));
        let first = !std::mem::replace(&mut self.has_fetched, true);
        let pending = services.pending.begin(session);
        self.services.fetches.spawn(async move {
            // The request ends when its failure is reported.
            let _pending = pending;
            let (leg, id) = (Arc::clone(&fetch.leg), fetch.id);
            let queue = match in_queue {
                // Another node has the queue, or the leg is being connected.
                Some((queue, None)) => services.queues.position_of(queue, leg.id, clock::time()).await,
                Some((_, position)) => position,
                None => None,
            };
            let context = Context { public_url: Arc::clone(&services.public_url), sequence: 0, recording: None, queue };
            let found = services.dialects.get(&fetch.leg.dialect).zip(services.accounts.by_name(&fetch.leg.account));
            let Some((dialect, account)) = found else {
                let failure = FetchFailure {
                    kind: FailureKind::BadUrl,
                    detail: format!("account {} has no {} API", fetch.leg.account, fetch.leg.dialect),
                };
                let (line, exchange, other_dialect) = (failure.detail.clone(), None, None);
                let result = Err(failure);
                return registry.fetched(&inbox, FetchedDocument { leg, id, line, exchange, other_dialect, result });
            };
            if first {
                // From the first request on, the application knows the call. The application may then request the
                // record of the call after a crash. So the record is stored before the request is sent. If the database
                // is unavailable, the call waits only a short time.
                let _ = tokio::time::timeout(RECORD_TIMEOUT, services.store.flush()).await;
            }
            let request_id = rand::random();
            let (client, dialects) = (&services.client, &services.dialects);
            let (account, jar, turns) = (&account, &jar, &services.turns);
            let request_context =
                documents::RequestContext { client, dialects, dialect, account, jar, id: request_id, turns };
            let mut done = documents::fetch(request_context, &fetch, &context, &script).await;
            for exchange in done.before.iter().map(|request| &request.exchange).chain(&done.exchange) {
                services.counters.timings.took(Timing::Document, Duration::from_millis(exchange.elapsed_ms));
            }
            for request in std::mem::take(&mut done.before) {
                note_request(&registry, &leg, request);
            }
            let documents::Fetched { line, exchange, result, other_dialect, .. } = done;
            registry.fetched(&inbox, FetchedDocument { leg, id, line, exchange, other_dialect, result });
        });
    }
}

/// Adds a request of a script to the call's log. If the request failed, also reports the problem.
fn note_request(registry: &Registry, leg: &LegInfo, request: ScriptRequest) {
    let ScriptRequest { line, exchange, failure } = request;
    let problem = failure.map(|failure| {
        let cause = Cause::of_failure(&failure);
        let hint = signature_hint(registry.services(), leg.into(), cause, &exchange);
        Problem { hint, ..Problem::warning(cause, format!("a request of the script failed: {line}")) }
    });
    let line = Line { at: exchange.at, leg: Some(leg.id), kind: "webhook".into(), text: line, data: None };
    registry.exchanged(leg.into(), leg.session, exchange, Some(line), problem);
}

/// Returns the reason, as text, why a destination cannot be called.
fn unreachable_reason(to: &Address) -> String {
    match to {
        Address::Client(name) => {
            format!(
                "{NO_PHONE} has the name {name}: there is no user of [[endpoints]], no SIP credential and no page {to}"
            )
        }
        Address::Application(_) => format!("no {to} accepts calls from this account"),
        _ => format!("{to} is not on this server, and {NO_TRUNK}"),
    }
}

/// Whether an outbound leg may show `from` as its caller ID. This is allowed if `from` is the caller or the called
/// number of the parent leg. It is not allowed if the parent leg is an inbound leg without a trunk, because a phone has
/// sent the caller ID of such a leg.
fn may_show_caller_id(parent_leg: &LegInfo, from: &Address) -> bool {
    let vouched = parent_leg.direction != Direction::Inbound || parent_leg.sip.trunk.is_some();
    vouched && (parent_leg.from == *from || parent_leg.to == *from)
}
