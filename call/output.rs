//! Outputs of a call. The shell performs them in order and reports the results as inputs.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::conference::{LeaveReason, Participation};
use crate::conversation::{ConversationSpec, ConversationStatus};
use crate::event::{CallEvent, PlaybackEnd};
use crate::fetch::Fetch;
use crate::id::{ConversationId, LegId, OpId, QueueId, RecordingId, SiprecId, StreamId, TranscriptionId};
use crate::leg::{EndCause, LegInfo, Status};
use crate::machine_detection::{DetectionResult, MachineDetection};
use crate::program::instruction::{Credentials, Play, RejectReason, SendDigits, Warning};
use crate::queue::NotQueued;
use crate::recognition::{RecognitionEvent, RecognitionSpec};
use crate::recording::{PauseBehavior, Recording, RecordingEnd, RecordingSpec, Track};
use crate::refer::Referred;
use crate::siprec::{SiprecSpec, SiprecStatus};
use crate::stream::{StreamSpec, StreamStatus};
use crate::supervision::Supervision;
use crate::transcription::{TranscriptionOrder, TranscriptionSpec, TranscriptionStatus};

/// One output of a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Execute a command on a leg.
    Leg {
        /// The leg.
        leg: LegId,
        /// The command.
        command: Box<LegCommand>,
    },
    /// Fetch a document.
    Fetch(Box<Fetch>),
    /// Report an event.
    Event(Box<CallEvent>),
}

/// A command for one leg. A command that takes time carries an `OpId`; its result is a [`LegEvent`] with the same id.
#[derive(Clone, PartialEq, Debug)]
pub enum LegCommand {
    /// Send the INVITE.
    Invite(Box<Invite>),
    /// Send 180, or 183 with SDP.
    Ring {
        /// Whether the far end is to hear audio before the answer.
        early_media: bool,
    },
    /// Add these headers to the next message that answers, refuses or ends the leg.
    Headers(Vec<(String, String)>),
    /// Return these values with the end of the leg to its far end, which is another leg of this server.
    HandBack(Vec<(String, String)>),
    /// Send 200.
    Answer,
    /// Send a final response that refuses the call.
    Reject(RejectReason),
    /// Send CANCEL or BYE, as the state requires, with the reason.
    Hangup(HangupReason),
    /// Synthesise, fetch or generate audio and play it.
    Play {
        /// Id of the operation.
        op: OpId,
        /// The audio to play.
        play: Play,
    },
    /// Send DTMF digits (RFC 4733).
    SendDigits {
        /// Id of the operation.
        op: OpId,
        /// The digits to send.
        digits: SendDigits,
    },
    /// Send a SIP INFO.
    SendInfo {
        /// MIME type of the body.
        content_type: String,
        /// The body, sent unchanged.
        body: String,
    },
    /// Start answering-machine detection; the results are one or two `MachineDetected` events.
    DetectMachine {
        /// Id of the operation.
        op: OpId,
        /// Parameters of the detection.
        spec: Box<MachineDetection>,
    },
    /// Stop a `Play` or `SendDigits`.
    Stop {
        /// Id of the operation to stop.
        op: OpId,
    },
    /// Start a recording.
    Record {
        /// Id of the operation.
        op: OpId,
        /// Id of the recording, which names its file.
        id: RecordingId,
        /// Parameters of the recording.
        spec: RecordingSpec,
        /// The playback that must end before the recording starts.
        after: Option<OpId>,
    },
    /// Pause a recording.
    PauseRecording {
        /// Id of the recording's operation.
        op: OpId,
        /// What the recording contains for the time of the pause.
        gap: PauseBehavior,
    },
    /// Resume a recording.
    ResumeRecording {
        /// Id of the recording's operation.
        op: OpId,
    },
    /// Stop a recording; the result is `RecordingFinished`.
    StopRecording {
        /// Id of the recording's operation.
        op: OpId,
    },
    /// Send audio to the streams that were connected before the answer: the leg is answered now.
    BeginStreams,
    /// Connect a stream to the application's WebSocket.
    StartStream {
        /// Id of the operation on the leg's media.
        op: OpId,
        /// Id of the stream.
        id: StreamId,
        /// Parameters of the stream.
        spec: StreamSpec,
    },
    /// Close a stream.
    StopStream {
        /// Id of the stream.
        id: StreamId,
    },
    /// Call a recording server and send it copies of the leg's audio (SIPREC); the results are `Siprec` events.
    StartSiprec {
        /// Ids of the operations that copy the audio from the far end and the audio to the far end.
        ops: (OpId, OpId),
        /// Id of the session.
        id: SiprecId,
        /// Parameters of the session.
        spec: Box<SiprecSpec>,
    },
    /// Hang up the session with the recording server; no event follows.
    StopSiprec {
        /// Id of the session.
        id: SiprecId,
    },
    /// Start speech recognition of the far end's audio. The results are `Heard` events and finally `RecognitionEnded`,
    /// unless it is stopped.
    Listen {
        /// Id of the operation.
        op: OpId,
        /// Parameters of the recognition.
        how: Box<RecognitionSpec>,
    },
    /// Stop listening, but report the results for what was said so far; `RecognitionEnded` is the last event.
    FinishRecognition {
        /// Id of the recognition's operation.
        op: OpId,
    },
    /// Stop speech recognition without further events.
    StopRecognition {
        /// Id of the recognition's operation.
        op: OpId,
    },
    /// Start a live transcription; the results are `Transcription` events.
    StartTranscription {
        /// Id of the operation on the leg's media.
        op: OpId,
        /// Id of the transcription.
        id: TranscriptionId,
        /// Parameters of the transcription.
        spec: Box<TranscriptionSpec>,
    },
    /// Stop a live transcription; a `Transcription` event follows once the rest is reported.
    StopTranscription {
        /// Id of the transcription's operation.
        op: OpId,
    },
    /// Transcribe a recording, independently of the call.
    Transcribe {
        /// The recorded leg, which may be released before the transcription is complete.
        of: Arc<LegInfo>,
        /// The complete recording.
        recording: Box<Recording>,
        /// Id and callback of the transcription.
        order: TranscriptionOrder,
    },
    /// Connect to the application's WebSocket and start a conversation between caller and application.
    Converse {
        /// Id of the operation on the leg's media.
        op: OpId,
        /// Id of the conversation.
        id: ConversationId,
        /// Parameters of the conversation.
        spec: Box<ConversationSpec>,
        /// Status of the leg before the conversation.
        status: Status,
    },
    /// End a conversation.
    StopConversation {
        /// Id of the conversation.
        id: ConversationId,
    },
    /// Connect the audio of this leg with that of another one.
    Bridge {
        /// The other leg.
        with: LegId,
    },
    /// End the bridge.
    Unbridge,
    /// Join a conference of the account, or change the participation in the current one.
    JoinConference(Participation),
    /// Leave the conference.
    LeaveConference {
        /// Why the leg leaves.
        why: LeaveReason,
        /// Facts about the leg at that time; it may have ended.
        leg: Arc<LegInfo>,
    },
    /// Hear the call of another leg, which is in the same call, without a bridge; or change the role of this
    /// supervision.
    Supervise(Supervision),
    /// End the supervision.
    StopSupervising,
    /// Enter a queue of the account, which is created if it does not exist. An `Enqueued` event follows, and `Called`
    /// when an agent takes the leg.
    EnterQueue {
        /// Id of the operation.
        op: OpId,
        /// Name of the queue.
        queue: Arc<str>,
        /// Maximum number of waiting legs: with that many, the leg is not admitted.
        most: Option<u32>,
    },
    /// Put the leg back to its old position in the queue: the agent that took it has gone.
    ReturnToQueue,
    /// Leave the queue.
    LeaveQueue,
    /// Take the first leg of a queue, now or as soon as there is one. The result is a `Called` event on the leg taken,
    /// which is in the same call by then, or `DequeueFailed`.
    DequeueFirst {
        /// Name of the queue.
        queue: Arc<str>,
    },
    /// Stop waiting for a leg of the queue.
    StopDequeue,
    /// Send the leg its own audio back, or stop that.
    Echo(bool),
    /// Mute or unmute the audio from the leg's far end for all listeners.
    Mute(bool),
    /// Switch noise suppression on or off.
    SuppressNoise {
        /// Audio from the far end, audio to the far end, or both.
        track: Track,
        /// `true` to switch on, `false` to switch off.
        on: bool,
    },
    /// Ask the far end to call another party (REFER). The results are `ReferAnswered` and `ReferProgress`.
    Refer {
        /// SIP URI of the party to call.
        to: String,
        /// Additional SIP headers.
        headers: Vec<(String, String)>,
    },
    /// Respond to a REFER of the far end.
    AnswerRefer {
        /// SIP status code: 202, or the code that refuses.
        status: u16,
    },
    /// Report to the far end the progress of the call that it requested with REFER (NOTIFY).
    NotifyRefer {
        /// SIP status code of the latest response of that call.
        status: u16,
    },
    /// Free the leg's ports; no further command follows.
    Release,
}

/// Why this server ends a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HangupReason {
    /// Cause of the end.
    pub cause: EndCause,
    /// Whether the call was answered by another leg (completed elsewhere).
    pub elsewhere: bool,
}

/// Parameters of an outbound INVITE.
#[derive(Clone, PartialEq, Debug)]
pub struct Invite {
    /// Address of the called party.
    pub to: Address,
    /// Address of the caller.
    pub from: Address,
    /// Display name of the caller.
    pub caller_name: Option<String>,
    /// Additional SIP headers.
    pub headers: Vec<(String, String)>,
    /// Whether the call continues the call of its parent leg: the headers of the parent's INVITE that the trunk passes
    /// are sent too.
    pub inherits: bool,
    /// Credentials for a far end that challenges (digest authentication).
    pub credentials: Option<Credentials>,
    /// Names of the trunks to try, each after the failure of the one before. If empty, the number's prefix selects the
    /// trunk.
    pub via: Vec<Arc<str>>,
    /// Value of the Replaces header (RFC 3891): the dialog that this call replaces.
    pub replaces: Option<String>,
}

/// What happened on one leg.
#[derive(Clone, PartialEq, Debug)]
pub enum LegEvent {
    /// 180 or 183 received.
    Ringing {
        /// Whether early media flows.
        early_media: bool,
    },
    /// 200 received for our INVITE.
    Answered {
        /// Name of the negotiated codec.
        codec: Option<String>,
        /// Headers of the 200 response.
        headers: Vec<(String, String)>,
        /// The serialised dialog; see [`SipFacts::dialog`](crate::leg::SipFacts::dialog).
        dialog: Option<Arc<str>>,
    },
    /// The leg ended without a command of this call.
    Ended {
        /// How the leg ended.
        reason: LegGone,
        /// Status code of the SIP response that ended it, if there was one.
        sip_status: Option<u16>,
        /// Further details in words.
        detail: Option<String>,
    },
    /// The far end requested a transfer (REFER).
    Referred(Box<Referred>),
    /// The far end responded to our REFER.
    ReferAnswered {
        /// SIP status code of the response.
        status: u16,
    },
    /// The far end reported progress of the call that it makes for our REFER (NOTIFY).
    ReferProgress {
        /// SIP status code of the latest response of that call.
        status: u16,
        /// Whether no further report follows.
        done: bool,
    },
    /// The far end sent a DTMF digit.
    Dtmf(char),
    /// A `Play` or `SendDigits` ended.
    PlayFinished {
        /// Id of the operation.
        op: OpId,
        /// Why it ended.
        end: PlaybackEnd,
    },
    /// Answering-machine detection has a result.
    MachineDetected {
        /// Id of the operation of `DetectMachine`.
        op: OpId,
        /// The result.
        verdict: DetectionResult,
        /// Time from the command to the result.
        after: Duration,
    },
    /// A recording ended and its file is complete on disk.
    RecordingFinished {
        /// Id of the recording's operation.
        op: OpId,
        /// Why the recording ended.
        end: RecordingEnd,
        /// Length of the audio in the file.
        duration: Duration,
        /// Length of the audio before leading and trailing silence was removed.
        recorded: Duration,
    },
    /// The status of a stream changed.
    Stream {
        /// Id of the stream.
        id: StreamId,
        /// The new status.
        status: StreamStatus,
    },
    /// The status of a session with a recording server changed.
    Siprec {
        /// Id of the session.
        id: SiprecId,
        /// The new status.
        status: SiprecStatus,
    },
    /// A result of speech recognition.
    Heard {
        /// Id of the operation of `Listen`.
        op: OpId,
        /// The result.
        heard: RecognitionEvent,
    },
    /// Speech recognition ended; no further result follows.
    RecognitionEnded {
        /// Id of the operation of `Listen`.
        op: OpId,
        /// Reason in words if it failed; `None` if it was finished normally.
        failed: Option<String>,
    },
    /// The status of a live transcription changed.
    Transcription {
        /// Id of the transcription.
        id: TranscriptionId,
        /// The new status.
        status: TranscriptionStatus,
    },
    /// The status of a conversation changed.
    Conversation {
        /// Id of the conversation.
        id: ConversationId,
        /// The new status.
        status: ConversationStatus,
    },
    /// The leg's conference ended.
    ConferenceOver {
        /// Whether the remaining participants are hung up.
        clears: bool,
    },
    /// The conference refused the leg.
    ConferenceRefused,
    /// A problem that did not stop the leg; it is reported once.
    Warned(Warning),
    /// The leg entered a queue, or was not admitted.
    Enqueued {
        /// Id of the operation of `EnterQueue`.
        op: OpId,
        /// Id of the queue, or why the leg was not admitted.
        standing: Result<QueueId, NotQueued>,
    },
    /// Another leg, which is in the same call, takes this one out of the queue.
    Called {
        /// Id of the queue.
        queue: QueueId,
        /// The leg that takes this one.
        by: LegId,
    },
    /// The waiting leg that this leg was to receive from the queue could not be moved into its call.
    DequeueFailed,
}

/// How a leg ended, as seen in SIP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LegGone {
    /// BYE received.
    Bye,
    /// CANCEL received.
    Cancelled,
    /// A final response of 300 or more.
    Rejected,
    /// A final response of 300 or more with a Q.850 cause of the network behind it.
    Refused(EndCause),
    /// No response to our request.
    Timeout,
    /// The request could not be sent: no route, no port or no connection.
    Unreachable,
    /// A failure in this server.
    Failed,
}
