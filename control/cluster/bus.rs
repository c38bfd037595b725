//! The bus: NATS. It carries questions to one node, and notes to one node or to all other nodes. Nothing on the bus is the truth: a
//! lost note or an unanswered question costs time, and never a record.
//!
//! ```text
//!   tandem.CLUSTER.EPOCH.QUESTION   to the node with this epoch, which replies
//!   tandem.CLUSTER.EPOCH.NOTE       to the node with this epoch
//!   tandem.CLUSTER.all.NOTE         to all nodes
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;

/// Maximum time for the answer to a question.
pub const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Maximum time for which the sender of a note waits for the queue of the client.
const NOTE_TIME: Duration = Duration::from_millis(100);

/// Maximum time for the answer to a request that changes something. The node may work on it, so an early end of the wait
/// would let the client repeat the change.
pub const CHANGE_TIME: Duration = Duration::from_secs(10);

/// Maximum time for the first connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Maximum number of questions of other nodes that this node answers at the same time. Further questions get no answer,
/// so the asking node reports that this node is busy.
const ANSWERING: usize = 512;

/// Maximum number of octets of a message. NATS refuses messages of more than 1 MiB by default.
pub const MAX_MESSAGE: usize = 900_000;

/// The part of a subject that addresses all nodes.
pub(crate) const TO_ALL: &str = "all";

/// The header with the epoch of the sender.
const SENDER: &str = "Tandem-Node";

/// Handles a message with its octets and the epoch of the sender. Returns the answer to a question.
pub(crate) type Handler = Arc<dyn Fn(Bytes, i64) -> BoxFuture<'static, Option<Bytes>> + Send + Sync>;

/// The reason why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// This server is in no cluster, or has no connection to the bus.
    #[error("the bus of the cluster is away")]
    BusAway,
    /// The node did not answer in time.
    #[error("the node did not answer within {0} s")]
    NoAnswer(u64),
    /// No node listens for the question: the node has ended.
    #[error("the node has ended")]
    NoNode,
    /// The question or its answer has more octets than a message may have.
    #[error("the message has more than {MAX_MESSAGE} octets")]
    TooLarge,
    /// The answer is of another version.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// The numbers of messages since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounts {
    pub sent: u64,
    pub received: u64,
}

pub(crate) struct Bus {
    client: Client,
    shared: Arc<Shared>,
    prefix: String,
    epoch: i64,
}

struct Shared {
    handlers: RwLock<HashMap<&'static str, Handler>>,
    is_connected: Arc<AtomicBool>,
    sent: AtomicU64,
    received: AtomicU64,
    answering: Arc<Semaphore>,
}

impl Bus {
    /// Connects to one of the servers. After the first connection, the client connects again by itself.
    pub(crate) async fn connect(servers: &[String], node: &str, cluster: i64) -> Result<Self, String> {
        let is_connected = Arc::new(AtomicBool::new(true));
        let watched = Arc::clone(&is_connected);
        let options = ConnectOptions::new()
            .name(format!("tandem {node}"))
            .no_echo()
            .connection_timeout(CONNECT_TIME)
            .request_timeout(Some(CHANGE_TIME + ANSWER_TIME))
            // A connection that carries nothing any more is noticed after two unanswered pings.
            .ping_interval(Duration::from_secs(2))
            .reconnect_delay_callback(|attempts| {
                let doubled = Duration::from_millis(100)
                    * 2_u32.saturating_pow(u32::try_from(attempts).unwrap_or(u32::MAX).min(5));
                doubled.min(Duration::from_secs(2))
            })
            .event_callback(move |event| {
                let watched = Arc::clone(&watched);
                async move {
                    match event {
                        Event::Connected => watched.store(true, Ordering::Relaxed),
                        Event::Disconnected | Event::Closed => watched.store(false, Ordering::Relaxed),
                        other => tracing::debug!(event = %other, "bus"),
                    }
                }
            });
        // The client does not use the credentials in the URL.
        let options = match credentials(servers) {
            Some((user, Some(password))) => options.user_and_password(user, password),
            Some((token, None)) => options.token(token),
            None => options,
        };
        let shown = servers.iter().map(|server| without_password(server)).collect::<Vec<_>>().join(", ");
        let connected = tokio::time::timeout(CONNECT_TIME, options.connect(servers.to_vec())).await;
        let client = match connected {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(format!("{shown}: {}", cause(&error))),
            Err(_) => return Err(format!("{shown}: no answer within {} s", CONNECT_TIME.as_secs())),
        };
        let shared = Arc::new(Shared {
            handlers: RwLock::default(),
            is_connected,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            answering: Arc::new(Semaphore::new(ANSWERING)),
        });
        Ok(Self { client, shared, prefix: format!("tandem.{cluster:x}"), epoch: 0 })
    }

    /// Sets the epoch of this node. Messages have it as their sender.
    pub(crate) fn set_epoch(&mut self, epoch: i64) {
        self.epoch = epoch;
    }

    /// Sets the handler of a question or of a note.
    pub(crate) fn handle(&self, name: &'static str, handler: Handler) {
        self.shared.handlers.write().insert(name, handler);
    }

    /// Starts to receive messages.
    pub(crate) async fn listen(&self) -> Result<(), String> {
        for subject in [format!("{}.{}.*", self.prefix, self.epoch), format!("{}.{TO_ALL}.*", self.prefix)] {
            let mut messages = self.client.subscribe(subject).await.map_err(|error| error.to_string())?;
            let (shared, client) = (Arc::clone(&self.shared), self.client.clone());
            // The subscription ends with the client.
            tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    shared.received.fetch_add(1, Ordering::Relaxed);
                    let name = message.subject.rsplit('.').next().unwrap_or_default();
                    let handler = shared.handlers.read().get(name).cloned();
                    let sender =
                        message.headers.as_ref().and_then(|headers| headers.get(SENDER)?.as_str().parse().ok());
                    let (Some(handler), Some(sender)) = (handler, sender) else { continue };
                    // A note is handled here, so notes keep their order. Only the answer to a question has its own task.
                    let Some(reply) = message.reply else {
                        drop(handler(message.payload, sender));
                        continue;
                    };
                    let Ok(place) = Arc::clone(&shared.answering).try_acquire_owned() else { continue };
                    let (shared, client) = (Arc::clone(&shared), client.clone());
                    let answering = handler(message.payload, sender);
                    tokio::spawn(async move {
                        let answer = answering.await;
                        drop(place);
                        if let Some(answer) = answer {
                            shared.sent.fetch_add(1, Ordering::Relaxed);
                            // If the answer is lost, the asking node reports that this node did not answer.
                            let _ = client.publish(reply, answer).await;
                        }
                    });
                }
            });
        }
        Ok(())
    }

    /// Asks a node, and waits for the answer.
    pub(crate) async fn ask(
        &self,
        epoch: i64,
        name: &str,
        question: Bytes,
        within: Duration,
    ) -> Result<Bytes, AskError> {
        if question.len() > MAX_MESSAGE {
            return Err(AskError::TooLarge);
        }
        if !self.is_connected() {
            return Err(AskError::BusAway);
        }
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        let subject = format!("{}.{epoch}.{name}", self.prefix);
        let asked = self.client.request_with_headers(subject, self.headers(), question);
        match tokio::time::timeout(within, asked).await {
            Ok(Ok(answer)) => {
                self.shared.received.fetch_add(1, Ordering::Relaxed);
                Ok(answer.payload)
            }
            Ok(Err(error)) if error.kind() == async_nats::RequestErrorKind::NoResponders => Err(AskError::NoNode),
            Ok(Err(_)) if !self.is_connected() => Err(AskError::BusAway),
            Ok(Err(_)) | Err(_) => Err(AskError::NoAnswer(within.as_secs())),
        }
    }

    /// Sends a note to the node with this epoch, or [`TO_ALL`] other nodes. A note that cannot be sent within 100 ms is not
    /// sent.
    pub(crate) async fn tell(&self, to: &str, name: &str, note: Bytes) -> Result<(), AskError> {
        if note.len() > MAX_MESSAGE {
            return Err(AskError::TooLarge);
        }
        if !self.is_connected() {
            return Err(AskError::BusAway);
        }
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        let subject = format!("{}.{to}.{name}", self.prefix);
        let published = self.client.publish_with_headers(subject, self.headers(), note);
        match tokio::time::timeout(NOTE_TIME, published).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(AskError::BusAway),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.shared.is_connected.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> BusCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        BusCounts { sent: load(&self.shared.sent), received: load(&self.shared.received) }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(SENDER, self.epoch.to_string());
        headers
    }
}

/// Returns the innermost cause of an error: the outer ones say only that there was an error.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Returns the user name and the password of the first server that has them in its URL. A name without a password is a token.
fn credentials(servers: &[String]) -> Option<(String, Option<String>)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    servers.iter().find_map(|server| {
        let address: ServerAddr = server.parse().ok()?;
        let user = address.username().filter(|user| !user.is_empty())?;
        Some((decoded(user), address.password().map(decoded)))
    })
}

/// Returns the URL of a server without its user name and password.
fn without_password(server: &str) -> String {
    match (server.find("://"), server.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}://{}", server.get(..scheme).unwrap_or_default(), server.get(at + 1..).unwrap_or_default())
        }
        _ => server.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_of_the_bus_are_in_the_url_of_a_server() {
        let found = |url: &str| credentials(&[url.to_owned()]);
        assert_eq!(found("nats://tandem:p%40ss@h:4222"), Some(("tandem".to_owned(), Some("p@ss".to_owned()))));
        assert_eq!(found("tls://token@h"), Some(("token".to_owned(), None)));
        assert_eq!(found("nats://h:4222"), None);
    }
}
