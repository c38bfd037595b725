//! The inventory of accounts. The inventory exists in addition to the configuration file. It contains numbers,
//! applications that handle calls, verified caller IDs, and outbound profiles. The inventory is in the database and
//! also in memory, so that a call does not wait for the database to find the owner of a number.
//!
//! ```text
//!   REST ── put, delete ──► database, then memory ◄── find ── Routing: who decides about a call, who owns a number
//!                                 start ── load ──┘
//! ```
//!
//! The configuration file has the base values. If an account changes a number or an application of the file, the change
//! is stored in the inventory as a resource. The id of this resource is derived from the entry in the file. After the
//! deletion of the stored resource, the settings in the file apply again.
//!
//! An account has at most [`MAX_ROWS`] resources of each kind, and at most [`MAX_AGENTS`] voice agents. Further resources are
//! refused.

mod resource_cache;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tandem_call::conversation::AgentSpec;
use tandem_call::route::Decision;
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_host::hash;
use tandem_id::AccountName;
use tandem_settings::{Application, NumberConfig};
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

pub use self::resource_cache::{InventoryError, InventoryItem, ResourceCache};
use crate::agent_program;

/// Maximum number of resources of each kind in one account.
pub const MAX_ROWS: usize = 10_000;
/// Maximum number of stored voice agents in one account. Their definitions are larger than all other resources.
pub const MAX_AGENTS: usize = 200;

/// The inventory of all accounts. The server has one inventory.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Numbers, by the dialled number.
    pub numbers: ResourceCache<Number>,
    /// Applications, by their id in the provider's form.
    pub applications: ResourceCache<VoiceApplication>,
    /// Verified caller IDs, by [`VerifiedCaller::key`].
    pub callers: ResourceCache<VerifiedCaller>,
    /// Outbound profiles, by their id in hex digits.
    pub profiles: ResourceCache<OutboundProfile>,
    /// Voice agents, by their id in the provider's form.
    pub agents: ResourceCache<StoredAgent>,
}

impl Inventory {
    /// Loads the inventory from the database.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            numbers: ResourceCache::load(store).await?,
            applications: ResourceCache::load(store).await?,
            callers: ResourceCache::load(store).await?,
            profiles: ResourceCache::load(store).await?,
            agents: ResourceCache::load(store).await?,
        })
    }

    /// Reads the inventory from the database again, because another node has changed it.
    pub async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        self.numbers.reload(store).await?;
        self.applications.reload(store).await?;
        self.callers.reload(store).await?;
        self.profiles.reload(store).await?;
        self.agents.reload(store).await
    }
}

/// A number. The name of the resource is the dialled number.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Number {
    /// The name that people see.
    pub friendly_name: String,
    /// The dialect of the number's application.
    pub dialect: String,
    /// The URLs of the documents for the number's calls, and the URL that receives the status notices.
    pub voice: Voice,
    /// The id of an application in the provider's form, as an alternative to `voice`.
    pub application: Option<String>,
    /// The id of a customer trunk in the provider's form, as an alternative to `voice` and `application`.
    pub trunk: Option<String>,
    /// The recording settings for the number's calls. The recording starts with the answer. `None` means no recording.
    pub record: Option<RecordCalls>,
    /// The number to which calls are forwarded without a request to an application.
    pub forwarded_to: Option<String>,
    /// Other fields of the provider's API, stored unchanged.
    pub other: Map<String, Value>,
}

/// The recording settings for the calls of a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecordCalls {
    /// Whether each party has a separate channel in the recording.
    pub dual: bool,
    /// Whether the recording is an MP3 file instead of a WAV file.
    pub mp3: bool,
}

impl Number {
    /// Returns this number, with the missing settings taken from the file (`floor`).
    pub fn with_defaults(&self, floor: &Self) -> Self {
        let mut number = self.clone();
        let own = &self.voice;
        if own.url.is_none() && self.application.is_none() && self.trunk.is_none() {
            number.voice = floor.voice.clone();
            number.application.clone_from(&floor.application);
        }
        let voice = if own.status_callback.is_some() { own } else { &floor.voice };
        number.voice.status_callback.clone_from(&voice.status_callback);
        number.voice.status_callback_method = voice.status_callback_method;
        number
    }

    /// Returns only the settings that differ from the settings in the file (`floor`). All other settings continue to
    /// come from the file, even after a change of the file.
    pub fn without(mut self, floor: &Self) -> Self {
        let callback_of = |voice: &Voice| (voice.status_callback.clone(), voice.status_callback_method);
        let (own, its) = (callback_of(&self.voice), callback_of(&floor.voice));
        let (status_callback, status_callback_method) = if own == its { Default::default() } else { own };
        let decides =
            |voice: &Voice| Voice { status_callback: None, status_callback_method: Method::Post, ..voice.clone() };
        if decides(&self.voice) == decides(&floor.voice) && self.application == floor.application {
            (self.voice, self.application) = (Voice::default(), None);
        }
        self.voice = Voice { status_callback, status_callback_method, ..self.voice };
        self
    }
}

/// An application. The name of the resource is the name that people see.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VoiceApplication {
    /// The id in the provider's form.
    pub id: String,
    pub dialect: String,
    /// The URLs of the application.
    pub voice: Voice,
    /// Whether the application is disabled. A disabled application neither receives nor makes calls.
    pub inactive: bool,
    /// Maximum time in seconds until the first command. If no command arrives within this time, a call to the
    /// application ends.
    pub first_command_within: Option<u32>,
    /// The limits on the concurrent calls of the application.
    pub limits: Limits,
    /// Whether other accounts may call the application within the server.
    pub open: bool,
    /// Other fields of the provider's API, stored unchanged.
    pub other: Map<String, Value>,
}

/// The limits on the concurrent calls of a connection. `None` means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Maximum number of concurrent inbound calls to the connection's numbers.
    pub inbound: Option<u32>,
    /// Maximum number of concurrent outbound calls.
    pub outbound: Option<u32>,
    /// The id of the outbound profile for the connection's outbound calls.
    pub profile: Option<u128>,
}

/// An outbound profile: the rules for outbound calls of the connections that use the profile. The name of the resource
/// is the name that people see.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboundProfile {
    /// Whether all outbound calls are refused.
    pub disabled: bool,
    /// Maximum number of concurrent calls of all connections that use the profile.
    pub most_calls: Option<u32>,
    /// The countries whose numbers may be called, as ISO 3166-1 alpha-2 codes.
    pub destinations: Vec<String>,
    /// Other fields of the provider's API, stored unchanged.
    pub other: Map<String, Value>,
}

/// A voice agent that an account has stored by request. The name of the resource is the name that people see.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredAgent {
    /// The id in the provider's form.
    pub id: String,
    /// The name of the agent of the configuration that gives the model. If there is no such agent, the first agent of
    /// the configuration gives the model.
    pub model: String,
    /// BCP 47 tag of the agent's language.
    pub language: Option<String>,
    /// The name that the speech engine uses for the voice.
    pub voice: Option<String>,
    /// Whether the caller can interrupt the agent.
    pub interruptible: Option<bool>,
    /// The definition of the agent in the provider's form.
    pub definition: Map<String, Value>,
}

/// A verified caller ID. A person at this number has confirmed in a call that the account may use the number. The name
/// of the resource is the number.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifiedCaller {
    /// The name that people see.
    pub friendly_name: String,
}

impl VerifiedCaller {
    /// Returns the key of a verified caller ID in the cache.
    pub fn key(account: &AccountName, number: &str) -> String {
        format!("{account} {number}")
    }
}

/// The URLs of an application. The application provides the documents of calls at these URLs, and receives the notice
/// of a call's end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Voice {
    /// The URL of a call's document.
    pub url: Option<Arc<str>>,
    /// The HTTP method of `url`.
    pub method: Method,
    /// The URL of the document if `url` fails.
    pub fallback_url: Option<Arc<str>>,
    /// The HTTP method of `fallback_url`.
    pub fallback_method: Method,
    /// The URL for the notice of a call's end.
    pub status_callback: Option<Arc<str>>,
    /// The HTTP method of `status_callback`.
    pub status_callback_method: Method,
    /// Maximum time in seconds for the response of the application. `None` means the value of the dialect.
    pub timeout: Option<u8>,
    /// The name of the voice agent that answers a call, if there is no `url`.
    pub agent: Option<Arc<str>>,
}

impl Voice {
    /// Returns the target of the request for a call's document.
    pub fn document(&self) -> Option<Target> {
        target(self.url.as_ref(), self.method)
    }

    /// Returns the target of the request for a document, if the first request fails.
    pub fn fallback(&self) -> Option<Target> {
        target(self.fallback_url.as_ref(), self.fallback_method)
    }

    /// Returns the decision for a call that runs the document, or that talks with the agent. Returns `None` if there is
    /// neither.
    pub(crate) fn decision(&self) -> Option<Decision> {
        let talk = |name: &Arc<str>| agent_program(AgentSpec { name: Arc::clone(name), ..AgentSpec::default() });
        match self.document() {
            Some(target) => Some(Decision::Document { target, fallback: self.fallback() }),
            None => self.agent.as_ref().map(talk).map(Decision::Program),
        }
    }

    /// Returns the callback for the notice of a call's end.
    pub fn status(&self) -> Option<Callback> {
        target(self.status_callback.as_ref(), self.status_callback_method).map(completed)
    }
}

pub(crate) fn target(url: Option<&Arc<str>>, method: Method) -> Option<Target> {
    url.map(|url| Target { url: Arc::clone(url), method })
}

/// Returns the callback that is notified of a call's end.
pub(crate) fn completed(target: Target) -> Callback {
    Callback::new(target, vec![StatusEvent::Completed])
}

impl From<&Application> for Voice {
    fn from(application: &Application) -> Self {
        Self {
            url: Some(Arc::clone(&application.webhook_url)),
            method: application.webhook_method,
            fallback_url: application.webhook_failover_url.clone(),
            fallback_method: Method::Post,
            status_callback: application.status_callback.clone(),
            status_callback_method: Method::Post,
            timeout: application.webhook_timeout_secs,
            agent: None,
        }
    }
}

impl From<&NumberConfig> for Voice {
    fn from(number: &NumberConfig) -> Self {
        Self {
            url: number.voice_url.clone(),
            method: number.voice_method,
            fallback_url: number.fallback_url.clone(),
            fallback_method: number.fallback_method,
            status_callback: number.status_callback.clone(),
            status_callback_method: number.status_callback_method,
            timeout: None,
            agent: None,
        }
    }
}

impl InventoryItem for Number {
    const WORD: &'static str = "number";

    fn key(row: &Resource<Self>) -> String {
        row.name.clone()
    }
}

impl InventoryItem for VoiceApplication {
    const WORD: &'static str = "application";

    fn key(row: &Resource<Self>) -> String {
        row.details.id.clone()
    }
}

impl InventoryItem for OutboundProfile {
    const WORD: &'static str = "outbound profile";

    fn key(row: &Resource<Self>) -> String {
        format!("{:032x}", row.id)
    }
}

impl InventoryItem for StoredAgent {
    const WORD: &'static str = "agent";
    const MOST: usize = MAX_AGENTS;

    fn key(row: &Resource<Self>) -> String {
        row.details.id.clone()
    }
}

impl InventoryItem for VerifiedCaller {
    const WORD: &'static str = "caller";

    fn key(row: &Resource<Self>) -> String {
        Self::key(&row.account, &row.name)
    }
}

/// Returns the id of a number in the file. The number has this id after every start.
pub fn file_id(account: &AccountName, number: &str) -> u128 {
    hash::id([&b"number\n"[..], account.as_str().as_bytes(), b"\n", number.as_bytes()])
}

/// Creates a resource for an entry in the file. The times in the year 1970 mark that the resource is not stored.
pub fn of_the_file<T>(id: u128, account: &AccountName, name: &str, details: T) -> Resource<T> {
    let (created_at, updated_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    Resource { id, created_at, updated_at, ..Resource::new(account, name, details) }
}

/// Whether the resource is an unchanged entry in the file.
pub fn is_of_the_file<T>(row: &Resource<T>) -> bool {
    row.created_at == Timestamp::UNIX_EPOCH
}

/// Returns the resource with the times of a change. An entry in the file becomes a stored resource of its account.
pub fn changed<T: Clone>(row: &Resource<T>) -> Resource<T> {
    let now = Timestamp::now();
    let created_at = if is_of_the_file(row) { now } else { row.created_at };
    Resource { created_at, updated_at: now, ..row.clone() }
}

#[cfg(test)]
mod tests {
    use tandem_store::testing::on_each_database;

    use super::*;

    #[test]
    fn a_configured_number_has_a_stable_and_unique_id() {
        let id = file_id(&AccountName::new("acme"), "+15551230001");
        assert_eq!(format!("{id:032x}"), "0e930f797ee83ca792a38291817b31ff");
        assert_ne!(id, file_id(&AccountName::new("acme"), "+15551230002"));
        assert_ne!(id, file_id(&AccountName::new("other"), "+15551230001"));
        assert!(is_of_the_file(&of_the_file(id, &AccountName::new("acme"), "+15551230001", Number::default())));
        assert!(!is_of_the_file(&Resource::new(&AccountName::new("acme"), "+15551230001", Number::default())));
    }

    #[test]
    fn unchanged_settings_of_a_number_follow_the_configuration() {
        let url = |text: &str| Some(Arc::from(text));
        let voice = Voice { url: url("http://file/"), status_callback: url("http://file/status"), ..Voice::default() };
        let floor = Number { voice, ..Number::default() };
        let renamed = Number { friendly_name: "desk".into(), ..floor.clone() };
        let kept = renamed.clone().without(&floor);
        assert_eq!(kept, Number { friendly_name: "desk".into(), ..Number::default() });
        assert_eq!(kept.with_defaults(&floor), renamed);

        let mut moved = floor.clone();
        moved.voice.url = url("http://rest/");
        let kept = moved.clone().without(&floor);
        assert_eq!((kept.voice.url.as_deref(), kept.voice.status_callback.as_deref()), (Some("http://rest/"), None));
        assert_eq!(kept.with_defaults(&floor), moved);

        let mut changed = floor.clone();
        changed.voice.status_callback = url("http://rest/status");
        let kept = changed.clone().without(&floor);
        assert_eq!((kept.voice.url.as_deref(), kept.with_defaults(&floor)), (None, changed));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_number_has_one_owner_and_survives_a_restart() {
        on_each_database(one_holder).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_account_has_at_most_200_voice_agents() {
        on_each_database(many_agents).await;
    }

    async fn many_agents(store: Store) {
        let agent = |account: &str, number: usize| {
            let details = StoredAgent { id: format!("{account}-{number}"), ..StoredAgent::default() };
            Resource::new(&AccountName::new(account), "", details)
        };
        let agents = Inventory::default().agents;
        for number in 0..MAX_AGENTS {
            agents.put(&store, agent("acme", number)).await.unwrap();
        }
        assert!(matches!(agents.put(&store, agent("acme", MAX_AGENTS)).await, Err(InventoryError::Full)));
        // A change is no further agent, and another account has its own limit.
        let first = agents.find("acme-0").unwrap();
        agents.put(&store, changed(&first)).await.unwrap();
        agents.put(&store, agent("other", 0)).await.unwrap();
    }

    #[test]
    fn an_application_without_a_document_can_have_a_voice_agent() {
        let agent = |url: Option<&str>| Voice {
            url: url.map(Arc::from),
            agent: Some("assistant-1".into()),
            ..Voice::default()
        };
        let Some(Decision::Program(program)) = agent(None).decision() else { panic!() };
        assert!(format!("{program:?}").contains("assistant-1"));
        assert!(matches!(agent(Some("http://app/")).decision(), Some(Decision::Document { .. })));
    }

    async fn one_holder(store: Store) {
        let number = |account: &str| {
            let details = Number { friendly_name: account.into(), dialect: "one".into(), ..Number::default() };
            Resource::new(&AccountName::new(account), "+15551230001", details)
        };
        let caller =
            |account: &str| Resource::new(&AccountName::new(account), "+15551230009", VerifiedCaller::default());
        let inventory = Inventory::default();
        let held = inventory.numbers.put(&store, number("acme")).await.unwrap();
        assert!(matches!(inventory.numbers.put(&store, number("other")).await, Err(InventoryError::Taken)));
        for account in ["acme", "other"] {
            inventory.callers.put(&store, caller(account)).await.unwrap();
            assert!(matches!(inventory.callers.put(&store, caller(account)).await, Err(InventoryError::Taken)));
        }
        let again = Inventory::load(&store).await.unwrap();
        let found = again.numbers.find("+15551230001").unwrap();
        assert_eq!((found.id, found.account.as_str(), &found.details), (held.id, "acme", &held.details));
        assert_eq!(
            again.callers.find(&VerifiedCaller::key(&AccountName::new("other"), "+15551230009")).unwrap().account,
            "other"
        );

        let moved = Resource { account: AccountName::new("other"), ..(*found).clone() };
        again.numbers.put(&store, moved).await.unwrap();
        assert!(again.numbers.all(&AccountName::new("acme")).is_empty());
        assert_eq!(again.numbers.all(&AccountName::new("other")).len(), 1);
        assert!(!again.numbers.delete(&store, &AccountName::new("acme"), held.id).await.unwrap());
        assert!(again.numbers.delete(&store, &AccountName::new("other"), held.id).await.unwrap());
        assert!(again.numbers.find("+15551230001").is_none());
        assert!(Inventory::load(&store).await.unwrap().numbers.find("+15551230001").is_none());
        again.numbers.put(&store, number("other")).await.unwrap();
    }
}
