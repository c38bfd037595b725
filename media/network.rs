//! The network and the clock, as a session sees them. This module knows no session, so that a session and its transport
//! can both use it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::offload::{FlowCounts, OffloadRule};

/// The current time and the resources of the worker. The worker lends this struct to a session for one function call.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) clock: &'a MediaClock,
    pub(crate) network: &'a mut dyn Network,
    pub(crate) counts: &'a mut Counts,
}

/// The socket of a packet. Each session has an RTP socket and an RTCP socket. All sessions with ICE can share a UDP port
/// and a TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Rtp,
    Rtcp,
    IceUdp,
    IceTcp,
}

/// The source from which a session receives RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) source: SocketAddr,
    /// Whether only `source` may send. If so, the socket can refuse packets from other sources.
    pub(crate) only: bool,
}

/// The sockets of the sessions. A slot identifies a session.
pub(crate) trait Network {
    fn send(&mut self, slot: usize, flow: Flow, to: SocketAddr, packet: &[u8]);
    /// Sets the source of the session's RTP. With `None`, any source may send.
    fn pin(&mut self, slot: usize, pin: Option<Pin>);
    /// Takes note that the session with the ICE user name `ufrag` has sent to `address` through a shared port. Packets from
    /// there reach the session, unless they reach another one.
    fn note_target(&mut self, _ufrag: &str, _flow: Flow, _address: SocketAddr) {}
    /// Takes note that the session with the ICE user name `ufrag` has received an authentic check from `address` through a
    /// shared port. Packets from there reach this session from now on.
    fn admit(&mut self, _ufrag: &str, _flow: Flow, _address: SocketAddr) {}
    /// Releases the session's sockets.
    fn release(&mut self, slot: usize);
    /// Tells the kernel to relay or drop the packets that match the rule. All other packets still reach the socket.
    /// Returns false if the kernel cannot use the rule.
    fn offload(&mut self, _: &OffloadRule) -> bool {
        false
    }
    /// Returns the kernel's counts of the packets that arrive for `slot`, or `None` if these packets are not offloaded.
    fn counted(&mut self, _slot: usize) -> Option<FlowCounts> {
        None
    }
    /// Ends the offload of the packets that arrive for `slot`. Returns the final counts.
    fn revoke(&mut self, _slot: usize) -> Option<FlowCounts> {
        None
    }
    /// The time since an arbitrary start. The engine uses this time to measure how long work takes.
    fn stopwatch(&self) -> Duration {
        Duration::ZERO
    }
}

/// Totals since the worker's start. The worker publishes these totals at each tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) relayed: u64,
    pub(crate) dropped: u64,
    pub(crate) malformed: u64,
}

/// Converts instants to RTP and NTP time.
#[derive(Debug, Clone)]
pub(crate) struct MediaClock {
    origin: Instant,
    /// The NTP time of `origin`. The upper 32 bits are seconds, and the lower 32 bits are a fraction of a second.
    ntp: u64,
}

impl MediaClock {
    pub(crate) fn new(origin: Instant, ntp: u64) -> MediaClock {
        MediaClock { origin, ntp }
    }

    /// Returns the units of a clock of `rate` Hz since the origin, modulo 2^32.
    pub(crate) fn units(&self, now: Instant, rate: u32) -> u32 {
        units_of(now.saturating_duration_since(self.origin), rate)
    }

    /// Returns the time from `ntp`, an NTP time, to `now`. The result is zero if `ntp` is later.
    pub(crate) fn since(&self, ntp: u64, now: Instant) -> Duration {
        let since = self.ntp(now).saturating_sub(ntp);
        // Rounded to the nearest nanosecond, so that a time that is converted twice does not change.
        let nanoseconds = ((since & u64::from(u32::MAX)) * 1_000_000_000 + (1 << 31)) >> 32;
        Duration::from_secs(since >> 32) + Duration::from_nanos(nanoseconds)
    }

    /// The NTP time of `now`. The upper 32 bits are seconds, and the lower 32 bits are a fraction of a second.
    pub(crate) fn ntp(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        self.ntp.wrapping_add((since.as_secs() << 32).wrapping_add(fraction))
    }
}

/// Returns an NTP time (RFC 5905 §6: since 1900) in ms since 1970 UTC.
pub(crate) fn unix_ms(ntp: u64) -> u64 {
    let seconds = (ntp >> 32).saturating_sub(2_208_988_800);
    seconds * 1_000 + (((ntp & u64::from(u32::MAX)) * 1_000) >> 32)
}

/// Returns the length of `time` in units of a clock of `rate` Hz, modulo 2^32.
#[inline]
pub(crate) fn units_of(time: Duration, rate: u32) -> u32 {
    let fraction = u64::from(time.subsec_nanos()) * u64::from(rate) / 1_000_000_000;
    (time.as_secs() as u32).wrapping_mul(rate).wrapping_add(fraction as u32)
}
