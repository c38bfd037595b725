//! What every REST handler is given.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::account::Accounts;
use crate::config::WorksBy;
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

/// An application that numbers and outbound calls may belong to.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Telnyx: connection id; Twilio: `AP...`.
    pub id: Arc<str>,
    /// Whose.
    pub account: Arc<str>,
    /// `twilio`, `telnyx`, `texml`, `signalwire`. Empty until the configuration has found it out by the id.
    #[serde(default)]
    pub provider: Arc<str>,
    /// How it decides about its calls; the configuration finds that out by the provider.
    #[serde(skip)]
    pub works_by: WorksBy,
    /// Where its webhooks or document requests go.
    pub webhook_url: Arc<str>,
    /// When that fails.
    #[serde(default)]
    pub webhook_failover_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub webhook_method: Option<String>,
    /// How long it may take to answer a webhook, seconds, 1 to 30 (Telnyx).
    #[serde(default)]
    pub webhook_timeout_secs: Option<u8>,
    /// A call to it ends when no command has come after this time.
    #[serde(skip)]
    pub first_command_within: Option<Duration>,
    /// Told of a call's end (document-driven providers).
    #[serde(default)]
    pub status_callback: Option<Arc<str>>,
}

impl Application {
    /// How long it may take to answer a webhook, if it says so.
    pub fn webhook_timeout(&self) -> Option<Duration> {
        self.webhook_timeout_secs.map(|seconds| Duration::from_secs(seconds.into()))
    }
}
