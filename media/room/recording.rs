//! Recordings of the whole mix: one channel at 8,000 Hz. What a participant alone says and hears is its session's to
//! record.

use std::collections::VecDeque;
use std::sync::Arc;

use super::RoomKey;
use crate::codec::SampleRate;
use crate::command::{Channels, OpId, RecordSpec, SessionKey, Tracks};
use crate::copied::Copied;
use crate::event::RecordingReason;
use crate::recorder::{Pause, Recorder};
use crate::resample::Resampler;
use crate::timeline::RECORDER_LAG;
use crate::writer::{Done, NewRecording, WriterHandle};

/// Samples of a recorder's frame.
const FRAME: usize = SampleRate::Hz8000.frame();
/// Recordings that a room takes at a time.
const MOST: usize = 8;

/// The recordings of a room.
pub(super) struct Recordings {
    recorders: Vec<Recorder>,
    /// Recordings whose files are not complete.
    unfinished: usize,
    narrower: Resampler,
    /// The newest last. Recorders reckon with sources that give a frame so many ticks after it was heard.
    recent: VecDeque<[i16; FRAME]>,
    done: Done,
}

impl Recordings {
    pub(super) fn new(rate: SampleRate, done: Done) -> Recordings {
        Recordings {
            recorders: Vec::new(),
            unfinished: 0,
            narrower: Resampler::new(rate, SampleRate::Hz8000),
            recent: VecDeque::with_capacity(usize::from(RECORDER_LAG) + 1),
            done,
        }
    }

    /// Starts one; on an error its text says why not.
    pub(super) fn start(
        &mut self,
        room: RoomKey,
        op: OpId,
        spec: &RecordSpec,
        writer: &WriterHandle,
    ) -> Result<(), &'static str> {
        if self.recorders.len() >= MOST {
            return Err("the room has eight recordings already");
        }
        let spec = RecordSpec { channels: Channels::Mono, track: Tracks::Inbound, after: None, ..spec.clone() };
        let (recorder, feed) = Recorder::new(op, &spec);
        let new = NewRecording { key: SessionKey(room.0), op, spec, feed, done: Arc::clone(&self.done) };
        if !writer.start(new) {
            return Err("too many recordings wait to be opened");
        }
        self.unfinished += 1;
        self.recorders.push(recorder);
        Ok(())
    }

    pub(super) fn pause(&mut self, op: OpId, pause: Pause) {
        self.recorders.iter_mut().filter(|recorder| recorder.op == op).for_each(|recorder| recorder.pause(pause));
    }

    pub(super) fn stop(&mut self, op: OpId, writer: &WriterHandle) {
        if let Some(place) = self.recorders.iter().position(|recorder| recorder.op == op) {
            let recorder = self.recorders.swap_remove(place);
            self.finish(recorder);
            writer.wake();
        }
    }

    pub(super) fn stop_all(&mut self, writer: &WriterHandle) {
        while let Some(recorder) = self.recorders.pop() {
            self.finish(recorder);
        }
        writer.wake();
    }

    /// What was mixed until now but not yet given to it is added.
    fn finish(&self, recorder: Recorder) {
        let lag = usize::from(RECORDER_LAG);
        let missing = lag.saturating_sub(self.recent.len());
        let mut rest = std::iter::repeat_n([0; FRAME], missing)
            .chain(self.recent.iter().copied().skip(self.recent.len().saturating_sub(lag)));
        recorder.finish(
            RecordingReason::Stopped,
            Some(&mut |mix, nothing| {
                *mix = Copied::Samples(rest.next().unwrap_or([0; FRAME]));
                *nothing = Copied::Samples([0; FRAME]);
            }),
        );
    }

    /// Takes a frame of the room's mix.
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
        let (due, nothing) = (Copied::Samples(due), Copied::Samples([0; FRAME]));
        let mut place = 0;
        while let Some(recorder) = self.recorders.get_mut(place) {
            match recorder.handle_frame(&due, &nothing, true) {
                None => place += 1,
                Some(reason) => {
                    self.recorders.swap_remove(place).finish(reason, None);
                    writer.wake();
                }
            }
        }
    }

    /// So many frames are left out.
    pub(super) fn miss(&mut self, frames: u32) {
        self.recorders.iter_mut().for_each(|recorder| recorder.miss(frames));
    }

    /// A file is complete.
    pub(super) fn handle_recorded(&mut self) {
        self.unfinished = self.unfinished.saturating_sub(1);
    }

    pub(super) fn are_finished(&self) -> bool {
        self.unfinished == 0
    }
}
