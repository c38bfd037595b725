//! The conference instruction. The leg takes part in a conference until its participation or the conference ends.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Target;
use crate::call::{Abort, Call};
use crate::conference::LeaveReason;
use crate::event::{DialResult, DialStatus};
use crate::fetch::FetchReason;
use crate::header_fields::HeaderFields;
use crate::program::instruction::Conference;
use crate::program::{Input, Running, Step};
use tandem_id::{LegId, OpId};

/// A running conference instruction.
#[derive(Serialize, Deserialize)]
pub(crate) struct InConference {
    began: Timestamp,
    limit: Option<OpId>,
    hangup_on_star: bool,
    action: Option<Target>,
}

impl InConference {
    pub(crate) fn begin(call: &mut Call, leg: LegId, conference: Conference) -> Step {
        let Conference { participation, time_limit, hangup_on_star, action } = conference;
        let limit = time_limit.map(|limit| call.timer(leg, limit));
        call.join_conference(leg, participation);
        Step::Stay(Running::Conference(Self { began: call.now().time, limit, hangup_on_star, action }))
    }

    pub(crate) fn handle(self, call: &mut Call, leg: LegId, input: &Input) -> Step {
        let status = match input {
            Input::ConferenceOver => DialStatus::Answered,
            Input::ConferenceRefused => DialStatus::Failed,
            Input::Dtmf('*') if self.hangup_on_star => DialStatus::Answered,
            Input::Timer(op) if self.limit == Some(*op) => DialStatus::Answered,
            _ => return Step::Stay(Running::Conference(self)),
        };
        let result = self.end(call, leg, LeaveReason::Itself, status);
        match self.action {
            Some(action) => Step::Fetch(action, FetchReason::Dialed(result)),
            None => Step::Next,
        }
    }

    pub(crate) fn abort(self, call: &mut Call, leg: LegId, why: Abort) {
        let leaving = if why == Abort::Hangup { LeaveReason::Ended } else { LeaveReason::Elsewhere };
        let result = self.end(call, leg, leaving, DialStatus::Answered);
        call.with_leg(leg, |cx| cx.report_to_action(self.action, FetchReason::Dialed(result), why));
    }

    fn end(&self, call: &mut Call, leg: LegId, why: LeaveReason, status: DialStatus) -> DialResult {
        call.cancel_timer(leg, self.limit);
        call.leave_conference(leg, why);
        DialResult {
            status,
            child: None,
            duration: call.now().since(self.began),
            called_uri: false,
            answered: true,
            bridged: status == DialStatus::Answered,
            taken: false,
            sip_status: None,
            sip_call_id: None,
            sip_headers: HeaderFields::new(),
            returned: Vec::new(),
            recording: None,
        }
    }
}
