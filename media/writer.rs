//! SHELL: the threads that write recordings. They take full buffers from lock-free rings, so a slow disk never holds a
//! media worker; and each takes the recording that has waited longest, so that a file that blocks (a network file system)
//! holds one thread and no other recording.
//!
//! ```text
//!   worker: recorder ──pieces──► open: the longest not served ──► a thread: write ──► back to the end
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

use crate::command::{OpId, RecordSpec, SessionKey};
use crate::encrypted::{ChunkEncryptor, Content, KEY};
use crate::event::{Event, RecordingReason};
use crate::recorded::{RecordedFile, unfinished};
use crate::recorder::{BUFFER, Feed, Piece};
use crate::rtp::FRAME;
use crate::silence_trim;
use crate::wav::{WavCoding, WavFormat};

/// Threads: one does the work, the others take over what it cannot while a file blocks it.
pub(crate) const THREADS: usize = 3;
/// How long the thread that does the work sleeps between rounds. With the recorder's buffers of 500 ms, what was said is in
/// the file at most 0.9 s later.
const ROUND: Duration = Duration::from_millis(100);
/// How long the others wait to see whether it does.
const HELP: Duration = Duration::from_millis(400);
/// How long all sleep while nothing is recorded.
const IDLE: Duration = Duration::from_millis(500);
/// Recordings that may wait to be opened; beyond, a new one fails at once.
const WAITING: usize = 4_096;
/// Frames between updates of the header's sizes, for who reads a file that grows: 5 s. After a crash they are set from the
/// file's length.
const UPDATE: u64 = 250;
/// Frames of a encrypted chunk: 200 ms.
const CHUNK: u64 = 10;

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

    /// Makes a thread look now, for a recording that has just begun or ended.
    pub(crate) fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }

    /// The first thread is the one that is woken.
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

/// All open recordings, as one of the threads has them.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    number: usize,
    /// How often the threads before this one had served when it last looked.
    seen: u64,
    scratch: Scratch,
}

/// Where pieces are made what the file gets, so that it gets each in one go. A thread's own; allocates when made.
struct Scratch {
    linear: Vec<u8>,
    encrypted: Vec<u8>,
}

impl Scratch {
    fn new() -> Scratch {
        // A piece of two channels made linear; and what sealing adds to it.
        Scratch { linear: vec![0; 4 * BUFFER], encrypted: Vec::with_capacity(5 * BUFFER) }
    }
}

struct Shared {
    state: Mutex<State>,
    /// Recordings that each thread has served.
    served: [AtomicU64; THREADS],
}

/// Held only to take a recording out or to put it back, never while a file is touched.
struct State {
    new: mpsc::Receiver<NewRecording>,
    /// Not being served now; the longest not served first.
    open: VecDeque<(u64, Open)>,
    /// Being served.
    busy: usize,
    rounds: u64,
    closed: bool,
}

impl Writer {
    /// The writer's threads, each to be run, and the way to them.
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

    /// The thread's life: ends when all workers have gone and all files are complete.
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

    /// How long to the next round: the first thread makes them all, the others when those before them stand still.
    fn pause(&mut self) -> Duration {
        let before = self.shared.served.iter().take(self.number);
        let seen = before.map(|served| served.load(Ordering::Relaxed)).sum();
        if std::mem::replace(&mut self.seen, seen) == seen { ROUND } else { HELP }
    }

    /// One round: opens what is new, writes what waits, completes what has ended.
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

    /// A recording that was not served in this round.
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

/// A recording at work.
struct Open {
    recording: NewRecording,
    form: WavFormat,
    sink: Result<Sink, String>,
    begun: bool,
    /// Octets of samples written.
    data: u64,
    /// Octets of samples that are silence for want of a buffer.
    dropped: u64,
}

impl Open {
    fn new(recording: NewRecording) -> Open {
        let form = recording.spec.form();
        Open { recording, form, sink: Err(String::new()), begun: false, data: 0, dropped: 0 }
    }

    /// Writes what waits; returns why the recording is over.
    fn step(&mut self, scratch: &mut Scratch) -> Option<RecordingReason> {
        if !self.begun {
            // Here and not before: making a file may block.
            self.begun = true;
            self.sink = Sink::create(&self.recording.spec, None).map_err(|error| self.failed(&error));
        }
        // Looked at first: what a worker pushed before it went is then seen below.
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

    /// Frames of it.
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

    /// Adds whole frames of `coding`.
    fn write(&mut self, coding: WavCoding, octets: &[u8], scratch: &mut Scratch) {
        let Ok(sink) = &mut self.sink else { return };
        let Scratch { linear, encrypted } = scratch;
        // What is carried otherwise than the file has it is of a law, and the file is linear.
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
                // What was written before the fault stays playable.
                let _ = crate::recorded::repair_recording(&spec.path, spec.key.as_ref());
                RecordingReason::Error(error)
            }
        };
        let bytes = std::fs::metadata(&spec.path).map_or(0, |metadata| metadata.len());
        let (duration, dropped) = (form.duration(data), form.duration(dropped));
        done(key, Event::RecordingFinished { op, reason, duration, recorded, dropped, path: spec.path, bytes });
    }
}

/// A file that samples are added to.
struct Sink {
    file: File,
    form: WavFormat,
    encryptor: Option<ChunkEncryptor>,
    /// Octets of samples in it.
    data: u64,
    header_says: u64,
}

impl Sink {
    /// Makes the recording's file, or another one of the same form.
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

    /// Adds whole frames. `encrypted` is used meanwhile.
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

/// Octets that no file has had before.
pub(crate) fn salt() -> io::Result<[u8; KEY]> {
    let mut salt = [0; KEY];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| io::Error::other("cannot get random numbers"))?;
    Ok(salt)
}

/// Cuts what comes before the first word and after the last out of a finished recording; one of nothing but silence stays whole. What is left is
/// written beside it and then takes its place, so that a crash leaves one or the other. Returns its octets of samples.
fn trim(spec: &RecordSpec) -> io::Result<u64> {
    let mut file = RecordedFile::open(&spec.path, spec.key.as_ref())?;
    let (form, start) = file.form()?;
    let data = file.len() - start;
    let Some((first, end)) = silence_trim::find(&mut file, form, start)?.filter(|spoken| *spoken != (0, data)) else {
        return Ok(data);
    };
    let beside = unfinished(&spec.path);
    let mut copy = || {
        let mut sink = Sink::create(spec, Some(&beside))?;
        let (mut buffer, mut encrypted) = (vec![0; form.frame() as usize * 50], Vec::new());
        let mut at = first;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = file.read_at(start + at, buffer.get_mut(..most).unwrap_or_default())?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            sink.write(buffer.get(..read).unwrap_or_default(), &mut encrypted)?;
            at += read as u64;
        }
        sink.finish()?;
        std::fs::rename(&beside, &spec.path)
    };
    copy().inspect_err(|_| drop(std::fs::remove_file(&beside)))?;
    Ok(end - first)
}

#[cfg(test)]
mod tests;
