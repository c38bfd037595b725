//! All calls of the server. This module accepts and makes calls, passes requests to live calls, and finds ended calls
//! in the database.

mod elsewhere;
mod incoming;
mod merge;
mod other_pages;
mod outgoing;
mod pages;
mod records;

use std::sync::Arc;

use tandem_call::command::{Accepted, Command, Refused, Request};
use tandem_call::leg::LegInfo;
use tandem_call::stream::StreamTransport;
use tandem_cluster::Refusal;
use tandem_history::refusals::Refusals;
use tandem_host::clock;
use tandem_id::{CallId, LegId};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::other_pages::OtherPages;
use crate::inbox::{Inbox, Message, PostError};
use crate::registry::Registry;
use crate::remote_legs::RemoteWish;
use crate::reporting;
use crate::services::Services;

/// All calls of the server. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Arc<Shared>);

struct Shared {
    registry: Registry,
    /// Cancelled when no new calls are accepted any more.
    draining: CancellationToken,
    refusals: Refusals,
    other_pages: OtherPages,
}

impl Calls {
    pub fn new(services: Services) -> Self {
        clock::started();
        let services = Arc::new(services);
        reporting::connect(&services);
        let registry = Registry::new(services);
        let (draining, refusals, other_pages) = (CancellationToken::new(), Refusals::default(), OtherPages::default());
        let calls = Self(Arc::new(Shared { registry, draining, refusals, other_pages }));
        calls.answer_other_nodes();
        calls.exchange_pages();
        calls
    }

    pub fn services(&self) -> &Arc<Services> {
        self.0.registry.services()
    }

    pub(crate) fn inbox(&self, session: CallId) -> Option<Inbox> {
        self.0.registry.inbox(session.0)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Returns the latest refusals of phone users.
    pub fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// Sends a request to a live leg and waits for the result. The leg performs the request even if the caller of this
    /// function stops waiting.
    pub async fn request(&self, leg: LegId, request: Request) -> Result<Accepted, Refused> {
        match self.request_elsewhere(leg, &request).await {
            Some(answer) => answer,
            None => self.request_here(leg, request).await,
        }
    }

    /// Asks the call of a leg of this node to perform a request.
    async fn request_here(&self, leg: LegId, request: Request) -> Result<Accepted, Refused> {
        if let Command::Bridge { with, .. } | Command::ReplaceLeg { of: with } = &request.command {
            let (registry, with) = (self.0.registry.clone(), *with);
            if let Some(node) = self.services().cluster.other_owner_of(with.0) {
                return match request.command {
                    Command::Bridge { .. } => {
                        registry.join_remote(leg, with, node, RemoteWish::Bridge(Box::new(request))).await
                    }
                    _ => Err(Refused::CannotBridge),
                };
            }
            let merged = tokio::spawn(async move { registry.merge(leg, with).await });
            merged.await.unwrap_or(Err(Refused::CannotBridge))?;
        }
        let inbox = self.0.registry.inbox(leg.0).ok_or(Refused::NoSuchLeg)?;
        if let Command::StartStream { spec, .. } = &request.command
            && let StreamTransport::Rtp(rtp) = &spec.transport
            && rtp.inbound.iter().chain(&rtp.outbound).any(|to| self.services().client.permits(to.ip()).is_err())
        {
            return Err(Refused::ForbiddenAddress);
        }
        let (reply, answer) = oneshot::channel();
        match inbox.offer(Message::Request { leg, request: Box::new(request), reply }) {
            Ok(()) => answer.await.unwrap_or(Err(Refused::Ended)),
            Err(PostError::Over) => Err(Refused::Ended),
            Err(PostError::Full) => Err(Refused::TooMany),
        }
    }

    /// Stops accepting new calls.
    pub fn stop_accepting(&self) {
        self.0.draining.cancel();
    }

    /// Whether new calls are accepted.
    pub fn accepts(&self) -> bool {
        self.refusal().is_none()
    }

    /// Returns the reason why no new calls are accepted.
    pub fn refusal(&self) -> Option<Refusal> {
        let is_stopping = self.0.draining.is_cancelled();
        if is_stopping { Some(Refusal::Stopping) } else { self.services().cluster.refusal() }
    }

    /// Waits until no new calls are accepted any more.
    pub async fn draining(&self) {
        self.0.draining.cancelled().await;
    }

    /// Returns the number of legs with a media session.
    pub fn live_legs(&self) -> u64 {
        self.services().media.load().sessions
    }

    /// Waits until no call is live.
    pub async fn idle(&self) {
        self.0.registry.idle().await;
    }

    pub fn hangup_all(&self) {
        self.0.registry.hangup_all();
    }

    /// Returns the state of a leg that has not ended. An outbound leg has a state before its first event.
    pub fn live_leg(&self, leg: LegId) -> Option<Arc<LegInfo>> {
        self.0.registry.live().get(leg)
    }

    pub fn is_live(&self, leg: LegId) -> bool {
        self.0.registry.is_live(leg)
    }
}
