//! The WebRTC SDK of Telnyx (`@telnyx/webrtc`): Verto with the prefix `telnyx_rtc.`, over a WebSocket.
//!
//! ```text
//!   page ── WebSocket ──► socket ──► tandem_pages (verto) ──► the leg of the call
//!                         │    ▲            │
//!                       login  └─ envelope ◄┘
//! ```

mod envelope;
mod login;
mod socket;

pub(crate) use self::login::{SECRET, token};
pub use self::socket::serve;

use tandem_pages::{Lines, LoginGuard};

/// The state of all pages. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions {
    lines: Lines,
    guard: LoginGuard,
}
