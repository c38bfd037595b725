//! DTMF digits that a leg sends and waits for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_id::OpId;

use crate::leg_cx::LegCx;
use crate::output::LegCommand;
use crate::program::instruction::SendDigits;
use crate::resume::Standing;

/// Digits that are being sent.
#[derive(Serialize, Deserialize)]
pub(crate) struct SendingDigits {
    pub(crate) op: OpId,
    digits: SendDigits,
    since: Timestamp,
}

impl SendingDigits {
    pub(crate) fn begin(cx: &mut LegCx<'_>, digits: SendDigits) -> Self {
        let (op, since) = (cx.new_op(), cx.now().time);
        cx.command(LegCommand::SendDigits { op, digits: digits.clone(), elapsed: None });
        Self { op, digits, since }
    }

    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let elapsed = Some(standing.call.now.since(self.since));
        standing.command(LegCommand::SendDigits { op: self.op, digits: self.digits.clone(), elapsed });
    }
}
