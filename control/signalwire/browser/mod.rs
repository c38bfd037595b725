//! SignalWire's browser SDK (`@signalwire/js`): JSON-RPC over a WebSocket, with Verto inside. `socket` and `envelope` are of
//! the SDK 3.x (calls of subscribers), `first_socket` and `first_envelope` of the SDK 1.x (`Relay` and `Verto`).
//!
//! ```text
//!   page ── WebSocket ──► socket ──► tandem_pages (verto) ──► the leg of the call
//!                         │    ▲            │
//!                       token  └─ envelope ◄┘
//! ```

mod envelope;
mod first_envelope;
mod first_socket;
mod socket;
pub(crate) mod token;

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use parking_lot::Mutex;
use tandem_host::clock;
use tandem_pages::{Lines, LoginGuard};

pub use self::first_socket::serve as serve_first;
pub use self::socket::serve;

/// Time for which a session without a socket keeps its state.
const KEPT: Duration = Duration::from_secs(60);
/// Maximum number of sessions without a socket. Further ones are forgotten, and their pages must go online again.
const MAX_SESSIONS: usize = 10_000;

/// The state of all pages. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions {
    lines: Lines,
    /// The calls of the pages with `Relay` of the SDK 1.x.
    relay: Lines,
    /// The calls of the pages with `Verto` of the SDK 1.x.
    verto: Lines,
    guard: LoginGuard,
    /// The sessions that were online when they lost their socket, and the time of the loss.
    online: Arc<Mutex<HashMap<Arc<str>, std::time::Instant>>>,
}

impl Sessions {
    /// Notes that an online session has lost its socket.
    fn keep(&self, session: &Arc<str>) {
        let now = clock::now().instant;
        let mut online = self.online.lock();
        if online.len() >= MAX_SESSIONS {
            online.retain(|_, lost| now.duration_since(*lost) < KEPT);
        }
        if online.len() < MAX_SESSIONS {
            online.insert(Arc::clone(session), now);
        }
    }

    /// Returns whether a session was online when it lost its socket, and forgets it.
    fn take(&self, session: &str) -> bool {
        let now = clock::now().instant;
        self.online.lock().remove(session).is_some_and(|lost| now.duration_since(lost) < KEPT)
    }
}
