//! The operator's settings for SIP.

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
use crate::peer::Trunk;
use crate::registrar::{Binding, RegistrarConfig};
use crate::trunk::TrunkAcl;

/// Settings of one [`crate::Endpoint`] and its sockets.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The sockets to bind: `udp://127.0.0.1:5060`, `tcp://[::1]:5060`. Port 0 takes a free port.
    pub listen: Vec<String>,
    /// The `host` or `host:port` that Via and Contact contain instead of the bound address.
    pub advertise: Option<String>,
    /// The response to a request from a source outside every trunk.
    pub unknown_sources: UnknownSources,
    /// The value of the User-Agent and Server headers.
    pub user_agent: String,
    /// Most legs at the same time. A further INVITE gets 503 with Retry-After.
    pub max_legs: usize,
    /// Most transactions at the same time. Beyond them, requests get 503 and commands fail.
    pub max_transactions: usize,
    /// Most stream connections at the same time; at most a quarter of them from sources outside every trunk. A
    /// connection beyond the limit is closed at once.
    pub max_connections: usize,
    /// Seconds without traffic after which a stream connection is closed; at most 30 for sources outside every trunk.
    pub connection_idle_seconds: u64,
    /// Longest request, in octets, that is sent over UDP to a destination that supports TCP too (RFC 3261 §18.1.1); 0:
    /// no limit.
    pub udp_max_request: usize,
    /// Milliseconds without any response to an INVITE after which the next address or the next trunk is called.
    pub failover_ms: u32,
    /// Networks that are not public and that calls to SIP URIs outside every trunk may still reach. `None`: only
    /// loopback addresses, and only while every listening socket is bound to loopback.
    pub allow_networks: Option<Vec<IpNet>>,
    /// Session interval in seconds (RFC 4028): a session that is not refreshed ends after it. The server asks for it in
    /// every call, and it is the longest interval that the server accepts. 0: the server asks for none and accepts what
    /// the far end asks for.
    pub session_expires: u32,
    /// Shortest session interval in seconds that the far end may ask for, at least 90. A shorter one gets 422.
    pub min_se: u32,
    /// Use of reliable provisional responses.
    pub prack: Prack,
    /// Whether the far end may make the server place a call with REFER; otherwise it gets 403. A trunk may have its own
    /// setting, and a user that has authenticated with a password always may. Such a call is charged to an account.
    pub refer: bool,
    /// Seconds between CRLF keep-alives on stream connections that the server opened (RFC 5626 §4.4.1), and between
    /// pings on WebSocket connections; 0: none.
    pub keep_alive_seconds: u64,
    /// DNS servers to use instead of the system's.
    pub nameservers: Vec<SocketAddr>,
    /// The certificates of `tls://` and `wss://` sockets. A client that names a host (SNI) gets the certificate for
    /// that host, any other client the first certificate.
    pub certificates: Vec<Certificate>,
    /// PEM file of the authorities that TLS certificates of far ends are checked against; the public authorities when
    /// `None`.
    pub ca_file: Option<PathBuf>,
    /// Whether to emit [`crate::Event::Trace`].
    pub trace: bool,
    /// Most MiB for the messages of live and recent calls ([`crate::Ladder`]); 0 keeps none.
    pub trace_mib: u32,
    /// Settings of the registrar.
    pub registrar: RegistrarConfig,
    /// The capture server that receives every message in HEP version 3: `udp://HOST:PORT`.
    pub hep: Option<String>,
    /// The capture agent id in HEP packets.
    pub hep_id: u32,
    /// The password of the capture server.
    pub hep_password: Option<String>,
    /// Milliseconds that the driver may be late. Beyond them, new INVITEs get 503 with Retry-After. 0 switches the
    /// check off.
    pub overload_ms: u64,
    /// Limits for sources outside every trunk.
    pub bans: Bans,
    /// The users with a password, and this server's domains. Set by the composition root.
    #[serde(skip)]
    pub directory: Arc<Directory>,
    /// Registrations from before a restart. Set by the composition root.
    #[serde(skip)]
    pub bindings: Vec<Binding>,
    /// The source networks of the trunks. Set by the composition root, not read from the `[sip]` table.
    #[serde(skip)]
    pub trunks: Vec<TrunkAcl>,
    /// All other settings of the trunks. Set by the composition root.
    #[serde(skip)]
    pub peers: Vec<Trunk>,
    /// Use of reliable provisional responses for trunks with a setting of their own. Set by the composition root.
    #[serde(skip)]
    pub prack_by_trunk: HashMap<TrunkName, Prack>,
    /// Whether the far end may use REFER, for trunks with a setting of their own. Set by the composition root.
    #[serde(skip)]
    pub refer_by_trunk: HashMap<TrunkName, bool>,
    /// The TLS settings of trunks that have their own. Set by the composition root.
    #[serde(skip)]
    pub tls_trunks: Vec<TrunkTls>,
    /// Address of an HTTP listener outside this crate that passes WebSocket connections to SIP. Set by the composition
    /// root.
    #[serde(skip)]
    pub websocket: Option<SocketAddr>,
    /// The base timers of RFC 3261 §17. Only tests change them.
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

/// A certificate of this server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file of the certificate and the intermediate certificates.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// The TLS settings of a trunk's connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkTls {
    /// The trunk's configured name.
    pub trunk: TrunkName,
    /// The name that the trunk's certificate must be valid for; the host of its URI when `None`.
    pub name: Option<String>,
    /// PEM file of the authorities that the trunk's certificate is checked against; [`Config::ca_file`] when `None`.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 fingerprints of the certificates that the trunk may use. With them, issuer and name are not checked.
    pub fingerprints: Vec<[u8; 32]>,
    /// The certificate that the server shows to the trunk; the first of [`Config::certificates`] when `None`.
    pub certificate: Option<Certificate>,
    /// Inbound calls must come with the trunk's certificate (mutual TLS), from one of these networks, or from anywhere
    /// if the list is empty. The trunk's [`TrunkAcl`] then has no networks, because its addresses alone are not enough.
    pub mutual: Option<Vec<IpNet>>,
}

/// The response to a request from a source that matches no trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownSources {
    /// No response, so that scanners learn nothing.
    Silent,
    /// 403 Forbidden.
    #[default]
    Reject,
}

/// The base values of all transaction timers (RFC 3261 §17.1.1.1, table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Estimate of the round-trip time; 500 ms by default.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses; 4 s by default.
    pub t2: Duration,
    /// Longest time a message stays in the network; 5 s by default.
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
