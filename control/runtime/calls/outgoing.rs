//! Calls that applications request.

use std::iter;
use std::sync::Arc;

use jiff::Timestamp;
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegInfo, Status};
use tandem_causes::{Cause, FOREIGN_CALLER, UNSTORED};
use tandem_dialect::ReportedError;
use tandem_history::problem::Problem;
use tandem_history::records;
use tandem_host::clock;
use tandem_id::{CallId, LegId};
use tandem_routing::CallerIdCheck;
use tandem_routing::new_call::{CreateError, Created, NewCall, outbound_legs};
use tandem_store::{self as store, StoreFailed};

use super::Calls;
use crate::call_task::{self, CallStart};
use crate::inbox::{Message, PostError};

impl Calls {
    /// Makes an outbound call, if the account may use the calling number of the call. Returns without waiting for the
    /// progress of the call. Events report the progress.
    pub async fn create(&self, call: NewCall) -> Result<Created, CreateError> {
        let id = LegId::new(clock::time(), &mut rand::rng());
        self.create_if_allowed(id, call).await
    }

    /// Does the same as [`Calls::create`], with a given id for the leg. So a caller of this function can subscribe to
    /// the leg's events before the leg exists. The id must be unused.
    pub async fn create_if_allowed(&self, id: LegId, call: NewCall) -> Result<Created, CreateError> {
        let check = self.services().routing.load_full().caller(&call.owner.account, &call.invite.from);
        if check == CallerIdCheck::Refused {
            return Err(CreateError::ForeignCaller(call.invite.from.to_string()));
        }
        let created = self.create_as(id, call).await?;
        if check == CallerIdCheck::Tolerated {
            self.note_foreign_caller(&created.leg);
        }
        Ok(created)
    }

    /// Does the same as [`Calls::create`], but does not check the calling number. The account must have proved in
    /// another way that it may use the number.
    pub async fn create_from_anywhere(&self, call: NewCall) -> Result<Created, CreateError> {
        let id = LegId::new(clock::time(), &mut rand::rng());
        self.create_as(id, call).await
    }

    /// Reports that the provider would have refused the calling number. The report goes to the call's log, and is also
    /// stored as a notification.
    fn note_foreign_caller(&self, leg: &LegInfo) {
        let dialect = self.services().dialects.get(&leg.dialect);
        let code = dialect.and_then(|dialect| dialect.error_number(ReportedError::ForeignCaller));
        let refused = code.map_or_else(
            || "the provider would refuse this".to_owned(),
            |code| format!("the provider would refuse this ({code})"),
        );
        let message = format!("{refused}: {} {FOREIGN_CALLER}", leg.from);
        let problem = Problem::warning(Cause::ForeignCallerId, message.clone());
        let problem = match code {
            Some(code) => problem.notified(code, message, None),
            None => problem,
        };
        self.report_with_line(leg.into(), problem);
    }

    /// Does the same as [`Calls::create_from_anywhere`], with a given id for the leg. The id must be unused.
    pub async fn create_as(&self, id: LegId, call: NewCall) -> Result<Created, CreateError> {
        if !self.accepts() {
            return Err(CreateError::Draining);
        }
        let services = self.services();
        if let Some(name) = services.routing.load_full().refused_header(&call.invite.headers) {
            return Err(CreateError::IdentityHeader(name.to_owned()));
        }
        if let Some(shortage) = services.media.shortage() {
            return Err(shortage.into());
        }
        for to in iter::once(&call.invite.to).chain(&call.also) {
            services.check_route(&call.owner.account, &call.owner.dialect, to, &call.invite.via).await?;
        }
        let linked = match call.link_to {
            Some(leg) => Some((
                self.0.registry.inbox(leg.0).ok_or(CreateError::NoSuchLeg)?,
                self.0.registry.live().get(leg).ok_or(CreateError::NoSuchLeg)?.session,
            )),
            None => None,
        };
        let now = clock::time();
        let session = match &linked {
            Some((_, session)) => *session,
            None => CallId::new(now, &mut rand::rng()),
        };
        let routing = services.routing.load_full();
        let number = routing.stored_number_id(&call.owner.account, &call.invite.from);
        let (mut leg, others) = outbound_legs(id, session, call, now);
        leg.info.sip.number = number;
        let recording = leg.record.as_ref().map(|new| new.id);
        let first = Arc::new(leg.info.clone());
        let other_infos = others.iter().map(|leg| Arc::new(leg.info.clone()));
        let infos: Vec<_> = iter::once(Arc::clone(&first)).chain(other_infos).collect();
        let legs: Vec<_> = iter::once(leg).chain(others).collect();
        let free_channels = || infos.iter().for_each(|leg| services.channels.free(leg.id));
        if let Err(barred) = legs.iter().try_for_each(|leg| services.take_outbound(&routing, &leg.info)) {
            free_channels();
            return Err(barred.into());
        }
        for leg in &infos {
            let row = records::call_row(leg, now);
            if let Err(error) = store::calls::upsert(&services.store, row).await {
                free_channels();
                return Err(StoreFailed::from(error).into());
            }
        }
        // A client that receives the id of a call may request this call after a crash.
        if let Err(error) = services.store.flush().await {
            free_channels();
            for leg in legs {
                let info = Arc::new(never_called(leg.info, now));
                store::calls::upsert(&services.store, records::call_row(&info, now))
                    .await
                    .map_err(StoreFailed::from)?;
            }
            return Err(StoreFailed::from(error).into());
        }
        match linked {
            Some((inbox, _)) => {
                infos.iter().for_each(|info| self.0.registry.live().update(info, &inbox));
                if let Err(not_taken) = inbox.offer(Message::NewLegs(legs)) {
                    // No client knows the ids of these legs yet.
                    for leg in &infos {
                        self.0.registry.forget(leg.id.0);
                        let deleted = store::calls::delete(&services.store, &leg.account, leg.id.0).await;
                        deleted.map_err(StoreFailed::from)?;
                    }
                    return Err(match not_taken {
                        PostError::Over => CreateError::NoSuchLeg,
                        PostError::Full => CreateError::Full,
                    });
                }
            }
            None => {
                let (inbox, receiver) = self.0.registry.open(session);
                infos.iter().for_each(|info| self.0.registry.live().update(info, &inbox));
                self.0.registry.register(session.0, inbox.clone());
                call_task::spawn(self.0.registry.clone(), session, inbox, receiver, CallStart::Outgoing(legs));
            }
        }
        Ok(Created { leg: first, recording })
    }
}

/// Returns the failed state of a leg that was refused because its record could not be stored. The writer may still
/// store the original record later.
fn never_called(mut leg: LegInfo, at: Timestamp) -> LegInfo {
    let detail = Some(UNSTORED.to_owned());
    leg.end =
        Some(LegEnd { at, cause: EndCause::Failed, by: EndedBy::Server, sip_status: None, detail, failure: None });
    leg.status = Status::Failed;
    leg
}
