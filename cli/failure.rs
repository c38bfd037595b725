//! The failures of commands and their exit codes.

use std::process::ExitCode;

use crate::paint::harmless_lines;

/// The reason why a command failed. Each kind of failure has an exit code.
pub enum Failure {
    /// The user's input is wrong.
    Input(anyhow::Error),
    /// The machine or the network does not meet the requirements.
    Environment(anyhow::Error),
    /// The user's input is wrong, and the command has printed the reasons itself.
    Reported,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Input(error) | Self::Environment(error) => write!(f, "{error:#}"),
            Self::Reported => Ok(()),
        }
    }
}

impl Failure {
    /// Exit code of [`Failure::Input`] and [`Failure::Reported`].
    pub const INPUT: u8 = 1;
    /// Exit code of [`Failure::Environment`].
    pub const ENVIRONMENT: u8 = 2;

    /// Prints the error to standard error, in a form that cannot control the terminal, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        if !matches!(self, Self::Reported) {
            say_error!("{}", harmless_lines(&self.to_string()));
        }
        ExitCode::from(match self {
            Self::Input(_) | Self::Reported => Self::INPUT,
            Self::Environment(_) => Self::ENVIRONMENT,
        })
    }
}
