//! The signalling between two legs of this server, of which each is the far end of the other. An order of one leg is the
//! event that a protocol would make of it for the other leg.

use serde::{Deserialize, Serialize};

use crate::signal::{SignalCommand, SignalEnd, SignalEndCause, SignalEvent};

/// The connection of two legs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    answered: bool,
    over: bool,
}

/// The events that an order causes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The event for the other leg.
    pub other: Option<SignalEvent>,
    /// The event for the leg that gave the order.
    pub own: Option<SignalEvent>,
}

impl Link {
    /// Notes a report of the other leg, whose half of the connection is at another node.
    pub fn note(&mut self, event: &SignalEvent) {
        match event {
            SignalEvent::Accepted { .. } => self.answered = true,
            SignalEvent::Ended(_) => self.over = true,
            _ => {}
        }
    }

    /// Carries an order of one leg to the other leg.
    pub fn carry(&mut self, command: SignalCommand) -> Carried {
        let other = |event| Carried { other: Some(event), own: None };
        match command {
            SignalCommand::Ring { status, sdp } => other(SignalEvent::Ringing { status, sdp }),
            SignalCommand::Accept { sdp, headers } => {
                self.answered = true;
                other(SignalEvent::Accepted { sdp: Some(sdp), headers, dialog: None })
            }
            SignalCommand::Refuse { status, reason, headers } => {
                let end = SignalEnd::of(SignalEndCause::Refused);
                self.end(SignalEnd { status: Some(status), reason, headers, ..end })
            }
            SignalCommand::End { reason, headers, .. } => {
                let cause = if self.answered { SignalEndCause::HungUp } else { SignalEndCause::Cancelled };
                self.end(SignalEnd { reason, headers, ..SignalEnd::of(cause) })
            }
            SignalCommand::Digit { digit, .. } => other(SignalEvent::Digit(digit)),
            SignalCommand::Offer { sdp } => other(SignalEvent::Offered { sdp: Some(sdp), refusable: true }),
            SignalCommand::Answer { sdp } => other(SignalEvent::OfferAnswered { sdp }),
            SignalCommand::RefuseOffer { status, .. } => other(SignalEvent::OfferRefused { status }),
            // A leg of this server calls no other destination for another leg.
            SignalCommand::Refer { .. } => {
                Carried { other: None, own: Some(SignalEvent::ReferAnswered { status: 501 }) }
            }
            SignalCommand::Message { .. } | SignalCommand::AnswerRefer { .. } | SignalCommand::NotifyRefer { .. } => {
                Carried::default()
            }
        }
    }

    /// Ends the connection for both legs. If both legs end it, the reason of the first counts.
    fn end(&mut self, end: SignalEnd) -> Carried {
        let first = !std::mem::replace(&mut self.over, true);
        let ended = |end| Some(SignalEvent::Ended(Box::new(end)));
        Carried { other: ended(end).filter(|_| first), own: ended(SignalEnd::of(SignalEndCause::Local)) }
    }
}
