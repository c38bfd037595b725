//! The requests for documents that are in progress, by call. A request may end after its call, so the report of an ended
//! call says whether a failure may still follow.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::Mutex;
use tandem_id::CallId;

/// The number of requests in progress of each call. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct PendingRequests(Arc<Mutex<HashMap<CallId, usize>>>);

/// A request in progress. The request ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    of: CallId,
    all: PendingRequests,
}

impl PendingRequests {
    /// Counts a request of this call.
    pub(crate) fn begin(&self, of: CallId) -> PendingRequest {
        *self.0.lock().entry(of).or_default() += 1;
        PendingRequest { of, all: self.clone() }
    }

    /// Returns the number of requests of this call that are in progress. The call may have ended.
    pub fn count(&self, of: CallId) -> usize {
        self.0.lock().get(&of).copied().unwrap_or_default()
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock();
        match counts.get_mut(&self.of) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.of)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_for_its_call_until_it_ends() {
        let (pending, call) = (PendingRequests::default(), CallId(7));
        let (one, two) = (pending.begin(call), pending.begin(call));
        assert_eq!((pending.count(call), pending.count(CallId(8))), (2, 0));
        drop(one);
        assert_eq!(pending.count(call), 1);
        drop(two);
        assert!(pending.0.lock().is_empty());
    }
}
