//! A real PostgreSQL server for tests. The server has its data in a temporary directory and listens on a free loopback
//! port. When the value is dropped, the server stops and the directory is removed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::Store;

/// A running PostgreSQL server. If PostgreSQL is not installed, `start` prints a note and returns `None`.
pub struct PostgresServer {
    programs: PathBuf,
    postgres: Option<Child>,
    port: u16,
    directory: tempfile::TempDir,
}

impl PostgresServer {
    pub fn start() -> Option<PostgresServer> {
        let Some(programs) = find_programs() else {
            tandem_test_support::skip(tandem_test_support::Needs::Package("postgresql"));
            return None;
        };
        let directory = tempfile::Builder::new().prefix("tandem-postgres").tempdir().expect("temporary directory");
        let data = directory.path().join("data");
        if is_root() {
            let done = Command::new("chown").arg("postgres").arg(directory.path()).status();
            if !done.is_ok_and(|status| status.success()) {
                tandem_test_support::skip(tandem_test_support::Needs::Package("postgresql, with its user postgres,"));
                return None;
            }
        }
        let made = as_server_user(&programs.join("initdb"))
            .args(["--auth=trust", "--username=tandem", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .expect("initdb runs");
        assert!(made.success(), "initdb failed");
        let port = free_port();
        let postgres = Some(run(&programs, directory.path(), port));
        Some(PostgresServer { programs, postgres, port, directory })
    }

    /// Stops the server in the same way as an administrator would stop it. All clients are disconnected.
    pub fn stop(&mut self) {
        if let Some(mut postgres) = self.postgres.take() {
            // SIGINT starts PostgreSQL's fast shutdown, which removes the shared memory of the server.
            let _ = Command::new("kill").args(["-INT", &postgres.id().to_string()]).status();
            let _ = postgres.wait();
        }
    }

    /// Suspends or resumes all processes of the server.
    pub fn freeze(&self, freeze: bool) {
        let Some(postgres) = &self.postgres else { return };
        let parent = postgres.id().to_string();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().expect("ps runs").stdout;
        let children = String::from_utf8(children).expect("numbers");
        let processes = children.split_whitespace().chain([&*parent]);
        let done = Command::new("kill").arg(if freeze { "-STOP" } else { "-CONT" }).args(processes).status();
        assert!(done.expect("kill runs").success());
    }

    /// Starts the server again on the same port.
    pub fn start_again(&mut self) {
        self.postgres = Some(run(&self.programs, self.directory.path(), self.port));
    }

    pub async fn database(&self, name: &str) -> String {
        use sqlx::{AssertSqlSafe, Connection, Executor};
        let mut connection =
            sqlx::postgres::PgConnection::connect(&self.database_again("postgres")).await.expect("connects");
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("database made");
        self.database_again(name)
    }

    /// Returns the URL of an existing database.
    pub fn database_again(&self, name: &str) -> String {
        format!("postgres://tandem@127.0.0.1:{}/{name}", self.port)
    }
}

/// Runs a scenario on a new SQLite database. If PostgreSQL is installed, the function also runs the scenario on a new
/// PostgreSQL database.
pub async fn on_each_database<F: Future<Output = ()>>(scenario: impl Fn(Store) -> F) {
    static SCENARIOS: AtomicU32 = AtomicU32::new(0);
    let directory = tempfile::tempdir().expect("temporary directory");
    let url = format!("sqlite:{}/tandem.db", directory.path().display());
    scenario(Store::open(&url).await.expect("SQLite opens")).await;
    let Some(server) = shared_server() else { return };
    let name = format!("scenario_{}", SCENARIOS.fetch_add(1, Ordering::Relaxed));
    let store = Store::open(&server.database(&name).await).await.expect("PostgreSQL opens");
    scenario(store.clone()).await;
    store.close().await;
}

/// The server that all running scenarios share. The server stops when the last scenario has ended.
fn shared_server() -> Option<Arc<PostgresServer>> {
    static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let server = shared.upgrade().or_else(|| PostgresServer::start().map(Arc::new))?;
    *shared = Arc::downgrade(&server);
    Some(server)
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the server and waits until it accepts connections.
fn run(programs: &Path, directory: &Path, port: u16) -> Child {
    let mut postgres = as_server_user(&programs.join("postgres"))
        .arg("-D")
        .arg(directory.join("data"))
        .arg("-k")
        .arg(directory)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
        .args(["-c", "max_connections=60", "-c", "shared_buffers=16MB"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("postgres starts");
    let mut log = BufReader::new(postgres.stderr.take().expect("stderr is piped")).lines();
    let mut output = Vec::new();
    let ready = log.by_ref().map_while(Result::ok).any(|line| {
        let ready = line.contains("database system is ready to accept connections");
        output.push(line);
        ready
    });
    assert!(ready, "postgres ended: {output:#?}");
    // The thread reads the pipe to its end, because a full pipe would block the server.
    std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
    postgres
}

fn find_programs() -> Option<PathBuf> {
    let installed =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The versioned directories come first, because Debian's programs in PATH may be wrappers.
    installed
        .chain(std::env::split_paths(&path))
        .find(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file())
}

/// Returns the command that runs a program of PostgreSQL. PostgreSQL refuses to run as root. If the user is root, the
/// program therefore runs as the user of Debian's PostgreSQL package.
fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    output.stdout.trim_ascii() == b"0"
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}
