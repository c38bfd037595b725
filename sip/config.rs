//! The operator's settings for SIP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::advertise::Advertise;
use crate::directory::Directory;
use crate::guard::Bans;
use crate::prack::Prack;
use crate::registrar::{Binding, RegistrarConfig};
use crate::trunk::Trunk;
use crate::trunk_acl::{TrunkAcl, TrunkName};

/// Settings of one [`crate::Endpoint`] and its sockets.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The sockets to bind, for example `udp://127.0.0.1:5060` or `tcp://[::1]:5060`. With port 0, the system chooses a
    /// free port.
    pub listen: Vec<String>,
    /// The addresses in Via and Contact. A socket for which no address stands writes its bound address.
    pub advertise: Advertise,
    /// The response to a request from a source outside every trunk.
    pub unknown_sources: UnknownSources,
    /// The value of the User-Agent and Server headers.
    pub user_agent: String,
    /// Maximum number of simultaneous legs. Above this number, an INVITE gets 503 with Retry-After.
    pub max_legs: usize,
    /// Maximum number of simultaneous transactions. Above this number, requests get 503 and commands fail.
    pub max_transactions: usize,
    /// Maximum number of simultaneous stream connections. At most a quarter of these connections may come from sources
    /// outside every trunk. A further connection is closed at once.
    pub max_connections: usize,
    /// Seconds without traffic after which a stream connection is closed. For connections from sources outside every
    /// trunk, this time is at most 30 s.
    pub connection_idle_seconds: u64,
    /// Maximum length, in octets, of a request over UDP, if the destination also supports TCP (RFC 3261 §18.1.1). 0
    /// means no limit.
    pub udp_max_request: usize,
    /// Milliseconds to wait for a response to an INVITE. If no response has come after this time, the next address or
    /// the next trunk is called.
    pub failover_ms: u32,
    /// Non-public networks that a call may reach, if the call goes to a SIP URI outside every trunk. `None` allows only
    /// loopback addresses, and only if every socket is bound to loopback.
    pub allow_networks: Option<Vec<IpNet>>,
    /// Session interval in seconds (RFC 4028). A session that is not refreshed ends after this time. The server
    /// requests this interval in every call, and does not accept a longer interval. With 0, the server requests no
    /// interval and accepts every interval that the far end requests.
    pub session_expires: u32,
    /// Minimum session interval, in seconds, that the far end may request. The value is at least 90. A request for a
    /// shorter interval gets 422.
    pub min_se: u32,
    /// Whether provisional responses are reliable (RFC 3262).
    pub prack: Prack,
    /// Whether the far end may use REFER. A REFER makes the server place a call, which is charged to an account. If the
    /// far end may not use REFER, the server responds with 403. A trunk may have a separate setting. A user that has
    /// authenticated with a password may always use REFER.
    pub refer: bool,
    /// Seconds between CRLF keep-alives on stream connections that the server opened (RFC 5626 §4.4.1), and between
    /// pings on WebSocket connections. 0 means no keep-alives.
    pub keep_alive_seconds: u64,
    /// DNS servers that are used instead of the system's DNS servers.
    pub nameservers: Vec<SocketAddr>,
    /// The certificates of `tls://` and `wss://` sockets. If a client names a host (SNI), it gets the certificate for
    /// this host. Any other client gets the first certificate.
    pub certificates: Vec<Certificate>,
    /// PEM file of the authorities that are trusted for the TLS certificates of far ends. If `None`, the public
    /// authorities are used.
    pub ca_file: Option<PathBuf>,
    /// Whether the endpoint emits [`crate::Event::Trace`].
    pub trace: bool,
    /// Maximum memory, in MiB, for the messages of live and recent calls ([`crate::Ladder`]). With 0, no messages are
    /// stored.
    pub trace_mib: u32,
    /// Settings of the registrar.
    pub registrar: RegistrarConfig,
    /// The capture server that receives a copy of every message in HEP version 3: `udp://HOST:PORT`.
    pub hep: Option<String>,
    /// The capture agent id in HEP packets.
    pub hep_id: u32,
    /// The password of the capture server.
    pub hep_password: Option<String>,
    /// Maximum lateness of the driver in milliseconds. If the driver is later than this, new INVITEs get 503 with
    /// Retry-After. 0 switches the check off.
    pub overload_ms: u64,
    /// Limits for sources outside every trunk.
    pub bans: Bans,
    /// The users that have a password, and this server's domains. The composition root sets this field.
    #[serde(skip)]
    pub directory: Arc<Directory>,
    /// Registrations that were stored before a restart. The composition root sets this field.
    #[serde(skip)]
    pub bindings: Vec<Binding>,
    /// The source networks of the trunks. The composition root sets this field; the networks do not come from the
    /// `[sip]` table.
    #[serde(skip)]
    pub trunks: Vec<TrunkAcl>,
    /// All other settings of the trunks. The composition root sets this field.
    #[serde(skip)]
    pub trunk_settings: Vec<Trunk>,
    /// Whether provisional responses are reliable, for each trunk that has this setting. The composition root sets this
    /// field.
    #[serde(skip)]
    pub prack_by_trunk: HashMap<TrunkName, Prack>,
    /// Whether the far end may use REFER, for each trunk that has this setting. The composition root sets this field.
    #[serde(skip)]
    pub refer_by_trunk: HashMap<TrunkName, bool>,
    /// The TLS settings of the trunks. A trunk without TLS settings is not in the list. The composition root sets this
    /// field.
    #[serde(skip)]
    pub tls_trunks: Vec<TrunkTls>,
    /// Address of an HTTP listener outside this crate. This listener passes WebSocket connections to SIP. The
    /// composition root sets this field.
    #[serde(skip)]
    pub websocket: Option<SocketAddr>,
    /// The base values of the timers of RFC 3261 §17. Only tests change these values.
    #[serde(skip)]
    pub timers: Timers,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["udp://127.0.0.1:5060".to_owned(), "tcp://127.0.0.1:5060".to_owned()],
            advertise: Advertise::default(),
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
            trunk_settings: Vec::new(),
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
    /// PEM file with the certificate and the intermediate certificates.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// The TLS settings for the connections of a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkTls {
    /// The configured name of the trunk.
    pub trunk: TrunkName,
    /// The name for which the trunk's certificate must be valid. If `None`, the certificate must be valid for the host
    /// of the trunk's URI.
    pub name: Option<String>,
    /// PEM file of the authorities that are trusted for the trunk's certificate. If `None`, [`Config::ca_file`] is
    /// used.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 fingerprints of the certificates that the trunk may use. If the list is not empty, the issuer and the
    /// name of the certificate are not checked.
    pub fingerprints: Vec<[u8; 32]>,
    /// The certificate that the server shows to the trunk. If `None`, the first of [`Config::certificates`] is used.
    pub certificate: Option<Certificate>,
    /// The networks from which inbound calls with the trunk's certificate may come (mutual TLS). An empty list allows
    /// any network. If this field is set, inbound calls need the trunk's certificate. The trunk's [`TrunkAcl`] then has
    /// no networks, because an address alone is not sufficient.
    pub mutual: Option<Vec<IpNet>>,
}

/// The response to a request from a source that matches no trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownSources {
    /// The server sends no response, so that scanners learn nothing.
    Silent,
    /// The server responds with 403 Forbidden.
    #[default]
    Reject,
}

/// The base values of all transaction timers (RFC 3261 §17.1.1.1, table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Estimated round-trip time; 500 ms by default.
    pub t1: Duration,
    /// Maximum retransmission interval of non-INVITE requests and of INVITE responses; 4 s by default.
    pub t2: Duration,
    /// Maximum time for which a message stays in the network; 5 s by default.
    pub t4: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timers {
    /// Returns 64*T1, which is the value of Timers B, F, H, J, L and M.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.t1 * 64
    }
}
