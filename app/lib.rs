//! The whole server as a library, for the binary, for `tandem demo` and for tests. This is the composition root: it builds
//! the server from the crates, and controls the order of start and shutdown.
//!
//! ```text
//!  start:     lock data_dir ▸ open files ▸ HTTP port ▸ database ▸ SIP ports ▸ media ▸ calls ▸ webhooks ▸ recovery ▸ SIP ▸ HTTP
//!  shut down: refuse new calls ▸ live calls end (drain_timeout) ▸ hang up the rest ▸ webhooks ▸ SIP ▸ media ▸ HTTP ▸ database
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bans;
mod configured;
mod data_dir;
mod descriptors;
mod entries;
mod events;
mod first_account;
mod housekeeping;
mod limits;
mod listeners;
mod nodes;
mod phones;
mod proxies;
mod reload;
mod service_manager;
mod shutdown;
mod start;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use arc_swap::ArcSwap;
use tandem_accounts::{Account, Accounts};
use tandem_config::Config;
use tandem_metrics::Build;
use tandem_runtime::Calls;
use tandem_runtime::app::ConfigRequest;
use tandem_settings::IceConfig;
use tandem_sip as sip;
use tandem_softphone::Dialled;
use tandem_store::Store;
use tandem_telnyx as telnyx;
use tandem_texml as texml;
use tandem_webhooks::Deliveries;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;

pub use data_dir::{Listening, server_process};
pub use listeners::LOW_PORTS;
pub use start::{Parts, dialects};

use data_dir::Lock;
use first_account::FirstAccount;
use housekeeping::Housekeeping;
use listeners::HttpServer;
use service_manager::ServiceManager;

/// Version, commit and compiler of this build. The script build.rs sets these values.
pub(crate) const BUILD: Build =
    Build { version: env!("CARGO_PKG_VERSION"), commit: env!("TANDEM_COMMIT"), rustc: env!("TANDEM_RUSTC") };

/// The reason why a node ends that has lost its lease.
const LOST: &str = "another node has declared this node dead, because its lease was not renewed in time, and ends its calls: the \
    service manager must start this server again";

/// A running server.
pub struct Server {
    calls: Calls,
    store: Store,
    deliveries: Deliveries,
    public_url: Arc<str>,
    accounts: Arc<Accounts>,
    /// The configuration of the file.
    base: ArcSwap<Config>,
    /// The configuration that is in effect: that of the file, with the entries of the web console.
    config: ArcSwap<Config>,
    /// The STUN and TURN servers that clients of applications receive.
    ice: Arc<ArcSwap<IceConfig>>,
    /// Requests about the configuration.
    requests: mpsc::Receiver<ConfigRequest>,
    first_account: Option<FirstAccount>,
    http: HttpServer,
    housekeeping: Housekeeping,
    _lock: Lock,
}

/// Returns the account that a server created at its first start, because no account was configured.
pub fn first_account(data_dir: &std::path::Path) -> anyhow::Result<tandem_accounts::Account> {
    let path = data_dir.join("account.toml");
    if !path.exists() {
        return Err(anyhow!(
            "no account is configured, and no server has created one yet: {} does not exist",
            path.display()
        ));
    }
    FirstAccount::load(data_dir)
}

/// Runs the server until SIGTERM or Ctrl-C, and then shuts the server down gracefully. A second signal hangs up all
/// calls at once. After SIGHUP and after `POST /console/reload`, the server calls `read` and applies the returned
/// settings.
pub async fn run(config: Config, read: impl Fn() -> Result<Config, String>) -> anyhow::Result<()> {
    run_with(config, None, OnHangup::Reload, read, Server::introduce).await
}

/// Whether this process was started with SIGHUP ignored, as by nohup(1). On systems without `/proc`, the result is `false`.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is the bit of signal 1, SIGHUP (proc(5)).
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// Waits until the next sign of life is due. Without a watchdog, the function never returns.
async fn sign_of_life(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

/// The reaction of a server to SIGHUP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnHangup {
    /// The server reads its configuration again, as services do.
    Reload,
    /// The server ends, because its terminal was closed. A server that was started with SIGHUP ignored continues.
    End,
}

/// Runs the server like [`run`], and also calls `greet` when the server has started. `on_hangup` is the reaction to
/// SIGHUP. With `softphone`, the server also has the page `/dev/phone`.
pub async fn run_with(
    config: Config,
    softphone: Option<Dialled>,
    on_hangup: OnHangup,
    read: impl Fn() -> Result<Config, String>,
    greet: impl FnOnce(&Server),
) -> anyhow::Result<()> {
    let mut signals = signals()?;
    let is_detached = on_hangup == OnHangup::End && ignores_hangup();
    let mut hangups = if is_detached { None } else { Some(unix::signal(SignalKind::hangup())?) };
    let manager = ServiceManager::from_environment();
    let mut server = Server::start_with(config, softphone).await?;
    greet(&server);
    manager.notify("READY=1");
    let mut watchdog = manager.watchdog().map(tokio::time::interval);
    let cluster = server.calls.services().cluster.clone();
    loop {
        let request = tokio::select! {
            () = signals.recv() => break,
            () = cluster.lost() => return Err(anyhow!("{LOST}")),
            () = sign_of_life(&mut watchdog) => {
                manager.notify("WATCHDOG=1");
                continue;
            }
            _ = async { hangups.as_mut()?.recv().await }, if hangups.is_some() => match on_hangup {
                OnHangup::Reload => None,
                OnHangup::End => break,
            },
            request = server.requests.recv() => request,
        };
        // Sending a reply fails if the client of the request has disconnected.
        match request {
            Some(ConfigRequest::Change(change, reply)) => drop(reply.send(server.change_entry(*change).await)),
            Some(ConfigRequest::Entries(list, reply)) => drop(reply.send(server.entries(list).await)),
            Some(ConfigRequest::ReadEntries(reply)) => drop(reply.send(server.read_entries().await)),
            reload @ (Some(ConfigRequest::Reload(_)) | None) => {
                manager.reloads();
                let reloaded = server.reload_from(&read).await;
                manager.reloaded(&reloaded);
                if let Some(ConfigRequest::Reload(reply)) = reload {
                    let _ = reply.send(reloaded);
                }
            }
        }
    }
    manager.notify("STOPPING=1");
    // From now on, nobody answers these requests.
    server.requests.close();
    while server.requests.try_recv().is_ok() {}
    server.calls.stop_accepting();
    cluster.stopping().await;
    server.calls.services().sip.post(sip::Command::TakeCalls(false));
    let live = server.calls.live_legs();
    tracing::info!(
        "draining: no new calls; waiting for {live} legs, {} s at most (a second signal hangs up at once)",
        server.config.load_full().drain_timeout.as_secs()
    );
    let shutdown = server.shutdown(signals);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = cluster.lost() => return Err(anyhow!("{LOST}")),
            () = sign_of_life(&mut watchdog) => manager.notify("WATCHDOG=1"),
        }
    }
    tracing::info!("shut down");
    Ok(())
}

impl Server {
    /// Returns the address to which the HTTP listener is bound.
    pub fn http_addr(&self) -> SocketAddr {
        self.http.address
    }

    /// Returns the addresses to which the SIP sockets are bound.
    pub fn sip_addrs(&self) -> &[(sip::Transport, SocketAddr)] {
        self.calls.services().sip.local_addrs()
    }

    /// Returns the registry of live calls.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Returns all accounts.
    pub fn accounts(&self) -> Arc<Vec<Arc<Account>>> {
        self.accounts.all()
    }

    /// Prints the credentials of a new account. Logs the server's addresses, and suggests the operator's next step in
    /// the log.
    fn introduce(&self) {
        if let Some(account) = &self.first_account {
            // systemd keeps the output in the journal, which more people can read than the file of the account.
            let is_journal = std::env::var_os("JOURNAL_STREAM").is_some();
            let shown = if is_journal { account.place() } else { account.to_string() };
            // An error means that nobody reads the output. The credentials are in the file of the account too.
            let _ = writeln!(std::io::stdout(), "{shown}");
        }
        for (transport, address) in self.sip_addrs() {
            tracing::info!("SIP on {}:{address}", transport.token().to_lowercase());
        }
        // Only applications that use Telnyx or TeXML need the Telnyx key.
        let config = self.config.load_full();
        let has = |provider: &str| config.applications.iter().any(|one| &*one.provider == provider);
        let speaks_telnyx = has("telnyx") || has(texml::NAME);
        for account in self.accounts.all().iter().filter(|_| speaks_telnyx) {
            if let Some(Ok(key)) = account.telnyx.as_ref().map(telnyx::sign::public_key) {
                tracing::info!(account = %account.name, "Telnyx public key: {key}");
            }
            if account.telnyx.is_some() && has(texml::NAME) {
                let id = telnyx::id::user_id(&account.name);
                tracing::info!(account = %account.name, "TeXML account: {id}");
            }
        }
        tracing::info!("HTTP on {}; public URL {}", self.http.address, self.public_url);
        tracing::info!("{}", self.next_step());
    }

    /// Returns a suggestion for the operator: to call a number, or to create a number.
    fn next_step(&self) -> String {
        let config = self.config.load_full();
        let number = config.numbers.iter().find_map(|number| number.number.exact());
        let has_numbers = || {
            let inventory = Arc::clone(self.calls.services().routing.load_full().inventory());
            self.accounts.all().iter().any(|account| !inventory.numbers.all(&account.name).is_empty())
        };
        match number {
            Some(number) => format!("call one of your numbers: `tandem call {number}`"),
            None if !config.numbers.is_empty() || has_numbers() => {
                "call one of your numbers: `tandem call NUMBER`".to_owned()
            }
            None => {
                "no number yet: `tandem dev URL` serves with one for the application at URL; [[numbers]] in --config \
                     and the API make others"
                    .to_owned()
            }
        }
    }
}

/// Receiver of the signals SIGTERM and SIGINT (Ctrl-C).
pub struct Signals(Option<(unix::Signal, unix::Signal)>);

impl Signals {
    /// Returns a receiver that never receives a signal, for a server inside another program.
    pub fn none() -> Self {
        Self(None)
    }

    async fn recv(&mut self) {
        match &mut self.0 {
            Some((terminate, interrupt)) => {
                tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            }
            None => std::future::pending().await,
        }
    }
}

fn signals() -> anyhow::Result<Signals> {
    Ok(Signals(Some((unix::signal(SignalKind::terminate())?, unix::signal(SignalKind::interrupt())?))))
}
