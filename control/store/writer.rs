//! The single task that writes to the database. The task stores queued writes in one transaction (a batch).
//!
//! A batch ends when 4,096 writes are queued, when a caller waits for one of the writes, or after one second. So under
//! load, one commit and one statement store many rows. A row that changes twice within a batch is written once. Between
//! batches the task sleeps. A write for which no caller waits does not wake the task. The task has a connection of its
//! own, so that the page cache of this connection stays valid.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection};
use tandem_causes::cause::Cause;
use tandem_id::AccountName;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bindings::{self, BindingRow};
use super::calls::{self, LateRow};
use super::deliveries::{self, DeliveryProgress, DeliveryRow};
use super::events::{self, EventRow};
use super::health::{Check, Health};
use super::recordings::{self, RecordingRow};
use super::resources;
use super::{Plain, StoreError};
use foldhash::HashMap;

/// Maximum number of writes in a transaction.
const BATCH: usize = 4096;

/// Maximum time for which the first write of a batch waits for other writes. If a caller waits for a write (for example
/// a read or a webhook), the batch is stored at once. If the process is killed, only the writes of this time are lost.
/// Because the time is this long, most states of a leg are never written.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Capacity of the queue. If the queue is full, `submit` and `write` wait, and `try_submit` drops the write.
const QUEUE: usize = 16_384;

/// Time for which the task retries a write while the database is unavailable. This time applies to a write that a
/// caller waits for. The task retries longer if no caller waits for the write. The task also retries longer for a
/// delivery, because the caller of a delivery has no alternative.
const RETRY_TIME: Duration = Duration::from_secs(5);

/// Maximum time for which a read waits for earlier writes while the task stores no write. If the database has already
/// been unavailable for this time, a read does not wait at all.
const WAIT: Duration = Duration::from_secs(3);

/// Time for which the writer task may fail before the server reports that it is not ready. A shorter failure may be
/// temporary.
const GRACE: Duration = Duration::from_secs(1);

/// Maximum duration of a transaction. After this time, the connection of the transaction is closed.
const LONGEST: Duration = Duration::from_secs(30);

/// The first pause between two retries while the database is unavailable. Each further pause is twice as long, up to
/// `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A write to the database.
#[derive(Debug)]
pub enum Write {
    /// Adds or updates a call row.
    Call(LateRow),
    /// Replaces the details of a call row if the row still exists.
    CallDetails(LateRow),
    /// Adds or replaces a recording row.
    Recording(Box<RecordingRow>),
    /// Adds a line to a call's log.
    Event(Box<EventRow>),
    /// Adds a delivery.
    Delivery(Box<DeliveryRow>),
    /// Stores the result of an attempt to send a delivery.
    DeliveryProgress(Box<DeliveryProgress>),
    /// Adds or replaces a resource.
    Resource(Box<resources::Row>),
    /// Adds or replaces the registration of a phone.
    Binding(Box<BindingRow>),
    /// Removes the registration of a phone at this node, if the server is one.
    Unbinding(u128, Option<String>),
}

/// A handle of the writer task. All clones use the same task.
#[derive(Clone)]
pub struct Writer {
    sender: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// A queued write that is not yet committed.
pub struct Begun(oneshot::Receiver<Result<(), StoreError>>);

impl Begun {
    /// Waits until the write is committed.
    pub async fn committed(self) -> Result<(), StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Closed))
    }
}

type Acknowledgement = oneshot::Sender<Result<(), StoreError>>;

enum Message {
    Write(Write, Option<Acknowledgement>),
    Flush(Acknowledgement),
    Close,
}

impl Message {
    /// Whether no caller waits for the message.
    fn can_wait(&self) -> bool {
        matches!(self, Message::Write(_, None))
    }
}

#[derive(Default)]
struct Shared {
    submitted: AtomicU64,
    finished: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
    failures: AtomicU64,
    closing: AtomicBool,
    /// The epoch of this node. 0 if the server is alone.
    epoch: AtomicI64,
    health: Arc<Health>,
    /// Wakes the writer task. The task then ends the current batch.
    urgent: Notify,
}

impl Writer {
    /// From now on, writes are stored only while the node with this epoch has its lease.
    pub(super) fn fence(&self, epoch: i64) {
        self.shared.epoch.store(epoch, Ordering::Relaxed);
    }

    pub(super) fn start(pool: AnyPool, sequence: Arc<AtomicI64>, health: Arc<Health>) -> Writer {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared { health, ..Shared::default() });
        let task = WriterTask { pool, connection: None, sequence, receiver, shared: shared.clone() };
        let task = Arc::new(Mutex::new(Some(tokio::spawn(task.run()))));
        Writer { sender, shared, task }
    }

    /// Queues a write. If the queue is full, the function waits. If the database is unavailable for some time, the
    /// write is stored later.
    pub async fn submit(&self, write: Write) -> Result<(), StoreError> {
        self.send(write, None).await
    }

    /// Queues a write. If the queue is full, the write is dropped and counted.
    pub fn try_submit(&self, write: Write) {
        match self.sender.try_reserve() {
            Ok(permit) => {
                self.shared.submitted.fetch_add(1, Ordering::SeqCst);
                permit.send(Message::Write(write, None));
                self.write_soon_if_many();
            }
            Err(_) => {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Queues a write and waits until the write is committed. If the database is unavailable, the function fails after
    /// about five seconds.
    pub async fn write(&self, write: Write) -> Result<(), StoreError> {
        self.begin(write).await?.committed().await
    }

    /// Queues a write behind the earlier writes. The returned value completes when the write is committed.
    pub async fn begin(&self, write: Write) -> Result<Begun, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.send(write, Some(sender)).await?;
        Ok(Begun(receiver))
    }

    /// Waits until the database has committed or refused all earlier writes. Refused writes are logged. If the database
    /// is unavailable, the function returns [`StoreError::Away`]. At the beginning of an outage, the function returns
    /// this error after 3 s. Later in the outage, the function returns the error at once.
    pub async fn flush(&self) -> Result<(), StoreError> {
        if let Some(reason) = self.shared.health.away_for(WAIT) {
            return Err(StoreError::Away(reason));
        }
        let submitted = self.shared.submitted.load(Ordering::SeqCst);
        if self.shared.finished.load(Ordering::SeqCst) >= submitted {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        let flushed = async {
            self.sender.send(Message::Flush(sender)).await.map_err(|_| StoreError::Closed)?;
            self.shared.urgent.notify_one();
            receiver.await.unwrap_or(Err(StoreError::Closed))
        };
        let mut flushed = std::pin::pin!(flushed);
        loop {
            let finished = self.shared.finished.load(Ordering::SeqCst);
            match tokio::time::timeout(WAIT, &mut flushed).await {
                Ok(done) => return done,
                // The task has many writes and makes progress, so the flush continues to wait.
                Err(_) if self.shared.finished.load(Ordering::SeqCst) > finished => {}
                Err(_) => return Err(StoreError::Away(format!("nothing was stored for {} s", WAIT.as_secs()))),
            }
        }
    }

    /// Makes the task store the current batch at once instead of after up to one second. The function does not wait
    /// until the batch is stored.
    pub fn write_soon(&self) {
        self.shared.urgent.notify_one();
    }

    /// Returns the number of writes that are not stored yet.
    pub fn waiting(&self) -> u64 {
        let finished = self.shared.finished.load(Ordering::SeqCst);
        self.shared.submitted.load(Ordering::SeqCst).saturating_sub(finished)
    }

    /// Returns the number of log lines that were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Returns the number of writes that the database refused, or that were dropped at shutdown. Each of these writes
    /// was logged.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Returns the number of transactions that failed because the database was unavailable. Each of these transactions
    /// was retried.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Stores all submitted writes, and ends the task.
    pub(super) async fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // An error means that the task has already ended, so an error is ignored.
        let _ = self.sender.send(Message::Close).await;
        self.shared.urgent.notify_one();
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }

    async fn send(&self, write: Write, acknowledgement: Option<Acknowledgement>) -> Result<(), StoreError> {
        let permit = match self.sender.try_reserve() {
            Ok(permit) => permit,
            Err(_) => self.sender.reserve().await.map_err(|_| StoreError::Closed)?,
        };
        self.shared.submitted.fetch_add(1, Ordering::SeqCst);
        let awaited = acknowledgement.is_some();
        permit.send(Message::Write(write, acknowledgement));
        if awaited {
            self.shared.urgent.notify_one();
        } else {
            self.write_soon_if_many();
        }
        Ok(())
    }

    fn write_soon_if_many(&self) {
        if self.sender.capacity() <= QUEUE - BATCH {
            self.shared.urgent.notify_one();
        }
    }
}

struct WriterTask {
    pool: AnyPool,
    /// The connection of the task. `None` after the connection has failed.
    connection: Option<PoolConnection<Any>>,
    sequence: Arc<AtomicI64>,
    receiver: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
}

struct Pending {
    /// The write. `None` if a later write of the same batch replaces it.
    write: Option<Write>,
    acknowledgement: Option<Acknowledgement>,
}

impl WriterTask {
    async fn run(mut self) {
        let mut inbox = Vec::new();
        while self.gather(&mut inbox).await {
            let mut batch = Vec::with_capacity(inbox.len());
            let mut flushes = Vec::new();
            for message in inbox.drain(..) {
                match message {
                    Message::Write(write, acknowledgement) => {
                        batch.push(Pending { write: Some(write), acknowledgement });
                    }
                    Message::Flush(acknowledgement) => flushes.push(acknowledgement),
                    Message::Close => self.receiver.close(),
                }
            }
            let taken = batch.len() as u64;
            supersede(&mut batch);
            self.store(batch, &mut flushes).await;
            self.shared.finished.fetch_add(taken, Ordering::SeqCst);
            for flush in flushes {
                let _ = flush.send(Ok(()));
            }
        }
    }

    /// Takes the next batch from the queue. Returns `false` if no further batch will come.
    async fn gather(&mut self, inbox: &mut Vec<Message>) -> bool {
        let open = self.receiver.recv_many(inbox, BATCH).await > 0;
        // An old notification only ends this batch earlier.
        if open && inbox.len() < BATCH && inbox.iter().all(Message::can_wait) {
            let _ = tokio::time::timeout(BATCH_INTERVAL, self.shared.urgent.notified()).await;
            while inbox.len() < BATCH
                && let Ok(message) = self.receiver.try_recv()
            {
                inbox.push(message);
            }
        }
        open
    }

    /// Stores the batch. If the database refuses the batch, the writes are stored one by one, so that only the refused
    /// writes are lost.
    async fn store(&mut self, batch: Vec<Pending>, flushes: &mut Vec<Acknowledgement>) {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut away = false;
        let mut work = VecDeque::from([batch]);
        while let Some(mut batch) = work.pop_front() {
            if batch.is_empty() {
                continue;
            }
            let stored = self.transaction(&batch).await;
            if stored.as_ref().is_err_and(is_fenced) {
                drop_fenced(batch);
                continue;
            }
            if away && !stored.as_ref().is_err_and(is_transient) {
                self.shared.health.note(Check::Writer, Ok(()));
            }
            let Err(error) = stored else {
                acknowledge(batch);
                continue;
            };
            if !is_transient(&error) {
                if batch.len() > 1 {
                    for pending in batch.into_iter().rev() {
                        work.push_front(vec![pending]);
                    }
                } else {
                    // The earlier commit succeeded, and its response was lost. So the row already exists.
                    let stored_before = away
                        && is_duplicate(&error)
                        && matches!(batch.first(), Some(Pending { write: Some(Write::Delivery(_)), .. }));
                    if stored_before { acknowledge(batch) } else { self.lose(batch, &error) }
                }
                continue;
            }
            if began.elapsed() >= RETRY_TIME {
                refuse_waiting(&mut batch, flushes, &error);
                if self.shared.closing.load(Ordering::SeqCst) {
                    self.lose(batch, &error);
                    continue;
                }
            }
            away = true;
            if began.elapsed() >= GRACE {
                let reason = format!("the database does not accept writes: {}", Plain(&error));
                self.shared.health.note(Check::Writer, Err(reason));
            }
            self.shared.failures.fetch_add(1, Ordering::Relaxed);
            let error = Plain(&error);
            tracing::warn!(%error, writes = batch.len(), "database not available, retrying");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            work.push_front(batch);
        }
    }

    async fn transaction(&mut self, batch: &[Pending]) -> Result<(), sqlx::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        let epoch = self.shared.epoch.load(Ordering::Relaxed);
        let stored = tokio::time::timeout(LONGEST, store_batch(&mut connection, batch, &self.sequence, epoch)).await;
        if let Ok(Ok(())) = stored {
            self.connection = Some(connection);
            return Ok(());
        }
        // sqlx may be wrong about the state of the connection. So the connection is never used again (see the pool's
        // `after_release`).
        connection.close_on_drop();
        stored.unwrap_or_else(|_| {
            let text = format!("a transaction took longer than {} s", LONGEST.as_secs());
            Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text)))
        })
    }

    fn lose(&self, batch: Vec<Pending>, error: &sqlx::Error) {
        let error = Plain(error);
        for pending in batch {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            self.shared.health.report(
                &AccountName::server(),
                Cause::DatabaseAway,
                format!("a row could not be stored: {error}"),
            );
            if let Some(acknowledgement) = pending.acknowledgement {
                let _ = acknowledgement.send(Err(StoreError::NotWritten(error.to_string())));
            }
        }
    }
}

async fn store_batch(
    connection: &mut AnyConnection,
    batch: &[Pending],
    sequence: &AtomicI64,
    epoch: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if epoch != 0 {
        // Another node may have ended the calls of this node. Then an older state must not replace their ends.
        sqlx::query("SELECT 1::BIGINT FROM nodes WHERE epoch = $1 AND state IN ('alive', 'draining')")
            .bind(epoch)
            .fetch_one(&mut *transaction)
            .await?;
    }
    let (mut calls, mut later, mut events) = (Vec::new(), Vec::new(), Vec::new());
    for write in batch.iter().filter_map(|pending| pending.write.as_ref()) {
        match write {
            Write::Call(row) => calls.push(row),
            Write::CallDetails(row) => later.push(row),
            Write::Event(row) => events.push(&**row),
            Write::Recording(row) => recordings::write(&mut transaction, row).await?,
            Write::Delivery(row) => deliveries::write(&mut transaction, row).await?,
            Write::DeliveryProgress(progress) => deliveries::write_progress(&mut transaction, progress).await?,
            Write::Resource(row) => resources::write(&mut transaction, row).await?,
            Write::Binding(row) => bindings::write(&mut transaction, row).await?,
            Write::Unbinding(id, node) => bindings::remove(&mut transaction, *id, node.as_deref()).await?,
        }
    }
    calls::write(&mut transaction, &calls).await?;
    for row in later {
        calls::write_details(&mut transaction, row).await?;
    }
    events::write(&mut transaction, &events, || sequence.fetch_add(1, Ordering::Relaxed) + 1).await?;
    transaction.commit().await?;
    Ok(())
}

/// Removes each write whose whole row a later write of the same batch replaces. If the batch has an earlier write of a
/// call row, new details of this row replace the details in the earlier write.
fn supersede(batch: &mut [Pending]) {
    #[derive(PartialEq, Eq, Hash)]
    enum Key {
        Call(u128),
        Recording(u128),
        Delivery(u128),
    }
    let mut seen: HashMap<Key, usize> = HashMap::with_capacity_and_hasher(batch.len(), Default::default());
    for index in 0..batch.len() {
        let (before, after) = batch.split_at_mut(index);
        let Some(pending) = after.first_mut() else { return };
        let key = match &pending.write {
            Some(Write::Call(row)) => Key::Call(row.id),
            Some(Write::CallDetails(later)) => {
                let call = seen.get(&Key::Call(later.id)).and_then(|index| before.get_mut(*index));
                if let Some(Pending { write: Some(Write::Call(row)), .. }) = call
                    && let Some(Write::CallDetails(later)) = pending.write.take()
                {
                    *row = later;
                }
                continue;
            }
            Some(Write::Recording(row)) => Key::Recording(row.id),
            Some(Write::DeliveryProgress(progress)) => Key::Delivery(progress.id),
            _ => continue,
        };
        if let Some(older) = seen.insert(key, index).and_then(|index| before.get_mut(index)) {
            older.write = None;
        }
    }
}

fn acknowledge(batch: Vec<Pending>) {
    for acknowledgement in batch.into_iter().filter_map(|pending| pending.acknowledgement) {
        let _ = acknowledgement.send(Ok(()));
    }
}

/// Reports a failure to the callers that wait, and drops the writes of these callers. So a write that is reported as
/// failed is never stored later.
fn refuse_waiting(batch: &mut Vec<Pending>, flushes: &mut Vec<Acknowledgement>, error: &sqlx::Error) {
    let refusal = || Err(StoreError::NotWritten(Plain(error).to_string()));
    for flush in flushes.drain(..) {
        let _ = flush.send(refusal());
    }
    let waits = |pending: &&mut Pending| {
        pending.acknowledgement.is_some() && !matches!(pending.write, Some(Write::Delivery(_)))
    };
    for pending in batch.iter_mut().filter(waits) {
        pending.write = None;
        if let Some(acknowledgement) = pending.acknowledgement.take() {
            let _ = acknowledgement.send(refusal());
        }
    }
    batch.retain(|pending| pending.write.is_some());
}

/// Whether this node has lost its lease: its row was not found.
fn is_fenced(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::RowNotFound)
}

/// Drops the writes of a node that has lost its lease. The node ends.
fn drop_fenced(batch: Vec<Pending>) {
    tracing::warn!(writes = batch.len(), "this node has lost its lease: another node writes the records of its calls");
    for acknowledgement in batch.into_iter().filter_map(|pending| pending.acknowledgement) {
        let _ = acknowledgement.send(Err(StoreError::NotWritten("this node has lost its lease".to_owned())));
    }
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_unique_violation())
}

/// Whether the same statement may succeed later. This is true if the connection, the disk or the server caused the
/// error, and not the row.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            // PostgreSQL has codes of five characters. The classes are 08 connection, 25 read-only (a standby), 28 and
            // 3D login failure, 40 rollback, 53 resources, 55 wrong state, 57 operator intervention, 58 system error,
            // and XX internal error.
            if code.len() == 5 {
                return ["08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX"]
                    .iter()
                    .any(|class| code.starts_with(class));
            }
            // SQLite has numeric codes. The lowest octet is the primary code: BUSY 5, LOCKED 6, NOMEM 7, READONLY 8,
            // IOERR 10, FULL 13, CANTOPEN 14, PROTOCOL 15.
            code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5..=8 | 10 | 13..=15))
        }
        _ => false,
    }
}
