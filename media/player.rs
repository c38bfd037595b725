//! Audio or a tone that a session plays, frame by frame. This module is pure.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::audio::Audio;
use crate::command::OpId;
use crate::rtp::FRAME;
use crate::tone::{Tone, ToneGenerator};

/// A running `Play` or `Tone`.
#[derive(Debug)]
pub(crate) struct Playback {
    pub(crate) op: OpId,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Audio { audio: Arc<Audio>, position: u64, loops_left: Option<u32> },
    Tone(ToneGenerator),
}

impl Playback {
    pub(crate) fn audio(op: OpId, audio: Arc<Audio>, loops: Option<NonZeroU32>) -> Playback {
        Playback { op, content: Content::Audio { audio, position: 0, loops_left: loops.map(NonZeroU32::get) } }
    }

    pub(crate) fn tone(op: OpId, tone: Tone) -> Playback {
        Playback { op, content: Content::Tone(ToneGenerator::new(tone)) }
    }

    /// Fills the next frame. If the audio ends within the frame, silence follows. Returns false if no audio remained.
    pub(crate) fn next_frame(&mut self, frame: &mut [i16; FRAME]) -> bool {
        match &mut self.content {
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
