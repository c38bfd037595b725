//! One task per call: it drives the pure [`Call`], performs its outputs and feeds it what comes back.
//!
//! Nothing here waits for an application, a disk or another call: what takes time is a task of its own that reports to the
//! [inbox](crate::inbox), which says what happens when it is full.

mod converse;
mod hear;
mod perform;
mod queueing;
mod siprec;
mod supervise;
mod tell;
mod transfer;
mod within;

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use tandem_call::Now;
use tandem_call::call::{Call, NewLeg};
use tandem_call::command::{Accepted, Refused};
use tandem_call::event::{CallEvent, EventKind, PlaybackEnd};
use tandem_call::id::{CallId, LegId, OpId, StreamId};
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegInfo, Status};
use tandem_call::output::{LegEvent, LegGone};
use tandem_call::program::instruction::{Play, RejectReason};
use tandem_call::recording::Recording;
use tandem_call::route::{Decision, Route};
use tandem_call::stream::StreamStatus;
use tandem_causes::Cause;
use tandem_clock as clock;
use tandem_history::event_log::{ADVICE, EventLog, Line};
use tandem_history::records;
use tandem_history::report::Report;
use tandem_history::trouble::Level;
use tandem_http::CookieJar;
use tandem_http::exchange::Exchange;
use tandem_media as media;
use tandem_metrics::quality;
use tandem_sip as sip;
use tandem_store as store;
use tandem_webhooks::Submitted;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::audio::AudioError;
use crate::inbox::{Inbox, Message, Messages};
use crate::leg::{self, LegIo};
use crate::local::Tie;
use crate::registry::Calls;
use crate::services::Services;
use crate::stream::Ready;
use supervise::Supervised;

/// How long an ended call waits for the last words on its legs.
const LAST_WORD: Duration = Duration::from_secs(5);

/// All that a call owns, handed to another one.
pub struct Estate {
    call: Call,
    sessions: Vec<CallId>,
    legs: HashMap<LegId, Box<LegIo>>,
    ended: HashMap<LegId, Farewell>,
    sequences: HashMap<LegId, u32>,
    own_recordings: HashMap<LegId, OwnRecording>,
    jars: HashMap<CallId, CookieJar>,
    supervised: Option<Box<Supervised>>,
    log: EventLog,
}

/// How a call begins.
pub enum Beginning {
    /// Somebody called.
    Incoming {
        /// Who.
        info: Box<LegInfo>,
        /// The INVITE, for the log.
        line: String,
        /// What they offer.
        offer: Option<bytes::Bytes>,
        /// The phone that it is, if it has shown so.
        phone: Option<sip::Aor>,
        /// Where it goes.
        route: Box<Route>,
        /// Let go when something has been done about it.
        waiting: sip::Waiting,
        /// Another leg of ours called, and this is the way to it.
        within: Option<Tie>,
    },
    /// An application calls.
    Outgoing(Vec<NewLeg>),
}

/// Starts the task of a call.
pub fn spawn(calls: Calls, id: CallId, inbox: Inbox, messages: Messages, beginning: Beginning) {
    let task = Box::new(CallTask {
        call: Call::new(id, rand::random(), clock::now()),
        sessions: vec![id],
        services: Arc::clone(calls.services()),
        calls,
        inbox,
        legs: HashMap::default(),
        ended: HashMap::default(),
        sequences: HashMap::default(),
        own_recordings: HashMap::default(),
        troubles: 0,
        asked: false,
        jars: HashMap::default(),
        notices: None,
        answers: Vec::new(),
        refused: Vec::new(),
        expected: None,
        supervised: None,
    });
    // Boxed, as the spawning would move it from place to place eight times. It lasts as long as the call does, so what few calls
    // need, or need for a moment, has no place in it: its size has a test.
    //
    // Lines of the log name the call themselves: a span would be entered and left each time that it is woken, for two lines in all.
    tokio::spawn(Box::pin(task.run(messages, beginning)));
}

type Answer = Result<Accepted, Refused>;

struct CallTask {
    call: Call,
    /// Its own id and those of the calls that it absorbed.
    sessions: Vec<CallId>,
    services: Arc<Services>,
    calls: Calls,
    inbox: Inbox,
    legs: HashMap<LegId, Box<LegIo>>,
    /// Ended legs of which SIP or the engine has more to say.
    ended: HashMap<LegId, Farewell>,
    /// Numbered notices sent, by leg.
    sequences: HashMap<LegId, u32>,
    /// The recordings asked for with a leg, by leg.
    own_recordings: HashMap<LegId, OwnRecording>,
    /// How often its application was told of something that went wrong.
    troubles: usize,
    /// An application was asked for a document.
    asked: bool,
    /// The cookies of each call that has become part of this one, by its session.
    jars: HashMap<CallId, CookieJar>,
    /// Has this call's notices sent, in order, beside it.
    notices: Option<(mpsc::Sender<Submitted>, JoinHandle<()>)>,
    /// To those who asked something, once what came of it has been done.
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    /// New legs that the call would not take, and why.
    refused: Vec<(LegInfo, String)>,
    /// Another call's legs may come: until this says otherwise, the call does not end.
    expected: Option<oneshot::Receiver<()>>,
    /// Who hears whose call without being joined to it.
    supervised: Option<Box<Supervised>>,
}

/// A recording that was asked for with its leg.
struct OwnRecording {
    facts: Recording,
    /// The end of the leg, which is not told before the recording is whole.
    end: Option<Box<CallEvent>>,
}

/// The last words awaited of a leg that the call is done with, or of the dialog with a recording server.
struct Farewell {
    /// Of a leg.
    info: Option<Arc<LegInfo>>,
    /// The dialog is over.
    dialog: bool,
    /// The media session is closed.
    media: bool,
}

enum Turn {
    On,
    Over,
    /// To the call behind this inbox, which is given the estate.
    Surrender(Inbox, oneshot::Sender<()>),
}

impl CallTask {
    async fn run(mut self: Box<Self>, mut messages: Messages, beginning: Beginning) {
        let waiting = self.begin(beginning);
        self.perform().await;
        drop(waiting);
        let mut farewell = None;
        // Set anew only when its time changes, which few messages do.
        let mut alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut set = None;
        loop {
            if self.call.is_finished() && self.expected.is_none() {
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
            if let Some(at) = wake.filter(|at| set != Some(*at)) {
                alarm.as_mut().reset(at);
                set = Some(at);
            }
            // The engine's last words are read with SIP's, which come anyway.
            let patient = farewell.is_some() && self.ended.values().any(|farewell| !farewell.dialog);
            let turn = tokio::select! {
                // What is there came before the alarm.
                biased;
                message = messages.next(patient) => match message {
                    Some(message) => self.take(message),
                    None => Turn::Over,
                },
                () = &mut alarm, if wake.is_some() => {
                    self.call.handle_timeout(clock::now());
                    if farewell.is_some_and(|at| at <= tokio::time::Instant::now()) { Turn::Over } else { Turn::On }
                }
                () = settled(&mut self.expected), if self.expected.is_some() => Turn::On,
            };
            self.perform().await;
            match turn {
                Turn::On => {}
                Turn::Over => break,
                Turn::Surrender(heir, done) => {
                    // The heir's notices come after ours.
                    self.finish_notices().await;
                    match self.surrender(&heir, done) {
                        // The inbox stays open for as long as anyone else has its address.
                        Ok(()) => return forward(messages, &heir).await,
                        Err(still_here) => self = still_here,
                    }
                }
            }
        }
        messages.close();
        while let Some(message) = messages.ready() {
            match message {
                // What was asked for too late is refused; what is heard of too late changes nothing.
                Message::NewLegs(legs) => {
                    // Without the rest of them, for which there would have to be room all the time.
                    for info in legs.into_iter().map(|leg| leg.info) {
                        self.refuse_leg(info, "the call is over").await;
                    }
                }
                Message::Exchanged { leg, exchange, line } => self.note_exchange(leg, *exchange, line),
                Message::Fetched { leg, line, exchange, .. } => self.note_fetched(clock::time(), leg, line, exchange),
                Message::Exchanges(reply) => drop(reply.send(self.inbox.log().exchanges().to_vec())),
                Message::Log(reply) => drop(reply.send(self.inbox.log().lines())),
                _ => {}
            }
        }
        self.finish_notices().await;
        let log = std::mem::take(&mut *self.inbox.log());
        log.write(&self.services.store, &self.sessions, clock::time());
        // Legs too, whose last word did not come in time.
        let legs = self.ended.keys().chain(self.legs.keys()).map(|leg| leg.0);
        for id in legs.chain(self.sessions.iter().map(|session| session.0)) {
            self.calls.forget(id);
        }
    }

    async fn finish_notices(&mut self) {
        if let Some((notices, notifier)) = self.notices.take() {
            drop(notices);
            // It ends by itself; were it to panic, there would be nothing left to write down.
            let _ = notifier.await;
        }
    }

    fn begin(&mut self, beginning: Beginning) -> sip::Waiting {
        match beginning {
            Beginning::Outgoing(legs) => {
                legs.into_iter().for_each(|leg| self.add_leg(leg));
                sip::Waiting::default()
            }
            Beginning::Incoming { mut info, line, offer, phone, route, waiting, within } => {
                let leg = info.id;
                self.note_line(info.created_at, leg, "sip", line);
                let sip = self.services.sip().clone();
                let (mut io, session) = match within {
                    Some(tie) => (LegIo::called_within(leg, sip, tie), self.open_within(leg)),
                    None => {
                        let session = self.open(leg, info.sip.trunk.as_deref(), phone.as_ref());
                        (LegIo::incoming(leg, sip), session)
                    }
                };
                let dtmf = self.services.routing.get().dtmf(info.sip.trunk.as_deref());
                match session {
                    Ok(session) => match io.accept_offer(session, dtmf, offer.as_deref()) {
                        Ok(()) => {
                            info.sip.offered_codecs = io.offered_codecs().into();
                            info.sip.codec = io.codec().map(str::to_owned);
                            self.legs.insert(leg, Box::new(io));
                            self.call.handle_incoming(clock::now(), *info, *route);
                        }
                        Err(leg::Refusal { status, why }) => {
                            tracing::warn!(call = %self.call.id(), %leg, "offer refused: {why}");
                            self.note_line(info.created_at, leg, "media", format!("offer refused: {why}"));
                            self.refuse(leg, io, *info, offer.as_deref(), *route, status);
                        }
                    },
                    Err(status) => self.refuse(leg, io, *info, offer.as_deref(), *route, status),
                }
                waiting
            }
        }
    }

    /// A call that cannot have audio: refused, and yet on record.
    fn refuse(
        &mut self,
        leg: LegId,
        io: LegIo,
        mut info: LegInfo,
        offer: Option<&[u8]>,
        mut route: Route,
        status: u16,
    ) {
        info.sip.offered_codecs = offer.map_or_else(Vec::new, media::offered_codecs).into();
        self.legs.insert(leg, Box::new(io));
        route.decision = Decision::Reject(RejectReason::Status(status));
        self.call.handle_incoming(clock::now(), info, route);
    }

    fn add_leg(&mut self, new: NewLeg) {
        let info = new.info.clone();
        if let Err(refused) = self.call.handle_new_leg(clock::now(), new) {
            self.refused.push((info, refused.to_string()));
        }
    }

    /// A leg that was promised and cannot be: its end is told like any other's.
    fn refuse_leg(&mut self, mut info: LegInfo, why: &str) -> impl Future<Output = ()> + Send {
        let now = clock::now();
        info.status = Status::Failed;
        let detail = Some(format!("no further leg: {why}"));
        let (cause, by) = (EndCause::Failed, EndedBy::Server);
        info.end = Some(LegEnd { at: now.time, cause, by, sip_status: None, detail, failure: None });
        let leg = info.id;
        let event = Box::new(CallEvent { at: now.time, leg: Arc::new(info), kind: EventKind::Ended });
        async move {
            self.tell(event).await;
            self.release(leg);
        }
    }

    /// Writes down how a leg is now, beside its events.
    fn record(&self, info: &Arc<LegInfo>, at: jiff::Timestamp) {
        store::calls::update(&self.services.store, records::call_row(info, at));
    }

    fn open(&self, leg: LegId, trunk: Option<&str>, phone: Option<&sip::Aor>) -> Result<media::Session, u16> {
        let mut session = self
            .services
            .media
            .open(media::SessionKey(leg.0), self.call.id().0, self.inbox.sink())
            .inspect_err(|error| tracing::warn!(call = %self.call.id(), %leg, %error, "no media session"))
            .map_err(|_| 503_u16)?;
        let routing = self.services.routing.get();
        session.set_codecs(&routing.codecs(trunk));
        session.set_source(routing.media_source(trunk));
        let srtp = routing.srtp(trunk, phone);
        if srtp != media::Srtp::Off {
            session.set_srtp(srtp);
        }
        Ok(session)
    }

    fn take(&mut self, message: Message) -> Turn {
        let now = clock::now();
        match message {
            Message::Sip(leg, event) => self.take_sip(now, leg, event),
            Message::Media(leg, event) => self.take_media(now, leg, *event),
            Message::Fetched { leg, id, line, exchange, speaks, result } => {
                // Its line is before those of what it causes: they have the same time.
                self.note_fetched(now.time, leg, line, exchange);
                if let Some(dialect) = speaks {
                    self.call.set_dialect(leg, dialect);
                }
                self.call.handle_fetched(now, leg, id, result);
            }
            Message::Rendered { leg, op, play, audio } => self.take_audio(leg, op, &play, audio),
            Message::StreamOpen { leg, id } => {
                let stream = self.legs.get_mut(&leg).and_then(|io| io.streams.get_mut(&id));
                let held = stream.and_then(|stream| {
                    stream.holds_call = false;
                    stream.held.take()
                });
                held.into_iter().for_each(|invite| self.invite(leg, *invite));
            }
            Message::StreamReady { leg, id, ready } => self.attach_stream(leg, id, *ready),
            Message::StreamPress { leg, id, digits } => {
                if let Some(op) = self.legs.get(&leg).and_then(|io| io.streams.get(&id)).map(|stream| stream.op) {
                    self.press(leg, op, digits);
                }
            }
            Message::Stream { leg, id, status } => {
                // It is over already.
                let stream = self.detach_stream(leg, id);
                self.call.handle_leg(now, leg, LegEvent::Stream { id, status });
                let held = stream.and_then(|stream| stream.held);
                held.into_iter().for_each(|invite| self.invite(leg, *invite));
            }
            Message::Conversation { leg, id, news } => self.take_conversation(leg, id, *news),
            Message::Request { leg, request, reply } => {
                let says_state = request.client_state.is_some();
                let answer = self.call.handle_request(now, leg, *request);
                // No event may come of it, and yet whoever asks for the call is to see its new state. The end is written
                // down by its event, behind its notices.
                if let (true, Some(info)) = (says_state, self.call.leg(leg))
                    && !info.status.is_final()
                {
                    self.record(info, now.time);
                }
                self.answers.push((reply, answer));
            }
            Message::NewLegs(legs) => legs.into_iter().for_each(|leg| self.add_leg(leg)),
            Message::Expect { room, settled } => {
                self.expected = Some(settled);
                // Who asked may have given up.
                let _ = room.send(self.call.room());
            }
            Message::Surrender { heir, room, done } => {
                if room >= self.call.legs().count() && !heir.same(&self.inbox) {
                    return Turn::Surrender(heir, done);
                }
            }
            Message::Absorb { estate, done } => {
                self.absorb(*estate);
                let _ = done.send(());
            }
            Message::Own(leg, event) => self.call.handle_leg(now, leg, event),
            Message::Exchanged { leg, exchange, line } => self.note_exchange(leg, *exchange, line),
            Message::Exchanges(reply) => {
                let _ = reply.send(self.inbox.log().exchanges().to_vec());
            }
            Message::Log(reply) => {
                let _ = reply.send(self.inbox.log().lines());
            }
            Message::HangupAll => {
                self.call.handle_shutdown(now);
            }
        }
        Turn::On
    }

    /// Adds a line to the call's log.
    fn note_line(&self, at: jiff::Timestamp, leg: LegId, kind: &'static str, text: impl AsRef<str>) {
        self.inbox.log().push(at, Some(leg), kind, text);
    }

    fn note_fetched(&mut self, at: jiff::Timestamp, leg: LegId, line: String, exchange: Option<Box<Exchange>>) {
        self.note_line(at, leg, "webhook", line);
        if let Some(exchange) = exchange {
            self.note_exchange(Some(leg), *exchange, None);
        }
    }

    fn note_exchange(&mut self, leg: Option<LegId>, exchange: Exchange, line: Option<Line>) {
        let mut log = self.inbox.log();
        line.into_iter().for_each(|line| log.push_line(line));
        log.push_exchange(leg, exchange);
    }

    /// Gives everything away. If the heir is no more, this call goes on as it was.
    fn surrender(mut self: Box<Self>, heir: &Inbox, done: oneshot::Sender<()>) -> Result<(), Box<Self>> {
        let id = self.call.id();
        let call = std::mem::replace(&mut self.call, Call::new(id, [0; 32], clock::now()));
        let estate = Estate {
            call,
            sessions: std::mem::take(&mut self.sessions),
            legs: std::mem::take(&mut self.legs),
            ended: std::mem::take(&mut self.ended),
            sequences: std::mem::take(&mut self.sequences),
            own_recordings: std::mem::take(&mut self.own_recordings),
            jars: std::mem::take(&mut self.jars),
            supervised: self.supervised.take(),
            log: std::mem::take(&mut *self.inbox.log()),
        };
        let Err(estate) = heir.give(Box::new(estate), done) else { return Ok(()) };
        let Estate { call, sessions, legs, ended, sequences, own_recordings, jars, supervised, log } = *estate;
        (self.own_recordings, self.jars, self.supervised) = (own_recordings, jars, supervised);
        (self.call, self.sessions, self.legs) = (call, sessions, legs);
        (self.ended, self.sequences) = (ended, sequences);
        self.inbox.log().append(log);
        Err(self)
    }

    fn absorb(&mut self, estate: Estate) {
        let Estate { call, sessions, legs, ended, sequences, own_recordings, jars, supervised, log } = estate;
        let recorders = legs.values().flat_map(|io| &io.siprecs).map(|session| session.id().0);
        let ids = call.legs().map(|leg| leg.id.0).chain(ended.keys().map(|leg| leg.0)).chain(recorders);
        for id in ids.chain(sessions.iter().map(|session| session.0)) {
            self.calls.register(id, self.inbox.clone());
        }
        self.call.absorb(clock::now(), call);
        self.sessions.extend(sessions);
        self.legs.extend(legs);
        self.ended.extend(ended);
        self.sequences.extend(sequences);
        self.own_recordings.extend(own_recordings);
        self.jars.extend(jars);
        self.supervised = Supervised::united(self.supervised.take(), supervised);
        self.inbox.log().append(log);
    }

    fn take_sip(&mut self, now: Now, leg: LegId, event: sip::Event) {
        if let (sip::Event::Ended { .. }, Some(farewell)) = (&event, self.ended.get_mut(&leg)) {
            farewell.dialog = true;
            return self.part(leg);
        }
        if let Some((owner, id)) = self.siprec_of(leg) {
            return self.take_recorder(owner, id, &event);
        }
        if let sip::Event::Referred { referred, .. } = event {
            return self.take_referred(leg, *referred);
        }
        let routing = self.services.routing.get();
        let tune = |session: &mut media::Session, trunk: Option<&str>| {
            session.set_codecs(&routing.codecs(trunk));
            session.set_source(routing.media_source(trunk));
            // Also when it is off: the last trunk may have been offered keys.
            session.set_srtp(routing.srtp(trunk, None));
        };
        let failed = self.legs.get_mut(&leg).and_then(|io| Some((io.fail_over(&event, tune)?, io.vouched.take())));
        if let Some(((line, trunk), vouched)) = failed {
            if let (sip::Event::Ended { status, .. }, Some(info)) = (&event, self.call.leg(leg)) {
                info.sip.trunk.iter().for_each(|trunk| self.services.counters.failed_over(trunk, *status));
            }
            vouched.iter().for_each(|vouched| self.services.counters.stir.said(vouched.word()));
            [Some(line), vouched.map(|vouched| vouched.to_string())]
                .into_iter()
                .flatten()
                .for_each(|line| self.note_line(now.time, leg, "sip", line));
            if let Some(trunk) = trunk {
                self.call.set_trunk(leg, trunk);
            }
            return;
        }
        if let Some(returned) = self.legs.get(&leg).and_then(|io| io.returned(&event)) {
            self.call.set_returned(leg, returned);
        }
        self.hear_the_other_leg(leg);
        let said = self.legs.get_mut(&leg).and_then(|io| io.on_sip(event));
        self.tell_the_other_leg(leg);
        match said {
            Some(LegEvent::Dtmf(digit)) => self.take_press(now, leg, digit, media::Form::Info),
            Some(said) => self.call.handle_leg(now, leg, said),
            None => {}
        }
    }

    /// A key press, told to the streams and the call unless it came before, in another form.
    fn take_press(&mut self, now: Now, leg: LegId, digit: char, form: media::Form) {
        let Some(io) = self.legs.get_mut(&leg) else { return };
        // Events and tones the engine has told once already.
        let known = if form == media::Form::Info { form } else { media::Form::Event };
        if io.presses.handle(now.instant, digit, known) {
            if let Some(peer) = io.peer.and_then(|peer| self.legs.get(&peer)) {
                peer.pass_press(digit, form);
            }
            let Some(io) = self.legs.get(&leg) else { return };
            io.streams.values().for_each(|stream| stream.dtmf(digit));
            if let Some(conversation) = &io.conversation {
                conversation.key(digit);
            }
            self.call.handle_leg(now, leg, LegEvent::Dtmf(digit));
        }
    }

    /// The leg that this one is joined to, or else will be.
    fn other_leg(&self, leg: LegId) -> Option<LegId> {
        let joined = self.legs.get(&leg).and_then(|io| io.peer);
        joined.or_else(|| self.call.leg(leg).and_then(|info| info.parent))
    }

    /// Lets a leg know what its other one speaks.
    fn hear_the_other_leg(&mut self, leg: LegId) {
        let preference = self.other_leg(leg).and_then(|other| self.legs.get(&other)).map(|io| io.preference());
        if let (Some(preference), Some(io)) = (preference, self.legs.get_mut(&leg)) {
            io.prefer(preference);
        }
    }

    /// Lets a leg's other one know what it speaks, and the call what either does.
    fn tell_the_other_leg(&mut self, leg: LegId) {
        let preference = self.legs.get(&leg).map(|io| io.preference());
        let other = self.other_leg(leg);
        if let (Some(preference), Some(io)) = (preference, other.and_then(|other| self.legs.get_mut(&other))) {
            io.prefer(preference);
        }
        for one in [Some(leg), other].into_iter().flatten() {
            if let Some(codec) = self.legs.get(&one).and_then(|io| io.codec()) {
                self.call.set_codec(one, codec);
            }
        }
    }

    fn take_media(&mut self, now: Now, leg: LegId, event: media::Event) {
        match &event {
            media::Event::FirstPacket => self.note_line(now.time, leg, "media", "first packet came"),
            media::Event::SourceMoved { to } => {
                self.note_line(now.time, leg, "media", format!("RTP now comes from {to}"));
            }
            // Whether event or tone, the engine has told it once.
            media::Event::Dtmf { digit, form, .. } => return self.take_press(now, leg, *digit, *form),
            media::Event::MarkReached { op, name } => {
                let conversation = self.legs.get(&leg).and_then(|io| io.conversation.as_ref());
                if let Some(conversation) = conversation.filter(|own| own.op.0 == op.0) {
                    return conversation.mark(Arc::clone(name));
                }
                self.note_line(now.time, leg, "media", format!("mark {name:?} reached"));
                let own = self.legs.get(&leg).into_iter().flat_map(|io| io.streams.values());
                // A stream may be heard by the leg that its own is, or was, joined to.
                let others = self.legs.values().flat_map(|io| io.streams.values());
                let reached = own
                    .filter(|stream| stream.op.0 == op.0)
                    .chain(others.filter(|stream| stream.peer_op().0 == op.0))
                    .next();
                if let Some(stream) = reached {
                    stream.mark(Arc::clone(name));
                }
            }
            media::Event::StreamOverflow { dropped_ms, .. } => {
                let text = format!("the stream's application is too slow: {dropped_ms} ms of audio dropped");
                self.note_line(now.time, leg, "media", text);
            }
            media::Event::RecordingFinished { dropped, path, .. } if !dropped.is_zero() => {
                let milliseconds = dropped.as_millis();
                let (call, path) = (self.call.id(), path.display());
                let (cause, advice) = (Cause::DiskSlow, Cause::DiskSlow.advice());
                tracing::warn!(%call, %leg, %path, milliseconds, %cause, advice, "the disk was too slow: a recording lacks audio");
                self.services.counters.add_unrecorded(*dropped);
                let text = format!("the disk was too slow for a recording: {milliseconds} ms of it are silence");
                self.note_line(now.time, leg, "media", text);
            }
            media::Event::Impaired { cause, value } => {
                self.services.counters.impaired(*cause);
                self.note_line(now.time, leg, "media", quality::complaint(*cause, *value));
            }
            media::Event::SuppressionShed { track } => {
                self.services.counters.suppression_shed();
                let text = format!("no time to clean {} of noise: it goes on as it is", side(*track));
                self.note_line(now.time, leg, "media", text);
            }
            media::Event::SuppressionResumed { track } => {
                let text = format!("{} is cleaned of noise again", side(*track));
                self.note_line(now.time, leg, "media", text);
            }
            media::Event::Closed { stats } => return self.closed(now, leg, stats),
            _ => {}
        }
        if let Some(said) = leg::on_media(&event) {
            self.call.handle_leg(now, leg, said);
        }
    }

    /// The engine's last word on a leg.
    fn closed(&mut self, now: Now, leg: LegId, stats: &media::Stats) {
        self.note_line(now.time, leg, "media", quality::summary(stats));
        self.services.counters.add_media(stats);
        self.note_one_sided(now, leg, stats);
        let Some(farewell) = self.ended.get_mut(&leg) else {
            // Closed while it lives: the engine gave it up, and without audio there is no call.
            if let Some(io) = self.legs.get_mut(&leg) {
                io.lose_media();
            }
            let detail = Some("the media engine gave it up".to_owned());
            let gone = LegEvent::Ended { reason: LegGone::Failed, sip_status: None, detail };
            return self.call.handle_leg(now, leg, gone);
        };
        farewell.media = true;
        if let Some(mut info) = farewell.info.clone() {
            Arc::make_mut(&mut info).sip.quality = Some(quality::of(stats));
            self.record(&info, now.time);
        }
        self.part(leg);
    }

    /// Says in words that nothing was heard of an answered leg, or that it was heard from elsewhere than it said.
    fn note_one_sided(&self, now: Now, leg: LegId, stats: &media::Stats) {
        let Some(info) = self.ended.get(&leg).and_then(|farewell| farewell.info.as_ref()) else { return };
        let Some(told) = quality::one_sided(stats, info.duration(now.time)) else { return };
        self.note_line(now.time, leg, "media", &told.text);
        if told.is_wrong {
            self.inbox.log().push(now.time, Some(leg), ADVICE, told.cause.line());
            let report = Report::new(told.cause, &*told.text);
            self.services.keep_report(&info.account, Some(info), Level::Warning, now.time, report);
        }
        if told.is_wrong
            && let Some(held_back) = self.services.counters.one_sided(now.instant)
        {
            let held_back = (held_back > 0).then_some(held_back);
            let (call, trunk) = (self.call.id(), info.sip.trunk.as_deref());
            let (cause, advice) = (told.cause, told.cause.advice());
            tracing::warn!(held_back, %call, %leg, trunk, %cause, advice, "{}", told.text);
        }
    }

    /// Forgets an ended leg once everything has been said.
    fn part(&mut self, leg: LegId) {
        if self.ended.get(&leg).is_some_and(|farewell| farewell.dialog && farewell.media) {
            self.ended.remove(&leg);
            self.calls.forget(leg.0);
        }
    }

    fn take_audio(&mut self, leg: LegId, op: OpId, play: &Play, audio: Result<Arc<media::Audio>, AudioError>) {
        let Some(io) = self.legs.get_mut(&leg) else { return };
        if io.renders.remove(&op).is_none() {
            return;
        }
        let failed = match audio {
            Ok(audio) => {
                let command = media::Command::Play { op: media::OpId(op.0), audio, loops: play.loops };
                (!io.command(command)).then(|| AudioError::Unusable("no audio path".to_owned()))
            }
            Err(why) => Some(why),
        };
        if let Some(why) = failed {
            let end = match why {
                AudioError::Missing(what) => PlaybackEnd::Missing(what),
                AudioError::Unusable(what) => PlaybackEnd::Failed(what),
            };
            self.call.handle_leg(clock::now(), leg, LegEvent::PlayFinished { op, end });
        }
    }

    fn attach_stream(&mut self, leg: LegId, id: StreamId, ready: Ready) {
        let Some(io) = self.legs.get_mut(&leg) else { return };
        let Some(stream) = io.streams.get_mut(&id) else { return };
        stream.attached = true;
        let (op, tracks) = (media::OpId(stream.op.0), stream.tracks);
        io.command(media::Command::Tap { op, tracks, sink: ready.sink });
        if let Some(source) = ready.source {
            io.command(media::Command::Source { op, source });
        }
        self.join_streams(leg);
        self.call.handle_leg(clock::now(), leg, LegEvent::Stream { id, status: StreamStatus::Started });
    }
}

/// A side of a leg's audio in a log line's words.
fn side(track: media::Track) -> &'static str {
    match track {
        media::Track::Inbound => "what it says",
        media::Track::Outbound => "what it hears",
    }
}

/// What still comes to a call that was given away.
async fn forward(mut messages: Messages, heir: &Inbox) {
    loop {
        let message = messages.next(false).await;
        let lines = std::mem::take(&mut *messages.log());
        heir.log().append(lines);
        let Some(message) = message else { return };
        // The heir may be over by now, and so is what it inherited.
        let _ = heir.post(message);
    }
}

/// Returns once nothing is expected any more.
async fn settled(expected: &mut Option<oneshot::Receiver<()>>) {
    if let Some(settled) = expected {
        // Said or dropped is the same.
        let _ = settled.await;
    }
    *expected = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of what an `async fn` of three arguments returns.
    fn future<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[tokio::test]
    async fn lines_about_a_call_that_was_given_away_are_in_the_log_of_the_other() {
        let ((inbox, messages), (heir, _of_heir)) = (Inbox::new(), Inbox::new());
        inbox.log().push(clock::time(), None, "media", "said before the last word");
        inbox.post(Message::HangupAll).unwrap();
        inbox.log().push(clock::time(), None, "media", "said after it");
        drop(inbox);
        forward(messages, &heir).await;
        let lines: Vec<_> = heir.log().lines().into_iter().map(|line| line.text).collect();
        assert_eq!(lines, ["said before the last word", "said after it"]);
    }

    #[test]
    fn what_a_call_holds_for_as_long_as_it_lasts_is_small() {
        let (run, task, leg) = (future(CallTask::run), size_of::<CallTask>(), size_of::<LegIo>());
        assert!(run <= 6_400 && task <= 1_024 && leg <= 1_472, "{run}, {task} and {leg} octets");
    }
}
