//! The audio that the phone sends: a question, the noise of the line, and the echo of a loudspeaker. This part has no
//! clock and does no I/O.
//!
//! ```text
//!   received frame ─► delay, attenuation ─┐
//!   noise ────────────────────────────────┼─► next frame to send ─► the phone ─► sent frame (from the tap)
//!   recording ────────────────────────────┘                                      │
//!   recording ─────────────────────────────────────► correlation ◄───────────────┘ = when its voice began and ended
//! ```

use std::collections::VecDeque;

use super::questions::Recording;
use super::waveform::RATE;

/// Samples of a frame, 20 ms.
pub(super) const FRAME: usize = 160;
/// Delay between a received sound and its echo in the microphone, in frames.
const ECHO_FRAMES: usize = 3;
/// Number of samples of a recording that are searched in the sent audio, 250 ms.
const PATTERN: usize = RATE / 4;
/// Usual maximum number of samples between the order to say a recording and its first sample, 400 ms.
const DELAY: usize = RATE * 2 / 5;
/// Minimum correlation of the recording and the sent audio. Noise and an echo make it smaller.
const ALIKE: f32 = 0.5;

/// Makes the frames that the phone sends, and finds the recordings in the audio that it has sent.
pub(super) struct Mouth {
    /// Amplitude of the noise.
    noise: f32,
    /// Factor of the echo.
    echo: f32,
    random: u32,
    /// The received frames that will return as an echo.
    received: VecDeque<Vec<i16>>,
    /// The samples of the recording that are not in a frame yet.
    waiting: VecDeque<i16>,
    /// All audio that the phone has sent.
    sent: Vec<i16>,
}

/// A recording that the phone sends.
#[derive(Clone, Copy)]
pub(super) struct Saying {
    /// The number of samples that the phone had sent before.
    from: usize,
    /// The length of the recording, in samples.
    length: usize,
    /// The maximum number of samples between the order to say the recording and its first sample.
    delay: usize,
}

impl Saying {
    /// Returns the recording for a search that begins `ms` later at most.
    pub(super) fn late(self, ms: usize) -> Self {
        Self { delay: self.delay + ms * RATE / 1_000, ..self }
    }
}

/// The beginning and the end of a recording's voice, in ms of the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) began: usize,
    pub(super) ended: usize,
}

impl Mouth {
    /// Creates a mouth. `noise` is the level of the noise in dBov, and `echo` the attenuation of the echo in dB.
    pub(super) fn new(noise: Option<f32>, echo: Option<f32>) -> Self {
        let factor = |decibels: f32| 10_f32.powf(decibels / 20.0);
        Self {
            // The power of noise from -1 to 1 is a third.
            noise: noise.map_or(0.0, |level| 32_768.0 * factor(level) * 3_f32.sqrt()),
            echo: echo.map_or(0.0, |attenuation| factor(-attenuation)),
            random: 1,
            received: VecDeque::new(),
            waiting: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    /// Says a recording with the next frames.
    pub(super) fn say(&mut self, recording: &Recording) -> Saying {
        self.waiting.extend(&recording.samples);
        Saying { from: self.sent.len(), length: recording.samples.len(), delay: DELAY }
    }

    /// Whether the phone has sent the whole recording.
    pub(super) fn has_said(&self, saying: Saying) -> bool {
        self.sent.len() >= saying.from + saying.length + saying.delay
    }

    /// Takes a frame that the far end sent.
    pub(super) fn handle_received(&mut self, samples: &[i16]) {
        if self.echo > 0.0 {
            self.received.push_back(samples.to_vec());
        }
    }

    /// Takes a frame that the phone sent at this time, in ms. A missing frame counts as silence.
    pub(super) fn handle_sent(&mut self, samples: &[i16], at: usize) {
        self.sent.resize(at * RATE / 1_000, 0);
        self.sent.extend(samples);
    }

    /// Returns the next frame to send.
    pub(super) fn next_frame(&mut self) -> Vec<i16> {
        let echo = if self.received.len() > ECHO_FRAMES { self.received.pop_front() } else { None };
        (0..FRAME)
            .map(|at| {
                let echo = echo.as_ref().and_then(|echo| echo.get(at)).map_or(0.0, |sample| f32::from(*sample));
                let voice = self.waiting.pop_front().map_or(0.0, f32::from);
                (voice + self.echo * echo + self.noise()) as i16
            })
            .collect()
    }

    fn noise(&mut self) -> f32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.noise * ((self.random >> 8) as f32 / 8_388_608.0 - 1.0)
    }

    /// Returns when the voice of a recording began and ended. The times are exact to a sample, because the recording is
    /// searched in the sent audio. Both ends are searched, because the phone may have inserted silence between them.
    pub(super) fn said(&self, saying: Saying, recording: &Recording) -> Option<Said> {
        let (first, last) = recording.voice;
        let head = recording.samples.get(first..(first + PATTERN).min(last))?;
        let tail = recording.samples.get(last.saturating_sub(PATTERN).max(first)..last)?;
        let began = self.find(head, saying.from + first, saying.delay)?;
        let ended = self.find(tail, began + (last - first) - tail.len(), DELAY)? + tail.len();
        let ms = |sample: usize| sample * 1_000 / RATE;
        Some(Said { began: ms(began), ended: ms(ended) })
    }

    /// Returns the place of `pattern` in the sent audio, at most `delay` samples after `from`.
    fn find(&self, pattern: &[i16], from: usize, delay: usize) -> Option<usize> {
        let range = self.sent.get(from..(from + delay + pattern.len()).min(self.sent.len()))?;
        let power = |samples: &[i16]| samples.iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>();
        let own = power(pattern);
        let alike = range.windows(pattern.len()).map(|window| {
            let product =
                window.iter().zip(pattern).map(|(one, other)| f32::from(*one) * f32::from(*other)).sum::<f32>();
            product / (own * power(window)).sqrt().max(1.0)
        });
        let best = alike.enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other));
        best.filter(|(_, alike)| *alike >= ALIKE).map(|(place, _)| from + place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording of 1 s with a voice between two pauses of 50 ms. The voice is noise, which is like no other part of it.
    fn recording() -> Recording {
        let mut noise = Mouth::new(Some(-25.0), None);
        let voice: Vec<i16> = (0..45).flat_map(|_| noise.next_frame()).collect();
        let samples = [vec![0; 400], voice, vec![0; 400]].concat();
        Recording { name: "a".to_owned(), samples, voice: (400, 7_600) }
    }

    /// Sends frames with a delay in samples, as a phone does, until the recording is sent.
    fn send(mouth: &mut Mouth, saying: Saying, delay: usize, inserts: usize) {
        let mut under_way: VecDeque<i16> = vec![0; delay].into();
        let mut at = mouth.sent.len() / 8;
        while !mouth.has_said(saying) {
            under_way.extend(mouth.next_frame());
            if at == 600 {
                // The phone sends silence of its own.
                (0..inserts).for_each(|_| under_way.push_front(0));
            }
            let frame: Vec<i16> = under_way.drain(..FRAME).collect();
            mouth.handle_sent(&frame, at);
            at += 20;
        }
    }

    #[test]
    fn a_recording_is_found_in_the_sent_audio_to_the_sample() {
        for (noise, delay) in [(None, 0), (None, 1_234), (Some(-30.0), 801)] {
            let mut mouth = Mouth::new(noise, None);
            mouth.handle_sent(&[0; FRAME], 180);
            let saying = mouth.say(&recording());
            send(&mut mouth, saying, delay, 0);
            let began = 200 + 50 + delay / 8;
            assert_eq!(mouth.said(saying, &recording()), Some(Said { began, ended: began + 900 }), "{noise:?} {delay}");
        }
    }

    #[test]
    fn a_recording_that_a_slow_machine_sends_late_is_found_by_a_longer_search() {
        let mut mouth = Mouth::new(None, None);
        let saying = mouth.say(&recording());
        send(&mut mouth, saying.late(1_000), 8_000, 0);
        assert_eq!(mouth.said(saying, &recording()), None);
        assert_eq!(mouth.said(saying.late(1_000), &recording()), Some(Said { began: 1_050, ended: 1_950 }));
    }

    #[test]
    fn silence_that_the_phone_inserts_moves_only_the_end() {
        let mut mouth = Mouth::new(None, None);
        let saying = mouth.say(&recording());
        send(&mut mouth, saying, 400, 160);
        assert_eq!(mouth.said(saying, &recording()), Some(Said { began: 100, ended: 1_020 }));
    }

    #[test]
    fn a_recording_that_was_not_sent_is_not_found() {
        let mut mouth = Mouth::new(Some(-30.0), None);
        let saying = mouth.say(&Recording { samples: vec![0; 8_000], ..recording() });
        send(&mut mouth, saying, 0, 0);
        assert_eq!(mouth.said(saying, &recording()), None);
    }

    #[test]
    fn an_echo_returns_late_and_attenuated_and_noise_has_its_level() {
        let mut mouth = Mouth::new(None, Some(20.0));
        let power = |frame: &[i16]| frame.iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>() / FRAME as f32;
        let level = |frame: &[i16]| (power(frame) / 32_768_f32.powi(2)).log10() * 10.0;
        let loud = vec![10_000; FRAME];
        let echoes: Vec<Vec<i16>> = (0..6)
            .map(|place| {
                mouth.handle_received(if place == 0 { &loud } else { &[0; FRAME] });
                mouth.next_frame()
            })
            .collect();
        let powers: Vec<bool> = echoes.iter().map(|echo| power(echo) > 0.0).collect();
        assert_eq!(powers, [false, false, false, true, false, false]);
        assert!((level(&loud) - level(&echoes[3]) - 20.0).abs() < 0.1);
        let mut noisy = Mouth::new(Some(-40.0), None);
        assert!((level(&noisy.next_frame()) + 40.0).abs() < 1.5);
    }
}
