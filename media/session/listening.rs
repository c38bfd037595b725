//! Recorders and taps: what both directions of a leg sounded like.

use super::track::Track;
use super::{ALIVE, MediaSession};
use crate::codec::g711::Law;
use crate::codec::{Codec, SampleRate};
use crate::event::Event;
use crate::rtp::FRAME;
use crate::tap::Copied;
use crate::writer::WriterHandle;

/// Both directions, while somebody listens.
pub(super) struct Tracks {
    pub(super) inbound: Track,
    pub(super) outbound: Track,
    /// The media clock at the last frame read.
    pub(super) now: u32,
}

impl Tracks {
    pub(super) fn new(codec: Codec, rate: SampleRate) -> Tracks {
        Tracks { inbound: Track::new(codec, rate), outbound: Track::new(codec, rate), now: 0 }
    }

    /// What a recorder that stops now still lacks, frame by frame.
    pub(super) fn drain(&mut self) -> impl FnMut(&mut [i16; FRAME], &mut [i16; FRAME]) {
        let (mut inbound, mut outbound) = (self.inbound.remainder(), self.outbound.remainder());
        let mut now = self.now;
        move |left, right| {
            now = now.wrapping_add(FRAME as u32);
            inbound(now, left);
            outbound(now, right);
        }
    }
}

impl MediaSession {
    /// Last pass of a frame: gives both tracks to recorders and taps. `now`: the media clock, 8,000 a second.
    pub(super) fn listen(&mut self, writer: &WriterHandle, now: u32) {
        let Some(mut tracks) = self.tracks.take() else { return };
        tracks.now = now;
        tracks.outbound.handle_tick();
        if !self.taps.is_empty() {
            self.copy_to_taps(&mut tracks, now);
        }
        if !self.recorders.is_empty() {
            let alive = self.frames_since_rtp < ALIVE;
            let (mut inbound, mut outbound) = ([0; FRAME], [0; FRAME]);
            tracks.inbound.read_recorder(now, &mut inbound);
            tracks.outbound.read_recorder(now, &mut outbound);
            let mut index = 0;
            let playing = self.playback.as_ref().map(|playback| playback.op);
            while let Some(recorder) = self.recorders.get_mut(index) {
                recorder.playing(playing);
                match recorder.handle_frame(&inbound, &outbound, alive) {
                    None => index += 1,
                    Some(reason) => {
                        self.recorders.swap_remove(index).finish(reason, None);
                        writer.wake();
                    }
                }
            }
        }
        self.tracks = Some(tracks);
        self.drop_unused_tracks();
    }

    fn copy_to_taps(&mut self, tracks: &mut Tracks, now: u32) {
        let native = self.plan.as_ref().and_then(|plan| plan.codec.law()).unwrap_or(Law::Mu);
        let (mut inbound, mut outbound) = (Copied::silence(native), Copied::silence(native));
        match self.last_heard(now) {
            Some(heard) => {
                let mut samples = [0; FRAME];
                tracks.inbound.narrow(heard, &mut samples);
                inbound = Copied::Samples(samples);
            }
            None => tracks.inbound.read_tap(now, native, &mut inbound),
        }
        tracks.outbound.read_tap(now, native, &mut outbound);
        self.taps.retain(|tap| !tap.is_abandoned());
        let mut taps = std::mem::take(&mut self.taps);
        for tap in &mut taps {
            if let Some(dropped_ms) = tap.handle_frame(&inbound, &outbound, native) {
                self.emit(Event::StreamOverflow { op: tap.op, dropped_ms });
            }
        }
        self.taps = taps;
    }
}
