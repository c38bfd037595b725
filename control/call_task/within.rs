//! Calling an application of this server: another leg of ours, in a call of its own, is the far end.

use std::sync::Arc;

use tandem_call::address::Address;
use tandem_call::handover::{Handover, MOST_IN_A_ROW};
use tandem_call::id::{CallId, LegId};
use tandem_call::leg::{Direction, LegInfo, SipFacts, Status};
use tandem_call::output::{LegEvent, LegGone};
use tandem_media as media;

use super::CallTask;
use crate::account::made::Standing;
use crate::clock;
use crate::leg::LegIo;
use crate::local::Tie;
use crate::registry::Within;

impl CallTask {
    /// Calls the application of this id for a leg.
    pub(super) fn call_application(&mut self, leg: LegId, id: &str) {
        self.calls.register(leg.0, self.inbox.clone());
        let mut io = LegIo::outgoing(leg, self.services.sip().clone());
        let failed = self.reach_application(leg, id, &mut io).err();
        self.legs.insert(leg, Box::new(io));
        if let Some(detail) = failed {
            self.warn(leg, |dialect| dialect.callee_code(&Address::Application(id.into())), &detail);
            let (reason, detail) = (LegGone::Unreachable, Some(detail));
            self.found_out(leg, LegEvent::Ended { reason, sip_status: None, detail });
        }
    }

    fn reach_application(&mut self, leg: LegId, id: &str, io: &mut LegIo) -> Result<(), String> {
        let info = self.call.leg(leg).cloned().ok_or("the leg is over")?;
        let handover = info.handover.as_deref().cloned().unwrap_or_default();
        if handover.depth > MOST_IN_A_ROW {
            return Err(format!(
                "application {id} was not called: {MOST_IN_A_ROW} applications have called one another already"
            ));
        }
        let services = Arc::clone(&self.services);
        let active = |account: &str| services.accounts.standing(account) == Standing::Active;
        let route = services.routing.get().to_own_application(&info.account, &info.dialect, id);
        let route = route.filter(|route| active(&route.account));
        let route = route.ok_or_else(|| format!("there is no application {id} that takes calls of this account"))?;
        let parent = info.parent.and_then(|parent| self.call.leg(parent));
        let called = parent.filter(|_| handover.as_called).map(|parent| parent.to.clone());
        let account = services.dialects.get(&info.dialect).zip(services.accounts.by_name(&info.account));
        let customer = || account.and_then(|(dialect, account)| dialect.account_id(&account));
        let other = self.other_leg(leg).and_then(|other| self.legs.get(&other)).map(|io| io.preference());
        let session = self.open_within(leg).map_err(|_| "no media session".to_owned())?;
        let (now, rng) = (clock::time(), &mut rand::rng());
        let (own, session_id) = (LegId::new(now, rng), CallId::new(now, rng));
        let (tie, far) = Tie::pair(&self.calls, leg, own);
        io.prefer(other.unwrap_or_default());
        let offer = io.call_within(session, tie);
        let far_end = LegInfo {
            id: own,
            session: session_id,
            parent: None,
            account: Arc::clone(&route.account),
            dialect: Arc::clone(&route.dialect),
            application: route.application.clone(),
            direction: Direction::Inbound,
            from: info.from.clone(),
            to: called.unwrap_or_else(|| Address::Name(id.into())),
            caller_name: info.caller_name.clone(),
            forwarded_from: None,
            status: Status::Initiated,
            created_at: now,
            answered_at: None,
            answered_by: None,
            end: None,
            client_state: None,
            status_callback: None,
            fallback: None,
            sip: SipFacts::default(),
            handover: Some(Box::new(Handover { customer: handover.customer.clone().or_else(customer), ..handover })),
        };
        self.calls.begin_within(Within { info: far_end, from: leg, offer, tie: far }, route);
        Ok(())
    }

    pub(super) fn open_within(&self, leg: LegId) -> Result<media::Session, u16> {
        let (key, affinity) = (media::SessionKey(leg.0), self.call.id().0);
        self.services
            .media
            .open_within(key, affinity, self.inbox.sink())
            .inspect_err(|error| tracing::warn!(call = %self.call.id(), %leg, %error, "no media session"))
            .map_err(|_| 503)
    }
}
