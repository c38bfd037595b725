//! Checks of `[[origins]]` and of the certificate authorities for applications.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tandem_http::{NetworkPolicy, Origin, tls_config};
use url::Host;

use super::Report;
use super::resources::Names;
use crate::Config;

pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    if let Some(path) = &config.webhooks.ca_file
        && let Err(error) = tls_config(Some(path))
    {
        report.fault("webhooks.ca_file", error.to_string());
    }
    let policy = NetworkPolicy { allow_networks: config.webhooks.allow_networks.clone() };
    for (index, origin) in config.origins.iter().enumerate() {
        let path = format!("origins[{index}]");
        if let Some(account) = &origin.account {
            report.exists(format!("{path}.account"), "account", account.as_str(), &names.accounts);
        }
        if origin.from == origin.to {
            report.fault(format!("{path}.to"), format!("{} is the same as `from`; remove this table", origin.to));
        }
        if let Some(address) = refused(&policy, &origin.to) {
            let message =
                format!("{address} is not a public address: to allow it, add its network to webhooks.allow_networks");
            report.fault(format!("{path}.to"), message);
        }
    }
    let keys = config
        .origins
        .iter()
        .enumerate()
        .map(|(index, origin)| (format!("origins[{index}].from"), (origin.from.clone(), origin.account.clone())));
    report.unique("the origin", keys.collect::<Vec<_>>());
}

/// Returns the address of the origin `to` if the network policy refuses this address. The function checks only
/// addresses that are known without DNS.
fn refused(policy: &NetworkPolicy, to: &Origin) -> Option<IpAddr> {
    let known: Vec<IpAddr> = match to.host() {
        Host::Ipv4(address) => vec![(*address).into()],
        Host::Ipv6(address) => vec![(*address).into()],
        Host::Domain(name) if name == "localhost" || name.ends_with(".localhost") => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Host::Domain(_) => return None,
    };
    match known.iter().any(|address| policy.check(*address).is_ok()) {
        true => None,
        false => known.first().copied(),
    }
}
