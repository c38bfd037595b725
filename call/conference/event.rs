//! Events of a conference, in the order in which they happened, for webhooks and records.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::conference::{ConferenceSettings, Participation};
use crate::leg::{LegInfo, Status};
use crate::program::instruction::AudioSource;
use crate::recording::Recording;
use crate::stream::StreamFacts;
use tandem_id::{AccountName, ConferenceId, LegId};

/// Facts about a conference at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConferenceInfo {
    /// Id of the conference.
    pub id: ConferenceId,
    /// Name of the account that the conference belongs to.
    pub account: AccountName,
    /// Name of the dialect of the conference's webhooks: the dialect of the first participant.
    pub dialect: Arc<str>,
    /// The name that the account uses for the conference, unique among the account's live conferences.
    pub name: Arc<str>,
    /// Progress of the conference.
    pub status: ConferenceStatus,
    /// Settings of the conference. The first participant brought these settings.
    pub opening: Arc<ConferenceSettings>,
    /// Time at which the conference was created.
    pub created_at: Timestamp,
    /// Time of the last change of these facts.
    pub updated_at: Timestamp,
    /// Cause of the conference's end; `None` while the conference lives.
    pub end: Option<ConferenceEnd>,
    /// Id of the first participant's application.
    #[serde(default)]
    pub application: Option<Arc<str>>,
}

/// Progress of a conference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConferenceStatus {
    /// No participant has joined yet.
    Waiting,
    /// The conference has not started. Too few participants have joined, or all of them wait for another participant.
    Gathering,
    /// The conference has started.
    InProgress,
    /// The conference has ended.
    Completed,
}

/// The end of a conference: its cause, and the participant that caused the end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConferenceEnd {
    /// Cause of the conference's end.
    pub cause: EndCause,
    /// The leg that left the conference and so ended the conference.
    pub by: Option<LegId>,
    /// The name that the application uses for the participant that ended the conference.
    pub label: Option<Arc<str>>,
}

/// Causes of a conference's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EndCause {
    /// A request ended the conference.
    Request,
    /// A participant with the setting [`Participation::ends`] left.
    HostLeft,
    /// A request removed a participant with the setting [`Participation::ends`].
    HostRemoved,
    /// The last participant left.
    LastLeft,
    /// A request removed the last participant.
    LastRemoved,
    /// The maximum duration of the conference was reached.
    TimeUp,
    /// The server crashed, or the engine lost the conference.
    Failed,
}

/// Facts about a participant at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ParticipantInfo {
    /// Id of the participant's leg.
    pub leg: LegId,
    /// Settings of the participation. The field `opening` is always `None` here, because [`ConferenceInfo`] has the
    /// settings of the conference.
    pub participation: Participation,
    /// Progress of the participant.
    pub status: ParticipantStatus,
    /// Time at which the participant was added. If the participant was called, this is the start of the call. Otherwise
    /// it is the time of joining.
    pub created_at: Timestamp,
    /// Time of the last change of these facts.
    pub updated_at: Timestamp,
}

/// Progress of a participant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ParticipantStatus {
    /// The participant is being called.
    Expected,
    /// The participant is in the conference.
    Connected,
    /// The participant has left.
    Left,
    /// The participant could not be reached.
    Failed,
}

/// One event of a conference.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConferenceEvent {
    /// Time of the event.
    pub at: Timestamp,
    /// Facts about the conference right after the event.
    pub conference: Arc<ConferenceInfo>,
    /// The leg of the participant that the event is about. If the event is not about one participant, the leg of the
    /// first participant. The facts are from the moment when this leg joined or left.
    pub leg: Option<Arc<LegInfo>>,
    /// The leg of the first participant. The facts are from the moment when this leg joined.
    pub first: Option<Arc<LegInfo>>,
    /// The kind of the event.
    pub kind: ConferenceEventKind,
}

/// Kinds of events of a conference. The facts about a participant show the state right after the event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ConferenceEventKind {
    /// The conference was created without participants.
    Opened,
    /// The first participant joined.
    Entered,
    /// A participant is being called.
    Expected(ParticipantInfo),
    /// A participant joined.
    Joined(ParticipantInfo),
    /// A participant left, or a called participant could not be reached.
    Left {
        /// Facts about the participant.
        participant: ParticipantInfo,
        /// The reason why the participant left.
        why: LeftReason,
        /// Status of the participant's leg.
        call: Status,
    },
    /// The conference started. From now on the participants hear each other.
    Started,
    /// The conference ended. All participants have left.
    Ended,
    /// A participant was muted or unmuted.
    Muted(ParticipantInfo),
    /// A participant was put on hold or taken off hold.
    Held(ParticipantInfo),
    /// The settings of a participant changed.
    Modified(ParticipantInfo),
    /// A participant started or stopped speaking.
    Speaks {
        /// Facts about the participant.
        participant: ParticipantInfo,
        /// `true` if the participant started to speak, `false` if the participant stopped.
        speaks: bool,
    },
    /// A participant is now clearly louder than the other participants.
    ActiveSpeaker(ParticipantInfo),
    /// Audio for all participants or for one participant started or ended. A request plays this audio.
    Played(RoomAudio),
    /// An announcement ended.
    Announced {
        /// URL of the announcement.
        url: Arc<str>,
        /// The participant that heard the announcement; `None` if all participants heard it.
        to: Option<ParticipantInfo>,
        /// Reason in words if the announcement failed, otherwise `None`.
        failure: Option<String>,
    },
    /// A recording started, paused, resumed or ended. The status of the recording says which of these happened.
    Recording(Recording),
    /// A stream of the whole conference started or ended. The status of the stream says which of these happened.
    Stream(StreamFacts),
}

impl ConferenceEventKind {
    /// Returns the leg of the participant, or `None` if the event is about the whole conference.
    pub fn leg(&self) -> Option<LegId> {
        match self {
            Self::Expected(one)
            | Self::Joined(one)
            | Self::Muted(one)
            | Self::Held(one)
            | Self::Modified(one)
            | Self::ActiveSpeaker(one)
            | Self::Left { participant: one, .. }
            | Self::Speaks { participant: one, .. } => Some(one.leg),
            Self::Played(audio) => audio.to,
            Self::Announced { to, .. } => to.as_ref().map(|one| one.leg),
            Self::Opened | Self::Entered | Self::Started | Self::Ended | Self::Recording(_) | Self::Stream(_) => None,
        }
    }
}

/// Audio that a request plays in a conference.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomAudio {
    /// Source of the audio.
    pub source: AudioSource,
    /// The leg that hears the audio; `None` if all participants hear the audio.
    pub to: Option<LegId>,
    /// `true` if the audio ended, `false` if the audio started.
    pub over: bool,
}

/// The reason why a participant left a conference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LeftReason {
    /// The conference was ended by a request or by its time limit.
    ConferenceEnded,
    /// The conference ended because another participant left.
    HostLeft,
    /// A request removed the participant, redirected its leg or ended its leg.
    Request,
    /// The participant left without a request.
    Itself,
    /// The called participant could not be reached.
    NotReached,
}
