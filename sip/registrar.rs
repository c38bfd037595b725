//! The registrar (RFC 3261 §10): it stores the addresses at which each user's phones can be reached, and the time until
//! which each address is valid.
//!
//! ```text
//!  REGISTER ──> register() ──> 200 with the bindings, and Changes for the application to store
//!  a call   ──> contact()  ──> the target of a binding
//!  a timer  ──> take_due() ──> expired bindings, and bindings that need a NAT keep-alive
//! ```
//!
//! A binding stores the path of its REGISTER. Calls to the phone use this path in the other direction: the same
//! connection, or the same NAT mapping. Two limits bound the memory. Above [`RegistrarConfig::max_bindings`], a new
//! binding is refused with 503. If a user has more bindings than [`RegistrarConfig::max_contacts`], the user's binding
//! that was not refreshed for the longest time is removed. If the server refused the new binding instead, a user whose
//! phone has a new address could not register.
//!
//! In a cluster, the registrar also has the bindings of the other nodes (`cluster`).

mod cluster;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use serde::Deserialize;
use tandem_id::AccountName;

use crate::flow::{Flow, Transport};
use crate::gruu;
use crate::message::{Contacts, Host, Uri};

/// Interval of the checks for expired bindings, if no keep-alives are sent.
const SWEEP: Duration = Duration::from_secs(60);
/// Lifetime in seconds of a binding whose REGISTER contains no lifetime.
const DEFAULT_EXPIRES: u32 = 3_600;

/// Settings of the registrar (`[sip.registrar]`).
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrarConfig {
    /// Realm of the challenges. The password hashes in the database are valid only for this realm.
    pub realm: String,
    /// Digest algorithms for which challenges are sent. The challenges have the order of this list. A phone may answer
    /// with any of these algorithms.
    pub algorithms: Vec<DigestAlgorithm>,
    /// Host names of this server. The addresses of this server also count as its hosts.
    pub domains: Vec<String>,
    /// Minimum lifetime, in seconds, that a phone may request. A request for a shorter lifetime gets 423.
    pub min_expires: u32,
    /// Maximum lifetime in seconds. If a phone requests a longer lifetime, it gets this value.
    pub max_expires: u32,
    /// Maximum number of Contacts that are stored for one user.
    pub max_contacts: usize,
    /// Maximum number of bindings of all users together.
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

/// A digest algorithm. Some phones support only MD5 (for example libre before 2.0), and fail if a challenge offers a
/// second algorithm. So the default setting offers only MD5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum DigestAlgorithm {
    /// The algorithm MD5 (RFC 2617).
    #[serde(rename = "MD5")]
    Md5,
    /// The algorithm SHA-256 (RFC 8760).
    #[serde(rename = "SHA-256")]
    Sha256,
}

/// A keep-alive for NAT mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepAlive {
    /// No keep-alive is sent.
    Off,
    /// A double CRLF is sent (RFC 5626).
    #[default]
    Crlf,
    /// An OPTIONS is sent, and the phone answers it. Some NATs keep a mapping open only for traffic from the phone. The
    /// answer is such traffic.
    Options,
}

/// An address-of-record, which is a user of an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aor {
    /// The account that owns the phone.
    pub account: AccountName,
    /// The user part of the address-of-record.
    pub username: Arc<str>,
    /// The domain that was called. `None` means any domain.
    pub domain: Option<Arc<str>>,
}

/// The id of a binding, which is unique. A refreshed binding keeps its id, also over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindingId(pub u128);

/// The binding that a call goes to ([`Outgoing::binding`](crate::Outgoing::binding)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingRef {
    /// The user of the binding.
    pub aor: Aor,
    /// The id of the binding.
    pub id: BindingId,
}

/// One registered contact of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The id under which the application stores and calls the binding.
    pub id: BindingId,
    /// The user. `aor.domain` is the domain of the registration, if this domain belongs to an account.
    pub aor: Aor,
    /// The host of the registration in lower case, if it is a name and no domain of an account. No other account may
    /// make it its domain.
    pub host: Option<String>,
    /// The Contact URI.
    pub contact: String,
    /// Preference of the contact: the value of `q` times 1000, from 0 to 1000.
    pub q: u16,
    /// Path values (RFC 3327). The first value is the hop next to this server.
    pub path: Vec<String>,
    /// The `+sip.instance`, a space and the `reg-id` of the Contact (RFC 5626 §4.1). If the Contact has an instance but
    /// no `reg-id`, the number is 0.
    pub instance: Option<String>,
    /// Call-ID of the REGISTER.
    pub sip_call_id: String,
    /// CSeq of the REGISTER.
    pub cseq: u32,
    /// The source address of the REGISTER.
    pub source: SocketAddr,
    /// The address in the Contact, if the phone can be reached at this address. Over UDP, this address is used instead
    /// of `source`. Over a stream, this address is used only after the connection was closed.
    pub direct: Option<SocketAddr>,
    /// The local address at which the REGISTER arrived.
    pub local: SocketAddr,
    /// The transport of the REGISTER.
    pub transport: Transport,
    /// The User-Agent of the phone.
    pub user_agent: Option<String>,
    /// Time until the binding expires.
    pub expires_in: Duration,
}

impl Binding {
    /// Returns whether the `gr` parameter of a URI names the phone of this binding (RFC 5627).
    pub(crate) fn is_of(&self, gr: &str) -> bool {
        self.device().is_some_and(|own| own.eq_ignore_ascii_case(gr))
    }

    /// Returns the instance of a phone that may register over several flows (RFC 5626 §5.3). Bindings of one user with
    /// the same instance are flows of the same phone, and a call goes to one of them. Returns `None` if the phone does
    /// not use several flows.
    #[must_use]
    pub fn outbound_instance(&self) -> Option<&str> {
        self.instance_and_number().filter(|(_, number)| *number != "0").map(|(instance, _)| instance)
    }

    /// Returns the instance of the phone without angle brackets, as the `gr` parameter of a URI names it.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        let (instance, _) = self.instance_and_number()?;
        Some(instance.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(instance))
    }

    fn instance_and_number(&self) -> Option<(&str, &str)> {
        self.instance.as_deref()?.rsplit_once(' ')
    }
}

/// A change of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The binding was stored before a restart and is valid again. All these changes come before any other event.
    Restored(Box<Binding>),
    /// The binding is new.
    Bound(Box<Binding>),
    /// An existing binding was refreshed. If another node of the cluster had the binding, it is now an own binding of this
    /// server.
    Refreshed(Box<Binding>),
    /// The binding ended, because it was unregistered, expired or replaced.
    Unbound(Box<Binding>),
    /// Another node of the cluster has the binding, and this server can call the phone. If the binding was an own binding
    /// of this server, it is one no more, and no [`Change::Unbound`] follows.
    Learned(Box<Binding>),
    /// The binding of another node ended, as far as this server knows.
    Forgotten(Box<Binding>),
}

/// A REGISTER whose sender has authenticated.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) aor: Aor,
    pub(crate) host: Option<String>,
    pub(crate) contacts: Contacts,
    pub(crate) expires: Option<u32>,
    pub(crate) path: Vec<String>,
    pub(crate) sip_call_id: String,
    pub(crate) cseq: u32,
    pub(crate) flow: Flow,
    pub(crate) local: SocketAddr,
    /// Whether the sender asked for responses to its source port (`rport`, RFC 3581). If so, responses to the source
    /// address reach the sender.
    pub(crate) symmetric: bool,
    pub(crate) user_agent: Option<String>,
}

/// The reason why a REGISTER was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Status 400, for one of four errors. The REGISTER has `*` and another Contact, it has `*` without Expires 0, it
    /// has too many Contacts, or it has no usable Contact.
    Malformed(&'static str),
    /// Status 423 with this Min-Expires.
    TooBrief(u32),
    /// Status 500. The request is older than the request with which the binding was last changed.
    OutOfOrder,
    /// Status 503. The limit [`RegistrarConfig::max_bindings`] is reached.
    Full,
}

/// The target of one phone: the URI, the Route values and the path.
#[derive(Debug, Clone)]
pub(crate) struct ContactTarget {
    pub(crate) contact: String,
    pub(crate) routes: Vec<Bytes>,
    pub(crate) flow: Flow,
}

/// The action for a binding whose timer fired.
#[derive(Debug)]
pub(crate) enum Due {
    Expired(Change),
    KeepAlive(Box<ContactTarget>),
}

type Key = (AccountName, Arc<str>);

#[derive(Debug)]
struct Entry {
    binding: Binding,
    flow: Flow,
    holder: Holder,
    expires: Instant,
    refreshed: Instant,
    /// The time of the next check. Earlier times of the binding may still be in [`Registrar::wakes`].
    wake: Instant,
}

/// The node to which the phone of a binding has its flow.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    /// This server.
    Own,
    /// Another node of the cluster. A call has this Route value in front of the Path.
    Node { route: Option<Bytes> },
}

/// All bindings of this server. A binding can be found by its user, its key and its source.
#[derive(Debug)]
pub(crate) struct Registrar {
    config: RegistrarConfig,
    users: HashMap<Key, Vec<Entry>>,
    keys: HashMap<BindingId, Key>,
    /// Number of bindings of other nodes.
    foreign: usize,
    /// The keys of the own bindings that were registered from each address.
    sources: HashMap<SocketAddr, HashSet<BindingId>>,
    /// The time of the next check of each binding. If a binding is removed, its time stays in the heap until it comes.
    wakes: BinaryHeap<Reverse<(Instant, BindingId)>>,
}

impl Registrar {
    /// Replaces the settings of the registrar.
    pub(crate) fn reconfigure(&mut self, config: RegistrarConfig) {
        self.config = config;
    }

    pub(crate) fn new(config: RegistrarConfig) -> Self {
        let (users, keys, sources, wakes) = (HashMap::new(), HashMap::new(), HashMap::new(), BinaryHeap::new());
        Self { config, users, keys, foreign: 0, sources, wakes }
    }

    /// Returns the number of bindings, without those of other nodes.
    pub(crate) fn own(&self) -> usize {
        self.keys.len() - self.foreign
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn keep_alive(&self) -> KeepAlive {
        self.config.keep_alive
    }

    /// Applies all Contacts of a REGISTER. If one Contact must be refused, applies no Contact (RFC 3261 §10.3 steps 6
    /// to 8).
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
        let (mut lifetimes, mut new) = (Vec::with_capacity(contacts.len()), 0);
        for contact in contacts {
            if !contact.uri.is_sip() {
                return Err(Refusal::Malformed("Contact is no SIP URI"));
            }
            let requested = contact.expires.or(register.expires).unwrap_or(DEFAULT_EXPIRES);
            // RFC 3261 §10.3: a lifetime of an hour or more must never be refused as too short, even if the setting is
            // larger.
            if requested > 0 && requested < self.config.min_expires.min(3_600) {
                return Err(Refusal::TooBrief(self.config.min_expires));
            }
            let known = self.find(&register.aor, &contact.uri, contact.instance.as_deref());
            if known.is_some_and(|entry| is_outdated(entry, &register)) {
                return Err(Refusal::OutOfOrder);
            }
            new += usize::from(known.is_none() && requested > 0);
            lifetimes.push(Duration::from_secs(requested.min(self.config.max_expires).into()));
        }
        if self.len() + new > self.config.max_bindings {
            return Err(Refusal::Full);
        }
        for (contact, lifetime) in contacts.iter().zip(lifetimes) {
            let known = self.find(&register.aor, &contact.uri, contact.instance.as_deref()).map(|one| one.binding.id);
            if lifetime.is_zero() {
                changes.extend(known.map(|id| self.unregister(now, id, &register)).unwrap_or_default());
                continue;
            }
            let direct = direct(&contact.uri, register.flow, register.symmetric);
            let id = known.unwrap_or_else(|| BindingId(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())));
            let binding = Binding {
                id,
                aor: register.aor.clone(),
                host: register.host.clone(),
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
                expires_in: lifetime,
            };
            let reported = Box::new(binding.clone());
            changes.push(if known.is_some() { Change::Refreshed(reported) } else { Change::Bound(reported) });
            self.insert(now, binding, register.flow, Holder::Own);
        }
        changes.extend(self.make_room(now, &register.aor));
        Ok(changes)
    }

    /// Adds a binding that was stored before a restart. If the binding used a connection, this connection does not
    /// exist any more. Returns `None` if the binding has expired, or if there is no room for it.
    pub(crate) fn restore(&mut self, now: Instant, binding: Binding, flow: Flow) -> Option<Change> {
        if self.len() >= self.config.max_bindings || binding.expires_in.is_zero() {
            return None;
        }
        let change = Change::Restored(Box::new(binding.clone()));
        self.insert(now, binding, flow, Holder::Own);
        Some(change)
    }

    /// Returns the Contact values for the 200 to a REGISTER (RFC 3261 §10.3 step 8).
    ///
    /// If the phone supports public GRUUs (RFC 5627 §5.3), `gruu` is the address-of-record as the phone wrote it.
    pub(crate) fn contact_values(&self, now: Instant, aor: &Aor, gruu: Option<&str>) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in self.valid(now, aor) {
            let seconds = entry.expires.saturating_duration_since(now).as_secs_f64().ceil();
            let Binding { contact, q, .. } = &entry.binding;
            let mut line = format!("<{contact}>;expires={seconds}");
            if *q < 1_000 {
                line.push_str(&format!(";q=0.{q:03}"));
            }
            if let Some((instance, number)) = entry.binding.instance_and_number() {
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

    /// Returns the target of one binding. If the phone of the binding has several flows, one of them is used (RFC 5626
    /// §5.3). This is an open flow if there is one. Returns `None` if the binding has ended.
    pub(crate) fn contact(&self, now: Instant, binding: &BindingRef) -> Option<ContactTarget> {
        let named = self.valid(now, &binding.aor).find(|entry| entry.binding.id == binding.id)?;
        let instance = named.binding.outbound_instance();
        let is_flow = |entry: &&Entry| instance.is_some() && entry.binding.outbound_instance() == instance;
        Some(preferred(self.valid(now, &binding.aor).filter(is_flow)).unwrap_or(named).target())
    }

    /// Returns the target of a user's phone. `gr` is the value of this parameter in the GRUU of the phone (RFC 5627). If
    /// several bindings have the instance, the preferred binding is used.
    pub(crate) fn target_of_instance(&self, now: Instant, aor: &Aor, gr: &str) -> Option<ContactTarget> {
        preferred(self.valid(now, aor).filter(|entry| entry.binding.is_of(gr))).map(Entry::target)
    }

    /// Returns the path to the phone of a user that registered this Contact.
    pub(crate) fn flow_of_contact(&self, now: Instant, aor: &Aor, contact: &Uri) -> Option<Flow> {
        preferred(self.valid(now, aor).filter(|entry| entry.has_contact(contact))).map(|entry| entry.flow)
    }

    /// Returns whether a phone of this user registered from this address, with any port.
    pub(crate) fn has_contact_at(&self, now: Instant, aor: &Aor, ip: IpAddr) -> bool {
        self.valid(now, aor).any(|entry| entry.binding.source.ip() == ip)
    }

    /// Returns whether a phone of this user registered from exactly this address and port.
    pub(crate) fn is_phone(&self, source: SocketAddr, aor: &Aor) -> bool {
        self.is_source(source) && self.of(aor).any(|entry| entry.binding.source == source)
    }

    /// Returns whether any phone registered from exactly this address and port.
    pub(crate) fn is_source(&self, source: SocketAddr) -> bool {
        self.sources.contains_key(&source)
    }

    /// Records that a connection to `peer` is closed. From now on, a phone of this connection is called at the address
    /// in its Contact, if the phone can be reached at this address. The bindings of a WebSocket connection are removed,
    /// because the server cannot connect to a browser. A browser that connects again has another Contact.
    pub(crate) fn lose_connection(&mut self, now: Instant, peer: SocketAddr) -> Vec<Change> {
        let mut ended = Vec::new();
        for id in self.sources.get(&peer).cloned().unwrap_or_default() {
            if let Some(entry) = self.entry_mut(id).filter(|entry| entry.flow.transport.is_reliable()) {
                entry.flow.connection = None;
                entry.flow.peer = entry.binding.direct.unwrap_or(peer);
                if entry.flow.transport.is_websocket() {
                    ended.push(id);
                }
            }
        }
        self.remove_all(now, ended)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((at, _))| *at)
    }

    /// Returns the next expired binding or the next keep-alive that is due. Call this method until it returns `None`.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Due> {
        while self.wakes.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, id))) = self.wakes.pop() else { break };
            let Some(entry) = self.entry(id).filter(|entry| entry.wake == at) else { continue };
            if entry.expires <= now {
                if let Some(change) = self.end(now, id) {
                    return Some(Due::Expired(change));
                }
                continue;
            }
            let (target, is_own) = (entry.target(), entry.is_own());
            self.wake_again(now, id);
            // If a connection is closed, only the phone can open a new one.
            let open = is_open(target.flow);
            if self.config.keep_alive != KeepAlive::Off && open && is_own {
                return Some(Due::KeepAlive(Box::new(target)));
            }
        }
        None
    }

    /// Sets the time of the next check of a binding.
    fn wake_again(&mut self, now: Instant, id: BindingId) {
        let soon = now + self.interval();
        let Some(entry) = self.entry_mut(id) else { return };
        entry.wake = if entry.is_own() { entry.expires.min(soon) } else { entry.expires };
        let wake = entry.wake;
        self.wakes.push(Reverse((wake, id)));
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
            (Some(requested), Some(own)) => requested.eq_ignore_ascii_case(own),
            _ => true,
        })
    }

    /// Returns the bindings of a user that have not expired.
    fn valid(&self, now: Instant, aor: &Aor) -> impl Iterator<Item = &Entry> {
        self.of(aor).filter(move |entry| entry.expires > now)
    }

    /// Finds the binding that a Contact replaces. A registration replaces the earlier registration with the same
    /// instance and reg-id, even if the Contact URI differs (RFC 5626 §6).
    fn find(&self, aor: &Aor, uri: &Uri, instance: Option<&str>) -> Option<&Entry> {
        self.of(aor).find(|entry| match (instance, entry.binding.instance.as_deref()) {
            (Some(one), Some(other)) if !one.ends_with(" 0") => one == other,
            _ => entry.has_contact(uri),
        })
    }

    fn entry(&self, id: BindingId) -> Option<&Entry> {
        self.users.get(self.keys.get(&id)?)?.iter().find(|entry| entry.binding.id == id)
    }

    fn entry_mut(&mut self, id: BindingId) -> Option<&mut Entry> {
        self.users.get_mut(self.keys.get(&id)?)?.iter_mut().find(|entry| entry.binding.id == id)
    }

    fn insert(&mut self, now: Instant, binding: Binding, flow: Flow, holder: Holder) {
        if self.keys.contains_key(&binding.id) {
            self.remove(now, binding.id);
        }
        let (id, key, expires) = (binding.id, key(&binding.aor), now + binding.expires_in);
        match holder {
            Holder::Own => {
                self.sources.entry(binding.source).or_default().insert(id);
            }
            Holder::Node { .. } => self.foreign += 1,
        }
        self.keys.insert(id, key.clone());
        let entry = Entry { binding, flow, holder, expires, refreshed: now, wake: expires };
        self.users.entry(key).or_default().push(entry);
        self.wake_again(now, id);
    }

    fn remove(&mut self, now: Instant, id: BindingId) -> Option<Entry> {
        let key = self.keys.remove(&id)?;
        let entries = self.users.get_mut(&key)?;
        let at = entries.iter().position(|entry| entry.binding.id == id)?;
        let mut entry = entries.remove(at);
        if entries.is_empty() {
            self.users.remove(&key);
        }
        if !entry.is_own() {
            self.foreign -= 1;
        } else if let Some(ids) = self.sources.get_mut(&entry.binding.source) {
            ids.remove(&id);
            if ids.is_empty() {
                self.sources.remove(&entry.binding.source);
            }
        }
        entry.binding.expires_in = entry.expires.saturating_duration_since(now);
        Some(entry)
    }

    /// Removes a binding. Returns the change that reports its end.
    fn end(&mut self, now: Instant, id: BindingId) -> Option<Change> {
        let entry = self.remove(now, id)?;
        let is_own = entry.is_own();
        let binding = Box::new(entry.binding);
        Some(if is_own { Change::Unbound(binding) } else { Change::Forgotten(binding) })
    }

    fn unregister_all(&mut self, now: Instant, register: &Register) -> Result<Vec<Change>, Refusal> {
        if self.of(&register.aor).any(|entry| is_outdated(entry, register)) {
            return Err(Refusal::OutOfOrder);
        }
        let ids: Vec<BindingId> = self.of(&register.aor).map(|entry| entry.binding.id).collect();
        Ok(ids.into_iter().flat_map(|id| self.unregister(now, id, register)).collect())
    }

    fn expire(&mut self, now: Instant, aor: &Aor) -> Vec<Change> {
        let ids: Vec<BindingId> =
            self.of(aor).filter(|entry| entry.expires <= now).map(|entry| entry.binding.id).collect();
        self.remove_all(now, ids)
    }

    /// Removes a user's bindings above the limit. The bindings that were not refreshed for the longest time are removed
    /// first.
    fn make_room(&mut self, now: Instant, aor: &Aor) -> Vec<Change> {
        let mut entries: Vec<(Instant, BindingId)> =
            self.of(aor).map(|entry| (entry.refreshed, entry.binding.id)).collect();
        // The sort is stable. So if two entries have the same instant, the later entry was refreshed later.
        entries.sort_by_key(|(refreshed, _)| *refreshed);
        let beyond = entries.len().saturating_sub(self.config.max_contacts);
        self.remove_all(now, entries.into_iter().take(beyond).map(|(_, id)| id).collect())
    }

    fn remove_all(&mut self, now: Instant, ids: Vec<BindingId>) -> Vec<Change> {
        ids.into_iter().filter_map(|id| self.end(now, id)).collect()
    }
}

impl Entry {
    /// Returns the preference among the bindings of a phone: the greatest value is used.
    fn preference(&self) -> (u16, bool, Instant) {
        // Only the other node knows whether a flow to it is open.
        (self.binding.q, is_open(self.flow) || !self.is_own(), self.refreshed)
    }

    fn is_own(&self) -> bool {
        self.holder == Holder::Own
    }

    fn has_contact(&self, uri: &Uri) -> bool {
        Uri::parse(self.binding.contact.as_bytes()).is_some_and(|own| own.is_equivalent(uri))
    }

    fn target(&self) -> ContactTarget {
        // A datagram can be sent to either address. A connection leads only to its source.
        let flow = match self.binding.direct {
            Some(direct) if !self.flow.transport.is_reliable() && self.is_own() => Flow { peer: direct, ..self.flow },
            _ => self.flow,
        };
        let node = match &self.holder {
            Holder::Own => None,
            Holder::Node { route } => route.clone(),
        };
        let Binding { contact, path, .. } = &self.binding;
        let path = path.iter().map(|path| Bytes::copy_from_slice(path.as_bytes()));
        let routes = node.into_iter().chain(path).collect();
        ContactTarget { contact: contact.clone(), routes, flow }
    }
}

fn preferred<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<&'a Entry> {
    entries.max_by_key(|entry| entry.preference())
}

/// Returns whether a message can be sent along the flow at once: over UDP, or over a connection that is open.
fn is_open(flow: Flow) -> bool {
    !flow.transport.is_reliable() || flow.connection.is_some()
}

fn key(aor: &Aor) -> Key {
    (aor.account.clone(), Arc::clone(&aor.username))
}

/// Returns whether the REGISTER is older than the binding (RFC 3261 §10.3 step 7).
fn is_outdated(entry: &Entry, register: &Register) -> bool {
    entry.binding.sip_call_id == register.sip_call_id && register.cseq <= entry.binding.cseq
}

/// Returns the address in the Contact, if the host in the Contact is the source host of the REGISTER. In this case
/// there is no NAT between the phone and the server. Returns `None` if the REGISTER came over UDP with `rport`, because
/// the phone is then reached at the source address of the REGISTER.
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
