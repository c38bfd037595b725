//! `tandem trace`: a call's SIP messages, asked of the running server.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tandem_config::Config;
use tandem_control::account::Account;
use tandem_control::http::{Client, NetworkPolicy, Request, Timeouts};
use tandem_control::trace::COLUMNS;

use super::Failure;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most octets of an answer.
const MOST: usize = 256 * 1024 * 1024;

/// Show the SIP messages of a call as a ladder
///
/// Asks the server that runs with this configuration, with an account's credentials. The server keeps the messages of live
/// and recent calls in memory (`sip.trace_mib`); passwords' digests and keys are hidden.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The call: its id in any spelling (CA..., v3:..., a UUID), its session's, a SIP Call-ID, or "last" for the newest
    #[arg(value_name = "CALL", required_unless_present = "strangers")]
    call: Option<String>,
    /// The last messages from addresses that are in no trunk's networks, instead
    #[arg(long, conflicts_with_all = ["call", "pcap"])]
    strangers: bool,
    /// The server's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whose credentials to show; the first account's that has any when left out
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Where the server is, when not at `http.listen`
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Write a capture file for Wireshark instead
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// All that is known, as JSON
    #[arg(long, conflicts_with = "pcap")]
    json: bool,
}

/// Prints the ladder, or writes the capture.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    super::log("warn");
    let config = super::load_config(arguments.config.as_deref())?;
    let authorization = authorization(&config, arguments.account.as_deref())?;
    let base = arguments.url.clone().unwrap_or_else(|| format!("http://{}", super::reachable(config.http.listen)));
    let path = match &arguments.call {
        Some(call) => format!("/console/calls/{}/trace", escaped(call)),
        None => "/console/sip/strangers".to_owned(),
    };
    let query = match (&arguments.pcap, arguments.json) {
        (Some(_), _) => ".pcap".to_owned(),
        (None, true) => String::new(),
        (None, false) => format!("?format=text&columns={}", columns()),
    };
    let body = super::block_on(ask(&base, format!("{path}{query}"), authorization))??;
    match &arguments.pcap {
        Some(file) => {
            let shown = file.display();
            std::fs::write(file, &body)
                .with_context(|| format!("cannot write {shown}"))
                .map_err(Failure::Environment)?;
            println!("{shown}: {} octets; `wireshark {shown}` or `tshark -r {shown}` read it", body.len());
        }
        None => print!("{}", String::from_utf8_lossy(&body)),
    }
    Ok(())
}

async fn ask(base: &str, path: String, authorization: String) -> Result<Vec<u8>, Failure> {
    let everywhere = ["0.0.0.0/0", "::/0"].iter().filter_map(|network| network.parse().ok()).collect();
    let client = Client::new(NetworkPolicy { allow_networks: everywhere }, PATIENCE)
        .map_err(|error| Failure::Environment(error.into()))?;
    let request = Request {
        method: "GET".parse().map_err(|_| Failure::Input(anyhow!("GET")))?,
        url: format!("{}{path}", base.trim_end_matches('/')),
        headers: vec![("Authorization".to_owned(), authorization)],
        body: Vec::new().into(),
        timeouts: Timeouts { connect: None, total: PATIENCE },
        max_body: MOST,
    };
    let response = client.send(&request).await.map_err(|error| {
        Failure::Environment(anyhow!(
            "no server answers at {base}: {error}. Is `tandem serve` running with this --config?"
        ))
    })?;
    let said = || String::from_utf8_lossy(&response.body).trim().to_owned();
    match response.status {
        200 => Ok(response.body.to_vec()),
        401 => Err(Failure::Input(anyhow!(
            "the server at {base} does not know these credentials: was it started with another --config, or before this one \
             was changed?"
        ))),
        403 | 404 => Err(Failure::Input(anyhow!("{}", said()))),
        status => Err(Failure::Environment(anyhow!("the server at {base} answers {status}: {}", said()))),
    }
}

/// The header of an account of the configuration, or of the one that the server made for itself.
fn authorization(config: &Config, name: Option<&str>) -> Result<String, Failure> {
    let own = match config.accounts.is_empty() {
        true => Some(tandem::app::first_account(&config.data_dir).map_err(Failure::Environment)?),
        false => None,
    };
    let mut accounts =
        config.accounts.iter().chain(&own).filter(|account| name.is_none_or(|name| *name == *account.name));
    let found = accounts.find_map(header);
    found.ok_or_else(|| {
        let names: Vec<&str> = config.accounts.iter().chain(&own).map(|account| &*account.name).collect();
        Failure::Input(match name {
            Some(name) => anyhow!("no account {name:?} with credentials; there are: {}", names.join(", ")),
            None => anyhow!("no account has credentials to log in with"),
        })
    })
}

fn header(account: &Account) -> Option<String> {
    use base64::Engine as _;
    let basic = account.twilio.as_ref().map(|keys| {
        let pair = format!("{}:{}", keys.account_sid, keys.auth_token);
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair))
    });
    basic.or_else(|| account.telnyx.as_ref().map(|keys| format!("Bearer {}", keys.api_key)))
}

/// As a part of a path: an id may have a colon, a Call-ID anything.
fn escaped(id: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.~".contains(&octet);
    id.bytes().map(|octet| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") }).collect()
}

/// The terminal's.
fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let stdout = std::io::stdout();
    let terminal = || stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    said.or_else(|| terminal().map(|size| size.ws_col.into()).filter(|&columns: &usize| columns > 0)).unwrap_or(COLUMNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_any_form_becomes_a_part_of_a_path() {
        assert_eq!(escaped("v3:a-b_c"), "v3%3Aa-b_c");
        assert_eq!(escaped("4/x?@10.0.0.1"), "4%2Fx%3F%4010.0.0.1");
    }
}
