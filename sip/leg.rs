//! The application's interface to legs: [`Command`]s go in, [`Event`]s come out. Plain data without behaviour.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::dialog::DialogState;
use crate::directory::Directory;
use crate::registrar::{Aor, Change};
use crate::waiting::PendingCallGuard;

/// The 128-bit key of one leg, i.e. of one INVITE dialog usage (RFC 3261 §12). The application chooses the key of an
/// outgoing leg; the endpoint generates the key of an incoming one. The endpoint never reuses a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegKey(pub u128);

impl LegKey {
    /// The key that no leg has.
    pub const NONE: Self = Self(0);
}

impl fmt::Debug for LegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LegKey({:032x})", self.0)
    }
}

/// The configured name of a trunk.
pub type TrunkName = Arc<str>;

/// A transport of SIP messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// One message in a datagram; requests are retransmitted.
    Udp,
    /// Messages over TCP, framed by Content-Length (RFC 3261 §18.3).
    Tcp,
    /// TCP framing over TLS (RFC 3261 §26.2.1).
    Tls,
    /// One message in a WebSocket message (RFC 7118). Clients connect to the server; the server opens no WebSocket
    /// connection.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// All transports.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// Whether the transport itself delivers messages in order or fails. The retransmission timers are off on such a
    /// transport.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// Returns the token of a Via header: `UDP`, `TCP`, `TLS`, `WS`, `WSS`.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// Returns the value of a URI's `transport` parameter, which is also the scheme in `sip.listen`. RFC 3261 §26.2.2
    /// deprecated `tls`, but most implementations write it. RFC 7118 uses `ws` for both WebSocket transports, so a
    /// client cannot tell the two apart by it.
    #[must_use]
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Returns the transport that a URI's `transport` parameter or a scheme in `sip.listen` names, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss]
            .into_iter()
            .find(|transport| transport.parameter().eq_ignore_ascii_case(name))
    }

    /// Whether the transport is encrypted, as `sips:` demands.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// The port of a URI without a port (RFC 3261 §19.1.2, RFC 7118 §8.1).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

/// One header field, received or to be sent. A CR or LF in a value to be sent becomes a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Field name as written, e.g. `X-Account`.
    pub name: String,
    /// Field value, unfolded.
    pub value: String,
}

/// The user name and password for the far end's digest challenges (RFC 3261 §22). `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Digest username.
    pub username: String,
    /// Digest password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A command of the application to the endpoint. A command for a leg that has ended, or that does not fit the leg's
/// state, is ignored. On a busy system hang-ups cross, so this is not an error.
#[derive(Debug, Clone)]
pub enum Command {
    /// Starts an outgoing leg. Once the far end rings, the endpoint waits without a limit of its own; the application
    /// ends the wait with [`Command::Hangup`] (RFC 3261 has Timer C for proxies only).
    Invite {
        /// The key that the application chose.
        leg: LegKey,
        /// The call to place.
        invite: Box<Outgoing>,
    },
    /// Starts an outgoing leg to the contacts that a user has registered, all at once or in order of preference (RFC
    /// 3261 §16.6). A `gr` parameter in the Request-URI selects one of them (RFC 5627). If the user has no contact, the
    /// leg ends at once with status 480. Until a contact answers, the leg accepts only [`Command::Hangup`]; then it is
    /// a leg like any other.
    Ring {
        /// The key that the application chose.
        leg: LegKey,
        /// The user whose phones are called.
        aor: Aor,
        /// The call to place. Its Request-URI becomes the To URI; its next hop is ignored.
        invite: Box<Outgoing>,
    },
    /// Sends a provisional response (101 to 199) to an unanswered incoming leg. With `sdp` it starts early media. If
    /// the INVITE had no offer, `sdp` is the server's offer, which only a reliable provisional response carries.
    Provisional {
        /// Key of the leg.
        leg: LegKey,
        /// 101 to 199; any other value is sent as 180.
        status: u16,
        /// The early media answer, or the offer.
        sdp: Option<Bytes>,
        /// Extra header fields.
        headers: Vec<Header>,
    },
    /// Answers an incoming leg with 200. The endpoint retransmits the 200 until the ACK comes (RFC 3261 §13.3.1.4), and
    /// ends the leg with [`EndCause::AckTimeout`] when none has come after 64*T1.
    Answer {
        /// Key of the leg.
        leg: LegKey,
        /// The answer, or the offer if the INVITE had none.
        sdp: Bytes,
        /// Extra header fields.
        headers: Vec<Header>,
    },
    /// Refuses an incoming leg.
    Reject {
        /// Key of the leg.
        leg: LegKey,
        /// 300 to 699; any other value is sent as 480.
        status: u16,
        /// Reason phrase; the RFC's phrase when `None`.
        reason: Option<String>,
        /// Extra header fields (`Retry-After`, `Contact` of a 3xx, ...).
        headers: Vec<Header>,
    },
    /// Ends the leg in any state: with CANCEL (or with BYE, if a 200 crossed it), with a final response, or with BYE.
    Hangup {
        /// Key of the leg.
        leg: LegKey,
        /// The final status for an incoming leg that is not answered yet; otherwise unused.
        status: u16,
        /// The value of a Reason header (RFC 3326), e.g. `Q.850;cause=16`.
        reason: Option<String>,
        /// Extra header fields of the BYE or the final response.
        headers: Vec<Header>,
    },
    /// Accepts the offer of [`Event::Offered`].
    AnswerOffer {
        /// Key of the leg.
        leg: LegKey,
        /// The answer, or the offer if the request had none.
        sdp: Bytes,
    },
    /// Refuses the offer of [`Event::Offered`]. The session continues unchanged.
    RejectOffer {
        /// Key of the leg.
        leg: LegKey,
        /// 400 to 699, usually 488.
        status: u16,
        /// Reason phrase; the RFC's phrase when `None`.
        reason: Option<String>,
        /// Extra header fields (`Warning`, ...).
        headers: Vec<Header>,
    },
    /// Sends a re-INVITE. The result is [`Event::OfferAnswered`] or [`Event::OfferRejected`]. Glare (491) is retried as
    /// in RFC 3261 §14.1. Only one offer may be outstanding: a second one is rejected with status 491.
    Offer {
        /// Key of the leg.
        leg: LegKey,
        /// The offer.
        sdp: Bytes,
    },
    /// Sends a re-INVITE in a recording session; otherwise as [`Command::Offer`].
    OfferRecording {
        /// Key of the leg.
        leg: LegKey,
        /// The offer.
        sdp: Bytes,
        /// The recording metadata from now on (`application/rs-metadata+xml`).
        metadata: Bytes,
    },
    /// Sends an INFO with this body in the dialog. The response is not reported.
    Info {
        /// Key of the leg.
        leg: LegKey,
        /// The media type, e.g. `application/dtmf-relay`.
        content_type: String,
        /// The body of the INFO.
        body: Bytes,
    },
    /// Asks the far end of an established leg to call another party (REFER, RFC 3515). The response is reported with
    /// [`Event::ReferAnswered`], the progress with [`Event::ReferProgress`]. Only one REFER may be outstanding: a
    /// second one is answered with status 491.
    Refer {
        /// Key of the leg.
        leg: LegKey,
        /// The party to call, and the party on whose behalf it is called.
        refer: Box<Refer>,
    },
    /// Answers [`Event::Referred`].
    AnswerRefer {
        /// Key of the leg.
        leg: LegKey,
        /// 202 to accept, 300 to 699 to refuse; any value outside 200 to 699 is sent as 603.
        status: u16,
    },
    /// Reports the progress of the call that the far end asked for: sends NOTIFY with this status line. A status of 200
    /// or above ends the subscription.
    NotifyRefer {
        /// Key of the leg.
        leg: LegKey,
        /// The status of that call, 100 to 699.
        status: u16,
    },
    /// Ends a dialog of an earlier process that was killed: sends one BYE along the dialog's route. The outcome is not
    /// reported. A far end that is reachable only through its own WebSocket connection gets no BYE.
    End(Box<DialogState>),
    /// Replaces the directory of users with a password. Existing registrations stay until they expire.
    Directory(Arc<Directory>),
}

impl Command {
    /// The leg of the command; [`LegKey::NONE`] when it has none.
    #[must_use]
    pub fn leg(&self) -> LegKey {
        match self {
            Self::Invite { leg, .. }
            | Self::Ring { leg, .. }
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
            | Self::NotifyRefer { leg, .. } => *leg,
            Self::End(_) | Self::Directory(_) => LegKey::NONE,
        }
    }
}

/// A REFER that the server sends.
#[derive(Debug, Clone)]
pub struct Refer {
    /// The URI that the far end is to call. Header fields in it (`?Replaces=...`) are kept.
    pub refer_to: String,
    /// The URI of the party that asks for the call (Referred-By, RFC 3892).
    pub referred_by: Option<String>,
    /// Extra header fields.
    pub headers: Vec<Header>,
}

/// A REFER that the far end sent.
#[derive(Debug, Clone)]
pub struct Referred {
    /// The URI to call, without its header fields.
    pub uri: String,
    /// The decoded header fields of the URI, without Replaces.
    pub headers: Vec<Header>,
    /// The decoded value of Replaces in the URI (RFC 3891): the new call replaces this dialog.
    pub replaces: Option<String>,
    /// The server's leg that `replaces` names, if there is one.
    pub replaced: Option<LegKey>,
    /// The value of Referred-By (RFC 3892).
    pub referred_by: Option<String>,
    /// The user of the URI, if its host is one of this server's.
    pub own_user: Option<String>,
}

/// Whether provisional responses are reliable (RFC 3262).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prack {
    /// Neither offered nor accepted: `Require: 100rel` gets 420.
    Off,
    /// Offered to called parties with Supported, and used with callers that require it.
    #[default]
    Supported,
    /// Required of called parties, and used with every caller that supports it.
    Required,
}

/// The account and user of a caller that did not come from a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account that the caller belongs to.
    pub account: Arc<str>,
    /// The user that authenticated with a password; `None` for a caller that is known by a domain's networks.
    pub username: Option<Arc<str>>,
    /// The account's domain that was called.
    pub domain: Option<Arc<str>>,
}

/// An outgoing call to place.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// Request-URI, `sip:...`.
    pub request_uri: String,
    /// SIP URI that determines where the request is sent, by its host, port and `transport`. With `None` the
    /// Request-URI determines it. This URI does not become a Route header.
    pub next_hop: Option<String>,
    /// User part of the From URI.
    pub from_user: String,
    /// Display name of From.
    pub from_display: Option<String>,
    /// Host of the From URI; the advertised host when `None`.
    pub from_host: Option<String>,
    /// To URI, if it differs from the Request-URI.
    pub to: Option<String>,
    /// Call-ID, which must be unique (RFC 3261 §8.1.1.4). The endpoint generates one when `None`.
    pub call_id: Option<String>,
    /// Extra header fields. Fields that the endpoint writes itself (Via, Route, CSeq, ...) are skipped.
    pub headers: Vec<Header>,
    /// The trunk that carries the call. A TLS connection uses the trunk's certificates and authorities. The trunk's
    /// limits may refuse the call with [`EndCause::TrunkFull`].
    pub trunk: Option<TrunkName>,
    /// Credentials for 401 and 407.
    pub credentials: Option<Credentials>,
    /// The realm of `credentials`. With it, the first INVITE already names the user in an Authorization header, so that
    /// a server that would accept the call without a password asks for one. The INVITE must go to a single host that
    /// may see a hash of the password.
    pub realm: Option<String>,
    /// The incoming leg that causes this one. Its Max-Forwards is counted down, and a call that returns to the server
    /// on the same path is recognised as a loop.
    pub on_behalf_of: Option<LegKey>,
    /// Value of Replaces (RFC 3891).
    pub replaces: Option<String>,
    /// Use of reliable provisional responses; [`crate::Config::prack`] when `None`.
    pub prack: Option<Prack>,
    /// The application has other routes. A destination that does not respond is given up after
    /// [`crate::Config::failover_ms`].
    pub impatient: bool,
    /// The accounts that pay for the call; it may use their trunks. [`crate::Config::allow_networks`] decides which
    /// other destinations it may have besides those trunks and registered phones. Empty: the operator, who may call any
    /// address.
    pub accounts: Vec<Arc<str>>,
    /// The offer. Empty: the far end makes the offer (RFC 3261 §13.2.1).
    pub sdp: Bytes,
    /// A second offer for a far end that refuses `sdp` with 488 or 606. Empty: no second offer.
    pub second_offer: Bytes,
    /// Metadata of the recorded session (`application/rs-metadata+xml`); makes this call a recording session towards a
    /// recording server (RFC 7866).
    pub recording: Option<Bytes>,
}

/// A report of the endpoint. The events of one leg come in order. [`Event::Ended`] is the last one and comes exactly
/// once.
#[derive(Debug, Clone)]
pub enum Event {
    /// An INVITE was received and answered with 100 Trying.
    Incoming {
        /// The key that the endpoint generated.
        leg: LegKey,
        /// The incoming call.
        incoming: Box<Incoming>,
    },
    /// A provisional response above 100 was received.
    Provisional {
        /// Key of the leg.
        leg: LegKey,
        /// 101 to 199.
        status: u16,
        /// Reason phrase.
        reason: String,
        /// The early media answer.
        sdp: Option<Bytes>,
        /// Header fields, as in [`Incoming::headers`].
        headers: Vec<Header>,
    },
    /// The far end answered; the ACK was sent.
    Answered {
        /// Key of the leg.
        leg: LegKey,
        /// The answer of the 200, or of a reliable provisional response from the same phone. `None` if neither had one
        /// (another provisional response may have carried it), or if the 200 carried an offer, which [`Event::Offered`]
        /// reported.
        sdp: Option<Bytes>,
        /// Header fields, as in [`Incoming::headers`].
        headers: Vec<Header>,
        /// The dialog for [`Command::End`]; `None` for an internal call, which uses no SIP.
        dialog: Option<Box<DialogState>>,
    },
    /// The ACK to one of the server's 200s was received.
    Acknowledged {
        /// Key of the leg.
        leg: LegKey,
        /// The answer, if the 200 carried the offer.
        sdp: Option<Bytes>,
    },
    /// An offer of the far end: in a re-INVITE, in an UPDATE or PRACK with SDP, or in a reliable provisional response
    /// or 200 to an INVITE without an offer. The last case comes before [`Event::Provisional`] or [`Event::Answered`].
    /// The application must reply with [`Command::AnswerOffer`] or [`Command::RejectOffer`], and reply to several
    /// offers in their order.
    Offered {
        /// Key of the leg.
        leg: LegKey,
        /// The offer; `None` asks the application for an offer.
        sdp: Option<Bytes>,
        /// Whether the offer may be refused with an error response. An offer in a PRACK, or in a response to an INVITE
        /// without an offer, may not: the answer then refuses each of its streams instead (RFC 6337 §2.3).
        refusable: bool,
    },
    /// The far end answered the offer of a re-INVITE, or of a reliable provisional response, that the server sent.
    OfferAnswered {
        /// Key of the leg.
        leg: LegKey,
        /// The answer; empty if the far end sent none.
        sdp: Bytes,
    },
    /// The far end refused the server's re-INVITE. The session continues unchanged.
    OfferRejected {
        /// Key of the leg.
        leg: LegKey,
        /// The far end's status; 408 when no final response came, 491 when another offer was outstanding.
        status: u16,
    },
    /// An INFO with digits (`application/dtmf-relay`, `application/dtmf`) or without a Content-Type was received and
    /// answered with 200. An INFO of another type is answered with 415 and not reported.
    Info {
        /// Key of the leg.
        leg: LegKey,
        /// The Content-Type of the INFO; empty if there was none.
        content_type: String,
        /// The body of the INFO.
        body: Bytes,
    },
    /// The session must be refreshed with an offer (RFC 4028), because the far end does not support UPDATE. The
    /// application should send [`Command::Offer`]; otherwise the leg ends when its session expires.
    RefreshDue {
        /// Key of the leg.
        leg: LegKey,
    },
    /// The far end asks the server to call another party (REFER). The application must reply with
    /// [`Command::AnswerRefer`], and after a 202 with [`Command::NotifyRefer`].
    Referred {
        /// Key of the leg.
        leg: LegKey,
        /// The party to call.
        referred: Box<Referred>,
    },
    /// The far end's response to the server's REFER.
    ReferAnswered {
        /// Key of the leg.
        leg: LegKey,
        /// Status of the response; 408 when no response came, 491 when another REFER was outstanding. From 300 on, no
        /// progress follows.
        status: u16,
    },
    /// The progress of the call that the server asked the far end for (NOTIFY).
    ReferProgress {
        /// Key of the leg.
        leg: LegKey,
        /// The status that the called party returned; 100 while there is none.
        status: u16,
        /// Whether this is the last report.
        done: bool,
    },
    /// The leg has ended.
    Ended {
        /// Key of the leg.
        leg: LegKey,
        /// Why the leg ended.
        cause: EndCause,
        /// The SIP status that ended the leg, if there was one: the far end's, or the server's to an unanswered call.
        status: Option<u16>,
        /// The value of the Reason header (RFC 3326) if the far end sent one, else the reason phrase.
        reason: Option<String>,
        /// Header fields of the message that ended the leg, as in [`Incoming::headers`].
        headers: Vec<Header>,
    },
    /// One message of the leg, for an event log. Only with [`crate::Config::trace`]. The INVITE that created an
    /// incoming leg is reported by [`Event::Incoming`] alone.
    Trace {
        /// Key of the leg.
        leg: LegKey,
        /// Whether the server sent the message.
        sent: bool,
        /// The far end's address.
        peer: SocketAddr,
        /// The transport of the message.
        transport: Transport,
        /// The message in short: `INVITE sip:...`, `200 OK (INVITE)`. A retransmission ends in ` (retransmission)`.
        line: String,
    },
    /// A phone registered, refreshed or removed its registration, or the registration expired.
    Binding(Change),
    /// A request had a wrong password or named an unknown user. A request without credentials, which is then
    /// challenged, is no failure: every client begins with one.
    AuthenticationFailed(Box<RefusedRequest>),
    /// A caller is in no trunk's networks and has neither a certificate nor a password. In a flood only some of these
    /// requests are reported ([`RefusedRequest::line`]).
    Stranger(Box<RefusedRequest>),
}

/// A request that was refused before a leg was created. Its texts contain no control characters and have at most 64
/// characters each, the Call-ID 256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRequest {
    /// The source address of the request.
    pub source: SocketAddr,
    /// The transport of the request.
    pub transport: Transport,
    /// The method: `REGISTER` or `INVITE`.
    pub method: String,
    /// The user that its credentials name; empty without credentials.
    pub username: String,
    /// User of the From URI.
    pub from: String,
    /// User of the Request-URI; user of the To URI if the Request-URI has none.
    pub to: String,
    /// The value of its Call-ID header.
    pub sip_call_id: String,
    /// The reason for the refusal, as text for the log.
    pub why: String,
    /// The count of log lines that were suppressed before this one; `None` when this request's own line is suppressed
    /// too.
    pub line: Option<u64>,
}

/// Borrows the leg of an event, shared or mutable as the event is borrowed.
macro_rules! leg_of {
    ($event:expr) => {
        match $event {
            Event::Incoming { leg, .. }
            | Event::Provisional { leg, .. }
            | Event::Answered { leg, .. }
            | Event::Acknowledged { leg, .. }
            | Event::Offered { leg, .. }
            | Event::OfferAnswered { leg, .. }
            | Event::OfferRejected { leg, .. }
            | Event::Info { leg, .. }
            | Event::RefreshDue { leg }
            | Event::Referred { leg, .. }
            | Event::ReferAnswered { leg, .. }
            | Event::ReferProgress { leg, .. }
            | Event::Ended { leg, .. }
            | Event::Trace { leg, .. } => Some(leg),
            Event::Binding(_) | Event::AuthenticationFailed(_) | Event::Stranger(_) => None,
        }
    };
}

impl Event {
    /// The leg of the event; [`LegKey::NONE`] when it has none.
    #[must_use]
    pub fn leg(&self) -> LegKey {
        leg_of!(self).copied().unwrap_or(LegKey::NONE)
    }

    /// Moves the event to another leg: the leg that forked reports the events of its branches.
    pub(crate) fn set_leg(&mut self, key: LegKey) {
        if let Some(leg) = leg_of!(self) {
            *leg = key;
        }
    }
}

/// Why a leg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// The far end sent BYE.
    Bye,
    /// The application ended the leg with [`Command::Hangup`] or [`Command::Reject`].
    LocalHangup,
    /// The far end cancelled its INVITE.
    Cancelled,
    /// The far end sent a final response of 300 to 699, or refused a re-INVITE with 408 or 481 (RFC 3261 §14.1).
    Rejected,
    /// The far end did not respond to a request (Timers B, F).
    Timeout,
    /// The host name of the destination has no address.
    Unresolved,
    /// No listening socket has the transport and address family of the destination.
    NoSocket,
    /// The connection could not be opened, or it broke before a response.
    Unconnected(io::ErrorKind),
    /// The far end did not acknowledge the server's 200 or its reliable provisional response.
    AckTimeout,
    /// The session timer expired (RFC 4028 §10).
    SessionExpired,
    /// [`crate::Config::max_legs`] or [`crate::Config::max_transactions`] is reached.
    Overload,
    /// The trunk's [`crate::Trunk::max_calls`] or [`crate::Trunk::max_cps`] is reached.
    TrunkFull,
    /// The command could not be turned into a request, because a URI in it is malformed.
    Invalid,
    /// The call's accounts may not call that address: [`crate::Config::allow_networks`] does not contain it, or it
    /// belongs to another account's trunk.
    Forbidden,
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
            Self::Unconnected(io::ErrorKind::InvalidData) => "TLS handshake failed; the server's log says why",
            Self::Unconnected(why) => return why.fmt(f),
            Self::AckTimeout => "the far end did not acknowledge the answer",
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

/// An incoming call, as its INVITE describes it.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Request-URI as received.
    pub request_uri: String,
    /// URI of the To header.
    pub to_uri: String,
    /// URI of the From header.
    pub from_uri: String,
    /// User of the From URI with percent escapes decoded; empty if it has none.
    pub from_user: String,
    /// Display name of the From header.
    pub from_display: Option<String>,
    /// User of the Request-URI with percent escapes decoded; empty if it has none.
    pub to_user: String,
    /// The value of the Call-ID header.
    pub sip_call_id: String,
    /// The source address of the INVITE.
    pub source: SocketAddr,
    /// The transport of the INVITE.
    pub transport: Transport,
    /// The trunk that the call came from, if any.
    pub trunk: Option<TrunkName>,
    /// The caller's account and user, if the call came from no trunk.
    pub caller: Option<Caller>,
    /// All header fields except those for SIP's own routing, dialogs and bodies: `X-*`, P-Asserted-Identity, Diversion,
    /// User-to-User, ...
    pub headers: Vec<Header>,
    /// The body, if it is SDP.
    pub offer: Option<Bytes>,
    /// The server's leg that the call is to replace (Replaces, RFC 3891).
    pub replaces: Option<LegKey>,
    /// The dialog for [`Command::End`], once the call is answered.
    pub dialog: Option<Box<DialogState>>,
    /// A guard to drop once the application has acted on the call. While many calls wait, new ones are refused.
    pub waiting: PendingCallGuard,
}
