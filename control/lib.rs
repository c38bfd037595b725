//! The shell: everything asynchronous and everything provider-shaped. One task per call drives the pure `Call` and performs
//! what it asks for.
#![forbid(unsafe_code)]

pub mod account;
pub mod app;
pub mod audio;
pub mod bans;
pub mod call_task;
pub mod clock;
pub mod conferences;
pub mod config;
pub mod console;
pub mod counters;
pub mod current;
pub mod dialect;
pub mod directory;
pub mod document;
pub mod event_log;
pub mod http;
pub mod inbox;
pub mod keys;
pub mod leg;
pub mod listener;
mod machine;
pub mod markup;
pub mod new_call;
pub mod notify;
pub mod phones;
pub mod quality;
pub mod query;
mod reason;
pub mod recordings;
pub mod records;
pub mod recovery;
mod redirect;
pub mod registry;
pub mod routing;
pub mod server;
pub mod services;
mod sip_websocket;
pub mod speech;
pub mod stir;
pub mod store;
pub mod stream;
mod tls;
pub mod trace;
pub mod trunk;
pub mod webhook;
