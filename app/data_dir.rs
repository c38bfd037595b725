//! The data directory. Only one server at a time uses a data directory. The lock file in this directory contains the
//! process id and the addresses of this server.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use tandem_host::directory;

/// Maximum size of a lock file, in octets. A larger file is not used.
const MAX_FILE_SIZE: usize = 4_096;

/// First word of the line with the id of the process that has the lock.
const PROCESS: &str = "process ";

/// The lock on a data directory. Without the lock, a second server would treat the live calls of the first server as
/// calls that a crash interrupted.
pub(super) struct Lock(File);

impl Lock {
    /// Locks the data directory. Creates the directory if it does not exist.
    pub(super) fn take(data_dir: &Path) -> anyhow::Result<Self> {
        let shown = data_dir.display();
        directory::make(data_dir).with_context(|| format!("data_dir: {shown}"))?;
        if directory::is_open(data_dir) {
            tracing::warn!("all users of this machine can read data_dir: chmod 700 {shown}");
        }
        let path = file(data_dir);
        // The file is not truncated, because it may belong to a running server.
        let file = File::options().create(true).write(true).truncate(false).open(&path);
        let file = file.with_context(|| format!("data_dir: {}", path.display()))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                let owner = text_of(data_dir).as_deref().and_then(process).map(|id| format!(" (process {id})"));
                anyhow!("data_dir: {shown} is in use by another tandem{}", owner.unwrap_or_default())
            }
            TryLockError::Error(error) => anyhow!("data_dir: cannot lock {}: {error}", path.display()),
        })?;
        let lock = Self(file);
        lock.clear();
        lock.write(&format!("{PROCESS}{}\n", std::process::id()));
        Ok(lock)
    }

    /// Writes the server's addresses to the lock file. If writing fails, commands use the addresses in the
    /// configuration.
    pub(super) fn publish(&self, listening: &Listening) {
        self.write(&listening.text());
    }

    fn write(&self, text: &str) {
        if let Err(error) = (&self.0).write_all(text.as_bytes()) {
            tracing::warn!("data_dir: cannot write tandem.lock: {error}");
        }
    }

    fn clear(&self) {
        // If the lock file cannot be truncated, the worst result is that a command on this machine reads an old
        // address.
        let _ = self.0.set_len(0);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The addresses on which a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Address of the HTTP listener.
    pub http: SocketAddr,
    /// SIP sockets in the form of `sip.listen`, for example `udp://127.0.0.1:5060`.
    pub sip: Vec<String>,
}

impl Listening {
    /// Returns the addresses of the server that uses this data directory, or `None` if no server runs. If a server was
    /// killed, the result may be the addresses of the killed server.
    pub fn of(data_dir: &Path) -> Option<Self> {
        Self::read(&text_of(data_dir)?)
    }

    /// Returns the text that follows the line of the process: one line for HTTP, then one line for each SIP socket.
    fn text(&self) -> String {
        format!("http://{}\n{}\n", self.http, self.sip.join("\n"))
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip_while(|line| line.starts_with(PROCESS));
        let http = lines.next()?.strip_prefix("http://")?.parse().ok()?;
        Some(Self { http, sip: lines.map(str::to_owned).collect() })
    }
}

/// Returns the id of the process of the server that uses this data directory, or `None` if no server runs.
pub fn server_process(data_dir: &Path) -> Option<u32> {
    let text = text_of(data_dir)?;
    Listening::read(&text).and_then(|_| process(&text))
}

/// Returns the text of the lock file.
fn text_of(data_dir: &Path) -> Option<String> {
    let text = std::fs::read(file(data_dir)).ok().filter(|text| text.len() <= MAX_FILE_SIZE)?;
    String::from_utf8(text).ok()
}

/// Returns the id of the process that wrote this text of a lock file.
fn process(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(PROCESS)?.parse().ok())
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("tandem.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_server_publishes_its_addresses_in_its_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let listening = Listening {
            http: "127.0.0.1:8081".parse().unwrap(),
            sip: vec!["udp://127.0.0.1:5062".to_owned(), "tcp://[::1]:5062".to_owned()],
        };
        assert_eq!(Listening::of(directory.path()), None);
        let lock = Lock::take(directory.path()).unwrap();
        assert_eq!(Listening::of(directory.path()), None, "not before it listens");
        lock.publish(&listening);
        assert!(Lock::take(directory.path()).is_err_and(|error| {
            let owner = format!("in use by another tandem (process {})", std::process::id());
            error.to_string().contains(&owner)
        }));
        assert_eq!(Listening::of(directory.path()), Some(listening), "a second server changes nothing");
        drop(lock);
        assert_eq!(Listening::of(directory.path()), None);
    }

    #[test]
    fn an_invalid_file_of_addresses_is_ignored() {
        assert_eq!(Listening::read(""), None);
        assert_eq!(Listening::read("http://nowhere\n\u{0}"), None);
    }
}
