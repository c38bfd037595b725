//! The configuration: joins the areas' own `Config` types, reads them from a TOML file and from the environment, and says
//! everything that is wrong at once.
//!
//! ```text
//!   tandem.toml ──┐                                         ┌─► Config
//!                 ├─► Document ──► decode ──► check ────────┤
//!   TANDEM_* ─────┘   (table + where each key was written)  └─► Errors: path, line or variable, what would be right
//! ```
//!
//! Nothing below the binary imports this crate.
#![forbid(unsafe_code)]

mod check;
mod decode;
mod document;
mod error;
mod reload;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tandem_accounts::Account;
use tandem_gateway::GatewaysConfig;
use tandem_http::OriginConfig;
use tandem_routing::number_pool::Block;
use tandem_runtime::agent::AgentConfig;
use tandem_runtime::siprec::SiprecConfig;
use tandem_settings::{
    Application, DatabaseConfig, EndpointConfig, HttpConfig, IceConfig, LogConfig, NumberConfig, RecordingsConfig,
    Secret, StirConfig, StreamsConfig, TrunkConfig, TwilioConfig, WebhooksConfig, WorksBy, provider_of_application,
};
use tandem_speech::SpeechConfig;

pub use error::{Errors, Fault, Origin};

use document::Document;
use reload::Written;

/// All settings. `Default` is what the server runs with when nobody says anything.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where files are kept that no other key places: caches, generated credentials.
    pub data_dir: PathBuf,
    /// How long live calls may go on after SIGTERM. Whole seconds in the file.
    #[serde(deserialize_with = "seconds")]
    pub drain_timeout: Duration,
    /// `[sip]`.
    pub sip: tandem_sip::Config,
    /// `[media]`.
    pub media: tandem_media::Config,
    /// `[http]`.
    pub http: HttpConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// `[database]`.
    pub database: DatabaseConfig,
    /// `[recordings]`.
    pub recordings: RecordingsConfig,
    /// `[webhooks]`.
    pub webhooks: WebhooksConfig,
    /// `[[origins]]`.
    pub origins: Vec<OriginConfig>,
    /// `[streams]`.
    pub streams: StreamsConfig,
    /// `[ice]`.
    pub ice: IceConfig,
    /// `[stir]`.
    pub stir: StirConfig,
    /// `[speech]`.
    pub speech: SpeechConfig,
    /// `[twilio]`.
    pub twilio: TwilioConfig,
    /// `[[accounts]]`.
    pub accounts: Vec<Account>,
    /// `[[trunks]]`.
    pub trunks: Vec<TrunkConfig>,
    /// `[[applications]]`.
    pub applications: Vec<Application>,
    /// `[[numbers]]`.
    pub numbers: Vec<NumberConfig>,
    /// `[[number_pool]]`.
    pub number_pool: Vec<Block>,
    /// `[[agents]]`.
    pub agents: Vec<AgentConfig>,
    /// `[gateways]`.
    pub gateways: GatewaysConfig,
    /// `[[siprec]]`.
    pub siprec: Vec<SiprecConfig>,
    /// `[[endpoints]]`.
    pub endpoints: Vec<EndpointConfig>,
    /// What is right and has no effect yet, a line each, for the operator to read.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// What was written of it.
    #[serde(skip)]
    written: Written,
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
            recordings: RecordingsConfig::default(),
            webhooks: WebhooksConfig::default(),
            origins: Vec::new(),
            streams: StreamsConfig::default(),
            ice: IceConfig::default(),
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
        }
    }
}

impl Config {
    /// Reads `path` (the defaults when `None`), then what the environment overrides, and checks the whole.
    ///
    /// `environment` is all of the process's variables; those that are ours begin with `TANDEM_`, and `__` steps into a
    /// table or an array: `TANDEM_HTTP__LISTEN=127.0.0.1:9090`, `TANDEM_NUMBERS__0__NUMBER=+15551230001`. A value is
    /// TOML, or plain text where text is wanted, or text with commas where a list of text is.
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

    /// The configuration and its notes, or its faults.
    #[cfg(test)]
    fn read(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let (config, faults, notes) = Self::read_all(text, environment)?;
        if faults.is_empty() { Ok((config, notes)) } else { Err(faults) }
    }

    /// The configuration, its faults and its notes; only faults when it is no TOML.
    fn read_all(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Vec<Fault>, Vec<Fault>), Vec<Fault>> {
        let mut document = Document::parse(text)?;
        let mut faults = document.overlay(environment);
        let written = Written::of(&document.table);
        let mut config = decode::decode(&mut document, &mut faults);
        config.written = written;
        config.place_in_data_dir(&document);
        for application in &mut config.applications {
            if application.provider.is_empty() {
                application.provider = provider_of_application(&application.id).into();
            }
            application.works_by = WorksBy::of(&application.provider);
        }
        config.place_media(&document);
        let notes = check::check(&config, &document, &mut faults);
        Ok((config, faults, notes))
    }

    /// Audio goes where SIP does: unless it was said, `[media]` listens on the address of the first SIP socket and says in SDP
    /// what `sip.advertise` says, if that is an address.
    fn place_media(&mut self, document: &Document) {
        let first = self.sip.listen.iter().find_map(|listen| tandem_sip::parse_listen(listen)).map(|(_, at)| at.ip());
        if let Some(listen) = first.filter(|ip| !document.has("media.listen") && !ip.is_loopback()) {
            self.media.listen = listen;
        }
        let advertise = self.sip.advertise.as_deref();
        let address = |text: &str| text.parse::<IpAddr>().or_else(|_| text.parse().map(|at: SocketAddr| at.ip())).ok();
        if let Some(ip) = advertise.and_then(address)
            && self.media.advertise.is_none()
            && !document.has("media.advertise")
            && !self.media.listen.is_loopback()
            && ip.is_ipv4() == self.media.listen.is_ipv4()
        {
            self.media.advertise = Some(ip);
        }
    }

    /// The database and the recordings move with `data_dir` unless they were placed themselves.
    fn place_in_data_dir(&mut self, document: &Document) {
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
