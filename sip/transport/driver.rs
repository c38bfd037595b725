//! The driver task, which owns the endpoint and its sockets.

mod connections;

use connections::{idle, keep_alive};

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::capture::{self, Capture};
use super::handle::{Counters, Handle, Question, TrunkStatuses};
use super::icmp;
use super::message_copier::MessageCopier;
use super::resolver::{self, Resolved, Resolver, Usable};
use super::stream::{self, Connection, ConnectionKey, StreamEvent};
use super::tls::{BadFile, ExpectedServer, Tls};
use crate::config::Config;
use crate::endpoint::{Arrival, Endpoint, LookupId, MAX_LOOKUPS, Output, parse_listen};
use crate::flow::{ConnectionId, Identity, Target, Transport};
use crate::guard::{Guard, GuardDecision};
use crate::hep::Agent;
use crate::ladder::Ladder;
use crate::leg::{Command, Event};
use crate::overload::Overload;
use crate::throttle::Throttle;
use crate::trunk::TrunkStatus;
use crate::trunk_acl::TrunkName;
use crate::waiting::WaitingCalls;

/// The interval in which the driver reads the wall clock.
const WALL_CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of commands that may wait for the driver. If the queue is full, [`Handle::send`] fails.
const COMMAND_QUEUE: usize = 8_192;
/// Maximum number of questions that may wait for the driver. If the queue is full, the caller waits.
const QUESTION_QUEUE: usize = 64;
/// Maximum number of stream messages that may wait for the driver. If the queue is full, the connection tasks wait.
const STREAM_QUEUE: usize = 1_024;
/// Maximum number of inputs of one kind that the driver handles in a row. After this number, the driver handles inputs
/// of the other kinds.
const BATCH: usize = 64;
/// Maximum time for which a shutdown waits for registrars.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of identities in the table `Identities`. An identity is a pair of host and trunk, which the far end
/// of a TLS connection must prove.
const MAX_IDENTITIES: usize = 8_192;
/// Size, in octets, that the driver requests for the kernel's socket buffers. The system may allow less.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// The reason why the driver could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The value of `sip.hep` does not have the form `udp://HOST:PORT`.
    #[error("sip.hep: \"{0}\" is not udp://HOST:PORT")]
    Hep(String),
    /// An entry of `sip.listen` does not have the form `udp://ADDRESS:PORT` (or `tcp`, `tls`, `ws`, `wss`).
    #[error("sip.listen: \"{0}\" is not udp://ADDRESS:PORT (or tcp://, tls://, ws://, wss://)")]
    Listen(String),
    /// `sip.listen` has `tls://` or `wss://`, but no `[[sip.certificates]]` is configured.
    #[error("sip.listen: {0} needs a certificate: [[sip.certificates]] with certificate and key")]
    NoCertificate(String),
    /// A file for TLS cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] BadFile),
    /// The list `sip.listen` is empty.
    #[error("sip.listen is empty")]
    Nothing,
    /// The operating system refused to bind an address.
    #[error("sip.listen[{index}]: cannot listen on {listen}: {error}")]
    Bind {
        /// Index of the entry in `sip.listen`, from 0.
        index: usize,
        /// The entry of `sip.listen`.
        listen: String,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The system provides no random seed.
    #[error("the system provides no random seed: {0}")]
    Entropy(String),
}

/// Binds the sockets and starts the driver. The driver's task calls `sink` for each event. `sink` must return at once.
///
/// # Errors
/// [`StartError`] names the setting or the system resource that caused the error.
pub async fn start(config: Config, sink: impl FnMut(Event) + Send + 'static) -> Result<Handle, StartError> {
    let prepared = prepare(config).await?;
    let handle = prepared.handle();
    prepared.run(sink);
    Ok(handle)
}

/// A driver that has bound its sockets but does not read from the sockets yet. Commands to the handle wait in a queue
/// until [`Prepared::run`] is called.
pub struct Prepared {
    /// Creates the driver when the sink is known.
    driver: Box<dyn FnOnce(Sink) -> Driver + Send>,
    handle: Handle,
    report_stopped: watch::Sender<bool>,
}

impl Prepared {
    /// Returns a handle to the driver.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts the driver. The driver's task calls `sink` for each event. `sink` must return at once.
    pub fn run(self, sink: impl FnMut(Event) + Send + 'static) {
        // The sink is boxed. So the driver is compiled once, here, and not again in each crate that starts a driver.
        let driver = (self.driver)(Box::new(sink));
        tokio::spawn(async move {
            driver.run().await;
            let _ = self.report_stopped.send(true);
        });
    }
}

/// The function that receives the events; see [`start`].
type Sink = Box<dyn FnMut(Event) + Send>;

/// Binds the sockets and prepares the driver.
///
/// # Errors
/// [`StartError`] names the setting or the system resource that caused the error.
pub async fn prepare(mut config: Config) -> Result<Prepared, StartError> {
    let Bound { sockets, listeners, addresses } = bind(&config).await?;
    advertise_default_routes(&mut config, &addresses);
    let seed = seed()?;
    let tls = Arc::new(Tls::load(&config)?);
    let resolver = Arc::new(Resolver::new(&config.nameservers, seed.map(|octet| octet.rotate_left(3))));
    let websocket = config.websocket;
    let mut locals = addresses.clone();
    locals.extend(config.websocket.map(|bound| (Transport::Ws, bound)));
    let (keep_alive, idle) = (keep_alive(&config), idle(&config));
    let max_connections = config.max_connections;
    let ladder = (config.trace_mib > 0).then(|| Arc::new(Ladder::new(config.trace_mib as usize * 1024 * 1024)));
    let unknown = config.trunk_settings.iter().map(|trunk| Some((trunk.trunk.clone(), TrunkStatus::default())));
    let trunk_statuses = Arc::new(TrunkStatuses(RwLock::new(unknown.collect())));
    let capture_counts = Arc::new(capture::Counts::default());
    let capture = capture(&config, &capture_counts)?;
    let secret = seed.iter().fold(0, |secret: u64, &octet| secret.rotate_left(8) ^ u64::from(octet));
    let guard = Guard::new(config.bans.clone(), config.trunks.clone(), secret, instant());
    let guard = Arc::new(guard.with_own(addresses.iter().flat_map(|bound| addresses_of_host(&config, *bound))));
    let overload = Overload::new(Duration::from_millis(config.overload_ms));
    let bindings = std::mem::take(&mut config.bindings);
    let mut endpoint = Endpoint::new(config, seed);
    endpoint.set_locals(&locals);
    endpoint.set_guard(Arc::clone(&guard));
    for binding in bindings {
        endpoint.restore(instant(), binding);
    }
    if let Some(ladder) = &ladder {
        endpoint.set_ladder(Arc::clone(ladder));
    }

    let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
    let (stream_sender, stream_events) = mpsc::channel(STREAM_QUEUE);
    let (resolved_sender, resolved) = mpsc::channel(MAX_LOOKUPS);
    let (reloads, settings) = mpsc::channel(1);
    let (questions, question_queue) = mpsc::channel(QUESTION_QUEUE);
    let (stop, stopping) = watch::channel(false);
    let (report_stopped, stopped) = watch::channel(false);
    let counters = Arc::new(Counters::default());
    let accept = |(listener, transport)| tokio::spawn(stream::accept(listener, transport, stream_sender.clone()));
    let mut acceptors: Vec<_> = listeners.into_iter().map(accept).collect();
    acceptors.push(tokio::spawn(Arc::clone(&tls).watch()));
    let websockets = stream_sender.clone();
    let message_copier = MessageCopier::new(ladder.clone(), capture);
    let handle = Handle {
        commands,
        websockets,
        websocket,
        addresses: addresses.into(),
        node_addresses: endpoint.node_addresses().into(),
        counters: Arc::clone(&counters),
        capture_counts,
        ladder,
        guard: Arc::clone(&guard),
        trunk_statuses: Arc::clone(&trunk_statuses),
        tls: Arc::clone(&tls),
        reloads,
        questions,
        stop: Arc::new(stop),
        stopped,
    };
    let driver = move |sink| Driver {
        endpoint,
        sink,
        sockets,
        buffer: vec![0; 65_536],
        command_queue,
        stream_sender,
        stream_events,
        connections: HashMap::new(),
        connections_by_peer: HashMap::new(),
        aliases: HashMap::new(),
        next_connection: 0,
        max_connections,
        idle,
        keep_alive,
        tls,
        settings,
        question_queue,
        identities: Identities::default(),
        resolver,
        resolved_sender,
        resolved,
        trunk_statuses,
        stopping,
        counters,
        message_copier,
        guard,
        overload,
        waiting: WaitingCalls::default(),
        overload_lines: Throttle::default(),
        acceptors,
    };
    Ok(Prepared { driver: Box::new(driver), handle, report_stopped })
}

/// Advertises the address of the default route for each socket on a wildcard address that has no address in
/// `sip.advertise`.
fn advertise_default_routes(config: &mut Config, addresses: &[(Transport, SocketAddr)]) {
    for &(transport, bound) in addresses.iter().filter(|(_, bound)| bound.ip().is_unspecified()) {
        if config.advertise.address_of(transport, bound).is_none()
            && let Some(ip) = own_address(bound.is_ipv4())
        {
            config.advertise.push(ip);
            tracing::info!(%bound, advertise = %ip, "sip.advertise has no address for a socket: using the address of the default route");
        }
    }
}

/// A UDP socket that is registered only for reading. A datagram is sent at once or dropped. Registration for writing
/// would wake the driver after each sent datagram.
type Datagrams = AsyncFd<std::net::UdpSocket>;

/// The bound sockets of `sip.listen`.
struct Bound {
    /// The UDP sockets, with their local addresses.
    sockets: Vec<(Datagrams, SocketAddr)>,
    /// The listeners of the stream transports.
    listeners: Vec<(TcpListener, Transport)>,
    /// The addresses of all sockets and listeners, in the order of `sip.listen`. There is at least one address.
    addresses: Vec<(Transport, SocketAddr)>,
}

async fn bind(config: &Config) -> Result<Bound, StartError> {
    let mut bound = Bound { sockets: Vec::new(), listeners: Vec::new(), addresses: Vec::new() };
    for (index, listen) in config.listen.iter().enumerate() {
        let (transport, address) = parse_listen(listen).ok_or_else(|| StartError::Listen(listen.clone()))?;
        let failed = |error| StartError::Bind { index, listen: listen.clone(), error };
        let address = match transport {
            Transport::Udp => {
                let socket = bind_udp(address).map_err(failed)?;
                let address = socket.get_ref().local_addr().map_err(failed)?;
                bound.sockets.push((socket, address));
                address
            }
            Transport::Tls | Transport::Wss if config.certificates.is_empty() => {
                return Err(StartError::NoCertificate(listen.clone()));
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                bound.listeners.push((listener, transport));
                address
            }
        };
        bound.addresses.push((transport, address));
    }
    if bound.addresses.is_empty() { Err(StartError::Nothing) } else { Ok(bound) }
}

fn seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut seed)
        .map_err(|error| StartError::Entropy(error.to_string()))?;
    Ok(seed)
}

/// Starts the task that copies messages to a capture server, if a capture server is configured.
fn capture(config: &Config, capture_counts: &Arc<capture::Counts>) -> Result<Option<Capture>, StartError> {
    let Some(url) = &config.hep else { return Ok(None) };
    let target = capture::target(url).ok_or_else(|| StartError::Hep(url.clone()))?;
    let agent = Agent { id: config.hep_id, password: config.hep_password.clone() };
    Ok(Some(Capture::start(target, agent, Arc::clone(capture_counts))))
}

struct Driver {
    endpoint: Endpoint,
    sink: Sink,
    sockets: Vec<(Datagrams, SocketAddr)>,
    buffer: Vec<u8>,
    command_queue: mpsc::Receiver<Command>,
    stream_sender: mpsc::Sender<StreamEvent>,
    stream_events: mpsc::Receiver<StreamEvent>,
    connections: HashMap<ConnectionId, Connection>,
    connections_by_peer: HashMap<ConnectionKey, ConnectionId>,
    /// Connections that trunks have opened to this server. The key is the address on which the trunk accepts
    /// connections (RFC 5923). Each connection has at most one such address.
    aliases: HashMap<(SocketAddr, TrunkName), ConnectionId>,
    next_connection: u64,
    max_connections: usize,
    idle: Duration,
    keep_alive: Option<Duration>,
    tls: Arc<Tls>,
    settings: mpsc::Receiver<Box<Config>>,
    question_queue: mpsc::Receiver<Question>,
    identities: Identities,
    resolver: Arc<Resolver>,
    resolved_sender: mpsc::Sender<Resolved>,
    resolved: mpsc::Receiver<Resolved>,
    trunk_statuses: Arc<TrunkStatuses>,
    stopping: watch::Receiver<bool>,
    counters: Arc<Counters>,
    message_copier: MessageCopier,
    guard: Arc<Guard>,
    overload: Overload,
    waiting: WaitingCalls,
    overload_lines: Throttle,
    acceptors: Vec<JoinHandle<()>>,
}

/// Numbers for the identities that the far ends of TLS connections must prove. If there are too many identities, all
/// numbers are deleted. Existing connections stay, but a new connection with a deleted number fails.
#[derive(Debug, Default)]
struct Identities {
    numbers: HashMap<ExpectedServer, Identity>,
    next: u32,
}

impl Identities {
    fn number(&mut self, server: ExpectedServer) -> Identity {
        if self.numbers.len() >= MAX_IDENTITIES && !self.numbers.contains_key(&server) {
            self.numbers.clear();
        }
        let next = &mut self.next;
        *self.numbers.entry(server).or_insert_with(|| {
            *next = next.wrapping_add(1);
            Identity(*next)
        })
    }

    fn get(&self, identity: Identity) -> Option<ExpectedServer> {
        self.numbers.iter().find(|(_, number)| **number == identity).map(|(server, _)| server.clone())
    }
}

/// The input that woke the driver. After every wake-up the driver also checks its sockets and the clock.
enum Wake {
    Command(Command),
    Stream(StreamEvent),
    Resolved(Resolved),
    Settings(Box<Config>),
    Question(Question),
    Check,
    Stop,
}

impl Driver {
    async fn run(mut self) {
        let mut sleep = Box::pin(tokio::time::sleep(Duration::from_secs(3_600)));
        let mut armed: Option<Instant> = None;
        let mut stopping = self.stopping.clone();
        let mut stop = Box::pin(async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        });
        self.endpoint.start_trunks(instant());
        let mut clock_read = self.read_wall_clock();
        // Time at which the shutdown stops waiting for the registrars.
        let mut end: Option<Instant> = None;
        loop {
            // The sleep may end too early but never too late, and it is only moved to an earlier deadline. Most
            // deadlines are for retransmissions that are not needed in the end, and each move makes the runtime wake
            // itself up.
            let deadline = [self.endpoint.poll_timeout(), end].into_iter().flatten().min();
            if let Some(deadline) = deadline.filter(|deadline| armed.is_none_or(|armed| *deadline < armed)) {
                armed = Some(deadline);
                sleep.as_mut().reset(deadline.into());
            }
            let wake = poll_fn(|context| {
                let stop = end.is_none().then_some(stop.as_mut());
                self.poll_wake(context, armed.is_some().then_some(sleep.as_mut()), stop)
            })
            .await;
            if instant().saturating_duration_since(clock_read) >= WALL_CLOCK_INTERVAL {
                clock_read = self.read_wall_clock();
            }
            match wake {
                Wake::Command(command) => self.command(command),
                Wake::Stream(event) => self.stream_event(event),
                Wake::Resolved(resolved) => self.resolved(resolved),
                Wake::Settings(config) => self.reconfigure(*config),
                Wake::Question(question) => question.answer(&mut self.endpoint),
                Wake::Check => {}
                Wake::Stop => {
                    while let Ok(command) = self.command_queue.try_recv() {
                        self.command(command);
                    }
                    self.endpoint.withdraw(instant());
                    end = Some(instant() + UNREGISTER_TIMEOUT);
                }
            }
            let behind = self.drain();
            let now = instant();
            if let Some(due) = self.endpoint.poll_timeout().filter(|at| *at <= now) {
                self.overload.note_timer(now, due);
                self.endpoint.handle_timeout(now);
            }
            armed = armed.filter(|at| *at > now);
            self.flush();
            self.check_overload(behind);
            self.count();
            if end.is_some_and(|end| end <= now || !self.endpoint.is_withdrawing()) {
                break;
            }
        }
        for acceptor in &self.acceptors {
            acceptor.abort();
        }
    }

    /// Passes the wall-clock time to the endpoint. Returns the time of the reading.
    fn read_wall_clock(&mut self) -> Instant {
        let now = instant();
        self.endpoint.set_wall_clock(now, capture::wall_clock());
        now
    }

    fn poll_wake(
        &mut self,
        context: &mut Context<'_>,
        sleep: Option<Pin<&mut Sleep>>,
        stop: Option<Pin<&mut impl Future<Output = ()>>>,
    ) -> Poll<Wake> {
        if stop.is_some_and(|stop| stop.poll(context).is_ready()) {
            return Poll::Ready(Wake::Stop);
        }
        // Even if all handles were dropped, the driver continues until `shutdown`, because legs still live.
        if let Poll::Ready(Some(command)) = self.command_queue.poll_recv(context) {
            return Poll::Ready(Wake::Command(command));
        }
        if let Poll::Ready(Some(event)) = self.stream_events.poll_recv(context) {
            return Poll::Ready(Wake::Stream(event));
        }
        if let Poll::Ready(Some(resolved)) = self.resolved.poll_recv(context) {
            return Poll::Ready(Wake::Resolved(resolved));
        }
        if let Poll::Ready(Some(config)) = self.settings.poll_recv(context) {
            return Poll::Ready(Wake::Settings(config));
        }
        if let Poll::Ready(Some(question)) = self.question_queue.poll_recv(context) {
            return Poll::Ready(Wake::Question(question));
        }
        let mut ready = false;
        for (socket, _) in &self.sockets {
            ready |= socket.poll_read_ready(context).is_ready();
        }
        if let Some(sleep) = sleep {
            ready |= sleep.poll(context).is_ready();
        }
        if ready { Poll::Ready(Wake::Check) } else { Poll::Pending }
    }

    fn reconfigure(&mut self, config: Config) {
        self.max_connections = config.max_connections;
        self.idle = idle(&config);
        self.keep_alive = keep_alive(&config);
        self.overload = Overload::new(Duration::from_millis(config.overload_ms));
        self.endpoint.reconfigure(instant(), config);
        self.trunk_statuses.replace(self.endpoint.trunk_statuses());
        self.flush();
    }

    /// Handles the inputs that are ready, at most one batch of each kind. So one wake-up serves many inputs. Returns
    /// whether more inputs from the network may be waiting.
    fn drain(&mut self) -> bool {
        let mut behind = false;
        for index in 0..self.sockets.len() {
            behind |= self.drain_socket(index);
        }
        for _ in 0..BATCH {
            let Ok(command) = self.command_queue.try_recv() else { break };
            self.command(command);
        }
        for _ in 0..BATCH {
            let Ok(event) = self.stream_events.try_recv() else { return behind };
            self.stream_event(event);
        }
        true
    }

    fn check_overload(&mut self, behind: bool) {
        let now = instant();
        self.overload.waited(self.waiting.longest(now));
        let overloaded = self.overload.round(now, behind);
        self.endpoint.set_overloaded(overloaded);
        let before = self.counters.overloaded.swap(overloaded, Ordering::Relaxed);
        if overloaded
            && !before
            && let Some(held_back) = self.overload_lines.pass(now)
        {
            let held_back = (held_back > 0).then_some(held_back);
            tracing::warn!(held_back, "overloaded: SIP is late; new calls get 503 until it has caught up");
        }
    }

    /// Reads a batch of datagrams from a socket. Returns whether more datagrams may be waiting.
    fn drain_socket(&mut self, index: usize) -> bool {
        let now = instant();
        for _ in 0..BATCH {
            let Some((socket, local)) = self.sockets.get(index) else { return false };
            match socket.try_io(Interest::READABLE, |socket| socket.recv_from(&mut self.buffer)) {
                Ok((length, source)) => {
                    let data = self.buffer.get(..length).unwrap_or_default();
                    if self.guard.admit(now, source.ip()) != GuardDecision::Accept && !self.endpoint.awaits(data) {
                        continue;
                    }
                    let data = Bytes::copy_from_slice(data);
                    let arrival = Arrival {
                        source,
                        local: *local,
                        transport: Transport::Udp,
                        connection: None,
                        certified_trunk: None,
                        from_page: false,
                        data,
                    };
                    self.arrival(arrival);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // The error is an ICMP error for an earlier datagram.
                Err(error) => self.read_icmp_errors(index, &error),
            }
        }
        true
    }

    fn arrival(&mut self, arrival: Arrival) {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        let now = instant();
        self.message_copier.received(now, &arrival, &self.endpoint);
        self.endpoint.handle_datagram(now, arrival);
        self.flush();
    }

    fn command(&mut self, command: Command) {
        self.endpoint.handle_command(instant(), command);
        self.flush();
    }

    /// Starts a lookup in a separate task, so that the driver does not wait. If the queue of results is full, the task
    /// waits.
    fn look_up(&mut self, lookup: LookupId, uri: String, trunk: Option<TrunkName>) {
        let (sender, resolver, usable) = (self.resolved_sender.clone(), Arc::clone(&self.resolver), self.usable());
        tokio::spawn(async move {
            let found = resolver.resolve(&uri, &usable).await;
            // Sending fails if the driver has stopped.
            let _ = sender.send(Resolved { lookup, uri, trunk, found }).await;
        });
    }

    /// Adds an identity number to each TLS target. The number stands for the identity that the server at the target
    /// must prove.
    fn identified(&mut self, uri: &str, trunk: Option<TrunkName>, mut found: Vec<Target>) -> Vec<Target> {
        if found.iter().any(|target| target.transport.is_secure()) {
            let identity = resolver::host_of(uri).map(|host| self.identities.number(ExpectedServer { host, trunk }));
            for target in found.iter_mut().filter(|target| target.transport.is_secure()) {
                target.identity = identity;
            }
        }
        found
    }

    /// Returns a list of all transports. Each entry says whether the transport has an IPv4 socket, and whether it has
    /// an IPv6 socket.
    fn usable(&self) -> Usable {
        let has = |transport| (self.endpoint.listens_on(transport, true), self.endpoint.listens_on(transport, false));
        Transport::ALL.into_iter().map(|transport| (transport, has(transport))).collect()
    }

    fn resolved(&mut self, resolved: Resolved) {
        let Resolved { lookup, uri, trunk, found } = resolved;
        let found = found.map(|found| self.identified(&uri, trunk, found));
        self.endpoint.handle_resolved(instant(), lookup, found);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some((index, status)) = self.endpoint.poll_trunk_status() {
            self.trunk_statuses.write(index, status);
        }
        while let Some(output) = self.endpoint.poll_output() {
            self.message_copier.sent(instant, &output, &self.endpoint);
            if let Output::Transmit { destination, data, .. } = &output
                // Only requests that start a dialog, registration or probe: INVITE, REGISTER, OPTIONS.
                && matches!(data.first(), Some(b'I' | b'R' | b'O'))
            {
                self.guard.note_called(instant(), destination.ip());
            }
            match output {
                Output::Event(Event::Incoming { leg, mut incoming }) => {
                    incoming.waiting = self.waiting.join(instant());
                    (self.sink)(Event::Incoming { leg, incoming });
                }
                Output::Event(event) => (self.sink)(event),
                Output::Resolve { lookup, uri, trunk } => self.look_up(lookup, uri, trunk),
                Output::Trust(connection) => {
                    if let Some(connection) = self.connections.get(&connection) {
                        connection.trust();
                    }
                }
                Output::Alias { connection, address, trunk } => self.alias(connection, address, trunk),
                Output::Transmit { destination, local, transport: Transport::Udp, data, .. } => {
                    self.send_datagram(destination, local, &data);
                }
                Output::Transmit { destination, local, transport, connection, identity, data } => {
                    self.send_stream((transport, destination, identity), local, connection, data);
                }
            }
        }
    }

    fn send_datagram(&mut self, destination: SocketAddr, local: Option<SocketAddr>, data: &[u8]) {
        let index = self
            .sockets
            .iter()
            .position(|(_, bound)| Some(*bound) == local)
            .or_else(|| self.sockets.iter().position(|(_, bound)| bound.is_ipv4() == destination.is_ipv4()));
        let socket = || Some(self.sockets.get(index?)?.0.get_ref());
        // The first attempt may report the ICMP error for an earlier datagram, to any destination.
        let error = socket().and_then(|socket| socket.send_to(data, destination).err());
        let again = || socket().is_some_and(|socket| socket.send_to(data, destination).is_ok());
        let sent = if error.is_some() { again() } else { index.is_some() };
        let counter = if sent { &self.counters.sent } else { &self.counters.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
        if let (Some(index), Some(error)) = (index, error) {
            self.read_icmp_errors(index, &error);
        }
    }

    /// Reads the ICMP errors for earlier datagrams of a socket, at most one batch. The requests in these datagrams fail.
    fn read_icmp_errors(&mut self, index: usize, error: &io::Error) {
        for _ in 0..BATCH {
            let Some((socket, _)) = self.sockets.get(index) else { return };
            let Some(icmp) = icmp::read(socket.get_ref()) else { return };
            self.endpoint.handle_icmp_error(instant(), icmp.peer, &icmp.quoted, error.kind());
        }
    }

    fn count(&self) {
        self.counters.legs.store(self.endpoint.legs(), Ordering::Relaxed);
        self.counters.transactions.store(self.endpoint.transactions(), Ordering::Relaxed);
        self.counters.connections.store(self.connections.len(), Ordering::Relaxed);
        self.counters.bindings.store(self.endpoint.bindings(), Ordering::Relaxed);
        self.counters.repeated.store(self.endpoint.repeated(), Ordering::Relaxed);
        self.counters.wrong_passwords.store(self.endpoint.wrong_passwords(), Ordering::Relaxed);
        self.counters.shed.store(self.endpoint.shed(), Ordering::Relaxed);
        self.counters.unknown_source_requests.store(self.endpoint.unknown_source_requests(), Ordering::Relaxed);
        self.counters.malformed.store(self.endpoint.malformed(), Ordering::Relaxed);
    }
}

/// Returns the addresses of this host from which packets to itself can come, as far as they are known: the address of the
/// socket, or the loopback addresses and the address of the default route, and the advertised address.
fn addresses_of_host(config: &Config, (transport, bound): (Transport, SocketAddr)) -> impl Iterator<Item = IpAddr> {
    let of_socket = match bound.ip().is_unspecified() {
        true => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        false => vec![bound.ip()],
    };
    let of_route = bound.ip().is_unspecified().then(|| own_address(bound.is_ipv4())).flatten();
    let advertised = config.advertise.address_of(transport, bound).map(|one| one.host().trim_matches(['[', ']']));
    of_socket.into_iter().chain(of_route).chain(advertised.and_then(|host| host.parse().ok()))
}

#[expect(clippy::disallowed_methods, reason = "the shell provides the endpoint's clock")]
fn instant() -> Instant {
    Instant::now()
}

#[expect(
    deprecated,
    reason = "the replacement asks whether the descriptor may be closed elsewhere; a std socket owns its descriptor"
)]
fn bind_udp(address: SocketAddr) -> io::Result<Datagrams> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // Large buffers can hold a burst of calls while the process does not run. Errors are ignored.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    icmp::enable(&socket, address);
    socket.bind(&address.into())?;
    AsyncFd::with_interest(socket.into(), Interest::READABLE)
}

/// Returns the local address of the default route. The function sends no packet.
fn own_address(ipv4: bool) -> Option<IpAddr> {
    let (any, far): (IpAddr, SocketAddr) = if ipv4 {
        (Ipv4Addr::UNSPECIFIED.into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into())
    } else {
        (Ipv6Addr::UNSPECIFIED.into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into())
    };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(far).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
