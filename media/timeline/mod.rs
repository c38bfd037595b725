//! The jitter buffer. The buffer aligns the packets of one direction of a leg with the media clock. The packets may
//! have any length and may come in any order. The buffer conceals gaps and follows the drift of the far end's clock.
//! Recorders and live readers read the buffer, each with its own delay.
//!
//! ```text
//!   packets --> transit: where each lies on the media clock --> ring (1 s, in stream time) --> Reader::fixed    recorders
//!                 least transit, lateness                     here | made | absent \--> Reader::adaptive taps, mixer
//!                                                                  conceal, silence ----^
//! ```
//!
//! The time of a sample on the wire is defined as follows: it is the arrival time of a packet that starts with this
//! sample and has the least possible delay. Each reader takes 20 ms of audio every 20 ms. Received samples in the ring
//! are never changed, so the audio of a far end with a steady clock is copied bit by bit.

mod assembly;
mod conceal;
#[cfg(test)]
mod conceal_tests;
mod reader;
mod ring;
mod silence;
#[cfg(test)]
mod tests;
mod transit;

use crate::codec::g711::Law;
use crate::codec::{LONGEST_FRAME, SampleRate};
use crate::rtp::FRAME;
use crate::track_frame::TrackFrame;

pub use assembly::Assembly;
use conceal::Concealer;
pub use reader::Reader;
use reader::{Step, blend, stretch};
use ring::{Kind, Position, Ring};
use silence::Pauses;
use transit::Transit;

/// The delay of a [`recorder`] in ms. The value is 140 ms, the length of 7 frames.
const RECORDER_MS: u16 = RECORDER_LAG as u16 * 20;
/// The number of frames after which audio on the wire reaches a recorder. Audio has this delay at the start and at the
/// end of a recording.
pub(crate) const RECORDER_LAG: u8 = 7;
/// The largest distance in ms by which a packet may be ahead of its expected position. If a packet is farther ahead,
/// the far end has changed its timestamp origin, or its clock is too fast.
const AHEAD_MS: i64 = 300;
/// The largest backward step of the media clock, in units of 1/8,000 s. The value is 2.5 s. Clock values of packets and
/// ticks may come in the wrong order: after the worker was blocked, a clock value can be up to 2 s older than the value
/// before. A larger step means that the values come from another clock.
const CLOCK_BACK: i64 = 8_000 / 2 * 5;
/// The shortest stall: a time in ms without an update of the clock. Packets that are read after a stall have waited in
/// the socket.
const STALL_MS: i64 = 120;
/// The time in ms after a stall in which packets count as packets that have waited in the socket. The next constant,
/// `MAX_STALL_MS`, is the longest stall. A longer gap means that another clock has replaced the media clock.
const STALL_OVER_MS: i64 = 20;
const MAX_STALL_MS: i64 = 2_500;
/// The delay in ms after which a packet is useless to a recorder. Several such packets in a row show that the far end
/// has changed its timestamp origin.
const LATE_MS: i64 = RECORDER_MS as i64 - 20;
/// The number of successive late packets with similar delays that show a new timestamp origin. `LATE_LIMIT` is the
/// number for late packets with any delays.
const SIMILAR_LATE_LIMIT: u8 = 3;
const LATE_LIMIT: u8 = 10;
/// The largest difference in ms between two similar delays.
const SIMILAR_MS: i64 = 8;
/// The shortest time in ms for which live readers wait for late packets. `MAX_TOLERANCE_MS` is the longest time.
const MIN_TOLERANCE_MS: i64 = 10;
const MAX_TOLERANCE_MS: i64 = 180;
/// The length of a frame in ms. A live reader is behind the wire by at least this time, so that the last packet of the
/// frame has arrived.
const FRAME_MS: i64 = 20;
/// The longest payload that is accepted, in ms.
const MAX_PACKET_MS: usize = 240;

/// Creates a reader for recordings. Each such reader has the same delay, so that the two directions of a leg stay
/// aligned in a recording.
pub(crate) fn recorder() -> Reader {
    Reader::fixed(RECORDER_MS)
}

/// The time information of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The RTP timestamp of the packet's first sample.
    pub timestamp: u32,
    /// The RTP marker, which says that a talkspurt begins.
    pub marker: bool,
    /// The value of the media clock when the packet arrived. The clock has any origin, and it counts in units of
    /// 1/8,000 s for every codec.
    pub arrival: u32,
}

/// The composition of a frame: the number of samples of each kind. All other samples of the frame are silence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameComposition {
    /// The number of samples that were received.
    pub present: u16,
    /// The number of samples that conceal lost packets.
    pub concealed: u16,
    /// The number of samples of comfort noise.
    pub comfort: u16,
}

impl FrameComposition {
    /// Whether the whole frame is silence. If so, no sample of the frame was received, concealed or generated.
    pub fn is_silent(self) -> bool {
        self == FrameComposition::default()
    }
}

/// The counters of a timeline since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quality {
    /// The number of packets that arrived after the live reader had passed their position.
    pub late: u32,
    /// The duration in ms of the audio that was concealed because packets did not arrive in time.
    pub concealed_ms: u64,
    /// The delay of the live reader behind the wire at its last read, in ms. It is 0 without a live reader.
    pub delay_ms: u16,
    /// The number of times that a reader jumped to another position although there was audio at the old position.
    pub jumps: u32,
    /// The number of frames that a reader stretched or compressed a little.
    pub stretches: u32,
}

/// The jitter buffer of one direction of a leg. It allocates memory only on creation: 11 kB at a sample rate of 8 kHz,
/// and 160 kB at 48 kHz.
#[derive(Debug)]
pub struct Timeline {
    ring: Ring,
    transit: Transit,
    concealer: Concealer,
    pauses: Pauses,
    /// The number of samples per ms.
    ms: usize,
    /// The RTP clock rate in Hz.
    clock_rate: i64,
    /// The last value of the media clock. The first element is the value from the caller. The second element is the
    /// same time in samples of this timeline, extended to 64 bits.
    clock: Option<(u32, i64)>,
    /// The highest value of the media clock. The next field, `stall`, contains the clock value at the end of the last
    /// stall, and the length of this stall.
    latest: i64,
    stall: (i64, i64),
    origin: Option<Origin>,
    /// The number of successive late packets. The next fields are the number of these packets with a similar delay, and
    /// the transit time of the last late packet.
    late_in_row: u8,
    late_alike: u8,
    last_late_transit: i64,
    /// The next position that the live reader reads.
    live: Position,
    /// The next position that the reader with the smallest delay reads.
    foremost: Position,
    quality: Quality,
}

/// The mapping from RTP timestamps to positions in the stream.
#[derive(Debug, Clone, Copy)]
struct Origin {
    timestamp: u32,
    /// The number of timestamp units from `place` to `timestamp`.
    units: i64,
    place: Position,
}

impl Origin {
    /// Returns the same mapping with another reference timestamp. If the reference is moved for each packet, the 32-bit
    /// difference of timestamps never wraps.
    fn follow(self, timestamp: u32) -> Origin {
        let units = timestamp.wrapping_sub(self.timestamp).cast_signed();
        Origin { timestamp, units: self.units + i64::from(units), place: self.place }
    }

    #[inline]
    fn place(self, ms: usize, clock_rate: i64) -> Position {
        let rate = ms as i64 * 1_000;
        // The two rates are nearly always equal. In this case the expensive division is not necessary.
        self.place + if rate == clock_rate { self.units } else { self.units * rate / clock_rate }
    }
}

impl Timeline {
    /// Creates a timeline for G.711. The timeline stores octets in the coding `law`.
    pub fn octets(law: Law) -> Timeline {
        Timeline::new(Ring::octets(law), SampleRate::Hz8000, 8_000)
    }

    /// Creates a timeline for decoded samples at `rate`. `clock_rate` is the RTP clock rate in Hz.
    pub fn samples(rate: SampleRate, clock_rate: u32) -> Timeline {
        Timeline::new(Ring::samples(rate), rate, clock_rate)
    }

    fn new(ring: Ring, rate: SampleRate, clock_rate: u32) -> Timeline {
        Timeline {
            ring,
            transit: Transit::new(rate.hertz()),
            concealer: Concealer::new(rate.hertz()),
            pauses: Pauses::new(),
            ms: rate.hertz() as usize / 1_000,
            clock_rate: i64::from(clock_rate).max(1),
            clock: None,
            latest: 0,
            stall: (i64::MIN, 0),
            origin: None,
            late_in_row: 0,
            late_alike: 0,
            last_late_transit: 0,
            live: Position::MIN,
            foremost: 0,
            quality: Quality::default(),
        }
    }

    /// Adds the payload of a G.711 packet.
    pub fn write_octets(&mut self, stamp: Stamp, law: Law, octets: &[u8]) {
        let octets = octets.get(..octets.len().min(MAX_PACKET_MS * self.ms)).unwrap_or_default();
        if let Some(at) = self.place(stamp, octets.len()) {
            self.ring.write_octets(at, law, octets);
        }
    }

    /// Adds the samples of a decoded packet.
    pub fn write_samples(&mut self, stamp: Stamp, samples: &[i16]) {
        let samples = samples.get(..samples.len().min(MAX_PACKET_MS * self.ms)).unwrap_or_default();
        if let Some(at) = self.place(stamp, samples.len()) {
            self.ring.write_samples(at, samples);
        }
    }

    /// Starts a pause of the talker. Until audio arrives, readers get comfort noise with this level, 0 to 127 in -dBov
    /// (RFC 3389 §3.1).
    pub fn write_comfort_noise(&mut self, stamp: Stamp, level: u8) {
        let at = self.find(stamp);
        self.pauses.begin(at, Some(level));
    }

    /// Whether the talker pauses.
    pub fn is_paused(&self) -> bool {
        self.pauses.is_open()
    }

    /// Starts a pause after the last audio. Until audio arrives, missing audio does not count as loss. Readers get comfort
    /// noise with this level, 0 to 127 in -dBov, or silence.
    pub fn start_pause(&mut self, level: Option<u8>) {
        if !self.pauses.is_open() {
            self.pauses.begin(self.ring.high(), level);
        }
    }

    /// Prepares for a stream with another SSRC. Its timestamps are unrelated to the earlier timestamps.
    pub fn restart(&mut self) {
        self.origin = None;
    }

    /// Reads 20 ms into `out`, which has the length of a frame. `now` is the media clock, as in [`Stamp::arrival`].
    pub fn read_samples(&mut self, reader: &mut Reader, now: u32, out: &mut [i16]) -> FrameComposition {
        let Some((step, at)) = self.plan_read(reader, now, out.len()) else {
            out.fill(0);
            return FrameComposition::default();
        };
        let composition = self.read(reader, step, at, out);
        self.note_read(reader);
        composition
    }

    /// Reads 20 ms as G.711. If the whole frame was received, its octets are copied and not decoded.
    pub fn read_octets(&mut self, reader: &mut Reader, now: u32, law: Law, out: &mut [u8]) -> FrameComposition {
        let Some((step, at)) = self.plan_read(reader, now, out.len()) else {
            out.fill(law.silence());
            return FrameComposition::default();
        };
        if let Some(own) = self.read_unchanged(reader, step, at, out) {
            own.transcode(law, out);
            return FrameComposition { present: out.len() as u16, ..FrameComposition::default() };
        }
        let mut samples = [0; LONGEST_FRAME];
        let Some(samples) = samples.get_mut(..out.len()) else { return FrameComposition::default() };
        let composition = self.read(reader, step, at, samples);
        self.note_read(reader);
        law.encode(samples, out);
        composition
    }

    /// Reads 20 ms at a sample rate of 8,000 Hz into `frame`. If the whole frame was received as octets, `frame` gets
    /// octets. Otherwise `frame` gets samples.
    pub(crate) fn read_track_frame(&mut self, reader: &mut Reader, now: u32, frame: &mut TrackFrame) {
        let (mut octets, mut samples) = ([0; FRAME], [0; FRAME]);
        let Some((step, at)) = self.plan_read(reader, now, FRAME) else {
            *frame = TrackFrame::Samples(samples);
            return;
        };
        if let Some(law) = self.read_unchanged(reader, step, at, &mut octets) {
            *frame = TrackFrame::Octets(law, octets);
            return;
        }
        self.read(reader, step, at, &mut samples);
        self.note_read(reader);
        *frame = TrackFrame::Samples(samples);
    }

    /// The counters since the start of the timeline.
    pub fn quality(&self) -> Quality {
        Quality { concealed_ms: self.concealer.made / self.ms as u64, ..self.quality }
    }

    // ---- for codecs with state ----

    /// Writes the audio that a codec produced for a lost packet. The call does not count as the arrival of a packet. If
    /// `concealed` is true, the codec concealed the lost packet. If it is false, the codec recovered the audio.
    fn write_recovered(&mut self, timestamp: u32, samples: &[i16], concealed: bool) {
        if let Some(at) = self.locate(timestamp)
            && at >= self.ring.low()
            && at <= self.ring.high() + AHEAD_MS * self.ms as i64
        {
            self.ring.write_samples(at, samples);
            self.concealer.made += if concealed { samples.len() as u64 } else { 0 };
        }
    }

    /// Counts a packet that arrived too late.
    fn note_late(&mut self, stamp: Stamp) {
        let at = self.find(stamp);
        self.late(at);
    }

    /// Whether the next frame of the reader with the smallest delay ends after this timestamp.
    fn is_due(&self, timestamp: u32) -> bool {
        self.locate(timestamp).is_none_or(|at| at < self.foremost + FRAME_MS * self.ms as i64)
    }

    /// Converts a number of samples to RTP timestamp units.
    fn units(&self, samples: usize) -> u32 {
        (samples as i64 * self.clock_rate / (self.ms as i64 * 1_000)) as u32
    }

    /// Returns the position that the current origin gives to a timestamp.
    fn locate(&self, timestamp: u32) -> Option<Position> {
        self.origin.map(|origin| origin.follow(timestamp).place(self.ms, self.clock_rate))
    }

    // ---- writing ----

    /// Returns the position of a packet's audio, or `None` if the audio is too old for the ring.
    fn place(&mut self, stamp: Stamp, count: usize) -> Option<Position> {
        let at = self.find(stamp);
        if at < self.live {
            self.late(at);
        }
        if at < self.ring.low() {
            return None;
        }
        let high = self.ring.high();
        if at > high && !stamp.marker && !self.pauses.is_open() {
            self.concealer.resumed(at);
        }
        if self.pauses.is_open() && count > 0 {
            self.pauses.end(at);
        }
        Some(at)
    }

    fn late(&mut self, at: Position) {
        self.quality.late = self.quality.late.saturating_add(1);
        if let (Some((_, clock)), Some(least)) = (self.clock, self.transit.least()) {
            self.transit.too_late(clock, clock - at - least);
        }
    }

    /// Returns the position of a packet in the stream.
    fn find(&mut self, stamp: Stamp) -> Position {
        let clock = self.update_clock(stamp.arrival);
        let waited = self.time_in_socket(clock);
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
                    let alike = (transit - self.last_late_transit).abs() <= SIMILAR_MS * ms;
                    self.last_late_transit = transit;
                    self.late_alike = if alike { self.late_alike + 1 } else { 1 };
                    self.late_in_row += 1;
                    // A single late packet was delayed. Several late packets may have had the same delay on their way.
                    // But if they are late by a similar time, or start a talkspurt, the far end's timestamps stopped
                    // for a while.
                    if stamp.marker || self.late_alike >= SIMILAR_LATE_LIMIT || self.late_in_row >= LATE_LIMIT {
                        self.begin(stamp.timestamp, clock)
                    } else {
                        *origin = moved;
                        at
                    }
                } else {
                    (self.late_in_row, self.late_alike) = (0, 0);
                    *origin = moved;
                    at
                }
            }
        };
        // If a packet waited in the socket, its delay is not a delay of the network, and is not counted. An early
        // packet is counted in any case.
        if waited == 0 || self.transit.least().is_none_or(|least| clock - at < least) {
            self.transit.observe(clock, at);
        }
        at
    }

    /// Returns the longest time for which a packet that is read now may have waited in the socket.
    fn time_in_socket(&mut self, clock: i64) -> i64 {
        let (ms, gap) = (self.ms as i64, clock - self.latest);
        self.latest = self.latest.max(clock);
        if (STALL_MS * ms..MAX_STALL_MS * ms).contains(&gap) {
            self.stall = (clock, gap);
        }
        let (since, gap) = self.stall;
        if clock.saturating_sub(since) <= STALL_OVER_MS * ms { gap } else { 0 }
    }

    /// Sets a new origin, because of a packet with this timestamp. This packet counts as a packet without delay.
    fn begin(&mut self, timestamp: u32, clock: i64) -> Position {
        let place = clock - self.transit.least().unwrap_or(0);
        self.origin = Some(Origin { timestamp, units: 0, place });
        (self.late_in_row, self.late_alike) = (0, 0);
        place
    }

    /// Updates the media clock. Returns the clock value in samples, extended to 64 bits.
    fn update_clock(&mut self, now: u32) -> i64 {
        let scale = self.ms as i64 / 8;
        let (before, clock) = *self.clock.get_or_insert((now, 0));
        let passed = i64::from(now.wrapping_sub(before).cast_signed());
        // The session has moved to another worker, which has another clock. The timeline continues from the old clock
        // value.
        let passed = if passed < -CLOCK_BACK { 0 } else { passed };
        let clock = clock + passed * scale;
        self.clock = Some((now, clock));
        clock
    }

    // ---- reading ----

    /// Decides how the next frame is read. Returns this decision and the current position of the reader. Returns `None`
    /// before the first packet.
    fn plan_read(&mut self, reader: &mut Reader, now: u32, count: usize) -> Option<(Step, Position)> {
        let clock = self.update_clock(now);
        self.latest = self.latest.max(clock);
        let wire = clock - self.transit.least()?;
        let ms = self.ms as i64;
        let behind = match reader.fixed_ms {
            Some(fixed) => i64::from(fixed) * ms,
            None => FRAME_MS * ms + self.transit.tolerated().clamp(MIN_TOLERANCE_MS * ms, MAX_TOLERANCE_MS * ms),
        };
        let step = reader.steer(&self.ring, wire - behind, count, self.ms);
        let at = reader.at?;
        if reader.fixed_ms.is_none() {
            self.quality.delay_ms = ((wire - at) / ms).clamp(0, 1_000) as u16;
        }
        Some((step, at))
    }

    /// Reads received octets without a change, and returns the law of these octets. Returns `None` if part of the frame
    /// is missing, or if the frame needs processing.
    fn read_unchanged(&mut self, reader: &mut Reader, step: Step, at: Position, out: &mut [u8]) -> Option<Law> {
        if step != Step::Exact || reader.fade.is_some() || reader.starved || !self.ring.is_received(at, out.len()) {
            return None;
        }
        let law = self.ring.read_octets(at, out)?;
        reader.at = Some(at + out.len() as i64);
        self.note_read(reader);
        Some(law)
    }

    fn note_read(&mut self, reader: &Reader) {
        if let Some(at) = reader.at {
            self.foremost = self.foremost.max(at);
            if reader.fixed_ms.is_none() {
                self.live = at;
            }
        }
    }

    fn read(&mut self, reader: &mut Reader, step: Step, at: Position, out: &mut [i16]) -> FrameComposition {
        let count = out.len() as i64;
        match step {
            Step::Exact => {}
            Step::Stretch(more) => {
                if reader.fade.is_none() && !reader.starved && stretch(&self.ring, at, more, out) {
                    reader.at = Some(at + count + more);
                    self.quality.stretches = self.quality.stretches.saturating_add(1);
                    return FrameComposition { present: count as u16, ..FrameComposition::default() };
                }
            }
            Step::Jump(by) => {
                let composition = self.copy(reader, at + by, out);
                blend(&self.ring, at, self.ms, out);
                reader.at = Some(at + by + count);
                self.quality.jumps = self.quality.jumps.saturating_add(1);
                return composition;
            }
        }
        reader.at = Some(at + count);
        self.copy(reader, at, out)
    }

    /// Reads received audio and conceals missing audio.
    fn copy(&mut self, reader: &mut Reader, at: Position, out: &mut [i16]) -> FrameComposition {
        if reader.fade.is_none() && !reader.starved && self.ring.is_received(at, out.len()) {
            self.ring.read_samples(at, out);
            return FrameComposition { present: out.len() as u16, ..FrameComposition::default() };
        }
        let mut composition = FrameComposition::default();
        let end = at + out.len() as i64;
        let mut from = at;
        while from < end {
            let (kind, until) = self.ring.kind(from, end);
            let until = match kind {
                Kind::Absent => self.fill_missing(from, until),
                _ => until,
            };
            let kind = if kind == Kind::Absent { self.ring.kind(from, until).0 } else { kind };
            let Some(part) = out.get_mut((from - at) as usize..(until - at) as usize) else { break };
            match kind {
                Kind::Received => {
                    self.ring.read_samples(from, part);
                    if reader.starved {
                        reader.fade = self.concealer.fade(from);
                    }
                    reader.fade = reader.fade.and_then(|fade| fade.apply(&self.ring, part));
                    composition.present += part.len() as u16;
                }
                Kind::Synthesised => {
                    self.ring.read_samples(from, part);
                    if self.concealer.fade(until).is_some() {
                        composition.concealed += part.len() as u16;
                    } else {
                        composition.comfort += part.len() as u16;
                    }
                }
                Kind::Absent => part.fill(0),
            }
            reader.starved = kind != Kind::Received;
            from = until;
        }
        composition
    }

    /// Fills missing audio from `from` on, at most to `to`. Returns the end of the filled part. If nothing was filled,
    /// returns the end of the part that stays without audio.
    fn fill_missing(&mut self, from: Position, to: Position) -> Position {
        let (comfort, until) = self.pauses.fill(&mut self.ring, from, to);
        if comfort.is_some() {
            return until;
        }
        match self.ring.kind(from - 1, from).0 {
            Kind::Absent => until,
            before => {
                let end = self.concealer.fill(&mut self.ring, from, until, before == Kind::Received);
                if end > from { end } else { until }
            }
        }
    }
}
