//! SHELL: what the application holds. [`Engine`] starts the threads; a [`Session`] is one leg's negotiation and the
//! way to its worker.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::Codec;
use crate::command::{Command, SessionKey};
use crate::config::{CodecName, Config, PortRange, UseKernel};
use crate::event::EventSink;
use crate::kernel::KernelRelay;
use crate::latch::MediaSource;
use crate::ports::Ports;
use crate::room::{Room, RoomCommand, RoomKey, RoomSink, RoomSpec};
use crate::sdp::{Local, Negotiation, Preference, RANDOM, SdpError, Srtp};
use crate::session::MediaSession;
use crate::suppress::budget::SuppressionBudget;
use crate::worker::{Inbox, MOST_ROOMS, Message, Published, Shared, Worker};
use crate::writer::Writer;

/// The running engine. Clones share it; [`Engine::shutdown`] ends it.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    ports: Arc<Ports>,
    advertise: IpAddr,
    /// What sessions tell one another that are both here.
    within: IpAddr,
    send_silence: bool,
    relatch_probation: Option<Duration>,
    codecs: Vec<Codec>,
    seeds: RandomState,
    stopping: AtomicBool,
    /// Workers, then the writer's, in the order they are joined.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `listen` is 0.0.0.0 or :: and nothing says what our SDP should.
    #[error("[media] listen is {0}: set `advertise` to the address that far ends can reach")]
    NoAddress(IpAddr),
    /// `advertise` and `listen` are of different families.
    #[error("[media] advertise {advertise} and listen {listen} have different address families")]
    Families {
        /// As configured.
        listen: IpAddr,
        /// As configured.
        advertise: IpAddr,
    },
    /// Not an address of this machine, or not ours to use.
    #[error("media.listen: cannot bind UDP ports {ports} of {listen}: {error}")]
    Bind {
        /// As configured.
        listen: IpAddr,
        /// As configured.
        ports: PortRange,
        /// Why.
        error: io::Error,
    },
    /// Other programs have the ports.
    #[error("media.ports: no pair of the range {0} is free")]
    NoPorts(PortRange),
    /// `kernel_relay` is "required", and the kernel does not.
    #[error("media.kernel_relay is \"required\": {0}")]
    Kernel(String),
    /// A thread, eventfd or epoll could not be made.
    #[error("the media engine cannot start: {0}")]
    System(#[from] io::Error),
}

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// All ports of the pool are in use. For SIP: 503.
    #[error("all RTP ports are in use")]
    PortsExhausted,
    /// An open session has this key.
    #[error("the session key is in use")]
    KeyInUse,
    /// 10,000 rooms are open.
    #[error("too many rooms are open")]
    TooManyRooms,
    /// [`Engine::shutdown`] was called.
    #[error("the media engine is shutting down")]
    ShuttingDown,
    /// A socket could not be made or bound.
    #[error("cannot open RTP sockets on media.listen: {0}")]
    Socket(#[from] io::Error),
}

/// The worker has thousands of messages waiting; the command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the media worker is busy")]
pub struct Busy;

/// Totals of all workers, at most 5 ms old; 60 ms while nobody speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Sessions now, those included whose recordings are being completed.
    pub sessions: u64,
    /// RTP packets taken.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Of those, passed from one leg to another or echoed.
    pub relayed: u64,
    /// Dropped: strangers, payload types not agreed, not relayable.
    pub dropped: u64,
    /// Not RTP or RTCP.
    pub malformed: u64,
    /// Offers and answers that were no SDP, or had no audio for us.
    pub sdp_refused: u64,
    /// Ways from one leg to another on which the kernel passes packets on, now.
    pub kernel_flows: u64,
}

impl Engine {
    /// Starts the media threads and the recording writer.
    pub fn start(config: Config) -> Result<Engine, StartError> {
        let advertise = config.advertise.unwrap_or(config.listen);
        if advertise.is_unspecified() {
            return Err(StartError::NoAddress(advertise));
        }
        if advertise.is_ipv4() != config.listen.is_ipv4() {
            return Err(StartError::Families { listen: config.listen, advertise });
        }
        // A pair on trial: otherwise the first call would be the one to find out.
        match Arc::new(Ports::new(config.listen, config.ports)).has_any() {
            Ok(true) => {}
            Ok(false) => return Err(StartError::NoPorts(config.ports)),
            Err(error) => return Err(StartError::Bind { listen: config.listen, ports: config.ports, error }),
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count =
            if config.workers == 0 { cores.saturating_sub(1).max(1) } else { config.workers.min(Config::MOST_WORKERS) };
        let shared = Arc::new(Shared {
            inboxes: (0..count).map(|_| Inbox::new()).collect::<io::Result<_>>()?,
            homes: Mutex::default(),
            rooms: Mutex::default(),
            published: (0..count).map(|_| Published::default()).collect(),
            kernel: kernel_relay(&config)?,
            sdp_refused: AtomicU64::new(0),
        });
        let (writers, mut handle) = Writer::new();
        let mut writing = Vec::new();
        for (number, writer) in writers.into_iter().enumerate() {
            let thread = std::thread::Builder::new().name(format!("recorder-{number}")).spawn(move || writer.run())?;
            if number == 0 {
                handle = handle.with_thread(thread.thread().clone());
            }
            writing.push(thread);
        }
        let mut threads = Vec::new();
        for number in 0..count {
            let worker = Worker::new(
                number,
                Arc::clone(&shared),
                SuppressionBudget::new(config.suppression_budget),
                handle.clone(),
            )?;
            threads.push(std::thread::Builder::new().name(format!("media-{number}")).spawn(move || worker.run())?);
        }
        threads.extend(writing);
        let inner = Inner {
            shared,
            ports: Arc::new(Ports::new(config.listen, config.ports)),
            advertise,
            within: match config.listen {
                IpAddr::V4(listen) if listen.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(listen) if listen.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                listen => listen,
            },
            send_silence: config.send_silence,
            relatch_probation: config.relatch_probation(),
            codecs: CodecName::codecs(&config.codecs),
            seeds: RandomState::new(),
            stopping: AtomicBool::new(false),
            threads: Mutex::new(threads),
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// Takes a pair of ports and puts a session on a worker; RTCP's is bound when something is first sent. Sessions of the
    /// same `affinity` share one, which makes bridging them free; give all legs of a call the same.
    pub fn open(&self, key: SessionKey, affinity: u128, events: EventSink) -> Result<Session, OpenError> {
        self.open_at(self.inner.advertise, key, affinity, events)
    }

    /// The same for one whose peer is another session of this engine: its description names an address of this machine,
    /// whatever peers elsewhere are told.
    pub fn open_within(&self, key: SessionKey, affinity: u128, events: EventSink) -> Result<Session, OpenError> {
        self.open_at(self.inner.within, key, affinity, events)
    }

    fn open_at(
        &self,
        address: IpAddr,
        key: SessionKey,
        affinity: u128,
        events: EventSink,
    ) -> Result<Session, OpenError> {
        let inner = &*self.inner;
        if inner.stopping.load(Ordering::Acquire) {
            return Err(OpenError::ShuttingDown);
        }
        let home = worker_of(affinity, inner.shared.inboxes.len());
        {
            let mut homes = inner.shared.homes.lock().unwrap_or_else(PoisonError::into_inner);
            if homes.contains_key(&key) {
                return Err(OpenError::KeyInUse);
            }
            homes.insert(key, home);
        }
        let sockets = match inner.ports.bind() {
            Ok(Some(sockets)) => sockets,
            other => {
                inner.shared.homes.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                return Err(other.err().map_or(OpenError::PortsExhausted, OpenError::Socket));
            }
        };
        let seed = inner.seeds.hash_one(key.0);
        // RFC 8866 §5.2 wants a numeric id; some peers read only 32 bits of it.
        let local = Local { address, port: sockets.port, id: (seed >> 33).max(1) };
        let port = sockets.port;
        let mut session = Box::new(MediaSession::new(key, seed, events, inner.send_silence));
        session.set_relatch_probation(inner.relatch_probation);
        let mut negotiation = Negotiation::new(local);
        negotiation.set_codecs(&inner.codecs);
        if let Some(inbox) = inner.shared.inboxes.get(home) {
            inbox.post(Message::Open { session, sockets });
        }
        Ok(Session { key, port, home, shared: Arc::clone(&inner.shared), negotiation })
    }

    /// Whether a session could have its ports.
    pub fn has_ports(&self) -> bool {
        !self.inner.ports.is_empty()
    }

    /// Opens a room, which lives on one worker: those who join it move there. Rooms of the same `affinity` as sessions
    /// are with them. At most 10,000 at a time.
    pub fn open_room(
        &self,
        key: RoomKey,
        affinity: u128,
        spec: RoomSpec,
        events: RoomSink,
    ) -> Result<RoomHandle, OpenError> {
        let shared = &self.inner.shared;
        if self.inner.stopping.load(Ordering::Acquire) {
            return Err(OpenError::ShuttingDown);
        }
        let home = worker_of(affinity, shared.inboxes.len());
        {
            let mut rooms = shared.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            if rooms.contains_key(&key) {
                return Err(OpenError::KeyInUse);
            }
            if rooms.len() >= MOST_ROOMS {
                return Err(OpenError::TooManyRooms);
            }
            rooms.insert(key, home);
        }
        let room = Box::new(Room::new(key, spec, events, shared.room_done(key, home)));
        if let Some(inbox) = shared.inboxes.get(home) {
            inbox.post(Message::OpenRoom { room });
        }
        Ok(RoomHandle { key, home, shared: Arc::clone(shared) })
    }

    /// Totals for metrics.
    pub fn load(&self) -> Load {
        let sdp_refused = self.inner.shared.sdp_refused.load(Ordering::Relaxed);
        let kernel_flows = self.inner.shared.kernel.as_ref().map_or(0, KernelRelay::flows);
        let mut load = Load { sdp_refused, kernel_flows, ..Load::default() };
        for published in &self.inner.shared.published {
            load.sessions += published.sessions.load(Ordering::Relaxed);
            load.packets_in += published.packets_in.load(Ordering::Relaxed);
            load.packets_out += published.packets_out.load(Ordering::Relaxed);
            load.relayed += published.relayed.load(Ordering::Relaxed);
            load.dropped += published.dropped.load(Ordering::Relaxed);
            load.malformed += published.malformed.load(Ordering::Relaxed);
        }
        load
    }

    /// Closes all sessions, completes their recordings, tells their sinks, and waits for the threads. Blocks; sinks
    /// that stay full hold it for 10 s at most.
    pub fn shutdown(&self) {
        self.inner.stopping.store(true, Ordering::Release);
        for inbox in &self.inner.shared.inboxes {
            inbox.post(Message::Shutdown);
        }
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a media thread panicked");
            }
        }
    }
}

/// One leg: its offer/answer state and the way to its worker. Dropping it closes the leg; its sink then hears of
/// finished recordings and, last, of [`crate::Event::Closed`].
#[derive(Debug)]
pub struct Session {
    key: SessionKey,
    port: u16,
    home: usize,
    shared: Arc<Shared>,
    negotiation: Negotiation,
}

impl Session {
    /// As given to [`Engine::open`].
    pub fn key(&self) -> SessionKey {
        self.key
    }

    /// The RTP port; RTCP has the next.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it speaks, best first, instead of what the configuration says: before its first offer or answer. None at all
    /// is no change.
    pub fn set_codecs(&mut self, codecs: &[Codec]) {
        self.negotiation.set_codecs(codecs);
    }

    /// Whether its media is encrypted: before its first offer or answer. Its keys are drawn here, and never shown.
    pub fn set_srtp(&mut self, srtp: Srtp) {
        let mut random = [0; RANDOM];
        let filled = aws_lc_rs::rand::fill(&mut random);
        if filled.is_err() {
            tracing::error!("cannot get random numbers for SRTP keys");
        }
        self.negotiation.set_srtp(srtp, filled.is_ok().then_some(&random));
    }

    /// Where its packets may come from: before its first offer or answer.
    pub fn set_source(&mut self, source: MediaSource) {
        self.negotiation.set_source(source);
    }

    /// Whether telephone-events are offered and taken, as they are unless this says otherwise: before its first offer or
    /// answer. Without them its keys are sent as tones.
    pub fn set_events(&mut self, events: bool) {
        self.negotiation.set_events(events);
    }

    /// It only sends: a copy of another stream, under this label (RFC 4574), as recording servers get it. Before its first
    /// offer. The peer may want nothing for a while; see [`Session::sends`].
    pub fn set_label(&mut self, label: u16) {
        self.negotiation.set_label(label);
    }

    /// Whether the peer wants to hear anything now.
    pub fn sends(&self) -> bool {
        self.negotiation.is_agreed() && self.negotiation.plan().is_some_and(|plan| plan.sends)
    }

    /// Whether keys are sent to the peer as telephone-events.
    pub fn has_events(&self) -> bool {
        self.negotiation.plan().is_some_and(|plan| plan.events.is_some())
    }

    /// An SDP offer: its codecs, telephone-events at their clock rates, 20 ms, sendrecv; for a re-offer, what is agreed
    /// comes first. `o=`'s version rises only when the description changes.
    pub fn offer(&mut self) -> Bytes {
        self.offer_preferring(&Preference::default())
    }

    /// An offer with the codecs first that another leg would like, of those that this one speaks.
    pub fn offer_preferring(&mut self, preferred: &Preference) -> Bytes {
        let offer = self.negotiation.offer_preferring(preferred);
        self.send_plan();
        offer
    }

    /// The first offer again, as one to a peer that refuses keys in the plain profile and demands them in SRTP's own; where
    /// SRTP is optional. Its answer may be to either.
    pub fn offer_secured(&mut self) -> Option<Bytes> {
        self.negotiation.offer_secured()
    }

    /// Our answer to the peer's offer (RFC 3264), hold included. On an error what was agreed before stands.
    /// Of the codecs that it speaks the peer's first is taken.
    pub fn answer(&mut self, offer: &[u8]) -> Result<Bytes, SdpError> {
        self.answer_preferring(offer, &Preference::default())
    }

    /// An answer with the codec that another leg would like, if it is offered and this one speaks it.
    pub fn answer_preferring(&mut self, offer: &[u8], preferred: &Preference) -> Result<Bytes, SdpError> {
        let answer = self.prepare_answer(offer, preferred)?;
        self.send_plan();
        Ok(answer)
    }

    /// An answer that refuses each stream of an offer (RFC 3264 §6), for where an offer cannot be refused otherwise. `None` if it
    /// is none.
    pub fn decline(&mut self, offer: &[u8]) -> Option<Bytes> {
        self.negotiation.decline(offer)
    }

    /// Like [`Session::answer_preferring`], for an answer that is not sent yet: until [`Session::settle`] the same offer may
    /// be answered again, and the peer is sent nothing, lest it hear one codec first and then another.
    pub fn prepare_answer(&mut self, offer: &[u8], preferred: &Preference) -> Result<Bytes, SdpError> {
        self.negotiation.answer_preferring(offer, preferred).inspect_err(|_| self.shared.note_refused_sdp())
    }

    /// Names of the codecs of the offer that an answer was prepared to last, in its order, those we do not speak included.
    pub fn offered_codecs(&self) -> &[String] {
        self.negotiation.named()
    }

    /// The prepared answer is being sent.
    pub fn settle(&mut self) {
        self.send_plan();
    }

    /// Takes the peer's answer to our offer; early media's (183) and the final one may both come.
    pub fn accept(&mut self, answer: &[u8]) -> Result<(), SdpError> {
        self.negotiation.accept(answer).inspect_err(|_| self.shared.note_refused_sdp())?;
        self.send_plan();
        Ok(())
    }

    /// What another leg should speak to be relayed to this one: what it has agreed first, then what its peer named besides
    /// and it speaks. Nothing until the peer has spoken.
    pub fn preference(&self) -> Preference {
        self.negotiation.preference()
    }

    /// What we send, once the peer has spoken.
    pub fn codec(&self) -> Option<Codec> {
        self.negotiation.is_agreed().then(|| self.negotiation.plan().map(|plan| plan.codec))?
    }

    /// Tells the worker. Commands of one session act in order.
    pub fn command(&self, command: Command) -> Result<(), Busy> {
        let taken = self
            .shared
            .inboxes
            .get(self.home)
            .is_some_and(|inbox| inbox.try_post(Message::Command { key: self.key, command, of: None }));
        if taken { Ok(()) } else { Err(Busy) }
    }

    fn send_plan(&self) {
        if let (Some(plan), Some(inbox)) = (self.negotiation.plan(), self.shared.inboxes.get(self.home)) {
            inbox.post(Message::Plan { key: self.key, plan: plan.clone() });
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(inbox) = self.shared.inboxes.get(self.home) {
            inbox.post(Message::Close { key: self.key });
        }
    }
}

/// A room. Dropping it ends the room; its sink hears of finished recordings and, last, of [`crate::RoomEvent::Ended`].
#[derive(Debug)]
pub struct RoomHandle {
    key: RoomKey,
    home: usize,
    shared: Arc<Shared>,
}

impl RoomHandle {
    /// As given to [`Engine::open_room`].
    pub fn key(&self) -> RoomKey {
        self.key
    }

    /// Tells its worker. Commands of one room act in order.
    pub fn command(&self, command: RoomCommand) -> Result<(), Busy> {
        let inbox = self.shared.inboxes.get(self.home);
        let taken = inbox.is_some_and(|inbox| inbox.try_post(Message::Room { key: self.key, command }));
        if taken { Ok(()) } else { Err(Busy) }
    }
}

impl Drop for RoomHandle {
    fn drop(&mut self) {
        if let Some(inbox) = self.shared.inboxes.get(self.home) {
            inbox.post(Message::Room { key: self.key, command: RoomCommand::End });
        }
    }
}

/// The kernel's relay, if it is wanted and can be had; says so once either way.
fn kernel_relay(config: &Config) -> Result<Option<KernelRelay>, StartError> {
    if config.kernel_relay == UseKernel::Off {
        return Ok(None);
    }
    let most = u32::try_from(config.ports.pairs().count()).unwrap_or(u32::MAX);
    match KernelRelay::start(config.listen, most) {
        Ok(relay) => {
            tracing::info!(interfaces = %relay.interfaces().join(" "), "the kernel relays plain RTP of bridged calls");
            Ok(Some(relay))
        }
        Err(fault) if config.kernel_relay == UseKernel::Required => Err(StartError::Kernel(fault.to_string())),
        Err(fault) => {
            tracing::info!(%fault, "RTP is relayed in user space");
            Ok(None)
        }
    }
}

fn worker_of(affinity: u128, workers: usize) -> usize {
    let mixed = (affinity ^ (affinity >> 64)) as u64;
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % workers
}
