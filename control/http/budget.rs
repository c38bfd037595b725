//! A limit on the memory that the bodies of several answers use together.
//!
//! If the length of an answer is known, the answer starts only after the budget has room for all octets of the answer.
//! So an answer that has started can also complete. An answer of unknown length takes octets from the budget when the
//! octets arrive. If all answers of unknown length wait for each other, one answer at a time continues and exceeds the
//! budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::FetchError;

/// The size of one permit in octets.
const UNIT: usize = 64 * 1024;
/// Maximum time that an answer waits for free octets.
const WAIT_TIMEOUT: Duration = Duration::from_secs(25);

/// The number of octets that the bodies of answers may use together. The octets of a body count from their arrival
/// until the last user drops the body. One answer at a time may exceed the budget. All clones share the budget. If no
/// octets are free, answers wait. After 25 s a waiting answer fails with a timeout.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    /// The permit that allows one answer to exceed the budget.
    beyond: Arc<Semaphore>,
    octets: usize,
}

impl Budget {
    /// Creates a budget of this many octets, rounded up to a multiple of 64 KiB.
    pub fn new(octets: usize) -> Budget {
        Budget { units: Arc::new(Semaphore::new(octets.div_ceil(UNIT))), beyond: Arc::new(Semaphore::new(1)), octets }
    }

    /// The number of free octets, for tests.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.units.available_permits() * UNIT
    }
}

/// The part of a budget that one answer uses.
#[derive(Debug)]
pub(super) struct Share {
    budget: Option<Budget>,
    held: Option<OwnedSemaphorePermit>,
    /// The permit that allows this answer to exceed the budget. `None` if the answer must not exceed the budget.
    beyond: Option<OwnedSemaphorePermit>,
}

impl Share {
    pub(super) fn of(budget: Option<Budget>) -> Share {
        Share { budget, held: None, beyond: None }
    }

    /// Waits for free octets for an answer of known length.
    pub(super) async fn reserve(&mut self, octets: usize) -> Result<(), FetchError> {
        let Some((budget, units_needed)) = self.lacks(octets) else { return Ok(()) };
        // The number is limited to the whole budget, because more octets can never be free.
        let units_needed = units_needed.min(u32::try_from(budget.octets.div_ceil(UNIT)).unwrap_or(u32::MAX));
        let units = Arc::clone(&budget.units).acquire_many_owned(units_needed);
        let units = tokio::time::timeout(WAIT_TIMEOUT, units).await.ok().and_then(Result::ok);
        self.take(units.ok_or_else(|| full(&budget))?);
        Ok(())
    }

    /// Waits for free octets for an answer of unknown length. `octets` is the current length.
    pub(super) async fn grow(&mut self, octets: usize) -> Result<(), FetchError> {
        if self.beyond.is_some() {
            return Ok(());
        }
        let Some((budget, units_needed)) = self.lacks(octets) else { return Ok(()) };
        let units = Arc::clone(&budget.units).acquire_many_owned(units_needed);
        let beyond = Arc::clone(&budget.beyond).acquire_owned();
        let waiting = async {
            tokio::select! {
                biased;
                units = units => units.map(|units| self.take(units)),
                beyond = beyond => beyond.map(|beyond| self.beyond = Some(beyond)),
            }
        };
        // The semaphores are never closed.
        tokio::time::timeout(WAIT_TIMEOUT, waiting).await.ok().and_then(Result::ok).ok_or_else(|| full(&budget))
    }

    /// The number of units that an answer of this length still needs. `None` if the answer needs no more units.
    fn lacks(&self, octets: usize) -> Option<(Budget, u32)> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let units_needed = octets.div_ceil(UNIT).saturating_sub(held);
        let budget = self.budget.clone().filter(|_| units_needed > 0)?;
        Some((budget, u32::try_from(units_needed).unwrap_or(u32::MAX)))
    }

    fn take(&mut self, units: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(units),
            None => self.held = Some(units),
        }
    }

    /// Returns the body. The octets become free when the last clone of the body is dropped.
    pub(super) fn into_body(self, body: BytesMut) -> Bytes {
        match (self.held, self.beyond) {
            (None, None) => body.freeze(),
            held => Bytes::from_owner(Body { octets: body.freeze(), _held: held }),
        }
    }
}

fn full(budget: &Budget) -> FetchError {
    let (mebibytes, seconds) = (budget.octets >> 20, WAIT_TIMEOUT.as_secs());
    FetchError::Timeout(format!("other downloads have used all {mebibytes} MiB for {seconds} s"))
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
