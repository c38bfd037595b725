//! The last refusal of each user of phones, in memory: for whoever looks why a phone does not register.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tandem_sip as sip;

use crate::report::SipRequest;
use foldhash::HashMap;

/// Most users of whom one is kept. When there are more, nothing is kept of the others.
const MOST: usize = 10_000;

/// The last refusals, by account and user name.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<(Arc<str>, String), LastRefusal>>);

/// The last one of a user.
#[derive(Clone, Debug, Serialize)]
pub struct LastRefusal {
    /// When.
    at: Timestamp,
    /// `REGISTER`, `INVITE`.
    method: String,
    /// Why, in words.
    reason: String,
    /// How many there were since the start, this one included.
    count: u64,
    /// What was refused.
    #[serde(flatten)]
    request: SipRequest,
}

impl Refusals {
    /// Keeps one, in place of the user's last.
    pub fn note(&self, account: &Arc<str>, refused: &sip::RefusedRequest, at: Timestamp) {
        let mut kept = self.0.lock();
        let full = kept.len() >= MOST;
        let last = |count| LastRefusal {
            at,
            method: refused.method.clone(),
            reason: refused.why.clone(),
            count,
            request: refused.into(),
        };
        match kept.entry((Arc::clone(account), refused.username.clone())) {
            Entry::Occupied(mut entry) => {
                let count = entry.get().count + 1;
                entry.insert(last(count));
            }
            Entry::Vacant(entry) if !full => drop(entry.insert(last(1))),
            Entry::Vacant(_) => {}
        }
    }

    /// The user has registered: what was refused before is mended.
    pub fn forget(&self, account: &Arc<str>, username: &Arc<str>) {
        self.0.lock().remove(&(Arc::clone(account), username.to_string()));
    }

    /// The last one of a user.
    pub fn last(&self, account: &Arc<str>, username: &str) -> Option<LastRefusal> {
        self.0.lock().get(&(Arc::clone(account), username.to_owned())).cloned()
    }
}
