//! Challenges that are not answered. A client that gets a 401 repeats its request with credentials at once. A client
//! that has no password for this server sends nothing more, and the server keeps no state of the refused request. So
//! this table has each challenged request for a short time, and reports those whose client never sent credentials.
//!
//! The table has at most [`MAX_UNANSWERED`] requests. While the table is full, further challenged requests are only
//! counted. Of each source, at most one request in 10 s is reported ([`Guard::take_log_line`](crate::guard::Guard)).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::endpoint::Arrival;
use crate::leg::RefusedRequest;
use crate::message::Request;

/// Maximum number of challenged requests that wait for credentials.
pub(super) const MAX_UNANSWERED: usize = 1_024;
/// Time for which the server waits for credentials, in T1 (5 s with the usual T1). A client repeats a request that was
/// lost on the way after 1, 3 and 7 T1.
const WAIT_IN_T1: u32 = 10;

/// The requests that were challenged a short time ago, in the order of their challenges.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    requests: VecDeque<Challenged>,
    /// Number of challenged requests that found the table full since the last report.
    left_out: u64,
}

/// A challenged request whose client has sent no credentials yet.
#[derive(Debug)]
pub(super) struct Challenged {
    due: Instant,
    /// Whether the source belongs to a trunk.
    pub(super) is_known: bool,
    pub(super) request: Box<RefusedRequest>,
}

impl Unanswered {
    /// Notes a request that was challenged now. A repetition of a noted request changes nothing. `request` returns the
    /// description of the request.
    pub(super) fn note(
        &mut self,
        now: Instant,
        t1: Duration,
        is_known: bool,
        call_id: &str,
        request: impl FnOnce() -> RefusedRequest,
    ) {
        if self.requests.iter().any(|one| one.request.sip_call_id == call_id) {
            return;
        }
        if self.requests.len() >= MAX_UNANSWERED {
            self.left_out += 1;
            return;
        }
        let (due, request) = (now + t1 * WAIT_IN_T1, Box::new(request()));
        self.requests.push_back(Challenged { due, is_known, request });
    }

    /// Removes the request that this request repeats with credentials. The Call-ID is the same (RFC 3261 §8.1.3.5). For
    /// clients that change the Call-ID, the source, the method and the From user are the same.
    pub(super) fn answer(&mut self, arrival: &Arrival, request: &Request, call_id: &str) {
        self.requests.retain(|one| {
            let one = &*one.request;
            let is_again = one.sip_call_id == call_id
                || one.source == arrival.source
                    && one.method == request.method.as_str()
                    && one.from == super::shown(&request.from.uri.user());
            !is_again
        });
    }

    /// Returns the time at which [`Unanswered::poll_due`] has a request, if no credentials arrive before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.requests.front().map(|one| one.due)
    }

    /// Returns the next request whose time has passed.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Challenged> {
        self.requests.pop_front_if(|one| one.due <= now)
    }

    /// Returns the number of requests that found the table full, and begins to count again.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}
