//! Delivery of webhooks. Webhooks are delivered in order within a queue. A webhook is stored before it is sent, and a
//! restart loses no webhook.
//!
//! ```text
//!  enqueue ─▶ row stored ─▶ the queue's worker: read the next rows, in order
//!                             └▶ seal (sign) ─▶ send ─▶ 2xx: delivered
//!                                  ▲              └▶ failed: wait, again ... ─▶ failover URL, again ... ─▶ given up
//!                                  └──────────────────────┘ each outcome is stored, then reported to the sink
//! ```
//!
//! The rows in the database are the queue. A worker has only a few rows in memory at a time and ends when there are no
//! more rows. So a slow receiver uses disk space but no memory. The process can crash after it has sent a delivery and
//! before it has stored the outcome. In this case the delivery is sent again with the same id.
#![forbid(unsafe_code)]

mod delivery;
mod request;
mod retry;
mod schedule;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tandem_http::Client;
use tandem_store::deliveries::{self, DeliveryRow, DeliveryState};
use tandem_store::writer::Begun;
use tandem_store::{OwnedBy, Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use delivery::{Attempt, AttemptReport, Delivery, Next};
pub use request::{Body, DeliverySigner, SignInput, SignedRequest};
pub use retry::{Retries, RetryOn, RetryPolicy, StatusRange, pauses};
use worker::Worker;

/// Maximum number of simultaneous workers for the queues that an earlier process left.
const RESUMED_QUEUES: usize = 1024;

/// Number of stored hosts above which the hosts without a running attempt are removed.
const HOSTS: usize = 256;

/// Pause after a failure of the database.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// Receives every attempt after the attempt is stored. The function must return immediately.
pub type Sink = Arc<dyn Fn(&Delivery, &AttemptReport) + Send + Sync>;

/// The sender of each queue. In a cluster, each queue has one sender.
pub trait Senders: Send + Sync {
    /// Whether this server sends the deliveries of a queue.
    fn is_own(&self, queue: &str) -> bool;
    /// Tells the sender of a queue about a new delivery. Must return immediately.
    fn tell(&self, queue: &str);
}

/// The webhook queues. All clones share the queues. When the last clone is dropped, running attempts are aborted. The
/// aborted attempts are repeated after the next start.
#[derive(Clone)]
pub struct Deliveries {
    owner: Arc<Owner>,
}

/// Numbers of deliveries and attempts since the start of the server, for the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Deliveries that were accepted by the receiver.
    pub delivered: u64,
    /// Deliveries that failed finally.
    pub failed: u64,
    /// Failed attempts after which another attempt follows.
    pub retried: u64,
    /// Queues that currently have deliveries.
    pub queues: usize,
}

/// A delivery that is being stored.
pub struct Submitted {
    begun: Begun,
    queue: String,
}

/// Owns the tasks. A task itself holds only the [`Shared`] data and not the owner.
struct Owner {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    store: Store,
    client: Client,
    signer: Arc<dyn DeliverySigner>,
    /// The receiver of the reports. The sink is set when the queues start.
    sink: OnceLock<Sink>,
    /// The senders of the queues. They are set when the queues start.
    senders: OnceLock<Arc<dyn Senders>>,
    /// Limits the number of simultaneous attempts.
    slots: Semaphore,
    /// Limits the simultaneous attempts per host to half of all attempts, so that a dead receiver does not delay the
    /// other receivers.
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    host_slots: usize,
    /// All queues that have a worker. The value `true` means that there are new rows since the worker last read the
    /// queue.
    queues: Mutex<HashMap<String, bool>>,
    working: watch::Sender<usize>,
    phase: watch::Sender<Phase>,
    delivered: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Rows are stored, but no delivery is sent.
    Prepared,
    Running,
    /// The queues are being drained until this instant. A worker does not begin a wait that would end later than this
    /// instant.
    Draining(Instant),
    Stopped,
}

/// Error: the worker must end. The worker's current row stays pending.
struct Stopped;

impl Deliveries {
    /// Prepares the queues. From now on, deliveries are stored. They are sent only after [`Deliveries::start`].
    ///
    /// `concurrency` is the maximum number of simultaneous attempts over all queues. One host gets at most half of this
    /// number. Further attempts wait.
    pub fn new(store: Store, client: Client, signer: Arc<dyn DeliverySigner>, concurrency: usize) -> Deliveries {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            store,
            client,
            signer,
            sink: OnceLock::new(),
            senders: OnceLock::new(),
            slots: Semaphore::new(concurrency),
            hosts: Mutex::default(),
            host_slots: concurrency.div_ceil(2),
            queues: Mutex::default(),
            working: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Prepared),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        });
        Deliveries { owner: Arc::new(Owner { shared, tasks: Mutex::default() }) }
    }

    /// Starts to send deliveries. This function must be called only once. Each attempt is reported to `sink`. Deliveries of
    /// a queue that this server does not send are stored only.
    pub fn start(&self, sink: Sink, senders: Arc<dyn Senders>) {
        let shared = &self.owner.shared;
        let first = shared.sink.set(sink).is_ok() && shared.senders.set(senders).is_ok();
        debug_assert!(first, "started twice");
        shared.phase.send_replace(Phase::Running);
    }

    /// Continues the queues of these owners: those of an earlier process, or of a node of the cluster that has ended.
    /// Each queue keeps its order. A queue that has a worker already keeps it.
    pub fn resume(&self, of: OwnedBy) {
        let owner = Arc::downgrade(&self.owner);
        let shared = self.owner.shared.clone();
        shared.working.send_modify(|working| *working += 1);
        self.owner.tasks().spawn(async move {
            let _working = Working { shared: shared.clone() };
            resume(&shared, &of, &|queue, permit| {
                if let Some(owner) = owner.upgrade() {
                    owner.wake(queue, Some(permit));
                }
            })
            .await;
        });
    }

    /// Adds the delivery at the end of its queue, and returns when the delivery is stored. The delivery is sent now or
    /// after a restart. If the calling code awaits each `enqueue` before it calls the next `enqueue`, the order of the
    /// deliveries is the order of the calls. An id that was already used is an error.
    pub async fn enqueue(&self, delivery: Delivery) -> Result<(), StoreError> {
        let submitted = self.submit(delivery).await?;
        self.stored(submitted).await
    }

    /// Waits until a submitted delivery is stored. Then starts to send the delivery.
    pub async fn stored(&self, submitted: Submitted) -> Result<(), StoreError> {
        submitted.begun.committed().await?;
        match self.owner.shared.senders.get() {
            Some(senders) if !senders.is_own(&submitted.queue) => senders.tell(&submitted.queue),
            _ => self.owner.wake(submitted.queue, None),
        }
        Ok(())
    }

    /// Sends the deliveries of a queue that another node has stored, if this server is the sender of the queue.
    pub fn check(&self, queue: String) {
        self.owner.wake(queue, None);
    }

    /// Submits the delivery to the end of its queue. The delivery is stored before all later writes. The delivery is
    /// sent after [`Deliveries::stored`] was called.
    pub fn submit(&self, delivery: Delivery) -> impl Future<Output = Result<Submitted, StoreError>> + Send {
        let queue = delivery.queue.clone();
        let begun = row(delivery).map(|row| deliveries::insert(&self.owner.shared.store, row));
        async move { Ok(Submitted { begun: begun?.await?, queue }) }
    }

    /// Shuts down the sending of deliveries. After this call, no delivery may be enqueued. The function sends as many
    /// deliveries as possible within `limit`. It does not wait for retries that are due after the limit. Then it stops
    /// all workers. The remaining deliveries are sent after the next start of the server. Returns `true` if no attempt
    /// was aborted.
    pub async fn drain(&self, limit: Duration) -> bool {
        let shared = &self.owner.shared;
        let deadline = Instant::now() + limit;
        shared.phase.send_replace(Phase::Draining(deadline));
        let in_time = tokio::time::timeout_at(deadline, self.idle()).await.is_ok();
        shared.phase.send_replace(Phase::Stopped);
        self.idle().await;
        in_time
    }

    /// Waits until all queues are empty. A queue is not empty while a delivery waits for a retry.
    pub async fn idle(&self) {
        // `wait_for` cannot fail, because `self` owns the sender.
        let _ = self.owner.shared.working.subscribe().wait_for(|working| *working == 0).await;
    }

    /// Returns the numbers of deliveries and attempts for the metrics.
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
    /// Notifies the worker of the queue about new rows. If the queue has no worker, starts a worker.
    fn wake(&self, queue: String, permit: Option<OwnedSemaphorePermit>) {
        let shared = &self.shared;
        if matches!(*shared.phase.borrow(), Phase::Prepared | Phase::Stopped) {
            return;
        }
        if !shared.senders.get().is_some_and(|senders| senders.is_own(&queue)) {
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

    /// Returns the semaphore of the URL's host and port. The semaphore limits the number of simultaneous attempts.
    fn host(&self, url: &str) -> Arc<Semaphore> {
        let host = url::Url::parse(url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS && !hosts.contains_key(&host) {
            hosts.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.host_slots))).clone()
    }

    /// Waits until the phase is `Stopped`. In this phase everything must stop immediately.
    async fn stopped(&self) {
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Stopped).await;
    }

    /// Waits for `delay`. If the queues are being drained and the wait would end after the drain's deadline, the
    /// function returns an error immediately.
    async fn wait(&self, delay: Duration) -> Result<(), Stopped> {
        let until = Instant::now() + delay;
        let mut phase = self.phase.subscribe();
        let hopeless = phase.wait_for(|phase| match phase {
            Phase::Prepared | Phase::Running => false,
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

/// Counts a task as working until this value is dropped.
struct Working {
    shared: Arc<Shared>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.shared.working.send_modify(|working| *working -= 1);
    }
}

/// Returns the database row of a delivery that has no attempts yet.
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

/// Starts workers for all queues of `of` with pending rows. The number of simultaneous workers is limited.
async fn resume(shared: &Shared, of: &OwnedBy, wake: &(dyn Fn(String, OwnedSemaphorePermit) + Send + Sync)) {
    let slots = Arc::new(Semaphore::new(RESUMED_QUEUES));
    let mut last = String::new();
    loop {
        let queues = match deliveries::pending_queues(&shared.store, of, &last, 256).await {
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
