//! The application's interface to legs. The application sends [`Command`]s and receives [`Event`]s. This module
//! contains only data and no behaviour.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::dialog_state::DialogState;
use crate::digest::Credentials;
use crate::directory::Directory;
use crate::flow::Transport;
use crate::header::Header;
use crate::prack::Prack;
use crate::registrar::{Binding, BindingId, BindingRef, Change};
use crate::tls_fault::{TlsFault, TransportFault};
use crate::trunk::{TrunkSlice, TrunkTrouble};
use crate::trunk_acl::TrunkName;
use crate::waiting::PendingCallGuard;

/// The key of a leg. A leg is one INVITE session with its dialog (RFC 3261 §12). The application chooses the key of an
/// outgoing leg. The endpoint generates the key of an incoming leg, and never uses a key twice.
use tandem_id::AccountName;
pub use tandem_id::LegId;

/// A command of the application to the endpoint. A command is ignored if its leg has ended, or if it does not fit the
/// state of the leg. An ignored command is not an error, because on a busy system the far end often hangs up at the
/// same time.
#[derive(Debug, Clone)]
pub enum Command {
    /// Starts an outgoing leg. After the far end has started to ring, the endpoint waits for the answer without a time
    /// limit, because Timer C of RFC 3261 is only for proxies. The application can end the wait with
    /// [`Command::Hangup`].
    Invite {
        /// The key of the new leg, which the application chose.
        leg: LegId,
        /// The parameters of the call.
        invite: Box<Outgoing>,
    },
    /// Gives an answered leg another key. A call that rings at several devices has a leg for each device. The leg that
    /// was answered gets the key that the rest of the application knows. Events that the endpoint emitted before this
    /// command still have the old key. Ignored if `branch` has ended, or if a leg already has the key `leg`.
    Rename {
        /// The present key of the leg.
        branch: LegId,
        /// The new key.
        leg: LegId,
    },
    /// Sends a provisional response (101 to 199) to an unanswered incoming leg. If `sdp` is set, early media starts. If
    /// the INVITE had no offer, `sdp` is the server's offer. The endpoint sends such an offer only in a reliable
    /// provisional response.
    Provisional {
        /// Key of the leg.
        leg: LegId,
        /// The status, 101 to 199. Any other value is sent as 180.
        status: u16,
        /// The SDP answer for early media. If the INVITE had no offer, this is the offer.
        sdp: Option<Bytes>,
        /// Additional header fields of the response.
        headers: Vec<Header>,
    },
    /// Answers an incoming leg with 200. The endpoint retransmits the 200 until the ACK comes (RFC 3261 §13.3.1.4). If
    /// no ACK has come after 64*T1, the leg ends with [`EndCause::AckTimeout`].
    Answer {
        /// Key of the leg.
        leg: LegId,
        /// The answer. If the INVITE had no offer, this is the offer.
        sdp: Bytes,
        /// Additional header fields of the 200.
        headers: Vec<Header>,
    },
    /// Refuses an incoming leg that is not answered.
    Reject {
        /// Key of the leg.
        leg: LegId,
        /// The status, 300 to 699. Any other value is sent as 480.
        status: u16,
        /// The reason phrase. If `None`, the phrase of the RFC is used.
        reason: Option<String>,
        /// Additional header fields of the response, for example `Retry-After`, or the `Contact` of a 3xx.
        headers: Vec<Header>,
    },
    /// Ends the leg in any state. The endpoint sends CANCEL, a final response, or BYE, depending on the state. If the
    /// CANCEL crosses a 200, the endpoint then sends BYE.
    Hangup {
        /// Key of the leg.
        leg: LegId,
        /// The status of the final response. It is used only for an incoming leg that is not answered yet.
        status: u16,
        /// The value of a Reason header (RFC 3326), for example `Q.850;cause=16`.
        reason: Option<String>,
        /// Additional header fields of the BYE or of the final response.
        headers: Vec<Header>,
    },
    /// Accepts the offer in [`Event::Offered`].
    AnswerOffer {
        /// Key of the leg.
        leg: LegId,
        /// The answer. If the request had no offer, this is the offer.
        sdp: Bytes,
    },
    /// Refuses the offer in [`Event::Offered`]. The session continues without a change.
    RejectOffer {
        /// Key of the leg.
        leg: LegId,
        /// The status, 400 to 699; usually 488.
        status: u16,
        /// The reason phrase. If `None`, the phrase of the RFC is used.
        reason: Option<String>,
        /// Additional header fields of the response, for example `Warning`.
        headers: Vec<Header>,
    },
    /// Sends a re-INVITE with an offer. The result is [`Event::OfferAnswered`] or [`Event::OfferRejected`]. If two
    /// offers cross (glare, 491), the offer is sent again as RFC 3261 §14.1 describes. Only one offer may be open at a
    /// time. A second offer ends with [`Event::OfferRejected`] and status 491.
    Offer {
        /// Key of the leg.
        leg: LegId,
        /// The new offer.
        sdp: Bytes,
    },
    /// Sends a re-INVITE in a session with a recording server. This command is otherwise the same as
    /// [`Command::Offer`].
    OfferRecording {
        /// Key of the leg.
        leg: LegId,
        /// The new offer.
        sdp: Bytes,
        /// The new recording metadata (`application/rs-metadata+xml`).
        metadata: Bytes,
    },
    /// Sends an INFO with this body in the dialog. The response to the INFO is not reported.
    Info {
        /// Key of the leg.
        leg: LegId,
        /// The media type of the body, for example `application/dtmf-relay`.
        content_type: String,
        /// The body of the INFO.
        body: Bytes,
    },
    /// Asks the far end of an established leg to call another party (REFER, RFC 3515). [`Event::ReferAnswered`] reports
    /// the response, and [`Event::ReferProgress`] reports the progress. Only one REFER may be open at a time. For a
    /// second REFER, [`Event::ReferAnswered`] has the status 491.
    Refer {
        /// Key of the leg.
        leg: LegId,
        /// The URI that the far end shall call, and the URI of the party that requests the call.
        refer: Box<Refer>,
    },
    /// Answers a REFER that [`Event::Referred`] reported.
    AnswerRefer {
        /// Key of the leg.
        leg: LegId,
        /// The status: 202 to accept, 300 to 699 to refuse. A value outside 200 to 699 is sent as 603.
        status: u16,
    },
    /// Sends a NOTIFY with the progress of the call that the far end requested. A status of 200 or more ends the
    /// subscription.
    NotifyRefer {
        /// Key of the leg.
        leg: LegId,
        /// The status of the requested call, 100 to 699.
        status: u16,
    },
    /// Ends a dialog that belongs to an earlier process, which was killed. The endpoint sends one BYE along the route
    /// of the dialog. The outcome is not reported. If only the far end's own WebSocket connection leads to the far end,
    /// no BYE is sent.
    End(Box<DialogState>),
    /// Ends calls of an earlier process, which was killed before the INVITEs with these Call-IDs had a final response. If
    /// the far end answers such an INVITE within 5 minutes, the endpoint sends ACK and BYE.
    EndUnanswered(Vec<String>),
    /// Replaces the directory of the users that have a password. Existing registrations stay until they expire.
    Directory(Arc<Directory>),
    /// Sets whether the application takes new calls. If it does not, an OPTIONS outside a dialog gets 503 (RFC 3261 §11.2).
    /// At first it takes calls.
    TakeCalls(bool),
    /// Sets the slices of these trunks. From the first of these commands on, this server shares the limits of all trunks
    /// with other servers: a trunk that no such command has named has the slice 0, so its limits refuse every call.
    /// [`TrunkStatus::slice`](crate::TrunkStatus::slice) shows when the command has had its effect.
    TrunkSlices(Vec<(TrunkName, TrunkSlice)>),
    /// Replaces the SIP addresses of the other nodes of the cluster: every address that a node names in its Contacts
    /// ([`Handle::node_addresses`](crate::transport::Handle::node_addresses)), and every address from which it sends, with any
    /// port. Requests of these nodes to the phones that have registered here are forwarded, and requests of these phones to
    /// the nodes. At first the list is empty, and nothing is forwarded.
    Nodes(Vec<SocketAddr>),
    /// Adds or replaces a binding of another node, so that this server can call the phone through the node. The result is
    /// [`Change::Learned`]. If the binding was an own binding, it is a foreign one now. If the same user has another binding
    /// with this Contact, from an earlier REGISTER of the same Call-ID, that binding ends.
    ///
    /// The command has no effect if the phone has sent a later REGISTER with the same Call-ID, if the time of the binding is
    /// over, if the URI of the node cannot be used, or if the registrar is full.
    Learn {
        /// The binding as the other node has reported it. `expires_in` is the time that is left now.
        binding: Box<Binding>,
        /// The URI of the other node, for example `sip:10.0.0.1:5060;transport=udp`: the host is an IP address, the transport
        /// UDP or TCP. A binding with [`Binding::transport`] UDP needs UDP here, any other binding should have TCP. A proxy
        /// without state repeats no request, so a request over TCP is lost if it is lost on a UDP hop.
        node: String,
    },
    /// Removes a binding of another node, which has ended or whose node has. The result is [`Change::Forgotten`]. An own
    /// binding with this id stays.
    Forget(BindingId),
}

impl Command {
    /// Returns the leg of the command. Returns `None` if the command has no leg.
    #[must_use]
    pub fn leg(&self) -> Option<LegId> {
        match self {
            Self::Invite { leg, .. }
            | Self::Rename { branch: leg, .. }
            | Self::Provisional { leg, .. }
            | Self::Answer { leg, .. }
            | Self::Reject { leg, .. }
            | Self::Hangup { leg, .. }
            | Self::AnswerOffer { leg, .. }
            | Self::RejectOffer { leg, .. }
            | Self::Offer { leg, .. }
            | Self::OfferRecording { leg, .. }
            | Self::Info { leg, .. }
            | Self::Refer { leg, .. }
            | Self::AnswerRefer { leg, .. }
            | Self::NotifyRefer { leg, .. } => Some(*leg),
            Self::End(_)
            | Self::EndUnanswered(_)
            | Self::Directory(_)
            | Self::TakeCalls(_)
            | Self::TrunkSlices(_)
            | Self::Nodes(_)
            | Self::Learn { .. }
            | Self::Forget(_) => None,
        }
    }
}

/// A REFER that the server sends.
#[derive(Debug, Clone)]
pub struct Refer {
    /// The URI that the far end shall call. Header fields in the URI (`?Replaces=...`) are kept.
    pub refer_to: String,
    /// The URI of the party that requests the call (Referred-By, RFC 3892).
    pub referred_by: Option<String>,
    /// Additional header fields of the REFER.
    pub headers: Vec<Header>,
}

/// A REFER that the far end sent.
#[derive(Debug, Clone)]
pub struct Referred {
    /// The URI that the server shall call, without the header fields of the URI.
    pub uri: String,
    /// The header fields of the URI, decoded. They do not include Replaces.
    pub headers: Vec<Header>,
    /// The value of Replaces in the URI (RFC 3891), decoded. The new call replaces the dialog that this value names.
    pub replaces: Option<String>,
    /// The server's leg that has the dialog in `replaces`, if there is such a leg.
    pub replaced: Option<LegId>,
    /// The value of Referred-By (RFC 3892).
    pub referred_by: Option<String>,
    /// The user of the URI, if the host of the URI is a host of this server.
    pub own_user: Option<String>,
}

/// The account and user of a caller that is not a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account to which the caller belongs.
    pub account: AccountName,
    /// The user whose password the caller proved. `None` if the server recognised the caller by the networks of a
    /// domain.
    pub username: Option<Arc<str>>,
    /// The called domain, if it belongs to an account.
    pub domain: Option<Arc<str>>,
}

/// The parameters of an outgoing call.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The Request-URI, for example `sip:x@host`.
    pub request_uri: String,
    /// A SIP URI that determines the destination of the request by its host, port and `transport`. With `None`, the
    /// Request-URI determines the destination. The URI in this field does not become a Route header.
    pub next_hop: Option<String>,
    /// The registered contact that is called. With this field, the Request-URI is the Contact, the route set is the
    /// Path, and the request takes the path of the REGISTER; `request_uri` is the To URI, and `next_hop` is ignored. If
    /// the binding has ended, the leg ends with status 480.
    pub binding: Option<BindingRef>,
    /// The user part of the From URI.
    pub from_user: String,
    /// The display name in From.
    pub from_display: Option<String>,
    /// The host of the From URI. If `None`, the advertised host is used.
    pub from_host: Option<String>,
    /// The To URI. With `None`, the Request-URI is also the To URI.
    pub to: Option<String>,
    /// The leg of the application of which the new leg is a branch. The [`crate::Ladder`] has the messages of a branch
    /// under the key of this leg, also if the branch is never answered. `None` if the new leg is no branch.
    pub branch_of: Option<LegId>,
    /// The Call-ID, which must be unique (RFC 3261 §8.1.1.4). If `None`, the endpoint generates a Call-ID.
    pub call_id: Option<String>,
    /// Additional header fields of the INVITE. Fields that the endpoint writes itself (Via, Route, CSeq, ...) are
    /// skipped.
    pub headers: Vec<Header>,
    /// The trunk over which the call goes. A TLS connection uses the certificates and authorities of the trunk. The
    /// limits of the trunk may refuse the call with [`EndCause::TrunkFull`].
    pub trunk: Option<TrunkName>,
    /// Credentials for challenges (401 and 407).
    pub credentials: Option<Credentials>,
    /// The realm of `credentials`. If set, the first INVITE already has an Authorization header with the user name.
    /// Some servers accept a call without a password if this header is missing. With the header, such a server sends a
    /// challenge. Set this field only if the INVITE goes to a single host, because this host may see a hash of the
    /// password.
    pub realm: Option<String>,
    /// The incoming leg that led to this call. Max-Forwards of this call is one less than Max-Forwards of the incoming
    /// leg. If the call returns to the server on the same path, the server detects a loop.
    pub on_behalf_of: Option<LegId>,
    /// The value of a Replaces header (RFC 3891).
    pub replaces: Option<String>,
    /// Whether provisional responses are reliable. If `None`, [`crate::Config::prack`] is used.
    pub prack: Option<Prack>,
    /// Whether the application has other routes for the call. If so, the call fails when the destination does not
    /// respond within [`crate::Config::failover_ms`].
    pub has_alternatives: bool,
    /// The accounts that pay for the call. The call may go to registered phones and over the trunks of these accounts.
    /// [`crate::Config::allow_networks`] decides about other destinations. If the list is empty, the operator makes the
    /// call and may call any address.
    pub accounts: Vec<AccountName>,
    /// The offer. If empty, the far end sends the offer (RFC 3261 §13.2.1).
    pub sdp: Bytes,
    /// A second offer, which is sent if the far end refuses `sdp` with 488 or 606. Empty if there is no second offer.
    pub second_offer: Bytes,
    /// Metadata of the recorded session (`application/rs-metadata+xml`). If this field is set, the far end of this call
    /// is a recording server (RFC 7866).
    pub recording: Option<Bytes>,
}

/// An event of the endpoint. The events of one leg come in order. [`Event::Ended`] is the last event of a leg and comes
/// exactly once.
#[derive(Debug, Clone)]
pub enum Event {
    /// An INVITE was received. The endpoint has answered it with 100 Trying.
    Incoming {
        /// The key of the new leg, which the endpoint generated.
        leg: LegId,
        /// The data of the incoming call.
        incoming: Box<Incoming>,
    },
    /// A provisional response above 100 was received.
    Provisional {
        /// Key of the leg.
        leg: LegId,
        /// The status, 101 to 199.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// The SDP answer for early media, if the response has one.
        sdp: Option<Bytes>,
        /// Header fields of the response. They are selected as in [`Incoming::headers`].
        headers: Vec<Header>,
    },
    /// The far end answered, and the endpoint sent the ACK.
    Answered {
        /// Key of the leg.
        leg: LegId,
        /// The SDP answer in the 200, or in a reliable provisional response from the same phone. The value is `None` if
        /// neither of these messages had an answer, even if a provisional response of another phone had an answer. The
        /// value is also `None` if the 200 had an offer. [`Event::Offered`] has reported such an offer.
        sdp: Option<Bytes>,
        /// Header fields of the 200. They are selected as in [`Incoming::headers`].
        headers: Vec<Header>,
        /// The dialog for [`Command::End`]. `None` for an internal call, which uses no SIP.
        dialog: Option<Box<DialogState>>,
    },
    /// The far end acknowledged a 200 of the server.
    Acknowledged {
        /// Key of the leg.
        leg: LegId,
        /// The SDP answer in the ACK, if the 200 had the offer.
        sdp: Option<Bytes>,
    },
    /// The far end sent an offer. The offer may be in a re-INVITE, or in an UPDATE or PRACK with SDP. If the INVITE of
    /// the server had no offer, the offer may also be in a reliable provisional response or in the 200. For an offer in
    /// such a response, this event comes before the [`Event::Provisional`] or [`Event::Answered`] of the response. The
    /// application must reply with [`Command::AnswerOffer`] or [`Command::RejectOffer`]. If several offers wait, the
    /// application must reply to them in the order in which they were reported.
    Offered {
        /// Key of the leg.
        leg: LegId,
        /// The offer. If `None`, the application must send an offer.
        sdp: Option<Bytes>,
        /// Whether an error response may refuse the offer. An offer cannot be refused if it came in a PRACK, or in a
        /// response to an INVITE without an offer. In this case the answer may refuse each stream (RFC 6337 §2.3).
        refusable: bool,
    },
    /// The far end answered an offer of the server. The offer was in a re-INVITE or in a reliable provisional response.
    OfferAnswered {
        /// Key of the leg.
        leg: LegId,
        /// The SDP answer. The value is empty if the far end sent no answer.
        sdp: Bytes,
    },
    /// The far end refused a re-INVITE of the server. The session continues without a change.
    OfferRejected {
        /// Key of the leg.
        leg: LegId,
        /// The status of the far end. The value is 408 if no final response came, and 491 if another offer was open.
        status: u16,
    },
    /// An INFO with a digit was received ([`crate::Info`]). The endpoint has answered it with 200. An INFO without a
    /// digit is answered and not reported: a body that cannot be read gets 400, and another type gets 415.
    Info {
        /// Key of the leg.
        leg: LegId,
        /// The digit: `0` to `9`, `*`, `#`, or `A` to `D`.
        digit: char,
    },
    /// The session must be refreshed with an offer (RFC 4028), because the far end does not support UPDATE. The
    /// application should send [`Command::Offer`]. If the application does not send it, the leg ends when the session
    /// expires.
    RefreshDue {
        /// Key of the leg.
        leg: LegId,
    },
    /// The far end asks the server to call another party (REFER). The application must reply with
    /// [`Command::AnswerRefer`]. If the reply is a 202, the application must then report the progress with
    /// [`Command::NotifyRefer`].
    Referred {
        /// Key of the leg.
        leg: LegId,
        /// The party to call.
        referred: Box<Referred>,
    },
    /// The far end responded to a REFER of the server.
    ReferAnswered {
        /// Key of the leg.
        leg: LegId,
        /// The status of the response. The value is 408 if no response came, and 491 if another REFER was open. After a
        /// status of 300 or more, no progress follows.
        status: u16,
    },
    /// The progress of the call that the server requested from the far end (NOTIFY).
    ReferProgress {
        /// Key of the leg.
        leg: LegId,
        /// The status from the called party. The value is 100 if the called party has not responded yet.
        status: u16,
        /// Whether this report is the last report.
        done: bool,
    },
    /// The leg has ended.
    Ended {
        /// Key of the leg.
        leg: LegId,
        /// The reason why the leg ended.
        cause: EndCause,
        /// The SIP status that ended the leg, if a status ended it. For an unanswered call, the status may come from
        /// this server. Otherwise the far end sent it.
        status: Option<u16>,
        /// The value of the Reason header (RFC 3326), if the far end sent this header. Otherwise this field has the
        /// reason phrase.
        reason: Option<String>,
        /// Header fields of the message that ended the leg. They are selected as in [`Incoming::headers`].
        headers: Vec<Header>,
    },
    /// One message of the leg, for an event log. The endpoint emits this event only if [`crate::Config::trace`] is set.
    /// The INVITE that created an incoming leg is not traced, because [`Event::Incoming`] reports it.
    Trace {
        /// Key of the leg.
        leg: LegId,
        /// Whether the server sent the message. If not, the server received the message.
        sent: bool,
        /// The address of the far end.
        peer: SocketAddr,
        /// The transport of the message.
        transport: Transport,
        /// One line that describes the message, for example `INVITE sip:...` or `200 OK (INVITE)`. The line of a
        /// retransmission ends in ` (retransmission)`.
        line: String,
    },
    /// A binding changed: a phone registered, a phone refreshed or removed its registration, or a registration expired.
    Binding(Change),
    /// A request had a wrong password or named an unknown user. A request without credentials gets a challenge and is
    /// not reported here, because every client begins with such a request.
    AuthenticationFailed(Box<RefusedRequest>),
    /// An INVITE or a REGISTER without credentials got a challenge, and no credentials came for 10 T1 (5 s). For each
    /// source, at most one such request in 10 s is reported. [`RefusedRequest::line`] is then the number of lines about
    /// the source that were not written. It includes the requests that were not observed because too many requests
    /// waited for credentials.
    ChallengeUnanswered {
        /// The request.
        request: Box<RefusedRequest>,
        /// Whether the source belongs to a trunk, or a phone is registered from there.
        is_known: bool,
    },
    /// The caller is in no trunk's networks and has neither a certificate nor a password. In a flood, only some of
    /// these requests are reported. [`RefusedRequest::line`] is then the number of requests that were not reported.
    UnknownSource(Box<RefusedRequest>),
    /// A trunk went down, or its registration failed. Each change is reported once.
    TrunkTroubled(Box<TrunkTrouble>),
}

/// A request that was refused before a leg was created. The texts contain no control characters. The Call-ID has at
/// most 256 characters, and each other text at most 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRequest {
    /// The source address of the request.
    pub source: SocketAddr,
    /// The transport of the request.
    pub transport: Transport,
    /// The method: `REGISTER` or `INVITE`.
    pub method: String,
    /// The user name in the credentials of the request. Empty if the request has no credentials.
    pub username: String,
    /// The user of the From URI.
    pub from: String,
    /// The user of the Request-URI. If the Request-URI has no user, this field has the user of the To URI.
    pub to: String,
    /// The value of the Call-ID header of the request.
    pub sip_call_id: String,
    /// The reason for the refusal, as a text for the log.
    pub why: String,
    /// The number of log lines that were suppressed since the last written line. `None` if the log line of this request
    /// is suppressed too.
    pub line: Option<u64>,
}

impl Event {
    /// Returns the leg of the event. Returns `None` if the event has no leg.
    #[must_use]
    pub fn leg(&self) -> Option<LegId> {
        match self {
            Self::Incoming { leg, .. }
            | Self::Provisional { leg, .. }
            | Self::Answered { leg, .. }
            | Self::Acknowledged { leg, .. }
            | Self::Offered { leg, .. }
            | Self::OfferAnswered { leg, .. }
            | Self::OfferRejected { leg, .. }
            | Self::Info { leg, .. }
            | Self::RefreshDue { leg }
            | Self::Referred { leg, .. }
            | Self::ReferAnswered { leg, .. }
            | Self::ReferProgress { leg, .. }
            | Self::Ended { leg, .. }
            | Self::Trace { leg, .. } => Some(*leg),
            Self::Binding(_)
            | Self::AuthenticationFailed(_)
            | Self::ChallengeUnanswered { .. }
            | Self::UnknownSource(_)
            | Self::TrunkTroubled(_) => None,
        }
    }
}

/// The reason why a leg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// The far end sent BYE.
    Bye,
    /// The application ended the leg with [`Command::Hangup`] or [`Command::Reject`].
    LocalHangup,
    /// The far end cancelled its INVITE.
    Cancelled,
    /// The far end sent a final response of 300 to 699, or responded to a re-INVITE with 408 or 481 (RFC 3261 §14.1).
    Rejected,
    /// The far end did not respond to a request before Timer B or F fired.
    Timeout,
    /// The host name of the destination does not resolve to an address.
    Unresolved,
    /// This server has no socket with the transport and address family of the destination.
    NoSocket,
    /// The connection could not be opened, or was lost before a response came.
    Unconnected(io::ErrorKind),
    /// The TLS handshake with the far end failed.
    Tls(TlsFault),
    /// The far end did not acknowledge a 200 or a reliable provisional response of the server.
    AckTimeout,
    /// The far end's WebSocket was lost before the far end acknowledged the answer.
    FlowLost,
    /// The session timer expired (RFC 4028 §10).
    SessionExpired,
    /// The limit [`crate::Config::max_legs`] or [`crate::Config::max_transactions`] is reached.
    Overload,
    /// The limit [`crate::Trunk::max_calls`] or [`crate::Trunk::max_cps`] of the trunk is reached.
    TrunkFull,
    /// The command could not be turned into a request, because a URI in the command is malformed.
    Invalid,
    /// The accounts of the call may not call the address. [`crate::Config::allow_networks`] does not contain the
    /// address, or the address belongs to another account's trunk.
    Forbidden,
}

impl From<TransportFault> for EndCause {
    fn from(fault: TransportFault) -> Self {
        match fault {
            TransportFault::Io(kind) => Self::Unconnected(kind),
            TransportFault::Tls(fault) => Self::Tls(fault),
        }
    }
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bye => "hung up",
            Self::LocalHangup => "hung up by this server",
            Self::Cancelled => "cancelled",
            Self::Rejected => "refused",
            Self::Timeout => "no answer, not even a provisional response",
            Self::Unresolved => "host name not resolved",
            Self::NoSocket => "sip.listen has no socket for the destination's transport and address family",
            Self::Unconnected(why) => return why.fmt(f),
            Self::Tls(why) => return TransportFault::Tls(*why).fmt(f),
            Self::AckTimeout => "the far end did not acknowledge the answer",
            Self::FlowLost => {
                "its WebSocket was lost before the call was up, and it did not register over another one within 10 s: \
                 the page must connect and register again at once"
            }
            Self::SessionExpired => "the session was not refreshed in time (RFC 4028)",
            Self::Overload => "too many legs or transactions",
            Self::TrunkFull => "the trunk's max_calls or max_cps is reached",
            Self::Invalid => "the URI cannot be called",
            Self::Forbidden => {
                "the address is neither public nor in sip.allow_networks, or belongs to another account's trunk"
            }
        })
    }
}

/// The data of an incoming call, from its INVITE.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The Request-URI as received.
    pub request_uri: String,
    /// The URI in the To header.
    pub to_uri: String,
    /// The URI in the From header.
    pub from_uri: String,
    /// The user of the From URI, with decoded percent escapes. Empty if the URI has no user.
    pub from_user: String,
    /// The display name in the From header.
    pub from_display: Option<String>,
    /// The user of the Request-URI, with decoded percent escapes. Empty if the URI has no user.
    pub to_user: String,
    /// The value of the Call-ID header.
    pub sip_call_id: String,
    /// The source address of the INVITE.
    pub source: SocketAddr,
    /// The transport of the INVITE.
    pub transport: Transport,
    /// The trunk from which the call came, if it came from a trunk.
    pub trunk: Option<TrunkName>,
    /// The account and user of the caller, if the call did not come from a trunk.
    pub caller: Option<Caller>,
    /// The header fields for the application, for example `X-*`, P-Asserted-Identity, Diversion and User-to-User.
    /// Fields that SIP needs for routing, dialogs and bodies are not included.
    pub headers: Vec<Header>,
    /// The body of the INVITE, if it is SDP.
    pub offer: Option<Bytes>,
    /// The server's leg that the call asks to replace (Replaces, RFC 3891).
    pub replaces: Option<LegId>,
    /// The dialog for [`Command::End`]. The value is valid after the call has been answered.
    pub dialog: Option<Box<DialogState>>,
    /// A guard that the application must drop when it has acted on the call. If calls wait too long for the
    /// application, new calls are refused.
    pub waiting: PendingCallGuard,
}
