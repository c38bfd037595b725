//! New legs: built from an application's request for a call, or from an inbound INVITE.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::internal_call::InternalCall;
use tandem_call::leg::{EndCause, LegInfo, LegOwner, SipFacts};
use tandem_call::new_leg::{LegPlan, NewLeg, OnAnswer};
use tandem_call::output::Invite;
use tandem_call::recording::{NewRecording, RecordingSpec};
use tandem_call::stream::ConnectTiming;
use tandem_call::{Callback, Target};
use tandem_causes::Cause;
use tandem_host::clock;
use tandem_id::{CallId, LegId, RecordingId};
use tandem_leg::signal::{Identity, IncomingCall};
use tandem_store::StoreFailed;
use tandem_store::domains::DomainRow;

use crate::channels::Barred;
use crate::trunk::identity;
use crate::with_user;

/// A request for an outbound call.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// The account, the dialect and the application of the call.
    pub owner: LegOwner,
    /// The called party, the calling party, and the content of the INVITE.
    pub invite: Invite,
    /// Further called parties, which ring at the same time. The first leg that is answered stays in the call, and the
    /// other legs are canceled.
    pub also: Vec<Address>,
    /// The limits of the call, and its actions after the answer.
    pub plan: LegPlan,
    /// Recording that starts with the answer.
    pub record: Option<RecordingSpec>,
    /// The document that is requested if the document of `plan` or a later document fails.
    pub fallback: Option<Target>,
    /// Callback for the progress of the leg.
    pub status: Option<Callback>,
    /// A text that the application has set. The server does not interpret the text. The events of the leg contain the
    /// text.
    pub client_state: Option<String>,
    /// A live leg. The new leg is created in the call of this leg.
    pub link_to: Option<LegId>,
    /// Data for the called application, if the called party is an application of this server.
    pub handover: Option<Box<InternalCall>>,
}

/// Default maximum ringing time. `MAX_DURATION` is the default maximum duration of a call after the answer.
const RINGING_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_DURATION: Duration = Duration::from_secs(14_400);

impl NewCall {
    /// Creates a request for a call that begins with `then`. All other settings have their default values.
    pub fn plain(owner: LegOwner, to: Address, from: Address, then: OnAnswer) -> Self {
        Self {
            owner,
            invite: Invite::new(to, from),
            also: Vec::new(),
            plan: LegPlan {
                unanswered: EndCause::NoAnswer,
                time_limit: Some(MAX_DURATION),
                then,
                ..LegPlan::waiting(RINGING_TIMEOUT)
            },
            record: None,
            fallback: None,
            status: None,
            client_state: None,
            link_to: None,
            handover: None,
        }
    }
}

/// A new call, in the form that the application receives at once.
#[derive(Clone, Debug)]
pub struct Created {
    pub leg: Arc<LegInfo>,
    /// The recording that will start with the answer.
    pub recording: Option<RecordingId>,
}

/// The reason why a call cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// No trunk accepts the number.
    #[error("no trunk accepts {0}")]
    NoRoute(String),
    /// The policy for SIP targets forbids calls of the account to this address.
    #[error("calls may not go to {to}: this address is {why}")]
    ForbiddenTarget {
        /// The called address.
        to: String,
        /// The description of the forbidden address.
        why: String,
    },
    /// The calling number is neither a number of the account nor a verified caller ID, and the account must use such a
    /// number.
    #[error("{0} is neither a number of the account nor a verified caller id")]
    ForeignCaller(String),
    /// The application sets this header field, which states who calls, and the account must use a calling number that it
    /// has.
    #[error("{0} may not be set by an application, because strict_caller_id is true")]
    IdentityHeader(String),
    /// `link_to` is not a live leg.
    #[error("the call to link to does not exist")]
    NoSuchLeg,
    /// The server is shutting down and accepts no new calls.
    #[error("the server is shutting down")]
    Draining,
    /// The media engine has no room for a new call.
    #[error(transparent)]
    NoMedia(#[from] tandem_media::Shortage),
    /// The server has reached its limit of calls.
    #[error("the server accepts no more calls")]
    Full,
    /// The connection may never make this call, or may not make this call now.
    #[error(transparent)]
    Barred(#[from] Barred),
    /// The database is not available.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl CreateError {
    /// Returns the cause of the failure. `None` if the request for the call was wrong, or if the failure ends by itself.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::NoRoute(_) => Some(Cause::NoTrunk),
            Self::ForeignCaller(_) | Self::IdentityHeader(_) => Some(Cause::ForeignCallerId),
            Self::NoMedia(_) => Some(Cause::MediaFull),
            Self::Barred(_) => Some(Cause::CallLimit),
            Self::ForbiddenTarget { .. } | Self::NoSuchLeg | Self::Draining | Self::Full | Self::Store(_) => None,
        }
    }
}

/// Builds the leg of an inbound call. Returns the leg and the SDP offer. `domain` is the SIP domain that routes the
/// call. If `domain` is given, both parties of the leg are SIP URIs.
pub fn inbound_leg(
    leg: LegId,
    session: CallId,
    owner: LegOwner,
    incoming: IncomingCall,
    domain: Option<DomainRow>,
) -> (LegInfo, Option<bytes::Bytes>) {
    let party = |user: &str, uri: &str| match user.parse() {
        Ok(number) => Address::Phone(number),
        Err(_) => Address::from(uri),
    };
    // A phone is identified by the user name of its credentials, and not by its From header.
    let identity = incoming.caller.as_ref().map(|caller| &caller.identity);
    let username = match identity {
        Some(Identity::Sip { username, .. }) => username.as_deref(),
        Some(Identity::Token { .. } | Identity::Subscriber { .. }) | None => None,
    };
    let (from, to) = match &domain {
        Some(domain) => {
            let at = |user: &str| Address::Sip(with_user(&format!("sip:{}", domain.name), user).into());
            (username.map_or_else(|| Address::from(&*incoming.from_uri), at), Address::from(&*incoming.request_uri))
        }
        None => {
            let from = match username.filter(|username| *username != incoming.from_user) {
                Some(username) => {
                    let host = incoming.to_uri.rsplit_once('@').map_or("", |(_, host)| host);
                    party(username, &with_user(&format!("sip:{host}"), username))
                }
                None => party(&incoming.from_user, &incoming.from_uri),
            };
            (from, party(&incoming.to_user, &incoming.request_uri))
        }
    };
    // The name in a token has no host.
    let from = match identity {
        Some(Identity::Token { name, .. } | Identity::Subscriber { name }) => Address::Client(Arc::clone(name)),
        Some(Identity::Sip { .. }) | None => from,
    };
    let info = LegInfo {
        caller_name: incoming.from_display.clone(),
        forwarded_from: identity::forwarded_from(&incoming.headers),
        client_state: incoming.client_state,
        handover: (!incoming.parameters.is_empty())
            .then(|| Box::new(InternalCall { parameters: incoming.parameters, ..InternalCall::default() })),
        sip: SipFacts {
            call_id: Some(incoming.signalling_id.into()),
            dialog: incoming.dialog,
            source_ip: Some(incoming.source.ip()),
            trunk: incoming.trunk,
            domain: domain.map(|domain| format!("{:032x}", domain.id).into()),
            headers: incoming.headers,
            ..SipFacts::default()
        },
        ..LegInfo::inbound(leg, session, owner, from, to, clock::time())
    };
    (info, incoming.offer)
}

/// Builds the legs of a call, one leg for each called party. The first leg has the id `id`, which the application
/// receives at once.
pub fn outbound_legs(id: LegId, session: CallId, mut call: NewCall, now: Timestamp) -> (NewLeg, Vec<NewLeg>) {
    let also = std::mem::take(&mut call.also);
    let race = (!also.is_empty()).then_some(id);
    if let (Some(_), Some(stream)) = (race, &mut call.plan.stream) {
        // Before the answer, it is unknown which leg stays in the call.
        stream.connect_timing = ConnectTiming::AtAnswer;
    }
    let first = outbound_leg(id, session, call, race, now);
    let another = |to: Address| {
        let mut leg = first.clone();
        leg.info.id = LegId::new(now, &mut rand::rng());
        leg.info.to = to.clone();
        leg.invite.to = to;
        leg
    };
    let others = also.into_iter().map(another).collect();
    (first, others)
}

fn outbound_leg(id: LegId, session: CallId, call: NewCall, race: Option<LegId>, now: Timestamp) -> NewLeg {
    let NewCall { owner, invite, plan, record, fallback, status, client_state, handover, .. } = call;
    let info = LegInfo {
        client_state,
        status_callback: status,
        fallback,
        handover,
        ..LegInfo::outbound(id, session, owner, &invite, now)
    };
    let record = record.map(|spec| NewRecording { id: RecordingId::new(now, &mut rand::rng()), spec });
    NewLeg { info, invite, plan, record, race }
}
