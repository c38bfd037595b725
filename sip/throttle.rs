//! Limits the number of log lines that unknown sources can cause.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// Maximum number of log lines per second. Further lines are counted, but not written.
const LINES: u32 = 3;

/// Allows three log lines per second, and counts the lines above this limit. It is used for log lines that anyone on
/// the network can cause.
#[derive(Debug, Default)]
pub struct Throttle {
    since: Option<Instant>,
    written: u32,
    held_back: u64,
}

impl Throttle {
    /// Decides whether a line may be written now. If so, returns the number of lines that were suppressed since the
    /// last written line. Otherwise returns `None`.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written == LINES {
            self.held_back += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any start for the virtual clock")]
    fn a_flood_is_logged_as_a_few_lines_and_a_count() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let passed: Vec<_> = (0..1_000).filter_map(|_| throttle.pass(start)).collect();
        assert_eq!(passed, [0, 0, 0]);
        assert_eq!(throttle.pass(start + SECOND), Some(997));
        assert_eq!(throttle.pass(start + SECOND), Some(0));
    }
}
