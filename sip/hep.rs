//! The encoder for HEP version 3. In this protocol, a server sends copies of SIP messages to a capture server (Homer).
//! A packet is a list of chunks. Each chunk has a vendor, a type and a length.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ladder::TracedMessage;
use crate::redact::redact;

/// Maximum length, in octets, of the SIP message in a packet. A longer message would not fit into a datagram together
/// with the other chunks.
const MAX_PAYLOAD: usize = 60_000;

/// The capture agent, which is this server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agent {
    /// Id of the capture agent (chunk 0x0c).
    pub(crate) id: u32,
    /// Password of the capture server (chunk 0x0e).
    pub(crate) password: Option<String>,
}

/// Returns the packet for one message. Secrets in the message are redacted. `at` is the time since the start of 1970
/// (UTC).
pub(crate) fn packet(agent: &Agent, message: &TracedMessage, at: Duration) -> Vec<u8> {
    let (from, to) = if message.sent { (message.local, message.peer) } else { (message.peer, message.local) };
    let mut out = Vec::with_capacity(message.data.len() + 160);
    out.extend_from_slice(b"HEP3\0\0");
    let ipv4 = from.ip().to_canonical().is_ipv4() && to.ip().to_canonical().is_ipv4();
    // The address family as in socket(2), and the protocol number of IANA.
    chunk(&mut out, 0x01, &[if ipv4 { 2 } else { 10 }]);
    chunk(&mut out, 0x02, &[if message.transport.is_reliable() { 6 } else { 17 }]);
    for (address, offset) in [(from, 0), (to, 1)] {
        match (address.ip().to_canonical(), ipv4) {
            (IpAddr::V4(ip), true) => chunk(&mut out, 0x03 + offset, &ip.octets()),
            (IpAddr::V4(ip), false) => chunk(&mut out, 0x05 + offset, &ip.to_ipv6_mapped().octets()),
            (IpAddr::V6(ip), _) => chunk(&mut out, 0x05 + offset, &ip.octets()),
        }
    }
    for (address, kind) in [(from, 0x07), (to, 0x08)] {
        chunk(&mut out, kind, &SocketAddr::port(&address).to_be_bytes());
    }
    chunk(&mut out, 0x09, &u32::try_from(at.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    chunk(&mut out, 0x0a, &at.subsec_micros().to_be_bytes());
    // The protocol type 1 means SIP.
    chunk(&mut out, 0x0b, &[1]);
    chunk(&mut out, 0x0c, &agent.id.to_be_bytes());
    if let Some(password) = &agent.password {
        chunk(&mut out, 0x0e, password.as_bytes());
    }
    let payload = redact(message.data.get(..MAX_PAYLOAD).unwrap_or(&message.data));
    chunk(&mut out, 0x0f, &payload);
    let length = u16::try_from(out.len()).unwrap_or(u16::MAX);
    for (octet, new) in out.iter_mut().skip(4).zip(length.to_be_bytes()) {
        *octet = new;
    }
    out
}

/// Appends one chunk. The vendor 0 stands for the chunks of the HEP specification itself.
fn chunk(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(payload.len() + 6).unwrap_or(u16::MAX);
    for half in [0, kind, length] {
        out.extend_from_slice(&half.to_be_bytes());
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::flow::Transport;
    use crate::testing::instant;

    /// Returns the chunks of a packet. The key is the type of the chunk.
    fn decode(packet: &[u8]) -> BTreeMap<u16, Vec<u8>> {
        let half = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        assert_eq!((&packet[..4], usize::from(half(4))), (&b"HEP3"[..], packet.len()));
        let (mut at, mut chunks) = (6, BTreeMap::new());
        while at < packet.len() {
            let length = usize::from(half(at + 4));
            assert_eq!(half(at), 0, "vendor");
            assert!(chunks.insert(half(at + 2), packet[at + 6..at + length].to_vec()).is_none());
            at += length;
        }
        assert_eq!(at, packet.len());
        chunks
    }

    fn traced_message(local: &str, peer: &str, sent: bool, data: &'static str) -> TracedMessage {
        TracedMessage {
            at: instant(),
            sent,
            transport: Transport::Udp,
            local: local.parse().unwrap(),
            peer: peer.parse().unwrap(),
            data: Bytes::from_static(data.as_bytes()),
        }
    }

    #[test]
    fn a_hep_packet_has_addresses_time_and_message_without_secrets() {
        let agent = Agent { id: 2_001, password: Some("pw".into()) };
        let message = traced_message(
            "192.0.2.1:5060",
            "192.0.2.2:5070",
            false,
            "A sip:b SIP/2.0\nAuthorization: Digest response=\"secret\"\n\n",
        );
        let chunks = decode(&packet(&agent, &message, Duration::from_micros(1_700_000_000_123_456)));
        let expected: [(u16, &[u8]); 12] = [
            (1, &[2]),
            (2, &[17]),
            (3, &[192, 0, 2, 2]),
            (4, &[192, 0, 2, 1]),
            (7, &5_070_u16.to_be_bytes()),
            (8, &5_060_u16.to_be_bytes()),
            (9, &1_700_000_000_u32.to_be_bytes()),
            (10, &123_456_u32.to_be_bytes()),
            (11, &[1]),
            (12, &2_001_u32.to_be_bytes()),
            (14, b"pw"),
            (15, b"A sip:b SIP/2.0\nAuthorization: Digest response=\"xxxxxx\"\n\n"),
        ];
        assert_eq!(chunks, expected.into_iter().map(|(kind, value)| (kind, value.to_vec())).collect());
    }

    #[test]
    fn a_hep_packet_has_ipv6_chunks_and_a_limited_length() {
        let mut message = traced_message("[2001:db8::1]:5060", "[2001:db8::2]:5061", true, "");
        message.transport = Transport::Tcp;
        message.data = vec![b'x'; 70_000].into();
        let chunks = decode(&packet(&Agent::default(), &message, Duration::ZERO));
        assert_eq!((chunks[&1][0], chunks[&2][0]), (10, 6));
        assert_eq!((chunks[&5][15], chunks[&6][15]), (1, 2));
        assert_eq!((chunks[&15].len(), chunks.contains_key(&14), chunks.contains_key(&3)), (MAX_PAYLOAD, false, false));
    }
}
