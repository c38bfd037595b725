//! The worker of a queue. The worker sends the queue's deliveries in order and ends when the queue is empty.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tandem_call::Method;
use tandem_causes::Cause;
use tandem_http::exchange::{HttpAnswer, SentSignature};
use tandem_http::{FetchError, RedirectRules, Request, Response, Timeouts, without_credentials};
use tandem_store::StoreError;
use tandem_store::deliveries::{self, DeliveryProgress, DeliveryRow, DeliveryState};
use tokio::time::Instant;

use super::schedule::{Schedule, Step, Target};
use super::{Attempt, AttemptReport, Body, DATABASE_PAUSE, Delivery, Next, Shared, SignInput, Stopped, Working};

/// Maximum number of rows of a queue in memory. Further rows stay in the database until the worker has finished these
/// rows.
const ROWS: u32 = 16;

/// Maximum number of octets that the server reads of an answer. Only the status of an answer matters.
const MAXIMUM_ANSWER: usize = 64 * 1024;

/// Shortest and longest timeout of one attempt.
const TOTAL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(120));

pub(super) struct Worker {
    shared: Arc<Shared>,
    queue: String,
    /// Whether the worker no longer owns the queue. Another worker may then serve the queue.
    released: bool,
    _working: Working,
}

struct Sent {
    began: Instant,
    signature: Option<SentSignature>,
    outcome: Result<Response, FetchError>,
}

impl Worker {
    /// Creates a worker for a queue that is already in `Shared::queues`.
    pub(super) fn new(working: Working, queue: String) -> Worker {
        Worker { shared: working.shared.clone(), queue, released: false, _working: working }
    }

    pub(super) async fn run(mut self) {
        loop {
            if let Some(more) = self.shared.queues().get_mut(&self.queue) {
                *more = false;
            }
            match deliveries::pending_in(&self.shared.store, &self.queue, ROWS).await {
                Ok(rows) if rows.is_empty() => {
                    let shared = self.shared.clone();
                    let mut queues = shared.queues();
                    if queues.get(&self.queue).is_some_and(|more| *more) {
                        continue;
                    }
                    // The same lock protects the check and the removal of the queue. So a new delivery never finds a
                    // worker that is about to end.
                    queues.remove(&self.queue);
                    self.released = true;
                    return;
                }
                Ok(rows) => {
                    for row in rows {
                        if self.perform(row).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, queue = self.queue, "deliveries not read");
                    if self.shared.wait(DATABASE_PAUSE).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Sends one delivery until the outcome is final.
    async fn perform(&self, row: DeliveryRow) -> Result<(), Stopped> {
        let delivery: Delivery = match serde_json::from_str(&row.request) {
            Ok(delivery) => delivery,
            Err(error) => {
                tracing::error!(%error, id = format_args!("{:032x}", row.id), "stored delivery is unreadable");
                return self.give_up(row, format!("stored delivery is unreadable: {error}")).await;
            }
        };
        let mut schedule = Schedule::resumed(&delivery, u32::try_from(row.attempts).unwrap_or(u32::MAX));
        if let Some(due) = row.next_at {
            // The clock may have changed before the restart, so the wait is never longer than the longest delay of the
            // delivery.
            let delay = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
            self.shared.wait(delay.min(schedule.longest_delay())).await?;
        }
        let began = Instant::now();
        loop {
            let Some(target) = schedule.next_target() else {
                // The delivery now has fewer retries than at the time when its attempts were stored.
                return self.give_up(row, "no attempt is left".into()).await;
            };
            let sent = tokio::select! {
                biased;
                () = self.shared.stopped() => return Err(Stopped),
                sent = self.send(&delivery, &target, began) => sent,
            };
            let status = status(&sent.outcome);
            let step = schedule.after(status, sent.outcome.as_ref().err(), remaining(&delivery, began));
            self.record(&delivery, target, sent, schedule.made(), step).await?;
            match step {
                Step::Delivered | Step::GivenUp => return Ok(()),
                Step::Failover => {}
                Step::Again { after } => self.shared.wait(after).await?,
            }
        }
    }

    /// Waits until the limits allow another attempt. Then makes the attempt.
    async fn send(&self, delivery: &Delivery, target: &Target, began: Instant) -> Sent {
        // The attempt first waits for the limit of the host, so that the attempt does not occupy a general slot during
        // this wait. The semaphores are never closed.
        let host = self.shared.host(&target.url);
        let _host_slot = host.acquire().await;
        let _slot = self.shared.slots.acquire().await;
        let now = Instant::now();
        let (signature, outcome) = self.exchange(delivery, target, remaining(delivery, began)).await;
        Sent { began: now, signature, outcome }
    }

    async fn exchange(
        &self,
        delivery: &Delivery,
        target: &Target,
        remaining: Option<Duration>,
    ) -> (Option<SentSignature>, Result<Response, FetchError>) {
        let policy = &delivery.policy;
        let sign = |url: &str, method: Method, body: &Body| {
            let (id, attempt, now) = (delivery.token(), target.attempt, Timestamp::now());
            let input = SignInput { url, method, body, id, attempt, now };
            self.shared.signer.sign(&delivery.account, &delivery.dialect, &input)
        };
        let signed = sign(&target.url, delivery.method, &delivery.body);
        let mut signature = SentSignature::of(&signed.url, &signed.headers);
        let total = policy.total.clamp(TOTAL.0, TOTAL.1);
        let request = Request {
            method: tandem_http::method(delivery.method),
            url: signed.url,
            headers: signed.headers,
            body: signed.body,
            timeouts: Timeouts {
                connect: Some(policy.connect),
                total: remaining.map_or(total, |remaining| total.min(remaining)),
            },
            max_body: MAXIMUM_ANSWER,
        };
        let client = self.shared.client.of_account(&delivery.account);
        if !policy.redirects {
            return (signature, client.send(&request).await);
        }
        let mut sign_redirect = |request: &mut Request| {
            let signed = match request.method {
                // As in a browser, the request has only the query of the redirect target.
                ::http::Method::GET => sign(&request.url, Method::Get, &Body::Form(Vec::new())),
                _ => sign(&request.url, delivery.method, &delivery.body),
            };
            signature = SentSignature::of(&signed.url, &signed.headers);
            (request.url, request.headers, request.body) = (signed.url, signed.headers, signed.body);
        };
        let outcome = client.send_following(request, RedirectRules::PROVIDER, None, Some(&mut sign_redirect)).await;
        (signature, outcome)
    }

    /// Stores the outcome of an attempt. Then counts and reports the outcome.
    async fn record(
        &self,
        delivery: &Delivery,
        target: Target,
        sent: Sent,
        made: u32,
        step: Step,
    ) -> Result<(), Stopped> {
        let (now, elapsed) = (Timestamp::now(), sent.began.elapsed());
        let status = status(&sent.outcome);
        let cause = match (&sent.outcome, status) {
            (Ok(response), Some(status)) => Cause::of_answer(status, &response.redirects),
            (Err(_), Some(status)) => Cause::of_status(status),
            (Err(error), None) => Some(Cause::of_fetch_error(error)),
            (Ok(_), None) => None,
        };
        let error = match (&sent.outcome, status) {
            (_, Some(200..=299)) => None,
            (_, Some(status)) => Some(format!("status {status}")),
            (Err(error), None) => Some(error.to_string()),
            (Ok(_), None) => None,
        };
        let (state, next, counter) = match step {
            Step::Delivered => (DeliveryState::Delivered, Next::Done, &self.shared.delivered),
            Step::GivenUp => (DeliveryState::Failed, Next::Done, &self.shared.failed),
            Step::Again { after } => (DeliveryState::Pending, Next::Retry { after }, &self.shared.retried),
            Step::Failover => (DeliveryState::Pending, Next::Failover, &self.shared.retried),
        };
        let next_at = match next {
            Next::Retry { after } => Some(now.saturating_add(after).unwrap_or(now)),
            Next::Failover | Next::Done => None,
        };
        self.note(DeliveryProgress {
            id: delivery.id,
            state,
            attempts: i64::from(made),
            next_at,
            done_at: (state != DeliveryState::Pending).then_some(now),
            last_status: status.map(i64::from),
            last_error: error.clone(),
        })
        .await?;
        counter.fetch_add(1, Ordering::Relaxed);
        let attempt = Attempt {
            number: target.attempt,
            url: without_credentials(&target.url),
            redirects: sent.outcome.as_ref().map(|response| response.redirects.clone()).unwrap_or_default(),
            failover: target.failover,
            at: now.saturating_sub(elapsed).unwrap_or(now),
            elapsed,
            status,
            error,
            cause,
            signature: sent.signature,
            answer: sent.outcome.as_ref().ok().map(HttpAnswer::of),
        };
        if let Some(sink) = self.shared.sink.get() {
            sink(delivery, &AttemptReport { attempt, state, next });
        }
        Ok(())
    }

    /// Ends a delivery as failed, without another attempt.
    async fn give_up(&self, row: DeliveryRow, reason: String) -> Result<(), Stopped> {
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
        self.note(DeliveryProgress {
            id: row.id,
            state: DeliveryState::Failed,
            attempts: row.attempts,
            next_at: None,
            done_at: Some(Timestamp::now()),
            last_status: row.last_status,
            last_error: Some(row.last_error.unwrap_or(reason)),
        })
        .await
    }

    /// Stores an outcome. If the database fails, the function tries again until the database accepts the outcome.
    /// Without a stored outcome, the delivery could be sent endlessly.
    async fn note(&self, progress: DeliveryProgress) -> Result<(), Stopped> {
        while let Err(error) = deliveries::update(&self.shared.store, progress.clone()).await {
            if matches!(error, StoreError::Closed) {
                return Err(Stopped);
            }
            tracing::error!(%error, queue = self.queue, "delivery's outcome not stored");
            self.shared.wait(DATABASE_PAUSE).await?;
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.released {
            self.shared.queues().remove(&self.queue);
        }
    }
}

/// Returns the status of an answer, even if the body of the answer was too large.
fn status(outcome: &Result<Response, FetchError>) -> Option<u16> {
    match outcome {
        Ok(response) => Some(response.status),
        Err(FetchError::TooLarge { status, .. }) => Some(*status),
        Err(_) => None,
    }
}

/// Returns the time that remains for all further attempts together. `None` if there is no time limit.
fn remaining(delivery: &Delivery, began: Instant) -> Option<Duration> {
    delivery.policy.retries.overall.map(|total| total.saturating_sub(began.elapsed()))
}
