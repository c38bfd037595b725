//! The audio of one direction of a leg. A track takes packets or frames, and provides audio on the media clock.

use super::arrivals::Arrivals;
use crate::codec::g711::Law;
use crate::codec::{Codec, Decoder, LONGEST_FRAME, SampleRate};
use crate::resample::Resampler;
use crate::rtp::FRAME;
use crate::tap::Tapped;
use crate::timeline::{self, Assembly, FrameComposition, Quality, RECORDER_LAG, Reader, Stamp, Timeline};
use crate::track_frame::TrackFrame;

/// The audio of one direction. A track is created for the first reader.
pub(super) struct AudioTrack {
    /// The decoder of packets that are not G.711.
    assembly: Option<Box<Assembly>>,
    /// The codec of the newest packets.
    codec: Codec,
    rate: SampleRate,
    /// The packets that have not been written to the timeline. They are written before the next use of the timeline.
    arrivals: Arrivals,
    timeline: Timeline,
    live: Reader,
    recorder: Reader,
    /// The resampler to 8,000 Hz for taps. It exists only if the track has another rate. The field `recorder_narrower`
    /// is the resampler to 8,000 Hz for recorders.
    tap_narrower: Option<Box<Resampler>>,
    /// The resampler to 16,000 Hz for taps that need this rate. The resampler is created for the first such tap.
    tap_widener: Option<Box<Resampler>>,
    recorder_narrower: Option<Box<Resampler>>,
    /// The track of the previous codec, and the number of frames that recorders must still read from this track.
    before: Option<(Box<AudioTrack>, u8)>,
    /// The number of late packets that the previous tracks counted.
    late_before: u32,
}

impl AudioTrack {
    /// Creates an empty track. `rate` is used only for Opus.
    pub(super) fn new(codec: Codec, rate: SampleRate) -> AudioTrack {
        let rate = if codec == Codec::Opus { rate } else { codec.sample_rate() };
        let timeline = match codec.law() {
            Some(law) => Timeline::octets(law),
            None => Timeline::samples(rate, codec.clock_rate()),
        };
        let assembly = codec.law().is_none().then(|| Box::new(Assembly::new(codec, Decoder::new(codec, rate))));
        let narrower = (rate != SampleRate::Hz8000).then(|| Box::new(Resampler::new(rate, SampleRate::Hz8000)));
        AudioTrack {
            assembly,
            codec,
            rate,
            arrivals: Arrivals::default(),
            timeline,
            live: Reader::adaptive(),
            recorder: timeline::recorder(),
            tap_narrower: narrower.clone(),
            tap_widener: None,
            recorder_narrower: narrower,
            before: None,
            late_before: 0,
        }
    }

    /// Changes the codec. `unread` is the number of frames that recorders have not read yet.
    pub(super) fn follow(&mut self, codec: Codec, rate: SampleRate, unread: u8) {
        self.settle();
        let mut before = std::mem::replace(self, AudioTrack::new(codec, rate));
        before.before = None;
        self.late_before = before.quality().late;
        self.before = Some((Box::new(before), RECORDER_LAG + unread));
    }

    /// The sample rate of the PCM.
    pub(super) fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Whether the track accepts packets of `codec`.
    pub(super) fn takes(&self, codec: Codec) -> bool {
        codec == self.codec || (codec.law().is_some() && self.codec.law().is_some())
    }

    /// Adds the payload of a packet. Packets may come in any order.
    pub(super) fn handle_packet(&mut self, stamp: Stamp, codec: Codec, sequence: u16, payload: &[u8]) {
        match (codec.law(), &mut self.assembly) {
            (Some(law), None) => self.arrivals.push(stamp, law, payload, &mut self.timeline),
            (None, Some(assembly)) => assembly.handle_packet(sequence, stamp, payload, &mut self.timeline),
            _ => {}
        }
    }

    /// Decodes the packets that wait for a missing packet, if the next frame needs this audio. Call this before the
    /// reads of a tick.
    pub(super) fn handle_tick(&mut self) {
        self.settle();
        if let Some(assembly) = &mut self.assembly {
            assembly.handle_tick(&mut self.timeline);
        }
    }

    /// Adds a G.711 frame that did not come as a packet.
    pub(super) fn handle_octets(&mut self, stamp: Stamp, law: Law, octets: &[u8]) {
        if self.assembly.is_none() {
            self.arrivals.push(stamp, law, octets, &mut self.timeline);
        }
    }

    /// Adds a PCM frame at the track's rate that did not come as a packet.
    pub(super) fn handle_samples(&mut self, stamp: Stamp, samples: &[i16]) {
        if self.assembly.is_some() {
            self.timeline.write_samples(stamp, samples);
        }
    }

    /// Starts a pause with comfort noise. `level` is in -dBov (RFC 3389).
    pub(super) fn handle_comfort_noise(&mut self, stamp: Stamp, level: u8) {
        self.settle();
        self.timeline.write_comfort_noise(stamp, level);
    }

    /// Starts a pause without packets.
    pub(super) fn start_pause(&mut self) {
        self.settle();
        self.timeline.start_pause(None);
    }

    /// Prepares for a stream with another SSRC.
    pub(super) fn restart(&mut self) {
        self.settle();
        match &mut self.assembly {
            Some(assembly) => assembly.restart(&mut self.timeline),
            None => self.timeline.restart(),
        }
    }

    /// Writes the buffered packets to the timeline.
    #[inline]
    pub(super) fn settle(&mut self) {
        self.arrivals.settle(&mut self.timeline);
    }

    /// Starts live reading at the current time.
    pub(super) fn begin_live(&mut self) {
        self.live = Reader::adaptive();
    }

    /// Starts recording at the current time.
    pub(super) fn begin_recording(&mut self) {
        self.recorder = timeline::recorder();
        self.before = None;
    }

    /// Reads the frame that is due for live readers. Samples after the frame do not change.
    pub(super) fn read_live(&mut self, now: u32, samples: &mut [i16; LONGEST_FRAME]) -> FrameComposition {
        let Some(samples) = samples.get_mut(..self.rate.frame()) else { return FrameComposition::default() };
        self.settle();
        self.timeline.read_samples(&mut self.live, now, samples)
    }

    /// Reads the frame that is due for taps. With `wide`, the result is samples at 8,000 Hz and at 16,000 Hz. Without
    /// `wide`, a G.711 track gives octets of `law`, and does not decode octets that are already in this law. Without
    /// `wide`, another track gives samples at 8,000 Hz.
    pub(super) fn read_tap(&mut self, now: u32, law: Law, wide: bool, tapped: &mut Tapped) {
        if self.assembly.is_none() && !wide {
            let mut octets = [0; FRAME];
            self.settle();
            self.timeline.read_octets(&mut self.live, now, law, &mut octets);
            tapped.narrow = TrackFrame::Octets(law, octets);
            return;
        }
        let mut samples = [0; LONGEST_FRAME];
        self.read_live(now, &mut samples);
        self.shape(samples.get(..self.rate.frame()).unwrap_or_default(), wide, tapped);
    }

    /// Converts a frame from live reading to the sample rates of taps.
    pub(super) fn shape(&mut self, heard: &[i16], wide: bool, tapped: &mut Tapped) {
        let mut narrow = [0; FRAME];
        match &mut self.tap_narrower {
            Some(narrower) => narrower.process(heard, &mut narrow),
            None => narrow.iter_mut().zip(heard).for_each(|(to, from)| *to = *from),
        }
        tapped.narrow = TrackFrame::Samples(narrow);
        if wide {
            let widener = || Box::new(Resampler::new(self.rate, SampleRate::Hz16000));
            self.tap_widener.get_or_insert_with(widener).process(heard, &mut tapped.wide);
        }
    }

    /// Reads the frame that is due for recorders, at 8,000 Hz.
    pub(super) fn read_recorder(&mut self, now: u32, frame: &mut TrackFrame) {
        self.handle_tick();
        if let Some((mut before, left)) = self.before.take() {
            before.read_recorder(now, frame);
            self.before = (left > 1).then_some((before, left - 1));
            return;
        }
        let narrower = self.recorder_narrower.as_deref_mut();
        read_recorder(&mut self.timeline, &mut self.recorder, narrower, self.rate, now, frame);
    }

    /// Returns a function that reads the frames that a stopped recorder still needs. Each call reads one frame. The
    /// other recorders do not lose these frames, because their reader does not advance.
    pub(super) fn remainder(&mut self) -> impl FnMut(u32, &mut TrackFrame) {
        self.settle();
        let left = self.before.as_ref().map_or(0, |(_, left)| *left);
        let mut before = self.before.as_mut().map(|(before, _)| {
            let AudioTrack { timeline, recorder, recorder_narrower, rate, .. } = &mut **before;
            Rest { timeline, reader: recorder.clone(), narrower: recorder_narrower.clone(), rate: *rate }
        });
        let (reader, narrower) = (self.recorder.clone(), self.recorder_narrower.clone());
        let mut rest = Rest { timeline: &mut self.timeline, reader, narrower, rate: self.rate };
        let mut frames = 0;
        move |now, frame| {
            let of_before = before.as_mut().filter(|_| frames < left);
            frames = frames.saturating_add(1);
            of_before.unwrap_or(&mut rest).read(now, frame);
        }
    }

    /// The counters of the timeline. The number of late packets includes the late packets of previous tracks.
    pub(super) fn quality(&self) -> Quality {
        let quality = self.timeline.quality();
        Quality { late: quality.late.saturating_add(self.late_before), ..quality }
    }
}

/// The reader of a recorder that has stopped.
struct Rest<'a> {
    timeline: &'a mut Timeline,
    reader: Reader,
    narrower: Option<Box<Resampler>>,
    rate: SampleRate,
}

impl Rest<'_> {
    fn read(&mut self, now: u32, frame: &mut TrackFrame) {
        read_recorder(self.timeline, &mut self.reader, self.narrower.as_deref_mut(), self.rate, now, frame);
    }
}

fn read_recorder(
    timeline: &mut Timeline,
    reader: &mut Reader,
    narrower: Option<&mut Resampler>,
    rate: SampleRate,
    now: u32,
    frame: &mut TrackFrame,
) {
    if let Some(narrower) = narrower {
        let (mut wide, mut samples) = ([0; LONGEST_FRAME], [0; FRAME]);
        let Some(wide) = wide.get_mut(..rate.frame()) else { return };
        timeline.read_samples(reader, now, wide);
        narrower.process(wide, &mut samples);
        *frame = TrackFrame::Samples(samples);
        return;
    }
    timeline.read_track_frame(reader, now, frame);
}
