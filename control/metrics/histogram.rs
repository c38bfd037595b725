//! A histogram in Prometheus' text format.

use crate::page::Rows;

/// Counts values in buckets.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// The upper bound of each bucket, and the number of values in this bucket and not in a lower bucket.
    buckets: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
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

    /// Writes the rows for one label set. `labels` has the form `name="value",...`, or is empty.
    pub(crate) fn render(&self, rows: &mut Rows<'_>, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut so_far = 0;
        for (end, count) in &self.buckets {
            so_far += count;
            rows.series("_bucket", &format!("{labels}{comma}le=\"{end}\""), so_far);
        }
        rows.series("_bucket", &format!("{labels}{comma}le=\"+Inf\""), self.count);
        rows.series("_sum", labels, self.sum);
        rows.series("_count", labels, self.count);
    }
}
