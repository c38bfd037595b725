//! Checks of trunks: the far end, passwords, TLS, registration and number formats.

use tandem_media::Srtp;
use tandem_routing::is_trunk_id;
use tandem_settings::{InboundAuth, NumberConfig, NumberFormat, TrunkConfig};
use tandem_sip::UnknownSources;

use super::Report;
use super::resources::{Names, name, placeholder, secret};
use super::surfaces::is_host;
use crate::Config;

pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    for (index, trunk) in config.trunks.iter().enumerate() {
        check_trunk(config, trunk, &format!("trunks[{index}]"), names, report);
    }
    check_trunks_together(config, report);
    note_open_relays(config, report);
}

fn check_trunk(config: &Config, trunk: &TrunkConfig, path: &str, names: &Names<'_>, report: &mut Report<'_>) {
    name(&format!("{path}.name"), &trunk.name, report);
    if let Some(account) = &trunk.account {
        report.exists(format!("{path}.account"), "account", account.as_str(), &names.accounts);
    }
    check_far_end(trunk, path, report);
    check_inbound(config, trunk, path, report);
    check_tls(trunk, path, report);
    match (&trunk.username, &trunk.password) {
        (Some(_), None) => report.fault(format!("{path}.username"), "needs a password too"),
        (None, Some(_)) => report.fault(format!("{path}.password"), "needs a username too"),
        (Some(_), Some(password)) => placeholder(config, &format!("{path}.password"), password.expose(), report),
        (None, None) => {}
    }
    if trunk.from_domain.as_ref().is_some_and(|domain| !is_host(domain)) {
        report.fault(format!("{path}.from_domain"), "is not a host name or an address");
    }
    let zeros = [
        ("weight", trunk.weight == 0),
        ("max_calls", trunk.max_calls == Some(0)),
        ("max_cps", trunk.max_cps == Some(0)),
    ];
    for (key, _) in zeros.into_iter().filter(|(_, zero)| *zero) {
        report.fault(format!("{path}.{key}"), "with 0 no call could pass; must be at least 1");
    }
    check_registration(trunk, path, report);
    check_numbering(trunk, path, report);
    if trunk.options_interval > 0 && trunk.uri.is_none() {
        report.fault(format!("{path}.options_interval"), "needs a uri to send OPTIONS to");
    }
    for (index, status) in trunk.failover_on.iter().enumerate().filter(|(_, status)| !(400..700).contains(*status)) {
        report.fault(
            format!("{path}.failover_on[{index}]"),
            format!("{status} is not a SIP failure status (400 to 699)"),
        );
    }
}

/// Checks the settings of outgoing calls.
fn check_far_end(trunk: &TrunkConfig, path: &str, report: &mut Report<'_>) {
    match &trunk.uri {
        Some(uri) => {
            if let Err(message) = check_sip_uri(uri) {
                report.fault(format!("{path}.uri"), message);
            }
        }
        None if trunk.inbound_from.is_empty() && !trunk.mutual_tls && trunk.inbound_username.is_none() => {
            let message =
                "has neither uri (for outgoing calls) nor inbound_from or inbound_username (for incoming calls)";
            report.fault(path, message);
        }
        None if !trunk.prefixes.is_empty() => {
            report.fault(format!("{path}.prefixes"), "need a uri to send the calls to");
        }
        None => {}
    }
    for (index, prefix) in trunk.prefixes.iter().enumerate() {
        let digits = prefix.strip_prefix('+').unwrap_or(prefix);
        if !digits.bytes().all(|octet| octet.is_ascii_digit() || octet == b'*' || octet == b'#') {
            let message = format!(
                "{prefix:?} is not the beginning of a number, such as \"+\", \"+4930\" or \"0\"; \"\" matches every number"
            );
            report.fault(format!("{path}.prefixes[{index}]"), message);
        }
    }
    if let Some(byoc) = &trunk.byoc {
        if !is_trunk_id(byoc) {
            report.fault(format!("{path}.byoc"), format!("{byoc:?} must be BY and 32 hex digits"));
        } else if trunk.uri.is_none() {
            report.fault(format!("{path}.byoc"), "needs a uri to send the calls to");
        }
    }
}

/// Checks the settings that decide which incoming calls belong to the trunk.
fn check_inbound(config: &Config, trunk: &TrunkConfig, path: &str, report: &mut Report<'_>) {
    match (&trunk.inbound_username, &trunk.inbound_password) {
        (Some(_), None) => report.fault(format!("{path}.inbound_username"), "needs an inbound_password too"),
        (None, Some(_)) => report.fault(format!("{path}.inbound_password"), "needs an inbound_username too"),
        (Some(username), Some(password)) => {
            name(&format!("{path}.inbound_username"), username, report);
            secret(config, &format!("{path}.inbound_password"), password.expose(), report);
        }
        (None, None) => {}
    }
    if trunk.inbound_auth == InboundAuth::Both {
        if trunk.inbound_username.is_none() {
            report.fault(format!("{path}.inbound_auth"), "needs an inbound_username and an inbound_password");
        }
        if trunk.inbound_from.is_empty() && !trunk.mutual_tls {
            report
                .fault(format!("{path}.inbound_auth"), "needs inbound_from or mutual_tls in addition to the password");
        }
    }
    if trunk.phones
        && trunk.inbound_from.is_empty()
        && !trunk.mutual_tls
        && !trunk.register
        && trunk.inbound_username.is_none()
    {
        report.fault(
            format!("{path}.phones"),
            "is for incoming calls, and this trunk has none (no inbound_from, no inbound_username)",
        );
    }
}

/// Checks the certificates and the encryption of audio.
fn check_tls(trunk: &TrunkConfig, path: &str, report: &mut Report<'_>) {
    match (&trunk.certificate, &trunk.key) {
        (Some(_), None) => report.fault(format!("{path}.certificate"), "needs a key too"),
        (None, Some(_)) => report.fault(format!("{path}.key"), "needs a certificate too"),
        _ => {}
    }
    if trunk.mutual_tls && trunk.ca_file.is_none() && trunk.fingerprints.is_empty() && trunk.tls().name.is_none() {
        let message =
            "needs ca_file, fingerprints or tls_name: without one of them the server would accept every certificate";
        report.fault(format!("{path}.mutual_tls"), message);
    }
    let clear = trunk.uri.as_ref().filter(|uri| !uri.starts_with("sips:") && !uri.contains("transport=tls"));
    if let (Some(uri), true) = (clear, trunk.srtp != Srtp::Off) {
        let message = format!(
            "its SRTP keys are sent to {uri} unencrypted, so anybody on the network path can read them; use TLS"
        );
        report.note(format!("{path}.srtp"), message);
    }
}

fn check_registration(trunk: &TrunkConfig, path: &str, report: &mut Report<'_>) {
    if trunk.register && trunk.username.is_none() {
        report.fault(format!("{path}.register"), "needs a username and a password to register with");
    }
    if trunk.register && trunk.uri.is_none() && trunk.registrar.is_none() {
        report.fault(format!("{path}.register"), "needs a registrar or a uri to register with");
    }
    if let Some(registrar) = &trunk.registrar
        && let Err(message) = check_sip_uri(registrar)
    {
        report.fault(format!("{path}.registrar"), message);
    }
    if !(60..=604_800).contains(&trunk.register_expires) {
        report.fault(format!("{path}.register_expires"), "is outside 60 to 604800 seconds");
    }
}

fn check_numbering(trunk: &TrunkConfig, path: &str, report: &mut Report<'_>) {
    let is_dialled = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit() || b"+*#".contains(&octet));
    let prefixes = [
        ("national_prefix", Some(&trunk.national_prefix)),
        ("international_prefix", Some(&trunk.international_prefix)),
        ("strip_prefix", trunk.strip_prefix.as_ref()),
        ("add_prefix", trunk.add_prefix.as_ref()),
        ("inbound_strip_prefix", trunk.inbound_strip_prefix.as_ref()),
        ("inbound_add_prefix", trunk.inbound_add_prefix.as_ref()),
    ];
    for (key, prefix) in prefixes {
        if prefix.is_some_and(|prefix| !is_dialled(prefix)) {
            report.fault(format!("{path}.{key}"), "may contain only 0 to 9, +, * and #");
        }
    }
    match &trunk.country_code {
        Some(code) if !(1..=3).contains(&code.len()) || !code.bytes().all(|octet| octet.is_ascii_digit()) => {
            report.fault(format!("{path}.country_code"), "must be 1 to 3 digits, such as \"1\" or \"49\"");
        }
        None if trunk.number_format == NumberFormat::National => {
            report.fault(format!("{path}.number_format"), "\"national\" needs a country_code");
        }
        _ => {}
    }
}

/// Checks that the URI has the form `sip:[user@]host[:port][;transport=udp|tcp|tls]` or
/// `sips:[user@]host[:port][;transport=tcp|tls]`. A URI with a password (RFC 3261 §19.1.1) is refused, because logs, errors
/// and the console show URIs.
pub(super) fn check_sip_uri(uri: &str) -> Result<(), String> {
    let scheme = ["sip:", "sips:"].iter().find(|scheme| uri.starts_with(**scheme)).map_or(0, |scheme| scheme.len());
    let user = uri.get(scheme..).and_then(|rest| rest.rsplit_once('@')).map(|(user, _)| user);
    if user.is_some_and(|user| user.contains(':')) {
        return Err("must not contain a password, because URIs are shown in logs; the settings username and password \
                    answer the far end's challenges"
            .to_owned());
    }
    let fault =
        || format!("{uri:?} is not \"sip:HOST:PORT\", optionally followed by \";transport=tcp\" or \";transport=tls\"");
    let secure = uri.starts_with("sips:");
    let rest = uri.strip_prefix("sip:").or_else(|| uri.strip_prefix("sips:")).ok_or_else(fault)?;
    let (authority, parameters) = rest.split_once(';').unwrap_or((rest, ""));
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host_and_port, None),
    };
    if !is_host(host) || port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(fault());
    }
    for parameter in parameters.split(';').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("transport", "udp")) if secure => return Err("sips: cannot use UDP".to_owned()),
            Some(("transport", "udp" | "tcp" | "tls")) => {}
            Some(("transport", other)) => {
                return Err(format!("transport={other} is not supported for outgoing calls; use udp, tcp or tls"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_trunks_together(config: &Config, report: &mut Report<'_>) {
    let trunks = || config.trunks.iter().enumerate();
    let names = trunks().map(|(i, one)| (format!("trunks[{i}].name"), one.name.clone()));
    report.unique("the name", names.collect::<Vec<_>>());
    if !config.sip.listen.iter().any(|listen| listen.starts_with("tls://")) {
        let over_tls = |uri: &str| uri.starts_with("sips:") || uri.contains(";transport=tls");
        for (index, trunk) in trunks() {
            for (key, requested) in
                [("mutual_tls", trunk.mutual_tls), ("uri", trunk.uri.as_deref().is_some_and(over_tls))]
            {
                if requested {
                    report.fault(format!("trunks[{index}].{key}"), "needs a tls:// socket in sip.listen");
                }
            }
        }
    }
    let from_anywhere =
        |trunk: &TrunkConfig| trunk.inbound_username.is_some() && trunk.inbound_auth == InboundAuth::Either;
    if config.sip.unknown_sources == UnknownSources::Silent
        && let Some((_, trunk)) = trunks().find(|(_, trunk)| from_anywhere(trunk))
    {
        let message =
            format!("has no effect on calls: they get 401, because trunk {:?} may call from any address", trunk.name);
        report.note("sip.unknown_sources", message);
    }
    let networks = trunks().flat_map(|(i, one)| {
        one.inbound_from
            .iter()
            .enumerate()
            .map(move |(n, network)| (format!("trunks[{i}].inbound_from[{n}]"), *network))
    });
    report.unique("the network (the source address alone tells trunks apart)", networks.collect::<Vec<_>>());
}

/// Adds a note for every trunk that accepts calls from all addresses. Also adds a note for every number that forwards
/// the calls from such a trunk to any trunk.
fn note_open_relays(config: &Config, report: &mut Report<'_>) {
    let open = |trunk: &&TrunkConfig| {
        !trunk.mutual_tls
            && trunk.inbound_auth == InboundAuth::Either
            && trunk.inbound_from.iter().any(|network| network.prefix_len() == 0)
    };
    let short = |one: &NumberConfig| one.number.prefix().is_some_and(|digits| digits.len() < 7) && one.bridge.is_some();
    let routes: Vec<_> = config.numbers.iter().enumerate().filter(|(_, one)| short(one)).collect();
    for (index, trunk) in config.trunks.iter().enumerate().filter(|(_, trunk)| open(trunk)) {
        let message = "accepts calls without a password from every address; name the networks of the trunk";
        report.note(format!("trunks[{index}].inbound_from"), message);
        for (number, one) in &routes {
            if trunk.account.as_ref().is_none_or(|own| *own == one.account) {
                let message = format!(
                    "is an open relay: trunk {:?} accepts calls from every address, and every call to {} goes out at your expense",
                    trunk.name, one.number
                );
                report.note(format!("numbers[{number}].bridge"), message);
            }
        }
    }
}
