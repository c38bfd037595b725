//! What accounts hold beside what the file gives them: numbers, applications that answer calls, and callers' numbers that were
//! verified. All of it is in the database, and in memory too: a call must not wait to learn whose number it is to.
//!
//! ```text
//!   REST ── put, delete ──► database, then memory ◄── find ── Routing: who decides about a call, whose a number is
//!                                 start ── load ──┘
//! ```
//!
//! What the file says is the floor: a number or an application of the file that was changed is held here under an id that
//! follows from what it is, and what the file says of it holds again once that is deleted.
//!
//! Bounded: an account holds at most [`MOST`] of a kind; more are refused.

mod shelf;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tandem_call::{Callback, Method, Moment, Target};
use tandem_settings::{Application, NumberConfig};
use tandem_store::resources::Resource;
use tandem_store::{Store, StoreError};

pub use self::shelf::{Held, NotHeld, Shelf};

/// Of each kind, that one account may hold.
pub const MOST: usize = 10_000;

/// All that accounts hold. One for the server.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Numbers, by what is dialled.
    pub numbers: Shelf<Number>,
    /// Applications, by their ids as they are spelled.
    pub applications: Shelf<VoiceApplication>,
    /// Verified callers' numbers, by [`Caller::key`].
    pub callers: Shelf<Caller>,
    /// Outbound profiles, by their ids in hexadecimal digits.
    pub profiles: Shelf<OutboundProfile>,
}

impl Holdings {
    /// From the database.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            numbers: Shelf::load(store).await?,
            applications: Shelf::load(store).await?,
            callers: Shelf::load(store).await?,
            profiles: Shelf::load(store).await?,
        })
    }
}

/// A number; its resource's name is what is dialled.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Number {
    /// For people.
    pub friendly_name: String,
    /// Whose words its application speaks.
    pub dialect: String,
    /// Who decides about its calls.
    pub voice: Voice,
    /// Instead of `voice`: an application's id, as it is spelled.
    pub application: Option<String>,
    /// Instead of both: the id of a trunk, as it is spelled.
    pub trunk: Option<String>,
    /// Its calls are recorded from the answer.
    pub record: Option<RecordCalls>,
    /// Its calls go to this number instead, and nobody decides about them.
    pub forwarded_to: Option<String>,
    /// What else its API keeps of it.
    pub other: Map<String, Value>,
}

/// How the calls of a number are recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecordCalls {
    /// Each party on a channel of its own.
    pub dual: bool,
    /// As MP3, not as WAV.
    pub mp3: bool,
}

impl Number {
    /// This, and what the file says where it says nothing of its own.
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

    /// What of it is other than the file says: the rest stays the file's, whatever that says later.
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

/// An application; its resource's name is for people.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VoiceApplication {
    /// Its id, as it is spelled.
    pub id: String,
    /// Whose words it speaks.
    pub dialect: String,
    /// Where it is.
    pub voice: Voice,
    /// It takes and makes no calls.
    pub inactive: bool,
    /// A call to it ends when no command has come after so many seconds.
    pub first_command_within: Option<u32>,
    /// How many calls it may have at the same time.
    pub limits: Limits,
    /// What else its API keeps of it.
    pub other: Map<String, Value>,
}

/// How many calls a connection may have at the same time; as many as it likes where `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// To its numbers.
    pub inbound: Option<u32>,
    /// Of its own.
    pub outbound: Option<u32>,
    /// The outbound profile that its own calls go by.
    pub profile: Option<u128>,
}

/// What calls the connections may make that share it; its resource's name is for people.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboundProfile {
    /// No calls at all.
    pub disabled: bool,
    /// How many at the same time.
    pub most_calls: Option<u32>,
    /// The countries of numbers that may be called, ISO 3166-1 alpha-2.
    pub destinations: Vec<String>,
    /// What else its API keeps of it.
    pub other: Map<String, Value>,
}

impl VoiceApplication {
    /// Whether other accounts may call it from within the server, as its API keeps it.
    pub fn is_open(&self) -> bool {
        self.other.get("public_application_connect_enabled") == Some(&Value::Bool(true))
    }
}

/// A caller's number that somebody at that number has verified; its resource's name is the number.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    /// For people.
    pub friendly_name: String,
}

impl Caller {
    /// What it is found by.
    pub fn key(account: &str, number: &str) -> String {
        format!("{account} {number}")
    }
}

/// Where an application is asked about calls, and told of their ends.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Voice {
    /// The document of a call.
    pub url: Option<Arc<str>>,
    /// How it is asked for.
    pub method: Method,
    /// The document when that fails.
    pub fallback_url: Option<Arc<str>>,
    /// How it is asked for.
    pub fallback_method: Method,
    /// Told when a call has ended.
    pub status_callback: Option<Arc<str>>,
    /// How.
    pub status_callback_method: Method,
    /// How long it may take to answer, seconds; as its dialect says when `None`.
    pub timeout: Option<u8>,
}

impl Voice {
    /// The document of a call.
    pub fn document(&self) -> Option<Target> {
        target(self.url.as_ref(), self.method)
    }

    /// The document when that fails.
    pub fn fallback(&self) -> Option<Target> {
        target(self.fallback_url.as_ref(), self.fallback_method)
    }

    /// Who is told when a call has ended.
    pub fn status(&self) -> Option<Callback> {
        let target = target(self.status_callback.as_ref(), self.status_callback_method)?;
        Some(Callback {
            target,
            failover: None,
            moments: vec![Moment::Completed],
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

impl Held for Number {
    const WORD: &'static str = "number";

    fn key(row: &Resource<Self>) -> String {
        row.name.clone()
    }
}

impl Held for VoiceApplication {
    const WORD: &'static str = "application";

    fn key(row: &Resource<Self>) -> String {
        row.details.id.clone()
    }
}

impl Held for OutboundProfile {
    const WORD: &'static str = "outbound profile";

    fn key(row: &Resource<Self>) -> String {
        format!("{:032x}", row.id)
    }
}

impl Held for Caller {
    const WORD: &'static str = "caller";

    fn key(row: &Resource<Self>) -> String {
        Self::key(&row.account, &row.name)
    }
}

/// The id of a number of the file: the same at every start.
pub fn file_id(account: &str, number: &str) -> u128 {
    let digest = Sha256::digest(format!("number\n{account}\n{number}"));
    digest.iter().take(16).fold(0, |id, octet| id << 8 | u128::from(*octet))
}

/// What the file says, as if it were held. Its dates say that nobody knows when it was made.
pub fn of_the_file<T>(id: u128, account: &str, name: &str, details: T) -> Resource<T> {
    let (created_at, updated_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    Resource { id, created_at, updated_at, ..Resource::new(account, name, details) }
}

/// Whether nobody has changed what the file says of it.
pub fn is_of_the_file<T>(row: &Resource<T>) -> bool {
    row.created_at == Timestamp::UNIX_EPOCH
}

/// The row as it is after a change: one of the file is its account's own from now on.
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
        let caller = |account: &str| Resource::new(account, "+15551230009", Caller::default());
        let holdings = Holdings::default();
        let held = holdings.numbers.put(&store, number("acme")).await.unwrap();
        assert!(matches!(holdings.numbers.put(&store, number("other")).await, Err(NotHeld::Taken)));
        for account in ["acme", "other"] {
            holdings.callers.put(&store, caller(account)).await.unwrap();
            assert!(matches!(holdings.callers.put(&store, caller(account)).await, Err(NotHeld::Taken)));
        }
        let again = Holdings::load(&store).await.unwrap();
        let found = again.numbers.find("+15551230001").unwrap();
        assert_eq!((found.id, &*found.account, &found.details), (held.id, "acme", &held.details));
        assert_eq!(again.callers.find(&Caller::key("other", "+15551230009")).unwrap().account, "other");

        let moved = Resource { account: "other".into(), ..(*found).clone() };
        again.numbers.put(&store, moved).await.unwrap();
        assert!(again.numbers.all("acme").is_empty());
        assert_eq!(again.numbers.all("other").len(), 1);
        assert!(!again.numbers.delete(&store, "acme", held.id).await.unwrap());
        assert!(again.numbers.delete(&store, "other", held.id).await.unwrap());
        assert!(again.numbers.find("+15551230001").is_none());
        assert!(Holdings::load(&store).await.unwrap().numbers.find("+15551230001").is_none());
        again.numbers.put(&store, number("other")).await.unwrap();
    }
}
