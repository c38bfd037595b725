//! Tests of the whole server from outside. They use SIP phones with real RTP, web applications and WebSocket
//! applications. All run on loopback, with ports that the system chooses.
//!
//! ```text
//!   Phone (SIP + RTP) ──► TestServer: a server in this process, or Program: the binary ──► App (webhooks, streams)
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests run on the real clock and fail by panicking"
)]

mod app;
mod audio;
mod log;
mod phone;
mod program;
mod test_server;

mod abuse;
mod access;
mod bridge;
mod browser;
mod causes;
mod cluster;
mod cluster_events;
mod cluster_limits;
mod cluster_queues;
mod conferences;
mod console;
mod crash;
mod documents;
mod drain;
mod early_media;
mod environment;
mod floods;
mod hangup;
mod housekeeping;
mod limits;
mod lists;
mod load;
mod machines;
mod monitoring;
mod overload;
mod pages;
mod phone_command;
mod providers;
mod recordings;
mod reload;
mod softphone;
mod speech;
mod streams;
mod terminal;
mod trace;
mod unruly;
