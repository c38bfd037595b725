//! SHELL: the pool of RTP port pairs.

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
    pub(crate) rtcp: UdpSocket,
    pub(crate) port: u16,
    /// Where the RTP socket is connected to.
    pub(crate) pinned: Option<SocketAddr>,
    _lease: Lease,
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

    /// Binds the next free pair. `None`: exhausted.
    pub(crate) fn bind(self: &Arc<Ports>) -> io::Result<Option<Sockets>> {
        let mut fault = None;
        for _ in 0..ATTEMPTS {
            let Some(port) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { break };
            let both = self.socket(port).and_then(|rtp| Ok((rtp, self.socket(port + 1)?)));
            match both {
                Ok((rtp, rtcp)) => {
                    let lease = Lease { port, ports: Arc::clone(self) };
                    return Ok(Some(Sockets { rtp, rtcp, port, pinned: None, _lease: lease }));
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

    fn socket(&self, port: u16) -> io::Result<UdpSocket> {
        let address = SocketAddr::new(self.address, port);
        // Two system calls, not six: each call makes four of these. The kernel's own receive buffer (212,992 octets) holds
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
