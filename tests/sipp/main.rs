//! Tests of the server with SIPp. The scenarios are our own. Each scenario checks the messages that the server sends to
//! SIPp.
//!
//! ```text
//!   Sipp, calling ──► TestServer: a server in this process ──► Sipp, answering
//! ```
//!
//! The tests in `baresip.rs` use an independent phone instead. Each capability has a file here with its tests. The
//! scenarios are in `scenarios/`. A test fails if a call of SIPp fails. SIPp ends a call at the first message that the
//! scenario does not expect.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests run on the real clock and fail by panicking"
)]

#[allow(dead_code, reason = "shared with the tests of the whole server")]
#[path = "../server/log.rs"]
mod log;
mod sipp;
mod straight;
#[allow(dead_code, reason = "shared with the tests of the whole server")]
#[path = "../server/test_server.rs"]
mod test_server;

mod baresip;
mod bridge;
mod corners;
mod dialogs;
mod domains;
mod dtmf;
mod guard;
mod headers;
mod offers;
mod phones;
mod sdp;
mod siprec;
mod srtp;
mod stir;
mod trace;
mod trunks;
