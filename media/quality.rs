//! How good a leg sounds, from what the network did to it: the E-model (ITU-T G.107), and a watch that says when it gets
//! bad. Pure.
//!
//! The scale is the narrowband one, on which a flawless G.711 call has 4.41 and nothing more than 4.5, whatever the codec:
//! figures of all legs can be compared, and those of a wideband codec do it no more than justice.

use crate::codec::Codec;

/// What a listener's packets went through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) codec: Codec,
    /// Of the packets that were to be heard, those that were not: 0 to 1.
    pub(crate) loss: f64,
    /// How much longer losses last on the average than if they fell at random: 1 and more (G.107 §7.3, BurstR).
    pub(crate) burst_ratio: f64,
    /// From mouth to ear.
    pub(crate) delay_ms: f64,
}

impl Path {
    /// The transmission rating R, 0 to 93.2.
    pub(crate) fn rating(&self) -> f64 {
        (SIGNAL_TO_NOISE - SIMULTANEOUS - delay_impairment(self.delay_ms.max(0.0)) - self.equipment_impairment())
            .clamp(0.0, 100.0)
    }

    /// Mean opinion score of a conversation, 1 to 4.5 (G.107 annex B).
    pub(crate) fn mos(&self) -> f32 {
        mos(self.rating()) as f32
    }

    /// Ie-eff of G.107 §7.3.
    fn equipment_impairment(&self) -> f64 {
        let (impairment, robustness) = equipment(self.codec);
        let loss = 100.0 * self.loss.clamp(0.0, 1.0);
        let spread = self.burst_ratio.max(1.0);
        impairment + (95.0 - impairment) * loss / (loss / spread + robustness)
    }
}

/// Delay from mouth to ear over a network of this round trip: half of it, a packet's 20 ms, and a jitter buffer that holds
/// a packet and twice the jitter.
pub(crate) fn delay_ms(round_trip_ms: Option<f32>, jitter_ms: f32) -> f64 {
    f64::from(round_trip_ms.unwrap_or(0.0)) / 2.0 + 40.0 + 2.0 * f64::from(jitter_ms)
}

/// Ro, which G.107 §7.2 makes of the default values of its table 3.
const SIGNAL_TO_NOISE: f64 = 94.7688;
/// Is, which §7.3 makes of them. R is then the 93.2 of §7.7.
const SIMULTANEOUS: f64 = 1.4136;
/// TELR by default: a handset, or echo cancelled as well as that.
const TALKER_ECHO_LOSS: f64 = 65.0;
/// WEPL by default.
const ECHO_PATH_LOSS: f64 = 110.0;

/// Ie and Bpl of a codec.
const fn equipment(codec: Codec) -> (f64, f64) {
    match codec {
        // G.113 appendix I: G.711 with packet-loss concealment after its appendix I. Without it Bpl would be 4.3.
        Codec::Pcmu | Codec::Pcma => (0.0, 25.1),
        // Estimates: G.113 has these only on the scales of wideband listeners, or not at all. The samples of L16 are
        // concealed as those of G.711 are; Opus does at least as well; G.722's predictors take a while to recover.
        Codec::L16(_) | Codec::Opus => (0.0, 25.1),
        Codec::G722 => (0.0, 16.0),
    }
}

/// Id of G.107 §7.2: talker echo, listener echo, and the delay itself, with one delay for all three.
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

/// G.107 annex B.
fn mos(rating: f64) -> f64 {
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7.0e-6).clamp(1.0, 4.5)
}

/// Why a leg sounds bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Impairment {
    /// Per cent of the peer's packets that never came, in one interval of RTCP reports.
    Loss,
    /// Per cent of ours that the peer missed, by its last report.
    LossByPeer,
    /// Interarrival jitter of what came, ms.
    Jitter,
    /// Of what the peer got, ms, by its last report.
    JitterByPeer,
    /// Round trip, ms.
    RoundTrip,
}

impl Impairment {
    /// More than this is bad: per cent or ms. G.114 calls 400 ms one way unacceptable.
    const fn limit(self) -> f32 {
        match self {
            Impairment::Loss | Impairment::LossByPeer => 5.0,
            Impairment::Jitter | Impairment::JitterByPeer => 60.0,
            Impairment::RoundTrip => 800.0,
        }
    }
}

/// Frames until the same cause may be told again: 30 s.
const QUIET: u32 = 1_500;

/// Says when something has become bad: once, and again only when it had been well in between and 30 s have passed.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    frames: u32,
    /// By cause: whether it has been told and not been well since, and when.
    causes: [(bool, Option<u32>); 5],
}

impl Watch {
    /// One 20 ms frame.
    pub(crate) fn tick(&mut self) {
        self.frames = self.frames.saturating_add(1);
    }

    /// Takes note of a figure. True when its being bad is news.
    pub(crate) fn note(&mut self, cause: Impairment, value: f32) -> bool {
        let Some((told_bad, told)) = self.causes.get_mut(cause as usize) else { return false };
        if value <= cause.limit() {
            *told_bad = false;
            return false;
        }
        if *told_bad || told.is_some_and(|at| self.frames - at < QUIET) {
            return false;
        }
        *told_bad = true;
        *told = Some(self.frames);
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
    fn delay_and_loss_give_what_the_equations_of_g107_do_elsewhere() {
        // Equations 7-18 to 7-29, as another implementation works them out.
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
    fn opinions_are_those_of_g107_table_b1() {
        for (rating, opinion) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            close(mos(rating), opinion, 0.01);
        }
        assert_eq!((mos(0.0), mos(100.0)), (1.0, 4.5));
    }

    #[test]
    fn delay_costs_what_the_linear_fit_of_the_model_says() {
        // Cole and Rosenbluth, 2001: 0.024 d + 0.11 (d - 177.3) beyond 177.3 ms.
        for delay_ms in [20.0, 50.0, 100.0, 150.0, 177.0, 200.0, 250.0, 300.0] {
            let fitted = 0.024 * delay_ms + 0.11 * f64::max(delay_ms - 177.3, 0.0);
            close(93.2 - Path { delay_ms, ..PERFECT }.rating(), fitted, 1.0);
        }
        assert!(Path { delay_ms: 60_000.0, ..PERFECT }.rating() >= 0.0);
    }

    #[test]
    fn random_loss_costs_g711_with_concealment_what_g113_tabulates() {
        for (percent, impairment) in [(1.0, 5.0), (2.0, 7.0), (3.0, 10.0), (5.0, 15.0), (7.0, 20.0), (10.0, 25.0)] {
            close(Path { loss: percent / 100.0, ..PERFECT }.equipment_impairment(), impairment, 2.2);
        }
        assert!(Path { loss: 1.0, ..PERFECT }.mos() < 1.8);
    }

    #[test]
    fn losses_in_a_row_cost_more_than_as_many_at_random() {
        let at = |burst_ratio| Path { loss: 0.05, burst_ratio, ..PERFECT }.rating();
        assert!(at(1.0) > at(2.0) && at(2.0) > at(4.0));
        assert_eq!(at(0.3), at(1.0));
    }

    #[test]
    fn a_cause_is_told_once_and_again_only_after_it_was_well_and_30_s_have_passed() {
        let mut watch = Watch::default();
        let wait = |watch: &mut Watch, frames| (0..frames).for_each(|_| watch.tick());
        assert!(!watch.note(Impairment::Loss, 5.0));
        assert!(watch.note(Impairment::Loss, 5.1));
        assert!(watch.note(Impairment::LossByPeer, 50.0), "another cause");
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
