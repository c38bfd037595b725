//! One party's side of a call, as everyone outside may see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::fetch::FetchFailure;
use crate::handover::Handover;
use crate::id::{CallId, LegId};
use crate::machine::AnsweredBy;
use crate::output::Invite;
use crate::stream::StreamFailure;
use crate::{Callback, Target};

/// Facts about a leg at one moment. Cheap to share: the call hands out `Arc`s of it with every event. What is not known is not
/// written either: most of it is unknown of most legs, and every leg is written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LegInfo {
    /// Its id (the provider's call id).
    pub id: LegId,
    /// The session it was born in.
    pub session: CallId,
    /// The leg whose dial made this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<LegId>,
    /// Name of the account it belongs to.
    pub account: Arc<str>,
    /// Name of the dialect that speaks for it.
    pub dialect: Arc<str>,
    /// The application it belongs to (Telnyx: connection id).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<Arc<str>>,
    /// Who called whom.
    pub direction: Direction,
    /// The calling party.
    pub from: Address,
    /// The called party.
    pub to: Address,
    /// Display name of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_name: Option<String>,
    /// Who forwarded the call here, if the network said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_from: Option<String>,
    /// How far it is.
    pub status: Status,
    /// When it came to be.
    pub created_at: Timestamp,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// Who answered it, once that was found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<AnsweredBy>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<LegEnd>,
    /// The application's own word, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_state: Option<String>,
    /// What is told of its progress, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_callback: Option<Callback>,
    /// Asked for a document when the one in hand fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Target>,
    /// What SIP knew of it.
    pub sip: SipFacts,
    /// It calls an application of this server, or it is the called end of a call from within.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handover: Option<Box<Handover>>,
}

impl LegInfo {
    /// Whole time from answer to end (or to `now` while it lives); zero if never answered.
    pub fn duration(&self, now: Timestamp) -> Duration {
        let end = self.end.as_ref().map_or(now, |end| end.at);
        self.answered_at.map_or(Duration::ZERO, |from| Duration::try_from(end.duration_since(from)).unwrap_or_default())
    }

    /// One that is called for this one: it belongs to whom this one does, and nothing is known of it yet.
    pub fn child(&self, id: LegId, at: Timestamp, invite: &Invite) -> Self {
        Self {
            id,
            parent: Some(self.id),
            direction: Direction::OutboundDial,
            from: invite.from.clone(),
            to: invite.to.clone(),
            caller_name: invite.caller_name.clone(),
            forwarded_from: None,
            status: Status::Queued,
            created_at: at,
            answered_at: None,
            answered_by: None,
            end: None,
            client_state: None,
            status_callback: None,
            fallback: None,
            sip: SipFacts::default(),
            handover: None,
            ..self.clone()
        }
    }

    /// How many applications and numbers of this server have called one another up to here.
    pub fn depth(&self) -> u8 {
        self.handover.as_ref().map_or(0, |handover| handover.depth)
    }

    /// The URI of our side of it, as far as its addresses tell.
    pub fn local_uri(&self) -> String {
        let ours = if self.direction == Direction::Inbound { &self.to } else { &self.from };
        match ours {
            Address::Sip(uri) => uri.to_string(),
            other => format!("tel:{}", other.user()),
        }
    }

    /// The final SIP response to the INVITE: the 200 that answered it, or the one that ended it.
    pub fn final_response(&self) -> Option<u16> {
        if self.answered_at.is_some() { Some(200) } else { self.end.as_ref().and_then(|end| end.sip_status) }
    }
}

/// Who called whom.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Direction {
    /// Somebody called us.
    Inbound,
    /// We called because an application asked by request.
    OutboundApi,
    /// We called to join another leg.
    OutboundDial,
}

/// For whom of two joined legs something is, seen from one of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Hearers {
    /// The leg itself.
    #[default]
    Own,
    /// The one it is joined to.
    Peer,
    /// Both.
    Both,
}

/// How far a leg is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Status {
    /// Accepted by the API, nothing sent yet.
    Queued,
    /// INVITE sent, or received and not yet answered in any way.
    Initiated,
    /// 180 or 183 passed.
    Ringing,
    /// Answered.
    InProgress,
    /// Answered and over.
    Completed,
    /// 486 or 600.
    Busy,
    /// Another refusal, or it could not be reached.
    Failed,
    /// Nobody answered in time, 480 or 408.
    NoAnswer,
    /// Given up by our side, or by the caller, before an answer.
    Canceled,
}

impl Status {
    /// Whether the leg is over.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled)
    }
}

/// How a leg ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LegEnd {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: EndCause,
    /// Whose doing it was.
    pub by: EndedBy,
    /// The SIP response that ended it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_status: Option<u16>,
    /// In words, where the rest does not say it: what the peer or the network had to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What had failed on the application's side, where the leg ended because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<EndFailure>>,
}

/// A failure on the application's side that ends a leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EndFailure {
    /// No document could be had: the caller was apologised to.
    Document(FetchFailure),
    /// The stream failed that the document waited for, and the document had nothing after it.
    Stream(StreamFailure),
    /// The same of a conversation.
    Conversation(StreamFailure),
}

/// The detail of the end of a leg whose document had nothing more to do.
pub const DOCUMENT_ENDED: &str = "the document ended";
/// The detail of the end of a leg that its document hung up.
pub const BY_INSTRUCTION: &str = "hung up (an instruction of the document)";
/// The detail of the end of a leg that a request of its application hung up.
pub const BY_REQUEST: &str = "hung up (a request of the application)";

/// The detail of the end of a leg that was to end with the call that it dialled.
pub const BRIDGE_ENDED: &str = "hung up (the dialled call had ended)";

/// The detail of the end of a leg that the server's shutdown ended.
pub const SHUT_DOWN: &str = "ended by shutdown of the server";

impl fmt::Display for LegEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.detail, self.sip_status) {
            (Some(detail), _) => f.write_str(detail),
            (None, Some(status)) => write!(f, "{}, {status} ({})", self.cause, self.by),
            (None, None) => write!(f, "{} ({})", self.cause, self.by),
        }
    }
}

/// Why a leg ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum EndCause {
    /// An answered call was hung up.
    NormalClearing,
    /// The caller gave up before an answer.
    OriginatorCancel,
    /// Refused.
    Rejected,
    /// Busy.
    Busy,
    /// Nobody answered in the time given.
    Timeout,
    /// The far end said that nobody answers (480, 408).
    NoAnswer,
    /// No such number (404, 410, 484, 604).
    NotFound,
    /// Its time was up.
    TimeLimit,
    /// It could not be reached, or something of ours failed (no route, no port, a restart).
    Failed,
    /// Anything else.
    Unspecified,
}

impl EndCause {
    /// Every cause, in the order of its declaration.
    pub const ALL: [Self; 10] = [
        Self::NormalClearing,
        Self::OriginatorCancel,
        Self::Rejected,
        Self::Busy,
        Self::Timeout,
        Self::NoAnswer,
        Self::NotFound,
        Self::TimeLimit,
        Self::Failed,
        Self::Unspecified,
    ];
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NormalClearing => "hung up",
            Self::OriginatorCancel => "given up",
            Self::Rejected => "refused",
            Self::Busy => "busy",
            Self::Timeout => "nobody answered in the time given",
            Self::NoAnswer => "no answer",
            Self::NotFound => "no such number",
            Self::TimeLimit => "its time was up",
            Self::Failed => "failed",
            Self::Unspecified => "unspecified",
        })
    }
}

/// Whose doing an end was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum EndedBy {
    /// The leg's far end.
    Peer,
    /// The application or its program.
    Application,
    /// The leg it was joined to went first.
    OtherLeg,
    /// This server.
    Server,
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "the far end",
            Self::Application => "the application",
            Self::OtherLeg => "the other leg",
            Self::Server => "this server",
        })
    }
}

/// What SIP knew of a leg. Empty where unknown.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SipFacts {
    /// The Call-ID header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Arc<str>>,
    /// Its dialog while it lasts, as the SIP side wrote it down: with it a later process ends the dialog if this one is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialog: Option<Arc<str>>,
    /// Source address of the INVITE, without port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<std::net::IpAddr>,
    /// Name of the trunk it came over or went out on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Arc<str>>,
    /// Id of its account's SIP domain that was called, 32 hex digits, where the domain decides about its calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Arc<str>>,
    /// Id of its account's number that is called, or that it calls from, 32 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<Arc<str>>,
    /// Headers beyond the routing ones, as received (`X-*`, `User-to-User`, ...).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Who vouches for the calling number, if it came with an Identity header that was looked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Box<CallerIdentity>>,
    /// Codec of the audio once agreed (`PCMU`, `opus`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Codecs the far end offered.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub offered_codecs: Arc<[String]>,
    /// Audio quality, once it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

/// What came of a call's Identity header (RFC 8224), by its SHAKEN PASSporT (RFC 8588).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallerIdentity {
    /// Whether to believe it.
    pub standing: Standing,
    /// What it says of the caller, true or not.
    pub attestation: Option<Attestation>,
    /// The PASSporT.
    pub token: Option<String>,
    /// In words, why it is not to be believed.
    pub detail: Option<String>,
}

/// Whether a signature is to be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// It is good, and about this call.
    Passed,
    /// It is neither.
    Failed,
    /// That cannot be told: its certificate could not be had, or it is of another kind.
    Unknown,
}

/// How much the signer knows of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Attestation {
    /// A customer who may use the number.
    A,
    /// A customer.
    B,
    /// Somebody whose call came through a gateway.
    C,
}

impl Attestation {
    /// As it is written.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

/// RTP counters of a leg at its end.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quality {
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Packets that never came (RFC 3550 §A.3).
    pub lost: u64,
    /// Packets that came too late to be heard by who listened here: recordings, streams, rooms.
    pub late: u64,
    /// How much longer losses lasted than if they had fallen at random (ITU-T G.107): 1 and more.
    pub burst_ratio: f32,
    /// Interarrival jitter, ms (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
    /// Round trip, ms, when the peer sends RTCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f32>,
    /// Mean opinion score of what was received, 1.0 to 4.5 (E-model, ITU-T G.107).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mos: Option<f32>,
    /// Packets of ours that never came to the peer, by its last report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_by_peer: Option<u64>,
    /// Their jitter, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_by_peer_ms: Option<f32>,
    /// Their mean opinion score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mos_by_peer: Option<f32>,
}
