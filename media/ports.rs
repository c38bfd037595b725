//! SHELL: the pool of RTP port pairs.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::config::PortRange;

/// Ports that other programs hold are skipped; after so many the pool counts as exhausted.
const ATTEMPTS: usize = 64;

/// All pairs of the configured range. A port that becomes free goes to the end of the queue, so that late packets of
/// an ended call do not reach the next one.
#[derive(Debug)]
pub(crate) struct Ports {
    address: IpAddr,
    free: Mutex<VecDeque<u16>>,
}

/// A session's two sockets; dropping them frees the pair.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) rtp: UdpSocket,
    /// Not bound before it is wanted: a short call sends nothing, and is told nothing. `None`: another program has the port.
    rtcp: OnceCell<Option<UdpSocket>>,
    pub(crate) port: u16,
    /// Where the RTP socket is connected to.
    pub(crate) pinned: Option<SocketAddr>,
    lease: Lease,
}

impl Sockets {
    /// The RTCP socket, once it is bound.
    pub(crate) fn rtcp(&self) -> Option<&UdpSocket> {
        self.rtcp.get()?.as_ref()
    }

    /// Binds the RTCP socket, if nobody has tried that yet.
    pub(crate) fn bind_rtcp(&self) -> Option<&UdpSocket> {
        if self.rtcp.get().is_some() {
            return None;
        }
        let bind = || {
            let port = self.port + 1;
            let bound = self.lease.ports.socket(port);
            bound.inspect_err(|error| tracing::warn!(port, %error, "a session goes without RTCP")).ok()
        };
        self.rtcp.get_or_init(bind).as_ref()
    }
}

#[derive(Debug)]
struct Lease {
    port: u16,
    ports: Arc<Ports>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ports.give_back(self.port);
    }
}

impl Ports {
    pub(crate) fn new(address: IpAddr, range: PortRange) -> Ports {
        Ports { address, free: Mutex::new(range.pairs().collect()) }
    }

    /// Binds the first of the next free pair. `None`: exhausted.
    pub(crate) fn bind(self: &Arc<Ports>) -> io::Result<Option<Sockets>> {
        let mut fault = None;
        for _ in 0..ATTEMPTS {
            let Some(port) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { break };
            match self.socket(port) {
                Ok(rtp) => {
                    let lease = Lease { port, ports: Arc::clone(self) };
                    return Ok(Some(Sockets { rtp, rtcp: OnceCell::new(), port, pinned: None, lease }));
                }
                Err(error) => {
                    self.give_back(port);
                    if error.kind() != io::ErrorKind::AddrInUse {
                        fault = Some(error);
                        break;
                    }
                }
            }
        }
        fault.map_or(Ok(None), Err)
    }

    /// Whether a pair can be had, with both its ports.
    pub(crate) fn has_any(self: &Arc<Ports>) -> io::Result<bool> {
        // Held, so that others are tried.
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
        let address = SocketAddr::new(self.address, port);
        // Two system calls, not six: each call makes two to four of these. The kernel's own receive buffer (212,992 octets) holds
        // more than a second of packets.
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        rustix::net::bind(&socket, &address)?;
        Ok(socket.into())
    }

    fn give_back(&self, port: u16) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push_back(port);
    }
}
