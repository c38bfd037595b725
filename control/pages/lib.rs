//! Web pages as the far ends of legs, whatever the protocol of their SDK. The crate of a provider reads and writes the
//! frames ([`Protocol`]) and owns the socket; this crate has the calls.
//!
//! ```text
//!   socket ──► Page ──► Line (one call) ──► signals of the leg
//!                         │   ▲
//!              Protocol ◄─┘   └── orders of the leg; a leg that rings at the page
//! ```
//!
//! A call belongs to the user, not to the socket: if the socket is lost, the media goes on, and the page takes up the call
//! over a new socket.
#![forbid(unsafe_code)]

mod guard;
mod line;
mod page;
mod presence;
mod protocol;
pub mod socket;
pub mod verto;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::Mutex;
use tandem_clients::User;
use tandem_host::clock;

pub use self::guard::LoginGuard;
use self::line::NewLine;
pub use self::line::{Line, PageCall};
pub use self::page::{Page, PageSpec};
pub use self::presence::Presence;
pub use self::protocol::{CalledBy, End, Facts, PageOffer, Protocol};

/// Returns a text of a page for addresses, names and log lines: at most 256 characters, without control characters.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// Time for which the frames of an ended call wait for the page.
const KEPT: Duration = Duration::from_secs(60);
/// Maximum number of ended calls whose frames wait. If there are more, the oldest are dropped.
const MAX_MISSED: usize = 1_000;

/// The live calls of the pages of one protocol, by token. The limits of calls bound the number. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lines(Arc<Table>);

#[derive(Default)]
struct Table {
    live: Mutex<HashMap<Arc<str>, Arc<Line>>>,
    missed: Mutex<VecDeque<Missed>>,
}

/// The frames that a page has missed, because its call ended while its socket was lost.
struct Missed {
    at: Instant,
    user: User,
    session: Arc<str>,
    frames: Vec<String>,
}

impl Lines {
    fn add(&self, line: &Arc<Line>) {
        self.0.live.lock().insert(Arc::clone(line.token()), Arc::clone(line));
    }

    fn remove(&self, token: &str) {
        self.0.live.lock().remove(token);
    }

    /// Keeps the frames of an ended call for the page.
    fn keep(&self, user: &User, session: &Arc<str>, frames: Vec<String>) {
        let at = clock::now().instant;
        let mut missed = self.0.missed.lock();
        while missed.front().is_some_and(|first| at.duration_since(first.at) >= KEPT) || missed.len() >= MAX_MISSED {
            missed.pop_front();
        }
        missed.push_back(Missed { at, user: user.clone(), session: Arc::clone(session), frames });
    }

    /// Takes the frames that the page of this session has missed, because its calls ended while its socket was lost.
    fn take_missed(&self, user: &User, session: &str) -> Vec<String> {
        let now = clock::now().instant;
        let mut missed = self.0.missed.lock();
        missed.retain(|one| now.duration_since(one.at) < KEPT);
        let mut frames = Vec::new();
        missed.retain_mut(|one| {
            let is_own = one.user == *user && *one.session == *session;
            if is_own {
                frames.append(&mut one.frames);
            }
            !is_own
        });
        frames
    }

    /// Returns the call with this token.
    pub fn find(&self, token: &str) -> Option<Arc<Line>> {
        self.0.live.lock().get(token).cloned()
    }

    /// Returns the calls of a user.
    pub fn of_user(&self, user: &User) -> Vec<Arc<Line>> {
        self.0.live.lock().values().filter(|line| line.user() == user).cloned().collect()
    }
}
