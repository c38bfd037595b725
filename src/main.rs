//! The `tandem` command line. The commands that build a server are in this folder, the commands that ask a running server in
//! `cli/`, and the tools for developers in `tools/`.
#![forbid(unsafe_code)]
// These macros panic if the reader of the output has gone, for example in `tandem check | true`. See `say!`.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod check;
mod completions;
mod dev;
mod doctor;
mod init;
mod serve;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use tandem_cli::Failure;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A SIP and RTP server with the APIs, webhooks and media streams of Twilio, Telnyx and SignalWire
#[derive(Parser)]
#[command(name = "tandem", version, arg_required_else_help = true, after_help = AFTER_HELP, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Serve(serve::Arguments),
    Dev(dev::Arguments),
    #[cfg(feature = "tools")]
    Call(tandem_tools::call::Arguments),
    #[cfg(feature = "tools")]
    Test(tandem_tools::test::Arguments),
    Env(tandem_cli::env::Arguments),
    Check(check::Arguments),
    #[cfg(feature = "tools")]
    Demo(tandem_tools::demo::Arguments),
    Calls(tandem_cli::calls::Arguments),
    Show(tandem_cli::show::Arguments),
    Errors(tandem_cli::errors::Arguments),
    Phones(tandem_cli::phones::Arguments),
    Trunks(tandem_cli::trunks::Arguments),
    Numbers(tandem_cli::numbers::Arguments),
    Nodes(tandem_cli::nodes::Nodes),
    Drain(tandem_cli::nodes::Drain),
    Signature(tandem_cli::signature::Arguments),
    Trace(tandem_cli::trace::Arguments),
    Explain(tandem_cli::explain::Arguments),
    Doctor(doctor::Arguments),
    Speech(tandem_cli::speech::Arguments),
    Completions(completions::Completions),
    Man(completions::Man),
    #[cfg(feature = "tools")]
    Measure(tandem_tools::measure::Arguments),
    #[cfg(feature = "tools")]
    Load(tandem_tools::load::Arguments),
    #[cfg(feature = "tools")]
    Ca(tandem_tools::ca::Arguments),
    #[cfg(feature = "tools")]
    Proxy(tandem_tools::proxy::Arguments),
}

#[cfg(feature = "tools")]
macro_rules! with_tools {
    ($text:literal) => {
        $text
    };
}
#[cfg(not(feature = "tools"))]
macro_rules! with_tools {
    ($text:literal) => {
        ""
    };
}

const AFTER_HELP: &str = concat!(
    "First steps:\n",
    with_tools!("  tandem demo                        one call through every part\n"),
    "  tandem serve                       SIP on 127.0.0.1:5060, HTTP on
                                     127.0.0.1:8080, data in ./data
  tandem init                        writes a first tandem.toml; all settings
                                     are in tandem.example.toml
  tandem check                       all errors of tandem.toml, with lines
  tandem doctor                      what this machine lacks, with advice
  tandem serve --config tandem.toml
  tandem dev 5000/voice              gives your application at port 5000 a
                                     number, and shows its calls live
  tandem dev --agent \"You ...\"       a voice agent with this prompt and a
                                     language model of this machine
  tandem speech install              models for speech on this machine
",
    with_tools!("  tandem call 600 --listen           a phone in the terminal\n"),
    with_tools!("  tandem test ivr.toml               tests of an application, in milliseconds\n"),
    "  eval \"$(tandem env)\"               the credentials, as SDKs read them
  tandem calls                       live and recent calls; -f follows them
  tandem show last                   the newest call: errors and timeline
  tandem errors                      the latest errors, with advice
  tandem trace last                  its SIP messages as a ladder diagram
",
    with_tools!(
        "  tandem measure agent 600           how fast a voice agent answers
  tandem proxy --help                use an application without a change
  tandem load --help                 load test of a SIP server
"
    ),
    "
Without --config, commands that ask a running server (calls, show, errors, phones, trunks, numbers, nodes, drain, signature, trace, explain, env",
    with_tools!(", call, measure, ca, proxy"),
    ", check, doctor) read tandem.toml in this directory. If there is none, they read /etc/tandem/tandem.toml, the configuration of
the installed service; run them as root. If a server without a configuration runs in this directory, for example `tandem dev`,
they ask this server. `serve` and `dev` read a file only with --config.

Environment:
  TANDEM_HTTP__LISTEN=127.0.0.1:9090 any setting: TANDEM_ and the key, with
                                     \"__\" instead of dots
  TANDEM_LOG=info,tandem_sip=debug   level of the log: error, warn, info,
                                     debug, trace

Exit codes: 0 success; 1 wrong input (arguments, configuration); 2 a problem of the environment (port in use, database down)."
);

fn main() -> ExitCode {
    // Without this setting, the kernel would use huge pages for the large areas of the allocator, although a call uses
    // only a small part of such a page. If the kernel does not support the setting, the only effect is a higher memory
    // use.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let arguments = match Arguments::try_parse_from(words(std::env::args_os())) {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap would exit with 2. In this program, 2 means a failure of the environment.
            let asked_for = !error.use_stderr();
            let text = error.render().to_string();
            let shown = tandem_cli::paint::harmless_lines(&text);
            let printed = match without_usage(&shown) {
                // The line of usage of the whole program does not help with a value of an option.
                Some(message) => writeln!(std::io::stderr(), "{message}"),
                // A value that could control the terminal is printed without clap's colours.
                None if shown != text => write!(std::io::stderr(), "{shown}"),
                None => error.print(),
            };
            if asked_for {
                tandem_cli::keep_error(printed);
                return tandem_cli::written().map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS);
            }
            return ExitCode::from(Failure::INPUT);
        }
    };
    let outcome = match arguments.command {
        Command::Init(arguments) => init::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Dev(arguments) => dev::run(arguments),
        #[cfg(feature = "tools")]
        Command::Call(arguments) => tandem_tools::call::run(arguments),
        #[cfg(feature = "tools")]
        Command::Test(arguments) => tandem_tools::test::run(arguments),
        Command::Env(arguments) => tandem_cli::env::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        #[cfg(feature = "tools")]
        Command::Demo(arguments) => tandem_tools::demo::run(arguments),
        Command::Calls(arguments) => tandem_cli::calls::run(arguments),
        Command::Show(arguments) => tandem_cli::show::run(arguments),
        Command::Errors(arguments) => tandem_cli::errors::run(arguments),
        Command::Phones(arguments) => tandem_cli::phones::run(arguments),
        Command::Trunks(arguments) => tandem_cli::trunks::run(arguments),
        Command::Numbers(arguments) => tandem_cli::numbers::run(arguments),
        Command::Nodes(arguments) => tandem_cli::nodes::nodes(arguments),
        Command::Drain(arguments) => tandem_cli::nodes::drain(arguments),
        Command::Signature(arguments) => tandem_cli::signature::run(arguments),
        Command::Trace(arguments) => tandem_cli::trace::run(arguments),
        Command::Explain(arguments) => tandem_cli::explain::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Speech(arguments) => tandem_cli::speech::run(arguments),
        Command::Completions(arguments) => completions::completions(arguments),
        Command::Man(arguments) => completions::man(arguments),
        #[cfg(feature = "tools")]
        Command::Measure(arguments) => tandem_tools::measure::run(arguments),
        #[cfg(feature = "tools")]
        Command::Load(arguments) => tandem_tools::load::run(arguments),
        #[cfg(feature = "tools")]
        Command::Ca(arguments) => tandem_tools::ca::run(arguments),
        #[cfg(feature = "tools")]
        Command::Proxy(arguments) => tandem_tools::proxy::run(arguments),
    };
    outcome.and_then(|()| tandem_cli::written()).map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

/// The words of the command line. `tandem help --help` means `tandem help`: clap knows no help about its own command.
fn words(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = given.collect();
    if words.get(1).is_some_and(|word| word == "help") {
        words.retain(|word| word != "--help" && word != "-h");
    }
    words
}

/// Returns the message of an error that shows the usage of the whole program, without this usage.
fn without_usage(text: &str) -> Option<&str> {
    let (message, _) = text.split_once("\nUsage: tandem <COMMAND>\n")?;
    message.starts_with("error: --").then(|| message.trim_end())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    #[cfg(feature = "tools")]
    #[test]
    fn the_error_of_a_wrong_value_has_no_usage_text() {
        let error =
            super::Arguments::try_parse_from(["tandem", "call", "600", "--expect", "problem no"]).err().unwrap();
        let text = error.render().to_string();
        let message = super::without_usage(&text).unwrap();
        assert!(message.starts_with("error: --expect: unknown cause \"no\"") && !message.contains("Usage"), "{text}");
        let error = super::Arguments::try_parse_from(["tandem", "sing"]).err().unwrap();
        assert_eq!(super::without_usage(&error.render().to_string()), None);
    }

    #[test]
    fn the_command_line_definition_is_valid() {
        super::Arguments::command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        let command = super::Arguments::command().term_width(80);
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let help = one.clone().term_width(80).render_long_help().to_string();
            // A word that is longer than the terminal cannot be wrapped.
            let long = help.lines().find(|line| line.chars().count() > 80 && line.trim().contains(' '));
            assert_eq!(long, None, "{}", one.get_name());
            // A remark that begins far to the right is wrapped to a column of single words.
            let indent = |line: &str| line.chars().take_while(|letter| *letter == ' ').count();
            let column = help.lines().find(|line| indent(line) > 50);
            assert_eq!(column, None, "{}", one.get_name());
        }
    }

    #[test]
    fn help_for_the_help_command_is_the_general_help() {
        let help = |given: &[&str]| {
            let words = super::words(given.iter().map(Into::into));
            let error = super::Arguments::try_parse_from(words).err().unwrap();
            assert!(!error.use_stderr(), "{given:?}: {error}");
            error.to_string()
        };
        assert_eq!(help(&["tandem", "help", "--help"]), help(&["tandem", "help"]));
        assert_eq!(help(&["tandem", "help", "-h"]), help(&["tandem", "help"]));
        assert!(help(&["tandem", "help", "check", "--help"]).contains("tandem check"));
    }
}
