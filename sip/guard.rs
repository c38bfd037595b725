//! Decides before a message is read whether its source may send it: a rate limit for each source, and bans for sources
//! that misbehave.
//!
//! A source is an IPv4 address or an IPv6 /64 network. The table of sources has a fixed size, so a million sources cost
//! no more than a few. A new source takes the slot of the source that has been silent longest; banned sources are
//! replaced last. Sources in a trunk's networks, the hosts of the trunks' URIs, and [`Bans::never`] are never limited
//! or banned. Addresses that the server has called or registers with are not limited, and are banned only for guessing
//! passwords. A response that a transaction waits for is always read, whether its source is banned or not: the driver
//! asks [`crate::Endpoint::awaits`].
//!
//! A ban follows from what a source does, never from the name that it claims: from a number of offences of one kind
//! ([`Offence`]) within a minute. A ban records its reason, its count of offences, its start and end, and how many
//! messages it has dropped. Each further ban of a source lasts twice as long, up to a day. UDP source addresses can be
//! forged, so sources whose messages must never be dropped belong in a trunk's networks or in [`Bans::never`].

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Deserialize;

use crate::throttle::Throttle;
use crate::trunk::{self, TrunkAcl};

/// Slots in one set of the table. A source may use any slot of its set.
const WAYS: usize = 8;
/// Sets in the table.
const SETS: usize = 4_096;
/// The period within which offences are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Longest ban.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// How long a source counts as known after it authenticated or the server called it.
const KNOWN: Duration = Duration::from_secs(3_600);
/// Shortest time between two log lines about one source.
const COMPLAINTS: Duration = Duration::from_secs(10);
/// Size of a source's token bucket, in seconds of its rate.
const BURST: f64 = 2.0;

/// Limits for sources outside every trunk, `[sip.bans]`. A value of 0 means no limit.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bans {
    /// Most messages in a second from one source. Further ones are dropped unread.
    pub source_rate: u32,
    /// Most messages in a second from all unknown sources together. Further ones are dropped unread.
    pub strangers_rate: u32,
    /// Messages that are not SIP, within a minute, that cause a ban. The fields below count other offences in the same
    /// way.
    pub malformed: u16,
    /// Requests refused because their source is unknown.
    pub refused: u16,
    /// Calls to numbers that do not exist.
    pub numbers: u16,
    /// Requests with wrong credentials.
    pub credentials: u16,
    /// Challenges that were not answered.
    pub challenges: u16,
    /// Messages dropped because of `source_rate`.
    pub floods: u16,
    /// Seconds of a first ban. Each further ban of the same source lasts twice as long, at most a day.
    pub seconds: u32,
    /// Networks that are never limited or banned.
    pub never: Vec<IpNet>,
}

impl Default for Bans {
    fn default() -> Self {
        Self {
            source_rate: 200,
            strangers_rate: 5_000,
            malformed: 30,
            refused: 30,
            numbers: 20,
            credentials: 10,
            challenges: 60,
            floods: 1_000,
            seconds: 600,
            never: Vec::new(),
        }
    }
}

/// An offence of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A message that could not be parsed.
    Malformed,
    /// A request refused because its source is unknown.
    Refused,
    /// A call to a number that does not exist.
    Number,
    /// A request with wrong credentials.
    Credentials,
    /// A challenge that the server sent. A correct answer takes the offence back.
    Challenge,
    /// A message beyond the source's rate.
    Flood,
}

impl Offence {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::Malformed, Self::Refused, Self::Number, Self::Credentials, Self::Challenge, Self::Flood];

    /// The name of its limit in [`Bans`]: `malformed`, `refused`, `numbers`, `credentials`, `challenges` or `floods`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Number => "numbers",
            Self::Credentials => "credentials",
            Self::Challenge => "challenges",
            Self::Flood => "floods",
        }
    }

    /// A description in the plural, for the log.
    #[must_use]
    pub fn said(self) -> &'static str {
        match self {
            Self::Malformed => "messages that are not SIP",
            Self::Refused => "requests from outside every trunk",
            Self::Number => "calls to numbers that do not exist",
            Self::Credentials => "wrong passwords",
            Self::Challenge => "unanswered challenges",
            Self::Flood => "messages above sip.bans.source_rate",
        }
    }
}

impl Bans {
    fn limit(&self, offence: Offence) -> u16 {
        match offence {
            Offence::Malformed => self.malformed,
            Offence::Refused => self.refused,
            Offence::Number => self.numbers,
            Offence::Credentials => self.credentials,
            Offence::Challenge => self.challenges,
            Offence::Flood => self.floods,
        }
    }
}

/// The guard's decision about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Read the message.
    Take,
    /// Drop the message: its source, or all unknown sources together, exceed their rate.
    Limited,
    /// Drop the message: its source is banned.
    Banned,
}

/// A ban in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// The source: an IPv4 address or an IPv6 /64 network.
    pub source: IpNet,
    /// The offence that caused the ban.
    pub why: Offence,
    /// Count of offences within a minute.
    pub count: u16,
    /// Start of the ban.
    pub since: Instant,
    /// End of the ban.
    pub until: Instant,
    /// Messages and connections of the source that were dropped since the start.
    pub dropped: u64,
    /// Number of this ban among the bans of this source, from 1.
    pub times: u8,
}

/// Counts of the guard since the start of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guarded {
    /// Bans in force now.
    pub bans: usize,
    /// Bans since the start.
    pub banned: u64,
    /// Messages dropped because their source was banned.
    pub dropped: u64,
    /// Messages dropped because their source exceeded its rate.
    pub limited: u64,
    /// Messages dropped because all unknown sources together exceeded their rate.
    pub crowded: u64,
}

/// The table of sources. The driver uses it for every message; other threads read it and lift bans.
#[derive(Debug)]
pub struct Guard {
    secret: u64,
    table: Mutex<Table>,
}

/// The operator's settings that decide about a source.
#[derive(Debug)]
struct Rules {
    config: Bans,
    trunks: Vec<TrunkAcl>,
    /// The addresses that trunks are called at and registered with.
    hosts: HashSet<Source>,
}

#[derive(Debug)]
struct Table {
    rules: Arc<Rules>,
    start: Instant,
    entries: Vec<Entry>,
    strangers: Bucket,
    counts: Guarded,
    lines: Throttle,
    complaints: Throttle,
}

/// The state of one source. Times are in milliseconds since the table's start.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    source: Option<Source>,
    exempt: bool,
    heard: u64,
    known_until: u64,
    called_until: u64,
    bucket: Bucket,
    window: u64,
    offences: [u16; Offence::ALL.len()],
    ban: Option<Sentence>,
    times: u8,
    /// When a line was last written about the source, and how many lines were suppressed since.
    complained: u64,
    kept_back: u32,
}

#[derive(Debug, Clone, Copy)]
struct Sentence {
    why: Offence,
    count: u16,
    since: u64,
    until: u64,
    dropped: u64,
}

/// The address of a source; for IPv6 its first 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

/// A token bucket. It stores the tokens that are in use, and when that was last computed.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    spent: f64,
    at: u64,
}

impl Guard {
    /// Creates an empty table. The secret keeps sources from choosing their slots in it.
    #[must_use]
    pub fn new(config: Bans, trunks: Vec<TrunkAcl>, secret: u64, now: Instant) -> Self {
        let table = Table {
            rules: Arc::new(Rules { config, trunks, hosts: HashSet::new() }),
            start: now,
            entries: vec![Entry::default(); SETS * WAYS],
            strangers: Bucket::default(),
            counts: Guarded::default(),
            lines: Throttle::default(),
            complaints: Throttle::default(),
        };
        Self { secret, table: Mutex::new(table) }
    }

    /// Sets other rules from now on. A source that they exempt is not banned any more; other bans stay.
    pub fn reconfigure(&self, config: Bans, trunks: Vec<TrunkAcl>) {
        let mut table = self.lock();
        let hosts = table.rules.hosts.clone();
        table.set_rules(Rules { config, trunks, hosts });
    }

    /// Replaces the addresses that trunks are called at and registered with. Bans of these addresses end.
    pub fn set_hosts(&self, hosts: impl IntoIterator<Item = IpAddr>) {
        let mut table = self.lock();
        let hosts: HashSet<Source> = hosts.into_iter().map(Source::of).collect();
        if table.rules.hosts != hosts {
            let Rules { config, trunks, .. } = &*table.rules;
            let rules = Rules { config: config.clone(), trunks: trunks.clone(), hosts };
            table.set_rules(rules);
        }
    }

    /// Decides about a message or a connection from this source.
    pub fn admit(&self, now: Instant, source: IpAddr) -> Verdict {
        let mut table = self.lock();
        let table = &mut *table;
        let now_ms = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        let Some(entry) = self.entry(&rules, &mut table.entries, now_ms, source) else { return Verdict::Take };
        if entry.exempt {
            return Verdict::Take;
        }
        match &mut entry.ban {
            Some(ban) if ban.until > now_ms => {
                ban.dropped += 1;
                table.counts.dropped += 1;
                return Verdict::Banned;
            }
            _ => entry.ban = None,
        }
        if entry.called_until > now_ms {
            return Verdict::Take;
        }
        if !entry.bucket.take(now_ms, rules.config.source_rate) {
            table.counts.limited += 1;
            self.offence(table, now, source, Offence::Flood);
            return Verdict::Limited;
        }
        if entry.known_until <= now_ms && !table.strangers.take(now_ms, rules.config.strangers_rate) {
            table.counts.crowded += 1;
            return Verdict::Limited;
        }
        Verdict::Take
    }

    /// Records an offence. Returns whether it causes a ban.
    pub fn offend(&self, now: Instant, source: IpAddr, offence: Offence) -> bool {
        self.offence(&mut self.lock(), now, source, offence)
    }

    /// Records that the server sends a request to this address. For an hour the address is not rate-limited, and is
    /// banned only for guessing passwords. A ban for any other reason ends.
    pub fn call(&self, now: Instant, peer: IpAddr) {
        let mut table = self.lock();
        let now = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        if let Some(entry) = self.entry(&rules, &mut table.entries, now, peer) {
            entry.called_until = now + millis(KNOWN);
            entry.ban = entry.ban.filter(|ban| is_guessing(ban.why));
        }
    }

    /// Whether to write a log line about a source now. Returns the count of lines that were suppressed since the last
    /// one, or `None` when this line is suppressed too. There is one line in 10 s for each source, and three lines in a
    /// second for all sources.
    pub fn complain(&self, now: Instant, source: IpAddr) -> Option<u64> {
        let mut table = self.lock();
        let table = &mut *table;
        let now_ms = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        let entry = self.entry(&rules, &mut table.entries, now_ms, source)?;
        let due = entry.complained == 0 || now_ms.saturating_sub(entry.complained) >= millis(COMPLAINTS);
        let Some(others) = due.then(|| table.complaints.pass(now)).flatten() else {
            entry.kept_back = entry.kept_back.saturating_add(1);
            return None;
        };
        entry.complained = now_ms;
        Some(others.max(u64::from(std::mem::take(&mut entry.kept_back))))
    }

    /// Records that the source has authenticated. For an hour it is not one of the unknown sources, and its offences
    /// with credentials and challenges are forgotten.
    pub fn acquaint(&self, now: Instant, source: IpAddr) {
        let mut table = self.lock();
        let now_ms = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        if let Some(entry) = self.entry(&rules, &mut table.entries, now_ms, source) {
            entry.known_until = now_ms + millis(KNOWN);
            for forgiven in [Offence::Credentials, Offence::Challenge] {
                if let Some(count) = entry.offences.get_mut(forgiven as usize) {
                    *count = 0;
                }
            }
        }
    }

    /// Returns the bans in force, the latest first.
    #[must_use]
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        let table = self.lock();
        let now = table.since_start(now);
        let at = |ms| table.start + Duration::from_millis(ms);
        let mut bans: Vec<Ban> = (table.entries.iter())
            .filter_map(|entry| {
                let (source, ban) = (entry.source?, entry.ban.filter(|ban| ban.until > now)?);
                let Sentence { why, count, since, until, dropped } = ban;
                let (since, until) = (at(since), at(until));
                Some(Ban { source: source.network(), why, count, since, until, dropped, times: entry.times })
            })
            .collect();
        bans.sort_by_key(|ban| std::cmp::Reverse(ban.since));
        bans
    }

    /// Lifts the ban of this source and forgets its offences. Returns `false` if it was not banned.
    pub fn unban(&self, now: Instant, source: IpAddr) -> bool {
        let mut table = self.lock();
        let now = table.since_start(now);
        let wanted = Source::of(source);
        let entry = table.entries.iter_mut().find(|entry| entry.source == Some(wanted));
        let Some(entry) = entry else { return false };
        let banned = entry.ban.is_some_and(|ban| ban.until > now);
        *entry = Entry { source: entry.source, heard: entry.heard, ..Entry::default() };
        banned
    }

    /// Returns the counts since the start of the server.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Guarded {
        let table = self.lock();
        let now = table.since_start(now);
        let bans = table.entries.iter().filter(|entry| entry.ban.is_some_and(|ban| ban.until > now)).count();
        Guarded { bans, ..table.counts }
    }

    fn offence(&self, table: &mut Table, now: Instant, source: IpAddr, offence: Offence) -> bool {
        let now_ms = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        let Some(entry) = self.entry(&rules, &mut table.entries, now_ms, source) else { return false };
        if entry.exempt || entry.ban.is_some_and(|ban| ban.until > now_ms) {
            return false;
        }
        if entry.called_until > now_ms && !is_guessing(offence) {
            return false;
        }
        if now_ms.saturating_sub(entry.window) >= millis(WINDOW) {
            (entry.window, entry.offences) = (now_ms, Default::default());
        }
        let limit = rules.config.limit(offence);
        let Some(count) = entry.offences.get_mut(offence as usize) else { return false };
        *count = count.saturating_add(1);
        let count = *count;
        if limit == 0 || count < limit {
            return false;
        }
        let length =
            Duration::from_secs(rules.config.seconds.into()).saturating_mul(1 << entry.times.min(16)).min(LONGEST);
        entry.times = entry.times.saturating_add(1);
        entry.offences = Default::default();
        let until = now_ms + millis(length);
        entry.ban = Some(Sentence { why: offence, count, since: now_ms, until, dropped: 0 });
        table.counts.banned += 1;
        if let Some(held_back) = table.lines.pass(now) {
            let (source, said) = (Source::of(source).network(), offence.said());
            let source = if source.addr().is_ipv4() { source.addr().to_string() } else { source.to_string() };
            let held_back = (held_back > 0).then_some(held_back);
            tracing::warn!(held_back, "{source} is banned for {} s: {count} {said} within a minute", length.as_secs());
        }
        true
    }

    /// Returns the source's entry and creates it if there is none. Returns `None` only if the table has no slots.
    fn entry<'a>(&self, rules: &Rules, entries: &'a mut [Entry], now: u64, address: IpAddr) -> Option<&'a mut Entry> {
        let source = Source::of(address);
        let mut hasher = DefaultHasher::new();
        (self.secret, source).hash(&mut hasher);
        let set = usize::try_from(hasher.finish() % SETS as u64).unwrap_or_default();
        let places = entries.get_mut(set * WAYS..(set + 1) * WAYS)?;
        let at = match places.iter().position(|entry| entry.source == Some(source)) {
            Some(at) => at,
            None => {
                let worth = |entry: &Entry| {
                    (
                        entry.source.is_some(),
                        entry.ban.is_some_and(|ban| ban.until > now),
                        entry.known_until.max(entry.called_until) > now,
                        entry.heard,
                    )
                };
                let (at, place) = places.iter_mut().enumerate().min_by_key(|(_, entry)| worth(entry))?;
                *place = Entry { source: Some(source), exempt: rules.exempts(address), ..Entry::default() };
                at
            }
        };
        let entry = places.get_mut(at)?;
        entry.heard = now;
        Some(entry)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn exempts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        trunk::matching(&self.trunks, address).is_some()
            || self.config.never.iter().any(|net| net.contains(&address))
            || self.hosts.contains(&Source::of(address))
    }
}

impl Table {
    fn set_rules(&mut self, rules: Rules) {
        for entry in &mut self.entries {
            entry.exempt = entry.source.is_some_and(|source| rules.exempts(source.network().addr()));
            entry.ban = entry.ban.filter(|_| !entry.exempt);
        }
        self.rules = Arc::new(rules);
    }

    fn since_start(&self, now: Instant) -> u64 {
        // 0 means never.
        1 + millis(now.saturating_duration_since(self.start))
    }
}

impl Bucket {
    /// Takes a token and returns whether there was one. A rate of 0 means no limit.
    fn take(&mut self, now: u64, rate: u32) -> bool {
        if rate == 0 {
            return true;
        }
        let rate = f64::from(rate);
        let passed = now.saturating_sub(self.at) as f64 / 1_000.0;
        self.at = now;
        self.spent = (self.spent - passed * rate).max(0.0);
        if self.spent + 1.0 > (rate * BURST).max(1.0) {
            return false;
        }
        self.spent += 1.0;
        true
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }

    fn network(self) -> IpNet {
        match self {
            Self::V4(bits) => IpNet::from(IpAddr::V4(Ipv4Addr::from_bits(bits))),
            Self::V6(bits) => {
                let address = IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits) << 64));
                IpNet::new(address, 64).unwrap_or_else(|_| IpNet::from(address))
            }
        }
    }
}

/// Whether the offence also bans addresses that the server has called.
fn is_guessing(offence: Offence) -> bool {
    matches!(offence, Offence::Credentials | Offence::Challenge)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
