//! The public facts about a leg: the connection of one far end to this server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::engine::EngineFailure;
use crate::fetch::FetchFailure;
use crate::header_fields::HeaderFields;
use crate::internal_call::InternalCall;
use crate::machine_detection::AnsweredBy;
use crate::output::Invite;
use crate::stream::StreamFailure;
use crate::{Callback, Target};
use tandem_id::{AccountName, CallId, LegId};

/// Facts about a leg at one moment. The call passes an `Arc` of the facts with every event, so an event does not copy
/// the facts. Unknown facts are not serialised, because every leg is stored and most facts are unknown for most legs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LegInfo {
    /// Id of the leg (the provider's call id).
    pub id: LegId,
    /// The call in which the leg was created. This field stays the same when the call is merged into another call.
    pub session: CallId,
    /// The leg whose dial created this leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<LegId>,
    /// Name of the account that the leg belongs to.
    pub account: AccountName,
    /// Name of the dialect of the leg's webhooks.
    pub dialect: Arc<str>,
    /// Id of the application that the leg belongs to (Telnyx: connection id).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<Arc<str>>,
    /// The direction of the leg: inbound or outbound. For an outbound leg, the value also gives the purpose of the
    /// call.
    pub direction: Direction,
    /// Address of the calling party.
    pub from: Address,
    /// Address of the called party.
    pub to: Address,
    /// Display name of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_name: Option<String>,
    /// The address that forwarded the call to this server, if the network reported the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_from: Option<String>,
    /// Progress of the leg.
    pub status: Status,
    /// Time at which the leg was created.
    pub created_at: Timestamp,
    /// Time of the answer; `None` before the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// Result of answering-machine detection, if there is a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<AnsweredBy>,
    /// Time and cause of the leg's end; `None` while the leg lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<LegEnd>,
    /// Opaque state that the application stored with the leg, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_state: Option<String>,
    /// The callback that receives the leg's status events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_callback: Option<Callback>,
    /// The document that is requested when another document fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Target>,
    /// Facts from SIP signalling and from RTP.
    pub sip: SipFacts,
    /// Data of the internal call, if the leg is part of an internal call. The leg then either calls an application of
    /// this server or is the called leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handover: Option<Box<InternalCall>>,
}

/// The account, the dialect and the application to which a leg belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LegOwner {
    /// Name of the account.
    pub account: AccountName,
    /// Name of the dialect of the leg's webhooks.
    pub dialect: Arc<str>,
    /// Id of the application (Telnyx: connection id), if the leg belongs to one.
    pub application: Option<Arc<str>>,
}

impl LegOwner {
    /// Creates the owner of a leg that belongs to no application.
    pub fn new(account: AccountName, dialect: impl Into<Arc<str>>) -> Self {
        Self { account, dialect: dialect.into(), application: None }
    }
}

impl LegInfo {
    /// Returns the facts of a new inbound leg. Its status is `Initiated`, because its INVITE has arrived.
    pub fn inbound(id: LegId, call: CallId, owner: LegOwner, from: Address, to: Address, at: Timestamp) -> Self {
        let LegOwner { account, dialect, application } = owner;
        Self {
            id,
            session: call,
            parent: None,
            account,
            dialect,
            application,
            direction: Direction::Inbound,
            from,
            to,
            caller_name: None,
            forwarded_from: None,
            status: Status::Initiated,
            created_at: at,
            answered_at: None,
            answered_by: None,
            end: None,
            client_state: None,
            status_callback: None,
            fallback: None,
            sip: SipFacts::default(),
            handover: None,
        }
    }

    /// Returns the facts of a new leg that an application requested. Its status is `Queued`.
    pub fn outbound(id: LegId, call: CallId, owner: LegOwner, invite: &Invite, at: Timestamp) -> Self {
        Self {
            direction: Direction::OutboundApi,
            status: Status::Queued,
            caller_name: invite.caller_name.clone(),
            ..Self::inbound(id, call, owner, invite.from.clone(), invite.to.clone(), at)
        }
    }

    /// Returns the owner of the leg.
    pub fn owner(&self) -> LegOwner {
        LegOwner {
            account: self.account.clone(),
            dialect: Arc::clone(&self.dialect),
            application: self.application.clone(),
        }
    }

    /// Returns the time from the answer to the end of the leg. While the leg lives, returns the time from the answer to
    /// `now`. Returns zero if the leg was never answered.
    pub fn duration(&self, now: Timestamp) -> Duration {
        let end = self.end.as_ref().map_or(now, |end| end.at);
        self.answered_at.map_or(Duration::ZERO, |from| Duration::try_from(end.duration_since(from)).unwrap_or_default())
    }

    /// Returns the facts of a new leg that this leg dials. The new leg has the same account, dialect and application;
    /// all other facts are not known yet.
    pub fn child(&self, id: LegId, at: Timestamp, invite: &Invite) -> Self {
        Self {
            parent: Some(self.id),
            direction: Direction::OutboundDial,
            ..Self::outbound(id, self.session, self.owner(), invite, at)
        }
    }

    /// Returns the number of internal calls in the chain up to this leg, 0 to 8. Internal calls are calls between
    /// applications and numbers of this server.
    pub fn depth(&self) -> u8 {
        self.handover.as_ref().map_or(0, |handover| handover.depth)
    }

    /// Returns the URI of this server's side of the leg. For an inbound leg, this is the called address. For an
    /// outbound leg, it is the calling address. An address that is not a SIP URI becomes a `tel:` URI.
    pub fn local_uri(&self) -> String {
        let ours = if self.direction == Direction::Inbound { &self.to } else { &self.from };
        match ours {
            Address::Sip(uri) => uri.to_string(),
            other => format!("tel:{}", other.user()),
        }
    }

    /// Returns the status code of the final SIP response to the INVITE. The code is 200 if the leg was answered.
    /// Otherwise it is the code of the response that ended the leg.
    pub fn final_response(&self) -> Option<u16> {
        if self.answered_at.is_some() { Some(200) } else { self.end.as_ref().and_then(|end| end.sip_status) }
    }
}

/// Direction of a leg. For an outbound leg, the direction also says why the server called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Direction {
    /// The far end called this server.
    Inbound,
    /// This server called because an application requested the call.
    OutboundApi,
    /// This server called in order to bridge the leg with another leg.
    OutboundDial,
}

/// Selects one or both legs of a bridge, from the view of one of these legs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum TargetLegs {
    /// The leg itself.
    #[default]
    Own,
    /// The leg that this leg is bridged with.
    Bridged,
    /// Both legs.
    Both,
}

/// Progress of a leg.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Status {
    /// The API accepted the call, and no INVITE has been sent yet.
    Queued,
    /// The INVITE was sent (outbound leg). Or the INVITE was received, and no provisional response has been sent yet
    /// (inbound leg).
    Initiated,
    /// A provisional response 180 or 183 was received or sent.
    Ringing,
    /// The leg was answered and has not ended.
    InProgress,
    /// The leg was answered and has ended.
    Completed,
    /// The far end was busy (486 or 600).
    Busy,
    /// The far end refused for another reason, or could not be reached.
    Failed,
    /// The far end did not answer in time, or responded with 480 or 408.
    NoAnswer,
    /// This server or the caller cancelled the call before an answer.
    Canceled,
}

impl Status {
    /// Returns whether the leg has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled)
    }
}

/// Time and cause of a leg's end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LegEnd {
    /// Time of the end.
    pub at: Timestamp,
    /// Cause of the end.
    pub cause: EndCause,
    /// The side that ended the leg.
    pub by: EndedBy,
    /// Status code of the final SIP response, if a response ended the leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_status: Option<u16>,
    /// Details in words if the other fields are not sufficient, for example a text that the far end or the network
    /// sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The failure of the application or of an engine that led to the end, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<EndFailure>>,
}

/// A failure of the application, or of an engine, that ends a leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EndFailure {
    /// No document could be fetched, and the caller heard an apology.
    Document(FetchFailure),
    /// A stream failed. The document waited for this stream and had no further instruction.
    Stream(StreamFailure),
    /// A conversation failed. The document waited for this conversation and had no further instruction.
    Conversation(StreamFailure),
    /// An engine of an agent failed, and the agent ended the call.
    Engine(EngineFailure),
}

/// Detail text for the end of a leg whose document had no further instruction.
pub const DOCUMENT_ENDED: &str = "the document ended";
/// Detail text for the end of a leg that an instruction of its document hung up.
pub const BY_INSTRUCTION: &str = "hung up (an instruction of the document)";
/// Detail text for the end of a leg that a request of its application hung up.
pub const BY_REQUEST: &str = "hung up (a request of the application)";
/// Detail text for the end of a leg that its voice agent hung up.
pub const BY_AGENT: &str = "hung up (the voice agent)";

/// Detail text for a leg that was hung up because the call that it had dialled ended.
pub const BRIDGE_ENDED: &str = "hung up (the dialled call had ended)";

/// Detail text for the end of a leg that ended because the server shut down.
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

/// Cause of a leg's end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum EndCause {
    /// The leg was answered and then hung up.
    NormalClearing,
    /// The caller cancelled the call before an answer.
    OriginatorCancel,
    /// The call was refused.
    Rejected,
    /// The called party was busy.
    Busy,
    /// The called party did not answer within the time limit.
    Timeout,
    /// The far end reported that the called party does not answer (480, 408).
    NoAnswer,
    /// The number or user does not exist (404, 410, 484, 604).
    NotFound,
    /// The maximum duration of the leg was reached.
    TimeLimit,
    /// The far end could not be reached, or this server failed (no route, no port, a restart).
    Failed,
    /// Any other cause.
    Unspecified,
}

impl EndCause {
    /// All causes, in the order in which they are declared.
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

/// The side that ended a leg.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum EndedBy {
    /// The far end of the leg.
    #[serde(rename = "Peer")]
    FarEnd,
    /// The application, by a request or by its program.
    Application,
    /// The other leg of the bridge. That leg ended first.
    OtherLeg,
    /// This server.
    Server,
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FarEnd => "the far end",
            Self::Application => "the application",
            Self::OtherLeg => "the other leg",
            Self::Server => "this server",
        })
    }
}

/// Facts about a leg from SIP and RTP. A field whose value is not known is empty.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SipFacts {
    /// Value of the Call-ID header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Arc<str>>,
    /// The dialog of the leg, as a text from the SIP side. The field is set while the dialog exists. If this process is
    /// killed, the next process uses this text to end the dialog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialog: Option<Arc<str>>,
    /// Source address of the INVITE, without port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<std::net::IpAddr>,
    /// Name of the trunk that the leg uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Arc<str>>,
    /// Id of the account's SIP domain that the caller called (32 hex digits). Set only if the settings of this domain
    /// decide about the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Arc<str>>,
    /// Id of a number of the account (32 hex digits). This number is the called or the calling number of the leg.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<Arc<str>>,
    /// Received SIP headers, for example `X-*` and `User-to-User`. Headers for routing are left out.
    #[serde(default, skip_serializing_if = "HeaderFields::is_empty")]
    pub headers: HeaderFields,
    /// Verification result for the calling number, if the INVITE had an Identity header and the header was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Box<CallerIdentity>>,
    /// Negotiated audio codec, for example `PCMU` or `opus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Codecs that the far end offered.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub offered_codecs: Arc<[String]>,
    /// Audio quality; set when the leg has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

/// Verification result for the Identity header of a call (RFC 8224) with a SHAKEN PASSporT (RFC 8588).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallerIdentity {
    /// Whether the signature is valid. The stored field is named `standing`.
    #[serde(rename = "standing")]
    pub verstat: Verstat,
    /// The attestation that the PASSporT claims. The field is set even if the signature is not valid.
    pub attestation: Option<Attestation>,
    /// The PASSporT in compact form.
    pub token: Option<String>,
    /// The reason, in words, why the signature was not accepted.
    pub detail: Option<String>,
}

/// Verification status of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verstat {
    /// The signature is valid and the PASSporT is about this call.
    Passed,
    /// The signature is invalid, or the PASSporT is about another call.
    Failed,
    /// The signature was not verified, because the certificate was not available or because the PASSporT is of another
    /// kind.
    Unknown,
}

/// The SHAKEN attestation level: how well the signer knows the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Attestation {
    /// Full: the caller is a customer of the signer and may use the calling number.
    A,
    /// Partial: the caller is a customer of the signer.
    B,
    /// Gateway: the call came from a gateway, and the signer does not know the caller.
    C,
}

impl Attestation {
    /// Returns the letter in the `attest` claim of the PASSporT.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
        }
    }
}

/// The quality of the audio that a leg received in one interval: about 5 s, in a leg of more than 5 minutes longer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct QualityPoint {
    /// The end of the interval.
    pub at: Timestamp,
    /// Number of packets that arrived in the interval.
    pub packets: u32,
    /// Number of packets that should have arrived in the interval and did not.
    pub lost: u32,
    /// Interarrival jitter in ms (RFC 3550 §6.4.1), the highest in the interval.
    pub jitter_ms: f32,
    /// Mean opinion score of the received audio, 1.0 to 4.5, the lowest in the interval. `None` if no packet arrived.
    pub mos: Option<f32>,
}

/// RTP statistics of a leg from its start to its end, or to the time of the measurement for a live leg.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quality {
    /// Number of received packets.
    pub packets_in: u64,
    /// Number of sent packets.
    pub packets_out: u64,
    /// Number of packets that never arrived (RFC 3550 §A.3).
    pub lost: u64,
    /// Number of packets that arrived too late for the parts of this server that use the audio. These parts are
    /// recordings, streams and conference rooms.
    pub late: u64,
    /// Burst ratio of the packet losses (ITU-T G.107): the mean length of a loss burst, divided by the mean length for
    /// random losses. At least 1.
    pub burst_ratio: f32,
    /// Interarrival jitter in ms (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
    /// Round-trip time in ms, if the far end sends RTCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f32>,
    /// Mean opinion score of the received audio, 1.0 to 4.5 (E-model, ITU-T G.107).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mos: Option<f32>,
    /// Number of packets from this server that the far end did not receive. The number is from the last RTCP report of
    /// the far end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_by_peer: Option<u64>,
    /// Interarrival jitter at the far end in ms. The value is from the last RTCP report of the far end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_by_peer_ms: Option<f32>,
    /// Mean opinion score of the audio at the far end, 1.0 to 4.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mos_by_peer: Option<f32>,
}
