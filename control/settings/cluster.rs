//! `[cluster]`: the settings of a server that is one of several equal nodes.

use std::sync::Arc;

use serde::Deserialize;

use super::Secret;

/// The settings of `[cluster]`. Without `node`, the server is alone.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// The name of this node. Each node of a cluster has another name.
    pub node: Option<Arc<str>>,
    /// The NATS servers, in the form `nats://HOST:PORT`. Commas separate several servers. A URL may have a user name and
    /// a password, or a token.
    pub bus: Option<Secret>,
    /// The SIP address that other nodes and proxies use for this node, in the form `udp://ADDRESS:PORT`. `None`: the
    /// first address of `sip.listen`.
    pub sip: Option<Arc<str>>,
    /// The JSON-RPC URLs of the proxies in front of the nodes (Kamailio). A node tells them which nodes take calls.
    pub proxies: Vec<Arc<str>>,
}

impl ClusterConfig {
    /// Whether this server is a node of a cluster.
    pub fn is_on(&self) -> bool {
        self.node.is_some()
    }

    /// Returns the URLs of the NATS servers.
    pub fn bus_servers(&self) -> impl Iterator<Item = &str> {
        let servers = self.bus.iter().flat_map(|bus| bus.expose().split(','));
        servers.map(str::trim).filter(|server| !server.is_empty())
    }
}
