//! The commands, each in its own file. A command has a struct with its arguments, and a function `run` that returns
//! when the command has finished.

/// Prints a line to standard output. If the reader has closed the output, nothing is printed, and the exit code of the
/// command stays the same. Any other error, such as a full disk, is the failure of the command ([`written`]).
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::print(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Prints a line to standard error. If the reader has closed the output, nothing is printed.
macro_rules! say_error {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        // An error means that nobody reads the output.
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

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

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use tandem::app::Listening;
use tandem_accounts::Account;
use tandem_config::Config;
use tandem_settings::LogConfig;

/// The first error of standard output.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints a text to standard output. See `say!`.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    keep_error(out.write_fmt(text).and_then(|()| out.flush()));
}

/// Keeps an error of standard output for [`written`], unless the reader has closed the output.
pub(crate) fn keep_error(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // Only the first error matters.
        let _ = LOST.set(error);
    }
}

/// Returns a failure if a part of the output is lost.
pub(crate) fn written() -> Result<(), Failure> {
    match LOST.get() {
        None => Ok(()),
        Some(error) => Err(Failure::Environment(anyhow::anyhow!("standard output cannot be written: {error}"))),
    }
}

/// The reason why a command failed. Each kind of failure has an exit code.
pub(crate) enum Failure {
    /// The user's input is wrong.
    Input(anyhow::Error),
    /// The machine or the network does not meet the requirements.
    Environment(anyhow::Error),
    /// The command is not implemented yet.
    NotYet(anyhow::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error())
    }
}

impl Failure {
    /// Exit code of [`Failure::Input`].
    pub(crate) const INPUT: u8 = 1;
    /// Exit code of [`Failure::Environment`].
    pub(crate) const ENVIRONMENT: u8 = 2;
    /// Exit code of [`Failure::NotYet`].
    pub(crate) const NOT_YET: u8 = 3;

    /// Returns the failure for a command that is not implemented yet.
    fn not_yet(command: &str, what: &str) -> Self {
        Self::NotYet(anyhow::anyhow!("`tandem {command}` is not implemented yet; it will {what}"))
    }

    fn error(&self) -> &anyhow::Error {
        let (Self::Input(error) | Self::Environment(error) | Self::NotYet(error)) = self;
        error
    }

    /// Prints the error to standard error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        say_error!("{self}");
        ExitCode::from(match self {
            Self::Input(_) => Self::INPUT,
            Self::Environment(_) => Self::ENVIRONMENT,
            Self::NotYet(_) => Self::NOT_YET,
        })
    }
}

/// Configuration file that a command for a running server reads if the option `--config` is not set.
const USUAL: &str = "tandem.toml";

/// The source of the configuration of a command for a running server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// The file that the option `--config` names.
    Given,
    /// The file [`USUAL`] in the current directory, because the option `--config` is not set.
    Found,
    /// The default settings, because the option `--config` is not set and the current directory has no file [`USUAL`].
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

    /// Returns the note that is added to an error message. The note says which configuration was used because the
    /// option `--config` is not set. If the option is set, the note is empty.
    fn note(self) -> &'static str {
        match self {
            Self::Given => "",
            Self::Found => " (no --config was given: tandem.toml in this directory was read)",
            Self::Defaults => " (no --config was given, and this directory has no tandem.toml)",
        }
    }

    /// Adds this note to an error.
    fn explain(self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Self::Given => error,
            _ => anyhow::anyhow!("{error:#}{}", self.note()),
        }
    }
}

/// Returns the configuration of a command for a running server. This is the file that `--config` names, or the file
/// [`USUAL`] in the current directory, or the defaults. `tandem serve` never reads [`USUAL`] without `--config`,
/// because then the configuration of the server would depend on the current directory.
///
/// If a server uses the configured data directory, the addresses are replaced by the addresses in the lock file. The
/// addresses in the lock file may differ from the configured addresses, for example because of `tandem dev
/// --http-port`.
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

/// Returns the configured accounts. If no account is configured, returns the account that the server created.
fn accounts(config: &Config, source: Source) -> Result<Vec<Account>, Failure> {
    if !config.accounts.is_empty() {
        return Ok(config.accounts.clone());
    }
    let own = tandem::app::first_account(&config.data_dir);
    own.map(|own| vec![own]).map_err(|error| Failure::Environment(source.explain(error)))
}

/// Returns the configuration from the file that `--config` names. Without `--config`, returns the defaults. In both
/// cases, the settings in the environment of this process are applied.
fn load_config(path: Option<&Path>) -> Result<Config, Failure> {
    read_config(path).map_err(|errors| Failure::Input(errors.into()))
}

fn read_config(path: Option<&Path>) -> Result<Config, tandem_config::Errors> {
    Config::load(path, environment())
}

/// Returns the environment variables of this process, except variables that are not valid UTF-8.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Returns a loopback address for an unspecified address (0.0.0.0 or ::), because no connection to an unspecified
/// address is possible. Returns any other address unchanged.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let own: IpAddr = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    if listen.ip().is_unspecified() { SocketAddr::new(own, listen.port()) } else { listen }
}

/// Starts a text log on standard error. The level is the value of `TANDEM_LOG`, or `default` if this variable is not
/// set.
fn log(default: &str) {
    log::start(&LogConfig { level: default.into(), ..LogConfig::default() });
}

/// Runs a future until it is complete. The number of threads is half the number of cores. There are two reasons. The
/// media threads need the other cores. And moving a call to another thread costs more time than the move saves. The
/// measurements are in docs/performance.md.
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
