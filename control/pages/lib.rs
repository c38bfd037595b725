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

mod description;
mod ends;
mod guard;
mod line;
mod page;
mod presence;
mod protocol;
pub mod socket;
pub mod verto;

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::Mutex;
use tandem_clients::User;

use self::ends::Ends;
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

/// The live calls of the pages of one protocol, by token. The limits of calls bound the number. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lines(Arc<Table>);

#[derive(Default)]
struct Table {
    live: Mutex<HashMap<Arc<str>, Arc<Line>>>,
    ends: Ends,
}

impl Lines {
    fn add(&self, line: &Arc<Line>) {
        self.0.live.lock().insert(Arc::clone(line.token()), Arc::clone(line));
    }

    fn ends(&self) -> &Ends {
        &self.0.ends
    }

    fn remove(&self, token: &str) {
        self.0.live.lock().remove(token);
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
