//! The audio quality of a leg, computed from network figures with the E-model (ITU-T G.107). The module also has a
//! watch that reports when a figure becomes bad. This module is pure.
//!
//! All codecs use the narrowband scale. On this scale a flawless G.711 call has 4.41, and the maximum is 4.5. So the
//! figures of all legs can be compared. A wideband codec gets no better figure than G.711.

use serde::{Deserialize, Serialize};

use crate::codec::Codec;

/// The network impairments of one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) codec: Codec,
    /// The fraction of lost packets, 0 to 1. A packet that arrived too late counts as lost.
    pub(crate) loss: f64,
    /// The burst ratio (BurstR, G.107 §7.3): the mean length of the losses, divided by the mean length that random
    /// losses would have at the same loss rate. The ratio is 1 or more.
    pub(crate) burst_ratio: f64,
    /// The mouth-to-ear delay in ms.
    pub(crate) delay_ms: f64,
}

impl Path {
    /// Returns the transmission rating R, 0 to 93.2.
    pub(crate) fn rating(&self) -> f64 {
        (SIGNAL_TO_NOISE - SIMULTANEOUS - delay_impairment(self.delay_ms.max(0.0)) - self.equipment_impairment())
            .clamp(0.0, 100.0)
    }

    /// Returns the mean opinion score of a conversation, 1 to 4.5 (G.107 annex B).
    pub(crate) fn mos(&self) -> f32 {
        mos(self.rating()) as f32
    }

    /// Returns the effective equipment impairment factor Ie-eff (G.107 §7.3).
    fn equipment_impairment(&self) -> f64 {
        let (impairment, robustness) = equipment(self.codec);
        let loss = 100.0 * self.loss.clamp(0.0, 1.0);
        let spread = self.burst_ratio.max(1.0);
        impairment + (95.0 - impairment) * loss / (loss / spread + robustness)
    }
}

/// Returns the mouth-to-ear delay in ms for this round-trip time and jitter. The delay is the sum of half the
/// round-trip time, 20 ms for a packet, and the delay of a jitter buffer. The jitter buffer holds one packet and twice
/// the jitter.
pub(crate) fn delay_ms(round_trip_ms: Option<f32>, jitter_ms: f32) -> f64 {
    f64::from(round_trip_ms.unwrap_or(0.0)) / 2.0 + 40.0 + 2.0 * f64::from(jitter_ms)
}

/// The basic signal-to-noise ratio Ro. G.107 §7.2 computes this value from the default values of table 3.
const SIGNAL_TO_NOISE: f64 = 94.7688;
/// The simultaneous impairment factor Is. G.107 §7.3 computes this value from the default values of table 3. With this
/// value R is 93.2, as in §7.7.
const SIMULTANEOUS: f64 = 1.4136;
/// The default talker echo loudness rating (TELR). The value assumes a handset or an echo canceller that is as good.
const TALKER_ECHO_LOSS: f64 = 65.0;
/// The default weighted echo path loss (WEPL).
const ECHO_PATH_LOSS: f64 = 110.0;

/// Returns two values of a codec: the equipment impairment factor Ie and the packet-loss robustness factor Bpl.
const fn equipment(codec: Codec) -> (f64, f64) {
    match codec {
        // These are the values of G.113 appendix I for G.711 with packet loss concealment (G.711 appendix I). Without
        // concealment Bpl is 4.3.
        Codec::Pcmu | Codec::Pcma => (0.0, 25.1),
        // These values are estimates, because G.113 has values for these codecs only on wideband scales, or none. The
        // engine conceals L16 like G.711. Opus conceals at least as well. The predictors of G.722 need some time to
        // recover after a loss.
        Codec::L16(_) | Codec::Opus => (0.0, 25.1),
        Codec::G722 => (0.0, 16.0),
    }
}

/// Returns the delay impairment factor Id of G.107 §7.2. Id is the sum of the impairments from talker echo, listener
/// echo and the delay itself. The same delay is used for all three.
fn delay_impairment(delay_ms: f64) -> f64 {
    let talker = if delay_ms < 1.0 {
        0.0
    } else {
        let distance = 40.0 * ((1.0 + delay_ms / 10.0) / (1.0 + delay_ms / 150.0)).log10();
        let loudness = TALKER_ECHO_LOSS - distance + 6.0 * (-0.3 * delay_ms * delay_ms).exp();
        let echo = 80.0 + 2.5 * (loudness - 14.0);
        let half = (SIGNAL_TO_NOISE - echo) / 2.0;
        (half + (half * half + 100.0).sqrt() - 1.0) * (1.0 - (-delay_ms).exp())
    };
    let echo = 10.5 * (ECHO_PATH_LOSS + 7.0) * (2.0 * delay_ms + 1.0).powf(-0.25);
    let half = (SIGNAL_TO_NOISE - echo) / 2.0;
    let listener = half + (half * half + 169.0).sqrt();
    let absolute = if delay_ms <= 100.0 {
        0.0
    } else {
        let octaves = (delay_ms / 100.0).log2();
        let sixth = |x: f64| (1.0 + x.powi(6)).powf(1.0 / 6.0);
        25.0 * (sixth(octaves) - 3.0 * sixth(octaves / 3.0) + 2.0)
    };
    talker + listener + absolute
}

/// Returns the mean opinion score of a rating R (G.107 annex B).
fn mos(rating: f64) -> f64 {
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7.0e-6).clamp(1.0, 4.5)
}

/// A cause of bad audio quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impairment {
    /// The percentage of the far end's packets that were lost between two RTCP reports.
    Loss,
    /// The percentage of our packets that did not reach the far end. The value comes from the far end's last report.
    LossByFarEnd,
    /// The interarrival jitter of the far end's packets in ms.
    Jitter,
    /// The interarrival jitter of our packets in ms. The value comes from the far end's last report.
    JitterByFarEnd,
    /// The round-trip time in ms.
    RoundTrip,
}

impl Impairment {
    /// The limit above which a value counts as bad, in percent or ms. ITU-T G.114 calls a one-way delay of 400 ms
    /// unacceptable.
    const fn limit(self) -> f32 {
        match self {
            Impairment::Loss | Impairment::LossByFarEnd => 5.0,
            Impairment::Jitter | Impairment::JitterByFarEnd => 60.0,
            Impairment::RoundTrip => 800.0,
        }
    }
}

/// The number of frames after which a cause may be reported again. 1,500 frames last 30 s.
const QUIET: u32 = 1_500;

/// Decides when a bad value is reported. A cause is reported once. A second report of this cause has two conditions:
/// the value was good in the meantime, and 30 s have passed.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Watch {
    frames: u32,
    /// The state of each cause. The first value says whether the cause was reported and its value has been bad since
    /// then. The second value is the frame of the last report.
    causes: [(bool, Option<u32>); 5],
}

impl Watch {
    /// Advances by one frame of 20 ms.
    pub(crate) fn tick(&mut self) {
        self.frames = self.frames.saturating_add(1);
    }

    /// Handles a value. Returns true if the value should be reported.
    pub(crate) fn note(&mut self, cause: Impairment, value: f32) -> bool {
        let Some((reported_bad, reported)) = self.causes.get_mut(cause as usize) else { return false };
        if value <= cause.limit() {
            *reported_bad = false;
            return false;
        }
        if *reported_bad || reported.is_some_and(|at| self.frames - at < QUIET) {
            return false;
        }
        *reported_bad = true;
        *reported = Some(self.frames);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERFECT: Path = Path { codec: Codec::Pcmu, loss: 0.0, burst_ratio: 1.0, delay_ms: 0.0 };

    fn close(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() <= within, "{a} is not {b}");
    }

    #[test]
    fn the_defaults_of_g107_give_93_2_and_4_41() {
        close(PERFECT.rating(), 93.206, 0.001);
        close(PERFECT.mos().into(), 4.4094, 0.0002);
    }

    #[test]
    fn delay_and_loss_match_an_independent_computation_of_g107() {
        // The expected values come from another implementation of the equations 7-18 to 7-29.
        for (delay_ms, percent, rating, opinion) in [
            (100.0, 0.0, 90.6637, 4.3549),
            (150.0, 0.0, 89.5391, 4.3275),
            (250.0, 0.0, 79.1771, 3.9925),
            (0.0, 1.0, 89.5664, 4.3282),
            (0.0, 5.0, 77.4255, 3.9231),
        ] {
            let path = Path { delay_ms, loss: percent / 100.0, ..PERFECT };
            close(path.rating(), rating, 0.001);
            close(path.mos().into(), opinion, 0.0003);
        }
        close(Path { loss: 0.05, burst_ratio: 2.0, ..PERFECT }.equipment_impairment(), 17.2101, 0.0001);
    }

    #[test]
    fn mos_values_match_g107_table_b1() {
        for (rating, opinion) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            close(mos(rating), opinion, 0.01);
        }
        assert_eq!((mos(0.0), mos(100.0)), (1.0, 4.5));
    }

    #[test]
    fn the_cost_of_delay_matches_the_linear_fit_of_the_e_model() {
        // The formula of Cole and Rosenbluth (2001) is 0.024 d, plus 0.11 (d - 177.3) for d above 177.3 ms.
        for delay_ms in [20.0, 50.0, 100.0, 150.0, 177.0, 200.0, 250.0, 300.0] {
            let fitted = 0.024 * delay_ms + 0.11 * f64::max(delay_ms - 177.3, 0.0);
            close(93.2 - Path { delay_ms, ..PERFECT }.rating(), fitted, 1.0);
        }
        assert!(Path { delay_ms: 60_000.0, ..PERFECT }.rating() >= 0.0);
    }

    #[test]
    fn random_loss_of_g711_with_concealment_matches_g113() {
        for (percent, impairment) in [(1.0, 5.0), (2.0, 7.0), (3.0, 10.0), (5.0, 15.0), (7.0, 20.0), (10.0, 25.0)] {
            close(Path { loss: percent / 100.0, ..PERFECT }.equipment_impairment(), impairment, 2.2);
        }
        assert!(Path { loss: 1.0, ..PERFECT }.mos() < 1.8);
    }

    #[test]
    fn burst_losses_cost_more_than_random_losses() {
        let at = |burst_ratio| Path { loss: 0.05, burst_ratio, ..PERFECT }.rating();
        assert!(at(1.0) > at(2.0) && at(2.0) > at(4.0));
        assert_eq!(at(0.3), at(1.0));
    }

    #[test]
    fn an_impairment_is_reported_again_only_after_a_good_value_and_30_s() {
        let mut watch = Watch::default();
        let wait = |watch: &mut Watch, frames| (0..frames).for_each(|_| watch.tick());
        assert!(!watch.note(Impairment::Loss, 5.0));
        assert!(watch.note(Impairment::Loss, 5.1));
        assert!(watch.note(Impairment::LossByFarEnd, 50.0), "another cause");
        for _ in 0..20 {
            wait(&mut watch, 250);
            assert!(!watch.note(Impairment::Loss, 90.0), "it has not been well");
        }
        assert!(!watch.note(Impairment::Loss, 0.0));
        assert!(watch.note(Impairment::Loss, 9.0));
        wait(&mut watch, 250);
        assert!(!watch.note(Impairment::Loss, 0.0));
        assert!(!watch.note(Impairment::Loss, 9.0), "too soon");
        wait(&mut watch, 1_250);
        assert!(watch.note(Impairment::Loss, 9.0));
        assert!(!watch.note(Impairment::Loss, 9.0));
    }
}
