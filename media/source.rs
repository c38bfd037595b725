//! Audio from elsewhere, such as a WebSocket, played to a session at the media clock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::codec::Codec;
use crate::command::OpId;
use crate::rtp::FRAME;

/// Places of the ring that only marks may take, so that a writer of tiny pieces still gets its marks through.
const FOR_MARKS: usize = 256;

/// Makes a source. The writer may be ahead of playout by `max_buffer`; audio beyond is refused. A piece is at most
/// that long.
pub fn source(codec: Codec, max_buffer: Duration) -> (StreamSource, StreamWriter) {
    let max_octets = usize::try_from(max_buffer.as_millis()).unwrap_or(usize::MAX).saturating_mul(8).max(FRAME);
    // Pieces are usually 20 ms; twice as many may wait.
    let places = (max_octets / FRAME).saturating_mul(2).clamp(512, 65_536) + FOR_MARKS;
    let (producer, consumer) = rtrb::RingBuffer::new(places);
    let shared = Arc::new(Shared { queued: AtomicUsize::new(0), cleared: AtomicU64::new(0) });
    let writer =
        StreamWriter { queue: Mutex::new(Queue { producer, next: 1 }), shared: Arc::clone(&shared), max_octets };
    (StreamSource { consumer, shared, codec, head: None }, writer)
}

/// The writer is too far ahead of playout: this piece was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream is too far ahead of playout")]
pub struct Overflow;

/// The writing end. May be shared; calls never wait for the worker.
pub struct StreamWriter {
    // Only writers contend for it; the worker reads the other end of the ring without a lock.
    queue: Mutex<Queue>,
    shared: Arc<Shared>,
    max_octets: usize,
}

impl std::fmt::Debug for StreamWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamWriter").field("queued", &self.queued()).finish_non_exhaustive()
    }
}

impl StreamWriter {
    /// Appends audio of any length in the source's codec.
    pub fn audio(&self, octets: Bytes) -> Result<(), Overflow> {
        if octets.is_empty() {
            return Ok(());
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let length = octets.len();
        let queued = self.shared.queued.load(Ordering::Acquire);
        if queued.saturating_add(length) > self.max_octets || queue.producer.slots() <= FOR_MARKS {
            return Err(Overflow);
        }
        self.shared.queued.fetch_add(length, Ordering::AcqRel);
        queue.push(What::Audio(octets));
        Ok(())
    }

    /// Fires [`crate::Event::MarkReached`] when all audio before it has been played, 20 ms after its last frame was sent;
    /// within 20 ms when nothing waits.
    /// A mark is lost only when 256 of them wait behind a full ring.
    pub fn mark(&self, name: Arc<str>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(What::Mark(name));
    }

    /// Cuts what waits, at the next 20 ms frame; marks among it fire then, in order.
    pub fn clear(&self) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.cleared.store(queue.next, Ordering::Release);
    }

    /// How much audio waits to be played.
    pub fn queued(&self) -> Duration {
        Duration::from_micros(self.shared.queued.load(Ordering::Acquire) as u64 * 125)
    }

    /// Whether the session has closed or detached the source.
    pub fn is_detached(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).producer.is_abandoned()
    }
}

/// The worker's end; give it to [`crate::Command::Source`].
pub struct StreamSource {
    consumer: rtrb::Consumer<Item>,
    shared: Arc<Shared>,
    codec: Codec,
    head: Option<Item>,
}

impl std::fmt::Debug for StreamSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamSource").field("codec", &self.codec).finish_non_exhaustive()
    }
}

struct Queue {
    producer: rtrb::Producer<Item>,
    next: u64,
}

impl Queue {
    fn push(&mut self, what: What) {
        let number = self.next;
        self.next += 1;
        // Room was looked at for audio; a mark without room is lost, as documented.
        let _ = self.producer.push(Item { number, what });
    }
}

struct Shared {
    /// Octets of audio that wait.
    queued: AtomicUsize,
    /// Items numbered below are cleared.
    cleared: AtomicU64,
}

struct Item {
    number: u64,
    what: What,
}

enum What {
    Audio(Bytes),
    Mark(Arc<str>),
}

/// A source at work on its session.
#[derive(Debug)]
pub(crate) struct SourcePlayer {
    pub(crate) op: OpId,
    source: StreamSource,
    /// Marks right behind audio of the frame that was sent last: it is being played.
    sounding: Vec<Arc<str>>,
}

impl SourcePlayer {
    pub(crate) fn new(op: OpId, source: StreamSource) -> SourcePlayer {
        SourcePlayer { op, source, sounding: Vec::new() }
    }

    /// Fills one frame in codec `to`; the rest is silence. Returns how many octets were audio. `reached` gets each
    /// mark whose audio ended with an earlier frame or was cleared.
    pub(crate) fn next_frame(
        &mut self,
        to: Codec,
        frame: &mut [u8; FRAME],
        mut reached: impl FnMut(Arc<str>),
    ) -> usize {
        self.sounding.drain(..).for_each(&mut reached);
        let source = &mut self.source;
        let cleared = source.shared.cleared.load(Ordering::Acquire);
        let mut filled = 0;
        loop {
            let Some(mut item) = source.head.take().or_else(|| source.consumer.pop().ok()) else { break };
            match &mut item.what {
                What::Mark(name) if filled > 0 => self.sounding.push(Arc::clone(name)),
                What::Mark(name) => reached(Arc::clone(name)),
                What::Audio(octets) if item.number < cleared => {
                    source.shared.queued.fetch_sub(octets.len(), Ordering::AcqRel);
                }
                What::Audio(octets) => {
                    let Some(room) = frame.get_mut(filled..).filter(|room| !room.is_empty()) else {
                        source.head = Some(item);
                        break;
                    };
                    let take = octets.len().min(room.len());
                    octets.copy_to_slice(room.get_mut(..take).unwrap_or_default());
                    filled += take;
                    source.shared.queued.fetch_sub(take, Ordering::AcqRel);
                    if !octets.is_empty() {
                        source.head = Some(item);
                        break;
                    }
                }
            }
        }
        if let Some((audio, rest)) = frame.split_at_mut_checked(filled) {
            source.codec.transcode(to, audio);
            rest.fill(to.silence());
        }
        filled
    }

    /// While something else is being played: audio waits, cleared items go and their marks fire.
    pub(crate) fn hold(&mut self, mut reached: impl FnMut(Arc<str>)) {
        self.sounding.drain(..).for_each(&mut reached);
        let source = &mut self.source;
        let cleared = source.shared.cleared.load(Ordering::Acquire);
        while let Some(item) = source.head.take().or_else(|| source.consumer.pop().ok()) {
            if item.number >= cleared {
                source.head = Some(item);
                return;
            }
            match item.what {
                What::Mark(name) => reached(name),
                What::Audio(octets) => {
                    source.shared.queued.fetch_sub(octets.len(), Ordering::AcqRel);
                }
            }
        }
    }
}
