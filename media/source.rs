//! Audio from outside the engine, for example from a WebSocket. The engine plays this audio to a session on the media
//! clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::codec::g711::Law;
use crate::codec::{Codec, LONGEST_FRAME, SampleRate};
use crate::command::OpId;
use crate::resample::Resampler;
use crate::rtp::FRAME;
use crate::tap::{ByteOrder, TapReader};

/// The number of ring slots that are reserved for marks. Because of these slots, marks fit even if a writer fills the
/// ring with tiny pieces of audio.
const FOR_MARKS: usize = 256;
/// The highest number of marks that have been reached and are not reported yet. When there are this many marks, the
/// next mark and all items after it wait in the ring.
const MAX_PLAYED_MARKS: usize = 4_096;

/// The number of frames without audio (500 ms) that separates a gap from a new start. Audio that arrives earlier ends a
/// gap. Audio that arrives later is a new start.
const MAX_GAP: u16 = 25;

/// Creates a source of audio in `codec`. `max_buffer` limits the audio that waits to be played. Audio beyond this limit
/// is refused, so a single piece of audio may also not be longer than `max_buffer`.
pub fn source(codec: impl Into<SourceCodec>, max_buffer: Duration) -> (StreamSource, StreamWriter) {
    let codec = codec.into();
    let frame = codec.frame();
    let max_octets =
        usize::try_from(max_buffer.as_millis()).unwrap_or(usize::MAX).saturating_mul(frame / 20).max(frame);
    // Pieces are usually 20 ms or longer. Each slot takes 40 octets of memory, so the ring has slots for at most ten
    // minutes.
    let places = (max_octets / frame).saturating_mul(2).clamp(512, 30_000) + FOR_MARKS;
    let (producer, consumer) = rtrb::RingBuffer::new(places);
    let shared = Arc::new(Shared::default());
    let queue = Queue { producer, next: 1, written: 0, cleared: 0 };
    let max_octets = max_octets as u64;
    let writer =
        StreamWriter { queue: Mutex::new(queue), shared: Arc::clone(&shared), max_octets, frame: frame as u64 };
    (StreamSource(Supply::Written(Written { consumer, shared, codec, head: None })), writer)
}

/// The coding of the octets of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceCodec {
    /// G.711.
    Law(Law),
    /// Linear 16-bit samples.
    L16(SourceRate, ByteOrder),
}

/// The sample rate of a source of linear samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceRate {
    /// Narrowband: 8,000 Hz.
    Hz8000,
    /// Wideband: 16,000 Hz.
    Hz16000,
    /// 22,050 Hz, the rate of some speech synthesisers.
    Hz22050,
    /// 24,000 Hz, which is common in speech synthesis.
    Hz24000,
    /// Fullband: 48,000 Hz.
    Hz48000,
}

impl From<Law> for SourceCodec {
    fn from(law: Law) -> SourceCodec {
        SourceCodec::Law(law)
    }
}

impl SourceCodec {
    /// The number of octets in 20 ms: 160, 320, 640, 882, 960 or 1,920.
    const fn frame(self) -> usize {
        match self {
            SourceCodec::Law(_) => FRAME,
            SourceCodec::L16(SourceRate::Hz8000, _) => 2 * FRAME,
            SourceCodec::L16(SourceRate::Hz16000, _) => 4 * FRAME,
            SourceCodec::L16(SourceRate::Hz22050, _) => 2 * 22_050 / 50,
            SourceCodec::L16(SourceRate::Hz24000, _) => 6 * FRAME,
            SourceCodec::L16(SourceRate::Hz48000, _) => 12 * FRAME,
        }
    }
}

/// The error for a piece of audio that was refused. The writer is too far ahead of playout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream is too far ahead of playout")]
pub struct Overflow;

/// The writing half of a source. Several threads may share one writer. The functions of the writer never wait for the
/// worker.
pub struct StreamWriter {
    // Only writers compete for this lock. The worker reads the other end of the ring without a lock.
    queue: Mutex<Queue>,
    shared: Arc<Shared>,
    max_octets: u64,
    /// The number of octets in 20 ms.
    frame: u64,
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
        let written = queue.written + octets.len() as u64;
        let consumed = self.shared.consumed.load(Ordering::Acquire);
        // Cleared audio frees its space at once, but the worker removes this audio only at the next frame. Until this
        // frame, the space that a clear frees can be used only once.
        if written - consumed.max(queue.cleared) > self.max_octets
            || written - consumed > 2 * self.max_octets
            || queue.producer.slots() <= FOR_MARKS
        {
            return Err(Overflow);
        }
        queue.written = written;
        queue.push(ItemContent::Audio(octets));
        Ok(())
    }

    /// Appends a mark. [`crate::Event::MarkReached`] reports the mark when all audio before the mark has been played.
    /// The report comes 20 ms after the last frame of this audio was sent. If no audio waits, the mark is reported
    /// within 20 ms. At most 32 marks are reported in each frame. A mark is lost only if the ring is full and 256 marks
    /// wait.
    pub fn mark(&self, name: Arc<str>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(ItemContent::Mark(name));
    }

    /// Drops the audio that waits. The audio is dropped at the next frame of 20 ms. From this frame on, the marks in
    /// the dropped audio are reported in order, at most 32 per frame. The writer may append new audio at once.
    pub fn clear(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.cleared = queue.written;
        self.shared.cleared.store(queue.next, Ordering::Release);
    }

    /// Stops playout at the next frame of 20 ms, until [`Self::resume`]. The audio that waits is kept, but a call of
    /// `clear` still drops this audio.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Release);
    }

    /// Continues playout after [`Self::pause`], at the next frame of 20 ms.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Release);
    }

    /// The number of gaps, and the total silence in these gaps. A gap occurs when the audio runs out and more audio
    /// arrives within 500 ms. If the audio ends because of a call of `clear`, this is not a gap.
    pub fn underruns(&self) -> Underruns {
        let frames = self.shared.gap_frames.load(Ordering::Relaxed);
        Underruns {
            count: self.shared.gaps.load(Ordering::Relaxed),
            silence: Duration::from_millis(frames.saturating_mul(20)),
        }
    }

    /// The duration of the audio that waits to be played.
    pub fn queued(&self) -> Duration {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let octets = queue.written - self.shared.consumed.load(Ordering::Acquire).max(queue.cleared);
        Duration::from_micros(octets * 20_000 / self.frame)
    }
}

/// The gaps in a writer's audio that occurred because the audio arrived too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Underruns {
    /// The number of gaps.
    pub count: u64,
    /// The total duration of the gaps, in whole frames of 20 ms.
    pub silence: Duration,
}

/// The worker's half of a source. Pass it to [`crate::Command::Source`].
#[derive(Debug)]
pub struct StreamSource(Supply);

enum Supply {
    /// A [`StreamWriter`] supplies the audio.
    Written(Written),
    /// A tap of another session supplies the audio.
    Tapped(TapReader),
}

struct Written {
    consumer: rtrb::Consumer<Item>,
    shared: Arc<Shared>,
    codec: SourceCodec,
    head: Option<Item>,
}

impl StreamSource {
    /// Creates a source that plays one track of another session's tap, frame by frame. If both sessions use the tap's
    /// codec, the audio is not decoded. If the tap has no frame in time, silence is played. If playout is more than 100
    /// ms behind, older frames are dropped.
    pub fn copying(reader: TapReader) -> StreamSource {
        StreamSource(Supply::Tapped(reader))
    }
}

impl Written {
    /// Takes the next item. If an item was put back, this item is next. Otherwise the next item comes from the ring.
    fn take(&mut self) -> Option<Item> {
        self.head.take().or_else(|| self.consumer.pop().ok())
    }
}

struct Queue {
    producer: rtrb::Producer<Item>,
    next: u64,
    /// The number of octets of audio that the source has accepted.
    written: u64,
    /// The number of octets of audio that were written before the newest call of `clear`. These octets have been
    /// dropped or played, or will be dropped.
    cleared: u64,
}

impl Queue {
    fn push(&mut self, content: ItemContent) {
        let number = self.next;
        self.next += 1;
        // For audio, the caller has checked that there is space. A mark that does not fit is lost, as
        // `StreamWriter::mark` says.
        let _ = self.producer.push(Item { number, content });
    }
}

#[derive(Default)]
struct Shared {
    /// The number of octets of audio that the worker has played or dropped.
    consumed: AtomicU64,
    /// The number of the first item that is not cleared. Items with lower numbers are cleared.
    cleared: AtomicU64,
    /// Whether playout is paused.
    paused: AtomicBool,
    /// The number of gaps. The next field, `gap_frames`, is the number of frames in all gaps. A frame belongs to a gap
    /// if it was not full.
    gaps: AtomicU64,
    gap_frames: AtomicU64,
}

struct Item {
    number: u64,
    content: ItemContent,
}

enum ItemContent {
    Audio(Bytes),
    Mark(Arc<str>),
}

impl std::fmt::Debug for Supply {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Supply::Written(written) => {
                formatter.debug_struct("Written").field("codec", &written.codec).finish_non_exhaustive()
            }
            Supply::Tapped(reader) => formatter.debug_tuple("Tapped").field(reader).finish(),
        }
    }
}

/// The playout of a source in a session.
#[derive(Debug)]
pub(crate) struct SourcePlayer {
    pub(crate) op: OpId,
    /// Whether the source had audio for the last frame.
    pub(crate) has_audio: bool,
    supply: Supply,
    /// The number of frames since the audio ran out. The value is 0 if the audio has not run out. The value is also 0
    /// after 500 ms without audio, because later audio does not end a gap.
    frames_without_audio: u16,
    /// The value of the shared field `cleared` in the last frame. If the shared value is different now, the writer has
    /// called `clear` since then.
    cleared: u64,
    /// The marks that have been reached and are not reported yet, in order, at most [`MAX_PLAYED_MARKS`].
    played_marks: VecDeque<Arc<str>>,
    /// The resampler from 22,050 or 24,000 Hz to 48,000 Hz.
    resampler: Option<Box<Resampler>>,
}

/// 20 ms of audio from a source.
#[expect(clippy::large_enum_variant, reason = "on the stack, for a frame; it is never kept")]
pub(crate) enum SourceFrame {
    Octets(Law, [u8; FRAME]),
    Samples([i16; LONGEST_FRAME], SampleRate),
}

impl SourcePlayer {
    pub(crate) fn new(op: OpId, source: StreamSource) -> SourcePlayer {
        SourcePlayer {
            op,
            has_audio: false,
            supply: source.0,
            frames_without_audio: 0,
            cleared: 0,
            played_marks: VecDeque::new(),
            resampler: None,
        }
    }

    /// Returns the next frame, or `None` if the source has no audio. If the audio does not fill the frame, the rest of
    /// the frame is silence. The function calls `reached` for each mark whose audio ended in an earlier frame or was
    /// cleared, but for at most `limit` marks. The other marks follow in later frames.
    pub(crate) fn next_frame(&mut self, limit: usize, reached: impl FnMut(Arc<str>)) -> Option<SourceFrame> {
        let codec = match &mut self.supply {
            Supply::Written(written) if written.shared.paused.load(Ordering::Acquire) => {
                (self.has_audio, self.frames_without_audio) = (false, 0);
                self.hold(limit, reached);
                return None;
            }
            Supply::Written(written) => written.codec,
            Supply::Tapped(reader) => {
                let copied = copied(reader);
                self.has_audio = copied.is_some();
                return copied;
            }
        };
        let mut octets = [0; 12 * FRAME];
        let octets = octets.get_mut(..codec.frame())?;
        let filled = self.fill(octets, limit, reached);
        if filled == 0 {
            return None;
        }
        let (rate, order) = match codec {
            SourceCodec::Law(law) => {
                octets.get_mut(filled..)?.fill(law.silence());
                return octets.first_chunk().map(|octets| SourceFrame::Octets(law, *octets));
            }
            SourceCodec::L16(rate, order) => (rate, order),
        };
        // An incomplete sample is dropped.
        octets.get_mut(filled - filled % 2..)?.fill(0);
        let mut samples = [0; LONGEST_FRAME];
        order.read(octets, &mut samples);
        Some(match rate {
            SourceRate::Hz8000 => SourceFrame::Samples(samples, SampleRate::Hz8000),
            SourceRate::Hz16000 => SourceFrame::Samples(samples, SampleRate::Hz16000),
            SourceRate::Hz22050 | SourceRate::Hz24000 => {
                let resampler = || match rate {
                    SourceRate::Hz22050 => Box::new(Resampler::from_22050_to_48000()),
                    _ => Box::new(Resampler::new(SampleRate::Hz8000, SampleRate::Hz16000)),
                };
                let mut wide = [0; LONGEST_FRAME];
                let narrow = samples.get(..codec.frame() / 2).unwrap_or_default();
                self.resampler.get_or_insert_with(resampler).process(narrow, &mut wide);
                SourceFrame::Samples(wide, SampleRate::Hz48000)
            }
            SourceRate::Hz48000 => SourceFrame::Samples(samples, SampleRate::Hz48000),
        })
    }

    /// Fills a frame as far as audio is available. Returns the number of octets filled.
    fn fill(&mut self, frame: &mut [u8], limit: usize, reached: impl FnMut(Arc<str>)) -> usize {
        let Supply::Written(source) = &mut self.supply else { return 0 };
        let cleared = source.shared.cleared.load(Ordering::Acquire);
        // A mark that follows audio of this frame is not due yet, because this audio is played now.
        let mut due = self.played_marks.len();
        let mut filled = 0;
        while let Some(mut item) = source.take() {
            match &mut item.content {
                ItemContent::Mark(_) if self.played_marks.len() >= MAX_PLAYED_MARKS => {
                    source.head = Some(item);
                    break;
                }
                ItemContent::Mark(name) => {
                    self.played_marks.push_back(Arc::clone(name));
                    if filled == 0 {
                        due = self.played_marks.len();
                    }
                }
                ItemContent::Audio(octets) if item.number < cleared => {
                    source.shared.consumed.fetch_add(octets.len() as u64, Ordering::AcqRel);
                }
                ItemContent::Audio(octets) => {
                    let Some(room) = frame.get_mut(filled..).filter(|room| !room.is_empty()) else {
                        source.head = Some(item);
                        break;
                    };
                    let take = octets.len().min(room.len());
                    octets.copy_to_slice(room.get_mut(..take).unwrap_or_default());
                    filled += take;
                    source.shared.consumed.fetch_add(take as u64, Ordering::AcqRel);
                    if !octets.is_empty() {
                        source.head = Some(item);
                        break;
                    }
                }
            }
        }
        self.played_marks.drain(..due.min(limit)).for_each(reached);
        let cut = std::mem::replace(&mut self.cleared, cleared) != cleared;
        let ran_out = !cut && (self.has_audio || self.frames_without_audio > 0);
        match filled {
            0 => {
                self.frames_without_audio =
                    if ran_out && self.frames_without_audio < MAX_GAP { self.frames_without_audio + 1 } else { 0 }
            }
            _ => {
                let frames_without_audio = if cut { 0 } else { self.frames_without_audio };
                if frames_without_audio > 0 {
                    source.shared.gaps.fetch_add(1, Ordering::Relaxed);
                    source.shared.gap_frames.fetch_add(frames_without_audio.into(), Ordering::Relaxed);
                }
                // A frame that is only partly filled is the first frame of a gap.
                self.frames_without_audio = u16::from(filled < frame.len());
            }
        }
        self.has_audio = filled > 0;
        filled
    }

    /// Handles a frame in which other audio plays. The source's audio waits. Cleared audio is removed, and at most
    /// `limit` marks in the cleared audio are reported.
    pub(crate) fn hold(&mut self, limit: usize, reached: impl FnMut(Arc<str>)) {
        let Supply::Written(source) = &mut self.supply else { return };
        let cleared = source.shared.cleared.load(Ordering::Acquire);
        while let Some(item) = source.take() {
            match item.content {
                ItemContent::Mark(name) if item.number < cleared && self.played_marks.len() < MAX_PLAYED_MARKS => {
                    self.played_marks.push_back(name);
                }
                ItemContent::Audio(octets) if item.number < cleared => {
                    source.shared.consumed.fetch_add(octets.len() as u64, Ordering::AcqRel);
                }
                _ => {
                    source.head = Some(item);
                    break;
                }
            }
        }
        let due = self.played_marks.len().min(limit);
        self.played_marks.drain(..due).for_each(reached);
    }
}

/// Returns the next frame of another session's tap.
fn copied(reader: &mut TapReader) -> Option<SourceFrame> {
    let frame = reader.due()?;
    match frame.codec {
        Codec::L16(rate) => {
            let mut samples = [0; LONGEST_FRAME];
            reader.byte_order().read(frame.audio(), &mut samples);
            Some(SourceFrame::Samples(samples, rate))
        }
        codec => Some(SourceFrame::Octets(codec.law()?, *frame.audio().first_chunk()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player() -> (SourcePlayer, StreamWriter) {
        let (source, writer) = source(Law::Mu, Duration::from_secs(10));
        (SourcePlayer::new(OpId(1), source), writer)
    }

    /// Plays one frame. Returns the number of octets of audio, and the marks that were reported.
    fn frame(player: &mut SourcePlayer, limit: usize) -> (usize, Vec<String>) {
        let mut marks = Vec::new();
        let filled = player.fill(&mut [0; FRAME], limit, |name| marks.push(name.to_string()));
        (filled, marks)
    }

    fn names(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|name| name.to_string()).collect()
    }

    #[test]
    fn cleared_marks_are_reported_a_few_per_frame_before_later_marks() {
        let (mut player, writer) = player();
        for name in names(0..100) {
            writer.audio(Bytes::from_static(&[1; FRAME])).unwrap();
            writer.mark(name.as_str().into());
        }
        assert_eq!(frame(&mut player, 32), (FRAME, vec![]));
        writer.clear();
        writer.audio(Bytes::from_static(&[2; FRAME])).unwrap();
        writer.mark("later".into());
        // The audio after the clear plays before all marks are reported.
        assert_eq!(frame(&mut player, 32), (FRAME, names(0..32)));
        assert_eq!(writer.queued(), Duration::ZERO);
        assert_eq!(frame(&mut player, 32), (0, names(32..64)));
        assert_eq!(frame(&mut player, 0), (0, vec![]), "the sink is full now");
        assert_eq!(frame(&mut player, 32), (0, names(64..96)));
        let rest: Vec<String> = names(96..100).into_iter().chain(["later".to_owned()]).collect();
        assert_eq!(frame(&mut player, 32), (0, rest));
        assert_eq!(frame(&mut player, 32), (0, vec![]));
    }

    #[test]
    fn cleared_marks_are_reported_a_few_per_frame_during_a_prompt() {
        let (mut player, writer) = player();
        for name in names(0..40) {
            writer.audio(Bytes::from_static(&[1; FRAME])).unwrap();
            writer.mark(name.as_str().into());
        }
        writer.clear();
        writer.audio(Bytes::from_static(&[2; FRAME])).unwrap();
        writer.mark("later".into());
        let mut marks = Vec::new();
        for wanted in [32, 40, 40] {
            player.hold(32, |name| marks.push(name.to_string()));
            assert_eq!(marks, names(0..wanted));
        }
        assert_eq!(frame(&mut player, 32), (FRAME, vec![]));
        assert_eq!(frame(&mut player, 32), (0, vec!["later".to_owned()]));
    }

    #[test]
    fn after_a_clear_new_audio_is_accepted_at_once_up_to_the_limit() {
        let (mut player, writer) = player();
        let all = Bytes::from_static(&[1; 80_000]);
        writer.audio(all.clone()).unwrap();
        assert_eq!(writer.audio(all.slice(..1)), Err(Overflow));
        writer.clear();
        assert_eq!(writer.queued(), Duration::ZERO);
        writer.audio(all.clone()).unwrap();
        assert_eq!(writer.queued(), Duration::from_secs(10));
        writer.clear();
        assert_eq!(writer.audio(all.slice(..1)), Err(Overflow), "the worker has not let go of anything yet");
        assert_eq!(frame(&mut player, 32), (0, vec![]));
        writer.audio(all).unwrap();
        assert_eq!(frame(&mut player, 32), (FRAME, vec![]));
        assert_eq!(writer.queued(), Duration::from_millis(9_980));
    }

    #[test]
    fn paused_audio_continues_at_its_position_and_a_clear_removes_it() {
        let (mut player, writer) = player();
        let heard = |player: &mut SourcePlayer| {
            let mut marks = Vec::new();
            let spoken = player.next_frame(32, |name| marks.push(name.to_string()));
            (spoken.is_some(), marks)
        };
        writer.audio(vec![0; 3 * FRAME].into()).unwrap();
        writer.mark("end".into());
        assert_eq!(heard(&mut player), (true, vec![]));
        writer.pause();
        for _ in 0..10 {
            assert_eq!(heard(&mut player), (false, vec![]));
        }
        writer.resume();
        assert_eq!(heard(&mut player), (true, vec![]));
        assert_eq!(heard(&mut player), (true, vec![]));
        assert_eq!(heard(&mut player), (false, vec!["end".to_owned()]));
        assert_eq!(writer.underruns(), Underruns::default(), "a pause is no gap");
        writer.pause();
        writer.audio(vec![0; FRAME].into()).unwrap();
        writer.mark("cut".into());
        writer.clear();
        assert_eq!(heard(&mut player), (false, vec!["cut".to_owned()]));
        writer.resume();
        assert_eq!(heard(&mut player), (false, vec![]));
    }

    #[test]
    fn late_audio_counts_as_a_gap_and_audio_after_500_ms_or_a_clear_does_not() {
        let (mut player, writer) = player();
        let silence = |count: usize, player: &mut SourcePlayer| (0..count).for_each(|_| _ = frame(player, 32));
        let gaps = |count, silence| Underruns { count, silence: Duration::from_millis(silence) };
        silence(3, &mut player);
        writer.audio(Bytes::from_static(&[1; FRAME])).unwrap();
        silence(1, &mut player);
        assert_eq!(writer.underruns(), gaps(0, 0), "what was before the first word is no gap");
        silence(2, &mut player);
        writer.audio(Bytes::from_static(&[1; FRAME + 1])).unwrap();
        silence(1, &mut player);
        assert_eq!(writer.underruns(), gaps(1, 40));
        // The frame with the last octet is silent except for this octet.
        silence(1, &mut player);
        writer.audio(Bytes::from_static(&[1; FRAME])).unwrap();
        silence(1, &mut player);
        assert_eq!(writer.underruns(), gaps(2, 60));
        silence(usize::from(MAX_GAP) + 1, &mut player);
        writer.audio(Bytes::from_static(&[1; 2 * FRAME])).unwrap();
        silence(1, &mut player);
        assert_eq!(writer.underruns(), gaps(2, 60), "something new after 500 ms");
        writer.clear();
        silence(3, &mut player);
        writer.audio(Bytes::from_static(&[1; FRAME])).unwrap();
        silence(1, &mut player);
        assert_eq!(writer.underruns(), gaps(2, 60), "the application cut it itself");
    }

    #[test]
    fn marks_that_cannot_be_reported_delay_the_audio_after_them() {
        let (mut player, writer) = player();
        for name in 0..=MAX_PLAYED_MARKS {
            writer.mark(name.to_string().into());
            frame(&mut player, 0);
        }
        writer.audio(Bytes::from_static(&[1; FRAME])).unwrap();
        assert_eq!(frame(&mut player, 0), (0, vec![]));
        assert_eq!(frame(&mut player, 1), (0, names(0..1)));
        assert_eq!(frame(&mut player, 0), (FRAME, vec![]));
    }
}
