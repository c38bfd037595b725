//! Transfers that a far end requests (REFER, and INVITE with Replaces). The far end that requests the transfer is the
//! referrer. The leg that is bridged with the referrer is the transferee. The transfer bridges the transferee with
//! another leg, which is the target.
//!
//! ```text
//!   referrer ── transferee        The transferee stays with the referrer until the target answers. Without an
//!                    └─ target    answer nothing changes. If the referrer leaves first, the transferee waits alone.
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::call::{Abort, Call};
use crate::command::{Accepted, Refused};
use crate::fetch::FetchReason;
use crate::header_fields::HeaderFields;
use crate::leg::{Direction, EndCause, EndedBy};
use crate::leg_state::LegState;
use crate::new_leg::{LegPlan, NewLeg};
use crate::output::{Invite, LegCommand};
use crate::program::Running;
use crate::program::dial::Dialing;
use crate::program::instruction::{AfterBridge, AudioSource, Credentials, Play, Tone};
use crate::resume::Standing;
use crate::route::Decision;
use tandem_id::{LegId, OpId};

/// Maximum time until the target of a transfer answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A transfer request from a far end.
#[derive(Clone, PartialEq, Debug)]
pub struct Referred {
    /// The target of the transfer. The server bridges the transferee with this target.
    pub target: ReferTarget,
    /// The URI in the Refer-To header.
    pub uri: String,
    /// The identity that the referrer claims (Referred-By header).
    pub by: Option<String>,
}

/// Target of a transfer.
#[derive(Clone, PartialEq, Debug)]
pub enum ReferTarget {
    /// The target is the leg that is bridged with the leg in this field. The leg in this field is a second leg of the
    /// referrer's far end. All these legs are already in the same call.
    BridgedWith(LegId),
    /// A party that this server calls.
    Call {
        /// Address of the called party.
        to: Address,
        /// Additional SIP headers of the INVITE.
        headers: HeaderFields,
        /// Value of the Replaces header in the INVITE.
        replaces: Option<String>,
        /// Credentials for digest authentication, if the far end sends a challenge.
        credentials: Option<Credentials>,
        /// Names of the trunks, in the order in which they are tried. If the list is empty, the prefix of the number
        /// selects the trunk.
        via: Vec<Arc<str>>,
    },
    /// A number of this server. The transferee runs the document or program of the number's route.
    Number(Box<Decision>),
}

/// State of a leg that is called as the target of a transfer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Referral {
    referrer: LegId,
    transferee: LegId,
    /// The operation that plays a ringback tone to the transferee after the referrer has left.
    ringback: Option<OpId>,
}

impl Referral {
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        if let Some(op) = self.ringback {
            let (play, elapsed) = (ringback(), Some(Duration::ZERO));
            standing.call.command(self.transferee, LegCommand::Play { op, play, elapsed });
        }
    }
}

/// The tone that the transferee hears after the referrer has left.
fn ringback() -> Play {
    Play::new(AudioSource::Tone(Tone::Ringback("us".to_owned())), None)
}

impl Call {
    /// Handles a transfer request (REFER) from the far end of a leg.
    pub(crate) fn referred(&mut self, referrer: LegId, referred: Referred) {
        let bridge = self.leg_state(referrer).and_then(|state| state.bridge).filter(|bridge| bridge.reported);
        let Some(transferee) = bridge.map(|bridge| bridge.with) else {
            return self.push_command(referrer, LegCommand::AnswerRefer { status: 603 });
        };
        if self.referral_of(|referral| referral.referrer == referrer).is_some() {
            return self.push_command(referrer, LegCommand::AnswerRefer { status: 491 });
        }
        let has_document = || matches!(&referred.target, ReferTarget::Number(decision) if matches!(**decision, Decision::Document { .. } | Decision::Program(_)));
        let asks = |leg| self.dial_of(leg).and_then(Dialing::refer_url).cloned();
        let url = asks(referrer).or_else(|| asks(transferee));
        // The documents of a leg of another node run at that node.
        if self.is_remote(transferee) && (url.is_some() || has_document()) {
            return self.push_command(referrer, LegCommand::AnswerRefer { status: 603 });
        }
        if let Some(url) = url {
            let reason = FetchReason::Referred { uri: referred.uri, by: referred.by };
            self.complete_without_bridge(referrer, transferee, |call| call.fetch(transferee, url, reason));
            return;
        }
        match referred.target {
            ReferTarget::BridgedWith(other) => {
                let target = self.leg_state(other).and_then(|state| state.bridge).filter(|bridge| bridge.reported);
                match target.map(|bridge| bridge.with).filter(|target| *target != referrer && *target != transferee) {
                    Some(target) => {
                        self.push_command(referrer, LegCommand::AnswerRefer { status: 202 });
                        self.release_child(other, target);
                        self.bridge_instead(transferee, referrer, target);
                        self.push_command(referrer, LegCommand::NotifyRefer { status: 200 });
                        self.clear(referrer, EndedBy::OtherLeg);
                        self.clear(other, EndedBy::OtherLeg);
                    }
                    None => self.push_command(referrer, LegCommand::AnswerRefer { status: 488 }),
                }
            }
            ReferTarget::Call { to, headers, replaces, credentials, via } => {
                let from = Address::Name("".into());
                let caller_name = None;
                let inherits_headers = false;
                let invite = Invite { to, from, caller_name, headers, inherits_headers, credentials, via, replaces };
                self.call_target(referrer, transferee, invite);
            }
            ReferTarget::Number(decision) => match *decision {
                Decision::Document { target, .. } => self.complete_without_bridge(referrer, transferee, |call| {
                    call.fetch(transferee, target, FetchReason::Redirect);
                }),
                Decision::Program(program) => {
                    self.complete_without_bridge(referrer, transferee, |call| call.run(transferee, program));
                }
                Decision::Reject(_) | Decision::Refuse(..) => {
                    self.push_command(referrer, LegCommand::AnswerRefer { status: 404 });
                }
                // The application of the number does not know this leg, so it cannot send commands for the leg.
                Decision::Commands | Decision::CommandsWithTimeout(_) => {
                    self.push_command(referrer, LegCommand::AnswerRefer { status: 603 });
                }
            },
        }
    }

    /// Replaces the leg `of` with the inbound leg `leg`. Both legs are already in the same call.
    pub(crate) fn replace_leg(&mut self, leg: LegId, of: LegId) -> Result<Accepted, Refused> {
        let bridge =
            self.leg_state(of).and_then(|state| state.bridge).filter(|bridge| bridge.reported && bridge.with != leg);
        let Some(bridged) = bridge.map(|bridge| bridge.with) else {
            self.reject(leg, crate::program::instruction::RejectReason::Status(481), EndedBy::Server);
            return Err(Refused::NotJoined);
        };
        if !self.ensure_answered(leg) {
            return Err(Refused::NotAnswered);
        }
        self.bridge_instead(bridged, of, leg);
        self.clear(of, EndedBy::OtherLeg);
        Ok(Accepted::default())
    }

    /// Completes the transfer for the referrer. The transferee loses its bridge. Then `act` is executed for the
    /// transferee.
    fn complete_without_bridge(&mut self, referrer: LegId, transferee: LegId, act: impl FnOnce(&mut Self)) {
        self.push_command(referrer, LegCommand::AnswerRefer { status: 202 });
        self.push_command(referrer, LegCommand::NotifyRefer { status: 200 });
        self.release_child(referrer, transferee);
        self.release_child(transferee, referrer);
        // The bridge is removed directly. So neither leg is hung up because the other leg leaves.
        self.unbridge(referrer);
        self.end_wait(transferee, Abort::Replaced);
        self.set_mode(transferee, crate::leg_state::Mode::Document);
        act(self);
        self.clear(referrer, EndedBy::OtherLeg);
    }

    fn call_target(&mut self, referrer: LegId, transferee: LegId, invite: Invite) {
        let Some(parent) = self.leg_state(transferee).map(|state| Arc::clone(state.shown())) else { return };
        if !self.has_room() {
            return self.push_command(referrer, LegCommand::AnswerRefer { status: 503 });
        }
        self.push_command(referrer, LegCommand::AnswerRefer { status: 202 });
        let id = LegId::new(self.now().time, &mut self.effects.entropy.next_rng());
        let inbound = parent.direction == Direction::Inbound;
        let from = if inbound { parent.from.clone() } else { parent.to.clone() };
        let caller_name = parent.caller_name.clone().filter(|_| inbound);
        let invite = Invite { from, caller_name, ..invite };
        let info = parent.child(id, self.now().time, &invite);
        self.start_leg(NewLeg { info, invite, plan: LegPlan::waiting(ANSWER_TIMEOUT), record: None, race: None });
        if let Some(state) = self.leg_state_mut(id) {
            state.referral = Some(Referral { referrer, transferee, ringback: None });
        }
    }

    /// Notifies the referrer that the target of its transfer rings.
    pub(crate) fn target_rings(&mut self, target: LegId) {
        if let Some(referral) = self.leg_state(target).and_then(|state| state.referral) {
            self.notify_referrer(referral.referrer, 180);
        }
    }

    /// Bridges the transferee with the target, because the target answered.
    pub(crate) fn target_answered(&mut self, target: LegId) {
        let Some(referral) = self.leg_state_mut(target).and_then(|state| state.referral.take()) else { return };
        let Referral { referrer, transferee, ringback } = referral;
        if let Some(op) = ringback {
            self.push_command(transferee, LegCommand::Stop { op });
        }
        self.bridge_instead(transferee, referrer, target);
        self.notify_referrer(referrer, 200);
        self.clear(referrer, EndedBy::OtherLeg);
    }

    /// Reports the progress of the transfer to the referrer. Does nothing if the referrer's leg has ended.
    fn notify_referrer(&mut self, referrer: LegId, status: u16) {
        if self.leg_state(referrer).is_some_and(|state| !state.info.status.is_final()) {
            self.push_command(referrer, LegCommand::NotifyRefer { status });
        }
    }

    /// Updates the transfer in which an ended leg takes part. Returns `true` if the ended leg was bridged with a leg
    /// that waits for the target. In this case the calling code must not hang up or continue the waiting leg.
    pub(crate) fn end_in_transfer(&mut self, leg: LegId) -> bool {
        // The target ended. The referrer is notified. If the referrer and the transferee have not ended, they stay
        // bridged.
        if let Some(Referral { referrer, transferee, ringback }) =
            self.leg_state_mut(leg).and_then(|state| state.referral.take())
        {
            let status = self.leg_state(leg).and_then(|state| state.info.end.as_ref()?.sip_status);
            let status = status.filter(|status| *status >= 300).unwrap_or(480);
            self.notify_referrer(referrer, status);
            if let Some(op) = ringback {
                self.push_command(transferee, LegCommand::Stop { op });
            }
            let alone = self.leg_state(transferee).is_some_and(|state| state.bridge.is_none());
            let dials = self.dial_of(transferee).is_some_and(|dial| dial.has_chosen(leg));
            if alone && !dials {
                self.clear(transferee, EndedBy::OtherLeg);
            }
            return false;
        }
        // The transferee ended, so the target is not needed any more.
        if let Some(target) = self.referral_of(|referral| referral.transferee == leg) {
            if let Some(Referral { referrer, .. }) = self.leg_state_mut(target).and_then(|state| state.referral.take())
            {
                self.notify_referrer(referrer, 487);
            }
            self.hangup(target, EndCause::OriginatorCancel, EndedBy::OtherLeg);
            return false;
        }
        // The referrer ended, so the transferee waits alone for the target.
        let Some(target) = self.referral_of(|referral| referral.referrer == leg) else { return false };
        let Some(transferee) = self.leg_state(target).and_then(|state| state.referral).map(|it| it.transferee) else {
            return false;
        };
        self.release_child(leg, transferee);
        self.replace_in_dial(transferee, leg, target);
        let op = self.effects.new_op();
        self.push_command(transferee, LegCommand::Play { op, play: ringback(), elapsed: None });
        if let Some(referral) = self.leg_state_mut(target).and_then(|state| state.referral.as_mut()) {
            referral.ringback = Some(op);
        }
        true
    }

    /// Bridges `leg` with `to` instead of with `from`. The dial of `leg` continues with `to`.
    fn bridge_instead(&mut self, leg: LegId, from: LegId, to: LegId) {
        self.release_child(from, leg);
        self.replace_in_dial(leg, from, to);
        self.unbridge(from);
        self.unbridge(to);
        let after = |call: &Self, one: LegId, other: LegId| match call.dial_of(one) {
            Some(dial) if dial.has_chosen(other) => AfterBridge::Continue,
            // A leg that waited in a queue continues after the queue.
            None if call.leg_state(one).is_some_and(|state| state.waiting.is_some()) => AfterBridge::Continue,
            _ => AfterBridge::Hangup,
        };
        let after = (after(self, leg, to), after(self, to, leg));
        self.bridge(leg, to, after, true);
    }

    /// Replaces `from` by `to` in the dial of `leg`, if this dial called `from`.
    fn replace_in_dial(&mut self, leg: LegId, from: LegId, to: LegId) {
        if self.dial_of_mut(leg).is_some_and(|dial| dial.replace_chosen(from, to))
            && let Some(state) = self.leg_state_mut(to)
        {
            state.progress_listener = Some(leg);
        }
    }

    /// Separates `child` from the dial of `leg`. `child` is not hung up.
    fn release_child(&mut self, leg: LegId, child: LegId) {
        let shown = self.shown_id(child);
        if let Some(dial) = self.dial_of_mut(leg) {
            dial.release_child(child, shown);
        }
    }

    fn dial_of(&self, leg: LegId) -> Option<&Dialing> {
        let LegState { runner, transfer, .. } = self.leg_state(leg)?;
        match (&runner.running, transfer) {
            (Some(Running::Dial(dial)), _) | (_, Some(dial)) => Some(dial),
            _ => None,
        }
    }

    fn dial_of_mut(&mut self, leg: LegId) -> Option<&mut Dialing> {
        let LegState { runner, transfer, .. } = self.leg_state_mut(leg)?;
        match (&mut runner.running, transfer) {
            (Some(Running::Dial(dial)), _) | (_, Some(dial)) => Some(dial),
            _ => None,
        }
    }

    /// Returns the target leg of the transfer for which `is_it` returns true.
    fn referral_of(&self, is_it: impl Fn(&Referral) -> bool) -> Option<LegId> {
        let found = |state: &&LegState| state.referral.as_ref().is_some_and(&is_it);
        self.leg_states.iter().find(found).map(|state| state.info.id)
    }
}
