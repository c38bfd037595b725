//! SHELL: the thread that writes recordings. It takes full buffers from lock-free rings, so a slow disk never holds a
//! media worker.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::Thread;
use std::time::Duration;

use crate::command::{Channels, OpId, RecordSpec, SessionKey};
use crate::event::{Event, RecordingReason};
use crate::recorder::{Feed, Piece};
use crate::wav;

/// How long the thread sleeps between rounds while something is recorded. With the recorder's buffers of 100 ms,
/// what was said is in the file 150 ms later.
const ROUND: Duration = Duration::from_millis(50);
/// Recordings that may wait to be opened; beyond, a new one fails at once.
const WAITING: usize = 4_096;
/// Samples of each channel between updates of the header's sizes: 1 s.
const UPDATE: u64 = 8_000;

/// Told when a recording's file is complete, with its [`Event::RecordingFinished`].
pub(crate) type Done = std::sync::Arc<dyn Fn(SessionKey, Event) + Send + Sync>;

/// How a worker starts recordings.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    new: mpsc::SyncSender<NewRecording>,
    thread: Option<Thread>,
}

impl std::fmt::Debug for WriterHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WriterHandle").finish_non_exhaustive()
    }
}

impl WriterHandle {
    /// False when too many wait.
    pub(crate) fn start(&self, recording: NewRecording) -> bool {
        let taken = self.new.try_send(recording).is_ok();
        self.wake();
        taken
    }

    /// Makes the thread look now, for a recording that has just ended.
    pub(crate) fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }

    pub(crate) fn with_thread(mut self, thread: Thread) -> WriterHandle {
        self.thread = Some(thread);
        self
    }
}

/// A recording to open.
pub(crate) struct NewRecording {
    pub(crate) key: SessionKey,
    pub(crate) op: OpId,
    pub(crate) spec: RecordSpec,
    pub(crate) feed: Feed,
    pub(crate) done: Done,
}

/// All open recordings.
pub(crate) struct Writer {
    new: mpsc::Receiver<NewRecording>,
    open: Vec<Open>,
    closed: bool,
}

struct Open {
    recording: NewRecording,
    channels: u16,
    file: Result<File, String>,
    /// Octets of samples written.
    data: u64,
    header_says: u64,
}

impl Writer {
    pub(crate) fn new() -> (Writer, WriterHandle) {
        let (sender, new) = mpsc::sync_channel(WAITING);
        (Writer { new, open: Vec::new(), closed: false }, WriterHandle { new: sender, thread: None })
    }

    /// The thread's life: ends when all workers have gone and all files are complete.
    pub(crate) fn run(mut self) {
        loop {
            self.step();
            if self.open.is_empty() {
                if self.closed {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(500));
            } else {
                std::thread::park_timeout(ROUND);
            }
        }
    }

    /// One round: opens what is new, writes what waits, completes what has ended.
    pub(crate) fn step(&mut self) {
        loop {
            match self.new.try_recv() {
                Ok(recording) => self.open.push(Open::new(recording)),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    self.closed = true;
                    break;
                }
            }
        }
        let mut index = 0;
        while let Some(open) = self.open.get_mut(index) {
            match open.step() {
                None => index += 1,
                Some(reason) => self.open.swap_remove(index).complete(reason),
            }
        }
    }
}

impl Open {
    fn new(recording: NewRecording) -> Open {
        let channels = match recording.spec.channels {
            Channels::Mono => 1,
            Channels::Dual => 2,
        };
        let file = create(&recording.spec.path, channels).map_err(|error| error.to_string());
        Open { recording, channels, file, data: 0, header_says: 0 }
    }

    /// Writes what waits; returns why the recording is over.
    fn step(&mut self) -> Option<RecordingReason> {
        // Looked at first: what a worker pushed before it went is then seen below.
        let abandoned = self.recording.feed.pieces.is_abandoned();
        while let Ok(piece) = self.recording.feed.pieces.pop() {
            match piece {
                Piece::Audio { silence_before, mut samples } => {
                    self.silence(silence_before);
                    self.write(&samples);
                    samples.clear();
                    let _ = self.recording.feed.empty.push(samples);
                }
                Piece::Finish { silence_before, reason } => {
                    self.silence(silence_before);
                    return Some(reason);
                }
            }
        }
        if self.data - self.header_says >= UPDATE * 2 * u64::from(self.channels) {
            self.update_header();
        }
        abandoned.then_some(RecordingReason::Stopped)
    }

    fn silence(&mut self, samples: u64) {
        const ZEROS: [i16; 800] = [0; 800];
        // An hour at most: a worker cannot have been refused for longer.
        let mut left = samples.saturating_mul(self.channels.into()).min(8_000 * 3_600 * 2);
        while left > 0 {
            let now = left.min(ZEROS.len() as u64);
            self.write(ZEROS.get(..now as usize).unwrap_or_default());
            left -= now;
        }
    }

    fn write(&mut self, samples: &[i16]) {
        let Ok(file) = &mut self.file else { return };
        // On the stack: a buffer has at most 100 ms of two channels.
        let mut octets = [0; 3_200];
        for part in samples.chunks(octets.len() / 2) {
            for (pair, sample) in octets.chunks_exact_mut(2).zip(part) {
                pair.copy_from_slice(&sample.to_le_bytes());
            }
            let octets = octets.get(..part.len() * 2).unwrap_or_default();
            if let Err(error) = file.write_all(octets) {
                tracing::error!(path = %self.recording.spec.path.display(), %error, "a recording cannot be written");
                self.file = Err(error.to_string());
                return;
            }
            self.data += octets.len() as u64;
        }
    }

    fn update_header(&mut self) {
        if let Ok(file) = &self.file {
            let _ = file.write_all_at(&wav::header(self.channels, self.data), 0);
            self.header_says = self.data;
        }
    }

    fn complete(mut self, reason: RecordingReason) {
        let recorded = wav::duration(self.data, self.channels);
        let result = match &self.file {
            Err(error) => Err(error.clone()),
            Ok(file) => {
                finish(file, self.channels, self.data, self.recording.spec.trim).map_err(|error| error.to_string())
            }
        };
        let reason = match result {
            Ok(data) => {
                self.data = data;
                reason
            }
            Err(error) => {
                // What was written before the fault stays playable.
                if let Ok(file) = OpenOptions::new().write(true).open(&self.recording.spec.path) {
                    let _ = file.write_all_at(&wav::header(self.channels, self.data), 0);
                }
                RecordingReason::Error(error)
            }
        };
        drop(self.file);
        let NewRecording { key, op, spec, done, .. } = self.recording;
        let bytes = std::fs::metadata(&spec.path).map_or(0, |metadata| metadata.len());
        let duration = wav::duration(self.data, self.channels);
        done(key, Event::RecordingFinished { op, reason, duration, recorded, path: spec.path, bytes });
    }
}

fn create(path: &PathBuf, channels: u16) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.write_all(&wav::header(channels, 0))?;
    Ok(file)
}

fn finish(file: &File, channels: u16, data: u64, trim: bool) -> io::Result<u64> {
    let data = if trim { wav::trim(file, channels, data)? } else { data };
    file.write_all_at(&wav::header(channels, data), 0)?;
    Ok(data)
}
