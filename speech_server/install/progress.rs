//! The progress of downloads, as text for people.

use std::io::Write;
use std::time::{Duration, Instant};

use super::error::Size;

/// The time between two updates of the line on a terminal, and between two lines elsewhere.
const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Writes one line for each download. On a terminal, the line is updated; in a file, there is one line in ten seconds.
pub struct Progress<'a> {
    to: &'a mut dyn Write,
    is_terminal: bool,
    /// The time of the last line, if it is not complete.
    last: Option<Instant>,
}

#[expect(clippy::disallowed_methods, reason = "people read the progress in real time")]
fn now() -> Instant {
    Instant::now()
}

impl<'a> Progress<'a> {
    /// Writes to `to`, which can be a terminal.
    pub fn new(to: &'a mut dyn Write, is_terminal: bool) -> Self {
        Self { to, is_terminal, last: None }
    }

    /// Shows that `done` of `size` octets of a file are here.
    pub(super) fn show(&mut self, file: &str, done: u64, size: u64) {
        let now = now();
        let pause = if self.is_terminal { ON_TERMINAL } else { ELSEWHERE };
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= pause);
        if !is_due && done < size {
            return;
        }
        let percent = (done.saturating_mul(100)).checked_div(size).unwrap_or(100);
        // The text of an earlier update can be longer.
        let (start, end) =
            if self.is_terminal { ("\r\x1b[K", if done < size { "" } else { "\n" }) } else { ("", "\n") };
        // The progress is an extra: the installation goes on if nobody can see it.
        let _ = write!(self.to, "{start}{file}: {} of {} ({percent} %){end}", Size(done), Size(size));
        let _ = self.to.flush();
        self.last = (done < size).then_some(now);
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: &str) {
        let start = if self.is_terminal && self.last.take().is_some() { "\n" } else { "" };
        let _ = writeln!(self.to, "{start}{text}");
    }
}
