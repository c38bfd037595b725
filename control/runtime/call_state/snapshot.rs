//! The state of a call in written form: the call, and for each leg all that its machines and the shell know.
//!
//! ```text
//!   LegIo::parts of each leg ──► CallState::write ──► CallSnapshot ──► octets (encrypted)
//!   octets ──► CallSnapshot ──► LegIo::read of each leg, with new handles ──► CallSnapshot::into_state ──► Call::resume
//! ```

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_call::call::Call;
use tandem_call::snapshot::{self, CallSnapshotError, base64_octets};
use tandem_dialect::Dialects;
use tandem_documents::{ScriptSlot, WrittenScript};
use tandem_id::{LegId, Now};
use tandem_legs::{LegIo, LegIoSnapshot, LegParts};

use super::{CallFacts, CallState, LegFacts, LiveLeg};

/// The version of the written form. The parts have versions of their own.
const VERSION: u8 = 1;

/// All that a process knows about a call, without handles. `F` and `L` are references when a call is written.
///
/// The parts of a leg may be some milliseconds younger than the call, because their owners write them when they are
/// asked. What they report after that is lost with the process.
#[derive(Serialize, Deserialize)]
pub(crate) struct CallSnapshot<F = CallFacts, L = LegFacts> {
    #[serde(with = "base64_octets")]
    call: Bytes,
    facts: F,
    legs: BTreeMap<LegId, LiveLegSnapshot<L>>,
}

/// A live leg in written form.
#[derive(Serialize, Deserialize)]
pub(crate) struct LiveLegSnapshot<L> {
    io: LegIoSnapshot,
    parts: LegParts,
    facts: L,
    script: Option<WrittenScript>,
}

impl CallState {
    /// Writes the state. `parts` has the parts of the legs. Perform every output of the call first. `encrypt` gets octets
    /// with secrets: keys, credentials, tokens and digits.
    pub(crate) fn write(
        &self,
        now: Now,
        mut parts: BTreeMap<LegId, LegParts>,
        encrypt: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> Result<Vec<u8>, CallSnapshotError> {
        let mut legs = BTreeMap::new();
        for (id, live) in &self.legs {
            let LiveLeg { io, facts, script, bridged_with: _, published_verb: _, attachments: _ } = &**live;
            let (io, parts) = (io.write(now), parts.remove(id).unwrap_or_default());
            legs.insert(*id, LiveLegSnapshot { io, parts, facts, script: script.write()? });
        }
        let written = CallSnapshot { call: self.call.write(now)?.into(), facts: &self.facts, legs };
        Ok(encrypt(snapshot::write(VERSION, &written)?))
    }
}

impl CallSnapshot {
    /// Reads what [`CallState::write`] has written. `decrypt` is the reverse of `encrypt`, and returns `None` if the
    /// octets are not authentic.
    pub(crate) fn read(
        octets: &[u8],
        decrypt: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Self, CallSnapshotError> {
        let plain = decrypt(octets).ok_or_else(|| CallSnapshotError::Malformed("not authentic".to_owned()))?;
        snapshot::read(VERSION, &plain)
    }

    /// Returns each leg with its parts. The new process resumes the dialogs and the media sessions with these parts.
    pub(crate) fn legs(&self) -> impl Iterator<Item = (LegId, &LegIoSnapshot, &LegParts)> {
        self.legs.iter().map(|(id, leg)| (*id, &leg.io, &leg.parts))
    }

    /// Returns the state with the handles of this process. `attach` reads each leg ([`LegIo::read`]). A leg without
    /// handles is left out: the call must be notified that this leg has ended. Then call [`Call::resume`], and perform
    /// its outputs.
    pub(crate) fn into_state(
        self,
        now: Now,
        dialects: &Dialects,
        mut attach: impl FnMut(LegId, LegIoSnapshot) -> Option<LegIo>,
    ) -> Result<CallState, CallSnapshotError> {
        let Self { call, facts, legs } = self;
        let mut state = CallState { facts, ..CallState::new(Call::read(&call, now)?) };
        for (id, LiveLegSnapshot { io, parts: _, facts, script }) in legs {
            let Some(io) = attach(id, io) else { continue };
            let script = match script {
                Some(script) => ScriptSlot::read(dialects, script)?,
                None => ScriptSlot::default(),
            };
            state.legs.insert(id, Box::new(LiveLeg { facts, script, ..LiveLeg::new(io) }));
        }
        Ok(state)
    }
}
