//! What the application says and hears about a leg: [`Command`]s in, [`Event`]s out. Plain data, no behaviour.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::dialog::DialogState;
use crate::directory::Directory;
use crate::registrar::{Aor, Change};
use crate::waiting::Waiting;

/// The 128-bit key of one leg, i.e. of one INVITE dialog usage (RFC 3261 §12). The application chooses it for outgoing
/// legs; the endpoint draws it from its own generator for incoming ones. Never reused by the endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegKey(pub u128);

impl LegKey {
    /// No leg's.
    pub const NONE: Self = Self(0);
}

impl fmt::Debug for LegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LegKey({:032x})", self.0)
    }
}

/// The configured name of a trunk.
pub type TrunkName = Arc<str>;

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// One message a datagram; requests are retransmitted.
    Udp,
    /// Messages framed by Content-Length (RFC 3261 §18.3).
    Tcp,
    /// The same over TLS (RFC 3261 §26.2.1).
    Tls,
    /// One message a WebSocket message (RFC 7118). Peers connect to us; we to nobody.
    Ws,
    /// The same over TLS.
    Wss,
}

impl Transport {
    /// Each.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// Whether the transport itself delivers in order or not at all, which switches off the retransmission timers.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The token of a Via header: `UDP`, `TCP`, `TLS`, `WS`, `WSS`.
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

    /// The value of a URI's `transport` parameter, which is `sip.listen`'s scheme too. `tls` was deprecated by RFC 3261
    /// §26.2.2 and is what everybody writes; RFC 7118 has `ws` for both of its transports, which such a peer cannot tell
    /// apart.
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

    /// The transport that a URI's `transport` parameter, or a scheme of `sip.listen`, names.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss]
            .into_iter()
            .find(|transport| transport.parameter().eq_ignore_ascii_case(name))
    }

    /// Whether the transport encrypts, as `sips:` demands.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// The port of a URI that names none (RFC 3261 §19.1.2, RFC 7118 §8.1).
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

/// One header field in either direction. A CR or LF in a value we are asked to send becomes a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Field name as written, e.g. `X-Account`.
    pub name: String,
    /// Field value, unfolded.
    pub value: String,
}

/// A digest user of the far side (RFC 3261 §22). `Debug` hides the password.
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

/// What the application wants done. A command for a leg that has ended, or that makes no sense in the leg's state, is
/// ignored: hang-ups cross on every busy system and are nobody's error.
#[derive(Debug, Clone)]
pub enum Command {
    /// Start an outgoing leg. Once it rings the endpoint waits for as long as the peer lets it: how long is too long is the
    /// application's to say, with [`Command::Hangup`] (RFC 3261 has Timer C for proxies only).
    Invite {
        /// The key the application chose.
        leg: LegKey,
        /// The call to place.
        invite: Box<Outgoing>,
    },
    /// Start an outgoing leg to the contacts that a user has registered, all at once or by preference (RFC 3261 §16.6).
    /// A `gr` parameter in the Request-URI means one of them (RFC 5627). Without any it ends at once with status 480. Once one has answered, it is a leg like any other; until then it
    /// obeys [`Command::Hangup`] only.
    Ring {
        /// The key the application chose.
        leg: LegKey,
        /// Whose phones.
        aor: Aor,
        /// The call to place; its Request-URI is what To says, and its next hop is not looked at.
        invite: Box<Outgoing>,
    },
    /// Send a provisional response (101 to 199) to an unanswered incoming leg; with `sdp` it is early media. To an INVITE
    /// without an offer `sdp` is our offer, which only a reliable one carries.
    Provisional {
        /// Which leg.
        leg: LegKey,
        /// 101 to 199; anything else is sent as 180.
        status: u16,
        /// Early media answer, or offer.
        sdp: Option<Bytes>,
        /// Extra header fields.
        headers: Vec<Header>,
    },
    /// Answer an incoming leg with 200. The endpoint repeats the answer until the ACK comes (RFC 3261 §13.3.1.4) and
    /// ends the leg with [`EndCause::AckTimeout`] after 64*T1 without one.
    Answer {
        /// Which leg.
        leg: LegKey,
        /// Our answer (our offer, if the INVITE had none).
        sdp: Bytes,
        /// Extra header fields.
        headers: Vec<Header>,
    },
    /// Refuse an incoming leg.
    Reject {
        /// Which leg.
        leg: LegKey,
        /// 300 to 699; anything else is sent as 480.
        status: u16,
        /// Reason phrase; the RFC's phrase when `None`.
        reason: Option<String>,
        /// Extra header fields (`Retry-After`, `Contact` of a 3xx, ...).
        headers: Vec<Header>,
    },
    /// End the leg whatever its state: CANCEL (or BYE after a crossing 200), a final response, or BYE.
    Hangup {
        /// Which leg.
        leg: LegKey,
        /// Final status for an incoming leg that was not answered yet; unused otherwise.
        status: u16,
        /// Value of a Reason header (RFC 3326), e.g. `Q.850;cause=16`.
        reason: Option<String>,
        /// Extra header fields of the BYE or the final response.
        headers: Vec<Header>,
    },
    /// Accept the offer of [`Event::Offered`].
    AnswerOffer {
        /// Which leg.
        leg: LegKey,
        /// The answer (our offer, if the request had none).
        sdp: Bytes,
    },
    /// Refuse the offer of [`Event::Offered`]; the session goes on as it was.
    RejectOffer {
        /// Which leg.
        leg: LegKey,
        /// 400 to 699, usually 488.
        status: u16,
        /// Reason phrase; the RFC's phrase when `None`.
        reason: Option<String>,
        /// Extra header fields (`Warning`, ...).
        headers: Vec<Header>,
    },
    /// Send a re-INVITE. The result is [`Event::OfferAnswered`] or [`Event::OfferRejected`]; glare (491) is retried
    /// as RFC 3261 §14.1 says. Only one may be outstanding: a second one is rejected with status 491.
    Offer {
        /// Which leg.
        leg: LegKey,
        /// The offer.
        sdp: Bytes,
    },
    /// As [`Command::Offer`], in a recording session.
    OfferRecording {
        /// Which leg.
        leg: LegKey,
        /// The offer.
        sdp: Bytes,
        /// What is said of the recorded session now.
        metadata: Bytes,
    },
    /// Send an INFO with this body in the dialog. Its answer is not reported.
    Info {
        /// Which leg.
        leg: LegKey,
        /// E.g. `application/dtmf-relay`.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// Ask the peer of an established leg to call somebody else (REFER, RFC 3515). What it says to that is
    /// [`Event::ReferAnswered`], how it goes [`Event::ReferProgress`]. One at a time: another one is answered 491.
    Refer {
        /// Which leg.
        leg: LegKey,
        /// Whom, and on whose behalf.
        refer: Box<Refer>,
    },
    /// Answer [`Event::Referred`].
    AnswerRefer {
        /// Which leg.
        leg: LegKey,
        /// 202, or 300 to 699 to refuse.
        status: u16,
    },
    /// How the call goes that the peer asked for: NOTIFY with this status line. 200 and above end the subscription.
    NotifyRefer {
        /// Which leg.
        leg: LegKey,
        /// 100 to 699.
        status: u16,
    },
    /// Hang up a dialog of an earlier process, which was killed: BYE, once, along the way the dialog had. Nothing is told of its
    /// outcome. A peer that only a WebSocket of its own reaches gets none.
    End(Box<DialogState>),
    /// Everybody who has a password here, in place of who had one. Whoever is registered stays so until that ends.
    Directory(Arc<Directory>),
}

impl Command {
    /// The leg the command is about; [`LegKey::NONE`] when it is about none.
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

/// A REFER of ours.
#[derive(Debug, Clone)]
pub struct Refer {
    /// URI the peer is to call; header fields in it (`?Replaces=...`) stay.
    pub refer_to: String,
    /// URI of who asks for it (RFC 3892).
    pub referred_by: Option<String>,
    /// Extra header fields.
    pub headers: Vec<Header>,
}

/// A REFER of the peer.
#[derive(Debug, Clone)]
pub struct Referred {
    /// URI to be called, without the header fields in it.
    pub uri: String,
    /// Those header fields, decoded; Replaces is not among them.
    pub headers: Vec<Header>,
    /// Value of Replaces in that URI (RFC 3891), decoded: the call is to take the place of this dialog.
    pub replaces: Option<String>,
    /// The leg of ours that `replaces` names, if it is one.
    pub replaced: Option<LegKey>,
    /// Value of Referred-By (RFC 3892).
    pub referred_by: Option<String>,
    /// Its user, if the URI's host is one of ours.
    pub own_user: Option<String>,
}

/// Whether provisional responses are made reliable (RFC 3262).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prack {
    /// Neither announced nor taken: `Require: 100rel` gets 420.
    Off,
    /// Announced to those we call, and used with callers that require it.
    #[default]
    Supported,
    /// Required of those we call, and used with every caller that supports it.
    Required,
}

/// Who called, where no trunk did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: Arc<str>,
    /// The user whose password it showed; `None` for a peer in a domain's networks.
    pub username: Option<Arc<str>>,
    /// The account's domain that it called.
    pub domain: Option<Arc<str>>,
}

/// An outgoing call.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// Request-URI, `sip:...`.
    pub request_uri: String,
    /// SIP URI whose host, port and `transport` decide where the request is sent; the Request-URI when `None`. It does
    /// not become a Route header.
    pub next_hop: Option<String>,
    /// User part of the From URI.
    pub from_user: String,
    /// Display name of From.
    pub from_display: Option<String>,
    /// Host of the From URI; the advertised host when `None`.
    pub from_host: Option<String>,
    /// To URI, when it is not the Request-URI.
    pub to: Option<String>,
    /// Call-ID, unlike any other (RFC 3261 §8.1.1.4); the endpoint draws one when `None`.
    pub call_id: Option<String>,
    /// Extra header fields. Fields the endpoint writes itself (Via, Route, CSeq, ...) are skipped.
    pub headers: Vec<Header>,
    /// The trunk it goes over, whose certificates and authorities a TLS connection uses, and which may refuse it with
    /// [`EndCause::TrunkFull`].
    pub trunk: Option<TrunkName>,
    /// Answers for 401 and 407.
    pub credentials: Option<Credentials>,
    /// The realm that `credentials` are for, to name their user in the first INVITE already: a server that would take the
    /// call without a password then asks for it. The INVITE has to go to one host that is trusted with a hash of the password.
    pub realm: Option<String>,
    /// The incoming leg that this one is made for: its Max-Forwards is counted down, and a call that comes back to us the
    /// same way is known for a loop.
    pub on_behalf_of: Option<LegKey>,
    /// Value of Replaces (RFC 3891).
    pub replaces: Option<String>,
    /// Reliable provisional responses; [`crate::Config::prack`] when `None`.
    pub prack: Option<Prack>,
    /// The application has other ways: one that is silent is given up after [`crate::Config::failover_ms`].
    pub impatient: bool,
    /// Who pays for it: the accounts whose trunks it may use. Where it may go beside those trunks and phones that have
    /// registered is [`crate::Config::allow_networks`]' to say. Empty: the operator, who may call anything.
    pub accounts: Vec<Arc<str>>,
    /// The offer; empty: the peer is to offer (RFC 3261 §13.2.1).
    pub sdp: Bytes,
    /// What is offered to a peer that refuses `sdp` as it stands (488, 606); empty: nothing.
    pub second_offer: Bytes,
    /// It is a recording session, towards a recording server (RFC 7866): what is said of the recorded one
    /// (`application/rs-metadata+xml`).
    pub recording: Option<Bytes>,
}

/// What happened. For one leg, events come in order and [`Event::Ended`] is the last, exactly once.
#[derive(Debug, Clone)]
pub enum Event {
    /// An INVITE came in; 100 Trying was sent.
    Incoming {
        /// The endpoint's key for it.
        leg: LegKey,
        /// The call.
        incoming: Box<Incoming>,
    },
    /// A provisional response above 100 came.
    Provisional {
        /// Which leg.
        leg: LegKey,
        /// 101 to 199.
        status: u16,
        /// Reason phrase.
        reason: String,
        /// Early media answer.
        sdp: Option<Bytes>,
        /// Header fields, as in [`Incoming::headers`].
        headers: Vec<Header>,
    },
    /// The peer answered; the ACK was sent.
    Answered {
        /// Which leg.
        leg: LegKey,
        /// The answer: the 200's, or that of a reliable provisional response of the same phone. `None`: neither had one (it may
        /// have come in another provisional response), or it was an offer, of which [`Event::Offered`] told.
        sdp: Option<Bytes>,
        /// Header fields, as in [`Incoming::headers`].
        headers: Vec<Header>,
        /// For [`Command::End`]; `None` where no SIP is in between.
        dialog: Option<Box<DialogState>>,
    },
    /// The ACK to one of our 200s came.
    Acknowledged {
        /// Which leg.
        leg: LegKey,
        /// The answer, when our 200 carried the offer.
        sdp: Option<Bytes>,
    },
    /// A re-INVITE, an UPDATE or PRACK with SDP, or the first offer to an INVITE of ours without one, which comes before
    /// [`Event::Provisional`] or [`Event::Answered`]: the application must reply with [`Command::AnswerOffer`] or
    /// [`Command::RejectOffer`]. Several are replied to in their order.
    Offered {
        /// Which leg.
        leg: LegKey,
        /// The offer; `None` asks for ours.
        sdp: Option<Bytes>,
        /// It may be refused. If not, as in PRACK and in what answers an INVITE of ours without an offer, the answer that
        /// refuses it refuses each of its streams (RFC 6337 §2.3).
        refusable: bool,
    },
    /// Our re-INVITE was accepted, or the offer of a reliable provisional response of ours.
    OfferAnswered {
        /// Which leg.
        leg: LegKey,
        /// The answer; empty if the peer sent none.
        sdp: Bytes,
    },
    /// Our re-INVITE was refused; the session goes on as it was.
    OfferRejected {
        /// Which leg.
        leg: LegKey,
        /// The peer's status; 408 when it never answered, 491 when another offer was outstanding.
        status: u16,
    },
    /// An INFO came and was answered 200. Others than key presses (`application/dtmf-relay`, `application/dtmf`) and those
    /// without a body are answered 415 and not told.
    Info {
        /// Which leg.
        leg: LegKey,
        /// Its Content-Type; empty if there was none.
        content_type: String,
        /// Its body.
        body: Bytes,
    },
    /// The session is to be refreshed with an offer (RFC 4028), as the peer does not take UPDATE: the application should send
    /// [`Command::Offer`]; else the leg ends when its session expires.
    RefreshDue {
        /// Which leg.
        leg: LegKey,
    },
    /// The peer asks us to call somebody (REFER): the application must reply with [`Command::AnswerRefer`], and after a
    /// 202 with [`Command::NotifyRefer`].
    Referred {
        /// Which leg.
        leg: LegKey,
        /// Whom.
        referred: Box<Referred>,
    },
    /// The peer's answer to our REFER.
    ReferAnswered {
        /// Which leg.
        leg: LegKey,
        /// Its status; 408 when it never answered, 491 when another one was out. From 300 on, nothing more comes.
        status: u16,
    },
    /// How the call goes that we asked the peer for (NOTIFY).
    ReferProgress {
        /// Which leg.
        leg: LegKey,
        /// Status of the response it had: 100 while there is none.
        status: u16,
        /// Nothing more comes.
        done: bool,
    },
    /// The leg is over.
    Ended {
        /// Which leg.
        leg: LegKey,
        /// Who or what ended it.
        cause: EndCause,
        /// The SIP status that went with it, if one did: the peer's, or ours to an unanswered call.
        status: Option<u16>,
        /// The Reason header's value (RFC 3326) if the peer sent one, else the reason phrase.
        reason: Option<String>,
        /// Header fields of the message that ended it, as in [`Incoming::headers`].
        headers: Vec<Header>,
    },
    /// One message of the leg, for an event log. Only with [`crate::Config::trace`]. The INVITE that made an incoming leg
    /// is told by [`Event::Incoming`] alone.
    Trace {
        /// Which leg.
        leg: LegKey,
        /// Sent by us.
        sent: bool,
        /// The other side.
        peer: SocketAddr,
        /// How it travelled.
        transport: Transport,
        /// `INVITE sip:...`, `200 OK (INVITE)`; a repeated message ends in ` (retransmission)`.
        line: String,
    },
    /// A phone has registered, refreshed, unregistered, or its registration has run out.
    Binding(Change),
    /// Somebody showed a wrong password, or one for a user that there is not. Asked for one, and showing none, is no
    /// failure: everybody begins so.
    AuthenticationFailed(Box<RefusedRequest>),
    /// Somebody called who is in no trunk's networks and shows no certificate and no password. Only some of these are told in
    /// a flood ([`RefusedRequest::line`]).
    Stranger(Box<RefusedRequest>),
}

/// A request that was refused before any leg came of it. Its texts have no control characters and at most 64 characters each,
/// the Call-ID 256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRequest {
    /// Where the request came from.
    pub source: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// `REGISTER`, `INVITE`.
    pub method: String,
    /// The user that it claimed to be by its credentials; empty without any.
    pub username: String,
    /// User of From.
    pub from: String,
    /// User of the Request-URI; of To where that has none.
    pub to: String,
    /// Its Call-ID.
    pub sip_call_id: String,
    /// Why it was refused, in words.
    pub why: String,
    /// Whether the log is to have a line of it: how many such lines were held back before this one. `None`: this one is held
    /// back.
    pub line: Option<u64>,
}

/// The leg in an event, by reference or by mutable reference, as the event is.
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
    /// The leg the event is about; [`LegKey::NONE`] when it is about none.
    #[must_use]
    pub fn leg(&self) -> LegKey {
        leg_of!(self).copied().unwrap_or(LegKey::NONE)
    }

    /// Makes it another leg's: what a branch of a fork says is said by the leg that forked.
    pub(crate) fn set_leg(&mut self, key: LegKey) {
        if let Some(leg) = leg_of!(self) {
            *leg = key;
        }
    }
}

/// Why a leg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// The peer sent BYE.
    Bye,
    /// [`Command::Hangup`] or [`Command::Reject`].
    LocalHangup,
    /// The peer cancelled its INVITE.
    Cancelled,
    /// The peer's final 3xx to 6xx, or its refusal of a re-INVITE with 408 or 481 (RFC 3261 §14.1).
    Rejected,
    /// No answer to our request (Timers B, F).
    Timeout,
    /// The host name of the destination has no address.
    Unresolved,
    /// No socket of ours has the destination's transport and address family.
    NoSocket,
    /// No connection could be made, or it broke before an answer.
    Unconnected(io::ErrorKind),
    /// Our 200, or a reliable provisional response of ours, was never acknowledged.
    AckTimeout,
    /// Its session timer ran out (RFC 4028 §10).
    SessionExpired,
    /// [`crate::Config::max_legs`] or [`crate::Config::max_transactions`] is reached.
    Overload,
    /// The trunk's [`crate::Peer::max_calls`] or [`crate::Peer::max_cps`] is reached.
    TrunkFull,
    /// The command could not be turned into a request: a URI in it is malformed.
    Invalid,
    /// Its accounts may not call that address: [`crate::Config::allow_networks`], or another account's trunk.
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

/// An incoming call.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Request-URI as received.
    pub request_uri: String,
    /// URI of To.
    pub to_uri: String,
    /// URI of From.
    pub from_uri: String,
    /// User of the From URI, percent escapes decoded; empty if it has none.
    pub from_user: String,
    /// Display name of From.
    pub from_display: Option<String>,
    /// User of the Request-URI, percent escapes decoded; empty if it has none.
    pub to_user: String,
    /// SIP's Call-ID header.
    pub sip_call_id: String,
    /// Where the INVITE came from.
    pub source: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// The trunk whose networks hold `source`.
    pub trunk: Option<TrunkName>,
    /// Who called, if it was no trunk.
    pub caller: Option<Caller>,
    /// Every header field that is not SIP's own routing, dialog or body bookkeeping: `X-*`, P-Asserted-Identity,
    /// Diversion, User-to-User, ...
    pub headers: Vec<Header>,
    /// The body, when it is SDP.
    pub offer: Option<Bytes>,
    /// The leg of ours whose place it is to take (Replaces, RFC 3891).
    pub replaces: Option<LegKey>,
    /// For [`Command::End`], once it is answered.
    pub dialog: Option<Box<DialogState>>,
    /// To be dropped when something has been done about the call: while many wait, new ones are refused.
    pub waiting: Waiting,
}
