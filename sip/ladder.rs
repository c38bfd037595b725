//! The SIP ladder: every message of every live and recent call, exactly as it was sent or received.
//!
//! Three rings of limited size store the messages. A message whose Call-ID belongs to a leg is stored with its call. If
//! memory is short, whole calls are dropped. Ended calls are dropped first. Among them, the call that ended first is
//! dropped first. After that, live calls are dropped, oldest first. Messages that belong to no leg have a separate
//! ring. Messages of unknown sources also have a separate ring, so that a scanner cannot displace a call. Only the
//! Call-ID of a message is read. The ladder shares the octets of a message and does not copy them, unless they are part
//! of a larger buffer. Messages are stored unchanged. A reader that shows messages hides their secrets with
//! [`redact`](crate::redact).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::flow::Transport;
use crate::header;
use crate::leg::LegId;

/// Maximum number of octets of a message that are stored. The rest of a longer message is not stored. Ordinary SIP
/// messages are much shorter.
const MAX_MESSAGE_OCTETS: usize = 16 * 1024;
/// Maximum number of messages of one call. Above this number, the message in the middle is dropped, so that the first
/// and the latest messages stay.
const MAX_CALL_MESSAGES: usize = 400;
/// The messages of one call may use at most this fraction (1/16) of the memory for calls.
const CALL_FRACTION: usize = 16;
/// The ring for messages without a leg has this fraction (1/8) of the whole memory. The ring for unknown sources has
/// the same size.
const RING_FRACTION: usize = 8;
/// Maximum number of messages in each of two rings: the ring for messages without a leg, and the ring for unknown
/// sources.
const MAX_RING_MESSAGES: usize = 2_000;
/// Maximum number of legs that are stored for one Call-ID. A call from the server to itself has two legs.
const MAX_LEGS_PER_CALL_ID: usize = 8;
/// Number of messages in an ordinary call. A new call reserves memory for this number of messages.
const ORDINARY_CALL_MESSAGES: usize = 8;
/// Number of the latest messages that are searched when a leg begins. The search finds the INVITE of the leg and
/// earlier messages of the leg.
const LOOK_BACK: usize = 8;

/// One message that was sent or received.
#[derive(Debug, Clone)]
pub struct TracedMessage {
    /// Time at which the message was sent or received.
    pub at: Instant,
    /// Whether the server sent the message. If not, the server received the message.
    pub sent: bool,
    /// The transport of the message.
    pub transport: Transport,
    /// The local address of the message.
    pub local: SocketAddr,
    /// The address of the far end.
    pub peer: SocketAddr,
    /// The unchanged message. If the message is longer than 16 KiB, this field has only its first 16 KiB.
    pub data: Bytes,
}

impl TracedMessage {
    fn cost(&self) -> usize {
        self.data.len() + size_of::<Self>()
    }
}

/// The messages with the same Call-ID.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The Call-ID of the messages.
    pub sip_call_id: String,
    /// The legs with this Call-ID. Usually there is one leg. A call from the server to itself has two legs. A
    /// registration, an OPTIONS or a refused call has no leg.
    pub legs: Vec<LegId>,
    /// The messages, oldest first.
    pub messages: Vec<TracedMessage>,
    /// Number of messages of the call that were dropped, because the call had too many messages or octets.
    pub left_out: u64,
}

/// The amount of data in the rings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Number of Call-IDs that belong to a leg.
    pub calls: usize,
    /// Number of all messages, including messages without a leg.
    pub messages: usize,
    /// Number of octets that all messages use, including the overhead of each message.
    pub octets: usize,
}

/// The three rings. The driver fills the rings, and other threads read them.
#[derive(Debug)]
pub struct Ladder {
    rings: Mutex<Rings>,
}

impl Ladder {
    /// Creates the rings. `octets` is the memory of all rings together.
    #[must_use]
    pub fn new(octets: usize) -> Self {
        let ring_octets = octets / RING_FRACTION;
        let rings = Rings {
            max_octets: octets - 2 * ring_octets,
            octets: 0,
            next: 0,
            by_call_id: HashMap::new(),
            calls: BTreeMap::new(),
            ended: VecDeque::new(),
            others: Ring::of(ring_octets),
            unknown_sources: Ring::of(ring_octets),
        };
        Self { rings: Mutex::new(rings) }
    }

    /// Stores a message. `is_unknown` returns whether the source of the message is unknown. This function is called
    /// only if the Call-ID of the message belongs to no leg.
    pub fn record(&self, mut message: TracedMessage, is_unknown: impl FnOnce() -> bool) {
        // A message from a stream is a slice of a larger read buffer. The slice would keep the whole buffer in memory,
        // so the message is copied.
        if message.data.len() > MAX_MESSAGE_OCTETS || (message.transport.is_reliable() && !message.sent) {
            let stored = message.data.get(..MAX_MESSAGE_OCTETS).unwrap_or(&message.data);
            message.data = Bytes::copy_from_slice(stored);
        }
        let mut rings = self.lock();
        let number = call_id(&message.data).and_then(|id| rings.by_call_id.get(id)).copied();
        match number {
            Some(number) => rings.push(number, message),
            None if is_keep_alive(&message.data) => {}
            None if is_unknown() => rings.unknown_sources.push(message),
            None => rings.others.push(message),
        }
    }

    /// Records a new leg with this Call-ID. From now on, messages with this Call-ID belong to the leg. If the latest
    /// stored messages include messages with this Call-ID, these messages belong to the leg too.
    pub fn begin(&self, leg: LegId, call_id: &[u8]) {
        self.lock().begin(leg, call_id);
    }

    /// Changes the key of a leg with this Call-ID.
    pub fn rename(&self, call_id: &[u8], from: LegId, to: LegId) {
        let mut rings = self.lock();
        let number = rings.by_call_id.get(call_id).copied();
        if let Some(call) = number.and_then(|number| rings.calls.get_mut(&number)) {
            call.legs.iter_mut().filter(|leg| **leg == from).for_each(|leg| *leg = to);
        }
    }

    /// Records the end of a leg. If all legs of the call have ended, the call is dropped before live calls.
    pub fn end(&self, call_id: &[u8]) {
        self.lock().end(call_id);
    }

    /// Returns the messages of these legs, grouped by Call-ID, oldest call first.
    #[must_use]
    pub fn of_legs(&self, legs: &[LegId]) -> Vec<Trace> {
        let rings = self.lock();
        let wanted = rings.calls.values().filter(|call| call.legs.iter().any(|leg| legs.contains(leg)));
        wanted.map(|call| rings.trace(call)).collect()
    }

    /// Returns the messages with this Call-ID, with or without a leg. Returns `None` if there are no such messages.
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

    /// Returns the latest messages from and to unknown sources, without messages that belong to a leg.
    #[must_use]
    pub fn from_unknown_sources(&self) -> Vec<TracedMessage> {
        self.lock().unknown_sources.messages.iter().cloned().collect()
    }

    /// Returns the amount of data in the rings.
    #[must_use]
    pub fn fill(&self) -> Fill {
        let rings = self.lock();
        let of_calls: usize = rings.calls.values().map(|call| call.messages.len()).sum();
        Fill {
            calls: rings.calls.len(),
            messages: of_calls + rings.others.messages.len() + rings.unknown_sources.messages.len(),
            octets: rings.octets + rings.others.octets + rings.unknown_sources.octets,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Rings {
    /// Maximum number of octets of all calls.
    max_octets: usize,
    /// Current number of octets of all calls.
    octets: usize,
    /// Number of the next call.
    next: u64,
    by_call_id: HashMap<Arc<[u8]>, u64>,
    /// The calls by number, oldest first.
    calls: BTreeMap<u64, Call>,
    /// Numbers of calls in the order of their ends. A call in this list may have been dropped already, or may have a
    /// new leg.
    ended: VecDeque<u64>,
    /// Messages without a leg: registrations, OPTIONS and refused calls.
    others: Ring,
    unknown_sources: Ring,
}

#[derive(Debug)]
struct Call {
    id: Arc<[u8]>,
    legs: Vec<LegId>,
    live: usize,
    /// Whether `ended` contains the number of this call.
    queued: bool,
    messages: Vec<TracedMessage>,
    octets: usize,
    left_out: u64,
}

/// The latest messages of one kind.
#[derive(Debug)]
struct Ring {
    max_octets: usize,
    octets: usize,
    messages: VecDeque<TracedMessage>,
}

impl Rings {
    fn begin(&mut self, leg: LegId, id: &[u8]) {
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
                    messages: Vec::with_capacity(ORDINARY_CALL_MESSAGES),
                    octets: size_of::<Call>() + id.len(),
                    left_out: 0,
                };
                self.octets += call.octets;
                self.calls.insert(number, call);
                let mut before = self.others.take_last(&id);
                before.append(&mut self.unknown_sources.take_last(&id));
                before.into_iter().for_each(|message| self.push(number, message));
                number
            }
        };
        if let Some(call) = self.calls.get_mut(&number) {
            call.live += 1;
            // The branches of a leg have the same Call-ID and the same leg.
            if call.legs.contains(&leg) {
                return;
            }
            if call.legs.len() == MAX_LEGS_PER_CALL_ID {
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

    fn push(&mut self, number: u64, message: TracedMessage) {
        let share = self.max_octets / CALL_FRACTION;
        let Some(call) = self.calls.get_mut(&number) else { return };
        let before = call.octets;
        call.octets += message.cost();
        call.messages.push(message);
        while call.messages.len() > 1 && (call.messages.len() > MAX_CALL_MESSAGES || call.octets > share) {
            call.octets -= call.messages.remove(call.messages.len() / 2).cost();
            call.left_out += 1;
        }
        self.octets = self.octets + call.octets - before;
        while self.octets > self.max_octets && self.drop_one() {}
    }

    /// Drops the call that ended first. If all calls are live, drops the oldest call. Returns `false` if there is no
    /// call.
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
        // This includes messages that were refused before the leg existed, such as an INVITE without credentials.
        let mut messages = self.without_a_leg(&call.id);
        messages.extend_from_slice(&call.messages);
        messages.sort_by_key(|message| message.at);
        let sip_call_id = String::from_utf8_lossy(&call.id).into_owned();
        Trace { sip_call_id, legs: call.legs.clone(), messages, left_out: call.left_out }
    }

    fn without_a_leg(&self, id: &[u8]) -> Vec<TracedMessage> {
        let all = self.others.messages.iter().chain(&self.unknown_sources.messages);
        let mut found: Vec<TracedMessage> = all.filter(|message| call_id(&message.data) == Some(id)).cloned().collect();
        found.sort_by_key(|message| message.at);
        found
    }
}

impl Ring {
    fn of(max_octets: usize) -> Self {
        Self { max_octets, octets: 0, messages: VecDeque::new() }
    }

    fn push(&mut self, message: TracedMessage) {
        self.octets += message.cost();
        self.messages.push_back(message);
        while self.octets > self.max_octets || self.messages.len() > MAX_RING_MESSAGES {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.octets -= oldest.cost();
        }
    }

    /// Removes and returns the messages with this Call-ID from the last [`LOOK_BACK`] messages.
    fn take_last(&mut self, id: &[u8]) -> Vec<TracedMessage> {
        let mut taken = Vec::new();
        let last = self.messages.len().saturating_sub(LOOK_BACK);
        for at in (last..self.messages.len()).rev() {
            if self.messages.get(at).is_some_and(|message| call_id(&message.data) == Some(id)) {
                taken.extend(self.messages.remove(at));
            }
        }
        taken.iter().for_each(|message| self.octets -= message.cost());
        taken.reverse();
        taken
    }
}

/// Returns the value of the first Call-ID line. The function does not read the rest of the message after this line.
pub(crate) fn call_id(data: &[u8]) -> Option<&[u8]> {
    let (mut start, mut at) = (0, 0);
    while start < data.len() {
        let end = header::first_control(data.get(at..)?).map_or(data.len(), |control| at + control);
        at = end + if data.get(end..).is_some_and(|rest| rest.starts_with(b"\r\n")) { 2 } else { 1 };
        // Only the control character LF ends a line.
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
