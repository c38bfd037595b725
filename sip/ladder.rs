//! What was said: every message of every live and recent call, as it was sent and received.
//!
//! Three rings of bounded size. Messages whose Call-ID is a leg's go to its call; calls fall out whole, those that ended
//! first before those that live, oldest first. Messages of no leg are kept apart, those of strangers apart again, so that no
//! scanner pushes a call out. Nothing is read of a message but its Call-ID, and nothing is copied that was allocated for it
//! alone. What is kept is kept as it was: whoever shows it hides what is secret in it with [`redact`](crate::redact).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::header;
use crate::leg::{LegKey, Transport};

/// Octets kept of one message; SIP's own are far shorter.
const MOST_OF_A_MESSAGE: usize = 16 * 1024;
/// Messages of one call; beyond them the one in the middle goes, so that its beginning and its latest stay.
const MOST_OF_A_CALL: usize = 400;
/// One call may fill so much of the ring: a sixteenth.
const SHARE_OF_A_CALL: usize = 16;
/// The messages of no leg, and those of strangers, have an eighth of the ring each.
const SHARE_OF_THE_REST: usize = 8;
/// ... and at most so many messages.
const MOST_OF_THE_REST: usize = 2_000;
/// Legs remembered by one Call-ID: two when we call ourselves.
const MOST_LEGS: usize = 8;
/// Messages of an ordinary call's leg.
const USUAL: usize = 8;
/// Messages looked through for a new leg's INVITE and what came before it.
const LOOK_BACK: usize = 8;

/// One message.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// We sent it.
    pub sent: bool,
    /// How it travelled.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The other side's.
    pub peer: SocketAddr,
    /// The message as it was; of one above 16 KiB the beginning.
    pub data: Bytes,
}

impl Seen {
    fn cost(&self) -> usize {
        self.data.len() + size_of::<Self>()
    }
}

/// What is kept with one Call-ID.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The Call-ID.
    pub sip_call_id: String,
    /// The legs whose it is: one, or two of a call to ourselves; none of a registration, OPTIONS or a refusal.
    pub legs: Vec<LegKey>,
    /// In the order of time.
    pub messages: Vec<Seen>,
    /// Messages of it that were not kept because it had too many.
    pub left_out: u64,
}

/// How full the rings are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Calls, by Call-ID.
    pub calls: usize,
    /// Their messages and all others.
    pub messages: usize,
    /// Octets, with what each message costs beside its own.
    pub octets: usize,
}

/// The rings. Shared by the driver, which fills them, and whoever asks.
#[derive(Debug)]
pub struct Ladder {
    rings: Mutex<Rings>,
}

impl Ladder {
    /// Rings of so many octets altogether.
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

    /// Takes a message. `stranger` is asked only when its Call-ID is no leg's.
    pub fn record(&self, mut seen: Seen, stranger: impl FnOnce() -> bool) {
        // A message of a stream is a part of the octets that were read together with others.
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

    /// A leg has come to be: messages of this Call-ID are its own from now on, and those just seen.
    pub fn begin(&self, leg: LegKey, call_id: &[u8]) {
        self.lock().begin(leg, call_id);
    }

    /// The leg is over: its call is one of those that may fall out first.
    pub fn end(&self, call_id: &[u8]) {
        self.lock().end(call_id);
    }

    /// The messages of these legs, by Call-ID, oldest call first.
    #[must_use]
    pub fn of_legs(&self, legs: &[LegKey]) -> Vec<Trace> {
        let rings = self.lock();
        let wanted = rings.calls.values().filter(|call| call.legs.iter().any(|leg| legs.contains(leg)));
        wanted.map(|call| rings.trace(call)).collect()
    }

    /// The messages with this Call-ID, of a leg or of none. `None` if there are none.
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

    /// The last messages of peers that are in no trunk's networks, and our answers, as far as they belong to no leg.
    #[must_use]
    pub fn strangers(&self) -> Vec<Seen> {
        self.lock().strangers.messages.iter().cloned().collect()
    }

    /// How full the rings are.
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
    /// Octets that calls may have.
    most: usize,
    /// That they have.
    octets: usize,
    /// Number of the next call.
    next: u64,
    by_call_id: HashMap<Arc<[u8]>, u64>,
    /// Oldest first.
    calls: BTreeMap<u64, Call>,
    /// In the order of their ends. Some are gone by now, or live again.
    ended: VecDeque<u64>,
    /// Of no leg: registrations, OPTIONS, refusals.
    others: Ring,
    strangers: Ring,
}

#[derive(Debug)]
struct Call {
    id: Arc<[u8]>,
    legs: Vec<LegKey>,
    live: usize,
    /// Its number is in `ended`.
    queued: bool,
    messages: Vec<Seen>,
    octets: usize,
    left_out: u64,
}

/// The last messages of a kind.
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

    /// Forgets the call that ended first, or the oldest when all live.
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
        // What was refused before the leg came to be, such as an INVITE without credentials.
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

    /// Takes out what the last few messages have of this Call-ID.
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

/// The value of the first Call-ID line, found without reading more of the message.
pub(crate) fn call_id(data: &[u8]) -> Option<&[u8]> {
    let (mut start, mut at) = (0, 0);
    while start < data.len() {
        let end = header::first_control(data.get(at..)?).map_or(data.len(), |control| at + control);
        at = end + if data.get(end..).is_some_and(|rest| rest.starts_with(b"\r\n")) { 2 } else { 1 };
        // Of control characters only LF ends a line.
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
