//! The threads that write recordings. This module is part of the shell (I/O and threads). The threads take full buffers
//! from lock-free rings, so that a slow disk never blocks a media worker. A thread always serves the recording that has
//! waited longest. So a file that blocks, for example on a network file system, blocks only one thread. It does not
//! block other recordings.
//!
//! ```text
//!   worker: recorder ──pieces──► open: longest wait first ──► a thread: write ──► back to the end
//!                    ◄──empty───
//! ```

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::Thread;
use std::time::Duration;

use crate::command::{LegId, OpId, RecordSpec};
use crate::encrypted::{ChunkEncryptor, Content, KEY};
use crate::event::{Event, RecordingReason};
use crate::recorded::{RecordedFile, unfinished};
use crate::recorder::{BUFFER, Feed, Piece};
use crate::rtp::FRAME;
use crate::silence_trim;
use crate::wav::{WavCoding, WavFormat};

/// The number of threads. One of these threads does the work. While a file blocks this thread, the other threads do the
/// work.
pub(crate) const THREADS: usize = 3;
/// The pause between the rounds of the working thread. With the recorder's buffers of 500 ms, audio reaches the file
/// after at most 0.9 s.
const ROUND: Duration = Duration::from_millis(100);
/// The interval at which each of the other threads checks whether the working thread makes progress.
const HELP: Duration = Duration::from_millis(400);
/// The sleep of all threads while nothing is recorded.
const IDLE: Duration = Duration::from_millis(500);
/// The highest number of recordings that wait to be opened. If this many recordings wait, a new recording fails at
/// once.
const WAITING: usize = 4_096;
/// The number of frames between two updates of the sizes in the header. The interval is 5 s. The updates are for
/// programs that read the file during the recording. After a crash, a repair sets the sizes from the file's length.
const UPDATE: u64 = 250;
/// The number of frames in an encrypted chunk. They last 200 ms.
const CHUNK: u64 = 10;

/// A callback that receives [`Event::RecordingFinished`] when a recording's file is complete.
pub(crate) type Done = std::sync::Arc<dyn Fn(LegId, Event) + Send + Sync>;

/// A worker's connection to the writer threads.
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
    /// Starts a recording. Returns false if too many recordings wait.
    pub(crate) fn start(&self, recording: NewRecording) -> bool {
        let taken = self.new.try_send(recording).is_ok();
        self.wake();
        taken
    }

    /// Wakes a thread, because a recording has just started or ended.
    pub(crate) fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }

    /// Sets the thread that [`WriterHandle::wake`] wakes.
    pub(crate) fn with_thread(mut self, thread: Thread) -> WriterHandle {
        self.thread = Some(thread);
        self
    }
}

/// A recording whose file is not open yet.
pub(crate) struct NewRecording {
    pub(crate) key: LegId,
    pub(crate) op: OpId,
    pub(crate) spec: RecordSpec,
    pub(crate) feed: Feed,
    pub(crate) done: Done,
}

/// One of the writer threads. All threads share the open recordings.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    number: usize,
    /// The number of times that all threads with a lower number together had served a recording, at the last check.
    seen: u64,
    scratch: Scratch,
}

/// A thread's buffers. One buffer is for the conversion of pieces, and one is for the encryption of pieces. The buffers
/// are allocated once. Because of these buffers, the thread writes each piece with one call.
struct Scratch {
    linear: Vec<u8>,
    encrypted: Vec<u8>,
}

impl Scratch {
    fn new() -> Scratch {
        // The buffers have space for a piece of two channels as linear samples, before and after encryption.
        Scratch { linear: vec![0; 4 * BUFFER], encrypted: Vec::with_capacity(5 * BUFFER) }
    }
}

struct Shared {
    state: Mutex<State>,
    /// The number of times that each thread has served a recording.
    served: [AtomicU64; THREADS],
}

/// The state that all threads share. Its lock is held only while a recording is taken out or put back, and never during
/// a file operation.
struct State {
    new: mpsc::Receiver<NewRecording>,
    /// The recordings that no thread is serving. The recording that has waited longest comes first. Each recording has
    /// the number of the round in which it was last served.
    open: VecDeque<(u64, Open)>,
    /// The number of recordings that a thread is serving now.
    busy: usize,
    rounds: u64,
    closed: bool,
}

impl Writer {
    /// Creates the writer threads and the handle to them. The caller must run the threads.
    pub(crate) fn new() -> ([Writer; THREADS], WriterHandle) {
        let (sender, new) = mpsc::sync_channel(WAITING);
        let state = State { new, open: VecDeque::new(), busy: 0, rounds: 0, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), served: Default::default() });
        let writers = std::array::from_fn(|number| Writer {
            shared: Arc::clone(&shared),
            number,
            seen: 0,
            scratch: Scratch::new(),
        });
        (writers, WriterHandle { new: sender, thread: None })
    }

    /// Runs the thread. The thread ends when all workers have ended and all files are complete.
    pub(crate) fn run(mut self) {
        loop {
            self.step();
            let (idle, over) = {
                let state = self.state();
                (state.open.is_empty(), state.closed && state.open.is_empty() && state.busy == 0)
            };
            if over {
                return;
            }
            std::thread::park_timeout(if idle { IDLE } else { self.pause() });
        }
    }

    /// Returns the pause before the next round. The first thread does every round. Another thread works only if the
    /// threads with lower numbers make no progress.
    fn pause(&mut self) -> Duration {
        let before = self.shared.served.iter().take(self.number);
        let seen = before.map(|served| served.load(Ordering::Relaxed)).sum();
        if std::mem::replace(&mut self.seen, seen) == seen { ROUND } else { HELP }
    }

    /// Runs one round: opens new recordings, writes the pieces that wait, and completes the recordings that have ended.
    pub(crate) fn step(&mut self) {
        let mut state = self.state();
        loop {
            match state.new.try_recv() {
                Ok(recording) => state.open.push_back((0, Open::new(recording))),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    state.closed = true;
                    break;
                }
            }
        }
        state.rounds += 1;
        let round = state.rounds;
        drop(state);
        while let Some(mut open) = self.take(round) {
            let over = open.step(&mut self.scratch);
            let open = match over {
                None => Some(open),
                Some(reason) => {
                    open.complete(reason);
                    None
                }
            };
            let mut state = self.state();
            state.busy -= 1;
            state.open.extend(open.map(|open| (round, open)));
            if let Some(served) = self.shared.served.get(self.number) {
                served.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes out a recording that no thread has served in this round.
    fn take(&self, round: u64) -> Option<Open> {
        let mut state = self.state();
        let (_, open) = state.open.pop_front_if(|(served, _)| *served < round)?;
        state.busy += 1;
        Some(open)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open recording.
struct Open {
    recording: NewRecording,
    form: WavFormat,
    sink: Result<Sink, String>,
    begun: bool,
    /// The number of octets of samples written.
    data: u64,
    /// The number of octets of samples that are silence because no buffer was free.
    dropped: u64,
}

impl Open {
    fn new(recording: NewRecording) -> Open {
        let form = recording.spec.form();
        Open { recording, form, sink: Err(String::new()), begun: false, data: 0, dropped: 0 }
    }

    /// Writes the pieces that wait. If the recording has ended, returns the reason.
    fn step(&mut self, scratch: &mut Scratch) -> Option<RecordingReason> {
        if !self.begun {
            // The file is created now and not earlier, because the creation may block.
            self.begun = true;
            self.sink = Sink::create(&self.recording.spec, None).map_err(|error| self.failed(&error));
        }
        // This test comes first. So the loop below gets all pieces that the worker pushed before it ended.
        let abandoned = self.recording.feed.pieces.is_abandoned();
        while let Ok(piece) = self.recording.feed.pieces.pop() {
            match piece {
                Piece::Audio { silence_before, coding, mut octets } => {
                    self.silence(silence_before, scratch);
                    self.write(coding, &octets, scratch);
                    octets.clear();
                    let _ = self.recording.feed.empty.push(octets);
                }
                Piece::Finish { silence_before, reason } => {
                    self.silence(silence_before, scratch);
                    return Some(reason);
                }
            }
        }
        abandoned.then_some(RecordingReason::Stopped)
    }

    /// Writes `frames` frames of silence.
    fn silence(&mut self, frames: u64, scratch: &mut Scratch) {
        if frames == 0 {
            return;
        }
        let octets = [self.form.coding.silence(); 4 * FRAME];
        let frame = octets.get(..self.form.frame() as usize).unwrap_or(&octets);
        self.dropped += frames.saturating_mul(self.form.frame());
        for _ in 0..frames {
            self.write(self.form.coding, frame, scratch);
        }
    }

    /// Writes whole frames of `coding`.
    fn write(&mut self, coding: WavCoding, octets: &[u8], scratch: &mut Scratch) {
        let Ok(sink) = &mut self.sink else { return };
        let Scratch { linear, encrypted } = scratch;
        // If the coding of a piece is not the coding of the file, the piece is G.711 and the file is linear.
        let octets = match coding.law() {
            Some(law) if coding != self.form.coding => law.decode_to_octets(octets, linear),
            _ => octets,
        };
        match sink.write(octets, encrypted) {
            Ok(()) => self.data += octets.len() as u64,
            Err(error) => self.sink = Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &io::Error) -> String {
        tracing::error!(path = %self.recording.spec.path.display(), %error, "cannot write the recording");
        error.to_string()
    }

    fn complete(self, reason: RecordingReason) {
        let Open { recording, form, sink, mut data, dropped, .. } = self;
        let NewRecording { key, op, spec, done, .. } = recording;
        let recorded = form.duration(data);
        let finished = match sink {
            Err(error) => Err(error),
            Ok(sink) => sink.finish().and_then(|()| if spec.trim { trim(&spec) } else { Ok(data) }).map_err(|error| {
                tracing::error!(path = %spec.path.display(), %error, "cannot complete the recording");
                error.to_string()
            }),
        };
        let reason = match finished {
            Ok(left) => {
                data = left;
                reason
            }
            Err(error) => {
                // The audio written before the error stays playable. There is no file if it could not be created.
                if let Err(error) = crate::recorded::repair_recording(&spec.path, spec.key.as_ref())
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::error!(path = %spec.path.display(), %error, "cannot repair the recording");
                }
                RecordingReason::Error(error)
            }
        };
        let bytes = std::fs::metadata(&spec.path).map_or(0, |metadata| metadata.len());
        let (duration, dropped) = (form.duration(data), form.duration(dropped));
        done(key, Event::RecordingFinished { op, reason, duration, recorded, dropped, path: spec.path, bytes });
    }
}

/// The file of a recording. Samples are appended to it.
struct Sink {
    file: File,
    form: WavFormat,
    encryptor: Option<ChunkEncryptor>,
    /// The number of octets of samples in the file.
    data: u64,
    header_says: u64,
}

impl Sink {
    /// Creates the recording's file. If `at` is set, creates another file at this path, in the format of the recording.
    fn create(spec: &RecordSpec, at: Option<&Path>) -> io::Result<Sink> {
        let path = at.unwrap_or(&spec.path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let form = spec.form();
        let encryptor = match &spec.key {
            None => {
                file.write_all(&form.header(0))?;
                None
            }
            Some(key) => {
                let chunk = (form.frame() * CHUNK) as u32;
                let (encryptor, header) = ChunkEncryptor::new(key, Content::Samples(form), chunk, &salt()?)?;
                file.write_all(&header)?;
                Some(encryptor)
            }
        };
        Ok(Sink { file, form, encryptor, data: 0, header_says: 0 })
    }

    /// Appends whole frames. `encrypted` is a buffer for encryption.
    fn write(&mut self, octets: &[u8], encrypted: &mut Vec<u8>) -> io::Result<()> {
        self.data += octets.len() as u64;
        if let Some(encryptor) = &mut self.encryptor {
            encrypted.clear();
            encryptor.push(octets, |chunk| {
                encrypted.extend_from_slice(chunk);
                Ok(())
            })?;
            return self.file.write_all(encrypted);
        }
        self.file.write_all(octets)?;
        if self.data - self.header_says >= UPDATE * self.form.frame() {
            self.header_says = self.data;
            self.file.write_all_at(&self.form.header(self.data), 0)?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        match self.encryptor {
            Some(encryptor) => encryptor.finish(|chunk| self.file.write_all(chunk)),
            None => self.file.write_all_at(&self.form.header(self.data), 0),
        }
    }
}

/// Returns 32 random octets. Each file gets different octets.
pub(crate) fn salt() -> io::Result<[u8; KEY]> {
    let mut salt = [0; KEY];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| io::Error::other("cannot get random numbers"))?;
    Ok(salt)
}

/// Removes everything before the first word and after the last word of a finished recording. A recording that contains
/// only silence stays whole. The result goes to another file, which then replaces the recording. So after a crash, the
/// recording is one of these two files. Returns the number of octets of samples.
fn trim(spec: &RecordSpec) -> io::Result<u64> {
    let mut file = RecordedFile::open(&spec.path, spec.key.as_ref())?;
    let (form, start) = file.form()?;
    let data = file.len() - start;
    let Some((first, end)) = silence_trim::find(&mut file, form, start)?.filter(|spoken| *spoken != (0, data)) else {
        return Ok(data);
    };
    let temporary = unfinished(&spec.path);
    let mut copy = || {
        let mut sink = Sink::create(spec, Some(&temporary))?;
        let (mut buffer, mut encrypted) = (vec![0; form.frame() as usize * 50], Vec::new());
        let mut at = first;
        while at < end {
            let limit = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = file.read_at(start + at, buffer.get_mut(..limit).unwrap_or_default())?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            sink.write(buffer.get(..read).unwrap_or_default(), &mut encrypted)?;
            at += read as u64;
        }
        sink.finish()?;
        std::fs::rename(&temporary, &spec.path)
    };
    copy().inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
    Ok(end - first)
}

#[cfg(test)]
mod tests;
