//! Call progress tones (ITU-T E.180 and its supplement 2), a beep, and DTMF digits as tones (ITU-T Q.23).

use crate::codec::SampleRate;
use crate::dtmf;

/// A generated sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// The ringback tone. It does not end by itself.
    Ringback(Country),
    /// The busy tone. It does not end by itself.
    Busy(Country),
    /// A tone of 1,000 Hz.
    Beep {
        /// The duration in ms.
        milliseconds: u16,
    },
    /// A DTMF digit as a pair of tones (Q.23).
    Digit {
        /// The digit: `0`-`9`, `*`, `#`, `A`-`D`. Other characters are silent.
        digit: char,
        /// The duration in ms.
        milliseconds: u16,
    },
}

/// The country whose call progress tones are used. Some values stand for several countries. The description of each
/// value states the ringback tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Country {
    /// United States: 440 + 480 Hz, 2 s on, 4 s off.
    #[default]
    Us,
    /// The former ringback tone of the United States: 420 Hz modulated by 40 Hz (generated as 380 + 460 Hz), 2 s on, 4
    /// s off.
    UsOld,
    /// United Kingdom, Ireland and New Zealand: 400 + 450 Hz; 0.4 s on, 0.2 s off, 0.4 s on, 2 s off.
    Uk,
    /// Germany, most of Europe, Brazil, Mexico and Venezuela: 425 Hz, 1 s on, 4 s off.
    De,
    /// France: 440 Hz, 1.5 s on, 3.5 s off.
    Fr,
    /// Spain: 425 Hz, 1.5 s on, 3 s off.
    Es,
    /// Italy: 425 Hz, 1 s on, 4 s off.
    It,
    /// Australia: 400 + 450 Hz; 0.4 s on, 0.2 s off, 0.4 s on, 2 s off.
    Au,
    /// Japan: 400 Hz modulated by 16 Hz (generated as 384 + 416 Hz), 1 s on, 2 s off.
    Jp,
    /// Sweden, Austria and Portugal: 425 Hz, 1 s on, 5 s off.
    Se,
    /// Belgium: 425 Hz, 1 s on, 3 s off.
    Be,
    /// Hungary: 425 Hz, 1.25 s on, 3.75 s off.
    Hu,
    /// Russia: 425 Hz, 0.8 s on, 3.2 s off.
    Ru,
    /// Israel and Chile: 400 Hz, 1 s on, 3 s off.
    Il,
    /// Thailand: 400 Hz, 1 s on, 4 s off.
    Th,
    /// China: 450 Hz, 1 s on, 4 s off.
    Cn,
    /// Philippines: 425 + 480 Hz, 1 s on, 4 s off.
    Ph,
    /// Taiwan: 440 + 480 Hz, 1 s on, 2 s off.
    Tw,
    /// Singapore and Malaysia: 425 Hz; 0.4 s on, 0.2 s off, 0.4 s on, 2 s off.
    Sg,
    /// India: 400 Hz modulated by 25 Hz (generated as 375 + 425 Hz); 0.4 s on, 0.2 s off, 0.4 s on, 2 s off.
    In,
    /// South Africa: 400 Hz modulated by 33 Hz (generated as 367 + 433 Hz); 0.4 s on, 0.2 s off, 0.4 s on, 2 s off.
    Za,
}

impl Country {
    /// Returns the country of an ISO 3166 code or of a provider's tone name, such as `us` or `us-old`. An unknown name
    /// gives `Us`.
    pub fn from_code(code: &str) -> Country {
        let code = code.to_ascii_lowercase();
        match code.get(..2).unwrap_or_default() {
            "us" if code == "us-old" => Country::UsOld,
            "uk" | "gb" | "ie" | "nz" => Country::Uk,
            "de" | "bg" | "br" | "ch" | "cz" | "dk" | "ee" | "fi" | "gr" | "lt" | "mx" | "nl" | "no" | "pl" | "ve" => {
                Country::De
            }
            "fr" => Country::Fr,
            "es" => Country::Es,
            "it" => Country::It,
            "au" => Country::Au,
            "jp" => Country::Jp,
            "se" | "at" | "pt" => Country::Se,
            "be" => Country::Be,
            "hu" => Country::Hu,
            "ru" => Country::Ru,
            "il" | "cl" => Country::Il,
            "th" => Country::Th,
            "cn" => Country::Cn,
            "ph" => Country::Ph,
            "tw" => Country::Tw,
            "sg" | "my" => Country::Sg,
            "in" => Country::In,
            "za" => Country::Za,
            _ => Country::Us,
        }
    }

    /// Returns the frequencies (Hz) and the cadence (ms on, ms off, ...) of the ringback tone.
    const fn ringback(self) -> Pattern {
        const DOUBLE: &[u16] = &[400, 200, 400, 2_000];
        match self {
            Country::Us => Pattern { hertz: [440, 480], cadence: &[2_000, 4_000] },
            Country::UsOld => Pattern { hertz: [380, 460], cadence: &[2_000, 4_000] },
            Country::Uk | Country::Au => Pattern { hertz: [400, 450], cadence: DOUBLE },
            Country::De | Country::It => Pattern { hertz: [425, 0], cadence: &[1_000, 4_000] },
            Country::Fr => Pattern { hertz: [440, 0], cadence: &[1_500, 3_500] },
            Country::Es => Pattern { hertz: [425, 0], cadence: &[1_500, 3_000] },
            Country::Jp => Pattern { hertz: [384, 416], cadence: &[1_000, 2_000] },
            Country::Se => Pattern { hertz: [425, 0], cadence: &[1_000, 5_000] },
            Country::Be => Pattern { hertz: [425, 0], cadence: &[1_000, 3_000] },
            Country::Hu => Pattern { hertz: [425, 0], cadence: &[1_250, 3_750] },
            Country::Ru => Pattern { hertz: [425, 0], cadence: &[800, 3_200] },
            Country::Il => Pattern { hertz: [400, 0], cadence: &[1_000, 3_000] },
            Country::Th => Pattern { hertz: [400, 0], cadence: &[1_000, 4_000] },
            Country::Cn => Pattern { hertz: [450, 0], cadence: &[1_000, 4_000] },
            Country::Ph => Pattern { hertz: [425, 480], cadence: &[1_000, 4_000] },
            Country::Tw => Pattern { hertz: [440, 480], cadence: &[1_000, 2_000] },
            Country::Sg => Pattern { hertz: [425, 0], cadence: DOUBLE },
            Country::In => Pattern { hertz: [375, 425], cadence: DOUBLE },
            Country::Za => Pattern { hertz: [367, 433], cadence: DOUBLE },
        }
    }

    const fn busy(self) -> Pattern {
        match self {
            Country::Us | Country::UsOld | Country::Tw | Country::Ph => {
                Pattern { hertz: [480, 620], cadence: &[500, 500] }
            }
            Country::Uk | Country::Au | Country::In | Country::Za => Pattern { hertz: [400, 0], cadence: &[375, 375] },
            Country::De | Country::Se | Country::Ru => Pattern { hertz: [425, 0], cadence: &[480, 480] },
            Country::Sg => Pattern { hertz: [425, 0], cadence: &[750, 750] },
            Country::Cn => Pattern { hertz: [450, 0], cadence: &[350, 350] },
            Country::Il | Country::Th => Pattern { hertz: [400, 0], cadence: &[500, 500] },
            Country::Be | Country::Hu | Country::It => Pattern { hertz: [425, 0], cadence: &[500, 500] },
            Country::Fr => Pattern { hertz: [440, 0], cadence: &[500, 500] },
            Country::Es => Pattern { hertz: [425, 0], cadence: &[200, 200] },
            Country::Jp => Pattern { hertz: [400, 0], cadence: &[500, 500] },
        }
    }
}

/// One or two frequencies in Hz, and alternating on and off times in ms. A frequency of 0 means that there is no such
/// frequency. With an empty cadence the tone is always on.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    hertz: [u16; 2],
    cadence: &'static [u16],
}

/// The amplitude of each frequency. It is -13 dBm0, which is about the level of the tones of telephone exchanges. An
/// amplitude of 22,300 is 0 dBm0 (ITU-T G.711).
const PEAK: f32 = 5_000.0;
/// The amplitude of a digit's column frequency. It is 2 dB above the amplitude of the row frequency, because lines
/// attenuate high frequencies more than low frequencies.
const COLUMN_PEAK: f32 = 6_300.0;
/// The rise and fall time of a tone in ms. A shorter time would cause clicks, and a longer time would shorten a digit
/// of 40 ms.
const RAMP_MS: u32 = 2;

/// A tone that is playing.
#[derive(Debug)]
pub(crate) struct ToneGenerator {
    pattern: Pattern,
    peaks: [f32; 2],
    /// The length in samples. With `None` the tone has no end.
    length: Option<u32>,
    position: u32,
    /// The sample rate in Hz.
    rate: u32,
}

impl ToneGenerator {
    /// The number of samples generated so far.
    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// Continues at a position that [`ToneGenerator::position`] returned.
    pub(crate) fn set_position(&mut self, position: u32) {
        self.position = position;
    }

    /// Creates a generator of frames at 8,000 Hz.
    pub(crate) fn new(tone: Tone) -> ToneGenerator {
        ToneGenerator::at(tone, SampleRate::Hz8000)
    }

    /// Creates a generator of frames at `rate`.
    pub(crate) fn at(tone: Tone, rate: SampleRate) -> ToneGenerator {
        let rate = rate.hertz();
        let once = |hertz, milliseconds: u16| {
            (Pattern { hertz, cadence: &[] }, Some(u32::from(milliseconds) * (rate / 1_000)))
        };
        let (pattern, length) = match tone {
            Tone::Ringback(country) => (country.ringback(), None),
            Tone::Busy(country) => (country.busy(), None),
            Tone::Beep { milliseconds } => once([1_000, 0], milliseconds),
            Tone::Digit { digit, milliseconds } => once(dtmf::frequencies(digit).unwrap_or_default(), milliseconds),
        };
        let peaks = if matches!(tone, Tone::Digit { .. }) { [PEAK, COLUMN_PEAK] } else { [PEAK; 2] };
        ToneGenerator { pattern, peaks, length, position: 0, rate }
    }

    /// Fills one frame. Returns false if the tone has ended.
    pub(crate) fn next_frame(&mut self, frame: &mut [i16]) -> bool {
        if self.length.is_some_and(|length| self.position >= length) {
            return false;
        }
        let cycle: u32 = self.pattern.cadence.iter().map(|ms| self.samples(*ms)).sum();
        for sample in frame {
            let loudness = self.loudness(cycle);
            *sample = if loudness > 0.0 {
                let tones = self.pattern.hertz.iter().zip(self.peaks);
                (loudness * tones.map(|(hertz, peak)| peak * self.sine(*hertz)).sum::<f32>()) as i16
            } else {
                0
            };
            self.position = self.position.wrapping_add(1);
        }
        true
    }

    /// Returns the envelope at the current sample, 0 to 1. The envelope is the cadence with smooth edges. A tone with a
    /// length has no cadence.
    fn loudness(&self, cycle: u32) -> f32 {
        let (since, left) = match (self.length, self.position.checked_rem(cycle)) {
            (Some(length), _) => (self.position, length.saturating_sub(self.position)),
            (None, None) => (self.position, u32::MAX),
            (None, Some(mut place)) => {
                let mut stretch = (0, 0);
                for (index, milliseconds) in self.pattern.cadence.iter().enumerate() {
                    let length = self.samples(*milliseconds);
                    if place < length {
                        stretch = if index % 2 == 0 { (place, length - place) } else { (0, 0) };
                        break;
                    }
                    place -= length;
                }
                stretch
            }
        };
        let ramp = RAMP_MS * self.rate / 1_000;
        let edge = since.min(left);
        if edge >= ramp {
            return 1.0;
        }
        // The edge is half a period of a cosine, which is smooth at both ends.
        0.5 - 0.5 * (edge as f32 / ramp as f32 * std::f32::consts::PI).cos()
    }

    fn samples(&self, milliseconds: u16) -> u32 {
        u32::from(milliseconds) * (self.rate / 1_000)
    }

    fn sine(&self, hertz: u16) -> f32 {
        // A second contains whole periods of an integer frequency. So the position can be taken modulo one second,
        // which keeps the precision.
        let turns = (u64::from(self.position) * u64::from(hertz) % u64::from(self.rate)) as f32 / self.rate as f32;
        (turns * std::f32::consts::TAU).sin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::FRAME;

    #[test]
    fn every_country_has_its_own_tones() {
        let others = [
            "at", "au", "bg", "br", "be", "ch", "cl", "cn", "cz", "de", "dk", "ee", "es", "fi", "fr", "gr", "hu", "il",
            "in", "it", "lt", "jp", "mx", "my", "nl", "no", "nz", "ph", "pl", "pt", "ru", "se", "sg", "th", "uk", "tw",
            "ve", "za", "us-old",
        ];
        for code in others {
            assert_ne!(Country::from_code(code), Country::Us, "{code}");
        }
        assert_eq!(Country::from_code("us"), Country::Us);
    }

    #[test]
    fn american_ringback_is_two_seconds_on_and_four_off() {
        let mut tone = ToneGenerator::new(Tone::Ringback(Country::Us));
        let mut frame = [0; FRAME];
        let loud: Vec<bool> = (0..600)
            .map(|_| {
                assert!(tone.next_frame(&mut frame));
                frame.iter().any(|sample| sample.unsigned_abs() > 1_000)
            })
            .collect();
        assert!(loud[..100].iter().all(|loud| *loud));
        assert!(loud[100..300].iter().all(|loud| !*loud));
        assert!(loud[300..400].iter().all(|loud| *loud));
    }

    #[test]
    fn a_beep_ends_on_its_millisecond() {
        let mut tone = ToneGenerator::new(Tone::Beep { milliseconds: 30 });
        let mut frame = [0; FRAME];
        assert!(tone.next_frame(&mut frame));
        assert!(tone.next_frame(&mut frame));
        assert!(frame[80..].iter().all(|sample| *sample == 0));
        assert!(!tone.next_frame(&mut frame));
    }

    fn sound(tone: Tone, rate: SampleRate, frames: usize) -> Vec<i16> {
        let mut generator = ToneGenerator::at(tone, rate);
        let mut samples = vec![0; frames * rate.frame()];
        samples.chunks_mut(rate.frame()).for_each(|frame| {
            generator.next_frame(frame);
        });
        samples
    }

    /// Returns the amplitude of one frequency in the samples.
    fn peak(samples: &[i16], hertz: f64, rate: SampleRate) -> f64 {
        let turn = hertz / f64::from(rate.hertz()) * std::f64::consts::TAU;
        let waves = samples.iter().enumerate().map(|(at, sample)| (f64::from(*sample), turn * at as f64));
        let (re, im) = waves.fold((0.0, 0.0), |(re, im), (x, angle)| (re + x * angle.cos(), im + x * angle.sin()));
        2.0 * re.hypot(im) / samples.len() as f64
    }

    #[test]
    fn a_digit_has_its_level_twist_and_length_without_a_click_at_every_rate() {
        for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
            let a_millisecond = rate.hertz() as usize / 1_000;
            let samples = sound(Tone::Digit { digit: '6', milliseconds: 70 }, rate, 5);
            let (digit, after) = samples.split_at(70 * a_millisecond);
            assert!(after.iter().all(|sample| *sample == 0));
            assert!(digit[68 * a_millisecond..].iter().any(|sample| *sample != 0));
            // 60 ms contain many periods of both tones, but not a whole number of periods.
            let middle = &digit[5 * a_millisecond..65 * a_millisecond];
            let (row, column) = (peak(middle, 770.0, rate), peak(middle, 1_477.0, rate));
            assert!((20.0 * (row / 22_300.0).log10() + 13.0).abs() < 0.3, "row {row}");
            assert!((20.0 * (column / row).log10() - 2.0).abs() < 0.5, "column {column}");
            // A click would appear above the telephone band. There is almost no energy there, even at the edges.
            let above = (40..rate.hertz() / 200).map(|step| peak(&samples, f64::from(step * 100), rate));
            assert!(above.fold(0.0, f64::max) < 15.0);
        }
    }

    #[test]
    fn a_tone_is_the_same_at_every_sample_rate() {
        for tone in [Tone::Ringback(Country::Uk), Tone::Busy(Country::Us), Tone::Beep { milliseconds: 155 }] {
            let narrow = sound(tone, SampleRate::Hz8000, 150);
            for (rate, step) in [(SampleRate::Hz16000, 2), (SampleRate::Hz48000, 6)] {
                let wide = sound(tone, rate, 150);
                let worst = narrow.iter().zip(wide.iter().step_by(step)).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst.unwrap() <= 2, "{tone:?}: {worst:?}");
            }
        }
    }

    #[test]
    fn a_tone_continues_across_frames() {
        let samples = sound(Tone::Busy(Country::De), SampleRate::Hz8000, 24);
        // This is the largest difference between two samples of 425 Hz at this amplitude.
        let steepest = PEAK * std::f32::consts::TAU * 425.0 / 8_000.0 + 2.0;
        assert!(samples.windows(2).all(|pair| f32::from(pair[0].abs_diff(pair[1])) <= steepest));
    }
}
