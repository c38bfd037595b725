//! Ensures that only one server, or only the nodes of one cluster, use a database. A second server would mistake the live
//! calls of the first server for calls that a crash has left behind.
//!
//! On PostgreSQL, a separate connection holds an advisory lock. The nodes of a cluster share the lock. PostgreSQL releases
//! the lock when this connection ends for any reason. On SQLite, the server locks the file of the database.

use std::fs::File;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _, Connection, Executor, Row};
use tokio::task::JoinHandle;

use super::file::DatabaseFile;
use super::health::{Check, Health};
use super::{Plain, Store, StoreError};

/// Number of the advisory lock. It consists of the text "tandem" and a version.
const KEY: i64 = 0x7461_6e64_656d_0001;

/// Interval between two checks of the connection that holds the lock.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum time for which a starting server waits for the lock of another server. The wait is useful after a server was
/// killed, because PostgreSQL may not have detected this yet.
const START: Duration = Duration::from_secs(5);

/// Minimum age of a heartbeat that shows that its server is dead. A younger heartbeat is read a second time after
/// `SECOND_LOOK`.
const MAX_HEARTBEAT_AGE: Duration = Duration::from_secs(10);
const SECOND_LOOK: Duration = Duration::from_millis(2_500);

/// The statements that set TCP keep-alives. PostgreSQL closes the connection of the lock if this server has been
/// unreachable for 10 + 3 * 5 s.
const KEEPALIVES: [&str; 3] =
    ["SET tcp_keepalives_idle = 10", "SET tcp_keepalives_interval = 5", "SET tcp_keepalives_count = 3"];

/// The other permitted users of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Nobody.
    Alone,
    /// The other nodes of the cluster.
    Nodes,
}

impl Sharing {
    /// Returns the statement that tries to take the lock.
    fn statement(self) -> &'static str {
        match self {
            Self::Alone => "SELECT pg_try_advisory_lock($1)",
            Self::Nodes => "SELECT pg_try_advisory_lock_shared($1)",
        }
    }
}

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
    /// Another connection holds the lock. The field describes this connection.
    Held(String),
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

/// Locks the file of an SQLite database.
pub(super) fn file(file: &DatabaseFile) -> Result<Claim, StoreError> {
    match file.lock() {
        Ok(lock) => Ok(Claim::File { _lock: lock }),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(StoreError::InUse("its lock is held".into())),
        Err(error) => Err(StoreError::Unavailable(error.into())),
    }
}

/// Takes the lock of PostgreSQL. A task watches the lock until the claim is dropped. If the lock is lost, the task
/// takes the lock again as soon as possible. Until then, this server reports that it is not ready.
pub(super) async fn lock(
    options: AnyConnectOptions,
    sharing: Sharing,
    health: Arc<Health>,
) -> Result<Claim, StoreError> {
    let mut connection = None;
    let mut refused = StoreError::Closed;
    for _ in 0..START.as_secs() {
        match tokio::time::timeout(ANSWER_TIMEOUT, acquire(&options, sharing)).await {
            Ok(Ok(locked)) => {
                connection = Some(locked);
                break;
            }
            Ok(Err(Refused::Held(by))) => refused = StoreError::InUse(by),
            Ok(Err(Refused::Failed(error))) => return Err(error.into()),
            Err(_) => return Err(StoreError::Away(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
    let Some(connection) = connection else { return Err(refused) };
    Ok(Claim::Lock(tokio::spawn(watch(connection, options, sharing, health))))
}

async fn acquire(options: &AnyConnectOptions, sharing: Sharing) -> Result<AnyConnection, Refused> {
    let mut connection = options.connect().await?;
    for setting in KEEPALIVES {
        connection.execute(setting).await?;
    }
    let taken: bool = sqlx::query_scalar(sharing.statement()).bind(KEY).fetch_one(&mut connection).await?;
    if taken {
        return Ok(connection);
    }
    let by = holder(&mut connection).await;
    // The connection is no longer needed, so an error during its close is ignored.
    let _ = connection.close().await;
    Err(Refused::Held(by.unwrap_or_else(|_| "another connection has the lock".to_owned())))
}

/// Returns a description of the connection that holds the lock. The description is for the operator.
async fn holder(connection: &mut AnyConnection) -> Result<String, sqlx::Error> {
    // PostgreSQL shows a key of 64 bits as two columns of 32 bits.
    let row = sqlx::query(
        "SELECT a.pid, COALESCE(host(a.client_addr), 'the local socket') FROM pg_locks l \
         JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND ((l.classid::bigint << 32) | l.objid::bigint) = $1 LIMIT 1",
    )
    .bind(KEY)
    .fetch_one(connection)
    .await?;
    let (process, address): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(format!("its lock is held from {address}, by PostgreSQL's process {process}"))
}

async fn watch(connection: AnyConnection, options: AnyConnectOptions, sharing: Sharing, health: Arc<Health>) {
    let mut connection = Some(connection);
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if let Some(locked) = &mut connection {
            let lost = match tokio::time::timeout(ANSWER_TIMEOUT, locked.execute("SELECT 1")).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => Plain(&error).to_string(),
                Err(_) => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            };
            // The lock ends together with its connection. At the latest, it ends when PostgreSQL detects that the
            // client has gone.
            if let Some(locked) = connection.take() {
                drop(tokio::time::timeout(ANSWER_TIMEOUT, locked.close_hard()).await);
            }
            health.note(Check::Claim, Err(format!("the lock on the database is lost: {lost}")));
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, acquire(&options, sharing)).await {
            Ok(Ok(locked)) => {
                connection = Some(locked);
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

/// Whether another server writes heartbeats to this database. This can be a server that does not support the lock, or
/// that has lost the lock. The check takes 2.5 s if the last heartbeat is recent.
pub(super) async fn is_alive(store: &Store, now: jiff::Timestamp) -> Result<bool, StoreError> {
    let Some(before) = super::server::last_alive(store).await? else { return Ok(false) };
    if now.duration_since(before).unsigned_abs() > MAX_HEARTBEAT_AGE {
        return Ok(false);
    }
    tokio::time::sleep(SECOND_LOOK).await;
    Ok(super::server::last_alive(store).await? != Some(before))
}
