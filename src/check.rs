//! `tandem check` reports all errors of a configuration.

use std::io::IsTerminal;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;
use tandem_cli::{say, say_error};

use tandem_config::Config;

use tandem_cli::Failure;
use tandem_cli::paint::{Paint, harmless, harmless_lines};
use tandem_cli::table::{columns, folded};

/// Time limit for the resolution of all host names of trunks.
const DNS_TIMEOUT: Duration = Duration::from_secs(3);

/// Check a configuration file and report all errors at once
///
/// Each error is shown with its line number and with the values that would be valid. A note is about a setting that is
/// valid but dangerous or without effect. The command builds all parts of the server that depend only on the
/// configuration, so `tandem serve` refuses no file that this command accepts. The command opens no ports and changes
/// nothing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file to check (default: tandem.toml in this directory, otherwise /etc/tandem/tandem.toml of the
    /// installed service)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Treat notes as errors
    #[arg(long)]
    strict: bool,
}

/// Prints the errors to standard error. If there are no errors, prints a summary of the configuration in one line.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (file, _) = tandem_cli::config_file(arguments.config.as_deref())?;
    let file = file.unwrap_or_else(|| tandem_cli::USUAL.into());
    let paint = Paint::stdout();
    let note = |text: &str| match std::io::stdout().is_terminal() {
        true => say!("{}", labelled("note:", &harmless(text), |label| paint.yellow(label))),
        false => say!("note: {}", harmless(text)),
    };
    let config = tandem_cli::read_config(Some(&file)).map_err(|errors| {
        errors.notes().iter().for_each(|text| note(text));
        let paint = Paint::for_stream(&std::io::stderr());
        // A program that reads the errors gets FILE:LINE at the start of each line.
        for line in harmless_lines(&errors.to_string()).lines() {
            match std::io::stderr().is_terminal() {
                true => say_error!("{}", labelled("error:", line, |label| paint.red(label))),
                false => say_error!("{line}"),
            }
        }
        Failure::Reported
    })?;
    if let Err(why) = tandem_app::Parts::new(&config) {
        return Err(Failure::Input(anyhow::anyhow!("{}: {why:#}", file.display())));
    }
    let speech = tandem_speech::missing(&config.speech);
    let speech = speech.map(|missing| match missing {
        tandem_speech::SpeechError::NoLocalEngine(_) => format!("speech: {missing}"),
        _ => format!("speech.tts: {missing}; until then <Say> and speak play nothing"),
    });
    let notes: Vec<_> = config.notes.iter().cloned().chain(speech).chain(unresolved(&config)).collect();
    notes.iter().for_each(|text| note(text));
    if arguments.strict && !notes.is_empty() {
        let (file, count) = (file.display(), notes.len());
        return Err(Failure::Input(anyhow::anyhow!("{file}: {count} notes, which --strict does not accept")));
    }
    say!(
        "{}: {}. accounts: {}, trunks: {}, applications: {}, numbers: {}, endpoints: {}; SIP on {}; HTTP on {}",
        harmless(&file.display().to_string()),
        paint.green("valid"),
        accounts(config.accounts.len()),
        config.trunks.len(),
        config.applications.len(),
        config.numbers.len(),
        config.endpoints.len(),
        config.sip.listen.join(", "),
        config.http.listen,
    );
    Ok(())
}

/// Returns the number of accounts in the configuration. Without accounts, calls need the account that the server makes.
fn accounts(count: usize) -> String {
    match count {
        0 => "0 (the server makes one at its first start)".to_owned(),
        count => count.to_string(),
    }
}

/// Returns the text after a label in a colour. On a terminal, the text continues between two words on the next line.
fn labelled(label: &str, text: &str, paint: impl Fn(&str) -> String) -> String {
    let lines = folded(&format!("{label} {text}"), columns().unwrap_or(usize::MAX), 2);
    let text = lines.join("\n  ");
    text.strip_prefix(label).map_or_else(|| text.clone(), |rest| format!("{}{rest}", paint(label)))
}

/// Returns a note for each trunk whose host does not resolve to an address now.
fn unresolved(config: &Config) -> Vec<String> {
    let (sender, results) = mpsc::channel();
    let mut names = Vec::new();
    for (index, trunk) in config.trunks.iter().enumerate() {
        for (key, uri) in [("uri", &trunk.uri), ("registrar", &trunk.registrar)] {
            let Some(host) = uri.as_deref().and_then(host).filter(|host| host.parse::<std::net::IpAddr>().is_err())
            else {
                continue;
            };
            let (sender, host, number) = (sender.clone(), host.to_owned(), names.len());
            names.push((format!("trunks[{index}].{key}"), host.clone()));
            // Name resolution has no time limit of its own. The thread ends with the process.
            std::thread::spawn(move || {
                // Sending fails if the time limit has passed.
                let _ = sender.send((number, (host.as_str(), 5060).to_socket_addrs().map(drop)));
            });
        }
    }
    drop(sender);
    let mut notes = Vec::new();
    while let Ok((number, result)) = results.recv_timeout(DNS_TIMEOUT) {
        if let (Err(error), Some((path, host))) = (result, names.get(number)) {
            notes.push(format!(
                "{path}: {host} does not resolve to an address on this machine ({error}); a name that has only SRV or NAPTR records is fine"
            ));
        }
    }
    notes.sort();
    notes
}

/// Returns the host of a SIP URI.
fn host(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("sips:").or_else(|| uri.strip_prefix("sip:"))?;
    let authority = rest.split(';').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next(),
        None => host.split(':').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_sip_uri_is_found_in_every_form() {
        for (uri, expected) in [
            ("sip:sip.example.com", "sip.example.com"),
            ("sips:a@sip.example.com:5061;transport=tls", "sip.example.com"),
            ("sip:[2001:db8::1]:5060", "2001:db8::1"),
            ("sip:192.0.2.1:5060;x=y", "192.0.2.1"),
        ] {
            assert_eq!(host(uri), Some(expected), "{uri}");
        }
        assert_eq!(host("tel:+1555"), None);
    }

    #[test]
    fn a_trunk_with_an_unresolvable_host_causes_a_note() {
        let mut config = Config::default();
        let trunk = |uri: &str| toml::from_str(&format!("name = \"t\"\nuri = \"{uri}\"")).unwrap();
        config.trunks = vec![trunk("sip:no-such-host.invalid"), trunk("sip:127.0.0.1:5060"), trunk("sip:localhost")];
        let notes = unresolved(&config);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("trunks[0].uri: no-such-host.invalid does not resolve"), "{notes:?}");
    }

    #[test]
    fn a_configuration_without_accounts_gets_one_from_the_server() {
        assert_eq!(accounts(0), "0 (the server makes one at its first start)");
        assert_eq!(accounts(2), "2");
    }

    #[test]
    fn a_label_is_coloured_and_the_text_is_unchanged() {
        let text = "tandem.toml:2: speech.stt: has no path; write the whole URL of the engine";
        let shown = labelled("error:", text, |label| format!("<{label}>"));
        assert_eq!(shown.replace("\n  ", " "), format!("<error:> {text}"));
    }
}
