//! Entry points for fuzzing: whole conversations of two bridged sessions, made of arbitrary datagrams. Pure, and the same
//! every time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::{Command, OpId, SessionKey, Tracks};
use crate::engine::{Core, Flow, Network};
use crate::event::EventSink;
use crate::sdp::{Local, Negotiation};
use crate::session::MediaSession;
use crate::tap::{TapCodec, tap};
use crate::writer::Writer;

/// Feeds arbitrary octets to the SDP reader as an offer and as an answer. Must never panic or hang.
pub fn fuzz_sdp(octets: &[u8]) {
    crate::sdp::fuzz(octets);
}

/// Feeds the octets to two bridged and tapped sessions. Each datagram is preceded by an octet that says how long it is
/// (the low six bits, times four) and to which session and socket it goes (the high two); 5 ms pass between them. `now` is
/// where the virtual clock starts. Gives how many packets left, so that a corpus can be seen to reach that far.
pub fn fuzz_rtp(now: Instant, octets: &[u8]) -> usize {
    let (_writer, handle) = Writer::new();
    let mut core = Core::new(now, 0, handle, Arc::new(|_, _| {}));
    let mut wire = Wire { sent: 0 };
    let peer = SocketAddr::from(([127, 0, 0, 2], 4_000));
    let mut readers = Vec::new();
    let slots = [1, 2].map(|key| {
        let sink: EventSink = Arc::new(|_, _| Ok(()));
        let slot = core.insert(MediaSession::new(SessionKey(key), key as u64, sink, true));
        let mut negotiation = Negotiation::new(Local { address: [127, 0, 0, 1].into(), port: 20_000, id: 1 });
        let offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        if negotiation.answer(offer.as_bytes()).is_ok()
            && let Some(plan) = negotiation.plan()
        {
            core.apply(SessionKey(key), plan.clone(), &mut wire);
        }
        let (sink, reader) = tap(16, TapCodec::Native);
        readers.push(reader);
        core.handle_command(SessionKey(key), Command::Tap { op: OpId(1), tracks: Tracks::Both, sink });
        slot
    });
    core.handle_command(SessionKey(1), Command::Bridge { with: SessionKey(2) });
    let mut now = now;
    let mut rest = octets;
    while let Some((first, after)) = rest.split_first() {
        let length = (usize::from(first & 0x3F) * 4).min(after.len());
        let (packet, next) = after.split_at(length);
        rest = next;
        let slot = if first & 0x80 == 0 { slots[0] } else { slots[1] };
        let flow = if first & 0x40 == 0 { Flow::Rtp } else { Flow::Rtcp };
        core.handle_packet(now, slot, flow, peer, &mut packet.to_vec(), &mut wire);
        now += Duration::from_millis(5);
        core.handle_tick(now, &mut wire, |_| {});
    }
    wire.sent
}

struct Wire {
    sent: usize,
}

impl Network for Wire {
    fn send(&mut self, _: usize, _: Flow, _: SocketAddr, _: &[u8]) {
        self.sent += 1;
    }

    fn pin(&mut self, _: usize, _: Option<SocketAddr>) {}

    fn release(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
    fn conversations_of_any_datagrams_are_survived() {
        // A plain xorshift: the same conversations in every run.
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
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
                // Mostly RTP of an agreed type, so that the rest is reached.
                if random() % 4 > 0 {
                    (packet[0], packet[1]) = (0x80, [0, 101, 128, 229][(random() % 4) as usize]);
                }
                octets.extend_from_slice(&packet[..usize::from(first & 0x3F) * 4]);
            }
            sent += fuzz_rtp(Instant::now(), &octets);
        }
        assert!(sent > 4_000, "{sent}");
    }
}
