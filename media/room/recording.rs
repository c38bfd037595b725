//! Recordings of the whole mix in one channel at 8,000 Hz. A recording of a single participant belongs to the
//! participant's session.

use std::collections::VecDeque;

use super::RoomKey;
use crate::codec::SampleRate;
use crate::command::{Channels, LegId, RecordSpec, RecordingCommand, Tracks};
use crate::event::{Event, RecordingReason};
use crate::recorder::Recorder;
use crate::recorders::{Recorders, RecordingOutcome};
use crate::resample::Resampler;
use crate::timeline::RECORDER_LAG;
use crate::track_frame::TrackFrame;
use crate::writer::{Done, WriterHandle};

/// The number of samples in a recorder's frame.
const FRAME: usize = SampleRate::Hz8000.frame();

/// The recordings of a room.
pub(super) struct Recordings {
    recorders: Recorders,
    narrower: Resampler,
    /// The last frames, newest last. A recorder expects each frame [`RECORDER_LAG`] ticks after the frame was mixed.
    recent: VecDeque<[i16; FRAME]>,
    done: Done,
}

impl Recordings {
    pub(super) fn new(rate: SampleRate, done: Done) -> Recordings {
        Recordings {
            recorders: Recorders::default(),
            narrower: Resampler::new(rate, SampleRate::Hz8000),
            recent: VecDeque::with_capacity(usize::from(RECORDER_LAG) + 1),
            done,
        }
    }

    /// Executes a command. If the command fails, returns the event to send.
    pub(super) fn execute(&mut self, room: RoomKey, command: RecordingCommand, writer: &WriterHandle) -> Option<Event> {
        let command = match command {
            RecordingCommand::Start { op, spec } => {
                let spec = RecordSpec { channels: Channels::Mono, track: Tracks::Inbound, after: None, ..spec };
                RecordingCommand::Start { op, spec }
            }
            command => command,
        };
        match self.recorders.execute(LegId(room.0), command, None, writer, &self.done) {
            RecordingOutcome::Refused(event) => return Some(event),
            RecordingOutcome::Stopped(recorder) => {
                self.finish(recorder);
                writer.wake();
            }
            RecordingOutcome::Started | RecordingOutcome::Done => {}
        }
        None
    }

    pub(super) fn stop_all(&mut self, writer: &WriterHandle) {
        while let Some(recorder) = self.recorders.pop() {
            self.finish(recorder);
        }
        writer.wake();
    }

    /// Ends a recording. First passes the frames to the recorder that were mixed and that the recorder does not have
    /// yet.
    fn finish(&self, recorder: Recorder) {
        let lag = usize::from(RECORDER_LAG);
        let missing = lag.saturating_sub(self.recent.len());
        let mut rest = std::iter::repeat_n([0; FRAME], missing)
            .chain(self.recent.iter().copied().skip(self.recent.len().saturating_sub(lag)));
        recorder.finish(
            RecordingReason::Stopped,
            None,
            Some(&mut |mix, nothing| {
                *mix = TrackFrame::Samples(rest.next().unwrap_or([0; FRAME]));
                *nothing = TrackFrame::Samples([0; FRAME]);
            }),
        );
    }

    /// Handles a frame of the room's mix.
    pub(super) fn handle_frame(&mut self, mix: &[i16], writer: &WriterHandle) {
        if self.recorders.is_empty() {
            self.recent.clear();
            return;
        }
        let mut frame = [0; FRAME];
        self.narrower.process(mix, &mut frame);
        self.recent.push_back(frame);
        let late = self.recent.len() > usize::from(RECORDER_LAG);
        let due = if late { self.recent.pop_front() } else { None }.unwrap_or([0; FRAME]);
        let (due, nothing) = (TrackFrame::Samples(due), TrackFrame::Samples([0; FRAME]));
        self.recorders.handle_frame(&due, &nothing, None, writer);
    }

    /// Records silence for `frames` missed frames.
    pub(super) fn miss(&mut self, frames: u32) {
        self.recorders.miss(frames);
    }

    /// Records that one more file is complete.
    pub(super) fn handle_recorded(&mut self) {
        self.recorders.note_finished();
    }

    pub(super) fn are_finished(&self) -> bool {
        self.recorders.are_finished()
    }
}
