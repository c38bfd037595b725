//! `tandem test` tests an application without a phone, without audio and without waiting.
//!
//! ```text
//!   TestFile ─► Test ─► Stage (the call model on a virtual clock) ─► requests to the application, over HTTP
//!                         ▲  └─► log ─► Report (lines, JSON, JUnit)
//!                         └─ Party: the steps of the caller and of each called party
//! ```

mod audio;
mod expectation;
mod facts;
mod file;
mod log;
mod party;
mod report;
mod requests;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use parking_lot::Mutex;
use tandem_accounts::{Account, SignalwireCredentials, TelnyxCredentials, TwilioCredentials};
use tandem_audio::AudioError;
use tandem_call::program::instruction::Program;
use tandem_cli::Failure;
use tandem_config::Config;
use tandem_dialect::Dialects;
use tandem_documents::Turns;
use tandem_http::{Client, NetworkPolicy};
use tandem_markup::Origin;
use tokio::time::Instant;

use file::{Test, TestFile};
use report::{Outcome, Report};
use stage::Stage;

/// Time limit for the connection to an application.
const CONNECT: Duration = Duration::from_secs(5);
/// Maximum size of an audio file, in octets.
const MAX_FILE: usize = 64 * 1024 * 1024;
/// The credentials of the tests, if nothing else says them. They are no secret.
const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
const PROJECT_ID: &str = "00000000-0000-4000-8000-000000000001";
const AUTH_TOKEN: &str = "tandem-test-auth-token";
const SIGNING_SEED: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Test an application with scripted callers, in milliseconds
///
/// The command calls an application as the server does: it requests the documents of the application with signed requests, and
/// runs them. There is no phone and no audio, and the clock of a call is virtual: prompts, pauses and timeouts take no real time.
/// The file has the tests: who calls, and the steps of the caller in the words of `tandem call`. The application must run; no
/// server of Tandem is needed. An application that controls its calls by REST requests needs a server: use `tandem dev` and
/// `tandem call`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Files with tests (TOML)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Run only the tests whose name contains this text
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Address of the application; replaces base_url of the files
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Auth token (SignalWire: signing key) that signs the requests (default: the account of the file, then the variable
    /// TWILIO_AUTH_TOKEN, then the account of the configuration)
    #[arg(long, value_name = "TOKEN")]
    auth_token: Option<String>,
    /// Configuration file of the server, for its first account (default: tandem.toml in this directory, if it exists)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the transcript of every test, not only of failed tests
    #[arg(long, short)]
    verbose: bool,
    /// Only print the names of the tests
    #[arg(long)]
    list: bool,
    /// Print a JSON report to standard output, and the lines to standard error
    #[arg(long)]
    json: bool,
    /// Write a JUnit report, which CI systems read
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Example:
  # ivr.toml
  voice_url = \"http://127.0.0.1:5000/voice\"

  [[tests]]
  name = \"the caller reaches sales\"
  called = { \"+15551230002\" = \"busy\" }
  steps = [
    { expect = 'words:\"for sales, press one\"' },
    { press = 1 },
    { expect = \"dial:+15551230002\" },
    { expect = 'words:\"all lines are busy\"' },
    { expect = \"hangup\" },
  ]

  tandem test ivr.toml
  tandem test ivr.toml --filter sales --verbose
  tandem test tests/*.toml --base-url http://127.0.0.1:8000 --junit report.xml

Exit codes: 0 all tests passed; 1 a test failed or a file is wrong; 2 the application was not reached.

docs/testing.md has all steps, expectations and keys.";

/// Runs the tests, and reports their results.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    tandem_cli::log("error");
    let mut files = Vec::with_capacity(arguments.files.len());
    let mut faults = Vec::new();
    // The names of the tests do not depend on the address.
    let base_url = arguments.base_url.as_deref().or(arguments.list.then_some("http://127.0.0.1"));
    for path in &arguments.files {
        match file::read(path, base_url) {
            Ok(file) => files.push((path.display().to_string(), file)),
            Err(why) => faults.push(why),
        }
    }
    if !faults.is_empty() {
        return Err(Failure::Input(anyhow!("{}", faults.join("\n"))));
    }
    let wanted = |test: &Test| arguments.filter.as_ref().is_none_or(|part| test.name.contains(part.as_str()));
    for (_, file) in &mut files {
        file.tests.retain(wanted);
    }
    if files.iter().all(|(_, file)| file.tests.is_empty()) {
        let part = arguments.filter.unwrap_or_default();
        return Err(Failure::Input(anyhow!("no test has a name with {part:?}; --list shows all names")));
    }
    if arguments.list {
        for test in files.iter().flat_map(|(_, file)| &file.tests) {
            tandem_cli::say!("{}", test.name);
        }
        return Ok(());
    }
    let config = tandem_cli::local_config(arguments.config.as_deref())?;
    tandem_cli::block_on(run_all(&arguments, &config, files))?
}

async fn run_all(arguments: &Arguments, config: &Config, files: Vec<(String, TestFile)>) -> Result<(), Failure> {
    let mut report = Report::new(arguments.json, arguments.verbose);
    for (path, file) in files {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let sources = AccountOf {
            auth_token: arguments.auth_token.clone(),
            file: file.account,
            environment: (variable("TWILIO_ACCOUNT_SID"), variable("TWILIO_AUTH_TOKEN")),
            configured: config.accounts.first().cloned().or_else(|| tandem_app::first_account(&config.data_dir).ok()),
        };
        let account = sources.account().map_err(|why| Failure::Input(anyhow!("{path}: account: {why}")))?;
        let world = World::new(account, config).map_err(|error| Failure::Environment(error.into()))?;
        for test in &file.tests {
            let outcome = world.run(&path, test).await;
            report.add(outcome);
        }
    }
    report.finish(arguments.junit.as_deref())
}

/// The sources of the account that signs the requests, the strongest first.
#[derive(Default)]
struct AccountOf {
    /// The token of the command line.
    auth_token: Option<String>,
    /// The account of the file of tests.
    file: Option<toml::Table>,
    /// The SID and the token of the environment.
    environment: (Option<String>, Option<String>),
    /// The first account of the configuration.
    configured: Option<Account>,
}

impl AccountOf {
    /// Returns the account with credentials for each provider.
    ///
    /// # Errors
    /// Returns a text that says what is wrong with the account of the file.
    fn account(self) -> Result<Account, String> {
        let (sid, token) = self.environment;
        let configured = self.configured.filter(|_| self.file.is_none() && token.is_none());
        let mut table = self.file.unwrap_or_default();
        table.entry("name").or_insert_with(|| "test".into());
        let of_file = toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| {
            let form = "twilio = { account_sid = \"AC...\", auth_token = \"...\" }";
            format!("{}; write the table as in [[accounts]]: {form}", error.message())
        })?;
        let mut account: Account = configured.unwrap_or(of_file);
        let twilio = account.twilio.get_or_insert_with(|| {
            let sid = sid.unwrap_or_else(|| ACCOUNT_SID.to_owned());
            TwilioCredentials::new(sid, token.unwrap_or_else(|| AUTH_TOKEN.to_owned()))
        });
        let signalwire = account.signalwire.get_or_insert_with(|| SignalwireCredentials {
            project_id: PROJECT_ID.to_owned(),
            api_token: AUTH_TOKEN.to_owned(),
            signing_key: AUTH_TOKEN.to_owned(),
        });
        account.telnyx.get_or_insert_with(|| TelnyxCredentials {
            api_key: AUTH_TOKEN.to_owned(),
            signing_seed: SIGNING_SEED.to_owned(),
        });
        if let Some(token) = self.auth_token {
            twilio.auth_token.clone_from(&token);
            signalwire.signing_key = token;
        }
        Ok(account)
    }
}

/// Everything that tests share: the client, the dialects and the credentials.
struct World {
    client: Client,
    dialects: Dialects,
    account: Account,
    turns: Turns,
    /// The address of the server that requests mention, for example for recordings. No server listens there.
    public_url: Arc<str>,
    /// The length of each audio file, or the reason why it cannot be played.
    files: Mutex<HashMap<String, Result<Duration, AudioError>>>,
}

impl World {
    fn new(account: Account, config: &Config) -> std::io::Result<Self> {
        // The developer chooses the addresses, so all networks are permitted.
        let allow_networks = [ipnet::IpNet::V4(Default::default()), ipnet::IpNet::V6(Default::default())].to_vec();
        Ok(Self {
            client: Client::new(NetworkPolicy { allow_networks }, CONNECT)?,
            dialects: tandem_app::dialects(config.webhooks.sign_strip_https_port),
            account,
            turns: Turns::default(),
            public_url: config.http.base(config.http.listen),
            files: Mutex::default(),
        })
    }

    async fn run(&self, path: &str, test: &Test) -> Outcome {
        let began = Instant::now();
        let mut outcome = Outcome::new(path, &test.name);
        let Some(dialect) = self.dialects.get(&test.settings.provider) else {
            outcome.failure = Some(format!("there is no dialect {}", test.settings.provider));
            return outcome;
        };
        let mut stage = Stage::new(self, test, dialect);
        stage.run().await;
        outcome.real = began.elapsed();
        outcome.virtual_time = stage.now;
        outcome.requests = stage.requests;
        outcome.failure = stage.failure;
        outcome.unreachable = stage.unreachable;
        outcome.log = stage.log;
        let refused = stage.problems.iter().any(|problem| problem.cause == "answered-403");
        if let (Some(failure), true, Some(twilio)) = (&mut outcome.failure, refused, &self.account.twilio) {
            let hint = format!(
                "; the requests of this test were signed with the auth token of {}: --auth-token sets another one",
                twilio.account_sid
            );
            failure.push_str(&hint);
        }
        outcome
    }

    /// Reads a document that is part of a test.
    fn document(&self, provider: &str, text: &str) -> Result<Program, String> {
        let flavour = match provider {
            "texml" => &tandem_texml::markup::TEXML,
            "signalwire" | "swml" => &tandem_signalwire::cxml::CXML,
            _ => &tandem_twilio::twiml::TWIML,
        };
        let origin = Origin { base: None, local_files: false, ..Default::default() };
        tandem_markup::document(flavour, origin, text.as_bytes()).map_err(|failure| failure.detail)
    }

    /// Fetches an audio file, and returns its length. A file is fetched once.
    async fn file(&self, url: &str) -> Result<Duration, AudioError> {
        if let Some(known) = self.files.lock().get(url) {
            return known.clone();
        }
        let fetched = match tandem_audio::file(&self.client, url, MAX_FILE).await {
            Ok((octets, content_type)) => tandem_media::decode(&octets, content_type.as_deref())
                .map(|audio| audio.duration())
                .map_err(|error| AudioError::Unusable(format!("{url}: {error}"))),
            Err(error) => Err(error),
        };
        self.files.lock().insert(url.to_owned(), fetched.clone());
        fetched
    }
}
