//! Commands: what an application can request of a live leg at any moment.

use std::fmt;

use crate::Target;
use crate::conference::{Change, Participation};
use crate::id::{LegId, RecordingId, SiprecId, StreamId, TranscriptionId};
use crate::leg::TargetLegs;
use crate::machine_detection::MachineDetection;
use crate::program::instruction::{Dial, Enqueue, Gather, Instruction, Play, Program, RejectReason, SendDigits};
use crate::recording::{PauseBehavior, RecordingSpec, Track};
use crate::siprec::SiprecSpec;
use crate::stream::StreamSpec;
use crate::supervision::SupervisorRole;
use crate::transcription::TranscriptionSpec;

/// A request to a leg.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// New client state of the leg, set before the command is executed; `None` keeps the old one.
    pub client_state: Option<String>,
    /// The command to execute.
    pub command: Command,
}

/// What a request can order.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Answer an inbound leg.
    Answer {
        /// The recording that starts with the answer.
        record: Option<RecordingSpec>,
        /// The stream that starts with the answer.
        stream: Option<StreamSpec>,
        /// Additional SIP headers of the 200 response.
        headers: Vec<(String, String)>,
    },
    /// Refuse an inbound leg that is not answered.
    Reject(RejectReason),
    /// End the leg in any state.
    Hangup {
        /// Additional SIP headers of the message that ends the leg.
        headers: Vec<(String, String)>,
    },
    /// End the leg if it is not answered yet; otherwise do nothing.
    Cancel,
    /// Abort the running program and run this one (only on an answered leg).
    Run(Program),
    /// Abort the running program and fetch this document (only on an answered leg).
    Redirect(Target),
    /// Play audio after the audio that plays or waits; `interrupt` says whether that audio is stopped instead.
    Play {
        /// The audio to play.
        play: Play,
        /// What happens to the audio that plays or waits.
        interrupt: Interrupt,
        /// The leg or legs that hear the audio. It is played and reported as if each of them had received the request.
        to: TargetLegs,
    },
    /// Stop audio.
    StopPlayback(Interrupt),
    /// Play these, one after the other, beside the running program, which continues.
    PlayOverlay(Vec<Play>),
    /// Stop all audio that was started with `PlayOverlay`.
    StopOverlay,
    /// Collect digits beside the audio that plays, or with prompts of its own.
    Gather(Box<Gather>),
    /// Stop collecting digits.
    StopGather,
    /// End the running conversation.
    StopConversation,
    /// Send DTMF.
    SendDigits(SendDigits),
    /// Start a recording.
    StartRecording(RecordingSpec),
    /// Stop one recording, or all if `None`.
    StopRecording(Option<RecordingId>),
    /// Pause recordings.
    PauseRecording {
        /// The recording; all if `None`.
        which: Option<RecordingId>,
        /// What the recording contains for the time of the pause.
        gap: PauseBehavior,
    },
    /// Resume one recording, or all if `None`.
    ResumeRecording(Option<RecordingId>),
    /// Start a stream.
    StartStream {
        /// The stream to start.
        spec: StreamSpec,
        /// Start it only if no stream runs.
        alone: bool,
    },
    /// Stop one stream, or all if `None`.
    StopStream(Option<StreamId>),
    /// Stop the oldest stream with this name.
    StopNamedStream(String),
    /// Start a session with a recording server (SIPREC, RFC 7866).
    StartSiprec(Box<SiprecSpec>),
    /// Stop a session with a recording server.
    StopSiprec(SiprecId),
    /// Stop the oldest session with a recording server that has this name.
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
    /// Bridge this leg with another one, which is in the same call by now.
    Bridge {
        /// The other leg.
        with: LegId,
        /// What this leg does when the other one leaves.
        after: crate::program::instruction::AfterBridge,
        /// Bridge only if the other leg is not bridged with a third one.
        if_free: bool,
    },
    /// Replace another leg with this inbound one (INVITE with Replaces, RFC 3891). Both are in the same call by now.
    ReplaceLeg {
        /// The leg to replace.
        of: LegId,
    },
    /// Mute or unmute the audio of this leg's far end for all listeners.
    Mute(bool),
    /// Switch noise suppression on or off; possible at any time before the leg's end.
    SuppressNoise {
        /// Audio from the far end, audio to the far end, or both.
        track: Track,
        /// `true` to switch on, `false` to switch off.
        on: bool,
    },
    /// Join a conference, or change the participation in the current one.
    JoinConference(Participation),
    /// Mute or unmute this leg in its conference.
    MuteInConference(bool),
    /// Change the leg's participation in its conference.
    ChangeInConference(Box<Change>),
    /// Leave the conference.
    LeaveConference,
    /// Change the role of a leg that supervises another leg's call.
    Supervise(SupervisorRole),
    /// Call somebody and bridge the leg with the one that answers.
    Transfer(Box<Dial>),
    /// Enter a queue, unless the leg already waits in one. The running program continues; the wait audio and the action
    /// of the [`Enqueue`] are ignored.
    EnterQueue(Box<Enqueue>),
    /// Leave the queue in which the leg waits, and continue.
    LeaveQueue,
    /// Leave the queue in which the leg waits, and fetch this document.
    Dequeue(Target),
    /// Start answering-machine detection; the running program continues.
    DetectMachine(Box<MachineDetection>),
    /// Stop answering-machine detection; nothing more is reported about it.
    StopDetecting,
    /// Run one instruction after the queued ones.
    Enqueue(Box<Instruction>),
    /// Do nothing more than set [`Request::client_state`].
    SetClientState,
    /// Replace the status callback.
    SetCallback(Option<crate::Callback>),
    /// Replace the document that is requested when another document fails.
    SetFallback(Option<Target>),
    /// End the leg this long after its answer.
    TimeLimit(std::time::Duration),
}

/// What happens to the audio that plays or waits when something else is requested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// The audio plays to its end first.
    None,
    /// The current audio is stopped; waiting audio stays.
    Current,
    /// The current audio is stopped and waiting audio is dropped.
    All,
}

/// Ids of what a request started or stopped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Accepted {
    /// The recording that was started.
    pub recording: Option<RecordingId>,
    /// The stream that was started or stopped.
    pub stream: Option<StreamId>,
    /// The name of the stream that was stopped.
    pub stream_name: Option<String>,
    /// The session with a recording server that was started or stopped, with its name.
    pub siprec: Option<(SiprecId, Option<String>)>,
    /// The transcription that was started, or stopped by its name.
    pub transcription: Option<TranscriptionId>,
}

/// Why a request cannot be executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// One is already running, and only one is allowed.
    AlreadyRunning,
    /// The leg cannot be bridged with that leg.
    CannotBridge,
    /// The leg is not bridged with another one.
    NotJoined,
    /// The leg or the call has reached the maximum number of them.
    TooMany,
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
            Self::TooMany => "the limit of simultaneous operations is reached",
        })
    }
}
