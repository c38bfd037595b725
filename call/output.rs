//! What a call wants done. The shell performs these in order and answers with inputs.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::conference::{Leaving, Participation};
use crate::conversation::{ConversationSpec, ConversationStatus};
use crate::event::{CallEvent, PlaybackEnd};
use crate::fetch::Fetch;
use crate::hearing::{Heard, Listening};
use crate::id::{ConversationId, LegId, OpId, QueueId, RecordingId, SiprecId, StreamId, TranscriptionId};
use crate::leg::{EndCause, LegInfo, Status};
use crate::machine::{MachineDetection, Verdict};
use crate::program::instruction::{Credentials, Play, RejectReason, SendDigits, Warning};
use crate::queue::NotQueued;
use crate::recording::{Gap, Recording, RecordingEnd, RecordingSpec, Track};
use crate::refer::Referred;
use crate::siprec::{SiprecSpec, SiprecStatus};
use crate::stream::{StreamSpec, StreamStatus};
use crate::supervision::Supervision;
use crate::transcription::{TranscriptionOrder, TranscriptionSpec, TranscriptionStatus};

/// One thing to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Do this on a leg.
    Leg {
        /// Which.
        leg: LegId,
        /// What.
        command: Box<LegCommand>,
    },
    /// Get this document.
    Fetch(Box<Fetch>),
    /// Tell this.
    Event(Box<CallEvent>),
}

/// Something to do on one leg. What takes time carries an `OpId` and is answered by a [`LegEvent`] with the same one.
#[derive(Clone, PartialEq, Debug)]
pub enum LegCommand {
    /// Send the INVITE.
    Invite(Box<Invite>),
    /// 180, or 183 with audio.
    Ring {
        /// The peer is to hear audio before the answer.
        early_media: bool,
    },
    /// Extra headers of the next message that answers, refuses or ends.
    Headers(Vec<(String, String)>),
    /// What the far end, another leg of this server, is told with the end.
    HandBack(Vec<(String, String)>),
    /// 200.
    Answer,
    /// A final refusal.
    Reject(RejectReason),
    /// CANCEL or BYE, whichever fits, and why.
    Hangup(Farewell),
    /// Synthesise, fetch or make the audio and play it.
    Play {
        /// Its operation.
        op: OpId,
        /// What.
        play: Play,
    },
    /// RFC 4733.
    SendDigits {
        /// Its operation.
        op: OpId,
        /// What.
        digits: SendDigits,
    },
    /// Send a SIP INFO.
    SendInfo {
        /// MIME type of the body.
        content_type: String,
        /// As it is sent.
        body: String,
    },
    /// Find out who answered; answered by `MachineDetected`, once or twice.
    DetectMachine {
        /// Its operation.
        op: OpId,
        /// By which figures.
        spec: Box<MachineDetection>,
    },
    /// Stop a `Play` or `SendDigits`.
    Stop {
        /// Which.
        op: OpId,
    },
    /// Start a recording.
    Record {
        /// Its operation.
        op: OpId,
        /// Its file.
        id: RecordingId,
        /// How.
        spec: RecordingSpec,
        /// The playback that must be over first.
        after: Option<OpId>,
    },
    /// Hold a recording.
    PauseRecording {
        /// Which.
        op: OpId,
        /// What becomes of the time until it goes on.
        gap: Gap,
    },
    /// Go on with it.
    ResumeRecording {
        /// Which.
        op: OpId,
    },
    /// End it; answered by `RecordingFinished`.
    StopRecording {
        /// Which.
        op: OpId,
    },
    /// The leg is answered: the streams that were opened before get its audio.
    BeginStreams,
    /// Connect to the application's WebSocket.
    StartStream {
        /// Its operation on the media.
        op: OpId,
        /// Its id.
        id: StreamId,
        /// How.
        spec: StreamSpec,
    },
    /// Close it.
    StopStream {
        /// Which.
        id: StreamId,
    },
    /// Call a recording server and send it copies of the leg's audio; answered by `Siprec`.
    StartSiprec {
        /// The operations on the media that copy what is said, and what is heard.
        ops: (OpId, OpId),
        /// Its id.
        id: SiprecId,
        /// How.
        spec: Box<SiprecSpec>,
    },
    /// Hang up there; not answered.
    StopSiprec {
        /// Which.
        id: SiprecId,
    },
    /// Listen to what the far end says; answered by `Heard` and at last `ListeningEnded`, unless it is stopped.
    Listen {
        /// Its operation.
        op: OpId,
        /// How.
        how: Box<Listening>,
    },
    /// Hear no more, but tell the rest of what was heard; answered by `ListeningEnded`.
    FinishListening {
        /// Which.
        op: OpId,
    },
    /// Listen no more, and tell no more.
    StopListening {
        /// Which.
        op: OpId,
    },
    /// Write down what is said; answered by `Transcription`.
    StartTranscription {
        /// Its operation on the media.
        op: OpId,
        /// Its id.
        id: TranscriptionId,
        /// How.
        spec: Box<TranscriptionSpec>,
    },
    /// No longer; answered by `Transcription` once the rest is told.
    StopTranscription {
        /// Which.
        op: OpId,
    },
    /// Write down what was said in a recording, beside the call.
    Transcribe {
        /// The leg that it was made on, which may be gone when this is done.
        of: Arc<LegInfo>,
        /// The recording, whole.
        recording: Box<Recording>,
        /// Who is told.
        order: TranscriptionOrder,
    },
    /// Connect to the application's WebSocket and let the caller talk with it.
    Converse {
        /// Its operation on the media.
        op: OpId,
        /// Its id.
        id: ConversationId,
        /// How.
        spec: Box<ConversationSpec>,
        /// How the leg stood when it was to begin.
        status: Status,
    },
    /// End it.
    StopConversation {
        /// Which.
        id: ConversationId,
    },
    /// Audio goes straight between this leg and that one.
    Bridge {
        /// The other.
        with: LegId,
    },
    /// No longer.
    Unbridge,
    /// Take part in a conference of the account, or in the same one otherwise.
    Confer(Participation),
    /// No longer.
    LeaveConference {
        /// Why.
        why: Leaving,
        /// The leg as it is then; it may be over.
        leg: Arc<LegInfo>,
    },
    /// Hear the call of a leg, which is in the same call, without being joined to it; or do so in another role.
    Supervise(Supervision),
    /// No longer.
    StopSupervising,
    /// Stand in line in a queue of the account, which comes to be if there is none; answered by `Enqueued`, and by `Called`
    /// when it is its turn.
    EnterQueue {
        /// Its operation.
        op: OpId,
        /// Its name.
        queue: Arc<str>,
        /// Not if so many wait there.
        most: Option<u32>,
    },
    /// Whoever called it has gone: it stands where it stood.
    ReturnToQueue,
    /// No longer.
    LeaveQueue,
    /// Have whoever is first in that queue, now or later; answered by `Called` on that one's leg, which is in the same call
    /// by then, or by `NobodyCalled`.
    TakeFromQueue {
        /// Its name.
        queue: Arc<str>,
    },
    /// No longer.
    StopTaking,
    /// Send the leg its own audio back.
    Echo(bool),
    /// Let nobody hear what the leg's far end says.
    Mute(bool),
    /// Clean audio of noise, or no longer.
    Suppress {
        /// What the far end says, what it hears from others, or both.
        track: Track,
        /// On or off.
        on: bool,
    },
    /// Ask the far end to call somebody (REFER); answered by `ReferAnswered` and `ReferProgress`.
    Refer {
        /// A SIP URI.
        to: String,
        /// Extra headers.
        headers: Vec<(String, String)>,
    },
    /// Answer the far end's REFER.
    AnswerRefer {
        /// 202, or why not.
        status: u16,
    },
    /// Tell the far end how the call goes that it asked for.
    NotifyRefer {
        /// Status of its response so far.
        status: u16,
    },
    /// Nothing more will be asked of this leg: free its ports.
    Release,
}

/// Why we end a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Farewell {
    /// Why.
    pub cause: EndCause,
    /// Somebody else has answered the call.
    pub elsewhere: bool,
}

/// An outgoing call.
#[derive(Clone, PartialEq, Debug)]
pub struct Invite {
    /// Who is called.
    pub to: Address,
    /// Who calls.
    pub from: Address,
    /// The name shown with it.
    pub caller_name: Option<String>,
    /// Extra headers.
    pub headers: Vec<(String, String)>,
    /// It takes the call of the leg that it is made for straight through: of that one's headers, those go with it that the
    /// trunk passes.
    pub inherits: bool,
    /// For a peer that challenges.
    pub credentials: Option<Credentials>,
    /// The trunks it goes over, by name: the next when one fails. By its own prefix when empty.
    pub via: Vec<Arc<str>>,
    /// Value of Replaces: the call takes the place of that dialog.
    pub replaces: Option<String>,
}

/// What happened on one leg.
#[derive(Clone, PartialEq, Debug)]
pub enum LegEvent {
    /// 180 or 183.
    Ringing {
        /// With audio.
        early_media: bool,
    },
    /// 200 to our INVITE.
    Answered {
        /// Name of the agreed codec.
        codec: Option<String>,
        /// Headers of the answer.
        headers: Vec<(String, String)>,
        /// As [`SipFacts::dialog`](crate::leg::SipFacts::dialog).
        dialog: Option<Arc<str>>,
    },
    /// The leg is gone, not by our command.
    Ended {
        /// How.
        reason: LegGone,
        /// The SIP response behind it.
        sip_status: Option<u16>,
        /// More of it, in words.
        detail: Option<String>,
    },
    /// The far end asks for a transfer.
    Referred(Box<Referred>),
    /// The far end's answer to our REFER.
    ReferAnswered {
        /// SIP status.
        status: u16,
    },
    /// How the call goes that the far end makes for us.
    ReferProgress {
        /// Status of its response so far.
        status: u16,
        /// Nothing more comes.
        done: bool,
    },
    /// A key.
    Dtmf(char),
    /// A `Play` or `SendDigits` is over.
    PlayFinished {
        /// Which.
        op: OpId,
        /// How.
        end: PlaybackEnd,
    },
    /// Something was found out about who answered.
    MachineDetected {
        /// Of the `DetectMachine`.
        op: OpId,
        /// What.
        verdict: Verdict,
        /// How long after the order.
        after: Duration,
    },
    /// A recording is over and whole on disk.
    RecordingFinished {
        /// Which.
        op: OpId,
        /// Why.
        end: RecordingEnd,
        /// Length of the audio.
        duration: Duration,
        /// Before its silent ends were cut away.
        recorded: Duration,
    },
    /// A stream's life.
    Stream {
        /// Which.
        id: StreamId,
        /// What.
        status: StreamStatus,
    },
    /// A recording session's life.
    Siprec {
        /// Which.
        id: SiprecId,
        /// What.
        status: SiprecStatus,
    },
    /// Something was heard.
    Heard {
        /// Of the `Listen`.
        op: OpId,
        /// What.
        heard: Heard,
    },
    /// Nothing more will be heard.
    ListeningEnded {
        /// Of the `Listen`.
        op: OpId,
        /// Why, if it was not finished.
        failed: Option<String>,
    },
    /// A live transcription's life.
    Transcription {
        /// Which.
        id: TranscriptionId,
        /// What.
        status: TranscriptionStatus,
    },
    /// A conversation's life.
    Conversation {
        /// Which.
        id: ConversationId,
        /// What.
        status: ConversationStatus,
    },
    /// The conference that it takes part in is over.
    ConferenceOver {
        /// Whoever was still there is hung up.
        clears: bool,
    },
    /// The conference would not have it.
    ConferenceRefused,
    /// Something odd that it could live with, to be reported once.
    Warned(Warning),
    /// It stands in line, or cannot.
    Enqueued {
        /// Of the `EnterQueue`.
        op: OpId,
        /// In which queue, or why not.
        standing: Result<QueueId, NotQueued>,
    },
    /// It is its turn: that leg, which is in the same call, takes it.
    Called {
        /// In which queue.
        queue: QueueId,
        /// Which.
        by: LegId,
    },
    /// The one it was to have from the queue cannot be brought into its call.
    NobodyCalled,
}

/// How a leg went, seen from the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LegGone {
    /// BYE.
    Bye,
    /// CANCEL.
    Cancelled,
    /// A final response of 300 or more.
    Rejected,
    /// Such a one, and the network behind it says why (Q.850).
    Refused(EndCause),
    /// No answer of any kind to our request.
    Timeout,
    /// It could not be sent: no route, no port, no connection.
    Unreachable,
    /// Something of ours broke.
    Failed,
}
