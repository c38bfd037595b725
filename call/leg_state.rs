//! Internal state of a leg: its program, bridge, recordings and streams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::conference::Participation;
use crate::fetch::Scope;
use crate::leg::{EndCause, EndFailure, LegInfo};
use crate::machine_detection::{Detecting, MachineDetection};
use crate::new_leg::OnAnswer;
use crate::output::Progress;
use crate::program::Running;
use crate::program::dial::Dialing;
use crate::program::document::{RunningDocument, Steps};
use crate::program::enqueue::Waiting;
use crate::program::gather::Gathering;
use crate::program::instruction::{AfterBridge, Instruction, Play, SendDigits};
use crate::program::overlay::Overlay;
use crate::program::send_digits::SendingDigits;
use crate::recording::{ActiveRecording, NewRecording, Track};
use crate::refer::Referral;
use crate::remote_leg::RemoteLeg;
use crate::siprec::ActiveSiprec;
use crate::stream::{ActiveStream, StreamSpec};
use crate::supervision::Supervision;
use crate::transcription::{Transcribing, WaitingTranscript};
use crate::{Method, Target};
use tandem_id::LegId;

/// Maximum number of legs in a call. At this limit, a dial skips further targets, and further requests are refused.
pub(crate) const MAX_LEGS: usize = 64;
/// Maximum number of instructions that requests may queue on a leg. At this limit, further requests are refused.
pub(crate) const MAX_QUEUED: usize = 100;
/// Maximum number of simultaneous recordings of a leg. At this limit, further requests are refused and further
/// instructions are skipped.
pub(crate) const MAX_RECORDINGS: usize = 8;
/// Maximum number of simultaneous streams of a leg. At this limit, further requests are refused and further
/// instructions are skipped.
pub(crate) const MAX_STREAMS: usize = 4;
/// Maximum number of simultaneous live transcriptions of a leg. At this limit, further requests are refused and further
/// instructions are skipped.
pub(crate) const MAX_TRANSCRIPTIONS: usize = 4;

/// The state of one leg. The call keeps this struct until the leg is released. Fields that few legs use, or that legs
/// use only briefly, are boxed to save memory.
#[derive(Serialize, Deserialize)]
pub(crate) struct LegState {
    pub(crate) info: Arc<LegInfo>,
    /// The leg of another node for which this leg stands in this call.
    pub(crate) remote: Option<Box<RemoteLeg>>,
    pub(crate) mode: Mode,
    pub(crate) runner: ProgramRunner,
    /// A gather that a command started. The gather runs while the leg's program plays audio.
    pub(crate) side_gather: Option<Box<Gathering>>,
    /// Audio that a command started. The audio plays at the same time as the leg's program.
    pub(crate) overlay: Option<Box<Overlay>>,
    /// A transfer that a command started. The transfer runs while the leg's program plays audio.
    pub(crate) transfer: Option<Box<Dialing>>,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) conference: Option<Box<Participation>>,
    /// The supervision of another leg's call by this leg. This leg hears that call and is not bridged with it.
    pub(crate) supervision: Option<Box<Supervision>>,
    /// The leg's wait in a queue. The field stays set while the leg is bridged with the agent that took the leg out of
    /// the queue.
    pub(crate) waiting: Option<Box<Waiting>>,
    /// The latest failure of the application. The next instruction that starts on the leg clears this field.
    pub(crate) failure: Option<Box<EndFailure>>,
    pub(crate) recordings: Vec<ActiveRecording>,
    pub(crate) streams: Vec<ActiveStream>,
    pub(crate) transcriptions: Vec<Transcribing>,
    pub(crate) waiting_transcript: Option<Box<WaitingTranscript>>,
    pub(crate) siprecs: Vec<ActiveSiprec>,
    /// Number of consecutive documents that ran only for a very short time; see [`crate::program::document`].
    pub(crate) short_documents: u32,
    /// Time at which the leg's current document arrived. While a document is awaited, the time of its request.
    pub(crate) document_since: Option<Timestamp>,
    /// The method of the leg's first document request.
    pub(crate) first_method: Option<Method>,
    /// The count of the leg's steps; see [`crate::program::document`].
    pub(crate) steps: Option<Steps>,
    /// The reason why the leg's documents form a loop. The next instruction ends the loop.
    pub(crate) looped: Option<Box<str>>,
    /// The document that the leg runs. `None` if the leg's program does not come from a fetched document.
    pub(crate) document: Option<Box<RunningDocument>>,
    pub(crate) on_answer: Option<Box<OnAnswer>>,
    pub(crate) send_digits: Option<Box<SendDigits>>,
    /// The operation that sends digits after the answer. All other actions after the answer wait for this operation.
    pub(crate) sending_digits: Option<Box<SendingDigits>>,
    /// Answering-machine detection that starts with the answer.
    pub(crate) detect_on_answer: Option<Box<MachineDetection>>,
    pub(crate) detecting: Option<Detecting>,
    pub(crate) record_on_answer: Option<Box<NewRecording>>,
    pub(crate) stream_on_answer: Option<Box<StreamSpec>>,
    pub(crate) bridge_on_answer: Option<BridgeOnAnswer>,
    /// Cause of the leg's end if the leg is not answered in time.
    pub(crate) unanswered: EndCause,
    /// The race of this leg. The answer of this leg ends the other legs of the race.
    pub(crate) race: Option<LegId>,
    /// The document that the called party runs before the bridge (only for a leg that a dial created).
    pub(crate) whisper: Option<Target>,
    /// Audio that only this leg hears before the bridge (only for a leg that a dial created).
    pub(crate) greeting: Option<Box<Play>>,
    pub(crate) time_limit: Option<Duration>,
    /// The last provisional response to the INVITE of this inbound leg.
    pub(crate) progress: Option<Progress>,
    /// Whether a provisional response of this outbound leg agreed on early media.
    pub(crate) has_early_media: bool,
    /// Whether RTP of this leg's far end has arrived. A dial that asks for the next packet sets this field to `false`.
    pub(crate) has_packets: bool,
    /// Whether [`LegTimer::Ring`](crate::timer::LegTimer) is the time limit for the application's first command.
    pub(crate) awaits_command: bool,
    /// State of the transfer, if this leg is called as the target of a transfer.
    pub(crate) referral: Option<Referral>,
    /// The leg whose `Dial` receives the progress of this leg. `None` if the `Dial` of the parent leg receives this
    /// progress. The field is set after a transfer, or after this leg was taken out of a queue.
    pub(crate) progress_listener: Option<LegId>,
    /// Whether a request has muted the far end.
    pub(crate) muted: bool,
    pub(crate) noise_suppression: NoiseSuppression,
    /// The values that the far end, which is another leg of this server, receives when the leg ends.
    pub(crate) return_values: Option<Box<[(String, String)]>>,
}

impl LegState {
    /// Returns the leg that applications see: the leg of the other node, if this leg stands for one.
    pub(crate) fn shown(&self) -> &Arc<LegInfo> {
        self.remote.as_ref().map_or(&self.info, |remote| &remote.info)
    }

    /// Returns whether a document controls the leg and no instruction follows the running instruction.
    pub(crate) fn has_only_this_left(&self) -> bool {
        self.mode == Mode::Document && self.runner.queue.is_empty()
    }

    pub(crate) fn new(info: LegInfo) -> Self {
        Self {
            info: Arc::new(info),
            remote: None,
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
            waiting_transcript: None,
            siprecs: Vec::new(),
            failure: None,
            short_documents: 0,
            document_since: None,
            first_method: None,
            steps: None,
            looped: None,
            document: None,
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
            progress: None,
            has_early_media: false,
            has_packets: false,
            awaits_command: false,
            referral: None,
            progress_listener: None,
            muted: false,
            noise_suppression: NoiseSuppression::default(),
            return_values: None,
        }
    }
}

/// The noise suppression that requests have switched on or off. `None` if no request did.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct NoiseSuppression {
    pub(crate) inbound: Option<bool>,
    pub(crate) outbound: Option<bool>,
}

impl NoiseSuppression {
    pub(crate) fn set(&mut self, track: Track, on: bool) {
        if track != Track::Outbound {
            self.inbound = Some(on);
        }
        if track != Track::Inbound {
            self.outbound = Some(on);
        }
    }
}

/// The controller of a leg. The controller decides how the leg continues when its program has no instruction left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// The leg's document controls the leg. After the last instruction, the leg is hung up.
    Document,
    /// Commands control the leg, or the dial that created the leg controls the leg. After the last instruction, the leg
    /// waits.
    Commands,
    /// The document of the called party controls the leg before the bridge. After the last instruction, the dial
    /// continues.
    Whisper,
    /// The queue in which the leg waits controls the leg. After the last instruction, the wait document starts again.
    Queue,
}

impl Mode {
    /// Returns the scope of the documents that the leg runs.
    pub(crate) fn scope(self) -> Scope {
        match self {
            Self::Document | Self::Commands => Scope::Leg,
            Self::Whisper => Scope::Whisper,
            Self::Queue => Scope::Queue,
        }
    }
}

/// The program of a leg: the running instruction and the instructions that follow.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct ProgramRunner {
    pub(crate) running: Option<Running>,
    pub(crate) queue: VecDeque<Instruction>,
}

/// A bridge that will be made when this leg is answered.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct BridgeOnAnswer {
    pub(crate) with: LegId,
    /// The actions of the two legs at the end of the bridge: first the action of this leg when the other leg leaves,
    /// then the action of the other leg when this leg leaves.
    pub(crate) after: (AfterBridge, AfterBridge),
    /// Whether the bridge is made only if the other leg is not bridged with a third leg at the time of the answer.
    pub(crate) if_free: bool,
}

/// A bridge with another leg.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Bridge {
    pub(crate) with: LegId,
    /// The action of this leg when the other leg leaves.
    pub(crate) after: AfterBridge,
    /// Whether applications are notified of the bridge. A bridge for early media is not reported.
    pub(crate) reported: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    #[test]
    fn the_memory_of_a_leg_state_and_of_an_output_is_limited() {
        let (state, output) = (size_of::<LegState>(), size_of::<Output>());
        assert!(state <= 984 && output <= 32, "{state} and {output} octets");
    }
}
