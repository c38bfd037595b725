//! A budget over the octets that several answers hold together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::FetchError;

/// One permit of the budget, octets.
const UNIT: usize = 64 * 1024;
/// Longest that an answer waits until others have made room.
const PATIENCE: Duration = Duration::from_secs(10);

/// Octets that answers may hold at a time, from their arrival until the last user drops the body. Clones share it. When it
/// is used up, answers wait; after ten seconds they fail as a timeout.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    octets: usize,
}

impl Budget {
    /// A budget of so many octets, in steps of 64 KiB.
    pub fn new(octets: usize) -> Budget {
        Budget { units: Arc::new(Semaphore::new(octets.div_ceil(UNIT))), octets }
    }

    /// Octets that nobody holds, for tests.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.units.available_permits() * UNIT
    }
}

/// What one answer holds of a budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Option<Budget>,
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    pub(super) fn of(budget: Option<Budget>) -> Share {
        Share { budget, held: None }
    }

    /// Waits until the answer may be so many octets long.
    pub(super) async fn grow(&mut self, octets: usize) -> Result<(), FetchError> {
        let Some(budget) = &self.budget else { return Ok(()) };
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = octets.div_ceil(UNIT).saturating_sub(held);
        if wanted == 0 {
            return Ok(());
        }
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let full = || {
            let mebibytes = budget.octets >> 20;
            FetchError::Timeout(format!("other downloads have held all {mebibytes} MiB for {} s", PATIENCE.as_secs()))
        };
        let waiting = Arc::clone(&budget.units).acquire_many_owned(wanted);
        // The semaphore is never closed.
        let more = tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| full())?.map_err(|_| full())?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }

    /// The body; the share goes back when the last of its clones is dropped.
    pub(super) fn into_body(self, body: BytesMut) -> Bytes {
        match self.held {
            None => body.freeze(),
            Some(permit) => Bytes::from_owner(Body { octets: body.freeze(), _permit: permit }),
        }
    }
}

struct Body {
    octets: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}
