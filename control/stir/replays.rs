//! The Identities that calls have used, to detect a replay (RFC 8224 §12.1).

use std::collections::HashMap;

use tandem_host::hash::sha256;

/// Maximum number of stored Identities. Above this number, an Identity is not stored, and its replay is not detected.
const MAX_IDENTITIES: usize = 20_000;

/// The Identities that calls have used and that are still fresh.
#[derive(Debug, Default)]
pub(super) struct Replays(HashMap<[u8; 32], Use>);

#[derive(Debug)]
struct Use {
    /// Time at which the Identity is not fresh any more, in seconds since 1970.
    until: u64,
    /// Hash of the call's Call-ID.
    call: [u8; 32],
}

impl Replays {
    /// Records the use of an Identity by a call. Returns whether another call has used the Identity before.
    pub(super) fn is_replayed(&mut self, now: u64, until: u64, token: &str, sip_call_id: &str) -> bool {
        let (key, call) = (sha256([token.as_bytes()]), sha256([sip_call_id.as_bytes()]));
        if let Some(before) = self.0.get(&key).filter(|before| before.until >= now) {
            return before.call != call;
        }
        if self.0.len() >= MAX_IDENTITIES {
            self.0.retain(|_, one| one.until >= now);
        }
        if self.0.len() < MAX_IDENTITIES {
            self.0.insert(key, Use { until, call });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_identity_in_a_second_call_is_a_replay() {
        let mut replays = Replays::default();
        let mut at = |now: u64, token: &str, call: &str| replays.is_replayed(now, now + 120, token, call);
        assert!(!at(1_000, "a.b.c", "first"));
        assert!(!at(1_001, "a.b.c", "first"), "the same call over another way");
        assert!(at(1_002, "a.b.c", "second"));
        assert!(!at(1_003, "d.e.f", "second"));
        assert!(!at(1_121, "a.b.c", "third"), "it is too old to pass the other checks");
    }

    #[test]
    fn the_number_of_stored_identities_is_limited() {
        let mut replays = Replays::default();
        for number in 0..MAX_IDENTITIES + 10 {
            assert!(!replays.is_replayed(1_000, 1_120, &number.to_string(), "call"));
        }
        assert_eq!(replays.0.len(), MAX_IDENTITIES);
        assert!(!replays.is_replayed(2_000, 2_120, "later", "call"));
        assert_eq!(replays.0.len(), 1);
    }
}
