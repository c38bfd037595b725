//! ICMP errors for UDP datagrams, from the error queue of the socket (`IP_RECVERR`, ip(7)). RFC 3261 §18.4: such an error
//! is a failure of the request.
//!
//! A socket that is not connected gets no ICMP errors without this queue. Nothing wakes the driver for an error. The next
//! datagram that the socket sends reports the error. For a request without a response, this datagram is the first
//! retransmission, 500 ms after the request.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

/// Number of octets that are read of a quoted datagram. Linux quotes up to 548 octets (RFC 1812 §4.3.2.3).
const QUOTED: usize = 576;

/// An ICMP error.
pub(super) struct IcmpError {
    /// The destination of the datagram that caused the error.
    pub(super) peer: SocketAddr,
    /// The beginning of this datagram.
    pub(super) quoted: Vec<u8>,
}

/// Makes the system keep the ICMP errors of a socket. If the system refuses, requests fail by their timers only.
pub(super) fn enable(socket: &socket2::Socket, address: SocketAddr) {
    let enabled = match address {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvErr, &true),
    };
    if let Err(error) = enabled {
        tracing::debug!(%error, "the system reports no ICMP errors");
    }
}

/// Takes the oldest ICMP error of a socket. Returns `None` if there is none.
pub(super) fn read(socket: &UdpSocket) -> Option<IcmpError> {
    let mut quoted = vec![0; QUOTED];
    let mut control = RecvAncillaryBuffer::default();
    let flags = RecvFlags::ERRQUEUE | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut quoted)], &mut control, flags).ok()?;
    quoted.truncate(received.bytes);
    Some(IcmpError { peer: received.address?.try_into().ok()?, quoted })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_closed_port_is_reported_with_the_datagram_that_it_refused() {
        for host in ["127.0.14.1", "::1"] {
            let address = SocketAddr::new(host.parse().unwrap(), 0);
            let domain = socket2::Domain::for_address(address);
            let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).unwrap();
            enable(&socket, address);
            socket.bind(&address.into()).unwrap();
            let socket = UdpSocket::from(socket);
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let closed = UdpSocket::bind(address).unwrap().local_addr().unwrap();
            assert!(read(&socket).is_none());
            socket.send_to(b"INVITE sip:x@y SIP/2.0", closed).unwrap();
            assert!(socket.recv_from(&mut [0; 16]).is_err());
            let error = read(&socket).unwrap();
            assert_eq!((error.peer, &*error.quoted), (closed, &b"INVITE sip:x@y SIP/2.0"[..]));
            assert!(read(&socket).is_none());
        }
    }
}
