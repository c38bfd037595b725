//! The `tandem` command line. Each command has a file in `cli`.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use cli::Failure;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A SIP and RTP server with the APIs, webhooks and media streams of Twilio, Telnyx and SignalWire
#[derive(Parser)]
#[command(name = "tandem", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(cli::serve::Arguments),
    Dev(cli::dev::Arguments),
    Call(cli::call::Arguments),
    Env(cli::env::Arguments),
    Check(cli::check::Arguments),
    Demo(cli::demo::Arguments),
    Calls(cli::calls::Arguments),
    Show(cli::show::Arguments),
    Errors(cli::errors::Arguments),
    Phones(cli::phones::Arguments),
    Trunks(cli::trunks::Arguments),
    Numbers(cli::numbers::Arguments),
    Signature(cli::signature::Arguments),
    Trace(cli::trace::Arguments),
    #[command(hide = true)]
    Doctor(cli::doctor::Arguments),
    Load(cli::load::Arguments),
    Ca(cli::ca::Arguments),
    Proxy(cli::proxy::Arguments),
}

const AFTER_HELP: &str = "\
First steps:
  tandem demo                                  one call through everything, as a timeline
  tandem serve                                 SIP on 127.0.0.1:5060, HTTP on 127.0.0.1:8080, data in ./data
  cp tandem.example.toml tandem.toml           every setting, with its default and unit
  tandem check --config tandem.toml            what is wrong with it, all at once, line by line
  tandem serve --config tandem.toml
  tandem calls                                 live and recent calls; -f goes on with what happens
  tandem show last                             the newest call: what went wrong, what to do, what happened
  tandem errors                                what went wrong lately, with what to do about it
  tandem dev 5000/voice                        a number for your application at port 5000; its calls, live
  tandem call 600                              a phone in the terminal: hear what answers
  eval \"$(tandem env)\"                         its credentials, as the SDKs read them
  tandem trace last --config tandem.toml       the SIP messages of its newest call, as a ladder
  tandem proxy --help                          an application of yours comes here instead of to its provider, as it is
  tandem load --help                           paced calls against a SIP server, both ends counted

Without --config, commands that ask a running server (calls, show, errors, phones, trunks, numbers, signature, trace, env, call,
ca, proxy) read tandem.toml in this directory if there is one. `serve` and `dev` never do: they run with the defaults.

Environment:
  TANDEM_HTTP__LISTEN=127.0.0.1:9090           any setting: TANDEM_ and \"__\" between the steps
  TANDEM_LOG=info,tandem_sip=debug             what is logged to standard error (error, warn, info, debug, trace)

Not yet: doctor.

Exit codes: 0 fine; 1 your input is wrong (arguments, configuration); 2 the environment is (port taken, database down);
3 the command is not there yet.";

fn main() -> ExitCode {
    // Without this, the kernel would back the allocator's large areas with huge pages, of which a call uses only a
    // small part. If the kernel does not support the setting, only the memory use is higher.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap would exit with 2, which in this program means a failure of the environment.
            let asked_for = !error.use_stderr();
            drop(error.print());
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(Failure::INPUT) };
        }
    };
    let outcome = match arguments.command {
        Command::Serve(arguments) => cli::serve::run(arguments),
        Command::Dev(arguments) => cli::dev::run(arguments),
        Command::Call(arguments) => cli::call::run(arguments),
        Command::Env(arguments) => cli::env::run(arguments),
        Command::Check(arguments) => cli::check::run(arguments),
        Command::Demo(arguments) => cli::demo::run(arguments),
        Command::Calls(arguments) => cli::calls::run(arguments),
        Command::Show(arguments) => cli::show::run(arguments),
        Command::Errors(arguments) => cli::errors::run(arguments),
        Command::Phones(arguments) => cli::phones::run(arguments),
        Command::Trunks(arguments) => cli::trunks::run(arguments),
        Command::Numbers(arguments) => cli::numbers::run(arguments),
        Command::Signature(arguments) => cli::signature::run(arguments),
        Command::Trace(arguments) => cli::trace::run(arguments),
        Command::Doctor(arguments) => cli::doctor::run(arguments),
        Command::Load(arguments) => cli::load::run(arguments),
        Command::Ca(arguments) => cli::ca::run(arguments),
        Command::Proxy(arguments) => cli::proxy::run(arguments),
    };
    outcome.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
