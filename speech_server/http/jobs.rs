//! The threads that run the models, and the jobs that wait for them.
//!
//! - Urgent jobs (the end of an utterance in a call) go before all others.
//! - Other jobs (a window of a recording, a text to speak) never take the last thread, if there are two or more.
//! - Optional jobs (words before the end of an utterance) run only if a thread is free.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Maximum number of urgent jobs that wait. The connections of calls have at most four each.
const MAX_URGENT: usize = 1024;
/// Maximum number of other jobs that wait.
const MAX_OTHERS: usize = 32;

type Job = Box<dyn FnOnce() + Send>;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The threads and their queue. The threads end when all values are dropped and the queue is empty.
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
    others: VecDeque<Job>,
    /// Number of running jobs.
    running: usize,
    /// Number of running jobs that are not urgent.
    running_others: usize,
    is_closed: bool,
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

    /// Adds an urgent job.
    ///
    /// # Errors
    /// [`Full`].
    pub fn urgent(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        let mut state = self.queue.lock();
        if state.urgent.len() >= MAX_URGENT {
            return Err(Full);
        }
        state.urgent.push_back(Box::new(job));
        self.queue.changed.notify_all();
        Ok(())
    }

    /// Adds another job.
    ///
    /// # Errors
    /// [`Full`].
    pub fn add(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        let mut state = self.queue.lock();
        if state.others.len() >= MAX_OTHERS {
            return Err(Full);
        }
        state.others.push_back(Box::new(job));
        self.queue.changed.notify_all();
        Ok(())
    }

    /// Adds a job only if a thread is free for it. Returns whether it is added.
    pub fn add_if_idle(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let mut state = self.queue.lock();
        let is_idle = state.running + state.urgent.len() + state.others.len() < self.queue.threads;
        if is_idle {
            state.urgent.push_back(Box::new(job));
            self.queue.changed.notify_all();
        }
        is_idle
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
            let others = (self.threads - 1).max(1);
            let urgent = state.urgent.pop_front();
            let is_urgent = urgent.is_some();
            let job = match urgent {
                None if state.running_others < others => state.others.pop_front(),
                urgent => urgent,
            };
            let Some(job) = job else {
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
                eprintln!("tandem-speech: a model has failed");
            }
            state = self.lock();
            state.running -= 1;
            state.running_others -= usize::from(!is_urgent);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Starts a job that runs until the returned sender is dropped.
    fn occupy(jobs: &Jobs) -> mpsc::Sender<()> {
        let (end, ended) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        jobs.urgent(move || {
            began.send(()).unwrap();
            let _ = ended.recv();
        })
        .unwrap();
        begun.recv_timeout(SOON).unwrap();
        end
    }

    #[test]
    fn urgent_jobs_go_first_and_optional_jobs_need_a_free_thread() {
        let jobs = Jobs::start(1).unwrap();
        let end = occupy(&jobs);
        let (sender, receiver) = mpsc::channel();
        let report = |name: &'static str| {
            let sender = sender.clone();
            move || sender.send(name).unwrap()
        };
        jobs.add(report("recording")).unwrap();
        jobs.urgent(report("call")).unwrap();
        assert!(!jobs.add_if_idle(report("partial")));
        drop(end);
        assert_eq!([receiver.recv_timeout(SOON), receiver.recv_timeout(SOON)], [Ok("call"), Ok("recording")]);
    }

    #[test]
    fn a_full_queue_refuses_jobs() {
        let jobs = Jobs::start(1).unwrap();
        let end = occupy(&jobs);
        for _ in 0..MAX_OTHERS {
            jobs.add(|| {}).unwrap();
        }
        assert_eq!(jobs.add(|| {}), Err(Full));
        assert_eq!(jobs.urgent(|| {}), Ok(()));
        drop(end);
    }

    #[test]
    fn a_job_that_panics_does_not_end_the_thread() {
        let jobs = Jobs::start(1).unwrap();
        jobs.add(|| panic!("a test of a panic")).unwrap();
        drop(occupy(&jobs));
    }
}
