//! Live calls. Each call has a task. The task drives the pure `Call` and performs the outputs of the `Call`.
//!
//! ```text
//!   app, usage, notify, certificates,     what uses calls
//!   reporting, observation
//!   calls                                 accepts and makes calls; gives requests to live ones; finds ended ones
//!   call_task                             the task of one call
//!   registry ─► inbox ─► call_state       finds live calls; the messages of a call; what moves when calls are merged
//!   live_legs                             the inbox and the state of each live leg
//!   services                              the parts of the server that calls use
//! ```
//!
//! A module uses only modules in lower rows, and modules to the right in the same row.
#![forbid(unsafe_code)]

pub mod app;
mod call_state;
mod call_task;
mod calls;
pub mod certificates;
mod inbox;
mod live_legs;
mod notices;
pub mod notify;
pub mod observation;
pub mod pending;
pub mod recovery;
mod registry;
mod remote_legs;
pub mod reporting;
pub mod services;
pub mod transcripts;
pub mod uploads;
pub mod usage;

pub use calls::Calls;
