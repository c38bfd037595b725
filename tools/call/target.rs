//! The called party: a number, an extension or a phone of the configured server, or any other SIP URI.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use anyhow::anyhow;
use tandem_accounts::Account;
use tandem_cli::Failure;
use tandem_config::Config;
use tandem_sip::Credentials;

/// Maximum time to wait for the ICMP error of a closed port.
const REFUSAL: Duration = Duration::from_millis(100);
/// Default port for SIP.
const SIP: u16 = 5_060;

/// SIP address of the server to which the phone sends calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerAddress {
    /// IP address and port of the server's SIP socket.
    pub(crate) address: SocketAddr,
    /// Whether the socket uses TCP, because the server has no UDP socket.
    pub(crate) tcp: bool,
}

/// The called party.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// Request-URI of the INVITE.
    pub(crate) uri: String,
    /// Address of the host in the URI, or `None` if the host name cannot be resolved.
    pub(crate) address: Option<SocketAddr>,
    /// Whether a closed port can be detected before the call. This is possible for UDP on this machine.
    pub(crate) probed: bool,
    /// Whether the target is on the configured server. Only this server may receive the credentials of the account.
    pub(crate) own: bool,
}

impl ServerAddress {
    /// Returns the first UDP socket in the configuration. If the configuration has no UDP socket, returns the first TCP
    /// socket.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let by = |scheme: &str, tcp| {
            let host = |listen: &String| listen.strip_prefix(scheme).and_then(|host| host.parse().ok());
            let address: SocketAddr = config.sip.listen.iter().find_map(host)?;
            Some(Self { address: tandem_cli::reachable(address), tcp })
        };
        by("udp://", false).or_else(|| by("tcp://", true))
    }
}

impl Target {
    /// Parses the target from the command line.
    ///
    /// # Errors
    /// Returns a text that describes the error and names valid targets.
    pub(crate) fn of(text: &str, server: Option<&ServerAddress>) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("sips:") {
            return Err(
                "sips: needs TLS, which this phone does not support; call sip:...;transport=tcp or udp".to_owned()
            );
        }
        if lower.starts_with("sip:") {
            return Self::of_uri(text, server);
        }
        let user = lower.strip_prefix("client:").map_or(text, |_| text.get("client:".len()..).unwrap_or_default());
        let plain = |one: char| one.is_ascii_alphanumeric() || "+*#._-".contains(one);
        if user.is_empty() || !user.chars().all(plain) {
            return Err(format!(
                "{text:?} cannot be called; a number (+15551230001), an extension (600), a phone (client:alice) or a SIP URI \
                 (sip:name@host) can"
            ));
        }
        let Some(ServerAddress { address, tcp }) = server else {
            return Err(
                "sip.listen has no udp:// or tcp:// socket that a phone on this machine could call; name one with \
                        --server HOST:PORT"
                    .to_owned(),
            );
        };
        // The character `#` must be escaped in a URI.
        let user = user.replace('#', "%23");
        let transport = if *tcp { ";transport=tcp" } else { "" };
        let uri = format!("sip:{user}@{address}{transport}");
        Ok(Self { uri, address: Some(*address), probed: !tcp && address.ip().is_loopback(), own: true })
    }

    fn of_uri(text: &str, server: Option<&ServerAddress>) -> Result<Self, String> {
        let rest = text.get("sip:".len()..).unwrap_or_default();
        let (rest, parameters) = rest.split_once([';', '?']).unwrap_or((rest, ""));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        if host.is_empty() || text.contains(char::is_whitespace) {
            return Err(format!("{text:?} is not a SIP URI; write sip:name@host or sip:name@host:port"));
        }
        let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:{SIP}")
        };
        let address = with_port.to_socket_addrs().ok().and_then(|mut found| found.next());
        let tcp = parameters.to_ascii_lowercase().contains("transport=tcp");
        let own = address.is_some() && server.map(|server| server.address) == address;
        let probed = !tcp && address.is_some_and(|address| address.ip().is_loopback());
        Ok(Self { uri: text.to_owned(), address, probed, own })
    }

    /// Returns whether an ICMP error shows that no socket listens on the target port. If no error arrives, the result
    /// is false.
    pub(crate) fn is_closed(&self) -> bool {
        let Some(address) = self.address.filter(|_| self.probed) else { return false };
        let try_it = || -> std::io::Result<()> {
            let socket = UdpSocket::bind((any(address), 0))?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(REFUSAL))?;
            // These octets are a keep-alive. Over UDP, no server responds to a keep-alive (RFC 5626 §3.5).
            socket.send(b"\r\n\r\n")?;
            socket.recv(&mut [0; 1]).map(drop)
        };
        try_it().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    }

    /// Returns an error with advice if no socket listens on the target port.
    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        if !self.is_closed() {
            return Ok(());
        }
        let at = self.address.map(|address| address.to_string()).unwrap_or_default();
        let advice = match self.own {
            true => "start `tandem serve` or `tandem dev URL`; name another server with --config or --server",
            false => "check the port",
        };
        Err(Failure::Environment(anyhow!("nothing listens at {at}: {advice}")))
    }

    /// Returns the address of this machine that is the source address of packets to the target.
    pub(crate) fn source(&self) -> IpAddr {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let Some(address) = self.address else {
            // This machine cannot resolve the host name, so the route to a public address is used.
            return source_towards(([192, 0, 2, 1], SIP).into()).unwrap_or(loopback);
        };
        source_towards(address).unwrap_or(loopback)
    }
}

fn any(address: SocketAddr) -> IpAddr {
    if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() }
}

fn source_towards(address: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any(address), 0)).ok()?;
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The called party as the command line names it.
pub(crate) struct Called<'a> {
    /// The number, phone or SIP URI.
    pub(crate) target: &'a str,
    /// The SIP address of the server, in place of the configured address.
    pub(crate) server: Option<&'a str>,
    /// The name of the account whose number or phone is called.
    pub(crate) account: Option<&'a str>,
    /// The calling number or name.
    pub(crate) from: &'a str,
}

/// The called party, and what a phone needs to call it.
pub(crate) struct Route<'a> {
    pub(crate) target: Target,
    /// The account that makes the call.
    pub(crate) account: Option<&'a Account>,
    /// Credentials and their realm for the INVITE.
    pub(crate) credentials: Option<(Credentials, String)>,
}

impl<'a> Route<'a> {
    /// Finds the called party in the configuration.
    ///
    /// # Errors
    /// Returns an error of the user's input.
    pub(crate) fn find(config: &Config, accounts: &'a [Account], called: Called<'_>) -> Result<Self, Failure> {
        let input = |why: String| Failure::Input(anyhow!(why));
        let server = server(called.server, config)?;
        let target = Target::of(called.target, server.as_ref()).map_err(input)?;
        if called.from.is_empty() || called.from.contains(char::is_whitespace) {
            return Err(input(format!("--from: {:?} is not a number or a name", called.from)));
        }
        let account = account(config, accounts, called.account, called.target);
        if let (Some(name), None) = (called.account, account) {
            let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
            return Err(input(format!("--account: no account {name:?}; the accounts are: {}", names.join(", "))));
        }
        // The credentials are sent only to the configured server, and only if this server is on this machine.
        let own = target.own && target.address.is_some_and(|address| address.ip().is_loopback());
        let credentials = account.filter(|_| own).and_then(credentials);
        let credentials = credentials.map(|credentials| (credentials, config.sip.registrar.realm.clone()));
        Ok(Self { target, account, credentials })
    }
}

fn server(named: Option<&str>, config: &Config) -> Result<Option<ServerAddress>, Failure> {
    let Some(named) = named else { return Ok(ServerAddress::of(config)) };
    let found = named.to_socket_addrs().ok().and_then(|mut found| found.next());
    match found {
        Some(address) => Ok(Some(ServerAddress { address, tcp: false })),
        None => Err(Failure::Input(anyhow!("--server: {named:?} is not HOST:PORT, such as 127.0.0.1:5060"))),
    }
}

/// Returns the account that makes the call. If `name` is set, this is the account with this name. Otherwise this is the
/// account that owns the called number or phone. If no account owns the target, this is the first account.
fn account<'a>(config: &Config, accounts: &'a [Account], name: Option<&str>, target: &str) -> Option<&'a Account> {
    let of = |name: &str| accounts.iter().find(|account| account.name == name);
    if let Some(name) = name {
        return of(name);
    }
    let user = target.strip_prefix("client:").unwrap_or(target);
    let numbers = config.numbers.iter().filter_map(|one| Some((one.number.fits(user)?, &one.account)));
    let number = numbers.max_by_key(|(fit, _)| *fit).map(|(_, account)| account);
    let phone = || config.endpoints.iter().find(|one| &*one.username == user).map(|one| &one.account);
    number.or_else(phone).and_then(|name| of(name.as_str())).or(accounts.first())
}

/// Returns the credentials with which the account makes calls to the server. The user name is the account's id at a
/// provider, because accounts of other servers have other ids. If the account has no such id, the user name is the name
/// of the account.
fn credentials(account: &Account) -> Option<Credentials> {
    let (username, password) = account.callers().last()?;
    Some(Credentials { username: username.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerAddress {
        ServerAddress { address: "127.0.0.1:5060".parse().unwrap(), tcp: false }
    }

    fn uri(text: &str) -> String {
        Target::of(text, Some(&server())).unwrap().uri
    }

    #[test]
    fn numbers_extensions_and_clients_are_called_at_the_server() {
        assert_eq!(uri("+15551230001"), "sip:+15551230001@127.0.0.1:5060");
        assert_eq!(uri("600"), "sip:600@127.0.0.1:5060");
        assert_eq!(uri("client:alice"), "sip:alice@127.0.0.1:5060");
        assert_eq!(uri("*9#"), "sip:*9%23@127.0.0.1:5060");
        let tcp = ServerAddress { tcp: true, ..server() };
        assert_eq!(Target::of("600", Some(&tcp)).unwrap().uri, "sip:600@127.0.0.1:5060;transport=tcp");
    }

    #[test]
    fn a_uri_is_called_unchanged_and_recognised_if_it_is_the_servers() {
        let target = |text| Target::of(text, Some(&server())).unwrap();
        assert!(target("sip:600@127.0.0.1").own && target("sip:600@127.0.0.1:5060;x=1").own);
        assert!(!target("sip:600@127.0.0.1:5070").own);
        assert!(target("sip:600@127.0.0.1:5070").probed && !target("sip:600@127.0.0.1:5070;transport=tcp").probed);
    }

    #[test]
    fn an_invalid_target_is_refused_with_the_valid_forms() {
        let fault = |text| Target::of(text, Some(&server())).unwrap_err();
        assert!(fault("a b").contains("client:alice"));
        assert!(fault("").contains("a number"));
        assert!(fault("sips:a@b").contains("TLS"));
        assert!(fault("sip:@").contains("sip:name@host"));
        assert!(Target::of("600", None).unwrap_err().contains("--server"));
    }

    #[test]
    fn a_closed_udp_port_is_detected_immediately() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let target = |address: SocketAddr| Target::of(&format!("sip:a@{address}"), None).unwrap();
        assert!(target(free).is_closed());
        assert!(!target(taken.local_addr().unwrap()).is_closed());
    }
}
