//! Audio for playout (8,000 Hz, mono), and the decoders that read audio from files.

use std::sync::Arc;
use std::time::Duration;

mod aiff;
mod read;
mod resample;

pub use read::{AudioError, decode, read_wav};
pub use resample::To8000;

/// Audio with 16-bit samples at 8,000 Hz and one channel. A clone is cheap. Silence of any length takes no memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Audio {
    samples: Arc<[i16]>,
    /// The number of samples of silence that follow the stored samples.
    silence: u64,
}

impl std::fmt::Debug for Audio {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Audio").field("duration", &self.duration()).finish()
    }
}

impl Audio {
    /// Creates audio from samples at 8,000 Hz.
    pub fn new(samples: impl Into<Arc<[i16]>>) -> Audio {
        Audio { samples: samples.into(), silence: 0 }
    }

    /// Creates silence of this duration.
    pub fn silence(duration: Duration) -> Audio {
        let silence = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).saturating_mul(8);
        Audio { samples: Arc::default(), silence }
    }

    /// The stored samples, without the silence of [`Audio::silence`].
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }

    /// The duration of the audio, silence included.
    pub fn duration(&self) -> Duration {
        let samples = self.length();
        Duration::from_secs(samples / 8_000) + Duration::from_micros(samples % 8_000 * 125)
    }

    /// The number of samples, silence included.
    pub(crate) fn length(&self) -> u64 {
        (self.samples.len() as u64).saturating_add(self.silence)
    }

    /// Copies samples to `to`, starting at `position`. Returns the number of copied samples. This number is less than
    /// the length of `to` only at the end of the audio.
    pub(crate) fn copy(&self, position: u64, to: &mut [i16]) -> usize {
        let left = usize::try_from(self.length().saturating_sub(position)).unwrap_or(usize::MAX);
        let to = to.get_mut(..left.min(to.len())).unwrap_or_default();
        let sounding = usize::try_from(position).ok().and_then(|position| self.samples.get(position..));
        let sounding = sounding.unwrap_or_default();
        let (sound, silence) = to.split_at_mut(sounding.len().min(to.len()));
        sound.iter_mut().zip(sounding).for_each(|(to, from)| *to = *from);
        silence.fill(0);
        to.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_of_any_length_uses_no_memory() {
        let audio = Audio::silence(Duration::from_secs(100 * 3_600));
        assert_eq!((audio.samples().len(), audio.duration()), (0, Duration::from_secs(100 * 3_600)));
        let mut samples = [1; 160];
        assert_eq!((audio.copy(0, &mut samples), samples), (160, [0; 160]));
        assert_eq!(audio.copy(audio.length() - 100, &mut samples), 100);
        assert_eq!(audio.copy(audio.length(), &mut samples), 0);
        assert_eq!(Audio::silence(Duration::MAX).length(), u64::MAX);
    }

    #[test]
    fn samples_are_copied_from_the_playout_position() {
        let audio = Audio::new([1, 2, 3]);
        let mut samples = [9; 2];
        assert_eq!((audio.copy(0, &mut samples), samples), (2, [1, 2]));
        assert_eq!((audio.copy(2, &mut samples), samples), (1, [3, 2]));
        assert_eq!(audio.copy(3, &mut samples), 0);
    }
}
