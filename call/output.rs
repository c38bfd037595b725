//! Outputs of a call. The shell executes the outputs in their order and reports the results as inputs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::conference::{LeaveReason, Participation};
use crate::conversation::{ConversationRequest, ConversationSpec, ConversationStatus};
use crate::engine::EngineFailure;
use crate::event::{CallEvent, PlaybackEnd};
use crate::fetch::Fetch;
use crate::header_fields::HeaderFields;
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
use tandem_id::{ConversationId, LegId, OpId, QueueId, RecordingId, SiprecId, StreamId, TranscriptionId};

/// One output of a call.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Execute a command on a leg.
    Leg {
        /// The leg that executes the command.
        leg: LegId,
        /// The command to execute.
        command: Box<LegCommand>,
    },
    /// Fetch a document from an application.
    Fetch(Box<Fetch>),
    /// Report an event to applications. Also write the event to the call's record and to the log.
    Event(Box<CallEvent>),
}

/// A command for one leg. A command that takes time carries an `OpId`. The result of such a command is a [`LegEvent`]
/// with the same id.
#[derive(Clone, PartialEq, Debug)]
pub enum LegCommand {
    /// Send the INVITE of an outbound leg.
    Invite(Box<Invite>),
    /// Send a provisional response: 180 or 183, with or without SDP.
    Ring {
        /// The content of the response.
        progress: Progress,
    },
    /// Report the next RTP packet of the far end with [`LegEvent::PacketArrived`].
    ReportNextPacket,
    /// Add these SIP headers to the next message that answers, refuses or ends the leg.
    Headers(HeaderFields),
    /// Return these values to the far end when the leg ends. The far end is another leg of this server.
    ReturnValues(Vec<(String, String)>),
    /// Send the 200 response to the INVITE.
    Answer,
    /// Send a final response that refuses the call.
    Reject(RejectReason),
    /// Send CANCEL or BYE, depending on the state of the dialog. The message contains the reason.
    Hangup(HangupReason),
    /// Synthesise, fetch or generate audio, then play it to the leg.
    Play {
        /// Id of the operation.
        op: OpId,
        /// The audio to play.
        play: Play,
        /// `None` for a new playback. For a playback that a restart interrupted, the time since its first command. The
        /// call does not know when the audio began: audio that had to be fetched or synthesised began later.
        elapsed: Option<Duration>,
    },
    /// Send DTMF digits (RFC 4733).
    SendDigits {
        /// Id of the operation.
        op: OpId,
        /// The digits to send.
        digits: SendDigits,
        /// `None` for new digits. For digits that a restart interrupted, the time since their first command. The digits
        /// of this time have been sent.
        elapsed: Option<Duration>,
    },
    /// Send a SIP INFO.
    SendInfo {
        /// MIME type of the body.
        content_type: String,
        /// The body, sent unchanged.
        body: String,
    },
    /// Start answering-machine detection. The results are one or two `MachineDetected` events.
    DetectMachine {
        /// Id of the operation.
        op: OpId,
        /// Parameters of the detection.
        spec: Box<MachineDetection>,
    },
    /// Stop a `Play` or `SendDigits` command.
    Stop {
        /// Id of the operation to stop.
        op: OpId,
    },
    /// Start a recording.
    Record {
        /// Id of the operation.
        op: OpId,
        /// Id of the recording. The file of the recording has this id as its name.
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
        /// Whether the recording contains silence for the time of the pause, or leaves this time out.
        pause_behavior: PauseBehavior,
    },
    /// Resume a recording.
    ResumeRecording {
        /// Id of the recording's operation.
        op: OpId,
    },
    /// Stop a recording. A `RecordingFinished` event follows.
    StopRecording {
        /// Id of the recording's operation.
        op: OpId,
    },
    /// Send audio to the streams that connected before the answer, because the leg is answered now.
    BeginStreams,
    /// Connect a stream to the application.
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
    /// Call a recording server (SIPREC), and send copies of the leg's audio to this server. The results are `Siprec`
    /// events.
    StartSiprec {
        /// Ids of two operations. The first operation copies the audio from the far end. The second operation copies
        /// the audio to the far end.
        ops: (OpId, OpId),
        /// Id of the session.
        id: SiprecId,
        /// Parameters of the session.
        spec: Box<SiprecSpec>,
    },
    /// Hang up the session with the recording server. No event follows.
    StopSiprec {
        /// Id of the session.
        id: SiprecId,
    },
    /// Start speech recognition of the far end's audio. The results are `Recognition` events. The last event is
    /// `RecognitionEnded`, unless the recognition is stopped.
    StartRecognition {
        /// Id of the operation.
        op: OpId,
        /// Parameters of the recognition.
        spec: Box<RecognitionSpec>,
    },
    /// Stop the recognition of new speech. The results for earlier speech are still reported. The last event is
    /// `RecognitionEnded`.
    FinishRecognition {
        /// Id of the recognition's operation.
        op: OpId,
    },
    /// Stop speech recognition without further events.
    StopRecognition {
        /// Id of the recognition's operation.
        op: OpId,
    },
    /// Start a live transcription. The results are `Transcription` events.
    StartTranscription {
        /// Id of the operation on the leg's media.
        op: OpId,
        /// Id of the transcription.
        id: TranscriptionId,
        /// Parameters of the transcription.
        spec: Box<TranscriptionSpec>,
    },
    /// Stop a live transcription. The last `Transcription` event follows when all earlier speech has been reported.
    StopTranscription {
        /// Id of the transcription's operation on the leg's media.
        op: OpId,
    },
    /// Transcribe a recording, independently of the call.
    Transcribe {
        /// The recorded leg. The leg may be released before the transcription is complete.
        of: Arc<LegInfo>,
        /// The complete recording.
        recording: Box<Recording>,
        /// Id and callback of the transcription.
        order: TranscriptionOrder,
    },
    /// Start a conversation of the caller with an application (over a WebSocket) or with an agent.
    Converse {
        /// Id of the operation on the leg's media.
        op: OpId,
        /// Id of the conversation.
        id: ConversationId,
        /// Parameters of the conversation.
        spec: Box<ConversationSpec>,
        /// Status of the leg before the conversation instruction began.
        status: Status,
    },
    /// End a conversation.
    StopConversation {
        /// Id of the conversation.
        id: ConversationId,
    },
    /// Give a conversation a request.
    AskConversation {
        /// Id of the conversation.
        id: ConversationId,
        /// The request.
        request: ConversationRequest,
    },
    /// Connect the audio of this leg with the audio of another leg.
    Bridge {
        /// The other leg.
        with: LegId,
    },
    /// Disconnect the audio of this leg from the other leg of the bridge.
    Unbridge,
    /// Join a conference of the account. If the leg is already in this conference, change its participation.
    JoinConference(Participation),
    /// Leave the conference.
    LeaveConference {
        /// The reason why the leg leaves the conference.
        why: LeaveReason,
        /// Facts about the leg when it leaves. The leg may have ended.
        leg: Arc<LegInfo>,
    },
    /// Supervise another leg of the same call without a bridge. The supervisor hears the audio of that leg. If the
    /// supervision already runs, change the role of the supervisor.
    Supervise(Supervision),
    /// End the supervision.
    StopSupervising,
    /// Enter a queue of the account. The queue is created if it does not exist. An `Enqueued` event follows. A `Called`
    /// event follows when an agent takes the leg.
    EnterQueue {
        /// Id of the operation.
        op: OpId,
        /// Name of the queue.
        queue: Arc<str>,
        /// Maximum number of waiting legs. If the queue already has this number, the leg is not admitted.
        max_size: Option<u32>,
    },
    /// Put the leg to the position of its time of arrival in a queue. The leg waited in this queue before a restart. No
    /// event follows. A `Called` event follows when an agent takes the leg.
    ResumeWait {
        /// Name of the queue.
        queue: Arc<str>,
        /// Time at which the leg entered the queue.
        since: Timestamp,
        /// Whether an agent is taking the leg. Such a leg is not given to another agent until `ReturnToQueue`.
        called: bool,
    },
    /// Put the leg back to its old position in the queue. The agent that took the leg has gone.
    ReturnToQueue,
    /// Leave the queue.
    LeaveQueue,
    /// Take the first leg of a queue, now or when a leg arrives. On success, the waiting leg is moved into this call
    /// and receives a `Called` event. On failure, this leg receives `DequeueFailed`.
    DequeueFirst {
        /// Name of the queue.
        queue: Arc<str>,
    },
    /// Do not wait for a leg of the queue any longer.
    StopDequeue,
    /// Send the leg its own audio (`true`), or stop sending it (`false`).
    Echo(bool),
    /// Mute or unmute the leg's far end for all listeners.
    Mute(bool),
    /// Switch noise suppression on or off.
    SuppressNoise {
        /// The audio that is affected: from the far end, to the far end, or both.
        track: Track,
        /// `true` switches noise suppression on, `false` switches it off.
        on: bool,
    },
    /// Ask the far end to call another party (REFER). The results are `ReferAnswered` and `ReferProgress`.
    Refer {
        /// SIP URI of the party to call.
        to: String,
        /// Additional SIP headers of the REFER.
        headers: HeaderFields,
    },
    /// Respond to the REFER that the far end has sent.
    AnswerRefer {
        /// SIP status code: 202 to accept, or a code that refuses.
        status: u16,
    },
    /// Send a NOTIFY to the far end. The far end requested a call by REFER, and the NOTIFY reports the progress of this
    /// call.
    NotifyRefer {
        /// SIP status code of the latest response in the requested call.
        status: u16,
    },
    /// Free the ports of the leg. No further command follows.
    Release,
}

/// The content of a provisional response.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Whether the called party is alerted: 180. Otherwise 183. After 180 without RTP, the caller's side generates a
    /// ringback tone (RFC 3960 §3.2).
    pub alerting: bool,
    /// Whether the response agrees on audio before the answer (SDP). RTP need not follow.
    pub early_media: bool,
}

/// The reason why this server ends a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HangupReason {
    /// Cause of the leg's end.
    pub cause: EndCause,
    /// Whether another leg answered the call ("completed elsewhere").
    pub answered_elsewhere: bool,
}

/// Parameters of an outbound INVITE.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Invite {
    /// Address of the called party.
    pub to: Address,
    /// Address of the caller.
    pub from: Address,
    /// Display name of the caller.
    pub caller_name: Option<String>,
    /// Additional SIP headers of the INVITE.
    pub headers: HeaderFields,
    /// Whether the call continues the call of its parent leg. If true, the INVITE also gets headers of the parent's
    /// INVITE. The settings of the trunk say which headers are passed on.
    pub inherits_headers: bool,
    /// Credentials for digest authentication, if the far end sends a challenge.
    pub credentials: Option<Credentials>,
    /// Names of the trunks, in the order in which they are tried. If the call over one trunk fails, the next trunk is
    /// tried. If the list is empty, the prefix of the number selects the trunk.
    pub via: Vec<Arc<str>>,
    /// Value of the Replaces header (RFC 3891). The header names the dialog that this call replaces.
    pub replaces: Option<String>,
}

impl Invite {
    /// Creates the parameters of an INVITE without additional headers, credentials and trunks.
    pub fn new(to: Address, from: Address) -> Self {
        Self {
            to,
            from,
            caller_name: None,
            headers: HeaderFields::new(),
            inherits_headers: false,
            credentials: None,
            via: Vec::new(),
            replaces: None,
        }
    }
}

/// An event of one leg, reported by the shell.
#[derive(Clone, PartialEq, Debug)]
pub enum LegEvent {
    /// The far end sent 180 or 183, or another provisional response with SDP.
    Ringing {
        /// The content of the response.
        progress: Progress,
    },
    /// The first RTP packet of the far end arrived, or the packet that [`LegCommand::ReportNextPacket`] asked for.
    PacketArrived,
    /// The far end sent 200 for the INVITE of this server.
    Answered {
        /// Name of the negotiated codec.
        codec: Option<String>,
        /// Headers of the 200 response.
        headers: HeaderFields,
        /// The dialog of the leg, as a text from the SIP side; see [`SipFacts::dialog`](crate::leg::SipFacts::dialog).
        dialog: Option<Arc<str>>,
    },
    /// The leg ended without an order from this call.
    Ended {
        /// The reason why the leg ended, as SIP saw it.
        reason: EndReason,
        /// Status code of the SIP response that ended the leg, if a response ended it.
        sip_status: Option<u16>,
        /// Further details in words.
        detail: Option<String>,
    },
    /// The far end requested a transfer (REFER).
    Referred(Box<Referred>),
    /// The far end responded to the REFER of this server.
    ReferAnswered {
        /// SIP status code of the response.
        status: u16,
    },
    /// The far end sent a NOTIFY about the call that this server requested by REFER. The NOTIFY has the progress of
    /// this call.
    ReferProgress {
        /// SIP status code of the latest response in the requested call.
        status: u16,
        /// Whether this NOTIFY is the last report about the requested call.
        done: bool,
    },
    /// The far end sent a DTMF digit.
    Dtmf(char),
    /// A `Play` or `SendDigits` command ended.
    PlayFinished {
        /// Id of the operation.
        op: OpId,
        /// The reason why the `Play` or `SendDigits` command ended.
        end: PlaybackEnd,
    },
    /// Answering-machine detection has a result.
    MachineDetected {
        /// Id of the operation of `DetectMachine`.
        op: OpId,
        /// The detection result.
        result: DetectionResult,
        /// Time from the command to the result.
        after: Duration,
    },
    /// A recording ended, and its file is complete.
    RecordingFinished {
        /// Id of the recording's operation.
        op: OpId,
        /// The reason why the recording ended.
        end: RecordingEnd,
        /// Length of the audio in the file.
        duration: Duration,
        /// Length of the recorded audio. Silence that was removed from the start and the end of the file is included.
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
    Recognition {
        /// Id of the operation of `StartRecognition`.
        op: OpId,
        /// The recognised speech, or the start or end of speech.
        event: RecognitionEvent,
    },
    /// Speech recognition ended. No further result follows.
    RecognitionEnded {
        /// Id of the operation of `StartRecognition`.
        op: OpId,
        /// Reason in words if the recognition failed; `None` if the recognition ended normally.
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
    /// The conference of the leg ended.
    ConferenceOver {
        /// Whether the remaining participants are hung up.
        clears: bool,
    },
    /// The conference refused the leg.
    ConferenceRefused,
    /// An engine that works for the leg failed.
    EngineFailed(EngineFailure),
    /// The voice agent of the leg's conversation hangs up.
    AgentHungUp,
    /// A problem that did not stop the leg. The server reports each problem once.
    Warned(Warning),
    /// The queue admitted the leg, or refused the leg.
    Enqueued {
        /// Id of the operation of `EnterQueue`.
        op: OpId,
        /// Id of the queue, or the reason why the queue refused the leg.
        result: Result<QueueId, NotQueued>,
    },
    /// Another leg of the same call takes this leg out of the queue.
    Called {
        /// Id of the queue.
        queue: QueueId,
        /// The leg that takes this leg out of the queue.
        by: LegId,
    },
    /// This leg gets no leg from the queue, because the waiting leg could not be moved into this leg's call.
    DequeueFailed,
}

/// The way in which a leg ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// The far end hung up.
    HungUp,
    /// The caller gave up before the answer.
    Cancelled,
    /// The far end refused.
    Rejected,
    /// The far end refused, with a Q.850 cause from the telephone network.
    Refused(EndCause),
    /// The far end did not respond to a request of this server.
    Timeout,
    /// The request could not be sent, because there was no route, no port or no connection.
    Unreachable,
    /// An error in this server ended the leg.
    Failed,
    /// The leg was not called, because its internal calls form a loop or are too many. The document of the leg that
    /// dialled this leg fails.
    Loop,
}
