//! The connections for reads of lists, and their limits. A list may be slow: then it takes none of the connections of
//! the heartbeat, of the writer and of other reads, and it ends after [`READ_TIME`].
//!
//! An account has at most [`READS_PER_ACCOUNT`] reads at the same time. At most [`WAITING_PER_ACCOUNT`] further reads
//! wait, each for at most [`READ_WAIT`]. A read beyond these limits gets [`StoreError::TooManyReads`]. An account shares
//! its places with its subaccounts, because an account can create many subaccounts.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::sqlite::{SqliteArguments, SqlitePool, SqliteRow};
use sqlx::{AnyPool, Row as _};
use tandem_causes::cause::Cause;
use tandem_id::AccountName;
use tandem_shares::{ParentOf, PerAccount};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::health::Health;
use super::{StoreError, assembled};

/// Number of connections for reads of lists.
pub(super) const READ_CONNECTIONS: u32 = 6;

/// Maximum number of simultaneous reads of one account. Other accounts always find a connection.
const READS_PER_ACCOUNT: usize = 3;

/// Maximum number of reads of one account that wait.
const WAITING_PER_ACCOUNT: usize = 32;

/// Maximum time for which a read waits for its turn.
const READ_WAIT: Duration = Duration::from_secs(3);

/// Maximum duration of a read. After this time, the database stops the read.
pub(super) const READ_TIME: Duration = Duration::from_secs(5);

/// Number of SQLite's instructions between two checks whether a read must stop. SQLite executes some millions of
/// instructions in a second.
const STEPS: i32 = 10_000;

/// Minimum time between two reports about the reads of an account.
const QUIET: Duration = Duration::from_secs(60);

/// The connections for reads.
pub(super) enum ReadPool {
    /// SQLite. A progress handler stops a read.
    Sqlite(SqlitePool),
    /// PostgreSQL. The setting `statement_timeout` of the connections stops a read.
    Postgres(AnyPool),
}

/// The connections for reads, with a queue for each account.
pub(super) struct Reads {
    pool: ReadPool,
    queues: PerAccount<AccountQueue>,
    health: Arc<Health>,
}

struct AccountQueue {
    places: Arc<Semaphore>,
    /// Number of reads that run or wait.
    reads: AtomicUsize,
    /// The time of the last report.
    reported: Mutex<Option<Instant>>,
}

impl Default for AccountQueue {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(READS_PER_ACCOUNT)),
            reads: AtomicUsize::new(0),
            reported: Mutex::default(),
        }
    }
}

/// The place of a read in the queue of its account.
struct Place {
    queue: Arc<AccountQueue>,
    /// The permit of a read that runs. `None` while the read waits.
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit.take();
        self.queue.reads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AccountQueue {
    /// Whether a refused read is reported. Reads of an account that follow within a minute are not reported.
    fn reports(&self) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let reports = reported.is_none_or(|at| at.elapsed() >= QUIET);
        if reports {
            *reported = Some(Instant::now());
        }
        reports
    }
}

impl Reads {
    pub(super) fn new(pool: ReadPool, health: Arc<Health>) -> Self {
        Self { pool, queues: PerAccount::new(AccountQueue::default), health }
    }

    pub(super) fn share(&self, parent_of: ParentOf) {
        self.queues.share(parent_of);
    }

    pub(super) async fn close(&self) {
        match &self.pool {
            ReadPool::Sqlite(pool) => pool.close().await,
            ReadPool::Postgres(pool) => pool.close().await,
        }
    }

    /// Whether the database is SQLite.
    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self.pool, ReadPool::Sqlite(_))
    }

    /// Returns the rows of a query. `account` is the account that reads, or `None` for an operator who reads the data
    /// of several accounts. `arguments` must not depend on the database.
    pub(super) async fn rows(
        &self,
        account: Option<&AccountName>,
        sql: String,
        arguments: AnyArguments,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let server = AccountName::server();
        let account = account.unwrap_or(&server);
        let queue = self.queues.of(account);
        let done = async {
            let _place = place(&queue).await?;
            self.run(sql, arguments).await
        };
        done.await.inspect_err(|error| {
            if matches!(error, StoreError::TooManyReads | StoreError::ReadTooSlow) && queue.reports() {
                self.health.report(account, Cause::ReadLimit, error.to_string());
            }
        })
    }

    /// Returns the number in the first column of the only row of a query.
    pub(super) async fn number(
        &self,
        account: Option<&AccountName>,
        sql: String,
        arguments: AnyArguments,
    ) -> Result<i64, StoreError> {
        let rows = self.rows(account, sql, arguments).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    async fn run(&self, sql: String, arguments: AnyArguments) -> Result<Vec<AnyRow>, StoreError> {
        let pool = match &self.pool {
            ReadPool::Postgres(pool) => {
                let query = sqlx::query_with(assembled(sql), arguments);
                return in_time(query.fetch_all(pool)).await;
            }
            ReadPool::Sqlite(pool) => pool,
        };
        let arguments: SqliteArguments = arguments.convert_into().map_err(sqlx::Error::Encode)?;
        let mut connection = pool.acquire().await?;
        // The flag also stops the read if the client disconnects and this future is dropped.
        let stop = StopOnDrop::default();
        let stopped = Arc::clone(&stop.0);
        connection.lock_handle().await?.set_progress_handler(STEPS, move || !stopped.load(Ordering::Relaxed));
        let rows: Vec<SqliteRow> =
            in_time(sqlx::query_with(assembled(sql), arguments).fetch_all(&mut *connection)).await?;
        connection.lock_handle().await?.remove_progress_handler();
        Ok(rows.iter().map(AnyRow::try_from).collect::<Result<_, _>>()?)
    }
}

/// Sets a flag when it is dropped.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn in_time<T>(read: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(READ_TIME, read).await {
        Ok(Ok(rows)) => Ok(rows),
        // SQLite: SQLITE_INTERRUPT. PostgreSQL: query_canceled, for example after `statement_timeout`.
        Ok(Err(sqlx::Error::Database(error))) if matches!(error.code().as_deref(), Some("9" | "57014")) => {
            Err(StoreError::ReadTooSlow)
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(StoreError::ReadTooSlow),
    }
}

async fn place(queue: &Arc<AccountQueue>) -> Result<Place, StoreError> {
    let before = queue.reads.fetch_add(1, Ordering::Relaxed);
    let mut place = Place { queue: Arc::clone(queue), permit: None };
    if before >= READS_PER_ACCOUNT + WAITING_PER_ACCOUNT {
        return Err(StoreError::TooManyReads);
    }
    let permit = tokio::time::timeout(READ_WAIT, Arc::clone(&queue.places).acquire_owned()).await;
    match permit {
        Ok(Ok(permit)) => place.permit = Some(permit),
        Ok(Err(_)) => return Err(StoreError::Closed),
        Err(_) => return Err(StoreError::TooManyReads),
    }
    Ok(place)
}
