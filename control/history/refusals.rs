//! The last refused request of each phone user, in memory, for operators who look why a phone does not register.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tandem_sip as sip;

use crate::report::SipRequest;
use foldhash::HashMap;

/// Maximum number of users with a stored refusal. Beyond that, refusals of further users are not stored.
const MOST: usize = 10_000;

/// The last refusal of each user, by account and username.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<(Arc<str>, String), LastRefusal>>);

/// The last refusal of a user.
#[derive(Clone, Debug, Serialize)]
pub struct LastRefusal {
    at: Timestamp,
    /// Method of the request: `REGISTER` or `INVITE`.
    method: String,
    reason: String,
    /// Number of refusals since the server started or the user last registered, including this one.
    count: u64,
    #[serde(flatten)]
    request: SipRequest,
}

impl Refusals {
    /// Stores a refusal in place of the user's previous one.
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

    /// Removes the refusal of a user that has registered.
    pub fn forget(&self, account: &Arc<str>, username: &Arc<str>) {
        self.0.lock().remove(&(Arc::clone(account), username.to_string()));
    }

    /// The last refusal of a user of an account; `None` if there was none since the start.
    pub fn last(&self, account: &Arc<str>, username: &str) -> Option<LastRefusal> {
        self.0.lock().get(&(Arc::clone(account), username.to_owned())).cloned()
    }
}
