//! The commands, one file each: their arguments, and a `run` that returns when the command is done.

mod ask;
mod authority;
pub(crate) mod ca;
pub(crate) mod call;
pub(crate) mod calls;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod errors;
mod list;
pub(crate) mod load;
mod log;
pub(crate) mod numbers;
mod paint;
pub(crate) mod phones;
pub(crate) mod proxy;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod signature;
mod story;
mod table;
pub(crate) mod trace;
pub(crate) mod trunks;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use tandem::app::Listening;
use tandem_accounts::Account;
use tandem_config::Config;
use tandem_settings::LogConfig;

/// Why a command failed; each has its exit code.
pub(crate) enum Failure {
    /// What the user gave us is wrong.
    Input(anyhow::Error),
    /// The machine or the network around us is not as needed.
    Environment(anyhow::Error),
    /// A later version will have the command.
    NotYet(anyhow::Error),
}

impl Failure {
    /// Exit code of [`Failure::Input`].
    pub(crate) const INPUT: u8 = 1;
    /// Exit code of [`Failure::Environment`].
    pub(crate) const ENVIRONMENT: u8 = 2;
    /// Exit code of [`Failure::NotYet`].
    pub(crate) const NOT_YET: u8 = 3;

    /// A command that a later version will have.
    fn not_yet(command: &str, what: &str) -> Self {
        Self::NotYet(anyhow::anyhow!("`tandem {command}` is not implemented yet; it will {what}"))
    }

    /// Prints it to standard error.
    pub(crate) fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Input(error) => (error, Self::INPUT),
            Self::Environment(error) => (error, Self::ENVIRONMENT),
            Self::NotYet(error) => (error, Self::NOT_YET),
        };
        eprintln!("{error:#}");
        ExitCode::from(code)
    }
}

/// The file that commands which ask a server read when no `--config` is given.
const USUAL: &str = "tandem.toml";

/// Where the configuration came from of a command that asks a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// `--config` names it.
    Given,
    /// Nobody named it, and this directory has [`USUAL`].
    Found,
    /// Nobody named it, and this directory has none: the defaults.
    Defaults,
}

impl Source {
    fn of(path: Option<&Path>) -> Self {
        match path {
            Some(_) => Self::Given,
            None if Path::new(USUAL).is_file() => Self::Found,
            None => Self::Defaults,
        }
    }

    /// What is added to an error that another configuration would change; empty with `--config`.
    fn note(self) -> &'static str {
        match self {
            Self::Given => "",
            Self::Found => " (no --config was given: tandem.toml in this directory was read)",
            Self::Defaults => " (no --config was given, and this directory has no tandem.toml)",
        }
    }

    /// The same, behind an error.
    fn explain(self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Self::Given => error,
            _ => anyhow::anyhow!("{error:#}{}", self.note()),
        }
    }
}

/// The configuration of a command that asks a server: of its `--config`, else of [`USUAL`] if this directory has it, else the
/// defaults. `tandem serve` never guesses: it would run with another configuration after a change of directory. A server that
/// runs on the configuration's data directory says itself where it listens: `tandem dev --http-port` moves it.
fn client_config(path: Option<&Path>) -> Result<(Config, Source), Failure> {
    let source = Source::of(path);
    let usual = (source == Source::Found).then(|| Path::new(USUAL));
    match read_config(path.or(usual)) {
        Ok(mut config) => {
            if let Some(listening) = Listening::of(&config.data_dir) {
                config.http.listen = listening.http;
                config.sip.listen = listening.sip;
            }
            Ok((config, source))
        }
        Err(errors) => Err(Failure::Input(source.explain(errors.into()))),
    }
}

/// The accounts of a configuration, or the one that its server made for itself.
fn accounts(config: &Config, source: Source) -> Result<Vec<Account>, Failure> {
    if !config.accounts.is_empty() {
        return Ok(config.accounts.clone());
    }
    let own = tandem::app::first_account(&config.data_dir);
    own.map(|own| vec![own]).map_err(|error| Failure::Environment(source.explain(error)))
}

/// The configuration of a command's `--config`, or the defaults, under this process's environment.
fn load_config(path: Option<&Path>) -> Result<Config, Failure> {
    read_config(path).map_err(|errors| Failure::Input(errors.into()))
}

fn read_config(path: Option<&Path>) -> Result<Config, tandem_config::Errors> {
    Config::load(path, environment())
}

/// This process's variables, but those that are no text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Every address is no address to connect to: this machine's own is one of them.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let own: IpAddr = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    if listen.ip().is_unspecified() { SocketAddr::new(own, listen.port()) } else { listen }
}

/// Logs to standard error what `TANDEM_LOG` asks for, or `default`, as text.
fn log(default: &str) {
    log::start(&LogConfig { level: default.into(), ..LogConfig::default() });
}

/// Runs a future to its end, with a thread for every two cores: the media threads need the others, and a call that goes from
/// thread to thread costs more than it gains. Measured: docs/performance.md.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores.div_ceil(2)).enable_all().build();
    Ok(runtime.map_err(|error| Failure::Environment(error.into()))?.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:8080".parse().unwrap()).to_string(), "127.0.0.1:8080");
        assert_eq!(reachable("[::]:8080".parse().unwrap()).to_string(), "[::1]:8080");
        assert_eq!(reachable("192.0.2.1:80".parse().unwrap()).to_string(), "192.0.2.1:80");
    }
}
