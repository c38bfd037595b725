//! `tandem trace` shows the SIP messages of a call. The running server provides these messages.

use std::path::PathBuf;

use anyhow::Context;
use tandem_console::trace::COLUMNS;

use super::ask::{Server, escaped};
use super::paint::harmless;
use super::{Failure, list, party, table};

/// Show the SIP messages of a call as a ladder diagram
///
/// The command asks the running server, with the credentials of an account. The server keeps the SIP messages of live
/// and recent calls in memory (`sip.trace_mib`); digest responses and keys are masked.
#[derive(clap::Args)]
pub struct Arguments {
    /// The call: an id of the call in any form (CA..., v3:..., a UUID), the session id, a SIP Call-ID, a number (the newest
    /// call from or to it), or "last" for the newest call
    #[arg(value_name = "CALL", required_unless_present = "strangers")]
    call: Option<String>,
    /// Show the latest messages from addresses outside all trunks' networks instead
    #[arg(long, conflicts_with_all = ["call", "pcap"])]
    strangers: bool,
    #[command(flatten)]
    server: Server,
    /// Write a capture file for Wireshark instead
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Print all information as JSON
    #[arg(long, conflicts_with = "pcap")]
    json: bool,
}

/// Prints the ladder diagram, or writes the capture file.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    super::log("warn");
    let console = arguments.server.console()?;
    let query = match (&arguments.pcap, arguments.json) {
        (Some(_), _) => ".pcap".to_owned(),
        (None, true) => String::new(),
        (None, false) => format!("?format=text&columns={}", table::columns().unwrap_or(COLUMNS)),
    };
    let body = super::block_on(async {
        let path = match &arguments.call {
            Some(call) => format!("/console/calls/{}/trace", escaped(&party::id_of(&console, call).await?)),
            None => "/console/sip/strangers".to_owned(),
        };
        console.get(&format!("{path}{query}")).await.map_err(party::explain)
    })??;
    match &arguments.pcap {
        Some(file) => {
            let shown = harmless(&file.display().to_string());
            std::fs::write(file, &body)
                .with_context(|| format!("cannot write {shown}"))
                .map_err(Failure::Environment)?;
            say!("{shown}: {} octets; `wireshark {shown}` or `tshark -r {shown}` read it", body.len());
        }
        None if arguments.json => list::print_json(&body),
        // The server has escaped the texts from outside.
        None => list::print(&String::from_utf8_lossy(&body)),
    }
    Ok(())
}
