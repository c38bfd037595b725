//! The CPU time that noise suppression may use on a media thread. If suppression uses more time, or if the thread is
//! late, suppressors are shed (stopped), so that audio does not become late.
//!
//! ```text
//!             over the share, or late: shed the newest
//!   running ----------------------------------------> shed
//!           <----------------------------------------
//!             enough room for a while: resume the oldest
//! ```
//!
//! If suppressors are shed again soon after one was resumed, the waiting time before the next attempt doubles.

use std::time::{Duration, Instant};

use crate::command::{LegId, Track};

/// The length of the period that is measured before each decision.
const WINDOW: Duration = Duration::from_millis(100);
/// The delay at which a tick counts as late. It equals the time between two ticks.
const LATE: Duration = Duration::from_millis(5);
/// The thread is late if more than one tick in `LATE_ONE_IN` ticks is late. Short interruptions on a host cause fewer
/// late ticks.
const LATE_ONE_IN: u32 = 4;
/// The highest part of `share`, in percent, that may be in use after another suppressor is resumed. Above this value,
/// no suppressor is resumed.
const FULL: u32 = 80;
/// The shortest time without shedding after which a suppressor is resumed. `MAX_RESUME_DELAY` is the longest time.
const MIN_RESUME_DELAY: Duration = Duration::from_secs(2);
const MAX_RESUME_DELAY: Duration = Duration::from_secs(60);

/// The name of a suppressor: its session and its track.
pub(crate) type SuppressedTrack = (LegId, Track);

/// The budget of one worker.
#[derive(Debug)]
pub(crate) struct SuppressionBudget {
    /// The share of the thread's time that suppression may use, in percent.
    share: u32,
    /// All suppressors of this worker, from the oldest to the newest. The newest suppressors are shed first.
    names: Vec<SuppressedTrack>,
    /// The number of running suppressors.
    running: usize,
    window: Option<Window>,
    /// The time since which no suppressor was shed or resumed.
    stable_since: Option<Instant>,
    resume_delay: Duration,
    /// The time when a suppressor was last resumed.
    resumed: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    spent: Duration,
    ticks: u32,
    late: u32,
}

/// The result of a tick: the suppressors to shed, or one suppressor to resume.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    Nothing,
    Shed(&'a [SuppressedTrack]),
    Resume(SuppressedTrack),
}

impl SuppressionBudget {
    /// Creates a budget. `share` is a percentage of the thread's time. With 0, suppression never runs.
    pub(crate) fn new(share: u8) -> SuppressionBudget {
        SuppressionBudget {
            share: u32::from(share.min(100)),
            names: Vec::new(),
            running: 0,
            window: None,
            stable_since: None,
            resume_delay: MIN_RESUME_DELAY,
            resumed: None,
        }
    }

    /// Adds a suppressor. Returns false if the suppressor must start shed.
    pub(crate) fn add(&mut self, name: SuppressedTrack) -> bool {
        if let Some(index) = self.names.iter().position(|known| *known == name) {
            return index < self.running;
        }
        let runs = self.running == self.names.len() && self.share > 0;
        self.names.push(name);
        self.running += usize::from(runs);
        runs
    }

    /// Removes a suppressor.
    pub(crate) fn remove(&mut self, name: SuppressedTrack) {
        if let Some(index) = self.names.iter().position(|known| *known == name) {
            self.names.remove(index);
            self.running -= usize::from(index < self.running);
        }
    }

    /// Returns the number of all suppressors, and the number of shed suppressors.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.names.len(), self.names.len() - self.running)
    }

    /// Handles a finished tick. `late` is the delay of the tick's start, and `spent` is the time that suppression used
    /// in the tick.
    pub(crate) fn handle_tick(&mut self, now: Instant, spent: Duration, late: Duration) -> Change<'_> {
        if self.names.is_empty() {
            (self.window, self.stable_since, self.resume_delay) = (None, None, MIN_RESUME_DELAY);
            return Change::Nothing;
        }
        let fresh = Window { began: now, spent: Duration::ZERO, ticks: 0, late: 0 };
        let Some(window) = &mut self.window else {
            self.window = Some(fresh);
            return Change::Nothing;
        };
        window.spent += spent;
        window.ticks += 1;
        window.late += u32::from(late >= LATE);
        let length = now.saturating_duration_since(window.began);
        if length < WINDOW {
            return Change::Nothing;
        }
        let Window { spent, ticks, late, .. } = std::mem::replace(window, fresh);
        self.decide(now, length, spent, late * LATE_ONE_IN > ticks)
    }

    fn decide(&mut self, now: Instant, length: Duration, spent: Duration, late: bool) -> Change<'_> {
        let allowed = length * self.share / 100;
        let running = u32::try_from(self.running).unwrap_or(u32::MAX);
        let each = spent.checked_div(running).unwrap_or_default();
        // If suppression uses hardly any time, the thread is late for another reason.
        let late = late && spent >= length / 20;
        if (spent > allowed || late) && running > 0 {
            let over = spent.saturating_sub(allowed).as_nanos().div_ceil(each.as_nanos().max(1));
            let go = usize::try_from(over).unwrap_or(usize::MAX).max(if late { self.running.div_ceil(4) } else { 1 });
            let stay = self.running.saturating_sub(go);
            let again = self.resumed.is_some_and(|resumed| now.saturating_duration_since(resumed) < self.resume_delay);
            self.resume_delay = if again { (self.resume_delay * 2).min(MAX_RESUME_DELAY) } else { self.resume_delay };
            self.stable_since = None;
            let shed = stay..std::mem::replace(&mut self.running, stay);
            return Change::Shed(self.names.get(shed).unwrap_or_default());
        }
        if late {
            self.stable_since = None;
        }
        let stable_since = *self.stable_since.get_or_insert(now);
        // If no suppressor runs, the cost of a suppressor is unknown. In this case one suppressor is tried.
        let room = (spent + each) * 100 <= allowed * FULL && self.share > 0;
        if !room || now.saturating_duration_since(stable_since) < self.resume_delay {
            return Change::Nothing;
        }
        let Some(name) = self.names.get(self.running) else {
            // All suppressors have been running for a while.
            self.resume_delay = MIN_RESUME_DELAY;
            return Change::Nothing;
        };
        self.running += 1;
        self.resumed = Some(now);
        // If this suppressor fits, the next suppressor is resumed soon.
        self.stable_since = now.checked_sub(self.resume_delay.saturating_sub(WINDOW * 2));
        Change::Resume(*name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(5);

    /// A worker whose suppressors all have the same cost.
    struct Bench {
        budget: SuppressionBudget,
        now: Instant,
        /// The CPU time of one suppressor in 20 ms.
        cost: Duration,
        late: Duration,
        shed: usize,
        resumed: usize,
    }

    impl Bench {
        #[expect(clippy::disallowed_methods, reason = "some instant; time is moved from there")]
        fn new(share: u8, suppressors: u128) -> Bench {
            let mut budget = SuppressionBudget::new(share);
            for key in 0..suppressors {
                budget.add(name(key));
            }
            Bench {
                budget,
                now: Instant::now(),
                cost: Duration::from_micros(150),
                late: Duration::ZERO,
                shed: 0,
                resumed: 0,
            }
        }

        fn run(&mut self, milliseconds: u64) {
            for _ in 0..milliseconds / 5 {
                self.now += TICK;
                let spent = self.cost * self.budget.running as u32 / 4;
                match self.budget.handle_tick(self.now, spent, self.late) {
                    Change::Nothing => {}
                    Change::Shed(names) => self.shed += names.len(),
                    Change::Resume(_) => self.resumed += 1,
                }
            }
        }
    }

    fn name(key: u128) -> SuppressedTrack {
        (LegId(key), Track::Inbound)
    }

    #[test]
    fn within_the_budget_all_suppressors_run() {
        // 80 suppressors with 150 us each would use 60 % of 20 ms.
        let mut bench = Bench::new(60, 79);
        bench.run(10_000);
        assert_eq!((bench.budget.counts(), bench.shed), ((79, 0), 0));
    }

    #[test]
    fn above_the_budget_the_newest_suppressors_are_shed_at_once() {
        let mut bench = Bench::new(60, 100);
        bench.run(110);
        assert_eq!(bench.budget.counts(), (100, 20));
        assert!(bench.budget.add(name(0)), "the oldest runs");
        assert!(!bench.budget.add(name(99)), "the newest does not");
        assert!(!bench.budget.add(name(100)), "one that comes now does not either");
        bench.run(10_000);
        assert_eq!((bench.shed, bench.resumed), (20, 0), "nothing comes back while there is no room");
    }

    #[test]
    fn shed_suppressors_resume_one_by_one_after_two_seconds_oldest_first() {
        let mut bench = Bench::new(60, 100);
        bench.run(200);
        (0..50).for_each(|key| bench.budget.remove(name(key)));
        bench.run(1_500);
        assert_eq!(bench.resumed, 0);
        bench.run(800);
        assert!(bench.resumed > 0 && bench.resumed < 5, "{}", bench.resumed);
        assert!(bench.budget.add(name(80)) && !bench.budget.add(name(99)));
        bench.run(10_000);
        assert_eq!(bench.budget.counts(), (50, 0));
    }

    #[test]
    fn a_late_worker_sheds_a_quarter_of_the_suppressors_ten_times_a_second() {
        let mut bench = Bench::new(60, 40);
        bench.late = Duration::from_millis(6);
        bench.run(110);
        assert_eq!(bench.budget.counts(), (40, 10));
        bench.run(2_000);
        let (_, shed) = bench.budget.counts();
        // The last few suppressors use so little time that they cannot be the cause.
        assert!((30..40).contains(&shed), "{shed}");
        bench.late = Duration::ZERO;
        bench.run(20_000);
        assert_eq!(bench.budget.counts(), (40, 0));
    }

    #[test]
    fn single_late_ticks_shed_nothing() {
        let mut bench = Bench::new(60, 40);
        for _ in 0..100 {
            bench.run(40);
            bench.late = Duration::from_millis(30);
            bench.run(5);
            bench.late = Duration::ZERO;
        }
        assert_eq!(bench.shed, 0);
    }

    #[test]
    fn a_suppressor_that_is_shed_again_at_once_resumes_after_longer_and_longer_times() {
        let mut bench = Bench::new(60, 4);
        // The cost of all suppressors is within the share. But with more than two running suppressors, the worker is
        // late.
        bench.cost = Duration::from_millis(1);
        for _ in 0..120 * 200 {
            bench.late = if bench.budget.running > 2 { Duration::from_millis(8) } else { Duration::ZERO };
            bench.run(5);
        }
        assert!((3..12).contains(&bench.resumed), "{} times in two minutes", bench.resumed);
    }

    #[test]
    fn a_budget_of_zero_never_suppresses() {
        let mut bench = Bench::new(0, 3);
        bench.run(10_000);
        assert_eq!((bench.budget.counts(), bench.resumed), ((3, 3), 0));
    }
}
