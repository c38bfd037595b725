//! The handles that the application uses. This module is part of the shell (I/O and threads). [`Engine`] starts the
//! threads. A [`Session`] holds one leg's negotiation and sends commands to the leg's worker.

mod open;
mod session;

pub use open::{FarEnd, OpenError, OpenSpec, ResumeSpec};
pub use session::{Busy, Session};

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tandem_webrtc::{Identity, IdentityError};

use crate::addresses::{Addresses, MediaPlace};
use crate::codec::Codec;
use crate::command::LegId;
use crate::config::{CodecName, Config, PortRange, UseKernel};
use crate::event::EventSink;
use crate::ice_port::IcePort;
use crate::kernel::{KernelRelay, Unavailable};
use crate::ports::{Ports, Sockets};
use crate::room::{Room, RoomCommand, RoomKey, RoomSink, RoomSpec};
use crate::sdp::{ICE_SECRET, IceSetup, Local, Negotiation};
use crate::session::{MediaSession, Resumed};
use crate::snapshot::SessionSnapshot;
use crate::suppress::budget::SuppressionBudget;
use crate::worker::{Inbox, MAX_ROOMS, Message, Published, Shared, Worker};
use crate::writer::Writer;

/// The running engine. All clones share one engine. [`Engine::shutdown`] ends the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// The place of each address family. There is at least one.
    places: Vec<Place>,
    send_silence: bool,
    relatch_probation: Option<Duration>,
    codecs: Vec<Codec>,
    seeds: RandomState,
    /// Our certificate for DTLS, and what the sessions need to negotiate ICE.
    identity: Arc<Identity>,
    ice: Arc<IceSetup>,
    stopping: AtomicBool,
    /// The worker threads, followed by the thread of the shared ports and the writer threads. The engine joins the threads in this order.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The sockets and the addresses of one address family.
#[derive(Debug)]
struct Place {
    ports: Arc<Ports>,
    /// The address in the SDP of sessions with other hosts.
    advertise: IpAddr,
    /// The address in the SDP of a session whose far end is another session of this engine.
    within: IpAddr,
}

impl Place {
    /// Whether sessions of this place have the address family of `address`.
    fn has_family_of(&self, address: IpAddr) -> bool {
        self.advertise.is_ipv4() == address.to_canonical().is_ipv4()
    }

    fn new(place: MediaPlace, ports: PortRange) -> Place {
        let within = match place.listen {
            IpAddr::V4(listen) if listen.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(listen) if listen.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            listen => listen,
        };
        Place { ports: Arc::new(Ports::new(place.listen, ports)), advertise: place.advertise, within }
    }
}

/// The reason why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `listen` is 0.0.0.0 or ::, and `advertise` does not give an address for our SDP.
    #[error("[media] listen is {0}: set `advertise` to the address that far ends can reach")]
    NoAddress(IpAddr),
    /// `listen` has no address of the family of an address in `advertise`.
    #[error("[media] advertise {advertise} and listen {listen} have different address families")]
    Families {
        /// The value of `listen` in the configuration.
        listen: Addresses,
        /// The address in `advertise` without an address in `listen`.
        advertise: IpAddr,
    },
    /// `listen` is not an address of this host, or the process may not bind the ports.
    #[error("media.listen: cannot bind UDP ports {ports} of {listen}: {error}")]
    Bind {
        /// The value of `listen` in the configuration.
        listen: IpAddr,
        /// The value of `ports` in the configuration.
        ports: PortRange,
        /// The error of the system call.
        error: io::Error,
    },
    /// No port pair of the range is free, because other programs use the ports.
    #[error("media.ports: no pair of the range {0} is free")]
    NoPorts(PortRange),
    /// A shared port of ICE is not free, or the process may not bind it.
    #[error("media.ice_{}_port: cannot bind {protocol} port {address}: {error}", protocol.to_ascii_lowercase())]
    IcePort {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// The address and the port.
        address: SocketAddr,
        /// The error of the system call.
        error: io::Error,
    },
    /// `kernel_relay` is "required", but the kernel relay cannot start. The text gives the reason.
    #[error("media.kernel_relay is \"required\": {0}")]
    Kernel(String),
    /// The certificate for DTLS could not be created.
    #[error("the media engine cannot start: {0}")]
    Identity(#[from] IdentityError),
    /// The system could not create a thread, an eventfd or an epoll.
    #[error("the media engine cannot start: {0}")]
    System(#[from] io::Error),
}

/// The reason why the engine has no room for a new call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// All port pairs of the pool are in use.
    #[error("the server has no free media port")]
    Ports,
    /// Every media thread is overloaded: it is late, or transcoding takes more than its share.
    #[error("every media thread of the server is overloaded")]
    Threads,
}

/// The totals of all workers. The figures are at most 5 ms old. While all sessions are idle, the figures are at most 60
/// ms old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// The number of open sessions. The number includes closed sessions whose recordings are not complete.
    pub sessions: u64,
    /// The number of RTP packets accepted.
    pub packets_in: u64,
    /// The number of RTP packets sent.
    pub packets_out: u64,
    /// The number of sent packets that were relayed to a bridged leg or echoed.
    pub relayed: u64,
    /// The number of dropped packets. A packet is dropped if its source is unknown, if its payload type was not agreed,
    /// or if the packet cannot be relayed.
    pub dropped: u64,
    /// The number of datagrams that were neither RTP nor RTCP.
    pub malformed: u64,
    /// The number of offers and answers that were not valid SDP or had no audio stream that we support.
    pub sdp_refused: u64,
    /// The number of datagrams and streams at the shared ports of ICE that belonged to no session.
    pub ice_port_refused: u64,
    /// The number of packets of the shared ports of ICE that were lost, because a media thread or a stream was too slow.
    pub ice_port_lost: u64,
    /// The number of flows that the kernel relays now. A flow is one direction of a leg.
    pub kernel_flows: u64,
    /// The number of media threads.
    pub threads: u64,
    /// The number of overloaded media threads. They get no new calls.
    pub overloaded_threads: u64,
    /// The largest lateness of a media thread in the last half second, in ms.
    pub late_ms: u64,
}

impl Engine {
    /// Starts the media threads and the recording writers.
    pub fn start(config: Config) -> Result<Engine, StartError> {
        let places = config.places()?;
        for MediaPlace { listen, .. } in places.iter().copied() {
            // Bind a port pair as a test. Otherwise the error would appear only at the first call.
            match Arc::new(Ports::new(listen, config.ports)).has_any() {
                Ok(true) => {}
                Ok(false) => return Err(StartError::NoPorts(config.ports)),
                Err(error) => return Err(StartError::Bind { listen, ports: config.ports, error }),
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count =
            if config.workers == 0 { cores.saturating_sub(1).max(1) } else { config.workers.min(Config::MAX_WORKERS) };
        let shared = Arc::new(Shared {
            inboxes: (0..count).map(|_| Inbox::new()).collect::<io::Result<_>>()?,
            homes: Mutex::default(),
            rooms: Mutex::default(),
            published: (0..count).map(|_| Published::default()).collect(),
            kernel: kernel_relay(&config, &places)?,
            ice_port: ice_port(&config, &places)?,
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
                config.thread_load(),
                handle.clone(),
            )?;
            threads.push(std::thread::Builder::new().name(format!("media-{number}")).spawn(move || worker.run())?);
        }
        if shared.ice_port.is_some() {
            let shared = Arc::clone(&shared);
            let run = move || shared.ice_port.iter().for_each(|port| port.run(&shared));
            threads.push(std::thread::Builder::new().name("ice-port".into()).spawn(run)?);
        }
        threads.extend(writing);
        let identity = Arc::new(Identity::generate()?);
        let mut secret = [0; ICE_SECRET];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("no random numbers"))?;
        let ice = IceSetup {
            secret,
            fingerprint: identity.fingerprint().clone(),
            lite: config.ice_lite,
            udp_port: config.ice_udp_port,
            tcp_port: config.ice_tcp_port,
        };
        let inner = Inner {
            shared,
            places: places.into_iter().map(|place| Place::new(place, config.ports)).collect(),
            send_silence: config.send_silence,
            relatch_probation: config.relatch_probation(),
            codecs: CodecName::codecs(&config.codecs),
            seeds: RandomState::new(),
            identity,
            ice: Arc::new(ice),
            stopping: AtomicBool::new(false),
            threads: Mutex::new(threads),
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// Opens a session on a worker. The session's events go to `events`.
    pub fn open(&self, spec: OpenSpec, events: EventSink) -> Result<Session, OpenError> {
        let OpenSpec { key, affinity, far_end } = spec;
        let inner = &*self.inner;
        let place = match far_end {
            FarEnd::Unknown | FarEnd::Within => None,
            FarEnd::At(address) => self.place_for(address),
        };
        let place = place.or(inner.places.first()).ok_or(OpenError::PortsExhausted)?;
        let address = if far_end == FarEnd::Within { place.within } else { place.advertise };
        let (home, sockets) = self.enter(key, affinity, || place.ports.bind())?;
        let seed = inner.seeds.hash_one(key.0);
        // The session id in SDP is numeric (RFC 8866 §5.2). Some far ends read only 32 bits of the id.
        let local = Local { address, port: sockets.port, id: (seed >> 33).max(1) };
        let port = sockets.port;
        let mut session = Box::new(MediaSession::new(key, seed, events, inner.send_silence));
        session.set_relatch_probation(inner.relatch_probation);
        session.set_identity(Arc::clone(&inner.identity));
        let mut negotiation = Negotiation::new(local);
        negotiation.set_ice(Arc::clone(&inner.ice), key.0);
        negotiation.set_codecs(&inner.codecs);
        if let Some(inbox) = inner.shared.inboxes.get(home) {
            inbox.post(Message::Open { session, sockets });
        }
        Ok(Session { key, port, home, shared: Arc::clone(&inner.shared), negotiation })
    }

    /// Opens a session that continues the RTP streams of a snapshot, on the same ports. Its events go to `events`. Then
    /// give the commands of the running operations again ([`SessionSnapshot::running`]).
    pub fn resume(&self, snapshot: SessionSnapshot, spec: ResumeSpec, events: EventSink) -> Result<Session, OpenError> {
        let ResumeSpec { affinity, skipped_packets } = spec;
        let SessionSnapshot { session: state, mut negotiation } = snapshot;
        let inner = &*self.inner;
        negotiation.set_ice(Arc::clone(&inner.ice), state.key.0);
        let (key, Local { address, port, .. }) = (state.key, negotiation.local());
        let place = self.place_for(address).ok_or(OpenError::PortsExhausted)?;
        let (home, sockets) = self.enter(key, affinity, || place.ports.bind_again(port))?;
        let resumed = Box::new(Resumed {
            state,
            events,
            send_silence: inner.send_silence,
            relatch_probation: inner.relatch_probation,
            skipped: skipped_packets,
            identity: Some(Arc::clone(&inner.identity)),
        });
        if let Some(inbox) = inner.shared.inboxes.get(home) {
            inbox.post(Message::Resume { resumed, sockets });
        }
        let session = Session { key, port, home, shared: Arc::clone(&inner.shared), negotiation };
        session.announce();
        Ok(session)
    }

    /// Returns the place with the address family of `address`.
    fn place_for(&self, address: IpAddr) -> Option<&Place> {
        self.inner.places.iter().find(|place| place.has_family_of(address))
    }

    /// Registers a session. Returns its home and its sockets, which `bind` binds.
    fn enter(
        &self,
        key: LegId,
        affinity: u128,
        bind: impl FnOnce() -> io::Result<Option<Sockets>>,
    ) -> Result<(usize, Sockets), OpenError> {
        let inner = &*self.inner;
        if inner.stopping.load(Ordering::Acquire) {
            return Err(OpenError::ShuttingDown);
        }
        let home = worker_for(affinity, &inner.shared.published);
        {
            let mut homes = inner.shared.homes.lock().unwrap_or_else(PoisonError::into_inner);
            if homes.contains_key(&key) {
                return Err(OpenError::KeyInUse);
            }
            homes.insert(key, home);
        }
        let sockets = match bind() {
            Ok(Some(sockets)) => sockets,
            other => {
                inner.shared.homes.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                return Err(other.err().map_or(OpenError::PortsExhausted, OpenError::Socket));
            }
        };
        Ok((home, sockets))
    }

    /// The reason why a new call should be refused, or `None` if there is room for a new call. Legs of existing calls
    /// may be opened in any case.
    pub fn shortage(&self) -> Option<Shortage> {
        if self.inner.places.iter().all(|place| place.ports.is_empty()) {
            return Some(Shortage::Ports);
        }
        are_overloaded(&self.inner.shared.published).then_some(Shortage::Threads)
    }

    /// Opens a room on one worker. Sessions that join the room move to this worker. If some sessions have the same
    /// `affinity` as the room, the room and these sessions share a worker from the start. At most 10,000 rooms are open
    /// at a time.
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
        let home = worker_for(affinity, &shared.published);
        {
            let mut rooms = shared.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            if rooms.contains_key(&key) {
                return Err(OpenError::KeyInUse);
            }
            if rooms.len() >= MAX_ROOMS {
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

    /// The totals for the metrics.
    pub fn load(&self) -> Load {
        let sdp_refused = self.inner.shared.sdp_refused.load(Ordering::Relaxed);
        let kernel_flows = self.inner.shared.kernel.as_ref().map_or(0, KernelRelay::flows);
        let port = self.inner.shared.ice_port.as_ref().map(IcePort::counts).unwrap_or_default();
        let (ice_port_refused, ice_port_lost) = (port.refused, port.lost);
        let mut load = Load { sdp_refused, kernel_flows, ice_port_refused, ice_port_lost, ..Load::default() };
        for published in &self.inner.shared.published {
            load.threads += 1;
            load.overloaded_threads += u64::from(published.is_overloaded());
            load.late_ms = load.late_ms.max(published.late_ms.load(Ordering::Relaxed));
            load.sessions += published.sessions.load(Ordering::Relaxed);
            load.packets_in += published.packets_in.load(Ordering::Relaxed);
            load.packets_out += published.packets_out.load(Ordering::Relaxed);
            load.relayed += published.relayed.load(Ordering::Relaxed);
            load.dropped += published.dropped.load(Ordering::Relaxed);
            load.malformed += published.malformed.load(Ordering::Relaxed);
        }
        load
    }

    /// Closes all sessions, completes their recordings and sends their last events. Then the function waits until the
    /// threads end. The calling thread blocks for this time. Event sinks that stay full delay the end by at most 10 s.
    pub fn shutdown(&self) {
        self.inner.stopping.store(true, Ordering::Release);
        for inbox in &self.inner.shared.inboxes {
            inbox.post(Message::Shutdown);
        }
        self.inner.shared.ice_port.iter().for_each(IcePort::stop);
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a media thread panicked");
            }
        }
    }
}

/// A room. If the handle is dropped, the room ends. The room's sink then receives the events of finished recordings.
/// The last event is [`crate::RoomEvent::Ended`].
#[derive(Debug)]
pub struct RoomHandle {
    key: RoomKey,
    home: usize,
    shared: Arc<Shared>,
}

impl RoomHandle {
    /// The key that was passed to [`Engine::open_room`].
    pub fn key(&self) -> RoomKey {
        self.key
    }

    /// Sends a command to the room's worker. Commands of one room take effect in order.
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

/// Starts the kernel relay. The relay does not start if the setting disables it or the host does not support it. The
/// outcome is logged once.
fn kernel_relay(config: &Config, places: &[MediaPlace]) -> Result<Option<KernelRelay>, StartError> {
    if config.kernel_relay == UseKernel::Off {
        return Ok(None);
    }
    let max_flows = u32::try_from(config.ports.pairs().count()).unwrap_or(u32::MAX);
    // The kernel relays only IPv4.
    let listen = places.iter().map(|place| place.listen).find(IpAddr::is_ipv4);
    match listen.ok_or(Unavailable::Family).and_then(|listen| KernelRelay::start(listen, max_flows)) {
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

/// Binds the shared ports of ICE, if the configuration has any.
fn ice_port(config: &Config, places: &[MediaPlace]) -> Result<Option<IcePort>, StartError> {
    let (udp, tcp) = (config.ice_udp_port, config.ice_tcp_port);
    if udp.or(tcp).is_none() {
        return Ok(None);
    }
    let listen: Vec<IpAddr> = places.iter().map(|place| place.listen).collect();
    let bound = IcePort::bind(&listen, udp, tcp);
    bound.map(Some).map_err(|(protocol, address, error)| StartError::IcePort { protocol, address, error })
}

/// Returns the worker for a new session or room. Sessions with the same affinity get the same worker, unless this worker
/// is overloaded. Then the worker with the fewest sessions is chosen of those that are not overloaded.
fn worker_for(affinity: u128, workers: &[Published]) -> usize {
    let usual = worker_of(affinity, workers.len());
    if workers.get(usual).is_none_or(|worker| !worker.is_overloaded()) {
        return usual;
    }
    let others = workers.iter().enumerate().filter(|(_, worker)| !worker.is_overloaded());
    others.min_by_key(|(_, worker)| worker.sessions.load(Ordering::Relaxed)).map_or(usual, |(number, _)| number)
}

fn are_overloaded(workers: &[Published]) -> bool {
    workers.iter().all(Published::is_overloaded)
}

fn worker_of(affinity: u128, workers: usize) -> usize {
    let mixed = (affinity ^ (affinity >> 64)) as u64;
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % workers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_call_avoids_overloaded_threads_unless_all_are_overloaded() {
        let workers: Vec<Published> = (0..4).map(|_| Published::default()).collect();
        let usual = worker_for(7, &workers);
        let others: Vec<usize> = (0..4).filter(|number| *number != usual).collect();
        for (sessions, number) in [5, 3, 9].into_iter().zip(&others) {
            workers[*number].sessions.store(sessions, Ordering::Relaxed);
        }
        workers[usual].overloaded.store(true, Ordering::Relaxed);
        assert_eq!(worker_for(7, &workers), others[1]);
        workers[others[1]].overloaded.store(true, Ordering::Relaxed);
        assert_eq!(worker_for(7, &workers), others[0]);
        assert!(!are_overloaded(&workers));
        workers.iter().for_each(|worker| worker.overloaded.store(true, Ordering::Relaxed));
        assert_eq!(worker_for(7, &workers), usual);
        assert!(are_overloaded(&workers));
    }
}
