//! The text of `/metrics`.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::families::{Family, Kind};
use crate::histogram::Histogram;

/// The text of `/metrics`, in Prometheus' text format 0.0.4.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Begins a family. The caller then writes its rows.
    pub fn family(&mut self, family: &Family) -> Rows<'_> {
        let Family { name, help, kind, .. } = family;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Rows { text: &mut self.0, name: family.name }
    }

    /// Writes a family that has one value and no labels.
    pub fn value(&mut self, family: &Family, value: impl Display) {
        self.family(family).row("", value);
    }

    /// Writes a family of counters that differ in one label.
    pub fn counters<'a>(
        &mut self,
        family: &Family,
        label: &str,
        counters: impl Iterator<Item = (impl Display, &'a AtomicU64)>,
    ) {
        let mut rows = self.family(family);
        for (value, counter) in counters {
            rows.row(&format!("{label}=\"{value}\""), counter.load(Ordering::Relaxed));
        }
    }

    /// Returns the text.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Writes the rows of a family.
#[derive(Debug)]
pub struct Rows<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Rows<'_> {
    /// Writes the value for one label set. `labels` has the form `name="value",...`, or is empty.
    pub fn row(&mut self, labels: &str, value: impl Display) {
        self.series("", labels, value);
    }

    /// Writes a histogram for one label set. `labels` has the same form as for [`Self::row`].
    pub(crate) fn histogram(&mut self, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut so_far = 0;
        for (end, count) in &histogram.buckets {
            so_far += count;
            self.series("_bucket", &format!("{labels}{comma}le=\"{end}\""), so_far);
        }
        self.series("_bucket", &format!("{labels}{comma}le=\"+Inf\""), histogram.count);
        self.series("_sum", labels, histogram.sum);
        self.series("_count", labels, histogram.count);
    }

    /// Writes the value of a series whose name is the name of the family and `suffix`.
    fn series(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let name = self.name;
        // Writing to a String cannot fail.
        let _ = match labels.is_empty() {
            true => writeln!(self.text, "{name}{suffix} {value}"),
            false => writeln!(self.text, "{name}{suffix}{{{labels}}} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;

    #[test]
    fn a_page_has_the_text_format_of_prometheus() {
        let mut page = Page::default();
        page.value(&families::LIVE_LEGS, 3);
        page.counters(&families::PROBLEMS, "cause", [("a", &AtomicU64::new(1)), ("b", &AtomicU64::new(0))].into_iter());
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        [0.05, 0.5, 5.0].into_iter().for_each(|value| histogram.add(Some(value)));
        page.family(&families::WEBHOOK_SECONDS).histogram("", &histogram);
        assert_eq!(
            page.into_text(),
            "# HELP tandem_live_legs Legs with a media session\n# TYPE tandem_live_legs gauge\ntandem_live_legs 3\n\
             # HELP tandem_problems_total Problems by cause, see docs/troubleshooting.md\n\
             # TYPE tandem_problems_total counter\n\
             tandem_problems_total{cause=\"a\"} 1\ntandem_problems_total{cause=\"b\"} 0\n\
             # HELP tandem_webhook_seconds Time of each attempt at a webhook\n# TYPE tandem_webhook_seconds histogram\n\
             tandem_webhook_seconds_bucket{le=\"0.1\"} 1\ntandem_webhook_seconds_bucket{le=\"1\"} 2\n\
             tandem_webhook_seconds_bucket{le=\"+Inf\"} 3\ntandem_webhook_seconds_sum 5.55\n\
             tandem_webhook_seconds_count 3\n"
        );
    }
}
