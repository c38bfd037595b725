//! Finds the interfaces on which packets arrive and leave, from the kernel's routes. This module is part of the shell
//! (I/O and threads).

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::Ends;

/// A constant of netlink. The next constants also come from linux/netlink.h and linux/rtnetlink.h.
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const REQUEST: u16 = 1;
const DESTINATION: u16 = 1;
const SOURCE: u16 = 2;
const OUT_BY: u16 = 4;
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
/// The length of a netlink message's header in octets. The next constant, `ROUTE`, is the length of the route header,
/// which follows the message's header.
const HEADER: usize = 16;
const ROUTE: usize = 12;

/// Returns the kernel's IPv4 routing table from /proc/net/route, or an empty text if the file cannot be read.
pub(super) fn table() -> String {
    std::fs::read_to_string("/proc/net/route").unwrap_or_default()
}

/// Returns the interfaces on which packets for `listen` arrive. These are the loopback interface, interfaces with a
/// route to a network that contains `listen`, and interfaces with a default route.
pub(super) fn interfaces(listen: IpAddr, table: &str) -> Vec<String> {
    let mut names = vec!["lo".to_owned()];
    let IpAddr::V4(listen) = listen.to_canonical() else {
        return if listen.is_unspecified() { interfaces(Ipv4Addr::UNSPECIFIED.into(), table) } else { names };
    };
    for line in table.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next().unwrap_or_default();
        // The columns are destination, gateway, flags, three counters and mask. Addresses are hexadecimal numbers in
        // the byte order of the host.
        let number = |field: Option<&str>| field.and_then(|field| u32::from_str_radix(field, 16).ok()).map(u32::to_le);
        let (network, mask) = (number(fields.next()), number(fields.nth(5)));
        let (Some(network), Some(mask)) = (network, mask) else { continue };
        // A default route does not count for a loopback address, because no packet from outside has this destination.
        let ours = u32::from_ne_bytes(listen.octets()) & mask == network && (mask != 0 || !listen.is_loopback());
        if (ours || listen.is_unspecified()) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Queries the kernel's routes over netlink.
#[derive(Debug)]
pub(super) struct Routes {
    socket: OwnedFd,
    sequence: u32,
}

impl Routes {
    pub(super) fn new() -> io::Result<Routes> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Routes { socket, sequence: 0 })
    }

    /// Returns the index of the interface on which packets to `to` leave, or 0 if the destination is this host. Returns
    /// `None` if there is no unicast route.
    pub(super) fn interface(&mut self, to: Ends) -> Option<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        rustix::net::send(&self.socket, &question(to, self.sequence), SendFlags::empty()).ok()?;
        let mut answer = [0; 1_024];
        // The kernel answers before `send` returns. The loop skips answers to earlier queries.
        loop {
            let (_, length) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty()).ok()?;
            let answer = answer.get(..length)?;
            if short(answer, 8)? == self.sequence {
                return read(answer);
            }
        }
    }
}

fn question(to: Ends, number: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + ROUTE + 16);
    message.extend(((HEADER + ROUTE + 16) as u32).to_ne_bytes());
    message.extend(GET_ROUTE.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.extend([0; 4]);
    // The family is AF_INET. Both addresses have a full prefix length of 32 bits.
    message.extend([2, 32, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, address) in [(DESTINATION, to.remote.ip()), (SOURCE, to.local.ip())] {
        message.extend(8u16.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(address.octets());
    }
    message
}

fn read(answer: &[u8]) -> Option<u32> {
    if u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?) != NEW_ROUTE {
        return None;
    }
    let kind = *answer.get(HEADER + 7)?;
    let mut rest = answer.get(HEADER + ROUTE..)?;
    while let Some(head) = rest.first_chunk::<4>() {
        let [a, b, c, d] = *head;
        let (length, attribute) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        if attribute == OUT_BY && kind == UNICAST {
            return short(rest, 4).filter(|interface| *interface > 1);
        }
        rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    (kind == LOCAL).then_some(0)
}

fn short(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*octets.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
wg0\t0003000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    #[test]
    fn routes_are_found_for_loopback_local_networks_and_other_hosts() {
        let names = |listen: &str| interfaces(listen.parse().unwrap(), TABLE).join(" ");
        assert_eq!(names("127.0.0.5"), "lo");
        assert_eq!(names("10.0.1.7"), "lo eth0");
        assert_eq!(names("10.0.2.7"), "lo eth0 eth1");
        assert_eq!(names("203.0.113.9"), "lo eth0");
        assert_eq!(names("0.0.0.0"), "lo eth0 eth1 wg0");
        assert_eq!(names("::"), "lo eth0 eth1 wg0");
        assert_eq!(names("2001:db8::1"), "lo");
    }

    #[test]
    fn the_route_to_an_own_address_is_loopback() {
        let at = |text: &str| text.parse().unwrap();
        let ends = Ends { local: at("127.0.0.1:4000"), remote: at("127.0.63.9:4000") };
        let mut routes = Routes::new().unwrap();
        assert_eq!(routes.interface(ends), Some(0));
        assert_eq!(routes.interface(Ends { remote: at("240.0.0.1:1"), ..ends }), None);
    }

    #[test]
    fn truncated_netlink_answers_give_no_route() {
        let mut answer = vec![0; HEADER];
        answer[4..6].copy_from_slice(&NEW_ROUTE.to_ne_bytes());
        answer.extend([2, 32, 0, 0, 0, 0, 0, UNICAST, 0, 0, 0, 0]);
        answer.extend([8, 0, OUT_BY as u8, 0, 3, 0, 0, 0]);
        assert_eq!(read(&answer), Some(3));
        for length in 0..answer.len() {
            assert_eq!(read(&answer[..length]), None, "{length}");
        }
        answer.splice(28.., [0, 0, 9, 0, 0, 0, 9, 0]);
        assert_eq!(read(&answer), None, "and one of no length does not hold us");
    }
}
