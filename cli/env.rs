//! `tandem env` prints the credentials of an account as shell commands.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::Value;
use tandem_accounts::{Account, TwilioCredentials};
use tandem_app::Listening;
use tandem_config::Config;
use tandem_id::AccountName;
use tandem_settings::{ApplicationKind, PROVIDERS};
use tandem_telnyx as telnyx;

use super::ask::{Console, escaped};
use super::list::{print, text};
use super::{Failure, Source};

/// Print the credentials of an account as shell commands: eval "$(tandem env)"
///
/// The providers' SDKs read these variables: `TWILIO_ACCOUNT_SID`, `TWILIO_AUTH_TOKEN`, `TELNYX_API_KEY`,
/// `TELNYX_PUBLIC_KEY`, `TELNYX_BASE_URL`, `SIGNALWIRE_PROJECT_ID`, `SIGNALWIRE_API_TOKEN`, `SIGNALWIRE_SPACE` and
/// `SIGNALWIRE_SPACE_URL`. `TELNYX_CONNECTION_ID` is the application that `calls.dial` names. `TANDEM_URL` is the base
/// URL of the APIs. `ACCOUNT_SID` and `AUTH_TOKEN` have the same values as the two Twilio variables. The curl commands
/// in the documentation use these short names.
#[derive(clap::Args)]
pub struct Arguments {
    /// Configuration file of the server (default: tandem.toml in this directory, otherwise /etc/tandem/tandem.toml of the
    /// installed service, otherwise the default settings). If the configuration has no account, the command uses the
    /// account that the server created in `data_dir`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the account (default: the first account)
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Print only the variables of this provider: twilio, telnyx, texml, signalwire or swml
    #[arg(long, value_name = "PROVIDER", value_parser = provider)]
    provider: Option<String>,
}

/// Reads the name of a provider, in upper or lower case.
pub fn provider(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let known = PROVIDERS.contains(&&*name);
    known.then_some(name).ok_or_else(|| format!("the providers are {}", PROVIDERS.join(", ")))
}

/// Prints one `export` line for each variable.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    super::log("error");
    let (config, source) = super::client_config(arguments.config.as_deref())?;
    let accounts = super::accounts(&config, source)?;
    // The output is for a shell, so the note goes to the other stream.
    if source == Source::Installed && std::io::stderr().is_terminal() {
        say_error!("these are the credentials of the server with the configuration {}", super::INSTALLED);
    }
    let named = arguments.account.as_deref();
    let found = accounts.iter().find(|account| named.is_none_or(|name| account.name == name)).ok_or_else(|| {
        let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        Failure::Input(anyhow!("no account {:?}; the accounts are: {}", named.unwrap_or_default(), names.join(", ")))
    })?;
    let provider = arguments.provider.as_deref();
    let application = connection(&config, source, &accounts, &found.name);
    let all = variables(found, &config, application.as_deref());
    let lines: String = all
        .iter()
        .filter(|(name, _)| provider.is_none_or(|provider| belongs(name, provider)))
        .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
        .collect();
    print(&lines);
    Ok(())
}

/// Returns the id of an application of the account that works with commands. The application is in the configuration,
/// or a running server names it, for example the server of `tandem dev`.
fn connection(config: &Config, source: Source, accounts: &[Account], account: &AccountName) -> Option<String> {
    let configured = config.applications.iter();
    let mut own = configured.filter(|one| one.account == *account && one.works_by == ApplicationKind::Commands);
    if let Some(application) = own.next() {
        return Some(application.id.to_string());
    }
    // Without a running server there is nobody to ask.
    Listening::of(&config.data_dir)?;
    let base = format!("http://{}", super::reachable(config.http.listen));
    let console = Console::new(&base, source, accounts, Some(account.as_str())).ok()?;
    let path = format!("/console/numbers?account={}", escaped(account.as_str()));
    let answer = super::block_on(console.json(&path)).ok()?.ok()?;
    let mut numbers = answer.get("numbers").and_then(Value::as_array).into_iter().flatten();
    numbers.find_map(|number| {
        let to = number
            .get("goes_to")
            .filter(|_| ApplicationKind::of(text(number, "provider")) == ApplicationKind::Commands)?;
        Some(text(to, "application").to_owned()).filter(|id| !id.is_empty())
    })
}

/// Returns whether an application of this provider reads the variable.
fn belongs(name: &str, provider: &str) -> bool {
    let prefix = match provider {
        "telnyx" | "texml" => "TELNYX_",
        "signalwire" | "swml" => "SIGNALWIRE_",
        _ => "TWILIO_",
    };
    name.starts_with(prefix) && !(name == "TELNYX_CONNECTION_ID" && provider == "texml")
}

/// Returns the environment variables that an application of this account reads. `connection` is the id of an application
/// that works with commands.
pub(super) fn variables(account: &Account, config: &Config, connection: Option<&str>) -> Vec<(&'static str, String)> {
    let url = config.http.base(super::reachable(config.http.listen)).to_string();
    let mut variables = Vec::new();
    if let Some(TwilioCredentials { account_sid, auth_token, .. }) = &account.twilio {
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
        variables.extend(connection.map(|id| ("TELNYX_CONNECTION_ID", id.to_owned())));
    }
    if let Some(own) = &account.signalwire {
        let space = url.split_once("://").map_or(&*url, |(_, host)| host);
        variables.push(("SIGNALWIRE_PROJECT_ID", own.project_id.clone()));
        variables.push(("SIGNALWIRE_API_TOKEN", own.api_token.clone()));
        variables.push(("SIGNALWIRE_SIGNING_KEY", own.signing_key.clone()));
        // One SDK reads the first name, and another SDK reads the second name.
        variables.push(("SIGNALWIRE_SPACE", space.to_owned()));
        variables.push(("SIGNALWIRE_SPACE_URL", space.to_owned()));
    }
    variables.push(("TANDEM_URL", url));
    variables
}

/// The application for which the first lines of code are shown.
pub struct Sdk<'a> {
    pub provider: &'a str,
    pub account: &'a Account,
    pub config: &'a Config,
    /// The number of the application.
    pub number: &'a str,
    /// The URL of the application, without user name and password.
    pub url: &'a str,
    /// The party that the first lines call.
    pub to: &'a str,
    /// The id of the application, if the provider's applications have one.
    pub application: Option<&'a str>,
}

impl Sdk<'_> {
    /// Returns the environment variables that the SDK of the provider reads.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut all = variables(self.account, self.config, self.application);
        all.retain(|(name, _)| belongs(name, self.provider));
        all
    }

    /// Returns the first lines of a Python program that calls a phone with the SDK of the provider.
    pub fn first_lines(&self) -> Vec<String> {
        let url = self.config.http.base(super::reachable(self.config.http.listen));
        let (number, application) = (self.number, self.application.unwrap_or_default());
        let (to, target) = (self.to, self.url);
        match self.provider {
            "telnyx" => vec![
                "import telnyx  # pip install 'telnyx[webhooks]'".to_owned(),
                "client = telnyx.Telnyx()".to_owned(),
                format!("client.calls.dial(connection_id=\"{application}\", to=\"{to}\", from_=\"{number}\")"),
            ],
            "texml" => vec![
                "import telnyx  # pip install 'telnyx[webhooks]'".to_owned(),
                "client = telnyx.Telnyx()".to_owned(),
                format!(
                    "client.texml.accounts.calls.calls(\"{}\", body={{\"ApplicationSid\": \"{application}\", \"To\": \"{to}\", \
                     \"From\": \"{number}\"}})",
                    telnyx::id::user_id(&self.account.name)
                ),
            ],
            "swml" => vec![
                "from signalwire.rest import RestClient  # pip install signalwire-sdk".to_owned(),
                "client = RestClient()".to_owned(),
                format!("client.calling.dial(from_=\"{number}\", to=\"{to}\", url=\"{target}\")"),
            ],
            provider => {
                let (import, client) = match provider {
                    "signalwire" => (
                        "import os; from signalwire.rest import Client  # pip install signalwire",
                        "client = Client(os.environ[\"SIGNALWIRE_PROJECT_ID\"], os.environ[\"SIGNALWIRE_API_TOKEN\"])",
                    ),
                    _ => ("from twilio.rest import Client  # pip install twilio", "client = Client()"),
                };
                vec![
                    import.to_owned(),
                    client.to_owned(),
                    format!("client.api.base_url = \"{url}\""),
                    format!("client.calls.create(to=\"{to}\", from_=\"{number}\", url=\"{target}\")"),
                ]
            }
        }
    }
}

/// Quotes a value. A POSIX shell reads the quoted value as one word.
pub fn quoted(value: &str) -> String {
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
    fn a_provider_may_be_written_in_upper_case() {
        assert_eq!(provider("SignalWire").as_deref(), Ok("signalwire"));
        assert_eq!(provider("vonage").unwrap_err(), "the providers are twilio, telnyx, texml, signalwire, swml");
    }

    #[test]
    fn every_value_is_quoted_as_one_word_of_a_shell() {
        assert_eq!(quoted("AC0123/+="), "AC0123/+=");
        assert_eq!(quoted("it's $(x)"), r"'it'\''s $(x)'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn each_provider_has_its_variables_and_its_first_lines() {
        let table = "name = \"default\"\n[twilio]\naccount_sid = \"AC1\"\nauth_token = \"t\"\n\
                     [telnyx]\napi_key = \"KEY1\"\nsigning_seed = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n\
                     [signalwire]\nproject_id = \"p\"\napi_token = \"PT\"\nsigning_key = \"PSK\"\n";
        let account: Account = toml::from_str(table).unwrap();
        let config = Config::default();
        let sdk = |provider| Sdk {
            provider,
            account: &account,
            config: &config,
            number: "+15550100001",
            url: "http://127.0.0.1:5000/voice",
            to: "sip:600@127.0.0.1:5060",
            application: Some("17"),
        };
        for (provider, prefix, names, line) in [
            (
                "twilio",
                "TWILIO_",
                "ACCOUNT_SID AUTH_TOKEN",
                "from twilio.rest import Client  # pip install twilio\nclient = Client()",
            ),
            ("telnyx", "TELNYX_", "API_KEY PUBLIC_KEY BASE_URL CONNECTION_ID", "calls.dial(connection_id=\"17\""),
            ("texml", "TELNYX_", "API_KEY PUBLIC_KEY BASE_URL", "\"ApplicationSid\": \"17\""),
            (
                "signalwire",
                "SIGNALWIRE_",
                "PROJECT_ID API_TOKEN SIGNING_KEY SPACE SPACE_URL",
                "from signalwire.rest import Client  # pip install signalwire\nclient = Client(",
            ),
            ("swml", "SIGNALWIRE_", "PROJECT_ID API_TOKEN SIGNING_KEY SPACE SPACE_URL", "RestClient()"),
        ] {
            let expected: Vec<String> = names.split(' ').map(|name| format!("{prefix}{name}")).collect();
            let given: Vec<&str> = sdk(provider).variables().into_iter().map(|(name, _)| name).collect();
            assert_eq!(given, expected, "{provider}");
            let lines = sdk(provider).first_lines().join("\n");
            assert!(
                lines.contains(line) && lines.contains("+15550100001") && lines.contains("sip:600@"),
                "{provider}: {lines}"
            );
        }
        let space = sdk("swml").variables().into_iter().find(|(name, _)| *name == "SIGNALWIRE_SPACE").unwrap().1;
        assert_eq!(space, "127.0.0.1:8080");
    }
}
