//! Recorders and taps: what both directions of a leg sounded like.

use super::MediaSession;
use super::track::Track;
use crate::codec::g711::Law;
use crate::codec::{Codec, SampleRate};
use crate::copied::Copied;
use crate::event::{Event, RecordingReason};
use crate::recorder::Recorder;
use crate::rtp::FRAME;
use crate::tap::{Tap, Tapped};
use crate::writer::WriterHandle;

/// Both directions, while somebody listens.
pub(super) struct Tracks {
    pub(super) inbound: Track,
    pub(super) outbound: Track,
}

/// Frames that recorders read together at most: they are behind the wire anyway, and each time the code and data of it have to
/// be fetched into the caches.
const TOGETHER: u8 = 8;

/// What recorders have not read yet.
#[derive(Default)]
pub(super) struct Unread {
    pub(super) frames: u8,
    /// At how many they are read.
    most: u8,
    /// The media clock at the newest.
    now: u32,
}

impl Tracks {
    pub(super) fn new(codec: Codec, rate: SampleRate) -> Tracks {
        Tracks { inbound: Track::new(codec, rate), outbound: Track::new(codec, rate) }
    }

    /// What a recorder that stops at `now` still lacks, frame by frame.
    fn drain(&mut self, mut now: u32) -> impl FnMut(&mut Copied, &mut Copied) {
        let (mut inbound, mut outbound) = (self.inbound.remainder(), self.outbound.remainder());
        move |left, right| {
            now = now.wrapping_add(FRAME as u32);
            inbound(now, left);
            outbound(now, right);
        }
    }
}

impl MediaSession {
    /// Last pass of a frame: gives both tracks to taps, and now and then to recorders. `now`: the media clock, 8,000 a
    /// second.
    pub(super) fn listen(&mut self, writer: &WriterHandle, now: u32) {
        if !self.taps.is_empty()
            && let Some(mut tracks) = self.tracks.take()
        {
            tracks.inbound.handle_tick();
            tracks.outbound.handle_tick();
            self.copy_to_taps(&mut tracks, now);
            self.tracks = Some(tracks);
            self.drop_unused_tracks();
        }
        let unread = &mut self.unread;
        unread.now = now;
        if self.recorders.is_empty() {
            return;
        }
        unread.frames += 1;
        if unread.frames >= unread.most {
            self.catch_up(writer);
        }
    }

    /// Has recorders read up to the present frame. To be called before anything changes that they go by.
    pub(super) fn catch_up(&mut self, writer: &WriterHandle) {
        let frames = std::mem::take(&mut self.unread.frames);
        if frames == 0 {
            return;
        }
        let Some(tracks) = &mut self.tracks else { return };
        let playing = self.playback.as_ref().map(|playback| playback.op);
        let (mut inbound, mut outbound) = (Copied::silence(Law::Mu), Copied::silence(Law::Mu));
        for later in (0..frames).rev() {
            let now = self.unread.now.wrapping_sub(u32::from(later) * FRAME as u32);
            tracks.inbound.read_recorder(now, &mut inbound);
            tracks.outbound.read_recorder(now, &mut outbound);
            self.recorders.handle_frame(&inbound, &outbound, playing, writer);
        }
        self.be_patient();
        self.drop_unused_tracks();
    }

    /// So many frames are left out.
    pub(crate) fn miss(&mut self, frames: u32, writer: &WriterHandle) {
        self.catch_up(writer);
        self.recorders.miss(frames);
    }

    /// Decides how many frames recorders read together, so that each begins and ends in its frame.
    pub(super) fn be_patient(&mut self) {
        self.unread.most = self.recorders.patience().clamp(1, TOGETHER.into()) as u8;
    }

    /// Ends a recording that has read up to the present frame, with what the wire brought until now.
    pub(super) fn stop_recorder(&mut self, recorder: Recorder, now: u32) {
        let read = self.unread.now;
        match &mut self.tracks {
            Some(tracks) => recorder.finish(RecordingReason::Stopped, Some(now), Some(&mut tracks.drain(read))),
            None => recorder.finish(RecordingReason::Stopped, Some(now), None),
        }
    }

    fn copy_to_taps(&mut self, tracks: &mut Tracks, now: u32) {
        let native = self.plan.as_ref().and_then(|plan| plan.codec.law()).unwrap_or(Law::Mu);
        let wide = self.taps.iter().any(Tap::is_wide);
        let (mut inbound, mut outbound) = (Tapped::silence(native), Tapped::silence(native));
        match self.last_heard(now) {
            Some(heard) => tracks.inbound.shape(heard, wide, &mut inbound),
            None => tracks.inbound.read_tap(now, native, wide, &mut inbound),
        }
        tracks.outbound.read_tap(now, native, wide, &mut outbound);
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
