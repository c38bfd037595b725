//! Writes messages to a capture file. Only the SIP messages are kept, so the packets around the messages are
//! artificial.
//!
//! UDP messages are in UDP packets. TCP messages are in TCP segments with consistent sequence numbers. Messages of TLS
//! and WebSockets are also in UDP packets, decrypted and without frames. They are not in TCP segments, because a reader
//! would interpret TCP segments on a TLS port as TLS records.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Message;

/// LINKTYPE_RAW: packets of IPv4 or IPv6 without a link layer.
const LINKTYPE: u32 = 101;
const SNAPLEN: u32 = 262_144;
const TCP: u8 = 6;
const UDP: u8 = 17;

pub(super) fn file(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, SNAPLEN, LINKTYPE] {
        out.extend_from_slice(&u32::to_le_bytes(word));
    }
    // Number of octets that were sent in each direction of a TCP connection.
    let mut sent: HashMap<(SocketAddr, SocketAddr), u32> = HashMap::new();
    for message in messages {
        let (from, to) = match message.direction {
            "sent" => (message.local, message.peer),
            _ => (message.peer, message.local),
        };
        let payload = &message.octets;
        let packet = if message.transport == "TCP" {
            let length = u32::try_from(payload.len()).unwrap_or_default();
            let acknowledged = sent.get(&(to, from)).copied().unwrap_or(1);
            let sequence = sent.entry((from, to)).or_insert(1);
            let segment = tcp(from, to, *sequence, acknowledged, payload);
            *sequence = sequence.wrapping_add(length);
            ip(TCP, from, to, segment)
        } else {
            ip(UDP, from, to, udp(from, to, payload))
        };
        let micros = message.at.as_microsecond();
        let length = u32::try_from(packet.len()).unwrap_or_default();
        let seconds = u32::try_from(micros.div_euclid(1_000_000)).unwrap_or_default();
        let micros = u32::try_from(micros.rem_euclid(1_000_000)).unwrap_or_default();
        for word in [seconds, micros, length, length] {
            out.extend_from_slice(&u32::to_le_bytes(word));
        }
        out.extend_from_slice(&packet);
    }
    out
}

fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Segment {
    let length = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut octets = Vec::with_capacity(payload.len() + 8);
    for half in [from.port(), to.port(), length, 0] {
        octets.extend_from_slice(&half.to_be_bytes());
    }
    octets.extend_from_slice(payload);
    Segment { octets, checksum_at: 6 }
}

fn tcp(from: SocketAddr, to: SocketAddr, sequence: u32, acknowledged: u32, payload: &[u8]) -> Segment {
    let mut octets = Vec::with_capacity(payload.len() + 20);
    octets.extend_from_slice(&from.port().to_be_bytes());
    octets.extend_from_slice(&to.port().to_be_bytes());
    octets.extend_from_slice(&sequence.to_be_bytes());
    octets.extend_from_slice(&acknowledged.to_be_bytes());
    // Header length of five words, flags ACK and PSH, the window, checksum 0, urgent pointer 0.
    octets.extend_from_slice(&[5 << 4, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    octets.extend_from_slice(payload);
    Segment { octets, checksum_at: 16 }
}

/// A UDP datagram or a TCP segment, without its checksum.
struct Segment {
    octets: Vec<u8>,
    checksum_at: usize,
}

fn ip(protocol: u8, from: SocketAddr, to: SocketAddr, mut segment: Segment) -> Vec<u8> {
    let (from, to) = (from.ip().to_canonical(), to.ip().to_canonical());
    let mut packet = Vec::with_capacity(40 + segment.octets.len());
    let mut pseudo = Vec::with_capacity(40);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(segment.octets.len() + 20).unwrap_or(u16::MAX);
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&length.to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            let sum = checksum(&packet);
            set(&mut packet, 10, sum);
            pseudo.extend_from_slice(&from.octets());
            pseudo.extend_from_slice(&to.octets());
        }
        _ => {
            let length = u16::try_from(segment.octets.len()).unwrap_or(u16::MAX);
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&length.to_be_bytes());
            packet.extend_from_slice(&[protocol, 64]);
            for address in [v6(from), v6(to)] {
                packet.extend_from_slice(&address.octets());
                pseudo.extend_from_slice(&address.octets());
            }
        }
    }
    // IPv6 has a longer length field in its pseudo-header. This does not change the sum.
    pseudo.extend_from_slice(&[0, protocol]);
    pseudo.extend_from_slice(&u16::try_from(segment.octets.len()).unwrap_or(u16::MAX).to_be_bytes());
    pseudo.extend_from_slice(&segment.octets);
    let sum = match checksum(&pseudo) {
        // In RFC 768, the value 0 means that there is no checksum.
        0 => u16::MAX,
        sum => sum,
    };
    set(&mut segment.octets, segment.checksum_at, sum);
    packet.extend_from_slice(&segment.octets);
    packet
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn set(octets: &mut [u8], at: usize, value: u16) {
    for (octet, new) in octets.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *octet = new;
    }
}

/// Returns the checksum of RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u64 = octets
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
            [high] => u64::from(*high) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
