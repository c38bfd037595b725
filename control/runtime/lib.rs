//! Live calls: one task a call drives the pure `Call` and performs what it orders.
#![forbid(unsafe_code)]

pub mod app;
mod call_task;
mod dtmf;
pub mod followers;
mod inbox;
mod leg;
mod loopback;
mod machine_detection;
pub mod notify;
mod reason;
pub mod recovery;
mod redirect;
pub mod registry;
mod reporting;
pub mod services;
mod track;
pub mod transcripts;
pub mod usage;
pub mod verification;
