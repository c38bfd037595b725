//! Symmetric RTP: where packets may come from and where ours go. Pure.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// For so long after the first packet the signalled address may still replace another one.
const LEARNING: Duration = Duration::from_millis(500);

/// The peer's address: signalled, then learnt from its first valid packet (NAT), then pinned. Packets from elsewhere
/// are refused, so that nobody can talk into a call. An offer or answer that changes something opens it again.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    signalled: Option<SocketAddr>,
    learnt: Option<(SocketAddr, Instant)>,
    /// After a new offer: where packets still go until one comes.
    before: Option<SocketAddr>,
}

impl Latch {
    /// Opens for a new source. `signalled` is what the SDP says.
    pub(crate) fn reopen(&mut self, signalled: Option<SocketAddr>) {
        if let Some((learnt, _)) = self.learnt.take() {
            // What was learnt by NAT stays better than an address the peer repeats.
            self.before = (self.signalled == signalled).then_some(learnt);
        }
        if self.signalled != signalled {
            self.before = None;
        }
        self.signalled = signalled;
    }

    /// Whether a valid packet from `source` is the peer's.
    pub(crate) fn admits(&mut self, source: SocketAddr, now: Instant) -> bool {
        match self.learnt {
            None => {
                self.learnt = Some((source, now));
                true
            }
            Some((learnt, _)) if learnt == source => true,
            Some((_, since)) if self.signalled == Some(source) && now.saturating_duration_since(since) < LEARNING => {
                self.learnt = Some((source, now));
                true
            }
            Some(_) => false,
        }
    }

    /// Where our packets go.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        self.learnt.map(|(learnt, _)| learnt).or(self.before).or(self.signalled)
    }

    /// Whether no other source can take the learnt one's place any more.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.learnt.is_some_and(|(learnt, since)| {
            self.signalled == Some(learnt) || now.saturating_duration_since(since) >= LEARNING
        })
    }

    /// Whether the target came from a packet rather than from SDP.
    pub(crate) fn learnt(&self) -> Option<SocketAddr> {
        self.learnt.map(|(learnt, _)| learnt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant")]
    fn the_first_source_is_pinned_unless_the_signalled_one_follows_soon() {
        let now = Instant::now();
        let mut latch = Latch::default();
        latch.reopen(Some(at(1)));
        assert_eq!(latch.target(), Some(at(1)));
        assert!(latch.admits(at(2), now));
        assert_eq!(latch.target(), Some(at(2)));
        assert!(!latch.admits(at(3), now));
        assert!(latch.admits(at(1), now + Duration::from_millis(100)));
        assert!(!latch.admits(at(2), now + Duration::from_millis(120)));
        assert!(!latch.admits(at(3), now + Duration::from_secs(60)));
        latch.reopen(Some(at(1)));
        assert_eq!(latch.target(), Some(at(1)));
        assert!(latch.admits(at(3), now + Duration::from_secs(61)));
        assert!(!latch.admits(at(1), now + Duration::from_secs(62)));
    }
}
