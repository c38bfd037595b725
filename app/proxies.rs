//! The proxies in front of the nodes (Kamailio). One node, the first, tells them over JSON-RPC which nodes take calls. Without
//! it, a proxy notices a dead node only when the node has not answered its probes for some time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tandem_cluster::Cluster;
use tandem_http::{Client, NetworkPolicy, Request, Timeouts};
use tandem_store::nodes::{NodeDetails, NodeState};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Maximum time for an answer of a proxy.
const ANSWER: Duration = Duration::from_secs(1);

/// Interval at which all states are sent again, because a proxy may have been started again.
const REPEAT: Duration = Duration::from_secs(30);

/// Interval between two comparisons of the states.
const LOOK: Duration = Duration::from_millis(500);

/// The group of the nodes in the list of the dispatcher module.
const GROUP: u32 = 1;

/// The state of a node in the dispatcher module of Kamailio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Gets calls, and is probed.
    Active,
    /// Gets no calls. If it answers a probe, it gets calls again.
    Dead,
    /// Gets no calls, and is not probed.
    Draining,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Active => "ap",
            Self::Dead => "ip",
            Self::Draining => "d",
        }
    }
}

/// Tells the proxies about the nodes for as long as the server runs. `changed` wakes it early.
pub(super) async fn run(cluster: Cluster, proxies: Vec<Arc<str>>, changed: Arc<Notify>) {
    if proxies.is_empty() {
        return;
    }
    let client = match Client::new(NetworkPolicy::everywhere(), ANSWER) {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "the proxies of the cluster cannot be told about the nodes"),
    };
    // The nodes that were seen. A node that is gone stays: the proxy must not call it.
    let mut states: BTreeMap<String, State> = BTreeMap::new();
    let mut told: BTreeMap<(Arc<str>, String), (State, Instant)> = BTreeMap::new();
    let mut is_silent = false;
    loop {
        // A missed wake-up costs at most the interval.
        let _ = tokio::time::timeout(LOOK, changed.notified()).await;
        if !cluster.is_first() {
            told.clear();
            continue;
        }
        note_states(&cluster, &mut states);
        for proxy in &proxies {
            for (address, state) in &states {
                let key = (Arc::clone(proxy), address.clone());
                let is_due = |(last, at): &(State, Instant)| last != state || at.elapsed() >= REPEAT;
                if !told.get(&key).is_none_or(is_due) {
                    continue;
                }
                match tell(&client, proxy, address, *state).await {
                    Ok(()) => {
                        is_silent = false;
                        told.insert(key, (*state, Instant::now()));
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut is_silent, true) {
                            tracing::warn!("cluster.proxies: {proxy} does not take the state of {address}: {error}");
                        }
                        // The other addresses would wait for the same proxy.
                        break;
                    }
                }
            }
        }
    }
}

/// Updates the states of all nodes that were ever seen.
fn note_states(cluster: &Cluster, states: &mut BTreeMap<String, State>) {
    states.values_mut().for_each(|state| *state = State::Dead);
    for node in cluster.others() {
        let state = if node.state == NodeState::Draining { State::Draining } else { State::Active };
        states.extend(address(&node.details).map(|address| (address, state)));
    }
    if let Some(own) = cluster.own_details() {
        let state = if cluster.refusal().is_some() { State::Draining } else { State::Active };
        states.extend(address(&own).map(|address| (address, state)));
    }
}

/// Returns the URI of a node as the list of the dispatcher module has it.
fn address(node: &NodeDetails) -> Option<String> {
    let (transport, address) = node.sip.split_once("://")?;
    Some(if transport == "udp" { format!("sip:{address}") } else { format!("sip:{address};transport={transport}") })
}

async fn tell(client: &Client, proxy: &str, address: &str, state: State) -> Result<(), String> {
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "dispatcher.set_state", "params": [state.word(), GROUP, address],
    });
    let request = Request {
        method: "POST".parse().map_err(|_| "POST".to_owned())?,
        url: proxy.to_owned(),
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes().into(),
        timeouts: Timeouts { connect: Some(ANSWER), total: ANSWER },
        max_body: 64 * 1024,
    };
    let response = client.send(&request).await.map_err(|error| error.to_string())?;
    let answer: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    match (response.status, answer.get("error")) {
        (200, None) => Ok(()),
        (status, error) => {
            Err(format!("status {status}{}", error.map(|error| format!(", {error}")).unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_knows_a_node_by_its_sip_address() {
        let node = |sip: &str| NodeDetails { sip: sip.into(), ..NodeDetails::default() };
        assert_eq!(address(&node("udp://10.0.0.1:5060")).as_deref(), Some("sip:10.0.0.1:5060"));
        assert_eq!(address(&node("tcp://[fd00::1]:5060")).as_deref(), Some("sip:[fd00::1]:5060;transport=tcp"));
        assert_eq!(address(&node("")), None);
    }
}
