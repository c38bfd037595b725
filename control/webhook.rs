//! Delivery of webhooks: in order within a queue, written down before they are sent, and not lost by a restart.
//!
//! ```text
//!  enqueue ─▶ row stored ─▶ the queue's worker: read the next rows, in order
//!                             └▶ seal (sign) ─▶ send ─▶ 2xx: delivered
//!                                  ▲              └▶ failed: wait, again ... ─▶ failover URL, again ... ─▶ given up
//!                                  └──────────────────────┘ each outcome is stored, then reported to the sink
//! ```
//!
//! The rows are the queue: a worker holds a few at a time, and ends when it finds none, so a slow receiver costs disk, not
//! memory. A crash between sending and noting it means that the same delivery, with the same id, is sent once more.

mod delivery;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::{Client, FetchError, RedirectRules, Request, Response, Timeouts};
use crate::store::deliveries::{self, DeliveryProgress, DeliveryRow, DeliveryState};
use crate::store::{Store, StoreError};

pub use delivery::{
    Attempt, AttemptReport, Delivery, DeliveryBody, DeliveryMethod, Next, Retry, RetryOn, Seal, Sealed, StatusRange,
};
use schedule::{Schedule, Step};

/// Rows of one queue held in memory; the rest stays in the database until they are done.
const ROWS: u32 = 16;

/// Queues left by an earlier process that are worked on at the same time.
const RESUMED_QUEUES: usize = 1024;

/// Octets of an answer that are read; a delivery's answer means nothing beyond its status.
const MAXIMUM_ANSWER: usize = 64 * 1024;

/// Pause before the database is asked again after it failed.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// Hears of every attempt, after it was stored; must return at once.
pub type Sink = Arc<dyn Fn(&Delivery, &AttemptReport) + Send + Sync>;

/// The queues. Clones share them; when the last is dropped, what is in flight is abandoned (and sent again at the next
/// start).
#[derive(Clone)]
pub struct Deliveries {
    owner: Arc<Owner>,
}

/// What has come of all attempts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Deliveries accepted.
    pub delivered: u64,
    /// Deliveries given up.
    pub failed: u64,
    /// Attempts that failed and were followed by another.
    pub retried: u64,
    /// Queues with work now.
    pub queues: usize,
}

/// Owns the tasks; they hold only [`Shared`].
struct Owner {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    store: Store,
    client: Client,
    sealer: Arc<dyn Seal>,
    sink: Sink,
    /// Attempts in flight.
    slots: Semaphore,
    /// Every queue with a worker; true: rows came since the worker last looked.
    queues: Mutex<HashMap<String, bool>>,
    working: watch::Sender<usize>,
    phase: watch::Sender<Phase>,
    delivered: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Running,
    /// Nothing waits beyond this.
    Draining(Instant),
    Stopped,
}

/// The worker was told to end; the row stays pending.
struct Stopped;

impl Deliveries {
    /// Starts, and resumes what an earlier process left, each queue in its order.
    ///
    /// `concurrency`: attempts in flight at most, over all queues; further ones wait.
    pub fn start(store: Store, client: Client, sealer: Arc<dyn Seal>, sink: Sink, concurrency: usize) -> Deliveries {
        let shared = Arc::new(Shared {
            store,
            client,
            sealer,
            sink,
            slots: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            queues: Mutex::default(),
            working: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Running),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        });
        let deliveries = Deliveries { owner: Arc::new(Owner { shared, tasks: Mutex::default() }) };
        let owner = Arc::downgrade(&deliveries.owner);
        let shared = deliveries.owner.shared.clone();
        shared.working.send_modify(|working| *working += 1);
        deliveries.owner.tasks().spawn(async move {
            let _working = Working { shared: shared.clone() };
            resume(&shared, &|queue, permit| {
                if let Some(owner) = owner.upgrade() {
                    owner.wake(queue, Some(permit));
                }
            })
            .await;
        });
        deliveries
    }

    /// Puts the delivery at the end of its queue and returns once it is stored; it will then be sent, now or after a
    /// restart. Enqueues awaited one after the other keep that order. An id that was used before is refused.
    pub async fn enqueue(&self, delivery: Delivery) -> Result<(), StoreError> {
        if delivery.queue.is_empty() {
            return Err(StoreError::NotWritten("a delivery needs a queue".into()));
        }
        let request = serde_json::to_string(&delivery).map_err(|error| StoreError::NotWritten(error.to_string()))?;
        let queue = delivery.queue.clone();
        let row = DeliveryRow {
            id: delivery.id,
            queue: delivery.queue,
            seq: 0,
            session: delivery.session,
            account: delivery.account,
            dialect: delivery.dialect,
            event: delivery.event,
            request,
            state: DeliveryState::Pending,
            attempts: 0,
            next_at: None,
            created_at: Timestamp::now(),
            done_at: None,
            last_status: None,
            last_error: None,
        };
        deliveries::insert(&self.owner.shared.store, row).await?;
        self.owner.wake(queue, None);
        Ok(())
    }

    /// For shutdown, when no more is enqueued: sends what can be sent within `limit`, without waiting for retries that are
    /// due later, then stops. What is left is sent after the next start. True: nothing was cut off.
    pub async fn drain(&self, limit: Duration) -> bool {
        let shared = &self.owner.shared;
        let deadline = Instant::now() + limit;
        shared.phase.send_replace(Phase::Draining(deadline));
        let in_time = tokio::time::timeout_at(deadline, self.idle()).await.is_ok();
        shared.phase.send_replace(Phase::Stopped);
        self.idle().await;
        in_time
    }

    /// Returns when no queue has work, deliveries that wait for a retry included.
    pub async fn idle(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.owner.shared.working.subscribe().wait_for(|working| *working == 0).await;
    }

    /// For metrics.
    pub fn counts(&self) -> DeliveryCounts {
        let shared = &self.owner.shared;
        DeliveryCounts {
            delivered: shared.delivered.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            retried: shared.retried.load(Ordering::Relaxed),
            queues: shared.queues().len(),
        }
    }
}

impl Owner {
    /// Tells the queue's worker of new rows, or starts one.
    fn wake(&self, queue: String, permit: Option<OwnedSemaphorePermit>) {
        let shared = &self.shared;
        if *shared.phase.borrow() == Phase::Stopped {
            return;
        }
        let mut queues = shared.queues();
        if let Some(more) = queues.get_mut(&queue) {
            *more = true;
            return;
        }
        queues.insert(queue.clone(), false);
        shared.working.send_modify(|working| *working += 1);
        drop(queues);
        let worker =
            Worker { _working: Working { shared: shared.clone() }, shared: shared.clone(), queue, released: false };
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let _permit = permit;
            worker.run().await;
        });
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when everything is to stop at once.
    async fn stopped(&self) {
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Stopped).await;
    }

    /// Waits, unless the drain's deadline comes first: then there is no use in waiting.
    async fn wait(&self, delay: Duration) -> Result<(), Stopped> {
        let until = Instant::now() + delay;
        let mut phase = self.phase.subscribe();
        let hopeless = phase.wait_for(|phase| match phase {
            Phase::Running => false,
            Phase::Draining(deadline) => *deadline < until,
            Phase::Stopped => true,
        });
        tokio::select! {
            biased;
            _ = hopeless => Err(Stopped),
            () = tokio::time::sleep_until(until) => Ok(()),
        }
    }
}

/// Counts a task as working until it ends, however it ends.
struct Working {
    shared: Arc<Shared>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.shared.working.send_modify(|working| *working -= 1);
    }
}

/// Wakes every queue that holds pending rows, so many at a time.
async fn resume(shared: &Shared, wake: &(dyn Fn(String, OwnedSemaphorePermit) + Send + Sync)) {
    let slots = Arc::new(Semaphore::new(RESUMED_QUEUES));
    let mut last = String::new();
    loop {
        let queues = match deliveries::pending_queues(&shared.store, &last, 256).await {
            Ok(queues) => queues,
            Err(error) => {
                tracing::error!(%error, "pending deliveries not read");
                match shared.wait(DATABASE_PAUSE).await {
                    Ok(()) => continue,
                    Err(Stopped) => return,
                }
            }
        };
        let Some(end) = queues.last() else { return };
        last.clone_from(end);
        for queue in queues {
            let permit = tokio::select! {
                biased;
                () = shared.stopped() => return,
                permit = slots.clone().acquire_owned() => permit,
            };
            // The semaphore is never closed.
            let Ok(permit) = permit else { return };
            wake(queue, permit);
        }
    }
}

/// Sends one queue's deliveries, in order, until there are none.
struct Worker {
    shared: Arc<Shared>,
    queue: String,
    /// The queue is no longer this worker's: another may serve it by now.
    released: bool,
    _working: Working,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.released {
            self.shared.queues().remove(&self.queue);
        }
    }
}

impl Worker {
    async fn run(mut self) {
        loop {
            if let Some(more) = self.shared.queues().get_mut(&self.queue) {
                *more = false;
            }
            match deliveries::pending_in(&self.shared.store, &self.queue, ROWS).await {
                Ok(rows) if rows.is_empty() => {
                    let mut queues = self.shared.queues();
                    if queues.get(&self.queue).is_some_and(|more| *more) {
                        continue;
                    }
                    // Under the same lock as the look, so that no enqueue finds a worker that has made up its mind.
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

    /// Sends one delivery until its outcome is final.
    async fn perform(&self, row: DeliveryRow) -> Result<(), Stopped> {
        let delivery: Delivery = match serde_json::from_str(&row.request) {
            Ok(delivery) => delivery,
            Err(error) => {
                tracing::error!(%error, id = %format_args!("{:032x}", row.id), "stored delivery not understood");
                let progress = DeliveryProgress {
                    id: row.id,
                    state: DeliveryState::Failed,
                    attempts: row.attempts,
                    next_at: None,
                    done_at: Some(Timestamp::now()),
                    last_status: None,
                    last_error: Some(format!("stored delivery not understood: {error}")),
                };
                return self.note(progress).await;
            }
        };
        let mut schedule = Schedule::resumed(&delivery, u32::try_from(row.attempts).unwrap_or(u32::MAX));
        if let Some(due) = row.next_at {
            // Another clock, before the restart: never wait longer than the delivery itself asked for.
            let delay = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
            self.shared.wait(delay.min(schedule.longest_delay())).await?;
        }
        let began = Instant::now();
        loop {
            let Some(target) = schedule.next_target() else {
                // Only a row whose attempts were noted and whose outcome was not.
                let done_at = Some(Timestamp::now());
                let state = DeliveryState::Failed;
                let (attempts, last_status, last_error) = (row.attempts, row.last_status, row.last_error.clone());
                let progress =
                    DeliveryProgress { id: row.id, state, attempts, next_at: None, done_at, last_status, last_error };
                return self.note(progress).await;
            };
            let remaining =
                delivery.retries.total_ms.map(|total| Duration::from_millis(total).saturating_sub(began.elapsed()));
            let at = Timestamp::now();
            let sent = Instant::now();
            let outcome = tokio::select! {
                biased;
                () = self.shared.stopped() => return Err(Stopped),
                outcome = self.attempt(&delivery, target.attempt, &target.url, remaining) => outcome,
            };
            let remaining =
                delivery.retries.total_ms.map(|total| Duration::from_millis(total).saturating_sub(began.elapsed()));
            let status = match &outcome {
                Ok(response) => Some(response.status),
                Err(FetchError::TooLarge { status, .. }) => Some(*status),
                Err(_) => None,
            };
            let error = match (&outcome, status) {
                (_, Some(status @ 200..=299)) => {
                    tracing::debug!(event = delivery.event, status, "webhook delivered");
                    None
                }
                (_, Some(status)) => Some(format!("status {status}")),
                (Err(error), None) => Some(error.to_string()),
                (Ok(_), None) => None,
            };
            let step = schedule.after(status, outcome.as_ref().err(), remaining);
            let now = Timestamp::now();
            let (state, next) = match step {
                Step::Delivered => (DeliveryState::Delivered, Next::Done),
                Step::GivenUp => (DeliveryState::Failed, Next::Done),
                Step::Again { after } => (DeliveryState::Pending, Next::Retry { after }),
                Step::Failover => (DeliveryState::Pending, Next::Failover),
            };
            let next_at = match next {
                Next::Retry { after } => Some(now.saturating_add(after).unwrap_or(now)),
                Next::Failover | Next::Done => None,
            };
            self.note(DeliveryProgress {
                id: row.id,
                state,
                attempts: i64::from(schedule.made()),
                next_at,
                done_at: (state != DeliveryState::Pending).then_some(now),
                last_status: status.map(i64::from),
                last_error: error.clone(),
            })
            .await?;
            let counter = match state {
                DeliveryState::Pending => &self.shared.retried,
                DeliveryState::Delivered => &self.shared.delivered,
                DeliveryState::Failed => &self.shared.failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let attempt = Attempt {
                number: target.attempt,
                url: target.url,
                failover: target.failover,
                at,
                elapsed: sent.elapsed(),
                status,
                error,
            };
            (self.shared.sink)(&delivery, &AttemptReport { attempt, state, next });
            match step {
                Step::Delivered | Step::GivenUp => return Ok(()),
                Step::Failover => {}
                Step::Again { after } => self.shared.wait(after).await?,
            }
        }
    }

    /// Signs and sends it once.
    async fn attempt(
        &self,
        delivery: &Delivery,
        attempt: u32,
        url: &str,
        remaining: Option<Duration>,
    ) -> Result<Response, FetchError> {
        // The semaphore is never closed.
        let _slot = self.shared.slots.acquire().await;
        let sealer = &self.shared.sealer;
        let sealed = sealer.seal(delivery, attempt, url, Timestamp::now());
        let total = Duration::from_millis(delivery.timeout_ms.clamp(1, 120_000));
        let request = Request {
            method: delivery.method.as_http(),
            url: sealed.url,
            headers: sealed.headers,
            body: sealed.body,
            timeouts: Timeouts {
                connect: Some(Duration::from_millis(delivery.connect_timeout_ms)),
                total: remaining.map_or(total, |remaining| total.min(remaining)),
            },
            max_body: MAXIMUM_ANSWER,
        };
        if !delivery.follow_redirects {
            return self.shared.client.send(&request).await;
        }
        let mut reseal = |request: &mut Request| {
            let mut hop = delivery.clone();
            if request.method == ::http::Method::GET {
                // The target's own query is all that it gets, as from a browser.
                hop.method = DeliveryMethod::Get;
                hop.body = DeliveryBody::Form(Vec::new());
            }
            let sealed = sealer.seal(&hop, attempt, &request.url, Timestamp::now());
            (request.url, request.headers, request.body) = (sealed.url, sealed.headers, sealed.body);
        };
        self.shared.client.send_following(request, RedirectRules::PROVIDER, None, Some(&mut reseal)).await
    }

    /// Stores an outcome, however long the database takes: going on without it could send the delivery for ever.
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
