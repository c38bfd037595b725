//! What every REST handler is given.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::account::Accounts;
use crate::recordings::Recordings;
use crate::registry::Calls;

/// Shared state of the HTTP surfaces. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Who may log in.
    pub accounts: Arc<Accounts>,
    /// Live and ended calls.
    pub calls: Calls,
    /// Recordings and their audio.
    pub recordings: Recordings,
    /// What callers are told; no trailing slash.
    pub public_url: Arc<str>,
    /// Has the configuration read again.
    pub reload: Reload,
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
