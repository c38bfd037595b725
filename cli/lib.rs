//! The commands that ask a running server, each in its own file, and what all commands share: exit codes, output,
//! colours, tables, the configuration and the log.
//!
//! A command has a struct with its arguments, and a function `run` that returns when the command has finished.
#![forbid(unsafe_code)]
// These macros panic if the reader of the output has gone, for example in `tandem calls | true`. See `say!`.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

/// Prints a line to standard output. If the reader has closed the output, nothing is printed, and the exit code of the
/// command stays the same. Any other error, such as a full disk, is the failure of the command ([`written`]).
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {
        $crate::print(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Prints a line to standard error. If the reader has closed the output, nothing is printed.
#[macro_export]
macro_rules! say_error {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        // An error means that nobody reads the output.
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub mod ask;
pub mod calls;
mod config;
pub mod env;
pub mod errors;
pub mod explain;
mod failure;
pub mod list;
mod log_format;
pub mod nodes;
pub mod numbers;
mod output;
pub mod paint;
mod party;
pub mod phones;
mod run;
pub mod show;
pub mod signature;
pub mod speech;
pub mod story;
pub mod table;
pub mod trace;
pub mod trunks;

pub use config::{
    INSTALLED, Source, USUAL, accounts, client_config, config_file, environment, is_installed, load_config,
    local_config, reachable, read_config,
};
pub use failure::Failure;
pub use log_format::start_log;
pub use output::{keep_error, print, written};
pub use run::{block_on, log};
