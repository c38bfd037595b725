//! Checks of `[gateways]`.

use std::sync::Arc;

use tandem_accounts::DEFAULT_ACCOUNT;
use tandem_gateway::{DashConfig, StarlisConfig};
use tandem_id::AccountName;
use tandem_settings::{Secret, web_origin};

use super::Report;
use super::resources::{Names, own_application};
use crate::Config;

pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    if let Some(dash) = &config.gateways.dash {
        check_dash(config, dash, names, report);
    }
    if let Some(starlis) = &config.gateways.starlis {
        check_starlis(config, starlis, names, report);
    }
}

fn check_dash(config: &Config, dash: &DashConfig, names: &Names<'_>, report: &mut Report<'_>) {
    check_common(config, "gateways.dash", dash.account.as_ref(), names, report);
    check_access("gateways.dash", &dash.allowed_origins, &dash.prefixes, dash.secret.as_ref(), report);
    if !(1..=10_000).contains(&dash.calls_per_minute) {
        report.fault("gateways.dash.calls_per_minute", "is outside 1 to 10000");
    }
    if let Some(id) = &dash.application {
        let first =
            config.accounts.first().map_or_else(|| AccountName::new(DEFAULT_ACCOUNT), |account| account.name.clone());
        let account = dash.account.as_ref().unwrap_or(&first);
        own_application(names, "gateways.dash.application", id, account, report);
    }
    if let Some(host) = &dash.stream_host
        && (host.is_empty() || host.contains('/') || host.contains(char::is_whitespace))
    {
        report.fault(
            "gateways.dash.stream_host",
            "must be a host only, such as \"voice.example.com\", without scheme and path",
        );
    }
    let metrics = config.http.metrics_listen.map(|listen| listen.port());
    for (key, port) in config.gateways.ports(config.http.listen.port()) {
        if metrics == Some(port) {
            report.fault(key, format!("{port} is the port of http.metrics_listen"));
        }
    }
}

fn check_starlis(config: &Config, starlis: &StarlisConfig, names: &Names<'_>, report: &mut Report<'_>) {
    check_common(config, "gateways.starlis", starlis.account.as_ref(), names, report);
    check_access("gateways.starlis", &starlis.allowed_origins, &starlis.prefixes, starlis.secret.as_ref(), report);
    if !(1..=100_000).contains(&starlis.total_calls_per_minute()) {
        report.fault("gateways.starlis.total_calls_per_minute", "is outside 1 to 100000");
    }
    for (key, value) in [("calls_per_minute", starlis.calls_per_minute), ("sockets_per_user", starlis.sockets_per_user)]
    {
        if !(1..=10_000).contains(&value) {
            report.fault(format!("gateways.starlis.{key}"), "is outside 1 to 10000");
        }
    }
    if starlis.from.as_ref().is_some_and(|from| !from.is_e164()) {
        report.fault("gateways.starlis.from", "is not an E.164 number such as \"+15551230001\"");
    }
    if let Some(name) = &starlis.agent {
        report.exists("gateways.starlis.agent".to_owned(), "agent", name, &names.agents);
    }
}

/// Checks the settings that say who may use a gateway, and which numbers it may call.
fn check_access(
    path: &str,
    origins: &[Arc<str>],
    prefixes: &[Arc<str>],
    secret: Option<&Secret>,
    report: &mut Report<'_>,
) {
    for (index, origin) in origins.iter().enumerate().filter(|(_, origin)| web_origin::host(origin).is_none()) {
        let message = format!("{origin:?} is not an origin (a scheme and a host) such as \"https://app.example.com\"");
        report.fault(format!("{path}.allowed_origins[{index}]"), message);
    }
    let is_prefix = |prefix: &str| {
        let digits = prefix.strip_prefix('+').unwrap_or_default();
        prefix == "+" || !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
    };
    for (index, prefix) in prefixes.iter().enumerate().filter(|(_, prefix)| !is_prefix(prefix)) {
        let message = format!("{prefix:?} is not the beginning of an E.164 number, such as \"+\" or \"+4930\"");
        report.fault(format!("{path}.prefixes[{index}]"), message);
    }
    let Some(secret) = secret.map(Secret::expose) else { return };
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
    if secret.len() < 16 || !secret.bytes().all(is_plain) {
        let message = "must have at least 16 of a-z A-Z 0-9 - . _ ~, because it may stand in a URL";
        report.fault(format!("{path}.secret"), message);
    }
}

fn check_common(
    config: &Config,
    path: &str,
    account: Option<&AccountName>,
    names: &Names<'_>,
    report: &mut Report<'_>,
) {
    match account {
        Some(account) => report.exists(format!("{path}.account"), "account", account.as_str(), &names.accounts),
        None if names.accounts.len() > 1 => {
            report.fault(path, "several accounts are configured: name the account whose calls it makes (account)");
        }
        None => {}
    }
    let gateways = &config.gateways;
    let is_guarded = match path {
        "gateways.starlis" => gateways.starlis.as_ref().is_some_and(|one| one.tokens || one.secret.is_some()),
        _ => gateways.dash.as_ref().is_some_and(|one| one.secret.is_some()),
    };
    if !config.http.listen.ip().is_loopback() && !is_guarded {
        let message = "has no authentication: every client that reaches http.listen can make calls with it; set its secret, or restrict the access to that address";
        report.note(path, message);
    }
}
