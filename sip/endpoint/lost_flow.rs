//! A caller whose WebSocket is lost between its INVITE and its ACK (RFC 5626 §5.3). The responses go over the WebSocket over
//! which the caller registers next. Without one, the call ends.

use std::time::{Duration, Instant};

use super::leg_cx::LegCx;
use super::state::{End, LostFlow, State};
use crate::compose::ResponseParts;
use crate::flow::Flow;
use crate::header::ByeHeaders;
use crate::leg::EndCause;

/// Time in which the caller must register over another WebSocket, and then acknowledge the answer.
const RETURN: Duration = Duration::from_secs(10);

impl LegCx<'_, '_> {
    /// The WebSocket of the far end is lost.
    pub(super) fn lose_flow(&mut self) {
        self.leg.extensions.lost_flow = Some(LostFlow::Gone(self.cx.now + RETURN));
        // Another WebSocket of the far end may be open already.
        self.find_flow();
        self.arm_leg();
    }

    /// Continues over the WebSocket over which the far end has registered last, if there is one.
    pub(super) fn find_flow(&mut self) {
        let Some(flow) = self.cx.newest_flow_of(&self.leg.dialog) else { return };
        let leg = &mut *self.leg;
        leg.extensions.lost_flow = Some(LostFlow::Replaced);
        leg.dialog.flow = flow;
        if let State::Ringing { server, .. } = leg.state {
            self.cx.transactions.move_server(server, flow);
        }
        if let Some(ack) = &mut self.leg.awaiting_ack {
            ack.flow = Flow { secure: ack.flow.secure, ..flow };
            ack.interval = self.cx.core.config.timers.t1;
            ack.retransmit = self.cx.now;
            ack.deadline = ack.deadline.min(self.cx.now + RETURN);
        }
        self.arm_leg();
    }

    /// Returns the time at which the ACK of an answer must have come. A page that was lost may have given up its call.
    pub(super) fn answer_deadline(&self) -> Instant {
        let usual = self.cx.now + self.cx.core.config.timers.timeout();
        match self.leg.extensions.lost_flow {
            Some(LostFlow::Replaced) => usual.min(self.cx.now + RETURN),
            Some(LostFlow::Gone(_)) | None => usual,
        }
    }

    /// Ends the leg if the far end has not come back in time. Returns whether the leg is over.
    pub(super) fn lost_flow_timeout(&mut self) -> bool {
        if !matches!(self.leg.extensions.lost_flow, Some(LostFlow::Gone(at)) if at <= self.cx.now) {
            return false;
        }
        self.leg.extensions.lost_flow = None;
        if let State::Ringing { server, .. } = self.leg.state {
            self.abandon_offer();
            self.cx.respond(server, ResponseParts { status: 487, ..ResponseParts::default() });
            let reason = Some(EndCause::FlowLost.to_string());
            self.finish(End { reason, ..End::of(EndCause::Cancelled, Some(487)) });
            return true;
        }
        if let Some(ack) = self.leg.awaiting_ack.take_if(|ack| ack.initial) {
            let lost = || (ByeHeaders::default(), End::of(EndCause::FlowLost, None));
            let (bye_headers, end) = ack.bye.unwrap_or_else(lost);
            self.send_bye(bye_headers, end);
        }
        false
    }
}
