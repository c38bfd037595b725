//! A leg stored as data, and continued in another endpoint.
//!
//! ```text
//!   Endpoint::dialog_state ──> DialogState ──> text ──> DialogState ──> Endpoint::resume ──> a live leg
//! ```
//!
//! The new endpoint sends each open request of the leg again, unchanged. For the far end this is a retransmission, so
//! the far end sends its last response again (RFC 3261 §17.2). Requests of the far end that are open keep their Via, so
//! that the new endpoint can respond to them. Final responses of the old endpoint are not stored, except the 200
//! to an INVITE whose ACK is missing. If the far end retransmits another request that was answered, it gets 500.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tandem_id::{Deadline, Now};

use super::Endpoint;
use super::core::Core;
use super::offer::{Carrier, Offer, OfferState, WaitingOffer};
use super::origin::Origin;
use super::refer::{Referral, Subscription};
use super::reliable::{Early, Reliable, Unacknowledged};
use super::session_timer::SessionTimer;
use super::state::{AwaitingAck, Calling, CallingHangup, End, EndReport, Extensions, Leg, State, tag_number};
use super::transactions::Transactions;
use super::transactions::client::{Acknowledge, InDialogRequest, NewClient, Purpose};
use super::transactions::server::{ResumedServer, Server};
use crate::dialog::Dialog;
use crate::dialog_state::{
    DialogState, Octets, ResumeError, StoredAcknowledge, StoredAgain, StoredCalling, StoredCarrier, StoredCause,
    StoredDialog, StoredEarly, StoredEnd, StoredFlow, StoredHangup, StoredLeg, StoredOffer, StoredOfferState, StoredOk,
    StoredPhase, StoredProgress, StoredProvisional, StoredPurpose, StoredReferral, StoredReliable, StoredRequest,
    StoredServer, StoredSubscription, StoredTimer,
};
use crate::digest;
use crate::digest::Credentials;
use crate::flow::Flow;
use crate::keys::{ClientId, LegSlot, ServerId};
use crate::leg::{EndCause, LegId, Outgoing};
use crate::message::{Echo, Method, NameAddr};

impl Endpoint {
    /// Returns all that a leg knows, in a form that can be stored. Returns `None` if there is no such leg. The
    /// time is proportional to the number of transactions of the endpoint.
    #[must_use]
    pub fn dialog_state(&self, now: Now, leg: LegId) -> Option<DialogState> {
        let slot = self.dialogs.id_of(leg)?;
        let leg = self.dialogs.legs.get(slot)?;
        let writer = Writer { now, core: &self.core, transactions: &self.transactions };
        let trunk = leg.trunk.and_then(|index| self.trunks.get(index)).map(|trunk| trunk.trunk.to_string());
        let stored = StoredLeg { trunk, ..writer.leg(slot, leg) };
        Some(DialogState::new(writer.dialog(&leg.dialog), Some(Box::new(stored))))
    }

    /// Continues a dialog of another endpoint under this id. `credentials` are those of the application, if the call
    /// does not use the credentials of its trunk. A state without the rest of the leg becomes an answered leg without
    /// timers. The call counts towards the limits of its trunk, but the limits do not refuse it.
    ///
    /// # Errors
    /// [`ResumeError`] says why the dialog cannot be continued. The endpoint does not change in this case.
    pub fn resume(
        &mut self,
        now: Now,
        leg: LegId,
        state: DialogState,
        credentials: Option<Credentials>,
    ) -> Result<(), ResumeError> {
        let DialogState { dialog, leg: stored, .. } = state;
        let reader = Reader { now };
        let dialog = reader.dialog(&self.core, dialog)?;
        let tag =
            NameAddr::tag_of(&dialog.local).and_then(|tag| tag_number(&tag)).ok_or(ResumeError::Malformed("local"))?;
        if self.dialogs.holds(leg) || self.lookups.holds(leg) || self.dialogs.by_tag.contains_key(&tag) {
            return Err(ResumeError::Live);
        }
        if self.dialogs.len() >= self.core.config.max_legs || !self.has_room() {
            return Err(ResumeError::Overload);
        }
        let Some(mut stored) = stored else {
            let (dialogs, mut cx) = self.dialogs(now.instant);
            dialogs.insert_leg(&mut cx, |_, _| Leg::new(leg, tag, dialog, State::Established));
            return Ok(());
        };
        let trunk = stored.trunk.as_deref().and_then(|trunk| self.trunks.index_of(trunk));
        let of_trunk = || trunk.and_then(|index| self.trunks.get(index)?.credentials.clone());
        let session = credentials.or_else(of_trunk).map(|own| {
            let networks = stored.trusted_networks.take().unwrap_or_default();
            digest::Session::new(own).for_networks(networks)
        });
        let extensions = reader.extensions(&stored);
        let bare = Leg {
            incoming: stored.incoming,
            session,
            trunk,
            extensions,
            awaiting_ack: reader.awaiting_ack(&self.core, stored.awaiting_ack.take())?,
            waiting_offer: stored
                .waiting_offer
                .take()
                .map(|(offer, at)| WaitingOffer { offer: reader.offer(offer), at: reader.at(at) }),
            end_report: if stored.reported { EndReport::Done } else { EndReport::Pending },
            ..Leg::new(leg, tag, dialog, State::Established)
        };
        let reliable = stored.reliable.take().map(|stored| reader.reliable(&self.core, stored)).transpose()?;
        let phase = reader.check(&self.core, &stored)?;
        self.trunks.count(&mut self.core, trunk);
        let (dialogs, mut cx) = self.dialogs(now.instant);
        let slot = dialogs.insert_leg(&mut cx, |_, _| bare);
        self.continue_leg(reader, slot, tag, *stored, phase, reliable);
        Ok(())
    }

    /// Continues the transactions of a leg, and sets the state that depends on them.
    fn continue_leg(
        &mut self,
        reader: Reader,
        slot: LegSlot,
        tag: u64,
        stored: StoredLeg,
        phase: Phase,
        reliable: Option<Box<Reliable>>,
    ) {
        let StoredLeg { offer, subscription, requests, reported, may_refer, .. } = stored;
        let Self { core, transactions, dialogs, .. } = self;
        let remote_tag =
            dialogs.legs.get(slot).map(|leg| core.stateless_tag(&leg.dialog.remote_tag)).unwrap_or_default();
        let clients = reader.requests(core, transactions, (slot, remote_tag), requests);
        let open =
            |purposes: &[Purpose]| clients.iter().find(|(purpose, _)| purposes.contains(purpose)).map(|one| one.1);
        let mut server = |stored: StoredServer| reader.server(core, transactions, slot, tag, may_refer, stored);
        let state = match phase {
            Phase::Calling(calling) => {
                State::Calling(Box::new(Calling { client: open(&[Purpose::Invite]).unwrap_or_default(), ..*calling }))
            }
            Phase::Ringing { server: invite, repeat, expires } => {
                let server = server(*invite);
                State::Ringing { server, repeat, expires }
            }
            Phase::Established => State::Established,
            Phase::Ending(end) => State::Ending(end),
        };
        let offer = match offer {
            StoredOfferState::Idle => OfferState::Idle,
            StoredOfferState::FirstReceived => OfferState::FirstReceived,
            StoredOfferState::FirstOwed => OfferState::FirstOwed,
            StoredOfferState::SentInOk => OfferState::SentInOk,
            StoredOfferState::Sent(offer) => {
                OfferState::Sent { offer: reader.offer(offer), client: open(&[Purpose::Reinvite, Purpose::Update]) }
            }
            StoredOfferState::Received(carriers) => {
                let mut state = OfferState::Idle;
                for carrier in carriers {
                    state.receive(match carrier {
                        StoredCarrier::Response(stored) => Carrier::Response(server(*stored)),
                        StoredCarrier::Prack { tag, lines } => Carrier::Prack { tag: tag.0, lines },
                        StoredCarrier::Ack { tag, cseq, authorization } => {
                            let client = open(&[Purpose::Invite]).unwrap_or_default();
                            Carrier::Ack { tag: tag.0, client, cseq, authorization }
                        }
                        StoredCarrier::None { tag } => Carrier::None { tag: tag.0 },
                    });
                }
                state
            }
        };
        let subscription = subscription.map(|stored| {
            let StoredSubscription { server: refer, id, quiet, out, next, last } = stored;
            Box::new(Subscription { server: refer.map(|refer| server(*refer)), id, quiet, out, next, last })
        });
        let ends = reported || matches!(state, State::Ending(_));
        let Some(leg) = dialogs.legs.get_mut(slot) else { return };
        leg.state = state;
        leg.offer = offer;
        leg.extensions.subscription = subscription;
        leg.extensions.reliable = reliable;
        if let Some(ack) = &leg.awaiting_ack {
            transactions.resume_answered_invite(core, ack.deadline, slot, tag, &ack.response, ack.initial);
        }
        let t1 = core.config.timers.t1;
        if ends {
            leg.report_end_by(reader.now.instant + t1 * 4);
            // The leg does not need the answer to its offer any more.
            let at = reader.now.instant + core.config.timers.timeout();
            for (_, client) in clients.iter().filter(|(purpose, _)| *purpose == Purpose::Reinvite) {
                transactions.abandon(core, *client, at);
            }
        } else if matches!(&leg.state, State::Calling(calling) if calling.is_hung_up()) {
            leg.report_end_by(reader.now.instant + t1 * 4);
        }
        let (dialogs, mut cx) = self.dialogs(reader.now.instant);
        dialogs.with(&mut cx, slot, |leg| leg.arm_leg());
    }
}

/// Writes the parts of a leg.
struct Writer<'a> {
    now: Now,
    core: &'a Core,
    transactions: &'a Transactions,
}

impl Writer<'_> {
    fn at(&self, at: Instant) -> Timestamp {
        Deadline::at(at).to_wall_time(self.now)
    }

    fn flow(&self, flow: Flow) -> StoredFlow {
        StoredFlow::of(flow, self.socket(flow))
    }

    fn dialog(&self, dialog: &Dialog) -> StoredDialog {
        dialog.stored(self.socket(dialog.flow))
    }

    /// Returns the bound address of the local socket of a flow.
    fn socket(&self, flow: Flow) -> Option<SocketAddr> {
        self.core.locals.get(flow.local).map(|local| local.bound)
    }

    fn leg(&self, slot: LegSlot, leg: &Leg) -> StoredLeg {
        let Extensions { negotiated_timer, session, reliable, subscription, referral, .. } = &leg.extensions;
        StoredLeg {
            incoming: leg.incoming,
            phase: self.phase(&leg.state),
            reported: leg.is_reported(),
            trunk: None,
            trusted_networks: leg.session.as_ref().map(|session| session.trusted_networks().to_vec()),
            hops: leg.extensions.origin.hops,
            branch_of: leg.extensions.branch_of,
            may_refer: leg.extensions.may_refer,
            records: leg.extensions.records,
            allows_update: leg.extensions.far_end_allows_update,
            is_own_request: leg.extensions.is_own_request,
            offer: self.offer_state(&leg.offer),
            waiting_offer: leg.waiting_offer.as_ref().map(|one| (offer(&one.offer), self.at(one.at))),
            awaiting_ack: leg.awaiting_ack.as_ref().map(|ack| StoredOk {
                cseq: ack.cseq,
                initial: ack.initial,
                response: (&ack.response).into(),
                flow: self.flow(ack.flow),
                interval_ms: milliseconds(ack.interval),
                retransmit: self.at(ack.retransmit),
                deadline: self.at(ack.deadline),
                bye: ack.bye.as_ref().map(|(headers, end)| (headers.clone(), stored_end(end))),
            }),
            negotiated_timer: *negotiated_timer,
            timer: session.as_ref().map(|session| StoredTimer {
                interval: session.interval,
                we_refresh: session.we_refresh,
                refresh_at: session.refresh_at.map(|at| self.at(at)),
                expires_at: self.at(session.expires_at),
            }),
            reliable: reliable.as_ref().map(|reliable| self.reliable(reliable)),
            subscription: subscription.as_ref().map(|one| StoredSubscription {
                server: one.server.and_then(|server| self.server(server)).map(Box::new),
                id: one.id,
                quiet: one.quiet,
                out: one.out,
                next: one.next,
                last: one.last,
            }),
            referral: referral.as_ref().map(|one| StoredReferral {
                accepted: one.accepted,
                last: one.last,
                deadline: self.at(one.deadline),
            }),
            requests: self.requests(slot),
        }
    }

    fn phase(&self, state: &State) -> StoredPhase {
        match state {
            State::Calling(calling) => {
                let Outgoing { headers, prack, replaces, has_alternatives, sdp, second_offer, recording, .. } =
                    &*calling.outgoing;
                StoredPhase::Calling(Box::new(StoredCalling {
                    headers: headers.clone(),
                    prack: *prack,
                    replaces: replaces.clone(),
                    has_alternatives: *has_alternatives,
                    sdp: sdp.into(),
                    second_offer: second_offer.into(),
                    recording: recording.as_ref().map(Into::into),
                    provisional: calling.provisional,
                    hangup: match &calling.hangup {
                        CallingHangup::No => None,
                        CallingHangup::Wanted(headers) => {
                            Some(StoredHangup { headers: headers.clone(), give_up: None })
                        }
                        CallingHangup::Cancelled { bye_headers, give_up } => {
                            Some(StoredHangup { headers: bye_headers.clone(), give_up: Some(self.at(*give_up)) })
                        }
                    },
                    asked_at: self.at(calling.asked_at),
                    early: calling
                        .early
                        .iter()
                        .map(|early| StoredEarly {
                            dialog: self.dialog(&early.dialog),
                            last: early.last,
                            settled: early.settled,
                            answer: early.answer.as_ref().map(Into::into),
                        })
                        .collect(),
                    last_offer_from: (&calling.last_offer_from).into(),
                    min_se: calling.min_se,
                }))
            }
            State::Ringing { server, repeat, expires } => match self.server(*server) {
                Some(server) => StoredPhase::Ringing {
                    server: Box::new(server),
                    repeat: repeat.map(|at| self.at(at)),
                    expires: expires.map(|at| self.at(at)),
                },
                // A ringing leg always has its transaction.
                None => StoredPhase::Established,
            },
            State::Established => StoredPhase::Established,
            State::Ending(end) => StoredPhase::Ending(stored_end(end)),
        }
    }

    fn offer_state(&self, state: &OfferState) -> StoredOfferState {
        match state {
            OfferState::Idle => StoredOfferState::Idle,
            OfferState::FirstReceived => StoredOfferState::FirstReceived,
            OfferState::FirstOwed => StoredOfferState::FirstOwed,
            OfferState::SentInOk => StoredOfferState::SentInOk,
            OfferState::Sent { offer: sent, .. } => StoredOfferState::Sent(offer(sent)),
            OfferState::Received(carriers) => StoredOfferState::Received(
                carriers
                    .iter()
                    .filter_map(|carrier| {
                        Some(match carrier {
                            Carrier::Response(server) => StoredCarrier::Response(Box::new(self.server(*server)?)),
                            Carrier::Prack { tag, lines } => {
                                StoredCarrier::Prack { tag: tag.into(), lines: lines.clone() }
                            }
                            Carrier::Ack { tag, cseq, authorization, .. } => StoredCarrier::Ack {
                                tag: tag.into(),
                                cseq: *cseq,
                                authorization: authorization.clone(),
                            },
                            Carrier::None { tag } => StoredCarrier::None { tag: tag.into() },
                        })
                    })
                    .collect(),
            ),
        }
    }

    fn reliable(&self, reliable: &Reliable) -> StoredReliable {
        StoredReliable {
            last: reliable.last,
            cseq: reliable.cseq,
            unacknowledged: reliable.unacknowledged.as_ref().map(|one| StoredProvisional {
                response: (&one.response).into(),
                flow: self.flow(one.flow),
                status: one.status,
                has_sdp: one.has_sdp,
                interval_ms: milliseconds(one.interval),
                retransmit: self.at(one.retransmit),
                deadline: self.at(one.deadline),
            }),
            waiting: reliable
                .waiting
                .iter()
                .map(|(status, sdp, headers)| (*status, sdp.as_ref().map(Into::into), headers.clone()))
                .collect(),
            answer: reliable.answer.as_ref().map(|(sdp, headers)| (sdp.into(), headers.clone())),
        }
    }

    /// Writes an open request of the far end. Returns `None` if the request has its final response.
    fn server(&self, server: ServerId) -> Option<StoredServer> {
        let server = self.transactions.server(server)?;
        let Server { method, merge_key, flow, echo, record_routes, has_offer, refer, response, status, .. } = server;
        Some(StoredServer {
            method: method.as_str().to_owned(),
            initial: merge_key.is_some(),
            flow: self.flow(*flow),
            lines: Octets(Bytes::copy_from_slice(&echo.lines)),
            to: (&echo.to).into(),
            tagged: echo.tagged,
            destination: echo.destination,
            reconnect: echo.reconnect,
            record_routes: record_routes.iter().map(Into::into).collect(),
            has_offer: *has_offer,
            refer: *refer,
            response: response.as_ref().map(|response| (*status, response.into())),
        })
    }

    fn requests(&self, slot: LegSlot) -> Vec<StoredRequest> {
        let of_clients = self.transactions.clients_of(slot).filter_map(|client| {
            let progress = if client.machine.is_pending() {
                let again = client.again.as_ref().map(|again| StoredAgain {
                    lines: again.lines.clone(),
                    headers: again.headers.clone(),
                    body: again.body.as_ref().map(|(content_type, body)| (content_type.clone(), body.into())),
                });
                StoredProgress::Open { request: (&client.request).into(), again }
            } else {
                let acks = client.acknowledged.iter();
                let acks = acks.map(|(tag, ack, flow)| (tag.into(), ack.into(), self.flow(*flow))).collect();
                let until = self.at(client.machine.absorbs_until()?);
                StoredProgress::Answered { until, plain: client.plain_ack, acks }
            };
            let acknowledge = client.acknowledge.as_ref().map(|one| StoredAcknowledge {
                uri: (&one.uri).into(),
                routes: one.routes.iter().map(Into::into).collect(),
                from: (&one.from).into(),
                call_id: (&one.call_id).into(),
                cseq: one.cseq,
                authorization: one.authorization.clone(),
            });
            Some(StoredRequest {
                method: client.method.as_str().to_owned(),
                branch: format!("{:032x}", client.branch),
                purpose: stored_purpose(client.purpose)?,
                flow: self.flow(client.flow),
                progress,
                acknowledge,
            })
        });
        let completed = self.transactions.completed_invites_of(slot).map(|(branch, flow)| StoredRequest {
            method: Method::Invite.as_str().to_owned(),
            branch: format!("{branch:032x}"),
            purpose: StoredPurpose::Invite,
            flow: self.flow(flow),
            progress: StoredProgress::Completed,
            acknowledge: None,
        });
        of_clients.chain(completed).collect()
    }
}

/// Reads the parts of a leg.
#[derive(Clone, Copy)]
struct Reader {
    now: Now,
}

/// The phase of a leg without its transactions.
enum Phase {
    Calling(Box<Calling>),
    Ringing { server: Box<StoredServer>, repeat: Option<Instant>, expires: Option<Instant> },
    Established,
    Ending(Box<End>),
}

impl Reader {
    fn at(self, at: Timestamp) -> Instant {
        Deadline::from_wall_time(at, self.now).instant()
    }

    fn flow(self, core: &Core, stored: &StoredFlow) -> Result<Flow, ResumeError> {
        let StoredFlow { transport, peer, socket, .. } = *stored;
        let same = core.locals.iter().position(|local| local.transport == transport && Some(local.bound) == socket);
        let local = same.or_else(|| core.local_for(transport, peer.ip())).ok_or(ResumeError::NoSocket)?;
        Ok(stored.at(local))
    }

    fn dialog(self, core: &Core, stored: StoredDialog) -> Result<Dialog, ResumeError> {
        let flow = self.flow(core, &stored.flow)?;
        Dialog::of_stored(stored, flow).ok_or(ResumeError::Malformed("target"))
    }

    fn extensions(self, stored: &StoredLeg) -> Extensions {
        Extensions {
            origin: Origin::with_hops(stored.hops),
            branch_of: stored.branch_of,
            may_refer: stored.may_refer,
            records: stored.records,
            far_end_allows_update: stored.allows_update,
            is_own_request: stored.is_own_request,
            negotiated_timer: stored.negotiated_timer,
            session: stored.timer.map(|timer| {
                let StoredTimer { interval, we_refresh, refresh_at, expires_at } = timer;
                let (refresh_at, expires_at) = (refresh_at.map(|at| self.at(at)), self.at(expires_at));
                Box::new(SessionTimer { interval, we_refresh, refresh_at, expires_at })
            }),
            referral: stored.referral.map(|one| {
                Box::new(Referral { accepted: one.accepted, last: one.last, deadline: self.at(one.deadline) })
            }),
            ..Extensions::default()
        }
    }

    fn awaiting_ack(self, core: &Core, stored: Option<StoredOk>) -> Result<Option<Box<AwaitingAck>>, ResumeError> {
        let Some(stored) = stored else { return Ok(None) };
        let StoredOk { cseq, initial, response, flow, interval_ms, retransmit, deadline, bye } = stored;
        Ok(Some(Box::new(AwaitingAck {
            cseq,
            initial,
            response: response.0,
            flow: self.flow(core, &flow)?,
            interval: Duration::from_millis(interval_ms),
            retransmit: self.at(retransmit),
            deadline: self.at(deadline),
            bye: bye.map(|(headers, end)| (headers, read_end(end))),
        })))
    }

    fn reliable(self, core: &Core, stored: StoredReliable) -> Result<Box<Reliable>, ResumeError> {
        let StoredReliable { last, cseq, unacknowledged, waiting, answer } = stored;
        let unacknowledged = match unacknowledged {
            Some(one) => Some(Unacknowledged {
                response: one.response.0,
                flow: self.flow(core, &one.flow)?,
                status: one.status,
                has_sdp: one.has_sdp,
                interval: Duration::from_millis(one.interval_ms),
                retransmit: self.at(one.retransmit),
                deadline: self.at(one.deadline),
            }),
            None => None,
        };
        let waiting = waiting.into_iter().map(|(status, sdp, headers)| (status, sdp.map(|sdp| sdp.0), headers));
        let answer = answer.map(|(sdp, headers)| (sdp.0, headers));
        Ok(Box::new(Reliable { last, cseq, unacknowledged, waiting: waiting.collect(), answer }))
    }

    /// Reads the phase of a leg, and checks the transactions that the phase needs.
    fn check(self, core: &Core, stored: &StoredLeg) -> Result<Phase, ResumeError> {
        for request in &stored.requests {
            self.flow(core, &request.flow)?;
            branch_of(&request.branch)?;
        }
        Ok(match &stored.phase {
            StoredPhase::Established => Phase::Established,
            StoredPhase::Ending(end) => Phase::Ending(Box::new(read_end(end.clone()))),
            StoredPhase::Ringing { server, repeat, expires } => {
                self.flow(core, &server.flow)?;
                let (repeat, expires) = (repeat.map(|at| self.at(at)), expires.map(|at| self.at(at)));
                Phase::Ringing { server: server.clone(), repeat, expires }
            }
            StoredPhase::Calling(calling) => {
                let is_open = |request: &StoredRequest| {
                    request.purpose == StoredPurpose::Invite && matches!(request.progress, StoredProgress::Open { .. })
                };
                if !stored.requests.iter().any(is_open) {
                    return Err(ResumeError::Malformed("INVITE"));
                }
                Phase::Calling(Box::new(self.calling(core, calling)?))
            }
        })
    }

    fn calling(self, core: &Core, stored: &StoredCalling) -> Result<Calling, ResumeError> {
        let mut early = Vec::with_capacity(stored.early.len());
        for one in &stored.early {
            let dialog = self.dialog(core, one.dialog.clone())?;
            early.push(Early { dialog, last: one.last, settled: one.settled, answer: octets(one.answer.as_ref()) });
        }
        Ok(Calling {
            outgoing: Box::new(Outgoing {
                headers: stored.headers.clone(),
                prack: stored.prack,
                replaces: stored.replaces.clone(),
                has_alternatives: stored.has_alternatives,
                sdp: stored.sdp.0.clone(),
                second_offer: stored.second_offer.0.clone(),
                recording: octets(stored.recording.as_ref()),
                ..Outgoing::default()
            }),
            client: ClientId::default(),
            provisional: stored.provisional,
            hangup: match stored.hangup.clone() {
                None => CallingHangup::No,
                Some(StoredHangup { headers, give_up: None }) => CallingHangup::Wanted(headers),
                Some(StoredHangup { headers, give_up: Some(at) }) => {
                    CallingHangup::Cancelled { bye_headers: headers, give_up: self.at(at) }
                }
            },
            asked_at: self.at(stored.asked_at),
            attempts: digest::Attempts::default(),
            early,
            last_offer_from: stored.last_offer_from.0.clone(),
            min_se: stored.min_se,
        })
    }

    fn offer(self, stored: StoredOffer) -> Offer {
        Offer { sdp: stored.sdp.0, metadata: stored.metadata.map(|one| one.0), deferrals: stored.deferrals }
    }

    /// Continues an open request of the far end.
    fn server(
        self,
        core: &Core,
        transactions: &mut Transactions,
        slot: LegSlot,
        tag: u64,
        refer: bool,
        stored: StoredServer,
    ) -> ServerId {
        let StoredServer { lines, to, tagged, destination, reconnect, .. } = stored;
        let Ok(flow) = self.flow(core, &stored.flow) else { return ServerId::default() };
        let echo = Echo { lines: lines.0.to_vec(), to: to.0, tagged, destination, reconnect };
        transactions
            .resume_server(
                core,
                ResumedServer {
                    method: Method::named(stored.method.as_bytes()),
                    initial: stored.initial,
                    leg: slot,
                    flow,
                    echo,
                    record_routes: stored.record_routes.into_iter().map(|route| route.0).collect(),
                    has_offer: stored.has_offer,
                    tag,
                    refer,
                    response: stored.response.map(|(status, response)| (status, response.0)),
                },
            )
            .unwrap_or_default()
    }

    /// Continues the requests of this server. Returns the open requests, and the INVITEs whose ACK is due.
    fn requests(
        self,
        core: &mut Core,
        transactions: &mut Transactions,
        (slot, remote_tag): (LegSlot, u64),
        requests: Vec<StoredRequest>,
    ) -> Vec<(Purpose, ClientId)> {
        let mut clients = Vec::new();
        for StoredRequest { method, branch, purpose, flow, progress, acknowledge } in requests {
            // `check` has read both before.
            let (Ok(flow), Ok(branch)) = (self.flow(core, &flow), branch_of(&branch)) else { continue };
            let (method, purpose) = (Method::named(method.as_bytes()), read_purpose(purpose));
            let acknowledge = acknowledge.map(|one| Acknowledge {
                uri: one.uri.0,
                routes: one.routes.into_iter().map(|route| route.0).collect(),
                from: one.from.0,
                call_id: one.call_id.0,
                cseq: one.cseq,
                authorization: one.authorization,
                bytes: None,
            });
            let new = |data| NewClient { method, branch, flow, data, leg: Some(slot), purpose };
            match progress {
                StoredProgress::Open { request, again } => {
                    let id = transactions.insert_client(core, self.now.instant, new(request.0));
                    if let Some(client) = transactions.client_mut(id) {
                        client.acknowledge = acknowledge.map(Box::new);
                        client.again = again.map(|again| {
                            let body = again.body.map(|(content_type, body)| (content_type, body.0));
                            let (lines, headers) = (again.lines, again.headers);
                            Box::new(InDialogRequest { lines, headers, body, ..InDialogRequest::default() })
                        });
                    }
                    clients.push((purpose, id));
                }
                StoredProgress::Answered { until, plain, acks } => {
                    let acks = acks
                        .into_iter()
                        .filter_map(|(tag, ack, flow)| Some((tag.0, ack.0, self.flow(core, &flow).ok()?)));
                    let acks = acks.collect();
                    let id = transactions.insert_answered(core, self.at(until), new(Bytes::new()), plain, acks);
                    if let Some(client) = transactions.client_mut(id) {
                        client.acknowledge = acknowledge.map(Box::new);
                    }
                    clients.push((purpose, id));
                }
                StoredProgress::Completed => {
                    let until = self.now.instant + core.config.timers.timeout();
                    transactions.resume_completed_invite(until, branch, slot, flow, remote_tag);
                }
            }
        }
        clients
    }
}

fn offer(offer: &Offer) -> StoredOffer {
    let Offer { sdp, metadata, deferrals } = offer;
    StoredOffer { sdp: sdp.into(), metadata: metadata.as_ref().map(Into::into), deferrals: *deferrals }
}

fn branch_of(text: &str) -> Result<u128, ResumeError> {
    u128::from_str_radix(text, 16).map_err(|_| ResumeError::Malformed("branch"))
}

fn octets(stored: Option<&Octets>) -> Option<Bytes> {
    stored.map(|octets| octets.0.clone())
}

fn stored_end(end: &End) -> StoredEnd {
    let cause = match end.cause {
        EndCause::LocalHangup => StoredCause::LocalHangup,
        EndCause::Rejected => StoredCause::Rejected,
        EndCause::AckTimeout => StoredCause::AckTimeout,
        EndCause::FlowLost => StoredCause::FlowLost,
        EndCause::SessionExpired => StoredCause::SessionExpired,
        _ => StoredCause::Timeout,
    };
    StoredEnd { cause, status: end.status, reason: end.reason.clone(), headers: end.headers.clone() }
}

fn read_end(stored: StoredEnd) -> End {
    let cause = match stored.cause {
        StoredCause::LocalHangup => EndCause::LocalHangup,
        StoredCause::Rejected => EndCause::Rejected,
        StoredCause::AckTimeout => EndCause::AckTimeout,
        StoredCause::FlowLost => EndCause::FlowLost,
        StoredCause::SessionExpired => EndCause::SessionExpired,
        StoredCause::Timeout => EndCause::Timeout,
    };
    End { cause, status: stored.status, reason: stored.reason, headers: stored.headers }
}

/// Returns `None` for a request that belongs to no leg.
fn stored_purpose(purpose: Purpose) -> Option<StoredPurpose> {
    Some(match purpose {
        Purpose::Invite => StoredPurpose::Invite,
        Purpose::Reinvite => StoredPurpose::Reinvite,
        Purpose::Cancel => StoredPurpose::Cancel,
        Purpose::Bye => StoredPurpose::Bye,
        Purpose::Info => StoredPurpose::Info,
        Purpose::Prack => StoredPurpose::Prack,
        Purpose::Update => StoredPurpose::Update,
        Purpose::Refresh => StoredPurpose::Refresh,
        Purpose::Refer => StoredPurpose::Refer,
        Purpose::Notify => StoredPurpose::Notify,
        Purpose::OutOfDialog(_) => return None,
    })
}

fn read_purpose(purpose: StoredPurpose) -> Purpose {
    match purpose {
        StoredPurpose::Invite => Purpose::Invite,
        StoredPurpose::Reinvite => Purpose::Reinvite,
        StoredPurpose::Cancel => Purpose::Cancel,
        StoredPurpose::Bye => Purpose::Bye,
        StoredPurpose::Info => Purpose::Info,
        StoredPurpose::Prack => Purpose::Prack,
        StoredPurpose::Update => Purpose::Update,
        StoredPurpose::Refresh => Purpose::Refresh,
        StoredPurpose::Refer => Purpose::Refer,
        StoredPurpose::Notify => Purpose::Notify,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
