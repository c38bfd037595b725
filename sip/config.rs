//! What an operator sets for SIP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::directory::Directory;
use crate::guard::Bans;
use crate::leg::{Prack, TrunkName};
use crate::peer::Peer;
use crate::registrar::{Binding, RegistrarConfig};
use crate::trunk::TrunkAcl;

/// Settings of one [`crate::Endpoint`] and its sockets.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Sockets to bind: `udp://127.0.0.1:5060`, `tcp://[::1]:5060`. Port 0 takes a free one.
    pub listen: Vec<String>,
    /// `host` or `host:port` that Via and Contact say instead of the bound address.
    pub advertise: Option<String>,
    /// What a request from a source outside every trunk gets.
    pub unknown_sources: UnknownSources,
    /// User-Agent and Server header.
    pub user_agent: String,
    /// Most legs at a time; an INVITE beyond them gets 503 with Retry-After.
    pub max_legs: usize,
    /// Most transactions at a time; beyond them requests get 503 and commands fail.
    pub max_transactions: usize,
    /// Most stream connections at a time, a quarter of them from sources outside every trunk; beyond them a new connection
    /// is closed at once.
    pub max_connections: usize,
    /// Seconds without traffic after which a stream connection is closed; 30 at most for sources outside every trunk.
    pub connection_idle_seconds: u64,
    /// Longest request in octets that goes over UDP to a peer that takes TCP too (RFC 3261 §18.1.1); 0: any length.
    pub udp_max_request: usize,
    /// Milliseconds that an INVITE may go without any response before the next address, or the next trunk, is called.
    pub failover_ms: u32,
    /// Networks that are not public and that calls to SIP URIs of no trunk may go to all the same. `None`: none but this
    /// machine's own, and that only as long as every socket of ours is on it.
    pub allow_networks: Option<Vec<IpNet>>,
    /// Seconds after which a session ends that nobody refreshes (RFC 4028): asked for in every call, and taken as the most
    /// when a peer asks; 0 asks for none and takes what a peer asks for.
    pub session_expires: u32,
    /// Fewest such seconds that a peer may ask for, at least 90; less gets 422.
    pub min_se: u32,
    /// Reliable provisional responses.
    pub prack: Prack,
    /// Whether a peer may have us call somebody with REFER, where its trunk has no word of its own on it and it is no user who
    /// has shown its password; else it gets 403. Whoever may has us call at somebody's expense.
    pub refer: bool,
    /// Seconds between the CRLF keep-alives of the stream connections we opened (RFC 5626 §4.4.1) and the pings of WebSocket
    /// connections; 0: none.
    pub keep_alive_seconds: u64,
    /// DNS servers to ask instead of the system's.
    pub nameservers: Vec<SocketAddr>,
    /// What `tls://` and `wss://` sockets show; a caller that names a host gets the certificate for it, else the first.
    pub certificates: Vec<Certificate>,
    /// PEM file of the authorities that TLS peers' certificates are checked against; the public ones when `None`.
    pub ca_file: Option<PathBuf>,
    /// Emit [`crate::Event::Trace`].
    pub trace: bool,
    /// MiB that the messages of live and recent calls may take ([`crate::Ladder`]); 0 keeps none.
    pub trace_mib: u32,
    /// Phones that register.
    pub registrar: RegistrarConfig,
    /// A capture server that is told of every message in HEP 3: `udp://HOST:PORT`.
    pub hep: Option<String>,
    /// The capture agent id that it is told.
    pub hep_id: u32,
    /// Its password.
    pub hep_password: Option<String>,
    /// Milliseconds that the driver may be late; beyond them new INVITEs get 503 with Retry-After. 0: never for this.
    pub overload_ms: u64,
    /// What sources outside every trunk may do.
    pub bans: Bans,
    /// Who has a password here, and our domains. Filled by the composition root.
    #[serde(skip)]
    pub directory: Arc<Directory>,
    /// Phones that were registered before a restart. Filled by the composition root.
    #[serde(skip)]
    pub bindings: Vec<Binding>,
    /// Peers, filled by the composition root rather than read from the `[sip]` table.
    #[serde(skip)]
    pub trunks: Vec<TrunkAcl>,
    /// What those are beyond their sources; filled likewise.
    #[serde(skip)]
    pub peers: Vec<Peer>,
    /// Reliable provisional responses of trunks that have their own word on it.
    #[serde(skip)]
    pub prack_by_trunk: HashMap<TrunkName, Prack>,
    /// Whether trunks that have their own word on it may transfer.
    #[serde(skip)]
    pub refer_by_trunk: HashMap<TrunkName, bool>,
    /// The trunks that have TLS settings of their own; filled likewise.
    #[serde(skip)]
    pub tls_trunks: Vec<TrunkTls>,
    /// An address of a listener that is not ours, which hands us WebSocket connections; filled likewise.
    #[serde(skip)]
    pub websocket: Option<SocketAddr>,
    /// RFC 3261 §17's base timers; changed by tests only.
    #[serde(skip)]
    pub timers: Timers,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["udp://127.0.0.1:5060".to_owned(), "tcp://127.0.0.1:5060".to_owned()],
            advertise: None,
            unknown_sources: UnknownSources::Reject,
            user_agent: concat!("Tandem/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_legs: 20_000,
            max_transactions: 200_000,
            max_connections: 4_096,
            connection_idle_seconds: 3_600,
            udp_max_request: 1_300,
            failover_ms: 3_000,
            allow_networks: None,
            session_expires: 1_800,
            min_se: 90,
            prack: Prack::default(),
            refer: false,
            keep_alive_seconds: 30,
            nameservers: Vec::new(),
            certificates: Vec::new(),
            ca_file: None,
            trace: true,
            trace_mib: 32,
            registrar: RegistrarConfig::default(),
            hep: None,
            hep_id: 2_001,
            hep_password: None,
            overload_ms: 500,
            bans: Bans::default(),
            directory: Arc::default(),
            bindings: Vec::new(),
            trunks: Vec::new(),
            peers: Vec::new(),
            prack_by_trunk: HashMap::new(),
            refer_by_trunk: HashMap::new(),
            tls_trunks: Vec::new(),
            websocket: None,
            timers: Timers::default(),
        }
    }
}

/// A certificate of ours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file of the certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// How a trunk's connections over TLS are made and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkTls {
    /// The trunk.
    pub trunk: TrunkName,
    /// The name that its certificate has to be for; the host of its URI when `None`.
    pub name: Option<String>,
    /// PEM file of the authorities its certificate is checked against; [`Config::ca_file`] when `None`.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the certificates it may have, whoever issued them, for whatever name.
    pub fingerprints: Vec<[u8; 32]>,
    /// What we show it; the first of [`Config::certificates`] when `None`.
    pub certificate: Option<Certificate>,
    /// It calls in with its certificate only; from any of these networks, or from anywhere when there are none. Its
    /// [`TrunkAcl`] has no networks then: its addresses alone are not enough.
    pub mutual: Option<Vec<IpNet>>,
}

/// The answer to a request from a source that matches no trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownSources {
    /// None at all, so that scanners learn nothing.
    Silent,
    /// 403 Forbidden.
    #[default]
    Reject,
}

/// The base values every transaction timer derives from (RFC 3261 §17.1.1.1, table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Round-trip estimate.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses.
    pub t2: Duration,
    /// Longest time a message stays in the network.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timers {
    /// 64*T1: Timers B, F, H, J, L and M.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.t1 * 64
    }
}
