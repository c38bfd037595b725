//! A budget over the octets that several answers hold together.
//!
//! An answer that says how long it is waits for all of its octets before the first: so those that have begun go on, and end. One that
//! does not say takes octets as they come. Should all of these wait for each other, one at a time goes on beyond the budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::FetchError;

/// One permit of the budget, octets.
const UNIT: usize = 64 * 1024;
/// Longest that an answer waits until others have made room.
const PATIENCE: Duration = Duration::from_secs(25);

/// Octets that answers may hold at a time, from their arrival until the last user drops the body; and as many again as one
/// answer may have. Clones share it. When it is used up, answers wait; after 25 s they fail as a timeout.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    /// For the one answer that goes on beyond the budget.
    beyond: Arc<Semaphore>,
    octets: usize,
}

impl Budget {
    /// A budget of so many octets, in steps of 64 KiB.
    pub fn new(octets: usize) -> Budget {
        Budget { units: Arc::new(Semaphore::new(octets.div_ceil(UNIT))), beyond: Arc::new(Semaphore::new(1)), octets }
    }

    /// Octets that nobody holds, for tests.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.units.available_permits() * UNIT
    }
}

/// What one answer holds of a budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Option<Budget>,
    held: Option<OwnedSemaphorePermit>,
    /// It goes on beyond the budget.
    beyond: Option<OwnedSemaphorePermit>,
}

impl Share {
    pub(super) fn of(budget: Option<Budget>) -> Share {
        Share { budget, held: None, beyond: None }
    }

    /// Waits until the answer may be as long as it says.
    pub(super) async fn reserve(&mut self, octets: usize) -> Result<(), FetchError> {
        let Some((budget, wanted)) = self.lacks(octets) else { return Ok(()) };
        // More than there is would wait for ever.
        let wanted = wanted.min(u32::try_from(budget.octets.div_ceil(UNIT)).unwrap_or(u32::MAX));
        let units = Arc::clone(&budget.units).acquire_many_owned(wanted);
        let units = tokio::time::timeout(PATIENCE, units).await.ok().and_then(Result::ok);
        self.take(units.ok_or_else(|| full(&budget))?);
        Ok(())
    }

    /// Waits until the answer may be so many octets long, which it did not say before.
    pub(super) async fn grow(&mut self, octets: usize) -> Result<(), FetchError> {
        if self.beyond.is_some() {
            return Ok(());
        }
        let Some((budget, wanted)) = self.lacks(octets) else { return Ok(()) };
        let units = Arc::clone(&budget.units).acquire_many_owned(wanted);
        let beyond = Arc::clone(&budget.beyond).acquire_owned();
        let waiting = async {
            tokio::select! {
                biased;
                units = units => units.map(|units| self.take(units)),
                beyond = beyond => beyond.map(|beyond| self.beyond = Some(beyond)),
            }
        };
        // The semaphores are never closed.
        tokio::time::timeout(PATIENCE, waiting).await.ok().and_then(Result::ok).ok_or_else(|| full(&budget))
    }

    /// The units that an answer of so many octets does not have yet.
    fn lacks(&self, octets: usize) -> Option<(Budget, u32)> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = octets.div_ceil(UNIT).saturating_sub(held);
        let budget = self.budget.clone().filter(|_| wanted > 0)?;
        Some((budget, u32::try_from(wanted).unwrap_or(u32::MAX)))
    }

    fn take(&mut self, units: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(units),
            None => self.held = Some(units),
        }
    }

    /// The body; the share goes back when the last of its clones is dropped.
    pub(super) fn into_body(self, body: BytesMut) -> Bytes {
        match (self.held, self.beyond) {
            (None, None) => body.freeze(),
            held => Bytes::from_owner(Body { octets: body.freeze(), _held: held }),
        }
    }
}

fn full(budget: &Budget) -> FetchError {
    let (mebibytes, seconds) = (budget.octets >> 20, PATIENCE.as_secs());
    FetchError::Timeout(format!("other downloads have held all {mebibytes} MiB for {seconds} s"))
}

struct Body {
    octets: Bytes,
    _held: (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>),
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}
