//! A histogram.

/// Counts values in buckets.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// The upper bound of each bucket, and the number of values in this bucket and not in a lower bucket.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Histogram {
    /// Creates a histogram. `ends` has the upper bounds of the buckets, in ascending order.
    pub(crate) fn new(ends: &[f64]) -> Self {
        Self { buckets: ends.iter().map(|end| (*end, 0)).collect(), count: 0, sum: 0.0 }
    }

    /// Counts a value. Does nothing if `value` is `None`.
    pub(crate) fn add(&mut self, value: Option<f64>) {
        let Some(value) = value else { return };
        if let Some((_, count)) = self.buckets.iter_mut().find(|(end, _)| value <= *end) {
            *count += 1;
        }
        self.count += 1;
        self.sum += value;
    }
}
