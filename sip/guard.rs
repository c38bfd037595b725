//! Decides whether a source may send a message, before the message is read. There is a rate limit for each source, and
//! there are bans for sources that misbehave.
//!
//! A source is an IPv4 address or an IPv6 /64 network. The table of sources has a fixed size, so a million sources cost
//! no more memory than a few. A new source takes the slot of the source that has been silent for the longest time.
//! Banned sources are replaced last. Some sources are never limited or banned: sources in a trunk's networks, the hosts
//! in the trunks' URIs, the other nodes of the cluster, and [`Bans::never`]. An address that the server has called, or at which the server registers,
//! is not limited. It is banned only for guessing passwords. This host's own addresses are also banned only for guessing
//! passwords: an account can make the server send to itself, for example RTP to a SIP socket. If a transaction waits for
//! a response, the response is always read, even from a banned source. The driver finds such responses with
//! [`crate::Endpoint::awaits`].
//!
//! A correct password forgives the source only the wrong passwords of the same user: otherwise an attacker who owns one
//! user could guess the passwords of others for ever. Wrong passwords are also counted for each user name, whatever
//! source they come from ([`Guard::is_under_attack`]).
//!
//! A ban depends only on the actions of a source, never on the name that the source claims. A source is banned after a
//! number of offences of one kind ([`Offence`]) within a minute. A ban records its reason, the number of offences, its
//! start and end, and the number of dropped messages. Each further ban of a source lasts twice as long, up to a day.
//! UDP source addresses can be forged. So sources whose messages must never be dropped belong in a trunk's networks or
//! in [`Bans::never`].

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Deserialize;

use crate::throttle::Throttle;
use crate::trunk_acl::{self, TrunkAcl};

/// Number of slots in one set of the table. A source may use any slot of its set.
const SLOTS_PER_SET: usize = 8;
/// Number of sets in the table.
const SETS: usize = 4_096;
/// The length of the period in which offences are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Maximum length of a ban.
const MAX_BAN: Duration = Duration::from_secs(24 * 3_600);
/// Time for which a source counts as known. The time begins when the source authenticates, or when the server calls it.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);
/// Minimum time between two log lines about one source.
const LOG_LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Number of counters of wrong passwords by user name. Two names may share a counter.
const USER_COUNTERS: usize = 4_096;
/// Size of the token bucket of a source. The bucket has the tokens for this number of seconds.
const BURST: f64 = 2.0;

/// Limits for sources outside every trunk (`[sip.bans]`). A value of 0 means no limit.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bans {
    /// Maximum number of messages per second from one source. Further messages are dropped unread.
    pub source_rate: u32,
    /// Maximum number of messages per second from all unknown sources together. Further messages are dropped unread.
    pub strangers_rate: u32,
    /// Number of malformed messages within a minute that leads to a ban. The fields from `refused` to `floods` are the
    /// limits for other offences within a minute.
    pub malformed: u16,
    /// Limit for requests that were refused because their source is unknown, or because the password of a user under
    /// attack is not checked.
    pub refused: u16,
    /// Limit for calls to numbers that do not exist.
    pub numbers: u16,
    /// Limit for requests with wrong credentials.
    pub credentials: u16,
    /// Maximum number of wrong passwords for one user name within a minute, from all sources together. Above it, the
    /// server checks this user's password only for the addresses from which the user is registered.
    pub user_credentials: u16,
    /// Limit for challenges that the source did not answer.
    pub challenges: u16,
    /// Limit for messages that were dropped because of `source_rate`.
    pub floods: u16,
    /// Length of a first ban in seconds. Each further ban of the same source lasts twice as long as the ban before, but
    /// at most a day.
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
            user_credentials: 60,
            challenges: 60,
            floods: 1_000,
            seconds: 600,
            never: Vec::new(),
        }
    }
}

/// Kinds of offences of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A message that could not be parsed.
    Malformed,
    /// A request that was refused because its source is unknown, or because the password of a user under attack is not
    /// checked.
    Refused,
    /// A call to a number that does not exist.
    Number,
    /// A request with wrong credentials.
    Credentials,
    /// A challenge that the server sent. A correct answer cancels the offence.
    Challenge,
    /// A message above the rate of the source.
    Flood,
}

impl Offence {
    /// All kinds of offences, in the order in which they are declared.
    pub const ALL: [Self; 6] =
        [Self::Malformed, Self::Refused, Self::Number, Self::Credentials, Self::Challenge, Self::Flood];

    /// Returns the name of the offence's limit in [`Bans`]: `malformed`, `refused`, `numbers`, `credentials`,
    /// `challenges` or `floods`.
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

    /// Returns a description of the offence for the log. The description is in the plural.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Malformed => "messages that are not SIP",
            Self::Refused => "refused requests",
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
pub enum GuardDecision {
    /// Read the message.
    Accept,
    /// Drop the message, because its source exceeds its rate, or all unknown sources together exceed their rate.
    RateLimited,
    /// Drop the message, because its source is banned.
    Banned,
}

/// A ban that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// The banned source: an IPv4 address or an IPv6 /64 network.
    pub source: IpNet,
    /// The kind of offence that led to the ban.
    pub why: Offence,
    /// Number of offences within a minute that led to the ban.
    pub count: u16,
    /// Start of the ban.
    pub since: Instant,
    /// End of the ban.
    pub until: Instant,
    /// Number of messages and connections of the source that were dropped since the start of the ban.
    pub dropped: u64,
    /// Number of bans of this source so far, including this ban. The first ban has number 1.
    pub times: u8,
}

/// Counters of the guard since the start of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuardCounts {
    /// Current number of bans.
    pub bans: usize,
    /// Number of bans since the start.
    pub banned: u64,
    /// Number of messages that were dropped because their source was banned.
    pub dropped: u64,
    /// Number of messages that were dropped because their source exceeded its rate.
    pub limited: u64,
    /// Number of messages that were dropped because all unknown sources together exceeded their rate.
    pub limited_unknown: u64,
}

/// The table of sources. The driver uses the table for every message. Other threads read the table and lift bans.
#[derive(Debug)]
pub struct Guard {
    secret: u64,
    /// The addresses of this host.
    own: HashSet<Source>,
    table: Mutex<Table>,
}

/// The operator's settings, which the guard needs for its decisions about a source.
#[derive(Debug, Clone)]
struct Rules {
    config: Bans,
    trunks: Vec<TrunkAcl>,
    /// The addresses of the trunks' hosts: the destinations of calls and the registrars.
    hosts: HashSet<Source>,
    /// The addresses of the other nodes of the cluster.
    nodes: HashSet<Source>,
}

#[derive(Debug)]
struct Table {
    rules: Arc<Rules>,
    start: Instant,
    entries: Vec<Entry>,
    unknown_sources: Bucket,
    /// The wrong passwords for each user name. The index is a hash of the name.
    users: Vec<UserCounter>,
    counts: GuardCounts,
    ban_lines: Throttle,
    source_lines: Throttle,
}

/// The state of one source. Times are in milliseconds since the start of the table.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    source: Option<Source>,
    exempt: bool,
    last_seen: u64,
    known_until: u64,
    called_until: u64,
    bucket: Bucket,
    window: u64,
    offences: [u16; Offence::ALL.len()],
    /// The hash of the user for whom the source sent its latest wrong passwords, and the number of these passwords in
    /// the current window. They are a part of the source's offences.
    guessed: (u64, u16),
    ban: Option<ActiveBan>,
    times: u8,
    /// Time of the last log line about the source. The next field, `suppressed_lines`, is the number of log lines that
    /// were suppressed after this line.
    last_log_line: u64,
    suppressed_lines: u32,
}

/// The wrong passwords for one user name in the minute that began at `window`.
#[derive(Debug, Clone, Copy, Default)]
struct UserCounter {
    window: u64,
    count: u16,
}

#[derive(Debug, Clone, Copy)]
struct ActiveBan {
    why: Offence,
    count: u16,
    since: u64,
    until: u64,
    dropped: u64,
}

/// The address of a source. For IPv6, the source is the first 64 bits of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

/// A token bucket. The bucket stores the number of used tokens, and the time at which this number was computed.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    spent: f64,
    at: u64,
}

impl Guard {
    /// Creates an empty table. The slot of a source depends on `secret`, so an attacker cannot choose it.
    #[must_use]
    pub fn new(config: Bans, trunks: Vec<TrunkAcl>, secret: u64, now: Instant) -> Self {
        let table = Table {
            rules: Arc::new(Rules { config, trunks, hosts: HashSet::new(), nodes: HashSet::new() }),
            start: now,
            entries: vec![Entry::default(); SETS * SLOTS_PER_SET],
            unknown_sources: Bucket::default(),
            users: vec![UserCounter::default(); USER_COUNTERS],
            counts: GuardCounts::default(),
            ban_lines: Throttle::default(),
            source_lines: Throttle::default(),
        };
        Self { secret, own: HashSet::new(), table: Mutex::new(table) }
    }

    /// Sets the addresses of this host, which are banned only for guessing passwords.
    #[must_use]
    pub fn with_own(self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { own: addresses.into_iter().map(Source::of).collect(), ..self }
    }

    /// Replaces the rules. If the new rules exempt a source, the ban of this source ends. All other bans stay.
    pub fn reconfigure(&self, config: Bans, trunks: Vec<TrunkAcl>) {
        let mut table = self.lock();
        let (hosts, nodes) = (table.rules.hosts.clone(), table.rules.nodes.clone());
        table.set_rules(Rules { config, trunks, hosts, nodes });
    }

    /// Replaces the addresses of the trunks' hosts: the destinations of calls and the registrars. Bans of these
    /// addresses end.
    pub fn set_hosts(&self, hosts: impl IntoIterator<Item = IpAddr>) {
        let mut table = self.lock();
        let hosts: HashSet<Source> = hosts.into_iter().map(Source::of).collect();
        if table.rules.hosts != hosts {
            let rules = Rules { hosts, ..(*table.rules).clone() };
            table.set_rules(rules);
        }
    }

    /// Replaces the addresses of the other nodes of the cluster. Bans of these addresses end.
    pub fn set_nodes(&self, nodes: impl IntoIterator<Item = IpAddr>) {
        let mut table = self.lock();
        let nodes = nodes.into_iter().map(Source::of).collect();
        let rules = Rules { nodes, ..(*table.rules).clone() };
        table.set_rules(rules);
    }

    /// Decides about a message or a connection from this source.
    pub fn admit(&self, now: Instant, source: IpAddr) -> GuardDecision {
        let mut table = self.lock();
        let table = &mut *table;
        let now_ms = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        let Some(entry) = self.entry(&rules, &mut table.entries, now_ms, source) else { return GuardDecision::Accept };
        if entry.exempt {
            return GuardDecision::Accept;
        }
        match &mut entry.ban {
            Some(ban) if ban.until > now_ms => {
                ban.dropped += 1;
                table.counts.dropped += 1;
                return GuardDecision::Banned;
            }
            _ => entry.ban = None,
        }
        if entry.called_until > now_ms {
            return GuardDecision::Accept;
        }
        if !entry.bucket.take(now_ms, rules.config.source_rate) {
            table.counts.limited += 1;
            self.count_offence(table, now, source, Offence::Flood);
            return GuardDecision::RateLimited;
        }
        if entry.known_until <= now_ms && !table.unknown_sources.take(now_ms, rules.config.strangers_rate) {
            table.counts.limited_unknown += 1;
            return GuardDecision::RateLimited;
        }
        GuardDecision::Accept
    }

    /// Records an offence. Returns whether the offence leads to a ban.
    pub fn record_offence(&self, now: Instant, source: IpAddr, offence: Offence) -> bool {
        self.count_offence(&mut self.lock(), now, source, offence)
    }

    /// Bans a source for this time, because another node of the cluster has banned it. The ban counts no offences. A source
    /// that is banned already, or that is never banned here, stays as it is.
    pub fn ban(&self, now: Instant, source: IpAddr, why: Offence, length: Duration) {
        let mut table = self.lock();
        let table = &mut *table;
        let now = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        let Some(entry) = self.entry(&rules, &mut table.entries, now, source) else { return };
        let is_banned = entry.ban.is_some_and(|ban| ban.until > now);
        if !entry.exempt && !is_banned {
            entry.ban = Some(ActiveBan { why, count: 0, since: now, until: now + millis(length), dropped: 0 });
        }
    }

    /// Records a wrong password for the user with this name at this host. `host` is empty unless it is the domain of an
    /// account. If `from` is `None`, only the user's counter counts the password, and no source. Returns whether the
    /// source is banned now.
    pub fn record_wrong_password(&self, now: Instant, from: Option<IpAddr>, user: (&str, &str)) -> bool {
        let user = self.hash(user);
        let mut table = self.lock();
        let table = &mut *table;
        let now_ms = table.since_start(now);
        if let Some(counter) = table.users.get_mut(counter_of(user)) {
            if now_ms.saturating_sub(counter.window) >= millis(WINDOW) {
                *counter = UserCounter { window: now_ms, count: 0 };
            }
            counter.count = counter.count.saturating_add(1);
        }
        let Some(source) = from else { return false };
        if self.count_offence(table, now, source, Offence::Credentials) {
            return true;
        }
        let rules = Arc::clone(&table.rules);
        if let Some(entry) = self.entry(&rules, &mut table.entries, now_ms, source) {
            let before = if entry.guessed.0 == user { entry.guessed.1 } else { 0 };
            entry.guessed = (user, before.saturating_add(1));
        }
        false
    }

    /// Returns whether the user with this name at this host has got more wrong passwords within a minute than
    /// [`Bans::user_credentials`] allows.
    #[must_use]
    pub fn is_under_attack(&self, now: Instant, user: (&str, &str)) -> bool {
        let table = self.lock();
        let (now, limit) = (table.since_start(now), table.rules.config.user_credentials);
        let counter = table.users.get(counter_of(self.hash(user)));
        let is_full =
            |counter: &UserCounter| now.saturating_sub(counter.window) < millis(WINDOW) && counter.count >= limit;
        limit > 0 && counter.is_some_and(is_full)
    }

    /// Records that the server sends a request to this address. For an hour the address has no rate limit, and is
    /// banned only for guessing passwords. If the address is banned for another reason, the ban ends.
    pub fn note_called(&self, now: Instant, peer: IpAddr) {
        let mut table = self.lock();
        let now = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        if let Some(entry) = self.entry(&rules, &mut table.entries, now, peer) {
            entry.called_until = now + millis(KNOWN_FOR);
            entry.ban = entry.ban.filter(|ban| is_guessing(ban.why));
        }
    }

    /// Decides whether a log line about a source may be written now. If so, returns the number of lines that were
    /// suppressed since the last written line. Otherwise returns `None`. The guard allows one line in 10 s for each
    /// source, and three lines per second for all sources together.
    pub fn take_log_line(&self, now: Instant, source: IpAddr) -> Option<u64> {
        let mut table = self.lock();
        let table = &mut *table;
        let now_ms = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        let entry = self.entry(&rules, &mut table.entries, now_ms, source)?;
        let due = entry.last_log_line == 0 || now_ms.saturating_sub(entry.last_log_line) >= millis(LOG_LINE_INTERVAL);
        let Some(others) = due.then(|| table.source_lines.pass(now)).flatten() else {
            entry.suppressed_lines = entry.suppressed_lines.saturating_add(1);
            return None;
        };
        entry.last_log_line = now_ms;
        Some(others.max(u64::from(std::mem::take(&mut entry.suppressed_lines))))
    }

    /// Records that the source has authenticated as the user with this name at this host (as in
    /// [`Guard::record_wrong_password`]). For an hour the source does not count as unknown. The method deletes the
    /// source's offences of the kind `Challenge`. It also deletes the latest wrong passwords of the source, if they were
    /// for the same user.
    pub fn note_authenticated(&self, now: Instant, source: IpAddr, user: (&str, &str)) {
        let user = self.hash(user);
        let mut table = self.lock();
        let now_ms = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        if let Some(entry) = self.entry(&rules, &mut table.entries, now_ms, source) {
            entry.known_until = now_ms + millis(KNOWN_FOR);
            let forgiven = if entry.guessed.0 == user { std::mem::take(&mut entry.guessed.1) } else { 0 };
            for (kind, forgiven) in [(Offence::Credentials, forgiven), (Offence::Challenge, u16::MAX)] {
                if let Some(count) = entry.offences.get_mut(kind as usize) {
                    *count = count.saturating_sub(forgiven);
                }
            }
        }
    }

    /// Returns the bans that have not ended, latest first.
    #[must_use]
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        let table = self.lock();
        let now = table.since_start(now);
        let at = |ms| table.start + Duration::from_millis(ms);
        let mut bans: Vec<Ban> = (table.entries.iter())
            .filter_map(|entry| {
                let (source, ban) = (entry.source?, entry.ban.filter(|ban| ban.until > now)?);
                let ActiveBan { why, count, since, until, dropped } = ban;
                let (since, until) = (at(since), at(until));
                Some(Ban { source: source.network(), why, count, since, until, dropped, times: entry.times })
            })
            .collect();
        bans.sort_by_key(|ban| std::cmp::Reverse(ban.since));
        bans
    }

    /// Lifts the ban of this source and deletes its offences. Returns `false` if the source was not banned.
    pub fn unban(&self, now: Instant, source: IpAddr) -> bool {
        let mut table = self.lock();
        let now = table.since_start(now);
        let searched = Source::of(source);
        let entry = table.entries.iter_mut().find(|entry| entry.source == Some(searched));
        let Some(entry) = entry else { return false };
        let banned = entry.ban.is_some_and(|ban| ban.until > now);
        *entry = Entry { source: entry.source, last_seen: entry.last_seen, ..Entry::default() };
        banned
    }

    /// Returns the counters since the start of the server.
    #[must_use]
    pub fn counts(&self, now: Instant) -> GuardCounts {
        let table = self.lock();
        let now = table.since_start(now);
        let bans = table.entries.iter().filter(|entry| entry.ban.is_some_and(|ban| ban.until > now)).count();
        GuardCounts { bans, ..table.counts }
    }

    fn count_offence(&self, table: &mut Table, now: Instant, source: IpAddr, offence: Offence) -> bool {
        let now_ms = table.since_start(now);
        let rules = Arc::clone(&table.rules);
        let Some(entry) = self.entry(&rules, &mut table.entries, now_ms, source) else { return false };
        if entry.exempt || entry.ban.is_some_and(|ban| ban.until > now_ms) {
            return false;
        }
        let is_harmless = entry.called_until > now_ms || self.own.contains(&Source::of(source));
        if is_harmless && !is_guessing(offence) {
            return false;
        }
        if now_ms.saturating_sub(entry.window) >= millis(WINDOW) {
            (entry.window, entry.offences, entry.guessed) = (now_ms, Default::default(), Default::default());
        }
        let limit = rules.config.limit(offence);
        let Some(count) = entry.offences.get_mut(offence as usize) else { return false };
        *count = count.saturating_add(1);
        let count = *count;
        if limit == 0 || count < limit {
            return false;
        }
        let length =
            Duration::from_secs(rules.config.seconds.into()).saturating_mul(1 << entry.times.min(16)).min(MAX_BAN);
        entry.times = entry.times.saturating_add(1);
        (entry.offences, entry.guessed) = (Default::default(), Default::default());
        let until = now_ms + millis(length);
        entry.ban = Some(ActiveBan { why: offence, count, since: now_ms, until, dropped: 0 });
        table.counts.banned += 1;
        if let Some(held_back) = table.ban_lines.pass(now) {
            let (source, description) = (Source::of(source).network(), offence.description());
            let source = if source.addr().is_ipv4() { source.addr().to_string() } else { source.to_string() };
            let held_back = (held_back > 0).then_some(held_back);
            tracing::warn!(
                held_back,
                "{source} is banned for {} s: {count} {description} within a minute",
                length.as_secs()
            );
        }
        true
    }

    /// Returns the entry of a source. Creates the entry if there is none. Returns `None` only if the table has no
    /// slots.
    fn entry<'a>(&self, rules: &Rules, entries: &'a mut [Entry], now: u64, address: IpAddr) -> Option<&'a mut Entry> {
        let source = Source::of(address);
        let set = usize::try_from(self.hash(source) % SETS as u64).unwrap_or_default();
        let places = entries.get_mut(set * SLOTS_PER_SET..(set + 1) * SLOTS_PER_SET)?;
        let at = match places.iter().position(|entry| entry.source == Some(source)) {
            Some(at) => at,
            None => {
                let worth = |entry: &Entry| {
                    (
                        entry.source.is_some(),
                        entry.ban.is_some_and(|ban| ban.until > now),
                        entry.known_until.max(entry.called_until) > now,
                        entry.last_seen,
                    )
                };
                let (at, place) = places.iter_mut().enumerate().min_by_key(|(_, entry)| worth(entry))?;
                *place = Entry { source: Some(source), exempt: rules.exempts(address), ..Entry::default() };
                at
            }
        };
        let entry = places.get_mut(at)?;
        entry.last_seen = now;
        Some(entry)
    }

    /// Returns a hash that depends on the server's secret, so that an attacker cannot choose it.
    fn hash(&self, value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, value).hash(&mut hasher);
        hasher.finish()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    fn exempts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        trunk_acl::matching(&self.trunks, address).is_some()
            || self.config.never.iter().any(|net| net.contains(&address))
            || self.hosts.contains(&Source::of(address))
            || self.nodes.contains(&Source::of(address))
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
        // The value 0 is reserved for "never".
        1 + millis(now.saturating_duration_since(self.start))
    }
}

impl Bucket {
    /// Takes a token from the bucket. Returns `false` if the bucket is empty. `rate` is the number of new tokens per
    /// second. With a rate of 0, there is no limit.
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

/// Returns whether the offence is a sign of password guessing. Such an offence can also ban an address that the server
/// has called.
fn is_guessing(offence: Offence) -> bool {
    matches!(offence, Offence::Credentials | Offence::Challenge)
}

/// Returns the index of a user's counter.
fn counter_of(user: u64) -> usize {
    usize::try_from(user % USER_COUNTERS as u64).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
