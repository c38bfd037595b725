//! Audio to be played: 8 kHz mono samples, and how files become that.

use std::sync::Arc;
use std::time::Duration;

mod read;
mod resample;

pub use read::{AudioError, decode, read_wav};

/// 16-bit samples at 8,000 Hz, one channel. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Audio {
    samples: Arc<[i16]>,
}

impl std::fmt::Debug for Audio {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Audio").field("duration", &self.duration()).finish()
    }
}

impl Audio {
    /// From samples at 8,000 Hz.
    pub fn new(samples: impl Into<Arc<[i16]>>) -> Audio {
        Audio { samples: samples.into() }
    }

    /// Silence.
    pub fn silence(duration: Duration) -> Audio {
        let samples = usize::try_from(duration.as_millis()).unwrap_or(usize::MAX).saturating_mul(8).min(8_000 * 3_600);
        Audio::new(vec![0; samples])
    }

    /// The samples.
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }

    /// How long it plays.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.samples.len() as u64 * 125)
    }
}
