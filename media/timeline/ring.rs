//! The ring buffer, which holds about 1 s of one stream. For each position, the ring knows whether a sample was
//! received, was made up, or is missing.

use crate::codec::SampleRate;
use crate::codec::g711::Law;

/// A position in the stream, in samples.
pub(super) type Position = i64;

/// The origin of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The sample was received.
    Received,
    /// The sample was made up, because the real sample did not arrive in time.
    Synthesised,
    /// There is no sample.
    Absent,
}

/// About 1 s of a stream.
#[derive(Debug)]
pub(super) struct Ring {
    audio: Audio,
    /// The length of the ring minus one. The length of the ring is a power of two, and at least 64.
    mask: usize,
    received: Box<[u64]>,
    synthesised: Box<[u64]>,
    /// The position after the newest sample. The ring holds the samples directly before this position, up to the length
    /// of the ring. It holds no samples after this position.
    high: Position,
}

/// The stored audio. G.711 is stored as received octets. A reader of octets gets a copy, and only a reader of samples
/// needs decoding.
#[derive(Debug)]
enum Audio {
    Octets(Law, Box<[u8]>),
    Samples(Box<[i16]>),
}

impl Ring {
    pub(super) fn octets(law: Law) -> Ring {
        let length = SampleRate::Hz8000.hertz().next_power_of_two() as usize;
        Ring::new(Audio::Octets(law, vec![law.silence(); length].into()), length)
    }

    pub(super) fn samples(rate: SampleRate) -> Ring {
        let length = rate.hertz().next_power_of_two() as usize;
        Ring::new(Audio::Samples(vec![0; length].into()), length)
    }

    fn new(audio: Audio, length: usize) -> Ring {
        let words = || vec![0; length / 64].into();
        Ring { audio, mask: length - 1, received: words(), synthesised: words(), high: 0 }
    }

    /// The position after the newest sample.
    pub(super) fn high(&self) -> Position {
        self.high
    }

    /// The oldest position in the ring.
    pub(super) fn low(&self) -> Position {
        self.high - self.mask as i64 - 1
    }

    /// Extends the ring up to `to`. The oldest samples are dropped.
    pub(super) fn reach(&mut self, to: Position) {
        if to > self.high {
            let from = self.high.max(to - self.mask as i64 - 1);
            each_word(self.mask, from, to, |word, bits| {
                for map in [&mut self.received, &mut self.synthesised] {
                    if let Some(word) = map.get_mut(word) {
                        *word &= !bits;
                    }
                }
            });
            self.high = to;
        }
    }

    /// Writes received octets in the coding `law`. The octets must not be longer than the ring.
    pub(super) fn write_octets(&mut self, at: Position, law: Law, octets: &[u8]) {
        match &mut self.audio {
            Audio::Octets(own, ring) => {
                if *own == law {
                    copy_in(ring, self.mask, at, octets);
                } else {
                    let own = *own;
                    pieces(at, octets, |at, part, scratch: &mut [u8; PIECE]| {
                        let Some(scratch) = scratch.get_mut(..part.len()) else { return };
                        scratch.copy_from_slice(part);
                        law.transcode(own, scratch);
                        copy_in(ring, self.mask, at, scratch);
                    });
                }
            }
            Audio::Samples(ring) => pieces(at, octets, |at, part, scratch: &mut [i16; PIECE]| {
                let Some(scratch) = scratch.get_mut(..part.len()) else { return };
                law.decode(part, scratch);
                copy_in(ring, self.mask, at, scratch);
            }),
        }
        self.mark_received(at, octets.len());
    }

    /// Writes received samples.
    pub(super) fn write_samples(&mut self, at: Position, samples: &[i16]) {
        self.put(at, samples);
        self.mark_received(at, samples.len());
    }

    /// Writes made-up samples. Call this method only for positions at which no sample was received.
    pub(super) fn write_synthesised(&mut self, at: Position, samples: &[i16]) {
        self.put(at, samples);
        self.reach(at + samples.len() as i64);
        mark(&mut self.synthesised, self.mask, at, samples.len());
    }

    /// Marks `count` samples as received.
    fn mark_received(&mut self, at: Position, count: usize) {
        if at != self.high {
            self.reach(at + count as i64);
            return mark(&mut self.received, self.mask, at, count);
        }
        // This is the fast path: the samples nearly always follow the newest sample.
        let to = at + count as i64;
        each_word(self.mask, at, to, |word, bits| {
            if let (Some(received), Some(synthesised)) = (self.received.get_mut(word), self.synthesised.get_mut(word)) {
                *received |= bits;
                *synthesised &= !bits;
            }
        });
        self.high = to;
    }

    fn put(&mut self, at: Position, samples: &[i16]) {
        match &mut self.audio {
            Audio::Octets(law, ring) => pieces(at, samples, |at, part, scratch: &mut [u8; PIECE]| {
                let Some(scratch) = scratch.get_mut(..part.len()) else { return };
                law.encode(part, scratch);
                copy_in(ring, self.mask, at, scratch);
            }),
            Audio::Samples(ring) => copy_in(ring, self.mask, at, samples),
        }
    }

    /// Whether all `count` samples were received.
    pub(super) fn is_received(&self, at: Position, count: usize) -> bool {
        let end = at + count as i64;
        at >= self.low() && end <= self.high && run(&self.received, self.mask, at, end, true) == end
    }

    /// Returns the origin of the sample at `at`. Also returns the end of the run of samples that have the same origin,
    /// at most `end`.
    pub(super) fn kind(&self, at: Position, end: Position) -> (Kind, Position) {
        if at >= self.high {
            return (Kind::Absent, end);
        }
        if at < self.low() {
            return (Kind::Absent, end.min(self.low()));
        }
        let within = end.min(self.high);
        let received = run(&self.received, self.mask, at, within, true);
        if received > at {
            return (Kind::Received, received);
        }
        // A sample counts as made up only if the real sample did not arrive later.
        let until = run(&self.received, self.mask, at, within, false);
        let synthesised = run(&self.synthesised, self.mask, at, until, true);
        if synthesised > at {
            return (Kind::Synthesised, synthesised);
        }
        let absent = run(&self.synthesised, self.mask, at, until, false);
        (Kind::Absent, if absent == self.high { end } else { absent })
    }

    /// Copies the samples at `at`, whatever their origin is.
    pub(super) fn read_samples(&self, at: Position, out: &mut [i16]) {
        match &self.audio {
            Audio::Octets(law, ring) => {
                let (first, rest) = slices(ring, self.mask, at, out.len());
                let (begin, end) = out.split_at_mut(first.len());
                law.decode(first, begin);
                law.decode(rest, end);
            }
            Audio::Samples(ring) => {
                let (first, rest) = slices(ring, self.mask, at, out.len());
                let (begin, end) = out.split_at_mut(first.len());
                begin.copy_from_slice(first);
                end.copy_from_slice(rest);
            }
        }
    }

    /// Copies the octets at `at` and returns their law. Returns `None` if the ring stores samples.
    pub(super) fn read_octets(&self, at: Position, out: &mut [u8]) -> Option<Law> {
        let Audio::Octets(law, ring) = &self.audio else { return None };
        let (first, rest) = slices(ring, self.mask, at, out.len());
        let (begin, end) = out.split_at_mut(first.len());
        begin.copy_from_slice(first);
        end.copy_from_slice(rest);
        Some(*law)
    }

    /// Copies the samples at `at`. Missing samples are replaced with silence.
    pub(super) fn read_known(&self, at: Position, out: &mut [i16]) {
        let end = at + out.len() as i64;
        let mut from = at;
        while from < end {
            let (kind, until) = self.kind(from, end);
            if let Some(part) = out.get_mut((from - at) as usize..(until - at) as usize) {
                if kind == Kind::Absent { part.fill(0) } else { self.read_samples(from, part) }
            }
            from = until;
        }
    }
}

/// The number of samples that are converted in one piece.
const PIECE: usize = 160;

/// Divides `from` into pieces, and passes each piece to `convert` with the position of the piece and a buffer for the
/// conversion.
fn pieces<T, S: Copy + Default>(at: Position, from: &[T], mut convert: impl FnMut(Position, &[T], &mut [S; PIECE])) {
    let mut scratch = [S::default(); PIECE];
    for (index, part) in from.chunks(PIECE).enumerate() {
        convert(at + (index * PIECE) as i64, part, &mut scratch);
    }
}

fn copy_in<T: Copy>(ring: &mut [T], mask: usize, at: Position, from: &[T]) {
    let start = at as usize & mask;
    let (first, rest) = from.split_at(from.len().min(ring.len() - start));
    if let Some(place) = ring.get_mut(start..start + first.len()) {
        place.copy_from_slice(first);
    }
    if let Some(place) = ring.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
}

/// Returns `count` elements of the ring as slices. The second slice is empty unless the elements wrap around the end of
/// the ring.
fn slices<T>(ring: &[T], mask: usize, at: Position, count: usize) -> (&[T], &[T]) {
    let start = at as usize & mask;
    let first = count.min(ring.len() - start);
    (ring.get(start..start + first).unwrap_or(&[]), ring.get(..count - first).unwrap_or(&[]))
}

fn mark(map: &mut [u64], mask: usize, at: Position, count: usize) {
    each_word(mask, at, at + count as i64, |word, bits| {
        if let Some(word) = map.get_mut(word) {
            *word |= bits;
        }
    });
}

/// Visits each bitmap word that contains bits of `from..to`, with the mask of these bits.
#[inline]
fn each_word(mask: usize, from: Position, to: Position, mut visit: impl FnMut(usize, u64)) {
    let mut at = from;
    while at < to {
        let index = at as usize & mask;
        let bit = index & 63;
        let count = (64 - bit).min((to - at) as usize);
        visit(index >> 6, (u64::MAX >> (64 - count)) << bit);
        at += count as i64;
    }
}

/// Returns the end of the run of equal bits that begins at `from`, at most `to`. `set` is the value of these bits.
#[inline]
fn run(map: &[u64], mask: usize, from: Position, to: Position, set: bool) -> Position {
    let mut at = from;
    while at < to {
        let index = at as usize & mask;
        let bit = index & 63;
        let word = map.get(index >> 6).copied().unwrap_or(0);
        let other = if set { !word } else { word } >> bit;
        let same = other.trailing_zeros().min(64 - bit as u32);
        at += i64::from(same);
        if (same as usize) < 64 - bit {
            break;
        }
    }
    at.min(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_received_concealed_and_missing_samples_are_reported_across_the_wrap() {
        let mut ring = Ring::samples(SampleRate::Hz8000);
        let base = 8_192 - 100;
        ring.write_samples(base, &[1; 90]);
        ring.write_samples(base + 160, &[2; 100]);
        ring.write_synthesised(base + 90, &[3; 30]);
        let mut runs = Vec::new();
        let (mut at, end) = (base, base + 300);
        while at < end {
            let (kind, until) = ring.kind(at, end);
            runs.push((kind, until - base));
            at = until;
        }
        use Kind::{Absent, Received, Synthesised};
        assert_eq!(runs, [(Received, 90), (Synthesised, 120), (Absent, 160), (Received, 260), (Absent, 300)]);
        assert!(
            ring.is_received(base + 160, 100) && !ring.is_received(base + 160, 101) && !ring.is_received(base + 89, 2)
        );
        let mut out = [9; 300];
        ring.read_known(base, &mut out);
        let expected: Vec<i16> = [[1; 90].as_slice(), &[3; 30], &[0; 40], &[2; 100], &[0; 40]].concat();
        assert_eq!(out[..], expected[..]);
    }

    #[test]
    fn after_a_full_turn_of_the_ring_only_newer_samples_remain() {
        let mut ring = Ring::octets(Law::Mu);
        ring.write_octets(1_000, Law::Mu, &[7; 160]);
        ring.reach(1_000 + 8_192 + 100);
        assert!(!ring.is_received(1_000, 1) && ring.is_received(1_100, 60));
        ring.write_octets(1 << 40, Law::A, &[0xD5; 960]);
        assert!(ring.is_received(1 << 40, 960) && !ring.is_received(1_100, 1));
        let mut out = [0; 960];
        assert_eq!(ring.read_octets(1 << 40, &mut out), Some(Law::Mu));
        assert!(out.iter().all(|octet| *octet == 0xFF || *octet == 0xFE), "{:x}", out[0]);
    }
}
