//! Live calls: one task a call drives the pure `Call` and performs what it orders.
#![forbid(unsafe_code)]

pub mod agent;
pub mod app;
pub mod audio;
pub mod call_task;
pub mod conferences;
pub mod conversation;
pub mod document;
pub mod ears;
pub mod followers;
pub mod inbox;
pub mod keys;
pub mod leg;
pub mod local;
pub mod local_streams;
pub mod machine;
pub mod notify;
pub mod queues;
pub mod reason;
pub mod recovery;
pub mod redirect;
pub mod registry;
pub mod reporting;
pub mod services;
pub mod siprec;
pub mod stream;
pub mod transcripts;
pub mod turns;
pub mod usage;
pub mod verification;
