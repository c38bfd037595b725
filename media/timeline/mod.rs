//! Puts one direction of a leg onto the media clock: any packet length, any order, gaps concealed, its clock followed.
//! Recorders and whoever listens live read it, each at its own distance.
//!
//! ```text
//!   packets --> transit: where each lies on the media clock --> ring (1 s, in stream time) --> Reader::fixed    recorders
//!                 least transit, lateness                        came | made up | absent  \--> Reader::adaptive taps, mixer
//!                                                                  conceal, silence ----^
//! ```
//!
//! A sample's time on the wire is when the packet that it begins arrives, had it been held up as little as possible. Every
//! 20 ms each reader takes 20 ms. A peer with a steady clock is copied to the bit: what came is never touched in the ring.

mod assembly;
mod conceal;
#[cfg(test)]
mod hearing_tests;
mod reader;
mod ring;
mod silence;
#[cfg(test)]
mod tests;
mod transit;

use crate::codec::g711::Law;
use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::copied::Copied;
use crate::rtp::FRAME;

pub use assembly::Assembly;
use conceal::Concealer;
pub use reader::Reader;
use reader::{Step, blend, stretch};
use ring::{Kind, Position, Ring};
use silence::Rests;
use transit::Transit;

/// The distance of [`recorder`]s: 7 frames.
const RECORDER_MS: u16 = RECORDER_LAG as u16 * 20;
/// Frames after a recorder starts, and is stopped, until the wire of that moment reaches it.
pub(crate) const RECORDER_LAG: u8 = 7;
/// A packet that would lie so much farther ahead than it should has a new timestamp origin (or a clock that runs too fast).
const AHEAD_MS: i64 = 300;
/// The media clock is told for packets and ticks that do not come in order, which after a worker stood still is by up to 2 s;
/// by more than this it is another clock.
const CLOCK_BACK: i64 = 8_000 / 2 * 5;
/// When the clock has stood still for longer than this, what comes then has waited for us.
const STALL_MS: i64 = 120;
/// For how long after it that is so, and from which length on it is no stall but another clock.
const STALL_OVER_MS: i64 = 20;
const LONGEST_STALL_MS: i64 = 2_500;
/// A packet later than this is of no use to a recorder; several in a row have a new origin.
const LATE_MS: i64 = RECORDER_MS as i64 - 20;
/// Packets in a row that come late alike, or anyhow, before their origin counts as new.
const ALIKE: u8 = 3;
const ANYHOW: u8 = 10;
/// What "alike" is.
const ALIKE_MS: i64 = 8;
/// Live readers wait for packets this late, at least and at most.
const LEAST_TOLERANCE_MS: i64 = 10;
const MOST_TOLERANCE_MS: i64 = 180;
/// A frame must have begun to arrive before it can be read.
const FRAME_MS: i64 = 20;
/// The longest payload taken.
const LONGEST_PACKET_MS: usize = 240;

/// A reader for recordings; the same distance for both directions keeps them together.
pub(crate) fn recorder() -> Reader {
    Reader::fixed(RECORDER_MS)
}

/// What a packet says of its time, and when it came.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The RTP timestamp of its first sample.
    pub timestamp: u32,
    /// A talkspurt begins.
    pub marker: bool,
    /// The media clock at its arrival, from any origin: 8,000 a second whatever the codec.
    pub arrival: u32,
}

/// What a frame is made of, in samples; the rest is silence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Makeup {
    /// That came.
    pub present: u16,
    /// Made up for what was lost.
    pub concealed: u16,
    /// Comfort noise.
    pub comfort: u16,
}

impl Makeup {
    /// Whether the peer sent nothing for it.
    pub fn is_nothing(self) -> bool {
        self == Makeup::default()
    }
}

/// What happened to a timeline so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quality {
    /// Packets that came after the live reader had passed.
    pub late: u32,
    /// Audio made up for what did not come in time.
    pub concealed_ms: u64,
    /// How far the live reader was behind the wire when it last read; 0 without one.
    pub delay_ms: u16,
    /// Times a reader went elsewhere in the stream while there was audio.
    pub jumps: u32,
    /// Frames that were made a little longer or shorter.
    pub stretches: u32,
}

/// One direction of a leg. Allocates when made (8 kHz: 11 kB, 48 kHz: 160 kB), not afterwards.
#[derive(Debug)]
pub struct Timeline {
    ring: Ring,
    transit: Transit,
    concealer: Concealer,
    rests: Rests,
    /// Samples of a millisecond.
    ms: usize,
    /// RTP clock units a second.
    clock_rate: i64,
    /// The media clock as it was last told, extended, and in samples of ours.
    clock: Option<(u32, i64)>,
    /// The latest that it was told, and the last time that it had stood still until then: for how long.
    latest: i64,
    stall: (i64, i64),
    origin: Option<Origin>,
    /// Packets in a row that came too late, how many of them alike, and the transit of the last.
    stragglers: u8,
    alike: u8,
    straggler: i64,
    /// What the live reader will read next.
    live: Position,
    /// What the reader that is nearest to the wire will read next.
    foremost: Position,
    quality: Quality,
}

/// How timestamps lie in the stream.
#[derive(Debug, Clone, Copy)]
struct Origin {
    timestamp: u32,
    /// Units since `place`.
    units: i64,
    place: Position,
}

impl Origin {
    /// The same, told by another timestamp, so that the 32-bit distance never wraps.
    fn follow(self, timestamp: u32) -> Origin {
        let units = timestamp.wrapping_sub(self.timestamp).cast_signed();
        Origin { timestamp, units: self.units + i64::from(units), place: self.place }
    }

    #[inline]
    fn place(self, ms: usize, clock_rate: i64) -> Position {
        let rate = ms as i64 * 1_000;
        // Divisions are dear, and nearly always these are the same.
        self.place + if rate == clock_rate { self.units } else { self.units * rate / clock_rate }
    }
}

impl Timeline {
    /// For G.711: holds octets of `law`.
    pub fn octets(law: Law) -> Timeline {
        Timeline::new(Ring::octets(law), SampleRate::Hz8000, 8_000)
    }

    /// For what is decoded to samples at `rate`. `clock_rate`: RTP timestamp units a second.
    pub fn samples(rate: SampleRate, clock_rate: u32) -> Timeline {
        Timeline::new(Ring::samples(rate), rate, clock_rate)
    }

    fn new(ring: Ring, rate: SampleRate, clock_rate: u32) -> Timeline {
        Timeline {
            ring,
            transit: Transit::new(rate.hertz()),
            concealer: Concealer::new(rate.hertz()),
            rests: Rests::new(),
            ms: rate.hertz() as usize / 1_000,
            clock_rate: i64::from(clock_rate).max(1),
            clock: None,
            latest: 0,
            stall: (i64::MIN, 0),
            origin: None,
            stragglers: 0,
            alike: 0,
            straggler: 0,
            live: Position::MIN,
            foremost: 0,
            quality: Quality::default(),
        }
    }

    /// Places a packet of G.711.
    pub fn write_octets(&mut self, stamp: Stamp, law: Law, octets: &[u8]) {
        let octets = octets.get(..octets.len().min(LONGEST_PACKET_MS * self.ms)).unwrap_or_default();
        if let Some(at) = self.place(stamp, octets.len()) {
            self.ring.write_octets(at, law, octets);
        }
    }

    /// Places a decoded packet.
    pub fn write_samples(&mut self, stamp: Stamp, samples: &[i16]) {
        let samples = samples.get(..samples.len().min(LONGEST_PACKET_MS * self.ms)).unwrap_or_default();
        if let Some(at) = self.place(stamp, samples.len()) {
            self.ring.write_samples(at, samples);
        }
    }

    /// The peer rests: until audio comes there is noise of so many -dBov, 0 to 127 (RFC 3389 §3.1).
    pub fn write_comfort_noise(&mut self, stamp: Stamp, level: u8) {
        let at = self.find(stamp);
        self.rests.begin(at, Some(level));
    }

    /// Nothing follows what was written last until something else is written: it is not lost.
    pub fn rest(&mut self) {
        if !self.rests.is_open() {
            self.rests.begin(self.ring.high(), None);
        }
    }

    /// The stream that follows has another SSRC: its timestamps say nothing about those before.
    pub fn restart(&mut self) {
        self.origin = None;
    }

    /// Reads 20 ms (`out` is a frame long) at the media clock's `now`, as in [`Stamp::arrival`].
    pub fn read_samples(&mut self, reader: &mut Reader, now: u32, out: &mut [i16]) -> Makeup {
        let Some((step, at)) = self.approach(reader, now, out.len()) else {
            out.fill(0);
            return Makeup::default();
        };
        let makeup = self.read(reader, step, at, out);
        self.passed(reader);
        makeup
    }

    /// Reads 20 ms of G.711, without decoding where all came and the law is ours.
    pub fn read_octets(&mut self, reader: &mut Reader, now: u32, law: Law, out: &mut [u8]) -> Makeup {
        let Some((step, at)) = self.approach(reader, now, out.len()) else {
            out.fill(law.silence());
            return Makeup::default();
        };
        if let Some(own) = self.read_held(reader, step, at, out) {
            own.transcode(law, out);
            return Makeup { present: out.len() as u16, ..Makeup::default() };
        }
        let mut samples = [0; LONGEST_FRAME];
        let Some(samples) = samples.get_mut(..out.len()) else { return Makeup::default() };
        let makeup = self.read(reader, step, at, samples);
        self.passed(reader);
        law.encode(samples, out);
        makeup
    }

    /// Reads 20 ms at 8,000 Hz: octets where all came and is held as octets, or else samples.
    pub(crate) fn read_copied(&mut self, reader: &mut Reader, now: u32, copied: &mut Copied) {
        let (mut octets, mut samples) = ([0; FRAME], [0; FRAME]);
        let Some((step, at)) = self.approach(reader, now, FRAME) else {
            *copied = Copied::Samples(samples);
            return;
        };
        if let Some(law) = self.read_held(reader, step, at, &mut octets) {
            *copied = Copied::Octets(law, octets);
            return;
        }
        self.read(reader, step, at, &mut samples);
        self.passed(reader);
        *copied = Copied::Samples(samples);
    }

    /// What happened so far.
    pub fn quality(&self) -> Quality {
        Quality { concealed_ms: self.concealer.made / self.ms as u64, ..self.quality }
    }

    // ---- for stateful codecs ----

    /// Writes what a codec made of a lost packet, which is no packet's arrival. `concealed`: it is the codec's guess.
    fn write_recovered(&mut self, timestamp: u32, samples: &[i16], concealed: bool) {
        if let Some(at) = self.locate(timestamp)
            && at >= self.ring.low()
            && at <= self.ring.high() + AHEAD_MS * self.ms as i64
        {
            self.ring.write_samples(at, samples);
            self.concealer.made += if concealed { samples.len() as u64 } else { 0 };
        }
    }

    /// A packet came that is of no use any more.
    fn note_late(&mut self, stamp: Stamp) {
        let at = self.find(stamp);
        self.late(at);
    }

    /// Whether the next frame that is read begins to need what lies there.
    fn is_due(&self, timestamp: u32) -> bool {
        self.locate(timestamp).is_none_or(|at| at < self.foremost + FRAME_MS * self.ms as i64)
    }

    /// RTP clock units of so many samples.
    fn units(&self, samples: usize) -> u32 {
        (samples as i64 * self.clock_rate / (self.ms as i64 * 1_000)) as u32
    }

    /// Where a timestamp of the present origin lies.
    fn locate(&self, timestamp: u32) -> Option<Position> {
        self.origin.map(|origin| origin.follow(timestamp).place(self.ms, self.clock_rate))
    }

    // ---- writing ----

    /// Where a packet's audio goes, when it is of use.
    fn place(&mut self, stamp: Stamp, count: usize) -> Option<Position> {
        let at = self.find(stamp);
        if at < self.live {
            self.late(at);
        }
        if at < self.ring.low() {
            return None;
        }
        let high = self.ring.high();
        if at > high && !stamp.marker && !self.rests.is_open() {
            self.concealer.resumed(at);
        }
        if self.rests.is_open() && count > 0 {
            self.rests.end(at);
        }
        Some(at)
    }

    fn late(&mut self, at: Position) {
        self.quality.late = self.quality.late.saturating_add(1);
        if let (Some((_, clock)), Some(least)) = (self.clock, self.transit.least()) {
            self.transit.too_late(clock, clock - at - least);
        }
    }

    /// Where in the stream a packet lies.
    fn find(&mut self, stamp: Stamp) -> Position {
        let clock = self.tell(stamp.arrival);
        let waited = self.waited(clock);
        let at = match &mut self.origin {
            None => self.begin(stamp.timestamp, clock),
            Some(origin) => {
                let moved = origin.follow(stamp.timestamp);
                let at = moved.place(self.ms, self.clock_rate);
                let late = clock - at - self.transit.least().unwrap_or(clock - at);
                let ms = self.ms as i64;
                if late < -AHEAD_MS * ms {
                    self.begin(stamp.timestamp, clock)
                } else if late > LATE_MS * ms + waited {
                    let transit = clock - at;
                    let alike = (transit - self.straggler).abs() <= ALIKE_MS * ms;
                    self.straggler = transit;
                    self.alike = if alike { self.alike + 1 } else { 1 };
                    self.stragglers += 1;
                    // One is held up, or several by one and the same cause; those that are late alike, or begin anew, are
                    // a peer whose timestamps stood still.
                    if stamp.marker || self.alike >= ALIKE || self.stragglers >= ANYHOW {
                        self.begin(stamp.timestamp, clock)
                    } else {
                        *origin = moved;
                        at
                    }
                } else {
                    (self.stragglers, self.alike) = (0, 0);
                    *origin = moved;
                    at
                }
            }
        };
        // What waited for us says nothing of its way, unless it was early all the same.
        if waited == 0 || self.transit.least().is_none_or(|least| clock - at < least) {
            self.transit.observe(clock, at);
        }
        at
    }

    /// For how long at most a packet that comes now has waited because nobody looked.
    fn waited(&mut self, clock: i64) -> i64 {
        let (ms, gap) = (self.ms as i64, clock - self.latest);
        self.latest = self.latest.max(clock);
        if (STALL_MS * ms..LONGEST_STALL_MS * ms).contains(&gap) {
            self.stall = (clock, gap);
        }
        let (since, gap) = self.stall;
        if clock.saturating_sub(since) <= STALL_OVER_MS * ms { gap } else { 0 }
    }

    /// A new origin: its packet lies where one does that was not held up.
    fn begin(&mut self, timestamp: u32, clock: i64) -> Position {
        let place = clock - self.transit.least().unwrap_or(0);
        self.origin = Some(Origin { timestamp, units: 0, place });
        (self.stragglers, self.alike) = (0, 0);
        place
    }

    /// The media clock in samples, extended.
    fn tell(&mut self, now: u32) -> i64 {
        let scale = self.ms as i64 / 8;
        let (before, clock) = *self.clock.get_or_insert((now, 0));
        let passed = i64::from(now.wrapping_sub(before).cast_signed());
        // Another worker's clock, when the session has moved: it goes on from where this one was.
        let passed = if passed < -CLOCK_BACK { 0 } else { passed };
        let clock = clock + passed * scale;
        self.clock = Some((now, clock));
        clock
    }

    // ---- reading ----

    /// How the next frame is read, and from where. `None` before anything came.
    fn approach(&mut self, reader: &mut Reader, now: u32, count: usize) -> Option<(Step, Position)> {
        let clock = self.tell(now);
        self.latest = self.latest.max(clock);
        let wire = clock - self.transit.least()?;
        let ms = self.ms as i64;
        let behind = match reader.fixed_ms {
            Some(fixed) => i64::from(fixed) * ms,
            None => FRAME_MS * ms + self.transit.tolerated().clamp(LEAST_TOLERANCE_MS * ms, MOST_TOLERANCE_MS * ms),
        };
        let step = reader.steer(&self.ring, wire - behind, count, self.ms);
        let at = reader.at?;
        if reader.fixed_ms.is_none() {
            self.quality.delay_ms = ((wire - at) / ms).clamp(0, 1_000) as u16;
        }
        Some((step, at))
    }

    /// Reads octets as they came, when they all did and nothing else is to be done; gives their law.
    fn read_held(&mut self, reader: &mut Reader, step: Step, at: Position, out: &mut [u8]) -> Option<Law> {
        if step != Step::Exact || reader.fade.is_some() || reader.starved || !self.ring.is_here(at, out.len()) {
            return None;
        }
        let law = self.ring.read_octets(at, out)?;
        reader.at = Some(at + out.len() as i64);
        self.passed(reader);
        Some(law)
    }

    fn passed(&mut self, reader: &Reader) {
        if let Some(at) = reader.at {
            self.foremost = self.foremost.max(at);
            if reader.fixed_ms.is_none() {
                self.live = at;
            }
        }
    }

    fn read(&mut self, reader: &mut Reader, step: Step, at: Position, out: &mut [i16]) -> Makeup {
        let count = out.len() as i64;
        match step {
            Step::Exact => {}
            Step::Stretch(more) => {
                if reader.fade.is_none() && !reader.starved && stretch(&self.ring, at, more, out) {
                    reader.at = Some(at + count + more);
                    self.quality.stretches = self.quality.stretches.saturating_add(1);
                    return Makeup { present: count as u16, ..Makeup::default() };
                }
            }
            Step::Jump(by) => {
                let makeup = self.copy(reader, at + by, out);
                blend(&self.ring, at, self.ms, out);
                reader.at = Some(at + by + count);
                self.quality.jumps = self.quality.jumps.saturating_add(1);
                return makeup;
            }
        }
        reader.at = Some(at + count);
        self.copy(reader, at, out)
    }

    /// Reads what is there and makes up what is not.
    fn copy(&mut self, reader: &mut Reader, at: Position, out: &mut [i16]) -> Makeup {
        if reader.fade.is_none() && !reader.starved && self.ring.is_here(at, out.len()) {
            self.ring.read_samples(at, out);
            return Makeup { present: out.len() as u16, ..Makeup::default() };
        }
        let mut makeup = Makeup::default();
        let end = at + out.len() as i64;
        let mut from = at;
        while from < end {
            let (kind, until) = self.ring.kind(from, end);
            let until = match kind {
                Kind::Absent => self.make_up(from, until),
                _ => until,
            };
            let kind = if kind == Kind::Absent { self.ring.kind(from, until).0 } else { kind };
            let Some(part) = out.get_mut((from - at) as usize..(until - at) as usize) else { break };
            match kind {
                Kind::Here => {
                    self.ring.read_samples(from, part);
                    if reader.starved {
                        reader.fade = self.concealer.fade(from);
                    }
                    reader.fade = reader.fade.and_then(|fade| fade.apply(&self.ring, part));
                    makeup.present += part.len() as u16;
                }
                Kind::Made => {
                    self.ring.read_samples(from, part);
                    if self.concealer.fade(until).is_some() {
                        makeup.concealed += part.len() as u16;
                    } else {
                        makeup.comfort += part.len() as u16;
                    }
                }
                Kind::Absent => part.fill(0),
            }
            reader.starved = kind != Kind::Here;
            from = until;
        }
        makeup
    }

    /// Makes up what is missing from `from` on, `to` at most. Returns how far it is the same.
    fn make_up(&mut self, from: Position, to: Position) -> Position {
        let (comfort, until) = self.rests.fill(&mut self.ring, from, to);
        if comfort.is_some() {
            return until;
        }
        match self.ring.kind(from - 1, from).0 {
            Kind::Absent => until,
            before => {
                let end = self.concealer.fill(&mut self.ring, from, until, before == Kind::Here);
                if end > from { end } else { until }
            }
        }
    }
}
