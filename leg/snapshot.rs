//! A leg that is stored, and read back by another process.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_id::{Deadline, LegId, Now};

use crate::attempt::Attempt;
use crate::dtmf::WantedForm;
use crate::fork::{Fork, ForkSnapshot, MediaKind};
use crate::leg::{Leg, OtherOffer, SignallingState};
use crate::offer_answer::OfferAnswer;

/// A leg that is stored. It has no outputs that wait: they are carried out first. It does not have the digits of
/// the last half second: a digit that comes in two forms around the moment of writing may be reported twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegSnapshot {
    id: LegId,
    signalling: SignallingSnapshot,
    negotiation: OfferAnswer,
    media: MediaKind,
    other_offer: Option<Box<OtherOffer>>,
    attempt: Option<Box<Attempt>>,
    fork: Option<ForkSnapshot>,
    adopted: Option<LegId>,
    wanted_digits: WantedForm,
    lost_limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SignallingSnapshot {
    New,
    Up,
    Lost { until: Timestamp },
    Over,
}

impl Leg {
    /// Writes the leg down. `now` is the current time, because another process has another monotonic clock.
    pub fn write(&self, now: Now) -> LegSnapshot {
        LegSnapshot {
            id: self.id,
            signalling: match self.signalling {
                SignallingState::New => SignallingSnapshot::New,
                SignallingState::Up => SignallingSnapshot::Up,
                SignallingState::Lost { until } => SignallingSnapshot::Lost { until: until.to_wall_time(now) },
                SignallingState::Over => SignallingSnapshot::Over,
            },
            negotiation: self.negotiation.clone(),
            media: self.media,
            other_offer: self.other_offer.clone(),
            attempt: self.attempt.clone(),
            fork: self.fork.as_ref().map(|fork| fork.write(now)),
            adopted: self.adopted,
            wanted_digits: self.wanted_digits,
            lost_limit: self.lost_limit,
        }
    }

    /// Reads a leg that was stored.
    pub fn read(snapshot: LegSnapshot, now: Now) -> Self {
        let LegSnapshot { id, signalling, negotiation, media, other_offer, .. } = snapshot;
        let LegSnapshot { attempt, fork, adopted, wanted_digits, lost_limit, .. } = snapshot;
        let signalling = match signalling {
            SignallingSnapshot::New => SignallingState::New,
            SignallingSnapshot::Up => SignallingState::Up,
            SignallingSnapshot::Lost { until } => SignallingState::Lost { until: Deadline::from_wall_time(until, now) },
            SignallingSnapshot::Over => SignallingState::Over,
        };
        let fork = fork.map(|fork| Box::new(Fork::read(fork, now)));
        Self {
            signalling,
            negotiation,
            media,
            other_offer,
            attempt,
            fork,
            adopted,
            wanted_digits,
            lost_limit,
            ..Self::outgoing(id)
        }
    }
}
