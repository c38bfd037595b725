//! A leg from the inside: what it runs, what it is joined to, what is being recorded of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Target;
use crate::call::OnAnswer;
use crate::conference::Participation;
use crate::id::{LegId, OpId, StreamId};
use crate::leg::{EndCause, EndFailure, LegInfo};
use crate::machine::{Detecting, MachineDetection};
use crate::program::Running;
use crate::program::beside::Beside;
use crate::program::dial::Dialing;
use crate::program::enqueue::Waiting;
use crate::program::gather::Gathering;
use crate::program::instruction::{AfterBridge, Instruction, Play, SendDigits};
use crate::recording::{ActiveRecording, NewRecording};
use crate::refer::Referral;
use crate::siprec::Copying;
use crate::stream::StreamSpec;
use crate::supervision::Supervision;
use crate::transcription::Transcribing;

/// Legs of one call; a dial skips the targets beyond, requests are refused.
pub(crate) const MOST_LEGS: usize = 64;
/// Instructions that may wait on one leg by request; further ones are refused.
pub(crate) const MOST_QUEUED: usize = 100;
/// Recordings of one leg at a time; further requests are refused, further instructions passed over.
pub(crate) const MOST_RECORDINGS: usize = 8;
/// Streams of one leg at a time; further requests are refused, further instructions passed over.
pub(crate) const MOST_STREAMS: usize = 4;
/// Live transcriptions of one leg at a time; likewise.
pub(crate) const MOST_TRANSCRIPTIONS: usize = 4;

/// One leg of a call. What few legs have, or have for a moment, is boxed: a call holds this for as long as it lasts.
pub(crate) struct Party {
    pub(crate) info: Arc<LegInfo>,
    pub(crate) mode: Mode,
    pub(crate) lane: Lane,
    /// Digits being collected beside what the lane plays (only by command).
    pub(crate) side: Option<Box<Gathering>>,
    /// Audio beside what the lane runs (only by command).
    pub(crate) beside: Option<Box<Beside>>,
    /// A transfer beside what the lane plays (only by command).
    pub(crate) transfer: Option<Box<Dialing>>,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) conference: Option<Box<Participation>>,
    /// Whose call it hears without being joined.
    pub(crate) supervision: Option<Box<Supervision>>,
    /// It waits in a queue, or is with somebody who took it out of one.
    pub(crate) waiting: Option<Box<Waiting>>,
    /// What has failed last on the application's side and leaves nothing to do but to end, as far as is known.
    pub(crate) failure: Option<Box<EndFailure>>,
    pub(crate) recordings: Vec<ActiveRecording>,
    pub(crate) streams: Vec<(StreamId, StreamSpec)>,
    pub(crate) transcriptions: Vec<Transcribing>,
    pub(crate) siprecs: Vec<Copying>,
    /// Documents asked for one after the other that took hardly any time: see [`crate::program::document`].
    pub(crate) hasty_documents: u32,
    /// When the leg's document came, or was asked for.
    pub(crate) document_since: Option<Instant>,
    pub(crate) on_answer: Option<Box<OnAnswer>>,
    pub(crate) send_digits: Option<Box<SendDigits>>,
    /// The digits being sent since the answer: what was to follow it waits for them.
    pub(crate) sending_digits: Option<OpId>,
    /// Who answers is to be found out, and is being.
    pub(crate) detect_on_answer: Option<Box<MachineDetection>>,
    pub(crate) detecting: Option<Detecting>,
    pub(crate) record_on_answer: Option<Box<NewRecording>>,
    pub(crate) stream_on_answer: Option<Box<StreamSpec>>,
    pub(crate) bridge_on_answer: Option<BridgeOnAnswer>,
    /// What its end is called if nobody answers in time.
    pub(crate) unanswered: EndCause,
    /// The others of this race end when it is answered.
    pub(crate) race: Option<LegId>,
    /// Its own document before it is joined (only a dial's child).
    pub(crate) whisper: Option<Target>,
    /// Audio for it alone before it is joined (only a dial's child).
    pub(crate) greeting: Option<Box<Play>>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) ring_timer: Option<OpId>,
    /// It ends with the ring timer unless a command comes before.
    pub(crate) awaits_command: bool,
    pub(crate) limit_timer: Option<OpId>,
    pub(crate) release_timer: Option<OpId>,
    /// It is called for a transfer.
    pub(crate) referral: Option<Referral>,
    /// Whose dial is told of its fate, if not its parent's: it was transferred there, or taken out of a queue.
    pub(crate) told_to: Option<LegId>,
}

impl Party {
    /// Whether a document decides, and has nothing after what runs now.
    pub(crate) fn has_only_this_left(&self) -> bool {
        self.mode == Mode::Document && self.lane.queue.is_empty()
    }

    pub(crate) fn new(info: LegInfo) -> Self {
        Self {
            info: Arc::new(info),
            mode: Mode::Commands,
            lane: Lane::default(),
            side: None,
            beside: None,
            transfer: None,
            bridge: None,
            conference: None,
            supervision: None,
            waiting: None,
            recordings: Vec::new(),
            streams: Vec::new(),
            transcriptions: Vec::new(),
            siprecs: Vec::new(),
            failure: None,
            hasty_documents: 0,
            document_since: None,
            on_answer: None,
            send_digits: None,
            sending_digits: None,
            detect_on_answer: None,
            detecting: None,
            record_on_answer: None,
            stream_on_answer: None,
            bridge_on_answer: None,
            unanswered: EndCause::Timeout,
            race: None,
            whisper: None,
            greeting: None,
            time_limit: None,
            ring_timer: None,
            awaits_command: false,
            limit_timer: None,
            release_timer: None,
            referral: None,
            told_to: None,
        }
    }
}

/// Who decides what a leg does when nothing is left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Its documents: the leg is hung up.
    Document,
    /// Commands, or the dial that made it: it waits.
    Commands,
    /// A called party's own document before the join: the dial goes on.
    Whisper,
    /// The queue that it waits in: it hears the same again.
    Queue,
}

/// What a leg runs: one instruction at a time.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) running: Option<Running>,
    pub(crate) queue: VecDeque<Instruction>,
}

/// A join that waits for this leg's answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BridgeOnAnswer {
    pub(crate) with: LegId,
    /// What becomes of this leg, and of the other, when its partner goes.
    pub(crate) after: (AfterBridge, AfterBridge),
    /// Not if the other is joined to a third one by then.
    pub(crate) if_free: bool,
}

/// A join with another leg.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bridge {
    pub(crate) with: LegId,
    /// What becomes of this leg when the other goes.
    pub(crate) after: AfterBridge,
    /// Whether applications know of it (early media is joined without telling).
    pub(crate) told: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    #[test]
    fn a_leg_and_what_a_call_orders_are_small() {
        let (party, output) = (size_of::<Party>(), size_of::<Output>());
        assert!(party <= 936 && output <= 32, "{party} and {output} octets");
    }
}
