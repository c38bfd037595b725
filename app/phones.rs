//! The phones of a cluster: a phone that has registered at one node is called from all nodes.
//!
//! The database has all registrations with their nodes. A node tells the others of each change at once, and each node
//! reads the database now and then, because a note may be lost. A call to a phone of another node goes through this
//! node, which has the connection to the phone (`sip/endpoint/edge.rs`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tandem_cluster::Cluster;
use tandem_config::Config;
use tandem_host::clock;
use tandem_routing::phones::{self, PhoneNote};
use tandem_runtime::services::Services;
use tandem_sip::{self as sip, Transport};
use tandem_store::bindings::{self, BindingRow};
use tandem_store::nodes::{Hops, NodeRow};

/// The registrations at other nodes that this node knows.
pub(super) struct OtherPhones {
    services: Arc<Services>,
    /// The names of the nodes, by the id of a registration that needs its node. A registration through a proxy does not.
    nodes: Mutex<HashMap<u128, String>>,
}

impl OtherPhones {
    /// Starts to receive the notes of other nodes.
    pub(super) fn new(services: &Arc<Services>) -> Arc<Self> {
        let phones = Arc::new(Self { services: Arc::clone(services), nodes: Mutex::default() });
        let receiver = Arc::downgrade(&phones);
        services.cluster.listen(move |note: PhoneNote, sender| {
            let Some(phones) = receiver.upgrade() else { return };
            match note {
                PhoneNote::Bound(row) => {
                    if let Some(node) = phones.services.cluster.others().into_iter().find(|node| node.epoch == sender) {
                        phones.learn(*row, &node);
                    }
                }
                PhoneNote::Unbound(id) => phones.forget(id),
            }
        });
        phones
    }

    /// Tells SIP which nodes there are, and reads their registrations from the database.
    pub(super) async fn read(&self) {
        let others = self.services.cluster.others();
        let addresses: Vec<SocketAddr> = others.iter().flat_map(|node| node.details.addresses.clone()).collect();
        self.services.sip.post(sip::Command::Nodes(addresses));
        let rows = match bindings::list(&self.services.store, clock::time()).await {
            Ok(rows) => rows,
            Err(error) => return tracing::warn!(%error, "the phones of other nodes cannot be read"),
        };
        for row in rows {
            let node = others.iter().find(|node| row.node.as_deref() == Some(&*node.name));
            if let Some(node) = node {
                self.learn(row, node);
            }
        }
    }

    /// Removes the registrations that need this node, because it takes part no more.
    pub(super) fn node_left(&self, node: &NodeRow) {
        let gone: Vec<u128> = {
            let mut nodes = self.nodes.lock();
            let gone: Vec<u128> = nodes.iter().filter(|(_, name)| **name == node.name).map(|(id, _)| *id).collect();
            gone.iter().for_each(|id| drop(nodes.remove(id)));
            gone
        };
        gone.into_iter().for_each(|id| self.services.sip.post(sip::Command::Forget(sip::BindingId(id))));
    }

    fn learn(&self, row: BindingRow, node: &NodeRow) {
        let id = row.id;
        let Some(binding) = phones::binding(row, clock::time()) else { return };
        let hop = match binding.transport {
            Transport::Udp => node.details.hops.udp.map(|hop| (hop, "udp")),
            _ => node.details.hops.tcp.map(|hop| (hop, "tcp")),
        };
        let Some((hop, transport)) = hop else {
            return tracing::debug!(node = node.name, "a phone of a node without a SIP address for its transport");
        };
        if binding.path.is_empty() {
            self.nodes.lock().insert(id, node.name.clone());
        }
        let node = format!("sip:{hop};transport={transport}");
        self.services.sip.post(sip::Command::Learn { binding: Box::new(binding), node });
    }

    fn forget(&self, id: u128) {
        self.nodes.lock().remove(&id);
        self.services.sip.post(sip::Command::Forget(sip::BindingId(id)));
    }
}

/// Publishes the SIP addresses of this node.
pub(super) fn publish_addresses(cluster: &Cluster, config: &Config, sip: &sip::transport::Handle) {
    let named = config.cluster.sip.as_deref().and_then(|text| text.split_once("://"));
    let named: Option<SocketAddr> = named.and_then(|(_, address)| address.parse().ok());
    let ip = named.map(|address| address.ip()).or_else(|| sip.local_addrs().first().map(|(_, address)| address.ip()));
    let Some(ip) = ip else { return };
    let hop = |transport: Transport| -> Option<SocketAddr> {
        let fits = |bound: IpAddr| bound == ip || bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4();
        let sockets = sip.local_addrs().iter().filter(|(own, bound)| *own == transport && fits(bound.ip()));
        // Port translation on the way to this node is possible for the named address only.
        sockets.map(|(_, bound)| SocketAddr::new(ip, bound.port())).next()
    };
    let hops = Hops { udp: hop(Transport::Udp), tcp: hop(Transport::Tcp) };
    let mut addresses = sip.node_addresses().to_vec();
    addresses.extend([hops.udp, hops.tcp].into_iter().flatten().chain(named));
    addresses.sort_unstable();
    addresses.dedup();
    let shown = match (&config.cluster.sip, hops.udp, hops.tcp) {
        (Some(named), ..) => named.to_string(),
        (None, Some(udp), _) => format!("udp://{udp}"),
        (None, None, Some(tcp)) => format!("tcp://{tcp}"),
        (None, None, None) => String::new(),
    };
    cluster.set_sip(shown, hops, addresses);
}
