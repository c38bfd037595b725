//! Checks of `[cluster]`.

use std::net::SocketAddr;

use tandem_sip::Transport;
use url::Url;

use super::Report;
use crate::Config;

/// Maximum length of a node's name, in characters.
const MAX_NAME: usize = 40;

pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    let cluster = &config.cluster;
    let Some(node) = &cluster.node else {
        let given =
            [("bus", cluster.bus.is_some()), ("sip", cluster.sip.is_some()), ("proxies", !cluster.proxies.is_empty())];
        for (key, _) in given.into_iter().filter(|(_, is_set)| *is_set) {
            report.fault(format!("cluster.{key}"), "has no effect without cluster.node, the name of this node");
        }
        return;
    };
    let is_name = |text: &str| text.chars().all(|one| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.'));
    if node.is_empty() || node.len() > MAX_NAME || !is_name(node) {
        report.fault(
            "cluster.node",
            format!("{node:?} is no name of 1 to {MAX_NAME} characters: letters, digits, \"-\", \"_\" and \".\""),
        );
    }
    if config.database.url.expose().starts_with("sqlite:") {
        report.fault(
            "cluster.node",
            "needs a database that all nodes share: set database.url to \"postgres://USER:PASSWORD@HOST/NAME\"",
        );
    }
    if cluster.bus_servers().next().is_none() {
        report.fault("cluster.bus", "names no bus; set it to the NATS server of the cluster: \"nats://HOST:4222\"");
    }
    for server in cluster.bus_servers() {
        let is_nats = Url::parse(server).is_ok_and(|url| matches!(url.scheme(), "nats" | "tls") && url.has_host());
        if !is_nats {
            report.fault("cluster.bus", "has an entry that is neither \"nats://HOST:PORT\" nor \"tls://HOST:PORT\"");
        }
    }
    check_sip(config, report);
    for (index, url) in cluster.proxies.iter().enumerate() {
        if !Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            report.fault(format!("cluster.proxies[{index}]"), format!("{url:?} is no URL: \"http://HOST:PORT/RPC\""));
        }
    }
}

/// Checks the address at which other nodes reach this node.
fn check_sip(config: &Config, report: &mut Report<'_>) {
    let (path, text) = match (&config.cluster.sip, config.sip.listen.first()) {
        (Some(own), _) => ("cluster.sip", &**own),
        (None, Some(first)) => ("sip.listen[0]", &**first),
        (None, None) => return,
    };
    let (scheme, address) = text.split_once("://").unwrap_or(("", text));
    let transport = Transport::named(scheme).filter(|one| matches!(one, Transport::Udp | Transport::Tcp));
    match (transport, address.parse::<SocketAddr>()) {
        (Some(_), Ok(address)) if !address.ip().is_unspecified() => {}
        _ if path != "cluster.sip" => report.fault(
            "cluster.sip",
            format!(
                "is missing, and {path} is {text:?}: name the address that other nodes use, \"udp://ADDRESS:PORT\""
            ),
        ),
        _ => report.fault(path, format!("{text:?} is neither \"udp://ADDRESS:PORT\" nor \"tcp://ADDRESS:PORT\"")),
    }
}
