//! Checks of `[[siprec]]`, the recording servers.

use tandem_siprec::SiprecConfig;

use super::Report;
use super::resources::{Names, name};
use super::trunks::check_sip_uri;
use crate::Config;

pub(super) fn check(config: &Config, names: &Names<'_>, report: &mut Report<'_>) {
    for (index, server) in config.siprec.iter().enumerate() {
        check_server(server, &format!("siprec[{index}]"), names, report);
    }
    let names = config.siprec.iter().enumerate().map(|(i, one)| (format!("siprec[{i}].name"), one.name.clone()));
    report.unique("the name", names.collect::<Vec<_>>());
}

fn check_server(server: &SiprecConfig, path: &str, names: &Names<'_>, report: &mut Report<'_>) {
    name(&format!("{path}.name"), &server.name, report);
    if let Some(account) = &server.account {
        report.exists(format!("{path}.account"), "account", account.as_str(), &names.accounts);
    }
    if server.uris.is_empty() {
        report.fault(format!("{path}.uri"), "is empty; name at least one SIP URI");
    }
    for (index, uri) in server.uris.iter().enumerate() {
        if let Err(message) = check_sip_uri(uri) {
            let place = if server.uris.len() > 1 { format!("{path}.uri[{index}]") } else { format!("{path}.uri") };
            report.fault(place, message);
        }
    }
    match (&server.username, &server.password) {
        (Some(_), None) => report.fault(format!("{path}.password"), "is missing although username is set"),
        (None, Some(_)) => report.fault(format!("{path}.username"), "is missing although password is set"),
        _ => {}
    }
    if server.codecs.is_empty() {
        report.fault(format!("{path}.codecs"), "is empty; for PCMU and PCMA remove the key");
    }
}
