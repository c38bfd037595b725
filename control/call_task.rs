//! One task per call: it drives the pure [`Call`], performs its outputs and feeds it what comes back.
//!
//! Nothing here waits for an application, a disk or another call: what takes time is a task of its own that reports to the
//! inbox. The inbox is bounded; when it is full, media events wait in the engine, SIP events are sent by a waiting task,
//! and log notes are dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tandem_call::call::{Call, NewLeg};
use tandem_call::command::{Accepted, Refused, Request};
use tandem_call::event::{CallEvent, EventKind, PlaybackEnd};
use tandem_call::fetch::{Fetch, FetchFailure};
use tandem_call::id::{CallId, FetchId, LegId, OpId, StreamId};
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegInfo, Quality, Status};
use tandem_call::output::{LegCommand, LegEvent, LegGone, Output};
use tandem_call::program::instruction::{AudioSource, Play, Program};
use tandem_call::recording::RecordingEnd;
use tandem_call::route::Route;
use tandem_call::stream::StreamStatus;
use tandem_media as media;
use tandem_sip as sip;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::clock;
use crate::dialect::Context;
use crate::document;
use crate::event_log::{EventLog, Line};
use crate::http::CookieJar;
use crate::leg::{self, LegIo};
use crate::notify;
use crate::records;
use crate::registry::{Calls, Services};
use crate::store;
use crate::store::writer::Write;
use crate::stream::{NewStream, Ready, StreamHandle};
use crate::webhook::Delivery;

/// Messages that may wait for one call.
const INBOX: usize = 1024;
/// Notices of one call that may wait to be written down.
const NOTICES: usize = 1024;
/// How long an ended call waits for the engine's last word on its legs.
const LAST_WORD: Duration = Duration::from_secs(5);

/// The way to a call. Cheap to clone.
#[derive(Clone)]
pub struct Inbox(mpsc::Sender<Message>);

/// Something for a call.
pub enum Message {
    /// From its dialogs.
    Sip(LegId, sip::Event),
    /// From the engine.
    Media(LegId, media::Event),
    /// A document came.
    Fetched {
        /// For this leg.
        leg: LegId,
        /// The fetch.
        id: FetchId,
        /// For the log.
        line: String,
        /// It.
        result: Result<Program, FetchFailure>,
    },
    /// Audio is ready.
    Rendered {
        /// For this leg.
        leg: LegId,
        /// The playback.
        op: OpId,
        /// How often.
        play: Play,
        /// It.
        audio: Result<Arc<media::Audio>, String>,
    },
    /// A stream's socket is open.
    StreamReady {
        /// Its leg.
        leg: LegId,
        /// It.
        id: StreamId,
        /// The media it needs.
        ready: Box<Ready>,
    },
    /// A stream is over.
    Stream {
        /// Its leg.
        leg: LegId,
        /// It.
        id: StreamId,
        /// How.
        status: StreamStatus,
    },
    /// An application asks something.
    Request {
        /// Of this leg.
        leg: LegId,
        /// What.
        request: Request,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    },
    /// An application wants another leg in this call.
    NewLeg(Box<NewLeg>),
    /// How many more legs this call can take.
    Room(oneshot::Sender<usize>),
    /// Give this call's legs to the one that asks; what comes afterwards goes to `heir`. Without an answer if there are
    /// too many.
    Surrender {
        /// The inbox of the call that takes over.
        heir: Inbox,
        /// The most legs it can take.
        room: usize,
        /// Where the legs go.
        reply: oneshot::Sender<Box<Estate>>,
    },
    /// Take these legs over.
    Absorb(Box<Estate>),
    /// Found out by a leg's own hands.
    Own(LegId, LegEvent),
    /// A line for the log.
    Note(Line),
    /// Show the log.
    Log(oneshot::Sender<Vec<Line>>),
    /// Hang everything up.
    HangupAll,
}

/// All that a call owns, handed to another one.
pub struct Estate {
    call: Call,
    sessions: Vec<CallId>,
    legs: HashMap<LegId, LegIo>,
    ended: HashMap<LegId, Arc<LegInfo>>,
    sequences: HashMap<LegId, u32>,
    log: EventLog,
}

impl Inbox {
    /// A new inbox.
    pub fn new() -> (Self, mpsc::Receiver<Message>) {
        let (sender, receiver) = mpsc::channel(INBOX);
        (Self(sender), receiver)
    }

    /// Waits for room. A call that is over takes nothing; that is no error.
    pub async fn send(&self, message: Message) {
        let _ = self.0.send(message).await;
    }

    /// Does not wait: what does not fit is sent by a task that does.
    pub fn post(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(message)) = self.0.try_send(message) {
            let inbox = self.clone();
            tokio::spawn(async move { inbox.send(message).await });
        }
    }

    /// A line for the call's log; dropped when there is no room.
    pub fn note(&self, leg: LegId, text: String) {
        let _ = self.0.try_send(Message::Note(line(Some(leg), "media", text)));
    }

    /// Puts a line in the log; dropped when there is no room.
    pub fn log(&self, line: Line) {
        let _ = self.0.try_send(Message::Note(line));
    }

    /// Whether both lead to the same call.
    pub fn same(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }

    fn sink(&self) -> media::EventSink {
        let inbox = self.clone();
        Arc::new(move |key, event| match inbox.0.try_send(Message::Media(LegId(key.0), event)) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(media::Full),
            _ => Ok(()),
        })
    }
}

/// How a call begins.
pub enum Beginning {
    /// Somebody called.
    Incoming {
        /// Who.
        info: Box<LegInfo>,
        /// What they offer.
        offer: Option<bytes::Bytes>,
        /// Where it goes.
        route: Box<Route>,
    },
    /// An application calls.
    Outgoing(Box<NewLeg>),
}

/// Starts the task of a call.
pub fn spawn(calls: Calls, id: CallId, inbox: Inbox, receiver: mpsc::Receiver<Message>, beginning: Beginning) {
    let span = tracing::info_span!("call", call = %id);
    let task = CallTask {
        call: Call::new(id, rand::random(), clock::now()),
        sessions: vec![id],
        services: Arc::clone(calls.services()),
        calls,
        inbox,
        legs: HashMap::new(),
        ended: HashMap::new(),
        sequences: HashMap::new(),
        log: EventLog::default(),
        jar: Arc::new(Mutex::new(CookieJar::new())),
        notices: None,
    };
    tokio::spawn(task.run(receiver, beginning).instrument(span));
}

struct CallTask {
    call: Call,
    /// Its own id and those of the calls that it absorbed.
    sessions: Vec<CallId>,
    services: Arc<Services>,
    calls: Calls,
    inbox: Inbox,
    legs: HashMap<LegId, LegIo>,
    /// Ended legs that the engine has not closed yet.
    ended: HashMap<LegId, Arc<LegInfo>>,
    /// Numbered notices sent, by leg.
    sequences: HashMap<LegId, u32>,
    log: EventLog,
    jar: Arc<Mutex<CookieJar>>,
    /// Writes this call's notices down, in order, beside it.
    notices: Option<(mpsc::Sender<Delivery>, JoinHandle<()>)>,
}

enum Turn {
    On,
    Over,
    Surrendered(Inbox),
}

impl CallTask {
    async fn run(mut self, mut receiver: mpsc::Receiver<Message>, beginning: Beginning) {
        self.begin(beginning);
        self.perform().await;
        let mut farewell = None;
        loop {
            if self.call.is_finished() {
                if self.ended.is_empty() {
                    break;
                }
                farewell.get_or_insert_with(|| tokio::time::Instant::now() + LAST_WORD);
            } else {
                farewell = None;
            }
            let wake = match (self.call.poll_timeout(), farewell) {
                (Some(timer), _) => Some(timer.into()),
                (None, farewell) => farewell,
            };
            let turn = tokio::select! {
                message = receiver.recv() => match message {
                    Some(message) => self.take(message),
                    None => Turn::Over,
                },
                () = sleep_until(wake), if wake.is_some() => {
                    self.call.handle_timeout(clock::now());
                    if farewell.is_some_and(|at| at <= tokio::time::Instant::now()) { Turn::Over } else { Turn::On }
                }
            };
            self.perform().await;
            match turn {
                Turn::On => {}
                Turn::Over => break,
                Turn::Surrendered(heir) => {
                    while let Some(message) = receiver.recv().await {
                        heir.send(message).await;
                    }
                    return;
                }
            }
        }
        if let Some((notices, notifier)) = self.notices.take() {
            drop(notices);
            // It ends by itself; were it to panic, there would be nothing left to write down.
            let _ = notifier.await;
        }
        self.log.write(&self.services.store, &self.sessions, clock::now().time);
        for session in &self.sessions {
            self.calls.forget(session.0);
        }
    }

    fn begin(&mut self, beginning: Beginning) {
        match beginning {
            Beginning::Outgoing(new) => self.add_leg(*new),
            Beginning::Incoming { mut info, offer, route } => {
                let leg = info.id;
                let mut io = LegIo::new(leg, self.services.sip().clone());
                match self.open(leg) {
                    Ok(session) => match io.accept_offer(session, offer.as_deref()) {
                        Ok(()) => {
                            info.sip.codec = io.codec().map(str::to_owned);
                            self.legs.insert(leg, io);
                            self.call.handle_incoming(clock::now(), *info, *route);
                        }
                        Err(leg::Refusal(status)) => {
                            self.refuse(leg, io, *info, *route, status);
                        }
                    },
                    Err(status) => self.refuse(leg, io, *info, *route, status),
                }
            }
        }
    }

    /// A call that cannot have audio: refused, and yet on record.
    fn refuse(&mut self, leg: LegId, io: LegIo, info: LegInfo, mut route: Route, status: u16) {
        self.legs.insert(leg, io);
        let reason = tandem_call::program::instruction::RejectReason::Status(status);
        route.decision = tandem_call::route::Decision::Reject(reason);
        self.call.handle_incoming(clock::now(), info, route);
    }

    fn add_leg(&mut self, new: NewLeg) {
        let now = clock::now();
        let mut info = new.info.clone();
        if let Err(refused) = self.call.handle_new_leg(now, new) {
            self.calls.forget(info.id.0);
            self.log.push(now.time, Some(info.id), "call", format!("no further leg: {refused:?}"));
            info.status = Status::Failed;
            info.end = Some(LegEnd { at: now.time, cause: EndCause::Failed, by: EndedBy::Server, sip_status: None });
            self.record(&info, now.time);
        }
    }

    /// Writes a leg down again after its end; the last word of several.
    fn record(&self, info: &LegInfo, at: jiff::Timestamp) {
        self.services.store.writer().try_submit(Write::Call(Box::new(records::call_row(info, at))));
    }

    fn open(&self, leg: LegId) -> Result<media::Session, u16> {
        self.services
            .media
            .open(media::SessionKey(leg.0), self.call.id().0, self.inbox.sink())
            .inspect_err(|error| tracing::warn!(%error, "no media session"))
            .map_err(|_| 503)
    }

    fn take(&mut self, message: Message) -> Turn {
        let now = clock::now();
        match message {
            Message::Sip(leg, event) => self.take_sip(leg, event),
            Message::Media(leg, event) => self.take_media(leg, event),
            Message::Fetched { leg, id, line: text, result } => {
                self.log.push(now.time, Some(leg), "webhook", text);
                self.call.handle_fetched(now, leg, id, result);
            }
            Message::Rendered { leg, op, play, audio } => self.take_audio(leg, op, &play, audio),
            Message::StreamReady { leg, id, ready } => self.attach_stream(leg, id, *ready),
            Message::Stream { leg, id, status } => {
                if let Some(io) = self.legs.get_mut(&leg)
                    && let Some(stream) = io.streams.remove(&id)
                {
                    detach_stream(io, &stream);
                }
                self.call.handle_leg(now, leg, LegEvent::Stream { id, status });
            }
            Message::Request { leg, request, reply } => {
                let answer = self.call.handle_request(now, leg, request);
                // Who asked may have gone; the request is done all the same.
                let _ = reply.send(answer);
            }
            Message::NewLeg(new) => self.add_leg(*new),
            Message::Room(reply) => {
                let _ = reply.send(self.call.room());
            }
            Message::Surrender { room, .. } if room < self.call.legs().count() => {}
            Message::Surrender { heir, reply, .. } => return self.surrender(heir, reply),
            Message::Absorb(estate) => {
                for leg in estate.call.legs() {
                    self.calls.register(leg.id.0, self.inbox.clone());
                }
                for session in &estate.sessions {
                    self.calls.register(session.0, self.inbox.clone());
                }
                self.sessions.extend(estate.sessions);
                self.call.absorb(now, estate.call);
                self.legs.extend(estate.legs);
                self.ended.extend(estate.ended);
                self.sequences.extend(estate.sequences);
                self.log.append(estate.log);
            }
            Message::Own(leg, event) => self.call.handle_leg(now, leg, event),
            Message::Note(Line { at, leg, kind, text }) => self.log.push(at, leg, &kind, text),
            Message::Log(reply) => {
                let _ = reply.send(self.log.lines().to_vec());
            }
            Message::HangupAll => {
                let legs: Vec<_> = self.call.legs().map(|leg| leg.id).collect();
                for leg in legs {
                    let request = Request { client_state: None, command: tandem_call::command::Command::Hangup };
                    // Ended legs refuse, which is all right.
                    let _ = self.call.handle_request(now, leg, request);
                }
            }
        }
        Turn::On
    }

    fn surrender(&mut self, heir: Inbox, reply: oneshot::Sender<Box<Estate>>) -> Turn {
        let id = self.call.id();
        let call = std::mem::replace(&mut self.call, Call::new(id, [0; 32], clock::now()));
        let estate = Estate {
            call,
            sessions: std::mem::take(&mut self.sessions),
            legs: std::mem::take(&mut self.legs),
            ended: std::mem::take(&mut self.ended),
            sequences: std::mem::take(&mut self.sequences),
            log: std::mem::take(&mut self.log),
        };
        match reply.send(Box::new(estate)) {
            Ok(()) => Turn::Surrendered(heir),
            Err(estate) => {
                // Nobody is there to take it: go on.
                self.call = estate.call;
                self.sessions = estate.sessions;
                self.legs = estate.legs;
                self.ended = estate.ended;
                self.sequences = estate.sequences;
                self.log = estate.log;
                Turn::On
            }
        }
    }

    fn take_sip(&mut self, leg: LegId, event: sip::Event) {
        let now = clock::now();
        if let sip::Event::Trace { sent, peer, transport, line, .. } = &event {
            let arrow = if *sent { "->" } else { "<-" };
            self.log.push(now.time, Some(leg), "sip", format!("{arrow} {peer} {} {line}", transport.token()));
            return;
        }
        let said = self.legs.get_mut(&leg).and_then(|io| io.on_sip(event));
        if let Some(said) = said {
            self.call.handle_leg(now, leg, said);
        }
    }

    fn take_media(&mut self, leg: LegId, event: media::Event) {
        let now = clock::now();
        match &event {
            media::Event::FirstPacket => self.log.push(now.time, Some(leg), "media", "first packet came".to_owned()),
            media::Event::Dtmf { digit, .. } => {
                if let Some(io) = self.legs.get(&leg) {
                    io.streams.values().for_each(|stream| stream.dtmf(*digit));
                }
            }
            media::Event::MarkReached { op, name } => {
                if let Some(io) = self.legs.get(&leg)
                    && let Some(stream) = io.streams.values().find(|stream| stream.op.0 == op.0)
                {
                    stream.mark(Arc::clone(name));
                }
            }
            media::Event::StreamOverflow { dropped_ms, .. } => {
                let text = format!("the stream's application is too slow: {dropped_ms} ms of audio dropped");
                self.log.push(now.time, Some(leg), "media", text);
            }
            media::Event::Closed { stats } => return self.closed(leg, stats),
            _ => {}
        }
        if let Some(said) = leg::on_media(&event) {
            self.call.handle_leg(now, leg, said);
        }
    }

    /// The engine's last word on a leg.
    fn closed(&mut self, leg: LegId, stats: &media::Stats) {
        let now = clock::now();
        let text = format!(
            "{} packets in, {} out, {} lost, jitter {:.1} ms, MOS {}",
            stats.packets_in,
            stats.packets_out,
            stats.lost,
            stats.jitter_ms,
            stats.mos.map_or("-".to_owned(), |mos| format!("{mos:.1}")),
        );
        self.log.push(now.time, Some(leg), "media", text);
        self.services.counters.add_media(stats);
        let Some(mut info) = self.ended.remove(&leg) else {
            // Closed while it lives: the engine gave it up.
            return self.call.handle_leg(now, leg, LegEvent::Ended { reason: LegGone::Failed, sip_status: None });
        };
        Arc::make_mut(&mut info).sip.quality = Some(Quality {
            packets_in: stats.packets_in,
            packets_out: stats.packets_out,
            lost: stats.lost,
            jitter_ms: stats.jitter_ms,
            round_trip_ms: stats.round_trip_ms,
            mos: stats.mos,
        });
        self.record(&info, now.time);
    }

    fn take_audio(&mut self, leg: LegId, op: OpId, play: &Play, audio: Result<Arc<media::Audio>, String>) {
        let Some(io) = self.legs.get_mut(&leg) else { return };
        if io.renders.remove(&op).is_none() {
            return;
        }
        let failed = match audio {
            Ok(audio) => {
                let command = media::Command::Play { op: media::OpId(op.0), audio, loops: play.loops };
                (!io.command(command)).then(|| "no audio path".to_owned())
            }
            Err(why) => Some(why),
        };
        if let Some(why) = failed {
            let now = clock::now();
            self.log.push(now.time, Some(leg), "media", format!("cannot play: {why}"));
            self.call.handle_leg(now, leg, LegEvent::PlayFinished { op, end: PlaybackEnd::Failed(why) });
        }
    }

    fn attach_stream(&mut self, leg: LegId, id: StreamId, ready: Ready) {
        let Some(io) = self.legs.get(&leg) else { return };
        let Some(stream) = io.streams.get(&id) else { return };
        let op = media::OpId(stream.op.0);
        io.command(media::Command::Tap { op, tracks: stream.tracks, sink: ready.sink });
        if let Some(source) = ready.source {
            io.command(media::Command::Source { op, source });
        }
        self.call.handle_leg(clock::now(), leg, LegEvent::Stream { id, status: StreamStatus::Started });
    }

    /// Does everything the call wants done.
    async fn perform(&mut self) {
        while let Some(output) = self.call.poll_output() {
            match output {
                Output::Leg { leg, command } => self.command(leg, command),
                Output::Fetch(fetch) => self.fetch(*fetch),
                Output::Event(event) => self.tell(*event).await,
            }
        }
    }

    fn command(&mut self, leg: LegId, command: LegCommand) {
        let inbox = self.inbox.clone();
        let fail = |event: LegEvent| inbox.post_event(leg, event);
        match command {
            LegCommand::Invite(invite) => self.invite(leg, *invite),
            LegCommand::Bridge { with } => {
                self.with(leg, |io| io.command(media::Command::Bridge { with: media::SessionKey(with.0) }));
            }
            LegCommand::Unbridge => {
                self.with(leg, |io| io.command(media::Command::Unbridge));
            }
            LegCommand::Play { op, play } => self.play(leg, op, play),
            LegCommand::SendDigits { op, digits } => {
                let duration_ms = u16::try_from(digits.tone.as_millis()).unwrap_or(u16::MAX);
                let command = media::Command::SendDigits { op: media::OpId(op.0), digits: digits.digits, duration_ms };
                if !self.with(leg, |io| io.command(command)) {
                    fail(LegEvent::PlayFinished { op, end: PlaybackEnd::Failed("no audio path".into()) });
                }
            }
            LegCommand::Stop { op } => {
                self.with(leg, |io| match io.renders.remove(&op) {
                    Some(render) => {
                        render.abort();
                        true
                    }
                    None => io.command(media::Command::Stop { op: media::OpId(op.0) }),
                });
            }
            LegCommand::Record { op, id, spec } => {
                let path = self.services.recording_path(id);
                if !self.with(leg, |io| io.record(op, &spec, &path)) {
                    let end = RecordingEnd::Failed("no audio path".into());
                    fail(LegEvent::RecordingFinished { op, end, duration: Duration::ZERO });
                }
            }
            LegCommand::PauseRecording { op } => {
                self.with(leg, |io| io.command(media::Command::PauseRecording { op: media::OpId(op.0) }));
            }
            LegCommand::ResumeRecording { op } => {
                self.with(leg, |io| io.command(media::Command::ResumeRecording { op: media::OpId(op.0) }));
            }
            LegCommand::StopRecording { op } => {
                self.with(leg, |io| io.command(media::Command::StopRecording { op: media::OpId(op.0) }));
            }
            LegCommand::StartStream { op, id, spec } => self.start_stream(leg, op, id, spec),
            LegCommand::StopStream { id } => {
                self.with(leg, |io| match io.streams.remove(&id) {
                    Some(stream) => {
                        stream.stop();
                        detach_stream(io, &stream);
                        true
                    }
                    None => false,
                });
            }
            LegCommand::Echo(on) => {
                self.with(leg, |io| io.command(media::Command::Echo(on)));
            }
            LegCommand::Ring { early_media } => {
                self.with(leg, |io| {
                    io.ring(early_media);
                    true
                });
            }
            LegCommand::Answer => {
                self.with(leg, |io| {
                    io.answer();
                    true
                });
            }
            LegCommand::Reject(reason) => {
                self.with(leg, |io| {
                    io.reject(reason);
                    true
                });
            }
            LegCommand::Hangup => {
                self.with(leg, |io| {
                    io.hangup();
                    true
                });
            }
            LegCommand::Release => self.release(leg),
        }
    }

    fn with(&mut self, leg: LegId, act: impl FnOnce(&mut LegIo) -> bool) -> bool {
        self.legs.get_mut(&leg).is_some_and(act)
    }

    fn invite(&mut self, leg: LegId, invite: tandem_call::output::Invite) {
        self.calls.register(leg.0, self.inbox.clone());
        let mut io = LegIo::new(leg, self.services.sip().clone());
        let account = self.call.leg(leg).map(|info| Arc::clone(&info.account)).unwrap_or_default();
        let refused = match self.services.routing.outbound(&account, &invite.to) {
            None => {
                let text = format!("no trunk and no endpoint takes {}", invite.to);
                self.log.push(clock::now().time, Some(leg), "call", text);
                Some(LegEvent::Ended { reason: LegGone::Unreachable, sip_status: Some(404) })
            }
            Some(route) => match self.open(leg) {
                Ok(session) => {
                    io.invite(session, invite, route);
                    None
                }
                Err(status) => Some(LegEvent::Ended { reason: LegGone::Failed, sip_status: Some(status) }),
            },
        };
        self.legs.insert(leg, io);
        if let Some(event) = refused {
            self.inbox.post_event(leg, event);
        }
    }

    fn play(&mut self, leg: LegId, op: OpId, play: Play) {
        let Some(io) = self.legs.get_mut(&leg) else { return };
        if let AudioSource::Tone(tone) = &play.source {
            let command = media::Command::Tone { op: media::OpId(op.0), tone: leg::tone(tone) };
            if !io.command(command) {
                let end = PlaybackEnd::Failed("no audio path".to_owned());
                self.inbox.post_event(leg, LegEvent::PlayFinished { op, end });
            }
            return;
        }
        let (audio_room, inbox) = (self.services.audio.clone(), self.inbox.clone());
        let render = tokio::spawn(async move {
            let audio = audio_room.get(&play.source).await;
            inbox.send(Message::Rendered { leg, op, play, audio }).await;
        });
        io.renders.insert(op, render.abort_handle());
    }

    fn start_stream(&mut self, leg: LegId, op: OpId, id: StreamId, spec: tandem_call::stream::StreamSpec) {
        let Some(info) = self.call.leg(leg).cloned() else { return };
        let services = &self.services;
        let found = services.dialects.get(&info.dialect).zip(services.accounts.by_name(&info.account));
        let Some((dialect, account)) = found else {
            let status = StreamStatus::Failed("no dialect speaks for this call".to_owned());
            return self.inbox.post_event(leg, LegEvent::Stream { id, status });
        };
        let wire = dialect.stream(account, &info, id, &spec, clock::now().time);
        let leg_codec =
            if info.sip.codec.as_deref() == Some("PCMA") { media::Codec::Pcma } else { media::Codec::Pcmu };
        let Some(io) = self.legs.get_mut(&leg) else { return };
        let new = NewStream { leg, id, op, spec, wire, leg_codec };
        let handle = StreamHandle::start(services.client.clone(), self.inbox.clone(), new);
        io.streams.insert(id, handle);
    }

    fn release(&mut self, leg: LegId) {
        self.calls.forget(leg.0);
        if let Some(mut io) = self.legs.remove(&leg) {
            if !io.release() {
                self.ended.remove(&leg);
            }
        }
        self.sequences.remove(&leg);
    }

    fn fetch(&mut self, fetch: Fetch) {
        let services = Arc::clone(&self.services);
        let (inbox, jar) = (self.inbox.clone(), Arc::clone(&self.jar));
        let context = Context { public_url: services.public_url.to_string(), sequence: 0 };
        tokio::spawn(async move {
            let (leg, id) = (fetch.leg.id, fetch.id);
            let found = services.dialects.get(&fetch.leg.dialect).zip(services.accounts.by_name(&fetch.leg.account));
            let Some((dialect, account)) = found else {
                let failure = FetchFailure {
                    kind: tandem_call::fetch::FailureKind::BadUrl,
                    detail: format!("account {} does not speak {}", fetch.leg.account, fetch.leg.dialect),
                };
                let line = failure.detail.clone();
                return inbox.send(Message::Fetched { leg, id, line, result: Err(failure) }).await;
            };
            let request_id = rand::random();
            let done = document::fetch(&services.client, dialect, account, &fetch, &context, &jar, request_id).await;
            inbox.send(Message::Fetched { leg, id, line: done.line, result: done.result }).await;
        });
    }

    /// A fact: for the record, the log, and the application.
    async fn tell(&mut self, event: CallEvent) {
        let services = Arc::clone(&self.services);
        self.log.push(event.at, Some(event.leg.id), "call", describe(&event.kind));
        match &event.kind {
            EventKind::Initiated | EventKind::Ringing { .. } | EventKind::Answered | EventKind::Ended => {
                services.counters.count(&event);
                if matches!(event.kind, EventKind::Ended) {
                    self.ended.insert(event.leg.id, Arc::clone(&event.leg));
                }
                let row = records::call_row(&event.leg, event.at);
                if let Err(error) = store::calls::upsert(&services.store, row).await {
                    tracing::error!(%error, "call record not written");
                }
            }
            EventKind::Recording(recording) => {
                let row = records::recording_row(recording, &event.leg, &services.recording_path(recording.id));
                if let Err(error) = store::recordings::upsert(&services.store, row).await {
                    tracing::error!(%error, "recording's record not written");
                }
            }
            _ => {}
        }
        let sequence = self.sequences.entry(event.leg.id).or_default();
        for (delivery, numbered) in services.notices(&event, *sequence) {
            if numbered {
                *sequence += 1;
            }
            let (notices, _) = self.notices.get_or_insert_with(|| notifier(&services));
            // The notifier ends only when this task does.
            let _ = notices.send(delivery).await;
        }
    }
}

impl Services {
    /// What the event's dialect has to tell of it, as deliveries; `true` for numbered ones.
    pub fn notices(&self, event: &CallEvent, sequence: u32) -> Vec<(Delivery, bool)> {
        let Some((dialect, account)) =
            self.dialects.get(&event.leg.dialect).zip(self.accounts.by_name(&event.leg.account))
        else {
            return Vec::new();
        };
        let context = Context { public_url: self.public_url.to_string(), sequence };
        let notices = dialect.webhook(account, event, &context).into_iter();
        notices
            .map(|notice| {
                let numbered = notice.numbered;
                let session = event.leg.session;
                (notify::delivery(notice, dialect.as_ref(), &event.leg.account, session, rand::random()), numbered)
            })
            .collect()
    }
}

impl Inbox {
    /// Something a leg's hands found out while obeying.
    fn post_event(&self, leg: LegId, event: LegEvent) {
        self.post(Message::Own(leg, event));
    }
}

/// Writes a call's notices down, in order, beside the call.
fn notifier(services: &Arc<Services>) -> (mpsc::Sender<Delivery>, JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel::<Delivery>(NOTICES);
    let services = Arc::clone(services);
    let task = tokio::spawn(async move {
        while let Some(delivery) = receiver.recv().await {
            if let Err(error) = services.deliveries().enqueue(delivery).await {
                tracing::error!(%error, "notice not written down");
            }
        }
    });
    (sender, task)
}

fn detach_stream(io: &LegIo, stream: &StreamHandle) {
    io.command(media::Command::Untap { op: media::OpId(stream.op.0) });
    if stream.plays {
        io.command(media::Command::Unsource { op: media::OpId(stream.op.0) });
    }
}

fn line(leg: Option<LegId>, kind: &str, text: String) -> Line {
    Line { at: clock::now().time, leg, kind: kind.to_owned(), text }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// An event in a line's words. Digits pressed are not in it: they may be a PIN.
fn describe(kind: &EventKind) -> String {
    match kind {
        EventKind::Initiated => "initiated".to_owned(),
        EventKind::Ringing { early_media: true } => "ringing, with early media".to_owned(),
        EventKind::Ringing { early_media: false } => "ringing".to_owned(),
        EventKind::Answered => "answered".to_owned(),
        EventKind::Ended => "ended".to_owned(),
        EventKind::DtmfReceived { .. } => "key pressed".to_owned(),
        EventKind::PlaybackStarted(playback) => format!("plays {}", describe_source(&playback.source)),
        EventKind::PlaybackEnded(_, end) => format!("playback ended: {end:?}"),
        EventKind::GatherEnded { digits, end, .. } => format!("gathered {} digits: {end:?}", digits.len()),
        EventKind::Bridged { with } => format!("bridged with {}", with.id),
        EventKind::Unbridged => "no longer bridged".to_owned(),
        EventKind::Recording(recording) => match recording.duration {
            Some(length) => format!("recording {} {:?}, {} ms", recording.id, recording.status, length.as_millis()),
            None => format!("recording {} {:?}", recording.id, recording.status),
        },
        EventKind::Stream(stream) => format!("stream {} {:?}", stream.id, stream.status),
        EventKind::Dialed(result) => format!("dial {:?}, {} ms together", result.status, result.duration.as_millis()),
        EventKind::FetchFailed { failure } => format!("document failed: {}", failure.detail),
        EventKind::Warned(warning) => format!("warning {}: {}", warning.code, warning.message),
    }
}

fn describe_source(source: &AudioSource) -> String {
    match source {
        AudioSource::Speech(speech) => format!("{} characters of speech", speech.text.chars().count()),
        AudioSource::Url(url) => url.clone(),
        AudioSource::Inline(bytes) => format!("{} octets", bytes.len()),
        AudioSource::Tone(tone) => format!("{tone:?}"),
        AudioSource::Silence(length) => format!("{} ms of silence", length.as_millis()),
    }
}
