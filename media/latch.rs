//! Symmetric RTP: where packets may come from and where ours go. Pure.
//!
//! ```text
//!   nothing heard --any source--> learning --its time is over--> settled --silent for the probation--> doubted
//!                                 |      ^                          ^                                   |    |
//!                                 \------/                          |---------- it speaks again --------/    |
//!                            a source nearer to                     \--- five packets in a row of another ---/
//!                            what SDP says
//! ```
//!
//! Hearing and sending are two things. Whoever speaks first is heard, unless only the signalled host may be; but ours go to the
//! address in the SDP until something comes from its host, so that nobody gets a call's audio who sprays our ports. Behind a
//! NAT that address cannot be reached, and ours go back where the peer's come from: then it is a private one, and the packets
//! come from another network. Even so the signalled host has its place whenever it speaks first.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// For so long after the first packet of a source at the signalled host, the signalled port may take its place.
const LEARNING: Duration = Duration::from_millis(500);
/// After so long a source elsewhere has its place against all but the signalled host.
const LEARNING_ELSEWHERE: Duration = Duration::from_secs(5);
/// Packets of one source that must follow each other before it takes a silent one's place.
const IN_A_ROW: u8 = 5;

/// Where a peer's RTP may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaSource {
    /// From anywhere, as long as the host that its SDP names is silent.
    #[default]
    Any,
    /// From the host that its SDP names only.
    Signalled,
}

/// The peer's address: signalled, then learnt from its first valid packet (NAT), then pinned. Packets from elsewhere
/// are refused, so that nobody can talk into a call. An offer or answer that changes something opens it again; with a
/// probation, so does its silence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latch {
    signalled: Option<SocketAddr>,
    source: MediaSource,
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
    /// It took the place of one that had fallen silent: ours follow.
    followed: bool,
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

    /// Where packets may come from, from now on.
    pub(crate) fn set_source(&mut self, source: MediaSource) {
        self.source = source;
    }

    /// Opens for a new source. `signalled` is what the SDP says.
    pub(crate) fn reopen(&mut self, signalled: Option<SocketAddr>) {
        let target = self.learnt_target();
        if self.learnt.take().is_some() {
            // What was learnt by NAT stays better than an address the peer repeats.
            self.before = target.filter(|_| self.signalled == signalled);
        }
        if self.signalled != signalled {
            self.before = None;
        }
        self.signalled = signalled;
        self.candidate = None;
    }

    /// Whose a valid packet from `source` is.
    pub(crate) fn admits(&mut self, source: SocketAddr, ssrc: u32, sequence: u16, now: Instant) -> Admission {
        if !self.may_be_heard(source) {
            return Admission::Stranger;
        }
        let Some(learnt) = &mut self.learnt else {
            self.learnt = Some(Learnt { source, since: now, heard: now, followed: false });
            return Admission::Peer;
        };
        if learnt.source == source {
            learnt.heard = now;
            self.candidate = None;
            return Admission::Peer;
        }
        if self.has_precedence(source, now) {
            let settled = self.is_settled(now);
            self.candidate = None;
            self.learnt = Some(Learnt { source, since: now, heard: now, followed: false });
            return if settled { Admission::Moved } else { Admission::Peer };
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
        self.learnt = Some(Learnt { source, since: now, heard: now, followed: true });
        Admission::Moved
    }

    /// Whether packets from there are nobody's of this call, whatever they are.
    pub(crate) fn refuses(&self, source: SocketAddr, now: Instant) -> bool {
        let known = self.learnt.is_none_or(|learnt| learnt.source == source) || self.is_doubted(now);
        !self.may_be_heard(source) || !known && !self.has_precedence(source, now)
    }

    /// The learnt source spoke then.
    pub(crate) fn hear(&mut self, at: Instant) {
        if let Some(learnt) = &mut self.learnt {
            learnt.heard = learnt.heard.max(at);
        }
    }

    /// Whether no other source can take the learnt one's place any more, but by its silence, or the signalled host.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.learnt.is_some_and(|learnt| {
            let learning = match self.nearness(learnt.source) {
                2 => Duration::ZERO,
                1 => LEARNING,
                // Without an address in the SDP nobody is nearer.
                _ if self.signalled.is_none() => Duration::ZERO,
                // It is heard, and ours go elsewhere.
                _ if !self.is_reached_at(&learnt) => return false,
                _ => LEARNING_ELSEWHERE,
            };
            now.saturating_duration_since(learnt.since) >= learning
        })
    }

    /// Whether nobody else need be listened to once it is settled: the signalled host has spoken, or there is none.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.learnt.is_some_and(|learnt| self.signalled.is_none() || self.nearness(learnt.source) > 0)
    }

    /// Whether the learnt source has been silent for the probation, so that another may take its place.
    pub(crate) fn is_doubted(&self, now: Instant) -> bool {
        let silent = self.learnt.map(|learnt| now.saturating_duration_since(learnt.heard));
        self.probation.zip(silent).is_some_and(|(probation, silent)| silent >= probation)
    }

    fn may_be_heard(&self, source: SocketAddr) -> bool {
        self.source == MediaSource::Any || self.nearness(source) > 0
    }

    /// Whether `source` is nearer to what the SDP says than the learnt one, whose place it takes.
    fn has_precedence(&self, source: SocketAddr, now: Instant) -> bool {
        self.learnt.is_some_and(|learnt| match (self.nearness(learnt.source), self.nearness(source)) {
            (0, 1..) => true,
            (1, 2) => now.saturating_duration_since(learnt.since) < LEARNING,
            _ => false,
        })
    }

    /// How much like the signalled address: 0 to 2.
    fn nearness(&self, source: SocketAddr) -> u8 {
        let host = self.signalled.is_some_and(|signalled| signalled.ip() == source.ip());
        u8::from(host) + u8::from(self.signalled == Some(source))
    }

    /// Whether ours go to a source of the peer's packets.
    fn is_reached_at(&self, learnt: &Learnt) -> bool {
        let source = learnt.source;
        let translated = |signalled: SocketAddr| is_translated(signalled.ip(), source.ip());
        learnt.followed || self.nearness(source) > 0 || self.signalled.is_none_or(translated)
    }

    /// Where our packets go.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        self.learnt_target().or(self.before).or(self.signalled)
    }

    /// The same, if it came from a packet rather than from SDP.
    pub(crate) fn learnt_target(&self) -> Option<SocketAddr> {
        self.learnt.filter(|learnt| self.is_reached_at(learnt)).map(|learnt| learnt.source)
    }

    /// Where the peer's packets come from.
    pub(crate) fn learnt(&self) -> Option<SocketAddr> {
        self.learnt.map(|learnt| learnt.source)
    }

    /// Where its SDP wants ours.
    pub(crate) fn signalled(&self) -> Option<SocketAddr> {
        self.signalled
    }
}

/// Whether a peer that calls itself `signalled` may send from `source` because of a NAT between: the one is private, the other
/// of another network (IPv4: /24, IPv6: /64). Within this machine there is none.
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
        // Between the families somebody translates.
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

    fn far(host: [u8; 4], port: u16) -> SocketAddr {
        SocketAddr::from((host, port))
    }

    #[test]
    fn who_sprays_our_ports_first_gets_no_audio_and_gives_way_to_the_signalled_host_at_any_time() {
        let now = start();
        for signalled in [at(1), far([203, 0, 113, 5], 1), far([192, 168, 1, 20], 1)] {
            let [a, b, c, _] = match signalled.ip() {
                IpAddr::V4(ip) => ip.octets(),
                IpAddr::V6(_) => unreachable!(),
            };
            let sprayer = far([a, b, c, 66], 9);
            let mut latch = latch(signalled);
            assert_eq!(latch.admits(sprayer, 7, 0, now), Admission::Peer, "it may be the peer, and is heard");
            for after in [0, 4_900, 3_600_000] {
                assert_eq!(latch.target(), Some(signalled), "{after} ms later");
                assert!(!latch.is_settled(now + ms(after)));
            }
            // The peer comes late and, behind its router, from another port.
            let peer = SocketAddr::new(signalled.ip(), 2);
            assert_eq!(latch.admits(peer, 8, 0, now + ms(3_600_000)), Admission::Peer);
            assert_eq!(latch.admits(sprayer, 7, 1, now + ms(3_600_010)), Admission::Stranger);
            assert_eq!(latch.target(), Some(peer));
            assert!(latch.is_exclusive() && latch.is_settled(now + ms(3_600_600)));
        }
    }

    #[test]
    fn a_phone_behind_a_nat_is_sent_to_where_it_sends_from_and_gives_way_to_the_signalled_host_only() {
        let now = start();
        for phone in [far([192, 168, 1, 20], 4_000), far([10, 0, 0, 5], 4_000), far([100, 64, 3, 4], 4_000)] {
            for router in [far([203, 0, 113, 7], 61_000), far([172, 16, 9, 9], 61_000), at(61_000)] {
                let mut latch = latch(phone);
                assert_eq!(latch.admits(router, 7, 0, now), Admission::Peer);
                assert_eq!(latch.target(), Some(router), "{phone} by {router}");
                assert_eq!(latch.admits(far([198, 51, 100, 1], 5), 8, 0, now + ms(100)), Admission::Stranger);
                assert!(!latch.is_settled(now + ms(4_900)) && latch.is_settled(now + ms(5_000)));
                assert!(!latch.is_exclusive(), "the signalled host must be heard should it speak");
                let mut renewed = latch.clone();
                renewed.reopen(Some(phone));
                assert_eq!(renewed.target(), Some(router), "an offer that repeats the private address");
                assert!(
                    latch.refuses(far([198, 51, 100, 1], 5), now + ms(9_000)) && !latch.refuses(phone, now + ms(9_000))
                );
                assert_eq!(latch.admits(phone, 9, 0, now + ms(9_000)), Admission::Moved);
                assert_eq!(latch.target(), Some(phone));
                assert_eq!(latch.admits(router, 7, 1, now + ms(9_020)), Admission::Stranger);
            }
        }
    }

    #[test]
    fn a_carrier_that_sends_from_another_host_is_heard_and_sent_to_where_it_said() {
        let now = start();
        let (said, sends) = (far([198, 51, 100, 1], 4_000), far([198, 51, 100, 2], 5_000));
        let mut latch = latch(said);
        for sequence in 0..500 {
            assert_eq!(latch.admits(sends, 7, sequence, now + ms(20) * u32::from(sequence)), Admission::Peer);
            assert_eq!(latch.target(), Some(said));
        }
    }

    #[test]
    fn where_only_the_signalled_host_may_speak_nobody_else_does() {
        let now = start();
        let mut latch = latch(far([192, 168, 1, 20], 4_000));
        latch.set_source(MediaSource::Signalled);
        latch.set_probation(Some(ms(1_000)));
        for sequence in 0..100 {
            let stranger = far([203, 0, 113, 7], 61_000);
            assert_eq!(latch.admits(stranger, 7, sequence, now + ms(9_000)), Admission::Stranger);
            assert!(latch.refuses(stranger, now));
        }
        assert_eq!(latch.admits(far([192, 168, 1, 20], 4_002), 7, 0, now), Admission::Peer);
        assert_eq!(latch.target(), Some(far([192, 168, 1, 20], 4_002)));
    }

    #[test]
    fn ipv6_has_its_private_addresses_too() {
        let now = start();
        for (said, comes, reached) in [
            ("[fd00::5]:4000", "[2001:db8::7]:5000", true),
            ("[fd00::5]:4000", "[fd00::6]:5000", false),
            ("[2001:db8::5]:4000", "[2001:db8::7]:5000", false),
        ] {
            let (said, comes) = (said.parse().unwrap(), comes.parse().unwrap());
            let mut latch = latch(said);
            latch.admits(comes, 7, 0, now);
            assert_eq!(latch.target(), Some(if reached { comes } else { said }));
        }
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
        // It is the newcomer that is heard now, until the signalled source comes back.
        assert_eq!(say(&mut latch, elsewhere(6), 9, 2, 9_300), Admission::Peer);
        assert_eq!(say(&mut latch, at(1), 7, 2, 9_320), Admission::Moved);
        assert_eq!(say(&mut latch, elsewhere(6), 9, 3, 9_340), Admission::Stranger);
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
