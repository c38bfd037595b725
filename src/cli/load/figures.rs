//! Percentiles of what was measured.

use serde_json::{Value, json};

/// Milliseconds, each of them kept: a million are 8 MB.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<f64>);

impl Figures {
    pub(super) fn add(&mut self, milliseconds: f64) {
        self.0.push(milliseconds);
    }

    /// The value below which that share of all is.
    pub(super) fn percentile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        sorted.get((last as f64 * share).round() as usize).copied()
    }

    pub(super) fn report(&self) -> Value {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return Value::Null };
        let at = |share: f64| sorted.get((last as f64 * share).round() as usize).copied().map(rounded);
        json!({ "n": sorted.len(), "min": at(0.0), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0) })
    }
}

/// To the microsecond.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut figures = Figures::default();
        assert_eq!((figures.report(), figures.percentile(0.5)), (Value::Null, None));
        (1..=101).rev().for_each(|value| figures.add(f64::from(value)));
        assert_eq!(figures.percentile(0.5), Some(51.0));
        assert_eq!(
            figures.report(),
            json!({ "n": 101, "min": 1.0, "p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 101.0 })
        );
    }
}
