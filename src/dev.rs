//! `tandem dev URL` runs a server with a number for one application, and shows the calls of the server live. With
//! `--agent`, the number belongs to a voice agent.
//!
//! ```text
//!   URL or agent ─► a number ─► the server with its defaults ─► event bus (each call's log) ─► View (the terminal)
//! ```

mod agent;
mod view;

use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use tandem_accounts::{Account, DEFAULT_ACCOUNT};
use tandem_app::{OnHangup, Server};
use tandem_config::Config;
use tandem_events::{Filter, Kind};
use tandem_http::{Origin, without_credentials};
use tandem_id::AccountName;
use tandem_runtime::reporting::OF_CALLS;
use tandem_softphone::{Dialled, Key};

use agent::Agent;
use tandem_cli::env::Sdk;
use tandem_cli::list::print;
use tandem_cli::paint::Paint;
use tandem_cli::{Failure, env};
use view::View;

/// Number for the application. It is a fictitious number, like all numbers that begin with +1 555 01.
const NUMBER: &str = "+15550100001";
/// Extension of the application. The extension is a short alternative to the number.
const EXTENSION: &str = "600";
/// Id of an application that works with commands. The id has 19 digits, like the ids of the provider.
const APPLICATION: u64 = 1_000_000_000_000_000_001;
/// Time limit for the connection that shows whether the application is running.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// RTP ports for a server whose SIP port is one of the default RTP ports.
const OTHER_PORTS: &str = "40000-45998";
/// Maximum number of simultaneous legs. The same maximum applies to HTTP connections.
const MAX_LEGS: usize = 200;
const MAX_CONNECTIONS: usize = 200;
/// Maximum number of candidates in the search for a free number. The same maximum applies to the search for a free
/// application id.
const MAX_TRIES: u32 = 1_000;

/// Run a server with a number for the application at URL, or for a voice agent, and show its calls live
///
/// The command starts the server as `tandem serve` does. A configuration file is optional. The command gives the
/// application a number and an extension. It prints the settings for the application's SDK, the command that calls the
/// application, and the address of a page with which you talk to it in a browser on this machine. Then it shows each call
/// with the documents and webhooks (status and time), digits, speech and audio. Errors are shown with advice. Ctrl-C ends
/// the server.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Voice URL of the application: http://127.0.0.1:5000/voice, 127.0.0.1:5000/voice, :5000/voice or 5000/voice
    #[arg(value_name = "URL", required_unless_present = "agent")]
    url: Option<String>,
    #[command(flatten)]
    agent: agent::Options,
    /// Public origin of the application, for example `https://app.example`. Requests to this host, by http, https, ws or
    /// wss, are sent to the origin of URL instead. The option may be repeated; the first origin is the number's
    #[arg(long, value_name = "ORIGIN")]
    public: Vec<String>,
    /// Configuration file with further settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Provider whose API the application uses: twilio, telnyx, texml (Telnyx's XML), signalwire (SignalWire's XML) or swml
    /// (SignalWire's JSON) (default: the provider of the account)
    #[arg(long, value_name = "PROVIDER", value_parser = env::provider)]
    provider: Option<String>,
    /// Account that owns the number (default: the first account)
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// SIP port on 127.0.0.1 (UDP and TCP), instead of `sip.listen`
    #[arg(long, value_name = "PORT")]
    sip_port: Option<u16>,
    /// HTTP port on 127.0.0.1, instead of `http.listen`
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Also show the SIP messages of the calls
    #[arg(long)]
    sip: bool,
}

const EXAMPLES: &str = "\
Examples:
  tandem dev --agent \"You answer the phone of a bicycle shop\"
  tandem dev --agent \"...\" --model http://127.0.0.1:11434/v1#llama3.2:3b
  tandem dev 5000/voice                                   then, in another terminal: tandem call 600
  tandem dev 5000/voice --public https://app.example      the application builds its own URLs with that host
  tandem dev 5000/voice --sip-port 5062 --http-port 8081  when the default ports are in use";

/// Runs the server until Ctrl-C.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    // The log omits messages about calls, because the view shows the same information.
    tandem_cli::log(&format!(
        "warn,tandem_runtime::call_task=error,tandem_runtime::notify=error,tandem_webhooks=error,{OF_CALLS}=error"
    ));
    let subject = match (Agent::find(&arguments.agent)?, &arguments.url) {
        (Some(agent), _) => Subject::Agent(Box::new(agent)),
        (None, text) => {
            Subject::Application(url(text.as_deref().unwrap_or_default()).map_err(|why| Failure::Input(anyhow!(why)))?)
        }
    };
    let (config, info) = settings(&arguments, &subject)?;
    let read = {
        move || match settings(&arguments, &subject) {
            Ok((config, _)) => Ok(config),
            Err(failure) => Err(failure.to_string()),
        }
    };
    // The server reports a port in use too, but only after it has made its data directory.
    if !config.data_dir.exists()
        && let Some(used) = used_port(&config)
    {
        return Err(Failure::Environment(anyhow!("{used}{}", advice(&used, tandem_cli::is_installed()))));
    }
    let key = Key::random();
    let softphone =
        Dialled { account: AccountName::new(&*info.account), number: info.number.clone(), key: key.clone() };
    let greet = |server: &Server| greet(server, &info, &key);
    tandem_cli::block_on(tandem_app::run_with(config, Some(softphone), OnHangup::End, read, greet))?.map_err(|error| {
        let text = format!("{error:#}");
        // The server's error message recommends environment variables. This command has options for the same settings,
        // so the advice is replaced.
        let text = text.split("; stop what listens there").next().unwrap_or_default();
        Failure::Environment(anyhow!("{text}{}", advice(text, tandem_cli::is_installed())))
    })
}

/// The far end of the number.
enum Subject {
    /// The complete voice URL of an application.
    Application(String),
    /// A voice agent.
    Agent(Box<Agent>),
}

/// Returns advice for an error at the start of the server. `is_installed` is whether this machine has the configuration of
/// an installed service.
fn advice(error: &str, is_installed: bool) -> String {
    if error.contains("in use by another tandem") {
        return "\nOnly one server can use a data directory: stop the other one, or give this one another directory: \
                TANDEM_DATA_DIR=/tmp/tandem tandem dev ..."
            .to_owned();
    }
    if !error.contains("cannot listen on") {
        return String::new();
    }
    let mut advice = "\nTo use other ports: tandem dev ... --sip-port 5062 --http-port 8081".to_owned();
    if is_installed {
        let file = tandem_cli::INSTALLED;
        advice.push_str(&format!(
            "\nThe installed service `tandem` probably uses this port. To give it your application: write \
             voice_url = \"URL\" in place of twiml in {file}, then `systemctl reload tandem`. To stop it: `systemctl stop tandem`"
        ));
    }
    advice
}

/// Returns an error for the first loopback port of the server that another program uses.
fn used_port(config: &Config) -> Option<String> {
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

/// The information that the command prints when the server has started.
#[derive(Clone)]
struct StartInfo {
    number: String,
    extension: String,
    /// The application or agent that answers calls to the number.
    answers: Answers,
    account: String,
    provider: String,
    /// The id of the application, if the provider's applications have one.
    application: Option<String>,
    config: Config,
    shows_sip: bool,
}

/// The application or agent that answers calls to the number.
#[derive(Clone)]
enum Answers {
    Application {
        /// URL that the server requests for calls to the number.
        url: String,
        /// URL to which the server actually connects.
        local: String,
    },
    Agent(Agent),
}

/// Returns the configuration with the added number, and the information for the start. The configuration is checked
/// like the configuration of `tandem serve`.
fn settings(arguments: &Arguments, subject: &Subject) -> Result<(Config, StartInfo), Failure> {
    let input = |why: String| Failure::Input(anyhow!(why));
    let (mut extra, before) = with_ports(arguments, subject)?;
    let names: Vec<&str> = before.accounts.iter().map(|account| account.name.as_str()).collect();
    let account = match &arguments.account {
        Some(name) if !names.is_empty() && !names.contains(&name.as_str()) => {
            return Err(input(format!("--account: no account {name:?}; the accounts are: {}", names.join(", "))));
        }
        Some(name) => name.clone(),
        None => names.first().map_or(DEFAULT_ACCOUNT, |name| *name).to_owned(),
    };
    let mut publics = Vec::with_capacity(arguments.public.len());
    for public in &arguments.public {
        let origin: Origin = public.parse().map_err(|why| input(format!("--public: {why}")))?;
        publics.push(origin.to_string());
    }
    let url = match subject {
        Subject::Application(url) => url,
        Subject::Agent(_) => "",
    };
    let (origin, path) = split(url);
    let (origin, user) = without_user(origin);
    let public = match publics.first() {
        Some(public) => with_user(&format!("{public}{path}"), user),
        None => url.to_owned(),
    };
    let taken = |number: &str| before.numbers.iter().any(|one| one.number.exact() == Some(number));
    let free = |first: &str| {
        let digits: u64 = first.trim_start_matches('+').parse().unwrap_or_default();
        let plus = if first.starts_with('+') { "+" } else { "" };
        let mut tried = (0..MAX_TRIES).map(|step| format!("{plus}{}", digits + u64::from(step)));
        tried.find(|number| !taken(number)).unwrap_or_else(|| first.to_owned())
    };
    let (number, extension) = (free(NUMBER), free(EXTENSION));
    // The account that the server creates has credentials of every provider.
    let documents = before.accounts.iter().find(|one| one.name == *account).map_or("twilio", Account::documents);
    let provider = arguments.provider.clone().unwrap_or_else(|| documents.to_owned());
    // The REST API of these providers places calls only for an application, which needs an entry in `[[applications]]`.
    // For any other application, the number has a `voice_url`.
    let is_application = matches!(subject, Subject::Application(_));
    let application = (is_application && ["telnyx", "texml"].contains(&&*provider)).then(|| {
        let taken = |id: &str| before.applications.iter().any(|one| &*one.id == id);
        let mut tried = (0..MAX_TRIES).map(|step| (APPLICATION + u64::from(step)).to_string());
        tried.find(|id| !taken(id)).unwrap_or_else(|| APPLICATION.to_string())
    });
    let goes_to = match (&application, subject) {
        (_, Subject::Agent(agent)) => {
            let (variables, name) = agent.variables(&before);
            extra.extend(variables);
            vec![("AGENT", name)]
        }
        (Some(id), _) => {
            let place = before.applications.len();
            let values = [("ID", id), ("ACCOUNT", &account), ("PROVIDER", &provider), ("WEBHOOK_URL", &public)];
            extra.extend(values.map(|(key, value)| (format!("TANDEM_APPLICATIONS__{place}__{key}"), value.clone())));
            vec![("APPLICATION", id.clone())]
        }
        (None, _) => vec![("VOICE_URL", public.clone()), ("PROVIDER", provider.clone())],
    };
    for (place, number) in [&number, &extension].into_iter().enumerate() {
        let place = before.numbers.len() + place;
        let values = [("NUMBER", number.clone()), ("ACCOUNT", account.clone())];
        for (key, value) in values.into_iter().chain(goes_to.iter().cloned()) {
            extra.push((format!("TANDEM_NUMBERS__{place}__{key}"), value));
        }
    }
    for (place, from) in publics.into_iter().enumerate() {
        let place = before.origins.len() + place;
        extra.push((format!("TANDEM_ORIGINS__{place}__FROM"), from));
        extra.push((format!("TANDEM_ORIGINS__{place}__TO"), origin.clone()));
    }
    let mut config = load(arguments, &extra)?;
    // After Ctrl-C, the server ends without waiting for live calls.
    config.drain_timeout = Duration::ZERO;
    // A developer makes few calls at the same time. Low limits avoid the warning about open files.
    config.sip.max_legs = config.sip.max_legs.min(MAX_LEGS);
    config.http.max_connections = config.http.max_connections.min(MAX_CONNECTIONS);
    let answers = match subject {
        Subject::Application(url) => Answers::Application { url: public, local: url.clone() },
        Subject::Agent(agent) => Answers::Agent((**agent).clone()),
    };
    let info = StartInfo {
        number,
        extension,
        answers,
        account,
        provider,
        application,
        config: config.clone(),
        shows_sip: arguments.sip,
    };
    Ok((config, info))
}

/// Returns the settings that the options for the ports add, and the configuration with these settings.
fn with_ports(arguments: &Arguments, subject: &Subject) -> Result<(Vec<(String, String)>, Config), Failure> {
    let mut extra: Vec<(String, String)> = Vec::new();
    if let Some(port) = arguments.sip_port {
        extra.push(("TANDEM_SIP__LISTEN".to_owned(), format!("udp://127.0.0.1:{port},tcp://127.0.0.1:{port}")));
        // The SIP port from the command line may be one of the default RTP ports.
        let usual = Config::default().media.ports;
        if usual.pairs().any(|even| port & !1 == even) && load(arguments, &[])?.media.ports == usual {
            extra.push(("TANDEM_MEDIA__PORTS".to_owned(), OTHER_PORTS.to_owned()));
        }
    }
    if let Some(port) = arguments.http_port {
        extra.push(("TANDEM_HTTP__LISTEN".to_owned(), format!("127.0.0.1:{port}")));
    }
    let mut before = load(arguments, &extra)?;
    if let Subject::Agent(agent) = subject
        && arguments.http_port.is_none()
        && agent.uses_port(before.http.listen.port())
        && let Some(free) = (1..MAX_TRIES).find_map(|step| free_port(before.http.listen, step))
    {
        // A server of llama.cpp has the same default port.
        extra.push(("TANDEM_HTTP__LISTEN".to_owned(), free.to_string()));
        before = load(arguments, &extra)?;
    }
    Ok((extra, before))
}

/// Returns the address with the port `step` ports later, if it is free.
fn free_port(address: std::net::SocketAddr, step: u32) -> Option<std::net::SocketAddr> {
    let port = address.port().checked_add(u16::try_from(step).ok()?)?;
    let address = std::net::SocketAddr::new(address.ip(), port);
    TcpListener::bind(address).is_ok().then_some(address)
}

fn load(arguments: &Arguments, extra: &[(String, String)]) -> Result<Config, Failure> {
    // If two variables have the same name, the later variable applies.
    let environment = tandem_cli::environment().chain(extra.iter().cloned());
    Config::load(arguments.config.as_deref(), environment).map_err(|errors| Failure::Input(errors.into()))
}

/// Completes a short form of a URL, for example `5000/voice`. A complete URL stays unchanged.
fn url(text: &str) -> Result<String, String> {
    let wrong =
        || format!("{text:?} is not the URL of an application; write http://127.0.0.1:5000/voice or 5000/voice");
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(text.to_owned());
    }
    if text.is_empty() || text.contains("://") || text.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let (host, path) = text.split_once('/').map_or((text, ""), |(host, path)| (host, path));
    let port = host.strip_prefix(':').unwrap_or(host);
    let host = match port.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) if host.starts_with(':') || host.is_empty() => return Err(wrong()),
        // The text is a host with a port, or only a host. Without a port, the URL means port 80.
        Err(_) => host.to_owned(),
    };
    Ok(format!("http://{host}/{path}"))
}

/// Splits a URL into its origin and its path.
fn split(url: &str) -> (&str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| start + at);
    url.split_at(end)
}

/// Splits an origin into the origin without `USER:PASSWORD@` and the text before the `@`.
fn without_user(origin: &str) -> (String, Option<&str>) {
    let (scheme, authority) = origin.split_once("://").unwrap_or(("http", origin));
    match authority.rsplit_once('@') {
        Some((user, host)) => (format!("{scheme}://{host}"), Some(user)),
        None => (origin.to_owned(), None),
    }
}

/// Adds `USER:PASSWORD@` to a URL.
fn with_user(url: &str, user: Option<&str>) -> String {
    match (user, url.split_once("://")) {
        (Some(user), Some((scheme, rest))) => format!("{scheme}://{user}@{rest}"),
        _ => url.to_owned(),
    }
}

/// Returns whether the host of the URL accepts a TCP connection.
fn is_there(url: &str) -> bool {
    let (origin, _) = split(url);
    let (origin, _) = without_user(origin);
    let (scheme, host) = origin.split_once("://").unwrap_or(("http", &origin));
    let with_port = match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
        _ => format!("{host}:{}", if scheme == "https" { 443 } else { 80 }),
    };
    let found = with_port.to_socket_addrs().into_iter().flatten();
    found.into_iter().any(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok())
}

/// Prints the information for the start, and starts the live view of the calls. `key` is the key of the page.
fn greet(server: &Server, info: &StartInfo, key: &Key) {
    let paint = Paint::stdout();
    let StartInfo { number, extension, answers, config, shows_sip, .. } = info;
    let udp = server.sip_addrs().iter().find(|(transport, _)| *transport == tandem_sip::Transport::Udp);
    // With trunks, the server takes calls only from the networks of the trunks.
    let udp = udp.filter(|_| config.trunks.is_empty());
    let phone = udp.map(|(_, address)| format!("sip:{extension}@{}", tandem_cli::reachable(*address)));
    let mut text = match answers {
        Answers::Application { url, local } => about_application(server, info, url, local, phone.as_deref(), paint),
        Answers::Agent(agent) => {
            let heading = paint.bold(format!("The agent answers calls to {number} and {extension}"));
            format!("{heading}\n{}", agent.describe(config, paint))
        }
    };
    text.push_str("\nTalk with it in a browser on this machine:\n");
    let page = tandem_cli::reachable(server.http_addr());
    match page.ip().is_loopback() {
        true => text.push_str(&format!("  {}\n", paint.green(key.address(page)))),
        // A page on any other address gets no microphone without TLS.
        false => text.push_str("  not possible: http.listen is not a loopback address such as 127.0.0.1:8080\n"),
    }
    text.push_str("or call it from another terminal in this directory:\n");
    text.push_str(&format!("  {}\n", paint.green(format!("tandem call {extension} --listen"))));
    if let Answers::Agent(_) = answers {
        let said = format!("tandem call {extension} --say \"What are your opening hours?\" --hear");
        let measured = format!("tandem measure agent {extension}");
        text.push_str(&format!("  {}\n  {}\n", paint.green(said), paint.green(measured)));
    }
    if let Some(phone) = &phone {
        text.push_str("or with any softphone on this machine, which needs no account:\n");
        text.push_str(&format!("  {}\n", paint.green(phone)));
    }
    text.push('\n');
    if let Answers::Application { local, .. } = answers
        && !is_there(local)
    {
        let line = format!("Nothing listens at {} yet: start your application.", without_credentials(local));
        text.push_str(&format!("{}\n", paint.yellow(line)));
    }
    text.push_str(&format!("{}\n", paint.dim("Calls are shown here as they happen. Ctrl-C stops the server.")));
    print(&text);
    let view = View::new(paint, *shows_sip, server.calls().clone(), server.accounts());
    // A server that has just started has no other readers, so there is a place for the view.
    if let Ok(lines) = server.calls().services().events.subscribe(Filter::kinds(&[Kind::Log])) {
        // The task of the view ends with the process.
        tokio::spawn(view.run(lines));
    }
}

/// Returns the lines about an application: its number, its variables and a call by REST.
fn about_application(
    server: &Server,
    info: &StartInfo,
    url: &str,
    local: &str,
    phone: Option<&str>,
    paint: Paint,
) -> String {
    let StartInfo { number, extension, account, provider, application, config, .. } = info;
    // The URL may contain a password.
    let (shown, place) = (without_credentials(url), without_credentials(local));
    let public = if url == local { String::new() } else { format!(" (at {place})") };
    let mut text = paint.bold(format!("Calls to {number} and {extension} go to {shown}{public}"));
    text.push('\n');
    let accounts = server.accounts();
    let Some(account) = accounts.iter().find(|one| one.name == **account) else { return text };
    let mut config = config.clone();
    config.http.listen = server.http_addr();
    let to = phone.unwrap_or("+15550109999");
    let sdk = Sdk { provider, account, config: &config, number, url: &shown, to, application: application.as_deref() };
    text.push_str("\nIn your application's shell:\n");
    for (name, value) in sdk.variables() {
        let line = format!("export {name}={}", env::quoted(&value));
        text.push_str(&format!("  {}\n", paint.green(line)));
    }
    text.push_str(match &**provider {
        "telnyx" | "texml" | "swml" => "Its SDK reads these variables. A call by REST (Python):\n",
        _ => "A call by REST (Python). Set base_url, or use `tandem proxy` and change nothing (docs/sdk.md):\n",
    });
    for line in sdk.first_lines() {
        text.push_str(&format!("  {}\n", paint.green(line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(url: &str) -> Subject {
        Subject::Application(url.to_owned())
    }

    #[test]
    fn a_url_may_be_abbreviated() {
        for (text, whole) in [
            ("http://127.0.0.1:5000/voice", "http://127.0.0.1:5000/voice"),
            ("https://app.example/voice", "https://app.example/voice"),
            ("127.0.0.1:5000/voice", "http://127.0.0.1:5000/voice"),
            ("localhost:5000", "http://localhost:5000/"),
            (":5000/voice", "http://127.0.0.1:5000/voice"),
            ("5000/voice?a=b", "http://127.0.0.1:5000/voice?a=b"),
            ("5000", "http://127.0.0.1:5000/"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(whole), "{text}");
        }
        for text in ["", ":", "/voice", "ftp://a/b", "a b", ":x/voice"] {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_sip_port_within_the_media_ports_moves_the_media_ports() {
        let arguments = Arguments {
            url: Some("5000/voice".to_owned()),
            agent: agent::Options::default(),
            public: Vec::new(),
            config: None,
            account: None,
            provider: None,
            sip_port: Some(34_759),
            http_port: None,
            sip: false,
        };
        let Ok((config, info)) = settings(&arguments, &application("http://127.0.0.1:5000/voice")) else {
            panic!("refused")
        };
        assert!(config.media.ports.pairs().all(|port| port != 34_758), "{:?}", config.media.ports);
        let numbers: Vec<String> = config.numbers.iter().map(|one| one.number.to_string()).collect();
        assert_eq!((numbers, info.account.as_str()), (vec![NUMBER.to_owned(), EXTENSION.to_owned()], DEFAULT_ACCOUNT));
    }

    #[test]
    fn an_application_that_sends_commands_gets_its_webhooks_at_the_url() {
        let arguments = Arguments {
            url: Some("5000/voice".to_owned()),
            agent: agent::Options::default(),
            public: Vec::new(),
            config: None,
            account: None,
            provider: Some("telnyx".to_owned()),
            sip_port: None,
            http_port: None,
            sip: false,
        };
        let Ok((config, _)) = settings(&arguments, &application("http://127.0.0.1:5000/voice")) else {
            panic!("refused")
        };
        let [application] = &config.applications[..] else { panic!("{:?}", config.applications) };
        assert_eq!(&*application.webhook_url, "http://127.0.0.1:5000/voice");
        assert!(config.numbers.iter().all(|number| number.application.as_deref() == Some(&*application.id)));
    }

    fn arguments(public: &[&str], provider: Option<&str>) -> Arguments {
        Arguments {
            url: Some("5000/voice".to_owned()),
            agent: agent::Options::default(),
            public: public.iter().map(|one| (*one).to_owned()).collect(),
            config: None,
            account: None,
            provider: provider.map(str::to_owned),
            sip_port: None,
            http_port: None,
            sip: false,
        }
    }

    #[test]
    fn every_public_name_becomes_an_origin_and_the_url_keeps_its_password() {
        let arguments = arguments(&["https://app.example/", "https://other.example"], None);
        let Ok((config, info)) = settings(&arguments, &application("http://me:secret@127.0.0.1:5000/voice")) else {
            panic!("refused")
        };
        let Answers::Application { url, .. } = info.answers else { panic!("an agent") };
        assert_eq!(url, "https://me:secret@app.example/voice");
        let origins: Vec<_> = config.origins.iter().map(|one| (one.from.to_string(), one.to.to_string())).collect();
        let to = "http://127.0.0.1:5000".to_owned();
        let expected = ["https://app.example", "https://other.example"].map(|from| (from.to_owned(), to.clone()));
        assert_eq!(origins, expected);
        assert!(settings(&self::arguments(&["app.example"], None), &application("http://127.0.0.1:5000/")).is_err());
    }

    #[test]
    fn a_provider_whose_calls_need_an_application_gets_one() {
        for (provider, has_application) in
            [("twilio", false), ("signalwire", false), ("swml", false), ("texml", true), ("telnyx", true)]
        {
            let arguments = arguments(&[], Some(provider));
            let Ok((config, info)) = settings(&arguments, &application("http://127.0.0.1:5000/voice")) else {
                panic!("{provider}")
            };
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
    fn the_advice_for_a_port_in_use_names_the_installed_service() {
        let error = "http.listen: cannot listen on 127.0.0.1:8080: Address already in use (os error 98)";
        let without = advice(error, false);
        assert!(without.contains("--http-port 8081") && !without.contains("systemctl"), "{without}");
        let with = advice(error, true);
        for part in ["--http-port 8081", "/etc/tandem/tandem.toml", "systemctl reload tandem", "systemctl stop tandem"]
        {
            assert!(with.contains(part), "{part}: {with}");
        }
        assert!(advice("data_dir: data is in use by another tandem", true).contains("TANDEM_DATA_DIR"));
        assert_eq!(advice("the database is down", true), "");
    }

    #[test]
    fn a_reachable_application_with_a_password_in_its_url_is_detected() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_there(&format!("http://swml:secret@{address}/ivr")) && is_there(&format!("http://{address}")));
        drop(listener);
        assert!(!is_there(&format!("http://swml:secret@{address}/ivr")));
    }

    #[test]
    fn a_url_has_an_origin_and_a_path() {
        assert_eq!(split("http://127.0.0.1:5000/voice?a"), ("http://127.0.0.1:5000", "/voice?a"));
        assert_eq!(split("https://app.example"), ("https://app.example", ""));
    }
}
