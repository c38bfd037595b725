//! Audio or a tone that a session plays, frame by frame. This module is pure.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audio::Audio;
use crate::command::OpId;
use crate::rtp::FRAME;
use crate::tone::{Tone, ToneGenerator};

/// The number of samples of one millisecond.
const SAMPLES_PER_MS: u64 = 8;

/// A running `Play` or `Tone`.
#[derive(Debug)]
pub(crate) struct Playback {
    pub(crate) op: OpId,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// The audio or tone has not arrived yet. The playback continues at `position`, in samples.
    Awaited {
        position: u64,
        loops_left: Option<u32>,
    },
    Audio {
        audio: Arc<Audio>,
        position: u64,
        loops_left: Option<u32>,
    },
    Tone(ToneGenerator),
}

/// A playback as data. The audio is not part of it, because it is a handle.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlaybackState {
    op: OpId,
    position: u64,
    loops_left: Option<u32>,
}

impl PlaybackState {
    pub(crate) fn op(&self) -> OpId {
        self.op
    }
}

impl Playback {
    pub(crate) fn state(&self) -> PlaybackState {
        let (position, loops_left) = match &self.content {
            Content::Awaited { position, loops_left } | Content::Audio { position, loops_left, .. } => {
                (*position, *loops_left)
            }
            Content::Tone(tone) => (tone.position().into(), None),
        };
        PlaybackState { op: self.op, position, loops_left }
    }

    /// Creates a playback that waits for its audio or tone. Until then it has silence, and it does not advance.
    pub(crate) fn resume(state: PlaybackState) -> Playback {
        let PlaybackState { op, position, loops_left } = state;
        Playback { op, content: Content::Awaited { position, loops_left } }
    }

    /// Whether this playback waits for the audio or tone that `other` brings.
    pub(crate) fn awaits(&self, other: &Playback) -> bool {
        self.op == other.op && matches!(self.content, Content::Awaited { .. })
    }

    /// Returns this playback at the position of `waiting`, which waited for it.
    pub(crate) fn continuing(mut self, waiting: &Playback) -> Playback {
        if let Content::Awaited { position: at, loops_left: loops } = &waiting.content {
            match &mut self.content {
                Content::Audio { position, loops_left, .. } => (*position, *loops_left) = (*at, *loops),
                Content::Tone(tone) => tone.set_position(u32::try_from(*at).unwrap_or_default()),
                Content::Awaited { .. } => {}
            }
        }
        self
    }

    pub(crate) fn audio(op: OpId, audio: Arc<Audio>, loops: Option<NonZeroU32>) -> Playback {
        Playback { op, content: Content::Audio { audio, position: 0, loops_left: loops.map(NonZeroU32::get) } }
    }

    /// Returns this playback of audio after the first `elapsed` of it. A tone begins anew.
    pub(crate) fn after(mut self, elapsed: Duration) -> Playback {
        if let Content::Audio { audio, position, loops_left } = &mut self.content
            && audio.length() > 0
        {
            let samples = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(SAMPLES_PER_MS);
            *position = samples % audio.length();
            if let Some(left) = loops_left {
                *left = left.saturating_sub(u32::try_from(samples / audio.length()).unwrap_or(u32::MAX));
            }
        }
        self
    }

    pub(crate) fn tone(op: OpId, tone: Tone) -> Playback {
        Playback { op, content: Content::Tone(ToneGenerator::new(tone)) }
    }

    /// Fills the next frame. If the audio ends within the frame, silence follows. Returns false if no audio remained.
    pub(crate) fn next_frame(&mut self, frame: &mut [i16; FRAME]) -> bool {
        match &mut self.content {
            Content::Awaited { .. } => {
                frame.fill(0);
                true
            }
            Content::Tone(tone) => tone.next_frame(frame),
            Content::Audio { audio, position, loops_left } => {
                let mut filled = 0;
                // Audio that is shorter than a frame may repeat several times in one frame. Empty audio ends at once.
                while *loops_left != Some(0) {
                    let copied = audio.copy(*position, frame.get_mut(filled..).unwrap_or_default());
                    if copied == 0 {
                        break;
                    }
                    filled += copied;
                    *position += copied as u64;
                    if *position >= audio.length() {
                        *position = 0;
                        if let Some(left) = loops_left {
                            *left -= 1;
                        }
                    }
                }
                frame.get_mut(filled..).unwrap_or_default().fill(0);
                filled > 0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays audio of three frames, whose samples have the number of their frame. Returns the first samples of all frames.
    fn frames(loops: u32, elapsed_ms: u64) -> Vec<i16> {
        let samples: Vec<i16> = (1..=3).flat_map(|number| [number; FRAME]).collect();
        let playback = Playback::audio(OpId(1), Arc::new(Audio::new(samples)), NonZeroU32::new(loops));
        let mut playback = playback.after(Duration::from_millis(elapsed_ms));
        let mut frame = [0; FRAME];
        std::iter::from_fn(|| playback.next_frame(&mut frame).then_some(frame[0])).take(7).collect()
    }

    #[test]
    fn a_playback_continues_after_the_part_that_was_played() {
        assert_eq!(frames(2, 0), [1, 2, 3, 1, 2, 3]);
        assert_eq!(frames(2, 40), [3, 1, 2, 3]);
        assert_eq!(frames(2, 80), [2, 3]);
        assert!(frames(2, 120).is_empty() && frames(2, u64::MAX).is_empty());
        // Without end.
        assert_eq!(frames(0, 3_620), [2, 3, 1, 2, 3, 1, 2]);
    }

    #[test]
    fn empty_audio_and_a_tone_have_no_position() {
        let empty = Playback::audio(OpId(1), Arc::new(Audio::new(Vec::<i16>::new())), None);
        assert!(!empty.after(Duration::from_secs(1)).next_frame(&mut [0; FRAME]));
        let tone = Playback::tone(OpId(1), Tone::Beep { milliseconds: 40 }).after(Duration::from_secs(1));
        assert_eq!(tone.state().position, 0);
    }
}
