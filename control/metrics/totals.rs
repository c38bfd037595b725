//! The totals of all labels of some metrics, for figures that are computed from two samples.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::Histogram;
use crate::timings::Timing;
use crate::{Counters, process};

/// The sum and the number of measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    pub sum: f64,
    pub count: f64,
}

/// The totals since the start of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Inbound and outbound legs.
    pub legs: f64,
    pub answered: f64,
    pub ended: f64,
    /// The time of answered legs over trunks in seconds.
    pub talked: f64,
    /// The post-dial delay in seconds.
    pub post_dial: Sum,
    /// The MOS of ended legs, of both directions.
    pub mos: Sum,
    /// The time of an attempt to deliver a webhook, in seconds.
    pub webhook: Sum,
    /// The CPU time of the process in seconds.
    pub cpu: f64,
}

impl Sum {
    pub(crate) fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Self {
        let add = |all: Self, one: &Histogram| Self { sum: all.sum + one.sum, count: all.count + one.count as f64 };
        histograms.into_iter().fold(Self::default(), add)
    }
}

impl Counters {
    /// Returns the totals.
    pub fn totals(&self) -> Totals {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let (talked, post_dial) = self.trunks.totals();
        Totals {
            legs: value(&self.inbound) + value(&self.outbound),
            answered: value(&self.answered),
            ended: self.ended.iter().map(value).sum(),
            talked,
            post_dial,
            mos: Sum::of(&self.quality.lock().mos),
            webhook: self.timings.total(Timing::Webhook),
            cpu: process::cpu().unwrap_or_default(),
        }
    }
}
