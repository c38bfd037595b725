//! Settings and state of a trunk: its URI, registration, probes, limits and health. The source networks of a trunk are
//! in another module.
//!
//! [`Trunk`] contains the operator's settings. [`TrunkStatus`] is the public status. `TrunkState` is the endpoint's
//! internal state.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_id::AccountName;

use crate::digest::Credentials;
use crate::probe::Probe;
use crate::registration::Registration;
use crate::tls_fault::TlsFault;
use crate::trunk_acl::TrunkName;

/// Time for which a trunk stays [`Health::Doubtful`] after an INVITE over it got no response or a 503. If the trunk
/// responds to an OPTIONS, this time ends earlier.
const DOUBT: Duration = Duration::from_secs(60);

/// Maximum number of addresses that are stored for one trunk.
const MAX_ADDRESSES: usize = 32;

/// The settings of a trunk, without its source networks.
#[derive(Debug, Clone)]
pub struct Trunk {
    /// The configured name of the trunk.
    pub trunk: TrunkName,
    /// The account that owns the trunk. `None` if all accounts share the trunk.
    pub account: Option<AccountName>,
    /// The URI `sip:HOST[:PORT][;transport=...]`. `None` for a trunk that only receives calls from the carrier.
    pub uri: Option<String>,
    /// Credentials with which the server answers challenges of the trunk.
    pub credentials: Option<Credentials>,
    /// The registration of this server at the trunk (RFC 3261 §10.2). `None` if this server does not register at the
    /// trunk.
    pub register: Option<Register>,
    /// Interval of the OPTIONS probes (RFC 3261 §11). `None` if the trunk is not probed.
    pub options_interval: Option<Duration>,
    /// Maximum number of simultaneous legs. Incoming and outgoing legs count together.
    pub max_calls: Option<u32>,
    /// Maximum number of new legs per second. Incoming and outgoing legs count separately.
    pub max_cps: Option<u32>,
    /// The way in which the server recognises calls of the trunk.
    pub known_by: KnownBy,
    /// Whether the trunk is behind a NAT router and does not register. Responses then go to the source of the request,
    /// even if the request has no `rport` (RFC 3581). Requests in a call go to the address from which the call came, or
    /// to which the call went, and not to the far end's Contact.
    pub nat: bool,
}

/// The way in which the server recognises calls of a trunk. If a trunk has a password, it is the password of a user in
/// the [`crate::Directory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KnownBy {
    /// The server recognises a call by its source: by the trunk's networks, by the trunk's certificate, or by the
    /// Contact that the server registered at the trunk.
    #[default]
    Source,
    /// The server recognises a call by its source, or by a password from any source.
    Either,
    /// The server recognises a call only if both its source and a password belong to the trunk.
    Both,
}

impl Trunk {
    /// Creates the settings of a trunk with this name. All other settings have their defaults.
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
            nat: false,
        }
    }
}

/// The settings of this server's registration at a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The Request-URI and destination of the REGISTER (`sip:HOST...`).
    pub registrar: String,
    /// The address-of-record (`sip:USER@DOMAIN`).
    pub address: String,
    /// The user part of the Contact.
    pub contact_user: String,
    /// The lifetime that the REGISTER requests.
    pub expires: Duration,
}

/// The health of a trunk: whether the endpoint expects that the trunk accepts calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Nothing is known, because no request was sent yet, or because the last failure is too old.
    #[default]
    Unknown,
    /// The trunk answered its last INVITE or OPTIONS.
    Up,
    /// The last INVITE got no response or a 503. Other trunks are tried first.
    Doubtful,
    /// The trunk does not answer OPTIONS. The trunk is used only if there is no other trunk.
    Down,
}

/// The state of this server's registration at a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registered {
    /// No registration is configured.
    #[default]
    Not,
    /// The server is not registered yet, or not registered any more.
    Pending,
    /// The registrar has stored this server's Contact.
    Yes,
    /// The registrar refused with this status.
    Refused(u16),
    /// The registrar did not respond, or could not be reached.
    Unanswered,
}

/// A trouble of a trunk that operators should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkTrouble {
    /// The trunk.
    pub trunk: TrunkName,
    /// The account that owns the trunk. `None` if all accounts share the trunk.
    pub account: Option<AccountName>,
    /// The kind of the trouble.
    pub fault: TrunkFault,
    /// The reason, as a text for the log.
    pub why: String,
}

/// The kinds of trouble of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrunkFault {
    /// The registrar refused the registration.
    RegistrationRefused,
    /// The registrar did not respond, or could not be reached.
    RegistrarSilent,
    /// The trunk does not answer OPTIONS.
    Down,
    /// The TLS handshake for a REGISTER or OPTIONS failed.
    Tls,
}

/// The status of a trunk at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrunkStatus {
    /// The health of the trunk.
    pub health: Health,
    /// The state of the registration at the trunk.
    pub registered: Registered,
    /// The reason why the TLS handshake for the last REGISTER or OPTIONS failed. `None` after a response.
    pub tls_fault: Option<TlsFault>,
    /// Current number of legs over the trunk. Incoming and outgoing legs count together.
    pub calls: u32,
    /// Number of calls since the start that were refused or sent to another trunk because of `max_calls` or `max_cps`.
    pub limited: u64,
    /// Number of incoming and of outgoing calls since the start, with those that the limits refused.
    pub attempts: (u64, u64),
    /// The slice of this server, if the limits are shared with other servers.
    pub slice: Option<TrunkSlice>,
}

/// The part of the limits of a trunk that this server may use, if several servers share the limits. A limit that is not
/// configured stays without effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrunkSlice {
    /// The part of [`Trunk::max_calls`].
    pub calls: u32,
    /// The part of [`Trunk::max_cps`] for incoming calls.
    pub inbound_cps: u32,
    /// The part of [`Trunk::max_cps`] for outgoing calls.
    pub outbound_cps: u32,
}

/// The endpoint's state of a trunk.
#[derive(Debug)]
pub(crate) struct TrunkState {
    pub(crate) settings: Trunk,
    pub(crate) registration: Option<Registration>,
    pub(crate) probe: Option<Probe>,
    /// Addresses that the lookups of the trunk's host names returned, newest last. The list has at most
    /// [`MAX_ADDRESSES`] entries.
    pub(crate) addresses: Vec<IpAddr>,
    doubted_until: Option<Instant>,
    /// Whether the trunk answered its last INVITE or OPTIONS.
    answered: bool,
    /// The reason why the TLS handshake for the last REGISTER or OPTIONS failed.
    pub(crate) tls_fault: Option<TlsFault>,
    calls: u32,
    limited: u64,
    attempts: (u64, u64),
    slice: Option<TrunkSlice>,
    inbound: Pace,
    outbound: Pace,
    /// Whether the trunk is already in the endpoint's list of changed trunks.
    pub(crate) is_listed: bool,
    /// The status that was last reported.
    pub(crate) reported: TrunkStatus,
    pub(crate) wake: Option<Instant>,
    /// Whether the trunk has been removed from the configuration.
    pub(crate) retired: bool,
}

/// The direction of a call over a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallDirection {
    Inbound,
    Outbound,
}

impl TrunkState {
    pub(crate) fn new(settings: Trunk, registration: Option<Registration>, probe: Option<Probe>) -> Self {
        Self {
            settings,
            registration,
            probe,
            addresses: Vec::new(),
            doubted_until: None,
            answered: false,
            tls_fault: None,
            calls: 0,
            limited: 0,
            attempts: (0, 0),
            slice: None,
            inbound: Pace::default(),
            outbound: Pace::default(),
            is_listed: false,
            reported: TrunkStatus::default(),
            wake: None,
            retired: false,
        }
    }

    pub(crate) fn status(&self) -> TrunkStatus {
        let health = match (&self.probe, self.doubted_until) {
            (Some(probe), _) if probe.is_down() => Health::Down,
            (_, Some(_)) => Health::Doubtful,
            _ if self.answered => Health::Up,
            _ => Health::Unknown,
        };
        TrunkStatus {
            health,
            registered: self.registration.as_ref().map_or(Registered::Not, Registration::status),
            tls_fault: self.tls_fault,
            calls: self.calls,
            limited: self.limited,
            attempts: self.attempts,
            slice: self.slice,
        }
    }

    /// Stores these addresses. Returns whether at least one address is new.
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

    /// Counts a new call, unless the call exceeds `max_calls` or `max_cps`. Returns whether the call is admitted.
    pub(crate) fn admit(&mut self, now: Instant, direction: CallDirection) -> bool {
        let (full, max_cps) = (self.is_full(), self.max_cps(direction));
        let (pace, attempts) = match direction {
            CallDirection::Inbound => (&mut self.inbound, &mut self.attempts.0),
            CallDirection::Outbound => (&mut self.outbound, &mut self.attempts.1),
        };
        *attempts += 1;
        if full || max_cps.is_some_and(|limit| !pace.pass(now, limit)) {
            self.limited += 1;
            return false;
        }
        self.calls += 1;
        true
    }

    /// Counts a call that continues after a restart. The limits do not refuse such a call.
    pub(crate) fn count(&mut self) {
        self.calls += 1;
    }

    /// Returns whether the trunk already has `max_calls` calls.
    pub(crate) fn has_all_calls(&self) -> bool {
        self.settings.max_calls.is_some_and(|limit| self.calls >= limit)
    }

    /// Returns whether the trunk already has `max_calls` calls, or all calls of its slice.
    fn is_full(&self) -> bool {
        let slice = self.slice.map_or(u32::MAX, |slice| slice.calls);
        self.settings.max_calls.is_some_and(|limit| self.calls >= limit.min(slice))
    }

    /// Returns the maximum number of new legs per second in one direction.
    fn max_cps(&self, direction: CallDirection) -> Option<u32> {
        let slice = self.slice.map_or(u32::MAX, |slice| match direction {
            CallDirection::Inbound => slice.inbound_cps,
            CallDirection::Outbound => slice.outbound_cps,
        });
        self.settings.max_cps.map(|limit| limit.min(slice))
    }

    /// Sets the slice of this server. Calls above the slice continue. A larger slice for the rate does not let a burst of
    /// calls through at once, because another server may just have had this burst.
    pub(crate) fn set_slice(&mut self, now: Instant, slice: TrunkSlice) {
        let rates = |state: &Self| [CallDirection::Inbound, CallDirection::Outbound].map(|way| state.max_cps(way));
        let before = rates(self);
        self.slice = Some(slice);
        let after = rates(self);
        for (pace, (from, to)) in [&mut self.inbound, &mut self.outbound].into_iter().zip(before.into_iter().zip(after))
        {
            if let (Some(from), Some(to)) = (from, to) {
                pace.resize(now, from, to);
            }
        }
    }

    /// Counts the end of an admitted call.
    pub(crate) fn release(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// Records that an INVITE got no response or a 503. Returns `true` if the trunk becomes doubtful now.
    pub(crate) fn doubt(&mut self, now: Instant) -> bool {
        self.answered = false;
        self.doubted_until.replace(now + DOUBT).is_none()
    }

    /// Records that the trunk responded. Returns whether the trunk was doubtful before.
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

/// A token bucket for one second. At first, `limit` calls may come at once. After that, one call may come every
/// 1/`limit` s. With the limit 0, no call may come.
#[derive(Debug, Default)]
struct Pace {
    /// Time at which the bucket is full again, if no further call comes before.
    full_at: Option<Instant>,
}

impl Pace {
    fn pass(&mut self, now: Instant, limit: u32) -> bool {
        if limit == 0 {
            return false;
        }
        let each = Duration::from_secs(1) / limit;
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        if full_at + each > now + Duration::from_secs(1) {
            return false;
        }
        self.full_at = Some(full_at + each);
        true
    }

    /// Changes the limit. The calls that may come at once become no more, and at most as many as the new limit. So several
    /// buckets whose limits have the sum N never let more calls through than one bucket with the limit N.
    fn resize(&mut self, now: Instant, from: u32, to: u32) {
        const SECOND: Duration = Duration::from_secs(1);
        if from == to {
            return;
        }
        let missing = self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now)).min(SECOND);
        // One call that may come at once is 1 s here.
        let ready = (from * (SECOND - missing)).min(to * SECOND);
        let ready = ready.checked_div(to).unwrap_or_default();
        self.full_at = Some(now + (SECOND - ready));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::instant;

    fn state(change: impl FnOnce(&mut Trunk)) -> TrunkState {
        let mut settings = Trunk::new("carrier".into());
        change(&mut settings);
        TrunkState::new(settings, None, None)
    }

    #[test]
    fn max_calls_counts_both_directions_of_a_trunk() {
        let (mut trunk, now) = (state(|settings| settings.max_calls = Some(2)), instant());
        assert!(trunk.admit(now, CallDirection::Inbound) && trunk.admit(now, CallDirection::Outbound));
        assert!(!trunk.admit(now, CallDirection::Inbound) && !trunk.admit(now, CallDirection::Outbound));
        trunk.release();
        assert!(trunk.admit(now, CallDirection::Inbound));
        assert_eq!((trunk.status().calls, trunk.status().limited), (2, 2));
    }

    #[test]
    fn max_cps_allows_a_burst_of_one_second() {
        let (mut trunk, start) = (state(|settings| settings.max_cps = Some(4)), instant());
        assert_eq!((0..9).filter(|_| trunk.admit(start, CallDirection::Outbound)).count(), 4);
        assert!(trunk.admit(start, CallDirection::Inbound), "each direction for itself");
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!trunk.admit(at(249), CallDirection::Outbound));
        assert!(trunk.admit(at(250), CallDirection::Outbound) && !trunk.admit(at(251), CallDirection::Outbound));
        assert_eq!((0..9).filter(|_| trunk.admit(at(60_000), CallDirection::Outbound)).count(), 4, "no saving up");
    }

    #[test]
    fn a_slice_lowers_the_limits_of_a_trunk_and_a_trunk_without_limits_has_none() {
        let slice = |calls, cps| TrunkSlice { calls, inbound_cps: cps, outbound_cps: cps };
        let (mut trunk, now) = (state(|settings| settings.max_calls = Some(5)), instant());
        trunk.set_slice(now, slice(1, 0));
        assert!(trunk.admit(now, CallDirection::Inbound) && !trunk.admit(now, CallDirection::Inbound));
        trunk.set_slice(now, slice(9, 0));
        assert_eq!((0..9).filter(|_| trunk.admit(now, CallDirection::Outbound)).count(), 4, "the limit stays");
        assert_eq!(trunk.status().attempts, (2, 9));
        let mut free = state(|_| {});
        free.set_slice(now, slice(0, 0));
        assert!(free.admit(now, CallDirection::Inbound));
    }

    #[test]
    fn a_larger_slice_of_a_rate_lets_no_burst_through() {
        let slice = |cps| TrunkSlice { calls: 0, inbound_cps: 0, outbound_cps: cps };
        let (mut trunk, start) = (state(|settings| settings.max_cps = Some(10)), instant());
        let at = |ms| start + Duration::from_millis(ms);
        let passed =
            |trunk: &mut TrunkState, now| (0..20).filter(|_| trunk.admit(now, CallDirection::Outbound)).count();
        trunk.set_slice(start, slice(0));
        assert_eq!(passed(&mut trunk, at(5_000)), 0);
        trunk.set_slice(at(5_000), slice(4));
        assert_eq!(passed(&mut trunk, at(5_000)), 0, "another server may have had them in this second");
        assert_eq!(passed(&mut trunk, at(5_250)), 1);
        assert_eq!(passed(&mut trunk, at(7_000)), 4);
        // A full bucket keeps its calls, and loses those above a smaller limit.
        trunk.set_slice(at(9_000), slice(8));
        assert_eq!(passed(&mut trunk, at(9_000)), 4);
        trunk.set_slice(at(11_000), slice(3));
        assert_eq!(passed(&mut trunk, at(11_000)), 3);
        trunk.set_slice(at(11_000), slice(1));
        assert_eq!((passed(&mut trunk, at(11_999)), passed(&mut trunk, at(12_000))), (0, 1), "a rate of one call");
    }

    #[test]
    fn buckets_that_exchange_their_limits_let_no_more_calls_through_than_one_bucket() {
        let (mut buckets, start) = ([Pace::default(), Pace::default(), Pace::default()], instant());
        let (mut limits, mut draw) = ([0_u32; 3], 1_u64);
        let mut passed = Vec::new();
        for step in 0..20_000_u64 {
            let now = start + Duration::from_millis(step * 7);
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = usize::try_from(draw >> 60).unwrap() % 3;
            if draw >> 40 & 7 == 0 {
                // One gives all to another, or takes what is free.
                let free = 6 - limits.iter().sum::<u32>();
                let to = if limits[pick] > 0 { 0 } else { free };
                buckets[pick].resize(now, limits[pick], to);
                limits[pick] = to;
            } else {
                let calls = (0..8).filter(|_| buckets[pick].pass(now, limits[pick])).count();
                passed.extend(std::iter::repeat_n(now, calls));
            }
        }
        // One bucket lets 6 calls and 6 more each second through.
        assert!(passed.len() > 300, "{}", passed.len());
        for (first, from) in passed.iter().enumerate() {
            for (last, until) in passed.iter().enumerate().skip(first) {
                let most = 6.0 + 6.0 * (*until - *from).as_secs_f64() + 1e-6;
                assert!((last - first + 1) as f64 <= most);
            }
        }
    }

    #[test]
    fn a_doubtful_trunk_is_unknown_after_a_time_and_up_after_a_response() {
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
