//! `tandem doctor` checks the machine on which the server runs.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::anyhow;
use tandem_app::{LOW_PORTS, Listening, server_process};
use tandem_cli::Failure;
use tandem_cli::paint::{Paint, Style};
use tandem_config::Config;
use tandem_history::recordings::RecordingFiles;
use tandem_media::UseKernel;
use tandem_speech::{LOCAL_PROGRAM, Stt, Tts};
use url::Url;

/// Check the ports, addresses, limits, clock, disks, database and speech engines of this machine, with advice
///
/// The server may run or not. Nothing is changed. The exit code is 2 if something must be done before calls work.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file (TOML) (default: tandem.toml in this directory, otherwise /etc/tandem/tandem.toml of the installed
    /// service, otherwise the default settings)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Time limit for a connection to the database or to an engine.
const PATIENCE: Duration = Duration::from_secs(3);
/// File descriptors of a leg: two sockets, and its part of the connections to applications.
const DESCRIPTORS_OF_LEG: u64 = 3;
/// Below this free space, a disk is full within hours of recordings.
const LITTLE: u64 = 2 << 30;
/// The numbers of the capabilities that an eBPF program needs (capabilities(7)): CAP_BPF and CAP_NET_ADMIN.
const CAPABILITIES: [u32; 2] = [39, 12];

/// How a check has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Good,
    /// Calls work, but something is worth knowing.
    Note,
    /// Calls do not work, or not for long.
    Bad,
}

/// The result of a check.
#[derive(Debug)]
struct Finding {
    level: Level,
    subject: &'static str,
    text: String,
    /// The advice. Empty if nothing has to be done.
    advice: String,
}

impl Finding {
    fn good(subject: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Good, subject, text: text.into(), advice: String::new() }
    }

    fn note(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Note, subject, text: text.into(), advice: advice.into() }
    }

    fn bad(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Bad, subject, text: text.into(), advice: advice.into() }
    }
}

/// Prints the findings. Returns a failure if one of them is bad.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (path, _) = tandem_cli::config_file(arguments.config.as_deref())?;
    let config = tandem_cli::load_config(path.as_deref())?;
    let named = path.map_or("the default settings".to_owned(), |path| path.display().to_string());
    let mut findings = vec![Finding::good("configuration", format!("{named}: no errors"))];
    findings.extend(config.notes.iter().map(|note| Finding::note("configuration", note, "see `tandem check`")));
    let running = Listening::of(&config.data_dir).filter(|running| answers(running.http));
    findings.extend(running.as_ref().and_then(|running| outdated(&config, running)));
    findings.extend(ports(&config, running.is_some() || answers(config.http.listen)));
    findings.extend(addresses(&config));
    findings.push(clock());
    findings.extend(limits(&config));
    findings.extend(disks(&config));
    findings.push(database(&config));
    findings.extend(bucket(&config));
    findings.extend(cluster(&config));
    findings.extend(engines(&config));
    findings.push(kernel_relay(&config, running.as_ref().and_then(|_| server_process(&config.data_dir))));
    let paint = Paint::stdout();
    findings.iter().for_each(|finding| tandem_cli::print(format_args!("{}", shown(finding, paint))));
    let bad = findings.iter().filter(|finding| finding.level == Level::Bad).count();
    match bad {
        0 => Ok(()),
        1 => Err(Failure::Environment(anyhow!("one finding must be mended before calls work"))),
        more => Err(Failure::Environment(anyhow!("{more} findings must be mended before calls work"))),
    }
}

fn shown(finding: &Finding, paint: Paint) -> String {
    let Finding { level, subject, text, advice } = finding;
    let mark = match level {
        Level::Good => paint.text(Style::Good, "ok  "),
        Level::Note => paint.text(Style::Warning, "note"),
        Level::Bad => paint.text(Style::Bad, "bad "),
    };
    let first = format!("{mark} {subject:15} {}\n", paint.text(Style::Plain, text));
    match advice.as_str() {
        "" => first,
        advice => format!("{first}{:21}{}\n", "", paint.text(Style::Dim, &format!("\u{2192} {advice}"))),
    }
}

// ---- ports ----

/// Whether a server answers at the HTTP address.
fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&tandem_cli::reachable(address), PATIENCE).is_ok()
}

/// The running server opened its ports at its start; a reload opens none.
fn outdated(config: &Config, running: &Listening) -> Option<Finding> {
    let sockets = |texts: &[String]| texts.iter().filter_map(|text| tandem_sip::parse_listen(text)).collect::<Vec<_>>();
    let (wanted, open) = (sockets(&config.sip.listen), sockets(&running.sip));
    // The system has chosen another port in the place of port 0.
    let is = |wanted: SocketAddr, open: SocketAddr| wanted == open || (wanted.port() == 0 && wanted.ip() == open.ip());
    let is_open =
        |(transport, wanted): &(_, SocketAddr)| open.iter().any(|(other, at)| other == transport && is(*wanted, *at));
    let changed = [
        (wanted.len() != open.len() || !wanted.iter().all(is_open), "sip.listen"),
        (!is(config.http.listen, running.http), "http.listen"),
    ];
    let keys: Vec<_> = changed.iter().filter(|(is_changed, _)| *is_changed).map(|(_, key)| *key).collect();
    let text = format!(
        "{} changed since the server started: it listens on {} and on http://{}",
        keys.join(" and "),
        running.sip.join(", "),
        running.http
    );
    (!keys.is_empty()).then(|| Finding::note("ports", text, "restart the server: systemctl restart tandem"))
}

/// Binds each port. While the server runs, its ports are in use.
fn ports(config: &Config, runs: bool) -> Vec<Finding> {
    let mut sockets = vec![("http.listen", false, config.http.listen)];
    for text in &config.sip.listen {
        let (scheme, address) = text.split_once("://").unwrap_or(("", text));
        if let Ok(address) = address.parse() {
            sockets.push(("sip.listen", scheme == "udp", address));
        }
    }
    for place in config.media.places().unwrap_or_default() {
        let shared = [(true, config.media.ice_udp_port), (false, config.media.ice_tcp_port)];
        for (is_udp, port) in shared {
            sockets.extend(port.map(|port| ("media.ice_port", is_udp, SocketAddr::new(place.listen, port))));
        }
        if let Some(even) = config.media.ports.pairs().next() {
            sockets.push(("media.ports", true, SocketAddr::new(place.listen, even)));
        }
    }
    sockets.into_iter().map(|(setting, is_udp, address)| port(setting, is_udp, address, runs)).collect()
}

fn port(setting: &'static str, is_udp: bool, address: SocketAddr, runs: bool) -> Finding {
    let bound = if is_udp { UdpSocket::bind(address).map(drop) } else { TcpListener::bind(address).map(drop) };
    let shown = format!("{setting}: {} {address}", if is_udp { "UDP" } else { "TCP" });
    match bound {
        Ok(()) => Finding::good("ports", format!("{shown} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs => {
            Finding::good("ports", format!("{shown} is in use; a server answers at http.listen"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let advice =
                format!("find the program with `ss -lnp 'sport = :{}'`, or choose another port", address.port());
            Finding::bad("ports", format!("{shown} is in use by another program"), advice)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::bad("ports", format!("{shown}: permission denied"), LOW_PORTS)
        }
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Finding::bad(
            "ports",
            format!("{shown}: this machine does not have the address"),
            "`ip addr` shows the addresses",
        ),
        Err(error) => Finding::bad("ports", format!("{shown}: {error}"), ""),
    }
}

// ---- addresses ----

/// Whether far ends can reach the addresses in SDP.
fn addresses(config: &Config) -> Vec<Finding> {
    let places = config.media.places().unwrap_or_default();
    let found = places.into_iter().map(|place| place.advertise).map(|advertise| {
        let is_own = UdpSocket::bind((advertise, 0)).is_ok();
        match (advertise.is_loopback(), is_own, is_private(advertise)) {
            (true, ..) => Finding::note(
                "addresses",
                format!("SDP names {advertise}: only programs on this machine can call"),
                "for others, set media.listen and sip.listen to an address of the network (docs/production.md)",
            ),
            (false, true, false) => {
                Finding::good("addresses", format!("SDP names {advertise}, an address of this machine"))
            }
            (false, true, true) => Finding::note(
                "addresses",
                format!("SDP names {advertise}: far ends in the same network can call"),
                "for the Internet, set media.advertise and sip.advertise to the public address",
            ),
            (false, false, _) => Finding::note(
                "addresses",
                format!(
                    "SDP names {advertise}, which is no address of this machine: a NAT must forward the ports to it"
                ),
                format!(
                    "forward the ports of sip.listen and UDP {} without a change of the port (docs/nat.md)",
                    config.media.ports
                ),
            ),
        }
    });
    found.collect()
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

// ---- clock ----

/// Asks the system whether the clock is synchronised: signatures and tokens contain the time.
fn clock() -> Finding {
    let asked = Command::new("timedatectl").args(["show", "-p", "NTPSynchronized", "--value"]).output();
    let advice = "signatures, tokens and certificates need the right time: install systemd-timesyncd or chrony";
    match asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).as_deref() {
        Ok("yes") => Finding::good("clock", "synchronised"),
        Ok("no") => Finding::note("clock", "not synchronised", advice),
        _ => Finding::note("clock", "timedatectl cannot say whether the clock is synchronised", advice),
    }
}

// ---- limits ----

/// The file descriptors, and the receive buffers of the shared port.
fn limits(config: &Config) -> Vec<Finding> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // The server raises its limit to the hard limit.
    let most = limit.maximum.unwrap_or(u64::MAX);
    let legs = most / DESCRIPTORS_OF_LEG;
    let text = format!("{most} open files: about {legs} legs at a time");
    let mut findings = vec![if legs < 2_000 {
        Finding::note("limits", text, "raise the hard limit: LimitNOFILE= of the service, or ulimit -Hn")
    } else {
        Finding::good("limits", text)
    }];
    if config.media.ice_udp_port.is_some() {
        let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
        let most: u64 = most.trim().parse().unwrap_or_default();
        findings.push(match most {
            4_194_304.. => Finding::good("limits", format!("net.core.rmem_max is {most}")),
            _ => Finding::note(
                "limits",
                format!(
                    "net.core.rmem_max is {most}: packets at media.ice_udp_port can be lost with hundreds of calls"
                ),
                "sysctl -w net.core.rmem_max=4194304",
            ),
        });
    }
    findings
}

// ---- disks and the database ----

/// The folders that the server writes to.
fn disks(config: &Config) -> Vec<Finding> {
    let recordings = config.recordings.folder(&config.data_dir);
    let database = config.database.url.expose().strip_prefix("sqlite:").and_then(|path| Path::new(path).parent());
    let folders = [("data_dir", Some(config.data_dir.as_path())), ("database.url", database)];
    let folders = folders.into_iter().chain([("recordings.url", Some(&*recordings))]);
    folders.filter_map(|(setting, folder)| Some(disk(setting, folder?))).collect()
}

fn disk(setting: &str, folder: &Path) -> Finding {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // The server creates missing folders.
    let existing = folder.ancestors().find(|one| one.is_dir() || one.as_os_str().is_empty());
    let existing = existing.filter(|one| !one.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = format!("{setting}: {}", folder.display());
    if rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_err() {
        let advice = format!("let the user of the server write to {}", existing.display());
        return Finding::bad("disk", format!("{shown} cannot be written"), advice);
    }
    match rustix::fs::statvfs(existing) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let text = format!("{shown}: {:.1} GiB free", free as f64 / f64::from(1 << 30));
            // A minute of a recording with two channels of 16 bits has 1.8 MiB.
            if free < LITTLE {
                Finding::note("disk", text, "recordings take about 1 MiB a minute and channel")
            } else {
                Finding::good("disk", text)
            }
        }
        Err(error) => Finding::note("disk", format!("{shown}: {error}"), ""),
    }
}

/// The bucket of the recordings. The check writes a small object, as each start of the server does.
fn bucket(config: &Config) -> Option<Finding> {
    config.recordings.bucket()?;
    let files = RecordingFiles::new(&config.recordings, &config.data_dir);
    let tried = files.map(|files| tandem_cli::block_on(async move { files.try_bucket().await }));
    Some(match tried {
        Ok(Ok(Ok(()))) => Finding::good("bucket", format!("{} accepts recordings", config.recordings.url)),
        Ok(Ok(Err(error))) if error.is_refused => Finding::bad(
            "bucket",
            error.to_string(),
            "correct recordings.url and recordings.s3: the server does not start",
        ),
        Ok(Ok(Err(error))) => {
            let advice = "recordings wait on the disk meanwhile; check recordings.s3.endpoint and the network";
            Finding::note("bucket", error.to_string(), advice)
        }
        Ok(Err(error)) => Finding::bad("bucket", error.to_string(), ""),
        Err(fault) => Finding::bad("bucket", fault, ""),
    })
}

fn database(config: &Config) -> Finding {
    let text = config.database.url.expose();
    let Some(url) = Url::parse(text).ok().filter(|url| url.scheme().starts_with("postgres")) else {
        return Finding::good("database", "SQLite, a file on this machine");
    };
    let (host, port) = (url.host_str().unwrap_or("localhost").to_owned(), url.port().unwrap_or(5432));
    reach("database", &format!("PostgreSQL at {host}:{port}"), &host, port, Level::Bad)
}

/// The services that a node of a cluster needs besides the database.
fn cluster(config: &Config) -> Vec<Finding> {
    if !config.cluster.is_on() {
        return Vec::new();
    }
    let mut findings: Vec<Finding> = Vec::new();
    for url in config.cluster.bus_servers().filter_map(|server| Url::parse(server).ok()) {
        let (host, port) = (url.host_str().unwrap_or("localhost").to_owned(), url.port().unwrap_or(4222));
        findings.push(reach("bus", &format!("NATS at {host}:{port}"), &host, port, Level::Bad));
    }
    if config.recordings.bucket().is_none() {
        let advice = "set recordings.url to a bucket: \"s3://BUCKET/PREFIX\" (docs/recordings.md)";
        findings.push(Finding::note("cluster", "recordings stay on the disk of their node", advice));
    }
    findings
}

/// Connects to a server.
fn reach(subject: &'static str, what: &str, host: &str, port: u16, level: Level) -> Finding {
    let connected = (host, port).to_socket_addrs().and_then(|mut addresses| {
        let address = addresses.next().ok_or_else(|| io::Error::other("the name has no address"))?;
        TcpStream::connect_timeout(&address, PATIENCE)
    });
    match connected {
        Ok(_) => Finding::good(subject, format!("{what} answers")),
        Err(error) => {
            let text = format!("{what} does not answer: {error}");
            Finding { level, subject, text, advice: "start it, or correct its address in the configuration".to_owned() }
        }
    }
}

// ---- engines and the kernel ----

fn engines(config: &Config) -> Vec<Finding> {
    let mut findings = vec![match &config.speech.tts {
        Tts::Espeak => match Command::new("espeak-ng").arg("--version").output() {
            Ok(_) => Finding::good("speech", "text to speech: espeak-ng"),
            Err(_) => Finding::note(
                "speech",
                "text to speech: espeak-ng is not installed, so that no text is spoken",
                "apt install espeak-ng, or set speech.tts to an engine (docs/speech.md)",
            ),
        },
        Tts::Http(url) | Tts::WebSocket(url, _) => engine("text to speech", url),
        Tts::Local => local_engine("text to speech", config),
        Tts::Command(words) => Finding::good("speech", format!("text to speech: {}", words.join(" "))),
        Tts::Off => Finding::note("speech", "text to speech is off", "set speech.tts for <Say> (docs/speech.md)"),
    }];
    findings.push(match &config.speech.stt {
        Stt::Http(url) | Stt::WebSocket(url) => engine("speech to text", url),
        Stt::Local => local_engine("speech to text", config),
        Stt::Off => Finding::note(
            "speech",
            "speech to text is off",
            "set speech.stt for <Gather input=\"speech\"> (docs/speech.md)",
        ),
    });
    findings
}

/// Looks for the program of the engine on this computer. Only the running program knows whether it has models.
fn local_engine(what: &str, config: &Config) -> Finding {
    match tandem_speech::missing(&config.speech) {
        Some(missing) => {
            Finding::note("speech", format!("{what}: {missing}"), "run `tandem speech install` (docs/speech.md)")
        }
        None => Finding::good("speech", format!("{what}: {LOCAL_PROGRAM}")),
    }
}

fn engine(what: &str, url: &Url) -> Finding {
    let port = url.port_or_known_default().unwrap_or(if url.scheme() == "wss" { 443 } else { 80 });
    let host = url.host_str().unwrap_or_default();
    reach("speech", &format!("{what}: {host}:{port}"), host, port, Level::Note)
}

/// Whether the kernel may relay packets for the running server, or else for the user of this command.
fn kernel_relay(config: &Config, server: Option<u32>) -> Finding {
    if config.media.kernel_relay == UseKernel::Off {
        return Finding::good("kernel relay", "off, as configured");
    }
    // A service has other capabilities than the user of this command.
    let of_process = |process: u32| std::fs::read_to_string(format!("/proc/{process}/status")).ok();
    let (subject, status) = match server.and_then(of_process) {
        Some(status) => ("the running server", status),
        None => ("this user", std::fs::read_to_string("/proc/self/status").unwrap_or_default()),
    };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    if CAPABILITIES.iter().all(|bit| effective >> bit & 1 == 1) {
        return Finding::good("kernel relay", format!("{subject} has the capabilities CAP_BPF and CAP_NET_ADMIN"));
    }
    let level = if config.media.kernel_relay == UseKernel::Required { Level::Bad } else { Level::Note };
    let text = format!("{subject} lacks CAP_BPF or CAP_NET_ADMIN, so that packets are relayed in user space");
    let advice = "a relayed call then takes more CPU; docs/kernel-relay.md says how to permit it".to_owned();
    Finding { level, subject: "kernel relay", text, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_another_program_is_bad_unless_the_server_itself_runs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(port("http.listen", false, address, true).level, Level::Good);
        let found = port("http.listen", false, address, false);
        assert_eq!(found.level, Level::Bad);
        assert!(found.advice.contains(&address.port().to_string()), "{found:?}");
        assert_eq!(port("sip.listen", true, "192.0.2.1:5060".parse().unwrap(), false).level, Level::Bad);
    }

    #[test]
    fn a_listen_address_that_changed_since_the_start_needs_a_restart() {
        let config = Config::default();
        let running = |http: &str, sip: &[String]| Listening { http: http.parse().unwrap(), sip: sip.to_vec() };
        let same = running("127.0.0.1:8080", &config.sip.listen);
        assert!(outdated(&config, &same).is_none());
        let found = outdated(&config, &running("127.0.0.1:8081", &config.sip.listen[..1])).unwrap();
        assert!(found.text.starts_with("sip.listen and http.listen changed"), "{found:?}");
        let mut any = Config::default();
        any.sip.listen = vec!["udp://127.0.0.1:0".to_owned()];
        assert!(outdated(&any, &running("127.0.0.1:8080", &["udp://127.0.0.1:40000".to_owned()])).is_none());
        assert!(outdated(&any, &running("127.0.0.1:8080", &["tcp://127.0.0.1:40000".to_owned()])).is_some());
    }

    #[test]
    fn a_missing_folder_counts_as_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(disk("data_dir", &folder.path().join("a/b")).level, Level::Good);
    }

    #[test]
    fn a_finding_has_its_advice_on_a_line_of_its_own() {
        let text = shown(&Finding::bad("ports", "in use", "choose another"), Paint::default());
        assert_eq!(text, "bad  ports           in use\n                     \u{2192} choose another\n");
    }
}
