//! Ensures that only one server uses a database. A second server would take the live calls of the first one for the
//! remains of a crash.
//!
//! On PostgreSQL, an advisory lock is held by a connection that does nothing else; PostgreSQL releases the lock when
//! the connection ends for any reason. On SQLite, a file beside the database is locked.

use std::fs::File;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _, Connection, Executor, Row};
use tokio::task::JoinHandle;

use super::file::DatabaseFile;
use super::health::{Check, Health};
use super::{Store, StoreError};

/// Number of the advisory lock: "tandem" and a version.
const KEY: i64 = 0x7461_6e64_656d_0001;

/// Interval at which the lock's connection is checked, and the time limit for its answer.
const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// Time that a start waits for a lock that is held: PostgreSQL may not have noticed yet that a killed server is gone.
const START: Duration = Duration::from_secs(5);

/// Age from which a heartbeat belongs to a dead server. A younger heartbeat is read a second time after `TWICE`.
const ALIVE: Duration = Duration::from_secs(10);
const TWICE: Duration = Duration::from_millis(2_500);

/// PostgreSQL closes the lock's connection when its server has been unreachable for 10 + 3 * 5 s.
const KEEPALIVES: [&str; 3] =
    ["SET tcp_keepalives_idle = 10", "SET tcp_keepalives_interval = 5", "SET tcp_keepalives_count = 3"];

/// A lock that reserves the database for this server.
pub(super) enum Claim {
    File {
        _lock: File,
    },
    /// The task that watches the lock's connection.
    Lock(JoinHandle<()>),
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Self::Lock(watch) = self {
            watch.abort();
        }
    }
}

enum Refused {
    /// Another connection holds the lock; the text describes it.
    Held(String),
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

/// Locks the file beside an SQLite database.
pub(super) fn file(file: &DatabaseFile) -> Result<Claim, StoreError> {
    match file.lock() {
        Ok(lock) => Ok(Claim::File { _lock: lock }),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(StoreError::InUse("its lock file is locked".into())),
        Err(error) => Err(StoreError::Unavailable(error.into())),
    }
}

/// Takes PostgreSQL's lock and watches it until the claim is dropped. A lost lock is taken again as soon as possible;
/// until then the server is not ready.
pub(super) async fn lock(options: AnyConnectOptions, health: Arc<Health>) -> Result<Claim, StoreError> {
    let mut connection = None;
    let mut refused = StoreError::Closed;
    for _ in 0..START.as_secs() {
        match tokio::time::timeout(PATIENCE, acquire(&options)).await {
            Ok(Ok(held)) => {
                connection = Some(held);
                break;
            }
            Ok(Err(Refused::Held(by))) => refused = StoreError::InUse(by),
            Ok(Err(Refused::Failed(error))) => return Err(error.into()),
            Err(_) => return Err(StoreError::Away(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
        tokio::time::sleep(EVERY).await;
    }
    let Some(connection) = connection else { return Err(refused) };
    Ok(Claim::Lock(tokio::spawn(watch(connection, options, health))))
}

async fn acquire(options: &AnyConnectOptions) -> Result<AnyConnection, Refused> {
    let mut connection = options.connect().await?;
    for setting in KEEPALIVES {
        connection.execute(setting).await?;
    }
    let taken: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(KEY).fetch_one(&mut connection).await?;
    if taken {
        return Ok(connection);
    }
    let by = holder(&mut connection).await;
    // The connection is no longer needed; errors while closing it do not matter.
    let _ = connection.close().await;
    Err(Refused::Held(by.unwrap_or_else(|_| "another connection has the lock".to_owned())))
}

/// Describes the holder of the lock, for the operator.
async fn holder(connection: &mut AnyConnection) -> Result<String, sqlx::Error> {
    // PostgreSQL shows a 64-bit key as two columns of 32 bits.
    let row = sqlx::query(
        "SELECT a.pid, COALESCE(host(a.client_addr), 'the local socket') FROM pg_locks l \
         JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND ((l.classid::bigint << 32) | l.objid::bigint) = $1",
    )
    .bind(KEY)
    .fetch_one(connection)
    .await?;
    let (process, address): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(format!("its lock is held from {address}, by PostgreSQL's process {process}"))
}

async fn watch(connection: AnyConnection, options: AnyConnectOptions, health: Arc<Health>) {
    let mut connection = Some(connection);
    loop {
        tokio::time::sleep(EVERY).await;
        if let Some(held) = &mut connection {
            let lost = match tokio::time::timeout(PATIENCE, held.execute("SELECT 1")).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            // The lock ends with its connection, or at the latest when PostgreSQL notices that the client is gone.
            if let Some(held) = connection.take() {
                drop(tokio::time::timeout(PATIENCE, held.close_hard()).await);
            }
            health.note(Check::Claim, Err(format!("the lock on the database is lost: {lost}")));
        }
        match tokio::time::timeout(PATIENCE, acquire(&options)).await {
            Ok(Ok(held)) => {
                connection = Some(held);
                health.note(Check::Claim, Ok(()));
            }
            Ok(Err(Refused::Held(by))) => {
                health.note(
                    Check::Claim,
                    Err(format!("the lock on the database was lost, and another server has it: {by}")),
                );
            }
            Ok(Err(Refused::Failed(error))) => {
                health.note(Check::Claim, Err(format!("the lock on the database is lost: {error}")));
            }
            Err(_) => {}
        }
    }
}

/// Whether another server writes heartbeats: one without support for the lock, or one that has lost it. Takes 2.5 s
/// when the last heartbeat is young.
pub(super) async fn is_alive(store: &Store, now: jiff::Timestamp) -> Result<bool, StoreError> {
    let Some(before) = super::server::last_alive(store).await? else { return Ok(false) };
    if now.duration_since(before).unsigned_abs() > ALIVE {
        return Ok(false);
    }
    tokio::time::sleep(TWICE).await;
    Ok(super::server::last_alive(store).await? != Some(before))
}
