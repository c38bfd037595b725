//! The signals of a leg: what this server orders the far end, and what the far end reports. The signals have no protocol.
//! A status is a SIP status (RFC 3261 §21), because every protocol of a leg can state one.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_call::header_fields::HeaderFields;
use tandem_id::{AccountName, LegId};

/// An order to the far end of a leg. An order that does not fit the state of the signalling has no effect, because the far
/// end often ends the leg at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalCommand {
    /// Report progress to a calling far end: 180 or 183, with the description for early media if there is one.
    Ring {
        /// 101 to 199.
        status: u16,
        /// The answer, or the offer if the far end made none.
        sdp: Option<Bytes>,
    },
    /// Accept the call of the far end.
    Accept {
        /// The answer, or the offer if the far end made none.
        sdp: Bytes,
        /// Further header fields.
        headers: HeaderFields,
    },
    /// Refuse the call of the far end.
    Refuse {
        /// 300 to 699.
        status: u16,
        /// The reason phrase. `None` means the usual phrase.
        reason: Option<String>,
        /// Further header fields.
        headers: HeaderFields,
    },
    /// End the leg in any state.
    End {
        /// The status for a far end that was not answered.
        status: u16,
        /// The value of a Reason header (RFC 3326).
        reason: Option<String>,
        /// Further header fields.
        headers: HeaderFields,
    },
    /// Offer a change of the media of an answered leg. [`SignalEvent::OfferAnswered`] or [`SignalEvent::OfferRefused`]
    /// follows. If the offer crosses an offer of the far end, the signalling repeats it later (RFC 3261 §14.1).
    Offer {
        /// The offer.
        sdp: Bytes,
    },
    /// Accept the offer of [`SignalEvent::Offered`].
    Answer {
        /// The answer, or the offer if the far end asked for one.
        sdp: Bytes,
    },
    /// Refuse the offer of [`SignalEvent::Offered`]. The media continues without a change.
    RefuseOffer {
        /// 400 to 699.
        status: u16,
        /// The reason phrase. `None` means the usual phrase.
        reason: Option<String>,
        /// Further header fields.
        headers: HeaderFields,
    },
    /// Send a digit in the signalling.
    Digit {
        /// `0` to `9`, `*`, `#`, or `A` to `D`.
        digit: char,
        /// The duration of the digit.
        duration_ms: u16,
    },
    /// Send a message of the application.
    Message {
        /// The media type of the body.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// Ask the far end to call another party. [`SignalEvent::ReferAnswered`] follows.
    Refer {
        /// The URI of the other party.
        to: String,
        /// The URI of the party that asks.
        by: Option<String>,
        /// Further header fields.
        headers: HeaderFields,
    },
    /// Answer [`SignalEvent::Referred`].
    AnswerRefer {
        /// 202 to accept, 300 to 699 to refuse.
        status: u16,
    },
    /// Report the progress of the call that the far end asked for. A status of 200 or more is the last report.
    NotifyRefer {
        /// The status of that call.
        status: u16,
    },
}

/// A report of the far end of a leg. The reports of one signalling come in order. [`SignalEvent::Ended`] is the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalEvent {
    /// The called far end reports progress.
    Ringing {
        /// 101 to 199.
        status: u16,
        /// The answer for early media, if there is one.
        sdp: Option<Bytes>,
    },
    /// The called far end has accepted.
    Accepted {
        /// The answer. `None` if the answer came before, or if an offer of the far end was reported instead.
        sdp: Option<Bytes>,
        /// Header fields for the application.
        headers: HeaderFields,
        /// The dialog as a text, with which a later process can end it.
        dialog: Option<Arc<str>>,
    },
    /// The calling far end has acknowledged the acceptance.
    Acknowledged {
        /// The answer, if the acceptance carried the offer.
        sdp: Option<Bytes>,
    },
    /// The far end offers media. The leg must answer or refuse. While an own offer is open, the signalling reports an offer
    /// only if the far end does not have the own offer (glare, RFC 3261 §14.1).
    Offered {
        /// The offer. `None` if the far end asks for an offer.
        sdp: Option<Bytes>,
        /// Whether the offer can be refused. If not, an answer can still decline each stream (RFC 6337 §2.3).
        refusable: bool,
    },
    /// The far end has answered an offer.
    OfferAnswered {
        /// The answer. Empty if the far end sent none.
        sdp: Bytes,
    },
    /// The far end has refused an offer. The media continues without a change.
    OfferRefused {
        /// The status of the refusal.
        status: u16,
    },
    /// The signalling needs an offer that changes nothing, to show that the leg is alive (RFC 4028).
    RefreshDue,
    /// A digit came in the signalling.
    Digit(char),
    /// The far end asks for a transfer.
    Referred(Box<TransferRequest>),
    /// The far end has answered [`SignalCommand::Refer`].
    ReferAnswered {
        /// After 300 or more, no progress follows.
        status: u16,
    },
    /// The progress of the call that the far end makes for this server.
    ReferProgress {
        /// The status of that call.
        status: u16,
        /// Whether this is the last report.
        done: bool,
    },
    /// The signalling is interrupted, and the far end may take it up again. The media continues.
    Lost,
    /// The far end has taken up the signalling again.
    Resumed,
    /// The signalling is over.
    Ended(Box<SignalEnd>),
}

/// A call of a far end that has just come: who calls, how the caller is known, and who is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingCall {
    /// The URI that is called.
    pub request_uri: String,
    /// The URI of the party that was dialled first.
    pub to_uri: String,
    /// The URI of the caller.
    pub from_uri: String,
    /// The user in `from_uri`. Empty if the URI has no user.
    pub from_user: String,
    /// The display name of the caller.
    pub from_display: Option<String>,
    /// The user in `request_uri`. Empty if the URI has no user.
    pub to_user: String,
    /// The message of the call for the log: `INVITE sip:...`.
    pub line: String,
    /// The id that the far end has given to the call (the SIP Call-ID).
    pub signalling_id: String,
    /// The source address of the signalling.
    pub source: SocketAddr,
    /// The transport of the signalling: `UDP`, `TCP`, `TLS`, `WS` or `WSS`.
    pub transport: &'static str,
    /// Whether the transport is encrypted.
    pub is_secure: bool,
    /// The trunk from which the call came, if it came from a trunk.
    pub trunk: Option<Arc<str>>,
    /// The caller, if the call did not come from a trunk.
    pub caller: Option<Caller>,
    /// The header fields for the application.
    pub headers: HeaderFields,
    /// Names and values that the caller passes to the application, each as a parameter of its own.
    pub parameters: Vec<(String, String)>,
    /// A text of the caller that the application gets with each event of the leg.
    pub client_state: Option<String>,
    /// The offer. `None` if this server shall make the offer.
    pub offer: Option<Bytes>,
    /// The leg of this server that the call asks to replace (RFC 3891).
    pub replaces: Option<LegId>,
    /// The dialog as a text, with which a later process can end it.
    pub dialog: Option<Arc<str>>,
}

/// A caller that is not a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account to which the caller belongs.
    pub account: AccountName,
    /// How the caller has identified itself.
    pub identity: Identity,
}

/// How a caller has identified itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// As a user of SIP.
    Sip {
        /// The user whose password the caller proved. `None` if the server recognised the caller by its address.
        username: Option<Arc<str>>,
        /// The called domain, if it belongs to an account.
        domain: Option<Arc<str>>,
    },
    /// With a token that the account has signed.
    Token {
        /// The name of the client.
        name: Arc<str>,
        /// The id of the application to which the calls of the client go. `None` if the token permits no calls.
        application: Option<Arc<str>>,
    },
    /// With a token that the account has signed, and that permits calls to addresses of the account.
    Subscriber {
        /// The name of the subscriber.
        name: Arc<str>,
    },
}

impl Caller {
    /// Returns the name that the caller has proved to have.
    pub fn name(&self) -> Option<&Arc<str>> {
        match &self.identity {
            Identity::Sip { username, .. } => username.as_ref(),
            Identity::Token { name, .. } | Identity::Subscriber { name } => Some(name),
        }
    }

    /// Returns the called domain, if it belongs to an account.
    pub fn domain(&self) -> Option<&Arc<str>> {
        match &self.identity {
            Identity::Sip { domain, .. } => domain.as_ref(),
            Identity::Token { .. } | Identity::Subscriber { .. } => None,
        }
    }
}

/// The party that the far end wants to be transferred to.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TransferRequest {
    /// The URI, without its header fields.
    pub uri: String,
    /// The header fields of the URI, without Replaces.
    pub headers: HeaderFields,
    /// The value of Replaces (RFC 3891).
    pub replaces: Option<String>,
    /// The leg of this server that Replaces names.
    pub replaced: Option<LegId>,
    /// The URI of the party that asks.
    pub by: Option<String>,
    /// The user of the URI, if its host is this server.
    pub own_user: Option<String>,
    /// The telephone number, if the URI is one.
    pub telephone: Option<String>,
}

/// The end of a leg's signalling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalEnd {
    /// The kind of the end.
    pub cause: SignalEndCause,
    /// The end in words.
    pub detail: Cow<'static, str>,
    /// The status that ended the leg, if one did.
    pub status: Option<u16>,
    /// The value of the Reason header (RFC 3326), or the reason phrase.
    pub reason: Option<String>,
    /// Header fields of the last message.
    pub headers: HeaderFields,
    /// The contacts to call instead (3xx), in the order of the message.
    pub contacts: Vec<RedirectContact>,
}

impl SignalEnd {
    /// An end without a status.
    pub fn of(cause: SignalEndCause) -> Self {
        let (detail, headers, contacts) = (cause.word().into(), HeaderFields::new(), Vec::new());
        Self { cause, detail, status: None, reason: None, headers, contacts }
    }
}

/// A contact that a redirection names (RFC 3261 §21.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedirectContact {
    /// The URI to call.
    pub target: RedirectTarget,
    /// The `q` value in thousandths.
    pub q: u16,
}

/// The destination that a redirection names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectTarget {
    /// A URI, which names its host.
    Uri(String),
    /// A telephone number. It names no host, so it is called at the host that was called first.
    Number(String),
}

/// The kind of the end of a leg's signalling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalEndCause {
    /// This server ended the leg.
    Local,
    /// The far end hung up.
    HungUp,
    /// The far end gave up its call before the answer.
    Cancelled,
    /// The far end refused.
    Refused,
    /// The far end did not respond.
    NoResponse,
    /// The far end responded first and then fell silent: no acknowledgement, no refresh, or lost for too long.
    Expired,
    /// The far end cannot be reached.
    Unreachable,
    /// The order to place the leg cannot be carried out.
    Invalid,
    /// The route has no room.
    RouteFull,
    /// This server has no room.
    Overloaded,
}

impl SignalEndCause {
    fn word(self) -> &'static str {
        match self {
            Self::Local => "hung up by this server",
            Self::HungUp => "hung up",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::NoResponse => "no answer, not even a provisional response",
            Self::Expired => "the far end fell silent",
            Self::Unreachable => "unreachable",
            Self::Invalid => "the URI cannot be called",
            Self::RouteFull => "the route has no room",
            Self::Overloaded => "this server has no room",
        }
    }
}

impl fmt::Display for SignalEndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
