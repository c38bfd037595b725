//! The shutdown, in the order that the crate's documentation lists.

use std::sync::Arc;
use std::time::Duration;

use crate::{Server, Signals};

/// Maximum time for which a shutdown waits for the calls to end after the hang-up. The shutdown also waits at most this
/// time for the document requests, and at most this time for the webhooks.
const HANGUP_TIMEOUT: Duration = Duration::from_secs(5);

impl Server {
    /// Shuts the server down. Live calls may continue until `drain_timeout` has passed or `hurry` receives a signal.
    pub async fn shutdown(self, mut hurry: Signals) {
        let Self { calls, store, deliveries, config, http, housekeeping, .. } = self;
        let drain_timeout = config.load_full().drain_timeout;
        calls.stop_accepting();
        let mut limit = HANGUP_TIMEOUT;
        tokio::select! {
            () = calls.idle() => {}
            () = tokio::time::sleep(drain_timeout) => tracing::warn!("drain_timeout has passed: hanging up"),
            () = hurry.recv() => {
                tracing::warn!("second signal: hanging up");
                limit = Duration::from_secs(1);
            }
        }
        calls.hangup_all();
        if tokio::time::timeout(limit, calls.idle()).await.is_err() {
            tracing::warn!("{} legs did not end in time", calls.live_legs());
        }
        // This also ends conferences without participants, because no hang-up ends them.
        calls.services().conferences.end_all();
        calls.services().fetches.close();
        if tokio::time::timeout(limit, calls.services().fetches.wait()).await.is_err() {
            tracing::warn!("the last requests to applications were not finished in time");
        }
        if !deliveries.drain(limit).await {
            tracing::warn!("some webhooks are not delivered yet; they are sent after the next start");
        }
        let services = Arc::clone(calls.services());
        // No call needs speech any more.
        services.recogniser.stop_local().await;
        let cluster = services.cluster.clone();
        services.sip.shutdown().await;
        // The shutdown of the media engine blocks until all recordings are complete.
        let closed = tokio::task::spawn_blocking(move || services.media.shutdown()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "media did not shut down");
        }
        http.stop().await;
        housekeeping.stop();
        // All records are stored before the others take over the queues of this node.
        if let Err(error) = store.flush().await {
            tracing::warn!(%error, "the last records are not stored");
        }
        cluster.leave().await;
        store.close().await;
    }
}
