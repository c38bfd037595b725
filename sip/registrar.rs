//! The registrar (RFC 3261 §10): where each user's phones are reachable, and until when.
//!
//! ```text
//!  REGISTER ──> register() ──> 200 with the bindings, and Changes for the application to store
//!  a call   ──> contacts() ──> the targets of a user's phones, best first
//!  a timer  ──> take_due() ──> expired bindings, and bindings that need a NAT keep-alive
//! ```
//!
//! A binding keeps the path of its REGISTER. Calls to the phone take the same path back: the same connection, or the
//! same NAT mapping. Two limits bound the memory. Beyond [`RegistrarConfig::max_bindings`] a new binding is refused
//! with 503. Beyond [`RegistrarConfig::max_contacts`] the user's least recently refreshed binding is removed; a refusal
//! would lock out a user whose phone has got a new address.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use serde::Deserialize;

use crate::dialog::Flow;
use crate::gruu;
use crate::leg::Transport;
use crate::message::{Contacts, Host, Uri};

/// Interval in which bindings without keep-alives are checked for expiry.
const SWEEP: Duration = Duration::from_secs(60);
/// Lifetime in seconds for a REGISTER that states none.
const DEFAULT_EXPIRES: u32 = 3_600;

/// Settings of the registrar, `[sip.registrar]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrarConfig {
    /// Realm of the challenges. Password hashes in the database are valid for one realm only.
    pub realm: String,
    /// Digest algorithms that challenges offer, in this order. Answers may use either algorithm.
    pub algorithms: Vec<DigestAlgorithm>,
    /// Host names, in addition to the server's addresses, that mean this server.
    pub domains: Vec<String>,
    /// Shortest lifetime in seconds; a shorter one is refused with 423.
    pub min_expires: u32,
    /// Longest lifetime in seconds; a longer one is shortened to it.
    pub max_expires: u32,
    /// Most Contacts of one user.
    pub max_contacts: usize,
    /// Most bindings of all users together.
    pub max_bindings: usize,
    /// The keep-alive that is sent to phones, so that their NAT mappings stay open.
    pub keep_alive: KeepAlive,
    /// Seconds between two keep-alives.
    pub keep_alive_seconds: u32,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        Self {
            realm: "tandem".to_owned(),
            algorithms: vec![DigestAlgorithm::Md5],
            domains: Vec::new(),
            min_expires: 60,
            max_expires: 3_600,
            max_contacts: 10,
            max_bindings: 100_000,
            keep_alive: KeepAlive::Crlf,
            keep_alive_seconds: 25,
        }
    }
}

/// A digest algorithm. Phones that support only MD5 (for example libre before 2.0) fail when a challenge offers a
/// second algorithm, so only MD5 is offered by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum DigestAlgorithm {
    /// MD5 (RFC 2617).
    #[serde(rename = "MD5")]
    Md5,
    /// SHA-256 (RFC 8760).
    #[serde(rename = "SHA-256")]
    Sha256,
}

/// A keep-alive for NAT mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepAlive {
    /// No keep-alive.
    Off,
    /// A double CRLF.
    #[default]
    Crlf,
    /// An OPTIONS, which the phone answers. It also keeps NATs open that only count traffic from the phone.
    Options,
}

/// An address-of-record: a user of an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aor {
    /// The account that owns the phone.
    pub account: Arc<str>,
    /// The user part of the address-of-record.
    pub username: Arc<str>,
    /// The domain that was called; `None` means any.
    pub domain: Option<Arc<str>>,
}

/// One contact of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// A unique key for the application that stores the binding.
    pub id: u128,
    /// The user. `domain` is the domain of the registration, if it belongs to an account.
    pub aor: Aor,
    /// The Contact URI.
    pub contact: String,
    /// Preference (`q`) times 1000, 0 to 1000.
    pub q: u16,
    /// Path values (RFC 3327), the hop next to this server first.
    pub path: Vec<String>,
    /// `+sip.instance`, a space and `reg-id` (RFC 5626 §4.1). The number is 0 if the Contact has an instance alone.
    pub instance: Option<String>,
    /// Call-ID of the REGISTER.
    pub sip_call_id: String,
    /// CSeq of the REGISTER.
    pub cseq: u32,
    /// The source address of the REGISTER.
    pub source: SocketAddr,
    /// The address of the Contact, if the phone is reachable there: over UDP it is used instead of `source`, over a
    /// stream only once the connection is closed.
    pub direct: Option<SocketAddr>,
    /// The local address that received the REGISTER.
    pub local: SocketAddr,
    /// The transport of the REGISTER.
    pub transport: Transport,
    /// The User-Agent of the phone.
    pub user_agent: Option<String>,
    /// Time until the binding expires.
    pub expires_in: Duration,
}

/// A change of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The binding is new.
    Bound(Box<Binding>),
    /// An existing binding was refreshed.
    Refreshed(Box<Binding>),
    /// The binding ended: it was unregistered, expired or replaced.
    Unbound(Box<Binding>),
}

/// A REGISTER that has passed authentication.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) aor: Aor,
    pub(crate) contacts: Contacts,
    pub(crate) expires: Option<u32>,
    pub(crate) path: Vec<String>,
    pub(crate) sip_call_id: String,
    pub(crate) cseq: u32,
    pub(crate) flow: Flow,
    pub(crate) local: SocketAddr,
    /// Whether the sender asked for responses to its source port (`rport`, RFC 3581), so that its source address is
    /// known to be reachable.
    pub(crate) symmetric: bool,
    pub(crate) user_agent: Option<String>,
}

/// Why a REGISTER was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400: `*` together with another Contact or without Expires 0, no usable Contact, or too many.
    Malformed(&'static str),
    /// 423 with this Min-Expires.
    TooBrief(u32),
    /// 500: the request is older than the one that made the binding.
    OutOfOrder,
    /// 503: [`RegistrarConfig::max_bindings`] is reached.
    Full,
}

/// The target of one phone: URI, Route values and path.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) contact: String,
    pub(crate) routes: Vec<Bytes>,
    pub(crate) flow: Flow,
    pub(crate) q: u16,
}

/// A result of a timer.
#[derive(Debug)]
pub(crate) enum Due {
    Over(Box<Binding>),
    KeepAlive(Box<Way>),
}

type Key = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Entry {
    binding: Binding,
    flow: Flow,
    expires: Instant,
    refreshed: Instant,
}

/// All bindings, by user, by key and by source.
#[derive(Debug)]
pub(crate) struct Registrar {
    config: RegistrarConfig,
    users: HashMap<Key, Vec<Entry>>,
    keys: HashMap<u128, Key>,
    /// The keys of the bindings that came from an address.
    sources: HashMap<SocketAddr, HashSet<u128>>,
    /// The next check of each binding. The entry of a removed binding stays until its time comes.
    wakes: BinaryHeap<Reverse<(Instant, u128)>>,
}

impl Registrar {
    /// Sets other limits from now on.
    pub(crate) fn reconfigure(&mut self, config: RegistrarConfig) {
        self.config = config;
    }

    pub(crate) fn new(config: RegistrarConfig) -> Self {
        Self { config, users: HashMap::new(), keys: HashMap::new(), sources: HashMap::new(), wakes: BinaryHeap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn keep_alive(&self) -> KeepAlive {
        self.config.keep_alive
    }

    /// Applies all Contacts of a REGISTER, or none of them (RFC 3261 §10.3 steps 6 to 8).
    pub(crate) fn register(
        &mut self,
        now: Instant,
        register: Register,
        rng: &mut impl Rng,
    ) -> Result<Vec<Change>, Refusal> {
        let mut changes = self.expire(now, &register.aor);
        let contacts = match &register.contacts {
            Contacts::All => {
                if register.expires != Some(0) {
                    return Err(Refusal::Malformed("Contact * goes with Expires 0"));
                }
                changes.extend(self.unregister_all(now, &register)?);
                return Ok(changes);
            }
            Contacts::Listed(contacts) if contacts.len() > self.config.max_contacts => {
                return Err(Refusal::Malformed("Too many Contacts"));
            }
            Contacts::Listed(contacts) => contacts,
        };
        let (mut lives, mut new) = (Vec::with_capacity(contacts.len()), 0);
        for contact in contacts {
            if !contact.uri.is_sip() {
                return Err(Refusal::Malformed("Contact is no SIP URI"));
            }
            let asked = contact.expires.or(register.expires).unwrap_or(DEFAULT_EXPIRES);
            // RFC 3261 §10.3: a lifetime of an hour or more is never too brief, whatever the setting is.
            if asked > 0 && asked < self.config.min_expires.min(3_600) {
                return Err(Refusal::TooBrief(self.config.min_expires));
            }
            let known = self.find(&register.aor, &contact.uri, contact.instance.as_deref());
            if known.is_some_and(|entry| is_outdated(entry, &register)) {
                return Err(Refusal::OutOfOrder);
            }
            new += usize::from(known.is_none() && asked > 0);
            lives.push(Duration::from_secs(asked.min(self.config.max_expires).into()));
        }
        if self.len() + new > self.config.max_bindings {
            return Err(Refusal::Full);
        }
        for (contact, life) in contacts.iter().zip(lives) {
            let known = self.find(&register.aor, &contact.uri, contact.instance.as_deref()).map(|one| one.binding.id);
            if life.is_zero() {
                changes.extend(known.and_then(|id| self.remove(now, id)).map(|one| Change::Unbound(Box::new(one))));
                continue;
            }
            let direct = direct(&contact.uri, register.flow, register.symmetric);
            let id = known.unwrap_or_else(|| u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()));
            let binding = Binding {
                id,
                aor: register.aor.clone(),
                contact: String::from_utf8_lossy(contact.uri.text()).into_owned(),
                q: contact.q.unwrap_or(1_000),
                path: register.path.clone(),
                instance: contact.instance.clone(),
                sip_call_id: register.sip_call_id.clone(),
                cseq: register.cseq,
                source: register.flow.peer,
                direct,
                local: register.local,
                transport: register.flow.transport,
                user_agent: register.user_agent.clone(),
                expires_in: life,
            };
            let told = Box::new(binding.clone());
            changes.push(if known.is_some() { Change::Refreshed(told) } else { Change::Bound(told) });
            self.insert(now, binding, register.flow);
        }
        changes.extend(self.make_room(now, &register.aor));
        Ok(changes)
    }

    /// Adds a binding that was stored before a restart. If it used a connection, that connection is gone.
    pub(crate) fn restore(&mut self, now: Instant, binding: Binding, flow: Flow) {
        if self.len() < self.config.max_bindings && !binding.expires_in.is_zero() {
            self.insert(now, binding, flow);
        }
    }

    /// Returns the Contact values of a 200 (RFC 3261 §10.3 step 8).
    ///
    /// `gruu` is the address-of-record as the phone wrote it, if the phone supports public GRUUs (RFC 5627 §5.3).
    pub(crate) fn describe(&self, now: Instant, aor: &Aor, gruu: Option<&str>) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in self.of(aor).filter(|entry| entry.expires > now) {
            let seconds = entry.expires.saturating_duration_since(now).as_secs_f64().ceil();
            let Binding { contact, q, .. } = &entry.binding;
            let mut line = format!("<{contact}>;expires={seconds}");
            if *q < 1_000 {
                line.push_str(&format!(";q=0.{q:03}"));
            }
            if let Some((instance, number)) = entry.binding.instance.as_ref().and_then(|one| one.rsplit_once(' ')) {
                line.push_str(&format!(";+sip.instance=\"{instance}\""));
                if number != "0" {
                    line.push_str(&format!(";reg-id={number}"));
                }
                if let Some(gruu) = gruu.and_then(|aor| gruu::public(aor, instance)) {
                    line.push_str(&format!(";pub-gruu=\"{gruu}\""));
                }
            }
            lines.push(line);
        }
        lines
    }

    /// Returns the targets of a user's phones, by preference, and at the same preference the most recently refreshed
    /// one first. A phone with several flows is called over one of them, an open one if there is any (RFC 5626 §5.3).
    /// `instance` is the instance that a GRUU names; only that phone is returned then.
    pub(crate) fn contacts(&self, now: Instant, aor: &Aor, instance: Option<&str>) -> Vec<Way> {
        let open = |entry: &Entry| !entry.flow.transport.is_reliable() || entry.flow.connection.is_some();
        let meant = |entry: &&Entry| instance.is_none_or(|instance| entry.is_of(instance));
        let mut entries: Vec<&Entry> = self.of(aor).filter(|entry| entry.expires > now).filter(meant).collect();
        entries.sort_by_key(|entry| Reverse((entry.binding.q, open(entry), entry.refreshed)));
        let mut called = HashSet::new();
        entries.retain(|entry| entry.instance().is_none_or(|instance| called.insert(instance)));
        let most = if instance.is_some() { 1 } else { entries.len() };
        entries.into_iter().take(most).map(Entry::way).collect()
    }

    /// Whether a phone of this user registered from exactly this address and port.
    pub(crate) fn is_phone(&self, source: SocketAddr, aor: &Aor) -> bool {
        self.is_source(source) && self.of(aor).any(|entry| entry.binding.source == source)
    }

    /// Whether any phone registered from exactly this address and port.
    pub(crate) fn is_source(&self, source: SocketAddr) -> bool {
        self.sources.contains_key(&source)
    }

    /// Records that a connection to `peer` is closed. Its phones are called at the address of their Contact from now
    /// on, if that is possible. The bindings of a WebSocket are removed: the server cannot connect to a browser, and a
    /// browser that comes back has another Contact.
    pub(crate) fn lose_connection(&mut self, now: Instant, peer: SocketAddr) -> Vec<Change> {
        let mut gone = Vec::new();
        for id in self.sources.get(&peer).into_iter().flatten() {
            let entries = self.keys.get(id).and_then(|key| self.users.get_mut(key));
            let entry = entries.into_iter().flatten().find(|entry| entry.binding.id == *id);
            if let Some(entry) = entry.filter(|entry| entry.flow.transport.is_reliable()) {
                entry.flow.connection = None;
                entry.flow.peer = entry.binding.direct.unwrap_or(peer);
                if matches!(entry.flow.transport, Transport::Ws | Transport::Wss) {
                    gone.push(*id);
                }
            }
        }
        self.remove_all(now, gone)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((at, _))| *at)
    }

    /// Returns one expired binding or one due keep-alive at a time, until none is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Due> {
        while self.wakes.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, id))) = self.wakes.pop() else { break };
            let Some(entry) = self
                .keys
                .get(&id)
                .and_then(|key| self.users.get(key))
                .into_iter()
                .flatten()
                .find(|entry| entry.binding.id == id)
            else {
                continue;
            };
            if entry.expires <= now {
                if let Some(binding) = self.remove(now, id) {
                    return Some(Due::Over(Box::new(binding)));
                }
                continue;
            }
            let (way, at) = (entry.way(), entry.expires.min(now + self.interval()));
            self.wakes.push(Reverse((at, id)));
            // Only the phone can open a closed connection again.
            let open = !way.flow.transport.is_reliable() || way.flow.connection.is_some();
            if self.config.keep_alive != KeepAlive::Off && open {
                return Some(Due::KeepAlive(Box::new(way)));
            }
        }
        None
    }

    fn interval(&self) -> Duration {
        match self.config.keep_alive {
            KeepAlive::Off => SWEEP,
            _ => Duration::from_secs(self.config.keep_alive_seconds.max(1).into()),
        }
    }

    fn of(&self, aor: &Aor) -> impl Iterator<Item = &Entry> {
        let entries = self.users.get(&key(aor)).into_iter().flatten();
        let domain = aor.domain.clone();
        entries.filter(move |entry| match (&domain, &entry.binding.aor.domain) {
            (Some(asked), Some(own)) => asked.eq_ignore_ascii_case(own),
            _ => true,
        })
    }

    /// RFC 5626 §6: a registration with the same instance and reg-id replaces the one before, whatever its Contact is.
    fn find(&self, aor: &Aor, uri: &Uri, instance: Option<&str>) -> Option<&Entry> {
        self.of(aor).find(|entry| match (instance, entry.binding.instance.as_deref()) {
            (Some(one), Some(other)) if !one.ends_with(" 0") => one == other,
            _ => Uri::parse(entry.binding.contact.as_bytes()).is_some_and(|known| known.is_equivalent(uri)),
        })
    }

    fn insert(&mut self, now: Instant, binding: Binding, flow: Flow) {
        if self.keys.contains_key(&binding.id) {
            self.remove(now, binding.id);
        }
        let (id, key, expires) = (binding.id, key(&binding.aor), now + binding.expires_in);
        self.sources.entry(binding.source).or_default().insert(id);
        self.keys.insert(id, key.clone());
        self.wakes.push(Reverse((expires.min(now + self.interval()), id)));
        self.users.entry(key).or_default().push(Entry { binding, flow, expires, refreshed: now });
    }

    fn remove(&mut self, now: Instant, id: u128) -> Option<Binding> {
        let key = self.keys.remove(&id)?;
        let entries = self.users.get_mut(&key)?;
        let at = entries.iter().position(|entry| entry.binding.id == id)?;
        let Entry { mut binding, expires, .. } = entries.remove(at);
        if entries.is_empty() {
            self.users.remove(&key);
        }
        if let Some(ids) = self.sources.get_mut(&binding.source) {
            ids.remove(&id);
            if ids.is_empty() {
                self.sources.remove(&binding.source);
            }
        }
        binding.expires_in = expires.saturating_duration_since(now);
        Some(binding)
    }

    fn unregister_all(&mut self, now: Instant, register: &Register) -> Result<Vec<Change>, Refusal> {
        if self.of(&register.aor).any(|entry| is_outdated(entry, register)) {
            return Err(Refusal::OutOfOrder);
        }
        let ids: Vec<u128> = self.of(&register.aor).map(|entry| entry.binding.id).collect();
        Ok(self.remove_all(now, ids))
    }

    fn expire(&mut self, now: Instant, aor: &Aor) -> Vec<Change> {
        let ids: Vec<u128> = self.of(aor).filter(|entry| entry.expires <= now).map(|entry| entry.binding.id).collect();
        self.remove_all(now, ids)
    }

    /// ExpiryBucket the bindings beyond the limit that were longest not refreshed.
    fn make_room(&mut self, now: Instant, aor: &Aor) -> Vec<Change> {
        let mut entries: Vec<(Instant, u128)> = self.of(aor).map(|entry| (entry.refreshed, entry.binding.id)).collect();
        // The sort is stable: of two entries with the same instant, the later one was refreshed later.
        entries.sort_by_key(|(refreshed, _)| *refreshed);
        let beyond = entries.len().saturating_sub(self.config.max_contacts);
        self.remove_all(now, entries.into_iter().take(beyond).map(|(_, id)| id).collect())
    }

    fn remove_all(&mut self, now: Instant, ids: Vec<u128>) -> Vec<Change> {
        let removed = ids.into_iter().filter_map(|id| self.remove(now, id));
        removed.map(|binding| Change::Unbound(Box::new(binding))).collect()
    }
}

impl Entry {
    fn is_of(&self, instance: &str) -> bool {
        let own = self.binding.instance.as_ref().and_then(|own| own.rsplit_once(' '));
        own.is_some_and(|(own, _)| gruu::names(instance, own))
    }

    /// The instance of a phone that registers several flows, the same for all of its flows; `None` for a binding
    /// without `reg-id`.
    fn instance(&self) -> Option<&str> {
        let (instance, number) = self.binding.instance.as_deref()?.rsplit_once(' ')?;
        (number != "0").then_some(instance)
    }

    fn way(&self) -> Way {
        // A datagram can go to either address; a connection only leads back to its source.
        let flow = match self.binding.direct {
            Some(direct) if !self.flow.transport.is_reliable() => Flow { peer: direct, ..self.flow },
            _ => self.flow,
        };
        let Binding { contact, path, q, .. } = &self.binding;
        let routes = path.iter().map(|path| Bytes::copy_from_slice(path.as_bytes())).collect();
        Way { contact: contact.clone(), routes, flow, q: *q }
    }
}

fn key(aor: &Aor) -> Key {
    (Arc::clone(&aor.account), Arc::clone(&aor.username))
}

/// Whether the REGISTER is older than the binding (RFC 3261 §10.3 step 7).
fn is_outdated(entry: &Entry, register: &Register) -> bool {
    entry.binding.sip_call_id == register.sip_call_id && register.cseq <= entry.binding.cseq
}

/// Returns the address of the Contact if its host is the one that the REGISTER came from: then there is no NAT in
/// between. Returns `None` for a UDP sender that asked for `rport`; it is reached at its source.
fn direct(contact: &Uri, flow: Flow, symmetric: bool) -> Option<SocketAddr> {
    if symmetric && !flow.transport.is_reliable() {
        return None;
    }
    let destination = contact.destination()?;
    let Host::Ip(ip) = destination.host else { return None };
    (ip.to_canonical() == flow.peer.ip().to_canonical())
        .then(|| SocketAddr::new(flow.peer.ip(), destination.port.unwrap_or(5060)))
}

#[cfg(test)]
mod tests;
