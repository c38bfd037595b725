//! A limit of logins with a wrong password.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::Mutex;

/// Number of refused logins after which a source is banned.
const MAX_REFUSED: u32 = 10;
/// Time over which the refused logins are counted, and time of the ban.
const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of sources that are remembered. If there are more, the source with the oldest refusal is forgotten.
const MAX_SOURCES: usize = 10_000;

/// The sources of refused logins. Cheap to clone.
#[derive(Clone, Default)]
pub struct LoginGuard(Arc<Mutex<HashMap<IpAddr, (u32, Instant)>>>);

impl LoginGuard {
    /// Whether this source has sent too many wrong passwords.
    pub fn is_banned(&self, source: IpAddr, now: Instant) -> bool {
        let sources = self.0.lock();
        sources.get(&source).is_some_and(|(count, since)| *count >= MAX_REFUSED && now.duration_since(*since) < WINDOW)
    }

    /// Counts a refused login.
    pub fn refused(&self, source: IpAddr, now: Instant) {
        let mut sources = self.0.lock();
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            let oldest = sources.iter().min_by_key(|(_, (_, since))| *since).map(|(source, _)| *source);
            if let Some(oldest) = oldest {
                sources.remove(&oldest);
            }
        }
        let (count, since) = sources.entry(source).or_insert((0, now));
        if now.duration_since(*since) >= WINDOW {
            (*count, *since) = (0, now);
        }
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_banned_for_a_minute_after_ten_wrong_passwords() {
        let (guard, source, start) =
            (LoginGuard::default(), "192.0.2.1".parse().unwrap(), tandem_host::clock::now().instant);
        for _ in 0..MAX_REFUSED {
            assert!(!guard.is_banned(source, start));
            guard.refused(source, start);
        }
        assert!(guard.is_banned(source, start) && !guard.is_banned("192.0.2.2".parse().unwrap(), start));
        assert!(!guard.is_banned(source, start + WINDOW));
        guard.refused(source, start + WINDOW);
        assert!(!guard.is_banned(source, start + WINDOW));
    }
}
