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
#![forbid(unsafe_code)]

mod delivery;
mod schedule;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tandem_http::Client;
use tandem_store::deliveries::{self, DeliveryRow, DeliveryState};
use tandem_store::writer::Begun;
use tandem_store::{Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use delivery::{
    Attempt, AttemptReport, Delivery, DeliveryBody, DeliveryMethod, Next, Retry, RetryOn, Seal, Sealed, StatusRange,
};
use worker::Worker;

/// Queues left by an earlier process that are worked on at the same time.
const RESUMED_QUEUES: usize = 1024;

/// Hosts that are remembered while nothing is sent to them.
const HOSTS: usize = 256;

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

/// A delivery on its way into the database.
pub struct Submitted {
    begun: Begun,
    queue: String,
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
    /// Attempts in flight to each host, half of all at most: a dead receiver must not hold up the others.
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    host_slots: usize,
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
    /// `concurrency`: attempts in flight at most, over all queues, and half of it to any one host; further ones wait.
    pub fn start(store: Store, client: Client, sealer: Arc<dyn Seal>, sink: Sink, concurrency: usize) -> Deliveries {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            store,
            client,
            sealer,
            sink,
            slots: Semaphore::new(concurrency),
            hosts: Mutex::default(),
            host_slots: concurrency.div_ceil(2),
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
        let submitted = self.submit(delivery).await?;
        self.stored(submitted).await
    }

    /// Waits until a submitted delivery is stored, and has it sent.
    pub async fn stored(&self, submitted: Submitted) -> Result<(), StoreError> {
        submitted.begun.committed().await?;
        self.owner.wake(submitted.queue, None);
        Ok(())
    }

    /// Puts the delivery at the end of its queue, to be stored before anything that is written later. It is sent once
    /// somebody has waited for it with [`Deliveries::stored`].
    pub fn submit(&self, delivery: Delivery) -> impl Future<Output = Result<Submitted, StoreError>> + Send {
        let queue = delivery.queue.clone();
        let begun = row(delivery).map(|row| deliveries::insert(&self.owner.shared.store, row));
        async move { Ok(Submitted { begun: begun?.await?, queue }) }
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
        let worker = Worker::new(Working { shared: shared.clone() }, queue);
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

    /// The slots of the URL's host and port.
    fn host(&self, url: &str) -> Arc<Semaphore> {
        let host = url::Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS && !hosts.contains_key(&host) {
            hosts.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.host_slots))).clone()
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

/// A delivery that nobody has tried to send, as it is stored.
fn row(delivery: Delivery) -> Result<DeliveryRow, StoreError> {
    if delivery.queue.is_empty() {
        return Err(StoreError::NotWritten("a delivery needs a queue".into()));
    }
    let request = serde_json::to_string(&delivery).map_err(|error| StoreError::NotWritten(error.to_string()))?;
    Ok(DeliveryRow {
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
    })
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
