//! One server to a database: a second one would take the first one's live calls for the remains of a crash.
//!
//! On PostgreSQL that is an advisory lock of a connection that does nothing else; PostgreSQL gives it up when that
//! connection ends, however it ends. On SQLite it is a lock on a file beside the database.

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

/// The advisory lock's number: "tandem" and a version.
const KEY: i64 = 0x7461_6e64_656d_0001;

/// How often the lock's connection is looked at, and how long it may take to answer.
const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a start waits for a lock that is held: a server that was just killed may not be gone for PostgreSQL.
const START: Duration = Duration::from_secs(5);

/// A heartbeat older than this is of a server that is dead; a younger one is looked at twice, so far apart.
const ALIVE: Duration = Duration::from_secs(10);
const TWICE: Duration = Duration::from_millis(2_500);

/// PostgreSQL ends the lock's connection when its server has vanished without a word for 10 + 3 * 5 seconds.
const KEEPALIVES: [&str; 3] =
    ["SET tcp_keepalives_idle = 10", "SET tcp_keepalives_interval = 5", "SET tcp_keepalives_count = 3"];

/// Holds the database for this server.
pub(super) enum Claim {
    /// The lock's file.
    File { _lock: File },
    /// Looks after the lock's connection.
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
    /// Another connection has the lock: whose.
    Held(String),
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

/// Locks SQLite's file.
pub(super) fn file(file: &DatabaseFile) -> Result<Claim, StoreError> {
    match file.lock() {
        Ok(lock) => Ok(Claim::File { _lock: lock }),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(StoreError::InUse("its lock file is locked".into())),
        Err(error) => Err(StoreError::Unavailable(error.into())),
    }
}

/// Takes PostgreSQL's lock, and looks after it until the claim is dropped: a lost one is taken again as soon as that can
/// be, and until then the server is not ready.
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
    // It did not get what it was opened for; nothing depends on how it ends.
    let _ = connection.close().await;
    Err(Refused::Held(by.unwrap_or_else(|_| "another connection has the lock".to_owned())))
}

/// Who has the lock, for people.
async fn holder(connection: &mut AnyConnection) -> Result<String, sqlx::Error> {
    // A key of 64 bits is two columns of 32 bits.
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
            // The lock ends with its connection, at the latest when PostgreSQL notices that nobody is there any more.
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
                health.note(Check::Claim, Err(format!("the lock on the database was lost, and another has it: {by}")));
            }
            Ok(Err(Refused::Failed(error))) => {
                health.note(Check::Claim, Err(format!("the lock on the database is lost: {error}")));
            }
            Err(_) => {}
        }
    }
}

/// Whether another server writes its heartbeat: one that knows nothing of the lock, or whose lock got lost. Takes 2.5 s when
/// the last heartbeat is young.
pub(super) async fn is_alive(store: &Store, now: jiff::Timestamp) -> Result<bool, StoreError> {
    let Some(before) = super::server::last_alive(store).await? else { return Ok(false) };
    if now.duration_since(before).unsigned_abs() > ALIVE {
        return Ok(false);
    }
    tokio::time::sleep(TWICE).await;
    Ok(super::server::last_alive(store).await? != Some(before))
}
