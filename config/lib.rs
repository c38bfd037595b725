//! The configuration. This crate joins the `Config` types of the other crates. It reads them from a TOML file and from
//! the environment, and reports all errors at once.
//!
//! ```text
//!   tandem.toml ──┐                                         ┌─► Config
//!                 ├─► Document ──► decode ──► check ────────┤
//!   TANDEM_* ─────┘   (table + where each key was set)      └─► Errors: path, line or variable, what would be valid
//! ```
//!
//! Only the binary imports this crate.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod check;
mod decode;
mod document;
pub mod entries;
mod error;
mod reload;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tandem_accounts::{Account, DEFAULT_ACCOUNT};
use tandem_agent::AgentConfig;
use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::Program;
use tandem_gateway::GatewaysConfig;
use tandem_http::OriginConfig;
use tandem_id::AccountName;
use tandem_markup::Origin as Source;
use tandem_media::Addresses;
use tandem_routing::number_pool::Block;
use tandem_settings::{
    Application, ApplicationKind, ClusterConfig, ConsoleConfig, DatabaseConfig, EndpointConfig, HttpConfig, IceConfig,
    LogConfig, NumberConfig, RecordingsConfig, Secret, StirConfig, StreamsConfig, TrunkConfig, TwilioConfig,
    WebhooksConfig, provider_of_application,
};
use tandem_signalwire::cxml::CXML;
use tandem_siprec::SiprecConfig;
use tandem_speech::SpeechConfig;
use tandem_texml::TEXML;
use tandem_twilio::twiml::TWIML;

pub use error::{Errors, Fault, Origin};

use document::Document;
use entries::Source as ReadFrom;
use reload::Written;

/// All settings. `Default` returns the settings of a server that has no configuration file and no environment
/// variables.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory for files that have no setting for their own place, for example caches and generated credentials.
    pub data_dir: PathBuf,
    /// Maximum time that live calls may continue after SIGTERM. In the file, the value is a whole number of seconds.
    #[serde(deserialize_with = "seconds")]
    pub drain_timeout: Duration,
    /// `[sip]`: SIP sockets, limits, registrar and bans.
    pub sip: tandem_sip::Config,
    /// `[media]`: RTP addresses and ports, codecs, media threads.
    pub media: tandem_media::Config,
    /// `[http]`: sockets and public URL of the HTTP server.
    pub http: HttpConfig,
    /// `[log]`: format and level of the log.
    pub log: LogConfig,
    /// `[database]`: URL of the database, and retention in days.
    pub database: DatabaseConfig,
    /// `[cluster]`: the name of this node, and the bus that joins the nodes.
    pub cluster: ClusterConfig,
    /// `[recordings]`: directory, format and encryption of recordings.
    pub recordings: RecordingsConfig,
    /// `[webhooks]`: allowed networks and TLS settings for requests to applications.
    pub webhooks: WebhooksConfig,
    /// `[[origins]]`: replacements for the origins of application URLs. For a URL with a listed origin, the server
    /// connects to the replacement.
    pub origins: Vec<OriginConfig>,
    /// `[streams]`: limits of WebSocket streams.
    pub streams: StreamsConfig,
    /// `[ice]`: STUN and TURN servers for browsers.
    pub ice: IceConfig,
    /// `[console]`: the users of the web console.
    pub console: ConsoleConfig,
    /// `[stir]`: verification and signing of calling numbers (STIR/SHAKEN).
    pub stir: StirConfig,
    /// `[speech]`: text to speech and speech to text.
    pub speech: SpeechConfig,
    /// `[twilio]`: settings of the Twilio API.
    pub twilio: TwilioConfig,
    /// `[[accounts]]`: accounts and their API credentials.
    pub accounts: Vec<Account>,
    /// `[[trunks]]`: SIP trunks to carriers and PBXs.
    pub trunks: Vec<TrunkConfig>,
    /// `[[applications]]`: webhooks, which numbers and outbound calls use.
    pub applications: Vec<Application>,
    /// `[[numbers]]`: telephone numbers. For each number, a setting decides what happens to a call to this number.
    pub numbers: Vec<NumberConfig>,
    /// `[[number_pool]]`: telephone numbers that an account can get by an API request.
    pub number_pool: Vec<Block>,
    /// `[[agents]]`: voice agents.
    pub agents: Vec<AgentConfig>,
    /// `[gateways]`: interfaces for existing frontends, for which this server is the backend.
    pub gateways: GatewaysConfig,
    /// `[[siprec]]`: recording servers (SIPREC).
    pub siprec: Vec<SiprecConfig>,
    /// `[[endpoints]]`: SIP phones that register.
    pub endpoints: Vec<EndpointConfig>,
    /// One line for each note to the operator. A note is about a setting that is valid but dangerous or without effect.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// The keys that were set. A reload compares them with the keys of the new configuration.
    #[serde(skip)]
    written: Written,
    /// The file and the environment, which the web console joins with its entries.
    #[serde(skip)]
    source: ReadFrom,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            drain_timeout: Duration::from_secs(60),
            sip: tandem_sip::Config::default(),
            media: tandem_media::Config::default(),
            http: HttpConfig::default(),
            log: LogConfig::default(),
            database: DatabaseConfig::default(),
            cluster: ClusterConfig::default(),
            recordings: RecordingsConfig::default(),
            webhooks: WebhooksConfig::default(),
            origins: Vec::new(),
            streams: StreamsConfig::default(),
            ice: IceConfig::default(),
            console: ConsoleConfig::default(),
            stir: StirConfig::default(),
            speech: SpeechConfig::default(),
            twilio: TwilioConfig::default(),
            accounts: Vec::new(),
            trunks: Vec::new(),
            applications: Vec::new(),
            numbers: Vec::new(),
            number_pool: Vec::new(),
            agents: Vec::new(),
            gateways: GatewaysConfig::default(),
            siprec: Vec::new(),
            endpoints: Vec::new(),
            notes: Vec::new(),
            written: Written::default(),
            source: ReadFrom::default(),
        }
    }
}

impl Config {
    /// Reads the file at `path`, applies the environment, and checks the result. If `path` is `None`, the function
    /// starts from the defaults.
    ///
    /// `environment` contains all variables of the process. A variable is a setting if its name begins with `TANDEM_`.
    /// In the name, `__` separates the keys and indexes of a path. Examples are `TANDEM_HTTP__LISTEN=127.0.0.1:9090`
    /// and `TANDEM_NUMBERS__0__NUMBER=+15551230001`. A value is written in TOML. If the key expects text, the value may
    /// also be plain text. If the key expects a list of texts, the value may also be plain text with commas between the
    /// elements.
    pub fn load(path: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Errors> {
        let file = path.map(|path| path.display().to_string());
        let text = match path {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Errors::new(file.clone(), vec![Fault::unreadable(&error.to_string())]))?,
            None => String::new(),
        };
        let read = Self::read_all(&text, environment).map_err(|faults| Errors::new(file.clone(), faults))?;
        let (mut config, faults, notes) = read;
        config.notes = notes.iter().map(|note| note.line(file.as_deref())).collect();
        if faults.is_empty() { Ok(config) } else { Err(Errors::new(file, faults).with_notes(config.notes)) }
    }

    /// Parses the document in the settings of a number by the rules of the number's provider. `None` if the settings
    /// have no document. The document may play `file:` URLs.
    ///
    /// # Errors
    /// The errors of [`tandem_markup::document`]. Every URL in the document must be absolute.
    pub fn inline_document(&self, number: &NumberConfig) -> Option<Result<Program, FetchFailure>> {
        let document = number.twiml.as_deref()?;
        let provider = number.provider.as_deref().unwrap_or_else(|| check::documents(self, &number.account));
        let flavour = match provider {
            "texml" | "telnyx" => &TEXML,
            "signalwire" | "swml" => &CXML,
            _ => &TWIML,
        };
        Some(tandem_markup::document(
            flavour,
            Source { base: None, local_files: true, ..Default::default() },
            document.as_bytes(),
        ))
    }

    /// Returns the configuration with its notes. If there are faults, returns the faults.
    #[cfg(test)]
    fn read(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let (config, faults, notes) = Self::read_all(text, environment)?;
        if faults.is_empty() { Ok((config, notes)) } else { Err(faults) }
    }

    /// Returns the configuration with its faults and its notes. If the text is not valid TOML, returns only faults.
    fn read_all(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Fault>, Vec<Fault>), Vec<Fault>> {
        let mut document = Document::parse(text)?;
        let environment: Vec<_> = environment.into_iter().filter(|(name, _)| name.starts_with("TANDEM_")).collect();
        let source = ReadFrom::new(text, &environment);
        let mut faults = document.overlay(environment);
        let written = Written::of(&document.table);
        let mut config = decode::decode(&mut document, &mut faults);
        (config.written, config.source) = (written, source);
        config.set_data_paths(&document);
        config.complete();
        config.set_media_addresses(&document);
        let notes = check::check(&config, &document, &mut faults);
        Ok((config, faults, notes))
    }

    /// Sets the keys of entries that follow from others.
    fn complete(&mut self) {
        self.set_accounts();
        for application in &mut self.applications {
            if application.provider.is_empty() {
                application.provider = provider_of_application(&application.id).into();
            }
            application.works_by = ApplicationKind::of(&application.provider);
        }
    }

    /// Sets the account of numbers, phones and applications without this key, if there is only one account. Without
    /// `[[accounts]]`, this is the account that the server creates.
    fn set_accounts(&mut self) {
        let only = match self.accounts.as_slice() {
            [] => AccountName::new(DEFAULT_ACCOUNT),
            [one] => one.name.clone(),
            _ => return,
        };
        let numbers = self.numbers.iter_mut().map(|number| &mut number.account);
        let phones = self.endpoints.iter_mut().map(|phone| &mut phone.account);
        let applications = self.applications.iter_mut().map(|application| &mut application.account);
        for account in numbers.chain(phones).chain(applications).filter(|account| account.is_server()) {
            *account = only.clone();
        }
    }

    /// Sets the RTP addresses from the SIP addresses, unless `[media]` sets other addresses. RTP listens on the address
    /// of the first SIP socket of each address family. SDP contains the first IP address of the same family in
    /// `sip.advertise`.
    fn set_media_addresses(&mut self, document: &Document) {
        let sockets = || self.sip.listen.iter().filter_map(|listen| tandem_sip::parse_listen(listen));
        let public = || self.sip.advertise.addresses().iter().filter_map(tandem_sip::Advertised::ip);
        let is_public = |ip: IpAddr| public().any(|public| public.is_ipv4() == ip.is_ipv4());
        if !document.has("media.listen")
            && let Some((_, first)) = sockets().next()
        {
            let mut listen = Addresses::from(first.ip());
            // The wildcard address of another family serves nobody without an address for SDP.
            let other = sockets().map(|(_, at)| at.ip()).find(|ip| ip.is_ipv4() != first.is_ipv4());
            if let Some(other) = other.filter(|ip| !ip.is_unspecified() || is_public(*ip)) {
                listen.add(other);
            }
            self.media.listen = listen;
        }
        let reachable = |ip: &IpAddr| self.media.listen.of_family(*ip).is_some_and(|own| !own.is_loopback());
        if !document.has("media.advertise") {
            let mut advertise = Addresses::default();
            for ip in public().filter(reachable) {
                if advertise.of_family(ip).is_none() {
                    advertise.add(ip);
                }
            }
            if !advertise.is_empty() {
                self.media.advertise = advertise;
            }
        }
    }

    /// Places the database and the recordings in `data_dir`, unless keys set their own places.
    fn set_data_paths(&mut self, document: &Document) {
        let data_dir = self.data_dir.display();
        if !document.has("database.url") {
            self.database.url = Secret::new(&format!("sqlite:{data_dir}/tandem.db"));
        }
        if !document.has("recordings.url") {
            self.recordings.url = format!("file:{data_dir}/recordings").into();
        }
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u32::deserialize(deserializer).map(|seconds| Duration::from_secs(seconds.into()))
}
