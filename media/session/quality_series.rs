//! The audio quality of a leg over time: one point for each interval between two RTCP reports, about 5 s. The number of
//! points is limited; a long leg has points of longer intervals. This module is pure.

use serde::{Deserialize, Serialize};

use crate::event::QualityPoint;

/// The maximum number of points: 5 minutes of the usual intervals. When another point follows, each two points become one.
/// So a leg of one hour has a point for each 80 s, and the points of a leg need at most 2 kB.
const MAX_POINTS: usize = 60;

/// The points of a leg, the oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct QualitySeries {
    points: Vec<QualityPoint>,
    /// The number of intervals that a point has, and the number that the last point has so far.
    intervals: u32,
    of_last: u32,
    /// The totals at the end of the last interval: received packets, and lost packets.
    counted: (u64, u32),
}

impl Default for QualitySeries {
    fn default() -> QualitySeries {
        QualitySeries { points: Vec::new(), intervals: 1, of_last: 1, counted: (0, 0) }
    }
}

impl QualitySeries {
    /// Returns the numbers of packets that were received and lost since the last interval. The arguments are the totals.
    pub(super) fn since_last(&mut self, received: u64, lost: u32) -> (u32, u32) {
        let before = std::mem::replace(&mut self.counted, (received, lost));
        (u32::try_from(received.saturating_sub(before.0)).unwrap_or(u32::MAX), lost.saturating_sub(before.1))
    }

    /// Adds the point of the interval that ends now.
    pub(super) fn push(&mut self, point: QualityPoint) {
        if self.of_last < self.intervals
            && let Some(last) = self.points.last_mut()
        {
            *last = last.and(point);
            self.of_last += 1;
            return;
        }
        if self.points.len() >= MAX_POINTS {
            let of_two = std::mem::take(&mut self.points);
            self.reserve();
            self.points.extend(of_two.chunks(2).filter_map(|two| two.iter().copied().reduce(QualityPoint::and)));
            self.intervals = self.intervals.saturating_mul(2);
        }
        self.reserve();
        self.points.push(point);
        self.of_last = 1;
    }

    /// Makes place for all points at once, so that a leg without an interval needs no memory and later ones allocate nothing.
    fn reserve(&mut self) {
        self.points.reserve_exact(MAX_POINTS.saturating_sub(self.points.len()));
    }

    pub(super) fn points(&self) -> &[QualityPoint] {
        &self.points
    }
}

impl QualityPoint {
    /// Returns the point of two intervals, one after the other. The worse jitter and the worse MOS count, so that a short bad
    /// time remains visible.
    fn and(self, later: QualityPoint) -> QualityPoint {
        QualityPoint {
            at_ms: later.at_ms,
            packets: self.packets.saturating_add(later.packets),
            lost: self.lost.saturating_add(later.lost),
            jitter_ms: self.jitter_ms.max(later.jitter_ms),
            mos: [self.mos, later.mos].into_iter().flatten().reduce(f32::min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(number: u64) -> QualityPoint {
        QualityPoint { at_ms: number * 5_000, packets: 250, lost: 1, jitter_ms: 2.0, mos: Some(4.4) }
    }

    #[test]
    fn a_long_leg_has_fewer_points_that_lose_no_packet_and_no_bad_time() {
        let mut series = QualitySeries::default();
        for number in 1..=17_280 {
            let bad = QualityPoint { jitter_ms: 90.0, mos: Some(1.2), ..point(number) };
            series.push(if number == 7 { bad } else { point(number) });
            assert!(series.points().len() <= MAX_POINTS);
        }
        let points = series.points();
        assert!(points.len() > MAX_POINTS / 2, "a day still has {} points", points.len());
        let sum = |of: fn(&QualityPoint) -> u32| points.iter().map(of).sum::<u32>();
        assert_eq!((sum(|point| point.packets), sum(|point| point.lost)), (17_280 * 250, 17_280));
        assert_eq!((points[0].jitter_ms, points[0].mos), (90.0, Some(1.2)));
        assert_eq!(points.last().map(|last| last.at_ms), Some(17_280 * 5_000));
        assert!(points.windows(2).all(|two| two[0].at_ms < two[1].at_ms));
    }

    #[test]
    fn an_interval_has_the_packets_since_the_interval_before() {
        let mut series = QualitySeries::default();
        assert_eq!(series.since_last(250, 3), (250, 3));
        assert_eq!(series.since_last(400, 3), (150, 0));
    }
}
