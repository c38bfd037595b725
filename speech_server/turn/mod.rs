//! Voice activity and the end of a turn.
//!
//! - [`Vad`]: does the caller speak? One probability each 32 ms (Silero).
//! - [`TurnModel`]: has the caller finished? One probability at a pause (smart-turn).

mod complete;
mod vad;

pub use complete::TurnModel;
pub use vad::{Silero, Vad};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
