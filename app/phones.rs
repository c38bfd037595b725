//! The phones of a cluster: a phone that has registered at one node is called from all nodes.
//!
//! The database has all registrations with their nodes. A node tells the others of each change at once, and each node
//! reads the database now and then, because a note may be lost. A call to a phone of another node goes through this
//! node, which has the connection to the phone (`sip/endpoint/edge.rs`).

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tandem_cluster::Cluster;
use tandem_config::Config;
use tandem_host::clock;
use tandem_routing::phones::{self, PhoneNote};
use tandem_runtime::services::Services;
use tandem_sip::{self as sip, Transport};
use tandem_store::StoreError;
use tandem_store::bindings::{self, BindingRow};
use tandem_store::nodes::{Hops, NodeRow};
use tokio::time::Instant;

/// The registrations at other nodes that this node knows.
pub(super) struct OtherPhones {
    services: Arc<Services>,
    /// The names of the nodes, by the id of a registration that needs its node, and when it was learned. A registration
    /// through a proxy does not need its node.
    nodes: Mutex<HashMap<u128, (String, Instant)>>,
    /// The registrations at nodes whose addresses are not known yet, with the epochs of the nodes: a phone may register
    /// right after the start of a node.
    early: Mutex<Vec<(i64, BindingRow)>>,
}

/// Time within which a node has stored a registration that it has told.
const STORED_WITHIN: Duration = Duration::from_secs(10);

/// Maximum number of registrations that wait for the addresses of their nodes. Further ones are read from the database.
const EARLY: usize = 1_000;

impl OtherPhones {
    /// Starts to receive the notes of other nodes.
    pub(super) fn new(services: &Arc<Services>) -> Arc<Self> {
        let phones =
            Arc::new(Self { services: Arc::clone(services), nodes: Mutex::default(), early: Mutex::default() });
        let receiver = Arc::downgrade(&phones);
        services.cluster.listen(move |note: PhoneNote, sender| {
            let Some(phones) = receiver.upgrade() else { return };
            match note {
                PhoneNote::Bound(row) => {
                    let node = phones.services.cluster.other(sender);
                    match node.filter(|node| !node.details.addresses.is_empty()) {
                        Some(node) => phones.learn(*row, &node),
                        None => {
                            let mut early = phones.early.lock();
                            if early.len() < EARLY {
                                early.push((sender, *row));
                            }
                        }
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
        // The end of a registration may have been missed. A new registration is stored within a second.
        let stored: HashSet<u128> = rows.iter().map(|row| row.id).collect();
        let is_gone = |(id, (_, learned)): &(&u128, &(String, Instant))| {
            !stored.contains(*id) && learned.elapsed() > STORED_WITHIN
        };
        let gone: Vec<u128> = self.nodes.lock().iter().filter(is_gone).map(|(id, _)| *id).collect();
        // The notes are newer than the rows.
        let early = std::mem::take(&mut *self.early.lock());
        let early =
            early.into_iter().filter_map(|(epoch, row)| Some((row, others.iter().find(|one| one.epoch == epoch)?)));
        let early: Vec<_> = early.collect();
        for row in rows {
            let node = others.iter().find(|node| row.node.as_deref() == Some(&*node.name));
            if let Some(node) = node {
                self.learn(row, node);
            }
        }
        early.into_iter().for_each(|(row, node)| self.learn(row, node));
        gone.into_iter().for_each(|id| self.forget(id));
    }

    /// Removes the registrations that need this node, because it takes part no more.
    pub(super) fn node_left(&self, node: &NodeRow) {
        let gone: Vec<u128> = {
            let mut nodes = self.nodes.lock();
            let gone: Vec<u128> = nodes.iter().filter(|(_, (name, _))| *name == node.name).map(|(id, _)| *id).collect();
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
            self.nodes.lock().insert(id, (node.name.clone(), Instant::now()));
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
pub(super) async fn publish_addresses(
    cluster: &Cluster,
    config: &Config,
    sip: &sip::transport::Handle,
) -> Result<(), StoreError> {
    let named = config.cluster.sip.as_deref().and_then(|text| text.split_once("://"));
    let named: Option<SocketAddr> = named.and_then(|(_, address)| address.parse().ok());
    let ip = named.map(|address| address.ip()).or_else(|| sip.local_addrs().first().map(|(_, address)| address.ip()));
    let Some(ip) = ip else { return Ok(()) };
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
    cluster.publish_sip(shown, hops, addresses).await
}
