//! What an application may ask of a live leg by request, at any moment.

use std::fmt;

use crate::Target;
use crate::conference::{Change, Participation};
use crate::id::{LegId, RecordingId, SiprecId, StreamId, TranscriptionId};
use crate::leg::Hearers;
use crate::machine::MachineDetection;
use crate::program::instruction::{Dial, Enqueue, Gather, Instruction, Play, Program, RejectReason, SendDigits};
use crate::recording::{Gap, RecordingSpec, Track};
use crate::siprec::SiprecSpec;
use crate::stream::StreamSpec;
use crate::supervision::SupervisorRole;
use crate::transcription::TranscriptionSpec;

/// A request to a leg.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Replaces the leg's client state first, if given.
    pub client_state: Option<String>,
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Answer an inbound leg.
    Answer {
        /// Started with the answer.
        record: Option<RecordingSpec>,
        /// Started with the answer.
        stream: Option<StreamSpec>,
        /// Extra SIP headers of the answer.
        headers: Vec<(String, String)>,
    },
    /// Refuse an inbound leg.
    Reject(RejectReason),
    /// End the leg whatever its state.
    Hangup {
        /// Extra SIP headers of what ends it.
        headers: Vec<(String, String)>,
    },
    /// End it only if it is not answered yet; otherwise nothing happens.
    Cancel,
    /// Abort what runs and run this document (only while in progress).
    Run(Program),
    /// Abort what runs and fetch this one (only while in progress).
    Redirect(Target),
    /// Play after what already plays or waits; `interrupt` says whether that is cut.
    Play {
        /// What.
        play: Play,
        /// What becomes of what plays.
        interrupt: Interrupt,
        /// For whom; it is played and told as if each of them had been asked.
        to: Hearers,
    },
    /// Stop audio.
    StopPlayback(Interrupt),
    /// Play these one after the other beside what runs, which goes on.
    PlayBeside(Vec<Play>),
    /// Stop them all.
    StopBeside,
    /// Collect digits beside what plays, or with prompts of its own.
    Gather(Box<Gather>),
    /// Stop collecting.
    StopGather,
    /// End the conversation that runs.
    StopConversation,
    /// Send DTMF.
    SendDigits(SendDigits),
    /// Start a recording.
    StartRecording(RecordingSpec),
    /// Stop one, or all.
    StopRecording(Option<RecordingId>),
    /// Hold one, or all.
    PauseRecording {
        /// Which; all if `None`.
        which: Option<RecordingId>,
        /// What becomes of the time until it goes on.
        gap: Gap,
    },
    /// Go on with it.
    ResumeRecording(Option<RecordingId>),
    /// Start a stream.
    StartStream {
        /// It.
        spec: StreamSpec,
        /// Only if none runs.
        alone: bool,
    },
    /// Stop one, or all.
    StopStream(Option<StreamId>),
    /// Stop the oldest one of this name.
    StopNamedStream(String),
    /// Start a session with a recording server.
    StartSiprec(Box<SiprecSpec>),
    /// Stop one.
    StopSiprec(SiprecId),
    /// Stop the oldest one of this name.
    StopNamedSiprec(String),
    /// Send a SIP INFO with this body to the far end (RFC 6086).
    SendInfo {
        /// MIME type of the body.
        content_type: String,
        /// As it is sent.
        body: String,
    },
    /// Start a live transcription.
    StartTranscription(Box<TranscriptionSpec>),
    /// Stop one; what was said is still told.
    StopTranscription(TranscriptionId),
    /// Stop the oldest one of this name.
    StopNamedTranscription(String),
    /// Join this leg to another one, which by now is in the same call.
    Bridge {
        /// The other.
        with: LegId,
        /// What becomes of this leg when the other goes.
        after: crate::program::instruction::AfterBridge,
        /// Only if the other is not joined to a third one.
        if_free: bool,
    },
    /// An inbound leg takes the place of another one, which by now is in the same call (INVITE with Replaces).
    TakePlace {
        /// The other.
        of: LegId,
    },
    /// Let nobody hear this leg's far end, or let them again.
    Mute(bool),
    /// Clean audio of noise, or leave it as it is again; at any time before the leg's end.
    Suppress {
        /// What the far end says, what it hears from others, or both.
        track: Track,
        /// On or off.
        on: bool,
    },
    /// Take part in a conference, or in the same one otherwise.
    Confer(Participation),
    /// Let nobody in its conference hear this leg, or let them again.
    MuteInConference(bool),
    /// Take part in its conference otherwise.
    ChangeInConference(Box<Change>),
    /// Leave it.
    LeaveConference,
    /// It hears another leg's call: do so in this role from now on.
    Supervise(SupervisorRole),
    /// Call somebody and join.
    Transfer(Box<Dial>),
    /// Stand in line in a queue, unless it waits in one. What runs goes on meanwhile; neither what is heard in the queue counts
    /// nor the action.
    EnterQueue(Box<Enqueue>),
    /// It waits in a queue: leave that, and go on.
    LeaveQueue,
    /// It waits in a queue: leave that, and fetch this document.
    Dequeue(Target),
    /// Find out who is there; what runs goes on meanwhile.
    DetectMachine(Box<MachineDetection>),
    /// No longer: nothing more is told of it.
    StopDetecting,
    /// Run one instruction after what is queued.
    Enqueue(Box<Instruction>),
    /// Only the client state.
    SetClientState,
    /// Replace the status callback.
    SetCallback(Option<crate::Callback>),
    /// Replace the document that is asked for when another one fails.
    SetFallback(Option<Target>),
    /// End the leg this many seconds after its answer.
    TimeLimit(std::time::Duration),
}

/// What becomes of the audio that plays when something else is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// It ends first.
    None,
    /// It is cut; what waits behind it stays.
    Current,
    /// It is cut and what waits is dropped.
    All,
}

/// What a request started.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Accepted {
    /// The recording it started, if it started one.
    pub recording: Option<RecordingId>,
    /// The stream it started or stopped, if it was one.
    pub stream: Option<StreamId>,
    /// The name of the stream that it stopped.
    pub stream_name: Option<String>,
    /// The recording session it started or stopped, if it was one, and its name.
    pub siprec: Option<(SiprecId, Option<String>)>,
    /// The transcription it started, if it started one, or stopped by its name.
    pub transcription: Option<TranscriptionId>,
}

/// Why a request cannot be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No such leg.
    NoSuchLeg,
    /// The leg is over.
    Ended,
    /// It is not answered yet.
    NotAnswered,
    /// It is answered already.
    AlreadyAnswered,
    /// No such recording or stream, or none runs.
    NotRunning,
    /// One is running and there can be only one.
    AlreadyRunning,
    /// It cannot be joined to that leg.
    CannotBridge,
    /// It is not joined to any.
    NotJoined,
    /// As many wait, run or live already as one leg or call may have.
    TooMany,
}

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
