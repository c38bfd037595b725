//! Taps. A tap copies a session's audio to a reader outside the engine, for example a WebSocket. The copied audio
//! passes through a bounded ring without locks.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::codec::g711::Law;
use crate::codec::{Codec, SampleRate};
use crate::command::{OpId, Track, Tracks};
use crate::rtp::FRAME;
use crate::track_frame::TrackFrame;

/// The number of octets of the longest frame, which has 20 ms of L16 at 16,000 Hz.
const LONGEST: usize = 2 * WIDE;
/// The number of samples in a frame of 20 ms at 16,000 Hz.
pub(crate) const WIDE: usize = SampleRate::Hz16000.frame();
/// Two limits for a session that plays the audio of a tap. The first limit is the number of frames that the session may
/// be behind (100 ms). If the session is farther behind, frames are dropped until the session is behind by the second
/// limit.
const BEHIND: (usize, usize) = (5, 2);
/// The number of octets of a frame's header in the ring. The header contains the track, the codec, the length, and the
/// time in ms.
const HEAD: usize = 12;

/// Creates a tap. `capacity_frames` is the number of frames that the ring holds, at least 2. Each track has 50 frames
/// per second. If the ring is full, new frames are dropped, counted, and reported as [`crate::Event::StreamOverflow`].
pub fn tap(capacity_frames: usize, codec: TapCodec) -> (TapSink, TapReader) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity_frames.max(2) * (HEAD + codec.octets()));
    let shared =
        Arc::new(Shared { waker: AtomicWaker::new(), dropped: AtomicU64::new(0), ended: AtomicBool::new(false) });
    (TapSink { producer, shared: Arc::clone(&shared), codec }, TapReader { consumer, shared, codec })
}

/// The coding of a tap's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapCodec {
    /// The payload is always mu-law.
    Pcmu,
    /// The payload is always A-law.
    Pcma,
    /// The payload is in the law of the session's codec, so G.711 is not decoded. If the session's codec is not G.711,
    /// the payload is mu-law.
    Native,
    /// Linear 16-bit samples at 8,000 Hz.
    L16(ByteOrder),
    /// Linear 16-bit samples at 16,000 Hz. G.722, Opus and wideband L16 are decoded to this rate. Other codecs are
    /// resampled.
    L16Wide(ByteOrder),
}

/// The order of the octets in a linear sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The most significant octet comes first, as in L16 in RTP (RFC 3551 §4.5.11).
    Big,
    /// The least significant octet comes first, as in WAV files and most programs.
    Little,
}

impl TapCodec {
    /// The number of octets in a frame of 20 ms.
    const fn octets(self) -> usize {
        match self {
            TapCodec::Pcmu | TapCodec::Pcma | TapCodec::Native => FRAME,
            TapCodec::L16(_) => 2 * FRAME,
            TapCodec::L16Wide(_) => 2 * WIDE,
        }
    }

    /// Whether the samples have a rate of 16,000 Hz.
    const fn is_wide(self) -> bool {
        matches!(self, TapCodec::L16Wide(_))
    }
}

/// One frame of a track in the forms that the taps of a session need.
#[derive(Debug)]
pub(crate) struct Tapped {
    pub(crate) narrow: TrackFrame,
    /// The samples at 16,000 Hz. They are set only if a tap needs them.
    pub(crate) wide: [i16; WIDE],
}

impl Tapped {
    pub(crate) fn silence(law: Law) -> Tapped {
        Tapped { narrow: TrackFrame::silence(law), wide: [0; WIDE] }
    }
}

/// 20 ms of one track. Each track of a tap has a frame for every 20 ms. The frame is silence if there was no audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapFrame {
    /// The direction of the audio.
    pub track: Track,
    /// The codec of the payload.
    pub codec: Codec,
    /// The media time since the tap began, in ms. The frames have the values 0, 20, 40 and so on.
    pub timestamp_ms: u64,
    /// The media time since the tap began, in units of the codec's RTP clock.
    pub rtp_timestamp: u32,
    /// A buffer for the octets. [`TapFrame::audio`] returns the part that is used.
    payload: [u8; LONGEST],
    len: usize,
}

impl TapFrame {
    /// The octets of the audio.
    pub fn audio(&self) -> &[u8] {
        self.payload.get(..self.len).unwrap_or(&self.payload)
    }
}

/// The worker's end of a tap. Pass it to [`crate::Command::Tap`].
pub struct TapSink {
    producer: rtrb::Producer<u8>,
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

/// The reader's end of a tap. Dropping the reader ends the tap.
pub struct TapReader {
    consumer: rtrb::Consumer<u8>,
    shared: Arc<Shared>,
    codec: TapCodec,
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
    /// Takes the oldest frame that waits.
    pub fn pop(&mut self) -> Option<TapFrame> {
        let mut head = [0; HEAD];
        self.read(&mut head)?;
        let [track, codec, high, low, ms @ ..] = head;
        let codec = match (codec, self.codec) {
            (LINEAR, TapCodec::L16Wide(_)) => Codec::L16(SampleRate::Hz16000),
            (LINEAR, _) => Codec::L16(SampleRate::Hz8000),
            (ALAW, _) => Codec::Pcma,
            _ => Codec::Pcmu,
        };
        let timestamp_ms = u64::from_be_bytes(ms);
        let mut frame = TapFrame {
            track: if track == 0 { Track::Inbound } else { Track::Outbound },
            codec,
            timestamp_ms,
            rtp_timestamp: (timestamp_ms * u64::from(codec.clock_rate() / 1_000)) as u32,
            payload: [0; LONGEST],
            len: usize::from(u16::from_be_bytes([high, low])).min(LONGEST),
        };
        // The writer wrote the payload together with its header.
        self.read(frame.payload.get_mut(..frame.len)?)?;
        Some(frame)
    }

    /// Takes the next frame for a session that plays the audio of the tap. Usually it is the oldest frame. If the
    /// session is too far behind, it is a newer frame.
    pub(crate) fn due(&mut self) -> Option<TapFrame> {
        let waiting = self.consumer.slots() / (HEAD + self.codec.octets());
        let (limit, left) = BEHIND;
        if waiting > limit {
            (left..waiting).for_each(|_| _ = self.pop());
        }
        self.pop()
    }

    /// The byte order of linear samples.
    pub(crate) fn byte_order(&self) -> ByteOrder {
        match self.codec {
            TapCodec::L16(order) | TapCodec::L16Wide(order) => order,
            TapCodec::Pcmu | TapCodec::Pcma | TapCodec::Native => ByteOrder::Big,
        }
    }

    fn read(&mut self, to: &mut [u8]) -> Option<()> {
        let chunk = self.consumer.read_chunk(to.len()).ok()?;
        let (first, second) = chunk.as_slices();
        let (start, end) = to.split_at_mut(first.len());
        start.copy_from_slice(first);
        end.copy_from_slice(second);
        chunk.commit_all();
        Some(())
    }

    /// Waits for the next frame. Returns `None` if the tap has ended and all frames are read. This future is
    /// cancel-safe.
    pub async fn next(&mut self) -> Option<TapFrame> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The poll form of [`TapReader::next`], for a hand-written future.
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

    /// The number of frames that were dropped because the ring was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// The session's part of a tap.
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

    /// Whether the reader of the tap was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.sink.producer.is_abandoned()
    }

    /// Whether the tap needs samples at 16,000 Hz.
    pub(crate) fn is_wide(&self) -> bool {
        self.sink.codec.is_wide()
    }

    /// Copies one frame of each direction. Returns the duration in ms of dropped audio if this duration should be
    /// reported now. This happens at most once a second.
    pub(crate) fn handle_frame(&mut self, inbound: &Tapped, outbound: &Tapped, native: Law) -> Option<u32> {
        for (track, tapped) in [(Track::Inbound, inbound), (Track::Outbound, outbound)] {
            if self.tracks.has(track) && !self.sink.push(track, self.frames * 20, tapped, native) {
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

/// The code of mu-law in a frame's header. The next two constants are the codes of A-law and of linear samples.
const MULAW: u8 = 0;
const ALAW: u8 = 1;
const LINEAR: u8 = 2;

impl TapSink {
    /// Writes a frame. Returns false if the ring is full.
    fn push(&mut self, track: Track, timestamp_ms: u64, tapped: &Tapped, native: Law) -> bool {
        let octets = |law: Law| (if law == Law::Mu { MULAW } else { ALAW }, tapped.narrow.octets(law));
        let mut linear = [0; LONGEST];
        let law = match self.codec {
            TapCodec::Pcmu => octets(Law::Mu),
            TapCodec::Pcma => octets(Law::A),
            TapCodec::Native => octets(native),
            TapCodec::L16(order) => {
                order.write(&tapped.narrow.samples(), &mut linear);
                return self.write(track, LINEAR, timestamp_ms, linear.get(..2 * FRAME).unwrap_or_default());
            }
            TapCodec::L16Wide(order) => {
                order.write(&tapped.wide, &mut linear);
                return self.write(track, LINEAR, timestamp_ms, &linear);
            }
        };
        let (codec, octets) = law;
        self.write(track, codec, timestamp_ms, &octets)
    }

    fn write(&mut self, track: Track, codec: u8, timestamp_ms: u64, octets: &[u8]) -> bool {
        let Ok(mut chunk) = self.producer.write_chunk(HEAD + octets.len()) else { return false };
        let [high, low] = (octets.len() as u16).to_be_bytes();
        let mut head = [u8::from(track == Track::Outbound), codec, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        if let Some(ms) = head.last_chunk_mut::<8>() {
            *ms = timestamp_ms.to_be_bytes();
        }
        let (first, second) = chunk.as_mut_slices();
        let places = first.iter_mut().chain(second);
        places.zip(head.iter().chain(octets)).for_each(|(place, octet)| *place = *octet);
        chunk.commit_all();
        true
    }
}

impl ByteOrder {
    /// Writes samples as octets. Samples that do not fit are ignored.
    pub fn write(self, samples: &[i16], octets: &mut [u8]) {
        let places = octets.as_chunks_mut().0.iter_mut();
        places.zip(samples).for_each(|(place, sample)| {
            *place = if self == ByteOrder::Big { sample.to_be_bytes() } else { sample.to_le_bytes() };
        });
    }

    /// Reads samples until one of the slices ends.
    pub fn read(self, octets: &[u8], samples: &mut [i16]) {
        let pairs = octets.as_chunks().0.iter();
        samples.iter_mut().zip(pairs).for_each(|(sample, pair)| {
            *sample = if self == ByteOrder::Big { i16::from_be_bytes(*pair) } else { i16::from_le_bytes(*pair) };
        });
    }
}
