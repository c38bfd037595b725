//! The failures of commands and their exit codes.

use std::process::ExitCode;

/// The reason why a command failed. Each kind of failure has an exit code.
pub enum Failure {
    /// The user's input is wrong.
    Input(anyhow::Error),
    /// The machine or the network does not meet the requirements.
    Environment(anyhow::Error),
    /// The command is not implemented yet.
    NotYet(anyhow::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error())
    }
}

impl Failure {
    /// Exit code of [`Failure::Input`].
    pub const INPUT: u8 = 1;
    /// Exit code of [`Failure::Environment`].
    pub const ENVIRONMENT: u8 = 2;
    /// Exit code of [`Failure::NotYet`].
    pub const NOT_YET: u8 = 3;

    /// Returns the failure for a command that is not implemented yet.
    pub fn not_yet(command: &str, what: &str) -> Self {
        Self::NotYet(anyhow::anyhow!("`tandem {command}` is not implemented yet; it will {what}"))
    }

    fn error(&self) -> &anyhow::Error {
        let (Self::Input(error) | Self::Environment(error) | Self::NotYet(error)) = self;
        error
    }

    /// Prints the error to standard error and returns the exit code.
    pub fn report(&self) -> ExitCode {
        say_error!("{self}");
        ExitCode::from(match self {
            Self::Input(_) => Self::INPUT,
            Self::Environment(_) => Self::ENVIRONMENT,
            Self::NotYet(_) => Self::NOT_YET,
        })
    }
}
