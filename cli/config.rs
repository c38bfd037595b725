//! The configuration of a command, and the address of the running server.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use tandem_accounts::Account;
use tandem_app::Listening;
use tandem_config::Config;

use crate::Failure;

/// Configuration file that a command for a running server reads if the option `--config` is not set.
pub const USUAL: &str = "tandem.toml";

/// Configuration file of the installed service. A command for a running server reads this file if the option `--config`
/// is not set and the current directory has no file [`USUAL`].
pub const INSTALLED: &str = "/etc/tandem/tandem.toml";

/// Environment variable with the data directory. A command that has this variable asks the server of this directory.
const DATA_DIR: &str = "TANDEM_DATA_DIR";

/// Time limit for the connection that shows whether a server runs in the current directory.
const CONNECT: Duration = Duration::from_millis(300);

/// The source of the configuration of a command for a running server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The file that the option `--config` names.
    Given,
    /// The file [`USUAL`] in the current directory, because the option `--config` is not set.
    Found,
    /// The file [`INSTALLED`], because the option `--config` is not set and the current directory has no file [`USUAL`].
    Installed,
    /// The default settings, because the option `--config` is not set and no other file was found.
    Defaults,
}

impl Source {
    /// Returns the note that is added to an error message. The note says which configuration was used because the
    /// option `--config` is not set. If the option is set, the note is empty.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Given => "",
            Self::Found => " (no --config was given: tandem.toml in this directory was read)",
            Self::Installed => {
                " (no --config was given, and this directory has no tandem.toml: /etc/tandem/tandem.toml was read)"
            }
            Self::Defaults => " (no --config was given, and this directory has no tandem.toml)",
        }
    }

    /// Adds this note to an error.
    pub(crate) fn explain(self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Self::Given => error,
            _ => anyhow::anyhow!("{error:#}{}", self.note()),
        }
    }
}

/// Returns the configuration file of a command for a running server, and the reason for this file. `given` is the file
/// that `--config` names. Without `--config`, the file is the first of these:
///
/// 1. [`USUAL`] in the current directory.
/// 2. No file, if a server runs in the current directory with the default settings, for example `tandem dev`, or if the
///    environment names a data directory.
/// 3. [`INSTALLED`].
/// 4. No file. The defaults apply.
///
/// Returns a failure if this process may not read [`INSTALLED`].
pub fn config_file(given: Option<&Path>) -> Result<(Option<PathBuf>, Source), Failure> {
    let open = |path: &Path| File::open(path).map(drop);
    chosen(given, Path::new(USUAL), Path::new(INSTALLED), has_own_server, open)
}

/// Chooses the configuration file. `usual` and `installed` are the files that are read without `--config`.
/// `has_own_server` returns whether the command is for a server without a configuration file. `open` tries to open
/// a file.
fn chosen(
    given: Option<&Path>,
    usual: &Path,
    installed: &Path,
    has_own_server: impl FnOnce() -> bool,
    open: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(Option<PathBuf>, Source), Failure> {
    if let Some(path) = given {
        return Ok((Some(path.to_owned()), Source::Given));
    }
    if usual.is_file() {
        return Ok((Some(usual.to_owned()), Source::Found));
    }
    if has_own_server() {
        return Ok((None, Source::Defaults));
    }
    match open(installed) {
        Ok(()) => Ok((Some(installed.to_owned()), Source::Installed)),
        // Also if the directory cannot be searched. Only root and the service may read the directory of the package.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(unreadable(installed, &error)),
        Err(_) => Ok((None, Source::Defaults)),
    }
}

/// Returns the failure of a file of the installed service that this process may not read.
fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Input(anyhow!(
        "{}: cannot be read: {error}. Only root and the user of the server can read this file: run this command with \
         sudo, or name the configuration of another server with --config",
        path.display()
    ))
}

/// Returns whether this machine has the configuration file of the installed service, even if this process may not read
/// the file.
pub fn is_installed() -> bool {
    match std::fs::metadata(INSTALLED) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Returns whether the environment names a data directory, or a server with the default settings runs in the current
/// directory.
fn has_own_server() -> bool {
    let runs = |listening: Listening| TcpStream::connect_timeout(&reachable(listening.http), CONNECT).is_ok();
    std::env::var_os(DATA_DIR).is_some() || Listening::of(&Config::default().data_dir).is_some_and(runs)
}

/// Returns the configuration of a command that works without the installed service, for example `tandem test`. This is
/// the file that `--config` names, or the file [`USUAL`] in the current directory, or the defaults.
pub fn local_config(path: Option<&Path>) -> Result<Config, Failure> {
    let usual = Path::new(USUAL);
    load_config(path.or_else(|| usual.is_file().then_some(usual)))
}

/// Returns the configuration of a command for a running server, from the file of [`config_file`]. `tandem serve` never
/// reads a file without `--config`, because then the configuration of the server would depend on the current directory.
///
/// If a server uses the configured data directory, the addresses are replaced by the addresses in the lock file. The
/// addresses in the lock file may differ from the configured addresses, for example because of `tandem dev
/// --http-port`.
pub fn client_config(path: Option<&Path>) -> Result<(Config, Source), Failure> {
    let (file, source) = config_file(path)?;
    match read_config(file.as_deref()) {
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
pub fn accounts(config: &Config, source: Source) -> Result<Vec<Account>, Failure> {
    if !config.accounts.is_empty() {
        return Ok(config.accounts.clone());
    }
    // The configuration of the service may be readable although its data directory is not.
    let file = config.data_dir.join("account.toml");
    if let Err(error) = std::fs::metadata(&file)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        return Err(unreadable(&file, &error));
    }
    let own = tandem_app::first_account(&config.data_dir);
    own.map(|own| vec![own]).map_err(|error| Failure::Environment(source.explain(error)))
}

/// Returns the configuration from the file that `--config` names. Without `--config`, returns the defaults. In both
/// cases, the settings in the environment of this process are applied.
pub fn load_config(path: Option<&Path>) -> Result<Config, Failure> {
    read_config(path).map_err(|errors| Failure::Input(errors.into()))
}

/// Like [`load_config`], but returns the errors of the configuration.
pub fn read_config(path: Option<&Path>) -> Result<Config, tandem_config::Errors> {
    Config::load(path, environment())
}

/// Returns the environment variables of this process, except variables that are not valid UTF-8.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Returns a loopback address for an unspecified address (0.0.0.0 or ::), because no connection to an unspecified
/// address is possible. Returns any other address unchanged.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let own: IpAddr = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    if listen.ip().is_unspecified() { SocketAddr::new(own, listen.port()) } else { listen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_on_every_address_is_contacted_on_loopback() {
        assert_eq!(reachable("0.0.0.0:8080".parse().unwrap()).to_string(), "127.0.0.1:8080");
        assert_eq!(reachable("[::]:8080".parse().unwrap()).to_string(), "[::1]:8080");
        assert_eq!(reachable("192.0.2.1:80".parse().unwrap()).to_string(), "192.0.2.1:80");
    }

    /// Chooses a file. `has_own_server` and `opened` are the results of the two closures.
    fn choose(
        given: Option<&str>,
        usual: &str,
        has_own_server: bool,
        opened: io::Result<()>,
    ) -> (Option<PathBuf>, Source) {
        let installed = Path::new("/opt/tandem.toml");
        chosen(given.map(Path::new), Path::new(usual), installed, || has_own_server, |_| opened).ok().unwrap()
    }

    #[test]
    fn without_a_file_in_the_directory_the_file_of_the_installed_service_is_read() {
        // The tests of a crate run in the directory of the crate.
        let (existing, missing) = ("Cargo.toml", "no/tandem.toml");
        let not_found = || Err(io::ErrorKind::NotFound.into());
        let file = |path: &str| Some(PathBuf::from(path));
        assert_eq!(choose(Some("my.toml"), existing, true, Ok(())), (file("my.toml"), Source::Given));
        assert_eq!(choose(None, existing, true, Ok(())), (file(existing), Source::Found));
        assert_eq!(choose(None, missing, true, Ok(())), (None, Source::Defaults));
        assert_eq!(choose(None, missing, false, Ok(())), (file("/opt/tandem.toml"), Source::Installed));
        assert_eq!(choose(None, missing, false, not_found()), (None, Source::Defaults));
    }

    #[test]
    fn an_unreadable_file_of_the_installed_service_is_reported_with_sudo() {
        let denied = |_: &Path| Err(io::ErrorKind::PermissionDenied.into());
        let (missing, installed) = (Path::new("no/tandem.toml"), Path::new("/opt/tandem.toml"));
        let failure = chosen(None, missing, installed, || false, denied).err().unwrap().to_string();
        assert!(failure.starts_with("/opt/tandem.toml: cannot be read: "), "{failure}");
        assert!(failure.contains("sudo") && failure.contains("--config"), "{failure}");
        // A file that the user names is not searched for.
        assert!(chosen(Some(missing), missing, installed, || false, denied).is_ok());
    }
}
