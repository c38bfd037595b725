//! INVITEs of an earlier process that was killed before the final response. The far end may still answer such an INVITE.
//! Then this process acknowledges the answer and ends the call (RFC 3261 §13.2.2.4). Without this, the far end would wait
//! for an ACK, and the called person would hear silence.
//!
//! ```text
//!   Command::EndUnanswered ──> a Call-ID, for LIFETIME ──> 2xx ──> ACK, BYE
//!                                                         └─> the same 2xx again ──> ACK
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::core::Core;
use super::transactions::MAX_FORKS;
use super::transactions::client::InDialogRequest;
use super::{Arrival, Endpoint};
use crate::HashMap;
use crate::dialog::Dialog;
use crate::message::{Method, Response};

/// Time for which an answer is expected. A far end rings for a shorter time: a proxy ends an INVITE after 3 minutes
/// (Timer C, RFC 3261 §16.6), and people hang up earlier.
const LIFETIME: Duration = Duration::from_secs(300);
/// Maximum number of INVITEs. Further INVITEs are not stored, and their answers are ignored.
const MAX_ORPHANS: usize = 10_000;

/// The INVITEs by Call-ID. A Call-ID of this server has 128 random bits, so no other host can guess one.
#[derive(Debug, Default)]
pub(super) struct Orphans(HashMap<Bytes, Orphan>);

#[derive(Debug)]
struct Orphan {
    until: Instant,
    /// The hashes of the To tags in the received answers. The list has at most [`MAX_FORKS`] entries.
    answered: Vec<u64>,
}

impl Orphans {
    fn expect(&mut self, now: Instant, call_ids: Vec<String>) {
        self.0.retain(|_, orphan| orphan.until > now);
        let room = MAX_ORPHANS.saturating_sub(self.0.len());
        let orphan = |call_id: String| (Bytes::from(call_id), Orphan { until: now + LIFETIME, answered: Vec::new() });
        self.0.extend(call_ids.into_iter().take(room).map(orphan));
    }

    /// Returns whether the response answers one of the INVITEs, and whether the same answer came before. The first value
    /// is `None` if there is no such INVITE, or if it already has too many answers.
    fn take(&mut self, core: &Core, now: Instant, response: &Response) -> Option<bool> {
        let orphan = self.0.get_mut(&response.call_id).filter(|orphan| orphan.until > now)?;
        let tag = core.tag_hash(response);
        if orphan.answered.contains(&tag) {
            return Some(true);
        }
        let room = orphan.answered.len() < MAX_FORKS;
        room.then(|| orphan.answered.push(tag)).map(|()| false)
    }
}

impl Endpoint {
    /// Expects answers to these INVITEs of an earlier process.
    pub(super) fn expect_orphans(&mut self, now: Instant, call_ids: Vec<String>) {
        self.orphans.expect(now, call_ids);
    }

    /// Handles a response to no INVITE of this process. `branch` is the branch of its Via. Returns whether the response
    /// answers an INVITE of an earlier process.
    pub(super) fn handle_orphan(&mut self, now: Instant, arrival: &Arrival, branch: u128, response: &Response) -> bool {
        if response.method != Method::Invite || !(200..300).contains(&response.status) {
            return false;
        }
        let Some(target) = response.content.contact() else { return false };
        let Some(is_repetition) = self.orphans.take(&self.core, now, response) else { return false };
        if !self.has_room() {
            return true;
        }
        let flow = self.core.arrival_flow(arrival);
        let dialog = Dialog::from_response(response, &target, flow);
        let (_, mut cx) = self.dialogs(now);
        let (flow, ack) = cx.compose_ack(branch, &dialog, response.cseq, &InDialogRequest::default());
        cx.core.transmit(flow, ack);
        if !is_repetition {
            tracing::info!("a call of an earlier process was answered late and is ended");
            cx.send_bye_without_leg(dialog);
        }
        true
    }
}
