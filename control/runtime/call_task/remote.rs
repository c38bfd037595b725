//! Legs of other nodes: the remote legs of this call ([`crate::remote_legs`]).

use std::sync::Arc;

use tandem_call::command::{Accepted, Command, Refused};
use tandem_call::leg::LegInfo;
use tandem_host::clock;
use tandem_id::LegId;
use tandem_legs::{LegIo, RouteMedia, Signalling};
use tandem_media as media;
use tandem_store::nodes::NodeRow;
use tokio::sync::oneshot;

use super::CallTask;
use crate::call_state::LiveLeg;
use crate::remote_legs::{Join, JoinHow, RemoteWish};

/// Whether a call needs this event of the media session of a remote leg. The other node reports on the quality of its leg.
pub(super) fn concerns(event: &media::Event) -> bool {
    matches!(
        event,
        media::Event::Dtmf { .. }
            | media::Event::FirstPacket
            | media::Event::NextPacket
            | media::Event::Finished { .. }
            | media::Event::MarkReached { .. }
            | media::Event::TransportFailed { .. }
            | media::Event::Closed { .. }
    )
}

impl CallTask {
    /// Joins a leg of this call with a leg of another node. The reply comes when the other node has agreed.
    pub(super) fn join_remote(
        &mut self,
        leg: LegId,
        other: Arc<LegInfo>,
        node: NodeRow,
        wish: RemoteWish,
        reply: oneshot::Sender<Result<Accepted, Refused>>,
    ) {
        let Some(with) = self.state.call.leg(leg).cloned() else { return drop(reply.send(Err(Refused::NoSuchLeg))) };
        // A client may repeat its request, or bridge both legs with each other.
        if matches!(wish, RemoteWish::Bridge(_)) && self.state.call.is_joined_with(leg, other.id) {
            return drop(reply.send(Ok(Accepted::default())));
        }
        let now = clock::now();
        let id = LegId::new(now.time, &mut rand::rng());
        let session = match self.open_remote(id) {
            Ok(session) => session,
            Err(refused) => return drop(reply.send(Err(refused))),
        };
        let (signalling, new) = self.registry.new_connection(id, other.id);
        let preference = self.state.legs.get(&leg).map(|live| live.io.preference()).unwrap_or_default();
        let mut io = LegIo::outgoing(id, self.sip());
        let offer = io.call_internally(session, preference, signalling);
        self.add_remote(id, io);
        let wanted = other.id;
        let (accepted, how) = match wish {
            RemoteWish::Dequeue(queue) => {
                let added = self.state.call.handle_remote_caller(now, id, other, leg);
                let whisper = self.state.call.dequeue_whisper(leg).cloned();
                (added.map(|()| Accepted::default()), JoinHow::Dequeue { queue, whisper })
            }
            RemoteWish::Bridge(request) => {
                let if_free = matches!(request.command, Command::Bridge { if_free: true, .. });
                let says_state = request.client_state.is_some();
                let accepted = self.state.call.handle_remote_bridge(now, (id, other), leg, *request);
                if let (true, Some(info)) = (says_state && accepted.is_ok(), self.state.call.leg(leg)) {
                    self.record(info, now.time);
                }
                (accepted, JoinHow::Bridge { if_free })
            }
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(refused) => {
                self.drop_remote(id);
                return drop(reply.send(Err(refused)));
            }
        };
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let joined = registry.join_other_node(node, (id, new), (wanted, with, offer), how).await;
            let _ = reply.send(joined.map(|()| accepted));
        });
    }

    /// Joins a leg of this call with the leg of another node that asks for it.
    pub(super) fn joined_by(&mut self, join: Join, reply: oneshot::Sender<Result<(), Refused>>) {
        let _ = reply.send(self.try_joined_by(join));
    }

    fn try_joined_by(&mut self, join: Join) -> Result<(), Refused> {
        let now = clock::now();
        let id = LegId::new(now.time, &mut rand::rng());
        let session = self.open_remote(id)?;
        let (signalling, new) = self.registry.new_connection(id, join.with.id);
        let mut io = LegIo::incoming(id, Signalling::Internal(Box::new(signalling)));
        let settings = RouteMedia::new(&self.services.routing.load_full(), None, None);
        io.accept_offer(session, &settings, Some(join.offer())).map_err(|unusable| {
            tracing::warn!(leg = %join.leg, "the offer of another node cannot be used: {}", unusable.why);
            Refused::CannotBridge
        })?;
        if let Some(live) = self.state.legs.get(&join.leg) {
            io.prefer(live.io.preference());
        }
        if !self.registry.accept_connection(&join, new) {
            return Err(Refused::Ended);
        }
        self.add_remote(id, io);
        let with = (id, Arc::new(join.with.clone()));
        let call = &mut self.state.call;
        let added = match &join.how {
            JoinHow::Dequeue { queue, whisper } => {
                call.handle_remote_agent(now, with, (join.leg, *queue), whisper.clone())
            }
            JoinHow::Bridge { if_free } => call.handle_bridge_from_remote(now, with, join.leg, *if_free),
        };
        if let Err(refused) = added {
            self.drop_remote(id);
            return Err(refused);
        }
        if let JoinHow::Dequeue { queue, .. } = join.how {
            self.note_called(join.leg, queue);
        }
        Ok(())
    }

    /// Opens the media session of a remote leg. The other node is in the private network of the cluster.
    fn open_remote(&self, id: LegId) -> Result<media::Session, Refused> {
        let spec = media::OpenSpec::new(id, self.state.call.id().0);
        let opened = self.services.media.open(spec, self.inbox.sink(id));
        opened.map_err(|error| {
            tracing::warn!(call = %self.state.call.id(), %error, "no media session for a leg of another node");
            Refused::TooMany
        })
    }

    fn add_remote(&mut self, id: LegId, io: LegIo) {
        self.registry.register(id.0, self.inbox.clone());
        self.state.legs.insert(id, Box::new(LiveLeg::new(io)));
    }

    /// Removes a remote leg that the call has refused to add.
    fn drop_remote(&mut self, id: LegId) {
        self.state.legs.remove(&id);
        self.registry.forget(id.0);
    }
}
