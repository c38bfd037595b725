//! The pool of RTP port pairs. This module is part of the shell (I/O and threads).

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::config::PortRange;
use crate::network::Pin;

/// The number of consecutive port pairs that the pool tries. The pool skips a port that another program uses. After
/// this number of attempts the pool counts as exhausted.
const ATTEMPTS: usize = 64;

/// The highest number of sockets that stay bound for later sessions.
const MAX_IDLE_SOCKETS: usize = 64;

/// The number of sockets that stay bound and wait. Beyond this number, the socket that has waited longest serves the
/// next session. So at least this many sessions end before a socket is reused, and a late packet of an answered call
/// reaches a socket that nobody uses: [`Free::next`] then closes this socket. After the first sessions, each session
/// leaves one socket and takes one, so no further socket is created.
const WAITING_SOCKETS: usize = 32;

/// All port pairs of the configured range. A free pair goes to the end of the queue, so that late packets of an ended
/// call do not reach the next call.
#[derive(Debug)]
pub(crate) struct Ports {
    address: IpAddr,
    free: Mutex<Free>,
}

#[derive(Debug)]
struct Free {
    pairs: VecDeque<u16>,
    /// RTP sockets that are still bound and have never carried a packet, in the order in which their sessions ended.
    /// Most of these sockets come from calls without an answer, but an answered call may also end before its first
    /// packet arrives. A new session gets the first of more than [`WAITING_SOCKETS`] sockets.
    idle: VecDeque<(u16, UdpSocket)>,
}

/// The two sockets of a session. If this struct is dropped, the port pair becomes free.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) rtp: UdpSocket,
    /// The RTCP socket. The socket is bound at the first use, because a short call neither sends nor receives RTCP. The
    /// inner value is `None` if another program uses the port.
    rtcp: OnceCell<Option<UdpSocket>>,
    pub(crate) port: u16,
    /// The source of the session's RTP. If no other source is accepted, the RTP socket is connected to this address.
    pub(crate) pinned: Option<Pin>,
    /// Whether the RTP socket was ever limited to one source.
    pub(crate) used: bool,
    lease: Lease,
}

impl Sockets {
    /// The RTCP socket, or `None` if the socket is not bound.
    pub(crate) fn rtcp(&self) -> Option<&UdpSocket> {
        self.rtcp.get()?.as_ref()
    }

    /// Binds the RTCP socket at the first call. Later calls return `None`.
    pub(crate) fn bind_rtcp(&self) -> Option<&UdpSocket> {
        if self.rtcp.get().is_some() {
            return None;
        }
        let bind = || {
            let port = self.port + 1;
            let bound = self.lease.ports.socket(port);
            bound
                .inspect_err(|error| tracing::warn!(port, %error, "cannot bind the RTCP port; the session has no RTCP"))
                .ok()
        };
        self.rtcp.get_or_init(bind).as_ref()
    }

    /// Frees the port pair. An RTP socket that was not used stays bound and serves a later session, unless a packet
    /// reaches the socket before that. So no socket must be created, bound and closed, which would take a twentieth of
    /// the CPU time of a short call. The calling code must have removed the socket from every epoll.
    pub(crate) fn retire(self) {
        // Close the RTCP socket before the lease ends, because another session may bind the port after that.
        let (mut lease, rtcp, rtp) = (self.lease, self.rtcp, self.rtp);
        if !self.used && rtcp.get().is_none() {
            lease.idle = Some(rtp);
        }
    }
}

#[derive(Debug)]
struct Lease {
    port: u16,
    ports: Arc<Ports>,
    /// The RTP socket, if the socket stays bound for a later session.
    idle: Option<UdpSocket>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ports.give_back(self.port, self.idle.take());
    }
}

impl Ports {
    /// Creates the pool of the ports in `range`. The first port is random. So late packets for an earlier server
    /// process rarely reach a new call. Also, two servers with the same range rarely try the same ports at the same
    /// time.
    pub(crate) fn new(address: IpAddr, range: PortRange) -> Ports {
        let mut pairs: VecDeque<u16> = range.pairs().collect();
        // The standard library chooses random hash keys.
        let random = RandomState::new().hash_one(range.to_string());
        pairs.rotate_left(usize::try_from(random % pairs.len().max(1) as u64).unwrap_or_default());
        Ports { address, free: Mutex::new(Free { pairs, idle: VecDeque::new() }) }
    }

    /// Binds the RTP port of the next free pair. Returns `None` if the pool is exhausted.
    pub(crate) fn bind(self: &Arc<Ports>) -> io::Result<Option<Sockets>> {
        for _ in 0..ATTEMPTS {
            let Some((port, idle)) = self.free().next() else { break };
            match self.lease(port, idle) {
                Ok(sockets) => return Ok(Some(sockets)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Binds the RTP port of the pair `port`, which an earlier session had. Returns `None` if the pair is not free, or not
    /// in the range.
    pub(crate) fn bind_again(self: &Arc<Ports>, port: u16) -> io::Result<Option<Sockets>> {
        let Some(idle) = self.free().take(port) else { return Ok(None) };
        self.lease(port, idle).map(Some)
    }

    /// Leases a pair that was taken from the pool. `idle` is its RTP socket, if the socket is still bound. If the port
    /// cannot be bound, the pair becomes free again.
    fn lease(self: &Arc<Ports>, port: u16, idle: Option<UdpSocket>) -> io::Result<Sockets> {
        let lease = Lease { port, ports: Arc::clone(self), idle: None };
        let rtp = idle.map_or_else(|| self.socket(port), Ok)?;
        Ok(Sockets { rtp, rtcp: OnceCell::new(), port, pinned: None, used: false, lease })
    }

    /// Whether the pool has no free pair.
    pub(crate) fn is_empty(&self) -> bool {
        let free = self.free();
        free.pairs.is_empty() && free.idle.is_empty()
    }

    /// Whether both ports of at least one pair can be bound.
    pub(crate) fn has_any(self: &Arc<Ports>) -> io::Result<bool> {
        // These sockets stay bound, so that the next attempts try other pairs.
        let mut halves = Vec::new();
        while halves.len() < ATTEMPTS
            && let Some(sockets) = self.bind()?
        {
            if self.socket(sockets.port + 1).is_ok() {
                return Ok(true);
            }
            halves.push(sockets);
        }
        Ok(false)
    }

    fn socket(&self, port: u16) -> io::Result<UdpSocket> {
        udp_socket(SocketAddr::new(self.address, port))
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, port: u16, idle: Option<UdpSocket>) {
        let mut free = self.free();
        match idle {
            Some(rtp) if free.idle.len() < MAX_IDLE_SOCKETS => free.idle.push_back((port, rtp)),
            surplus => {
                drop(surplus);
                free.pairs.push_back(port);
            }
        }
    }
}

/// Binds a socket that does not block.
pub(crate) fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    // This takes two system calls. The standard library needs six, and each call creates two to four sockets. The
    // kernel's default receive buffer (212,992 octets) holds more than a second of packets.
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    if address.is_ipv6() {
        // A socket of the wildcard address must leave IPv4 to the socket of 0.0.0.0 with the same port.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket.into())
}

impl Free {
    /// Takes the pair `port`. Returns its RTP socket, if the socket is still bound.
    fn take(&mut self, port: u16) -> Option<Option<UdpSocket>> {
        if let Some(place) = self.idle.iter().position(|(idle, _)| *idle == port) {
            return self.idle.remove(place).map(|(_, rtp)| Some(rtp));
        }
        let place = self.pairs.iter().position(|pair| *pair == port)?;
        self.pairs.remove(place).map(|_| None)
    }

    fn next(&mut self) -> Option<(u16, Option<UdpSocket>)> {
        // Without another free pair, a socket does not wait.
        while (self.idle.len() > WAITING_SOCKETS || self.pairs.is_empty())
            && let Some((port, rtp)) = self.idle.pop_front()
        {
            if matches!(rtp.recv(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                return Some((port, Some(rtp)));
            }
            // The packet does not belong to the next session, so the socket cannot serve this session.
            drop(rtp);
            self.pairs.push_back(port);
        }
        Some((self.pairs.pop_front()?, None))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn ports() -> Arc<Ports> {
        Arc::new(Ports::new([127, 0, 71, 1].into(), "30000-30999".parse().unwrap()))
    }

    /// Opens and retires sessions until the next session gets a socket that waited.
    fn fill(ports: &Arc<Ports>) {
        let sessions: Vec<Sockets> = std::iter::from_fn(|| ports.bind().unwrap()).take(WAITING_SOCKETS).collect();
        sessions.into_iter().for_each(Sockets::retire);
    }

    #[test]
    fn an_unused_socket_serves_a_session_after_many_others() {
        let ports = ports();
        let first = ports.bind().unwrap().unwrap();
        let port = first.port;
        first.retire();
        for _ in 1..WAITING_SOCKETS {
            let next = ports.bind().unwrap().unwrap();
            assert_ne!(next.port, port, "a late packet of the first session could reach this session");
            next.retire();
        }
        assert_eq!(ports.free().idle.len(), WAITING_SOCKETS);
        let other = ports.bind().unwrap().unwrap();
        assert_ne!(other.port, port);
        other.retire();
        let next = ports.bind().unwrap().unwrap();
        assert_eq!((next.port, next.rtp.local_addr().unwrap().port()), (port, port), "no socket is created");
    }

    #[test]
    fn a_socket_does_not_wait_if_no_other_pair_is_free() {
        let ports = Arc::new(Ports::new([127, 0, 71, 3].into(), "30000-30001".parse().unwrap()));
        let only = ports.bind().unwrap().unwrap();
        let port = only.port;
        only.retire();
        assert_eq!(ports.bind().unwrap().unwrap().port, port);
    }

    #[test]
    fn a_socket_that_received_a_packet_is_closed_and_its_port_queued() {
        let ports = ports();
        let first = ports.bind().unwrap().unwrap();
        let (port, to) = (first.port, first.rtp.local_addr().unwrap());
        let watched = first.rtp.try_clone().unwrap();
        first.retire();
        fill(&ports);
        UdpSocket::bind("127.0.71.2:0").unwrap().send_to(b"late", to).unwrap();
        watched.set_nonblocking(false).unwrap();
        watched.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        watched.peek(&mut [0]).unwrap();
        watched.set_nonblocking(true).unwrap();
        drop(watched);
        assert_ne!(ports.bind().unwrap().unwrap().port, port);
        assert!(ports.socket(port).is_ok(), "closed");
    }

    #[test]
    fn a_used_socket_is_closed_and_its_port_queued() {
        let ports = ports();
        let mut connected = ports.bind().unwrap().unwrap();
        connected.used = true;
        let sent = ports.bind().unwrap().unwrap();
        assert!(sent.bind_rtcp().is_some());
        let used = [connected.port, sent.port];
        for sockets in [connected, sent] {
            sockets.retire();
        }
        for port in used {
            assert_ne!(ports.bind().unwrap().unwrap().port, port);
            assert!(ports.socket(port).is_ok(), "closed");
        }
    }

    #[test]
    fn a_pool_starts_at_a_random_pair_and_has_every_pair_of_its_range() {
        let pools = std::iter::repeat_with(ports).take(20);
        let firsts: BTreeSet<u16> = pools.map(|ports| ports.bind().unwrap().unwrap().port).collect();
        assert!(firsts.len() > 1, "{firsts:?}");
        let all: BTreeSet<u16> = ports().free().pairs.iter().copied().collect();
        assert!(all.into_iter().eq((30_000..=30_998).step_by(2)));
    }

    #[test]
    fn at_most_64_idle_sockets_are_kept() {
        let ports = ports();
        let many: Vec<Sockets> = std::iter::from_fn(|| ports.bind().unwrap()).take(MAX_IDLE_SOCKETS + 9).collect();
        assert_eq!(many.len(), MAX_IDLE_SOCKETS + 9);
        many.into_iter().for_each(Sockets::retire);
        let free = ports.free();
        assert_eq!((free.idle.len(), free.pairs.len()), (MAX_IDLE_SOCKETS, 500 - MAX_IDLE_SOCKETS));
    }
}
