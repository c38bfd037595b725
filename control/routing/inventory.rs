//! The inventory of accounts beside the configuration file: numbers, applications that answer calls, verified caller
//! ids and outbound profiles. It is in the database and also in memory, as a call must not wait to find the owner of a
//! number.
//!
//! ```text
//!   REST ── put, delete ──► database, then memory ◄── find ── Routing: who decides about a call, who owns a number
//!                                 start ── load ──┘
//! ```
//!
//! The configuration file is the base. A changed number or application of the file is stored here under an id that is
//! derived from the entry. When it is deleted, the file's settings apply again.
//!
//! Bounded: an account has at most [`MOST`] of each kind; more are refused.

mod resource_cache;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tandem_call::{Callback, Method, StatusEvent, Target};
use tandem_settings::{Application, NumberConfig};
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

pub use self::resource_cache::{InventoryError, InventoryItem, ResourceCache};

/// Maximum number of each kind in one account.
pub const MOST: usize = 10_000;

/// The inventory of all accounts. The server has one.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Numbers, by the dialled number.
    pub numbers: ResourceCache<Number>,
    /// Applications, by id in the provider's form.
    pub applications: ResourceCache<VoiceApplication>,
    /// Verified caller ids, by [`VerifiedCaller::key`].
    pub callers: ResourceCache<VerifiedCaller>,
    /// Outbound profiles, by id in hex digits.
    pub profiles: ResourceCache<OutboundProfile>,
}

impl Inventory {
    /// Loads the inventory from the database.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            numbers: ResourceCache::load(store).await?,
            applications: ResourceCache::load(store).await?,
            callers: ResourceCache::load(store).await?,
            profiles: ResourceCache::load(store).await?,
        })
    }
}

/// A number. The name of its resource is the dialled number.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Number {
    /// The name shown to people.
    pub friendly_name: String,
    /// The dialect of its application.
    pub dialect: String,
    /// The URLs that decide about its calls.
    pub voice: Voice,
    /// The id of an application in the provider's form, instead of `voice`.
    pub application: Option<String>,
    /// The id of a trunk in the provider's form, instead of `voice` and `application`.
    pub trunk: Option<String>,
    /// Whether and how its calls are recorded from the answer on.
    pub record: Option<RecordCalls>,
    /// The number to which its calls are forwarded without asking an application.
    pub forwarded_to: Option<String>,
    /// Other fields of the provider's API, stored unchanged.
    pub other: Map<String, Value>,
}

/// How the calls of a number are recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecordCalls {
    /// Whether each party has a channel of its own.
    pub dual: bool,
    /// Whether the recording is an MP3 file instead of a WAV file.
    pub mp3: bool,
}

impl Number {
    /// Returns this number with the file's settings where it has none of its own.
    pub fn over(&self, floor: &Self) -> Self {
        let mut number = self.clone();
        let own = &self.voice;
        if own.url.is_none() && self.application.is_none() && self.trunk.is_none() {
            number.voice = floor.voice.clone();
            number.application.clone_from(&floor.application);
        }
        let told = if own.status_callback.is_some() { own } else { &floor.voice };
        number.voice.status_callback.clone_from(&told.status_callback);
        number.voice.status_callback_method = told.status_callback_method;
        number
    }

    /// Returns only the settings that differ from the file's. The others remain those of the file, even when the file
    /// changes.
    pub fn without(mut self, floor: &Self) -> Self {
        let told = |voice: &Voice| (voice.status_callback.clone(), voice.status_callback_method);
        let (own, its) = (told(&self.voice), told(&floor.voice));
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

/// An application. The name of its resource is the name shown to people.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VoiceApplication {
    /// The id in the provider's form.
    pub id: String,
    /// The dialect of the application.
    pub dialect: String,
    /// The URLs of the application.
    pub voice: Voice,
    /// Whether it is disabled: it neither receives nor makes calls.
    pub inactive: bool,
    /// Seconds after which a call to it ends if no command has arrived.
    pub first_command_within: Option<u32>,
    /// The limits on its simultaneous calls.
    pub limits: Limits,
    /// Other fields of the provider's API, stored unchanged.
    pub other: Map<String, Value>,
}

/// The limits on the simultaneous calls of a connection; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Maximum number of calls to its numbers.
    pub inbound: Option<u32>,
    /// Maximum number of outbound calls.
    pub outbound: Option<u32>,
    /// The outbound profile of its outbound calls.
    pub profile: Option<u128>,
}

/// An outbound profile: the rules for outbound calls of the connections that share it. The name of its resource is the
/// name shown to people.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboundProfile {
    /// Whether all outbound calls are refused.
    pub disabled: bool,
    /// Maximum number of simultaneous calls.
    pub most_calls: Option<u32>,
    /// The countries whose numbers may be called, as ISO 3166-1 alpha-2 codes.
    pub destinations: Vec<String>,
    /// Other fields of the provider's API, stored unchanged.
    pub other: Map<String, Value>,
}

impl VoiceApplication {
    /// Whether other accounts may call it within the server, a field of the provider's API.
    pub fn is_open(&self) -> bool {
        self.other.get("public_application_connect_enabled") == Some(&Value::Bool(true))
    }
}

/// A verified caller id: a person at this number has confirmed it in a call. The name of its resource is the number.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifiedCaller {
    /// The name shown to people.
    pub friendly_name: String,
}

impl VerifiedCaller {
    /// The key under which a caller id is found.
    pub fn key(account: &str, number: &str) -> String {
        format!("{account} {number}")
    }
}

/// The URLs at which an application is asked about calls and told of their end.
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
    /// The URL of the notice about a call's end.
    pub status_callback: Option<Arc<str>>,
    /// The HTTP method of `status_callback`.
    pub status_callback_method: Method,
    /// Seconds within which the application must answer; the dialect's value when `None`.
    pub timeout: Option<u8>,
}

impl Voice {
    /// The target of a call's document.
    pub fn document(&self) -> Option<Target> {
        target(self.url.as_ref(), self.method)
    }

    /// The target of the document if the first one fails.
    pub fn fallback(&self) -> Option<Target> {
        target(self.fallback_url.as_ref(), self.fallback_method)
    }

    /// The callback about a call's end.
    pub fn status(&self) -> Option<Callback> {
        let target = target(self.status_callback.as_ref(), self.status_callback_method)?;
        Some(Callback {
            target,
            failover: None,
            moments: vec![StatusEvent::Completed],
            elsewhere: Vec::new(),
            timeout: None,
        })
    }
}

fn target(url: Option<&Arc<str>>, method: Method) -> Option<Target> {
    url.map(|url| Target { url: Arc::clone(url), method })
}

impl From<&Application> for Voice {
    fn from(application: &Application) -> Self {
        let get = application.webhook_method.as_deref().is_some_and(|method| method.eq_ignore_ascii_case("GET"));
        Self {
            url: Some(Arc::clone(&application.webhook_url)),
            method: if get { Method::Get } else { Method::Post },
            fallback_url: application.webhook_failover_url.clone(),
            fallback_method: Method::Post,
            status_callback: application.status_callback.clone(),
            status_callback_method: Method::Post,
            timeout: application.webhook_timeout_secs,
        }
    }
}

impl From<&NumberConfig> for Voice {
    fn from(number: &NumberConfig) -> Self {
        Self {
            url: number.voice_url.clone(),
            method: number.voice_method.into(),
            fallback_url: number.fallback_url.clone(),
            fallback_method: number.fallback_method.into(),
            status_callback: number.status_callback.clone(),
            status_callback_method: number.status_callback_method.into(),
            timeout: None,
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

impl InventoryItem for VerifiedCaller {
    const WORD: &'static str = "caller";

    fn key(row: &Resource<Self>) -> String {
        Self::key(&row.account, &row.name)
    }
}

/// The id of a number of the file, the same at each start.
pub fn file_id(account: &str, number: &str) -> u128 {
    let digest = Sha256::digest(format!("number\n{account}\n{number}"));
    digest.iter().take(16).fold(0, |id, octet| id << 8 | u128::from(*octet))
}

/// A resource for an entry of the file. The date 1970 marks that it is not stored.
pub fn of_the_file<T>(id: u128, account: &str, name: &str, details: T) -> Resource<T> {
    let (created_at, updated_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    Resource { id, created_at, updated_at, ..Resource::new(account, name, details) }
}

/// Whether the resource is an unchanged entry of the file.
pub fn is_of_the_file<T>(row: &Resource<T>) -> bool {
    row.created_at == Timestamp::UNIX_EPOCH
}

/// The resource after a change. An entry of the file becomes a stored resource of its account.
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
    fn a_number_of_the_file_has_one_id_for_ever_and_no_other_has_it() {
        let id = file_id("acme", "+15551230001");
        assert_eq!(format!("{id:032x}"), "0e930f797ee83ca792a38291817b31ff");
        assert_ne!(id, file_id("acme", "+15551230002"));
        assert_ne!(id, file_id("other", "+15551230001"));
        assert!(is_of_the_file(&of_the_file(id, "acme", "+15551230001", Number::default())));
        assert!(!is_of_the_file(&Resource::new("acme", "+15551230001", Number::default())));
    }

    #[test]
    fn what_was_not_changed_of_a_number_stays_the_files() {
        let url = |text: &str| Some(Arc::from(text));
        let voice = Voice { url: url("http://file/"), status_callback: url("http://file/status"), ..Voice::default() };
        let floor = Number { voice, ..Number::default() };
        let renamed = Number { friendly_name: "desk".into(), ..floor.clone() };
        let kept = renamed.clone().without(&floor);
        assert_eq!(kept, Number { friendly_name: "desk".into(), ..Number::default() });
        assert_eq!(kept.over(&floor), renamed);

        let mut moved = floor.clone();
        moved.voice.url = url("http://rest/");
        let kept = moved.clone().without(&floor);
        assert_eq!((kept.voice.url.as_deref(), kept.voice.status_callback.as_deref()), (Some("http://rest/"), None));
        assert_eq!(kept.over(&floor), moved);

        let mut told = floor.clone();
        told.voice.status_callback = url("http://rest/status");
        let kept = told.clone().without(&floor);
        assert_eq!((kept.voice.url.as_deref(), kept.over(&floor)), (None, told));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_number_has_one_holder_and_is_found_after_a_restart() {
        on_each_database(one_holder).await;
    }

    async fn one_holder(store: Store) {
        let number = |account: &str| {
            let details = Number { friendly_name: account.into(), dialect: "one".into(), ..Number::default() };
            Resource::new(account, "+15551230001", details)
        };
        let caller = |account: &str| Resource::new(account, "+15551230009", VerifiedCaller::default());
        let holdings = Inventory::default();
        let held = holdings.numbers.put(&store, number("acme")).await.unwrap();
        assert!(matches!(holdings.numbers.put(&store, number("other")).await, Err(InventoryError::Taken)));
        for account in ["acme", "other"] {
            holdings.callers.put(&store, caller(account)).await.unwrap();
            assert!(matches!(holdings.callers.put(&store, caller(account)).await, Err(InventoryError::Taken)));
        }
        let again = Inventory::load(&store).await.unwrap();
        let found = again.numbers.find("+15551230001").unwrap();
        assert_eq!((found.id, &*found.account, &found.details), (held.id, "acme", &held.details));
        assert_eq!(again.callers.find(&VerifiedCaller::key("other", "+15551230009")).unwrap().account, "other");

        let moved = Resource { account: "other".into(), ..(*found).clone() };
        again.numbers.put(&store, moved).await.unwrap();
        assert!(again.numbers.all("acme").is_empty());
        assert_eq!(again.numbers.all("other").len(), 1);
        assert!(!again.numbers.delete(&store, "acme", held.id).await.unwrap());
        assert!(again.numbers.delete(&store, "other", held.id).await.unwrap());
        assert!(again.numbers.find("+15551230001").is_none());
        assert!(Inventory::load(&store).await.unwrap().numbers.find("+15551230001").is_none());
        again.numbers.put(&store, number("other")).await.unwrap();
    }
}
