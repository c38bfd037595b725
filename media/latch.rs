//! Symmetric RTP: where packets may come from and where ours go. Pure.
//!
//! ```text
//!   nothing heard --any source--> learning --its time is over--> settled --silent for the probation--> doubted
//!                                 |      ^                          ^                                   |    |
//!                                 \------/                          |---------- it speaks again --------/    |
//!                            a source nearer to                     \--- five packets in a row of another ---/
//!                            what SDP says
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// For so long after the first packet of a source at the signalled host, the signalled port may take its place.
const LEARNING: Duration = Duration::from_millis(500);
/// And for so long a source at the signalled host may take the place of one elsewhere: who sprays our ports with packets
/// is often there first, and the peer, who waits for the answer, comes later.
const LEARNING_ELSEWHERE: Duration = Duration::from_secs(5);
/// Packets of one source that must follow each other before it takes a silent one's place.
const IN_A_ROW: u8 = 5;

/// The peer's address: signalled, then learnt from its first valid packet (NAT), then pinned. Packets from elsewhere
/// are refused, so that nobody can talk into a call. An offer or answer that changes something opens it again; with a
/// probation, so does its silence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latch {
    signalled: Option<SocketAddr>,
    learnt: Option<Learnt>,
    /// After a new offer: where packets still go until one comes.
    before: Option<SocketAddr>,
    /// How long the learnt source must be silent before another can take its place; `None`: for ever.
    probation: Option<Duration>,
    candidate: Option<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Learnt {
    source: SocketAddr,
    since: Instant,
    heard: Instant,
}

/// Somebody who sends while the peer is silent.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    sequence: u16,
    packets: u8,
}

/// Whose a valid packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The peer's.
    Peer,
    /// The peer's, who has sent from another address until now.
    Moved,
    /// Somebody else's.
    Stranger,
}

impl Latch {
    /// A source that is silent for `probation` can lose its place to another; `None`: it cannot.
    pub(crate) fn set_probation(&mut self, probation: Option<Duration>) {
        self.probation = probation;
    }

    /// Opens for a new source. `signalled` is what the SDP says.
    pub(crate) fn reopen(&mut self, signalled: Option<SocketAddr>) {
        if let Some(learnt) = self.learnt.take() {
            // What was learnt by NAT stays better than an address the peer repeats.
            self.before = (self.signalled == signalled).then_some(learnt.source);
        }
        if self.signalled != signalled {
            self.before = None;
        }
        self.signalled = signalled;
        self.candidate = None;
    }

    /// Whose a valid packet from `source` is.
    pub(crate) fn admits(&mut self, source: SocketAddr, ssrc: u32, sequence: u16, now: Instant) -> Admission {
        let Some(learnt) = &mut self.learnt else {
            self.learnt = Some(Learnt { source, since: now, heard: now });
            return Admission::Peer;
        };
        if learnt.source == source {
            learnt.heard = now;
            self.candidate = None;
            return Admission::Peer;
        }
        let learnt = *learnt;
        let nearer = self.nearness(source) > self.nearness(learnt.source);
        if nearer && now.saturating_duration_since(learnt.since) < self.learning(learnt.source) {
            self.learnt = Some(Learnt { source, since: now, heard: now });
            return Admission::Peer;
        }
        if !self.is_doubted(now) {
            return Admission::Stranger;
        }
        let packets = match self.candidate {
            Some(before)
                if (before.source, before.ssrc, before.sequence.wrapping_add(1)) == (source, ssrc, sequence) =>
            {
                before.packets + 1
            }
            _ => 1,
        };
        if packets < IN_A_ROW {
            self.candidate = Some(Candidate { source, ssrc, sequence, packets });
            return Admission::Stranger;
        }
        self.candidate = None;
        self.learnt = Some(Learnt { source, since: now, heard: now });
        Admission::Moved
    }

    /// The learnt source spoke then.
    pub(crate) fn hear(&mut self, at: Instant) {
        if let Some(learnt) = &mut self.learnt {
            learnt.heard = learnt.heard.max(at);
        }
    }

    /// Whether no other source can take the learnt one's place any more, but by its silence.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.learnt.is_some_and(|learnt| {
            let learning = self.learning(learnt.source);
            now.saturating_duration_since(learnt.since) >= learning
        })
    }

    /// Whether the learnt source has been silent for the probation, so that another may take its place.
    pub(crate) fn is_doubted(&self, now: Instant) -> bool {
        let silent = self.learnt.map(|learnt| now.saturating_duration_since(learnt.heard));
        self.probation.zip(silent).is_some_and(|(probation, silent)| silent >= probation)
    }

    /// How much like the signalled address: 0 to 2.
    fn nearness(&self, source: SocketAddr) -> u8 {
        let host = self.signalled.is_some_and(|signalled| signalled.ip() == source.ip());
        u8::from(host) + u8::from(self.signalled == Some(source))
    }

    /// How long one that is nearer may take the place of `source`.
    fn learning(&self, source: SocketAddr) -> Duration {
        match self.nearness(source) {
            2 => Duration::ZERO,
            1 => LEARNING,
            // Without an address in the SDP nobody is nearer.
            _ if self.signalled.is_none() => Duration::ZERO,
            _ => LEARNING_ELSEWHERE,
        }
    }

    /// Where our packets go.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        self.learnt().or(self.before).or(self.signalled)
    }

    /// Whether the target came from a packet rather than from SDP.
    pub(crate) fn learnt(&self) -> Option<SocketAddr> {
        self.learnt.map(|learnt| learnt.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn elsewhere(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 2], port))
    }

    fn latch(signalled: SocketAddr) -> Latch {
        let mut latch = Latch::default();
        latch.reopen(Some(signalled));
        latch
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
    fn start() -> Instant {
        Instant::now()
    }

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_source_is_pinned_unless_the_signalled_one_follows_soon() {
        let now = start();
        let mut latch = latch(at(1));
        assert_eq!(latch.target(), Some(at(1)));
        assert_eq!(latch.admits(at(2), 7, 0, now), Admission::Peer);
        assert_eq!(latch.target(), Some(at(2)));
        assert_eq!(latch.admits(at(3), 7, 0, now), Admission::Stranger);
        assert!(!latch.is_settled(now + ms(100)));
        assert_eq!(latch.admits(at(1), 7, 0, now + ms(100)), Admission::Peer);
        assert!(latch.is_settled(now + ms(100)));
        assert_eq!(latch.admits(at(2), 7, 0, now + ms(120)), Admission::Stranger);
        assert_eq!(latch.admits(at(3), 7, 0, now + ms(60_000)), Admission::Stranger);
        latch.reopen(Some(at(1)));
        assert_eq!(latch.target(), Some(at(1)));
        assert_eq!(latch.admits(at(3), 7, 0, now + ms(61_000)), Admission::Peer);
        assert_eq!(latch.admits(at(1), 7, 0, now + ms(62_000)), Admission::Stranger);
    }

    #[test]
    fn who_sprays_our_ports_first_gives_way_to_the_signalled_host() {
        let now = start();
        let mut latch = latch(at(1));
        assert_eq!(latch.admits(elsewhere(9), 7, 0, now), Admission::Peer);
        assert!(!latch.is_settled(now + ms(4_900)));
        // The peer comes late and, behind its router, from another port.
        assert_eq!(latch.admits(at(2), 8, 0, now + ms(4_900)), Admission::Peer);
        assert_eq!(latch.admits(elsewhere(9), 7, 1, now + ms(4_910)), Admission::Stranger);
        assert_eq!(latch.target(), Some(at(2)));
    }

    #[test]
    fn a_silent_source_loses_its_place_to_five_packets_in_a_row() {
        let now = start();
        let mut latch = latch(at(1));
        latch.set_probation(Some(ms(2_000)));
        latch.admits(at(1), 7, 0, now);
        let say = |latch: &mut Latch, source, ssrc, sequence: u16, after| {
            latch.admits(source, ssrc, sequence, now + ms(after))
        };
        for sequence in 0..10 {
            assert_eq!(say(&mut latch, elsewhere(5), 8, sequence, 1_900), Admission::Stranger, "too early");
        }
        // A hole, another SSRC, another source: the row begins anew.
        for (source, ssrc, sequence) in [
            (5, 8, 1),
            (5, 8, 2),
            (5, 8, 4),
            (5, 8, 5),
            (5, 9, 6),
            (5, 9, 7),
            (6, 9, 8),
            (6, 9, 9),
            (6, 9, 10),
            (6, 9, 11),
        ] {
            assert_eq!(say(&mut latch, elsewhere(source), ssrc, sequence, 2_000), Admission::Stranger);
        }
        // And the peer, should it come back.
        assert_eq!(say(&mut latch, at(1), 7, 1, 2_100), Admission::Peer);
        assert_eq!(say(&mut latch, elsewhere(6), 9, 12, 2_120), Admission::Stranger);
        for sequence in 65_533..=65_535 {
            assert_eq!(say(&mut latch, elsewhere(6), 9, sequence, 4_200), Admission::Stranger);
        }
        assert_eq!(say(&mut latch, elsewhere(6), 9, 0, 4_200), Admission::Stranger);
        assert_eq!(say(&mut latch, elsewhere(6), 9, 1, 4_200), Admission::Moved);
        assert_eq!(latch.target(), Some(elsewhere(6)));
        // It is the newcomer that is learnt now: the signalled source could still come back, then no more.
        assert_eq!(say(&mut latch.clone(), at(1), 7, 2, 4_220), Admission::Peer);
        assert_eq!(say(&mut latch, elsewhere(6), 9, 2, 9_300), Admission::Peer);
        assert_eq!(say(&mut latch, at(1), 7, 2, 9_320), Admission::Stranger);
    }

    #[test]
    fn without_a_probation_silence_changes_nothing() {
        let now = start();
        let mut latch = latch(at(1));
        latch.admits(at(1), 7, 0, now);
        for sequence in 0..100 {
            assert_eq!(latch.admits(at(2), 8, sequence, now + ms(3_600_000)), Admission::Stranger);
        }
    }
}
