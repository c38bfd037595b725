//! The database. It contains history and resources, and no live calls.
//!
//! ```text
//!  call tasks ──submit──▶ Writer ──one transaction a batch──▶ SQLite (default)
//!  REST reads ──flush──▶ calls::list, recordings::get, ... ──▶ or PostgreSQL
//! ```
//!
//! The same queries work on both databases. Ids are 32 lower-case hexadecimal digits, times are microseconds since 1970
//! UTC, and JSON is text. One task, the [`writer`], writes the rows that change often (calls, event lines). So SQLite
//! has only one writer, and each transaction has many rows. Every read first waits for all writes that were submitted
//! before it.
#![forbid(unsafe_code)]

pub mod bindings;
pub mod calls;
mod claim;
mod column;
pub mod commands;
pub mod deliveries;
pub mod domains;
pub mod events;
mod file;
pub mod health;
mod insert;
pub mod nodes;
mod owned;
pub mod owned_names;
mod read;
pub mod recordings;
pub mod resources;
mod select;
pub mod server;
pub mod slices;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, Executor, SqlSafeStr};
use tandem_shares::ParentOf;
use tokio::sync::Mutex;

use claim::Claim;
pub use claim::Sharing;
use file::DatabaseFile;
use health::Health;
pub use owned::OwnedBy;
use read::{READ_CONNECTIONS, READ_TIME, ReadPool, Reads};
pub use select::{Cursor, Page, TimeRange};
use writer::Writer;

/// All migrations in order. A migration has a version, a description and SQL. Never edit a released migration. Add a
/// new migration instead.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "calls recordings deliveries events", include_str!("migrations/0001_calls_recordings_deliveries_events.sql")),
    (2, "phones", include_str!("migrations/0002_phones.sql")),
    (3, "resources", include_str!("migrations/0003_resources.sql")),
    (4, "open applications", include_str!("migrations/0004_open_applications.sql")),
    (5, "indexes for lists", include_str!("migrations/0005_indexes_for_lists.sql")),
    (6, "causes of reports", include_str!("migrations/0006_causes_of_reports.sql")),
    (7, "nodes", include_str!("migrations/0007_nodes.sql")),
    (8, "limit slices and commands", include_str!("migrations/0008_limit_slices_and_commands.sql")),
    (9, "owned names", include_str!("migrations/0009_owned_names.sql")),
];

/// Number of connections for reads of single rows and for writes that do not go through the writer task. Reads of lists
/// have connections of their own ([`read`]). SQLite serves parallel readers and one writer. PostgreSQL has a backend
/// process for each connection.
const POOL_CONNECTIONS: u32 = 6;

/// Number of connections for the writer task and the heartbeat. Each of them always finds its connection.
const VITAL_CONNECTIONS: u32 = 2;

/// Maximum time for which an operation waits for a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections and the writer. All clones use the same connections and the same writer.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    /// The connections of the writer task and of the heartbeat.
    vital: AnyPool,
    /// The connections for reads of lists.
    reads: Arc<Reads>,
    writer: Writer,
    sequence: Arc<AtomicI64>,
    health: Arc<Health>,
    /// The database file. `None` for PostgreSQL.
    file: Option<Arc<DatabaseFile>>,
    options: AnyConnectOptions,
    /// The lock that excludes other servers. `None` before [`Store::claim`].
    claim: Arc<Mutex<Option<Claim>>>,
    /// Counts the changes of settings.
    written: Arc<nodes::Written>,
}

/// The reason why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The value of `database.url` is invalid.
    #[error("database url {url:?}: {reason}")]
    Url {
        /// The configured URL without its password.
        url: String,
        /// The expected form of the URL.
        reason: String,
    },
    /// A newer version of this server has migrated the schema.
    #[error(
        "a newer version of tandem has written this database (its schema has version {found}, and this version of tandem knows versions up to {known}): start the newer version, or restore a backup from before the upgrade"
    )]
    Newer {
        /// Version of the schema.
        found: i64,
        /// The newest version that this server knows.
        known: i64,
    },
    /// The schema could not be migrated.
    #[error("database migration: {}", plain_migration(.0))]
    Migration(sqlx::migrate::MigrateError),
    /// The first connection failed.
    #[error("{target}: {reason}")]
    Unreachable {
        /// The database: its path, or its host and port. The text never contains the password.
        target: String,
        /// The error of the connection attempt.
        reason: String,
    },
    /// The database refused the operation or did not respond.
    #[error("database: {}", Plain(.0))]
    Unavailable(sqlx::Error),
    /// A submitted write was not stored.
    #[error("write not stored: {0}")]
    NotWritten(String),
    /// A stored value is not in the format of this version.
    #[error("column {column} has the invalid value {value:?}")]
    Corrupt {
        /// Name of the column.
        column: &'static str,
        value: String,
    },
    /// The database has been unavailable for so long that it is useless to wait for the database.
    #[error("the database is not available: {0}")]
    Away(String),
    /// Another server uses the database.
    #[error("the database is in use by another tandem: {0}")]
    InUse(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The account reads too many lists at the same time.
    #[error("the account reads too many lists at the same time")]
    TooManyReads,
    /// The read of a list was stopped.
    #[error("a list was not read within {} s", read::READ_TIME.as_secs())]
    ReadTooSlow,
}

// This `From` is not derived with `#[from]`. The text already contains the source, so a printed chain of errors would
// show the source twice.
/// The error of a failed database query. The log contains the details.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreFailed {
    /// The database does not answer, or refused the query.
    #[error("the database does not answer")]
    Away,
    /// The account reads too many lists at the same time. A later request may succeed.
    #[error("too many lists of this account are read at the same time: repeat the request later")]
    TooManyReads,
    /// The list was not read in time.
    #[error("the list was not read within {} s: ask for a shorter range of time", read::READ_TIME.as_secs())]
    ReadTooSlow,
}

impl From<StoreError> for StoreFailed {
    fn from(error: StoreError) -> Self {
        match error {
            // The store has logged these errors, with the account.
            StoreError::TooManyReads => Self::TooManyReads,
            StoreError::ReadTooSlow => Self::ReadTooSlow,
            error => {
                tracing::error!(%error, "database");
                Self::Away
            }
        }
    }
}

/// The text of a database error. PostgreSQL adds the file and the line of its own source code to its errors. A reader
/// would take this line for a line of the configuration, so only the message is shown.
struct Plain<'a>(&'a sqlx::Error);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            sqlx::Error::Database(error) => f.write_str(error.message()),
            other => other.fmt(f),
        }
    }
}

fn plain_migration(error: &sqlx::migrate::MigrateError) -> String {
    match error {
        sqlx::migrate::MigrateError::Execute(error) => Plain(error).to_string(),
        sqlx::migrate::MigrateError::ExecuteMigration(error, version) => {
            format!("migration {version}: {}", Plain(error))
        }
        other => other.to_string(),
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::VersionMissing(found) => {
                Self::Newer { found, known: MIGRATIONS.last().map_or(0, |(version, ..)| *version) }
            }
            other => Self::Migration(other),
        }
    }
}

impl Store {
    /// Opens a database and migrates its schema. `url` is `sqlite:PATH` or `postgres://...`. The SQLite file and its
    /// parent directory are created if they do not exist.
    ///
    /// Call this function on a tokio runtime, because it starts the writer task.
    pub async fn open(url: &str) -> Result<Store, StoreError> {
        Self::open_with(url, POOL_CONNECTIONS, &[]).await
    }

    /// Opens a database with `connections` connections. On SQLite, each connection first runs the statements in
    /// `first`.
    async fn open_with(url: &str, connections: u32, first: &'static [&'static str]) -> Result<Store, StoreError> {
        sqlx::any::install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        let path = if sqlite { Some(sqlite_path(url)?) } else { None };
        let target = path.as_ref().map_or_else(|| url.to_owned(), |(_, target)| target.clone());
        if !sqlite && !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
            return Err(StoreError::Url {
                url: without_password(url),
                reason: "must begin with sqlite: or postgres://".into(),
            });
        }
        let file = match &path {
            Some((path, _)) => Some(Arc::new(open_file(path, url)?)),
            None => None,
        };
        // A log line for each statement would take more time than the statement.
        let options = target.parse::<AnyConnectOptions>()?.disable_statement_logging();
        reach(&options, &target).await?;
        let vital = pool(&options, connections.min(VITAL_CONNECTIONS), sqlite, first).await?;
        migrator().run(&vital).await?;
        let pool = pool(&options, connections, sqlite, first).await?;
        let health = Arc::new(Health::default());
        let reads = Reads::new(read_pool(&target, &options, sqlite, first).await?, Arc::clone(&health));
        let last: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM deliveries").fetch_one(&pool).await?;
        // Event lines use the same sequence. The sequence starts with the current time in microseconds, so that the
        // lines of a call keep their order across restarts.
        let sequence = Arc::new(AtomicI64::new(last.max(Timestamp::now().as_microsecond())));
        let writer = Writer::start(vital.clone(), sequence.clone(), health.clone());
        let reads = Arc::new(reads);
        Ok(Store {
            pool,
            vital,
            reads,
            writer,
            sequence,
            health,
            file,
            options,
            claim: Arc::default(),
            written: Arc::default(),
        })
    }

    /// Reserves the database until [`Store::close`]: for this server, or for this server and other nodes of its cluster.
    /// Returns [`StoreError::InUse`] if another server has reserved the database, or uses the database without a
    /// reservation.
    pub async fn claim(&self, sharing: Sharing) -> Result<(), StoreError> {
        let claim = match &self.file {
            Some(file) => claim::file(file)?,
            None => {
                let claim = claim::lock(self.options.clone(), sharing, self.health.clone()).await?;
                if claim::is_alive(self, Timestamp::now()).await? {
                    return Err(StoreError::InUse(
                        "another server writes heartbeats, although this server holds the lock".into(),
                    ));
                }
                claim
            }
        };
        *self.claim.lock().await = Some(claim);
        Ok(())
    }

    /// From now on, the writer stores rows only while the node with this epoch has its lease.
    pub fn fence(&self, epoch: i64) {
        self.writer.fence(epoch);
    }

    /// Sets the function that returns the main account of a subaccount. From then on, the reads of a subaccount count for
    /// its main account. Further calls have no effect.
    pub fn share_reads(&self, parent_of: ParentOf) {
        self.reads.share(parent_of);
    }

    /// Returns the health of the database.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Returns the queue of writes.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Waits until all writes that were submitted earlier are stored. A write that failed and was logged does not
    /// count.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.writer.flush().await
    }

    /// Stores all submitted writes, and then closes the connections. Later operations return [`StoreError::Closed`].
    pub async fn close(&self) {
        self.writer.close().await;
        self.vital.close().await;
        self.reads.close().await;
        self.pool.close().await;
        self.claim.lock().await.take();
    }

    /// Makes all later numbers of the sequence larger than the numbers that another server has taken until now. The
    /// numbers of a server begin with the time at its start, and the clocks of two servers may differ.
    pub fn pass_other_sequences(&self) {
        const CLOCK_DIFFERENCE: i64 = 5_000_000;
        let now = Timestamp::now().as_microsecond();
        self.sequence.fetch_max(now + CLOCK_DIFFERENCE, std::sync::atomic::Ordering::Relaxed);
    }

    /// Returns the next number of a sequence. Deliveries and event lines take their numbers from this one sequence.
    fn next_sequence(&self) -> i64 {
        self.sequence.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }
}

/// The settings of an SQLite connection.
///
/// With NORMAL in WAL mode, a commit survives a killed process. A power failure may lose the last commits. The journal of
/// a statement with many rows stays in memory, without a file for each statement. After 16 MiB, the content of the WAL is
/// moved into the database. The page cache has 8 MiB. A new file can return free pages to the file system
/// ([`server::prune`]); for an existing file, this setting has no effect.
const PRAGMAS: [&str; 7] = [
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA cache_size = -8192",
];

/// Opens connections for reads and writes.
async fn pool(
    options: &AnyConnectOptions,
    connections: u32,
    sqlite: bool,
    first: &'static [&'static str],
) -> Result<AnyPool, StoreError> {
    let pool = AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECTION_TIMEOUT)
        // If the disk is full, SQLite itself rolls back the transaction. sqlx does not detect this and still counts the
        // transaction as open. Later transactions on this connection would then never be committed.
        .after_release(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for statement in PRAGMAS.iter().chain(first).filter(|_| sqlite) {
                    connection.execute(*statement).await?;
                }
                Ok(())
            })
        });
    Ok(pool.connect_with(options.clone()).await?)
}

/// Opens connections for reads of lists.
async fn read_pool(
    target: &str,
    options: &AnyConnectOptions,
    sqlite: bool,
    first: &'static [&'static str],
) -> Result<ReadPool, StoreError> {
    if !sqlite {
        let limit = format!("SET statement_timeout = {}", READ_TIME.as_millis());
        let pool = AnyPoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .acquire_timeout(CONNECTION_TIMEOUT)
            .after_connect(move |connection, _| {
                let limit = assembled(limit.clone());
                Box::pin(async move { connection.execute(limit).await.map(drop) })
            });
        return Ok(ReadPool::Postgres(pool.connect_with(options.clone()).await?));
    }
    let pool = SqlitePoolOptions::new()
        .max_connections(READ_CONNECTIONS)
        .acquire_timeout(CONNECTION_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for statement in PRAGMAS.iter().chain(first) {
                    connection.execute(*statement).await?;
                }
                Ok(())
            })
        });
    let options = target.parse::<SqliteConnectOptions>()?.disable_statement_logging();
    Ok(ReadPool::Sqlite(pool.connect_with(options).await?))
}

/// Checks the URL of a database without a connection.
///
/// # Errors
/// The reason why [`Store::open`] cannot use the URL, without the password.
pub fn check_url(url: &str) -> Result<(), String> {
    if url.starts_with("sqlite:") {
        let options = url.parse::<SqliteConnectOptions>().map_err(|error| error.to_string())?;
        let file = options.get_filename();
        return if file.is_dir() { Err(format!("{} is a folder; name a file", file.display())) } else { Ok(()) };
    }
    const ENCODE: &str =
        "percent-encode the characters # / ? @ : % of a user name or password, for example %23 instead of #";
    let parsed = url::Url::parse(url).map_err(|error| format!("{error}; {ENCODE}"))?;
    // A password that is not encoded ends the host early. Then its rest is in the path, the query or the fragment.
    let query = parsed.query().unwrap_or_default();
    if parsed.fragment().is_some() || parsed.path().contains('@') || query.contains('@') && !query.contains('=') {
        return Err(format!("has more text after the host than a database's name; {ENCODE}"));
    }
    url.parse::<PgConnectOptions>().map(drop).map_err(|error| error.to_string())
}

/// Connects once, to find the reason of a failure. The connection pool cannot give this reason. The pool repeats the
/// connection attempt until its timeout, and then reports only the timeout.
async fn reach(options: &AnyConnectOptions, url: &str) -> Result<(), StoreError> {
    let unreachable = |reason: String| StoreError::Unreachable { target: shown(url), reason };
    match tokio::time::timeout(CONNECTION_TIMEOUT, AnyConnection::connect_with(options)).await {
        Ok(Ok(connection)) => Ok(connection.close().await?),
        Ok(Err(sqlx::Error::Io(error))) => Err(unreachable(error.to_string())),
        Ok(Err(error)) => Err(unreachable(Plain(&error).to_string())),
        Err(_) => Err(unreachable(format!("no answer within {} s", CONNECTION_TIMEOUT.as_secs()))),
    }
}

/// Returns the text with which error messages name the database of a URL.
fn shown(url: &str) -> String {
    if let Some(file) = url.strip_prefix("sqlite:") {
        return format!("sqlite at {}", file.split('?').next().unwrap_or(file));
    }
    match url::Url::parse(url) {
        Ok(url) => match url.host_str() {
            Some(host) => format!("postgres at {host}:{}", url.port().unwrap_or(5432)),
            None => "postgres at its local socket".to_owned(),
        },
        Err(_) => "postgres".to_owned(),
    }
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS
        .iter()
        .map(|&(version, description, sql)| {
            Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations)
}

/// Returns the path of an SQLite file, and a URL that opens only an existing file. Creates the directory of the file.
fn sqlite_path(url: &str) -> Result<(PathBuf, String), StoreError> {
    let invalid = |reason: String| StoreError::Url { url: url.to_owned(), reason };
    let rest = url.strip_prefix("sqlite:").unwrap_or(url);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (file, options) = rest.split_once('?').unwrap_or((rest, ""));
    if file.is_empty() || file == ":memory:" {
        return Err(invalid("must name a file, for example sqlite:data/tandem.db".into()));
    }
    if let Some(parent) = Path::new(file).parent().filter(|parent| !parent.as_os_str().is_empty()) {
        tandem_host::directory::make(parent)
            .map_err(|error| invalid(format!("cannot create {}: {error}", parent.display())))?;
    }
    // A connection must never create the file. If the file was deleted while the server runs, a later connection would
    // create another file.
    let others = options.split('&').filter(|option| !option.is_empty() && *option != "mode=rwc");
    let mut options: Vec<&str> = others.collect();
    if !options.iter().any(|option| option.starts_with("mode=")) {
        options.push("mode=rw");
    }
    Ok((file.into(), format!("sqlite:{file}?{}", options.join("&"))))
}

fn open_file(path: &Path, url: &str) -> Result<DatabaseFile, StoreError> {
    DatabaseFile::open(path).map_err(|error| StoreError::Unreachable { target: shown(url), reason: error.to_string() })
}

fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}://...{}", url.get(..scheme).unwrap_or_default(), url.get(at..).unwrap_or_default())
        }
        _ => url.to_owned(),
    }
}

/// Marks SQL as safe. The SQL must consist only of literals from this module and of `$n` placeholders.
fn assembled(sql: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql)
}

/// Returns `true` if the row was stored, and `false` if the row violates a unique constraint.
fn unique<T>(done: Result<T, sqlx::Error>) -> Result<bool, StoreError> {
    match done {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
