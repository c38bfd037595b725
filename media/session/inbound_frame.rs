//! The newest 20 ms of a leg's inbound audio, for those that want it at once: a bridge that cannot relay packets, a room,
//! detectors.

use super::track::AudioTrack;
use crate::codec::{LONGEST_FRAME, SampleRate};

/// See the module.
pub(super) struct InboundFrame {
    pub(super) samples: [i16; LONGEST_FRAME],
    pub(super) rate: SampleRate,
    /// The media clock when the frame was read.
    at: u32,
    /// The remote end sent something for it.
    sounds: bool,
    /// No bridge and no room has taken it yet.
    fresh: bool,
}

impl InboundFrame {
    pub(super) fn new() -> InboundFrame {
        InboundFrame { samples: [0; LONGEST_FRAME], rate: SampleRate::Hz8000, at: 0, sounds: false, fresh: false }
    }

    /// Reads the frame that is due. `now`: the media clock, 8,000 a second.
    pub(super) fn read(&mut self, track: &mut AudioTrack, now: u32) {
        track.handle_tick();
        (self.rate, self.at) = (track.rate(), now);
        self.sounds = !track.read_live(now, &mut self.samples).is_nothing();
        self.fresh = true;
    }

    pub(super) fn samples(&self) -> &[i16] {
        self.samples.get(..self.rate.frame()).unwrap_or_default()
    }

    /// The frame and its rate; `None` if the remote end sent nothing for it.
    pub(super) fn sound(&self) -> Option<(&[i16], SampleRate)> {
        self.sounds.then(|| (self.samples(), self.rate))
    }

    /// The same, once for each frame.
    pub(super) fn take(&mut self) -> Option<(&[i16], SampleRate)> {
        if !std::mem::take(&mut self.fresh) {
            return None;
        }
        self.sound()
    }

    /// The frame that was read at `now`. A frame is not read from the timeline twice, so taps use this one too.
    pub(super) fn read_at(&self, now: u32) -> Option<&[i16]> {
        (self.at == now).then(|| self.samples())
    }
}
