//! The calls of other nodes of the cluster. A request that names a call in its path goes to the owner as a whole
//! (`control/server/owner.rs`). This module answers the other questions about a call.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tandem_call::command::{Accepted, Command, Refused, Request};
use tandem_call::leg::LegInfo;
use tandem_cluster::{CHANGE_TIME, Question};
use tandem_id::LegId;
use tandem_store::nodes::NodeRow;

use super::Calls;

/// Asks the owner of a leg to perform a request.
#[derive(Serialize, Deserialize)]
struct Requested {
    leg: LegId,
    request: Request,
}

impl Question for Requested {
    const NAME: &'static str = "request";
    type Answer = Result<Accepted, Refused>;
}

impl Calls {
    /// Answers the questions of other nodes.
    pub(super) fn answer_other_nodes(&self) {
        let calls = self.clone();
        self.services().cluster.answer(move |asked: Requested| {
            let calls = calls.clone();
            async move { calls.request_here(asked.leg, asked.request).await }
        });
        self.registry().serve_remote_legs();
        let registry = self.registry().clone();
        self.services().queues.connect_with(move |pair| registry.connect_to_agent(Some(pair)));
    }

    /// A node is gone: the calls with its pages and the bridges with its legs end, and its legs leave the conferences and the
    /// queues.
    pub fn node_left(&self, node: &NodeRow) {
        self.node_of_pages_left(node.epoch);
        self.services().conferences.node_left(node);
        self.registry().node_of_remotes_left(node.epoch);
        self.services().queues.node_left(node);
    }

    /// Sends a request to the owner of a leg, if this is another node.
    pub(super) async fn request_elsewhere(&self, leg: LegId, request: &Request) -> Option<Result<Accepted, Refused>> {
        let cluster = &self.services().cluster;
        let node = cluster.other_owner_of(leg.0)?;
        // The conference of this node must know the change before the client hears of it.
        let changes_guest = matches!(request.command, Command::ChangeInConference(_) | Command::LeaveConference);
        let changing = changes_guest.then(|| self.services().conferences.next_change_of_guest(leg)).flatten();
        let requested = Requested { leg, request: request.clone() };
        let answer = cluster.ask_within(&node, &requested, CHANGE_TIME).await.unwrap_or_else(|error| {
            tracing::warn!("node {}: a request to leg {leg}: {error}", node.name);
            Err(Refused::NoAnswer)
        });
        if let (Ok(_), Some(changing)) = (&answer, changing) {
            changing.wait().await;
        }
        Some(answer)
    }

    /// Returns the state of a live leg of another node. `None` if there is none, or if the node does not answer: then the
    /// database has the last stored state.
    pub(super) async fn live_elsewhere(&self, leg: LegId) -> Option<Arc<LegInfo>> {
        let node = self.services().cluster.other_owner_of(leg.0)?;
        self.registry().leg_of_node(&node, leg).await.ok().flatten().map(Arc::new)
    }
}
