//! Finds the addresses of a URI (RFC 3263 §4) in tasks outside the driver.
//!
//! ```text
//!  host ─ no port, no transport ─> NAPTR ─> SRV of the named services ─┐
//!    ├──── no port ──────────────────────> SRV of the transport ───────┼─> A, AAAA of each target
//!    └──── port ───────────────────────────────────────────────────────┴─> A, AAAA of the host
//! ```
//!
//! DNS answers are cached for their TTL. The cache time has a minimum and a maximum, and the number of cached answers
//! is limited.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::rr::{RData, RecordType};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::timeout;

use crate::endpoint::LookupId;
use crate::flow::{Target, Transport};
use crate::leg::EndCause;
use crate::message::{Host, Uri};
use crate::trunk_acl::TrunkName;

/// Time limit for a whole lookup, with all its queries.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for one attempt of one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Minimum and maximum time for which an answer is cached, if the answer is not negative.
const CACHE_TIME: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3_600));
const NEGATIVE_CACHE_TIME: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Maximum number of answers in the cache. If the cache is full, the oldest answers are dropped.
const CACHE_SIZE: u64 = 4_096;
/// Maximum number of targets that are tried for one request.
const MAX_TARGETS: usize = 16;

/// A list of transports. The first flag says whether the transport has an IPv4 socket. The second flag says whether the
/// transport has an IPv6 socket.
pub(super) type Usable = Vec<(Transport, (bool, bool))>;

/// The result of a lookup, for the driver.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) lookup: LookupId,
    pub(super) uri: String,
    pub(super) trunk: Option<TrunkName>,
    pub(super) found: Result<Vec<Target>, EndCause>,
}

/// Resolves names with DNS. If there is no DNS configuration, the system's resolver is used.
pub(super) struct Resolver {
    dns: Option<TokioResolver>,
    rng: Mutex<StdRng>,
}

/// One SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Srv {
    priority: u16,
    weight: u16,
    port: u16,
    target: String,
}

impl Resolver {
    /// Creates a resolver that queries these name servers. If the list is empty, the resolver queries the system's name
    /// servers. `seed` determines the random order of SRV records with the same priority.
    pub(super) fn new(nameservers: &[SocketAddr], seed: [u8; 32]) -> Self {
        let dns = match nameservers {
            [] => TokioResolver::builder_tokio(),
            _ => {
                let servers = nameservers.iter().map(|server| {
                    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                        connection.port = server.port();
                        connection
                    });
                    NameServerConfig::new(server.ip(), true, connections.to_vec())
                });
                let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
                Ok(TokioResolver::builder_with_config(config, Default::default()))
            }
        };
        let dns = dns.and_then(|builder| builder.with_options(options()).build());
        let dns = dns.inspect_err(|error| tracing::warn!("SIP: NAPTR and SRV records are not used: {error}"));
        Self { dns: dns.ok(), rng: Mutex::new(StdRng::from_seed(seed)) }
    }

    /// Returns the targets of a SIP URI that have a usable transport and address family, best target first.
    ///
    /// # Errors
    /// [`EndCause::Unresolved`] if there is no target. [`EndCause::NoSocket`] if no target is usable.
    pub(super) async fn resolve(&self, uri: &str, usable: &Usable) -> Result<Vec<Target>, EndCause> {
        let found = match timeout(LOOKUP_TIMEOUT, self.find_targets(uri, usable)).await {
            Ok(found) => found?,
            Err(_) => Vec::new(),
        };
        if found.is_empty() {
            tracing::debug!(uri, "cannot resolve the URI");
            return Err(EndCause::Unresolved);
        }
        let fits = |target: &Target| {
            let families = usable.iter().find(|(one, _)| *one == target.transport).map(|(_, families)| *families);
            families.is_some_and(|(ipv4, ipv6)| if target.address.is_ipv4() { ipv4 } else { ipv6 })
        };
        let mut found: Vec<_> = found.into_iter().filter(fits).collect();
        found.truncate(MAX_TARGETS);
        if found.is_empty() { Err(EndCause::NoSocket) } else { Ok(found) }
    }

    async fn find_targets(&self, uri: &str, usable: &Usable) -> Result<Vec<Target>, EndCause> {
        let destination = Uri::parse(uri.as_bytes()).and_then(|uri| uri.destination()).ok_or(EndCause::Invalid)?;
        let transport = destination.transport;
        let default = transport.unwrap_or(Transport::Udp);
        let port = destination.port.unwrap_or(default.default_port());
        let host = match destination.host {
            Host::Ip(ip) => return Ok(vec![Target { transport: default, address: (ip, port).into(), identity: None }]),
            Host::Name(host) => host,
        };
        if destination.port.is_none() && self.dns.is_some() {
            let speaks = |one: Transport| usable.iter().any(|(known, (ipv4, ipv6))| *known == one && (*ipv4 || *ipv6));
            let services = match transport {
                Some(transport) => srv_name(transport, &host).map(|name| (transport, name)).into_iter().collect(),
                None => self.services(&host, speaks).await,
            };
            let mut found = Vec::new();
            for (transport, name) in services {
                for Srv { target, port, .. } in self.srv(&name).await {
                    found.extend(self.addresses(&target, port, transport).await);
                    if found.len() >= MAX_TARGETS {
                        return Ok(found);
                    }
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(self.addresses(&host, port, default).await)
    }

    /// Returns the transports that a host offers, with the names of their SRV records. The order is the host's order of
    /// preference (RFC 3263 §4.1).
    async fn services(&self, host: &str, speaks: impl Fn(Transport) -> bool) -> Vec<(Transport, String)> {
        let answers = self.ask(host, RecordType::NAPTR).await;
        let mut offers: Vec<_> = answers
            .iter()
            .filter_map(|answer| match answer {
                RData::NAPTR(naptr) if naptr.flags.eq_ignore_ascii_case(b"s") => {
                    let transport = service(&naptr.services).filter(|transport| speaks(*transport))?;
                    Some((naptr.order, naptr.preference, transport, naptr.replacement.to_ascii()))
                }
                _ => None,
            })
            .collect();
        offers.sort_by_key(|(order, preference, ..)| (*order, *preference));
        if !offers.is_empty() {
            return offers.into_iter().map(|(_, _, transport, name)| (transport, name)).collect();
        }
        let ours = [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter().filter(|one| speaks(*one));
        ours.filter_map(|transport| Some((transport, srv_name(transport, host)?))).collect()
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        let answers = self.ask(name, RecordType::SRV).await;
        let records = answers.iter().filter_map(|answer| match answer {
            // The target "." means that the host does not offer the service (RFC 2782).
            RData::SRV(srv) if !srv.target.is_root() => {
                Some(Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target: srv.target.to_ascii() })
            }
            _ => None,
        });
        in_order(records.collect(), &mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Vec<RData> {
        let Some(dns) = &self.dns else { return Vec::new() };
        match dns.lookup(absolute(name), kind).await {
            Ok(found) => found.answers().iter().map(|record| record.data.clone()).collect(),
            Err(error) => {
                if !error.is_no_records_found() {
                    tracing::debug!(name, %kind, %error, "DNS query failed");
                }
                Vec::new()
            }
        }
    }

    async fn addresses(&self, host: &str, port: u16, transport: Transport) -> Vec<Target> {
        let target = |ip| Target { transport, address: SocketAddr::new(ip, port), identity: None };
        match &self.dns {
            Some(dns) => match dns.lookup_ip(absolute(host)).await {
                Ok(found) => found.iter().map(target).collect(),
                Err(error) => {
                    tracing::debug!(host, %error, "DNS query failed");
                    Vec::new()
                }
            },
            None => match tokio::net::lookup_host((host.trim_end_matches('.'), port)).await {
                Ok(found) => found.map(|address| target(address.ip())).collect(),
                Err(_) => Vec::new(),
            },
        }
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = QUERY_TIMEOUT;
    options.attempts = 2;
    options.cache_size = CACHE_SIZE;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    (options.positive_min_ttl, options.positive_max_ttl) = (Some(CACHE_TIME.0), Some(CACHE_TIME.1));
    (options.negative_min_ttl, options.negative_max_ttl) = (Some(NEGATIVE_CACHE_TIME.0), Some(NEGATIVE_CACHE_TIME.1));
    options
}

/// Returns the name as an absolute name, for which DNS uses no search list. A name without a dot may be a host of the
/// local domain, so this name is returned unchanged.
fn absolute(name: &str) -> String {
    if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.to_owned() }
}

/// Returns the transport of a NAPTR service (RFC 3263 §4.1). WebSocket services (RFC 7118 §8.4) are ignored, because
/// the server does not open WebSocket connections.
fn service(service: &[u8]) -> Option<Transport> {
    [(&b"SIPS+D2T"[..], Transport::Tls), (b"SIP+D2T", Transport::Tcp), (b"SIP+D2U", Transport::Udp)]
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(service))
        .map(|(_, transport)| transport)
}

fn srv_name(transport: Transport, host: &str) -> Option<String> {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws | Transport::Wss => return None,
    };
    Some(format!("{service}.{host}"))
}

/// Sorts the records by priority, lowest first. Records with the same priority are put in a random order. In this
/// order, a record with a larger weight is more likely to come early (RFC 2782).
fn in_order(mut records: Vec<Srv>, rng: &mut impl Rng) -> Vec<Srv> {
    // Records with weight 0 are put first here, so that they have a small chance to be selected.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let equals = records.iter().take_while(|record| record.priority == priority);
        let all: u64 = equals.clone().map(|record| u64::from(record.weight)).sum();
        let mut left = rng.next_u64() % (all + 1);
        let chosen = equals
            .map(|record| u64::from(record.weight))
            .position(|weight| {
                let found = weight >= left;
                left = left.saturating_sub(weight);
                found
            })
            .unwrap_or(0);
        ordered.push(records.remove(chosen));
    }
    ordered
}

/// Returns the host of a SIP URI. The server's certificate must be valid for this host.
pub(super) fn host_of(uri: &str) -> Option<String> {
    match Uri::parse(uri.as_bytes())?.destination()?.host {
        Host::Ip(ip) => Some(ip.to_string()),
        Host::Name(name) => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_records_are_ordered_by_priority_and_then_by_weight() {
        let srv = |priority, weight, target: &str| Srv { priority, weight, port: 5060, target: target.to_owned() };
        let records = vec![srv(20, 0, "last"), srv(10, 30, "a"), srv(10, 10, "b"), srv(10, 0, "never")];
        let mut rng = StdRng::from_seed([7; 32]);
        let mut firsts = std::collections::HashMap::new();
        for _ in 0..4_000 {
            let ordered = in_order(records.clone(), &mut rng);
            assert_eq!(ordered.len(), 4);
            assert_eq!(ordered.last().unwrap().target, "last");
            *firsts.entry(ordered.first().unwrap().target.clone()).or_insert(0) += 1;
        }
        let (a, b) = (firsts["a"], firsts["b"]);
        assert!((2_700..3_100).contains(&a) && (800..1_150).contains(&b), "{firsts:?}");
    }
}
