//! What a trunk is beyond the addresses that it calls from: where it is called and registered with, how it is watched, how
//! much it may carry, and how it fares.
//!
//! [`Peer`] is what the operator says, [`PeerStatus`] what everybody may see, and `TrunkState` what the endpoint keeps.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::leg::{Credentials, TrunkName};
use crate::probe::Probe;
use crate::registration::Registration;

/// How long a trunk is doubted after an INVITE over it was not answered at all or got 503, and no OPTIONS says otherwise.
const DOUBT: Duration = Duration::from_secs(60);

/// Most addresses of a trunk that are remembered.
const MAX_ADDRESSES: usize = 32;

/// A trunk as we use it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its configured name.
    pub trunk: TrunkName,
    /// Whose it is; everybody's when `None`.
    pub account: Option<Arc<str>>,
    /// `sip:HOST[:PORT][;transport=...]`; `None` for one that only calls in.
    pub uri: Option<String>,
    /// Answers for its challenges.
    pub credentials: Option<Credentials>,
    /// How we register with it (RFC 3261 §10.2), if we do.
    pub register: Option<Register>,
    /// How often it is asked with OPTIONS (RFC 3261 §11) whether it is there, if at all.
    pub options_interval: Option<Duration>,
    /// Most legs at a time, both directions.
    pub max_calls: Option<u32>,
    /// Most new legs a second, each direction for itself.
    pub max_cps: Option<u32>,
    /// How its calls are known.
    pub known_by: KnownBy,
}

/// How a trunk's calls are known. Its passwords are users' of the [`crate::Directory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KnownBy {
    /// Their source: its networks, its certificate, or the Contact that its registrar was told.
    #[default]
    Source,
    /// That, or a password from anywhere.
    Either,
    /// That, and a password.
    Both,
}

impl Peer {
    /// A trunk of which only the name is known.
    #[must_use]
    pub fn new(trunk: TrunkName) -> Self {
        Self {
            trunk,
            account: None,
            uri: None,
            credentials: None,
            register: None,
            options_interval: None,
            max_calls: None,
            max_cps: None,
            known_by: KnownBy::default(),
        }
    }
}

/// A registration to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// `sip:HOST...` that REGISTER is for and goes to.
    pub registrar: String,
    /// The address of record, `sip:USER@DOMAIN`.
    pub address: String,
    /// User of the Contact.
    pub contact_user: String,
    /// Lifetime asked for.
    pub expires: Duration,
}

/// Whether a trunk takes calls, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Nobody has asked it yet, or the last answer is too old to count.
    #[default]
    Unknown,
    /// It does: its last INVITE or OPTIONS was answered.
    Up,
    /// Its last INVITE was not answered, or with 503: others first.
    Doubtful,
    /// Its OPTIONS are not answered: others, and it only if there are none.
    Down,
}

/// How a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registered {
    /// None is wanted.
    #[default]
    Not,
    /// Not yet, or not any more.
    Pending,
    /// The registrar holds our Contact.
    Yes,
    /// The registrar refused with this status, or nobody answered (408).
    Refused(u16),
}

/// A trunk at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerStatus {
    /// Whether it takes calls.
    pub health: Health,
    /// How our registration with it stands.
    pub registered: Registered,
    /// Legs over it now, both directions.
    pub calls: u32,
    /// Calls refused or sent elsewhere since the start because of `max_calls` or `max_cps`.
    pub limited: u64,
}

/// The endpoint's own notes on a trunk.
#[derive(Debug)]
pub(crate) struct TrunkState {
    pub(crate) peer: Peer,
    pub(crate) registration: Option<Registration>,
    pub(crate) probe: Option<Probe>,
    /// Addresses that its names had, the newest last; at most [`MAX_ADDRESSES`].
    pub(crate) addresses: Vec<IpAddr>,
    doubted_until: Option<Instant>,
    /// It answered the last INVITE or OPTIONS.
    answered: bool,
    calls: u32,
    limited: u64,
    inbound: Pace,
    outbound: Pace,
    /// Whether it waits in the list of those that changed.
    pub(crate) is_listed: bool,
    /// What was last reported.
    pub(crate) reported: PeerStatus,
    pub(crate) wake: Option<Instant>,
    /// Not in the configuration any more.
    pub(crate) retired: bool,
}

/// Which way a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

impl TrunkState {
    pub(crate) fn new(peer: Peer, registration: Option<Registration>, probe: Option<Probe>) -> Self {
        Self {
            peer,
            registration,
            probe,
            addresses: Vec::new(),
            doubted_until: None,
            answered: false,
            calls: 0,
            limited: 0,
            inbound: Pace::default(),
            outbound: Pace::default(),
            is_listed: false,
            reported: PeerStatus::default(),
            wake: None,
            retired: false,
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let health = match (&self.probe, self.doubted_until) {
            (Some(probe), _) if probe.is_down() => Health::Down,
            (_, Some(_)) => Health::Doubtful,
            _ if self.answered => Health::Up,
            _ => Health::Unknown,
        };
        PeerStatus {
            health,
            registered: self.registration.as_ref().map_or(Registered::Not, Registration::status),
            calls: self.calls,
            limited: self.limited,
        }
    }

    /// Whether one of them was not known.
    pub(crate) fn learn_addresses(&mut self, found: impl Iterator<Item = IpAddr>) -> bool {
        let mut new = false;
        for address in found.take(MAX_ADDRESSES) {
            let before = self.addresses.len();
            self.addresses.retain(|known| *known != address);
            new |= self.addresses.len() == before;
            self.addresses.push(address);
        }
        let surplus = self.addresses.len().saturating_sub(MAX_ADDRESSES);
        self.addresses.drain(..surplus);
        new
    }

    /// Takes a call on, unless that would be one too many.
    pub(crate) fn admit(&mut self, now: Instant, way: Way) -> bool {
        let full = self.is_full();
        let pace = match way {
            Way::In => &mut self.inbound,
            Way::Out => &mut self.outbound,
        };
        if full || self.peer.max_cps.is_some_and(|most| !pace.pass(now, most)) {
            self.limited += 1;
            return false;
        }
        self.calls += 1;
        true
    }

    /// Whether it carries as many calls as it may.
    pub(crate) fn is_full(&self) -> bool {
        self.peer.max_calls.is_some_and(|most| self.calls >= most)
    }

    /// A call that was taken on is over.
    pub(crate) fn release(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// An INVITE met with silence or 503. Whether that is news.
    pub(crate) fn doubt(&mut self, now: Instant) -> bool {
        self.answered = false;
        self.doubted_until.replace(now + DOUBT).is_none()
    }

    /// It answered. Whether that had been doubted.
    pub(crate) fn trust(&mut self) -> bool {
        self.answered = true;
        self.doubted_until.take().is_some()
    }

    pub(crate) fn forget_doubt(&mut self, now: Instant) {
        self.doubted_until = self.doubted_until.filter(|until| *until > now);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let registration = self.registration.as_ref().and_then(Registration::next_timeout);
        let probe = self.probe.as_ref().and_then(Probe::next_timeout);
        [registration, probe, self.doubted_until].into_iter().flatten().min()
    }
}

/// A token bucket of one second: `most` may come at once, and then one each 1/`most` s.
#[derive(Debug, Default)]
struct Pace {
    /// When the bucket would be full, had nothing more come.
    full_at: Option<Instant>,
}

impl Pace {
    fn pass(&mut self, now: Instant, most: u32) -> bool {
        let each = Duration::from_secs(1) / most.max(1);
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        if full_at + each > now + Duration::from_secs(1) {
            return false;
        }
        self.full_at = Some(full_at + each);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::instant;

    fn state(change: impl FnOnce(&mut Peer)) -> TrunkState {
        let mut peer = Peer::new("carrier".into());
        change(&mut peer);
        TrunkState::new(peer, None, None)
    }

    #[test]
    fn a_trunk_takes_no_more_calls_than_it_may_in_both_directions_together() {
        let (mut trunk, now) = (state(|peer| peer.max_calls = Some(2)), instant());
        assert!(trunk.admit(now, Way::In) && trunk.admit(now, Way::Out));
        assert!(!trunk.admit(now, Way::In) && !trunk.admit(now, Way::Out));
        trunk.release();
        assert!(trunk.admit(now, Way::In));
        assert_eq!((trunk.status().calls, trunk.status().limited), (2, 2));
    }

    #[test]
    fn a_seconds_calls_may_come_at_once_and_then_each_at_its_time() {
        let (mut trunk, start) = (state(|peer| peer.max_cps = Some(4)), instant());
        assert_eq!((0..9).filter(|_| trunk.admit(start, Way::Out)).count(), 4);
        assert!(trunk.admit(start, Way::In), "each direction for itself");
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!trunk.admit(at(249), Way::Out));
        assert!(trunk.admit(at(250), Way::Out) && !trunk.admit(at(251), Way::Out));
        assert_eq!((0..9).filter(|_| trunk.admit(at(60_000), Way::Out)).count(), 4, "no saving up");
    }

    #[test]
    fn doubt_passes_with_time_or_an_answer() {
        let (mut trunk, now) = (state(|_| {}), instant());
        assert_eq!(trunk.status().health, Health::Unknown);
        assert!(trunk.doubt(now));
        assert_eq!(trunk.status().health, Health::Doubtful);
        trunk.forget_doubt(now + DOUBT);
        assert_eq!(trunk.status().health, Health::Unknown, "nobody has heard of it since");
        assert!(trunk.doubt(now) && !trunk.doubt(now), "told once");
        assert!(trunk.trust() && !trunk.trust());
        assert_eq!(trunk.status().health, Health::Up);
    }
}
