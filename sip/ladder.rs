//! The SIP ladder: every message of every live and recent call, as it was sent and received.
//!
//! Three rings of bounded size keep the messages. A message whose Call-ID belongs to a leg is kept with its call. Calls
//! are dropped as a whole: first ended calls, in the order of their ends, then live calls, oldest first. Messages of no
//! leg have a ring of their own, and so have those of unknown sources, so that no scanner can push a call out. Only the
//! Call-ID of a message is read. The octets are shared, not copied, unless they are part of a larger buffer. Messages
//! are kept unchanged; a reader that shows them hides their secrets with [`redact`](crate::redact).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::header;
use crate::leg::{LegKey, Transport};

/// Most octets that are kept of one message. Ordinary SIP messages are far shorter.
const MOST_OF_A_MESSAGE: usize = 16 * 1024;
/// Most messages of one call. Beyond them the message in the middle is dropped, so that the first and the latest ones
/// stay.
const MOST_OF_A_CALL: usize = 400;
/// One call may use at most this fraction (1/16) of the calls' octets.
const SHARE_OF_A_CALL: usize = 16;
/// Messages of no leg, and messages of unknown sources, have this fraction (1/8) of all octets each.
const SHARE_OF_THE_REST: usize = 8;
/// Most messages in each of these two rings.
const MOST_OF_THE_REST: usize = 2_000;
/// Most legs that are remembered for one Call-ID. A call from the server to itself has two.
const MOST_LEGS: usize = 8;
/// Messages of an ordinary call, for which memory is reserved at once.
const USUAL: usize = 8;
/// Latest messages that are searched for a new leg's INVITE and the messages before it.
const LOOK_BACK: usize = 8;

/// One message that was sent or received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When the message was sent or received.
    pub at: Instant,
    /// Whether the server sent it.
    pub sent: bool,
    /// The transport of the message.
    pub transport: Transport,
    /// The local address.
    pub local: SocketAddr,
    /// The far end's address.
    pub peer: SocketAddr,
    /// The message unchanged; only its first 16 KiB if it is longer.
    pub data: Bytes,
}

impl Seen {
    fn cost(&self) -> usize {
        self.data.len() + size_of::<Self>()
    }
}

/// The messages with one Call-ID.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The Call-ID of the messages.
    pub sip_call_id: String,
    /// The legs with this Call-ID: one, two for a call from the server to itself, none for a registration, OPTIONS or a
    /// refused call.
    pub legs: Vec<LegKey>,
    /// The messages, oldest first.
    pub messages: Vec<Seen>,
    /// Count of messages that were dropped because the call had too many.
    pub left_out: u64,
}

/// The amount of data in the rings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Count of Call-IDs that belong to a leg.
    pub calls: usize,
    /// Count of all messages, those of no leg included.
    pub messages: usize,
    /// Octets of all messages, with the overhead of each message.
    pub octets: usize,
}

/// The three rings. The driver fills them; other threads read them.
#[derive(Debug)]
pub struct Ladder {
    rings: Mutex<Rings>,
}

impl Ladder {
    /// Creates rings of `octets` octets in total.
    #[must_use]
    pub fn new(octets: usize) -> Self {
        let rest = octets / SHARE_OF_THE_REST;
        let rings = Rings {
            most: octets - 2 * rest,
            octets: 0,
            next: 0,
            by_call_id: HashMap::new(),
            calls: BTreeMap::new(),
            ended: VecDeque::new(),
            others: Ring::of(rest),
            strangers: Ring::of(rest),
        };
        Self { rings: Mutex::new(rings) }
    }

    /// Stores a message. `stranger` returns whether its source is unknown. It is called only if the Call-ID belongs to
    /// no leg.
    pub fn record(&self, mut seen: Seen, stranger: impl FnOnce() -> bool) {
        // A message from a stream is a slice of a larger read buffer, which it would keep in memory.
        if seen.data.len() > MOST_OF_A_MESSAGE || (seen.transport.is_reliable() && !seen.sent) {
            let kept = seen.data.get(..MOST_OF_A_MESSAGE).unwrap_or(&seen.data);
            seen.data = Bytes::copy_from_slice(kept);
        }
        let mut rings = self.lock();
        let number = call_id(&seen.data).and_then(|id| rings.by_call_id.get(id)).copied();
        match number {
            Some(number) => rings.push(number, seen),
            None if is_keep_alive(&seen.data) => {}
            None if stranger() => rings.strangers.push(seen),
            None => rings.others.push(seen),
        }
    }

    /// Records a new leg. Messages with this Call-ID belong to it from now on, and so do those that were just stored.
    pub fn begin(&self, leg: LegKey, call_id: &[u8]) {
        self.lock().begin(leg, call_id);
    }

    /// Records the end of a leg. Its call may now be dropped before live ones.
    pub fn end(&self, call_id: &[u8]) {
        self.lock().end(call_id);
    }

    /// Returns the messages of these legs by Call-ID, oldest call first.
    #[must_use]
    pub fn of_legs(&self, legs: &[LegKey]) -> Vec<Trace> {
        let rings = self.lock();
        let wanted = rings.calls.values().filter(|call| call.legs.iter().any(|leg| legs.contains(leg)));
        wanted.map(|call| rings.trace(call)).collect()
    }

    /// Returns the messages with this Call-ID, whether they belong to a leg or not; `None` if there are none.
    #[must_use]
    pub fn of_call_id(&self, id: &str) -> Option<Trace> {
        let rings = self.lock();
        if let Some(call) = rings.by_call_id.get(id.as_bytes()).and_then(|number| rings.calls.get(number)) {
            return Some(rings.trace(call));
        }
        let messages = rings.without_a_leg(id.as_bytes());
        let trace = Trace { sip_call_id: id.to_owned(), messages, ..Trace::default() };
        (!trace.messages.is_empty()).then_some(trace)
    }

    /// Returns the latest messages from and to unknown sources, without those that belong to a leg.
    #[must_use]
    pub fn strangers(&self) -> Vec<Seen> {
        self.lock().strangers.messages.iter().cloned().collect()
    }

    /// Returns how full the rings are.
    #[must_use]
    pub fn fill(&self) -> Fill {
        let rings = self.lock();
        let of_calls: usize = rings.calls.values().map(|call| call.messages.len()).sum();
        Fill {
            calls: rings.calls.len(),
            messages: of_calls + rings.others.messages.len() + rings.strangers.messages.len(),
            octets: rings.octets + rings.others.octets + rings.strangers.octets,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Rings {
    /// Most octets of all calls.
    most: usize,
    /// Octets of all calls now.
    octets: usize,
    /// Number of the next call.
    next: u64,
    by_call_id: HashMap<Arc<[u8]>, u64>,
    /// The calls by number, oldest first.
    calls: BTreeMap<u64, Call>,
    /// Numbers of calls in the order of their ends. Some of these calls may have been dropped, or be live again.
    ended: VecDeque<u64>,
    /// Messages of no leg: registrations, OPTIONS, refused calls.
    others: Ring,
    strangers: Ring,
}

#[derive(Debug)]
struct Call {
    id: Arc<[u8]>,
    legs: Vec<LegKey>,
    live: usize,
    /// Whether the call's number is in `ended`.
    queued: bool,
    messages: Vec<Seen>,
    octets: usize,
    left_out: u64,
}

/// The latest messages of one kind.
#[derive(Debug)]
struct Ring {
    most: usize,
    octets: usize,
    messages: VecDeque<Seen>,
}

impl Rings {
    fn begin(&mut self, leg: LegKey, id: &[u8]) {
        let number = match self.by_call_id.get(id) {
            Some(&number) => number,
            None => {
                let number = self.next;
                self.next += 1;
                let id: Arc<[u8]> = id.into();
                self.by_call_id.insert(Arc::clone(&id), number);
                let call = Call {
                    id: Arc::clone(&id),
                    legs: Vec::new(),
                    live: 0,
                    queued: false,
                    messages: Vec::with_capacity(USUAL),
                    octets: size_of::<Call>() + id.len(),
                    left_out: 0,
                };
                self.octets += call.octets;
                self.calls.insert(number, call);
                let mut before = self.others.take_last(&id);
                before.append(&mut self.strangers.take_last(&id));
                before.into_iter().for_each(|seen| self.push(number, seen));
                number
            }
        };
        if let Some(call) = self.calls.get_mut(&number) {
            call.live += 1;
            if call.legs.len() == MOST_LEGS {
                call.legs.remove(0);
            }
            call.legs.push(leg);
        }
    }

    fn end(&mut self, id: &[u8]) {
        let Some(&number) = self.by_call_id.get(id) else { return };
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.live = call.live.saturating_sub(1);
        if call.live == 0 && !call.queued {
            call.queued = true;
            self.ended.push_back(number);
        }
    }

    fn push(&mut self, number: u64, seen: Seen) {
        let share = self.most / SHARE_OF_A_CALL;
        let Some(call) = self.calls.get_mut(&number) else { return };
        let before = call.octets;
        call.octets += seen.cost();
        call.messages.push(seen);
        while call.messages.len() > 1 && (call.messages.len() > MOST_OF_A_CALL || call.octets > share) {
            call.octets -= call.messages.remove(call.messages.len() / 2).cost();
            call.left_out += 1;
        }
        self.octets = self.octets + call.octets - before;
        while self.octets > self.most && self.drop_one() {}
    }

    /// Drops the call that ended first, or the oldest one when all are live. Returns `false` if there is none.
    fn drop_one(&mut self) -> bool {
        let mut number = None;
        while let Some(ended) = self.ended.pop_front() {
            let Some(call) = self.calls.get_mut(&ended) else { continue };
            call.queued = false;
            if call.live == 0 {
                number = Some(ended);
                break;
            }
        }
        let number = number.or_else(|| self.calls.first_key_value().map(|(number, _)| *number));
        let Some(call) = number.and_then(|number| self.calls.remove(&number)) else { return false };
        self.by_call_id.remove(&call.id);
        self.octets -= call.octets;
        true
    }

    fn trace(&self, call: &Call) -> Trace {
        // Includes messages that were refused before the leg existed, such as an INVITE without credentials.
        let mut messages = self.without_a_leg(&call.id);
        messages.extend_from_slice(&call.messages);
        messages.sort_by_key(|seen| seen.at);
        let sip_call_id = String::from_utf8_lossy(&call.id).into_owned();
        Trace { sip_call_id, legs: call.legs.clone(), messages, left_out: call.left_out }
    }

    fn without_a_leg(&self, id: &[u8]) -> Vec<Seen> {
        let all = self.others.messages.iter().chain(&self.strangers.messages);
        let mut found: Vec<Seen> = all.filter(|seen| call_id(&seen.data) == Some(id)).cloned().collect();
        found.sort_by_key(|seen| seen.at);
        found
    }
}

impl Ring {
    fn of(most: usize) -> Self {
        Self { most, octets: 0, messages: VecDeque::new() }
    }

    fn push(&mut self, seen: Seen) {
        self.octets += seen.cost();
        self.messages.push_back(seen);
        while self.octets > self.most || self.messages.len() > MOST_OF_THE_REST {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.octets -= oldest.cost();
        }
    }

    /// Removes and returns those of the last [`LOOK_BACK`] messages that have this Call-ID.
    fn take_last(&mut self, id: &[u8]) -> Vec<Seen> {
        let mut taken = Vec::new();
        let last = self.messages.len().saturating_sub(LOOK_BACK);
        for at in (last..self.messages.len()).rev() {
            if self.messages.get(at).is_some_and(|seen| call_id(&seen.data) == Some(id)) {
                taken.extend(self.messages.remove(at));
            }
        }
        taken.iter().for_each(|seen| self.octets -= seen.cost());
        taken.reverse();
        taken
    }
}

/// Returns the value of the first Call-ID line. It does not read the message further than that line.
pub(crate) fn call_id(data: &[u8]) -> Option<&[u8]> {
    let (mut start, mut at) = (0, 0);
    while start < data.len() {
        let end = header::first_control(data.get(at..)?).map_or(data.len(), |control| at + control);
        at = end + if data.get(end..).is_some_and(|rest| rest.starts_with(b"\r\n")) { 2 } else { 1 };
        // Of the control characters only LF ends a line.
        if data.get(at - 1).is_some_and(|&byte| byte != b'\n') {
            continue;
        }
        let line = data.get(start..at - 1)?;
        start = at;
        let (name, value) = match line {
            [b'C' | b'c', ..] if line.len() > 8 => line.split_at(7),
            [b'I' | b'i', ..] => line.split_at(1),
            [] | [b'\r'] => return None,
            _ => continue,
        };
        if (name.len() == 1 || name.eq_ignore_ascii_case(b"Call-ID"))
            && let Some(value) = value.trim_ascii_start().strip_prefix(b":")
        {
            return Some(value.trim_ascii());
        }
    }
    None
}

fn is_keep_alive(data: &[u8]) -> bool {
    data.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests;
