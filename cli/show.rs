//! `tandem show CALL` shows all details of one call.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::Value;

use super::Failure;
use super::ask::{Console, Server, escaped};
use super::list::{self, print, print_json, text};
use super::paint::Paint;
use super::{party, story};

/// Show a call in detail: its parties, errors, timeline, and requests with their responses
#[derive(clap::Args)]
pub struct Arguments {
    /// The call: an id of the call in any form, a part of an id or of a SIP Call-ID, the session id, a number (the newest
    /// call from or to it), or "last" for the newest call
    #[arg(value_name = "CALL", default_value = "last")]
    call: String,
    /// Continue to print events until the call has ended
    #[arg(short = 'f', long)]
    follow: bool,
    /// Print all information as JSON
    #[arg(long, conflicts_with = "follow")]
    json: bool,
    /// Write everything about the call to one file (tar), to hand it on: report, SIP messages, recordings
    #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "json", "sip"])]
    archive: Option<PathBuf>,
    /// Include the SIP messages; `tandem trace` shows them as a ladder diagram
    #[arg(long)]
    sip: bool,
    #[command(flatten)]
    server: Server,
}

/// Prints the report of a call, or writes its archive.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    super::log("warn");
    let console = arguments.server.console()?;
    super::block_on(show(&arguments, &console))?.map_err(party::explain)
}

async fn show(arguments: &Arguments, console: &Console) -> Result<(), Failure> {
    let path = format!("/console/calls/{}", escaped(&party::id_of(console, &arguments.call).await?));
    if let Some(file) = &arguments.archive {
        let octets = console.download(&format!("{path}/archive"), file).await?;
        let shown = file.display();
        say!("{shown}: {octets} octets; `tar -xf {shown}` unpacks it");
        return Ok(());
    }
    if arguments.json {
        print_json(&console.get(&path).await?);
        return Ok(());
    }
    let paint = Paint::stdout();
    let mut story = console.json(&path).await?;
    print(&story::whole(&story, paint, arguments.sip));
    if !arguments.follow {
        return Ok(());
    }
    // For "last", later requests use the session id, because a newer call may start and become the last call.
    let path = format!("/console/calls/{}", escaped(text(&story, "session")));
    let mut known: HashSet<_> = lines(&story).map(identity).collect();
    while calls(&story).any(|call| call.get("live").and_then(Value::as_bool) == Some(true)) {
        let mut received = console.follow(&format!("{path}?follow=true")).await?;
        while let Some(values) = received.next().await {
            for mut value in values {
                if let Some(line) = value.get("line").filter(|line| arguments.sip || text(line, "kind") != "sip")
                    && known.insert(identity(line))
                {
                    print(&format!("{}\n", story::line(line, paint)));
                }
                if let Some(report) = value.get_mut("report") {
                    story = report.take();
                }
                if let Some(away) = list::away(&value) {
                    say_error!("{away}");
                }
                if let Some(note) = value.get("note").and_then(Value::as_str) {
                    return Err(Failure::Environment(anyhow!("{note}")));
                }
            }
        }
    }
    print(&story::heads(&story, paint));
    Ok(())
}

/// Returns the members of a line that never change. The member `seconds` changes if an earlier line arrives later.
fn identity(line: &Value) -> [String; 4] {
    ["at", "call", "kind", "text"].map(|key| text(line, key).to_owned())
}

fn lines(story: &Value) -> impl Iterator<Item = &Value> {
    story.get("timeline").and_then(Value::as_array).into_iter().flatten()
}

fn calls(story: &Value) -> impl Iterator<Item = &Value> {
    story.get("calls").and_then(Value::as_array).into_iter().flatten()
}
