//! The audio quality of legs: converts the media engine's statistics for the call record, the event log and `/metrics`.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use tandem_call::leg::{Quality, QualityPoint};
use tandem_causes::Cause;
use tandem_media::{self as media, Impairment};

use crate::families;
use crate::histogram::Histogram;
use crate::page::Page;

/// The kinds of impairment, with their label values in `/metrics`.
pub(crate) const CAUSES: [(Impairment, &str); 5] = [
    (Impairment::Loss, "loss"),
    (Impairment::LossByFarEnd, "loss_by_peer"),
    (Impairment::Jitter, "jitter"),
    (Impairment::JitterByFarEnd, "jitter_by_peer"),
    (Impairment::RoundTrip, "round_trip"),
];

/// Returns the quality of a leg for its call record.
pub fn of(stats: &media::Stats) -> Quality {
    Quality {
        packets_in: stats.packets_in,
        packets_out: stats.packets_out,
        lost: stats.lost,
        late: stats.late,
        burst_ratio: stats.burst_ratio,
        jitter_ms: stats.jitter_ms,
        round_trip_ms: stats.round_trip_ms,
        mos: stats.mos,
        lost_by_peer: stats.lost_by_far_end,
        jitter_by_peer_ms: stats.jitter_by_far_end_ms,
        mos_by_peer: stats.mos_by_far_end,
    }
}

/// Returns the quality of a leg over time, with as many digits as people read.
pub fn series(points: &[media::QualityPoint]) -> Vec<QualityPoint> {
    let point = |one: &media::QualityPoint| QualityPoint {
        at: Timestamp::from_millisecond(i64::try_from(one.at_ms).unwrap_or(i64::MAX)).unwrap_or_default(),
        packets: one.packets,
        lost: one.lost,
        jitter_ms: (one.jitter_ms * 10.0).round() / 10.0,
        mos: one.mos.map(|mos| (mos * 100.0).round() / 100.0),
    };
    points.iter().map(point).collect()
}

/// Returns a line with the quality of an ended leg, for the event log.
pub fn summary(stats: &media::Stats) -> String {
    let opinion = |mos: Option<f32>| mos.map_or("-".to_owned(), |mos| format!("{mos:.1}"));
    let mut text = format!(
        "{} packets in, {} out, {} lost, jitter {:.1} ms, MOS {}",
        stats.packets_in,
        stats.packets_out,
        stats.lost,
        stats.jitter_ms,
        opinion(stats.mos)
    );
    // Writing to a `String` cannot fail.
    if let (Some(lost), Some(jitter)) = (stats.lost_by_far_end, stats.jitter_by_far_end_ms) {
        let _ = write!(
            text,
            "; the far end reports {lost} lost, jitter {jitter:.1} ms, MOS {}",
            opinion(stats.mos_by_far_end)
        );
    }
    if let Some(round_trip) = stats.round_trip_ms {
        let _ = write!(text, "; round trip {round_trip:.0} ms");
    }
    text
}

/// A report about a leg from which no audio arrived, or whose audio came from an address that is not in the leg's SDP.
#[derive(Debug, PartialEq, Eq)]
pub struct OneSided {
    /// The report as text.
    pub text: String,
    /// Whether one party did not hear the other party. If `false`, the report is only information.
    pub is_wrong: bool,
    /// The probable cause.
    pub cause: Cause,
}

/// Minimum time after the answer before missing audio is reported. In a shorter call, the far end may not have spoken
/// yet.
const NOTICED: Duration = Duration::from_secs(2);

/// Returns a report if no audio arrived, or if audio arrived from an address other than the signalled address.
/// `answered` is the time since the answer.
pub fn one_sided(stats: &media::Stats, answered: Duration) -> Option<OneSided> {
    let signalled = stats.signalled?;
    let host = signalled.ip();
    let elsewhere = || match stats.unknown_source {
        Some(unknown_source) => format!("packets came from {unknown_source} and were dropped"),
        None => "no packets arrived from any address".to_owned(),
    };
    match stats.heard_from {
        None if stats.expected && answered >= NOTICED => {
            let text = format!(
                "no audio received from the far end: its SDP says {signalled}, {}; firewall or NAT?",
                elsewhere()
            );
            Some(OneSided { text, is_wrong: true, cause: Cause::NoAudio })
        }
        Some(source) if source.ip() != host => {
            let followed = stats.sent_to.is_some_and(|sent_to| sent_to.ip() == source.ip());
            let ours = match (followed, stats.sent_to) {
                (false, Some(sent_to)) => format!("our packets went to {sent_to}"),
                _ => "our packets went to that address".to_owned(),
            };
            let text = format!("audio came from {source}, but its SDP says {signalled}: a NAT? {ours}");
            Some(OneSided { text, is_wrong: !followed, cause: Cause::AudioFromElsewhere })
        }
        _ => None,
    }
}

/// Returns the line for the event log that says that the audio of a leg has become bad.
pub fn complaint(cause: Impairment, value: f32) -> String {
    match cause {
        Impairment::Loss => format!("bad audio from the peer: {value:.1} % of its packets are lost"),
        Impairment::LossByFarEnd => format!("bad audio to the peer: {value:.1} % of our packets are lost, it reports"),
        Impairment::Jitter => format!("bad audio from the peer: jitter of {value:.0} ms"),
        Impairment::JitterByFarEnd => format!("bad audio to the peer: jitter of {value:.0} ms, it reports"),
        Impairment::RoundTrip => format!("slow audio: a round trip of {value:.0} ms"),
    }
}

/// Histograms of the quality of ended legs.
#[derive(Debug)]
pub(crate) struct Histograms {
    /// Two histograms. The first is for the audio that we received. The second is for the audio that the far end
    /// received from us.
    loss: [Histogram; 2],
    jitter: [Histogram; 2],
    pub(crate) mos: [Histogram; 2],
    round_trip: Histogram,
}

impl Default for Histograms {
    fn default() -> Self {
        let both = |ends: &[f64]| [Histogram::new(ends), Histogram::new(ends)];
        Self {
            loss: both(&[0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]),
            jitter: both(&[0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16]),
            // The limits of user satisfaction in ITU-T G.109.
            mos: both(&[2.58, 3.1, 3.6, 4.03, 4.34]),
            round_trip: Histogram::new(&[0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.8]),
        }
    }
}

impl Histograms {
    /// Adds the statistics of an ended leg. A received direction without packets adds no value. A sent direction adds
    /// no value if the far end sent no report.
    pub(crate) fn add(&mut self, stats: &media::Stats) {
        let ratio = |lost: u64, received: u64| lost as f64 / (lost + received).max(1) as f64;
        let heard = stats.packets_in > 0;
        let by_peer = stats.lost_by_far_end.map(|lost| ratio(lost, stats.packets_out.saturating_sub(lost)));
        let loss = [heard.then(|| ratio(stats.lost, stats.packets_in)), by_peer];
        let jitter = [heard.then_some(stats.jitter_ms), stats.jitter_by_far_end_ms];
        for (histogram, value) in self.loss.iter_mut().zip(loss) {
            histogram.add(value);
        }
        for (histogram, value) in self.jitter.iter_mut().zip(jitter) {
            histogram.add(value.map(|jitter| f64::from(jitter) / 1_000.0));
        }
        for (histogram, value) in self.mos.iter_mut().zip([stats.mos, stats.mos_by_far_end]) {
            histogram.add(value.map(f64::from));
        }
        self.round_trip.add(stats.round_trip_ms.map(|trip| f64::from(trip) / 1_000.0));
    }

    /// Writes the histograms.
    pub(super) fn render(&self, page: &mut Page) {
        for (family, [inbound, outbound]) in [
            (&families::RTP_LOSS_RATIO, &self.loss),
            (&families::RTP_JITTER_SECONDS, &self.jitter),
            (&families::RTP_MOS, &self.mos),
        ] {
            let mut rows = page.family(family);
            rows.histogram("direction=\"in\"", inbound);
            rows.histogram("direction=\"out\"", outbound);
        }
        page.family(&families::RTP_ROUND_TRIP_SECONDS).histogram("", &self.round_trip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> media::Stats {
        media::Stats {
            packets_in: 990,
            lost: 10,
            packets_out: 1_000,
            jitter_ms: 2.0,
            mos: Some(4.25),
            round_trip_ms: Some(80.0),
            ..media::Stats::default()
        }
    }

    #[test]
    fn an_ended_leg_counts_in_each_histogram_with_a_figure() {
        let mut histograms = Histograms::default();
        histograms.add(&stats());
        histograms.add(&media::Stats { lost_by_far_end: Some(100), mos_by_far_end: Some(3.0), ..stats() });
        histograms.add(&media::Stats::default());
        let mut page = Page::default();
        histograms.render(&mut page);
        let text = page.into_text();
        for line in [
            "tandem_rtp_loss_ratio_bucket{direction=\"in\",le=\"0.005\"} 0",
            "tandem_rtp_loss_ratio_bucket{direction=\"in\",le=\"0.01\"} 2",
            "tandem_rtp_loss_ratio_bucket{direction=\"out\",le=\"0.1\"} 1",
            "tandem_rtp_loss_ratio_count{direction=\"in\"} 2",
            "tandem_rtp_mos_bucket{direction=\"in\",le=\"4.34\"} 2",
            "tandem_rtp_mos_sum{direction=\"out\"} 3",
            "tandem_rtp_jitter_seconds_bucket{direction=\"out\",le=\"+Inf\"} 0",
            "tandem_rtp_round_trip_seconds_bucket{le=\"0.1\"} 2",
            "tandem_rtp_round_trip_seconds_count 2",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }

    #[test]
    fn missing_audio_and_audio_from_another_address_are_reported() {
        let at = |text: &str| Some(text.parse().unwrap());
        let second = Duration::from_secs(1);
        let none = media::Stats { signalled: at("10.0.0.5:4000"), expected: true, ..media::Stats::default() };
        let report = one_sided(&none, 5 * second).unwrap();
        assert_eq!(
            report.text,
            "no audio received from the far end: its SDP says 10.0.0.5:4000, no packets arrived from any address; firewall or NAT?"
        );
        assert!(report.is_wrong);
        assert_eq!(one_sided(&none, second), None, "a short call");
        assert_eq!(one_sided(&media::Stats { expected: false, ..none }, 5 * second), None, "it was on hold");
        let refused = media::Stats { unknown_source: at("203.0.113.7:6000"), ..none };
        assert!(
            one_sided(&refused, 5 * second)
                .unwrap()
                .text
                .contains("packets came from 203.0.113.7:6000 and were dropped")
        );
        let moved = media::Stats { heard_from: at("203.0.113.7:6000"), sent_to: at("203.0.113.7:6000"), ..none };
        let report = one_sided(&moved, second).unwrap();
        assert_eq!(
            report.text,
            "audio came from 203.0.113.7:6000, but its SDP says 10.0.0.5:4000: a NAT? our packets went to that address"
        );
        assert!(!report.is_wrong, "a phone behind a router is heard and hears");
        let deaf = media::Stats { sent_to: at("10.0.0.5:4000"), ..moved };
        let report = one_sided(&deaf, second).unwrap();
        assert!(report.is_wrong && report.text.ends_with("our packets went to 10.0.0.5:4000"), "{}", report.text);
        let usual = media::Stats { heard_from: at("10.0.0.5:4002"), sent_to: at("10.0.0.5:4002"), ..none };
        assert_eq!(one_sided(&usual, 5 * second), None);
    }

    #[test]
    fn the_summary_has_the_figures_of_the_far_end_only_after_its_report() {
        assert_eq!(summary(&stats()), "990 packets in, 1000 out, 10 lost, jitter 2.0 ms, MOS 4.2; round trip 80 ms");
        let reported = media::Stats {
            lost_by_far_end: Some(3),
            jitter_by_far_end_ms: Some(1.5),
            mos_by_far_end: Some(4.4),
            round_trip_ms: None,
            ..stats()
        };
        assert!(summary(&reported).ends_with("MOS 4.2; the far end reports 3 lost, jitter 1.5 ms, MOS 4.4"));
        assert!(CAUSES.iter().all(|(cause, _)| !complaint(*cause, 6.0).is_empty()));
    }
}
