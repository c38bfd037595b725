//! The state shared by all REST handlers, and applications.

use std::sync::Arc;

use http::HeaderMap;
use tandem_accounts::{Account, Accounts};
use tandem_history::recordings::Recordings;
use tokio::sync::{mpsc, oneshot};

use crate::calls::Calls;

/// The shared state of the HTTP interfaces. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The accounts, with their credentials.
    pub accounts: Arc<Accounts>,
    /// The providers' ways to identify the account of a request.
    pub logins: &'static [Login],
    /// Live and ended calls.
    pub calls: Calls,
    /// Recordings and their audio.
    pub recordings: Recordings,
    /// The server's base URL as clients see it, without trailing slash.
    pub public_url: Arc<str>,
    /// Requests a reload of the configuration.
    pub reload: Reload,
}

/// The way in which one provider's requests identify their account.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// Returns the account that the request's credentials belong to. They may be the account's own or those of one of
    /// its keys.
    pub caller: fn(&Accounts, &HeaderMap) -> Option<Arc<Account>>,
    /// Returns the account if the request has the account's own credentials. A key that the account gave away is not
    /// enough.
    pub owner: fn(&Accounts, &HeaderMap) -> Option<Arc<Account>>,
}

impl App {
    /// Returns the account that the request's credentials belong to, in any provider's form.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Arc<Account>> {
        self.logins.iter().find_map(|login| (login.caller)(&self.accounts, headers))
    }

    /// Returns the account if the request has the account's own credentials, in any provider's form. A key is not
    /// enough.
    pub fn owner(&self, headers: &HeaderMap) -> Option<Arc<Account>> {
        self.logins.iter().find_map(|login| (login.owner)(&self.accounts, headers))
    }
}

/// The result of a reload, as lines of text: the settings that hold now, or the reason why nothing has changed.
pub type Reloaded = Result<String, String>;

/// Requests a reload of the configuration from the task that knows its file.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<oneshot::Sender<Reloaded>>);

impl Reload {
    /// A new handle, and the receiver of its requests.
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<Reloaded>>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Waits until the reload is done. `None` if no task serves the requests.
    pub async fn ask(&self) -> Option<Reloaded> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.ok()?;
        answer.await.ok()
    }
}
