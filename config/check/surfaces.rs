//! Checks of the server's own addresses, ports, URLs and limits.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tandem_settings::S3Config;
use tandem_sip::{AdvertisedPort, Transport};
use url::Url;

use super::Report;
use crate::Config;

pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    let sip = check_sip(config, report);
    check_media(config, &sip, report);
    check_http(config, &sip, report);
    if !(1..=3_600).contains(&config.streams.buffer_seconds) {
        report.fault("streams.buffer_seconds", format!("{} is outside 1 to 3600", config.streams.buffer_seconds));
    }
    if let Err(why) = tandem_settings::log_filter::check(&config.log.level) {
        report.fault("log.level", why);
    }
    if !(1..=60).contains(&config.speech.timeout_seconds) {
        report.fault("speech.timeout_seconds", format!("{} is outside 1 to 60", config.speech.timeout_seconds));
    }
    if !(config.streams.idle_seconds == 0 || (5..=3_600).contains(&config.streams.idle_seconds)) {
        report.fault("streams.idle_seconds", format!("{} is neither 0 nor 5 to 3600", config.streams.idle_seconds));
    }
    check_ice(config, report);
    if config.data_dir.as_os_str().is_empty() {
        report.fault("data_dir", "is empty; name a directory, or remove the key to use \"data\"");
    } else {
        report.folder("data_dir", &config.data_dir);
    }
    let database = config.database.url.expose();
    if !["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| database.starts_with(scheme)) {
        report.fault("database.url", "is neither \"sqlite:PATH\" nor \"postgres://USER:PASSWORD@HOST/NAME\"");
    } else if let Err(why) = tandem_store::check_url(database) {
        report.fault("database.url", why);
    }
    match config.recordings.url.split_once(':') {
        // Without a setting of its own, the folder is in `data_dir`.
        Some(("file", path)) if Path::new(path).starts_with(&config.data_dir) && report.is_faulty("data_dir") => {}
        Some(("file", path)) if !path.is_empty() => report.folder("recordings.url", Path::new(path)),
        Some(("s3", _)) if config.recordings.bucket().is_none_or(|(name, _)| name.is_empty()) => {
            report.fault("recordings.url", "names no bucket: \"s3://BUCKET/PREFIX\"");
        }
        Some(("s3", _)) => {}
        _ => report.fault("recordings.url", "is neither \"file:DIRECTORY\" nor \"s3://BUCKET/PREFIX\""),
    }
    check_s3(&config.recordings.s3, report);
    if let Err(message) = config.recordings.key() {
        report.fault("recordings.encryption_key", message);
    }
    for (path, message) in tandem_stir::faults(&config.stir, &config.trunks) {
        report.fault(path, message);
    }
}

fn check_s3(s3: &S3Config, report: &mut Report<'_>) {
    if s3.endpoint.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        report.fault("recordings.s3.endpoint", "is no URL of a server: \"https://HOST\" or \"http://HOST:PORT\"");
    }
    if s3.access_key_id.is_some() != s3.secret_access_key.is_some() {
        report.fault("recordings.s3", "needs both access_key_id and secret_access_key, or none of them");
    }
}

fn check_ice(config: &Config, report: &mut Report<'_>) {
    let ice = &config.ice;
    for (key, urls, schemes) in [("stun", &ice.stun, ["stun:", "stuns:"]), ("turn", &ice.turn, ["turn:", "turns:"])] {
        for (index, url) in urls.iter().enumerate() {
            let host = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
            if host.is_none_or(|host| host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/')) {
                report.fault(format!("ice.{key}[{index}]"), format!("{url:?} is not \"{}HOST[:PORT]\"", schemes[0]));
            }
        }
    }
    if !ice.turn.is_empty() && ice.turn_secret.as_ref().is_none_or(|secret| secret.expose().is_empty()) {
        report.fault("ice.turn", "needs turn_secret, the shared secret of these servers (coturn: static-auth-secret)");
    }
}

/// A socket from the setting `sip.listen`.
struct Listener {
    path: String,
    transport: Transport,
    address: SocketAddr,
}

impl Listener {
    fn is_udp(&self) -> bool {
        self.transport == Transport::Udp
    }
}

fn check_sip(config: &Config, report: &mut Report<'_>) -> Vec<Listener> {
    let listeners = check_listeners(config, report);
    check_certificates(config, report);
    check_wide_networks(config, report);
    check_advertise(config, &listeners, report);
    check_session_timers(config, report);
    check_capture(config, report);
    if !(500..=32_000).contains(&config.sip.failover_ms) {
        report.fault("sip.failover_ms", format!("{} is outside 500 to 32000 milliseconds", config.sip.failover_ms));
    }
    let limits = [
        ("sip.max_legs", config.sip.max_legs),
        ("sip.max_transactions", config.sip.max_transactions),
        ("sip.max_connections", config.sip.max_connections),
        ("http.max_connections", config.http.max_connections),
    ];
    for (path, limit) in limits {
        if limit == 0 {
            report.fault(path, "with 0 the server would refuse everything; must be at least 1");
        }
    }
    if config.sip.bans.seconds == 0 {
        report.fault("sip.bans.seconds", "0 would disable bans; for that set the limits to 0, or set at least 1 here");
    }
    listeners
}

/// Checks `sip.listen`, and returns the sockets.
fn check_listeners(config: &Config, report: &mut Report<'_>) -> Vec<Listener> {
    let mut listeners = Vec::new();
    if config.sip.listen.is_empty() {
        report.fault("sip.listen", "is empty; name at least one, such as \"udp://127.0.0.1:5060\"");
    }
    for (index, text) in config.sip.listen.iter().enumerate() {
        let path = format!("sip.listen[{index}]");
        let (scheme, address) = text.split_once("://").unwrap_or(("", text));
        match (scheme, address.parse::<SocketAddr>()) {
            ("tls" | "wss", Ok(_)) if config.sip.certificates.is_empty() => {
                report.fault(path, format!("{scheme}:// needs a certificate: [[sip.certificates]] with certificate and key"));
            }
            (scheme, Ok(address)) if let Some(transport) = Transport::named(scheme) => {
                listeners.push(Listener { path, transport, address });
            }
            _ => report.fault(
                path,
                format!(
                    "{text:?} is not \"udp://ADDRESS:PORT\", nor tcp://, tls://, ws:// or wss:// (an IPv6 address in brackets)"
                ),
            ),
        }
    }
    let fixed = listeners.iter().filter(|listener| listener.address.port() != 0);
    let keys: Vec<_> = fixed.map(|one| (one.path.clone(), (one.is_udp(), one.address))).collect();
    report.unique("the address", keys);
    listeners
}

/// Checks the certificates of `[[sip.certificates]]` and of the trunks.
fn check_certificates(config: &Config, report: &mut Report<'_>) {
    let tls = tandem_sip::Config {
        tls_trunks: config.trunks.iter().map(tandem_settings::TrunkConfig::tls).collect(),
        ..config.sip.clone()
    };
    for (index, one) in config.sip.certificates.iter().enumerate() {
        for (key, file) in [("certificate", &one.certificate), ("key", &one.key)] {
            if file.as_os_str().is_empty() {
                report.fault(format!("sip.certificates[{index}].{key}"), "is empty; name a PEM file");
            }
        }
    }
    for (path, fault) in tandem_sip::transport::faults(&tls) {
        if ![".certificate", ".key"].iter().any(|key| report.is_faulty(&format!("{path}{key}"))) {
            report.fault(path, fault.to_string());
        }
    }
    let now = u64::try_from(tandem_host::clock::time().as_second()).unwrap_or_default();
    for certificate in tandem_sip::transport::own_certificates(&tls) {
        if let Some(warning) = certificate.warning(now) {
            report.note(certificate.setting, warning);
        }
    }
}

/// Notes each list of networks that covers every address.
fn check_wide_networks(config: &Config, report: &mut Report<'_>) {
    let (sip, http) = (&config.sip, &config.http);
    for (key, networks, effect) in [
        (
            "sip.allow_networks",
            sip.allow_networks.as_deref(),
            "every account can make the server connect to hosts inside your network",
        ),
        (
            "http.trusted_proxies",
            Some(&*http.trusted_proxies),
            "each client of /sip can choose the address that is limited and banned",
        ),
        ("sip.bans.never", Some(&*sip.bans.never), "no address is ever banned"),
        (
            "webhooks.allow_networks",
            Some(&*config.webhooks.allow_networks),
            "every application URL can reach hosts inside your network",
        ),
    ] {
        for (index, _) in networks.into_iter().flatten().enumerate().filter(|(_, network)| network.prefix_len() == 0) {
            report.note(format!("{key}[{index}]"), format!("covers every address: {effect}"));
        }
    }
}

fn check_session_timers(config: &Config, report: &mut Report<'_>) {
    let interval = 90..=86_400;
    if !interval.contains(&config.sip.min_se) {
        report.fault("sip.min_se", "is outside 90 to 86400 seconds");
    }
    if config.sip.session_expires != 0 && !interval.contains(&config.sip.session_expires) {
        report.fault("sip.session_expires", "is outside 90 to 86400 seconds (0 requests no session timer)");
    } else if config.sip.session_expires != 0 && config.sip.session_expires < config.sip.min_se {
        report.fault("sip.session_expires", "is less than sip.min_se");
    }
}

/// Checks the capture server, and the memory for captured messages.
fn check_capture(config: &Config, report: &mut Report<'_>) {
    if let Some(url) = &config.sip.hep {
        let place = url.strip_prefix("udp://").and_then(|place| place.rsplit_once(':'));
        if !place.is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port != 0)) {
            report.fault("sip.hep", format!("{url:?} is not \"udp://HOST:PORT\""));
        }
    }
    if config.sip.hep.is_none() && config.sip.hep_password.is_some() {
        report.fault("sip.hep_password", "needs hep = \"udp://HOST:PORT\" too");
    }
    if config.sip.trace_mib > 4_096 {
        report.fault("sip.trace_mib", format!("{} exceeds 4096", config.sip.trace_mib));
    }
}

/// Checks that far ends can reach each socket at the address in its Contact.
fn check_advertise(config: &Config, listeners: &[Listener], report: &mut Report<'_>) {
    let advertise = &config.sip.advertise;
    let address_of = |listener: &Listener| advertise.address_of(listener.transport, listener.address);
    for listener in listeners.iter().filter(|one| one.address.ip().is_unspecified() && address_of(one).is_none()) {
        let message = format!(
            "{} is the wildcard address: set sip.advertise to the address at which far ends reach the server; for \
             sockets of IPv4 and IPv6, a list of two addresses",
            listener.address.ip()
        );
        report.fault(listener.path.clone(), message);
    }
    let sockets: Vec<_> = listeners.iter().map(|listener| (listener.transport, listener.address)).collect();
    for (index, address) in advertise.addresses().iter().enumerate() {
        let path = match advertise.addresses() {
            [_] => "sip.advertise".to_owned(),
            _ => format!("sip.advertise[{index}]"),
        };
        if address.ip().is_some_and(|ip| ip.is_unspecified()) {
            report.fault(path, format!("{address} is no address at which far ends can reach the server"));
        } else if !listeners.iter().any(|listener| address_of(listener) == Some(address)) {
            report.fault(path, format!("{address} stands for no socket of sip.listen"));
        } else if address.port_of(&sockets) == AdvertisedPort::Ambiguous {
            let message = format!(
                "no socket of sip.listen has the port of {address}, and the sockets have different ports: give one \
                 address for each transport, such as [\"udp://HOST:PORT\", \"tls://HOST:PORT\"]"
            );
            report.fault(path, message);
        } else if address.ip().is_none() {
            note_halves_of_a_name(config, index, &path, listeners, report);
        }
    }
}

/// Notes that a host name stands for sockets of both address families, but not with equal ports. DNS gives the far ends
/// addresses of both families, and one of these addresses has no socket at the port in the Contact.
fn note_halves_of_a_name(config: &Config, index: usize, path: &str, listeners: &[Listener], report: &mut Report<'_>) {
    let advertise = &config.sip.advertise;
    let address = advertise.addresses().get(index);
    let stands_for = |one: &&Listener| advertise.address_of(one.transport, one.address) == address;
    let sockets: Vec<_> = listeners.iter().filter(stands_for).collect();
    let is_other_half = |one: &Listener, other: &Listener| {
        one.transport == other.transport && one.address.is_ipv4() != other.address.is_ipv4()
    };
    let half = sockets.iter().find(|one| {
        let mut others = sockets.iter().filter(|other| is_other_half(one, other)).peekable();
        others.peek().is_some() && others.all(|other| other.address.port() != one.address.port())
    });
    if let (Some(half), Some(address)) = (half, address) {
        let (own, other) = if half.address.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        let message = format!(
            "far ends that reach {address} over {other} find nothing at port {} of {}, which is {own} only: listen on the \
             same port over both, or give this socket an address of its own",
            half.address.port(),
            half.path
        );
        report.note(path, message);
    }
}

/// Returns whether the text is a host name or an IP address, without a port.
pub(super) fn is_host(text: &str) -> bool {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !text.is_empty()
                && text.len() <= 253
                && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet))
        }
    }
}

fn check_media(config: &Config, sip: &[Listener], report: &mut Report<'_>) {
    let media = &config.media;
    let places = match media.places() {
        Ok(places) => places,
        Err(tandem_media::StartError::NoAddress(listen)) if media.listen.of_family(listen) == Some(listen) => {
            let message = format!(
                "{listen} is the wildcard address: set media.advertise to the address at which far ends reach the server"
            );
            report.fault("media.listen", message);
            Vec::new()
        }
        Err(tandem_media::StartError::Families { listen, advertise }) => {
            let family = if advertise.is_ipv4() { "IPv4" } else { "IPv6" };
            let message =
                format!("{advertise} is an {family} address, and media.listen ({listen}) has none: add one there");
            report.fault("media.advertise", message);
            Vec::new()
        }
        // Only the address in media.advertise is wrong, which is checked below.
        Err(_) => Vec::new(),
    };
    if media.workers > tandem_media::Config::MAX_WORKERS {
        let message =
            format!("{} threads are too many; the maximum is {}", media.workers, tandem_media::Config::MAX_WORKERS);
        report.fault("media.workers", message);
    }
    if media.suppression_budget > 100 {
        report.fault("media.suppression_budget", format!("{} exceeds 100 percent", media.suppression_budget));
    }
    if media.transcoding_budget > 100 {
        report.fault("media.transcoding_budget", format!("{} exceeds 100 percent", media.transcoding_budget));
    }
    if media.codecs.is_empty() {
        report.fault("media.codecs", "is empty, so no call could have audio");
    }
    if media.advertise.iter().any(|address| address.is_unspecified()) {
        report.fault("media.advertise", "is not an address that RTP can be sent to");
    }
    let is_far = |listener: &&Listener| !listener.address.ip().is_loopback();
    let mut sip_addresses = config.sip.advertise.addresses().iter().filter_map(tandem_sip::Advertised::ip);
    let local = places.iter().map(|place| place.advertise).find(|address| {
        let is_same = |listener: &&Listener| listener.address.is_ipv4() == address.is_ipv4();
        address.is_loopback() && sip.iter().filter(is_same).any(|listener| is_far(&listener))
    });
    let sip_differs = |sip: &IpAddr| media.advertise.of_family(*sip).is_some_and(|own| own != *sip);
    if let Some(media_address) = local {
        let message = format!(
            "SDP says {media_address}, and SIP is for others than this machine: their audio would go to themselves; leave \
             media.listen and media.advertise out, and audio goes where SIP does"
        );
        report.note(if media.advertise.is_empty() { "media.listen" } else { "media.advertise" }, message);
    } else if let Some(place) = places.iter().find(|place| place.advertise.is_loopback() && !place.listen.is_loopback())
    {
        let message = format!(
            "{} is for other machines, but SDP says {}: their audio would go to themselves; set media.advertise to the \
             address at which far ends reach the server",
            place.listen, place.advertise
        );
        report.note("media.listen", message);
    } else if let Some(sip_address) = sip_addresses.find(sip_differs) {
        let message = format!(
            "the SDP names {}, but SIP names {sip_address}: check that audio must use another address than SIP",
            media.advertise
        );
        report.note("media.advertise", message);
    }
    let has_place =
        |listener: &&Listener| places.iter().any(|place| place.advertise.is_ipv4() == listener.address.is_ipv4());
    if let Some(other) = sip.iter().find(|listener| !places.is_empty() && !has_place(listener)) {
        let family = if other.address.is_ipv4() { "IPv4" } else { "IPv6" };
        let message = format!(
            "calls over {family} have no audio: media.listen and media.advertise have no {family} address; name one of each \
             family, such as media.listen = [\"192.0.2.1\", \"2001:db8::1\"]"
        );
        report.note(other.path.clone(), message);
    }
    let is_shared = |listener: &&Listener| {
        listener.is_udp() && places.iter().any(|place| conflict(listener.address.ip(), place.listen))
    };
    for listener in sip.iter().filter(is_shared) {
        let port = listener.address.port();
        if media.ports.pairs().any(|even| even == port || even.saturating_add(1) == port) {
            report.fault("media.ports", format!("{} includes the port of {} ({port})", media.ports, listener.path));
        }
    }
    check_ice_ports(config, sip, &places, report);
}

/// Checks the ports that all far ends with ICE share.
fn check_ice_ports(config: &Config, sip: &[Listener], places: &[tandem_media::MediaPlace], report: &mut Report<'_>) {
    let media = &config.media;
    let http = [("http.listen", Some(config.http.listen)), ("http.metrics_listen", config.http.metrics_listen)];
    for (path, port, is_udp) in
        [("media.ice_udp_port", media.ice_udp_port, true), ("media.ice_tcp_port", media.ice_tcp_port, false)]
    {
        let Some(port) = port else { continue };
        let is_same =
            |address: SocketAddr| address.port() == port && places.iter().any(|one| conflict(address.ip(), one.listen));
        let sip = sip.iter().filter(|one| one.is_udp() == is_udp).map(|one| (one.path.as_str(), one.address));
        let http = http.iter().filter_map(|(path, address)| Some((*path, (*address)?))).filter(|_| !is_udp);
        if port == 0 {
            report.fault(path, "0 is no port; leave the setting out if no port is shared");
        } else if is_udp && media.ports.pairs().any(|even| even == port || even.saturating_add(1) == port) {
            report.fault(path, format!("{port} is in media.ports ({})", media.ports));
        } else if let Some((other, _)) = sip.chain(http).find(|(_, address)| is_same(*address)) {
            report.fault(path, format!("{port} is taken by {other}"));
        }
    }
}

fn check_http(config: &Config, sip: &[Listener], report: &mut Report<'_>) {
    let listen = config.http.listen;
    for listener in sip.iter().filter(|listener| !listener.is_udp() && listener.address.port() == listen.port()) {
        if listen.port() != 0 && conflict(listener.address.ip(), listen.ip()) {
            report.fault("http.listen", format!("{listen} is taken by {}", listener.path));
        }
    }
    if let Some(metrics) = config.http.metrics_listen.filter(|metrics| metrics.port() != 0) {
        if metrics.port() == listen.port() && conflict(metrics.ip(), listen.ip()) {
            report.fault("http.metrics_listen", format!("{metrics} is taken by http.listen"));
        }
        for listener in sip.iter().filter(|listener| !listener.is_udp() && listener.address.port() == metrics.port()) {
            if conflict(listener.address.ip(), metrics.ip()) {
                report.fault("http.metrics_listen", format!("{metrics} is taken by {}", listener.path));
            }
        }
    }
    match &config.http.public_url {
        Some(text) => {
            let fits = Url::parse(text).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.query().is_none()
                    && url.fragment().is_none()
                    && url.username().is_empty()
            });
            if !fits {
                report.fault(
                    "http.public_url",
                    format!("{text:?} is not a base URL such as \"https://voice.example.com\""),
                );
            }
        }
        None if listen.ip().is_unspecified() => {
            let message = format!(
                "{} is the wildcard address: set http.public_url to the URL at which clients reach the server",
                listen.ip()
            );
            report.fault("http.listen", message);
        }
        None => {}
    }
}

/// Returns whether a socket on address `a` and a socket on address `b` would conflict if both had the same port.
fn conflict(a: IpAddr, b: IpAddr) -> bool {
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}
