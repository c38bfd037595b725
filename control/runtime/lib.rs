//! Live calls: one task a call drives the pure `Call` and performs what it orders.
#![forbid(unsafe_code)]

pub mod app;
mod call_state;
mod call_task;
mod calls;
pub mod followers;
mod inbox;
mod notices;
pub mod notify;
pub mod recovery;
mod registry;
mod reporting;
pub mod services;
pub mod transcripts;
pub mod usage;
pub mod verification;

pub use calls::Calls;
