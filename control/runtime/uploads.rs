//! Uploads complete recordings into the bucket.

use std::sync::Arc;
use std::time::Duration;

use tandem_causes::Cause;
use tandem_history::problem::Problem;
use tandem_history::recordings::UploadError;
use tandem_host::clock;
use tokio::time::Instant;

use crate::reporting::ProblemOwner;
use crate::services::Services;

/// Time after the first failed upload until the next attempt. It doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time until the next attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Interval between two looks at the folder, if nothing has changed.
const LOOK: Duration = Duration::from_secs(60);
/// Interval between two removals of old copies.
const SWEEP: Duration = Duration::from_secs(600);

/// Uploads recordings as they become complete, and removes local copies that were not used for `copies`. Runs until the
/// task is aborted. On a server that is alone and has no bucket, it ends at once.
pub async fn run(services: Arc<Services>, copies: Duration) {
    let files = services.recordings.clone();
    if !files.has_copies() {
        return;
    }
    let mut outage: Option<Instant> = None;
    let mut pause = FIRST_PAUSE;
    let mut swept: Option<Instant> = None;
    loop {
        let result = files.upload(&services.store).await;
        let waiting = files.waiting().await.unwrap_or_default();
        services.counters.set_recordings_waiting(waiting);
        match result {
            Ok(_) => {
                if let Some(since) = outage.take() {
                    tracing::info!("the bucket of the recordings answers again, after {} s", since.elapsed().as_secs());
                }
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                if outage.is_none() {
                    outage = Some(Instant::now());
                    report(&services, &error);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        }
        if swept.is_none_or(|at| at.elapsed() >= SWEEP.min(copies)) {
            swept = Some(Instant::now());
            if let Err(error) = files.remove_old_copies(copies).await {
                tracing::warn!(%error, "cannot remove old copies of recordings");
            }
        }
        // A recording that waits already is uploaded by the next pass.
        let _ = tokio::time::timeout(LOOK, files.changed()).await;
    }
}

fn report(services: &Services, error: &UploadError) {
    let cause = match error {
        UploadError::Bucket(_) => Cause::BucketAway,
        UploadError::File(_) => Cause::RecordingFailed,
        UploadError::Store(_) => Cause::DatabaseAway,
    };
    let text = format!("recordings wait on the disk of this server: {error}");
    services.report(ProblemOwner::Server, clock::time(), Problem::warning(cause, text));
}
