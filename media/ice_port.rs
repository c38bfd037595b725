//! The UDP port and the TCP port that all far ends with ICE share. This module is part of the shell (I/O and threads).
//!
//! Without these ports, each session has a UDP port of its own. With them, a firewall needs one open port, and a browser
//! whose network blocks UDP needs no TURN server.
//!
//! ```text
//!   UDP socket, TCP streams --thread "ice-port"--> Routes: which leg? --> Arrivals of the leg's worker --> session
//!   session --> IcePort::send --> UDP socket, TCP stream
//! ```
//!
//! One thread reads both ports. It gives each packet to the worker of the packet's leg. The workers send by themselves.

mod arrivals;
mod routes;
mod streams;

pub(crate) use arrivals::Arrivals;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll};
use tandem_webrtc::Protocol;

use self::routes::Routes;
use self::streams::Streams;
use crate::command::LegId;
use crate::network::Flow;
use crate::worker::Shared;

/// The largest datagram in octets. A longer datagram is truncated, and then refused.
const DATAGRAM: usize = 2_048;
/// The number of datagrams that are read from one socket before the next socket is read.
const BATCH: usize = 64;
/// The receive buffer of a UDP socket in octets. The kernel counts about 1 KiB for a packet, so this is 80 ms of 1,000
/// legs. Without the capability CAP_NET_ADMIN, `net.core.rmem_max` limits the buffer.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The time between two searches for streams of nobody.
const SWEEP: Duration = Duration::from_secs(1);

/// The numbers of the epoll events: first the wake-up, then the sockets, then the listeners, then the streams.
const WAKE: u64 = 0;
const FIRST_SOCKET: u64 = 1;
const FIRST_LISTENER: u64 = 16;
const FIRST_STREAM: u64 = 32;

/// The shared ports.
#[derive(Debug)]
pub(crate) struct IcePort {
    epoll: OwnedFd,
    wake: OwnedFd,
    /// At most one of each address family.
    sockets: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    streams: Streams,
    routes: Mutex<Routes>,
    refused: AtomicU64,
    lost: AtomicU64,
    stopping: AtomicBool,
}

/// The totals of the shared ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IcePortCounts {
    /// Datagrams and frames that belong to no leg, and streams on which none came for a leg.
    pub(crate) refused: u64,
    /// Packets that a worker or a stream could not take, because its queue was full.
    pub(crate) lost: u64,
}

impl IcePort {
    /// Binds the ports at each of the addresses. The error contains the protocol and the address.
    pub(crate) fn bind(
        listen: &[IpAddr],
        udp: Option<u16>,
        tcp: Option<u16>,
    ) -> Result<IcePort, (&'static str, SocketAddr, io::Error)> {
        let create = || -> io::Result<(OwnedFd, OwnedFd)> {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
            Ok((epoll, wake))
        };
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let (epoll, wake) = create().map_err(|error| ("UDP", any, error))?;
        let (mut sockets, mut listeners) = (Vec::new(), Vec::new());
        for ip in listen {
            if let Some(port) = udp {
                let at = SocketAddr::new(*ip, port);
                let number = FIRST_SOCKET + sockets.len() as u64;
                sockets.push(bind_udp(at, &epoll, number).map_err(|error| ("UDP", at, error))?);
            }
            if let Some(port) = tcp {
                let at = SocketAddr::new(*ip, port);
                let number = FIRST_LISTENER + listeners.len() as u64;
                listeners.push(bind_tcp(at, &epoll, number).map_err(|error| ("TCP", at, error))?);
            }
        }
        Ok(IcePort {
            epoll,
            wake,
            sockets,
            listeners,
            streams: Streams::new(FIRST_STREAM),
            routes: Mutex::default(),
            refused: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    pub(crate) fn counts(&self) -> IcePortCounts {
        IcePortCounts { refused: self.refused.load(Ordering::Relaxed), lost: self.lost.load(Ordering::Relaxed) }
    }

    // ---- legs ----

    /// Makes the far end with checks for `ufrag` a far end of `leg`.
    pub(crate) fn announce(&self, leg: LegId, ufrag: &str) {
        self.routes().announce(leg, ufrag);
    }

    /// Takes note that the leg with `ufrag` sends to `to`, so that answers from there reach the leg.
    pub(crate) fn note_target(&self, ufrag: &str, flow: Flow, to: SocketAddr) {
        self.routes().note_target(ufrag, (protocol_of(flow), to));
    }

    /// Takes note that the leg with `ufrag` has received an authentic check from `from`.
    pub(crate) fn admit(&self, ufrag: &str, flow: Flow, from: SocketAddr) {
        self.routes().admit(ufrag, (protocol_of(flow), from));
    }

    pub(crate) fn rename(&self, leg: LegId, to: LegId) {
        self.routes().rename(leg, to);
    }

    /// Forgets a leg. The next search closes its streams.
    pub(crate) fn forget(&self, leg: LegId) {
        self.routes().forget(leg);
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- out ----

    /// Sends a packet. A packet that the kernel or the stream does not accept is lost.
    pub(crate) fn send(&self, flow: Flow, to: SocketAddr, packet: &[u8]) {
        if flow == Flow::IceTcp {
            if !self.streams.send(to, packet) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        } else if let Some(socket) = self.sockets.iter().find(|one| has_family_of(one, to)) {
            let _ = socket.send_to(packet, to);
        }
    }

    // ---- in ----

    /// Reads the ports until [`IcePort::stop`].
    #[expect(clippy::disallowed_methods, reason = "the shell gives the pure parts their clock")]
    pub(crate) fn run(&self, shared: &Shared) {
        let nothing = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = vec![nothing; 256];
        let mut buffer = vec![0; DATAGRAM];
        let mut swept = Instant::now();
        while !self.stopping.load(Ordering::Acquire) {
            let timeout = Timespec { tv_sec: SWEEP.as_secs() as i64, tv_nsec: 0 };
            let timeout = (!self.listeners.is_empty()).then_some(&timeout);
            let count = epoll::wait(&self.epoll, &mut *events, timeout).unwrap_or(0);
            let now = Instant::now();
            for event in events.iter().take(count) {
                let number = event.data.u64();
                match number {
                    WAKE => {}
                    FIRST_SOCKET..FIRST_LISTENER => {
                        if let Some(socket) = self.sockets.get((number - FIRST_SOCKET) as usize) {
                            self.read_socket(socket, &mut buffer, shared);
                        }
                    }
                    FIRST_LISTENER..FIRST_STREAM => {
                        if let Some(listener) = self.listeners.get((number - FIRST_LISTENER) as usize) {
                            self.streams.accept(listener, now, &self.epoll);
                        }
                    }
                    _ => {
                        self.streams.handle(number, |from, frame| {
                            self.give(Flow::IceTcp, from, frame, shared);
                        });
                    }
                }
            }
            if !self.listeners.is_empty() && now.saturating_duration_since(swept) >= SWEEP {
                swept = now;
                let closed = self.streams.sweep(now, |peer| self.routes().has((Protocol::Tcp, peer)));
                self.refused.fetch_add(closed, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // The write fails only if the eventfd's counter is full. In this case the thread is awake.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Reads at most [`BATCH`] datagrams. epoll reports the socket again if it holds more.
    fn read_socket(&self, socket: &UdpSocket, buffer: &mut [u8], shared: &Shared) {
        for _ in 0..BATCH {
            // An ICMP error of an earlier packet is not the end of what waits.
            match socket.recv_from(buffer) {
                Ok((length, from)) => {
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    self.give(Flow::IceUdp, from, buffer.get(..length).unwrap_or_default(), shared);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    /// Gives a packet to the worker of its leg.
    fn give(&self, flow: Flow, from: SocketAddr, packet: &[u8], shared: &Shared) {
        let leg = self.routes().find((protocol_of(flow), from), packet);
        match leg.and_then(|leg| Some((leg, shared.home(leg)?))) {
            None => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Some((leg, home)) => self.give_to(home, leg, (flow, from), packet, shared),
        }
    }

    /// Gives a packet to a worker.
    pub(crate) fn give_to(
        &self,
        worker: usize,
        leg: LegId,
        (flow, from): (Flow, SocketAddr),
        packet: &[u8],
        shared: &Shared,
    ) {
        if shared.inboxes.get(worker).is_some_and(|inbox| !inbox.arrive(leg, flow, from, packet)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn protocol_of(flow: Flow) -> Protocol {
    if flow == Flow::IceTcp { Protocol::Tcp } else { Protocol::Udp }
}

fn has_family_of(socket: &UdpSocket, address: SocketAddr) -> bool {
    socket.local_addr().is_ok_and(|own| own.is_ipv4() == address.is_ipv4())
}

fn bind_udp(at: SocketAddr, epoll: &OwnedFd, number: u64) -> io::Result<UdpSocket> {
    let socket = crate::ports::udp_socket(at)?;
    let forced = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
    if forced.is_err() {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    }
    let octets = rustix::net::sockopt::socket_recv_buffer_size(&socket)?;
    if octets < RECEIVE_BUFFER {
        tracing::warn!(
            octets,
            "media.ice_udp_port has a small receive buffer, so that packets can be lost with hundreds of calls: raise net.core.rmem_max to {RECEIVE_BUFFER}"
        );
    }
    epoll::add(epoll, socket.as_fd(), epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
    Ok(socket)
}

fn bind_tcp(at: SocketAddr, epoll: &OwnedFd, number: u64) -> io::Result<TcpListener> {
    // The standard library permits a new listener while streams of an earlier process are in TIME-WAIT.
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    epoll::add(epoll, listener.as_fd(), epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
