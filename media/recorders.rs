//! The recordings of a session or a room. This module executes the commands for the recordings and passes frames to
//! each recording.

use std::sync::Arc;
use std::time::Duration;

use crate::command::{LegId, OpId, RecordSpec, RecordingCommand};
use crate::event::{Event, RecordingReason};
use crate::recorder::{Pause, Recorder, RecordingState};
use crate::track_frame::TrackFrame;
use crate::writer::{Done, NewRecording, WriterHandle};

/// The maximum number of recordings that a session or a room has at a time.
const MAX_RECORDINGS: usize = 8;

/// The recordings of a session or a room.
#[derive(Default)]
pub(crate) struct Recorders {
    recorders: Vec<Recorder>,
    /// The number of recordings whose files are not complete.
    unfinished: usize,
    /// The recordings of a resumed session that wait for their `Start` command.
    awaited: Vec<RecordingState>,
}

/// The result of a command.
pub(crate) enum RecordingOutcome {
    Done,
    Started,
    /// The recording could not start. The calling code must send this event.
    Refused(Event),
    /// The recording was removed. The calling code must finish the recording.
    Stopped(Recorder),
}

impl Recorders {
    /// Returns the recordings as data, also those that wait for their `Start` command.
    pub(crate) fn state(&self) -> Vec<RecordingState> {
        self.recorders.iter().map(Recorder::state).chain(self.awaited.iter().cloned()).collect()
    }

    /// Creates recordings from data. Each of them continues with the `Start` command of its operation.
    pub(crate) fn resume(mut awaited: Vec<RecordingState>) -> Recorders {
        awaited.truncate(MAX_RECORDINGS);
        Recorders { awaited, ..Recorders::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.recorders.is_empty()
    }

    /// Whether all files are complete.
    pub(crate) fn are_finished(&self) -> bool {
        self.unfinished == 0
    }

    /// Takes note that one more file is complete.
    pub(crate) fn note_finished(&mut self) {
        self.unfinished = self.unfinished.saturating_sub(1);
    }

    /// Executes a command. `now` is the media clock in units of 1/8,000 s. If `now` is set, the length of a recording
    /// equals the time from the start command to the stop command.
    pub(crate) fn execute(
        &mut self,
        key: LegId,
        command: RecordingCommand,
        now: Option<u32>,
        writer: &WriterHandle,
        done: &Done,
    ) -> RecordingOutcome {
        match command {
            RecordingCommand::Start { op, spec } => match self.start(key, op, &spec, now, writer, done) {
                Ok(()) => RecordingOutcome::Started,
                Err(why) => RecordingOutcome::Refused(refused(op, spec, why)),
            },
            RecordingCommand::Pause { op, silence } => {
                self.pause(op, if silence { Pause::Silence } else { Pause::Skip })
            }
            RecordingCommand::Resume { op } => self.pause(op, Pause::No),
            RecordingCommand::Stop { op } => match self.recorders.iter().position(|recorder| recorder.op == op) {
                Some(place) => RecordingOutcome::Stopped(self.recorders.swap_remove(place)),
                None => {
                    self.awaited.retain(|awaited| !awaited.is(op));
                    RecordingOutcome::Done
                }
            },
        }
    }

    fn start(
        &mut self,
        key: LegId,
        op: OpId,
        spec: &RecordSpec,
        now: Option<u32>,
        writer: &WriterHandle,
        done: &Done,
    ) -> Result<(), &'static str> {
        if self.recorders.len() >= MAX_RECORDINGS {
            return Err("there are already eight recordings");
        }
        let (mut recorder, feed) = Recorder::new(op, spec, now);
        if let Some(place) = self.awaited.iter().position(|awaited| awaited.is(op)) {
            recorder.resume(self.awaited.swap_remove(place));
        }
        if !writer.start(NewRecording { key, op, spec: spec.clone(), feed, done: Arc::clone(done) }) {
            return Err("too many recordings are waiting to be opened");
        }
        self.unfinished += 1;
        self.recorders.push(recorder);
        Ok(())
    }

    fn pause(&mut self, op: OpId, pause: Pause) -> RecordingOutcome {
        self.recorders.iter_mut().filter(|recorder| recorder.op == op).for_each(|recorder| recorder.pause(pause));
        self.awaited.iter_mut().filter(|awaited| awaited.is(op)).for_each(|awaited| awaited.pause(pause));
        RecordingOutcome::Done
    }

    /// Removes a recording. The caller must finish the recording.
    pub(crate) fn pop(&mut self) -> Option<Recorder> {
        self.recorders.pop()
    }

    /// Passes a frame of each direction to all recordings. `playing` is the operation that plays now.
    pub(crate) fn handle_frame(
        &mut self,
        inbound: &TrackFrame,
        outbound: &TrackFrame,
        playing: Option<OpId>,
        writer: &WriterHandle,
    ) {
        let mut place = 0;
        while let Some(recorder) = self.recorders.get_mut(place) {
            recorder.playing(playing);
            match recorder.handle_frame(inbound, outbound) {
                None => place += 1,
                Some(reason) => {
                    self.recorders.swap_remove(place).finish(reason, None, None);
                    writer.wake();
                }
            }
        }
    }

    /// Records silence for `frames` missed frames.
    pub(crate) fn miss(&mut self, frames: u32) {
        self.recorders.iter_mut().for_each(|recorder| recorder.miss(frames));
    }

    /// The number of frames that all recordings can take in one batch.
    pub(crate) fn frames_until_due(&self) -> u64 {
        self.recorders.iter().map(Recorder::frames_until_due).min().unwrap_or(1)
    }
}

fn refused(op: OpId, spec: RecordSpec, why: &str) -> Event {
    Event::RecordingFinished {
        op,
        reason: RecordingReason::Error(why.to_owned()),
        duration: Duration::ZERO,
        recorded: Duration::ZERO,
        dropped: Duration::ZERO,
        path: spec.path,
        bytes: 0,
    }
}
