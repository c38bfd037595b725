//! Commands with an id of the application. Any node of a cluster may receive a command that makes something new, and
//! another node its repetition. So these commands are in the database.

use std::time::Duration;

use tandem_runtime::services::Services;
use tandem_store::commands::{self, CommandState};
use tandem_store::{Store, StoreFailed};
use tokio::time::Instant;

/// Interval at which a node looks for the answer of another node.
const LOOK: Duration = Duration::from_millis(100);
/// Maximum time for which a node waits for the answer of another node.
const WAIT: Duration = Duration::from_secs(10);
/// Interval between two attempts to store an answer.
const AGAIN: Duration = Duration::from_millis(500);
/// Maximum time for which the client waits until the answer is stored.
const STORED: Duration = Duration::from_secs(2);

/// A command that this node executes, in the database.
struct Begun {
    store: Store,
    key: String,
    epoch: i64,
}

/// Executes a command, unless another node of the cluster has executed the command with this key within the last minute
/// or executes it now. Then returns the answer of that node. Returns `None` if that node still executes it after
/// 10 s. If the database is away, the command is not executed, because another node may have executed it. A server
/// that is alone executes the command. `execute` returns the answer as a text.
pub async fn once_in_cluster<E: From<StoreFailed>>(
    services: &Services,
    key: String,
    execute: impl Future<Output = Result<String, E>>,
) -> Result<Option<String>, E> {
    let Some(epoch) = services.cluster.epoch() else { return execute.await.map(Some) };
    let (begun, until) = (Begun { store: services.store.clone(), key, epoch }, Instant::now() + WAIT);
    loop {
        match commands::begin(&begun.store, &begun.key, epoch).await.map_err(StoreFailed::from)? {
            CommandState::Begun => return begun.execute(execute).await.map(Some),
            CommandState::Answered(answer) => return Ok(Some(answer)),
            CommandState::Running if Instant::now() >= until => return Ok(None),
            CommandState::Running => tokio::time::sleep(LOOK).await,
        }
    }
}

impl Begun {
    /// Executes the command, and stores its answer for the other nodes. A failed command is forgotten.
    async fn execute<E>(self, execute: impl Future<Output = Result<String, E>>) -> Result<String, E> {
        // If the client goes away, the future of the request is dropped, and the next attempt executes the command.
        let mut unfinished = Unfinished(Some(self));
        let result = execute.await;
        let Some(begun) = unfinished.0.take() else { return result };
        let answer = result.as_ref().ok().cloned();
        let stored = tokio::spawn(async move { begun.end(answer.as_deref()).await });
        // The database may be away now. The client must not wait for it.
        let _ = tokio::time::timeout(STORED, stored).await;
        result
    }

    /// Stores the answer, or forgets the command. Tries it until other nodes do not need it any more.
    async fn end(self, answer: Option<&str>) {
        let Self { store, key, epoch } = &self;
        let until = Instant::now() + commands::KEPT_FOR;
        loop {
            let ended = match answer {
                Some(answer) => commands::finish(store, key, *epoch, answer).await,
                None => commands::abandon(store, key, *epoch).await,
            };
            match ended {
                Ok(()) => break,
                Err(error) if Instant::now() >= until => {
                    return tracing::warn!(%error, "other nodes do not know the answer of a command");
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
        // Each command adds one row, so it is enough that one of 64 removes the old rows.
        if rand::random::<u8>() < 4
            && let Err(error) = commands::prune(store).await
        {
            tracing::warn!(%error, "old commands are not removed");
        }
    }
}

/// A command that is forgotten when this value is dropped.
struct Unfinished(Option<Begun>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(begun) = self.0.take() {
            tokio::spawn(async move { begun.end(None).await });
        }
    }
}
