//! Decides whether a media thread is overloaded. A thread that is late makes the audio of all its calls late, so it must
//! not take more calls. This module is pure.
//!
//! ```text
//!          late, or too much transcoding, for two windows in a row
//!   normal --------------------------------------------------------> overloaded
//!          <--------------------------------------------------------
//!          in time, and clearly below the share, for four windows in a row
//! ```

use std::time::{Duration, Instant};

/// The length of the period that is measured before each decision.
const WINDOW: Duration = Duration::from_millis(500);
/// The number of windows in a row after which a thread counts as overloaded. A short pause of the whole machine spoils
/// one window.
const OVERLOADED_AFTER: u8 = 2;
/// The number of windows in a row after which a thread takes calls again.
const NORMAL_AFTER: u8 = 4;
/// The part of the share, in percent, below which transcoding must be before the thread takes calls again.
const NORMAL_SHARE: u32 = 80;

/// The load of one media thread.
#[derive(Debug)]
pub(crate) struct ThreadLoad {
    /// The lateness of a tick above which the tick counts as late. 0 means that the thread is never overloaded.
    limit: Duration,
    /// The share of the thread's time that transcoding may use, in percent.
    share: u32,
    window: Option<Window>,
    /// The number of windows in a row that speak for a change of the state.
    windows: u8,
    overloaded: bool,
    /// The largest lateness in the last complete window.
    latest: Duration,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    wakes: u32,
    late: u32,
    latest: Duration,
    transcoding: Duration,
}

impl ThreadLoad {
    /// Creates the measurement. `share` is the percentage of the thread's time that transcoding may use. With a limit of
    /// 0, the thread is never overloaded.
    pub(crate) fn new(limit: Duration, share: u8) -> ThreadLoad {
        ThreadLoad {
            limit,
            share: u32::from(share.min(100)),
            window: None,
            windows: 0,
            overloaded: false,
            latest: Duration::ZERO,
        }
    }

    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// The largest lateness of a tick in the last half second.
    pub(crate) fn latest(&self) -> Duration {
        self.latest
    }

    /// Ends the measurement, because the thread has no session.
    pub(crate) fn reset(&mut self) {
        (self.window, self.windows, self.overloaded, self.latest) = (None, 0, false, Duration::ZERO);
    }

    /// Records that the thread has run its ticks. `late` is the lateness of the first of these ticks, and `transcoding`
    /// is the time that transcoding used in these ticks. Returns true if the thread is overloaded since this call.
    pub(crate) fn handle_ticks(&mut self, now: Instant, late: Duration, transcoding: Duration) -> bool {
        if self.limit.is_zero() {
            return false;
        }
        let fresh = Window { began: now, wakes: 0, late: 0, latest: Duration::ZERO, transcoding: Duration::ZERO };
        let window = self.window.get_or_insert(fresh);
        window.wakes += 1;
        window.late += u32::from(late > self.limit);
        window.latest = window.latest.max(late);
        window.transcoding += transcoding;
        let length = now.saturating_duration_since(window.began);
        if length < WINDOW {
            return false;
        }
        let Some(Window { wakes, late, latest, transcoding, .. }) = self.window.take() else { return false };
        self.latest = latest;
        let is_over = |percent: u32| transcoding * 100 > length * percent;
        let speaks_for_change = match self.overloaded {
            // If transcoding may use the whole thread, only lateness counts.
            false => late * 2 > wakes || (self.share < 100 && is_over(self.share)),
            true => late == 0 && (self.share == 100 || !is_over(self.share * NORMAL_SHARE / 100)),
        };
        self.windows = if speaks_for_change { self.windows + 1 } else { 0 };
        let enough = if self.overloaded { NORMAL_AFTER } else { OVERLOADED_AFTER };
        if self.windows < enough {
            return false;
        }
        self.windows = 0;
        self.overloaded = !self.overloaded;
        self.overloaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(5);
    const LIMIT: Duration = Duration::from_millis(100);
    const IN_TIME: Duration = Duration::from_millis(4);
    const LATE: Duration = Duration::from_millis(300);

    struct Bench {
        load: ThreadLoad,
        now: Instant,
        /// The number of times that the thread became overloaded.
        reports: usize,
    }

    impl Bench {
        #[expect(clippy::disallowed_methods, reason = "some instant; time is moved from there")]
        fn new(share: u8) -> Bench {
            Bench { load: ThreadLoad::new(LIMIT, share), now: Instant::now(), reports: 0 }
        }

        /// Runs the thread for this time. Transcoding uses `percent` percent of the thread's time.
        fn run(&mut self, milliseconds: u64, late: Duration, percent: u32) -> bool {
            for _ in 0..milliseconds / 5 {
                self.now += TICK;
                self.reports += usize::from(self.load.handle_ticks(self.now, late, TICK * percent / 100));
            }
            self.load.is_overloaded()
        }
    }

    #[test]
    fn a_thread_that_stays_late_is_overloaded_until_it_has_been_in_time_for_a_while() {
        let mut bench = Bench::new(70);
        assert!(!bench.run(5_000, IN_TIME, 0));
        assert!(!bench.run(600, LATE, 0), "one window may be a pause of the machine");
        assert!(!bench.run(1_000, IN_TIME, 0));
        assert!(bench.run(1_600, LATE, 0));
        assert_eq!(bench.load.latest(), LATE);
        assert!(bench.run(1_500, IN_TIME, 0), "still overloaded");
        assert!(bench.run(600, LATE, 0));
        assert!(bench.run(1_500, IN_TIME, 0), "the count starts again");
        assert!(!bench.run(1_600, IN_TIME, 0));
        assert_eq!(bench.reports, 1);
    }

    #[test]
    fn transcoding_above_its_share_is_overload_before_the_thread_is_late() {
        for (share, percent, overloaded) in [(70, 69, false), (70, 72, true), (0, 1, true), (100, 100, false)] {
            let mut bench = Bench::new(share);
            assert_eq!(bench.run(3_000, IN_TIME, percent), overloaded, "{percent} of {share} percent");
        }
        let mut bench = Bench::new(70);
        bench.run(3_000, IN_TIME, 80);
        assert!(bench.run(10_000, IN_TIME, 60), "one more call would be too many again");
        assert!(!bench.run(3_000, IN_TIME, 50));
    }

    #[test]
    fn a_limit_of_0_disables_the_check() {
        let mut bench = Bench { load: ThreadLoad::new(Duration::ZERO, 0), ..Bench::new(0) };
        assert!(!bench.run(10_000, LATE, 100));
    }
}
