//! Recorders and taps of a leg, and the audio of both its directions that they and others listen to.

use super::inbound_frame::InboundFrame;
use super::track::AudioTrack;
use super::{Context, SessionEvents};
use crate::codec::Codec;
use crate::codec::g711::Law;
use crate::command::{OpId, RecordingCommand, SessionKey, Tracks};
use crate::copied::Copied;
use crate::event::{Event, RecordingReason};
use crate::recorder::Recorder;
use crate::recorders::{Obeyed, Recorders};
use crate::rtp::{FRAME, Header};
use crate::tap::{Tap, TapSink, Tapped};
use crate::timeline::Stamp;
use crate::writer::{Done, WriterHandle};

/// The highest number of taps of a session.
const MOST_TAPS: usize = 16;
/// Frames that recorders read together at most. They are behind the wire anyway, and each reading fetches its code and data
/// into the caches.
const TOGETHER: u8 = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Capture {
    /// Exist while anybody listens: recorders, taps, or those that want inbound frames.
    tracks: Option<Box<AudioTracks>>,
    unread: Unread,
    recorders: Recorders,
    taps: Vec<Tap>,
    /// Late packets of tracks that are gone.
    late: u64,
}

/// The audio of both directions.
struct AudioTracks {
    inbound: AudioTrack,
    outbound: AudioTrack,
}

/// Frames that recorders have not read yet.
#[derive(Default)]
struct Unread {
    frames: u8,
    /// Recorders read when there are so many.
    most: u8,
    /// The media clock at the newest one.
    now: u32,
}

impl AudioTracks {
    fn new(codec: Codec) -> AudioTracks {
        let track = || AudioTrack::new(codec, codec.sample_rate());
        AudioTracks { inbound: track(), outbound: track() }
    }

    /// The frames that a recorder which stops at `now` has not received yet, one after the other.
    fn drain(&mut self, mut now: u32) -> impl FnMut(&mut Copied, &mut Copied) {
        let (mut inbound, mut outbound) = (self.inbound.remainder(), self.outbound.remainder());
        move |left, right| {
            now = now.wrapping_add(FRAME as u32);
            inbound(now, left);
            outbound(now, right);
        }
    }
}

impl Capture {
    // ---- who listens ----

    /// Whether there is a recorder or a tap.
    pub(super) fn has_listeners(&self) -> bool {
        !self.recorders.is_empty() || self.has_taps()
    }

    pub(super) fn has_taps(&self) -> bool {
        !self.taps.is_empty()
    }

    pub(super) fn has_tracks(&self) -> bool {
        self.tracks.is_some()
    }

    /// Whether all recorded files are complete.
    pub(super) fn are_recordings_finished(&self) -> bool {
        self.recorders.are_finished()
    }

    /// Packets that came too late to be heard.
    pub(super) fn late(&self) -> u64 {
        self.late + self.tracks.as_ref().map_or(0, |tracks| tracks.inbound.quality().late.into())
    }

    /// Somebody listens: the tracks are needed. `codec`: of the plan.
    pub(super) fn need_tracks(&mut self, codec: Codec) {
        self.tracks_for(codec);
    }

    fn tracks_for(&mut self, codec: Codec) -> &mut AudioTracks {
        self.tracks.get_or_insert_with(|| Box::new(AudioTracks::new(codec)))
    }

    /// One more listener wants the inbound audio live. `already`: others did before. Returns the inbound track.
    pub(super) fn listen_live(&mut self, codec: Codec, already: bool) -> &mut AudioTrack {
        let inbound = &mut self.tracks_for(codec).inbound;
        if !already {
            inbound.begin_live();
        }
        inbound
    }

    /// Nobody listens any more. What the tracks counted stays.
    pub(super) fn drop_tracks(&mut self) {
        if let Some(mut tracks) = self.tracks.take() {
            tracks.inbound.settle();
            self.late += u64::from(tracks.inbound.quality().late);
        }
    }

    // ---- audio comes in ----

    /// The codec that we send changes with a new plan.
    pub(super) fn follow_outbound(&mut self, codec: Codec) {
        if let Some(tracks) = self.tracks.as_mut().filter(|tracks| !tracks.outbound.takes(codec)) {
            tracks.outbound.follow(codec, codec.sample_rate(), self.unread.frames);
        }
    }

    /// Takes a received audio packet. `new_source`: it is the first of another SSRC.
    #[inline]
    pub(super) fn handle_inbound_packet(
        &mut self,
        header: &Header,
        codec: Codec,
        new_source: bool,
        payload: &[u8],
        cx: &Context<'_>,
    ) {
        if let Some(tracks) = &mut self.tracks {
            let inbound = &mut tracks.inbound;
            if !inbound.takes(codec) {
                inbound.follow(codec, codec.sample_rate(), self.unread.frames);
            }
            if new_source {
                inbound.restart();
            }
            inbound.handle_packet(cx.stamp(header), codec, header.sequence, payload);
        }
    }

    /// Takes received comfort noise of so many -dBov.
    pub(super) fn handle_comfort_noise(&mut self, header: &Header, level: u8, cx: &Context<'_>) {
        if let Some(tracks) = &mut self.tracks {
            tracks.inbound.handle_comfort_noise(cx.stamp(header), level);
        }
    }

    /// Takes an audio packet that is relayed to the leg.
    #[inline]
    pub(super) fn handle_outbound_packet(&mut self, header: &Header, codec: Codec, payload: &[u8], cx: &Context<'_>) {
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.handle_packet(cx.stamp(header), codec, header.sequence, payload);
        }
    }

    /// Takes a frame of G.711 that the leg is sent.
    pub(super) fn handle_outbound_octets(&mut self, stamp: Stamp, law: Law, octets: &[u8]) {
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.handle_octets(stamp, law, octets);
        }
    }

    /// Takes a frame of PCM that the leg is sent, at the rate of its codec.
    pub(super) fn handle_outbound_samples(&mut self, stamp: Stamp, samples: &[i16]) {
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.handle_samples(stamp, samples);
        }
    }

    /// Nothing is sent until something else is.
    pub(super) fn handle_outbound_rest(&mut self) {
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.rest();
        }
    }

    // ---- audio is read ----

    /// First pass of a frame: reads the inbound frame that is due. False: there are no tracks.
    pub(super) fn read_inbound(&mut self, frame: &mut Option<Box<InboundFrame>>, now: u32) -> bool {
        let Some(tracks) = &mut self.tracks else { return false };
        frame.get_or_insert_with(|| Box::new(InboundFrame::new())).read(&mut tracks.inbound, now);
        true
    }

    /// Last pass of a frame, for taps: gives them both directions. `read`: the inbound frame of this tick, if it was read
    /// before; `native`: the law of the plan. Returns whether there were any taps.
    pub(super) fn feed_taps(
        &mut self,
        read: Option<&[i16]>,
        native: Law,
        now: u32,
        events: &mut SessionEvents,
    ) -> bool {
        let Some(tracks) = self.tracks.as_mut().filter(|_| !self.taps.is_empty()) else { return false };
        tracks.inbound.handle_tick();
        tracks.outbound.handle_tick();
        let wide = self.taps.iter().any(Tap::is_wide);
        let (mut inbound, mut outbound) = (Tapped::silence(native), Tapped::silence(native));
        match read {
            Some(frame) => tracks.inbound.shape(frame, wide, &mut inbound),
            None => tracks.inbound.read_tap(now, native, wide, &mut inbound),
        }
        tracks.outbound.read_tap(now, native, wide, &mut outbound);
        self.taps.retain(|tap| !tap.is_abandoned());
        for tap in &mut self.taps {
            if let Some(dropped_ms) = tap.handle_frame(&inbound, &outbound, native) {
                events.send(Event::StreamOverflow { op: tap.op, dropped_ms });
            }
        }
        true
    }

    /// Last pass of a frame, for recorders. Returns whether they should read now ([`Capture::catch_up`]).
    pub(super) fn note_frame(&mut self, now: u32) -> bool {
        self.unread.now = now;
        if self.recorders.is_empty() {
            return false;
        }
        self.unread.frames += 1;
        self.unread.frames >= self.unread.most
    }

    /// Makes the recorders read up to the present frame. It must be called before anything changes that they depend on.
    /// `playing`: the operation that is being played. Returns whether anything was read.
    pub(super) fn catch_up(&mut self, playing: Option<OpId>, writer: &WriterHandle) -> bool {
        let frames = std::mem::take(&mut self.unread.frames);
        let Some(tracks) = self.tracks.as_mut().filter(|_| frames > 0) else { return false };
        let (mut inbound, mut outbound) = (Copied::silence(Law::Mu), Copied::silence(Law::Mu));
        for later in (0..frames).rev() {
            let now = self.unread.now.wrapping_sub(u32::from(later) * FRAME as u32);
            tracks.inbound.read_recorder(now, &mut inbound);
            tracks.outbound.read_recorder(now, &mut outbound);
            self.recorders.handle_frame(&inbound, &outbound, playing, writer);
        }
        self.set_patience();
        true
    }

    /// Sets the number of frames that recorders read in one batch, so that each recording starts and ends at the right
    /// frame.
    fn set_patience(&mut self) {
        self.unread.most = self.recorders.patience().clamp(1, TOGETHER.into()) as u8;
    }

    // ---- commands ----

    /// Takes a command about a recording, after [`Capture::catch_up`]. `codec`: of the plan; `now`: the media clock.
    pub(super) fn handle_recording(
        &mut self,
        key: SessionKey,
        order: RecordingCommand,
        codec: Codec,
        now: u32,
        (writer, done): (&WriterHandle, &Done),
        events: &mut SessionEvents,
    ) {
        let first = self.recorders.is_empty();
        match self.recorders.obey(key, order, Some(now), writer, done) {
            Obeyed::Started => {
                let tracks = self.tracks_for(codec);
                if first {
                    tracks.inbound.begin_recording();
                    tracks.outbound.begin_recording();
                }
            }
            Obeyed::Stopped(recorder) => {
                self.finish(recorder, now);
                writer.wake();
            }
            Obeyed::Refused(event) => events.send(event),
            Obeyed::Done => {}
        }
        self.set_patience();
    }

    /// Handles the end of a recording: its file is complete.
    pub(super) fn note_recording_finished(&mut self) {
        self.recorders.note_finished();
    }

    /// Recordings get so many frames of silence, because the worker stood still.
    pub(super) fn miss(&mut self, frames: u32) {
        self.recorders.miss(frames);
    }

    /// Stops all recorders, after [`Capture::catch_up`].
    pub(super) fn finish_recordings(&mut self, now: u32, writer: &WriterHandle) {
        if self.recorders.is_empty() {
            return;
        }
        while let Some(recorder) = self.recorders.pop() {
            self.finish(recorder, now);
        }
        writer.wake();
    }

    /// Ends a recording that has read up to the present frame, with what came until now.
    fn finish(&mut self, recorder: Recorder, now: u32) {
        let read = self.unread.now;
        match &mut self.tracks {
            Some(tracks) => recorder.finish(RecordingReason::Stopped, Some(now), Some(&mut tracks.drain(read))),
            None => recorder.finish(RecordingReason::Stopped, Some(now), None),
        }
    }

    /// Adds a tap, unless there are too many. `live`: the inbound audio was listened to live already.
    pub(super) fn add_tap(&mut self, op: OpId, tracks: Tracks, sink: TapSink, codec: Codec, live: bool) {
        if self.taps.len() >= MOST_TAPS {
            return;
        }
        let first = self.taps.is_empty();
        self.listen_live(codec, live || !first);
        if first {
            self.tracks_for(codec).outbound.begin_live();
        }
        self.taps.push(Tap::new(op, tracks, sink));
    }

    pub(super) fn remove_tap(&mut self, op: OpId) {
        self.taps.retain(|tap| tap.op != op);
    }

    /// Ends all taps: the session closes.
    pub(super) fn clear_taps(&mut self) {
        self.taps.clear();
    }
}
