//! A dialog as data: all that a leg knows, in a form that can be stored. Another process reads the form back and
//! continues the dialog.
//!
//! The text is JSON with a version. Version 1 has only the dialog as it was at the answer, and no field `v`. A row of
//! version 1 is read as a confirmed dialog without timers and without open requests.
//!
//! Times are wall-clock times ([`Deadline`](tandem_id::Deadline)). Passwords are not part of the form: the trunk or the
//! application gives them again.

use crate::flow::{Flow, Transport};
use crate::header::{ByeHeaders, Header};
use crate::negotiated_timer::NegotiatedTimer;
use crate::prack::Prack;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tandem_id::LegId;

/// The version of the text that this server writes.
const VERSION: u32 = 2;

/// A dialog in a form that can be stored (`Display`) and read back (`FromStr`).
///
/// [`Event::Answered`](crate::Event::Answered) and [`Incoming::dialog`](crate::Incoming::dialog) have the dialog alone:
/// it is enough for the BYE of [`Command::End`](crate::Command::End).
/// [`Endpoint::dialog_state`](crate::Endpoint::dialog_state) has the whole leg, with which
/// [`Endpoint::resume`](crate::Endpoint::resume) continues the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialogState {
    #[serde(rename = "v", default = "first_version")]
    version: u32,
    #[serde(flatten)]
    pub(crate) dialog: StoredDialog,
    /// The rest of the leg. `None` if only the dialog was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leg: Option<Box<StoredLeg>>,
}

/// The reason why a text is not the state of a dialog.
#[derive(Debug, thiserror::Error)]
pub enum DialogStateError {
    /// The text is not the JSON of a dialog.
    #[error("the state of a dialog cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A later version of this server has written the text.
    #[error("the state of a dialog has version {0}, but this server knows the versions 1 to {VERSION}")]
    UnknownVersion(u32),
}

/// The reason why a dialog cannot be continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// The endpoint has a leg with this id, or with the local tag of the dialog.
    #[error("the leg is live")]
    Live,
    /// A part of the state has no meaning.
    #[error("the {0} in the state of the dialog is malformed")]
    Malformed(&'static str),
    /// No local socket has the transport and address family of the far end.
    #[error("no local socket reaches the far end of the dialog")]
    NoSocket,
    /// The limit on legs or transactions is reached.
    #[error("there are too many legs or transactions")]
    Overload,
}

impl fmt::Display for DialogState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for DialogState {
    type Err = DialogStateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        /// Only the version, because another version may have other fields.
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(rename = "v", default = "first_version")]
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(text)?;
        if !(1..=VERSION).contains(&version) {
            return Err(DialogStateError::UnknownVersion(version));
        }
        Ok(serde_json::from_str(text)?)
    }
}

fn first_version() -> u32 {
    1
}

impl DialogState {
    pub(crate) fn new(dialog: StoredDialog, leg: Option<Box<StoredLeg>>) -> Self {
        Self { version: VERSION, dialog, leg }
    }

    /// Returns the transport and the address of the far end.
    pub(crate) fn address(&self) -> (Transport, SocketAddr) {
        (self.dialog.flow.transport, self.dialog.flow.peer)
    }
}

/// Octets that are text as a rule. They are written as a text, or in Base64 if they are not UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Octets(pub(crate) Bytes);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OctetsForm {
    Text(String),
    Base64 { base64: String },
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => OctetsForm::Base64 { base64: STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match OctetsForm::deserialize(deserializer)? {
            OctetsForm::Text(text) => Bytes::from(text),
            OctetsForm::Base64 { base64 } => STANDARD.decode(base64).map_err(D::Error::custom)?.into(),
        }))
    }
}

impl From<&Bytes> for Octets {
    fn from(octets: &Bytes) -> Self {
        // A slice of a received message would keep the whole message in memory.
        Self(Bytes::copy_from_slice(octets))
    }
}

/// The path to a far end. A connection belongs to one process, so it is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredFlow {
    pub(crate) transport: Transport,
    pub(crate) peer: SocketAddr,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) pinned: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secure: bool,
    /// The bound address of the local socket. `None` in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<SocketAddr>,
}

impl StoredFlow {
    /// Writes a flow. `socket` is the bound address of its local socket.
    pub(crate) fn of(flow: Flow, socket: Option<SocketAddr>) -> Self {
        let Flow { transport, peer, local: _, connection: _, identity: _, pinned, secure } = flow;
        Self { transport, peer, pinned, secure, socket }
    }

    /// Returns the flow from the local socket with the index `local`.
    pub(crate) fn at(&self, local: usize) -> Flow {
        let Self { transport, peer, pinned, secure, socket: _ } = *self;
        Flow { transport, peer, local, connection: None, identity: None, pinned, secure }
    }
}

/// A dialog (RFC 3261 §12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDialog {
    pub(crate) call_id: Octets,
    pub(crate) local: Octets,
    pub(crate) remote: Octets,
    pub(crate) target: Octets,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Octets>,
    pub(crate) cseq: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remote_cseq: Option<u32>,
    #[serde(flatten)]
    pub(crate) flow: StoredFlow,
}

/// The rest of a leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLeg {
    pub(crate) incoming: bool,
    pub(crate) phase: StoredPhase,
    /// Whether the end of the leg was reported.
    pub(crate) reported: bool,
    pub(crate) trunk: Option<String>,
    /// The networks to which the credentials of the leg may be sent. `None` without credentials.
    pub(crate) trusted_networks: Option<Vec<IpNet>>,
    pub(crate) hops: u8,
    /// The leg of which this leg is an unanswered branch. Earlier servers have not written this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch_of: Option<LegId>,
    pub(crate) may_refer: bool,
    pub(crate) records: bool,
    pub(crate) allows_update: bool,
    pub(crate) is_own_request: bool,
    pub(crate) offer: StoredOfferState,
    pub(crate) waiting_offer: Option<(StoredOffer, Timestamp)>,
    pub(crate) awaiting_ack: Option<StoredOk>,
    pub(crate) negotiated_timer: Option<NegotiatedTimer>,
    pub(crate) timer: Option<StoredTimer>,
    pub(crate) reliable: Option<StoredReliable>,
    pub(crate) subscription: Option<StoredSubscription>,
    pub(crate) referral: Option<StoredReferral>,
    /// The requests of this server that have no final response, and the INVITEs whose 2xx may be retransmitted.
    pub(crate) requests: Vec<StoredRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredPhase {
    Calling(Box<StoredCalling>),
    Ringing { server: Box<StoredServer>, repeat: Option<Timestamp>, expires: Option<Timestamp> },
    Established,
    Ending(StoredEnd),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredCalling {
    pub(crate) headers: Vec<Header>,
    pub(crate) prack: Option<Prack>,
    pub(crate) replaces: Option<String>,
    pub(crate) has_alternatives: bool,
    pub(crate) sdp: Octets,
    pub(crate) second_offer: Octets,
    pub(crate) recording: Option<Octets>,
    pub(crate) provisional: bool,
    pub(crate) hangup: Option<StoredHangup>,
    pub(crate) asked_at: Timestamp,
    pub(crate) early: Vec<StoredEarly>,
    pub(crate) last_offer_from: Octets,
    pub(crate) min_se: u32,
}

/// A hang-up before the final response. `give_up` is `None` until the CANCEL is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredHangup {
    pub(crate) headers: ByeHeaders,
    pub(crate) give_up: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredEarly {
    pub(crate) dialog: StoredDialog,
    pub(crate) last: u32,
    pub(crate) settled: bool,
    pub(crate) answer: Option<Octets>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredEnd {
    pub(crate) cause: StoredCause,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) headers: Vec<Header>,
}

/// The causes with which this server sends a BYE. Failures of a transport become `Timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredCause {
    LocalHangup,
    Rejected,
    AckTimeout,
    FlowLost,
    SessionExpired,
    Timeout,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredOfferState {
    Idle,
    FirstReceived,
    FirstOwed,
    Received(Vec<StoredCarrier>),
    Sent(StoredOffer),
    SentInOk,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredOffer {
    pub(crate) sdp: Octets,
    pub(crate) metadata: Option<Octets>,
    pub(crate) deferrals: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredCarrier {
    Response(Box<StoredServer>),
    Prack { tag: Octets, lines: String },
    Ack { tag: Octets, cseq: u32, authorization: String },
    None { tag: Octets },
}

/// The 200 to an INVITE whose ACK is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredOk {
    pub(crate) cseq: u32,
    pub(crate) initial: bool,
    pub(crate) response: Octets,
    pub(crate) flow: StoredFlow,
    pub(crate) interval_ms: u64,
    pub(crate) retransmit: Timestamp,
    pub(crate) deadline: Timestamp,
    pub(crate) bye: Option<(ByeHeaders, StoredEnd)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredTimer {
    pub(crate) interval: u32,
    pub(crate) we_refresh: bool,
    pub(crate) refresh_at: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredReliable {
    pub(crate) last: u32,
    pub(crate) cseq: u32,
    pub(crate) unacknowledged: Option<StoredProvisional>,
    pub(crate) waiting: Vec<(u16, Option<Octets>, Vec<Header>)>,
    pub(crate) answer: Option<(Octets, Vec<Header>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredProvisional {
    pub(crate) response: Octets,
    pub(crate) flow: StoredFlow,
    pub(crate) status: u16,
    pub(crate) has_sdp: bool,
    pub(crate) interval_ms: u64,
    pub(crate) retransmit: Timestamp,
    pub(crate) deadline: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSubscription {
    pub(crate) server: Option<Box<StoredServer>>,
    pub(crate) id: u32,
    pub(crate) quiet: bool,
    pub(crate) out: bool,
    pub(crate) next: Option<u16>,
    pub(crate) last: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredReferral {
    pub(crate) accepted: bool,
    pub(crate) last: u16,
    pub(crate) deadline: Timestamp,
}

/// A request of the far end that has no final response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredServer {
    pub(crate) method: String,
    /// Whether the request is the INVITE that creates the dialog.
    pub(crate) initial: bool,
    pub(crate) flow: StoredFlow,
    /// The header lines that each response repeats: Via, From, Call-ID and CSeq.
    pub(crate) lines: Octets,
    pub(crate) to: Octets,
    pub(crate) tagged: bool,
    pub(crate) destination: SocketAddr,
    pub(crate) reconnect: SocketAddr,
    pub(crate) record_routes: Vec<Octets>,
    pub(crate) has_offer: bool,
    pub(crate) refer: bool,
    /// The last provisional response and its status.
    pub(crate) response: Option<(u16, Octets)>,
}

/// A request of this server. The branch has 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRequest {
    pub(crate) method: String,
    pub(crate) branch: String,
    pub(crate) purpose: StoredPurpose,
    pub(crate) flow: StoredFlow,
    pub(crate) progress: StoredProgress,
    /// The parts of a CANCEL or of an ACK, if the request is an INVITE.
    pub(crate) acknowledge: Option<StoredAcknowledge>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredPurpose {
    Invite,
    Reinvite,
    Cancel,
    Bye,
    Info,
    Prack,
    Update,
    Refresh,
    Refer,
    Notify,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredProgress {
    /// The request has no final response. A far end that gets the same request again sends its last response again, so
    /// the request is continued by sending it again.
    Open { request: Octets, again: Option<StoredAgain> },
    /// The INVITE has a 2xx. Each entry has the To tag of a 2xx, its ACK and the path of the ACK.
    Answered { until: Timestamp, plain: bool, acks: Vec<(Octets, Octets, StoredFlow)> },
    /// The INVITE has a 2xx, and its ACK is composed again from a retransmitted 2xx. `until` is not known exactly.
    Completed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredAgain {
    pub(crate) lines: String,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Option<(String, Octets)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredAcknowledge {
    pub(crate) uri: Octets,
    pub(crate) routes: Vec<Octets>,
    pub(crate) from: Octets,
    pub(crate) call_id: Octets,
    pub(crate) cseq: u32,
    pub(crate) authorization: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row that version 1 wrote.
    const FIRST: &str = r#"{"call_id":"c@h","local":"<sip:a@h>;tag=00000000000000aa","remote":"<sip:b@i>;tag=z","target":"sip:b@i:5070",
        "routes":["<sip:p;lr>"],"cseq":7,"transport":"udp","peer":"192.0.2.1:5060","pinned":true}"#;

    #[test]
    fn a_row_of_version_1_is_read_as_a_dialog_without_further_state() {
        let state: DialogState = FIRST.parse().unwrap();
        assert_eq!((state.version, state.leg.is_none(), state.dialog.remote_cseq), (1, true, None));
        assert_eq!(state.address(), (Transport::Udp, "192.0.2.1:5060".parse().unwrap()));
        assert_eq!((state.dialog.cseq, state.dialog.flow.pinned, state.dialog.routes.len()), (7, true, 1));
        assert_eq!(state.to_string().parse::<DialogState>().unwrap(), state);
    }

    #[test]
    fn octets_that_are_no_text_are_read_back_unchanged() {
        let mut state: DialogState = FIRST.parse().unwrap();
        state.dialog.call_id = Octets(Bytes::from_static(b"\xff\0x"));
        assert_eq!(state.to_string().parse::<DialogState>().unwrap(), state);
    }

    #[test]
    fn a_later_version_and_a_malformed_text_are_different_errors() {
        let later = FIRST.replacen('{', "{\"v\":3,", 1);
        assert!(matches!(later.parse::<DialogState>(), Err(DialogStateError::UnknownVersion(3))));
        let other_fields = r#"{"v":9,"everything":"new"}"#;
        assert!(matches!(other_fields.parse::<DialogState>(), Err(DialogStateError::UnknownVersion(9))));
        for text in ["", "{}", "[]", &FIRST.replace("udp", "sctp"), &FIRST.replace("\"cseq\":7", "\"cseq\":-7")] {
            assert!(matches!(text.parse::<DialogState>(), Err(DialogStateError::Malformed(_))), "{text}");
        }
    }
}
