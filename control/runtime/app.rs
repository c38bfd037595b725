//! The state that all REST handlers and applications share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use tandem_accounts::{Account, Accounts};
use tandem_audio::stored_media::StoredMedia;
use tandem_history::recordings::Recordings;
use tandem_settings::IceConfig;
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
    /// Requests a reload of the configuration.
    pub reload: Reload,
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

/// A handle for requests to reload the configuration. The task that reads the configuration file receives the requests.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<oneshot::Sender<Reloaded>>);

impl Reload {
    /// Creates a handle and the receiver of the handle's requests.
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<Reloaded>>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Requests a reload and waits until the reload is complete. Returns `None` if no task serves the requests.
    pub async fn ask(&self) -> Option<Reloaded> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.ok()?;
        answer.await.ok()
    }
}
