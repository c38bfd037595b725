//! Internal calls: calls to an application, a number or a domain of this server. The far end of such a call is another
//! leg of this server, which belongs to another call.

use std::sync::Arc;

use tandem_accounts::subaccount::AccountStatus;
use tandem_call::address::Address;
use tandem_call::internal_call::{InternalCall, MAX_CHAIN};
use tandem_call::leg::{LegInfo, SipFacts};
use tandem_call::output::{EndReason, Invite};
use tandem_call::program::instruction::RejectReason;
use tandem_call::route::{Decision, Route};
use tandem_causes::NO_MEDIA;
use tandem_host::clock;
use tandem_id::{CallId, LegId};
use tandem_legs::internal::{Deliver, InternalSignalling};
use tandem_legs::sip::PendingCall;
use tandem_legs::{LegIo, RouteMedia, Signalling};
use tandem_media as media;
use tandem_routing::{InternalDestination, Routing};

use super::{CallStart, CallTask};
use crate::registry::Registry;

/// The reason why an internal call was not made, with a text for people.
pub(super) struct NotCalled {
    pub(super) reason: EndReason,
    pub(super) detail: String,
}

impl CallTask {
    /// Calls a destination of this server. Creates the far leg in a separate call, where the far leg rings.
    ///
    /// # Errors
    /// Returns the end of the leg, with the reason as text for people.
    pub(super) fn start_internal_call(
        &mut self,
        leg: LegId,
        routing: &Arc<Routing>,
        invite: &Invite,
        own: InternalDestination,
        io: &mut LegIo,
    ) -> Result<(), NotCalled> {
        let not_called =
            |why: &str, reason| NotCalled { reason, detail: format!("{} was not called: {why}", invite.to) };
        let InternalDestination { route, called } = own;
        let unreachable = EndReason::Unreachable;
        let info = self.state.call.leg(leg).cloned().ok_or_else(|| not_called("the leg is over", unreachable))?;
        let parent = info.parent.and_then(|parent| self.state.call.leg(parent));
        let depth = match &info.handover {
            Some(handover) => handover.depth,
            None => parent.map_or(0, |parent| parent.depth()).saturating_add(1),
        };
        if depth > MAX_CHAIN {
            let why = format!("a chain of {MAX_CHAIN} calls within this server leads to it already");
            return Err(not_called(&why, EndReason::Loop));
        }
        if !io.call_chain.try_add() {
            return Err(not_called("too many calls within this server have the same origin", EndReason::Loop));
        }
        let services = Arc::clone(&self.services);
        if services.accounts.status(&route.owner.account) != AccountStatus::Active {
            return Err(not_called("its account is not active", unreachable));
        }
        let handover = Box::new(match info.handover.as_deref() {
            Some(handover) => {
                let account = services.dialects.get(&info.dialect).zip(services.accounts.by_name(&info.account));
                let customer = || account.and_then(|(dialect, account)| dialect.account_id(&account));
                InternalCall { customer: handover.customer.clone().or_else(customer), ..handover.clone() }
            }
            None => InternalCall { depth, ..InternalCall::default() },
        });
        let called = parent.filter(|_| handover.as_called).map_or(called, |parent| parent.to.clone());
        let other = self.other_leg(leg).and_then(|other| self.state.legs.get(&other)).map(|live| live.io.preference());
        let no_media = |_| NotCalled { reason: unreachable, detail: NO_MEDIA.to_owned() };
        let session = self.open_internal_media(leg).map_err(no_media)?;
        self.state.call.set_internal_call(leg);
        let (now, rng) = (clock::time(), &mut rand::rng());
        let (own, session_id) = (LegId::new(now, rng), CallId::new(now, rng));
        let registry = self.registry.clone();
        let deliver: Deliver = Arc::new(move |leg, event| registry.signal(leg, event));
        let (near, far) = InternalSignalling::pair(&deliver, leg, own, &io.call_chain);
        let offer = io.call_internally(session, other.unwrap_or_default(), near);
        let sip = SipFacts {
            domain: domain_called(routing, &called),
            number: routing.stored_number_id(&route.owner.account, &called),
            headers: invite.headers.clone(),
            ..SipFacts::default()
        };
        let far_end = LegInfo {
            caller_name: invite.caller_name.clone(),
            sip,
            handover: Some(handover),
            ..LegInfo::inbound(own, session_id, route.owner.clone(), invite.from.clone(), called, now)
        };
        begin(&self.registry, far_end, leg, offer, far, (route, Arc::clone(routing)));
        Ok(())
    }

    pub(super) fn open_internal_media(&self, leg: LegId) -> Result<media::Session, u16> {
        let spec = media::OpenSpec::new(leg, self.state.call.id().0);
        let spec = media::OpenSpec { far_end: media::FarEnd::Within, ..spec };
        self.media_session(leg, self.services.media.open(spec, self.inbox.sink(leg)))
    }
}

/// Returns the id of the SIP domain in a called address, as 32 hex digits.
fn domain_called(routing: &Routing, called: &Address) -> Option<Arc<str>> {
    let Address::Sip(uri) = called else { return None };
    routing.phones().domain_of(uri).map(|domain| format!("{:032x}", domain.id).into())
}

/// Begins the call of the called leg `info`. `from` is the leg of this server that calls `info`. `internal`
/// is the connection from the called leg to the calling leg.
fn begin(
    registry: &Registry,
    info: LegInfo,
    from: LegId,
    offer: bytes::Bytes,
    internal: InternalSignalling,
    (mut route, routing): (Route, Arc<Routing>),
) {
    let (leg, session) = (info.id, info.session);
    if registry.services().take_inbound(&routing, leg, None, &route, &info.to.user()).is_err() {
        (route.decision, route.status) = (Decision::Reject(RejectReason::Busy), None);
    }
    let (inbox, receiver) = registry.open(session);
    registry.register(leg.0, inbox.clone());
    registry.register(session.0, inbox.clone());
    let beginning = CallStart::Incoming {
        line: format!("called by leg {from} of this server"),
        info: Box::new(info),
        offer: Some(offer),
        signalling: Signalling::Internal(Box::new(internal)),
        media: RouteMedia::new(&routing, None, None),
        route: Box::new(route),
        waiting: PendingCall::default(),
    };
    super::spawn(registry.clone(), session, inbox, receiver, beginning);
}
