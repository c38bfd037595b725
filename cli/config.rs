//! The configuration of a command, and the address of the running server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tandem_accounts::Account;
use tandem_app::Listening;
use tandem_config::Config;

use crate::Failure;

/// Configuration file that a command for a running server reads if the option `--config` is not set.
pub const USUAL: &str = "tandem.toml";

/// The source of the configuration of a command for a running server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
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
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Given => "",
            Self::Found => " (no --config was given: tandem.toml in this directory was read)",
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

/// Returns the configuration of a command for a running server. This is the file that `--config` names, or the file
/// [`USUAL`] in the current directory, or the defaults. `tandem serve` never reads [`USUAL`] without `--config`,
/// because then the configuration of the server would depend on the current directory.
///
/// If a server uses the configured data directory, the addresses are replaced by the addresses in the lock file. The
/// addresses in the lock file may differ from the configured addresses, for example because of `tandem dev
/// --http-port`.
pub fn client_config(path: Option<&Path>) -> Result<(Config, Source), Failure> {
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
pub fn accounts(config: &Config, source: Source) -> Result<Vec<Account>, Failure> {
    if !config.accounts.is_empty() {
        return Ok(config.accounts.clone());
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
}
