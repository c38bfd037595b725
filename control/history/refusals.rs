//! The last refused request of each phone user, in memory. Operators use this data to find the reason why a phone does
//! not register.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tandem_id::AccountName;
use tandem_sip as sip;

use crate::report::SipRequest;
use foldhash::HashMap;

/// Maximum number of users with a stored refusal. If this number is reached, refusals of other users are not stored.
const MAX_USERS: usize = 10_000;

/// The last refusal of each user, by account and user name.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<(AccountName, String), LastRefusal>>);

/// The last refusal of a user.
#[derive(Clone, Debug, Serialize)]
pub struct LastRefusal {
    at: Timestamp,
    reason: String,
    /// Number of refusals since the start of the server or the last registration of the user. This refusal is included.
    count: u64,
    #[serde(flatten)]
    request: SipRequest,
}

impl Refusals {
    /// Stores a refusal, which replaces the previous refusal of the user.
    pub fn note(&self, account: &AccountName, refused: &sip::RefusedRequest, at: Timestamp) {
        let mut kept = self.0.lock();
        let full = kept.len() >= MAX_USERS;
        let last = |count| LastRefusal { at, reason: refused.why.clone(), count, request: refused.into() };
        match kept.entry((account.clone(), refused.username.clone())) {
            Entry::Occupied(mut entry) => {
                let count = entry.get().count + 1;
                entry.insert(last(count));
            }
            Entry::Vacant(entry) if !full => drop(entry.insert(last(1))),
            Entry::Vacant(_) => {}
        }
    }

    /// Removes the refusal of a user after the user has registered.
    pub fn forget(&self, account: &AccountName, username: &Arc<str>) {
        self.0.lock().remove(&(account.clone(), username.to_string()));
    }

    /// Returns the last refusal of a user of an account. Returns `None` if there was no refusal since the start of the
    /// server.
    pub fn last(&self, account: &AccountName, username: &str) -> Option<LastRefusal> {
        self.0.lock().get(&(account.clone(), username.to_owned())).cloned()
    }
}
