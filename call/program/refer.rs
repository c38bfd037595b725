//! The refer instruction. It asks the far end to call another party (REFER), then waits for the result.

use serde::{Deserialize, Serialize};

use crate::Target;
use crate::call::Abort;
use crate::event::{EventKind, ReferFacts, ReferState};
use crate::fetch::FetchReason;
use crate::leg_cx::LegCx;
use crate::output::LegCommand;
use crate::program::instruction::Refer;
use crate::program::{Input, Running, Step};

/// A running refer instruction.
#[derive(Serialize, Deserialize)]
pub(crate) struct Referring {
    facts: ReferFacts,
    action: Option<Target>,
}

impl Referring {
    pub(crate) fn begin(cx: &mut LegCx<'_>, refer: Refer) -> Step {
        let Refer { to, headers, action } = refer;
        let facts = ReferFacts { to: to.clone(), state: ReferState::Started, answer: None, progress: None };
        cx.command(LegCommand::Refer { to, headers });
        cx.emit(EventKind::Refer(facts.clone()));
        Step::Stay(Running::Refer(Self { facts, action }))
    }

    pub(crate) fn handle(mut self, cx: &mut LegCx<'_>, input: &Input) -> Step {
        match *input {
            Input::ReferAnswered { status } => {
                self.facts.answer = Some(status);
                if status < 300 {
                    return Step::Stay(Running::Refer(self));
                }
                self.facts.state = ReferState::Failed;
            }
            Input::ReferProgress { status, done } => {
                self.facts.progress = Some(status);
                if !done {
                    return Step::Stay(Running::Refer(self));
                }
                let well = (200..300).contains(&status);
                self.facts.state = if well { ReferState::Completed } else { ReferState::Failed };
            }
            _ => return Step::Stay(Running::Refer(self)),
        }
        cx.emit(EventKind::Refer(self.facts.clone()));
        match self.action {
            Some(action) => Step::Fetch(action, FetchReason::Refer(self.facts)),
            None => Step::Next,
        }
    }

    /// Reports the result that is known so far, also to the action. The leg was hung up, or another program replaces the
    /// instruction. The document in the response is ignored.
    pub(crate) fn abort(mut self, cx: &mut LegCx<'_>, why: Abort) {
        // A far end that accepted the REFER may hang up without a report of the result (BYE instead of NOTIFY).
        let well = self.facts.answer.is_some_and(|status| status < 300);
        self.facts.state = if well { ReferState::Completed } else { ReferState::Failed };
        cx.emit(EventKind::Refer(self.facts.clone()));
        cx.report_to_action(self.action, FetchReason::Refer(self.facts), why);
    }
}
