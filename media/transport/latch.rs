//! Symmetric RTP: decides from which address the far end's packets are accepted, and to which address our packets go.
//! This module is pure.
//!
//! ```text
//!   no packet --any source--> learning --its time is over--> settled --silent for the probation--> doubted
//!                             |      ^                          ^                                   |    |
//!                             \------/                          |------ a packet of the source -----/    |
//!                        a source nearer to                     \--- five packets in a row of another ---/
//!                        the SDP's address
//! ```
//!
//! A NAT router may give a far end another address during a call. So after a second of silence a source is doubted, and
//! another source can replace it if this source is the same far end: its packets are authenticated by SRTP, or they
//! continue the SSRC and the sequence numbers. An attacker who cannot read the call's packets would have to guess both.
//!
//! The source of the far end's packets and the target of our packets are separate. The first source is accepted, unless
//! only the signalled host may be the source. Our packets go to the address in the SDP until a packet arrives from the
//! host in the SDP. So an attacker who sends packets to all our ports does not receive a call's audio.
//!
//! A far end behind a NAT cannot be reached at the address in its SDP. So our packets go to the address from which the
//! far end's packets come. The engine assumes a NAT if the address in the SDP is private and the packets come from
//! another network. Even then the signalled host becomes the source as soon as a packet arrives from this host.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::sdp::MediaSource;

/// The time within which the exact signalled address can replace another port of the signalled host as the source. The
/// time counts from the first packet of the replaced source.
const LEARNING: Duration = Duration::from_millis(500);
/// The time after which a source at a host other than the signalled host is settled. After this time, only the
/// signalled host replaces the source.
const LEARNING_ELSEWHERE: Duration = Duration::from_secs(5);
/// The time without a packet after which the learnt source is doubted, so that the same far end can continue from another
/// address.
const REBOUND: Duration = Duration::from_secs(1);
/// The largest step of the sequence number to a packet that continues a stream (RFC 3550 appendix A.1).
const MAX_STEP: u16 = 3_000;
/// The number of consecutive packets after which a new source replaces a silent source.
const IN_A_ROW: u8 = 5;

/// The far end's address. At first this is the address in the SDP. Then it is the source of the first valid packet.
/// Behind a NAT, this source differs from the address in the SDP. After that the address is fixed. Packets from other
/// sources are refused, so that third parties cannot insert audio into a call.
///
/// An offer or answer that changes something allows another source. The same far end may continue from another address
/// when the current source has been silent for a second. If a probation is set, any source is allowed when the current
/// source has been silent for the probation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latch {
    signalled: Option<SocketAddr>,
    /// Whether our packets go to the signalled address only after a packet has come from there.
    waits: bool,
    source: MediaSource,
    learnt: Option<Learnt>,
    /// The target that our packets had before a new offer or answer. Our packets go there until a packet arrives.
    before: Option<SocketAddr>,
    /// The time for which the learnt source must be silent before any other source can replace it. If the value is
    /// `None`, only the same far end can replace the learnt source.
    probation: Option<Duration>,
    candidate: Option<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Learnt {
    source: SocketAddr,
    since: Instant,
    last_packet: Instant,
    /// The SSRC and the sequence number of the newest packet.
    ssrc: u32,
    sequence: u16,
    /// Whether our packets go to this source ([`Latch::reaches`]).
    reached: bool,
}

/// Another source that sends packets while the learnt source is silent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    sequence: u16,
    packets: u8,
}

/// A latch as data. The ages are the times from an event to the moment of the snapshot.
#[derive(Serialize, Deserialize)]
pub(super) struct LatchState {
    signalled: Option<SocketAddr>,
    waits: bool,
    source: MediaSource,
    learnt: Option<LearntState>,
    before: Option<SocketAddr>,
    candidate: Option<Candidate>,
}

#[derive(Serialize, Deserialize)]
struct LearntState {
    source: SocketAddr,
    since_age: Duration,
    last_packet_age: Duration,
    ssrc: u32,
    sequence: u16,
    reached: bool,
}

/// The result of the check whether a valid packet belongs to the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The packet belongs to the far end.
    FarEnd,
    /// The packet belongs to the far end, and the far end's address has changed.
    Moved,
    /// The packet does not belong to the far end.
    UnknownSource,
}

impl Latch {
    /// Returns the latch as data at `now`.
    pub(super) fn state(&self, now: Instant) -> LatchState {
        let Latch { signalled, waits, source, learnt, before, probation: _, candidate } = self.clone();
        let learnt = learnt.map(|Learnt { source, since, last_packet, ssrc, sequence, reached }| LearntState {
            source,
            since_age: now.saturating_duration_since(since),
            last_packet_age: now.saturating_duration_since(last_packet),
            ssrc,
            sequence,
            reached,
        });
        LatchState { signalled, waits, source, learnt, before, candidate }
    }

    /// Creates a latch from data. `taken` is the moment of the snapshot. The probation is not part of the data, because
    /// it is a setting of the engine.
    pub(super) fn resume(state: LatchState, taken: Instant) -> Latch {
        let LatchState { signalled, waits, source, learnt, before, candidate } = state;
        let at = |age: Duration| taken.checked_sub(age).unwrap_or(taken);
        let learnt = learnt.map(|learnt| Learnt {
            source: learnt.source,
            since: at(learnt.since_age),
            last_packet: at(learnt.last_packet_age),
            ssrc: learnt.ssrc,
            sequence: learnt.sequence,
            reached: learnt.reached,
        });
        Latch { signalled, waits, source, learnt, before, probation: None, candidate }
    }

    /// Sets the time for which the learnt source must be silent before any other source can replace it. If `probation`
    /// is `None`, only the same far end can replace the learnt source.
    pub(crate) fn set_probation(&mut self, probation: Option<Duration>) {
        self.probation = probation;
    }

    /// Sets the hosts from which packets are accepted.
    pub(crate) fn set_source(&mut self, source: MediaSource) {
        self.source = source;
    }

    /// Sets whether our packets go to the signalled address only after a packet has come from there. Call this before
    /// [`Latch::reopen`].
    pub(crate) fn set_waits(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// Allows the latch to learn another source. `signalled` is the far end's address in the SDP.
    pub(crate) fn reopen(&mut self, signalled: Option<SocketAddr>) {
        let target = self.learnt_target();
        if self.learnt.take().is_some() {
            // If the far end repeats the address in its SDP, the target learnt behind a NAT is still better than this
            // address.
            self.before = target.filter(|_| self.signalled == signalled);
        }
        if self.signalled != signalled {
            self.before = None;
        }
        self.signalled = signalled;
        self.candidate = None;
    }

    /// Decides whether a valid packet from `source` belongs to the far end. `authentic` says that SRTP has authenticated
    /// the packet.
    pub(crate) fn admits(
        &mut self,
        source: SocketAddr,
        (ssrc, sequence): (u32, u16),
        authentic: bool,
        now: Instant,
    ) -> Admission {
        if !self.is_allowed(source) {
            return Admission::UnknownSource;
        }
        if let Some(learnt) = self.learnt.as_mut().filter(|learnt| learnt.source == source) {
            (learnt.last_packet, learnt.ssrc, learnt.sequence) = (now, ssrc, sequence);
            self.candidate = None;
            return Admission::FarEnd;
        }
        self.admits_other(source, (ssrc, sequence), authentic, now)
    }

    /// Decides whether a valid packet from a source that is not learnt belongs to the far end.
    #[cold]
    fn admits_other(
        &mut self,
        source: SocketAddr,
        (ssrc, sequence): (u32, u16),
        authentic: bool,
        now: Instant,
    ) -> Admission {
        let reached = self.reaches(source);
        let learns = |reached| Some(Learnt { source, since: now, last_packet: now, ssrc, sequence, reached });
        let Some(learnt) = &self.learnt else {
            self.learnt = learns(reached);
            return Admission::FarEnd;
        };
        let continues = ssrc == learnt.ssrc && (1..=MAX_STEP).contains(&sequence.wrapping_sub(learnt.sequence));
        if self.has_precedence(source, now) {
            let settled = self.is_settled(now);
            self.candidate = None;
            self.learnt = learns(reached);
            return if settled { Admission::Moved } else { Admission::FarEnd };
        }
        let may_replace = if authentic || continues { self.is_doubted(now) } else { self.is_abandoned(now) };
        if !may_replace {
            return Admission::UnknownSource;
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
            return Admission::UnknownSource;
        }
        self.candidate = None;
        // Our packets follow a source that replaces a silent source.
        self.learnt = learns(true);
        Admission::Moved
    }

    /// Whether a packet from `source` cannot belong to the far end now.
    pub(crate) fn refuses(&self, source: SocketAddr, now: Instant) -> bool {
        let known = self.learnt.is_none_or(|learnt| learnt.source == source) || self.is_doubted(now);
        !self.is_allowed(source) || !known && !self.has_precedence(source, now)
    }

    /// Records that the learnt source sent a packet with this sequence number at this time.
    pub(crate) fn note_packet(&mut self, at: Instant, sequence: u16) {
        if let Some(learnt) = &mut self.learnt {
            (learnt.last_packet, learnt.sequence) = (learnt.last_packet.max(at), sequence);
        }
    }

    /// Whether the learnt source is settled. A settled source can change only if the source is silent or a packet of
    /// the signalled host arrives.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.learnt.is_some_and(|learnt| {
            let learning = match self.nearness(learnt.source) {
                2 => Duration::ZERO,
                1 => LEARNING,
                // Without an address in the SDP, no source is nearer than another.
                _ if self.signalled.is_none() => Duration::ZERO,
                // Our packets go to an address that is not the source.
                _ if !learnt.reached => return false,
                _ => LEARNING_ELSEWHERE,
            };
            now.saturating_duration_since(learnt.since) >= learning
        })
    }

    /// Whether the engine can refuse packets from other sources without reading them once the learnt source is settled.
    /// This is so if the source is the signalled host, or if no host is signalled.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.learnt.is_some_and(|learnt| self.signalled.is_none() || self.nearness(learnt.source) > 0)
    }

    /// Whether the learnt source has been silent for so long that the same far end can continue from another address.
    pub(crate) fn is_doubted(&self, now: Instant) -> bool {
        self.is_silent(now, REBOUND) || self.is_abandoned(now)
    }

    /// Whether the learnt source has been silent for the probation, so that any other source can replace it.
    fn is_abandoned(&self, now: Instant) -> bool {
        self.probation.is_some_and(|probation| self.is_silent(now, probation))
    }

    fn is_silent(&self, now: Instant, time: Duration) -> bool {
        self.learnt.is_some_and(|learnt| now.saturating_duration_since(learnt.last_packet) >= time)
    }

    fn is_allowed(&self, source: SocketAddr) -> bool {
        self.source == MediaSource::Any || self.nearness(source) > 0
    }

    /// Whether `source` replaces the learnt source because `source` is nearer to the address in the SDP.
    fn has_precedence(&self, source: SocketAddr, now: Instant) -> bool {
        self.learnt.is_some_and(|learnt| match (self.nearness(learnt.source), self.nearness(source)) {
            (0, 1..) => true,
            (1, 2) => now.saturating_duration_since(learnt.since) < LEARNING,
            _ => false,
        })
    }

    /// Returns how well `source` matches the signalled address. The result is 0 for another host, 1 for the same host
    /// with another port, and 2 for the same host and port.
    fn nearness(&self, source: SocketAddr) -> u8 {
        let host = self.signalled.is_some_and(|signalled| signalled.ip() == source.ip());
        u8::from(host) + u8::from(self.signalled == Some(source))
    }

    /// Whether our packets go to `source` if it becomes the source of the far end's packets.
    fn reaches(&self, source: SocketAddr) -> bool {
        let translated = |signalled: SocketAddr| is_translated(signalled.ip(), source.ip());
        self.nearness(source) > 0 || self.signalled.is_none_or(translated)
    }

    /// The address that our packets go to.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        self.learnt_target().or(self.before).or(self.signalled.filter(|_| !self.waits))
    }

    /// The address that our packets go to, if the engine learnt this address from a packet. The result is `None` if the
    /// address comes from SDP.
    pub(crate) fn learnt_target(&self) -> Option<SocketAddr> {
        self.learnt.filter(|learnt| learnt.reached).map(|learnt| learnt.source)
    }

    /// The source address of the far end's packets.
    pub(crate) fn learnt(&self) -> Option<SocketAddr> {
        self.learnt.map(|learnt| learnt.source)
    }

    /// The address in the far end's SDP.
    pub(crate) fn signalled(&self) -> Option<SocketAddr> {
        self.signalled
    }
}

/// Whether a NAT can explain why a far end sends from `source` although its SDP has the address `signalled`. This is so
/// if the signalled address is private and the source is in another network (IPv4: /24, IPv6: /64). Between two
/// addresses of this host there is no NAT.
fn is_translated(signalled: IpAddr, source: IpAddr) -> bool {
    let (signalled, source) = (signalled.to_canonical(), source.to_canonical());
    if signalled.is_loopback() && source.is_loopback() {
        return false;
    }
    match (signalled, source) {
        (IpAddr::V4(signalled), IpAddr::V4(source)) => {
            let [a, b, c, _] = signalled.octets();
            let shared = (a, b & 0xc0) == (100, 64);
            let private = signalled.is_private() || signalled.is_link_local() || signalled.is_loopback() || shared;
            private && [a, b, c] != source.octets()[..3]
        }
        (IpAddr::V6(signalled), IpAddr::V6(source)) => {
            let private = signalled.is_unique_local() || signalled.is_unicast_link_local() || signalled.is_loopback();
            private && signalled.segments()[..4] != source.segments()[..4]
        }
        // The address families differ, so a translator is between us and the far end.
        _ => true,
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
    fn the_first_source_is_latched_unless_the_signalled_source_follows_soon() {
        let now = start();
        let mut latch = latch(at(1));
        assert_eq!(latch.target(), Some(at(1)));
        assert_eq!(latch.admits(at(2), (7, 0), false, now), Admission::FarEnd);
        assert_eq!(latch.target(), Some(at(2)));
        assert_eq!(latch.admits(at(3), (7, 0), false, now), Admission::UnknownSource);
        assert!(!latch.is_settled(now + ms(100)));
        assert_eq!(latch.admits(at(1), (7, 0), false, now + ms(100)), Admission::FarEnd);
        assert!(latch.is_settled(now + ms(100)));
        assert_eq!(latch.admits(at(2), (7, 0), false, now + ms(120)), Admission::UnknownSource);
        assert_eq!(latch.admits(at(3), (7, 0), false, now + ms(60_000)), Admission::UnknownSource);
        latch.reopen(Some(at(1)));
        assert_eq!(latch.target(), Some(at(1)));
        assert_eq!(latch.admits(at(3), (7, 0), false, now + ms(61_000)), Admission::FarEnd);
        assert_eq!(latch.admits(at(1), (7, 0), false, now + ms(62_000)), Admission::UnknownSource);
    }

    fn far(host: [u8; 4], port: u16) -> SocketAddr {
        SocketAddr::from((host, port))
    }

    #[test]
    fn a_source_that_sprays_our_ports_gets_no_audio_and_the_signalled_host_replaces_it() {
        let now = start();
        for signalled in [at(1), far([203, 0, 113, 5], 1), far([192, 168, 1, 20], 1)] {
            let [a, b, c, _] = match signalled.ip() {
                IpAddr::V4(ip) => ip.octets(),
                IpAddr::V6(_) => unreachable!(),
            };
            let sprayer = far([a, b, c, 66], 9);
            let mut latch = latch(signalled);
            assert_eq!(latch.admits(sprayer, (7, 0), false, now), Admission::FarEnd, "it may be the far end");
            for after in [0, 4_900, 3_600_000] {
                assert_eq!(latch.target(), Some(signalled), "{after} ms later");
                assert!(!latch.is_settled(now + ms(after)));
            }
            // The far end's first packet is late. It comes from another port, because a router has changed the port.
            let far_end = SocketAddr::new(signalled.ip(), 2);
            assert_eq!(latch.admits(far_end, (8, 0), false, now + ms(3_600_000)), Admission::FarEnd);
            assert_eq!(latch.admits(sprayer, (7, 1), false, now + ms(3_600_010)), Admission::UnknownSource);
            assert_eq!(latch.target(), Some(far_end));
            assert!(latch.is_exclusive() && latch.is_settled(now + ms(3_600_600)));
        }
    }

    #[test]
    fn a_phone_behind_a_nat_gets_packets_at_its_source_until_the_signalled_host_sends() {
        let now = start();
        for phone in [far([192, 168, 1, 20], 4_000), far([10, 0, 0, 5], 4_000), far([100, 64, 3, 4], 4_000)] {
            for router in [far([203, 0, 113, 7], 61_000), far([172, 16, 9, 9], 61_000), at(61_000)] {
                let mut latch = latch(phone);
                assert_eq!(latch.admits(router, (7, 0), false, now), Admission::FarEnd);
                assert_eq!(latch.target(), Some(router), "{phone} by {router}");
                assert_eq!(
                    latch.admits(far([198, 51, 100, 1], 5), (8, 0), false, now + ms(100)),
                    Admission::UnknownSource
                );
                assert!(!latch.is_settled(now + ms(4_900)) && latch.is_settled(now + ms(5_000)));
                assert!(!latch.is_exclusive(), "the signalled host must be heard should it speak");
                let mut renewed = latch.clone();
                renewed.reopen(Some(phone));
                assert_eq!(renewed.target(), Some(router), "an offer that repeats the private address");
                latch.admits(router, (7, 0), false, now + ms(8_900));
                assert!(
                    latch.refuses(far([198, 51, 100, 1], 5), now + ms(9_000)) && !latch.refuses(phone, now + ms(9_000))
                );
                assert_eq!(latch.admits(phone, (9, 0), false, now + ms(9_000)), Admission::Moved);
                assert_eq!(latch.target(), Some(phone));
                assert_eq!(latch.admits(router, (7, 1), false, now + ms(9_020)), Admission::UnknownSource);
            }
        }
    }

    #[test]
    fn an_address_that_must_send_first_gets_no_packet_before_its_first_packet() {
        let now = start();
        let mut latch = Latch::default();
        latch.set_waits(true);
        latch.reopen(Some(at(6_000)));
        assert_eq!((latch.target(), latch.signalled()), (None, Some(at(6_000))));
        assert_eq!(latch.admits(at(6_000), (7, 0), false, now), Admission::FarEnd);
        assert_eq!(latch.target(), Some(at(6_000)));
        latch.reopen(Some(at(6_002)));
        assert_eq!(latch.target(), None, "another port of the same host");
        latch.set_waits(false);
        latch.reopen(Some(at(6_004)));
        assert_eq!(latch.target(), Some(at(6_004)));
    }

    #[test]
    fn a_carrier_that_sends_from_another_host_gets_packets_at_its_signalled_address() {
        let now = start();
        let (signalled, sends) = (far([198, 51, 100, 1], 4_000), far([198, 51, 100, 2], 5_000));
        let mut latch = latch(signalled);
        for sequence in 0..500 {
            assert_eq!(
                latch.admits(sends, (7, sequence), false, now + ms(20) * u32::from(sequence)),
                Admission::FarEnd
            );
            assert_eq!(latch.target(), Some(signalled));
        }
    }

    #[test]
    fn with_the_signalled_setting_only_the_signalled_host_is_accepted() {
        let now = start();
        let mut latch = latch(far([192, 168, 1, 20], 4_000));
        latch.set_source(MediaSource::Signalled);
        latch.set_probation(Some(ms(1_000)));
        for sequence in 0..100 {
            let unknown = far([203, 0, 113, 7], 61_000);
            assert_eq!(latch.admits(unknown, (7, sequence), false, now + ms(9_000)), Admission::UnknownSource);
            assert!(latch.refuses(unknown, now));
        }
        assert_eq!(latch.admits(far([192, 168, 1, 20], 4_002), (7, 0), false, now), Admission::FarEnd);
        assert_eq!(latch.target(), Some(far([192, 168, 1, 20], 4_002)));
    }

    #[test]
    fn private_addresses_of_ipv6_are_recognised() {
        let now = start();
        for (signalled, comes, reached) in [
            ("[fd00::5]:4000", "[2001:db8::7]:5000", true),
            ("[fd00::5]:4000", "[fd00::6]:5000", false),
            ("[2001:db8::5]:4000", "[2001:db8::7]:5000", false),
        ] {
            let (signalled, comes) = (signalled.parse().unwrap(), comes.parse().unwrap());
            let mut latch = latch(signalled);
            latch.admits(comes, (7, 0), false, now);
            assert_eq!(latch.target(), Some(if reached { comes } else { signalled }));
        }
    }

    #[test]
    fn five_consecutive_packets_replace_a_silent_source() {
        let now = start();
        let mut latch = latch(at(1));
        latch.set_probation(Some(ms(2_000)));
        latch.admits(at(1), (7, 0), false, now);
        let receive = |latch: &mut Latch, source, ssrc, sequence: u16, after| {
            latch.admits(source, (ssrc, sequence), false, now + ms(after))
        };
        for sequence in 0..10 {
            assert_eq!(receive(&mut latch, elsewhere(5), 8, sequence, 1_900), Admission::UnknownSource, "too early");
        }
        // The count starts again after a gap, with another SSRC, and with another source.
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
            assert_eq!(receive(&mut latch, elsewhere(source), ssrc, sequence, 2_000), Admission::UnknownSource);
        }
        // The count also starts again after a packet of the far end.
        assert_eq!(receive(&mut latch, at(1), 7, 1, 2_100), Admission::FarEnd);
        assert_eq!(receive(&mut latch, elsewhere(6), 9, 12, 2_120), Admission::UnknownSource);
        for sequence in 65_533..=65_535 {
            assert_eq!(receive(&mut latch, elsewhere(6), 9, sequence, 4_200), Admission::UnknownSource);
        }
        assert_eq!(receive(&mut latch, elsewhere(6), 9, 0, 4_200), Admission::UnknownSource);
        assert_eq!(receive(&mut latch, elsewhere(6), 9, 1, 4_200), Admission::Moved);
        assert_eq!(latch.target(), Some(elsewhere(6)));
        // From now on the new source is accepted, until the signalled source sends again.
        assert_eq!(receive(&mut latch, elsewhere(6), 9, 2, 9_300), Admission::FarEnd);
        assert_eq!(receive(&mut latch, at(1), 7, 2, 9_320), Admission::Moved);
        assert_eq!(receive(&mut latch, elsewhere(6), 9, 3, 9_340), Admission::UnknownSource);
    }

    #[test]
    fn without_a_probation_silence_changes_nothing() {
        let now = start();
        let mut latch = latch(at(1));
        latch.admits(at(1), (7, 0), false, now);
        for sequence in 0..100 {
            assert_eq!(latch.admits(at(2), (8, sequence), false, now + ms(3_600_000)), Admission::UnknownSource);
        }
    }

    /// Returns a latch whose source has sent packets with SSRC 7 until `start() + 20 ms`.
    fn talking(now: Instant) -> Latch {
        let mut latch = latch(at(1));
        for (sequence, after) in [(65_534, 0), (65_535, 20)] {
            latch.admits(at(1), (7, sequence), false, now + ms(after));
        }
        latch
    }

    #[test]
    fn a_far_end_that_gets_another_address_is_followed_after_a_second_of_silence() {
        let now = start();
        for to in [at(9), elsewhere(9), far([198, 51, 100, 7], 9)] {
            let mut latch = talking(now);
            for sequence in 0..45 {
                let after = 40 + u64::from(sequence) * 20;
                assert_eq!(
                    latch.admits(to, (7, sequence), false, now + ms(after)),
                    Admission::UnknownSource,
                    "{after}"
                );
            }
            for (sequence, admission) in
                (50..55).zip([Admission::UnknownSource; 4].into_iter().chain([Admission::Moved]))
            {
                assert_eq!(latch.admits(to, (7, sequence), false, now + ms(1_020)), admission);
            }
            assert_eq!(latch.target(), Some(to));
            let signalled = latch.admits(at(1), (7, 0), false, now + ms(1_500));
            assert_ne!(signalled, Admission::UnknownSource, "the signalled host may always return");
        }
    }

    #[test]
    fn a_source_that_cannot_read_the_calls_packets_never_takes_over_a_silent_call() {
        let now = start();
        let mut latch = talking(now);
        let unknown = elsewhere(9);
        for sequence in 0..=u16::MAX {
            let after = now + ms(5_000);
            assert_eq!(latch.admits(unknown, (8, sequence), false, after), Admission::UnknownSource, "another SSRC");
        }
        for sequence in 3_000..=u16::MAX {
            let after = now + ms(5_000);
            assert_eq!(latch.admits(unknown, (7, sequence), false, after), Admission::UnknownSource, "{sequence}");
        }
        latch.set_source(MediaSource::Signalled);
        for sequence in 0..100 {
            assert_eq!(latch.admits(unknown, (7, sequence), true, now + ms(5_000)), Admission::UnknownSource);
        }
    }

    #[test]
    fn a_far_end_that_srtp_authenticates_may_also_begin_another_stream() {
        let now = start();
        let mut latch = talking(now);
        for sequence in 500..504 {
            assert_eq!(latch.admits(elsewhere(9), (8, sequence), true, now + ms(1_020)), Admission::UnknownSource);
        }
        assert_eq!(latch.admits(elsewhere(9), (8, 504), true, now + ms(1_020)), Admission::Moved);
    }
}
