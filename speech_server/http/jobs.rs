//! The threads that run the models, and the jobs that wait for them.
//!
//! - Urgent jobs (the end of an utterance in a call, the next sentence of a text) go before all others.
//! - Partial jobs (words before the end of an utterance) and slow jobs (a window of a recording) take turns. Together they never
//!   take the last thread, if there are two or more.
//! - Early jobs (what looks like the end of an utterance) run only if a thread is free at this moment.
//!
//! The jobs of one kind run in the order in which they came, so no connection waits for ever.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Maximum number of urgent jobs that wait. The connections of calls have at most four each.
const MAX_URGENT: usize = 1024;
/// Maximum number of partial jobs that wait. Each connection has at most one.
const MAX_PARTIAL: usize = 512;
/// Maximum number of slow jobs that wait. Each recording has at most one.
const MAX_SLOW: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody in a call waits for the result.
    Urgent,
    /// The result makes a call better.
    Partial,
    /// The result can take its time.
    Slow,
}

/// The threads and their queues. The threads end when all values are dropped and the queues are empty.
#[derive(Clone)]
pub struct Jobs {
    queue: Arc<Queue>,
    _handle: Arc<Handle>,
}

struct Handle(Arc<Queue>);

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    threads: usize,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Job>,
    partial: VecDeque<Job>,
    slow: VecDeque<Job>,
    is_turn_of_slow: bool,
    /// Number of running jobs.
    running: usize,
    /// Number of running jobs that are not urgent.
    running_others: usize,
    is_closed: bool,
}

impl State {
    /// Whether a thread is free for an early job.
    fn is_idle(&self, threads: usize) -> bool {
        self.running + self.urgent.len() < threads
    }

    /// The next job, and whether it is urgent.
    fn next(&mut self, threads: usize) -> Option<(Job, bool)> {
        if let Some(job) = self.urgent.pop_front() {
            return Some((job, true));
        }
        if self.running_others >= (threads - 1).max(1) {
            return None;
        }
        let (first, second) = match self.is_turn_of_slow {
            true => (&mut self.slow, &mut self.partial),
            false => (&mut self.partial, &mut self.slow),
        };
        let job = first.pop_front().or_else(|| second.pop_front())?;
        self.is_turn_of_slow = !self.is_turn_of_slow;
        Some((job, false))
    }
}

impl Jobs {
    /// Starts `threads` threads, at least one.
    ///
    /// # Errors
    /// The system starts no more threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), threads });
        for index in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("model {index}")).spawn(move || queue.work())?;
        }
        Ok(Self { _handle: Arc::new(Handle(Arc::clone(&queue))), queue })
    }

    /// Adds a job.
    ///
    /// # Errors
    /// [`Full`] if too many jobs of this kind wait.
    pub fn add(&self, kind: Kind, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        let mut state = self.queue.lock();
        let (queue, limit) = match kind {
            Kind::Urgent => (&mut state.urgent, MAX_URGENT),
            Kind::Partial => (&mut state.partial, MAX_PARTIAL),
            Kind::Slow => (&mut state.slow, MAX_SLOW),
        };
        if queue.len() >= limit {
            return Err(Full);
        }
        queue.push_back(Box::new(job));
        self.queue.changed.notify_all();
        Ok(())
    }

    /// Whether a thread is free at this moment.
    pub fn is_idle(&self) -> bool {
        self.queue.lock().is_idle(self.queue.threads)
    }

    /// Adds an early job if a thread is free for it. Otherwise returns the job.
    ///
    /// # Errors
    /// The job, if no thread is free.
    pub fn add_if_idle<J: FnOnce() + Send + 'static>(&self, job: J) -> Result<(), J> {
        let mut state = self.queue.lock();
        if !state.is_idle(self.queue.threads) {
            return Err(job);
        }
        state.urgent.push_back(Box::new(job));
        self.queue.changed.notify_all();
        Ok(())
    }

    /// Computes a value beside the job that calls this, if a thread is free. The returned function waits for the value, or computes
    /// it if no thread was free. It returns `None` if the computation panics on the other thread.
    pub fn beside<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> impl FnOnce() -> Option<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        // Nobody waits if the job that asked has panicked.
        let refused = self.add_if_idle(move || drop(sender.send(compute()))).err();
        move || {
            if let Some(compute) = refused {
                compute();
            }
            // A free thread takes the job at once, so this wait is as long as the computation.
            receiver.recv().ok()
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // The products of matrices would otherwise spread over all cores, and the jobs of several calls would wait for each other.
        let _pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        let mut state = self.lock();
        loop {
            let Some((job, is_urgent)) = state.next(self.threads) else {
                if state.is_closed {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.running += 1;
            state.running_others += usize::from(!is_urgent);
            drop(state);
            // A job that panics must not end the thread. The one who waits for the job sees that its channel is closed.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                super::complain("a model has failed");
            }
            state = self.lock();
            state.running -= 1;
            state.running_others -= usize::from(!is_urgent);
            if !is_urgent {
                // Another thread may wait for this place.
                self.changed.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Starts a job that runs until the returned sender is dropped.
    fn occupy(jobs: &Jobs, kind: Kind) -> mpsc::Sender<()> {
        let (end, ended) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        jobs.add(kind, move || {
            began.send(()).unwrap();
            let _ = ended.recv();
        })
        .unwrap();
        begun.recv_timeout(SOON).unwrap();
        end
    }

    /// Adds jobs, which report their names, to a thread that is busy. Returns the names in the order of the reports.
    fn order(added: &[(Kind, &'static str)]) -> Vec<&'static str> {
        let jobs = Jobs::start(1).unwrap();
        let end = occupy(&jobs, Kind::Urgent);
        let (sender, receiver) = mpsc::channel();
        for (kind, name) in added.iter().copied() {
            let sender = sender.clone();
            jobs.add(kind, move || sender.send(name).unwrap()).unwrap();
        }
        drop(end);
        added.iter().map(|_| receiver.recv_timeout(SOON).unwrap()).collect()
    }

    #[test]
    fn urgent_jobs_go_first() {
        let added = [(Kind::Slow, "recording"), (Kind::Partial, "partial"), (Kind::Urgent, "call")];
        assert_eq!(order(&added), ["call", "partial", "recording"]);
    }

    #[test]
    fn partial_jobs_of_ten_calls_run_in_their_order_and_in_turns_with_recordings() {
        let partial = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"].map(|name| (Kind::Partial, name));
        let added = [[(Kind::Slow, "a"), (Kind::Slow, "b")].as_slice(), &partial].concat();
        assert_eq!(order(&added), ["1", "a", "2", "b", "3", "4", "5", "6", "7", "8", "9", "10"]);
    }

    #[test]
    fn early_jobs_need_a_free_thread() {
        let jobs = Jobs::start(1).unwrap();
        let end = occupy(&jobs, Kind::Slow);
        assert!(jobs.add_if_idle(|| {}).is_err());
        drop(end);
        drop(occupy(&jobs, Kind::Urgent));
    }

    #[test]
    fn a_value_is_computed_beside_a_job_or_after_it() {
        for threads in [1, 2] {
            let jobs = Jobs::start(threads).unwrap();
            let (sender, receiver) = mpsc::channel();
            let same = jobs.clone();
            let job = move || {
                let here = thread::current().id();
                let value = same.beside(move || thread::current().id() == here);
                sender.send(value()).unwrap();
            };
            jobs.add(Kind::Urgent, job).unwrap();
            assert_eq!(receiver.recv_timeout(SOON).unwrap(), Some(threads == 1));
        }
    }

    #[test]
    fn the_last_thread_is_for_urgent_jobs() {
        let jobs = Jobs::start(2).unwrap();
        let first = occupy(&jobs, Kind::Slow);
        let (sender, receiver) = mpsc::channel();
        jobs.add(Kind::Partial, move || sender.send(()).unwrap()).unwrap();
        drop(occupy(&jobs, Kind::Urgent));
        assert!(receiver.try_recv().is_err());
        drop(first);
        receiver.recv_timeout(SOON).unwrap();
    }

    #[test]
    fn a_full_queue_refuses_jobs() {
        let jobs = Jobs::start(1).unwrap();
        let end = occupy(&jobs, Kind::Urgent);
        for _ in 0..MAX_SLOW {
            jobs.add(Kind::Slow, || {}).unwrap();
        }
        assert_eq!(jobs.add(Kind::Slow, || {}), Err(Full));
        assert_eq!(jobs.add(Kind::Urgent, || {}), Ok(()));
        drop(end);
    }

    #[test]
    fn a_job_that_panics_does_not_end_the_thread() {
        let jobs = Jobs::start(1).unwrap();
        jobs.add(Kind::Slow, || panic!("a test of a panic")).unwrap();
        drop(occupy(&jobs, Kind::Urgent));
    }
}
