//! The configuration of the server: the defaults or the file of `--config`, and the number of the application or agent.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::anyhow;
use tandem_accounts::{Account, DEFAULT_ACCOUNT};
use tandem_cli::Failure;
use tandem_config::Config;
use tandem_http::Origin;

use super::agent::Agent;
use super::application::{split, with_user, without_user};
use super::{Arguments, Subject};

/// Number for the application. It is a fictitious number, like all numbers that begin with +1 555 01.
const NUMBER: &str = "+15550100001";
/// Extension of the application. The extension is a short alternative to the number.
const EXTENSION: &str = "600";
/// Id of an application that works with commands. The id has 19 digits, like the ids of the provider.
const APPLICATION: u64 = 1_000_000_000_000_000_001;
/// RTP ports for a server whose SIP port is one of the default RTP ports.
const OTHER_PORTS: &str = "40000-45998";
/// Maximum number of simultaneous legs. The same maximum applies to HTTP connections.
const MAX_LEGS: usize = 200;
const MAX_CONNECTIONS: usize = 200;
/// Maximum number of candidates in the search for a free number. The same maximum applies to the search for a free
/// application id and for a free port.
const MAX_TRIES: u16 = 1_000;

/// Settings in the form of environment variables.
pub(super) type Variables = Vec<(String, String)>;

/// The information that the command prints when the server has started.
#[derive(Clone)]
pub(super) struct StartInfo {
    pub(super) number: String,
    pub(super) extension: String,
    /// The application or agent that answers calls to the number.
    pub(super) answers: Answers,
    pub(super) account: String,
    pub(super) provider: String,
    /// The id of the application, if the provider's applications have one.
    pub(super) application: Option<String>,
    pub(super) config: Config,
    pub(super) shows_sip: bool,
}

/// The application or agent that answers calls to the number.
#[derive(Clone)]
pub(super) enum Answers {
    Application {
        /// URL that the server requests for calls to the number.
        url: String,
        /// URL to which the server actually connects.
        local: String,
    },
    Agent(Box<Agent>),
}

/// The destination of the number, with its settings.
struct Destination {
    /// The settings of the number in `[[numbers]]`.
    of_number: Vec<(&'static str, String)>,
    /// Other settings that the destination needs.
    variables: Variables,
    answers: Answers,
    application: Option<String>,
}

/// Returns the settings for the ports, and the configuration with these settings.
pub(super) fn ports(arguments: &Arguments) -> Result<(Variables, Config), Failure> {
    let mut ports = Variables::new();
    if let Some(port) = arguments.sip_port {
        ports.push(("TANDEM_SIP__LISTEN".to_owned(), format!("udp://127.0.0.1:{port},tcp://127.0.0.1:{port}")));
        // The SIP port from the command line may be one of the default RTP ports.
        let usual = Config::default().media.ports;
        if usual.pairs().any(|even| port & !1 == even) && load(arguments, &[])?.media.ports == usual {
            ports.push(("TANDEM_MEDIA__PORTS".to_owned(), OTHER_PORTS.to_owned()));
        }
    }
    if let Some(port) = arguments.http_port {
        ports.push(("TANDEM_HTTP__LISTEN".to_owned(), format!("127.0.0.1:{port}")));
    }
    let before = load(arguments, &ports)?;
    // Model servers use the default port too. Nobody has chosen this port, and no application needs to know it.
    if arguments.agent.is_wanted()
        && before.http.listen == Config::default().http.listen
        && arguments.http_port.is_none()
        && let Some(free) = free_port(before.http.listen).filter(|free| *free != before.http.listen)
    {
        ports.push(("TANDEM_HTTP__LISTEN".to_owned(), free.to_string()));
        let config = load(arguments, &ports)?;
        return Ok((ports, config));
    }
    Ok((ports, before))
}

/// Returns the first address that is free: this one, or the same address with a higher port.
fn free_port(address: SocketAddr) -> Option<SocketAddr> {
    let ports = (0..MAX_TRIES).filter_map(|step| address.port().checked_add(step));
    ports.map(|port| SocketAddr::new(address.ip(), port)).find(|address| TcpListener::bind(address).is_ok())
}

fn load(arguments: &Arguments, extra: &[(String, String)]) -> Result<Config, Failure> {
    // If two variables have the same name, the later variable applies.
    let environment = tandem_cli::environment().chain(extra.iter().cloned());
    Config::load(arguments.config.as_deref(), environment).map_err(|errors| Failure::Input(errors.into()))
}

/// Returns an error for the first loopback port of the server that another program uses.
pub(super) fn used_port(config: &Config) -> Option<String> {
    let sip = config.sip.listen.iter().filter_map(|listen| {
        let (transport, address) = tandem_sip::parse_listen(listen)?;
        Some(("sip.listen", transport == tandem_sip::Transport::Udp, address))
    });
    let ports = std::iter::once(("http.listen", false, config.http.listen)).chain(sip);
    ports.filter(|(_, _, address)| address.ip().is_loopback()).find_map(|(key, is_udp, address)| {
        let bound = if is_udp { UdpSocket::bind(address).map(drop) } else { TcpListener::bind(address).map(drop) };
        let error = bound.err().filter(|error| error.kind() == io::ErrorKind::AddrInUse)?;
        Some(format!("{key}: cannot listen on {address}: {error}"))
    })
}

/// Returns the configuration with the added number, and the information for the start. The configuration is checked
/// like the configuration of `tandem serve`. `ports` are the settings of [`ports`].
pub(super) fn settings(
    arguments: &Arguments,
    ports: &[(String, String)],
    subject: &Subject,
) -> Result<(Config, StartInfo), Failure> {
    let before = load(arguments, ports)?;
    let account = account(arguments, &before)?;
    let taken = |number: &str| before.numbers.iter().any(|one| one.number.exact() == Some(number));
    let (number, extension) = (free_number(NUMBER, taken), free_number(EXTENSION, taken));
    // The account that the server creates has credentials of every provider.
    let documents = before.accounts.iter().find(|one| one.name == *account).map_or("twilio", Account::documents);
    let provider = arguments.provider.clone().unwrap_or_else(|| documents.to_owned());
    let destination = match subject {
        Subject::Application(url) => to_application(arguments, &before, url, &account, &provider)?,
        Subject::Agent(agent) => to_agent(agent, &before),
    };
    let Destination { of_number, variables, answers, application } = destination;
    let mut extra = [ports, &variables].concat();
    for (place, number) in [&number, &extension].into_iter().enumerate() {
        let place = before.numbers.len() + place;
        let values = [("NUMBER", number.clone()), ("ACCOUNT", account.clone())];
        for (key, value) in values.into_iter().chain(of_number.iter().cloned()) {
            extra.push((format!("TANDEM_NUMBERS__{place}__{key}"), value));
        }
    }
    let mut config = load(arguments, &extra)?;
    // After Ctrl-C, the server ends without waiting for live calls.
    config.drain_timeout = Duration::ZERO;
    // A developer makes few calls at the same time. Low limits avoid the warning about open files.
    config.sip.max_legs = config.sip.max_legs.min(MAX_LEGS);
    config.http.max_connections = config.http.max_connections.min(MAX_CONNECTIONS);
    let (shows_sip, shown) = (arguments.sip, config.clone());
    let info = StartInfo { number, extension, answers, account, provider, application, config: shown, shows_sip };
    Ok((config, info))
}

/// Returns the name of the account that owns the number.
pub(super) fn account(arguments: &Arguments, before: &Config) -> Result<String, Failure> {
    let names: Vec<&str> = before.accounts.iter().map(|account| account.name.as_str()).collect();
    match &arguments.account {
        Some(name) if !names.is_empty() && !names.contains(&name.as_str()) => {
            let names = names.join(", ");
            Err(Failure::Input(anyhow!("--account: no account {name:?}; the accounts are: {names}")))
        }
        Some(name) => Ok(name.clone()),
        None => Ok(names.first().map_or(DEFAULT_ACCOUNT, |name| *name).to_owned()),
    }
}

/// Returns the first number from `first` on that is free.
fn free_number(first: &str, taken: impl Fn(&str) -> bool) -> String {
    let digits: u64 = first.trim_start_matches('+').parse().unwrap_or_default();
    let plus = if first.starts_with('+') { "+" } else { "" };
    let mut tried = (0..MAX_TRIES).map(|step| format!("{plus}{}", digits + u64::from(step)));
    tried.find(|number| !taken(number)).unwrap_or_else(|| first.to_owned())
}

/// The destination of a number of the application at `url`.
fn to_application(
    arguments: &Arguments,
    before: &Config,
    url: &str,
    account: &str,
    provider: &str,
) -> Result<Destination, Failure> {
    let mut publics = Vec::with_capacity(arguments.public.len());
    for public in &arguments.public {
        let origin: Origin = public.parse().map_err(|why| Failure::Input(anyhow!("--public: {why}")))?;
        publics.push(origin.to_string());
    }
    let (origin, path) = split(url);
    let (origin, user) = without_user(origin);
    let public = match publics.first() {
        Some(public) => with_user(&format!("{public}{path}"), user),
        None => url.to_owned(),
    };
    let mut variables = Variables::new();
    // The REST API of these providers places calls only for an application, which needs an entry in `[[applications]]`.
    // For any other application, the number has a `voice_url`.
    let application = ["telnyx", "texml"].contains(&provider).then(|| {
        let taken = |id: &str| before.applications.iter().any(|one| &*one.id == id);
        free_number(&APPLICATION.to_string(), taken)
    });
    let of_number = match &application {
        Some(id) => {
            let place = before.applications.len();
            let values =
                [("ID", &**id), ("ACCOUNT", account), ("PROVIDER", provider), ("WEBHOOK_URL", public.as_str())];
            variables
                .extend(values.map(|(key, value)| (format!("TANDEM_APPLICATIONS__{place}__{key}"), value.to_owned())));
            vec![("APPLICATION", id.clone())]
        }
        None => vec![("VOICE_URL", public.clone()), ("PROVIDER", provider.to_owned())],
    };
    for (place, from) in publics.into_iter().enumerate() {
        let place = before.origins.len() + place;
        variables.push((format!("TANDEM_ORIGINS__{place}__FROM"), from));
        variables.push((format!("TANDEM_ORIGINS__{place}__TO"), origin.clone()));
    }
    let answers = Answers::Application { url: public, local: url.to_owned() };
    Ok(Destination { of_number, variables, answers, application })
}

/// The destination of a number of an agent.
fn to_agent(agent: &Agent, before: &Config) -> Destination {
    let (variables, name) = agent.variables(before);
    Destination {
        of_number: vec![("AGENT", name)],
        variables,
        answers: Answers::Agent(Box::new(agent.clone())),
        application: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(public: &[&str], provider: Option<&str>) -> Arguments {
        Arguments {
            url: Some("5000/voice".to_owned()),
            public: public.iter().map(|one| (*one).to_owned()).collect(),
            provider: provider.map(str::to_owned),
            ..Arguments::default()
        }
    }

    fn settings_of(arguments: &Arguments, url: &str) -> Result<(Config, StartInfo), String> {
        let (ports, _) = ports(arguments).map_err(|failure| failure.to_string())?;
        let made = settings(arguments, &ports, &Subject::Application(url.to_owned()));
        made.map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_sip_port_within_the_media_ports_moves_the_media_ports() {
        let arguments = Arguments { sip_port: Some(34_759), ..arguments(&[], None) };
        let (config, info) = settings_of(&arguments, "http://127.0.0.1:5000/voice").unwrap();
        assert!(config.media.ports.pairs().all(|port| port != 34_758), "{:?}", config.media.ports);
        let numbers: Vec<String> = config.numbers.iter().map(|one| one.number.to_string()).collect();
        assert_eq!((numbers, info.account.as_str()), (vec![NUMBER.to_owned(), EXTENSION.to_owned()], DEFAULT_ACCOUNT));
    }

    #[test]
    fn an_application_that_sends_commands_gets_its_webhooks_at_the_url() {
        let (config, _) = settings_of(&arguments(&[], Some("telnyx")), "http://127.0.0.1:5000/voice").unwrap();
        let [application] = &config.applications[..] else { panic!("{:?}", config.applications) };
        assert_eq!(&*application.webhook_url, "http://127.0.0.1:5000/voice");
        assert!(config.numbers.iter().all(|number| number.application.as_deref() == Some(&*application.id)));
    }

    #[test]
    fn every_public_name_becomes_an_origin_and_the_url_keeps_its_password() {
        let public = arguments(&["https://app.example/", "https://other.example"], None);
        let (config, info) = settings_of(&public, "http://me:secret@127.0.0.1:5000/voice").unwrap();
        let Answers::Application { url, .. } = info.answers else { panic!("an agent") };
        assert_eq!(url, "https://me:secret@app.example/voice");
        let origins: Vec<_> = config.origins.iter().map(|one| (one.from.to_string(), one.to.to_string())).collect();
        let to = "http://127.0.0.1:5000".to_owned();
        let expected = ["https://app.example", "https://other.example"].map(|from| (from.to_owned(), to.clone()));
        assert_eq!(origins, expected);
        assert!(settings_of(&arguments(&["app.example"], None), "http://127.0.0.1:5000/").is_err());
    }

    #[test]
    fn a_provider_whose_calls_need_an_application_gets_one() {
        for (provider, has_application) in
            [("twilio", false), ("signalwire", false), ("swml", false), ("texml", true), ("telnyx", true)]
        {
            let made = settings_of(&arguments(&[], Some(provider)), "http://127.0.0.1:5000/voice");
            let (config, info) = made.unwrap();
            assert_eq!(
                (info.application.is_some(), config.applications.len() == 1),
                (has_application, has_application)
            );
            assert_eq!(info.provider, provider);
        }
    }

    #[test]
    fn a_port_in_use_is_found_before_the_server_makes_its_data_directory() {
        let (http, sip) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (http_address, sip_address) = (http.local_addr().unwrap(), sip.local_addr().unwrap());
        let mut config = Config::default();
        config.http.listen = http_address;
        config.sip.listen = vec![format!("udp://{sip_address}")];
        let expected = format!("http.listen: cannot listen on {http_address}: ");
        assert!(used_port(&config).unwrap().starts_with(&expected));
        config.http.listen = "127.0.0.1:0".parse().unwrap();
        assert!(used_port(&config).unwrap().starts_with(&format!("sip.listen: cannot listen on {sip_address}: ")));
        config.sip.listen = vec!["udp://127.0.0.1:0".to_owned(), "tcp://127.0.0.1:0".to_owned()];
        assert_eq!(used_port(&config), None);
    }

    #[test]
    fn a_port_in_use_gives_an_agent_the_next_free_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let used = listener.local_addr().unwrap();
        let free = free_port(used).unwrap();
        assert!(free.port() > used.port() && free.ip() == used.ip());
        drop(listener);
        assert_eq!(free_port(used), Some(used));
    }
}
