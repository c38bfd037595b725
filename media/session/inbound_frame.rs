//! The newest 20 ms of a leg's inbound audio. Live consumers use this frame: detectors, a room, and a bridge that
//! cannot relay packets.

use super::track::AudioTrack;
use crate::codec::{LONGEST_FRAME, SampleRate};

/// The newest inbound frame of a leg.
pub(super) struct InboundFrame {
    pub(super) samples: [i16; LONGEST_FRAME],
    pub(super) rate: SampleRate,
    /// The value of the media clock when the frame was read.
    at: u32,
    /// Whether the far end sent audio for this frame.
    sounds: bool,
    /// Whether no bridge or room has used this frame yet.
    fresh: bool,
}

impl InboundFrame {
    pub(super) fn new() -> InboundFrame {
        InboundFrame { samples: [0; LONGEST_FRAME], rate: SampleRate::Hz8000, at: 0, sounds: false, fresh: false }
    }

    /// Reads the frame that is due. `now` is the media clock in units of 1/8,000 s.
    pub(super) fn read(&mut self, track: &mut AudioTrack, now: u32) {
        track.handle_tick();
        (self.rate, self.at) = (track.rate(), now);
        self.sounds = !track.read_live(now, &mut self.samples).is_silent();
        self.fresh = true;
    }

    pub(super) fn samples(&self) -> &[i16] {
        self.samples.get(..self.rate.frame()).unwrap_or_default()
    }

    /// The frame and its rate, or `None` if the far end sent no audio for this frame.
    pub(super) fn sound(&self) -> Option<(&[i16], SampleRate)> {
        self.sounds.then(|| (self.samples(), self.rate))
    }

    /// Returns the same as [`InboundFrame::sound`], but only once for each frame.
    pub(super) fn take(&mut self) -> Option<(&[i16], SampleRate)> {
        if !std::mem::take(&mut self.fresh) {
            return None;
        }
        self.sound()
    }

    /// Returns the frame if it was read at `now`. Taps also use this frame, because the timeline delivers each frame
    /// only once.
    pub(super) fn read_at(&self, now: u32) -> Option<&[i16]> {
        (self.at == now).then(|| self.samples())
    }
}
