//! Facts about a conference, in the order they happened: for webhooks and records.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::conference::{Opening, Participation};
use crate::id::{ConferenceId, LegId};
use crate::leg::{LegInfo, Status};
use crate::program::instruction::AudioSource;
use crate::recording::Recording;
use crate::stream::StreamFacts;

/// Facts about a conference at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConferenceInfo {
    /// Its id.
    pub id: ConferenceId,
    /// Name of the account it belongs to.
    pub account: Arc<str>,
    /// Name of the dialect that speaks for it: that of its first participant.
    pub dialect: Arc<str>,
    /// The account's name for it; of those that live no other one has it.
    pub name: Arc<str>,
    /// How far it is.
    pub status: ConferenceStatus,
    /// What its first participant said about it.
    pub opening: Arc<Opening>,
    /// When it came to be.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How it ended.
    pub end: Option<ConferenceEnd>,
    /// The application of the first who came.
    #[serde(default)]
    pub application: Option<Arc<str>>,
}

/// How far a conference is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConferenceStatus {
    /// Nobody has come yet.
    Waiting,
    /// Too few are there, or somebody is waited for.
    Gathering,
    /// They hear each other, or did.
    InProgress,
    /// It is over.
    Completed,
}

/// How a conference ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConferenceEnd {
    /// Why.
    pub cause: EndCause,
    /// Whose leaving ended it.
    pub by: Option<LegId>,
    /// The application's name for that one.
    pub label: Option<Arc<str>>,
}

/// Why a conference ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EndCause {
    /// By request.
    Request,
    /// Somebody left whose leaving ends it.
    HostLeft,
    /// The same, put out by request.
    HostRemoved,
    /// The last one left.
    LastLeft,
    /// The last one was put out by request.
    LastRemoved,
    /// It lasted as long as it was to.
    TimeUp,
    /// The server crashed, or gave it up.
    Failed,
}

/// Facts about somebody in a conference.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ParticipantInfo {
    /// Its leg.
    pub leg: LegId,
    /// How it takes part; its `opening` is the conference's.
    pub participation: Participation,
    /// How far it is.
    pub status: ParticipantStatus,
    /// Since when it is expected, or there.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// How far somebody is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ParticipantStatus {
    /// It is being called.
    Expected,
    /// It takes part.
    Connected,
    /// It did.
    Left,
    /// It could not be reached.
    Failed,
}

/// One fact.
#[derive(Clone, PartialEq, Debug)]
pub struct ConferenceEvent {
    /// When.
    pub at: Timestamp,
    /// The conference, as it was right after.
    pub conference: Arc<ConferenceInfo>,
    /// The leg that it is about, as it came, or as it left; else that of the first who came.
    pub leg: Option<Arc<LegInfo>>,
    /// The leg of the first who came, as it came.
    pub first: Option<Arc<LegInfo>>,
    /// What.
    pub kind: ConferenceEventKind,
}

/// What happened. Participants are told of as they were right after.
#[derive(Clone, PartialEq, Debug)]
pub enum ConferenceEventKind {
    /// It came to be: nobody is there yet.
    Opened,
    /// The first one is there.
    Entered,
    /// Somebody is being called for it.
    Expected(ParticipantInfo),
    /// Somebody takes part.
    Joined(ParticipantInfo),
    /// Somebody takes part no more, or could not be reached.
    Left {
        /// Who.
        participant: ParticipantInfo,
        /// Why.
        why: WhyLeft,
        /// How the call itself is.
        call: Status,
    },
    /// They hear each other from now on.
    Started,
    /// It is over, all have left.
    Ended,
    /// Somebody was muted, or is no longer.
    Muted(ParticipantInfo),
    /// Somebody was held, or is no longer.
    Held(ParticipantInfo),
    /// Somebody takes part otherwise.
    Modified(ParticipantInfo),
    /// Somebody began to speak, or stopped.
    Speaks {
        /// Who.
        participant: ParticipantInfo,
        /// Began.
        speaks: bool,
    },
    /// Somebody is clearly the loudest from now on.
    Leads(ParticipantInfo),
    /// Audio that a request has everybody hear, or one of them, begins or is over.
    Played(RoomAudio),
    /// An announcement is over.
    Announced {
        /// What was asked to announce it.
        url: Arc<str>,
        /// For this one alone.
        to: Option<ParticipantInfo>,
        /// Why it failed, if it did.
        failure: Option<String>,
    },
    /// A recording began, was held, ended: its status says which.
    Recording(Recording),
    /// A stream of what all hear began or ended: its status says which.
    Stream(StreamFacts),
}

impl ConferenceEventKind {
    /// Whom it is about, if somebody who is there.
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

/// Audio in a conference.
#[derive(Clone, PartialEq, Debug)]
pub struct RoomAudio {
    /// What is heard.
    pub source: AudioSource,
    /// By this one alone.
    pub to: Option<LegId>,
    /// It is over.
    pub over: bool,
}

/// Why somebody takes part no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhyLeft {
    /// The conference was ended by request.
    ConferenceEnded,
    /// Somebody left whose leaving ends it.
    HostLeft,
    /// A request put it out, or sent it elsewhere, or ended its call.
    Request,
    /// It left by itself.
    Itself,
    /// It could not be reached.
    NotReached,
}
