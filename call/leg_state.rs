//! Internal state of a leg: the program it runs, its bridge, its recordings and streams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Target;
use crate::call::OnAnswer;
use crate::conference::Participation;
use crate::id::{LegId, OpId, StreamId};
use crate::leg::{EndCause, EndFailure, LegInfo};
use crate::machine_detection::{Detecting, MachineDetection};
use crate::program::Running;
use crate::program::dial::Dialing;
use crate::program::enqueue::Waiting;
use crate::program::gather::Gathering;
use crate::program::instruction::{AfterBridge, Instruction, Play, SendDigits};
use crate::program::overlay::Overlay;
use crate::recording::{ActiveRecording, NewRecording};
use crate::refer::Referral;
use crate::siprec::ActiveSiprec;
use crate::stream::StreamSpec;
use crate::supervision::Supervision;
use crate::transcription::Transcribing;

/// Maximum legs of a call. A dial skips further targets; further requests are refused.
pub(crate) const MOST_LEGS: usize = 64;
/// Maximum instructions that may wait on a leg by request; further requests are refused.
pub(crate) const MOST_QUEUED: usize = 100;
/// Maximum simultaneous recordings of a leg. Further requests are refused, further instructions are skipped.
pub(crate) const MOST_RECORDINGS: usize = 8;
/// Maximum simultaneous streams of a leg. Further requests are refused, further instructions are skipped.
pub(crate) const MOST_STREAMS: usize = 4;
/// Maximum simultaneous live transcriptions of a leg. Further requests are refused, further instructions are skipped.
pub(crate) const MOST_TRANSCRIPTIONS: usize = 4;

/// The state of one leg. Fields that few legs use, or use only briefly, are boxed, because the call keeps this struct
/// as long as it lasts.
pub(crate) struct LegState {
    pub(crate) info: Arc<LegInfo>,
    pub(crate) mode: Mode,
    pub(crate) runner: ProgramRunner,
    /// A gather started by a command; it runs beside the playback of the leg's program.
    pub(crate) side_gather: Option<Box<Gathering>>,
    /// Audio started by a command; it plays beside the leg's program.
    pub(crate) overlay: Option<Box<Overlay>>,
    /// A transfer started by a command; it runs beside the playback of the leg's program.
    pub(crate) transfer: Option<Box<Dialing>>,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) conference: Option<Box<Participation>>,
    /// The call that this leg hears as a supervisor, without a bridge.
    pub(crate) supervision: Option<Box<Supervision>>,
    /// The leg's wait in a queue. It stays set while the leg is bridged with the agent that took it out of the queue.
    pub(crate) waiting: Option<Box<Waiting>>,
    /// The latest failure on the application's side after which, as far as is known, the leg can only end.
    pub(crate) failure: Option<Box<EndFailure>>,
    pub(crate) recordings: Vec<ActiveRecording>,
    pub(crate) streams: Vec<(StreamId, StreamSpec)>,
    pub(crate) transcriptions: Vec<Transcribing>,
    pub(crate) siprecs: Vec<ActiveSiprec>,
    /// Number of consecutive documents that ran for hardly any time; see [`crate::program::document`].
    pub(crate) hasty_documents: u32,
    /// Time at which the leg's document arrived or was requested.
    pub(crate) document_since: Option<Instant>,
    pub(crate) on_answer: Option<Box<OnAnswer>>,
    pub(crate) send_digits: Option<Box<SendDigits>>,
    /// The digits that are being sent after the answer; everything else after the answer waits for them.
    pub(crate) sending_digits: Option<OpId>,
    /// Answering-machine detection that starts with the answer.
    pub(crate) detect_on_answer: Option<Box<MachineDetection>>,
    pub(crate) detecting: Option<Detecting>,
    pub(crate) record_on_answer: Option<Box<NewRecording>>,
    pub(crate) stream_on_answer: Option<Box<StreamSpec>>,
    pub(crate) bridge_on_answer: Option<BridgeOnAnswer>,
    /// Cause of the leg's end if it is not answered in time.
    pub(crate) unanswered: EndCause,
    /// The race of this leg; its answer ends the other legs of the race.
    pub(crate) race: Option<LegId>,
    /// The called party's own document before the bridge (only for a leg created by a dial).
    pub(crate) whisper: Option<Target>,
    /// Audio for this leg alone before the bridge (only for a leg created by a dial).
    pub(crate) greeting: Option<Box<Play>>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) ring_timer: Option<OpId>,
    /// Whether `ring_timer` is the time limit for the application's first command.
    pub(crate) awaits_command: bool,
    pub(crate) limit_timer: Option<OpId>,
    pub(crate) release_timer: Option<OpId>,
    /// Set if this leg is called as the target of a transfer.
    pub(crate) referral: Option<Referral>,
    /// The leg whose `Dial` receives this leg's progress, when it is not the parent: after a transfer, or after being
    /// taken out of a queue.
    pub(crate) progress_listener: Option<LegId>,
}

impl LegState {
    /// Returns whether a document controls the leg and has no instruction after the running one.
    pub(crate) fn has_only_this_left(&self) -> bool {
        self.mode == Mode::Document && self.runner.queue.is_empty()
    }

    pub(crate) fn new(info: LegInfo) -> Self {
        Self {
            info: Arc::new(info),
            mode: Mode::Commands,
            runner: ProgramRunner::default(),
            side_gather: None,
            overlay: None,
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
            progress_listener: None,
        }
    }
}

/// What decides about a leg when its program has nothing left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// The leg's document: the leg is hung up.
    Document,
    /// Commands, or the dial that created the leg: the leg waits.
    Commands,
    /// The called party's own document before the bridge: the dial continues.
    Whisper,
    /// The queue in which the leg waits: the wait document starts again.
    Queue,
}

/// The program of a leg: the running instruction and those that follow.
#[derive(Default)]
pub(crate) struct ProgramRunner {
    pub(crate) running: Option<Running>,
    pub(crate) queue: VecDeque<Instruction>,
}

/// A bridge that will be made when this leg is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BridgeOnAnswer {
    pub(crate) with: LegId,
    /// What this leg, and the other, do when the bridge ends because the partner left.
    pub(crate) after: (AfterBridge, AfterBridge),
    /// Whether the bridge is made only if the other leg is not bridged with a third one by then.
    pub(crate) if_free: bool,
}

/// A bridge with another leg.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bridge {
    pub(crate) with: LegId,
    /// What this leg does when the other one leaves.
    pub(crate) after: AfterBridge,
    /// Whether applications are notified of the bridge (a bridge for early media is not reported).
    pub(crate) told: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    #[test]
    fn a_leg_and_what_a_call_orders_are_small() {
        let (party, output) = (size_of::<LegState>(), size_of::<Output>());
        assert!(party <= 936 && output <= 32, "{party} and {output} octets");
    }
}
