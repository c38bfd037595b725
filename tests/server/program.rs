//! The real binary, for tests that need a process. These tests send signals or kill the process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::log::{Log, PATIENCE};
use crate::test_server::Api;

/// A running `tandem serve` process. It is killed when this value is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) udp: SocketAddr,
    pub(crate) api: Api,
    output: Arc<Log<String>>,
}

impl Program {
    /// Starts the binary with `TANDEM_LOG=info`. Waits until the process has logged its addresses.
    pub(crate) async fn start(config: &Path) -> Self {
        Self::start_with(config, Some("info")).await
    }

    /// Starts the binary with another value of `TANDEM_LOG`, or without `TANDEM_LOG`. The level must be `info` or more
    /// verbose, because the addresses come from the log.
    pub(crate) async fn start_with(config: &Path, log: Option<&str>) -> Self {
        Self::start_in(config, log, Path::new(env!("CARGO_BIN_EXE_tandem"))).await
    }

    /// Starts the binary like [`Self::start`], from this directory, whose other programs are then beside the binary. The
    /// directory must be below [`Self::TEMPORARY`].
    pub(crate) async fn start_beside(config: &Path, directory: &Path) -> Self {
        let binary = directory.join("tandem");
        std::fs::hard_link(env!("CARGO_BIN_EXE_tandem"), &binary).unwrap();
        Self::start_in(config, Some("info"), &binary).await
    }

    /// A directory for temporary files on the file system of the binary.
    pub(crate) const TEMPORARY: &str = env!("CARGO_TARGET_TMPDIR");

    async fn start_in(config: &Path, log: Option<&str>, binary: &Path) -> Self {
        let mut child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(config)
            .env_remove("TANDEM_LOG")
            .envs(log.map(|log| ("TANDEM_LOG", log)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = Arc::new(Log::default());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::clone(&output);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.push(line);
            }
        });
        let address = async |after: &str| -> SocketAddr {
            let line = output.find(after, |line| line.contains(after)).await;
            let rest = &line[line.find(after).unwrap() + after.len()..];
            rest.split([';', ' ', '"']).next().unwrap().parse().unwrap()
        };
        let udp = address("SIP on udp:").await;
        let api = Api(address("HTTP on ").await);
        Self { child, udp, api, output }
    }

    /// All lines that the process has logged.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.all()
    }

    /// Waits for a log line with these words.
    pub(crate) async fn says(&self, words: &str) {
        self.output.find(words, |line| line.contains(words)).await;
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Sends SIGKILL. The process cannot catch this signal.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until the process has exited without a kill.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap()
    }
}
