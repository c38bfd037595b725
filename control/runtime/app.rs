//! The state that all REST handlers and applications share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use tandem_accounts::{Account, Accounts};
use tandem_audio::stored_media::StoredMedia;
use tandem_history::recordings::Recordings;
use tandem_settings::IceConfig;
use tandem_settings::entry::{EntryChange, EntryChanged, EntryList, EntryRefused, ShownEntry};
use tokio::sync::{mpsc, oneshot};

use crate::calls::Calls;

/// The shared state of the HTTP interfaces. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub accounts: Arc<Accounts>,
    /// The logins of all providers. Providers with the same REST paths share one entry.
    pub logins: &'static [Login],
    /// Live and ended calls.
    pub calls: Calls,
    pub recordings: Recordings,
    /// Audio files that accounts have uploaded.
    pub stored_media: Arc<StoredMedia>,
    /// The STUN and TURN servers whose addresses the clients of applications get.
    pub ice: Arc<ArcSwap<IceConfig>>,
    /// The base URL of the server as clients see it, without a trailing slash.
    pub public_url: Arc<str>,
    /// Requests about the configuration.
    pub configuration: Configuration,
}

/// The functions that find the account of a request, for one provider or for providers with the same REST paths.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// Returns the account of the request's credentials. The credentials may be the account's own credentials or one of
    /// its API keys.
    pub caller: fn(&Accounts, &HeaderMap) -> Option<Arc<Account>>,
    /// Returns the account if the request has the account's own credentials. An API key of the account is not
    /// sufficient.
    pub owner: fn(&Accounts, &HeaderMap) -> Option<Arc<Account>>,
}

impl App {
    /// Returns the account of the request's credentials, in the form of any provider.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Arc<Account>> {
        self.logins.iter().find_map(|login| (login.caller)(&self.accounts, headers))
    }

    /// Returns the account if the request has the account's own credentials, in the form of any provider. An API key is
    /// not sufficient.
    pub fn owner(&self, headers: &HeaderMap) -> Option<Arc<Account>> {
        self.logins.iter().find_map(|login| (login.owner)(&self.accounts, headers))
    }
}

/// The result of a reload as lines of text. The lines describe the new settings, or the reason why nothing has changed.
pub type Reloaded = Result<String, String>;

/// A request to the task that owns the configuration.
#[derive(Debug)]
pub enum ConfigRequest {
    /// Reads the configuration file again.
    Reload(oneshot::Sender<Reloaded>),
    /// Reads the entries of the web console again, because another node has changed them. An error is a text.
    ReadEntries(oneshot::Sender<Result<(), String>>),
    /// Makes, changes, removes or checks an entry of the web console.
    Change(Box<EntryChange>, oneshot::Sender<Result<EntryChanged, EntryRefused>>),
    /// Lists the entries of the file and of the web console, in this order. An error says that the database failed.
    Entries(EntryList, oneshot::Sender<Result<Vec<ShownEntry>, String>>),
}

/// A handle for requests about the configuration. One task receives the requests, so changes never overlap.
#[derive(Clone, Debug)]
pub struct Configuration(mpsc::Sender<ConfigRequest>);

impl Configuration {
    /// Creates a handle and the receiver of the handle's requests.
    pub fn new() -> (Self, mpsc::Receiver<ConfigRequest>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Requests a reload and waits until the reload is complete. Returns `None` if no task serves the requests.
    pub async fn reload(&self) -> Option<Reloaded> {
        self.ask(ConfigRequest::Reload).await
    }

    /// Requests that the entries are read again. Returns `None` if no task serves the requests.
    pub async fn read_entries(&self) -> Option<Result<(), String>> {
        self.ask(ConfigRequest::ReadEntries).await
    }

    /// Requests a change of an entry. Returns `None` if no task serves the requests.
    pub async fn change(&self, change: EntryChange) -> Option<Result<EntryChanged, EntryRefused>> {
        self.ask(|reply| ConfigRequest::Change(Box::new(change), reply)).await
    }

    /// Requests the entries of a list. Returns `None` if no task serves the requests.
    pub async fn entries(&self, list: EntryList) -> Option<Result<Vec<ShownEntry>, String>> {
        self.ask(|reply| ConfigRequest::Entries(list, reply)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> ConfigRequest) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}
