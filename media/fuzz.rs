//! Fuzz targets: two bridged sessions that receive arbitrary datagrams, and codecs that decode arbitrary payloads. The
//! targets are pure and reproducible.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codec::{Codec, Decoder, Encoder, LONGEST_PACKET, LONGEST_PAYLOAD, SampleRate};
use crate::command::{Command, LegId, OpId, Tracks};
use crate::engine::Core;
use crate::event::EventSink;
use crate::network::{Flow, Network, Pin};
use crate::sdp::{Local, Negotiation};
use crate::session::MediaSession;
use crate::tap::{TapCodec, tap};
use crate::writer::Writer;

/// Passes arbitrary octets to the SDP parser, first as an offer and then as an answer. The parser must never panic or
/// hang.
pub fn fuzz_sdp(octets: &[u8]) {
    crate::sdp::fuzz(octets);
}

/// Passes the octets to two bridged sessions with taps. One control octet comes before each datagram. The datagram's
/// length is four times the value of the control octet's low six bits. Bit 7 selects the session, and bit 6 selects the
/// socket. 5 ms pass between datagrams. `now` is the start of the virtual clock. Returns the number of packets sent,
/// which shows how much code a corpus reaches.
pub fn fuzz_rtp(now: Instant, octets: &[u8]) -> usize {
    let (_writer, handle) = Writer::new();
    let mut core = Core::new(now, 0, crate::suppress::budget::SuppressionBudget::new(60), handle, Arc::new(|_, _| {}));
    let mut wire = Wire { sent: 0 };
    let far_end = SocketAddr::from(([127, 0, 0, 2], 4_000));
    let mut readers = Vec::new();
    let slots = [1, 2].map(|key| {
        let sink: EventSink = Arc::new(|_, _| Ok(()));
        let slot = core.insert(Box::new(MediaSession::new(LegId(key), key as u64, sink, true)));
        let mut negotiation = Negotiation::new(Local { address: [127, 0, 0, 1].into(), port: 20_000, id: 1 });
        let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        if negotiation.answer(offer.as_bytes()).is_ok()
            && let Some(plan) = negotiation.plan()
        {
            core.apply(now, LegId(key), plan.clone(), &mut wire);
        }
        let (sink, reader) = tap(16, TapCodec::Native);
        readers.push(reader);
        core.handle_command(now, LegId(key), Command::Tap { op: OpId(1), tracks: Tracks::Both, sink }, &mut wire);
        slot
    });
    core.handle_command(now, LegId(1), Command::Bridge { with: LegId(2) }, &mut wire);
    let mut now = now;
    let mut rest = octets;
    while let Some((first, after)) = rest.split_first() {
        let length = (usize::from(first & 0x3F) * 4).min(after.len());
        let (packet, next) = after.split_at(length);
        rest = next;
        let slot = if first & 0x80 == 0 { slots[0] } else { slots[1] };
        let flow = if first & 0x40 == 0 { Flow::Rtp } else { Flow::Rtcp };
        core.handle_packet(now, slot, flow, far_end, &mut packet.to_vec(), &mut wire);
        now += Duration::from_millis(5);
        core.handle_tick(now, &mut wire, |_| {});
    }
    wire.sent
}

/// Decodes the octets as payloads of a codec, and encodes the decoded audio. The first octet selects the codec. One
/// control octet comes before each payload. The payload's length is three times the value of the control octet's low
/// seven bits. The high bit says that the previous payload was lost. Returns the number of samples decoded.
pub fn fuzz_codec(octets: &[u8]) -> usize {
    let Some((codec, mut rest)) = octets.split_first() else { return 0 };
    let (codec, rate) = match codec % 6 {
        0 => (Codec::Pcmu, SampleRate::Hz8000),
        1 => (Codec::G722, SampleRate::Hz16000),
        2 => (Codec::L16(SampleRate::Hz48000), SampleRate::Hz48000),
        3 => (Codec::Opus, SampleRate::Hz8000),
        4 => (Codec::Opus, SampleRate::Hz16000),
        _ => (Codec::Opus, SampleRate::Hz48000),
    };
    let (mut decoder, mut encoder) = (Decoder::new(codec, rate), Encoder::new(codec, rate));
    let (mut samples, mut payload) = ([0; LONGEST_PACKET], [0; LONGEST_PAYLOAD]);
    let mut heard = 0;
    while let Some((first, after)) = rest.split_first() {
        let (packet, next) = after.split_at((usize::from(first & 0x7F) * 3).min(after.len()));
        rest = next;
        let frame = samples.get_mut(..rate.frame()).unwrap_or_default();
        if first & 0x80 != 0 && !decoder.recover(packet, frame) {
            decoder.conceal(frame);
        }
        let written = decoder.decode(packet, &mut samples).unwrap_or(0);
        heard += written;
        for frame in samples.get(..written).unwrap_or_default().chunks_exact(rate.frame()) {
            encoder.encode(frame, &mut payload);
        }
    }
    heard
}

/// A network that only counts the sent packets.
pub(crate) struct Wire {
    pub(crate) sent: usize,
}

impl Network for Wire {
    fn send(&mut self, _: usize, _: Flow, _: SocketAddr, _: &[u8]) {
        self.sent += 1;
    }

    fn pin(&mut self, _: usize, _: Option<Pin>) {}

    fn release(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a generator of pseudo-random numbers. The numbers are the same in each run.
    fn xorshift() -> impl FnMut() -> u64 {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[test]
    fn any_payload_octets_cause_no_panic() {
        let mut random = xorshift();
        for round in 0..60 {
            let mut octets: Vec<u8> = (0..4_000).map(|_| random() as u8).collect();
            octets[0] = round as u8;
            assert!(fuzz_codec(&octets) > 0, "{round}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
    fn any_datagrams_cause_no_panic() {
        let mut random = xorshift();
        let mut sent = 0;
        for _ in 0..300 {
            let mut octets = Vec::new();
            for _ in 0..40 {
                let first = (random() % 256) as u8;
                octets.push(first);
                let mut packet = [0; 252];
                for octet in &mut packet {
                    *octet = (random() % 256) as u8;
                }
                // Most packets are RTP with an agreed payload type, so that the test reaches the rest of the code.
                if !random().is_multiple_of(4) {
                    (packet[0], packet[1]) = (0x80, [0, 101, 128, 229][(random() % 4) as usize]);
                }
                octets.extend_from_slice(&packet[..usize::from(first & 0x3F) * 4]);
            }
            sent += fuzz_rtp(Instant::now(), &octets);
        }
        // Most events are not relayed, because a stream has one event at a time and the sources are random.
        assert!(sent > 2_000, "{sent}");
    }
}
