//! `tandem dev URL` runs a server with a number for one application, and shows the calls of the server live. With
//! `--agent`, the number belongs to a voice agent.
//!
//! ```text
//!   URL or agent ─► settings (a number) ─► the server with its defaults ─► event bus (each call's log) ─► View (the terminal)
//! ```

mod agent;
mod application;
mod greeting;
mod settings;
mod view;

use std::path::PathBuf;

use anyhow::anyhow;
use tandem_app::{OnHangup, Server};
use tandem_id::AccountName;
use tandem_runtime::reporting::OF_CALLS;
use tandem_softphone::{Dialled, Key};

use agent::Agent;
use tandem_cli::{Failure, env};

/// Run a server with a number for the application at URL, or for a voice agent, and show its calls live
///
/// The command starts the server as `tandem serve` does. A configuration file is optional. The command gives the
/// application a number and an extension. It prints the settings for the application's SDK, the command that calls the
/// application, and the address of a page with which you talk to it in a browser on this machine. Then it shows each call
/// with the documents and webhooks (status and time), digits, speech and audio. Errors are shown with advice. Ctrl-C ends
/// the server.
#[derive(clap::Args, Default)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Voice URL of the application: http://127.0.0.1:5000/voice, 127.0.0.1:5000/voice, :5000/voice or 5000/voice
    #[arg(value_name = "URL", required_unless_present = "agent")]
    url: Option<String>,
    #[command(flatten)]
    agent: agent::Options,
    /// Public origin of the application, for example `https://app.example`. Requests to this host, by http, https, ws or
    /// wss, are sent to the origin of URL instead. The option may be repeated; the first origin is the number's
    #[arg(long, value_name = "ORIGIN")]
    public: Vec<String>,
    /// Configuration file with further settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Provider whose API the application uses: twilio, telnyx, texml (Telnyx's XML), signalwire (SignalWire's XML) or swml
    /// (SignalWire's JSON) (default: the provider of the account)
    #[arg(long, value_name = "PROVIDER", value_parser = env::provider)]
    provider: Option<String>,
    /// Account that owns the number (default: the first account)
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// SIP port on 127.0.0.1 (UDP and TCP), instead of `sip.listen`
    #[arg(long, value_name = "PORT")]
    sip_port: Option<u16>,
    /// HTTP port on 127.0.0.1, instead of `http.listen`
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Also show the SIP messages of the calls
    #[arg(long)]
    sip: bool,
}

const EXAMPLES: &str = "\
Examples:
  tandem dev --agent \"You answer the phone of a bicycle shop\"
  tandem dev --agent \"...\" --model http://127.0.0.1:11434/v1#llama3.2:3b
  tandem dev 5000/voice                                   then, in another terminal: tandem call 600
  tandem dev 5000/voice --public https://app.example      the application builds its own URLs with that host
  tandem dev 5000/voice --sip-port 5062 --http-port 8081  when the default ports are in use";

/// The far end of the number.
enum Subject {
    /// The complete voice URL of an application.
    Application(String),
    /// A voice agent.
    Agent(Box<Agent>),
}

/// Runs the server until Ctrl-C.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    // The log omits messages about calls, because the view shows the same information.
    tandem_cli::log(&format!(
        "warn,tandem_runtime::call_task=error,tandem_runtime::notify=error,tandem_webhooks=error,{OF_CALLS}=error"
    ));
    let url = arguments.url.as_deref().map(application::complete).transpose();
    let url = url.map_err(|why| Failure::Input(anyhow!(why)))?;
    // A mistake in the settings, or a port in use, is reported before the search for a model, which can take minutes.
    let (ports, before) = settings::ports(&arguments)?;
    settings::account(&arguments, &before)?;
    // The server reports a port in use too, but only after it has made its data directory.
    if !before.data_dir.exists()
        && let Some(used) = settings::used_port(&before)
    {
        return Err(Failure::Environment(anyhow!("{used}{}", advice(&used, tandem_cli::is_installed()))));
    }
    let subject = match Agent::find(&arguments.agent, &before)? {
        Some(agent) => Subject::Agent(Box::new(agent)),
        None => Subject::Application(url.unwrap_or_default()),
    };
    let (config, info) = settings::settings(&arguments, &ports, &subject)?;
    let read = {
        move || match settings::settings(&arguments, &ports, &subject) {
            Ok((config, _)) => Ok(config),
            Err(failure) => Err(failure.to_string()),
        }
    };
    let key = Key::random();
    let softphone =
        Dialled { account: AccountName::new(&*info.account), number: info.number.clone(), key: key.clone() };
    let greet = |server: &Server| greeting::greet(server, &info, &key);
    tandem_cli::block_on(tandem_app::run_with(config, Some(softphone), OnHangup::End, read, greet))?.map_err(|error| {
        let text = format!("{error:#}");
        // The server's error message recommends environment variables. This command has options for the same settings,
        // so the advice is replaced.
        let text = text.split("; stop what listens there").next().unwrap_or_default();
        Failure::Environment(anyhow!("{text}{}", advice(text, tandem_cli::is_installed())))
    })
}

/// Returns advice for an error at the start of the server. `is_installed` is whether this machine has the configuration of
/// an installed service.
fn advice(error: &str, is_installed: bool) -> String {
    if error.contains("in use by another tandem") {
        return "\nOnly one server can use a data directory: stop the other one, or give this one another directory: \
                TANDEM_DATA_DIR=/tmp/tandem tandem dev ..."
            .to_owned();
    }
    if !error.contains("cannot listen on") {
        return String::new();
    }
    let mut advice = "\nTo use other ports: tandem dev ... --sip-port 5062 --http-port 8081".to_owned();
    if is_installed {
        let file = tandem_cli::INSTALLED;
        advice.push_str(&format!(
            "\nThe installed service `tandem` probably uses this port. To give it your application: write \
             voice_url = \"URL\" in place of twiml in {file}, then `systemctl reload tandem`. To stop it: `systemctl stop tandem`"
        ));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_for_a_port_in_use_names_the_installed_service() {
        let error = "http.listen: cannot listen on 127.0.0.1:8080: Address already in use (os error 98)";
        let without = advice(error, false);
        assert!(without.contains("--http-port 8081") && !without.contains("systemctl"), "{without}");
        let with = advice(error, true);
        for part in ["--http-port 8081", "/etc/tandem/tandem.toml", "systemctl reload tandem", "systemctl stop tandem"]
        {
            assert!(with.contains(part), "{part}: {with}");
        }
        assert!(advice("data_dir: data is in use by another tandem", true).contains("TANDEM_DATA_DIR"));
        assert_eq!(advice("the database is down", true), "");
    }
}
