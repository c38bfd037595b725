//! Limits per user.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of users in a table. If the table is full, a new user is refused. A table of calls removes a user who
/// has started no call for 60 s. A table of WebSockets removes a user who has closed all WebSockets.
const MAX_USERS: usize = 10_000;

/// Limits the number of calls that each user starts within any 60 s.
#[derive(Debug)]
pub(crate) struct Rate {
    limit: usize,
    // Users choose their own names. The hash of the standard library protects against names that collide.
    begun: Mutex<HashMap<String, VecDeque<Instant>>>,
}

impl Rate {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), begun: Mutex::default() }
    }

    /// Counts a new call of the user. If the user has reached the limit, returns the time until the next call is
    /// allowed.
    pub(crate) fn take(&self, user: &str, now: Instant) -> Result<(), Duration> {
        let mut begun = self.begun.lock();
        let is_old = |at: &Instant| now.duration_since(*at) >= WINDOW;
        if begun.len() >= MAX_USERS && !begun.contains_key(user) {
            begun.retain(|_, times| times.back().is_some_and(|at| !is_old(at)));
            if begun.len() >= MAX_USERS {
                return Err(WINDOW);
            }
        }
        let times = begun.entry(user.to_owned()).or_default();
        while times.front().is_some_and(is_old) {
            times.pop_front();
        }
        match times.front() {
            Some(first) if times.len() >= self.limit => Err(WINDOW.saturating_sub(now.duration_since(*first))),
            _ => {
                times.push_back(now);
                Ok(())
            }
        }
    }
}

/// Counts the open WebSockets of each user.
#[derive(Debug)]
pub(crate) struct Sockets {
    limit: u32,
    open: Arc<Mutex<HashMap<String, u32>>>,
}

/// The slot of one open WebSocket of a user. Dropping this value frees the slot.
#[derive(Debug)]
pub(crate) struct SocketSlot {
    user: String,
    open: Arc<Mutex<HashMap<String, u32>>>,
}

impl Sockets {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, open: Arc::default() }
    }

    /// Takes a slot for another WebSocket. `None` if the user has reached the limit, or if there are too many users.
    pub(crate) fn take(&self, user: &str) -> Option<SocketSlot> {
        let mut open = self.open.lock();
        let count = open.get(user).copied().unwrap_or_default();
        if count >= self.limit || (count == 0 && open.len() >= MAX_USERS) {
            return None;
        }
        open.insert(user.to_owned(), count + 1);
        Some(SocketSlot { user: user.to_owned(), open: Arc::clone(&self.open) })
    }
}

impl Drop for SocketSlot {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        match open.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_call_within_a_minute_is_refused_with_its_waiting_time() {
        let (rate, start) = (Rate::new(5), tandem_host::clock::now().instant);
        let at = |seconds| start + Duration::from_secs(seconds);
        for seconds in 0..5 {
            assert_eq!(rate.take("user", at(seconds * 10)), Ok(()));
        }
        assert_eq!(rate.take("user", at(45)), Err(Duration::from_secs(15)));
        assert_eq!(rate.take("other", at(45)), Ok(()));
        assert_eq!(rate.take("user", at(60)), Ok(()), "the first is a minute ago");
        assert_eq!(rate.take("user", at(69)), Err(Duration::from_secs(1)));
    }

    #[test]
    fn users_beyond_the_limit_are_refused_until_a_window_ends() {
        let (rate, start) = (Rate::new(5), tandem_host::clock::now().instant);
        for user in 0..MAX_USERS {
            rate.take(&user.to_string(), start).unwrap();
        }
        assert_eq!(rate.take("one more", start), Err(WINDOW));
        assert_eq!(rate.take("one more", start + WINDOW), Ok(()));
        assert_eq!(rate.begun.lock().len(), 1);
    }

    #[test]
    fn a_closed_websocket_frees_its_slot() {
        let sockets = Sockets::new(2);
        let first = sockets.take("user").unwrap();
        let _second = sockets.take("user").unwrap();
        assert!(sockets.take("user").is_none());
        drop(first);
        assert!(sockets.take("user").is_some());
        assert_eq!(sockets.open.lock().get("user"), Some(&1));
    }
}
