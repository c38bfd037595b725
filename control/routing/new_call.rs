//! Legs that begin: what an application says of a new call, and what an INVITE does.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::call::{NewLeg, OnAnswer};
use tandem_call::conference::Participation;
use tandem_call::handover::Handover;
use tandem_call::id::{CallId, LegId, RecordingId};
use tandem_call::leg::{Direction, EndCause, LegInfo, SipFacts, Status};
use tandem_call::machine::MachineDetection;
use tandem_call::output::Invite;
use tandem_call::program::instruction::{Credentials, Play, Program, SendDigits};
use tandem_call::recording::{NewRecording, RecordingSpec};
use tandem_call::stream::{Opens, StreamSpec};
use tandem_call::supervision::{Supervision, SupervisorRole};
use tandem_call::{Callback, Target};
use tandem_clock as clock;
use tandem_sip as sip;
use tandem_store::StoreFailed;
use tandem_store::domains::DomainRow;

use crate::channels::Barred;
use crate::trunk::identity;

/// A call to be made.
#[derive(Clone, Debug)]
pub struct NewCall {
    /// Whose.
    pub account: Arc<str>,
    /// The dialect that speaks for it.
    pub dialect: &'static str,
    /// The application it belongs to.
    pub application: Option<Arc<str>>,
    /// Who is called.
    pub to: Address,
    /// The trunks it goes over, as [`Invite::via`] has them.
    pub via: Vec<Arc<str>>,
    /// Others who are called at the same time; the first of all who answers has the call.
    pub also: Vec<Address>,
    /// Who calls.
    pub from: Address,
    /// Name shown with it.
    pub caller_name: Option<String>,
    /// Extra SIP headers.
    pub headers: Vec<(String, String)>,
    /// For a peer that challenges.
    pub credentials: Option<Credentials>,
    /// How long it may ring.
    pub timeout: Duration,
    /// What its end is called if nobody answers in that time.
    pub unanswered: EndCause,
    /// How long it may last from the answer.
    pub time_limit: Option<Duration>,
    /// What it does once answered.
    pub first: First,
    /// Asked for when that document, or a later one, fails.
    pub fallback: Option<Target>,
    /// DTMF sent first.
    pub send_digits: Option<String>,
    /// Who answers is found out.
    pub detect: Option<Box<MachineDetection>>,
    /// Recorded from the answer.
    pub record: Option<RecordingSpec>,
    /// Streamed from the answer.
    pub stream: Option<StreamSpec>,
    /// Told of its progress.
    pub status: Option<Callback>,
    /// Opaque word of the application.
    pub client_state: Option<String>,
    /// Made within that leg's session.
    pub link_to: Option<LegId>,
    /// Joined to `link_to` when answered.
    pub bridge_on_answer: bool,
    /// Hung up instead if `link_to` is joined to a third leg by then.
    pub if_free: bool,
    /// What an application of this server is told, if it is one that is called.
    pub handover: Option<Box<Handover>>,
}

/// How long a call may ring and last, where nothing else says so.
const RINGS_FOR: Duration = Duration::from_secs(60);
const LASTS_FOR: Duration = Duration::from_secs(14_400);

impl NewCall {
    /// A call that begins with `first`, with nothing else asked for.
    pub fn plain(account: Arc<str>, dialect: &'static str, to: Address, from: Address, first: First) -> Self {
        Self {
            account,
            dialect,
            application: None,
            to,
            via: Vec::new(),
            also: Vec::new(),
            from,
            caller_name: None,
            headers: Vec::new(),
            credentials: None,
            timeout: RINGS_FOR,
            unanswered: EndCause::NoAnswer,
            time_limit: Some(LASTS_FOR),
            first,
            fallback: None,
            send_digits: None,
            detect: None,
            record: None,
            stream: None,
            status: None,
            client_state: None,
            link_to: None,
            bridge_on_answer: false,
            if_free: false,
            handover: None,
        }
    }
}

/// A call that has been made: what its application is told at once.
#[derive(Clone, Debug)]
pub struct Created {
    /// The new leg.
    pub leg: Arc<LegInfo>,
    /// The recording that begins with the answer.
    pub recording: Option<RecordingId>,
}

/// What a new call does once answered.
#[derive(Clone, PartialEq, Debug)]
pub enum First {
    /// Fetch this.
    Document(Target),
    /// Run this.
    Program(Program),
    /// Play this, then wait for commands.
    Play(Play),
    /// Take part in a conference, and wait for commands.
    Confer(Box<Participation>),
    /// Hear the call of `link_to`, and wait for commands.
    Supervise(SupervisorRole),
    /// Wait for commands.
    Commands,
}

/// Why a call cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// No trunk takes the number.
    #[error("no trunk takes {0}")]
    NoRoute(String),
    /// The calling number is neither a number nor a verified caller id of the account, and must be one.
    #[error("{0} is neither a number nor a verified caller id of the account")]
    ForeignCaller(String),
    /// `link_to` is not a live leg.
    #[error("no such leg to link to")]
    NoSuchLeg,
    /// Told to end: no new calls.
    #[error("the server is shutting down")]
    Draining,
    /// Every port of `media.ports` is taken.
    #[error("the server has no media port left")]
    NoPorts,
    /// Too many calls.
    #[error("the server takes no more calls")]
    Full,
    /// The connection may not make it, or not now.
    #[error(transparent)]
    Barred(#[from] Barred),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// The leg of an INVITE, and the offer in it. `domain`: the one that decides about it, where everybody is called by a SIP URI.
pub fn inbound_leg(
    leg: LegId,
    session: CallId,
    incoming: sip::Incoming,
    domain: Option<DomainRow>,
) -> (LegInfo, Option<bytes::Bytes>) {
    let party = |user: &str, uri: &str| match user.parse() {
        Ok(number) => Address::Phone(number),
        Err(_) => Address::from(uri),
    };
    // A phone is who its password says, whatever it calls itself.
    let username = incoming.caller.as_ref().and_then(|caller| caller.username.as_deref());
    let (from, to) = match &domain {
        Some(domain) => {
            let at = |user: &str| Address::Sip(format!("sip:{user}@{}", domain.name).into());
            (username.map_or_else(|| Address::from(&*incoming.from_uri), at), Address::from(&*incoming.request_uri))
        }
        None => {
            let from = match username.filter(|username| *username != incoming.from_user) {
                Some(username) => {
                    let host = incoming.to_uri.rsplit_once('@').map_or("", |(_, host)| host);
                    party(username, &format!("sip:{username}@{host}"))
                }
                None => party(&incoming.from_user, &incoming.from_uri),
            };
            (from, party(&incoming.to_user, &incoming.request_uri))
        }
    };
    let info = LegInfo {
        id: leg,
        session,
        parent: None,
        account: "".into(),
        dialect: "".into(),
        application: None,
        direction: Direction::Inbound,
        from,
        to,
        caller_name: incoming.from_display.clone(),
        forwarded_from: identity::forwarded_from(&incoming.headers),
        status: Status::Initiated,
        created_at: clock::time(),
        answered_at: None,
        answered_by: None,
        end: None,
        client_state: None,
        status_callback: None,
        fallback: None,
        sip: SipFacts {
            call_id: Some(incoming.sip_call_id.into()),
            dialog: incoming.dialog.map(|dialog| dialog.to_string().into()),
            source_ip: Some(incoming.source.ip()),
            trunk: incoming.trunk,
            domain: domain.map(|domain| format!("{:032x}", domain.id).into()),
            headers: incoming.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            ..SipFacts::default()
        },
        handover: None,
    };
    (info, incoming.offer)
}

/// The legs of a call to be made: one for each who is called. The first, which has this id, is the one that its application is
/// told of at once.
pub fn outbound_legs(id: LegId, session: CallId, mut call: NewCall, now: Timestamp) -> (NewLeg, Vec<NewLeg>) {
    let also = std::mem::take(&mut call.also);
    let race = (!also.is_empty()).then_some(id);
    if let (Some(_), Some(stream)) = (race, &mut call.stream) {
        // Who of several will answer is not known before.
        stream.opens = Opens::AtAnswer;
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
    let then = match call.first {
        First::Document(target) => OnAnswer::Document(target),
        First::Program(program) => OnAnswer::Program(program),
        First::Play(play) => OnAnswer::Play(play),
        First::Confer(participation) => OnAnswer::Confer(participation),
        First::Supervise(role) => {
            call.link_to.map_or(OnAnswer::Wait, |of| OnAnswer::Supervise(Supervision { of, role }))
        }
        First::Commands => OnAnswer::Wait,
    };
    let info = LegInfo {
        id,
        session,
        parent: None,
        account: call.account,
        dialect: call.dialect.into(),
        application: call.application,
        direction: Direction::OutboundApi,
        from: call.from.clone(),
        to: call.to.clone(),
        caller_name: call.caller_name.clone(),
        forwarded_from: None,
        status: Status::Queued,
        created_at: now,
        answered_at: None,
        answered_by: None,
        end: None,
        client_state: call.client_state,
        status_callback: call.status,
        fallback: call.fallback,
        sip: SipFacts::default(),
        handover: call.handover,
    };
    let invite = Invite {
        to: call.to,
        from: call.from,
        caller_name: call.caller_name,
        headers: call.headers,
        inherits: false,
        credentials: call.credentials,
        via: call.via,
        replaces: None,
    };
    NewLeg {
        info,
        invite,
        timeout: call.timeout,
        time_limit: call.time_limit,
        then,
        send_digits: call.send_digits.map(|digits| SendDigits { digits, tone: Duration::from_millis(100) }),
        detect: call.detect,
        record: call.record.map(|spec| NewRecording { id: RecordingId::new(now, &mut rand::rng()), spec }),
        stream: call.stream,
        bridge_to: call.link_to.filter(|_| call.bridge_on_answer),
        if_free: call.if_free,
        unanswered: call.unanswered,
        race,
    }
}
