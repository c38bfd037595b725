//! What the tests of several crates share. [`skip`] counts the tests that cannot run on this computer. [`wait_until`] and
//! [`wait_for`] wait with a deadline.

mod skip;
mod wait;

pub use skip::{Needs, skip};
pub use wait::{try_wait_for, wait_for, wait_until};
