//! The parts that the tests of several crates share. [`skip`] counts the tests that cannot run on this computer.
//! [`wait_until`], [`wait_for`] and [`wait_for_blocking`] wait with a deadline.

mod skip;
mod wait;

pub use skip::{Needs, skip};
pub use wait::{try_wait_for, wait_for, wait_for_blocking, wait_until};
