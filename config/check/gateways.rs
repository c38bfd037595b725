//! Checks of `[gateways]`.

use std::sync::Arc;

use tandem_gateway::{DashConfig, StarlisConfig};

use super::Report;
use crate::Config;

pub(super) fn check(config: &Config, accounts: &[&str], report: &mut Report<'_>) {
    if let Some(dash) = &config.gateways.dash {
        check_dash(config, dash, accounts, report);
    }
    if let Some(starlis) = &config.gateways.starlis {
        check_starlis(config, starlis, accounts, report);
    }
}

fn check_dash(config: &Config, dash: &DashConfig, accounts: &[&str], report: &mut Report<'_>) {
    check_common(config, "gateways.dash", dash.account.as_ref(), accounts, report);
    if let Some(id) = &dash.application {
        let known: Vec<&str> = config.applications.iter().map(|one| &*one.id).collect();
        report.exists("gateways.dash.application".to_owned(), "application", id, &known);
        let whose = dash.account.as_deref().or_else(|| accounts.first().copied());
        if let Some(other) = config.applications.iter().find(|one| one.id == *id && Some(&*one.account) != whose) {
            report.fault("gateways.dash.application", format!("belongs to account {:?}", other.account));
        }
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

fn check_starlis(config: &Config, starlis: &StarlisConfig, accounts: &[&str], report: &mut Report<'_>) {
    check_common(config, "gateways.starlis", starlis.account.as_ref(), accounts, report);
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
        let known: Vec<&str> = config.agents.iter().map(|agent| &*agent.name).collect();
        report.exists("gateways.starlis.agent".to_owned(), "agent", name, &known);
    }
    for (index, origin) in starlis.allowed_origins.iter().enumerate() {
        let is_origin = origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
        if !is_origin {
            let path = format!("gateways.starlis.allowed_origins[{index}]");
            report.fault(path, "is not an origin (a scheme and a host) such as \"https://app.example.com\"");
        }
    }
}

fn check_common(config: &Config, path: &str, account: Option<&Arc<str>>, accounts: &[&str], report: &mut Report<'_>) {
    match account {
        Some(account) => report.exists(format!("{path}.account"), "account", account, accounts),
        None if accounts.len() > 1 => {
            report.fault(path, "several accounts are configured: name the account whose calls it makes (account)");
        }
        None => {}
    }
    let has_tokens = path == "gateways.starlis" && config.gateways.starlis.as_ref().is_some_and(|one| one.tokens);
    if !config.http.listen.ip().is_loopback() && !has_tokens {
        let message = "has no authentication: every client that reaches http.listen can make calls with it; restrict the access to that address";
        report.note(path, message);
    }
}
