//! Call progress tones (ITU-T E.180 and its supplement 2), a beep, and keys as tones (ITU-T Q.23).

use crate::dtmf;
use crate::rtp::FRAME;

/// A generated sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// What a caller hears while the other side rings; for ever.
    Ringback(Country),
    /// Busy; for ever.
    Busy(Country),
    /// 1 kHz, once.
    Beep {
        /// How long, in ms.
        milliseconds: u16,
    },
    /// A key as a pair of tones (Q.23), once.
    Key {
        /// `0`-`9`, `*`, `#`, `A`-`D`; others are silence.
        key: char,
        /// How long, in ms.
        milliseconds: u16,
    },
}

/// Whose tones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Country {
    /// 440 + 480 Hz, 2 s on, 4 s off.
    #[default]
    Us,
    /// 400 + 450 Hz, 0.4 on, 0.2 off, 0.4 on, 2 off.
    Uk,
    /// 425 Hz, 1 s on, 4 s off.
    De,
    /// 440 Hz, 1.5 s on, 3.5 s off.
    Fr,
    /// 425 Hz, 1.5 s on, 3 s off.
    Es,
    /// 425 Hz, 1 s on, 4 s off.
    It,
    /// 400 + 450 Hz, 0.4 on, 0.2 off, 0.4 on, 2 off.
    Au,
    /// 400 Hz modulated by 16 Hz (as 384 + 416 Hz), 1 s on, 2 s off.
    Jp,
}

impl Country {
    /// By ISO 3166 code or the ending of a provider's tone name, such as `us` or `us-old`; unknown ones are `Us`.
    pub fn from_code(code: &str) -> Country {
        match code.get(..2).unwrap_or_default().to_ascii_lowercase().as_str() {
            "uk" | "gb" | "ie" => Country::Uk,
            "de" | "at" | "ch" | "nl" | "be" | "se" | "no" | "dk" | "pl" | "br" => Country::De,
            "fr" => Country::Fr,
            "es" | "pt" => Country::Es,
            "it" => Country::It,
            "au" | "nz" | "in" | "sg" => Country::Au,
            "jp" => Country::Jp,
            _ => Country::Us,
        }
    }

    /// Frequencies (Hz) and cadence (ms on, ms off, ...) of ringback.
    const fn ringback(self) -> Pattern {
        match self {
            Country::Us => Pattern { hertz: [440, 480], cadence: &[2_000, 4_000] },
            Country::Uk | Country::Au => Pattern { hertz: [400, 450], cadence: &[400, 200, 400, 2_000] },
            Country::De | Country::It => Pattern { hertz: [425, 0], cadence: &[1_000, 4_000] },
            Country::Fr => Pattern { hertz: [440, 0], cadence: &[1_500, 3_500] },
            Country::Es => Pattern { hertz: [425, 0], cadence: &[1_500, 3_000] },
            Country::Jp => Pattern { hertz: [384, 416], cadence: &[1_000, 2_000] },
        }
    }

    const fn busy(self) -> Pattern {
        match self {
            Country::Us => Pattern { hertz: [480, 620], cadence: &[500, 500] },
            Country::Uk | Country::Au => Pattern { hertz: [400, 0], cadence: &[375, 375] },
            Country::De => Pattern { hertz: [425, 0], cadence: &[480, 480] },
            Country::It => Pattern { hertz: [425, 0], cadence: &[500, 500] },
            Country::Fr => Pattern { hertz: [440, 0], cadence: &[500, 500] },
            Country::Es => Pattern { hertz: [425, 0], cadence: &[200, 200] },
            Country::Jp => Pattern { hertz: [400, 0], cadence: &[500, 500] },
        }
    }
}

/// One or two frequencies (0: none) and alternating on and off times in ms; an empty cadence is always on.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    hertz: [u16; 2],
    cadence: &'static [u16],
}

/// A tone being played.
#[derive(Debug)]
pub(crate) struct ToneGenerator {
    pattern: Pattern,
    /// Samples left; `None`: for ever.
    left: Option<u32>,
    position: u32,
}

impl ToneGenerator {
    pub(crate) fn new(tone: Tone) -> ToneGenerator {
        let once = |hertz, milliseconds: u16| (Pattern { hertz, cadence: &[] }, Some(u32::from(milliseconds) * 8));
        let (pattern, left) = match tone {
            Tone::Ringback(country) => (country.ringback(), None),
            Tone::Busy(country) => (country.busy(), None),
            Tone::Beep { milliseconds } => once([1_000, 0], milliseconds),
            Tone::Key { key, milliseconds } => once(dtmf::frequencies(key).unwrap_or_default(), milliseconds),
        };
        ToneGenerator { pattern, left, position: 0 }
    }

    /// Fills one frame; false when there was nothing left.
    pub(crate) fn next_frame(&mut self, frame: &mut [i16; FRAME]) -> bool {
        if self.left == Some(0) {
            return false;
        }
        let cycle: u32 = self.pattern.cadence.iter().map(|ms| u32::from(*ms) * 8).sum();
        for sample in frame {
            *sample = 0;
            match &mut self.left {
                Some(0) => continue,
                Some(left) => *left -= 1,
                None => {}
            }
            if self.is_on(cycle) {
                let sum: f32 = self.pattern.hertz.iter().map(|hertz| self.sine(*hertz)).sum();
                // Each frequency at -13 dBm0, about what exchanges send.
                *sample = (sum * 5_000.0) as i16;
            }
            self.position = self.position.wrapping_add(1);
        }
        true
    }

    fn is_on(&self, cycle: u32) -> bool {
        let Some(mut place) = self.position.checked_rem(cycle) else { return true };
        for (index, milliseconds) in self.pattern.cadence.iter().enumerate() {
            let length = u32::from(*milliseconds) * 8;
            if place < length {
                return index % 2 == 0;
            }
            place -= length;
        }
        false
    }

    fn sine(&self, hertz: u16) -> f32 {
        // Whole periods of a whole frequency fit a second, so the position may be reduced to keep precision.
        let turns = (u64::from(self.position) * u64::from(hertz) % 8_000) as f32 / 8_000.0;
        (turns * std::f32::consts::TAU).sin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
