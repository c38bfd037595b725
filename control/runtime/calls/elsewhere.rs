//! The calls of other nodes of the cluster. A request that names a call in its path goes to the owner as a whole
//! (`control/server/owner.rs`). This module answers the other questions about a call.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tandem_call::leg::LegInfo;
use tandem_cluster::Question;
use tandem_id::LegId;

use super::Calls;

/// Asks for the state of a live leg.
#[derive(Serialize, Deserialize)]
struct LiveLeg {
    leg: LegId,
}

impl Question for LiveLeg {
    const NAME: &'static str = "leg";
    type Answer = Option<LegInfo>;
}

impl Calls {
    /// Answers the questions of other nodes.
    pub(super) fn answer_other_nodes(&self) {
        let calls = self.clone();
        self.services().cluster.answer(move |asked: LiveLeg| {
            let leg = calls.live_leg(asked.leg).map(|leg| (*leg).clone());
            std::future::ready(leg)
        });
    }

    /// Returns the state of a live leg of another node. `None` if there is none, or if the node does not answer: then the
    /// database has the last stored state.
    pub(super) async fn live_elsewhere(&self, leg: LegId) -> Option<Arc<LegInfo>> {
        let cluster = &self.services().cluster;
        let node = cluster.other_owner_of(leg.0)?;
        let answer = cluster.ask(&node, &LiveLeg { leg }).await;
        answer.inspect_err(|error| tracing::warn!("node {}: {error}", node.name)).ok().flatten().map(Arc::new)
    }
}
