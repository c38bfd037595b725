//! A histogram in Prometheus' text format.

use std::fmt::Write;

/// Appends the `HELP` and `TYPE` lines of a family of histograms.
pub(crate) fn head(out: &mut String, name: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
}

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

    /// Appends the lines for one label set. `label` has the form `name="value",...`, or is empty.
    pub(crate) fn render(&self, out: &mut String, name: &str, label: &str) {
        let comma = if label.is_empty() { "" } else { "," };
        let mut so_far = 0;
        for (end, count) in &self.buckets {
            so_far += count;
            let _ = writeln!(out, "{name}_bucket{{{label}{comma}le=\"{end}\"}} {so_far}");
        }
        let _ = writeln!(out, "{name}_bucket{{{label}{comma}le=\"+Inf\"}} {}", self.count);
        let braced = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        let _ = writeln!(out, "{name}_sum{braced} {}\n{name}_count{braced} {}", self.sum, self.count);
    }
}
