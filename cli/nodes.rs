//! `tandem nodes` lists the nodes of a cluster. `tandem drain` says whether a node takes new calls.

use serde_json::Value;

use super::Failure;
use super::ask::{Server, escaped};
use super::list::{self, List, text};
use super::paint::Style;
use super::table::{Cell, plain};

/// List the nodes of the cluster: their state, their calls and their addresses
#[derive(clap::Args)]
pub struct Nodes {
    #[command(flatten)]
    list: list::Options,
}

/// Stop new calls to a node of the cluster. Its calls continue. To upgrade a node: drain it, wait until `tandem nodes`
/// shows 0 legs, and restart it
#[derive(clap::Args)]
pub struct Drain {
    /// Name of the node: its cluster.node
    node: String,
    /// The node takes new calls again
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    server: Server,
}

pub fn nodes(arguments: Nodes) -> Result<(), Failure> {
    let list = List {
        path: "/console/nodes".to_owned(),
        key: "nodes",
        row_key: "node",
        newest_first: false,
        heads: &["NODE", "STATE", "LEGS", "RENEWED", "HTTP", "SIP", "VERSION"],
        wraps: false,
        name: |row| text(row, "name").to_owned(),
        row,
        note: |node| (text(node, "state") == "silent").then(|| SILENT.to_owned()),
        empty: "This server is alone: it has no [cluster] (docs/cluster.md).",
    };
    list::run(&arguments.list, &list)
}

const SILENT: &str = "The node does not renew its lease in the database. After 3 s another node ends its calls.";

fn row(node: &Value) -> Vec<Cell> {
    let state = text(node, "state");
    let style = match state {
        "alive" => Style::Good,
        "draining" => Style::Warning,
        _ => Style::Bad,
    };
    let legs = node.get("legs").and_then(Value::as_u64).unwrap_or_default();
    let ago = node.get("renewed_seconds_ago").and_then(Value::as_f64).unwrap_or_default();
    vec![
        (text(node, "name").to_owned(), Style::Bold),
        (state.to_owned(), style),
        plain(legs.to_string()),
        plain(format!("{ago:.1} s ago")),
        plain(text(node, "http")),
        plain(text(node, "sip")),
        plain(text(node, "version")),
    ]
}

pub fn drain(arguments: Drain) -> Result<(), Failure> {
    super::log("warn");
    let console = arguments.server.console()?;
    let (node, path) = (&arguments.node, format!("/console/nodes/{}/drain", escaped(&arguments.node)));
    super::block_on(async {
        if arguments.resume {
            console.send("DELETE", &path).await?;
            crate::say!("Node {node} takes calls again.");
        } else {
            console.send("POST", &path).await?;
            crate::say!("Node {node} takes no new calls. `tandem nodes` shows how many legs it still has.");
        }
        Ok(())
    })?
}
