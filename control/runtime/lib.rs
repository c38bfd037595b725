//! Live calls. One task for each call feeds the pure `Call` and performs the outputs of `Call`.
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
