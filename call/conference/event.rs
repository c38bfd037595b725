//! Events of a conference, in the order in which they happened, for webhooks and records.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::conference::{ConferenceSettings, Participation};
use crate::id::{ConferenceId, LegId};
use crate::leg::{LegInfo, Status};
use crate::program::instruction::AudioSource;
use crate::recording::Recording;
use crate::stream::StreamFacts;

/// Facts about a conference at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConferenceInfo {
    /// Id of the conference.
    pub id: ConferenceId,
    /// Name of the account that the conference belongs to.
    pub account: Arc<str>,
    /// Name of the dialect in which the application is notified: that of the first participant.
    pub dialect: Arc<str>,
    /// The account's name of the conference, unique among its live conferences.
    pub name: Arc<str>,
    /// Progress of the conference.
    pub status: ConferenceStatus,
    /// Settings that the first participant gave.
    pub opening: Arc<ConferenceSettings>,
    /// Time at which the conference was created.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
    /// Cause of the end; `None` while the conference lives.
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
    /// Too few participants have joined, or all of them wait for the start.
    Gathering,
    /// The conference has started.
    InProgress,
    /// The conference has ended.
    Completed,
}

/// Cause of a conference's end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConferenceEnd {
    /// Cause of the end.
    pub cause: EndCause,
    /// The leg that ended the conference by leaving.
    pub by: Option<LegId>,
    /// The application's name of that participant.
    pub label: Option<Arc<str>>,
}

/// Causes of a conference's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EndCause {
    /// A request ended it.
    Request,
    /// A participant left whose leaving ends the conference.
    HostLeft,
    /// A request removed a participant whose leaving ends the conference.
    HostRemoved,
    /// The last participant left.
    LastLeft,
    /// A request removed the last participant.
    LastRemoved,
    /// The maximum duration was reached.
    TimeUp,
    /// The server crashed, or lost the conference.
    Failed,
}

/// Facts about a participant at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ParticipantInfo {
    /// Id of the participant's leg.
    pub leg: LegId,
    /// Settings of the participation. Its `opening` is `None`; the conference has those settings.
    pub participation: Participation,
    /// Progress of the participant.
    pub status: ParticipantStatus,
    /// Time since which the participant is being called or takes part.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// Progress of a participant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ParticipantStatus {
    /// The participant is being called.
    Expected,
    /// The participant takes part.
    Connected,
    /// The participant has left.
    Left,
    /// The participant could not be reached.
    Failed,
}

/// One event of a conference.
#[derive(Clone, PartialEq, Debug)]
pub struct ConferenceEvent {
    /// Time of the event.
    pub at: Timestamp,
    /// Facts about the conference right after the event.
    pub conference: Arc<ConferenceInfo>,
    /// The leg that the event is about, with its facts when it joined or left. The first participant's leg if the event
    /// is about the whole conference.
    pub leg: Option<Arc<LegInfo>>,
    /// The first participant's leg, with its facts when it joined.
    pub first: Option<Arc<LegInfo>>,
    /// What happened.
    pub kind: ConferenceEventKind,
}

/// What happened in a conference. The facts about a participant are those right after the event.
#[derive(Clone, PartialEq, Debug)]
pub enum ConferenceEventKind {
    /// The conference was created, without participants.
    Opened,
    /// The first participant joined.
    Entered,
    /// A participant is being called.
    Expected(ParticipantInfo),
    /// A participant joined.
    Joined(ParticipantInfo),
    /// A participant left, or could not be reached.
    Left {
        /// The participant.
        participant: ParticipantInfo,
        /// Why the participant left.
        why: LeftReason,
        /// Status of the participant's leg.
        call: Status,
    },
    /// The conference started: the participants hear each other.
    Started,
    /// The conference ended; all participants have left.
    Ended,
    /// A participant was muted or unmuted.
    Muted(ParticipantInfo),
    /// A participant was put on hold or taken off hold.
    Held(ParticipantInfo),
    /// The settings of a participation changed.
    Modified(ParticipantInfo),
    /// A participant started or stopped speaking.
    Speaks {
        /// The participant.
        participant: ParticipantInfo,
        /// `true` if the participant started, `false` if it stopped.
        speaks: bool,
    },
    /// A participant became clearly the loudest.
    Leads(ParticipantInfo),
    /// Audio that a request plays to all participants or to one of them started or ended.
    Played(RoomAudio),
    /// An announcement ended.
    Announced {
        /// URL of the announcement.
        url: Arc<str>,
        /// The participant that heard it; `None` if all did.
        to: Option<ParticipantInfo>,
        /// Reason in words if the announcement failed.
        failure: Option<String>,
    },
    /// A recording started, paused, resumed or ended, as its status says.
    Recording(Recording),
    /// A stream of the whole conference started or ended, as its status says.
    Stream(StreamFacts),
}

impl ConferenceEventKind {
    /// Returns the leg that the event is about, if it is about one participant.
    pub fn leg(&self) -> Option<LegId> {
        match self {
            Self::Expected(one)
            | Self::Joined(one)
            | Self::Muted(one)
            | Self::Held(one)
            | Self::Modified(one)
            | Self::Leads(one)
            | Self::Left { participant: one, .. }
            | Self::Speaks { participant: one, .. } => Some(one.leg),
            Self::Played(audio) => audio.to,
            Self::Announced { to, .. } => to.as_ref().map(|one| one.leg),
            Self::Opened | Self::Entered | Self::Started | Self::Ended | Self::Recording(_) | Self::Stream(_) => None,
        }
    }
}

/// Audio that is played in a conference.
#[derive(Clone, PartialEq, Debug)]
pub struct RoomAudio {
    /// Source of the audio.
    pub source: AudioSource,
    /// The leg that hears it; `None` if all participants do.
    pub to: Option<LegId>,
    /// `true` if the audio ended, `false` if it started.
    pub over: bool,
}

/// Why a participant left a conference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeftReason {
    /// A request or the time limit ended the conference.
    ConferenceEnded,
    /// Another participant left whose leaving ends the conference.
    HostLeft,
    /// A request removed the participant, redirected its leg or ended its leg.
    Request,
    /// The participant left by itself.
    Itself,
    /// The participant could not be reached.
    NotReached,
}
