//! `tandem init` writes a first configuration file.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use tandem_cli::paint::harmless;
use tandem_cli::{Failure, say};
use tandem_config::Config;
use url::Url;

/// Write a first configuration file, from five questions or from the options
///
/// In a terminal, the command asks for what the options do not say. The file is complete, has comments, and passes `tandem
/// check`. An existing file is not overwritten.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The provider whose API your application uses: twilio, telnyx or signalwire
    #[arg(long)]
    provider: Option<String>,
    /// The URL of your application, which answers calls, for example http://127.0.0.1:5000/voice
    #[arg(long, value_name = "URL")]
    application: Option<Url>,
    /// The number of your application, for example +15551230001 or 600
    #[arg(long)]
    number: Option<String>,
    /// The address at which others reach this server; 127.0.0.1 if only this machine calls
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// The SIP URI of your carrier; "none" without a carrier
    #[arg(long, value_name = "URI")]
    carrier: Option<String>,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = tandem_cli::USUAL)]
    config: PathBuf,
}

/// The answers.
struct Answers {
    provider: String,
    application: Url,
    number: String,
    address: IpAddr,
    /// The SIP URI of the carrier, if there is one.
    carrier: Option<String>,
}

/// Writes the file, and says what to do next.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let path = arguments.config.clone();
    if path.exists() {
        let text = format!("{} exists already; name another file with --config, or move it away", path.display());
        return Err(Failure::Input(anyhow!(text)));
    }
    let answers = answers(arguments).map_err(Failure::Input)?;
    let text = text(&answers);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Failure::Environment)?;
    file.write_all(text.as_bytes()).map_err(|error| Failure::Environment(error.into()))?;
    // The answers may contradict each other, for example an address without a port for SIP.
    if let Err(errors) = Config::load(Some(&path), tandem_cli::environment()) {
        return Err(Failure::Input(anyhow!("{} was written, but must be corrected:\n{errors}", path.display())));
    }
    let (name, number) = (harmless(&path.display().to_string()), harmless(&answers.number));
    say!("{name} is written. Next:");
    say!("  tandem doctor --config {name}     what this machine lacks");
    say!("  tandem serve --config {name}      run the server");
    say!("  tandem call {number} --listen           in another terminal: talk with the application");
    say!("  http://127.0.0.1:8080/console/    in a browser: see the call; `tandem env` prints the credentials");
    Ok(())
}

/// Asks for what the options do not say, if somebody sits at the terminal.
fn answers(arguments: Arguments) -> anyhow::Result<Answers> {
    let can_ask = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let ask = |option: Option<String>, name: &str, question: &str, usual: &str| match option {
        Some(given) => Ok(given),
        None if can_ask => asked(question, usual),
        None => Err(anyhow!("give --{name}: {question}")),
    };
    let provider = ask(
        arguments.provider,
        "provider",
        "Which API does your application use: twilio, telnyx or signalwire?",
        "twilio",
    )?;
    if !["twilio", "telnyx", "signalwire"].contains(&provider.as_str()) {
        return Err(anyhow!("{provider:?} is not twilio, telnyx or signalwire"));
    }
    let application = arguments.application.map(String::from);
    let application =
        ask(application, "application", "What is the URL of your application?", "http://127.0.0.1:5000/voice")?;
    let application = application.parse().with_context(|| format!("{application:?} is no URL"))?;
    let number = ask(arguments.number, "number", "Which number does it have?", "600")?;
    let address = arguments.address.map(|address| address.to_string());
    let question = "At which address do others reach this server (127.0.0.1: only this machine calls)?";
    let address = ask(address, "address", question, "127.0.0.1")?;
    let address = address.parse().with_context(|| format!("{address:?} is no IP address"))?;
    let carrier = ask(arguments.carrier, "carrier", "What is the SIP URI of your carrier (none: no carrier)?", "none")?;
    let carrier = Some(carrier).filter(|uri| uri != "none" && !uri.is_empty());
    Ok(Answers { provider, application, number, address, carrier })
}

/// Asks one question. An empty line is the usual answer.
fn asked(question: &str, usual: &str) -> anyhow::Result<String> {
    print_now(&format!("{question} [{usual}] "));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let line = line.trim();
    Ok(if line.is_empty() { usual } else { line }.to_owned())
}

fn print_now(text: &str) {
    tandem_cli::print(format_args!("{text}"));
    tandem_cli::keep_error(std::io::stdout().flush());
}

/// Returns the file.
fn text(answers: &Answers) -> String {
    let Answers { provider, application, number, address, carrier } = answers;
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let is_local = address.is_loopback();
    let any = if address.is_ipv4() { "0.0.0.0" } else { "[::]" };
    let listen = if is_local { shown(*address) } else { any.to_owned() };
    let mut text = format!(
        "# Written by `tandem init`. tandem.example.toml has every setting; `tandem check` reports mistakes with their lines.\n\n\
         data_dir = \"data\"             # the account, the database and the recordings\n\n\
         [sip]\nlisten = [\"udp://{listen}:5060\", \"tcp://{listen}:5060\"]\n"
    );
    // Writing to a String cannot fail.
    if !is_local {
        let _ = writeln!(text, "advertise = {}             # the address in SIP and SDP", quoted(&address.to_string()));
    }
    let host = application.host_str().unwrap_or_default();
    let networks = match application.host() {
        Some(url::Host::Ipv4(address)) if !address.is_loopback() => format!("\"127.0.0.0/8\", \"{address}/32\""),
        _ => "\"127.0.0.0/8\"".to_owned(),
    };
    let _ = write!(
        text,
        "\n[media]\nports = \"20000-39999\"         # UDP ports of the audio; open them in the firewall\n\n\
         [http]\nlisten = \"127.0.0.1:8080\"     # all APIs and the console; for other machines put an HTTPS proxy in front (docs/https.md)\n\n\
         [webhooks]\nallow_networks = [{networks}]   # non-public networks of your applications ({host})\n"
    );
    if let Some(uri) = carrier {
        let _ = write!(
            text,
            "\n[[trunks]]                    # docs/trunks.md has recipes for carriers and PBXs\nname = \"carrier\"\nuri = {}\n\
             prefixes = [\"+\"]              # the numbers that go to this carrier\n\
             options_interval = 30\n\
             #inbound_from = [\"192.0.2.0/28\"]   # the networks from which the carrier calls\n\
             #username = \"...\"\n#password = \"...\"\n",
            quoted(uri)
        );
    }
    let url = quoted(application.as_str());
    let number = quoted(number);
    // Telnyx's numbers have a connection, which has the URL.
    let _ = match provider.as_str() {
        "telnyx" => write!(
            text,
            "\n[[applications]]              # a Call Control application; its id is the connection_id of your requests\n\
             id = \"1000000000000000001\"\naccount = \"default\"\nprovider = \"telnyx\"\nwebhook_url = {url}\n\n\
             [[numbers]]\nnumber = {number}\nprovider = \"telnyx\"\napplication = \"1000000000000000001\"\n"
        ),
        provider => write!(
            text,
            "\n[[numbers]]                   # without [[accounts]], the server creates one; `tandem env` prints its credentials\n\
             number = {number}\nprovider = \"{provider}\"\nvoice_url = {url}\n"
        ),
    };
    text
}

/// An address as it stands in a URI.
fn shown(address: IpAddr) -> String {
    if address.is_ipv4() { address.to_string() } else { format!("[{address}]") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_answers_is_a_valid_file() {
        let folder = tempfile::tempdir().unwrap();
        for provider in ["twilio", "telnyx", "signalwire"] {
            for address in ["127.0.0.1", "203.0.113.5", "::1", "2001:db8::1"] {
                for (carrier, application) in [
                    (None, "http://127.0.0.1:5000/voice"),
                    (Some("sip:sip.carrier.example"), "https://app.example.com/a?b=\"c\""),
                    (None, "http://10.0.0.5/voice"),
                ] {
                    let answers = Answers {
                        provider: provider.to_owned(),
                        application: application.parse().unwrap(),
                        number: "+15551230001".to_owned(),
                        address: address.parse().unwrap(),
                        carrier: carrier.map(str::to_owned),
                    };
                    let (path, text) = (folder.path().join("tandem.toml"), text(&answers));
                    std::fs::write(&path, &text).unwrap();
                    if let Err(errors) = Config::load(Some(&path), []) {
                        panic!("{errors}\n{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_a_terminal_every_answer_must_be_an_option() {
        let arguments = Arguments {
            provider: Some("twilio".to_owned()),
            application: None,
            number: None,
            address: None,
            carrier: None,
            config: PathBuf::new(),
        };
        if !std::io::stdin().is_terminal() {
            assert!(answers(arguments).err().unwrap().to_string().starts_with("give --application: "));
        }
    }
}
