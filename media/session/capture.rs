//! The recorders and taps of a leg, and the audio tracks of both directions. Other consumers also read these tracks.

use super::SessionEvents;
use serde::{Deserialize, Serialize};

use super::inbound_frame::InboundFrame;
use super::track::AudioTrack;
use crate::codec::Codec;
use crate::codec::g711::Law;
use crate::command::{LegId, OpId, RecordingCommand, Tracks};
use crate::event::{Event, RecordingReason};
use crate::network::Context;
use crate::recorder::{Recorder, RecordingPosition, RecordingState};
use crate::recorders::{Recorders, RecordingOutcome};
use crate::rtp::{FRAME, Header};
use crate::tap::{Tap, TapSink, Tapped};
use crate::timeline::Stamp;
use crate::track_frame::TrackFrame;
use crate::writer::{Done, WriterHandle};

/// The highest number of taps of a session.
const MAX_TAPS: usize = 16;
/// The highest number of frames that recorders read in one batch. A batch saves time, because each read loads the code
/// and data of the recorders into the CPU caches. The delay of a batch has no effect, because recorders are always
/// behind the network.
const MAX_BATCH: u8 = 8;

/// The recorders, taps and audio tracks of a leg.
#[derive(Default)]
pub(super) struct Capture {
    /// The audio tracks. They exist while there is a recorder, a tap or a consumer of inbound frames.
    tracks: Option<Box<AudioTracks>>,
    unread: Unread,
    recorders: Recorders,
    taps: Vec<Tap>,
    /// The number of late packets of tracks that were removed.
    late: u64,
}

/// The audio of both directions.
struct AudioTracks {
    inbound: AudioTrack,
    outbound: AudioTrack,
}

/// The frames that the recorders have not read yet.
#[derive(Default)]
struct Unread {
    frames: u8,
    /// The number of unread frames that starts a read. When there are this many unread frames, the recorders read all
    /// of them.
    batch: u8,
    /// The media clock at the newest unread frame.
    now: u32,
}

impl AudioTracks {
    fn new(codec: Codec) -> AudioTracks {
        let track = || AudioTrack::new(codec, codec.sample_rate());
        AudioTracks { inbound: track(), outbound: track() }
    }

    /// Returns a function that reads the frames after `now` for a recorder that stops. Each call reads one frame of
    /// both directions.
    fn drain(&mut self, mut now: u32) -> impl FnMut(&mut TrackFrame, &mut TrackFrame) {
        let (mut inbound, mut outbound) = (self.inbound.remainder(), self.outbound.remainder());
        move |left, right| {
            now = now.wrapping_add(FRAME as u32);
            inbound(now, left);
            outbound(now, right);
        }
    }
}

/// The recorders and taps of a leg as data.
#[derive(Serialize, Deserialize)]
pub(super) struct CaptureState {
    taps: Vec<OpId>,
    recordings: Vec<RecordingState>,
    late: u64,
}

impl CaptureState {
    pub(super) fn taps(&self) -> Vec<OpId> {
        self.taps.clone()
    }

    pub(super) fn recordings(&self) -> Vec<RecordingPosition> {
        self.recordings.iter().map(RecordingState::position).collect()
    }
}

impl Capture {
    pub(super) fn state(&self) -> CaptureState {
        CaptureState {
            taps: self.taps.iter().map(|tap| tap.op).collect(),
            recordings: self.recorders.state(),
            late: self.late(),
        }
    }

    /// Creates the readers from data. The recordings wait for their files ([`Recorders::resume`]).
    pub(super) fn resume(state: CaptureState) -> Capture {
        Capture { recorders: Recorders::resume(state.recordings), late: state.late, ..Capture::default() }
    }

    // ---- readers ----

    /// Whether there is a recorder or a tap.
    pub(super) fn has_readers(&self) -> bool {
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

    /// The number of inbound packets that arrived too late for playout.
    pub(super) fn late(&self) -> u64 {
        self.late + self.tracks.as_ref().map_or(0, |tracks| tracks.inbound.quality().late.into())
    }

    /// Creates the tracks if they do not exist. `codec` is the codec of the plan.
    pub(super) fn need_tracks(&mut self, codec: Codec) {
        self.tracks_for(codec);
    }

    fn tracks_for(&mut self, codec: Codec) -> &mut AudioTracks {
        self.tracks.get_or_insert_with(|| Box::new(AudioTracks::new(codec)))
    }

    /// Adds a live reader to the inbound audio. `already` says whether the inbound audio has a live reader already.
    /// Returns the inbound track.
    pub(super) fn add_live_reader(&mut self, codec: Codec, already: bool) -> &mut AudioTrack {
        let inbound = &mut self.tracks_for(codec).inbound;
        if !already {
            inbound.begin_live();
        }
        inbound
    }

    /// Removes the tracks, because no consumer needs them. The counters of the tracks are kept.
    pub(super) fn drop_tracks(&mut self) {
        if let Some(mut tracks) = self.tracks.take() {
            tracks.inbound.settle();
            self.late += u64::from(tracks.inbound.quality().late);
        }
    }

    // ---- audio comes in ----

    /// Changes the codec of the outbound track after a new plan.
    pub(super) fn follow_outbound(&mut self, codec: Codec) {
        if let Some(tracks) = self.tracks.as_mut().filter(|tracks| !tracks.outbound.takes(codec)) {
            tracks.outbound.follow(codec, codec.sample_rate(), self.unread.frames);
        }
    }

    /// Adds a received audio packet to the inbound track. `new_source` says that this is the first packet with another
    /// SSRC.
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

    /// Adds received comfort noise to the inbound track. `level` is the noise level in -dBov (RFC 3389).
    pub(super) fn handle_comfort_noise(&mut self, header: &Header, level: u8, cx: &Context<'_>) {
        if let Some(tracks) = &mut self.tracks {
            tracks.inbound.handle_comfort_noise(cx.stamp(header), level);
        }
    }

    /// Adds an audio packet, which is relayed to the leg, to the outbound track.
    #[inline]
    pub(super) fn handle_outbound_packet(&mut self, header: &Header, codec: Codec, payload: &[u8], cx: &Context<'_>) {
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.handle_packet(cx.stamp(header), codec, header.sequence, payload);
        }
    }

    /// Adds a G.711 frame, which is sent to the leg, to the outbound track.
    pub(super) fn handle_outbound_octets(&mut self, stamp: Stamp, law: Law, octets: &[u8]) {
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.handle_octets(stamp, law, octets);
        }
    }

    /// Adds a PCM frame, which is sent to the leg, to the outbound track. The frame has the sample rate of the leg's
    /// codec. `samples` is called if there is a track.
    pub(super) fn handle_outbound_samples<'a>(&mut self, stamp: Stamp, samples: impl FnOnce() -> &'a [i16]) {
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.handle_samples(stamp, samples());
        }
    }

    /// Starts a pause in the outbound track. The pause lasts until the next audio for the leg.
    pub(super) fn handle_outbound_pause(&mut self) {
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.start_pause();
        }
    }

    // ---- audio is read ----

    /// Runs the first pass of a frame: reads the inbound frame that is due. Returns false if there are no tracks.
    pub(super) fn read_inbound(&mut self, frame: &mut Option<Box<InboundFrame>>, now: u32) -> bool {
        let Some(tracks) = &mut self.tracks else { return false };
        frame.get_or_insert_with(|| Box::new(InboundFrame::new())).read(&mut tracks.inbound, now);
        true
    }

    /// Runs the last pass of a frame for taps. The function passes the audio of both directions to the taps. `read` is
    /// the inbound frame of this tick, if it was already read. `native` is the G.711 law of the plan. Returns whether
    /// there were taps.
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

    /// Runs the last pass of a frame for recorders. The function only counts the frame. Returns whether the recorders
    /// should read now ([`Capture::catch_up`]).
    pub(super) fn note_frame(&mut self, now: u32) -> bool {
        self.unread.now = now;
        if self.recorders.is_empty() {
            return false;
        }
        self.unread.frames += 1;
        self.unread.frames >= self.unread.batch
    }

    /// Makes the recorders read all frames up to the current frame. Call this before any change that affects the
    /// recorders. `playing` is the operation that plays now. Returns whether frames were read.
    pub(super) fn catch_up(&mut self, playing: Option<OpId>, writer: &WriterHandle) -> bool {
        let frames = std::mem::take(&mut self.unread.frames);
        let Some(tracks) = self.tracks.as_mut().filter(|_| frames > 0) else { return false };
        let (mut inbound, mut outbound) = (TrackFrame::silence(Law::Mu), TrackFrame::silence(Law::Mu));
        for later in (0..frames).rev() {
            let now = self.unread.now.wrapping_sub(u32::from(later) * FRAME as u32);
            tracks.inbound.read_recorder(now, &mut inbound);
            tracks.outbound.read_recorder(now, &mut outbound);
            self.recorders.handle_frame(&inbound, &outbound, playing, writer);
        }
        self.set_batch();
        true
    }

    /// Sets the number of frames that recorders read in one batch. The number must be small enough that each recording
    /// starts and ends at the right frame.
    fn set_batch(&mut self) {
        self.unread.batch = self.recorders.frames_until_due().clamp(1, MAX_BATCH.into()) as u8;
    }

    // ---- commands ----

    /// Handles a recording command. Call [`Capture::catch_up`] first. `codec` is the codec of the plan, and `now` is
    /// the media clock.
    pub(super) fn handle_recording(
        &mut self,
        key: LegId,
        command: RecordingCommand,
        codec: Codec,
        now: u32,
        (writer, done): (&WriterHandle, &Done),
        events: &mut SessionEvents,
    ) {
        let first = self.recorders.is_empty();
        match self.recorders.execute(key, command, Some(now), writer, done) {
            RecordingOutcome::Started => {
                let tracks = self.tracks_for(codec);
                if first {
                    tracks.inbound.begin_recording();
                    tracks.outbound.begin_recording();
                }
            }
            RecordingOutcome::Stopped(recorder) => {
                self.finish(recorder, now);
                writer.wake();
            }
            RecordingOutcome::Refused(event) => events.send(event),
            RecordingOutcome::Done => {}
        }
        self.set_batch();
    }

    /// Handles the end of a recording. The recording's file is complete.
    pub(super) fn note_recording_finished(&mut self) {
        self.recorders.note_finished();
    }

    /// Records `frames` frames as silence. The worker was blocked and missed these frames.
    pub(super) fn miss(&mut self, frames: u32) {
        self.recorders.miss(frames);
    }

    /// Stops all recorders. Call [`Capture::catch_up`] first.
    pub(super) fn finish_recordings(&mut self, now: u32, writer: &WriterHandle) {
        if self.recorders.is_empty() {
            return;
        }
        while let Some(recorder) = self.recorders.pop() {
            self.finish(recorder, now);
        }
        writer.wake();
    }

    /// Ends a recording that has read all frames up to the current frame. Some later audio has already arrived, because
    /// the recorder reads with a delay. The recording also gets this audio.
    fn finish(&mut self, recorder: Recorder, now: u32) {
        let read = self.unread.now;
        match &mut self.tracks {
            Some(tracks) => recorder.finish(RecordingReason::Stopped, Some(now), Some(&mut tracks.drain(read))),
            None => recorder.finish(RecordingReason::Stopped, Some(now), None),
        }
    }

    /// Adds a tap, unless there are already [`MAX_TAPS`] taps. `live` says that the inbound audio already has a live
    /// reader.
    pub(super) fn add_tap(&mut self, op: OpId, tracks: Tracks, sink: TapSink, codec: Codec, live: bool) {
        if self.taps.len() >= MAX_TAPS {
            return;
        }
        let first = self.taps.is_empty();
        self.add_live_reader(codec, live || !first);
        if first {
            self.tracks_for(codec).outbound.begin_live();
        }
        self.taps.push(Tap::new(op, tracks, sink));
    }

    pub(super) fn remove_tap(&mut self, op: OpId) {
        self.taps.retain(|tap| tap.op != op);
    }

    /// Removes all taps. This happens when the session closes.
    pub(super) fn clear_taps(&mut self) {
        self.taps.clear();
    }
}
