//! Queues: legs of different calls wait for an agent. A call knows only the queue in which its own leg waits, and the
//! wait audio of this leg. A call does not know which legs of other calls wait in the queue. The server manages the
//! order of a queue outside this crate.
//!
//! ```text
//!   waits:  EnterQueue ──► Enqueued ──► music, or a document in a loop ──► LeaveQueue
//!                                          │  Called by a leg of the same call (the two calls have been merged)
//!                                          ▼
//!                                       its whisper ──► bridged ──► bridge ends ──► what follows the wait
//!   takes:  DequeueFirst ─────────────────┘ (a dial)
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use tandem_id::QueueId;

/// Result of a leg's wait in a queue, with the queue and the waiting time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueOutcome {
    /// The name of the queue.
    pub name: Arc<str>,
    /// Id of the queue, and the leg's waiting time in the queue. `None` if the leg never entered the queue.
    pub waited: Option<(QueueId, Duration)>,
    /// Result of the wait.
    pub result: QueueResult,
}

/// Result of a leg's wait in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum QueueResult {
    /// The leg was bridged with an agent, and this bridge has ended.
    Bridged,
    /// The leg hung up or was redirected while it was being connected to an agent.
    Bridging,
    /// An instruction or a request took the leg out of the queue.
    Left,
    /// The leg was redirected while it waited.
    Redirected,
    /// The leg was redirected while it was bridged with an agent.
    RedirectedFromBridge,
    /// The leg hung up while it waited.
    Hangup,
    /// The maximum waiting time passed.
    TimedOut,
    /// The queue had its maximum number of waiting legs.
    Full,
    /// The queue could not be created or reached.
    Failed,
}

impl fmt::Display for QueueResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridged => "taken",
            Self::Bridging => "gone when it was about to be taken",
            Self::Left => "left",
            Self::Redirected => "sent elsewhere",
            Self::RedirectedFromBridge => "taken, then sent elsewhere",
            Self::Hangup => "hung up",
            Self::TimedOut => "nobody took it in the time given",
            Self::Full => "the queue is full",
            Self::Failed => "failed",
        })
    }
}

/// The reason why a leg cannot enter a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NotQueued {
    /// The queue already has its maximum number of waiting legs.
    Full,
    /// The account already has its maximum number of queues.
    TooManyQueues,
    /// In a cluster: the node of the queue, or the database that knows this node, did not answer.
    NoOwner,
}

/// The position and waiting time of a leg in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueuePosition {
    /// Id of the queue.
    pub queue: QueueId,
    /// Position of the leg in the queue; 1 is the first.
    pub position: usize,
    /// Number of legs that wait in the queue.
    pub size: usize,
    /// Maximum number of legs that may wait in the queue.
    pub max_size: u32,
    /// Waiting time of this leg.
    pub waited: Duration,
    /// Average waiting time of all waiting legs.
    pub average: Duration,
}
