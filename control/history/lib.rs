//! The stored data of calls: records, event logs, recordings, notifications, and reports of failures.
#![forbid(unsafe_code)]

pub mod call_port;
pub mod change;
pub mod event_log;
pub mod live_log;
pub mod members;
pub mod notification;
pub mod problem;
pub mod query;
pub mod recordings;
pub mod records;
pub mod refusals;
pub mod report;
pub mod secrets;
pub mod stored_log;
