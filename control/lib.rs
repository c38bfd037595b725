//! The shell: everything asynchronous and everything provider-shaped. One task per call drives the pure `Call` and performs
//! what it asks for.
#![forbid(unsafe_code)]

pub mod account;
pub mod app;
pub mod dialect;
#[cfg(feature = "twilio")]
pub mod markup;
pub mod registry;
