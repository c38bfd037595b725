//! `tandem env` prints the credentials of an account as shell commands.

use std::path::PathBuf;

use anyhow::anyhow;
use tandem_accounts::{Account, TwilioCredentials};
use tandem_config::Config;
use tandem_telnyx as telnyx;

use super::Failure;

/// Print the credentials of an account as shell commands: eval "$(tandem env)"
///
/// The providers' SDKs read these variables: `TWILIO_ACCOUNT_SID`, `TWILIO_AUTH_TOKEN`, `TELNYX_API_KEY`,
/// `TELNYX_PUBLIC_KEY`, `SIGNALWIRE_PROJECT_ID`, `SIGNALWIRE_API_TOKEN`. `TANDEM_URL` is the base URL of the APIs.
/// `ACCOUNT_SID` and `AUTH_TOKEN` have the same values as the two Twilio variables. The curl commands in the
/// documentation use these short names.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file of the server (default: tandem.toml in this directory, if it exists). If the configuration
    /// has no account, the command uses the account that the server created in ./data
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the account (default: the first account)
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

/// Prints one `export` line for each variable.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (config, source) = super::client_config(arguments.config.as_deref())?;
    let accounts = super::accounts(&config, source)?;
    let named = arguments.account.as_deref();
    let found = accounts.iter().find(|account| named.is_none_or(|name| name == &*account.name)).ok_or_else(|| {
        let names: Vec<&str> = accounts.iter().map(|account| &*account.name).collect();
        Failure::Input(anyhow!("no account {:?}; the accounts are: {}", named.unwrap_or_default(), names.join(", ")))
    })?;
    for (name, value) in variables(found, &config) {
        println!("export {name}={}", quoted(&value));
    }
    Ok(())
}

/// Returns the environment variables that an application of this account reads.
pub(super) fn variables(account: &Account, config: &Config) -> Vec<(&'static str, String)> {
    let url = config.http.base(super::reachable(config.http.listen)).to_string();
    let mut variables = Vec::new();
    if let Some(TwilioCredentials { account_sid, auth_token }) = &account.twilio {
        variables.push(("TWILIO_ACCOUNT_SID", account_sid.clone()));
        variables.push(("TWILIO_AUTH_TOKEN", auth_token.clone()));
        variables.push(("ACCOUNT_SID", account_sid.clone()));
        variables.push(("AUTH_TOKEN", auth_token.clone()));
    }
    if let Some(credentials) = &account.telnyx {
        variables.push(("TELNYX_API_KEY", credentials.api_key.clone()));
        if let Ok(key) = telnyx::sign::public_key(credentials) {
            variables.push(("TELNYX_PUBLIC_KEY", key));
        }
        variables.push(("TELNYX_BASE_URL", format!("{url}/v2")));
    }
    if let Some(own) = &account.signalwire {
        variables.push(("SIGNALWIRE_PROJECT_ID", own.project_id.clone()));
        variables.push(("SIGNALWIRE_API_TOKEN", own.api_token.clone()));
        variables.push(("SIGNALWIRE_SIGNING_KEY", own.signing_key.clone()));
    }
    variables.push(("TANDEM_URL", url));
    variables
}

/// Quotes a value. A POSIX shell reads the quoted value as one word.
pub(super) fn quoted(value: &str) -> String {
    let plain = |one: char| one.is_ascii_alphanumeric() || "+,-./:=@_".contains(one);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_of_a_shell_whatever_it_holds() {
        assert_eq!(quoted("AC0123/+="), "AC0123/+=");
        assert_eq!(quoted("it's $(x)"), r"'it'\''s $(x)'");
        assert_eq!(quoted(""), "''");
    }
}
