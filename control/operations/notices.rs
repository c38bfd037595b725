//! Notices about live legs that no event of the call causes, such as the hold of a web page.

use tandem_call::leg::LegInfo;
use tandem_dialect::{Dialect, Notice, delivery};
use tandem_runtime::Calls;
use tandem_webhooks::Delivery;
use tokio::sync::mpsc;

/// Maximum number of notices that wait for the database. Further ones are lost, with an error in the log.
const MAX_WAITING: usize = 64;

/// A queue of notices, in order. Sending never waits.
#[derive(Debug)]
pub struct NoticeQueue(mpsc::Sender<Delivery>);

impl NoticeQueue {
    /// Creates a queue. The notices are stored before they are sent, until the queue is dropped and empty.
    pub fn new(calls: &Calls) -> Self {
        let (sender, mut waiting) = mpsc::channel(MAX_WAITING);
        let deliveries = calls.services().deliveries.clone();
        tokio::spawn(async move {
            while let Some(delivery) = waiting.recv().await {
                if let Err(error) = deliveries.enqueue(delivery).await {
                    tracing::error!(%error, "a notice about a leg is not stored");
                }
            }
        });
        Self(sender)
    }

    /// Sends a notice about a leg to its application.
    pub fn send(&self, leg: &LegInfo, dialect: &dyn Dialect, notice: Notice) {
        if self.0.try_send(delivery::of_leg(notice, dialect, leg, rand::random())).is_err() {
            tracing::error!(leg = %leg.id, "a notice about a leg is lost: too many of them wait for the database");
        }
    }
}
