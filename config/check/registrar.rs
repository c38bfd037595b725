//! Checks of `[sip.registrar]`, and of passwords that are used twice.

use std::collections::HashMap;

use tandem_id::AccountName;
use tandem_sip::KeepAlive;

use super::Report;
use super::surfaces::is_host;
use crate::Config;

/// The largest value that the setting for the longest registration may have, in seconds.
const WEEK: u32 = 604_800;
/// The largest value that the setting for the shortest registration may have, in seconds. A registrar may answer with
/// 423 only if the requested time is shorter than one hour (RFC 3261 §10.3).
const HOUR: u32 = 3_600;

pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    let registrar = &config.sip.registrar;
    let at = |key: &str| format!("sip.registrar.{key}");
    let is_written = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\') || c == ' ';
    if registrar.realm.is_empty() || registrar.realm.len() > 64 || !registrar.realm.chars().all(is_written) {
        report.fault(at("realm"), "must be 1 to 64 printable ASCII characters without \" and \\");
    }
    if registrar.algorithms.is_empty() {
        report.fault(at("algorithms"), "is empty, so no phone could register; name \"MD5\", \"SHA-256\" or both");
    }
    let algorithms = registrar.algorithms.iter().enumerate();
    report.unique(
        "the algorithm",
        algorithms.map(|(i, one)| (at(&format!("algorithms[{i}]")), *one)).collect::<Vec<_>>(),
    );
    for (index, domain) in registrar.domains.iter().enumerate() {
        if !is_host(domain) {
            let message = format!("{domain:?} is not a host name or an address (without a port)");
            report.fault(at(&format!("domains[{index}]")), message);
        }
    }
    let domains = registrar.domains.iter().enumerate();
    let domains = domains.map(|(i, one)| (at(&format!("domains[{i}]")), one.to_ascii_lowercase()));
    report.unique("the domain", domains.collect::<Vec<_>>());
    if !(1..=HOUR).contains(&registrar.min_expires) {
        report.fault(at("min_expires"), format!("{} is outside 1 to {HOUR} seconds", registrar.min_expires));
    }
    if !(1..=WEEK).contains(&registrar.max_expires) {
        report.fault(at("max_expires"), format!("{} is outside 1 to {WEEK} seconds", registrar.max_expires));
    } else if registrar.max_expires < registrar.min_expires {
        report.fault(at("max_expires"), "is less than sip.registrar.min_expires");
    }
    for (key, limit) in [("max_contacts", registrar.max_contacts), ("max_bindings", registrar.max_bindings)] {
        if limit == 0 {
            report.fault(at(key), "with 0 no phone could register; must be at least 1");
        }
    }
    if registrar.keep_alive != KeepAlive::Off && !(5..=HOUR).contains(&registrar.keep_alive_seconds) {
        let message =
            format!("{} is outside 5 to {HOUR}; to send none, set keep_alive = \"off\"", registrar.keep_alive_seconds);
        report.fault(at("keep_alive_seconds"), message);
    }
    check_passwords(config, report);
}

/// Checks that no two phones or trunks have the same user name and password. The server identifies a phone or trunk
/// only by its user name and password.
fn check_passwords(config: &Config, report: &mut Report<'_>) {
    let phones = config.endpoints.iter().enumerate().map(|(index, phone)| {
        let owner = Some(&phone.account);
        ((&*phone.username, phone.password.expose()), owner, format!("endpoints[{index}].password"))
    });
    let trunks = config.trunks.iter().enumerate().filter_map(|(index, trunk)| {
        let (username, password) = trunk.inbound_username.as_ref().zip(trunk.inbound_password.as_ref())?;
        Some(((&**username, password.expose()), None, format!("trunks[{index}].inbound_password")))
    });
    let mut all: HashMap<(&str, &str), (Option<&AccountName>, String)> = HashMap::new();
    for (key, owner, path) in phones.chain(trunks) {
        match all.get(&key) {
            // Another check reports two phones of one account that have the same user name.
            Some((other, _)) if *other == owner && owner.is_some() => {}
            Some((_, first)) => {
                let message =
                    format!("is the same as {first}, and so is the user name: the server could not distinguish them");
                report.fault(path, message);
            }
            None => drop(all.insert(key, (owner, path))),
        }
    }
}
