//! Bridged calls without sockets, threads or a real clock, for `benches/media/relay.rs`. This module measures the
//! engine's own CPU time. The module is pure, except that recordings go to `/dev/null`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::codec::{Codec, LONGEST_PAYLOAD};
use crate::command::{Channels, Command, LegId, OpId, RecordSpec, RecordingCommand};
use crate::engine::{Core, TICK};
use crate::event::EventSink;
use crate::fuzz::Wire;
use crate::network::Flow;
use crate::rtp::{FRAME, Header};
use crate::sdp::{CODECS, Local, Negotiation};
use crate::session::MediaSession;
use crate::suppress::budget::SuppressionBudget;
use crate::wav::WavCoding;
use crate::writer::Writer;

/// The number of frames over which the starts of the recordings are spread. A piece for the writer has the same number
/// of frames.
const SPREAD: u128 = 25;

/// A benchmark with bridged calls of two legs each. All far ends send audio all the time.
pub struct RelayBench {
    core: Core,
    writer: Writer,
    wire: Wire,
    now: Instant,
    frames: u32,
    legs: Vec<Leg>,
}

struct Leg {
    slot: usize,
    payload_type: u8,
}

impl std::fmt::Debug for RelayBench {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RelayBench").field("legs", &self.legs.len()).finish_non_exhaustive()
    }
}

impl RelayBench {
    /// Creates `calls` bridged calls. In each call, the first leg has the first codec and the second leg has the second
    /// codec. The codecs must have frames of 160 octets (G.711, G.722). If `recorded` is set, each call is recorded in
    /// two channels with this coding. `now` is the start of the virtual clock.
    pub fn new(now: Instant, calls: u32, codecs: [Codec; 2], recorded: Option<WavCoding>) -> RelayBench {
        let ([writer, ..], handle) = Writer::new();
        let core = Core::new(now, 0, SuppressionBudget::new(60), handle, Arc::new(|_, _| {}));
        let mut relay_bench = RelayBench { core, writer, wire: Wire { sent: 0 }, now, frames: 0, legs: Vec::new() };
        for call in 0..u128::from(calls) {
            let [a, b] = [LegId(2 * call), LegId(2 * call + 1)];
            relay_bench.open(a, codecs[0]);
            relay_bench.open(b, codecs[1]);
            relay_bench.core.handle_command(now, a, Command::Bridge { with: b }, &mut relay_bench.wire);
        }
        // Start the recordings one after the other within half a second, so that their pieces do not all reach the
        // writer at the same time.
        for frame in 0..SPREAD {
            for call in (0..u128::from(calls)).filter(|call| call % SPREAD == frame) {
                if let Some(coding) = recorded {
                    let spec = RecordSpec { coding, ..RecordSpec::new("/dev/null", Channels::Dual) };
                    let order = RecordingCommand::Start { op: OpId(1), spec };
                    let (now, key) = (relay_bench.now, LegId(2 * call));
                    relay_bench.core.handle_command(now, key, Command::Recording(order), &mut relay_bench.wire);
                }
            }
            relay_bench.frame();
        }
        relay_bench
    }

    fn open(&mut self, key: LegId, codec: Codec) {
        let sink: EventSink = Arc::new(|_, _| Ok(()));
        let slot = self.core.insert(Box::new(MediaSession::new(key, key.0 as u64, sink, true)));
        let mut negotiation = Negotiation::new(Local { address: [127, 0, 0, 1].into(), port: 20_000, id: 1 });
        negotiation.set_codecs(&CODECS);
        let payload_type = codec.static_payload_type().unwrap_or_default();
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n\
             m=audio 4000 RTP/AVP {payload_type} 101\r\na=rtpmap:101 telephone-event/8000\r\n"
        );
        if negotiation.answer(offer.as_bytes()).is_ok()
            && let Some(plan) = negotiation.plan()
        {
            self.core.apply(self.now, key, plan.clone(), &mut self.wire);
        }
        self.legs.push(Leg { slot, payload_type });
    }

    /// Runs the next 20 ms. In this time each far end sends one packet, and the ticks run. Every 100 ms the recorded
    /// audio is written. Returns the number of packets sent.
    pub fn frame(&mut self) -> usize {
        let far_end = SocketAddr::from(([127, 0, 0, 2], 4_000));
        let before = self.wire.sent;
        let mut packet = [0; LONGEST_PAYLOAD];
        for leg in &self.legs {
            let Some(packet) = packet.get_mut(..12 + FRAME) else { continue };
            let header = Header {
                marker: false,
                payload_type: leg.payload_type,
                sequence: self.frames as u16,
                timestamp: self.frames.wrapping_mul(FRAME as u32),
                ssrc: 0xAA,
                payload: 12..packet.len(),
            };
            // The audio is not silence, and each frame is different.
            packet.fill(0x20 ^ self.frames as u8 & 0x0F);
            header.write(packet);
            self.core.handle_packet(self.now, leg.slot, Flow::Rtp, far_end, packet, &mut self.wire);
        }
        for _ in 0..4 {
            self.now += TICK;
            self.core.handle_tick(self.now, &mut self.wire, |_| {});
        }
        self.frames = self.frames.wrapping_add(1);
        if self.frames.is_multiple_of(5) {
            self.writer.step();
        }
        self.wire.sent - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
    fn each_far_end_gets_one_packet_per_frame() {
        for codecs in [[Codec::Pcmu, Codec::Pcmu], [Codec::Pcmu, Codec::Pcma], [Codec::G722, Codec::Pcmu]] {
            for recorded in [None, Some(WavCoding::Pcm), Some(WavCoding::Mulaw)] {
                let mut relay_bench = RelayBench::new(Instant::now(), 3, codecs, recorded);
                let sent: usize = (0..1_000).map(|_| relay_bench.frame()).sum();
                // Some of the packets are RTCP reports.
                assert!((6_000..6_100).contains(&sent), "{codecs:?} {recorded:?}: {sent}");
            }
        }
    }
}
