//! Measured values and their percentiles.

use serde_json::{Value, json};

/// Measured values in ms. All values are kept. A million values need 8 MB.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    all: Vec<f64>,
    /// Number of values that earlier calls of [`Figures::recent`] have used.
    reported: usize,
}

impl Figures {
    pub(crate) fn add(&mut self, milliseconds: f64) {
        self.all.push(milliseconds);
    }

    /// Returns the median of the values that were added after the last call of this function. The function does not
    /// sort all values, because sorting a million values would delay the calls.
    pub(crate) fn recent(&mut self) -> Option<f64> {
        let mut recent = self.all.get(self.reported..)?.to_vec();
        self.reported = self.all.len();
        let middle = recent.len().checked_sub(1)? / 2;
        Some(*recent.select_nth_unstable_by(middle, f64::total_cmp).1)
    }

    pub(crate) fn report(&self) -> Value {
        let mut sorted = self.all.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return Value::Null };
        let at = |share: f64| sorted.get((last as f64 * share).round() as usize).copied().map(rounded);
        json!({ "n": sorted.len(), "min": at(0.0), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0) })
    }
}

/// Rounds a value to three decimals. For a value in ms, the precision is one microsecond.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let mut figures = Figures::default();
        assert_eq!((figures.report(), figures.recent()), (Value::Null, None));
        (52..=101).rev().for_each(|value| figures.add(f64::from(value)));
        assert_eq!(figures.recent(), Some(76.0));
        (1..=51).rev().for_each(|value| figures.add(f64::from(value)));
        assert_eq!((figures.recent(), figures.recent()), (Some(26.0), None));
        assert_eq!(
            figures.report(),
            json!({ "n": 101, "min": 1.0, "p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 101.0 })
        );
    }
}
