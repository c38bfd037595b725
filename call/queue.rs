//! Queues: legs, of whatever calls, that wait for somebody. A call knows which one its leg waits in and what it hears there; who
//! else waits, and who is next, is the shell's to know.
//!
//! ```text
//!   waits:  EnterQueue ──► Enqueued ──► music, or a document again and again ──► LeaveQueue
//!                                          │  Called by a leg of the same call (the shell has united the two)
//!                                          ▼
//!                                       its whisper ──► joined ──► alone again ──► what follows the wait
//!   takes:  TakeFromQueue ─────────────────┘ (a dial)
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::id::QueueId;

/// How a wait in a queue came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueOutcome {
    /// The queue's name.
    pub name: Arc<str>,
    /// The queue and how long the leg waited in it; `None` if it never did.
    pub waited: Option<(QueueId, Duration)>,
    /// How it came out.
    pub result: QueueResult,
}

/// How a wait in a queue came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueueResult {
    /// Somebody took it, and that is over.
    Bridged,
    /// Somebody was about to when it hung up or was sent elsewhere.
    Bridging,
    /// It left by itself.
    Left,
    /// It was sent elsewhere.
    Redirected,
    /// It was sent elsewhere when it was with somebody who had taken it.
    RedirectedFromBridge,
    /// It hung up.
    Hangup,
    /// Nobody took it for as long as it was to wait.
    TimedOut,
    /// There was no room.
    Full,
    /// The queue could not be had.
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

/// Why a leg cannot wait in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotQueued {
    /// As many wait as may.
    Full,
    /// The account has as many queues as it may.
    TooManyQueues,
}

/// The position and waiting time of a leg in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueStanding {
    /// Id of the queue.
    pub queue: QueueId,
    /// Position in the queue, from 1.
    pub position: usize,
    /// Number of waiting legs.
    pub size: usize,
    /// Maximum number of waiting legs.
    pub most: u32,
    /// Waiting time of this leg.
    pub waited: Duration,
    /// Average waiting time of all waiting legs.
    pub average: Duration,
}
