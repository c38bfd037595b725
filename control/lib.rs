//! The shell: everything asynchronous and everything provider-shaped. One task per call drives the pure `Call` and performs
//! what it asks for.
#![forbid(unsafe_code)]

pub mod account;
pub mod advice;
pub mod app;
pub mod audio;
pub mod bans;
pub mod call_task;
pub mod cause;
pub mod channels;
pub mod clock;
pub mod conferences;
pub mod config;
pub mod console;
pub mod conversation;
pub mod counters;
pub mod country;
pub mod current;
pub mod dialect;
pub mod directory;
pub mod document;
pub mod ears;
pub mod event_log;
pub mod exchange;
pub mod feed;
pub mod followers;
pub mod holdings;
pub mod http;
pub mod inbox;
pub mod keys;
pub mod leg;
pub mod listener;
mod local;
pub mod log_filter;
mod machine;
pub mod markup;
pub mod new_call;
pub mod notify;
pub mod number_pool;
pub mod numbers;
pub mod pbx;
pub mod phones;
pub mod quality;
pub mod query;
pub mod queues;
mod reason;
pub mod recordings;
pub mod records;
pub mod recovery;
mod redirect;
pub mod refusals;
pub mod registry;
pub mod report;
pub mod routing;
pub mod server;
pub mod services;
mod sip_websocket;
pub mod siprec;
pub mod speech;
pub mod stir;
pub mod store;
pub mod stored_media;
pub mod stream;
mod tls;
pub mod trace;
pub mod transcripts;
pub mod trouble;
pub mod trunk;
pub mod turns;
pub mod usage;
pub mod verification;
pub mod webhook;
pub(crate) mod websocket;

/// For keys of our own making, or such as are hashed with a secret already: several times cheaper than the standard one,
/// and no defence against who may choose keys.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
