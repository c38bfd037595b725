//! Commands for developers and operators who test: `tandem call`, `test`, `demo`, `measure`, `load`, `ca` and `proxy`. The server does not
//! need them: the feature `tools` of the binary includes them.
//!
//! A command has a struct with its arguments, and a function `run` that returns when the command has finished.
#![forbid(unsafe_code)]
// These macros panic if the reader of the output has gone. See `tandem_cli::say!`.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod authority;
pub mod ca;
pub mod call;
pub mod demo;
mod hosts;
pub mod load;
pub mod measure;
pub mod proxy;
pub mod test;
