//! Copies of a session's audio for a reader elsewhere, such as a WebSocket: a bounded ring without locks.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::codec::Codec;
use crate::codec::g711::Law;
use crate::command::{OpId, Track, Tracks};
use crate::copied::Copied;
use crate::rtp::FRAME;

/// Makes a tap. `capacity_frames` counts the frames of all its tracks (50 a second each) and is at least 2. When the
/// ring is full new frames are dropped, counted, and reported as [`crate::Event::StreamOverflow`].
pub fn tap(capacity_frames: usize, codec: TapCodec) -> (TapSink, TapReader) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity_frames.max(2));
    let shared =
        Arc::new(Shared { waker: AtomicWaker::new(), dropped: AtomicU64::new(0), ended: AtomicBool::new(false) });
    (TapSink { producer, shared: Arc::clone(&shared), codec }, TapReader { consumer, shared })
}

/// What a tap's payload is encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapCodec {
    /// Always mu-law.
    Pcmu,
    /// Always A-law.
    Pcma,
    /// What the session negotiated.
    Native,
}

/// 20 ms of one track. Both tracks of a tap have a frame for every 20 ms, silence when there was nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapFrame {
    /// Whose voice.
    pub track: Track,
    /// Of the payload.
    pub codec: Codec,
    /// Media time since the tap began: 0, 20, 40 ...
    pub timestamp_ms: u64,
    /// The same in samples, from a zero of the tap.
    pub rtp_timestamp: u32,
    /// The octets; [`TapFrame::audio`] gives those in use.
    pub payload: [u8; FRAME],
    /// Octets in use: 160.
    pub len: u8,
}

impl TapFrame {
    /// The octets of audio.
    pub fn audio(&self) -> &[u8] {
        self.payload.get(..self.len.into()).unwrap_or(&self.payload)
    }
}

/// The worker's end of a tap; give it to [`crate::Command::Tap`].
pub struct TapSink {
    producer: rtrb::Producer<TapFrame>,
    shared: Arc<Shared>,
    codec: TapCodec,
}

impl std::fmt::Debug for TapSink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TapSink").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Drop for TapSink {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.waker.wake();
    }
}

/// The reader's end of a tap. Dropping it ends the tap.
pub struct TapReader {
    consumer: rtrb::Consumer<TapFrame>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for TapReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TapReader").field("waiting", &self.consumer.slots()).finish_non_exhaustive()
    }
}

struct Shared {
    waker: AtomicWaker,
    dropped: AtomicU64,
    ended: AtomicBool,
}

impl TapReader {
    /// The oldest frame that waits.
    pub fn pop(&mut self) -> Option<TapFrame> {
        self.consumer.pop().ok()
    }

    /// The next frame; `None` when the tap has ended and all frames are read. Cancel-safe.
    pub async fn next(&mut self) -> Option<TapFrame> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`TapReader::next`], for a hand-written future.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<TapFrame>> {
        if let Some(frame) = self.pop() {
            return Poll::Ready(Some(frame));
        }
        self.shared.waker.register(context.waker());
        let ended = self.shared.ended.load(Ordering::Acquire);
        match self.pop() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Frames dropped so far because the ring was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// A tap at work on its session.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) op: OpId,
    tracks: Tracks,
    sink: TapSink,
    frames: u64,
    dropped: u32,
    report_in: u16,
}

impl Tap {
    pub(crate) fn new(op: OpId, tracks: Tracks, sink: TapSink) -> Tap {
        Tap { op, tracks, sink, frames: 0, dropped: 0, report_in: 0 }
    }

    /// Whether the reader has gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.sink.producer.is_abandoned()
    }

    /// Copies one frame of each side. Returns the milliseconds dropped when that is due to be told.
    pub(crate) fn handle_frame(&mut self, inbound: &Copied, outbound: &Copied, native: Law) -> Option<u32> {
        let law = match self.sink.codec {
            TapCodec::Pcmu => Law::Mu,
            TapCodec::Pcma => Law::A,
            TapCodec::Native => native,
        };
        for (track, copied) in [(Track::Inbound, inbound), (Track::Outbound, outbound)] {
            if !self.tracks.has(track) {
                continue;
            }
            let payload = copied.octets(law);
            let frame = TapFrame {
                track,
                codec: law.into(),
                timestamp_ms: self.frames * 20,
                rtp_timestamp: (self.frames * FRAME as u64) as u32,
                payload,
                len: FRAME as u8,
            };
            if self.sink.producer.push(frame).is_err() {
                self.dropped = self.dropped.saturating_add(1);
                self.sink.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.frames += 1;
        self.sink.shared.waker.wake();
        self.report_in = self.report_in.saturating_sub(1);
        if self.dropped > 0 && self.report_in == 0 {
            self.report_in = 50;
            return Some(std::mem::take(&mut self.dropped).saturating_mul(20));
        }
        None
    }
}
