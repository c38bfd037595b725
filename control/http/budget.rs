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
    whole: Level,
    /// The part of some answers. These answers take octets from the part first, and then from the whole.
    part: Option<Level>,
}

#[derive(Debug, Clone)]
struct Level {
    units: Arc<Semaphore>,
    /// The permit that allows one answer to exceed the level.
    beyond: Arc<Semaphore>,
    octets: usize,
}

impl Budget {
    /// Creates a budget of this many octets, rounded up to a multiple of 64 KiB.
    pub fn new(octets: usize) -> Budget {
        let units = Arc::new(Semaphore::new(octets.div_ceil(UNIT)));
        Budget { whole: Level { units, beyond: Arc::new(Semaphore::new(1)), octets }, part: None }
    }

    /// Returns this budget for answers that `part` limits too. So answers with one part leave octets to other answers. An
    /// answer that waits for its part takes nothing from the whole.
    pub fn with_part(&self, part: &Budget) -> Budget {
        Budget { whole: self.whole.clone(), part: Some(part.whole.clone()) }
    }

    /// The number of free octets, for tests.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.whole.units.available_permits() * UNIT
    }
}

/// The octets of a budget that one answer uses.
#[derive(Debug)]
pub(super) struct Share {
    /// The octets of each level: first those of the part, if there is one.
    levels: Vec<Held>,
}

/// The octets of a level that one answer uses.
#[derive(Debug)]
struct Held {
    level: Level,
    units: Option<OwnedSemaphorePermit>,
    /// The permit that allows this answer to exceed the level. `None` if the answer must not exceed the level.
    beyond: Option<OwnedSemaphorePermit>,
}

impl Share {
    pub(super) fn of(budget: Option<Budget>) -> Share {
        let levels = budget.into_iter().flat_map(|budget| budget.part.into_iter().chain([budget.whole]));
        Share { levels: levels.map(|level| Held { level, units: None, beyond: None }).collect() }
    }

    /// Waits for free octets for an answer of known length.
    pub(super) async fn reserve(&mut self, octets: usize) -> Result<(), FetchError> {
        for held in &mut self.levels {
            let Some(units_needed) = held.lacks(octets) else { continue };
            // The number is limited to the whole level, because more octets can never be free.
            let units_needed = units_needed.min(u32::try_from(held.level.octets.div_ceil(UNIT)).unwrap_or(u32::MAX));
            let units = Arc::clone(&held.level.units).acquire_many_owned(units_needed);
            let units = tokio::time::timeout(WAIT_TIMEOUT, units).await.ok().and_then(Result::ok);
            held.take(units.ok_or_else(|| full(&held.level))?);
        }
        Ok(())
    }

    /// Waits for free octets for an answer of unknown length. `octets` is the current length.
    pub(super) async fn grow(&mut self, octets: usize) -> Result<(), FetchError> {
        // The answer that may exceed the whole waits for nothing. So one answer always continues.
        if self.levels.last().is_some_and(|whole| whole.beyond.is_some()) {
            return Ok(());
        }
        for held in self.levels.iter_mut().filter(|held| held.beyond.is_none()) {
            let Some(units_needed) = held.lacks(octets) else { continue };
            let units = Arc::clone(&held.level.units).acquire_many_owned(units_needed);
            let beyond = Arc::clone(&held.level.beyond).acquire_owned();
            let waiting = async {
                tokio::select! {
                    biased;
                    units = units => units.map(|units| held.take(units)),
                    beyond = beyond => beyond.map(|beyond| held.beyond = Some(beyond)),
                }
            };
            // The semaphores are never closed.
            let done = tokio::time::timeout(WAIT_TIMEOUT, waiting).await.ok().and_then(Result::ok);
            done.ok_or_else(|| full(&held.level))?;
        }
        Ok(())
    }

    /// Returns the body. The octets become free when the last clone of the body is dropped.
    pub(super) fn into_body(self, body: BytesMut) -> Bytes {
        match self.levels.iter().all(|held| held.units.is_none() && held.beyond.is_none()) {
            true => body.freeze(),
            false => Bytes::from_owner(Body { octets: body.freeze(), _share: self }),
        }
    }
}

impl Held {
    /// The number of units that an answer of this length still needs. `None` if the answer needs no more units.
    fn lacks(&self, octets: usize) -> Option<u32> {
        let held = self.units.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let units_needed = octets.div_ceil(UNIT).saturating_sub(held);
        (units_needed > 0).then(|| u32::try_from(units_needed).unwrap_or(u32::MAX))
    }

    fn take(&mut self, units: OwnedSemaphorePermit) {
        match &mut self.units {
            Some(held) => held.merge(units),
            None => self.units = Some(units),
        }
    }
}

fn full(level: &Level) -> FetchError {
    let (mebibytes, seconds) = (level.octets >> 20, WAIT_TIMEOUT.as_secs());
    FetchError::Timeout(format!("other downloads have used all {mebibytes} MiB for {seconds} s"))
}

struct Body {
    octets: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}
