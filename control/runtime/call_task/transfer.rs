//! Transfers that a far end requests with REFER. This module finds the destination of a transfer.

use tandem_call::address::Address;
use tandem_call::header_fields::HeaderFields;
use tandem_call::output::LegEvent;
use tandem_call::program::instruction::{Instruction, Program, RejectReason};
use tandem_call::refer::{ReferTarget, Referred};
use tandem_call::route::Decision;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_leg::signal::{SignalCommand, TransferRequest};
use tandem_markup::party;
use tandem_routing::phones;

use super::CallTask;
use crate::inbox::Message;

impl CallTask {
    /// Handles a REFER from the far end of `leg`.
    pub(super) fn handle_refer(&mut self, leg: LegId, request: TransferRequest) {
        let trunk = self.state.call.leg(leg).and_then(|info| info.sip.trunk.clone());
        let customer_trunks = self.services.routing.load_full().phones().customer_trunks();
        if trunk.is_some_and(|trunk| !customer_trunks.may_transfer(&trunk, &request.uri)) {
            if let Some(live) = self.state.legs.get_mut(&leg) {
                live.io.signal(SignalCommand::AnswerRefer { status: 403 });
            }
            return;
        }
        let target = self.refer_target(leg, &request);
        let elsewhere = match &target {
            ReferTarget::BridgedWith(other) if !self.state.legs.contains_key(other) => Some(*other),
            _ => None,
        };
        let event = LegEvent::Referred(Box::new(Referred { target, uri: request.uri, by: request.by }));
        let Some(other) = elsewhere else { return self.state.call.handle_leg(clock::now(), leg, event) };
        let (registry, inbox) = (self.registry.clone(), self.inbox.clone());
        tokio::spawn(async move {
            // If the merge fails, the call does not find the leg. The call then reports the failure to the far end that
            // sent the REFER.
            let _ = registry.merge(leg, other).await;
            // The call may have ended, so an error is ignored.
            let _ = inbox.post(Message::LegEvent(leg, event));
        });
    }

    fn refer_target(&self, leg: LegId, request: &TransferRequest) -> ReferTarget {
        if let Some(other) = request.replaced {
            return ReferTarget::BridgedWith(other);
        }
        let mut headers: HeaderFields =
            request.headers.iter().filter(|(name, _)| party::is_allowed_header(name)).cloned().collect();
        headers.extend(request.by.iter().map(|by| ("Referred-By".to_owned(), by.clone())));
        let replaces = request.replaces.clone();
        let call = |to, credentials, via| ReferTarget::Call { to, headers, replaces, credentials, via };
        // A GRUU identifies one particular phone of a user.
        let gruu = Address::Sip(request.uri.as_str().into());
        let account = self.state.call.leg(leg).map(|info| info.account.clone()).unwrap_or_default();
        if phones::instance(&gruu).is_some() && !self.services.routes(&account, &gruu, &[]).is_empty() {
            return call(gruu, None, Vec::new());
        }
        let number = match request.own_user.as_ref().or(request.telephone.as_ref()) {
            Some(user) => user.as_str(),
            None => return call(Address::Sip(request.uri.as_str().into()), None, Vec::new()),
        };
        let routing = self.services.routing.load_full();
        let info = self.state.call.leg(leg);
        let trunk = info.and_then(|info| info.sip.trunk.as_deref());
        match routing.inbound(trunk, number).map(|route| route.decision) {
            // A number whose program only forwards the call is dialled directly, so that the progress of the transfer
            // can be reported.
            Some(Decision::Program(Program { instructions, .. })) if leads_on(&instructions) => {
                let target = instructions.into_iter().find_map(|instruction| match instruction {
                    Instruction::Dial(dial) => dial.targets.into_iter().next(),
                    _ => None,
                });
                match target {
                    Some(target) => call(target.to, target.credentials, target.via),
                    None => ReferTarget::Number(Box::new(Decision::Reject(RejectReason::Status(404)))),
                }
            }
            Some(decision) => ReferTarget::Number(Box::new(decision)),
            None => {
                let dialect = info.map(|info| &*info.dialect).unwrap_or_default();
                let known = |to: &Address| {
                    routing.own(&account, dialect, to, &[]).is_some()
                        || !self.services.routes(&account, to, &[]).is_empty()
                };
                let places = [Address::from(number), Address::Client(number.into())];
                match places.into_iter().find(known) {
                    Some(to) => call(to, None, Vec::new()),
                    None => ReferTarget::Number(Box::new(Decision::Reject(RejectReason::Status(404)))),
                }
            }
        }
    }
}

fn leads_on(instructions: &[Instruction]) -> bool {
    matches!(instructions, [Instruction::Dial(dial)] if dial.targets.len() == 1 && dial.pass_failure)
}
