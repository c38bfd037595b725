//! What every REST handler is given.

use std::sync::Arc;

use http::HeaderMap;
use tandem_accounts::{Account, Accounts};
use tandem_history::recordings::Recordings;
use tokio::sync::{mpsc, oneshot};

use crate::registry::Calls;

/// Shared state of the HTTP surfaces. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Who may log in.
    pub accounts: Arc<Accounts>,
    /// How requests show whose they are.
    pub logins: &'static [Login],
    /// Live and ended calls.
    pub calls: Calls,
    /// Recordings and their audio.
    pub recordings: Recordings,
    /// What callers are told; no trailing slash.
    pub public_url: Arc<str>,
    /// Has the configuration read again.
    pub reload: Reload,
}

/// How one provider's requests show whose they are.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// The account whose credentials, or whose key's, a request shows.
    pub caller: fn(&Accounts, &HeaderMap) -> Option<Arc<Account>>,
    /// The account whose own credentials a request shows; a key that the account gave away is not enough.
    pub owner: fn(&Accounts, &HeaderMap) -> Option<Arc<Account>>,
}

impl App {
    /// The account whose credentials a request shows, in any provider's form.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Arc<Account>> {
        self.logins.iter().find_map(|login| (login.caller)(&self.accounts, headers))
    }

    /// The account whose own credentials a request shows, in any provider's form; a key is not enough.
    pub fn owner(&self, headers: &HeaderMap) -> Option<Arc<Account>> {
        self.logins.iter().find_map(|login| (login.owner)(&self.accounts, headers))
    }
}

/// What came of a reload, in lines: what holds now, or why everything stays as it was.
pub type Reloaded = Result<String, String>;

/// Has the configuration read again by whoever knows where it is.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<oneshot::Sender<Reloaded>>);

impl Reload {
    /// One, and where its wishes arrive.
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<Reloaded>>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Waits for it to be done; `None` when nobody is there to do it.
    pub async fn ask(&self) -> Option<Reloaded> {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.ok()?;
        answer.await.ok()
    }
}
