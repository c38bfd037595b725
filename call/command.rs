//! Commands: the orders that an application can give to a live leg at any moment.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Target;
use crate::conference::{Change, Participation};
use crate::conversation::{AgentSpec, ConversationRequest};
use crate::header_fields::HeaderFields;
use crate::leg::TargetLegs;
use crate::machine_detection::MachineDetection;
use crate::program::instruction::{Dial, Enqueue, Gather, Instruction, Play, Program, RejectReason, SendDigits};
use crate::recording::{PauseBehavior, RecordingSpec, Track};
use crate::siprec::SiprecSpec;
use crate::stream::StreamSpec;
use crate::supervision::SupervisorRole;
use crate::transcription::TranscriptionSpec;
use tandem_id::{LegId, RecordingId, SiprecId, StreamId, TranscriptionId};

/// A request to a leg.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// New client state of the leg. It is set before the command is executed. `None` keeps the old client state.
    pub client_state: Option<String>,
    /// The command to execute.
    pub command: Command,
}

/// An order from an application to one leg.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Answer an inbound leg.
    Answer {
        /// The recording that starts with the answer.
        record: Option<RecordingSpec>,
        /// The stream that starts with the answer.
        stream: Option<StreamSpec>,
        /// Additional SIP headers in the 200 response.
        headers: HeaderFields,
    },
    /// Refuse an inbound leg that is not answered yet.
    Reject(RejectReason),
    /// End the leg in any state.
    Hangup {
        /// Additional SIP headers in the message that ends the leg.
        headers: HeaderFields,
    },
    /// End the leg if it is not answered yet; otherwise do nothing.
    Cancel,
    /// Abort the running program and run this program (only on an answered leg).
    Run(Program),
    /// Abort the running program and fetch this document (only on an answered leg).
    Redirect(Target),
    /// Play audio. `interrupt` says what happens to other audio that plays or waits.
    Play {
        /// The audio to play.
        play: Play,
        /// The effect on the audio that plays or waits.
        interrupt: Interrupt,
        /// The leg or legs that hear the audio. Each of these legs plays and reports the audio as if that leg had
        /// received the request.
        to: TargetLegs,
    },
    /// Stop the current audio, or the current audio and the waiting audio.
    StopPlayback(Interrupt),
    /// Play this audio, one item after the other. The running program continues at the same time.
    PlayOverlay(Vec<Play>),
    /// Stop all audio that was started with `PlayOverlay`.
    StopOverlay,
    /// Collect digits. Meanwhile the leg hears the prompts of the gather, or other audio.
    Gather(Box<Gather>),
    /// Stop collecting digits.
    StopGather,
    /// Start the timer of a gather with `holds_timers`. It is the timer for the silence before the first digit.
    StartGatherTimers,
    /// End the running conversation.
    StopConversation,
    /// Give the running conversation a request.
    AskConversation(ConversationRequest),
    /// End the running conversation with an agent, and run this program. At the end of the program the conversation continues
    /// with `agent`, and then the document continues after the conversation as before.
    InterruptConversation {
        /// The program.
        program: Program,
        /// The agent, with the dialogue so far.
        agent: Box<AgentSpec>,
    },
    /// Send DTMF digits to the far end.
    SendDigits(SendDigits),
    /// Start a recording.
    StartRecording(RecordingSpec),
    /// Stop one recording, or all recordings if `None`.
    StopRecording(Option<RecordingId>),
    /// Pause one recording or all recordings.
    PauseRecording {
        /// The recording to pause, or `None` for all recordings.
        which: Option<RecordingId>,
        /// Whether the recording contains silence for the time of the pause, or leaves this time out.
        pause_behavior: PauseBehavior,
    },
    /// Resume one recording, or all recordings if `None`.
    ResumeRecording(Option<RecordingId>),
    /// Start a stream.
    StartStream {
        /// The stream to start.
        spec: StreamSpec,
        /// Whether the stream is started only if no other stream runs.
        if_none_runs: bool,
    },
    /// Stop one stream, or all streams if `None`.
    StopStream(Option<StreamId>),
    /// Stop the oldest stream with this name.
    StopNamedStream(String),
    /// Start a session with a recording server (SIPREC, RFC 7866).
    StartSiprec(Box<SiprecSpec>),
    /// Stop a session with a recording server.
    StopSiprec(SiprecId),
    /// Stop the oldest recording-server session with this name.
    StopNamedSiprec(String),
    /// Send a SIP INFO with this body to the far end (RFC 6086).
    SendInfo {
        /// MIME type of the body.
        content_type: String,
        /// The body, sent unchanged.
        body: String,
    },
    /// Start a live transcription.
    StartTranscription(Box<TranscriptionSpec>),
    /// Stop a live transcription. Speech before the stop is still reported.
    StopTranscription(TranscriptionId),
    /// Stop the oldest live transcription with this name.
    StopNamedTranscription(String),
    /// Bridge this leg with another leg. Both legs must already be in the same call.
    Bridge {
        /// The other leg.
        with: LegId,
        /// The action of this leg when the other leg leaves.
        after: crate::program::instruction::AfterBridge,
        /// Whether the bridge is made only if the other leg is free. The other leg is not free if it is bridged with a
        /// third leg.
        if_free: bool,
    },
    /// Replace another leg with this inbound leg (INVITE with Replaces, RFC 3891). Both legs are already in the same
    /// call.
    ReplaceLeg {
        /// The leg to replace.
        of: LegId,
    },
    /// Mute or unmute this leg's far end for all listeners.
    Mute(bool),
    /// Switch noise suppression on or off. The command is possible at any time before the leg's end.
    SuppressNoise {
        /// The audio that is affected: from the far end, to the far end, or both.
        track: Track,
        /// `true` switches noise suppression on, `false` switches it off.
        on: bool,
    },
    /// Join a conference. If the leg is already in the conference, change its participation.
    JoinConference(Participation),
    /// Mute or unmute this leg in its conference.
    MuteInConference(bool),
    /// Change the leg's participation in its conference.
    ChangeInConference(Box<Change>),
    /// Leave the conference.
    LeaveConference,
    /// Change the role of a leg that supervises another leg's call.
    Supervise(SupervisorRole),
    /// Call one or more targets, and bridge the leg with the target that answers first.
    Transfer(Box<Dial>),
    /// Enter a queue, unless the leg already waits in a queue. The running program continues. The wait audio and the
    /// action of the [`Enqueue`] are ignored.
    EnterQueue(Box<Enqueue>),
    /// Leave the queue in which the leg waits, and continue with the next instruction.
    LeaveQueue,
    /// Leave the queue in which the leg waits, and fetch this document.
    Dequeue(Target),
    /// Start answering-machine detection while the running program continues.
    DetectMachine(Box<MachineDetection>),
    /// Stop answering-machine detection. The detection then reports nothing more.
    StopDetecting,
    /// Run one instruction after the instructions that wait on the leg.
    Enqueue(Box<Instruction>),
    /// Set [`Request::client_state`] and do nothing else.
    SetClientState,
    /// Replace the status callback of the leg.
    SetCallback(Option<crate::Callback>),
    /// Replace the fallback document. The fallback document is requested when another document fails.
    SetFallback(Option<Target>),
    /// Set the maximum duration of the leg after its answer.
    TimeLimit(std::time::Duration),
}

/// The effect of new audio on the audio that plays or waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Interrupt {
    /// The audio plays to its end first.
    None,
    /// The current audio is stopped; waiting audio stays.
    Current,
    /// The current audio is stopped, and waiting audio is dropped.
    All,
}

/// Ids of the recordings, streams and other operations that a request started or stopped.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Accepted {
    /// The recording that was started.
    pub recording: Option<RecordingId>,
    /// The stream that was started or stopped.
    pub stream: Option<StreamId>,
    /// The name of the stream that was stopped.
    pub stream_name: Option<String>,
    /// The session with a recording server that was started or stopped, with its name.
    pub siprec: Option<(SiprecId, Option<String>)>,
    /// The transcription that was started, or that was stopped by its name.
    pub transcription: Option<TranscriptionId>,
}

/// The reason why a request cannot be executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refused {
    /// The leg does not exist.
    NoSuchLeg,
    /// The leg has ended.
    Ended,
    /// The leg is not answered yet.
    NotAnswered,
    /// The leg is already answered.
    AlreadyAnswered,
    /// The recording, stream or other operation does not exist or does not run.
    NotRunning,
    /// An operation of this kind already runs, and only one is allowed.
    AlreadyRunning,
    /// The leg cannot be bridged with the requested leg.
    CannotBridge,
    /// The leg is not bridged with another leg.
    NotJoined,
    /// The maximum number is reached: of operations on the leg, or of legs in the call.
    TooMany,
    /// The network policy forbids the address to which the audio would be sent.
    ForbiddenAddress,
    /// The leg belongs to another node of the cluster, which does not answer. The request may have had an effect.
    NoAnswer,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchLeg => "no such leg",
            Self::Ended => "the leg has ended",
            Self::NotAnswered => "the leg is not answered yet",
            Self::AlreadyAnswered => "the leg is already answered",
            Self::NotRunning => "no such operation is running",
            Self::AlreadyRunning => "such an operation is already running",
            Self::CannotBridge => "the leg cannot be bridged with the other leg",
            Self::NotJoined => "the leg is not bridged with another leg",
            Self::ForbiddenAddress => "the address is not public and not in webhooks.allow_networks",
            Self::NoAnswer => "the node of the cluster that has the call does not answer",
            Self::TooMany => "the limit of simultaneous operations is reached",
        })
    }
}
