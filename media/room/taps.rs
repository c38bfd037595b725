//! Taps of the whole mix. A tap has the same audio as a recording of the room. This audio is in the inbound track, and
//! there is no other track. A tap of a single participant belongs to the participant's session.

use crate::codec::SampleRate;
use crate::codec::g711::Law;
use crate::command::{OpId, Tracks};
use crate::resample::Resampler;
use crate::rtp::FRAME;
use crate::tap::{Tap, TapSink, Tapped, WIDE};
use crate::track_frame::TrackFrame;

/// The taps of a room.
pub(super) struct Taps {
    taps: Vec<Tap>,
    narrower: Resampler,
    wider: Resampler,
}

impl Taps {
    /// The highest number of taps at a time. A further tap ends at once.
    const MAX_TAPS: usize = 16;

    pub(super) fn new(rate: SampleRate) -> Taps {
        let [narrower, wider] = [SampleRate::Hz8000, SampleRate::Hz16000].map(|to| Resampler::new(rate, to));
        Taps { taps: Vec::new(), narrower, wider }
    }

    /// Starts a tap. The tap ends when its reader is dropped.
    pub(super) fn start(&mut self, sink: TapSink) {
        if self.taps.len() < Self::MAX_TAPS {
            self.taps.push(Tap::new(OpId(0), Tracks::Inbound, sink));
        }
    }

    /// Handles a frame of the room's mix.
    pub(super) fn handle_frame(&mut self, mix: &[i16]) {
        self.taps.retain(|tap| !tap.is_abandoned());
        if self.taps.is_empty() {
            return;
        }
        let mut narrow = [0; FRAME];
        self.narrower.process(mix, &mut narrow);
        let mut heard = Tapped { narrow: TrackFrame::Samples(narrow), wide: [0; WIDE] };
        if self.taps.iter().any(Tap::is_wide) {
            self.wider.process(mix, &mut heard.wide);
        }
        let nothing = Tapped::silence(Law::Mu);
        for tap in &mut self.taps {
            // A room sends no event when a tap drops frames. The tap's reader counts them.
            tap.handle_frame(&heard, &nothing, Law::Mu);
        }
    }

    pub(super) fn end_all(&mut self) {
        self.taps.clear();
    }
}
