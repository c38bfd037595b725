//! Legs of other nodes of a cluster. A leg that is bridged with a leg of another node has, in its own call, a remote leg
//! that stands for the other leg. The other node does the same, and the two remote legs call each other:
//!
//! ```text
//!   node A: leg X ◄─bridge─► remote leg of Y ──signals, RTP──► remote leg of X ◄─bridge─► leg Y :node B
//! ```
//!
//! For dials, bridges and the ends of legs, a remote leg is a leg like any other: when X hangs up, the remote legs end, and
//! Y continues as after any bridge. But a remote leg has no events and no record: the other node has those of the leg.
//!
//! The remote leg at the side that asks is outbound. It is answered when the other side is ready for the bridge.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Target;
use crate::call::{Call, UNANSWERED_LIMIT};
use crate::command::{Accepted, Command, Refused, Request};
use crate::leg::{Direction, EndedBy, LegInfo, Status};
use crate::leg_state::{LegState, Mode};
use crate::program::instruction::{AfterBridge, Dequeue, Dial, Instruction, Program};
use crate::program::{Input, Running};
use crate::timer::LegTimer;
use tandem_id::{LegId, Now, QueueId};

/// The leg of another node for which a remote leg stands.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RemoteLeg {
    /// The leg of the other node, in its state when the two were joined.
    pub(crate) info: Arc<LegInfo>,
    /// The leg of this call for which the remote leg was made.
    of: LegId,
}

impl Call {
    /// Whether the leg stands for a leg of another node.
    pub fn is_remote(&self, leg: LegId) -> bool {
        self.leg_state(leg).is_some_and(|state| state.remote.is_some())
    }

    /// Returns the id that applications see: that of the leg of the other node, if the leg stands for one.
    pub fn shown_id(&self, leg: LegId) -> LegId {
        self.leg_state(leg).map_or(leg, |state| state.shown().id)
    }

    /// Returns the facts that applications see: those of the leg of the other node, if the leg stands for one.
    pub fn shown(&self, leg: LegId) -> Option<&Arc<LegInfo>> {
        self.leg_state(leg).map(LegState::shown)
    }

    /// Returns the document that a caller runs before its bridge with this agent. The agent waits for a leg of a queue.
    pub fn dequeue_whisper(&self, agent: LegId) -> Option<&Target> {
        match self.leg_state(agent)?.runner.running.as_ref()? {
            Running::Dial(dial) => dial.whisper(),
            _ => None,
        }
    }

    /// Gives an agent of this call a caller of another node. `id` is the new remote leg that stands for the caller.
    ///
    /// # Errors
    /// Returns [`Refused::NotRunning`] if the agent wants no caller any more, and [`Refused::TooMany`] if the call has its
    /// maximum number of legs.
    pub fn handle_remote_caller(
        &mut self,
        now: Now,
        id: LegId,
        caller: Arc<LegInfo>,
        agent: LegId,
    ) -> Result<(), Refused> {
        self.set_now(now);
        self.add_remote(id, caller, agent, Direction::OutboundDial)?;
        self.handle_input(agent, Input::Called(Some(id)));
        if self.leg_state(id).is_some_and(|state| state.progress_listener == Some(agent)) {
            return Ok(());
        }
        self.clear(id, EndedBy::OtherLeg);
        Err(Refused::NotRunning)
    }

    /// Gives a waiting caller of this call to an agent of another node. `id` is the new remote leg that stands for the
    /// agent. The caller runs the whisper document, and then the two are bridged. If the caller does not wait in this queue
    /// any more, the remote leg ends.
    ///
    /// # Errors
    /// Returns [`Refused::TooMany`] if the call has its maximum number of legs.
    pub fn handle_remote_agent(
        &mut self,
        now: Now,
        (id, agent): (LegId, Arc<LegInfo>),
        (leg, queue): (LegId, QueueId),
        whisper: Option<Target>,
    ) -> Result<(), Refused> {
        self.set_now(now);
        self.add_remote(id, agent, leg, Direction::Inbound)?;
        self.set_mode(id, Mode::Document);
        let dial = Dial {
            // The remote leg takes no other leg, so the name is not needed.
            queue: Some(Dequeue { queue: "".into(), whisper }),
            answer_on_bridge: true,
            ..Dial::new(Vec::new(), Duration::from_secs(60))
        };
        self.run(id, Program { instructions: vec![Instruction::Dial(dial)], warnings: Vec::new() });
        self.called(leg, queue, id);
        Ok(())
    }

    /// Whether the leg is bridged with this leg of another node, or is about to be.
    pub fn is_joined_with(&self, leg: LegId, other: LegId) -> bool {
        let stands_for = |state: &LegState| state.remote.is_some() && state.shown().id == other;
        let bridged = self.leg_state(leg).and_then(|state| state.bridge).filter(|bridge| bridge.reported);
        bridged.and_then(|bridge| self.leg_state(bridge.with)).is_some_and(stands_for) || self.asks_for(leg, other)
    }

    /// Whether the leg has asked for a bridge with this leg of another node, which is not made yet.
    fn asks_for(&self, leg: LegId, other: LegId) -> bool {
        self.leg_states.iter().any(|state| {
            let plan = state.bridge_on_answer.is_some_and(|plan| plan.with == leg);
            plan && state.remote.as_ref().is_some_and(|remote| remote.info.id == other) && !state.info.status.is_final()
        })
    }

    /// Performs the request to bridge a leg of this call with a leg of another node. `id` is the new remote leg. The bridge
    /// is made when the remote leg is answered.
    ///
    /// # Errors
    /// Returns [`Refused`] if the leg cannot be bridged. A leg that rings is refused: the other leg would wait for it in
    /// silence.
    pub fn handle_remote_bridge(
        &mut self,
        now: Now,
        (id, other): (LegId, Arc<LegInfo>),
        leg: LegId,
        mut request: Request,
    ) -> Result<Accepted, Refused> {
        self.set_now(now);
        let rings = |state: &LegState| state.info.direction != Direction::Inbound && state.info.answered_at.is_none();
        if self.leg_state(leg).is_some_and(rings) {
            return Err(Refused::NotAnswered);
        }
        self.add_remote(id, other, leg, Direction::OutboundDial)?;
        if let Command::Bridge { with, if_free, .. } = &mut request.command {
            // The other node knows whether its leg is free.
            (*with, *if_free) = (id, false);
        }
        let answer = self.handle_request(now, leg, request);
        if answer.is_err() {
            self.clear(id, EndedBy::OtherLeg);
        }
        answer
    }

    /// Bridges a leg of this call with a leg of another node, by a request to the other leg. `id` is the new remote leg.
    /// `if_free` refuses a leg that is bridged with a third leg.
    ///
    /// # Errors
    /// Returns [`Refused`] if the leg cannot be bridged, and [`Refused::AlreadyRunning`] if the two legs have asked for each
    /// other and the other request is the one that counts.
    pub fn handle_bridge_from_remote(
        &mut self,
        now: Now,
        (id, other): (LegId, Arc<LegInfo>),
        leg: LegId,
        if_free: bool,
    ) -> Result<(), Refused> {
        self.set_now(now);
        if self.leg_state(leg).is_none_or(|state| state.info.status.is_final())
            || if_free && self.is_bridged_with_another(leg, other.id)
        {
            return Err(Refused::CannotBridge);
        }
        // Both nodes see both requests, and the request to the leg with the lower id counts.
        if self.asks_for(leg, other.id) && leg < other.id {
            return Err(Refused::AlreadyRunning);
        }
        self.add_remote(id, other, leg, Direction::Inbound)?;
        self.bridge_after_answer(leg, id, (AfterBridge::Hangup, AfterBridge::Hangup));
        Ok(())
    }

    /// Adds a remote leg, which is not answered yet.
    fn add_remote(&mut self, id: LegId, info: Arc<LegInfo>, of: LegId, direction: Direction) -> Result<(), Refused> {
        if !self.has_room() {
            return Err(Refused::TooMany);
        }
        let own = LegInfo {
            id,
            session: self.id(),
            parent: None,
            direction,
            status: Status::Initiated,
            answered_at: None,
            end: None,
            handover: None,
            ..(*info).clone()
        };
        let mut state = LegState::new(own);
        state.remote = Some(Box::new(RemoteLeg { info, of }));
        self.leg_states.push(state);
        self.effects.set_timer(id, LegTimer::Ring, UNANSWERED_LIMIT);
        Ok(())
    }

    /// Ends the remote legs that were made for a leg that has ended, and that no bridge, dial or transfer has now.
    pub(crate) fn end_idle_remotes_of(&mut self, leg: LegId) {
        let is_idle = |state: &&LegState| {
            state.remote.as_ref().is_some_and(|remote| remote.of == leg)
                && state.bridge.is_none()
                && state.progress_listener.is_none_or(|listener| listener == leg)
        };
        let idle: Vec<LegId> = self.leg_states.iter().filter(is_idle).map(|state| state.info.id).collect();
        for id in idle {
            self.clear(id, EndedBy::OtherLeg);
        }
    }
}
